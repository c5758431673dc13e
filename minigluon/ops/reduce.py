"""Many numbers become one: sums and their adjoints, ties, and the softmax that does not overflow."""

# Written from chapters/11_reduce.ipynb: edit the chapter, then run `minigluon export`.

from functools import lru_cache
from math import prod

import numpy as np

from minigluon.cores import MANY, alone, matmul, spread
from minigluon.ndarray.ndarray import real_dtype
from minigluon.op import Operand, operator
from minigluon.ops.elementwise import LONG, STRETCH, cast_like, equal, exp

__all__ = [
    "CALM",
    "EXTREMES",
    "FEW",
    "RUN",
    "SHORT",
    "WIDE",
    "along",
    "are_columns",
    "argmax",
    "argmin",
    "at_least_1d",
    "axes",
    "broadcast_along",
    "by_blocks",
    "by_rows",
    "calm",
    "centred",
    "column_sums",
    "columns_of_rows",
    "counted",
    "dotted",
    "highest",
    "is_wide",
    "log_shares",
    "log_softmax",
    "log_softmax_rule",
    "max",
    "mean",
    "min",
    "one_axis",
    "ones_of",
    "place_of",
    "places",
    "products_with_ones",
    "reduced",
    "row_of_ones",
    "row_sums",
    "scaled",
    "shares",
    "softmax",
    "softmax_rule",
    "softmax_within",
    "spread_along",
    "sum",
    "summed",
    "wide",
]


# --- Axes -----------------------------------------------------------------------------------------


def axes(data, axis, exclude):
    """The axes to reduce, as a tuple; None and () mean all of them."""
    return reduced(data.ndim, tuple(axis) if type(axis) is list else axis, exclude)


@lru_cache(maxsize=1024)  # a program asks for the same few again and again
def reduced(ndim, axis, exclude):
    """The axes to reduce of an array of `ndim` axes."""
    if axis is None or (isinstance(axis, tuple) and not axis):
        return () if exclude and axis is not None else tuple(range(ndim))
    chosen = [counted(ndim, a) for a in (axis if isinstance(axis, tuple) else (axis,))]
    return tuple([a for a in range(ndim) if a not in chosen] if exclude else chosen)


def one_axis(data, axis):
    """`axis` counted from the front; ValueError if the array has no such axis."""
    return counted(data.ndim, axis)


def counted(ndim, axis):
    """`axis` counted from the front of `ndim` axes."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of range for an array of {ndim} axes")
    return axis % ndim


def at_least_1d(y):
    """A result without axes gets one: a single number has shape (1,)."""
    return y if y.ndim else y.reshape(1)


def along(data, axis, exclude):
    """The axes to reduce, as NumPy takes them: None for all, a number or a tuple."""
    if exclude or not (axis is None or (type(axis) is int and -data.ndim <= axis < data.ndim)):
        return reduced(data.ndim, tuple(axis) if type(axis) is list else axis, exclude)
    return axis


# --- The adjoint of a reduction -------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, like, **settings: sum(g, **settings), None),
)
def broadcast_along(data, like, /, axis=None, keepdims=False, exclude=False):
    """Undo a reduction: repeat `data` along the reduced axes to the shape of `like`."""
    reduced = axes(like, axis, exclude)
    kept = tuple(1 if a in reduced else n for a, n in enumerate(like.shape))
    return np.broadcast_to(data.reshape(kept), like.shape)


@operator(
    vjp=(lambda g, y, x, **settings: broadcast_along(g, x, **settings),), aliases=("sum_axis",)
)
def sum(data, /, axis=None, keepdims=False, exclude=False):
    """Sum along `axis` (None: all, an int or several), or with `exclude` along all the others."""
    where = along(data, axis, exclude)
    if data.size >= 8192:
        if not keepdims and are_columns(data, where):
            return column_sums(data)
        if cols := columns_of_rows(data, where):
            return row_sums(data, cols, where, keepdims)
    if where is None and not keepdims:  # as an array all the way: a bare number costs half a µs
        return data.sum(None, data.dtype, None, True).reshape(1)
    return at_least_1d(data.sum(where, data.dtype, None, keepdims))


def column_sums(data):
    """The sums along all axes but the last: for a matrix of NumPy's a product with ones."""
    if type(data) is not np.ndarray or not data.flags.forc:
        return data.sum(tuple(range(data.ndim - 1)))
    rows = data if data.ndim == 2 else data.reshape(-1, data.shape[-1])
    ones = row_of_ones(len(rows), data.dtype)
    if data.size >= MANY:
        return matmul(ones, rows)[0]
    with alone:  # OpenBLAS's threads would hold their cores afterwards
        return ones.dot(rows)[0]


