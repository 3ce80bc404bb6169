"""The reference functions of rate, distortion and priors over weights, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.bayes.bayesian_compression import posterior_variance
from ..compress.bayes.divergence import kl_log_uniform, kl_slope
from ..compress.bayes.horseshoe import half_cauchy_slopes
from ..compress.rate.entropy_penalty import rate_slope
from ..compress.rate.pricing import code_bits, refit
from ..compress.rate.reparametrization import latent_bits
from ..compress.rate.scalar import rd_codes
from ..compress.rate.trellis import trellis_codes
from ..compress.share.mixture import assigned, gaussian_kl, merged, mixture_nll
from ..grid.trellis import trellis_path, trellis_points
from ..tensor import Array, Tensor, grad
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry


def mixture_slopes(w: Array, mu: Array, log_lam: Array, log_pi: Array
                   ) -> tuple[float, Array, Array, Array, Array]:
    """Returns L = -log p(w) of a Gaussian mixture and its slopes in each argument, in their order.

    w : (n,)        mu, log_lam, log_pi : (J,), means, log precisions, log shares
    """
    args = [Tensor(a, requires_grad=True) for a in (w, mu, log_lam, log_pi)]
    value = mixture_nll(*args)
    return value.item(), *(g.data for g in grad(value, args))


def latent_rate(x: Array, psi: Array) -> tuple[float, Array, Array]:
    """Returns the bits sum R(x) of latents x, (n,), and their slopes in x and psi, (2 m + 1,)."""
    args = [Tensor(a, requires_grad=True) for a in (x, psi)]
    value = latent_bits(*args)
    return value.item(), *(g.data for g in grad(value, args))


def _prices(draw: Draw, most: int) -> Array:
    # Bits of the codes -most..most, dearer the farther from 0.
    return np.abs(np.arange(-most, most + 1)) + draw.uniform(2 * most + 1)


def _scalar(draw: Draw) -> list[Case]:
    return [{"w": 2 * draw.normal(n), "step": 0.5, "bits": _prices(draw, most), "lam": lam,
             "h": draw.uniform(n)} for n in (1, 7, 40) for most in (1, 3, 7) for lam in (0.0, 0.2)]


def _walks(draw: Draw) -> list[Case]:
    return [{"w": draw.normal(R, C), "step": 0.4, "bits": _prices(draw, 3), "lam": lam,
             "states": states, "h": 0.1 + draw.uniform(R, C)}
            for R, C in ((1, 1), (1, 6), (3, 20)) for lam in (0.0, 0.1) for states in (4, 8)]


def _tables(draw: Draw) -> list[Case]:
    return [{"k": draw.integers(-3, 4, R, C), "states": states}
            for R, C in ((1, 6), (3, 25)) for states in (4, 8)]


def _mixtures(draw: Draw) -> list[Case]:
    return [{"mu": np.append(0.0, draw.normal(J - 1)), "log_lam": 2 * draw.normal(J)}
            for J in (2, 5, 17)]


def _shared(draw: Draw, name: str, **more) -> list[Case]:
    # Mixtures with shares, or their logarithms, and what else is given.
    found = []
    for case in _mixtures(draw):
        pi = 0.1 + draw.uniform(len(case["mu"]))
        pi /= pi.sum()
        found.append({k: v(draw) for k, v in more.items()} | case
                     | {name: np.log(pi) if name == "log_pi" else pi})
    return found


def _near(draw: Draw) -> list[Case]:
    # Components of which some are nearly one.
    return [case | {"mu": np.round(case["mu"]), "log_lam": np.round(case["log_lam"] / 4),
                    "limit": 0.01} for case in _shared(draw, "pi")]


_WEIGHTS = {"w": lambda draw: 2 * draw.normal(30)}
_BC = "Louizos, Ullrich & Welling 2017, arXiv:1705.08665"
_VD = "Molchanov, Ashukha & Vetrov 2017, arXiv:1701.05369, eq. (14)"
_SWS = "Ullrich, Meeds & Welling 2017, arXiv:1702.04008"
_DQ = "Schwarz, Nguyen, Marpe & Wiegand 2019"
_ECSQ = "Chou, Lookabaugh & Gray 1989"

RATE: dict[str, Entry] = {
    "code_bits": Entry(
        code_bits,
        Cases(all=lambda draw: [{"counts": draw.integers(1, 50, n)} for n in (1, 5, 31)]),
        CLOSE, "Shannon 1948", rtol=1e-9),
    "refit_step": Entry(
        refit, Cases(all=lambda draw: [{"w": draw.normal(n), "points": draw.integers(-3, 4, n),
                                        "step": 0.5, "h": draw.uniform(n)} for n in (1, 9, 40)]),
        "the given step where all points are 0; " + CLOSE, "least squares", rtol=1e-9),
    "rd_codes": Entry(
        rd_codes, Cases(
            tiny=[{"w": np.array([0.55, 0.61, -0.9]), "step": 1.0,
                   "bits": np.array([9.0, 1.0, 3.0]), "lam": 0.1, "h": np.ones(3)}],
            property=_scalar),
        "of equal costs the code nearest 0", _ECSQ),
    "trellis_path": Entry(
        trellis_path, Cases(all=_tables), "each row begins in state 0", _DQ),
    "trellis_points": Entry(
        trellis_points, Cases(all=_tables), "2 k in Q0, 2 k - sign(k) in Q1", _DQ),
    "trellis_codes": Entry(
        trellis_codes, Cases(sizes=_walks), "the codes of least cost of each row, from state 0",
        _DQ + "; Viterbi 1967"),
    "rate_slope": Entry(
        rate_slope, Cases(all=lambda draw: [
            {"w": 2 * draw.normal(n), "step": 0.5, "bits": _prices(draw, most)}
            for n in (1, 9, 40) for most in (1, 3)]),
        "at a grid's point the slope above it; 0 beyond the last; " + CLOSE,
        "after Wiedemann et al. 2018, arXiv:1812.07520", rtol=1e-9),
    "latent_rate": Entry(
        latent_rate, Cases(all=lambda draw: [
            {"x": 2 * draw.normal(n), "psi": draw.normal(2 * most + 1)}
            for n in (1, 9, 40) for most in (1, 3)]),
        "cut to the table's ends, where the slope in x is 0; " + CLOSE,
        "after Oktay et al. 2020, arXiv:1906.06624, section 2", rtol=1e-9,
        names=("bits", "dx", "dpsi")),
    "kl_log_uniform": Entry(
        kl_log_uniform, Cases(all=lambda draw: [{"log_alpha": 4 * draw.normal(n)}
                                                for n in (1, 9, 40)]),
        "0 at alpha = infinity; " + CLOSE, _VD, rtol=1e-9),
    "kl_slope": Entry(
        kl_slope, Cases(all=lambda draw: [{"log_alpha": 4 * draw.normal(n)} for n in (1, 9, 40)]),
        CLOSE, "the slope of " + _VD, rtol=1e-9),
    "half_cauchy_slopes": Entry(
        half_cauchy_slopes, Cases(all=lambda draw: [
            {"mean": draw.normal(2, n), "log_var": draw.normal(2, n), "tau": tau}
            for n in (1, 9) for tau in (1.0, 0.1)]),
        "of Gamma and inverse Gamma part; " + CLOSE, _BC, rtol=1e-9, names=("dmean", "dlog_var")),
    "posterior_variance": Entry(
        posterior_variance, Cases(all=lambda draw: [
            {"mu": draw.normal(n), "log_var": draw.normal(n), "z": draw.normal(n),
             "z_var": draw.uniform(n, hi=2.0)} for n in (1, 9, 40)]),
        CLOSE, _BC + ", eq. (9)", rtol=1e-9),
    "mixture_slopes": Entry(
        mixture_slopes, Cases(sizes=lambda draw: _shared(draw, "log_pi", **_WEIGHTS)),
        "summed over weights, nats; " + CLOSE, _SWS + ", eq. (3)", rtol=1e-9,
        names=("nll", "dw", "dmu", "dlog_lam", "dlog_pi")),
    "gaussian_kl": Entry(
        gaussian_kl, Cases(sizes=_mixtures), "of row from column, nats; " + CLOSE,
        _SWS + ", section 4.4", rtol=1e-9),
    "merged_components": Entry(
        merged, Cases(sizes=_near),
        "nearness is handed on; component 0 keeps its mean; by lowest index; " + CLOSE,
        _SWS + ", section 4.4", rtol=1e-9, names=("mu", "log_lam", "pi")),
    "assigned_components": Entry(
        assigned, Cases(sizes=lambda draw: _shared(draw, "pi", **_WEIGHTS)),
        "the largest share of the density", _SWS + ", section 4.4"),
}
