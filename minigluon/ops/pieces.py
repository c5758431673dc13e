"""Joining and cutting, borders, diagonals and windows: what is dropped gets zero, what is seen twice adds up."""

# Written from chapters/16_pieces.ipynb: edit the chapter, then run `minigluon export`.

import math
from builtins import slice as span
from functools import lru_cache

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import ArgumentError
from minigluon.op import Operand, operator
from minigluon.ops.reduce import at_least_1d, counted, one_axis
from minigluon.ops.shape import reshape_like, several

__all__ = [
    "Crop",
    "along",
    "beginning",
    "borders",
    "col2im",
    "col2im_like",
    "concat",
    "concatenate",
    "cut",
    "diag",
    "folded",
    "frame",
    "im2col",
    "overlaid",
    "pad",
    "place",
    "place_axis",
    "place_corner",
    "places",
    "rejoined",
    "seen_through",
    "slice",
    "slice_axis",
    "slice_like",
    "spans",
    "split",
    "split_like",
    "split_v2",
    "stack",
    "uncrop",
    "undiag",
    "unpad",
    "window",
    "windowed",
    "zipped",
]


# --- Joining and cutting --------------------------------------------------------------------------


@operator(aliases=("Concat", "_rnn_param_concat"))
def concat(*data, dim=1, num_args=None):
    """Arrays joined along axis `dim`; all other sizes are equal."""
    return np.concatenate(data, dim)


@concat.vjp
def _(g, y, *data, dim, **_):
    return split_like(g, *data, dim=dim)


@concat.shapes
def _(*shapes, dim, **_):
    known = [s for s in shapes if s is not None]
    for s in known:
        if not -len(s) <= dim < len(s):
            raise MXNetError(f"concat: dim={dim} is no axis of an array of shape {s}")
    if len({*map(len, known)}) != 1:
        return []
    sizes = [{*column} - {0} for column in zip(*known)]
    sizes[dim] = ()  # all other axes have one size
    if max(map(len, sizes)) > 1:
        return []  # which the call itself will tell
    return [tuple(max(s, default=0) for s in sizes)] * len(shapes)


@operator
def split_like(data, /, *like, dim=1):
    """Undo `concat`: cut `data` along `dim` into pieces as long as the arrays `like`."""
    ends, end = [], 0
    for a in like:
        end += a.shape[dim]
        ends.append(end)
    return tuple(cut(data, ends, dim))


split_like.outputs = lambda arrays, **_: arrays - 1


@split_like.vjp
def _(g, y, data, *like, dim):
    return concat(*g, dim=dim), *[None] * len(like)


def cut(data, ends, axis, squeeze_axis=False):
    """Copies of the pieces of `data` along `axis` that end at `ends`; the axis may go if it is 1."""
    axis, start, pieces = one_axis(data, axis), 0, []
    for end in ends:
        if not start <= end <= data.shape[axis]:
            raise ValueError(f"a piece {start}:{end} does not fit axis {axis} of {data.shape}")
        piece = data[(span(None),) * axis + (span(start, end),)]
        pieces.append(at_least_1d(piece.squeeze(axis) if squeeze_axis else piece).copy())
        start = end
    return pieces


@operator(aliases=("SliceChannel",))
def split(data, /, num_outputs, axis=1, squeeze_axis=False):
    """`num_outputs` equal parts along `axis`; with `squeeze_axis` that axis, of size 1, goes away."""
    size = data.shape[one_axis(data, axis)]
    if num_outputs < 1 or size % num_outputs:
        raise ValueError(f"axis {axis} of size {size} has no {num_outputs} equal parts")
    step = size // num_outputs
    ends = [step * (i + 1) for i in range(num_outputs)]
    parts = cut(data, ends, axis, squeeze_axis)
    return tuple(parts) if num_outputs > 1 else parts[0]


split.outputs = lambda _, num_outputs, **__: num_outputs if num_outputs > 1 else ["output0"]


@split.vjp
def _(g, y, data, num_outputs, axis, squeeze_axis):
    return (rejoined(g, data, axis, squeeze_axis),)


