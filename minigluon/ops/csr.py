"""Store only the numbers that are not zero, and look to everybody else like an array that stores them all."""

# Written from chapters/17_sparse.ipynb: edit the chapter, then run `minigluon export`.

from contextlib import contextmanager

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import Operand, operator
from minigluon.ops.elementwise import divide
from minigluon.ops.indexing import Embedding, take, untake, whole

__all__ = [
    "CSR",
    "Rows",
    "Sparse",
    "ascending",
    "combined",
    "contrib_SparseEmbedding",
    "contrib_getnnz",
    "csr_dot",
    "csr_pick",
    "csr_undot",
    "embedding_gradient",
    "ends_of",
    "first_of_equals",
    "looked_up",
    "product_gradient",
    "rows_of",
    "rows_undot",
    "sparse_retain",
    "telling",
    "terms",
]


# --- Raw sparse arrays ----------------------------------------------------------------------------


class Sparse(np.lib.mixins.NDArrayOperatorsMixin):
    """A raw array that stores some of its numbers, `values`; the others are 0.

    To NumPy it is an array like any other: what has no shorter way computes on `dense()`. The stored
    parts are never written to, so that arrays can share them.
    """

    dtype = property(lambda self: self.values.dtype)
    ndim = property(lambda self: len(self.shape))

    def get(self):
        """The dense array, in the memory of the host."""
        dense = self.dense()
        return dense if isinstance(dense, np.ndarray) else dense.get()

    def __array__(self, dtype=None, copy=None):
        return self.get() if dtype is None else self.get().astype(dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        inputs = [a.dense() if isinstance(a, Sparse) else a for a in inputs]
        return getattr(ufunc, method)(*inputs, **settings)

    # --- Raw sparse arrays ------------------------------------------------------------------------

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dense(), name)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        return self.dense()[key]

    def __setitem__(self, key, value):
        """`a[...] = value`: all of it, whatever the key."""
        if isinstance(value, int | float | np.number) and value == 0:
            value = self.none(self.shape, self.values)
        elif type(value) is not type(self):
            full = np.zeros_like(self.values, shape=self.shape)
            full[...] = value
            value = self.of(full)
        vars(self).update(vars(value.like(value.values.astype(self.dtype, copy=False))))

    def __iadd__(self, other):
        self[...] = self + other
        return self

    def copy(self):
        """An array of its own; the parts, which nobody writes to, are shared."""
        return self.like(self.values)


@operator(same_dtype=False, listed=False)
def combined(values, keys, /):
    """The distinct `keys`, whole numbers from 0, in ascending order;
    and the sum of each one's values.
    """
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(values.take(order, 0), first, dtype=values.dtype)


