import gzip
import hashlib
import lzma
import os
import pickle
import struct
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from minicomp import data
from minicomp.data import catalog, files, readers
from minicomp.errors import DataError, UserError

REAL = os.environ.get("MINICOMP_DATA")
PUBLISHED = catalog.COLLECTIONS["mnist"].files
real = pytest.mark.skipif(not REAL, reason="MINICOMP_DATA is not set")


def idx_gz(a):
    head = bytes((0, 0, 8, a.ndim)) + struct.pack(f">{a.ndim}I", *a.shape)
    return gzip.compress(head + a.astype(np.uint8).tobytes(), mtime=0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    # An empty cache and no MINICOMP_DATA.
    monkeypatch.delenv("MINICOMP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "minicomp" / "data"


@pytest.fixture
def small(home, monkeypatch):
    # "mnist" of 6,000 training and 10 test images, with its own checksums, in the cache.
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, (6000, 4, 4)),
        rng.integers(0, 10, 6000),
        rng.integers(0, 256, (10, 4, 4)),
        rng.integers(0, 10, 10),
    ]
    real_files, raws = catalog.COLLECTIONS["mnist"].files, [idx_gz(a) for a in arrays]
    small = tuple(
        catalog.DataFile(f.name, len(raw), hashlib.sha256(raw).hexdigest())
        for f, raw in zip(real_files, raws)
    )
    monkeypatch.setitem(
        catalog.COLLECTIONS, "mnist", replace(catalog.COLLECTIONS["mnist"], files=small)
    )
    for f, raw in zip(small, raws):
        files.write(home / "mnist" / f.name, raw)
    return home / "mnist", arrays


def test_idx_data_set_is_split_and_its_pixels_are_in_0_to_1(small):
    _, (x, y, _, test_y) = small
    d = data.load("mnist")
    assert (len(d.train), len(d.val), len(d.test)) == (1000, 5000, 10)
    assert (
        d.original
        and d.note == "mnist, the published files, from the user's cache"
        and d.input_shape == (1, 4, 4)
    )
    np.testing.assert_array_equal(d.train.x[:, 0], x[:1000].astype(np.float32) / np.float32(255))
    assert d.train.x.min() == 0 and d.train.x.max() == 1 and d.normalize == d.label == "mnist"
    np.testing.assert_array_equal(d.val.y, y[1000:])
    np.testing.assert_array_equal(d.test.y, test_y)
    assert d.train.x.dtype == np.float32 and d.train.y.dtype == np.int64


def test_missing_file_names_it_where_it_was_sought_and_the_command(small, tmp_path, monkeypatch):
    folder, _ = small
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        DataError,
        match="mnist: no file train-labels-idx1-ubyte.gz in .*"
        r"\(3 of 4 files are in .*\); run: minicomp data get mnist$",
    ):
        data.load("mnist")
    monkeypatch.undo()  # the published files, under all their names
    with pytest.raises(DataError) as e:
        data.load("mnist", root=tmp_path)
    assert str(e.value) == (
        "mnist: no file train-images-idx3-ubyte.gz or train-images-idx3-ubyte or "
        "train-images.idx3-ubyte or train-images.idx3-ubyte.gz in "
        f"{tmp_path}/mnist or {tmp_path}/MNIST/raw; run: minicomp data get mnist")


def spoil(small, change):
    path = small[0] / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError) as e:
        data.load("mnist")
    message = str(e.value)
    assert message.startswith(f"{path}: ") and message.endswith("; run: minicomp data get mnist")
    assert "\n" not in message
    return message


def test_truncated_file(small):
    assert "truncated: expected " in spoil(small, lambda raw: raw[:-100])


def test_empty_file_is_truncated(small):
    assert "found 0;" in spoil(small, lambda raw: b"")


