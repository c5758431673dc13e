"""Time optimizer steps here and in PyTorch: `python benchmarks/optimizers.py [--json FILE]`.

Dense steps of 100 parameters of 100,000 numbers, a small network's step, and row-sparse steps. The sides
take turns, each in a process of its own, with as many threads; the best time of each counts: by the clock,
and of the processor, which other programs on the machine disturb less. PyTorch has three ways: its default,
`foreach`, and `fused`, a C++ kernel that makes a single pass over the numbers.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import minigluon as mx
from minigluon.ops import optimizer as ops

ROUNDS, TURNS = 12, 4
WAYS = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
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
    """Name, program and how often to repeat it, for one side: 'here' or one of PyTorch's ways."""
    for shapes, label, repeat in (
        ([(100_000,)] * 100, "100 x 1e5", 1),
        (MLP, "784-256-128-10", 20),
    ):
        for name, settings, make in (
            ("sgd", {"momentum": 0.9}, lambda w: torch.optim.SGD(w, 0.01, 0.9, **WAYS[side])),
            ("adam", {}, lambda w: torch.optim.Adam(w, 0.001, **WAYS[side])),
        ):
            here = side == "here"
            step = ours(shapes, name, **settings) if here else torchs(shapes, make)
            yield f"{name} {label}", step, repeat
    if side in ("here", "default"):
        for n in (10**4, 10**6):
            yield f"256 rows of {n:.0e}", (our_rows if side == "here" else torch_rows)(n), 50


def best(step, repeat):
    """The shortest time of a step in microseconds: by the clock, and of the processor."""
    step()
    wall, processor = [], []
    for _ in range(ROUNDS):
        begin, busy = time.perf_counter(), time.process_time()
        for _ in range(repeat):
            step()
        wall.append((time.perf_counter() - begin) / repeat * 1e6)
        processor.append((time.process_time() - busy) / repeat * 1e6)
    return min(wall), min(processor)


def ask(side, threads):
    """The times of one side, in a process of its own: idle threads of one would slow the other."""
    command = [sys.executable, __file__, "--side", side, "--threads", str(threads)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def compare(threads):
    """The best times of all sides, {program: {side: (wall, processor)}}."""
    times = {}
    for _ in range(TURNS):
        for side in ("here", *WAYS):
            for name, found in ask(side, threads).items():
                known = times.setdefault(name, {})
                known[side] = [min(pair) for pair in zip(found, known.get(side, found))]
    return times


def report(times):
    """Print the table: times, and ours as a multiple of PyTorch's."""
    for name, found in times.items():
        wall, processor = found["here"]
        print(f"{name:20} {wall:7.0f} µs, processor {processor:7.0f}")
        for way in (way for way in WAYS if way in found):
            w, p = found[way]
            print(
                f"{way:>20} {w:7.0f} ({wall / w:4.2f}), processor {p:7.0f} ({processor / p:4.2f})"
            )
    few, many = (times[f"256 rows of {n:.0e}"]["here"][0] for n in (10**4, 10**6))
    print(f"256 rows of a million cost {many / few:.2f} of what they cost of ten thousand")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=ops.WORKERS)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--side", choices=["here", *WAYS], help="time one side only, print JSON")
    args = parser.parse_args()
    ops.WORKERS = args.threads
    torch.set_num_threads(args.threads)
    if args.side:
        print(json.dumps({n: best(step, r) for n, step, r in programs(args.side)}))
        return
    times = compare(args.threads)
    report(times)
    if args.json:
        about = {"torch": torch.__version__, "numpy": np.__version__, "threads": args.threads}
        args.json.write_text(json.dumps({**about, "us": times}, indent=1) + "\n")


if __name__ == "__main__":
    main()
