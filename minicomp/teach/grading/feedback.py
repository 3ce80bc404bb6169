"""The page that a student gets back: points, what is wrong and why; no hidden input."""

from __future__ import annotations

from html import escape

from ..catalog import LessonChecks
from ..asking.shown import MARK

_STYLE = """
:root { color-scheme: light dark }
body { font: 17px/1.5 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em }
body { overflow-wrap: anywhere }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin-top: 2em }
table { border-collapse: collapse; max-width: 100% }
td.n, th.n { text-align: right; white-space: nowrap }
td, th { padding: .25em .8em; border-bottom: 1px solid #8886; text-align: left }
th { overflow-wrap: normal } td:first-child { min-width: 7em }
pre { background: #8882; padding: .8em; overflow-x: auto; white-space: pre-wrap }
.wide { overflow-x: auto } .bar { display: inline-block; height: .8em; background: #4477aa }
.id { font-family: ui-monospace, monospace; font-size: .9em }
blockquote { margin: 1em 0; padding-left: 1em; border-left: 3px solid #8886 }
@media (max-width: 30em) { body { font-size: 15px } td, th { padding: .25em .3em } }
@media (max-width: 30em) { ul { padding-left: 1.2em } }
"""


def page(row: dict, of: LessonChecks) -> str:
    """Returns the feedback page of one result, a whole HTML document.

    With a teacher's mark in `by_hand` the points are those of machine and teacher together.
    """
    status = row.get("told", row["status"])  # of a class: no word about others
    parts = [
        f"<h1>Lesson {int(of.number)}: {escape(of.title)}</h1>",
        f"<p><strong>{escape(row['student'] or 'no name')}</strong>,"
        f" {escape(row['file'] or 'nothing handed in')}: <strong>{row['points']} of"
        f" {row['max_points']} points</strong>"
        + ("" if status == "graded" else f" ({escape(status)})")
        + "</p>",
        _table(row, of),
    ]
    for exercise in of.exercises + ((of.diagnosis.exercise(),) if of.diagnosis else ()):
        done = row["exercises"][exercise.id]
        if done["message_id"]:
            parts.append(
                f"<h2>{escape(exercise.title)}</h2><pre>{escape(done['report'])}</pre>"
                f"<p>The idea: {escape(exercise.hints[0])}</p>"
            )
    parts += _file(row) + _cells(row) + _words(row, of)
    return document(f"Lesson {of.number}: {row['student']}", "".join(parts))


def document(title: str, body: str) -> str:
    """Returns a whole HTML document that needs nothing beside itself.

    title : text        body : HTML
    """
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport"
        " content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _table(row: dict, of: LessonChecks) -> str:
    lines = ["<table><tr><th>exercise<th>parts<th class=n>points</tr>"]
    for id in of.ids():
        done = row["exercises"][id]
        each = ", ".join(
            f"{escape(p['name'])}: {MARK[p['points'] == p['max_points']]}" for p in done["parts"]
        )
        lines.append(
            f"<tr><td class=id>{escape(id)}<td>{each}<td class=n>{done['points']} of"
            f" {done['max_points']}</tr>"
        )
    if of.predictions:
        p = row["prediction"]
        lines.append(
            f"<tr><td>guesses before the run<td><td class=n>{p['points']} of {p['max_points']}</tr>"
        )
    if of.capstone:
        points = row["capstone"].get("points", 0)
        lines.append(f"<tr><td>your file<td><td class=n>{points} of {of.capstone.points}</tr>")
    by_hand = row.get("by_hand", {"points": None, "max_points": 0, "mark": ""})
    if by_hand["max_points"]:
        mark = by_hand["points"] if by_hand["points"] is not None else "not marked yet; 0"
        lines.append(
            "<tr><td>reflection, marked by hand<td><td class=n>"
            f"{mark} of {by_hand['max_points']}</tr>"
        )
    return "".join(lines) + "</table>"


def _file(row: dict) -> list[str]:
    # What was measured of the student's net; of the others only how many there are.
    c = row["capstone"]
    if not c:
        return []
    rank = f" Rank {c['rank']} of {c['of']}." if c["rank"] else ""
    name = f" ({escape(c['file'])})" if c["file"] else ""
    return [f"<h2>Your file{name}</h2><p>{escape(c['text'])}.{rank}</p>"]


def _cells(row: dict) -> list[str]:
    if not row["problems"]:
        return []
    items = "".join(
        f"<li>cell {p['cell'] + 1}: <span class=id>{escape(p['problem'])}</span></li>"
        for p in row["problems"]
    )
    return [f"<h2>Cells that did not run</h2><ul>{items}</ul>"]


def _words(row: dict, of: LessonChecks) -> list[str]:
    out = []
    for r in of.reflections:
        told = row["manual"].get(r.id)
        if told and told["words"]:
            out.append(
                f"<h2>Your reflection ({told['words']} words)</h2><p>{escape(r.question)}</p>"
                f"<blockquote>{escape(told['text'])}</blockquote>"
            )
    return out
