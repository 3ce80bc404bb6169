import numpy as np

from minicomp.cli.compress import empty_clusters
from minicomp.compress import ProductQuantization, Run, net_of
from minicomp.nn import Dictionary
from minicomp.report.compression import weights


def test_what_a_compression_tells_of_centroids_leaves_vectors_of_weights_out():
    rng = np.random.default_rng(0)
    net = net_of(rng.standard_normal((8, 6)), rng.standard_normal((4, 8)))
    model = ProductQuantization(k=3).apply(net, None, Run(rng))
    model.set_form("fc2.weight", Dictionary.of(rng.standard_normal((3, 8)), np.eye(4, 3), (4, 8)))
    assert {form.kind for form in model.forms().values()} >= {"product", "dictionary"}
    assert empty_clusters(model) == {} and weights(model, [net]) is None
