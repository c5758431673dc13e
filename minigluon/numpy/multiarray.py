"""The same operators, seen by an array that keeps NumPy's shapes: a sum has no axes, a comparison is true or false."""

# Written from chapters/24_numpy.ipynb, chapters/24b_numpy_functions.ipynb: edit the chapter, then run `minigluon export`.

import builtins
import importlib
import math
from functools import partial

import numpy as onp

from minigluon import autograd, ops
from minigluon.autograd import writable
from minigluon.base import MXNetError
from minigluon.context import Context, put
from minigluon.cores import stacked
from minigluon.ndarray.ndarray import ArgumentError, NDArray, fresh, place, real_dtype, sizes
from minigluon.op import KINDS, BadValue, interpreters, operator, operators, summary
from minigluon.ops.indexing import alone, scatter
from minigluon.ops.reduce import broadcast_along, spread_along

__all__ = [
    "ARITHMETIC",
    "AS_ARRAYS",
    "BadKey",
    "CASTINGS",
    "CHOOSING",
    "CONSTANTS",
    "ELEMENTWISE",
    "FALLBACK",
    "NAMES",
    "NAN",
    "NINF",
    "NZERO",
    "NaN",
    "NotWritable",
    "OPTIONS",
    "PINF",
    "PZERO",
    "RANK",
    "abs",
    "absolute",
    "add",
    "alike",
    "all",
    "alltrue",
    "amax",
    "amin",
    "answer",
    "answering",
    "any",
    "append",
    "arange",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "around",
    "array",
    "array_split",
    "as_np",
    "as_real",
    "as_truth",
    "astype",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "average",
    "axis_of",
    "beside",
    "bincount",
    "bitwise",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "blackman",
    "bordered",
    "both_real",
    "broadcast_arrays",
    "broadcast_to",
    "by_numpy",
    "cbrt",
    "ceil",
    "check_options",
    "clip",
    "clip_method",
    "column_stack",
    "comparing",
    "comparison",
    "concatenate",
    "copied",
    "copy",
    "copysign",
    "cos",
    "cosh",
    "counted",
    "cumsum",
    "deg2rad",
    "degrees",
    "delete",
    "diag",
    "diagflat",
    "diagonal",
    "diff",
    "divide",
    "dot",
    "dsplit",
    "dstack",
    "ediff1d",
    "einsum",
    "einsum_rule",
    "empty",
    "empty_like",
    "equal",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "fabs",
    "fix",
    "flip",
    "fliplr",
    "flipud",
    "floor",
    "floor_divide",
    "full",
    "full_like",
    "genfromtxt",
    "getitem",
    "given",
    "greater",
    "greater_equal",
    "hamming",
    "hanning",
    "histogram",
    "hsplit",
    "hstack",
    "hypot",
    "identity",
    "in_c_order",
    "in_one_row",
    "in_place",
    "indices",
    "inner",
    "insert",
    "interpret",
    "invert",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "item",
    "last_swapped",
    "lcm",
    "ldexp",
    "less",
    "less_equal",
    "linspace",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logspace",
    "lowered",
    "matmul",
    "max",
    "maximum",
    "may_share_memory",
    "mean",
    "meshgrid",
    "min",
    "minimum",
    "mod",
    "moveaxis",
    "msort",
    "multiply",
    "nan_to_num",
    "ndarray",
    "ndim",
    "negative",
    "nonzero",
    "not_equal",
    "np_all",
    "np_any",
    "np_arctan2",
    "np_argmax",
    "np_argmin",
    "np_around",
    "np_broadcast_to",
    "np_columns",
    "np_constraint_check",
    "np_copysign",
    "np_einsum",
    "np_equal",
    "np_getitem",
    "np_greater",
    "np_greater_equal",
    "np_invert",
    "np_isfinite",
    "np_key",
    "np_lcm",
    "np_ldexp",
    "np_less",
    "np_less_equal",
    "np_logical_and",
    "np_logical_or",
    "np_logical_xor",
    "np_matmul",
    "np_max",
    "np_mean",
    "np_min",
    "np_nan_to_num",
    "np_not_equal",
    "np_operator",
    "np_pinv",
    "np_prod",
    "np_reshape",
    "np_rowed",
    "np_rows",
    "np_solve",
    "np_sum",
    "np_svd",
    "np_where",
    "once",
    "ones",
    "ones_like",
    "operand",
    "outer",
    "over",
    "own_function",
    "pad",
    "pair",
    "percentile",
    "pinv_rule",
    "places",
    "plain_ends",
    "plainly",
    "polyval",
    "power",
    "prod",
    "product",
    "quantile",
    "rad2deg",
    "radians",
    "raised",
    "ranked",
    "ravel",
    "reciprocal",
    "reducing",
    "remainder",
    "repeat",
    "repeated",
    "require_no_history",
    "reshape",
    "reshape_method",
    "reshaped",
    "rint",
    "roll",
    "rot90",
    "round",
    "round_",
    "row_stack",
    "same_numbers",
    "setitem",
    "shape",
    "shares_memory",
    "sign",
    "sin",
    "sinh",
    "size",
    "sometrue",
    "sort",
    "sort_method",
    "spelled_out",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "sum_method",
    "swapaxes",
    "swapped",
    "take",
    "tan",
    "tanh",
    "tensordot",
    "ties",
    "tile",
    "trace",
    "transpose",
    "transpose_method",
    "trapz",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "truth",
    "type_of",
    "unary",
    "unique",
    "unpacked",
    "unpickled",
    "unravel_index",
    "unscaled",
    "var",
    "vdot",
    "vsplit",
    "vstack",
    "walk",
    "where",
    "window",
    "with_axes",
    "within",
    "wrapped",
    "zeros",
    "zeros_like",
]


ops.load()


# --- The array and its interpreter ----------------------------------------------------------------


class ndarray(NDArray):  # noqa: N801
    """An array with NumPy's shapes and rules: it may have no axes, or no numbers."""

    __slots__ = ()

    dtype = property(lambda self: self._data.dtype, doc="The type of the numbers, a numpy.dtype.")
    symbol = property(
        lambda self: importlib.import_module("minigluon.symbol.numpy")._Symbol,
        doc="What stands for such an array in a graph.",
    )

    def as_nd_ndarray(self):
        """The same array as one of `mx.nd`."""
        return NDArray(self._data, self._ctx, self._node)

    def as_np_ndarray(self):
        """The array itself."""
        return self

    def detach(self):
        """The same numbers, in the same memory, without a history."""
        return ndarray(self._data, self._ctx)

    def _alike(self, x):
        return as_np(x)

    def __reduce__(self):
        return unpickled, (self.asnumpy(), self._ctx)

    # --- The array and its interpreter ------------------------------------------------------------

    def __repr__(self):
        numbers = self.asnumpy()
        text = onp.array2string(numbers, separator=", ", prefix="array(")
        extra = f", shape={self.shape}" if not self.size and self.shape != (0,) else ""
        hidden = self.dtype in (onp.float32, onp.bool_)
        extra += "" if hidden else f", dtype={self.dtype}"
        return f"array({text}{extra}{self._where()})"

    def __str__(self):
        return f"{self.asnumpy()!s}{' @' + str(self._ctx) if self._where() else ''}"

    def __format__(self, format_spec):
        if not self.ndim:
            return format(self.item(), format_spec)
        if format_spec:
            raise TypeError(f"Cannot format an array of shape {self.shape} as {format_spec!r}")
        return str(self)

    def __round__(self, n=0):
        return self.round(n)

    def _where(self):
        return "" if self._ctx.device_type == "cpu" else f", ctx={self._ctx}"

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __bool__(self):
        if self.size > 1:
            raise ValueError(
                f"The truth value of an array of shape {self.shape} is ambiguous: use all() or any()"
            )
        return bool(self.size and self.item())

    # --- What NumPy does for us -------------------------------------------------------------------

    def __array_function__(self, func, types, args, kwargs):
        if builtins.any(issubclass(t, NDArray) and not issubclass(t, ndarray) for t in types):
            return NotImplemented
        return answer(func, args, kwargs)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__":
            return NotImplemented
        return answer(ufunc, inputs, {**kwargs, "out": out[0]} if out else kwargs)


ndarray.__module__ = "minigluon.numpy"


def as_np(x):
    """An NDArray, or a list of them, as arrays of `mx.np` in the same memory."""
    if isinstance(x, list | tuple):
        return type(x)(as_np(one) for one in x)
    data = onp.asarray(x._data) if isinstance(x._data, onp.generic) else x._data
    return ndarray(data, x._ctx, x._node)


def unpickled(raw, ctx):
    """An unpickled array: on its old context, or on the CPU if that is not there."""
    try:
        return as_np(place(raw, ctx))
    except MXNetError:
        return as_np(place(raw, Context("cpu")))


ARITHMETIC = "minigluon.ops.elementwise"
ELEMENTWISE = {f"minigluon.ops.{part}" for part in ("elementwise", "special", "activations", "nn")}


def interpret(op, args, settings):
    """Carry out a call for which an array of `mx.np` was asked, as for an NDArray."""
    plain = [NDArray(a._data, a._ctx, a._node) if isinstance(a, NDArray) else a for a in args]
    arrays = [a for a in plain if isinstance(a, NDArray)]
    module = op.kernel.__module__
    if module == ARITHMETIC and op.same_dtype and len({a._data.dtype for a in arrays}) > 1:
        plain = alike(*plain)
    bare = module in ELEMENTWISE and not builtins.any(a.ndim for a in arrays)
    if bare:
        plain = [reshaped(a, (1,)) if isinstance(a, NDArray) else a for a in plain]
    out = interpreters[NDArray](op, plain, settings)
    if bare:
        out = [reshaped(o, ()) for o in out] if isinstance(out, list) else reshaped(out, ())
    return as_np(out)


def reshaped(a, shape):
    """An NDArray in another shape, which may be ()."""
    return interpreters[NDArray](np_reshape, (a,), {"newshape": shape})


interpreters[ndarray] = interpret
NDArray.as_np_ndarray = as_np


# --- Rows of the table ----------------------------------------------------------------------------


