"""Blocks of weights that share a scale, as bytes in the layouts of today's tools.

| kind   | weights | bytes of a block                           | scale                       |
|--------|---------|--------------------------------------------|-----------------------------|
| q8_0   | 32      | float16 step, 32 int8                      | max |x| / 127               |
| q4_0   | 32      | float16 step, 16 x 2 codes                 | extreme / -8, with its sign |
| mxfp4  | 32      | e8m0, 16 x 2 e2m1                          | 2^(floor(log2 max |x|) - 2) |
| mxint8 | 32      | e8m0, 32 int8 of step 2^-6                 | 2^floor(log2 max |x|)       |
| nvfp4  | 4 of 16 | 4 e4m3, 4 x 8 x 2 e2m1; a float32 a tensor | max |x| / 6 / tensor scale  |
| nf4    | 64      | 2 codes a byte; a float32 a block beside   | max |x|                     |

Two codes a byte: of q4_0, mxfp4 and nvfp4 the first half of a block in the lower four bits, the
second half in the upper ones (gguf); of nf4 neighbours, the first in the upper ones (bitsandbytes).

Codes are chosen from the step that is stored, half to even: so `like=None`. `like="gguf"` gives
the bytes of gguf 0.19.0, which chooses them from the float32 step and stores another: its q8_0
ties go away from 0, q4_0 ties to the higher code (so that they flip with the sign of the block's
extreme), mxfp4 ties to the smaller magnitude. Scales and codes of mxfp4 and nvfp4, like=None, are
those of torchao 0.18.0, which lays them out otherwise and lifts a subnormal scale to 2^-6. nf4 is
bitsandbytes 0.50.2 in every bit: x (1 / peak), ties to the lower level.

A float16 step below 6.1e-5 (a block of peak about 0.0078 in q8_0, 0.00049 in q4_0) is subnormal:
it has fewer digits, and below 3e-8 none. That, and an e4m3 scale below 2^-6, is a warning. A block
of one sign or of one value is one like others.
Sources: gguf 0.19.0; OCP Microscaling Formats (MX) 1.0, sections 5, 6; Dettmers et al. 2023, QLoRA,
arXiv 2305.14314, section 3 (nf4); NVIDIA's NVFP4
"""

from __future__ import annotations

import warnings

import numpy as np

from ..tensor import Array
from .minifloat import minifloat_decode, minifloat_encode

GGUF = (None, "gguf")
TINY_HALF = np.float32(2.0**-14)  # float16 is subnormal below it, e4m3 below TINY_E4M3
TINY_E4M3 = np.float32(2.0**-6)
NF4 = np.array([  # quantiles of a Gaussian, scaled to [-1, 1]: 8 below 0, 0, 7 above
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0], np.float32)


# ------------------------------------------------------------------------------------------ q8_0


def q8_0_encode(x: Array, *, like: str | None = None) -> Array:
    """Returns the blocks of 32 weights, uint8 (..., n / 32 * 34).

    x : (..., n) float, finite; rounded to float32        like : None or "gguf", see above
    Raises ValueError where n is no multiple of 32, for NaN and infinity, and where a step leaves
    float16 (a peak above 8.3e6).
    """
    blocks = _blocks(x, 32, like)
    peak = np.abs(blocks).max(axis=-1, keepdims=True)
    step = peak / np.float32(127)
    half = _half_step("q8_0", step)
    if like == "gguf":
        t = blocks * _reciprocal(step)
        q = np.sign(t) * np.floor(np.abs(t) + np.float32(0.5))
    else:
        q = np.clip(np.rint(_over(blocks, half.astype(np.float32))), -127, 127)
    return _joined(half.view(np.uint8), q.astype(np.int8).view(np.uint8))


def q8_0_decode(data: Array) -> Array:
    """Returns the weights of q8_0 blocks, float32; data : uint8 (..., k 34), errors ValueError."""
    half, q = _split(data, 34, 2)
    return _weights(half.view(np.float16).astype(np.float32) * q.view(np.int8))


