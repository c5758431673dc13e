"""Store only the numbers that are not zero, and look to everybody else like an array that stores them all."""

# Written from chapters/17_sparse.ipynb: edit the chapter, then run `minigluon export`.

import logging
import math
import os
from functools import reduce

import numpy as np

from minigluon import autograd
from minigluon.autograd import mark_variables, state
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.sparse import (
    BaseSparseNDArray,
    CSRNDArray,
    RowSparseNDArray,
    cast_storage,
    dense,
    wrapped,
    zeros,
)
from minigluon.op import interpreters, operators
from minigluon.ops.csr import CSR, Rows, Sparse, ascending, csr_dot, csr_undot, rows_of, rows_undot
from minigluon.ops.elementwise import add
from minigluon.ops.indexing import whole
from minigluon.ops.shape import reshape, transpose

__all__ = [
    "KEEP",
    "NDArray",
    "SCALED",
    "WAYS",
    "arithmetic",
    "attach_grad",
    "chosen",
    "counted",
    "cut",
    "divided",
    "dot",
    "embedding",
    "fully_connected",
    "interpret",
    "length",
    "looked_up",
    "met",
    "nothing",
    "product",
    "retained",
    "row_sparse_product",
    "shifted",
    "squares",
    "stacked",
    "stored",
    "sum_of_all",
    "take",
    "tell_fallback",
    "together",
    "told",
    "tostype",
    "total",
    "tracked",
    "unrecorded",
    "values",
]


# --- Ways of operators ----------------------------------------------------------------------------

WAYS = {}  # name of an operator -> function(op, *args, **settings); None if it knows no way


def interpret(op, args, settings):
    """Interpret `op` on arrays of which some are sparse."""
    way = WAYS.get(op.name)
    y = way and way(op, *args, **settings)
    if y is None:
        tell_fallback(op, args)
        return op(*map(dense, args), **settings)
    if state.recording and y._node is None and any(map(tracked, args)):
        y._node = op(*map(dense, args), **settings)._node
    return y


interpreters[CSRNDArray] = interpreters[RowSparseNDArray] = interpret


def tracked(a):
    """Whether `a` is an array that depends on a variable."""
    return getattr(a, "_node", None) is not None


told = set()


def tell_fallback(op, args):
    """Log, once for each operator and storage, that an operator computes on dense copies."""
    kinds = ", ".join(a.stype for a in args if isinstance(a, NDArray))
    if (op.name, kinds) in told or os.environ.get("MXNET_STORAGE_FALLBACK_LOG_VERBOSE") == "0":
        return
    told.add((op.name, kinds))
    logging.getLogger("minigluon").warning(
        "Storage type fallback detected: operator %s makes dense copies of its arrays [%s]. The "
        "result is right, but neither time nor memory is saved. Set "
        "MXNET_STORAGE_FALLBACK_LOG_VERBOSE=0 to see no such message.",
        op.name,
        kinds,
    )


KEEP = """abs arcsin arcsinh arctan arctanh cast cbrt ceil degrees expm1 fix floor identity log1p
make_loss negative radians relu rint round sign sin sinh sqrt square stop_gradient tan tanh trunc clip
contrib_quadratic"""
SCALED = (
    """multiply divide add subtract equal not_equal greater greater_equal lesser lesser_equal"""
)


def values(a):
    """The stored numbers of a sparse array, as an NDArray without a history."""
    return NDArray(a._data.values, a._ctx) if isinstance(a, BaseSparseNDArray) else a


def stored(op, *args, **settings):
    """Apply `op` to the stored numbers of its only array, if it maps 0 to 0."""
    (a,) = (a for a in args if isinstance(a, NDArray))
    zero = NDArray(np.zeros_like(a._data.values, shape=(1,)), a._ctx)
    if (op(*(zero if x is a else x for x in args), **settings)._data != 0).any():
        return None
    numbers = op(*map(values, args), **settings)
    return wrapped(a._data.like(numbers._data), a._ctx)


def nothing(op, a):
    """Zeros like `a`, none of them stored."""
    return zeros(a.stype, a.shape, a._ctx, a.dtype)


WAYS.update(dict.fromkeys(KEEP.split(), stored), zeros_like=nothing)


def arithmetic(op, lhs, rhs):
    """`lhs op rhs`: sparse where MXNet's is, otherwise dense without more ado."""
    if state.recording:
        with autograd.pause(state.training):
            y = unrecorded(op, lhs, rhs)
    else:
        y = unrecorded(op, lhs, rhs)
    return op(dense(lhs), dense(rhs)) if y is None else y


