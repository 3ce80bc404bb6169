import math

import numpy as np
import pytest

from minicomp.optim import (
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    AdaMax,
    Adam,
    AdamW,
    ShiftAdaMax,
    constant,
    cosine,
    exponential,
    step,
)
from minicomp.tensor import Tensor

RNG = np.random.default_rng
SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdaMax", {"lr": 0.01}),
    ("AdaMax", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ("ShiftAdaMax", {"lr": 0.01}),
    ("ShiftAdaMax", {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}),
]
EVERY = pytest.mark.parametrize(
    "name, kw", SETTINGS, ids=lambda v: v if isinstance(v, str) else "-".join(v)
)
CLASSES = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW, "AdaMax": AdaMax, "ShiftAdaMax": ShiftAdaMax}


def params(dtype=np.float64):
    rng = RNG(0)
    return {
        "w": Tensor(rng.standard_normal((4, 3)).astype(dtype), requires_grad=True),
        "b": Tensor(rng.standard_normal(4).astype(dtype), requires_grad=True),
    }


def gradients(n, dtype=np.float64):
    rng = RNG(1)
    return [
        {
            "w": rng.standard_normal((4, 3)).astype(dtype),
            "b": (rng.standard_normal(4) * 10).astype(dtype),
        }
        for _ in range(n)
    ]


def run(optimizer, steps):
    for grads in steps:
        optimizer.step(grads)
    return {n: p.data.copy() for n, p in optimizer.params.items()}


# ------------------------------------------------------------------------------------------ by hand


def one(kind, w, grads, **kw):
    p = {"w": Tensor(np.array([w]), requires_grad=True)}
    optimizer = kind(p, **kw)
    values = []
    for g in grads:
        optimizer.step({"w": np.array([g])})
        values.append(p["w"].data[0])
    return values


def test_sgd_by_hand():
    assert one(SGD, 1.0, [2.0, 3.0], lr=0.1) == pytest.approx([0.8, 0.5])
    # v = 2, then 0.5 * 2 + 3 = 4
    assert one(SGD, 1.0, [2.0, 3.0], lr=0.1, momentum=0.5) == pytest.approx([0.8, 0.4])
    # w -= lr (g + m v): 2 + 1 = 3, then 3 + 2 = 5
    assert one(SGD, 1.0, [2.0, 3.0], lr=0.1, momentum=0.5, nesterov=True) == pytest.approx(
        [0.7, 0.2]
    )
    # g + lambda w: 2 + 0.5, then 3 + 0.5 * 0.75
    assert one(SGD, 1.0, [2.0, 3.0], lr=0.1, weight_decay=0.5) == pytest.approx(
        [0.75, 0.75 - 0.3375]
    )


def test_adam_by_hand():
    # t = 1: m/c1 = g, v/c2 = g^2, so the first step is lr sign(g) whatever the size of g
    assert one(Adam, 1.0, [1e-3], lr=0.1, eps=0.0) == pytest.approx([0.9])
    b1, b2 = 0.9, 0.999
    m, v = 0.1 * 2, 0.001 * 4
    m, v = b1 * m + 0.1 * 3, b2 * v + 0.001 * 9
    second = 0.9 - 0.1 * (m / (1 - b1**2)) / (math.sqrt(v / (1 - b2**2)) + 1e-8)
    assert one(Adam, 1.0, [2.0, 3.0], lr=0.1) == pytest.approx([0.9, second])


def test_adamw_decays_apart_from_the_gradient():
    assert one(AdamW, 1.0, [1e-3], lr=0.1, weight_decay=0.5, eps=0.0) == pytest.approx(
        [1 * (1 - 0.05) - 0.1]
    )
    assert one(AdamW, 1.0, [2.0, 3.0], lr=0.1) == one(Adam, 1.0, [2.0, 3.0], lr=0.1)


def test_adamax_by_hand():
    # u = max(b2 u, |g|): 3, then max(2.997, 2) = 2.997; step lr / (1 - b1^t) m / u
    m1 = 0.1 * 3
    m2 = 0.9 * m1 - 0.1 * 2
    want = [1 - 0.1 / 0.1 * m1 / 3]
    want.append(want[0] - 0.1 / (1 - 0.81) * m2 / (0.999 * 3))
    assert one(AdaMax, 1.0, [3.0, -2.0], lr=0.1) == pytest.approx(want, rel=1e-7)
    assert one(AdaMax, 1.0, [0.0, 0.0], lr=0.1) == [1.0, 1.0]


