"""Rows of the operators of `ops.norms`."""

import numpy as np

from tests.rows import Row, positive, signed

A, CUBE = signed(3, 4), positive(2, 3, 4)
HOLES = np.array([[1.5, np.nan, 3.0], [np.nan, np.nan, 2.0]])
LABEL = np.array([1, 0, 3])


def l2(x, axes, eps=1e-10):
    return x / np.sqrt((x * x).sum(axes, keepdims=True) + eps)


def soft(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


def entropy(z, label):
    return -np.log(soft(z, -1))[np.arange(len(z)), label].sum(keepdims=True)


ROWS = [
    Row("prod", (A,), {}, np.prod, wrong=((A,), {"axis": 2}), says="axis 2"),
    Row("prod", (CUBE,), {"axis": (0, -1)}, lambda x, axis: x.prod(axis), note="axes"),
    Row(
        "prod",
        (CUBE,),
        {"axis": 1, "exclude": True, "keepdims": True},
        lambda x, **_: x.prod((0, 2), keepdims=True),
        note="exclude",
    ),
    Row("nansum", (A,), {"axis": 1}, lambda x, axis: x.sum(axis)),
    Row("nansum", (HOLES,), {"axis": 1}, lambda x, axis: np.nansum(x, axis), (), note="nan"),
    Row("nanprod", (A,), {"axis": 0}, lambda x, axis: x.prod(axis)),
    Row("nanprod", (HOLES,), {"axis": 1}, lambda x, axis: np.nanprod(x, axis), (), note="nan"),
    Row("norm", (A,), {}, np.linalg.norm, wrong=((A,), {"ord": 3}), says="ord=3"),
    Row(
        "norm",
        (A,),
        {"axis": 1, "keepdims": True},
        lambda x, **s: np.linalg.norm(x, **s),
        note="axis",
    ),
    Row("norm", (A,), {"ord": 1, "axis": 0}, lambda x, ord, axis: abs(x).sum(axis), note="one"),
    Row("norm", (CUBE,), {"axis": (1, 2)}, lambda x, axis: np.sqrt((x * x).sum(axis)), note="axes"),
    Row(
        "L2Normalization",
        (A,),
        {},
        lambda x: l2(x, 1),
        wrong=((A,), {"mode": "spatial"}),
        says="more axes",
    ),
    Row("L2Normalization", (CUBE,), {"mode": "channel"}, lambda x, mode: l2(x, 1), note="channel"),
    Row(
        "L2Normalization",
        (CUBE,),
        {"mode": "spatial", "eps": 0.1},
        lambda x, mode, eps: l2(x, 2, eps),
        note="spatial",
    ),
    Row("L2Normalization", (CUBE,), {}, lambda x: l2(x, (1, 2)), note="instance"),
    Row(
        "moments",
        (CUBE,),
        {"axes": (0, 2)},
        lambda x, axes: [x.mean(axes), x.var(axes)],
        wrong=((A,), {"axes": ()}),
        says="empty",
    ),
    Row(
        "moments",
        (A,),
        {"axes": 1, "keepdims": True},
        lambda x, axes, keepdims: [x.mean(1, keepdims=True), x.var(1, keepdims=True)],
        note="keepdims",
    ),
    Row("moments", (A,), {}, lambda x: [x.mean(), x.var()], note="all"),
    Row(
        "cumsum",
        (CUBE,),
        {"axis": 1},
        lambda x, axis: x.cumsum(axis),
        wrong=((A,), {"axis": 2}),
        says="axis 2",
    ),
    Row("cumsum", (A,), {}, np.cumsum, note="flat"),
    Row("argmax_channel", (A,), {}, lambda x: x.argmax(1), ()),
    Row(
        "softmin",
        (A,),
        {"axis": 0, "temperature": 2.0},
        lambda x, axis, temperature: soft(-x / temperature, axis),
    ),
    Row(
        "SoftmaxActivation",
        (A,),
        {},
        lambda x: soft(x, 1),
        wrong=((A,), {"mode": "all"}),
        says="instance",
    ),
    Row(
        "SoftmaxActivation",
        (CUBE,),
        {"mode": "channel"},
        lambda x, mode: soft(x, 1),
        note="channel",
    ),
    Row(
        "SoftmaxActivation",
        (CUBE,),
        {},
        lambda x: soft(x, -1),
        note="instance",
    ),
    Row(
        "softmax_cross_entropy",
        (A, LABEL),
        {},
        entropy,
        (0,),
        wrong=((A, LABEL[:2]), {}),
        says="labels of shape",
    ),
    Row(
        "softmax_cross_entropy",
        (A, LABEL + 1),
        {},
        lambda x, i: (
            entropy(x[i < x.shape[1]], i[i < x.shape[1]]) - (i >= x.shape[1]).sum() * np.log(1e-8)
        ),
        (),  # the gradient is that of the softmax: see test_edges
        note="out of range",
    ),
]