class Rows(Sparse):
    """An array of `shape` whose rows are 0, except `values[i]` in row `indices[i]`."""

    def __init__(self, shape, values, indices):
        self.shape, self.values, self.indices = tuple(shape), values, indices

    @classmethod
    def at(cls, shape, places, values):
        return cls(shape, values, places)

    @classmethod
    def of(cls, dense):
        """The rows of `dense` that are not 0."""
        found = np.flatnonzero((dense != 0).any(axis=tuple(range(1, dense.ndim))))
        return cls(dense.shape, dense[found], found)

    @classmethod
    def none(cls, shape, like):
        """Zeros, of the type of `like` and in its memory."""
        nowhere = np.zeros_like(like, "int64", shape=(0,))
        return cls(shape, np.zeros_like(like, shape=(0, *shape[1:])), nowhere)

    @classmethod
    def summed(cls, shape, places, values):
        """`values` in the rows `places`, added where a row comes more than once."""
        return cls(shape, *combined.kernel(values, places)[::-1])

    # --- Raw sparse arrays ------------------------------------------------------------------------

    def like(self, values):
        """Other numbers in the same places."""
        return Rows(self.shape, values, self.indices)

    def places(self):
        """The rows that are stored."""
        return self.indices

    def dense(self):
        """The array with all its numbers."""
        out = np.zeros(self.shape, self.values.dtype, like=self.values)
        with telling(self):
            out[self.indices] = self.values
        return out

    def __add__(self, other):
        if not isinstance(other, Rows):
            return super().__add__(other)
        if ascending(self) and ascending(other):
            return self.joined(other)
        parts = [self, other]
        places = np.concatenate([a.indices for a in parts])
        return Rows.summed(self.shape, places, np.concatenate([a.values for a in parts]))

    def joined(self, other):
        """The sum with an array of which, as of this one, no row comes twice."""
        places = np.concatenate((self.indices, other.indices))
        places.sort()
        places = places[first_of_equals(places)]
        out = np.zeros((len(places), *self.shape[1:]), self.values.dtype)
        out[places.searchsorted(self.indices)] = self.values
        out[places.searchsorted(other.indices)] += other.values
        return Rows(self.shape, out, places)

    def problem(self, ordered=True):
        """What is wrong with the parts, if anything; `ordered`: the rows must ascend."""
        found, shape = self.indices, self.shape
        if not shape or found.ndim != 1 or self.values.shape != (len(found), *shape[1:]):
            return "the shapes of data and indices do not fit the array's"
        if ((found < 0) | (found >= shape[0])).any():
            return "indices must be rows: not negative, less than the size of the first axis"
        if ordered and (np.diff(found) <= 0).any():
            return "indices must be in ascending order"
        return None


def first_of_equals(keys):
    """Which of some sorted numbers differ from the one before."""
    found = np.empty(len(keys), bool)
    found[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=found[1:])
    return found


def ascending(a):
    """Whether the rows of a raw row-sparse array of NumPy are in order and none comes twice."""
    steps = a.indices[1:] > a.indices[:-1]
    return type(steps) is np.ndarray and (not steps.size or steps.item(steps.argmin()))


def rows_of(indptr, stored):
    """The row of each of the `stored` numbers."""
    return np.bincount(indptr[1:-1], minlength=stored + 1).cumsum()[:stored]


def ends_of(rows, count):
    """Where each of `count` rows begins and ends among numbers that lie in `rows`,
    in ascending order.
    """
    ends = np.zeros(count + 1, rows.dtype, like=rows)
    np.bincount(rows, minlength=count).cumsum(out=ends[1:])
    return ends


class CSR(Sparse):
    """A matrix that stores, row by row, `values` in the columns `indices`.

    Those of row i are number `indptr[i]` up to, but not with, `indptr[i + 1]`.
    """

    def __init__(self, shape, values, indptr, indices):
        self.shape, self.values = tuple(shape), values
        self.indptr, self.indices = indptr, indices

    @classmethod
    def at(cls, shape, places, values):
        """`values` at `places`, which are ordered by rows."""
        rows, columns = np.divmod(places, max(shape[1], 1))
        return cls(shape, values, ends_of(rows, shape[0]), columns)

    @classmethod
    def of(cls, dense):
        """The numbers of the matrix `dense` that are not 0."""
        if dense.ndim != 2:
            raise MXNetError(f"csr is for matrices, not for an array of shape {dense.shape}")
        rows, columns = np.nonzero(dense)
        return cls(dense.shape, dense[rows, columns], ends_of(rows, dense.shape[0]), columns)

    # --- Raw sparse arrays ------------------------------------------------------------------------

    @classmethod
    def none(cls, shape, like):
        """Zeros, of the type of `like` and in its memory."""
        nowhere = np.zeros_like(like, "int64", shape=(0,))
        return cls.at(shape, nowhere, np.zeros_like(like, shape=(0,)))

    @classmethod
    def summed(cls, shape, places, values):
        """`values` at `places`, added where a place comes more than once."""
        return cls.at(shape, *combined.kernel(values, places))

    def like(self, values):
        """Other numbers in the same places."""
        return CSR(self.shape, values, self.indptr, self.indices)

    def rows(self):
        """The row of each stored number."""
        return rows_of(self.indptr, len(self.values))

    def places(self):
        """Row times width plus column, of each stored number."""
        return self.rows() * self.shape[1] + self.indices

    def dense(self):
        """The array with all its numbers."""
        out = np.zeros(self.shape, self.values.dtype, like=self.values)
        with telling(self):
            out[self.rows(), self.indices] = self.values
        return out

    def problem(self, ordered=True):
        """What is wrong with the parts, if anything; `ordered`: the columns of a row must ascend."""
        values, p, c = self.values, self.indptr, self.indices
        flat = values.ndim == p.ndim == c.ndim == 1 and len(self.shape) == 2
        if not flat or len(p) != self.shape[0] + 1 or len(values) != len(c):
            return "the shapes of data, indices and indptr do not fit the array's"
        if p[0] != 0 or p[-1] != len(values) or (np.diff(p) < 0).any():
            return (
                "indptr must begin with 0, never descend, and end with how many numbers there are"
            )
        if ((c < 0) | (c >= self.shape[1])).any():
            return "indices must be columns: not negative, less than the number of columns"
        if ordered and (np.diff(self.places()) <= 0).any():
            return "indices must be in ascending order in each row"
        return None


