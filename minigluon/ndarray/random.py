"""One seed, one stream, seven distributions, and two ways to send a gradient through chance."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.random import (
    bernoulli,
    exponential,
    exponential_like,
    gamma,
    gamma_like,
    generalized_negative_binomial,
    generalized_negative_binomial_like,
    multinomial,
    negative_binomial,
    negative_binomial_like,
    normal,
    normal_like,
    poisson,
    poisson_like,
    randint,
    randn,
    shuffle,
    uniform,
    uniform_like,
)

__all__ = [
    "bernoulli",
    "exponential",
    "exponential_like",
    "gamma",
    "gamma_like",
    "generalized_negative_binomial",
    "generalized_negative_binomial_like",
    "multinomial",
    "negative_binomial",
    "negative_binomial_like",
    "normal",
    "normal_like",
    "poisson",
    "poisson_like",
    "randint",
    "randn",
    "shuffle",
    "uniform",
    "uniform_like",
]
