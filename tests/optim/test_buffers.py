"""The flat buffers: views, one call for all, repacking, state by name, assigned data and gradients."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minidl as dl
from minidl.layers import BatchNorm, Dense, ReLU, Sequential
from minidl.optim import SGD, Adam, AdamW, RMSprop

KINDS = {
    "sgd": lambda m: SGD(m, 0.1),
    "momentum": lambda m: SGD(m, 0.1, momentum=0.9),
    "adam": lambda m: Adam(m, 0.01),
    "adamw": lambda m: AdamW(m, 0.01),
    "rmsprop": lambda m: RMSprop(m, 0.01, momentum=0.5),
}
KERNELS = ("sgd_step", "adam_step", "rmsprop_step")


def make_model(seed=0):
    return Sequential(Dense(4), ReLU(), BatchNorm(), Dense(3), Dense(2), input_shape=(5,), seed=seed)


@pytest.fixture
def x(rng):
    return rng.standard_normal((8, 5)).astype(np.float32)


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    return request.param


def train(model, optimizer, x, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()


def assert_same(a, b):
    assert sorted(a) == sorted(b)
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def base_of(array):
    while array.base is not None:
        array = array.base
    return array


def assert_packed(parameters):
    """All data in one array and all gradients in another, one after the other."""
    for which in ("_data", "grad"):
        arrays = [getattr(p, which) for p in parameters]
        flat = base_of(arrays[0])
        assert flat.ndim == 1 and flat.size == sum(a.size for a in arrays)
        assert all(base_of(a) is flat for a in arrays)
        np.testing.assert_array_equal(flat, np.concatenate([a.reshape(-1) for a in arrays]))
    assert not np.shares_memory(parameters[0]._data, parameters[0].grad)


def test_parameters_and_gradients_are_views_of_one_array(kind, x):
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x)
    assert_packed(model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    (model(x) ** 2).mean().backward()
    assert_packed(model.parameters())  # gradients land in place, without a copy


def test_packing_changes_no_values(kind):
    model = make_model()
    before = model.state_dict()
    kind(model).state_dict()
    assert_same(model.state_dict(), before)


@pytest.fixture
def updates(monkeypatch):
    """Sizes of the arrays given to each call of an update kernel."""
    sizes: list[int] = []
    kernels = dl.kernels.of(np)

    def counting(kernel):
        def count(p, *args):
            sizes.append(p.size)
            return kernel(p, *args)

        return count

    for name in KERNELS:
        monkeypatch.setattr(kernels, name, counting(getattr(kernels, name)))
    return sizes


def test_one_call_updates_everything(kind, updates, x):
    model = make_model()
    train(model, kind(model), x, steps=3)
    assert updates == [sum(p.size for p in model.parameters())] * 3


def test_one_call_for_each_run_of_neighbours_with_a_gradient(kind, updates, x):
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x)
    sizes = [p.size for p in model.parameters()]
    updates.clear()
    (model(x) ** 2).mean().backward()
    model["batch_norm"].gamma.grad = None
    optimizer.step()
    assert updates == [sum(sizes[:2]), sum(sizes[3:])]


def test_a_parameter_without_a_gradient_is_untouched(kind, x):
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x, steps=2)
    before, state = model.state_dict(), optimizer.state_dict()
    optimizer.zero_grad()
    (model(x) ** 2).mean().backward()
    model["dense_1"].weight.grad = None
    optimizer.step()
    after = optimizer.state_dict()
    name = "dense_1.weight"
    np.testing.assert_array_equal(model.state_dict()[name], before[name])
    for key in [key for key in after if key.startswith(name)]:
        np.testing.assert_array_equal(after[key], state[key])
    assert after[f"{name}/step"] == 2 and after["dense_1.bias/step"] == 3
    assert not np.array_equal(model.state_dict()["dense_1.bias"], before["dense_1.bias"])


@pytest.mark.scenario("N14")
def test_step_counts_of_their_own_enter_the_bias_correction():
    """A parameter that comes late takes Adam's first step, not the others' tenth."""
    late, early = (dl.Parameter(np.zeros(1), dtype=np.float64) for _ in range(2))
    optimizer = Adam([early, late], 0.1)
    for step in range(10):
        early.grad, late.grad = np.ones(1), np.ones(1) if step == 9 else None
        optimizer.step()
    assert late.item() == pytest.approx(-0.1, rel=1e-6)
    assert early.item() == pytest.approx(-1.0, rel=1e-6)


def test_no_step_without_gradients(kind, updates):
    model = make_model()
    before = model.state_dict()
    kind(model).step()
    assert_same(model.state_dict(), before)
    assert updates == []


def test_assigned_gradients_count(kind, rng):
    """Any dtype or memory order; the parameter's gradient is a view again afterwards."""
    models = make_model(), make_model()
    optimizers = [kind(m) for m in models]
    for _ in range(3):
        gradients = {
            name: rng.standard_normal(p.shape).astype(np.float32) for name, p in models[0].named_parameters()
        }
        for name, p in models[0].named_parameters():
            p.grad = gradients[name].copy()
        for name, p in models[1].named_parameters():
            p.grad = np.asfortranarray(gradients[name].astype(np.float64))
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.step()
            assert_packed(model.parameters())
    assert_same(models[0].state_dict(), models[1].state_dict())


