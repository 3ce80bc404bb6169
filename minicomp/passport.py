"""The passport: the one meter for every model. What it holds, what it costs, and how well it does.

| figure | how it is taken |
|---|---|
| parameters, non-zeros | counted on the decoded weights and biases |
| MACs | multiply-accumulates per image, bias and activations not counted |
| effective MACs | the multiplications by weights that are not 0, or of look-ups (LCNN) |
| input zeros | the fraction of zeros among what enters a layer, on data; never mixed into MACs |
| bytes, by part | read from the file; without a file, 4 bytes a number |
| errors | counted on data |
| flips, KL of the logits | on data, beside the net that compression began with (quality.py) |
| milliseconds | measured, the median: zeros skipped where that pays (deploy/), and all dense |

A weight of a layer is multiplied equally often wherever it stands (once in a Linear, once for every
place of the output in a Conv2d), so effective MACs = MACs * non-zeros / weights, exactly. Of a
dictionary (nn/forms/dictionary.py) they are those of its atoms and its look-ups.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .codec import decode, encode, show
from .codec.accounting import FILE_PARTS, summed, times
from .deploy import Program, lower
from .kernels.threads import blas
from .nn.graph import Model
from .nn.taps import observe
from .quality import agreement
from .tensor import no_grad
from .timing import race


@dataclass(frozen=True)
class LayerRow:
    """One layer that has weights.

    units : output channels        weights : numbers in the weight, 0 where it has one axis, such
        as a batch norm's gains        parameters : with bias and whatever else the layer holds
    nonzeros : of parameters        weight_nonzeros : of weights
    macs, effective_macs : per image        input_zeros : fraction, None without data
    bytes : by part, see FILE_PARTS; without a file 4 bytes a number
    """

    name: str
    kind: str
    units: int
    weights: int
    weight_nonzeros: int
    parameters: int
    nonzeros: int
    macs: int
    effective_macs: int
    input_zeros: float | None
    bytes: dict[str, float]

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the weight, 0..1."""
        return 1.0 - self.weight_nonzeros / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class Passport:
    """What `passport` measured; all but milliseconds is the same on every machine.

    dense_bytes : 4 bytes x (parameters + running statistics) of the model compression started from
    file_bytes : of the file, None without one        rest : its bytes that belong to no layer
    statistics : how many running statistics there are
    errors, size : wrong answers, and of how many; None without data
    flips, kl : predictions that differ from those of the net compared with, and the mean KL
        divergence of the logits from its, nats; None without such a net
    ms, ms_dense : milliseconds an image of the net's program (deploy/), planned before: with the
        layouts of its forms, which skip zeros where that pays, and as dense float32 matrices; None:
        not timed
    """

    layers: tuple[LayerRow, ...]
    dense_bytes: int
    file_bytes: int | None = None
    rest: float = 0.0
    statistics: int = 0
    errors: int | None = None
    size: int | None = None
    flips: int | None = None
    kl: float | None = None
    ms: float | None = None
    ms_dense: float | None = None

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.layers)

    @property
    def nonzeros(self) -> int:
        return sum(row.nonzeros for row in self.layers)

    @property
    def units(self) -> int:
        """The output channels of all layers that have weights."""
        return sum(row.units for row in self.layers)

    @property
    def original_numbers(self) -> int:
        """Weights, biases and running statistics of the model that compression started from."""
        return self.dense_bytes // 4

    @property
    def numbers(self) -> int:
        """Weights and biases that are not 0, and running statistics."""
        return self.nonzeros + self.statistics

    @property
    def left(self) -> float:
        """numbers / original_numbers: what removed units and zeros together have left, 0..1."""
        return self.numbers / self.original_numbers if self.original_numbers else 1.0

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.layers)

    @property
    def effective_macs(self) -> int:
        return sum(row.effective_macs for row in self.layers)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights, biases not counted, 0..1."""
        weights = sum(row.weights for row in self.layers)
        return 1.0 - sum(row.weight_nonzeros for row in self.layers) / weights if weights else 0.0

    @property
    def bytes(self) -> float:
        """Bytes of the file; without one, of the model as float32."""
        return sum(self.parts().values()) if self.file_bytes is None else self.file_bytes

    @property
    def ratio(self) -> float | None:
        """dense_bytes / file_bytes, None without a file."""
        return None if self.file_bytes is None else self.dense_bytes / self.file_bytes

    @property
    def error(self) -> float | None:
        """Fraction of wrong answers, 0..1, None without data."""
        return None if self.errors is None or not self.size else self.errors / self.size

    def headers(self) -> list[str]:
        """Returns the column names of `rows`."""
        return [
            "layer",
            "kind",
            "parameters",
            "nonzero",
            "sparsity",
            "MACs",
            "effective MACs",
            "input zeros",
            "bytes",
            "bits/weight",
        ]

    def rows(self) -> list[list]:
        """Returns one list a layer, the file's remaining bytes, and the total: texts, ints, floats.

        sparsity is the fraction of zeros in the weight, biases not counted; bits/weight is 8 x the
        layer's bytes over its parameters, everything included.
        """
        out = [
            [
                r.name,
                r.kind,
                r.parameters,
                r.nonzeros,
                round(r.sparsity, 4),
                r.macs,
                r.effective_macs,
                "" if r.input_zeros is None else round(r.input_zeros, 3),
                *_size(sum(r.bytes.values()), r.parameters),
            ]
            for r in self.layers
        ]
        if self.file_bytes is not None:
            out.append(["rest of the file", "", "", "", "", "", "", "", round(self.rest), ""])
        out.append(
            [
                "total",
                "",
                self.parameters,
                self.nonzeros,
                round(self.sparsity, 4),
                self.macs,
                self.effective_macs,
                "",
                *_size(self.bytes, self.parameters),
            ]
        )
        return out

    def summary(self) -> str:
        """Returns the totals in one line of words, with every figure that was taken."""
        said = [
            f"{self.parameters:,} parameters",
            f"{self.nonzeros:,} non-zero",
            f"{100 * self.left:.1f} % of the original's {self.original_numbers:,} numbers left",
            f"{self.macs:,} MACs",
            f"{self.effective_macs:,} effective",
        ]
        if self.ratio is None:
            said.append(f"{self.bytes:,.0f} bytes as float32")
        else:
            said.append(
                f"{self.file_bytes:,} bytes in the file, {times(self.ratio)}x smaller than "
                f"{self.dense_bytes:,}"
            )
        if self.error is not None:
            said.append(f"{self.errors:,} errors of {self.size:,} ({100 * self.error:.2f} %)")
        if self.flips is not None:
            said.append(f"{self.flips:,} predictions flipped, KL of the logits {self.kl:.3g} nats")
        if self.ms is not None:
            said.append(f"{self.ms:.3f} ms an image, as dense float32 {self.ms_dense:.3f} ms")
        return "; ".join(said)

    def parts(self) -> dict[str, float]:
        """Returns the bytes of the whole file (without one, of float32) by part."""
        return summed([*(row.bytes for row in self.layers), {"header": self.rest}])

    def to_dict(self) -> dict:
        """Returns everything as a JSON-able dict."""
        names = (
            "parameters",
            "nonzeros",
            "units",
            "left",
            "sparsity",
            "macs",
            "effective_macs",
            "dense_bytes",
            "file_bytes",
            "ratio",
            "rest",
            "errors",
            "size",
            "error",
            "flips",
            "kl",
            "ms",
            "ms_dense",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "layers": [{**asdict(row), "sparsity": row.sparsity} for row in self.layers],
        }


def passport(
    model: Model,
    *,
    path: str | Path | None = None,
    data=None,
    errors: int | None = None,
    against=None,
    timed: bool = True,
    run: Callable | None = None,
    n_threads: int = 1,
) -> Passport:
    """Returns what the model holds, costs and gets wrong.

    path : the .mcz file whose bytes are counted; None: no file, 4 bytes a number
    data : a Split; input zeros and errors are taken on it, and an image of it is timed
    errors : of data where they are known, to spare counting them
    against : the net it is compared with on data, such as the one that compression began with
    timed : whether milliseconds are measured; a short run of zeros stands in where data is None
    run : called with x (1, ...), what `ms` times; None: the plan of the model's program

    Raises FormatError where the file is damaged, OSError where it cannot be read.
    """
    from .train import evaluate

    shown = None if path is None else show(path)
    macs, effective = model.macs(), model.effective_macs()
    zeros = {} if data is None else input_zeros(model, data.x)
    by_layer = dense_parts(model) if shown is None else shown.by_layer()
    rows = tuple(
        _row(node, macs[node.name], effective[node.name], zeros.get(node.name), by_layer[node.name])
        for node in model.nodes
        if node.layer.forms or macs[node.name]
    )
    if data is not None and errors is None:
        errors = evaluate(model, data, n_threads=n_threads).errors
    found = None if data is None or against is None else agreement(model, against, data)
    ms = ms_dense = None
    if timed:
        x = np.zeros((1, *model.input_shape), np.float32) if data is None else data.x[:1]
        skips, multiplies = planned(model), planned(model, skip_zeros=False)
        ms, ms_dense = milliseconds(run or skips, multiplies, x)
    return Passport(
        rows,
        model.origin_bytes,
        None if shown is None else shown.file_bytes,
        by_layer[""]["header"],
        sum(a.size for a in model.buffers().values()),
        errors,
        None if data is None else len(data.y),
        None if found is None else found.flips,
        None if found is None else found.kl,
        ms,
        ms_dense,
    )


def stored_parts(model: Model) -> dict[str, dict[str, float]]:
    """Returns the bytes by layer and part of the file that the model would be saved as now."""
    return decode(encode(model)).by_layer()


def dense_parts(model: Model) -> dict[str, dict[str, float]]:
    """Returns the bytes by layer and part of raw float32: 4 bytes a number, no header."""
    out = {}
    for node in model.nodes:
        sizes = {name: 4.0 * math.prod(form.shape) for name, form in node.layer.forms.items()}
        out[node.name] = dict.fromkeys(FILE_PARTS, 0.0) | {
            "values": sum(n for name, n in sizes.items() if name != "bias"),
            "biases": sizes.get("bias", 0.0),
            "buffers": 4.0 * sum(a.size for a in node.layer.buffers.values()),
        }
    return out | {"": {"header": 0.0}}


def input_zeros(model: Model, x, *, limit: int = 1000, batch_size: int = 250) -> dict[str, float]:
    """Returns the fraction of exact zeros among the inputs of each node with weights, by name.

    x : (N, ...) float32, of which the first `limit` are run
    """
    wanted = {n.name: n.inputs for n in model.nodes if n.layer.forms}
    zeros, sizes = dict.fromkeys(wanted, 0), dict.fromkeys(wanted, 0)
    sources = {i for inputs in wanted.values() for i in inputs}
    for seen in observe(model, x[:limit], sources, batch_size=batch_size):
        for name, inputs in wanted.items():
            for a in (seen[source] for source in inputs):
                zeros[name] += a.size - int(np.count_nonzero(a))
                sizes[name] += a.size
    return {name: zeros[name] / max(sizes[name], 1) for name in wanted}


def milliseconds(run: Callable, other: Callable, x, *, seconds: float = 0.2) -> tuple[float, float]:
    """Returns the median time of run(x) and of other(x), called in turn, one BLAS thread.

    x : (1, ...) one image        seconds : how long the measurement lasts, about; at least 5 rounds
    """
    with no_grad(), blas(1):
        for call in (run, other, run, other):  # not counted: caches
            call(x)
        calls = {"run": lambda: run(x), "other": lambda: other(x)}
        taken = race(calls, seconds=seconds, least=5)
    return 1e3 * taken["run"], 1e3 * taken["other"]


def planned(net: Model | Program, *, skip_zeros: bool = True) -> Callable:
    """Returns what gives the logits of x (1, ...): the plan of the net's program.

    A net that cannot be lowered is called as it is, its weights decoded before.
    """
    if not isinstance(net, Model):
        return net.plan(skip_zeros=skip_zeros)
    try:
        return lower(net).plan(skip_zeros=skip_zeros)
    except ValueError:
        with no_grad():
            return functools.partial(net, weights=net.decode())


def _row(node, macs: int, effective: int, zeros: float | None, parts: dict[str, float]) -> LayerRow:
    forms = node.layer.forms
    counts = {name: (math.prod(f.shape), f.nonzeros()) for name, f in forms.items()}
    ranked = "weight" in forms and len(forms["weight"].shape) > 1
    weights, kept = counts["weight"] if ranked else (0, 0)
    return LayerRow(
        node.name,
        node.layer.kind,
        forms["weight"].shape[0] if ranked else 0,
        weights,
        kept,
        sum(n for n, _ in counts.values()),
        sum(k for _, k in counts.values()),
        macs,
        effective,
        zeros,
        parts,
    )


def _size(n: float, parameters: int) -> list:
    return [round(n), round(8 * n / parameters, 3) if parameters else ""]
