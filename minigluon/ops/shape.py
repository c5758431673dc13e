"""The same numbers, read differently: operators that move no number, and those that only move."""

# Written from chapters/12_shape.ipynb: edit the chapter, then run `minigluon export`.

import math
from functools import lru_cache

import numpy as np

from minigluon.autograd import Node, ones_like, state, sum_like, zeros_like
from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import ArgumentError, NDArray, zero_is_a_size
from minigluon.op import Operand, failure, into, operator
from minigluon.ops.reduce import at_least_1d, counted, one_axis

__all__ = [
    "NDArray",
    "Operand",
    "ShapeError",
    "ViewError",
    "axes_between",
    "broadcast_axis",
    "broadcast_like",
    "broadcast_to",
    "broadcast_to_method",
    "codes_of",
    "copied",
    "decoded",
    "depth_to_space",
    "expand_dims",
    "flatten",
    "flip",
    "halves",
    "inferred",
    "inverse",
    "moveaxis",
    "opening",
    "owned",
    "parts",
    "repeat",
    "reshape",
    "reshape_like",
    "reshape_method",
    "reshape_view",
    "reversing",
    "several",
    "shape_array",
    "size_array",
    "space_to_depth",
    "spread",
    "squeeze",
    "stretched",
    "swapaxes",
    "tile",
    "transpose",
    "transpose_method",
    "unrepeat",
    "untile",
    "viewing",
]


# --- Reading memory anew --------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, like, **_: reshape_like(g, x), None), same_dtype=False, listed=False)
def reshape_like(lhs, rhs, /, lhs_begin=None, lhs_end=None, rhs_begin=None, rhs_end=None):
    """The numbers of `lhs` in the shape of `rhs`, which must have as many.

    With begin and end, only the axes `lhs_begin:lhs_end` take the sizes of `rhs_begin:rhs_end`.
    """
    if lhs_begin is lhs_end is rhs_begin is rhs_end is None:
        return lhs.reshape(rhs.shape)
    before, after = axes_between(lhs, lhs_begin, lhs_end)
    first, last = axes_between(rhs, rhs_begin, rhs_end)
    return lhs.reshape(lhs.shape[:before] + rhs.shape[first:last] + lhs.shape[after:])


def owned(lhs, rhs, /, lhs_begin=None, lhs_end=None, rhs_begin=None, rhs_end=None):
    return reshape_like.kernel(lhs, rhs, lhs_begin, lhs_end, rhs_begin, rhs_end).copy()


owned.__name__, owned.__doc__ = "reshape_like", reshape_like.__doc__
owned = operator(owned, vjp=reshape_like.rules, same_dtype=False)


def axes_between(a, begin, end):
    """The axes `begin:end` of an array, both counted from the front; ValueError if there are none."""
    ends = begin or 0, a.ndim if end is None else end
    first, last = (n + a.ndim if n < 0 else n for n in ends)
    if not 0 <= first < last <= a.ndim:
        raise ValueError(f"an array of {a.ndim} axes has no axes {begin}:{end}")
    return first, last


@operator(vjp=(lambda g, y, x, **_: reshape_like(g, x),), aliases=("Reshape",))
def reshape(data, /, shape=None, reverse=False, target_shape=None, keep_highest=False):
    """The same numbers in another shape, of the same size.

    Codes: 0 copies a size, -1 is inferred, -2 copies all that remain, -3 joins two, -4 splits one
    into the next two numbers (one may be -1); with `reverse` they are read from the right.
    `target_shape` is MXNet's old form: one 0 is inferred; `keep_highest` copies the first size.
    """
    if shape is None:
        shape = [n or -1 for n in several(target_shape or ())]
        shape[:1] = [0] if keep_highest else shape[:1]
    return copied(data, decoded(several(shape), data.shape, reverse))


def copied(data, shape):
    """The numbers of `data` in order, in new memory; each is moved once."""
    if data.flags.c_contiguous:
        return data.reshape(shape).copy()
    made = np.empty_like(data, shape=inferred([*shape], data.size), order="C")
    if made.size != data.size:
        raise ValueError(f"{data.size} numbers do not fit the shape {tuple(shape)}")
    made.reshape(data.shape)[...] = data
    return made


def several(n):
    """A number, or several, as a tuple."""
    return tuple(n) if isinstance(n, tuple | list) else (n,)


