"""Recurrent layers and losses against PyTorch and MXNet: `python benchmarks/rnn.py [--mxnet PYTHON] [--torch PYTHON]`.

The contenders take turns, each in a process of its own; the best time of each counts. With one thread it is the
processor's time, so that neighbours on the machine do not count; with more it is the clock's.

"floor" is what no program here can fall below: the multiplications at the rate of NumPy's largest product, and for
cross-entropy one pass of exponentials and one that writes the gradient, each in blocks on all threads.
"by hand" is the best program that we could write in NumPy for one shape alone, without any framework: `by_hand.py`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from timeit import timeit

LSTM = "LSTM(128), 50x32x64, forward + backward"
GRU = "GRU(100, 3), 5x3x10, forward + backward"
SHAPES = {LSTM: ("LSTM", 128, 1, (50, 32, 64)), GRU: ("GRU", 100, 3, (5, 3, 10))}
ENTROPY = "softmax cross-entropy, 512x10,000, forward + backward"
CTC = "CTC, 100 steps of 16 sequences, 30 classes, 20 letters, forward + backward"
WORDS = "word model: 10,000 words, 2 LSTM layers of 200, 35x20, one SGD step"

TARGETS = {  # row: the most that minigluon may take of the time of each
    **dict.fromkeys([*SHAPES, WORDS], {"torch": 0.9, "mxnet": 0.9}),
    ENTROPY: {"torch": 1.0, "mxnet": 0.3},
}
MULTIPLICATIONS = {  # forwards, and twice as many backwards: for the inputs and for the weights
    LSTM: 3 * 1600 * 512 * (64 + 128),
    GRU: 3 * 15 * 300 * (10 + 100 + 2 * 200),
    WORDS: 3 * 700 * (200 * 10000 + 2 * 800 * 400),
}


def best(step, seconds=1.5):
    """Milliseconds of the fastest of several calls."""
    clock = time.process_time if os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter
    step()
    number = max(3, min(50, int(seconds / timeit(step, number=1))))
    return min(timeit(step, number=1, timer=clock) for _ in range(number)) * 1e3


def gluon_layer(mx, kind, hidden, layers, shape):
    layer = getattr(rnn_of(mx), kind)(hidden, layers, input_size=shape[2])
    layer.initialize()
    x = mx.nd.random.normal(shape=shape)
    x.attach_grad()

    def step():
        with mx.autograd.record():
            y = layer(x)
        y.backward()
        x.grad.wait_to_read()
        layer.l0_i2h_weight.grad().wait_to_read()

    return step


def rnn_of(mx):
    import importlib

    return importlib.import_module(mx.gluon.__name__ + ".rnn")


def gluon_words(mx):
    nn, rnn = mx.gluon.nn, rnn_of(mx)
    table = mx.gluon.Parameter("table_weight", shape=(10000, 200))
    layer, decoder = rnn.LSTM(200, 2, input_size=200), nn.Dense(10000, in_units=200)
    for block in (table, layer, decoder):
        block.initialize()
    params = [table, *layer.collect_params().values(), *decoder.collect_params().values()]
    trainer = mx.gluon.Trainer(params, "sgd", {"learning_rate": 0.1})
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    x = mx.nd.floor(mx.nd.random.uniform(0, 10000, (35, 20)))
    y = mx.nd.floor(mx.nd.random.uniform(0, 10000, (700,)))
    state = layer.begin_state(20)

    def step():
        with mx.autograd.record():
            e = (
                mx.nd.take(table.data(), x)
                if not hasattr(mx.nd, "Embedding")
                else mx.nd.Embedding(x, table.data(), input_dim=10000, output_dim=200)
            )
            out, _ = layer(e, state)
            value = loss(decoder(out.reshape((-1, 200))), y)
        value.backward()
        trainer.step(700)
        mx.nd.waitall()

    return step


def gluon_losses(mx):
    """Steps of the two losses."""
    steps = {}
    z = mx.nd.random.normal(shape=(512, 10000))
    truth = mx.nd.floor(mx.nd.random.uniform(0, 10000, (512,)))
    frames = mx.nd.random.normal(shape=(100, 16, 30))
    letters = mx.nd.floor(mx.nd.random.uniform(1, 30, (16, 20)))
    entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    calls = {ENTROPY: (z, entropy, truth), CTC: (frames, mx.nd.CTCLoss, letters)}
    for name, (data, loss, label) in calls.items():
        data.attach_grad()

        def step(data=data, loss=loss, label=label):
            with mx.autograd.record():
                y = loss(data, label)
            y.backward()
            data.grad.wait_to_read()

        steps[name] = step
    return steps


def torch_losses(torch):
    """The same in PyTorch."""
    z, truth = torch.randn(512, 10000, requires_grad=True), torch.randint(10000, (512,))
    frames, letters = torch.randn(100, 16, 30, requires_grad=True), torch.randint(1, 30, (16, 20))
    f, lengths = torch.nn.functional, (torch.full((16,), 100), torch.full((16,), 20))

    def entropy():
        z.grad = None
        f.cross_entropy(z, truth).backward()

    def ctc():
        frames.grad = None
        f.ctc_loss(frames.log_softmax(2), letters, *lengths, reduction="sum").backward()

    return {ENTROPY: entropy, CTC: ctc}


def torch_steps(torch):
    nn = torch.nn
    steps = {}
    for name, (kind, hidden, layers, shape) in SHAPES.items():
        layer = getattr(nn, kind)(shape[2], hidden, layers)
        x = torch.randn(*shape, requires_grad=True)

        def whole(layer=layer, x=x):
            layer.zero_grad(set_to_none=True)
            x.grad = None
            layer(x)[0].sum().backward()

        steps[name] = whole
    table, layer, decoder = nn.Embedding(10000, 200), nn.LSTM(200, 200, 2), nn.Linear(200, 10000)
    params = [*table.parameters(), *layer.parameters(), *decoder.parameters()]
    trainer = torch.optim.SGD(params, 0.1)
    x, y = torch.randint(10000, (35, 20)), torch.randint(10000, (700,))

    def step():
        trainer.zero_grad()
        out, _ = layer(table(x))
        nn.functional.cross_entropy(decoder(out.reshape(-1, 200)), y).backward()
        trainer.step()

    return {**steps, WORDS: step, **torch_losses(torch)}


def floors(threads):
    """Milliseconds that the products, and cross-entropy's passes, take alone."""
    import numpy as np

    a, b, c = (np.ones(shape, "float32") for shape in ((2048, 1024), (1024, 1024), (2048, 1024)))
    rate = 2048 * 1024 * 1024 / best(lambda: np.matmul(a, b, out=c), 0.5)
    found = {row: number / rate for row, number in MULTIPLICATIONS.items()}
    z, e, g = (np.zeros((512, 10000), "float32") for _ in range(3))
    factors, blocks = np.ones((512, 1), "float32"), [slice(i, i + 32) for i in range(0, 512, 32)]
    with ThreadPoolExecutor(threads) as pool:

        def passes():
            list(pool.map(lambda at: np.exp(z[at], out=e[at]), blocks))
            list(pool.map(lambda at: np.multiply(e[at], factors[at], out=g[at]), blocks))

        found[ENTROPY] = best(passes, 0.5)
    found[WORDS] += found[ENTROPY] * 700 / 512
    return found


