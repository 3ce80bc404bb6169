import re

import numpy as np
import pytest
from minicomp import codec
from minicomp.data import files
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.models import MLP, LeNet5, LeNet300
from minicomp.nn import Conv2d, Flatten, Linear, Model, chain
from minicomp.reference.judges import difference
from minicomp.teach import Lesson, catalog
from minicomp.teach.asking.lesson import Capstone
from minicomp.teach.live import capstone

ASKED = Capstone(limit=95.0, images=30)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    return {"glyphs": capstone.unseen("a secret", 30)["glyphs"]}


def perfect(digits):
    # A net that knows one image of each class by heart: least squares on the images themselves.
    x, y = digits["glyphs"]
    net = Model(chain(("flat", Flatten()), ("fc", Linear(784, 10))),
                input_shape=(1, 28, 28))
    a = x.reshape(len(x), -1) / 255.0
    w = np.linalg.lstsq(a, np.eye(10)[y], rcond=None)[0].T
    net.forms()["fc.weight"].value.data[...] = w
    net.forms()["fc.bias"].value.data[...] = 0
    return net


def test_the_same_secret_draws_the_same_digits_and_another_one_others(digits):
    again, other = (capstone.unseen(s, 30)["glyphs"] for s in ("a secret", "another"))
    assert difference(digits["glyphs"], again) is None
    assert (again[0] != other[0]).any() and len(set(again[1])) > 5


@pytest.mark.skipif(not files.find("mnist"), reason="MNIST is not here")
def test_digits_of_mnist_are_none_of_the_published_pixels():
    from minicomp.data import load

    x, y = capstone.unseen("a secret", 40)["mnist"]
    test = load("mnist").test
    known = {image.tobytes() for image in np.rint(255 * test.x[:, 0]).astype(np.uint8)}
    assert x.shape == (40, 28, 28) and not known & {image.tobytes() for image in x}
    assert len(set(y.tolist())) > 5
    # Yet each is near to one of them, of its class.
    near = [np.abs(255 * test.x[:, 0] - image).mean(axis=(1, 2)).argmin() for image in x[:8]]
    assert (test.y[near] == y[:8]).mean() > 0.8


def test_what_is_measured_of_a_good_net(digits):
    net = perfect(digits)
    raw = codec.encode(net)
    found = capstone.measure(raw, digits, ASKED)
    assert found["problem"] == "" and found["bytes"] == len(raw) and found["errors"] == 0
    assert found["digits"] == "glyphs" and found["size"] == 30 and found["low"] == 0
    assert 0 < found["ratio"] < 5 and found["others"] == {"glyphs": 0}
    points, text = capstone.scored(found, ASKED)
    assert points == 2 + 3 + sum(len(raw) <= s for s in ASKED.sizes)
    assert "0 of 30 unseen glyphs wrong, 0.00 %, which is within 95 %" in text


def test_the_digits_that_a_net_reads_better_count(digits):
    x, y = digits["glyphs"]
    both = digits | {"mnist": (x, (y + 1) % 10)}
    found = capstone.measure(codec.encode(perfect(digits)), both, ASKED)
    assert found["digits"] == "glyphs" and found["others"] == {"glyphs": 0, "mnist": 30}


def test_a_program_is_measured_as_a_model_is(digits):
    program = codec.encode(lower(perfect(digits)))
    assert capstone.measure(program, digits, ASKED)["errors"] == 0


def found(errors, size=1000, n_bytes=50_000, ratio=1.0):
    return {"problem": "", "bytes": n_bytes, "errors": errors, "size": size, "digits": "mnist",
            "ratio": ratio}


@pytest.mark.parametrize("errors, n_bytes, points", [
    (18, 100_001, 5), (18, 100_000, 6), (18, 30_000, 7), (0, 10_000, 8), (19, 10_000, 2)])
def test_points_by_error_and_size(errors, n_bytes, points):
    got, text = capstone.scored(found(errors, n_bytes=n_bytes), Capstone())
    assert got == points and f"{n_bytes:,} bytes" in text and "warped digits of MNIST" in text
    assert ("above" in text) == (errors > 18)