def test_gradients_accumulate_over_two_backwards(kind, x):
    once, twice = make_model(), make_model()
    for model in (once, twice):
        model[:].eval()
    optimizers = kind(once), kind(twice)
    for _ in range(2):
        optimizers[0].zero_grad(), optimizers[1].zero_grad()
        (2 * (once(x) ** 2).mean()).backward()
        for _ in range(2):
            (twice(x) ** 2).mean().backward()
        optimizers[0].step(), optimizers[1].step()
    for name, value in once.state_dict().items():
        np.testing.assert_allclose(value, twice.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_gradients_made_before_the_first_step_are_used(kind, x):
    """`backward` may run before anything is packed."""
    a, b = make_model(), make_model()
    first, second = kind(a), kind(b)
    second.state_dict()  # packs
    for model, optimizer in ((a, first), (b, second)):
        (model(x) ** 2).mean().backward()
        optimizer.step()
    assert_same(a.state_dict(), b.state_dict())


@pytest.mark.parametrize("way", ["assign", "in place", "augmented"])
@pytest.mark.parametrize("packed", [True, False])
def test_assigned_data_takes_effect_and_stays_a_view(way, packed, kind, x):
    model = make_model()
    optimizer = kind(model)
    if packed:
        train(model, optimizer, x)
    weight = model["dense"].weight
    memory = weight._data
    if way == "assign":
        weight.data = np.full(weight.shape, 0.5)
    elif way == "in place":
        weight.data[...] = 0.5
    else:
        weight.data *= 0
        weight.data += 0.5
    assert weight._data is memory and set(weight.data.flat) == {0.5}
    others = [p for p in model.parameters() if p is not weight]
    assert not any(set(p._data.flat) == {0.5} for p in others)
    train(model, optimizer, x)
    assert_packed(model.parameters())
    assert not np.array_equal(weight.data, np.full(weight.shape, 0.5))
    assert abs(weight.data - 0.5).max() < 0.3  # it moved from the assigned value, not from the old one


# Repacking


CHANGES = {
    "freeze": lambda m: m["dense"].freeze(),
    "freeze-middle": lambda m: m["batch_norm"].freeze(),
    "freeze-and-back": lambda m: m.freeze().unfreeze(),
    "append": lambda m: m.append(Dense(3)),
    "dtype": lambda m: m.to(dtype="float64"),
    "device": lambda m: m.to("cpu"),
    "both": lambda m: (m.append(Dense(3)), m["dense"].freeze()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_repacking_keeps_moments_and_steps_by_name(change, kind, x):
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x, steps=3)
    before = optimizer.state_dict()
    change(model)
    model(x)  # builds what is new
    after = optimizer.state_dict()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key].reshape(-1), value.reshape(-1), err_msg=key)
    new = set(after) - set(before)
    assert all(key.startswith("dense_3") and not after[key].any() for key in new)
    train(model, optimizer, x)
    assert_packed([p for p in model.parameters() if p.requires_grad])
    assert after["dense_1.weight/step"] == 3 and optimizer.state_dict()["dense_1.weight/step"] == 4


@pytest.mark.parametrize("change", ["freeze-and-back", "device"])
def test_repacking_does_not_disturb_the_run(change, kind, x):
    results = []
    for interrupt in (False, True):
        model = make_model()
        optimizer = kind(model)
        train(model, optimizer, x, steps=2)
        if interrupt:
            CHANGES[change](model)
        train(model, optimizer, x, steps=2)
        results.append(model.state_dict())
    assert_same(*results)


