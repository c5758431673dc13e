"""Operators of chapter 11: many numbers to one."""

import numpy as np

from tests.rows import Row, signed

X = signed(2, 3, 4)
DISTINCT = np.random.default_rng(0).permutation(24).reshape(2, 3, 4) / 10.0
SETTINGS = [{}, {"axis": 1}, {"axis": (0, -1), "keepdims": True}, {"axis": 1, "exclude": True}]
BAD_AXIS = {"wrong": ((X,), {"axis": 3}), "says": "axis 3 is out of range"}


def reduced(f):
    """The reference of a reduction with MXNet's settings."""

    def reference(x, axis=None, keepdims=False, exclude=False):
        if exclude:
            axis = tuple(a for a in range(x.ndim) if a != axis)
        return f(x, axis=axis, keepdims=keepdims)

    return reference


def softmax(z, axis=-1, temperature=1.0):
    e = np.exp(z / temperature)
    return e / e.sum(axis, keepdims=True)


ROWS = [
    *(
        Row(name, (DISTINCT,), settings, reduced(f), note=str(i), **BAD_AXIS)
        for name, f in {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}.items()
        for i, settings in enumerate(SETTINGS)
    ),
    Row(
        "broadcast_along",
        (signed(2, 4), X),
        {"axis": 1},
        lambda y, x, axis: np.broadcast_to(y[:, None], x.shape),
        differentiable=(0,),
    ),
    Row(
        "spread_along",
        (signed(2, 4), X),
        {"axis": 1},
        lambda y, x, axis: np.broadcast_to(y[:, None], x.shape) / 3,
        differentiable=(0,),
    ),
    *(
        Row(name, (DISTINCT,), settings, f, differentiable=(), note=str(i), **BAD_AXIS)
        for name, f in {"argmax": np.argmax, "argmin": np.argmin}.items()
        for i, settings in enumerate([{}, {"axis": 1}, {"axis": -1, "keepdims": True}])
    ),
    Row("softmax", (X,), {}, softmax, **BAD_AXIS),
    Row("softmax", (X,), {"axis": 1, "temperature": 2.0}, softmax, note="warm"),
    Row("log_softmax", (X,), {}, lambda z: np.log(softmax(z)), **BAD_AXIS),
    Row(
        "log_softmax",
        (X,),
        {"axis": 0, "temperature": 0.5},
        lambda z, axis, temperature: np.log(softmax(z, axis, temperature)),
        note="cold",
    ),
]
