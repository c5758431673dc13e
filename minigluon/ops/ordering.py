"""Sorting is a permutation that depends on the data: its gradient carries each share back to where its number was."""

# Written from chapters/13b_ordering.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.autograd import zeros_like
from minigluon.cores import spread
from minigluon.op import Operand, operator
from minigluon.ops.elementwise import LONG
from minigluon.ops.indexing import WHOLE, add_at, counting, pick, scatter_like
from minigluon.ops.reduce import at_least_1d, one_axis
from minigluon.ops.shape import reversing

__all__ = [
    "FEW",
    "Operand",
    "RET_TYPES",
    "along",
    "argsort",
    "batch_take",
    "batch_untake",
    "check_mask",
    "contrib_arange_like",
    "contrib_boolean_mask",
    "contrib_index_array",
    "contrib_index_copy",
    "first_of",
    "first_values",
    "gather_places",
    "in_rows",
    "keep_other_places",
    "laid_out",
    "marked",
    "places",
    "ravel_multi_index",
    "rows_at",
    "scatter_add_nd",
    "scatter_nd",
    "sort",
    "sortable",
    "stable_order",
    "topk",
    "topk_rule",
    "unalong",
    "unmask",
    "unravel_index",
]


# --- Mathematics ----------------------------------------------------------------------------------


def laid_out(data, axis):
    """`data` and the axis to work along; without an axis the numbers in one row."""
    return (data.reshape(-1), 0) if axis is None else (data, one_axis(data, axis))


@operator(
    vjp=(lambda g, y, x, index, axis: unalong(g, x, index, axis=axis), None), same_dtype=False
)
def along(data, index, /, axis=-1):
    """The numbers of `data` at `index` along `axis`, in the shape of `index`."""
    data, axis = laid_out(data, axis)
    return np.take_along_axis(data, index.astype("int64"), axis)


@operator(
    vjp=(lambda g, y, x, like, index, axis: along(g, index, axis=axis), None, None),
    same_dtype=False,
)
def unalong(data, like, index, /, axis=-1):
    """Undo `along`: zeros in the shape of `like`, with `data` at the places read; none comes twice."""
    out = np.zeros_like(like)
    flat, axis = laid_out(out, axis)
    np.put_along_axis(flat, index.astype("int64"), data, axis)
    return flat.reshape(like.shape)


# --- Sorting --------------------------------------------------------------------------------------


def sortable(data):
    """Numbers in the same order that CuPy sorts: bfloat16 on a GPU as float32."""
    half = type(data) is not np.ndarray and data.dtype.name == "bfloat16"
    return data.astype("float32") if half else data


