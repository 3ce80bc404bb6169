import ast
import json

import pytest
from minicomp.errors import UserError
from minicomp.teach.notebook import cells as notebook
from minicomp.teach.notebook.cells import BEGIN, END, Cell

SOURCE = f'''# ---
# jupyter: {{}}
# ---

# %% [markdown]
# # Title
#
# Text with `# %%` in it.

# %% tags=["exercise:04.x", "slow"]
def f(x):
    """Doc."""
    {BEGIN}
    y = x
    return y
    {END}

# %%
f(1)
'''


def test_sources_are_read_cell_by_cell():
    cells = notebook.read_source(SOURCE)
    assert [c.kind for c in cells] == ["markdown", "code", "code"]
    assert cells[0].source == "# Title\n\nText with `# %%` in it."
    assert (
        cells[1].tags == ("exercise:04.x", "slow")
        and cells[1].tagged("exercise")
        and cells[1].tagged("slow")
    )
    assert not cells[1].tagged("exerc") and cells[2].source == "f(1)"


def test_jupytext_reads_the_same_cells():
    jupytext = pytest.importorskip("jupytext")
    theirs = [
        c for c in jupytext.reads(SOURCE, fmt="py:percent").cells if c.cell_type != "raw"
    ]  # the header
    ours = notebook.read_source(SOURCE)
    assert [(c.cell_type, c.source, tuple(c.metadata.get("tags", ()))) for c in theirs] == [
        (c.kind, c.source, c.tags) for c in ours
    ]


def test_a_solution_becomes_a_stub_that_raises():
    text = notebook.stub(notebook.read_source(SOURCE)[1].source)
    assert text == 'def f(x):\n    """Doc."""\n    raise NotImplementedError("your code here")'
    assert "return y" in notebook.unmarked(SOURCE) and BEGIN not in notebook.unmarked(SOURCE)
    for bad in (BEGIN, END, f"{BEGIN}\n{BEGIN}\n{END}"):
        with pytest.raises(UserError, match="SOLUTION"):
            notebook.stub(bad)


def test_cell_ids_are_fixed_unique_and_legal():
    cells = notebook.read_source(SOURCE) + [Cell("code", "x", ("exercise:04.x",))]
    ids = [c.id for c in notebook.numbered(cells, "04")]
    assert ids == ["cell-04-00", "exercise-04-x", "cell-04-02", "exercise-04-x-3"]


def test_notebooks_are_valid_and_come_back(tmp_path):
    cells = notebook.numbered(notebook.read_source(SOURCE), "04")
    text = notebook.to_json(cells, {"lesson": "04"})
    assert text == notebook.to_json(cells, {"lesson": "04"})
    path = tmp_path / "x.ipynb"
    path.write_text("\ufeff" + text, encoding="utf-8")  # some editors put a mark there
    book = notebook.read_notebook(path)
    assert book.meta == {"lesson": "04"} and book.cells == tuple(cells)
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(json.loads(text))


NUMBERS = {
    "data": {
        "mnist": {
            "results": {
                "error": {"mean": 1.234, "low": 1.2, "high": 1.3, "unit": "%", "digits": 1},
                "bytes": {"mean": 21500.4, "low": 1, "high": 2, "digits": 0},
            }
        }
    }
}


def test_numbers_are_filled_into_prose():
    assert notebook.filled("{{mnist:error}} of {{ mnist:bytes }}", NUMBERS) == "1.2 % of 21,500"
    assert notebook.filled("{{mnist:error:range}}", NUMBERS) == "1.2 to 1.3 %"
    for hole in ("glyphs:error", "mnist:none", "mnist"):
        with pytest.raises((UserError, ValueError)):
            notebook.filled("{{" + hole + "}}", NUMBERS)


@pytest.mark.parametrize(
    "source, runs",
    [
        ("%matplotlib inline\nx = 1", True),
        ("!pip install y\nx = 1", True),
        ("%%time\nx = 1", True),
        ("np.sum?\nx = 1", True),
        ("def f():\n    %timeit 3\nx = 1", True),
        ("x = 7 \\\n % 3", True),
        ("x = (", False),
    ],
)
def test_magics_do_not_stop_a_cell(source, runs):
    if runs:
        assert "x" in notebook.said(source).defines
        ast.parse(notebook.plain(source))
    else:
        assert notebook.said(source).defines == set()


def test_literals_of_calls_are_read_without_running_them():
    cells = [
        Cell("code", 'a = predict("p", 3)\nb = predict("p", -4.5)'),
        Cell("code", "this is not python"),
        Cell("code", 'if True:\n    predict("q", exit())'),
    ]
    found = notebook.Notebook(tuple(cells)).calls("predict")
    assert [c.args[1] for c in found] == [3, -4.5, None]


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "x.ipynb"
    path.write_text("[1]" + " " * 2**21)
    monkeypatch.setattr(notebook, "MAX_NOTEBOOK_BYTES", 2**20)
    with pytest.raises(UserError, match="x.ipynb: larger than 1 MiB"):
        notebook.read_notebook(path)


def test_the_digest_is_of_the_whole_file(tmp_path):
    digests = set()
    for end in ("", " "):
        (tmp_path / "x.ipynb").write_text('{"cells": []}' + end)
        digests.add(notebook.read_notebook(tmp_path / "x.ipynb").sha256)
    assert len(digests) == 2 and {len(d) for d in digests} == {64}
