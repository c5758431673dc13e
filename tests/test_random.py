"""Random numbers: moments, streams, shapes, gradients and refusals."""

import math
import subprocess
import sys
import threading

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, base, nd
from minigluon.base import MXNetError
from minigluon.ops import random as laws

MANY = 100_000

MOMENTS = [  # function, arguments, mean, standard deviation
    ("uniform", (0, 1), 0.5, 12**-0.5),
    ("uniform", (-1, 5), 2.0, 6 * 12**-0.5),
    ("normal", (0, 1), 0.0, 1.0),
    ("normal", (3, 2), 3.0, 2.0),
    ("exponential", (2,), 2.0, 2.0),
    ("gamma", (3, 2), 6.0, 12**0.5),
    ("gamma", (0.3, 2), 0.6, 1.2**0.5),
    ("poisson", (6,), 6.0, 6**0.5),
    ("negative_binomial", (3, 0.4), 4.5, 11.25**0.5),
    ("generalized_negative_binomial", (3, 0.4), 3.0, 6.6**0.5),
    ("generalized_negative_binomial", (3, 0), 3.0, 3**0.5),
    ("bernoulli", (0.3,), 0.3, 0.21**0.5),
    ("randint", (0, 10), 4.5, (99 / 12) ** 0.5),
]


@pytest.mark.parametrize(("name", "args", "mean", "std"), MOMENTS)
def test_moments(name, args, mean, std):
    mx.random.seed(0)
    x = getattr(nd.random, name)(*args, shape=MANY).asnumpy().astype("float64")
    assert abs(x.mean() - mean) < 5 * std / MANY**0.5
    assert abs(x.std() - std) < 0.02 * std


