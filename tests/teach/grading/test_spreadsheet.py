import csv
import io

import pytest
from minicomp.errors import UserError
from minicomp.teach.grading import spreadsheet
from minicomp.teach.grading.spreadsheet import cell, number, read_rows

HEADER = ["student", "file", "manual", "note"]
ROWS = [["Bea Müller", "b, 1.ipynb", "2,5", 'a "quoted" word'], ["Zoë; Å", "c.ipynb", "3", "x\ny"]]


def text(separator=",", end="\r\n", before="", quoting=csv.QUOTE_MINIMAL, quote='"'):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting,
                        quotechar=quote)
    writer.writerows([HEADER, *ROWS])
    return before + out.getvalue()


DIALECTS = {
    "LibreOffice": text().encode(),
    "Excel, CSV UTF-8": b"\xef\xbb\xbf" + text(";").encode(),
    "Excel, CSV": text(";").encode("cp1252"),
    "Excel for Mac, CSV": text(";", "\r", quoting=csv.QUOTE_ALL).encode("mac_roman"),
    "Excel, CSV (MS-DOS)": text(";").encode("cp850"),
    "Excel, Unicode text": b"\xff\xfe" + text("\t").encode("utf-16-le"),
    "UTF-16, other end": b"\xfe\xff" + text("\t").encode("utf-16-be"),
    "UTF-16 without a mark": text("\t").encode("utf-16-le"),
    "Excel with sep=": text(";", before="sep=;\r\n").encode("utf-8-sig"),
    "sep= of another kind": text("^", before='"sep=^"\n').encode(),
    "all quoted": text(quoting=csv.QUOTE_ALL).encode(),
    "single quotes": text(";", quote="'").encode(),
    "Numbers with titles": text(";", "\n", before="Table 1\n").encode(),
    "blank lines": text("|", "\n", before="\n\n").encode(),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_rows(tmp_path, dialect):
    path = tmp_path / "t.csv"
    path.write_bytes(DIALECTS[dialect])
    rows, _ = read_rows(path, ["student", "manual"], what="table", known=["Bea Müller", "Zoë; Å"])
    got = [list(r.values()) for r in rows]
    assert [[c.replace("\r\n", "\n").replace("\r", "\n") for c in row] for row in got] == ROWS


@pytest.mark.parametrize(
    "raw, says",
    [
        (b"", "first line must name"),
        (b"a,b\n1,2\n", 'columns "student" and "manual"'),
        (b"PK\3\4 a workbook", "save it as CSV"),
        (b"\xd0\xcf\x11\xe0 an old one", "save it as CSV"),
        (b"\x00" * 1000, "first line must name"),
        (bytes(range(256)) * 9, "first line must name"),
    ],
)
def test_what_is_no_table_gets_one_line(tmp_path, raw, says):
    path = tmp_path / "t\x1b.csv"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=says) as e:
        read_rows(path, ["student", "manual"], what="table")
    assert "\x1b" not in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("bad", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", " =1", "x;=1", "x,=1",
                                 "x\t@1", 'x;"=1"', "x| -1", "\uff1d1", "a\n=1", "x; ;=1"])
def test_no_cell_is_a_formula_whatever_the_separator(bad):
    raw = spreadsheet.written(["student", "file"], [[bad, "f"], ["f", bad]]).decode("utf-8-sig")
    for separator in ",;\t|":
        for row in csv.reader(io.StringIO(raw, newline=""), delimiter=separator):
            for c in row:
                assert not c.strip(' "').startswith(("=", "+", "-", "@", "\uff1d")), (separator, c)


@pytest.mark.parametrize("text", ["=1+1", "late: -1 point", "a\n- b", " @ann", "x;'-2", "'=1"])
def test_a_cell_does_not_grow_at_each_run(text):
    once = cell(text)
    assert cell(once) == once and once.count("'") == 1


def test_numbers_and_names_stay_as_they_are():
    for plain in ("-1", "+2,5", "3.25", "Bea Müller", "04_ann-b.ipynb", "a=b", "ann@x.org"):
        assert cell(plain) == plain
    assert [number(t) for t in (".5", "2.", ",5", ".")] == [0.5, 2, 0.5, None]
    assert [number(t) for t in ("2", "2.5", "2,5", " 3 ", "'4", "-1", "3/3", "", "2. May")] == [
        2, 2.5, 2.5, 3, 4, -1, None, None, None
    ]
    assert spreadsheet.written(["a"], [[2.5]], ";").endswith(b"2,5\r\n")
