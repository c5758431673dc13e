"""Reductions beyond the sum: each has a gradient that looks back at every number it took in."""

# Written from chapters/14c_norms.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.autograd import ones_like
from minigluon.op import Operand, operator
from minigluon.ops.elementwise import cast_like, equal, fitted, greater_equal, lesser, sign, sqrt
from minigluon.ops.indexing import NATURAL, WHOLE, largest, pick, unpick, where
from minigluon.ops.reduce import (
    along,
    at_least_1d,
    broadcast_along,
    centred,
    mean,
    one_axis,
    place_of,
    softmax,
    softmax_rule,
    spread_along,
    sum,
)
from minigluon.ops.shape import flip, reshape_like

__all__ = [
    "KINDS",
    "L2Normalization",
    "LEAST",
    "LEAST_AXES",
    "MODES",
    "SoftmaxActivation",
    "argmax_channel",
    "cleaned",
    "cumsum",
    "cumsum_rule",
    "inside",
    "moments",
    "moments_rule",
    "nanprod",
    "nansum",
    "norm",
    "norm_rule",
    "normalization_rule",
    "others",
    "prod",
    "softmax_cross_entropy",
    "softmin",
]


# --- Mathematics ----------------------------------------------------------------------------------


def others(x, **settings):
    """The product of all other factors, for each factor; right also where one of them is 0."""
    zero = equal(x, 0)
    factors = x + zero
    product = broadcast_along(prod(factors, **settings), x, **settings)
    zeros = broadcast_along(sum(zero, **settings), x, **settings)
    return product / factors * equal(zeros - zero, 0)


@operator(
    vjp=(lambda g, y, x, **settings: broadcast_along(g, x, **settings) * others(x, **settings),)
)
def prod(data, /, axis=None, keepdims=False, exclude=False):
    """Product along `axis` (None: all, an int or several), or with `exclude` along all the others."""
    where_ = along(data, axis, exclude)
    return at_least_1d(data.prod(where_, data.dtype, None, keepdims))


# --- Without NaN ----------------------------------------------------------------------------------


def cleaned(x):
    """`x` with 1 in the place of NaN."""
    return where(equal(x, x), x, ones_like(x))


@operator(vjp=(lambda g, y, x, **settings: broadcast_along(g, x, **settings) * equal(x, x),))
def nansum(data, /, axis=None, keepdims=False, exclude=False):
    """Sum along `axis`, as `sum`, with NaN counted as 0."""
    where_ = along(data, axis, exclude)
    return at_least_1d(np.nansum(data, axis=where_, keepdims=keepdims, dtype=data.dtype))


@operator(
    vjp=(
        lambda g, y, x, **settings: (
            broadcast_along(g, x, **settings) * others(cleaned(x), **settings) * equal(x, x)
        ),
    )
)
def nanprod(data, /, axis=None, keepdims=False, exclude=False):
    """Product along `axis`, as `prod`, with NaN counted as 1."""
    where_ = along(data, axis, exclude)
    return at_least_1d(np.nanprod(data, axis=where_, keepdims=keepdims, dtype=data.dtype))


# --- Lengths --------------------------------------------------------------------------------------


def norm_rule(g, y, x, ord, axis, out_dtype, keepdims):
    """The unit vector along `x`, or its signs, times the gradient; 0 where the norm is 0."""
    g = cast_like(g, x)
    if ord == 1:
        return (broadcast_along(g, x, axis=axis, keepdims=keepdims) * sign(x),)
    y = cast_like(y, x)
    return (broadcast_along(g / (y + equal(y, 0)), x, axis=axis, keepdims=keepdims) * x,)


@operator(vjp=norm_rule)
def norm(data, /, ord=2, axis=None, out_dtype=None, keepdims=False):
    """The length of the vectors along `axis` (None: of all numbers):
    $\\sqrt{\\sum x^2}$, or with ord=1 $\\sum |x|$.
    """
    if ord not in (1, 2):
        raise ValueError(f"ord={ord}: norm only supports ord=1 and ord=2")
    if axis is None and ord == 2 and not keepdims and data.dtype.char in "fd":
        flat = data.reshape(1, -1)
        length = flat.dot(flat[0])
        np.sqrt(length, length)
        return length if out_dtype is None else length.astype(out_dtype, copy=False)
    raw = abs(data) if ord == 1 else data * data
    total = at_least_1d(raw.sum(along(data, axis, False), data.dtype, None, keepdims))
    if ord == 2:
        total = (
            np.sqrt(total, total) if data.dtype.kind in "fV" else fitted(np.sqrt(total), data.dtype)
        )
    return total if out_dtype is None else total.astype(out_dtype, copy=False)


MODES = {  # of L2Normalization: the axes that make up a vector
    "instance": {"axis": 0, "exclude": True},
    "channel": {"axis": 1},
    "spatial": {"axis": (0, 1), "exclude": True},
}


LEAST_AXES = {"instance": 1, "channel": 2, "spatial": 3}


def normalization_rule(g, y, x, eps, mode):
    """What points along `y` is taken out, and the rest is shortened as `x` was."""
    length = sqrt(sum(x * x, keepdims=True, **MODES[mode]) + eps)
    return ((g - y * sum(g * y, keepdims=True, **MODES[mode])) / length,)


