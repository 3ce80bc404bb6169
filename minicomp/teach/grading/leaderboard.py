"""Files that a class handed in beside its notebooks: whose each is, its points, the leaderboard.

A good file is one within the error limit. Good files are ranked among those of the same digits, by
bytes, then by the ratio of times to one decimal; files alike in both share a rank. The error does
not rank: it is within the limit or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from html import escape
from pathlib import Path

from ...errors import UserError, printable
from ..asking.lesson import Capstone, LessonChecks
from ..live.capstone import is_good, measured, place, scored, unseen
from ..notebook.cells import read_bytes
from .grade import Key, empty
from .handed_in import NET, File

NO_FILE = "no .mcz file was handed in"
NO_BOOK = "no notebook, a file alone"


def beside(path: Path, of: LessonChecks) -> Path | None:
    """Returns the .mcz file that goes with a notebook: of its name, else the only one there."""
    same = path.with_suffix(NET)
    if of.capstone is None or same.is_file():
        return same if of.capstone else None
    found = sorted(path.parent.glob(f"*{NET}"))
    return found[0] if len(found) == 1 else None


def with_file(row: dict, path: Path | None, of: LessonChecks, key: Key) -> dict:
    """Returns a row with what its file is worth; UserError where the file cannot be read.

    path : of the .mcz file, None without one
    """
    if path is None:
        return _with(row, "", {"problem": NO_FILE, "bytes": 0}, of.capstone)
    found = measured(read_bytes(path), unseen(key.secret, of.capstone.images), of.capstone)
    return _with(row, path.name, found, of.capstone)


def with_files(
    rows: list[dict],
    owners: list[tuple[File, str]],
    of: LessonChecks,
    key: Key,
    log: Callable[[dict], None] = lambda row: None,
) -> list[dict]:
    """Returns the rows with what each student's file is worth, and a row for each file of whom
    there is no notebook.

    owners : every .mcz file with the student that it belongs to, "" where nobody is named. Of
        several of one student the first by name counts, which the status says.
    """
    asked, digits = of.capstone, unseen(key.secret, of.capstone.images) if owners else {}
    known: dict[str, dict] = {}
    of_student: dict[str, list[File]] = {}
    for i, (file, student) in enumerate(owners):
        of_student.setdefault(student or f"\0{file.name}", []).append(file)
    out, done = [], 0
    for row in rows:
        mine = of_student.pop(row["student"], []) if row["student"] else []
        if mine and not row["file"]:
            row = row | {"file": mine[0].name, "status": NO_BOOK, "told": NO_BOOK}
        out.append((row, mine))
    for student, theirs in of_student.items():
        who = "" if student.startswith("\0") else student
        out.append((empty(of, theirs[0].name, who, NO_BOOK), theirs))
    made = []
    for row, mine in out:
        if not mine:
            made.append(_with(row, "", {"problem": NO_FILE, "bytes": 0}, asked))
            continue
        sha = hashlib.sha256(mine[0].net or mine[0].problem.encode()).hexdigest()
        if sha not in known:
            known[sha] = (measured(mine[0].net, digits, asked) if mine[0].net is not None
                          else {"problem": mine[0].problem, "bytes": 0})
        row = _with(row, mine[0].name, known[sha] | {"sha256": sha}, asked)
        if len(mine) > 1:
            row = _told(row, f"{len(mine)} .mcz files: {mine[0].name} counts")
        made.append(row)
        done += 1
        log({"event": "progress", "name": "measure", "done": done, "total": len(owners),
             "file": mine[0].name, "points": row["points"]})
    return _ranked(_same(made), asked)


def _with(row: dict, name: str, found: dict, asked: Capstone) -> dict:
    points, text = scored(found, asked)
    mine = {"file": printable(name, 250), "points": points, "max_points": asked.points,
            "text": text, "rank": None, "of": 0}
    return row | {"capstone": found | mine, "points": row["points"] + points}


def _told(row: dict, text: str) -> dict:
    more = {key: "; ".join(filter(None, (row[key], text))) for key in ("status", "told")
            if key in row}
    return row | more


def _same(rows: list[dict]) -> list[dict]:
    # Who handed in the same file is for the teacher alone, as with notebooks.
    by_sha: dict[str, set[str]] = {}
    for r in rows:
        if sha := r["capstone"].get("sha256"):
            by_sha.setdefault(sha, set()).add(r["student"] or r["file"])
    out = []
    for r in rows:
        others = by_sha.get(r["capstone"].get("sha256"), set()) - {r["student"] or r["file"]}
        text = f"same .mcz as {', '.join(sorted(others))}" if others else ""
        out.append(r | {key: "; ".join(filter(None, (r.get(key, ""), text)))
                        for key in ("status", "shares")} if text else r)
    return out


def _ranked(rows: list[dict], asked: Capstone) -> list[dict]:
    # With the rank of each good file among those of its digits.
    out = []
    for r in rows:
        c = r["capstone"]
        if is_good(c, asked):
            rivals = [place(o) for o in _files(rows)
                      if is_good(o, asked) and o["digits"] == c["digits"]]
            c = c | {"rank": 1 + sum(p < place(c) for p in rivals), "of": len(rivals)}
        out.append(r | {"capstone": c})
    return out


def _files(rows: list[dict]) -> list[dict]:
    # The files of the rows, each once: a student with two notebooks has one.
    return list({(r["student"], r["capstone"]["file"]): r["capstone"] for r in rows}.values())


def owned(files: list[File], students, submissions, matched) -> list[tuple[File, str]]:
    """Returns each .mcz file with its student: that of the notebook of the same name, or of the
    only student with a notebook in its folder, or whose name stands in its path.

    matched : what finds the students of files by their paths, as of `classroom.matched`
    """
    out = []
    for file, by_path in zip(files, matched(files, students)):
        stem, folder = file.name[: -len(NET)], file.name.rpartition("/")[0]
        twins = {s.student for s in submissions if s.name.rpartition(".")[0] == stem}
        near = {s.student for s in submissions if s.name.rpartition("/")[0] == folder}
        one = next((next(iter(g)) for g in (twins, near) if len(g) == 1 and "" not in g), None)
        named = by_path.student if students is not None else None
        out.append((file, named or one or by_path.student))
    return out


HEADER = ("rank", "student", "digits", "bytes", "error, %", "95 %", "time", "")


def board(rows: list[dict], asked: Capstone) -> list[list]:
    """Returns the lines of the leaderboard under HEADER, best first, texts escaped for HTML."""
    seen, lines = set(), []
    for r in rows:
        c = r["capstone"]
        if c["file"] and (r["student"], c["file"]) not in seen:
            seen.add((r["student"], c["file"]))
            lines.append((_order(c), _line(r, c, asked)))
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


def _order(c: dict) -> tuple:
    if c["problem"]:
        return "~", 2, 0, 0.0
    return (c["digits"], int(c["rank"] is None), *place(c))


def _line(row: dict, c: dict, asked: Capstone) -> list:
    who = escape(row["student"] or c["file"])
    if c["problem"]:
        return ["", who, "", f"{c['bytes']:,}", "", "", "", escape(c["problem"])]
    error = 100 * c["errors"] / c["size"]
    why = "" if c["rank"] else f"above {asked.limit:g} %"
    span = f"{100 * c['low']:.2f} to {100 * c['high']:.2f}"
    return [c["rank"] or "", who, c["digits"], f"{c['bytes']:,}", f"{error:.2f}", span,
            f"{c['ratio']:.2f}", why]


def read_alone(path: Path, of: LessonChecks, key: Key) -> dict:
    """Returns the row of an .mcz file that was handed in without a notebook.

    Raises UserError where the lesson asks for no file, or it cannot be read.
    """
    if of.capstone is None:
        raise UserError(f"lesson {of.number} asks for a notebook, not for a file {NET}")
    row = empty(of, printable(path.name, 250), "", NO_BOOK)
    return with_file(row, path, of, key)
