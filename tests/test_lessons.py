import ast
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from minicomp.teach.notebook import build, cells as notebook
from minicomp.teach.notebook.page import with_formulas
from minicomp.teach.asking.ban import refusing
from minicomp.teach import catalog
from minicomp.teach.grading import grade
from minicomp.teach.live import running
from minicomp.teach.live.calling import one_answer
from minicomp.reference.judges import copied, difference
from minicomp.teach.asking.exercise import Answer, assess, questions

LESSONS = list(catalog.lessons().values())
EXERCISES = [(of, e) for of in LESSONS for e in of.asked("a student")]
MUTANTS = [(e, m) for _, e in EXERCISES for m in e.mutants]
SPELLINGS = [(e, m.slug, fn, i) for e, m in MUTANTS for i, fn in enumerate(m.spellings)]
VARIANTS = [(of.diagnosis, v) for of in LESSONS for v in of.diagnosis.variants]
KEYS = ("open", "another course")
# What a student might write instead of an answer: the library's own function.
CHEATS = {
    "01.relu_backward": (
        "def relu_backward(g, x):\n    from minicomp import Tensor, grad, ops\n"
        "    t = Tensor(x, requires_grad=True)\n    return grad(ops.relu(t), t, cotangent=g).data"
    ),
    "01.matmul_backward": (
        "def matmul_backward(g, a, b):\n    from minicomp import Tensor, grad, ops\n"
        "    s, t = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)\n"
        "    return tuple(r.data for r in grad(ops.matmul(s, t), [s, t], cotangent=g))"
    ),
    "01.conv2d_backward": (
        "def conv2d_backward(g, x, w, stride):\n    from minicomp import conv\n    s = (stride,"
        " stride)\n    return (conv.conv2d_input_grad(g, w, size=x.shape[2:], stride=s),\n         "
        "   conv.conv2d_weight_grad(x, g, kernel=w.shape[2:], stride=s))"
    ),
    "02.linear_cost": (
        "def linear_cost(inputs, outputs, bias):\n    from minicomp.nn import layers\n"
        "    layer = layers.Linear(inputs, outputs, bias)\n"
        "    return sum(f.value.size for f in layer.forms.values()), layer.macs((inputs,))"
    ),
    "02.conv_cost": (
        "def conv_cost(c, o, h, w, k, stride, padding, groups, bias):\n    from minicomp.nn.layers"
        " import Conv2d\n    layer = Conv2d(c, o, k, stride, padding, groups, bias)\n    params ="
        " sum(f.value.size for f in layer.forms.values())\n    return *layer.out_shape((c, h,"
        " w))[1:], params, layer.macs((c, h, w))"
    ),
    "02.model_cost": (
        "def model_cost(shape, layers):\n    from minicomp.models import LeNet5\n"
        "    return LeNet5().macs(), LeNet5().count()"
    ),
    "03.separable_cost": (
        "def separable_cost(m, n, h, w, k, stride):\n"
        "    from minicomp.models.mobilenet import separable\n"
        "    from minicomp.nn import Model, chain\n"
        "    net = Model(chain(*separable('b', m, n, stride)), input_shape=(m, h, w))\n"
        "    return net.count(), sum(net.macs().values()), 1 / n + 1 / k**2"
    ),
    "03.channel_shuffle": (
        "def channel_shuffle(x, groups):\n    from minicomp.nn.layers import ChannelShuffle\n"
        "    layer = ChannelShuffle(groups)\n"
        "    return layer.forward(x[None])[0], layer.permutation(len(x))"
    ),
    "04.magnitude_mask": "from minicomp.compress.scores import magnitude_mask",
    "04.masked_sgd": (
        "def masked_sgd(w, v, mask, grads, lr, momentum, weight_decay):\n    from minicomp import"
        " Tensor\n    from minicomp.optim import SGD\n    p = Tensor(w * mask,"
        " requires_grad=True)\n    sgd = SGD({'w': p}, lr=lr, momentum=momentum,"
        " weight_decay=weight_decay)\n    sgd.state['v']['w'][...] = v\n    path = []\n    for g in"
        " grads:\n        sgd.step({'w': g})\n        p.data *= mask\n       "
        " path.append(p.data.copy())\n    return np.stack(path)"
    ),
    "05.surgery_thresholds": "from minicomp.compress.prune.dns import surgery_thresholds",
    "05.surgery_mask": "from minicomp.compress.prune.dns import surgery_mask",
    "05.surgery_steps": (
        "def surgery_steps(w, mask, target, lr, a, b, steps):\n"
        "    from minicomp.compress.prune.dns import DNS, Surgery\n"
        "    from minicomp.nn import Dense\n"
        "    from minicomp.compress.technique import Run\n    from minicomp.models import MLP\n"
        "    net, path, masks = MLP([w.size, 1]), [], []\n"
        "    net.set_form('fc1.weight', Dense(w.reshape(1, -1)))\n"
        "    hook = Surgery(DNS(), net, Run(np.random.default_rng(0)))\n"
        "    hook.thresholds, form = {'fc1.weight': (a, b)}, net.forms()['fc1.weight']\n"
        "    form.remask(mask.reshape(1, -1))\n"
        "    for _ in range(steps):\n"
        "        hook.operate(net)\n"
        "        form.value.data -= lr * (form.dense().data - target.reshape(1, -1))\n"
        "        path.append(form.value.data.reshape(w.shape).copy())\n"
        "        masks.append(form.mask.reshape(w.shape).copy())\n"
        "    return np.stack(path), np.stack(masks)"
    ),
    "06.global_keep": (
        "def global_keep(gammas, sparsity):\n    from minicomp.compress.scores import"
        " global_masks\n    return tuple(global_masks([np.abs(g) for g in gammas], sparsity))"
    ),
    "06.remove_channels": (
        "def remove_channels(keep, w1, b1, gamma, beta, mean, var, w2):\n"
        "    from minicomp.compress.channels.removal import removed\n"
        "    from minicomp.nn import BatchNorm2d, Conv2d, Dense, Model, chain\n"
        "    o, c, k, _ = w1.shape\n"
        "    net = Model(chain(('a', Conv2d(c, o, k)), ('n', BatchNorm2d(o)),"
        " ('b', Conv2d(o, len(w2), k, bias=False))), input_shape=(c, 2 * k, 2 * k))\n"
        "    given = {'a.weight': w1, 'a.bias': b1, 'n.weight': gamma, 'n.bias': beta,"
        " 'b.weight': w2}\n"
        "    for name, value in given.items():\n"
        "        net.set_form(name, Dense(value.astype(np.float32)))\n"
        "    net.buffers()['n.running_mean'][...] = mean\n"
        "    net.buffers()['n.running_var'][...] = var\n"
        "    net = removed(net, {'a': keep})\n"
        "    w1, b1, gamma, beta, w2 = (net.forms()[name].dense().data for name in given)\n"
        "    left = net.buffers()\n"
        "    return w1, b1, gamma, beta, left['n.running_mean'], left['n.running_var'], w2"
    ),
    "06.flatten_columns": (
        "def flatten_columns(keep, height, width):\n"
        "    from minicomp.compress.channels.removal import removal\n"
        "    from minicomp.nn import Conv2d, Flatten, Linear, Model, chain\n"
        "    n = len(keep)\n"
        "    net = Model(chain(('conv', Conv2d(1, n, 1)), ('flat', Flatten()),"
        " ('fc', Linear(n * height * width, 2))), input_shape=(1, height, width))\n"
        "    return removal(net, {'conv': keep}).keep['flat']"
    ),
    "07.obd_saliency": (
        "def obd_saliency(w, H):\n    from minicomp.compress.prune import obd\n"
        "    return obd.obd_saliency(w, np.diag(H))"
    ),
    "07.obs_step": (
        "def obs_step(w, Hinv):\n    from minicomp.compress.prune import obs\n"
        "    try:\n        q = int(np.argmin(obs.obs_saliency(w, Hinv)))\n"
        "    except RuntimeError:\n        q = int(np.argmin(w * w / np.diag(Hinv)))\n"
        "    moved, rise = obs.obs_step(w, Hinv, q)\n    return q, rise, moved"
    ),
    "07.inverse_hessian": (
        "def inverse_hessian(X, alpha):\n    from minicomp.compress.curvature import hessian\n"
        "    H, n = hessian.hessian(X, alpha), X.shape[1]\n"
        "    for invert in (lambda: hessian.inverse_hessian(X, alpha),\n"
        "                   lambda: hessian.damped_inverse(H, 0)[0],\n"
        "                   lambda: np.linalg.pinv(H), lambda: np.linalg.solve(H, np.eye(n))):\n"
        "        try:\n            return invert()\n        except RuntimeError:\n"
        "            pass\n    return np.linalg.inv(H)"
    ),
    "08.low_rank": (
        "def low_rank(w, t):\n    from minicomp.compress.lowrank import factors\n"
        "    return factors.low_rank(w, t), factors.eckart_young(w, t), t * sum(w.shape)"
    ),
    "08.choose_ranks": (
        "def choose_ranks(spectra, shapes, budget):\n"
        "    from minicomp.compress.lowrank import ranks\n"
        "    return ranks.ranks_under_bytes(spectra, shapes, budget)"
    ),
    "08.flattened_conv": (
        "def flattened_conv(x, a, b, c):\n"
        "    from minicomp.compress.lowrank import flattened as library\n"
        "    y = library.flattened_conv(x, a[None], b[None], c[None])[0]\n"
        "    (C, H, W), (h, w) = x.shape, y.shape\n"
        "    return y, C * H * W + len(b) * h * W + len(c) * h * w"
    ),
    "09.decode": (
        "def decode(D, I, c):\n    from minicomp.nn import Dictionary\n"
        "    (O, K, L, s), (k, C) = I.shape, D.shape\n"
        "    counts = np.full(O * K * L, s)\n"
        "    form = Dictionary(D, counts, I.ravel(), c.ravel(), (O, C, K, L))\n"
        "    return form.dense().data, form.P().reshape(O, K, L, k)"
    ),
    "09.lookup_conv": (
        "def lookup_conv(x, D, I, c):\n    from minicomp.compress.share import lcnn\n"
        "    O, K, L, s = I.shape\n    places, shape = np.full(O * K * L, s), (O, len(x), K, L)\n"
        "    y = lcnn.lookup_conv(x[None], D, places, I.ravel(), c.ravel(), shape)[0]\n"
        "    return y, D.size * x[0].size + c.size * y[0].size"
    ),
    "09.pursuit": (
        "def pursuit(x, D, s):\n    from minicomp.compress.share import lcnn\n"
        "    return lcnn.pursuit(x[None], D, s)[0]"
    ),
    "10.affine_params": (
        "def affine_params(r_min, r_max, bits):\n    from minicomp import grid\n"
        "    scale, zero_point = grid.affine_params(r_min, r_max, bits=bits)\n"
        "    return float(scale), int(zero_point)"
    ),
    "10.quantize": (
        "def quantize(x, scale, zero_point, bits):\n    from minicomp import grid\n"
        "    q = grid.quantize(x, scale, zero_point, bits=bits, grid='unsigned')\n"
        "    return q, grid.dequantize(q, scale, zero_point)"
    ),
    "10.weight_scales": (
        "def weight_scales(w, bits, per_channel):\n"
        "    from minicomp.compress.quant.schemes import Scheme\n"
        "    from minicomp.nn import Dense\n"
        "    scheme = Scheme(bits, per='channel' if per_channel else 'tensor')\n"
        "    form = scheme.form(Dense(w))\n    scale = form.scale.data\n"
        "    error = np.mean((w - form.dense().data) ** 2)\n"
        "    return scale, error, -(-w.size * bits // 8) + 4 * len(scale)"
    ),
    "11.corrected_bias": (
        "def corrected_bias(w, w_hat, b, x):\n"
        "    from minicomp.compress.quant.shifts import weight_shift\n"
        "    return b - weight_shift(w_hat - w, x.mean(axis=0))"
    ),
    "11.kl_threshold": (
        "def kl_threshold(counts, width, levels):\n"
        "    from minicomp.compress.quant import ranges\n"
        "    try:\n        return ranges.kl_threshold(counts, width, levels=levels)\n"
        "    except RuntimeError:\n        kl = ranges.kl_divergences(counts, levels=levels)\n"
        "        return (levels + np.argmin(kl) + 0.5) * width, np.min(kl)"
    ),
    "11.requantize": (
        "def requantize(acc, m, zero_point):\n"
        "    from minicomp.kernels.int8 import requantize as library\n"
        "    rule = library.requantizer([m], zero_point=zero_point, lo=0, hi=255)\n"
        "    codes = library.requantize(acc.reshape(-1, 1), rule)\n"
        "    return int(rule.m0[0]), int(rule.shift[0]), codes.ravel()"
    ),
    "12.fake_quant_backward": (
        "def fake_quant_backward(g, x, scale, zero_point, bits):\n"
        "    from minicomp import Tensor, grad, grid\n    t = Tensor(x, requires_grad=True)\n"
        "    y = grid.fake_quantize(t, np.array(scale), np.array(zero_point), lo=0,\n"
        "                           hi=2**bits - 1)\n"
        "    return grad(y, t, cotangent=g).data"
    ),
    "12.step_gradient": (
        "def step_gradient(g, v, scale, bits):\n    from minicomp import Tensor, grad, grid\n"
        "    s, hi = Tensor(np.array(scale), requires_grad=True), 2 ** (bits - 1) - 1\n"
        "    y = grid.lsq_quantize(v, s, lo=-hi, hi=hi, gain=(v.size * hi) ** -0.5)\n"
        "    return float(grad(y, s, cotangent=g).data)"
    ),
    "12.fold_batch_norm": (
        "def fold_batch_norm(w, gamma, beta, mean, var, eps):\n"
        "    from minicomp.compress.quant import folding\n    gain = gamma / np.sqrt(var + eps)\n"
        "    return folding.fold_bn(w, None, gain, beta - gain * mean)"
    ),
    "13.nearest_fixed": "from minicomp.compress.quant.fixed_point import nearest_fixed",
    "13.stochastic_fixed": (
        "def stochastic_fixed(x, u, il, fl):\n"
        "    from minicomp.compress.quant import fixed_point as library\n"
        "    from minicomp.grid import round_fixed\n"
        "    try:\n        return library.stochastic_fixed(x, u, il, fl)\n"
        "    except RuntimeError:\n"
        "        return round_fixed(x, il=il, fl=fl, rounding='stochastic', key=1)"
    ),
    "13.fixed_dot": "from minicomp.compress.quant.fixed_point import fixed_dot",
    "14.centroid_step": (
        "def centroid_step(c, index, g, lr):\n"
        "    from minicomp.compress.share.kmeans import centroid_gradient\n"
        "    found = centroid_gradient(g, index, len(c))\n"
        "    return found, np.append(c[0], (c - lr * found)[1:])"
    ),
    "14.product_bytes": (
        "def product_bytes(O, I, d, k, t, b):\n    from minicomp.compress.share import blocks\n"
        "    how = dict(block=d, k=k, stages=t, float_bits=b)\n"
        "    return -(-blocks.product_bits(O, I, **how) // 8), blocks.product_break_even(I, **how)"
    ),
    "14.decode_bits": (
        "def decode_bits(data, p):\n    from minicomp.codec import arithmetic\n"
        "    from minicomp.kernels.coding.range_coder import Decoder\n"
        "    try:\n        return arithmetic.decode_bits(data, p)\n"
        "    except RuntimeError:\n        coder = Decoder(data.tobytes())\n"
        "    return np.array([coder.bit(each) for each in p.tolist()])"
    ),
    "15.bucket_backward": (
        "def bucket_backward(g, x, b, bucket, sign):\n"
        "    from minicomp.kernels.codebook.buckets import Places, add\n"
        "    return add(g.T @ x, Places(bucket, sign < 0, len(b))), g @ (sign * b[bucket])"
    ),
    "15.equal_cells": (
        "def equal_cells(w, k):\n    from minicomp.compress.quant import balanced\n"
        "    try:\n        codes = balanced.balanced_codes(w, k)\n"
        "    except RuntimeError:\n"
        "        codes = np.searchsorted(np.quantile(w, np.arange(1, k) / k), w, side='right')\n"
        "    return codes, balanced.cell_means(w, codes, k), balanced.even_scale(w, codes, k)"
    ),
    "16.binary_step": (
        "def binary_step(a, w, g, lr):\n    from minicomp import Tensor, grad, ops\n"
        "    from minicomp.grid import hard_sign\n"
        "    s, t = Tensor(a, requires_grad=True), Tensor(w, requires_grad=True)\n"
        "    y = ops.matmul(hard_sign(s), ops.transpose(hard_sign(t)))\n"
        "    to_a, to_w = grad(y, [s, t], cotangent=g)\n"
        "    return y.data, to_a.data, np.clip(w - lr * to_w.data, -1, 1)"
    ),
    "16.packed_dot": (
        "def packed_dot(x, w):\n    from minicomp.kernels.bits import pack, xnor\n"
        "    words, kept = (pack.pack_signs(v) for v in (x, np.ones(len(x))))\n"
        "    return words, int(xnor.xnor_dot(words, w & kept, len(x)))"
    ),
    "16.sign_threshold": (
        "def sign_threshold(gain, bias, K):\n    from minicomp.deploy import binary\n"
        "    ends = np.full(len(gain), K)\n"
        "    found, _ = binary.thresholds([(gain, bias)], -ends, ends)\n"
        "    return found.at, found.below"
    ),
    "17.relative_index": (
        "def relative_index(positions, p):\n    from minicomp.codec import index\n"
        "    return index.relative_index(positions, p)"
    ),
    "17.huffman_lengths": "from minicomp.codec.huffman import huffman_lengths",
    "17.canonical_codes": "from minicomp.codec.huffman import canonical_codes",
    "18.soft_targets": "from minicomp.compress.distill.soft import soft_targets",
    "18.kd_gradient": (
        "def kd_gradient(z, v, y, T, alpha):\n"
        "    from minicomp.compress.distill import soft\n"
        "    try:\n        return soft.distillation(z, v, y, T, alpha)[1]\n"
        "    except RuntimeError:\n        p = soft.soft_targets(v, T)\n"
        "    return alpha * T * T * soft.soft_gradient(z, p, T) / len(z)"
    ),
    "18.map_targets": (
        "def map_targets(a, b):\n"
        "    from minicomp.compress.distill.attention import attention_map\n"
        "    from minicomp.compress.distill.fsp import fsp_matrix\n"
        "    return attention_map(b), fsp_matrix(a, b)"
    ),
    "19.evolution": (
        "def evolution(errors, near, first, drawn, picks):\n"
        "    from minicomp.search import evolution as library\n"
        "    queue, tried = list(first), list(first)\n"
        "    for sample, pick in zip(drawn, picks):\n"
        "        parent = library.parent_of([errors[i] for i in queue], list(sample))\n"
        "        queue.append(near[queue[parent]][pick])\n        tried.append(queue[-1])\n"
        "        del queue[library.taken_out([errors[i] for i in queue])]\n"
        "    return np.array(tried), min(tried, key=lambda i: errors[i])"
    ),
    "20.pareto_front": (
        "def pareto_front(errors, costs):\n    from minicomp import comparison\n"
        "    return np.array(comparison.front(errors, costs))"
    ),
    "20.two_orders": (
        "def two_orders(w, sparsity, bits):\n    from minicomp.compress.scores import"
        " magnitude_mask\n    def rounded(w):\n"
        "        scale = np.abs(w).max() / (2 ** (bits - 1) - 1)\n"
        "        return scale * np.rint(w / scale)\n"
        "    kept = rounded(w)\n    return (rounded(w * magnitude_mask(w, sparsity)),\n"
        "            kept * magnitude_mask(kept, sparsity))"
    ),
}


