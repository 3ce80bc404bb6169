"""The smallest honest file: in how few bytes is a net that reads MNIST's digits?

All of it is in one .mcz file, header, biases and scales included, and a fresh process counts its
errors. A small net is trained, then trained on with the bits of its codes in the loss
(`entropy-reparametrization`), which lambda weighs against errors: that price alone prunes it. Units
that are left without inputs go. Weights and biases take fixed points, which have no scales to
store, biases of the fewest bits that cost no validation error.

No byte hides in the decoder. A net is stored as data, node by node; built in are only Caffe's
LeNet-5 and LeNet-300-100, as before. The preset text of headers, and what the coders of codes begin
with, are constants that were fitted on other nets before there was this table: `frozen` is their
digest. The size that a file has without the preset text stands beside.

The operating point of a row, one of its nets with a lambda, is that of fewest bytes, in the mean of
the seeds, whose mean validation error is within the row's with a standard error added: there are
only 5,000 such images, and who picks by them picks luck too. Test images choose nothing, and every
seed's bytes and errors are in the row. Rows are of a kind each: any net; two 5 x 5 convolutions and
linear layers; LeNet-300-100; Caffe's LeNet-5, of which training leaves little; and all but the
third with and without shifted images.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..atomic import as_json
from ..codec.header import MODELS, preset, write_header
from ..codec.model import header_of
from ..compress.finetune import FineTune
from ..compress.prune.dead_units import DeadUnits
from ..compress.prune.dns import DNS
from ..compress.rate.pricing import with_fixed_biases
from ..compress.rate.reparametrization import Reparametrization
from ..compress.technique import Run, Technique
from ..data import Dataset, Split
from ..kernels.coding import mixing, range_coder
from ..models import LeNet5, LeNet300
from ..nn.forms import Dense, FixedPoint
from ..nn.graph import Model, chain
from ..nn.init import initialise
from ..nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from ..tensor import raw
from ..train import evaluate
from . import progressive2018
from .journal import kept
from .table import Paper, file_errors, mean

ADAM = {"optimizer": "adam", "batch_size": 100}
RATES = {"*": 1e-3, "*.scale": 1e-4}  # with the price: of latents, and of the steps of grids
BIAS_BITS = (3, 4, 5, 6, 8)  # tried in turn
VAL, TEST = 5000, 10000  # images
POOL = ((MaxPool2d, 2), (ReLU,))


def two_convs(a: int, b: int) -> tuple:
    """Returns the layers of two 5 x 5 convolutions, of a and b filters, and a linear layer."""
    return ((Conv2d, 1, a, 5), *POOL, (Conv2d, a, b, 5), *POOL, (Flatten,), (Linear, 16 * b, 10))


def three_convs(a: int, b: int, c: int) -> tuple:
    """Returns those of a 5 x 5 and two 3 x 3 convolutions, of so many filters, and a linear layer.
    """
    return ((Conv2d, 1, a, 5), *POOL, (Conv2d, a, b, 3), (ReLU,), (Conv2d, b, c, 3), *POOL,
            (Flatten,), (Linear, 16 * c, 10))


@dataclass(frozen=True)
class Arm:
    """A net, and how it is trained.

    layers : (kind, argument ..) each, or the word of a net that is built in
    lams : of the price of a bit        bits : of a code        shift : of images, pixels
    first : trainings before bits have a price; None: progressive surgery, progressive2018.py
    epochs : with the price
    """

    layers: tuple | str
    lams: tuple[float, ...]
    bits: int = 5
    shift: int = 1
    first: tuple[FineTune, ...] | None = (FineTune(epochs=15, lr=4e-3, **ADAM),)
    epochs: int = 30

    def net(self, rng: np.random.Generator) -> Model:
        """Returns the net, its weights drawn."""
        if isinstance(self.layers, str):
            return {"lenet5": LeNet5, "lenet300": LeNet300}[self.layers](rng=rng)
        return of_layers(self.layers, rng)

    def settings(self, lam: float) -> dict:
        """Returns what a line of the journal is found under."""
        before = (progressive2018.EPOCHS if self.first is None else
                  [step.epochs for step in self.first])
        return {"lam": lam, "bits": self.bits, "shift": self.shift,
                "epochs": [*before, self.epochs], "rate": RATES["*"]}


PRUNED300 = (
    FineTune(epochs=20, weight_decay=1e-4, lr=0.05, batch_size=64),
    DNS(c={"fc1": 8.0, "fc2": 6.0, "fc3": 1.5}, ramp=0.5).training(
        epochs=30, weight_decay=5e-4, lr=0.05, batch_size=64))
LONG = (FineTune(epochs=30, lr=4e-3, **ADAM),)
# Widths, lambdas, epochs, rates and shifts were looked for with seed 0, on validation images. A
# teacher's soft targets did not help a net as small as these there.
ARMS: dict[str, Arm] = {
    "lenet 8-16": Arm(two_convs(8, 16), (1.0,)),
    "lenet 16-40": Arm(two_convs(16, 40), (0.2,), shift=2, first=LONG),
    "conv 8-16-20": Arm(three_convs(8, 16, 20), (1.5,)),
    "lenet300": Arm("lenet300", (1.0,), first=PRUNED300, epochs=15),
    "lenet5": Arm("lenet5", (0.5,), first=None, epochs=15),
    "lenet 8-16, unshifted": Arm(two_convs(8, 16), (0.5, 1.0), shift=0),
    "conv 8-16-20, unshifted": Arm(three_convs(8, 16, 20), (1.5,), shift=0),
    "lenet5, unshifted": Arm("lenet5", (0.5,), shift=0, first=None, epochs=15),
}


@dataclass(frozen=True)
class Row:
    """A row: its title, the arms of its kind, the error within which it is (percent), the bytes
    that are asked, and the published row, if any."""

    title: str
    arms: tuple[str, ...]
    error: float
    bytes: int
    published: str = ""

    @property
    def paper(self) -> str:
        """What is asked, as text."""
        asked = f"(ours: {self.bytes:,} bytes at {self.error:g} %)"
        return f"{self.published} {asked}".strip()


CLASSIC = ("lenet 8-16", "lenet 16-40")
FREE = (*CLASSIC, "conv 8-16-20")
SAID = {0.96: (1520, "1,520 bytes at 0.96 %"), 0.69: (3030, "3,030 bytes at 0.69 %")}  # MIRACLE
ROWS: tuple[Row, ...] = (
    Row("smallest file, any net", FREE, 1.0, 1500),
    *(Row("two 5 x 5 convolutions, a linear layer", CLASSIC, e, *SAID[e]) for e in SAID),
    Row("LeNet-300-100", ("lenet300",), 1.9, 2900, "8,560 bytes at 1.9 %"),
    *(Row("from Caffe's LeNet-5", ("lenet5",), e, *SAID[e]) for e in SAID),
    Row("smallest file, any net, no shifted images",
        ("lenet 8-16, unshifted", "conv 8-16-20, unshifted"), 1.0, 1500),
    Row("two 5 x 5 convolutions, a linear layer, no shifted images", ("lenet 8-16, unshifted",),
        0.96, *SAID[0.96]),
    *(Row("from Caffe's LeNet-5, no shifted images", ("lenet5, unshifted",), e, *SAID[e])
      for e in SAID),
)


def of_layers(layers: Sequence[tuple], rng: np.random.Generator) -> Model:
    """Returns the net of a list of layers in a row, (kind, argument ..), its weights drawn.

    Names are those that most headers have, "conv1", "relu2".
    """
    words = {Conv2d: "conv", MaxPool2d: "pool", ReLU: "relu", Linear: "fc"}
    named, seen = [], dict.fromkeys(words, 0)
    for kind, *given in layers:
        if kind in seen:
            seen[kind] += 1
        name = f"{words[kind]}{seen[kind]}" if kind in seen else kind.kind.lower()
        named.append((name, kind(*given)))
    return initialise(Model(chain(*named), input_shape=(1, 28, 28)), rng=rng)


def with_fixed_weights(model: Model) -> Model:
    """Returns the model, of layers in a row, whose weights have a fixed point instead of a scale.

    A layer's step becomes the nearest power of 2 that leaves an integer bit. What it gives then has
    a factor, and so do its biases; ReLU and pools hand the factor on, and at the end it changes no
    class.
    """
    made, factor = model.copy(), 1.0
    for node in made.nodes:
        forms = node.layer.forms
        if "weight" in forms:
            w = forms["weight"]
            step = float(raw(w.scale)[0])
            fl = min(-round(math.log2(step)), w.bits - 1)
            factor *= 2.0**-fl / step
            forms["weight"] = FixedPoint(w.q, w.bits - fl, fl, mask=w.mask)
            forms["bias"] = Dense(np.float32(factor) * forms["bias"].dense().data)
    return made


def small(model: Model, val: Split) -> Model:
    """Returns the model with weights of a fixed point, and biases of the fewest bits, of BIAS_BITS,
    that add no validation error; of the most bits where all do."""
    model = with_fixed_weights(model)
    most = evaluate(model, val).errors
    for bits in BIAS_BITS:
        made = with_fixed_biases(model, bits)
        if evaluate(made, val).errors <= most:
            break
    return made


def without_preset(model: Model, size: int) -> int:
    """Returns the bytes that the model's file of `size` bytes would have without preset text."""
    with_text, without = (len(write_header(header_of(model), dictionary=d)) for d in (MODELS, None))
    return size - with_text + without + (without > 127) - (with_text > 127)  # and their length


