"""Convolution, pooling, batch norm and resizing against PyTorch: values and gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minidl import ops
from tests.oracle.agreement import assert_agree, draw, to_nchw, to_nhwc, to_oihw

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
F = torch.nn.functional

pytestmark = pytest.mark.oracle

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 9)
few = st.integers(1, 3)


@st.composite
def convolutions(draw_from: st.DrawFn) -> dict[str, Any]:
    """Shapes and arguments of a convolution whose kernel fits at least once."""
    kernel, strides, dilation = (draw_from(st.tuples(few, few)) for _ in range(3))
    pads = draw_from(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2))
    size = draw_from(st.tuples(sizes, sizes))
    for n, k, d, p in zip(size, kernel, dilation, pads, strict=True):
        assume(n + sum(p) >= (k - 1) * d + 1)
    groups = draw_from(few)
    return {
        "x": (draw_from(few), *size, groups * draw_from(few)),
        "kernel": kernel,
        "strides": strides,
        "dilation": dilation,
        "pads": pads,
        "groups": groups,
        "filters": groups * draw_from(few),
        "bias": draw_from(st.booleans()),
    }


def torch_conv(
    x: Any, w: Any, b: Any, strides: Any, pads: Any, dilation: Any = (1, 1), groups: int = 1
) -> Any:
    (top, bottom), (left, right) = pads
    padded = F.pad(to_nchw(x), (left, right, top, bottom))
    return to_nhwc(F.conv2d(padded, to_oihw(w), b, strides, 0, dilation, groups))


@given(convolutions(), seeds)
def test_conv2d(case: dict[str, Any], seed: int) -> None:
    strides, pads, dilation, groups = (case[k] for k in ("strides", "pads", "dilation", "groups"))
    weight = (*case["kernel"], case["x"][-1] // groups, case["filters"])
    arrays = draw(seed, case["x"], weight, *[(case["filters"],)] * case["bias"])
    assert_agree(
        lambda x, w, b=None: ops.conv2d(x, w, b, strides, pads, dilation, groups),
        lambda x, w, b=None: torch_conv(x, w, b, strides, pads, dilation, groups),
        *arrays,
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch says that it copies
@given(seed=seeds, size=st.tuples(sizes, sizes), kernel=st.tuples(few, few), dilation=few)
def test_conv2d_same_padding(seed: int, size: Any, kernel: Any, dilation: int) -> None:
    arrays = draw(seed, (2, *size, 2), (*kernel, 2, 3), (3,))
    assert_agree(
        lambda x, w, b: ops.conv2d(x, w, b, padding="same", dilation=dilation),
        lambda x, w, b: to_nhwc(F.conv2d(to_nchw(x), to_oihw(w), b, padding="same", dilation=dilation)),
        *arrays,
    )


@pytest.mark.parametrize("padding", [0, 1, 2, (2, 1)])
def test_conv2d_integer_padding_is_pytorchs(padding: Any) -> None:
    assert_agree(
        lambda x, w: ops.conv2d(x, w, strides=2, padding=padding),
        lambda x, w: to_nhwc(F.conv2d(to_nchw(x), to_oihw(w), stride=2, padding=padding)),
        *draw(0, (2, 8, 7, 2), (3, 3, 2, 4)),
    )


@st.composite
def poolings(draw_from: st.DrawFn) -> dict[str, Any]:
    """Shapes and arguments of a pooling that PyTorch takes: its padding is at most half the kernel."""
    kernel = draw_from(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw_from(st.integers(0, k // 2)) for k in kernel)
    size = draw_from(st.tuples(sizes, sizes))
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    return {
        "shape": (draw_from(few), *size, draw_from(few)),
        "kernel": kernel,
        "strides": draw_from(st.tuples(few, few)),
        "padding": padding,
    }


@given(poolings(), seeds, st.booleans())
def test_max_pool2d(case: dict[str, Any], seed: int, ties: bool) -> None:
    (x,) = draw(seed, case["shape"])
    x = np.round(x) if ties else x  # of equal pixels the first has the gradient, in both
    arguments = case["kernel"], case["strides"], case["padding"]
    assert_agree(
        lambda x: ops.max_pool2d(x, *arguments), lambda x: to_nhwc(F.max_pool2d(to_nchw(x), *arguments)), x
    )


@given(poolings(), seeds, st.booleans())
def test_avg_pool2d(case: dict[str, Any], seed: int, count_pad: bool) -> None:
    arguments = case["kernel"], case["strides"], case["padding"]
    assert_agree(
        lambda x: ops.avg_pool2d(x, *arguments, count_include_pad=count_pad),
        lambda x: to_nhwc(F.avg_pool2d(to_nchw(x), *arguments, count_include_pad=count_pad)),
        *draw(seed, case["shape"]),
    )


@pytest.mark.parametrize("ties", [False, True])
def test_global_pooling(ties: bool) -> None:
    (x,) = draw(0, (3, 4, 5, 2))
    x = np.round(x) if ties else x
    assert_agree(ops.global_avg_pool2d, lambda x: F.adaptive_avg_pool2d(to_nchw(x), 1)[:, :, 0, 0], x)
    assert_agree(ops.global_max_pool2d, lambda x: x.amax((1, 2)), x)


@given(
    seed=seeds,
    shape=st.one_of(st.tuples(st.integers(2, 6), few), st.tuples(st.integers(2, 4), sizes, sizes, few)),
    momentum=st.floats(0, 1),
    eps=st.sampled_from([1e-5, 1e-3, 0.1]),
    training=st.booleans(),
)
def test_batch_norm(seed: int, shape: Any, momentum: float, eps: float, training: bool) -> None:
    channels = shape[-1]
    x, gamma, beta, mean, var = draw(seed, shape, *[(channels,)] * 4)
    mine = [mean.copy(), np.exp(var)]
    other = [torch.tensor(mean), torch.exp(torch.tensor(var))]

    def theirs(x: Any, gamma: Any, beta: Any) -> Any:
        images = to_nchw(x) if x.ndim == 4 else x
        y = F.batch_norm(images, *other, gamma, beta, training, momentum, eps)
        return to_nhwc(y) if x.ndim == 4 else y

    assert_agree(
        lambda x, gamma, beta: ops.batch_norm(x, gamma, beta, *mine, training, momentum, eps),
        theirs,
        x,
        gamma,
        beta,
        atol=1e-9,  # two samples: x - mean cancels, and 1 / sqrt(var + eps) multiplies what is left
    )
    np.testing.assert_allclose(mine[0], other[0].numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mine[1], other[1].numpy(), rtol=1e-12, atol=1e-12)


@given(seed=seeds, old=st.tuples(sizes, sizes), new=st.tuples(st.integers(1, 14), st.integers(1, 14)))
def test_resize(seed: int, old: Any, new: Any) -> None:
    assert_agree(
        lambda x: ops.resize(x, new),
        lambda x: to_nhwc(F.interpolate(to_nchw(x), new, mode="bilinear", align_corners=False)),
        *draw(seed, (2, *old, 3)),
    )
