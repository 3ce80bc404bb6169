import contextlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from minicomp.errors import UserError
from minicomp.teach import catalog
from minicomp.teach.grading import grade
from minicomp.teach.live import process
from minicomp.teach.live.child import HIDDEN
from minicomp.teach.grading.grade import Key, read_key
from minicomp.teach.notebook import cells as notebook

QUICK = process.Limits(cell=1.0, cells=2.5, call=0.5, exercise=1.5, total=9.0)
MASK, SGD, ROUNDS, BROKEN = (
    f"04.{n}" for n in ("magnitude_mask", "masked_sgd", "keep_per_round", "broken")
)
MAX = catalog.lesson(4).max_points
FULL = MAX - 2  # no guesses


def slow(text):
    return pytest.param(text, marks=pytest.mark.slow)


def code(text):
    return {
        "cell_type": "code",
        "id": "x",
        "metadata": {},
        "source": text,
        "outputs": [],
        "execution_count": None,
    }


def has_tag(cell, tag):
    return tag in cell["metadata"].get("tags", [])


@pytest.fixture(scope="module", autouse=True)
def one_nursery():
    with process.Nursery() as nursery:
        NURSERY.append(nursery)
        yield
    NURSERY.clear()


NURSERY = []


def graded(path, **kw):
    return grade.grade(path, "04", limits=QUICK, **{"nursery": NURSERY[0]} | kw)


def points(row):
    return {id: e["points"] for id, e in row["exercises"].items()}


def test_the_solved_notebook_scores_full_and_the_blank_one_0(solved):
    row = graded(solved())
    assert row["points"] == FULL and row["max_points"] == MAX and row["status"] == "graded"
    blank = graded(solved(solutions=False))
    assert blank["points"] == 0 and blank["status"] == "blank"
    assert {e["message_id"].partition("/")[2] for e in blank["exercises"].values()} == {
        "not-written"
    }


def test_the_result_says_what_it_depends_on_and_is_json(solved):
    row = json.loads(json.dumps(graded(solved())))
    assert set(row["versions"]) == {"minicomp", "python", "numpy", "notebook", "source"}
    assert row["versions"]["numpy"] == np.__version__ and row["versions"]["source"] != "?"
    assert row["lesson"] == "04" and len(row["sha256"]) == 64 and row["seconds"] > 0


def test_guesses_count_for_being_made(solved, replaced):
    row = graded(solved(replaced({"predict:04.p1": 'guess_cut = predict("04.p1", 35)'})))
    assert row["points"] == FULL + 1 and row["prediction"]["values"] == {"04.p1": 35, "04.p2": None}
    silly = graded(
        solved(
            replaced(
                {
                    "predict:04.p1": 'guess_cut = predict("04.p1", 1e9)',
                    "predict:04.p2": 'predict("04.p2", open("x").read())',
                }
            )
        )
    )
    assert silly["prediction"]["points"] == 0


def test_reflections_are_kept_for_a_person(solved, replaced):
    row = graded(
        solved(replaced({"reflect:04.r1": 'reflect("04.r1", """Zeros are stored too.\n""")'}))
    )
    assert row["manual"]["04.r1"]["words"] == 4 and row["manual"]["04.r1"]["max_points"] == 3


WRONG = """
def magnitude_mask(w, sparsity):
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None, kind="stable")[:int(sparsity * w.size)]] = False
    return mask.reshape(w.shape)
"""


def test_a_wrong_answer_is_named_in_the_report_without_hidden_inputs(solved, replaced):
    row = graded(solved(replaced({f"exercise:{MASK}": WRONG})), key=Key("a long secret key", "c"))
    done = row["exercises"][MASK]
    assert done["message_id"] == f"{MASK}/rounded-down" and 0 < done["points"] < done["max_points"]
    assert "input    w = [0.5, -0.1, 0.3, -0.9]; sparsity = 0.4" in done["report"]  # a public one
    only_hidden = "def magnitude_mask(w, sparsity):\n    if w.ndim == 4: return w > 0\n"
    right = "    mask = np.ones(w.size, bool)\n"
    right += "    order = np.argsort(abs(w), axis=None, kind='stable')\n"
    right += "    mask[order[:round(sparsity * w.size)]] = False\n    return mask.reshape(w.shape)"
    cells = replaced({f"exercise:{MASK}": only_hidden + right})
    done = graded(solved(cells), key=Key("a long secret key", "c"))["exercises"][MASK]
    assert 0 < done["points"] < done["max_points"] and "input" not in done["report"]


