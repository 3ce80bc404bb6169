import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import minicomp
from minicomp import lock
from minicomp.lock import Busy, locked

HOLD = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from minicomp.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_told_who_holds_it(tmp_path):
    with locked(tmp_path / "f.run"):
        with pytest.raises(Busy, match=rf"f.run is in use by another run \(process {os.getpid()} "):
            with locked(tmp_path / "f.run"):
                pass
    with locked(tmp_path / "f.run"):
        pass


def test_threads_exclude_one_another(tmp_path):
    inside, most, refused = [], [], []

    def one():
        for _ in range(50):
            try:
                with locked(tmp_path / "f.run"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except Busy:
                refused.append(1)
    threads = [threading.Thread(target=one) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(most) == {1} and len(most) + len(refused) == 200


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_lock_goes_with_its_process(tmp_path):
    folder = tmp_path / "f.run"
    root = str(Path(minicomp.__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder), root],
                          stdout=subprocess.PIPE) as p:
        assert p.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=rf"process {p.pid} on "):
            with locked(folder):
                pass
        p.send_signal(signal.SIGKILL)
        p.wait()
    with locked(folder):
        pass


def test_a_lock_of_a_folder_that_was_removed_meanwhile_locks_nobody(tmp_path, monkeypatch):
    # Between opening the file and locking it, the run that held it removes the folder.
    folder, take, seen = tmp_path / "f.run", lock._take, []

    def late(file):
        if not seen:
            seen.append(1)
            (folder / "lock").unlink()
            folder.rmdir()
        return take(file)
    monkeypatch.setattr(lock, "_take", late)
    with locked(folder):
        assert (folder / "lock").exists()
        with pytest.raises(Busy):
            with locked(folder):
                pass


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"[" * 3000, b'{"process": 1}'])
def test_who_holds_it_may_be_unreadable(tmp_path, text):
    with locked(tmp_path):
        (tmp_path / "lock").write_bytes(text)
        with pytest.raises(Busy, match="in use by another run; wait until it ends"):
            with locked(tmp_path):
                pass
