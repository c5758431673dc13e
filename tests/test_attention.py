"""Attention beyond the table: types, sizes of nothing, memory of its own."""

import numpy as np
import pytest

import minigluon as mx

contrib = mx.nd.contrib


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_type_is_kept(dtype):
    x = mx.nd.ones((3, 2, 12), dtype=dtype)
    s = contrib.interleaved_matmul_selfatt_qk(x, heads=2)
    y = contrib.interleaved_matmul_selfatt_valatt(x, s, heads=2)
    assert s.dtype == y.dtype == np.dtype(dtype)


def test_integers_are_truncated():
    x = mx.nd.array([[5, -5, 2, 6, 1]], dtype="int32")
    y = contrib.div_sqrt_dim(x)
    assert y.dtype == np.int32 and y.tolist() == [[2, -2, 1, 3, 0]]


def test_empty_batch():
    with mx.np_shape():
        x = mx.nd.zeros((3, 0, 12))
    assert contrib.interleaved_matmul_selfatt_qk(x, heads=2).shape == (0, 3, 3)


def test_results_have_their_own_memory():
    x = mx.nd.ones((1, 1, 3))
    y = mx.nd.unweave(x, heads=1, parts=3, part=0)
    y[:] = 5
    assert x.tolist() == [[[1, 1, 1]]]


def test_no_heads():
    with pytest.raises(mx.MXNetError, match="0 heads"):
        contrib.interleaved_matmul_selfatt_qk(mx.nd.ones((3, 2, 12)), heads=0)