def test_adam_state_survives_freeze_train_unfreeze(x):
    """The frozen layer goes on with the moments and the step it had."""
    model = make_model()
    optimizer = Adam(model, 0.01)
    train(model, optimizer, x, steps=3)
    kept = {k: v for k, v in optimizer.state_dict().items() if k.startswith("dense.")}
    model["dense"].freeze()
    train(model, optimizer, x, steps=4)
    model["dense"].unfreeze()
    assert_same({k: v for k, v in optimizer.state_dict().items() if k.startswith("dense.")}, kept)

    weight, gradient = model["dense"].weight.data.astype(float), np.ones((5, 4))
    mean, square = (kept[f"dense.weight/{m}"].astype(float) for m in ("mean", "square"))
    optimizer.zero_grad()
    model["dense"].weight.grad = gradient
    optimizer.step()
    mean, square = 0.9 * mean + 0.1, 0.999 * square + 0.001
    expected = weight - 0.01 * mean / (1 - 0.9**4) / (np.sqrt(square / (1 - 0.999**4)) + 1e-8)
    np.testing.assert_allclose(model["dense"].weight.data, expected, rtol=1e-5)


def test_a_new_head_of_the_same_name_starts_afresh(kind, x):
    """The last layer is replaced by one of another size, as in transfer learning."""
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x, steps=2)
    old = model.layers.pop()
    model.append(Dense(7, name=old.name))
    train(model, optimizer, x)
    state = optimizer.state_dict()
    assert model["dense_2"].weight.shape == (3, 7) and state["dense.weight/step"] == 3
    for moment in optimizer.moments:  # without any, the count of steps has no meaning
        assert state[f"dense_2.weight/{moment}"].shape == (3, 7) and state["dense_2.weight/step"] == 1


def test_turning_one_parameter_on_by_hand(x):
    """`requires_grad` may be set as in PyTorch, not through freeze()."""
    model = make_model().freeze()
    model["dense_2"].unfreeze()
    optimizer = SGD(model, 0.1)
    train(model, optimizer, x)
    model["dense"].weight.requires_grad = True
    before = model["dense"].weight.data.copy()
    train(model, optimizer, x)
    assert not np.array_equal(model["dense"].weight.data, before)


def test_mixed_dtypes_are_refused():
    a, b = dl.Parameter(np.zeros(2, np.float32)), dl.Parameter(np.zeros(2), dtype=np.float64)
    with pytest.raises(ValueError, match=r"share device and dtype.*float32.*float64"):
        SGD([a, b], 0.1).step()


# Several optimisers, copies


def test_two_optimisers_on_one_model(x):
    """Used in turns, each keeps its own moments: the same as two that work on the halves of the steps."""
    model = make_model()
    adam, sgd = Adam(model, 0.01), SGD(model, 0.1, momentum=0.9)
    for _ in range(3):
        train(model, adam, x)
        train(model, sgd, x)
    assert adam.state_dict()["dense.weight/step"] == sgd.state_dict()["dense.weight/step"] == 3

    expected = {name: p.data.astype(float) for name, p in make_model().named_parameters()}
    m, s, v = (dict.fromkeys(expected, 0.0) for _ in range(3))
    twin = make_model()
    for step in range(1, 4):
        for rule in ("adam", "sgd"):
            for name, p in twin.named_parameters():
                p.data = expected[name]
                p.grad = None
            (twin(x) ** 2).mean().backward()
            for name, p in twin.named_parameters():
                g = p.grad.astype(float)
                if rule == "adam":
                    m[name] = 0.9 * m[name] + 0.1 * g
                    s[name] = 0.999 * s[name] + 0.001 * g * g
                    update = m[name] / (1 - 0.9**step) / (np.sqrt(s[name] / (1 - 0.999**step)) + 1e-8)
                    expected[name] = expected[name] - 0.01 * update
                else:
                    v[name] = 0.9 * v[name] + g
                    expected[name] = expected[name] - 0.1 * v[name]
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.data, expected[name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_two_optimisers_on_two_parts(x):
    model = make_model()
    head, body = Adam(model[3:], 0.01), SGD(model[:3], 0.1)
    before = model.state_dict()
    for _ in range(2):
        head.zero_grad(), body.zero_grad()
        (model(x) ** 2).mean().backward()
        head.step(), body.step()
    assert all(not np.array_equal(p.data, before[name]) for name, p in model.named_parameters())
    assert set(head.state_dict()) & set(body.state_dict()) == {"epoch", "lr"}


@pytest.mark.scenario("F35")
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])  # fmt: skip
def test_a_copy_of_model_and_optimiser_goes_on_by_itself(duplicate, kind, x):
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x, steps=2)
    twin, twin_optimizer = duplicate((model, optimizer))
    before = model.state_dict()
    train(twin, twin_optimizer, x, steps=2)
    assert_same(model.state_dict(), before)
    train(model, optimizer, x, steps=2)
    assert_same(twin.state_dict(), model.state_dict())
    assert_same(twin_optimizer.state_dict(), optimizer.state_dict())


# State


