"""Special functions against Python's own; operators whose rule is no derivative; checks on numbers."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigluon as mx
from minigluon import nd
from minigluon.op import operators
from minigluon.ops.special import BLOCK

few = settings(max_examples=60, deadline=None)
some = st.lists(st.floats(-30, 30), min_size=1, max_size=20)


def double(values):
    return nd.array(values, dtype="float64")


def python(f, values):
    return np.array([f(v) for v in values])


def gradient(f, x, dtype="float32"):
    x = nd.array(x, dtype=dtype)
    x.attach_grad()
    with mx.autograd.record():
        y = f(x)
    y.backward()
    return x.grad.asnumpy().tolist()


def test_fourteen_digits():
    rng = np.random.default_rng(0)
    for name, f, x, rtol in [
        (
            "erf",
            math.erf,
            np.concatenate([rng.normal(0, 2, 3000), 10.0 ** -np.arange(1, 300)]),
            4e-15,
        ),
        (
            "gamma",
            math.gamma,
            np.concatenate([rng.uniform(0, 171, 3000), np.arange(1, 171)]),
            1e-13,
        ),
        ("gamma", math.gamma, rng.uniform(-30, 0, 3000), 1e-13),
        ("gammaln", math.lgamma, 10 ** rng.uniform(-8, 300, 3000), 1e-14),
        ("gammaln", math.lgamma, rng.uniform(0.01, 0.9, 3000), 1e-13),
        ("gammaln", math.lgamma, rng.uniform(2.1, 20, 3000), 1e-13),
    ]:
        got = getattr(nd, name)(double(x)).asnumpy()
        np.testing.assert_allclose(got, python(f, x), rtol=rtol, err_msg=name)


def test_logarithm_beside_its_zeros():
    """Python's own lgamma loses its digits there: against its slope and curvature."""
    h = 2.0 ** -np.arange(20, 50)
    euler, bend = 0.57721566490153286, math.pi**2 / 6
    for x, slope, curve in [(1, -euler, bend), (2, 1 - euler, bend - 1)]:
        for h_signed in (h, -h):
            got = nd.gammaln(double(x + h_signed)).asnumpy()
            want = h_signed * (slope + h_signed * curve / 2)
            np.testing.assert_allclose(got, want, rtol=2e-12)


def test_inverse_of_erf():
    y = np.concatenate([np.linspace(-0.999, 0.999, 301), 1 - 10.0 ** -np.arange(4, 16)])
    want = python(lambda v: NormalDist().inv_cdf((1 + v) / 2) / math.sqrt(2), y[:301])
    got = nd.erfinv(double(y)).asnumpy()
    np.testing.assert_allclose(got[:301], want, rtol=1e-12, atol=1e-15)
    erfc = python(math.erfc, got[301:])
    np.testing.assert_allclose(erfc, 1 - y[301:], rtol=1e-12)
    tiny = 10.0 ** -np.arange(5, 300)
    np.testing.assert_allclose(nd.erfinv(double(tiny)).asnumpy(), tiny * math.sqrt(math.pi) / 2)


