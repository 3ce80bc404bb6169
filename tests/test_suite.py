import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

CONFTEST = (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8")
HOOKS = CONFTEST.partition("@pytest.fixture")[0]


def blas_threads():
    np.ones((64, 64)) @ np.ones((64, 64))
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_a_process_has_one_blas_thread_and_more_where_it_asks():
    assert blas_threads() == {int(os.environ["OPENBLAS_NUM_THREADS"])}
    with threadpool_limits(2):
        assert blas_threads() == {2}


def suite(folder, text, *words, ci=""):
    # Runs a suite of one file under the hooks of this suite's conftest; there 0.2 s is slow.
    assert "SLOW = 5.0 " in HOOKS
    conftest = HOOKS.replace("SLOW = 5.0 ", "SLOW = 0.2 ")
    (folder / "conftest.py").write_text(conftest, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n", encoding="utf-8")
    (folder / "test_one.py").write_text(text, encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "OPENBLAS", "OMP"))}
    env |= {"CI": ci, "PYTEST_XDIST_AUTO_NUM_WORKERS": "2"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *words], cwd=folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )


TIMES = """
import time, pytest, hypothesis
def test_examples(): assert hypothesis.settings.default.max_examples == {examples}
def spend(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds: pass
def test_long(): spend(0.3)
def test_waiting(): time.sleep(0.3)
@pytest.mark.slow
def test_marked(): spend(0.3)
"""


@pytest.mark.slow
def test_in_ci_a_long_test_must_be_marked_slow_and_examples_are_more(tmp_path):
    desk = suite(tmp_path, TIMES.format(examples=25), "-n0")
    assert desk.returncode == 0, desk.stdout
    ci = suite(tmp_path, TIMES.format(examples=100), ci="true")
    assert ci.returncode == 1 and "4 passed" in ci.stdout, ci.stdout
    section = ci.stdout.partition("not marked slow")[2]
    assert "test_long" in section
    assert "test_marked" not in section and "test_waiting" not in section


LEFT = """
import subprocess, sys, time, pytest
LOOP = "import time\\nwhile time.process_time() < 0.6: pass"
left = []
def test_leaves(): left.append(subprocess.Popen([sys.executable, "-c", LOOP]))
@pytest.mark.slow
def test_meanwhile(): time.sleep(3)
def test_ends(): left[0].wait()
def test_waits(): subprocess.run([sys.executable, "-c", LOOP])
@pytest.fixture(scope="session")
def prepared(): subprocess.run([sys.executable, "-c", LOOP])
@pytest.fixture
def own(): subprocess.run([sys.executable, "-c", LOOP])
def test_of_many(prepared): pass
def test_of_one(own): pass
"""


@pytest.mark.slow
def test_what_an_earlier_test_left_and_what_many_share_is_not_charged_to_a_test(tmp_path):
    ci = suite(tmp_path, LEFT, "-n0", ci="true")
    assert "6 passed" in ci.stdout, ci.stdout
    section = ci.stdout.partition("not marked slow")[2]
    assert "test_waits" in section and "test_of_one" in section, ci.stdout
    assert "test_ends" not in section and "test_of_many" not in section, ci.stdout


WORKERS = """
import os
def test_workers():
    assert os.environ.get("PYTEST_XDIST_WORKER_COUNT") == {count!r}
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, count",
    [
        ("", "2"),
        ("-p no:xdist", None),
        (".", "2"),
        ("-n1", "1"),
        ("-n0", None),
        ("-s", None),
        ("--pdb", None),
        ("test_one.py", None),
    ],
)
def test_a_run_over_folders_uses_the_cores(words, count, tmp_path):
    ran = suite(tmp_path, WORKERS.format(count=count), *words.split())
    assert ran.returncode == 0 and "1 passed" in ran.stdout, ran.stdout
