"""LeNet-5 of bits on MNIST: no paper's row, for papers of binary nets leave LeNet-5 out.

Caffe's LeNet-5 with batch norm; the first and the last layer have weights of 8 bits, the second
convolution and the first linear layer weights and inputs of one bit, by BNN (Courbariaux et al.
2016, arXiv 1602.02830). What a layer of bits hands on is a sign, so that its batch norm is nothing
but a threshold, here the bias of the layer; the last one is folded. The signs alone are 53 kB, with
8 bits a weight of the other layers 58.6 kB.

The second net loses hidden units first: a float net is trained, `filters` removes 60 % of them, and
what is left is trained as bits. Both see images shifted by up to a pixel; 5,000 are held out; no
knob was searched. Files of bits are those of programs: codes of 8 bits go in, sums and signs from
layer to layer. Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..compress.binary.bnn import BNN
from ..compress.finetune import FineTune
from ..compress.prune.filters import Filters
from ..compress.quant.folding import fold_bn, foldable, moved_bias, with_forms
from ..compress.quant.ptq import PTQ
from ..compress.technique import Run
from ..deploy import Program, lower
from ..models.papers import BinaryLeNet5
from ..nn.forms import Binary, Dense
from ..nn.graph import Model
from ..nn.layers import MaxPool2d, Sign
from .files import Files
from .table import Paper

HOW = {"epochs": 15, "optimizer": "adam", "lr": 1e-3, "shift": 1, "schedule": "exponential"}
FLOATS = FineTune(**HOW | {"epochs": 4})
WIDE = ("conv1", "fc2")  # layers of 8 bits
SIGNS = BNN(real={"*": False} | dict.fromkeys(WIDE, True), size="glorot",
            loss="squared-hinge").training(**HOW)
CUT = Filters(sparsity={"*": 0.0, "fc1": 0.6})
LEAST = 1e-6  # of a gain that a threshold is divided by
ERROR, BYTES, CUT_BYTES = 1.2, 62_000, 30_000  # percent, and 1,000 bytes are a kB


def thresholds(model: Model) -> Model:
    """Returns the net whose batch norms are biases, a copy: what it predicts is the same up to
    rounding.

    Of y g + b, in front of a sign, counts y s + b / |g|, s the sign of g, so that weights stay +-H;
    only maxima may lie between. A batch norm that no sign follows is folded, gain and all.
    """
    made = model
    for norm, before in foldable(model).items():
        node = made.node(before)
        gain, bias = made.node(norm).layer.gain_and_bias()
        if _before_sign(made, norm):
            size = np.maximum(np.abs(gain), LEAST)
            gain, bias = np.where(gain < 0, -1.0, 1.0), bias / size
        weight, there = node.layer.forms["weight"], node.layer.forms.get("bias")
        w, b = fold_bn(weight.dense().data, None if there is None else there.dense().data, gain,
                       bias)
        layer = with_forms(node.layer, _of_kind(weight, w), moved_bias(there, b, weight))
        made = made.edit({before: (), norm: (replace(node, layer=layer),)})
    return made


def _before_sign(model: Model, name: str) -> bool:
    # Whether only maxima stand between a node and the one sign that reads it.
    read = [node for node in model.nodes if name in node.inputs]
    if len(read) != 1:
        return False
    (node,) = read
    if isinstance(node.layer, MaxPool2d):
        return _before_sign(model, node.name)
    return isinstance(node.layer, Sign)


def _of_kind(form, w) -> Dense | Binary:
    # w, whose signs are new and sizes are not, in one bit where the form was.
    if not isinstance(form, Binary):
        return Dense(w.astype(np.float32))
    return Binary.of(w, form.alpha.data[:, 0] if form.by_row else form.alpha.data[0, 0])


def in_bits(model: Model, data, rng) -> Program:
    """Returns the program of a net: batch norms are biases, wide layers and the input have 8 bits.

    data : with examples for calibration        rng : which draws them
    """
    return lower(PTQ().apply(thresholds(model), data, Run(rng)), precision="binary")


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns rows: floats, bits, and bits of the net that lost hidden units."""
    files, given = Files(data, out, "binary-lenet5"), data.without_test()
    for seed in seeds:
        init, codes, *streams = np.random.default_rng(seed).spawn(5)

        def made(technique, net, rng):
            return technique.apply(net, given, Run(rng, log, None, n_threads))

        net = BinaryLeNet5(normalize=data.normalize, rng=init)
        floats = made(FLOATS, net, streams[0])
        files.note("floats", floats, seed, floats)
        files.note("bits", in_bits(made(SIGNS, net, streams[1]), given, codes), seed, floats)
        cut = made(CUT, floats, None)
        files.note("cut", in_bits(made(SIGNS, cut, streams[2]), given, codes), seed, floats)
    return table(files)


def table(files: Files) -> list[dict]:
    """Returns the rows of what files say."""
    def met(kind, most):
        return files.rate(kind) <= ERROR and files.size(kind) <= most

    return [files.row("floats", "no row", files.rate("floats") <= ERROR, "floats"),
            files.row("bits, first and last layer 8-bit", f"(ours: {ERROR} %, {BYTES:,} bytes)",
                      met("bits", BYTES), "bits"),
            files.row("the same after 60 % of the hidden units went",
                      f"(ours: {ERROR} %, {CUT_BYTES:,} bytes)", met("cut", CUT_BYTES), "cut")]


PAPER = Paper("binary-lenet5", "LeNet-5 of bits on MNIST, by BNN (Courbariaux et al. 2016)",
              "mnist", "6 minutes a seed", run,
              "no row of the paper is of LeNet-5; bytes are of a .mcz file that a fresh process "
              "decodes, of a program where it is bits, 1,000 of them a kB")
