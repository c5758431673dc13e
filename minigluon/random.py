"""One seed, one stream; and the namespace through which all operators are seen."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

import threading

import numpy as np

from minigluon.autograd import assign
from minigluon.base import MXNetError
from minigluon.context import Context, current_context
from minigluon.ndarray.ndarray import NDArray, place, real_dtype

__all__ = [
    "draw",
    "generator",
    "generators",
    "lock",
    "normal",
    "randint",
    "randn",
    "seed",
    "shuffle",
    "single",
    "uniform",
]


# --- Generators -----------------------------------------------------------------------------------

generators = {}  # context -> numpy.random.Generator
lock = threading.Lock()


def seed(seed_state, ctx="all"):
    """Start the stream of random numbers anew, on all contexts or on one."""
    with lock:
        if ctx == "all":
            generators.clear()
            generators[None] = int(seed_state)
        else:
            generators[Context(ctx)] = np.random.default_rng(int(seed_state))


def generator(ctx):
    """The generator of a context; without a seed it starts from the system's randomness."""
    if ctx not in generators:
        entropy = generators.get(None)
        key = (ctx.device_typeid, ctx.device_id)
        sequence = np.random.SeedSequence(entropy, spawn_key=key)
        generators[ctx] = np.random.default_rng(sequence)
    return generators[ctx]


# --- Distributions --------------------------------------------------------------------------------


def draw(sample, shape, dtype, ctx, out, kinds="f"):
    """An array of what `sample(generator, shape, dtype)` draws, or `out` filled with it."""
    if out is not None:
        shape, dtype, ctx = out.shape, out.dtype, out.context
    ctx = current_context() if ctx is None else Context(ctx)
    dtype = real_dtype(dtype)
    if dtype.kind not in kinds:
        raise MXNetError(f"cannot draw numbers of type {dtype} from this distribution")
    shape = (shape,) if isinstance(shape, int) else tuple(shape or (1,))
    with lock:
        raw = sample(generator(ctx), shape, dtype)
    y = place(raw.astype(dtype, copy=False), ctx)
    return y if out is None else assign(out, y)


def single(dtype):
    """The type to draw in: float64 where asked for, else float32."""
    return dtype if dtype.itemsize == 8 else np.float32


def uniform(low=0, high=1, shape=None, dtype=None, ctx=None, out=None, **_):
    """Numbers spread evenly over [low, high)."""
    if low > high:
        raise MXNetError(f"uniform(low={low}, high={high}): low must not exceed high")
    return draw(lambda r, n, t: low + (high - low) * r.random(n, single(t)), shape, dtype, ctx, out)


def normal(loc=0, scale=1, shape=None, dtype=None, ctx=None, out=None, **_):
    """Normally distributed numbers with mean `loc` and standard deviation `scale`."""
    if scale < 0:
        raise MXNetError(f"normal(scale={scale}): a standard deviation is not negative")
    return draw(
        lambda r, n, t: loc + scale * r.standard_normal(n, single(t)), shape, dtype, ctx, out
    )


def randn(*shape, loc=0, scale=1, dtype=None, ctx=None, **_):
    """Normally distributed numbers; the sizes are given one by one."""
    return normal(loc, scale, shape, dtype, ctx)


def randint(low, high, shape=None, dtype="int32", ctx=None, out=None, **_):
    """Whole numbers from `low` up to, not including, `high`."""
    if low >= high:
        raise MXNetError(f"randint(low={low}, high={high}): there is no number between them")
    return draw(lambda r, n, t: r.integers(low, high, n, t), shape, dtype, ctx, out, kinds="iu")


def shuffle(data, **_):
    """The slices of `data` along its first axis, in random order."""
    with lock:
        order = generator(data.context).permutation(len(data))
    return data[order]