def unscaled(y):
    """What a kernel found, NumPy's scalar as an array without axes."""
    return onp.asarray(y) if isinstance(y, onp.generic) else y


def np_operator(kernel=None, **settings):
    """An operator of `mx.np`: its name in graphs begins with an underscore,
    and `mx.nd` does not show it.
    """
    if kernel is None:
        return partial(np_operator, **settings)
    kernel.__name__ = "_" + kernel.__name__
    return operator(kernel, **settings)


def in_c_order(name, order, error=NotImplementedError):
    """Refuse another layout of numbers than C's: rows one after the other."""
    if order != "C":
        raise error(f"{name}: order={order!r}, but numbers are laid out in C's order")


@np_operator(vjp=(lambda g, y, x, **_: operators["reshape_like"](g, x),))
def np_reshape(a, /, newshape, order="C"):
    """The numbers in another shape, in which one size may be -1."""
    in_c_order("reshape", order, BadValue)
    return a.reshape(newshape)


def repeated(along, g, x, axis, keepdims):
    """`g` along the reduced axes of `x`; the axes () of NumPy are none,
    where those of `mx.nd` are all.
    """
    return g if axis == () else along(g, x, axis=axis, keepdims=keepdims)


@np_operator(
    vjp=(
        lambda g, y, x, axis, dtype, keepdims: repeated(
            broadcast_along, operators["cast_like"](g, x), x, axis, keepdims
        ),
    ),
)
def np_sum(a, /, axis=None, dtype=None, keepdims=False):
    """Sum along `axis`, in the array's type; truth values count as int64."""
    dtype = dtype or (onp.int64 if a.dtype == bool else a.dtype)
    return unscaled(a.sum(axis=axis, dtype=dtype, keepdims=keepdims))


@np_operator(
    vjp=(
        lambda g, y, x, axis, dtype, keepdims: repeated(
            spread_along, operators["cast_like"](g, x), x, axis, keepdims
        ),
    ),
)
def np_mean(a, /, axis=None, dtype=None, keepdims=False):
    """Mean along `axis`; of whole numbers and truth values in float32."""
    dtype = dtype or (a.dtype if a.dtype.kind == "f" else onp.float32)
    return unscaled(a.mean(axis=axis, dtype=dtype, keepdims=keepdims))


@np_operator(
    vjp=(
        lambda g, y, x, axis, dtype, keepdims: (
            repeated(broadcast_along, g * y, x, axis, keepdims) / x
        ),
    ),
)
def np_prod(a, /, axis=None, dtype=None, keepdims=False):
    """Product along `axis`, in the array's type; its gradient where no factor is 0."""
    dtype = onp.dtype(dtype or (onp.int64 if a.dtype == bool else a.dtype))
    found = a.prod(axis=axis, dtype=onp.result_type(a.dtype, dtype), keepdims=keepdims)
    return unscaled(found.astype(dtype, copy=False))


def ties(g, y, x, axis, keepdims):
    """The gradient of an extreme: to every number that is equal to it."""
    g, y = (repeated(broadcast_along, a, x, axis, keepdims) for a in (g, y))
    return g * operators["equal"](x, y)


@np_operator(vjp=(ties,))
def np_max(a, /, axis=None, keepdims=False):
    """The largest number along `axis`; ties all get the gradient."""
    return unscaled(a.max(axis=axis, keepdims=keepdims))


@np_operator(vjp=(ties,))
def np_min(a, /, axis=None, keepdims=False):
    """The smallest number along `axis`; ties all get the gradient."""
    return unscaled(a.min(axis=axis, keepdims=keepdims))


def answering(find, name, doc):
    """The operator of a reduction whose answer has a type of its own and no derivative."""

    def kernel(a, /, axis=None, keepdims=False):
        return unscaled(find(a, axis=axis, keepdims=keepdims))

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = doc
    return np_operator(kernel, vjp=(None,))


np_argmax = answering(onp.argmax, "np_argmax", "Where the largest number along `axis` is, int64.")
np_argmin = answering(onp.argmin, "np_argmin", "Where the smallest number along `axis` is, int64.")
np_all = answering(onp.all, "np_all", "Whether all numbers along `axis` are true, that is, not 0.")
np_any = answering(onp.any, "np_any", "Whether any number along `axis` is true, that is, not 0.")


def comparing(compare, name, sign):
    """The operator that compares two arrays and answers with truth values."""

    def kernel(x1, x2, /):
        return unscaled(compare(x1, x2))

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = f"Whether `x1 {sign} x2`, number by number. Shapes are equal or broadcast."
    return np_operator(kernel, vjp=(None, None), same_dtype=False)


np_equal = comparing(onp.equal, "np_equal", "==")
np_not_equal = comparing(onp.not_equal, "np_not_equal", "!=")
np_less = comparing(onp.less, "np_less", "<")
np_less_equal = comparing(onp.less_equal, "np_less_equal", "<=")
np_greater = comparing(onp.greater, "np_greater", ">")
np_greater_equal = comparing(onp.greater_equal, "np_greater_equal", ">=")
np_logical_and = comparing(onp.logical_and, "np_logical_and", "and")
np_logical_or = comparing(onp.logical_or, "np_logical_or", "or")
np_logical_xor = comparing(onp.logical_xor, "np_logical_xor", "xor")


@np_operator(
    vjp=(
        None,
        lambda g, y, c, x1, x2: np_where(c, g, operators["zeros_like"](g)),
        lambda g, y, c, x1, x2: np_where(c, operators["zeros_like"](g), g),
    ),
    same_dtype=False,
)
def np_where(condition, x, y, /):
    """`x` where the condition is true, else `y`. Shapes are equal or broadcast."""
    return unscaled(onp.where(condition != 0, x, y))


@np_operator(vjp=(lambda g, y, x, key: scatter(g, x, key=key),))
def np_getitem(a, /, key):
    """`a[key]`, for every key that NumPy takes; a view where NumPy gives one."""
    return unscaled(a[key])


def last_swapped(a):
    """The transposed matrices of an array."""
    return operators["swapaxes"](a, dim1=-1, dim2=-2)


@np_operator(
    vjp=(
        lambda g, y, a, b: np_matmul(g, last_swapped(b)),
        lambda g, y, a, b: np_matmul(last_swapped(a), g),
    ),
)
def np_matmul(a, b, /):
    """Matrix products over the last two axes; both arrays have them, the other axes broadcast."""
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError("both have at least two axes here: matmul makes matrices of vectors")
    return stacked(a, b)


# --- Types that differ ----------------------------------------------------------------------------

RANK = {"b": 0, "u": 1, "i": 2, "f": 3}


def alike(*arrays):
    """Arrays of one type: the ones of lower rank (truth, whole, real; short, long) are cast."""
    types = {a.dtype for a in arrays if isinstance(a, NDArray)}
    if len(types) < 2:
        return arrays
    types = [onp.dtype(t) for t in types]
    target = builtins.max(types, key=lambda t: (RANK[t.kind], t.itemsize))
    if {"int8", "uint8"} <= {t.name for t in types} and target.itemsize == 1:
        target = onp.dtype("int32")  # neither holds the numbers of the other
    return tuple(
        operators["cast"](a, dtype=target) if isinstance(a, NDArray) and a.dtype != target else a
        for a in arrays
    )


def as_real(a):
    """An array as real numbers: whole numbers and truth values as float32."""
    if isinstance(a, NDArray) and onp.dtype(a.dtype).kind != "f":
        return operators["cast"](a, dtype="float32")
    return a


def both_real(a, b):
    """Two arrays of one real type: whole numbers take that of the other, float32 beside whole ones."""
    a, b = alike(a, b)
    return as_real(a), as_real(b)


def counted(a, b):
    """Truth values as whole numbers, for arithmetic with a plain number."""
    return tuple(
        operators["cast"](x, dtype="int64") if isinstance(x, NDArray) and x.dtype == bool else x
        for x in (a, b)
    )


def as_truth(a, b):
    """A plain number that stands beside truth values, as one of them: any number but 0 is true."""
    if isinstance(a, NDArray) and a.dtype == bool:
        return a, bool(b) if isinstance(b, bool | int | float | onp.generic) else b
    if isinstance(b, NDArray) and b.dtype == bool:
        return bool(a) if isinstance(a, bool | int | float | onp.generic) else a, b
    return a, b


def pair(op, plain, prepare=alike, beside_number=counted):
    """The function of two arrays or numbers that an operator is; of two numbers it is `plain`."""

    def function(x1, x2, out=None, **options):
        if options:
            check_options(function.__name__, options)
        x1, x2 = operand(x1, function), operand(x2, function)
        if not hasattr(x1, "__array_priority__") and not hasattr(x2, "__array_priority__"):
            return plain(x1, x2)
        if not (isinstance(x1, NDArray) and isinstance(x2, NDArray)):
            x1, x2 = beside_number(x1, x2)
        return given(op(*prepare(x1, x2)), out)

    function.__name__ = function.__qualname__ = plain.__name__
    function.__doc__ = op.__doc__
    return function


def comparison(op, plain):
    """The function that compares two arrays or numbers."""
    return pair(op, plain, beside_number=as_truth)


def operand(x, function):
    """What a function of two arrays takes: arrays, symbols and numbers."""
    if isinstance(x, bool | int | float | onp.generic) or hasattr(x, "_entries"):
        return x
    if not isinstance(x, NDArray):
        raise TypeError(
            f"{function.__name__}: type {type(x)} not supported, make it an mx.np array"
        )
    return x


def given(y, out):
    """`y`, written into `out` where there is one; NumPy also takes a tuple of one array."""
    if type(out) is tuple and len(out) == 1:
        out = out[0]
    return y if out is None else autograd.assign(out, y)


OPTIONS = {"where": True, "casting": "same_kind", "order": "K", "dtype": None, "subok": True}
CASTINGS = {"no", "equiv", "safe", "same_kind", "unsafe"}


def check_options(name, options):
    """Refuse what NumPy's functions of numbers take and `mx.np` does not do: all but the defaults."""
    for key, value in options.items():
        if key not in OPTIONS:
            raise TypeError(f"{key} is an invalid keyword to function '{name}'")
        if key == "casting" and value not in CASTINGS:
            raise TypeError(f"{name}: casting={value!r} is none of {sorted(CASTINGS)}")
        if key == "dtype" and value is not None:
            onp.dtype(value)  # TypeError for what is no type
        if value is not OPTIONS[key] and value != OPTIONS[key]:
            raise NotImplementedError(f"{key}={value} is not implemented for {name}")


