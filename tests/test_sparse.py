"""Sparse arrays against dense ones: the same numbers, by another way."""

import logging
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minigluon as mx
from minigluon import autograd, gluon, nd
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.sparse import CSRNDArray, RowSparseNDArray
from minigluon.ops import sparse as ways
from minigluon.ops.csr import CSR, Rows, combined

SIZES = st.integers(0, 5)
TYPES = st.sampled_from(["float16", "float32", "float64", "int32", "int64"])
STYPES = ("csr", "row_sparse")
kinds = pytest.mark.parametrize("stype", STYPES)


def matrices(rows=SIZES, columns=SIZES, dtype="float32"):
    """Small matrices, most of whose numbers are 0."""
    numbers = st.sampled_from([0, 0, 0, 0, 1, -2, 3])
    return st.tuples(rows, columns).flatmap(lambda shape: arrays(dtype, shape, elements=numbers))


def sample(stype, shape=(4, 3), seed=0, dtype="float32"):
    """A sparse array and the same numbers dense."""
    rng = np.random.default_rng(seed)
    x = (rng.integers(-3, 4, shape) * (rng.random(shape) < 0.5)).astype(dtype)
    x[1] = 0
    return nd.array(x, dtype=dtype).tostype(stype), x


def same(found, want, stype=None):
    np.testing.assert_allclose(found.asnumpy(), want, rtol=1e-6)
    assert found.dtype == want.dtype.type and found.shape == want.shape
    if stype:
        assert found.stype == stype
    if found.stype != "default":
        found.check_format()


# --- Making ---------------------------------------------------------------------------------------


@given(matrices(), TYPES, st.sampled_from(STYPES))
@settings(deadline=None)
def test_there_and_back(x, dtype, stype):
    x = x.astype(dtype)
    a = nd.array(x, dtype=dtype).tostype(stype)
    same(a, x, stype)
    same(a.tostype("default"), x, "default")
    same(a.copy(), x, stype)
    same(a.astype("float64"), x.astype("float64"), stype)
    same(nd.cast_storage(a, stype), x, stype)
    same(pickle.loads(pickle.dumps(a)), x, stype)
    same(nd.array(a), x, stype)
    kept = x != 0 if stype == "csr" else x.any(axis=1)
    assert len(a.indices) == kept.sum()


@given(matrices())
def test_csr_of_its_parts(x):
    a = nd.array(x).tostype("csr")
    same(nd.sparse.csr_matrix((a.data, a.indices, a.indptr), shape=x.shape), x)
    rows, columns = np.nonzero(x)
    same(nd.sparse.csr_matrix((x[rows, columns], (rows, columns)), shape=x.shape), x)
    same(nd.sparse.csr_matrix(x), x)


def test_a_graph_knows_the_storage_of_the_gradient_of_a_sparse_embedding():
    y = mx.sym.contrib.SparseEmbedding(mx.sym.var("i"), input_dim=5, output_dim=2, name="e")
    exe = y.simple_bind(mx.cpu(), {"i": "null", "e_weight": "write"}, i=(3,))
    exe.arg_dict["i"][:] = nd.array([1, 1, 4])
    exe.forward(is_train=True)
    exe.backward(nd.ones((3, 2)))
    grad = exe.grad_dict["e_weight"]
    assert grad.stype == "row_sparse" and grad.indices.asnumpy().tolist() == [1, 4]
    assert grad.data.asnumpy().tolist() == [[2, 2], [1, 1]]


def test_scipy_may_store_a_place_twice():
    scipy = pytest.importorskip("scipy.sparse")
    a = scipy.csr_matrix(([1, 2, 3, 4], [0, 0, 1, 0], [0, 2, 4]), shape=(2, 2), dtype="float64")
    found = mx.nd.sparse.array(a)
    assert found.data.asnumpy().tolist() == [3, 4, 3]
    assert found.indices.asnumpy().tolist() == [0, 0, 1] and a.nnz == 4


def test_operators_called_as_functions_of_python_shadow_none():
    assert mx.nd.sparse.slice is mx.nd.sparse.slice  # and mx.nd.sparse.sum, abs
    assert mx.nd.sparse.sum and mx.nd.sparse.abs
    x = nd.zeros((2, 2), stype="row_sparse")
    x[:] = 2
    assert x.asnumpy().tolist() == [[2, 2], [2, 2]]


def test_a_square_of_zeros_is_stored_as_they_are():
    x = nd.array([[0, 2]]).tostype("csr")
    assert nd.contrib.quadratic(x, a=1, b=1).stype == "csr"
    assert nd.contrib.quadratic(x, a=1, b=1, c=1).stype == "default"


def test_csr_matrix_as_mxnet():
    make = nd.sparse.csr_matrix
    assert make(([1, 2], [1, 0], [0, 1, 2])).dtype is np.float32
    assert make(([1, 2], ([0, 1], [1, 0]))).dtype is np.int64
    assert make(np.eye(2)).dtype is np.float64
    assert make([[0, 1], [2, 0]]).dtype is np.float32
    assert make(nd.array([[1]], dtype="int32")).dtype is np.int32
    assert make((2, 3)).shape == (2, 3) and make((3, 4), dtype="int8").dtype is np.int8
    assert make(([1, 2], [1, 0], [0, 1, 2])).shape == (2, 2)
    same(make(([1, 2], ([0, 0], [1, 1])), dtype="float32"), np.float32([[0, 3]]))
    assert make(([], [], [0, 0]), shape=(1, 3)).asnumpy().tolist() == [[0, 0, 0]]
    assert make(([1, 2], [2, 0], [0, 2, 2]), shape=(2, 3)).indices.tolist() == [2, 0]


