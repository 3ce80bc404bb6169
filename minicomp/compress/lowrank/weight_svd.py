"""Convolutions by the SVD of their filters (Denton, Zaremba, Bruna, LeCun & Fergus 2014, arXiv
1404.0736; Zhang, Zou, He & Sun 2016, arXiv 1505.06798).

The O filters of C h w numbers are the rows of a matrix. Of rank t they are sums of t filters:

    conv (O, C, h, w)        becomes        conv (t, C, h, w), then 1 x 1 (O, t) with the bias

The stride and padding are those of the first; the second sees each place alone. A convolution in
groups is factored group by group. Ranks are chosen as `truncation.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .chains import is_conv
from .truncation import Truncation
from .ways import WEIGHT


@dataclass(frozen=True)
class WeightSVD(Truncation):
    """Replaces convolutions by fewer filters and a 1 x 1 convolution."""

    word: ClassVar[str] = "weight-svd"
    title: ClassVar[str] = "Low rank of filters"
    source: ClassVar[str] = ("Denton, Zaremba, Bruna, LeCun & Fergus 2014, Exploiting Linear "
                             "Structure Within Convolutional Networks for Efficient Evaluation, "
                             "arXiv:1404.0736")

    def way(self, node):
        return WEIGHT if is_conv(node) else None