@operator(vjp=normalization_rule)
def L2Normalization(data, /, eps=1e-10, mode="instance"):
    """`data` over the length of its vectors, $\\sqrt{\\sum x^2 + eps}$.

    mode: 'instance', one vector a sample; 'channel', along axis 1; 'spatial', along all axes from
    the third.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: it is one of {', '.join(MODES)}")
    if data.ndim < LEAST_AXES[mode]:
        raise ValueError(f"mode {mode!r} needs more axes than {data.shape} has")
    total = sum.kernel(data * data, keepdims=True, **MODES[mode])
    return data / np.sqrt(total + eps)


# --- Mean and variance at once --------------------------------------------------------------------


def moments_rule(g, y, x, axes, keepdims):
    """Through the mean, and through the squares; the mean inside the squares contributes nothing."""
    settings = {"axis": axes, "keepdims": keepdims}
    deviation = x - broadcast_along(y[0], x, **settings)
    return (spread_along(g[0], x, **settings) + 2 * deviation * spread_along(g[1], x, **settings),)


@operator(vjp=moments_rule)
def moments(data, /, axes=None, keepdims=False):
    """Mean and variance along `axes` (None: all), the variance divided by the count."""
    if axes is not None and not isinstance(axes, int) and not len(axes):
        raise ValueError("axes is empty: name some, or None for all")
    chosen = None if axes is None else axes if isinstance(axes, int) else tuple(axes)
    if data.dtype.char in "fd":
        center = mean.kernel(data, chosen, True)
        away = data - center
        away *= away
        variance = mean.kernel(away, chosen, keepdims)
    else:  # half precision and whole numbers are added up in more digits
        center = data.mean(axis=chosen, keepdims=True)
        variance = ((data - center) ** 2).mean(axis=chosen, keepdims=keepdims)
        center, variance = (at_least_1d(a).astype(data.dtype) for a in (center, variance))
    return center if keepdims else center.reshape(variance.shape), variance


moments.outputs = 2


# --- Running sums ---------------------------------------------------------------------------------


def cumsum_rule(g, y, x, axis, dtype):
    """A running sum from the other end."""
    g = cast_like(g, x)
    if axis is None:
        return (reshape_like(flip(cumsum(flip(g, axis=0), axis=0), axis=0), x),)
    return (flip(cumsum(flip(g, axis=axis), axis=axis), axis=axis),)


@operator(vjp=cumsum_rule, aliases=("_np_cumsum",))
def cumsum(a, /, axis=None, dtype=None):
    """Running sums along `axis`; with axis=None of all numbers in one row."""
    if axis is not None:
        one_axis(a, axis)  # refuses an axis that is not there
    return a.cumsum(axis, dtype or a.dtype)


# --- Relatives of the softmax ---------------------------------------------------------------------


@operator(vjp=(None,))
def argmax_channel(data, /):
    """Where the largest number of each row stands, along axis 1, in the type of `data`."""
    return place_of("argmax", data, 1, False)


@operator(
    vjp=lambda g, p, z, use_length, **settings: (
        -softmax_rule(g, p, z, use_length=False, **settings)[0],
    )
)
def softmin(data, /, axis=-1, temperature=None, dtype=None, use_length=False):
    """Probabilities along `axis`, in proportion to $e^{-z/T}$, in the type of `data` or in `dtype`."""
    if use_length:
        raise ValueError("use_length: softmax alone takes lengths")
    return softmax.kernel(-data, None, axis, temperature, dtype)


KINDS = {"instance": {"axis": -1}, "channel": {"axis": 1}}


@operator(vjp=(lambda g, p, z, mode: p * (g - sum(g * p, keepdims=True, **KINDS[mode])),))
def SoftmaxActivation(data, /, mode="instance"):
    """Softmax along the last axis ('instance'), or along axis 1 at every place ('channel')."""
    if mode not in KINDS:
        raise ValueError(f"mode {mode!r}: it is one of {', '.join(KINDS)}")
    if mode == "channel" and data.ndim < 3:
        raise ValueError(f"mode 'channel' is for data of at least 3 axes, not {data.ndim}")
    return softmax.kernel(data, **KINDS[mode])


def inside(i, x):
    """1 for the labels that are columns of `x`, 0 for the others."""
    columns = cast_like(sum(ones_like(x), axis=1), i)
    return greater_equal(i, 0) * lesser(i, columns)


@operator(
    vjp=(lambda g, y, x, i: g * (softmax(x) - unpick(inside(i, x), x, i)), None),
    same_dtype=False,
)
def softmax_cross_entropy(data, label, /):
    """The sum of $-\\ln p_{label}$ over a batch, shape (1,). data: (batch, classes); label: (batch,).

    As in MXNet no probability is less than 1e-8, and that of a label out of range is 0.
    """
    if data.ndim != 2 or label.shape != data.shape[:1]:
        raise ValueError(f"labels of shape {data.shape[:1]} are wanted, not {label.shape}")
    z, index = centred(data, -1, None), label.astype(WHOLE)
    if index.size and largest(index.view(NATURAL)) < data.shape[1]:  # all are there
        losses = -z[np.arange(len(z), like=z), index]
        np.exp(z, out=z)
        losses += np.log(z.sum(-1))
        return np.minimum(losses, LEAST, out=losses).sum(keepdims=True)
    chosen = pick.kernel(z, label)
    np.exp(z, out=z)
    losses, known = np.log(z.sum(-1)) - chosen, (label > -1) & (label < data.shape[1])
    return np.where(known, np.minimum(losses, LEAST), LEAST).sum(dtype=z.dtype, keepdims=True)


LEAST = -math.log(1e-8)  # the largest loss of a sample


for op in [prod, nansum, nanprod, norm, cumsum, argmax_channel, softmin]:
    setattr(Operand, op.name, op)