def normal_cdf(x):
    return (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2


def steps(pdf, *params):
    """The distribution function of counts, from our own probabilities."""
    counts = nd.arange(200, dtype="float64").reshape((1, 200))
    arrays = [nd.array([p], dtype="float64") for p in params]
    heights = getattr(nd, f"random_pdf_{pdf}")(counts, *arrays)[0].asnumpy().cumsum()
    return lambda x: heights[x.astype(int)]


CONTINUOUS = [  # name, arguments, distribution function
    ("uniform", (1, 3), lambda x: (x - 1) / 2),
    ("normal", (1, 2), lambda x: normal_cdf((x - 1) / 2)),
    ("exponential", (2,), lambda x: 1 - np.exp(-x / 2)),
    ("gamma", (2, 3), lambda x: 1 - (1 + x / 3) * np.exp(-x / 3)),
    ("gamma", (0.5, 2), lambda x: 2 * normal_cdf(np.sqrt(x)) - 1),
]
COUNTS = [
    ("poisson", (3,)),
    ("poisson", (40,)),
    ("negative_binomial", (3, 0.4)),
    ("generalized_negative_binomial", (3, 0.4)),
]


def every_form(name, args, n):
    """`n` numbers by each of MXNet's four ways to ask for them."""
    rates = (1 / args[0],) if name == "exponential" else args
    arrays = [nd.array([a]) for a in args]
    mx.random.seed(0)
    yield getattr(nd.random, name)(*args, shape=n)
    yield getattr(nd.random, name)(*arrays, shape=n)[0]
    yield getattr(nd, f"random_{name}")(*rates, shape=n)
    yield getattr(nd, f"sample_{name}")(*[nd.array([a]) for a in rates], shape=n)[0]
    yield getattr(nd.random, f"{name}_like")(nd.zeros(n), *rates)


@pytest.mark.parametrize(("name", "args", "F"), CONTINUOUS)
def test_distribution(name, args, F):
    n = 10_000
    for drawn in every_form(name, args, n):
        x, ranks = np.sort(drawn.asnumpy().astype("float64")), np.arange(n + 1) / n
        distance = max(np.max(F(x) - ranks[:-1]), np.max(ranks[1:] - F(x)))
        assert distance < 1.95 / n**0.5  # Kolmogorov and Smirnov: one case in a thousand


@pytest.mark.parametrize(("name", "args"), COUNTS)
def test_distribution_of_counts(name, args):
    n, F = 10_000, steps(name, *args)
    for drawn in every_form(name, args, n):
        share = np.bincount(drawn.asnumpy().astype(int), minlength=200).cumsum() / n
        assert np.max(np.abs(share - F(np.arange(200)))) < 1.95 / n**0.5


def test_odd_parameters():
    assert nd.random.poisson(0, shape=3).tolist() == [0, 0, 0]
    assert nd.random.negative_binomial(0, 0.4, shape=2).tolist() == [0, 0]
    assert nd.random.negative_binomial(3, 1, shape=2).tolist() == [0, 0]
    assert nd.random.normal(2, 0, shape=2).tolist() == [2, 2]
    mixed = nd.random.generalized_negative_binomial(nd.array([0, 5]), nd.array([0.4, 0]), shape=4)
    assert mixed.shape == (2, 4)
    assert mixed[0].tolist() == [0] * 4
    assert nd.random.normal(nd.array([math.nan]), nd.array([1])).shape == (1,)


LAWS = "uniform normal exponential gamma poisson negative_binomial generalized_negative_binomial"


@pytest.mark.parametrize("name", LAWS.split())
def test_types_and_shapes_of_all_forms(name):
    single = name in ("exponential", "poisson")
    params = [nd.array([[0.2, 0.3]], dtype="float64"), nd.array([[0.5, 0.6]], dtype="float64")]
    params = params[: 1 if single else 2]
    for f in (getattr(nd.random, name), getattr(nd, f"sample_{name}")):
        assert f(*params).dtype is np.float32  # as in MXNet, whatever the parameters are
        assert f(*params).shape == f(*params, shape=()).shape == (1, 2)
        assert f(*params, shape=3).shape == (1, 2, 3)
        assert f(*params, shape=(3, 1), dtype="float16").dtype is np.float16
        out = nd.zeros((1, 2, 4), dtype="float64")
        assert f(*params, shape=4, dtype="float64", out=out) is out
        assert f(*[p[:0] for p in params], shape=4).shape == (0, 2, 4)
    for dtype in ("float16", "float32", "float64"):
        like = getattr(nd.random, f"{name}_like")(nd.zeros((2, 3), dtype=dtype))
        assert like.dtype == np.dtype(dtype)
        assert like.shape == (2, 3)
        x = getattr(nd, f"random_{name}")(shape=(2, 3), dtype=dtype)
        assert x.dtype == np.dtype(dtype)
    assert getattr(nd, f"random_{name}")().shape == (1,)


def test_older_names_take_the_context_before_the_type():
    x = nd.random_normal(0, 1, 3, mx.cpu(1), "float64")
    assert (x.context, x.dtype, x.shape) == (mx.cpu(1), np.float64, (3,))
    assert nd.uniform(0, 1, 3).shape == nd.normal(0, 1, 3).shape == (3,)
    assert nd.random_randint(0, 4, shape=4).dtype is np.int32


def test_forms_agree_on_one_stream():
    forms = [
        lambda: nd.random.normal(1, 2, shape=4),
        lambda: nd.random_normal(1, 2, shape=4),
        lambda: nd.random.normal(nd.array([1]), nd.array([2]), shape=4)[0],
        lambda: nd.sample_normal(nd.array([1] * 4), nd.array([2] * 4)),
        lambda: nd.random.normal_like(nd.zeros(4), 1, 2),
    ]
    found = []
    for form in forms:
        mx.random.seed(3)
        found.append(form().tolist())
    assert all(f == found[0] for f in found)


def test_arrays_draw_from_the_stream_of_their_device():
    def draws(ctx):
        x = nd.ones((3,), ctx=ctx)
        parts = [nd.random.normal(x, x), nd.random.uniform_like(x), nd.random.shuffle(x)]
        assert all(part.context == ctx for part in parts)
        return parts[0].tolist() + parts[1].tolist()

    mx.random.seed(1)
    alone = draws(mx.cpu(1))
    mx.random.seed(1)
    draws(mx.cpu(0))
    assert draws(mx.cpu(1)) == alone
    mx.random.seed(1)
    assert draws(mx.cpu(0)) != alone


def test_a_mistake_does_not_move_the_stream():
    mx.random.seed(2)
    expected = nd.random.uniform(shape=3).tolist()
    mx.random.seed(2)
    for call, error, _ in WRONG:
        if "seed" not in call.__code__.co_names:
            with pytest.raises(error):
                call()
    assert nd.random.uniform(shape=3).tolist() == expected


def test_multinomial_shapes_and_types():
    p, rows = nd.array([0, 0.5, 0.5]), nd.array([[0, 0.5, 0.5], [1, 0, 0]])
    assert nd.random.multinomial(p).shape == (1,)
    assert nd.random.multinomial(p, shape=(3, 2)).shape == (3, 2)
    assert nd.random.multinomial(rows).shape == (2,)
    assert nd.random.multinomial(rows, shape=1).shape == (2, 1)
    assert nd.random.multinomial(nd.stack(rows, rows, rows), shape=(4, 5)).shape == (3, 2, 4, 5)
    assert nd.random.multinomial(rows[:0], shape=4).shape == (0, 4)
    assert nd.random.multinomial(p).dtype is np.int32
    for dtype in ("uint8", "float16", "int64"):
        assert nd.random.multinomial(p, dtype=dtype).dtype == np.dtype(dtype)
    index, log_p = nd.random.multinomial(rows.astype("float64"), shape=3, get_prob=True)
    assert index[1].tolist() == [0, 0, 0]
    assert log_p.dtype is np.float64
    np.testing.assert_allclose(log_p.asnumpy(), [[math.log(0.5)] * 3, [0] * 3])
    out = nd.zeros((3,), dtype="int32")
    assert nd.random.multinomial(p, shape=3, out=out) is out
    assert nd.sample_multinomial(p, 2, True, "float32")[0].dtype is np.float32


def test_nan_among_parameters_gives_nan():
    """Forecasts that feed missing values back, as those of NaN mixtures do, end in NaN,
    not in an error.
    """
    nan, one, mixed = float("nan"), nd.array([1, 1]), nd.array([float("nan"), 0.5])
    for found in (
        *(
            nd.sample_uniform(mixed, one),
            nd.sample_normal(mixed, one),
            nd.sample_normal(one, mixed),
        ),
        *(nd.sample_exponential(mixed), nd.sample_gamma(mixed, one), nd.sample_poisson(mixed)),
        *(nd.sample_negative_binomial(mixed, one), nd.sample_negative_binomial(one, mixed)),
        nd.sample_generalized_negative_binomial(mixed, one),
        nd.sample_generalized_negative_binomial(one, mixed),
    ):
        assert np.isnan(found.asnumpy()).tolist() == [True, False]
    assert np.isnan(nd.random.poisson(nan, shape=(2, 3)).asnumpy()).all()
    several = nd.sample_poisson(mixed, shape=4).asnumpy()
    assert np.isnan(several[0]).all() and np.isfinite(several[1]).all()
    with pytest.raises(MXNetError, match="must not be negative"):
        nd.sample_poisson(nd.array([nan, -1]))


def test_multinomial_of_nan(monkeypatch):
    rows = nd.array([[0.2, float("nan"), 0.3], [2, 6, 0], [float("nan")] * 3])
    with pytest.raises(MXNetError, match="NaN"):
        nd.random.multinomial(rows)
    monkeypatch.setattr(base, "LENIENT", [True])  # as in programs that import mxnet
    mx.random.seed(0)
    for draw in (lambda: nd.random.multinomial(rows, shape=4000), lambda: each(rows, 4000)):
        with pytest.warns(UserWarning, match="a probability is NaN"):
            found = draw().asnumpy()
        shares = [np.bincount(row, minlength=3) / 4000 for row in found]
        expected = [[0.2, 0.8, 0], [0.25, 0.75, 0], [1, 0, 0]]
        np.testing.assert_allclose(shares, expected, atol=0.03)
    with pytest.warns(UserWarning), pytest.raises(MXNetError, match="not negative"):
        nd.random.multinomial(nd.array([float("nan"), -1]))


def each(rows, n):
    """One outcome for each of `n` copies of the rows."""
    copies = nd.array(np.repeat(rows.asnumpy(), n, 0))
    return nd.random.multinomial(copies).reshape((-1, n))


def test_multinomial_frequencies():
    mx.random.seed(0)
    p = np.array([[0.1, 0, 0.6, 0.3, 0], [0, 0.25, 0.25, 0, 0.5]])
    for scale in (1, 10):
        drawn = nd.random.multinomial(nd.array(p * scale), shape=20_000).asnumpy()
        for row, found in zip(p, drawn):
            share = np.bincount(found, minlength=5) / 20_000
            assert (share[row == 0] == 0).all()
            assert np.abs(share - row).max() < 0.015
    many = nd.array(np.tile([0, 1, 0], (5000, 1)))
    assert (nd.random.multinomial(many, shape=20).asnumpy() == 1).all()


def test_log_probability_has_the_gradient_of_reinforce():
    p = nd.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    p.attach_grad()
    with autograd.record():
        index, log_p = nd.random.multinomial(p, shape=4, get_prob=True)
    log_p.backward(nd.array([[1, 2, 3, 4], [5, 6, 7, 8]]))
    want = np.zeros((2, 3))
    for row in range(2):
        for i, head in zip(index[row].asnumpy(), np.arange(1, 5) + 4 * row):
            want[row, i] += head / p[row, int(i)].asscalar()
    np.testing.assert_allclose(p.grad.asnumpy(), want, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["uniform", "normal", "exponential", "gamma", "poisson", "bernoulli", "randn"]
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtypes(name, dtype):
    shape = {"shape": (2, 3)} if name != "randn" else {}
    args = (2, 3) if name == "randn" else ()
    x = getattr(nd.random, name)(*args, **shape, dtype=dtype)
    assert x.dtype == np.dtype(dtype)
    assert x.shape == (2, 3)
    assert np.isfinite(x.asnumpy()).all()


def test_default_dtypes_and_shapes():
    assert nd.random.uniform().dtype is np.float32
    assert nd.random.uniform().shape == nd.random.randn().shape == (1,)
    assert nd.random.normal(shape=3).shape == nd.random.randn(3).shape == (3,)
    assert nd.random.normal(shape=np.int64(3)).shape == (3,)
    assert nd.random.randint(0, 5).dtype is np.int32
    assert nd.random.randint(0, 5, dtype="int64").dtype is np.int64
    assert nd.random.uniform(1, 1).asscalar() == 1


def test_bounds():
    x = nd.random.uniform(2, 3, MANY).asnumpy()
    assert x.min() >= 2
    assert x.max() <= 3
    assert set(nd.random.randint(-1, 2, 1000).tolist()) == {-1, 0, 1}


def test_one_seed_one_stream():
    mx.random.seed(5)
    first = nd.random.normal(shape=4).tolist() + nd.random.uniform(shape=4).tolist()
    mx.random.seed(5)
    assert nd.random.normal(shape=4).tolist() + nd.random.uniform(shape=4).tolist() == first
    mx.random.seed(6)
    assert nd.random.normal(shape=4).tolist() != first[:4]


def test_devices_do_not_disturb_each_other():
    mx.random.seed(5)
    alone = nd.random.normal(shape=4).tolist()
    mx.random.seed(5)
    other = nd.random.normal(shape=4, ctx=mx.cpu(1))
    assert other.context == mx.cpu(1)
    assert nd.random.normal(shape=4).tolist() == alone != other.tolist()
    mx.random.seed(9, ctx=mx.cpu(1))
    again = nd.random.normal(shape=4, ctx=mx.cpu(1)).tolist()
    mx.random.seed(9)
    assert nd.random.normal(shape=4, ctx=mx.cpu(1)).tolist() == again


def test_numpys_global_generator_is_left_alone():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    mx.random.seed(3)
    nd.random.uniform(shape=10)
    assert np.random.random() == expected


def test_out():
    x = nd.zeros((2, 3))
    assert nd.random.uniform(1, 2, out=x) is x
    assert (x.asnumpy() >= 1).all()
    with pytest.raises(mx.MXNetError, match="does not fit"):
        nd.random.uniform(shape=(2,), out=x)


def test_arrays_of_parameters():
    low, high = nd.array([0, 10]), nd.array([1, 20])
    x = nd.random.uniform(low, high, shape=(3, 4))
    assert x.shape == (2, 3, 4)
    assert (x[0].asnumpy() <= 1).all()
    assert (x[1].asnumpy() >= 10).all()
    assert nd.random.normal(low, high).shape == (2,)
    with pytest.raises(AssertionError):
        nd.random.uniform(low, 1)


def test_draws_are_constants():
    """As in MXNet: a draw that moved with its mean would cancel in the score of a policy."""
    mu, sigma = nd.array([1, 2]), nd.array([3, 4])
    mu.attach_grad()
    sigma.attach_grad()
    with autograd.record():
        x = nd.random.normal(mu, sigma)
        log_p = nd.random_pdf_normal(x, mu, sigma, is_log=True)
    log_p.backward()
    z = ((x - mu) / sigma).asnumpy()
    np.testing.assert_allclose(mu.grad.asnumpy(), z / sigma.asnumpy(), rtol=1e-5)
    np.testing.assert_allclose(sigma.grad.asnumpy(), (z * z - 1) / sigma.asnumpy(), rtol=1e-5)
    with autograd.record():
        y = mu + sigma * nd.random.normal_like(mu)
    y.backward()
    assert mu.grad.tolist() == [1, 1]


def test_densities_off_their_support_and_at_its_edge():
    def at(name, x, *params, **settings):
        arrays = [nd.array([p]) for p in params]
        return getattr(nd, f"random_pdf_{name}")(nd.array([x]), *arrays, **settings)[0].tolist()

    assert at("uniform", [-0.1, 0, 0.5, 1.1], 0, 1) == [0, 1, 1, 0]
    assert at("exponential", [-1, 0], 2) == [0, 2]
    assert at("gamma", [-1, 0], 1, 3) == [0, 3]
    assert at("gamma", [-1, 0], 2, 3, is_log=True) == [-math.inf, -math.inf]
    assert at("poisson", [-1, 0, 1], 0) == [0, 1, 0]
    assert at("negative_binomial", [-1, 0], 3, 1) == [0, 1]
    big = at("poisson", [1e6], 1e6, is_log=True)[0]
    assert abs(big + math.log(2 * math.pi * 1e6) / 2) < 1e-3
    half = nd.random_pdf_normal(
        nd.ones((1, 2), dtype="float16"), *[nd.ones(1, dtype="float16")] * 2
    )
    assert half.dtype is np.float16
    with pytest.raises(mx.MXNetError, match="floating-point"):
        nd.random_pdf_poisson(nd.ones((1, 2), dtype="int32"), nd.ones(1, dtype="int32"))


def test_zipfian_without_repetition():
    classes, trials = nd._internal._sample_unique_zipfian(30, shape=(3, 20))
    assert classes.shape == (3, 20) and trials.shape == (3,) and trials.dtype == np.int64
    assert all(len({*row}) == 20 and max(row) < 30 for row in classes.asnumpy().tolist())
    assert (trials.asnumpy() >= 20).all()
    classes, trials = nd._internal._sample_unique_zipfian(793472, shape=(2, 8192))
    assert ((trials > 14500) * (trials < 17000)).asnumpy().all()  # MXNet's own bounds
    with pytest.raises(mx.MXNetError, match="too few"):
        nd._internal._sample_unique_zipfian(3, shape=(1, 4))


def test_zipfian():
    mx.random.seed(0)
    found = nd.contrib.rand_zipfian(nd.array([3, 1]), 50_000, 5)
    assert [x.dtype for x in found] == [np.int64, np.float64, np.float64]
    classes, true, sampled = (x.asnumpy() for x in found)
    chance = np.log((np.arange(5) + 2) / (np.arange(5) + 1)) / np.log(6)
    np.testing.assert_allclose(np.bincount(classes) / 50_000, chance, atol=0.01)
    np.testing.assert_allclose(true, 50_000 * chance[[3, 1]])
    np.testing.assert_allclose(sampled, 50_000 * chance[classes])


def test_shuffle_permutes_slices():
    x = nd.arange(20).reshape((10, 2))
    y = nd.random.shuffle(x)
    assert sorted(y.tolist()) == x.tolist()
    with pytest.raises(AssertionError):
        nd.random.shuffle([1, 2])


WRONG = [
    (lambda: nd.random.uniform(3, 1), mx.MXNetError, "low=3 must be less"),
    (lambda: nd.random.normal(0, -1), mx.MXNetError, "not negative"),
    (lambda: nd.random.normal(nd.array([0]), nd.array([-1])), mx.MXNetError, "not negative"),
    (lambda: nd.random.exponential(-1), mx.MXNetError, "positive"),
    (lambda: nd.random.exponential(0), mx.MXNetError, "positive"),
    (lambda: nd.random_exponential(lam=0), mx.MXNetError, "positive"),
    (lambda: nd.random.exponential("a"), ValueError, "numbers or NDArrays"),
    (lambda: nd.random.gamma(0, 1), mx.MXNetError, "alpha=0 must be positive"),
    (lambda: nd.random.gamma(1, -1), mx.MXNetError, "beta=-1 must be positive"),
    (lambda: nd.random.gamma(nd.array([1, -2]), nd.array([1, 1])), mx.MXNetError, "positive"),
    (lambda: nd.random.poisson(-1), mx.MXNetError, "negative"),
    (lambda: nd.random.poisson(1e30), mx.MXNetError, "too large"),
    (lambda: nd.random.poisson(2, dtype="int32"), mx.MXNetError, "float"),
    (lambda: nd.random.negative_binomial(2.5, 0.4), mx.MXNetError, "whole number"),
    (lambda: nd.random.negative_binomial(3, 0), mx.MXNetError, "positive"),
    (lambda: nd.random.negative_binomial(3, 1.4), mx.MXNetError, "at most 1"),
    (lambda: nd.random.generalized_negative_binomial(3, -1), mx.MXNetError, "alpha=-1"),
    (lambda: nd.random.multinomial([0, 1]), AssertionError, "NDArray"),
    (lambda: nd.random.multinomial(nd.array([0, 0])), mx.MXNetError, "positive"),
    (lambda: nd.random.multinomial(nd.array([math.nan, 1])), mx.MXNetError, "NaN"),
    (lambda: nd.random.multinomial(nd.ones(300), dtype="uint8"), mx.MXNetError, "told apart"),
    (lambda: nd.random.multinomial(nd.array([1, 2], dtype="int32")), mx.MXNetError, "floating"),
    (lambda: nd.random.uniform_like([1]), AssertionError, "NDArray"),
    (lambda: nd.random.uniform_like(nd.ones(2), 3, 2), mx.MXNetError, "low"),
    (lambda: nd.random.uniform_like(nd.ones(2, dtype="int32")), mx.MXNetError, "float"),
    (lambda: nd.sample_uniform(0, 1), AssertionError, "NDArray"),
    (lambda: nd.random_uniform(nd.ones(2), nd.ones(2)), mx.MXNetError, "sample_uniform"),
    (lambda: nd.random.uniform(nd.ones(2), nd.ones(3)), mx.MXNetError, "not the same"),
    (lambda: nd.random.randint(-3, 2**40), mx.MXNetError, "out of bounds"),
    (lambda: nd.random.uniform(dtype="float64", out=nd.ones(2)), mx.MXNetError, "does not fit"),
    (lambda: nd.random.bernoulli(1.5), mx.MXNetError, "between 0 and 1"),
    (lambda: nd.random.randint(5, 0), mx.MXNetError, "low below high"),
    (lambda: nd.random.randint(0, 5.5), mx.MXNetError, "whole numbers"),
    (lambda: nd.random.uniform(dtype="int32"), mx.MXNetError, "float"),
    (lambda: nd.random.randint(0, 5, dtype="float32"), mx.MXNetError, "int"),
    (lambda: nd.random.uniform(shape=-1), mx.MXNetError, r"shape \(-1,\)"),
    (lambda: nd.random.uniform(shape="a"), mx.MXNetError, "shape 'a'"),
    (lambda: nd.random.uniform(shape=(2, 1.5)), mx.MXNetError, "whole number"),
    (lambda: nd.random.uniform(low="a"), ValueError, "numbers or NDArrays"),
    (lambda: mx.random.seed("a"), ValueError, "must be int"),
    (lambda: mx.random.seed(1.5), ValueError, "must be int"),
]


@pytest.mark.parametrize(("call", "error", "says"), WRONG)
def test_refusals(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_threads_share_a_stream_without_repeating_it():
    mx.random.seed(0)
    drawn, lock = [], threading.Lock()

    def work():
        for _ in range(50):
            part = nd.random.uniform(shape=10, dtype="float64").tolist()
            with lock:
                drawn.extend(part)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    mx.random.seed(0)
    assert sorted(drawn) == sorted(nd.random.uniform(shape=2000, dtype="float64").tolist())


def test_what_mx_random_draws_has_all_methods():
    code = "import minigluon as mx; mx.random.uniform(shape=(2, 2)).dot(mx.nd.ones((2, 2))).sum()"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import minigluon as mx; mx.random.uniform(shape=3).exp().sum()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_misspelt_arguments_are_refused():
    for wrong in (
        lambda: mx.nd.random.normal(shpe=(2,)),
        lambda: mx.nd.random.normal(mx.nd.ones(2), mx.nd.ones(2), shpe=(2,)),
        lambda: mx.nd.random.randint(0, 3, shpe=(2,)),
    ):
        with pytest.raises(mx.MXNetError, match="no argument shpe"):
            wrong()
    assert mx.nd.random.normal(shape=(2,), name="noise").shape == (2,)


@pytest.mark.parametrize("zero", [False, True])
def test_what_is_below_0_is_found_behind_what_is_no_number(zero):
    wrong, fine = laws.negative, [3.0, np.nan]
    assert wrong(-1, zero) and wrong(np.float32([2, np.nan, -1]), zero)
    assert not (wrong(1.5, zero) or wrong(np.float32(fine), zero) or wrong(np.float32([]), zero))
    assert wrong(0.0, zero) == wrong(np.float32([1, 0]), zero) == zero


PARAMETERS = {
    "uniform": (-1, 2),
    "normal": (0.5, 2),
    "exponential": (0.5,),
    "gamma": (2, 3),
    "poisson": (3,),
    "negative_binomial": (3, 0.4),
    "generalized_negative_binomial": (3, 0.4),
}


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.parametrize("name", PARAMETERS)
def test_what_is_nearly_always_asked_for_is_what_the_long_way_gives(name, as_arrays, monkeypatch):
    params, shape = PARAMETERS[name], (2, 3)
    if as_arrays:
        params, shape = [nd.array([p, p]) for p in params], 3

    def drawn():
        mx.random.seed(7)
        return [getattr(mx.random, name)(*params, shape=shape) for _ in range(2)]

    soon = drawn()
    monkeypatch.setattr(mx.random, "at_once", None)  # as where it fails: a TypeError
    monkeypatch.setattr(mx.random, "COLUMN", "no index")
    late = drawn()
    for a, b in zip(soon, late):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
        assert (a.shape, a.dtype, a.context) == (b.shape, b.dtype, b.context)
    assert not np.array_equal(soon[0].asnumpy(), soon[1].asnumpy())


def test_one_outcome_of_each_row_is_what_the_long_way_gives(monkeypatch):
    chance = nd.array([[0.2, 0.8], [1, 0], [0.5, 0.5]])

    def drawn():
        mx.random.seed(7)
        return [mx.random.multinomial(chance).asnumpy().tolist() for _ in range(20)]

    soon = drawn()
    monkeypatch.setattr(mx.random, "choose", None)
    assert drawn() == soon and len({*map(tuple, soon)}) > 1


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda x: mx.random.gamma(x, x, shape=4), "in sample_gamma(alpha: float32[2]"),
        (lambda x: mx.random.normal(x, x, shape=4), "in sample_normal(mu: float32[2]"),
        (lambda x: mx.random.multinomial(x), "in sample_multinomial(data: float32[2]"),
        (lambda x: mx.random.uniform(x, x.astype("float64"), shape=4), "different types"),
        (lambda x: mx.random.uniform(x, nd.ones(3), shape=4), "shapes (2,) and (3,)"),
        (lambda x: mx.random.uniform(0, 1, shape=(2, -1)), "sizes are not negative"),
        (lambda x: mx.random.uniform(0, 1, shape=(2, 1.5)), "whole number"),
        (lambda x: mx.random.gamma(-1, 1, shape=(2,)), "gamma: alpha=-1 must be positive"),
    ],
)
def test_the_short_way_fails_in_the_words_of_the_long_one(call, says):
    with pytest.raises(mx.MXNetError) as failure:
        call(nd.array([-1, 1]))
    assert says in str(failure.value)


def test_failures_of_zero_leave_zeros():
    mx.random.seed(0)
    assert mx.random.negative_binomial(0, 0.5, shape=(4,)).asnumpy().tolist() == [0] * 4
    some = mx.random.negative_binomial(nd.array([0, 5]), nd.array([0.5, 0.1]), shape=50).asnumpy()
    assert some[0].max() == 0 < some[1].min()
