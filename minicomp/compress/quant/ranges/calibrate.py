"""Ranges of a net's nodes from calibration data: one pass, all observers of all nodes at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ....errors import UserError
from ....nn.graph import Model
from ....nn.taps import observe
from ....tensor import Array
from .observers import Observer, Range, observer


def observed(model: Model, x: Array, names: Iterable[str], *, method: str = "min-max",
             batch_size: int = 100, **knobs) -> dict[str, Observer]:
    """Returns an observer for each named node, which saw the node's outputs for all examples.

    x : (N, *input_shape), N >= 1        names : of nodes; "x" is the input
    method, knobs : see `observer`        batch_size : what a batch is to the methods that go by
        batches; the others give the same whatever it is
    The observers say ranges for any bits and grid.
    Raises UserError for no examples, and for NaN or infinity, naming the node; KeyError for a name
    that is no node.
    """
    names = tuple(dict.fromkeys(names))
    if not len(x):
        raise UserError("calibration must have at least one example, got none")
    seen = {name: observer(method, **knobs) for name in names}
    for outputs in observe(model, x, names, batch_size=batch_size):
        for name, y in outputs.items():
            try:
                seen[name].update(y)
            except ValueError as e:
                raise UserError(f"calibration: the outputs of {name} must be finite numbers, got "
                                "NaN or infinity") from e
    return seen


def calibrated(model: Model, x: Array, names: Iterable[str], *, method: str = "min-max",
               bits: int | Mapping[str, int] = 8, grid: str = "unsigned", batch_size: int = 100,
               **knobs) -> dict[str, Range]:
    """Returns {name: (lo, hi)}, float64, lo <= 0 <= hi, of the named nodes' outputs.

    bits : of the codes; a mapping where nodes differ, of every name        grid : of the codes
    Otherwise as `observed`. Asking for several widths, or looking at histograms, go by `observed`:
    the data are read once.
    """
    seen = observed(model, x, names, method=method, batch_size=batch_size, **knobs)
    return {name: o.range(bits[name] if isinstance(bits, Mapping) else bits, grid)
            for name, o in seen.items()}
