import numpy as np
import pytest
from minicomp import Tensor, grad
from minicomp.compress import BinaryConnect
from minicomp.grid import hard_sign
from minicomp.models import MLP
from minicomp.teach.checks import lesson16

STEP = {"a": np.array([[0.5, -2.0]]), "w": np.array([[0.25, -0.5]]), "g": np.array([[1.0]]),
        "lr": 0.5}


def test_a_step_by_hand():
    y, to_a, w = lesson16.binary_step(**STEP)
    assert (y.tolist(), to_a.tolist()) == ([[2.0]], [[1.0, 0.0]])
    assert w.tolist() == [[-0.25, 0.0]]  # 0.25 - 0.5, -0.5 + 0.5


def test_a_step_is_what_the_librarys_gradients_make_it():
    for case in lesson16._STEP.parts[-1].cases(None):
        a, w = (Tensor(case[name], requires_grad=True) for name in "aw")
        y = hard_sign(a) @ hard_sign(w).T
        to_a, to_w = grad(y, [a, w], cotangent=case["g"])
        right = (y.data, to_a.data, np.clip(case["w"] - case["lr"] * to_w.data, -1, 1))
        for mine, theirs in zip(lesson16.binary_step(**case), right):
            np.testing.assert_allclose(mine, theirs)


def test_the_weights_of_the_exercise_are_those_of_the_technique():
    # +-H behind floats that stay in -H..H: with H = 1 what the exercise has.
    model = MLP([2, 1], rng=np.random.default_rng(0))
    form = BinaryConnect(size="one").signs_of(model.forms()["fc1.weight"])
    form.latent.data[...] = [[1.5, -0.5]]
    form.project()
    assert form.latent.data.tolist() == [[1.0, -0.5]]
    assert form.dense().data.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("n", [1, 63, 64, 65, 128, 130])
def test_packed_signs_multiply_as_numbers_whatever_stands_behind_the_last(n):
    rng = np.random.default_rng(n)
    x, v = rng.normal(size=(2, n))
    bits = rng.random(64 * -(-n // 64)) < 0.5
    bits[:n] = v >= 0
    w = np.packbits(bits, bitorder="little").view(np.uint64)
    words, product = lesson16.packed_dot(x, w)
    assert product == np.sign(x) @ np.sign(v)
    assert sum(int(word) << 64 * i for i, word in enumerate(words)) == sum(
        1 << k for k in range(n) if x[k] > 0)
    plain = lesson16._dot(x, w)
    assert product == plain[1] and np.array_equal(words, plain[0])


@pytest.mark.parametrize(
    "gain, bias, K, t, below",
    [
        (0.5, -1.0, 3, 2, False),
        (-0.5, 0.75, 3, 1, True),
        (0.1, -0.3, 5, 3, False),  # on paper 4: 0.3 / 0.1 in doubles of these floats is above 3
        (0.0, 0.0, 5, -2**31, False),
        (0.0, -1.0, 5, -2**31, True),
        (-1.0, 9.0, 5, -2**31, False),
    ],
)
def test_thresholds_by_hand(gain, bias, K, t, below):
    case = lesson16._channel(gain, bias, K)
    for found in (lesson16.sign_threshold(**case), lesson16._threshold(**case)):
        assert (found[0].tolist(), found[1].tolist()) == ([t], [below])
