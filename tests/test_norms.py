"""Reductions beyond their rows: zeros, NaN, types, and what is finite where MXNet divides by 0."""

from itertools import combinations

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import autograd, nd


def gradient(f, x):
    x = mx.nd.array(x)
    x.attach_grad()
    with autograd.record():
        y = f(x)
    y.backward()
    return x.grad.asnumpy().tolist()


def test_products_with_zeros():
    rows = [[2, 0, 3], [0, 0, 5], [1, 2, 4]]
    assert gradient(lambda x: x.prod(axis=1), rows) == [[0, 6, 0], [0, 0, 0], [8, 4, 2]]


def test_nan_gets_no_gradient():
    nan = float("nan")
    assert gradient(lambda x: x.nansum(axis=1), [[1, nan, 3]]) == [[1, 0, 1]]
    assert gradient(lambda x: x.nanprod(axis=1), [[2, nan, 3]]) == [[3, 0, 2]]


def test_the_norm_at_zero_is_flat():
    assert gradient(lambda x: x.norm(axis=1), [[0, 0], [3, 4]]) == [
        [0, 0],
        pytest.approx([0.6, 0.8]),
    ]


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_types_stay(dtype):
    x = mx.nd.array([[1, 2], [3, 4]], dtype=dtype)
    for y in (
        x.prod(),
        x.nansum(axis=0),
        x.cumsum(axis=1),
        x.norm(ord=1),
        *mx.nd.moments(x, axes=(0,)),
    ):
        assert y.dtype == np.dtype(dtype)
    assert x.cumsum(dtype="int64").dtype is np.int64
    assert x.argmax_channel().dtype is np.dtype(dtype).type


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_places_come_in_the_type_of_the_array(name, dtype):
    x = mx.nd.array([[1, 3, 2], [0, -1, 0]], dtype=dtype)
    found = getattr(mx.nd, name)(x, axis=np.int64(1))
    assert found.dtype is np.dtype(dtype).type
    assert found.asnumpy().tolist() == ([1, 0] if name == "argmax" else [0, 1])


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("spread", [1, 20, 1000])
def test_softmax_is_the_same_with_the_maximum_taken_away_and_without(axis, spread, monkeypatch):
    z = (np.random.default_rng(4).normal(size=(6, 5, 40)) * spread).astype("float32")
    g, found = np.random.default_rng(5).normal(size=z.shape).astype("float32"), []
    for limit, short in ((60, 512), (0, 0)):
        monkeypatch.setattr(minigluon.ops.reduce, "CALM", limit)
        monkeypatch.setattr(minigluon.ops.reduce, "SHORT", short)
        x = mx.nd.array(z)
        x.attach_grad()
        with autograd.record():
            y = mx.nd.softmax(x, axis=axis)
        y.backward(mx.nd.array(g))
        found.append((y.asnumpy(), x.grad.asnumpy()))
    e = np.exp(z.astype("f8") - z.max(axis, keepdims=True))
    exact = e / e.sum(axis, keepdims=True)
    slope = exact * (g - (g * exact).sum(axis, keepdims=True))
    for y, dx in found:
        np.testing.assert_allclose(y, exact, rtol=3e-6, atol=1e-30)
        np.testing.assert_allclose(dx, slope, rtol=1e-5, atol=2e-6)


def test_softmax_of_what_is_far_or_not_a_number():
    z = np.zeros((4, 3), "float32")
    z[0, 1], z[1, 2], z[2, 0] = 3e38, -np.inf, np.nan
    y = mx.nd.softmax(mx.nd.array(z)).asnumpy()
    np.testing.assert_array_equal(y[0], [0, 1, 0])
    np.testing.assert_array_equal(y[1], [0.5, 0.5, 0])
    assert np.isnan(y[2]).all()
    np.testing.assert_allclose(y[3], 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1000, 300), (3, 5, 20000), (2, 1 << 17)])
@pytest.mark.parametrize("temperature", [None, 0.5])
def test_softmax_of_many_rows_is_that_of_few(shape, temperature):
    x = (np.random.default_rng(0).normal(size=shape) * 30).astype("float32")
    for f in (nd.softmax, nd.log_softmax):
        for a in (x, np.concatenate([x, x], -1)[..., ::2]):  # in a row in memory, and not
            many = f(nd.array(a), temperature=temperature).asnumpy()
            last = slice(-1, None), *[slice(-3, None)] * (len(shape) - 2)
            few = f(nd.array(a[last]), temperature=temperature).asnumpy()
            np.testing.assert_allclose(many[last], few, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape",
    [(100, 200), (64, 32, 7, 7), (20_011,), (3, 9, 1000), (9000, 3), (1, 20_000), (7, 5000)],
)
def test_large_sums_and_means_along_all_choices_of_axes(shape, dtype):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    choices = [c for k in range(len(shape) + 1) for c in combinations(range(len(shape)), k)]
    for axis in [None, *choices[1:], choices[-1][::-1]]:
        for keepdims in (False, True):
            for op, wanted in ((nd.sum, np.sum), (nd.mean, np.mean)):
                y = op(nd.array(x, dtype=dtype), axis=axis, keepdims=keepdims).asnumpy()
                right = np.atleast_1d(wanted(x, axis=axis, keepdims=keepdims, dtype="float64"))
                assert y.shape == right.shape and y.dtype == dtype
                near = 1e-12 if dtype == "float64" else 3e-6
                np.testing.assert_allclose(y, right, rtol=near, atol=near * 400)


def test_sums_of_millions_are_as_exact_as_numpys():
    x = np.random.default_rng(0).random((1300, 1000)).astype("float32")
    right = x.sum(dtype="float64")
    assert abs(nd.sum(nd.array(x)).asscalar() - right) < 1e-6 * right
    x[700, 3] = np.nan
    assert np.isnan(nd.sum(nd.array(x), axis=1).asnumpy()).sum() == 1