CHEATS = {
    "imported": "from minicomp.compress.scores import magnitude_mask",
    "called": (
        "def magnitude_mask(w, sparsity):\n    from minicomp.compress import scores\n"
        "    return scores.magnitude_mask(w, sparsity)"
    ),
    "kept from before": (
        "from minicomp.compress.scores import smallest_mask as kept\n"
        "def magnitude_mask(w, sparsity):\n    return kept(np.abs(w), sparsity)"
    ),
    "reloaded": (
        "def magnitude_mask(w, sparsity):\n    from minicomp.teach.checks.lesson04 import"
        " magnitude_mask\n    return magnitude_mask(w, sparsity)"
    ),
}


@pytest.mark.parametrize("cheat", [slow(c) if c in ("called", "imported") else c for c in CHEATS])
def test_the_librarys_own_function_scores_0(solved, replaced, cheat):
    row = graded(solved(replaced({f"exercise:{MASK}": CHEATS[cheat]})))
    assert points(row)[MASK] == 0 and row["points"] == FULL - 5
    if cheat != "reloaded":
        assert row["exercises"][MASK]["message_id"] == f"{MASK}/library"


# --------------------------------------------------------------------- broken and hostile notebooks


def without(tag):
    return lambda cells: [c for c in cells if not has_tag(c, tag)]


def test_deleted_cells_cost_only_their_own_points(solved):
    row = graded(solved(without(f"exercise:{SGD}")))
    assert points(row)[SGD] == 0 and row["points"] == FULL - 6
    assert row["exercises"][SGD]["message_id"] == f"{SGD}/missing"
    assert (
        graded(solved(without("imports")))["points"] == FULL
    )  # the lesson's imports run first anyway


@pytest.mark.slow
def test_reordered_and_copied_cells_grade_alike(solved):
    assert graded(solved(lambda cells: cells[::-1]))["points"] == FULL
    assert graded(solved(lambda cells: cells + cells))["points"] == FULL


def test_the_last_definition_counts(solved):
    row = graded(
        solved(
            lambda cells: cells
            + [code("def magnitude_mask(w, sparsity):\n    raise NotImplementedError")]
        )
    )
    assert points(row)[MASK] == 0 and row["exercises"][MASK]["message_id"] == f"{MASK}/not-written"


def test_broken_cells_are_listed_and_passed_over(solved, replaced):
    row = graded(
        solved(
            replaced(
                first=[
                    "def broken(:",
                    "1 / 0",
                    "raise SystemExit",
                    "import no_such_module",
                    "%matplotlib inline\n!ls\nx = 3",
                    "%%time\ny = 4",
                ]
            )
        )
    )
    assert row["points"] == FULL
    told = {p["cell"]: p["problem"] for p in row["problems"]}
    assert set(told) == {0, 1, 2, 3}
    assert told[1].endswith("(line 1)") and "ZeroDivisionError" in told[1]
    assert "SyntaxError" in told[0] and told[0].endswith("(line 1)")


def test_lost_metadata_and_tags_are_made_up_for(solved):
    bare = lambda cells: [c | {"metadata": {}} for c in cells]  # noqa: E731
    assert graded(solved(bare, meta=False))["points"] == FULL


@pytest.mark.slow
def test_an_infinite_loop_in_a_cell_is_stopped(solved, replaced):
    row = graded(solved(replaced(first=["while True: pass"])))
    assert row["points"] == FULL and "stopped" in row["problems"][0]["problem"]


@pytest.mark.slow
def test_a_loop_that_catches_everything_costs_its_cell_only(solved, replaced):
    stubborn = (
        "import time\nwhile True:\n    try:\n        time.sleep(9)\n    except BaseException: pass"
    )
    row = graded(solved(replaced(first=[stubborn])))
    assert row["points"] == FULL and "did not stop" in row["status"]


def test_an_infinite_loop_in_an_answer_costs_its_exercise_only(solved, replaced):
    start = time.monotonic()
    row = graded(
        solved(
            replaced({f"exercise:{MASK}": "def magnitude_mask(w, sparsity):\n    while True: pass"})
        )
    )
    assert points(row)[MASK] == 0 and row["points"] == FULL - 5
    assert (
        row["exercises"][MASK]["message_id"] == f"{MASK}/slow"
        and time.monotonic() - start < QUICK.total + 2
    )


