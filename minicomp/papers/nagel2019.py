"""Eight bits and unlike channels: a scale a tensor, a scale a channel, and equalised channels.

Nagel et al. 2019 (arXiv 1906.04721) quantize MobileNetV2, 71.7 % correct on ImageNet, to 8 bits
with one scale a tensor: 0.1 % is left, as behind folded batch norms the channels of a depthwise
layer differ too much. Equalisation, absorbed biases and bias correction bring back 71.2 %.
Krishnamoorthi 2018 (arXiv 1806.08342) has a scale for each channel instead: within 2 % of float.
Neither paper has a row on our data, so that the claims are of shape, with `DepthwiseNet32` on
Fashion-MNIST in the place of MobileNetV2.

How unlike channels become differs from one training to the next, and by itself not every net is
lost. So each claim has two rows: of the net as trained, and of the same net "constructed", every
channel divided by a number drawn from e^-1.75..e^1.75 and multiplied back behind, which leaves the
outputs of the float net what they are. The width of that range is ours, chosen on validation
images: at 1.5 a scale a tensor did not lose every net, at 2 activations, one grid a value, were too
coarse for a scale a channel as well. Weights and activations have 8 bits, activations one
asymmetric grid a value, from the least and largest of 500 training images, in all rows alike; batch
norms are folded first.
Errors are of .mcz files, counted by a fresh process; the rise is paired by image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..codec import load
from ..compress.finetune import FineTune
from ..compress.quant.equalize import Equalize, absorbed, channel_ranges, equalised
from ..compress.quant.folding import fold, gaussians
from ..compress.quant.ptq import PTQ
from ..compress.quant.rescaling import rescaled, sites
from ..compress.technique import Run, Technique
from ..models import for_data
from ..nn.graph import Model
from ..quality import agreement, predicted
from ..report import plots
from ..report.channel_plots import plot_channel_ranges
from ..tensor import Array
from ..timing import Clock
from .table import Paper, beside, file_errors, mean, paired, percent

TRAINING = FineTune(epochs=6, lr=0.05, weight_decay=1e-4, shift=1)
SPREAD = 1.75  # of ln s in the constructed net
NETS = ("as trained", "constructed")
TENSOR = {"per": "tensor"}
WAYS: dict[str, tuple[Technique, ...]] = {
    "per tensor": (PTQ(**TENSOR),),
    "per channel": (PTQ(),),
    "equalised": (Equalize(absorb=False), PTQ(**TENSOR)),
    "equalised, absorbed, corrected": (Equalize(), PTQ(**TENSOR, correct="empirical")),
}
CLAIMS = {  # in words, and whether the rises of a net, in points by way, meet it
    ("as trained", "per tensor"): ("worse than per channel",
                                   lambda r: r["per tensor"] > r["per channel"]),
    ("constructed", "per tensor"): ("lost: 71.7 % correct to 0.1 %",
                                    lambda r: r["per tensor"] > 50),
    "per channel": ("within 2 % of float", lambda r: r["per channel"] <= 2),
    ("as trained", "equalised"): ("at most per tensor's rise",
                                  lambda r: r["equalised"] <= r["per tensor"]),
    ("constructed", "equalised"): ("won back: at most 2 % of the rise stays",
                                   lambda r: r["equalised"] <= 0.02 * r["per tensor"]),
    "equalised, absorbed, corrected": ("0.5 points below float: 71.7 to 71.2 % correct",
                                       lambda r: r["equalised, absorbed, corrected"] <= 0.5),
}


def constructed(model: Model, rng: np.random.Generator, spread: float = SPREAD) -> Model:
    """Returns the model, a copy, each of whose channels that can be rescaled exactly is divided by
    a number drawn from e^-spread..e^spread, by all layers that compute it alike."""
    divisors = {}
    for site in sites(model):
        divisors |= site.divisors(np.exp(rng.uniform(-spread, spread, site.n)))
    return rescaled(model, divisors)


def run(data, *, seeds, log, n_threads, out: Path) -> list[dict]:
    """Returns for each net a row of its channels' ranges, and one for each way of quantizing it."""
    clock, split = Clock(), data.without_test()
    kept: dict[tuple[str, str], list] = {}
    ranges: dict[str, list[dict[str, Array]]] = {net: [] for net in NETS}
    high = dict.fromkeys(NETS, 0)
    for seed in seeds:

        def applied(techniques, model: Model) -> Model:
            for i, technique in enumerate(techniques):
                rng = np.random.default_rng([seed, i + 1])
                model = technique.apply(model, split, Run(rng, log=log, n_threads=n_threads))
            return model.frozen()

        def keep(net: str, way: str, model: Model, start: Model) -> None:
            path = out / f"nagel-{net}-{way}-{seed}.mcz".replace(" ", "-").replace(",", "")
            size, errors = file_errors(model, path, data.name)
            now = predicted(load(path, kind="model"), data.test.x) != data.test.y
            agreed = agreement(model, start, data.test)
            kept.setdefault((net, way), []).append((size, errors, agreed, now))

        init, spread = np.random.default_rng(seed).spawn(2)
        trained = applied([TRAINING], for_data("depthwise32", data, rng=init))
        for net, model in zip(NETS, (trained, constructed(trained, spread))):
            folded = fold(model)
            ranges[net].append(channel_ranges(folded))
            high[net] += sum(int((absorbed(*g) > 0).sum()) for g in gaussians(model).values())
            keep(net, "float", folded, folded)
            for way, techniques in WAYS.items():
                made = applied(techniques, model if len(techniques) > 1 else folded)
                keep(net, way, made, folded)
            if seed == seeds[0]:
                shown = {"folded": ranges[net][0], "equalised": channel_ranges(equalised(folded))}
                plots.save(plot_channel_ranges(shown), out / f"ranges-{net.replace(' ', '-')}.png")
    seconds, rows = clock.lap() / (len(NETS) * (1 + len(WAYS))), []
    for net in NETS:
        rows.append(_ranges(net, ranges[net], seconds))
        rows += _rises(net, kept, high[net], len(data.test), seconds)
    return rows


