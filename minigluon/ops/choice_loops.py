"""Some things NumPy has no vectors for at all: which five are the largest, and where the few numbers of a sparse matrix stand."""

# Written from chapters/96l_choice_loops.ipynb: edit the chapter, then run `minigluon export`.

import ctypes

import numpy as np

from minigluon.cores import alone, spread
from minigluon.kernels import dense
from minigluon.native import Loops, native, place
from minigluon.ops.csr import combined, csr_dot, csr_pick, csr_undot, rows_undot
from minigluon.ops.detection import survivors
from minigluon.ops.image import bits, fixed_point
from minigluon.ops.indexing import untake, whole
from minigluon.ops.order_kernels import chosen
from minigluon.ops.ordering import stable_order, topk
from minigluon.ops.row_loops import LARGE, parts, single

__all__ = [
    "FEW",
    "INDICES",
    "LEAST",
    "LONG",
    "SPARSE",
    "STORED",
    "WIDE",
    "by_columns",
    "first",
    "loops",
    "matrices",
    "slots",
    "told",
]


# --- Code: the first k ----------------------------------------------------------------------------

loops = Loops("choices")
LEAST = 1 << 13  # numbers from which a call into C pays
STORED = 64  # numbers of a CSR matrix below which nothing is worth a look
FEW = 32  # a row is at least so many times as long as what is wanted of it: otherwise sorting is as fast


def first(x, k, ascend, values):
    """Indices and values of the first k of each row; no values unless they are wanted."""
    cols = x.shape[-1]
    rows = dense(x).reshape(-1, cols)
    index = np.empty((len(rows), k), np.int64)

    def run(at):
        loops("topk", at.stop - at.start, cols, k, int(ascend), rows[at], index[at])

    spread(run, parts(*rows.shape))
    index = index.reshape(*x.shape[:-1], k)
    return index, np.take_along_axis(x, index, -1) if values else None


