"""Operators of chapter 11: many numbers to one."""

import numpy as np

from tests.rows import Row, signed

X = signed(2, 3, 4)
DISTINCT = np.random.default_rng(0).permutation(24).reshape(2, 3, 4) / 10.0
SETTINGS = [{}, {"axis": 1}, {"axis": (0, -1), "keepdims": True}, {"axis": 1, "exclude": True}]
BAD_AXIS = {"wrong": ((X,), {"axis": 3}), "says": "axis 3 is out of"}


def reduced(f):
    """The reference of a reduction with MXNet's settings."""

    def reference(x, axis=None, keepdims=False, exclude=False):
        if exclude:
            axis = tuple(a for a in range(x.ndim) if a != axis)
        return f(x, axis=axis, keepdims=keepdims)

    return reference


def softmax(z, axis=-1, temperature=1.0, dtype=None):
    e = np.exp(z / temperature)
    return (e / e.sum(axis, keepdims=True)).astype(dtype or z.dtype)


def softmax_of_rows(z, length, axis=-1, temperature=1.0, use_length=True):
    """Row by row: the softmax of the first numbers, and zeros."""
    out = np.zeros_like(z)
    rows, of = np.moveaxis(z, axis, -1), np.moveaxis(out, axis, -1)
    for i in np.ndindex(length.shape):
        n = int(length[i])
        of[i][:n] = softmax(rows[i][:n], -1, temperature)
    return out


LENGTH = np.array([[1, 2, 4], [3, 0, 1]])


ROWS = [
    *(
        Row(name, (DISTINCT,), settings, reduced(f), note=str(i), **BAD_AXIS)
        for name, f in {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}.items()
        for i, settings in enumerate(SETTINGS)
    ),
    Row("_square_sum", (X,), {}, lambda x: (x * x).sum().reshape(1), **BAD_AXIS),
    Row(
        "_square_sum",
        (X,),
        {"axis": 1, "keepdims": True},
        lambda x, axis, keepdims: (x * x).sum(axis, keepdims=keepdims),
        note="axis",
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
    Row("softmax", (X,), {"dtype": "float64"}, softmax, note="dtype"),
    Row(
        "softmax",
        (X, LENGTH),
        {"use_length": True},
        softmax_of_rows,
        differentiable=(0,),
        wrong=((X, LENGTH[0]), {"use_length": True}),
        says="a length for each row",
        note="length",
    ),
    Row(
        "softmax",
        (X, np.array([[1, 2, 3, 1], [3, 0, 1, 2]], "int32")),
        {"use_length": True, "axis": 1, "temperature": 2.0},
        softmax_of_rows,
        differentiable=(0,),
        note="length axis",
    ),
    Row(
        "log_softmax",
        (X,),
        {"dtype": "float64"},
        lambda z, dtype: np.log(softmax(z)),
        wrong=((X,), {"use_length": True}),
        says="softmax alone",
        note="dtype",
    ),
    Row("log_softmax", (X,), {}, lambda z: np.log(softmax(z)), **BAD_AXIS),
    Row(
        "log_softmax",
        (X,),
        {"axis": 0, "temperature": 0.5},
        lambda z, axis, temperature: np.log(softmax(z, axis, temperature)),
        note="cold",
    ),
]
