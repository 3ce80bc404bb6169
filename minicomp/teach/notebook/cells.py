"""Lesson sources (py:percent) and notebooks (JSON): reading both, and turning one into the other.

A source is Python with cell markers, as Jupytext writes it:

    # %% [markdown]
    # Text of a cell.
    # %% tags=["exercise:04.masked_sgd"]
    def masked_sgd(w, mask): ...

Jupytext opens these files too; this reader needs only the standard library, so that building and
grading work where Jupyter is not installed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from textwrap import dedent

from ...atomic import MARKS
from ...errors import UserError, printable

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MAX_NOTEBOOK_BYTES = 50 * 2**20
MAX_VALUES = 2_000_000  # of JSON: each takes up to about 100 bytes of memory
MAX_TEXT = 20_000  # letters that are kept of a reflection
MAX_CELLS, MAX_CELL, MAX_CODE = 1000, 50_000, 300_000  # cells; letters of a cell, of all code
_MARKER = re.compile(r"# %%(?P<kind> \[markdown\])?(?P<rest>.*)")
_TAGS = re.compile(r"tags=(\[.*?\])")
# A line of IPython's: what it assigns to, then a command, a magic or a question.
_MAGIC = re.compile(
    r"^(?P<indent>\s*)(?P<to>[A-Za-z_][\w.,\s\[\]]*=\s*)?"
    r"(?:!{1,2}(?P<command>.*)|%(?P<magic>[A-Za-z_]\w*)(?P<rest>.*)|\?.*|[\w.]+\?{1,2}\s*)$"
)
_TIMED = {"time", "prun", "memit", "mprun"}  # magics before a statement that is run as it is
_PYTHON = {*_TIMED, "timeit", "capture", "debug"}  # magics of a cell whose other lines are Python
_HOLE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


@dataclass(frozen=True)
class Cell:
    """One cell: kind "code" or "markdown", its text without a trailing newline, its tags."""

    kind: str
    source: str
    tags: tuple[str, ...] = ()
    id: str = ""

    def tagged(self, name: str) -> bool:
        """Returns whether a tag is `name` or starts with `name:`."""
        return any(t == name or t.startswith(name + ":") for t in self.tags)


@dataclass(frozen=True)
class Notebook:
    """A notebook's cells, what its metadata say about the lesson, and the file's digest."""

    cells: tuple[Cell, ...]
    meta: dict = field(default_factory=dict)
    sha256: str = ""
    problems: dict[int, str] = field(default_factory=dict)  # of cells that are not taken, by index

    @cached_property
    def said(self) -> tuple[Said, ...]:
        """What each cell says, in order; each is parsed once."""
        return tuple(said(c.source) if c.kind == "code" else Said() for c in self.cells)

    def calls(self, name: str) -> list[Call]:
        """Returns the calls of a function of ASKED in all code cells, in order."""
        return [call for s in self.said for call in s.calls if call.name == name]

    def code(self) -> list[Cell]:
        """Returns the code cells in order."""
        return [c for c in self.cells if c.kind == "code"]


def read_source(text: str) -> list[Cell]:
    """Returns the cells of a py:percent source; what stands before the first marker is left out."""
    cells, kind, tags, lines = [], None, (), []

    def close():
        if kind is None:
            return
        body = [re.sub(r"^# ?", "", line) for line in lines] if kind == "markdown" else lines
        cells.append(Cell(kind, "\n".join(body).strip("\n"), tags))

    for line in text.splitlines():
        marker = _MARKER.match(line)
        if marker is None:
            lines.append(line)
            continue
        close()
        kind, lines = "markdown" if marker["kind"] else "code", []
        found = _TAGS.search(marker["rest"])
        tags = tuple(json.loads(found[1])) if found else ()
    close()
    return [c for c in cells if c.source]


def numbered(cells: list[Cell], lesson: str) -> list[Cell]:
    """Returns the cells with fixed ids: of the first tag with a colon, else of the place."""
    named, taken = [], set()
    for i, cell in enumerate(cells):
        tag = next((t for t in cell.tags if ":" in t), f"cell:{lesson}.{i:02d}")
        base = re.sub(r"[^A-Za-z0-9_-]", "-", tag)[:60]
        unique = base if base not in taken else f"{base}-{i}"
        taken.add(unique)
        named.append(replace(cell, id=unique))
    return named


def stub(source: str) -> str:
    """Returns an exercise cell with each solution replaced by `raise NotImplementedError`.

    Raises UserError where BEGIN and END do not pair.
    """
    out, inside = [], False
    for line in source.splitlines():
        text = line.strip()
        if text == BEGIN:
            if inside:
                raise UserError(f"{BEGIN} stands twice without {END}")
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            out.append(f'{indent}raise NotImplementedError("your code here")')
        elif text == END:
            if not inside:
                raise UserError(f"{END} stands without {BEGIN}")
            inside = False
        elif not inside:
            out.append(line)
    if inside:
        raise UserError(f"{BEGIN} stands without {END}")
    return "\n".join(out)


def unmarked(source: str) -> str:
    """Returns an exercise cell with its solution and without the marks around it."""
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))


def filled(source: str, numbers: dict) -> str:
    """Returns a markdown cell with expected numbers for its {{data:key}} and {{data:key:range}}.

    numbers : what lessons/expected/NN.json holds
    Raises UserError for a number that is not there.
    """

    def value(match: re.Match) -> str:
        data, key, *how = match[1].split(":")
        try:
            row = numbers["data"][data]["results"][key]
        except KeyError:
            raise UserError(
                f"no expected number {match[1]!r}; `minicomp lesson build --expected` records it"
            ) from None
        return span(row) if how == ["range"] else with_unit(row["mean"], row)

    return _HOLE.sub(value, source)


def with_unit(value: float, row: dict) -> str:
    """Returns a number with the row's decimals and unit."""
    return f"{value:,.{row.get('digits', 2)}f}{' ' + row['unit'] if row.get('unit') else ''}"


