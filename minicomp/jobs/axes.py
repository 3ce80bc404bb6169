"""What varies in a sweep: braces in words, as shells write them, and lists in a recipe.

    magnitude:sparsity={0.8,0.9}      magnitude:sparsity=0.8   magnitude:sparsity=0.9
    {magnitude,lamp}:sparsity=0.9     magnitude:sparsity=0.9   lamp:sparsity=0.9
    kmeans:bits={2..4}                kmeans:bits=2   kmeans:bits=3   kmeans:bits=4
    sparsity = [0.8, 0.9]             sparsity = 0.8           sparsity = 0.9

A sweep takes every choice of one with every choice of another.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from ..errors import UserError, printable

MOST, MOST_BRACES = 10_000, 100  # of what one text or recipe stands for; of a text


def alternatives(text: str) -> list[str]:
    """Returns what a text with braces stands for, in order; a text without any is itself.

    Raises UserError for braces that do not pair or hold no alternatives, and for too many.

    >>> alternatives("{a,b}:{1..3}")
    ['a:1', 'a:2', 'a:3', 'b:1', 'b:2', 'b:3']
    """
    if text.count("{") > MOST_BRACES:
        raise UserError(f"{printable(text)}: at most {MOST_BRACES} braces in one text")
    found, rest = _read(text, text)
    if rest:
        raise UserError(f"{printable(text)}: a }} without its {{")
    return found


def _read(text: str, whole: str, inside: bool = False) -> tuple[list[str], str]:
    # What the text stands for up to its end, or inside braces up to a comma or brace; the rest.
    made = [""]
    while text and text[0] != "}" and not (inside and text[0] == ","):
        if text[0] == "{":
            parts, text = _braces(text[1:], whole)
        else:
            plain = re.match(r"[^{},]+" if inside else r"[^{}]+", text)[0]
            parts, text = [plain], text[len(plain):]
        if len(made) * len(parts) > MOST:
            raise UserError(f"{printable(whole)}: it stands for more than {MOST:,}")
        made = [a + b for a in made for b in parts]
    return made, text


def _braces(text: str, whole: str) -> tuple[list[str], str]:
    # What {...} stands for, its first brace read, and the text behind it.
    choices, start = [], text
    while True:
        found, text = _read(text, whole, inside=True)
        choices.append(found)
        if not text:
            raise UserError(f"{printable(whole)}: a {{ without its }}")
        comma, text = text[0] == ",", text[1:]
        if not comma:
            break
    held = start[: len(start) - len(text) - 1]
    if len(choices) == 1:
        span = re.fullmatch(r"(-?\d{1,9})\.\.(-?\d{1,9})", held)
        if span is None or abs(int(span[2]) - int(span[1])) >= MOST:
            raise UserError(f"{printable(whole)}: braces hold alternatives, {{0.8,0.9}}, or at "
                            f"most {MOST:,} integers, {{2..4}}, got {{{printable(held, 80)}}}")
        first, last = int(span[1]), int(span[2])
        step = 1 if first <= last else -1
        return [str(n) for n in range(first, last + step, step)], text
    return list(itertools.chain(*choices)), text


def varied(table: Mapping, where: str) -> list[tuple[dict, dict[str, object]]]:
    """Returns (a recipe's table, what was chosen in it by name) for each choice of its lists.

    table : of a recipe, [[step]] a list of tables; any other list holds the values of an axis
    Raises UserError for a list that is empty or holds lists or tables, and for too many choices.

    >>> [chosen for _, chosen in varied({"train": {"lr": [0.1, 0.2]}}, "mine")]
    [{'train lr': 0.1}, {'train lr': 0.2}]
    """
    axes = dict(_axes(table, (), where))
    count = 1
    for values in axes.values():
        count *= len(values)
        if count > MOST:
            raise UserError(f"{where}: it stands for more than {MOST:,} recipes")
    return [(_set(table, dict(zip(axes, choice))),
             {_named(table, path): value for path, value in zip(axes, choice)})
            for choice in itertools.product(*axes.values())]


def _axes(held, path: tuple, where: str) -> Iterator[tuple[tuple, list]]:
    # (path, values) of every axis below.
    if isinstance(held, Mapping):
        for key, value in held.items():
            yield from _axes(value, (*path, key), where)
    elif isinstance(held, list) and path == ("step",) and all(
            isinstance(step, Mapping) for step in held):
        for i, step in enumerate(held):
            yield from _axes(step, (*path, i), where)
    elif isinstance(held, list):
        if not held or any(isinstance(v, (list, Mapping)) for v in held):
            raise UserError(f"{where}: a list holds the values of an axis, got "
                            f"{printable('.'.join(map(str, path)), 80)} = {printable(held, 80)}")
        yield path, held


def _set(held, chosen: Mapping[tuple, object], path: tuple = ()):
    # A copy in which each axis is its choice.
    if path in chosen:
        return chosen[path]
    if isinstance(held, Mapping):
        return {key: _set(value, chosen, (*path, key)) for key, value in held.items()}
    if isinstance(held, list):
        return [_set(value, chosen, (*path, i)) for i, value in enumerate(held)]
    return held


def _named(table: Mapping, path: tuple) -> str:
    # "train lr", "gradual sparsity", "gradual sparsity@conv1"; a second gradual is "gradual 3".
    if path[0] != "step":
        return " ".join(map(str, path))
    words = [str(step.get("technique")) for step in table["step"]]
    word = words[path[1]]
    word += f" {path[1] + 1}" if words.count(word) > 1 else ""
    return f"{word} {'@'.join(map(str, path[2:]))}"
