"""The main door: readers that go away, full disks, encodings, Ctrl-C, each a line or nothing."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp.cli import main
from minicomp.cli.streams import streams
from minicomp.models import MLP

ROOT = str(Path(minicomp.__file__).parents[1])
# As the script `minicomp` begins, wherever the package lies.
START = f"import sys; sys.path.insert(0, {ROOT!r}); sys.argv[0] = 'minicomp'; " \
        "from minicomp.cli import main; sys.exit(main())"
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def command(*words, env=None, **kw):
    kw = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kw
    env = {k: v for k, v in os.environ.items() if k != "PYTHONIOENCODING"} | (env or {})
    return subprocess.Popen([sys.executable, "-P", "-c", START, *words], env=env, **kw)


def ended(*words, **kw):
    p = command(*words, **kw)
    out, err = p.communicate(timeout=60)
    return p.returncode, out, err


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "n\u00e9\u4e2d.mcz"
    minicomp.save(MLP([4, 3, 2], rng=np.random.default_rng(0)).frozen(), path)
    return path


@posix
@pytest.mark.parametrize("words", [["cite", "obs"], ["--help"], ["cite", "obs", "--nope"]])
def test_readers_that_have_gone_are_no_error(words):
    for name in ("stdout", "stderr"):
        read, write = os.pipe()
        os.close(read)
        code, out, err = ended(*words, **{name: write})
        os.close(write)
        assert b"Traceback" not in (err or b"") and b"Exception" not in (err or b"")
        assert code == (2 if "--nope" in words else 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["cite", "obs", "--json", "-"]])
def test_a_full_disk_behind_standard_output_is_said(words):
    with open("/dev/full", "wb") as full:
        code, _, err = ended(*words, stdout=full)
    assert code == 2 and err.endswith(b"standard output: No space left on device\n")
    assert len(err.splitlines()) == 1 + ("-" in words)  # the table goes to standard error


@posix
def test_closed_streams_are_no_error():
    for close in ("exec >&-", "exec >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'{close}; exec "$@"', "sh", sys.executable, "-P", "-c",
                               START, "cite", "obs"], capture_output=True)
        assert done.returncode == 0 and b"Traceback" not in done.stderr


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, 
                                 {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_names_that_an_encoding_lacks_are_escaped(env, model):
    code, out, err = ended("show", str(model), "--json", str(model.with_suffix(".json")), env=env)
    assert code == 0 and b"\\u4e2d" in out or b"\\udce4" in out, err
    assert model.with_suffix(".json").read_bytes().isascii()
    code, _, err = ended("show", str(model) + "x", env=env)
    assert code == 2 and b"there is no such file" in err and b"Traceback" not in err


def test_a_warning_is_one_line():
    before = warnings.formatwarning
    with streams():
        told = warnings.formatwarning("kept nowhere", UserWarning, "file.py", 3)
    assert told == "minicomp: kept nowhere\n" and warnings.formatwarning is before


def test_a_full_disk_names_the_file_and_says_that_the_run_goes_on(tmp_path, monkeypatch, capsys):
    from minicomp import checkpoint

    real, calls = checkpoint.write_atomically, []

    def full(path, data):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        real(path, data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "write_atomically", full)
    words = ["train", "lenet300", "--data", "glyphs", "--threads", "1", "--set",
             "epochs=2,batch_size=512", "--out", "f.mcz"]
    assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ("minicomp train: f.mcz.run/00-dense/fit.npz: No space left on device; the same "
                    "command goes on from f.mcz.run (--restart discards it)")
    assert main(words) == 0
    assert "goes on after epoch 1/2" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["f.mcz"]


@posix
@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_ctrl_c_while_the_package_is_imported_is_one_line(seconds):
    # From the first line of our own: Python's start before it is not ours.
    wait = START.replace("from minicomp.cli", "print(flush=True); from minicomp.cli")
    read = "import minicomp.interrupt as i; i.guard_imports(); "
    code = wait.replace("print(flush=True); ", f"{read}print(flush=True); ")
    p = subprocess.Popen([sys.executable, "-P", "-c", code, "list"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(
                             signal.SIGINT, signal.default_int_handler))
    p.stdout.readline()
    time.sleep(seconds)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert (p.returncode, err) in [(130, b"minicomp: stopped\n"),
                                   (130, b"minicomp list: stopped\n"), (0, b"")]


@posix
def test_a_program_that_imports_minicomp_keeps_its_handler():
    code = f"import sys, signal; sys.path.insert(0, {ROOT!r}); import minicomp; " \
           "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    done = subprocess.run([sys.executable, "-P", "-c", code], preexec_fn=lambda: signal.signal(
        signal.SIGINT, signal.default_int_handler))  # what a shell's background job ignores
    assert done.returncode == 0


@posix
def test_a_command_that_was_started_with_ctrl_c_ignored_goes_on_ignoring_it():
    code = START.replace("from minicomp.cli", "import signal; signal.signal(signal.SIGINT, "
                         "signal.SIG_IGN); from minicomp.cli").replace(
        "sys.exit(main())", "main(); assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN")
    assert subprocess.run([sys.executable, "-P", "-c", code, "cite", "obs"],
                          stdout=subprocess.DEVNULL).returncode == 0


def test_figures_are_made_whatever_MPLBACKEND_names(tmp_path):
    code = f"import sys; sys.path.insert(0, {ROOT!r})\n" \
           "from minicomp.report import plots\n" \
           "from minicomp.teach.figures import expected_figure, formula\n" \
           "from minicomp.teach import catalog\n" \
           "plots.save(plots.plot_sensitivity({'fc1': ([.5], [.1])}, .1), sys.argv[1])\n" \
           "assert expected_figure(catalog.lesson('04')).png and formula('w')\n" \
           "assert 'matplotlib.pyplot' not in sys.modules"
    done = subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path / "a.png")],
                          env=os.environ | {"MPLBACKEND": "module://not_installed_here"},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_another_ending_is_refused_before_anything_runs(tmp_path, capsys):
    assert main(["bench", "sparse", "--plot", str(tmp_path / "a.doc")]) == 2
    assert "a picture must end in .png, .svg, .pdf, got " in capsys.readouterr().err
