"""The reference functions of quantization after training, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.quant.schemes import sqnr
from ..compress.quant.shifts import clipped_mean, weight_shift
from ..compress.quant.weight_correction import weight_correction
from ..quality import kl_of_logits
from .cases_coding import SIZES
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry


def _gaussians(draw: Draw) -> list[Case]:
    cases = [{"beta": np.array([0.0, -2.0, 9.0]), "gamma": np.array([1.0, 0.0, -0.5]), "top": top}
             for top in (np.inf, 6.0)]
    return cases + [{"beta": 3 * draw.normal(n), "gamma": draw.normal(n), "top": top}
                    for n in SIZES for top in (np.inf, 6.0)]


def _layers(draw: Draw) -> list[Case]:
    shapes = (((1, 1), 1), ((3, 2), 1), ((4, 3, 3, 3), 1), ((4, 1, 3, 3), 4), ((6, 2, 1, 1), 2))
    return [{"error": draw.normal(*shape), "mean": draw.normal(shape[1] * groups),
             "groups": groups} for shape, groups in shapes]


def _rows(draw: Draw) -> list[Case]:
    cases = [{"w": np.array([[0.0, 2.0]]), "w_hat": np.array([[0.0, 4.0]]), "form": form}
             for form in ("printed", "exact")]
    for rows, n in ((1, 2), (3, 5), (4, 64)):
        w = draw.normal(rows, n) + 0.25
        w_hat = np.rint(2 * w) / 2 + 0.125
        cases += [{"w": w, "w_hat": w_hat, "form": form} for form in ("printed", "exact")]
    return cases


def _logits(draw: Draw) -> list[Case]:
    cases = [{"z": np.log([[3.0, 1.0]]), "reference": np.array([[5.0, 5.0]])},
             {"z": np.array([[1e3, 0.0]]), "reference": np.array([[1e3, 1.0]])}]
    return cases + [{"z": 5 * draw.normal(n, c), "reference": 5 * draw.normal(n, c)}
                    for n, c in ((1, 2), (3, 10), (64, 5))]


SIGNALS = Cases(
    tiny=[{"x": np.array([3.0, 4.0]), "y": np.array([3.0, 5.0])}],
    sizes=lambda draw: [{"x": draw.normal(n), "y": draw.normal(n)} for n in SIZES],
)
_NAGEL = "Nagel et al. 2019, arXiv:1906.04721, "

QUANT_PTQ: dict[str, Entry] = {
    "rectified_mean": Entry(
        clipped_mean, _gaussians, CLOSE + "; top inf for ReLU, 6 for ReLU6, |gamma| the deviation",
        _NAGEL + "appendix C", rtol=1e-9),
    "bias_shift": Entry(weight_shift, _layers, CLOSE, _NAGEL + "section 4.2", rtol=1e-9),
    "weight_correction": Entry(
        weight_correction, _rows, CLOSE + "; form exact keeps the mean, form printed xi times it",
        "Banner et al. 2019, arXiv:1810.05723", rtol=1e-9),
    "sqnr": Entry(sqnr, SIGNALS, CLOSE + "; dB", "10 log10(sum x^2 / sum (x - y)^2)",
                  rtol=1e-9),
    "kl_of_logits": Entry(kl_of_logits, _logits, CLOSE + "; nats, of each example",
                          "KL(softmax(reference) || softmax(z))", rtol=1e-9),
}
