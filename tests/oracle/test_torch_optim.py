"""Optimisers, schedules and clipping against PyTorch's: the same parameters after every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidl as dl
from minidl import optim

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

pytestmark = pytest.mark.oracle

STEPS = 20
SHAPES: list[tuple[int, ...]] = [(3, 4), (4,), (2, 3, 1, 2), (1,)]

RULES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sgd": (lambda p: optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd_defaults": (optim.SGD, lambda p: torch.optim.SGD(p, 0.01)),
    "sgd_decay": (
        lambda p: optim.SGD(p, 0.1, weight_decay=0.03),
        lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.03),
    ),
    "momentum": (lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "nesterov": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    ),
    "nesterov_decay": (
        lambda p: optim.SGD(p, 0.1, momentum=0.7, nesterov=True, weight_decay=0.03),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.7, nesterov=True, weight_decay=0.03),
    ),
    "adam": (lambda p: optim.Adam(p, 0.05), lambda p: torch.optim.Adam(p, 0.05)),
    "adam_defaults": (optim.Adam, torch.optim.Adam),
    "adam_all": (
        lambda p: optim.Adam(p, 0.05, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.03),
        lambda p: torch.optim.Adam(p, 0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.03),
    ),
    "adamw_defaults": (optim.AdamW, torch.optim.AdamW),
    "adamw": (
        lambda p: optim.AdamW(p, 0.05, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.3),
    ),
    "rmsprop_defaults": (optim.RMSprop, torch.optim.RMSprop),
    "rmsprop_momentum": (
        lambda p: optim.RMSprop(p, 0.02, rho=0.9, momentum=0.8),
        lambda p: torch.optim.RMSprop(p, 0.02, alpha=0.9, momentum=0.8),
    ),
    "rmsprop_all": (
        lambda p: optim.RMSprop(p, 0.02, rho=0.95, eps=1e-3, momentum=0.5, weight_decay=0.03),
        lambda p: torch.optim.RMSprop(p, 0.02, alpha=0.95, eps=1e-3, momentum=0.5, weight_decay=0.03),
    ),
}


class Pair:
    """The same parameters in both libraries, each with its optimiser."""

    def __init__(self, ours: Callable[..., Any], theirs: Callable[..., Any]):
        rng = np.random.default_rng(0)
        start = [rng.standard_normal(shape) for shape in SHAPES]
        self.mine = [dl.Parameter(a.copy()) for a in start]
        self.other = [torch.nn.Parameter(torch.tensor(a)) for a in start]
        self.our_optimizer, self.their_optimizer = ours(self.mine), theirs(self.other)
        self.noise = np.random.default_rng(1)

    def set_gradients(self, without: tuple[int, ...] = (), scale: float = 1.0) -> None:
        """A gradient that depends on the parameter, so that a difference grows; None for `without`."""
        self.our_optimizer.zero_grad()
        self.their_optimizer.zero_grad()
        for i, (p, q) in enumerate(zip(self.mine, self.other, strict=True)):
            noise = self.noise.standard_normal(p.shape)
            if i not in without:
                p.grad = scale * (0.7 * p.data + noise)
                q.grad = scale * (0.7 * q.detach() + torch.tensor(noise))

    def step(self) -> None:
        self.our_optimizer.step()
        self.their_optimizer.step()

    def assert_equal(self, rtol: float = 1e-9) -> None:
        for p, q in zip(self.mine, self.other, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    pair = Pair(*RULES[name])
    for _ in range(STEPS):
        pair.set_gradients()
        pair.step()
        pair.assert_equal()


@pytest.mark.parametrize("name", RULES)
def test_parameters_without_gradient_stand_still(name: str) -> None:
    """Neither weight decay nor momentum moves them, and their own step count waits."""
    pair = Pair(*RULES[name])
    for step in range(STEPS):
        pair.set_gradients(without=((), (1,), (0, 2), (3,), (1, 2))[step % 5])
        pair.step()
        pair.assert_equal()


def test_assigning_lr() -> None:
    pair = Pair(*RULES["momentum"])
    for step in range(STEPS):
        pair.our_optimizer.lr = pair.their_optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        pair.set_gradients()
        pair.step()
    pair.assert_equal()


SCHEDULES: dict[str, tuple[Any, Callable[..., Any]]] = {
    "step": (
        optim.StepDecay(0.1, every=3, gamma=0.5),
        lambda o: torch.optim.lr_scheduler.StepLR(o, 3, gamma=0.5),
    ),
    "cosine": (
        optim.CosineDecay(0.1, epochs=STEPS),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS),
    ),
    "cosine_to_final": (
        optim.CosineDecay(0.1, epochs=12, final=0.01),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12, eta_min=0.01),
    ),
    "function": (
        optim.EpochFunction(lambda epoch: 0.1 * 0.9**epoch),
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    schedule, build = SCHEDULES[name]
    pair = Pair(
        lambda p: optim.SGD(p, schedule, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)
    )
    scheduler = build(pair.their_optimizer)
    for epoch in range(12):  # PyTorch's cosine climbs again after its last epoch, ours stays
        pair.our_optimizer.epoch = epoch
        assert pair.our_optimizer.lr == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
        pair.set_gradients()
        pair.step()
        scheduler.step()
        pair.assert_equal()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("without", [(), (0,)])
def test_clip_norm(scale: float, without: tuple[int, ...]) -> None:
    pair = Pair(*RULES["momentum"])
    for step in range(STEPS):
        pair.set_gradients(without, scale)
        before = optim.clip_norm(pair.mine, 1.0)
        expected = torch.nn.utils.clip_grad_norm_(pair.other, 1.0)
        # PyTorch divides by the norm + 1e-6, so that from the first step on the paths part a little
        assert before == pytest.approx(expected.item(), rel=1e-6 if step else 1e-12)
        pair.step()
    pair.assert_equal(rtol=1e-5)


def test_clip_norm_of_the_optimizer() -> None:
    pair = Pair(lambda p: optim.SGD(p, 0.1, clip_norm=2.0), RULES["sgd"][1])
    for _ in range(STEPS):
        pair.set_gradients()
        torch.nn.utils.clip_grad_norm_(pair.other, 2.0)
        pair.step()
    pair.assert_equal(rtol=1e-5)


def test_clip_value() -> None:
    pair = Pair(lambda p: optim.SGD(p, 0.1, clip_value=0.5), RULES["sgd"][1])
    for _ in range(STEPS):
        pair.set_gradients()
        torch.nn.utils.clip_grad_value_(pair.other, 0.5)
        pair.step()
    pair.assert_equal()


@pytest.mark.parametrize("name", ["nesterov_decay", "adam_all", "adamw", "rmsprop_all"])
def test_freezing_half_way(name: str) -> None:
    """A frozen layer keeps its moments and its step count, and goes on with them when unfrozen."""
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((6, 5)), rng.standard_normal((6, 3))
    model = dl.Sequential(dl.layers.Dense(4, activation="tanh"), dl.layers.Dense(3), input_shape=(5,))
    model.to(dtype=np.float64)
    weights = [torch.nn.Parameter(torch.tensor(p.data.copy())) for p in model.parameters()]
    ours, theirs = RULES[name][0](model), RULES[name][1](weights)
    for step in range(STEPS):
        if step == 7:
            model[0].freeze()
            for w in weights[:2]:
                w.requires_grad_(False)
        if step == 13:
            model[0].unfreeze()
            for w in weights[:2]:
                w.requires_grad_(True)
        ours.zero_grad()
        theirs.zero_grad()
        loss = dl.ops.mse(model(x), target)
        loss.backward()
        hidden = torch.tanh(torch.tensor(x) @ weights[0] + weights[1])
        expected = torch.nn.functional.mse_loss(hidden @ weights[2] + weights[3], torch.tensor(target))
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
        ours.step()
        theirs.step()
        for p, q in zip(model.parameters(), weights, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-8, atol=1e-11)
