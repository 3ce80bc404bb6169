import warnings
from pathlib import Path

import numpy as np
import pytest

from minicomp.grid.blocks import (NF4, mxfp4_decode, mxfp4_encode, mxint8_decode, mxint8_encode,
                                  nf4_decode, nf4_encode, nvfp4_decode, nvfp4_encode, q4_0_decode,
                                  q4_0_encode, q8_0_decode, q8_0_encode)

GOLDEN = np.load(Path(__file__).with_name("golden_blocks.npz"))  # of golden_blocks.py
X = GOLDEN["x"]
CODECS = {"q4_0": (q4_0_encode, q4_0_decode), "q8_0": (q8_0_encode, q8_0_decode),
          "mxfp4": (mxfp4_encode, mxfp4_decode), "mxint8": (mxint8_encode, mxint8_decode)}
GGUF = pytest.mark.parametrize("name", ["q4_0", "q8_0", "mxfp4"])
EACH = pytest.mark.parametrize("name", CODECS)


def quietly(f, *args, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return f(*args, **named)


# ------------------------------------------------------------------------------- the tools' bytes


@GGUF
def test_the_bytes_are_those_of_gguf(name):
    encode, decode = CODECS[name]
    np.testing.assert_array_equal(quietly(encode, X, like="gguf"), GOLDEN[name], strict=True)
    np.testing.assert_array_equal(decode(GOLDEN[name]), GOLDEN[f"{name}.values"], strict=True)


def test_nvfp4_is_decoded_as_gguf_decodes_it():
    got = nvfp4_decode(GOLDEN["nvfp4"], np.float32(1))
    np.testing.assert_array_equal(got, GOLDEN["nvfp4.values"], strict=True)


def in_halves(pairs, block):
    # torchao's neighbours in a byte, the first in the lower bits, as halves of a block
    codes = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(4, -1, block)
    return codes[..., : block // 2] | codes[..., block // 2:] << 4


def test_mxfp4_and_nvfp4_are_torchao_s_in_every_bit():
    x, pairs = GOLDEN["torchao.x"], GOLDEN["torchao.mxfp4.pairs"]
    got = mxfp4_encode(x).reshape(4, -1, 17)
    np.testing.assert_array_equal(got[..., 0], GOLDEN["torchao.mxfp4.scales"].reshape(4, -1))
    np.testing.assert_array_equal(got[..., 1:], in_halves(pairs, 32))
    data, tensor = nvfp4_encode(x)
    got = data.reshape(4, -1, 36)
    assert tensor == GOLDEN["torchao.nvfp4.tensor"]
    scales = GOLDEN["torchao.nvfp4.scales"].reshape(4, -1)
    np.testing.assert_array_equal(got[..., :4].reshape(4, -1), scales)
    want = in_halves(GOLDEN["torchao.nvfp4.pairs"], 16)
    np.testing.assert_array_equal(got[..., 4:].reshape(4, -1, 8), want)


def test_nf4_is_bitsandbytes_in_every_bit():
    codes, peaks = nf4_encode(X)
    np.testing.assert_array_equal(codes, GOLDEN["nf4"], strict=True)
    np.testing.assert_array_equal(peaks, GOLDEN["nf4.peaks"], strict=True)
    got = nf4_decode(codes, peaks).reshape(X.shape)
    np.testing.assert_array_equal(got, GOLDEN["nf4.values"], strict=True)


def test_the_levels_of_nf4_are_quantiles_of_a_gaussian():
    # Dettmers et al. 2023, eq. (4), as their code has it: quantiles of equal steps up to 0.9677
    from scipy.stats import norm

    below = norm.ppf(np.linspace(0.9677083, 0.5, 8)[:-1])
    above = norm.ppf(np.linspace(0.9677083, 0.5, 9)[:-1])
    levels = np.sort(np.concatenate([-below, [0], above]))
    np.testing.assert_allclose(NF4, levels / levels.max(), atol=1e-7)


@pytest.mark.peers
@GGUF
def test_many_blocks_have_the_bytes_of_gguf(name):
    gguf = pytest.importorskip("gguf")
    kind, rng = getattr(gguf.GGMLQuantizationType, name.upper()), np.random.default_rng(3)
    x = rng.standard_normal((256, 1024)) * 10.0 ** rng.uniform(-8, 4, (256, 1))
    x[::4] = np.rint(x[::4] * 2**12) / 2**12
    x = x.astype(np.float32)
    encode, decode = CODECS[name]
    data = gguf.quantize(x, kind)
    np.testing.assert_array_equal(quietly(encode, x, like="gguf"), data)
    np.testing.assert_array_equal(decode(data), gguf.dequantize(data, kind))


# ----------------------------------------------------------------------------------------- by hand


def test_q4_0_by_hand():
    x = np.zeros(32)
    x[[0, 1, 16, 31]] = 8, -1.5, 2.5, -7.25  # the extreme 8: the step is -1
    data = q4_0_encode(x)
    assert data[:2].view(np.float16)[0] == -1 and len(data) == 18
    # codes x / -1 + 8: 0, 9.5 -> 10 (even), 5.5 -> 6 (to even: -2.5 -> -2), 15.25 -> 15
    assert data[2] == 0 | 6 << 4 and data[3] == 10 | 8 << 4 and data[17] == 8 | 15 << 4
    want = np.zeros(32, np.float32)
    want[[0, 1, 16, 31]] = 8, -2, 2, -7
    np.testing.assert_array_equal(q4_0_decode(data), want)
    # gguf: x / step + 8.5 cut off, so that ties go to the higher code
    data = q4_0_encode(x, like="gguf")
    assert data[2] == 0 | 6 << 4 and data[3] == 10 | 8 << 4
    # and 2.5 is 2 beside an extreme of 8, but 3 beside one of -8; ours is 2
    x[0] = -8
    assert q4_0_decode(q4_0_encode(x, like="gguf"))[16] == 3
    assert q4_0_decode(q4_0_encode(x))[16] == 2


def test_mxfp4_by_hand():
    x = np.zeros(32)
    x[:6] = 5, 7.9, -0.5, 0.3, 0.25, 2.5  # floor(log2 7.9) = 2: a scale of 1
    data = mxfp4_encode(x)
    assert data[0] == 127
    # 5 ties to 4 (even), 7.9 saturates, 0.25 ties to 0, 2.5 to 2
    assert mxfp4_decode(data)[:6].tolist() == [4, 6, -0.5, 0.5, 0, 2]
    assert mxfp4_decode(mxfp4_encode(np.array([*[0.75] * 31, 4])))[:1] == [1]  # even
    assert mxfp4_decode(mxfp4_encode(np.array([*[0.75] * 31, 4]), like="gguf"))[:1] == [0.5]


def test_mxint8_by_hand():
    x = np.zeros(32)
    x[:5] = 1.999, -1.0, 1.5 / 64, 2.5 / 64, -1.5  # a scale of 1
    data = mxint8_encode(x)
    assert data[0] == 127 and len(data) == 33
    assert data[1:6].view(np.int8).tolist() == [127, -64, 2, 2, -96]
    np.testing.assert_array_equal(mxint8_decode(data)[:5] * 64, [127, -64, 2, 2, -96])


def test_nvfp4_by_hand():
    x = np.zeros(64)
    x[0], x[16], x[32:34] = 6 * 448, 6, (3, 1.3)
    data, tensor = nvfp4_encode(x)
    assert tensor == 1 and tensor.dtype == np.float32 and len(data) == 36
    assert data[:4].tolist() == [0x7E, 0x38, 0x30, 0]  # 448, 1, 1/2, 0
    got = nvfp4_decode(data, tensor)
    assert got[[0, 16, 32, 33]].tolist() == [2688, 6, 3, 1.5] and np.count_nonzero(got) == 4


def test_nf4_by_hand():
    x = np.zeros(64, np.float32)
    x[:3] = 2, -2, 0.1
    codes, peaks = nf4_encode(x)
    assert peaks.tolist() == [2] and codes[:2].tolist() == [15 << 4 | 0, 8 << 4 | 7]
    assert nf4_decode(codes, peaks)[:4].tolist() == [2, -2, 2 * NF4[8], 0]


# --------------------------------------------------------------------------------------- what holds


@EACH
def test_what_was_decoded_is_encoded_alike(name):
    # Codes are chosen from the stored step: a second time nothing changes.
    encode, decode = CODECS[name]
    first = decode(quietly(encode, X))
    np.testing.assert_array_equal(decode(quietly(encode, first)), first)


@pytest.mark.parametrize("name", ["q4_0", "q8_0"])
def test_every_code_is_the_best_for_the_stored_step(name):
    encode, decode = CODECS[name]
    data = quietly(encode, X).reshape(-1, 18 if name == "q4_0" else 34)
    step = np.ascontiguousarray(data[:, :2]).view(np.float16).astype(np.float64)
    codes = np.arange(-8, 8) if name == "q4_0" else np.arange(-127, 128)
    x = X.reshape(-1, 32).astype(np.float64)
    best = np.abs(x[..., None] - step[..., None] * codes).min(axis=-1)
    error = np.abs(decode(data).reshape(x.shape) - x)
    np.testing.assert_allclose(error, best, atol=1e-6 * np.abs(x).max())
    if name == "q8_0":  # a subnormal step: gguf's codes are of another step
        theirs = np.abs(decode(GOLDEN[name]).reshape(x.shape) - x)
        small = np.abs(x).max(axis=-1) < 2e-5
        assert small.any() and (error[small] ** 2).sum() < (theirs[small] ** 2).sum()


@pytest.mark.parametrize("name, least", [("q4_0", 1e-6), ("q8_0", 1e-4)])
def test_a_subnormal_step_is_said(name, least):
    encode = CODECS[name][0]
    x = np.full(64, 1.0)
    x[32:] = least
    with pytest.warns(UserWarning, match=f"{name}: of 1 of 2 blocks the step is subnormal in f"):
        encode(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(np.ones(64))
        encode(np.zeros(64))


def test_a_subnormal_scale_of_nvfp4_is_said():
    x = np.ones(64)
    x[16:32] = 2e-6
    with pytest.warns(UserWarning, match="nvfp4: of 1 of 4 blocks the scale is subnormal in e4m3"):
        nvfp4_encode(x)


@EACH
def test_zeros_and_one_sign_come_back(name):
    encode, decode = CODECS[name]
    assert not decode(encode(np.zeros(32))).any()
    for x in (np.full(32, 0.75), np.full(32, -0.75)):
        np.testing.assert_allclose(decode(encode(x)), x, rtol=0.01)


def test_rows_stay_rows():
    x = np.random.default_rng(0).standard_normal((3, 2, 128))
    for name, size in (("q4_0", 18), ("q8_0", 34), ("mxfp4", 17), ("mxint8", 33)):
        encode, decode = CODECS[name]
        data = encode(x)
        assert data.shape == (3, 2, 4 * size) and data.dtype == np.uint8
        assert decode(data).shape == x.shape
        np.testing.assert_array_equal(encode(x[1, 1]), data[1, 1])
    data, tensor = nvfp4_encode(x)
    assert data.shape == (3, 2, 72) and nvfp4_decode(data, tensor).shape == x.shape


def test_more_bits_and_finer_scales_err_less():
    x = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
    data, tensor = nvfp4_encode(x)
    found = {name: np.square(d(e(x)) - x).mean() for name, (e, d) in CODECS.items()}
    found["nvfp4"] = np.square(nvfp4_decode(data, tensor) - x).mean()
    found["nf4"] = np.square(nf4_decode(*nf4_encode(x)).reshape(x.shape) - x).mean()
    order = ["q8_0", "mxint8", "q4_0", "nf4", "nvfp4", "mxfp4"]
    assert sorted(found, key=found.get) == order


@pytest.mark.parametrize("encode", [*[e for e, _ in CODECS.values()], nvfp4_encode, nf4_encode])
def test_wrong_weights_are_refused(encode):
    for shape in ((63,), (2, 48), (0,), ()):
        with pytest.raises(ValueError, match="must have a multiple of (16|32|64) weights in a row"):
            encode(np.ones(shape))
    for bad in (np.nan, np.inf, 1e39):
        x = np.ones(64)
        x[7] = bad
        with pytest.raises(ValueError, match="x must be finite in float32"):
            encode(x)


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="like must be None or 'gguf', got 'llama'"):
        q4_0_encode(np.ones(32), like="llama")
    with pytest.raises(ValueError, match="x must fit q8_0, whose float16 step ends at 65504"):
        q8_0_encode(np.full(32, 1e7))
    with pytest.raises(ValueError, match="multiple of 64 weights in a row, got 48"):
        nvfp4_encode(np.ones(48))
    with pytest.raises(ValueError, match="block must be an even number of at least 2, got 3"):
        nf4_encode(np.ones(6), block=3)
    with pytest.raises(ValueError, match="codes must be of equal blocks, got 64 for 3"):
        nf4_decode(np.zeros(32, np.uint8), np.ones(3))
    for bad in (np.zeros(19, np.uint8), np.zeros(18), np.zeros(0, np.uint8)):
        with pytest.raises(ValueError, match="data must be uint8 with a multiple of 18 bytes"):
            q4_0_decode(bad)
    nan = np.full(17, 255, np.uint8)
    with pytest.raises(ValueError, match="scales that are numbers, got NaN"):
        mxfp4_decode(nan)
    with pytest.raises(ValueError, match="scales that are numbers of at least 0"):
        nvfp4_decode(np.full(36, 255, np.uint8), 1.0)