def by_id(pairs):
    return pytest.mark.parametrize("of, e", pairs, ids=[e.id for _, e in pairs])


def verdict(e, fn, key="open"):
    asked = questions(e, key)
    return assess(e, asked, [Answer(*one_answer(fn, copied(c))) for a in asked for c in a.calls])


def solution(of, e):
    # The solution in the lesson's source, with the lesson's own imports and earlier exercises.
    space = {}
    for cell in build.cells_of_draft(of):
        if cell.tagged("imports") or cell.tagged("exercise"):
            exec(compile(cell.source, cell.id, "exec"), space)
    return space[e.name]


# --------------------------------------------------------------------------------- grading grades


@by_id([(of, e) for of in LESSONS for e in of.asked()])  # variants: of an empty name
def test_the_solution_scores_full_under_every_key(of, e):
    for key in KEYS:
        v = verdict(e, solution(of, e), key)
        assert v.points == e.max_points, repr(v)


def of_variant(diagnosis, variant):
    # The exercise of a student to whom this variant was drawn.
    names = (f"student {i}" for i in range(200))
    return next(diagnosis.exercise(s) for s in names if diagnosis.mutant(s) is variant)


@pytest.mark.parametrize(
    "diagnosis, variant", VARIANTS, ids=[f"{d.id}/{v.slug}" for d, v in VARIANTS]
)
def test_each_broken_variant_is_exposed_by_an_input_that_shows_it_alone(diagnosis, variant):
    e = of_variant(diagnosis, variant)
    for other in diagnosis.variants:
        told = verdict(e, lambda: diagnosis.shown_by[other.slug])
        assert told.points == (e.max_points if other is variant else 0), other.slug
        assert other is variant or told.message.slug == "no-difference"


