import pytest
from minicomp.errors import article, did_you_mean

KNOBS = dict.fromkeys(["epochs", "epoch", "lr", "batch_size"])


@pytest.mark.parametrize(
    "name, end",
    [
        ("epocs", "; did you mean epochs or epoch?"),
        ("batchsize", "; did you mean batch_size?"),
        ("xyzzy", "; there are epochs, epoch, lr, batch_size"),
        ("", "; there are epochs, epoch, lr, batch_size"),
    ],
)
def test_the_nearest_are_offered_or_all_are_named(name, end):
    assert did_you_mean(name, KNOBS) == did_you_mean(name, iter(KNOBS)) == end


def test_a_vowel_takes_an():
    assert [article(kind) for kind in ("affine", "codebook")] == ["an affine", "a codebook"]
