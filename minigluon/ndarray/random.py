"""One seed, one stream, and a gradient through chance."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.random import bernoulli, exponential, normal, randint, randn, shuffle, uniform

__all__ = ["bernoulli", "exponential", "normal", "randint", "randn", "shuffle", "uniform"]