def test_altered_file(small):
    message = spoil(small, lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    assert "wrong checksum: expected sha256 " in message and ", found " in message


def test_longer_file_says_by_how_much(small):
    size = (small[0] / "train-images-idx3-ubyte.gz").stat().st_size
    assert f"in {size + 3:,} bytes instead of {size:,}" in spoil(small, lambda raw: raw + b"abc")


def test_page_instead_of_a_file(small):
    assert "wrong magic: expected a gzip file (1f 8b), found 3c 68" in spoil(
        small, lambda raw: b"<html>" * 20000
    )


def test_unreadable_file(small):
    path = small[0] / "t10k-labels-idx1-ubyte.gz"
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        files.read(path.parent, catalog.COLLECTIONS["mnist"].files[3], "mnist")


def test_a_file_outside_the_cache_has_to_go_first(small, tmp_path, monkeypatch):
    elsewhere = tmp_path / "own"
    (elsewhere / "mnist").mkdir(parents=True)
    for path in small[0].iterdir():
        (elsewhere / "mnist" / path.name).write_bytes(path.read_bytes())
    (elsewhere / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bxx")
    monkeypatch.setenv("MINICOMP_DATA", str(elsewhere))
    with pytest.raises(
        DataError, match="truncated.*; remove the file, then run: minicomp data get mnist"
    ):
        data.load("mnist")


def test_gunzip_errors():
    raw = gzip.compress(b"abc" * 1000)
    assert files.gunzip(raw, files.Path("p"), "mnist") == b"abc" * 1000
    for bad, match in (
        (raw[:-9], "truncated: the gzip stream ends early"),
        (b"abc", "not a sound gzip"),
        (raw[:20] + b"\xff" * 8 + raw[28:], "not a sound gzip|truncated"),
    ):
        with pytest.raises(DataError, match=match):
            files.gunzip(bad, files.Path("p"), "mnist")


def test_environment_comes_before_the_cache(small, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICOMP_DATA", str(tmp_path / "empty"))
    assert files.find("mnist") == small[0]
    assert files.roots() == [tmp_path / "empty", small[0].parent]
    monkeypatch.setenv("MINICOMP_DATA", "")
    assert files.roots() == [small[0].parent]


@pytest.mark.parametrize(
    "platform, env, expected",
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/minicomp/data"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/x/minicomp/data"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/h/.cache/minicomp/data"),
        ("linux", {}, "/h/.cache/minicomp/data"),
        ("darwin", {}, "/h/Library/Caches/minicomp/data"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/minicomp/data"),
        ("win32", {}, "/h/AppData/Local/minicomp/data"),
    ],
)
def test_cache_folder_of_each_platform(monkeypatch, platform, env, expected):
    monkeypatch.setattr(files.sys, "platform", platform)
    monkeypatch.setattr(files.Path, "home", lambda: files.Path("/h"))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert files.cache_dir() == files.Path(expected)


def test_unknown_name_offers_the_nearest(home):
    with pytest.raises(UserError, match="unknown data set 'minst'; did you mean mnist"):
        data.load("minst")
    with pytest.raises(UserError, match="there are mnist, fashion_mnist"):
        data.get("xyzzy")


def test_default_is_mnist_where_found_else_glyphs(small):
    assert data.default_name() == "mnist" and "found in" in data.default_note()
    for path in small[0].iterdir():
        path.unlink()
    assert data.default_name() == "glyphs"
    assert "glyphs" in data.default_note() and data.default_note().endswith(
        "run: minicomp data get mnist"
    )


def test_listing_says_found_incomplete_absent_and_built_in(small):
    rows = {r.name: r for r in data.available()}
    assert tuple(rows) == data.NAMES
    assert (
        rows["mnist"].state == "found"
        and rows["mnist"].where == small[0]
        and rows["mnist"].how == ""
    )
    assert rows["cifar10"].state == "absent" and rows["cifar10"].how == "minicomp data get cifar10"
    assert rows["glyphs"].state == "built in"
    assert "generated from its rules" in rows["monks-2"].how
    next(small[0].iterdir()).unlink()
    row = data.available()[0]
    assert (
        row.state == "incomplete" and row.where == small[0] and row.how == "minicomp data get mnist"
    )


def test_monks_without_files_are_generated_and_say_so(home):
    for problem, size in ((1, 124), (2, 169), (3, 122)):
        d = data.load(f"monks-{problem}")
        assert d.source == "generated" and not d.original and "generated from its rules" in d.note
        assert d.train.x.shape == (size, 17) and d.test.x.shape == (432, 17) and d.val is d.train


def test_glyphs_come_from_the_cache_the_second_time(home, monkeypatch):
    monkeypatch.setattr(data, "GLYPHS", {"train": 30, "val": 20, "test": 10})
    x, y = data.glyphs.digits(60, seed=0)
    monkeypatch.setattr(data, "GLYPHS_SHA256", data._glyphs_sha256(x, y))
    d = data.load("glyphs")
    assert d.source == "rendered" and (len(d.train), len(d.val), len(d.test)) == (30, 20, 10)
    assert "not the reference" not in d.note and d.input_shape == (1, 28, 28)
    (cached,) = (home / "glyphs").iterdir()
    monkeypatch.setattr(data.glyphs, "digits", lambda n, seed: pytest.fail("rendered again"))
    np.testing.assert_array_equal(data.load("glyphs").train.x, d.train.x)
    # a cache of other pixels, or a damaged one, is rendered anew and mended
    np.savez(cached, x=255 - x, y=y)
    monkeypatch.setattr(data.glyphs, "digits", lambda n, seed: (x, y))
    np.testing.assert_array_equal(data.load("glyphs").train.x, d.train.x)
    cached.write_bytes(cached.read_bytes()[:5000])
    np.testing.assert_array_equal(data.load("glyphs").train.x, d.train.x)
    assert cached.stat().st_size > 5000 and len(list((home / "glyphs").iterdir())) == 1


def test_glyphs_need_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "GLYPHS", {"train": 3, "val": 2, "test": 1})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    d = data.load("glyphs")
    # six images are not the pinned 16,000, which is what the note is for
    assert len(d.train) == 3 and "not the reference pixels" in d.note


def cifar_batch(seed):
    rng = np.random.default_rng(seed)
    records = rng.integers(0, 256, (20, readers.CIFAR_RECORD)).astype(np.uint8)
    records[:, 0] %= 10
    return records


@pytest.fixture
def cifar(home, monkeypatch):
    batches = [cifar_batch(i) for i in range(6)]
    c = catalog.COLLECTIONS["cifar10"]
    small = tuple(
        catalog.DataFile(f.name, b.nbytes, hashlib.sha256(b.tobytes()).hexdigest())
        for f, b in zip(c.files, batches)
    )
    monkeypatch.setitem(catalog.COLLECTIONS, "cifar10", replace(c, files=small))
    folder = home / "cifar10"
    files.write(folder / "data_batch_2.bin", batches[1].tobytes())
    files.write(folder / "test_batch.bin.xz", lzma.compress(batches[5].tobytes()))
    return folder, batches


def test_cifar_takes_the_batches_that_are_there_plain_or_packed(cifar):
    folder, batches = cifar
    d = data.load("cifar10")
    assert "1 of the 5 training batches, 20 of 50,000 images" in d.note
    assert (len(d.train), len(d.val), len(d.test)) == (18, 2, 20)
    np.testing.assert_array_equal(d.test.y, batches[5][:, 0])
    files.write(folder / "data_batch_1.bin.xz", lzma.compress(batches[0].tobytes()))
    d = data.load("cifar10")
    np.testing.assert_array_equal(
        np.concatenate([d.train.y, d.val.y]), np.concatenate([batches[0][:, 0], batches[1][:, 0]])
    )
    expected = batches[0][:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(d.train.x[:20], expected)


def test_cifar_without_its_test_batch_is_missing(cifar):
    (cifar[0] / "test_batch.bin.xz").unlink()
    files.write(cifar[0] / "data_batch_1.bin", cifar[1][0].tobytes())
    with pytest.raises(DataError, match="cifar10: no file test_batch.bin in .*2 of 6 files"):
        data.load("cifar10")


def test_cifar_with_its_test_batch_alone_is_missing(cifar):
    (cifar[0] / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match="cifar10: no file data_batch_1.bin in .*1 of 6 files"):
        data.load("cifar10")


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda raw: raw[:-40], "truncated: the xz stream ends early"),
        (lambda raw: b"<html>" + raw[6:], r"wrong magic: expected an xz file \(fd 37"),
        (lambda raw: raw[:200] + b"\xff" * 30 + raw[230:], "not a sound xz file"),
        (lambda raw: lzma.compress(b"other bytes" * 9999), "wrong checksum"),
        (lambda raw: lzma.compress(b"short"), "truncated: expected 61,460 bytes, found 5"),
    ],
)
def test_packed_file_errors(cifar, change, match):
    path = cifar[0] / "test_batch.bin.xz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=match):
        data.load("cifar10")


