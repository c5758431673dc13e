"""One seed, one stream, seven distributions, and two ways to send a gradient through chance."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

import math
import threading

import numpy as np
from numpy import ndarray

from minigluon import base, ops
from minigluon.base import MXNetError
from minigluon.context import Context, brought, capture, current_context
from minigluon.ndarray.ndarray import real_dtype, sizes
from minigluon.op import operator
from minigluon.ops.elementwise import log, log1p
from minigluon.ops.indexing import largest, untake
from minigluon.ops.reduce import at_least_1d, sum
from minigluon.ops.shape import expand_dims

__all__ = [
    "BERNOULLI",
    "COLUMN",
    "COUNTS",
    "DOUBLE",
    "LAST",
    "NUMBERS",
    "SHORT",
    "SINGLE",
    "STEPS",
    "by_score",
    "chosen",
    "density",
    "device_of",
    "drawn",
    "examined",
    "exponential_law",
    "exponential_like",
    "first_above",
    "floating",
    "fresh",
    "from_left",
    "gamma_law",
    "gamma_like",
    "gamma_score",
    "gamma_slope",
    "generalized_negative_binomial_law",
    "generalized_negative_binomial_like",
    "generalized_score",
    "generator",
    "generators",
    "host",
    "integers_law",
    "lock",
    "log_gamma",
    "many",
    "moved",
    "negative",
    "negative_binomial_law",
    "negative_binomial_like",
    "negative_binomial_score",
    "normal_law",
    "normal_like",
    "normal_score",
    "obeying",
    "on",
    "permutation_law",
    "poisson_law",
    "poisson_like",
    "random_pdf_dirichlet",
    "random_pdf_exponential",
    "random_pdf_gamma",
    "random_pdf_generalized_negative_binomial",
    "random_pdf_negative_binomial",
    "random_pdf_normal",
    "random_pdf_poisson",
    "random_pdf_uniform",
    "refuse",
    "sample_exponential",
    "sample_gamma",
    "sample_generalized_negative_binomial",
    "sample_multinomial",
    "sample_negative_binomial",
    "sample_normal",
    "sample_poisson",
    "sample_uniform",
    "sampled",
    "sampled_like",
    "seed",
    "shuffle",
    "single",
    "smallest",
    "source",
    "spread_left",
    "stream",
    "sum_left",
    "telling",
    "times_log",
    "total",
    "unchosen",
    "uniform_law",
    "uniform_like",
    "wrong",
]


# --- Streams --------------------------------------------------------------------------------------

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
        with lock:  # threads that begin together share one; drawing locks it by itself
            if ctx not in generators:
                generators[ctx] = stream(generators.get(None), ctx)
    return generators[ctx]


def source(rng, like):
    """The generator that `rng` stands for: a context's, a fresh one, or that of the device of `like`."""
    if capture.before is not None:
        raise RuntimeError("random numbers are drawn on the CPU, once and not for each run")
    if rng is None:
        rng = device_of(like)
    if type(rng) is Context:
        return generators.get(rng) or generator(rng)
    return np.random.default_rng(rng)


def device_of(raw):
    """The context of a raw array; memory of the CPU has no number, so the current context gives it."""
    if not isinstance(raw, np.ndarray):
        return Context("gpu", raw.device.id)
    here = current_context()
    return Context("cpu") if here.device_type == "gpu" else here


def drawn(rng, like, law, n, dtype, *params):
    """Numbers of shape `n` by `law` from the generator that `rng` stands for, see `source`."""
    return obeying(law, source(rng, like), n, real_dtype(dtype), params)


def obeying(law, r, n, dtype, params):
    """Numbers of shape `n` by `law(generator, n, dtype, *params)`, in the memory of the CPU."""
    try:
        y = law(r, n, dtype if dtype is DOUBLE else SINGLE, *params)
        return y if y.dtype is dtype else y.astype(dtype)
    except (ValueError, OverflowError) as error:
        raise MXNetError(f"{law.__name__}{params}: {error}") from None