def test_row_sparse_array_as_mxnet():
    make = nd.sparse.row_sparse_array
    assert make([[1, 2], [0, 0]]).indices.tolist() == [0]
    assert make(([[1, 2]], [1])).shape == (2, 2)
    assert make((np.ones((1, 2)), [0])).dtype is np.float64
    assert make((nd.ones((1, 2)), nd.array([0])), shape=(4, 2)).shape == (4, 2)
    assert make((2, 3, 4)).shape == (2, 3, 4) and make([1, 2, 0]).indices.tolist() == [0, 1]
    found = make(([[1, 2], [3, 4]], [1, 0]), shape=(2, 2))
    assert found.indices.tolist() == [1, 0] and found.asnumpy().tolist() == [[3, 4], [1, 2]]


@kinds
def test_zeros_and_empty(stype):
    for a in (
        nd.sparse.zeros(stype, (2, 3), dtype="float16"),
        nd.sparse.empty(stype, (2, 3), dtype="float16"),
        nd.zeros((2, 3), dtype="float16", stype=stype),
        nd.empty((2, 3), dtype="float16", stype=stype),
        nd.zeros_like(nd.ones((2, 3), dtype="float16").tostype(stype)),
    ):
        same(a, np.zeros((2, 3), "float16"), stype)
        assert a.indices.shape == (0,)
    assert nd.sparse.zeros("default", (2, 3)).stype == "default"
    assert nd.zeros((2, 3), stype="default").stype == "default"


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (lambda: nd.sparse.zeros("x", (2, 3)), ValueError),
        (lambda: nd.sparse.zeros("csr", (2, 3, 4)), mx.MXNetError),
        (lambda: nd.sparse.empty("default", (2, 3)), ValueError),
        (lambda: nd.sparse.csr_matrix(([1, 2, 3], [0, 1], [0, 1, 2]), shape=(2, 3)), mx.MXNetError),
        (lambda: nd.sparse.csr_matrix(([1, 2], [0, 1], [0, 1, 2]), shape=(2,)), ValueError),
        (lambda: nd.sparse.csr_matrix(([1, 2], ([0, 5], [1, 0])), shape=(2, 3)), ValueError),
        (lambda: nd.sparse.csr_matrix((1, 2, 3, 4)), ValueError),
        (lambda: nd.sparse.csr_matrix("x"), TypeError),
        (lambda: nd.sparse.csr_matrix([1, 2]), ValueError),
        (lambda: nd.sparse.csr_matrix(np.eye(2), shape=(3, 3)), ValueError),
        (lambda: nd.sparse.csr_matrix(nd.ones((2, 2)).tostype("row_sparse")), ValueError),
        (lambda: nd.sparse.row_sparse_array(([[1, 2], [3, 4]], [0]), shape=(2, 2)), mx.MXNetError),
        (lambda: nd.sparse.row_sparse_array(([[1, 2, 3]], [0]), shape=(2, 2)), mx.MXNetError),
        (lambda: nd.sparse.row_sparse_array(([1, 2], [0, 1]), shape=(2, 2)), ValueError),
        (lambda: nd.sparse.array(nd.ones((2, 2))), AssertionError),
        (lambda: nd.sparse.array([[1]]), ValueError),
        (lambda: nd.ones((2,)).tostype("csr"), mx.MXNetError),
        (lambda: nd.ones((2, 2)).tostype("foo"), mx.MXNetError),
        (lambda: nd.ones((2, 2)).tostype("csr").tostype("row_sparse"), ValueError),
        (
            lambda: nd.cast_storage(nd.ones((2, 2)).tostype("csr"), stype="row_sparse"),
            mx.MXNetError,
        ),
    ],
)
def test_wrong_sources(attempt, error):
    with pytest.raises(error):
        attempt()


def test_scipy():
    scipy = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    a, x = sample("csr")
    there = a.asscipy()
    assert isinstance(there, scipy.csr_matrix) and (there.toarray() == x).all()
    for back in (nd.sparse.csr_matrix(there), nd.sparse.array(there), nd.array(there.tocoo())):
        same(back, x, "csr")


# --- What an array is -----------------------------------------------------------------------------


def test_face():
    a, r = nd.ones((3, 3)).tostype("csr"), nd.ones((5, 2)).tostype("row_sparse")
    assert repr(a) == str(a) == "\n<CSRNDArray 3x3 @cpu(0)>"
    assert repr(r) == "\n<RowSparseNDArray 5x2 @cpu(0)>"
    assert type(a) is CSRNDArray and isinstance(r, nd.sparse.BaseSparseNDArray)
    assert (a.shape, a.ndim, len(r), a.dtype, a.context) == ((3, 3), 2, 5, np.float32, mx.cpu())
    assert a.indices.dtype is a.indptr.dtype is np.int64
    for attempt in (lambda: a.size, lambda: a.asscalar()):
        with pytest.raises(NotImplementedError):
            attempt()
    with pytest.raises(nd.sparse.NotSupportedForSparseNDArray):
        a.reshape((9,))
    assert a.as_in_context(mx.cpu()) is a and a.copyto(mx.cpu()).stype == "csr"
    a.wait_to_read()
    assert a.T.stype == "default" and np.asarray(a).shape == (3, 3)
    a.data[:] = 7  # a copy
    assert a.asnumpy().max() == 1


