"""What a unit does below zero decides whether it can learn there."""

# Written from chapters/44_activations.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.autograd import state, sum_like
from minigluon.context import brought
from minigluon.op import operator
from minigluon.ops.elementwise import LONG, exp, greater, lesser_equal, minimum, shared
from minigluon.ops.indexing import where
from minigluon.ops.random import drawn, uniform_law
from minigluon.ops.special import erf_of, in_blocks

__all__ = [
    "ALPHA",
    "LAMBDA",
    "LeakyReLU",
    "PEAK",
    "ROOT",
    "TYPES",
    "bend_slope",
    "bent",
    "curved",
    "drawn_slopes",
    "fitting",
    "gelu_of",
    "gelu_slope",
    "gelu_slope_of",
    "leaky",
    "per_channel",
    "self_normalizing",
    "sum_channel",
]


# --- Mathematics ----------------------------------------------------------------------------------


def self_normalizing():
    """The λ and α of selu: a standard normal number keeps mean 0 and variance 1
    (Klambauer et al., 2017).
    """
    e1, e2 = (math.exp(k * k / 2) * math.erfc(k / math.sqrt(2)) / 2 for k in (1, 2))
    alpha = 1 / (math.sqrt(2 * math.pi) * (0.5 - e1))
    scale = 1 / math.sqrt(0.5 + alpha**2 * (e2 - 2 * e1 + 0.5))
    return scale, alpha


LAMBDA, ALPHA = self_normalizing()


# --- A slope for each channel ---------------------------------------------------------------------


def fitting(slopes, data):
    """`slopes` in a shape that broadcasts to `data`; ValueError if there is none."""
    shape = slopes.shape
    if len(shape) == 1 and data.ndim > 1:
        shape = tuple(slopes.size if i == 1 else 1 for i in range(data.ndim))
    elif len(shape) > 1:  # (batch, channels, ...): the axes that are missing come last
        shape += (1,) * (data.ndim - len(shape))
    if any(n not in (1, m) for n, m in zip(shape, data.shape)) or len(shape) > data.ndim:
        raise ValueError(f"gamma of shape {slopes.shape} does not fit data of shape {data.shape}")
    return slopes.reshape(shape)


@operator(vjp=(lambda g, y, slopes, like: sum_channel(g, slopes), None))
def per_channel(data, like, /):
    """Repeat `data`, with one number or one for each channel of `like` (axis 1), to its shape."""
    return np.broadcast_to(fitting(data, like), like.shape)


@operator(vjp=(lambda g, y, data, like: per_channel(g, data), None))
def sum_channel(data, like, /):
    """Undo `per_channel`: sum `data` down to the shape of `like`."""
    return sum_like.kernel(data, fitting(like, data)).reshape(like.shape)


# --- The bell -------------------------------------------------------------------------------------

ROOT = math.sqrt(0.5)
PEAK = 1 / math.sqrt(2 * math.pi)


def gelu_of(x):
    """x Φ(x)."""
    y = erf_of(x * x.dtype.type(ROOT))
    y += 1
    y *= x
    y *= 0.5
    return y


def gelu_slope_of(x):
    """Φ(x) + x φ(x)."""
    y = x * x
    y *= -0.5
    np.exp(y, out=y)
    y *= x
    y *= PEAK
    cdf = erf_of(x * x.dtype.type(ROOT))
    cdf *= 0.5
    y += cdf
    y += 0.5
    return y


@operator(vjp=(lambda g, y, x: g * (2 - x * x) * PEAK * exp(-0.5 * x * x),))
def gelu_slope(data, /):
    """The derivative of $x\\Phi(x)$."""
    return in_blocks(gelu_slope_of, data, narrow=True)


# --- Six functions --------------------------------------------------------------------------------


def leaky(x, slope):
    """x above 0 and `slope` x below."""
    if not (type(slope) is float and 0 <= slope <= 1):
        return np.where(x > 0, x, x * slope)
    if x.size < LONG:
        return np.maximum(x, x * slope)
    return shared(lambda x, out=None: np.maximum(x, np.multiply(x, slope, out=out), out=out), x)


