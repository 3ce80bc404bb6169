"""Grading what a class handed in: one row a file and student, a feedback page each, and nothing is
lost.

Every notebook gets a row, also those that are missing, twice there, or no notebook at all; whatever
is in one costs the others nothing. All files, the roster and the teacher's marks are read before
any code of a student runs. Results are kept in a journal as they come; an interrupted run, or one
after a few late submissions, takes up what has not changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from ...atomic import as_json, write_atomically
from ...errors import UserError, printable
from .. import catalog
from ..live.process import Limits, Nursery
from ..live.running import shipped
from ..notebook.cells import Notebook
from .copies import other_names, shared, work
from .feedback import page
from .grade import Key, check_lesson, empty, graded, named_in
from .handed_in import NET, File, read_all
from .journal import Journal
from .leaderboard import owned, with_files
from .roster import Student, named, of_path, read_roster
from .spreadsheet import fold
from .summary import summary
from .table import marked, read_kept, table


@dataclass(frozen=True)
class Outputs:
    """Where the results go; the journal and the class's page lie beside the table."""

    csv: Path
    json: Path
    feedback: Path

    @property
    def journal(self) -> Path:
        return self.csv.with_name(f".{self.csv.stem}.journal.jsonl")

    @property
    def summary(self) -> Path:
        return self.csv.with_name(f"{self.csv.stem}.html")


