"""Operators of the chapter on `mx.np`."""

import numpy as np

import minigluon.numpy.multiarray  # noqa: F401, its operators are in no part of the catalogue
from tests.rows import Row, positive, signed

A, B, C = signed(2, 3, 4), signed(3, 4, seed=1), signed(4, 2, seed=2)
I = np.array([[3, 0], [2, 2]])
MASK = np.array([True, False, True, True])


def summed(subscripts):
    return lambda *arrays, **_: np.einsum(subscripts, *arrays)


def einsum(subscripts, *arrays, wrong=None, says="", note=None):
    settings = {"subscripts": subscripts}
    return Row(
        "_np_einsum",
        arrays,
        settings,
        summed(subscripts),
        None,
        wrong,
        says,
        note=note or subscripts,
    )


ROWS = [
    Row(
        "_np_reshape",
        (A,),
        {"newshape": (4, -1)},
        lambda a, **_: a.reshape(4, 6),
        wrong=((A,), {"newshape": (5, -1)}),
        says="reshape",
    ),
    Row("_np_reshape", (signed(1),), {"newshape": ()}, lambda a, **_: a.reshape(()), note="bare"),
    Row("_np_sum", (A,), {}, lambda a, **_: np.asarray(a.sum()), note="all"),
    Row(
        "_np_sum",
        (A,),
        {"axis": (0, 2)},
        lambda a, axis: a.sum(axis),
        wrong=((A,), {"axis": 3}),
        says="out of bounds",
    ),
    Row("_np_sum", (A,), {"axis": -1, "keepdims": True}, np.sum, note="kept"),
    Row("_np_mean", (A,), {}, lambda a, **_: np.asarray(a.mean()), note="all"),
    Row("_np_mean", (A,), {"axis": 1, "keepdims": True}, np.mean),
    Row("_np_prod", (positive(2, 3),), {"axis": 1}, np.prod),
    Row("_np_prod", (positive(2, 3),), {}, lambda a, **_: np.asarray(a.prod()), note="all"),
    Row("_np_max", (A,), {"axis": (1, 2)}, np.max),
    Row("_np_max", (A,), {}, lambda a, **_: np.asarray(a.max()), note="all"),
    Row("_np_min", (A,), {"axis": -1, "keepdims": True}, np.min),
    Row("_np_argmax", (A,), {"axis": 1}, np.argmax, ()),
    Row("_np_argmin", (A,), {}, lambda a, **_: np.asarray(a.argmin()), ()),
    Row("_np_all", (A > 0,), {"axis": 0}, np.all, ()),
    Row("_np_any", (A > 0,), {}, lambda a, **_: np.asarray(np.any(a)), ()),
    *(
        Row(f"_np_{f.__name__}", (B, np.round(B, 1)), {}, f, (), ((B, A[..., :2]), {}), "broadcast")
        for f in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
    ),
    *(
        Row(f"_np_{f.__name__}", (B > 0, B > 0.5), {}, f, ())
        for f in (np.logical_and, np.logical_or, np.logical_xor)
    ),
    *(
        Row(f"_np_{f.__name__}", (I, I.T), {}, f, ())
        for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor)
    ),
    Row("_np_invert", (I,), {}, np.invert, ()),
    Row("_np_isnan", (np.array([np.nan, np.inf, 0.0]),), {}, np.isnan, ()),
    Row("_np_isinf", (np.array([np.nan, np.inf, 0.0]),), {}, np.isinf, ()),
    Row("_np_isfinite", (np.array([np.nan, np.inf, 0.0]),), {}, np.isfinite, ()),
    Row("_np_logical_not", (np.array([0.0, 2.0]),), {}, np.logical_not, ()),
    Row("_np_around", (A,), {"decimals": 1}, np.round, ()),
    Row("_np_arctan2", (A, B), {}, np.arctan2),
    Row("_np_copysign", (A, B), {}, np.copysign),
    Row("_np_ldexp", (A, B), {}, lambda a, b: a * 2.0**b),
    Row("_np_lcm", (I, I.T), {}, np.lcm, ()),
    Row("_np_nan_to_num", (A,), {}, np.nan_to_num),
    Row(
        "_np_nan_to_num",
        (np.array([np.nan, np.inf, -np.inf]),),
        {"nan": 1.0, "posinf": 2.0, "neginf": -3.0},  # what stands for infinity is else the type's
        np.nan_to_num,
        (),
        note="nan",
    ),
    Row("_np_isposinf", (np.array([np.nan, np.inf, -np.inf]),), {}, np.isposinf, ()),
    Row("_np_isneginf", (np.array([np.nan, np.inf, -np.inf]),), {}, np.isneginf, ()),
    Row("_np_pinv", (B,), {}, np.linalg.pinv),
    Row(
        "_np_constraint_check",
        (B * B + 1,),
        {"msg": "no"},
        lambda x, msg: True,
        (),
        ((B * 0,), {"msg": "wrong"}),
        "wrong",
    ),
    Row("_np_svd", (B,), {}, lambda a: tuple(np.linalg.svd(a, full_matrices=False))),
    Row(
        "_np_where",
        (B > 0, A, B),
        {},
        np.where,
        (1, 2),
        ((B > 0, A[..., :2], B), {}),
        "broadcast",
    ),
    Row("_np_getitem", (A,), {"key": (slice(None), -1, slice(0, 4, 2))}, lambda a, key: a[key]),
    Row("_np_getitem", (A,), {"key": (0, I % 3)}, lambda a, key: a[key], note="twice"),
    Row("_np_getitem", (A,), {"key": (..., MASK)}, lambda a, key: a[key], note="mask"),
    Row(
        "_np_getitem",
        (A,),
        {"key": (1, 2, 3)},
        lambda a, key: np.asarray(a[key]),
        None,
        ((A,), {"key": 2}),
        "out of bounds",
        note="one",
    ),
    Row("_np_broadcast_to", (B,), {"shape": (2, 3, 4)}, np.broadcast_to),
    Row("_np_matmul", (A, C), {}, np.matmul, wrong=((A, B), {}), says="mismatch"),
    Row("_np_matmul", (A, signed(5, 1, 4, 2)), {}, np.matmul, note="broadcast"),
    Row("_np_matmul", (B, C), {}, np.matmul, None, ((B, C[:, 0]), {}), "two axes", note="matrices"),
    einsum("ij,jk->ik", B, C, wrong=((B, C), {"subscripts": "ij,kj->i"}), says="einsum"),
    einsum("ij,jk", B, C, note="implicit"),
    einsum("aij,ij->", A, B),
    einsum("ij,jk->i", B, C, note="only one has k"),
    einsum("aij->ja", A),
    einsum("i,j->ij", B[0], C[:, 0]),
    Row(
        "_np_solve",
        (positive(3, 3) + 3 * np.eye(3), B),
        {},
        np.linalg.solve,
        wrong=((B, B), {}),
        says="square",
    ),
    Row(
        "_np_solve", (positive(3, 3) + 3 * np.eye(3), signed(3)), {}, np.linalg.solve, note="vector"
    ),
    Row("_np_columns", (signed(3), signed(3)), {}, lambda x, like: x[:, None], (0,)),
    Row("_np_rows", (B, B), {}, lambda x, like: x.T, (0,)),
    Row("_np_rowed", (signed(1, 3), signed(3)), {}, lambda x, like: x[0], (0,)),
]
