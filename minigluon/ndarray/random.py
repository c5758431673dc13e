"""One seed, one stream; and the namespace through which all operators are seen."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.random import bernoulli, exponential, normal, randint, randn, shuffle, uniform

__all__ = ["bernoulli", "exponential", "normal", "randint", "randn", "shuffle", "uniform"]