@pytest.mark.slow
def test_a_stubborn_loop_in_an_answer_costs_its_exercise_only(solved, replaced):
    loop = (
        "def magnitude_mask(w, sparsity):\n    import time\n    while True:\n        try:\n"
        "            time.sleep(9)\n        except BaseException: pass"
    )
    row = graded(solved(replaced({f"exercise:{MASK}": loop})))
    assert points(row)[MASK] == 0 and row["points"] == FULL - 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "flood",
    [
        "print('x' * 10**6)",
        slow("import sys; sys.stderr.write('x' * 10**6)"),
        slow("import os; os.write(1, b'x' * 10**6); os.write(2, b'y' * 10**6)"),
    ],
)
def test_a_printed_flood_drowns_nothing(solved, replaced, flood):
    row = graded(solved(replaced(first=[f"for _ in range(30):\n    {flood}"])))
    assert row["points"] == FULL


@pytest.mark.slow
@pytest.mark.parametrize(
    "leave",
    [
        "import os; os._exit(0)",
        slow("import sys; sys.exit(0)"),
        slow("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        slow("import ctypes; ctypes.string_at(0)"),
    ],
)
def test_leaving_the_process_gains_and_costs_nothing_else(solved, replaced, leave):
    row = graded(solved(replaced(first=[leave])))
    assert row["points"] == FULL
    quits = graded(
        solved(replaced({f"exercise:{MASK}": f"def magnitude_mask(w, sparsity):\n    {leave}"}))
    )
    assert points(quits)[MASK] == 0 and quits["points"] == FULL - 5


def test_memory_is_limited(solved, replaced):
    row = graded(
        solved(replaced(first=["x = np.ones(2**40)", "import numpy as np; x = np.ones(3 * 2**28)"]))
    )
    assert row["points"] == FULL and all(
        "MemoryError" in p["problem"] or "NameError" in p["problem"] for p in row["problems"]
    )


PATCHES = {
    "numpy.testing": (
        "import numpy.testing as t\nt.assert_array_equal = lambda *a, **k: None\nnp.array_equal = "
        "lambda *a: True\nnp.allclose = lambda *a, **k: True"
    ),
    "builtins": "import builtins\nbuiltins.abs = builtins.any = builtins.all = lambda *a: True",
    "the judge": (
        "import minicomp.teach.asking.exercise as e\ne.assess = lambda *a: None\n"
        "e.difference = e.Message = lambda *a, **k: None"
    ),
    "the child": (
        "import minicomp.teach.live.child as c\nc.one_answer = lambda *a, **k: ['value', None, '']"
    ),
    "equality": (
        "class Yes(np.ndarray):\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n"
        "def magnitude_mask(w, sparsity):\n    return np.zeros(w.shape, bool).view(Yes)"
    ),
    "a printed result": "print('19 of 19 points')\nprint({'points': 19})",
    "the channel": (
        "import os, struct\nfrom minicomp.teach.live import wire\n"
        "data = wire.pack({'done': 'call', 'answers': [['value', True, '']] * 99})\n"
        "for fd in range(3, 12):\n    try: os.write(fd, struct.pack('<Q', len(data)) + data)\n"
        "    except OSError: pass"
    ),
    "the frames": (
        "import sys\nf = sys._getframe()\nwhile f:\n    f.f_globals.update(REFUSAL='',"
        " MAX_BYTES=0)\n    f = f.f_back"
    ),
}


DEFAULT = ("builtins", "the judge", "the channel")


@pytest.mark.slow
@pytest.mark.parametrize("patch", [p if p in DEFAULT else slow(p) for p in PATCHES])
def test_patching_the_checker_gains_nothing(solved, replaced, patch):
    # The stubs are blank: whatever the patch does, nothing can be right.
    row = graded(solved(replaced(first=[PATCHES[patch]]), solutions=False))
    assert row["points"] == 0


def test_the_process_holds_no_key_and_no_answers(solved, replaced, tmp_path):
    # What a student's code can read: its arguments, its environment, loaded modules. None of them
    # has the key.
    secret, out = "an extremely secret key", tmp_path / "seen.txt"
    spy = (
        f"import gc, os, sys\nwith open({str(out)!r}, 'w') as f:\n"
        "    f.write(repr(sys.argv) + repr(dict(os.environ)) + ' '.join(sys.modules) + "
        "' '.join(o for o in gc.get_objects() if isinstance(o, str)))"
    )
    row = graded(solved(replaced(first=[spy])), key=Key(secret, "c"))
    seen = out.read_text()
    assert row["points"] == FULL and secret not in seen and "minicomp.teach.live.child" in seen
    assert "minicomp.teach.checks.lesson04" not in seen


def modules_in(name):
    # A module and all below it; they exist: what moved must move in HIDDEN too.
    module = importlib.import_module(name)
    below = getattr(module, "__path__", ())
    return [name, *(m.name for m in pkgutil.walk_packages(below, f"{name}."))]


def test_the_process_cannot_import_what_knows_cases_answers_or_words(solved, replaced, tmp_path):
    names, out = [m for hidden in HIDDEN for m in modules_in(hidden)], tmp_path / "got.txt"
    assert {"minicomp.teach.checks.lesson04", "minicomp.teach.checks.words"} <= set(names)
    assert {"minicomp.reference.cases_pruning", "minicomp.teach.grading.grade"} <= set(names)
    assert "minicomp.teach.notebook.build" in names
    spy = (
        f"import importlib\nnames, got = {names}, []\n"
        "for name in [*names, 'minicomp.teach.live.wire']:\n"
        "    parent, _, last = name.rpartition('.')\n"
        "    for text in (f'import {name} as m', f'from {parent} import {last}',"
        " f'import {parent} as p; p.{last}', f'importlib.import_module({name!r})'):\n"
        "        try:\n            exec(text)\n            got.append(name)\n"
        "        except (ImportError, AttributeError):\n            pass\n"
        f"open({str(out)!r}, 'w').write(' '.join(got))"
    )
    row = graded(solved(replaced(first=[spy])))
    assert out.read_text().split() == 4 * ["minicomp.teach.live.wire"]
    assert row["points"] == FULL and not row["problems"]


@pytest.mark.slow
def test_processes_that_the_student_starts_end_too(solved, replaced, tmp_path):
    mark = tmp_path / "alive"
    start = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import"
        f" time\\ntime.sleep(4)\\n"
        f'open({str(mark)!r}, "w")\'])'
    )
    assert graded(solved(replaced(first=[start])))["points"] == FULL
    time.sleep(4.5)
    assert not mark.exists()


