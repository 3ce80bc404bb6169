"""Which compiled kernels there are and which rung of them runs: the one place of run-time dispatch.

A room of kernels NAME is the folder `minicomp/kernels/NAME` (contracts, NumPy references, entries)
and its compiled twin `minicomp._kernels.NAME`. A kernel is a ladder of rungs:

    ref       NumPy, no compiler needed          level 0
    portable  C on any processor                 level 1
    popcnt    POPCNT                             level 2
    avx2      popcnt, AVX2 and FMA               level 3
    avx512    avx2 and AVX-512 F, BW, DQ, VL     level 4
    vnni      avx512 and VNNI dot products       level 5
    vpopcntdq vnni and VPOPCNTDQ                 level 6

An entry has `isa="auto"` and calls `resolve(isa, NAME)`, which gives the level of the rung to run:
0 means the reference; a kernel that has no rung of that level runs its highest one below.

    MINICOMP_ISA=portable   caps what "auto" takes, to try a slower rung or the reference
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

from ..errors import SettingError, printable

# The index is the level.
RUNGS = ("ref", "portable", "popcnt", "avx2", "avx512", "vnni", "vpopcntdq")
ONLY = {"popcnt": "bits", "vnni": "int8", "vpopcntdq": "bits"}  # rungs that one room alone has
FOLDER = Path(__file__).parents[1] / "_kernels"


@functools.cache
def kernel_module(name: str) -> ModuleType | None:
    """Returns the compiled module of room `name`, None where it is missing or does not load."""
    try:
        return importlib.import_module(f"minicomp._kernels.{name}")
    except ImportError:
        return None


@functools.cache
def _levels() -> tuple[int, int]:
    # (highest level this processor runs, highest level that "auto" takes); read once
    module = kernel_module("cpu")
    top = 0 if module is None else module.level()
    cap = os.environ.get("MINICOMP_ISA", "auto")
    if cap not in ("auto", *RUNGS):
        raise SettingError(f"MINICOMP_ISA must be auto or one of {', '.join(RUNGS)}, got {cap}")
    return top, top if cap == "auto" else min(top, RUNGS.index(cap))


def available(name: str | None = None) -> list[str]:
    """Returns the rungs that run here, slowest first; only "ref" where room `name` is missing."""
    if name is not None and kernel_module(name) is None:
        return ["ref"]
    return list(RUNGS[: _levels()[0] + 1])


def distinct(name: str) -> list[str]:
    """Returns the rungs of room `name` that run here, without those that another room alone has."""
    return [rung for rung in available(name) if ONLY.get(rung, name) == name]


def resolve(isa: str, name: str) -> int:
    """Returns the level at which room `name` runs: 0 for the reference.

    isa : "auto" takes the best that runs here; a rung's name takes that one
    Raises ValueError where the rung is unknown or does not run here.
    """
    if isa == "auto":
        return _auto_level(name)
    if isa not in available(name):
        raise ValueError(f"isa must be auto or one of {', '.join(available(name))} here, "
                         f"got {printable(isa, 40)}")
    return RUNGS.index(isa)


@functools.cache
def _auto_level(name: str) -> int:
    # The level that "auto" takes; of a room that is missing 0, which is said once a process.
    if kernel_module(name) is not None:
        return _levels()[1]
    why = build_record().get("failed", {}).get(name)
    warnings.warn(
        f"minicomp: the compiled kernels '{name}' are missing, so their NumPy reference runs, many "
        f"times slower. {f'Its build failed: {why}. ' if why else ''}A C compiler and "
        "`pip install .` build it; `minicomp --version` lists what runs.",
        RuntimeWarning, stacklevel=4)
    return 0


def build_record() -> dict:
    """Returns setup.py's record: compiler, flags, openmp, built, failed (name -> why); or {}."""
    path = FOLDER / "BUILD.json"
    return json.loads(path.read_text()) if path.exists() else {}


def describe() -> list[str]:
    """Returns the lines of `minicomp --version`: which kernels run, from where, and what failed."""
    record, lines = build_record(), []
    names = sorted(set(record.get("built", [])) - {"cpu", "_cyutility"})
    loaded = [name for name in names if kernel_module(name) is not None]
    openmp = kernel_module("cpu") is not None and kernel_module("cpu").has_openmp()
    if loaded:
        lines.append(f"kernels: {', '.join(loaded)} from {FOLDER}")
        lines.append(f"rungs: {', '.join(available())}")
        lines.append(f"OpenMP: {'yes' if openmp else 'no, each kernel runs on one thread'}")
    else:
        lines.append(f"KERNELS MISSING in {FOLDER}: the NumPy reference runs, many times slower")
    lines += [f"KERNEL {name} DOES NOT LOAD" for name in names if name not in loaded]
    failed = record.get("failed", {})
    lines += [f"KERNEL {name} FAILED TO BUILD: {why}" for name, why in failed.items()]
    return lines


def warn_if_shadowed() -> None:
    """Warns once where a minicomp without kernels was imported though another on sys.path has them.

    That happens in a checkout: Python takes the folder it is started in before what is installed.
    """
    if _binaries(FOLDER):
        return
    for entry in sys.path:
        other = Path(entry or ".").resolve() / "minicomp" / "_kernels"
        if other != FOLDER.resolve() and _binaries(other):
            warnings.warn(
                f"minicomp: imported from {FOLDER.parent}, which has no compiled kernels, while "
                f"the installed {other.parent} has them. Start Python from another folder, or "
                "build the kernels in place with `python setup.py build_ext --inplace`.",
                RuntimeWarning, stacklevel=3)
            return


def _binaries(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.suffix in (".so", ".pyd")]
