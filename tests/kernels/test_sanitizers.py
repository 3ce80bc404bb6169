"""The kernels under AddressSanitizer and UBSan: their own tests, run on modules that look."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The last flag wins: setup.py asks for -O3, whose sanitized code takes thrice as long to compile.
COMPILER = """#!/bin/sh
exec gcc "$@" -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined
"""
# Reads y past its end: an entry would refuse it, a sanitizer must see it.
OVERRUN = """
import numpy as np
from minicomp.kernels import cpu
a = np.ones(4096, np.float32)
cpu.kernel_module("maps").relu_dx(a, a[:1].copy(), a.copy(), 1)
"""
# Shifts by more bits than a number has.
UNDEFINED = """
import numpy as np
from minicomp.kernels import cpu
start, entry, table = np.int32([0, 1]), np.uint8([9]), np.zeros(256, np.float32)
X, Y = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)
cpu.kernel_module("sparse").rows8(entry, table, 77, start, 1, X, Y, 1, 1)
"""
ROOMS = ["test_doors.py", "sparse", "codebook", "coding", "int8", "bits", "maps",
         "../deploy/test_one_image.py"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("gcc") and sys.platform == "linux"), reason="needs gcc"),
]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    # Runs Python on a copy of this checkout whose kernels are instrumented.
    root = tmp_path_factory.mktemp("sanitized")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "kernels_pyx", root / "kernels_pyx")
    shutil.copytree(
        ROOT / "minicomp", root / "minicomp",
        ignore=shutil.ignore_patterns("_kernels", "__pycache__"),
    )
    (root / "minicomp" / "_kernels").mkdir()
    compiler = root / "cc"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=root, check=True,
        env={**os.environ, "CC": str(compiler)},
    )
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    env = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONPATH": str(root),
        "PYTHONMALLOC": "malloc",  # so that each array has a block of its own
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps memory until it ends
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "CI": "",  # few examples
    }

    def run(*args):
        done = subprocess.run(
            [sys.executable, "-P", *args], cwd=root, env=env, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    code, where = run(
        "-c", "from minicomp.kernels import cpu; print(*cpu.describe(), sep='\\n')"
    )
    assert not code and f"bits, codebook, coding, int8, maps, sparse from {root}" in where
    return run


@pytest.mark.parametrize(
    "fault, tool", [(OVERRUN, "AddressSanitizer"), (UNDEFINED, "runtime error")]
)
def test_the_sanitizers_see_a_fault(sanitized, fault, tool):
    code, said = sanitized("-c", fault)
    assert code and tool in said


def test_kernel_tests_end_without_a_report(sanitized):
    code, said = sanitized(
        "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--rootdir", str(ROOT),
        *(str(ROOT / "tests" / "kernels" / room) for room in ROOMS),
    )
    assert code == 0 and "Sanitizer" not in said and "runtime error" not in said, said[-8000:]
