"""The reference functions of pruning: masks, scores, second order, structure."""

from __future__ import annotations

from ..compress.curvature.hessian import inverse_hessian
from ..compress.prune.apoz import apoz
from ..compress.prune.bias import bias_mask
from ..compress.prune.channel_lasso import lasso
from ..compress.prune.dead_units import dead_units
from ..compress.prune.dns import surgery_mask, surgery_thresholds
from ..compress.prune.filters import filter_norms
from ..compress.prune.fpgm import fpgm_score
from ..compress.prune.lamp import lamp_score
from ..compress.prune.movement import movement_scores
from ..compress.prune.nm import nm_mask
from ..compress.prune.obc import obc_trace
from ..compress.prune.obd import obd_saliency, obd_shared, obd_unit, obd_weight
from ..compress.prune.obs import obs_saliency, obs_step
from ..compress.scores import magnitude_mask, percentile_threshold, quality_threshold
from ..compress.prune.slimming import l1_subgradient
from ..compress.prune.snip import snip_score
from ..compress.prune.sparsegpt import sparsegpt
from ..compress.prune.split import bank_mask
from ..compress.prune.taylor import taylor_score
from ..compress.prune.wanda import wanda_score
from ..compress.schedule import agp_sparsity
from . import pruning_cases as cases
from .entry import CLOSE, LEAST, Entry
from .judges import equal_to, judge_sparsegpt

_OBS, _OBD = "Hassibi & Stork 1993, ", "LeCun, Denker & Solla 1990, "

