"""Operators of chapter 89d: bytes and their ranges. References count in whole numbers of 64 bits."""

import numpy as np

from tests.rows import Row, signed


def whole(low, high, *shape, kind="int8", seed=0):
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


def bounds(*values):
    return [np.array([v], "float32") for v in values]


I, J = whole(-127, 128, 3, 8), whole(-127, 128, 3, 8, seed=1)
U, W, B = whole(0, 256, 3, 8, kind="uint8"), whole(-127, 128, 4, 8, seed=2), whole(-127, 128, 4)
PICTURE, WINDOW = whole(-127, 128, 2, 3, 5, 6), whole(-127, 128, 4, 3, 3, 2)
RANGES, BIASED = bounds(-1, 1.5, -2, 1), bounds(-1, 1.5, -2, 1, -0.5, 0.75)
X = signed(4, 6)
SUMS = whole(-(10**6), 10**6, 4, 6, kind="int32")
HALF = {"int8": 127.5, "uint8": 255.5}
FULL = {"int8": 127, "uint8": 255}
MOST = 2**31 - 1
GAMMA, BETA, MEAN, VAR = (np.linspace(a, b, 3) for a, b in ((0.5, 1), (-1, 1), (0, 0.5), (1, 2)))


def single(*values):
    return [np.array([v], "float32") for v in values]


def rounded(x, kind):
    least = {"int8": -128, "uint8": 0, "int32": -(2**31)}[kind]
    most = MOST if kind == "int32" else FULL[kind]
    return np.minimum(np.maximum(np.rint(x), least), most).astype(kind)


def to_bytes(kind, low, high):
    def reference(x, **_):
        bound = np.float32(max(abs(low), abs(high)))
        steps = rounded(x * (np.float32(HALF[kind]) / bound), kind)
        return [steps, *single(*((-bound, bound) if kind == "int8" else (low, high)))]

    return reference


def product(a, w, b, data, weight, bias=0.75):
    """Sums along the last axes, and the bias told in their steps."""
    y = np.einsum("nk,ok->no", a.astype("int64"), w.astype("int64"))
    kind = a.dtype.name
    if b is not None:
        step = data / HALF[kind] * weight / 127
        y = y + np.trunc(b * (bias / 127 / step)).astype("int64")
    bound = data / FULL[kind] * weight / 127 * MOST
    return y.astype("int32"), bound


def dense(a, w, *rest, num_hidden, no_bias=False, flatten=True):
    y, bound = product(a.reshape(-1, a.shape[-1]), w, None if no_bias else rest[0], 1.5, 2)
    return [y.reshape(*a.shape[:-1], -1), *single(-bound, bound)]


def convolved(x, w, *rest, no_bias=False, stride=(1, 1), pad=(0, 0), **_):
    edges = [(0, 0), (0, 0), *((p, p) for p in pad)]
    x = np.pad(x, edges)
    views = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))
    views = views[:, :, :: stride[0], :: stride[1]].transpose(0, 2, 3, 1, 4, 5)
    rows = views.reshape(-1, w[0].size)
    y, bound = product(rows, w.reshape(len(w), -1), None if no_bias else rest[0], 1.5, 2)
    y = y.reshape(*views.shape[:3], -1).transpose(0, 3, 1, 2)
    return [y, *single(-bound, bound)]


def means(x, *_, **__):
    views = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))[:, :, ::2, ::2]
    return [rounded(views.mean((-1, -2)), x.dtype.name), *single(-1, 1.5)]


def joined(*arrays, num_args, dim):
    data, ends = arrays[:num_args], np.ravel(arrays[num_args:])
    kind = "uint8" if all(a.dtype == np.uint8 for a in data) else "int8"
    step = abs(ends).max() / HALF[kind]
    told = [
        rounded(a * (max(abs(lo), abs(hi)) / HALF[a.dtype.name] / step), kind)
        for a, lo, hi in zip(data, ends[::2], ends[1::2])
    ]
    return [np.concatenate(told, dim), *single(ends.min(), ends.max())]