SINGLE, DOUBLE = np.dtype("float32"), np.dtype("float64")
SHORT, COUNTS = np.dtype("int32"), np.dtype("int64")
NUMBERS = {int, float}  # the types of nearly all parameters


def single(dtype):
    """The type to draw in: float64 where asked for, else float32, which takes half the bits."""
    return dtype if dtype.itemsize == 8 else SINGLE


def wrong(bad):
    """Whether `bad` is true, anywhere."""
    return bad is True or (bad is not False and bool(bad.size and largest(bad)))


def smallest(a):
    """The smallest number of an array, found as `largest` finds the largest."""
    return a.item(a.argmin()) if type(a) is np.ndarray else a.min()


def negative(a, zero=False):
    """Whether a number, or any of an array, is below 0, or 0 if `zero` says that this is wrong,
    too; NaN is not.
    """
    if type(a) is np.ndarray and a.size:
        least = a.item(a.argmin())  # NaN if there is one
        if least > 0:
            return False
        if least == least:
            return least < 0 or zero
    return wrong(a <= 0 if zero else a < 0)


def refuse(bad, message):
    """MXNetError if `bad` is true, anywhere."""
    if wrong(bad):
        raise MXNetError(message)


# --- Laws -----------------------------------------------------------------------------------------


def uniform_law(r, n, t, low, high):
    """Spread evenly from `low` to `high`."""
    if type(low) in NUMBERS and low == 0 and high == 1:
        return r.random(n, t)
    width = high - low
    if negative(width):
        raise MXNetError(f"uniform: low={low} must be less than or equal to high={high}")
    return moved(r.random(n, t), low, width)


def normal_law(r, n, t, loc, scale):
    """Normal, with mean `loc` and standard deviation `scale`."""
    if negative(scale):
        raise MXNetError(f"normal: a standard deviation is not negative, unlike scale={scale}")
    return moved(r.standard_normal(n, t), loc, scale)


def exponential_law(r, n, t, lam):
    """Waiting times of rate `lam`, so of mean 1 / lam."""
    if negative(lam, True):
        raise MXNetError(f"exponential: a rate is positive, unlike lam={lam}")
    return moved(r.standard_exponential(n, t), 0, 1 / lam)


def moved(y, loc, scale):
    """`loc + scale * y` in the memory of `y`."""
    if type(scale) not in NUMBERS or scale != 1:
        y *= scale
    if type(loc) not in NUMBERS or loc != 0:
        y += loc
    return y


def gamma_law(r, n, t, alpha, beta):
    """Gamma, of shape `alpha` and scale `beta`: mean alpha * beta."""
    if arrays := type(beta) is ndarray and beta.size:
        fine = alpha.item(alpha.argmin()) > 0 and beta.item(beta.argmin()) > 0
    else:
        fine = type(alpha) in NUMBERS and type(beta) in NUMBERS and alpha > 0 and beta > 0
    if not fine:  # with NaN as well, which is refused by nobody
        refuse(alpha <= 0, f"gamma: alpha={alpha} must be positive")
        refuse(beta <= 0, f"gamma: beta={beta} must be positive")
    y = r.standard_gamma(alpha, n, t)
    if arrays or type(beta) not in NUMBERS or beta != 1:
        y *= beta
    return y


def poisson_law(r, n, t, lam):
    """How many events of rate `lam` fall into one unit of time."""
    try:
        return r.poisson(lam, n)
    except ValueError:
        refuse(lam < 0, f"poisson: lam={lam} must not be negative")
        if not wrong(lam != lam):
            raise
        return np.where(lam != lam, np.nan, r.poisson(np.nan_to_num(lam), n))


def negative_binomial_law(r, n, t, k, p):
    """Successes before the k-th failure, where a trial fails with probability `p`."""
    if type(k) in NUMBERS and type(p) in NUMBERS and k > 0 and 0 < p <= 1:
        return r.negative_binomial(k, p, n)
    if wrong((k < 0) | (p <= 0) | (p > 1)):
        refuse(k < 0, f"negative_binomial: k={k} must not be negative")
        refuse(p <= 0, f"negative_binomial: p={p} must be positive")
        refuse(p > 1, f"negative_binomial: p={p} is a probability, at most 1")
    with lock:  # two draws that belong together
        rate = moved(r.standard_gamma(k, n), 0, (1 - p) / p)
        return poisson_law(r, None if n else n, t, rate)  # NumPy takes longer if told the shape