@lru_cache(16)
def row_of_ones(n, dtype):
    """A matrix of one row of ones, to multiply by only."""
    ones = np.ones((1, n), dtype)
    ones.flags.writeable = False
    return ones


def are_columns(data, where):
    """Whether the sum is over all axes but the last of single numbers in NumPy's memory,
    and over several.
    """
    if type(data) is not np.ndarray or data.dtype.char != "f" or not data.flags.c_contiguous:
        return False
    others = tuple(range(data.ndim - 1))
    return reduced(data.ndim, where, False) == others and data.size >= 8 * data.shape[-1]


RUN = 1024  # numbers of a piece of a long row


def columns_of_rows(data, where):
    """How many numbers a row has that is summed, if the axes are the last ones of NumPy's array
    in a row; 0 if a product does not suit.
    """
    plain = type(data) is np.ndarray and data.dtype.char in "fd" and data.flags.c_contiguous
    if not plain or where == ():  # no axes at all
        return 0
    over = sorted(reduced(data.ndim, where, False))
    if over != [*range(data.ndim - len(over), data.ndim)]:
        return 0
    cols = prod(data.shape[data.ndim - len(over) :])
    return cols if 16 <= cols <= 4 * RUN or cols == data.size else 0


def row_sums(data, cols, where, keepdims):
    """The sums of rows of `cols` numbers."""
    if cols > 4 * RUN:
        whole = cols // RUN * RUN
        flat = data.reshape(-1)
        total = products_with_ones(flat[:whole].reshape(-1, RUN)).sum(None, None, None, True)
        total += flat[whole:].sum()
    else:
        total = products_with_ones(data.reshape(-1, cols))
    last = data.ndim - len(reduced(data.ndim, where, False))
    ones = (1,) * (data.ndim - last if keepdims else not last)
    return total.reshape(data.shape[:last] + ones)


