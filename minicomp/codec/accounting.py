"""Where the bytes of a file went."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..nn.graph import Model

PARTS = ("values", "index", "codebook", "tables", "header")  # where the bytes of a form go


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
    rest : bytes of "architecture" and "envelope"        model : what the file holds
    """

    file_bytes: int
    origin_bytes: int
    rows: list[Row]
    buffers: int
    rest: dict[str, int]
    model: Model

    @property
    def ratio(self) -> float:
        return self.origin_bytes / self.file_bytes

    def parts(self) -> dict[str, float]:
        """Returns the bytes of the whole file by part, biases apart; they sum to file_bytes."""
        total = dict.fromkeys((*PARTS[:-1], "biases", "buffers", "header"), 0.0)
        for row in self.rows:
            for part, n in row.parts.items():
                total["biases" if row.name.endswith(".bias") else part] += n
        total["buffers"] += self.buffers
        total["header"] += sum(self.rest.values())
        return total
