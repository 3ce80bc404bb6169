"""Tables of papers that report on our two LeNets: a float net of each is trained, compressed, and
written; what a fresh process says of the file stands beside the paper's row.

Each `Record` is a row. `of` says what the paper's ratio counts: the weights that are kept, or the
bytes, whose accounting is the paper's own; ours are always those of the .mcz file, header, biases
and tables included, against the dense float32 net. A row is met where ratio and error both are as
good, the ratio of the kind that the paper counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..compress.finetune import FineTune
from ..compress.technique import Run, Technique, weights
from ..models import for_data
from ..nn.graph import Model
from .files import Files
from .table import Paper, mean

NAMES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}
FLOATS = {"lenet300": FineTune(epochs=12, lr=0.05, weight_decay=1e-4, shift=1),
          "lenet5": FineTune(epochs=8, lr=0.02, weight_decay=1e-4, shift=1)}


@dataclass(frozen=True)
class Record:
    """net : "lenet300" or "lenet5"        technique : of the float net
    ratio, error : the paper's, at least and at most (percent)        of : "weights" or "bytes"
    said : further words of the paper's row
    """

    net: str
    technique: Technique
    ratio: float
    error: float
    of: str = "bytes"
    said: str = ""

    @property
    def paper(self) -> str:
        """The published row as text."""
        what = "weights" if self.of == "weights" else "its own accounting" * (not self.said)
        return f"{self.ratio:g}x at {self.error:g} % ({self.said or what})"


def kept_ratio(model: Model, dense: Model) -> float:
    """Returns how many weights the dense net has for each that is not 0 in the model."""
    left = sum(model.forms()[name].nonzeros() for name in weights(model).values())
    total = sum(math.prod(dense.forms()[name].shape) for name in weights(dense).values())
    return total / max(left, 1)


def run(data, *, seeds, log, n_threads, out, records: Sequence[Record], stem: str) -> list[dict]:
    """Returns the rows, one for each record."""
    files, given = Files(data, out, stem), data.without_test()
    kept: dict[str, list[float]] = {record.net: [] for record in records}
    for seed in seeds:
        for record in records:
            init, first, second = np.random.default_rng([seed, len(record.net)]).spawn(3)
            net = for_data(record.net, data, rng=init)
            dense = FLOATS[record.net].apply(net, given, Run(first, log, None, n_threads))
            files.note(f"{record.net}-dense", dense, seed)
            made = record.technique.apply(dense, given, Run(second, log, None, n_threads))
            files.note(record.net, made, seed, dense)
            kept[record.net].append(kept_ratio(made, dense))
            log({"event": "say", "text": f"{record.net}: {kept[record.net][-1]:.0f}x of the "
                                         f"weights, {files.kinds[record.net].sizes[-1]:,} bytes"})
    dense_bytes = {record.net: for_data(record.net, data, rng=np.random.default_rng(0))
                   .dense_bytes() for record in records}
    return table(files, records, kept, dense_bytes)


def table(files: Files, records: Sequence[Record], kept: dict[str, list[float]],
          dense_bytes: dict[str, int]) -> list[dict]:
    """Returns the rows of what files say.

    kept : by net, a ratio of weights a seed        dense_bytes : of the float32 net
    """
    rows = []
    for record in records:
        net = record.net
        ratios = {"weights": mean(kept[net]), "bytes": dense_bytes[net] / files.size(net)}
        met = ratios[record.of] >= record.ratio and files.rate(net) <= record.error
        row = files.row(NAMES[net], record.paper, met, net)
        said = (f"{ratios['weights']:.0f}x of the weights, {ratios['bytes']:.0f}x of the bytes, at "
                f"{row['ours']}; floats {files.said(f'{net}-dense')}")
        rows.append(row | {"ours": said, "kept": kept[net]})
        rows[-1]["seconds"] += files.kinds[f"{net}-dense"].seconds
    return rows


def paper(name: str, title: str, time: str, records: Sequence[Record], note: str = "") -> Paper:
    """Returns the table of records."""
    words = "bytes are of a .mcz file that a fresh process decodes, of 4 bytes a weight dense"
    return Paper(name, title, "mnist", time, partial(run, records=records, stem=name),
                 "; ".join(filter(None, [note, words])))