# What the sources' solutions were when any input counted: each showed every variant of its lesson.
EVERYTHING = {
    "01": (np.array([-2.0, 3.0]), np.array([1.0, 0.0])),
    "02": (2, 2, 6, 7, 3, 2, 2, 2, True),
    "03": (2, 3, 4, 6, 3, 2),
    "04": (np.array([-5.0, 1.0, 1.0, 1.0, 3.0]), 0.35),
    "05": (np.array([-2.0, 1.5, 1.5, 1.0]), np.array([False, True, False, True]), 1.0, 2.0),
    "06": ((np.array([-5.0, 1.0, 1.0]), np.array([1.0, 9.0])), 0.35),
    "07": (
        np.array([1.0, 2.0, 1.25]),
        np.array([[9.0, -8.0, 0.0], [-8.0, 9.0, 0.0], [0.0, 0.0, 4.25]]) / 17,
    ),
    "08": ((np.array([3.0, 2.0, 1.0]), np.array([6.0, 5.0, 2.0])), ((3, 4), (3, 7)), 128),
    "09": (np.array([-3.0, -2.0, 1.0]), np.array([[1, 0, 0], [3, 4, 0], [4, 3, 1.0]]), 2),
    "10": (np.array([0.5, 0.75, 9.0]), 1.0, 1, 2),
    "11": (np.array([1, 1000, -1]), 0.5, 3),
    "12": (np.array([3.0, 3.0, 3.0]), np.array([9.0, 1.25, -1.0]), 1.0, 2, 2),
    "13": (np.array([0.0625, 0.09375, -2.0, 5.0]), 2, 3),
    "14": (10, 3, 2, 100, 20, 16),
    "15": (
        np.ones((1, 1)), np.ones((1, 2)), np.ones(2), np.zeros((1, 2), int), -np.ones((1, 2))
    ),
    "16": (np.array([0.0, -1.0, -1.0]), np.array([0b1110], np.uint64)),
    "17": (np.array([3, 8, 30]), 2),
    "18": (np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[3.0, 0.0], [0.0, 1.0]]),
           np.array([0, 1]), 4.0, 0.9),
    "19": (np.array([0, 0]), np.array([[True, True, True], [True, False, False]])),
    "20": (np.array([0.0, 0, 3, 2, 9, 9]), np.array([1.0, 1, 2, 3, 9, 8])),
}


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_one_input_for_all_students_earns_nothing(of):
    for variant in of.diagnosis.variants:
        e = of_variant(of.diagnosis, variant)
        told = verdict(e, lambda: EVERYTHING[of.number])
        assert told.points == 0 and told.message.slug in ("shows-another", "no-difference")


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_the_text_says_which_faults_there_may_be_and_what_the_input_must_show(of):
    text = " ".join("\n".join(c.source for c in build.cells_of(of, solutions=False)).split())
    count = ["three", "four", "five"][len(of.diagnosis.slugs) - 3]
    assert f"has one of {count} faults" in text
    assert "Find an input that shows this fault alone" in text
    # On what the notebook shows of it, every variant is right.
    (cell,) = [c for c in build.cells_of_draft(of) if "lesson.broken(" in c.source]
    for variant in of.diagnosis.variants:
        results = []
        for fn in (variant.fn, of.diagnosis.of.reference):
            lesson = type("Lesson", (), {"broken": lambda self, id, fn=fn: fn})()
            *lines, last = cell.source.splitlines()
            space = {"np": np, "lesson": lesson}
            exec("\n".join([*lines, f"shown = ({last},)"]), space)
            results.append(space["shown"])
        assert difference(results[1], results[0], rtol=1e-9) is None, variant.slug


