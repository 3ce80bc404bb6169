#!/usr/bin/env bash
# onnxruntime's symmetric percentile calibration drops what is smaller than all of its first batch.
#
# Guess: collected in two batches, or in one, the same numbers give the same percentile, to a bin.
# Seen, onnxruntime 1.32.0: the histogram of |x| begins at the smallest |x| of the first batch
# (np.histogram without a range), grows only upwards, and np.histogram leaves out silently what lies
# below its first edge. 1,000 numbers in 5..6, then 9,000 in 0..1: the median of |x| is 0.55; 5.5 is
# returned, and the 9,000 are not counted. In the other order, or in one batch, it is right.
# Follows: a range must begin at 0. Users pass batches in one call, or symmetric=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$folder/bin/python" -I - "$folder" <<'PY'
import contextlib
import io
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

print(f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
model = f"{sys.argv[1]}/relu.onnx"
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), model)


class Batch(CalibrationDataReader):
    def __init__(self, x):
        self.left = [{"x": x}]

    def get_next(self):
        return self.left.pop() if self.left else None


def calibrated(batches, percentile):
    # (T, numbers counted)
    how = {"symmetric": True, "percentile": percentile}
    with contextlib.redirect_stdout(io.StringIO()):
        made = create_calibrator(model, ["Relu"], f"{sys.argv[1]}/augmented.onnx",
                                 CalibrationMethod.Percentile, extra_options=how)
        for batch in batches:  # as for data that do not fit into memory at once
            made.collect_data(Batch(batch))
        T = made.compute_data()["y"].range_value[1]
    return float(T), int(made.collector.histogram_dict["y"][0].sum())


rng = np.random.default_rng(0)
large = rng.uniform(5, 6, 1000).astype(np.float32)
small = rng.uniform(0, 1, 9000).astype(np.float32)
both = np.concatenate((large, small))
same = True
for percentile in (50, 80):
    true = float(np.percentile(both, percentile))
    print(f"percentile {percentile}: {true:.3f} by numpy")
    for name, batches, right in (("small, then large", [small, large], True),
                                 ("one batch", [both], True),
                                 ("large, then small", [large, small], False)):
        T, n = calibrated(batches, percentile)
        print(f"  {name}: {T:.3f}, of {n:,} numbers")
        same &= (abs(T - true) < 0.01 and n == 10_000) if right else (T > 5 and n < 1100)
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