def test_writing_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "a" / "f.bin"
    files.write(path, b"old")
    monkeypatch.setattr(
        files.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(
        DataError, match="cannot be written: No space left on device; set XDG_CACHE_HOME"
    ):
        files.write(path, b"new")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


# ------------------------------------------------------------ as other programs keep the same files


def published(arrays):
    # The catalog's files of "mnist" with these arrays, packed and unpacked.
    def unpacked(a):
        return bytes((0, 0, 8, a.ndim)) + struct.pack(f">{a.ndim}I", *a.shape) + a.astype(
            np.uint8).tobytes()

    def of(name, raw):
        return catalog.DataFile(name, len(raw), hashlib.sha256(raw).hexdigest())

    files_, raws = [], {}
    for f, a in zip(PUBLISHED, arrays):
        plain, packed = unpacked(a), idx_gz(a)
        others = tuple(of(o.name, packed if o.name.endswith(".gz") else plain) for o in f.others)
        files_.append(replace(of(f.name, packed), others=others))
        raws |= {f.name: packed, **{o.name: packed if o.name.endswith(".gz") else plain
                                    for o in f.others}}
    return tuple(files_), raws


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
@pytest.mark.parametrize("rename", [
    lambda n: n, lambda n: n.removesuffix(".gz"),
    lambda n: n.removesuffix(".gz").replace("-idx", ".idx"), lambda n: n.replace("-idx", ".idx")])
def test_mnist_is_found_as_other_programs_keep_it(folder, rename, small, tmp_path, monkeypatch):
    _, arrays = small
    made, raws = published(arrays)
    monkeypatch.setitem(
        catalog.COLLECTIONS, "mnist", replace(catalog.COLLECTIONS["mnist"], files=made))
    for f in made:
        files.write(tmp_path / "there" / folder / rename(f.name), raws[rename(f.name)])
    monkeypatch.setenv("MINICOMP_DATA", str(tmp_path / "there"))
    d = data.load("mnist")
    np.testing.assert_array_equal(d.test.y, arrays[3])
    assert d.note == "mnist, the published files, from $MINICOMP_DATA"
    assert data.default_name() == "mnist" and folder in data.default_note()
    (row,) = [r for r in data.available() if r.name == "mnist"]
    assert (row.state, row.where) == ("found", tmp_path / "there" / folder)
    path = tmp_path / "there" / folder / rename(made[1].name)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match=f"{path.name}: wrong checksum"):
        data.load("mnist")