PRUNING: dict[str, Entry] = {
    "magnitude_mask": Entry(
        magnitude_mask, cases.weights, equal_to(magnitude_mask),
        f"exactly round(s n) zeros, {LEAST}", "Han et al. 2015, arXiv:1506.02626"),
    "nm_mask": Entry(
        nm_mask, cases.matrices, equal_to(nm_mask), LEAST, "Mishra et al. 2021, arXiv:2104.08378"),
    "lamp_score": Entry(
        lamp_score, cases.weights_to_score, equal_to(lamp_score, 1e-9), CLOSE,
        "Lee et al. 2021, eq. (1)"),
    "agp_sparsity": Entry(
        agp_sparsity, cases.ramps, equal_to(agp_sparsity, 1e-9), CLOSE,
        "Zhu & Gupta 2017, eq. (1)"),
    "surgery_mask": Entry(
        surgery_mask, cases.surgeries, equal_to(surgery_mask), "equal in every entry",
        "Guo et al. 2016, eq. (3)"),
    "movement_scores": Entry(
        movement_scores, cases.trajectories, equal_to(movement_scores, 1e-9), CLOSE,
        "Sanh et al. 2020, arXiv:2005.07683, table 1"),
    "fpgm_score": Entry(
        fpgm_score, cases.filters, equal_to(fpgm_score, 1e-9), CLOSE,
        "He et al. 2019, arXiv:1811.00250, eq. (5)"),
    "obs_saliency": Entry(
        obs_saliency, cases.hessians, equal_to(obs_saliency, 1e-9), CLOSE, _OBS + "eq. (5)"),
    "obs_step": Entry(
        obs_step, cases.obs_deletions, equal_to(obs_step, 1e-9), CLOSE, _OBS + "eq. (5)"),
    "inverse_hessian": Entry(
        inverse_hessian, cases.gradients, equal_to(inverse_hessian, 1e-9), CLOSE,
        _OBS + "section 3"),
    "obd_saliency": Entry(
        obd_saliency, cases.saliencies, equal_to(obd_saliency, 1e-9), CLOSE, _OBD + "section 2"),
    "obd_unit": Entry(
        obd_unit, cases.bends, equal_to(obd_unit, 1e-9), CLOSE + "; f2 None: the first term alone",
        _OBD + "eq. (7), with a plus"),
    "obd_weight": Entry(
        obd_weight, cases.unit_curvatures, equal_to(obd_weight, 1e-9), CLOSE, _OBD + "eq. (6)"),
    "obd_shared": Entry(
        obd_shared, cases.connections, equal_to(obd_shared, 1e-9), CLOSE, _OBD + "eq. (5)"),
    "obc_trace": Entry(
        obc_trace, cases.hessians, equal_to(obc_trace, 1e-9),
        f"the same order, {LEAST}; rises to 1e-9 of the largest",
        "Frantar et al. 2022, arXiv:2208.11580, algorithm 1"),
    "sparsegpt": Entry(
        sparsegpt, cases.layer_rows, judge_sparsegpt,
        f"the same entries kept, exactly round(s n) zeros or N of M, {LEAST}; "
        "weights to 1e-9 of the largest", "Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1"),
    "quality_threshold": Entry(
        quality_threshold, cases.thresholds, equal_to(quality_threshold, 1e-9),
        f"zeros do not count, the standard deviation is of the population; {CLOSE}",
        "Han et al. 2015, arXiv:1506.02626, section 3.1"),
    "percentile_threshold": Entry(
        percentile_threshold, cases.percentiles, equal_to(percentile_threshold, 1e-9),
        f"between two magnitudes linearly; {CLOSE}", "minicomp/compress/scores.py"),
    "bank_mask": Entry(
        bank_mask, cases.banks, equal_to(bank_mask), f"exactly round(s n) zeros a bank, {LEAST}",
        "Cao et al. 2019, algorithm 1"),
    "bias_mask": Entry(
        bias_mask, cases.biases, equal_to(bias_mask), "kept above the threshold, not at it",
        "minicomp/compress/prune/bias.py"),
    "taylor_score": Entry(
        taylor_score, cases.weights_and_gradients, equal_to(taylor_score, 1e-9), CLOSE,
        "Molchanov et al. 2019, arXiv:1906.10771, eq. (8)"),
    "snip_score": Entry(
        snip_score, cases.weights_and_gradients, equal_to(snip_score, 1e-9),
        f"not divided by the sum; {CLOSE}", "Lee et al. 2019, arXiv:1810.02340, eq. (5)"),
    "wanda_score": Entry(
        wanda_score, cases.inputs_of_rows, equal_to(wanda_score, 1e-9), CLOSE,
        "Sun et al. 2023, arXiv:2306.11695, eq. (1)"),
    "surgery_thresholds": Entry(
        surgery_thresholds, cases.cut_rates, equal_to(surgery_thresholds, 1e-9),
        f"of |w|, the standard deviation of the population; {CLOSE}",
        "Guo et al. 2016, section 3.2"),
    "filter_norms": Entry(
        filter_norms, cases.filters_and_norms, equal_to(filter_norms, 1e-9), CLOSE,
        "Li et al. 2017, arXiv:1608.08710, section 3.1"),
    "l1_subgradient": Entry(
        l1_subgradient, cases.batch_norm_scales, equal_to(l1_subgradient, 1e-9),
        f"0 at 0; {CLOSE}", "Liu et al. 2017, arXiv:1708.06519, eq. (1)"),
    "apoz": Entry(
        apoz, cases.activations, equal_to(apoz, 1e-9), CLOSE,
        "Hu et al. 2016, arXiv:1607.03250, eq. (1)"),
    "lasso": Entry(
        lasso, cases.lassos, equal_to(lasso, 1e-5),
        "|got - expected| <= 1e-5 max|expected|: coordinate descent ends when nothing moves by more "
        "than 1e-7", "He et al. 2017, arXiv:1707.06168, eq. (2); Friedman et al. 2010, eq. (5)"),
    "dead_units": Entry(
        dead_units, cases.chains_of_masks, equal_to(dead_units),
        "alive: reached from a living input and reaching an output",
        "Han et al. 2015, arXiv:1506.02626, section 3.5"),
}
