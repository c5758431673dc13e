"""One seed, one stream, and a gradient through chance."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

import operator
import threading

import numpy as np

from minigluon import ops
from minigluon.autograd import assign
from minigluon.base import MXNetError
from minigluon.context import Context, current_context
from minigluon.ndarray.ndarray import ArgumentError, NDArray, place, real_dtype
from minigluon.ops.elementwise import add, multiply, subtract
from minigluon.ops.indexing import getitem
from minigluon.ops.shape import reshape

__all__ = [
    "any_array",
    "bernoulli",
    "draw",
    "exponential",
    "generator",
    "generators",
    "holds",
    "lock",
    "normal",
    "randint",
    "randn",
    "seed",
    "shuffle",
    "single",
    "sizes",
    "stream",
    "stretched",
    "uniform",
]


# --- Generators -----------------------------------------------------------------------------------

generators = {}  # context -> numpy.random.Generator; None -> the seed of those not yet made
lock = threading.Lock()


def seed(seed_state, ctx="all"):
    """Start the stream of random numbers anew, on all contexts or on one."""
    if not isinstance(seed_state, int | np.integer):
        raise ValueError(f"seed_state must be int, not {seed_state!r}")
    entropy = int(seed_state) % 2**64
    with lock:
        if ctx == "all":
            generators.clear()
            generators[None] = entropy
        else:
            generators[Context(ctx)] = stream(entropy, Context(ctx))


def stream(entropy, ctx):
    """A new generator: each pair of seed and device has a stream of its own."""
    key = (ctx.device_typeid, ctx.device_id)
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))


def generator(ctx):
    """The generator of a context; without a seed it starts from the system's randomness."""
    if ctx not in generators:
        ops.load()  # once: what is drawn shall have all its methods
        generators[ctx] = stream(generators.get(None), ctx)
    return generators[ctx]


# --- Drawing --------------------------------------------------------------------------------------


def draw(sample, shape, dtype, ctx, out, kinds="f"):
    """An array of what `sample(generator, shape, dtype)` draws, or `out` filled with it."""
    if out is not None:
        if shape is not None and sizes(shape) != out.shape:
            raise MXNetError(f"shape {shape} does not fit out, which has {out.shape}")
        shape, dtype, ctx = out.shape, out.dtype, out.context
    ctx = current_context() if ctx is None else Context(ctx)
    dtype = real_dtype(dtype)
    if dtype.kind not in kinds:
        wanted = " or ".join({"f": "float", "i": "int", "u": "uint"}[k] for k in kinds)
        raise MXNetError(f"dtype {dtype}: this distribution makes numbers of type {wanted}")
    with lock:
        raw = sample(generator(ctx), sizes(shape), dtype)
    y = place(raw.astype(dtype, copy=False), ctx)
    return y if out is None else assign(out, y)


def sizes(shape):
    """A shape as a tuple: None is (1,), a number is one axis."""
    try:
        found = (1,) if shape is None else tuple(map(operator.index, np.atleast_1d(shape)))
    except TypeError:
        found = (-1,)
    if min(found, default=0) < 0:
        raise MXNetError(f"shape={shape!r}: give a whole number or a tuple of them, none negative")
    return found


def single(dtype):
    """The type to draw in: float64 where asked for, else float32, which takes half the bits."""
    return dtype if dtype.itemsize == 8 else np.dtype("float32")


# --- Arrays of parameters -------------------------------------------------------------------------


def any_array(name, first, second):
    """Whether the parameters are arrays; AssertionError if one is and the other is not."""
    kinds = [isinstance(p, NDArray) for p in (first, second)]
    for p, is_array in zip((first, second), kinds):
        if not is_array and not isinstance(p, int | float | np.number):
            raise ValueError(f"{name}: parameters are numbers or NDArrays, not {p!r}")
    if any(kinds) and not all(kinds):
        raise ArgumentError(f"{name}: both parameters must be NDArrays, or both numbers")
    return all(kinds)