def rejoined(g, data, axis, squeeze_axis):
    """Undo a cut: the pieces `g`, or the only one, joined along `axis` in the shape of `data`."""
    pieces = g if isinstance(g, list | tuple) else [g]
    if not squeeze_axis:
        return concat(*pieces, dim=axis)
    return reshape_like(stack(*pieces, axis=axis), data)


@operator
def split_v2(ary, /, indices_or_sections, axis=0, squeeze_axis=False):
    """Parts of `ary` along `axis`: so many equal ones, or cut at the places that a tuple names.

    With `squeeze_axis` that axis, of size 1 in each part, goes away.
    """
    if isinstance(indices_or_sections, int):
        return split.kernel(ary, indices_or_sections, axis, squeeze_axis)
    ends = [*indices_or_sections, ary.shape[one_axis(ary, axis)]]
    parts = cut(ary, ends, axis, squeeze_axis)
    return tuple(parts) if len(parts) > 1 else parts[0]


split_v2.outputs = lambda _, indices_or_sections, **__: (
    indices_or_sections if isinstance(indices_or_sections, int) else len(indices_or_sections) + 1
)


@split_v2.vjp
def _(g, y, ary, indices_or_sections, axis, squeeze_axis):
    return (rejoined(g, ary, axis, squeeze_axis),)


@operator
def stack(*data, axis=0, num_args=None):
    """Arrays of one shape, side by side along a new axis."""
    return np.stack(data, axis=axis)


@stack.shapes
def _(*arrays, **_):
    known = [shape for shape in arrays if shape is not None]
    return [tuple(map(max, *known)) if len(known) > 1 else known[0]] * len(arrays)


@stack.vjp
def _(g, y, *data, axis, **_):
    parts = split(g, num_outputs=len(data), axis=axis, squeeze_axis=True)
    return parts if len(data) > 1 else [parts]


def concatenate(arrays, axis=0, always_copy=True):
    """A list of arrays joined along `axis`; a single one is given back as it is, if it may be."""
    if not isinstance(arrays, list | tuple) or not arrays:
        raise ArgumentError(f"concatenate takes a list of arrays, not {arrays!r}")
    return arrays[0] if len(arrays) == 1 and not always_copy else concat(*arrays, dim=axis)


# --- Pieces ---------------------------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, axis, begin, end: place_axis(g, x, axis=axis, begin=begin, end=end),)
)
def slice_axis(data, /, axis, begin, end):
    """The part of `data` from `begin` up to `end` (None: to the end) along `axis`."""
    return data[along(data.shape, axis, begin, end)].copy()


@operator(vjp=(lambda g, y, x, like, **settings: slice_axis(g, **settings), None))
def place_axis(data, like, /, axis, begin, end):
    """Undo `slice_axis`: zeros in the shape of `like`, with `data` in its old place."""
    out = np.zeros_like(like)
    out[along(like.shape, axis, begin, end)] = data
    return out


@lru_cache(maxsize=1024)  # a program asks for the same few again and again
def along(shape, axis, begin, end):
    """The index of a range along one axis; ValueError if it is empty or reaches beyond it."""
    axis = counted(len(shape), axis)
    size = shape[axis]
    first, last = (n + size if n < 0 else n for n in (begin or 0, size if end is None else end))
    if not (0 <= first < last <= size or first == last == size == 0):
        raise ValueError(f"{begin}:{end} is empty or out of range for axis {axis} of size {size}")
    return (span(None),) * axis + (span(first, last),)


@operator(vjp=(lambda g, y, x, **settings: place(g, x, **settings),), aliases=("crop",))
def slice(data, /, begin, end, step=()):
    """The part `begin:end:step` of the first axes, a number (or None) an axis in each of the three."""
    return data[spans(begin, end, step)].copy()


@operator(vjp=(lambda g, y, x, like, **settings: slice(g, **settings), None))
def place(data, like, /, begin, end, step=()):
    """Undo `slice`: zeros in the shape of `like`, with `data` in its old place."""
    out = np.zeros_like(like)
    out[spans(begin, end, step)] = data
    return out


def spans(begin, end, step):
    """The index made of three numbers an axis."""
    if type(begin) is tuple is type(end) and type(step) is tuple:
        return zipped(begin, end, step)
    return zipped(several(begin), several(end), several(() if step is None else step))