@pytest.mark.parametrize("name", ["erf", "erfinv", "gamma", "gammaln", "digamma"])
def test_single_and_half_precision(name):
    x = np.linspace(0.05, 0.95, 19)
    want = operators[name](double(x)).asnumpy()
    for dtype, rtol in [("float32", 1e-6), ("float16", 4e-3)]:
        got = operators[name](nd.array(x, dtype=dtype))
        assert np.dtype(got.dtype) == dtype
        np.testing.assert_allclose(got.asnumpy(), want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", ["erf", "gamma", "gammaln", "digamma"])
def test_blocks_make_no_difference(name):
    x = np.random.default_rng(0).uniform(0.5, 5, (3, BLOCK)).astype("float32")
    whole = operators[name](mx.nd.NDArray(x.T, mx.cpu())).asnumpy()
    np.testing.assert_array_equal(whole[:5], operators[name](nd.array(x.T[:5])).asnumpy())
    assert whole.shape == (BLOCK, 3) and whole.dtype == "float32"


def test_values_at_the_edges():
    inf, nan = np.inf, np.nan

    def answers(name, values):
        return operators[name](nd.array(values)).asnumpy()

    assert answers("erf", [inf, -inf, 40, -40, 0]).tolist() == [1, -1, 1, -1, 0]
    np.testing.assert_array_equal(answers("erf", [nan]), [nan])
    np.testing.assert_array_equal(answers("erfinv", [-1, 1, 0, 2, nan]), [-inf, inf, 0, nan, nan])
    edges = [inf, -inf, 0.0, -0.0, -1, -2, 171, -100.5, nan]
    np.testing.assert_array_equal(
        answers("gamma", edges), [inf, nan, inf, -inf, nan, nan, inf, -0.0, nan]
    )
    edges = [inf, -inf, 0.0, -0.0, -1, -2, 1, 2, nan]
    np.testing.assert_array_equal(
        answers("gammaln", edges), [inf, inf, inf, inf, inf, inf, 0, 0, nan]
    )


def test_integers():
    x = nd.array([1, 2, 3, 7], dtype="int32")
    assert nd.gamma(x).asnumpy().tolist() == [1, 1, 2, 720]
    assert nd.gammaln(x).asnumpy().tolist() == [0, 0, 0, 6]
    assert np.dtype(nd.erf(x).dtype) == "int32"
    factorials = nd.gamma(nd.arange(1, 20).astype("int64")).asnumpy().tolist()
    assert factorials[:12] == [math.factorial(n) for n in range(12)]


def test_known_gradients():
    assert gradient(nd.erf, [0]) == [pytest.approx(2 / math.sqrt(math.pi))]
    assert gradient(nd.erfinv, [0]) == [pytest.approx(math.sqrt(math.pi) / 2)]
    assert gradient(nd.gammaln, [1]) == [pytest.approx(-0.5772157)]
    assert gradient(nd.gamma, [5, -0.5]) == [
        pytest.approx(v, rel=1e-5) for v in (36.1468277, -0.1293534)
    ]


@few
@given(some)
def test_erf_is_odd_and_monotone(values):
    x = np.sort(values)
    y = nd.erf(double(x)).asnumpy()
    np.testing.assert_array_equal(nd.erf(double(-x)).asnumpy(), -y)
    assert (np.diff(y) >= -1e-15).all() and (np.abs(y) <= 1).all()
    np.testing.assert_allclose(y, python(math.erf, x), rtol=1e-14)


@few
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.integers(0, 4))
def test_recurrences(values, n):
    x = double(values)
    steps = x.asnumpy()
    np.testing.assert_allclose(nd.gamma(x + 1).asnumpy(), (nd.gamma(x) * x).asnumpy(), rtol=1e-12)
    polygamma = operators["polygamma"]
    difference = (polygamma(x + 1, n=n) - polygamma(x, n=n)).asnumpy()
    want = (-1) ** n * math.factorial(n) * steps ** (-n - 1.0)
    scale = np.abs(polygamma(x, n=n).asnumpy())
    assert (np.abs(difference - want) <= 1e-12 * (scale + np.abs(want))).all()


@few
@given(st.lists(st.floats(0.05, 0.95), min_size=1, max_size=10), st.integers(0, 5))
def test_reflection(values, n):
    x = double(values)
    product = nd.gamma(x - n) * nd.gamma(1 + n - x)
    want = math.pi / np.sin(math.pi * np.array(values)) * (-1) ** n
    np.testing.assert_allclose(product.asnumpy(), want, rtol=1e-10)


def test_make_loss_starts_gradients():
    def loss(x):
        return nd.make_loss(2 * x) * 7

    assert gradient(loss, [1, 2]) == [2, 2]
    x = [[0, -1, 2], [3, 0.4, 0]]
    for chosen, want in [
        ({}, 1),
        ({"grad_scale": 2, "normalization": "batch"}, 1),
        ({"grad_scale": 2, "normalization": "valid"}, 2 / 3),
        ({"grad_scale": 2, "normalization": "valid", "valid_thresh": 1}, 1),
        ({"normalization": "valid", "valid_thresh": 100}, 1),
    ]:
        found = gradient(lambda x, s=chosen: nd.MakeLoss(x, **s) * 7, x)
        np.testing.assert_allclose(found, np.full((2, 3), want), rtol=1e-6)


def test_straight_through_and_multiplied_gradients():
    assert gradient(nd.contrib.round_ste, [1.5, -0.5, 2.5]) == [1, 1, 1]
    assert gradient(nd.contrib.sign_ste, [1.5, -0.5, 0]) == [1, 1, 1]
    assert gradient(lambda x: nd.contrib.gradientmultiplier(x, scalar=-2.5), [1, 2]) == [-2.5, -2.5]
    assert nd.contrib.round_ste(nd.array([-1.5, 0.4])).asnumpy().tolist() == [-2, 0]


