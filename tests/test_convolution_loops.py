"""Convolutions as loops against NumPy's way: kernels/cpu/convolutions.cpp, chapter 96m."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd
from minigluon.native import by_numpy

R = np.random.default_rng(0)
pytestmark = pytest.mark.loops


def draw(*shape):
    return R.standard_normal(shape).astype("float32")


# pictures, filters, settings
CASES = {
    "1 x 1": ((2, 8, 9, 7), (5, 8, 1, 1), {}),
    "1 x 1, whole vectors": ((2, 8, 16, 4), (17, 8, 1, 1), {}),
    "1 x 1, the last numbers": ((1, 8, 14, 14), (9, 8, 1, 1), {}),
    "1 x 1, stride 2": ((2, 8, 9, 8), (5, 8, 1, 1), {"stride": (2, 2)}),
    "1 x 1 with border": ((2, 8, 5, 5), (5, 8, 1, 1), {"pad": (2, 1)}),
    "3 x 3": ((2, 8, 13, 11), (5, 8, 3, 3), {"pad": (1, 1)}),
    "3 x 3, stride 2": ((3, 8, 13, 11), (8, 8, 3, 3), {"pad": (1, 1), "stride": (2, 2)}),
    "3 x 3, stride 3, even": ((1, 8, 12, 16), (8, 8, 3, 3), {"stride": (3, 3)}),
    "gaps": ((2, 8, 13, 17), (8, 8, 3, 3), {"dilate": (2, 3), "pad": (2, 3)}),
    "gaps and steps": ((2, 8, 23, 21), (6, 8, 3, 2), {"dilate": (3, 2), "stride": (2, 3)}),
    "wide border": ((2, 8, 8, 9), (8, 8, 3, 3), {"pad": (4, 5)}),
    "7 x 7 of three": ((2, 3, 30, 32), (16, 3, 7, 7), {"stride": (2, 2), "pad": (3, 3)}),
    "2 x 5, stride 1 and 3": ((2, 8, 9, 30), (4, 8, 2, 5), {"stride": (1, 3), "pad": (1, 0)}),
    "steps beyond the window": ((2, 8, 19, 18), (8, 8, 2, 2), {"stride": (4, 3)}),
    "groups": ((2, 12, 9, 9), (6, 4, 3, 3), {"num_group": 3, "pad": (1, 1)}),
    "filters of a channel": ((2, 4, 9, 9), (12, 1, 3, 3), {"num_group": 4, "pad": (1, 1)}),
    "one axis": ((3, 8, 50), (6, 8, 5), {"stride": (2,), "pad": (2,)}),
    "one axis, gaps": ((3, 8, 50), (6, 4, 3), {"dilate": (4,), "num_group": 2}),
    "rows in pieces": ((2, 20, 80, 82), (9, 20, 3, 3), {"pad": (1, 1)}),
    "rows in pieces, stride 2": ((1, 40, 90, 81), (9, 40, 3, 3), {"stride": (2, 2)}),
    "heavy": ((3, 64, 6, 6), (270, 64, 3, 3), {"pad": (1, 1), "stride": (2, 2)}),
    "on both cores": ((8, 24, 30, 30), (24, 24, 3, 3), {"pad": (1, 1), "stride": (2, 1)}),
}


def settings_of(case):
    shape, filters, more = CASES[case]
    kernel = filters[2:]
    return {"kernel": kernel, "num_filter": filters[0], **more}


def results(op, arrays, settings, g=None):
    arrays = [mx.nd.array(a) for a in arrays]
    for a in arrays:
        a.attach_grad()
    with autograd.record():
        y = getattr(mx.nd, op)(*arrays, **settings)
    y.backward(None if g is None else mx.nd.array(g))
    return [y.asnumpy(), *(a.grad.asnumpy() for a in arrays)]


@pytest.mark.parametrize("case", CASES)
def test_loops_are_equal_to_numpys_way(case, called):
    shape, filters, _ = CASES[case]
    x, w, b = draw(*shape), draw(*filters), draw(filters[0])
    settings = settings_of(case)
    g = draw(*mx.nd.Convolution(*map(mx.nd.array, (x, w, b)), **settings).shape)
    called.clear()
    found = results("Convolution", (x, w, b), settings, g)
    assert {"convolve", "convolve_data"} <= {*called}
    wanted = by_numpy(lambda: results("Convolution", (x, w, b), settings, g))
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.sqrt(a.size / len(a)))


@pytest.mark.parametrize("case", ["3 x 3, stride 2", "gaps and steps", "groups", "one axis"])
def test_deconvolution_is_equal_to_numpys_way(case, called):
    shape, filters, more = CASES[case]
    groups = more.get("num_group", 1)
    settings = {**settings_of(case), "num_filter": filters[1] * groups}
    x, w = draw(2, filters[0], *(40,) * (len(shape) - 2)), draw(*filters)
    g = draw(*mx.nd.Deconvolution(mx.nd.array(x), mx.nd.array(w), **settings).shape)
    called.clear()
    found = results("Deconvolution", (x, w), settings, g)
    assert {"convolve", "convolve_data", "convolve_weight"} == {*called}
    wanted = by_numpy(lambda: results("Deconvolution", (x, w), settings, g))
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_normalization_in_use_is_a_factor_of_the_loop(called):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(24, 3, strides=2, in_channels=16), mx.gluon.nn.BatchNorm())
    net.initialize(mx.init.Normal(0.5))
    x = mx.nd.array(draw(2, 16, 20, 20))
    with autograd.record():
        net(x)
    wanted = by_numpy(lambda: net(x).asnumpy())
    net.hybridize()
    called.clear()
    np.testing.assert_allclose(net(x).asnumpy(), wanted, rtol=1e-4, atol=1e-4)
    assert called == ["convolve"]


def test_small_pictures_of_a_batch_float64_and_last_channels(called):
    x, w = draw(8, 64, 2, 2), draw(64, 64, 3, 3)
    same = {"kernel": (3, 3), "pad": (1, 1), "num_filter": 64, "no_bias": True}
    mx.nd.Convolution(mx.nd.array(x), mx.nd.array(w), **same)
    double = [mx.nd.array(a.astype("float64"), dtype="float64") for a in (x, w)]
    assert mx.nd.Convolution(*double, **same).dtype == np.float64
    assert "convolve" not in called
    x = draw(1, 12, 14, 8)  # NHWC
    last = mx.nd.Convolution(
        mx.nd.array(x), mx.nd.array(draw(4, 3, 3, 8)), kernel=(3, 3), num_filter=4, no_bias=True,
        layout="NHWC",
    )  # fmt: skip
    assert last.shape == (1, 10, 12, 4) and "convolve" in called


def test_nan_and_infinity_stay_in_their_windows():
    x, w = draw(1, 8, 10, 12), draw(4, 8, 3, 3)
    x[0, 3, 4, 11], x[0, 2, 0, 0] = np.nan, np.inf
    y = mx.nd.Convolution(
        mx.nd.array(x), mx.nd.array(w), kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True
    ).asnumpy()
    bad = ~np.isfinite(y[0]).all(0)
    assert {*zip(*np.nonzero(bad))} == {
        *((i, j) for i in (3, 4, 5) for j in (10, 11)),
        *((i, j) for i in (0, 1) for j in (0, 1)),
    }