@contextmanager
def telling(a):
    """Say what is wrong with the parts of `a` if they cannot be used."""
    try:
        yield
    except (IndexError, ValueError) as error:
        why = a.problem(ordered=False) or error
        raise MXNetError(f"not a valid {type(a).__name__} array: {why}") from None


# --- The product ----------------------------------------------------------------------------------


def product_gradient(g, y, data, indices, indptr, rhs):
    """The gradient of `csr_dot` in `rhs`: on raw arrays only the rows that are not 0."""
    if isinstance(g, Operand):
        return csr_undot(data, indices, indptr, g, rhs)
    return Rows(rhs.shape, *rows_undot.kernel(data, indices, indptr, g)[::-1])


def terms(data, indptr, rhs):
    """Each stored number times the row of `rhs` that belongs to its row."""
    return data[:, None] * rhs.take(rows_of(indptr, len(data)), 0)


@operator(same_dtype=False, listed=False)
def rows_undot(data, indices, indptr, rhs, /):
    """The product of a transposed CSR matrix and `rhs`:
    which of its rows are not 0, ascending, and these rows.
    """
    return combined.kernel(terms(data, indptr, rhs), indices)


@operator(
    vjp=(
        lambda g, y, a, c, p, b: csr_pick(g, b, c, p),
        None,
        None,
        product_gradient,
    ),
    same_dtype=False,
)
def csr_dot(data, indices, indptr, rhs, /):
    """The product of a CSR matrix (m, k), given by its parts, and the matrix `rhs` (k, n)."""
    found = rhs.take(indices, 0)
    found *= data[:, None]
    y = np.zeros((len(indptr) - 1, rhs.shape[1]), found.dtype, like=found)
    used = indptr[1:] > indptr[:-1]
    y[used] = np.add.reduceat(found, indptr[:-1][used])
    return y


@operator(
    vjp=(
        lambda g, y, a, c, p, b, like: csr_pick(b, g, c, p),
        None,
        None,
        lambda g, y, a, c, p, b, like: csr_dot(a, c, p, g),
        None,
    ),
    same_dtype=False,
)
def csr_undot(data, indices, indptr, rhs, like, /):
    """The product of a transposed CSR matrix (k, m) and `rhs` (m, n), in the shape of `like` (k, n)."""
    y = np.zeros_like(like)
    rows, y[rows] = rows_undot.kernel(data, indices, indptr, rhs)
    return y


