"""Training steps of networks against PyTorch and MXNet in one run: `python benchmarks/networks.py`.

The contenders take turns, each in a process of its own; the best time of each counts. Prints, for LeNet, ResNet-18 and
one convolution, milliseconds of a step, ratios, and the memory that the process had at most. Name the other
interpreters with --torch and --mxnet, or TORCH_PYTHON and MXNET_PYTHON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

ROWS = {
    "convolution": "3 x 3, 64 -> 64, on 16 x 64 x 32 x 32: forward and backward",
    "lenet": "LeNet, batch 64 of 1 x 28 x 28: forward, backward, SGD",
    "resnet18": "ResNet-18 for 32 x 32, batch 16: forward, backward, SGD",
    "resnet18 wide": "ResNet-18 for 224 x 224, on 32 x 32, batch 16: the same",
}
TARGETS = {"torch": 1.0, "mxnet": 0.9}


def arrays(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def lenet(nn):
    """With Gluon's layers."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(20, 5, activation="relu"), nn.MaxPool2D(2, 2))
    net.add(nn.Conv2D(50, 5, activation="relu"), nn.MaxPool2D(2, 2))
    net.add(nn.Dense(500, activation="relu"), nn.Dense(10))
    return net


def gluon_programs(mx):
    """Steps with Gluon's API, here or in MXNet."""
    from importlib import import_module

    vision = import_module(f"{mx.__name__}.gluon.model_zoo.vision")
    wait = mx.nd.waitall

    def convolution():
        layer = mx.gluon.nn.Conv2D(64, 3, padding=1, in_channels=64, use_bias=False)
        layer.initialize()
        layer.hybridize(static_alloc=True, static_shape=True)
        x, g = mx.nd.array(arrays(16, 64, 32, 32)), mx.nd.array(arrays(16, 64, 32, 32))
        x.attach_grad()

        def step():
            with mx.autograd.record():
                y = layer(x)
            y.backward(g)
            wait()

        return step

    def trained(net, x, rate):
        net.initialize(mx.init.Xavier())
        net.hybridize(static_alloc=True, static_shape=True)
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
        x, y = mx.nd.array(x), mx.nd.array(np.arange(len(x)) % 10)
        net(x)
        trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": rate})

        def step():
            with mx.autograd.record():
                value = loss(net(x), y)
            value.backward()
            trainer.step(len(x))
            wait()

        return step

    small = arrays(16, 3, 32, 32)
    return {
        "convolution": convolution,
        "lenet": lambda: trained(lenet(mx.gluon.nn), arrays(64, 1, 28, 28), 1e-3),
        "resnet18": lambda: trained(vision.resnet18_v1(classes=10, thumbnail=True), small, 1e-3),
        "resnet18 wide": lambda: trained(vision.resnet18_v1(classes=10), small, 1e-3),
    }


def torch_programs(threads):
    """The same steps in PyTorch, eager."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.two = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
            self.round = None
            if stride > 1:
                self.round = nn.Sequential(
                    nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
                )

        def forward(self, x):
            y = self.norms[1](self.two(F.relu(self.norms[0](self.one(x)))))
            return F.relu(y + (x if self.round is None else self.round(x)))

    def resnet(thumbnail):
        if thumbnail:
            stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False)]
        else:
            stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
            stem.append(nn.MaxPool2d(3, 2, 1))
        sizes = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        body = [Block(b, a, s) if i == 0 else Block(a, a, 1) for b, a, s in sizes for i in (0, 1)]
        return nn.Sequential(
            *stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)
        )

    def convolution():
        layer = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        x, g = torch.tensor(arrays(16, 64, 32, 32)), torch.tensor(arrays(16, 64, 32, 32))
        x.requires_grad_()

        def step():
            x.grad = layer.weight.grad = None
            layer(x).backward(g)

        return step

    def trained(net, x):
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        x, y = torch.tensor(x), torch.tensor(np.arange(len(x)) % 10)

        def step():
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

        return step

    def small_lenet():
        return nn.Sequential(
            *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
        )

    pictures = arrays(16, 3, 32, 32)
    return {
        "convolution": convolution,
        "lenet": lambda: trained(small_lenet(), arrays(64, 1, 28, 28)),
        "resnet18": lambda: trained(resnet(True), pictures),
        "resnet18 wide": lambda: trained(resnet(False), pictures),
    }


def contender(name, row, threads, seconds):
    """Measure one program: milliseconds of the wall and of the processor, and the peak of memory."""
    if name == "torch":
        programs = torch_programs(threads)
    elif name == "mxnet":
        np.bool = bool  # this release of MXNet still asks for it
        import mxnet

        programs = gluon_programs(mxnet)
    else:
        import minigluon

        programs = gluon_programs(minigluon)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = programs[row]()
    for _ in range(3):
        step()
    walls, cpus, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(walls) < 5:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [min(walls) * 1e3, min(cpus) * 1e3, peak / 1024, (peak - before) / 1024]


def run(python, arguments, threads):
    """One contender in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [python, __file__, *arguments], capture_output=True, text=True, env=env, check=False
    )
    if done.returncode:
        sys.exit(f"{python} {arguments} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default=os.environ.get("TORCH_PYTHON"))
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(contender(*args.one, args.threads, args.seconds)))
        return
    pythons = {"minigluon": sys.executable, "torch": args.torch, "mxnet": args.mxnet}
    pythons = {name: python for name, python in pythons.items() if python}
    print(
        f"{args.threads} threads; milliseconds (of the processor), "
        "MiB at the peak (without the libraries)"
    )
    for row in args.rows:
        best = {}
        for _ in range(args.rounds):
            for name, python in pythons.items():
                settings = ["--threads", str(args.threads), "--seconds", str(args.seconds)]
                found = run(python, ["--one", name, row, *settings], args.threads)
                best[name] = [min(pair) for pair in zip(found, best.get(name, found))]
        print(ROWS[row])
        own = best["minigluon"]
        for name, (wall, cpu, peak, more) in best.items():
            line = f"  {name:10}{wall:9.2f} ({cpu:8.2f}) {peak:7.0f} ({more:5.0f})"
            if name in TARGETS:
                met = "met" if own[0] <= TARGETS[name] * wall else "MISSED"
                line += f"   {own[0] / wall:5.2f} (cpu {own[1] / cpu:4.2f}): at most {TARGETS[name]} {met}"
                line += f"; memory {own[2] / peak:.2f} ({own[3] / max(more, 1):.2f})"
            print(line, flush=True)


if __name__ == "__main__":
    main()
