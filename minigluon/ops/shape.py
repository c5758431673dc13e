"""The same numbers, read differently: operators that move no number, and those that only move."""

# Written from chapters/12_shape.ipynb: edit the chapter, then run `minigluon export`.

import math
from builtins import slice as span

import numpy as np

from minigluon.autograd import broadcast_like, sum_like
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import Operand, operator
from minigluon.ops.reduce import at_least_1d, one_axis

__all__ = [
    "NDArray",
    "Operand",
    "along",
    "broadcast_axis",
    "broadcast_to",
    "checked_reshape",
    "codes_backwards",
    "concat",
    "decoded",
    "expand_dims",
    "flatten",
    "flip",
    "halves",
    "inferred",
    "inverse",
    "place",
    "place_axis",
    "repeat",
    "reshape",
    "reshape_like",
    "reshape_method",
    "slice",
    "slice_axis",
    "spans",
    "split",
    "split_like",
    "squeeze",
    "stack",
    "swapaxes",
    "tile",
    "transpose",
    "transpose_method",
    "unrepeat",
    "unstacked",
    "untile",
]


# --- Reading memory anew --------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, like: reshape_like(g, x), None), same_dtype=False)
def reshape_like(lhs, rhs, /):
    """The numbers of `lhs` in the shape of `rhs`, which must have as many."""
    return lhs.reshape(rhs.shape)


@operator(vjp=(lambda g, y, x, shape, reverse: reshape_like(g, x),), aliases=("Reshape",))
def reshape(data, /, shape=None, reverse=False):
    """The same numbers in another shape, of the same size.

    Codes: 0 copies a size, -1 is inferred, -2 copies all that remain, -3 joins two, -4 splits one
    into the next two numbers (one may be -1); with `reverse` they are read from the right.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if all(n > 0 for n in shape):
        return data.reshape(shape)
    return data.reshape(decoded(shape, data.shape, reverse))


def decoded(codes, old, reverse=False):
    """The shape that MXNet's `codes` mean for an array of shape `old`; ValueError if they fit not."""
    if reverse:
        return decoded(codes_backwards(codes), old[::-1])[::-1]
    new, source, codes = [], list(old), list(codes)
    while codes:
        code = codes.pop(0)
        if code == -2:
            new += source
            source = []
        elif code == -4:
            new += halves(source.pop(0), codes.pop(0), codes.pop(0))
        elif code < -4 or (code in (0, -3) and len(source) < (1 if code == 0 else 2)):
            raise ValueError(f"reshape code {code} does not fit the shape {old}")
        elif code == 0:
            new.append(source.pop(0))
        elif code == -3:
            new.append(source.pop(0) * source.pop(0))
        else:
            new.append(code)
            source = source[1:]
    return inferred(new, math.prod(old))


def codes_backwards(codes):
    """The codes in reverse order, with a split's two numbers still behind it."""
    out, codes = [], list(codes)
    while codes:
        if codes[0] == -4:
            out[:0] = [-4, codes[2], codes[1]]
            codes = codes[3:]
        else:
            out.insert(0, codes.pop(0))
    return out


def halves(size, a, b):
    """The two sizes that a split makes; one of them may be -1."""
    if a == -1:
        a = size // b
    if b == -1:
        b = size // a
    if a * b != size:
        raise ValueError(f"reshape code -4: {size} is not {a} times {b}")
    return [a, b]


