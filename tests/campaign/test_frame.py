# The campaign is run as a developer runs it, in a folder that holds a copy of it: parts that are
# made up here, and a moment of the real one.
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PART = """
import os
from tests.campaign.frame import Failure
def step(seed, folder):
    if seed == 2:
        raise Failure("two is \\x1b[31m wrong")
    if seed == 4:
        os._exit(7)
    if seed == 5:
        return {}["none"]
    (folder / "seen").open("a").write(f"{seed} ")
    return {"pieces": 3, "most_seconds": 1.0 / (1 + seed)}
"""


@pytest.fixture
def campaign(tmp_path):
    shutil.copytree(TESTS, tmp_path / "tests", ignore=shutil.ignore_patterns(
        "__pycache__", "nets", "lessons", "teach", "papers", "report"))

    def run(*words):
        done = subprocess.run([sys.executable, "-m", "tests.campaign", *words], cwd=tmp_path,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done, json.loads(done.stdout) if done.stdout else None

    return run


@pytest.mark.slow  # several processes
def test_counts_and_seeds_go_on_and_failures_are_named(campaign, tmp_path):
    (tmp_path / "tests/campaign/kills.py").write_text(PART)
    words = ("--only", "kills", "--workers", "1")
    for i in range(2):  # at least one step each
        done, known = campaign("0", *words)
        assert done.returncode == 0, done.stderr
        assert known["seeds"] == {"kills": i + 1} and known["failures"] == []
        assert known["counts"]["kills"] == {"steps": i + 1, "pieces": 3 * (i + 1)}
        assert known["most"]["kills"] == {"most_seconds": 1.0}
    says = {2: "two is \\x1b[31m wrong", 4: "the process died with exit code 7",
            5: "KeyError in kills.py:10: 'none'"}
    for seed in (2, 3, 4, 5, 6):
        done, known = campaign("0", *words)
        assert done.returncode == (seed in says), done.stderr
        if seed in says:
            assert known["failures"][-1] == {"part": "kills", "seed": seed, "message": says[seed]}
            assert f"FAILED kills seed {seed}: {says[seed]}\n" in done.stderr
            assert f"again: python -m tests.campaign 0 --only kills --seed {seed}\n" in done.stderr
    assert json.loads((tmp_path / ".campaign/state.json").read_text())["seeds"] == {"kills": 7}
    again, known = campaign("0", "--only", "kills", "--seed", "2")
    assert again.returncode == 1 and len(known["failures"]) == 1
    assert json.loads((tmp_path / ".campaign/state.json").read_text())["seeds"] == {"kills": 7}


@pytest.mark.slow
def test_a_moment_of_the_campaign_finds_nothing(campaign):
    done, known = campaign("0", "--only", "files", "--workers", "1")
    assert done.returncode == 0, done.stderr
    counts, most = known["counts"]["files"], known["most"]["files"]
    assert counts["files"] == 100 == counts["loaded"] + counts["refused"]
    assert counts["loaded"] > 0 < counts["refused"]
    assert most["most_seconds"] < 1 and most["most_mebibytes"] < 192


@pytest.mark.parametrize("words, says", [
    (("0", "--seed", "3"), "--seed is of a part"),
    (("0", "--only", "nothing"), "invalid choice: 'nothing'"),
    ((), "required: SECONDS"),
])
@pytest.mark.slow
def test_words_that_are_wrong(campaign, words, says):
    done, _ = campaign(*words)
    assert done.returncode == 2 and says in done.stderr
