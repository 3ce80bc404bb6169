from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from minicomp.grid.minifloat import (MINIFLOATS, minifloat, minifloat_decode, minifloat_encode,
                                     round_minifloat)

GOLDEN = np.load(Path(__file__).with_name("golden_blocks.npz"))  # ml_dtypes 0.6.0
HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)
EACH = pytest.mark.parametrize("name", MINIFLOATS)


def test_the_table_by_hand():
    # OFP8 1.0, table 1; MX 1.0, tables 1 to 6: the largest, the least normal, the least of all
    for name, bits, largest, normal, least in (
            ("e4m3", 8, 448, 2.0**-6, 2.0**-9), ("e5m2", 8, 57344, 2.0**-14, 2.0**-16),
            ("e3m2", 6, 28, 0.25, 0.0625), ("e2m3", 6, 7.5, 1, 0.125), ("e2m1", 4, 6, 1, 0.5)):
        f = minifloat(name)
        values = minifloat_decode(np.arange(2**f.bits), name)
        assert f.bits == bits and values[f.last] == largest
        assert values[1] == least and values[1 << f.mantissa] == normal
    e8m0 = minifloat_decode(np.array([0, 127, 254, 255]), "e8m0").tolist()
    assert e8m0[:3] == [2.0**-127, 1, 2.0**127] and np.isnan(e8m0[3])
    assert np.isnan(minifloat_decode(np.array([0x7F, 0xFF]), "e4m3")).all()
    assert minifloat_decode(np.array([0x7C, 0xFC]), "e5m2").tolist() == [np.inf, -np.inf]
    e2m1 = minifloat_decode(np.arange(16), "e2m1").tolist()
    assert e2m1 == [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


@EACH
def test_every_code_is_the_number_that_ml_dtypes_has(name):
    want = GOLDEN[f"{name}.values"]
    got = minifloat_decode(np.arange(len(want)), name)
    np.testing.assert_array_equal(got, want, strict=True)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@EACH
def test_every_half_has_the_code_that_ml_dtypes_gives(name):
    none, scale = (MINIFLOATS[name].specials == s for s in ("none", "scale"))
    ours = HALVES > 0 if scale else ~np.isnan(HALVES) if none else np.ones(len(HALVES), bool)
    got = minifloat_encode(HALVES[ours], name, saturate=none)
    np.testing.assert_array_equal(got, GOLDEN[f"{name}.of_half"][ours], strict=True)


@EACH
def test_every_number_is_its_own_code(name):
    f = MINIFLOATS[name]
    codes = np.arange(2**f.bits, dtype=np.uint8)
    values = minifloat_decode(codes, name)
    real = ~np.isnan(values)
    np.testing.assert_array_equal(minifloat_encode(values[real], name, saturate=np.isfinite(
        values).all()), codes[real])
    np.testing.assert_array_equal(round_minifloat(values[np.isfinite(values)], name),
                                  values[np.isfinite(values)])


@pytest.mark.parametrize("name", [n for n in MINIFLOATS if n != "e8m0"])
def test_rounding_is_once_and_half_to_even_against_exact_fractions(name):
    f, rng = MINIFLOATS[name], np.random.default_rng(0)
    levels = minifloat_decode(np.arange(f.last + 1), name).astype(np.float64)
    middles = (levels[1:] + levels[:-1]) / 2
    near = np.concatenate([np.nextafter(middles, 0), middles, np.nextafter(middles, 1e9)])
    x = np.concatenate([near, rng.uniform(0, levels[-1], 300)])
    got = minifloat_encode(x, name, saturate=True)
    exact = [Fraction(float(v)) for v in levels]
    for a, code in zip(map(Fraction, x.tolist()), got):
        nearest = min(range(len(exact)), key=lambda i: (abs(exact[i] - a), i % 2))
        assert code == nearest
    np.testing.assert_array_equal(minifloat_encode(-x, name, saturate=True),
                                  got | 1 << f.bits - 1)


def test_float64_is_rounded_once():
    # In float32 it is the tie of 1 and 1.125, which goes to 1; it lies above.
    x = np.array([1.0625 + 2.0**-40])
    assert round_minifloat(x, "e4m3")[0] == 1.125
    assert round_minifloat(x.astype(np.float32), "e4m3")[0] == 1


def test_what_is_beyond_the_largest():
    x = np.array([464, 465, np.inf, -np.inf, -1e30])
    assert minifloat_encode(x, "e4m3", saturate=True).tolist() == [126, 126, 126, 254, 254]
    assert minifloat_encode(x, "e4m3", saturate=False).tolist() == [126, 127, 127, 255, 255]
    x = np.array([61439, 61440, np.inf, -1e30])
    assert minifloat_encode(x, "e5m2", saturate=True).tolist() == [123, 123, 123, 251]
    assert minifloat_encode(x, "e5m2", saturate=False).tolist() == [123, 124, 124, 252]
    for name in ("e3m2", "e2m3", "e2m1"):
        last = MINIFLOATS[name].last
        assert minifloat_encode(np.array([100, np.inf]), name, saturate=True).tolist() == [last] * 2
        with pytest.raises(ValueError, match=f"where {name} does not saturate, got 100"):
            minifloat_encode(np.array([1.0, 100]), name, saturate=False)
        assert round_minifloat(np.float64(1.0), name, saturate=False) == 1
    assert minifloat_encode(np.array([1e39, 1e-300]), "e8m0", saturate=True).tolist() == [254, 0]
    assert minifloat_encode(np.array([1e39]), "e8m0", saturate=False).tolist() == [255]


def test_nan_is_kept_where_there_is_one_and_refused_elsewhere():
    x = np.array([np.nan, -np.nan])
    for saturate in (False, True):
        assert minifloat_encode(x, "e4m3", saturate=saturate).tolist() == [0x7F, 0xFF]
        assert minifloat_encode(x, "e5m2", saturate=saturate).tolist() == [0x7E, 0xFE]
        assert minifloat_encode(x, "e8m0", saturate=saturate).tolist() == [0xFF, 0xFF]
        for name in ("e3m2", "e2m3", "e2m1"):
            with pytest.raises(ValueError, match=f"got NaN, which {name} has not"):
                minifloat_encode(x, name, saturate=saturate)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="format must be one of e4m3, .*, got 'e4m4'"):
        minifloat_encode(np.ones(1), "e4m4", saturate=True)
    for bad in (np.array([16]), np.array([-1]), np.array([0.5])):
        with pytest.raises(ValueError, match=r"codes must be integers in \[0, 15\] for e2m1"):
            minifloat_decode(bad, "e2m1")
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"x must be above 0 for e8m0, got {bad}"):
            minifloat_encode(np.array([1, bad]), "e8m0", saturate=True)
    assert minifloat_encode(np.zeros((0, 3)), "e4m3", saturate=True).shape == (0, 3)


@pytest.mark.peers
@EACH
def test_random_float32_has_the_code_that_ml_dtypes_gives(name):
    ml_dtypes = pytest.importorskip("ml_dtypes", "0.6.0")
    theirs = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e3m2": "float6_e3m2fn",
              "e2m3": "float6_e2m3fn", "e2m1": "float4_e2m1fn", "e8m0": "float8_e8m0fnu"}[name]
    f = MINIFLOATS[name]
    u = np.random.default_rng(0).integers(0, 2**32, 10**6, dtype=np.uint32).view(np.float32)
    u = u[~np.isnan(u)]
    if name == "e8m0":  # below 2^-126 ml_dtypes rounds up from 1.18 2^-127 on
        u = u[u >= 2.0**-126]
    with np.errstate(all="ignore"):
        want = u.astype(getattr(ml_dtypes, theirs)).view(np.uint8)
    got = minifloat_encode(u, name, saturate=f.specials == "none")
    np.testing.assert_array_equal(got, want)
