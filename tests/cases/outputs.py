"""Operators of chapter 52: output layers, whose gradients are not those of their outputs."""

import numpy as np

from tests.rows import Row, positive, signed

X, C = signed(4, 3), np.array([0, 2, 1, 1])


def softmax(z, label, **settings):
    e = np.exp(z)
    return e / e.sum(1 if settings.get("multi_output") else -1, keepdims=True)


ROWS = [
    Row(
        "SoftmaxOutput",
        (X, C),
        {},
        softmax,
        differentiable=(),
        wrong=((X, C[:3]), {}),
        says="4 softmaxes need as many labels, not 3",
    ),
    Row(
        "SoftmaxOutput",
        (signed(2, 3, 4), np.zeros((2, 4))),
        {"multi_output": True, "normalization": "valid"},
        softmax,
        differentiable=(),
        wrong=((X, C), {"normalization": "mean"}),
        says="normalization is null, batch or valid, not 'mean'",
        note="places",
    ),
    Row(
        "SoftmaxOutput",
        (signed(2, 3, 4), np.zeros((2, 3))),
        {"preserve_shape": True},
        softmax,
        differentiable=(),
        note="preserve",
    ),
    Row(
        "softmax_output_gradient",
        (np.abs(X), C),
        {},
        lambda p, c: p - np.eye(3)[c],
        differentiable=(),
    ),
    Row(
        "regression_gradient",
        (X, signed(4, 3, seed=1)),
        {"grad_scale": 2.0},
        lambda y, t, grad_scale: (y - t) * 2 / 3,
        differentiable=(),
    ),
    Row(
        "svm_gradient",
        (X / 2, C),
        {},
        lambda x, c: np.where(np.eye(3)[c], 2 * x - 2, 2 * x + 2),
        (),
    ),
    *(
        Row(
            name,
            (X, signed(4, 3, seed=1)),
            {},
            f,
            differentiable=(),
            wrong=((X, C), {}),
            says="label must have data's shape (4, 3), not (4,)",
        )
        for name, f in {
            "LinearRegressionOutput": lambda x, t: x,
            "MAERegressionOutput": lambda x, t: x,
            "LogisticRegressionOutput": lambda x, t: 1 / (1 + np.exp(-x)),
        }.items()
    ),
    Row(
        "SVMOutput",
        (X, C),
        {},
        lambda x, c: x,
        differentiable=(),
        wrong=((X, C[:2]), {}),
        says="label must have shape (4,), not (2,)",
    ),
    Row(
        "IdentityAttachKLSparseReg",
        (positive(4, 3), positive(3, seed=1) / 2),
        {},
        lambda x, m: x,
        differentiable=(),
        wrong=((X, positive(2)), {}),
        says="moving_avg must have shape (3,), not (2,)",
    ),
    Row(
        "sparseness_gradient",
        (X, positive(4, 3), positive(3, seed=1) / 2),
        {"sparseness_target": 0.2, "penalty": 0.5, "momentum": 1.0},
        lambda g, x, m, **_: g + 0.5 * (0.8 / (1 - m) - 0.2 / m),
        differentiable=(0,),
    ),
]