# --- Functions of numbers -------------------------------------------------------------------------


@np_operator(
    vjp=(
        lambda g, y, a, b: g * b / (a * a + b * b),
        lambda g, y, a, b: -g * a / (a * a + b * b),
    ),
)
def np_arctan2(x1, x2, /):
    """The angle, from -π to π, of the point with the coordinates x2 and x1."""
    return onp.arctan2(x1, x2)


@np_operator(
    vjp=(
        lambda g, y, a, b: g * operators["sign"](y) * operators["sign"](a),
        lambda g, y, a, b: operators["zeros_like"](b),
    ),
)
def np_copysign(x1, x2, /):
    """The size of x1 with the sign of x2."""
    return unscaled(onp.copysign(x1, x2).astype(type_of(x1, x2)))


@np_operator(
    vjp=(
        lambda g, y, a, b: g * 2.0**b,
        lambda g, y, a, b: g * y * math.log(2),
    ),
)
def np_ldexp(x1, x2, /):
    """x1 times 2 to the power of x2."""
    return unscaled((x1 * 2.0**x2).astype(type_of(x1, x2)))


def type_of(*operands):
    """The type of the first array among arrays and numbers."""
    return next(x.dtype for x in operands if isinstance(x, onp.ndarray) or hasattr(x, "device"))


@np_operator(vjp=(None, None))
def np_lcm(x1, x2, /):
    """The least common multiple of whole numbers, number by number."""
    return unscaled(onp.lcm(x1, x2).astype(onp.result_type(x1, x2), copy=False))


add = pair(operators["add"], onp.add)
subtract = pair(operators["subtract"], onp.subtract)
multiply = pair(operators["multiply"], onp.multiply)
mod = remainder = pair(operators["modulo"], onp.remainder)
power = pair(operators["power"], onp.power)
maximum = pair(operators["maximum"], onp.maximum)
minimum = pair(operators["minimum"], onp.minimum)
hypot = pair(operators["hypot"], onp.hypot)
arctan2 = pair(np_arctan2, onp.arctan2, both_real)
divide = true_divide = pair(operators["divide"], onp.true_divide, both_real)
copysign = pair(np_copysign, onp.copysign)
ldexp = pair(np_ldexp, lambda x1, x2: x1 * 2.0**x2)
lcm = pair(np_lcm, onp.lcm)
equal, not_equal = comparison(np_equal, onp.equal), comparison(np_not_equal, onp.not_equal)
less, less_equal = comparison(np_less, onp.less), comparison(np_less_equal, onp.less_equal)
greater = comparison(np_greater, onp.greater)
greater_equal = comparison(np_greater_equal, onp.greater_equal)
logical_and = pair(np_logical_and, onp.logical_and)
logical_or = pair(np_logical_or, onp.logical_or)
logical_xor = pair(np_logical_xor, onp.logical_xor)


def floor_divide(x1, x2, out=None):
    """The quotient, rounded down; in the type of the arrays."""
    if not isinstance(x1, NDArray) and not isinstance(x2, NDArray):
        return onp.floor_divide(x1, x2)
    quotient = operators["floor"](true_divide(x1, x2))
    kept = alike(*[x for x in (x1, x2) if isinstance(x, NDArray)])
    return given(operators["cast"](quotient, dtype=kept[0].dtype), out)


def unary(op, plain, prepare=lambda a: a):
    """The function of one array that an operator is; of a number it is `plain`."""

    def function(x, out=None, **options):
        if options:
            check_options(function.__name__, options)
        x = operand(x, function)
        return given(op(prepare(x)), out) if hasattr(x, "__array_priority__") else plain(x)

    function.__name__ = function.__qualname__ = plain.__name__
    function.__doc__ = op.__doc__
    return function


exp, expm1 = unary(operators["exp"], onp.exp), unary(operators["expm1"], onp.expm1)
log, log1p = unary(operators["log"], onp.log), unary(operators["log1p"], onp.log1p)
log2, log10 = unary(operators["log2"], onp.log2), unary(operators["log10"], onp.log10)
sqrt, cbrt = unary(operators["sqrt"], onp.sqrt), unary(operators["cbrt"], onp.cbrt)
square = unary(operators["square"], onp.square)
reciprocal = unary(operators["reciprocal"], onp.reciprocal)
sin, cos, tan = (unary(operators[f.__name__], f) for f in (onp.sin, onp.cos, onp.tan))
arcsin, arccos = unary(operators["arcsin"], onp.arcsin), unary(operators["arccos"], onp.arccos)
arctan = unary(operators["arctan"], onp.arctan)
sinh, cosh, tanh = (unary(operators[f.__name__], f) for f in (onp.sinh, onp.cosh, onp.tanh))
arcsinh = unary(operators["arcsinh"], onp.arcsinh)
arccosh = unary(operators["arccosh"], onp.arccosh)
arctanh = unary(operators["arctanh"], onp.arctanh)
degrees = rad2deg = unary(operators["degrees"], onp.degrees)
radians = deg2rad = unary(operators["radians"], onp.radians)
abs = absolute = fabs = unary(operators["abs"], onp.abs)  # noqa: A001
negative, sign = unary(operators["negative"], onp.negative), unary(operators["sign"], onp.sign)
floor, ceil = unary(operators["floor"], onp.floor), unary(operators["ceil"], onp.ceil)
trunc = fix = unary(operators["trunc"], onp.trunc)
same_numbers = unary(operators["identity"], onp.copy)


def copy(a, out=None, **options):
    """Another array with the same numbers."""
    return same_numbers(a, out, **options)


def truth(test, name):
    """The operator that asks something of each number."""

    def kernel(x, /):
        return unscaled(test(x))

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = f"Whether `{name.removeprefix('np_')}` holds, number by number."
    return np_operator(kernel, vjp=(None,))


np_isfinite = truth(onp.isfinite, "np_isfinite")
isnan = unary(truth(onp.isnan, "np_isnan"), onp.isnan)
isinf = unary(truth(onp.isinf, "np_isinf"), onp.isinf)
isposinf = unary(truth(onp.isposinf, "np_isposinf"), onp.isposinf)
isneginf = unary(truth(onp.isneginf, "np_isneginf"), onp.isneginf)
isfinite = unary(np_isfinite, onp.isfinite)
logical_not = unary(truth(onp.logical_not, "np_logical_not"), onp.logical_not)


@np_operator(vjp=(None,))
def np_around(a, /, decimals=0):
    """Numbers rounded to so many decimals, halves to the even one."""
    return unscaled(onp.round(a, decimals))


def around(x, decimals=0, out=None):
    """Numbers rounded to so many decimals, halves to the even one."""
    return given(np_around(x, decimals=decimals), out)


round = round_ = around  # noqa: A001


rint = unary(operators["rint"], onp.rint)


def clip(a, a_min, a_max, out=None):
    """Each number, but at least `a_min` and at most `a_max`."""
    if a_min is None and a_max is None:
        raise ValueError("clip: give a_min, a_max or both")
    bounds = ((-math.inf, a_min), (math.inf, a_max))
    a_min, a_max = (
        b.item() if isinstance(b, NDArray) else none if b is None else b for none, b in bounds
    )
    return given(operators["clip"](a, a_min=a_min, a_max=a_max), out)


# --- Reductions -----------------------------------------------------------------------------------


def over(axis):
    """An axis, or a tuple of them, as plain numbers."""
    return tuple(axis) if isinstance(axis, list) else axis


def sum(a, axis=None, dtype=None, keepdims=False, out=None):  # noqa: A001
    """Sum along `axis` (None: all, an int or several); a full sum has no axes."""
    return given(np_sum(a, axis=over(axis), dtype=dtype, keepdims=keepdims), out)


def mean(a, axis=None, dtype=None, out=None, keepdims=False):
    """Mean along `axis` (None: all, an int or several)."""
    return given(np_mean(a, axis=over(axis), dtype=dtype, keepdims=keepdims), out)


def prod(a, axis=None, dtype=None, out=None, keepdims=False):
    """Product along `axis` (None: all, an int or several)."""
    return given(np_prod(a, axis=over(axis), dtype=dtype, keepdims=keepdims), out)


def max(a, axis=None, keepdims=False, out=None):  # noqa: A001
    """The largest number along `axis` (None: all, an int or several)."""
    return given(np_max(a, axis=over(axis), keepdims=keepdims), out)


def min(a, axis=None, keepdims=False, out=None):  # noqa: A001
    """The smallest number along `axis` (None: all, an int or several)."""
    return given(np_min(a, axis=over(axis), keepdims=keepdims), out)


amax, amin = max, min


def argmax(a, axis=None, out=None, keepdims=False):
    """Where the largest number along `axis` is (None: in the flattened array), int64."""
    return given(np_argmax(a, axis=axis, keepdims=keepdims), out)


def argmin(a, axis=None, out=None, keepdims=False):
    """Where the smallest number along `axis` is (None: in the flattened array), int64."""
    return given(np_argmin(a, axis=axis, keepdims=keepdims), out)


def all(a, axis=None, keepdims=False, out=None):  # noqa: A001
    """Whether all numbers along `axis` are true."""
    return given(np_all(a, axis=over(axis), keepdims=keepdims), out)


def any(a, axis=None, keepdims=False, out=None):  # noqa: A001
    """Whether any number along `axis` is true."""
    return given(np_any(a, axis=over(axis), keepdims=keepdims), out)


def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
    """The mean square of the deviation from the mean along `axis`; `ddof` lessens the count."""
    a = as_real(a)
    deviation = a - mean(a, axis, dtype, keepdims=True)
    found = mean(deviation * deviation, axis, dtype, keepdims=keepdims)
    if ddof:
        count = a.size / builtins.max(1, found.size)
        found = found * (count / (count - ddof) if count != ddof else math.nan)
    return given(found, out)


def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
    """The root of the variance."""
    return given(sqrt(var(a, axis, dtype, None, ddof, keepdims)), out)


