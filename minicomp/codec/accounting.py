"""Where the bytes of a file went."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..deploy import Program
from ..errors import UserError
from ..nn.graph import Model

# Where the bytes of a form go, and those of a file, in which a layer's biases are a part.
PARTS = ("values", "index", "codebook", "tables", "header")
FILE_PARTS = ("values", "index", "codebook", "tables", "biases", "buffers", "header")


ORIGIN = 2**16  # times its own size that a model may once have had


def most_origin(dense_bytes: int) -> int:
    """Returns the largest believable `origin` of what takes so many bytes as dense float32."""
    return ORIGIN * max(dense_bytes, 4)


def check_origin(origin: int, dense_bytes: int) -> None:
    """Raises UserError for an origin that a reader would not believe."""
    if not 4 <= origin <= most_origin(dense_bytes):
        raise UserError(f"origin_bytes must be in [4, {most_origin(dense_bytes)}], got {origin}")


@dataclass
class Row:
    """Where the bytes of one form went.

    name : "fc1.weight"        form : its kind        kept : numbers in its mask
    how : layout and its parameter in words        parts : bytes by part, multiples of 1/8
    """

    name: str
    form: str
    shape: tuple[int, ...]
    kept: int
    how: str
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        return sum(self.parts.values())


@dataclass
class Shown:
    """Where the bytes of a file went: forms, running statistics, and what belongs to neither.

    origin_bytes : of the dense float32 model that compression started from
    rows : one a form        buffers : bytes of the running statistics
    rest : bytes of "architecture" and "envelope"        model : what the file holds, or a program;
        without nodes for a file of arrays
    """

    file_bytes: int
    origin_bytes: int
    rows: list[Row]
    buffers: int
    rest: dict[str, int]
    model: Model | Program

    @property
    def ratio(self) -> float:
        return self.origin_bytes / self.file_bytes

    def by_layer(self) -> dict[str, dict[str, float]]:
        """Returns the bytes by layer and part; "" holds those that belong to no layer.

        A layer's biases are one part; the parts of all layers and of "" sum to file_bytes.
        """
        program = isinstance(self.model, Program)
        layers = self.model.steps if program else self.model.nodes
        out = {layer.name: dict.fromkeys(FILE_PARTS, 0.0) for layer in layers}
        for row in self.rows:
            layer, _, form = row.name.rpartition(".")
            out.setdefault(layer, dict.fromkeys(FILE_PARTS, 0.0))
            for part, n in row.parts.items():
                out[layer]["biases" if form == "bias" else part] += n
        statistics = self.model.buffers() if isinstance(self.model, Model) else {}
        numbers = sum(a.size for a in statistics.values())
        for name, a in statistics.items():  # they share one section: charged by their numbers
            out[name.rsplit(".", 1)[0]]["buffers"] += self.buffers * a.size / numbers
        out[""] = {"header": float(sum(self.rest.values()))}
        return out

    def parts(self) -> dict[str, float]:
        """Returns the bytes of the whole file by part; they sum to file_bytes."""
        return summed(self.by_layer().values()) | {"buffers": float(self.buffers)}


def times(ratio: float) -> str:
    """Returns how many times smaller something is, in the same three digits everywhere.

    >>> [times(r) for r in (1.04, 2.549, 43.21, 172.6, 2034)]
    ['1.04', '2.55', '43.2', '173', '2,034']
    """
    return f"{ratio:,.{0 if ratio >= 99.95 else 1 if ratio >= 9.995 else 2}f}"


def summed(layers: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Returns the bytes of several layers by part, as in FILE_PARTS."""
    total = dict.fromkeys(FILE_PARTS, 0.0)
    for parts in layers:
        for part, n in parts.items():
            total[part] += n
    return total
