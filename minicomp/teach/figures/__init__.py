"""The plot that one remembers of each lesson, with a text that says what is in it.

One module a lesson. Its functions take plain numbers, so that a lesson draws its own run, and
`recorded` draws the means of lessons/expected for `hint(id, 0)`. The style is that of
report/plots.py; a guess made before the run is drawn as a dotted line with its value.
"""

from ...errors import UserError
from .. import catalog
from ..asking.shown import Figure
from . import (
    lesson01,
    lesson02,
    lesson03,
    lesson04,
    lesson05,
    lesson06,
    lesson07,
    lesson08,
    lesson09,
    lesson10,
    lesson11,
    lesson12,
    lesson13,
    lesson14,
    lesson15,
    lesson16,
    lesson17,
    lesson18,
    lesson19,
    lesson20,
)
from .drawing import formula
from .lesson01 import v_curve
from .lesson02 import bars_swap
from .lesson03 import macs_and_ms
from .lesson04 import pruning_curves
from .lesson05 import life_lines
from .lesson06 import gamma_split
from .lesson07 import three_moves
from .lesson08 import break_even, crossing
from .lesson09 import accuracy_by_lookups, atoms_and_lookups
from .lesson10 import staircase
from .lesson11 import moving_threshold
from .lesson12 import trapped
from .lesson13 import updates_lost
from .lesson14 import centroids_on_density, rate_curve
from .lesson15 import error_by_size
from .lesson16 import speed_bars
from .lesson17 import waterfall
from .lesson18 import soft_bars
from .lesson19 import searches
from .lesson20 import earlier, every_row

__all__ = [
    "accuracy_by_lookups",
    "atoms_and_lookups",
    "bars_swap",
    "break_even",
    "centroids_on_density",
    "crossing",
    "earlier",
    "error_by_size",
    "every_row",
    "expected_figure",
    "formula",
    "gamma_split",
    "life_lines",
    "macs_and_ms",
    "moving_threshold",
    "pruning_curves",
    "rate_curve",
    "searches",
    "soft_bars",
    "speed_bars",
    "staircase",
    "three_moves",
    "trapped",
    "updates_lost",
    "v_curve",
    "waterfall",
]

RECORDED = {
    "01": lesson01.recorded,
    "02": lesson02.recorded,
    "03": lesson03.recorded,
    "04": lesson04.recorded,
    "05": lesson05.recorded,
    "06": lesson06.recorded,
    "07": lesson07.recorded,
    "08": lesson08.recorded,
    "09": lesson09.recorded,
    "10": lesson10.recorded,
    "11": lesson11.recorded,
    "12": lesson12.recorded,
    "13": lesson13.recorded,
    "14": lesson14.recorded,
    "15": lesson15.recorded,
    "16": lesson16.recorded,
    "17": lesson17.recorded,
    "18": lesson18.recorded,
    "19": lesson19.recorded,
    "20": lesson20.recorded,
}


def expected_figure(of: catalog.LessonChecks) -> Figure:
    """Returns the lesson's plot drawn from the recorded numbers, of MNIST where there are any."""
    data = catalog.expected(of)["data"]
    name = next((n for n in ("mnist", *data) if n in data), None)
    if name is None or of.number not in RECORDED:
        raise UserError(f"lesson {of.number} has no recorded plot")
    rows = data[name]["results"]
    return RECORDED[of.number]({key: row["mean"] for key, row in rows.items()})