def test_unpacked_files_are_taken_into_the_cache(small, tmp_path, home, monkeypatch):
    made, raws = published(small[1])
    monkeypatch.setitem(
        catalog.COLLECTIONS, "mnist", replace(catalog.COLLECTIONS["mnist"], files=made))
    for f in made:
        (home / "mnist" / f.name).unlink()
        name = f.name.removesuffix(".gz")
        files.write(tmp_path / "raw" / name, raws[name])
    assert data.get("mnist", tmp_path / "raw") == home / "mnist"
    assert sorted(p.name for p in (home / "mnist").iterdir()) == sorted(
        f.name.removesuffix(".gz") for f in made)
    np.testing.assert_array_equal(data.load("mnist").test.y, small[1][3])


def test_the_names_and_checksums_of_every_form_are_in_the_catalog():
    for name in ("mnist", "fashion_mnist"):
        for f in catalog.COLLECTIONS[name].files:
            plain, dotted, packed = f.others
            assert (plain.size, plain.sha256) == (dotted.size, dotted.sha256)
            assert (packed.size, packed.sha256) == (f.size, f.sha256)
            assert plain.size in (47040016, 60008, 7840016, 10008)
    for f in catalog.COLLECTIONS["cifar10"].files:
        assert [o.name + ".bin" for o in f.others] == [f.name] and len(f.others[0].sha256) == 32


