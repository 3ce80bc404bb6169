"""The examples that a technique looks at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def calibration(word: str, data, samples: int, *, rng: np.random.Generator,
                log: Callable[[dict], None] | None = None):
    """Returns a split of min(samples, len(train)) training examples; fewer than asked are told.

    word : of the technique, for the message        data : has `train` and `calibration(n, rng)`
    """
    n = len(data.train.y)
    if samples > n and log is not None:
        log({"event": "say", "text": f"{word}: {samples} training examples are asked for and {n} "
                                     "are there: all are used"})
    return data.calibration(min(samples, n), rng)
