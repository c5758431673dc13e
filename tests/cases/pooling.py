"""Operators of chapter 42: pooling by its definition, one window at a time."""

import numpy as np

from tests.cases.convolution import deconv
from tests.rows import Row, positive, signed


def windows(x, kernel=(), stride=(), pad=(), pooling_convention="valid", global_pool=False, **_):
    """Each window's place, its part of `x`, and how many numbers it has with the border counted."""
    axes, sizes = x.ndim - 2, x.shape[2:]
    if global_pool:
        kernel, stride, pad, pooling_convention = sizes, (), (), "valid"
    stride, pad = tuple(stride) or (1,) * axes, tuple(pad) or (0,) * axes
    up = {"valid": np.floor, "full": np.ceil}.get(pooling_convention)
    outs = [
        -(-n // s) if up is None else int(up((n + 2 * p - k) / s)) + 1
        for n, k, s, p in zip(sizes, kernel, stride, pad)
    ]
    for at in np.ndindex(*outs):
        start = [i * s - p for i, s, p in zip(at, stride, pad)]
        end = [min(b + k, n + p) for b, k, n, p in zip(start, kernel, sizes, pad)]
        spots = [slice(max(b, 0), max(min(e, n), 0)) for b, e, n in zip(start, end, sizes)]
        yield at, outs, spots, int(np.prod([e - b for b, e in zip(start, end)]))


def pool(x, pool_type="max", p_value=None, count_include_pad=None, layout=None, **settings):
    if layout in ("NWC", "NHWC"):
        y = pool(np.moveaxis(x, -1, 1), pool_type, p_value, count_include_pad, **settings)
        return np.moveaxis(y, 1, -1)
    y = None
    for at, outs, spots, size in windows(x, **settings):
        y = np.zeros((*x.shape[:2], *outs)) if y is None else y
        part = x[:, :, *spots].reshape(*x.shape[:2], -1)
        size = part.shape[2] if count_include_pad is False else size
        y[:, :, *at] = {
            "max": lambda part=part: part.max(2),
            "sum": lambda part=part: part.sum(2),
            "avg": lambda part=part, size=size: part.sum(2) / size,
            "lp": lambda part=part: (part**p_value).sum(2) ** (1 / p_value),
        }[pool_type]()
    return y


def spread(g, x, pool_type="sum", **settings):
    out = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        unit = np.zeros_like(x)
        unit[at] = 1
        out[at] = (pool(unit, pool_type, **settings) * g).sum()
    return out


def place(g, x, **settings):
    out = np.zeros_like(x)
    for at, _, spots, _ in windows(x, **settings):
        part, to = x[:, :, *spots], out[:, :, *spots]
        for n, c in np.ndindex(*x.shape[:2]):
            where = np.unravel_index(part[n, c].argmax(), part[n, c].shape)
            to[n, c][where] += g[(n, c, *at)]
    return out


def picked(h, x, **settings):
    y = None
    for at, outs, spots, _ in windows(x, **settings):
        y = np.zeros((*x.shape[:2], *outs)) if y is None else y
        for n, c in np.ndindex(*x.shape[:2]):
            y[(n, c, *at)] = h[n, c][tuple(spots)].ravel()[x[n, c][tuple(spots)].argmax()]
    return y


def up(*xs, scale, multi_input_mode="concat", **_):
    height = xs[0].shape[2] * scale
    grown = [np.kron(x, np.ones((height // x.shape[2],) * 2)) for x in xs]
    return sum(grown) if multi_input_mode == "sum" else np.concatenate(grown, 1)


def near(x, nsize):
    half = nsize // 2
    parts = [x[:, max(i - half, 0) : i + half + 1].sum(1) for i in range(x.shape[1])]
    return np.stack(parts, 1)


def lrn(x, nsize, alpha=1e-4, beta=0.75, knorm=2.0):
    return x / (knorm + alpha / nsize * near(x * x, nsize)) ** beta


X = signed(2, 3, 8, 6)
SET = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
BAD = {
    "max": ((X,), {"kernel": (9, 2)}, "exceeds input"),
    "avg": ((X,), {"kernel": (2,)}, "numbers each"),
    "sum": ((X,), {"kernel": (2, 2), "pool_type": "mean"}, "unknown pool_type"),
    "lp": ((X,), {"kernel": (2, 2), "pool_type": "lp"}, "needs p_value"),
}
ROWS = [
    *[
        Row(
            "Pooling",
            (positive(2, 3, 8, 6) if kind == "lp" else X,),
            {**SET, "pool_type": kind, "p_value": 2, "pooling_convention": how},
            pool,
            wrong=BAD[kind][:2],
            says=BAD[kind][2],
            note=f"{kind} {how}",
        )
        for kind in BAD
        for how in ("valid", "full")
    ],
    *[
        Row("Pooling", (X,), {"global_pool": True, "pool_type": kind}, pool, note=f"global {kind}")
        for kind in ("max", "avg", "sum")
    ],
    *[
        Row(
            "Pooling",
            (positive(1, 2, 6),),
            {"kernel": (2,), "pool_type": "lp", "p_value": p, "stride": (2,)},
            pool,
            note=f"lp {p}",
        )
        for p in (1, 3)
    ],
    Row(
        "Pooling",
        (X,),
        {**SET, "pool_type": "avg", "pooling_convention": "full", "count_include_pad": False},
        pool,
        wrong=((X,), {"kernel": (2, 2), "pooling_convention": "half"}),
        says="unknown pooling_convention",
        note="pad not counted",
    ),
    Row(
        "Pooling",
        (signed(1, 2, 7),),
        {"kernel": (3,), "stride": (2,), "pooling_convention": "same"},
        pool,
        wrong=((X,), {**SET, "pooling_convention": "same"}),
        says="takes no pad",
        note="same",
    ),
    Row(
        "Pooling",
        (signed(1, 5, 4, 2),),
        {"kernel": (2, 2), "layout": "NHWC"},
        pool,
        wrong=((X,), {"kernel": (2, 2), "layout": "CHWN"}),
        says="layout CHWN does not fit",
        note="channels last",
    ),
    Row("Pooling", (signed(1, 2, 3, 4, 3),), {"kernel": (2, 2, 2)}, pool, note="3d"),
    *(
        Row(
            "Pooling_v1",
            (X,),
            {"kernel": (3, 3), "stride": (2, 2), "pooling_convention": "full", "pool_type": kind},
            lambda x, pool_type, **s: (
                pool(x, "sum", **s) / 9 if pool_type == "avg" else pool(x, pool_type, **s)
            ),
            note=kind,
        )
        for kind in ("max", "avg", "sum")
    ),
    Row("pool_sum", (X,), {**SET, "pool_type": "avg"}, pool),
    Row("pool_spread", (signed(2, 3, 4, 3), X), SET, spread, differentiable=(0,)),
    Row("pool_place", (signed(2, 3, 4, 3), X), SET, place, differentiable=(0,)),
    Row("pool_pick", (signed(2, 3, 8, 6, seed=1), X), SET, picked, differentiable=(0,)),
    Row(
        "UpSampling",
        (signed(1, 2, 2, 3),),
        {"scale": 2, "sample_type": "nearest"},
        up,
        wrong=((X,), {"scale": 2, "sample_type": "cubic"}),
        says="unknown sample_type",
    ),
    Row(
        "UpSampling",
        (signed(1, 2, 2, 2), signed(1, 1, 4, 4, seed=1)),
        {"scale": 2, "sample_type": "nearest", "num_args": 2},
        up,
        wrong=((X, signed(2, 3, 5, 5)), {"scale": 2, "sample_type": "nearest"}),
        says="must divide 16",
        note="two",
    ),
    Row(
        "UpSampling",
        (signed(1, 2, 2, 2), signed(1, 2, 4, 4, seed=1)),
        {"scale": 2, "sample_type": "nearest", "num_args": 2, "multi_input_mode": "sum"},
        up,
        note="sum",
    ),
    *[
        Row(
            "UpSampling",
            (signed(1, 2, 3, 2), signed(2, 1, k, k, seed=1)),
            {"scale": scale, "sample_type": "bilinear", "num_filter": 2, "num_args": 2},
            lambda x, w, scale, k=k, **_: deconv(
                x, w, kernel=(k, k), stride=(scale,) * 2, pad=(scale // 2,) * 2, num_group=2
            ),
            note=f"bilinear {scale}",
        )
        for scale, k in ((2, 4), (3, 5))
    ],
    Row(
        "upsample_like",
        (signed(1, 2, 2, 3), signed(1, 2, 4, 6)),
        {},
        lambda x, like: up(x, scale=2),
        differentiable=(0,),
    ),
    Row(
        "upsample_back",
        (signed(1, 2, 4, 6), signed(1, 2, 2, 3)),
        {},
        lambda g, x: g.reshape(1, 2, 2, 2, 3, 2).sum((3, 5)),
        differentiable=(0,),
    ),
    Row("near_sum", (signed(1, 4, 2, 2),), {"nsize": 5}, near),
    Row(
        "LRN",
        (signed(2, 5, 3, 2),),
        {"nsize": 3, "alpha": 0.1, "beta": 0.5},
        lrn,
        wrong=((X,), {"nsize": 0}),
        says="nsize from 1",
    ),
    Row(
        "LRN",
        (signed(2, 5, 3, 2),),
        {"nsize": 4, "alpha": 0.1, "beta": 0.5},
        lambda x, nsize, alpha, beta: x / (2 + alpha / 4 * near(x * x, 3)) ** beta,
        note="even",
    ),
]
