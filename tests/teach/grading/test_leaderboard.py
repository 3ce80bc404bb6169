import csv
import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from minicomp import codec
from minicomp.errors import UserError
from minicomp.models import LeNet5, LeNet300
from minicomp.teach import catalog
from minicomp.teach.asking.lesson import Capstone
from minicomp.teach.grading import classroom, leaderboard
from minicomp.teach.grading.feedback import page
from minicomp.teach.grading.grade import Key, empty
from minicomp.teach.grading.handed_in import File, read_all
from minicomp.teach.grading.roster import Student
from minicomp.teach.grading.summary import summary
from minicomp.teach.grading.table import Kept, marked, read_kept, table
from minicomp.teach.live import capstone

OF = catalog.lesson(20)
# Untrained nets stand for good ones: everything below 100 % is within the limit.
EASY = replace(OF, capstone=Capstone(limit=99.0, images=20, sizes=(600_000, 300_000)))
NETS = {name: codec.encode(made(rng=np.random.default_rng(0)))
        for name, made in (("large", LeNet300), ("larger", LeNet5))}


@pytest.fixture
def quick(monkeypatch):
    # Nets are measured here, and by the fake times that are asked for.
    times = {len(NETS["large"]): 1.0, len(NETS["larger"]): 2.5}

    def measured(raw, digits, asked):
        found = capstone.measure(raw, digits, asked)
        return found | ({} if found["problem"] else {"ratio": times.get(len(raw), 1.0)})

    monkeypatch.setattr(leaderboard, "measured", measured)
    glyphs = {"glyphs": capstone.unseen("s", 20)["glyphs"]}
    monkeypatch.setattr(leaderboard, "unseen", lambda secret, n: glyphs)


def rows_of(owners, rows=(), of=EASY):
    made = [empty(of, f"{who}.ipynb", who, "graded") | {"points": 7} for who in rows]
    return leaderboard.with_files(made, owners, of, Key())


def test_points_and_ranks_of_a_class(quick):
    owners = [(File("b.mcz", net=NETS["larger"]), "bea"), (File("a.mcz", net=NETS["large"]), "ann"),
              (File("c.mcz", net=NETS["large"][:900]), "cem"),
              (File("d.mcz", net=b"0" * 3_000_000), "dan"), (File("f.mcz", net=None,
               problem="a link, which is not followed"), "fay")]
    rows = rows_of(owners, ("ann", "bea", "cem", "eve"))
    by = {r["student"]: r["capstone"] for r in rows}
    assert by["ann"]["rank"] == 1 and by["bea"]["rank"] == 2 and by["ann"]["of"] == 2
    assert by["ann"]["points"] == 5 and by["bea"]["points"] == 5
    for who, told in (("cem", "bytes are declared"), ("dan", "3,000,000 bytes; at most 2,000,000"),
                      ("fay", "a link"), ("eve", "no .mcz file")):
        assert by[who]["points"] == 0 and by[who]["rank"] is None and told in by[who]["text"]
        assert "\n" not in by[who]["text"]
    points = {r["student"]: r["points"] for r in rows}
    assert points == {"ann": 12, "bea": 12, "cem": 7, "eve": 7, "dan": 0, "fay": 0}
    alone = next(r for r in rows if r["student"] == "dan")
    assert alone["file"] == "d.mcz" and alone["status"] == "no notebook, a file alone"


def found(n_bytes, ratio=1.0, errors=0, digits="mnist"):
    return {"problem": "", "bytes": n_bytes, "digits": digits, "errors": errors, "size": 1000,
            "low": 0.0, "high": 0.01, "others": {}, "ratio": ratio}


def test_ties_break_by_time_to_one_decimal_and_the_error_ranks_nobody(monkeypatch):
    each = {b"1": found(5000, 1.02, errors=18), b"2": found(5000, 1.04), b"3": found(5000, 0.9),
            b"4": found(4000, 9.0), b"5": found(3000, errors=19), b"6": found(9, digits="glyphs")}
    monkeypatch.setattr(leaderboard, "measured", lambda raw, digits, asked: each[raw])
    monkeypatch.setattr(leaderboard, "unseen", lambda secret, n: {})
    rows = rows_of([(File(f"{k}.mcz", net=b"%d" % k), str(k)) for k in range(1, 7)], of=OF)
    assert {r["student"]: r["capstone"]["rank"] for r in rows} == {
        "4": 1, "3": 2, "1": 3, "2": 3, "5": None, "6": 1}  # glyphs are ranked by themselves
    lines = leaderboard.board(rows, OF.capstone)
    assert [line[1] for line in lines] == ["6", "4", "3", "1", "2", "5"]
    assert lines[-1][-1] == "above 1.8 %" and lines[1][3] == "4,000"


def test_of_several_files_one_counts_and_equal_ones_are_said_to_the_teacher_alone(quick):
    owners = [(File("ann/1.mcz", net=NETS["large"]), "ann"),
              (File("ann/2.mcz", net=NETS["larger"]), "ann"),
              (File("bea.mcz", net=NETS["large"]), "bea")]
    ann, bea = rows_of(owners, ("ann", "bea"))
    assert ann["capstone"]["file"] == "ann/1.mcz" and "2 .mcz files: ann/1.mcz" in ann["status"]
    assert ann["shares"] == "same .mcz as bea" and "same .mcz as ann" in bea["status"]
    assert "same .mcz" not in page(marked([ann | {"told": "graded"}], Kept(), EASY)[0], EASY)
    assert ann["capstone"]["rank"] == bea["capstone"]["rank"] == 1


