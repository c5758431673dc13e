"""Ask MXNet 1.9.1 for the values of its metrics: MXNET_PYTHON tests/reference/golden_metrics.py.

Writes golden_metrics.json beside this file; tests/test_metric.py reads it without MXNet. NaN is null.
"""

import json
import math
from pathlib import Path

import numpy as np

HERE = Path(__file__).with_name("golden_metrics.json")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def classes(k, sizes, scale=2.0):
    """Batches of labels (n,) and probabilities (n, k), the same numbers on every machine."""
    found = []
    for n in sizes:
        label = (np.arange(n) * 7 % 5 % k).astype("float32")
        found.append((label, softmax(scale * np.sin(np.arange(n * k) * 1.7 + n).reshape(n, k))))
    return found


def numbers(shapes):
    found = []
    for shape in shapes:
        n = np.arange(math.prod(shape))
        found.append((np.sin(n).reshape(shape), (np.cos(n * 1.3) + np.sin(n)).reshape(shape)))
    return found


def images(k, sizes):
    """Labels (n, 2, 2) and scores (n, k, 2, 2)."""
    found = []
    for n in sizes:
        label = (np.arange(n * 4) * 3 % k).reshape(n, 2, 2)
        found.append((label, np.sin(np.arange(n * k * 4) * 2.3).reshape(n, k, 2, 2)))
    return found


DATA = {
    "two": classes(2, (7, 3)),
    "two, one sample": classes(2, (1,)),
    "three": classes(3, (7, 3, 1)),
    "five": classes(5, (8, 4), 0.5),
    "right": [(np.array([0.0, 1.0]), np.array([[0.9, 0.1], [0.2, 0.8]]))],
    "wrong": [(np.array([1.0, 0.0]), np.array([[0.9, 0.1], [0.2, 0.8]]))],
    "one class": [(np.array([1.0, 1.0]), np.array([[0.1, 0.9], [0.2, 0.8]]))],
    "sure": [(np.array([1.0, 0.0]), np.array([[1.0, 0.0], [1.0, 0.0]]))],
    "answers": [(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 2.0]))],
    "numbers": numbers([(6,), (4,)]),
    "columns": numbers([(6, 1), (4, 1)]),
    "matrices": numbers([(3, 2), (2, 2)]),
    "images": images(3, (2, 1)),
}
LABELLED, REAL = ("two", "three", "five", "right", "wrong"), ("numbers", "columns", "matrices")
CASES = [  # class, arguments, data
    *(("Accuracy", {}, d) for d in (*LABELLED, "answers", "images", "two, one sample")),
    *(("TopKAccuracy", {"top_k": k}, d) for k in (2, 3) for d in ("three", "five")),
    *(("F1", {"average": a}, d) for a in ("macro", "micro") for d in ("two", "right", "wrong")),
    *(("F1", {}, d) for d in ("one class", "two, one sample")),
    *(("MCC", {"average": a}, d) for a in ("macro", "micro") for d in ("two", "right", "wrong")),
    *(("MCC", {}, d) for d in ("one class", "two, one sample")),
    *(("PCC", {}, d) for d in LABELLED),
    *(("Perplexity", {"ignore_label": i}, d) for i in (None, 0, 2) for d in ("three", "five")),
    *(("CrossEntropy", {}, d) for d in (*LABELLED, "sure")),
    ("CrossEntropy", {"eps": 0.1}, "three"),
    *(("NegativeLogLikelihood", {}, d) for d in (*LABELLED, "sure")),
    *((name, {}, d) for name in ("MAE", "MSE", "RMSE") for d in REAL),
    *(("PearsonCorrelation", {"average": a}, d) for a in ("macro", "micro") for d in REAL),
    *((name, {}, "five") for name in ("Loss", "Torch", "Caffe")),
]


def values(metric, array, name, settings, data):
    """What the metric says before, and after each batch, since reset_local and since reset."""
    made = getattr(metric, name)(**settings)
    found = [made.get()[1]]
    for i, (label, pred) in enumerate(DATA[data]):
        made.update([array(label)], [array(pred)])
        found += [made.get()[1], made.get_global()[1]]
        if i == 0:
            made.reset_local()
            found.append(made.get()[1])
    return [None if math.isnan(v) else round(float(v), 6) for v in found]


def main():
    np.bool = bool  # which MXNet 1.9.1 asks for
    import mxnet as mx

    found = [values(mx.metric, mx.nd.array, *case) for case in CASES]
    HERE.write_text(json.dumps(found).replace("], [", "],\n ["))


if __name__ == "__main__":
    main()
