"""Writes golden_blocks.npz: what gguf 0.19.0, ml_dtypes 0.6.0, bitsandbytes 0.50.2 and torchao
0.18.0 give.

    pip install gguf==0.19.0 ml_dtypes==0.6.0 bitsandbytes==0.50.2 torchao==0.18.0 \
                torch==2.13.0 numpy==2.4.6
    python golden_blocks.py

Weights are written beside the bytes: Gaussian ones in float16 precision, of several sizes, a row of
multiples of a quarter (ties), a row of zeros, a row of one sign.
"""

from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from gguf import GGMLQuantizationType
from torchao.prototype.mx_formats.mx_tensor import to_mx
from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize, per_tensor_amax_to_scale

FLOATS = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e3m2": "float6_e3m2fn",
          "e2m3": "float6_e2m3fn", "e2m1": "float4_e2m1fn", "e8m0": "float8_e8m0fnu"}


def weights():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 256)) * np.array([1, 0.05, 30, 1e-3, 2e-6, 1, 1, 0.05])[:, None]
    x[5] = np.rint(4 * x[5]) / 4
    x[6] = 0
    x[7] = 0.02 + abs(x[7])
    return x.astype(np.float32)


def main():
    x, found = weights(), {}
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        for name, theirs in FLOATS.items():
            dtype = getattr(ml_dtypes, theirs)
            found[f"{name}.of_half"] = halves.astype(dtype).view(np.uint8)
            codes = np.arange(2**ml_dtypes.finfo(dtype).bits, dtype=np.uint8)
            found[f"{name}.values"] = codes.view(dtype).astype(np.float32)
    for name in ("q4_0", "q8_0", "mxfp4"):
        kind = getattr(GGMLQuantizationType, name.upper())
        found[name] = gguf.quantize(x, kind)
        found[f"{name}.values"] = gguf.dequantize(found[name], kind)
    raw = np.random.default_rng(1).integers(0, 256, (8, 72), dtype=np.uint8)
    raw.reshape(8, 2, 36)[..., :4] %= 0x7F
    found["nvfp4"] = raw
    found["nvfp4.values"] = gguf.dequantize(raw, GGMLQuantizationType.NVFP4).astype(np.float32)
    codes, state = quantize_4bit(torch.tensor(x), blocksize=64, quant_type="nf4")
    found["nf4"], found["nf4.peaks"] = codes.numpy().ravel(), state.absmax.numpy()
    found["nf4.values"] = dequantize_4bit(codes, state).numpy()
    y = np.random.default_rng(2).standard_normal((4, 256)) * np.array([1, 0.1, 3, 1])[:, None]
    y[3] = np.rint(8 * y[3]) / 8
    found["torchao.x"] = y = y.astype(np.float32)
    tensor = per_tensor_amax_to_scale(torch.tensor(y).abs().max())
    scales, codes = to_mx(torch.tensor(y), torch.float4_e2m1fn_x2, 32)
    found["torchao.mxfp4.scales"] = scales.view(torch.uint8).numpy()
    found["torchao.mxfp4.pairs"] = codes.view(torch.uint8).numpy()
    scales, *_, codes = nvfp4_quantize(torch.tensor(y), 16, tensor)
    found["torchao.nvfp4.scales"] = scales.view(torch.uint8).numpy()
    found["torchao.nvfp4.pairs"] = codes.view(torch.uint8).numpy()
    found["torchao.nvfp4.tensor"] = tensor.numpy()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), x=x, **found)


main()