@operator(vjp=(None,))
def bend_slope(data, /, below, above):
    """`above` where `data` is above 0, else `below`."""

    def some(x, out=None):
        y = np.multiply(x > 0, x.dtype.type(above - below), out=out)
        return np.add(y, x.dtype.type(below), out=out)

    return some(data) if data.size < LONG else shared(some, data)


def curved(x, scale, slope, out=None):
    """`scale` x above 0, and `slope` (e^x - 1) below, into `out` if given."""
    y = np.expm1(np.minimum(x, 0, out=out), out=out)
    y *= slope
    positive = np.maximum(x, 0)
    if scale != 1:
        positive *= scale
    y += positive
    return y


def drawn_slopes(data, lower, upper, rng):
    """A slope for each number: drawn in training, in use the middle of the interval."""
    if not state.training:
        return np.full_like(data, (lower + upper) / 2)
    law = uniform_law, data.shape, data.dtype, lower, upper
    return brought(lambda: drawn(rng, data, *law), data)


TYPES = ("leaky", "prelu", "elu", "selu", "gelu", "rrelu")


@operator(same_dtype=False)
def LeakyReLU(
    data,
    gamma=None,
    /,
    act_type="leaky",
    slope=0.25,
    lower_bound=0.125,
    upper_bound=0.334,
    rng=None,
):
    """A bend that is not flat below 0: `act_type` is leaky, prelu, elu, selu, gelu or rrelu.

    `gamma`, the slopes of prelu: (channels,) or (1,). rrelu also returns the slopes it has drawn from
    `lower_bound` to `upper_bound`.
    """
    if data.dtype.kind not in "fV":
        raise TypeError(f"LeakyReLU works on floating-point numbers, not {data.dtype}")
    if act_type not in TYPES:
        raise ValueError(f"unknown act_type {act_type!r}; known are {', '.join(TYPES)}")
    if (act_type == "prelu") != (gamma is not None):
        raise ValueError("gamma holds the slopes of act_type='prelu': give both, or none of them")
    if act_type == "rrelu":
        slopes = drawn_slopes(data, lower_bound, upper_bound, rng)
        return np.where(data > 0, data, data * slopes), slopes
    return bent(data, gamma, act_type, slope)


LeakyReLU.choices["act_type"] = TYPES


def bent(data, gamma, act_type, slope):
    """`LeakyReLU` of the types that draw nothing."""
    if act_type == "prelu":
        return np.where(data > 0, data, data * fitting(gamma, data))
    if act_type == "gelu":
        return in_blocks(gelu_of, data, narrow=True)
    if act_type == "leaky":
        return leaky(data, float(slope))
    scale, slope = (1, slope) if act_type == "elu" else (LAMBDA, LAMBDA * ALPHA)
    if data.size < LONG:
        return curved(data, scale, slope)
    return shared(lambda x, out=None: curved(x, scale, slope, out), data)


LeakyReLU.inputs = lambda act_type, **_: ["data", "gamma"] if act_type == "prelu" else ["data"]
LeakyReLU.initial = {"gamma": '["Constant", {"value": 0.25}]'}
LeakyReLU.outputs = lambda number, act_type="leaky", **_: (
    ["output", "mask"] if act_type == "rrelu" else 1
)


@LeakyReLU.shapes
def _(data, gamma=None, **_):
    return data, gamma or (data[1] if len(data) > 1 else 1,)


@LeakyReLU.vjp
def _(g, y, x, gamma=None, *, act_type, slope, **_):
    if act_type == "gelu":
        return g * gelu_slope(x), None
    if act_type == "rrelu":
        return g[0] * where(greater(x, 0), 1 + 0 * y[1], y[1]), None
    if act_type == "prelu":
        by_gamma = sum_channel(g * x * lesser_equal(x, 0), gamma)
        return g * where(greater(x, 0), 0 * x + 1, per_channel(gamma, x)), by_gamma
    if act_type == "leaky":
        return g * bend_slope(x, below=slope, above=1), None
    scale, slope = (1, slope) if act_type == "elu" else (LAMBDA, LAMBDA * ALPHA)
    below = minimum(y, 0) if slope >= 0 else where(greater(x, 0), 0 * y, y)
    return g * (below + bend_slope(x, below=slope, above=scale)), None