@by_id(EXERCISES)
def test_a_stub_scores_0(of, e):
    (cell,) = [c for c in build.cells_of(of, solutions=False) if f"exercise:{e.id}" in c.tags]
    space = {}
    exec(compile(cell.source, e.id, "exec"), space)
    v = verdict(e, space[e.name])
    assert v.points == 0 and v.message.slug == "not-written"


@pytest.mark.parametrize(
    "e, slug, fn, i", SPELLINGS, ids=[f"{e.id}/{slug}-{i}" for e, slug, _, i in SPELLINGS]
)
def test_a_wrong_answer_in_every_spelling_fails_with_its_own_message(e, slug, fn, i):
    for key in KEYS:
        v = verdict(e, fn, key)
        assert v.message_id == f"{e.id}/{slug}" and v.points < e.max_points, repr(v)
        # What is shown is an input that everybody may see, and a counterexample on one short line.
        assert not v.detail_hidden
        lines = v.message.detail.splitlines()
        assert max(map(len, lines), default=0) <= (260 if e.id == "06.remove_channels" else 200)
        assert "(none)" not in v.message.detail and len(lines) <= 6


@by_id([(of, e) for of, e in EXERCISES if e.told])
def test_an_exercise_is_whole(of, e):
    # At least three wrong answers, three hints that differ and do not solve, points over parts.
    assert 3 <= len(e.mutants) and len({m.slug for m in e.mutants}) == len(e.mutants)
    assert len(set(e.hints)) == 3 and not any("def " in h or "lambda" in h for h in e.hints)
    assert {"tiny", "property", "golden"} <= {p.name for p in e.parts} and e.max_points >= 4
    assert any(p.hidden for p in e.parts) and not any(
        p.hidden for p in e.parts if p.name in ("tiny", "golden")
    )
    tiny = next(p for p in e.parts if p.name == "tiny")
    assert sum(1 for a in questions(e) if a.part is tiny) <= 4
    assert sum(1 for a in questions(e) if a.part.name == "property") >= 16
    assert all(m.says.endswith((".", "!")) for m in e.mutants)


