"""Operators of chapter 12: shapes."""

import numpy as np

from tests.rows import Row, signed

A, B = signed(2, 3), signed(2, 3, 4)


def fits(shape):
    return lambda x, **_: x.reshape(shape)


def halves(x, num_outputs, axis=1, squeeze_axis=False):
    parts = np.split(x, num_outputs, axis)
    return [p.squeeze(axis) for p in parts] if squeeze_axis else parts


def placed(key):
    def reference(x, like, **_):
        out = np.zeros_like(like)
        out[key] = x
        return out

    return reference


ROWS = [
    Row("reshape_like", (A, signed(3, 2)), {}, lambda x, y: x.reshape(y.shape), (0,)),
    Row("reshape", (A,), {"shape": (3, -1)}, fits((3, 2)), None, ((A,), {"shape": (7,)}), "(7,)"),
    Row("reshape", (B,), {"shape": (-3, 0)}, fits((6, 4)), note="join"),
    Row("reshape", (B,), {"shape": (0, -4, -1, 3, -2)}, fits((2, 1, 3, 4)), note="split"),
    Row("reshape", (B,), {"shape": (-1, 0), "reverse": True}, fits((6, 4)), note="reverse"),
    Row("flatten", (B,), {}, fits((2, 12))),
    Row("expand_dims", (A,), {"axis": 1}, np.expand_dims, None, ((A,), {"axis": 5}), "5"),
    Row("squeeze", (signed(1, 3, 1),), {}, fits(3), None, ((A,), {"axis": 1}), "axis"),
    Row("squeeze", (signed(1, 1),), {}, fits(1), note="one"),
    Row("transpose", (B,), {"axes": (1, 2, 0)}, np.transpose, None, ((B,), {"axes": (1, 0)})),
    Row("transpose", (B,), {}, np.transpose, note="all"),
    Row(
        "swapaxes",
        (B,),
        {"dim1": 0, "dim2": 2},
        lambda x, dim1, dim2: x.swapaxes(dim1, dim2),
        wrong=((A,), {"dim1": 4}),
    ),
    Row(
        "broadcast_to",
        (signed(2, 1),),
        {"shape": (0, 3)},
        lambda x, shape: np.broadcast_to(x, (2, 3)),
        wrong=((A,), {"shape": (2, 4)}),
    ),
    Row(
        "broadcast_axis",
        (signed(2, 1),),
        {"axis": 1, "size": 3},
        lambda x, **_: np.broadcast_to(x, (2, 3)),
        wrong=((A,), {"axis": 0, "size": 3}),
    ),
    Row("tile", (A,), {"reps": (2, 1, 3)}, np.tile),
    Row("tile", (B,), {"reps": 2}, np.tile, note="int"),
    Row("untile", (signed(4, 3), A), {"reps": (2, 1)}, lambda g, x, reps: g[:2] + g[2:], (0,)),
    Row("repeat", (B,), {"repeats": 2, "axis": 1}, np.repeat),
    Row("repeat", (A,), {"repeats": 2}, np.repeat, note="flat"),
    Row(
        "unrepeat",
        (signed(4, 3), A),
        {"repeats": 2, "axis": 0},
        lambda g, x, **_: g[::2] + g[1::2],
        (0,),
    ),
    Row(
        "concat",
        (A, signed(2, 2)),
        {},
        lambda *x: np.concatenate(x, 1),
        wrong=((A, signed(3, 3)), {}),
        says="joined",
    ),
    Row(
        "split_like",
        (signed(2, 5), A, signed(2, 2)),
        {},
        lambda g, a, b: [g[:, :3], g[:, 3:]],
        (0,),
    ),
    Row("stack", (A, A * 2), {"axis": 1}, lambda *x, axis: np.stack(x, axis), None, ((A, B), {})),
    Row("split", (A,), {"num_outputs": 3}, halves, None, ((A,), {"num_outputs": 2}), "2 equal"),
    Row("split", (A,), {"num_outputs": 3, "squeeze_axis": True}, halves, note="squeezed"),
    Row("split", (A,), {"num_outputs": 1}, lambda x, **_: x, note="one"),
    Row(
        "slice_axis",
        (A,),
        {"axis": 1, "begin": 1, "end": None},
        lambda x, **_: x[:, 1:],
        wrong=((A,), {"axis": 1, "begin": 0, "end": 9}),
        says="out of range",
    ),
    Row(
        "place_axis",
        (signed(2, 2), A),
        {"axis": 1, "begin": 1, "end": 3},
        placed(np.s_[:, 1:]),
        (0,),
    ),
    Row(
        "slice",
        (A,),
        {"begin": (0, 2), "end": (2, 0), "step": (1, -1)},
        lambda x, **_: x[:, 2:0:-1],
    ),
    Row("place", (signed(1, 3), A), {"begin": 0, "end": 1}, placed(np.s_[:1]), (0,)),
    Row("flip", (A,), {"axis": 1}, np.flip, None, ((A,), {"axis": 4})),
]
