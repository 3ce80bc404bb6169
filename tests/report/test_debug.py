import math

import numpy as np
import pytest

from minicomp.compress import PTQ, Run, net_of
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import DepthwiseNet32
from minicomp.nn import BatchNorm1d, Linear, Model, Normalize, ReLU, chain
from minicomp.report.debug import HEADERS, Sums, layer_gaps, table


def rng(seed=0):
    return np.random.default_rng(seed)


def data(x):
    split = Split(x.astype(np.float32), np.zeros(len(x), int))
    return Dataset("toy", split, split, split, ("a", "b"), "rendered")


def net():
    r = rng(1)
    return net_of((r.normal(size=(8, 5)), r.normal(size=8)), r.normal(size=(6, 8)),
                  r.normal(size=(3, 6)))


def test_a_gap_by_hand():
    # x (3, 4), y (3, 5): noise 1, signal 25; cosine 29 / (5 sqrt 34)
    gap = Sums().add(np.array([3.0]), np.array([3.0])).add(np.array([4.0]), np.array([5.0])).gap()
    assert gap.sqnr == pytest.approx(10 * math.log10(25)) and gap.largest == 1
    assert gap.cosine == pytest.approx(29 / (5 * math.sqrt(34)))
    zero, some = np.zeros(2), np.ones(2)
    assert [Sums().add(a, b).gap().cosine for a, b in ((zero, zero), (zero, some))] == [1, 0]
    assert Sums().add(zero, some).gap().sqnr == -math.inf
    assert Sums().add(some, some).gap().sqnr == math.inf


def test_one_layer_quantized_is_the_only_one_with_an_error_of_its_own():
    x = rng().normal(size=(50, 5)).astype(np.float32)
    knobs = {"mode": "weight-only", "bits": {"*": 16, "fc2": 3}}
    found = PTQ(**knobs).apply(net(), None, Run(rng()))
    gaps = {gap.name: gap for gap in layer_gaps(found, net(), x)}
    assert list(gaps) == ["fc1", "fc2", "fc3", "output"]
    for kind in ("weights", "alone"):
        low = {name: getattr(gap, kind).sqnr for name, gap in gaps.items() if getattr(gap, kind)}
        assert low["fc2"] < 25 < 80 < min(low["fc1"], low["fc3"])
    assert gaps["fc3"].accumulated.sqnr < 25, "it inherits what fc2 lost"
    assert gaps["output"].accumulated == gaps["fc3"].accumulated
    assert gaps["fc2"].bits == 3 and gaps["output"].weights is None


def test_alone_and_accumulated_are_what_nets_quantized_so_give():
    x = rng().normal(size=(40, 5)).astype(np.float32)
    model = net()
    found = PTQ(bits=4, act_bits=4).apply(model, data(x), Run(rng()))
    gaps = {gap.name: gap for gap in layer_gaps(found, model, x)}
    assert list(gaps) == ["x_q", "fc1", "relu1_q", "fc2", "relu2_q", "fc3", "output"]
    want = Sums().add(model(x).data, found(x).data).gap()
    assert gaps["output"].accumulated.sqnr == pytest.approx(want.sqnr, abs=1e-4)
    only = model.copy()
    only.set_form("fc3.weight", found.forms()["fc3.weight"].copy())
    want = Sums().add(model(x).data, only(x).data).gap()
    assert gaps["fc3"].alone.sqnr == pytest.approx(want.sqnr, abs=1e-4)
    assert gaps["x_q"].alone == gaps["x_q"].accumulated
    parts = layer_gaps(found, model, x, batch_size=7)
    assert [g.accumulated.sqnr for g in parts] == pytest.approx(
        [gap.accumulated.sqnr for gap in gaps.values()], abs=1e-4)
    rows = table(list(gaps.values()))
    assert all(len(row) == len(HEADERS) for row in rows) and rows[0][3:6] == ["", "", ""]


def test_a_net_with_batch_norm_and_branches():
    model = DepthwiseNet32(channels=1, resolution=8, width=0.25, rng=rng())
    x = rng().normal(size=(6, 1, 8, 8)).astype(np.float32)
    found = PTQ(samples=6).apply(model, data(x), Run(rng()))
    gaps = layer_gaps(found, model, x)
    assert gaps[-1].accumulated.sqnr > 15
    assert next(g for g in gaps if g.name == "stem_bn").alone.sqnr == math.inf


def test_nets_that_do_not_belong_together_are_one_error():
    def refused(a, b, words):
        with pytest.raises(UserError, match=f"the nets do not belong together: {words}"):
            layer_gaps(a, b, np.zeros((1, *a.input_shape), np.float32))
    one = net_of(np.ones((3, 2)), np.ones((2, 3)))
    refused(one, net_of(np.ones((3, 4))), "inputs of shape")
    refused(one, net_of(np.ones((4, 2)), np.ones((2, 4))), "fc1 is Linear of x with weight 3 x 2 "
            "and, in the float net, Linear of x with weight 4 x 2")
    refused(one, net_of(np.ones((3, 2))), r"relu1 \(ReLU\) is not in the float net")
    nodes = chain(("fc1", Linear(2, 3)), ("bn", BatchNorm1d(3)), ("relu", ReLU()))
    whole = Model(nodes, input_shape=(2,))
    folded = Model(chain(("fc1", Linear(2, 3)), ("relu", ReLU())), input_shape=(2,))
    refused(folded, whole, r"bn \(BatchNorm1d\) is not in the quantized net; "
            "compare with the float net whose batch norms are folded as well")
    with pytest.raises(UserError, match="examples must be at least one, got none"):
        layer_gaps(one, one, np.zeros((0, 2), np.float32))


def test_nets_the_wrong_way_round_or_of_another_normalisation_are_refused():
    x = rng().normal(size=(20, 5)).astype(np.float32)
    found = PTQ().apply(net(), data(x), Run(rng()))
    for model in (net(), found):
        with pytest.raises(UserError, match="must be the float one, got one with grids .*x_q"):
            layer_gaps(model, found, x)
    pair = [Model(chain(("normalize", Normalize([0.1], [s])), ("fc", Linear(1, 2))),
                  input_shape=(1,)) for s in (0.5, 0.25)]
    with pytest.raises(UserError, match="std of normalize is .0.5,.* and, in the float net, .0.25"):
        layer_gaps(*pair, np.zeros((1, 1), np.float32))
