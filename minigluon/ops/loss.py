"""A loss turns predictions and truth into one number a sample; its gradient is what the network learns from."""

# Written from chapters/50_losses.ipynb: edit the chapter, then run `minigluon export`.

from functools import lru_cache

import numpy as np

from minigluon.autograd import state
from minigluon.base import MXNetError, refuse
from minigluon.cores import alone, spread
from minigluon.op import operator
from minigluon.ops.elementwise import exp
from minigluon.ops.indexing import at, largest, pick, unpick
from minigluon.ops.reduce import log_softmax, sum

__all__ = [
    "BLOCK",
    "CALM",
    "LARGE",
    "by_rows",
    "check_labels",
    "class_numbers",
    "clipped",
    "column",
    "cross_entropy_back",
    "in_blocks",
    "kept",
    "lowest",
    "negative_log_likelihood",
    "overestimate",
    "picked",
    "rows_of",
    "sparse_softmax_cross_entropy",
    "starts",
    "wrong_label",
]


# --- All cores, in the cache ----------------------------------------------------------------------

# numbers, about what two cores' caches hold; with smaller blocks threads wait more for each other
BLOCK = 1 << 19
LARGE = 1 << 18  # numbers from which threads pay for their start


def in_blocks(f, rows, width):
    """Call `f(begin, end)` for blocks of rows of `width` numbers that fit the cache, on all cores."""
    if rows * width < LARGE:
        f(0, rows)
        return
    step = max(1, min(BLOCK // width, -(-rows // (2 * alone.threads))))
    spread(lambda i: f(i, min(i + step, rows)), range(0, rows, step))


# --- Cross-entropy of class numbers ---------------------------------------------------------------


@operator(
    vjp=(lambda g, y, z, label, axis: cross_entropy_back(g, z, y, label, axis=axis), None),
    same_dtype=False,
)
def sparse_softmax_cross_entropy(data, label, /, axis=-1):
    """Minus the log-probability of class `label` under the softmax of `data` along `axis`.

    data: logits; label: whole numbers from 0 to classes - 1, of data's shape without `axis` or with
    size 1 there. The result keeps `axis` with size 1.
    """
    rows = rows_of(data, axis)
    if rows is not None and type(label) is np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            loss = by_rows(rows, class_numbers(data, label), state.recording)
        return loss.reshape(*data.shape[:-1], 1)
    check_labels(data, label, axis)
    where = at(data, label, axis, "clip")
    shifted = data - data.max(axis=axis, keepdims=True)
    picked = shifted[where]
    total = np.exp(shifted, out=shifted).sum(axis=axis, keepdims=True)
    return np.log(total, out=total) - picked


def rows_of(data, axis):
    """The rows along `axis` as a matrix, if they lie in NumPy's memory one after the other;
    else None.
    """
    last = axis in (-1, data.ndim - 1)
    if type(data) is np.ndarray and data.flags.c_contiguous and last and data.size:
        return data.reshape(-1, data.shape[-1])
    return None


def class_numbers(data, label):
    """The label of each row of `data` as the number of a class, one behind the other;
    others count as `check_labels` says.
    """
    if label.size * data.shape[-1] != data.size:
        rows = data.shape[:-1]
        raise MXNetError(
            f"label of shape {label.shape} for data of shape {data.shape}: "
            "give the number of a class for each row, "
            f"shape {rows} or {(*rows, 1)}; if it is a distribution (one-hot, say), "
            "SoftmaxCrossEntropyLoss takes it with "
            "sparse_label=False"
        )
    flat = label.reshape(data.size // data.shape[-1])
    found = flat.astype(np.intp)
    whole = flat.dtype.kind not in "fV" or found.astype(flat.dtype).tobytes() == flat.tobytes()
    if not whole or lowest(found) < 0 or largest(found) >= data.shape[-1]:
        check_labels(data, label, -1)
        found = clipped(found, data.shape[-1])
    return found


def clipped(numbers, classes):
    """Whole numbers, with the first and the last class for those that are no class."""
    return np.minimum(np.maximum(numbers, 0), classes - 1)


def lowest(a):
    """The smallest number of NumPy's array, or a NaN, found as `largest` finds the other end."""
    return a.item(a.argmin())


CALM = 1e20  # sums of exponentials between its inverse and this are far from a type's limits


def by_rows(rows, classes, keep):
    """Losses of rows, a few at a time; with `keep` exponentials and sums lie before them."""
    n, width = rows.shape
    memory = np.empty(rows.size + 2 * n if keep else 2 * n, rows.dtype)
    total, loss = memory[-2 * n : -n], memory[-n:]
    powers = memory[: -2 * n].reshape(-1, width)
    wide = rows.dtype.char in "fd"  # in half precision there is no room

    def block(i, j):
        z, at, sums = rows[i:j], starts(j - i, width) + classes[i:j], total[i:j]
        e = powers[i:j] if keep else np.empty_like(z)
        if wide:
            np.exp(z, out=e)
            np.matmul(e, column(width, rows.dtype), out=sums)
            likely = e.reshape(-1).take(at)
            if largest(sums) < CALM and CALM * lowest(likely) > 1:
                ratio = np.divide(sums, likely, out=likely)
                np.log(ratio, out=loss[i:j])
                return
        top = z.max(axis=1, keepdims=True)
        np.exp(np.subtract(z, top, out=e), out=e)
        np.sum(e, axis=1, out=sums)
        np.add(np.log(sums), top[:, 0] - z.reshape(-1).take(at), out=loss[i:j])

    in_blocks(block, n, width)
    return loss


@lru_cache(16)
def starts(n, width):
    """Where each of n rows begins: with a class number added, where in a matrix that class is."""
    found = np.arange(0, n * width, width)
    found.flags.writeable = False
    return found


@lru_cache(64)
def column(width, dtype):
    """Ones: a product with them adds up rows, short ones five times as fast as `sum`."""
    ones = np.ones(width, dtype)
    ones.flags.writeable = False
    return ones


def kept(loss, data):
    """The exponentials of `data` that were kept with its losses, as rows, and their sums;
    or None, None.
    """
    memory, n = loss.base, loss.size
    size = data.size + 2 * n
    if type(memory) is np.ndarray and memory.shape == (size,) and memory.dtype == data.dtype:
        return memory[: -2 * n].reshape(-1, data.shape[-1]), memory[-2 * n : -n].reshape(-1, 1)
    return None, None


@operator(same_dtype=False)
def cross_entropy_back(data, logits, loss, label, /, axis=-1):
    """The gradient of cross-entropy's logits from that of the losses, `data`."""
    rows = rows_of(logits, axis)
    if rows is None:
        return data * overestimate.kernel(logits, loss, label, axis=axis)
    out, n = np.empty(logits.shape, rows.dtype), len(rows)  # no view: then a variable can hold it
    outs = out.reshape(rows.shape)
    at = starts(*rows.shape) + clipped(label.reshape(n).astype(np.intp), rows.shape[1])
    factors, (powers, total) = data.reshape(n, 1), kept(loss, logits)
    if powers is not None:
        factors = factors / total
    shift = None if powers is not None else loss.reshape(n, 1) + rows.reshape(-1).take(at)[:, None]

    def block(i, j):
        if powers is not None:
            np.multiply(powers[i:j], factors[i:j], out=outs[i:j])
            return
        e = np.subtract(rows[i:j], shift[i:j], out=outs[i:j])
        np.exp(e, out=e)
        e *= factors[i:j]

    in_blocks(block, *rows.shape)
    flat = outs.reshape(-1)
    flat[at] -= data.reshape(-1)
    return out


@cross_entropy_back.vjp
def _(h, y, g, z, loss, label, axis):
    p = overestimate(z, loss, label, axis=axis)
    by_z, by_loss, _ = overestimate.rules(h * g, p, z, loss, label, axis=axis)
    return sum(h * p, axis=axis, keepdims=True), by_z, by_loss, None


@operator(same_dtype=False)
def overestimate(data, loss, label, /, axis=-1):
    """Softmax of `data` minus 1 at `label`, along `axis`; `loss` is the cross-entropy of the two."""
    where = at(data, label, axis, "clip")
    out = np.exp(data - (loss + data[where]))
    out[where] -= 1
    return out


@overestimate.vjp
def _(h, y, z, loss, label, axis):
    r = h * exp(z - (loss + pick(z, label, axis=axis, keepdims=True)))
    total = sum(r, axis=axis, keepdims=True)
    return r - unpick(total, z, label, axis=axis, keepdims=True), -total, None


@operator(
    vjp=(
        lambda g, y, x, label, axis: -unpick(g, x, label, axis=axis, keepdims=True),
        None,
    ),
    same_dtype=False,
)
def negative_log_likelihood(data, label, /, axis=-1):
    """Minus the log-probability in `data` of class `label` along `axis`, which stays with size 1."""
    check_labels(data, label, axis)
    return -data[at(data, label, axis, "clip")]


def picked(logs, label, axis):
    """Minus the number of class `label` along `axis`."""
    return -pick(logs, label, axis=axis, keepdims=True)


negative_log_likelihood.spelling = picked
sparse_softmax_cross_entropy.spelling = lambda data, label, axis: picked(
    log_softmax(data, axis=axis), label, axis
)


def check_labels(data, label, axis):
    """Tell of a label that is neither the number of a class nor -1, which counts as the first:
    see `wrong_label`.
    """
    classes = data.shape[axis]
    wrong = (label < -1) | (label >= classes)  # -1 pads, and is masked by a weight
    if label.dtype.kind in "fV":
        wrong |= label != np.floor(label)
    if wrong.any():
        wrong_label(label[wrong].ravel()[0], classes)


def wrong_label(label, classes, where=""):
    """Refuse a label; where that is only a warning, it counts as the nearest class below it or
    as the first.
    """
    told = f"{where}label {label} is not a class: labels are whole numbers from 0 to {classes - 1}"
    refuse(told, "others are clipped")
