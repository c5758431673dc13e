"""Store only the numbers that are not zero, and look to everybody else like an array that stores them all."""

# Written from chapters/17_sparse.ipynb, chapters/19_namespace.ipynb: edit the chapter, then run `minigluon export`.

from operator import index

import numpy as np

import minigluon.ndarray.ndarray as plain
from minigluon.autograd import assign, state
from minigluon.base import MXNetError
from minigluon.context import Context, current_context, put
from minigluon.namespace import Namespace, seen_by_ndarray
from minigluon.ndarray.ndarray import NDArray, real_dtype, sizes
from minigluon.op import operators
from minigluon.ops.csr import CSR, Rows
from minigluon.ops.elementwise import identity

# --- Sparse NDArrays ------------------------------------------------------------------------------


class NotSupportedForSparseNDArray(MXNetError):
    """What only dense arrays can do."""


class BaseSparseNDArray(NDArray):
    """An NDArray that stores only some of its numbers."""

    __slots__ = ()

    def __bool__(self):
        raise ValueError(f"The truth value of a {type(self).__name__} is ambiguous")

    @property
    def size(self):
        raise NotImplementedError("a sparse array does not tell its size: see shape, or data.size")

    @property
    def data(self):
        """A copy of the stored numbers."""
        return self._part("values")

    @property
    def indices(self):
        """A copy of the places of the stored numbers: rows of a row-sparse array, columns of CSR."""
        return self._part("indices")

    def _part(self, name):
        return NDArray(getattr(self._data, name).copy(), self._ctx)

    def __repr__(self):
        shape = "x".join(map(str, self.shape))
        return f"\n<{type(self).__name__} {shape} @{self._ctx}>"

    # --- Sparse NDArrays --------------------------------------------------------------------------

    def __reduce__(self):
        return relocated, (moved(self._data, Context("cpu")), self._ctx)

    def reshape(self, *shape, **settings):
        raise NotSupportedForSparseNDArray(
            f"reshape is not supported for {type(self).__name__}: use .tostype('default') first"
        )

    def detach(self):
        """The same numbers without a history."""
        return type(self)(self._data, self._ctx)

    def wait_to_read(self):
        """Wait until the numbers are there."""
        self._part("values").wait_to_read()

    def as_in_context(self, context):
        """The array itself if it is on `context`, else a copy there."""
        return self if self._ctx == context else self.copyto(context)

    def check_format(self, full_check=True):
        """MXNetError if the parts do not make an array; `full_check`: if they are not in order, too."""
        if problem := self._data.problem(full_check):
            raise MXNetError(f"not a valid {self.stype} array: {problem}")

    as_in_ctx, wait_to_write = as_in_context, wait_to_read

    def copyto(self, other):
        """Write the numbers into the array `other`, or copy them to the context `other`."""
        if isinstance(other, Context):
            return type(self)(moved(self._data, other), other)
        if other.stype not in ("default", self.stype):
            raise TypeError(f"copyto does not support destination NDArray stype {other.stype}")
        return NDArray.copyto(self, other)

    def tostype(self, stype):
        """A copy, dense or of this kind; ValueError for another kind."""
        if stype not in ("default", self.stype):
            raise ValueError(f"cast_storage from {self.stype} to {stype} is not supported")
        return cast_storage(self, stype)

    def __setitem__(self, key, value):
        """`x[:] = value`, an array of the same shape."""
        name = type(self).__name__
        if not isinstance(key, slice) and key is not ...:
            raise TypeError(f"{name} only supports [:] for assignment")
        if key not in (slice(None), ...):
            raise ValueError(f"Assignment with slice for {name} is not implemented")
        self._write(value)

    def _write(self, value):
        if isinstance(value, np.ndarray):
            value = plain.array(value, self._ctx, self.dtype)
        if not isinstance(value, NDArray):
            raise TypeError(f"type {type(value)} not supported")
        if value is not self:
            value.copyto(self)