def average(a, axis=None, weights=None, returned=False, out=None):
    """The mean along `axis`, weighted where there are `weights`."""
    if weights is None:
        found, total = mean(a, axis), None
    else:
        if weights.shape != a.shape:
            shape = [1] * a.ndim
            shape[axis] = weights.size
            weights = reshape(weights, tuple(shape))
        total = sum(weights + 0 * a, axis)
        found = sum(a * weights, axis) / total
    if not returned:
        return given(found, out)
    total = full((), a.size / found.size, found.dtype) if total is None else total
    return [found, total]


def cumsum(a, axis=None, dtype=None, out=None):
    """Running sums along `axis`; with axis=None of all numbers in one row."""
    dtype = "int64" if dtype is None and isinstance(a, NDArray) and a.dtype == bool else dtype
    return given(operators["cumsum"](a, axis=axis, dtype=dtype), out)


# --- Shapes, choices, matrices --------------------------------------------------------------------


def reshape(a, newshape, reverse=False, order="C"):
    """The numbers in another shape, in which one size may be -1."""
    newshape = (newshape,) if isinstance(newshape, int | onp.integer) else tuple(newshape)
    return np_reshape(a, newshape=newshape, order=order)


def ravel(x, order="C"):
    """The numbers in one row."""
    return reshape(x, -1, order=order)


def transpose(a, axes=None):
    """The axes in another order, by default reversed."""
    return operators["transpose"](a, axes=axes)


def expand_dims(a, axis):
    """A new axis of size 1."""
    return operators["expand_dims"](a, axis=axis)


def where(condition, x=None, y=None):
    """`x` where the condition is true, else `y`; with a condition alone, its true places."""
    if x is None and y is None:
        return nonzero(condition)
    if x is None or y is None:
        raise TypeError("where: give both x and y, or neither")
    x, y = alike(x, y)
    if not hasattr(condition, "__array_priority__"):
        return x if condition else y
    arrays = [a for a in (x, y) if isinstance(a, NDArray)]
    like = arrays[0] if arrays else array(0.0)
    x, y = (a if hasattr(a, "__array_priority__") else full((), a, like.dtype) for a in (x, y))
    return np_where(condition, x, y)


def nonzero(a):
    """The places of all numbers but 0, an array of int64 for each axis."""
    raw = a._data if a.ndim else a._data.reshape(1)
    return tuple([wrapped(i.astype("int64"), a._ctx) for i in raw.nonzero()])


places = nonzero  # in `npx`, `nonzero` is another function


def matmul(a, b, out=None):
    """Matrix products over the last two axes; a vector is a row on the left, a column on the right."""
    a, b = alike(a, b)
    if not isinstance(a, NDArray) or not isinstance(b, NDArray):
        return np_matmul(a, b)
    if not a.ndim or not b.ndim:
        raise MXNetError("matmul: an array without axes is no matrix; use *")
    first, second = a.ndim == 1, b.ndim == 1
    y = np_matmul(expand_dims(a, 0) if first else a, expand_dims(b, 1) if second else b)
    shape = y.shape[: -2 if first else -1] + (() if second else y.shape[-1:])
    return given(reshape(y, shape) if first or second else y, out)


# --- Making arrays --------------------------------------------------------------------------------


def wrapped(raw, ctx=None):
    """A fresh raw array as an array of `mx.np`."""
    return as_np(place(onp.asarray(raw), ctx))


def array(object, dtype=None, ctx=None):  # noqa: A002
    """An array of numbers: float32 from lists and numbers; NumPy's and ours keep their type.

    A single array of ours keeps its history: what is made of its copy is differentiated through it.
    """
    if isinstance(object, NDArray):
        copy = operators["cast"](as_np(object), dtype=real_dtype(dtype or object.dtype))
        return copy if ctx is None else copy.as_in_context(ctx)
    if isinstance(object, list | tuple | range):
        object = unpacked(object)  # noqa: A001
    elif isinstance(object, onp.ndarray | onp.generic):
        dtype = object.dtype if dtype is None else dtype
    elif not isinstance(object, bool | int | float) and not hasattr(object, "__array__"):
        raise TypeError(f"array: numbers, lists or arrays, not {type(object).__name__}")
    try:
        return wrapped(onp.array(object, real_dtype(dtype)), ctx)
    except (ValueError, TypeError) as error:
        raise TypeError(f"array: {error}") from None


def unpacked(rows):
    """Nested lists with our arrays in them, as NumPy can read them."""
    return [
        unpacked(r) if isinstance(r, list | tuple) else r.asnumpy() if isinstance(r, NDArray) else r
        for r in rows
    ]


def zeros(shape, dtype=None, order="C", ctx=None):
    """An array of zeros."""
    in_c_order("zeros", order)
    return as_np(place(fresh(onp.zeros, 0, sizes(shape), real_dtype(dtype), ctx), ctx))


def ones(shape, dtype=None, order="C", ctx=None):
    """An array of ones."""
    in_c_order("ones", order)
    return as_np(place(fresh(onp.ones, 1, sizes(shape), real_dtype(dtype), ctx), ctx))


def empty(shape, dtype=None, order="C", ctx=None):
    """An array whose numbers are whatever the memory held."""
    in_c_order("empty", order)
    return as_np(place(fresh(onp.empty, None, sizes(shape), real_dtype(dtype), ctx), ctx))


def full(shape, fill_value, dtype=None, order="C", ctx=None, out=None):
    """An array in which every number is `fill_value`; of truth values if that is one."""
    in_c_order("full", order)
    dtype = bool if dtype is None and isinstance(fill_value, bool) else dtype
    if isinstance(fill_value, NDArray):
        many = operators["broadcast_to"](
            array(fill_value, real_dtype(dtype), ctx), shape=sizes(shape)
        )
        return given(many, out)
    return given(wrapped(onp.full(sizes(shape), fill_value, real_dtype(dtype)), ctx), out)


def zeros_like(a, dtype=None, order="C", ctx=None, out=None):
    """Zeros in the shape and type of `a`."""
    in_c_order("zeros_like", order)
    found = operators["zeros_like"](a)
    return given(found if dtype is None else operators["cast"](found, dtype=dtype), out)


def ones_like(a, dtype=None, order="C", ctx=None, out=None):
    """Ones in the shape and type of `a`."""
    in_c_order("ones_like", order)
    found = operators["ones_like"](a)
    return given(found if dtype is None else operators["cast"](found, dtype=dtype), out)


def full_like(a, fill_value, dtype=None, order="C", ctx=None, out=None):
    """An array in the shape and type of `a` in which every number is `fill_value`."""
    in_c_order("full_like", order)
    value = fill_value.item() if isinstance(fill_value, NDArray) else fill_value
    found = ones_like(a, dtype)
    truth = found.dtype == onp.bool_
    return given(astype(found * value, bool) if truth else found * value, out)


def empty_like(prototype, dtype=None, order="C", subok=False, shape=None):
    """An array like `prototype`, of another type or shape if given; its numbers are zeros."""
    in_c_order("empty_like", order)
    if shape is None:
        return zeros_like(prototype, dtype)
    return zeros(shape, dtype or prototype.dtype, ctx=prototype._ctx)


def arange(start, stop=None, step=1, dtype=None, ctx=None):
    """Evenly spaced numbers from `start` (or 0) up to `stop`, float32 by default."""
    start, stop = (0, start) if stop is None else (start, stop)
    return wrapped(onp.arange(start, stop, step).astype(real_dtype(dtype)), ctx)


def plain_ends(name, *ends):
    """Refuse arrays as the first and last number of a row."""
    if builtins.any(isinstance(end, NDArray) for end in ends):
        raise NotImplementedError(
            f"{name}: start and stop are numbers: x.item() makes one of an array"
        )


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0, ctx=None):
    """`num` numbers from `start` to `stop`, which is the last one unless `endpoint` is False."""
    plain_ends("linspace", start, stop)
    found, step = onp.linspace(start, stop, num, endpoint, True)
    found = wrapped(found.astype(real_dtype(dtype)), ctx)
    return (found, step) if retstep else found


def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0, ctx=None):
    """Numbers whose logarithms are evenly spaced."""
    plain_ends("logspace", start, stop)
    return wrapped(onp.logspace(start, stop, num, endpoint, base).astype(real_dtype(dtype)), ctx)


def eye(N, M=None, k=0, dtype=None, ctx=None, **_):
    """A matrix with ones on its k-th diagonal."""
    return wrapped(onp.eye(N, M, k, real_dtype(dtype)), ctx)


def identity(n, dtype=None, ctx=None):
    """The square matrix with ones on its diagonal."""
    return eye(n, dtype=dtype, ctx=ctx)


def indices(dimensions, dtype="int32", ctx=None):
    """The indices of each place of a grid, for each axis an array."""
    return wrapped(onp.indices(dimensions, dtype), ctx)


# --- Indices --------------------------------------------------------------------------------------


def np_key(key):
    """An index as NumPy wants it; our arrays of real numbers count as whole ones."""
    if isinstance(key, tuple):
        return tuple([np_key(k) for k in key])
    if isinstance(key, NDArray):
        key = key._data
        return key if key.dtype.kind in "iub" else key.astype("int64")
    if isinstance(key, list):
        return onp.asarray(unpacked(key), dtype=None if key else "int64")
    return key


def getitem(self, key):
    """`x[key]`, by NumPy's rules."""
    try:
        found = np_getitem(self, key=np_key(key))
        if not found._data.flags.c_contiguous and found._data.base is not None:
            found._data = found._data.copy()  # a column is no view in MXNet: columns may be swapped
        return found
    except MXNetError as error:
        if isinstance(error.__cause__, IndexError | ValueError):
            raise (BadKey if isinstance(key, str | float) else IndexError)(str(error)) from None
        raise


class BadKey(IndexError, ValueError):
    """What cannot be an index at all: the error of NumPy and that of MXNet in one."""


