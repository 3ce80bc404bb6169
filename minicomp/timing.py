"""How long things take."""

from __future__ import annotations

import time


class Clock:
    """Gives the seconds since the last time it was asked."""

    def __init__(self):
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Returns the seconds since the last lap."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last
