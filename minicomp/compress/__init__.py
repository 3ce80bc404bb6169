"""Techniques by word: one paper, one file, one class."""

from __future__ import annotations

from .prune.dns import DNS
from .prune.gradual import Gradual
from .prune.iterative import Iterative
from .prune.magnitude import Magnitude
from .technique import FineTune, Pipeline, Technique

TECHNIQUES: tuple[type[Technique], ...] = (Magnitude, Iterative, Gradual, DNS, FineTune)

__all__ = ["TECHNIQUES", "FineTune", "Pipeline", "Technique"]
