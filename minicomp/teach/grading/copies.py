"""Who shares work with whom: the same file, the same code, another's name inside. It is named, for
a teacher to look at, and never scored.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict

from ..catalog import LessonChecks
from ..notebook.cells import Notebook
from .grade import named_in
from .roster import Student, named, same_person

LEAST = 2  # exercises that must be written before the same code means something
_NAMED = 5


def work(book: Notebook, of: LessonChecks, shipped: Notebook) -> str:
    """Returns a digest of the exercises that a notebook has written, whatever its spacing, comments
    and other cells; "" where fewer than LEAST are written.
    """
    names = [e.name for e in of.exercises]
    mine, stubs = _sources(book, names), _sources(shipped, names)
    written = {n: c for n, c in mine.items() if c != stubs.get(n)}
    if len(written) < min(LEAST, len(names)):
        return ""
    return hashlib.sha256(repr(sorted(mine.items())).encode()).hexdigest()


def _sources(book: Notebook, names: list[str]) -> dict[str, str]:
    # By name of an exercise, a digest of the last cell that defines it.
    found = {}
    for cell, said in zip(book.cells, book.said):
        for name in said.defines & set(names):
            found[name] = _digest(cell.source)
    return found


def _digest(source: str) -> str:
    try:
        text = ast.dump(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        text = " ".join(source.split())
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def shared(submissions: list, works: list[str]) -> list[str]:
    """Returns for each submission with whom it shares a file or its code: "" with nobody.

    submissions : each with `student`, `name` and `book`        works : of `work`
    """
    files, codes = defaultdict(list), defaultdict(list)
    for i, (s, digest) in enumerate(zip(submissions, works)):
        if s.book is not None and digest:
            files[s.book.sha256].append(i)
            codes[digest].append(i)
    out = [""] * len(submissions)
    for what, groups in (("same code as", codes), ("same file as", files)):
        for group in groups.values():
            for i in group:
                others = [
                    submissions[k]
                    for k in group
                    if k != i and submissions[k].student != (submissions[i].student or None)
                ]
                told = [f"{o.student} ({o.name})" if o.student else o.name for o in others]
                more = [f"{len(told) - _NAMED} more"] if len(told) > _NAMED else []
                if told:
                    out[i] = f"{what} {', '.join(told[:_NAMED] + more)}"
    return out


def other_names(submissions: list, students: list[Student] | None) -> list[str]:
    """Returns for each submission what is odd about the name that its notebook bears, "" for
    nothing: it is that of another of the class or, where most bear their student's, of a stranger.
    """
    out = [""] * len(submissions)
    if students is None:
        return out
    by_name = {s.name: s for s in students}
    says = [named_in(s.book, "student") if s.book is not None else "" for s in submissions]
    known = [(i, say, by_name[s.student]) for i, (s, say) in enumerate(zip(submissions, says))
             if say and s.student in by_name]
    strange = []
    for i, say, student in known:
        if any(same_person(say, name) for name in (student.name, *student.also)):
            continue
        others = named(say, [s for s in students if s is not student])
        if others:
            out[i] = f"bears the name of {others[0].name}"
        else:
            strange.append((i, say))
    for i, say in strange if 2 * len(strange) < len(known) else ():
        out[i] = f"bears the name {say!r}"
    return out