class CSRNDArray(BaseSparseNDArray):
    """A matrix in compressed sparse row format: `data`, `indices` (columns) and `indptr`."""

    __slots__ = ()
    stype = "csr"
    _num_aux = 2  # arrays beside the numbers, as MXNet counts them

    @property
    def indptr(self):
        """A copy of the pointers: where among the stored numbers each row begins, and the end."""
        return self._part("indptr")

    def asscipy(self):
        """The matrix as SciPy's `csr_matrix`; SciPy must be installed."""
        from scipy.sparse import csr_matrix

        a = moved(self._data, Context("cpu"))
        return csr_matrix((a.values, a.indices, a.indptr), shape=a.shape, copy=True)

    def _write(self, value):
        if isinstance(value, int | float | np.number):
            raise ValueError("Assigning numeric types to CSRNDArray is not implemented")
        super()._write(value)

    def __getitem__(self, key):
        """`x[i]` or `x[i:j]`: rows, as a CSR array of two axes."""
        if isinstance(key, slice):
            return self._rows(key)
        if isinstance(key, tuple):
            raise ValueError("Multi-dimension indexing is not supported")
        if not hasattr(key, "__index__"):
            raise ValueError(f"Undefined behaviour for {key}")
        i, n = index(key), len(self)
        if not -n <= i < n:
            raise IndexError(f"row {i} of {n} rows")
        return self._rows(slice(i % n, i % n + 1))

    def _rows(self, key):
        begin, end, step = key.indices(len(self))
        if step != 1:
            raise ValueError("CSRNDArray only supports continuous slicing on axis 0")
        return operators["slice"](self, begin=(begin,), end=(max(begin, end),))


class RowSparseNDArray(BaseSparseNDArray):
    """An array with a few rows that are not 0: `data`, and their `indices`."""

    __slots__ = ()
    stype = "row_sparse"
    _num_aux = 1

    def retain(self, indices):
        """A copy in which all rows that `indices` does not name are 0."""
        return retain(self, indices)

    def _write(self, value):
        if isinstance(value, int | float | np.number):
            assign(self, type(self)(filled(self._data, value), self._ctx))
        else:
            super()._write(value)

    def __getitem__(self, key):
        if not (key is ... or (isinstance(key, slice) and key == slice(None))):
            raise NotImplementedError("RowSparseNDArray only supports [:] for __getitem__")
        return self


def filled(a, value):
    """A raw array like `a` in which every number is `value`."""
    out = a.copy()
    out[...] = value
    return out


KINDS = {"csr": CSR, "row_sparse": Rows}
FACES = {CSR: CSRNDArray, Rows: RowSparseNDArray}


def wrapped(raw, ctx, node=None):
    """The NDArray of a raw array, sparse or dense."""
    return FACES.get(type(raw), NDArray)(raw, ctx, node)


def moved(raw, ctx):
    """A raw sparse array with its parts in the memory of `ctx`."""
    parts = {name: put(p, ctx) for name, p in vars(raw).items() if name != "shape"}
    return type(raw)(raw.shape, **parts)


def relocated(raw, ctx):
    """An array that was stored somewhere: on its old context, or on the CPU if that is not there."""
    try:
        return wrapped(moved(raw, ctx), ctx)
    except MXNetError:
        return wrapped(moved(raw, Context("cpu")), Context("cpu"))


def dense(a):
    """`a`, or if it is sparse a dense array that the tape takes for it."""
    return NDArray(a._data.dense(), a._ctx, a._node) if isinstance(a, BaseSparseNDArray) else a


def cast_storage(data, stype, out=None, name=None):
    """A copy of `data` with storage 'default', 'csr' or 'row_sparse'; to the tape, the same numbers."""
    if stype != "default" and stype not in KINDS:
        raise MXNetError(f"stype {stype!r}: it is 'default', 'csr' or 'row_sparse'")
    if "default" not in (stype, data.stype) and stype != data.stype:
        raise MXNetError(f"cast_storage from {data.stype} to {stype} is not implemented")
    raw, node = data._data, None
    if state.recording and data._node is not None:
        node = identity(dense(data))._node
    if stype == data.stype:
        raw = raw.copy()
    else:
        raw = raw.dense() if stype == "default" else KINDS[stype].of(raw)
    y = wrapped(raw, data._ctx, node)
    return y if out is None else assign(out, y)


