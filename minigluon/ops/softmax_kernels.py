"""An operator is given a kernel of its own by one decorator; the first is softmax, which should cost two walks over memory."""

# Written from chapters/93_kernels.ipynb: edit the chapter, then run `minigluon export`.

from functools import partial

import numpy as np

from minigluon.context import each_run, notes
from minigluon.kernels import MORE, VECTORS, Kernels, cuda, dense, fits, flag, row_launch, width
from minigluon.op import operator
from minigluon.ops.elementwise import cast_like, exp
from minigluon.ops.loss import (
    cross_entropy_back,
    overestimate,
    sparse_softmax_cross_entropy,
    wrong_label,
)
from minigluon.ops.reduce import dotted, log_softmax, scaled, softmax, sum

__all__ = [
    "alarm",
    "alarms",
    "armed",
    "by",
    "cross_entropy_rows",
    "kernels",
    "log_softmax",
    "log_softmax_back",
    "raise_alarm",
    "softmax",
    "softmax_back",
    "softmax_rows",
    "softmax_rows_back",
]


# --- Softmax --------------------------------------------------------------------------------------

kernels = Kernels(
    "softmax",
    [
        f"{k}<{t}, {v}, {b}>"
        for k in ("softmax", "softmax_back")
        for t, v in VECTORS
        for b in ("true", "false")
    ]
    + [f"{k}<{t}, {v}>" for k in ("cross_entropy", "cross_entropy_back") for t, v in VECTORS],
)


def softmax_rows(log, data, length=None, *, axis, temperature, dtype, use_length):
    """Softmax of an array on a GPU, or its logarithm."""
    found = fits(data, axis)
    if found is None or length is not None or use_length or dtype not in (None, data.dtype):
        return NotImplemented
    (kind, rows, cols), x = found, dense(data)
    y = np.empty_like(x)
    v = width(kind, cols, x, y)
    grid, block = row_launch(rows, cols // v)
    room = cols * x.itemsize * (block[1] if len(block) > 1 else 1)
    room = room if room <= MORE else 0
    scale = np.float32(1 / (temperature or 1))
    args = x, y, np.int64(rows), np.int32(cols), scale, np.int32(room > 0)
    kernels(f"softmax<{kind}, {v}, {flag(log)}>", grid, block, *args, shared=room)
    return y


for op, log in ((softmax, False), (log_softmax, True)):
    cuda(op)(partial(softmax_rows, log))


# --- Backwards ------------------------------------------------------------------------------------


@operator(
    vjp=(
        lambda h, y, g, p, axis, temperature: softmax_back(
            h, p, axis=axis, temperature=temperature
        ),
        lambda h, y, g, p, axis, temperature: scaled(
            h * (g - sum(g * p, axis=axis, keepdims=True))
            - g * sum(h * p, axis=axis, keepdims=True),
            temperature,
        ),
    )
)
def softmax_back(data, out, /, axis=-1, temperature=None):
    """The gradient of softmax's input from that of its output, `data`, and the output itself."""
    share = data - dotted(data, out, axis)
    return scaled(np.multiply(share, out, out=share), temperature)


@operator(
    vjp=(
        lambda h, y, g, z, axis, temperature: scaled(
            h - sum(h * exp(z), axis=axis, keepdims=True), temperature
        ),
        lambda h, y, g, z, axis, temperature: scaled(
            -h * exp(z) * sum(g, axis=axis, keepdims=True), temperature
        ),
    )
)
def log_softmax_back(data, out, /, axis=-1, temperature=None):
    """The gradient of log_softmax's input from that of its output, `data`, and the output itself."""
    return scaled(data - np.exp(out) * data.sum(axis=axis, keepdims=True), temperature)


def by(op):
    """The rule of softmax or of its logarithm: `op`, in the type of what came in."""

    def rule(g, y, z, length=None, *, axis, temperature, dtype, use_length):
        share = op(g, y, axis=axis, temperature=temperature)
        return (share if dtype is None else cast_like(share, z), None)

    return rule


softmax.rules, log_softmax.rules = by(softmax_back), by(log_softmax_back)


def softmax_rows_back(log, g, y, axis, temperature):
    """Their gradients on a GPU."""
    if (found := fits(g, axis)) is None or g.dtype != y.dtype or g.shape != y.shape:
        return NotImplemented
    (kind, rows, cols), g, y = found, dense(g), dense(y)
    dx = np.empty_like(g)
    v = width(kind, cols, g, y, dx)
    args = g, y, dx, np.int64(rows), np.int32(cols), np.float32(1 / (temperature or 1))
    kernels(f"softmax_back<{kind}, {v}, {flag(log)}>", *row_launch(rows, cols // v), *args)
    return dx


for op, log in ((softmax_back, False), (log_softmax_back, True)):
    cuda(op)(partial(softmax_rows_back, log))


# --- Cross-entropy --------------------------------------------------------------------------------

alarms = {}  # device -> its note: whether there is one, the label's bits, how many classes
armed = set()  # devices whose note nobody has looked at since a kernel ran


def alarm(like):
    """Where the kernels of a device note the first wrong label: three numbers in its memory."""
    key = type(like), like.device.id
    if key not in alarms:
        alarms[key] = np.zeros_like(like, shape=(3,), dtype="int32")
    each_run(lambda: armed.add(key))
    return alarms[key]


def raise_alarm():
    """Tell of a wrong label that a kernel has met since the last look."""
    while armed:
        there = alarms[armed.pop()]
        found, label, classes = there.get()
        if found:
            there[...] = 0
            where = "in sparse_softmax_cross_entropy, some calls ago: "
            wrong_label(label.view("float32"), classes, where)


notes.append(raise_alarm)


@cuda(sparse_softmax_cross_entropy)
def _(data, label, axis):
    if (found := fits(data, axis)) is None:
        return NotImplemented
    (kind, rows, cols), x = found, dense(data)
    loss = np.empty_like(x, shape=(*x.shape[:-1], 1))
    v = width(kind, cols, x)
    args = x, dense(label.astype("float32")), loss, alarm(x), np.int64(rows), np.int32(cols)
    kernels(f"cross_entropy<{kind}, {v}>", *row_launch(rows, cols // v), *args)
    return loss


def cross_entropy_rows(g, data, loss, label, axis):
    """g (softmax - one-hot) on a GPU; without `g`, the difference alone."""
    if (found := fits(data, axis)) is None or loss.dtype != data.dtype:
        return NotImplemented
    (kind, rows, cols), x = found, dense(data)
    dx = np.empty_like(x)
    v = width(kind, cols, x, dx)
    g = g if g is None else dense(g)
    args = g, x, dense(loss), dense(label.astype("float32")), dx, np.int64(rows), np.int32(cols)
    kernels(f"cross_entropy_back<{kind}, {v}>", *row_launch(rows, cols // v), *args)
    return dx


@cuda(overestimate)
def _(data, loss, label, axis):
    return cross_entropy_rows(None, data, loss, label, axis)


@cuda(cross_entropy_back)
def _(data, logits, loss, label, axis):
    same = data.dtype == logits.dtype and data.shape == loss.shape
    return cross_entropy_rows(data, logits, loss, label, axis) if same else NotImplemented
