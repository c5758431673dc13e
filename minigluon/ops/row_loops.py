"""A softmax reads its row three times. From memory it should come once."""

# Written from chapters/96i_row_loops.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
import math
from functools import cache, partial

import numpy as np

from minigluon.cores import alone, spread
from minigluon.kernels import dense, fits
from minigluon.native import Loops, compiled, native
from minigluon.ops.loss import (
    class_numbers,
    clipped,
    cross_entropy_back,
    sparse_softmax_cross_entropy,
)
from minigluon.ops.norm_kernels import NORMS, rows_back
from minigluon.ops.normalization import norm_backward
from minigluon.ops.norms import cumsum, nanprod, nansum, prod
from minigluon.ops.reduce import axes, log_softmax, softmax
from minigluon.ops.softmax_kernels import log_softmax_back, softmax_back

__all__ = [
    "FEW",
    "LARGE",
    "LEAST",
    "SHORT",
    "by_loops",
    "few",
    "few_losses",
    "few_losses_back",
    "folded",
    "fresh",
    "in_rows",
    "kept",
    "laid",
    "layer_back",
    "loops",
    "normalized",
    "parts",
    "scale_of",
    "single",
    "softmax_rows",
    "softmax_rows_back",
    "walk",
]


# --- Code: a walk over rows -----------------------------------------------------------------------

loops = Loops("rows")
LEAST = 1 << 13  # numbers from which a call into C pays
LARGE = 1 << 18  # and from which a second core does
FEW = 1 << 14  # numbers below which losses are one call, with Python's lock
SHORT = 32  # numbers of a row below which NumPy, which takes many rows at once, is faster


def parts(rows, cols):
    """The rows, cut into a part for each core if there is enough to do."""
    step = -(-rows // (alone.threads if rows * cols >= LARGE else 1))
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)]


def walk(name, cols, numbers, *arrays):
    """Call a loop on the rows of arrays."""
    run = lambda at: loops(name, at.stop - at.start, cols, *numbers, *(a[at] for a in arrays))
    spread(run, parts(len(arrays[0]), cols))


def in_rows(a, cols):
    """An array as a matrix, contiguous."""
    return dense(a).reshape(-1, cols)


def fresh(a):
    """Memory for a result as large as an array: no view of it,
    so that an array of the user's can hold it.
    """
    return np.empty_like(a, order="C", shape=a.shape)


def laid(a, axis):
    """The columns, if `axis` is the last one of an array and long enough for vectors; else None."""
    found = fits(a, axis)
    return None if found is None or found[2] < SHORT else found[2]


def single(*arrays):
    """Whether there are loops, and arrays for them."""
    return all(a.dtype.char == "f" for a in arrays) and loops


# --- Code: softmax --------------------------------------------------------------------------------


def scale_of(temperature):
    """What scores are multiplied by; None for a temperature that needs care."""
    return 1.0 if temperature is None else 1 / temperature if temperature > 0 else None


def softmax_rows(name, data, length=None, *, axis, temperature, dtype, use_length):
    """Softmax, or its logarithm, of rows."""
    cols, scale = laid(data, axis), scale_of(temperature)
    plainly = length is None and not use_length and dtype in (None, data.dtype)
    if cols is None or scale is None or not plainly or not single(data):
        return NotImplemented
    y = fresh(data)
    walk(name, cols, (scale,), in_rows(data, cols), in_rows(y, cols))
    return y


def softmax_rows_back(name, g, y, *, axis, temperature):
    """Their gradients."""
    cols, scale = laid(g, axis), scale_of(temperature)
    if cols is None or scale is None or g.shape != y.shape or not single(g, y):
        return NotImplemented
    dx = fresh(g)
    walk(name, cols, (scale,), *(in_rows(a, cols) for a in (g, y, dx)))
    return dx


for op in (softmax, log_softmax):
    native(op, LEAST)(partial(softmax_rows, op.name))
for op in (softmax_back, log_softmax_back):  # NumPy's way is short
    native(op, 2 * LEAST)(partial(softmax_rows_back, op.name))


# --- Code: cross-entropy --------------------------------------------------------------------------


@native(sparse_softmax_cross_entropy)
def _(data, label, axis):
    found = few_losses(data, label, axis) if data.size < FEW else NotImplemented
    if found is not NotImplemented or data.size < LEAST:
        return found
    cols = laid(data, axis)
    if cols is None or type(label) is not np.ndarray or not single(data):
        return NotImplemented
    with np.errstate(invalid="ignore"):
        x, classes = in_rows(data, cols), class_numbers(data, label)
    memory = np.empty((3, len(x)), x.dtype)
    walk("cross_entropy", cols, (), x, classes, *memory)
    return memory[2].reshape(*data.shape[:-1], 1)


@native(cross_entropy_back)
def _(data, logits, loss, label, axis):
    few_of_them = logits.size < FEW
    found = few_losses_back(data, logits, loss, label, axis) if few_of_them else NotImplemented
    if found is not NotImplemented or logits.size < LEAST:
        return found
    cols = laid(logits, axis)
    if cols is None or not single(data, logits, loss):
        return NotImplemented
    x, dx = in_rows(logits, cols), fresh(logits)
    with np.errstate(invalid="ignore"):
        classes = clipped(label.reshape(-1).astype(np.int64), cols)
    given = *kept(x, classes, loss), dense(data).reshape(-1)
    walk("cross_entropy_back", cols, (), x, classes, *given, in_rows(dx, cols))
    return dx