# --- Making them ----------------------------------------------------------------------------------


def numbers(source, dtype=None):
    """A NumPy array of what a list, an array or an NDArray holds, by default in its type."""
    dtype = getattr(source, "dtype", None) if dtype is None else dtype
    source = source.asnumpy() if isinstance(source, NDArray) else source
    try:
        return np.array(source, real_dtype(dtype))
    except (ValueError, TypeError) as error:
        raise TypeError(f"source_array must be array like object: {error}") from None


def made(raw, ctx):
    """A sparse NDArray of a raw one in NumPy's memory."""
    ctx = current_context() if ctx is None else Context(ctx)
    return wrapped(moved(raw, ctx), ctx)


def require_shape(found, shape):
    """Refuse a shape that is not the one asked for."""
    if shape is not None and tuple(found) != tuple(shape):
        raise ValueError(f"Shape mismatch detected. {tuple(found)} v.s. {tuple(shape)}")


def from_source(source, kind, shape, ctx, dtype):
    """A sparse array of a dense or a sparse one."""
    if isinstance(source, BaseSparseNDArray) and not isinstance(source._data, kind):
        raise ValueError(f"Unexpected input type: {type(source).__name__}")
    if kind is CSR and hasattr(source, "tocsr"):
        return from_scipy(source.tocsr(), shape, ctx, dtype)
    if isinstance(source, BaseSparseNDArray):
        raw = moved(source._data, Context("cpu"))
        raw = raw.like(raw.values.astype(real_dtype(raw.dtype if dtype is None else dtype)))
    else:
        raw = numbers(source, dtype)
        if kind is CSR and raw.ndim != 2:
            raise ValueError(
                f"To convert to a CSR, the NDArray should be 2 Dimensional. Its shape is {raw.shape}"
            )
        raw = kind.of(raw)
    require_shape(raw.shape, shape)
    return made(raw, ctx)


def csr_matrix(arg1, shape=None, ctx=None, dtype=None):
    """A CSR array of `arg1`: (data, indices, indptr), (data, (row, column)),
    (rows, columns) or an array.

    `row` and `column` may name a place several times: its numbers are added. The type is by default
    that of the data; float32 for a list.
    """
    if not isinstance(arg1, tuple):
        return from_source(arg1, CSR, shape, ctx, dtype)
    if len(arg1) == 3:
        return from_parts(CSR, arg1, shape, ctx, dtype)
    if len(arg1) != 2:
        raise ValueError(f"Unexpected length of input tuple: {len(arg1)}")
    if isinstance(arg1[1], tuple):
        return from_places(*arg1, shape, ctx, dtype)
    require_shape(arg1, shape)
    return zeros("csr", arg1, ctx, dtype)


def from_parts(kind, parts, shape, ctx, dtype):
    """A sparse array of its parts, data first; without a shape it is as large as they need."""
    values = numbers(parts[0], dtype)
    places = [numbers(p, "int64") for p in parts[1:]]
    if shape is None:
        end = int(places[0].max(initial=-1)) + 1
        shape = (len(places[1]) - 1, end) if kind is CSR else (end, *values.shape[1:])
    shape = sizes(shape)
    if len(shape) != (2 if kind is CSR else max(values.ndim, 1)):
        raise ValueError(f"invalid shape {shape}")
    raw = kind(shape, values, *places[::-1])
    if values.shape != (*places[0].shape, *(() if kind is CSR else shape[1:])):
        raise MXNetError(f"data of shape {values.shape} for indices of shape {places[0].shape}")
    return made(raw, ctx)


