"""Circulant layers (Cheng, Yu, Feris, Kumar, Choudhary & Chang 2015, "An Exploration of Parameter
Redundancy in Deep Networks with Circulant Projections", arXiv 1502.03436).

A fully connected layer has a number for each input in place of one for each weight: its matrix is
circulant, R, behind random signs D of the inputs, and by the convolution theorem it is never made:

    y = R D x = IFFT(FFT(r) FFT(D x))                                      d log d, not d^2, steps
    dL/dr = IFFT(FFT(dL/dy) conj(FFT(D x)))                                correlation

Of a layer with fewer outputs than inputs the first rows are kept, with more the inputs are filled
up with zeros. `block` = b cuts the matrix into blocks of b x b, each circulant: 1/b of the numbers
are stored, and b = 1 is the plain layer; 0 is one block, the paper's.

A net is trained in this form; or the weights that are there are projected: the circulant block
nearest to a matrix, by least squares, has the means of its wrapped diagonals.

Where we leave the paper: blocks are of later work (Ding et al. 2017, arXiv 1708.08917). Programs
multiply with the decoded matrix; `minicomp bench circulant` shows what the product by FFT takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.forms import Circulant
from ...nn.forms.circulant import blocks
from ...tensor import Array
from ..technique import knob, weights
from .in_form import InForm, seed_of


def circulant_product(x: Array, columns: Array, signs: Array, outputs: int, block: int) -> Array:
    """Returns y = R D x, (N, outputs) in x's dtype, by FFT.

    x : (N, I) float        columns : (P Q b,), see nn/forms/circulant.py        signs : (I,), D
    """
    spectrum = column_spectrum(columns, (outputs, x.shape[1]), block)
    return spectrum_product(x * signs.astype(x.dtype), spectrum, outputs, block)


def circulant_gradient(g: Array, x: Array, signs: Array, block: int) -> Array:
    """Returns dL/d(columns), (P Q b,) in x's dtype, by correlation.

    g : (N, O), dL/dy        x : (N, I)        signs : (I,), D
    """
    from scipy import fft

    seen = _spectrum(x * signs.astype(x.dtype), block)  # (F, N, Q)
    pulled = _spectrum(g, block)  # (F, N, P)
    found = np.matmul(pulled.transpose(0, 2, 1), seen.conj())  # (F, P, Q)
    return fft.irfft(found.transpose(1, 2, 0), block, axis=2).reshape(-1).astype(x.dtype)


def column_spectrum(columns: Array, shape: tuple[int, int], block: int) -> Array:
    """Returns FFT(r) of each block, complex (F, Q, P), F = b // 2 + 1: what a layer keeps ready.

    shape : (O, I)
    """
    from scipy import fft

    found = fft.rfft(columns.reshape(*blocks(shape, block), block), axis=2)  # (P, Q, F)
    return np.ascontiguousarray(found.transpose(2, 1, 0))


def spectrum_product(x: Array, spectrum: Array, outputs: int, block: int) -> Array:
    """Returns R x, (N, outputs), of a spectrum that `column_spectrum` made.   x : (N, I)"""
    from scipy import fft

    y = np.matmul(_spectrum(x, block), spectrum)  # (F, N, P)
    y = fft.irfft(y.transpose(1, 2, 0), block, axis=2)  # (N, P, b)
    return y.reshape(len(x), -1)[:, :outputs].astype(x.dtype, copy=False)


def _spectrum(x: Array, block: int) -> Array:
    # (N, n) -> (F, N, blocks), filled up with zeros
    from scipy import fft

    n = x.shape[1]
    filled = np.pad(x, ((0, 0), (0, -n % block))).reshape(len(x), -1, block)
    return fft.rfft(filled, axis=2).transpose(2, 0, 1)


@dataclass(frozen=True)
class CirculantLayers(InForm):
    """Trains fully connected layers as circulant matrices, or projects them to such."""

    word: ClassVar[str] = "circulant"
    title: ClassVar[str] = "Circulant projections"
    source: ClassVar[str] = (
        "Cheng, Yu, Feris, Kumar, Choudhary & Chang 2015, An Exploration of Parameter Redundancy "
        "in Deep Networks with Circulant Projections, arXiv:1502.03436"
    )

    block: int = knob(0, "rows of a circulant block, each stored as one of them; 0: one block is "
                         "the layer", lo=0, hi=2**20, per_layer=True)
    flips: bool = knob(True, "flip the signs of inputs at random, D", per_layer=True)
    seed: int = knob(0, "of the signs; layers have different ones made of it", lo=0, hi=2**32 - 1)

    def candidates(self, model):
        return {node: name for node, name in weights(model).items()
                if len(model.forms()[name].shape) == 2}

    def blank(self, node, number, shape):
        block = self.at("block", node) or max(shape)
        seed = seed_of(self.seed, number) if self.at("flips", node) else None
        P, Q = blocks(shape, block)
        return Circulant(np.zeros(P * Q * block, np.float32), shape, block, seed)