# ------------------------------------------------------------------------------------------ q4_0


def q4_0_encode(x: Array, *, like: str | None = None) -> Array:
    """Returns the blocks of 32 weights, uint8 (..., n / 32 * 18).

    The step is extreme / -8, so that the weight of largest magnitude has code 0, which is -8 steps.
    x, like, errors : as of `q8_0_encode`, a peak above 5.2e5
    """
    blocks = _blocks(x, 32, like)
    at = np.abs(blocks).argmax(axis=-1, keepdims=True)
    step = np.take_along_axis(blocks, at, axis=-1) / np.float32(-8)
    half = _half_step("q4_0", step)
    if like == "gguf":
        q = np.trunc(blocks * _reciprocal(step) + np.float32(8.5))
    else:
        q = np.rint(_over(blocks, half.astype(np.float32))) + 8
    return _joined(half.view(np.uint8), _paired(np.clip(q, 0, 15).astype(np.uint8)))


def q4_0_decode(data: Array) -> Array:
    """Returns the weights of q4_0 blocks, float32; data : uint8 (..., k 18), errors ValueError."""
    half, pairs = _split(data, 18, 2)
    q = _unpaired(pairs).astype(np.float32) - 8
    return _weights(half.view(np.float16).astype(np.float32) * q)


# ----------------------------------------------------------------------------- mxfp4 and mxint8


def mxfp4_encode(x: Array, *, like: str | None = None) -> Array:
    """Returns the blocks of 32 weights, uint8 (..., n / 32 * 17).

    A peak between 6 and 8 times its scale saturates at 6, as MX 1.0 has it. Scales stay within
    2^-127..2^127; a block of zeros has the least.
    x : (..., n) float, finite; rounded to float32        like : None or "gguf", which takes log2 in
        float32: a peak a few ulp below a power of two counts as that
    Raises ValueError where n is no multiple of 32, for NaN and infinity.
    """
    blocks = _blocks(x, 32, like)
    e = _shared_exponent(blocks, 2, like)
    if like == "gguf":  # the nearest of twice the levels, times half the scale
        levels = 2 * minifloat_decode(np.arange(16), "e2m1")
        scale = np.ldexp(np.float32(1), e.astype(np.int32) - 128)[..., None]
        q = np.abs(scale * levels - blocks[..., None]).argmin(axis=-1).astype(np.uint8)
    else:
        q = minifloat_encode(np.ldexp(blocks.astype(np.float64), 127 - e.astype(np.int32)), "e2m1",
                             saturate=True)
    return _joined(e, _paired(q))


def mxfp4_decode(data: Array) -> Array:
    """Returns the weights of mxfp4 blocks, float32; data : uint8 (..., k 17). ValueError for other
    lengths, and for a scale that is NaN."""
    e, pairs = _split(data, 17, 1)
    return _weights(_mx_scale(e) * minifloat_decode(_unpaired(pairs), "e2m1"))


def mxint8_encode(x: Array) -> Array:
    """Returns the blocks of 32 weights, uint8 (..., n / 32 * 33): a scale, then int8 / 64.

    Codes are -127..127: MX 1.0 leaves -128 to the implementation. A peak above 127/64 of its scale
    saturates.
    x, errors : as of `mxfp4_encode`
    """
    blocks = _blocks(x, 32)
    e = _shared_exponent(blocks, 0)
    q = np.rint(np.ldexp(blocks.astype(np.float64), 127 + 6 - e.astype(np.int32)))
    return _joined(e, np.clip(q, -127, 127).astype(np.int8).view(np.uint8))


def mxint8_decode(data: Array) -> Array:
    """Returns the weights of mxint8 blocks, float32; data : uint8 (..., k 33). ValueError for other
    lengths, and for a scale that is NaN."""
    e, q = _split(data, 33, 1)
    return _weights(_mx_scale(e) * (q.view(np.int8) / np.float32(64)))


