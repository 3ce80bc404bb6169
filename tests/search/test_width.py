import numpy as np
import pytest

from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.optim import SGD
from minicomp.search import Space, Supernet, lenets, sliced, small_lenet
from minicomp.search.width import Sandwich
from minicomp.tensor import Tensor, grad
from minicomp.train import fit


def small(**more):
    choices = {"conv1": (2, 4), "conv2": (2, 6), "kernel2": (3, 5), "depth": (0, 2),
               "hidden": (4, 8)} | more
    return Space(choices, small_lenet)


def images(n=60):
    rng = np.random.default_rng(0)
    split = Split(rng.random((n, 1, 28, 28), dtype=np.float32), np.arange(n) % 10)
    return Dataset("toy", split, split)


def test_slices_by_hand():
    w = np.arange(50).reshape(2, 1, 5, 5)
    assert sliced(w, (1, 1, 3, 3))[0, 0].tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
    assert sliced(w, (1, 1, 1, 1)).ravel().tolist() == [12]
    assert sliced(np.arange(6).reshape(2, 3), (1, 2)).tolist() == [[0, 1]]
    for shape in ((3, 1, 5, 5), (2, 1, 4, 4), (2, 1), (2, 1, 7, 7)):
        with pytest.raises(UserError, match="shape must be a slice of"):
            sliced(w, shape)


def test_a_smaller_kernel_sees_the_same_places():
    # A 5 x 5 kernel whose ring is 0 gives what its middle gives: the slice is of the same net.
    space = small()
    net = Supernet(space, rng=np.random.default_rng(0))
    w = net.model.forms()["conv2.weight"].value.data
    w[:, :, [0, -1]] = 0
    w[:, :, :, [0, -1]] = 0
    x = images(4).train.x
    np.testing.assert_allclose(net(space.largest | {"kernel2": 3}, x).data,
                               net(space.largest, x).data, atol=1e-6)


@pytest.mark.parametrize("space", [small(), lenets()])
def test_extracted_nets_are_the_sliced_supernet_bit_for_bit(space):
    net, x = Supernet(space, rng=np.random.default_rng(0)), images(5).train.x
    rng = np.random.default_rng(1)
    for choice in [space.largest, space.smallest, *(space.sample(rng=rng) for _ in range(12))]:
        made = net.extract(choice)
        assert np.array_equal(net(choice, x).data, made(x).data)
        shapes = [{n: f.shape for n, f in m.forms().items()} for m in (made, space.build(choice))]
        assert shapes[0] == shapes[1]
    assert np.array_equal(net(space.largest, x).data, net.model(x).data)
    made.forms()["fc2.weight"].value.data[:] = 7  # a copy: the supernet keeps its own
    assert not (net.model.forms()["fc2.weight"].values() == 7).any()


def test_a_sub_net_moves_its_own_slice_and_nothing_else():
    space = small()
    net, data = Supernet(space, rng=np.random.default_rng(0)), images(8)
    weights = {n: Tensor(w.data, requires_grad=True) for n, w in net.model.decode().items()}
    y = net(space.smallest, data.train.x, weights=weights)
    grads = dict(zip(weights, grad((y * y).sum(), list(weights.values()))))
    g = grads["conv2.weight"].data
    assert g[:2, :2, 1:4, 1:4].all() and np.count_nonzero(g) == 2 * 2 * 9
    assert not grads["deep1.weight"].data.any()
    g = grads["fc1.weight"].data
    assert np.count_nonzero(g[4:]) == np.count_nonzero(g[:, 50:]) == 0 < np.count_nonzero(g)


def test_a_step_adds_the_gradients_of_the_sandwich():
    # One step of SGD without momentum: w - w' = lr (largest on labels + sub-nets on the largest).
    space, data = small(), images(10)
    net = Supernet(space, rng=np.random.default_rng(0))
    before = {n: w.data.copy() for n, w in net.model.decode().items()}
    hook = Sandwich(net, 1)
    fit(net.model, data, epochs=1, optimizer=SGD(net.model.parameters(), lr=0.5), batch_size=10,
        hooks=[hook], rng=np.random.default_rng(2))
    assert hook.choices[0] == space.smallest and len(hook.choices) == 2
    assert hook.macs == 10 * sum(
        space.cost("macs", c) for c in [space.largest, *hook.choices])

    leaves = {n: Tensor(w, requires_grad=True) for n, w in before.items()}

    def cross_entropy(choice, target):
        z = net(choice, data.train.x, weights=leaves)
        e = z - z.max(axis=1, keepdims=True)
        from minicomp import ops
        return -(ops.log_softmax(e) * Tensor(target)).sum() * (1 / len(target))

    z = net(space.largest, data.train.x, weights=leaves).data
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    total = cross_entropy(space.largest, np.eye(10, dtype=np.float32)[data.train.y])
    for choice in hook.choices:
        total = total + cross_entropy(choice, p)
    for (name, w), g in zip(leaves.items(), grad(total, list(leaves.values()))):
        now = net.model.decode()[name].data
        np.testing.assert_allclose(before[name] - now, 0.5 * g.data, atol=2e-6)


def test_all_sub_nets_learn_from_one_training():
    # 2-d points in four blobs; no sub-net has a training of its own.
    rng = np.random.default_rng(0)
    y = np.arange(2000) % 4
    x = (np.stack([y % 2, y // 2], axis=1) * 2 - 1 + 0.3 * rng.normal(size=(2000, 2)))
    split = Split(x.astype(np.float32), y)
    space = Space({"wide": (6, 12, 24)},
                  lambda *, wide, rng=None: MLP([2, wide, wide, 4], rng=rng))
    net = Supernet(space, rng=rng)
    before = [net.error(choice, split) for choice in space]
    net.train(Dataset("blobs", split, split), epochs=5, lr=0.02, rng=rng)
    after = [net.error(choice, split) for choice in space]
    assert min(before) > 0.2 and max(after) < 0.05
    # and they need it: where only the largest trains, the smallest slice is lost
    alone = Supernet(space, rng=np.random.default_rng(0))
    fit(alone.model, Dataset("blobs", split, split), epochs=2, rng=rng,
        optimizer=SGD(alone.model.parameters(), lr=0.1))
    assert alone.error(space.largest, split) < 0.05 < 0.1 < alone.error(space.smallest, split)


def test_errors():
    with pytest.raises(UserError, match="must be a slice of .10, 8., .* got .10, 150."):
        Supernet(small(hidden=(0, 8)), rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="depth=2 .* must be in the largest net, got deep1.weight"):
        Supernet(small(depth=(2, 0)), rng=np.random.default_rng(0))
    net = Supernet(small(), rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="drawn must be at least 0, got -1"):
        Sandwich(net, -1)
    with pytest.raises(UserError, match="hidden must be one of 4, 8, got 5"):
        net(small().largest | {"hidden": 5}, images(1).train.x)
