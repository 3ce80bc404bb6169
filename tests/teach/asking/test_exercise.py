import dataclasses

import numpy as np
import pytest
from minicomp.reference.judges import copied, equal_to
from minicomp.teach.live.calling import one_answer
from minicomp.teach.asking.exercise import (
    Answer,
    Diagnosis,
    Exercise,
    Mutant,
    Part,
    Prediction,
    assess,
    questions,
)
from minicomp.teach.asking.shown import verdict_text


def double(x, y):
    return 2 * x + y


def unknown():
    raise NameError("name 'np' is not defined")


def cases(draw):
    return [
        {"y": draw.integer(0, 9), "x": draw.integer(1, 9)} for _ in range(5)
    ]  # not in order of the parameters


EXERCISE = Exercise(
    id="99.double",
    title="Double",
    minutes=1,
    parts=(
        Part("tiny", 1, lambda draw: [{"x": 1, "y": 0}], equal_to(double)),
        Part("property", 2, cases, equal_to(double), hidden=True),
    ),
    mutants=(
        Mutant("squares", lambda x, y: x * x + y, "That is the square."),
        Mutant("raises", lambda x, y: 1 // 0, "It divides by zero."),
        Mutant("forgets", lambda x, y: 2 * x, "y is missing."),
    ),
    hints=("a", "b", "c"),
    tolerance="equality",
    reference=double,
)


def verdict(fn, exercise=EXERCISE, key="open"):
    asked = questions(exercise, key)
    return assess(
        exercise, asked, [Answer(*one_answer(fn, copied(c))) for a in asked for c in a.calls]
    )


def test_points_are_given_by_part():
    assert verdict(double).points == 3 and verdict(double).message_id == ""
    half = verdict(lambda x, y: 2 * x)
    assert [p.points for p in half.parts] == [1, 0] and half.message_id == "99.double/forgets"


@pytest.mark.parametrize("mutant", EXERCISE.mutants, ids=lambda m: m.slug)
def test_a_wrong_answer_is_explained_by_its_mutant(mutant):
    assert verdict(mutant.fn).message_id == f"99.double/{mutant.slug}"


def test_an_answer_wrong_in_no_known_way_is_told_what_was_expected():
    told = verdict(lambda x, y: 7 * x + y).message
    assert (
        told.slug == "wrong-value"
        and "expected 2, got 7" in told.detail
        and "x = 1; y = 0" in told.detail
    )


def test_a_mutant_that_explains_few_of_the_wrong_cases_is_not_told():
    # 3 + 6 is 3's square, the first case of its part; 5 + 6 and on are nobody's squares.
    exercise = dataclasses.replace(
        EXERCISE,
        parts=(
            Part("tiny", 1, lambda draw: [{"x": 3, "y": 0}], equal_to(double)),
            Part("golden", 1, lambda draw: [{"x": x, "y": 0} for x in (5, 6, 7)], equal_to(double)),
        ),
    )
    assert verdict(lambda x, y: x + 6, exercise).message_id == "99.double/wrong-value"
    assert verdict(lambda x, y: x * x if x < 6 else 0, exercise).message_id == "99.double/squares"
    assert verdict(lambda x, y: x * x, exercise).message_id == "99.double/squares"


def of_cases(*xs, **more):
    # The exercise with y = 0 and these x, all in one part.
    part = Part("tiny", 1, lambda draw: [{"x": x, "y": 0} for x in xs], equal_to(double))
    return dataclasses.replace(EXERCISE, parts=(part,), **more)


def test_a_misconception_is_named_on_a_case_that_shows_it_and_on_no_other():
    # The smallest wrong x is 1; the squares begin at 3, and 2 is right as a square too.
    told = verdict(lambda x, y: x * x if x > 1 else 0, of_cases(1, 2, 3, 5, 6)).message
    assert told.slug == "squares" and "x = 3" in told.detail
    # In a part without such a case the same answer is only wrong.
    parts = of_cases(1).parts + (dataclasses.replace(of_cases(3, 5, 6).parts[0], name="golden"),)
    scores = verdict(
        lambda x, y: x * x if x > 1 else 0, dataclasses.replace(EXERCISE, parts=parts)
    ).parts
    assert [s.message.slug for s in scores] == ["wrong-value", "squares"]


def test_a_mutant_that_is_right_within_the_tolerance_explains_nothing():
    # Within the exercise's tolerance the answer is the mutant's, and the mutant is right there.
    exercise = of_cases(1.0, 2.0, mutants=(Mutant("none", double, "It is right."),), rtol=0.5)
    assert verdict(lambda x, y: 2.5 * x, exercise).message.slug == "wrong-value"


def test_cases_where_the_student_is_right_and_the_mutant_wrong_count_against_it():
    # Right for 3, 4 and 5, where squares are wrong: whoever errs at 6 only does not square.
    exercise = of_cases(3, 4, 5, 6)
    assert verdict(lambda x, y: 2 * x if x < 6 else 36, exercise).message.slug == "wrong-value"


def test_errors_are_alike_only_where_they_are_of_one_kind():
    exercise = of_cases(1, 2)
    assert verdict(lambda x, y: 1 // 0, exercise).message.slug == "raises"
    told = verdict(lambda x, y: unknown(), exercise).message
    assert told.slug == "raised" and "NameError" in told.text


def test_of_several_wrong_cases_the_smallest_is_shown():
    part = Part(
        "tiny", 1, lambda draw: [{"w": np.arange(float(n))} for n in (9, 2, 5)],
        equal_to(lambda w: w + 1),
    )
    exercise = dataclasses.replace(EXERCISE, parts=(part,), reference=lambda w: w + 1, mutants=())
    assert "w = [0, 1]\n" in verdict(lambda w: w + 2, exercise).message.detail


def test_a_public_case_is_told_before_a_hidden_one():
    hidden, public = (
        Part(name, 1, lambda draw, x=x: [{"x": x, "y": 0}], equal_to(double), hidden=x == 3)
        for name, x in (("property", 3), ("golden", 5))
    )
    v = verdict(lambda x, y: 0, dataclasses.replace(EXERCISE, parts=(hidden, public)))
    assert not v.detail_hidden and "x = 5" in v.message.detail


@pytest.mark.parametrize("change", ["in place", "sorted", "shorter list"])
def test_a_right_answer_that_overwrites_its_argument_fails_and_says_so(change):
    def answer(w, rows):
        total = float(w.sum()) + len(rows)
        if change == "in place":
            w *= 2
        elif change == "sorted":
            w.sort()
        else:
            rows.pop()
        return total

    def right(w, rows):
        return float(w.sum()) + len(rows)

    case = {"w": np.array([2.0, 1.0]), "rows": [(1, 2), (3,)]}
    part = Part("tiny", 1, lambda draw: [case], equal_to(right))
    exercise = dataclasses.replace(EXERCISE, parts=(part,), reference=right, mutants=())
    assert verdict(right, exercise).points == 1
    told = verdict(answer, exercise)
    assert told.points == 0 and told.message.slug == "overwrites"
    name = "rows" if change == "shorter list" else "w"
    assert f"writes to what it was given ({name})," in told.message.text
    wrong = verdict(lambda w, rows: answer(w, rows) + 1, exercise).message
    assert wrong.slug == "wrong-value" and f"wrote to what it was given: {name}" in wrong.detail


def test_an_error_of_the_students_is_not_explained_by_a_mutant_that_raises_only_sometimes():
    assert verdict(lambda x, y: unknown()).message.slug in (
        "raises",
        "raised",
    )  # raises everywhere, as the mutant
    assert verdict(lambda x, y: unknown() if x > 1 else 2 * x + y).message.slug == "raised"


def test_calling_the_library_scores_0_even_if_only_once():
    asked = questions(EXERCISE)
    answers = [Answer("value", double(**c)) for a in asked for c in a.calls][:-1] + [
        Answer("refused")
    ]
    v = assess(EXERCISE, asked, answers)
    assert v.points == 0 and v.message_id == "99.double/library"


def test_answers_that_are_missing_or_odd_fail_their_parts():
    asked = questions(EXERCISE)
    assert assess(EXERCISE, asked, []).message.slug == "missing"
    assert assess(EXERCISE, asked, [Answer("value", 2)]).points == 1
    assert verdict(lambda x, y: object()).message.slug == "odd"
    assert (
        verdict(lambda x, y: (_ for _ in ()).throw(NotImplementedError)).message.slug
        == "not-written"
    )


def test_a_judge_that_stumbles_over_a_result_calls_it_wrong():
    part = Part("tiny", 1, lambda draw: [{"x": 1, "y": 1}], lambda case, result: result.nonsense)
    from dataclasses import replace

    assert verdict(double, replace(EXERCISE, parts=(part,))).message.slug == "odd"


def test_hidden_cases_follow_the_key_and_are_not_shown():
    assert [a.case for a in questions(EXERCISE)] == [a.case for a in questions(EXERCISE)]
    assert [a.case for a in questions(EXERCISE, "k1")] != [
        a.case for a in questions(EXERCISE, "k2")
    ]
    v = verdict(lambda x, y: 2 * x)
    assert (
        v.detail_hidden
        and "input" in verdict_text(v)
        and "input" not in verdict_text(v, show_hidden=False)
    )


DIAGNOSIS = Diagnosis(
    id="99.broken",
    of=EXERCISE,
    shown_by={"squares": (3, 0), "forgets": (2, 5)},
    hints=("a", "b", "c"),
    agreeing=(2, 0),
    several=((3, 5),),
    valid=lambda x, y: None if x > 0 else "x is positive",
    invalid=(-1, 0),
)


def test_the_broken_variant_depends_on_student_and_course_and_not_on_spelling():
    drawn = {DIAGNOSIS.mutant(str(i)).slug for i in range(30)}
    assert drawn == {"squares", "forgets"}
    assert len({(DIAGNOSIS.mutant("ann", str(c)).slug) for c in range(30)}) == 2
    assert DIAGNOSIS.mutant(" Ann ") is DIAGNOSIS.mutant("ann")


@pytest.mark.parametrize("slug", DIAGNOSIS.slugs)
def test_an_input_on_which_the_broken_variant_alone_fails_is_right(slug):
    e = next(
        DIAGNOSIS.exercise(str(i)) for i in range(50) if DIAGNOSIS.mutant(str(i)).slug == slug
    )
    other = next(s for s in DIAGNOSIS.slugs if s != slug)
    assert verdict(lambda: DIAGNOSIS.shown_by[slug], e).points == 2
    assert verdict(lambda: DIAGNOSIS.shown_by[other], e).message.slug == "no-difference"
    both = verdict(lambda: (3, 5), e)
    says = {"squares": "y is missing.", "forgets": "That is the square."}[slug]
    assert both.points == 0 and both.message.slug == "shows-another" and says in repr(both)
    told = verdict(lambda: DIAGNOSIS.agreeing, e).message
    assert told.slug == "no-difference" and told.detail.startswith("your input: x = 2; y = 0")
    assert verdict(lambda: DIAGNOSIS.invalid, e).message.slug == "invalid-input"
    assert verdict(lambda: 3, e).message.slug == "no-input"
    assert verdict(lambda: ("a", np.zeros(3)), e).message.slug == "invalid-input"


def test_predictions_are_numbers_in_range_or_one_of_the_choices():
    number, choice = Prediction("99.p", "?", lo=0, hi=10), Prediction(
        "99.q", "?", options=("a", "b")
    )
    assert number.problem(3) is None and number.problem(2.5) is None and choice.problem("a") is None
    for bad in (None, 11, float("nan"), "3", True):
        assert number.problem(bad)
    assert choice.problem("c") and choice.problem(None)
