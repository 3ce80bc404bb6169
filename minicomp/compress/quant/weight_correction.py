"""Weights whose mean and variance rounding has moved (Banner, Nahshan, Soudry 2019, "Post training
4-bit quantization of convolutional networks for rapid-deployment", arXiv 1810.05723).

Few bits shift the mean of a channel's weights and change their norm, both in one direction for all
inputs. Per channel c, w the weights and w^ the quantized ones,

    mu = E w - E w^        xi = |w - E w| / |w^ - E w^|
    w^ <- xi (w^ + mu)                                                                   "printed"

Where the paper errs: after that the mean is xi (E w^ + mu) = xi E w, not E w. What keeps both
moments is

    w^ <- E w + xi (w^ - E w^)                                                             "exact"

The integers stay, in both: with w^ = s (q - z), xi joins the channel's scale, s <- xi s, and a
number d is left that is added to every weight of the channel, d = xi mu, or d = E w - xi E w^. No
grid holds it: a zero point would be -d / s, a small part of a step. It adds d sum_i x_i to the
output, of which the mean goes into the bias, b_c += d_c E[sum_i x_i] as bias correction
does it; what varies with x is left out. Pruned weights stay 0: they have no part in the moments.
"""

from __future__ import annotations

import numpy as np

from ...tensor import Array

FORMS = ("printed", "exact")


def moments(w: Array, w_hat: Array, *, form: str = "exact") -> tuple[Array, Array]:
    """Returns xi and d, each (R,) float64: the corrected rows are xi w^ + d.

    w, w_hat : (R, n) the weights of a channel a row, and what they became; NaN: not there (pruned)
    form : "printed", as in the paper, or "exact"
    xi is 1 where w^ is one number for the whole row. Raises ValueError for another form.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    w, w_hat = np.asarray(w, np.float64), np.asarray(w_hat, np.float64)
    there = ~(np.isnan(w) | np.isnan(w_hat))
    mean, mean_hat = _mean(w, there), _mean(w_hat, there)
    spread = _norm(w - mean[:, None], there)
    spread_hat = _norm(w_hat - mean_hat[:, None], there)
    some = spread_hat > 1e-7 * np.abs(np.where(there, w_hat, 0.0)).max(axis=1, initial=0.0)
    xi = np.divide(spread, spread_hat, out=np.ones_like(spread), where=some)
    xi[xi == 0] = 1.0  # weights that are all equal: there is no spread to meet
    return xi, xi * (mean - mean_hat) if form == "printed" else mean - xi * mean_hat


def weight_correction(w: Array, w_hat: Array, *, form: str = "exact") -> Array:
    """Returns the corrected rows xi w^ + d, float64; arguments of `moments`."""
    xi, d = moments(w, w_hat, form=form)
    return xi[:, None] * np.asarray(w_hat, np.float64) + d[:, None]


def _mean(a: Array, there: Array) -> Array:
    return np.where(there, a, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)


def _norm(a: Array, there: Array) -> Array:
    return np.sqrt(np.square(np.where(there, a, 0.0)).sum(axis=1))
