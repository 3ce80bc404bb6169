import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def sources_of_this_checkout(monkeypatch):
    # The installed package is tested; the lessons' sources are only here.
    from minicomp.teach.notebook import build

    monkeypatch.setattr(build, "_ROOT", Path(__file__).parents[1])


@pytest.fixture
def lesson4():
    from minicomp.teach import catalog

    return catalog.lesson(4)


@pytest.fixture
def solved(tmp_path, lesson4):
    # Writes the solved notebook of lesson 4, its cells changed by a function of the list of cells.
    def write(change=lambda cells: cells, name="04_solved.ipynb", meta=True, solutions=True):
        from minicomp.teach.notebook import build

        tree = json.loads(build.notebook_text(lesson4, solutions=solutions))
        tree["cells"] = change(tree["cells"])
        if not meta:
            tree["metadata"] = {}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree), encoding="utf-8")
        return path

    return write


def has_tag(cell, tag):
    return tag in cell["metadata"].get("tags", [])


@pytest.fixture
def replaced():
    # A change: the cell with a tag gets another source; code may also be put before all cells.
    def make(sources=None, first=()):
        def change(cells):
            out = [code(text) for text in first]
            for cell in cells:
                for tag, text in (sources or {}).items():
                    if has_tag(cell, tag):
                        cell = cell | {"source": text}
                out.append(cell)
            return out

        return change

    return make


def code(text, tags=()):
    return {
        "cell_type": "code",
        "id": "x",
        "metadata": {"tags": list(tags)},
        "source": text,
        "outputs": [],
        "execution_count": None,
    }
