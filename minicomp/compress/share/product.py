"""Product and residual quantization of weights (Gong, Liu, Yang & Bourdev 2014, Compressing Deep
Convolutional Networks using Vector Quantization, arXiv 1412.6115; product quantization is of Jegou,
Douze & Schmid 2011, residual quantization of Chen, Guan & Wang 2010).

Where scalar k-means (kmeans.py) shares single numbers, vectors of numbers are shared here. W (O, I)
is cut into s blocks of d columns, W = [W^1 ... W^s]; the O rows of each block are clustered,

    min sum_i sum_z |w_z^i - c_j^i|^2,     W^ = [c_j(z,1)^1 ... c_j(z,s)^s]       (eqs. 5 and 6)

so a row is s codes of log2 k bits, and each block has a codebook of k vectors. With one block of
all columns and t stages of k-means, each of what the stages before leave, it is residual
quantization (eq. 7); here stages may go with blocks.

A codebook is as wide as the layer: O rows take

    bits = t (O s log2 k + 32 s k d),    t (O s log2 k + 32 k d) with one codebook for all blocks

so there is a number of rows below which nothing is saved (`product_break_even`), and on a small
layer `half` (codewords of 16 bits) or `shared` (one codebook for all blocks, as in Stock et al.
2020) is most of the gain. Centroids train on with the gradients of their members summed, as scalar
ones do; codes stay.

Where we leave the paper: I need not be a multiple of d, the last block is filled up with zeros that
are never read; `beam` and `rounds` are later additions (vectors.py), 1 and 0 are the paper; filters
of a convolution are rows of C KH KW columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..technique import knob
from .blocks import Search
from .vector_forms import VectorQuantizer, block_knob, half_knob, k_knob
from .vectors import VECTOR_INITS


@dataclass(frozen=True)
class ProductQuantization(VectorQuantizer):
    """Gives every layer codebooks of vectors, one for each block of its columns."""

    word: ClassVar[str] = "product"
    title: ClassVar[str] = "Product and residual quantization"
    source: ClassVar[str] = ("Gong, Liu, Yang & Bourdev 2014, Compressing Deep Convolutional "
                             "Networks using Vector Quantization, arXiv:1412.6115")

    block: int = block_knob(4)
    k: int = k_knob(16)
    stages: int = knob(1, "stages, of whose codewords a vector is the sum", lo=1, hi=64,
                       per_layer=True)
    shared: bool = knob(False, "one codebook for all blocks of a layer", per_layer=True)
    half: bool = half_knob()
    init: str = knob("k-means++", "where codewords start", choices=VECTOR_INITS)
    iterations: int = knob(100, "Lloyd's iterations at most", lo=0)
    beam: int = knob(8, "sums that are kept while the codes of several stages are looked for",
                     lo=1, hi=1024)
    rounds: int = knob(4, "rounds of codes and codewords in turn, after several stages", lo=0)

    def search(self):
        return Search(self.init, self.iterations, self.beam, self.rounds)

    def form(self, node, form, run):
        return self.product(node, form, run, stages=self.at("stages", node))