def frozen() -> str:
    """Returns the digest of what a decoder knows before it reads: the preset text of headers, and
    the first weights and the rates of coders."""
    known = (mixing.WEIGHTS, mixing.SHARP, mixing.WIDE, mixing.FLAT, mixing.BELL, mixing.SLOWEST,
             range_coder.RATES)
    return hashlib.sha256(preset("model", MODELS) + repr(known).encode()).hexdigest()[:16]


class Trainings:
    """The trainings of arms, and what their files hold.

    data : with test        out : folder of the files
    """

    def __init__(self, data: Dataset, out: Path, log, n_threads: int):
        self.data, self.given = data, data.without_test()
        self.out, self.log, self.n_threads = out, log, n_threads

    def path(self, word: str, what: str, seed: int) -> Path:
        """Returns the file of a net."""
        return self.out / f"{word.replace(' ', '-')}-{what}-{seed}.mcz"

    def after(self, technique: Technique, net: Model, *seed: int) -> Model:
        """Returns what a technique makes of a net."""
        run = Run(np.random.default_rng(seed), self.log, None, self.n_threads)
        return technique.apply(net, self.given, run)

    def floats(self, word: str, seed: int) -> Model:
        """Returns an arm's net as it is before bits have a price; from its file where it was
        trained before."""
        def trained():
            arm = ARMS[word]
            if arm.first is None:
                return progressive2018.Nets(self.given, seed, self.out, self.log, self.n_threads,
                                            arm.shift).net("tuned2")
            net = arm.net(np.random.default_rng([seed, 0]))
            for i, step in enumerate(arm.first):
                net = self.after(replace(step, shift=arm.shift), net, seed, 1, i)
            return net
        return kept(self.path(word, "floats", seed), trained)

    def priced(self, word: str, lam: float, seed: int) -> Model:
        """Returns an arm's net as it is written."""
        arm = ARMS[word]
        how = Reparametrization(bits=arm.bits, lam=lam).training(
            epochs=arm.epochs, lr=RATES, shift=arm.shift, **ADAM)
        made = self.after(how, self.floats(word, seed), seed, 2)
        return small(self.after(DeadUnits(), made, seed, 3), self.given.val)

    def counted(self, word: str, lam: float, seed: int) -> dict:
        """Returns what is found of an arm's file."""
        net, path = self.priced(word, lam, seed), self.path(word, f"{lam:g}", seed)
        size, errors = file_errors(net, path, self.data.name)
        return {"val_errors": evaluate(net, self.given.val).errors, "errors": errors,
                "file_bytes": size, "without_preset": without_preset(net, size),
                "weights": sum(form.nonzeros() for form in net.forms().values()),
                "frozen": frozen()}


