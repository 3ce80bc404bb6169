"""Architecture search: which net of a space errs least under a limit of bytes, MACs or time.

| file | how |
|---|---|
| space | choices as data, what their nets cost, limits |
| trials | what a search has tried and spent, its best |
| random | draws |
| evolution | mutates the best of a sample, removes the oldest |
| darts | mixes operations by a softmax that descends the validation loss |
| width | trains all nets as slices of the largest, once |
| lenets | spaces of small nets |
"""

from .darts import Found, Mixture, darts, discretise
from .evolution import evolve
from .lenets import cell, cells, lenets, small_lenet
from .random import random_search
from .space import Choice, Limit, Space, declared_bytes
from .trials import Trial, Trials
from .width import Supernet, sliced

__all__ = ["Choice", "Found", "Limit", "Mixture", "Space", "Supernet", "Trial", "Trials", "cell",
           "cells", "darts", "declared_bytes", "discretise", "evolve", "lenets", "random_search",
           "sliced", "small_lenet"]
