"""Operators of chapter 40: layers."""

import numpy as np

from tests.rows import Row, signed


def dense(x, w, b=None, num_hidden=None, no_bias=False, flatten=True):
    x = x.reshape(len(x), -1) if flatten else x
    return x @ w.T if b is None else x @ w.T + b


def act(x, act_type):
    return {
        "relu": lambda x: np.maximum(x, 0),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "tanh": np.tanh,
        "softrelu": lambda x: np.log1p(np.exp(x)),
        "softsign": lambda x: x / (1 + abs(x)),
    }[act_type](x)


ROWS = [
    Row(
        "FullyConnected",
        (signed(3, 4), signed(2, 4, seed=1), signed(2, seed=2)),
        {"num_hidden": 2},
        dense,
        wrong=((signed(3, 4), signed(2, 5), signed(2)), {"num_hidden": 2}),
        says="need a weight of shape (2, 4)",
    ),
    Row(
        "FullyConnected",
        (signed(3, 2, 2), signed(5, 4, seed=1)),
        {"num_hidden": 5, "no_bias": True},
        dense,
        wrong=((signed(3, 4), signed(2, 4)), {"num_hidden": 2}),
        says="bias is missing",
        note="flattened",
    ),
    Row(
        "FullyConnected",
        (signed(3, 2, 4), signed(5, 4, seed=1), signed(5, seed=2)),
        {"num_hidden": 5, "flatten": False},
        dense,
        wrong=((signed(3, 4), signed(2, 4), signed(3)), {"num_hidden": 2}),
        says="need a bias of shape (2,)",
        note="last axis",
    ),
    Row(
        "dense_data",
        (signed(3, 5), signed(5, 4, seed=1), signed(3, 2, 2, seed=2)),
        {},
        lambda g, w, x, **_: (g @ w).reshape(x.shape),
        differentiable=(0, 1),
        wrong=((signed(3, 5), signed(4, 4), signed(3, 4)), {}),
        note="flattened",
    ),
    Row(
        "dense_data",
        (signed(3, 2, 5), signed(5, 4, seed=1), signed(3, 2, 4, seed=2)),
        {"flatten": False},
        lambda g, w, x, **_: g @ w,
        differentiable=(0, 1),
        note="last axis",
    ),
    Row(
        "dense_weight",
        (signed(3, 5), signed(3, 2, 2, seed=1)),
        {},
        lambda g, x, **_: g.T @ x.reshape(3, 4),
        wrong=((signed(3, 5), signed(2, 4)), {}),
    ),
    Row("softrelu", (signed(3, 4) * 3,), reference=lambda x: act(x, "softrelu")),
    Row("softsign", (signed(3, 4) * 3,), reference=lambda x: act(x, "softsign")),
    *(
        Row(
            "Activation",
            (signed(3, 4),),
            {"act_type": name},
            act,
            wrong=((signed(3),), {"act_type": "rleu"}),
            says="known are relu",
            note=name,
        )
        for name in ["relu", "sigmoid", "tanh", "softrelu", "softsign"]
    ),
]
