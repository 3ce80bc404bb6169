import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.int8.outputs import to_floats, to_floats_ref

isa = pytest.mark.parametrize("isa", cpu.available("int8"))


@isa
@pytest.mark.parametrize("clamp", [(), (0.0,), (0.0, 6.0), (-1.5, 2)])
def test_numbers_have_the_same_bits_on_every_rung(isa, clamp):
    rng = np.random.default_rng(0)
    for shape in ((0, 5), (1, 1), (3, 16), (7, 65), (2, 3, 4, 20), (129,)):
        acc = rng.integers(-2**31, 2**31, shape).astype(np.int32)
        scale = (rng.normal(size=shape[-1]) * 4e-9).astype(np.float32)
        bias = rng.normal(size=shape[-1]).astype(np.float32)
        wanted = to_floats_ref(acc, scale, bias, *clamp)
        for n_threads in (1, 2):
            got = to_floats(acc, scale, bias, *clamp, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(got, wanted, strict=True)


@isa
def test_each_step_is_rounded_by_itself(isa):
    # 2^24 + 1 becomes 2^24; times 1 + 2^-23 and less 2^24 it is 2, where one rounding leaves 2 too,
    # but 3 of the integer itself
    got = to_floats(np.full((1, 64), 2**24 + 1, np.int32), np.full(64, 1 + 2.0**-23, np.float32),
                    np.full(64, -2.0**24, np.float32), isa=isa)
    assert (got == 2).all()