def steps_by_hand(threads):
    """The steps of `by_hand.py`, on threads of Python's."""
    import by_hand

    pool = ThreadPoolExecutor(threads)
    _, hidden, _, shape = SHAPES[LSTM]
    words = by_hand.Words(pool, threads)
    return {LSTM: by_hand.Lstm(pool, threads, hidden, shape).step, WORDS: words.step}


def contend(name):
    """Print the times of one contender as JSON."""
    if name == "floor":
        print(json.dumps(floors(int(os.environ["OMP_NUM_THREADS"]))))
        return
    if name == "by hand":
        steps = steps_by_hand(int(os.environ["OMP_NUM_THREADS"]))
    elif name == "torch":
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        steps = torch_steps(torch)
    else:
        if name == "mxnet":
            import numpy as np
            import numpy.ma  # before np.bool is bent

            np.bool = bool
            import mxnet as mx
        else:
            import minigluon as mx
        steps = {row: gluon_layer(mx, *case) for row, case in SHAPES.items()}
        steps |= {WORDS: gluon_words(mx), **gluon_losses(mx)}
    print(json.dumps({row: best(step) for row, step in steps.items()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON"))
    parser.add_argument("--torch", default=os.environ.get("TORCH_PYTHON", sys.executable))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--contender")
    args = parser.parse_args()
    if args.contender:
        contend(args.contender)
        return
    here = sys.executable
    pythons = {"minigluon": here, "by hand": here, "floor": here, "torch": args.torch}
    if args.mxnet:
        pythons["mxnet"] = args.mxnet
    env = {**os.environ, "OMP_NUM_THREADS": args.threads, "OPENBLAS_NUM_THREADS": args.threads}
    times = {}
    for _ in range(args.rounds):
        for name, python in pythons.items():
            own = {**env, "OPENBLAS_NUM_THREADS": "1"} if name == "by hand" else env
            done = subprocess.run(
                [python, __file__, "--contender", name], env=own, capture_output=True, text=True
            )
            if done.returncode:
                print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}")
                continue
            for row, ms in json.loads(done.stdout.splitlines()[-1]).items():
                times.setdefault(row, {}).setdefault(name, []).append(ms)
    times = {row: {n: min(ms) for n, ms in found.items()} for row, found in times.items()}
    for row, found in times.items():
        print(row, *[cell(row, name, found) for name in found], sep="\n    ")
    if args.json:
        clock = "the processor's" if args.threads == "1" else "wall"
        clock += f", ms, best of {args.rounds} rounds"
        report = {"threads": int(args.threads), "clock": clock, "ms": times, "targets": TARGETS}
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def cell(row, name, found):
    """One time, and what part of it minigluon takes."""
    ratio, most = found.get("minigluon", float("nan")) / found[name], TARGETS.get(row, {}).get(name)
    verdict = f", at most {most}: {'met' if ratio <= most else 'MISSED'}" if most else ""
    return f"{name:10} {found[name]:8.2f} ms ({ratio:.2f}{verdict})"


if __name__ == "__main__":
    main()