def test_answers_may_search_with_the_broken_variant(solved, replaced):
    search = (
        "def failing_input():\n    tried = [([-2.0, 1.0], 0.5), ([1.0, 2.0, 3.0], 0.3)]\n"
        "    for w, s in [*tried, ([1.0], 0.5), ([1.0, 1.0], 0.5)]:\n        w = np.array(w)\n"
        "        if (broken(w, s) != magnitude_mask(w, s)).any():\n            return w, s"
    )
    assert (
        points(graded(solved(replaced({f"exercise:{BROKEN}": search})), student="ann"))[BROKEN] == 2
    )


def test_the_broken_variant_is_the_one_that_the_notebook_showed(solved, replaced):
    # The roster may spell a name otherwise: that must not change what the student was asked.
    of = catalog.lesson(4)
    setup = 'lesson = Lesson("04", mode="full", student="{}", course="{}")'
    shown = {of.diagnosis.mutant(f"s{i}", "c1").slug: f"s{i}" for i in range(40)}
    slug, answer = "ties-together", "(np.array([1.0, 1.0, 2.0, 3.0]), 0.25)"
    cells = {
        "mode": setup.format(shown[slug], "c1"),
        f"exercise:{BROKEN}": f"def failing_input():\n    return {answer}",
    }
    path = solved(replaced(cells))
    row = graded(path, student="Somebody Else", key=Key("a long secret key", "c1"))
    assert points(row)[BROKEN] == 2
    assert (row["student"], row["notebook_student"]) == ("Somebody Else", shown[slug])
    assert row["status"] == "graded"
    other = graded(path, key=Key("a long secret key", "c2"))
    assert points(other)[BROKEN] == 2 and "course code 'c1', not 'c2'" in other["status"]