def decoded(codes, old, reverse=False):
    """The shape that MXNet's `codes` mean for an array of shape `old`; ValueError if they fit not."""
    if codes and (min(codes) > 0 or (min(codes) == -1 and 0 not in codes and 0 not in old)):
        return codes  # NumPy knows -1, too
    if reverse:
        return decoded(codes[::-1], old[::-1])[::-1]
    new, left, codes = [], list(old), list(codes)
    while codes:
        code = codes.pop(0)
        if code < -4 or len(left) < {0: 1, -3: 2, -4: 1}.get(code, 0):
            raise ValueError(f"reshape code {code} does not fit the shape {old}")
        if code == -2:
            new, left = new + left, []
        elif code == -3:
            new.append(left.pop(0) * left.pop(0))
        elif code == -4:
            new += halves(left.pop(0), codes[:2])
            codes = codes[2:]
        else:
            new.append(code or left[0])
            left = left[1:]
    return inferred(new, math.prod(old))


def halves(size, pair):
    """The two sizes that code -4 makes of one; one of the `pair` may be -1."""
    known = math.prod(n for n in pair if n != -1)
    if len(pair) < 2 or known <= 0 or size % known or (-1 not in pair and size != known):
        raise ValueError(f"reshape code -4: {size} is not the product of two sizes {tuple(pair)}")
    return [size // known if n == -1 else n for n in pair]


def inferred(shape, size):
    """`shape` with its -1 replaced by what makes the size right; never without axes."""
    if shape.count(-1) > 1:
        raise ValueError(f"only one size of {tuple(shape)} can be inferred")
    if -1 in shape:
        known = math.prod(n for n in shape if n != -1)
        if known == 0 or size % known:
            raise ValueError(f"{size} numbers cannot be read as {tuple(shape)}")
        shape = [size // known if n == -1 else n for n in shape]
    return tuple(shape) or (1,)


@operator(vjp=(lambda g, y, x: reshape_like(g, x),), aliases=("Flatten",))
def flatten(data, /):
    """A matrix: the first axis stays, all others become one."""
    return data.reshape(data.shape[0], math.prod(data.shape[1:])).copy()


@operator(vjp=(lambda g, y, x, axis: reshape_like(g, x),))
def expand_dims(data, /, axis):
    """A new axis of size 1, so that it is axis number `axis` of the result."""
    return data[opening(data.ndim, axis)].copy()


@lru_cache(maxsize=1024)
def opening(ndim, axis):
    """The index that puts a new axis in front of number `axis` of `ndim` axes."""
    if not -ndim - 1 <= axis <= ndim:
        raise ValueError(f"axis {axis} is out of range for a result of {ndim + 1} axes")
    return (slice(None),) * (axis % (ndim + 1)) + (None,)


@operator(vjp=(lambda g, y, x, axis: reshape_like(g, x),))
def squeeze(data, /, axis=None):
    """The array without its axes of size 1, or without those named in `axis`."""
    return at_least_1d(data.squeeze(axis if axis is None else several(axis))).copy()


# --- Transposition --------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, axes: transpose(g, axes=inverse(axes)),))
def transpose(data, /, axes=None):
    """The axes in the order `axes`, by default reversed."""
    return data.transpose(axes or None).copy()


def inverse(axes):
    """The permutation that undoes `axes`."""
    return axes and tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))


@operator(vjp=(lambda g, y, x, **axes: swapaxes(g, **axes),), aliases=("SwapAxis",))
def swapaxes(data, /, dim1=0, dim2=0):
    """Two axes exchanged."""
    return data.swapaxes(dim1, dim2).copy()


@operator(
    vjp=(lambda g, y, x, source, destination: moveaxis(g, source=destination, destination=source),)
)
def moveaxis(tensor, /, source, destination):
    """The axis `source`, or several, moved to place `destination`; the others keep their order."""
    return np.moveaxis(tensor, source, destination).copy()


@operator(vjp=(lambda g, y, x, axis: flip(g, axis=axis),), aliases=("reverse",))
def flip(data, /, axis):
    """The numbers in reverse order along `axis`, an int or several."""
    return data[reversing(data.ndim, several(axis))].copy()


@lru_cache(maxsize=1024)
def reversing(ndim, axes):
    """The index that turns round some of `ndim` axes."""
    chosen = [counted(ndim, a) for a in axes]
    return tuple([slice(None, None, -1) if a in chosen else slice(None) for a in range(ndim)])


@operator(vjp=(lambda g, y, x, block_size: space_to_depth(g, block_size=block_size),))
def depth_to_space(data, /, block_size):
    """Channels dealt out into squares: shape (n, c b^2, h, w) becomes (n, c, h b, w b)."""
    n, c, h, w = parts(data.shape, block_size, channels=block_size**2)
    opened = data.reshape(n, block_size, block_size, c, h, w).transpose(0, 3, 4, 1, 5, 2)
    return opened.copy().reshape(n, c, h * block_size, w * block_size)


