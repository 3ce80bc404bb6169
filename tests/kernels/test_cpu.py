import json
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp.kernels.maps import conv
from minicomp.kernels import cpu

ROOT = Path(minicomp.__file__).parents[1]


@pytest.fixture
def missing(monkeypatch):
    # A cpu module that finds no compiled kernel, whatever is installed.
    for cached in (cpu.kernel_module, cpu._levels, cpu._auto_level):
        cached.cache_clear()
    monkeypatch.setattr(cpu.importlib, "import_module", refuse)
    yield
    for cached in (cpu.kernel_module, cpu._levels, cpu._auto_level):
        cached.cache_clear()


def refuse(name):
    raise ImportError(name)


def run(code, path=ROOT, **environment):
    # The code in a process of its own that imports minicomp from `path`.
    env = {**os.environ, "PYTHONPATH": str(path), **environment}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        cwd="/",
    )


def test_rungs_are_a_ladder_that_starts_with_the_reference():
    rungs = cpu.available()
    assert rungs == list(cpu.RUNGS[: len(rungs)]) and rungs[0] == "ref"


def test_the_compiled_module_and_the_processor_agree_with_proc_cpuinfo():
    path = Path("/proc/cpuinfo")
    if not path.exists() or " avx2" not in path.read_text() or cpu.available() == ["ref"]:
        pytest.skip("needs Linux on x86 with kernels")
    flags = set(path.read_text().split("flags", 1)[1].split("\n", 1)[0].split())
    assert ("avx512" in cpu.available()) == (
        {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags
    )
    assert ("vnni" in cpu.available()) == ("avx512_vnni" in flags and "avx512" in cpu.available())
    assert ("vpopcntdq" in cpu.available()) == (
        "avx512_vpopcntdq" in flags and "vnni" in cpu.available()
    )
    assert "popcnt" in cpu.available() and "popcnt" in flags


def test_a_room_has_the_rungs_that_it_alone_has_and_those_of_all():
    runs, common = cpu.available(), {"ref", "portable", "avx2", "avx512"}
    for name, more in (("maps", set()), ("int8", {"vnni"}), ("bits", {"popcnt", "vpopcntdq"})):
        if cpu.available(name) == runs:
            assert cpu.distinct(name) == [rung for rung in runs if rung in common | more]


def test_resolve_gives_the_level_of_a_rung():
    for level, rung in enumerate(cpu.available("maps")):
        assert cpu.resolve(rung, "maps") == level
    assert cpu.resolve("ref", "no such family") == 0


@pytest.mark.parametrize("name", ["sse9", "", "AVX2", "Auto"])
def test_an_unknown_rung_is_named(name):
    with pytest.raises(ValueError, match=f"isa must be auto or one of ref.*, got {name}"):
        cpu.resolve(name, "maps")


def test_a_rung_that_does_not_run_here_is_refused(missing):
    with pytest.raises(ValueError, match="isa must be auto or one of ref here, got avx2"):
        cpu.resolve("avx2", "maps")


def test_missing_kernels_warn_once_and_the_reference_runs(missing, monkeypatch, tmp_path):
    (tmp_path / "BUILD.json").write_text(json.dumps({"failed": {"maps": "CompileError: no cc"}}))
    monkeypatch.setattr(cpu, "FOLDER", tmp_path)
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    with pytest.warns(RuntimeWarning, match="kernels .maps. are missing.*CompileError: no cc"):
        y = conv.conv2d(x, w)
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), 4, np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conv.conv2d(x, w)
    assert cpu.available("maps") == cpu.available() == ["ref"]


def test_describe_says_missing_loudly(missing, monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "FOLDER", tmp_path)
    assert any("KERNELS MISSING" in line for line in cpu.describe())
    (tmp_path / "BUILD.json").write_text(
        json.dumps({"built": ["maps", "cpu"], "failed": {"coding": "because"}})
    )
    lines = "\n".join(cpu.describe())
    assert (
        "KERNEL maps DOES NOT LOAD" in lines and "KERNEL coding FAILED TO BUILD: because" in lines
    )


def test_describe_names_kernels_rungs_and_folder():
    if cpu.available("maps") == ["ref"]:
        pytest.skip("needs kernels")
    text = "\n".join(cpu.describe())
    assert "kernels: bits, codebook, coding, floats, int8, maps, sparse from" in text
    assert str(cpu.FOLDER) in text and cpu.available()[-1] in text


@pytest.mark.parametrize("cap", ["ref", "portable", "vnni", "auto"])
def test_environment_caps_auto_but_not_what_is_asked_for(cap):
    result = run(
        """
        from minicomp.kernels import cpu
        print(cpu.resolve("auto", "maps"), len(cpu.available()),
        cpu.resolve(cpu.available("maps")[-1], "maps"))
        """,
        MINICOMP_ISA=cap,
    )
    auto, count, best = map(int, result.stdout.split())
    top = count - 1
    assert (auto, best) == (
        {"ref": 0, "portable": min(1, top), "vnni": min(5, top), "auto": top}[cap],
        top,
    ), result.stderr


def test_environment_with_an_unknown_rung_is_named():
    result = run(
        "from minicomp.kernels import cpu; cpu.resolve('auto', 'maps')", MINICOMP_ISA="mmx"
    )
    if cpu.available("maps") != ["ref"]:
        assert result.returncode
        assert "SettingError: MINICOMP_ISA must be auto or one of" in result.stderr


def test_a_bare_tree_in_front_of_an_installed_one_names_both(monkeypatch, tmp_path):
    bare, installed = tmp_path / "bare" / "_kernels", tmp_path / "site" / "minicomp" / "_kernels"
    bare.mkdir(parents=True)
    installed.mkdir(parents=True)
    monkeypatch.setattr(cpu, "FOLDER", bare)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cpu.warn_if_shadowed()  # the other has no kernels either
        (installed / "conv.so").touch()
        with pytest.raises(RuntimeWarning) as caught:
            cpu.warn_if_shadowed()
        assert str(bare.parent) in str(caught.value) and str(installed.parent) in str(caught.value)
        (bare / "conv.so").touch()
        cpu.warn_if_shadowed()