def run(data, *, seeds, log, n_threads, out, journal) -> None:
    """Finds what each arm's files hold, with each lambda: with the first of each, then others."""
    trainings = Trainings(data, out, log, n_threads)
    asked = [(i, word, lam) for word, arm in ARMS.items() for i, lam in enumerate(arm.lams)]
    for _, word, lam in sorted(asked, key=lambda at: at[0]):
        for seed in seeds:
            journal.take(word, seed, lambda: trainings.counted(word, lam, seed),
                         **ARMS[word].settings(lam))


def points(lines: list[dict], arms: Sequence[str]) -> list[list[dict]]:
    """Returns the operating points of some arms, each the lines of its seeds: those that all the
    seeds of a journal were run for."""
    found: dict[str, list[dict]] = {}
    for line in sorted(lines, key=lambda line: line["seed"]):
        if line["arm"] in arms:
            found.setdefault(f"{line['arm']} {as_json(line['settings'])}", []).append(line)
    seeds = len({line["seed"] for line in lines})
    return [point for point in found.values() if len(point) == seeds]


def bound(errors: float) -> float:
    """Returns the error of so many of the validation images, a standard error added, percent.

    All seeds are judged by the same images: their mean is as uncertain as one of them.
    """
    p = errors / VAL
    return 100 * (p + math.sqrt(p * (1 - p) / VAL))