def _ranges(net: str, found: list[dict[str, Array]], seconds: float) -> dict:
    # Of the first seed; met where, over the seeds, a depthwise layer's channels differ most.
    factors = {layer: mean([float(np.log(r[layer].max() / r[layer][r[layer] > 0].min()))
                            for r in found]) for layer in found[0]}
    said = {layer: [float(np.quantile(a, q)) for q in (0, 0.5, 1)] for layer, a in found[0].items()}
    worst = max(factors, key=factors.__getitem__)
    return {"row": f"{net}: channels, least / median / largest max |w|",
            "paper": "depthwise layers differ most",
            "ours": "; ".join(f"{layer} {' / '.join(f'{v:.3g}' for v in three)}"
                              for layer, three in said.items()),
            "met": worst.endswith(".dw"), "seconds": seconds, "ranges": said,
            "factors": {layer: float(np.exp(f)) for layer, f in factors.items()}}


def _rises(net: str, kept: dict, high: int, n: int, seconds: float) -> list[dict]:
    was = np.stack([w for *_, w in kept[net, "float"]])
    rise = {way: paired(np.stack([w for *_, w in kept[net, way]]), was) for way in WAYS}
    before = [e for _, e, *_ in kept[net, "float"]]
    rows = []
    for way in WAYS:
        words, claim = CLAIMS.get((net, way)) or CLAIMS[way]
        (value, low, top), errors = rise[way], [e for _, e, *_ in kept[net, way]]
        more = f"; {high} channels had a bias to absorb" if "absorbed" in way else ""
        row = {
            "row": f"{net}: {way}", "paper": words,
            "ours": f"{value:+.2f} points ({low:+.2f}..{top:+.2f}): {percent(before, n)} to "
                    f"{percent(errors, n)}{more}",
            "met": bool(claim({w: r[0] for w, r in rise.items()})), "seconds": seconds,
            "rise": list(rise[way]), "errors": errors, "dense_errors": before,
            "file_bytes": [b for b, *_ in kept[net, way]],
            "dense_file_bytes": [b for b, *_ in kept[net, "float"]]}
        rows.append(beside(row, [a for *_, a, _ in kept[net, way]]))
    return rows


PAPER = Paper(
    "nagel2019", "Cross-layer equalisation (Nagel et al. 2019), claims of shape", "fashion_mnist",
    "3 minutes a seed", run,
    "DepthwiseNet32, weights and activations of 8 bits, batch norms folded; constructed: channels "
    "rescaled exactly, by e^-1.75..e^1.75; points of the error in percent, paired by "
    "image, with the 95 % interval")