@operator(
    vjp=(
        lambda g, y, a, b, c, p: csr_dot(g, c, p, b),
        lambda g, y, a, b, c, p: csr_undot(g, c, p, a, b),
        None,
        None,
    ),
    same_dtype=False,
)
def csr_pick(lhs, rhs, indices, indptr, /):
    """Of `lhs` (m, n) times `rhs` (k, n) transposed, the numbers at the places of a CSR matrix
    (m, k).
    """
    found = lhs.take(rows_of(indptr, len(indices)), 0)
    return (found * rhs.take(indices, 0)).sum(axis=1)


@operator(
    vjp=(lambda g, y, data, like, indices: take(g, indices), None, None),
    same_dtype=False,
    listed=False,
)
def looked_up(data, like, indices, /):
    """`untake` of NumPy's arrays, stored as the rows that `indices` names;
    on a device, where a count of rows is worth waiting for, all rows.
    """
    if type(data) is not np.ndarray:
        return untake.kernel(data, like, indices)
    rows = whole(like, indices, 0, "clip").reshape(-1)
    return Rows.summed(like.shape, rows, data.reshape(len(rows), like.shape[1]))


def embedding_gradient(g, y, data, weight, sparse_grad, **_):
    """The gradient of the table: with `sparse_grad`, only the rows that were looked up."""
    if not sparse_grad or isinstance(g, NDArray):
        return untake(g, weight, data)
    if isinstance(g, Operand):
        return looked_up(g, weight, data)
    rows = whole(weight, data, 0, "clip").reshape(-1)
    return Rows.summed(weight.shape, rows, g.reshape(len(rows), weight.shape[1]))


Embedding.rules = (None, embedding_gradient)


@operator(same_dtype=False)
def contrib_SparseEmbedding(
    data, weight, /, input_dim=None, output_dim=None, dtype="float32", deterministic=False
):
    """`Embedding` whose gradient is row-sparse."""
    return Embedding.kernel(data, weight, input_dim, output_dim)


@contrib_SparseEmbedding.shapes
def _(data, weight, input_dim=None, output_dim=None, **_):
    return data, (input_dim, output_dim) if input_dim and output_dim else weight


contrib_SparseEmbedding.rules = (
    None,
    lambda g, y, data, weight, **_: embedding_gradient(g, y, data, weight, sparse_grad=True),
)


@operator(vjp=(None,))
def contrib_getnnz(data, /, axis=None):
    """How many numbers are stored, or not 0: of all, or with axis=1 of each row."""
    if axis not in (None, 1):
        raise ValueError(f"axis={axis!r}: it is None or 1")
    found = (data != 0).sum(axis=axis, dtype="int64")
    return found.reshape(-1)


@operator(vjp=(lambda g, y, data, rows: sparse_retain(g, rows), None), same_dtype=False)
def sparse_retain(data, indices, /):
    """`data` with 0 in all rows that `indices` does not name."""
    y, rows = np.zeros_like(data), indices.astype("int64")
    y[rows] = data[rows]
    return y


# --- Ways of operators ----------------------------------------------------------------------------


@operator(vjp=(lambda g, y, data, scalar, is_int: g,))
def _scatter_plus_scalar(data, /, scalar=1.0, is_int=True):
    """A number added to all that is stored of `data`."""
    return data + data.dtype.type(scalar)


@operator(vjp=(lambda g, y, data, scalar, is_int: g,))
def _scatter_minus_scalar(data, /, scalar=1.0, is_int=True):
    """A number subtracted from all that is stored of `data`."""
    return data - data.dtype.type(scalar)


@operator(vjp=(lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b))
def _scatter_elemwise_div(lhs, rhs, /):
    """The quotient of two arrays of one shape; of rows, only those that `lhs` stores are divided."""
    if lhs.shape != rhs.shape:
        raise ValueError(f"arrays of {lhs.shape} and {rhs.shape}: they have one shape")
    with np.errstate(divide="ignore", invalid="ignore"):
        return divide.kernel(lhs, rhs)