@kinds
def test_check_format(stype):
    a, _ = sample(stype)
    a.check_format()
    make = nd.sparse.csr_matrix if stype == "csr" else nd.sparse.row_sparse_array
    wrong = {
        "csr": [
            ([0, 5], [0, 1, 2]),
            ([0, -1], [0, 1, 2]),
            ([0, 1], [0, 2, 1]),
            ([0, 1], [0, 1, 1]),
            ([0, 1], [1, 1, 2]),
            ([0, 1], [0, 1]),
            ([1, 1], [0, 2, 2]),
        ],
        "row_sparse": [([5, 0],), ([-1, 0],), ([1, 1],), ([1, 0],)],
    }
    for places in wrong[stype]:
        data = [1, 2] if stype == "csr" else [[1, 2, 3]] * 2
        broken = make((data, *places), shape=(2, 3))
        with pytest.raises(mx.MXNetError, match=f"not a valid {stype} array"):
            broken.check_format()
        if np.max(places[0]) == 5:
            with pytest.raises(mx.MXNetError, match="not a valid"):
                broken.asnumpy()
    make(([1, 2], [1, 0], [0, 2, 2]) if stype == "csr" else ([[1]] * 2, [1, 0])).check_format(False)


@given(matrices(), st.integers(-7, 7), st.integers(-7, 7))
def test_rows(x, i, j):
    a = nd.array(x).tostype("csr")
    want = x[i:j]
    same(a[i:j], want, "csr")
    same(a[:], x, "csr")
    if -len(x) <= i < len(x):
        same(a[i], x[i : i + 1 or None], "csr")
    else:
        with pytest.raises(IndexError):
            a[i]
    assert [row.asnumpy()[0].tolist() for row in a] == x.tolist()


def test_wrong_keys():
    a, r = sample("csr")[0], sample("row_sparse")[0]
    for key in ((0, 1), [0, 1], slice(None, None, 2), None):
        with pytest.raises(ValueError):
            a[key]
    assert r[:] is r
    for key in (0, slice(0, 2)):
        with pytest.raises(NotImplementedError):
            r[key]
        with pytest.raises((TypeError, ValueError)):
            r[key] = 1
        with pytest.raises((TypeError, ValueError)):
            a[key] = a[0:2]


@kinds
def test_writing(stype):
    a, x = sample(stype)
    other, y = sample(stype, seed=1)
    a[:] = other
    same(a, y, stype)
    a[:] = nd.array(x)
    same(a, x, stype)
    a[:] = y
    same(a, y, stype)
    a[:] = a
    same(a, y, stype)
    if stype == "row_sparse":
        for value in (2, 0, np.float32(1)):
            a[:] = value
            same(a, np.full_like(x, value), stype)
    else:
        with pytest.raises(ValueError):
            a[:] = 1
    with pytest.raises(mx.MXNetError):
        a[:] = nd.ones((2, 3))
    with pytest.raises(TypeError):
        a[:] = nd.ones((4, 3)).tostype(*{*STYPES} - {stype})
    with pytest.raises(TypeError):
        a[:] = [[1]]


@kinds
def test_copyto(stype):
    a, x = sample(stype)
    dense = nd.zeros((4, 3))
    same(a.copyto(dense), x, "default")
    same(nd.array(x).copyto(nd.sparse.zeros(stype, (4, 3))), x, stype)
    same(a.copyto(nd.sparse.zeros(stype, (4, 3))), x, stype)
    with pytest.raises(TypeError):
        a.copyto(nd.sparse.zeros(*{*STYPES} - {stype}, (4, 3)))
    with pytest.raises(mx.MXNetError):
        a.copyto(nd.zeros((3, 3)))


# --- Operators ------------------------------------------------------------------------------------

STORAGE = {  # expression -> storage of the result in MXNet, of a CSR or row-sparse array and a dense one
    "a + 1": "default",
    "a - 1": "default",
    "1 - a": "default",
    "a * 2": "same",
    "2 * a": "same",
    "a / 2": "same",
    "a ** 2": "default",
    "a % 2": "default",
    "-a": "same",
    "abs(a)": "same",
    "a + a": "same",
    "a - a * 3": "same",
    "a * a": "same",
    "a + d": "default",
    "d + a": "default",
    "a - d": "default",
    "d - a": "default",
    "a * d": "same",
    "d * a": "default",
    "d / (a + 4)": "default",
    "a > 0": "same",
    "a > -1": "default",
    "a >= 1": "same",
    "a >= 0": "default",
    "a < 0": "same",
    "a < 1": "default",
    "a != 0": "same",
    "a == 0": "default",
    "a == 1": "same",
    "a == a": "default",
    "a + 0": "same",
    "np.maximum(a, 0)": "default",
    "np.sqrt(abs(a))": "same",
    "np.square(a)": "same",
    "np.sign(a)": "same",
    "np.tanh(a)": "same",
    "np.exp(a)": "default",
    "np.cos(a)": "default",
    "np.clip(a, 0, 2)": "same",
}


class Face:
    """`mx.nd` under the name of NumPy."""

    def __getattr__(self, name):
        return getattr(nd, name)


@kinds
@pytest.mark.parametrize("expression", STORAGE)
def test_elementwise(stype, expression):
    a, x = sample(stype)
    d = np.arange(1, 13, dtype="float32").reshape(4, 3)
    want = eval(expression, {"a": x, "d": d, "np": np})
    found = eval(expression, {"a": a, "d": nd.array(d), "np": Face()})
    same(found, want.astype("float32"), stype if STORAGE[expression] == "same" else "default")