@operator(vjp=(lambda g, y, x, block_size: depth_to_space(g, block_size=block_size),))
def space_to_depth(data, /, block_size):
    """Squares gathered into channels: shape (n, c, h b, w b) becomes (n, c b^2, h, w)."""
    n, c, h, w = parts(data.shape, block_size, block=block_size)
    opened = data.reshape(n, c, h, block_size, w, block_size).transpose(0, 3, 5, 1, 2, 4)
    return opened.copy().reshape(n, c * block_size**2, h, w)


@lru_cache(maxsize=1024)
def parts(shape, block_size, channels=1, block=1):
    """The sizes of four axes, divided; ValueError if they cannot be."""
    if len(shape) != 4 or block_size < 1:
        raise ValueError(
            f"block_size {block_size} of {len(shape)} axes: need at least 1, and 4 axes"
        )
    if 0 in shape[1:]:
        raise ValueError(f"{shape} has an axis without numbers")
    for size, by in zip(shape[1:], (channels, block, block)):
        if size % by:
            raise ValueError(f"a size of {shape} is not a multiple of {by}")
    n, c, h, w = shape
    return n, c // channels, h // block, w // block


# --- Repeating ------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, shape: sum_like(g, x),))
def broadcast_to(data, /, shape):
    """Repeat the axes of size 1 up to `shape`; 0 keeps a size."""
    shape = several(shape)
    if 0 in shape and len(shape) == data.ndim:
        shape = tuple(n or old for n, old in zip(shape, data.shape))
    return spread(data, shape)


def spread(data, shape):
    """`data` broadcast to `shape`, in memory of its own:
    four times as fast as `broadcast_to().copy()`.
    """
    if len(shape) < data.ndim:
        raise ValueError(f"{data.ndim} axes cannot be broadcast to the shape {tuple(shape)}")
    out = np.empty_like(data, shape=shape, order="C")
    out[...] = data
    return out


@operator(vjp=(lambda g, y, x, axis, size: sum_like(g, x),), aliases=("broadcast_axes",))
def broadcast_axis(data, /, axis=(), size=()):
    """Repeat each axis of size 1 named in `axis` to the size that stands in `size`."""
    return spread(data, stretched(data, several(axis), several(size)))


@operator(vjp=(lambda g, y, x, like, **axes: sum_like(g, x), None), same_dtype=False)
def broadcast_like(lhs, rhs, /, lhs_axes=None, rhs_axes=None):
    """Repeat `lhs` along its axes of size 1 to the shape of `rhs`.

    With axes, only those of `lhs_axes` are repeated, each to the size of its partner in `rhs_axes`.
    """
    if lhs_axes is None or rhs_axes is None:
        return spread(lhs, rhs.shape)
    sizes = [rhs.shape[one_axis(rhs, a)] for a in several(rhs_axes)]
    return spread(lhs, stretched(lhs, several(lhs_axes), sizes))


def stretched(data, axes, sizes):
    """The shape of `data` with new `sizes` at some `axes`."""
    if len(axes) != len(sizes):
        raise ValueError(f"axes {axes} need as many sizes, not {tuple(sizes)}")
    shape = list(data.shape)
    for axis, size in zip(axes, sizes):
        shape[one_axis(data, axis)] = size
    return shape


@operator(vjp=(lambda g, y, x, reps: untile(g, x, reps=reps),))
def tile(data, /, reps):
    """The whole array `reps` times along each axis, counted from the last;
    at least once, but in NumPy's shapes.
    """
    reps = several(reps)
    if 0 in reps and not zero_is_a_size[-1]():
        raise ValueError(
            f"reps={reps}: nothing would remain, and a size of 0 means one not known yet"
        )
    return np.tile(data, reps)


@operator(vjp=(lambda g, y, x, like, reps: tile(g, reps=reps), None))
def untile(data, like, /, reps):
    """Undo `tile`: the sum of all copies, in the shape of `like`."""
    reps = several(reps)
    count = max(len(reps), like.ndim)
    sizes = (1,) * (count - like.ndim) + like.shape
    reps = (1,) * (count - len(reps)) + reps
    opened = data.reshape([n for pair in zip(reps, sizes) for n in pair])
    total = opened.sum(axis=tuple(range(0, 2 * count, 2)), dtype=data.dtype)
    return total.reshape(like.shape)


@operator(vjp=(lambda g, y, x, repeats, axis: unrepeat(g, x, repeats=repeats, axis=axis),))
def repeat(data, /, repeats, axis=None):
    """Each number `repeats` times in a row along `axis`; without an axis, of the array laid flat."""
    return np.repeat(data, repeats, axis)


