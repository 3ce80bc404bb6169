"""Techniques by word: one paper, one file, one class."""

from __future__ import annotations

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
from .share.kmeans import KMeans
from .technique import Pipeline, Run, Technique

TECHNIQUES: tuple[type[Technique], ...] = (
    Magnitude, Iterative, Gradual, Lottery, Bias, Split, NM, Taylor, SNIP, Wanda, LAMP, FPGM,
    OBD, OBS, OBC, SparseGPT, DNS, Movement, Filters, ChannelLasso, Slimming, GroupLasso, APoZ,
    LayerRemoval, DeadUnits, SparseActivations, KMeans, FineTune)

__all__ = ["TECHNIQUES", "APoZ", "Bias", "ChannelLasso", "DeadUnits", "DNS", "Filters", "FineTune",
           "FPGM", "Gradual", "GroupLasso", "Iterative", "KMeans", "LAMP", "LayerRemoval",
           "Lottery", "Magnitude", "Movement", "NM", "OBC", "OBD", "OBS", "Pipeline", "Run",
           "Slimming", "SNIP", "SparseActivations", "SparseGPT", "Split", "Taylor", "Technique",
           "Wanda"]
