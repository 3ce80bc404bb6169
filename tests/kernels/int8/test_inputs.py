import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.int8.checks import some_calls
from minicomp.kernels.int8.inputs import to_codes, to_codes_ref

isa = pytest.mark.parametrize("isa", cpu.available("int8"))
GRID = np.float32(0.0173), 11, 3, 250
SHAPES = [(3, 1, 5, 7), (2, 2, 3, 3), (2, 3, 16, 17), (1, 3, 32, 32), (2, 4, 1, 65), (2, 5, 9, 9),
          (3, 70), (1, 1), (0, 3, 4, 4)]


def numbers(shape, seed=0):
    # On the grid and beyond it, at ties, and at numbers that have no code at all.
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=2, size=shape).astype(np.float32)
    x[rng.random(shape) < 0.2] = np.float32(0.5) * GRID[0] * 3
    x[rng.random(shape) < 0.05] = np.float32(3e38)
    x[rng.random(shape) < 0.05] = -np.float32(3e38)
    x.setflags(write=False)
    return x


@isa
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("each", [0, 1, "channel"])
def test_codes_have_the_same_bits_on_every_rung(isa, shape, each):
    x, rng = numbers(shape), np.random.default_rng(1)
    size = shape[1] if each == "channel" else each
    gain, bias = (rng.normal(size=size).astype(np.float32) if size else None for _ in range(2))
    wanted = to_codes_ref(x, *GRID, gain, bias)
    for n_threads in (1, 2):
        got = to_codes(x, *GRID, gain, bias, isa=isa, n_threads=n_threads)
        np.testing.assert_array_equal(got, wanted, strict=True)


@isa
def test_codes_by_hand(isa):
    x = np.float32([[0.5, 1.5, -0.5, 2.5, 300, -300]])
    got = to_codes(x, np.float32(1), 10, 0, 200, isa=isa)
    assert got.tolist() == [[10, 12, 10, 12, 200, 0]]  # ties to even, then the zero point


@isa
def test_a_product_and_its_sum_are_rounded_each(isa):
    # 1 + 2^-12 squared is 1 + 2^-11 + 2^-24, of which float32 keeps no 2^-24; less 1 + 2^-11 it is
    # 0, where one rounding would leave 2^-24.
    a = np.float32(1 + 2.0**-12)
    got = to_codes(np.full((1, 64), a), np.float32(2.0**-24), 7, 0, 255, np.float32([a]),
                   np.float32([-1 - 2.0**-11]), isa=isa)
    assert (got == 7).all()


@pytest.mark.parametrize("isa", [name for name in cpu.available("int8") if name != "ref"])
def test_kept_calls_read_what_they_are_given(isa):
    x, calls = numbers((2, 3, 5, 5)), some_calls()
    out = np.empty((2, 5, 5, 3), np.uint8)
    to_codes(np.zeros_like(x), *GRID, out=out, isa=isa, calls=calls)
    for seed in (1, 2):
        y = numbers(x.shape, seed)
        calls.run(y.reshape(-1))
        np.testing.assert_array_equal(out, to_codes_ref(y, *GRID))
    for wrong in (None, y.reshape(-1)[1:]):
        with pytest.raises(ValueError, match="x must be as many floats"):
            calls.run(wrong)


@pytest.mark.parametrize("args, says", [
    ((np.zeros((2, 3, 4, 4)), *GRID), "x must be float32, got float64"),
    ((np.zeros((2, 3, 4), np.float32), *GRID), "x must"),
    ((np.zeros((2, 3), np.float32), np.float32(0), 0, 0, 255), "scale must be a number other"),
    ((np.zeros((2, 3), np.float32), np.float32(1), 256, 0, 255), "zero_point must"),
    ((np.zeros((2, 3), np.float32), np.float32(1), 0, -1, 255), "lo must"),
    ((np.zeros((2, 3), np.float32), np.float32(1), 0, 0, 255, np.ones(3, np.float32)),
     "bias must be float32 of shape"),
    ((np.zeros((2, 3), np.float32), np.float32(1), 0, 0, 255, np.ones(2, np.float32),
      np.ones(2, np.float32)), "gain must be float32 of shape"),
])
def test_wrong_arguments_are_named(args, says):
    with pytest.raises(ValueError, match=says):
        to_codes(*args)