@operator(vjp=(lambda g, y, x, like, repeats, axis: repeat(g, repeats=repeats, axis=axis), None))
def unrepeat(data, like, /, repeats, axis=None):
    """Undo `repeat`: the sum of all copies, in the shape of `like`."""
    place = like.ndim if axis is None else one_axis(like, axis) + 1
    before, after = math.prod(like.shape[:place]), math.prod(like.shape[place:])
    total = data.reshape(before, repeats, after).sum(axis=1, dtype=data.dtype)
    return total.reshape(like.shape)


# --- Sizes as numbers -----------------------------------------------------------------------------


@operator(vjp=(None,))
def shape_array(data, /):
    """The sizes of the axes, as an int64 array."""
    return np.array(data.shape, "int64", like=data)


@operator(vjp=(None,))
def size_array(data, /):
    """How many numbers there are, as an int64 array of shape (1,)."""
    return np.array([data.size], "int64", like=data)


# --- Methods --------------------------------------------------------------------------------------


class ShapeError(MXNetError, ValueError):
    """A shape that does not fit, met in a method: MXNet raises the one or the other."""


def codes_of(shape, settings):
    """The shape in `x.reshape(2, 3)`, `x.reshape((2, 3))` or `x.reshape(shape=(2, 3))`."""
    if not settings and shape:  # the usual case
        return tuple(shape[0]) if isinstance(shape[0], tuple | list) else shape
    if not settings.keys() <= {"shape", "reverse"} or not (shape or "shape" in settings):
        raise ArgumentError("reshape takes a shape and, by keyword, reverse")
    shape = shape if shape else several(settings["shape"])
    return tuple(shape[0]) if shape and isinstance(shape[0], tuple | list) else shape


def reshape_method(self, *shape, **settings):
    """The same numbers in another shape, of the same size; codes as in the operator `reshape`."""
    return reshape(self, **{**settings, "shape": codes_of(shape, settings)})


def reshape_view(self, *shape, **settings):
    """A view of the same numbers in another shape, of the same size; codes as in `mx.nd.reshape`.

    Call it as `x.reshape(2, -1)`, `x.reshape((2, -1))` or `x.reshape(shape=(2, -1))`.
    """
    codes, old = codes_of(shape, settings), self._data
    try:
        data = old.reshape(decoded(codes, old.shape, settings.get("reverse", False)))
    except ValueError as error:
        raise ShapeError(str(failure(error, reshape, [old], {"shape": codes}))) from None
    if not state.recording or self._node is None:
        return NDArray(data, self._ctx)
    node = Node(reshape, [old], {"shape": data.shape}, data, [self._node], self._ctx)
    return NDArray(data, self._ctx, node)


def transpose_method(self, *order, axes=None, out=None):
    """The axes in another order: `x.transpose(1, 0)`, `x.transpose((1, 0))`, or reversed."""
    order = order[0] if order and isinstance(order[0], tuple | list) else order
    return into(out, transpose(self, axes=order or axes))


def broadcast_to_method(self, shape):
    """`x` repeated along its axes of size 1 up to `shape`; ValueError if it does not fit."""
    shape = shape if isinstance(shape, int) else tuple(shape)  # of an array of NumPy, too
    try:
        return broadcast_to(self, shape=shape)
    except MXNetError as error:
        raise ShapeError(str(error)) from None


class ViewError(MXNetError, AssertionError):
    """A view that there is not: with `inplace`, MXNet asserts."""


def viewing(op):
    """The method of `op` with MXNet's setting `inplace`, which asks for a view instead of a copy."""

    def method(self, *args, inplace=False, **settings):
        try:
            y = op(self, *args, **settings)
        except MXNetError as error:
            raise (ViewError(str(error)) if inplace else error) from error.__cause__
        return self.reshape(y.shape) if inplace else y

    method.__name__, method.__doc__ = op.name, op.__doc__
    return method


Operand.reshape, NDArray.reshape = reshape_method, reshape_view
Operand.transpose, Operand.T = transpose_method, property(transpose_method)
NDArray.T = property(lambda self: self if self.ndim < 2 else transpose(self))  # as in MXNet
Operand.reshape_like = owned
Operand.broadcast_to, NDArray.broadcast_to = broadcast_to, broadcast_to_method
Operand.broadcast_like = broadcast_like
NDArray.broadcast_like = lambda self, other: broadcast_to_method(self, other.shape)
Operand.broadcast_axes = broadcast_axis
for op in [flatten, expand_dims, squeeze]:
    setattr(Operand, op.name, viewing(op))
for op in [swapaxes, flip, tile, repeat, broadcast_axis, depth_to_space]:
    setattr(Operand, op.name, op)
for op in [space_to_depth, shape_array, size_array, zeros_like, ones_like]:
    setattr(Operand, op.name, op)
