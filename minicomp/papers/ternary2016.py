"""Ternary LeNet-5 on MNIST: TWN (Li, Zhang & Liu 2016, arXiv 1605.04711) and TTQ (Zhu, Han, Mao &
Dally 2017, arXiv 1612.01064).

TWN's table has 99.35 % for its LeNet-5 of 32 and 64 maps, 0.65 % wrong, 0.59 % in floats; that row
is quoted from memory. TTQ has no row on MNIST. Ours is Caffe's LeNet-5, 431,080 parameters, all
four layers ternary, which a file needs log2 3 = 1.58 bits a weight for, 85 kB, and less where one
code is more frequent than the others.

A float net is trained, each technique goes on with it. The float weights decay more than usual: in
a few epochs most weights of the first linear layer do not move from where they were drawn, evenly
on an interval, and a third of an interval is what a code gets; decayed, more of them are zeros.
`pruned` loses three quarters of its weights first, by magnitude, most of them in the first linear
layer, and trains what is left before TTQ. All see images shifted by up to a pixel. Decay, epochs
and what is pruned were chosen on the 5,000 validation images. Errors are of the .mcz file, counted
by a fresh process.
"""

from __future__ import annotations

from ..compress.binary.ttq import TTQ
from ..compress.binary.twn import TWN
from ..compress.finetune import FineTune
from ..compress.prune.magnitude import Magnitude
from ..compress.technique import Pipeline
from ..models import for_data
from .files import Files
from .table import Paper

FLOATS = FineTune(epochs=10, lr=0.02, weight_decay=2e-3, shift=1)
HOW = {"epochs": 3, "lr": 0.01, "shift": 1}
SPARSITY = {"conv1": 0.0, "conv2": 0.3, "fc1": 0.78, "fc2": 0.5}
PRUNED = Pipeline([Magnitude(sparsity=SPARSITY), FineTune(epochs=1, lr=0.01, shift=1),
                   TTQ().training(**HOW | {"epochs": 6})])
TECHNIQUES = {"twn": TWN().training(**HOW | {"weight_decay": 5e-4}),
              "ttq": TTQ().training(**HOW), "pruned": PRUNED}
ERROR, BYTES, PRUNED_BYTES = 0.9, 85_000, 60_000  # percent, and 1,000 bytes are a kB


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns rows: floats, TWN, TTQ, and TTQ of a pruned net."""
    files = Files(data, out, "ternary")
    files.note_from_floats(lambda rng: for_data("lenet5", data, rng=rng), FLOATS,
                           TECHNIQUES, seeds=seeds, log=log, n_threads=n_threads)
    return table(files)


def table(files: Files) -> list[dict]:
    """Returns the rows of what files say."""
    def row(kind, title, paper, most):
        met = files.rate(kind) <= ERROR and files.size(kind) <= most
        return files.row(title, paper, met, kind)

    asked = f"(ours: {ERROR} %, {BYTES:,} bytes)"
    return [files.row("floats", "0.59 % (of its LeNet-5)", files.rate("floats") <= ERROR, "floats"),
            row("twn", "TWN", f"0.65 % (of its LeNet-5) {asked}", BYTES),
            row("ttq", "TTQ", asked, BYTES),
            row("pruned", "pruned to a quarter, then TTQ",
                f"(ours: {ERROR} %, {PRUNED_BYTES:,} bytes)", PRUNED_BYTES)]


PAPER = Paper("ternary2016", "Ternary LeNet-5 on MNIST (Li et al. 2016; Zhu et al. 2017)", "mnist",
              "5 minutes a seed", run,
              "bytes are of a .mcz file that a fresh process decodes, 1,000 of them a kB")
