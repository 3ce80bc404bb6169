import csv
import io
import json
import os
import shutil
import zipfile

import pytest
from minicomp.errors import UserError
from minicomp.teach import catalog
from minicomp.teach.grading import classroom, copies, grade, handed_in, roster
from minicomp.teach.grading.table import read_kept
from minicomp.teach.grading.table import marked, table as csv_of
from minicomp.teach.live import process, running
from minicomp.teach.grading.grade import Key

LIMITS = process.Limits(cell=1.0, cells=2.5, call=0.5, exercise=1.5, total=8.0)
OF = catalog.lesson(4)


@pytest.fixture
def room(tmp_path, solved):
    # A folder of submissions as a learning platform hands them out, and a roster.
    folder = tmp_path / "in"
    folder.mkdir()
    good, blank = solved(), solved(solutions=False, name="blank.ipynb")
    shutil.copy(good, folder / "04_ann.ipynb")
    (folder / "Bea Müller_123_file").mkdir()
    shutil.copy(blank, folder / "Bea Müller_123_file" / "04_magnitude.ipynb")
    (folder / "04_cem.ipynb").write_text("no notebook at all")
    shutil.copy(good, folder / "dot.ipynb")
    shutil.copy(blank, folder / "dot (1).ipynb")
    (folder / "report_eve.pdf").write_text("my answers")
    (folder / ".ipynb_checkpoints").mkdir()
    shutil.copy(good, folder / ".ipynb_checkpoints" / "04_ann-checkpoint.ipynb")
    shutil.copy(good, folder / "stranger.ipynb")
    roster = tmp_path / "class.csv"
    roster.write_text(
        "student,file\nann,\nBea Müller,\ncem,\ndot,\neve,\nfay,\n", encoding="utf-8-sig"
    )
    return folder, roster


def outputs(tmp_path):
    return classroom.Outputs(
        csv=tmp_path / "out" / "g.csv",
        json=tmp_path / "out" / "g.json",
        feedback=tmp_path / "out" / "pages",
    )


def run(tmp_path, room, **kw):
    folder, roster = room
    seen = []
    rows = classroom.grade_folder(
        folder,
        "04",
        outputs(tmp_path),
        key=kw.pop("key", Key()),
        roster=roster,
        limits=LIMITS,
        log=seen.append,
        jobs=2,
        **kw,
    )
    return rows, seen


def table(tmp_path):
    raw = outputs(tmp_path).csv.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"))))


def test_everybody_gets_a_row_and_a_page(tmp_path, room):
    rows, seen = run(tmp_path, room)
    told = table(tmp_path)
    assert [r["student"] for r in told] == [
        "ann",
        "Bea Müller",
        "cem",
        "dot",
        "dot",
        "eve",
        "fay",
        "",
    ]
    status = [r["status"] for r in told]
    copied = "same file as dot (dot.ipynb), stranger.ipynb"
    assert status[0] == f"graded; {copied}" and status[1] == "blank" and "not JSON" in status[2]
    assert all(s.startswith("duplicate: 2 files") for s in status[3:5])
    assert status[5] == "missing; no notebook, but report_eve.pdf" and status[6] == "missing"
    assert status[7].startswith("not in the roster")
    assert list(told[0]) == [
        "student",
        "file",
        "04.magnitude_mask",
        "04.masked_sgd",
        "04.keep_per_round",
        "04.broken",
        "prediction",
        "manual",
        "points",
        "max_points",
        "seconds",
        "status",
        "versions",
    ]
    assert told[0]["points"] == str(OF.max_points - 2) and told[6]["points"] == "0"
    assert "numpy" in told[0]["versions"]
    pages = list(outputs(tmp_path).feedback.glob("*.html"))
    assert len(pages) == len(rows) == 8
    assert not any("same file" in p.read_text(encoding="utf-8") for p in pages)  # others' names
    assert json.loads(outputs(tmp_path).json.read_text())[0]["points"] == OF.max_points - 2
    assert [s["done"] for s in seen] == list(range(1, 7))


@pytest.mark.slow
def test_an_interrupted_run_is_taken_up(tmp_path, room, monkeypatch):
    real, calls = classroom.graded, []

    def stops(book, *a, **k):
        calls.append(book.sha256)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(book, *a, **k)

    monkeypatch.setattr(classroom, "graded", stops)
    with pytest.raises(KeyboardInterrupt):
        classroom.grade_folder(
            room[0], "04", outputs(tmp_path), key=Key(), roster=room[1], limits=LIMITS
        )
    journal = outputs(tmp_path).journal
    kept = len(journal.read_text().splitlines())
    assert kept == 1
    journal.write_text(journal.read_text() + '{"cut off')  # as a crash would leave it
    calls.clear()
    monkeypatch.setattr(
        classroom, "graded", lambda book, *a, **k: calls.append(book) or real(book, *a, **k)
    )
    rows, _ = run(tmp_path, room)
    assert len(rows) == 8 and len(calls) == 2 - kept  # equal files are graded once
    calls.clear()
    run(tmp_path, room)
    assert calls == []


