#!/usr/bin/env bash
# idx2numpy reads IDX files of floats and wide integers as arrays that it then refuses to write.
#
# Guess: reading gives arrays of the machine's own byte order, and whatever was read can be written.
# Seen, idx2numpy 1.2.3 on a little-endian machine: int16, int32, float32 and float64 come back as
# big-endian, read-only arrays (">f4"), equal in value; written again they raise "numpy ndarray type
# not supported by IDX format", as an empty array does; a copy in native order is written. uint8,
# which the published image sets use, never shows it.
# Follows: `a.astype(a.dtype.newbyteorder("="))` behind every read; features that were stored as
# float IDX are tested by a round trip, not by the published files alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet idx2numpy==1.2.3 numpy==2.4.6
"$folder/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import idx2numpy
import numpy as np


def writes(a):
    try:
        return idx2numpy.convert_to_string(a) is not None
    except idx2numpy.FormatError:
        return False


print(f"idx2numpy {version('idx2numpy')}, numpy {np.__version__}, {sys.byteorder}-endian machine")
found = {}
for name in ("uint8", "int16", "int32", "float32", "float64"):
    a = np.arange(6).reshape(2, 3).astype(name)
    b = idx2numpy.convert_from_string(idx2numpy.convert_to_string(a))
    assert np.array_equal(a, b) and writes(b.astype(name))
    found[name] = writes(b)
    print(f"{name}: read as {b.dtype.str}, written again: {found[name]}")
print(f"an empty array is written: {writes(np.zeros((0, 3), np.uint8))}")
same = sys.byteorder == "little" and [n for n, ok in found.items() if ok] == ["uint8"]
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