@kinds
@given(st.data())
@settings(max_examples=50, deadline=None)
def test_arithmetic_of_two(stype, data):
    x = data.draw(matrices())
    y = data.draw(arrays("float32", x.shape, elements=st.sampled_from([0, 0, 0, 1, 2])))
    a, b = nd.array(x).tostype(stype), nd.array(y).tostype(stype)
    for name in ("add", "subtract", "multiply"):
        want = getattr(np, name)(x, y)
        same(getattr(nd.sparse, name)(a, b), want, stype)
        same(getattr(nd.sparse, name)(a, nd.array(y)), want)
        same(getattr(nd.sparse, name)(nd.array(x), b), want, "default")
    a += b
    same(a, x + y, stype)
    a *= nd.array(y)
    same(a, (x + y) * y, stype)
    dense = nd.array(x)
    dense -= b
    same(dense, x - y, "default")


def test_repeated():
    a, x = sample("csr")
    for shape in ((1, 3), (4, 1), (1, 1)):
        d = np.arange(1, 1 + np.prod(shape), dtype="float32").reshape(shape)
        same(a * nd.array(d), x * d, "csr")
        same(a / nd.array(d), x / d, "csr")
        same(a + nd.array(d), x + d, "default")
    with np.errstate(all="ignore"):
        assert np.isnan((a / nd.zeros((4, 3))).asnumpy()).any()
    for wrong in (nd.ones((2, 2)), nd.sparse.zeros("csr", (2, 3)), a.astype("float64")):
        with pytest.raises(mx.MXNetError):
            a + wrong
    row = nd.sparse.csr_matrix(x[:1])
    same(row * nd.array(x), x[:1] * x)


def test_numbers_in_functions():
    a, x = sample("csr")
    same(nd.sparse.subtract(1, a), 1 - x)
    same(nd.sparse.divide(a, 2), x / 2, "csr")
    with np.errstate(divide="ignore"):
        assert nd.sparse.divide(2, a).stype == "default"


@given(st.data(), st.booleans(), st.booleans(), TYPES)
@settings(max_examples=60, deadline=None)
def test_dot(data, ta, tb, dtype):
    m, k, n = (data.draw(SIZES) for _ in range(3))
    fixed = st.just
    x = data.draw(matrices(fixed(k if ta else m), fixed(m if ta else k))).astype(dtype)
    y = data.draw(matrices(fixed(n if tb else k), fixed(k if tb else n))).astype(dtype)
    want = (x.T if ta else x) @ (y.T if tb else y)
    turns = {"transpose_a": ta, "transpose_b": tb}
    a, b = nd.array(x, dtype=dtype), nd.array(y, dtype=dtype)
    usual = "row_sparse" if ta and not tb else "default"
    same(nd.dot(a.tostype("csr"), b, **turns), want, usual)
    same(nd.dot(a.tostype("csr"), b.tostype("row_sparse"), **turns), want, usual)
    same(nd.dot(a, b.tostype("csr"), **turns), want, "default" if ta else "csr")
    same(nd.dot(a.tostype("csr"), b.tostype("csr"), **turns), want, "default")
    for stype in ("default", "row_sparse", "csr"):
        same(nd.sparse.dot(a.tostype("csr"), b, forward_stype=stype, **turns), want, stype)
        same(nd.dot(a, b.tostype("csr"), forward_stype=stype, **turns), want, stype)


def test_dot_of_the_wrong():
    a, x = sample("csr")
    with pytest.raises(mx.MXNetError, match="in dot"):
        nd.dot(a, nd.ones((4, 2)))
    with pytest.raises(mx.MXNetError):
        nd.dot(a, nd.ones((3, 2), dtype="float64"))
    same(nd.dot(a, nd.array([1, 2, 3])), x @ np.float32([1, 2, 3]))
    out = nd.zeros((4, 2))
    nd.dot(a, nd.ones((3, 2)), out=out)
    same(out, x @ np.ones((3, 2), "float32"))


def test_dense_layer():
    a, x = sample("csr")
    w, b = np.random.default_rng(1).normal(size=(5, 3)).astype("float32"), np.ones(5, "float32")
    found = nd.FullyConnected(a, nd.array(w), nd.array(b), num_hidden=5)
    np.testing.assert_allclose(found.asnumpy(), x @ w.T + b, rtol=1e-5)
    found = nd.FullyConnected(a, nd.array(w), num_hidden=5, no_bias=True)
    np.testing.assert_allclose(found.asnumpy(), x @ w.T, rtol=1e-5, atol=1e-6)


@given(matrices(st.integers(1, 5), st.integers(1, 5)), st.data())
@settings(deadline=None)
def test_rows_and_blocks(x, data):
    a, r = nd.array(x).tostype("csr"), nd.array(x).tostype("row_sparse")
    rows = np.array(data.draw(st.lists(st.integers(0, len(x) - 1), max_size=6)), "int64")
    if len(rows):
        same(nd.take(a, nd.array(rows)), x[rows], "csr")
        same(nd.take(r, nd.array(rows)), x[rows], "default")
        same(nd.Embedding(nd.array(rows), r, *x.shape), x[rows], "default")
        kept = nd.array(np.unique(rows))
        want = x * np.isin(np.arange(len(x)), rows)[:, None]
        same(nd.sparse.retain(r, kept), want, "row_sparse")
        same(r.retain(kept), want, "row_sparse")
    same(nd.concat(a, a[:1], a, dim=0), np.concatenate([x, x[:1], x]), "csr")
    i, j = sorted(data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5))))
    same(nd.slice(a, begin=(0, i), end=(len(x), max(j, i))), x[:, i : max(j, i)], "csr")


