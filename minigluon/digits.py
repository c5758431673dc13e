"""All chapters in one program: a network made of our own parts learns real handwritten digits."""

# Written from chapters/90_digits.ipynb: edit the chapter, then run `minigluon export`.

import argparse
import importlib
import math
import os
from pathlib import Path

import numpy as np

import minigluon as mx
from minigluon import autograd, gluon
from minigluon.gluon import nn

__all__ = [
    "Reader",
    "above",
    "accuracy",
    "draw",
    "draw_curve",
    "draw_digits",
    "learn",
    "load",
    "main",
    "missing_package",
    "next_step",
    "parser",
    "rescanned",
    "train_epoch",
    "unwritable",
]


# --- Data -----------------------------------------------------------------------------------------


def load(seed=0, held_out=450):
    """Training and held-out digits as two datasets of (64 numbers from 0 to 1, class)."""
    from sklearn.datasets import load_digits

    pixels, truth = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))
    x, y = (pixels[order] / 16).astype("float32"), truth[order].astype("float32")
    return (
        gluon.data.ArrayDataset(x[held_out:], y[held_out:]),
        gluon.data.ArrayDataset(x[:held_out], y[:held_out]),
    )


def rescanned(x, noise=0.3):
    """The pixels with fresh normal noise, as from another scan."""
    return (x + noise * np.random.normal(size=x.shape)).astype("float32")


# --- The network ----------------------------------------------------------------------------------


class Reader(gluon.Block):
    """64 pixels to the scores of ten digits."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.hidden = nn.Dense(128, activation="relu")
            self.scores = nn.Dense(10)

    def forward(self, x):
        return self.scores(self.hidden(x))


# --- Training -------------------------------------------------------------------------------------


def train_epoch(net, batches, trainer, loss):
    """One pass over the batches; the mean loss of a sample."""
    total, count = 0.0, 0
    for x, y in batches:
        with autograd.record():
            value = loss(net(x), y)
        value.backward()
        trainer.step(len(x))
        total += float(value.sum())
        count += len(x)
    return total / count


def accuracy(net, dataset):
    """The share of a dataset's samples that the network reads rightly."""
    metric = mx.metric.Accuracy()
    for x, y in gluon.data.DataLoader(dataset, batch_size=256):
        metric.update(y, net(x))
    return metric.get()[1]


def learn(epochs=60, batch_size=64, lr=0.1, seed=0, progress=lambda steps: steps):
    """Train a Reader; the network, the held-out dataset, and (loss, accuracy) of each epoch."""
    mx.random.seed(seed)
    np.random.seed(seed)  # the order of the batches
    train, held_out = load(seed)
    net = Reader()
    net.initialize(mx.init.Xavier())
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    settings = {"learning_rate": lr, "momentum": 0.9}
    trainer = gluon.Trainer(net.collect_params(), "sgd", settings)
    batches = gluon.data.DataLoader(train.transform_first(rescanned), batch_size, shuffle=True)
    history = []
    for epoch in progress(range(epochs)):
        trainer.set_learning_rate(lr * (1 - epoch / epochs))
        mean_loss = train_epoch(net, batches, trainer, loss)
        history.append((mean_loss, accuracy(net, held_out)))
    return net, held_out, history


# --- The picture ----------------------------------------------------------------------------------


def draw(net, held_out, history):
    """A figure: loss and accuracy an epoch, and the sixteen most doubtful held-out digits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=80, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.2])
    draw_curve(left.subplots(), history)
    draw_digits(right, net, held_out)
    return figure


def draw_curve(axis, history):
    """Loss and accuracy over the epochs."""
    losses, accuracies = zip(*history)
    epochs = range(1, len(history) + 1)
    axis.plot(epochs, losses, label="training loss")
    axis.plot(epochs, [1 - a for a in accuracies], label="held-out error")
    axis.set(xlabel="epoch", yscale="log", title=f"held-out accuracy {accuracies[-1]:.1%}")
    axis.legend()


def draw_digits(figure, net, held_out):
    """The most doubtful digits: wrong ones first, in red."""
    x, y = held_out[:]
    p = mx.nd.softmax(net(mx.nd.array(x))).asnumpy()
    certainty = p[np.arange(len(y)), y.astype(int)]
    figure.suptitle("least certain: read → true")
    axes = figure.subplots(2, 8)
    for axis, i in zip(axes.ravel(), certainty.argsort()):
        read, true = p[i].argmax(), int(y[i])
        axis.imshow(x[i].reshape(8, 8), cmap="gray_r")
        axis.set_title(
            f"{read} → {true}", color="black" if read == true else "crimson", fontsize=10
        )
        axis.axis("off")


# --- The command ----------------------------------------------------------------------------------


def main(argv=None):
    """`python -m minigluon [digits]`: train, report, draw; the exit status."""
    top = parser()
    options = top.parse_args(argv)
    if problem := missing_package() or unwritable(options.out):
        top.error(problem)
    from tqdm import tqdm

    net, held_out, history = learn(
        options.epochs,
        options.batch_size,
        options.lr,
        options.seed,
        lambda epochs: tqdm(epochs, desc="learning to read", unit="epoch"),
    )
    draw(net, held_out, history).savefig(options.out)
    print(f"held-out accuracy: {history[-1][1]:.1%} of {len(held_out)} digits")
    print(f"picture: {options.out}")
    print(next_step())
    return 0


def parser():
    """The options of the program."""
    top = argparse.ArgumentParser(
        "minigluon digits", description="Learn to read handwritten digits."
    )
    top.add_argument("--epochs", type=above(int, 0), default=60)
    top.add_argument("--batch-size", type=above(int, 0), default=64)
    top.add_argument("--lr", type=above(float, 0), default=0.1, help="learning rate")
    top.add_argument("--seed", type=above(int, -1, 2**32), default=0)
    top.add_argument("--out", type=Path, default=Path("digits.png"), help="where the picture goes")
    return top


def above(kind, low, high=math.inf):
    """A converter for argparse that refuses what is not above `low` and below `high`."""

    def number(text):
        value = kind(text)
        if not value > low:
            raise argparse.ArgumentTypeError(f"{text} is not above {low}")
        if not value < high:
            raise argparse.ArgumentTypeError(f"{text} is not below {high}")
        return value

    number.__name__ = kind.__name__  # for argparse's message about other text
    return number


def missing_package():
    """What to do if a package is missing that the core does not need but this program does."""
    needed = {"sklearn.datasets": "scikit-learn", "matplotlib.figure": "matplotlib", "tqdm": "tqdm"}
    for module, package in needed.items():
        try:
            importlib.import_module(module)
        except ImportError:
            return f"{package} is missing. Run: pip install 'minigluon[learn]'"
    return None


def unwritable(path):
    """Why a picture cannot be saved at `path`; None if it can."""
    from matplotlib.figure import Figure

    kinds = Figure().canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if path.is_dir():
        return f"--out {path} is a folder: give the name of a file"
    if not path.parent.is_dir():
        return f"--out {path}: there is no folder {path.parent}"
    if kind and kind not in kinds:
        return f"--out {path}: the name must end in one of {', '.join(sorted(kinds))}"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return f"--out {path} cannot be written to"
    return None


def next_step():
    """What to do next: open the tour, if the chapters are here."""
    tour = Path("chapters") / "00_tour.ipynb"
    if tour.exists():
        return f"read how it works: jupyter lab {tour}"
    return "read how it works: the chapters are in the source distribution, in chapters/"
