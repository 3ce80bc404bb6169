#!/usr/bin/env bash
# MAC counters of PyTorch nets: a convolution that counts nothing, another that counts four times.
#
# Guess: without bias and normalisation, where conventions differ, all counters give one number for a
# single convolution or linear layer, multiplications of weights by inputs.
# Seen, torch 2.13.0, thop 0.1.1.post2209072238, torchinfo 1.8.0, fvcore 0.1.5.post20221221, ptflops
# 0.7.5, torchprofile 0.1.0: they agree on plain, grouped, dilated convolutions. But
# - Conv2d(padding="same") counts 0 in fvcore and torchprofile (its operator has another name);
# - ConvTranspose2d of stride 2 counts 4 times too much in thop, torchinfo and torchprofile (kernel
#   times positions of the output, of which each meets a quarter of the kernel);
# - Linear over (N, T, C) leaves T out in torchinfo, N out in ptflops (which says "per example").
# torch's own counter (two operations a MAC) is right on all of these.
# Follows: a compression ratio in MACs names its counter; a count is checked on each kind of layer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet torch==2.13.0 thop==0.1.1.post2209072238 torchinfo==1.8.0 \
  fvcore==0.1.5.post20221221 ptflops==0.7.5 torchprofile==0.1.0
OMP_NUM_THREADS=1 "$folder/bin/python" - <<'PY'
import contextlib
import io
import logging
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
import thop
import torch
import torchinfo
import torchprofile
from fvcore.nn import FlopCountAnalysis
from ptflops import get_model_complexity_info
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def torch_own(net, x):
    with FlopCounterMode(display=False) as counter:
        net(x)
    return counter.get_total_flops() / 2


COUNTERS = {
    "torch": torch_own,
    "thop": lambda net, x: thop.profile(net, (x,), verbose=False)[0],
    "torchinfo": lambda net, x: torchinfo.summary(net, input_data=x, verbose=0).total_mult_adds,
    "fvcore": lambda net, x: FlopCountAnalysis(net, x).total(),
    "ptflops": lambda net, x: get_model_complexity_info(
        net, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False)[0],
    "torchprofile": lambda net, x: torchprofile.profile_macs(net, x),
}
LAYERS = {  # layer, input, multiply-accumulates counted by hand
    "Conv2d, padding 1": (nn.Conv2d(3, 8, 3, padding=1, bias=False), (1, 3, 8, 8), 8 * 27 * 64),
    "Conv2d, groups 2": (nn.Conv2d(8, 8, 3, groups=2, bias=False), (1, 8, 8, 8), 8 * 36 * 36),
    'Conv2d, padding "same"': (
        nn.Conv2d(3, 8, 3, padding="same", bias=False), (1, 3, 8, 8), 8 * 27 * 64),
    "ConvTranspose2d, stride 2": (
        nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False), (1, 8, 8, 8), 64 * 8 * 4 * 4),
    "Linear over (2, 7, 10)": (nn.Linear(10, 20, bias=False), (2, 7, 10), 14 * 200),
}
print(f"torch {torch.__version__}; counted / counted by hand")
print(f"{'':27}" + "".join(f"{name:>13}" for name in COUNTERS))
found = {}
for layer, (net, shape, macs) in LAYERS.items():
    for name, count in COUNTERS.items():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found[layer, name] = round(float(count(net, torch.zeros(shape))) / macs, 3)
    print(f"{layer:27}" + "".join(f"{found[layer, name]:>13}" for name in COUNTERS))
same = {key: ratio for key, ratio in found.items() if ratio != 1.0} == {
    ('Conv2d, padding "same"', "fvcore"): 0.0,
    ('Conv2d, padding "same"', "torchprofile"): 0.0,
    ("ConvTranspose2d, stride 2", "thop"): 4.0,
    ("ConvTranspose2d, stride 2", "torchinfo"): 4.0,
    ("ConvTranspose2d, stride 2", "torchprofile"): 4.0,
    ("Linear over (2, 7, 10)", "torchinfo"): 0.143,
    ("Linear over (2, 7, 10)", "ptflops"): 0.5,
}
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