@real
def test_the_checksums_of_unpacked_files_are_right():
    for name in ("mnist", "fashion_mnist"):
        folder = files.find(name, REAL)
        for f in catalog.COLLECTIONS[name].files:
            raw = gzip.decompress((folder / f.name).read_bytes())
            assert files.compare(raw, f.others[0]) is None


def python2(arrays, labels):
    # A batch as CIFAR-10's authors pickled it: Python 2's strings, which Python 3 cannot write.
    def string(raw):
        return b"T" + struct.pack("<I", len(raw)) + raw

    def whole(n):
        return b"J" + struct.pack("<i", n)

    raw = arrays.tobytes()
    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + whole(0) + b"t"
             + string(b"b") + b"tR(" + whole(1) + b"(" + whole(len(arrays))
             + whole(len(raw) // len(arrays)) + b"tcnumpy\ndtype\n(" + string(b"u1") + whole(0)
             + whole(1) + b"tR(" + whole(3) + string(b"|") + b"NNN" + whole(-1) + whole(-1)
             + whole(0) + b"tbI00\n" + string(raw) + b"tb")
    listed = b"](" + b"".join(whole(int(v)) for v in labels) + b"e"
    return (b"\x80\x02}(" + string(b"batch_label") + string(b"a batch") + string(b"data") + array
            + string(b"labels") + listed + b"u.")


@pytest.fixture
def pickled(home, monkeypatch):
    rng, c = np.random.default_rng(1), catalog.COLLECTIONS["cifar10"]
    x, y = rng.integers(0, 256, (6, 20, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, (6, 20))
    raws = [python2(a, b) for a, b in zip(x, y)]
    small = tuple(
        replace(f, others=(catalog.DataFile(f.others[0].name, 0, hashlib.md5(raw).hexdigest()),))
        for f, raw in zip(c.files, raws))
    monkeypatch.setitem(catalog.COLLECTIONS, "cifar10", replace(c, files=small))
    for f, raw in zip(small, raws):
        files.write(home / "cifar-10-batches-py" / f.others[0].name, raw)
    return home / "cifar-10-batches-py", x, y


def test_cifar_is_read_from_the_pickles_of_torchvision(pickled):
    folder, x, y = pickled
    d = data.load("cifar10")
    assert (len(d.train), len(d.val), len(d.test)) == (90, 10, 20)
    np.testing.assert_array_equal(d.test.y, y[5])
    np.testing.assert_array_equal(d.test.x, x[5] / np.float32(255))
    np.testing.assert_array_equal(np.concatenate([d.train.y, d.val.y]), y[:5].ravel())
    assert d.note == "cifar10, the published files, from the user's cache"
    path = folder / "data_batch_2"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="data_batch_2: wrong checksum: expected md5"):
        data.load("cifar10")


class Runs:
    # Unpickled by whoever builds what a pickle names, it makes a folder where it stands.
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("thing", [
    Runs(), {b"data": Runs(), b"labels": []}, {"data": 3, "labels": []}, [], {},
    {b"data": np.zeros((2, 3072)), b"labels": [1, 2]},
    {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, -2]},
    {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]},
    {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2, 3]},
    {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, True]},
    {b"data": np.array([[{}]], object), b"labels": [1]},
])
def test_a_pickle_of_something_else_builds_nothing(thing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="^batch: expected") as e:
        readers.cifar_pickled(pickle.dumps(thing, protocol=3), "batch")
    assert str(e.value).isprintable() and not list(tmp_path.iterdir())


