"""Operators of chapter 70: updates. They are not differentiated."""

import numpy as np

from tests.rows import Row, signed

W, G, V = signed(3, 4), signed(3, 4, seed=1), signed(3, 4, seed=2)


def descent(w, g, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0, **_):
    g = g * rescale_grad
    g = np.clip(g, -clip_gradient, clip_gradient) if clip_gradient > 0 else g
    return g + wd * w


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
    Row(
        "sgd_mom_update",
        (W, G, V),
        {"lr": 0.1, "momentum": 0.9, "wd": 0.1},
        lambda w, g, v, lr, momentum, wd: [
            w + momentum * v - lr * (g + wd * w),
            momentum * v - lr * (g + wd * w),
        ],
        differentiable=(),
    ),
]
