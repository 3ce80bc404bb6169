"""Races of whole binary nets: programs of bits beside our float32, and onnxruntime's integers.

Shapes decide the time, not training: signs are those of weights as drawn. The first layer reads
codes of 8 bits and has weights of 8 bits; all others have a bit a weight. The float32 net is the
same with ReLU in the place of each sign, and so is the net of integers. Names of the nets:

    MLP 784-1024x3-10      Courbariaux et al. 2016, arXiv 1602.02830, section 2.1, at 1024 units a
                           layer where they have 4096
    VGG-BNN/2, 32 x 32     their net for CIFAR-10, section 2.1, at half of its maps and units; a
                           sign stands before each maximum, not behind it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..compress.binary.activations import with_signs
from ..compress.quant.fold_bn import FoldBN
from ..compress.quant.nodes import with_grids
from ..compress.quant.ptq import PTQ
from ..compress.quant.schemes import Scheme
from ..compress.technique import Run, weights
from ..deploy import Program, lower
from ..models import MLP
from ..models.papers import HalfVGG
from ..nn.forms import Binary
from ..nn.graph import INPUT, Model
from ..nn.layers import ActQuant
from .race import Row, row

Array = np.ndarray
MLP_SIZES = (784, 1024, 1024, 1024, 10)
RANGE = 3.0  # of the pixels' grid
NETS: dict[str, Callable[[np.random.Generator], Model]] = {
    "MLP 784-1024x3-10": lambda rng: MLP(MLP_SIZES, rng=rng),
    "VGG-BNN/2, 32 x 32": lambda rng: HalfVGG(rng=rng),
}


def binarized(model: Model) -> Model:
    """Returns a net with signs in the place of activations, the weights of its first layer on a
    grid of 8 bits, a sign for every other weight, and its input on a grid."""
    model = with_signs(model.copy())
    (first, *rest), forms = weights(model).values(), model.forms()
    model.set_forms({first: Scheme().form(forms[first]),
                     **{name: Binary.of(forms[name].dense().data, 1.0) for name in rest}})
    grid = ActQuant(8, "unsigned", zero_point=True)
    grid.set_range(-RANGE, RANGE)
    return with_grids(model, {INPUT: grid})


def programs_of(model: Model, data, *, integers: bool) -> dict[str, Program]:
    """Returns the programs of a net by what they compute on, "float", "binary" and, where
    `integers`, "int8".   data : of calibration"""
    made = {"float": lower(model), "binary": lower(binarized(model), precision="binary")}
    if integers:
        run = Run(np.random.default_rng(0))
        folded = FoldBN().apply(model, data, run) if any(
            node.layer.normalises for node in model.nodes) else model
        made["int8"] = lower(PTQ().apply(folded, data, run), precision="int8")
    return made


def binary_rows(title: str, batch: int, times: dict[str, float], weight_bytes: int
                ) -> Iterator[Row]:
    """Yields the rows of a race: beside our float32 and, where there are such, onnxruntime's
    integers and ours.   times : seconds, by contestant"""
    shape = f"{batch} image{'s' if batch > 1 else ''}"
    peers = {"our float32": times.get("float"), "onnxruntime int8": times.get("onnxruntime int8"),
             "our int8": times.get("int8")}
    for peer, seconds in peers.items():
        if seconds is not None:
            yield row(f"binary program, {title}", shape,
                      {"ours": times["binary"], peer: seconds}, peer,
                      f"first layer int8; {weight_bytes:,} bytes of weights")