@dataclass(frozen=True)
class Submission:
    """One file of one student: its name, the student ("" where nobody is named), the notebook or
    what is wrong with it, and what its status says before how it went.
    """

    name: str
    student: str
    status: str = ""
    book: Notebook | None = None
    problem: str = ""


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

    folder : of what was handed in, or a zip of it
    roster : a CSV with a column "student" and optionally "file"        jobs : notebooks at a time
    Raises UserError where nothing was handed in, the roster has no students, or an earlier table
    cannot be read.
    """
    of = catalog.lesson(number)
    students = read_roster(roster) if roster is not None else None
    kept = read_kept(out.csv, of, [s.name for s in students or ()])
    files = [_of_lesson(f, of) for f in read_all(folder)]
    submissions = matched([f for f in files if not f.other], students)
    nets = [f for f in files if of.capstone and f.name.lower().endswith(NET)]
    if not submissions and not students and not nets:
        raise UserError(f"{printable(folder)}: there is no .ipynb file in it")
    works = ["" if s.problem else work(s.book, of, shipped(of)) for s in submissions]
    said = list(zip(shared(submissions, works), other_names(submissions, students)))
    journal = Journal(out.journal, of, key)
    if journal.dropped:
        log({"event": "note", "text": f"{out.journal}: {journal.dropped} lines are damaged or not"
                                      " signed with this key; what they held is graded anew"})
    rows = [empty(of, "", name, status) for name, status in _missing(students, submissions, files)]
    done = 0
    for row, which in _all_graded(submissions, of, key, limits, journal, jobs):
        for i in which:
            s, shares = submissions[i], "; ".join(filter(None, said[i]))
            told = "; ".join(filter(None, (s.status, row["status"])))
            status = "; ".join(filter(None, (told, shares)))
            mine = {"file": s.name, "student": s.student, "status": status}
            mine |= {"told": told, "shares": shares}  # who shares work is for the teacher alone
            rows.append(row | mine)
            done += 1
            told = {"event": "progress", "name": "grade", "done": done, "total": len(submissions)}
            log(told | {"file": s.name, "points": row["points"]})
    if of.capstone:
        rows = with_files(rows, owned(nets, students, submissions, matched), of, key, log)
    rows = marked(rows, kept, of)
    place = {s.name: i for i, s in enumerate(students or ())}
    rows.sort(key=lambda r: (place.get(r["student"], len(place)), r["file"]))
    write_atomically(_parent(out.csv), table(rows, of, kept))
    write_atomically(_parent(out.json), f"{as_json(rows, indent=1)}\n".encode())
    out.feedback.mkdir(parents=True, exist_ok=True)
    for row in rows:
        write_atomically(out.feedback / f"{_safe(row)}.html", page(row, of).encode())
    write_atomically(out.summary, summary(rows, of).encode())
    return rows


def _of_lesson(file: File, of: catalog.LessonChecks) -> File:
    # A file whose notebook is of another lesson has a problem; who handed it in may stand in it.
    try:
        if file.book is not None:
            check_lesson(file.book, file.name.rpartition("/")[2], of.number)
    except UserError as e:
        return replace(file, problem=str(e))
    return file


def matched(files: Iterable[File], students: list[Student] | None) -> list[Submission]:
    """Returns each file with its student.

    That is the roster's student of this file, or whose name stands in the path, or in the
    notebook. Without a roster, the name in the notebook or the file's name counts.
    """
    found = []
    for f in files:
        said = printable(named_in(f.book, "student")) if f.book is not None else ""
        who, status = said, ""
        if students is None:
            who = said or f.name.rpartition("/")[2].rpartition(".")[0]
        else:
            student, several = of_path(f.name, students)
            if student is None and said:
                mine = [s for s in several or students if fold(s.name) == fold(said)]
                student = mine[0] if mine else next(iter(_only(named(said, students))), None)
            if student is not None:
                who = student.name
            elif several:
                names = " or ".join(s.name for s in several[:3])
                who, status = "", f"whose it is, is open: {names}"
            else:
                status = "not in the roster"
        found.append(Submission(f.name, who, status, f.book, f.problem))
    files_of: dict[str, int] = {}
    for s in found:
        files_of[fold(s.student)] = files_of.get(fold(s.student), 0) + 1
    return [
        Submission(s.name, s.student, "; ".join(filter(None, (_twice(n), s.status))), s.book,
                   s.problem)
        for s in found
        for n in [files_of[fold(s.student)] if s.student else 1]
    ]


def _twice(n: int) -> str:
    return f"duplicate: {n} files" if n > 1 else ""


def _only(found: list) -> list:
    return found if len(found) == 1 else []


def _missing(
    students: list[Student] | None, submissions: list[Submission], files: list[File]
) -> list[tuple[str, str]]:
    # (student, status) of those without a notebook; what else bears their name is said.
    there = {s.student for s in submissions}
    others = [f.name for f in files if f.other]
    out = []
    for s in students or ():
        if s.name not in there:
            theirs = [o for o in others if of_path(o, [s])[0]][:5]
            out.append((s.name, "missing" + "".join(f"; no notebook, but {o}" for o in theirs)))
    return out


def _all_graded(
    submissions: list[Submission], of, key: Key, limits: Limits, journal: Journal, jobs: int
) -> Iterator[tuple[dict, list[int]]]:
    # Results as they come, each with the submissions that it is of: equal files are graded once.
    books: dict[str, list[int]] = {}
    for i, s in enumerate(submissions):
        if s.problem:
            yield empty(of, "", "", s.problem), [i]
        else:
            books.setdefault(s.book.sha256, []).append(i)
    with Nursery() as nursery:
        pool = ThreadPoolExecutor(max(jobs, 1))
        try:
            running = {
                pool.submit(
                    _graded, submissions[which[0]].book, of, key, limits, journal, nursery
                ): which
                for which in books.values()
            }
            for future in as_completed(running):
                row, fresh = future.result()
                if fresh:
                    journal.add(row)
                yield row, running[future]
        finally:
            pool.shutdown(cancel_futures=True)


def _graded(
    book: Notebook,
    of: catalog.LessonChecks,
    key: Key,
    limits: Limits,
    journal: Journal,
    nursery: Nursery,
) -> tuple[dict, bool]:
    # The result of one notebook, and whether it goes into the journal. Whatever is in it ends here:
    # the row can be written, and its page made.
    for kept in (journal.get(book.sha256), None):
        try:
            row = kept or graded(book, of.number, nursery, key=key, limits=limits)
            page(row, of).encode()
            table([row], of)
            as_json(row)
            return row, kept is None
        except Exception as e:  # a defect of ours must not cost the other students their grades
            why = f"the grader failed: {type(e).__name__}: {e}"
    return empty(of, "", "", printable(why)), False


def _safe(row: dict) -> str:
    name = row["student"] or row["file"] or "nobody"
    name = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._")[:60]
    tail = hashlib.sha256(f"{row['student']}\n{row['file']}".encode()).hexdigest()[:6]
    return f"{name or 'student'}-{tail}"


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
