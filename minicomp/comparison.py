"""Files beside each other: errors with their interval against bytes, MACs and milliseconds."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from .deploy import Program
from .energy import modelled
from .kernels.threads import blas
from .nn.graph import Model
from .passport import planned
from .tensor import no_grad
from .timing import race
from .train import evaluate

LEVEL = 0.95  # of intervals
COSTS = ("bytes", "macs", "ms", "energy")


@dataclass(frozen=True)
class Compared:
    """One file.

    bytes : of the file        ratio : of the dense float32 net's bytes to them
    errors, size : wrong answers, and of how many; low, high : the interval of the error, 0..1
    macs, effective_macs : multiplications an image, all and by weights that are not 0; None of a
        program        ms : milliseconds an image, None where nothing was timed
    energy : modelled, never measured: microjoules an image (energy.py), None where not asked for
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
    energy: float | None = None

    @property
    def title(self) -> str:
        """What a legend calls it."""
        return Path(self.file).name

    @property
    def error(self) -> float:
        """Fraction of wrong answers, 0..1."""
        return self.errors / self.size

    @property
    def judged(self) -> float:
        """The error by which fronts are chosen, 0..1: of a file that of the table."""
        return self.error

    def cost(self, name: str) -> float | None:
        """Returns what one of COSTS is; of MACs those by weights that are not 0."""
        return self.effective_macs if name == "macs" else getattr(self, name)

    def to_dict(self) -> dict:
        """Returns everything as a JSON-able dict."""
        found = asdict(self) | {"error": self.error}
        energy = found.pop("energy")
        return found if energy is None else found | {"modelled_uj": energy}


@dataclass(frozen=True)
class Setting(Compared):
    """A setting of a sweep; of several seeds the means, with their least and most in `ranges`.

    file : the setting in words        low, high : the interval that so many examples leave the mean
    val_error : fraction of wrong answers on validation data, by which fronts are chosen: whoever
        chooses by the test set finds errors there that others will not
    """

    seeds: int = 1
    val_error: float = 0.0
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.file

    @property
    def judged(self) -> float:
        return self.val_error

    def to_dict(self) -> dict:
        found = super().to_dict()
        ranges = found.pop("ranges")
        return found | {f"{name}_{end}": value for name, pair in ranges.items()
                        for end, value in zip(("least", "most"), pair)}


SPREAD = ("bytes", "error", "val_error")  # figures whose range is shown


def merged(rows: Sequence[Setting]) -> Setting:
    """Returns one setting of the rows of its seeds, each a Setting of one seed.

    Means are of integers too; only the interval takes the nearest count of errors.
    """
    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in rows]
        return None if None in values else float(np.mean(values))

    errors, first = mean("errors"), rows[0]
    low, high = interval(round(errors), first.size)
    spread = {name: [getattr(row, name) for row in rows] for name in SPREAD}
    return replace(
        first, **{name: mean(name) for name in ("bytes", "ratio", "macs", "effective_macs", "ms",
                                                "energy", "val_error")},
        errors=errors, low=low, high=high, seeds=len(rows),
        ranges={name: (min(values), max(values)) for name, values in spread.items()})


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


def fronts(rows: Sequence[Compared]) -> list[list[str]]:
    """Returns for each row the costs on whose front it is, by the errors that fronts are chosen
    by."""
    on = {cost: front([r.judged for r in rows], [r.cost(cost) for r in rows]) for cost in COSTS}
    return [[cost for cost in COSTS if on[cost][i]] for i in range(len(rows))]


