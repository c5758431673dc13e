"""Whole networks, hybridized and not, against PyTorch and MXNet: `python benchmarks/hybrid.py`.

A training step (forward, backward, update) of a perceptron 784-256-128-10 at batch 64 and 1024 with SGD, and
of a transformer of 2 layers (256 units, 4 heads, 8 x 64 tokens) with Adam; the perceptron's answer to one
sample; and the time to trace a network of 50 layers. PyTorch runs eagerly, MXNet hybridized. The contenders
take turns, each in a process of its own, and the best time of each counts: only ratios within one run mean
something. "products" is the time of the step's matrix products alone.

All contenders get the same number of threads, two by default as the machine has two cores. Where other programs
run beside, two threads wait for each other and the figures say nothing: then use `--threads 1 --cpu`, which
counts the processor's time instead of the clock's.
"""

import argparse
import json
import math
import os
import sys
import time
import timeit
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(0)
TARGETS = {  # program: the most that minigluon, hybridized, may take of PyTorch's time
    "perceptron, batch 64": 0.8,
    "perceptron, batch 1024": 0.9,
    "transformer": 0.8,
    "inference, batch 1": 1.0,
}
UNITS, HEADS, BATCH, TOKENS, LAYERS = 256, 4, 8, 64, 2


def batch_of(size):
    x = RNG.normal(size=(size, 784)).astype("float32")
    return x, RNG.integers(0, 10, size).astype("float32")


def gluon_programs(mx, hybridize):
    """The programs in Gluon, which runs here and in MXNet."""
    from importlib import import_module

    gluon = import_module(f"{mx.__name__}.gluon")
    nn = import_module(f"{mx.__name__}.gluon.nn")
    autograd = import_module(f"{mx.__name__}.autograd")

    def perceptron():
        net = nn.HybridSequential()
        net.add(nn.Dense(256, activation="relu"), nn.Dense(128, activation="relu"), nn.Dense(10))
        return net

    class Layer(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.qkv, self.out = (
                    nn.Dense(3 * UNITS, flatten=False),
                    nn.Dense(UNITS, flatten=False),
                )
                self.up = nn.Dense(4 * UNITS, activation="relu", flatten=False)
                self.down = nn.Dense(UNITS, flatten=False)
                self.norm1, self.norm2 = nn.LayerNorm(), nn.LayerNorm()

        def hybrid_forward(self, F, x):
            parts = F.split(self.qkv(self.norm1(x)), num_outputs=3, axis=-1)
            q, k, v = [
                F.transpose(F.reshape(p, shape=(0, 0, HEADS, -1)), axes=(0, 2, 1, 3)) for p in parts
            ]
            q, k, v = [F.reshape(p, shape=(-3, 0, 0)) for p in (q, k, v)]
            scores = F.batch_dot(q, k, transpose_b=True) / math.sqrt(UNITS / HEADS)
            y = F.batch_dot(F.softmax(scores), v)
            y = F.transpose(F.reshape(y, shape=(-4, -1, HEADS, 0, 0)), axes=(0, 2, 1, 3))
            x = x + self.out(F.reshape(y, shape=(0, 0, -3)))
            return x + self.down(self.up(self.norm2(x)))

    def training(net, x, y, optimizer, loss):
        net.initialize(mx.init.Xavier())
        if hybridize:
            net.hybridize()
            loss.hybridize()
        x, y = mx.nd.array(x), mx.nd.array(y)
        trainer = gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 1e-3})

        def step():
            with autograd.record():
                value = loss(net(x), y)
            value.backward()
            trainer.step(len(x))
            mx.nd.waitall()

        return step

    def transformer():
        net = nn.HybridSequential()
        net.add(*[Layer() for _ in range(LAYERS)])
        x = RNG.normal(size=(BATCH, TOKENS, UNITS)).astype("float32")
        return training(net, x, 0 * x, "adam", gluon.loss.L2Loss())

    def inference():
        net = perceptron()
        net.initialize()
        if hybridize:
            net.hybridize()
        x = mx.nd.array(batch_of(1)[0])
        return lambda: net(x).asnumpy()

    def tracing():
        x = mx.nd.array(batch_of(1)[0])

        def first_call():
            net = nn.HybridSequential()
            net.add(*[nn.Dense(64, activation="relu") for _ in range(50)])
            net.initialize()
            net.hybridize(hybridize)
            with autograd.record():
                net(x).backward()
            mx.nd.waitall()

        return first_call

    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss
    return {
        "perceptron, batch 64": training(perceptron(), *batch_of(64), "sgd", cross_entropy()),
        "perceptron, batch 1024": training(perceptron(), *batch_of(1024), "sgd", cross_entropy()),
        **({"transformer": transformer()} if hasattr(nn, "LayerNorm") else {}),
        "inference, batch 1": inference(),
        "first call of 50 layers": tracing(),
    }


