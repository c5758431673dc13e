"""Operators of chapter 45: dropout, with a stream of its own so that both sides draw the same."""

import numpy as np

from minigluon.ops.dropout import keep_law
from tests.rows import Row, signed


def drop(x, p=0.5, mode="training", axes=(), rng=None, **_):
    if mode == "training" or p == 0:
        return x
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return x * keep_law(np.random.default_rng(rng), shape, x.dtype, p)


X = signed(3, 4)
ROWS = [
    Row(
        "Dropout",
        (X,),
        {"p": 0.3, "mode": "always", "rng": 3},
        drop,
        wrong=((X,), {"p": 1.5}),
        says="exceed bound",
        note="always",
    ),
    Row(
        "Dropout",
        (X,),
        {"mode": "always", "axes": (0,), "rng": 3},
        drop,
        wrong=((X,), {"mode": "q"}),
        says="mode",
        note="axes",
    ),
    Row("Dropout", (X,), {"p": 1, "mode": "always", "rng": 3}, drop, note="all"),
    Row("Dropout", (X,), {"p": 0, "mode": "always"}, drop, note="none"),
    Row(
        "Dropout",
        (X,),
        {"rng": 3},
        drop,
        wrong=((X,), {"mode": "always", "axes": (2,)}),
        says="out of range",
        differentiable=(),
        note="in use",
    ),
]
