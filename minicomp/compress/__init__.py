"""Techniques by word: one paper, one file, one class.

A technique works on a model, and on arrays of one's own through `net_of`; `data` is anything with
`train` and `val`, each with x and y. The paper's formulas stand in the technique's file, functions
of arrays: `minicomp.compress.prune.wanda.wanda_score(w, norm)`.
"""

from __future__ import annotations

from .arrays import net_of
from .bayes.bayesian_compression import BayesianCompression
from .bayes.miracle import Miracle
from .bayes.sparse_vd import SparseVD
from .binary.abc_net import ABCNet
from .binary.binary_connect import BinaryConnect
from .binary.bnn import BNN
from .binary.ttq import TTQ
from .binary.twn import TWN
from .binary.xnor_net import XNORNet
from .distill.assistants import Assistants
from .distill.attention import AttentionTransfer
from .distill.born_again import BornAgain
from .distill.fitnets import FitNets
from .distill.fsp import FSP
from .distill.hinton import Distill
from .distill.soup import Soup
from .finetune import FineTune
from .lowrank.activation_svd import ActivationSVD
from .lowrank.cp import CP
from .lowrank.flattened import Flattened
from .lowrank.spatial_svd import SpatialSVD
from .lowrank.svd import SVD
from .lowrank.tucker import Tucker
from .lowrank.weight_svd import WeightSVD
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
from .quant.apot import APoT
from .quant.awq import AWQ
from .quant.balanced import Balanced
from .quant.bias_correction import BiasCorrection
from .quant.bn_reestimate import BNReestimate
from .quant.buckets import Buckets
from .quant.dorefa import DoReFa
from .quant.equalize import Equalize
from .quant.fixed_point import FixedPointTraining
from .quant.fold_bn import FoldBN
from .quant.gptq import GPTQ
from .quant.guard import Guard
from .quant.inq import INQ
from .quant.joint_bits import JointBits
from .quant.lloyd_max import LloydMax
from .quant.log2 import Log2
from .quant.lsq import LSQ
from .quant.mixed import MixedBits
from .quant.pact import PACT
from .quant.ptq import PTQ
from .quant.qat import QAT
from .quant.segments import Segmentation
from .quant.smoothquant import SmoothQuant
from .quant.wavelet import Wavelets
from .rate.entropy_penalty import EntropyPenalty
from .rate.rate_distortion import RateDistortion
from .rate.reparametrization import Reparametrization
from .rate.trellis import TrellisQuantization
from .share.bit_down import BitDown
from .share.circulant import CirculantLayers
from .share.crelu import ConcatenatedReLU
from .share.hashednets import HashedNets
from .share.kmeans import KMeans
from .share.lcnn import LCNN
from .share.product import ProductQuantization
from .share.soft_sharing import SoftSharing
from .technique import Pipeline, Run, Technique

TECHNIQUES: tuple[type[Technique], ...] = (
    Magnitude, Iterative, Gradual, Lottery, Bias, Split, NM, Taylor, SNIP, Wanda, LAMP, FPGM, OBD,
    OBS, OBC, SparseGPT, DNS, Movement, Filters, ChannelLasso, Slimming, GroupLasso, APoZ,
    LayerRemoval, DeadUnits, SparseActivations, SVD, ActivationSVD, WeightSVD, SpatialSVD, Tucker,
    CP, Flattened, KMeans, ProductQuantization, BitDown, HashedNets, CirculantLayers, LCNN,
    ConcatenatedReLU, FoldBN, Equalize, SmoothQuant, AWQ, PTQ, BiasCorrection, BNReestimate, GPTQ,
    AdaRound, MixedBits, JointBits, Guard, QAT, LSQ, PACT, DoReFa, INQ, BinaryConnect, BNN, XNORNet,
    ABCNet, TWN, TTQ, FixedPointTraining, LloydMax, Balanced, Buckets, Log2, APoT, Wavelets,
    Segmentation, RateDistortion, TrellisQuantization, EntropyPenalty, Reparametrization, SparseVD,
    SoftSharing, BayesianCompression, Miracle, Distill, FitNets, FSP,
    AttentionTransfer, Assistants, BornAgain, Soup, FineTune)

__all__ = ["ABCNet", "ActivationSVD", "AdaRound", "APoT", "APoZ", "Assistants",
           "AttentionTransfer", "AWQ", "Balanced", "BayesianCompression", "Bias", "BiasCorrection",
           "BinaryConnect", "BitDown", "BNN", "BNReestimate", "BornAgain", "Buckets",
           "ChannelLasso", "CirculantLayers", "ConcatenatedReLU", "CP", "DeadUnits", "Distill",
           "DNS", "DoReFa", "EntropyPenalty", "Equalize", "Filters", "FineTune", "FitNets",
           "FixedPointTraining", "Flattened", "FoldBN", "FPGM", "FSP", "GPTQ", "Gradual",
           "GroupLasso", "Guard", "HashedNets", "INQ", "Iterative", "JointBits", "KMeans", "LAMP",
           "LayerRemoval", "LCNN", "LloydMax", "Log2", "Lottery", "LSQ", "Magnitude", "Miracle",
           "MixedBits", "Movement", "net_of", "NM", "OBC", "OBD", "OBS", "PACT", "Pipeline",
           "ProductQuantization", "PTQ", "QAT", "RateDistortion", "Reparametrization", "Run",
           "Segmentation", "Slimming", "SmoothQuant", "SNIP", "SoftSharing", "Soup",
           "SparseActivations", "SparseGPT", "SparseVD", "SpatialSVD", "Split", "SVD", "Taylor",
           "Technique", "TECHNIQUES", "TrellisQuantization", "TTQ", "Tucker", "TWN", "Wanda",
           "Wavelets", "WeightSVD", "XNORNet"]