def test_each_file_is_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(leaderboard, "unseen", lambda secret, n: {})
    monkeypatch.setattr(leaderboard, "measured",
                        lambda raw, *_: calls.append(raw) or found(len(raw)))
    rows_of([(File(f"{k}.mcz", net=b"same"), str(k)) for k in range(4)], of=OF)
    assert len(calls) == 1


def test_whose_a_file_is():
    def owners(files, books, students=None):
        made = [classroom.Submission(name, who) for name, who in books]
        return [who for _, who in leaderboard.owned(
            [File(f, other=True, net=b"x") for f in files], students, made, classroom.matched)]

    roster = [Student("Ann Lee"), Student("Bea Müller")]
    assert owners(["Bea Müller_1_file_/capstone.mcz", "capstone_annlee.mcz"], [], roster) == [
        "Bea Müller", "Ann Lee"]
    # Beside the notebook that names its student, or of its name.
    assert owners(["x/capstone.mcz"], [("x/20.ipynb", "ann"), ("20.ipynb", "bea")]) == ["ann"]
    assert owners(["a.mcz", "b.mcz"], [("a.ipynb", "ann"), ("b.ipynb", "bea")]) == ["ann", "bea"]
    assert owners(["x/net.mcz"], [("x/1.ipynb", "Ann Lee")], roster) == ["Ann Lee"]
    assert owners(["dora.mcz"], [("a.ipynb", "ann"), ("b.ipynb", "bea")]) == ["dora"]
    assert owners(["stranger.mcz"], [], roster) == [""]


def test_the_table_is_written_and_read_again(quick, tmp_path):
    rows = marked(rows_of([(File("a.mcz", net=NETS["large"]), "ann")], ("ann", "bea")), Kept(),
                  EASY)
    path = tmp_path / "g.csv"
    path.write_bytes(table(rows, EASY))
    ann, bea = csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))
    assert ann["capstone"] == "5" and ann["rank"] == "1" and ann["mcz"] == "a.mcz"
    assert int(ann["mcz bytes"]) == len(NETS["large"]) and ann["mcz time"] == "1.00"
    assert bea["capstone"] == "0" and bea["mcz"] == bea["mcz bytes"] == ""
    assert read_kept(path, EASY).columns == []  # none of them is the teacher's own
    assert "mcz" not in table([], catalog.lesson(4)).decode()


def test_pages_of_the_class_and_of_a_student(quick):
    owners = [(File("a.mcz", net=NETS["large"]), "<ann>"), (File("b.mcz", net=b"junk"), "bea")]
    rows = marked(rows_of(owners, ("<ann>", "bea")), Kept(), EASY)
    html = summary(rows, EASY)
    board = html.split("The leaderboard")[1].split("<h2>")[0]
    assert "&lt;ann&gt;" in board and "<ann>" not in html and "bea" in board
    assert f"{len(NETS['large']):,}" in board and re.search(r"<td class=n>1</td>", board)
    mine = page(rows[0], EASY)
    assert "Rank 1 of 1" in mine and "bea" not in mine and "your file" in mine
    assert f"5 of {EASY.capstone.points}" in mine
    assert "Rank" not in page(rows[1], EASY)
    assert "leaderboard" not in summary([], catalog.lesson(4))


@pytest.mark.parametrize("there, taken", [
    (["20_capstone.ipynb", "capstone.mcz"], "capstone.mcz"),
    (["20_capstone.ipynb", "20_capstone.mcz", "old.mcz"], "20_capstone.mcz"),
    (["20_capstone.ipynb", "a.mcz", "b.mcz"], None), (["20_capstone.ipynb"], None)])
def test_the_file_beside_a_notebook(tmp_path, there, taken):
    for name in there:
        (tmp_path / name).write_bytes(b"")
    found = leaderboard.beside(tmp_path / "20_capstone.ipynb", OF)
    assert (found and found.name) == taken
    assert leaderboard.beside(tmp_path / "20_capstone.ipynb", catalog.lesson(4)) is None


def test_a_file_alone_is_graded(quick, tmp_path):
    path = tmp_path / "mine.mcz"
    path.write_bytes(NETS["large"])
    row = leaderboard.read_alone(path, EASY, Key())
    assert row["points"] == row["capstone"]["points"] == 5 and row["file"] == "mine.mcz"
    with pytest.raises(UserError, match="lesson 04 asks for a notebook"):
        leaderboard.read_alone(path, catalog.lesson(4), Key())


def test_files_are_found_in_folders_and_zips_and_links_are_not_followed(tmp_path):
    folder = tmp_path / "in"
    (folder / "ann").mkdir(parents=True)
    (folder / "ann" / "capstone.MCZ").write_bytes(b"net of ann")
    (tmp_path / "secret.mcz").write_bytes(b"not handed in")
    (folder / "link.mcz").symlink_to(tmp_path / "secret.mcz")
    shutil.make_archive(str(tmp_path / "all"), "zip", folder / "ann")
    shutil.move(tmp_path / "all.zip", folder / "bea.zip")
    found = {f.name: f for f in read_all(folder)}
    assert found["ann/capstone.MCZ"].net == b"net of ann" == found["bea.zip/capstone.MCZ"].net
    assert found["link.mcz"].net is None and "link" in found["link.mcz"].problem
    assert all(f.other for f in found.values())
