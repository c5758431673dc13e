"""Random numbers that pass gradients on, the functions of layers, and graphs of calls that are taken apart when shapes are known."""

# Written from chapters/24c_numpy_networks.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import math

import numpy as onp

from minigluon import random as laws
from minigluon.base import MXNetError
from minigluon.context import Context
from minigluon.ndarray.ndarray import NDArray
from minigluon.numpy.multiarray import array, as_np, exp, given, log, take
from minigluon.op import BadValue

__all__ = [
    "beta",
    "chisquare",
    "choice",
    "exponential",
    "finished",
    "gamma",
    "gumbel",
    "law",
    "logistic",
    "lognormal",
    "multinomial",
    "multivariate_normal",
    "normal",
    "not_negative",
    "pareto",
    "permutation",
    "plain",
    "power",
    "rand",
    "rand_open",
    "randint",
    "randn",
    "rayleigh",
    "seed",
    "shuffle",
    "standard",
    "uniform",
    "weibull",
]


# --- Random numbers -------------------------------------------------------------------------------


def seed(seed=None):
    """Begin the stream of random numbers anew."""
    laws.seed(onp.random.SeedSequence().entropy % 2**31 if seed is None else seed)


def law(name, *params, size=None, dtype=None, ctx=None, out=None):
    """Numbers of a law of `mx.random`; parameters may be arrays, which broadcast."""
    dtype = dtype or "float32"
    arrays = [p for p in params if isinstance(p, NDArray)]
    function = getattr(laws, name)
    if arrays:
        shape = onp.broadcast_shapes(*[p.shape for p in arrays])
        shape = shape if size is None else ((size,) if isinstance(size, int) else tuple(size))
        full = [array(onp.broadcast_to(onp.asarray(p), shape).astype(dtype)) for p in params]
        flat = [a.reshape(-1).as_nd_ndarray() for a in full]
        found = as_np(function(*flat, dtype=dtype)).reshape(shape)
    else:
        shape = () if size is None else ((size,) if isinstance(size, int) else tuple(size))
        if 0 in shape:
            return array(onp.zeros(shape, dtype), ctx=ctx)
        ctx = Context(ctx) if ctx is not None else None
        found = as_np(function(*params, shape=shape or (1,), dtype=dtype, ctx=ctx)).reshape(shape)
    return given(found, out)


def plain(*params):
    """Whether all parameters are numbers, neither arrays nor symbols."""
    return not any(isinstance(p, NDArray) or hasattr(p, "_entries") for p in params)


def not_negative(name, zero=True, **params):
    """Refuse parameters below 0, or without `zero` at 0; those of a graph are not known yet."""
    for key, value in params.items():
        raw = value._data if isinstance(value, NDArray) else value
        if hasattr(value, "_entries") or getattr(raw, "size", 1) == 0:
            continue
        least = raw.min() if hasattr(raw, "min") else raw
        if least < 0 or (least == 0 and not zero):
            raise BadValue(f"{name}: {key}={value} must be {'at least' if zero else 'above'} 0")


def standard(name, params, size=None, dtype=None, ctx=None):
    """Numbers of a law with its default parameters:
    `size` of them, or as many as `params` broadcast to.
    """
    # The shapes of symbols are not known yet: each run finds out how many, and draws.
    if any(hasattr(p, "_entries") for p in params):
        anew = importlib.import_module("minigluon.symbol.numpy").drawn_anew
        return anew("standard")(name, params, size, dtype)
    arrays = [p for p in params if isinstance(p, NDArray)]
    whole = onp.broadcast_shapes(*[a.shape for a in arrays])
    shape = whole if size is None else (size,) if isinstance(size, int) else tuple(size)
    if onp.broadcast_shapes(shape, whole) != shape:
        raise ValueError(f"{name}: parameters of shape {whole} do not fit size={size}")
    return law(name, size=shape, dtype=dtype, ctx=ctx or (arrays[0]._ctx if arrays else None))


def finished(y, dtype, out):
    """Numbers in the type that was asked for, float32 if none was, in `out` where there is one."""
    dtype = dtype or "float32"
    return given(y if isinstance(y, NDArray) and y.dtype == dtype else y.astype(dtype), out)