def generalized_negative_binomial_law(r, n, t, mu, alpha):
    """Counts of mean `mu` and variance mu + alpha * mu**2."""
    if wrong((mu < 0) | (alpha < 0)):
        refuse(mu < 0, f"generalized_negative_binomial: mu={mu} must not be negative")
        refuse(alpha < 0, f"generalized_negative_binomial: alpha={alpha} must not be negative")
    spread = np.where(alpha == 0, 1.0, alpha)
    with lock:
        rate = np.where(alpha == 0, mu, r.standard_gamma(1 / spread, n) * (spread * mu))
        return poisson_law(r, n, t, rate)


# --- A distribution for each element --------------------------------------------------------------


def sampled(law, params, shape, dtype, rng):
    """For each element of the arrays `params`, one or two, numbers of shape `shape` by `law`."""
    first, last, tail = params[0], params[-1], sizes(shape)
    dtype = SINGLE if dtype is None else floating(dtype)
    if (whole := first.shape) != last.shape:
        raise ValueError(f"the parameters have shapes {whole} and {last.shape}, not the same")
    if type(first) is not np.ndarray or first.dtype is not dtype or last.dtype is not dtype:
        params = [host(p).astype(single(dtype), copy=False) for p in params]
    index = COLUMN if len(tail) == 1 else (..., *(None,) * len(tail))
    columns = [p[index] for p in params]
    raw = obeying(law, source(rng, first), whole + tail, dtype, columns)
    return raw if type(first) is np.ndarray else np.asarray(raw, like=first)


COLUMN = (..., None)  # an index: each number in a row of its own


def sampled_like(law, data, params, rng):
    """Numbers by `law` in the shape and type of `data`, on its device."""
    n, dtype = data.shape, floating(data.dtype)
    return brought(lambda: drawn(rng, data, law, n, dtype, *params), data)


def host(a):
    """A raw array in the memory of the CPU."""
    return a if isinstance(a, np.ndarray) else a.get()


def floating(dtype):
    """A floating-point type, by default float32; MXNetError for another one."""
    found = real_dtype(dtype)
    if found.kind != "f":
        raise MXNetError(f"dtype {found}: this distribution makes numbers of type float")
    return found


@operator(aliases=("_sample_uniform",))
def sample_uniform(low, high, /, shape=(), dtype=None, rng=None):
    """Numbers spread evenly from `low` to `high`:
    `shape` of them for each pair, as `dtype` (float32).
    """
    return sampled(uniform_law, (low, high), shape, dtype, rng)


@operator(aliases=("_sample_normal",))
def sample_normal(mu, sigma, /, shape=(), dtype=None, rng=None):
    """Normal numbers of mean `mu`, standard deviation `sigma`:
    `shape` for each pair, as `dtype` (float32).
    """
    return sampled(normal_law, (mu, sigma), shape, dtype, rng)


@operator(aliases=("_sample_exponential",))
def sample_exponential(lam, /, shape=(), dtype=None, rng=None):
    """Waiting times of rate `lam`: `shape` of them for each rate, as `dtype` (float32)."""
    return sampled(exponential_law, (lam,), shape, dtype, rng)


@operator(aliases=("_sample_gamma",))
def sample_gamma(alpha, beta, /, shape=(), dtype=None, rng=None):
    """Gamma numbers of shape `alpha`, scale `beta`:
    `shape` of them for each pair, as `dtype` (float32).
    """
    return sampled(gamma_law, (alpha, beta), shape, dtype, rng)


@operator(aliases=("_sample_poisson",))
def sample_poisson(lam, /, shape=(), dtype=None, rng=None):
    """Poisson counts of rate `lam`: `shape` of them for each rate, as `dtype` (float32)."""
    return sampled(poisson_law, (lam,), shape, dtype, rng)


