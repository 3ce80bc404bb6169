"""Energy of an image, *modelled*: counts times a published table. No meter has been read.

    E = multiplications * (e_mul + e_add) + words of the file * e_read

| 45 nm, 0.9 V                | pJ                                  |
|-----------------------------|-------------------------------------|
| float32                     | multiply 3.7, add 0.9               |
| integers                    | multiply 8 bits 0.2, add 32 bits 0.1 |
| read 64 bits                | 10 of 8 KiB, 20 of 32 KiB, 100 of 1 MiB on the chip |
|                             | 1,300 (to 2,600) of DRAM            |

Source: Horowitz 2014, Computing's energy problem (and what we can do about it), ISSCC, fig. 1.1.9

Counted: multiplications by weights that are not 0, each with its addition, and one reading of the
whole file an image, from the smallest of these memories that holds it. Not counted: decoding the
file, values between layers, biases, activations, pools and norms, instructions, clocks, leakage,
and weights that are read again. Codes of fewer than 8 bits are multiplied as 8; the table has no
product of single bits, so that a binary program has no figure.
"""

from __future__ import annotations

import math

from .deploy import Program
from .deploy.program import INTEGERS
from .nn.graph import Model

FLOAT = 3.7 + 0.9  # pJ: float32 multiply and add
INTEGER = 0.2 + 0.1  # pJ: 8-bit multiply, addition to a sum of 32 bits
READ = ((8 << 10, 10.0), (32 << 10, 20.0), (1 << 20, 100.0), (math.inf, 1300.0))  # pJ of 64 bits
NOTE = ("uJ are modelled, not measured: multiplications and additions of an image, and one reading "
        "of the file, at 45 nm (Horowitz, ISSCC 2014); decoding, values between layers, "
        "instructions and leakage are not counted; of products of bits the table says nothing")


def modelled(net: Model | Program, file_bytes: int) -> float | None:
    """Returns microjoules an image takes by the table; None of a binary program.

    >>> from minicomp.models import LeNet300
    >>> round(modelled(LeNet300(), 0), 3)  # all of its weights are 0
    0.0
    """
    found = products(net)
    if found is None:
        return None
    floats, integers = found
    return 1e-6 * (FLOAT * floats + INTEGER * integers + reading(file_bytes))


def reading(file_bytes: int) -> float:
    """Returns pJ of reading a file once, from the smallest memory that holds it.

    >>> reading(8 << 10), reading(1 << 21)
    (10240.0, 340787200.0)
    """
    each = next(pj for size, pj in READ if file_bytes <= size)
    return math.ceil(file_bytes / 8) * each


def products(net: Model | Program) -> tuple[int, int] | None:
    """Returns (float32, integer) multiplications of an image by weights that are not 0; None where
    they are of bits.

    A model is multiplied in float32, whatever its forms store: `lower` makes integer programs.
    """
    if isinstance(net, Model):
        return sum(net.effective_macs().values()), 0
    if net.precision == "binary":
        return None
    counts, shapes = [0, 0], net.shapes()
    for step in net.steps:
        if (weight := step.weights.get("weight")) is not None:
            whole = net.precision == "int8" or (
                net.precision == "int8-dynamic" and isinstance(weight, INTEGERS))
            seen, made = (math.prod(shapes[n][1:]) for n in (step.inputs[0], step.name))
            counts[whole] += weight.multiplications(seen, made)
    return counts[0], counts[1]
