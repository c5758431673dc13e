"""Random numbers: moments, streams, shapes, gradients and refusals."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, nd

MANY = 100_000

MOMENTS = [  # function, arguments, mean, standard deviation
    ("uniform", (0, 1), 0.5, 12**-0.5),
    ("uniform", (-1, 5), 2.0, 6 * 12**-0.5),
    ("normal", (0, 1), 0.0, 1.0),
    ("normal", (3, 2), 3.0, 2.0),
    ("exponential", (2,), 2.0, 2.0),
    ("bernoulli", (0.3,), 0.3, 0.21**0.5),
    ("randint", (0, 10), 4.5, (99 / 12) ** 0.5),
]


@pytest.mark.parametrize(("name", "args", "mean", "std"), MOMENTS)
def test_moments(name, args, mean, std):
    mx.random.seed(0)
    x = getattr(nd.random, name)(*args, shape=MANY).asnumpy().astype("float64")
    assert abs(x.mean() - mean) < 5 * std / MANY**0.5
    assert abs(x.std() - std) < 0.02 * std


@pytest.mark.parametrize("name", ["uniform", "normal", "exponential", "bernoulli", "randn"])
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


def test_gradient_passes_through_location_and_scale():
    mu, sigma = nd.array([1, 2]), nd.array([3, 4])
    mu.attach_grad()
    sigma.attach_grad()
    with autograd.record():
        x = nd.random.normal(mu, sigma)
    x.backward()
    assert mu.grad.tolist() == [1, 1]
    np.testing.assert_allclose((mu + sigma * sigma.grad).asnumpy(), x.asnumpy(), rtol=1e-6)


def test_shuffle_permutes_slices():
    x = nd.arange(20).reshape((10, 2))
    y = nd.random.shuffle(x)
    assert sorted(y.tolist()) == x.tolist()
    with pytest.raises(AssertionError):
        nd.random.shuffle([1, 2])


WRONG = [
    (lambda: nd.random.uniform(3, 1), mx.MXNetError, "low must be less"),
    (lambda: nd.random.normal(0, -1), mx.MXNetError, "not negative"),
    (lambda: nd.random.normal(nd.array([0]), nd.array([-1])), mx.MXNetError, "not negative"),
    (lambda: nd.random.exponential(-1), mx.MXNetError, "not negative"),
    (lambda: nd.random.bernoulli(1.5), mx.MXNetError, "between 0 and 1"),
    (lambda: nd.random.randint(5, 0), mx.MXNetError, "low below high"),
    (lambda: nd.random.randint(0, 5.5), mx.MXNetError, "whole numbers"),
    (lambda: nd.random.uniform(dtype="int32"), mx.MXNetError, "float"),
    (lambda: nd.random.randint(0, 5, dtype="float32"), mx.MXNetError, "int"),
    (lambda: nd.random.uniform(shape=-1), mx.MXNetError, "shape=-1"),
    (lambda: nd.random.uniform(shape="a"), mx.MXNetError, "shape='a'"),
    (lambda: nd.random.uniform(shape=(2, 1.5)), mx.MXNetError, "shape="),
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