@operator(aliases=("_sample_negative_binomial",))
def sample_negative_binomial(k, p, /, shape=(), dtype=None, rng=None):
    """Successes before the k-th failure, of probability `p`:
    `shape` for each pair, as `dtype` (float32).
    """
    return sampled(negative_binomial_law, (k, p), shape, dtype, rng)


@operator(aliases=("_sample_generalized_negative_binomial",))
def sample_generalized_negative_binomial(mu, alpha, /, shape=(), dtype=None, rng=None):
    """Counts of mean `mu` and dispersion `alpha`:
    `shape` of them for each pair, as `dtype` (float32).
    """
    return sampled(generalized_negative_binomial_law, (mu, alpha), shape, dtype, rng)


@operator(aliases=("_random_uniform_like",))
def uniform_like(data, /, low=0.0, high=1.0, rng=None):
    """Numbers spread evenly from `low` to `high`, in the shape and type of `data`."""
    return sampled_like(uniform_law, data, (low, high), rng)


@operator(aliases=("_random_normal_like",))
def normal_like(data, /, loc=0.0, scale=1.0, rng=None):
    """Normal numbers in the shape and type of `data`."""
    return sampled_like(normal_law, data, (loc, scale), rng)


@operator(aliases=("_random_exponential_like",))
def exponential_like(data, /, lam=1.0, rng=None):
    """Waiting times of rate `lam` in the shape and type of `data`."""
    return sampled_like(exponential_law, data, (lam,), rng)


@operator(aliases=("_random_gamma_like",))
def gamma_like(data, /, alpha=1.0, beta=1.0, rng=None):
    """Gamma numbers of shape `alpha` and scale `beta`, in the shape and type of `data`."""
    return sampled_like(gamma_law, data, (alpha, beta), rng)


@operator(aliases=("_random_poisson_like",))
def poisson_like(data, /, lam=1.0, rng=None):
    """Poisson counts in the shape and type of `data`."""
    return sampled_like(poisson_law, data, (lam,), rng)


@operator(aliases=("_random_negative_binomial_like",))
def negative_binomial_like(data, /, k=1, p=1.0, rng=None):
    """Successes before the k-th failure, in the shape and type of `data`."""
    return sampled_like(negative_binomial_law, data, (k, p), rng)


@operator(aliases=("_random_generalized_negative_binomial_like",))
def generalized_negative_binomial_like(data, /, mu=1.0, alpha=1.0, rng=None):
    """Counts of mean `mu` and dispersion `alpha`, in the shape and type of `data`."""
    return sampled_like(generalized_negative_binomial_law, data, (mu, alpha), rng)


def fresh(law, params, shape, dtype, rng, kinds="f"):
    """Numbers of a shape from the stream of the current context."""
    dtype = real_dtype(dtype)
    if dtype.kind not in kinds:
        raise MXNetError(f"dtype {dtype}: this distribution makes no such numbers")
    shape = (1,) if shape is None else sizes(shape)
    return drawn(current_context() if rng is None else rng, None, law, shape, dtype, *params)


@operator
def _random_uniform(low=0.0, high=1.0, shape=None, ctx=None, dtype=None, rng=None):
    """Numbers spread evenly from `low` to `high`, inside a graph."""
    return fresh(uniform_law, (low, high), shape, dtype, rng)


@operator
def _random_normal(loc=0.0, scale=1.0, shape=None, ctx=None, dtype=None, rng=None):
    """Normal numbers of mean `loc` and standard deviation `scale`, inside a graph."""
    return fresh(normal_law, (loc, scale), shape, dtype, rng)


@operator
def _random_exponential(lam=1.0, shape=None, ctx=None, dtype=None, rng=None):
    """Waiting times of *rate* `lam`, inside a graph."""
    return fresh(exponential_law, (lam,), shape, dtype, rng)


