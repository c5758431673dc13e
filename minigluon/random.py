"""One seed, one stream, seven distributions, and two ways to send a gradient through chance."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

import math
from functools import lru_cache

import numpy as np
from numpy import ndarray

from minigluon.autograd import assign, recorders, remember, state
from minigluon.base import MXNetError
from minigluon.context import Context, current_context
from minigluon.ndarray.ndarray import ArgumentError, NDArray, array, new, place, real_dtype, sizes
from minigluon.op import interpreters
from minigluon.ops import random as laws
from minigluon.ops.elementwise import exp, log
from minigluon.ops.random import COLUMN, DOUBLE, NUMBERS, SHORT, SINGLE, obeying, refuse, source

__all__ = [
    "EACH",
    "LAWS",
    "REFUSALS",
    "are_arrays",
    "at_once",
    "bernoulli",
    "bernoulli_law",
    "choose",
    "draw",
    "either",
    "expected",
    "exponential",
    "exponential_like",
    "first_of_each",
    "fitted",
    "gamma",
    "gamma_like",
    "generalized_negative_binomial",
    "generalized_negative_binomial_like",
    "in_general",
    "like",
    "made_by",
    "multinomial",
    "needed",
    "negative_binomial",
    "negative_binomial_like",
    "normal",
    "normal_like",
    "older",
    "poisson",
    "poisson_like",
    "rand_zipfian",
    "randint",
    "randint_law",
    "randn",
    "random_exponential",
    "random_gamma",
    "random_generalized_negative_binomial",
    "random_negative_binomial",
    "random_normal",
    "random_poisson",
    "random_randint",
    "random_uniform",
    "seed",
    "shuffle",
    "uniform",
    "uniform_like",
    "unique_zipfian",
    "whole",
    "written",
]


# --- Numbers or arrays ----------------------------------------------------------------------------

seed = laws.seed


def draw(law, params, shape, dtype, ctx, out, kinds="f", more=()):
    """An array of shape `shape` by a law with numbers as parameters, or `out` filled with it."""
    if type(shape) is tuple and ctx is None is out and not more:  # nearly always
        try:
            return at_once(law, params, shape, SINGLE if dtype is None else made_by(kinds, dtype))
        except REFUSALS:
            pass
    if more:
        refuse(set(more) != {"name"}, f"there is no argument {', '.join(more)}")
    if out is not None:
        shape, dtype, ctx = fitted(out, shape, dtype)
    ctx = current_context() if ctx is None else Context(ctx)
    dtype, shape = SINGLE if dtype is None else made_by(kinds, dtype), whole(shape)
    y = place(obeying(law, source(ctx, None), shape, dtype, params), ctx)
    return y if out is None else assign(out, y)


@lru_cache(maxsize=64)
def made_by(kinds, dtype):
    """The NumPy type of `dtype`, which must be of one of the `kinds` that a distribution makes."""
    dtype = real_dtype(dtype)
    if dtype.kind not in kinds and not ("f" in kinds and dtype.name == "bfloat16"):
        wanted = " or ".join({"f": "float", "i": "int", "u": "uint"}[k] for k in kinds)
        raise MXNetError(f"dtype {dtype}: this distribution makes numbers of type {wanted}")
    return dtype


def fitted(out, shape, dtype):
    """Shape, type and context of `out`; MXNetError if others were asked for."""
    if shape is not None and whole(shape) != out.shape:
        raise MXNetError(f"shape {shape} does not fit out, which has {out.shape}")
    if dtype is not None and real_dtype(dtype) != out.dtype:
        raise MXNetError(f"dtype {dtype} does not fit out, which has {out.dtype.__name__}")
    return out.shape, out.dtype, out.context


def whole(shape):
    """A shape as a tuple: None is (1,), a number is one axis."""
    return (1,) if shape is None else sizes(shape)


def at_once(law, params, shape, dtype=SINGLE):
    """As `draw` for a tuple `shape` and the current context, 0.3 µs sooner;
    fails without telling the call.
    """
    ctx = current_context()
    raw = law(source(ctx, None), shape, dtype if dtype is DOUBLE else SINGLE, *params)
    if raw.dtype is not dtype:
        raw = raw.astype(dtype)
    if ctx.device_typeid != 1:
        return place(raw, ctx)
    y = new(NDArray)  # NDArray(raw, ctx), 0.05 µs sooner
    y._data, y._ctx, y._node = raw, ctx, None
    return y


REFUSALS = ValueError, OverflowError, TypeError, IndexError, MXNetError


# By the names of the functions below: a law, and parameters at which
# it is just a method of the generator.
LAWS = {
    "uniform": (laws.uniform_law, (0, 1), np.random.Generator.random),
    "normal": (laws.normal_law, (0, 1), np.random.Generator.standard_normal),
    "exponential": (laws.exponential_law, (1,), np.random.Generator.standard_exponential),
    "gamma": (laws.gamma_law, None, None),
    "poisson": (laws.poisson_law, None, None),
    "negative_binomial": (laws.negative_binomial_law, None, None),
    "generalized_negative_binomial": (laws.generalized_negative_binomial_law, None, None),
}
# The operators for arrays of parameters, by the same names.
EACH = {name: getattr(laws, f"sample_{name}") for name in LAWS}


def either(name, params, shape, dtype, ctx, out, more=()):
    """By the law of a name if the parameters are numbers, by its operator if they are arrays.

    What is nearly always asked for is answered here, 0.3 and 1.5 µs sooner than by `in_general`.
    """
    law, usual, method = LAWS[name]
    first, last = params[0], params[-1]  # there are one or two
    if dtype is not None or out is not None or more:
        return in_general(name, params, shape, dtype, ctx, out, more)
    try:
        if type(first) is NDArray is type(last):
            a, b, t = first._data, last._data, SINGLE
            plain = (
                type(a) is ndarray and a.dtype is t is b.dtype and (a is b or a.shape == b.shape)
            )
            quiet = interpreters[NDArray] is remember and not (recorders and state.recording)
            if plain and quiet and type(shape) is int:
                r, n, a = source(first._ctx, a), a.shape + (shape,), a[COLUMN]
                raw = law(r, n, t, a) if len(params) == 1 else law(r, n, t, a, b[COLUMN])
                y = new(NDArray)
                y._data = raw if raw.dtype is t else raw.astype(t)
                y._ctx, y._node = first._ctx.results, None
                return y
        elif (
            ctx is None
            and type(shape) is tuple
            and type(first) in NUMBERS
            and type(last) in NUMBERS
        ):
            return at_once(method, (), shape) if params == usual else at_once(law, params, shape)
    except REFUSALS:
        pass
    return in_general(name, params, shape, dtype, ctx, out, more)


def in_general(name, params, shape, dtype, ctx, out, more):
    """`either` for every way to call it."""
    law, first = LAWS[name][0], params[0]
    numbers = type(first) in NUMBERS and type(params[-1]) in NUMBERS
    if numbers or not are_arrays(name, params):
        return draw(law, params, shape, dtype, ctx, out, "f", more)
    if more:
        refuse(set(more) != {"name"}, f"{name} has no argument {', '.join(more)}")
    if out is not None and dtype is None:
        dtype = out.dtype
    settings = {"shape": () if shape is None else shape, "dtype": dtype, "rng": first._ctx}
    y = interpreters[type(first)](EACH[name], params, settings)
    return y if out is None else assign(out, y)


def are_arrays(name, params):
    """Whether parameters are arrays and not numbers;
    ValueError for anything else, ArgumentError for both.
    """
    kinds = [isinstance(p, NDArray) for p in params]
    for p, is_array in zip(params, kinds):
        if not is_array and not isinstance(p, int | float | np.number):
            raise ValueError(f"{name}: parameters are numbers or NDArrays, not {p!r}")
    if any(kinds) and not all(kinds):
        raise ArgumentError(f"{name}: all parameters must be NDArrays, or all numbers")
    return any(kinds)


def written(y, out):
    """`y`, or `out` with its numbers."""
    return y if out is None else assign(out, y)


# --- Distributions --------------------------------------------------------------------------------


def uniform(low=0, high=1, shape=None, dtype=None, ctx=None, out=None, **more):
    """Numbers spread evenly from `low` to `high`."""
    return either("uniform", (low, high), shape, dtype, ctx, out, more)


def normal(loc=0, scale=1, shape=None, dtype=None, ctx=None, out=None, **more):
    """Normally distributed numbers with mean `loc` and standard deviation `scale`."""
    return either("normal", (loc, scale), shape, dtype, ctx, out, more)


def randn(*shape, loc=0, scale=1, dtype=None, ctx=None, out=None, **more):
    """Normally distributed numbers; the sizes are given one by one."""
    return normal(loc, scale, shape or None, dtype, ctx, out, **more)


def exponential(scale=1, shape=None, dtype=None, ctx=None, out=None, **more):
    """Waiting times of mean `scale`: density exp(-x / scale) / scale."""
    if type(scale) in NUMBERS or isinstance(scale, np.number):
        if scale <= 0:
            raise MXNetError(f"exponential: a mean waiting time is positive, unlike scale={scale}")
        scale = 1 / scale
    elif isinstance(scale, NDArray):
        scale = 1 / (scale if np.dtype(scale.dtype).kind == "f" else scale.astype("float32"))
    return either("exponential", (scale,), shape, dtype, ctx, out, more)


def gamma(alpha=1, beta=1, shape=None, dtype=None, ctx=None, out=None, **more):
    """Gamma numbers of shape `alpha` and scale `beta`: mean alpha * beta."""
    return either("gamma", (alpha, beta), shape, dtype, ctx, out, more)


def poisson(lam=1, shape=None, dtype=None, ctx=None, out=None, **more):
    """Poisson counts of rate `lam`, as floating-point numbers."""
    return either("poisson", (lam,), shape, dtype, ctx, out, more)


def negative_binomial(k=1, p=1, shape=None, dtype=None, ctx=None, out=None, **more):
    """Successes before the k-th failure, where a trial fails with probability `p`."""
    if type(k) is not int and isinstance(k, float | np.number) and k != int(k):
        raise MXNetError(f"negative_binomial: k={k} is a number of failures, so a whole number")
    return either("negative_binomial", (k, p), shape, dtype, ctx, out, more)


def generalized_negative_binomial(
    mu=1, alpha=1, shape=None, dtype=None, ctx=None, out=None, **more
):
    """Counts of mean `mu` and variance mu + alpha * mu**2."""
    return either("generalized_negative_binomial", (mu, alpha), shape, dtype, ctx, out, more)


def randint(low, high, shape=None, dtype=None, ctx=None, out=None, **more):
    """Whole numbers from `low` up to, not including, `high`; int32 unless another type is given."""
    plain = type(low) is int is type(high)
    if low >= high or not (plain or (int(low) == low and int(high) == high)):
        raise MXNetError(f"randint(low={low}, high={high}): give whole numbers, low below high")
    if not plain:
        low, high = int(low), int(high)
    if dtype is ctx is out is None and type(shape) is tuple and not more:  # nearly always
        try:
            return at_once(randint_law, (low, high, SHORT), shape, SHORT)
        except REFUSALS:
            pass
    if dtype is None:
        dtype = SHORT if out is None else out.dtype
    return draw(randint_law, (low, high, dtype), shape, dtype, ctx, out, "iu", more)


def randint_law(r, n, t, low, high, dtype):
    """Whole numbers from `low` up to, not including, `high`, as `dtype`, whatever the type `t`."""
    return r.integers(low, high, n, dtype)


def bernoulli(prob=0.5, shape=None, dtype=None, ctx=None, out=None, **more):
    """Ones with probability `prob`, zeros otherwise."""
    if not 0 <= prob <= 1:
        raise MXNetError(f"bernoulli(prob={prob}): a probability lies between 0 and 1")
    return draw(bernoulli_law, (prob,), shape, dtype, ctx, out, "fiu", more)


def bernoulli_law(r, n, t, p):
    """True with probability `p`."""
    return r.random(n, t) < p


choose = laws.sample_multinomial.plain


def multinomial(data, shape=None, get_prob=False, out=None, dtype="int32", **_):
    """Outcomes drawn in proportion to `data` along its last axis; see `sample_multinomial`."""
    usual = shape is None is out and type(data) is NDArray and not get_prob
    if usual and interpreters[NDArray] is remember and not (recorders and state.recording):
        try:  # 0.5 µs sooner than the interpreter
            y = new(NDArray)
            y._data = choose(data._data, (), False, dtype, data._ctx)
            y._ctx, y._node = data._ctx.results, None
            return y
        except REFUSALS:
            pass  # the interpreter names the call
    settings = {"shape": () if shape is None else shape, "get_prob": get_prob, "dtype": dtype}
    settings["rng"] = needed("multinomial", data)._ctx
    y = interpreters[type(data)](laws.sample_multinomial, (data,), settings)
    if out is None or not get_prob:
        return y if out is None else assign(out, y)
    return [assign(o, part) for o, part in zip(out, y, strict=True)]


def shuffle(data, out=None, **_):
    """The slices of `data` along its first axis, in random order."""
    return written(laws.shuffle(data, rng=needed("shuffle", data).context), out)


def needed(name, data):
    """`data`, which must be an NDArray."""
    if not isinstance(data, NDArray):
        raise ArgumentError(f"{name}: Argument data must have NDArray type, but got {data}")
    return data


def rand_zipfian(true_classes, num_sampled, range_max, ctx=None):
    """Classes below `range_max`, class c with probability log((c + 2) / (c + 1)) / log(range_max + 1).

    Returns `num_sampled` classes (int64), and how often each of `true_classes` and each of the
    drawn ones is expected among them (float64).
    """
    width = math.log(range_max + 1)
    rolled = exp(uniform(0, width, shape=(num_sampled,), dtype="float64", ctx=ctx)) - 1
    classes = rolled.astype("int64") % range_max
    return [classes, *[expected(c, num_sampled / width) for c in (true_classes, classes)]]


def unique_zipfian(range_max, shape):
    """Rows of different classes, drawn as `rand_zipfian` draws them, and how many draws each row took.

    `shape` is (rows, classes in each). MXNetError if there are not as many classes below `range_max`.
    """
    rows, count = shape
    if count > range_max:
        raise MXNetError(
            f"{count} different classes below range_max={range_max}: there are too few"
        )
    drawn = [first_of_each(range_max, count) for _ in range(rows)]
    return [array(np.array(part), dtype="int64") for part in zip(*drawn)]


def first_of_each(range_max, count):
    """The first `count` different classes of a stream, and where in it the last one stands,
    counted from 1.
    """
    width, stream, first = math.log(range_max + 1), np.zeros(0, "int64"), []
    while len(first) < count:
        rolled = exp(uniform(0, width, shape=(2 * count,), dtype="float64")) - 1
        stream = np.concatenate([stream, rolled.astype("int64").asnumpy() % range_max])
        first = np.sort(np.unique(stream, return_index=True)[1])
    return stream[first[:count]], first[count - 1] + 1


def expected(classes, factor):
    """How often each class is expected: `factor` times the logarithm that belongs to it."""
    c = array(classes, ctx=classes.context, dtype="float64")
    return log((c + 2) / (c + 1)) * factor


# --- Numbers like those of an array ---------------------------------------------------------------


def like(name, data, out, settings):
    """By the `_like` operator of a name, with the stream of the device of `data`."""
    op, rng = getattr(laws, f"{name}_like"), needed(f"{name}_like", data).context
    return written(op(data, **settings, rng=rng), out)


def uniform_like(data=None, low=0.0, high=1.0, out=None, name=None, **_):
    """Numbers spread evenly from `low` to `high`, in the shape and type of `data`."""
    return like("uniform", data, out, {"low": low, "high": high})


def normal_like(data=None, loc=0.0, scale=1.0, out=None, name=None, **_):
    """Normal numbers in the shape and type of `data`."""
    return like("normal", data, out, {"loc": loc, "scale": scale})


def exponential_like(data=None, lam=1.0, out=None, name=None, **_):
    """Waiting times of *rate* `lam`, in the shape and type of `data`."""
    return like("exponential", data, out, {"lam": lam})


def gamma_like(data=None, alpha=1.0, beta=1.0, out=None, name=None, **_):
    """Gamma numbers of shape `alpha` and scale `beta`, in the shape and type of `data`."""
    return like("gamma", data, out, {"alpha": alpha, "beta": beta})


def poisson_like(data=None, lam=1.0, out=None, name=None, **_):
    """Poisson counts of rate `lam`, in the shape and type of `data`."""
    return like("poisson", data, out, {"lam": lam})


def negative_binomial_like(data=None, k=1, p=1.0, out=None, name=None, **_):
    """Successes before the k-th failure, in the shape and type of `data`."""
    return like("negative_binomial", data, out, {"k": k, "p": p})


def generalized_negative_binomial_like(data=None, mu=1.0, alpha=1.0, out=None, name=None, **_):
    """Counts of mean `mu` and dispersion `alpha`, in the shape and type of `data`."""
    return like("generalized_negative_binomial", data, out, {"mu": mu, "alpha": alpha})


# --- MXNet's older names --------------------------------------------------------------------------


def older(name, params, shape, dtype, ctx, out):
    """By the law of a name, whose parameters are numbers."""
    if any(isinstance(p, NDArray) for p in params):
        raise MXNetError(f"random_{name} takes numbers; for arrays there is sample_{name}")
    return either(name, params, shape, dtype, ctx, out)


def random_uniform(low=0.0, high=1.0, shape=None, ctx=None, dtype=None, out=None, name=None):
    """Numbers spread evenly from `low` to `high`."""
    return older("uniform", (low, high), shape, dtype, ctx, out)


def random_normal(loc=0.0, scale=1.0, shape=None, ctx=None, dtype=None, out=None, name=None):
    """Normal numbers of mean `loc` and standard deviation `scale`."""
    return older("normal", (loc, scale), shape, dtype, ctx, out)


def random_gamma(alpha=1.0, beta=1.0, shape=None, ctx=None, dtype=None, out=None, name=None):
    """Gamma numbers of shape `alpha` and scale `beta`."""
    return older("gamma", (alpha, beta), shape, dtype, ctx, out)


def random_exponential(lam=1.0, shape=None, ctx=None, dtype=None, out=None, name=None):
    """Waiting times of *rate* `lam`."""
    return older("exponential", (lam,), shape, dtype, ctx, out)


def random_poisson(lam=1.0, shape=None, ctx=None, dtype=None, out=None, name=None):
    """Poisson counts of rate `lam`."""
    return older("poisson", (lam,), shape, dtype, ctx, out)


def random_negative_binomial(k=1, p=1.0, shape=None, ctx=None, dtype=None, out=None, name=None):
    """Successes before the k-th failure, where a trial fails with probability `p`."""
    return negative_binomial(k, p, shape, dtype, ctx, out)


def random_generalized_negative_binomial(
    mu=1.0, alpha=1.0, shape=None, ctx=None, dtype=None, out=None, name=None
):
    """Counts of mean `mu` and dispersion `alpha`."""
    return older("generalized_negative_binomial", (mu, alpha), shape, dtype, ctx, out)


def random_randint(low, high, shape=None, ctx=None, dtype=None, out=None, name=None):
    """Whole numbers from `low` up to, not including, `high`."""
    return randint(low, high, shape, dtype, ctx, out)
