"""The examples that a technique looks at."""

from __future__ import annotations

from .technique import Run, Technique


def calibration(technique: Technique, data, run: Run, samples: int | None = None):
    """Returns a split of min(samples, len(train)) training examples; fewer than asked are told.

    samples : None takes the technique's knob        data : has `train` and `calibration(n, rng)`
    """
    samples, n = samples or technique.samples, len(data.train.y)
    if samples > n:
        run.log({"event": "say", "text": f"{technique.word}: {samples} training examples are asked "
                                         f"for and {n} are there: all are used"})
    return data.calibration(min(samples, n), run.rng)
