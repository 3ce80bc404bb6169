import tomllib
from dataclasses import replace

import pytest
from minicomp.errors import UserError
from minicomp.teach import catalog
from minicomp.teach.asking.exercise import Mutant
from minicomp.teach.asking.lesson import Reflection
from minicomp.teach.checks import LESSONS
from minicomp.teach.checks.words import worded

BY_NUMBER = {of.number: of for of in LESSONS}


def file_of(of):
    return catalog.folder() / "words" / f"{of.number}.toml"


def test_there_is_one_file_a_lesson():
    files = sorted(p.name for p in (catalog.folder() / "words").iterdir())
    assert files == [f"{number}.toml" for number in BY_NUMBER]


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_code_holds_no_words_and_the_catalog_all(of):
    said = catalog.lesson(of.number)
    assert of.title == "" and said.title
    for bare, e in zip(of.exercises, said.exercises, strict=True):
        assert (bare.title, bare.tolerance, bare.hints) == ("", "", ())
        assert e.title and e.tolerance and len(e.hints) == 3
        assert [m.says for m in bare.mutants] == [""] * len(bare.mutants)
        assert all(m.says for m in e.mutants)
    assert len(said.diagnosis.hints) == 3 and said.diagnosis.of in said.exercises
    assert all(q.question for q in said.predictions + said.reflections)
    for r in said.reflections:
        points = [points for points, _ in r.rubric]
        assert points == sorted(points, reverse=True) and points[-1] == 0 and r.max_points == 3


@pytest.mark.parametrize("of", LESSONS, ids=lambda of: of.number)
def test_words_break_no_line_and_lines_are_short(of):
    text = file_of(of).read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100

    def texts(value):
        if isinstance(value, str):
            return [value]
        inner = value.values() if isinstance(value, dict) else value
        return [t for v in inner if not isinstance(v, int) for t in texts(v)]

    assert all(t == t.strip() and "\n" not in t for t in texts(tomllib.loads(text)))


def without(of, id):
    return replace(of, exercises=tuple(e for e in of.exercises if e.id != id), diagnosis=None)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda of: without(of, "04.masked_sgd"), "words of nobody: .*masked_sgd.hints"),
        (
            lambda of: replace(of, reflections=(*of.reflections, Reflection("04.r2"))),
            "no words for r2.question, r2.rubric; words of nobody: none",
        ),
        (
            lambda of: replace(
                of,
                exercises=(
                    replace(of.exercises[0], mutants=(Mutant("odd-one", abs),)),
                    *of.exercises[1:],
                ),
            ),
            "no words for magnitude_mask.mutants.odd-one; words of nobody: .*sign-forgotten",
        ),
    ],
)
def test_ids_without_words_and_words_without_an_id_are_named(change, says):
    of = BY_NUMBER["04"]
    with pytest.raises(UserError, match=f"^04.toml: .*{says}"):
        worded(change(of), file_of(of))


def test_a_missing_or_damaged_file_is_one_line(tmp_path):
    (tmp_path / "bad.toml").write_text("title = ")
    for name in ("none.toml", "bad.toml"):
        with pytest.raises(UserError, match="the words of lesson 04 cannot be read") as error:
            worded(BY_NUMBER["04"], tmp_path / name)
        assert "\n" not in str(error.value)
