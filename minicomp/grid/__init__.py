"""Grids of numbers and rounding onto them: the only rounding code.

| file         | grid                                                                  |
|--------------|-----------------------------------------------------------------------|
| floats.py    | IEEE half, bfloat16                                                   |
| minifloat.py | floats of 4 to 8 bits                                                 |
| affine.py    | scale (q - zero_point), q integers of 1 to 16 bits                    |
| fixed.py     | two's complement with a fixed point, nearest and stochastic rounding  |
| uniform.py   | n levels or n cells of an interval; sign-magnitude, two's complement  |
| powers.py    | powers of two, and sums of a few                                      |
| signs.py     | +-1, and -1, 0, +1                                                    |
| blocks.py    | blocks that share a scale, as bytes in the layouts of today's tools   |

Rounding has slope 0 almost everywhere. Each primitive here says what it passes back instead: in
training the cotangent as it is (the straight-through estimator, Bengio et al. 2013, arXiv
1308.3432), where the grid ends often 0.
"""

from .affine import (GRIDS, affine_params, code_range, dequantize, fake_quantize, lsq_quantize,
                     pact_quantize, quantize, symmetric_scale)
from .fixed import fixed_point, round_fixed
from .floats import bfloat16_bits, bfloat16_of, round_bfloat16, round_half
from .powers import additive_codes, additive_levels, ap2, power_codes, power_levels
from .signs import (binarize, drawn_sign, hard_sign, shifted_sign, stochastic_signs,
                    ternary_codes)

__all__ = ["GRIDS", "additive_codes", "additive_levels", "affine_params", "ap2", "bfloat16_bits",
           "bfloat16_of", "binarize", "code_range", "dequantize", "drawn_sign", "fake_quantize",
           "fixed_point", "hard_sign", "lsq_quantize", "pact_quantize", "power_codes",
           "power_levels", "quantize", "round_bfloat16", "round_fixed", "round_half",
           "shifted_sign", "stochastic_signs", "symmetric_scale", "ternary_codes"]
