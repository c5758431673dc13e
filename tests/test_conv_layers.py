"""Layers of convolution: printed forms, deferred shapes, what they refuse, fast against plain."""

import json

import numpy as np
import pytest

import minigluon as mx
from minigluon.gluon import nn
from minigluon.gluon.contrib.nn import PixelShuffle1D, PixelShuffle2D, PixelShuffle3D
from minigluon.ops import convolution as c
from minigluon.ops import pooling, winograd
from minigluon.ops.pieces import places

PRINTED = [  # as MXNet 1.9.1 prints them
    (
        lambda: nn.Conv2D(4, 3, padding=1, groups=2, in_channels=4, activation="relu"),
        "Conv2D(2 -> 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=2, Activation(relu))",
    ),
    (
        lambda: nn.Conv2D(4, 3, use_bias=False, dilation=2, strides=[2, 2], padding=[1, 1]),
        "Conv2D(None -> 4, kernel_size=(3, 3), stride=[2, 2], padding=[1, 1], dilation=(2, 2), "
        "bias=False)",
    ),
    (
        lambda: nn.Conv2DTranspose(3, 4, strides=2, output_padding=1, in_channels=8),
        "Conv2DTranspose(3 -> 8, kernel_size=(4, 4), stride=(2, 2))",
    ),
    (lambda: nn.Conv1D(3, 4), "Conv1D(None -> 3, kernel_size=(4,), stride=(1,))"),
    (
        lambda: nn.Conv3DTranspose(3, 4, groups=3),
        "Conv3DTranspose(1 -> 0, kernel_size=(4, 4, 4), stride=(1, 1, 1), groups=3)",
    ),
    (
        lambda: nn.Conv2D(4, 3, layout="NHWC"),
        "Conv2D(3 -> 4, kernel_size=(3, 3), stride=(1, 1))",
    ),
]


@pytest.mark.parametrize("make, text", PRINTED)
def test_prints_like_mxnet(make, text):
    assert repr(make()) == text


def shapes(layer):
    return [p.shape for p in layer.collect_params().values()]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_deferred_shapes_and_hybrid(axes, transposed):
    layer = getattr(nn, f"Conv{axes}D" + "Transpose" * transposed)(6, 2, strides=2, groups=2)
    layer.initialize()
    x = mx.nd.random.normal(shape=(2, 4, *(5,) * axes))
    y = layer(x)
    sizes = (10,) * axes if transposed else (2,) * axes
    assert y.shape == (2, 6, *sizes)
    assert shapes(layer) == [(4, 3, *(2,) * axes) if transposed else (6, 2, *(2,) * axes), (6,)]
    layer.hybridize()
    np.testing.assert_allclose(layer(x).asnumpy(), y.asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: nn.Conv2D(4, 3, groups=2, in_channels=3), mx.MXNetError),
        (lambda: nn.Conv2D(4, 3, groups=3), mx.MXNetError),
        (lambda: nn.Conv2D(4, 3, layout="HWC"), AssertionError),
        (lambda: nn.Conv2D(4, (3, 2, 1)), AssertionError),
        (lambda: nn.Conv2D(4, 3, strides=(1, 1, 1)), mx.MXNetError),
        (lambda: nn.Conv2D(4, 3, strides=0), mx.MXNetError),
        (lambda: nn.Conv2D(0, 3), mx.MXNetError),
        (lambda: nn.Conv2DTranspose(4, 3, output_padding=1), mx.MXNetError),
    ],
)
def test_refused_at_construction(make, error):
    with pytest.raises(error):
        make()


@pytest.mark.parametrize("shape", [(1, 3, 5, 5), (1, 4, 5), (1, 4, 2, 5)])
def test_refused_at_first_call(shape):
    layer = nn.Conv2D(4, 3, groups=2)
    layer.initialize()
    with pytest.raises((mx.MXNetError, ValueError)):
        layer(mx.nd.ones(shape))


def three_products(x, w, settings):
    """The values of the three products by the way that is chosen, and by the plain one."""
    y = c.product(x, w, *settings)
    wanted = y, c.adjoint(y, w, x.shape[2:], *settings), c.correlation(y, x, *settings)
    found = c.forwards(x, w, *settings), c.backwards(y, w, x.shape[2:], *settings)
    return [*found, c.across(y, x, *settings)], wanted


