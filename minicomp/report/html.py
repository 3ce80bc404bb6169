"""The page: one HTML file that needs nothing else.

Pictures are SVG images inside the file; there is no script and nothing is fetched, so the page can
be mailed, archived and opened in ten years. Names come from files that strangers may have made:
every text is escaped.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from ..atomic import write_atomically
from ..errors import printable


@dataclass(frozen=True)
class Picture:
    """A figure with words.

    figure : a Matplotlib Figure        alt : what it shows, in the numbers that it shows
    """

    title: str
    figure: object
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers, which are set to the right; `last`: the last row is a total."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence]
    caption: str = ""
    last: bool = False


@dataclass(frozen=True)
class Notes:
    """Pairs of a word and a text of any length, which wraps at the page's width."""

    title: str
    pairs: Sequence[tuple[str, str]]


@dataclass
class Page:
    """What a page says, from top to bottom.

    facts : (name, value, remark) in large type
    blocks : Pictures, Tables, Notes and paragraphs (str)
    """

    title: str
    lead: str = ""
    facts: list[tuple[str, str, str]] = field(default_factory=list)
    blocks: list[Picture | Table | Notes | str] = field(default_factory=list)
    foot: str = ""


def render(page: Page) -> str:
    """Returns the page as HTML."""
    facts = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}"
        f"<span>{_text(remark)}</span></dd></div>"
        for name, value, remark in page.facts
    )
    parts = [
        f"<h1>{_text(page.title)}</h1>",
        f'<p class="lead">{_lines(page.lead)}</p>' if page.lead else "",
        f'<dl class="facts">{facts}</dl>' if facts else "",
        *map(_block, page.blocks),
        f"<footer>{_lines(page.foot)}</footer>" if page.foot else "",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(page.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main>\n</body>\n</html>\n"
    )


def write(page: Page, path: str | Path) -> int:
    """Writes the page to `path`, whole or not at all, and returns its bytes."""
    data = render(page).encode("utf-8")
    write_atomically(Path(path), data)
    return len(data)


def svg(figure) -> str:
    """Returns a figure as SVG text, letters as outlines; the same text for the same figure."""
    from .plots import style

    out = io.StringIO()
    with style():
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def cell(value) -> str:
    """Returns a table's entry as text: thousands set apart, floats to 4 digits.

    >>> [cell(v) for v in (431080, 0.91999, 2.6425, 12.0, True, "fc1", None)]
    ['431,080', '0.92', '2.643', '12', 'yes', 'fc1', '']
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _text(text: str) -> str:
    # A line of text that may hold a stranger's names.
    return escape(printable(text, 2000))


def _lines(text: str) -> str:
    # A paragraph, which is ours and has line ends, that may hold a stranger's names.
    return "\n".join(escape(printable(line, 20_000)) for line in text.split("\n"))


def _block(block) -> str:
    if isinstance(block, str):
        return f"<p>{_lines(block)}</p>"
    if isinstance(block, Notes):
        pairs = "".join(f"<dt>{_lines(w)}</dt><dd>{_lines(t)}</dd>" for w, t in block.pairs)
        return f'<section><h2>{_text(block.title)}</h2>\n<dl class="notes">{pairs}</dl></section>'
    return _picture(block) if isinstance(block, Picture) else _table(block)


def _picture(p: Picture) -> str:
    image = base64.b64encode(svg(p.figure).encode("utf-8")).decode("ascii")
    width, height = (round(96 * inches) for inches in p.figure.get_size_inches())
    caption = f"<figcaption>{_lines(p.caption)}</figcaption>" if p.caption else ""
    return (
        f'<section><h2>{_text(p.title)}</h2>\n<figure><img alt="{_text(p.alt)}" '
        f'width="{width}" height="{height}" src="data:image/svg+xml;base64,{image}">'
        f"{caption}</figure></section>"
    )


def _table(t: Table) -> str:
    head = "".join(
        f'<th scope="col"{_side(t.rows, i)}>{_text(h)}</th>' for i, h in enumerate(t.headers)
    )
    body = []
    for r, row in enumerate(t.rows):
        cells = "".join(
            (
                f'<th scope="row">{_text(cell(v))}</th>'
                if i == 0
                else f"<td{_side(t.rows, i)}>{_text(cell(v))}</td>"
            )
            for i, v in enumerate(row)
        )
        total = t.last and r == len(t.rows) - 1
        body.append(f'<tr class="total">{cells}</tr>' if total else f"<tr>{cells}</tr>")
    caption = f'<p class="caption">{_lines(t.caption)}</p>' if t.caption else ""
    return (
        f'<section><h2>{_text(t.title)}</h2>\n<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{_text(t.title)}"><table><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(body)
        + f"</tbody></table></div>{caption}</section>"
    )


def _side(rows: Sequence[Sequence], i: int) -> str:
    values = [row[i] for row in rows if row[i] not in ("", None)]
    numbers = values and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in values
    )
    return ' class="n"' if numbers else ""


CSS = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #595959; --line: #d9d9d9; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 1.0625rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
    sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em;
  text-wrap: balance; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .75rem; break-after: avoid; }
p { max-width: 44rem; margin: .75rem 0; }
.lead { font-size: 1.125rem; }
.lead, .caption, figcaption, footer { color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11.5rem, 1fr));
  gap: 1rem 1.5rem; margin: 2rem 0 0; padding: 1.25rem 0;
  border: solid var(--line); border-width: 1px 0; }
.facts dt { color: var(--soft); font-size: .9375rem; }
.facts dd { margin: 0; font-size: 1.75rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.facts span { display: block; font-size: .9375rem; font-weight: 400; line-height: 1.4;
  color: var(--soft); }
figure { margin: 0; }
img { display: block; width: 100%; max-width: 40rem; height: auto; }
figcaption, .caption { max-width: 44rem; margin: .5rem 0 0; font-size: .9375rem;
  line-height: 1.5; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; line-height: 1.5;
  font-variant-numeric: tabular-nums; }
th, td { padding: .375rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { padding-left: 0; }
th:first-child { position: sticky; left: 0; background: #fff; }
.notes { font-size: .9375rem; line-height: 1.5; max-width: 44rem; }
.notes dt { font-weight: 600; }
.notes dd { margin: 0 0 .6rem; color: var(--soft); overflow-wrap: anywhere; }
thead th { font-weight: 600; color: var(--soft); border-bottom: 2px solid var(--ink);
  vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
.n { text-align: right; }
td.n { white-space: nowrap; }
.total th, .total td { font-weight: 650; border-bottom: 0; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line);
  font-size: .9375rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.625rem; }
  h2 { margin-top: 2.25rem; }
  .facts { grid-template-columns: 1fr 1fr; gap: .9rem 1rem; }
  .facts dd { font-size: 1.375rem; }
}
@media print {
  @page { margin: 16mm; }
  :root { font-size: 11.5px; }
  main { max-width: none; padding: 0; }
  h2 { margin-top: 1.75rem; }
  .facts { grid-template-columns: repeat(4, 1fr); }
  figure, tr, .facts { break-inside: avoid; }
  img { max-width: 10.5cm; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .2rem .35rem; }
}
"""
