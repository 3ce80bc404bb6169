"""Every integer of an integer program, for whoever checks hardware or a compiler against it.

For each instruction NAME, the arrays "NAME.WHAT":

| WHAT                            | is                                                             |
|---------------------------------|----------------------------------------------------------------|
| codes                           | its output, (N, C, H, W) or (N, D) uint8; none of int32 logits |
| accumulators                    | the sums before they are rounded, int32 (add: int64, float32   |
|                                 | under rule float)                                              |
| scale, zero_point, lo, hi       | of its codes, lo and hi for each channel; of logits the scale  |
| weight, weight_scale, bias, offset | of conv and linear: int8, float32, int32, int32             |
| multiplier, shift, factor       | M0, n and, for rule float, M; of add one for each input        |
| table, tables                   | uint8, the new code of each code                               |
| gain, bias                      | of input: float32, what pixels are multiplied by before        |

beside "input", the floats that went in, "logits", "rounding" and "zero_first". Of a binary program
also, and "logits" are the sums of the last layer:

| WHAT                            | is                                                             |
|---------------------------------|----------------------------------------------------------------|
| signs                           | the output as +1 and -1, int8, where it is bits                |
| accumulators                    | of products, of `sign` what it compares                        |
| weight, factor, gain, bias      | of products: int8; float32, y = (sum factor) gain + bias       |
| at, below                       | sign(y) = sum >= at, or sum <= at where below: int32, bool     |
| lowest                          | of or_pool: the channels whose least sign is taken             |
"""

from __future__ import annotations

import numpy as np

from ..kernels.bits.conv import conv_ref as signs_conv_ref
from ..kernels.int8.conv import conv_ref
from ..kernels.int8.gemm import gemm_ref
from ..kernels.int8.pool import sum_pool_ref
from ..kernels.int8.wiring import sums_ref
from ..kernels.layout import nchw, nhwc
from ..nn.graph import INPUT
from ..tensor import Array
from .grids import SIGNS, Grid
from .integer import Instruction


def traced(program, x: Array) -> dict[str, Array]:
    """Returns what the instructions of an integer program make of x, by names as above.

    program : of precision int8        x : (N, *input_shape)
    Sums are computed by the kernels' references, codes are those of the plan.
    Raises ValueError for a program of another precision, and an x of another shape.
    """
    if not program.integer:
        raise ValueError(f"a trace is of an integer program, got precision {program.precision}")
    x = np.asarray(x, np.float32)
    plan = program.plan(len(x))
    values, found = {}, {"input": x}
    for i, (name, y) in zip(program.instructions, plan.walk(x)):
        values[name] = y = plan.plain(name, y)
        said = _numbers(i)
        if i.grid is not None:
            said["signs" if i.grid is SIGNS else "codes"] = y
        sums = y if i.grid is None else _sums(i, [values[n] for n in i.inputs if n != INPUT])
        if sums is not None:
            said["accumulators"] = sums
        found |= {f"{name}.{what}": a for what, a in said.items()}
    return found | {"logits": plan.integers(x), "rounding": np.array(program.rounding),
                    "zero_first": np.array(program.zero_first)}


def _numbers(i: Instruction) -> dict[str, Array]:
    # The constants of an instruction, by what they are.
    said = {what: a for what, a in i.arrays.items() if isinstance(a, np.ndarray)}
    if "scale" in said:
        said["factor" if "gain" in said else "weight_scale"] = said.pop("scale")
    if "thresholds" in i.arrays:
        said |= {"at": i.arrays["thresholds"].at, "below": i.arrays["thresholds"].below}
    for rule in (i.arrays.get("requantizer"), i.arrays.get("adder")):
        if rule is not None:
            said |= {"multiplier": rule.m if hasattr(rule, "m") else rule.m0,
                     "shift": np.asarray(rule.shift), "factor": rule.factor}
    if not isinstance(i.grid, Grid):
        return said if i.scale is None else said | {"scale": i.scale}
    rule = i.arrays.get("requantizer", i.grid)
    return said | {"scale": np.asarray(i.grid.scale), "zero_point": np.int32(i.grid.zero_point),
                   "lo": np.asarray(rule.lo, np.uint8), "hi": np.asarray(rule.hi, np.uint8)}


def _sums(i: Instruction, xs: list[Array]) -> Array | None:
    # What is rounded to the codes of an instruction, from plain inputs.
    if i.kind == "sign":
        return xs[0]
    if i.kind == "xnor_linear":
        return gemm_ref(xs[0], i.arrays["weight"], np.int32(0))
    if i.kind == "xnor_conv":
        w = i.arrays["weight"].transpose(0, 2, 3, 1)
        return nchw(signs_conv_ref(nhwc(xs[0]), w, stride=i.args["stride"],
                                   padding=i.args["padding"]))
    if i.kind == "linear":
        return gemm_ref(xs[0], i.arrays["weight"], i.arrays["offset"])
    if i.kind == "conv":
        how = {k: i.args[k] for k in ("stride", "padding", "groups", "zero_point")}
        w = i.arrays["weight"].transpose(0, 2, 3, 1)
        return nchw(conv_ref(nhwc(xs[0]), w, i.arrays["offset"], **how))
    if i.kind == "avg_pool":
        return nchw(sum_pool_ref(nhwc(xs[0]), kernel=i.args["kernel_size"], **{
            k: i.args[k] for k in ("stride", "padding", "count", "zero_point")}))
    if i.kind == "add":
        return sums_ref(xs, i.arrays["adder"])
    return None