@pytest.mark.parametrize("kernel, pad", [((3, 3), (1, 1)), ((1, 5), (0, 2)), ((4, 1), (2, 0))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fast_equals_plain(kernel, pad, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 16, 12, 9)).astype(dtype)
    w = rng.normal(size=(16, 16, *kernel)).astype(dtype)
    settings = kernel, (1, 1), (1, 1), pad, 1
    assert c.is_simple(x, *settings)
    for found, wanted in zip(*three_products(x, w, settings)):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * abs(wanted).max())


@pytest.mark.parametrize("pad", [(0, 0), (1, 1), (2, 2), (0, 2)])
@pytest.mark.parametrize("sizes", [(4, 4), (9, 6), (5, 21), (34, 17)])
@pytest.mark.parametrize("filters", [False, True])  # what the cores share
def test_winograd_equals_plain(monkeypatch, pad, sizes, filters):
    monkeypatch.setattr(winograd, "is_filterwise", lambda *_: filters)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 16, *sizes)).astype("float32")
    w = rng.normal(size=(40, 16, 3, 3)).astype("float32")
    settings = (3, 3), (1, 1), (1, 1), pad, 1
    y = c.product(x, w, *settings)
    found = [winograd.winograd(x, w, pad, y.shape[2:])]
    found.append(winograd.winograd(y, w, tuple(2 - p for p in pad), sizes, turned=True))
    found.append(winograd.winograd_weight(y, x, pad))
    wanted = y, c.adjoint(y, w, sizes, *settings), c.correlation(y, x, *settings)
    for a, b in zip(found, wanted):
        assert a.shape == b.shape and abs(a - b).max() < 3e-5 * abs(b).max()


@pytest.mark.parametrize("shape, filters", [((4, 64, 16, 16), 64), ((9, 32, 30, 30), 48)])
def test_winograd_is_taken(shape, filters):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype("float32")
    w = rng.normal(size=(filters, shape[1], 3, 3)).astype("float32")
    settings = (3, 3), (1, 1), (1, 1), (1, 1), 1
    assert c.saves(x, w, shape[2:], *settings)
    for found, wanted in zip(*three_products(x, w, settings)):
        assert abs(found - wanted).max() < 3e-5 * abs(wanted).max()


@pytest.mark.parametrize(
    "sizes, kernel, stride, dilate, pad",
    [
        ((9, 6), (3, 3), (1, 1), (1, 1), (1, 1)),
        ((9, 6), (3, 3), (2, 2), (1, 1), (1, 1)),
        ((10, 7), (3, 2), (1, 1), (2, 3), (2, 0)),
        ((11, 9), (2, 3), (3, 2), (1, 1), (0, 4)),
        ((11, 9), (5, 1), (4, 3), (1, 1), (2, 0)),
        ((13,), (5,), (3,), (1,), (3,)),
        ((8, 5, 6), (3, 3, 3), (2, 1, 2), (1, 1, 1), (1, 0, 1)),
    ],
)
@pytest.mark.parametrize("groups, filters", [(4, 4), (4, 12), (2, 6), (1, 3)])
def test_remainders_equal_laying_down(sizes, kernel, stride, dilate, pad, groups, filters):
    rng = np.random.default_rng(0)
    settings = kernel, stride, dilate, pad, groups
    g = rng.normal(size=(3, filters, *places(sizes, *settings[:4]))).astype("float32")
    w = rng.normal(size=(filters, 2, *kernel)).astype("float32")
    wanted = c.adjoint(g, w, sizes, *settings)
    np.testing.assert_allclose(c.by_remainders(g, w, sizes, *settings), wanted, atol=1e-5)


def test_remainders_are_taken(monkeypatch):
    monkeypatch.setattr(c, "adjoint", None)
    g, w = np.ones((4, 64, 28, 28), "float32"), np.ones((64, 1, 3, 3), "float32")
    c.backwards(g, w, (28, 28), (3, 3), (1, 1), (1, 1), (1, 1), 64)


