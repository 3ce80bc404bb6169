"""The smallest honest file: in how few bytes is a net that reads MNIST's digits?

All of it is in one .mcz file, header, biases and scales included, and a fresh process counts its
errors. A small net learns a teacher's soft targets, then trains with the bits of its codes in the
loss (`entropy-reparametrization`), which lambda weighs against errors; what prunes it is that price
alone. Units that are left without inputs go. Biases take a fixed point, which has no scale to
store, of the fewest bits that cost no validation error.

No byte hides in the decoder. A net is stored as data, node by node; built in are only Caffe's
LeNet-5 and LeNet-300-100, as before. The preset text of headers, and what the coders of codes begin
with, are constants that were fitted on other nets before there was this table: `frozen` is their
digest. The size that a file has without the preset text stands beside.

The operating point of a row, one of its nets with a lambda, is that of fewest bytes, in the mean of
the seeds, whose mean validation error is within the row's. Test images choose nothing, and every
seed's bytes and errors are in the row. Rows are of a kind each: any net; two 5 x 5 convolutions and
linear layers; LeNet-300-100; Caffe's LeNet-5, of which training leaves little; and all but the
third with and without shifted images.

Shifted images are drawn once, with the image itself `COPIES` of each, so that the teacher says only
once what it makes of them. lambda weighs bits against labels of the images, not of their copies.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..atomic import as_json
from ..codec.header import MODELS, preset, write_header
from ..codec.model import header_of
from ..compress.distill.soft import mean_targets, soft_loss
from ..compress.finetune import FineTune, Trained
from ..compress.prune.dead_units import DeadUnits
from ..compress.rate.pricing import with_fixed_biases
from ..compress.rate.reparametrization import Reparametrization
from ..compress.technique import Run
from ..data import Dataset, Split
from ..data.augment import shift
from ..kernels.coding import mixing, range_coder
from ..models import LeNet5, LeNet300
from ..nn.graph import Model, chain
from ..nn.init import initialise
from ..nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU
from ..tensor import Array, no_grad
from ..train import Hook, evaluate
from .journal import Journal, kept
from .table import Paper, file_errors, mean

COPIES = 5  # of an image
SHIFT = 2  # pixels
T, ALPHA = 4.0, 0.9  # of soft targets
ADAM = {"optimizer": "adam", "batch_size": 100}
BITS = 4  # of a code
BIAS_BITS = (3, 4, 5, 6, 8)  # tried in turn
TEACHER = FineTune(epochs=24, lr=0.03, batch_size=100, weight_decay=1e-4)
VAL, TEST = 5000, 10000  # images

POOL = ((MaxPool2d, 2), (ReLU,))
CONVS = ((Conv2d, 1, 20, 5), *POOL, (Conv2d, 20, 50, 5), *POOL, (Flatten,))
BIG = (*CONVS, (Dropout, 0.4), (Linear, 800, 300), (ReLU,), (Dropout, 0.4), (Linear, 300, 10))


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
    lams : of the price of a bit        epochs : over all copies, at first and with the price
    """

    layers: tuple | str
    lams: tuple[float, ...]
    epochs: tuple[int, int] = (3, 4)
    shifted: bool = True

    def net(self, rng: np.random.Generator) -> Model:
        """Returns the net, its weights drawn."""
        if isinstance(self.layers, str):
            return {"lenet5": LeNet5, "lenet300": LeNet300}[self.layers](rng=rng)
        return of_layers(self.layers, rng)


ARMS: dict[str, Arm] = {
    "5-10": Arm(two_convs(5, 10), (0.2, 0.5)),
}


@dataclass(frozen=True)
class Row:
    """A row: its title, the arms of its kind, the error within which it is (percent), the bytes
    that are asked, and whose they are."""

    title: str
    arms: tuple[str, ...]
    error: float
    bytes: int
    said: str = "(ours: {bytes:,} bytes at {error:g} %)"


ROWS: tuple[Row, ...] = ()