@operator
def _random_gamma(alpha=1.0, beta=1.0, shape=None, ctx=None, dtype=None, rng=None):
    """Gamma numbers of shape `alpha` and scale `beta`, inside a graph."""
    return fresh(gamma_law, (alpha, beta), shape, dtype, rng)


@operator
def _random_poisson(lam=1.0, shape=None, ctx=None, dtype=None, rng=None):
    """Poisson counts of rate `lam`, inside a graph."""
    return fresh(poisson_law, (lam,), shape, dtype, rng)


@operator
def _random_negative_binomial(k=1, p=1.0, shape=None, ctx=None, dtype=None, rng=None):
    """Successes before the k-th failure, of probability `p`, inside a graph."""
    return fresh(negative_binomial_law, (k, p), shape, dtype, rng)


@operator
def _random_generalized_negative_binomial(
    mu=1.0, alpha=1.0, shape=None, ctx=None, dtype=None, rng=None
):
    """Counts of mean `mu` and dispersion `alpha`, inside a graph."""
    return fresh(generalized_negative_binomial_law, (mu, alpha), shape, dtype, rng)


@operator
def _random_randint(low, high, shape=None, ctx=None, dtype="int32", rng=None):
    """Whole numbers from `low` up to, not including, `high`, inside a graph."""
    return fresh(integers_law, (low, high), shape, dtype or "int32", rng, "iu")


def integers_law(r, n, t, low, high):
    """Whole numbers from `low` up to, not including, `high`."""
    return r.integers(low, high, n)


# --- Shuffling ------------------------------------------------------------------------------------


@operator(aliases=("_shuffle",))
def shuffle(data, /, rng=None):
    """The slices of `data` along its first axis, in random order."""
    if type(data) is np.ndarray:
        order = obeying(permutation_law, source(rng, data), data.shape[0], COUNTS, ())
        return data.take(order, 0), order
    order = brought(lambda: drawn(rng, data, permutation_law, data.shape[0], COUNTS), data)
    return np.take(data, order, axis=0), order


@shuffle.vjp
def _(g, y, data, rng):
    return (untake(g[0], data, y[1], axis=0),)


shuffle.visible = 1


def permutation_law(r, n, t):
    """The numbers 0 to n - 1 in random order."""
    return r.permutation(n)


# --- Choosing -------------------------------------------------------------------------------------


@operator(aliases=("_sample_multinomial",))
def sample_multinomial(data, /, shape=(), get_prob=False, dtype="int32", rng=None):
    """Outcomes drawn in proportion to `data` along its last axis:
    `shape` of them for each row, as `dtype`.

    With `get_prob` also the logarithm of the drawn outcomes' probabilities, which has a gradient.
    """
    if data.dtype.kind != "f":
        raise ValueError(f"probabilities are floating-point numbers, not {data.dtype}")
    dtype = SHORT if dtype == "int32" else telling(data, real_dtype(dtype))
    heights = data.cumsum(-1, DOUBLE)
    whole = heights[..., -1]  # without its axis: NumPy is slow with axes of size 1
    plain = type(data) is ndarray
    size = data.size
    least = data.item(data.argmin()) if plain and size else smallest(data) if size else 1
    if not least > 0:
        heights, whole = examined(data, heights, whole, least)
    one = type(shape) is tuple and not shape and whole.ndim
    n = whole.shape if one else whole.shape + sizes(shape) or (1,)
    u = source(rng, data).random(n)
    u = u if plain else np.asarray(u, like=data)
    if one:  # of each row: as many comparisons as numbers
        index = (heights > (u * whole)[..., None]).argmax(-1).astype(dtype)
    else:
        index = first_above(u, heights, whole).astype(dtype)
    return (index, np.log(chosen.kernel(data, index))) if get_prob else index


def examined(data, heights, whole, least):
    """Heights of rows with zeros or NaN among their probabilities;
    ValueError if one is negative, or all of a row are 0.
    """
    if least != least:  # NaN
        base.refuse("a probability is NaN", "the first of a row takes what is left of 1")
        heights = np.where(np.isnan(whole)[..., None], np.fmin(heights, 1), heights)
        whole, least = heights[..., -1], smallest(np.nan_to_num(data))
    if least < 0 or (least == 0 and not smallest(whole) > 0):
        raise ValueError("probabilities are not negative, and one of each row is positive")
    return heights, whole