def unrecorded(op, lhs, rhs):
    """`lhs op rhs` if it is sparse, otherwise None."""
    if not (isinstance(lhs, NDArray) and isinstance(rhs, NDArray)):
        return stored(op, lhs, rhs)
    a, b, y = lhs._data, rhs._data, None
    if a.dtype == b.dtype:
        if type(a) is type(b) and a.shape == b.shape:
            y = together(op.name, a, b)
        elif isinstance(a, Sparse) and not isinstance(b, Sparse):
            y = met(op, a, b)
    return None if y is None else wrapped(y, lhs._ctx)


def together(name, a, b):
    """The sum, difference or product of two raw sparse arrays of one kind."""
    if name == "multiply":
        places, i, j = np.intersect1d(a.places(), b.places(), True, return_indices=True)
        return a.at(a.shape, places, a.values[i] * b.values[j])
    if name in ("add", "subtract"):
        other = b.values if name == "add" else -b.values
        if type(a) is Rows:
            return a + b.like(other)
        places = np.concatenate([a.places(), b.places()])
        return a.summed(a.shape, places, np.concatenate([a.values, other]))
    return None


def met(op, a, b):
    """The product of a raw sparse array and a dense one; the quotient if the latter is repeated."""
    if op.name == "multiply" and type(a) is Rows and a.shape == b.shape:
        return a.like(a.values * b[a.indices])
    repeated = len(b.shape) == 2 and all(n in (1, m) for n, m in zip(b.shape, a.shape))
    known = op.name == "multiply" or (op.name == "divide" and a.shape != b.shape)
    if type(a) is CSR and repeated and known:
        return a.like(op.kernel(a.values, np.broadcast_to(b, a.shape)[a.rows(), a.indices]))
    return None


def sum_of_all(op, *arrays, **_):
    """The sum of row-sparse arrays."""
    return reduce(add, arrays) if {a.stype for a in arrays} == {"row_sparse"} else None


WAYS.update(dict.fromkeys(SCALED.split(), arithmetic), add_n=sum_of_all)


def product(a, b, transposed):
    """The NDArray A b or Aᵀ b of a CSR array and a matrix, recorded with respect to `b`."""
    raw, ctx = a._data, a._ctx
    parts = [NDArray(p, ctx) for p in (raw.values, raw.indices, raw.indptr)]
    if not transposed:
        return csr_dot(*parts, b)
    shape = (raw.shape[1], b.shape[1])
    return csr_undot(*parts, b, NDArray(np.zeros_like(raw.values, shape=shape), ctx))


def dot(op, lhs, rhs, transpose_a=False, transpose_b=False, forward_stype=None):
    """The product of matrices, one CSR and no variable; `forward_stype` may ask for a storage."""
    plain = not (transpose_a or transpose_b or state.recording) and forward_stype is None
    if plain and type(lhs) is CSRNDArray and type(rhs) is NDArray:
        a, b = lhs._data, rhs._data  # at once: what follows takes a microsecond to find out as much
        if b.ndim == 2 and a.values.dtype is b.dtype and a.shape[1] == b.shape[0]:
            return NDArray(csr_dot.kernel(a.values, a.indices, a.indptr, b), lhs._ctx)
    left = lhs.stype == "csr"
    a, b = (lhs, dense(rhs)) if left else (rhs, dense(lhs))
    transposed, turned = (transpose_a, transpose_b) if left else (not transpose_b, not transpose_a)
    if a.stype != "csr" or tracked(a) or b.ndim != 2:
        if forward_stype in (None, "default"):
            return None
        y = op(dense(lhs), dense(rhs), transpose_a, transpose_b)
        return cast_storage(y, forward_stype)
    if a.dtype != b.dtype or a.shape[not transposed] != b.shape[turned]:
        return op(dense(lhs), dense(rhs), transpose_a, transpose_b)  # which says what is wrong
    by_rows = transpose_a and not transpose_b and rhs.stype != "csr"  # where MXNet's are sparse
    by_columns = lhs.stype == "default" and not transpose_a
    usual = "row_sparse" if left and by_rows else "default" if left or not by_columns else "csr"
    forward_stype, b = forward_stype or usual, transpose(b) if turned else b
    if (
        left
        and transposed
        and forward_stype == "row_sparse"
        and not (state.recording and tracked(b))
    ):
        return wrapped(row_sparse_product(a._data, b._data), a._ctx)
    y = product(a, b, transposed) if left else transpose(product(a, b, transposed))
    return y if forward_stype == "default" else cast_storage(y, forward_stype)


