#!/usr/bin/env bash
# torch.nn.utils.prune leaves negative zeros, and they cost a bit each in a compressed file.
#
# Guess: a pruned weight is 0, all bits clear, so that 95 % zeros pack into next to nothing.
# Seen, torch 2.13.0: the weight is the original times a mask of 0 and 1, so every negative weight
# that is pruned becomes -0.0, before `remove` and after it: half of all zeros carry a random sign
# bit. Of a 300 x 784 layer at 95 %, zlib makes 1.8 times the bytes that it makes of the same layer
# with plain zeros. Values compare equal, so no test of accuracy or of sparsity shows it.
# Follows: add 0.0 (-0.0 + 0.0 is +0.0), or index by the mask, before such a file is compressed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/bin/python" -I - <<'PY'
import sys
import zlib

import numpy as np
import torch
from torch.nn.utils import prune

torch.manual_seed(0)
layer = torch.nn.Linear(784, 300)
prune.l1_unstructured(layer, "weight", amount=0.95)
before = layer.weight.detach().numpy().copy()
prune.remove(layer, "weight")
after = layer.weight.detach().numpy()
zeros = int((after == 0).sum())
negative = [int((np.signbit(w) & (w == 0)).sum()) for w in (before, after)]
as_is, plain = (len(zlib.compress(w.tobytes(), 9)) for w in (after, after + 0.0))
print(f"torch {torch.__version__}, numpy {np.__version__}, zlib {zlib.ZLIB_RUNTIME_VERSION}")
print(f"{zeros:,} zeros, of which negative: {negative[0]:,}; after remove: {negative[1]:,}")
print(f"zlib level 9: {as_is:,} bytes as it is, {plain:,} bytes with -0.0 made +0.0")
same = zeros == 223440 and all(0.49 < n / zeros < 0.51 for n in negative) and as_is > 1.5 * plain
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
