"""Operators of chapter 14: matrix products."""

import numpy as np

from tests.rows import Row, signed

A, B, T = signed(2, 3), signed(3, 4), {"transpose_a": True, "transpose_b": True}


def dot(a, b, transpose_a=False, transpose_b=False):
    return np.tensordot(a, b, ((0 if transpose_a else -1,), (-1 if transpose_b else 0,)))


def batch(a, b, transpose_a=False, transpose_b=False):
    a = a.swapaxes(-1, -2) if transpose_a else a
    b = b.swapaxes(-1, -2) if transpose_b else b
    return a @ b


ROWS = [
    Row("dot", (A, B), {}, dot, None, ((A, A), {}), "last axis of lhs, of size 3"),
    Row("dot", (A, signed(4, 2)), T, dot, note="transposed"),
    Row("dot", (signed(3), signed(3, seed=1)), {}, dot, note="vectors"),
    Row("dot", (signed(2, 2, 3), signed(3, 2, 2)), {}, dot, note="many axes"),
    Row("dot", (signed(3, 2, 2), signed(2, 2, 3)), T, dot, note="many transposed"),
    Row("dot_left", (signed(2, 4), B, A), {}, lambda g, b, a: g @ b.T, (0, 1)),
    Row("dot_right", (A, signed(2, 4), B), {}, lambda a, g, b: a.T @ g, (0, 1)),
    Row(
        "batch_dot",
        (signed(2, 2, 3), signed(2, 3, 2)),
        {},
        batch,
        wrong=((signed(2, 2, 3), signed(2, 2, 3)), {}),
        says="sizes 3 and 2",
    ),
    *[
        Row(
            "batch_dot",
            (signed(2, *((3, 2) if ta else (2, 3))), signed(2, *((4, 3) if tb else (3, 4)))),
            {"transpose_a": ta, "transpose_b": tb},
            batch,
            note=f"{ta}-{tb}",
        )
        for ta, tb in [(True, False), (False, True), (True, True)]
    ],
    Row("batch_dot", (signed(2, 1, 2, 3), signed(2, 1, 3, 2)), {}, batch, note="four axes"),
    Row("dot", (signed(2, 2, 3), signed(3)), {}, dot, note="vector right"),
    Row("dot", (signed(3), B), {}, dot, note="vector left"),
    Row("dot", (signed(2, 3), signed(2, 3, 4)), {"transpose_a": True}, dot, note="left transposed"),
    Row("dot", (A, signed(2, 4, 3)), {"transpose_b": True}, dot, note="right transposed"),
    Row(
        "khatri_rao",
        (A, signed(4, 3)),
        {},
        lambda a, b: np.einsum("ik,jk->ijk", a, b).reshape(-1, 3),
        wrong=((A, B), {}),
        says="same number of columns",
    ),
    Row(
        "khatri_rao", (A,), {}, lambda a: a, note="one", wrong=((A,), {"num_args": 2}), says="1 mat"
    ),
    Row(
        "khatri_rao",
        (A, signed(1, 3), signed(4, 3)),
        {"num_args": 3},
        lambda a, b, c, **_: np.einsum("ik,jk,lk->ijlk", a, b, c).reshape(-1, 3),
        note="three",
    ),
]
