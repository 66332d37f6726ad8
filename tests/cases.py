"""One line for each way to call each public operation; tests/ops/test_cases.py derives the tests."""

from __future__ import annotations

import math

import numpy as np

from minidl import ops
from minidl.testing import Key, OpCase, keep_mask

LABELS = np.array([0, 2, 1, 2])
ONE_HOT = np.eye(3)[LABELS]
MASK = np.random.default_rng(1).random((3, 4)) < 0.5
KEY = Key(seed=3, stream="case")
erf = np.vectorize(math.erf)


def log_softmax(x, axis=-1):
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def cross_entropy(x, labels=LABELS, smoothing=0.0, weights=None):
    """Row by row, as the definition says."""
    weights = np.ones(x.shape[1]) if weights is None else weights
    total = norm = 0.0
    for row, label in zip(log_softmax(x), labels, strict=True):
        target = (1 - smoothing) * np.eye(x.shape[1])[label] + smoothing / x.shape[1]
        total -= (target * weights * row).sum()
        norm += weights[label]
    return total / norm


def conv2d(x, w, b=None, strides=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    """Seven loops."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    (n, h, wd, _), (kh, kw, cg, f) = x.shape, w.shape
    oh = (h - (kh - 1) * dilation[0] - 1) // strides[0] + 1
    ow = (wd - (kw - 1) * dilation[1] - 1) // strides[1] + 1
    y = np.zeros((n, oh, ow, f)) + (0 if b is None else b)
    for i, oy, ox, j in np.ndindex(y.shape):
        first = j // (f // groups) * cg
        for ky, kx, k in np.ndindex(kh, kw, cg):
            pixel = x[i, oy * strides[0] + ky * dilation[0], ox * strides[1] + kx * dilation[1], first + k]
            y[i, oy, ox, j] += pixel * w[ky, kx, k, j]
    return y


def pool(x, reduce, kernel, strides, pads=((0, 0), (0, 0)), value=0.0):
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)
    n, h, w, c = x.shape
    y = np.zeros((n, (h - kernel[0]) // strides[0] + 1, (w - kernel[1]) // strides[1] + 1, c))
    for i, oy, ox, k in np.ndindex(y.shape):
        top, left = oy * strides[0], ox * strides[1]
        y[i, oy, ox, k] = reduce(x[i, top : top + kernel[0], left : left + kernel[1], k])
    return y


def resize(x, height, width):
    """Pixel by pixel: centres at half-integers, edges repeat."""
    n, h, w, c = x.shape
    y = np.zeros((n, height, width, c))
    for oy, ox in np.ndindex(height, width):
        v, u = (min(max((o + 0.5) * a / b - 0.5, 0), a - 1) for o, a, b in ((oy, h, height), (ox, w, width)))
        top, left = int(v), int(u)
        bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
        upper = (1 - u + left) * x[:, top, left] + (u - left) * x[:, top, right]
        lower = (1 - u + left) * x[:, bottom, left] + (u - left) * x[:, bottom, right]
        y[:, oy, ox] = (1 - v + top) * upper + (v - top) * lower
    return y


def adaptive(x, height, width):
    """Bin by bin."""
    n, h, w, c = x.shape
    y = np.zeros((n, height, width, c))
    for i, j in np.ndindex(height, width):
        rows = slice(i * h // height, -(-(i + 1) * h // height))
        y[:, i, j] = x[:, rows, j * w // width : -(-(j + 1) * w // width)].mean((1, 2))
    return y


def pooled_3x3(x):
    """Largest of each pixel's neighbours and itself."""
    h, w = x.shape[1:3]
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    return np.max([framed[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def batch_norm(x, gamma, beta):
    axes = tuple(range(x.ndim - 1))
    return gamma * (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5) + beta


def case(name, fn, *shapes, ref=None, **options):
    return OpCase(name, fn, shapes, ref, **options)


S = (3, 4)  # the usual shape
PIXELS = (2, 5, 6, 2)  # N, H, W, C

CASES = [
    # element-wise
    case("add", ops.add, S, S, ref=np.add, batch_axis=False),
    case("add-broadcast", ops.add, S, (4,), ref=np.add),
    case("add-broadcast-both", ops.add, (3, 1), (1, 4), ref=np.add),
    case("add-number", lambda x: x + 2.5, S, ref=lambda x: x + 2.5),
    case("subtract", ops.subtract, S, (3, 1), ref=np.subtract, batch_axis=False),
    case("subtract-from-number", lambda x: 1 - x, S, ref=lambda x: 1 - x),
    case("multiply", ops.multiply, S, (4,), ref=np.multiply),
    case("multiply-scalar-tensor", ops.multiply, S, (), ref=np.multiply),
    case("divide", ops.divide, S, (1, 4), ref=np.divide, low=0.5),
    case("divide-number", lambda x: 3 / x, S, ref=lambda x: 3 / x, low=0.5),
    case("negative", ops.negative, S, ref=np.negative),
    case("pow-number", lambda x: x**3, S, ref=lambda x: x**3),
    case("pow-square-root", lambda x: x**0.5, S, ref=np.sqrt, low=0.5),
    case("pow", ops.pow, S, (4,), ref=np.power, low=0.5),
    case("pow-base-number", lambda x: 2**x, S, ref=lambda x: 2**x),
    case("exp", ops.exp, S, ref=np.exp),
    case("log", ops.log, S, ref=np.log, low=0.3),
    case("sqrt", ops.sqrt, S, ref=np.sqrt, low=0.3),
    case("abs", ops.abs, S, ref=np.abs),
    case("clip", lambda x: ops.clip(x, -1.0, 1.0), S, ref=lambda x: np.clip(x, -1, 1)),
    case("clip-below", lambda x: ops.clip(x, low=0.25), S, ref=lambda x: np.maximum(x, 0.25)),
    case("maximum", ops.maximum, S, (4,), ref=np.maximum),
    case("minimum", ops.minimum, S, (3, 1), ref=np.minimum, batch_axis=False),
    case("where", lambda a, b: ops.where(MASK, a, b), S, S, ref=lambda a, b: np.where(MASK, a, b), batch_axis=False),
    case("cast", lambda x: ops.cast(x, x.dtype), S, ref=lambda x: x),
    # activations
    case("relu", ops.relu, S, ref=lambda x: np.maximum(x, 0)),
    case("leaky_relu", lambda x: ops.leaky_relu(x, 0.2), S, ref=lambda x: np.where(x > 0, x, 0.2 * x)),
    case("elu", lambda x: ops.elu(x, 1.5), S, ref=lambda x: np.where(x > 0, x, 1.5 * (np.exp(x) - 1))),
    case("gelu", ops.gelu, S, ref=lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2)))),
    case("gelu-wide", ops.gelu, (5, 40), low=-9, high=9, ref=lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2)))),
    case("tanh", ops.tanh, S, ref=np.tanh),
    case("sigmoid", ops.sigmoid, S, ref=lambda x: 1 / (1 + np.exp(-x))),
    case("softplus", ops.softplus, S, ref=lambda x: np.log1p(np.exp(x))),
    case("softmax", ops.softmax, S, ref=lambda x: np.exp(log_softmax(x))),
    case("softmax-axis-0", lambda x: ops.softmax(x, axis=0), S, ref=lambda x: np.exp(log_softmax(x, 0)), batch_axis=False),
    case("log_softmax", ops.log_softmax, (2, 3, 4), ref=log_softmax),
    # reductions
    case("sum", ops.sum, S, ref=np.sum),
    case("sum-axis", lambda x: ops.sum(x, axis=1), (2, 3, 4), ref=lambda x: x.sum(1)),
    case("sum-axes-keepdims", lambda x: ops.sum(x, axis=(0, -1), keepdims=True), (2, 3, 4), ref=lambda x: x.sum((0, -1), keepdims=True)),
    case("sum-0d", ops.sum, (), ref=lambda x: x, batch_axis=False),
    case("mean", ops.mean, S, ref=np.mean, batch_axis=False),
    case("mean-axes", lambda x: ops.mean(x, axis=(1, 2)), (2, 3, 4), ref=lambda x: x.mean((1, 2))),
    case("max", ops.max, S, ref=np.max, batch_axis=False),
    case("max-axis", lambda x: ops.max(x, axis=-1, keepdims=True), S, ref=lambda x: x.max(-1, keepdims=True)),
    case("min-axes", lambda x: ops.min(x, axis=(1, 2)), (2, 3, 4), ref=lambda x: x.min((1, 2))),
    case("var", ops.var, S, ref=np.var, batch_axis=False),
    case("var-corrected", lambda x: ops.var(x, axis=1, correction=1), S, ref=lambda x: x.var(1, ddof=1)),
    case("logsumexp", lambda x: ops.logsumexp(x, axis=1), S, ref=lambda x: np.log(np.exp(x).sum(1))),
    case("logsumexp-all", lambda x: ops.logsumexp(x, keepdims=True), S, ref=lambda x: np.log(np.exp(x).sum(keepdims=True)), batch_axis=False),
    # shape
    case("reshape", lambda x: ops.reshape(x, (4, 3)), S, ref=lambda x: x.reshape(4, 3), batch_axis=False),
    case("reshape-method", lambda x: x.reshape(-1, 2), S, ref=lambda x: x.reshape(-1, 2)),
    case("flatten", ops.flatten, (2, 3, 4), ref=lambda x: x.reshape(2, 12)),
    case("transpose", ops.transpose, (2, 3, 4), ref=np.transpose),
    case("transpose-axes", lambda x: ops.transpose(x, (1, -1, 0)), (2, 3, 4), ref=lambda x: x.transpose(1, 2, 0)),
    case("getitem-slice", lambda x: ops.getitem(x, (slice(None), slice(3, None, -2))), S, ref=lambda x: x[:, 3::-2]),
    case("getitem-integer", lambda x: x[1], S, ref=lambda x: x[1], batch_axis=False),
    case("getitem-new-axis", lambda x: x[..., None], S, ref=lambda x: x[..., None]),
    case("getitem-array-twice", lambda x: x[np.array([0, 2, 0, 0])], S, ref=lambda x: x[[0, 2, 0, 0]], batch_axis=False),
    case("getitem-pairs", lambda x: x[np.arange(3), np.array([1, 0, 3])], S, ref=lambda x: x[np.arange(3), [1, 0, 3]], batch_axis=False),
    case("getitem-mask", lambda x: x[MASK], S, ref=lambda x: x[MASK], batch_axis=False),
    case("concatenate", lambda a, b: ops.concatenate([a, b], axis=1), (3, 2), (3, 4), ref=lambda a, b: np.concatenate([a, b], 1), batch_axis=False),
    case("concatenate-last", lambda a, b, c: ops.concatenate([a, b, c], axis=-1), (2, 2, 1), (2, 2, 2), (2, 2, 3), ref=lambda *a: np.concatenate(a, -1), batch_axis=False),
    case("concatenate-itself", lambda x: ops.concatenate([x, x, x]), S, ref=lambda x: np.concatenate([x, x, x])),
    case("pad", lambda x: ops.pad(x, [(1, 0), (0, 2)], 7.0), S, ref=lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=7)),
    # linear
    case("matmul", ops.matmul, (3, 4), (4, 2), ref=np.matmul),
    case("matmul-vectors", ops.matmul, (4,), (4,), ref=np.matmul, batch_axis=False),
    case("matmul-vector-matrix", ops.matmul, (4,), (4, 3), ref=np.matmul, batch_axis=False),
    case("matmul-matrix-vector", ops.matmul, (3, 4), (4,), ref=np.matmul),
    case("matmul-stack", ops.matmul, (2, 3, 4), (4, 5), ref=np.matmul),
    case("matmul-stacks", ops.matmul, (2, 1, 3, 4), (5, 4, 2), ref=np.matmul),
    case("matmul-vector-stack", ops.matmul, (4,), (5, 4, 2), ref=np.matmul, batch_axis=False),
    case("dense", ops.dense, (3, 4), (4, 2), (2,), ref=lambda x, w, b: x @ w + b),
    case("dense-relu", lambda *a: ops.dense(*a, activation="relu"), (3, 4), (4, 2), (2,), ref=lambda x, w, b: np.maximum(x @ w + b, 0)),
    case("dense-leaky-no-bias", lambda x, w: ops.dense(x, w, activation="leaky_relu"), (3, 4), (4, 5), ref=lambda x, w: leaky(x @ w)),
    case("dense-no-bias", ops.dense, (3, 4), (4, 2), ref=np.matmul),
    # images
    case("conv2d", ops.conv2d, PIXELS, (3, 2, 2, 3), (3,), ref=conv2d),
    case("adaptive_avg_pool2d", lambda x: ops.adaptive_avg_pool2d(x, (2, 4)), PIXELS, ref=lambda x: adaptive(x, 2, 4)),
    case("adaptive_avg_pool2d-larger", lambda x: ops.adaptive_avg_pool2d(x, (7, 6)), PIXELS, ref=lambda x: adaptive(x, 7, 6)),
    case("max_pool2d-ceil", lambda x: ops.max_pool2d(x, 2, strides=(2, 3), padding="ceil"), (2, 5, 6, 2),
         ref=lambda x: np.stack([np.stack([x[:, 2 * i : 2 * i + 2, 3 * j : 3 * j + 2].max((1, 2)) for j in range(3 - 1)], 1) for i in range(3)], 1)),
    case("conv2d-relu", lambda *a: ops.conv2d(*a, activation="relu"), PIXELS, (3, 2, 2, 3), (3,), ref=lambda *a: np.maximum(conv2d(*a), 0)),
    case("conv2d-leaky", lambda x, w: ops.conv2d(x, w, activation="leaky_relu"), PIXELS, (3, 2, 2, 3), ref=lambda *a: leaky(conv2d(*a))),
    case("conv2d-max-pool", lambda *a: ops.conv2d(*a, activation="relu", max_pool=(2, None, 0)), PIXELS, (2, 3, 2, 3), (3,),
         ref=lambda *a: np.maximum(conv2d(*a), 0).reshape(2, 2, 2, 2, 2, 3).max((2, 4))),
    case("conv2d-max-pool-only", lambda x, w: ops.conv2d(x, w, max_pool=(3, 1, 1)), PIXELS, (2, 3, 2, 4), ref=lambda x, w: pooled_3x3(conv2d(x, w))),
    case("conv2d-winograd4-padded", lambda x, w, b: ops.conv2d(x, w, b, padding=1, algorithm="winograd4"), PIXELS, (3, 3, 2, 3), (3,),
         ref=lambda *a: conv2d(*a, pads=((1, 1), (1, 1)))),
    case("conv2d-winograd3", lambda x, w, b: ops.conv2d(x, w, b, padding=2, activation="relu", algorithm="winograd3"), PIXELS, (5, 5, 2, 3), (3,),
         ref=lambda *a: np.maximum(conv2d(*a, pads=((2, 2), (2, 2))), 0)),
    case("conv2d-winograd4", lambda x, w: ops.conv2d(x, w, algorithm="winograd4"), PIXELS, (3, 3, 2, 3), ref=conv2d),
    case("conv2d-1x1", ops.conv2d, PIXELS, (1, 1, 2, 3), ref=conv2d),
    case("conv2d-whole", ops.conv2d, PIXELS, (5, 6, 2, 3), ref=conv2d),
    case("conv2d-same", lambda x, w: ops.conv2d(x, w, strides=2, padding="same"), PIXELS, (3, 3, 2, 2),
         ref=lambda x, w: conv2d(x, w, strides=(2, 2), pads=((1, 1), (0, 1)))),
    case("conv2d-asymmetric", lambda x, w: ops.conv2d(x, w, strides=(2, 1), padding=((0, 2), (3, 1)), dilation=(1, 2)), PIXELS, (2, 3, 2, 2),
         ref=lambda x, w: conv2d(x, w, strides=(2, 1), pads=((0, 2), (3, 1)), dilation=(1, 2))),
    case("conv2d-stride-over-kernel", lambda x, w: ops.conv2d(x, w, strides=3), PIXELS, (2, 2, 2, 2), ref=lambda x, w: conv2d(x, w, strides=(3, 3))),
    case("conv2d-groups", lambda x, w, b: ops.conv2d(x, w, b, padding=1, groups=2), (2, 4, 4, 4), (3, 3, 2, 6), (6,),
         ref=lambda x, w, b: conv2d(x, w, b, pads=((1, 1), (1, 1)), groups=2)),
    case("conv2d-depthwise", lambda x, w: ops.conv2d(x, w, groups=3), (2, 4, 4, 3), (2, 2, 1, 6), ref=lambda x, w: conv2d(x, w, groups=3)),
    case("max_pool2d", lambda x: ops.max_pool2d(x, 2), PIXELS, ref=lambda x: pool(x, np.max, (2, 2), (2, 2))),
    case("max_pool2d-overlap", lambda x: ops.max_pool2d(x, (3, 2), strides=(1, 2), padding=((1, 1), (0, 1))), PIXELS,
         ref=lambda x: pool(x, np.max, (3, 2), (1, 2), ((1, 1), (0, 1)), -np.inf)),
    case("max_pool2d-gaps", lambda x: ops.max_pool2d(x, 1, strides=3), PIXELS, ref=lambda x: x[:, ::3, ::3]),
    case("avg_pool2d", lambda x: ops.avg_pool2d(x, (2, 3)), PIXELS, ref=lambda x: pool(x, np.mean, (2, 3), (2, 3))),
    case("avg_pool2d-same", lambda x: ops.avg_pool2d(x, 3, strides=2, padding="same"), PIXELS,
         ref=lambda x: pool(x, np.nanmean, (3, 3), (2, 2), ((1, 1), (0, 1)), np.nan)),
    case("avg_pool2d-include-pad", lambda x: ops.avg_pool2d(x, 3, strides=1, padding=1, count_include_pad=True), PIXELS,
         ref=lambda x: pool(x, np.mean, (3, 3), (1, 1), ((1, 1), (1, 1)))),
    case("global_avg_pool2d", ops.global_avg_pool2d, PIXELS, ref=lambda x: x.mean((1, 2))),
    case("global_max_pool2d", ops.global_max_pool2d, PIXELS, ref=lambda x: x.max((1, 2))),
    case("batch_norm", ops.batch_norm, (6, 3), (3,), (3,), ref=batch_norm, batch_axis=False),
    case("batch_norm-images", ops.batch_norm, PIXELS, (2,), (2,), ref=batch_norm, batch_axis=False),
    case("batch_norm_composed", ops.batch_norm_composed, PIXELS, (2,), (2,), ref=batch_norm, batch_axis=False),
    case("batch_norm-inference", lambda x, g, b: ops.batch_norm(x, g, b, np.array([0.5, -1], x.dtype), np.array([2, 0.5], x.dtype), training=False), PIXELS, (2,), (2,),
         ref=lambda x, g, b: g * (x - [0.5, -1]) / np.sqrt(np.array([2, 0.5]) + 1e-5) + b),
    case("dropout", lambda x: ops.dropout(x, 0.4, key=KEY), (5, 6), ref=lambda x: x * keep_mask(x.shape, 0.6, KEY) / 0.6),
    case("dropout-all", lambda x: ops.dropout(x, 1.0, key=KEY), S, ref=np.zeros_like),
    case("dropout-off", lambda x: ops.dropout(x, 0.9, training=False), S, ref=lambda x: x),
    case("resize-up", lambda x: ops.resize(x, (8, 7)), (2, 3, 5, 2), ref=lambda x: resize(x, 8, 7)),
    case("resize-down", lambda x: ops.resize(x, 2), (2, 5, 4, 1), ref=lambda x: resize(x, 2, 2)),
    # losses
    case("cross_entropy", lambda x: ops.cross_entropy(x, LABELS), (4, 3), ref=cross_entropy, batch_axis=False),
    case("cross_entropy-one-hot", lambda x: ops.cross_entropy(x, ONE_HOT), (4, 3), ref=cross_entropy, batch_axis=False),
    case("cross_entropy-smooth", lambda x: ops.cross_entropy(x, LABELS, label_smoothing=0.2), (4, 3), ref=lambda x: cross_entropy(x, smoothing=0.2), batch_axis=False),
    case("cross_entropy-weights", lambda x: ops.cross_entropy(x, LABELS, class_weights=[1.0, 2.0, 0.5]), (4, 3),
         ref=lambda x: cross_entropy(x, weights=np.array([1, 2, 0.5])), batch_axis=False),
    case("cross_entropy-ignore", lambda x: ops.cross_entropy(x, np.array([0, -1, 1, -1]), ignore_index=-1), (4, 3),
         ref=lambda x: cross_entropy(x[[0, 2]], LABELS[[0, 2]]), batch_axis=False),
    case("cross_entropy-images", lambda x: ops.cross_entropy(x, LABELS.reshape(2, 2), reduction="sum"), (2, 2, 3),
         ref=lambda x: 4 * cross_entropy(x.reshape(4, 3)), batch_axis=False),
    case("cross_entropy-none", lambda x: ops.cross_entropy(x, LABELS, reduction="none"), (4, 3), ref=lambda x: -log_softmax(x)[np.arange(4), LABELS], batch_axis=False),
    case("cross_entropy_composed", lambda x: ops.cross_entropy_composed(x, LABELS), (4, 3), ref=cross_entropy, batch_axis=False),
    case("nll", lambda x: ops.nll(x, LABELS), (4, 3), ref=lambda x: -x[np.arange(4), LABELS].mean(), batch_axis=False),
    case("nll-weights", lambda x: ops.nll(x, LABELS, class_weights=[1.0, 2.0, 0.5]), (4, 3),
         ref=lambda x: -(x[np.arange(4), LABELS] * [1, 0.5, 2, 0.5]).sum() / 4.0, batch_axis=False),
    case("mse", lambda a, b: ops.mse(a, b), S, S, ref=lambda a, b: ((a - b) ** 2).mean(), batch_axis=False),
    case("mae", lambda a, b: ops.mae(a, b), S, S, ref=lambda a, b: np.abs(a - b).mean(), batch_axis=False),
    case("binary_cross_entropy", lambda x: ops.binary_cross_entropy(x, MASK.astype(float)), S,
         ref=lambda x: -np.where(MASK, np.log(1 / (1 + np.exp(-x))), np.log(1 / (1 + np.exp(x)))).mean(), batch_axis=False),
]  # fmt: skip
