"""Time optimizer steps here and in PyTorch: `python benchmarks/optimizers.py`.

Dense steps of 100 parameters of 100,000 numbers, a small network's step, and row-sparse steps. The two
take turns; the median of the rounds is printed, and the ratio ours / PyTorch's.
"""

import statistics
import time

import numpy as np
import torch

import minigluon as mx

ROUNDS = 15
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


def medians(*calls, repeat=1):
    """The median time of each call, in microseconds; they take turns."""
    times = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(ROUNDS):
        for call, found in zip(calls, times):
            begin = time.perf_counter()
            for _ in range(repeat):
                call()
            found.append((time.perf_counter() - begin) / repeat * 1e6)
    return [statistics.median(t) for t in times]


def report(name, a, b):
    print(f"{name:34} {a:10.0f} µs {b:10.0f} µs {a / b:6.2f}", flush=True)


def main():
    print(
        f"{'':34} {'here':>10}    {'PyTorch':>10}     ratio   ({torch.get_num_threads()} threads)"
    )
    many = [(100_000,)] * 100
    for shapes, label, repeat in ((many, "100 x 1e5", 1), (MLP, "784-256-128-10", 20)):
        for name, settings, make in (
            ("sgd", {"momentum": 0.9}, lambda w: torch.optim.SGD(w, 0.01, 0.9, foreach=True)),
            ("adam", {}, lambda w: torch.optim.Adam(w, 0.001, foreach=True)),
        ):
            pair = ours(shapes, name, **settings), torchs(shapes, make)
            report(f"{name} {label}", *medians(*pair, repeat=repeat))
    small, large, theirs = medians(our_rows(10**4), our_rows(10**6), torch_rows(10**6), repeat=50)
    report("256 rows of 1e4", small, theirs)
    report("256 rows of 1e6", large, theirs)
    print(f"1e6 rows / 1e4 rows: {large / small:.2f}")


if __name__ == "__main__":
    main()
