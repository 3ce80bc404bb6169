"""The files of a table's nets: errors, bytes and what flips, a number a seed, by what a net is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..compress.technique import Run, Technique
from ..deploy import Program
from ..nn.graph import Model
from ..quality import Agreement, agreement
from ..timing import Clock
from .table import beside, file_errors, mean, percent


@dataclass
class Kind:
    """What is known of the files of one kind of net, an entry a seed.

    seconds : of all seeds
    """

    errors: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    agreed: list[Agreement] = field(default_factory=list)
    seconds: float = 0.0


class Files:
    """Writes nets, has a fresh process count their errors, and makes rows of what it says.

    data : with test        out : a folder        stem : what names of files begin with
    """

    def __init__(self, data, out: Path, stem: str):
        self.data, self.out, self.stem = data, out, stem
        self.kinds: dict[str, Kind] = {}
        self.clock = Clock()

    def note(self, kind: str, model: Model | Program, seed: int,
             floats: Model | None = None) -> None:
        """Writes a net; its seconds are those since the last.   floats : what it is beside"""
        path = self.out / f"{self.stem}-{kind}-{seed}.mcz"
        size, wrong = file_errors(model, path, self.data.name)
        agreed = None if floats is None else agreement(model, floats, self.data.test)
        self.add(kind, size, wrong, agreed)

    def note_all(self, techniques: Mapping[str, Technique], net: Model, runs: Sequence[Run],
                 seed: int) -> dict[str, Model]:
        """Returns what each technique makes of a net, and notes it beside what the first makes."""
        made: dict[str, Model] = {}
        for (kind, technique), run in zip(techniques.items(), runs, strict=True):
            made[kind] = technique.apply(net, self.data.without_test(), run)
            self.note(kind, made[kind], seed, next(iter(made.values())))
        return made

    def note_from_floats(self, make: Callable[[np.random.Generator], Model], floats: Technique,
                         techniques: Mapping[str, Technique], *, seeds: Sequence[int], log,
                         n_threads: int) -> None:
        """Notes for each seed what `floats` makes of a net, and what each technique makes of that.

        make : gives the net, drawn by an rng
        """
        given = self.data.without_test()
        for seed in seeds:
            init, first, *streams = np.random.default_rng(seed).spawn(2 + len(techniques))
            net = floats.apply(make(init), given, Run(first, log, None, n_threads))
            self.note("floats", net, seed, net)
            for (kind, technique), rng in zip(techniques.items(), streams):
                made = technique.apply(net, given, Run(rng, log, None, n_threads))
                self.note(kind, made, seed, net)

    def add(self, kind: str, size: int, wrong: int, agreed: Agreement | None = None) -> None:
        """Notes what was counted elsewhere: bytes, errors, and an agreement where there is one."""
        known = self.kinds.setdefault(kind, Kind())
        known.errors.append(wrong)
        known.sizes.append(size)
        known.agreed += [] if agreed is None else [agreed]
        known.seconds += self.clock.lap()

    def rate(self, kind: str) -> float:
        """Returns the mean error of a kind, percent."""
        return 100 * mean(self.kinds[kind].errors) / len(self.data.test.y)

    def size(self, kind: str) -> float:
        """Returns the mean bytes of a kind's files."""
        return mean(self.kinds[kind].sizes)

    def said(self, kind: str) -> str:
        """Returns the errors of a kind with their range, and its bytes."""
        errors = percent(self.kinds[kind].errors, len(self.data.test.y))
        return f"{errors}, {self.size(kind):,.0f} bytes"

    def row(self, title: str, paper: str, met: bool, *kinds: str) -> dict:
        """Returns a row that says the kinds, each by its name where there are several; flips and KL
        are of the first."""
        ours = "; ".join(f"{kind} {self.said(kind)}" if kinds[1:] else self.said(kind)
                         for kind in kinds)
        known = {kind: self.kinds[kind] for kind in kinds}
        row = {"row": title, "paper": paper, "ours": ours, "met": bool(met),
               "seconds": sum(k.seconds for k in known.values()),
               "errors": {kind: k.errors for kind, k in known.items()},
               "file_bytes": {kind: k.sizes for kind, k in known.items()}}
        agreed = known[kinds[0]].agreed
        return beside(row, agreed) if agreed else row
