"""Rows of the operators of `ops.creation`, which take no arrays."""

import numpy as np

from minigluon.ops import random as laws
from tests.rows import Row

FRESH = {  # name -> settings, its law
    "uniform": ({"low": 2.0, "high": 3.0}, laws.uniform_law),
    "normal": ({"loc": 2.0, "scale": 3.0}, laws.normal_law),
    "exponential": ({"lam": 2.0}, laws.exponential_law),
    "gamma": ({"alpha": 2.0, "beta": 3.0}, laws.gamma_law),
    "poisson": ({"lam": 3.0}, laws.poisson_law),
    "negative_binomial": ({"k": 3, "p": 0.4}, laws.negative_binomial_law),
    "generalized_negative_binomial": (
        {"mu": 3.0, "alpha": 0.4},
        laws.generalized_negative_binomial_law,
    ),
}


def numbers(law):
    """The reference of a `_random_` operator: the law, on a generator of its own."""

    def reference(shape, rng, **params):
        made = law(np.random.default_rng(rng), shape, np.dtype("float32"), *params.values())
        return made.astype("float32")

    return reference


ROWS = [
    *[
        Row(f"_random_{name}", (), {**settings, "shape": (2, 3), "rng": 3}, numbers(law))
        for name, (settings, law) in FRESH.items()
    ],
    Row(
        "_random_randint",
        (),
        {"low": 2, "high": 9, "shape": (4,), "rng": 3},
        lambda low, high, shape, rng: (
            np.random.default_rng(rng).integers(low, high, shape).astype("int32")
        ),
    ),
    Row("_zeros", (), {"shape": (2, 3)}, lambda shape: np.zeros(shape, "float32")),
    Row("_ones", (), {"shape": (2,)}, lambda shape: np.ones(shape, "float32")),
    Row(
        "_full",
        (),
        {"shape": (2,), "value": 7.0},
        lambda shape, value: np.full(shape, value, "float32"),
    ),
    Row(
        "_arange",
        (),
        {"start": 1, "stop": 4},
        lambda start, stop: np.arange(start, stop, dtype="float32"),
    ),
    Row(
        "_linspace",
        (),
        {"start": 0, "stop": 1, "num": 5},
        lambda start, stop, num: np.linspace(start, stop, num, dtype="float32"),
    ),
    Row("_eye", (), {"N": 3, "k": 1}, lambda N, k: np.eye(N, k=k, dtype="float32")),
]
