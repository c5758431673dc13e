"""Operators of chapter 16: joining and cutting, borders, diagonals, windows."""

import numpy as np

from tests.rows import Row, signed

A, B, V = signed(2, 3), signed(2, 3, 4), signed(4)
PICTURE, VIDEO = signed(2, 2, 4, 5), signed(1, 2, 3, 2, 4)
WINDOW = {"kernel": (3, 2), "stride": (1, 2), "dilate": (1, 2), "pad": (1, 0)}


def halves(x, num_outputs, axis=1, squeeze_axis=False):
    parts = np.split(x, num_outputs, axis)
    return [p.squeeze(axis) for p in parts] if squeeze_axis else parts


def cut(x, indices_or_sections, axis=0, **_):
    places = indices_or_sections
    return np.split(x, places if isinstance(places, int) else list(places), axis)


def stacked(*x, axis):
    return np.stack(x, axis)


def placed(key):
    def reference(x, like, **_):
        out = np.zeros_like(like)
        out[key] = x
        return out

    return reference


def padded(x, mode, pad_width, constant_value=None):
    pairs = np.reshape(pad_width, (-1, 2))
    settings = {} if constant_value is None else {"constant_values": constant_value}
    return np.pad(x, pairs, mode=mode, **settings)


def columns(x, kernel, stride=(1, 1), dilate=(1, 1), pad=(0, 0)):
    """Every window copied by itself."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilate, pad
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    n, c, h, w = x.shape
    tops = range(0, h - dh * (kh - 1), sh)
    lefts = range(0, w - dw * (kw - 1), sw)
    seen = [
        x[:, :, i : i + dh * (kh - 1) + 1 : dh, j : j + dw * (kw - 1) + 1 : dw]
        for i in tops
        for j in lefts
    ]
    return np.stack(seen, -1).reshape(n, c * kh * kw, -1)


def overlaid(x, output_size, **window):
    """The transpose of `columns`, by its matrix."""
    n, c = len(x), x.shape[1] // np.prod(window["kernel"])
    shape = (n, c, *output_size)
    units = np.eye(np.prod(shape)).reshape(-1, *shape)
    return np.array([(columns(u, **window) * x).sum() for u in units]).reshape(shape)


SEEN = columns(PICTURE, **WINDOW)

ROWS = [
    Row(
        "concat",
        (A, signed(2, 2)),
        {},
        lambda *x: np.concatenate(x, 1),
        wrong=((A, signed(3, 3)), {}),
        says="joined",
    ),
    Row(
        "concat",
        (A, signed(1, 3), A),
        {"dim": -2, "num_args": 3},
        lambda *x, **_: np.concatenate(x, 0),
        wrong=((A, A), {"dim": 2}),
        note="three",
    ),
    Row("concat", (A,), {}, lambda x: x, wrong=((V, V), {}), note="one"),
    Row(
        "split_like",
        (signed(2, 5), A, signed(2, 2)),
        {},
        lambda g, a, b: [g[:, :3], g[:, 3:]],
        (0,),
        wrong=((A, A, A), {}),
        says="does not fit",
    ),
    Row("stack", (A, A * 2), {"axis": 1}, stacked, None, ((A, B), {})),
    Row("stack", (V, V * 2), {"axis": -1}, stacked, note="last"),
    Row("stack", (V,), {"axis": 0}, stacked, wrong=((V,), {"axis": 3}), note="one"),
    Row("split", (A,), {"num_outputs": 3}, halves, None, ((A,), {"num_outputs": 2}), "2 equal"),
    Row(
        "split",
        (A,),
        {"num_outputs": 3, "squeeze_axis": True},
        halves,
        wrong=((A,), {"num_outputs": 1, "squeeze_axis": True}),
        note="squeezed",
    ),
    Row(
        "split",
        (V,),
        {"num_outputs": 4, "axis": 0, "squeeze_axis": True},
        lambda x, **_: list(x),
        wrong=((V,), {"num_outputs": 0, "axis": 0}),
        note="numbers",
    ),
    Row(
        "split",
        (A,),
        {"num_outputs": 1},
        lambda x, **_: x,
        wrong=((A,), {"num_outputs": 3, "axis": 2}),
        says="out of range",
        note="one",
    ),
    Row(
        "split_v2",
        (B,),
        {"indices_or_sections": (1, 1, 3), "axis": -1},
        cut,
        wrong=((B,), {"indices_or_sections": (2, 1), "axis": 2}),
        says="2:1",
    ),
    Row(
        "split_v2",
        (B,),
        {"indices_or_sections": 2},
        cut,
        wrong=((B,), {"indices_or_sections": 4}),
        says="4 equal",
        note="equal",
    ),
    Row(
        "split_v2",
        (A,),
        {"indices_or_sections": (1,), "squeeze_axis": True},
        lambda x, **_: [x[0], x[1]],
        wrong=((A,), {"indices_or_sections": (1,), "axis": 1, "squeeze_axis": True}),
        note="squeezed",
    ),
    Row(
        "split_v2",
        (A,),
        {"indices_or_sections": ()},
        lambda x, **_: x,
        wrong=((A,), {"indices_or_sections": (7,)}),
        says="does not fit",
        note="one",
    ),
    Row(
        "slice_axis",
        (A,),
        {"axis": 1, "begin": 1, "end": None},
        lambda x, **_: x[:, 1:],
        wrong=((A,), {"axis": 1, "begin": 0, "end": 9}),
        says="out of range",
    ),
    Row(
        "slice_axis",
        (B,),
        {"axis": -1, "begin": -3, "end": -1},
        lambda x, **_: x[..., -3:-1],
        wrong=((A,), {"axis": 1, "begin": 2, "end": 2}),
        says="empty",
        note="negative",
    ),
    Row(
        "place_axis",
        (signed(2, 2), A),
        {"axis": 1, "begin": 1, "end": 3},
        placed(np.s_[:, 1:]),
        (0,),
        wrong=((signed(2, 2), A), {"axis": 5, "begin": 1, "end": 3}),
        says="axis 5",
    ),
    Row(
        "slice",
        (A,),
        {"begin": (0, 2), "end": (2, 0), "step": (1, -1)},
        lambda x, **_: x[:, 2:0:-1],
        wrong=((A,), {"begin": (0, 1), "end": (1,)}),
        says="differ in length",
    ),
    Row(
        "slice",
        (B,),
        {"begin": (None, 1), "end": (None, 3), "step": (-1, None)},
        lambda x, **_: x[::-1, 1:3],
        wrong=((A,), {"begin": 0, "end": 1, "step": 0}),
        note="none",
    ),
    Row(
        "place",
        (signed(1, 3), A),
        {"begin": 0, "end": 1},
        placed(np.s_[:1]),
        (0,),
        wrong=((signed(2, 3), A), {"begin": 0, "end": 1}),
    ),
    Row(
        "slice_like",
        (B, signed(1, 2, 2)),
        {},
        lambda x, like, **_: x[:1, :2, :2],
        (0,),
        wrong=((A, B), {}),
        says="without axes",
    ),
    Row(
        "slice_like",
        (B, signed(1, 2)),
        {"axes": (0, -2)},
        lambda x, like, **_: x[:1, :1],
        (0,),
        wrong=((A, signed(3, 3)), {"axes": 0}),
        says="has no 3 numbers",
        note="axes",
    ),
    Row(
        "place_corner",
        (signed(1, 2), A),
        {},
        placed(np.s_[:1, :2]),
        (0,),
        wrong=((signed(3, 2), A), {}),
    ),
    Row(
        "Crop",
        (PICTURE,),
        {"h_w": (2, 3), "offset": (1, 2)},
        lambda x, **_: x[:, :, 1:3, 2:5],
        wrong=((PICTURE,), {"h_w": (2, 3), "offset": (3, 0)}),
        says="reaches out",
    ),
    Row(
        "Crop",
        (PICTURE, signed(1, 3, 2, 2)),
        {"center_crop": True, "num_args": 2},
        lambda x, like, **_: x[:, :, 1:3, 1:3],
        (0,),
        wrong=((PICTURE,), {}),
        says="sizes > 0",
        note="like",
    ),
    Row(
        "uncrop",
        (signed(2, 2, 2, 3), PICTURE),
        {"offset": (1, 2)},
        placed(np.s_[:, :, 1:3, 2:5]),
        (0,),
        wrong=((signed(2, 2, 5, 5), PICTURE), {}),
    ),
    Row(
        "pad",
        (PICTURE,),
        {"mode": "constant", "pad_width": (0, 0, 0, 0, 1, 0, 2, 1), "constant_value": 3},
        padded,
        wrong=((PICTURE,), {"mode": "wrap", "pad_width": (0,) * 8}),
        says="'wrap'",
    ),
    Row(
        "pad",
        (VIDEO,),
        {"mode": "edge", "pad_width": (0, 0, 0, 0, 1, 0, 2, 1, 3, 4)},
        padded,
        wrong=((VIDEO,), {"mode": "edge", "pad_width": (1, 1)}),
        says="10 numbers",
        note="edge",
    ),
    Row(
        "pad",
        (VIDEO,),
        {"mode": "reflect", "pad_width": (0, 0, 0, 0, 2, 1, 1, 1, 3, 2)},
        padded,
        wrong=((A,), {"mode": "reflect", "pad_width": (0, 0, 0, 3)}),
        says="wide",
        note="reflect",
    ),
    Row(
        "unpad",
        (signed(2, 6), A),
        {"mode": "reflect", "pad_width": (0, 0, 1, 2)},
        lambda g, like, **_: np.stack(
            [g[:, 1] + g[:, 5], g[:, 0] + g[:, 2] + g[:, 4], g[:, 3]], axis=1
        ),
        (0,),
        wrong=((signed(2, 6), A), {"mode": "edge", "pad_width": (0, 0, -1, 2)}),
    ),
    Row(
        "unpad",
        (signed(2, 6), A),
        {"mode": "edge", "pad_width": (0, 0, 1, 2)},
        lambda g, like, **_: np.stack([g[:, :2].sum(1), g[:, 2], g[:, 3:].sum(1)], axis=1),
        (0,),
        note="edge",
    ),
    Row(
        "diag",
        (B,),
        {"k": -1, "axis1": 2, "axis2": 0},
        lambda x, k, axis1, axis2: np.diagonal(x, k, axis1, axis2),
        wrong=((A,), {"k": 4}),
        says="no diagonal 4",
    ),
    Row(
        "diag",
        (A,),
        {"k": 1},
        np.diag,
        wrong=((A,), {"axis2": 0}),
        note="matrix",
    ),
    Row("diag", (V,), {"k": -2}, np.diag, note="vector"),
    Row(
        "undiag",
        (signed(2), A),
        {"k": 1},
        lambda g, like, k: np.array([[0, g[0], 0], [0, 0, g[1]]]),
        (0,),
        wrong=((signed(5), A), {}),
    ),
    Row("undiag", (signed(5, 5), V), {"k": 1}, lambda g, like, k: np.diag(g, k), (0,), note="back"),
    Row(
        "im2col",
        (PICTURE,),
        WINDOW,
        columns,
        wrong=((PICTURE,), {"kernel": (5, 2)}),
        says="larger than",
    ),
    Row(
        "im2col",
        (signed(2, 2, 5),),
        {"kernel": 3, "pad": 1},
        lambda x, **_: columns(x[:, :, None], (1, 3), pad=(0, 1)),
        wrong=((PICTURE,), {"kernel": (2, 2), "stride": (0, 1)}),
        says="2 numbers",
        note="one_axis",
    ),
    Row(
        "col2im",
        (SEEN,),
        {"output_size": (4, 5), **WINDOW},
        overlaid,
        wrong=((SEEN,), {"output_size": (4, 4), "kernel": (2, 2)}),
        says="columns",
    ),
    Row(
        "col2im_like",
        (SEEN, PICTURE),
        WINDOW,
        lambda x, like, **window: overlaid(x, like.shape[2:], **window),
        (0,),
        wrong=((SEEN, VIDEO), WINDOW),
    ),
]
