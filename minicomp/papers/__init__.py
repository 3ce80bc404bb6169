"""Tables of papers that `minicomp paper NAME` reproduces: one file each."""

from __future__ import annotations

from . import (attention2017, bayesian_compression2017, binary_connect2015, binary_lenet5, bnn2016,
               compact_nets, fitnets2015, gong2014, gupta2015, hashednets2015, hinton2015,
               initial_centroids, jacob2018, lcnn2017, low_bits, low_rank, lsq2020, miracle2019,
               movement2020, nagel2019, obd1990, obs1993, precisions, progressive2018, ptq8,
               rate_distortion, reparametrization2020, search, second_order, slimming2017, smallest,
               soft_sharing2017, sparse_vd2017, ternary2016, xnor2016)
from .recipe_table import load_table
from .table import Paper

PAPERS: dict[str, Paper] = {
    paper.name: paper
    for paper in (
        load_table("deep-compression"), load_table("han2015"), load_table("dns2016"),
        load_table("quantized-file"),
        slimming2017.PAPER, obs1993.PAPER, obd1990.PAPER, second_order.PAPER, movement2020.PAPER,
        ptq8.PAPER, precisions.PAPER, nagel2019.PAPER, low_bits.PAPER, jacob2018.PAPER,
        lsq2020.PAPER, gupta2015.PAPER, gupta2015.FULL, binary_connect2015.PAPER, bnn2016.PAPER,
        binary_lenet5.PAPER, ternary2016.PAPER, xnor2016.PAPER,
        low_rank.PAPER, gong2014.PAPER, initial_centroids.PAPER, hashednets2015.PAPER,
        lcnn2017.PAPER, rate_distortion.PAPER, sparse_vd2017.PAPER, soft_sharing2017.PAPER,
        bayesian_compression2017.PAPER, reparametrization2020.PAPER, miracle2019.PAPER,
        hinton2015.PAPER, search.PAPER, fitnets2015.PAPER, attention2017.PAPER,
        progressive2018.PAPER, smallest.PAPER, compact_nets.PAPER,
    )
}

__all__ = ["PAPERS", "Paper"]