@given(matrices(st.integers(1, 5), st.integers(1, 5)))
@settings(deadline=None)
def test_sums(x):
    for stype in STYPES:
        a = nd.array(x).tostype(stype)
        for axis in (None, 0, 1, -1, (0,), (0, 1)):
            for keepdims in (False, True):
                for f in ("sum", "mean"):
                    want = np.atleast_1d(getattr(x, f)(axis=axis, keepdims=keepdims))
                    same(getattr(nd, f)(a, axis=axis, keepdims=keepdims), want, "default")


@kinds
def test_norm_and_add_n(stype):
    a, x = sample(stype)
    if hasattr(nd, "norm"):
        np.testing.assert_allclose(nd.norm(a).asnumpy(), [np.sqrt((x * x).sum())], rtol=1e-6)
    if hasattr(nd, "add_n"):
        same(nd.add_n(a, a, a), 3 * x, stype if stype == "row_sparse" else "default")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5)), max_size=20))
def test_combined(pairs):
    keys, values = np.array([k for k, _ in pairs], "int64"), np.array([v for _, v in pairs], "int8")
    want = np.zeros(5, "int8")
    np.add.at(want, keys, values)
    places, sums = combined(values, keys)
    assert places.tolist() == sorted(set(keys.tolist())) and sums.dtype == "int8"
    assert sums.tolist() == want[places].tolist()


# --- Falling back ---------------------------------------------------------------------------------


