import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from minicomp.teach.live import keeper, process
from minicomp.teach.live.process import Child, Lost, Nursery

if not Path("/proc/self/task").is_dir():
    pytest.skip("what a process leaves behind is looked for in /proc", allow_module_level=True)

MEMORY = 2 * 2**30


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as made:
        yield made


def started(child, *cells, seconds=5.0):
    # A child that runs these cells; the next message is of the first.
    child.start(
        {
            "banned": [], "processor": 20, "memory": MEMORY, "names": [], "prelude": "",
            "cells": [[i, text, True] for i, text in enumerate(cells)],
            "seconds": seconds, "cell_seconds": seconds,
        }
    )


def run(nursery, *cells, seconds=5.0, **kw):
    # The last message, after all cells.
    with Child(nursery, lambda args: {"value": 0}, MEMORY) as child:
        started(child, *cells, seconds=seconds)
        while "cell" in (frame := child.receive(60, **kw)):
            pass
    return frame


def alive(pids):
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def pids_in(path):
    return [int(word) for word in path.read_text().split()]


def gone(pids, seconds=20):
    stop = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < stop:
        time.sleep(0.02)
    return not alive(pids)


ASKS = "from minicomp.teach import Lesson\nb = Lesson('04').broken('04.magnitude_mask')\n"


def test_questions_without_end_end_at_the_deadline(nursery):
    start = time.monotonic()
    with Child(nursery, lambda args: {"value": 0}, MEMORY) as child:
        started(child, ASKS + "while True: b(1)", seconds=60)
        assert child.receive(60) == {"cell": 0}
        with pytest.raises(Lost, match="did not stop in time"):
            child.receive(0.3, broken=True)
    assert time.monotonic() - start < 60


def test_the_broken_variant_refuses_where_it_may_not_be_asked(nursery):
    frame = run(nursery, ASKS + "b(1)")
    ((cell, text),) = frame["problems"]
    assert cell == 0 and "write this one yourself" in text
    assert run(nursery, ASKS + "b(1)", broken=True)["problems"] == []


def test_a_process_that_does_not_read_holds_nobody(nursery):
    with Child(nursery, lambda args: {}, MEMORY) as child:
        started(child, "import time\ntime.sleep(60)", seconds=60)
        with pytest.raises(Lost, match="did not stop in time"):
            child.send("x" * 2**20, seconds=0.2)  # more than a pipe holds


LEAVE = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
    with open({0!r}, "a") as f: f.write(f"{{os.getpid()}} ")
    while True: time.sleep(1)
while not os.path.exists({0!r}) or len(open({0!r}).read().split()) < 2: time.sleep(0.01)
"""


def test_what_left_the_session_ends_too(nursery, tmp_path):
    run(nursery, LEAVE.format(str(tmp_path / "pids")))
    pids = pids_in(tmp_path / "pids")
    assert len(pids) == 2 and not alive(pids)


def test_killing_the_keeper_gains_nothing_and_holds_nobody(tmp_path):
    # The processes that are left keep the channel open; the grader takes them in and ends them.
    kill = "os.kill(os.getppid(), 9)\ntime.sleep(60)"
    with Nursery() as nursery:
        start = time.monotonic()
        with pytest.raises(Lost, match="the process ended"):
            run(nursery, LEAVE.format(str(tmp_path / "pids")) + kill, seconds=60)
        assert time.monotonic() - start < 50
    assert gone(pids_in(tmp_path / "pids"), 1)


def test_a_killed_nursery_is_started_again(nursery):
    os.kill(nursery._process.pid, signal.SIGKILL)
    assert run(nursery, "x = 1")["problems"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell, says",
    [
        ("import os\nfor i in range(8): os.fork()\nimport time; time.sleep(9)", "many processes"),
        ("import os\nwhile True: os.write(1, b'x' * 2**20)", "wrote too much"),
        (
            "import os, time\nfor i in range(8):\n    if os.fork() == 0:\n"
            "        x = b'x' * 2**29\n        time.sleep(20)\ntime.sleep(9)",
            "too much memory",
        ),
    ],
)
def test_processes_are_bounded_together(nursery, cell, says):
    with pytest.raises(Lost, match=says):
        run(nursery, cell, seconds=30)


def test_what_is_forked_does_not_speak_for_the_process(nursery):
    # The fork would be the first to say that all is done, and that its cell failed.
    frame = run(
        nursery,
        "import os, time\nmine = os.getpid()\nos.fork()\nif os.getpid() == mine: time.sleep(0.5)",
        "if os.getpid() != mine: 1/0",
    )
    assert frame["problems"] == []


def test_the_environment_is_a_short_list(nursery, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "a secret")
    monkeypatch.setenv("COURSE_KEY", "another")
    out = tmp_path / "names"
    with Nursery() as fresh:
        run(fresh, f"import os\nopen({str(out)!r}, 'w').write(' '.join(os.environ))")
    assert set(out.read_text().split()) <= {*process.PASSED, *process._SET, "MPLBACKEND", "TMPDIR"}


def test_folders_that_a_killed_grader_left_are_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    old, young, other = (tmp_path / n for n in ("minicomp-grade-a", "minicomp-grade-b", "other"))
    for folder in (old, young, other):
        (folder / "deep").mkdir(parents=True)
    held, descriptor = process._own_folder()
    for folder in (old, other, Path(held)):
        os.utime(folder, (0, 0))
    process._clear_old_folders()
    os.close(descriptor)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([young.name, "other",
                                                                Path(held).name])


def test_any_folder_is_removed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    folder = tmp_path / "folder"
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for i in range(1100):  # deeper than Python's recursion and than any path
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        if i % 400 == 0:
            os.symlink(outside, "link", dir_fd=here)
            os.close(os.open("file", os.O_CREAT, dir_fd=here))
        os.close(here)
        here = below
    os.fchmod(here, 0)
    os.close(here)
    assert keeper.cleared(str(folder)) and not folder.exists()
    assert outside.stat().st_mode & 0o777 == 0o500


GRADER = """
import sys
from minicomp.teach.live.process import Child, Nursery
sys.path.insert(0, {here!r})
from test_process import started
with Nursery() as nursery, Child(nursery, lambda args: {{}}, 2**31) as child:
    started(child, {cell!r}, seconds=60)
    child.receive(60)
    child.receive(60)
"""


@pytest.mark.slow
def test_a_killed_grader_leaves_no_process_and_no_folder(tmp_path):
    pids = tmp_path / "pids"
    cell = LEAVE.format(str(pids)) + f"open({str(tmp_path / 'cwd')!r}, 'w').write(os.getcwd())\n"
    text = GRADER.format(here=str(Path(__file__).parent), cell=cell + "time.sleep(60)")
    grader = subprocess.Popen([sys.executable, "-c", text])
    stop = time.monotonic() + 60
    while not ((tmp_path / "cwd").exists() and (tmp_path / "cwd").read_text()):
        assert time.monotonic() < stop and grader.poll() is None
        time.sleep(0.02)
    folder = Path((tmp_path / "cwd").read_text())
    assert folder.is_dir() and len(alive(pids_in(pids))) == 2
    grader.kill()
    grader.wait()
    assert gone(pids_in(pids))
    stop = time.monotonic() + 20
    while folder.exists() and time.monotonic() < stop:
        time.sleep(0.02)
    assert not folder.exists()