@pytest.mark.parametrize(
    "sizes, kernel, stride, dilate, pad",
    [
        ((14, 14), (3, 3), (1, 1), (1, 1), (1, 1)),
        ((9, 70), (3, 2), (2, 1), (1, 3), (2, 0)),
        ((11, 57), (2, 3), (1, 3), (2, 1), (0, 4)),
        ((8, 61), (5, 5), (2, 2), (2, 2), (4, 3)),
        ((4, 4), (3, 3), (3, 3), (1, 1), (5, 5)),
        ((1, 300), (1, 9), (1, 1), (1, 2), (0, 8)),
        ((12, 31), (7, 7), (5, 4), (1, 1), (1, 2)),
    ],
)
@pytest.mark.parametrize("area", [1, 1 << 12, 1 << 17])
def test_banded_products_equal_columns(monkeypatch, sizes, kernel, stride, dilate, pad, area):
    monkeypatch.setattr(c, "AREA", area)
    monkeypatch.setattr(c, "SMALL", area)
    rng = np.random.default_rng(0)
    x, w, bias = rng.normal(size=(3, 5, *sizes)), rng.normal(size=(5, 1, *kernel)), np.arange(5.0)
    settings = kernel, stride, dilate, pad
    assert c.is_by_rows(x, w, kernel, dilate, 5)
    each = [
        c.product(x[:, i : i + 1], w[i : i + 1], *settings, 1, bias[i : i + 1]) for i in range(5)
    ]
    found = c.product(x, w, *settings, 5, bias)
    np.testing.assert_allclose(found, np.concatenate(each, axis=1), atol=1e-12)
    single = c.product(x.astype("f4"), w.astype("f4"), *settings, 5, bias.astype("f4"))
    np.testing.assert_allclose(single, found, atol=1e-4)


def test_banded_products_of_no_pictures():
    settings = (3, 3), (1, 1), (1, 1), (1, 1), 4
    w = np.ones((4, 1, 3, 3), "float32")
    assert c.product(np.ones((0, 4, 5, 6), "float32"), w, *settings).shape == (0, 4, 5, 6)


@pytest.mark.parametrize("kernel, pad", [((1, 1), (0, 0)), ((3, 3), (1, 1)), ((1, 1), (1, 2))])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("side, groups", [(40, 1), (40, 4), (14, 1), (14, 8)])
@pytest.mark.parametrize("cache", [1, 1 << 12, 1 << 19])
def test_one_picture_is_shared_out(monkeypatch, kernel, pad, stride, side, groups, cache):
    monkeypatch.setattr(c, "SMALL", 1)
    monkeypatch.setattr(c, "CACHE", cache)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 8, side, side))
    w, bias = rng.normal(size=(16, 8 // groups, *kernel)), rng.normal(size=16)
    settings = kernel, stride, (1, 1), pad, groups
    two = c.product(np.concatenate([x, x]), w, *settings, bias)
    np.testing.assert_allclose(c.product(x, w, *settings, bias), two[:1], atol=1e-12)


@pytest.mark.parametrize(
    "n, channels, f, sizes, kernel, pad",
    [
        (64, 20, 50, (12, 12), (5, 5), (0, 0)),
        (3, 8, 16, (15, 9), (5, 3), (2, 1)),
        (2, 9, 17, (8, 30), (5, 1), (1, 0)),
        (5, 8, 16, (7, 7), (5, 5), (4, 4)),
        (16, 32, 16, (28, 28), (5, 5), (2, 2)),
    ],
)
def test_five_rows_equal_plain(n, channels, f, sizes, kernel, pad):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, channels, *sizes)).astype("float32")
    w = rng.normal(size=(f, channels, *kernel)).astype("float32")
    settings = kernel, (1, 1), (1, 1), pad, 1
    assert c.is_five(x, w, places(sizes, *settings[:4]), *settings)
    y = c.product(x, w, *settings)
    wanted = y, c.adjoint(y, w, sizes, *settings), c.correlation(y, x, *settings)
    found = c.forwards(x, w, *settings), c.backwards(y, w, sizes, *settings)
    for a, b in zip((*found, c.across(y, x, *settings)), wanted):
        assert a.shape == b.shape and abs(a - b).max() < 1e-5 * abs(b).max()


