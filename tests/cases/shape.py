"""Operators of chapter 12: shapes."""

import numpy as np

from tests.rows import Row, signed

A, B = signed(2, 3), signed(2, 3, 4)


def fits(shape):
    return lambda x, *_, **settings: x.reshape(shape)


def pixels(x, block_size):
    """`depth_to_space`, pixel by pixel."""
    n, depth, h, w = x.shape
    c, b = depth // block_size**2, block_size
    out = np.empty((n, c, h * b, w * b))
    for i, j in np.ndindex(b, b):
        out[:, :, i::b, j::b] = x[:, (i * b + j) * c : (i * b + j + 1) * c]
    return out


def channels(x, block_size):
    b = block_size
    return np.concatenate([x[:, :, i::b, j::b] for i, j in np.ndindex(b, b)], axis=1)


ROWS = [
    Row("reshape_like", (A, signed(3, 2)), {}, lambda x, y: x.reshape(y.shape), (0,)),
    Row(
        "reshape_like",
        (B, signed(6, 4)),
        {"lhs_end": 2, "rhs_begin": 0, "rhs_end": 1},
        fits((6, 4)),
        (0,),
        wrong=((B, signed(6, 4)), {"lhs_begin": 2, "lhs_end": 1}),
        says="axes 2:1",
        note="axes",
    ),
    Row("reshape", (A,), {"shape": (3, -1)}, fits((3, 2)), None, ((A,), {"shape": (7,)}), "(7,)"),
    Row("reshape", (B,), {"shape": (-3, 0)}, fits((6, 4)), note="join"),
    Row("reshape", (B,), {"shape": (0, -4, -1, 3, -2)}, fits((2, 1, 3, 4)), note="split"),
    Row("reshape", (B,), {"shape": (-1, 0), "reverse": True}, fits((6, 4)), note="reverse"),
    Row(
        "reshape",
        (B,),
        {"shape": (-1, 4, 1, -4), "reverse": True},
        fits((6, 4, 1)),
        wrong=((B,), {"shape": (0, 0, -4, 3, 2)}),
        says="code -4",
        note="split_reversed",
    ),
    Row(
        "reshape",
        (B,),
        {"target_shape": (0, 0), "keep_highest": True},
        fits((2, 12)),
        wrong=((B,), {}),
        note="target_shape",
    ),
    Row("flatten", (B,), {}, fits((2, 12))),
    Row("expand_dims", (A,), {"axis": 1}, np.expand_dims, None, ((A,), {"axis": 5}), "5"),
    Row("squeeze", (signed(1, 3, 1),), {}, fits(3), None, ((A,), {"axis": 1}), "axis"),
    Row("squeeze", (signed(1, 1),), {}, fits(1), note="one"),
    Row("transpose", (B,), {"axes": (1, 2, 0)}, np.transpose, None, ((B,), {"axes": (1, 0)})),
    Row("transpose", (B,), {}, np.transpose, note="all"),
    Row("transpose", (B,), {"axes": (-1, 0, 1)}, np.transpose, note="negative"),
    Row("transpose", (B,), {"axes": (0, 2, 1)}, np.transpose, note="samples kept"),
    Row(
        "moveaxis",
        (B,),
        {"source": (0, 1), "destination": (-1, 0)},
        np.moveaxis,
        wrong=((B,), {"source": (0, 0), "destination": (0, 1)}),
    ),
    Row(
        "depth_to_space",
        (signed(2, 8, 2, 3),),
        {"block_size": 2},
        pixels,
        wrong=((signed(1, 4, 2, 2),), {"block_size": 3}),
        says="multiple of 9",
    ),
    Row(
        "space_to_depth",
        (signed(2, 2, 4, 6),),
        {"block_size": 2},
        channels,
        wrong=((B,), {"block_size": 2}),
        says="4 axes",
    ),
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
    Row(
        "broadcast_axis",
        (signed(1, 3, 1),),
        {"axis": (2, 0), "size": (4, 2)},
        lambda x, **_: np.broadcast_to(x, (2, 3, 4)),
        wrong=((signed(1, 3, 1),), {"axis": (0, 2), "size": 2}),
        says="as many sizes",
        note="two",
    ),
    Row(
        "broadcast_like",
        (signed(1, 3, 1), B),
        {"lhs_axes": (0, 2), "rhs_axes": (1, -1)},
        lambda x, like, **_: np.broadcast_to(x, (3, 3, 4)),
        (0,),
        wrong=((A, B), {"lhs_axes": (0,), "rhs_axes": (0, 1)}),
        note="axes",
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
    Row("flip", (A,), {"axis": 1}, np.flip, None, ((A,), {"axis": 4})),
    Row("flip", (B,), {"axis": (0, 2)}, np.flip, note="two"),
    Row("shape_array", (B,), {}, lambda x: np.array([2, 3, 4]), ()),
    Row("size_array", (B,), {}, lambda x: np.array([24]), ()),
]
