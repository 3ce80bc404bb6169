"""Forms: what is stored of a weight, and how it is decoded.

A weight or bias of a layer is always a form. Compression replaces one form by another; whoever
needs the numbers calls `dense()`, the file writes `stored()`, the optimizer moves `parameters()`,
and nothing else about a technique is known outside it.

| form     | stores                                             | dense()               |
|----------|----------------------------------------------------|-----------------------|
| Dense    | float32 values; with a mask the kept ones          | value, 0 where masked |
| Half     | float16 values                                     | cast to float32       |
| Codebook | an index a weight, k centroids (themselves a form) | centroids[index]      |
| Affine   | integers of 1..16 bits, scales, zero points        | scale (q - zero)      |
| FixedPoint | integers of il + fl bits                         | q 2^-fl               |

A further form is one file, which declares its parts (parts.py, base.py), and one line in FORMS.
"""

from .affine import Affine, FixedPoint
from .base import Form
from .codebook import Codebook
from .dense import Dense, Half
from .parts import MASK, Part, Setting, check_floats, code_dtype

FORMS: dict[str, type[Form]] = {
    "dense": Dense, "half": Half, "codebook": Codebook, "affine": Affine, "fixed": FixedPoint}

__all__ = ["Affine", "FORMS", "FixedPoint", "MASK", "Codebook", "Dense", "Form", "Half", "Part", "Setting", "check_floats",
           "code_dtype"]