def of_layers(layers: Sequence[tuple], rng: np.random.Generator) -> Model:
    """Returns the net of a list of layers in a row, (kind, argument ..), its weights drawn.

    Names are those that most headers have, "conv1", "relu2".
    """
    words = {Conv2d: "conv", MaxPool2d: "pool", ReLU: "relu", Linear: "fc", Dropout: "drop"}
    named, seen = [], dict.fromkeys(words, 0)
    for kind, *given in layers:
        if kind in seen:
            seen[kind] += 1
        name = f"{words[kind]}{seen[kind]}" if kind in seen else kind.kind.lower()
        named.append((name, kind(*given)))
    return initialise(Model(chain(*named), input_shape=(1, 28, 28)), rng=rng)


@dataclass(frozen=True)
class Told(Trained):
    """A training on soft targets that are known before.   p : (N, K), a row a training example"""

    word: ClassVar[str] = "told"
    title: ClassVar[str] = "Soft targets of each example"

    p: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32), compare=False)

    def hooks(self, model, data, run):
        return [Telling(self.p)]


class Telling(Hook):
    """Adds alpha T^2 KL to 1 - alpha times the loss that is there."""

    name, base_weight = Told.word, 1 - ALPHA

    def __init__(self, p: Array):
        super().__init__()
        self.p = p

    def loss(self, state):
        return soft_loss(state.output, self.p[state.rows], T) * (ALPHA * T * T)


def copied(split: Split, *, shifted: bool, rng: np.random.Generator) -> Split:
    """Returns COPIES of each example, the first as it is, the others shifted or not."""
    more = [shift(split.x, SHIFT if shifted else 0, rng=rng) for _ in range(COPIES - 1)]
    return Split(np.concatenate([split.x, *more]), np.tile(split.y, COPIES))


def said_by(teacher: Model, x: Array) -> Array:
    """Returns a net's probabilities at temperature T of examples (N, ...), (N, K)."""
    with no_grad():
        w = teacher.decode()
        z = [teacher(x[i:i + 500], weights=w).data for i in range(0, len(x), 500)]
    return mean_targets(np.concatenate(z)[None], T, "arithmetic")


def small(model: Model, val: Split) -> Model:
    """Returns the model with biases of the fewest bits, of BIAS_BITS, that add no validation error;
    of the most bits where all do."""
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
    """The trainings of one kind of images, shifted or not, and what their files hold.

    data : with test        out : folder of the files
    """

    def __init__(self, data: Dataset, shifted: bool, out: Path, journal: Journal, log, n_threads):
        self.data, self.given, self.shifted = data, data.without_test(), shifted
        self.out, self.journal, self.log, self.n_threads = out, journal, log, n_threads

    def run(self, rng: np.random.Generator) -> Run:
        """Returns what a training runs under."""
        return Run(rng, self.log, None, self.n_threads)

    def path(self, word: str, *more) -> Path:
        """Returns the file of a net."""
        kind = () if self.shifted else ("unshifted",)
        return self.out / f"{'-'.join(map(str, (word, *kind, *more)))}.mcz"

    @functools.cached_property
    def teacher(self) -> Model:
        """The teacher of all seeds, from its file where it was trained before."""
        def trained():
            rng = np.random.default_rng(7)
            how = replace(TEACHER, shift=SHIFT if self.shifted else 0)
            return how.apply(of_layers(BIG, rng), self.given, self.run(rng))
        return kept(self.path("teacher"), trained)

    @functools.cached_property
    def shown(self) -> tuple[Dataset, Told]:
        """What students see and are told."""
        rng = np.random.default_rng(123)
        train = copied(self.given.train, shifted=self.shifted, rng=rng)
        return replace(self.given, train=train), Told(p=said_by(self.teacher, train.x))

    def trained(self, net: Model, rng: np.random.Generator, *methods: Trained, epochs: int,
                lr) -> Model:
        """Returns the net after so many epochs over what students see."""
        data, told = self.shown
        how = FineTune(epochs=epochs, lr=lr, methods=(told, *methods), **ADAM)
        return how.apply(net, data, self.run(rng))

    def floats(self, word: str, seed: int) -> Model:
        """Returns an arm's net as it is before bits have a price."""
        def trained():
            rng = np.random.default_rng([seed, 0])
            return self.trained(ARMS[word].net(rng), rng, epochs=ARMS[word].epochs[0], lr=2e-3)
        return kept(self.path(word, "floats", seed), trained)

    def priced(self, word: str, lam: float, seed: int) -> Model:
        """Returns an arm's net as it is written."""
        price = Reparametrization(bits=BITS, lam=lam * COPIES)
        made = self.trained(self.floats(word, seed), np.random.default_rng([seed, 1]), price,
                            epochs=ARMS[word].epochs[1], lr={"*": 2e-3, "*.scale": 1e-4})
        left = DeadUnits().apply(made, self.given, self.run(np.random.default_rng(seed)))
        return small(left, self.given.val)

    def counted(self, word: str, lam: float, seed: int) -> dict:
        """Returns what is found of an arm's file."""
        net, path = self.priced(word, lam, seed), self.path(word, lam, seed)
        size, errors = file_errors(net, path, self.data.name)
        return {"val_errors": evaluate(net, self.given.val).errors, "errors": errors,
                "file_bytes": size, "without_preset": without_preset(net, size),
                "weights": sum(form.nonzeros() for form in net.forms().values()),
                "frozen": frozen()}


