"""Rows of the operators of `ops.sequences`."""

import numpy as np

from tests.rows import Row, signed

X = signed(4, 3, 2)
N = np.array([2, 4, 1])
USED = {"use_sequence_length": True}


def mask(x, n, value=0.0, axis=0, **_):
    out = x.copy()
    for b, end in enumerate(n):
        out[(slice(end, None), b) if axis == 0 else (b, slice(end, None))] = value
    return out


def last(x, n, axis=0, **_):
    x = x if axis == 0 else x.swapaxes(0, 1)
    return np.stack([x[max(end, 1) - 1, b] for b, end in enumerate(n)])


def unlast(g, like, n, **_):
    out = np.zeros_like(like)
    for b, end in enumerate(n):
        out[end - 1, b] = g[b]
    return out


def reverse(x, n, axis=0, **_):
    out = (x if axis == 0 else x.swapaxes(0, 1)).copy()
    for b, end in enumerate(n):
        out[:end, b] = out[:end, b][::-1].copy()
    return out if axis == 0 else out.swapaxes(0, 1)


T = X.swapaxes(0, 1).copy()
ROWS = [
    Row(
        "SequenceMask",
        (X, N),
        {**USED, "value": -1.0},
        mask,
        (0,),
        wrong=((X, N[:2]), USED),
        says="3 sequences",
    ),
    Row("SequenceMask", (X,), {}, lambda x: x, note="whole"),
    Row(
        "SequenceMask",
        (T, N),
        {**USED, "axis": 1},
        mask,
        (0,),
        wrong=((X, N), {**USED, "axis": 2}),
        says="axis=2",
        note="axis",
    ),
    Row(
        "SequenceMask",
        (X, np.array([9, 0, -1])),
        USED,
        lambda x, n, **_: mask(x, [4, 0, 0]),
        (0,),
        note="beyond",
    ),
    Row(
        "SequenceLast",
        (X, N),
        USED,
        last,
        (0,),
        wrong=((X, np.array([5, 1, 1])), USED),
        says="between 0 and 4",
    ),
    Row("SequenceLast", (X,), {}, lambda x: x[-1], note="whole"),
    Row("SequenceLast", (T, np.array([2, 0, 1])), {**USED, "axis": 1}, last, (0,), note="axis"),
    Row("unlast", (signed(3, 2), X, N), USED, unlast, (0,)),
    Row("unlast", (signed(3, 2), X), {}, lambda g, x: unlast(g, x, [4, 4, 4]), (0,), note="whole"),
    Row(
        "SequenceReverse",
        (X, N),
        USED,
        reverse,
        (0,),
        wrong=((X,), USED),
        says="give sequence_length",
    ),
    Row("SequenceReverse", (X,), {}, lambda x: x[::-1], note="whole"),
    Row("SequenceReverse", (T, N), {**USED, "axis": 1}, reverse, (0,), note="axis"),
]