def test_a_pickled_array_of_other_numbers_is_not_read_as_bytes():
    raw = python2(np.full((2, 3, 32, 32), 200, np.uint8), np.arange(2))
    assert readers.cifar_pickled(raw, "batch")[0].max() == 200
    for kind in (b"i1", b"O8", b"f4"):
        with pytest.raises(DataError, match="its array is not of bytes"):
            readers.cifar_pickled(raw.replace(b"u1", kind), "batch")


def test_damaged_pickles_are_one_error():
    raw = python2(np.zeros((4, 3, 32, 32), np.uint8), np.arange(4))
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(raw)
        damaged[rng.integers(300)] ^= int(rng.integers(1, 256))
        try:
            readers.cifar_pickled(bytes(damaged[: rng.integers(1, len(raw) + 1)]), "batch")
        except DataError as e:
            assert str(e).isprintable()


@real
def test_real_mnist_is_the_published_one_and_quick():
    # Processor seconds of both threads: a busy machine does not fail it. Measured 0.18.
    times = []
    for _ in range(3):
        start = time.process_time()
        d = data.load("mnist", root=REAL)
        times.append(time.process_time() - start)
    assert min(times) < 0.5
    assert d.train.x.shape == (55000, 1, 28, 28) and len(d.val) == 5000 and len(d.test) == 10000
    assert d.train.y[:5].tolist() == [5, 0, 4, 1, 9] and d.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    x = np.concatenate([d.train.x.ravel(), d.val.x.ravel()])
    assert abs(x.mean(dtype=np.float64) - 0.1307) < 6e-5
    assert abs(x.std(dtype=np.float64) - 0.3081) < 6e-5


@real
def test_real_fashion_mnist_statistics():
    d = data.load("fashion_mnist", root=REAL)
    assert abs(d.train.x.mean(dtype=np.float64) - 0.2860) < 6e-4
    assert abs(d.train.x.std(dtype=np.float64) - 0.3530) < 6e-4
    assert d.classes[9] == "Ankle boot" and d.train.y[0] == 9


@real
def test_real_monks_agree_with_their_rules_but_for_the_noise():
    for problem, positive, wrong in ((1, 216, 0), (2, 142, 0), (3, 228, 6)):
        folder = files.find(f"monks-{problem}", REAL)
        for part in ("train", "test"):
            a, y = readers.monks((folder / f"monks-{problem}.{part}").read_bytes(), part)
            bad = (data.monks.rule(problem, a) != y).sum()
            assert bad == (wrong if part == "train" else 0)
        assert y.sum() == positive
        np.testing.assert_array_equal(a, data.monks.cases())
        d = data.load(f"monks-{problem}", root=REAL)
        assert d.original and len(d.train) == data.monks.TRAIN_SIZES[problem]


@real
@pytest.mark.slow
def test_real_cifar10():
    d = data.load("cifar10", root=REAL)
    assert d.train.x.shape[1:] == (3, 32, 32) and len(d.test) == 10000
    assert d.classes[d.test.y[0]] == "cat" and d.classes[d.train.y[0]] == "frog"


def test_a_file_that_inflates_a_thousandfold_is_refused_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "UNPACKED", 10**6)
    assert len(files.gunzip(gzip.compress(bytes(10**6)), files.Path("p"), "mnist")) == 10**6
    bomb = gzip.compress(bytes(10**8))
    tracemalloc.start()
    with pytest.raises(DataError, match="p: holds more than 1,000,000 bytes"):
        files.gunzip(bomb, files.Path("p"), "mnist")
    peaks = [tracemalloc.get_traced_memory()[1]]
    packed, file = tmp_path / "a.xz", files.DataFile("a", 1000, "0" * 64)
    packed.write_bytes(lzma.compress(bytes(10**8), preset=0))
    tracemalloc.reset_peak()
    with pytest.raises(DataError, match="wrong checksum"):
        files.read(packed, file, "mnist")
    plain = tmp_path / "a"
    with open(plain, "wb") as f:
        f.truncate(10**8)  # a hole
    with pytest.raises(DataError, match="in 100,000,000 bytes instead of 1,000"):
        files.read(plain, file, "mnist")
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert max(peaks) < 3 * 10**7  # liblzma's own dictionary is most of it
