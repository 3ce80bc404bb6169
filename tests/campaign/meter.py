"""How much memory of the machine a process takes at most, from one moment to another."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """Measures from when it was made: Linux keeps the peak and sets it back; elsewhere the peak of
    the process's life is taken."""

    def __init__(self):
        try:
            PEAK.write_text("5")  # VmHWM becomes VmRSS, see proc(5)
            self.before = _of_status("VmRSS")
        except OSError:
            self.before = _life()

    def growth(self) -> int:
        """Returns the bytes by which the process was larger at its peak."""
        try:
            return _of_status("VmHWM") - self.before
        except OSError:
            return _life() - self.before


def _of_status(name: str) -> int:
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1])


def _life() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin"
                                                                 else 1024)
