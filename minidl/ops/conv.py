"""Two-dimensional convolution, NHWC."""

from __future__ import annotations

from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import Pads, Pair, ShapeError, bind, pair, window_output, window_pads


class Conv2D(Function):
    """y[n, oy, ox, f] = sum over ky, kx, c of x[n, oy s + ky d, ox s + kx d, c] w[ky, kx, c, f]  + b[f]

    dx: each dy spread back over the pixels it came from; dw: x seen at each offset, times dy; db = sum dy.
    With G groups, F / G filters see C / G channels each.
    """

    def __init__(self, strides: Pair, padding: Any, dilation: Pair, groups: int):
        self.strides, self.padding, self.dilation, self.groups = strides, padding, dilation, groups

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self._check(x, w, b)
        size, kernel = x.shape[1:3], w.shape[:2]
        self.pads: Pads = window_pads(self.padding, size, kernel, self.strides, self.dilation, "conv2d")
        out = window_output(size, kernel, self.strides, self.pads, self.dilation, "conv2d")
        self.x, self.w, self.has_bias = x, w, b is not None
        ys = [
            self.kernels.conv2d(
                x[..., c], w[..., f], None if b is None else b[f], out, self.strides, self.pads, self.dilation
            )
            for c, f in self._groups()
        ]
        return ys[0] if self.groups == 1 else self.xp.concatenate(ys, axis=-1)  # (N, OH, OW, F)

    def backward(self, dy: Array) -> Any:  # (N, OH, OW, F)
        x, w, xp = self.x, self.w, self.xp
        geometry = self.strides, self.pads, self.dilation
        dx = dw = db = None
        if self.needs_grad[0]:
            dxs = [
                self.kernels.conv2d_grad_input(dy[..., f], w[..., f], x[..., c].shape, *geometry)
                for c, f in self._groups()
            ]
            dx = dxs[0] if self.groups == 1 else xp.concatenate(dxs, axis=-1)
        if self.needs_grad[1]:
            dws = [
                self.kernels.conv2d_grad_weight(dy[..., f], x[..., c], w[..., f].shape, *geometry)
                for c, f in self._groups()
            ]
            dw = dws[0] if self.groups == 1 else xp.concatenate(dws, axis=-1)
        if self.has_bias and self.needs_grad[2]:
            db = self.kernels.sum_rows(dy.reshape(-1, dy.shape[-1]))
        return (dx, dw, db) if self.has_bias else (dx, dw)

    def _groups(self) -> list[tuple[slice, slice]]:
        """(channels, filters) of each group."""
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


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    strides: int | Pair = 1,
    padding: str | int | Pair | Pads = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution (cross-correlation) of images with filters.

    Parameters
    ----------
    x : Tensor, shape (N, H, W, C)
    weight : Tensor, shape (KH, KW, C // groups, F)
    bias : Tensor, shape (F,), optional
    strides, dilation : int or (vertical, horizontal)
    padding : "valid", "same", int, (vertical, horizontal) or ((top, bottom), (left, right))
        In pixels. "same" gives ceil(H / stride) rows, the odd one padded at the bottom and right as in
        TensorFlow; PyTorch's integer padding is the same integer here.
    groups : int
        Must divide C and F; groups=C is a depthwise convolution.

    Returns
    -------
    Tensor, shape (N, OH, OW, F)
        OH = (H + top + bottom - (KH - 1) * dilation - 1) // stride + 1.

    Raises
    ------
    ShapeError
        Channels or groups do not fit, or the kernel is larger than the padded input.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    op = Conv2D(
        pair(strides, "conv2d: strides"),
        padding,
        pair(dilation, "conv2d: dilation"),
        pair(groups, "conv2d: groups")[0],
    )
    return op(x, weight) if bias is None else op(x, weight, bias)