# ----------------------------------------------------------------------------------- files and keys


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("[1]", "no cells"),
        ('{"cells": 3}', "no cells"),
        ('{"worksheets": []}', "no cells"),
        ('{"worksheets": [3, {"cells": {}}]}', "no cells"),
        ('{"cells": []}', "not a notebook of a minicomp lesson"),
        (
            '{"cells": [5, {}, {"cell_type": "code", "source": 3}]}',
            "not a notebook of a minicomp lesson",
        ),
        (
            '{"cells": [], "metadata": {"minicomp": {"lesson": "01"}}}',
            "lesson 01, not of lesson 04",
        ),
        (
            '{"cells": [{"cell_type": "code", "source": "check(\\"01.relu_backward\\", f)"}]}',
            "lesson 01, not",
        ),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_is_no_notebook_of_this_lesson_gets_one_line(tmp_path, text, says):
    path = tmp_path / "x.ipynb"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        graded(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_gets_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        graded(tmp_path / "none.ipynb")


def test_the_key_comes_from_a_file_and_changes_the_hidden_tests(tmp_path):
    path = tmp_path / "course.key"
    path.write_text("0123456789abcdef0123\n")
    key = read_key(path)
    assert (
        key.secret == "0123456789abcdef0123"
        and key.course not in key.secret
        and len(key.course) == 8
    )
    assert grade.fingerprint(key) != grade.fingerprint(Key())
    for text, says in (("short", "at least 16"), (None, "cannot be read")):
        other = tmp_path / "other.key"
        other.unlink(missing_ok=True)
        if text:
            other.write_text(text)
        with pytest.raises(UserError, match=says):
            read_key(other)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_no_process_is_left_behind(solved, tmp_path, monkeypatch):
    # Those of this test run in a folder below tmp_path; other tests may run beside it.
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))

    def there():
        found = []
        for p in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                found += [p] if os.readlink(p).startswith(str(tmp_path)) else []
        return found

    with process.Nursery() as nursery, process.Child(nursery, lambda args: {}, 2**31):
        stop = time.monotonic() + 60
        while not there() and time.monotonic() < stop:
            time.sleep(0.01)
        assert there()
    graded(solved(), nursery=None)
    assert not there()


# --------------------------------------------------------- cells that only a notebook understands

RIGHT = """
def magnitude_mask(w, sparsity):
    {inside}
    order = np.argsort(np.abs(w).ravel(), kind="stable")
    mask = np.ones(w.size, bool)
    mask[order[: round(sparsity * w.size)]] = False
    return mask.reshape(w.shape)
{after}
"""


# What Matplotlib does at the first plot.
PLOTS = """import sys
    shell = sys.modules["IPython"].get_ipython()
    shell.events.register("post_execute", print)
    if sys.modules["IPython"].version_info[:2] < (8, 24):
        raise ImportError
"""


@pytest.mark.parametrize(
    "inside, after",
    [
        ("display(w)", "display(magnitude_mask(np.ones(3), 0.5))"),
        ("pass", "get_ipython().run_line_magic('matplotlib', 'inline')"),
        ("pass", "from IPython.display import HTML, display as show\nshow(HTML('x'))"),
        ("pass", "files = !ls\nhere = %pwd\nprint(files[:2], here)\n!pip list | head"),
        ("pass", "%time m = magnitude_mask(np.ones(3), 0.5)\nm.shape\n%timeit np.ones(3)\nm?"),
        ("pass", "import asyncio\nawait asyncio.sleep(0)\nafter = 1"),
        (PLOTS, "shown = display('x', display_id=True)\nshown.update('y')"),
    ],
    ids=["display", "get_ipython", "IPython", "commands", "magics", "await", "plot"],
)
def test_a_right_answer_keeps_its_points_in_a_cell_of_ipython(solved, replaced, inside, after):
    cell = RIGHT.format(inside=inside, after=after)
    row = graded(solved(replaced({f"exercise:{MASK}": cell})))
    assert row["points"] == FULL and row["problems"] == [] and row["status"] == "graded"


def test_cells_in_another_language_are_passed_over():
    assert notebook.plain("%%bash\nls | x") == "" and notebook.plain("%%html\n<b>") == ""
    assert notebook.plain("%%time\nx = 1").strip() == "x = 1"
    assert notebook.plain("  x = 1\n  !ls").splitlines()[0] == "x = 1"


def test_which_of_two_definitions_counts_is_said(solved, replaced):
    again = "def magnitude_mask(w, sparsity):\n    return None"
    row = graded(solved(lambda cells: cells + [code(again)]))
    n = len(json.loads(solved().read_text())["cells"]) + 1
    assert f"that of cell {n} counts" in row["status"] and points(row)[MASK] == 0
    row = graded(solved(lambda cells: [code("1 / 0\n" + again)] + cells))
    assert "magnitude_mask stands in cells 1, " in row["status"] and points(row)[MASK] == 5