def setitem(self, key, value):
    """`x[key] = value`, by NumPy's rules."""
    raw = writable(self)
    if isinstance(value, NDArray):
        if autograd.is_recording() and value._node is not None:
            self._node = operators["replaced"](self, value, key=np_key(key))._node
        value = value._data
    elif isinstance(value, list | tuple | onp.ndarray):
        value = put(
            onp.array(unpacked(value) if isinstance(value, list | tuple) else value), self._ctx
        )
    elif not isinstance(value, bool | int | float | onp.generic):
        raise NotWritable(f"type {type(value)} cannot be written into an array")
    try:
        raw[np_key(key)] = alone(value)
    except (ValueError, IndexError) as error:
        kind = BadKey if isinstance(key, str | float) else KINDS[error.__class__]
        raise kind(f"writing {summary(value)} to x[{key!r}], x: {summary(self)}: {error}") from None


class NotWritable(ArgumentError, NotImplementedError):
    """What cannot be written into an array."""


def walk(self):
    """The slices along the first axis, one after the other."""
    if not self.ndim:
        raise TypeError("iteration over an array without axes")
    return (self[i] for i in range(self.shape[0]))


ndarray.__getitem__, ndarray.__setitem__, ndarray.__iter__ = getitem, setitem, walk


# --- Operators and methods ------------------------------------------------------------------------


def swapped(function):
    """The method of the right-hand array."""
    return lambda self, other: function(other, self)


def in_place(function):
    """The method for `x op= y`."""
    return lambda self, other: autograd.assign(
        self, operators["cast"](function(self, other), dtype=self.dtype)
    )


for name, function in {
    "add": add, "sub": subtract, "mul": multiply, "truediv": true_divide, "mod": mod,
    "pow": power, "matmul": matmul, "floordiv": floor_divide,
}.items():  # fmt: skip
    setattr(ndarray, f"__{name}__", function)
    setattr(ndarray, f"__r{name}__", swapped(function))
    setattr(ndarray, f"__i{name}__", in_place(function))
# As in MXNet, `x **= 2` makes a new array.
ndarray.__ipow__, ndarray.__ifloordiv__ = power, floor_divide
ndarray.__eq__, ndarray.__ne__ = equal, not_equal
ndarray.__lt__, ndarray.__le__ = less, less_equal
ndarray.__gt__, ndarray.__ge__ = greater, greater_equal
ndarray.__neg__, ndarray.__abs__ = negative, abs
ndarray.__hash__ = object.__hash__


def bitwise(function, name):
    """The operator of whole numbers and truth values that works bit by bit."""

    def kernel(x1, x2, /):
        return unscaled(function(x1, x2))

    kernel.__name__ = kernel.__qualname__ = f"np_{name}"
    kernel.__doc__ = f"`{name}` of whole numbers or truth values, bit by bit."
    return comparison(np_operator(kernel, vjp=(None, None)), function)


bitwise_and = bitwise(onp.bitwise_and, "bitwise_and")
bitwise_or = bitwise(onp.bitwise_or, "bitwise_or")
bitwise_xor = bitwise(onp.bitwise_xor, "bitwise_xor")


@np_operator(vjp=(None,))
def np_invert(x, /):
    """Each bit, or each truth value, turned over."""
    return unscaled(~x)


invert = bitwise_not = unary(np_invert, onp.invert)
ndarray.__and__ = ndarray.__rand__ = bitwise_and
ndarray.__or__ = ndarray.__ror__ = bitwise_or
ndarray.__xor__ = ndarray.__rxor__ = bitwise_xor
for name in ("and", "or", "xor"):
    setattr(ndarray, f"__i{name}__", in_place(getattr(ndarray, f"__{name}__")))
ndarray.__invert__ = invert


def reshape_method(self, *newshape, **settings):
    """The numbers in another shape: sizes, or a tuple of them."""
    newshape = settings.pop("newshape", None) or settings.pop("shape", None) or newshape
    one = len(newshape) == 1 and not isinstance(newshape[0], int) if newshape else False
    return reshape(self, newshape[0] if one else tuple(newshape), **settings)


def transpose_method(self, *axes):
    """The axes in another order, by default reversed."""
    one = len(axes) == 1 and (axes[0] is None or not isinstance(axes[0], int))
    return transpose(self, axes[0] if one else axes or None)


def astype(self, dtype, order="K", casting="unsafe", subok=True, copy=True):
    """The numbers in another type; the array itself if it has that type and `copy` is false."""
    for name, value, known in (("order", order, "KC"), ("casting", casting, ("unsafe",))):
        if value not in known:
            raise ValueError(f"astype: {name}={value!r} is not among {', '.join(known)}")
    if not subok:
        raise ValueError("astype: subok=False, but subclasses are kept")
    same = self.dtype == real_dtype(dtype)
    return self if same and not copy else operators["cast"](self, dtype=real_dtype(dtype))


def copied(self, order="C"):
    """Another array with the same numbers."""
    in_c_order("copy", order)
    return copy(self)


def item(self, *args):
    """One number as a Python number: the only one, or the one at an index."""
    return self.asnumpy().item(*args)


def clip_method(self, min=None, max=None, out=None):
    """Each number, but at least `min` and at most `max`, of which one may be absent."""
    return clip(self, min, max, out)


def reducing(function):
    """The method of a reduction, which takes `out` before `keepdims`."""

    def method(self, axis=None, out=None, keepdims=False):
        return function(self, axis, keepdims=keepdims, out=out)

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method


def sum_method(self, axis=None, dtype=None, out=None, keepdims=False):
    """Sum along `axis` (None: all, an int or several); a full sum has no axes."""
    return sum(self, axis, dtype, keepdims, out)


for function in (max, min, all, any):
    setattr(ndarray, function.__name__, reducing(function))
for function in (mean, prod, argmax, argmin, var, std, cumsum, nonzero, expand_dims):
    setattr(ndarray, function.__name__, function)
ndarray.sum = sum_method
ndarray.copy, ndarray.round, ndarray.clip = copied, around, clip_method
ndarray.reshape, ndarray.transpose, ndarray.astype = reshape_method, transpose_method, astype
ndarray.flatten = ndarray.ravel = lambda self, order="C": copy(ravel(self, order))
ndarray.T, ndarray.item = property(transpose), item


# --- Products as operators ------------------------------------------------------------------------


def spelled_out(subscripts):
    """The index sets of the inputs and of the output; without `->` those that stand once, sorted."""
    subscripts = subscripts.replace(" ", "")
    inputs, arrow, output = subscripts.partition("->")
    if not arrow:
        letters = inputs.replace(",", "")
        output = "".join(sorted(i for i in {*letters} if letters.count(i) == 1))
    return inputs.split(","), output


def einsum_rule(g, y, *operands, subscripts, optimize):
    """For each operand the sum in which `g` stands in its place."""
    inputs, output = spelled_out(subscripts)
    shares = []
    for k, operand in enumerate(operands):
        others = [i for n, i in enumerate(inputs) if n != k]
        arrays = [a for n, a in enumerate(operands) if n != k]
        own = ",".join([output, *others, inputs[k]]) + "->" + inputs[k]
        ones = operators["ones_like"](operand)
        shares.append(np_einsum(g, *arrays, ones, subscripts=own, optimize=optimize))
    return shares


@np_operator(vjp=einsum_rule)
def np_einsum(*operands, subscripts, optimize=False):
    """The sum of products that `subscripts` describes, such as 'ij,jk->ik'."""
    found = onp.einsum(subscripts, *operands, optimize=optimize)
    return unscaled(found)


@np_operator(
    vjp=(
        lambda g, y, a, b: -np_matmul(np_columns(np_solve(last_swapped(a), g), b), np_rows(y, b)),
        lambda g, y, a, b: np_solve(last_swapped(a), g),
    ),
)
def np_solve(a, b, /):
    """The x of a x = b, for square matrices; b is a vector or a matrix."""
    wide = [x.astype("float32") if x.dtype == onp.float16 else x for x in (a, b)]
    return onp.linalg.solve(*wide).astype(b.dtype, copy=False)


@np_operator
def np_svd(a, /):
    """The U, s and Vᵀ of a = U diag(s) Vᵀ, s descending; as many as the shorter side is long."""
    return tuple(onp.linalg.svd(a, full_matrices=False))


np_svd.outputs = 3


def pinv_rule(g, y, a, rcond):
    """The differential of the pseudoinverse p of a, by Golub and Pereyra (1973), read backwards."""
    p, pt, at, gt = y, last_swapped(y), last_swapped(a), last_swapped(g)
    rows = np_matmul(np_matmul(gt, p), pt)
    columns = np_matmul(np_matmul(pt, p), gt)
    rows = rows - np_matmul(pt, np_matmul(at, rows))
    columns = columns - np_matmul(np_matmul(columns, at), pt)
    return (rows + columns - np_matmul(np_matmul(pt, g), pt),)


@np_operator(vjp=pinv_rule)
def np_pinv(a, /, rcond=1e-15):
    """The pseudoinverse of matrices; singular values below `rcond` times the largest one count as 0."""
    return onp.linalg.pinv(a, rcond)


@np_svd.vjp
def _(g, y, a):
    """Townsend (2016), for singular values that differ and are not 0."""
    (gu, gs, gvt), (u, s, vt) = g, y
    row, column = (operators["expand_dims"](s, axis=axis) for axis in (-2, -1))
    gaps = row * row - column * column
    turn = 1 / (gaps + operators["equal"](gaps, 0) * 1e30)
    left, right = np_matmul(last_swapped(u), gu), np_matmul(vt, last_swapped(gvt))
    core = turn * (left - last_swapped(left)) * row + turn * (right - last_swapped(right)) * column
    whole = np_matmul(np_matmul(u, core + operators["linalg_makediag"](gs)), vt)
    outside_u = (gu - np_matmul(u, left)) / row
    outside_v = (gvt - np_matmul(last_swapped(right), vt)) / column
    return (whole + np_matmul(outside_u, vt) + np_matmul(u, outside_v),)


@np_operator(vjp=(lambda g, y, x, like: operators["reshape_like"](g, x), None))
def np_columns(x, like, /):
    """A vector as one column, where `like` is a vector; matrices as they are."""
    return x[:, None] if like.ndim == 1 else x


@np_operator(vjp=(lambda g, y, x, like: np_rowed(g, like), None))
def np_rows(x, like, /):
    """A vector as one row, where `like` is a vector; matrices transposed."""
    return x[None] if like.ndim == 1 else onp.swapaxes(x, -1, -2)


