from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import QAT, Distill, Gradual, Run
from minicomp.compress.distill.soft import distillation, mean_targets
from minicomp.compress.finetune import FineTune
from minicomp.data import Split, cutmix, load
from minicomp.errors import UserError
from minicomp.models import MLP, for_data
from minicomp.tensor import no_grad
from minicomp.train import evaluate

ONE = {"epochs": 1, "batch_size": 160, "momentum": 0.0, "schedule": "constant", "lr": 0.01}


def test_a_step_is_the_gradient_in_closed_form(blobs, net, wide, taught):
    # Of the last bias: the sum over examples of dL/dz.
    x, y = blobs().train.x, blobs().train.y
    with no_grad():
        z, v = (m(x).data.astype(np.float64) for m in (net(), wide))
    value, dz = distillation(z, v, y, 3.0, 0.7)
    made, rows = taught(Distill(teachers=wide, T=3.0, alpha=0.7).training(**ONE), net())
    moved = made.forms()["fc3.bias"].values() - net().forms()["fc3.bias"].values()
    np.testing.assert_allclose(moved, -0.01 * dz.sum(axis=0), rtol=1e-4)
    assert next(r["loss"] for r in rows if r["event"] == "epoch") == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_several_teachers_speak_with_their_mean(blobs, net, wide, taught, mean):
    other = MLP([12, 9, 4], rng=np.random.default_rng(3))
    x = blobs().train.x
    with no_grad():
        z, v = net()(x).data, np.stack([m(x).data for m in (wide, other)]).astype(np.float64)
    p = mean_targets(v, 2.0, mean)
    value, _ = distillation(z.astype(np.float64), 2 * np.log(p), blobs().train.y, 2.0, 1.0)
    training = Distill(teachers=(wide, other), T=2.0, alpha=1.0, mean=mean).training(**ONE)
    _, rows = taught(training, net())
    assert next(r["loss"] for r in rows if r["event"] == "epoch") == pytest.approx(value, rel=1e-4)


def test_the_teacher_is_asked_once_where_inputs_stay_and_each_time_where_they_move(
        net, taught, monkeypatch):
    from minicomp.compress.distill.teaching import Teachers

    seen, say = [], Teachers.say
    monkeypatch.setattr(Teachers, "say", lambda self, x: seen.append(len(x)) or say(self, x))
    digits = load("glyphs").without_test()
    few = type(digits)("few", digits.train.take(slice(0, 96)), digits.val.take(slice(0, 32)), None,
                       digits.classes, "rendered")
    student = for_data("lenet300", few, rng=np.random.default_rng(0))
    training = Distill(teachers=student).training(epochs=2, batch_size=32)
    taught(training, student, few)
    assert sum(seen) == 97, "one example for its size, then all of them, once"
    seen.clear()
    taught(Distill(teachers=student).training(epochs=2, batch_size=32, shift=1), student, few)
    assert seen == [32] * 6


@pytest.mark.parametrize("n_threads", [1, 2])
def test_what_is_kept_is_what_the_teacher_says_of_each_example(taught, n_threads, monkeypatch):
    # Batches large enough that threads share them.
    x = np.random.default_rng(0).standard_normal((150, 12)).astype(np.float32)
    split = Split(x, np.zeros(150, np.int64))
    nets = [MLP([12, 700, 700, 4], rng=np.random.default_rng(seed)) for seed in (1, 2)]
    training = Distill(teachers=nets[0], alpha=1.0).training(epochs=1, batch_size=100)
    made = [nets[1]]
    for limit in (2**20, 1):
        monkeypatch.setattr("minicomp.compress.distill.teaching.KEPT", limit)
        made.append(taught(training, nets[1], SimpleNamespace(train=split, val=split),
                           n_threads=n_threads)[0])
    start, kept, asked = (model.forms()["fc3.weight"].values() for model in made)
    np.testing.assert_allclose(kept, asked, atol=1e-5)
    assert np.abs(kept - start).max() > 1e-3


def test_teachers_come_from_files_too(net, wide, taught, tmp_path, bits):
    path, other = tmp_path / "wide.mcz", tmp_path / "a+b.mcz"
    minicomp.save(wide, path)
    minicomp.save(net(), other)
    by_file, _ = taught(Distill(teacher=str(path)).training(epochs=1), net())
    by_model, _ = taught(Distill(teachers=wide).training(epochs=1), net())
    assert bits(by_file) == bits(by_model)
    assert len(Distill(teacher=f"{path}+{path}").nets()) == 2
    assert len(Distill(teacher=str(other)).nets()) == 1, "a file with a + in its name is one"


def test_wrong_teachers_are_one_error(net, wide, taught, tmp_path):
    def refused(match, **knobs):
        with pytest.raises(UserError, match=f"^distill: {match}"):
            taught(Distill(**knobs).training(epochs=1), net())

    path = tmp_path / "t.mcz"
    refused("teacher must name the .mcz file of the teacher, got none")
    unread = r"teacher must be the .mcz file of a net, got .*t\.mcz: "
    refused(unread + "No such file", teacher=str(path))
    path.write_bytes(b"no net")
    refused(unread, teacher=str(path))
    refused(r"teacher must take \(12,\) and give \(4,\) as the student does, got a net that takes "
            r"\(12,\) and gives \(3,\)", teachers=MLP([12, 3], rng=np.random.default_rng(0)))
    refused("teachers must be models, got 'a'", teachers=("a",))