def _shared_exponent(blocks: Array, largest: int, like: str | None = None) -> Array:
    # e8m0 (..., 1): floor(log2 max |x|) less the exponent of the elements' largest; MX 1.0, 6.3
    peak = np.abs(blocks).max(axis=-1, keepdims=True)
    if like == "gguf":
        with np.errstate(divide="ignore"):
            e = np.where(peak > 0, np.floor(np.log2(peak)), -127.0)
    else:
        e = np.where(peak > 0, np.frexp(peak)[1] - 1, -127)
    return np.clip(e - largest + 127, 0, 254).astype(np.uint8)


def _mx_scale(e: Array) -> Array:
    if (e == 255).any():
        raise ValueError("data must have scales that are numbers, got NaN (255)")
    return minifloat_decode(e, "e8m0")


# ----------------------------------------------------------------------------------------- nvfp4


def nvfp4_encode(x: Array) -> tuple[Array, Array]:
    """Returns (blocks uint8 (..., n / 64 * 36), the tensor's scale, float32 of shape ()).

        tensor = max |x| / (6 * 448)        block = e4m3(max |x_block| / 6 / tensor)
        code = e2m1(x / (tensor block)), both as stored

    Four blocks of 16 stand together: their four scales, then their codes.
    x : (..., n) float, finite; rounded to float32        Raises ValueError where n is no multiple
    of 64, for NaN and infinity.
    """
    blocks = _blocks(x, 16)
    if blocks.shape[-2] % 4:
        raise ValueError(f"x must have a multiple of 64 weights in a row, got {np.shape(x)[-1]}")
    peak = np.abs(blocks).max(axis=-1, keepdims=True)
    tensor = np.float32(peak.max(initial=0) / (6 * 448.0))
    wanted = _over(peak / np.float32(6), tensor)
    block = minifloat_encode(wanted, "e4m3", saturate=True)
    _warn("nvfp4", (0 < wanted) & (wanted < TINY_E4M3), "scale is subnormal in e4m3")
    scale = tensor * minifloat_decode(block, "e4m3")
    q = minifloat_encode(_over(blocks, scale), "e2m1", saturate=True)
    four = (*blocks.shape[:-2], -1, 4)
    return _joined(block.reshape(four), _paired(q).reshape(*four[:-1], 32)), np.asarray(tensor)


def nvfp4_decode(data: Array, tensor: Array) -> Array:
    """Returns the weights, float32; data : uint8 (..., k 36), tensor : a number. ValueError for
    other lengths, and for a scale that is NaN or below 0."""
    block, pairs = _split(data, 36, 4)
    if (block >= 0x7F).any():
        raise ValueError("data must have scales that are numbers of at least 0")
    values = minifloat_decode(_unpaired(pairs.reshape(*block.shape, 8)), "e2m1")
    values = minifloat_decode(block, "e4m3")[..., None] * values  # exactly
    return _weights(np.float32(tensor) * values.reshape(*block.shape[:-1], 64))


# ------------------------------------------------------------------------------------------- nf4


def nf4_encode(x: Array, *, block: int = 64) -> tuple[Array, Array]:
    """Returns (codes uint8 (n / 2,), peaks float32 (n / block,)) of all weights in C order.

    A code is that of the level of NF4 nearest to x (1 / peak). The peaks are kept as float32:
    QLoRA's second quantization, of the peaks, is another matter.
    x : float, finite; rounded to float32        block : weights of a peak, an even number
    Raises ValueError where the weights are no multiple of `block`, for NaN and infinity.
    """
    if block < 2 or block % 2:
        raise ValueError(f"block must be an even number of at least 2, got {block}")
    blocks = _blocks(np.asarray(x).reshape(-1), block)
    peak = np.abs(blocks).max(axis=-1, keepdims=True)
    t = np.clip(blocks * (np.float32(1) / np.maximum(peak, np.float32(1e-38))), -1, 1)
    q = np.searchsorted(NF4_EDGES, t.reshape(-1)).astype(np.uint8)
    return q[::2] << 4 | q[1::2], peak.reshape(-1)


