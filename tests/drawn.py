"""Arrays and windows that the tests of both sets of fast kernels draw, and how they compare."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from minidl.shapes import window_output

dtypes = st.sampled_from([np.float32, np.float64])
small = st.integers(1, 3)


def numbers(shape, dtype, seed=0):
    """Normal numbers in some memory order that is not always C's."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(dtype)
    order = rng.integers(3)
    if order == 1:
        return np.asfortranarray(x)
    return np.repeat(x, 2, axis=-1)[..., ::2] if order == 2 and x.ndim else x


@st.composite
def images(draw, pooling=False):
    """x with a window that fits: (x, out, kernel, strides, pads, dilation)."""
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 8), st.integers(1, 8), st.integers(1, 5)))
    kernel, strides = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    dilation = (1, 1) if pooling else draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    sides = [st.integers(0, k - 1 if pooling else 2) for k in kernel]
    pads = draw(st.tuples(*[st.tuples(side, side) for side in sides]))
    assume(
        all(n + sum(p) > (k - 1) * d for n, p, k, d in zip(shape[1:3], pads, kernel, dilation, strict=True))
    )
    out = window_output(shape[1:3], kernel, strides, pads, dilation, "test")
    return numbers(shape, draw(dtypes), draw(st.integers(0, 99))), out, kernel, strides, pads, dilation


def compare(got, expected, tolerance=None):
    """Equal types and shapes, and numbers that are close for their precision."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    limit = tolerance or (2e-5 if got.dtype == np.float32 else 1e-11)
    np.testing.assert_allclose(got, expected, rtol=limit, atol=limit * 10)
