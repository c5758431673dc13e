"""Operators of chapter 41: convolution, by its definition, one place at a time."""

import numpy as np

from tests.rows import Row, signed


def filled(axes, stride=(), dilate=(), pad=(), num_group=1, **_):
    return [tuple(n) or (d,) * axes for n, d in ((stride, 1), (dilate, 1), (pad, 0))]


def seen(x, at, kernel, stride, dilate):
    spots = zip(at, kernel, stride, dilate)
    return x[:, :, *(slice(i * s, i * s + d * (k - 1) + 1, d) for i, k, s, d in spots)]


def conv(x, w, b=None, kernel=(), num_group=1, **settings):
    stride, dilate, pad = filled(len(kernel), **settings)
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilate)]
    sizes = [(n - m) // s + 1 for n, m, s in zip(x.shape[2:], spans, stride)]
    f, c = w.shape[0] // num_group, w.shape[1]
    y = np.zeros((len(x), w.shape[0], *sizes))
    for at in np.ndindex(*sizes):
        window = seen(x, at, kernel, stride, dilate)
        for g in range(num_group):
            part = window[:, g * c : (g + 1) * c].reshape(len(x), -1)
            y[:, g * f : (g + 1) * f, *at] = part @ w[g * f : (g + 1) * f].reshape(f, -1).T
    return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


def adjoint(g, w, x, num_group=1, **settings):
    """The gradient of data by the definition of an adjoint: one unit vector at a time."""
    out = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        unit = np.zeros_like(x)
        unit[at] = 1
        out[at] = (conv(unit, w, num_group=num_group, **settings) * g).sum()
    return out


def weight_of(g, x, num_group=1, kernel=(), **settings):
    w = np.zeros((g.shape[1], x.shape[1] // num_group, *kernel))
    out = np.zeros_like(w)
    for at in np.ndindex(*w.shape):
        unit = np.zeros_like(w)
        unit[at] = 1
        y = conv(x, unit, num_group=num_group, kernel=kernel, **settings)
        out[at] = (y * g).sum()
    return out


def deconv(x, w, b=None, adj=(), target_shape=(), num_filter=0, num_group=1, **settings):
    kernel = settings["kernel"]
    stride, dilate, pad = filled(len(kernel), **settings)
    full = [
        s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilate)
    ]
    adj = adj or (0,) * len(kernel)
    sizes = target_shape or [f - 2 * p + a for f, p, a in zip(full, pad, adj)]
    if target_shape:
        settings = {**settings, "pad": tuple((f - t + 1) // 2 for f, t in zip(full, sizes))}
    like = np.zeros((len(x), w.shape[1] * num_group, *sizes))
    settings.pop("no_bias", None)
    y = adjoint(x, w, like, num_group=num_group, **settings)
    return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


def last(f):
    """`f` for arrays that have their channels last."""

    def turned(*arrays, layout, **settings):
        moved = [np.moveaxis(a, -1, 1) if a.ndim > 1 else a for a in arrays]
        return np.moveaxis(f(*moved, **settings), 1, -1)

    return turned


X, W, B = signed(2, 4, 5, 6), signed(6, 4, 3, 3, seed=1), signed(6, seed=2)
K33 = {"kernel": (3, 3), "num_filter": 6}
ROWS = [
    Row("Convolution", (X, W, B), K33, conv, wrong=((X, W), K33), says="bias is missing"),
    Row(
        "Convolution",
        (signed(2, 4, 9, 8), W, B),
        {**K33, "pad": (1, 1)},
        conv,
        wrong=((X, signed(6, 3, 3, 3), B), K33),
        says="weight of shape (6, 4, 3, 3)",
        note="same size",
    ),
    Row(
        "Convolution",
        (signed(1, 2, 16, 5), signed(3, 2, 2, 5, seed=1)),
        {"kernel": (2, 5), "num_filter": 3, "pad": (0, 2), "no_bias": True},
        conv,
        wrong=((X, signed(6, 4, 9, 3), B), {**K33, "kernel": (9, 3)}),
        says="larger than",
        note="same width",
    ),
    Row(
        "Convolution",
        (X, signed(6, 2, 3, 2, seed=1), B),
        {
            "kernel": (3, 2),
            "num_filter": 6,
            "num_group": 2,
            "stride": (2, 1),
            "dilate": (1, 2),
            "pad": (2, 1),
        },
        conv,
        wrong=((signed(2, 3, 5, 5), W, B), {**K33, "num_group": 2}),
        says="does not divide",
        note="all settings",
    ),
    Row(
        "Convolution",
        (signed(2, 3, 5, 4), signed(3, 1, 3, 3, seed=1)),
        {"kernel": (3, 3), "num_filter": 3, "num_group": 3, "no_bias": True, "pad": (1, 1)},
        conv,
        wrong=((signed(2, 4, 5), W, B), K33),
        says="needs data with 4 axes",
        note="depthwise",
    ),
    Row(
        "Convolution",
        (signed(2, 3, 7), signed(4, 3, 3, seed=1), signed(4, seed=2)),
        {"kernel": (3,), "num_filter": 4, "stride": (2,), "pad": (1,)},
        conv,
        wrong=((X, W, B), {**K33, "layout": "HWNC"}),
        says="unknown layout",
        note="1d",
    ),
    Row(
        "Convolution",
        (signed(1, 2, 3, 4, 3), signed(2, 2, 2, 2, 2, seed=1), signed(2, seed=2)),
        {"kernel": (2, 2, 2), "num_filter": 2, "pad": (1, 0, 1), "stride": (1, 2, 1)},
        conv,
        wrong=((X, W, signed(5)), K33),
        says="bias of shape (6,)",
        note="3d",
    ),
    Row(
        "Convolution",
        (signed(2, 5, 4, 3), signed(4, 2, 2, 3, seed=1), signed(4, seed=2)),
        {"kernel": (2, 2), "num_filter": 4, "layout": "NHWC"},
        last(conv),
        wrong=((X, W, B), {**K33, "stride": (1, 0)}),
        says="stride needs 2 numbers",
        note="channels last",
    ),
    Row(
        "Convolution",
        (X, signed(6, 4, 1, 1, seed=1)),
        {"kernel": (1, 1), "num_filter": 6, "no_bias": True},
        conv,
        note="1x1",
    ),
    Row(
        "conv_data",
        (signed(2, 2, 2, 3), signed(2, 3, 3, 2, seed=1), signed(2, 3, 4, 5, seed=2)),
        {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1)},
        adjoint,
        differentiable=(0, 1),
    ),
    Row(
        "conv_data",
        (signed(1, 2, 9, 8), signed(2, 1, 3, 3, seed=1), signed(1, 1, 9, 8, seed=2)),
        {"kernel": (3, 3), "pad": (1, 1)},
        adjoint,
        differentiable=(0, 1),
        note="same size",
    ),
    Row(
        "conv_weight",
        (signed(2, 2, 2, 3), signed(2, 3, 4, 5, seed=2)),
        {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1)},
        weight_of,
    ),
    Row(
        "conv_weight",
        (signed(1, 2, 9, 8), signed(1, 1, 9, 8, seed=2)),
        {"kernel": (3, 3), "pad": (1, 1)},
        weight_of,
        note="same size",
    ),
    Row("channel_sum", (signed(2, 3, 4, 5),), {}, lambda g: g.sum((0, 2, 3))),
    Row(
        "Deconvolution",
        (signed(2, 4, 3, 2), signed(4, 1, 3, 2, seed=1), signed(2, seed=2)),
        {
            "kernel": (3, 2),
            "num_filter": 2,
            "num_group": 2,
            "stride": (2, 3),
            "pad": (1, 0),
            "adj": (1, 2),
            "no_bias": False,
        },
        deconv,
        wrong=((X, signed(4, 2, 3, 3)), {"kernel": (3, 3), "num_filter": 2, "adj": (1, 1)}),
        says="smaller than the stride",
    ),
    Row(
        "Deconvolution",
        (signed(1, 2, 3, 3), signed(2, 2, 3, 3, seed=1)),
        {"kernel": (3, 3), "num_filter": 2, "stride": (2, 2), "target_shape": (6, 5)},
        deconv,
        wrong=(
            (X, signed(4, 2, 3, 3)),
            {"kernel": (3, 3), "num_filter": 2, "target_shape": (9, 9)},
        ),
        says="too large",
        note="target",
    ),
    Row(
        "deconv_data",
        (signed(1, 2, 6, 5), signed(2, 2, 3, 3, seed=1), signed(1, 2, 3, 3, seed=2)),
        {"kernel": (3, 3), "stride": (2, 2), "target_shape": (6, 5)},
        lambda g, w, x, target_shape, **s: conv(g, w, pad=(1, 1), **s),
        differentiable=(0, 1),
    ),
    Row(
        "deconv_weight",
        (signed(1, 2, 3, 3, seed=2), signed(1, 2, 6, 5)),
        {"kernel": (3, 3), "stride": (2, 2), "target_shape": (6, 5)},
        lambda x, g, target_shape, **s: weight_of(x, g, pad=(1, 1), **s),
    ),
]
