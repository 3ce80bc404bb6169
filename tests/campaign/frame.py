"""The frame of the campaign: parts, workers, the folder that remembers, and the summary.

A part is a module of this folder with one function

    step(seed: int, folder: Path) -> dict[str, float]

which does one seeded piece of work in a folder of its own and returns counts, and maxima under
names that begin with "most". What must not happen raises `Failure`. Steps of one seed do the same
wherever and whenever they run; a part may keep in its folder what is costly to make.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

from minicomp.atomic import write_atomically
from minicomp.errors import printable

# Steps of each part in an hour on two cores; between parts of a shorter run time is shared alike.
AIMS = {"files": 3000, "kills": 100, "pairs": 100, "notebooks": 200}
LIMIT = 600.0  # seconds of one step, after which it counts as hanging


class Failure(Exception):
    """Something that must not happen did."""


def parts() -> list[str]:
    """Returns the names of the parts that are here."""
    return [name for name in AIMS if Path(__file__).with_name(f"{name}.py").exists()]


class Memory:
    """What the campaign knows from one run to the next, kept in `folder`/state.json.

    seeds : the next of each part        counts, most : by part and name
    failures : {part, seed, message}        seconds : of all runs
    """

    def __init__(self, folder: Path):
        self.path = folder / "state.json"
        self.seeds, self.counts, self.most, self.failures, self.seconds = {}, {}, {}, [], 0.0
        with contextlib.suppress(FileNotFoundError):
            vars(self).update(json.loads(self.path.read_text(encoding="utf-8")))
        self.failed = 0  # in this run

    def keep(self) -> None:
        """Writes the state, whole or not at all."""
        write_atomically(self.path, json.dumps(self.summary(), indent=1).encode())

    def summary(self) -> dict:
        """Returns what is kept, JSON-able."""
        return {name: value for name, value in vars(self).items() if name not in ("path", "failed")}

    def next_seed(self, part: str) -> int:
        """Returns a seed that the part has not had."""
        seed = self.seeds.get(part, 0)
        self.seeds[part] = seed + 1
        return seed

    def book(self, part: str, seed: int, found: dict[str, float]) -> None:
        """Adds what a step returned; a "failure" in it goes to the list."""
        counts, most = self.counts.setdefault(part, {"steps": 0}), self.most.setdefault(part, {})
        counts["steps"] += 1
        if "failure" in found:
            self.failed += 1
            self.failures.append({"part": part, "seed": seed, "message": found["failure"]})
            return
        for name, value in found.items():
            if name.startswith("most"):
                most[name] = max(most.get(name, 0.0), value)
            else:
                counts[name] = counts.get(name, 0) + value


def command(part: str, seed: int) -> str:
    """Returns the command that repeats a step."""
    return f"python -m tests.campaign 0 --only {part} --seed {seed}"


def work(pipe, folder: str) -> None:
    """Runs the steps that come through the pipe, until None does; the main function of a worker."""
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        while (asked := pipe.recv()) is not None:
            part, seed = asked
            own = Path(folder) / part
            own.mkdir(parents=True, exist_ok=True)
            try:
                found = importlib.import_module(f"tests.campaign.{part}").step(seed, own)
            except Failure as e:
                found = {"failure": printable(e, 2000)}
            except Exception as e:  # the part's own fault is one too
                last = traceback.extract_tb(e.__traceback__)[-1]
                place = f"{Path(last.filename).name}:{last.lineno}"
                found = {"failure": f"{type(e).__name__} in {place}: {printable(e, 2000)}"}
            pipe.send(found)


class Worker:
    """A process that runs steps, one at a time; `asked` is (part, seed, when it began)."""

    def __init__(self, folder: Path):
        self.folder, self.asked = folder, None
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, str(self.folder)), daemon=False)
        self.process.start()
        theirs.close()

    def ask(self, part: str, seed: int) -> None:
        """Begins a step."""
        self.asked = part, seed, time.monotonic()
        self.pipe.send((part, seed))

    def answer(self) -> dict | None:
        """Returns what a step found, None while it runs; a worker that died or hangs is replaced,
        which is a failure."""
        if self.pipe.poll():
            with contextlib.suppress(EOFError, ConnectionResetError):
                return self.pipe.recv()
            self.process.join()
            code = self.process.exitcode
            self._begin()
            return {"failure": f"the process died with exit code {code}"}
        if time.monotonic() - self.asked[2] > LIMIT:
            self.process.kill()
            self.process.join()
            self._begin()
            return {"failure": f"the step took more than {LIMIT:.0f} s"}
        return None

    def end(self) -> None:
        """Ends the process, at once where it is in a step."""
        if self.asked is not None:
            self.process.kill()
        else:
            with contextlib.suppress(BrokenPipeError):
                self.pipe.send(None)
        self.process.join()


def run(seconds: float, folder: Path, only: str | None, seed: int | None, workers: int) -> Memory:
    """Runs steps for so many seconds, at least one, and returns what the folder then knows.

    only : the one part to run, None for all        seed : of the one step to run
    workers : steps at a time
    """
    folder.mkdir(parents=True, exist_ok=True)
    memory, start, line, begun = Memory(folder), time.monotonic(), Line(), 0
    before = memory.seconds
    crew = [Worker(folder / f"worker{i}") for i in range(workers)]
    todo = _todo(memory, only, seed)
    try:
        while True:
            for worker in crew:
                more = time.monotonic() - start < seconds or not begun
                asked = next(todo, None) if worker.asked is None and more else None
                if asked is not None:
                    worker.ask(*asked)
                    begun += 1
            busy = [worker for worker in crew if worker.asked is not None]
            if not busy:
                return memory
            wait([worker.pipe for worker in busy], timeout=1.0)
            for worker in busy:
                found = worker.answer()
                if found is not None:
                    part, number, _ = worker.asked
                    worker.asked = None
                    memory.book(part, number, found)
                    if "failure" in found:
                        line.say(f"FAILED {part} seed {number}: {found['failure']}\n"
                                 f"  again: {command(part, number)}")
            memory.seconds = before + time.monotonic() - start
            line.show(memory)
            memory.keep()
    finally:
        for worker in crew:
            worker.end()
        memory.keep()
        line.end()


def _todo(memory: Memory, only: str | None, seed: int | None) -> Iterator[tuple[str, int]]:
    # The next steps: of the part that is furthest behind its aim.
    if seed is not None:
        yield only, seed
        return
    given = {name: 0 for name in ([only] if only else parts())}
    while True:
        part = min(given, key=lambda name: given[name] / AIMS[name])
        given[part] += 1
        yield part, memory.next_seed(part)


class Line:
    """The line that shows how far it is: redrawn on a terminal, every 20 s elsewhere."""

    def __init__(self):
        self.terminal, self.drawn = sys.stderr.isatty(), 0.0

    def show(self, memory: Memory) -> None:
        """Shows what was counted, if it is time again."""
        if time.monotonic() - self.drawn < (0.5 if self.terminal else 20.0):
            return
        self.drawn = time.monotonic()
        counted = "; ".join(
            f"{part}: " + ", ".join(f"{value:,.0f} {name}" for name, value in counts.items())
            for part, counts in memory.counts.items())
        text = f"{memory.seconds:,.0f} s  {counted}  {len(memory.failures)} failures"
        print(f"\r\x1b[2K{text[:os.get_terminal_size(2).columns - 1]}" if self.terminal else text,
              end="" if self.terminal else "\n", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        print(("\r\x1b[2K" if self.terminal else "") + text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leaves the line."""
        if self.terminal:
            print(file=sys.stderr)