def in_rows(f, data, *settings):
    """`f` with the order along the last axis; of many numbers some rows at a time, on all cores."""
    if type(data) is not np.ndarray or data.size < LONG or data.ndim < 2:
        return f(data, *settings)
    rows = data.reshape(-1, data.shape[-1])
    step = max(1, -(-len(rows) // 8))
    found = spread(lambda i: f(rows[i : i + step], *settings), range(0, len(rows), step))
    return np.concatenate(found).reshape(*data.shape[:-1], -1)


FEW = 1 << 10  # numbers up to which NumPy has sorted them before another way has begun


@operator(vjp=(None,), listed=False)
def stable_order(data, /, axis=-1, is_ascend=True):
    """The order of the numbers along `axis`, equal ones as they come."""
    data = sortable(data)
    if is_ascend:
        return data.argsort(axis, kind="stable")
    back = reversing(data.ndim, (axis,))
    order = data[back].argsort(axis, kind="stable")[back]
    return np.subtract(data.shape[axis] - 1, order)


@operator(vjp=(None,))
def argsort(data, /, axis=-1, is_ascend=True, dtype="float32"):
    """The indices that sort `data` along `axis`; with axis=None those of all numbers in one row.

    Equal numbers keep their order. The indices are of `dtype`.
    """
    data, axis = laid_out(data, axis)
    if data.size < FEW and is_ascend and type(data) is np.ndarray:  # half a µs sooner
        return data.argsort(axis, kind="stable").astype(dtype)
    if axis == data.ndim - 1:
        return in_rows(stable_order.kernel, data, -1, is_ascend).astype(dtype)
    return stable_order.kernel(data, axis, is_ascend).astype(dtype)


@operator(
    vjp=(
        lambda g, y, x, axis, is_ascend: unalong(
            g, x, argsort(x, axis=axis, is_ascend=is_ascend, dtype="int64"), axis=axis
        ),
    )
)
def sort(data, /, axis=-1, is_ascend=True):
    """The numbers along `axis` in order; with axis=None all numbers in one row."""
    data, axis = laid_out(data, axis)
    found = (
        in_rows(np.sort, sortable(data)) if axis == data.ndim - 1 else np.sort(sortable(data), axis)
    )
    found = found.astype(data.dtype, copy=False)
    return found if is_ascend else np.flip(found, axis).copy()


# --- The first k ----------------------------------------------------------------------------------


def first_of(data, k, is_ascend):
    """Indices of the first k in the order along the last axis, equal ones as they come."""
    n = data.shape[-1]
    if n < 256 or 8 * k > n:  # measured: below, sorting is faster
        return stable_order.kernel(data, -1, is_ascend)[..., :k]
    place = k - 1 if is_ascend else n - k
    order = np.argpartition(data, place, -1)
    indices = order[..., :k] if is_ascend else order[..., place:]
    last = np.take_along_axis(data, order[..., place : place + 1], -1)
    values, equal = np.take_along_axis(data, indices, -1), data == last
    if (values != values).any():  # NaN, which is equal to nothing
        return stable_order.kernel(data, -1, is_ascend)[..., :k]
    room = (values == last).sum(-1, keepdims=True)
    if (
        np.count_nonzero(equal) > room.sum()
    ):  # some of the last are left out: keep the first of them
        beyond = data < last if is_ascend else data > last
        chosen = beyond | (equal & (np.cumsum(equal, -1) <= room))
        indices = np.nonzero(chosen)[-1].reshape(*data.shape[:-1], k)
    else:
        indices = np.sort(indices, -1)  # equal numbers as they come
    inner = stable_order.kernel(np.take_along_axis(data, indices, -1), -1, is_ascend)
    return np.take_along_axis(indices, inner, -1)


def first_values(data, k, is_ascend):
    """The first k numbers in the order along the last axis: which of equal ones nobody can tell."""
    n = data.shape[-1]
    if n >= 256 and 8 * k <= n:
        place = k - 1 if is_ascend else n - k
        data = np.partition(data, place, -1)
        data = data[..., :k] if is_ascend else data[..., place:]
    found = np.sort(data, -1)
    return (found[..., :k] if is_ascend else found[..., : -k - 1 : -1]).copy()


RET_TYPES = ("value", "indices", "mask", "both")


def topk_rule(g, y, x, axis, k, ret_typ, is_ascend, dtype):
    """Values carry their gradient back to where they came from; indices and masks carry none."""
    if ret_typ not in ("value", "both"):
        return (None,)
    index = topk(x, axis=axis, k=k, is_ascend=is_ascend, dtype="int64")
    return (unalong(g[0] if ret_typ == "both" else g, x, index, axis=axis),)


@operator(vjp=topk_rule)
def topk(data, /, axis=-1, k=1, ret_typ="indices", is_ascend=False, dtype="float32"):
    """The k largest numbers along `axis`, or with `is_ascend` the smallest, the first of them first.

    ret_typ: 'value', 'indices' (of `dtype`), 'mask' (0 and 1 in the shape of data) or 'both' values and
    indices. axis=None takes all numbers as one row. k below 1 means all.
    """
    if ret_typ not in RET_TYPES:
        raise ValueError(f"ret_typ {ret_typ!r}: it is one of {', '.join(RET_TYPES)}")
    shape = data.shape
    data, axis = laid_out(data, axis)
    size = data.shape[axis]
    k = size if k < 1 else k
    if k > size:
        raise ValueError(f"k={k}: there are {size} numbers along the axis")
    if ret_typ == "value" and axis == data.ndim - 1 and type(data) is np.ndarray:
        return in_rows(first_values, data, k, is_ascend)
    if axis == data.ndim - 1:
        indices = in_rows(first_of, data, k, is_ascend)
    else:
        indices = np.moveaxis(
            in_rows(first_of, np.moveaxis(data, axis, -1), k, is_ascend), -1, axis
        )
    if ret_typ == "mask":
        return marked(data, indices, axis).reshape(shape)
    if ret_typ == "indices":
        return indices.astype(dtype)
    values = np.take_along_axis(data, indices, axis)
    return values if ret_typ == "value" else (values, indices.astype(dtype))


def marked(data, indices, axis):
    """Ones at the indices along an axis, zeros elsewhere, in the shape and type of `data`."""
    mask = np.zeros_like(data)
    if data.ndim == 2 and axis == 1:  # the usual case, four times as fast as the general one
        mask[counting(len(data), data)[:, None], indices] = 1
    else:
        np.put_along_axis(mask, indices, 1, axis)
    return mask


topk.outputs = lambda _, ret_typ="indices", **__: (
    2 if ret_typ == "both" else ["output0" if ret_typ == "value" else "output"]
)
sort.outputs = ["output0"]  # as MXNet calls it, where it hides a second one
Operand.sort, Operand.argsort, Operand.topk = sort, argsort, topk


topk.choices["ret_typ"] = RET_TYPES
topk.asks = lambda ret_typ="indices", **_: ret_typ in ("value", "both")


# --- Places ---------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, a, indices: batch_untake(g, a, indices), None), same_dtype=False)
def batch_take(a, indices, /):
    """One number a row: `a[i, indices[i]]`, indices out of range clipped."""
    return pick.kernel(a, indices, axis=-1)


@operator(vjp=(lambda g, y, x, like, i: batch_take(g, i), None, None), same_dtype=False)
def batch_untake(data, like, indices, /):
    """Undo `batch_take`: zeros in the shape of `like`, with `data` at the places taken."""
    index = indices.astype("int64").clip(0, like.shape[-1] - 1)
    out = np.zeros_like(like)
    out[np.arange(len(like)), index.reshape(-1)] = data.reshape(-1)
    return out


@operator(vjp=(lambda g, y, x, i, shape: gather_places(g, i), None), same_dtype=False)
def scatter_nd(data, indices, /, shape):
    """Zeros of `shape` with `data` at the places whose coordinates are the rows of `indices`."""
    out = np.zeros(tuple(shape), data.dtype, like=data)
    out[places(indices, out.shape)] = data
    return out


def keep_other_places(g, y, x, values, i, shape):
    """The gradient of what was written over: that of all other places."""
    return _scatter_set_nd(g, zeros_like(values), i, shape=shape)


@operator(
    vjp=(keep_other_places, lambda g, y, x, values, i, shape: gather_places(g, i), None),
    same_dtype=False,
)
def _scatter_set_nd(lhs, rhs, indices, /, shape):
    """`lhs`, which is of `shape`, with `rhs` at the places whose coordinates are the rows
    of `indices`.
    """
    if lhs.shape != tuple(shape):
        raise ValueError(f"shape={tuple(shape)}, but lhs is of {lhs.shape}")
    index, out = places(indices, lhs.shape), lhs.copy()
    wanted = indices.shape[1:] + lhs.shape[len(index) :]
    if rhs.shape != wanted:
        raise ValueError(f"rhs of {rhs.shape} for places of {wanted}")
    out[index] = rhs
    return out


@operator(
    vjp=(lambda g, y, x, i, shape: gather_places(g, i), None),
    aliases=("_backward_gather_nd",),
    same_dtype=False,
)
def scatter_add_nd(data, indices, /, shape):
    """As `scatter_nd`, but places that are named several times get the sum:
    the way back of `gather_nd`.
    """
    out = np.zeros(tuple(shape), data.dtype, like=data)
    add_at(out, places(indices, out.shape), data)
    return out


@operator(vjp=(lambda g, y, x, i: scatter_like(g, x, i), None), same_dtype=False)
def gather_places(data, indices, /):
    """Undo `scatter_nd`: the numbers of `data` at the places whose coordinates `indices` holds."""
    return at_least_1d(data[places(indices, data.shape)])


def places(indices, shape):
    """The rows of `indices` as an index; IndexError for what lies outside of `shape`."""
    found = indices.astype("int64")
    if len(found) > len(shape):
        raise IndexError(f"{len(found)} rows of indices for {len(shape)} axes")
    if type(found) is np.ndarray:  # NumPy refuses them itself, before it writes
        return tuple(found)
    for row, size in zip(found, shape):
        if row.size and not (row.min() >= -size and row.max() < size):
            raise IndexError(f"an index is out of range for an axis of size {size}")
    return tuple(found)


@operator(vjp=(None,), aliases=("_ravel_multi_index",))
def ravel_multi_index(data, /, shape):
    """Flat indices from coordinates: `data` has one row an axis of `shape`;
    one size may be -1, the first.
    """
    if len(data) != len(shape):
        raise ValueError(f"{len(data)} rows of coordinates for the {len(shape)} axes of {shape}")
    rows = data.astype("int64")
    total = rows[0]
    for row, size in zip(rows[1:], shape[1:]):
        total = total * size + row
    return total.astype(data.dtype)


@operator(vjp=(None,), aliases=("_unravel_index",))
def unravel_index(data, /, shape):
    """Coordinates, one row an axis of `shape`, of flat indices; one size may be -1, the first."""
    left, rows = data.astype("int64"), []
    for size in reversed(shape[1:]):
        left, rest = np.divmod(left, size)
        rows.append(rest)
    return np.stack([left, *reversed(rows)]).astype(data.dtype)


# --- Counting -------------------------------------------------------------------------------------


@operator(vjp=(None, None), same_dtype=False)
def _histogram(data, bins=None, /, bin_cnt=None, range=None):
    """How many numbers fall between neighbouring edges (int64), and the edges, in the type of `data`.

    The edges are the array `bins`, or `bin_cnt` equal parts of `range`, a pair of numbers.
    """
    if bins is None and (bin_cnt is None or range is None):
        raise ValueError("give the edges as an array, or bin_cnt and range")
    counts, edges = np.histogram(
        data.reshape(-1), int(bin_cnt) if bins is None else bins, range if bins is None else None
    )
    return counts.astype("int64"), edges.astype(data.dtype)


_histogram.outputs = 2


# --- Operators of `contrib` -----------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, index, axis: unmask(g, x, index), None),
    aliases=("_contrib_boolean_mask",),
    same_dtype=False,
)
def contrib_boolean_mask(data, index, /, axis=0):
    """The rows of `data` where `index`, with one number a row, is not 0."""
    check_mask(data, index, axis)
    return data[index != 0]


@operator(
    vjp=(lambda g, y, x, like, index: contrib_boolean_mask(g, index), None, None),
    same_dtype=False,
)
def unmask(data, like, index, /):
    """Undo `boolean_mask`: zeros in the shape of `like`, with the rows of `data`
    where `index` is not 0.
    """
    out = np.zeros_like(like)
    out[index != 0] = data
    return out


def check_mask(data, index, axis):
    """Raise ValueError where a mask does not fit."""
    if axis != 0:
        raise ValueError(f"axis={axis}: only axis 0 can be masked")
    if index.shape != data.shape[:1]:
        raise ValueError(f"the mask has shape {index.shape}, there are {len(data)} rows")


@operator(
    vjp=(
        lambda g, y, old, index, new: contrib_index_copy(g, index, new * 0),
        None,
        lambda g, y, old, index, new: rows_at(g, index),
    ),
    aliases=("_contrib_index_copy",),
    same_dtype=False,
)
def contrib_index_copy(old_tensor, index_vector, new_tensor, /):
    """`old_tensor` with the rows that `index_vector` names replaced by those of `new_tensor`."""
    if new_tensor.shape != (len(index_vector), *old_tensor.shape[1:]):
        raise ValueError(f"{len(index_vector)} rows like those of {old_tensor.shape} are wanted")
    out = old_tensor.copy()
    usual = type(out) is np.ndarray  # which refuses rows that are not there itself
    out[index_vector.astype(WHOLE) if usual else places(index_vector[None], out.shape)] = new_tensor
    return out


@operator(vjp=(lambda g, y, x, index: contrib_index_copy(x * 0, index, g), None), same_dtype=False)
def rows_at(data, index, /):
    """The rows of `data` that `index` names, no row twice."""
    return data[places(index[None], data.shape)]


@operator(vjp=(None,), aliases=("_contrib_index_array",))
def contrib_index_array(data, /, axes=None):
    """The coordinates of every number of `data`, int64, along a new last axis;
    or only those of `axes`.
    """
    axes = [axes] if isinstance(axes, int) else axes
    chosen = range(data.ndim) if axes is None else [one_axis(data, a) for a in axes]
    ones = np.ones_like(data, dtype="int64")  # counted on the device of `data`
    if not data.ndim:
        return ones[None][:0]
    return np.stack([np.cumsum(ones, axis) - 1 for axis in chosen], -1)


@operator(vjp=(None,), aliases=("_contrib_arange_like",))
def contrib_arange_like(data, /, start=0.0, step=1.0, repeat=1, ctx=None, axis=None):
    """Evenly spaced numbers, each `repeat` times, in the shape of `data` or along one of its axes."""
    shape = data.shape if axis is None else (data.shape[one_axis(data, axis)],)
    count = math.prod(shape)
    numbers = np.cumsum(np.ones_like(data, dtype="int64", shape=(count,))) - 1
    return (start + step * (numbers // repeat)).reshape(shape).astype(data.dtype)