def from_places(data, places, shape, ctx, dtype):
    """A CSR array of numbers, their rows and their columns."""
    row, column = (numbers(p, "int64") for p in places)
    values = numbers(data, np.asarray(data).dtype if dtype is None else dtype)
    ends = [int(p.max(initial=-1)) + 1 for p in (row, column)]
    shape = tuple(ends) if shape is None else sizes(shape)
    low = min(p.min(initial=0) for p in (row, column))
    if len(shape) != 2 or ends[0] > shape[0] or ends[1] > shape[1] or low < 0:
        raise ValueError(f"rows up to {ends[0]} and columns up to {ends[1]} in shape {shape}")
    return made(CSR.summed(shape, row * shape[1] + column, values), ctx)


def from_scipy(a, shape, ctx, dtype):
    """A CSR array of SciPy's; where SciPy stores a place twice, the sum."""
    require_shape(a.shape, shape)
    if not a.has_canonical_format:
        a = a.copy()
        a.sum_duplicates()
    return from_parts(CSR, (a.data, a.indices, a.indptr), a.shape, ctx, dtype)


def row_sparse_array(arg1, shape=None, ctx=None, dtype=None):
    """A row-sparse array of `arg1`: (data, indices), a shape, or an array."""
    if not isinstance(arg1, tuple):
        return from_source(arg1, Rows, shape, ctx, dtype)
    if len(arg1) == 2 and not isinstance(arg1[0], int | np.integer):
        return from_parts(Rows, arg1, shape, ctx, dtype)
    require_shape(arg1, shape)
    return zeros("row_sparse", arg1, ctx, dtype)


def zeros(stype, shape, ctx=None, dtype=None, **settings):
    """An array of zeros with storage 'default', 'csr' or 'row_sparse', which stores none of them."""
    if stype == "default":
        return plain.zeros(shape, ctx, dtype, **settings)
    if stype not in KINDS:
        raise ValueError(f"unknown storage type {stype!r}: it is 'default', 'csr' or 'row_sparse'")
    shape = sizes(shape)
    if not shape or (stype == "csr" and len(shape) != 2):
        raise MXNetError(f"csr is for matrices, row_sparse for arrays with rows, not for {shape}")
    return made(KINDS[stype].none(shape, np.zeros((), real_dtype(dtype))), ctx)


def empty(stype, shape, ctx=None, dtype=None):
    """The same as `zeros`, for sparse arrays only."""
    if stype not in KINDS:
        raise ValueError(f"unknown stype : {stype}")
    return zeros(stype, shape, ctx, dtype)


def array(source_array, ctx=None, dtype=None):
    """A copy of a sparse array, or of a sparse matrix of SciPy."""
    if isinstance(source_array, BaseSparseNDArray) or hasattr(source_array, "tocsr"):
        kind = Rows if getattr(source_array, "stype", "csr") == "row_sparse" else CSR
        return from_source(source_array, kind, None, ctx, dtype)
    assert not isinstance(source_array, NDArray), "a dense NDArray has tostype for this"
    raise ValueError(f"Unexpected source_array type {type(source_array)}: use mx.nd.array")


def add(lhs, rhs):
    """`lhs + rhs`, of arrays and numbers."""
    return lhs + rhs


def subtract(lhs, rhs):
    """`lhs - rhs`, of arrays and numbers."""
    return lhs - rhs


def multiply(lhs, rhs):
    """`lhs * rhs`, of arrays and numbers."""
    return lhs * rhs


def divide(lhs, rhs):
    """`lhs / rhs`, of arrays and numbers."""
    return lhs / rhs


def retain(data, indices, out=None, name=None):
    """`data` with 0 in all rows that `indices` does not name."""
    y = operators["sparse_retain"](data, indices)
    return y if out is None else assign(out, y)


# --- Namespaces -----------------------------------------------------------------------------------

space = Namespace(__name__, seen_by_ndarray)
__getattr__, __dir__ = space.find, space.names
