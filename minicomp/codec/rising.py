"""Rising float16 numbers, as a codebook's are: what their order says is not stored again.

    low     in ceil(log2(n + 1)) bits: how many of the n numbers are below 0; they come first
    mixed   1 bit: whether some are out of order, as training leaves them
    K       5 bits
    sides   those below 0 from the last to the first, then the others from the first on: the first
            magnitude in 15 bits, then each one's step from the one before, counted in float16
            numbers, less 1; where some are out of order, the step itself, 0, -1, 1, -2 as 0, 1, 2,
            3. Steps take a Rice code of parameter k = K - e between 0 and 12, where e, 0..31, is
            the exponent of the one before: numbers of even distance are half as many float16
            numbers apart from one power of 2 on
"""

from __future__ import annotations

import numpy as np

from ..errors import FormatError
from .bits import BitReader, BitWriter, bits_needed, unzigzag, zigzag

Array = np.ndarray
MOST = 256  # numbers
MAX_K = 12
INFINITY = 0x7C00


def fits(values: Array) -> bool:
    """Returns whether the values are float16, those below 0 before the others, without -0."""
    if values.dtype != np.float16 or values.ndim != 1 or not 2 <= len(values) <= MOST:
        return False
    negative = values.view(np.uint16) >> 15
    return bool((np.diff(negative.astype(int)) <= 0).all()) and not (
        values.view(np.uint16) == 0x8000).any()


def _sides(values: Array) -> tuple[list[int], list[int]]:
    # magnitudes as integers of those below 0, from the last, and of the others
    low = int(np.count_nonzero(values < 0))
    magnitudes = (values.view(np.uint16) & 0x7FFF).tolist()
    return magnitudes[:low][::-1], magnitudes[low:]


def _out_of_order(values: Array) -> bool:
    return any(m <= before for side in _sides(values) for before, m in zip(side, side[1:]))


def _parameter(K: int, before: int) -> int:
    return min(max(K - (before >> 10), 0), MAX_K)


def _steps(side: list[int], signed: bool, K: int):
    # (what stands for a step, its Rice parameter) of all numbers but the first
    for before, m in zip(side, side[1:]):
        yield int(zigzag(np.int64(m - before))) if signed else m - before - 1, _parameter(K, before)


def best(values: Array) -> tuple[int, int]:
    """Returns (K, bits) of the cheapest K."""
    signed, sides = _out_of_order(values), _sides(values)
    head = bits_needed(len(values) + 1) + 6 + 15 * sum(map(bool, sides))
    bits = [head + sum((step >> k) + 1 + k for side in sides for step, k in _steps(side, signed, K))
            for K in range(32)]
    return int(np.argmin(bits)), min(bits)


def write(w: BitWriter, values: Array, K: int) -> None:
    """Appends what `fits` allows."""
    below, above = _sides(values)
    signed = _out_of_order(values)
    w.write(len(below), bits_needed(len(values) + 1))
    w.write(signed, 1)
    w.write(K, 5)
    for side in (below, above):
        if side:
            w.write(side[0], 15)
        for step, k in _steps(side, signed, K):
            w.rice(np.array([step]), k)


def read(r: BitReader, n: int, part: str) -> Array:
    """Returns n rising numbers, float16; FormatError where they are not finite."""
    low, signed, K = r.read(bits_needed(n + 1)), r.read(1), r.read(5)
    if not 2 <= n <= MOST or low > n:
        raise FormatError(f"{part}: {low} of {n} rising numbers below 0 cannot be")
    below = [0x8000 | m for m in _read_side(r, low, signed, K)][::-1]
    bits = below + _read_side(r, n - low, signed, K)
    return np.array(bits, np.uint16).view(np.float16)


def _read_side(r: BitReader, n: int, signed: int, K: int) -> list[int]:
    side = [r.read(15)] if n else []
    while len(side) < n:
        step = r.rice(1, _parameter(K, side[-1]), 2 * INFINITY)[0]
        side.append(side[-1] + int(unzigzag(step) if signed else step + 1))
        if not 0 <= side[-1] < INFINITY:
            break
    if not all(0 <= m < INFINITY for m in side):
        raise FormatError("rising numbers must be finite")
    return side