@np_operator(vjp=(lambda g, y, x, like: np_rows(g, like), None))
def np_rowed(x, like, /):
    """Undo `np_rows`."""
    return x[0] if like.ndim == 1 else onp.swapaxes(x, -1, -2)


# --- Shapes ---------------------------------------------------------------------------------------


def swapaxes(a, axis1, axis2):
    """Two axes exchanged."""
    return operators["swapaxes"](a, dim1=axis1, dim2=axis2)


def moveaxis(a, source, destination):
    """Axes at other places, the others in their order."""
    return operators["moveaxis"](a, source=source, destination=destination)


def squeeze(a, axis=None):
    """Without axes of size 1: all, or those named."""
    if not isinstance(a, NDArray):
        return operators["squeeze"](a, axis=axis)
    axes = axis if isinstance(axis, tuple | list) or axis is None else (axis,)
    gone = range(a.ndim) if axes is None else [axis_of(a, i) for i in axes]
    if axes is not None and not builtins.all(a.shape[i] == 1 for i in gone):
        raise BadValue(f"squeeze: axes {axes} of shape {a.shape} are not all of size 1")
    return reshape(a, tuple(n for i, n in enumerate(a.shape) if n != 1 or i not in gone))


def axis_of(a, axis):
    """An axis, counted from the front; BadValue where `a` has none such."""
    if not isinstance(axis, int | onp.integer) or not -a.ndim <= axis < a.ndim:
        raise BadValue(
            f"axis {axis!r} of an array with {a.ndim} axes: give a whole number in range"
        )
    return axis % a.ndim


def flip(m, axis=None, out=None):
    """The numbers in the opposite order along `axis` (None: along all)."""
    axis = tuple(range(m.ndim)) if axis is None else axis
    return given(operators["flip"](m, axis=axis), out)


def fliplr(m):
    """Left and right exchanged."""
    return flip(m, 1)


def flipud(m):
    """Up and down exchanged."""
    return flip(m, 0)


def roll(a, shift, axis=None):
    """The numbers moved along `axis`; those that leave at the end come in at the beginning."""
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.shape)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise BadValue(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for n, i in zip(shifts, axes):
        i = axis_of(a, i)  # noqa: PLW2901
        places = (onp.arange(a.shape[i]) - n) % builtins.max(1, a.shape[i])
        a = take(a, places, axis=i)
    return a


def rot90(m, k=1, axes=(0, 1)):
    """The array turned by k right angles in the plane of two axes."""
    if not isinstance(axes, tuple | list) or len(axes) != 2:
        raise BadValue(f"rot90: axes={axes!r} are two axes")
    first, second = axes
    k %= 4
    if k == 2:
        return flip(flip(m, first), second)
    if k == 1:
        return swapaxes(flip(m, second), first, second)
    return flip(swapaxes(m, first, second), second) if k == 3 else copy(m)


def repeat(a, repeats, axis=None):
    """Each number, or each slice along `axis`, several times: equally often, or as a list says."""
    if isinstance(repeats, int | onp.integer):
        return operators["repeat"](a, repeats=repeats, axis=axis)
    counts = onp.atleast_1d(repeats.asnumpy() if isinstance(repeats, NDArray) else repeats)
    if counts.size == 1:
        return operators["repeat"](a, repeats=int(counts[0]), axis=axis)
    a, axis = (ravel(a), 0) if axis is None else (a, axis_of(a, axis))
    if counts.shape != a.shape[axis : axis + 1] or (counts < 0).any():
        raise BadValue(f"repeat: {repeats} are not {a.shape[axis]} numbers from 0")
    return take(a, onp.repeat(onp.arange(counts.size), counts), axis)


def tile(A, reps):
    """The array, laid out several times."""
    return operators["tile"](A, reps=reps)


# --- Joining and cutting --------------------------------------------------------------------------


def broadcast_to(array, shape):
    """The array, or the number, repeated to a shape."""
    if isinstance(array, bool | int | float | onp.generic):
        array = full((), array)  # noqa: A001
    return np_broadcast_to(array, shape=tuple(sizes(shape)))


@np_operator(vjp=(lambda g, y, x, shape: autograd.sum_like(g, x),))
def np_broadcast_to(a, /, shape):
    """The array repeated to a shape, by NumPy's rules."""
    return onp.broadcast_to(a, shape).copy()


def broadcast_arrays(*args):
    """Arrays repeated to their common shape."""
    if not builtins.all(isinstance(a, NDArray) for a in args):
        return by_numpy("broadcast_arrays")(*args)
    shape = onp.broadcast_shapes(*[a.shape for a in args])
    return [broadcast_to(a, shape) for a in args]


def concatenate(seq, axis=0, out=None):
    """Arrays one behind the other along an axis; with axis=None all their numbers in one row."""
    seq = list(seq)
    if not seq:
        raise MXNetError("concatenate: need at least one array")
    if axis is None:
        seq, axis = [ravel(a) for a in seq], 0
    return given(operators["concat"](*seq, dim=axis), out)


def append(arr, values, axis=None):
    """Values behind an array."""
    return concatenate([arr, values], axis)


def stack(arrays, axis=0, out=None):
    """Arrays of one shape along a new axis."""
    return given(operators["stack"](*arrays, axis=axis), out)


def vstack(arrays, out=None):
    """Arrays one below the other; vectors are rows."""
    return concatenate([atleast_2d(a) for a in arrays], 0, out)


row_stack = vstack


def hstack(arrays):
    """Arrays side by side; vectors one behind the other."""
    arrays = [atleast_1d(a) for a in arrays]
    return concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


def dstack(arrays):
    """Arrays along the third axis."""
    return concatenate([atleast_3d(a) for a in arrays], 2)


def column_stack(tup):
    """Vectors as the columns of a matrix."""
    return concatenate([reshape(a, (-1, 1)) if a.ndim < 2 else a for a in tup], 1)


def with_axes(least, place):
    """The function that gives arrays at least so many axes, the new ones at their places."""

    def function(*arys):
        found = [reshape(a, place(a.shape)) if a.ndim < least else a for a in arys]
        return found[0] if len(found) == 1 else found

    function.__name__ = function.__qualname__ = f"atleast_{least}d"
    function.__doc__ = f"Arrays with at least {least} axes."
    return function


atleast_1d = with_axes(1, lambda shape: (1,))
atleast_2d = with_axes(2, lambda shape: (1,) * (2 - len(shape)) + shape)
atleast_3d = with_axes(3, lambda shape: ((1, 1, 1), (1, *shape, 1), (*shape, 1))[len(shape)])


def split(ary, indices_or_sections, axis=0):
    """Equal parts along an axis, or parts between indices; ValueError where it does not divide."""
    n = ary.shape[axis_of(ary, axis)]
    whole = isinstance(indices_or_sections, int)
    if whole and (not indices_or_sections or n % indices_or_sections):
        raise ValueError(f"split: {n} numbers do not divide into {indices_or_sections} equal parts")
    return array_split(ary, indices_or_sections, axis)


def array_split(ary, indices_or_sections, axis=0):
    """Parts along an axis, nearly equal or between indices."""
    axis = axis_of(ary, axis)
    n = ary.shape[axis]
    if not isinstance(indices_or_sections, int | tuple | list | set):
        raise ValueError("split: indices_or_sections is an int, or a tuple or list of them")
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1:
            raise BadValue(f"split: into {indices_or_sections} parts")
        small, more = divmod(n, indices_or_sections)
        lengths = [small + 1] * more + [small] * (indices_or_sections - more)
        ends = onp.cumsum(lengths).tolist()
    else:
        ends = [builtins.max(0, i if i >= 0 else i + n) for i in indices_or_sections] + [n]
    cuts = [slice(a, builtins.max(a, b)) for a, b in zip([0, *ends[:-1]], ends)]
    return [np_getitem(ary, key=(slice(None),) * axis + (cut,)) for cut in cuts]


def hsplit(ary, indices_or_sections):
    """Parts side by side, nearly equal."""
    return array_split(ary, indices_or_sections, 0 if ary.ndim == 1 else 1)


def vsplit(ary, indices_or_sections):
    """Parts one below the other."""
    if ary.ndim < 2:
        raise ValueError(f"vsplit: an array of {ary.ndim} axes has no rows")
    return split(ary, indices_or_sections, 0)


def dsplit(ary, indices_or_sections):
    """Parts along the third axis."""
    if ary.ndim < 3:
        raise ValueError(f"dsplit: an array of {ary.ndim} axes has no third one")
    return split(ary, indices_or_sections, 2)


def meshgrid(*xi, indexing="xy", sparse=False, copy=True):
    """Coordinates on a grid: for each vector an array in which it is repeated along the others."""
    if sparse or not copy:
        raise NotImplementedError("meshgrid: only sparse=False and copy=True")
    shapes = [[1] * len(xi) for _ in xi]
    for i, (shape, x) in enumerate(zip(shapes, xi)):
        shape[i] = x.size
    full = tuple(x.size for x in xi)
    found = [broadcast_to(reshape(x, tuple(s)), full) for x, s in zip(xi, shapes)]
    return [swapaxes(a, 0, 1) for a in found] if indexing == "xy" and len(xi) > 1 else found


# --- Choosing and ordering ------------------------------------------------------------------------


def take(a, indices, axis=None, mode="raise", out=None):
    """The slices of `a` along `axis` at `indices` (None: numbers of the flattened array)."""
    if mode not in ("raise", "clip", "wrap"):
        raise NotImplementedError(f"take: mode is 'raise', 'clip' or 'wrap', not {mode!r}")
    if axis is None:
        a, axis = ravel(a), 0
    axis = axis_of(a, axis)
    n, key = a.shape[axis], indices._data if isinstance(indices, NDArray) else onp.asarray(indices)
    key = key.astype("int64")
    if mode == "clip":
        key = onp.clip(key, 0, n - 1)
    elif mode == "wrap":
        key = key % n
    return given(np_getitem(a, key=(slice(None),) * axis + (key,)), out)


def sort(a, axis=-1, kind=None, order=None):
    """The numbers along `axis` in order; with axis=None all in one row."""
    return operators["sort"](a, axis=axis)


def argsort(a, axis=-1, kind=None, order=None):
    """The indices that sort along `axis`, int64."""
    return operators["argsort"](a, axis=axis, dtype="int64")


# --- Products -------------------------------------------------------------------------------------


def tensordot(a, b, axes=2):
    """The sum of products over axes of both arrays: the last and first so many, or two lists."""
    a, b = alike(a, b)
    if isinstance(axes, int):
        axes = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    left, right = ([i] if isinstance(i, int) else list(i) for i in axes)
    left, right = [i % a.ndim for i in left], [i % b.ndim for i in right]
    rows = [i for i in range(a.ndim) if i not in left]
    columns = [i for i in range(b.ndim) if i not in right]
    inner = math.prod(a.shape[i] for i in left)
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise MXNetError(f"tensordot: shapes {a.shape} and {b.shape} do not fit along {axes}")
    heights, widths = [a.shape[i] for i in rows], [b.shape[i] for i in columns]
    x = reshape(transpose(a, tuple(rows + left)) if a.ndim else a, (math.prod(heights), inner))
    y = reshape(transpose(b, tuple(right + columns)) if b.ndim else b, (inner, math.prod(widths)))
    shape = (*heights, *widths)
    return reshape(np_matmul(x, y), shape)


def dot(a, b, out=None):
    """The product of vectors, of matrices, or over the last axis of `a` and the last but one of `b`."""
    if not isinstance(a, NDArray) or not isinstance(b, NDArray):
        symbols = hasattr(a, "_entries") and hasattr(b, "_entries")
        return operators["dot"](a, b) if symbols else multiply(a, b, out)
    if not a.ndim or not b.ndim:
        return multiply(a, b, out)
    if a.ndim == b.ndim == 2:
        return given(np_matmul(*alike(a, b)), out)
    return given(tensordot(a, b, ([-1], [0 if b.ndim == 1 else -2])), out)


def inner(a, b):
    """The sum of products over the last axes."""
    return tensordot(a, b, ([-1], [-1])) if a.ndim and b.ndim else multiply(a, b)


def vdot(a, b):
    """The product of two arrays as vectors."""
    return dot(ravel(a), ravel(b))


def outer(a, b):
    """All products of a number of `a` and one of `b`."""
    return reshape(ravel(a), (-1, 1)) * reshape(ravel(b), (1, -1))


def einsum(*operands, **kwargs):
    """Einstein's sum of products: `einsum('ij,jk->ik', a, b)`."""
    subscripts, *arrays = operands
    if builtins.all(isinstance(a, NDArray) for a in arrays):
        subscripts, arrays = plainly(subscripts, arrays)
    settings = {"subscripts": subscripts, "optimize": bool(kwargs.get("optimize", False))}
    return given(np_einsum(*alike(*arrays), **settings), kwargs.get("out"))


def plainly(subscripts, arrays):
    """The same sum with letters for `...`, and with the diagonal where an index stood twice
    in an array.
    """
    subscripts = subscripts.replace(" ", "")
    if subscripts.partition("->")[0].count(",") + 1 != len(arrays):
        raise BadValue(f"einsum: {subscripts!r} does not name the axes of {len(arrays)} arrays")
    if "." not in subscripts:
        inputs, output = spelled_out(subscripts)
    else:
        free = [c for c in map(chr, range(65, 91)) if c not in subscripts]
        inputs, arrow, output = subscripts.partition("->")
        more = [a.ndim - len(i) + 3 if "." in i else 0 for a, i in zip(arrays, inputs.split(","))]
        names = "".join(free[: builtins.max(more)])
        if not arrow:
            output = "..." + spelled_out(inputs.replace("...", ""))[1]
        inputs = [
            i.replace("...", names[len(names) - n :]) for i, n in zip(inputs.split(","), more)
        ]
        output = output.replace("...", names)
    pairs = [once(i, a) for i, a in zip(inputs, arrays)]
    return ",".join(i for i, _ in pairs) + "->" + output, [a for _, a in pairs]


def once(letters, a):
    """An index set without repetition, and the diagonal of `a` that goes with it."""
    for letter in letters:
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            a = operators["diag"](a, axis1=first, axis2=second)
            letters = letters[:first] + letters[first + 1 : second] + letters[second + 1 :] + letter
    return letters, a


# --- Diagonals, triangles, differences ------------------------------------------------------------


def diag(array, k=0):
    """A matrix with a vector on its k-th diagonal, or the k-th diagonal of a matrix."""
    return operators["diag"](array, k=within(array, k) if array.ndim > 1 else k)


def trace(a, offset=0, axis1=0, axis2=1, out=None):
    """The sum of the diagonal."""
    offset = within(a, offset, axis1, axis2)
    return given(sum(operators["diag"](a, k=offset, axis1=axis1, axis2=axis2), -1), out)


def within(a, k, axis1=0, axis2=1):
    """The number of a diagonal; for one beyond the corners that of the empty one behind them."""
    rows, columns = a.shape[axis_of(a, axis1)], a.shape[axis_of(a, axis2)]
    return builtins.max(-rows, builtins.min(k, columns))


def tril(m, k=0):
    """Zeros above the k-th diagonal."""
    rows, columns = m.shape[-2:] if m.ndim > 1 else m.shape * 2
    m = broadcast_to(m, (rows, columns)) if m.ndim == 1 else m
    return np_where(wrapped(onp.tri(rows, columns, k, dtype=bool), m._ctx), m, zeros_like(m))


def triu(m, k=0):
    """Zeros below the k-th diagonal."""
    return np_where(wrapped(~onp.tri(*m.shape[-2:], k - 1, dtype=bool), m._ctx), m, zeros_like(m))


def diff(a, n=1, axis=-1, prepend=None, append=None):
    """Differences of neighbours along an axis, n times; with numbers before and behind, if given."""
    if n < 0:
        raise BadValue(f"diff: n={n} times")
    ends = [beside(a, prepend, axis), a, beside(a, append, axis)]
    a = concatenate([part for part in ends if part is not None], axis)
    for _ in range(n):
        first = (slice(None),) * (axis % a.ndim)
        later, earlier = (*first, slice(1, None)), (*first, slice(None, -1))
        a = np_getitem(a, key=later) - np_getitem(a, key=earlier)
    return a


def beside(a, end, axis):
    """What stands beside `a` along an axis: an array, or a number repeated; None is nothing."""
    if end is None or (isinstance(end, NDArray) and end.ndim):
        return end
    shape = tuple(1 if i == axis % a.ndim else n for i, n in enumerate(a.shape))
    return full(shape, end, dtype=a.dtype, ctx=a._ctx)


CHOOSING = ("edge", "reflect", "symmetric", "wrap")


def pad(x, pad_width, mode="constant", constant_values=0, **settings):
    """More numbers around an array: `pad_width` before and behind, for each axis."""
    if mode not in ("constant", *CHOOSING):
        return by_numpy("pad")(x, pad_width, mode, **settings)
    if mode in ("reflect", "symmetric") and settings.pop("reflect_type", "even") != "even":
        raise ValueError(f"pad: mode {mode!r} knows reflect_type='even' only")
    if settings or not (mode == "constant" or not constant_values):
        raise BadValue(f"pad: mode {mode!r} has no argument {', '.join(settings)}")
    widths = onp.broadcast_to(onp.asarray(pad_width), (x.ndim, 2)).tolist()
    for axis, ends in enumerate(widths):
        if mode == "constant" and builtins.any(ends):
            x = concatenate(bordered(x, ends, axis, constant_values), axis)
        elif builtins.any(ends):
            x = take(x, onp.pad(onp.arange(x.shape[axis]), ends, mode), axis)
    return x if builtins.any(map(builtins.any, widths)) else copy(x)


def bordered(x, ends, axis, value):
    """An array between blocks of one value."""
    shapes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in ends]
    before, behind = (full(s, value, x.dtype, ctx=x._ctx) for s in shapes)
    return [before, x, behind]