@lru_cache(maxsize=1024)
def zipped(begin, end, step):
    """The index made of as many begins, ends and, if any, steps."""
    step = step or (None,) * len(begin)
    if not len(begin) == len(end) == len(step):
        raise ValueError(f"begin {begin}, end {end} and step {step} differ in length")
    return tuple(map(span, begin, end, step))


@operator(vjp=(lambda g, y, x, like, axes: place_corner(g, x), None), same_dtype=False)
def slice_like(data, shape_like, /, axes=()):
    """The first numbers of `data` along `axes` (by default all), as many as `shape_like` has.

    Negative axes count from the end of `data`, in both arrays.
    """
    return data[
        beginning(data.shape, shape_like.shape, tuple(several(() if axes is None else axes)))
    ].copy()


@lru_cache(maxsize=1024)
def beginning(shape, like, axes):
    """The index of as many numbers as the shape `like` has; ValueError if there are not so many."""
    if not axes and len(shape) != len(like):
        raise ValueError(f"without axes, {len(shape)} and {len(like)} axes do not fit")
    where = [span(None)] * len(shape)
    for a in axes or range(len(shape)):
        axis = counted(len(shape), a)
        if axis >= len(like):
            raise ValueError(f"axis {a} is axis {axis}, and shape_like has {len(like)} alone")
        if (size := like[axis]) > shape[axis]:
            raise ValueError(f"axis {a} of size {shape[axis]} has no {size} numbers")
        where[axis] = span(size)
    return tuple(where)


@operator(vjp=(lambda g, y, x, like: slice_like(g, x), None))
def place_corner(data, like, /):
    """Undo `slice_like`: zeros in the shape of `like`, with `data` in the first corner."""
    out = np.zeros_like(like)
    out[tuple(map(span, data.shape))] = data
    return out


@operator(same_dtype=False)
def Crop(*data, num_args=None, offset=(0, 0), h_w=(0, 0), center_crop=False):
    """A part of pictures of shape (n, c, h, w), of size `h_w` or as large as a second array.

    It begins at `offset`, or lies in the middle with `center_crop`.
    """
    size = h_w if len(data) == 1 else data[1].shape[2:]
    return data[0][window(data[0], size, offset, center_crop)].copy()


@Crop.vjp
def _(g, y, *data, num_args, offset, h_w, center_crop):
    return uncrop(g, data[0], offset=offset, center_crop=center_crop), *[None] * (len(data) - 1)


@operator(vjp=(lambda g, y, x, like, **settings: Crop(g, x, **settings), None))
def uncrop(data, like, /, offset=(0, 0), center_crop=False):
    """Undo `Crop`: zeros in the shape of `like`, with `data` in its old place."""
    out = np.zeros_like(like)
    out[window(like, data.shape[2:], offset, center_crop)] = data
    return out


