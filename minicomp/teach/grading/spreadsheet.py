"""Tables as spreadsheets write and read them: every dialect in, one safe dialect out.

Excel, LibreOffice and Numbers save a CSV with commas, semicolons or tabs, in UTF-8 with or without
a mark, in UTF-16, or in the code page of the machine, with CRLF, LF or CR, perhaps with a line
`sep=;` or the table's title before the header, and with decimal commas.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...atomic import MARKS
from ...errors import UserError, printable

MAX_BYTES = 64 * 2**20
SEPARATORS = ",;\t|"
CODE_PAGES = ("cp1252", "mac_roman", "cp850")  # Windows, old Excel on the Mac, "CSV (MS-DOS)"
_HEADER_IN = 5  # lines: of a title, of `sep=`, of nothing
# What a spreadsheet takes for a formula at the beginning of a cell, also where a cell is split at a
# separator that is not ours; with it the full-width letters that some read alike. What has its '
# from an earlier run gets no second one.
_FORMULA = re.compile(r"(^|[,;\t|:\r\n])([\s\"']*)(?<!')(?=[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)")


def read_rows(
    path: Path, must: Iterable[str], *, what: str, known: Iterable[str] = ()
) -> tuple[list[dict[str, str]], str]:
    """Returns the rows below the header as texts by column, stripped, and the separator.

    must : columns that the header has        known : texts that tell apart a machine's code pages
    A column without a title is called "column 3".
    Raises UserError, which begins with `what`, where the file cannot be read as a table.
    """
    try:
        with open(path, "rb") as f:
            raw = f.read(MAX_BYTES + 1)
    except OSError as e:
        raise UserError(f"{what} {printable(path)}: cannot be read: {e.strerror}") from None
    must = set(must)
    if len(raw) > MAX_BYTES:
        raise UserError(f"{what} {printable(path)}: larger than {MAX_BYTES // 2**20} MiB")
    if raw.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):
        raise UserError(f"{what} {printable(path)}: a spreadsheet's own format; save it as CSV")
    for text in _decoded(raw, [fold(k) for k in known]):
        found = []
        for separator, rows in _parsed(text):
            for i, row in enumerate(rows[:_HEADER_IN]):
                header = [c.strip().lstrip("\ufeff") for c in row]
                if must <= set(h.casefold() for h in header):
                    ragged = sum(len(r) > len(header) for r in rows)
                    found.append((ragged, len(found), separator, header, rows[i + 1 :]))
                    break
        if found:  # of several readings, that in which rows fit the header
            _, _, separator, header, rows = min(found)
            return _by_column(header, rows, must), separator
    names = " and ".join(f'"{m}"' for m in sorted(must, reverse=True))
    column = "a column" if len(must) == 1 else "columns"
    raise UserError(f"{what} {printable(path)}: the first line must name {column} {names}")


def _decoded(raw: bytes, known: list[str]) -> Iterator[str]:
    # The text, then what else it may be.
    for mark, encoding in MARKS:
        if raw.startswith(mark):
            yield raw[len(mark) :].decode(encoding, "replace")
            return
    if raw[:400].count(0) > len(raw[:400]) // 4:  # UTF-16 without a mark
        yield raw.decode("utf-16-le" if raw[1:2] == b"\0" else "utf-16-be", "replace")
    try:
        yield raw.decode("utf-8")
        return
    except UnicodeDecodeError:
        pass
    texts = [raw.decode(page, "replace") for page in CODE_PAGES]
    folded = {text: fold(text) for text in texts}
    yield from sorted(texts, key=lambda t: -sum(k in folded[t] for k in known))


def _parsed(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    said = re.match(r"\s*\"?sep=(.)\"?\s*(?:\r\n|\r|\n)", text)
    text = text[said.end() :] if said else text
    for separator in [said[1], *SEPARATORS] if said else SEPARATORS:
        for quote in "\"'":
            try:
                lines = csv.reader(
                    io.StringIO(text, newline=""), delimiter=separator, quotechar=quote
                )
                yield separator, [row for row in lines if any(c.strip() for c in row)]
            except (csv.Error, TypeError):  # of bytes that are no table, of sep=" or a line end
                continue


def _by_column(header: list[str], rows: list[list[str]], must: set[str]) -> list[dict[str, str]]:
    names = [h.casefold() if h.casefold() in must else h or f"column {i}"
             for i, h in enumerate(header, 1)]
    widest = max(map(len, rows), default=0)
    names += [f"column {i}" for i in range(len(names) + 1, widest + 1)]
    return [
        {name: cell.strip().strip("\xa0") for name, cell in zip(names, row + [""] * len(names))}
        for row in rows
    ]


def written(header: list[str], rows: Iterable[list], separator: str = ",") -> bytes:
    """Returns a table as bytes: UTF-8 with a mark, by which spreadsheets know it; numbers with a
    decimal comma where columns are separated by semicolons.
    """
    text = io.StringIO()
    out = csv.writer(text, delimiter=separator)
    out.writerow(map(cell, header))
    for row in rows:
        out.writerow([_number(v, separator) if isinstance(v, float) else cell(v) for v in row])
    return b"\xef\xbb\xbf" + text.getvalue().encode("utf-8", "replace")


def _number(value: float, separator: str) -> str:
    text = f"{value:.10g}"
    return text.replace(".", ",") if separator == ";" else text


def cell(value) -> str:
    """Returns a text as one that no spreadsheet takes for a formula, whatever its separator."""
    text = str(value)
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub(r"\1\2'", text)


def number(text: str) -> float | None:
    """Returns the number that somebody wrote into a cell, with a point or a comma; else None."""
    text = text.strip().lstrip("'")
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def fold(text: str) -> str:
    """Returns a text as it is compared: one form of each letter, no case, words alone."""
    text = unicodedata.normalize("NFC", text).casefold()
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFC", text).replace("_", " ")))