def compare(nets: Sequence[tuple[Path, Model | Program]], split, *, timed: bool = True,
            energy: bool = False, seconds: float = 0.3, n_threads: int = 1,
            log: Callable[[dict], None] | None = None) -> list[Compared]:
    """Returns a row a file: all are timed in turn, in one run.

    nets : (path, the net that it holds)        split : has x (N, ...) and y (N,), N at least 1
    timed : whether milliseconds are taken, one image and one thread, for `seconds` a net, about
    energy : whether it is modelled
    """
    scores = []
    for i, (path, net) in enumerate(nets):
        scores.append(evaluate(net, split, n_threads=n_threads))
        if log:
            log({"event": "progress", "name": "compare", "done": i + 1,
                 "total": len(nets)})
    taken = milliseconds([net for _, net in nets], split.x[:1], seconds) if timed else None
    return [_row(path, net, score, taken and taken[i], energy)
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


def _row(path: Path, net: Model | Program, score, ms: float | None, energy: bool) -> Compared:
    size, of_net = path.stat().st_size, isinstance(net, Model)
    return Compared(
        str(path), size, net.origin_bytes / size, score.errors, score.size,
        *interval(score.errors, score.size), sum(net.macs().values()) if of_net else None,
        sum(net.effective_macs().values()) if of_net else None, ms,
        modelled(net, size) if energy else None)


HEADERS = ("file", "bytes", "ratio", "errors", "of", "error %", "95 % interval", "MACs",
           "effective", "ms")
MODELLED = "modelled uJ"


def table(rows: Sequence[Compared]) -> tuple[list[str], list[list]]:
    """Returns (headers, a list of texts, ints and floats a row).

    The column of modelled energy is there where a row has one; settings of a sweep have others.
    """
    found = [_setting(row) if isinstance(row, Setting) else dict(zip(HEADERS, _file(row)))
             for row in rows]
    if any(row.energy is not None for row in rows):
        found = [cells | {MODELLED: "" if row.energy is None else f"{row.energy:.4g}"}
                 for cells, row in zip(found, rows)]
    return list(found[0]), [list(cells.values()) for cells in found]


def _file(row: Compared) -> list:
    return [row.file, row.bytes, round(row.ratio, 1), row.errors, row.size,
            f"{100 * row.error:.2f}", _span(row.low, row.high), *_costs(row)]


def _setting(row: Setting) -> dict:
    seeds = f" ({_span(*row.ranges['error'])})" if row.seeds > 1 else ""
    return {"setting": row.file, "seeds": row.seeds, "bytes": round(row.bytes),
            "ratio": round(row.ratio, 1), "validation %": f"{100 * row.val_error:.2f}",
            "test %": f"{100 * row.error:.2f}{seeds}", "95 % interval": _span(row.low, row.high),
            **dict(zip(HEADERS[-3:], _costs(row)))}


def _span(low: float, high: float) -> str:
    return f"{100 * low:.2f}..{100 * high:.2f}"


def _costs(row: Compared) -> list:
    macs = ["" if n is None else round(n) for n in (row.macs, row.effective_macs)]
    return [*macs, "" if row.ms is None else f"{row.ms:.4f}"]


def as_csv(rows: Sequence[Compared]) -> str:
    """Returns a line a row under a line of names, numbers as they are, RFC 4180."""
    out = io.StringIO()
    fields = [row.to_dict() for row in rows]
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in fields for name in row)))
    writer.writeheader()
    writer.writerows(fields)
    return out.getvalue()


ESCAPES = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})


def as_latex(rows: Sequence[Compared]) -> str:
    """Returns a tabular that a document can \\input; what is on the front of bytes is bold."""
    headers, found = table(rows)
    lines = [" & ".join(h.translate(ESCAPES) for h in headers) + r" \\ \hline"]
    for cells, on in zip(found, fronts(rows)):
        bold = "bytes" in on
        texts = [f"{c:,}" if isinstance(c, (int, np.integer)) else str(c) for c in cells]
        texts = [text.translate(ESCAPES) for text in texts]
        texts[0] = rf"\textbf{{{texts[0]}}}" if bold else texts[0]
        lines.append(" & ".join(texts) + r" \\")
    body = "\n".join(lines)
    return f"\\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}\n{body}\n\\end{{tabular}}\n"
