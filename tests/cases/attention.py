"""Operators of the chapter on attention."""

import numpy as np

from tests.rows import Row, signed

QKV, Q, KV = signed(3, 2, 12), signed(3, 2, 4), signed(5, 2, 8, seed=1)
SELF, CROSS = signed(4, 3, 3, seed=2), signed(4, 3, 5, seed=2)


def part(x, heads, parts, i):
    """One projection, with the axes length, batch, head, d."""
    return x.reshape(*x.shape[:2], heads, parts, -1)[:, :, :, i]


def matrices(x):
    return np.einsum("lbhd->bhld", x).reshape(-1, x.shape[0], x.shape[3])


def scores(q, k):
    return matrices(q) @ matrices(k).swapaxes(1, 2) / np.sqrt(q.shape[-1])


def answers(v, attention):
    a = attention.reshape(*v.shape[1:3], *attention.shape[1:])
    return np.einsum("bhqk,kbhd->qbhd", a, v).reshape(attention.shape[1], v.shape[1], -1)


ROWS = [
    Row("contrib_div_sqrt_dim", (Q,), {}, lambda x: x / 2),
    Row(
        "unweave",
        (QKV,),
        {"heads": 2, "parts": 3, "part": 1},
        lambda x, heads, parts, part: matrices(x.reshape(3, 2, 2, 3, 2)[:, :, :, 1]),
        None,
        ((QKV,), {"heads": 5, "parts": 3}),
        "5 heads times 3",
    ),
    Row(
        "weave",
        (CROSS, signed(4, 3, 5, seed=3)),
        {"heads": 2},
        lambda a, b, heads: np.stack(
            [m.reshape(2, 2, 3, 5).transpose(2, 0, 1, 3) for m in (a, b)], axis=3
        ).reshape(3, 2, 20),
        None,
        ((CROSS,), {"heads": 3}),
        "4 matrices are not 3 heads",
    ),
    Row(
        "weave",
        (CROSS,),
        {"heads": 4},
        lambda a, heads: a.transpose(1, 0, 2).reshape(3, 1, 20),
        note="one",
    ),
    Row(
        "contrib_interleaved_matmul_selfatt_qk",
        (QKV,),
        {"heads": 2},
        lambda x, heads: scores(part(x, heads, 3, 0), part(x, heads, 3, 1)),
        None,
        ((QKV,), {"heads": 3}),
        "a width of 12 is not 3 heads times 3",
    ),
    Row(
        "contrib_interleaved_matmul_selfatt_qk",
        (QKV,),
        {"heads": 1},
        lambda x, heads: scores(part(x, heads, 3, 0), part(x, heads, 3, 1)),
        None,
        ((Q[0],), {"heads": 1}),
        "(length, batch, width)",
        note="one head",
    ),
    Row(
        "contrib_interleaved_matmul_selfatt_valatt",
        (QKV, SELF),
        {"heads": 2},
        lambda x, a, heads: answers(part(x, heads, 3, 2), a),
        None,
        ((QKV, CROSS), {"heads": 2}),
        "it must be (4, queries, 3)",
    ),
    Row(
        "contrib_interleaved_matmul_encdec_qk",
        (Q, KV),
        {"heads": 2},
        lambda q, kv, heads: scores(part(q, heads, 1, 0), part(kv, heads, 2, 0)),
        None,
        ((Q, QKV), {"heads": 2}),
        "differ in more than length",
    ),
    Row(
        "contrib_interleaved_matmul_encdec_valatt",
        (KV, CROSS),
        {"heads": 2},
        lambda kv, a, heads: answers(part(kv, heads, 2, 1), a),
        None,
        ((KV, SELF), {"heads": 2}),
        "it must be (4, queries, 5)",
    ),
]
