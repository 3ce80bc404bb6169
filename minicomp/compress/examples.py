"""The examples that a technique reads: that they are there and sound, and a sample of them.

`data` is anything with `train` and `val`, and a split anything with `x` and `y`: arrays of one's
own in a SimpleNamespace will do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.dataset import Split
from ..errors import UserError
from ..nn.graph import Model
from ..tensor import Array


def check_examples(word: str, data, names: Sequence[str], model: Model) -> None:
    """Raises UserError unless the named splits of the data are there and fit the model.

    word : of the technique, for messages        names : some of "train", "val"
    A split must hold at least one example, of the model's input shape and of finite numbers, and as
    many labels, one of the model's classes each.
    """
    outputs = [*model.shapes().values()][-1]
    for name in names:
        split = getattr(data, name, None)
        if not (hasattr(split, "x") and hasattr(split, "y")):
            what = "None" if data is None else f"none as {name}"
            raise UserError(f"{word}: data must have {' and '.join(names)}, each with x and y, "
                            f"got {what}")
        x, y = np.asarray(split.x), np.asarray(split.y)
        where = f"{word}: the examples of {name}"
        if x.shape[1:] != model.input_shape or y.shape != x.shape[:1]:
            asked = ", ".join(map(str, model.input_shape))
            raise UserError(f"{where} must be x (N, {asked}) and y (N,), got {x.shape} and "
                            f"{y.shape}")
        if not len(y):
            raise UserError(f"{where} must be at least one, got none")
        if not finite(x):
            raise UserError(f"{where} must hold finite numbers, got NaN or infinity")
        most = max(outputs[0] - 1, 1)  # a single output tells two classes apart
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() > most:
            raise UserError(f"{where} must have labels 0..{most}, integers, got {y.dtype} "
                            f"{y.min()}..{y.max()}")


def finite(x: Array) -> bool:
    """Returns whether all entries are finite: one NaN or infinity makes the sum no number."""
    return bool(np.isfinite(x.sum(dtype=np.float64))) or bool(np.isfinite(x).all())


def calibration(technique, data, run, samples: int | None = None) -> Split:
    """Returns min(samples, len(train)) training examples, drawn where there are more; fewer than
    asked are told to the log.

    samples : None takes the technique's knob        run : rng, log
    """
    samples, n = samples or technique.samples, len(data.train.y)
    if samples > n:
        run.log({"event": "say", "text": f"{technique.word}: {samples} training examples are asked "
                                         f"for and {n} are there: all are used"})
    at = slice(None) if samples >= n else run.rng.choice(n, size=samples, replace=False)
    return Split(data.train.x[at], data.train.y[at])
