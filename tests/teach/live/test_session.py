import numpy as np
import pytest
from minicomp.compress import stepfile
from minicomp.errors import UserError
from minicomp.models import MODELS
from minicomp.teach import Lesson, catalog, check, hint, predict, reflect
from minicomp.teach.live import checkpoints, session
from minicomp.teach.asking.shown import Figure, Table
from minicomp.train import evaluate


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "cache_dir", lambda: tmp_path / "data")
    return Lesson("04", mode="smoke", data="glyphs")


def test_smoke_takes_few_examples_and_says_which_data(lesson):
    assert [len(s) for s in (lesson.data.train, lesson.data.val, lesson.data.test)] == [
        2000,
        500,
        500,
    ]
    assert "glyphs" in repr(lesson.about_data()) and "minicomp data get mnist" in repr(
        lesson.about_data()
    )
    assert (
        lesson.choose(smoke=1, full=2) == 1 and Lesson("04").choose(smoke=1, full=2, paper=3) == 2
    )


def test_streams_depend_on_seed_and_purpose_only():
    def draw(seed, purpose):
        return Lesson("04", seed=seed).rng(purpose).integers(10**9)

    assert draw(0, "a") == draw(0, "a") != draw(1, "a") != draw(1, "b")


def test_a_checkpoint_is_trained_once_and_kept_under_its_recipe(lesson, tmp_path, monkeypatch):
    first = lesson.checkpoint("lenet300")
    assert evaluate(first, lesson.data.test).error < 0.4
    (path,) = (tmp_path / "lessons").glob("lenet300-glyphs-smoke-*.step")
    how = checkpoints.recipe("lenet300", lesson.data, mode="smoke", seed=0)
    assert path == checkpoints.file_of(how) and how["knobs"]["epochs"] == 3
    assert path != checkpoints.file_of(how | {"knobs": how["knobs"] | {"lr": 0.02}})
    trained = []
    monkeypatch.setattr(
        checkpoints.FineTune, "apply", lambda self, model, *a, **k: trained.append(1) or model
    )
    again = lesson.checkpoint("lenet300")
    assert not trained and all(form.trainable for form in again.forms().values())
    for name, a in first.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], a)
    path.write_bytes(path.read_bytes()[:1000])  # a damaged file is made anew
    lesson.checkpoint("lenet300")
    assert trained
    Lesson("04", mode="smoke", data="glyphs", seed=1).checkpoint(
        "lenet300"
    )  # another seed, another file
    assert len(list((tmp_path / "lessons").glob("*.step"))) == 2


def test_a_checkpoint_is_of_its_data_and_version(lesson, monkeypatch):
    def file():
        return checkpoints.file_of(
            checkpoints.recipe("lenet300", lesson.data, mode="smoke", seed=0))

    first = file()
    monkeypatch.setattr(checkpoints, "__version__", "99")
    second = file()
    lesson.data.train.x[0, 0, 5, 5] += 1
    assert len({first, second, file()}) == 3


def test_a_file_of_another_recipe_is_not_taken_for_the_net(lesson, monkeypatch):
    monkeypatch.setattr(checkpoints.FineTune, "apply", lambda self, model, *a, **k: model.frozen())
    made = lesson.checkpoint("lenet300")
    how = checkpoints.recipe("lenet300", lesson.data, mode="smoke", seed=0)
    other = MODELS["lenet5"](rng=np.random.default_rng(0)).frozen()
    stepfile.write(checkpoints.file_of(how), how | {"net": "lenet5"}, other, [], 0.0)
    assert lesson.checkpoint("lenet300").spec() == made.spec()