def telling(data, dtype):
    """`dtype`, if it has a number for each outcome of `data`; else a ValueError."""
    if data.size and dtype.kind in "iu" and data.shape[-1] > np.iinfo(dtype).max:
        raise ValueError(f"{data.shape[-1]} outcomes cannot be told apart in {dtype}")
    return dtype


sample_multinomial.outputs = lambda _, get_prob, **__: 2 if get_prob else 1


@sample_multinomial.vjp
def _(g, y, data, shape, get_prob, dtype, rng):
    return (unchosen(g[1] / chosen(data, y[0]), data, y[0]),) if get_prob else (None,)


LAST = 1 - 2.0**-24  # the largest share of many: with it nothing below rounds up to the next row


def first_above(u, heights, whole):
    """For each share `u` of a row's `whole` height, the first index at which the row is higher."""
    if u.size == whole.size:
        at = u.reshape(whole.shape) * whole
        return (heights > at[..., None]).argmax(-1).reshape(u.shape)
    rows, k = whole.size, heights.shape[-1]
    row = np.asarray(np.arange(rows)[:, None], like=heights)
    raised = ((heights / whole[..., None]).reshape(rows, k) + row).reshape(-1)
    at = np.minimum(u, LAST).reshape(rows, many(u, heights)) + row
    found = np.searchsorted(raised, at.reshape(-1), side="right")
    return (found.reshape(at.shape) - row * k).reshape(u.shape)


def many(index, data):
    """How many outcomes are drawn from each row of `data`."""
    return math.prod(index.shape[data.ndim - 1 :])


@operator(vjp=(lambda g, y, data, index: unchosen(g, data, index), None), same_dtype=False)
def chosen(data, index, /):
    """The elements of `data` at several indices along its last axis:
    rows match, further axes are free.
    """
    at = index.reshape(data.shape[:-1] + (many(index, data),)).astype("int64")
    return np.take_along_axis(data, at, -1).reshape(index.shape)


@operator(vjp=(lambda g, y, data, like, index: chosen(g, index), None, None), same_dtype=False)
def unchosen(data, like, index, /):
    """Zeros in the shape of `like` with `data` added at the indices: what undoes `chosen`."""
    rows, k = math.prod(like.shape[:-1]), like.shape[-1]
    first = np.asarray(np.arange(rows)[:, None] * k, like=like)
    at = first + index.reshape(rows, many(index, like)).astype("int64")
    total = np.zeros(rows * k, like.dtype, like=like)
    np.add.at(total, at.reshape(-1), data.reshape(-1))
    return total.reshape(like.shape)


# --- Densities ------------------------------------------------------------------------------------


def from_left(data, like, last):
    """`data` with axes of size 1 put before its last `last` axes, to have as many as `like`."""
    cut = data.ndim - last
    end = like.ndim - last
    if data.shape[:cut] != like.shape[:cut] or data.shape[cut:] != like.shape[end:] or cut > end:
        raise ValueError(f"shape {data.shape} must begin the sample's shape {like.shape}")
    return data.reshape(data.shape[:cut] + (1,) * (end - cut) + data.shape[cut:])


@operator(vjp=(lambda g, y, data, like, last: sum_left(g, data, last=last), None))
def spread_left(data, like, /, last=0):
    """Repeat `data` to the shape of `like`: first axes match, and the `last` ones."""
    return np.broadcast_to(from_left(data, like, last), like.shape)


@operator(vjp=(lambda g, y, data, like, last: spread_left(g, data, last=last), None))
def sum_left(data, like, /, last=0):
    """Sum `data` down to the shape of `like`: what undoes `spread_left`."""
    return data.sum(axis=tuple(range(like.ndim - last, data.ndim - last))).reshape(like.shape)


