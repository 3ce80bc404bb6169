"""Static pages of executed lessons, to be read without running anything, and an index of plots.

nbclient runs the solved notebook, nbconvert turns its cells into HTML. The frame around them,
formulas and colours are here: a page needs no network, and no script.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ... import __version__
from ...atomic import write_atomically
from ...errors import UserError
from .. import catalog
from .build import at, cells_of
from ..figures import formula
from .cells import stub, to_json

_STYLE = """
:root { --ink: #1a1a1a; --dim: #555; --line: #d9d9d9; --soft: #f5f6f8; --mark: #0072B2 }
* { box-sizing: border-box }
body { font: 17px/1.55 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 0 }
main, header, footer { max-width: 50rem; margin: 0 auto; padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.2 } h2 { font-size: 1.25rem; margin-top: 2.2rem }
a { color: var(--mark) } a.anchor-link { display: none }
pre { overflow-x: auto; margin: 0; padding: .7rem .8rem }
pre { font: 14px/1.45 ui-monospace, "DejaVu Sans Mono", monospace }
.input pre, .input_area pre, div.highlight pre { background: var(--soft) }
.input pre, .input_area pre, div.highlight pre { border-left: 3px solid var(--mark) }
.output_area pre { white-space: pre-wrap; color: #222 } .prompt { display: none }
.cell { margin: .8rem 0 } .output_wrapper { border-left: 3px solid var(--line) }
.output_area pre.matrix { white-space: pre }
.output_html { padding: .4rem .8rem }
img { max-width: 100%; height: auto } img.math { max-width: none }
.whole { white-space: nowrap }
.display { overflow-x: auto; text-align: center }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: .6rem 0 }
td, th { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left }
td, th { vertical-align: top } td[style*="right"] { white-space: nowrap }
blockquote, details { border-left: 3px solid var(--line); margin-left: 0; padding-left: .8rem }
blockquote, details, nav, footer { color: var(--dim) }
nav, footer { font-size: .9rem; padding-top: 1rem; padding-bottom: 1rem }
.gallery { display: grid; gap: 1.5rem; padding: 0 }
.gallery { grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)) }
.gallery li { list-style: none; border: 1px solid var(--line); border-radius: .4rem }
.gallery li { padding: .8rem } .gallery p { color: var(--dim); font-size: .9rem }
.gallery h2 { margin: .2rem 0 .5rem; font-size: 1.05rem }
.wide { max-width: 76rem }
@media (max-width: 30em) {
body { font-size: 16px; overflow-wrap: anywhere } pre { font-size: 12.5px }
td, th { padding: .25rem .3rem; font-size: .9em; overflow-wrap: normal }
.output_html { padding: .4rem .2rem .4rem .5rem }
}
"""


def site(
    lessons: Sequence[catalog.LessonChecks], folder: Path, *, mode: str, solutions: bool
) -> Path:
    """Executes lessons and writes one page each and index.html; returns the index.

    solutions : pages show the solutions; else the stubs, above what the solutions put out
    Raises UserError where nbclient and nbconvert are missing, or a lesson raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for of in sorted(lessons, key=lambda of: of.number):
        tree = executed(of, mode=mode)
        picture, note = memorable(tree), f"Executed in mode {mode}"
        if picture is not None:
            write_atomically(folder / f"{of.number}.png", picture[0])
        if not solutions:
            _hide_solutions(tree, of)
            note += ". Solutions are left out; what stands below a cell is the solved notebook's."
        body, colours = _body(tree)
        write_atomically(
            folder / f"{of.stem}.html",
            _page(
                f"Lesson {int(of.number)}: {of.title}",
                body,
                colours,
                nav=f'<a href="index.html">All lessons</a> &nbsp; {note}',
            ).encode(),
        )
        entries.append((of, picture[1] if picture else ""))
    index = folder / "index.html"
    write_atomically(index, _index(entries, mode).encode())
    return index


