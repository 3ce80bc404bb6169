#!/usr/bin/env bash
# The scale of a block of zeros, cast to e8m0, is NaN in ml_dtypes and 2^-127 in torch.
#
# Guess: e8m0 (OCP MX v1.0, the scale of mxfp4 and its kin) has no 0, so that both give the least
# number, 2^-127, for it, and what is below 0 is NaN in both: the format has no sign.
# Seen, ml_dtypes 0.6.0 and torch 2.13.0: 0 is NaN in ml_dtypes, and every weight of a block of
# zeros decodes to NaN; it is 2^-127 in torch. A negative number is NaN in ml_dtypes; torch drops the
# sign: -3 is 4, as 3 is.
# Follows: write the scale of a block of zeros yourself (gguf and minicomp: 2^-127), and cast only
# what is above 0; the two are oracles of each other only there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet torch==2.13.0 ml_dtypes==0.6.0 numpy==2.4.6
"$folder/bin/python" -I - <<'PY'
import sys

import ml_dtypes
import numpy as np
import torch

print(f"torch {torch.__version__}, ml_dtypes {ml_dtypes.__version__}")
given = [1.0, 3.0, 0.0, -3.0]
array = np.array(given, np.float32).astype(ml_dtypes.float8_e8m0fnu)
tensor = torch.tensor(given).to(torch.float8_e8m0fnu)
a, b = array.astype(np.float32), tensor.float().numpy()
block = np.zeros(32, np.float32)
print(f"ml_dtypes {given} -> {a.tolist()}, codes {array.view(np.uint8).tolist()}")
print(f"torch     {given} -> {b.tolist()}, codes {tensor.view(torch.uint8).tolist()}")
print(f"a block of zeros decodes to {(a[2] * block)[0]} and {(b[2] * block)[0]}")
same = a[0] == b[0] == 1 and a[1] == b[1] == 4 and np.isnan(a[2:]).all()
same = same and b[2] == 2.0**-127 and b[3] == 4
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