def test_fallback_is_told_once(caplog, monkeypatch):
    monkeypatch.setattr(ways, "told", set())
    a, _ = sample("csr")
    with caplog.at_level(logging.WARNING):
        nd.exp(a), nd.exp(a), nd.dot(a, nd.ones((3, 2))), a + 1
    assert len(caplog.records) == 1 and "operator exp" in caplog.text and "[csr]" in caplog.text
    monkeypatch.setenv("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "0")
    nd.cos(a)
    assert len(caplog.records) == 1


@kinds
def test_a_raw_sparse_array_is_an_array(stype):
    raw, x = sample(stype)[0]._data, sample(stype)[1]
    assert raw.sum() == x.sum() and (np.exp(raw) == np.exp(x)).all() and (raw.T == x.T).all()
    assert (np.where(x > 0, raw, 0) == x.clip(0)).all() and (raw[1:] == x[1:]).all()
    assert (2 * raw + x == 3 * x).all() and (x - raw == 0).all() and len(raw) == 4
    y = x.copy()
    y += raw
    assert (y == 2 * x).all()
    raw += x
    assert isinstance(raw, CSR | Rows) and (raw.dense() == 2 * x).all()


# --- Gradients ------------------------------------------------------------------------------------


def gradient(stype, f, w, req="write", times=1):
    """The gradient of the sum of `f(w)`, in a buffer of storage `stype`."""
    w = nd.array(w, dtype="float64")
    w.attach_grad(req, stype=stype)
    for _ in range(times):
        with autograd.record():
            y = f(w)
        y.backward()
    assert w.grad.stype == (stype or "default")
    return w.grad


def programs():
    a = sample("csr", dtype="float64")[0]
    words = nd.array([[2, 0], [2, 2]])
    data = nd.array(np.random.default_rng(1).normal(size=(4, 3)), dtype="float64")

    def look(w, sparse_grad=True):
        return nd.Embedding(words, w, 3, 3, sparse_grad=sparse_grad)

    return {
        "embedding": lambda w: look(w) ** 2,
        "dense embedding": lambda w: look(w, False) ** 2,
        "embedding of a product": lambda w: look(w * w),
        "twice": lambda w: look(w) + look(w + 0)[0:1] * 2,
        "two embeddings": lambda w: look(w) * look(w),
        "mixed": lambda w: look(w).sum() + (w * 3).sum(),
        "take": lambda w: nd.take(w, words) ** 2,
        "dot": lambda w: nd.dot(a, w) ** 2,
        "turned": lambda w: nd.dot(a, w, transpose_b=True) ** 3,
        "transposed": lambda w: nd.dot(data, a, transpose_a=True) * 0 + nd.dot(w, w),
        "transposed dot": lambda w: nd.dot(a, nd.dot(a, w), transpose_a=True) ** 2,
        "right": lambda w: nd.dot(w, a, transpose_b=True) ** 2,
        "layer": lambda w: nd.FullyConnected(a, w, num_hidden=3, no_bias=True) ** 2,
        "product": lambda w: (a * nd.dot(data, w)) ** 2,
        "sum": lambda w: nd.dot(data, w) + a,
        "cast": lambda w: (w * w).tostype("csr") * 2,
        "cast back": lambda w: (w * w).tostype("row_sparse").tostype("default") * w,
        "kept": lambda w: nd.square((w * 2).tostype("csr")),
        "not used": lambda w: nd.zeros_like(w) * w,
    }


@pytest.mark.parametrize("name", programs())
@pytest.mark.parametrize("stype", ["row_sparse", "csr"])
def test_gradient_in_any_buffer(name, stype):
    f, w = programs()[name], np.random.default_rng(2).normal(size=(3, 3))
    want = gradient(None, f, w).asnumpy()
    np.testing.assert_allclose(gradient(stype, f, w).asnumpy(), want, rtol=1e-12, atol=1e-12)
    added = gradient(stype, f, w, "add", times=3)
    np.testing.assert_allclose(added.asnumpy(), 3 * want, rtol=1e-12, atol=1e-12)
    assert not gradient(stype, f, w, "null").asnumpy().any()
    v = np.random.default_rng(3).normal(size=w.shape)

    def value(t):
        return f(nd.array(w + t * v, dtype="float64")).sum().asscalar()

    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    np.testing.assert_allclose((want * v).sum(), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", programs())
def test_second_gradient(name):
    f, w = programs()[name], np.random.default_rng(2).normal(size=(3, 3))

    def slopes(w):
        with autograd.record():
            (g,) = autograd.grad(f(w).sum(), [w], create_graph=True)
            return (g * g).sum()

    x = nd.array(w, dtype="float64")
    x.attach_grad(stype="row_sparse")
    y = slopes(x)
    if y._node is not None:
        y.backward()
    v = np.random.default_rng(3).normal(size=w.shape)

    def value(t):
        moved = nd.array(w + t * v, dtype="float64")
        moved.attach_grad()
        return slopes(moved).asscalar()

    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    np.testing.assert_allclose((x.grad.asnumpy() * v).sum(), slope, rtol=1e-5, atol=1e-6)


def test_rows_of_a_gradient():
    w, words = nd.ones((5, 2)), nd.array([1, 3, 1])

    def rows(f, req="write"):
        w.attach_grad(req, stype="row_sparse")
        with autograd.record():
            y = f()
        y.backward()
        return w.grad.indices.tolist(), w.grad.data.tolist()

    def look(ids=words):
        return nd.Embedding(ids, w, 5, 2, sparse_grad=True)

    assert rows(look) == ([1, 3], [[2, 2], [1, 1]])
    assert rows(lambda: look() * 0) == ([1, 3], [[0, 0], [0, 0]])
    assert rows(lambda: look().sum() + look(nd.array([0])).sum())[0] == [0, 1, 3]
    assert rows(lambda: (w * w).sum())[0] == [0, 1, 2, 3, 4]
    assert rows(lambda: nd.take(w, words))[0] == [1, 3]
    assert rows(lambda: look(nd.array([-1, 9])))[0] == [0, 4]  # clipped
    assert rows(
        lambda: look(
            nd.array([[1], [1]]),
        )
    )[1] == [[2, 2]]


def test_the_gradient_of_a_large_table_is_small():
    import tracemalloc

    w = nd.zeros((2_000_000, 16))
    w.attach_grad(stype="row_sparse")
    documents = nd.sparse.csr_matrix(([1, 2], [5, 1_999_999], [0, 2]), shape=(1, 2_000_000))
    tracemalloc.start()
    for f in (
        lambda: nd.Embedding(nd.array([7, 7, 9]), w, 2_000_000, 16, sparse_grad=True),
        lambda: nd.dot(documents, w),
        lambda: nd.dot(documents, w) * nd.dot(documents, nd.ones((1, 16)), transpose_a=True).sum(),
    ):
        with autograd.record():
            y = f()
        y.backward()
        w.grad[:] = 0
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@kinds
def test_a_sparse_variable(stype):
    a, x = sample(stype)
    a.attach_grad()
    assert a.grad.stype == stype and not a.grad.asnumpy().any()
    cases = {
        "a * 2": np.full_like(x, 2),
        "nd.square(a)": 2 * x,
        "a.tostype('default') * 3": np.full_like(x, 3),
        "nd.exp(a)": np.exp(x),
        "a + a": np.full_like(x, 2),
        "nd.dot(a, nd.ones((3, 2)))": np.full_like(x, 2),
        "a.sum()": np.ones_like(x),
    }
    for expression, want in cases.items():
        with autograd.record():
            y = eval(expression, {"a": a, "nd": nd})
        y.backward()
        np.testing.assert_allclose(a.grad.asnumpy(), want, rtol=1e-6, err_msg=expression)
    a.attach_grad(stype="default")
    assert a.grad.stype == "default"
    assert a.detach().grad is None and a.detach().stype == stype
    with autograd.record(), pytest.raises(mx.MXNetError, match="recording"):
        a[:] = nd.ones((4, 3))


def test_marked_with_a_sparse_buffer():
    w = nd.ones((3, 2))
    autograd.mark_variables([w], [nd.sparse.zeros("row_sparse", (3, 2))])
    with autograd.record():
        y = nd.Embedding(nd.array([1]), w, 3, 2, sparse_grad=True)
    y.backward()
    assert type(w.grad) is RowSparseNDArray and w.grad.indices.tolist() == [1]
    w.attach_grad()
    assert type(w.grad) is NDArray


def test_a_parameter_with_a_row_sparse_gradient():
    p = mx.gluon.Parameter("p", shape=(5, 2), grad_stype="row_sparse")
    p.initialize(init="ones")
    trainer = mx.gluon.Trainer([p], "sgd", {"learning_rate": 0.5})
    with autograd.record():
        y = nd.Embedding(nd.array([3]), p.data(), 5, 2, sparse_grad=True)
    y.backward()
    assert p.grad().stype == "row_sparse" and p.grad().indices.tolist() == [3]
    trainer.step(1)
    assert p.data().asnumpy()[:, 0].tolist() == [1, 1, 1, 0.5, 1]
    p.zero_grad()
    assert p.grad().indices.shape == (0,)


def test_symbols_of_sparse_functions():
    x, rows = mx.sym.var("x"), mx.sym.var("rows")
    kept = mx.sym.sparse.retain(mx.sym.sparse.cast_storage(x, stype="row_sparse"), rows)
    out = kept.eval(x=mx.nd.ones((3, 2)), rows=mx.nd.array([2]))[0]
    assert out.asnumpy().tolist() == [[0, 0], [0, 0], [1, 1]]
    sparse = mx.nd.ones((3, 2)).tostype("row_sparse")
    assert mx.nd._internal._square_sum(sparse, axis=1).asnumpy().tolist() == [2, 2, 2]


def test_a_bias_may_be_a_column():
    x, w = nd.array([[1, 2, 3], [0, 0, 1]]), nd.array(np.arange(12).reshape(4, 3))
    column, want = nd.array([[1], [2], [3], [4]]), [[9, 28, 47, 66], [3, 7, 11, 15]]
    sparse = w.tostype("row_sparse")
    for data in (x, x.tostype("csr")):
        for bias in (column, column.tostype("row_sparse"), column.reshape((-1,))):
            y = nd.sparse.FullyConnected(data, sparse, bias, num_hidden=4)
            assert y.asnumpy().tolist() == want
    column.attach_grad()
    with autograd.record():
        y = nd.sparse.FullyConnected(x, sparse, column, num_hidden=4)
    y.backward()
    assert column.grad.asnumpy().tolist() == [[2]] * 4


STORED_PRODUCTS = {  # (lhs, rhs, transpose_a, transpose_b, forward_stype): what MXNet 1.9.1 answers in
    ("csr", "default", False, False, None): "default",
    ("csr", "default", True, False, None): "row_sparse",
    ("csr", "default", True, True, None): "default",
    ("csr", "row_sparse", True, False, None): "row_sparse",
    ("csr", "row_sparse", True, True, None): "default",
    ("csr", "csr", True, False, None): "default",
    ("default", "csr", False, True, None): "csr",
    ("default", "csr", True, False, None): "default",
    ("row_sparse", "csr", False, False, None): "default",
    ("row_sparse", "default", False, False, "csr"): "csr",
    ("default", "row_sparse", True, True, "row_sparse"): "row_sparse",
}


@pytest.mark.parametrize("case", STORED_PRODUCTS, ids=str)
def test_storage_of_a_product(case):
    left, right, transpose_a, transpose_b, asked = case
    a, b = np.arange(6.0).reshape(2, 3) - 3, np.arange(12.0).reshape(3, 4) % 5
    lhs = nd.array(a.T if transpose_a else a).tostype(left)
    rhs = nd.array(b.T if transpose_b else b).tostype(right)
    y = nd.sparse.dot(lhs, rhs, transpose_a, transpose_b, forward_stype=asked)
    assert y.stype == STORED_PRODUCTS[case]
    np.testing.assert_array_equal(y.asnumpy(), a @ b)


@pytest.mark.parametrize("stype", ["csr", "row_sparse"])
def test_a_product_of_numbers_is_as_sparse_as_its_sparser_factor(stype):
    a, b = nd.array([[1, 2], [3, 4]]), nd.array([[0, 5], [0, 0]]).tostype(stype)
    for y in (nd.elemwise_mul(a, b), nd.elemwise_mul(b, a)):
        assert y.stype == stype and y.asnumpy().tolist() == [[0, 10], [0, 0]]
    a.attach_grad()
    with autograd.record():
        y = nd.elemwise_mul(a, b)
    y.backward()
    assert a.grad.asnumpy().tolist() == [[0, 5], [0, 0]]


class Table(gluon.HybridBlock):
    """A table with sparse gradients, and a function that reads it: `read(F, table, x, y)`."""

    def __init__(self, rows, columns, read, **kwargs):
        super().__init__(**kwargs)
        self.read = read
        with self.name_scope():
            self.table = gluon.nn.Embedding(rows, columns, sparse_grad=True)

    def hybrid_forward(self, F, x, y):
        return self.read(F, self.table, x, y)


@pytest.mark.parametrize("hybrid", [False, True])
def test_rows_that_were_looked_up_are_stored_though_their_gradient_is_zero(hybrid):
    """As in MXNet: what moves stored rows alone, as Adam does, moves these."""

    net = Table(8, 2, lambda F, table, x, mask: F.broadcast_mul(table(x), mask))
    net.initialize(mx.init.One())
    net.hybridize(hybrid)
    weight = net.table.weight
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.5})
    for mask in ([1, 1, 1, 1], [1, 0, 0, 0]):
        with mx.autograd.record():
            y = net(nd.array([1, 5, 2, 5]), nd.array(mask).reshape((-1, 1)))
        y.backward()
        g = weight.grad()
        assert g.indices.asnumpy().tolist() == [1, 2, 5]
        before = weight.data().asnumpy()
        trainer.step(1)
    moved = (weight.data().asnumpy() != before).any(axis=1)
    assert moved.tolist() == [False, True, True, False, False, True, False, False]


