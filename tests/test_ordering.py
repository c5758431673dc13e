"""Ordering beyond its rows: types, ties, NaN, empty arrays, and properties against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigluon as mx
from minigluon import nd
from minigluon.base import MXNetError


@given(
    hnp.arrays(
        "int32", hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(-3, 3)
    ),
    st.booleans(),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_orders_are_stable_permutations(x, up, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    k = data.draw(st.integers(1, x.shape[axis]))
    a = mx.nd.array(x, dtype="int32")
    order = np.argsort(x if up else -x, axis, kind="stable")
    assert (a.argsort(axis=axis, is_ascend=up, dtype="int64").asnumpy() == order).all()
    assert (a.sort(axis=axis, is_ascend=up).asnumpy() == np.take_along_axis(x, order, axis)).all()
    values, indices = a.topk(axis=axis, k=k, ret_typ="both", is_ascend=up)
    first = np.take(order, range(k), axis)
    assert (indices.asnumpy() == first).all()
    assert (values.asnumpy() == np.take_along_axis(x, first, axis)).all()


@given(st.integers(0, 50), st.integers(1, 40), st.booleans())
@settings(max_examples=30, deadline=None)
def test_partition_and_sort_agree(seed, k, up):
    x = np.random.default_rng(seed).integers(0, 30, (3, 400)).astype("float32")
    found = mx.nd.array(x).topk(k=k, is_ascend=up, dtype="int64").asnumpy()
    assert (found == np.argsort(x if up else -x, -1, kind="stable")[:, :k]).all()


def test_types():
    for dtype in ("float16", "float64", "int32", "uint8", "int64"):
        x = mx.nd.array([[3, 1, 2]], dtype=dtype)
        assert x.sort().dtype == np.dtype(dtype) and x.topk(ret_typ="value").dtype == np.dtype(
            dtype
        )
        assert x.argsort().dtype is np.float32 and x.topk(dtype="int32").dtype is np.int32
        assert x.topk(ret_typ="mask").asnumpy().tolist() == [[1, 0, 0]]
    assert mx.nd.array([200, 3, 255], dtype="uint8").sort(is_ascend=False).asnumpy().tolist() == [
        255,
        200,
        3,
    ]


def test_nan_goes_last_upwards():
    x = mx.nd.array([2, np.nan, 1, np.inf])
    assert x.sort().asnumpy()[:3].tolist() == [1, 2, np.inf]
    assert (
        sorted(mx.nd.array(np.where(np.arange(300) == 7, np.nan, 1)).topk(k=3).asnumpy())[-1] < 300
    )


def test_views_and_masks():
    x = mx.nd.array(np.arange(24).reshape(4, 6))
    assert (x.T.topk(k=1).asnumpy().ravel() == 3).all()
    assert mx.nd.contrib.boolean_mask(x, mx.nd.zeros(4)).shape == (0, 6)
    assert x.topk(axis=None, k=2, ret_typ="mask").shape == (4, 6)


def test_scatter_takes_the_last_of_equal_places():
    found = mx.nd.scatter_nd(mx.nd.array([1, 2]), mx.nd.array([[0, 0], [1, 1]]), shape=(2, 3))
    assert found.asnumpy().tolist() == [[0, 2, 0], [0, 0, 0]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
@settings(max_examples=50, deadline=None)
def test_flat_and_axed_indices_are_inverse(shape, data):
    flat = data.draw(st.lists(st.integers(0, int(np.prod(shape)) - 1), min_size=1, max_size=5))
    a = mx.nd.array(flat, dtype="int64")
    rows = mx.nd.unravel_index(a, shape=tuple(shape))
    assert (rows.asnumpy() == np.stack(np.unravel_index(flat, shape))).all()
    assert (mx.nd.ravel_multi_index(rows, shape=tuple(shape)).asnumpy() == flat).all()


def test_what_is_refused():
    x = mx.nd.array([[1, 2]])
    for wrong in (lambda: x.topk(k=3), lambda: x.sort(axis=2), lambda: mx.nd.topk(x, ret_typ="x")):
        with pytest.raises(MXNetError):
            wrong()


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("missing", [1, 399, 400])
def test_partition_and_sort_agree_about_nan(missing, up):
    x = np.random.default_rng(missing).normal(size=(2, 400)).astype("float32")
    x[0, :missing] = np.nan
    found = mx.nd.array(x).topk(k=3, is_ascend=up, dtype="int64").asnumpy()
    short = mx.nd.array(x).topk(k=300, is_ascend=up, dtype="int64").asnumpy()  # by sorting
    np.testing.assert_array_equal(found, short[:, :3])


@pytest.mark.parametrize("is_ascend", [False, True])
@pytest.mark.parametrize("shape", [(2, 301, 512), (1500, 300), (1, 1 << 18), (3, 1 << 17)])
def test_many_rows_are_ordered_as_few(shape, is_ascend):
    x = np.random.default_rng(0).integers(0, 40, shape).astype("float32")
    a, row = nd.array(x), nd.array(x[:1, :1] if len(shape) == 3 else x[:1])
    calls = [
        lambda a: nd.sort(a, is_ascend=is_ascend),
        lambda a: nd.argsort(a, is_ascend=is_ascend),
        *[
            lambda a, kind=kind: nd.topk(a, k=5, ret_typ=kind, is_ascend=is_ascend)
            for kind in ("value", "indices", "mask")
        ],
    ]
    for call in calls:
        found = call(a).asnumpy()
        first = found[:1, :1] if len(shape) == 3 else found[:1]
        np.testing.assert_array_equal(first, call(row).asnumpy())
        assert found.shape[:-1] == shape[:-1]
    order = nd.argsort(a, is_ascend=is_ascend, dtype="int64").asnumpy()
    back = x if is_ascend else -x
    np.testing.assert_array_equal(order, np.argsort(back, -1, kind="stable"))