def chosen(found: list[list[dict]], error: float) -> list[dict]:
    """Returns the point of fewest bytes whose validation error, a standard error added, is at most
    `error` percent, means of the seeds; where none is, that of the least validation error."""
    def of(point, what):
        return mean([line[what] for line in point])
    within = [point for point in found if bound(of(point, "val_errors")) <= error]
    if within:
        return min(within, key=lambda point: of(point, "file_bytes"))
    return min(found, key=lambda point: of(point, "val_errors"))


def each(numbers: Sequence[float], spec: str) -> str:
    """Returns the mean of numbers, and each of them: "1,010 (1,000, 1,020)"."""
    return f"{mean(numbers):{spec}} ({', '.join(f'{n:{spec}}' for n in numbers)})"


def judged(row: Row, lines: list[dict]) -> dict:
    """Returns a row of a journal's lines."""
    point = chosen(points(lines, row.arms), row.error)
    lists = {what: [line[what] for line in point]
             for what in ("errors", "val_errors", "file_bytes", "without_preset", "weights")}
    rates, at = [100 * n / TEST for n in lists["errors"]], point[0]
    met = mean(rates) <= row.error and mean(lists["file_bytes"]) <= row.bytes
    return {
        "row": row.title, "paper": row.paper,
        "ours": f"{each(lists['file_bytes'], ',.0f')} bytes at {each(rates, '.2f')} %; validation "
                f"{100 * mean(lists['val_errors']) / VAL:.2f} %; {at['arm']}, lambda "
                f"{at['settings']['lam']:g}, {mean(lists['weights']):,.0f} weights; without preset "
                f"text {mean(lists['without_preset']):,.0f} bytes, digest {at['frozen']}",
        "met": met, "seconds": sum(line["seconds"] for line in lines if line["arm"] in row.arms),
        **lists}


def table(lines: list[dict]) -> list[dict]:
    """Returns the rows of a journal's lines; those of which none was run are left out."""
    return [judged(row, lines) for row in ROWS if points(lines, row.arms)]


PAPER = Paper("smallest", "The smallest honest file: LeNets on MNIST", "mnist",
              "35 minutes a seed", run,
              "bytes are of a .mcz file, all included, that a fresh process decodes; operating "
              "points are picked on validation images; every seed stands in the row", table)
