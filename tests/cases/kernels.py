"""Rows of the operators that came with hand-written kernels."""

import numpy as np

from tests.rows import Row, signed


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_back(g, p, axis=-1, temperature=None):
    return p * (g - (g * p).sum(axis=axis, keepdims=True)) / (temperature or 1)


def log_softmax_back(g, y, axis=-1, temperature=None):
    return (g - np.exp(y) * g.sum(axis=axis, keepdims=True)) / (temperature or 1)


LABELS = np.array([0, 2, 1, 1])

ROWS = [
    Row("softmax_back", (signed(2, 5), softmax(signed(2, 5, seed=1))), {}, softmax_back),
    Row(
        "softmax_back",
        (signed(3, 2, 2), softmax(signed(3, 2, 2, seed=1), 0)),
        {"axis": 0, "temperature": 2.0},
        softmax_back,
        note="warm",
    ),
    Row("log_softmax_back", (signed(2, 5), signed(2, 5, seed=1)), {}, log_softmax_back),
    Row(
        "log_softmax_back",
        (signed(3, 2), signed(3, 2, seed=1)),
        {"axis": 0, "temperature": 0.5},
        log_softmax_back,
        note="cold",
    ),
    Row(
        "cross_entropy_back",
        (signed(4, 1), signed(4, 3, seed=1), signed(4, 1, seed=2), LABELS),
        {},
        lambda g, z, y, k, axis=-1: (
            g * (np.exp(z - y - z[np.arange(4), k][:, None]) - np.eye(3)[k])
        ),
        differentiable=(0, 1, 2),
    ),
    Row(
        "dropped",
        (signed(2, 3), np.array([[0, 2.0, 2], [2, 0, 2]])),
        {},
        lambda g, m, p=0.5: g * m,
        differentiable=(0,),
    ),
]
