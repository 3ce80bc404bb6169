"""Forms: what is stored of a weight, and how it is decoded.

A weight or bias of a layer is always a form. Compression replaces one form by another; whoever
needs the numbers calls `dense()`, the file writes `stored()`, the optimizer moves `parameters()`,
and nothing else about a technique is known outside it.

| form           | stores                                             | dense()               |
|----------------|----------------------------------------------------|-----------------------|
| Dense          | float32 values; with a mask the kept ones          | value, 0 where masked |
| Half, BFloat16 | values of 16 bits                                  | cast to float32       |
| Codebook       | an index a weight, k centroids (themselves a form) | centroids[index]      |
| Affine         | integers of 1..16 bits, scales, zero points        | scale (q - zero)      |
| FixedPoint     | integers of il + fl bits                           | q 2^-fl               |
| Powers         | an exponent: the table of a codebook               | 0, +-2^top, ...       |
| AdditivePowers | a scale: the table of a codebook                   | sums of powers of two |
| Wavelet        | coefficients (themselves a form)                   | inverse transform     |
| Segments       | lengths of runs, a value each (themselves a form)  | runs of one value     |
| Binary         | a bit a weight and basis, scales                   | sum of alpha_i sign_i |
| Ternary        | -1, 0, +1, two scales or one                       | Wp, 0 or -Wn          |
| Hashed         | buckets (themselves a form), a seed                | +-buckets[h(p)]       |

A further form is one file, which declares its parts (parts.py, base.py), and one line in FORMS.
"""

from .affine import Affine, FixedPoint
from .base import Form
from .binary import Binary, Ternary
from .codebook import Codebook
from .dense import BFloat16, Dense, Half
from .hashed import Hashed
from .levels import AdditivePowers, Powers
from .parts import BFLOAT16, MASK, Part, Setting, check_floats, code_dtype
from .segments import Segments
from .wavelet import Wavelet

FORMS: dict[str, type[Form]] = {cls.kind: cls for cls in (
    Dense, Half, Codebook, Affine, FixedPoint, BFloat16, Powers, AdditivePowers,
    Wavelet, Segments, Binary, Ternary, Hashed)}

__all__ = ["AdditivePowers", "Affine", "BFLOAT16", "BFloat16", "Binary", "Codebook", "Dense",
           "FORMS", "FixedPoint", "Form", "Half", "Hashed", "MASK", "Part", "Powers", "Segments",
           "Setting", "Ternary", "Wavelet", "check_floats", "code_dtype"]