def stretched(loc, scale, noise, shape, dtype, out):
    """`loc + scale * noise`, with `shape` numbers for each element of `loc` and `scale`."""
    tail = () if shape is None else sizes(shape)
    column = loc.shape + (1,) * len(tail)
    eps = noise(shape=loc.shape + tail, dtype=dtype or loc.dtype, ctx=loc.context)
    y = add(reshape(loc, shape=column), multiply(reshape(scale, shape=column), eps))
    return y if out is None else assign(out, y)


def holds(condition):
    """Whether a comparison, of numbers or of arrays, is true everywhere."""
    return bool(condition.asnumpy().all()) if isinstance(condition, NDArray) else bool(condition)


# --- Distributions --------------------------------------------------------------------------------


def uniform(low=0, high=1, shape=None, dtype=None, ctx=None, out=None, **_):
    """Numbers spread evenly over [low, high)."""
    arrays = any_array("uniform", low, high)
    if not holds(low <= high):
        raise MXNetError(f"uniform(low={low}, high={high}): low must be less than or equal to high")
    if arrays:
        return stretched(low, subtract(high, low), uniform, shape, dtype, out)
    width = float(high - low)

    def sample(r, n, t):
        raw = r.random(n, single(t))
        return (
            raw
            if low == 0 and width == 1
            else np.add(np.multiply(raw, width, out=raw), low, out=raw)
        )

    return draw(sample, shape, dtype, ctx, out)


def normal(loc=0, scale=1, shape=None, dtype=None, ctx=None, out=None, **_):
    """Normally distributed numbers with mean `loc` and standard deviation `scale`."""
    arrays = any_array("normal", loc, scale)
    if not holds(scale >= 0):
        raise MXNetError(f"normal(scale={scale}): a standard deviation is not negative")
    if arrays:
        return stretched(loc, scale, normal, shape, dtype, out)

    def sample(r, n, t):
        raw = r.standard_normal(n, single(t))
        return (
            raw
            if loc == 0 and scale == 1
            else np.add(np.multiply(raw, scale, out=raw), loc, out=raw)
        )

    return draw(sample, shape, dtype, ctx, out)


def randn(*shape, loc=0, scale=1, dtype=None, ctx=None, **_):
    """Normally distributed numbers; the sizes are given one by one."""
    return normal(loc, scale, shape or None, dtype, ctx)


def exponential(scale=1, shape=None, dtype=None, ctx=None, out=None, **_):
    """Waiting times of mean `scale`: density exp(-x / scale) / scale."""
    if scale < 0:
        raise MXNetError(f"exponential(scale={scale}): a mean waiting time is not negative")
    return draw(
        lambda r, n, t: scale * r.standard_exponential(n, single(t)), shape, dtype, ctx, out
    )


def bernoulli(prob=0.5, shape=None, dtype=None, ctx=None, out=None, **_):
    """Ones with probability `prob`, zeros otherwise."""
    if not 0 <= prob <= 1:
        raise MXNetError(f"bernoulli(prob={prob}): a probability lies between 0 and 1")
    return draw(lambda r, n, t: r.random(n, single(t)) < prob, shape, dtype, ctx, out, "fiu")


def randint(low, high, shape=None, dtype=None, ctx=None, out=None, **_):
    """Whole numbers from `low` up to, not including, `high`; int32 unless another type is given."""
    if any(int(bound) != bound for bound in (low, high)) or low >= high:
        raise MXNetError(f"randint(low={low}, high={high}): give whole numbers, low below high")
    return draw(
        lambda r, n, t: r.integers(int(low), int(high), n, t),
        shape,
        dtype or "int32",
        ctx,
        out,
        "iu",
    )


def shuffle(data, **_):
    """The slices of `data` along its first axis, in random order."""
    if not isinstance(data, NDArray):
        raise ArgumentError(f"shuffle: Argument data must have NDArray type, but got {data}")
    with lock:
        order = generator(data.context).permutation(len(data))
    return getitem(data, order)
