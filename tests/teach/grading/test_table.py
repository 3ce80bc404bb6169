import csv
import io

import pytest
from minicomp.errors import UserError
from minicomp.teach import catalog
from minicomp.teach.grading.feedback import page
from minicomp.teach.grading.grade import empty
from minicomp.teach.grading.table import marked, read_kept, table

OF = catalog.lesson(4)
MOST = OF.reflections[0].max_points


def row(student="ann", file="a.ipynb", points=10, words=12):
    manual = {"04.r1": {"words": words, "text": "Zeros.", "max_points": MOST}}
    return empty(OF, file, student, "graded") | {"points": points, "manual": manual}


def saved(path, rows, change=lambda text: text, encoding="utf-8-sig"):
    # The table as a teacher saved it.
    text = table(rows, OF).decode("utf-8-sig")
    path.write_bytes(change(text).encode(encoding))


def again(path, rows):
    # The rows, the table's rows and its bytes of a later run.
    kept = read_kept(path, OF, ["ann", "Bea Müller"])
    rows = marked(rows, kept, OF)
    raw = table(rows, OF, kept)
    text = raw.decode("utf-8-sig")
    told = list(csv.DictReader(io.StringIO(text), delimiter=kept.separator))
    return rows, told, raw


def semicolons(text):
    return "\n".join(";".join(r) for r in csv.reader(io.StringIO(text)))


@pytest.mark.parametrize(
    "change, encoding",
    [
        (lambda t: t, "utf-8-sig"),
        (semicolons, "utf-8-sig"),
        (semicolons, "cp1252"),
        (lambda t: "sep=;\r\n" + semicolons(t), "utf-8"),
        (lambda t: semicolons(t).replace(";", "\t").replace("\n", "\r"), "utf-16"),
    ],
)
def test_marks_survive_whatever_spreadsheet_wrote_them(tmp_path, change, encoding):
    path, rows = tmp_path / "g.csv", [row(), row("Bea Müller", "b.ipynb")]
    mark = '"2,5"' if change(",").startswith(",") else "2,5"
    saved(path, rows, lambda t: change(t.replace("12 words", "@", 1)).replace("@", mark), encoding)
    for _ in range(3):  # what is written is read again
        got, told, raw = again(path, rows)
        path.write_bytes(raw)
    assert [r["points"] for r in got] == [12.5, 10]
    assert [t["manual"] for t in told] == ["2,5", "12 words"]
    assert [t["points"].replace(",", ".") for t in told] == ["12.5", "10"]
    assert {t["max_points"] for t in told} == {str(OF.max_points + MOST)}
    html = page(got[0], OF)
    assert f"12.5 of {OF.max_points + MOST}" in html and f"2.5 of {MOST}" in html
    assert "not marked yet" in page(got[1], OF)


@pytest.mark.parametrize("raw", [b"PK\3\4 an xlsx", b"\0\1\2" * 50, b"a,b\n1,2\n",
                                 b"student,file\nann,a.ipynb\n"])
def test_what_cannot_be_read_is_an_error_and_stays(tmp_path, raw):
    path = tmp_path / "g.csv"
    path.write_bytes(raw)
    with pytest.raises(UserError, match="nothing was graded and the file is as it was"):
        read_kept(path, OF)
    assert path.read_bytes() == raw


def test_marks_follow_a_file_or_its_student(tmp_path):
    path = tmp_path / "g.csv"
    saved(path, [row("00123", "a.ipynb"), row("bea", "b.ipynb"), row("cem", "c.ipynb")],
          lambda t: t.replace("00123", "123").replace("12 words", "3"))
    rows = [row("00123", "a.ipynb"), row("bea", "b (1).ipynb"), row("cem", "c.ipynb"),
            row("cem", "c2.ipynb")]
    got, _, _ = again(path, rows)
    assert [r["points"] for r in got] == [13, 13, 13, 10]


def test_a_mark_whose_file_is_gone_keeps_its_row(tmp_path):
    path = tmp_path / "g.csv"
    saved(path, [row("dan", "d.ipynb")], lambda t: t.replace("12 words", "2"))
    for _ in range(2):
        got, told, raw = again(path, [row()])
        path.write_bytes(raw)
    assert [(r["student"], r["points"]) for r in got] == [("ann", 10), ("dan", 2)]
    assert "not there any more" in told[1]["status"] and told[1]["manual"] == "2"
    got, told, _ = again(path, [row(), row("dan", "d.ipynb")])
    assert [r["points"] for r in got] == [10, 12] and told[1]["status"] == "graded"


def test_what_is_no_number_is_kept_and_said(tmp_path):
    for mark, points, says in (("3/3", 10, "no number"), ("-1", 10, "below 0"),
                               ("30", 40, "more than"), ("02. Mai", 10, "no number")):
        path = tmp_path / "g.csv"
        saved(path, [row()], lambda t: t.replace("12 words", mark))
        got, told, _ = again(path, [row()])
        assert told[0]["manual"] == mark and got[0]["points"] == points
        assert says in told[0]["status"]


def test_a_teachers_own_columns_are_kept(tmp_path):
    path = tmp_path / "g.csv"
    saved(path, [row(), row("bea", "b.ipynb")], lambda t: "\n".join(
        line + (",comment" if i == 0 else ',"see me, please"' if i == 1 else ",")
        for i, line in enumerate(t.splitlines())))
    for _ in range(2):
        _, told, raw = again(path, [row("bea", "b.ipynb"), row()])
        path.write_bytes(raw)
    assert [t["comment"] for t in told] == ["", "see me, please"]
