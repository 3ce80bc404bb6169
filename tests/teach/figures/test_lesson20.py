import pytest
from minicomp.teach import catalog, figures
from minicomp.teach.figures import lesson20

ROWS = [("4 pruned", 1.7, 80.0), ("17 coded", 1.8, 29.0), ("15 hashed", 2.4, 86.0)]
PATHS = {"channels first": ([1.0, 1.2, 1.25], [360.0, 47.0, 13.5]),
         "weights first": ([0.9, 1.3, 1.3], [170.0, 54.0, 15.0])}


def test_the_text_says_every_file_the_front_and_the_guess():
    alt = figures.every_row(ROWS, PATHS, guess=20.0).alt
    assert "4 pruned 1.70 % at 80.0 kB; 17 coded 1.80 % at 29.0 kB" in alt
    assert "channels first 1.25 % at 13.5 kB" in alt
    assert "On the front: channels first." in alt and alt.endswith("Your guess: 20 kB.")
    assert "guess" not in figures.every_row(ROWS, PATHS).alt


@pytest.mark.parametrize("data", ["mnist", "glyphs"])
def test_earlier_rows_are_the_recorded_ones_in_kilobytes(data):
    rows = {name: (error, kb) for name, error, kb in figures.earlier(data)}
    assert len(rows) == len(lesson20.ROWS)
    kept = catalog.expected(catalog.lesson(17))["data"][data]["results"]
    assert rows["17 Deep Compression"] == (kept["error_final"]["mean"],
                                           kept["bytes_coded"]["mean"] / 1000)
    kept = catalog.expected(catalog.lesson(4))["data"][data]["results"]
    assert rows["4 pruned in rounds"][1] == pytest.approx(1066.44 / kept["ratio"]["mean"])
    assert all(5 < kb < 200 for _, kb in rows.values())


def test_nothing_recorded_is_no_row():
    assert figures.earlier("cifar10") == []
