"""Loops over windows and channels against NumPy's way: kernels/cpu/windows.cpp, chapter 96k."""

import os
import subprocess
import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd

R = np.random.default_rng(0)
pytestmark = pytest.mark.loops


def draw(*shape):
    return R.standard_normal(shape).astype("float32")


def conv(kernel, stride=(1, 1), pad=(0, 0), bias=False):
    """A convolution with a filter a channel, as a function, and how its filters are made."""

    def run(x, w, *b):
        same = {"kernel": kernel, "stride": stride, "pad": pad, "num_group": x.shape[1]}
        return mx.nd.Convolution(x, w, *b, num_filter=x.shape[1], no_bias=not bias, **same)

    return run


def with_filters(kernel, shape, bias=False, **settings):
    c = shape[1]
    return conv(kernel, bias=bias, **settings), [draw(*shape), draw(c, 1, *kernel)] + [
        draw(c)
    ] * bias


def pool(pool_type, kernel, shape, **settings):
    run = lambda x: mx.nd.Pooling(x, kernel=kernel, pool_type=pool_type, **settings)
    return run, [draw(*shape)]


ODD, BOTH = (2, 3, 13, 11), (4, 6, 60, 60)
TWO, ONE = (2, 2), (1, 1)
CASES = {
    "3 x 3": with_filters((3, 3), ODD, pad=ONE),
    "3 x 3 with bias": with_filters((3, 3), ODD, pad=ONE, bias=True),
    "3 x 3, no border": with_filters((3, 3), ODD),
    "3 x 3, stride 2": with_filters((3, 3), ODD, stride=TWO, pad=ONE),
    "3 x 3 on both cores": with_filters((3, 3), BOTH, pad=ONE, bias=True),
    "3 x 3, stride 2, even": with_filters((3, 3), (1, 2, 8, 12), stride=TWO, pad=ONE),
    "3 x 3 on 1 x 1": with_filters((3, 3), (5, 4, 1, 1), pad=ONE),
    "5 x 5": with_filters((5, 5), ODD, pad=TWO),
    "5 x 5, stride 2": with_filters((5, 5), ODD, stride=TWO, pad=TWO),
    "5 x 5, stride 3": with_filters((5, 5), ODD, stride=(3, 3), pad=TWO),
    "1 x 1": with_filters((1, 1), ODD),
    "1 x 1, stride 2": with_filters((1, 1), ODD, stride=TWO),
    "2 x 2, stride 5": with_filters((2, 2), ODD, stride=(5, 5)),
    "7 x 7": with_filters((7, 7), ODD, pad=(3, 3)),
    "1 x 5, stride 2 and 1": with_filters((1, 5), ODD, stride=(2, 1), pad=(0, 2)),
    "4 x 3, wide border": with_filters((4, 3), ODD, stride=(1, 2), pad=(3, 5)),
    "max": pool("max", (3, 3), ODD, stride=TWO, pad=ONE),
    "max of 2 x 2": pool("max", TWO, ODD, stride=TWO),
    "max, stride 1": pool("max", (3, 3), ODD, pad=ONE),
    "max, full": pool("max", (3, 3), ODD, stride=TWO, pooling_convention="full"),
    "max, same": pool("max", (3, 3), ODD, stride=TWO, pooling_convention="same"),
    "max, gaps": pool("max", TWO, ODD, stride=(3, 4)),
    "max on both cores": pool("max", (3, 3), BOTH, stride=TWO, pad=ONE),
    "max of one channel": pool("max", TWO, (40, 1, 50, 40), stride=TWO),
    "mean": pool("avg", (3, 3), ODD, stride=TWO, pad=ONE),
    "mean of 2 x 2": pool("avg", TWO, ODD, stride=TWO),
    "mean of what is there": pool("avg", (3, 3), ODD, pad=ONE, count_include_pad=False),
    "mean, full": pool("avg", (3, 2), ODD, stride=TWO, pooling_convention="full"),
    "mean, same": pool("avg", (3, 3), ODD, stride=TWO, pooling_convention="same"),
    "mean on both cores": pool("avg", (3, 3), BOTH, stride=TWO, pad=ONE),
    "sum": pool("sum", (3, 4), ODD, stride=(1, 3), pad=ONE),
    "lp": pool("lp", (3, 3), ODD, stride=TWO, p_value=2),
}


def results(f, arrays, mode="write"):
    """The output, and the gradients of a loss that weighs each number of it differently."""
    arrays = [mx.nd.array(a, dtype=a.dtype) for a in arrays]
    for a in arrays:
        a.attach_grad(mode)
    with autograd.record():
        y = f(*arrays)
        loss = (y * mx.nd.array(np.cos(np.arange(y.size)).reshape(y.shape))).sum()
    loss.backward()
    return [a.asnumpy() for a in (y, *(a.grad for a in arrays))]