def window(data, size, offset, center_crop):
    """The index of a part of height and width `size`."""
    if data.ndim != 4 or len(size) != 2 or min(size) < 1:
        raise ValueError(
            f"a part of size {tuple(size)} of {data.ndim} axes: need 4 axes and sizes > 0"
        )
    room = [n - m for n, m in zip(data.shape[2:], size)]
    first = [r // 2 for r in room] if center_crop else offset
    if not all(0 <= f <= r for f, r in zip(first, room)):
        raise ValueError(
            f"a part of size {tuple(size)} at {tuple(first)} reaches out of {data.shape}"
        )
    return ..., *(span(f, f + m) for f, m in zip(first, size))


# --- Borders --------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, constant_value, **s: unpad(g, x, **s),), aliases=("Pad",))
def pad(data, /, mode, pad_width, constant_value=0.0):
    """A border around `data`; `pad_width` has two numbers an axis, before and after it.

    mode: 'constant' (filled with `constant_value`), 'edge' (the outermost number), 'reflect' (the
    numbers beside the edge, mirrored; the border is narrower than the axis).
    """
    widths, shape, middle = borders(data.shape, mode, tuple(pad_width))
    if mode == "constant":
        if constant_value == 0:  # memory comes as zeros
            out = np.zeros(shape, data.dtype, like=data)
        else:
            out = np.full_like(data, constant_value, shape=shape)
        out[middle] = data
        return out
    return np.pad(data, widths, mode=mode)


@operator(vjp=(lambda g, y, x, like, **settings: pad(g, **settings), None))
def unpad(data, like, /, mode, pad_width):
    """Undo `pad`: the border added to the numbers it was made of, in the shape of `like`."""
    for axis, (before, after) in enumerate(borders(like.shape, mode, tuple(pad_width))[0]):
        if before or after:
            data = folded(data, axis, before, after, mode)
    return data.copy()


@lru_cache(maxsize=1024)
def borders(old, mode, pad_width):
    """Pairs of widths, the shape with the border, the index of its middle;
    ValueError for no border of `old`.
    """
    pairs = list(zip(pad_width[::2], pad_width[1::2]))
    if len(pad_width) != 2 * len(old) or min(pad_width) < 0:
        raise ValueError(f"pad_width needs {2 * len(old)} numbers, none negative: {pad_width}")
    if mode not in ("constant", "edge", "reflect"):
        raise ValueError(f"mode {mode!r} is none of 'constant', 'edge', 'reflect'")
    if mode == "reflect" and any(max(pair) >= max(n, 1) for pair, n in zip(pairs, old)):
        raise ValueError(f"a reflected border {pad_width} is as wide as an axis of {old}")
    new = tuple([n + before + after for n, (before, after) in zip(old, pairs)])
    return pairs, new, tuple([span(before, before + n) for n, (before, _) in zip(old, pairs)])


def folded(data, axis, before, after, mode):
    """The middle of `data` along `axis`, with the border at both ends added where it came from."""

    def part(a, start, stop):
        return a[(span(None),) * axis + (span(start, stop),)]

    end = data.shape[axis] - after
    inner, left, right = part(data, before, end), part(data, 0, before), part(data, end, None)
    if mode == "constant":
        return inner
    out, size = inner.copy(), end - before
    if mode == "edge":
        first, last = part(out, 0, 1), part(out, size - 1, size)
        first += left.sum(axis=axis, keepdims=True, dtype=data.dtype)
        last += right.sum(axis=axis, keepdims=True, dtype=data.dtype)
    else:
        first, last = part(out, 1, before + 1), part(out, size - 1 - after, size - 1)
        first += np.flip(left, axis)
        last += np.flip(right, axis)
    return out


# --- Diagonals ------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, **settings: undiag(g, x, **settings),))
def diag(data, /, k=0, axis1=0, axis2=1):
    """The diagonal `k` places above the main one of the axes `axis1`, `axis2`, as the last axis.

    Of a vector: the matrix with `data` on that diagonal.
    """
    if data.ndim == 1:
        return np.diag(data, k)
    rows, columns = data.shape[one_axis(data, axis1)], data.shape[one_axis(data, axis2)]
    if not -rows <= k <= columns:
        raise ValueError(f"there is no diagonal {k} of {rows} rows and {columns} columns")
    return data.diagonal(k, axis1, axis2).copy()


@operator(vjp=(lambda g, y, x, like, **settings: diag(g, **settings), None))
def undiag(data, like, /, k=0, axis1=0, axis2=1):
    """Undo `diag`: zeros in the shape of `like` with `data` on a diagonal; or the diagonal again."""
    if like.ndim == 1:
        return data.diagonal(k).copy()
    out, places = np.zeros_like(like), np.arange(data.shape[-1])
    np.moveaxis(out, (axis1, axis2), (-2, -1))[..., places + max(-k, 0), places + max(k, 0)] = data
    return out


# --- Windows --------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, **settings: col2im_like(g, x, **settings),))
def im2col(data, /, kernel, stride=(), dilate=(), pad=()):
    """What a window of size `kernel` sees from each of its places, one column a place.

    data: (n, c, sizes...); the result: (n, c * window, places), the last sizes running fastest.
    """
    kernel, stride, dilate, pad = frame(data.ndim - 2, kernel, stride, dilate, pad)
    outs = places(data.shape[2:], kernel, stride, dilate, pad)
    seen = seen_through(data, kernel, stride, dilate, pad)
    out = np.empty_like(data, shape=seen.shape, order="C")
    out[...] = seen
    return out.reshape(len(data), data.shape[1] * math.prod(kernel), math.prod(outs))


def seen_through(data, kernel, stride, dilate, pad):
    """A view, (n, c, *kernel, *places): what the window sees, without a copy but for the border."""
    if any(pad):  # np.pad takes ten times as long for a small picture
        sizes = [n + 2 * p for n, p in zip(data.shape[2:], pad)]
        inner, data = data, np.zeros_like(data, shape=(*data.shape[:2], *sizes))
        data[..., *(span(p, p + n) for n, p in zip(inner.shape[2:], pad))] = inner
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilate))
    axes = tuple(range(2, data.ndim))
    seen = windowed(data, spans, axes)
    seen = seen[..., *(span(None, None, s) for s in (*stride, *dilate))]
    count = len(kernel)
    return seen.transpose(0, 1, *range(2 + count, 2 + 2 * count), *axes)


