#!/usr/bin/env bash
# torch's HistogramObserver chooses one range for 8, 4 and 2 bits: that of 256 levels.
#
# Guess: HistogramObserver(quant_min=0, quant_max=15) looks for the range of least squared error of
# 16 levels. For normal numbers that is two thirds of the range for 256 levels.
# Seen, torch 2.13.0: the search takes 2^(bits of the dtype) levels, whatever quant_min and quant_max
# are; these only decide the step within the range found. So the ranges are equal to the last digit,
# and at 4 bits, 100,000 normal or Laplace numbers, the error is 2 to 4 times what the best fraction
# of min-max reaches: little less than without a search.
# Follows: for fewer than 8 bits search the range otherwise. As a peer at 4 bits it is no bound that
# is hard to meet.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0
"$folder/bin/python" -I -W ignore - <<'PY'
import sys

import numpy as np
import torch
from torch.ao.quantization import HistogramObserver, MinMaxObserver

print(f"torch {torch.__version__}")


def error(x, lo, hi, bits):
    # Squared error of 2^bits levels over lo..hi, 0 exact.
    scale = (hi - lo) / (2**bits - 1)
    zero = int(np.clip(round(-lo / scale), 0, 2**bits - 1))
    y = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 2**bits - 1)
    return float(torch.square(x.double() - y.double()).sum())


same = True
rng = np.random.default_rng(0)
for name, x in (("normal", rng.standard_normal(100_000)), ("Laplace", rng.laplace(size=100_000))):
    x = torch.tensor(x, dtype=torch.float32)
    lo, hi = float(x.min()), float(x.max())
    ranges = []
    for bits in (8, 4, 2):
        levels = 2**bits - 1
        errors = []
        for kind in (HistogramObserver, MinMaxObserver):
            observer = kind(quant_min=0, quant_max=levels)
            observer(x)
            scale, zero = (v.item() for v in observer.calculate_qparams())
            y = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, levels)
            errors.append(float(torch.square(x.double() - y.double()).sum()))
            if kind is HistogramObserver:
                ranges.append(scale * levels)
        best, f = min((error(x, f * lo, f * hi, bits), f) for f in np.linspace(0.02, 1, 99))
        print(f"{name}, {bits} bits: range {ranges[-1]:.4f}, least error at {f * (hi - lo):.4f}; "
              f"error / least: searched {errors[0] / best:.2f}, min-max {errors[1] / best:.2f}")
        same &= bits == 8 or errors[0] > 2 * best and errors[0] > 0.8 * errors[1]
    same &= max(ranges) - min(ranges) < 1e-5 * max(ranges)
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
