import io
import zipfile

import numpy as np
import pytest

from minicomp import data
from minicomp.data import arrays, from_arrays
from minicomp.errors import DataError


def images(n=50, shape=(6, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n=50, classes=4):
    return np.arange(n) % classes


def keras(**changed):
    given = {"x_train": images(), "y_train": labels().astype(np.uint8),
             "x_test": images(9, seed=1), "y_test": labels(9).astype(np.uint8)} | changed
    return {key: a for key, a in given.items() if a is not None}


def test_bytes_are_divided_and_everything_else_has_a_sensible_default():
    x, y = images(), labels()
    d = from_arrays(x, y)
    assert (len(d.train), len(d.val), d.test, d.input_shape) == (45, 5, None, (1, 6, 5))
    assert d.classes == ("0", "1", "2", "3") and (d.source, d.name) == ("arrays", "arrays")
    both = np.concatenate([d.train.x, d.val.x])[:, 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, x.astype(np.float32) / np.float32(255)))
    (mean,), (std,) = d.normalize
    assert mean == pytest.approx(d.train.x.mean(), rel=1e-3)
    assert std == pytest.approx(d.train.x.std(), rel=1e-3)


def test_the_examples_set_aside_are_always_the_same_and_of_all_classes():
    x, y = images(2000), np.sort(labels(2000, 5))
    for y in (y, labels(2000, 10)):  # sorted by class, and in turn
        one, two = from_arrays(x, y), from_arrays(x, y)
        np.testing.assert_array_equal(one.val.x, two.val.x)
        assert len(one.val) == 200 and set(one.val.y) == set(y.tolist())
    # pinned: a file's digest and a reported error belong to these
    d = from_arrays(np.arange(20, dtype=np.float32)[:, None], np.zeros(20, int))
    assert d.val.x.ravel().tolist() == [14.0, 17.0]
    single = from_arrays(x[:1], y[:1])
    assert len(single.train) == len(single.val) == 1


def test_colour_floats_flat_and_given_validation():
    x = np.random.default_rng(0).normal(2, 3, (30, 3, 4, 4))
    x[:, 2] = 7.0  # of one number: not divided by 0
    d = from_arrays(x, labels(30), x_val=x[:6], y_val=labels(6)[:, None], name="my set/1",
                    classes=("a", "b", "c", "d"))
    assert d.train.x.dtype == np.float32 and len(d.train) == 30 and len(d.val) == 6
    np.testing.assert_array_equal(d.train.x, x.astype(np.float32))
    assert d.normalize[1][2] == 1.0 and d.normalize[0][2] == 7.0 and d.mean.shape == (3, 1, 1)
    assert d.name == "my_set_1" and d.label.startswith("my_set_1@") and d.classes[3] == "d"
    flat = from_arrays(x.reshape(30, -1), labels(30), normalize=None)
    assert flat.input_shape == (48,) and flat.normalize is None
    named = from_arrays(images(), labels(), normalize="mnist")
    assert named.normalize == "mnist"


def test_the_digest_tells_arrays_apart():
    a, b = images(), images()
    b[3, 2, 1] ^= 1
    labels_of = [from_arrays(x, labels()).label for x in (a, a.copy(), b)]
    assert labels_of[0] == labels_of[1] != labels_of[2]
    assert from_arrays(a, labels() ^ 1).label != labels_of[0]


WRONG = [
    ({"x_train": None}, "x_train is missing"),
    ({"y_test": None}, "y_test is missing"),
    ({"x_val": images(5)}, "y_val is missing: x_val and y_val go together"),
    ({"x_train": images(shape=())}, r"x_train must have shape \(N, H, W\), .*, got \(50,\)"),
    ({"x_train": images(0), "y_train": labels(0)}, r"no axis empty, got \(0, 6, 5\)"),
    ({"x_train": images(shape=(32, 32, 3))},
     r"x_train must have its channels first, \(N, C, H, W\), got \(50, 32, 32, 3\); x.transpose"),
    ({"x_train": images().astype(np.int64)},
     "x_train must be uint8, 0..255, or float32, got int64"),
    ({"x_train": images() > 3}, "x_train must be uint8, 0..255, or float32, got bool"),
    ({"x_train": np.full((50, 6, 5), np.nan)}, "x_train must be finite numbers of float32"),
    ({"x_train": np.full((50, 6, 5), 1e300)}, "x_train must be finite numbers of float32"),
    ({"y_train": labels(49)}, r"y_train must have shape \(50,\), a class for each example of "
                              r"x_train, got \(49,\)"),
    ({"y_train": np.eye(4)[labels()]}, r"y_train must have shape \(50,\), .*, got \(50, 4\)"),
    ({"y_train": labels() / 2}, "y_train must be integers, the class of each example, got float64"),
    ({"y_train": labels() - 1}, r"y_train must be classes in 0\.\.999, got -1\.\.2"),
    ({"y_test": labels(9) + 10**12}, r"y_test must be classes in 0\.\.999"),
    ({"x_test": images(9, (5, 5))},
     r"x_test must have examples of shape \(1, 6, 5\), as x_train, got \(1, 5, 5\)"),
]