def executed(of: catalog.LessonChecks, *, mode: str) -> dict:
    """Returns the solved notebook of a lesson with its outputs."""
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError:
        raise UserError(
            "pages need nbclient and nbconvert: in the checkout, pip install '.[lessons]'"
        ) from None
    text = to_json(at(cells_of(of, solutions=True), mode=mode), {"lesson": of.number})
    book = nbformat.reads(text, as_version=4)
    with tempfile.TemporaryDirectory(prefix="minicomp-page-") as here:
        client = NotebookClient(
            book, timeout=3600, kernel_name="python3", resources={"metadata": {"path": here}}
        )
        try:
            client.execute()
        except CellExecutionError as e:
            raise UserError(f"lesson {of.number}: {str(e).strip()[-1500:]}") from None
    return book


def memorable(tree: dict) -> tuple[bytes, str] | None:
    """Returns the picture of the cell tagged memorable and its text, or None."""
    for cell in tree["cells"]:
        if "memorable" not in cell["metadata"].get("tags", []):
            continue
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            found = re.search(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)"', html)
            if found:
                return base64.b64decode(found[1]), found[2]
    return None


def _hide_solutions(tree: dict, of: catalog.LessonChecks) -> None:
    from .build import source_of
    from .cells import numbered, read_source

    stubs = {
        c.id: stub(c.source)
        for c in numbered(read_source(source_of(of)), of.number)
        if c.tagged("exercise")
    }
    for cell in tree["cells"]:
        if cell["id"] in stubs:
            cell["source"] = stubs[cell["id"]]


def _body(tree: dict) -> tuple[str, str]:
    # The cells as HTML, and the style sheet of the code's colours.
    import nbformat
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    book = nbformat.from_dict(json.loads(json.dumps(tree)))
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = with_formulas(cell.source)
    exporter = HTMLExporter(template_name="basic", sanitize_html=False)
    body, _ = exporter.from_notebook_node(book)
    # The rows of a matrix are not broken: they scroll.
    body = re.sub(r"<pre>(?=\(*array\()", '<pre class="matrix">', body)
    return body, HtmlFormatter(style="default").get_style_defs(".highlight")


def with_formulas(text: str) -> str:
    """Returns markdown with $formulas$ as pictures that have their TeX as text."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(
            r"\$\$(.+?)\$\$",
            lambda m: f'<div class="display">{_math(m[1], 1.15)}</div>',
            parts[i],
            flags=re.S,
        )
        parts[i] = re.sub(r"(?<![\\$])\$([^$\n]+?)\$([,.;:)]*)", _in_line, parts[i])
    return "".join(parts)


def _in_line(found: re.Match) -> str:
    # A stop never begins a line: it stays with the picture before it.
    picture = _math(found[1], 1.0)
    return f'<span class="whole">{picture}{found[2]}</span>' if found[2] else picture


def _math(tex: str, scale: float) -> str:
    svg, width, height, depth = formula(" ".join(tex.split()))
    data = base64.b64encode(svg).decode()
    return (
        f'<img class="math" src="data:image/svg+xml;base64,{data}"'
        f' alt="{escape(tex.strip(), quote=True)}" '
        f'style="width:{width * scale:.2f}em;height:{height * scale:.2f}em;'
        f'vertical-align:{-depth * scale:.2f}em">'
    )


def _index(entries: Sequence[tuple[catalog.LessonChecks, str]], mode: str) -> str:
    items = "".join(
        f'<li><a href="{of.stem}.html"><h2>{int(of.number)}. {escape(of.title)}</h2>'
        + (f'<img src="{of.number}.png" alt="{alt}"></a>' if alt else "</a>")
        + f"<p>{escape(', '.join(e.title for e in of.asked()))}</p></li>"
        for of, alt in entries
    )
    intro = (
        "<h1>minicomp lessons</h1><p>Network compression, by hand and on real networks. Every page"
        f" is an executed notebook (mode {escape(mode)}); each picture is the plot to remember of"
        " its lesson.</p>"
    )
    return _page("minicomp lessons", f'{intro}<ul class="gallery">{items}</ul>', "", wide=True)


def _page(title: str, body: str, colours: str, nav: str = "", wide: bool = False) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}{colours}</style></head><body><header><nav>{nav}</nav></header>"
        f'<main{" class=wide" if wide else ""}>{body}</main>'
        f"<footer{' class=wide' if wide else ''}>minicomp {__version__}. Lesson texts and pictures:"
        " CC BY 4.0.</footer></body></html>\n"
    )
