"""Operators of chapter 70: updates. They are not differentiated."""

import numpy as np

from tests.rows import Row, signed

W, G, V = signed(3, 4), signed(3, 4, seed=1), signed(3, 4, seed=2)


def descent(w, g, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0, **_):
    g = g * rescale_grad
    g = np.clip(g, -clip_gradient, clip_gradient) if clip_gradient > 0 else g
    return g + wd * w


P = np.abs(G) + 1  # states that are sums of squares
ONE = np.ones(1)


def adam(w, g, m, v, lr, **_):
    return w - lr * (0.9 * m + 0.1 * g) / (np.sqrt(0.999 * v + 0.001 * g * g) + 1e-8)


def lamb(w, g, m, v, *_, t=1, **__):
    m, v = (0.9 * m + 0.1 * g) / (1 - 0.9**t), (0.999 * v + 0.001 * g * g) / (1 - 0.999**t)
    return m / (np.sqrt(v) + 1e-6)


def momentum(w, g, v, *_, lr, momentum, wd=0.0):
    return w + momentum * v - lr * (g + wd * w)


def nesterov(w, g, v, *_, lr, momentum):
    return w + momentum * (momentum * v - lr * g) - lr * g


def ftrl(w, g, z, n, lr):
    z = z + g - (np.sqrt(n + g * g) - np.sqrt(n)) * w / lr
    n = n + g * g
    return np.where(abs(z) > 0.01, (np.sign(z) * 0.01 - z) / ((1 + np.sqrt(n)) / lr), 0)


