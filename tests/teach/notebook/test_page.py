"""Static pages: formulas become pictures that keep their TeX as text."""

from minicomp.teach.notebook.page import with_formulas


def test_formulas_become_pictures_and_code_stays():
    text = with_formulas("a `$x$` and $y^2$\n```\n$z$\n```\n$$w$$")
    assert "`$x$`" in text and "\n$z$\n" in text
    assert text.count("<img") == 2 and 'alt="y^2"' in text
    assert '<div class="display"><img' in text


def test_a_stop_stays_on_the_line_of_its_formula():
    text = with_formulas("of $q$, $L_q$ and ($w$).")
    held = [part.split("</span>")[0] for part in text.split('<span class="whole">')[1:]]
    assert [part.rsplit(">", 1)[1] for part in held] == [",", ")."]
