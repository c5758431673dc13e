"""Elementwise operators beyond their rows: types, edges, kinks, and identities for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import minigluon as mx
from minigluon import nd
from minigluon.ops.elementwise import passed

REAL = [
    *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt"),
    *("rsqrt", "reciprocal", "cbrt", "rcbrt", "sin", "cos", "tan"),
    *("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh"),
    *("arccosh", "arctanh", "degrees", "radians", "sigmoid", "hard_sigmoid", "smooth_l1"),
    *("log_sigmoid", "mish"),
]
WHOLE = [
    *("square", "abs", "sign", "negative", "floor", "ceil", "trunc"),
    *("fix", "round", "rint", "relu", "logical_not", "identity"),
]

numbers = st.floats(-1e3, 1e3, width=32)
some = arrays("float32", array_shapes(max_dims=3, max_side=4), elements=numbers)
few = settings(max_examples=40, deadline=None)


def ours(a):
    return nd.array(a, dtype=a.dtype)


def gradient(f, *xs):
    xs = [nd.array(x) for x in xs]
    for x in xs:
        x.attach_grad()
    with mx.autograd.record():
        y = f(*xs)
    y.backward()
    return [x.grad.asnumpy().tolist() for x in xs]


@pytest.mark.parametrize("name", REAL + WHOLE)
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64"]
)
def test_the_type_stays(name, dtype):
    x = np.ones((2, 3), dtype)
    with np.errstate(all="ignore"):  # arctanh(1) is infinite
        y = getattr(nd, name)(ours(x))
        assert y.dtype == x.dtype and y.shape == x.shape
        want = getattr(nd, name)(nd.ones((2, 3), dtype="float64")).asnumpy()
        np.testing.assert_allclose(y.asnumpy(), want.astype(dtype), rtol=2e-3)


@pytest.mark.parametrize("name", REAL + WHOLE)
def test_empty_and_strided(name):
    f = getattr(nd, name)
    assert f(ours(np.ones((0, 3), "float32"))).shape == (0, 3)
    x = np.linspace(1.1, 1.9, 12).reshape(3, 4)
    if name in ("arcsin", "arccos", "arctanh"):
        x = x - 1
    strided = mx.nd.NDArray(x.T[::2], mx.cpu())
    np.testing.assert_array_equal(f(strided).asnumpy(), f(ours(x)).asnumpy().T[::2])


def test_integers_are_truncated():
    x = nd.array([0, 1, 2, 3, 7], dtype="int32")
    assert nd.exp(x).asnumpy().tolist() == [1, 2, 7, 20, 1096]
    assert nd.exp(x.astype("uint8")).asnumpy().tolist() == [1, 2, 7, 20, 72]
    assert nd.smooth_l1(x).asnumpy().tolist() == [0, 0, 1, 2, 6]
    assert nd.cosh(x).asnumpy().tolist() == [1, 1, 3, 10, 548]
    assert nd.array([4, 27], dtype="int64").cbrt().asnumpy().tolist() == [1, 3]
    assert nd.broadcast_hypot(x, x).asnumpy().tolist() == [0, 1, 2, 4, 9]


def test_integer_arithmetic():
    a, b = (nd.array(v, dtype="int32") for v in ([5, -5, 5, -5, 7], [3, 3, -3, -3, 2]))
    assert (a % b).asnumpy().tolist() == [2, 1, -1, -2, 1]
    assert (a / b).asnumpy().tolist() == [1, -1, -1, 1, 3]
    assert (a % 0).asnumpy().tolist() == [0] * 5
    assert nd.power(nd.array([5, -5, 2, 1], dtype="int32"), -1).asnumpy().tolist() == [0, 0, 0, 1]
    assert (2 ** nd.array([3, 0, 10], dtype="int64")).asnumpy().tolist() == [8, 1, 1024]


def test_remainder_of_zero_and_infinity():
    a = nd.array([5, 0, -3.5])
    assert (a % 0).asnumpy().tolist() == [0, 0, 0]
    assert nd.modulo(a, nd.array([0, 0, 2])).asnumpy().tolist() == [0, 0, 0.5]
    assert (7 % nd.array([3, -3, 0])).asnumpy().tolist() == [1, -2, 0]


def test_rounding_at_its_edges():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, -0.49999997, 8388609], "float32")
    assert ours(x).round().asnumpy().tolist() == [-3, -2, -1, 1, 2, 3, 0, 0, 8388609]
    assert ours(x).rint().asnumpy().tolist() == [-3, -2, -1, 0, 1, 2, 0, 0, 8388609]
    assert ours(x).fix().asnumpy().tolist() == [-2, -1, 0, 0, 1, 2, 0, 0, 8388609]
    edges = ours(np.array([np.inf, -np.inf, np.nan], "float32"))
    for name in ("round", "rint", "fix", "floor", "ceil", "trunc"):
        np.testing.assert_array_equal(getattr(edges, name)().asnumpy(), [np.inf, -np.inf, np.nan])


def test_conventions_at_kinks():
    assert gradient(nd.abs, [-1, 0, 1]) == [[-1, 0, 1]]
    assert gradient(nd.relu, [-1, 0, 1]) == [[0, 0, 1]]
    assert gradient(lambda x: x.clip(0, 1), [-1, 0, 0.5, 1, 2]) == [[0, 1, 1, 1, 0]]
    assert gradient(nd.maximum, [1, 2, 3], [2, 2, 2]) == [[0, 1, 1], [1, 0, 0]]
    assert gradient(nd.minimum, [1, 2, 3], [2, 2, 2]) == [[1, 1, 0], [0, 0, 1]]
    assert gradient(nd.smooth_l1, [-2, -1, 0, 0.5, 1]) == [[-1, -1, 0, 0.5, 1]]
    assert gradient(lambda x: nd.hard_sigmoid(x, alpha=0.25, beta=0.5), [-2, 0, 2]) == [
        [0, 0.25, 0]
    ]
    assert gradient(nd.cbrt, [1, 8, -8]) == [pytest.approx([1 / 3, 1 / 12, 1 / 12])]
    assert gradient(nd.modulo, [5, -5, 5], [3, 3, -3]) == [[1, 1, 1], [-1, 2, 2]]


def test_scalar_of_smooth_l1_may_be_zero():
    assert nd.smooth_l1(nd.array([-2, 0, 3]), scalar=0).asnumpy().tolist() == [0, 0, 0]


def test_sigmoid_keeps_small_numbers():
    y = nd.sigmoid(nd.array([-1000, -80, 0, 80, 1000])).asnumpy()
    np.testing.assert_allclose(y, [0, math.exp(-80), 0.5, 1, 1], rtol=1e-6)


def test_logic_counts_nan_as_true():
    x = nd.array([0, 2, np.nan])
    assert nd.logical_and(x, 1).asnumpy().tolist() == [0, 1, 1]
    assert nd.logical_not(x).asnumpy().tolist() == [1, 0, 0]
    assert nd.broadcast_logical_xor(x, nd.array([3])).asnumpy().tolist() == [1, 0, 0]
    assert nd.logical_or(0, x).asnumpy().tolist() == [0, 1, 1]


def test_add_n_gives_new_memory():
    x = nd.ones(3)
    y = nd.add_n(x)
    y[:] = 5
    assert x.asnumpy().tolist() == [1, 1, 1]
    assert gradient(lambda a, b: nd.ElementWiseSum(a, b, a, num_args=3), [1], [2]) == [[2], [1]]
    with pytest.raises(mx.MXNetError):
        nd.add_n(x, x.astype("float64"))


@few
@given(some)
def test_inverse_functions(x):
    for there, back, low, high in [
        ("sin", "arcsin", -1.5, 1.5),
        ("cos", "arccos", 0.1, 3),
        ("tan", "arctan", -1.5, 1.5),
        ("sinh", "arcsinh", -5, 5),
        ("cosh", "arccosh", 0.1, 5),
        ("tanh", "arctanh", -2, 2),
        ("exp", "log", -5, 5),
        ("expm1", "log1p", -5, 5),
        ("square", "sqrt", 0, 5),
        ("degrees", "radians", -5, 5),
    ]:
        a = np.clip(x, low, high).astype("float64")
        got = getattr(getattr(ours(a), there)(), back)().asnumpy()
        np.testing.assert_allclose(got, a, rtol=1e-9, atol=1e-9)


@few
@given(some)
def test_identities(x):
    a = ours(x.astype("float64"))
    np.testing.assert_allclose((a.sin() ** 2 + a.cos() ** 2).asnumpy(), 1, rtol=1e-12)
    np.testing.assert_allclose((a.cbrt() ** 3).asnumpy(), a.asnumpy(), rtol=1e-12)
    np.testing.assert_allclose((a.sigmoid() + (-a).sigmoid()).asnumpy(), 1, rtol=1e-12)
    np.testing.assert_array_equal((a.floor() + (-a).ceil()).asnumpy(), 0)
    np.testing.assert_array_equal(nd.broadcast_hypot(a, 0).asnumpy(), np.abs(x))
    np.testing.assert_array_equal(nd.add_n(a, a, a).asnumpy(), 3 * x.astype("float64"))
    assert (np.abs((a.round() - a).asnumpy()) <= 0.5).all()
    assert (np.abs((a.rint() - a).asnumpy()) <= 0.5).all()


@few
@given(st.integers(-100, 100), st.integers(-100, 100).filter(bool))
def test_remainder_is_pythons(a, b):
    for dtype in ("int8", "int32", "float32"):
        x, y = (nd.array([v], dtype=dtype) for v in (a, b))
        assert nd.modulo(x, y).asscalar() == a % b
        assert (x % b).asscalar() == (a % y).asscalar() == a % b
        if dtype != "float32":
            assert (x / y).asscalar() == int(a / b)


@few
@given(st.lists(st.sampled_from([0.0, 1.0, -2.5]), min_size=1, max_size=5))
def test_logic_is_that_of_booleans(values):
    a, b = nd.array(values), nd.array(values[::-1])
    p, q = np.array(values, bool), np.array(values[::-1], bool)
    assert (nd.logical_and(a, b).asnumpy() == (p & q)).all()
    assert (nd.logical_or(a, b).asnumpy() == (p | q)).all()
    assert (nd.logical_xor(a, b).asnumpy() == (p ^ q)).all()
    assert (nd.logical_not(a).asnumpy() == ~p).all()


def test_power_by_either_name():
    a, b = nd.array([2, 3]), nd.array([3, 2])
    assert nd.broadcast_power(lhs=a, rhs=b).asnumpy().tolist() == [8, 9]
    assert nd.power(base=a, exp=2).asnumpy().tolist() == [4, 9]
    assert nd.mod(a, 2).asnumpy().tolist() == [0, 1]


def test_gradient_of_relu_on_all_cores_equals_plain():
    g, y = np.random.default_rng(0).normal(size=(2, 3, 1 << 17)).astype("float32")
    y[0, :3] = -0.0, np.nan, np.inf
    wanted = g * (y > 0)
    assert np.array_equal(passed(g, y), wanted)
    assert np.array_equal(passed(g[:, ::2], y[:, ::2]), wanted[:, ::2])
    assert passed(g, y, out=y) is y and np.array_equal(y, wanted)
