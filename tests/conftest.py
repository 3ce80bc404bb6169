from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def sources_of_this_checkout(monkeypatch):
    # The installed package is tested; the lessons' sources are only here.
    from minicomp.teach import build

    monkeypatch.setattr(build, "_ROOT", Path(__file__).parents[1])
