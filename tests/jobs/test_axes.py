"""What braces and lists stand for."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.errors import UserError
from minicomp.jobs.axes import MOST, alternatives, varied

plain = st.text("abc=.:@", max_size=4)


@st.composite
def texts(draw, depth=2):
    # (a text with braces, what it stands for).
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        if depth and draw(st.booleans()):
            inner = [draw(texts(depth=depth - 1)) for _ in range(draw(st.integers(2, 3)))]
            parts.append(("{" + ",".join(t for t, _ in inner) + "}",
                          [word for _, words in inner for word in words]))
        else:
            text = draw(plain)
            parts.append((text, [text]))
    return "".join(t for t, _ in parts), ["".join(c) for c in
                                          itertools.product(*(words for _, words in parts))]


@given(texts())
def test_braces_stand_for_every_choice_in_order(case):
    text, words = case
    assert alternatives(text) == words


def test_ranges_count_up_and_down_and_commas_outside_are_plain():
    assert alternatives("a={2..4},b={-1..-3}") == [
        f"a={a},b={b}" for a in (2, 3, 4) for b in (-1, -2, -3)]
    assert alternatives("k=1,l=2") == ["k=1,l=2"] and alternatives("") == [""]


@pytest.mark.parametrize("text, says", [
    ("a}", "a } without its {"), ("{a,b", "a { without its }"), ("{a,{b}", "a { without its }|got"),
    ("{a}", r"braces hold alternatives, \{0.8,0.9\}, or at most 10,000 integers.*got \{a\}"),
    ("{}", "braces hold alternatives"), ("{1..20000}", "braces hold alternatives"),
    ("{1..9}" * 5, "it stands for more than 10,000"), ("{a,b}" * 101, "at most 100 braces"),
    ("{" * 3000, "at most 100 braces")])
def test_what_stands_for_nothing_is_said(text, says):
    with pytest.raises(UserError, match=says):
        alternatives(text)


def test_lists_of_a_recipe_are_axes_wherever_they_stand():
    table = {"title": "t", "train": {"lr": [0.1, 0.2], "epochs": 1},
             "step": [{"technique": "gradual", "sparsity": {"*": [0.5, 0.9], "fc3": 0.1}},
                      {"technique": "kmeans", "bits": [2, 3, 4]},
                      {"technique": "kmeans", "bits": 5}]}
    found = varied(table, "mine")
    assert len(found) == 12
    want = [{"train lr": lr, "gradual sparsity@*": s, "kmeans 2 bits": b}
            for lr in (0.1, 0.2) for s in (0.5, 0.9) for b in (2, 3, 4)]
    assert [chosen for _, chosen in found] == want
    for made, chosen in found:
        assert made["train"] == {"lr": chosen["train lr"], "epochs": 1} and made["title"] == "t"
        assert made["step"] == [
            {"technique": "gradual", "sparsity": {"*": chosen["gradual sparsity@*"], "fc3": 0.1}},
            {"technique": "kmeans", "bits": chosen["kmeans 2 bits"]},
            {"technique": "kmeans", "bits": 5}]
    assert table["train"]["lr"] == [0.1, 0.2], "the table given is left as it is"


@pytest.mark.parametrize("table, says", [
    ({"train": {"lr": []}}, r"mine: a list holds the values of an axis, got train.lr = \[\]"),
    ({"train": {"lr": [[1]]}}, "a list holds the values"),
    ({"train": {"lr": list(range(MOST)), "epochs": [1, 2]}}, "more than 10,000 recipes")])
def test_lists_that_are_no_axes_are_said(table, says):
    with pytest.raises(UserError, match=says):
        varied(table, "mine")
