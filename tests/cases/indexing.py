"""Operators of chapter 13: indexing."""

import numpy as np

from tests.rows import Row, signed

A, I = signed(3, 4), np.array([2, 0, 2])
ND = np.array([[0, 2, 0], [1, 3, 1]])


def added(key):
    def reference(g, like, *_, **__):
        out = np.zeros_like(like)
        np.add.at(out, key, g)
        return out

    return reference


def written(x, value, key):
    x = x.copy()
    x[key] = value
    return x


def picked(x, index, **_):
    return x[np.arange(3), index]


def assigned(x, value):
    """A copy with `value` in rows 1 and 2, every other column."""
    out = x.copy()
    out[1:3, ::2] = value
    return out


ROWS = [
    Row(
        "fill_element_0index",
        (signed(3, 4), signed(3, seed=1), np.array([0, 3, 1])),
        {},
        lambda x, value, index: np.where(np.arange(4) == index[:, None], value[:, None], x),
        (0, 1),
    ),
    Row(
        "_slice_assign",
        (signed(3, 4), signed(2, 2, seed=1)),
        {"begin": (1, None), "end": (3, None), "step": (1, 2)},
        lambda x, value, **_: assigned(x, value),
        wrong=((signed(3, 4), signed(2, 3)), {"begin": (1, 0), "end": (3, 2)}),
        says="shape",
    ),
    Row(
        "_slice_assign_scalar",
        (signed(3, 4),),
        {"scalar": 5.0, "begin": (1, None), "end": (3, None), "step": (1, 2)},
        lambda x, **_: assigned(x, 5.0),
    ),
    Row("gather", (A,), {"key": (slice(1, None), 2)}, lambda x, key: x[key]),
    Row("gather", (A,), {"key": (I, 1)}, lambda x, key: x[key], note="twice"),
    Row("gather", (A,), {"key": (0, 1)}, lambda x, key: x[key], None, ((A,), {"key": 5}), "bounds"),
    Row("scatter", (signed(3), A), {"key": (I, 1)}, added((I, 1)), (0,)),
    Row("replaced", (A, signed(4)), {"key": 1}, written, (1,)),
    Row("pick", (A, I), {}, picked, (0,), ((A, np.array([1, 2])), {}), "without `axis`"),
    Row("pick", (A, I), {"keepdims": True}, lambda *a, **_: picked(*a)[:, None], (0,), note="kept"),
    Row("unpick", (signed(3), A, I), {}, added((np.arange(3), I)), (0,)),
    Row(
        "take",
        (A, I),
        {},
        lambda a, i: a[i],
        (0,),
        ((A, np.array([5])), {"mode": "raise"}),
        "out of range",
    ),
    Row("take", (A, I), {"axis": 1, "mode": "wrap"}, lambda a, i, **_: a[:, i], (0,), note="wrap"),
    Row("untake", (signed(3, 4), A, I), {}, added(I), (0,)),
    Row(
        "Embedding",
        (I, A),
        {"input_dim": 3, "output_dim": 4},
        lambda i, w, **_: w[i],
        (1,),
        ((I, A), {"input_dim": 4, "output_dim": 4}),
        "weight of shape (4, 4)",
    ),
    Row("gather_nd", (A, ND), {}, lambda x, i: x[tuple(i)], (0,), ((A, ND + 9), {}), "bounds"),
    Row("scatter_like", (signed(3), A, ND), {}, added(tuple(ND)), (0,)),
    Row("one_hot", (I,), {"depth": 4, "dtype": "float64"}, lambda i, **_: np.eye(4)[i], ()),
    Row(
        "one_hot",
        (np.array([0, 5, -1, 2]),),
        {"depth": 3, "dtype": "float64"},
        lambda i, **_: np.eye(6)[i % 6, :3],
        (),
        note="out of range",
    ),
    Row("where", (A > 0, A, -A), {}, np.where, (1, 2), ((A, A, signed(2, 2)), {}), "one shape"),
]