@pytest.mark.parametrize("grad_req", ["write", "add"])
def test_a_compiled_table_that_is_read_twice(grad_req):
    def twice(F, table, x, z):
        return table(x).sum() * 2 + (table(z) ** 2).sum()

    found = []
    for hybrid in (False, True):
        net = Table(6, 3, twice)
        net.initialize()
        net.table.weight.set_data(nd.arange(18).reshape((6, 3)) / 10)
        net.table.weight.grad_req = grad_req
        net.hybridize(hybrid)
        for _ in range(2):
            with mx.autograd.record():
                y = net(nd.array([1, 1, 4]), nd.array([[4], [0]]))
            y.backward()
        found.append(net.table.weight.grad())
        w = net.table.weight.data()
        with mx.autograd.record():
            g = mx.autograd.grad(net(nd.array([1]), nd.array([4])), [w], create_graph=True)[0]
            z = (g * g).sum()
        z.backward()
    assert found[0].stype == found[1].stype == "row_sparse"
    assert np.allclose(found[0].asnumpy(), found[1].asnumpy(), atol=1e-6)


def rows_of_two(numbers=((1, -2), (3, 4)), rows=(0, 3)):
    data = np.array(numbers, "float32"), list(rows)
    return mx.nd.sparse.row_sparse_array(data, shape=(5, 2))