def normal(loc=0.0, scale=1.0, size=None, dtype=None, ctx=None, out=None):
    """Normal numbers with mean `loc` and standard deviation `scale`; gradients pass to both."""
    not_negative("normal", scale=scale)
    if plain(loc, scale):
        return law("normal", loc, scale, size=size, dtype=dtype, ctx=ctx, out=out)
    return finished(loc + scale * standard("normal", (loc, scale), size, dtype, ctx), dtype, out)


def uniform(low=0.0, high=1.0, size=None, dtype=None, ctx=None, out=None):
    """Numbers spread evenly from `low` to `high`; gradients pass to both."""
    if plain(low, high) and low <= high:
        return law("uniform", low, high, size=size, dtype=dtype, ctx=ctx, out=out)
    share = standard("uniform", (low, high), size, dtype, ctx)
    return finished(low + (high - low) * share, dtype, out)


def exponential(scale=1.0, size=None, ctx=None, out=None):
    """Exponential numbers with mean `scale`; gradients pass to it."""
    not_negative("exponential", scale=scale)
    if plain(scale) and scale > 0:
        return law("exponential", scale, size=size, ctx=ctx, out=out)
    return finished(scale * standard("exponential", (scale,), size, None, ctx), None, out)


def gamma(shape, scale=1.0, size=None, dtype=None, ctx=None, out=None):
    """Numbers of the gamma law."""
    not_negative("gamma", zero=False, shape=shape, scale=scale)
    return law("gamma", shape, scale, size=size, dtype=dtype, ctx=ctx, out=out)


def randint(low, high=None, size=None, dtype=None, ctx=None, out=None):
    """Whole numbers from `low` up to, but without, `high`; int64 by default."""
    low, high = (0, low) if high is None else (low, high)
    found = law("randint", low, high, size=size, dtype="int64", ctx=ctx)
    found = found if dtype in (None, int) else found.astype(dtype)
    if out is None:
        return found
    out[...] = found
    return out


def rand(*size, **kwargs):
    """Numbers spread evenly from 0 to 1, in a shape."""
    return uniform(size=size or None, **kwargs)


def randn(*size, **kwargs):
    """Normal numbers, in a shape."""
    return normal(size=size or None, **kwargs)


def chisquare(df, size=None, dtype=None, ctx=None):
    """Sums of `df` squares of normal numbers."""
    not_negative("chisquare", zero=False, df=df)
    return gamma(df / 2, 2.0, size=size, dtype=dtype, ctx=ctx)


def beta(a, b, size=None, dtype=None, ctx=None):
    """Numbers of the beta law: a share X / (X + Y) of two gamma numbers."""
    not_negative("beta", zero=False, a=a, b=b)
    x, y = (gamma(p, 1.0, size=size, dtype=dtype, ctx=ctx) for p in (a, b))
    return x / (x + y)


def choice(a, size=None, replace=True, p=None, ctx=None, out=None):
    """Numbers below `a`, or members of the array `a`, evenly or with probabilities `p`."""
    n = a if isinstance(a, int) else a.shape[0]
    count = 1 if size is None else int(onp.prod(size))
    if not replace and count > n:
        raise ValueError(f"choice: {count} of {n} without replacement")
    keys = uniform(size=(n,) if not replace else (count,)).asnumpy().astype("float64")
    weights = None if p is None else onp.asarray(p, "float64")
    if replace and weights is None:
        found = (keys * n).astype("int64").clip(0, n - 1)
    elif replace:
        ends = onp.cumsum(weights)
        found = onp.searchsorted(ends / ends[-1], keys, side="right").clip(0, n - 1)
    else:  # the smallest of exponential clocks ring first (Efraimidis and Spirakis, 2006)
        with onp.errstate(divide="ignore"):
            clocks = -onp.log1p(-keys) / (1 if weights is None else weights)
        found = onp.argsort(clocks)[:count]
    found = array(found.reshape(() if size is None else size), dtype="int64", ctx=ctx)
    found = found if isinstance(a, int) else take(a, found, axis=0)
    if out is None:
        return found
    out[...] = found
    return out