def test_ranks_go_by_bytes_then_by_time_to_one_decimal():
    assert capstone.place(found(0, n_bytes=5, ratio=9)) < capstone.place(found(0, n_bytes=6))
    assert capstone.place(found(0, ratio=1.01)) == capstone.place(found(9, ratio=1.04))
    assert capstone.place(found(0, ratio=1.0)) < capstone.place(found(0, ratio=1.2))


def narrow():
    return Model(chain(("c", Conv2d(1, 2, 3)), ("f", Flatten()),
                       ("fc", Linear(2 * 26 * 26, 9))), input_shape=(1, 28, 28))


REFUSED = {  # what is handed in, what is told of it
    "empty": (lambda: b"", "0 bytes|magic|not a"),
    "text": (lambda: b"my net is very good, please believe me", "not a|magic"),
    "cut": (lambda: codec.encode(LeNet5(rng=RNG))[:4000], "bytes are declared"),
    "other inputs": (lambda: codec.encode(MLP([784, 10], rng=RNG)), "takes 784 and gives 10"),
    "other outputs": (lambda: codec.encode(narrow()), "gives 9; it must take 1 x 28 x 28"),
}


@pytest.mark.parametrize("make, told", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_measured_gets_one_line_and_no_points(digits, make, told):
    got = capstone.measure(make(), digits, ASKED)
    points, text = capstone.scored(got, ASKED)
    assert points == 0 and "\n" not in text
    assert re.search(told, text), text


def test_limits_of_bytes_memory_and_operations(digits):
    raw = codec.encode(LeNet300(rng=RNG))
    for limits, told in (({"most_bytes": 1000}, "at most 1,000 are taken"),
                         ({"memory": 100_000}, "100000|at most"),
                         ({"operations": 10_000}, "at most 10,000 are allowed")):
        got = capstone.measure(raw, digits, Capstone(images=30, **limits))
        assert re.search(told, got["problem"]), got


def test_a_flipped_bit_anywhere_is_found_or_harms_nobody(digits):
    raw = codec.encode(perfect(digits))
    for place in range(0, len(raw), len(raw) // 12):
        bad = bytearray(raw)
        bad[place] ^= 4
        got = capstone.measure(bytes(bad), digits, ASKED)
        assert got["problem"] or got["size"] == 30


def test_the_process_of_its_own_says_the_same(digits):
    raw = codec.encode(perfect(digits))
    here, there = capstone.measure(raw, digits, ASKED), capstone.measured(raw, digits, ASKED)
    assert {k: v for k, v in here.items() if k != "ratio"} == {
        k: v for k, v in there.items() if k != "ratio"}


@pytest.mark.parametrize("code, told", [
    ("import os\nos._exit(3)\n", "ended"), ("print('nonsense')\n", "ended"),
    ("import time\ntime.sleep(30)\n", "within 1 s")])
def test_a_file_that_ends_or_holds_its_process_costs_only_itself(digits, monkeypatch, code, told):
    monkeypatch.setattr(capstone, "_RUN", code)
    monkeypatch.setattr(capstone, "SECONDS", 1.0)
    got = capstone.measured(b"anything", digits, ASKED)
    assert told in got["problem"] and capstone.scored(got, ASKED)[0] == 0


def test_a_lesson_says_what_grading_would(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(capstone, "unseen", lambda secret, n: digits)
    path = tmp_path / "mine.mcz"
    path.write_bytes(codec.encode(perfect(digits)))
    said = repr(Lesson("20", mode="smoke", data="glyphs").measure(str(path)))
    points = 5 + sum(path.stat().st_size <= s for s in Capstone().sizes)
    assert f"{points} of {catalog.lesson(20).capstone.points} points" in said and "0 of 30" in said
    with pytest.raises(UserError, match="lesson 04 asks for no file"):
        Lesson("04", mode="smoke", data="glyphs").measure(str(path))
    with pytest.raises(UserError, match="no such file"):
        Lesson("20", mode="smoke").measure(str(tmp_path / "none.mcz"))
