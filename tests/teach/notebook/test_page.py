"""Static pages: formulas become pictures that keep their TeX as text."""

import re

import pytest
from minicomp.teach import catalog
from minicomp.teach.grading import feedback, grade
from minicomp.teach.notebook import page
from minicomp.teach.notebook.page import with_formulas


def test_pages_fit_a_phone():
    # What a narrow screen cannot hold wraps or scrolls; nothing is wider than the page.
    assert "initial-scale=1" in page._page("t", "", "")
    for rule in (
        r"pre \{ overflow-x: auto", r"\.display \{ overflow-x: auto", r"img \{ max-width: 100%",
        r"table \{[^}]*display: block; overflow-x: auto", r"@media \(max-width: 30em\)",
        r"pre\.matrix \{ white-space: pre",
    ):
        assert re.search(rule, page._STYLE), rule


def test_the_feedback_page_fits_a_phone():
    of = catalog.lesson("06")
    html = feedback.page(grade.blank(of) | {"student": "x" * 200}, of)
    assert "width=device-width,initial-scale=1" in html
    # Names of exercises wrap anywhere, points never: no table is wider than its page.
    assert "body { overflow-wrap: anywhere }" in html
    assert "td.n, th.n { text-align: right; white-space: nowrap }" in html


def test_the_rows_of_a_matrix_are_not_broken():
    pytest.importorskip("nbconvert")
    output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}}
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": "", "execution_count": 1,
         "outputs": [output | {"data": {"text/plain": text}}]}
        for i, text in enumerate(("array([[1, 2]])", "(array([1]), 2)", "a long line"))
    ]
    tree = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    try:
        body, _ = page._body(tree)
    except ValueError as e:  # nbconvert's templates are not where it looks for them
        pytest.skip(str(e))
    assert body.count('<pre class="matrix">') == 2


def test_formulas_become_pictures_and_code_stays():
    text = with_formulas("a `$x$` and $y^2$\n```\n$z$\n```\n$$w$$")
    assert "`$x$`" in text and "\n$z$\n" in text
    assert text.count("<img") == 2 and 'alt="y^2"' in text
    assert '<div class="display"><img' in text


def test_a_stop_stays_on_the_line_of_its_formula():
    text = with_formulas("of $q$, $L_q$ and ($w$).")
    held = [part.split("</span>")[0] for part in text.split('<span class="whole">')[1:]]
    assert [part.rsplit(">", 1)[1] for part in held] == [",", ")."]
