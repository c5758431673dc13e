"""Rows of the operators of `ops.ordering`."""

import numpy as np

from tests.rows import Row, signed

X = np.random.default_rng(5).permutation(12).reshape(3, 4) / 4.0
CUBE = np.random.default_rng(6).permutation(24).reshape(2, 3, 4) / 8.0
TIES = np.array([[3.0, 1, 2, 3], [0, 5, 5, 4]])
INDEX = np.array([[1, 3], [0, 2], [2, 1]])
PLACES = np.array([[0, 1, 1], [2, 0, 1]])


def top(x, k=1, axis=-1, is_ascend=False, **_):
    order = np.argsort(x if is_ascend else -x, axis, kind="stable")
    return np.take(order, range(k), axis)


def values(x, axis=-1, **settings):
    return np.take_along_axis(x, top(x, axis=axis, **settings), axis)


def masked(x, axis=-1, **settings):
    out = np.zeros_like(x)
    np.put_along_axis(out, top(x, axis=axis, **settings), 1, axis)
    return out


def put_along(g, like, index, axis=-1):
    out = np.zeros_like(like)
    np.put_along_axis(out, index, g, axis)
    return out


def set_places(x, values, places, shape):
    out = x.copy()
    out[tuple(places)] = values
    return out


def put(g, shape, places):
    out = np.zeros(shape)
    out[tuple(places)] = g
    return out