def kept(x, classes, loss):
    """Maximum and sum of exponentials of each row."""
    memory, n = loss.base, len(x)
    if type(memory) is np.ndarray and memory.shape == (3, n) and memory.dtype == x.dtype:
        return memory[:2]
    return loss.reshape(n) + x[np.arange(n), classes], np.ones_like(x, shape=n)


@cache
def few(name, arrays):
    """A function of rows.cpp that takes so many arrays, with Python's lock."""
    function = getattr(ctypes.PyDLL(compiled("rows")._name), name)
    function.argtypes = [ctypes.py_object] * arrays
    return function


def few_losses(data, label, axis):
    """Cross-entropy of few rows, by one call."""
    rows = data.size // max(data.shape[-1], 1) if data.ndim else 0
    last = axis in (-1, data.ndim - 1)
    if not (last and rows and type(label) is np.ndarray and label.size == rows and loops):
        return NotImplemented
    memory = np.empty((3, rows), data.dtype)
    arrays = data.__array_struct__, label.__array_struct__, memory.__array_struct__
    done = few("few_losses", 3)(*arrays)
    return memory[2].reshape(*data.shape[:-1], 1) if done else NotImplemented


def few_losses_back(data, logits, loss, label, axis):
    """The gradient, where the losses came from such a call."""
    memory, rows = loss.base, loss.size
    fits = (
        type(memory) is np.ndarray and memory.shape == (3, rows) and data.size == rows == label.size
    )
    last = axis in (-1, logits.ndim - 1) and logits.size == rows * logits.shape[-1]
    if not (fits and last and single(memory, data)):
        return NotImplemented
    dx = fresh(logits)
    arrays = (a.__array_struct__ for a in (logits, label, memory, data, dx))
    return dx if few("few_losses_back", 5)(*arrays) else NotImplemented


# --- Code: normalization --------------------------------------------------------------------------


def normalized(data, gamma, beta, axis, columns, eps):
    """y, mean and 1/deviation of the rows from `axis` on;
    γ and β belong to the columns, or in turn to the rows.
    """
    cols, y = math.prod(data.shape[axis:]), fresh(data)
    x, to = in_rows(data, cols), in_rows(y, cols)
    m, r = np.empty_like(x, shape=(2, len(x)))
    if columns:
        walk("layer_norm", cols, (eps, dense(gamma), dense(beta)), x, to, m, r)
    else:
        gains = (np.resize(a, len(x)) for a in (gamma, beta))
        walk("group_norm", cols, (eps,), *gains, x, to, m, r)
    return y, m, r


def by_loops(function, data, gamma, beta, **settings):
    """A normalization by loops."""
    if not single(data, gamma, beta):
        return NotImplemented
    return function(normalized, data, gamma, beta, **settings)


for op, function in NORMS.items():
    native(op, LEAST)(partial(by_loops, function))


@native(norm_backward, LEAST)
def _(data, inputs, gamma, mean, scale, axis, exclude, along, eps, split, num_groups):
    found = rows_back(data, inputs, axis, exclude, along, num_groups)
    if found is None or not single(data, inputs, gamma, mean, scale):
        return NotImplemented
    columns, _, rows, cols = found
    out = fresh(inputs)
    g, x, dx = (in_rows(a, cols) for a in (data, inputs, out))
    m, r = (dense(a).reshape(-1) for a in (mean, scale))
    if columns:
        sums = layer_back(g, x, gamma, m, r, dx)
    else:
        shares = np.empty_like(x, shape=(2, rows))
        walk("group_norm_back", cols, (), *shares, np.resize(gamma, rows), g, x, m, r, dx)
        sums = shares.reshape(2, -1, gamma.size).sum(1)
    return out, *(a.reshape(gamma.shape) for a in sums)


def layer_back(g, x, gamma, m, r, dx):
    """Fill in the gradient of a layer normalization's rows; the sums of γ and β."""
    rows, cols = x.shape
    cut = parts(rows, cols)
    sums = np.zeros_like(x, shape=(len(cut), 2, cols))

    def run(item):
        at, own = item
        arrays = (a[at] for a in (g, x, m, r, dx))
        loops("layer_norm_back", at.stop - at.start, cols, *own, dense(gamma), *arrays)

    spread(run, zip(cut, sums))
    return sums.sum(0)


# --- Code: products -------------------------------------------------------------------------------


def folded(name, numbers, data, *, axis, keepdims, exclude):
    """The rows of an array, each made one number by a loop."""
    over = axes(data, axis, exclude)
    kept_axes = data.ndim - len(over)
    cols = math.prod(data.shape[kept_axes:])
    behind = sorted(over) == [*range(kept_axes, data.ndim)]
    if not (behind and cols >= SHORT and data.flags.c_contiguous and single(data)):
        return NotImplemented
    found = np.empty_like(data, shape=data.size // cols)
    walk(name, cols, numbers, in_rows(data, cols), found)
    shape = data.shape[:kept_axes] + (1,) * (len(over) if keepdims else not kept_axes)
    return found.reshape(shape)


for op, name, numbers in ((prod, "prod", (0,)), (nanprod, "prod", (1,)), (nansum, "nansum", ())):
    native(op, LEAST)(partial(folded, name, numbers))


@native(cumsum, LEAST)
def _(a, axis, dtype):
    along = axis in (a.ndim - 1, -1) and len(a.shape) > 1
    if not along or np.dtype(dtype or a.dtype) != np.float32 or not (single(a) and loops):
        return NotImplemented
    out = fresh(a)
    walk("cumsum", a.shape[-1], (), in_rows(a, a.shape[-1]), in_rows(out, a.shape[-1]))
    return out
