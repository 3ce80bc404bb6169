import importlib
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # a class of hostile notebooks a seed
@pytest.mark.parametrize("seed", [2, 5, 10])
def test_a_step_of_the_campaign(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    notebooks = importlib.import_module("tests.campaign.notebooks")
    found = notebooks.step(seed, tmp_path)
    assert found["notebooks"] == 3 and found["most_seconds"] < notebooks.MOST_SECONDS
    assert not list(tmp_path.iterdir())
