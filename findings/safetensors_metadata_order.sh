#!/usr/bin/env bash
# The same tensors and the same metadata, saved twice by safetensors, are two different files.
#
# Guess: a format without time stamps, whose writer sorts the tensors, gives the same bytes for the
# same content, so that a hash of the file names the model.
# Seen, safetensors 0.8.0: metadata of two and more entries is written in an order that changes from
# call to call, in one process and with PYTHONHASHSEED fixed; the tensors' order does not. Without
# metadata, or with one entry, the bytes are the same each time.
# Follows: at most one metadata entry (put JSON into it) where files are hashed, cached or compared.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
PYTHONHASHSEED=0 "$folder/bin/python" - <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

print(f"safetensors {safetensors.__version__}, numpy {np.__version__}")
tensors = {f"layer{i}.weight": np.full((2, 3), i, np.float32) for i in range(8)}
found = []
for n in (0, 1, 4, 8):
    metadata = {f"key{i}": str(i) for i in range(n)} or None
    files = {save(tensors, metadata) for _ in range(50)}
    found.append(len(files))
    values = {name: a.tolist() for name, a in load(next(iter(files))).items()}
    assert values == {name: a.tolist() for name, a in tensors.items()}
    print(f"{n} metadata entries: 50 times saved, {len(files)} different files")
same = found[:2] == [1, 1] and min(found[2:]) > 1
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
