"""Techniques by word: one paper, one file, one class.

A technique works on a model, and on arrays of one's own through `net_of`; `data` is anything with
`train` and `val`, each with x and y. The paper's formulas stand in the technique's file, functions
of arrays: `minicomp.compress.prune.wanda.wanda_score(w, norm)`.
"""

from __future__ import annotations

from .arrays import net_of
from .finetune import FineTune
from .prune.activation import SparseActivations
from .prune.apoz import APoZ
from .prune.bias import Bias
from .prune.channel_lasso import ChannelLasso
from .prune.dead_units import DeadUnits
from .prune.dns import DNS
from .prune.filters import Filters
from .prune.fpgm import FPGM
from .prune.gradual import Gradual
from .prune.group_lasso import GroupLasso
from .prune.iterative import Iterative
from .prune.lamp import LAMP
from .prune.layer_removal import LayerRemoval
from .prune.lottery import Lottery
from .prune.magnitude import Magnitude
from .prune.movement import Movement
from .prune.nm import NM
from .prune.obc import OBC
from .prune.obd import OBD
from .prune.obs import OBS
from .prune.slimming import Slimming
from .prune.snip import SNIP
from .prune.sparsegpt import SparseGPT
from .prune.split import Split
from .prune.taylor import Taylor
from .prune.wanda import Wanda
from .quant.adaround import AdaRound
from .quant.awq import AWQ
from .quant.bias_correction import BiasCorrection
from .quant.fold_bn import FoldBN
from .quant.gptq import GPTQ
from .quant.guard import Guard
from .quant.mixed import MixedBits
from .quant.ptq import PTQ
from .quant.smoothquant import SmoothQuant
from .share.kmeans import KMeans
from .technique import Pipeline, Run, Technique

TECHNIQUES: tuple[type[Technique], ...] = (
    Magnitude, Iterative, Gradual, Lottery, Bias, Split, NM, Taylor, SNIP, Wanda, LAMP, FPGM,
    OBD, OBS, OBC, SparseGPT, DNS, Movement, Filters, ChannelLasso, Slimming, GroupLasso, APoZ,
    LayerRemoval, DeadUnits, SparseActivations, KMeans, FoldBN, PTQ, BiasCorrection, GPTQ, AdaRound,
    SmoothQuant, AWQ, MixedBits, Guard, FineTune)

__all__ = ["TECHNIQUES", "AdaRound", "APoZ", "AWQ", "Bias", "BiasCorrection", "ChannelLasso",
           "DeadUnits", "DNS", "Filters", "FineTune", "FoldBN", "FPGM", "GPTQ", "Gradual",
           "GroupLasso", "Guard", "Iterative", "KMeans", "LAMP", "LayerRemoval", "Lottery",
           "Magnitude", "MixedBits", "Movement", "NM", "OBC", "OBD", "OBS", "Pipeline", "PTQ",
           "Run", "Slimming", "SmoothQuant", "SNIP", "SparseActivations", "SparseGPT", "Split",
           "Taylor", "Technique", "Wanda", "net_of"]