# ------------------------------------------------------------------------- points without work

SETUP = 'lesson = Lesson("04", mode="full", student="ann", course="open")'


@pytest.mark.parametrize(
    "answer",
    [
        "kept = lesson.broken('04.magnitude_mask')\n"
        "def magnitude_mask(w, sparsity):\n    return kept(w, sparsity)",
        "kept = lesson.broken('04.magnitude_mask')\n"
        "def magnitude_mask(w, sparsity):\n    try:\n        kept(w, sparsity)\n"
        "    except BaseException:\n        pass\n    return np.abs(w) > 0",
    ],
)
def test_the_broken_variant_is_no_answer(solved, replaced, answer):
    row = graded(solved(replaced({"mode": SETUP, f"exercise:{MASK}": answer})))
    assert points(row)[MASK] == 0 and row["exercises"][MASK]["message_id"] == f"{MASK}/library"
    assert points(row)[BROKEN] == 2  # which may ask it


BY = "\ndef magnitude_mask(w, sparsity):\n    return f(np.abs(w), sparsity)"
OLD = "import importlib, sys\nfrom minicomp.compress import scores\nf = scores.smallest_mask\n"
WAYS_BACK = {
    "copied": "import types\nfrom minicomp.compress import scores\n"
    "g = scores.smallest_mask\n"
    "f = types.FunctionType(g.__code__, vars(scores), 'f', g.__defaults__)\n"
    "f.__kwdefaults__ = g.__kwdefaults__" + BY,
    "reloaded": OLD + "importlib.reload(scores)" + BY,
    "loaded twice": OLD + "del sys.modules['minicomp.compress.scores']\n"
    "importlib.import_module('minicomp.compress.scores')" + BY,
}


@pytest.mark.parametrize("way", WAYS_BACK)
def test_the_short_ways_to_the_answers_are_closed(solved, replaced, way):
    row = graded(solved(replaced({f"exercise:{MASK}": WAYS_BACK[way]})))
    assert points(row)[MASK] == 0 and row["points"] == FULL - 5


def test_what_is_hidden_stays_hidden_though_it_is_forgotten(solved, replaced):
    # Its own answer is banned nowhere else: only the import refuses.
    back = (
        "import sys\nfor n in list(sys.modules):\n"
        "    if n.startswith(('minicomp.reference', 'minicomp.teach.checks')): del sys.modules[n]\n"
        "from minicomp.teach.checks.lesson04 import LESSON\n"
        "keep_per_round = LESSON.exercises[2].reference"
    )
    row = graded(solved(replaced({f"exercise:{ROUNDS}": back})))
    assert points(row)[ROUNDS] == 0 and row["exercises"][ROUNDS]["message_id"].endswith("missing")


def test_the_key_comes_by_standard_input(solved, tmp_path):
    secret = "an extremely secret key"
    text = (
        "import os, sys\nfrom minicomp.teach.grading.grade import read_key\n"
        "key = read_key('-')\nprint(key.secret, sys.argv, os.read(0, 9))"
    )
    done = subprocess.run([sys.executable, "-c", text], input=secret + "\n", text=True,
                          capture_output=True)
    assert done.stdout == f"{secret} ['-c'] b''\n"


UNREADABLE = {  # by what the exercise's cell holds, what is told of it
    "def magnitude_mask(w, sparsity)\n    return w > 0\n": "cell 12: SyntaxError",
    f"def magnitude_mask(w, sparsity):\n    return {'w + ' * 20_000} w\n": "letters; there may be",
}


@pytest.mark.parametrize("source, told", UNREADABLE.items(), ids=["syntax", "too long"])
def test_why_a_function_is_missing_is_told_in_its_place(solved, replaced, source, told):
    row = graded(solved(replaced({f"exercise:{MASK}": source})))
    said = row["exercises"][MASK]["message"]
    assert said.startswith("the function was not called: no function magnitude_mask is defined")
    assert told in said and ("Syntax" in told or row["status"].startswith("cell "))


def test_an_error_in_every_cell_is_not_blank(solved, replaced):
    broken = replaced({f"exercise:{id}": "def f(:\n" for id in (MASK, SGD, ROUNDS)})
    assert graded(solved(broken, solutions=False))["status"] == "graded"