@pytest.mark.slow
def test_a_changed_notebook_or_key_is_graded_anew(tmp_path, room, monkeypatch):
    folder, _ = room
    for path in folder.glob("*/*.ipynb"):
        path.unlink()
    for name in ("dot.ipynb", "dot (1).ipynb", "stranger.ipynb", "04_cem.ipynb"):
        (folder / name).unlink()
    run(tmp_path, room)
    calls, real = [], classroom.graded
    monkeypatch.setattr(
        classroom, "graded", lambda book, *a, **k: calls.append(book) or real(book, *a, **k)
    )
    run(tmp_path, room)
    assert calls == []
    run(tmp_path, room, key=Key("another key, long enough", "c"))
    assert len(calls) == 1
    path = folder / "04_ann.ipynb"
    path.write_text(path.read_text() + "\n")
    run(tmp_path, room, key=Key("another key, long enough", "c"))
    assert len(calls) == 2


def row(student="ann", file="a.ipynb", words=0):
    return grade.empty(OF, file, student, "graded") | {
        "manual": {"04.r1": {"words": words, "text": "<b>x</b>", "max_points": 3}}
    }


def test_points_by_hand_are_kept(tmp_path):
    path = tmp_path / "g.csv"
    path.write_bytes(csv_of([row(words=12), row("bea", "b.ipynb")], OF))
    assert [r["manual"] for r in csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))] == [
        "12 words",
        "",
    ]
    path.write_text(path.read_text("utf-8-sig").replace("12 words", "3"), encoding="utf-8-sig")
    kept = read_kept(path, OF)
    again = csv_of(marked([row(words=12)], kept, OF), OF, kept)
    assert next(csv.DictReader(io.StringIO(again.decode("utf-8-sig"))))["manual"] == "3"


def test_a_name_cannot_become_a_formula():
    told = next(
        csv.DictReader(io.StringIO(csv_of([row("=HYPERLINK(1)")], OF).decode("utf-8-sig")))
    )
    assert told["student"] == "'=HYPERLINK(1)"


def test_a_page_escapes_what_students_write():
    from minicomp.teach.grading.feedback import page

    html = page(row("<script>alert(1)</script>", words=3), OF)
    assert "<script>" not in html and "&lt;script&gt;" in html and "<b>x" not in html


@pytest.mark.parametrize(
    "text, says",
    [
        ("name,file\nann,a", 'column "student"'),
        ("", 'column "student"'),
        ("student\n", "no students"),
        ("student\nann\nann\n", "ann stands twice"),
        ("student,file\n,a\n", "no students"),
    ],
)
def test_a_bad_roster_gets_one_line(tmp_path, text, says):
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        roster.read_roster(path)


