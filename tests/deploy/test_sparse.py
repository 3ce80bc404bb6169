import numpy as np
import pytest
from minicomp import models
from minicomp.codec import decode, encode
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.nm import NM
from minicomp.compress.share.kmeans import KMeans
from minicomp.compress.technique import Run
from minicomp.deploy import prepare
from minicomp.deploy import sparse as deploy
from minicomp.kernels.sparse import nm
from minicomp.nn.forms import Codebook, Dense, Half
from minicomp.nn.graph import Model, chain
from minicomp.nn.layers import Conv2d, Flatten, Linear, ReLU


VECTORS = deploy._vectors


@pytest.fixture(autouse=True)
def every_machine(monkeypatch):
    # Layouts are chosen as where vectors run; the kernels' references compute the same elsewhere.
    monkeypatch.setattr(deploy, "_vectors", lambda: True)


def rng(seed=0):
    return np.random.default_rng(seed)


def net(sparsity=0.9, *, shared=False, n=0, stride=1, padding=0):
    # A convolution and two linear layers, all large enough to be worth a kernel for one image.
    model = Model(
        chain(
            ("conv", Conv2d(6, 40, 5, stride=stride, padding=padding)),
            ("relu", ReLU()),
            ("flatten", Flatten()),
            ("fc1", Linear(40 * (6 // stride if not padding else 10 // stride) ** 2, 120)),
            ("fc2", Linear(120, 10)),
        ),
        input_shape=(6, 10, 10),
    )
    draw = rng(1)
    for name, form in model.forms().items():
        model.set_form(name, Dense(draw.normal(size=form.shape).astype(np.float32)))
    if n:
        model = NM(n=n, m=4, skip=True).apply(model, None, Run(draw))
    elif sparsity:
        model = Magnitude(sparsity=sparsity).apply(model, None, Run(draw))
    return KMeans(bits=4).apply(model, None, Run(draw)) if shared else model


def kinds(model):
    return {n.name: type(n.layer.weight).__name__ for n in model.nodes if "Sparse" in n.layer.kind}


def close(model, made, x):
    # A logit is a sum of some thousand products, and each rounds to 2**-24: the orders differ.
    want, got = model(x).data, made(x).data
    assert got.dtype == np.float32 and got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    "how, one, many",
    [
        ({}, {"conv": "Csr", "fc1": "Lanes"}, {"fc1": "Csr"}),
        ({"shared": True}, {"conv": "Rows", "fc1": "Lanes"}, {"fc1": "Rows"}),
        ({"n": 1}, {"fc1": "NM"}, {"fc1": "Csr"}),
        ({"stride": 2, "padding": 2}, {"conv": "Csr", "fc1": "Lanes"}, {"fc1": "Csr"}),
        ({"sparsity": 0.0}, {}, {}),
    ],
)
def test_outputs_are_the_models_whatever_the_layout(how, one, many):
    model = net(**how)
    for batch, layouts in ((1, one), (8, many)):
        made = prepare(model, batch=batch)
        assert kinds(made) == layouts
        for n in (1, batch, 3):  # other numbers of examples work too
            close(model, made, rng(n).normal(size=(n, 6, 10, 10)).astype(np.float32))
        for layer in (node.layer for node in made.nodes if "Sparse" in node.layer.kind):
            shape = (6, 10, 10) if layer.kind == "SparseConv2d" else layer.weight.shape[1:]
            assert len(layer(np.zeros((0, *shape), np.float32)).data) == 0


def test_threads_give_the_same_bits():
    x = rng().normal(size=(4, 6, 10, 10)).astype(np.float32)
    for how in ({}, {"shared": True}, {"n": 1}):
        for batch in (1, 4):
            a, b = (prepare(net(**how), batch=batch, n_threads=t)(x[:batch]).data for t in (1, 2))
            np.testing.assert_array_equal(a, b, strict=True)


def test_a_file_runs_as_the_model_does():
    model = net(shared=True)
    x = rng().normal(size=(1, 6, 10, 10)).astype(np.float32)
    np.testing.assert_array_equal(prepare(decode(encode(model)).model)(x).data, prepare(model)(x).data)


def test_a_codebook_without_a_pinned_zero_keeps_its_first_centroid():
    index = np.where(rng(2).random((400, 300)) < 0.9, 1, 0)
    layer = Linear(300, 400)
    layer.forms["weight"] = Codebook(index, np.array([0.5, 0.0, 2.0], np.float32))
    model = Model(chain(("fc", layer)), input_shape=(300,))
    made = prepare(model)
    assert kinds(made) == {"fc": "Lanes"}
    close(model, made, rng(3).normal(size=(1, 300)).astype(np.float32))


def test_the_model_is_untouched_and_the_result_has_no_weights_to_train():
    model = net()
    before = model.state_dict()
    made = prepare(model)
    assert {n for n in made.parameters() if n.startswith(("conv", "fc1"))} == set()
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
    made.node("conv").layer.bias[:] = 7
    np.testing.assert_array_equal(model.forms()["conv.bias"].dense().data, before["conv.bias"])


def layer(shape, sparsity, form="dense"):
    o, i = shape
    mask = np.zeros(o * i, bool)
    mask[: round((1 - sparsity) * o * i)] = True
    w = rng().normal(size=shape).astype(np.float32)
    mask = rng(1).permutation(mask).reshape(shape)
    made = Linear(i, o)
    made.forms["weight"] = {
        "dense": lambda: Dense(w, mask),
        "half": lambda: Half(w, mask),
        "codebook": lambda: Codebook(mask.astype(int), np.array([0, 1], np.float32), True),
    }[form]()
    return made


def test_where_the_limits_lie():
    # A density is 1 - sparsity; a limit belongs to the layout, and so does the smallest layer.
    assert deploy.layout_of(layer((500, 200), 0.6)) == "lanes"
    assert deploy.layout_of(layer((500, 200), 0.59)) is None
    assert deploy.layout_of(layer((499, 200), 0.9)) is None  # 99,800 weights
    assert deploy.layout_of(layer((500, 200), 0.9, "half")) == "lanes"
    assert deploy.layout_of(layer((500, 200), 0.5, "codebook")) == "codes in lanes"
    assert deploy.layout_of(layer((64, 64), 0.71), 64) == "CSR"
    assert deploy.layout_of(layer((64, 64), 0.69), 64) is None
    assert deploy.layout_of(layer((64, 64), 0.66, "codebook"), 64) == "relative index"
    assert deploy.layout_of(layer((64, 63), 0.9), 64) is None
    grouped = Conv2d(64, 64, 3, groups=2)
    grouped.forms["weight"] = Dense(np.zeros(grouped.forms["weight"].shape, np.float32))
    assert deploy.layout_of(grouped) is None and deploy.layout_of(ReLU()) is None
    conv = Conv2d(64, 64, 3)
    assert deploy.layout_of(conv) == "CSR" and deploy.layout_of(conv, 2) is None


@pytest.mark.parametrize("n, m", [(1, 4), (2, 4), (2, 8), (3, 8), (5, 16)])
def test_blocks_are_found(n, m):
    model = net(0, n=0)
    made = NM(n=n, m=m, skip=True).apply(model, None, Run(rng()))
    found = deploy.blocks_of(made.forms()["fc1.weight"])
    assert found == (n, m)
    assert nm.pack_nm(made.forms()["fc1.weight"].dense().data, *found).n == n


def test_what_is_no_n_of_m_is_not_taken_for_it():
    assert deploy.blocks_of(Dense(np.ones((2, 4)))) is None
    assert deploy.blocks_of(Dense(np.ones((2, 4)), np.ones((2, 4), bool))) is None
    uneven = np.array([[1, 1, 0, 0, 1, 0, 0, 0]], bool)
    assert deploy.blocks_of(Dense(np.ones((1, 8)), uneven)) == (3, 8)
    uneven = np.array([[1, 1, 0, 0, 1, 0, 0]], bool)
    assert deploy.blocks_of(Dense(np.ones((1, 7)), uneven)) is None


@pytest.mark.parametrize(
    "name, value", [("kernel_module", lambda name: None), ("resolve", lambda isa, name: 1)]
)
def test_without_vectors_everything_stays_dense(name, value, monkeypatch, recwarn):
    monkeypatch.setattr(deploy, "_vectors", VECTORS)
    monkeypatch.setattr(deploy.cpu, name, value)
    made = prepare(net(), batch=8)
    assert kinds(made) == {} and not recwarn.list


@pytest.mark.parametrize("name", ["batch", "n_threads"])
def test_refusals(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        prepare(net(), **{name: 0})


def test_models_of_the_library_run():
    for name in ("lenet300", "lenet5"):
        model = Magnitude(sparsity=0.9).apply(models.MODELS[name](rng=rng()), None, Run(rng()))
        x = rng().normal(size=(2, *model.input_shape)).astype(np.float32)
        for batch in (1, 2):
            made = prepare(model, batch=batch)
            assert kinds(made)
            close(model, made, x)