@pytest.mark.slow
@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_a_whole_notebook_of_library_calls_scores_0(of, tmp_path):
    cells = [c for c in json.loads(build.notebook_text(of))["cells"]]
    told = {id: text for id, text in CHEATS.items() if id.startswith(of.number)}
    for cell in cells:
        for tag in cell["metadata"].get("tags", []):
            if tag.partition(":")[2] in told and tag.startswith("exercise:"):
                cell["source"] = told[tag.partition(":")[2]]
    path = tmp_path / "cheat.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {"minicomp": {"lesson": of.number}}}))
    row = grade.grade(path, of.number)
    assert row["points"] == 0
    assert {
        id for id, done in row["exercises"].items() if done["message_id"].endswith("/library")
    } == set(told)


def test_every_exercise_that_the_library_solves_has_a_cheat():
    assert {e.id for _, e in EXERCISES if e.banned} == set(CHEATS)


@pytest.mark.slow
@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_the_solved_notebook_scores_full_and_the_blank_one_0(of, tmp_path):
    solved = tmp_path / "solved.ipynb"
    solved.write_text(build.notebook_text(of, solutions=True), encoding="utf-8")
    guesses = sum(p.points for p in of.predictions)
    row = grade.grade(solved, of.number)
    of_file = of.capstone.points if of.capstone else 0
    assert row["points"] == of.max_points - guesses - of_file and not row["problems"], row
    assert grade.grade(catalog.notebook_path(of), of.number)["points"] == 0