def test_mixed_precision():
    half, single, whole = nd.ones(2, dtype="float16"), nd.ones(2), nd.ones(2, dtype="int32")
    assert np.dtype(nd.amp_cast(single, dtype="float16").dtype) == "float16"
    assert np.dtype(nd.amp_cast(whole, dtype="float16").dtype) == "int32"
    wide = nd.amp_multicast(half, single, whole, num_outputs=3)
    assert [str(np.dtype(a.dtype)) for a in wide] == ["float32", "float32", "int32"]
    narrow = nd.amp_multicast(half, single, num_outputs=2, cast_narrow=True)
    assert [str(np.dtype(a.dtype)) for a in narrow] == ["float16", "float16"]
    half.attach_grad(), single.attach_grad()
    with mx.autograd.record():
        a, b = nd.amp_multicast(half, single, num_outputs=2)
        y = (2 * a + 3 * b).sum()
    y.backward()
    assert np.dtype(half.grad.dtype) == "float16" and half.grad.asnumpy().tolist() == [2, 2]
    assert single.grad.asnumpy().tolist() == [3, 3]


def test_checks_on_numbers():
    good, bad = nd.array([1, 2]), nd.array([1, np.inf])
    assert nd.all_finite(good).asnumpy().tolist() == [1]
    assert np.dtype(nd.all_finite(bad.astype("float16")).dtype) == "float32"
    assert nd.multi_all_finite(good, bad, num_arrays=2).asnumpy().tolist() == [0]
    assert nd.multi_all_finite(good, good, num_arrays=2).asnumpy().tolist() == [1]
    sums = nd.multi_sum_sq(good.astype("float16"), nd.ones((2, 3), dtype="float16"), num_arrays=2)
    assert np.dtype(sums.dtype) == "float32" and sums.asnumpy().tolist() == [5, 6]
    with pytest.raises(mx.MXNetError):
        nd.all_finite(nd.ones(2, dtype="int32"))


def test_reset_arrays_writes_in_place():
    a, b = nd.ones((2, 3)), nd.ones(4)
    assert nd.reset_arrays(a, b, num_arrays=2) == []
    assert a.asnumpy().sum() == b.asnumpy().sum() == 0


def test_contributed_checks():
    x = nd.array([np.nan, np.inf, -np.inf, 1])
    assert nd.contrib.isnan(x).asnumpy().tolist() == [1, 0, 0, 0]
    assert nd.contrib.isinf(x).asnumpy().tolist() == [0, 1, 1, 0]
    assert nd.contrib.isfinite(x.astype("float16")).asnumpy().tolist() == [0, 0, 0, 1]
    assert np.dtype(nd.contrib.isnan(nd.ones(2, dtype="int32")).dtype) == "int32"
    assert nd.contrib.allclose(x, x).asscalar() == 1
    assert nd.contrib.allclose(x, x, equal_nan=False).asscalar() == 0
    assert nd.contrib.allclose(nd.ones(2), nd.ones(2) * 1.01, rtol=0.1).asscalar() == 1
    assert nd.contrib.quadratic(
        nd.array([1, 2], dtype="int32"), a=1.5, b=2, c=0.7
    ).asnumpy().tolist() == [4, 10]
    assert nd.contrib.div_sqrt_dim(nd.array([[4, 8, 1, 2]], dtype="int32")).asnumpy().tolist() == [
        [2, 4, 0, 1]
    ]


@pytest.mark.parametrize(
    "call",
    [
        nd.exp,
        nd.tanh,
        nd.sigmoid,
        nd.erf,
        nd.gammaln,
        lambda x: nd.Activation(x, "softrelu"),
        lambda x: nd.LeakyReLU(x, slope=0.1),
        *[
            lambda x, kind=kind: nd.LeakyReLU(x, act_type=kind, slope=0.7)
            for kind in ("elu", "selu", "gelu")
        ],
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_many_numbers_are_computed_as_few(call, dtype, monkeypatch):
    monkeypatch.setenv("MINIGLUON_NATIVE", "0")  # loops, which round otherwise: test_step_loops.py
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3, 1 << 17)) * 2).astype(dtype)
    x[0, :3] = np.inf, -np.inf, np.nan
    for part in (x, x[:, ::2]):  # in a row in memory, and not
        a = nd.array(part, dtype=dtype)
        a.attach_grad()
        with mx.autograd.record():
            y = call(a)
        y.backward()
        b = nd.array(part[1, :1000], dtype=dtype)
        b.attach_grad()
        with mx.autograd.record():
            z = call(b)
        z.backward()
        np.testing.assert_array_equal(y[1, :1000].asnumpy(), z.asnumpy())
        np.testing.assert_array_equal(a.grad[1, :1000].asnumpy(), b.grad.asnumpy())
    one = call(mx.np.array(1.5, dtype=dtype).as_nd_ndarray())
    assert one.shape == () and np.dtype(one.dtype) == dtype
