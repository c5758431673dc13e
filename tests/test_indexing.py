"""Indexing against NumPy: random keys, read, written and differentiated; views share memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices, integer_array_indices

import minigluon as mx

SHAPE = (3, 2, 4)
keys = st.one_of(
    basic_indices(SHAPE, allow_newaxis=True, allow_ellipsis=True), integer_array_indices(SHAPE)
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
