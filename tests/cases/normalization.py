"""Operators of chapter 43: normalization."""

import numpy as np

from tests.rows import Row, positive, signed


def normal(x, gamma, beta, over, along, eps):
    shape = [-1 if i == along % x.ndim else 1 for i in range(x.ndim)]
    m, v = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    return (x - m) / np.sqrt(v + eps) * gamma.reshape(shape) + beta.reshape(shape)


def layer(x, gamma, beta, axis=-1, eps=1e-5, output_mean_var=False):
    y = normal(x, gamma, beta, axis, axis, eps)
    deviation = np.sqrt(x.var(axis, keepdims=True) + eps)
    return (y, x.mean(axis, keepdims=True), deviation) if output_mean_var else y


def group(x, gamma, beta, num_groups=1, eps=1e-5, output_mean_var=False):
    pieces = x.reshape(len(x), num_groups, -1)
    y = normal(pieces, gamma, beta, 2, 1, eps).reshape(x.shape)
    return (y, pieces.mean(2), np.sqrt(pieces.var(2) + eps)) if output_mean_var else y


def instance(x, gamma, beta, eps=1e-3):
    return normal(x, gamma, beta, tuple(range(2, x.ndim)), 1, eps)


def batch(x, gamma, beta, mu, var, eps=1e-3, fix_gamma=True, axis=1, output_mean_var=False, **_):
    """In use, as outside of `record`: by the running statistics."""
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    gamma = np.ones_like(gamma) if fix_gamma else gamma
    gamma, beta, m, v = (a.reshape(shape) for a in (gamma, beta, mu, var))
    y = (x - m) / np.sqrt(v + eps) * gamma + beta
    return (y, mu, 1 / np.sqrt(var + eps)) if output_mean_var else y


def back(g, x, gamma, m, r, over, along, t=1):
    """The gradients, straight from the Jacobian's formula."""
    shape = [-1 if i == along % x.ndim else 1 for i in range(x.ndim)]
    others = tuple(i for i in range(x.ndim) if i != along % x.ndim)
    xhat, h = (x - m) * r, g * gamma.reshape(shape)
    mean = lambda a: a.mean(over, keepdims=True)
    dx = r * (h - t * mean(h) - t * xhat * mean(h * xhat))
    return dx, (g * xhat).sum(others), g.sum(others)


def layer_back(g, x, gamma, m, r, axis=-1, exclude=False, along=-1, eps=1e-5, split=0):
    return back(g, x, gamma, m, r, axis, along)


def batch_back(g, x, gamma, mu, var, m, r, v, t, eps=1e-3, fix_gamma=True, axis=1, momentum=0.9):
    gamma = np.ones_like(gamma) if fix_gamma else gamma
    shape, over = [1, -1, 1, 1][: x.ndim], (0, 2, 3)[: x.ndim - 1]
    return back(g, x, gamma, m.reshape(shape), r.reshape(shape), over, axis, t)


def vectors(n):
    """γ, β, running mean and running variance."""
    return positive(n, seed=1), signed(n, seed=2), signed(n, seed=3), positive(n, seed=4)


X, I = signed(2, 3, 2, 2), signed(4, 3)
ROW = (I.mean(1, keepdims=True), 1 / np.sqrt(I.var(1, keepdims=True) + 1e-5))
COLUMN = (I.mean(0), 1 / np.sqrt(I.var(0) + 1e-3), I.var(0))
BATCHES = ["BatchNorm", "contrib_SyncBatchNorm", "contrib_BatchNormWithReLU"]
WRONG = ((X, *vectors(2)), {})


def bent(op):
    """What the reference of `op` is."""
    if op != "contrib_BatchNormWithReLU":
        return batch
    return lambda *arrays, **settings: np.maximum(batch(*arrays, **settings), 0)


# The gradient by x of the two backward operators goes through the statistics as well: the second
# gradients of LayerNorm and its kin, and tests/test_nn_layers.py, check it.
ROWS = [
    *(
        Row(
            op,
            (X, *vectors(3)),
            {"fix_gamma": fixed, "use_global_stats": True} | ({"key": "k"} if "Sync" in op else {}),
            bent(op),
            differentiable=(0, 2) if fixed else (0, 1, 2),
            wrong=WRONG,
            says="needs the shape (3,)",
            note=f"fix_gamma={fixed}",
        )
        for op in BATCHES
        for fixed in (True, False)
    ),
    Row(
        "BatchNorm",
        (signed(2, 3, 4), *vectors(4)),
        {"axis": -1, "eps": 0.1, "fix_gamma": False, "use_global_stats": True},
        batch,
        differentiable=(0, 1, 2),
        wrong=((X, *vectors(3)), {"axis": 4}),
        says="axis 4 is out of range",
        note="last axis",
    ),
    Row(
        "BatchNorm",
        (X, *vectors(3)),
        {"output_mean_var": True, "fix_gamma": False},
        batch,
        differentiable=(),
        wrong=((X.astype("int32"), *vectors(3)), {}),
        says="only floating-point",
        note="statistics",
    ),
    *(
        Row(
            "batch_norm_backward",
            (signed(4, 3, seed=5), I, *vectors(3)[:1], *vectors(3)[2:], *stats, np.full(1, t)),
            {"fix_gamma": False},
            batch_back,
            differentiable=(0, 2),
            note=f"mode {t}",
        )
        for t, stats in (
            (1.0, COLUMN),
            (0.0, (vectors(3)[2], 1 / np.sqrt(vectors(3)[3] + 1e-3), vectors(3)[3])),
        )
    ),
    Row(
        "norm_backward",
        (signed(4, 3, seed=5), I, positive(3), *ROW),
        {},
        layer_back,
        differentiable=(0, 2),
    ),
    *(
        Row(
            "LayerNorm",
            (signed(2, 3, 4), positive(n), signed(n, seed=1)),
            {"axis": axis},
            layer,
            wrong=((X, positive(4), signed(3)), {"axis": 1}),
            says="gamma needs the shape (3,)",
            note=f"axis {axis}",
        )
        for axis, n in ((-1, 4), (1, 3), (0, 2))
    ),
    Row(
        "LayerNorm",
        (signed(2, 5), positive(5), signed(5, seed=1)),
        {"output_mean_var": True, "eps": 0.1},
        layer,
        differentiable=(),
        note="statistics",
    ),
    Row("LayerNorm", (signed(5), positive(5), signed(5, seed=1)), {}, layer, note="vector"),
    Row(
        "InstanceNorm",
        (X, positive(3), signed(3, seed=1)),
        {},
        instance,
        wrong=((signed(2, 3), positive(3), signed(3)), {}),
        says="at least 3 axes",
    ),
    Row(
        "GroupNorm",
        (signed(2, 4, 3), positive(2), signed(2, seed=1)),
        {"num_groups": 2},
        group,
        wrong=((signed(2, 4, 3), positive(3), signed(3)), {"num_groups": 3}),
        says="must be divisible",
    ),
    Row(
        "GroupNorm",
        (signed(2, 4, 3), positive(2), signed(2, seed=1)),
        {"num_groups": 2, "output_mean_var": True},
        group,
        differentiable=(),
        note="statistics",
    ),
]
