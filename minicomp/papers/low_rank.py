"""Low rank beside a narrower net: one layer at 1/2, 1/4, 1/8 and 1/16 of its bytes.

Denton et al. 2014 (arXiv 1404.0736) factor a layer of a trained net and lose less than one point;
their net is ImageNet's. Here LeNet-300-100's fc1, by `svd`, and LeNet-5's conv2, by `spatial-svd`
(Jaderberg et al. 2014), are factored and the net is fine-tuned. At 1/2 and 1/4 the error may rise
by 0.1 points; at 1/8 and 1/16 by the one point of the paper.

Beside each stands a dense net of no more bytes, with fewer units of fc1, or filters of conv2, that
is drawn anew and trained for as many epochs as the factored net was before and after. conv2 is 6 %
of its net, while each of its filters is read by 8,000 weights of fc1, so that a few filters fewer
are as many bytes as a rank of a sixteenth.

Errors and bytes are of the .mcz file, counted by a fresh process; milliseconds are of one image
through the program of the net, measured in turn. Rates and epochs were chosen on validation data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..compress.finetune import FineTune
from ..compress.lowrank.clocked import milliseconds
from ..compress.lowrank.spatial_svd import SpatialSVD
from ..compress.lowrank.svd import SVD
from ..compress.technique import Run, Technique
from ..models import for_data
from ..nn.graph import Model
from ..nn.init import initialise
from ..nn.layers import Layer
from .files import Files
from .table import Paper, mean

RATIOS = (2, 4, 8, 16)  # bytes of the layer over those of its factors
RISE = {2: 0.1, 4: 0.1, 8: 1.0, 16: 1.0}  # points of error, at most


@dataclass(frozen=True)
class Case:
    """A layer of a net, how it is factored and how the net is trained.

    reader : the layer that reads it        per : how many of its inputs each output becomes
    """

    net: str
    layer: str
    reader: str
    per: int
    technique: type[Technique]
    train: FineTune
    tune: FineTune

    def scratch(self) -> FineTune:
        """Returns the training of a net drawn anew, for as long as both others together."""
        return replace(self.train, epochs=self.train.epochs + self.tune.epochs)


CASES = (
    Case("lenet300", "fc1", "fc2", 1, SVD, FineTune(epochs=12, lr=0.05, batch_size=64),
         FineTune(epochs=12, lr=0.02, batch_size=64)),
    Case("lenet5", "conv2", "fc1", 16, SpatialSVD, FineTune(epochs=7, lr=0.02, batch_size=64),
         FineTune(epochs=4, lr=0.01, batch_size=64)),
)


def narrower(model: Model, case: Case, size: int, *, rng: np.random.Generator) -> Model:
    """Returns the net with as many outputs of the case's layer as fit into `size` bytes, drawn."""
    least = with_outputs(model, case, 1).dense_bytes()
    each = with_outputs(model, case, 2).dense_bytes() - least
    return initialise(with_outputs(model, case, 1 + (size - least) // each), rng=rng)


def with_outputs(model: Model, case: Case, outputs: int) -> Model:
    """Returns the net with so many outputs of the case's layer, new layers' weights 0."""
    return model.rebuilt([replace(node, layer=_resized(node.name, node.layer, case, outputs))
                          for node in model.nodes])


def _resized(name: str, layer: Layer, case: Case, outputs: int) -> Layer:
    if name == case.layer:
        change = {layer_size(layer, "out"): outputs}
    elif name == case.reader:
        change = {layer_size(layer, "in"): outputs * case.per}
    else:
        return layer.copy()
    return type(layer)(**(layer.config() | change))


def layer_size(layer: Layer, side: str) -> str:
    """Returns the name of the argument that counts a layer's "in" or "out" channels."""
    return next(name for name, which in layer.sizes.items() if which == side)


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each layer and ratio."""
    return [row for case in CASES for row in _rows(case, data, seeds, log, n_threads, out)]


def _rows(case: Case, data, seeds, log, n_threads, out) -> list[dict]:
    files, given = Files(data, out, f"{case.net}-low-rank"), data.without_test()
    times: dict[int, dict[str, list[float]]] = {
        ratio: {"trained": [], "low rank": [], "dense": []} for ratio in RATIOS}
    for seed in seeds:
        runs = [Run(rng, log=log, n_threads=n_threads)
                for rng in np.random.default_rng(seed).spawn(2 + 2 * len(RATIOS))]
        start = for_data(case.net, data, rng=runs[0].rng)
        trained = case.train.apply(start, given, runs[1])
        files.note("trained", trained, seed)
        for ratio, one, other in zip(RATIOS, runs[2::2], runs[3::2]):
            cut = case.technique(ratio=1 / ratio, skip={"*": True, case.layer: False}).apply(
                trained, None, one)
            low = case.tune.apply(cut, given, one)
            files.note(f"{ratio}x", low, seed)
            small = narrower(start, case, low.dense_bytes(), rng=other.rng)
            dense = case.scratch().apply(small, given, other)
            files.note(f"{ratio}x-dense", dense, seed)
            found = milliseconds(dict(enumerate((trained, low, dense))), 1)
            for name, i in zip(times[ratio], found):
                times[ratio][name].append(found[i])
    return [_row(case, ratio, files, times[ratio]) for ratio in RATIOS]


def _row(case: Case, ratio: int, files: Files, times: dict[str, list[float]]) -> dict:
    low, dense = f"{ratio}x", f"{ratio}x-dense"
    ms = {name: mean(each) for name, each in times.items()}
    allowed = RISE[ratio]
    rise = files.rate(low) - files.rate("trained")
    row = files.row(f"{case.net} {case.layer} at 1/{ratio} of its bytes",
                    f"at most +{allowed:g} points", rise <= allowed, low, dense)
    row["ours"] = (f"{rise:+.2f} points: {files.said('trained')} to {files.said(low)}; dense net "
                   f"of its bytes {files.said(dense)}; ms an image {ms['trained']:.3g}, "
                   f"{ms['low rank']:.3g}, {ms['dense']:.3g}")
    return row | {"rise": rise, "ms": times}


PAPER = Paper("low-rank", "Low rank beside a narrower net of the same bytes", "mnist",
              "8 minutes a seed", run,
              "milliseconds of the trained net, the factored one and the narrower one, one thread")
