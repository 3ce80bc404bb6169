"""The class on one page, for the teacher: points, misconceptions, who shares work, what is missing
and what waits for a mark. One HTML file without scripts, pictures or anything from a network.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from html import escape
from statistics import mean, median

from ..catalog import LessonChecks
from .feedback import document
from .leaderboard import HEADER, board

_BINS = 10
_NOTHING = ("not-written", "missing")  # no misconception: nothing was written


def summary(rows: list[dict], of: LessonChecks) -> str:
    """Returns the page of a class's results, a whole HTML document."""
    best = _best(rows)
    there = [r for r in best if r["file"]]
    absent = [r["student"] for r in best if r["status"].startswith("missing")]
    title = f"Lesson {int(of.number)}: {of.title}"
    parts = [f"<h1>{escape(title)}, the class</h1>", _head(best, there, absent)]
    parts += _distribution(there) + _leaderboard(rows, of)
    parts += _exercises(there, of) + _misconceptions(there)
    parts += _list("Who shares work", rows, lambda r: r.get("shares", ""))
    parts += _waiting(rows, of)
    parts += _names("Missing", absent)
    parts += _list("What else was odd", rows, _odd)
    return document(f"{title}, the class", "".join(parts))


def _best(rows: list[dict]) -> list[dict]:
    # The best row of each student; rows of nobody stand for themselves.
    found: dict[str, dict] = {}
    for i, row in enumerate(rows):
        who = row["student"] or f"\0{i}"
        if who not in found or row["points"] > found[who]["points"]:
            found[who] = row
    return list(found.values())


def _head(best: list[dict], there: list[dict], absent: list[str]) -> str:
    if not there:
        return "<p>Nobody handed in a notebook.</p>"
    points = [r["points"] for r in there]
    most = there[0]["max_points"]
    waiting = sum(r.get("by_hand", {}).get("needed", False) for r in best)
    told = [
        f"{len(there)} of {len(best)} handed in",
        f"mean {mean(points):.1f} and median {median(points):.4g} of {most} points",
        f"{len(absent)} missing",
        f"{waiting} waiting for a mark by hand",
    ]
    return f"<p>{'; '.join(told)}.</p>"


def _distribution(there: list[dict]) -> list[str]:
    if not there:
        return []
    most = max(there[0]["max_points"], 1)
    width = -(-(most + 1) // _BINS)  # points of a bin, rounded up
    count = Counter(int(min(max(r["points"], 0), most) // width) for r in there)
    lines = []
    for b in range(int(most // width) + 1):
        low, high = b * width, min((b + 1) * width - 1, most)
        lines.append([f"{low}" if low == high else f"{low} to {high}", count[b], _bar(count[b])])
    return ["<h2>Points</h2>", _table(["points", "students", ""], lines)]


def _leaderboard(rows: list[dict], of: LessonChecks) -> list[str]:
    lines = board([r for r in rows if r["capstone"]], of.capstone) if of.capstone else []
    if not lines:
        return []
    return ["<h2>The leaderboard</h2><p>Of each kind of digits, files that err on at most"
            f" {of.capstone.limit:g} % of {of.capstone.images:,} unseen images: by bytes, then by"
            " time, a multiple of the dense LeNet-300-100's in the same run.</p>",
            _table(list(HEADER), lines)]


def _bar(n: int) -> str:
    return f"<span class=bar style='width:{min(n, 60) * 0.5}em'></span>"


def _exercises(there: list[dict], of: LessonChecks) -> list[str]:
    lines = []
    for e in of.asked() if there else ():
        done = [r["exercises"][e.id] for r in there]
        written = [d for d in done if d["message_id"].rpartition("/")[2] not in _NOTHING
                   and d["parts"]]
        lines.append([
            f"<span class=id>{escape(e.id)}</span>",
            len(written),
            sum(d["points"] == d["max_points"] for d in done),
            f"{mean(d['points'] for d in done):.1f} of {e.max_points}",
        ])
    return ["<h2>Exercises</h2>", _table(["exercise", "written", "all right", "mean"], lines)]


def _misconceptions(there: list[dict]) -> list[str]:
    found = defaultdict(list)
    for r in there:
        for done in r["exercises"].values():
            if done["message_id"] and done["message_id"].rpartition("/")[2] not in _NOTHING:
                found[done["message_id"]].append((r, done))
    if not found:
        return ["<h2>What went wrong</h2><p>Nothing that was written.</p>"]
    parts = ["<h2>What went wrong, most frequent first</h2>"]
    for id, who in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        row, done = who[0]
        names = ", ".join(escape(r["student"] or r["file"]) for r, _ in who)
        parts.append(
            f"<p><strong>{len(who)}</strong> <span class=id>{escape(id)}</span>:"
            f" {escape(done['message'])}</p><details><summary>who, and what"
            f" {escape(row['student'] or row['file'])} was told</summary>"
            f"<p>{names}</p><pre>{escape(done['report'])}</pre></details>"
        )
    return parts


def _waiting(rows: list[dict], of: LessonChecks) -> list[str]:
    waiting = [r for r in rows if r.get("by_hand", {}).get("needed")]
    if not waiting:
        return []
    parts = ["<h2>To be marked by hand</h2><p>Write the points into the column <code>manual</code>"
             " of the table and grade again: they count, and stand on the student's page.</p>"]
    for asked in of.reflections:
        rubric = "".join(f"<li>{points}: {escape(what)}</li>" for points, what in asked.rubric)
        parts.append(f"<p>{escape(asked.question)}</p><ul>{rubric}</ul>")
        for r in waiting:
            text = r["manual"].get(asked.id, {"text": "", "words": 0})
            who = f"{escape(r['student'] or '?')} ({escape(r['file'])})"
            parts.append(f"<details><summary>{who}: {text['words']} words</summary>"
                         f"<blockquote>{escape(text['text'])}</blockquote></details>")
    return parts


def _names(title: str, names: list[str]) -> list[str]:
    return [f"<h2>{title}</h2><p>{escape(', '.join(names))}</p>"] if names else []


def _list(title: str, rows: list[dict], what) -> list[str]:
    lines = [
        [escape(r["student"] or "?"), escape(r["file"]), escape(told)]
        for r in rows
        if (told := what(r))
    ]
    return [f"<h2>{title}</h2>", _table(["student", "file", ""], lines)] if lines else []


def _odd(row: dict) -> str:
    status = row["status"]
    return "" if status == "graded" or status.startswith("missing") else status


def _table(header: list[str], lines: list[list]) -> str:
    # Cells are HTML; numbers stand at the right.
    head = "".join(f"<th>{h}</th>" for h in header)
    body = "".join(
        "<tr>" + "".join(f"<td class=n>{c}</td>" if isinstance(c, int) else f"<td>{c}</td>"
                         for c in line) + "</tr>"
        for line in lines
    )
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"
