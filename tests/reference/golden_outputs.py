"""Ask MXNet 1.9.1 for outputs and gradients of its output layers; writes tests/golden_outputs.json."""

import json
from pathlib import Path

import numpy as np

np.bool = bool
import mxnet as mx  # noqa: E402

rng = np.random.RandomState(0)
A, D = rng.randn(4, 3).round(3), rng.randn(2, 3, 2).round(3)
C, P, B = [1, 0, 2, 1], [[0.2, 0.3, 0.5]] * 4, rng.randn(4, 3).round(3)
FLAT = [
    {},
    {"use_ignore": True, "ignore_label": 1},
    {"normalization": "batch"},
    {"normalization": "valid"},
    {"normalization": "valid", "use_ignore": True, "ignore_label": 1},
    {"normalization": "valid", "ignore_label": 1},
    {"normalization": "batch", "use_ignore": True, "ignore_label": 1},
    {"grad_scale": 2, "smooth_alpha": 0.1},
    {"smooth_alpha": 0.1, "use_ignore": True, "ignore_label": 1},
]
PLACES = [{}, *FLAT[2:5], {"smooth_alpha": 0.1}, {"use_ignore": True, "ignore_label": 1}]
CALLS = [
    *(("SoftmaxOutput", A, C, s) for s in FLAT),
    ("SoftmaxOutput", A, P, {"grad_scale": 2}),
    ("SoftmaxOutput", A, [7, -1, 1.7, 0], {}),
    *(("SoftmaxOutput", D, [[0, 1], [2, 1]], {"multi_output": True, **s}) for s in PLACES),
    *(("SoftmaxOutput", D, [[0, 1, 1], [1, 0, 1]], {"preserve_shape": True, **s}) for s in PLACES),
    *(
        (f"{n}RegressionOutput", A, B, {"grad_scale": s})
        for n in ("Linear", "MAE", "Logistic")
        for s in (1, 2)
    ),
    *(
        ("SVMOutput", A, C, {"use_linear": linear, **s})
        for linear in (False, True)
        for s in ({}, {"margin": 0.5, "regularization_coefficient": 2})
    ),
]


def ask(name, data, label, settings):
    """What MXNet says: the call, its output and its gradient."""
    x = mx.nd.array(data)
    x.attach_grad()
    with mx.autograd.record():
        y = getattr(mx.nd, name)(x, mx.nd.array(label), **settings)
        z = y * 3
    z.backward()
    arrays = [np.asarray(a).round(6).tolist() for a in (data, label, y.asnumpy(), x.grad.asnumpy())]
    return [name, settings, *arrays]


if __name__ == "__main__":
    rows = [ask(*call) for call in CALLS]
    path = Path(__file__).parents[1] / "golden_outputs.json"
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
