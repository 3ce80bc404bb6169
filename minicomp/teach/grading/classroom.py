"""Grading a folder of notebooks: one row a student, a feedback page each, and nothing is lost.

Every notebook gets a row, also those that are missing, twice there, or no notebook at all. Results
are kept in a journal as they come; an interrupted run, or one after a few late submissions, takes
up what has not changed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from ... import __version__
from ...atomic import write_atomically
from ...errors import UserError
from .. import catalog
from .feedback import page
from .grade import Key, blank, fingerprint, grade, named_in
from ..notebook.cells import read_notebook
from ..live.process import Limits

HANDED_IN = (".py", ".zip", ".pdf", ".txt", ".json")  # what people hand in instead of a notebook
SKIPPED_FOLDERS = {".ipynb_checkpoints", "__MACOSX", "__pycache__", ".git"}


@dataclass(frozen=True)
class Outputs:
    """Where the results go; the journal lies beside the table."""

    csv: Path
    json: Path
    feedback: Path

    @property
    def journal(self) -> Path:
        return self.csv.with_name(f".{self.csv.stem}.journal.jsonl")


@dataclass(frozen=True)
class Submission:
    """One file of one student; student "" where nobody is named."""

    path: Path
    student: str
    status: str = ""


def grade_folder(
    folder: Path,
    number: str,
    out: Outputs,
    *,
    key: Key,
    roster: Path | None = None,
    jobs: int = 1,
    limits: Limits = Limits(),
    log: Callable[[dict], None] = lambda row: None,
) -> list[dict]:
    """Returns one result per student and file, in the order of roster or names; writes all outputs.

    roster : a CSV with a column "student" and optionally "file"        jobs : notebooks at a time
    Raises UserError where the folder holds no file, or the roster has no students.
    """
    of = catalog.lesson(number)
    files = notebooks_in(folder)
    students = read_roster(roster) if roster is not None else None
    if not files and not students:
        raise UserError(f"{folder}: there is no .ipynb file in it")
    submissions = matched(files, folder, students)
    done = _journal(out.journal, of, key)
    rows = [
        _empty(of, "", name, status) for name, status in _missing(students, submissions, folder)
    ]
    pool = ThreadPoolExecutor(max(jobs, 1))
    try:
        running = [
            pool.submit(_graded, s, folder, of, key, limits, done) for s in submissions
        ]
        for i, future in enumerate(as_completed(running), 1):
            rows.append(row := future.result())
            if row.pop("fresh", False):
                _append(out.journal, row)
            told = {"event": "progress", "name": "grade", "done": i, "total": len(running)}
            log(told | {"file": row["file"], "points": row["points"]})
    finally:
        pool.shutdown(cancel_futures=True)
    place = {s["student"]: i for i, s in enumerate(students or ())}
    rows.sort(key=lambda r: (place.get(r["student"], len(place)), r["file"]))
    _write(rows, of, out)
    return rows


def notebooks_in(folder: Path) -> list[Path]:
    """Returns the notebooks below a folder in order of names; UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    return [p for p in _files(folder) if p.suffix.lower() == ".ipynb"]


def _files(folder: Path) -> list[Path]:
    return [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and not p.name.startswith(".")
        and not SKIPPED_FOLDERS & set(p.relative_to(folder).parts)
    ]


