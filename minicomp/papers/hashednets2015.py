"""HashedNets' MNIST rows of 3 layers (Chen et al. 2015, arXiv 1504.04788, table 1): 784-1000-10 at
1/8 and 1/64 of its numbers, beside an equal-size net, low rank and random edge removal.

Every net stores as many numbers at most as the fraction of the whole one's 795,010 says, biases
charged: of the hashed ones buckets and biases, of the net with few hidden units (NN) all it has, of
low rank (LRD) both factors of both layers, of random edge removal (RER) the weights that are left
and the biases; where they are comes of a seed, and is not counted. Bytes are of a .mcz file, which
of RER holds the places too.

A declared small variant: tens of epochs for a thousand, Adam, batches of 100, no dropout, 5,000
images held out. For each row a learning rate of RATES, for the hashed net also how its numbers are
dealt to the two layers, SHARES, for low rank the pair of ranks, RANKS, are those of fewest errors
on the held-out images after PROBE epochs. Low rank trains both factors; of the paper's one is drawn
and stays.
Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from ..compress.finetune import FineTune
from ..compress.share.hashednets import HashedNets
from ..compress.technique import Run, weights
from ..models.arguments import chained
from ..nn.graph import Model
from ..nn.init import he_normal, initialise
from ..nn.layers import Flatten, Linear, ReLU
from ..train import evaluate
from .files import Files
from .table import Paper

INPUTS, HIDDEN, OUTPUTS = 784, 1000, 10
WHOLE = (INPUTS + 1) * HIDDEN + (HIDDEN + 1) * OUTPUTS
BIASES = HIDDEN + OUTPUTS
HOW = {"epochs": 30, "optimizer": "adam", "batch_size": 100}
PROBE = 2
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SHARES = (1.0, 4.0)  # numbers a weight of the last layer, of those of the mean
RANKS = {8: ((49, 10), (51, 6)), 64: ((5, 2), (4, 4), (3, 6))}  # of both layers; 10 is whole
FACTORS = (8, 64)
PUBLISHED = {8: {"hash": 1.45, "nn": 1.69, "lrd": 1.89, "rer": 2.19},
             64: {"hash": 2.79, "nn": 6.28, "lrd": 28.99, "rer": 15.03}}
TITLES = {"hash": "HashedNets", "nn": "equal-size net", "lrd": "low rank", "rer": "random edges"}


def numbers(factor: int) -> int:
    """Returns how many numbers a net of 1 / factor stores at most, biases not counted."""
    return WHOLE // factor - BIASES


def mlp(normalize, *sizes: int, rng) -> Model:
    """Returns a net of linear layers with ReLU between, He normal, biases 0; x (N, 1, 28, 28)."""
    named = [("flatten", Flatten())]
    for i, (a, b) in enumerate(zip(sizes, sizes[1:]), start=1):
        named += [(f"fc{i}", Linear(a, b)), (f"relu{i}", ReLU())]
    model = Model(chained(normalize, *named[:-1]), input_shape=(1, 28, 28))
    return initialise(model, rng=rng, draw=he_normal)


def equal_size(normalize, factor: int, *, rng) -> Model:
    """Returns the net of as many hidden units as the numbers allow."""
    hidden = (WHOLE // factor - OUTPUTS) // (INPUTS + 1 + OUTPUTS)
    return mlp(normalize, INPUTS, hidden, OUTPUTS, rng=rng)


def low_rank(normalize, ranks: tuple[int, int], *, rng) -> Model:
    """Returns the net whose layers are products of two; a layer of full rank is one."""
    named = [("flatten", Flatten())]
    for i, (a, b, r) in enumerate(zip((INPUTS, HIDDEN), (HIDDEN, OUTPUTS), ranks), start=1):
        if r < min(a, b):
            named += [(f"in{i}", Linear(a, r, bias=False)), (f"fc{i}", Linear(r, b))]
        else:
            named.append((f"fc{i}", Linear(a, b)))
        named.append((f"relu{i}", ReLU()))
    model = Model(chained(normalize, *named[:-1]), input_shape=(1, 28, 28))
    model = initialise(model, rng=rng, draw=he_normal)
    for name in weights(model).values():  # nothing rectifies behind the first factor
        if name.startswith("in"):
            model.set_form(name, model.forms()[name].moved(
                model.forms()[name].dense().data * np.float32(0.5**0.5)))
    return model


def random_edges(normalize, factor: int, *, rng) -> Model:
    """Returns the net whose edges are removed at random, those that are left drawn as large as a
    unit with so few inputs asks for."""
    model, kept = mlp(normalize, INPUTS, HIDDEN, OUTPUTS, rng=rng), fractions(factor)
    for node, name in weights(model).items():
        form = model.forms()[name]
        edges = np.zeros(form.dense().data.size, bool)
        edges[rng.permutation(edges.size)[: int(kept[node] * edges.size)]] = True
        w = form.dense().data / np.float32(kept[node] ** 0.5)
        model.set_form(name, form.moved(w).masked(edges.reshape(form.shape)))
    return model


def fractions(factor: int, share: float = 1.0) -> dict[str, float]:
    """Returns the stored numbers a weight of each layer."""
    last = share * numbers(factor) / ((INPUTS + OUTPUTS) * HIDDEN)
    first = (numbers(factor) - last * HIDDEN * OUTPUTS) / (INPUTS * HIDDEN)
    return {"fc1": first, "fc2": last}


def settings(kind: str, factor: int) -> list[tuple]:
    """Returns what is tried of a kind: a learning rate, and its share or ranks or None."""
    more = {"hash": SHARES, "lrd": RANKS[factor]}.get(kind, (None,))
    return list(itertools.product(RATES, more))


def trained(kind: str, factor: int, setting: tuple, normalize, data, run: Run, **how) -> Model:
    """Returns the net of a kind, trained from scratch.

    setting : of `settings`        data : without test        how : other knobs of the training
    """
    (rate, more), rng = setting, run.rng.spawn(1)[0]
    how = HOW | {"lr": rate} | how
    if kind == "hash":
        net = mlp(normalize, INPUTS, HIDDEN, OUTPUTS, rng=rng)
        return HashedNets(fraction=fractions(factor, more)).training(**how).apply(net, data, run)
    if kind == "lrd":
        return FineTune(**how).apply(low_rank(normalize, more, rng=rng), data, run)
    maker = equal_size if kind == "nn" else random_edges
    return FineTune(**how).apply(maker(normalize, factor, rng=rng), data, run)


def chosen(kind: str, factor: int, normalize, data, run: Run) -> tuple:
    """Returns the setting of fewest validation errors after PROBE epochs, of equals the first."""
    tried = settings(kind, factor)
    errors = []
    for setting, rng in zip(tried, run.rng.spawn(len(tried))):
        net = trained(kind, factor, setting, normalize, data, replace(run, rng=rng), epochs=PROBE)
        errors.append(evaluate(net, data.val, n_threads=run.n_threads).errors)
    return tried[int(np.argmin(errors))]


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns rows: of each fraction hashed, equal-size, low rank, random edges."""
    files, given = Files(data, out, "hashednets2015"), data.without_test()
    for seed in seeds:
        streams = np.random.default_rng(seed).spawn(len(FACTORS) * len(TITLES))
        kinds = [(factor, kind) for factor in FACTORS for kind in TITLES]
        for (factor, kind), rng in zip(kinds, streams, strict=True):
            run = Run(rng, log, None, n_threads)
            setting = chosen(kind, factor, data.normalize, given, run)
            log({"event": "say", "text": f"1/{factor}, {TITLES[kind]}: rate {setting[0]:g}"
                                         + ("" if setting[1] is None else f", {setting[1]}")})
            made = trained(kind, factor, setting, data.normalize, given, run)
            files.note(f"{kind}-{factor}", made, seed)
    return table(files)


def table(files: Files) -> list[dict]:
    """Returns the rows of what files say."""
    rows = []
    for factor in FACTORS:
        rate = {kind: files.rate(f"{kind}-{factor}") for kind in TITLES}
        for kind, title in TITLES.items():
            rivals = ("nn", "lrd") if kind == "hash" else (kind,)
            met = all(rate["hash"] < rate[rival] for rival in rivals)
            rows.append(files.row(f"1/{factor}: {title}", f"{PUBLISHED[factor][kind]:.2f} %", met,
                                  f"{kind}-{factor}"))
    return rows


PAPER = Paper("hashednets2015", "HashedNets: 784-1000-10 on MNIST (Chen et al. 2015)", "mnist",
              "12 minutes a seed", run,
              "a small variant: 30 epochs, Adam, no dropout; met: HashedNets err less than the "
              "equal-size net and low rank, and less than the row's; bytes are of a .mcz file "
              "that a fresh process decodes")
