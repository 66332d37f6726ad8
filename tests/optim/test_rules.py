"""Each update rule against a loop over the parameters written from its paper; schedules; clipping; arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl as dl
from minidl.optim import (
    SGD,
    Adam,
    AdamW,
    Constant,
    CosineDecay,
    EpochFunction,
    RMSprop,
    StepDecay,
    WarmUp,
    clip_norm,
    clip_value,
)

SHAPES = [(3, 4), (), (5,), (2, 3, 1, 2), (1, 1)]
STEPS = 20


# The rules, one number at a time would be the same: p, g and the state m are arrays of one parameter


def sgd(p, g, m, t, lr=0.01, momentum=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    if momentum:
        m["v"] = momentum * m.get("v", 0) + g
        g = g + momentum * m["v"] if nesterov else m["v"]
    return p - lr * g


def adam(p, g, m, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False):
    if decoupled:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    m["m"] = beta1 * m.get("m", 0) + (1 - beta1) * g
    m["s"] = beta2 * m.get("s", 0) + (1 - beta2) * g**2
    mean, square = m["m"] / (1 - beta1**t), m["s"] / (1 - beta2**t)
    return p - lr * mean / (np.sqrt(square) + eps)


def adamw(p, g, m, t, weight_decay=0.01, **rates):
    return adam(p, g, m, t, weight_decay=weight_decay, decoupled=True, **rates)


def rmsprop(p, g, m, t, lr=0.01, rho=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0):
    g = g + weight_decay * p
    m["s"] = rho * m.get("s", 0) + (1 - rho) * g**2
    update = g / (np.sqrt(m["s"]) + eps)
    if momentum:
        m["v"] = update = momentum * m.get("v", 0) + update
    return p - lr * update


RULES = {
    "sgd": (SGD, sgd, {}),
    "sgd-lr": (SGD, sgd, {"lr": 0.3}),
    "sgd-decay": (SGD, sgd, {"lr": 0.1, "weight_decay": 0.2}),
    "sgd-momentum": (SGD, sgd, {"momentum": 0.9}),
    "sgd-momentum-decay": (SGD, sgd, {"momentum": 0.5, "weight_decay": 0.1}),
    "sgd-nesterov": (SGD, sgd, {"momentum": 0.9, "nesterov": True}),
    "sgd-nesterov-decay": (SGD, sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (Adam, adam, {}),
    "adam-all": (Adam, adam, {"lr": 0.02, "beta1": 0.7, "beta2": 0.9, "eps": 1e-3}),
    "adam-no-memory": (Adam, adam, {"beta1": 0.0, "beta2": 0.0, "eps": 0.1}),
    "adam-coupled-decay": (Adam, adam, {"weight_decay": 0.3}),
    "adamw": (AdamW, adamw, {}),
    "adamw-decay": (AdamW, adamw, {"lr": 0.05, "weight_decay": 0.3}),
    "rmsprop": (RMSprop, rmsprop, {}),
    "rmsprop-all": (RMSprop, rmsprop, {"lr": 0.05, "rho": 0.5, "eps": 1e-2, "momentum": 0.8, "weight_decay": 0.1}),
}  # fmt: skip


def make_parameters(rng, dtype=np.float64):
    return [dl.Parameter(rng.standard_normal(shape).astype(dtype), dtype=dtype) for shape in SHAPES]


@pytest.mark.scenario("N14")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-11), (np.float32, 2e-4)])
def test_rule_against_a_loop(rule, dtype, rtol, rng):
    kind, reference, options = rule
    parameters = make_parameters(rng, dtype)
    expected = [p.data.astype(np.float64) for p in parameters]
    states: list[dict] = [{} for _ in parameters]
    optimizer = kind(parameters, **options)
    for t in range(1, STEPS + 1):
        gradients = [rng.standard_normal(p.shape) * (0.1 + t % 3) for p in parameters]
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g.astype(dtype)
        optimizer.step()
        expected = [
            reference(p, g.astype(dtype).astype(float), state, t, **options)
            for p, g, state in zip(expected, gradients, states, strict=True)
        ]
        for p, value in zip(parameters, expected, strict=True):
            np.testing.assert_allclose(p.data, value, rtol=rtol, atol=rtol)
    assert {p.dtype for p in parameters} == {np.dtype(dtype)}


@given(st.integers(1, 5), st.floats(0, 0.99), st.floats(0, 1), st.booleans())
def test_sgd_for_any_rates(steps, momentum, decay, nesterov):
    rng = np.random.default_rng(steps)
    nesterov = nesterov and momentum > 0
    parameter = dl.Parameter(rng.standard_normal(4), dtype=np.float64)
    expected, state = parameter.data.copy(), {}
    options = {"momentum": momentum, "weight_decay": decay, "nesterov": nesterov}
    optimizer = SGD([parameter], 0.1, **options)
    for t in range(steps):
        gradient = rng.standard_normal(4)
        parameter.grad = gradient.copy()
        optimizer.step()
        expected = sgd(expected, gradient, state, t + 1, lr=0.1, **options)
    np.testing.assert_allclose(parameter.data, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.scenario("N14")
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop])
def test_zero_gradient_of_an_adaptive_rule_is_no_step(kind):
    p = dl.Parameter(np.ones(3, np.float32))
    optimizer = kind([p], 0.1, weight_decay=0.0)
    p.grad = np.zeros(3, np.float32)
    optimizer.step()
    np.testing.assert_array_equal(p.data, 1)


@pytest.mark.scenario("N14")
@pytest.mark.parametrize("kind", [Adam, AdamW, RMSprop])
def test_huge_gradients_stay_finite(kind):
    p = dl.Parameter(np.ones(3, np.float32))
    optimizer = kind([p], 0.1)
    p.grad = np.full(3, 1e18, np.float32)
    optimizer.step()
    assert np.isfinite(p.data).all() and (p.data < 1).all()


def test_decoupled_decay_is_not_coupled_decay(rng):
    start = rng.standard_normal(4)
    results = []
    for kind in (Adam, AdamW):
        p = dl.Parameter(start.copy(), dtype=np.float64)
        optimizer = kind([p], 0.1, weight_decay=0.5)
        p.grad = np.zeros(4)
        optimizer.step()
        results.append(p.data.copy())
    np.testing.assert_allclose(results[1], start * (1 - 0.05))
    np.testing.assert_allclose(results[0], start - 0.1 * np.sign(start), rtol=1e-4)


def test_real_gradients_reach_the_rule(rng):
    model = dl.Sequential(dl.layers.Dense(2), input_shape=(3,)).to(dtype="float64")
    x = rng.standard_normal((5, 3))
    weight = model[0].weight.data.copy()
    optimizer = SGD(model, 0.1)
    model(x).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(model[0].weight.data, weight - 0.1 * np.repeat(x.sum(0)[:, None], 2, axis=1))


# Schedules

HALF = 0.5 * (1 + math.cos(math.pi / 4))
SCHEDULES = [
    (Constant(0.3), {0: 0.3, 7.5: 0.3}),
    (StepDecay(1.0, every=10), {0: 1, 9.99: 1, 10: 0.1, 19.5: 0.1, 20: 0.01}),
    (StepDecay(0.8, every=2, gamma=0.5), {1: 0.8, 2: 0.4, 5: 0.2}),
    (CosineDecay(1.0, epochs=8), {0: 1, 2: HALF, 4: 0.5, 8: 0, 20: 0}),
    (CosineDecay(1.0, epochs=4, final=0.2), {0: 1, 2: 0.6, 4: 0.2, 9: 0.2}),
    (WarmUp(0.4, epochs=2), {0: 0, 0.5: 0.1, 1: 0.2, 2: 0.4, 3: 0.4}),
    (WarmUp(StepDecay(1.0, every=4), epochs=2), {0: 0, 1: 0.5, 2: 1, 3.5: 1, 4: 0.1}),
    (EpochFunction(lambda epoch: 1 / (1 + epoch)), {0: 1, 0.9: 1, 1: 0.5, 3.99: 0.25}),
]


@pytest.mark.parametrize(("schedule", "values"), SCHEDULES, ids=[repr(s)[:40] for s, _ in SCHEDULES])
def test_schedule_values(schedule, values):
    for epoch, value in values.items():
        assert schedule(epoch) == pytest.approx(value, abs=1e-12)
    p = dl.Parameter(np.zeros(1, np.float32))
    optimizer = SGD([p], schedule)
    for epoch, value in values.items():
        optimizer.epoch = epoch
        assert optimizer.lr == pytest.approx(value, abs=1e-12)
        p.data[...] = 0
        p.grad = np.ones(1, np.float32)
        optimizer.step()
        assert p.item() == pytest.approx(-value, rel=1e-6)


def test_assigning_lr_replaces_the_schedule():
    optimizer = SGD([dl.Parameter(np.zeros(1))], StepDecay(1.0, 1))
    optimizer.lr = 0.25
    optimizer.epoch = 5
    assert optimizer.lr == 0.25 and isinstance(optimizer.schedule, Constant)
    with pytest.raises(ValueError, match=r"lr .*got nan"):
        optimizer.lr = math.nan
    assert optimizer.lr == 0.25


def test_repr_of_a_schedule():
    assert repr(StepDecay(0.1, 10)) == "StepDecay(lr=0.1, every=10, gamma=0.1)"


# Clipping


def with_gradients(rng, scale=1.0):
    parameters = make_parameters(rng)
    for p in parameters:
        p.grad = np.array(scale * rng.standard_normal(p.shape))
    return parameters


def total_norm(parameters):
    return math.sqrt(sum(float((p.grad**2).sum()) for p in parameters if p.grad is not None))


@pytest.mark.scenario("N13")
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_clip_norm(scale, rng):
    parameters = with_gradients(rng, scale)
    before = [p.grad.copy() for p in parameters]
    norm = total_norm(parameters)
    assert clip_norm(parameters, 1.0) == pytest.approx(norm, rel=1e-12)
    factor = min(1.0, 1.0 / norm)
    for p, g in zip(parameters, before, strict=True):
        np.testing.assert_allclose(p.grad, g * factor, rtol=1e-12)
    assert total_norm(parameters) == pytest.approx(min(norm, 1.0), rel=1e-12)


def test_clip_norm_ignores_missing_gradients_and_takes_a_model(rng):
    model = dl.Sequential(dl.layers.Dense(2), dl.layers.Dense(2), input_shape=(3,))
    assert clip_norm(model, 1.0) == 0.0
    model[0].weight.grad = np.full((3, 2), 2.0, np.float32)
    assert clip_norm(model, 1.0) == pytest.approx(2 * math.sqrt(6))
    assert np.linalg.norm(model[0].weight.grad) == pytest.approx(1.0)


@pytest.mark.scenario("N13")
def test_clip_norm_does_not_overflow_float32():
    p = dl.Parameter(np.ones(4, np.float32))
    p.grad = np.full(4, 1e30, np.float32)
    assert clip_norm([p], 1.0) == pytest.approx(2e30)
    np.testing.assert_allclose(p.grad, 0.5, rtol=1e-6)


@pytest.mark.parametrize("clip", [clip_norm, clip_value])
def test_clipping_a_0d_gradient_of_two_backwards(clip):
    """NumPy makes a scalar of 0-d + 0-d; the sum must still be clipped."""
    p = dl.Parameter(np.array(1.0))
    for _ in range(2):
        (p * 5.0).backward()
    assert float(p.grad) == 10.0
    clip([p], 1.0)
    assert float(p.grad) == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clip_value(limit, rng):
    parameters = with_gradients(rng, 3.0)
    before = [p.grad.copy() for p in parameters]
    clip_value(parameters, limit)
    for p, g in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(p.grad, np.clip(g, -limit, limit))


@pytest.mark.parametrize("clip", [clip_norm, clip_value])
@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_bad_limits(clip, limit, rng):
    parameters = with_gradients(rng)
    with pytest.raises(ValueError, match=r"limit .*" + str(limit)):
        clip(parameters, limit)


@pytest.mark.parametrize(
    ("option", "clip"),
    [({"clip_norm": 0.5}, clip_norm), ({"clip_value": 0.2}, clip_value)],
    ids=["norm", "value"],
)
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop])
def test_clipping_as_an_argument(kind, option, clip):
    results = []
    for inside in (True, False):
        rng = np.random.default_rng(5)
        parameters = make_parameters(rng)
        optimizer = kind(parameters, 0.1, **(option if inside else {}))
        for _ in range(3):
            for p in parameters:
                p.grad = rng.standard_normal(p.shape)
            if not inside:
                clip(parameters, next(iter(option.values())))
            optimizer.step()
        results.append([p.data.copy() for p in parameters])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_both_limits_norm_first():
    p = dl.Parameter(np.zeros(2), dtype=np.float64)
    optimizer = SGD([p], 1.0, clip_norm=1.0, clip_value=0.7)
    p.grad = np.array([30.0, 40.0])
    optimizer.step()
    np.testing.assert_allclose(p.data, [-0.6, -0.7])


def test_clipping_leaves_arrays_of_the_user_alone():
    """One array assigned to two parameters counts twice in the norm, is scaled once, and is not written to."""
    gradient = np.full(2, 3.0)
    parameters = [dl.Parameter(np.zeros(2), dtype=np.float64) for _ in range(2)]
    optimizer = SGD(parameters, 1.0, clip_norm=1.0)
    optimizer.state_dict()  # packs: the next step copies nothing on its own
    for p in parameters:
        p.grad = gradient
    optimizer.step()
    np.testing.assert_array_equal(gradient, 3.0)
    for p in parameters:
        np.testing.assert_allclose(p.data, -0.5)


# Arguments

NAN, INF = math.nan, math.inf
BAD = [
    (SGD, "lr", [-0.1, NAN, INF, "0.1", None, True, [0.1]]),
    (SGD, "momentum", [-0.1, 1, 1.5, NAN, "high", None]),
    (SGD, "weight_decay", [-1e-4, NAN, INF, "x"]),
    (SGD, "clip_norm", [-1.0, NAN, "x"]),
    (SGD, "clip_value", [-1.0, NAN, INF, "x"]),
    (Adam, "lr", [-1e-3, NAN, "fast"]),
    (Adam, "beta1", [-0.1, 1, 1.1, NAN, "x"]),
    (Adam, "beta2", [-0.1, 1, 2, NAN]),
    (Adam, "eps", [-1e-8, NAN, "x"]),
    (Adam, "weight_decay", [-0.1, NAN]),
    (AdamW, "weight_decay", [-0.1, NAN]),
    (AdamW, "beta1", [1.0]),
    (RMSprop, "rho", [-0.1, 1.0, NAN]),
    (RMSprop, "eps", [-1.0]),
    (RMSprop, "momentum", [-0.5, 1.0]),
]


@pytest.mark.scenario("B74")
@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [(kind, argument, value) for kind, argument, values in BAD for value in values],
    ids=lambda v: getattr(v, "__name__", repr(v)),
)
def test_bad_hyperparameters(kind, argument, value):
    with pytest.raises((ValueError, TypeError)) as caught:
        kind([dl.Parameter(np.zeros(1))], **{argument: value})
    message = str(caught.value)
    assert all(word in message for word in (kind.__name__, argument, repr(value))), message


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: StepDecay(-1, 5), "lr"),
        (lambda: StepDecay(1, 0), "every"),
        (lambda: StepDecay(1, 5, NAN), "gamma"),
        (lambda: CosineDecay("1", 5), "lr"),
        (lambda: CosineDecay(1, 0), "epochs"),
        (lambda: CosineDecay(1, 5, -1), "final"),
        (lambda: WarmUp(0.1, 0), "epochs"),
        (lambda: WarmUp("0.1", 1), "lr"),
        (lambda: Constant(NAN), "lr"),
    ],
)
def test_bad_schedules(make, argument):
    with pytest.raises(ValueError, match=f"{argument} must be a finite number"):
        make()


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov=True needs momentum"):
        SGD([dl.Parameter(np.zeros(1))], 0.1, nesterov=True)


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), 0, 1])
def test_numbers_of_numpy_are_numbers(value):
    assert SGD([dl.Parameter(np.zeros(1))], value).lr == value


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop])
def test_unknown_keyword(kind):
    with pytest.raises(TypeError, match="colour"):
        kind([dl.Parameter(np.zeros(1))], 0.1, colour=1)


@pytest.mark.parametrize("what", [[np.zeros(2)], [dl.Tensor(np.zeros(2))], 5, None, ["weight"]])
def test_what_is_optimised(what):
    with pytest.raises(TypeError, match="needs a Layer or Parameters"):
        SGD(what, 0.1)


def test_nothing_given():
    for nothing in ([], dl.Sequential(dl.layers.Dense(3)), dl.Sequential(dl.layers.ReLU())):
        with pytest.raises(ValueError, match="nothing to train"):
            SGD(nothing, 0.1).step()
