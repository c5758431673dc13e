"""Operators of chapter 50: losses."""

import numpy as np

from tests.rows import Row, signed


def cross_entropy(z, label, axis=-1):
    z = np.moveaxis(z, axis, -1)
    rows = z.reshape(-1, z.shape[-1])
    values = np.log(np.exp(rows).sum(1)) - rows[np.arange(len(rows)), label.ravel().astype(int)]
    return np.moveaxis(values.reshape(*z.shape[:-1], 1), -1, axis)


ROWS = [
    Row(
        "sparse_softmax_cross_entropy",
        (signed(4, 3) * 5, np.array([0, 2, 1, 1])),
        {},
        cross_entropy,
        differentiable=(0,),
        wrong=((signed(2, 3), np.array([0, 3])), {}),
        says="label 3 is not a class: labels are whole numbers from 0 to 2",
    ),
    Row(
        "sparse_softmax_cross_entropy",
        (signed(2, 3, 4), np.array([[0, 1, 2, 0], [2, 2, 1, 0]])),
        {"axis": 1},
        cross_entropy,
        differentiable=(0,),
        wrong=((signed(2, 3), np.array([0.5, 1])), {}),
        says="label 0.5 is not a class",
        note="middle axis",
    ),
    Row(
        "negative_log_likelihood",
        (signed(4, 3), np.array([0, 2, 1, 1])),
        {},
        lambda z, k, axis=-1: -z[np.arange(4), k][:, None],
        differentiable=(0,),
        wrong=((signed(2, 3), np.array([-2, 1])), {}),
        says="label -2 is not a class",
    ),
    Row(
        "negative_log_likelihood",
        (signed(2, 3, 2), np.array([[0, 1], [2, 2]])),
        {"axis": 1},
        lambda z, k, axis: -np.take_along_axis(z, k[:, None], 1),
        differentiable=(0,),
        note="middle axis",
    ),
    Row(
        "overestimate",
        (signed(4, 3), signed(4, 1, seed=1), np.array([0, 2, 1, 1])),
        {},
        lambda z, y, k, axis=-1: np.exp(z - y - z[np.arange(4), k][:, None]) - np.eye(3)[k],
        differentiable=(0, 1),
    ),
]