ROWS = [
    Row(
        "_histogram",
        (signed(3, 4),),
        {"bin_cnt": 4, "range": (-1.0, 2.0)},
        lambda x, bin_cnt, range: np.histogram(x, bin_cnt, range),
        (),
        wrong=((signed(3),), {"bin_cnt": 4}),
        says="range",
    ),
    Row(
        "_histogram",
        (signed(3, 4), np.array([-2.0, -0.5, 0.25, 3.0])),
        {},
        lambda x, bins: np.histogram(x, bins),
        (),
        note="edges",
    ),
    Row("along", (X, INDEX), {}, lambda x, i: np.take_along_axis(x, i, -1), (0,)),
    Row(
        "along",
        (X, np.array([5, 0])),
        {"axis": None},
        lambda x, i, axis: x.ravel()[i],
        (0,),
        note="flat",
    ),
    Row("unalong", (signed(3, 2), X, INDEX), {}, put_along, (0,)),
    Row(
        "argsort",
        (TIES,),
        {},
        lambda x: np.argsort(x, kind="stable"),
        (),
        wrong=((X,), {"axis": 2}),
        says="axis",
    ),
    Row(
        "argsort",
        (TIES,),
        {"is_ascend": False},
        lambda x, is_ascend: np.argsort(-x, kind="stable"),
        (),
        note="down",
    ),
    Row("argsort", (X,), {"axis": None}, lambda x, axis: np.argsort(x.ravel()), (), note="flat"),
    Row("sort", (X,), {}, np.sort, wrong=((X,), {"axis": -3}), says="axis"),
    Row(
        "sort",
        (CUBE,),
        {"axis": 1, "is_ascend": False},
        lambda x, axis, is_ascend: -np.sort(-x, axis),
        note="down",
    ),
    Row("sort", (X,), {"axis": None}, lambda x, axis: np.sort(x, None), note="flat"),
    Row("topk", (TIES,), {"k": 2}, top, (), wrong=((X,), {"k": 5}), says="k=5"),
    Row(
        "topk",
        (X,),
        {"k": 2, "ret_typ": "value"},
        values,
        wrong=((X,), {"ret_typ": "all"}),
        says="mask",
        note="value",
    ),
    Row(
        "topk",
        (CUBE,),
        {"k": 2, "ret_typ": "value", "axis": 1, "is_ascend": True},
        values,
        note="axis",
    ),
    Row("topk", (TIES,), {"k": 2, "ret_typ": "mask"}, masked, (), note="mask"),
    Row(
        "topk",
        (X,),
        {"k": 3, "ret_typ": "both", "dtype": "float64"},
        lambda x, **s: [values(x, **s), top(x, **s)],
        note="both",
    ),
    Row("topk", (X,), {"k": 0, "ret_typ": "value"}, lambda x, **_: -np.sort(-x), note="all"),
    Row(
        "topk",
        (X,),
        {"k": 3, "axis": None, "ret_typ": "value"},
        lambda x, **_: -np.sort(-x, None)[:3],
        note="flat",
    ),
    Row("batch_take", (X, np.array([1, 9, 0])), {}, lambda x, i: x[range(3), i.clip(0, 3)], (0,)),
    Row(
        "batch_untake",
        (signed(3), X, np.array([1, 3, 0])),
        {},
        lambda g, x, i: put(g, x.shape, (range(3), i)),
        (0,),
    ),
    Row(
        "_scatter_set_nd",
        (X, np.array([5.0, 6.0]), np.array([[2, 0], [1, 3]])),
        {"shape": (3, 4)},
        set_places,
        (0, 1),
        ((X, np.array([5.0]), np.array([[2, 0], [1, 3]])), {"shape": (3, 4)}),
        "for places of",
    ),
    Row(
        "scatter_nd",
        (signed(3), PLACES),
        {"shape": (2, 3)},
        lambda x, i, shape: put(x, shape, i),
        (0,),
        wrong=((signed(3), PLACES), {"shape": (2, 2)}),
        says="out of bounds",
    ),
    Row("gather_places", (X, PLACES), {}, lambda x, i: x[tuple(i)], (0,)),
    Row(
        "scatter_add_nd",
        (signed(4), np.array([[0, 1, 0, 1], [2, 0, 2, 1]])),
        {"shape": (2, 3)},
        lambda x, i, shape: np.array([[0, 0, x[0] + x[2]], [x[1], x[3], 0]]),
        (0,),
        wrong=((signed(3), PLACES), {"shape": (2, 2)}),
        says="out of bounds",
    ),
    Row(
        "ravel_multi_index",
        (PLACES,),
        {"shape": (2, 3)},
        lambda d, shape: np.ravel_multi_index(tuple(d), shape),
        (),
        wrong=((PLACES,), {"shape": (2, 3, 4)}),
        says="2 rows",
    ),
    Row(
        "unravel_index",
        (np.array([1, 5, 3]),),
        {"shape": (2, 3)},
        lambda i, shape: np.stack(np.unravel_index(i, shape)),
        (),
    ),
    Row(
        "contrib_boolean_mask",
        (X, np.array([1, 0, 1])),
        {},
        lambda x, m: x[m != 0],
        (0,),
        wrong=((X, np.array([1, 0])), {}),
        says="3 rows",
    ),
    Row(
        "unmask",
        (signed(2, 4), X, np.array([1, 0, 1])),
        {},
        lambda g, x, m: put(g, x.shape, (m != 0,)),
        (0,),
    ),
    Row(
        "contrib_index_copy",
        (X, np.array([2, 0]), signed(2, 4)),
        {},
        lambda x, i, new: np.stack([new[1], x[1], new[0]]),
        (0, 2),
        wrong=((X, np.array([2, 9]), signed(2, 4)), {}),
        says="out of bounds",
    ),
    Row("rows_at", (X, np.array([2, 0])), {}, lambda x, i: x[i], (0,)),
    Row("contrib_index_array", (X,), {}, lambda x: np.stack(np.indices(x.shape), -1), ()),
    Row(
        "contrib_index_array",
        (X,),
        {"axes": (1,)},
        lambda x, axes: np.indices(x.shape)[1][..., None],
        (),
        note="axes",
    ),
    Row(
        "contrib_arange_like",
        (X,),
        {"start": 2, "step": 3},
        lambda x, start, step: 2 + 3.0 * np.arange(12).reshape(3, 4),
        (),
    ),
    Row(
        "contrib_arange_like",
        (X,),
        {"axis": 1, "repeat": 2},
        lambda x, **_: np.array([0.0, 0, 1, 1]),
        (),
        note="axis",
    ),
]