@native(topk, LEAST)
def _(data, axis, **settings):
    if not loops or not data.ndim:
        return NotImplemented
    cols = data.size if axis is None else data.shape[axis] if -data.ndim <= axis < data.ndim else 0
    return chosen(first, cols // FEW, data, axis=axis, **settings)


# --- Code: all in order ---------------------------------------------------------------------------

LONG = 128  # numbers of a row from which buckets pay, if there are some rows of them


@native(stable_order, 8 * LONG)
def _(data, axis, is_ascend):
    cols = data.shape[-1] if data.ndim else 0
    if not loops or axis not in (-1, data.ndim - 1) or not LONG <= cols < 2**32:
        return NotImplemented
    rows = dense(data).reshape(-1, cols)
    index = np.empty(rows.shape, np.int64)
    spread(
        lambda at: loops("order", at.stop - at.start, cols, int(is_ascend), rows[at], index[at]),
        parts(*rows.shape),
    )
    return index.reshape(data.shape)


# --- Code: products with CSR matrices -------------------------------------------------------------


def told(indices, indptr, columns):
    """Columns and starts as the loops take them;
    None if they do not fit the arrays, or there is no loop.
    """
    if not loops or not len(indices) or indices.min() < 0 or indices.max() >= columns:
        return None
    column, start = (dense(a.astype(np.int64, copy=False)) for a in (indices, indptr))
    inside = start[0] >= 0 and start[-1] <= len(column) and (start[1:] >= start[:-1]).all()
    return (column, start) if inside else None


def matrices(count, *arrays):
    """Matrices of single precision, in a row in memory;
    None if they are not, or `count` of their rows are soon dealt with.
    """
    fit = all(a.ndim == 2 and a.dtype.char == "f" for a in arrays)
    return [dense(a) for a in arrays] if fit and count * arrays[0].shape[1] >= LEAST else None


@native(csr_dot, STORED)
def _(data, indices, indptr, rhs):
    given = matrices(len(data), rhs)
    if given is None or (where := told(indices, indptr, len(rhs))) is None:
        return NotImplemented
    (b,), (column, start) = given, where
    y = np.empty_like(b, shape=(len(start) - 1, b.shape[1]))

    def run(at):
        starts = start[at.start : at.stop + 1]
        loops("csr_dot", at.stop - at.start, b.shape[1], dense(data), column, b, starts, y[at])

    spread(run, parts(len(y), b.shape[1] * len(column) // max(1, len(y))))
    return y


@native(csr_pick, STORED)
def _(lhs, rhs, indices, indptr):
    given = matrices(len(indices), lhs, rhs)
    if given is None or len(lhs) != len(indptr) - 1 or lhs.shape[1] != rhs.shape[1]:
        return NotImplemented
    where = told(indices, indptr, len(rhs))
    if where is None or where[1][0] or where[1][-1] != len(indices):
        return NotImplemented
    value = np.empty_like(lhs, shape=len(indices))
    loops("csr_pick", len(lhs), lhs.shape[1], *where, *given, value)
    return value


# --- Code: rows added to rows ---------------------------------------------------------------------


def by_columns(name, rows, arrays, b, y):
    """Let a loop add the rows of b to rows of y; many numbers column by column, on all cores."""
    wide = y.shape[1]
    count = len(arrays[0]) * wide
    step = -(-wide // (alone.threads if count >= LARGE and wide >= 2 * FEW else 1))

    def run(at):
        ends = (ctypes.c_void_p(place(a) + 4 * at) for a in (b, y))
        loops(name, rows, min(step, wide - at), wide, *arrays, *ends)

    spread(run, range(0, wide, step))
    return y


@native(csr_undot, STORED)
def _(data, indices, indptr, rhs, like):
    given = matrices(len(data), rhs, like)
    if given is None or len(rhs) != len(indptr) - 1:
        return NotImplemented
    if (where := told(indices, indptr, len(like))) is None or rhs.shape[1] != like.shape[1]:
        return NotImplemented
    y = np.zeros(like.shape, like.dtype)  # memory that is zero anyway
    return by_columns("csr_undot", len(rhs), (dense(data), *where), given[0], y)


def slots(keys):
    """The distinct keys, whole numbers from 0, ascending, and which of them each key is."""
    size = int(keys.max()) + 1
    if size > SPARSE * len(keys):
        return np.unique(keys, return_inverse=True)
    marks, at = np.zeros(size, bool), np.empty(size, np.int64)
    marks[keys] = True
    found = np.flatnonzero(marks)
    at[found] = np.arange(len(found))
    return found, at[keys]


SPARSE = 64  # times as many rows as keys: from there on sorting is faster


@native(rows_undot, STORED)
def _(data, indices, indptr, rhs):
    given = matrices(len(data), rhs)
    where = None if given is None else told(indices, indptr, INDICES)
    if where is None or len(rhs) != len(indptr) - 1 or where[1][-1] != len(data):
        return NotImplemented
    found, slot = slots(where[0])
    y = np.zeros((len(found), rhs.shape[1]), rhs.dtype)
    return found, by_columns("csr_undot", len(rhs), (dense(data), slot, where[1]), given[0], y)


INDICES = 1 << 62  # more rows than any table has


@native(combined, LEAST)
def _(values, keys):
    if values.ndim != 2 or keys.shape != values.shape[:1] or keys.min() < 0 or not loops:
        return NotImplemented
    found, slot = slots(keys)
    y = np.zeros((len(found), values.shape[1]), values.dtype)
    return found, by_columns("add_rows", len(keys), (slot,), dense(values), y)


@native(untake, LEAST)
def _(data, like, indices, axis, mode):
    if axis or like.ndim < 1 or not single(data, like) or like[:1].size < WIDE:
        return NotImplemented
    chosen = whole(like, indices, 0, mode).reshape(-1)
    if data.size * len(like) != chosen.size * like.size:
        return NotImplemented
    y = np.zeros(like.shape, like.dtype)
    rows, b = y.reshape(len(y), -1), dense(data).reshape(len(chosen), -1)
    by_columns("add_rows", len(chosen), (chosen,), b, rows)
    return y


WIDE = 16  # numbers of a row from which a loop pays


@native(fixed_point, kind="B")
def _(data, rows, columns, kind):
    if kind not in ("linear", "area") or not loops:
        return NotImplemented
    (H, W, channels), h, w = data.shape[-3:], rows[0].shape[1], columns[0].shape[1]
    pictures = dense(data).reshape(-1, H, W, channels)
    y = np.empty((len(pictures), h, w, channels), np.uint8)
    given = [dense(a) for p, weights in (rows, columns) for a in (*p, *bits(weights))]

    def run(i):
        loops("resize", h, w, W, channels, *given, pictures[i], y[i])

    spread(run, range(len(pictures)))
    return y.reshape(*data.shape[:-3], h, w, channels)


# --- Code: which boxes stay -----------------------------------------------------------------------


@native(survivors)
def _(boxes, ids, alive, threshold, equal):
    if not loops or not (ids is None or ids.dtype.char == "f"):
        return NotImplemented
    kept = np.empty_like(alive, order="C")
    boxes, alive = dense(boxes), dense(alive)

    def run(i):
        own = None if ids is None else dense(ids[i])
        loops(
            "survivors", alive.shape[1], float(threshold), int(equal), boxes[i], own, alive[i], kept[i]
        )  # fmt: skip

    spread(run, range(len(boxes))) if boxes.size >= LEAST else [run(i) for i in range(len(boxes))]
    return kept
