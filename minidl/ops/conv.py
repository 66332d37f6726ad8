"""Two-dimensional convolution, NHWC."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import ALGORITHMS, WINOGRAD, Pads, Pair, ShapeError, bind, pair, window_output, window_pads
from .activation import fused_slope
from .pool import MaxPool2D, max_pool_of

ALL = [(slice(None), slice(None))]  # channels and filters, if there is one group


class Conv2D(Function):
    """y[n, oy, ox, f] = sum over ky, kx, c of x[n, oy s + ky d, ox s + kx d, c] w[ky, kx, c, f]  + b[f]

    dx: each dy spread back over the pixels it came from; dw: x seen at each offset, times dy; db = sum dy.
    With G groups, F / G filters see C / G channels each. A (leaky) ReLU may follow in the same pass; its
    gradient comes first on the way back.
    """

    def __init__(
        self,
        strides: Pair,
        padding: Any,
        dilation: Pair,
        groups: int,
        slope: float | None = None,
        algorithm: str = "auto",
    ):
        self.strides, self.padding, self.dilation, self.groups = strides, padding, dilation, groups
        self.slope, self.algorithm = slope, algorithm

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        geometry = self.remember(x, w, b)
        ys = [
            self.kernels.conv2d(x[..., c], w[..., f], None if b is None else b[f], self.slope, *geometry)
            for c, f in self._groups()
        ]
        y = ys[0] if self.groups == 1 else self.xp.concatenate(ys, axis=-1)  # (N, OH, OW, F)
        self.y = None if self.slope is None else y
        return y

    def remember(self, x: Array, w: Array, b: Array | None) -> tuple[Pair, Pair, Pads, Pair, str]:
        """Check and keep the inputs; return what the kernels want to know of the windows."""
        self._check(x, w, b)
        size, kernel = x.shape[1:3], w.shape[:2]
        self.pads: Pads = window_pads(self.padding, size, kernel, self.strides, self.dilation, "conv2d")
        out = window_output(size, kernel, self.strides, self.pads, self.dilation, "conv2d")
        self.x, self.w, self.has_bias = x, w, b is not None
        return out, self.strides, self.pads, self.dilation, self.algorithm

    def backward(self, dy: Array) -> Any:  # (N, OH, OW, F)
        return self.gradients(*self.before_activation(dy))

    def before_activation(self, dy: Array) -> tuple[Array, Array | None]:
        """Gradients with respect to what the activation and the bias were applied to, and to the bias."""
        rows, to_b = dy.reshape(-1, dy.shape[-1]), any(self.needs_grad[2:])
        place = self.slot(2) if to_b else None
        if self.y is None:
            return dy, self.kernels.sum_rows(rows, place) if to_b else None
        y = self.y.reshape(rows.shape)
        if not self.retained:
            self.y = None  # the gradients to come need memory
        rows, db = self.kernels.bias_activation_grad(rows, y, self.slope, place, self.may_overwrite)
        return rows.reshape(dy.shape), db

    def gradients(self, g: Array, db: Array | None) -> Any:
        """Those of the inputs, from that of the convolution's result (N, OH, OW, F) and the bias's (F,)."""
        x, w, xp, kernels, (to_x, to_w, *_) = self.x, self.w, self.xp, self.kernels, self.needs_grad
        geometry = self.strides, self.pads, self.dilation, self.algorithm
        dx = dw = None
        if to_x:
            dxs = [
                kernels.conv2d_grad_input(g[..., f], w[..., f], x[..., c].shape, *geometry)
                for c, f in self._groups()
            ]
            dx = dxs[0] if self.groups == 1 else xp.concatenate(dxs, axis=-1)
        if to_w:
            into = self.slot(1) if self.groups == 1 else None
            dws = [
                kernels.conv2d_grad_weight(g[..., f], x[..., c], w[..., f].shape, *geometry, into)
                for c, f in self._groups()
            ]
            dw = dws[0] if self.groups == 1 else xp.concatenate(dws, axis=-1)
        return (dx, dw, db) if self.has_bias else (dx, dw)

    def _groups(self) -> list[tuple[slice, slice]]:
        """(channels, filters) of each group."""
        if self.groups == 1:
            return ALL
        c, f = self.w.shape[2], self.w.shape[3] // self.groups
        return [(slice(i * c, (i + 1) * c), slice(i * f, (i + 1) * f)) for i in range(self.groups)]

    def _check(self, x: Array, w: Array, b: Array | None) -> None:
        fix = ""
        if x.ndim == 4 and w.ndim == 4 and x.shape[1] == w.shape[2] * self.groups != x.shape[3]:
            fix = "x looks like (N, C, H, W): use x.transpose(0, 2, 3, 1)"
        elif x.ndim == 3:
            fix = "add the channel axis with x[..., None], or the batch axis with x[None]"
        if self.groups == 1:
            bind("conv2d", fix, x=("N H W C", x), weight=("KH KW C F", w), bias=("F", b))
            return
        bind("conv2d", fix, x=("N H W C", x), weight=("KH KW C/groups F", w), bias=("F", b))
        for symbol, count in (("C", x.shape[3]), ("F", w.shape[3])):
            if count % self.groups:
                raise ShapeError(f"conv2d: groups={self.groups} must divide {symbol} = {count}")
        if w.shape[2] * self.groups != x.shape[3]:
            raise ShapeError(
                f"conv2d: C / groups is {x.shape[3]} / {self.groups} in x {x.shape} but {w.shape[2]} in weight {w.shape}"
            )


class PooledConv2D(Conv2D):
    """y = max over each window of f(x * w + b)

    For the gradient of f its results are enough, so all that is kept of the others is that they were not the largest.
    """

    def __init__(self, pool: MaxPool2D, *arguments: Any):
        super().__init__(*arguments)
        self.pool = pool

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        geometry, pool = self.remember(x, w, b), self.pool
        size = pool.remember_windows_of((len(x), *geometry[0], w.shape[3]))
        windows = size, pool.kernel, pool.strides, pool.pads
        places = True in self.needs_grad
        y, pool.where = self.kernels.conv2d_max_pool(x, w, b, self.slope, *geometry, windows, places)
        self.y, pool.kernels = None if self.slope is None else y, self.kernels
        return y

    def backward(self, dy: Array) -> Any:
        g, db = self.before_activation(dy)
        return self.gradients(self.pool.backward(g), db)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    strides: int | Pair = 1,
    padding: str | int | Pair | Pads = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
    max_pool: tuple[Any, Any, Any] | None = None,
) -> Tensor:
    """Convolution (cross-correlation) of images with filters, and an activation in the same pass.

    Parameters
    ----------
    x : Tensor, shape (N, H, W, C)
    weight : Tensor, shape (KH, KW, C // groups, F)
    bias : Tensor, shape (F,), optional
    strides, dilation : int or (vertical, horizontal)
    padding : "valid", "same", "ceil", int, (vertical, horizontal) or ((top, bottom), (left, right))
        In pixels. "same" gives ceil(H / stride) rows, the odd one padded at the bottom and right as in
        TensorFlow; PyTorch's integer padding is the same integer here.
    groups : int
        Must divide C and F; groups=C is a depthwise convolution.
    activation : None, "relu" or "leaky_relu"
    algorithm : "auto", "im2col", "direct", "winograd3" or "winograd4"
        How the compiled kernels compute it (docs/numerics.md). "direct" needs dilation 1, Winograd's strides
        of 1 as well, and filters of 5x5 ("winograd3") or 3x3.
    max_pool : (pool_size, strides, padding) of `max_pool2d`, optional
        The result is pooled in the same pass, which takes less memory; needs groups of 1.

    Returns
    -------
    Tensor, shape (N, OH, OW, F)
        OH = (H + top + bottom - (KH - 1) * dilation - 1) // stride + 1, pooled if `max_pool` is given.

    Raises
    ------
    ShapeError
        Channels or groups do not fit, or the kernel is larger than the padded input.
    ValueError
        An unknown activation, or an algorithm that is unknown or cannot do this.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    steps, spread = pair(strides, "conv2d: strides"), pair(dilation, "conv2d: dilation")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"conv2d: algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    side = WINOGRAD.get(algorithm, 0)
    if side and not (np.shape(weight)[:2] == (side, side) and steps == spread == (1, 1)):
        raise ValueError(
            f"conv2d: {algorithm!r} needs {side}x{side} filters, strides and dilation 1, got weight "
            f"{np.shape(weight)}, strides {steps}, dilation {spread}; use 'auto'"
        )
    slope = fused_slope("conv2d", activation)
    arguments = steps, padding, spread, pair(groups, "conv2d: groups")[0], slope, algorithm
    if max_pool is not None and arguments[3] != 1:
        raise ValueError(
            f"conv2d: max_pool needs groups=1, got groups={groups}; use max_pool2d on the result"
        )
    op = Conv2D(*arguments) if max_pool is None else PooledConv2D(max_pool_of(*max_pool), *arguments)
    return op(x, weight) if bias is None else op(x, weight, bias)
