"""Time optimizer steps here and in PyTorch: `python benchmarks/optimizers.py`.

Dense steps of 100 parameters of 100,000 numbers, a small network's step, and row-sparse steps. The two
take turns, each in a process of its own; of a turn the median counts, of the turns the best.
"""

import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

import minigluon as mx

ROUNDS, TURNS = 15, 3
MLP = [(256, 784), (256,), (128, 256), (128,), (10, 128), (10,)]


def ours(shapes, name, **settings):
    rng = np.random.default_rng(0)
    update = mx.optimizer.get_updater(mx.optimizer.create(name, **settings))
    weights = [mx.nd.array(rng.normal(size=s)) for s in shapes]
    grads = [mx.nd.array(rng.normal(size=s)) for s in shapes]
    numbers = list(range(len(shapes)))
    return lambda: update(numbers, grads, weights)


def torchs(shapes, make):
    weights = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    for w in weights:
        w.grad = torch.randn(w.shape)
    return make(weights).step


def our_rows(n, width=32, rows=256):
    update = mx.optimizer.get_updater(mx.optimizer.SGD(learning_rate=0.1))
    weight = mx.nd.ones((n, width))
    where = np.sort(np.random.default_rng(0).choice(n, rows, replace=False))
    grad = mx.nd.sparse.row_sparse_array((np.ones((rows, width)), where), shape=(n, width))
    return lambda: update(0, grad, weight)


def torch_rows(n, width=32, rows=256):
    weight = torch.nn.Parameter(torch.ones(n, width))
    where = torch.from_numpy(np.sort(np.random.default_rng(0).choice(n, rows, replace=False)))
    grad = torch.sparse_coo_tensor(where[None], torch.ones(rows, width), (n, width))
    weight.grad = grad.coalesce()
    return torch.optim.SGD([weight], lr=0.1).step


def programs(side):
    """Name, program and how often to repeat it, for one side."""
    for shapes, label, repeat in (
        ([(100_000,)] * 100, "100 x 1e5", 1),
        (MLP, "784-256-128-10", 20),
    ):
        for name, settings, make in (
            ("sgd", {"momentum": 0.9}, lambda w: torch.optim.SGD(w, 0.01, 0.9, foreach=True)),
            ("adam", {}, lambda w: torch.optim.Adam(w, 0.001, foreach=True)),
        ):
            here = side == "here"
            step = ours(shapes, name, **settings) if here else torchs(shapes, make)
            yield f"{name} {label}", step, repeat
    for n in (10**4, 10**6):
        yield f"256 rows of {n:.0e}", (our_rows if side == "here" else torch_rows)(n), 50


def median(step, repeat):
    """The median time of a step in microseconds."""
    step()
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(repeat):
            step()
        times.append((time.perf_counter() - begin) / repeat * 1e6)
    return statistics.median(times)


def ask(side):
    """The times of one side, in a process of its own: idle threads of one would slow the other."""
    done = subprocess.run([sys.executable, __file__, side], capture_output=True, check=True)
    return json.loads(done.stdout)


def main():
    if len(sys.argv) > 1:
        print(json.dumps({n: median(step, r) for n, step, r in programs(sys.argv[1])}))
        return
    here, torchs_times = [], []
    for _ in range(TURNS):
        here.append(ask("here"))
        torchs_times.append(ask("torch"))
    for name in here[0]:
        a, b = (min(t[name] for t in times) for times in (here, torchs_times))
        print(f"{name:24} {a:8.0f} µs, PyTorch {b:8.0f} µs, ratio {a / b:5.2f}")


if __name__ == "__main__":
    main()