def density(log_p, sample, params, is_log, last=0):
    """exp(log_p) or log_p at `sample`, computed in double precision and returned
    in the sample's type.
    """
    if sample.dtype.kind != "f":
        raise ValueError(f"a density is computed on floating-point numbers, not {sample.dtype}")
    if len({p.shape for p in params}) > 1:
        raise ValueError(f"the parameters have shapes {[p.shape for p in params]}, not the same")
    wide = [from_left(p, sample, last).astype("float64") for p in params]
    with np.errstate(all="ignore"):
        value = log_p(sample.astype("float64"), *wide)
        return at_least_1d((value if is_log else np.exp(value)).astype(sample.dtype))


def by_score(score):
    """The rule of a density: `score(x, *params)` is the derivative of log_p by each; None is zero."""

    def rule(g, y, sample, *params, is_log):
        weight = g if is_log else g * y
        by_x, *by_params = score(sample, *[spread_left(p, sample) for p in params])
        first = None if by_x is None else weight * by_x
        return (first, *[sum_left(weight * s, p) for s, p in zip(by_params, params)])

    return rule


BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
STEPS = 12


def log_gamma(x):
    """The logarithm of the gamma function, in double precision (Abramowitz and Stegun, 6.1.41)."""
    z = x + STEPS
    tail = [b / (2 * j * (2 * j - 1)) * z ** (1 - 2 * j) for j, b in enumerate(BERNOULLI, 1)]
    low, high = [math.prod(x + i for i in half) for half in (range(6), range(6, STEPS))]
    steps = np.log(np.abs(low)) + np.log(high)  # two products: one would overflow
    return (z - 0.5) * np.log(z) - z + math.log(2 * math.pi) / 2 + total(tail) - steps


def total(terms):
    """The sum of some arrays, the smallest first."""
    result = terms[-1]
    for term in terms[-2::-1]:
        result = result + term
    return result


@operator(vjp=(lambda g, y, data, order: g * gamma_slope(data, order=order + 1),))
def gamma_slope(data, /, order=0):
    """Derivative number `order` + 1 of log Γ, for positive numbers (Abramowitz and Stegun, 6.4.11)."""
    x, m = data.astype("float64"), order
    z, sign = x + STEPS, (-1) ** (m + 1)
    terms = [
        b * math.factorial(2 * j + m - 1) / math.factorial(2 * j) * z ** (-2 * j - m)
        for j, b in enumerate(BERNOULLI, 1)
    ]
    steps = [math.factorial(m) * (x + i) ** (-m - 1) for i in range(STEPS)]
    main = -np.log(z) if m == 0 else math.factorial(m - 1) * z**-m
    half = math.factorial(m) / 2 * z ** (-m - 1)
    return (sign * (main + half + total(terms) + total(steps[::-1]))).astype(data.dtype)


def times_log(a, x):
    """`a * log(x)`, and 0 where a is 0."""
    return np.where(a == 0, 0.0, a * np.log(x))


def on(support, value):
    """A log-density: minus infinity off its support."""
    return np.where(support, value, -np.inf)


@operator(vjp=by_score(lambda x, low, high: (None, 1 / (high - low), -1 / (high - low))))
def random_pdf_uniform(sample, low, high, /, is_log=False):
    """Density of even numbers from `low` to `high`, arrays whose shape begins that of `sample`."""

    def log_p(x, low, high):
        return on((low <= x) & (x <= high), -np.log(high - low))

    return density(log_p, sample, (low, high), is_log)


def normal_score(x, mu, sigma):
    """The derivatives of a normal log-density."""
    z = (x - mu) / sigma
    return -z / sigma, z / sigma, (z * z - 1) / sigma


@operator(vjp=by_score(normal_score))
def random_pdf_normal(sample, mu, sigma, /, is_log=False):
    """Density of normal numbers; `mu` and `sigma` have a shape that begins that of `sample`."""

    def log_p(x, mu, sigma):
        return -(((x - mu) / sigma) ** 2) / 2 - np.log(sigma) - math.log(2 * math.pi) / 2

    return density(log_p, sample, (mu, sigma), is_log)