def test_another_teacher_does_not_go_on_with_what_one_began(net, wide, taught, tmp_path):
    path = tmp_path / "t.mcz"
    for teacher, refused in ((wide, False), (net(), True)):
        minicomp.save(teacher, path)
        training = Distill(teacher=str(path)).training(epochs=1)
        if refused:
            with pytest.raises(UserError, match="cannot be used: it is of another run"):
                taught(training, net(), checkpoint=tmp_path / "run")
        else:
            taught(training, net(), checkpoint=tmp_path / "run")


def agreement(model, teacher, x):
    with no_grad():
        return float((model(x).data.argmax(1) == teacher(x).data.argmax(1)).mean())


@pytest.mark.parametrize("method", [Gradual(sparsity=0.7, prunings=6), QAT(bits=2, act_bits=4)])
def test_a_student_with_masks_or_on_a_grid_learns_from_its_dense_teacher(blobs, net, wide, taught,
                                                                         method):
    # Labels are noise: what agrees with the teacher was learnt from it.
    given = blobs()
    given.train.y[:] = np.random.default_rng(1).integers(0, 4, len(given.train.y))
    knobs = {"epochs": 15, "lr": 0.05}
    plain, _ = taught(FineTune(methods=(method,), **knobs), net(), given)
    both, _ = taught(FineTune(methods=(Distill(teachers=wide, alpha=1.0), method), **knobs), net(),
                     given)
    scores = [agreement(m, wide, blobs().val.x) for m in (plain, both)]
    assert scores[1] > scores[0] + 0.3 and scores[1] > 0.8
    for m in (plain, both):
        form = m.forms()["fc1.weight"]
        assert (form.kind == "affine" and form.bits == 2) if method.word == "qat" else (
            form.nonzeros() == round(0.3 * 240))


@pytest.fixture
def glyphs():
    # glyphs(n): the data set with so many training images.
    digits = load("glyphs").without_test()

    def few(n=None):
        return type(digits)("few", digits.train.take(slice(n)), digits.val, None, digits.classes,
                            "rendered")
    return few


@pytest.mark.parametrize("n_threads", [1, 2])
def test_teacher_and_student_see_the_same_images_with_pieces_of_others(glyphs, taught, n_threads,
                                                                       monkeypatch):
    # One step of a batch that holds all images: the gradient in closed form at those seen.
    from minicomp.compress.distill import teaching

    given, seen = glyphs(160), []
    nets = [for_data("lenet300", given, rng=np.random.default_rng(seed)) for seed in (0, 1)]
    monkeypatch.setattr(teaching, "cutmix", lambda x, rng: seen.append(cutmix(x, rng=rng)) or
                        seen[-1])
    made, _ = taught(Distill(teachers=nets[0], T=3.0, alpha=1.0, inputs="cutmix").training(**ONE),
                     nets[1], given, n_threads=n_threads)
    [x] = seen
    assert x.shape == given.train.x.shape
    with no_grad():
        z, v = (m(x).data.astype(np.float64) for m in (nets[1], nets[0]))
    _, dz = distillation(z, v, given.train.y, 3.0, 1.0)
    moved = made.forms()["fc3.bias"].values() - nets[1].forms()["fc3.bias"].values()
    np.testing.assert_allclose(moved, -0.01 * dz.sum(axis=0), rtol=1e-4)


def test_a_student_that_sees_pieces_becomes_more_like_its_teacher(glyphs):
    # Function matching, Beyer et al. 2022: of few images a student learns more of its teacher where
    # it sees new mixtures of them.
    teacher = FineTune(epochs=4, lr=0.02).apply(
        for_data("lenet300", glyphs(), rng=np.random.default_rng(0)), glyphs(),
        Run(np.random.default_rng(1)))
    few, found = glyphs(300), []
    for inputs in ("images", "cutmix"):
        training = Distill(teachers=teacher, alpha=1.0, inputs=inputs).training(
            epochs=20, optimizer="adam", lr=1e-3, batch_size=50)
        student = training.apply(for_data("lenet300", few, rng=np.random.default_rng(2)), few,
                                 Run(np.random.default_rng(3)))
        found.append(agreement(student, teacher, few.val.x))
    assert found[1] > found[0] + 0.02


def test_pieces_need_soft_targets_alone_and_images(blobs, net, wide, taught):
    with pytest.raises(UserError, match="^distill: alpha must be 1 with inputs=cutmix, .* got 0.9"):
        Distill(teachers=wide, inputs="cutmix")
    with pytest.raises(UserError, match=r"^distill: inputs=cutmix needs a net of images .*\(12,\)"):
        taught(Distill(teachers=wide, alpha=1.0, inputs="cutmix").training(epochs=1), net())


@pytest.mark.slow
def test_soft_targets_tell_of_a_class_that_was_never_seen():
    # Hinton et al. 2015, section 3, in small: of a digit that is not among the examples a student
    # learns only from its teacher.
    digits = load("glyphs").without_test()
    teacher = FineTune(epochs=4, lr=0.02).apply(
        for_data("lenet300", digits, rng=np.random.default_rng(0)), digits,
        Run(np.random.default_rng(1)))
    seen = digits.train.take(np.flatnonzero(digits.train.y != 3))
    few = type(digits)("no-3", seen, digits.val, None, digits.classes, "rendered")
    threes, found = digits.val.take(np.flatnonzero(digits.val.y == 3)), []
    for alpha in (0.0, 1.0):
        training = Distill(teachers=teacher, T=10.0, alpha=alpha).training(epochs=3, lr=0.02)
        student = training.apply(for_data("lenet300", few, rng=np.random.default_rng(2)), few,
                                 Run(np.random.default_rng(3)))
        found.append(evaluate(student, threes).error)
    assert found[0] == 1 and found[1] < 0.7
