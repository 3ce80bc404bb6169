import ast
import functools
import re
from pathlib import Path

import pytest

import minicomp

ROOT = Path(minicomp.__file__).parent


@pytest.fixture(scope="session", autouse=True)
def parsed():
    # For all tests of this file, and charged to none.
    return trees()


@functools.cache
def trees():
    paths = sorted(ROOT.rglob("*.py"))
    return {p.relative_to(ROOT): ast.parse(p.read_text(encoding="utf-8")) for p in paths}


def library():
    apart = ("cli", "teach", "__main__.py")
    return {path: tree for path, tree in trees().items() if path.parts[0] not in apart}


@functools.cache
def classes():
    return [n for tree in trees().values() for n in tree.body if isinstance(n, ast.ClassDef)]


def methods(node):
    return [m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]


def inherited(node, method):
    # Whether a base class, by name, documents the method.
    bases = {getattr(b, "id", getattr(b, "attr", "")) for b in node.bases}
    return any(
        m.name == method and ast.get_docstring(m)
        for c in classes()
        if c.name in bases
        for m in methods(c)
    ) or any(inherited(c, method) for c in classes() if c.name in bases and c is not node)


def test_public_names_have_docstrings():
    # One-line methods that say what they are (Tensor.shape) and overrides of a documented method
    # may go without.
    bare = [
        f"{path}: the module"
        for path, tree in trees().items()
        if tree.body and not ast.get_docstring(tree)
    ]
    for path, tree in trees().items():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                bare += [] if ast.get_docstring(node) else [f"{path}: {node.name}"]
                bare += [
                    f"{path}: {node.name}.{m.name}"
                    for m in methods(node)
                    if isinstance(node, ast.ClassDef)
                    and len(m.body) > 1
                    and not ast.get_docstring(m)
                    and not inherited(node, m.name)
                ]
    assert not bare, "\n".join(bare)


def test_the_library_never_prints_nor_reads_the_environment():
    may_read = {Path("kernels/cpu.py")} | {path for path in library() if path.parts[0] == "data"}
    wrong = []
    for path, tree in library().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "input"):
                wrong.append(f"{path}:{node.lineno} calls {node.func.id}")
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("environ", "getenv")
                and path not in may_read
            ):
                wrong.append(f"{path}:{node.lineno} reads the environment")
    assert not wrong, "\n".join(wrong)


def test_files_are_replaced_in_one_place():
    found = {
        path.as_posix()
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("replace", "rename")
        and getattr(node.value, "id", "") == "os"
    }
    # The keeper of a student's process empties folders by moving what is in them.
    assert found == {"atomic.py", "teach/live/keeper.py"}, found


def test_files_are_written_in_one_place():
    # Whole or not at all, through links, into pipes: `write_atomically`. Elsewhere what is written
    # is appended (logs, the journal), goes nowhere, or must never replace a file.
    may = {"atomic.py", "cli/progress.py", "cli/streams.py", "cli/lesson.py",
           "teach/grading/journal.py", "teach/live/child.py"}
    memory = {"out", "data", "buffer", "packed"}  # names of a BytesIO or StringIO
    found = set()
    for path, tree in trees().items():
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [a.value for a in [*node.args[1:2], *(k.value for k in node.keywords)]
                     if isinstance(a, ast.Constant)]
            opens = name == "open" and any(set("wax+") & set(str(m)) for m in given)
            saves = name in ("save", "savez", "savez_compressed", "savefig", "tofile", "savetxt")
            numpys = getattr(getattr(node.func, "value", None), "id", "") == "np"
            if (opens or name in ("write_text", "write_bytes")
                    and getattr(getattr(node.func, "value", None), "id", "options") != "options"
                    or saves and (numpys or name == "savefig")
                    and getattr(node.args[0], "id", "") not in memory):
                found.add(path.as_posix())
    assert found <= may, found - may


def test_json_is_written_in_one_way():
    # `as_json`, in which NaN is null. Elsewhere: what may hold no NaN and fails where it does, what
    # goes between our own processes (also of another version), and notebooks as they are.
    may = {"atomic.py", "codec/header.py", "reference/vectors.py", "bench/worker.py",
           "teach/live/wire.py", "teach/live/process.py", "teach/notebook/page.py",
           "teach/notebook/cells.py", "teach/grading/journal.py"}
    found = {
        path.as_posix()
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps")
        and getattr(node.value, "id", "") == "json"
    }
    assert found <= may, found - may


def test_no_generator_of_the_module_and_none_of_numpys_global_state():
    wrong = []
    for path, tree in trees().items():
        inside = {
            n
            for f in ast.walk(tree)
            if isinstance(f, (ast.FunctionDef, ast.Lambda))
            for n in ast.walk(f)
        }
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Attribute)
                and node.value.attr == "random"
                and getattr(node.value.value, "id", "") in ("np", "numpy")
            ):
                continue
            if node.attr in ("default_rng", "PCG64") and node not in inside:
                wrong.append(f"{path}:{node.lineno} makes a generator at import")
            if node.attr[0].islower() and node.attr != "default_rng":
                wrong.append(f"{path}:{node.lineno} draws from np.random.{node.attr}")
    assert not wrong, "\n".join(wrong)


CHECKOUT = Path(__file__).parents[1]


def test_lines_have_at_most_100_columns():
    # An address cannot be broken; everything else can, tables too.
    long, files = [], [CHECKOUT / "setup.py"]
    for folder in ("minicomp", "kernels_pyx", "tests", "lessons/source"):
        files += [p for p in (CHECKOUT / folder).rglob("*") if p.suffix in (".py", ".pyx", ".h")]
    for path in files:
        name = path.relative_to(CHECKOUT).as_posix()
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if len(line) > 100 and not re.search(r"https?://\S{40}", line):
                long.append(f"{name}:{i} has {len(line)}")
    assert not long, "\n".join(long)
    assert len(files) > 300
