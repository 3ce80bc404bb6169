import numpy as np
import pytest

from minicomp.nn import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from minicomp.tensor import Tensor

RNG = np.random.default_rng
MAP, ROW = (6, 9, 7), (6,)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: MaxPool2d(2, padding=2),
            r"padding must be at most half of kernel_size \(2, 2\), got \(2, 2\)",
        ),
        (lambda: MaxPool2d(2, ceil_mode=1), "ceil_mode must be true or false, got 1"),
        (lambda: AdaptiveAvgPool2d(0), "output_size must be .* at least 1, got 0"),
        (
            lambda: MaxPool2d(2).out_shape(ROW),
            r"MaxPool2d needs an input \(C, H, W\), got shape \(6,\)",
        ),
        (
            lambda: AdaptiveAvgPool2d(2).out_shape(ROW),
            r"AdaptiveAvgPool2d needs an input \(C, H, W\)",
        ),
    ],
)
def test_wrong_arguments_and_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.peers
def test_ceil_mode_has_torchs_shapes_and_values():
    torch = pytest.importorskip("torch")
    x = RNG(0).standard_normal((1, 2, 11, 8))
    seen = 0
    for kernel in (1, 2, 3, 4, 5):
        for stride in (1, 2, 3, 4):
            for padding in range(kernel // 2 + 1):
                for ceil in (False, True):
                    for ours, theirs in (
                        (MaxPool2d, torch.nn.MaxPool2d),
                        (AvgPool2d, torch.nn.AvgPool2d),
                    ):
                        a = ours(kernel, stride, padding, ceil)
                        want = theirs(kernel, stride, padding, ceil_mode=ceil)(
                            torch.tensor(x)
                        ).numpy()
                        assert a.out_shape((2, 11, 8)) == want.shape[1:]
                        np.testing.assert_allclose(a(Tensor(x)).data, want, rtol=1e-12, atol=1e-12)
                        seen += 1
    assert seen == 176