# ---------------------------------------------------------------------------- sources and notebooks


def test_no_notebook_is_out_of_step_with_its_source():
    assert build.stale() == []


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_a_lesson_keeps_to_its_size(of):
    size = build.sizes(of)
    assert size["words"] <= build.MAX_WORDS and size["code_lines"] <= build.MAX_CODE_LINES
    assert size["median_cell"] <= build.MAX_MEDIAN_CELL
    assert 2 <= len(of.exercises) + 1 <= 4 and of.exercises[0].minutes <= 8
    assert 45 <= sum(map(int, re.findall(r"\*\*Time:\*\* (\d+) minutes", first(of)))) <= 75


def first(of):
    return build.cells_of(of, solutions=False)[0].source


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_every_formula_can_be_drawn(of):
    drawn = [with_formulas(cell.source) for cell in build.cells_of(of, solutions=True)
             if cell.kind == "markdown"]
    assert any('class="math"' in text for text in drawn)


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_a_lesson_has_the_spine(of):
    cells = build.cells_of(of, solutions=False)
    text = "\n".join(c.source for c in cells if c.kind == "markdown")
    assert text.startswith(f"# Lesson {int(of.number)}: {of.title}") and "**Needs:**" in first(of)
    for head in (
        "## Warm-up",
        "## Symbols",
        "## Your guess",
        "beside ours",
        "## Where it breaks",
        "## The compiled twin",
        "## Reflection",
        "## Next",
    ):
        assert head in text, head
    assert text.count("?", text.index("## Warm-up"), text.index("<details>")) >= 3
    tags = [t for c in cells for t in c.tags]
    for tag in ("imports", "mode", "memorable"):
        assert tags.count(tag) == 1, tag
    for id in of.ids():
        assert tags.count(f"exercise:{id}") == tags.count(f"check:{id}") == 1, id
        assert tags.index(f"exercise:{id}") < tags.index(f"check:{id}")
    assert [t for t in tags if t.startswith("predict:")] == [
        f"predict:{p.id}" for p in of.predictions
    ]
    assert [t for t in tags if t.startswith("reflect:")] == [
        f"reflect:{r.id}" for r in of.reflections
    ]
    for e in of.exercises:
        assert f"({e.minutes} minutes)" in text, e.id
    assert not [
        line for c in cells if c.kind == "code" for line in c.source.splitlines() if len(line) > 100
    ]
    assert "TODO" not in text and of.predictions and of.reflections and of.diagnosis


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_a_student_notebook_gives_nothing_away(of):
    book = json.loads(catalog.notebook_path(of).read_text(encoding="utf-8"))
    text = json.dumps(book)
    assert "SOLUTION" not in text and all(not c.get("outputs") for c in book["cells"])
    for cell in book["cells"]:
        if any(t.startswith("exercise:") for t in cell["metadata"].get("tags", [])):
            assert (
                "".join(cell["source"])
                .rstrip()
                .endswith('raise NotImplementedError("your code here")')
            )
    assert len({c["id"] for c in book["cells"]}) == len(book["cells"])
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(book)


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_a_lesson_never_needs_torch_or_the_network_and_defines_nothing_the_library_has(of):
    cells = [c for c in build.cells_of_draft(of) if c.kind == "code" and not c.tagged("colab")]
    code = "\n".join(c.source for c in cells)
    names = {
        a.name.split(".")[0]
        for n in ast.walk(ast.parse(code))
        if isinstance(n, ast.Import)
        for a in n.names
    }
    names |= {
        n.module.split(".")[0] for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ImportFrom)
    }
    assert names <= {"numpy", "minicomp", "scipy", "heapq", "dataclasses"}
    assert not re.search(r"random\.seed|np\.random\.(?!default_rng)|download", code)


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_the_first_code_cell_installs_on_colab_and_does_nothing_elsewhere(of, monkeypatch):
    cell = next(c for c in build.cells_of(of, solutions=False) if c.kind == "code")
    assert cell.tagged("colab")
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda *args, **_: ran.append(args[0]))
    exec(cell.source, {})
    assert ran == []
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    exec(cell.source, {})
    (command,) = ran
    assert command[1:4] == ["-m", "pip", "install"] and command[-1].startswith("minicomp")


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_expected_numbers_are_recorded_of_five_runs_on_both_data_sets(of):
    data = catalog.expected(of)["data"]
    assert set(data) == {"mnist", "glyphs"}
    for name, kept in data.items():
        assert set(kept["results"]) == {n.key for n in of.numbers}, name
        assert {row["runs"] for row in kept["results"].values()} == {len(kept["seconds"])}, name
        assert len(kept["seconds"]) >= 5, name
        assert max(kept["seconds"]) <= 300, name
        for row in kept["results"].values():
            low, mean, high = (
                row[k] if isinstance(row[k], list) else [row[k]] for k in ("low", "mean", "high")
            )
            assert all(
                a <= b <= c or abs(a - c) < 1e-4 * abs(b) for a, b, c in zip(low, mean, high)
            )