def inferred(shape, size):
    """`shape` with its -1 replaced by what makes the size right."""
    if shape.count(-1) > 1:
        raise ValueError(f"only one size of {tuple(shape)} can be inferred")
    if -1 in shape:
        known = math.prod(n for n in shape if n != -1)
        if known == 0 or size % known:
            raise ValueError(f"{size} numbers cannot be read as {tuple(shape)}")
        shape = [size // known if n == -1 else n for n in shape]
    return tuple(shape)


@operator(vjp=(lambda g, y, x: reshape_like(g, x),), aliases=("Flatten",))
def flatten(data, /):
    """A matrix: the first axis stays, all others become one."""
    return data.reshape(data.shape[0], math.prod(data.shape[1:]))


@operator(vjp=(lambda g, y, x, axis: reshape_like(g, x),))
def expand_dims(data, /, axis):
    """A new axis of size 1 at position `axis`."""
    return np.expand_dims(data, axis).copy()


@operator(vjp=(lambda g, y, x, axis: reshape_like(g, x),))
def squeeze(data, /, axis=None):
    """The array without its axes of size 1, or without those named in `axis`."""
    axis = axis if axis is None or isinstance(axis, int) else tuple(axis)
    return at_least_1d(np.squeeze(data, axis)).copy()


# --- Transposition --------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, axes: transpose(g, axes=inverse(axes)),))
def transpose(data, /, axes=None):
    """The axes in the order `axes`, by default reversed."""
    return data.transpose(axes or None).copy()


def inverse(axes):
    """The permutation that undoes `axes`."""
    return None if not axes else tuple(sorted(range(len(axes)), key=lambda i: axes[i]))


@operator(
    vjp=(lambda g, y, x, dim1, dim2: swapaxes(g, dim1=dim1, dim2=dim2),), aliases=("SwapAxis",)
)
def swapaxes(data, /, dim1=0, dim2=0):
    """Two axes exchanged."""
    return data.swapaxes(dim1, dim2).copy()


# --- Repeating ------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, shape: sum_like(g, x),))
def broadcast_to(data, /, shape):
    """Repeat the axes of size 1 up to `shape`; 0 keeps a size."""
    shape = tuple(shape)
    if 0 in shape and len(shape) == data.ndim:
        shape = tuple(n or old for n, old in zip(shape, data.shape))
    return np.broadcast_to(data, shape).copy()


@operator(vjp=(lambda g, y, x, axis, size: sum_like(g, x),), aliases=("broadcast_axes",))
def broadcast_axis(data, /, axis=(), size=()):
    """Repeat each axis of size 1 named in `axis` to the size that stands in `size`."""
    axis = (axis,) if isinstance(axis, int) else axis
    size = (size,) if isinstance(size, int) else size
    shape = list(data.shape)
    for a, n in zip(axis, size):
        shape[one_axis(data, a)] = n
    return np.broadcast_to(data, shape).copy()


@operator(vjp=(lambda g, y, x, reps: untile(g, x, reps=reps),))
def tile(data, /, reps):
    """The whole array `reps` times along each axis, counted from the last."""
    return np.tile(data, reps)


@operator(vjp=(lambda g, y, x, like, reps: tile(g, reps=reps), None))
def untile(data, like, /, reps):
    """Undo `tile`: the sum of all copies, in the shape of `like`."""
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    axes = max(len(reps), like.ndim)
    sizes = (1,) * (axes - like.ndim) + like.shape
    reps = (1,) * (axes - len(reps)) + reps
    opened = data.reshape([n for pair in zip(reps, sizes) for n in pair])
    return opened.sum(axis=tuple(range(0, 2 * axes, 2))).reshape(like.shape)


@operator(vjp=(lambda g, y, x, repeats, axis: unrepeat(g, x, repeats=repeats, axis=axis),))
def repeat(data, /, repeats, axis=None):
    """Each number `repeats` times in a row along `axis`; without an axis, of the array laid flat."""
    return np.repeat(data, repeats, axis)


@operator(vjp=(lambda g, y, x, like, repeats, axis: repeat(g, repeats=repeats, axis=axis), None))
def unrepeat(data, like, /, repeats, axis=None):
    """Undo `repeat`: the sum of all copies, in the shape of `like`."""
    after = 1 if axis is None else math.prod(like.shape[one_axis(like, axis) + 1 :])
    return data.reshape(-1, repeats, after).sum(axis=1).reshape(like.shape)


# --- Joining and cutting --------------------------------------------------------------------------


@operator(aliases=("Concat",))
def concat(*data, dim=1):
    """Arrays joined along axis `dim`; all other sizes are equal."""
    return np.concatenate(data, axis=dim)


@concat.vjp
def _(g, y, *data, dim):
    return split_like(g, *data, dim=dim)


@operator
def split_like(data, /, *like, dim=1):
    """Undo `concat`: cut `data` along `dim` into pieces as long as the arrays `like`."""
    pieces, start = [], 0
    for a in like:
        where = (span(None),) * (dim % data.ndim) + (span(start, start + a.shape[dim]),)
        pieces.append(data[where].copy())
        start += a.shape[dim]
    return tuple(pieces)


@split_like.vjp
def _(g, y, data, *like, dim):
    return concat(*g, dim=dim), *[None] * len(like)


@operator
def stack(*data, axis=0):
    """Arrays of one shape, side by side along a new axis."""
    return np.stack(data, axis=axis)


@stack.vjp
def _(g, y, *data, axis):
    return [reshape_like(part, x) for part, x in zip(unstacked(g, len(data), axis), data)]


def unstacked(g, count, axis):
    """The parts of `g` along `axis`."""
    parts = split(g, num_outputs=count, axis=axis)
    return parts if isinstance(parts, list | tuple) else [parts]


@operator(aliases=("SliceChannel",))
def split(data, /, num_outputs, axis=1, squeeze_axis=False):
    """`num_outputs` equal parts along `axis`; with `squeeze_axis` that axis, of size 1, goes away."""
    if data.shape[one_axis(data, axis)] % num_outputs:
        raise ValueError(f"axis {axis} of size {data.shape[axis]} has no {num_outputs} equal parts")
    parts = np.split(data, num_outputs, axis)
    parts = [(np.squeeze(p, axis) if squeeze_axis else p).copy() for p in parts]
    return tuple(parts) if num_outputs > 1 else parts[0]


@split.vjp
def _(g, y, data, num_outputs, axis, squeeze_axis):
    gs = g if isinstance(g, list | tuple) else [g]
    joined = stack(*gs, axis=axis) if squeeze_axis else concat(*gs, dim=axis)
    return (joined,)


# --- Pieces ---------------------------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, axis, begin, end: place_axis(g, x, axis=axis, begin=begin, end=end),)
)
def slice_axis(data, /, axis, begin, end):
    """The part of `data` from `begin` up to `end` (None: to the end) along `axis`."""
    return data[along(data, axis, begin, end)].copy()


