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
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import UserError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MAX_NOTEBOOK_BYTES = 50 * 2**20
_MARKER = re.compile(r"# %%(?P<kind> \[markdown\])?(?P<rest>.*)")
_TAGS = re.compile(r"tags=(\[.*?\])")
_MAGIC = re.compile(r"^(\s*)(?:[!?].*|%[A-Za-z]+.*|[\w.]+\?{1,2}\s*)$")
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
    raw = _read(path)
    try:
        tree = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise UserError(f"{path.name}: not a notebook (not JSON)") from None
    tree = _dict(tree)
    if not isinstance(tree.get("cells"), list):
        old = "a notebook of the old format 3; save it again with Jupyter"
        why = old if "worksheets" in tree else "not a notebook (no cells)"
        raise UserError(f"{path.name}: {why}")
    cells = tuple(filter(None, map(_cell, tree["cells"])))
    lesson = _dict(_dict(tree.get("metadata")).get("minicomp"))
    return Notebook(cells, lesson, hashlib.sha256(raw).hexdigest())


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size <= MAX_NOTEBOOK_BYTES:
            return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as e:
        raise UserError(f"{path.name}: cannot be read: {e.strerror}") from None
    raise UserError(f"{path.name}: larger than {MAX_NOTEBOOK_BYTES // 2**20} MiB")


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _cell(row) -> Cell | None:
    # A cell as far as it can be understood; None for what is no cell.
    if not isinstance(row, dict):
        return None
    source = row.get("source", "")
    if isinstance(source, list):
        source = "".join(s for s in source if isinstance(s, str))
    if not isinstance(source, str):
        return None
    tags = _dict(row.get("metadata")).get("tags")
    named = tuple(t for t in tags if isinstance(t, str)) if isinstance(tags, list) else ()
    kind = "code" if row.get("cell_type") == "code" else "markdown"
    return Cell(kind, source, named, str(row.get("id", "")))


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def plain(source: str) -> str:
    """Returns a cell as plain Python: where it does not parse, IPython's magics go."""
    if _parsed(source) is not None:
        return source
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        lines[0] = ""
    return "\n".join(_MAGIC.sub(r"\1pass", line) for line in lines)


def calls(cells: list[Cell], name: str) -> list[ast.Call]:
    """Returns the calls of the function `name` in all cells that are Python, in order."""
    found = []
    for tree in filter(None, (_parsed(plain(cell.source)) for cell in cells)):
        nodes = [
            n
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name
        ]
        found += sorted(nodes, key=lambda n: (n.lineno, n.col_offset))
    return found


def literal(node: ast.AST):
    """Returns the value of a literal expression, or None where it is none."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def defines(source: str) -> set[str]:
    """Returns the names that a cell binds at its top level; empty where it is not Python."""
    names: set[str] = set()
    for node in getattr(_parsed(plain(source)), "body", ()):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(a.asname or a.name).split(".")[0] for a in node.names}
    return names
