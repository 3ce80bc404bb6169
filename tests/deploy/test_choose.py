import numpy as np
import pytest

from minicomp.compress.prune.nm import NM
from minicomp.compress.technique import Run
from minicomp.deploy import Step, choose
from minicomp.deploy.choose import blocks_of, layout_of
from minicomp.kernels.codebook import tables
from minicomp.kernels.sparse import nm
from minicomp.nn.forms import Codebook, Dense, Half, Product

pytestmark = pytest.mark.usefixtures("every_machine")
VECTORS = choose._vectors


def rng(seed=0):
    return np.random.default_rng(seed)


def layer(shape, sparsity, form="dense", kind="linear", **args):
    size = int(np.prod(shape))
    mask = np.zeros(size, bool)
    mask[: round((1 - sparsity) * size)] = True
    w = rng().normal(size=shape).astype(np.float32)
    mask = rng(1).permutation(mask).reshape(shape)
    held = {
        "dense": lambda: Dense(w, mask),
        "half": lambda: Half(w, mask),
        "codebook": lambda: Codebook(mask.astype(int), np.array([0, 1], np.float32), True),
    }[form]()
    args |= {"bias": False}
    if kind == "linear":
        args["out_features"] = shape[0]
    else:
        args |= {"out_channels": shape[0], "kernel_size": shape[2:]}
    return Step("fc", kind, ("x",), args, {"weight": held})


def test_where_the_limits_lie():
    # A density is 1 - sparsity; a limit belongs to the layout, and so does the smallest layer.
    assert layout_of(layer((500, 200), 0.6)) == "lanes"
    assert layout_of(layer((500, 200), 0.59)) == "dense"
    assert layout_of(layer((499, 200), 0.9)) == "dense"  # 99,800 weights
    assert layout_of(layer((500, 200), 0.9, "half")) == "lanes"
    assert layout_of(layer((500, 200), 0.5, "codebook")) == "codes in lanes"
    assert layout_of(layer((500, 200), 0.49, "codebook")) == "dense"
    assert layout_of(layer((64, 64), 0.71), 64) == "CSR"
    assert layout_of(layer((64, 64), 0.69), 64) == "dense"
    assert layout_of(layer((64, 64), 0.66, "codebook"), 64) == "relative index"
    assert layout_of(layer((64, 64), 0.64, "codebook"), 64) == "dense"
    assert layout_of(layer((64, 63), 0.9), 64) == "dense"


def test_convolutions_have_many_columns_for_one_image_and_stay_dense_for_more():
    conv = layer((64, 64, 3, 3), 0.9, kind="conv")
    assert layout_of(conv) == "CSR" and layout_of(conv, 2) == "dense"
    assert layout_of(layer((64, 64, 3, 3), 0.9, "codebook", kind="conv")) == "relative index"
    assert layout_of(layer((64, 32, 3, 3), 0.9, kind="conv", groups=2)) == "dense"


def test_what_has_no_weight_has_no_layout():
    assert layout_of(Step("a", "relu")) is None
    weights = {"gain": Dense(np.zeros(3)), "bias": Dense(np.zeros(3))}
    assert layout_of(Step("a", "scale", weights=weights)) is None


def test_a_table_with_too_many_codes_is_no_codebook_to_the_kernels():
    step = layer((500, 200), 0.9)
    for k, layout in ((4095, "codes in lanes"), (4096, "lanes")):
        form = Codebook(np.zeros((500, 200), int), np.zeros(k), pinned_zero=True)
        assert layout_of(Step("fc", "linear", ("x",), step.args, {"weight": form})) == layout


def looked_up(shape, k, block=None, stages=1, batch=1, kind="linear"):
    if block is None:
        form = Codebook(rng().integers(0, k, shape), rng().normal(size=k))
    else:
        blocks = -(-int(np.prod(shape[1:])) // block)
        form = Product(np.zeros((stages, shape[0], blocks), int),
                       np.ones((stages, 1, k, block)), shape)
    step = layer(shape, 0.0, kind=kind)
    return layout_of(Step("fc", kind, ("x",), step.args, {"weight": form}), batch) == "tables"


def test_what_is_looked_up():
    assert looked_up((1000, 500), 16) and not looked_up((999, 500), 16)
    assert not looked_up((1000, 500), 17) and not looked_up((1000, 500), 16, batch=2)
    assert looked_up((1000, 500), 16, 4) and looked_up((1000, 500), 16, 4, 4)
    assert not looked_up((1000, 500), 16, 4, 5) and not looked_up((999, 500), 16, 4)
    assert looked_up((2000, 2000), 256, 8) and not looked_up((2000, 2000), 257, 8)
    assert not looked_up((2000, 2000), 256, 7) and not looked_up((2000, 1999), 256, 8)
    assert not looked_up((100, 200, 5, 5), 16, 5, kind="conv")


@pytest.mark.parametrize("n, m", [(1, 4), (2, 4), (2, 8), (3, 8), (5, 16)])
def test_blocks_are_found(n, m, nets):
    made = NM(n=n, m=m, skip=True).apply(nets.large("dense"), None, Run(rng()))
    form = made.forms()["fc1.weight"]
    found = blocks_of(form)
    assert found == (n, m)
    assert nm.pack_nm(form.dense().data, *found).n == n


def test_what_is_no_n_of_m_is_not_taken_for_it():
    assert blocks_of(Dense(np.ones((2, 4)))) is None
    assert blocks_of(Dense(np.ones((2, 4)), np.ones((2, 4), bool))) is None
    uneven = np.array([[1, 1, 0, 0, 1, 0, 0, 0]], bool)
    assert blocks_of(Dense(np.ones((1, 8)), uneven)) == (3, 8)
    uneven = np.array([[1, 1, 0, 0, 1, 0, 0]], bool)
    assert blocks_of(Dense(np.ones((1, 7)), uneven)) is None


@pytest.mark.parametrize("name, value", [
    ("kernel_module", lambda name: None), ("resolve", lambda isa, name: 1)])
def test_without_vectors_everything_stays_dense(name, value, monkeypatch, recwarn):
    monkeypatch.setattr(choose, "_vectors", VECTORS)
    monkeypatch.setattr(choose.cpu, name, value)
    assert layout_of(layer((500, 200), 0.9)) == layout_of(layer((500, 200), 0.9), 8) == "dense"
    assert not recwarn.list


def test_a_rung_without_vectors_stays_dense(monkeypatch):
    monkeypatch.setattr(choose, "_vectors", VECTORS)
    assert layout_of(layer((500, 200), 0.9), isa="ref") == "dense"


@pytest.mark.parametrize("layout", [name for name in choose.LIMITS if name != choose.LOOKUPS])
def test_packing_multiplies_the_gain_in_where_there_are_floats(layout, nets):
    shared = layout in choose.OF_CODES
    how = "shared" if shared else "n:m" if layout == "N:M" else "pruned"
    form = nets.large(how).forms()["fc1.weight"]
    gain = rng().uniform(1, 2, 120).astype(np.float32)
    w = choose.packed(form, layout, gain)
    table = w.book if layout == "tables" else w.table if shared else None
    values = table if shared else w.values if layout == "CSR" else w.value
    want = form.centroids.dense().data if shared else form.dense().data * gain[:, None]
    found, wanted = ({float(v) for v in a.ravel() if v} for a in (values, want))
    assert found == wanted
    assert (type(w) is tables.Tables) == (layout == "tables")
