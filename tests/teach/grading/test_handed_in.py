import io
import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from minicomp.errors import UserError
from minicomp.teach.grading import handed_in
from minicomp.teach.grading.handed_in import read_all
from minicomp.teach.notebook import cells as notebook

BOOK = json.dumps({"cells": [{"cell_type": "code", "source": "check('04.x', f)"}]}).encode()


def names(files):
    return {f.name: f.problem or ("other" if f.other else "read") for f in files}


def put(folder, name, data=BOOK):
    path = os.fsencode(folder) + b"/" + (name if isinstance(name, bytes) else os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def zipped(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in entries.items():
            z.writestr(name, data)
    return out.getvalue()


def test_names_in_any_bytes_are_shown_as_text(tmp_path):
    put(tmp_path, b"M\xfcller.ipynb")  # Latin-1, as zips of Windows leave it
    put(tmp_path, "Mu\u0308ller/new\nline\x1b[31m.ipynb")  # NFD, as a Mac has it
    put(tmp_path, "x" * 249 + ".ipynb")
    put(tmp_path, "x" * 248 + "y.ipynb")
    found = list(names(read_all(tmp_path)))
    assert found[0] == "Müller.ipynb" and found[1] == "Müller/new\\nline\\x1b[31m.ipynb"
    assert len(found) == 4 and found[3].endswith("[2]")  # cut alike, told apart
    json.dumps(found, ensure_ascii=False).encode()


def test_what_is_no_file_gets_a_line_and_holds_nobody(tmp_path):
    secret = tmp_path / "course.key"
    secret.write_bytes(BOOK)
    folder = tmp_path / "in"
    put(folder, "folder.ipynb/inside.ipynb")
    os.symlink(secret, folder / "link.ipynb")
    os.symlink(tmp_path, folder / "up")
    os.mkfifo(folder / "pipe.ipynb")
    put(folder, "empty.ipynb", b"")
    put(folder, "answers.PDF", b"")
    told = names(read_all(folder))
    assert told.pop("folder.ipynb/inside.ipynb") == "read" and told.pop("answers.PDF") == "other"
    assert "link" in told.pop("link.ipynb") and "pipe" in told.pop("pipe.ipynb")
    assert "empty" in told.pop("empty.ipynb") and not told


@pytest.mark.skipif(not os.getuid(), reason="root may read everything")
def test_what_may_not_be_read_gets_a_line(tmp_path):
    put(tmp_path, "a.ipynb")
    put(tmp_path, "b/c.ipynb")
    os.chmod(tmp_path / "a.ipynb", 0)
    os.chmod(tmp_path / "b", 0)
    told = names(read_all(tmp_path))
    os.chmod(tmp_path / "b", 0o700)
    assert "Permission denied" in told["a.ipynb"] and "Permission denied" in told["b"]


def test_large_files_are_not_read(tmp_path, monkeypatch):
    with open(tmp_path / "huge.ipynb", "wb") as f:
        f.truncate(100 * 2**20)
    assert "larger than 50 MiB" in names(read_all(tmp_path))["huge.ipynb"]
    monkeypatch.setattr(handed_in, "MAX_FILES", 3)
    for i in range(4):
        put(tmp_path, f"{i}.txt")
    with pytest.raises(UserError, match="more than 3 files"):
        read_all(tmp_path)


def test_notebooks_are_found_in_zips_and_nothing_is_unpacked(tmp_path):
    inner = zipped({"04.ipynb": BOOK, "notes.txt": b""})
    put(tmp_path, "in/ann.zip", zipped({"ann/04.ipynb": BOOK, "../up.ipynb": b"{}",
                                        "__MACOSX/._04.ipynb": b"x", "mine.zip": inner}))
    put(tmp_path, "in/bob.zip", zipped({"report.pdf": b""}))
    told = names(read_all(tmp_path / "in"))
    assert told.pop("ann.zip/ann/04.ipynb") == told.pop("ann.zip/mine.zip/04.ipynb") == "read"
    assert "no cells" in told.pop("ann.zip/../up.ipynb") and told.pop("bob.zip") == "other"
    assert set(told.values()) == {"other"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["ann.zip", "bob.zip", "in"]
    put(tmp_path, "class.zip", zipped({"ann/04.ipynb": BOOK, "bob.zip": inner}))
    told = names(read_all(tmp_path / "class.zip"))
    assert told["ann/04.ipynb"] == told["bob.zip/04.ipynb"] == "read"


def test_names_in_zips_without_the_mark_of_utf8(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("Mxxller.ipynb", BOOK)
    raw = out.getvalue().replace(b"Mxxller", "Müller".encode())
    put(tmp_path, "a.zip", raw)
    assert list(names(read_all(tmp_path))) == ["a.zip/Müller.ipynb"]


def test_zips_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "MAX_NOTEBOOK_BYTES", 2**20)
    monkeypatch.setattr(handed_in, "MAX_ZIP_BYTES", 3 * 2**20)
    zeros = b"[" + b" " * (2**20 - 2) + b"]"
    put(tmp_path, "bomb.zip", zipped({f"{i}.ipynb": zeros for i in range(6)}))
    put(tmp_path, "big.zip", zipped({"a.ipynb": b"0" * 2**22}))
    told = names(read_all(tmp_path))
    assert sum("no cells" in t for t in told.values()) == 3
    assert sum("larger than" in t for t in told.values()) == 4


def test_odd_zips_get_a_line(tmp_path):
    good = zipped({"a.ipynb": BOOK})
    put(tmp_path, "text.zip", b"hello")
    put(tmp_path, "cut.zip", good[:-10])
    damaged = bytearray(good)
    damaged[40:60] = bytes(20)
    put(tmp_path, "damaged.zip", bytes(damaged))
    flagged = good.replace(b"PK\1\2\x14\x03\x14\0\0", b"PK\1\2\x14\x03\x14\0\1")
    put(tmp_path, "password.zip", flagged)
    many = bytearray(good)
    many[-10:-6] = (2**31).to_bytes(4, "little")
    put(tmp_path, "many.zip", bytes(many))
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(link, "/etc/passwd")
    put(tmp_path, "link.zip", out.getvalue())
    told = names(read_all(tmp_path))
    assert "not a zip" in told["text.zip"] and "not a zip" in told["cut.zip"]
    assert "damaged" in told["damaged.zip/a.ipynb"] and "password" in told["password.zip/a.ipynb"]
    assert "too many files" in told["many.zip"] and "link" in told["link.zip/link.ipynb"]
    with pytest.raises(UserError, match="not a zip"):
        read_all(tmp_path / "text.zip")


def test_the_time_and_memory_of_a_notebook_are_bounded():
    many = b'{"cells": [' + b"[]," * notebook.MAX_VALUES + b"[]]}"
    with pytest.raises(UserError, match="values"):
        notebook.parsed_notebook(many, "x.ipynb")
    cells = [{"cell_type": "code", "source": "x = 1\n" * 10_000}] + 20 * [
        {"cell_type": "code", "source": "y = 1\n" * 8_000}
    ]
    book = notebook.parsed_notebook(json.dumps({"cells": cells}).encode(), "x.ipynb")
    assert "60,000 letters" in book.problems[0] and book.cells[0].source == ""
    assert sum(len(c.source) for c in book.cells) <= notebook.MAX_CODE
    with pytest.raises(UserError, match="1,001 cells"):
        notebook.parsed_notebook(json.dumps({"cells": [{}] * 1001}).encode(), "x.ipynb")


def test_texts_of_strangers_can_be_written(tmp_path):
    text = 'Lesson("04", student="\\ud800ann")\npredict("p", 0x' + "f" * 5000 + ")"
    raw = json.dumps({"cells": [{"cell_type": "code", "source": text}]}).replace("\\\\u", "\\u")
    book = notebook.parsed_notebook(raw.encode("utf-16"), "x.ipynb")
    assert book.calls("Lesson")[0].keywords["student"] == "?ann"
    assert book.calls("predict")[0].args == ("p", None)
    json.dumps(book.cells[0].source, ensure_ascii=False).encode()


def test_format_3_is_read():
    rows = [{"cell_type": "code", "input": ["def f():\n", "    pass"]}, {"cell_type": "heading"}]
    raw = json.dumps({"worksheets": [{"cells": rows}], "nbformat": 3}).encode()
    book = notebook.parsed_notebook(raw, "x.ipynb")
    assert [c.kind for c in book.cells] == ["code", "markdown"]
    assert book.said[0].defines == {"f"}


def test_paths_given_by_the_teacher_may_be_links(tmp_path):
    put(tmp_path, "a.ipynb")
    os.symlink(tmp_path / "a.ipynb", tmp_path / "b.ipynb")
    assert notebook.read_notebook(Path(tmp_path / "b.ipynb")).cells
