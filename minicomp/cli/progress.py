"""What a running command shows: a progress bar with the time left, and a line for each step that ended.

The library logs dicts; `Screen.log` is what it logs to. Bars are drawn only on a terminal; elsewhere the lines
are all there is.
"""

from __future__ import annotations

import json
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


class Screen:
    """Renders a library's log on standard error, and appends it as JSON lines to a file if one is given."""

    def __init__(self, log_path: str | None = None):
        self.console = Console(stderr=True, highlight=False)
        self._file = open(log_path, "a", encoding="utf-8") if log_path else None
        self._bar = Progress(TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(),
                             TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                             console=self.console, transient=True, disable=not self.console.is_terminal)
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
        self._bar.console.print(text, markup=False)

    def log(self, row: dict) -> None:
        """Shows one row of a library's log."""
        event = row.get("event")
        if event == "progress":
            self._progress(row)
        elif event == "start":
            self.title = f"{row['name']} ({row['index']}/{row['of']})"
            self._clear()
        elif event == "epoch":
            self.say(f"  {self.title}: epoch {row['epoch']}/{row['epochs']}  loss {row['loss']:.4f}  "
                     f"validation errors {row['val_errors']}/{row['val_size']}  {row['seconds']:.1f} s")
        elif event == "step":
            self.say(f"{row['name']}: sparsity {row['sparsity']:.4f}, validation errors "
                     f"{row['errors']}/{row['size']}, {row['seconds']:.1f} s")
        elif event == "say":
            self.say(row["text"])
        if self._file and event != "progress":
            self._file.write(json.dumps({k: v for k, v in row.items() if k != "model"}) + "\n")
            self._file.flush()

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
    """Prints a table on standard output; numbers are set to the right."""
    table = Table(title=title or None, title_justify="left", caption=footer or None, caption_justify="left")
    for i, header in enumerate(headers):
        numeric = rows and all(isinstance(r[i], (int, float)) or _is_figure(r[i]) for r in rows)
        table.add_column(header, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(c) for c in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    console.print(table, markup=False)


def _is_figure(cell) -> bool:
    return isinstance(cell, str) and (cell == "" or cell[0].isdigit())


def _cell(value) -> str:
    from rich.markup import escape

    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    return escape(text)
