# Beside faiss: the same vectors, the same starts.
import numpy as np
import pytest

from minicomp.compress.share.blocks import Search, blocks_of, product_decode, product_quantize
from minicomp.compress.share.vectors import kmeans_vectors, residual_quantize, residual_sum

pytestmark = pytest.mark.peers
D, BLOCK, K = 16, 4, 16


@pytest.fixture(scope="module")
def faiss():
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)
    return faiss


@pytest.fixture(scope="module", params=["normal", "heavy-tailed"])
def x(request):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2000, D)) if request.param == "normal" else rng.standard_t(3, (2000, D))
    return a.astype(np.float32)


def error(x, decoded):
    return float(np.square(x - decoded.astype(np.float64)).sum())


def ours(x, starts, iterations):
    how = {"starts": starts, "search": Search(iterations=iterations)}
    return error(x, product_decode(*product_quantize(x, BLOCK, K, **how), D))


@pytest.mark.parametrize("iterations", [0, 1, 5, 25])
def test_product_quantization_from_the_same_starts(x, iterations, faiss):
    starts = blocks_of(x, BLOCK)[:, :K]
    pq = faiss.ProductQuantizer(D, D // BLOCK, 4)
    faiss.copy_array_to_vector(starts.ravel(), pq.centroids)
    pq.train_type, pq.cp.niter = faiss.ProductQuantizer.Train_hot_start, iterations
    pq.train(x)
    theirs = error(x, pq.decode(pq.compute_codes(x)))
    assert ours(x, starts, iterations) == pytest.approx(theirs, rel=0.002)
    assert ours(x, starts, 200) <= theirs * (1 + 1e-6)


def test_k_means_takes_as_long_as_it_gets_better(x, faiss):
    starts = x[:K]
    km = faiss.Kmeans(D, K, niter=25, max_points_per_centroid=len(x))
    km.train(x, init_centroids=starts)
    theirs = float(km.index.search(x, 1)[0].sum())
    c, index = kmeans_vectors(x, K, starts=starts)
    assert error(x, c[index]) <= theirs * (1 + 1e-5)


@pytest.mark.parametrize("stages", [2, 4])
def test_residual_quantization_with_the_same_beam(x, stages, faiss):
    def theirs(kind, beam):
        rq = faiss.ResidualQuantizer(D, stages, 4)
        rq.train_type, rq.max_beam_size = kind, beam
        rq.train(x)
        return error(x, rq.decode(rq.compute_codes(x)))

    def mine(**how):
        rng = np.random.default_rng(0)
        return error(x, residual_sum(*residual_quantize(x, K, stages, rng=rng, **how)))
    kinds = faiss.ResidualQuantizer
    assert mine(beam=1) < 1.01 * theirs(kinds.Train_default, 1)
    assert mine(beam=5) < 1.01 * theirs(kinds.Train_progressive_dim, 5)
    assert mine(beam=5, rounds=8) < theirs(kinds.Train_refine_codebook, 5)