def nf4_decode(codes: Array, peaks: Array) -> Array:
    """Returns the weights, float32 (n,); arguments as `nf4_encode` gives them, ValueError for
    lengths that do not fit together."""
    codes, peaks = np.asarray(codes, np.uint8).reshape(-1), np.asarray(peaks, np.float32)
    if not peaks.size or 2 * codes.size % peaks.size:
        raise ValueError(f"codes must be of equal blocks, got {2 * codes.size} for {peaks.size}")
    q = np.stack([codes >> 4, codes & 15], axis=1)
    return (NF4[q].reshape(peaks.size, -1) * peaks.reshape(-1, 1)).reshape(-1)


NF4_EDGES = (NF4[1:] + NF4[:-1]) / np.float32(2)


# ----------------------------------------------------------------------------- what they all do


def _blocks(x: Array, size: int, like: str | None = None) -> Array:
    # float32 (..., n / size, size)
    if like not in GGUF:
        raise ValueError(f"like must be None or 'gguf', got {like!r}")
    with np.errstate(over="ignore"):
        x = np.asarray(x).astype(np.float32)
    if not np.isfinite(x).all():
        raise ValueError("x must be finite in float32, got NaN or infinity")
    if x.ndim < 1 or x.shape[-1] % size or not x.size:
        raise ValueError(f"x must have a multiple of {size} weights in a row, got shape {x.shape}")
    return x.reshape(*x.shape[:-1], -1, size)


def _half_step(kind: str, step: Array) -> Array:
    # The step as float16; a step that is not 0 may become 0 there.
    with np.errstate(over="ignore"):
        half = step.astype(np.float16)
    if np.isinf(half).any():
        raise ValueError(f"x must fit {kind}, whose float16 step ends at 65504, "
                         f"got a step of {np.abs(step).max():g}")
    _warn(kind, (step != 0) & (np.abs(step) < TINY_HALF), "step is subnormal in float16")
    return half


def _warn(kind: str, few_digits: Array, what: str) -> None:
    if few_digits.any():
        warnings.warn(f"{kind}: of {few_digits.sum()} of {few_digits.size} blocks the {what}: it "
                      "has few digits or none", stacklevel=4)


def _over(x: Array, scale: Array) -> Array:
    # x / scale, 0 where the scale is 0
    return np.divide(x, scale, out=np.zeros_like(x), where=scale != 0)


def _reciprocal(step: Array) -> Array:
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(step == 0, np.float32(0), 1 / step)


def _paired(q: Array) -> Array:
    # two codes a byte, the second half of a block in the upper bits
    half = q.shape[-1] // 2
    return q[..., :half] | q[..., half:] << 4


def _unpaired(pairs: Array) -> Array:
    return np.concatenate([pairs & 15, pairs >> 4], axis=-1)


def _joined(scale: Array, codes: Array) -> Array:
    data = np.concatenate([scale, codes], axis=-1)
    return data.reshape(*data.shape[:-2], -1)


def _split(data: Array, size: int, head: int) -> tuple[Array, Array]:
    # (scales, codes) of blocks of so many bytes
    data = np.asarray(data)
    if data.dtype != np.uint8 or data.ndim < 1 or data.shape[-1] % size or not data.size:
        raise ValueError(f"data must be uint8 with a multiple of {size} bytes in a row, got "
                         f"{data.dtype} of shape {data.shape}")
    blocks = data.reshape(*data.shape[:-1], -1, size)
    return np.ascontiguousarray(blocks[..., :head]), np.ascontiguousarray(blocks[..., head:])


def _weights(blocks: Array) -> Array:
    return blocks.reshape(*blocks.shape[:-2], -1)
