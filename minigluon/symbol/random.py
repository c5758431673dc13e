"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

import math
from numbers import Number

from minigluon import ops
from minigluon.op import operators
from minigluon.symbol.symbol import Symbol, compose

__all__ = [
    "LAWS",
    "OLDER",
    "called",
    "draw",
    "exponential",
    "gamma",
    "generalized_negative_binomial",
    "like",
    "multinomial",
    "negative_binomial",
    "normal",
    "older",
    "poisson",
    "rand_zipfian",
    "randint",
    "randn",
    "shuffle",
    "uniform",
]


# --- The face `mx.sym` ----------------------------------------------------------------------------


def draw(law, params, shape, dtype, kwargs):
    """The Symbol of numbers by a law: {name of a parameter: number or Symbol}."""
    ops.load()
    settings = {k: v for k, v in (("shape", shape), ("dtype", dtype)) if v is not None}
    name, attr = kwargs.get("name"), kwargs.get("attr")
    symbols = [isinstance(p, Symbol) for p in params.values()]
    if symbols and all(symbols):
        op = operators[f"sample_{law}"]
        return called(compose(op, params.values(), settings, f"_sample_{law}", name, attr))
    if not all(isinstance(p, Number) for p in params.values()):
        raise ValueError(f"Distribution parameters must be all Symbols or all numbers: {params}")
    op = operators[f"_random_{law}"]
    return compose(op, [], {**params, **settings}, f"_random_{law}", name, attr)


def called(made):
    """A call that goes into files under MXNet's own name, with an underscore."""
    node = made._entries[0][0]
    node.called = f"_{node.op.name}"
    return made


def uniform(low=0, high=1, shape=None, dtype=None, **kwargs):
    """Numbers spread evenly from `low` to `high`."""
    return draw("uniform", {"low": low, "high": high}, shape, dtype, kwargs)


def normal(loc=0, scale=1, shape=None, dtype=None, **kwargs):
    """Normal numbers of mean `loc` and standard deviation `scale`."""
    return draw("normal", {"loc": loc, "scale": scale}, shape, dtype, kwargs)


def randn(*shape, **kwargs):
    """Normal numbers; the sizes are given one by one, `loc`, `scale` and `dtype` by name."""
    settings = {k: kwargs.pop(k) for k in ("loc", "scale", "dtype") if k in kwargs}
    return normal(shape=shape, **settings, **kwargs)


def exponential(scale=1, shape=None, dtype=None, **kwargs):
    """Waiting times of mean `scale`."""
    return draw("exponential", {"lam": 1.0 / scale}, shape, dtype, kwargs)


def gamma(alpha=1, beta=1, shape=None, dtype=None, **kwargs):
    """Gamma numbers of shape `alpha` and scale `beta`."""
    return draw("gamma", {"alpha": alpha, "beta": beta}, shape, dtype, kwargs)


def poisson(lam=1, shape=None, dtype=None, **kwargs):
    """Poisson counts of rate `lam`."""
    return draw("poisson", {"lam": lam}, shape, dtype, kwargs)


def negative_binomial(k=1, p=1, shape=None, dtype=None, **kwargs):
    """Successes before the k-th failure, where a trial fails with probability `p`."""
    return draw("negative_binomial", {"k": k, "p": p}, shape, dtype, kwargs)


def generalized_negative_binomial(mu=1, alpha=1, shape=None, dtype=None, **kwargs):
    """Counts of mean `mu` and dispersion `alpha`."""
    params = {"mu": mu, "alpha": alpha}
    return draw("generalized_negative_binomial", params, shape, dtype, kwargs)


def randint(low, high, shape=None, dtype=None, **kwargs):
    """Whole numbers from `low` up to, not including, `high`."""
    return draw("randint", {"low": low, "high": high}, shape, dtype, kwargs)


def multinomial(data, shape=None, get_prob=True, dtype="int32", **kwargs):
    """Outcomes drawn in proportion to `data` along its last axis,
    and the logarithms of their chances.
    """
    ops.load()
    settings = {"get_prob": get_prob, "dtype": dtype} | ({} if shape is None else {"shape": shape})
    op, attr = operators["sample_multinomial"], kwargs.get("attr")
    return called(compose(op, [data], settings, "_sample_multinomial", kwargs.get("name"), attr))


def shuffle(data, **kwargs):
    """The slices of `data` along its first axis, in random order."""
    ops.load()
    return called(compose(operators["shuffle"], [data], {}, "_shuffle", **kwargs))


def like(law):
    """The function of numbers in the shape of a Symbol."""

    def function(data, name=None, **settings):
        ops.load()
        op = operators[f"{law}_like"]
        return compose(op, [data], settings, f"{law}_like", name)

    function.__name__ = function.__qualname__ = f"{law}_like"
    function.__doc__ = f"Numbers by the law `{law}` in the shape and type of `data`."
    return function


LAWS = "uniform normal exponential gamma poisson negative_binomial generalized_negative_binomial"
globals().update({f"{law}_like": like(law) for law in LAWS.split()})


def older(law):
    """The function `mx.sym.random_…` of a law, whose parameters are numbers."""

    def function(*args, name=None, attr=None, **settings):
        ops.load()
        op = operators[f"_random_{law}"]
        settings.pop("out", None)
        settings = {**dict(zip(op.settings, args)), **settings}
        return compose(op, [], settings, f"random_{law}", name, attr)

    function.__name__ = function.__qualname__ = f"random_{law}"
    function.__doc__ = f"Numbers by the law `{law}`, whose parameters are numbers."
    return function


OLDER = {f"random_{law}": older(law) for law in [*LAWS.split(), "randint"]}
globals().update(OLDER)


def rand_zipfian(true_classes, num_sampled, range_max):
    """Classes by Zipf's law, and how often each is expected: as `mx.nd.contrib.rand_zipfian`."""
    width = math.log(range_max + 1)
    rolled = operators["exp"](uniform(0, width, shape=(num_sampled,), dtype="float64")) - 1
    classes = operators["cast"](rolled, dtype="int64") % range_max
    counts = []
    for c in (true_classes, classes):
        c = operators["cast"](c, dtype="float64")
        counts.append(operators["log"]((c + 2.0) / (c + 1.0)) * (num_sampled / width))
    return [classes, *counts]
