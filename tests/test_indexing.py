"""Indexing against NumPy: random keys, read, written and differentiated; views share memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices, integer_array_indices

import minigluon as mx
from minigluon import nd
from minigluon.ops import indexing
from minigluon.ops.indexing import untake

SHAPE = (3, 2, 4)


@st.composite
def mixed(draw):
    """Numbers, slices, new axes, an ellipsis, lists and arrays of places in any order."""
    size, parts = draw(st.integers(1, 3)), []
    for n in SHAPE[: draw(st.integers(1, 3))]:
        place = st.integers(-2, 1)  # fits every axis, as an ellipsis moves it
        places = st.lists(place, min_size=size, max_size=size)
        block = st.lists(places, min_size=1, max_size=2).map(np.array)
        parts.append(draw(st.one_of(place, st.slices(n), places, places.map(np.array), block)))
    for extra in (None, ...):
        if draw(st.booleans()):
            parts.insert(draw(st.integers(0, len(parts))), extra)
    return tuple(parts)


keys = st.one_of(
    basic_indices(SHAPE, allow_newaxis=True, allow_ellipsis=True),
    integer_array_indices(SHAPE),
    mixed(),
)
quick = settings(max_examples=60, deadline=None)


def numbers():
    return np.arange(24, dtype="float32").reshape(SHAPE)


@quick
@given(keys)
def test_reading(key):
    want = np.atleast_1d(numbers()[key])
    got = mx.nd.array(numbers())[key].asnumpy()
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


@quick
@given(keys)
def test_writing(key):
    want, x = numbers(), mx.nd.array(numbers())
    want[key] = -1
    x[key] = -1
    np.testing.assert_array_equal(x.asnumpy(), want)


@quick
@given(keys)
def test_gradient_counts_how_often_a_number_was_read(key):
    x = mx.nd.array(numbers())
    x.attach_grad()
    with mx.autograd.record():
        y = x[key]
    y.backward()
    want = np.zeros(SHAPE)
    np.add.at(want, key, 1)
    np.testing.assert_array_equal(x.grad.asnumpy(), want)


@quick
@given(keys, st.data())
def test_writing_an_array(key, data):
    want, x = numbers(), mx.nd.array(numbers())
    shape = want[key].shape
    thin = tuple(1 if data.draw(st.booleans()) else n for n in shape)
    value = -np.arange(1, np.prod(thin) + 1, dtype="float32").reshape(thin)
    want[key] = value
    x[key] = value if data.draw(st.booleans()) else mx.nd.array(value)
    np.testing.assert_array_equal(x.asnumpy(), want)


@quick
@given(keys, st.sampled_from(["int32", "int64", "float32", "float64"]))
def test_places_in_ndarrays_of_any_type(key, dtype):
    def ours(part):
        return mx.nd.array(part, dtype=dtype) if isinstance(part, list | np.ndarray) else part

    same = tuple(map(ours, key)) if isinstance(key, tuple) else ours(key)
    x = mx.nd.array(numbers())
    np.testing.assert_array_equal(x[same].asnumpy(), np.atleast_1d(numbers()[key]))
    x[same] = 7
    want = numbers()
    want[key] = 7
    np.testing.assert_array_equal(x.asnumpy(), want)


def test_a_mask_is_taken_as_zeros_and_ones():
    x = mx.nd.array(numbers())
    mask = np.array([True, False, True])
    np.testing.assert_array_equal(x[mask].asnumpy(), numbers()[[1, 0, 1]])
    np.testing.assert_array_equal(x[mx.nd.array([1, 0, 1])].asnumpy(), numbers()[[1, 0, 1]])


@pytest.mark.parametrize(
    ("key", "value"), [((0, 0), [1, 2, 3]), (slice(0, 2), np.ones((3, 2, 4))), (5, 1), (..., "a")]
)
def test_a_failed_write_changes_nothing(key, value):
    x = mx.nd.array(numbers())
    with pytest.raises((ValueError, IndexError, TypeError)):
        x[key] = value
    np.testing.assert_array_equal(x.asnumpy(), numbers())


@pytest.mark.parametrize("view", [lambda x: x[1], lambda x: x[0:2], lambda x: x.reshape(-1)])
def test_views_share_memory(view):
    x = mx.nd.array(numbers())
    view(x)[:] = -1
    assert (x.asnumpy() == -1).any()


@pytest.mark.parametrize("copy", [lambda x: x[:, 1], lambda x: x[::2], lambda x: x.T])
def test_copies_do_not(copy):
    x = mx.nd.array(numbers())
    copy(x)[:] = -1
    np.testing.assert_array_equal(x.asnumpy(), numbers())


def test_one_number_is_a_view():
    x = mx.nd.array([1, 2, 3])
    x[1][:] = 7
    assert x.asnumpy().tolist() == [1, 7, 3]


@pytest.mark.parametrize("key", [5, (0, 9), [7], (0, 0, 0, 0)])
def test_out_of_bounds(key):
    with pytest.raises(IndexError):
        mx.nd.array(numbers())[key]


def test_bad_keys():
    for key in ["x", 1.5]:
        with pytest.raises(ValueError):
            mx.nd.array(numbers())[key]


def test_a_value_written_while_recording_gets_its_gradient():
    a, y = mx.nd.array([1, 2]), mx.nd.zeros((3,))
    a.attach_grad()
    with mx.autograd.record():
        y[1:] = a * 3
        z = (y * y).sum()
    z.backward()
    assert a.grad.asnumpy().tolist() == [18, 36]


def test_reshape_to_fewer_numbers():
    for shape in [(4,), (5, -1)]:
        with pytest.raises(ValueError):
            mx.nd.array(numbers()).reshape(shape)


@pytest.mark.parametrize("value", [-1, 300, -1.5, [-1, 300, 2, 7], np.array([-1, 300, 2, 7])])
def test_too_large_whole_numbers_wrap_around_as_in_c(value):
    x = mx.nd.zeros(4, dtype="uint8")
    x[:] = value
    want = np.broadcast_to(np.trunc(value).astype("int64") % 256, 4)
    np.testing.assert_array_equal(x.asnumpy(), want)
    if not isinstance(value, list | np.ndarray):
        assert mx.nd.full(1, value, dtype="uint8").asscalar() == want[0]
    np.testing.assert_array_equal(
        mx.nd.array(np.ravel(value), dtype="uint8").asnumpy(),
        np.unique(want) if np.ndim(value) == 0 else want,
    )


def test_reshape_like_copies_and_one_axis_is_its_own_transpose():
    x = mx.nd.ones(4)
    assert x.T is x
    y, z = mx.nd.reshape_like(x, x), x.reshape_like(x)
    x[:] = 3
    assert y.sum().asscalar() == z.sum().asscalar() == 4


@pytest.mark.parametrize("words", [1, 3, 40, 2000])
def test_rows_of_an_embedding_are_added_up(words):
    rng = np.random.default_rng(words)
    chosen = rng.integers(0, words, (20, 15))
    g = rng.normal(size=(20, 15, 4, 8)).astype("float32")
    want = np.zeros((2000, 4, 8), "float32")
    np.add.at(want, chosen, g)
    got = untake(nd.array(g), nd.zeros((2000, 4, 8)), nd.array(chosen)).asnumpy()
    exact = np.zeros((2000, 4, 8))
    np.add.at(exact, chosen, g.astype("float64"))
    assert abs(got - exact).max() <= max(abs(want - exact).max(), 1e-6)
    few = np.bincount(chosen.reshape(-1), minlength=2000) <= 4
    assert (got[few] == want[few]).all()  # to the last bit, if a row has four terms
    unclipped = untake(nd.array(g), nd.zeros((2000, 4, 8)), nd.array(chosen - 5000)).asnumpy()
    np.testing.assert_allclose(unclipped[0], g.sum((0, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (10, "x[10]"),
        ((slice(1, 3), 5), "x[1:3, 5]"),
        ((..., 5, slice(None, None, 2)), "x[..., 5, ::2]"),
        (mx.nd.array([7]), "x[int64[1]]"),
        ((0, 1, 2), "too many indices"),
    ],
)
def test_a_wrong_index_is_named(key, says):
    x = mx.nd.ones((4, 3))
    with pytest.raises(IndexError) as caught:
        x[key]
    assert says in str(caught.value) and isinstance(caught.value, mx.MXNetError)
    with pytest.raises(IndexError) as caught:
        x[key] = 1
    assert says in str(caught.value)


def test_a_value_that_does_not_fit_is_named():
    x = mx.nd.ones((4, 3))
    with pytest.raises(ValueError, match=r"x\[0\] = float32\[5\] of float32\[4, 3\]"):
        x[0] = mx.nd.ones(5)
    assert (x.asnumpy() == 1).all()


@pytest.mark.parametrize(
    "rows, count, width", [(7, 3, 20), (7, 50, 20), (7, 500, 16), (50, 900, 400)]
)
@pytest.mark.parametrize("many", [1, 1 << 18])
def test_rows_are_added_as_one_by_one(monkeypatch, rows, count, width, many):
    monkeypatch.setattr(indexing, "MANY", many)
    rng = np.random.default_rng(0)
    chosen, data = rng.integers(0, rows, count), rng.normal(size=(count, width))
    wanted, out = np.zeros((2, rows, width))
    np.add.at(wanted, chosen, data)
    for add in (indexing.add_rows, indexing.add_rounds, indexing.add_runs):
        out[:] = 0
        add(out, chosen, data)
        np.testing.assert_allclose(out, wanted, atol=1e-12)
    back = untake(nd.array(data), nd.zeros((rows, width)), nd.array(chosen)).asnumpy()
    np.testing.assert_allclose(back, wanted, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
@pytest.mark.parametrize("much", [0, 1 << 30])  # by places, and by NumPy alone
def test_numbers_are_added_at_every_kind_of_key(monkeypatch, dtype, much):
    monkeypatch.setattr(indexing, "MUCH", much)
    rng = np.random.default_rng(0)
    some, mask = rng.integers(-6, 6, (2, 5)), rng.random((6, 7)) < 0.5
    for key in (some, (some[0], some[1]), (slice(None), some[0]), (some[:1].T, some[1]), mask):
        shape = np.zeros((6, 7))[key].shape
        data = rng.integers(0, 3, shape).astype(dtype)
        wanted, got = np.zeros((2, 6, 7), dtype)
        np.add.at(wanted, key, data)
        indexing.add_at(got, key, data)
        np.testing.assert_array_equal(got, wanted)
        turned = np.zeros((7, 6), dtype).T
        indexing.add_at(turned, key, data)
        np.testing.assert_array_equal(turned, wanted)
    with pytest.raises(IndexError):
        indexing.add_at(got, np.full(99, 6), np.ones((99, 7), dtype))


def test_numbers_have_no_axes_where_zero_is_a_size():
    x = mx.nd.arange(6).reshape((2, 3))
    x.attach_grad()
    with mx.util.np_shape():  # MXNet's sums keep their axis of 1 even here
        assert x[1, 2].shape == x[0][1].shape == next(iter(mx.nd.ones(2))).shape == ()
        assert x[0:1, 0].shape == x.sum().shape == (1,) and x[1, 2].asscalar() == 5
        with mx.autograd.record():
            y = x[1, 2] * x[0, 1] + x[0][1]
        y.backward()
        assert y.shape == () and x.grad.asnumpy().tolist() == [[0, 6, 0], [0, 0, 1]]
    assert x[1, 2].shape == x[0][1].shape == (1,)