def read_roster(path: Path) -> list[dict]:
    """Returns the rows of a roster, each with "student" and "file" ("" where not given)."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"roster {path}: cannot be read: {getattr(e, 'strerror', None) or 'not UTF-8'}"
        ) from None
    head = text.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    if not rows or "student" not in rows[0]:
        raise UserError(f'roster {path}: the first line must name a column "student"')
    students = [{k: (r.get(k) or "").strip() for k in ("student", "file")} for r in rows]
    students = [s for s in students if s["student"]]
    count = Counter(s["student"] for s in students)
    twice = ", ".join(sorted(name for name, n in count.items() if n > 1))
    if not students or twice:
        raise UserError(f"roster {path}: {f'{twice} stands twice' if twice else 'no students'}")
    return students


def matched(files: list[Path], folder: Path, students: list[dict] | None) -> list[Submission]:
    """Returns each file with its student.

    That is the roster's student of this file, or whose name stands in the path, or in the
    notebook. Without a roster, the name in the notebook or the file's name counts.
    """
    found = []
    for path in files:
        relative, said = str(path.relative_to(folder)), _said(path)
        if students is None:
            found.append(Submission(path, said or path.stem))
            continue
        listed = (s["student"] for s in students if s["file"] in (relative, path.name))
        named = (s["student"] for s in students if said and _folded(said) == _folded(s["student"]))
        who = next(listed, None) or _in_path(relative, students) or next(named, None)
        found.append(Submission(path, who or said, "" if who else "not in the roster"))
    count = Counter(_folded(s.student) for s in found)
    return [
        replace(s, status=f"duplicate: {n} files") if s.student and n > 1 else s
        for s in found
        for n in [count[_folded(s.student)]]
    ]


def _said(path: Path) -> str:
    try:
        return named_in(read_notebook(path), "student")
    except UserError:
        return ""


def _folded(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))


def _in_path(relative: str, students: list[dict]) -> str | None:
    # The student whose name's words stand in the path in a row; the longest name where several do.
    words = f" {_folded(relative)} "
    hits = [s["student"] for s in students if f" {_folded(s['student'])} " in words]
    return max(hits, key=len) if hits else None


def _missing(
    students: list[dict] | None, submissions: list[Submission], folder: Path
) -> list[tuple[str, str]]:
    # (student, status) of those without a notebook; what else bears their name is said.
    there = {m.student for m in submissions}
    absent = [s for s in students or () if s["student"] not in there]
    others = [p for p in _files(folder) if p.suffix.lower() in HANDED_IN] if absent else []
    names = [str(p.relative_to(folder)) for p in others]
    return [
        (
            s["student"],
            "missing" + "".join(f"; no notebook, but {o}" for o in names if _in_path(o, [s])),
        )
        for s in absent
    ]


def _graded(s: Submission, folder: Path, of, key: Key, limits: Limits, done: dict) -> dict:
    name = str(s.path.relative_to(folder))
    try:
        digest = hashlib.sha256(s.path.read_bytes()).hexdigest()
        row = done.get((name, s.student, digest)) or {
            **grade(s.path, of.number, key=key, student=s.student, limits=limits),
            "file": name,
            "fresh": True,
        }
    except UserError as e:
        row = _empty(of, name, s.student, str(e))
    except OSError as e:
        row = _empty(of, name, s.student, f"cannot be read: {e.strerror}")
    except Exception as e:  # a defect of ours must not cost the other students their grades
        row = _empty(of, name, s.student, f"the grader failed: {type(e).__name__}: {e}")
    if s.status:
        row = row | {"status": f"{s.status}; {row['status']}"}
    return row


def _empty(of: catalog.LessonChecks, file: str, student: str, status: str) -> dict:
    return blank(of) | {"file": file, "student": student, "status": status}


# -------------------------------------------------------------------------------------- the journal


def _stamp(of: catalog.LessonChecks, key: Key) -> dict:
    # What must be equal for a kept result to stand: lesson, notebook as shipped, key, version.
    shipped = hashlib.sha256(catalog.notebook_path(of).read_bytes()).hexdigest()[:16]
    return {
        "lesson": of.number,
        "shipped": shipped,
        "key": fingerprint(key),
        "minicomp": __version__,
    }


def _journal(path: Path, of: catalog.LessonChecks, key: Key) -> dict:
    # Kept results by (file, student, sha256). A journal of another lesson, key or version is begun
    # anew; a last line that was cut off by an interruption is dropped.
    stamp = _stamp(of, key)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [row for row in map(_parsed, lines) if row is not None]
    if not rows or rows[0] != stamp:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(stamp) + "\n").encode())
        return {}
    return {(r["file"], r["student"], r["sha256"]): r for r in rows[1:]}


def _parsed(line: str) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _append(path: Path, row: dict) -> None:
    with open(path, "ab") as f:
        if f.tell() and not path.read_bytes().endswith(b"\n"):
            f.write(b"\n")
        f.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


# -------------------------------------------------------------------------------------- the outputs


def _write(rows: Iterable[dict], of: catalog.LessonChecks, out: Outputs) -> None:
    rows = list(rows)
    write_atomically(
        _parent(out.json), (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
    )
    write_atomically(_parent(out.csv), table(rows, of, _by_hand(out.csv)))
    out.feedback.mkdir(parents=True, exist_ok=True)
    for row in rows:
        write_atomically(out.feedback / f"{_safe(row)}.html", page(row, of).encode())


def table(rows: list[dict], of: catalog.LessonChecks, by_hand: dict | None = None) -> bytes:
    """Returns the CSV of results: UTF-8 with a byte-order mark, by which spreadsheets know it.

    by_hand : (student, file) -> what a teacher wrote into the column "manual", which is kept
    """
    ids, text = of.ids(), io.StringIO()
    end = ["prediction", "manual", "points", "max_points", "seconds", "status", "versions"]
    out = csv.writer(text)
    out.writerow(["student", "file", *ids, *end])
    for r in rows:
        who = [_cell(r["student"]), _cell(r["file"])]
        words = sum(m["words"] for m in r["manual"].values())
        cells = {
            "prediction": r["prediction"]["points"],
            "manual": (by_hand or {}).get(tuple(who), f"{words} words" if words else ""),
            "status": _cell(r["status"]),
            "versions": " ".join(f"{k} {v}" for k, v in r["versions"].items()),
        }
        points = (r["exercises"][i]["points"] for i in ids)
        out.writerow([*who, *points, *((r | cells)[name] for name in end)])
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _by_hand(path: Path) -> dict:
    # Points that a teacher wrote into the column "manual" of an earlier table.
    if not path.is_file():
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    return {
        (r.get("student"), r.get("file")): r["manual"]
        for r in rows
        if (r.get("manual") or "").strip() and not r["manual"].endswith(" words")
    }


def _cell(text: str) -> str:
    # A text that a spreadsheet would take for a formula is marked as text.
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _safe(row: dict) -> str:
    name = row["student"] or row["file"] or "nobody"
    name = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._")[:60]
    tail = hashlib.sha256(f"{row['student']}\n{row['file']}".encode()).hexdigest()[:6]
    return f"{name or 'student'}-{tail}"


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
