"""What a running command shows: a bar with the time left, and a line for each step that ended.

The library logs dicts; `Screen.log` is what it logs to. Bars are drawn only on a terminal;
elsewhere the lines are all there is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ..atomic import as_json
from ..errors import printable


class Screen:
    """Renders a library's log on standard error; appends it to a file of JSON lines if given.

    period : seconds over whose speed the time left is estimated
    """

    def __init__(self, log_path: str | None = None, *, period: float = 30.0):
        self.console = Console(stderr=True, highlight=False)
        self._log_path, self._file = log_path, None  # opened when there is something to write
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=period,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, int] = {}
        self._drawn = 0.0
        self.title = ""

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        self._bar.stop()
        if self._file:
            self._file.close()

    def say(self, text: str) -> None:
        """Prints one line above the bars."""
        text = "\n".join(printable(line, 4000) for line in text.split("\n"))
        self._bar.console.print(text, markup=False)

    def log(self, row: dict) -> None:
        """Shows one row of a library's log."""
        event = row.get("event")
        if event == "progress":
            self._progress(row)
        elif event == "start":
            of = f" ({row['index']}/{row['of']})" if row["index"] else ""  # 0: before the steps
            self.title = row["name"] + of
            self._clear()
        elif event == "epoch":
            self.say(
                f"  {self.title}: epoch {row['epoch']}/{row['epochs']}  loss {row['loss']:.4f}  "
                f"validation errors {row['val_errors']}/{row['val_size']}  {row['seconds']:.1f} s"
            )
        elif event == "resumed" and row["rows"] and (last := row["rows"][-1]):
            if last["epoch"] < last["epochs"]:
                self.say(f"  {self.title}: goes on after epoch {last['epoch']}/{last['epochs']}")
        elif event == "step":
            model = row["model"]
            self.say(f"{row['name']}: {model.count():,} weights and biases, sparsity "
                     f"{row['sparsity']:.4f}, {sum(model.macs().values()):,} MACs; validation "
                     f"errors {row['errors']}/{row['size']}, {row['seconds']:.1f} s")
        elif event == "round":
            self.say(
                f"  {self.title}: round {row['round']}/{row['rounds']}  "
                f"sparsity {row['sparsity']:.4f}  validation errors {row['errors']}"
            )
        elif event == "search":
            self.title = row["name"]
            self._clear()
        elif event == "budget":
            self.say(
                f"budget of {row['max_bytes']:,} bytes, attempt {row['attempt']}: "
                f"the recipe's densities x {row['density_factor']:.3g}"
            )
        elif event == "say":
            self.say(row["text"])
        if self._log_path and event != "progress":
            try:
                self._file = self._file or open(self._log_path, "a", encoding="utf-8")
                self._file.write(as_json({k: v for k, v in row.items() if k != "model"}) + "\n")
                self._file.flush()
            except OSError as e:
                e.filename = self._log_path
                raise

    def _progress(self, row: dict) -> None:
        now, name = time.monotonic(), self.title or row["name"]
        if now - self._drawn < 0.1 and row["done"] < row["total"]:
            return
        self._drawn = now
        if name not in self._tasks:
            self._clear()
            self._tasks[name] = self._bar.add_task(name, total=row["total"])
        self._bar.update(self._tasks[name], completed=row["done"], total=row["total"])

    def _clear(self) -> None:
        for task in self._tasks.values():
            self._bar.remove_task(task)
        self._tasks = {}


def print_table(title: str, headers: list[str], rows: list[list], *, footer: str = "") -> None:
    """Prints a table on standard output; numbers are set to the right and never broken.

    Where the terminal is too narrow, columns without an entry are left out and the others go on in
    further tables below, each beginning with the first column. Without headers title and footer
    alone are printed.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    columns = [
        _column(h, [_cell(r[i]) for r in rows], [r[i] for r in rows]) for i, h in enumerate(headers)
    ]
    if _width(columns) > console.width:
        columns = columns[:1] + [c for c in columns[1:] if any(c.cells)] if rows else columns
    parts = _parts(columns, console.width) if columns else []
    with console.capture() as drawn:
        if title:
            console.print(printable(title), style="italic", markup=False)
        for i, part in enumerate(parts):
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
            for c in part:
                table.add_column(
                    escape(c.header),
                    justify="right" if c.numeric else "left",
                    no_wrap=c.numeric,
                    overflow="fold",
                )
            for cells in zip(*(c.cells for c in part)):
                table.add_row(*map(escape, cells))
            console.print(*([""] if i else []), table, sep="\n")
        if footer:
            console.print(printable(footer, 4000), style="italic dim", markup=False)
    text = drawn.get()
    print(text if console.is_terminal else "\n".join(line.rstrip() for line in text.split("\n")))


@dataclass(frozen=True)
class _Column:
    header: str
    cells: list[str]
    numeric: bool

    @property
    def width(self) -> int:
        # What it needs at least: a number whole, a text of up to 20 letters too, of a longer one
        # its longest word.
        words = [
            w for c in self.cells for w in ([c] if self.numeric or len(c) <= 20 else c.split())
        ]
        return max([len(w) for w in (*words, *self.header.split())], default=0)


def _column(header: str, cells: list[str], values: list) -> _Column:
    numeric = any(cells) and all(isinstance(v, (int, float)) or _is_figure(v) for v in values)
    if numeric and len(header) > max(map(len, cells)):
        header = header.replace(" ", "\n")  # a column that is not wrapped is as wide as its header
    return _Column(header, cells, numeric)


def _width(columns: list[_Column]) -> int:
    return sum(max([len(c.header), *map(len, c.cells)]) + 3 for c in columns)


def _parts(columns: list[_Column], width: int) -> list[list[_Column]]:
    # The columns in as few groups as fit, each begun by the first column.
    groups, first = [], columns[0]
    for c in columns[1:]:
        if groups and sum(g.width + 3 for g in groups[-1]) + c.width <= width:
            groups[-1].append(c)
        else:
            groups.append([first, c])
    return groups or [[first]]


def _is_figure(cell) -> bool:
    return isinstance(cell, str) and (cell in ("", "exact") or cell.lstrip("-")[:1].isdigit())


def _cell(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.4g}" if isinstance(value, float) else printable(value)
    )