def torch_programs():
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def perceptron():
        return nn.Sequential(
            *(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
        )

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(UNITS, 3 * UNITS), nn.Linear(UNITS, UNITS)
            self.up, self.down = nn.Linear(UNITS, 4 * UNITS), nn.Linear(4 * UNITS, UNITS)
            self.norm1, self.norm2 = nn.LayerNorm(UNITS), nn.LayerNorm(UNITS)

        def forward(self, x):
            n, t, _ = x.shape
            q, k, v = [
                p.reshape(n, t, HEADS, -1).transpose(1, 2)
                for p in self.qkv(self.norm1(x)).chunk(3, -1)
            ]
            scores = q @ k.transpose(-1, -2) / math.sqrt(UNITS / HEADS)
            y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, -1)
            x = x + self.out(y)
            return x + self.down(torch.relu(self.up(self.norm2(x))))

    def training(net, x, y, optimizer, loss):
        optimizer, x, y = optimizer(net.parameters(), lr=1e-3), torch.tensor(x), torch.tensor(y)

        def step():
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()

        return step

    def inference():
        net, x = perceptron(), torch.tensor(batch_of(1)[0])

        def answer():
            with torch.no_grad():
                return net(x).numpy()

        return answer

    found = {}
    for size in (64, 1024):
        x, y = batch_of(size)
        loss, sgd = nn.CrossEntropyLoss(), torch.optim.SGD
        found[f"perceptron, batch {size}"] = training(perceptron(), x, y.astype(int), sgd, loss)
    x = RNG.normal(size=(BATCH, TOKENS, UNITS)).astype("float32")
    net = nn.Sequential(*[Layer() for _ in range(LAYERS)])
    found["transformer"] = training(net, x, 0 * x, torch.optim.Adam, nn.MSELoss())
    return {**found, "inference, batch 1": inference()}


def hand_programs():
    """The perceptrons' steps written by hand in NumPy: kept arrays, activations by columns."""

    def training(x, y):
        n, rows, ones = len(x), np.arange(len(x)), np.ones(len(x), "float32")
        sizes = [(256, 784), (128, 256), (10, 128)]
        weights = [RNG.normal(0, 0.05, s).astype("float32") for s in sizes]
        biases = [np.zeros(s[0], "float32") for s in sizes]
        grads, bias_grads = ([np.empty_like(a) for a in kept] for kept in (weights, biases))
        hidden, back, zeros = (
            [np.zeros((s[0], n), "float32") for s in sizes[:2]] for _ in range(3)
        )
        y = y.astype(int)

        def forward():
            h = x
            for w, b, t, zero in zip(weights, biases, hidden, zeros):
                np.matmul(w, h.T, out=t)
                t += b[:, None]
                h = np.maximum(t, zero, out=t).T
            return h @ weights[2].T + biases[2]

        def step():
            z = forward()
            z -= z.max(1, keepdims=True)
            g = np.exp(z, out=z)
            g /= g.sum(1, keepdims=True)
            loss = -np.log(g[rows, y])
            g[rows, y] -= 1
            for i in (2, 1, 0):
                np.matmul(g.T, hidden[i - 1].T if i else x, out=grads[i])
                np.matmul(ones, g, out=bias_grads[i])
                if i:
                    np.matmul(weights[i].T, g.T, out=back[i - 1])
                    g = np.multiply(back[i - 1], hidden[i - 1] > 0, out=back[i - 1]).T
            for a, d in zip(weights + biases, grads + bias_grads):
                d *= 1e-3 / n
                a -= d
            return loss

        return step

    return {f"perceptron, batch {size}": training(*batch_of(size)) for size in (64, 1024)}