def test_a_net_that_cannot_be_kept_is_given_with_a_line(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints.FineTune, "apply", lambda self, model, *a, **k: model.frozen())
    (tmp_path / "lessons").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot be kept in .*lessons .*: it is trained again each "
                                         "time; set XDG_CACHE_HOME"):
        assert lesson.checkpoint("lenet300").count() == 266_610


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Lesson("04", mode="fast"), "mode must be one of"),
        (lambda: Lesson("04", data="digits").data, "unknown data"),
        (lambda: check("04.nothing", len), "no exercise '04.nothing'; there are 04.magnitude_mask"),
        (lambda: check("99.x", len), "no exercise '99.x'"),
        (lambda: check("04.magnitude_mask", 3), "the function itself"),
        (lambda: hint("04.nothing", 1), "no exercise"),
        (lambda: hint("04.magnitude_mask", 9), "level must be"),
        (lambda: predict("04.p9", 1), "no prediction"),
        (lambda: reflect("04.r9", ""), "no reflection"),
        (lambda: Lesson("04").checkpoint("alexnet"), "no checkpoint"),
        (lambda: Lesson("99").broken("x"), "no lesson '99'"),
        (lambda: Lesson("04").broken("04.masked_sgd"), "no broken variant"),
    ],
)
def test_mistakes_get_one_line(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_check_shows_points_and_reasons():
    shown = check("04.keep_per_round", lambda keep, rounds: np.linspace(1, keep, rounds + 1)[1:])
    assert "04.keep_per_round/equal-steps" in repr(shown) and "Counts as right" in repr(shown)
    assert shown.verdict.points == 0
    good = check(
        "04.keep_per_round", lambda keep, rounds: keep ** (np.arange(1, rounds + 1) / rounds)
    )
    assert "4 of 4" in repr(good) and "FAIL" not in repr(good)


def test_check_says_in_which_line_an_answer_failed():
    space = {}
    exec(compile("def f(keep, rounds):\n    x = 1\n    return nothing", "cell", "exec"), space)
    assert "NameError: name 'nothing' is not defined (line 3)" in repr(
        check("04.keep_per_round", space["f"])
    )


def test_check_of_a_stub_says_no_more_than_that():
    def stub(keep, rounds):
        raise NotImplementedError("your code here")

    text = repr(check("04.keep_per_round", stub))
    assert text.endswith("the function is not written yet") and "input" not in text


def test_check_refuses_the_librarys_function_and_gives_it_back():
    from minicomp.compress.scores import magnitude_mask

    assert check("04.magnitude_mask", magnitude_mask).verdict.message.slug == "library"
    assert magnitude_mask(np.array([1.0, 2.0]), 0.5).tolist() == [False, True]


def test_check_of_the_broken_variant_follows_the_student():
    lessons = [Lesson("04", student=name) for name in ("ann", "bob", "cem", "dot", "eve", "fay")]
    found = set()
    for lesson in lessons:
        diagnosis = catalog.lesson("04").diagnosis
        mutant = diagnosis.mutant(lesson.student)
        found_input = diagnosis.shown_by[mutant.slug]
        assert check("04.broken", lambda: found_input, lesson).verdict.points == 2
        found.add(mutant.slug)
        np.testing.assert_array_equal(
            lesson.broken("04.magnitude_mask")(np.array([1.0, 4.0]), 0.5), [False, True]
        )
    assert len(found) > 1


def test_hints_help_in_three_steps_and_never_solve():
    texts = [repr(hint("04.magnitude_mask", i)) for i in (1, 2, 3)]
    assert len(set(texts)) == 3 and all("of 3" in t for t in texts)


def test_guesses_come_back(capsys):
    assert predict("04.p1", 12.5) == 12.5 and capsys.readouterr().out == ""
    assert predict("04.p1", None) is None and "no guess" in capsys.readouterr().out
    assert predict("04.p1", 500) is None and "from 0 to 100" in capsys.readouterr().out


def test_recorded_numbers_stand_beside_the_measured_ones(monkeypatch):
    lesson = Lesson("04", mode="full", data="glyphs")
    row = {"mean": 5.0, "low": 4.0, "high": 6.0, "unit": "%", "digits": 2, "runs": 5}
    monkeypatch.setattr(
        catalog, "expected", lambda of: {"data": {"glyphs": {"results": {"error_cut": row}}}}
    )
    text = repr(lesson.record(error_cut=5.5, error_once=1.0, keeps=[0.5, 0.1]))
    assert (
        "4.00 to 6.00 %" in text
        and "as expected" in text
        and lesson.measured["keeps"] == [0.5, 0.1]
    )
    assert "DIFFERS" in repr(lesson.record(error_cut=50.0))
    with pytest.raises(UserError, match="no number 'error'"):
        lesson.record(error=1)


def test_the_papers_row_never_stands_beside_other_digits(lesson):
    text = repr(lesson.beside_paper(["", "error"], ["Han", "1.64"], ["9.00"]))
    assert "9.00" in text and "1.64" not in text and "does not stand" in text
    from dataclasses import replace

    lesson.__dict__["data"] = replace(lesson.data, source="files")
    assert "1.64" in repr(lesson.beside_paper(["", "error"], ["Han", "1.64"], ["9.00"]))


def test_the_papers_row_stands_where_all_data_it_is_about_are_the_published_ones(lesson):
    from dataclasses import replace

    def text(*about):
        return repr(lesson.beside_paper(["", "left"], ["OBS", "14"], ["11"], about=about))

    files = replace(lesson.data, name="monks-1", source="files")
    made = replace(files, name="monks-2", source="generated", note="monks-2 made from its rules")
    assert "14" in text(files) and "here, monks-1, smoke" in text(files)  # though glyphs are loaded
    for about in ((made,), (files, made), (made, files)):
        shown = text(*about)
        assert "14" not in shown and "11" in shown
        assert "does not stand beside monks-2 made from its rules." in shown
        assert "minicomp data get mnist" not in shown


def test_a_twin_must_agree_and_is_recorded(lesson, monkeypatch):
    x = np.arange(4.0)
    lesson.twin("maps", [("4", lambda: 2 * x, lambda: x + x)])
    from minicomp.kernels import cpu

    if cpu.kernel_module("maps") is not None:
        with pytest.raises(AssertionError, match="wrong in 4 of 4"):
            lesson.twin("maps", [("4", lambda: x, lambda: x + 1)])
    monkeypatch.setattr(cpu, "kernel_module", lambda name: None)
    monkeypatch.setattr(
        catalog,
        "expected",
        lambda of: {"data": {}, "twin": {"machine": "M", "rows": [["4", "1", "2", "3"]]}},
    )
    assert "Recorded on M" in repr(lesson.twin("maps", [("4", lambda: x, lambda: x + 1)]))


def test_nothing_is_loaded_in_the_graders_process(lesson, monkeypatch):
    monkeypatch.setattr(session.Lesson, "idle", True)
    with pytest.raises(RuntimeError, match="while a notebook is graded"):
        lesson.checkpoint("lenet300")


def test_tables_and_figures_say_the_same_as_text_and_html():
    table = Table(["a", "b"], [["x<y", 1]], "Note.")
    assert "x<y" in repr(table) and "Note." in repr(table) and "x&lt;y" in table._repr_html_()
    figure = Figure(b"png", 'a "quoted" text')
    assert 'alt="a &quot;quoted&quot; text"' in figure._repr_html_() and "quoted" in repr(figure)


def test_where_data_are_few_batch_norm_gets_as_many_steps_in_mode_full():
    data = Lesson("10", data="glyphs").data
    full, smoke = (checkpoints.recipe("depthwise32", data, mode=mode, seed=0)["knobs"]["epochs"]
                   for mode in ("full", "smoke"))
    assert full == round(55_000 / len(data.train)) > 1 and smoke == 4
    assert checkpoints.recipe("lenet300", data, mode="full", seed=0)["knobs"]["epochs"] == 8
