import ast
import functools
from pathlib import Path

import minicomp

ROOT = Path(minicomp.__file__).parent
# A room imports itself, its row and the rows before it. Models come before the codec: a file may
# name a built-in net.
ROWS = [
    "errors archive atomic interrupt lock timing",
    "_kernels",
    "kernels",
    "tensor ops conv gradcheck grid",
    "nn",
    "models data",
    "optim checkpoint train",
    "deploy",
    "codec exchange",
    "passport quality energy comparison",
    "compress",
    "report",
    "jobs search bench reference",
    "papers teach",
    "cli __main__",
]
RANK = {room: i for i, row in enumerate(ROWS) for room in row.split()}
APART = {
    ("data", "models"),
    ("optim", "models"),
    ("train", "models"),
    ("checkpoint", "models"),
    ("checkpoint", "data"),
    ("optim", "data"),
    ("train", "data"),
}


def imports(path):
    # (module that is imported, dotted and absolute; whether inside a function)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        n
        for f in ast.walk(tree)
        if isinstance(f, (ast.FunctionDef, ast.Lambda))
        for n in ast.walk(f)
    }
    here = ["minicomp", *path.relative_to(ROOT).with_suffix("").parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            yield from ((f"{stem}.{alias.name}", node in inside) for alias in node.names)


@functools.cache  # on first use: each worker of a run imports this file, one of them runs it
def imported():
    paths = sorted(ROOT.rglob("*.py"))
    return {path: list(imports(path)) for path in paths if path != ROOT / "__init__.py"}


def module_of(path):
    parts = ["minicomp", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(dotted):
    return dotted.split(".")[1]


def circles(modules):
    # Modules that reach one another, by what they import: {module: dotted names of modules or of
    # what is in them}. An import inside a function counts like any other.
    arrows = {}
    for module, names in modules.items():
        named = {n if n in modules else n.rpartition(".")[0] for n in names}
        arrows[module] = named & set(modules) - {module}

    def reached(module):
        seen, left = set(), [module]
        while left:
            new = arrows[left.pop()] - seen
            seen |= new
            left += new
        return seen

    far = {module: reached(module) for module in modules}
    return {frozenset(m for m in far[a] if a in far[m]) for a in modules if a in far[a]}


def test_arrows_run_one_way():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, names in imported().items()
        for name, _ in names
        if name.startswith("minicomp.") and room(name) in RANK
        for mine in [path.relative_to(ROOT).with_suffix("").parts[0]]
        if RANK[room(name)] > RANK[mine] or (mine, room(name)) in APART
    ]
    assert not wrong, "\n".join(wrong)
    assert {path.relative_to(ROOT).with_suffix("").parts[0] for path in imported()} <= set(RANK)


def test_no_module_reaches_itself():
    # Rows keep rooms apart; this also holds inside a room, and inside functions.
    found = circles({module_of(p): {name for name, _ in names} for p, names in imported().items()})
    assert not found, "\n".join(", ".join(sorted(circle)) for circle in found)


def test_circles_are_found_through_packages_and_functions():
    told = {
        "m.a": {"m.b.name", "numpy.linalg"},
        "m.b": {"m.c"},
        "m.c": {"m.a", "m.d.thing"},
        "m.d": {"m.d.own", "json"},
    }
    assert circles(told) == {frozenset({"m.a", "m.b", "m.c"})}
    assert not circles(told | {"m.c": {"m.d"}})
    source = ROOT / "teach" / "catalog.py"  # its import of the checks is inside a function
    assert ("minicomp.teach.checks.LESSONS", True) in imported()[source]


def test_techniques_never_import_one_another():
    techniques = {
        path
        for path in imported()
        if "compress" in path.parts
        and any(
            isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "word"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
        and path.name not in ("technique.py", "finetune.py")
    }
    modules = {
        ".".join(["minicomp", *p.relative_to(ROOT).with_suffix("").parts]) for p in techniques
    }
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in techniques
        for name, _ in imported()[path]
        if any(name == m or name.startswith(m + ".") for m in modules)
    ]
    assert not wrong, "\n".join(wrong)
    assert len(techniques) >= 2


def test_other_peoples_libraries_are_imported_inside_functions_where_they_belong():
    plots = {
        ROOT / "report" / "plots.py",
        ROOT / "teach" / "figures" / "drawing.py",
        ROOT / "data" / "glyphs.py",
    }
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, names in imported().items()
        for name, inside in names
        if name.split(".")[0] in (
            "matplotlib", "scipy", "onnx", "safetensors", "joblib", "dask", "distributed")
        and not (inside and (name[0] != "m" or path in plots))
    ]
    assert not wrong, "\n".join(wrong)


def test_only_kernels_import_what_is_compiled_and_nobody_the_test_tools():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, names in imported().items()
        for name, _ in names
        if name.startswith("minicomp._kernels")
        and "kernels" not in path.parts
        or name.split(".")[0] in ("torch", "sklearn", "pytest", "hypothesis", "onnxruntime")
    ]
    assert not wrong, "\n".join(wrong)
