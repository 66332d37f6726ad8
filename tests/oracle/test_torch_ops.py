"""Element-wise functions, products, indexing, reductions and losses against PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import minidl as dl
from minidl import ops
from tests.oracle.agreement import assert_agree, draw

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
F = torch.nn.functional

pytestmark = pytest.mark.oracle

seeds = st.integers(0, 2**32 - 1)
few = st.integers(1, 4)
shapes = st.lists(few, max_size=4).map(tuple)

UNARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (ops.relu, F.relu),
    "leaky_relu": (ops.leaky_relu, F.leaky_relu),
    "leaky_relu_0.3": (lambda x: ops.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3)),
    "elu": (ops.elu, F.elu),
    "elu_1.7": (lambda x: ops.elu(x, 1.7), lambda x: F.elu(x, 1.7)),
    "gelu": (ops.gelu, F.gelu),
    "tanh": (ops.tanh, torch.tanh),
    "sigmoid": (ops.sigmoid, torch.sigmoid),
    "softplus": (ops.softplus, lambda x: F.softplus(x, threshold=700)),
    "exp": (ops.exp, torch.exp),
    "abs": (ops.abs, torch.abs),
    "negative": (ops.negative, torch.neg),
    "clip": (lambda x: ops.clip(x, -1.0, 0.5), lambda x: torch.clamp(x, -1.0, 0.5)),
    "clip_low": (lambda x: ops.clip(x, low=0.0), lambda x: torch.clamp(x, min=0.0)),
    "clip_high": (lambda x: ops.clip(x, high=0.0), lambda x: torch.clamp(x, max=0.0)),
    "square": (lambda x: x**2, lambda x: x**2),
    "cube": (lambda x: ops.pow(x, 3.0), lambda x: torch.pow(x, 3.0)),
    "two_to_the": (lambda x: 2.0**x, lambda x: 2.0**x),
    "log_of_square": (lambda x: ops.log(x * x + 0.1), lambda x: torch.log(x * x + 0.1)),
    "sqrt_of_square": (lambda x: ops.sqrt(x * x + 0.1), lambda x: torch.sqrt(x * x + 0.1)),
    "softmax_0": (lambda x: ops.softmax(x, 0), lambda x: F.softmax(x, 0)),
    "softmax": (ops.softmax, lambda x: F.softmax(x, -1)),
    "log_softmax_0": (lambda x: ops.log_softmax(x, 0), lambda x: F.log_softmax(x, 0)),
    "log_softmax": (ops.log_softmax, lambda x: F.log_softmax(x, -1)),
    "transpose": (lambda x: x.transpose(1, 0), lambda x: x.permute(1, 0)),
    "reshape": (lambda x: x.reshape(-1), lambda x: x.reshape(-1)),
    "pad": (
        lambda x: ops.pad(x, [(1, 0), (2, 3)], value=0.7),
        lambda x: F.pad(x, (2, 3, 1, 0), value=0.7),
    ),
    "concatenate": (lambda x: ops.concatenate([x, x * 2.0], 1), lambda x: torch.cat([x, x * 2.0], 1)),
}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_unary(name: str, scale: float) -> None:
    (x,) = draw(0, (6, 7))
    x *= scale
    x[0, :6] = 0.0, -0.0, 1.0, -1.0, 0.5, 3.0  # kinks and limits: both take the same side
    assert_agree(*UNARY[name], x)


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_small_probabilities_keep_their_digits(name: str, dtype: Any) -> None:
    """sigmoid(-20) is 2e-9, not 0: its logarithm and the gradient of softplus depend on it."""
    x = np.array([-80.0, -40.0, -30.0, -20.0, -15.0, -10.0, -5.0], dtype)
    assert_agree(*UNARY[name], x, rtol=1e-9 if dtype == np.float64 else 1e-5, atol=0.0)


BINARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (ops.add, torch.add),
    "subtract": (ops.subtract, torch.sub),
    "multiply": (ops.multiply, torch.mul),
    "divide": (ops.divide, torch.div),
    "maximum": (ops.maximum, torch.maximum),
    "minimum": (ops.minimum, torch.minimum),
    "pow": (lambda a, b: ops.pow(ops.exp(a), b), lambda a, b: torch.pow(torch.exp(a), b)),
    "mse_like": (lambda a, b: (a - b) ** 2.0 / (1.0 + b * b), lambda a, b: (a - b) ** 2.0 / (1.0 + b * b)),
}


@pytest.mark.parametrize("name", BINARY)
@given(broadcast=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4), seed=seeds)
def test_binary(name: str, broadcast: Any, seed: int) -> None:
    a, b = draw(seed, *broadcast.input_shapes)
    if name in ("maximum", "minimum"):
        a, b = np.round(a), np.round(b)  # ties share the gradient
    if name == "divide":
        b = np.where(np.abs(b) < 0.1, 0.1, b)
    assert_agree(*BINARY[name], np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64"])
def test_extremes_of_integers(dtype: str) -> None:
    """Images come as uint8."""
    limits = np.iinfo(dtype)
    a = np.array([limits.min, limits.max, 0, 5, 7], dtype)
    b = np.array([limits.max, limits.min, 5, 0, 7], dtype)
    for ours, theirs in ((ops.maximum, torch.maximum), (ops.minimum, torch.minimum)):
        np.testing.assert_array_equal(ours(a, b).data, theirs(torch.tensor(a), torch.tensor(b)).numpy())
    for ours, theirs in ((ops.max, torch.amax), (ops.min, torch.amin)):
        assert ours(a).item() == theirs(torch.tensor(a)).item()


@given(shape=shapes, seed=seeds)
def test_where(shape: Any, seed: int) -> None:
    a, b, mask = draw(seed, shape, shape, shape)
    mask = np.asarray(mask > 0)
    assert_agree(
        lambda a, b: ops.where(mask, a, b),
        lambda a, b: torch.where(torch.tensor(mask), a, b),
        *map(np.asarray, (a, b)),
    )


MATMUL_SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 4)),
    ((1, 6, 2, 3), (5, 1, 3, 1)),
    ((2, 1, 1, 3), (3, 3, 1)),
]


@pytest.mark.parametrize(("a", "b"), MATMUL_SHAPES)
def test_matmul(a: Any, b: Any) -> None:
    assert_agree(ops.matmul, torch.matmul, *draw(0, a, b))


def test_dense() -> None:
    assert_agree(ops.dense, lambda x, w, b: F.linear(x, w.T, b), *draw(0, (5, 4), (4, 3), (3,)))


KEYS: dict[str, Any] = {
    "integer": 2,
    "negative": -1,
    "slice": slice(1, 4),
    "step": slice(None, None, 2),
    "ellipsis": (..., 1),
    "new_axis": (slice(None), None, 0),
    "repeated": np.array([0, 2, 2, 2, -1]),
    "matrix_of_indices": np.array([[0, 1], [1, 1]]),
    "pairs": (np.array([0, 0, 3]), np.array([1, 1, 2])),
    "slice_and_indices": (slice(1, 3), np.array([2, 0, 2])),
    "indices_apart": (np.array([0, 1]), slice(None), np.array([1, 1])),
    "mask": np.arange(5) % 2 == 0,
    "list": [1, 1, 4],
    "tuple_in_tuple": ((1, 1, 4),),
}


@pytest.mark.parametrize("name", KEYS)
def test_getitem(name: str) -> None:
    key = KEYS[name]
    parts = key if isinstance(key, tuple) else (key,)
    theirs = tuple(torch.tensor(k) if isinstance(k, (np.ndarray, list, tuple)) else k for k in parts)
    assert_agree(lambda x: x[key], lambda x: x[theirs], *draw(0, (5, 4, 3)))


REDUCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sum": (ops.sum, torch.sum),
    "mean": (ops.mean, torch.mean),
    "max": (ops.max, torch.amax),
    "min": (ops.min, torch.amin),
    "logsumexp": (ops.logsumexp, torch.logsumexp),
    "var": (ops.var, lambda x, dim, keepdim: torch.var(x, dim, correction=0, keepdim=keepdim)),
    "var_1": (
        lambda x, axis, keepdims: ops.var(x, axis, keepdims, correction=1),
        lambda x, dim, keepdim: torch.var(x, dim, correction=1, keepdim=keepdim),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@given(
    axis=st.one_of(st.none(), st.integers(-3, 2), st.sets(st.integers(0, 2), min_size=1).map(tuple)),
    keepdims=st.booleans(),
    seed=seeds,
    ties=st.booleans(),
)
def test_reduction(name: str, axis: Any, keepdims: bool, seed: int, ties: bool) -> None:
    ours, theirs = REDUCTIONS[name]
    (x,) = draw(seed, (2, 3, 4))
    x = np.round(x) if ties else x
    dim = (0, 1, 2) if axis is None else axis  # amax and logsumexp take no None
    assert_agree(lambda x: ours(x, axis, keepdims), lambda x: theirs(x, dim, keepdim=keepdims), x)


# Losses -----------------------------------------------------------------------------------------------

reductions = st.sampled_from(["mean", "sum", "none"])


@st.composite
def class_labels(draw_from: st.DrawFn) -> dict[str, Any]:
    """Logits with class numbers, some of them ignored, and options."""
    shape = draw_from(st.lists(few, min_size=1, max_size=3).map(tuple))
    classes = draw_from(st.integers(2, 5))
    rng = np.random.default_rng(draw_from(seeds))
    labels = rng.integers(0, classes, shape)
    ignore = draw_from(st.sampled_from([None, 0, 1, -1, 99]))
    if ignore not in (None, 0, 1):
        labels.reshape(-1)[:: draw_from(few)] = ignore
    if ignore is not None:
        assume((labels != ignore).any())  # the mean over nothing is not a number
    return {
        "logits": rng.standard_normal((*shape, classes)) * 3,
        "labels": labels,
        "ignore_index": ignore,
        "class_weights": rng.uniform(0.2, 2.0, classes),
    }


def class_second(x: Any) -> Any:
    """(N, d1, ..., C) -> (N, C, d1, ...)."""
    return x.movedim(-1, 1).contiguous()  # nll_loss of images goes backward through nothing else


def options(case: dict[str, Any], weighted: bool, reduction: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keyword arguments of our loss, and of PyTorch's."""
    weights, ignore = case["class_weights"] if weighted else None, case["ignore_index"]
    ours = {"class_weights": weights, "ignore_index": ignore, "reduction": reduction}
    theirs = {
        "weight": None if weights is None else torch.tensor(weights),
        "ignore_index": -100 if ignore is None else ignore,
        "reduction": reduction,
    }
    return ours, theirs


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@given(class_labels(), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_cross_entropy(weighted: bool, reduction: str, case: dict[str, Any], smoothing: float) -> None:
    mine, other = options(case, weighted, reduction)
    labels = torch.tensor(case["labels"])
    assert_agree(
        lambda x: ops.cross_entropy(x, case["labels"], label_smoothing=smoothing, **mine),
        lambda x: F.cross_entropy(class_second(x), labels, label_smoothing=smoothing, **other),
        case["logits"],
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@given(class_labels())
def test_nll(weighted: bool, reduction: str, case: dict[str, Any]) -> None:
    mine, other = options(case, weighted, reduction)
    labels = torch.tensor(case["labels"])
    assert_agree(
        lambda x: ops.nll(x, case["labels"], **mine),
        lambda x: F.nll_loss(class_second(x), labels, **other),
        case["logits"],
    )


@given(
    shape=st.lists(few, min_size=1, max_size=3).map(tuple),
    seed=seeds,
    smoothing=st.sampled_from([0.0, 0.1]),
    weighted=st.booleans(),
    hard=st.booleans(),
    reduction=reductions,
)
def test_cross_entropy_of_probabilities(
    shape: Any, seed: int, smoothing: float, weighted: bool, hard: bool, reduction: str
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((*shape, 4))
    targets = np.eye(4)[rng.integers(0, 4, shape)] if hard else rng.dirichlet(np.ones(4), shape)
    weights = rng.uniform(0.2, 2.0, 4) if weighted else None
    assert_agree(
        lambda x: ops.cross_entropy(x, targets, smoothing, weights, reduction=reduction),
        lambda x: F.cross_entropy(
            class_second(x),
            class_second(torch.tensor(targets)),
            None if weights is None else torch.tensor(weights),
            label_smoothing=smoothing,
            reduction=reduction,
        ),
        logits,
    )


def test_cross_entropy_of_huge_logits() -> None:
    """The probabilities are exactly 0 and 1; the losses are not infinite."""
    logits = np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]])
    labels = np.array([2, 1])
    assert_agree(
        lambda x: ops.cross_entropy(x, labels), lambda x: F.cross_entropy(x, torch.tensor(labels)), logits
    )


