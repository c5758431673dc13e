"""ToTensor and Normalize on a batch of pictures, beside the same in PyTorch: `python benchmarks/transforms.py`."""

import timeit

import numpy as np

import minigluon as mx
from minigluon.gluon.data.vision import transforms as T

SHAPES = {
    "MNIST, 256": (256, 28, 28, 1),
    "CIFAR, 128": (128, 32, 32, 3),
    "photograph": (1, 224, 224, 3),
}


def best(f):
    """The least of several times, in microseconds."""
    n = max(1, int(0.05 / timeit.timeit(f, number=2) * 2))
    return min(timeit.repeat(f, number=n, repeat=7)) / n * 1e6


def main():
    try:
        import torch
    except ImportError:
        torch = None
    steps = T.Compose([T.ToTensor(), T.Normalize(0.13, 0.31)])
    for name, shape in SHAPES.items():
        raw = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
        ours = mx.nd.array(raw, dtype="uint8")
        line = f"{name:12s} minigluon {best(lambda x=ours: steps(x)):8.0f} us"
        if torch is not None:
            torch.set_num_threads(1)
            theirs = torch.from_numpy(raw)

            def same(x=theirs):
                return x.permute(0, 3, 1, 2).contiguous().float().div(255).sub_(0.13).div_(0.31)

            line += f"   torch {best(same):8.0f} us"
        print(line)


if __name__ == "__main__":
    main()
