"""Tables of papers that `minicomp paper NAME` reproduces: one file each."""

from __future__ import annotations

from . import (deep_compression, dns2016, han2015, movement2020, obd1990, obs1993, second_order,
               slimming2017)
from .table import Paper

PAPERS: dict[str, Paper] = {p.name: p for p in (
    deep_compression.PAPER, han2015.PAPER, dns2016.PAPER, slimming2017.PAPER,
    obs1993.PAPER, obd1990.PAPER, second_order.PAPER, movement2020.PAPER)}

__all__ = ["PAPERS", "Paper"]