def product_programs():
    """The products of a training step alone, in kept arrays:
    what no program of this library's can go below.
    """

    def layer(m, k, n, data=True):
        x, w, g = (RNG.normal(size=s).astype("float32") for s in ((m, k), (n, k), (m, n)))
        y, dw, dx = (
            np.empty((n, m) if m < n else (m, n), "float32"),
            np.empty_like(w),
            np.empty_like(x),
        )

        def run():
            np.matmul(*((w, x.T) if m < n else (x, w.T)), out=y)
            np.matmul(g.T, x, out=dw)
            if data:
                np.matmul(g, w, out=dx)

        return run

    def attention():
        shape = BATCH * HEADS, TOKENS, UNITS // HEADS
        a, b = (RNG.normal(size=shape).astype("float32") for _ in range(2))
        out = np.empty((BATCH * HEADS, TOKENS, TOKENS), "float32")
        return lambda: [np.matmul(a, b.swapaxes(1, 2), out=out) for _ in range(6)]

    def all_of(parts):
        return lambda: [run() for run in parts]

    found = {}
    for size in (64, 1024):
        sizes = ((size, 784, 256, False), (size, 256, 128), (size, 128, 10))
        found[f"perceptron, batch {size}"] = all_of([layer(*s) for s in sizes])
    rows = BATCH * TOKENS
    sizes = ((UNITS, 3 * UNITS), (UNITS, UNITS), (UNITS, 4 * UNITS), (4 * UNITS, UNITS))
    layers = [layer(rows, *s) for s in sizes * LAYERS]
    return {**found, "transformer": all_of(layers + [attention() for _ in range(LAYERS)])}


def programs_of(name):
    if name == "torch":
        return torch_programs()
    if name == "by hand":
        return hand_programs()
    if name == "products":
        return product_programs()
    if name == "mxnet":
        np.bool = bool  # this release of MXNet still asks for it
        import mxnet as mx
    else:
        import minigluon as mx
    return gluon_programs(mx, name != "eager")


def measure(name, seconds=0.4, cpu=False):
    """{program: µs a call}, the best of many runs; with `cpu` of the processor's time."""
    found, clock = {}, {"timer": time.process_time if cpu else time.perf_counter}
    for program, f in programs_of(name).items():
        f(), f()
        number = max(1, int(0.02 / timeit.timeit(f, number=1)))
        rounds = max(3, int(seconds / (number * timeit.timeit(f, number=1))))
        found[program] = min(timeit.repeat(f, number=number, repeat=rounds, **clock)) / number * 1e6
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default=os.environ.get("TORCH_PYTHON", sys.executable))
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON", sys.executable))
    parser.add_argument("--rounds", type=int, default=4, help="turns of each contender")
    parser.add_argument("--threads", type=int, default=2, help="threads of the math libraries")
    parser.add_argument("--cpu", action="store_true", help="count the processor's time")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, cpu=args.cpu)))
        return
    from run import has, run

    pythons = dict.fromkeys(("hybridized", "eager", "by hand", "products"), sys.executable)
    for name in ("torch", "mxnet"):
        if has(getattr(args, name), name):
            pythons[name] = getattr(args, name)
        else:
            print(f"{name} is not installed for {Path(getattr(args, name)).name}: left out")
    times = {}
    for _ in range(args.rounds):
        for name, python in pythons.items():
            command = [str(Path(__file__)), "--only", name, *["--cpu"] * args.cpu]
            found = json.loads(run(python, command, args.threads))
            for program, us in found.items():
                row = times.setdefault(program, {})
                row[name] = min(us, row.get(name, math.inf))
    report(times, list(pythons), args.threads)
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "us": times}, indent=1) + "\n")


def report(times, names, threads):
    """Print the table."""
    print(f"\nµs a call, best of all rounds, {threads} thread(s)\n")
    print(f"{'':26}" + "".join(f"{n:>12}" for n in names) + "   hybridized/PyTorch")
    for program, row in times.items():
        cells = "".join(f"{row[n]:12.0f}" if n in row else f"{'':12}" for n in names)
        verdict = ""
        if {"torch", "hybridized"} <= {*row}:
            ratio, most = row["hybridized"] / row["torch"], TARGETS[program]
            verdict = f"{ratio:5.2f} (at most {most}: {'met' if ratio <= most else 'MISSED'})"
        print(f"{program:26}{cells}   {verdict}")


if __name__ == "__main__":
    main()
