"""The table of a class: written for spreadsheets, and read again for what a teacher wrote into it.

A teacher writes points into the column "manual", and may add columns of any kind. A later run keeps
all of it, whatever spreadsheet saved the table; a table that cannot be read is never overwritten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UserError, printable
from ..catalog import LessonChecks
from .grade import empty
from .spreadsheet import cell, fold, number, read_rows, written

_WORDS = re.compile(r"\d+ words?")  # what the column holds before a teacher marks
_END = ("prediction", "manual", "points", "max_points", "seconds", "status", "versions")
_OF_FILE = ("capstone", "rank", "mcz", "mcz bytes", "mcz digits", "mcz error %", "mcz time")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


@dataclass
class Kept:
    """What a teacher wrote into an earlier table, by (student, file) as they stood there."""

    marks: dict[tuple[str, str], str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)  # the teacher's own
    cells: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    separator: str = ","

    def of(self, student: str, file: str, others: list[dict]) -> tuple[str, str] | None:
        """Returns the key of what was written beside a student's file, and None without any.

        It is that of both, or of the file alone (a spreadsheet makes 123 of the student 00123), or
        of the student alone where only one row is theirs.

        others : all rows of this run
        """
        keys = list(dict.fromkeys([*self.marks, *self.cells]))
        who, what = fold(cell(student)), fold(cell(file))
        same = [k for k in keys if fold(k[1]) == what and fold(k[0]) == who]
        if not same and what:
            same = [k for k in keys if fold(k[1]) == what]
        if not same and who and sum(fold(cell(r["student"])) == who for r in others) == 1:
            same = [k for k in keys if fold(k[0]) == who]
        return same[0] if same else None


def read_kept(path: Path, of: LessonChecks, known: list[str] = []) -> Kept:
    """Returns what a teacher wrote into the table at `path`; nothing where there is no table.

    known : names of students, by which the code page of an old spreadsheet is told
    Raises UserError where there is a file that is no table of grades: it must not be overwritten.
    """
    if not path.exists() or path.is_file() and not path.stat().st_size:
        return Kept()
    try:
        rows, separator = read_rows(path, ["student", "file", "manual"], what="table", known=known)
    except UserError as e:
        raise UserError(f"{e}. It may hold marks, so nothing was graded and the file is as it was: "
                        "mend it, move it away, or name another with --csv") from None
    kept = Kept(separator=";" if separator == ";" else ",")
    ours = {"student", "file", *of.ids(), *_of_file(of), *_END}
    for row in rows:
        key = (row["student"], row["file"])
        if row["manual"] and not _WORDS.fullmatch(row["manual"]):
            kept.marks.setdefault(key, row["manual"])
        mine = {name: text for name, text in row.items() if name not in ours}
        kept.columns += [n for n in mine if n not in kept.columns]
        if any(mine.values()):
            kept.cells.setdefault(key, mine)
    kept.columns = [c for c in kept.columns if any(r.get(c) for r in kept.cells.values())
                    or not c.startswith("column ")]
    return kept


def marked(rows: list[dict], kept: Kept, of: LessonChecks) -> list[dict]:
    """Returns the rows with the teacher's marks in their points and in "by_hand", and a row for
    every mark whose file or student is not there any more.

    by_hand : mark (as it was written), points (None without a mark), max_points, needed (whether
        there is something to mark), cells (of the teacher's own columns)
    """
    most = sum(r.max_points for r in of.reflections)
    used, out = set(), []
    for row in rows:
        key = kept.of(row["student"], row["file"], rows)
        key = None if key in used else key
        used.add(key)
        out.append(_with_mark(row, kept, key, most))
    for key in dict.fromkeys([*kept.marks, *kept.cells]):
        if key not in used:
            student, file = (printable(t.removeprefix("'"), 250) for t in key)
            gone = empty(of, file, student, "not there any more; the row is kept for what a teacher"
                                            " wrote into it")
            out.append(_with_mark(gone, kept, key, most))
    return out


def _with_mark(row: dict, kept: Kept, key, most: int) -> dict:
    mark = kept.marks.get(key, "")
    points = number(mark)
    told = []
    if mark and points is None:
        told = [f"manual: {printable(mark, 60)!r} is no number and does not count"]
    elif points is not None and points < 0:
        told, points = [f"manual: {mark} is below 0 and does not count"], None
    elif points is not None and points > most:
        told = [f"manual: {mark} is more than the {most} points there are"]
    return row | {
        "points": _whole(row["points"] + (points or 0)),
        "max_points": row["max_points"] + most,
        "status": "; ".join([row["status"], *told]),
        "by_hand": {
            "mark": mark,
            "points": None if points is None else _whole(points),
            "max_points": most,
            "needed": points is None and any(m["words"] for m in row["manual"].values()),
            "cells": kept.cells.get(key, {}),
        },
    }


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def table(rows: list[dict], of: LessonChecks, kept: Kept = Kept()) -> bytes:
    """Returns the CSV of results; `manual` holds the teacher's mark, or how many words wait."""
    ids, own = of.ids(), kept.columns
    header = ["student", "file", *ids, *_of_file(of), *_END, *own]
    lines = []
    for r in rows:
        words = sum(m["words"] for m in r["manual"].values())
        by_hand = r.get("by_hand", {"mark": "", "cells": {}})
        cells = {
            "prediction": r["prediction"]["points"],
            "manual": by_hand["mark"] or (f"{words} words" if words else ""),
            "versions": " ".join(f"{k} {v}" for k, v in r["versions"].items()),
        }
        points = (r["exercises"][i]["points"] for i in ids)
        rest = ((r | cells)[name] for name in _END)
        file = _file_cells(r["capstone"]) if of.capstone else ()
        lines.append([r["student"], r["file"], *points, *file, *rest,
                      *(by_hand["cells"].get(c, "") for c in own)])
    return written(header, lines, kept.separator)


def _of_file(of: LessonChecks) -> tuple[str, ...]:
    # The columns of a handed-in net, in a lesson that asks for one.
    return _OF_FILE if of.capstone else ()


def _file_cells(c: dict) -> list:
    # Under _OF_FILE; a row that was kept for a mark has no file at all.
    if not c or c["problem"]:
        return [c.get("points", 0), "", c.get("file", ""), c.get("bytes") or "", "", "", ""]
    error = f"{100 * c['errors'] / c['size']:.2f}"
    return [c["points"], c["rank"] or "", c["file"], c["bytes"], c["digits"], error,
            f"{c['ratio']:.2f}"]