def test_operators_of_stored_numbers_leave_the_others_alone():
    """The figures are MXNet's."""
    inner, a = mx.nd._internal, rows_of_two()
    more, less = inner._scatter_plus_scalar(a, scalar=2), inner._scatter_minus_scalar(a, 2)
    assert more.stype == less.stype == "row_sparse" and more.indices.asnumpy().tolist() == [0, 3]
    assert more.asnumpy().tolist() == [[3, 0], [0, 0], [0, 0], [5, 6], [0, 0]]
    assert less.asnumpy().tolist() == [[-1, -4], [0, 0], [0, 0], [1, 2], [0, 0]]
    csr = mx.nd.sparse.csr_matrix(np.array([[0, 1, 0], [2, 0, -3]], "float32"))
    more = inner._scatter_plus_scalar(csr, scalar=2)
    assert more.stype == "csr" and more.asnumpy().tolist() == [[0, 3, 0], [4, 0, -1]]
    dense, two = nd.array(np.arange(1, 11).reshape(5, 2)), nd.ones((2, 3)) * 2
    part = inner._scatter_elemwise_div(a, dense)
    assert part.stype == "row_sparse" and np.allclose(part.data.asnumpy(), [[1, -1], [3 / 7, 0.5]])
    other = rows_of_two(((2, 0), (5, 4)), (1, 3))
    part = inner._scatter_elemwise_div(a, other).asnumpy()
    assert np.allclose(part, [[np.inf, -np.inf], [0, 0], [0, 0], [0.6, 1], [0, 0]])
    assert inner._scatter_elemwise_div(csr, two).stype == "default"
    assert inner._scatter_elemwise_div(dense, a).stype == "default"
    a.attach_grad()
    with autograd.record():
        y = inner._scatter_plus_scalar(a, scalar=2.0)
    y.backward()
    assert y.stype == a.grad.stype == "row_sparse" and (a.grad.asnumpy() == 1).all()


def test_sums_of_squares_of_rows_are_rows_where_mxnets_are():
    a, f = rows_of_two(), mx.nd._internal._square_sum
    kept = f(a, axis=1, keepdims=True)
    assert kept.stype == "row_sparse" and kept.shape == (5, 1)
    assert kept.indices.asnumpy().tolist() == [0, 3]
    assert kept.data.asnumpy().tolist() == [[5], [25]]
    for how, numbers in (
        ({"axis": 1}, [5, 0, 0, 25, 0]),
        ({"axis": (0,)}, [10, 20]),
        ({"axis": 0, "keepdims": True}, [[10, 20]]),
    ):
        found = f(a, **how)
        assert found.stype == "default" and found.asnumpy().tolist() == numbers
    for how in {"axis": 1}, {"axis": 0}, {"axis": 1, "keepdims": True}:
        a.attach_grad()
        with autograd.record():
            y = f(a, **how)
        y.backward()
        assert a.grad.stype == "row_sparse" and (a.grad.asnumpy() == 2 * a.asnumpy()).all()


def test_numbers_set_at_places_are_written_into_out():
    x, places = nd.zeros((3, 2)), nd.array([[0, 1], [1, 0]])
    y = mx.nd._internal._scatter_set_nd(x, nd.array([9, 8]), places, shape=(3, 2), out=x)
    assert y is x and x.asnumpy().tolist() == [[0, 9], [8, 0], [0, 0]]
    with pytest.raises(mx.MXNetError, match="shape="):
        mx.nd._internal._scatter_set_nd(x, nd.array([9, 8]), places, shape=(4, 2))


def test_a_lazy_step_writes_where_the_rows_lie_and_into_nobody_elses_numbers():
    w = mx.nd.array(np.arange(1.0, 13).reshape(4, 3)).tostype("row_sparse")
    g = mx.nd.sparse.row_sparse_array((np.ones((2, 3)), [0, 2]), shape=(4, 3))
    update = mx.optimizer.get_updater(mx.optimizer.SGD(learning_rate=1.0, momentum=0.5))
    update(0, g, w)
    lies = w._data.values
    address = lies.ctypes.data
    del lies
    update(0, g, w)
    assert w._data.values.ctypes.data == address  # the table is not built anew
    other, third = mx.nd.zeros((4, 3), stype="row_sparse"), mx.nd.zeros((4, 3), stype="row_sparse")
    other[:] = w
    w.copyto(third)
    numbers, before = w.data, w.asnumpy()
    update(0, g, w)
    assert before[0, 0] - w.asnumpy()[0, 0] == 1.75
    for a in (other, third):
        assert np.array_equal(a.asnumpy(), before)
    assert np.array_equal(numbers.asnumpy(), before)
    update(0, g, other)  # which has its own rows, too
    assert w.asnumpy()[0, 0] == before[0, 0] - 1.75


def test_ftrl_moves_all_rows_of_a_dense_weight():
    # MXNet's operator is lazy with row-sparse weights alone: rows without a
    # gradient fall to 0, where z is small
    grad = nd.array([[1, 2], [0, 0]]).tostype("row_sparse")
    for kind, left in (("default", [0, 0]), ("row_sparse", [1, 1])):
        w, z, n = (a.tostype(kind) for a in (nd.ones((2, 2)), nd.zeros((2, 2)), nd.zeros((2, 2))))
        nd.ftrl_update(w, grad, z, n, out=w, lr=0.1)
        found = w.asnumpy()
        assert found[1].tolist() == left
        np.testing.assert_allclose(found[0], [0.4495, 0.5996667], rtol=1e-5)
