"""Files beside each other: errors with their interval against bytes, MACs and milliseconds."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .deploy import Program
from .kernels.threads import blas
from .nn.graph import Model
from .passport import planned
from .tensor import no_grad
from .timing import race
from .train import evaluate

LEVEL = 0.95  # of intervals
COSTS = ("bytes", "macs", "ms")


@dataclass(frozen=True)
class Compared:
    """One file.

    bytes : of the file        ratio : of the dense float32 net's bytes to them
    errors, size : wrong answers, and of how many; low, high : the interval of the error, 0..1
    macs, effective_macs : multiplications an image, all and by weights that are not 0; None of a
        program        ms : milliseconds an image, None where nothing was timed
    """

    file: str
    bytes: int
    ratio: float
    errors: int
    size: int
    low: float
    high: float
    macs: int | None
    effective_macs: int | None
    ms: float | None

    @property
    def error(self) -> float:
        """Fraction of wrong answers, 0..1."""
        return self.errors / self.size

    def cost(self, name: str) -> float | None:
        """Returns what one of COSTS is; of MACs those by weights that are not 0."""
        return self.effective_macs if name == "macs" else getattr(self, name)

    def to_dict(self) -> dict:
        """Returns everything as a JSON-able dict."""
        return asdict(self) | {"error": self.error}


def interval(errors: int, size: int, level: float = LEVEL) -> tuple[float, float]:
    """Returns the interval of the error that so many errors of so many examples leave, 0..1.

    Source: Wilson 1927, as in scipy

    >>> [round(v, 4) for v in interval(75, 10_000)]
    [0.006, 0.0094]
    """
    from scipy.stats import binomtest

    found = binomtest(errors, size).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def front(errors: Sequence[float], costs: Sequence[float | None]) -> list[bool]:
    """Returns which are on the Pareto front: none errs less, or as often, at less cost.

    costs : None where unknown, which is on no front. Of two alike both are on it.

    >>> front([0.01, 0.02, 0.02, 0.03], [9, 5, 6, 4])
    [True, True, False, True]
    """
    points = [(e, c) for e, c in zip(errors, costs) if c is not None]
    return [c is not None and not any(
        (e2 <= e and c2 <= c) and (e2 < e or c2 < c) for e2, c2 in points)
        for e, c in zip(errors, costs)]


def compare(nets: Sequence[tuple[Path, Model | Program]], split, *, timed: bool = True,
            seconds: float = 0.3, n_threads: int = 1, log: Callable[[dict], None] | None = None
            ) -> list[Compared]:
    """Returns a row a file: all are timed in turn, in one run.

    nets : (path, the net that it holds)        split : has x (N, ...) and y (N,), N at least 1
    timed : whether milliseconds are taken, one image and one thread, for `seconds` a net, about
    """
    scores = []
    for i, (path, net) in enumerate(nets):
        scores.append(evaluate(net, split, n_threads=n_threads))
        if log:
            log({"event": "progress", "name": "compare", "done": i + 1,
                 "total": len(nets)})
    taken = milliseconds([net for _, net in nets], split.x[:1], seconds) if timed else None
    return [_row(path, net, score, taken and taken[i])
            for i, ((path, net), score) in enumerate(zip(nets, scores))]


def milliseconds(nets: Sequence[Model | Program], x, seconds: float) -> list[float]:
    """Returns the median milliseconds of each net's program on one image, called in turn."""
    calls = [planned(net) for net in nets]
    with no_grad(), blas(1):
        for call in 2 * calls:  # not counted: caches
            call(x)
        taken = race({str(i): lambda call=call: call(x) for i, call in enumerate(calls)},
                     seconds=seconds * len(calls), least=5)
    return [1e3 * s for s in taken.values()]


def _row(path: Path, net: Model | Program, score, ms: float | None) -> Compared:
    size, of_net = path.stat().st_size, isinstance(net, Model)
    return Compared(
        str(path), size, net.origin_bytes / size, score.errors, score.size,
        *interval(score.errors, score.size), sum(net.macs().values()) if of_net else None,
        sum(net.effective_macs().values()) if of_net else None, ms)


HEADERS = ("file", "bytes", "ratio", "errors", "of", "error %", "95 % interval", "MACs",
           "effective", "ms")


def cells(row: Compared) -> list:
    """Returns the row under HEADERS: texts, ints, floats."""
    return [row.file, row.bytes, round(row.ratio, 1), row.errors, row.size,
            f"{100 * row.error:.2f}", f"{100 * row.low:.2f}..{100 * row.high:.2f}",
            "" if row.macs is None else row.macs,
            "" if row.effective_macs is None else row.effective_macs,
            "" if row.ms is None else f"{row.ms:.4f}"]


def as_csv(rows: Sequence[Compared]) -> str:
    """Returns a line a file under a line of names, numbers as they are, RFC 4180."""
    out = io.StringIO()
    fields = [row.to_dict() for row in rows]
    writer = csv.DictWriter(out, list(fields[0]))
    writer.writeheader()
    writer.writerows(fields)
    return out.getvalue()


ESCAPES = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})


def as_latex(rows: Sequence[Compared]) -> str:
    """Returns a tabular that a document can \\input; what is on the front of bytes is bold."""
    best = front([row.error for row in rows], [row.bytes for row in rows])
    lines = [" & ".join(h.translate(ESCAPES) for h in HEADERS) + r" \\ \hline"]
    for row, bold in zip(rows, best):
        texts = [f"{c:,}" if isinstance(c, (int, np.integer)) else str(c) for c in cells(row)]
        texts = [text.translate(ESCAPES) for text in texts]
        texts[0] = rf"\textbf{{{texts[0]}}}" if bold else texts[0]
        lines.append(" & ".join(texts) + r" \\")
    body = "\n".join(lines)
    return f"\\begin{{tabular}}{{l{'r' * (len(HEADERS) - 1)}}}\n{body}\n\\end{{tabular}}\n"