@pytest.mark.parametrize(
    "sizes, kernel, stride, dilate, pad, small",
    [
        ((1, 1), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1)),
        ((1, 2), (3, 9), (1, 1), (1, 1), (1, 4), (1, 3)),
        ((1, 1), (5, 5), (2, 2), (1, 1), (3, 2), (3, 1)),
        ((4, 4), (3, 3), (1, 1), (6, 6), (6, 6), (1, 1)),
        ((1, 1, 1), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
        ((2, 2), (3, 3), (2, 2), (1, 1), (1, 1), None),
    ],
)
def test_windows_larger_than_the_picture(sizes, kernel, stride, dilate, pad, small):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4, *sizes)), rng.normal(size=(6, 4, *kernel))
    settings = kernel, stride, dilate, pad, 1
    live = c.live_taps(sizes, *settings[:4])
    assert (live and live[1]) == small
    for found, wanted in zip(*three_products(x, w, settings)):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_gradients_of_weights_need_no_copy():
    """A view would be copied into the parameter's gradient."""
    rng = np.random.default_rng(0)
    for n, channels, f, size, k in [
        (64, 1, 20, 28, 5),
        (64, 20, 50, 12, 5),
        (4, 64, 64, 16, 3),
        (2, 256, 512, 4, 3),
        (2, 16, 8, 9, 3),
        (4, 512, 512, 1, 3),
        (4, 64, 128, 8, 1),
    ]:
        pad = k // 2 if size < 20 and size != 12 else 0
        x = rng.normal(size=(n, channels, size, size)).astype("float32")
        g = rng.normal(size=(n, f, *[size + 2 * pad - k + 1] * 2)).astype("float32")
        found = c.across(g, x, (k, k), (1, 1), (1, 1), (pad, pad), 1)
        assert found.base is None and found.flags.c_contiguous, (n, channels, f, size, k)