@pytest.mark.parametrize("case", CASES)
def test_windows_are_those_of_numpy(case, by_numpy, called):
    found = results(*CASES[case])
    assert len({*called}) >= (3 if len(CASES[case][1]) > 1 else 2)
    for a, b in zip(found, by_numpy(lambda: results(*CASES[case])), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.allclose(a, b, rtol=1e-4, atol=2e-5 * max(1, np.abs(b).max()))


def tied(*shape):
    return R.integers(0, 3, shape).astype("float32")


@pytest.mark.parametrize("kernel, stride, pad", [(3, 1, 1), (3, 2, 1), (2, 2, 0), (4, 2, 1)])
def test_the_first_maximum_gets_the_gradient(kernel, stride, pad, by_numpy, called):
    f, _ = pool("max", (kernel,) * 2, ODD, stride=(stride,) * 2, pad=(pad,) * 2)
    x = tied(*ODD)
    run = lambda: results(f, [x])
    for a, b in zip(run(), by_numpy(run)):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert {*called} == {"maxima", "maxima_data"}


@pytest.mark.parametrize("case", ["max", "max of 2 x 2", "mean", "sum", "max, full"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_stay_in_their_windows(case, bad, by_numpy):
    f, (x,) = CASES[case]
    x = x.copy()
    x[0, 0, 0, 0] = x[1, 2, 6:10, 3:9] = bad
    with np.errstate(all="ignore"):
        run = lambda: results(f, [x])
        for a, b in zip(run(), by_numpy(run)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["3 x 3", "5 x 5, stride 2"])
def test_nan_is_seen_by_the_windows_that_see_it(case):
    f, (x, w) = CASES[case]
    x = x.copy()
    x[1, 2, 6, 4] = np.nan
    y = f(mx.nd.array(x), mx.nd.array(w)).asnumpy()
    seen = f(mx.nd.array(np.isnan(x)), mx.nd.ones(w.shape)).asnumpy() > 0
    assert (np.isnan(y) == seen).all() and seen.any()


@pytest.mark.parametrize("case", ["3 x 3", "3 x 3, stride 2", "max", "mean", "lp"])
def test_second_derivatives_follow_loops(case, by_numpy):
    f, arrays = CASES[case]

    def run():
        given = [mx.nd.array(a) for a in arrays]
        for a in given:
            a.attach_grad()
        with autograd.record():
            y = f(*given)
            grads = autograd.grad((y * y * y).sum(), given, create_graph=True)
            loss = sum((g * g).sum() for g in grads)
        loss.backward()
        return [a.grad.asnumpy() for a in given]

    for a, b in zip(run(), by_numpy(run)):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("case", ["3 x 3 with bias", "max", "mean of what is there"])
def test_views_and_added_gradients(case, by_numpy):
    f, (x, *more) = CASES[case]
    turned = lambda x, *a: f(x.transpose((1, 0, 3, 2)), *a)
    for run in (
        lambda: results(turned, [x.transpose(1, 0, 3, 2), *more]),
        lambda: results(f, [x, *more], "add"),
    ):
        for a, b in zip(run(), by_numpy(run)):
            assert np.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_compiled_networks_take_loops(by_numpy, called):
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Conv2D(6, 3, padding=1, groups=6, in_channels=6, use_bias=False),
        mx.gluon.nn.BatchNorm(in_channels=6),
        mx.gluon.nn.MaxPool2D(3, 2, 1),
        mx.gluon.nn.AvgPool2D(2),
    )
    net.initialize(mx.init.Normal(1))
    x = draw(3, 6, 20, 18)
    eager = net(mx.nd.array(x)).asnumpy()
    net.hybridize()
    called.clear()
    run = lambda: net(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(run(), eager, rtol=1e-5, atol=1e-5)
    assert called.count("windows") == 2 and called.count("maxima") == 1
    np.testing.assert_allclose(by_numpy(run), eager, rtol=1e-5, atol=1e-5)
    learn = lambda: results(lambda a: net(a), [x])
    for a, b in zip(learn(), by_numpy(learn)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (0, 3, 9, 5)])
@pytest.mark.parametrize("case", ["3 x 3", "max", "mean"])
def test_no_pictures(case, shape, called):
    f, (_, *more) = CASES[case]
    found = results(f, [draw(*shape), *more])
    assert not called and found[1].shape == shape
    assert not any(a.any() for a in found)


def test_what_is_not_for_loops_goes_the_way_of_numpy(called):
    x, w = mx.nd.array(draw(2, 4, 9, 9)), mx.nd.array(draw(4, 1, 3, 3))
    same = {"kernel": (3, 3), "num_filter": 4, "no_bias": True}
    mx.nd.Convolution(x, w, num_group=4, dilate=(2, 2), **same)
    mx.nd.Convolution(x, mx.nd.array(draw(4, 2, 3, 3)), num_group=2, **same)
    mx.nd.Convolution(x.astype("float64"), w.astype("float64"), num_group=4, **same)
    mx.nd.Convolution(x, mx.nd.array(draw(8, 1, 3, 3)), num_group=4, **{**same, "num_filter": 8})
    last = {"num_group": 4, "layout": "NHWC"}
    mx.nd.Convolution(x.transpose((0, 2, 3, 1)), w.transpose((0, 2, 3, 1)), **last, **same)
    for pool_type in ("max", "avg"):
        mx.nd.Pooling(x, pool_type=pool_type, global_pool=True)
        mx.nd.Pooling(x.astype("float16"), kernel=(2, 2), pool_type=pool_type)
        mx.nd.Pooling(x.reshape((2, 4, 81)), kernel=2, pool_type=pool_type)
        mx.nd.Pooling(x, kernel=(2, 2), layout="NHWC", pool_type=pool_type)
    assert {*called} == {"convolve"}  # the loops of chapter 96m, which take groups


REFUSED = {
    "filters": lambda x, w: conv((3, 3))(x, w[:3]),
    "shape": lambda x, w: conv((3, 2))(x, w),
    "bias": lambda x, w: mx.nd.Convolution(x, w, kernel=(3, 3), num_filter=4, num_group=4),
    "bias, size": lambda x, w: conv((3, 3), bias=True)(x, w, mx.nd.ones(3)),
    "num_filter": lambda x, w: mx.nd.Convolution(
        x, w, kernel=(3, 3), num_filter=8, num_group=4, no_bias=True
    ),
    "kernel": lambda x, w: conv((11, 11))(x, mx.nd.ones((4, 1, 11, 11))),
    "stride": lambda x, w: conv((3, 3), stride=(0, 1))(x, w),
    "pad": lambda x, w: conv((3, 3), pad=(-1, 1))(x, w),
    "pool kernel": lambda x, w: mx.nd.Pooling(x, kernel=(11, 3)),
    "pool convention": lambda x, w: mx.nd.Pooling(x, kernel=(3, 3), pooling_convention="some"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_are_those_of_numpy_s_way(case, by_numpy):
    x, w = mx.nd.array(draw(2, 4, 9, 9)), mx.nd.array(draw(4, 1, 3, 3))

    def told():
        with pytest.raises(Exception) as error:
            REFUSED[case](x, w)
        return type(error.value), str(error.value)

    assert told() == by_numpy(told)


NORMS = {
    "pictures": ((3, 5, 9, 8), {}),
    "on both cores": ((4, 7, 60, 61), {}),
    "fixed gamma": ((3, 5, 9, 8), {"fix_gamma": True}),
    "channels first": ((5, 3, 9, 8), {"axis": 0}),
    "another axis": ((2, 3, 5, 70), {"axis": -2}),
    "eps": ((3, 5, 9, 8), {"eps": 1}),
    "far from zero": ((3, 5, 9, 8), {"far": 1000}),
    "vectors": ((3, 5, 50), {}),
}


def normalized(shape, axis=1, far=0, eps=1e-3, fix_gamma=False, steps=1):
    """The output, the gradients and the statistics after some steps."""
    c, rng = shape[axis], np.random.default_rng(1)
    x = mx.nd.array(far + rng.standard_normal(shape).astype("float32"))
    arrays = [x, *(mx.nd.array(a) for a in 1 + rng.random((4, c)))]
    for a in arrays[:3]:
        a.attach_grad()
    for _ in range(steps):
        with autograd.record():
            y = mx.nd.BatchNorm(*arrays, axis=axis, eps=eps, fix_gamma=fix_gamma)
            loss = (y * mx.nd.array(np.cos(np.arange(y.size)).reshape(y.shape))).sum()
        loss.backward()
    return [a.asnumpy() for a in (y, *(a.grad for a in arrays[:3]), *arrays)]


@pytest.mark.parametrize("case", NORMS)
def test_normalizations_are_those_of_numpy(case, by_numpy, called):
    shape, settings = NORMS[case]
    run = lambda: normalized(shape, **settings, steps=2)
    found = run()
    assert {*called} == {"channels", "channels_back"}
    for a, b in zip(found, by_numpy(run), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.allclose(a, b, rtol=1e-4, atol=1e-4 * max(1, np.abs(b).max()))


def test_a_variance_far_from_zero_keeps_its_digits():
    x, v = (draw(3, 5, 9, 8) + 1000).astype("float32"), mx.nd.ones(5)
    exact = x.astype("float64")
    exact -= exact.mean((0, 2, 3), keepdims=True)
    exact /= np.sqrt((exact**2).mean((0, 2, 3), keepdims=True) + 1e-3)
    with autograd.train_mode():
        y = mx.nd.BatchNorm(mx.nd.array(x), v, v * 0, v, v).asnumpy()
    assert np.allclose(y, exact, atol=1e-6)


def test_normalizations_in_use_are_a_factor_and_a_summand(by_numpy, called):
    x, v = mx.nd.array(draw(3, 5, 9, 8)), mx.nd.array(draw(5))
    run = lambda: mx.nd.BatchNorm(x, v, v, v, v * v, fix_gamma=False).asnumpy()
    with autograd.train_mode():
        mx.nd.BatchNorm(x, v, v, v, v * v, use_global_stats=True)
    np.testing.assert_allclose(run(), by_numpy(run), rtol=1e-4, atol=1e-4)
    assert called == ["scaled"] * 2


def test_normalizations_of_short_runs_and_others_go_the_way_of_numpy(called):
    x, v = mx.nd.array(draw(3, 5, 9, 8)), mx.nd.ones(5)
    with autograd.train_mode():
        mx.nd.BatchNorm(x[:, :, :3, :3], v, v, v, v)
        mx.nd.BatchNorm(*(a.astype("float64") for a in (x, v, v, v, v)))
        mx.nd.BatchNorm(x.astype("float16"), v, v, v, v)
    assert not called


def test_gradients_with_given_statistics(by_numpy, called):
    def run():
        x, v = mx.nd.array(np.cos(np.arange(1080.0)).reshape(3, 5, 9, 8)), mx.nd.ones(5)
        given = [x, v * 2, v, v * 0.5, v * 3]
        for a in given[:3]:
            a.attach_grad()
        with autograd.record():
            y = mx.nd.BatchNorm(*given, fix_gamma=False, use_global_stats=True)
            loss = (y * y).sum()
        loss.backward()
        return [a.asnumpy() for a in (y, *(a.grad for a in given[:3]), *given[3:])]

    for a, b in zip(run(), by_numpy(run)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert called == ["scaled", "channels_back"]


def test_second_derivatives_of_a_normalization(by_numpy):
    def run():
        x, v = mx.nd.array(np.sin(np.arange(1080.0)).reshape(3, 5, 9, 8)), mx.nd.ones(5)
        gamma = v * 2
        for a in (x, gamma):
            a.attach_grad()
        with autograd.record():
            y = mx.nd.BatchNorm(x, gamma, v, v.copy(), v.copy(), fix_gamma=False)
            (g,) = autograd.grad((y**3).sum(), x, create_graph=True)
            loss = (g * g).sum()
        loss.backward()
        return [a.grad.asnumpy() for a in (x, gamma)]

    for a, b in zip(run(), by_numpy(run)):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_spoils_its_channel_alone(bad):
    x, v = draw(3, 5, 9, 8), mx.nd.ones(5)
    x[1, 2, 3, 4] = bad
    with autograd.train_mode():
        y = mx.nd.BatchNorm(mx.nd.array(x), v, v, v, v).asnumpy()
    spoilt = np.isnan(y).any((0, 2, 3))
    assert spoilt.tolist() == [False, False, True, False, False]


def test_vectors_that_do_not_fit_a_normalization(by_numpy):
    x, v = mx.nd.array(draw(3, 5, 9, 8)), mx.nd.ones(5)

    def told():
        with pytest.raises(Exception) as error, autograd.train_mode():
            mx.nd.BatchNorm(x, v, v, mx.nd.ones(4), v)
        return type(error.value), str(error.value)

    assert told() == by_numpy(told)


def test_two_threads_may_compile_at_the_same_time(tmp_path):
    """In a process of its own, with an empty folder of libraries."""
    code = """
import threading, warnings
from minigluon.native import Loops
warnings.simplefilter("error")
loops, found, gate = Loops("windows"), [], threading.Barrier(4)

def ask():
    gate.wait()
    found.append(bool(loops))

threads = [threading.Thread(target=ask) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert found == [True] * 4, found
"""
    env = {**os.environ, "MINIGLUON_KERNEL_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    assert [p.suffix for p in tmp_path.rglob("*.*")] == [".so"]
