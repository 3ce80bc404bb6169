import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.codebook.lookups import lookups, lookups_ref, pack_lookups

isa = pytest.mark.parametrize("isa", cpu.distinct("codebook"))


def drawn(O, KH, KW, maps, kept=0.3):
    rng = np.random.default_rng(O + maps[2])
    P = rng.standard_normal((O, KH, KW, maps[0])) * (rng.random((O, KH, KW, maps[0])) < kept)
    return pack_lookups(P, maps), rng.standard_normal(maps).astype(np.float32), P


@isa
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("O, KH, KW, maps", [
    (1, 1, 1, (1, 1, 1)), (3, 3, 3, (4, 3, 3)), (5, 3, 2, (6, 7, 9)), (4, 1, 1, (3, 8, 8)),
    (2, 2, 2, (5, 12, 11)), (6, 3, 3, (2, 1 + 9, 63))])
def test_every_rung_gives_the_bits_of_the_reference(isa, threads, O, KH, KW, maps):
    w, S, P = drawn(O, KH, KW, maps)
    y, n = lookups(w, S, isa=isa, n_threads=threads), w.size[1]
    np.testing.assert_array_equal(y[:, :, :n], lookups_ref(w, S)[:, :, :n], strict=True)
    seen = np.lib.stride_tricks.sliding_window_view(S, (KH, KW), axis=(1, 2))
    want = np.einsum("orck,kijrc->oij", P, seen)
    np.testing.assert_allclose(y[:, :, :n], want, atol=1e-4)


@isa
def test_a_filter_without_look_ups_gives_zeros(isa):
    w, S, _ = drawn(3, 2, 2, (4, 9, 10), kept=0)
    assert not lookups(w, S, isa=isa).any()


def test_refusals():
    w, S, P = drawn(2, 3, 3, (4, 5, 6))
    with pytest.raises(ValueError, match="P must be of 4 atoms and kernels of at most 2 x 6, got"):
        pack_lookups(P, (4, 2, 6))
    with pytest.raises(ValueError, match=r"S must be float32 of shape \(4, 5, 6\), got float64"):
        lookups(w, S.astype(float))
    with pytest.raises(ValueError, match=r"maps must be \(k, H, W\), got '\(4, 5\)'"):
        pack_lookups(P, (4, 5))