def span(row: dict) -> str:
    """Returns "low to high unit" of an expected row."""
    low = f"{row['low']:,.{row.get('digits', 2)}f}"
    return f"{low} to {with_unit(row['high'], row)}"


def to_json(cells: list[Cell], meta: dict) -> str:
    """Returns the cells as a notebook file: format 4.5, no outputs, always the same bytes."""
    rows = [
        {
            "cell_type": cell.kind,
            "id": cell.id,
            "metadata": {"tags": list(cell.tags)} if cell.tags else {},
            "source": cell.source.splitlines(keepends=True),
            **({"execution_count": None, "outputs": []} if cell.kind == "code" else {}),
        }
        for cell in cells
    ]
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "minicomp": meta,
    }
    book = {"cells": rows, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def read_notebook(path: Path) -> Notebook:
    """Returns the notebook in a file; UserError says in one line why it is none."""
    return parsed_notebook(read_bytes(path), path.name)


def parsed_notebook(raw: bytes, name: str) -> Notebook:
    """Returns the notebook that a file's bytes are, of nbformat 3 or 4, in bounded time and memory.

    Text that cannot be written as UTF-8 is mended. A cell that is too long to be parsed stands
    empty, and `problems` says so.
    Raises UserError, naming `name`: not a notebook, or too large for one.
    """
    name = printable(name, 100)
    if not raw.strip(b"\0 \r\n\t"):
        raise UserError(f"{name}: not a notebook (not JSON: the file is empty)")
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise UserError(f"{name}: more than {MAX_VALUES:,} values, no notebook of a lesson")
    try:
        mark, encoding = next(((m, e) for m, e in MARKS if raw.startswith(m)), (b"", "utf-8"))
        tree = _dict(json.loads(raw[len(mark):].decode(encoding)))
    except (ValueError, RecursionError):
        raise UserError(f"{name}: not a notebook (not JSON)") from None
    rows = tree.get("cells")
    if not isinstance(rows, list):  # nbformat 3
        sheets = map(_dict, _list(tree.get("worksheets")))
        rows = [row for s in sheets for row in _list(s.get("cells"))]
    if not rows and tree.get("cells") != []:
        raise UserError(f"{name}: not a notebook (no cells)")
    if len(rows) > MAX_CELLS:
        raise UserError(f"{name}: {len(rows):,} cells, more than {MAX_CELLS:,}")
    cells, problems = _bounded([c for c in map(_cell, rows) if c is not None])
    lesson = _dict(_dict(tree.get("metadata")).get("minicomp"))
    meta = {str(k): _clean(str(v))[:200] for k, v in list(lesson.items())[:20]}
    return Notebook(cells, meta, hashlib.sha256(raw).hexdigest(), problems)


def _bounded(cells: list[Cell]) -> tuple[tuple[Cell, ...], dict[int, str]]:
    # Cells that are short enough to be parsed and run, those that are not emptied.
    problems: dict[int, str] = {}
    left = MAX_CODE
    for i, cell in enumerate(cells):
        size = len(cell.source)
        if cell.kind != "code":
            cells[i] = replace(cell, source=cell.source[:MAX_CELL])
        elif size > min(left, MAX_CELL):
            most = f"{MAX_CELL:,} in a cell, {MAX_CODE:,} in a notebook"
            problems[i] = f"not run: {size:,} letters; there may be {most}"
            cells[i] = replace(cell, source="")
        else:
            left -= size
    return tuple(cells), problems


def read_bytes(path: Path, *, links: bool = True) -> bytes:
    """Returns a file's bytes, at most MAX_NOTEBOOK_BYTES; UserError says why not.

    links : whether a symbolic link is followed: in what students hand in it may lead to a file of
        the teacher's
    Nothing but a regular file is read: a pipe may never end.
    """
    name = printable(path.name, 100)
    try:
        if not links and path.is_symlink():
            raise UserError(f"{name}: a link, which is not followed; hand in the file itself")
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{name}: a folder, a pipe or a device, not a file")
        with open(path, "rb") as f:
            raw = f.read(MAX_NOTEBOOK_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{printable(path)}: there is no such file") from None
    except OSError as e:
        raise UserError(f"{name}: cannot be read: {e.strerror}") from None
    if len(raw) > MAX_NOTEBOOK_BYTES:
        raise UserError(f"{name}: larger than {MAX_NOTEBOOK_BYTES // 2**20} MiB")
    return raw


def _clean(text: str) -> str:
    # Half of a surrogate pair, which JSON can escape, is no letter and cannot be written.
    return text.encode("utf-8", "replace").decode()


def _list(value) -> list:
    return value if isinstance(value, list) else []


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _cell(row) -> Cell | None:
    # A cell as far as it can be understood; None for what is no cell.
    if not isinstance(row, dict):
        return None
    source = row.get("source", row.get("input", ""))  # nbformat 3 calls it input
    if isinstance(source, list):
        source = "".join(s for s in source if isinstance(s, str))
    if not isinstance(source, str):
        return None
    tags = _list(_dict(row.get("metadata")).get("tags"))[:50]
    named = tuple(_clean(t)[:100] for t in tags if isinstance(t, str))
    kind = "code" if row.get("cell_type") == "code" else "markdown"
    return Cell(kind, _clean(source), named, _clean(str(row.get("id", "")))[:100])


def _parsed(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():  # of a student's "\d" or `x is 1`
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def plain(source: str) -> str:
    """Returns a cell as plain Python: where it does not parse, IPython's magics and commands become
    calls of `get_ipython()`, and a cell in another language becomes nothing.

    >>> plain("x = %pwd")
    "x = get_ipython().run_line_magic('pwd', '')"
    """
    return source if _parsed(source) is not None else _translated(source)


def _translated(source: str) -> str:
    lines = dedent(source).splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].startswith("%%"):
        if (re.findall(r"\w+", lines[first]) or [""])[0] not in _PYTHON:
            return ""
        lines[first] = ""
    return "\n".join(_MAGIC.sub(_as_call, line) for line in lines)


def _as_call(line: re.Match) -> str:
    begin = f"{line['indent']}{line['to'] or ''}"
    if line["command"] is not None:
        how = "getoutput" if line["to"] else "system"
        return f"{begin}get_ipython().{how}({line['command'].strip()!r})"
    if line["magic"] is None:
        return f"{begin}None"
    rest = line["rest"].strip()
    if line["magic"] in _TIMED and rest and not line["to"]:
        return f"{begin}{rest}"
    return f"{begin}get_ipython().run_line_magic({line['magic']!r}, {rest!r})"


@dataclass(frozen=True)
class Call:
    """A call of a function by its plain name: its arguments where they are one text or number,
    None for each that is anything else.
    """

    name: str
    args: tuple = ()
    keywords: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """What a cell says, without being run: the names it binds at its top level, and its calls."""

    defines: frozenset[str] = frozenset()
    calls: tuple[Call, ...] = ()


def said(source: str) -> Said:
    """Returns what a code cell says; nothing where it is no Python."""
    tree = _parsed(source) or _parsed(_translated(source))
    if tree is None:
        return Said()
    found = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    ]
    found.sort(key=lambda n: (n.lineno, n.col_offset))
    calls = (
        Call(
            n.func.id,
            tuple(map(_scalar, n.args[:8])),
            {k.arg: _scalar(k.value) for k in n.keywords[:20] if k.arg},
        )
        for n in found
        if n.func.id in ASKED
    )
    return Said(frozenset(_bound(tree)), tuple(calls))


ASKED = ("Lesson", "check", "predict", "reflect")  # the calls that grading reads


def _scalar(node: ast.AST) -> str | int | float | None:
    # One text, cut, or one number of a size that can be written down.
    if isinstance(node, ast.Constant | ast.UnaryOp):
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = ast.literal_eval(node)
            if isinstance(value, str):
                return _clean(value[:MAX_TEXT])
            if isinstance(value, int | float) and abs(value) < 1e15:
                return value
    return None


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((a.asname or a.name).split(".")[0] for a in node.names)
