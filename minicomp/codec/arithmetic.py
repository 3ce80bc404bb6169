"""Arithmetic coding of bits whose probabilities are given: what the learnt layouts do, without what
they learn.

A message is a number in [0, 1). Each bit cuts the interval in which it lies, at the probability of
a 1; an interval of width 2^-b is named by b bits, and its width is the product of the
probabilities: -sum(log2 p) bits, to a byte or two. Integers stand for the interval, and settled
bytes leave it (kernels/coding/range_coder.py).

Source: Rissanen & Langdon 1979; Martin 1979
"""

from __future__ import annotations

import numpy as np

from ..kernels.coding.range_coder import Decoder, Encoder

Array = np.ndarray
ONE = 1 << 16  # of a probability


def encode_bits(bits: Array, p: Array) -> Array:
    """Returns the bytes of (N,) bits, uint8.

    bits : 0 or 1        p : (N,) integers in 1..65535, the probability of a 1 in 2^-16

    >>> encode_bits(np.array([0, 0, 1]), np.array([32768] * 3)).tolist()
    [192]
    """
    _check(p)
    coder = Encoder()
    for b, probability in zip(np.asarray(bits).tolist(), np.asarray(p).tolist(), strict=True):
        coder.bit(probability, b)
    return np.frombuffer(coder.finish(), np.uint8)


def decode_bits(data: Array, p: Array) -> Array:
    """Returns the bits, uint8 (N,), that encode_bits coded with the same probabilities.

    >>> decode_bits(np.array([192], np.uint8), np.array([32768] * 3)).tolist()
    [0, 0, 1]
    """
    _check(p)
    coder = Decoder(np.asarray(data, np.uint8).tobytes())
    return np.array([coder.bit(probability) for probability in np.asarray(p).tolist()], np.uint8)


def _check(p: Array) -> None:
    p = np.asarray(p)
    if p.ndim != 1 or p.dtype.kind not in "iu" or p.size and not 0 < p.min() <= p.max() < ONE:
        raise ValueError(f"p must be integers in [1, {ONE - 1}], with 1 axis, got {p!r:.80}")
