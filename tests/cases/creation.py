"""Rows of the operators of `ops.creation`, which take no arrays."""

import numpy as np

from tests.rows import Row

ROWS = [
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
