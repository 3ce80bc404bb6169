import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minicomp.atomic import as_json, read_text, write_atomically
from minicomp.errors import UserError


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "target"]


def test_a_pipe_stays_a_pipe(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"through")
    reader.join()
    assert got == [b"through"] and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs names of open files")
@pytest.mark.parametrize("kind", ["pipe", "removed file"])
def test_an_open_file_of_no_name_is_written_to(tmp_path, kind):
    # What a shell calls /dev/fd/63: its link says "pipe:[634618]", or a name that is gone.
    if kind == "pipe":
        read, written = os.pipe()
    else:
        read = written = os.open(tmp_path / "gone", os.O_RDWR | os.O_CREAT)
        os.unlink(tmp_path / "gone")
    write_atomically(f"/dev/fd/{written}", b"through")
    assert os.read(read, 100) == b"through" and not any(tmp_path.iterdir())
    for descriptor in {read, written}:
        os.close(descriptor)


def test_a_device_stays_a_device():
    write_atomically(os.devnull, b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_write_protected_file_is_refused_and_named(tmp_path):
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="kept"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_permissions_are_kept(tmp_path):
    path = tmp_path / "shared"
    path.write_bytes(b"old")
    path.chmod(0o664)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def test_a_missing_folder_is_named_as_the_user_wrote_it(tmp_path):
    with pytest.raises(FileNotFoundError) as e:
        write_atomically(tmp_path / "none" / "out.json", b"")
    assert e.value.filename == str(tmp_path / "none" / "out.json")


def test_a_name_of_255_letters_can_be_written(tmp_path):
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_with_either_mark_are_read(tmp_path, encoding):
    path = tmp_path / "key"
    path.write_bytes("k\u00fc\r\nx".encode(encoding))
    assert read_text(path) == "k\u00fc\nx"


def test_what_is_no_text_is_one_error(tmp_path):
    path = tmp_path / "latin1"
    path.write_bytes("k\u00fc".encode("latin-1"))
    with pytest.raises(UserError, match="latin1: not UTF-8 text: byte 1 is 0xfc"):
        read_text(path)
    with pytest.raises(UserError, match="at most 1 bytes"):
        read_text(path, max_bytes=1)


def test_a_pipe_whose_reader_has_gone_is_named(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    threading.Timer(0.2, os.close, [reader]).start()
    with pytest.raises(BrokenPipeError) as e:
        write_atomically(pipe, b"x" * 10_000_000)
    assert e.value.filename == str(pipe)


KILLED = """
import os, signal, sys
from minicomp.atomic import write_atomically
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], b"half")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path):
    path = tmp_path / "out.json"
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert len(list(tmp_path.glob(".*.tmp"))) == 1 and not path.exists()
    write_atomically(tmp_path / "other.json", b"")  # of another name: stays
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    write_atomically(path, b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.json", "out.json"]


def test_what_another_is_writing_stays(tmp_path, monkeypatch):
    path, fsync, seen = tmp_path / "out.json", os.fsync, []

    def interrupted(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        write_atomically(path, b"second")
        seen.extend(tmp_path.glob(".*.tmp"))
    monkeypatch.setattr(os, "fsync", interrupted)
    write_atomically(path, b"first")
    assert len(seen) == 1 and path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as e:
        write_atomically(path, b"new")
    assert e.value.filename == str(path) and path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("value, text", [
    (float("nan"), "null"), ([float("inf"), -float("inf")], "[null, null]"),
    ({"a": np.float32("nan"), "b": np.array([1.0, np.nan])}, '{"a": null, "b": [1.0, null]}'),
    ((np.int64(3), True, None, np.bool_(False)), "[3, true, null, false]"),
    ({1: Path("x"), None: "\u00e9\udcff"}, '{"1": "x", "null": "\\u00e9\\udcff"}'),
    (np.array(2.5), "2.5"), (0.1, "0.1"), (np.float32(0.5), "0.5"), (2**70, str(2**70)),
])
def test_json_is_what_every_reader_takes(value, text):
    assert as_json(value) == text


def test_json_of_a_number_type_of_its_own_is_a_number():
    class Kind(float):
        def __repr__(self):
            return "Kind"
    assert as_json(Kind(0.5)) == "0.5" and as_json(Kind("nan")) == "null"
