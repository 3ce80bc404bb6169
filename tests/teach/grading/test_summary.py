import re

from minicomp.teach import catalog
from minicomp.teach.grading.grade import empty
from minicomp.teach.grading.summary import summary
from minicomp.teach.grading.table import Kept, marked

OF = catalog.lesson(4)


def row(student, points=0, wrong="", status="graded", file="x.ipynb", words=0, **more):
    made = empty(OF, file, student, status) | {"points": points} | more
    part = [{"name": "tiny", "points": 0, "max_points": 1}]
    if wrong:
        made["exercises"]["04.masked_sgd"] |= {
            "message_id": f"04.masked_sgd/{wrong}", "message": f"about <{wrong}>",
            "report": f"report of {student}", "parts": part,
        }
    made["manual"] = {"04.r1": {"words": words, "text": f"<i>{student}</i>", "max_points": 3}}
    return made


ROWS = [
    row("ann", 19, words=30),
    row("bea", 5, "momentum-revives"),
    row("cem", 6, "momentum-revives", shares="same file as dan (d.ipynb)",
        status="graded; same file as dan (d.ipynb)"),
    row("dan", 6, "masked-once"),
    row("eve", 0, "not-written", status="blank"),
    row("fay", file="", status="missing"),
    row("", 2, status="not in the roster; graded", file="<odd>.ipynb"),
    row("ann", 3, file="second.ipynb"),
]


def test_the_class_on_one_page():
    html = summary(marked(ROWS, Kept(), OF), OF)
    text = re.sub(r"<[^>]*>", " ", html)
    assert "6 of 7 handed in" in text and "1 missing" in text and "1 waiting" in text
    revived, once = html.index("momentum-revives"), html.index("masked-once")
    assert revived < once and "<strong>2</strong>" in html[:revived]
    assert "report of bea" in html and "not-written" not in html.split("What went wrong")[1]
    assert "same file as dan (d.ipynb)" in html.split("Who shares work")[1].split("<h2>")[0]
    assert "fay" in html.split("Missing")[1].split("<h2>")[0]
    assert "&lt;i&gt;ann&lt;/i&gt;" in html and OF.reflections[0].rubric[0][1][:20] in text
    assert "not in the roster" in html.split("What else was odd")[1]
    counts = [int(n) for n in re.findall(r"<td class=n>(\d+)</td><td><span class=bar", html)]
    assert sum(counts) == 6


def test_nothing_comes_from_a_network_and_nothing_runs():
    html = summary(marked(ROWS, Kept(), OF), OF)
    for word in ("http", "src=", "<script", "<link", "@import", "url("):
        assert word not in html.lower()
    assert "<odd>" not in html and "<momentum" not in html


def test_a_class_without_a_notebook():
    assert "Nobody handed in" in summary(marked([row("fay", file="", status="missing")], Kept(),
                                                OF), OF)
