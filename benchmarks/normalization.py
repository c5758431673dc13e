"""Normalization, dropout and gelu, forward and backward, against PyTorch: `python benchmarks/normalization.py`.

Prints for each layer the milliseconds of a call here and there, the best of several, and their ratio.
"""

import sys
import time

import numpy as np
import torch

import minigluon as mx
from minigluon import autograd, nd
from minigluon.gluon import nn

IMAGES, ROWS = (32, 64, 32, 32), (4096, 256)
CASES = {
    "BatchNorm": (IMAGES, lambda: nn.BatchNorm(in_channels=64), lambda: torch.nn.BatchNorm2d(64)),
    "LayerNorm": (ROWS, lambda: nn.LayerNorm(in_channels=256), lambda: torch.nn.LayerNorm(256)),
    "GroupNorm": (IMAGES, lambda: nn.GroupNorm(8), lambda: torch.nn.GroupNorm(8, 64)),
    "InstanceNorm": (
        IMAGES,
        lambda: nn.InstanceNorm(in_channels=64, scale=True),
        lambda: torch.nn.InstanceNorm2d(64, affine=True),
    ),
    "Dropout": (ROWS, lambda: nn.Dropout(0.5), lambda: torch.nn.Dropout(0.5)),
    "Dropout images": (IMAGES, lambda: nn.Dropout(0.5), lambda: torch.nn.Dropout(0.5)),
    "GELU": (ROWS, nn.GELU, torch.nn.GELU),
    "GELU images": (IMAGES, nn.GELU, torch.nn.GELU),
    "SELU": (ROWS, nn.SELU, torch.nn.SELU),
}


def ours(make, x, g):
    """A step here."""
    layer, x, g = make(), nd.array(x), nd.array(g)
    layer.initialize()
    x.attach_grad()

    def step():
        with autograd.record():
            y = layer(x)
        y.backward(g)

    return step


def theirs(make, x, g):
    """The same step there."""
    layer, x, g = make(), torch.tensor(x, requires_grad=True), torch.tensor(g)

    def step():
        x.grad = None
        layer(x).backward(g)

    return step


def best(steps, seconds=1.5):
    """The shortest time of each step, measured in turn."""
    found, end = [[] for _ in steps], time.perf_counter() + seconds
    for step in steps:
        step()
    while time.perf_counter() < end:
        for times, step in zip(found, steps):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return [min(times) for times in found]


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    mx.random.seed(0)
    rng = np.random.default_rng(0)
    for name, (shape, here, there) in CASES.items():
        x, g = (rng.normal(size=shape).astype("float32") for _ in range(2))
        mine, other = best([ours(here, x, g), theirs(there, x, g)])
        print(
            f"{name:15} {mine * 1e3:6.1f} ms, PyTorch {other * 1e3:6.1f} ms, ratio {mine / other:.2f}"
        )


if __name__ == "__main__":
    main()
