"""How an operation is compared with PyTorch's: the value, and the gradient of every input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import Tensor


def assert_agree(
    ours: Callable[..., Tensor],
    theirs: Callable[..., Any],
    *arrays: np.ndarray,
    rtol: float = 1e-9,
    atol: float = 1e-11,
) -> None:
    """Call both on `arrays`, send the same random gradient back, and compare all results in float64."""
    import torch

    mine = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*other)
    assert y.dtype == arrays[0].dtype
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol, atol, err_msg="value")
    grad = np.asarray(np.random.default_rng(1).standard_normal(y.shape), dtype=y.dtype)
    y.backward(grad)
    expected.backward(torch.tensor(grad))
    for i, (tensor, reference) in enumerate(zip(mine, other, strict=True)):
        assert tensor.grad is not None
        assert tensor.grad.shape == tensor.shape
        np.testing.assert_allclose(
            tensor.grad, reference.grad.numpy(), rtol, atol, err_msg=f"gradient of input {i}"
        )


def to_nchw(x: Any) -> Any:
    """A torch tensor (N, H, W, C) as (N, C, H, W); some of PyTorch's gradients want it contiguous."""
    return x.permute(0, 3, 1, 2).contiguous()


def to_oihw(weight: Any) -> Any:
    """A torch tensor (KH, KW, C, F) as (F, C, KH, KW)."""
    return weight.permute(3, 2, 0, 1).contiguous()


def to_nhwc(x: Any) -> Any:
    """A torch tensor (N, C, H, W) as (N, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Normal numbers of each shape."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]