def row_sparse_product(a, b):
    """The raw Aᵀ b of which only the rows that are not 0 are made."""
    rows, values = rows_undot.kernel(a.values, a.indices, a.indptr, b)
    return Rows((a.shape[1], b.shape[1]), values, rows)


def fully_connected(op, data, weight, bias=None, no_bias=False, **settings):
    """A dense layer on a batch of CSR data; the bias may be a column, as row-sparse arrays are."""
    if bias is not None and bias.ndim == 2 and bias.shape[1] == 1:
        row = reshape(dense(bias), shape=(-1,))
        return op(data, weight, row, no_bias=no_bias, **settings)
    y = WAYS["dot"](op, data, weight, transpose_b=True, forward_stype="default")
    return y if y is None or bias is None or no_bias else y + bias


WAYS.update(dot=dot, FullyConnected=fully_connected)


def chosen(a, rows):
    """The rows of a raw CSR array that `rows` names."""
    begin, count = a.indptr[rows], a.indptr[rows + 1] - a.indptr[rows]
    indptr = np.zeros_like(a.indptr, shape=(len(rows) + 1,))
    indptr[1:] = count.cumsum()
    total = int(indptr[-1])
    where = np.arange(total) + (begin - indptr[:-1])[rows_of(indptr, total)]
    return CSR((len(rows), a.shape[1]), a.values[where], indptr, a.indices[where])


def looked_up(a, rows):
    """The rows of a raw row-sparse array that `rows` names, dense."""
    if not len(a.indices):
        return np.zeros_like(a.values, shape=(len(rows), *a.shape[1:]))
    order = None if ascending(a) else np.argsort(a.indices)
    at = np.searchsorted(a.indices, rows, sorter=order).clip(max=len(a.indices) - 1)
    at = at if order is None else order[at]
    there = (a.indices[at] == rows).reshape(-1, *(1,) * (a.ndim - 1))
    return a.values[at] * there


def take(op, a, indices, axis=0, mode="clip"):
    """Rows of a sparse array: CSR of CSR, dense of row-sparse."""
    if axis != 0 or isinstance(indices, BaseSparseNDArray) or a.stype == "default":
        return None
    raw, rows = a._data, whole(a._data, indices._data, 0, mode)
    if type(raw) is Rows:
        found = looked_up(raw, rows.reshape(-1))
        return NDArray(found.reshape(*rows.shape, *raw.shape[1:]), a._ctx)
    return wrapped(chosen(raw, rows), a._ctx) if rows.ndim == 1 else None


def embedding(op, data, weight, **settings):
    """Rows of a row-sparse table, which the tape keeps as it is."""
    if weight.stype != "row_sparse":
        return None
    y = take(op, weight, data)
    if state.recording and tracked(weight):
        arrays, parents = (data._data, weight._data), (data._node, weight._node)
        y._node = autograd.Node(op, arrays, settings, y._data, parents, y._ctx)
    return y


def retained(op, data, indices):
    """The rows of a row-sparse array that `indices` names, also those that are 0."""
    if data.stype == "row_sparse" and indices.stype == "default":
        raw, rows = data._data, indices._data.astype("int64")
        return wrapped(raw.at(raw.shape, rows, looked_up(raw, rows)), data._ctx)
    return None


def cut(op, a, begin, end, step=()):
    """A block of a CSR array."""
    if a.stype != "csr" or any(s not in (None, 1) for s in step or ()) or len(begin) > 2:
        return None
    raw = a._data
    bounds = [
        slice(b, e).indices(n)[:2] for b, e, n in zip((*begin, None), (*end, None), raw.shape)
    ]
    (top, bottom), (left, right) = bounds
    lo, hi = (int(raw.indptr[i]) for i in (top, max(top, bottom)))
    indptr = raw.indptr[top : max(top, bottom) + 1] - lo
    part = CSR((len(indptr) - 1, raw.shape[1]), raw.values[lo:hi], indptr, raw.indices[lo:hi])
    if (left, right) != (0, raw.shape[1]):
        inside = (part.indices >= left) & (part.indices < right)
        shape = (part.shape[0], max(right - left, 0))
        places = part.rows() * shape[1] + part.indices - left
        part = CSR.at(shape, places[inside], part.values[inside])
    return wrapped(part, a._ctx)