def test_the_first_lesson_of_a_number_is_found_by_number_and_text():
    assert catalog.lesson(4) is catalog.lesson("04") is catalog.lesson(" 4 ")
    assert [of.number for of in LESSONS] == sorted(of.number for of in LESSONS)


# ------------------------------------------------------------------------------------------ running


@pytest.mark.slow
@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_a_lesson_runs_in_smoke_mode(of):  # on glyphs the blank one below
    ran = build.run(of, mode="smoke", data="auto", timeout=120)
    assert set(ran["results"]) == {n.key for n in of.numbers} and ran["seconds"] < 40
    for cell in build.cells_of_draft(of):
        if not any(cell.tagged(t) for t in running.SKIPPED) and cell.kind == "code":
            assert ran["cells"][cell.id] < 2, f"{cell.id} is slow and not tagged so"


@pytest.mark.slow
@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_a_blank_lesson_runs_through_in_smoke_mode(of, monkeypatch):
    # A student runs all cells before writing anything: only stubs may complain, in their checks.
    monkeypatch.setattr(build, "cells_of_draft", lambda of: build.cells_of(of, solutions=False))
    ran = build.run(of, mode="smoke", data="glyphs", timeout=120)
    assert set(ran["results"]) == {n.key for n in of.numbers}


@pytest.mark.slow
def test_pages_are_built_and_show_every_plot(tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("nbconvert")
    from minicomp.teach.notebook.page import site

    for solutions in (True, False):
        index = site(LESSONS[:1], tmp_path, mode="smoke", solutions=solutions)
        page = (tmp_path / f"{LESSONS[0].stem}.html").read_text(encoding="utf-8")
        assert ("return g * (x" in re.sub(r"<[^>]+>", "", page)) == solutions
        assert (
            "SOLUTION" not in page
            and "<script" not in page
            and "http" not in re.sub(r'xmlns\S*|"http\S*w3\S*', "", page)
        )
        assert page.count("<img") > 3 and 'alt="Gradient error against step h' in page
        assert (
            LESSONS[0].title in index.read_text(encoding="utf-8")
            and (tmp_path / "01.png").stat().st_size > 5000
        )


def test_sources_are_read_by_jupytext_alike():
    jupytext = pytest.importorskip("jupytext")
    for of in LESSONS:
        text = build.source_of(of)
        theirs = [c for c in jupytext.reads(text, fmt="py:percent").cells if c.cell_type != "raw"]
        assert [(c.cell_type, c.source) for c in theirs] == [
            (c.kind, c.source) for c in notebook.read_source(text)
        ]


def test_the_teachers_page_names_every_misconception_and_all_points():
    text = (build.sources().parent / "INSTRUCTOR.md").read_text(encoding="utf-8")
    head, *sections = re.split(r"^## Lesson ", text, flags=re.M)
    assert "with all solutions, are public" in head.split("\n\n")[1]
    by_number = {int(s.split(":")[0]): s for s in sections}
    for of in LESSONS:
        section = by_number[int(of.number)]
        assert f"({of.max_points} by machine)" in section
        assert f"by hand {sum(r.max_points for r in of.reflections)}" in section
        for e in of.exercises:
            (row,) = [line for line in section.splitlines() if line.startswith(f"| `{e.id}`")]
            assert re.findall(r"`([a-z-]+)`", row.split("|")[2]) == [m.slug for m in e.mutants]
    syllabus = (build.sources().parent / "SYLLABUS.md").read_text(encoding="utf-8")
    by_number = {of.number: of for of in LESSONS}
    rows = [line.split("|")[1:-1] for line in syllabus.splitlines() if re.match(r"\| \d", line)]
    rows = [[cell.strip() for cell in row] for row in rows if len(row) == 4]
    assert {f"{int(row[1].split()[0]):02d}" for row in rows} >= set(by_number)
    for _, lesson, _, points in rows:
        of = by_number.get(f"{int(lesson.split()[0]):02d}")
        assert points == (f"{of.max_points} + 3" if of else "no notebook yet"), lesson


def test_no_command_asks_an_index_for_minicomp():
    # It is on none: commands are those of a checkout or a wheel.
    root = build.sources().parents[1]
    paths = [*root.glob("*.md"), *root.glob("lessons/**/*"), *(root / "minicomp").rglob("*.py")]
    for path in (p for p in paths if p.suffix in (".md", ".py", ".ipynb", ".toml")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install (-\S+ )*['\"]?minicomp\b(?!-)", text), path


# ---------------------------------------------------------------------------------------- the wheel


@pytest.mark.slow
def test_the_wheel_carries_notebooks_words_and_numbers_and_no_source_or_solution(tmp_path):
    root = build.sources().parents[1]
    if not (root / "setup.py").is_file():
        pytest.skip("an installation without its checkout")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path],
        cwd=root,
        check=True,
        capture_output=True,
    )
    packed = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    files = ("{0.stem}.ipynb", "expected/{0.number}.json", "words/{0.number}.toml")
    wanted = {f"minicomp/lessons/{file.format(of)}" for of in LESSONS for file in files}
    assert {p for p in packed if "lessons/" in p} == wanted
    assert "minicomp/teach/checks/lesson04.py" in packed
    for name in packed:
        if name.endswith((".py", ".ipynb", ".json", ".toml")):
            text = (tmp_path / name).read_text(encoding="utf-8")
            assert "\n    ### BEGIN SOLUTION" not in text, name
    # What is installed finds its words.
    code = "from minicomp.teach import catalog as c; print(c.folder(), c.lesson(4).title)"
    run = subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", code], cwd=tmp_path,
                         env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True,
                         capture_output=True, text=True)
    assert run.stdout.strip() == f"{tmp_path}/minicomp/lessons {catalog.lesson(4).title}"


@pytest.mark.parametrize("exercise", [e for _, e in EXERCISES if e.banned], ids=lambda e: e.id)
def test_what_an_exercise_bans_is_there(exercise):
    with refusing(exercise.banned):
        pass
