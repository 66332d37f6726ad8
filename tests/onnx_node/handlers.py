"""ONNX operators in terms of minidl: one small handler each, called ``handler(inputs, attributes)``.

`inputs` are NumPy arrays in the order of the node, None where an optional one is left out; the result is
one array or Tensor, or a tuple of them. A handler only translates: names, defaults, NCHW to NHWC and back.
All arithmetic on the data is minidl's. This file does not import onnx.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import minidl as dl
from minidl import ops

Inputs = list[Any]
Attributes = dict[str, Any]
HANDLERS: dict[str, Callable[[Inputs, Attributes], Any]] = {}


class NotOursError(Exception):
    """The node asks for something that minidl does not have."""


def handles(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a handler under ONNX operator names."""

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def only(condition: bool, what: str) -> None:
    """Refuse the node unless `condition` holds."""
    if not condition:
        raise NotOursError(what)


def nth(inputs: Inputs, i: int) -> Any:
    """Input number `i`, None where it is left out."""
    return inputs[i] if len(inputs) > i else None


def text(attributes: Attributes, name: str, default: str) -> str:
    """A string attribute, which ONNX keeps as bytes."""
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else value


# Element by element -----------------------------------------------------------------------------------

UNARY = {
    "Abs": ops.abs,
    "Exp": ops.exp,
    "Log": ops.log,
    "Neg": ops.negative,
    "Relu": ops.relu,
    "Sigmoid": ops.sigmoid,
    "Softplus": ops.softplus,
    "Sqrt": ops.sqrt,
    "Tanh": ops.tanh,
    "Reciprocal": lambda x: ops.divide(1.0, x),
    "Softsign": lambda x: ops.divide(x, ops.add(ops.abs(x), 1.0)),
    "Mish": lambda x: ops.multiply(x, ops.tanh(ops.softplus(x))),
    "HardSwish": lambda x: ops.multiply(x, ops.clip(ops.add(ops.divide(x, 6.0), 0.5), 0.0, 1.0)),
}
BINARY = {"Add": ops.add, "Sub": ops.subtract, "Mul": ops.multiply, "Div": ops.divide}
FOLDED = {"Sum": ops.add, "Max": ops.maximum, "Min": ops.minimum}


def _unary(function: Callable[[Any], Any], inputs: Inputs, attributes: Attributes) -> Any:
    return function(inputs[0])


def _binary(function: Callable[[Any, Any], Any], inputs: Inputs, attributes: Attributes) -> Any:
    return function(*inputs)


def _folded(function: Callable[[Any, Any], Any], inputs: Inputs, attributes: Attributes) -> Any:
    return functools.reduce(function, [dl.Tensor(x) for x in inputs])


for table, translate in ((UNARY, _unary), (BINARY, _binary), (FOLDED, _folded)):
    for name, function in table.items():
        HANDLERS[name] = functools.partial(translate, function)


@handles("Mean")
def mean(inputs: Inputs, attributes: Attributes) -> Any:
    return functools.reduce(ops.add, [dl.Tensor(x) for x in inputs]) / len(inputs)


@handles("Pow")
def power(inputs: Inputs, attributes: Attributes) -> Any:
    base, exponent = inputs
    return ops.cast(ops.pow(base, exponent), base.dtype)  # ONNX: the type of the base


