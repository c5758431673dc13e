"""Many numbers become one: sums and their adjoints, ties, and the softmax that does not overflow."""

# Written from chapters/11_reduce.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.op import Operand, operator
from minigluon.ops.elementwise import equal, exp

__all__ = [
    "argmax",
    "argmin",
    "at_least_1d",
    "axes",
    "broadcast_along",
    "centred",
    "log_softmax",
    "max",
    "mean",
    "min",
    "one_axis",
    "place_of",
    "scaled",
    "softmax",
    "spread_along",
    "sum",
]


# --- Axes -----------------------------------------------------------------------------------------


def axes(data, axis, exclude):
    """The axes to reduce, as a tuple; None and () mean all of them."""
    if axis is None or axis == ():
        return () if exclude and axis == () else tuple(range(data.ndim))
    chosen = [one_axis(data, a) for a in ((axis,) if isinstance(axis, int) else axis)]
    return tuple([a for a in range(data.ndim) if a not in chosen] if exclude else chosen)


def one_axis(data, axis):
    """`axis` counted from the front; ValueError if the array has no such axis."""
    if not -data.ndim <= axis < data.ndim:
        raise ValueError(f"axis {axis} is out of range for an array of {data.ndim} axes")
    return axis % data.ndim


def at_least_1d(y):
    """A result without axes gets one: a single number has shape (1,)."""
    return y if y.ndim else y.reshape(1)


# --- The adjoint of a reduction -------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, like, **settings: sum(g, **settings), None),
)
def broadcast_along(data, like, /, axis=None, keepdims=False, exclude=False):
    """Undo a reduction: repeat `data` along the reduced axes to the shape of `like`."""
    reduced = axes(like, axis, exclude)
    kept = tuple(1 if a in reduced else n for a, n in enumerate(like.shape))
    return np.broadcast_to(data.reshape(kept), like.shape)


@operator(
    vjp=(lambda g, y, x, **settings: broadcast_along(g, x, **settings),), aliases=("sum_axis",)
)
def sum(data, /, axis=None, keepdims=False, exclude=False):
    """Sum along `axis` (None: all, an int or several), or with `exclude` along all the others."""
    where = axes(data, axis, exclude)
    return at_least_1d(data.sum(axis=where, keepdims=keepdims, dtype=data.dtype))


@operator(vjp=(lambda g, y, x, **settings: spread_along(g, x, **settings),))
def mean(data, /, axis=None, keepdims=False, exclude=False):
    """Mean along `axis` (None: all, an int or several), or with `exclude` along all the others."""
    where = axes(data, axis, exclude)
    count = math.prod([data.shape[a] for a in where])
    if count == 1:  # such as the loss of each sample, one number: a mean of one number is no work
        return at_least_1d(data if keepdims else data.squeeze(where)).copy()
    if data.dtype.kind == "f" and data.itemsize > 2:
        return at_least_1d(data.sum(axis=where, keepdims=keepdims) / data.dtype.type(count))
    return at_least_1d(data.mean(axis=where, keepdims=keepdims)).astype(data.dtype, copy=False)


@operator(vjp=(lambda g, y, x, like, **settings: mean(g, **settings), None))
def spread_along(data, like, /, axis=None, keepdims=False, exclude=False):
    """Undo a mean: share `data` out evenly along the reduced axes to the shape of `like`."""
    if data.size == like.size:
        return data.reshape(like.shape)
    out = broadcast_along.kernel(data, like, axis, keepdims, exclude)
    return out * (data.size / like.size)


# --- Extremes -------------------------------------------------------------------------------------


@operator(
    vjp=(
        lambda g, y, x, **settings: (
            broadcast_along(g, x, **settings) * equal(x, broadcast_along(y, x, **settings))
        ),
    ),
    aliases=("max_axis",),
)
def max(data, /, axis=None, keepdims=False, exclude=False):
    """The largest number along `axis` (None: all, an int or several); ties all get the gradient."""
    return at_least_1d(data.max(axis=axes(data, axis, exclude), keepdims=keepdims))


@operator(
    vjp=(
        lambda g, y, x, **settings: (
            broadcast_along(g, x, **settings) * equal(x, broadcast_along(y, x, **settings))
        ),
    ),
    aliases=("min_axis",),
)
def min(data, /, axis=None, keepdims=False, exclude=False):
    """The smallest number along `axis` (None: all, an int or several); ties all get the gradient."""
    return at_least_1d(data.min(axis=axes(data, axis, exclude), keepdims=keepdims))


@operator(vjp=(None,))
def argmax(data, /, axis=None, keepdims=False):
    """Where the largest number stands along `axis` (None: in the flattened array), as float32."""
    return place_of(data.argmax, data, axis, keepdims)


@operator(vjp=(None,))
def argmin(data, /, axis=None, keepdims=False):
    """Where the smallest number stands along `axis` (None: in the flattened array), as float32."""
    return place_of(data.argmin, data, axis, keepdims)


def place_of(find, data, axis, keepdims):
    """The positions that `find` finds, as MXNet returns them: in float32."""
    axis = axis if axis is None else one_axis(data, axis)
    return at_least_1d(find(axis=axis, keepdims=keepdims)).astype("float32")


# --- Softmax --------------------------------------------------------------------------------------


@operator(
    vjp=(
        lambda g, p, z, axis, temperature: scaled(
            p * (g - sum(g * p, axis=axis, keepdims=True)), temperature
        ),
    )
)
def softmax(data, /, axis=-1, temperature=None):
    """Probabilities along `axis`, in proportion to $e^{z/T}$."""
    e = np.exp(centred(data, axis, temperature))
    e /= e.sum(axis=axis, keepdims=True)
    return e


@operator(
    vjp=(
        lambda g, y, z, axis, temperature: scaled(
            g - exp(y) * sum(g, axis=axis, keepdims=True), temperature
        ),
    )
)
def log_softmax(data, /, axis=-1, temperature=None):
    """Logarithms of the softmax along `axis`: $z - \\ln\\sum e^z$."""
    z = centred(data, axis, temperature)
    z -= np.log(np.exp(z).sum(axis=axis, keepdims=True))
    return z


def centred(data, axis, temperature):
    """`data / temperature` without its maximum along `axis`, in new memory."""
    data = scaled(data, temperature)
    return data - data.max(axis=one_axis(data, axis), keepdims=True)


def scaled(g, temperature):
    """`g / temperature`; None is 1."""
    return g if temperature in (None, 1.0) else g / temperature


# --- Methods --------------------------------------------------------------------------------------

for op in [sum, mean, max, min, argmax, argmin, softmax, log_softmax]:
    setattr(Operand, op.name, op)
