#!/usr/bin/env bash
# faiss' scalar quantizers never give back the smallest value and give back more than the largest.
#
# Guess: 8 bits over the trained range reproduce its two ends, as min-max quantization does, and no
# decoded value lies outside of the range.
# Seen, faiss-cpu 1.15.1: a code is the floor of (2^b - 1) (x - min) / (max - min), decoded half a
# step higher. So the minimum comes back half a step too large and the maximum too, which lies beyond
# the range: of 0..1 at 8 bits 0.00196..1.00196, at 4 bits 0.033..1.033. The zeros of a range 0..1,
# which a ReLU makes, are no zeros any more; those of -1..1 are. A constant component is exact.
# Follows: as a peer for affine quantization compare errors, not codes; mask again after decoding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.4.6
"$folder/bin/python" -I - <<'PY'
import sys

import faiss
import numpy as np

print(f"faiss {faiss.__version__}, numpy {np.__version__}")
same = True
for name, bits in (("QT_8bit", 8), ("QT_6bit", 6), ("QT_4bit", 4)):
    for low in (0.0, -1.0):
        x = np.repeat(np.linspace(low, 1, 1001, dtype=np.float32)[:, None], 8, axis=1).copy()
        quantizer = faiss.ScalarQuantizer(8, getattr(faiss.ScalarQuantizer, name))
        quantizer.train(x)
        y = quantizer.decode(quantizer.compute_codes(x))
        half = (1 - low) / (2**bits - 1) / 2
        zero = y[np.flatnonzero(x[:, 0] == 0)[0], 0]
        print(f"{name}: {low:g}..1 comes back as {y[0, 0]:.5f}..{y[-1, 0]:.5f}, 0 as {zero:.5f}")
        same &= abs(y[0, 0] - low - half) < 1e-6 and abs(y[-1, 0] - 1 - half) < 1e-6
        same &= abs(zero - (half if low == 0 else 0)) < 1e-6
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