ELEMENT_LOSSES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mse": (ops.mse, F.mse_loss),
    "mae": (ops.mae, F.l1_loss),
    "binary_cross_entropy": (ops.binary_cross_entropy, F.binary_cross_entropy_with_logits),
}


@pytest.mark.parametrize("name", ELEMENT_LOSSES)
@given(shape=shapes, seed=seeds, reduction=reductions)
def test_element_loss(name: str, shape: Any, seed: int, reduction: str) -> None:
    ours, theirs = ELEMENT_LOSSES[name]
    rng = np.random.default_rng(seed)
    x, target = (np.asarray(a) for a in (4 * rng.standard_normal(shape), rng.uniform(size=shape)))
    assert_agree(
        lambda x, t: ours(x, t, reduction=reduction),
        lambda x, t: theirs(x, t, reduction=reduction),
        x,
        target,
    )


# The engine -------------------------------------------------------------------------------------------


def test_a_tensor_used_many_times() -> None:
    """A graph with shared parts: gradients of all paths add up."""

    def graph(lib: Any, x: Any, y: Any) -> Any:
        a = x * y
        b = lib.exp(a) + a
        c = b[1:] * b[:-1] + a[0]
        return (c * c).sum() / (1.0 + (a * a).sum()) + x[0, 0] * x[0, 0]

    assert_agree(lambda x, y: graph(dl.ops, x, y), lambda x, y: graph(torch, x, y), *draw(0, (4, 3), (4, 3)))