@pytest.mark.scenario("N14")
def test_state_round_trip_continues_exactly(kind, x):
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x, steps=3)
    optimizer.epoch = 1.5
    weights, state = model.state_dict(), optimizer.state_dict()
    train(model, optimizer, x, steps=3)

    other = make_model(seed=9)
    other.load_state_dict(weights)
    resumed = kind(other)
    resumed.load_state_dict(state)
    assert resumed.epoch == 1.5
    train(other, resumed, x, steps=3)
    assert_same(other.state_dict(), model.state_dict())
    assert_same(resumed.state_dict(), optimizer.state_dict())


def test_state_of_a_list_of_parameters(kind, rng):
    parameters = [dl.Parameter(rng.standard_normal(3), dtype=np.float64) for _ in range(2)]
    twins = [dl.Parameter(p.data.copy(), dtype=np.float64) for p in parameters]
    first, second = kind(parameters), kind(twins)
    gradients = rng.standard_normal((4, 2, 3))
    for i in range(4):
        for p, g in zip(parameters, gradients[i], strict=True):
            p.grad = g
        first.step()
        if i == 1:
            second.load_state_dict(first.state_dict())
            for p, q in zip(parameters, twins, strict=True):
                q.data = p.data
        if i > 1:
            for p, g in zip(twins, gradients[i], strict=True):
                p.grad = g
            second.step()
    for p, q in zip(parameters, twins, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_state_is_a_copy(kind, x):
    model = make_model()
    optimizer = kind(model)
    train(model, optimizer, x)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    for value in state.values():
        value += 1
    assert_same(optimizer.state_dict(), kept)


def test_state_taken_while_frozen_loads_into_an_unfrozen_model(x):
    model = make_model()
    optimizer = Adam(model, 0.01)
    train(model, optimizer, x, steps=2)
    whole = optimizer.state_dict()
    model["dense"].freeze()
    frozen = optimizer.state_dict()
    assert_same(frozen, whole)
    assert {k: v.shape for k, v in frozen.items()} == {k: v.shape for k, v in whole.items()}
    other = Adam(make_model(), 0.01)
    other.load_state_dict(frozen)
    assert_same(other.state_dict(), whole)


def test_state_of_a_frozen_model_keeps_the_rest_for_later(x):
    """A state with more names than are trained now is kept until they are unfrozen."""
    model = make_model()
    optimizer = Adam(model, 0.01)
    train(model, optimizer, x, steps=2)
    whole = optimizer.state_dict()
    other = make_model()
    other["dense"].freeze()
    resumed = Adam(other, 0.01)
    resumed.load_state_dict(whole)
    other["dense"].unfreeze()
    assert_same(resumed.state_dict(), whole)


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.pop("dense.weight/mean"),
        lambda s: s.pop("epoch"),
        lambda s: s.pop("dense_2.bias/step"),
        lambda s: s.update({"other.weight/mean": np.zeros(3)}),
        lambda s: s.update({"dense.weight/mean": np.zeros((4, 5))}),
        lambda s: s.update({"dense.weight/square": [1.0]}),
        lambda s: s.update({"dense.weight/velocity": np.zeros((5, 4))}),
    ],
    ids=["moment", "epoch", "step", "unknown", "shape", "list", "moment-of-another-rule"],
)
def test_strict_loading(damage, x):
    model = make_model()
    optimizer = Adam(model, 0.01)
    train(model, optimizer, x, steps=2)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    damage(state)
    (name,) = set(state) ^ set(kept) or {
        k for k in kept if np.shape(state[k]) != kept[k].shape or not hasattr(state[k], "shape")
    }
    with pytest.raises(dl.StateError, match="nothing was loaded") as caught:
        optimizer.load_state_dict(state)
    assert name in str(caught.value)
    assert_same(optimizer.state_dict(), kept)


def test_state_of_another_rule_lists_every_difference(x):
    model = make_model()
    sgd, adam = SGD(model, 0.1, momentum=0.9), Adam(model, 0.01)
    train(model, sgd, x)
    with pytest.raises(dl.StateError) as caught:
        adam.load_state_dict(sgd.state_dict())
    message = str(caught.value)
    assert message.count("missing: ") == 2 * 8 and message.count("unknown: ") == 8


@pytest.mark.parametrize("damage", ["shape", "half"])
def test_strict_loading_of_frozen_parameters_too(damage, x):
    model = make_model()
    optimizer = Adam(model, 0.01)
    train(model, optimizer, x)
    state = optimizer.state_dict()
    if damage == "shape":
        state["dense.weight/mean"] = np.zeros(3)
    else:
        del state["dense.weight/square"]
    other = make_model()
    other["dense"].freeze()
    with pytest.raises(dl.StateError, match=r"dense\.weight"):
        Adam(other, 0.01).load_state_dict(state)
