"""Fully connected layers by their SVD (Denton, Zaremba, Bruna, LeCun & Fergus 2014, arXiv
1404.0736).

    W (O, C) ~ U_t S_t V_t'        m k numbers become t (m + k)        error^2 = sum_{i > t} sigma^2

The layer becomes two, C -> t without bias and t -> O. S is folded into both alike. It pays below
t = m k / (m + k), which is told beside every rank that is chosen; ranks are chosen as
`truncation.py` says. A large matrix of which few singular triplets are wanted is factored by random
projection, `method = randomized`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import UserError
from ..technique import knob
from .chains import is_linear
from .cuts import Cut
from .randomized import randomized_svd
from .truncation import Truncation
from .ways import LINEAR


@dataclass(frozen=True)
class SVD(Truncation):
    """Replaces fully connected layers by two of lower rank."""

    word: ClassVar[str] = "svd"
    title: ClassVar[str] = "Low rank of fully connected layers"
    source: ClassVar[str] = ("Denton, Zaremba, Bruna, LeCun & Fergus 2014, Exploiting Linear "
                             "Structure Within Convolutional Networks for Efficient Evaluation, "
                             "arXiv:1404.0736")

    method: str = knob("exact", "SVD of all singular values, or by random projection of as many as "
                                "a rank or ratio asks for", choices=("exact", "randomized"))
    oversample: int = knob(10, "method randomized: random directions beyond the rank", lo=0)
    power: int = knob(2, "method randomized: power steps", lo=0, hi=100)

    def __post_init__(self):
        super().__post_init__()
        if self.method == "randomized" and self.rank is None and self.ratio is None:
            raise UserError(f"{self.word}: method randomized takes a rank or a ratio, for what it "
                            "drops is not known")

    def way(self, node):
        return LINEAR if is_linear(node) else None

    def cuts(self, model, data, run):
        if self.method == "exact":
            return self.plain_cuts(model)
        found = {}
        for node in self.wanted(model):
            w = LINEAR.matrix(node.layer)[0]
            rank = self.rank_of_ratio(node) if self.rank is None else self.at("rank", node.name)
            factors = randomized_svd(w, min(rank, *w.shape), oversample=self.oversample,
                                     power=self.power, rng=run.rng)
            found[node.name] = Cut(node.layer, LINEAR, tuple(f[None] for f in factors),
                                   total=float((w * w).sum()))
        return found
