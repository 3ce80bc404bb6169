import json

from minicomp.teach import catalog
from minicomp.teach.grading.grade import Key, empty
from minicomp.teach.grading.journal import Journal

OF = catalog.lesson(4)
KEY = Key("a long secret key of a course", "c")


def row(sha256, points=3):
    return empty(OF, "ä.ipynb", "\u00e4", "graded") | {"sha256": sha256, "points": points}


def test_results_come_back(tmp_path):
    path = tmp_path / "j"
    Journal(path, OF, KEY).add(row("a"))
    Journal(path, OF, KEY).add(row("b"))
    again = Journal(path, OF, KEY)
    assert again.get("a") == row("a") and again.get("b") == row("b") and again.dropped == 0
    again.get("a")["points"] = 9
    assert again.get("a") == row("a") and again.get("c") is None


def test_damaged_lines_are_dropped_and_counted(tmp_path):
    path = tmp_path / "j"
    journal = Journal(path, OF, KEY)
    for name in "abc":
        journal.add(row(name))
    lines = path.read_bytes().splitlines(keepends=True)
    cut = json.dumps(row("d"), ensure_ascii=False).encode()
    at = cut.index("ä".encode()) + 1  # inside a letter
    for bad in (cut[:at], b"[1]\n", b"{}\n", b"null\n", b"\xff\xfe\n", b"[" * 10**5 + b"\n",
                b'{"stamp": "x", "row": 3}\n', b"\n"):
        path.write_bytes(lines[0] + lines[1] + bad)
        again = Journal(path, OF, KEY)
        assert set(again.rows) == {"a", "b"}
        assert again.dropped == (0 if b"stamp" in bad else 1)
        assert path.read_bytes() == lines[0] + lines[1]  # and is whole again


def test_nobody_without_the_key_adds_or_changes_a_row(tmp_path):
    path = tmp_path / "j"
    Journal(path, OF, KEY).add(row("a"))
    line = json.loads(path.read_bytes())
    changed = line | {"row": line["row"] | {"points": 19}}
    other = line | {"row": line["row"] | {"sha256": "b"}}
    odd = line | {"row": {"sha256": "c"}}
    path.write_text("\n".join(map(json.dumps, (line, changed, other, odd))) + "\n")
    again = Journal(path, OF, KEY)
    assert again.rows == {"a": row("a")} and again.dropped == 3
    assert Journal(path, OF, Key("another long secret key", "c")).rows == {}


def test_a_journal_of_another_lesson_is_begun_anew(tmp_path):
    path = tmp_path / "j"
    Journal(path, OF, KEY).add(row("a"))
    other = Journal(path, catalog.lesson(5), KEY)
    assert other.rows == {} and other.dropped == 0 and path.read_bytes() == b""