def test_shift_adamax_by_hand():
    # lr / (1 - b1) = 1 -> 2^0; v = 3 -> 4, then max(2.997, 2) -> 4; lr / (1 - 0.81) = 0.526 -> 1/2
    want = [1 - 0.3 / 4]
    want.append(want[0] - 0.5 * (0.9 * 0.3 - 0.1 * 2) / 4)
    found = one(ShiftAdaMax, 1.0, [3.0, -2.0], lr=0.1, betas=(0.9, 0.999))
    assert found == pytest.approx(want, rel=1e-7)
    assert one(ShiftAdaMax, 1.0, [0.0, 0.0]) == [1.0, 1.0]
    fresh = ShiftAdaMax(params())
    assert fresh.lr == 2**-10 and fresh.betas == (1 - 2**-3, 1 - 2**-10)  # the paper's


@pytest.mark.peers
def test_shift_adamax_is_torchs_adamax_with_powers_of_two():
    torch = pytest.importorskip("torch")

    def power(x):
        return np.sign(x) * 2.0 ** np.rint(np.log2(np.abs(x)))

    mine, b1, eps = params(), 1 - 2**-3, 2**-27
    theirs = {n: torch.nn.Parameter(torch.tensor(t.data)) for n, t in params().items()}
    optimizer = ShiftAdaMax(mine)
    other = torch.optim.Adamax(theirs.values(), lr=2**-10, betas=(b1, 1 - 2**-10), eps=0.0)
    for t, grads in enumerate(gradients(30), start=1):
        before = {n: p.detach().numpy().copy() for n, p in theirs.items()}
        optimizer.step(grads)
        for n, p in theirs.items():
            p.grad = torch.tensor(grads[n])
        other.step()
        rate = 2**-10 / (1 - b1**t)
        for n, p in theirs.items():  # of its step the rate and 1 / v become powers of two
            v = other.state[p]["exp_inf"].numpy()
            moved = (p.detach().numpy() - before[n]) * (power(rate) / rate) * v / (power(v) + eps)
            p.data = torch.tensor(before[n] + moved)
            np.testing.assert_allclose(mine[n].data, p.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_a_rate_is_scaled_for_one_parameter():
    plain, scaled = params(), params()
    one_, other = SGD(plain, lr=0.1), SGD(scaled, lr=0.1)
    other.scale_rate("w", 3.0)
    for grads in gradients(2):
        one_.step(grads)
        other.step(grads)
    start = params()
    np.testing.assert_allclose(scaled["w"].data - start["w"].data,
                               3 * (plain["w"].data - start["w"].data))
    np.testing.assert_array_equal(scaled["b"].data, plain["b"].data)


# ------------------------------------------------------------------------------------- the contract


@EVERY
def test_updates_are_in_place_in_the_dtype_of_the_parameter(name, kw):
    for dtype in (np.float32, np.float64):
        p = params(dtype)
        arrays = {n: t.data for n, t in p.items()}
        before = {n: a.copy() for n, a in arrays.items()}
        optimizer = CLASSES[name](
            p, **{k: np.float64(v) if k == "lr" else v for k, v in kw.items()}
        )
        run(optimizer, gradients(3, dtype))
        for n, t in p.items():
            assert t.data is arrays[n] and t.data.dtype == dtype and np.all(t.data != before[n])
        assert all(a.dtype == dtype for slots in optimizer.state.values() for a in slots.values())


@EVERY
def test_gradients_are_not_written_to(name, kw):
    steps = gradients(3)
    before = [{n: g.copy() for n, g in s.items()} for s in steps]
    for s in steps:
        for g in s.values():
            g.flags.writeable = False
    run(CLASSES[name](params(), **kw), steps)
    for s, b in zip(steps, before):
        for n in s:
            np.testing.assert_array_equal(s[n], b[n])


@EVERY
def test_a_parameter_without_gradient_stays(name, kw):
    p = params()
    before = p["b"].data.copy()
    optimizer = CLASSES[name](p, **kw)
    optimizer.step({"w": np.ones((4, 3))})
    np.testing.assert_array_equal(p["b"].data, before)
    p["b"].grad = np.ones(4)
    optimizer.step()  # from Tensor.grad; w has none
    assert np.all(p["b"].data != before)
    optimizer.zero_grad()
    assert p["b"].grad is None
    moved = p["b"].data.copy()
    optimizer.step()
    np.testing.assert_array_equal(p["b"].data, moved)


@EVERY
def test_the_state_carries_on(name, kw):
    steps = gradients(6)
    whole = CLASSES[name](params(), **kw)
    want = run(whole, steps)
    first = CLASSES[name](params(), **kw)
    half = run(first, steps[:3])
    state = first.state_dict()
    run(first, steps[3:])  # the dict holds copies
    second = CLASSES[name](
        {n: Tensor(a, requires_grad=True) for n, a in half.items()}, **(kw | {"lr": 7.0})
    )
    second.load_state_dict(state)
    assert second.lr == kw["lr"] and second.steps == 3
    for n, a in run(second, steps[3:]).items():
        np.testing.assert_array_equal(a, want[n])


@EVERY
def test_what_starts_afresh_has_forgotten_its_steps(name, kw):
    steps = gradients(6)
    first = CLASSES[name](params(), **kw)
    half = run(first, steps[:3])
    first.restart()
    second = CLASSES[name]({n: Tensor(a.copy(), requires_grad=True) for n, a in half.items()}, **kw)
    want = run(second, steps[3:])
    for n, a in run(first, steps[3:]).items():
        np.testing.assert_array_equal(a, want[n])
    assert first.steps == 3


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("v/w"), "optimizer state does not fit: v/w$"),
        (lambda s: s.update({"v/c": np.zeros(3)}), "optimizer state does not fit: v/c$"),
        (lambda s: s.update({"v/w": np.zeros((3, 4))}), "optimizer state does not fit: v/w$"),
        (lambda s: s.pop("steps"), "optimizer state does not fit: steps$"),
        (lambda s: (s.pop("lr"), s.pop("v/b")), "optimizer state does not fit: lr, v/b$"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    optimizer = SGD(params(), lr=0.1, momentum=0.9)
    state = {n: a + 1 for n, a in optimizer.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.steps == 0 and not optimizer.state["v"]["w"].any()


def test_state_of_another_optimizer_is_refused():
    with pytest.raises(
        ValueError, match="optimizer state does not fit: m/b, m/w, u/b, u/w, v/b, v/w"
    ):
        AdaMax(params()).load_state_dict(
            Adam(params()).state_dict() | {"m/w": np.zeros(1), "m/b": np.zeros(1)}
        )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SGD(params(), lr=0.0), "lr must be positive, got 0.0"),
        (lambda: SGD(params(), lr=float("nan")), "lr must be positive, got nan"),
        (lambda: SGD(params(), lr=0.1, momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: SGD(params(), lr=0.1, weight_decay=-1), "weight_decay must be at least 0, got -1"),
        (lambda: Adam(params(), betas=(0.9, 1.0)), r"betas must be in \[0, 1\), got \(0.9, 1.0\)"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_tables():
    assert OPTIMIZERS == {"sgd": SGD, "adam": Adam, "adamw": AdamW, "adamax": AdaMax,
                          "shift-adamax": ShiftAdaMax}
    assert set(SCHEDULES) == {"constant", "step", "exponential", "cosine"}


# ---------------------------------------------------------------------------------------- schedules


def test_schedules_by_hand():
    assert [constant()(t) for t in (0, 0.5, 1)] == [1, 1, 1]
    assert [step()(t) for t in (0, 0.33, 1 / 3, 0.6, 0.67, 1)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert [step(at=(0.5,), factor=0.5)(t) for t in (0.4, 0.5, 1)] == [1, 0.5, 0.5]
    assert [exponential(final=0.01)(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.1, 0.01])
    assert [cosine()(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [cosine(final=0.2)(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.6, 0.2])


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_1_and_never_rise(name):
    schedule = SCHEDULES[name]()
    values = [schedule(t) for t in np.linspace(0, 1, 101)]
    assert values[0] == 1 and all(a >= b for a, b in zip(values, values[1:])) and values[-1] >= 0


# ------------------------------------------------------------------------------------------ PyTorch


@pytest.mark.peers
@pytest.mark.parametrize("name, kw", [s for s in SETTINGS if s[0] != "ShiftAdaMax"])
def test_trajectories_are_torchs(name, kw):
    torch = pytest.importorskip("torch")
    mine, theirs = params(), {
        n: torch.nn.Parameter(torch.tensor(t.data)) for n, t in params().items()
    }
    optimizer = CLASSES[name](mine, **kw)
    kind = {"AdaMax": "Adamax"}.get(name, name)
    other = getattr(torch.optim, kind)(theirs.values(), **({"weight_decay": 0.0} | kw))
    for grads in gradients(30):
        optimizer.step(grads)
        for n, p in theirs.items():
            p.grad = torch.tensor(grads[n])
        other.step()
        for n, p in mine.items():
            np.testing.assert_allclose(p.data, theirs[n].detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.peers
def test_the_cosine_is_torchs():
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    for t in range(20):
        assert cosine(final=0.1)(t / 20) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