def test_rosters_of_spreadsheets_are_read(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes("\ufeffstudent;file\r\nBea Müller;b.ipynb\r\n".encode())
    assert roster.read_roster(path) == [roster.Student("Bea Müller", "b.ipynb")]


def test_files_are_matched_by_roster_path_and_notebook(tmp_path, solved, replaced):
    setup = {"mode": 'lesson = Lesson("04", mode="full", student="Eve O\'Neil", course="open")'}
    solved(replaced(setup), name="in/homework.ipynb")
    others = [
        solved(name=f"in/{n}") for n in ("x1.ipynb", "05_ann_lee.ipynb", "s12.ipynb", "s123.ipynb")
    ]
    students = [
        roster.Student(s, f)
        for s, f in (
            ("zoe", "x1.ipynb"),
            ("Ann Lee", ""),
            ("s12", ""),
            ("s123", ""),
            ("Eve O'Neil", ""),
        )
    ]
    found = classroom.matched(handed_in.read_all(tmp_path / "in"), students)
    assert {s.name: s.student for s in found} == {
        "homework.ipynb": "Eve O'Neil", "x1.ipynb": "zoe", "05_ann_lee.ipynb": "Ann Lee",
        "s12.ipynb": "s12", "s123.ipynb": "s123"
    }
    assert not any(s.status for s in found)
    for path in others[1:]:
        path.unlink()
    found = classroom.matched(handed_in.read_all(tmp_path / "in"), None)
    assert [s.student for s in found] == ["Eve O'Neil", "x1"]


def test_a_missing_folder_gets_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        handed_in.read_all(tmp_path / "none")
    with pytest.raises(UserError, match="no .ipynb file"):
        classroom.grade_folder(tmp_path, "04", outputs(tmp_path), key=Key())


def test_a_defect_of_the_grader_costs_one_row(tmp_path, room, monkeypatch):
    monkeypatch.setattr(classroom, "graded", lambda *a, **k: 1 / 0)
    rows, _ = run(tmp_path, room)
    assert len(rows) == 8 and "the grader failed: ZeroDivisionError" in rows[0]["status"]


OWN = """
def magnitude_mask(w, sparsity):
    order = np.argsort(np.abs(w).ravel(), kind="stable")
    kept = np.ones(w.size, bool)
    kept[order[: round(sparsity * w.size)]] = False
    return kept.reshape(w.shape)
"""


def lesson_cell(name):
    return {"mode": f'lesson = Lesson("04", mode="full", student="{name}", course="open")'}


def test_one_odd_file_stops_nobody_and_the_status_is_made_anew(tmp_path, solved, replaced):
    # Names in Latin-1, half a letter as a name, a link: each has a row, at every run.
    folder = tmp_path / "in"
    shutil.copy(solved(name="in/ann.ipynb"), folder / "ann (copy of) bea.ipynb")
    surrogate = solved(replaced(lesson_cell("half")), name="in/half.ipynb")
    surrogate.write_text(surrogate.read_text().replace('\\"half\\"', '\\"\\ud83d\\"'))
    os.rename(folder / "ann (copy of) bea.ipynb", os.fsencode(folder) + b"/J\xfcrgen.ipynb")
    os.symlink(folder / "ann.ipynb", folder / "link.ipynb")
    roster_file = tmp_path / "class.csv"
    roster_file.write_text("student\nann\nJürgen\n")
    kept = []
    for students in (None, roster_file, roster_file, None):
        rows, _ = run(tmp_path, (folder, students))
        told = table(tmp_path)
        assert len(rows) == 4 and sum(r["points"] == OF.max_points - 2 for r in rows) == 3
        kept.append([t["status"] for t in told])
    assert kept[0] == kept[3] and kept[1] == kept[2]  # nothing stale, nothing that grows
    by_file = {t["file"]: t["status"] for t in told}
    assert "not followed" in by_file["link.ipynb"] and "Jürgen.ipynb" in by_file
    journal = outputs(tmp_path).journal
    journal.write_bytes(journal.read_bytes() + '{"stamp": "ä'.encode()[:-1])
    rows, seen = run(tmp_path, (folder, roster_file))
    assert len(rows) == 4 and "1 lines are damaged" in seen[0]["text"]


def test_copies_are_named_on_both_sides(tmp_path, solved, replaced):
    folder = tmp_path / "in"
    shutil.copy(solved(name="in/ann.ipynb"), folder / "bea.ipynb")
    spaced = replaced({"exercise:04.magnitude_mask": "# mine\n\n" + OWN},
                      first=["mine = 1"])
    solved(replaced({"exercise:04.magnitude_mask": OWN}), name="in/cem.ipynb")
    solved(spaced, name="in/dan.ipynb")  # another comment and another cell
    for name in ("eve", "fay"):
        solved(solutions=False, name=f"in/{name}.ipynb")  # both are blank: nothing is shared
    solved(replaced(lesson_cell("ann") | {"exercise:04.magnitude_mask": OWN + "\nx = 2"}),
           name="in/gus.ipynb")
    students = [roster.Student(n) for n in ("ann", "bea", "cem", "dan", "eve", "fay", "gus")]
    files = handed_in.read_all(folder)
    submissions = classroom.matched(files, students)
    works = [copies.work(s.book, OF, running.shipped(OF)) for s in submissions]
    told = dict(zip([s.student for s in submissions], copies.shared(submissions, works)))
    assert told == {
        "ann": "same file as bea (bea.ipynb)", "bea": "same file as ann (ann.ipynb)",
        "cem": "same code as dan (dan.ipynb)", "dan": "same code as cem (cem.ipynb)",
        "eve": "", "fay": "", "gus": "",
    }
    names = dict(zip([s.student for s in submissions], copies.other_names(submissions, students)))
    assert names.pop("gus") == "bears the name of ann" and not any(names.values())


def test_marks_are_read_before_anything_runs_and_counted(tmp_path, solved, replaced):
    words = {"reflect:04.r1": 'reflect("04.r1", "Zeros are stored, too.")'}
    solved(replaced(words), name="in/ann.ipynb")
    run(tmp_path, (tmp_path / "in", None))
    out = outputs(tmp_path)
    text = out.csv.read_text("utf-8-sig")
    assert "4 words" in text and "waiting for a mark by hand" in out.summary.read_text()
    out.csv.write_text(text.replace(",", ";").replace("4 words", "2,5"), encoding="utf-16")
    rows, _ = run(tmp_path, (tmp_path / "in", None))
    assert rows[0]["points"] == OF.max_points - 2 + 2.5
    (html,) = out.feedback.glob("*.html")
    assert "2.5 of 3" in html.read_text() and ";2,5;" in out.csv.read_text("utf-8-sig")
    out.csv.write_bytes(b"PK\3\4 saved as a workbook")
    with pytest.raises(UserError, match="nothing was graded"):
        run(tmp_path, (tmp_path / "in", None))
    assert out.csv.read_bytes() == b"PK\3\4 saved as a workbook"


def test_a_zip_of_what_was_handed_in_is_graded(tmp_path, solved):
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.write(solved(), "Bea Müller_1_assignsubmission_file_/04.ipynb")
    students = tmp_path / "class.csv"
    students.write_text("student\nBea Müller\n")
    rows, _ = run(tmp_path, (path, students))
    assert [(r["student"], r["points"]) for r in rows] == [("Bea Müller", OF.max_points - 2)]
