#!/usr/bin/env bash
# Cython's prange with use_threads_if=False is no plain loop: it still starts an OpenMP region, of one thread.
#
# Guess: where the condition is false the loop runs as range would, at no cost, so that one kernel
# serves one thread and many.
# Seen, Cython 3.3.1 with gcc's libgomp: the condition becomes the `if` clause of a parallel region.
# Each loop calls GOMP_parallel whether it holds or not, and the region, its own copies of the loop's
# variables and its end are run by the one thread. That takes about as long as a small layer of a
# quantized net does.
# Follows: branch in front of the loop, range for one thread and prange for more. An int8 net of eleven
# kernels on one image took 16.0 instead of 22.4 microseconds after that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet cython==3.3.1 setuptools==80.9.0
cd "$folder"
cat > loops.pyx <<'PYX'
from cython.parallel cimport prange

def threads_if(bint many):
    cdef long i, total = 0
    for i in prange(100, nogil=True, num_threads=2, use_threads_if=many):
        total += i
    return total

def plain():
    cdef long i, total = 0
    with nogil:
        for i in range(100):
            total += i
    return total
PYX
cat > setup.py <<'PY'
from Cython.Build import cythonize
from setuptools import Extension, setup

flags = ["-O2", "-fopenmp"]
setup(name="loops", ext_modules=cythonize([Extension(
    "loops", ["loops.pyx"], extra_compile_args=flags, extra_link_args=["-fopenmp"])]))
PY
cat > count.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
static int calls;
int regions(void) { return calls; }
void GOMP_parallel(void (*f)(void *), void *data, unsigned threads, unsigned flags) {
    static void (*real)(void (*)(void *), void *, unsigned, unsigned);
    if (!real) real = (void (*)(void (*)(void *), void *, unsigned, unsigned))dlsym(RTLD_NEXT, "GOMP_parallel");
    calls++;
    real(f, data, threads, flags);
}
C
bin/python setup.py -q build_ext --inplace > build.log 2>&1 || { tail -20 build.log; exit 1; }
gcc -shared -fPIC -o count.so count.c -ldl -Wl,--no-as-needed -lgomp
LD_PRELOAD="$folder/count.so" bin/python - <<'PY'
import ctypes
import sys
from importlib.metadata import version

import loops

regions = ctypes.CDLL(None).regions
seen = {}
for name, call in (("plain", loops.plain), ("use_threads_if=False", lambda: loops.threads_if(False)),
                   ("use_threads_if=True", lambda: loops.threads_if(True))):
    before = regions()
    for _ in range(10):
        assert call() == 4950
    seen[name] = regions() - before
print(f"Cython {version('cython')}")
for name, n in seen.items():
    print(f"{name}: {n} OpenMP regions in 10 calls")
same = list(seen.values()) == [0, 10, 10]
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