@operator(
    vjp=(
        lambda g, y, x, like, axis, begin, end: slice_axis(g, axis=axis, begin=begin, end=end),
        None,
    )
)
def place_axis(data, like, /, axis, begin, end):
    """Undo `slice_axis`: zeros in the shape of `like`, with `data` in its old place."""
    out = np.zeros_like(like)
    out[along(like, axis, begin, end)] = data
    return out


def along(data, axis, begin, end):
    """The index of a range along one axis."""
    size = data.shape[one_axis(data, axis)]
    if not (-size <= (begin or 0) <= size and -size <= (size if end is None else end) <= size):
        raise ValueError(f"{begin}:{end} is out of range for axis {axis} of size {size}")
    return (span(None),) * one_axis(data, axis) + (span(begin, end),)


@operator(
    vjp=(lambda g, y, x, begin, end, step: place(g, x, begin=begin, end=end, step=step),),
    aliases=("crop",),
)
def slice(data, /, begin, end, step=()):
    """The part `begin:end:step` of the first axes, a number (or None) an axis in each of the three."""
    return data[spans(begin, end, step)].copy()


@operator(
    vjp=(lambda g, y, x, like, begin, end, step: slice(g, begin=begin, end=end, step=step), None)
)
def place(data, like, /, begin, end, step=()):
    """Undo `slice`: zeros in the shape of `like`, with `data` in its old place."""
    out = np.zeros_like(like)
    out[spans(begin, end, step)] = data
    return out


def spans(begin, end, step):
    """The index made of three numbers an axis."""
    begin, end, step = [(n,) if isinstance(n, int) else tuple(n or ()) for n in (begin, end, step)]
    return tuple(map(span, begin, end, step + (None,) * (len(begin) - len(step))))


@operator(vjp=(lambda g, y, x, axis: flip(g, axis=axis),), aliases=("reverse",))
def flip(data, /, axis):
    """The numbers in reverse order along `axis`, an int or several."""
    return np.flip(data, axis).copy()


# --- Methods --------------------------------------------------------------------------------------


def reshape_method(self, *shape, **kwargs):
    """`x.reshape(2, 3)`, `x.reshape((2, 3))` or `x.reshape(shape=(2, 3))`; a view where possible."""
    if shape and isinstance(shape[0], tuple | list):
        shape = shape[0]
    return reshape(self, shape=tuple(shape or kwargs.pop("shape")), **kwargs)


def checked_reshape(self, *shape, **kwargs):
    """The method of arrays: ValueError for a shape that has not as many numbers."""
    wanted = kwargs.get("shape", shape)
    wanted = (wanted,) if isinstance(wanted, int) else wanted
    wanted = wanted[0] if wanted and isinstance(wanted[0], tuple | list) else wanted
    new = decoded(wanted, self.shape, kwargs.get("reverse", False))
    if math.prod(new) < self.size:
        raise ValueError(f"cannot reshape {self.size} numbers of shape {self.shape} into {new}")
    return reshape(self, shape=new)


def transpose_method(self, *axes):
    """The axes in another order: `x.transpose(1, 0)` or `x.transpose((1, 0))`."""
    axes = axes[0] if axes and isinstance(axes[0], tuple | list) else axes
    return transpose(self, axes=tuple(axes))


Operand.reshape, NDArray.reshape = reshape_method, checked_reshape
Operand.transpose = transpose_method
Operand.T = property(lambda self: transpose(self))
for op in [reshape_like, flatten, expand_dims, squeeze, swapaxes, broadcast_to, broadcast_like]:
    setattr(Operand, op.name, op)
for op in [split, slice, slice_axis, flip, tile, repeat, broadcast_axis]:
    setattr(Operand, op.name, op)
Operand.broadcast_axes = broadcast_axis
