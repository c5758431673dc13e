"""Operators of chapter 44: activations with a slope below zero."""

from math import erf, pi

import numpy as np

from tests.rows import Row, positive, signed

LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., 2017


def bend(x, gamma=None, act_type="leaky", slope=0.25, rng=None, **_):
    if gamma is not None and gamma.ndim == 1 and gamma.size > 1 and x.ndim > 1:
        gamma = gamma.reshape([-1 if i == 1 else 1 for i in range(x.ndim)])
    return {
        "leaky": lambda: np.where(x > 0, x, slope * x),
        "prelu": lambda: np.where(x > 0, x, gamma * x),
        "elu": lambda: np.where(x > 0, x, slope * np.expm1(x)),
        "selu": lambda: LAMBDA * np.where(x > 0, x, ALPHA * np.expm1(x)),
        "gelu": lambda: x * (1 + np.vectorize(erf)(x / 2**0.5)) / 2,
        "rrelu": lambda: (np.where(x > 0, x, 0.2295 * x), np.full_like(x, 0.2295)),
    }[act_type]()


def bell(x):
    return (1 + np.vectorize(erf)(x / 2**0.5)) / 2 + x * np.exp(-x * x / 2) / (2 * pi) ** 0.5


def channels(a, x):
    return np.broadcast_to(a.reshape(1, -1, 1) if a.size > 1 else a, x.shape)


def added(x, a):
    return x.sum((0, 2)) if a.size > 1 else x.sum().reshape(1)


T = signed(2, 3, 2) * 2
ROWS = [
    *(
        Row(
            "LeakyReLU",
            (T,),
            {"act_type": kind, **more},
            bend,
            wrong=((T,), {"act_type": "leeky"}),
            says="known are leaky",
            note=f"{kind}{i}",
        )
        for i, (kind, more) in enumerate(
            [("leaky", {}), ("leaky", {"slope": 1.5}), ("elu", {}), ("selu", {}), ("gelu", {})]
        )
    ),
    Row(
        "LeakyReLU",
        (T,),
        {"act_type": "rrelu", "rng": 3},
        bend,
        differentiable=(),
        note="rrelu in use",
    ),
    *(
        Row(
            "LeakyReLU",
            (T, positive(n)),
            {"act_type": "prelu"},
            bend,
            wrong=((T, positive(2)), {"act_type": "prelu"}),
            says="does not fit",
            note=f"prelu{n}",
        )
        for n in (1, 3)
    ),
    Row(
        "LeakyReLU",
        (signed(4, 2), signed(1, 2)),
        {"act_type": "prelu"},
        bend,
        wrong=((T.astype("int32"),), {}),
        says="floating-point",
        note="prelu matrix",
    ),
    Row("gelu_slope", (T,), {}, bell),
    Row(
        "bend_slope",
        (T,),
        {"below": 0.2, "above": 1.5},
        lambda x, below, above: np.where(x > 0, above, below),
        differentiable=(),
    ),
    *(
        Row("per_channel", (signed(n), T), {}, channels, differentiable=(0,), note=str(n))
        for n in (1, 3)
    ),
    *(
        Row("sum_channel", (T, signed(n)), {}, added, differentiable=(0,), note=str(n))
        for n in (1, 3)
    ),
]
