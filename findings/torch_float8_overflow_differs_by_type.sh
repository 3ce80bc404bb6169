#!/usr/bin/env bash
# torch's four float8 types overflow in three ways, and e4m3fn turns infinity into 448.
#
# Guess: a cast of a library has one rule for what is beyond the largest number: the special value
# where the type has one (NaN in e4m3fn and both fnuz, infinity in e5m2), as ml_dtypes has it; or it
# saturates, in every type. Infinity in particular stays visible as infinity or NaN.
# Seen, torch 2.13.0 on the CPU, from float64, float32, bfloat16 and float16 alike: e4m3fn saturates
# all of it, infinity becomes 448 too; e4m3fnuz gives NaN from 248 on; e5m2 gives infinity. In
# ml_dtypes 0.6.0 e4m3fn gives NaN from 465 on.
# Follows: a check for NaN or infinity behind a cast to e4m3fn finds nothing, while the same check
# works for the other three types: look before the cast. As a peer of e4m3fn, torch is an oracle of
# the saturating mode alone, ml_dtypes of the other.
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
given = [448.0, 480.0, 60000.0, 1e30, float("inf"), float("-inf")]
types = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
seen = {}
for name in types:
    casts = [
        torch.tensor(given, dtype=dtype).to(getattr(torch, name)).float().tolist()
        for dtype in (torch.float64, torch.float32, torch.bfloat16)
    ]
    seen[name] = casts[0]
    assert all(str(cast) == str(casts[0]) for cast in casts), "alike from every type"
    print(f"torch {name:16} {given} -> {casts[0]}")
theirs = np.array(given, np.float32).astype(ml_dtypes.float8_e4m3fn).astype(np.float32).tolist()
print(f"ml_dtypes float8_e4m3fn {given} -> {theirs}")
inf = float("inf")
same = seen["float8_e4m3fn"] == [448.0] * 5 + [-448.0]
same = same and all(np.isnan(seen["float8_e4m3fnuz"]))
same = same and seen["float8_e5m2"][3:] == [inf, inf, -inf]
same = same and all(np.isnan(seen["float8_e5m2fnuz"][3:]))
same = same and theirs[0] == 448 and all(np.isnan(theirs[1:]))
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
