"""Operators of the chapter on special functions, and those whose rule is no derivative."""

import math

import numpy as np

from tests.rows import Row, positive, signed

A, P = signed(3, 4), positive(3, 4)
LEFT = -1 - 0.8 * positive(2, 3) / 1.6  # between -1.75 and -1.25
BROKEN = np.array([[np.nan, np.inf, -np.inf], [1.0, 0.0, -2.0]])
LARGE = np.array([0.3, 1.0001, 1.9999, 3.5, 11.9, 12.1, 60.0])


def each(f):
    """A function of one number as a function of arrays."""
    return np.vectorize(f, otypes=["float64"])


ROWS = [
    Row("erf", (3 * A,), reference=each(math.erf)),
    Row("erfinv", (each(math.erf)(2 * A),), reference=lambda y: 2 * A),
    Row("gamma", (P,), reference=each(math.gamma)),
    Row("gamma", (LEFT,), reference=each(math.gamma), note="left"),
    Row("gammaln", (P,), reference=each(math.lgamma)),
    Row("gammaln", (LARGE,), reference=each(math.lgamma), note="right"),
    Row("gammaln", (LEFT,), reference=each(math.lgamma), note="left"),
    Row("digamma", (np.ones((1, 2)),), reference=lambda x: x * -0.57721566490153286),
    Row("digamma", (P * 0 + 0.25,), reference=lambda x: 0 * x - 4.2274535333762654, note="quarter"),
    Row(
        "polygamma",
        (P * 0 + 1,),
        {"n": 1},
        lambda x, n: 0 * x + math.pi**2 / 6,
        wrong=((P,), {"n": -1}),
        says="not negative",
    ),
    Row("polygamma", (P * 0 + 0.5,), {"n": 3}, lambda x, n: 0 * x + math.pi**4, note="third"),
    Row(
        "polygamma", (P * 0 - 0.5,), {"n": 1}, lambda x, n: 0 * x + math.pi**2 / 2 + 4, note="left"
    ),
    Row("make_loss", (A,), reference=np.copy, differentiable=()),
    Row(
        "MakeLoss",
        (A,),
        {"grad_scale": 2.0},
        lambda x, grad_scale: x,
        differentiable=(),
        wrong=((A,), {"normalization": "mean"}),
        says="'batch'",
    ),
    Row(
        "loss_gradient",
        (A,),
        {"grad_scale": 2.0, "normalization": "valid"},
        lambda x, grad_scale, normalization: 0 * x + 2 / (x > 0).sum(),
        differentiable=(),
    ),
    Row(
        "loss_gradient",
        (A,),
        {"grad_scale": 2.0, "normalization": "batch"},
        lambda x, grad_scale, normalization: 0 * x + 2 / 3,
        differentiable=(),
        note="batch",
    ),
    Row(
        "contrib_round_ste",
        (np.array([-1.5, -0.2, 0.5, 2.5]),),
        reference=lambda x: np.array([-2.0, 0, 1, 3]),
        differentiable=(),
    ),
    Row(
        "contrib_sign_ste",
        (A,),
        reference=lambda x: np.where(np.isnan(x), 0, np.sign(x)),
        differentiable=(),
    ),
    Row(
        "contrib_gradientmultiplier",
        (A,),
        {"scalar": 2.5},
        lambda x, scalar: x,
        differentiable=(),
    ),
    Row(
        "contrib_quadratic",
        (A,),
        {"a": 1.5, "b": 2.0, "c": 0.7},
        lambda x, a, b, c: a * x * x + b * x + c,
    ),
    Row(
        "amp_cast", (A,), {"dtype": "float32"}, lambda x, dtype: x.astype(dtype), differentiable=()
    ),
    Row(
        "amp_multicast",
        (A.astype("float32"), P.astype("float32")),
        {"num_outputs": 2},
        lambda a, b, num_outputs: (a, b),
        differentiable=(),
        wrong=((A, P), {"num_outputs": 3}),
        says="there are 2 arrays",
    ),
    Row("all_finite", (A,), reference=lambda x: np.ones(1), differentiable=()),
    Row("all_finite", (BROKEN,), reference=lambda x: np.zeros(1), differentiable=(), note="not"),
    Row(
        "multi_all_finite",
        (A, BROKEN),
        {"num_arrays": 2},
        lambda a, b, num_arrays: np.zeros(1),
        differentiable=(),
        wrong=((A, A), {}),
        says="there are 2 arrays",
    ),
    Row(
        "multi_sum_sq",
        (np.round(4 * A), np.round(9 * P)),
        {"num_arrays": 2},
        lambda a, b, num_arrays: np.array([(a * a).sum(), (b * b).sum()]),
        differentiable=(),
    ),
    Row(
        "reset_arrays", (A.copy(),), {"num_arrays": 1}, lambda a, num_arrays: (), differentiable=()
    ),
    Row(
        "contrib_allclose",
        (P, P * (1 + 1e-7)),
        reference=lambda a, b: np.ones(()),
        differentiable=(),
        wrong=((A, A[0]), {}),
        says="must be the same",
    ),
]