def run(data, *, seeds, log, n_threads, out, journal) -> None:
    """Finds what each arm's files hold, with each lambda."""
    held = {shifted: Trainings(data, shifted, out, journal, log, n_threads)
            for shifted in (True, False)}
    for word, arm in ARMS.items():
        for lam in arm.lams:
            for seed in seeds:
                journal.take(word, seed, lambda: held[arm.shifted].counted(word, lam, seed),
                             lam=lam, epochs=list(arm.epochs))


def points(lines: list[dict], arms: Sequence[str]) -> list[list[dict]]:
    """Returns the operating points of some arms, each the lines of its seeds: of those that have
    the most seeds."""
    found: dict[str, list[dict]] = {}
    for line in sorted(lines, key=lambda line: line["seed"]):
        if line["arm"] in arms:
            found.setdefault(f"{line['arm']} {as_json(line['settings'])}", []).append(line)
    most = max(map(len, found.values()), default=0)
    return [point for point in found.values() if len(point) == most]


def chosen(found: list[list[dict]], error: float) -> list[dict]:
    """Returns the point of fewest bytes whose validation error is at most `error` percent, means of
    the seeds; where none is, that of the least validation error."""
    def of(point, what):
        return mean([line[what] for line in point])
    within = [point for point in found if 100 * of(point, "val_errors") / VAL <= error]
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
        "row": row.title, "paper": row.said.format(bytes=row.bytes, error=row.error),
        "ours": f"{each(lists['file_bytes'], ',.0f')} bytes at {each(rates, '.2f')} %; validation "
                f"{100 * mean(lists['val_errors']) / VAL:.2f} %; {at['arm']}, lambda "
                f"{at['settings']['lam']:g}, {mean(lists['weights']):,.0f} weights; without preset "
                f"text {mean(lists['without_preset']):,.0f} bytes, digest {at['frozen']}",
        "met": met, "seconds": sum(line["seconds"] for line in lines if line["arm"] in row.arms),
        **lists}


def table(lines: list[dict]) -> list[dict]:
    """Returns the rows of a journal's lines; those of which none was run are left out."""
    return [judged(row, lines) for row in ROWS if points(lines, row.arms)]


PAPER = Paper("smallest", "The smallest honest file: LeNets on MNIST", "mnist", "an hour a seed", run,
              "bytes are of a .mcz file, all included, that a fresh process decodes; operating "
              "points are picked on validation images; every seed stands in the row", table)