def diagonal(a, offset=0, axis1=0, axis2=1):
    """The diagonal of the matrices that two axes span, as the last axis."""
    if a.ndim < 2:
        raise BadValue(f"diagonal: an array of {a.ndim} axes has no matrices")
    return operators["diag"](a, k=offset, axis1=axis1, axis2=axis2)


def diagflat(array, k=0):
    """A matrix with all numbers of an array on its k-th diagonal."""
    return diag(ravel(array), k)


def polyval(p, x):
    """The polynomial with coefficients `p`, the highest power first, at `x` (Horner's scheme)."""
    y = zeros_like(x)
    for i in range(p.shape[0]):
        y = y * x + np_getitem(p, key=i)
    return y


@np_operator(vjp=(lambda g, y, x, nan, posinf, neginf: np_where(np_isfinite(x), g, 0 * y),))
def np_nan_to_num(x, /, nan=0.0, posinf=None, neginf=None):
    """Numbers for what is none: `nan` where there is none, the type's limits where it is infinite."""
    return unscaled(onp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf))


def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None, **_):
    """Numbers for what is none: `nan` for nan, and the type's limits, or others, for infinities."""
    if not isinstance(x, NDArray):
        return onp.nan_to_num(x, copy, nan, posinf, neginf)
    found = np_nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)
    return found if copy else given(found, x)


def ediff1d(ary, to_end=None, to_begin=None):
    """Differences of neighbours in the flattened array, between what stands before and behind them."""
    ends = [
        array(e, ary.dtype) if isinstance(e, list | int | float) else e for e in (to_begin, to_end)
    ]
    parts = [ends[0], diff(ravel(ary)), ends[1]]
    return concatenate([ravel(p) for p in parts if p is not None])


def window(plain):
    """The function that gives NumPy's window, in float32."""

    def function(M, dtype=None, ctx=None):
        return wrapped(plain(M).astype(real_dtype(dtype)), ctx)

    function.__name__, function.__doc__ = plain.__name__, f"NumPy's window `{plain.__name__}`."
    return function


hanning, hamming, blackman = window(onp.hanning), window(onp.hamming), window(onp.blackman)


