"""The same small programs in one framework: `python contender.py NAME ROUNDS` prints JSON, in µs."""

import gc
import json
import sys
import timeit

import numpy as np

RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=16).astype("float32") for _ in range(2))
X = RNG.normal(size=(64, 64)).astype("float32")
LABELS = RNG.integers(0, 10, 64)
WEIGHTS = [
    (RNG.normal(size=shape) * 0.1).astype("float32")
    for shape in [(128, 64), (128,), (10, 128), (10,)]
]
CHAIN = 100


def microseconds(f, number, rounds):
    """Best of `rounds` runs of `number` calls, per call."""
    f()
    gc.collect()
    return min(timeit.repeat(f, number=number, repeat=rounds)) / number * 1e6


def numpy_programs():
    """The floor: the same arithmetic written by hand."""
    w1, b1, w2, b2 = (w.copy() for w in WEIGHTS)
    one_hot = np.eye(10, dtype="float32")[LABELS]

    def chain():
        y = A
        for _ in range(CHAIN):
            y = y * B
        g = np.ones_like(y)
        for _ in range(CHAIN):
            g = g * B

    def step():
        nonlocal w1, b1, w2, b2
        h = np.maximum(X @ w1.T + b1, 0)
        z = h @ w2.T + b2
        e = np.exp(z - z.max(1, keepdims=True))
        g = (e / e.sum(1, keepdims=True) - one_hot) / len(X)
        gh = (g @ w2) * (h > 0)
        for w, d in ((w2, g.T @ h), (b2, g.sum(0)), (w1, gh.T @ X), (b1, gh.sum(0))):
            w -= 0.01 * d

    return {"add": lambda: A + B, "recorded add": lambda: A + B, "chain": chain, "step": step}


def minigluon_programs():
    import minigluon as mx

    return gluon_programs(mx, lambda: None)


def mxnet_programs():
    np.bool = bool  # this release of MXNet still asks for it
    import mxnet as mx

    return gluon_programs(mx, mx.nd.waitall)


def gluon_programs(mx, wait):
    """The programs of either; `wait` until all is computed."""
    autograd, gluon = mx.autograd, mx.gluon
    a, b = mx.nd.array(A), mx.nd.array(B)
    b.attach_grad()

    def recorded():
        autograd.set_recording(True)
        return lambda: a + b

    def chain():
        with autograd.record():
            y = a
            for _ in range(CHAIN):
                y = y * b
        y.backward()
        wait()

    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(128, activation="relu"), gluon.nn.Dense(10))
    net.initialize()
    x, labels = mx.nd.array(X), mx.nd.array(LABELS)
    net(x)
    for p, w in zip(net.collect_params().values(), WEIGHTS):
        p.set_data(mx.nd.array(w))
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})

    def step():
        with autograd.record():
            value = loss(net(x), labels)
        value.backward()
        trainer.step(64)
        wait()

    return {"add": lambda: a + b, "recorded add": recorded, "chain": chain, "step": step}


def torch_programs():
    import os

    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    a, b = torch.tensor(A), torch.tensor(B)
    c = torch.tensor(B, requires_grad=True)

    def chain():
        y = a
        for _ in range(CHAIN):
            y = y * c
        c.grad = None
        y.backward(torch.ones_like(y))

    net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    x, labels = torch.tensor(X), torch.tensor(LABELS)
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        loss(net(x), labels).backward()
        optimizer.step()

    return {"add": lambda: a + b, "recorded add": lambda: a + c, "chain": chain, "step": step}


def main():
    name, rounds = sys.argv[1], int(sys.argv[2])
    programs = globals()[f"{name}_programs"]()
    result = {}
    for program, number in [("add", 5000), ("chain", 50), ("step", 100), ("recorded add", 5000)]:
        f = programs[program]
        if program == "recorded add" and name in ("minigluon", "mxnet"):
            f = f()
        result[program] = microseconds(f, number, rounds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
