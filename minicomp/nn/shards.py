"""Where the threads that each train on a part of a batch meet: sums over the whole batch.

A thread has a part of the examples and runs the whole net on it. Where a layer needs a number of
all examples, as batch normalisation does, each thread gives its own and gets those of all, in the
order of the parts, whichever thread came first. All threads run the same layers, so the first
meeting of one is the first of all.
"""

from __future__ import annotations

import threading


class Meeting:
    """The meeting of n threads; `shards` are their seats, in the order of the batch."""

    def __init__(self, n: int):
        self.barrier = threading.Barrier(n)
        # Two tables in turn: a thread that is first at the next meeting must not clear what others
        # still read, and none can be two meetings ahead.
        self.tables: tuple[list, list] = ([None] * n, [None] * n)
        self.shards = [Shard(self, i) for i in range(n)]

    def abort(self) -> None:
        """Wakes whoever waits, with threading.BrokenBarrierError: somebody will not come."""
        self.barrier.abort()


class Shard:
    """A thread's seat at a meeting."""

    def __init__(self, meeting: Meeting, place: int):
        self.meeting, self.place, self.turn = meeting, place, 0

    def gather(self, value) -> list:
        """Returns what every thread gave, in the order of the batch; waits for all."""
        table = self.meeting.tables[self.turn]
        self.turn = 1 - self.turn
        table[self.place] = value
        self.meeting.barrier.wait()
        return list(table)