def test_bias_is_added_once_by_every_way():
    """One channel, windows of five, Winograd's, wide ones, heavy ones, groups, half precision,
    channels last.
    """
    rng = np.random.default_rng(0)
    ways = [
        ((9, 1, 12, 12), (20, 1, 5, 5), {}),
        ((9, 16, 12, 12), (20, 16, 5, 5), {}),
        ((4, 64, 16, 16), (64, 64, 3, 3), {"pad": (1, 1)}),
        ((2, 16, 9, 9), (4, 16, 1, 3), {"pad": (0, 1)}),
        ((2, 64, 4, 4), (512, 64, 3, 3), {}),
        ((2, 4, 6, 6), (8, 2, 3, 3), {"num_group": 2}),
        ((64, 1, 28, 28), (96, 1, 3, 3), {}),
    ]
    for dtype in ("float16", "float32", "float64"):
        for shape, weight, more in ways:
            x, w, b = (rng.normal(size=s).astype(dtype) for s in (shape, weight, weight[:1]))
            settings = {"kernel": weight[2:], "num_filter": weight[0], **more}
            y = c.Convolution.kernel(x, w, b, **settings)
            z = c.Convolution.kernel(x, w, no_bias=True, **settings)
            wanted = z + b.reshape(-1, 1, 1)
            assert np.array_equal(y, wanted) and y.dtype == dtype


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_heavy_weights(stride):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 64, 6, 4)), rng.normal(size=(512, 64, 3, 3))
    settings = (3, 3), stride, (1, 1), (1, 1), 1
    assert c.is_heavy(x, w.reshape(512, -1), 24, 1)
    y = c.product(x, w, *settings)
    alone = [c.product(x[i : i + 1], w, *settings) for i in range(5)]
    np.testing.assert_allclose(y, np.concatenate(alone), rtol=1e-9, atol=1e-9)
    back = [c.adjoint(y[i : i + 1], w, (6, 4), *settings) for i in range(5)]
    found = c.adjoint(y, w, (6, 4), *settings)
    np.testing.assert_allclose(found, np.concatenate(back), rtol=1e-8, atol=1e-7)
    parts = [c.correlation(y[i : i + 1], x[i : i + 1], *settings) for i in range(5)]
    np.testing.assert_allclose(c.correlation(y, x, *settings), sum(parts), rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("sizes, stride", [((4, 4), (1, 1)), ((40, 40), (2, 2)), ((7, 60), (1, 3))])
def test_batches_equal_pictures(groups, sizes, stride):
    """Pictures side by side, or a few on each core, give what each gives alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 8, *sizes))
    w = rng.normal(size=(12, 8 // groups, 3, 3))
    settings = (3, 3), stride, (1, 1), (1, 1), groups
    y = c.product(x, w, *settings)
    alone = np.concatenate([c.product(x[i : i + 1], w, *settings) for i in range(12)])
    np.testing.assert_allclose(y, alone, rtol=1e-9, atol=1e-11)
    back = c.adjoint(y, w, sizes, *settings)
    alone = [c.adjoint(y[i : i + 1], w, sizes, *settings) for i in range(12)]
    np.testing.assert_allclose(back, np.concatenate(alone), rtol=1e-9, atol=1e-9)
    parts = [c.correlation(y[i : i + 1], x[i : i + 1], *settings) for i in range(12)]
    np.testing.assert_allclose(c.correlation(y, x, *settings), sum(parts), rtol=1e-8, atol=1e-8)


def test_half_precision_and_empty_batches():
    x, w = mx.nd.ones((2, 3, 8, 8), dtype="float16"), mx.nd.ones((4, 3, 3, 3), dtype="float16")
    y = mx.nd.Convolution(x, w, kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True)
    assert y.dtype == np.float16
    assert y[0, 0, 1, 1].asscalar() == 27
    empty = np.zeros((0, 3, 8, 8), "float32")
    assert c.Convolution(
        empty, np.zeros((4, 3, 3, 3), "float32"), kernel=(3, 3), no_bias=True
    ).shape == (
        0,
        4,
        6,
        6,
    )


def test_symbols_make_their_weights():
    y = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=2, name="c")
    assert y.list_arguments() == ["data", "c_weight", "c_bias"]
    y = mx.sym.Deconvolution(mx.sym.var("data"), kernel=(3, 3), num_filter=2, name="d")
    assert y.list_arguments() == ["data", "d_weight"]


@pytest.mark.parametrize(
    "shuffle, factors", [(PixelShuffle1D, 2), (PixelShuffle2D, (2, 3)), (PixelShuffle3D, (2, 3, 2))]
)
def test_pixel_shuffle(shuffle, factors):
    layer, many = shuffle(factors), np.atleast_1d(factors).tolist()
    sizes = [2, 4, 3][: len(many)]
    x = np.random.default_rng(0).normal(size=(2, 3 * int(np.prod(many)), *sizes)).astype("float32")
    axes = len(many)
    order = [0, 1, *(a for i in range(axes) for a in (2 + axes + i, 2 + i))]
    want = x.reshape(2, 3, *many, *sizes).transpose(order)
    want = want.reshape(2, 3, *(f * s for f, s in zip(many, sizes)))
    np.testing.assert_array_equal(layer(mx.nd.array(x)).asnumpy(), want)
    layer.hybridize()
    np.testing.assert_array_equal(layer(mx.nd.array(x)).asnumpy(), want)
    assert repr(layer) == f"{shuffle.__name__}({factors})"


POOLS = [  # as MXNet 1.9.1 prints them
    (
        lambda: nn.MaxPool2D(),
        "MaxPool2D(size=(2, 2), stride=(2, 2), padding=(0, 0), ceil_mode=False, global_pool=False, "
        "pool_type=max, layout=NCHW)",
    ),
    (
        lambda: nn.AvgPool1D(3, 2, 1, ceil_mode=True),
        "AvgPool1D(size=(3,), stride=(2,), padding=(1,), ceil_mode=True, global_pool=False, "
        "pool_type=avg, layout=NCW)",
    ),
    (
        lambda: nn.GlobalAvgPool3D(),
        "GlobalAvgPool3D(size=(1, 1, 1), stride=(1, 1, 1), padding=(0, 0, 0), ceil_mode=True, "
        "global_pool=True, pool_type=avg, layout=NCDHW)",
    ),
    (lambda: nn.ReflectionPad2D(2), "ReflectionPad2D(\n\n)"),
]


@pytest.mark.parametrize("make, text", POOLS)
def test_pools_print_like_mxnet(make, text):
    assert repr(make()) == text


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Max", "Avg", "GlobalMax", "GlobalAvg"])
def test_pools_and_their_programs(axes, kind):
    layer = getattr(nn, f"{kind}Pool{axes}D")()
    x = np.random.default_rng(0).normal(size=(2, 3, *(4,) * axes)).astype("float32")
    step = 4 if "Global" in kind else 2
    want = x.reshape(2, 3, *(n for _ in range(axes) for n in (4 // step, step)))
    want = getattr(np, "max" if "Max" in kind else "mean")(want, tuple(range(3, 3 + 2 * axes, 2)))
    for _ in range(2):
        np.testing.assert_allclose(layer(mx.nd.array(x)).asnumpy(), want, rtol=1e-5, atol=1e-6)
        layer.hybridize()


def test_windows_outside_all_data_and_first_of_equals():
    x = mx.nd.ones((1, 1, 2, 2))
    y = mx.nd.Pooling(x, kernel=(2, 2), pad=(3, 0))
    assert y[0, 0, 0, 0].asscalar() == np.finfo("float32").min
    x.attach_grad()
    with mx.autograd.record():
        y = nn.GlobalMaxPool2D()(x) + nn.MaxPool2D()(x)
    y.backward()
    np.testing.assert_array_equal(x.grad.asnumpy()[0, 0], [[2, 0], [0, 0]])


def test_pools_refuse():
    with pytest.raises(AssertionError):
        nn.MaxPool2D(layout="NCW")
    with pytest.raises(AssertionError):
        nn.AvgPool3D((2, 2))
    for layer, shape in ((nn.MaxPool2D(7), (1, 4, 5, 5)), (nn.MaxPool2D(2), (1, 4, 5))):
        with pytest.raises(mx.MXNetError):
            layer(mx.nd.ones(shape))


def test_lenet_learns():
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(6, 5, padding=2, activation="relu"), nn.MaxPool2D(), nn.Conv2D(16, 5))
    net.add(nn.AvgPool2D(), nn.Flatten(), nn.Dense(10))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    x, labels, seen = mx.nd.random.normal(shape=(16, 1, 28, 28)), mx.nd.arange(16) % 10, []
    for _ in range(20):
        with mx.autograd.record():
            error = loss(net(x), labels)
        error.backward()
        trainer.step(16)
        seen.append(error.mean().asscalar())
    assert seen[-1] < 0.3 * seen[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape, kernel, stride, pad, convention",
    [
        ((3, 4, 9, 8), (3, 3), (2, 2), (1, 1), "valid"),
        ((3, 4, 9, 8), (3, 2), (1, 2), (1, 0), "full"),
        ((2, 3, 11), (4,), (2,), (2,), "full"),
        ((1, 2, 5, 6, 7), (2, 3, 2), (1, 2, 2), (0, 1, 1), "valid"),
        ((1, 1, 20, 20), (13, 13), (1, 1), (6, 6), "valid"),
        ((2, 9, 30, 30), (12, 12), (3, 3), (0, 0), "same"),
    ],
)
def test_maxima_of_neighbours_equal_taps(
    monkeypatch, dtype, shape, kernel, stride, pad, convention
):
    """With ties, of which the first counts, and with a nan, which gets no gradient."""
    rng = np.random.default_rng(0)
    for x in (np.round(rng.normal(size=shape), 1), rng.normal(size=shape)):
        x = x.astype(dtype)
        frame = pooling.pool_frame(x, kernel, stride, pad, False, convention, None)
        g = rng.normal(size=(*shape[:2], *frame[3])).astype(dtype)
        assert pooling.is_dense(x, frame)
        spoilt = x.copy()
        spoilt[0, 0, 2] = np.nan
        found = pooling.largest(x, frame), pooling.placed(g, x, frame)
        beside = pooling.placed(g, spoilt, frame)
        with monkeypatch.context() as plain:
            plain.setattr(pooling, "is_dense", lambda *_: False)
            wanted = pooling.largest(x, frame), pooling.placed(g, x, frame)
            np.testing.assert_array_equal(beside, pooling.placed(g, spoilt, frame))
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("filters", [8, 100])
def test_filters_turned_sixteen_at_a_time(filters):
    from minigluon.ops.winograd import placed

    w = np.random.default_rng(0).normal(size=(filters, 300, 3, 3)).astype("float32")
    assert (w.size > 1 << 18) == (filters == 100)
    assert (placed(w) == w.transpose(2, 3, 1, 0)).all()


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("convention", ["valid", "full"])
def test_pooling_along_axes_equals_pooling_by_taps(axes, convention):
    rng = np.random.default_rng(axes)
    for _ in range(30):
        kernel, stride = (tuple(map(int, rng.integers(1, 4, axes))) for _ in range(2))
        pad = tuple(int(rng.integers(0, k)) for k in kernel)
        x = rng.integers(0, 4, (2, 3, *rng.integers(4, 9, axes))).astype("float32")
        frame = pooling.pool_frame(x, kernel, stride, pad, False, convention, None)
        g = rng.normal(size=(2, 3, *frame[3])).astype("float32")
        low, zeros = (pooling.bordered(x, frame, v) for v in (pooling.lowest(x.dtype), 0))
        keys = [*pooling.taps(frame)]
        np.testing.assert_allclose(pooling.added(x, frame), sum(zeros[k] for k in keys))
        most = np.max([low[k] for k in keys], 0)
        np.testing.assert_array_equal(pooling.largest(x, frame), most)
        spread, first = np.zeros((2, *zeros.shape), "float32")
        for key, won in pooling.winners(x, frame):
            spread[key] += g
            first[key] += g * won
        for found, wanted in (
            (pooling.unpooled(g, x, frame), spread),
            (pooling.placed(g, x, frame), first),
        ):
            np.testing.assert_allclose(found, pooling.inside(wanted, x, frame), atol=1e-5)


def test_the_order_of_parameters_of_convolutions_that_bend():
    layers = mx.gluon.contrib.cnn
    for kind, order in (
        (layers.DeformableConvolution, 1),
        (layers.ModulatedDeformableConvolution, -1),
    ):
        names = [n.partition("conv0_")[2] for n in kind(3, 3, 1, 1, in_channels=2).collect_params()]
        pairs = [
            ["offset_weight", "offset_bias"],
            ["deformable_conv_weight", "deformable_conv_bias"],
        ]
        assert names == sum(pairs[::order], [])


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_reads_as_many_numbers_as_the_window_has_axes(kind):
    x = mx.nd.array(np.random.default_rng(0).normal(size=(1, 2, 5, 6)))
    settings = {"kernel": (3, 3), "pool_type": kind}
    want = mx.nd.Pooling(x, stride=(1, 2), pad=(1, 0), **settings)
    x.attach_grad()
    with mx.autograd.record():
        y = mx.nd.Pooling(x, stride=(1, 2, 7), pad=(1, 0, 0, 1), **settings)
    y.backward()
    assert (y.asnumpy() == want.asnumpy()).all() and float(x.grad.abs().sum().asscalar()) > 0
    with pytest.raises(mx.MXNetError, match="2 numbers each"):
        mx.nd.Pooling(x, pad=(1,), **settings)


def test_pixels_are_shuffled_by_one_transposition():
    for kind, factors in ((PixelShuffle1D, 2), (PixelShuffle2D, (2, 3))):
        s = kind(factors)(mx.sym.var("x"))
        nodes = json.loads(s.tojson())["nodes"][1:]
        k = len(np.atleast_1d(factors))
        assert [n["op"] for n in nodes] == ["Reshape"] * k + ["transpose", "Reshape"]
    nodes = json.loads(PixelShuffle3D(2)(mx.sym.var("x")).tojson())["nodes"]
    assert "transpose" not in [n["op"] for n in nodes]  # of more than six axes, which MXNet has not


def test_few_places_of_one_picture_are_shared_out_by_their_multiplications(monkeypatch):
    from minigluon.ops import convolution

    monkeypatch.setenv("MINIGLUON_NATIVE", "0")
    rng, shares = np.random.default_rng(0), []
    data = mx.nd.array(rng.standard_normal((1, 512, 7, 7)))
    weight, bias = (mx.nd.array(rng.standard_normal(s)) for s in ((512, 512, 1, 1), (512,)))
    plain = convolution.spread
    monkeypatch.setattr(
        convolution, "spread", lambda f, parts: shares.append(len(parts)) or plain(f, parts)
    )
    y = mx.nd.Convolution(data, weight, bias, kernel=(1, 1), num_filter=512).asnumpy()
    raw = data.asnumpy().reshape(512, 49), weight.asnumpy().reshape(512, 512)
    wanted = raw[1] @ raw[0] + bias.asnumpy()[:, None]
    np.testing.assert_allclose(y.reshape(512, 49), wanted, rtol=1e-4, atol=1e-3)
    assert shares == [len(convolution.slices(512))]