def windowed(data, spans, axes):
    """A view: at each place what lies in a window of `spans`. CuPy's own waits for the device."""
    if type(data) is np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(data, spans, axes)
    shape = list(data.shape)
    for axis, span_ in zip(axes, spans):
        shape[axis] -= span_ - 1
    strides = *data.strides, *[data.strides[axis] for axis in axes]
    return type(data)((*shape, *spans), data.dtype, data.data, strides)


def frame(axes, kernel, stride, dilate, pad):
    """The four settings as tuples with one number an axis, and the defaults filled in."""
    found = [
        several(n) or (default,) * axes
        for n, default in zip((kernel, stride, dilate, pad), (0, 1, 1, 0))
    ]
    if any(len(n) != axes or min(n) < least for n, least in zip(found, (1, 1, 1, 0))):
        raise ValueError(f"kernel, stride, dilate and pad need {axes} numbers each: {found}")
    return found


def places(sizes, kernel, stride, dilate, pad):
    """How many places the window has along each axis; ValueError if it is too large."""
    found = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, d, p in zip(sizes, kernel, stride, dilate, pad)
    )
    if min(found, default=1) < 1:
        raise ValueError(f"a window {kernel} with gaps {dilate} is larger than {tuple(sizes)}")
    return found


@operator(
    vjp=(lambda g, y, x, output_size, **settings: im2col(g, **settings),),
)
def col2im(data, /, output_size, kernel, stride=(), dilate=(), pad=()):
    """Undo `im2col`: add the columns up where they were cut from, in pictures of `output_size`."""
    return overlaid(data, several(output_size), kernel, stride, dilate, pad)


@operator(vjp=(lambda g, y, x, like, **settings: im2col(g, **settings), None))
def col2im_like(data, like, /, kernel, stride=(), dilate=(), pad=()):
    """Undo `im2col`: add the columns up where they were cut from, in the shape of `like`."""
    return overlaid(data, like.shape[2:], kernel, stride, dilate, pad)


def overlaid(data, sizes, kernel, stride, dilate, pad):
    """The sum of all columns, each laid where its window was."""
    kernel, stride, dilate, pad = frame(len(sizes), kernel, stride, dilate, pad)
    outs = places(sizes, kernel, stride, dilate, pad)
    if data.ndim != 3 or data.shape[1] % math.prod(kernel) or data.shape[2] != math.prod(outs):
        raise ValueError(f"columns {data.shape} are not those of {kernel} at {outs} places")
    n, c = data.shape[0], data.shape[1] // math.prod(kernel)
    data = data.reshape(n, c, *kernel, *outs)
    out = np.zeros_like(data, shape=(n, c, *(m + 2 * p for m, p in zip(sizes, pad))))
    for at in np.ndindex(*kernel):
        steps = zip(at, outs, stride, dilate)
        where = ..., *(span(i * d, i * d + s * (o - 1) + 1, s) for i, o, s, d in steps)
        out[where] += data[:, :, *at]
    return out[..., *(span(p, p + m) for m, p in zip(sizes, pad))].copy()


# --- Methods --------------------------------------------------------------------------------------

for op in [split, split_v2, slice, slice_axis, slice_like, pad, diag]:
    setattr(Operand, op.name, op)