def normalized(x, g, b, m, v, *_, eps, min_calib_range=None, max_calib_range=None, fix_gamma):
    steps = x if x.dtype == np.int8 else np.rint(x * (127.5 / 255.5))
    shape = (1, -1, 1, 1)
    real = steps * (1.5 / 127.5)
    y = (real - m.reshape(shape)) / np.sqrt(v + eps).reshape(shape)
    y = y * (1 if fix_gamma else g.reshape(shape)) + b.reshape(shape)
    top = abs(y).max() if max_calib_range is None else max_calib_range
    low = -top if min_calib_range is None else min_calib_range
    return [rounded(y * (127.5 / max(abs(low), top)), "int8"), *single(low, top)]


HIST = np.round(300 * np.exp(-(np.linspace(-3, 3, 1001) ** 2)))
EDGES = np.linspace(-2, 2, 1002)


def best(hist, edges, num_quantized_bins):
    """The definition, in loops."""
    found, bins, zero = [], num_quantized_bins, len(hist) // 2
    for i in range(bins // 2, zero + 1):
        inner = hist[zero - i : zero + i + 1].copy()
        p = inner.copy()
        p[0] += hist[: zero - i].sum()
        p[-1] += hist[zero + i + 1 :].sum()
        q, width = np.zeros_like(p), len(p) // bins
        inner[0] = 0
        for j in range(bins):
            part = slice(j * width, len(p) if j == bins - 1 else (j + 1) * width)
            full = inner[part] != 0
            if full.any():
                q[part][p[part] != 0] = inner[part].sum() / full.sum()
        p, q = (
            [d := np.where(h == 0, 1e-4, h - 1e-4 * (h == 0).sum() / (h != 0).sum()), d / d.sum()][
                1
            ]
            for h in (p, q)
        )
        found.append(((p * np.log(p / q)).sum(), edges[zero + i + 1]))
    loss, threshold = min(found)
    return single(threshold, loss)


NONE = {"differentiable": ()}


def lstm(data, w, h, c, scale, shift, **_):
    """One layer, step by step, with weights of 127 steps a unit."""
    n, inputs = h.shape[2], data.shape[2]
    wx, wh = w[: 4 * n * inputs].reshape(4 * n, -1), w[4 * n * inputs : -8 * n].reshape(4 * n, n)
    step = np.maximum(abs(wx).max(1), abs(wh).max(1))[:, None] / 127
    wx, wh, bias = *(np.rint(v / step) * step for v in (wx, wh)), w[-8 * n :].reshape(2, -1).sum(0)
    h, c, out, logistic = h[0], c[0], [], lambda v: 1 / (1 + np.exp(-v))
    for x in (data - shift) / scale:
        i, f, g, o = np.split(x @ wx.T + h @ wh.T + bias, 4, axis=1)
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(c)
        out.append(h)
    return [np.array(out), h[None], c[None]]


STEPS_IN = whole(0, 256, 4, 2, 3, kind="uint8")
WEIGHTS = signed(4 * 5 * (3 + 5 + 2))
LSTM = {"state_size": 5, "num_layers": 1, "mode": "lstm", "state_outputs": True}
STATE = signed(1, 2, 5, seed=1)
ROWS = [
    *(
        Row(
            "contrib_quantize_v2",
            (x.astype("float32"),),
            {"out_type": kind}
            | ({"min_calib_range": low, "max_calib_range": high} if given else {}),
            to_bytes(kind, low, high),
            wrong=((X,), {"min_calib_range": 0.0}),
            says="neither",
            note=f"{kind} {given}",
            **NONE,
        )
        for x, low, high, given in (
            (X, np.float32(X.min()), np.float32(X.max()), False),
            (X, -0.5, 0.75, True),
        )
        for kind in ("int8", "uint8")
    ),
    Row(
        "contrib_quantize_v2",
        (abs(X).astype("float32"),),
        {"out_type": "auto", "min_calib_range": 0.0, "max_calib_range": 0.5},
        to_bytes("uint8", 0, 0.5),
        wrong=((X,), {"out_type": "int4"}),
        says="int4",
        note="auto",
        **NONE,
    ),
    *(
        Row(
            "contrib_requantize",
            (SUMS, *bounds(-1000, 900)),
            {"out_type": kind, "min_calib_range": -0.25, "max_calib_range": 0.125},
            lambda x, *_, kind=kind, **__: [
                rounded(x * (1000 / (MOST + 0.5)) * (FULL[kind] / 0.25), kind),
                *single(-0.25 if kind == "int8" else 0, 0.25),
            ],
            wrong=((I, *bounds(-1, 1)), {}),
            says="int32",
            note=kind,
            **NONE,
        )
        for kind in ("int8", "uint8")
    ),
    Row(
        "contrib_requantize",
        (SUMS, *bounds(-1000, 900)),
        {},
        lambda x, *_: [
            rounded(x * (127 / abs(x.astype("int64")).max()), "int8"),
            *single(*(s * abs(x.astype("int64")).max() * (1000 / (MOST + 0.5)) for s in (-1, 1))),
        ],
        note="its own range",
        **NONE,
    ),
    Row(
        "contrib_quantize_asym",
        (X.reshape(2, 2, 6),),
        {"min_calib_range": -1.0, "max_calib_range": 0.5},
        lambda x, **_: [rounded(x * 170 + 170, "uint8"), *single(170, 170)],
        wrong=((X,), {"max_calib_range": 0.5}),
        **NONE,
    ),
    Row(
        "contrib_quantized_fully_connected",
        (I, W, B, *BIASED),
        {"num_hidden": 4},
        dense,
        wrong=((I, W, B, *RANGES), {"num_hidden": 4}),
        says="7 arrays",
        **NONE,
    ),
    Row(
        "contrib_quantized_fully_connected",
        (U, W, *RANGES),
        {"num_hidden": 4, "no_bias": True},
        dense,
        wrong=((X, W, *RANGES), {"num_hidden": 4, "no_bias": True}),
        says="quantize_v2",
        note="unsigned",
        **NONE,
    ),
    Row(
        "contrib_quantized_fully_connected",
        (I.reshape(3, 2, 4), W[:, :4], B, *BIASED),
        {"num_hidden": 4, "flatten": False},
        dense,
        note="rows",
        **NONE,
    ),
    Row(
        "contrib_quantized_conv",
        (PICTURE, WINDOW, B, *BIASED),
        {"kernel": (3, 2), "num_filter": 4, "stride": (2, 1), "pad": (1, 0)},
        convolved,
        wrong=(
            (PICTURE, WINDOW, *RANGES),
            {"kernel": (3, 2), "num_filter": 4, "no_bias": True, "layout": "NHWC"},
        ),
        says="NHWC",
        **NONE,
    ),
    Row(
        "contrib_quantized_conv",
        (PICTURE, WINDOW, *RANGES),
        {"kernel": (3, 2), "num_filter": 4, "no_bias": True},
        convolved,
        note="no bias",
        **NONE,
    ),
    *(
        Row(
            "contrib_quantized_pooling",
            (x, *bounds(-1, 1.5)),
            {"kernel": (2, 2), "stride": (2, 2), "pool_type": "avg"},
            means,
            wrong=((x, *bounds(-1, 1)), {"kernel": (2, 2), "pool_type": "sum"}),
            says="'sum'",
            note=x.dtype.name,
            **NONE,
        )
        for x in (PICTURE, whole(0, 256, 2, 3, 5, 6, kind="uint8"))
    ),
    Row(
        "contrib_quantized_pooling",
        (PICTURE, *bounds(-1, 1.5)),
        {"global_pool": True, "kernel": (1, 1), "pool_type": "avg"},
        lambda x, *_, **__: [rounded(x.mean((2, 3), keepdims=True), "int8"), *single(-1, 1.5)],
        note="all",
        **NONE,
    ),
    *(
        Row(
            "contrib_quantized_act",
            (x, *bounds(-1, 1.5)),
            {"act_type": "relu"},
            lambda x, *_, **__: [x * (x > 0), *single(-1, 1.5)],
            wrong=((x, *bounds(-1, 1.5)), {"act_type": "tanh"}),
            says="'tanh'",
            note=x.dtype.name,
            **NONE,
        )
        for x in (I, U)
    ),
    Row(
        "contrib_quantized_flatten",
        (PICTURE, *bounds(-1, 1.5)),
        {},
        lambda x, *_: [x.reshape(len(x), -1), *single(-1, 1.5)],
        wrong=((X, *bounds(-1, 1)), {}),
        **NONE,
    ),
    Row(
        "contrib_quantized_embedding",
        (np.array([[0, 3], [9, -1]], "float32"), W, *bounds(-1, 0.5)),
        {"input_dim": 4, "output_dim": 8},
        lambda i, w, *_, **__: [w[np.clip(i, 0, 3).astype(int)], *single(-1, 0.5)],
        wrong=((np.zeros(2), W, *bounds(-1, 1)), {"input_dim": 5, "output_dim": 8}),
        says="(5, 8)",
        **NONE,
    ),
    *(
        Row(
            "contrib_quantized_concat",
            (a, b, *bounds(-1, 1.5, -2, 1)),
            {"num_args": 2, "dim": 1},
            joined,
            wrong=((a, b, *bounds(-1, 1.5, -2)), {"dim": 1}),
            says="two bounds",
            note=f"{a.dtype} {b.dtype}",
            **NONE,
        )
        for a, b in ((I, J[:, :3]), (U, U[:, 2:]), (I, U))
    ),
    *(
        Row(
            "contrib_quantized_elemwise_add",
            (a, a[::-1].copy(), *bounds(-1, 1.5, -2, 1)),
            {"min_calib_range": -1.0, "max_calib_range": 2.0},
            lambda a, b, *_, **__: [rounded(a * 0.75 + b, a.dtype.name), *single(-1, 2)],
            wrong=((a, a[:2].copy(), *RANGES), {}),
            says="one shape",
            note=a.dtype.name,
            **NONE,
        )
        for a in (I, U)
    ),
    Row(
        "contrib_quantized_elemwise_add",
        (I, J, *bounds(-1, 1.5, -2, 1)),
        {},
        lambda a, b, *_: [
            rounded((a * (1.5 / 3.5) + b * (2 / 3.5)) * ((MOST + 0.5) / 127.5), "int32"),
            *single(-3.5, 3.5),
        ],
        note="wide",
        **NONE,
    ),
    Row(
        "contrib_quantized_elemwise_mul",
        (I, U, *bounds(-1, 1.5, -2, 1)),
        {},
        lambda a, b, *_: [
            a.astype("int32") * b,
            *single(*(s * (1.5 / 127) * (2 / 255) * MOST for s in (-1, 1))),
        ],
        wrong=((I, U[:2], *RANGES), {}),
        **NONE,
    ),
    Row(
        "contrib_quantized_elemwise_mul",
        (I, J, *bounds(-1, 1.5, -2, 1)),
        {"min_calib_range": -1.0, "max_calib_range": 2.0},
        lambda a, b, *_, **__: [
            rounded(a.astype("int32") * b * (1.5 / 127 * 2 / 127 * 127 / 2), "int8"),
            *single(-1, 2),
        ],
        note="bytes",
        **NONE,
    ),
    Row(
        "contrib_quantized_elemwise_mul",
        (I, J, *bounds(-1, 1.5, -2, 1)),
        {"enable_float_output": True},
        lambda a, b, *_, **__: (a.astype("int32") * b * (1.5 / 127 * (2 / 127))).astype("float32"),
        note="floats",
        **NONE,
    ),
    *(
        Row(
            "contrib_quantized_batch_norm",
            (x, GAMMA, BETA, MEAN, VAR, *bounds(-1, 1.5)),
            {"eps": 1e-5, "fix_gamma": fixed} | calib,
            normalized,
            wrong=((X, GAMMA, BETA, MEAN, VAR, *bounds(-1, 1)), {}),
            says="quantize_v2",
            note=f"{x.dtype} {fixed} {bool(calib)}",
            **NONE,
        )
        for x, fixed, calib in (
            (PICTURE, False, {"min_calib_range": -2.0, "max_calib_range": 1.5}),
            (PICTURE, True, {}),
            (
                whole(0, 256, 2, 3, 5, 6, kind="uint8"),
                False,
                {"min_calib_range": -1.0, "max_calib_range": 2.0},
            ),
        )
    ),
    Row(
        "contrib_calibrate_entropy",
        (HIST, EDGES),
        {"num_quantized_bins": 255},
        best,
        wrong=((HIST[1:], EDGES), {}),
        says="odd",
        **NONE,
    ),
    Row(
        "contrib_quantized_rnn",
        (STEPS_IN, WEIGHTS, STATE, STATE / 2, np.array([50.0]), np.array([120.0])),
        LSTM,
        lstm,
        wrong=((STEPS_IN, WEIGHTS, STATE, STATE, *single(50, 120)), LSTM | {"mode": "gru"}),
        says="there is mode='lstm'",
        **NONE,
    ),
]
