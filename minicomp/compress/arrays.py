"""A net of arrays of one's own: techniques work on models, and a model of a layer or two is quickly
made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..nn.graph import Model, chain
from ..nn.layers import Conv2d, Flatten, Layer, Linear, ReLU
from ..tensor import Array


def net_of(*layers: Array | tuple[Array, Array], input_shape: Sequence[int] | None = None) -> Model:
    """Returns a net of the given weights with ReLU between them; its layers are fc1, conv2, ...,
    by kind and place.

    layers : first to last, w (O, I) of a Linear or (O, C, K, K) of a Conv2d, or (w, b) with a bias
        b (O,); numbers of any dtype, copied to float32
    input_shape : of one example; None takes (I,), or (C, K, K), on which a kernel fits once
    Raises ValueError where there are no arrays, or their shapes do not fit together.

    >>> from minicomp.compress import Magnitude, Run
    >>> net = net_of(np.array([[3.0, -1.0], [0.5, 2.0]]))
    >>> pruned = Magnitude(sparsity=0.5).apply(net, None, Run(np.random.default_rng(0)))
    >>> pruned.forms()["fc1.weight"].dense().data.tolist()
    [[3.0, 0.0], [0.0, 2.0]]
    """
    if not layers:
        raise ValueError("layers must hold at least one array, got none")
    named: list[tuple[str, Layer]] = []
    state: dict[str, Array] = {}
    shape, flat = None, False
    for i, given in enumerate(layers, start=1):
        w, b = given if isinstance(given, tuple) else (given, None)
        w = np.asarray(w, np.float32)
        if w.ndim not in (2, 4) or not w.size:
            raise ValueError(f"weights must have shape (O, I) or (O, C, K, K), got {w.shape}")
        if named:
            named.append((f"relu{i - 1}", ReLU()))
        shape = shape or (w.shape[1:] if w.ndim == 4 else (w.shape[1],))
        if w.ndim == 2 and not flat and len(shape) == 3:
            named.append(("flatten", Flatten()))
        flat |= w.ndim == 2
        kind = "fc" if w.ndim == 2 else "conv"
        name = f"{kind}{i}"
        named.append((name, Linear(w.shape[1], w.shape[0], bias=b is not None) if w.ndim == 2 else
                      Conv2d(w.shape[1], w.shape[0], w.shape[2:], bias=b is not None)))
        state |= {f"{name}.weight": w} | ({} if b is None else {f"{name}.bias": b})
    if not flat:
        named.append(("flatten", Flatten()))
    model = Model(chain(*named), input_shape=input_shape or shape or ())
    model.shapes()
    model.load_state_dict(state)
    return model
