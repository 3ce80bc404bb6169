"""Hostile notebooks from a grammar, graded as a class with honest ones among them.

A step draws a few files: cells that loop, flood, fork, fill, exit and patch, answers of any kind,
files that are damaged, huge, or none at all, names in any bytes. Whatever they do, every file and
every student has a row, an honest student has exactly the points of the solution, no process and no
folder is left, and it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from minicomp.teach import catalog
from minicomp.teach.grading.classroom import Outputs, grade_folder
from minicomp.teach.grading.grade import Key
from minicomp.teach.live.process import Limits
from minicomp.teach.notebook import build
from tests.campaign.frame import Failure

HOSTILE, HONEST = 2, 1
LIMITS = Limits(cell=0.5, cells=1.5, call=0.5, exercise=1.0, total=5.0, memory=2**30)
MOST_SECONDS = 400.0  # of a step: its limits on a machine that is twenty times too busy

# What a cell or an answer may do. {n} is a drawn number, {s} a drawn text.
LOOPS = (
    "while True: pass",
    "import time\nwhile True:\n    try:\n        while True: time.sleep(0.01)\n"
    "    except BaseException: pass",
    "import time\ntime.sleep(10**6)",
    "sum(range(10**13))",
    "import re\nre.match('(a*)*b', 'a' * 40)",
    "pow(3, 10**{n}, 10**{n} + 7)",
    "(lambda f: f(f))(lambda f: f(f))",
    "import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()",
    "x = iter(int, 1)\nlist(x)",
)
FLOODS = (
    "while True: print('x' * 10**{n})",
    "import os\nwhile True: os.write(1, b'y' * 2**16)",
    "import os\nd = os.urandom(2**16)\nfor fd in range(3, 20):\n    try:\n"
    "        for _ in range({n}): os.write(fd, d)\n    except OSError: pass",
    "import os\nfrom minicomp.teach.live import wire\nd = wire.packed_frame({{'cell': {n}}})\n"
    "while True:\n    for fd in range(3, 20):\n        try: os.write(fd, d)\n"
    "        except OSError: pass",
    "import os\nfrom minicomp.teach.live import wire\n"
    "d = wire.packed_frame({{'done': 'cells', 'names': {{}}, 'problems': [], 'defined': {{}}}})\n"
    "for fd in range(3, 20):\n    try: os.write(fd, d * {n})\n    except OSError: pass",
    "import os\nfor fd in range(3, 20):\n"
    "    try: os.write(fd, (2**{n}).to_bytes(8, 'little'))\n    except OSError: pass",
    "from minicomp.teach import Lesson\nb = Lesson({lesson!r}).broken({of!r})\nwhile True:\n"
    "    try: b([[{n}]], {s!r})\n    except BaseException: pass",
)
FORKS = (
    "import os\nfor _ in range({n}): os.fork()",
    "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        os.setsid()\n    while True: time.sleep(1)",
    "import os, signal, time\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nif os.fork() == 0:\n    while True: time.sleep(1)",
    "import os, time\nif os.fork() == 0:\n    while True: pass\nos.kill(os.getppid(), 9)\n"
    "time.sleep(9)",
    "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)",
    "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'],"
    " start_new_session=True)",
    "import multiprocessing as m\nm.get_context('fork').Process(target=lambda: None).start()",
    "import os\nos.killpg(0, 9)",
)
FILLS = (
    "x = []\nwhile True: x.append('x' * 10**{n})",
    "import numpy as np\nx = np.ones(2**(20 + {n}))",
    "import os\nfor i in range(10**6): open(f'f{{i}}', 'wb').write(b'x' * 2**20)",
    "import os\nfor i in range(200 * {n}):\n    os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)",
    "open('sparse', 'wb').truncate(2**50)",
    "import os\nfor i in range(100 * {n}): os.symlink('/', f'l{{i}}')",
)
EXITS = (
    "import os\nos._exit({n})",
    "raise SystemExit({n})",
    "raise KeyboardInterrupt",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "import os\nos.abort()",
    "import ctypes\nctypes.string_at(0)",
    "import sys\nsys.setrecursionlimit(10**9)\nf = lambda n: f(n + 1)\nf(0)",
    "import atexit, time\natexit.register(time.sleep, 10**6)\nraise SystemExit",
    "import os\nos.execv('/bin/sleep', ['sleep', '1000'])",
)
THREADS = (
    "import threading\nfor _ in range({n} * 5):\n"
    "    threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
    "import threading, time\nthreading.Thread(target=time.sleep, args=[10**6]).start()",
    "import threading, os\nthreading.Timer(0.05, os._exit, [0]).start()",
)
PATCHES = (
    "import builtins\nbuiltins.__dict__.update(len=None, isinstance=lambda *a: True, open=print)",
    "import signal\nfor t in (signal.ITIMER_REAL, signal.ITIMER_PROF): signal.setitimer(t, 0)\n"
    "signal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
    "import sys\nfor m in list(sys.modules): sys.modules[m] = None",
    "import sys\nsys.settrace(lambda *a: (lambda *b: None))\nx = [i for i in range(10**{n})]",
    "import os\nos.closerange(3, 99)",
    "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict):\n        try: o.clear()\n"
    "        except Exception: pass",
    "import minicomp.teach.live.wire as w\nw.pack = lambda v: b'x' * {n}\nw.MAX_BYTES = 2**60",
    "import numpy as np\nnp.asarray = np.array = lambda *a, **k: None",
    "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
    "import os\nos.chdir('/')\nos.environ.clear()",
    "import warnings\nwarnings.simplefilter('error')\nimport numpy as np\nnp.seterr(all='raise')",
)
VALUES = (
    "None", "float('nan')", "10**4000", "'\\ud800' * 10", "'x' * 10**7", "b'bytes'", "object()",
    "[[[[[[[[[[1]]]]]]]]]]", "[0] * 10**6", "{{'a': {{'b': ()}}}}", "(x for x in [1])", "lambda: 0",
    "np.zeros((0, 3))", "np.zeros(2**21)", "np.full(10, np.nan)", "np.array(['=1+1', '<b>'])",
    "np.array([object()])", "np.broadcast_to(np.float64(1), (2**40,))", "np.ma.masked",
    "np.zeros(5, 'M8[s]')", "np.zeros(3, [('a', 'f4')])", "[np.zeros(1)] * 5000", "np.float16(1e9)",
    "type('T', (), {{'__len__': lambda s: 10**9, '__eq__': lambda s, o: True}})()",
    "type('A', (np.ndarray,), {{'__array__': lambda *a: 1 / 0}})((2,))",
)
LINES = "\x1b[31m", "\u202e", "=cmd|' /C calc'!A1", "<script>alert(1)</script>", "\ud800", "a\0b"


def step(seed: int, folder: Path) -> dict[str, float]:
    """Grades one class and returns counts; raises Failure, see above."""
    rng, folder = random.Random(seed), folder.resolve()
    room = folder / f"class{seed}"
    shutil.rmtree(room, ignore_errors=True)
    (room / "in").mkdir(parents=True)
    (room / "tmp").mkdir()
    of = rng.choice(list(catalog.lessons().values()))
    tree = json.loads(build.notebook_text(of, solutions=True))
    students = [f"student {i}" for i in range(HOSTILE + HONEST + 1)]  # the last handed in nothing
    rng.shuffle(students)
    honest = students[:HONEST]
    for name in honest:
        _write(room / "in", f"{name}.ipynb".encode(), json.dumps(tree).encode(), rng)
    for name in students[HONEST:-1]:
        _hand_in(room / "in", name, tree, of, rng)
    (room / "class.csv").write_text("student\n" + "\n".join(students) + "\n", encoding="utf-8")
    start = time.monotonic()
    with _marked(room) as mark:
        rows = _graded(room, of)
    seconds = time.monotonic() - start
    _check(rows, students, honest, of, room)
    if seconds > MOST_SECONDS:
        raise Failure(f"{seconds:.0f} s for {len(rows)} notebooks")
    if left := _left(mark):
        raise Failure(f"{len(left)} processes are left: {left[:3]}")
    if there := os.listdir(room / "tmp"):
        raise Failure(f"left in the temporary folder: {there[:3]}")
    shutil.rmtree(room)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"notebooks": HOSTILE + HONEST, "hostile": HOSTILE, "most_seconds": seconds,
            "most_mib": used}


def _graded(room: Path, of) -> list[dict]:
    out = Outputs(csv=room / "g.csv", json=room / "g.json", feedback=room / "pages")
    try:
        return grade_folder(room / "in", of.number, out, key=Key(), roster=room / "class.csv",
                            limits=LIMITS)
    except Exception as e:
        raise Failure(f"the class was not graded: {type(e).__name__}: {e}") from e


def _check(rows: list[dict], students: list[str], honest: list[str], of, room: Path) -> None:
    asked_beside = of.capstone.points if of.capstone else 0  # of a file, which nobody hands in here
    full = of.max_points - sum(p.points for p in of.predictions) - asked_beside
    by_name = {r["student"]: r for r in rows}
    if missing := set(students) - set(by_name):
        raise Failure(f"no row for {sorted(missing)}")
    for name in honest:
        if by_name[name]["points"] != full:
            raise Failure(f"an honest notebook of lesson {of.number} has"
                          f" {by_name[name]['points']} of {full} points: {by_name[name]['status']}")
    for r in rows:
        if "the grader failed" in r["status"]:
            raise Failure(r["status"])
        if not 0 <= r["points"] <= r["max_points"]:
            raise Failure(f"{r['points']} points")
    json.loads((room / "g.json").read_text(encoding="utf-8"))
    if len(list((room / "pages").iterdir())) != len(rows):
        raise Failure("a student has no page")


@contextlib.contextmanager
def _marked(room: Path) -> Iterator[bytes]:
    # Within it, temporary folders lie in the room, and what is started bears a mark.
    before, path = tempfile.tempdir, os.environ.get("LD_LIBRARY_PATH")
    mark = f"{room}/mark"
    tempfile.tempdir = str(room / "tmp")
    os.environ["LD_LIBRARY_PATH"] = f"{path}:{mark}" if path else mark
    try:
        yield mark.encode()
    finally:
        tempfile.tempdir = before
        del os.environ["LD_LIBRARY_PATH"]
        if path:
            os.environ["LD_LIBRARY_PATH"] = path


def _left(mark: bytes) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
    return found


def _hand_in(folder: Path, student: str, tree: dict, of, rng: random.Random) -> None:
    # One file, or what is none, with the student's name in its path.
    name = _name(student, rng)
    kind = rng.random()
    if kind < 0.7:
        return _write(folder, name, json.dumps(_hostile(tree, of, rng)).encode(), rng)
    if kind < 0.9:
        return _write(folder, name, _damaged(tree, of, rng), rng)
    path = os.fsencode(folder) + b"/" + name
    what = rng.choice((os.mkfifo, os.mkdir, lambda p: os.symlink("/etc/passwd", p),
                       lambda p: open(p, "wb").truncate(100 * 2**20)))
    what(path)
    if os.path.isdir(path):
        _write(folder, name + b"/inside.ipynb", b"{}", rng)


def _write(folder: Path, name: bytes, data: bytes, rng: random.Random) -> None:
    path = os.fsencode(folder) + b"/" + name
    if rng.random() < 0.15 and b"/" not in name and len(name) < 200:
        with zipfile.ZipFile(os.fsdecode(path + b".zip"), "w") as z:
            z.writestr("04.ipynb", data)
        return
    with open(path, "wb") as f:
        f.write(data)


def _name(student: str, rng: random.Random) -> bytes:
    odd = rng.choice((b"", b"_\xfc\xe4", b"\n", b"\x1b[2J", "_\u202e\U0001f600".encode(), b"'\"",
                      b"_=1+1", b"_" + b"x" * (240 - len(student)), b";=1"))
    return student.encode() + odd + rng.choice((b".ipynb", b".IPYNB"))


def _statement(of, rng: random.Random) -> str:
    kind = rng.choice((LOOPS, FLOODS, FORKS, FILLS, EXITS, THREADS, PATCHES))
    return rng.choice(kind).format(
        n=rng.choice((1, 2, 3, 5, 8)), s=rng.choice(LINES), lesson=of.number,
        of=of.diagnosis.of.id if of.diagnosis else "",
    )


def _hostile(tree: dict, of, rng: random.Random) -> dict:
    # The solved notebook with hostile cells before, within and behind.
    cells = list(tree["cells"])
    for _ in range(rng.choice((1, 1, 2))):
        cells.insert(rng.randrange(len(cells) + 1), _code(_statement(of, rng)))
    for e in rng.sample(of.exercises, rng.choice((0, 1, 2))):
        arguments = ", ".join(e.arguments)
        body = rng.choice((_statement(of, rng), "return " + rng.choice(VALUES).format(),
                           f"raise ValueError({rng.choice(LINES)!r})"))
        inside = body.replace("\n", "\n    ")
        cells.append(_code(f"import numpy as np\ndef {e.name}({arguments}):\n    {inside}"))
    said = f"Lesson({of.number!r}, student={rng.choice(LINES)!r})"
    return tree | {"cells": cells + [_code(said)] * rng.choice((0, 1))}


def _code(text: str) -> dict:
    return {"cell_type": "code", "id": "x", "metadata": {}, "source": text, "outputs": [],
            "execution_count": None}


def _damaged(tree: dict, of, rng: random.Random) -> bytes:
    raw = bytearray(json.dumps(_hostile(tree, of, rng)).encode())
    way = rng.randrange(9)
    if way == 0:
        return bytes(raw[: rng.randrange(len(raw))])
    if way == 1:
        for _ in range(rng.choice((1, 10, 1000))):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        return bytes(raw)
    big = tree | {"cells": tree["cells"] + [_code("x = 1\n" * rng.choice((10**4, 5 * 10**5)))]}
    about = {"lesson": of.number, "version": [[]], "source": {}}
    odd = {"cells": [_code(text) for text in LINES], "metadata": {"minicomp": about}}
    strange = tree | {"metadata": {"minicomp": about},
                      "cells": [None, [], {}, {"cell_type": 3}, *tree["cells"]]}
    return (
        b"", b"[" * rng.choice((10, 10**6)), b"[" + b"[]," * 10**6 + b"[]]",
        json.dumps(big).encode(), json.dumps(odd).encode("utf-16"), json.dumps(strange).encode(),
        json.dumps({"cells": [_code("(" * 10**4), _code("-" * 10**4 + "1")] * 20}).encode(),
    )[way - 2]