def ftml(w, g, d, v, z, lr, t):
    v = 0.999 * v + 0.001 * g * g
    new = (1 - 0.6**t) / lr * (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return -(0.6 * z + 0.4 * g - (new - 0.6 * d) * w) / new


def centered(w, g, n, m, delta, lr):
    n, m = 0.95 * n + 0.05 * g * g, 0.95 * m + 0.05 * g
    return w + 0.9 * delta - lr * g / np.sqrt(n - m * m + 1e-8)


def adamw(w, g, m, v, *rest, lr, eta, wd):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return w - eta * (lr * m / (np.sqrt(v) + 1e-8) + wd * w)


def update(op, arrays, settings, reference):
    return Row(op, tuple(a.copy() for a in arrays), settings, reference, differentiable=())


MULTI = {"lrs": (0.1, 0.2), "wds": (0.0, 0.5), "num_weights": 2}
RATES = (np.array([0.1, 0.2]), np.array([0.0, 0.5]))
TWO = lambda w, g, v, h, *_, **__: [w - 0.1 * g, v - 0.2 * (h + 0.5 * v)]
TWO32 = lambda w, g, w32, v, h, v32, *_, **__: [w32 - 0.1 * g, v32 - 0.2 * (h + 0.5 * v32)]
MOM = {**MULTI, "momentum": 0.9}
LOADED, LOADED_MOM = {"num_weights": 2}, {"num_weights": 2, "momentum": 0.9}
TWO_MOM = lambda w, g, m, v, h, n, *_, **__: [
    momentum(w, g, m, lr=0.1, momentum=0.9),
    momentum(v, h, n, lr=0.2, momentum=0.9, wd=0.5),
]
TWO_MOM32 = lambda w, g, m, w32, v, h, n, v32, *_, **__: TWO_MOM(w32, g, m, v32, h, n)
PLAIN, PLAIN_MOM = (W, G, V, G), (W, G, V, G, W, V)
PLAIN32, PLAIN_MOM32 = (W, G, V, G, W, V), (W, G, V, V, G, W, V, W)

ROWS = [
    *(
        Row(
            "sgd_update",
            (W, G),
            settings,
            lambda w, g, lr, **more: w - lr * descent(w, g, **more),
            differentiable=(),
            wrong=((W, signed(5)), {"lr": 0.1}),
            says="float64[5]",
            note=str(i),
        )
        for i, settings in enumerate(
            [
                {"lr": 0.1},
                {"lr": 0.1, "wd": 0.5},
                {"lr": 1.0, "rescale_grad": 2.0, "clip_gradient": 0.5},
            ]
        )
    ),
    update("sgd_mom_update", (W, G, V), {"lr": 0.1, "momentum": 0.9, "wd": 0.1}, momentum),
    update("mp_sgd_update", (W, G, V), {"lr": 0.1}, lambda w, g, w32, lr: w32 - lr * g),
    update(
        "mp_sgd_mom_update",
        (W, G, V, P),
        {"lr": 0.1, "momentum": 0.9},
        lambda w, g, v, w32, **s: momentum(w32, g, v, **s),
    ),
    update("nag_mom_update", (W, G, V), {"lr": 0.1, "momentum": 0.9}, nesterov),
    update(
        "mp_nag_mom_update",
        (W, G, V, P),
        {"lr": 0.1, "momentum": 0.9},
        lambda w, g, v, w32, **s: nesterov(w32, g, v, **s),
    ),
    update("signsgd_update", (W, G), {"lr": 0.1}, lambda w, g, lr: w - lr * np.sign(g)),
    update(
        "signum_update",
        (W, G, V),
        {"lr": 0.1, "momentum": 0.5},
        lambda w, g, v, lr, momentum: w + lr * np.sign(0.5 * v - 0.5 * g),
    ),
    update("adam_update", (W, G, V, P), {"lr": 0.1}, adam),
    update(
        "rmsprop_update",
        (W, G, P),
        {"lr": 0.1},
        lambda w, g, n, lr: w - lr * g / np.sqrt(0.95 * n + 0.05 * g * g + 1e-8),
    ),
    update("rmspropalex_update", (W, G, P, V / 10, V), {"lr": 0.1}, centered),
    update("ftrl_update", (W, G, V, P), {"lr": 0.1}, ftrl),
    update("ftml_update", (W, G, P, P, V), {"lr": 0.1, "t": 2}, ftml),
    update(
        "adagrad_update",
        (W, G, P),
        {"lr": 0.1},
        lambda w, g, h, lr: w - lr * g / np.sqrt(h + g * g + 1e-7),
    ),
    update(
        "contrib_group_adagrad_update",
        (W, G, P[:, :1]),
        {"lr": 0.1},
        lambda w, g, h, lr: w - lr * g / np.sqrt(h + (g * g).mean(1, keepdims=True) + 1e-5),
    ),
    update("lamb_update_phase1", (W, G, V, P), {"t": 3, "wd": 0.0}, lamb),
    update("mp_lamb_update_phase1", (W, G, V, P, W), {"t": 3, "wd": 0.0}, lamb),
    update(
        "lamb_update_phase2",
        (W, G, 2 * ONE, 4 * ONE),
        {"lr": 0.1, "lower_bound": 3.0},
        lambda w, g, *_, **__: w - 0.1 * 3 / 4 * g,
    ),
    update(
        "mp_lamb_update_phase2",
        (W, G, 2 * ONE, 4 * ONE, V),
        {"lr": 0.1},
        lambda w, g, r1, r2, w32, lr: w32 - 0.05 * g,
    ),
    update(
        "multi_lars",
        (ONE / 10, 4 * ONE, ONE, ONE / 10),
        {"eta": 0.01, "eps": 0.0, "rescale_grad": 0.5},
        lambda *_, **__: 0.1 * 0.01 * 2 / (0.5 + 0.2) * ONE,
    ),
    update("contrib_adamw_update", (W, G, V, P, ONE), {"lr": 0.1, "eta": 0.5, "wd": 0.1}, adamw),
    update(
        "contrib_mp_adamw_update",
        (W, G, V, P, W, ONE),
        {"lr": 0.1, "eta": 0.5, "wd": 0.1},
        adamw,
    ),
    update("multi_sgd_update", PLAIN, MULTI, TWO),
    update("multi_sgd_mom_update", PLAIN_MOM, MOM, TWO_MOM),
    update("multi_mp_sgd_update", PLAIN32, MULTI, TWO32),
    update("multi_mp_sgd_mom_update", PLAIN_MOM32, MOM, TWO_MOM32),
    update("preloaded_multi_sgd_update", PLAIN + RATES, LOADED, TWO),
    update("preloaded_multi_sgd_mom_update", PLAIN_MOM + RATES, LOADED_MOM, TWO_MOM),
    update("preloaded_multi_mp_sgd_update", PLAIN32 + RATES, LOADED, TWO32),
    update("preloaded_multi_mp_sgd_mom_update", PLAIN_MOM32 + RATES, LOADED_MOM, TWO_MOM32),
]
