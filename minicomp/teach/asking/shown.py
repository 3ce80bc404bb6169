"""What a notebook cell displays: verdicts, hints, tables and pictures, as text and as HTML.

Each object has a plain text (`__repr__`) that says the same as its HTML: nothing is said by colour
alone.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from .exercise import Verdict

MARK = {True: "pass", False: "FAIL"}


class Text:
    """Some lines to read."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Shown(Text):
    """A verdict; `verdict` holds it."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict
        super().__init__(verdict_text(verdict))


class Measured(Text):
    """A line about a net's file; `found` holds what was measured."""

    def __init__(self, found: dict, text: str):
        self.found = found
        super().__init__(text)


def verdict_text(verdict: Verdict, show_hidden: bool = True) -> str:
    """Returns what a student reads after a check.

    show_hidden : whether inputs of hidden cases are shown
    """
    e = verdict.exercise
    lines = [f"{e.id}   {verdict.points} of {e.max_points} points"]
    width = max(len(p.name) for p in verdict.parts)
    lines += [
        f"  {MARK[p.message is None]}  {p.name:<{width}}  {p.points} of {p.max_points}"
        for p in verdict.parts
    ]
    if verdict.message is None:
        return "\n".join(lines)
    lines += ["", f"{verdict.message_id}", f"  {verdict.message.text}"]
    if verdict.message.slug in ("not-written", "missing"):
        return "\n".join(lines)
    if verdict.message.detail and (show_hidden or not verdict.detail_hidden):
        lines += ["  " + line for line in verdict.message.detail.splitlines()]
    lines += [f"  Counts as right: {e.tolerance}."]
    if verdict.message.slug not in ("library",):
        lines += [f'  Stuck? hint("{e.id}", 1), then 2, then 3.']
    return "\n".join(lines)


class Table:
    """Rows under a header, with a caption below.

    header : a title a column        rows : the same number of entries each, shown as they are
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence], caption: str = ""):
        self.header, self.caption = [str(h) for h in header], caption
        self.rows = [[str(c) for c in row] for row in rows]

    def __repr__(self) -> str:
        widths = [
            max(len(r[i]) for r in [self.header, *self.rows]) for i in range(len(self.header))
        ]
        lines = [
            "  ".join(
                c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))
            ).rstrip()
            for row in [self.header, ["-" * w for w in widths], *self.rows]
        ]
        return "\n".join(lines + ([self.caption] if self.caption else []))

    def _repr_html_(self) -> str:
        def cells(row, tag):
            return "".join(
                f'<{tag} style="text-align:{"left" if i == 0 else "right"}">{escape(c)}</{tag}>'
                for i, c in enumerate(row)
            )

        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in self.rows)
        note = (
            f'<p style="max-width:48em"><em>{escape(self.caption)}</em></p>' if self.caption else ""
        )
        return (
            "<div"
            f' style="overflow-x:auto"><table><thead><tr>{cells(self.header, "th")}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{note}"
        )


class Figure:
    """A picture with a text that says what is in it.

    png : the file's bytes        alt : the text, made from the numbers that are drawn
    """

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = png, alt

    def __repr__(self) -> str:
        return f"[picture] {self.alt}"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        return (
            f'<img src="data:image/png;base64,{data}" alt="{escape(self.alt, quote=True)}" '
            'style="max-width:100%;height:auto">'
        )