@handles("Where")
def where(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.where(*inputs)


@handles("Clip")
def clip(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.clip(inputs[0], *[None if b is None else b.item() for b in (nth(inputs, 1), nth(inputs, 2))])


@handles("LeakyRelu")
def leaky_relu(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.leaky_relu(inputs[0], attributes.get("alpha", 0.01))


@handles("PRelu")
def prelu(inputs: Inputs, attributes: Attributes) -> Any:
    x, slope = inputs
    return ops.where(x > 0, x, ops.multiply(slope, x))


@handles("ThresholdedRelu")
def thresholded_relu(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.where(inputs[0] > attributes.get("alpha", 1.0), inputs[0], 0.0)


@handles("Elu")
def elu(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.elu(inputs[0], attributes.get("alpha", 1.0))


@handles("Selu")
def selu(inputs: Inputs, attributes: Attributes) -> Any:
    alpha, gamma = attributes.get("alpha", 1.6732632), attributes.get("gamma", 1.050701)
    return ops.multiply(ops.elu(inputs[0], alpha), gamma)


@handles("Celu")
def celu(inputs: Inputs, attributes: Attributes) -> Any:
    alpha = attributes.get("alpha", 1.0)
    return ops.multiply(ops.elu(ops.divide(inputs[0], alpha)), alpha)


@handles("Gelu")
def gelu(inputs: Inputs, attributes: Attributes) -> Any:
    only(text(attributes, "approximate", "none") == "none", "the tanh form")
    return ops.gelu(inputs[0])


@handles("HardSigmoid")
def hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Any:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return ops.clip(ops.add(ops.multiply(inputs[0], alpha), beta), 0.0, 1.0)


@handles("Swish")
def swish(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.multiply(inputs[0], ops.sigmoid(ops.multiply(inputs[0], attributes.get("alpha", 1.0))))


@handles("Softmax")
def softmax(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.softmax(inputs[0], attributes.get("axis", -1))


@handles("LogSoftmax")
def log_softmax(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.log_softmax(inputs[0], attributes.get("axis", -1))


@handles("Dropout")
def dropout(inputs: Inputs, attributes: Attributes) -> Any:
    ratio, training = nth(inputs, 1), nth(inputs, 2)
    rate = attributes.get("ratio", 0.5) if ratio is None else float(ratio)
    training = training is not None and bool(training)
    only(not training or rate == 0, "the random numbers of NumPy's old generator")
    x = inputs[0]
    return ops.dropout(x, rate, training=training), np.ones(x.shape, bool)


@handles("Identity")
def identity(inputs: Inputs, attributes: Attributes) -> Any:
    return dl.Tensor(inputs[0])


@handles("Cast")
def cast(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.cast(inputs[0], attributes["to"])  # the caller has turned ONNX's number into a NumPy dtype


# Reductions -------------------------------------------------------------------------------------------


def _square_root_of_squares(x: Any, *axes: Any) -> Any:
    return ops.sqrt(ops.sum(ops.multiply(x, x), *axes))


def _log_of_sum(x: Any, *axes: Any) -> Any:
    with np.errstate(divide="ignore"):  # the sum of nothing is 0; its logarithm is -inf, as documented
        return ops.log(ops.sum(x, *axes))


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceL1": lambda x, *axes: ops.sum(ops.abs(x), *axes),
    "ReduceL2": _square_root_of_squares,
    "ReduceLogSum": _log_of_sum,
    "ReduceLogSumExp": ops.logsumexp,
    "ReduceMax": ops.max,
    "ReduceMean": ops.mean,
    "ReduceMin": ops.min,
    "ReduceSum": ops.sum,
    "ReduceSumSquare": lambda x, *axes: ops.sum(ops.multiply(x, x), *axes),
}


def _reduce(function: Callable[..., Any], inputs: Inputs, attributes: Attributes) -> Any:
    axes = nth(inputs, 1)
    axes = tuple(attributes.get("axes", ()) if axes is None else axes.tolist())
    if not axes and attributes.get("noop_with_empty_axes"):
        axes = ()
    elif not axes:
        axes = None
    return function(inputs[0], axes, bool(attributes.get("keepdims", 1)))


for name, function in REDUCTIONS.items():
    HANDLERS[name] = functools.partial(_reduce, function)


# Shapes -----------------------------------------------------------------------------------------------


@handles("Reshape")
def reshape(inputs: Inputs, attributes: Attributes) -> Any:
    x, shape = inputs[0], inputs[1].tolist()
    if not attributes.get("allowzero"):
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return ops.reshape(x, tuple(shape))


@handles("Flatten")
def flatten(inputs: Inputs, attributes: Attributes) -> Any:
    x, axis = inputs[0], attributes.get("axis", 1) % inputs[0].ndim
    return ops.flatten(x) if axis == 1 else ops.reshape(x, math.prod(x.shape[:axis]), -1)


@handles("Transpose")
def transpose(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.transpose(inputs[0], *attributes.get("perm", ()))


@handles("Squeeze")
def squeeze(inputs: Inputs, attributes: Attributes) -> Any:
    x = inputs[0]
    gone = {axis % x.ndim for axis in inputs[1].tolist()}
    return ops.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone))


@handles("Unsqueeze")
def unsqueeze(inputs: Inputs, attributes: Attributes) -> Any:
    x, axes = inputs[0], inputs[1].tolist()
    total = x.ndim + len(axes)
    added, sizes = {axis % total for axis in axes}, iter(x.shape)
    return ops.reshape(x, tuple(1 if i in added else next(sizes) for i in range(total)))


@handles("Slice")
def slice_(inputs: Inputs, attributes: Attributes) -> Any:
    x, starts, ends = inputs[:3]
    axes = range(len(starts)) if nth(inputs, 3) is None else inputs[3].tolist()
    steps = [1] * len(starts) if nth(inputs, 4) is None else inputs[4].tolist()
    key = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        key[axis] = slice(start, end, step)
    return ops.getitem(x, tuple(key))


@handles("Split")
def split(inputs: Inputs, attributes: Attributes) -> Any:
    x, axis = inputs[0], attributes.get("axis", 0) % inputs[0].ndim
    if nth(inputs, 1) is not None:
        lengths = inputs[1].tolist()
    else:
        count = attributes.get("num_outputs", attributes["outputs"])
        whole = -(-x.shape[axis] // count)
        lengths = [whole] * (count - 1) + [x.shape[axis] - whole * (count - 1)]
    ends = list(itertools.accumulate(lengths))
    before = (slice(None),) * axis
    return tuple(ops.getitem(x, (*before, slice(e - n, e))) for e, n in zip(ends, lengths, strict=True))


@handles("Gather")
def gather(inputs: Inputs, attributes: Attributes) -> Any:
    x, indices = inputs
    return ops.getitem(x, (*[slice(None)] * attributes.get("axis", 0), indices))


@handles("GatherElements")
def gather_elements(inputs: Inputs, attributes: Attributes) -> Any:
    x, indices = inputs
    key = list(np.indices(indices.shape))
    key[attributes.get("axis", 0)] = indices
    return ops.getitem(x, tuple(key))


@handles("GatherND")
def gather_nd(inputs: Inputs, attributes: Attributes) -> Any:
    x, indices = inputs
    places = indices.shape[:-1]
    batch = np.indices(places)[: attributes.get("batch_dims", 0)]
    return ops.getitem(x, (*batch, *np.moveaxis(indices, -1, 0)))


@handles("Concat")
def concat(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.concatenate(inputs, attributes["axis"])


@handles("Expand")
def expand(inputs: Inputs, attributes: Attributes) -> Any:
    x, shape = inputs
    return ops.multiply(x, np.ones(tuple(shape.tolist()), x.dtype))


@handles("Tile")
def tile(inputs: Inputs, attributes: Attributes) -> Any:
    x, repeats = inputs
    for axis, count in enumerate(repeats.tolist()):
        x = ops.concatenate([x] * count, axis)
    return x


@handles("Pad")
def pad(inputs: Inputs, attributes: Attributes) -> Any:
    x, pads = inputs[0], inputs[1].tolist()
    only(text(attributes, "mode", "constant") == "constant", "a mode other than constant")
    value = 0.0 if nth(inputs, 2) is None else inputs[2].item()
    axes = range(x.ndim) if nth(inputs, 3) is None else inputs[3].tolist()
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(pads) // 2])
    return ops.pad(x, widths, value)


@handles("DepthToSpace")
def depth_to_space(inputs: Inputs, attributes: Attributes) -> Any:
    x, b = inputs[0], attributes["blocksize"]
    n, c, h, w = x.shape
    if text(attributes, "mode", "DCR") == "DCR":
        blocks = ops.transpose(ops.reshape(x, n, b, b, c // b**2, h, w), 0, 3, 4, 1, 5, 2)
    else:
        blocks = ops.transpose(ops.reshape(x, n, c // b**2, b, b, h, w), 0, 1, 4, 2, 5, 3)
    return ops.reshape(blocks, n, c // b**2, h * b, w * b)


@handles("SpaceToDepth")
def space_to_depth(inputs: Inputs, attributes: Attributes) -> Any:
    x, b = inputs[0], attributes["blocksize"]
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if text(attributes, "mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    blocks = ops.transpose(ops.reshape(x, n, c, h // b, b, w // b, b), *order)
    return ops.reshape(blocks, n, c * b**2, h // b, w // b)


@handles("Resize")
def resize(inputs: Inputs, attributes: Attributes) -> Any:
    x, scales, sizes = inputs[0], nth(inputs, 2), nth(inputs, 3)
    only(text(attributes, "mode", "nearest") == "linear", "interpolation that is not linear")
    where = text(attributes, "coordinate_transformation_mode", "half_pixel")
    only(where == "half_pixel", f"coordinates {where}")
    only(not attributes.get("antialias"), "antialiasing")
    only("axes" not in attributes and x.ndim == 4, "a choice of axes")
    if scales is None:
        new = sizes.tolist()
    else:
        new = [math.floor(n * s) for n, s in zip(x.shape, scales.tolist(), strict=True)]
    only(new[:2] == list(x.shape[:2]), "another number of channels")
    if scales is not None:
        exact = all(n * s == m for n, s, m in zip(x.shape, scales.tolist(), new, strict=True))
        only(exact, "a scale that is not new size / old size")
    return channels_first(ops.resize(channels_last(x), (new[2], new[3])))


# Images: (N, C, H, W) in ONNX, (N, H, W, C) here ------------------------------------------------------


def channels_last(x: Any) -> Any:
    """(N, C, H, W) -> (N, H, W, C); a row of pixels (N, C, W) counts as an image of height 1."""
    only(x.ndim in (3, 4), "images that are not 2-D")
    x = ops.reshape(x, x.shape[0], x.shape[1], -1, x.shape[-1])
    return ops.transpose(x, 0, 2, 3, 1)


def channels_first(y: Any, axes: int = 4) -> Any:
    """(N, H, W, C) -> (N, C, H, W), or (N, C, W) for 3 `axes`."""
    y = ops.transpose(y, 0, 3, 1, 2)
    return y if axes == 4 else ops.reshape(y, *y.shape[:2], y.shape[-1])


class Window:
    """Kernel, strides, dilation and padding of a node, as pairs for the two axes of the image."""

    def __init__(self, attributes: Attributes, spatial: Sequence[int], kernel: Sequence[int]):
        count = len(spatial)
        only(count in (1, 2), "images that are not 2-D")

        def both(values: Sequence[Any], missing: Any) -> tuple[Any, Any]:
            a, b = values if count == 2 else (missing, *values)
            return a, b

        self.size = both(spatial, 1)
        self.kernel = both(kernel, 1)
        self.strides = both(attributes.get("strides", [1] * count), 1)
        self.dilation = both(attributes.get("dilations", [1] * count), 1)
        ends = attributes.get("pads", [0] * 2 * count)
        self.pads = both([(ends[i], ends[i + count]) for i in range(count)], (0, 0))
        self.auto_pad = text(attributes, "auto_pad", "NOTSET")

    def axes(self) -> Iterator[tuple[int, int, int, tuple[int, int]]]:
        """(pixels, reach of the kernel, stride, pads) of both axes."""
        for n, k, d, s, pads in zip(
            self.size, self.kernel, self.dilation, self.strides, self.pads, strict=True
        ):
            yield n, (k - 1) * d + 1, s, pads

    def padding(self, ceil: bool = False) -> Any:
        """The padding argument of minidl; with `ceil` a last, partial window is made whole by more of it."""
        if self.auto_pad == "VALID":
            return "valid"
        if self.auto_pad == "SAME_UPPER":
            return "same"
        pads = []
        for n, reach, s, (before, after) in self.axes():
            if self.auto_pad == "SAME_LOWER":  # "same" with the odd pixel at the top and left
                total = max((-(-n // s) - 1) * s + reach - n, 0)
                before, after = total - total // 2, total // 2
            elif ceil:
                count = -(-(n + before + after - reach) // s) + 1
                count -= (count - 1) * s >= n + before  # a window may not start in the padding at the end
                after = max(after, (count - 1) * s + reach - n - before)
            pads.append((before, after))
        return tuple(pads)


@handles("Conv")
def conv(inputs: Inputs, attributes: Attributes) -> Any:
    x, w, b = inputs[0], inputs[1], nth(inputs, 2)
    window = Window(attributes, x.shape[2:], w.shape[2:])
    weight = ops.transpose(w.reshape(*w.shape[:2], *window.kernel), 2, 3, 1, 0)
    y = ops.conv2d(
        channels_last(x),
        weight,
        b,
        window.strides,
        window.padding(),
        window.dilation,
        attributes.get("group", 1),
    )
    return channels_first(y, x.ndim)


@handles("ConvTranspose")
def conv_transpose(inputs: Inputs, attributes: Attributes) -> Any:
    """The gradient of conv2d with respect to its input."""
    x, w, b = inputs[0], inputs[1], nth(inputs, 2)
    groups = attributes.get("group", 1)
    window = Window(attributes, x.shape[2:], w.shape[2:])
    extra = (0, *attributes.get("output_padding", [0] * (x.ndim - 2)))[-2:]
    wanted = attributes.get("output_shape")
    size, pads = [], []
    for i, (n, reach, s, (before, after)) in enumerate(window.axes()):
        full = s * (n - 1) + extra[i] + reach
        if window.auto_pad == "SAME_UPPER" or wanted is not None:
            size.append(n * s if wanted is None else wanted[i])
            total = max(full - size[-1], 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if window.auto_pad == "SAME_UPPER" else (more, less))
        else:
            size.append(full - before - after)
            pads.append((before, after))
    weight = ops.transpose(w.reshape(*w.shape[:2], *window.kernel), 2, 3, 1, 0)
    image = dl.Tensor(np.zeros((len(x), *size, w.shape[1] * groups), x.dtype), requires_grad=True)
    y = ops.conv2d(image, weight, None, window.strides, tuple(pads), window.dilation, groups)
    y.backward(channels_last(x).data)
    grad = image.grad if b is None else ops.add(image.grad, b)
    return channels_first(grad, x.ndim)


@handles("MaxPool")
def max_pool(inputs: Inputs, attributes: Attributes) -> Any:
    x, window = inputs[0], Window(attributes, inputs[0].shape[2:], attributes["kernel_shape"])
    only(window.dilation == (1, 1), "dilation")
    only(attributes["outputs"] == 1, "the places of the maxima")
    y = ops.max_pool2d(
        channels_last(x), window.kernel, window.strides, window.padding(attributes.get("ceil_mode", 0))
    )
    return channels_first(y, x.ndim)


@handles("AveragePool")
def average_pool(inputs: Inputs, attributes: Attributes) -> Any:
    x, window = inputs[0], Window(attributes, inputs[0].shape[2:], attributes["kernel_shape"])
    only(window.dilation == (1, 1), "dilation")
    padding, count_pad = (
        window.padding(attributes.get("ceil_mode", 0)),
        bool(attributes.get("count_include_pad")),
    )
    only(not count_pad or padding == window.padding(), "padding that is counted beside padding that is not")
    return channels_first(
        ops.avg_pool2d(channels_last(x), window.kernel, window.strides, padding, count_pad), x.ndim
    )


@handles("GlobalAveragePool")
def global_average_pool(inputs: Inputs, attributes: Attributes) -> Any:
    y = ops.global_avg_pool2d(channels_last(inputs[0]))
    return ops.reshape(y, *y.shape, 1, 1)


@handles("GlobalMaxPool")
def global_max_pool(inputs: Inputs, attributes: Attributes) -> Any:
    y = ops.global_max_pool2d(channels_last(inputs[0]))
    return ops.reshape(y, *y.shape, 1, 1)


@handles("LRN")
def local_response(inputs: Inputs, attributes: Attributes) -> Any:
    x, size = inputs[0], attributes["size"]
    alpha, beta, bias = (attributes.get(*d) for d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    frame = [(0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)]
    squares = ops.pad(ops.multiply(x, x), frame)
    total = functools.reduce(ops.add, [squares[:, i : i + x.shape[1]] for i in range(size)])
    return ops.divide(x, ops.pow(ops.add(ops.multiply(total, alpha / size), bias), beta))


# Normalisation ----------------------------------------------------------------------------------------


@handles("BatchNormalization")
def batch_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, gamma, beta, mean, var = inputs
    keep, eps = attributes.get("momentum", 0.9), attributes.get("epsilon", 1e-5)
    if not attributes.get("training_mode"):
        return channels_first(ops.batch_norm(channels_last(x), gamma, beta, mean, var, False, eps=eps))
    running_mean, running_var = mean.copy(), var.copy()
    y = ops.batch_norm(
        channels_last(x), gamma, beta, running_mean, running_var, True, momentum=1 - keep, eps=eps
    )
    count = x.size // x.shape[1]  # ONNX accumulates the biased variance, minidl (as PyTorch) the unbiased
    running_var = keep * var + (running_var - keep * var) * ((count - 1) / count)
    return channels_first(y), running_mean, running_var


def normalise(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(var + eps) over `axes`, the mean, and the inverse of the root."""
    mean = ops.mean(x, axes, keepdims=True)
    inverse_std = ops.divide(1.0, ops.sqrt(ops.add(ops.var(x, axes, keepdims=True), eps)))
    return ops.multiply(ops.subtract(x, mean), inverse_std), mean, inverse_std


@handles("InstanceNormalization")
def instance_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, gamma, beta = inputs
    y = normalise(x, tuple(range(2, x.ndim)), attributes.get("epsilon", 1e-5))[0]
    each = (-1, *[1] * (x.ndim - 2))
    return y * gamma.reshape(each) + beta.reshape(each)


@handles("GroupNormalization")
def group_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, gamma, beta = inputs
    groups = ops.reshape(x, len(x), attributes["num_groups"], -1)
    y = normalise(groups, (2,), attributes.get("epsilon", 1e-5))[0].reshape(x.shape)
    each = (-1, *[1] * (x.ndim - 2))
    return y * gamma.reshape(each) + beta.reshape(each)


@handles("LayerNormalization")
def layer_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, gamma, beta = inputs
    axes = tuple(range(attributes.get("axis", -1) % x.ndim, x.ndim))
    y, mean, inverse_std = normalise(x, axes, attributes.get("epsilon", 1e-5))
    return y * gamma + beta, mean, inverse_std


@handles("RMSNormalization")
def rms_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, gamma = inputs
    axes = tuple(range(attributes.get("axis", -1) % x.ndim, x.ndim))
    square = ops.mean(ops.multiply(x, x), axes, keepdims=True)
    return ops.divide(x, ops.sqrt(square + attributes.get("epsilon", 1e-5))) * gamma


@handles("MeanVarianceNormalization")
def mean_variance_norm(inputs: Inputs, attributes: Attributes) -> Any:
    return normalise(inputs[0], tuple(attributes.get("axes", (0, 2, 3))), 0.0)[0]


@handles("LpNormalization")
def lp_norm(inputs: Inputs, attributes: Attributes) -> Any:
    x, axis = inputs[0], attributes.get("axis", -1)
    norm = HANDLERS["ReduceL2" if attributes.get("p", 2) == 2 else "ReduceL1"]([x, np.array([axis])], {})
    zero = norm.data == 0  # ONNX: where the norm is 0 the result is 0
    return ops.divide(x, ops.where(zero, 1.0, norm))


# Matrix products and losses ---------------------------------------------------------------------------


@handles("MatMul")
def matmul(inputs: Inputs, attributes: Attributes) -> Any:
    return ops.matmul(*inputs)


@handles("Gemm")
def gemm(inputs: Inputs, attributes: Attributes) -> Any:
    a, b, c = inputs[0], inputs[1], nth(inputs, 2)
    a = ops.multiply(ops.transpose(a) if attributes.get("transA") else a, attributes.get("alpha", 1.0))
    b = ops.transpose(b) if attributes.get("transB") else b
    if c is None:
        return ops.dense(a, b)
    c = ops.multiply(c, attributes.get("beta", 1.0))
    if c.size == b.shape[1]:
        return ops.dense(a, b, ops.reshape(c, -1))
    return ops.add(ops.matmul(a, b), c)


def _class_last(x: Any) -> Any:
    """(N, C, d1, d2, ...) -> (N, d1, d2, ..., C)."""
    return ops.transpose(x, 0, *range(2, x.ndim), 1)


def _loss_options(inputs: Inputs, attributes: Attributes) -> dict[str, Any]:
    return {
        "class_weights": nth(inputs, 2),
        "ignore_index": attributes.get("ignore_index"),
        "reduction": text(attributes, "reduction", "mean"),
    }


@handles("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(inputs: Inputs, attributes: Attributes) -> Any:
    x, labels = inputs[:2]
    loss = ops.cross_entropy(_class_last(x), labels, **_loss_options(inputs, attributes))
    return loss, ops.log_softmax(x, axis=1)


@handles("NegativeLogLikelihoodLoss")
def negative_log_likelihood(inputs: Inputs, attributes: Attributes) -> Any:
    x, labels = inputs[:2]
    return ops.nll(_class_last(x), labels, **_loss_options(inputs, attributes))


# Optimisers: (R, T, X1, X2, .., G1, G2, .., moments ..) -> (new X1, X2, .., moments ..) -----------------


def _optimise(
    inputs: Inputs, build: Callable[..., Any], step: int, moments: tuple[str, ...]
) -> tuple[Any, ...]:
    """One step of a minidl optimiser that starts from the moments of the node."""
    count = (len(inputs) - 2) // (2 + len(moments))
    values, grads, *states = (inputs[i : i + count] for i in range(2, len(inputs), count))
    parameters = [dl.Parameter(x.copy()) for x in values]
    optimizer = build(parameters)
    state: dict[str, Any] = {"epoch": np.asarray(0.0), "lr": np.asarray(optimizer.lr)}
    for i in range(count):
        state[f"{i}/step"] = np.asarray(step)
        state.update({f"{i}/{moment}": s[i] for moment, s in zip(moments, states, strict=True)})
    optimizer.load_state_dict(state)
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad.copy()
    optimizer.step()
    after = optimizer.state_dict()
    return (*[p.data for p in parameters], *[after[f"{i}/{m}"] for m in moments for i in range(count)])


@handles("Momentum")
def momentum(inputs: Inputs, attributes: Attributes) -> Any:
    only(inputs[1] == 0 or attributes["beta"] == 1, "dampening")
    return _optimise(
        inputs,
        lambda p: dl.optim.SGD(
            p,
            float(inputs[0]),
            momentum=attributes["alpha"],
            nesterov=text(attributes, "mode", "") == "nesterov",
            weight_decay=attributes["norm_coefficient"],
        ),
        step=0,
        moments=("velocity",),
    )


@handles("Adam")
def adam(inputs: Inputs, attributes: Attributes) -> Any:
    beta1, beta2 = attributes.get("alpha", 0.9), attributes.get("beta", 0.999)
    only(not attributes.get("norm_coefficient_post"), "weight decay after the step")
    only(inputs[1] == 0, "eps added before the correction")
    return _optimise(
        inputs,
        lambda p: dl.optim.Adam(
            p,
            float(inputs[0]),
            beta1,
            beta2,
            attributes.get("epsilon", 0.0),
            attributes.get("norm_coefficient", 0.0),
        ),
        step=10**9,  # T = 0 means: no bias correction; after so many steps there is none left
        moments=("mean", "square"),
    )