def multinomial(n, pvals, size=None):
    """How often each outcome comes in `n` draws with probabilities `pvals`, int64."""
    shape = () if size is None else ((size,) if isinstance(size, int) else tuple(size))
    p = onp.asarray(pvals, "float64")
    if p.sum() > 1 + 1e-6:
        raise ValueError("multinomial: the probabilities sum to more than 1")
    drawn = choice(len(p), (*shape, n), p=p).asnumpy().reshape(math.prod(shape), n)
    counts = onp.array([onp.bincount(row, minlength=len(p)) for row in drawn], "int64")
    return array(counts.reshape(*shape, len(p)), dtype="int64")


def shuffle(x):
    """Put the slices along the first axis of an array into a random order, in place."""
    order = onp.argsort(uniform(size=(x.shape[0],)).asnumpy(), kind="stable")
    x[...] = take(x, order, axis=0)


def permutation(x):
    """The slices of an array, or the numbers below `x`, in a random order."""
    found = array(onp.arange(x), dtype="int64") if isinstance(x, int) else x.copy()
    shuffle(found)
    return found


def gumbel(loc=0.0, scale=1.0, size=None, ctx=None, out=None):
    """Numbers of Gumbel's law."""
    not_negative("gumbel", scale=scale)
    return finished(loc - scale * log(-log(rand_open(size, ctx, loc, scale))), None, out)


def logistic(loc=0.0, scale=1.0, size=None, ctx=None, out=None):
    """Numbers of the logistic law."""
    not_negative("logistic", scale=scale)
    u = rand_open(size, ctx, loc, scale)
    return finished(loc + scale * log(u / (1 - u)), None, out)


def lognormal(mean=0.0, sigma=1.0, size=None, dtype=None, ctx=None, out=None):
    """Numbers whose logarithms are normal."""
    not_negative("lognormal", sigma=sigma)
    return given(exp(normal(mean, sigma, size, dtype, ctx)), out)


def rayleigh(scale=1.0, size=None, ctx=None, out=None):
    """Numbers of Rayleigh's law."""
    not_negative("rayleigh", scale=scale)
    return finished(scale * (-2 * log(rand_open(size, ctx, scale))) ** 0.5, None, out)


def weibull(a, size=None, ctx=None, out=None):
    """Numbers of Weibull's law."""
    not_negative("weibull", zero=False, a=a)
    return finished((-log(rand_open(size, ctx, a))) ** (1 / a), None, out)


def pareto(a, size=None, ctx=None, out=None):
    """Numbers of Pareto's law of the second kind."""
    not_negative("pareto", zero=False, a=a)
    return finished(rand_open(size, ctx, a) ** (-1 / a) - 1, None, out)


def power(a, size=None, ctx=None, out=None):
    """Numbers in [0, 1] with density a x^(a-1)."""
    not_negative("power", zero=False, a=a)
    return finished(rand_open(size, ctx, a) ** (1 / a), None, out)


def rand_open(size, ctx, *params):
    """Numbers between 0 and 1, without either, one for each parameter of a law."""
    if plain(*params):
        return uniform(2.0**-24, 1.0, size, ctx=ctx)
    return 2.0**-24 + (1 - 2.0**-24) * standard("uniform", params, size, None, ctx)


def multivariate_normal(mean, cov, size=None, check_valid=None, tol=None):
    """Normal vectors with a mean and a matrix of covariances, or with several of either."""
    mean, cov = array(mean), array(cov)
    if cov.shape[-2:] != (mean.shape[-1],) * 2:
        raise MXNetError(f"multivariate_normal: mean {mean.shape}, covariances {cov.shape}")
    shape = () if size is None else ((size,) if isinstance(size, int) else tuple(size))
    pairs = onp.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
    z = normal(size=(*shape, *pairs, mean.shape[-1])).asnumpy()
    factor = onp.linalg.cholesky(cov.asnumpy().astype("float64"))
    return array(((factor @ z[..., None])[..., 0] + mean.asnumpy()).astype("float32"))


def __dir__():
    return sorted(n for n in globals() if n[0] != "_" and hasattr(onp.random, n))
