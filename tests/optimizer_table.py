"""What the golden values of optimizers and schedules were computed for: read here and by MXNet's side."""

import numpy as np

SHAPES = {"a_weight": (4, 3), "a_bias": (5,), "b_gamma": (2, 2)}
STEPS, ROWS, WIDTH = 10, 6, 2

CLIP = {"clip_gradient": 0.4, "rescale_grad": 0.5}
DENSE = [
    (name, {"wd": 0.01, **more, **common})
    for name, options in {
        "sgd": [{}, {"momentum": 0.9}],
        "nag": [{}, {"momentum": 0.9}],
        "signum": [{}, {"momentum": 0.0}, {"wd_lh": 0.1}],
        "dcasgd": [{}],
        "ftml": [{}, {"beta1": 0.5, "learning_rate": 0.05}],
        "lars": [{}, {"momentum": 0.9}, {"eta": 0.1, "eps": 1e-3, "momentum": 0.5}],
        "lamb": [{}, {"lower_bound": 0.5, "upper_bound": 1.5}, {"bias_correction": False}],
        "lbsgd": [{}, {"momentum": 0.9, "batch_scale": 2}, {"warmup_strategy": "lars"}],
        "adam": [{}, {"beta1": 0.5, "epsilon": 1e-3}],
        "adagrad": [{}, {"eps": 1e-2}],
        "rmsprop": [{}, {"centered": True}, {"clip_weights": 0.5, "epsilon": 1e-2}],
        "adadelta": [{}, {"rho": 0.5, "epsilon": 1e-2}],
        "ftrl": [{}, {"lamda1": 0.1, "beta": 2, "learning_rate": 0.3}],
        "adamax": [{}],
        "nadam": [{}, {"schedule_decay": 0.1}],
        "ccsgd": [{}],
        "test": [{}],
    }.items()
    for more in options
    for common in ({}, CLIP)
]
SPARSE = [  # without adamax, which divides 0 by 0 in a row that no gradient has reached
    (name, {**more, **common})
    for name, options in {
        "sgd": [{}, {"momentum": 0.9}, {"momentum": 0.9, "lazy_update": False}, {"wd": 0.1}],
        "adam": [{}, {"lazy_update": False}, {"wd": 0.1}],
        "adagrad": [{}],
        "ftrl": [{}],
        "groupadagrad": [{}],
        "nag": [{"wd": 0.1}, {"momentum": 0.9}],
        "signum": [{"wd": 0.1}, {"momentum": 0.0}],
        "dcasgd": [{}],
        "ftml": [{}],
        "lars": [{"wd": 0.1}, {"wd": 0.1, "momentum": 0.9, "eta": 0.1}],
        "lamb": [{"wd": 0.1}],
        "lbsgd": [{"momentum": 0.9, "batch_scale": 2}],
        "rmsprop": [{}, {"centered": True}],
        "adadelta": [{}],
        "nadam": [{}],
    }.items()
    for more in options
    for common in ({}, CLIP)
]
HALF = [
    (name, {"multi_precision": True, **more})
    for name, more in [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("nag", {"momentum": 0.9}),
        ("adam", {}),
        ("lamb", {}),
        ("rmsprop", {}),
        ("signum", {}),
        ("ftml", {}),
        ("lars", {"momentum": 0.9, "eta": 0.1}),
        ("lbsgd", {"momentum": 0.9}),
        ("adagrad", {}),
        ("adadelta", {}),
        ("ftrl", {}),
        ("adamax", {}),
        ("nadam", {}),
    ]
]
MOMENTUM = dict.fromkeys(("sgd", "nag", "lars", "lbsgd"), {"momentum": 0.9})
TUNED = [  # with a schedule, multipliers, and a count that does not begin at 0
    (name, {"begin_num_update": 3, "wd": 0.05, **MOMENTUM.get(name, {}), **more})
    for name in sorted({name for name, _ in DENSE} - {"test"})
    for more in ({}, {"multi_precision": True})
    if not (more and name == "dcasgd")
]
SCHEDULES = [
    ("FactorScheduler", {"step": 7, "factor": 0.7, "base_lr": 0.5}),
    ("FactorScheduler", {"step": 20, "factor": 0.1, "stop_factor_lr": 1e-3, "warmup_steps": 10}),
    ("MultiFactorScheduler", {"step": [5, 50, 120], "factor": 0.3, "base_lr": 2.0}),
    ("MultiFactorScheduler", {"step": [30], "warmup_steps": 15, "warmup_mode": "constant"}),
    ("PolyScheduler", {"max_update": 150, "base_lr": 0.4, "pwr": 3, "final_lr": 0.01}),
    ("PolyScheduler", {"max_update": 100, "warmup_steps": 12, "warmup_begin_lr": 0.002}),
    ("CosineScheduler", {"max_update": 150, "base_lr": 0.4, "final_lr": 0.1}),
    (
        "CosineScheduler",
        {"max_update": 180, "warmup_steps": 9, "warmup_begin_lr": 0.001, "warmup_mode": "constant"},
    ),
]


def key(kind, number):
    return f"{kind}{number}"


def start(seed=0):
    """The weights at the start."""
    rng = np.random.RandomState(seed)
    return [rng.uniform(-1, 1, s).astype("float32") for s in SHAPES.values()]


def gradients(step):
    rng = np.random.RandomState(100 + step)
    return [rng.uniform(-2, 2, s).astype("float32") for s in SHAPES.values()]


def table():
    return np.random.RandomState(3).uniform(-1, 1, (ROWS, WIDTH)).astype("float32")


def rows(step):
    """Numbers of rows, and their gradients."""
    rng = np.random.RandomState(200 + step)
    return rng.uniform(-2, 2, (3, WIDTH)).astype("float32"), np.sort(rng.permutation(ROWS)[:3])


KINDS = {"dense": DENSE, "sparse": SPARSE, "rows": SPARSE, "half": HALF, "tuned": TUNED}


def run(mx, kind, name, settings):
    """The weights after ten steps of an optimizer of the package `mx`."""
    names = dict(enumerate(SHAPES))
    if kind == "tuned":
        schedule = mx.lr_scheduler.FactorScheduler(3, 0.6, base_lr=0.1)
        settings = {**settings, "lr_scheduler": schedule, "learning_rate": 0.1}
    optimizer = mx.optimizer.create(name, param_idx2name=names, **settings)
    if kind == "tuned":
        optimizer.set_lr_mult({"a_weight": 0.5, 1: 2.0})
        optimizer.set_wd_mult({"a_weight": 2.0, "b_gamma": 0.5})
    update = mx.optimizer.get_updater(optimizer)
    if kind in ("sparse", "rows"):
        return sparse(mx, update, "row_sparse" if kind == "sparse" else "default")
    dtype = "float16" if settings.get("multi_precision") else "float32"
    weights = [mx.nd.array(w, dtype=dtype) for w in start()]
    for step in range(STEPS):
        grads = [mx.nd.array(g, dtype=dtype) for g in gradients(step)]
        if update.aggregate_updates:
            update(list(range(len(weights))), grads, weights)
        else:
            for i, (w, g) in enumerate(zip(weights, grads)):
                update(i, g, w)
    return np.concatenate([w.asnumpy().ravel() for w in weights])


def sparse(mx, update, stype):
    """The weight, dense or row-sparse, after ten row-sparse gradients."""
    weight = mx.nd.array(table()).tostype(stype)
    for step in range(STEPS):
        update(0, mx.nd.sparse.row_sparse_array(rows(step), shape=(ROWS, WIDTH)), weight)
    return weight.asnumpy().ravel()
