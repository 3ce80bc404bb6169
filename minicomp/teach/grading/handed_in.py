"""What was handed in: every notebook and .mcz file below a folder or in a zip, read before any code
runs.

File names, contents and archives are strangers': names come in any bytes, files may be links,
pipes, folders called x.ipynb, empty or endless, zips may unfold without end. Each gives one entry,
with what is wrong where it cannot be read; nothing is unpacked to disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import UserError, printable
from ..notebook import cells as notebook
from ..notebook.cells import Notebook

OTHERS = (".py", ".zip", ".pdf", ".txt", ".json", ".html", ".docx", ".7z", ".rar", ".gz", ".tar")
NET = ".mcz"
SKIPPED_FOLDERS = {".ipynb_checkpoints", "__MACOSX", "__pycache__", ".git"}
MAX_DEPTH, MAX_FILES = 40, 20_000  # of folders; of files and of entries of a zip
MAX_ZIP_BYTES = 2**30  # unfolded, of one zip
MAX_LIST_BYTES = 8 * 2**20  # of a zip's list of entries
_NAME = 200  # letters of one part of a path


@dataclass(frozen=True)
class File:
    """One file: its name (a path below what was given, "/" between folders, fit to be shown), and
    the notebook in it or what is wrong with it. `other` : no notebook by its name; `net` : the
    bytes of an .mcz file, which is not opened here.
    """

    name: str
    book: Notebook | None = None
    problem: str = ""
    other: bool = False
    net: bytes | None = None


def read_all(path: Path) -> list[File]:
    """Returns all that was handed in, in the order of names; UserError where nothing can be."""
    if path.is_dir():
        found = list(_in_folder(path))
    elif path.is_file():
        try:
            with open(path, "rb") as f:
                found = list(_in_zip(f, "", path.name))
        except OSError as e:
            raise UserError(f"{printable(path)}: cannot be read: {e.strerror}") from None
        if found and found[0].name == path.name:
            raise UserError(f"{printable(path)}: {found[0].problem}")
    else:
        raise UserError(f"{printable(path)}: there is no such folder")
    taken: dict[str, int] = {}
    out = []
    for file in sorted(found, key=lambda f: f.name):
        taken[file.name] = (n := taken.get(file.name, 0) + 1)
        out.append(replace(file, name=f"{file.name} [{n}]") if n > 1 else file)
    return out


def _in_folder(root: Path) -> Iterator[File]:
    ask, seen = [(root, "", 0)], 0
    while ask:
        folder, before, depth = ask.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as e:
            yield File(before.rstrip("/") or ".", None, f"cannot be read: {e.strerror}")
            continue
        for entry in entries:
            name = before + shown(entry.name)
            if entry.name.startswith(".") or entry.name in SKIPPED_FOLDERS:
                continue
            if (seen := seen + 1) > MAX_FILES:
                raise UserError(f"{printable(root)}: more than {MAX_FILES:,} files")
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    ask.append((Path(entry.path), f"{name}/", depth + 1))
                else:
                    yield File(name, None, f"more than {MAX_DEPTH} folders deep")
            else:
                yield from _file(Path(entry.path), name)


def _file(path: Path, name: str) -> Iterator[File]:
    suffix = path.suffix.lower()
    if suffix == ".ipynb":
        try:
            yield _notebook(notebook.read_bytes(path, links=False), name)
        except UserError as e:
            yield File(name, None, str(e))
    elif suffix == ".zip" and not path.is_symlink() and path.is_file():
        try:
            with open(path, "rb") as f:
                yield from _in_zip(f, f"{name}/", name)
        except OSError as e:
            yield File(name, None, f"cannot be read: {e.strerror}")
    elif suffix == NET:
        try:
            yield File(name, other=True, net=notebook.read_bytes(path, links=False))
        except UserError as e:
            yield File(name, None, str(e), other=True)
    elif suffix in OTHERS:
        yield File(name, other=True)


def _notebook(raw: bytes, name: str) -> File:
    try:
        book = notebook.parsed_notebook(raw, name.rpartition("/")[2])
        code = (c if c.kind == "code" else replace(c, source="") for c in book.cells)
        book = replace(book, cells=tuple(code))
        book.said  # parsed now, before any code runs
    except UserError as e:
        return File(name, None, str(e))
    except Exception as e:  # a defect of ours must not cost the other students their grades
        return File(name, None, f"cannot be read: {type(e).__name__}")
    return File(name, book)


def _in_zip(stream, before: str, name: str, depth: int = 0) -> Iterator[File]:
    # The notebooks of a zip, whose own name is `name`; of a zip in it too. Without one, itself.
    some, left = False, MAX_ZIP_BYTES
    try:
        _check_list(stream)
        with zipfile.ZipFile(stream) as z:
            for info in z.infolist()[:MAX_FILES]:
                inside = _entry_name(info)
                parts = inside.split("/")
                if SKIPPED_FOLDERS & set(parts) or parts[-1].startswith(".") or info.is_dir():
                    continue
                path = before + "/".join(map(shown, parts))
                suffix = os.path.splitext(parts[-1])[1].lower()
                if suffix in (".ipynb", NET) or suffix == ".zip" and depth == 0:
                    some = True
                    try:
                        raw = _unfolded(z, info, left)
                    except UserError as e:
                        yield File(path, None, str(e), other=suffix == NET)
                        continue
                    left -= len(raw)
                    if suffix == ".ipynb":
                        yield _notebook(raw, path)
                    elif suffix == NET:
                        yield File(path, other=True, net=raw)
                    else:
                        yield from _in_zip(io.BytesIO(raw), f"{path}/", path, 1)
                elif suffix in OTHERS:
                    yield File(path, other=True)
    except _DAMAGED as e:
        why = str(e) if isinstance(e, UserError) else "not a zip, or a damaged one"
        yield File(name, None, f"{printable(name.rpartition('/')[2], 100)}: {why}")
        return
    if not some and before:
        yield File(name, other=True)


# What reading bytes that are no zip can raise, in zipfile and below.
_DAMAGED = (
    zipfile.BadZipFile, LookupError, ValueError, TypeError, EOFError, OSError, NotImplementedError,
    RuntimeError, OverflowError, MemoryError,
)


def _check_list(stream) -> None:
    # zipfile reads the list of entries whole, before anything can be asked of it.
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(size - 22 - 2**16, 0))
    tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        raise UserError("not a zip, or a damaged one")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > MAX_LIST_BYTES:
        raise UserError("a zip of too many files")
    stream.seek(0)


def _unfolded(z: zipfile.ZipFile, info: zipfile.ZipInfo, left: int) -> bytes:
    most = min(left, notebook.MAX_NOTEBOOK_BYTES)
    name = printable(info.filename.rpartition("/")[2], 100)
    if info.flag_bits & 1:
        raise UserError(f"{name}: the zip asks for a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{name}: the zip is packed in a way that is not read; zip it again")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UserError(f"{name}: a link, which is not followed; hand in the file itself")
    try:
        with z.open(info) as f:
            raw = f.read(most + 1)
    except (*_DAMAGED, zlib.error):
        raise UserError(f"{name}: damaged in the zip") from None
    if len(raw) > most:
        raise UserError(f"{name}: larger than {most // 2**20} MiB")
    return raw


def _entry_name(info: zipfile.ZipInfo) -> str:
    # Without the mark of UTF-8 zipfile takes the old code page of DOS; Macs write UTF-8 unmarked.
    name = info.filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def shown(name: str) -> str:
    """Returns one part of a path as text that can be shown and written: bytes that are no UTF-8,
    as old zips leave them, are taken for Windows' Latin letters.
    """
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        raw = name.encode("utf-8", "replace")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    return printable(unicodedata.normalize("NFC", text).replace("/", "_"), _NAME)
