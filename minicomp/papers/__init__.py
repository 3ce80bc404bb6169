"""Tables of papers that `minicomp paper NAME` reproduces: one file each."""

from __future__ import annotations

from . import jacob2018, lsq2020, movement2020, obd1990, obs1993, second_order, slimming2017
from .recipe_table import load_table
from .table import Paper

PAPERS: dict[str, Paper] = {
    paper.name: paper
    for paper in (
        load_table("deep-compression"), load_table("han2015"), load_table("dns2016"),
        load_table("quantized-file"),
        slimming2017.PAPER, obs1993.PAPER, obd1990.PAPER, second_order.PAPER, movement2020.PAPER,
        jacob2018.PAPER, lsq2020.PAPER,
    )
}

__all__ = ["PAPERS", "Paper"]