@pytest.mark.parametrize("changed, match", WRONG)
def test_every_mistake_is_one_line_that_names_the_array(changed, match, tmp_path):
    np.savez(tmp_path / "f.npz", **keras(**changed))
    with pytest.raises(DataError, match=match) as e:
        data.load(tmp_path / "f.npz")
    assert str(e.value).startswith(f"{tmp_path}/f.npz: ") and "\n" not in str(e.value)
    with pytest.raises((DataError, TypeError), match=match.replace(" is missing", ".*")):
        from_arrays(**keras(**changed))


def test_more_mistakes_in_python():
    with pytest.raises(DataError, match="x_train is no array"):
        from_arrays([[1, 2], [3]], [0, 1])
    with pytest.raises(DataError, match=r"classes must have a name for each label, 0\.\.3, got 2"):
        from_arrays(images(), labels(), classes=("a", "b"))
    with pytest.raises(DataError, match="normalize: .*mnist.*got 'minst'"):
        from_arrays(images(), labels(), normalize="minst")
    with pytest.raises(DataError,
                       match="normalize: it must have a mean for each of the 1 channels"):
        from_arrays(images(), labels(), normalize="cifar10")
    with pytest.raises(DataError, match="x_train must be uint8, 0..255, or float32, got"):
        from_arrays(images().astype(str), labels())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_keras_layout_works_as_it_is(save, tmp_path):
    save(tmp_path / "mnist.npz", **keras())
    d = data.load(str(tmp_path / "mnist.npz"))
    assert (len(d.train), len(d.val), len(d.test)) == (45, 5, 9) and d.name == "mnist"
    assert d.label == from_arrays(**keras(), name="mnist").label and "set aside" in d.note
    np.testing.assert_array_equal(d.test.x[:, 0], keras()["x_test"] / np.float32(255))
    save(tmp_path / "with_val.npz", **keras(x_val=images(3), y_val=labels(3)))
    d = data.load(tmp_path / "with_val.npz")
    assert (len(d.train), len(d.val)) == (50, 3) and "set aside" not in d.note


def packed(tmp_path, **entries):
    path = tmp_path / "f.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, raw in entries.items():
            z.writestr(name + ".npy", raw)
    return path


def npy(a, **header):
    out = io.BytesIO()
    np.lib.format.write_array(out, a)
    return out.getvalue()


def test_files_that_lie_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(np.lib.format, "read_array", lambda *a, **k: pytest.fail("read"))
    good = {key: npy(a) for key, a in keras().items()}

    def refused(match, **entries):
        with pytest.raises(DataError, match=match) as e:
            data.load(packed(tmp_path, **(good | entries)))
        assert str(e.value).isprintable()

    huge = good["x_train"].replace(b"(50, 6, 5)", b"(9**9, 6,)")
    refused("not a sound .npz file", x_train=huge)
    huge = good["x_train"].replace(b"(50, 6, 5)", b"(2000000000, 999, 999)")
    refused("not a sound .npz file|x_train: an array of uint8 and shape", x_train=huge)
    refused("x_train: an array of uint8 and shape .* is declared", x_train=good["x_train"][:-1])
    refused("x_train: an array of uint8 and shape", x_train=good["x_train"] + b"x")
    refused("unknown array; did you mean x_train", x_trian=good["x_train"])
    refused("unknown array", **{"x\x1b[31m": b""})
    refused("not a sound .npz file", x_test=b"")
    refused("not a sound .npz file", x_test=good["x_test"][:20])
    objects = io.BytesIO()
    np.lib.format.write_array(objects, np.array([{}]), allow_pickle=True)
    refused("y_train must be numbers, got objects", y_train=objects.getvalue())
    with pytest.raises(DataError,
                       match="arrays must take at most 1,000 bytes as float32, got 7,316"):
        arrays.read_npz(packed(tmp_path, **good), max_bytes=1000)


def test_what_is_no_npz_file(tmp_path):
    (tmp_path / "f.npz").write_bytes(b"PK no")
    with pytest.raises(DataError, match="f.npz: not a sound .npz file"):
        data.load(tmp_path / "f.npz")
    with pytest.raises(DataError, match="g.npz: cannot be read: No such file"):
        data.load(str(tmp_path / "g.npz"))
    with pytest.raises(DataError, match="cannot be read"):
        (tmp_path / "h.npz").mkdir()
        data.load(tmp_path / "h.npz")


def test_damaged_files_are_one_error(tmp_path):
    members = {k: npy(a) for k, a in keras().items()}
    raw, rng = bytearray(packed(tmp_path, **members).read_bytes()), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(raw)
        damaged[rng.integers(len(raw))] ^= int(rng.integers(1, 256))
        (tmp_path / "d.npz").write_bytes(damaged[: rng.integers(len(raw) // 2, len(raw) + 1)])
        try:
            data.load(tmp_path / "d.npz")
        except DataError as e:
            assert str(e).isprintable()