@operator(vjp=by_score(lambda x, lam: (-lam, 1 / lam - x)))
def random_pdf_exponential(sample, lam, /, is_log=False):
    """Density of waiting times of rate `lam`, whose shape begins that of `sample`."""
    return density(lambda x, lam: on(x >= 0, np.log(lam) - lam * x), sample, (lam,), is_log)


def gamma_score(x, alpha, beta):
    """The derivatives of a gamma log-density."""
    return (alpha - 1) / x - beta, log(beta) + log(x) - gamma_slope(alpha), alpha / beta - x


@operator(vjp=by_score(gamma_score))
def random_pdf_gamma(sample, alpha, beta, /, is_log=False):
    """Density of gamma numbers of shape `alpha` and *rate* `beta`,
    of a shape that begins that of `sample`.
    """

    def log_p(x, alpha, beta):
        scale = alpha * np.log(beta) - log_gamma(alpha)
        return on(x >= 0, times_log(alpha - 1, x) - beta * x + scale)

    return density(log_p, sample, (alpha, beta), is_log)


@operator(vjp=by_score(lambda x, lam: (None, x / lam - 1)))
def random_pdf_poisson(sample, lam, /, is_log=False):
    """Probability of Poisson counts of rate `lam`, whose shape begins that of `sample`."""

    def log_p(x, lam):
        return on(x >= 0, times_log(x, lam) - lam - log_gamma(x + 1))

    return density(log_p, sample, (lam,), is_log)


def negative_binomial_score(x, k, p):
    """The derivatives of a negative binomial log-probability; none by the count."""
    return None, gamma_slope(x + k) - gamma_slope(k) + log(p), k / p - x / (1 - p)


@operator(vjp=by_score(negative_binomial_score))
def random_pdf_negative_binomial(sample, k, p, /, is_log=False):
    """Probability of x successes before the k-th failure; `k` and `p` begin the shape of `sample`."""

    def log_p(x, k, p):
        ways = log_gamma(x + k) - log_gamma(k) - log_gamma(x + 1)
        return on(x >= 0, ways + k * np.log(p) + times_log(x, 1 - p))

    return density(log_p, sample, (k, p), is_log)


def generalized_score(x, mu, alpha):
    """The derivatives of a generalized negative binomial log-probability; none by the count."""
    k, q = 1 / alpha, 1 + alpha * mu
    by_k = gamma_slope(x + k) - gamma_slope(k) - log1p(alpha * mu)
    return None, x / mu - (1 + alpha * x) / q, x / alpha - (x + k) * mu / q - k * k * by_k


@operator(vjp=by_score(generalized_score))
def random_pdf_generalized_negative_binomial(sample, mu, alpha, /, is_log=False):
    """Probability of counts of mean `mu` and dispersion `alpha`, which begin the shape of `sample`."""

    def log_p(x, mu, alpha):
        k = 1 / alpha
        ways = log_gamma(x + k) - log_gamma(k) - log_gamma(x + 1)
        return on(x >= 0, ways + times_log(x, alpha * mu) - (x + k) * np.log1p(alpha * mu))

    return density(log_p, sample, (mu, alpha), is_log)


@operator
def random_pdf_dirichlet(sample, alpha, /, is_log=False):
    """Density of the rows of `sample`; `alpha` has its last axis,
    and first axes that begin its shape.
    """

    def log_p(x, alpha):
        powers = times_log(alpha - 1, x) - log_gamma(alpha)
        return powers.sum(axis=-1) + log_gamma(alpha.sum(axis=-1))

    return density(log_p, sample, (alpha,), is_log, last=1)


@random_pdf_dirichlet.vjp
def _(g, y, sample, alpha, is_log):
    weight = expand_dims(g if is_log else g * y, axis=-1)
    a = spread_left(alpha, sample, last=1)
    by_alpha = log(sample) + gamma_slope(sum(a, axis=-1, keepdims=True)) - gamma_slope(a)
    return weight * (a - 1) / sample, sum_left(weight * by_alpha, alpha, last=1)