def stacked(op, *arrays, dim=1, **_):
    """CSR arrays of the same width and type on top of each other."""
    raw = [a._data for a in arrays]
    alike = {(type(a), a.shape[1:], a.dtype) for a in raw}
    if dim != 0 or len(alike) > 1 or type(raw[0]) is not CSR:
        return None
    ends = np.cumsum([0] + [len(a.values) for a in raw])
    parts = [a.indptr[:-1] + end for a, end in zip(raw, ends)] + [raw[0].indptr[:1] + ends[-1]]
    shape = (sum(a.shape[0] for a in raw), raw[0].shape[1])
    numbers, columns = (np.concatenate([getattr(a, n) for a in raw]) for n in ("values", "indices"))
    return wrapped(CSR(shape, numbers, np.concatenate(parts), columns), arrays[0]._ctx)


def counted(op, a, axis=None):
    """How many numbers a CSR array stores: of all, or of each row."""
    if a.stype != "csr" or axis not in (None, 1):
        return None
    raw = a._data
    found = np.diff(raw.indptr) if axis == 1 else raw.indptr[-1:]
    return NDArray(found.astype("int64"), a._ctx)


WAYS.update(contrib_getnnz=counted, contrib_SparseEmbedding=embedding)
WAYS.update(take=take, Embedding=embedding, sparse_retain=retained, slice=cut, concat=stacked)


def shifted(op, a, **settings):
    """A number added to the stored ones, or subtracted."""
    return wrapped(a._data.like(op(values(a), **settings)._data), a._ctx)


def divided(op, lhs, rhs):
    """The stored rows of `lhs`, divided by the same rows of `rhs`."""
    if lhs.stype != "row_sparse" or lhs.shape != rhs.shape:
        return None
    with autograd.pause(state.training):
        below = NDArray(dense(rhs)._data[lhs._data.indices], lhs._ctx)
        return wrapped(lhs._data.like(op(values(lhs), below)._data), lhs._ctx)


def squares(op, a, axis=None, keepdims=False, exclude=False):
    """The sums of squares of rows, or of columns of rows; with `keepdims` those of rows are rows."""
    (axis,) = axis if isinstance(axis, tuple | list) and len(axis) == 1 else (axis,)
    if a.stype != "row_sparse" or len(a.shape) != 2 or exclude or axis not in (0, 1):
        return None
    found = op(values(a), axis=axis, keepdims=keepdims)
    if axis == 0:
        return found
    rows = Rows((a.shape[0], *found.shape[1:]), found._data, a._data.indices)
    return wrapped(rows, a._ctx) if keepdims else dense(wrapped(rows, a._ctx))


WAYS.update(_scatter_plus_scalar=shifted, _scatter_minus_scalar=shifted)
WAYS.update(_scatter_elemwise_div=divided, _square_sum=squares)


def total(op, a, axis=None, keepdims=False, exclude=False):
    """The sum or mean of a sparse array, dense."""
    (axis,) = axis if isinstance(axis, tuple | list) and len(axis) == 1 else (axis,)
    if exclude or (keepdims and axis is None) or (a.stype != "csr" and axis is not None):
        return None
    if axis is None:
        y, count = operators["sum"](values(a)), math.prod(a.shape)
    elif axis in (0, 1, -1):
        count = a.shape[axis]
        ones = np.ones_like(a._data.values, shape=(count, 1))
        with autograd.pause(state.training):
            y = product(a.detach(), NDArray(ones, a._ctx), transposed=axis == 0)
        shape = ((1, -1) if axis == 0 else (-1, 1)) if keepdims else (-1,)
        y = NDArray(y._data.reshape(shape), a._ctx)
    else:
        return None
    return y if op.name == "sum" else y / count


def length(op, a, **settings):
    """The norm of all numbers: that of the stored ones."""
    return None if settings.get("axis") is not None or settings.get("keepdims") else op(values(a))


WAYS.update(sum=total, mean=total, norm=length)


# --- Gradients with few rows ----------------------------------------------------------------------


def attach_grad(self, grad_req="write", stype=None):
    """Make this array a variable with a gradient of zeros, stored as `stype`; its history is cut off."""
    stype = stype or self.stype
    if stype == self.stype == "default":
        autograd.attach_grad(self, grad_req)
    else:
        mark_variables(self, zeros(stype, self.shape, self._ctx, self.dtype), grad_req)


def tostype(self, stype):
    """A copy with storage 'default', 'csr' or 'row_sparse'."""
    return cast_storage(self, stype)


NDArray.attach_grad, NDArray.tostype = attach_grad, tostype