def products_with_ones(rows):
    """Each row times a row of ones; of many numbers the cores share the rows."""
    ones = row_of_ones(rows.shape[1], rows.dtype)[0]
    if rows.size < 1 << 20:
        with alone:
            return rows.dot(ones)
    found, step = np.empty_like(rows, shape=len(rows)), -(-len(rows) // alone.threads)
    parts = [slice(i, i + step) for i in range(0, len(rows), step)]
    spread(lambda at: np.dot(rows[at], ones, out=found[at]), parts)
    return found


@operator(vjp=(lambda g, y, x, **settings: broadcast_along(g, x, **settings) * (2 * x),))
def _square_sum(data, /, axis=None, keepdims=False, exclude=False):
    """Sum of the squares, along `axis` as in `sum`."""
    return sum.kernel(data * data, axis, keepdims, exclude)


@operator(vjp=(lambda g, y, x, **settings: spread_along(g, x, **settings),))
def mean(data, /, axis=None, keepdims=False, exclude=False):
    """Mean along `axis` (None: all, an int or several), or with `exclude` along all the others."""
    where = along(data, axis, exclude)
    if data.dtype.kind not in "fV" or data.itemsize == 2:
        return at_least_1d(data.mean(where, None, None, keepdims)).astype(data.dtype, copy=False)
    total = (
        sum.kernel(data, where, keepdims)
        if data.size >= 8192
        else data.sum(where, None, None, keepdims)
    )
    if total.size == data.size:  # such as the loss of each sample, which is one number
        return at_least_1d(total)
    return at_least_1d(total / (data.size / total.size))


@operator(vjp=(lambda g, y, x, like, **settings: mean(g, **settings), None))
def spread_along(data, like, /, axis=None, keepdims=False, exclude=False):
    """Undo a mean: share `data` out evenly along the reduced axes to the shape of `like`."""
    if data.size == like.size:
        return data.reshape(like.shape)
    if not like.size:
        return np.zeros_like(like)
    out = broadcast_along.kernel(data, like, axis, keepdims, exclude)
    return out * (data.size / like.size)


# --- Extremes -------------------------------------------------------------------------------------


@operator(
    vjp=(
        lambda g, y, x, **settings: (
            broadcast_along(g, x, **settings) * equal(x, broadcast_along(y, x, **settings))
        ),
    ),
    aliases=("max_axis",),
)
def max(data, /, axis=None, keepdims=False, exclude=False):
    """The largest number along `axis` (None: all, an int or several); ties all get the gradient."""
    where = along(data, axis, exclude)
    if where is None and not keepdims:
        return data.max(None, None, True).reshape(1)
    return at_least_1d(data.max(where, None, keepdims))


@operator(
    vjp=(
        lambda g, y, x, **settings: (
            broadcast_along(g, x, **settings) * equal(x, broadcast_along(y, x, **settings))
        ),
    ),
    aliases=("min_axis",),
)
def min(data, /, axis=None, keepdims=False, exclude=False):
    """The smallest number along `axis` (None: all, an int or several); ties all get the gradient."""
    where = along(data, axis, exclude)
    if where is None and not keepdims:
        return data.min(None, None, True).reshape(1)
    return at_least_1d(data.min(where, None, keepdims))


@operator(vjp=(None,))
def argmax(data, /, axis=None, keepdims=False):
    """Where the largest number stands along `axis` (None: in the flattened array), in its type."""
    return place_of("argmax", data, axis, keepdims)


@operator(vjp=(None,))
def argmin(data, /, axis=None, keepdims=False):
    """Where the smallest number stands along `axis` (None: in the flattened array), in its type."""
    return place_of("argmin", data, axis, keepdims)


def place_of(find, data, axis, keepdims):
    """The positions that `find`, 'argmax' or 'argmin', finds, as MXNet returns them:
    in the type of `data`.
    """
    axis = axis if axis is None else one_axis(data, axis)
    if axis is not None and is_wide(data, axis):
        return places(find, data, axis, keepdims).astype(data.dtype)
    find = getattr(data, find)
    found = find(axis, keepdims=keepdims) if keepdims else find(axis)
    return at_least_1d(found).astype(data.dtype)


EXTREMES = {"argmax": np.maximum, "argmin": np.minimum}
WIDE = 256  # numbers behind the axis from which planes pay


def is_wide(data, axis):
    """Whether NumPy has planes to compare, and not more of them than points of two bytes."""
    if type(data) is not np.ndarray or data.size < 8192 or data.dtype.kind not in "fiu":
        return False
    return 0 < data.shape[axis] < 2**16 and prod(data.shape[axis % data.ndim + 1 :]) >= WIDE


def places(find, data, axis, keepdims=False):
    """Where `find` finds the extreme along an axis, of equal ones the first:
    `data.argmax`, by planes where these are wide.
    """
    if is_wide(data, axis):
        n, behind = data.shape[axis], data.ndim - 1 - axis % data.ndim
        points = np.arange(n, 0, -1, dtype=np.min_scalar_type(n)).reshape(-1, *(1,) * behind)
        equal = data == EXTREMES[find].reduce(data, axis, keepdims=True)
        most = np.maximum.reduce(equal.view("uint8") * points, axis, keepdims=keepdims)
        if most.all():  # a NaN equals nothing
            return n - most.astype("int64")
    return getattr(data, find)(axis, keepdims=keepdims)


# --- Softmax --------------------------------------------------------------------------------------


def softmax_rule(g, p, z, length=None, *, axis, temperature, dtype, use_length):
    """The Jacobian diag(p) - p pᵀ times the gradient; p is 0 behind the end of a row."""
    share = scaled(p * (g - sum(g * p, axis=axis, keepdims=True)), temperature)
    return (share if dtype is None else cast_like(share, z), None)


@operator(vjp=softmax_rule, same_dtype=False)
def softmax(data, length=None, /, axis=-1, temperature=None, dtype=None, use_length=False):
    """Probabilities along `axis`, in proportion to $e^{z/T}$, in the type of `data` or in `dtype`.

    With `use_length` only the first `length` numbers count, the others get 0; `length` has the shape of
    `data` without `axis`. ValueError for integers.
    """
    narrow = dtype or data.dtype
    if dtype is not None or data.dtype.kind != "f":
        data = wide(data, dtype)
    if use_length or length is not None:
        return softmax_within(data, length, axis, temperature, use_length).astype(
            narrow, copy=False
        )
    z = data if temperature is None else data / temperature
    e = shares(z, axis) if z.size < LONG or not by_rows(z, axis) else by_blocks(shares, z)
    return e if e.dtype is narrow else e.astype(narrow, copy=False)


def shares(z, axis, out=None):
    """The exponentials along `axis`, divided by their sum, into `out` if given."""
    e = np.exp(z if calm(z) else z - highest(z, axis), out=out)
    e /= summed(e, axis)
    return e


CALM = 60
FEW = 4096
SHORT = 512  # numbers of a row up to which an inner product is quicker than a sum


def calm(z):
    """Whether all numbers are so small that exponentials, and sums of them, stay within all limits."""
    if type(z) is not np.ndarray or z.dtype.char not in "fd" or not z.size:
        return False
    if z.size < FEW:  # where the extremes stand NumPy tells in a third of the time
        return z.item(z.argmax()) < CALM and z.item(z.argmin()) > -CALM
    return z.max() < CALM and z.min() > -CALM


def summed(a, axis):
    """The sums along `axis`, of size 1 there."""
    if not by_rows(a, axis) or a.shape[-1] > SHORT:
        return a.sum(axis, None, None, True)
    return np.vecdot(a, ones_of(a.shape[-1], a.dtype))[..., None]


@lru_cache(maxsize=64)
def ones_of(n, dtype):
    """As many ones, which nobody may write to: making them takes as long as the product with them."""
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


def dotted(a, b, axis):
    """The sums of a b along `axis`, of size 1 there; along the last without an array of products."""
    if by_rows(a, axis) and type(b) is np.ndarray and a.dtype is b.dtype and a.shape == b.shape:
        return np.vecdot(a, b)[..., None]
    return (a * b).sum(axis=axis, keepdims=True)


def by_rows(a, axis):
    """Whether NumPy's inner products run along `axis`."""
    last = axis in (-1, a.ndim - 1) and a.ndim > 1
    return last and type(a) is np.ndarray and a.dtype.char in "fd"


def by_blocks(f, data):
    """`f(rows, -1, out)` of many rows, in blocks, on all cores."""
    if alone.threads < 2:
        return f(data, -1)
    rows = np.ascontiguousarray(data).reshape(-1, data.shape[-1])
    out, step = np.empty_like(rows), 1 + STRETCH // rows.shape[1]
    spread(lambda i: f(rows[i : i + step], -1, out[i : i + step]), range(0, len(rows), step))
    return out.reshape(data.shape)


def softmax_within(data, length, axis, temperature, use_length):
    """The softmax of the first `length` numbers along `axis`, and 0 behind them."""
    axis = one_axis(data, axis)
    if (
        length is None
        or not use_length
        or length.shape != data.shape[:axis] + data.shape[axis + 1 :]
    ):
        raise ValueError(
            "use_length=True and a length for each row go together: data without `axis`"
        )
    places = np.arange(data.shape[axis], like=data).reshape(-1, *(1,) * (data.ndim - 1 - axis))
    inside = places < np.expand_dims(length, axis)
    scores = np.where(inside, scaled(data, temperature), -np.inf).astype(data.dtype, copy=False)
    top = highest(scores, axis)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(axis, keepdims=True)
    return e / np.where(total == 0, 1, total)


softmax.inputs = lambda use_length, **_: ["data"] + ["length"] * bool(use_length)


def log_softmax_rule(g, y, z, axis, temperature, dtype, use_length):
    """The gradient, less its sum shared out by the softmax."""
    share = scaled(g - exp(y) * sum(g, axis=axis, keepdims=True), temperature)
    return (share if dtype is None else cast_like(share, z),)


@operator(vjp=log_softmax_rule)
def log_softmax(data, /, axis=-1, temperature=None, dtype=None, use_length=False):
    """Logarithms of the softmax along `axis`: $z - \\ln\\sum e^z$,
    in the type of `data` or in `dtype`.
    """
    if use_length:
        raise ValueError("use_length: softmax alone takes lengths")
    z = wide(data, dtype)
    z = z if temperature is None else z / temperature
    far = z.size >= LONG and by_rows(z, axis)
    y = by_blocks(log_shares, z) if far else log_shares(z, axis)
    return y.astype(dtype or data.dtype, copy=False)


def log_shares(z, axis, out=None):
    """The logarithms of `shares`, into `out` if given."""
    y = np.subtract(z, highest(z, axis), out=out)
    y -= np.log(np.exp(y).sum(axis, None, None, True))
    return y


def wide(data, dtype):
    """`data` in the wider of its type and `dtype`; TypeError for integers."""
    if data.dtype.kind not in "fV":
        raise TypeError(
            f"floating point numbers are wanted, not {data.dtype}: use .astype('float32')"
        )
    if dtype is None:
        return data
    return data.astype(np.promote_types(data.dtype, real_dtype(dtype)), copy=False)


def centred(data, axis, temperature):
    """`data / temperature` without its maximum along `axis`, in new memory."""
    data = data if temperature is None else data / temperature
    return data - highest(data, axis)


def highest(data, axis):
    """The maximum along `axis`, of size 1 there; of no numbers it is -inf."""
    if data.size:
        return data.max(axis, None, True)
    axis = one_axis(data, axis)
    shape = (*data.shape[:axis], 1, *data.shape[axis + 1 :])
    return np.full_like(data, -np.inf, shape=shape)


def scaled(g, temperature):
    """`g / temperature`; None is 1."""
    return g if temperature is None else g / temperature


# --- Methods --------------------------------------------------------------------------------------

for op in [sum, mean, max, min, argmax, argmin, softmax, log_softmax]:
    setattr(Operand, op.name, op)