def in_one_row(a, axis):
    """An array with the axes `axis` (None: all) made one, the first; and its shape with size 1 there."""
    axes = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [axis_of(a, i) for i in axes]
    kept = [i for i in range(a.ndim) if i not in axes]
    ones = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    count = math.prod(a.shape[i] for i in axes)
    return reshape(transpose(a, (*axes, *kept)), (count, *(a.shape[i] for i in kept))), ones


def ranked(name):
    """NumPy's `percentile` or `quantile` under MXNet's arguments: `interpolation` is the method."""

    def function(
        a, q, axis=None, out=None, overwrite_input=None, interpolation="linear", keepdims=False
    ):
        rows, ones = in_one_row(as_real(a), over(axis))
        q = q.asnumpy() if isinstance(q, NDArray) else q
        at = by_numpy(name)(onp.arange(float(rows.shape[0])), q, method=interpolation)
        low, rows = onp.floor(at).astype("int64"), sort(rows, 0)
        found, part = take(rows, low, 0), onp.asarray(at - low)
        if part.any():
            beyond = take(rows, low + (part > 0), 0)
            part = array(part.reshape((*low.shape, *[1] * (rows.ndim - 1))), rows.dtype)
            # Only where there is a part of the way to go: inf - inf is no number.
            steps = where(part > 0, beyond, 0.0) - where(part > 0, found, 0.0)
            found = found + steps * part
        found = where(isnan(rows[-1]), rows[-1], found)  # sorted, nan comes last
        return given(reshape(found, (*low.shape, *ones)) if keepdims else found, out)

    function.__name__ = name
    function.__doc__ = f"NumPy's `{name}`: a number between two of the sorted ones."
    return function


percentile, quantile = ranked("percentile"), ranked("quantile")


@np_operator(vjp=(None,))
def np_constraint_check(data, /, msg="Constraint violated."):
    """True if all of `data` is true; otherwise a ValueError with the text `msg`."""
    found = data.all(keepdims=True).reshape(())
    if not found:
        raise ValueError(msg)
    return found


def bincount(x, weights=None, minlength=0):
    """How often each whole number occurs, or the sum of the weights of its places, in their type."""
    found = by_numpy("bincount")(x, weights, minlength)
    return astype(found, x.dtype if weights is None else weights.dtype)


def unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None):
    """The different numbers in order; where they stand first, which of them stands where,
    how often each.
    """
    found = by_numpy("unique")(ar, return_index, return_inverse, return_counts, axis)
    if not return_inverse:
        return found
    return (*found[: 1 + return_index], ravel(found[1 + return_index]), *found[2 + return_index :])


def histogram(a, bins=10, range=None, normed=None, weights=None, density=None):  # noqa: A002
    """How many numbers lie in each of the `bins` parts of `range`, and the edges of those."""
    if normed:
        raise NotImplementedError("histogram: normed=True is not there, use density=True")
    return [*by_numpy("histogram")(a, bins, range, density, weights)]


def delete(arr, obj, axis=None):
    """An array without the slices at `obj`: an index, a slice or several indices."""
    return by_numpy("delete")(arr, np_key(obj), axis)


def insert(arr, obj, values, axis=None):
    """An array with `values` put in before the indices `obj`."""
    return by_numpy("insert")(arr, np_key(obj), values, axis)


def sort_method(self, axis=-1, kind=None, order=None):
    """The numbers sorted along an axis, in place."""
    self[...] = sort(self, axis)


for function in (dot, repeat, squeeze, swapaxes, take, argsort, split, tile, flip):
    setattr(ndarray, function.__name__, function)
ndarray.sort = sort_method


# --- What NumPy does for us -----------------------------------------------------------------------

FALLBACK = frozenset(
    """
    real
    allclose apply_along_axis apply_over_axes argpartition argwhere array_equal array_equiv
    choose compress corrcoef correlate count_nonzero cov
    diag_indices_from digitize divmod extract flatnonzero
    float_power frexp gcd heaviside histogram2d histogramdd
    histogram_bin_edges i0 in1d interp intersect1d isclose isin
    ix_ kron lexsort median modf msort nanargmax nanargmin nancumprod
    nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod nanquantile nanstd
    min_scalar_type nansum nanvar packbits partition piecewise poly polyadd polydiv polyfit
    polyint polymul polysub positive ptp resize rollaxis roots
    searchsorted select setdiff1d setxor1d signbit spacing take_along_axis tri tril_indices
    tril_indices_from trim_zeros triu_indices triu_indices_from union1d unpackbits
    unwrap vander
    """.split()  # noqa: SIM905
)
AS_ARRAYS = frozenset(
    [
        "bincount",
        "delete",
        "histogram",
        "insert",
        "resize",
        "unique",
        "percentile",
        "quantile",
        "unravel_index",
    ]
)
NAMES = {
    "e",
    "euler_gamma",
    "finfo",
    "float16",
    "float32",
    "float64",
    "iinfo",
    "inf",
    "int16",
    "int32",
    "int64",
    "int8",
    "nan",
    "newaxis",
    "pi",
    "bool_",
    "uint8",
    "dtype",
    "result_type",
    "promote_types",
    "set_printoptions",
}


def sometrue(a, axis=None, out=None, keepdims=False):
    """An older name of `any`."""
    return any(a, axis, keepdims, out)


def alltrue(a, axis=None, out=None, keepdims=False):
    """An older name of `all`."""
    return all(a, axis, keepdims, out)


def product(a, axis=None, dtype=None, out=None, keepdims=False):
    """An older name of `prod`."""
    return prod(a, axis, dtype, out, keepdims)


def msort(a):
    """The numbers sorted along the first axis."""
    return sort(a, 0)


NAN = NaN = math.nan
PINF, NINF, PZERO, NZERO = math.inf, -math.inf, 0.0, -0.0


def trapz(y, x=None, dx=1.0, axis=-1):
    """The integral by the trapezoidal rule, carried out by NumPy."""
    return by_numpy("trapezoid")(y, x=x, dx=dx, axis=axis)


def shares_memory(a, b, max_work=None):
    """Whether two arrays have an element in common."""
    return onp.shares_memory(a._data, b._data, max_work)


def may_share_memory(a, b, max_work=None):
    """Whether the memory of two arrays overlaps."""
    return onp.may_share_memory(a._data, b._data, max_work)


def genfromtxt(*args, **kwargs):
    """An array from the lines of a text, read by NumPy."""
    return array(onp.genfromtxt(*args, **kwargs))


def by_numpy(name, space=onp):
    """NumPy's function on the numbers of our arrays; its arrays become ours."""
    plain, as_arrays = getattr(space, name), name in AS_ARRAYS

    def function(*args, out=None, **kwargs):
        arrays = []
        raw = [lowered(a, arrays) for a in args]
        named = {k: lowered(a, arrays) for k, a in kwargs.items()}
        try:
            found = plain(*raw, **named)
        except (TypeError, ValueError, IndexError) as error:
            kind = next(KINDS[k] for k in KINDS if isinstance(error, k))
            raise kind(f"{name}: {error}") from error
        require_no_history(name, arrays, found)
        return given(raised(found, arrays[0]._ctx, as_arrays) if arrays else found, out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"NumPy's `{name}`, carried out by NumPy: no gradient passes."
    return function


CONSTANTS = {"delete", "insert", "histogram", "unique"}


def require_no_history(name, arrays, found):
    """Refuse to lose a gradient: while recording, numbers that NumPy made of arrays with a history.

    Those of some functions are wanted for themselves, and are constants: MXNet has operators without
    gradients for them.
    """
    if (
        name in CONSTANTS
        or not autograd.is_recording()
        or builtins.all(a._node is None for a in arrays)
    ):
        return
    parts = found if isinstance(found, tuple | list) else [found]
    if builtins.any(onp.asarray(part).dtype.kind == "f" for part in parts):
        raise ValueError(
            f"NumPy would carry out {name!r}, without a gradient: call it outside of record(), "
            "or on x.detach()"
        )


def lowered(a, arrays):
    """An argument for NumPy; our arrays among it are noted in `arrays`."""
    if isinstance(a, NDArray):
        arrays.append(a)
        return a.asnumpy()
    return type(a)(lowered(one, arrays) for one in a) if type(a) in (list, tuple) else a


def raised(found, ctx, as_arrays):
    """What NumPy found, its arrays as ours; single numbers too, if `as_arrays`."""
    if isinstance(found, tuple | list):
        parts = [raised(one, ctx, as_arrays) for one in found]
        return parts if type(found) is list else tuple(parts)
    kinds = onp.ndarray | onp.generic if as_arrays else onp.ndarray
    return wrapped(found, ctx) if isinstance(found, kinds) and found.dtype.kind in "fiub" else found


def own_function(name, space):
    """Our function for one of NumPy's, of the main namespace or of `linalg`; None if there is none."""
    part = {"numpy": ".", "numpy.linalg": ".linalg"}.get(space)
    if part is None or name.startswith("_"):
        return None
    found = getattr(importlib.import_module(part, "minigluon.numpy"), name, None)
    return None if found is getattr(onp, name, None) else found


def answer(function, args, kwargs):
    """Carry out a call of NumPy's in which one of our arrays stands."""
    ours = own_function(function.__name__, getattr(function, "__module__", None) or "numpy")
    if ours is not None:
        return ours(*args, **kwargs)
    if autograd.is_recording():
        raise ValueError(
            f"NumPy would carry out {function.__name__!r}, without a gradient: "
            "call it outside of record(), "
            "or on x.asnumpy()"
        )
    arrays = []
    raw = [lowered(a, arrays) for a in args]
    found = function(*raw, **{k: lowered(a, arrays) for k, a in kwargs.items()})
    return raised(found, arrays[0]._ctx, True) if arrays else found


def unravel_index(indices, shape, order="C"):
    """Where numbers of a flattened array stand: one array an axis, in the type of `indices`."""
    found = by_numpy("unravel_index")(indices, shape, order)
    return tuple(a.astype(indices.dtype) if isinstance(a, NDArray) else a for a in found)


def shape(a):
    """The sizes of the axes."""
    return a.shape


def size(a, axis=None):
    """How many numbers there are, in all or along an axis."""
    return a.size if axis is None else a.shape[axis]


def ndim(a):
    """How many axes there are."""
    return a.ndim
