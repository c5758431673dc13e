"""One number in, one number out: the table of derivatives, and arithmetic that broadcasts."""

# Written from chapters/10_elementwise.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.autograd import assign, writable
from minigluon.base import MXNetError
from minigluon.context import Context, put
from minigluon.ndarray.ndarray import NDArray, real_dtype
from minigluon.op import Operand, operator

__all__ = [
    "NDArray",
    "Operand",
    "abs",
    "add",
    "as_in_context",
    "astype",
    "cast",
    "cast_like",
    "clip",
    "comparison",
    "copyto",
    "cos",
    "divide",
    "dtype_of",
    "equal",
    "exp",
    "expm1",
    "floor",
    "greater",
    "greater_equal",
    "identity",
    "in_place",
    "lesser",
    "lesser_equal",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "modulo",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "reciprocal",
    "relu",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
    "tanh",
]


# --- Arithmetic -----------------------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: g),
    aliases=("broadcast_add", "broadcast_plus", "elemwise_add", "_plus"),
)
def add(lhs, rhs, /):
    """Sum. Shapes are equal or broadcast: counted from the last axis, sizes equal or one of them 1."""
    return lhs + rhs


@operator(
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: -g),
    aliases=("broadcast_sub", "broadcast_minus", "elemwise_sub", "_minus"),
)
def subtract(lhs, rhs, /):
    """Difference. Shapes are equal or broadcast: counted from the last axis, sizes equal or one of them 1."""
    return lhs - rhs


@operator(
    vjp=(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    aliases=("broadcast_mul", "elemwise_mul", "_mul"),
)
def multiply(lhs, rhs, /):
    """Product. Shapes are equal or broadcast: counted from the last axis, sizes equal or one of them 1."""
    return lhs * rhs


@operator(vjp=(lambda g, y, x: -g,), aliases=("_np_negative",))
def negative(data, /):
    """Minus each number."""
    return -data


def dtype_of(lhs, rhs):
    """The type of whichever argument is an array."""
    return lhs.dtype if hasattr(lhs, "dtype") else rhs.dtype


@operator(
    vjp=(lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    aliases=("broadcast_div", "elemwise_div", "_div", "true_divide"),
)
def divide(lhs, rhs, /):
    """Quotient, truncated toward zero for integers. Shapes are equal or broadcast."""
    dtype = dtype_of(lhs, rhs)
    return lhs / rhs if dtype.kind == "f" else np.trunc(lhs / rhs).astype(dtype)


@operator(
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: -g * floor(a / b)),
    aliases=("broadcast_mod", "_mod"),
)
def modulo(lhs, rhs, /):
    """Remainder with the sign of the divisor. Shapes are equal or broadcast."""
    return np.mod(lhs, rhs)


@operator(
    vjp=(
        lambda g, y, a, n: g * n * power(a, n - 1),
        lambda g, y, a, n: g * y * log(a),
    ),
    aliases=("broadcast_power", "_power", "_pow"),
)
def power(base, exp, /):
    """`base` to the power `exp`. Shapes are equal or broadcast."""
    return np.power(base, exp).astype(dtype_of(base, exp), copy=False)


# --- Comparisons ----------------------------------------------------------------------------------


def comparison(compare, name, sign, aliases):
    """The operator that compares two arrays and answers 0 or 1 in their type."""

    def kernel(lhs, rhs, /):
        return compare(lhs, rhs).astype(dtype_of(lhs, rhs))

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = (
        f"1 where `lhs {sign} rhs`, else 0, in their type. Shapes are equal or broadcast."
    )
    return operator(kernel, vjp=(None, None), aliases=aliases)


equal = comparison(np.equal, "equal", "==", ("broadcast_equal", "_equal"))
not_equal = comparison(np.not_equal, "not_equal", "!=", ("broadcast_not_equal", "_not_equal"))
greater = comparison(np.greater, "greater", ">", ("broadcast_greater", "_greater"))
greater_equal = comparison(
    np.greater_equal, "greater_equal", ">=", ("broadcast_greater_equal", "_greater_equal")
)
lesser = comparison(np.less, "lesser", "<", ("broadcast_lesser", "_lesser"))
lesser_equal = comparison(
    np.less_equal, "lesser_equal", "<=", ("broadcast_lesser_equal", "_lesser_equal")
)


@operator(
    vjp=(lambda g, y, a, b: g * greater_equal(a, b), lambda g, y, a, b: g * lesser(a, b)),
    aliases=("broadcast_maximum", "_maximum"),
)
def maximum(lhs, rhs, /):
    """The larger of two numbers; a tie gives its gradient to `lhs`. Shapes are equal or broadcast."""
    return np.maximum(lhs, rhs)


@operator(
    vjp=(lambda g, y, a, b: g * lesser_equal(a, b), lambda g, y, a, b: g * greater(a, b)),
    aliases=("broadcast_minimum", "_minimum"),
)
def minimum(lhs, rhs, /):
    """The smaller of two numbers; a tie gives its gradient to `lhs`. Shapes are equal or broadcast."""
    return np.minimum(lhs, rhs)


# --- Functions ------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x: g * y,))
def exp(data, /):
    """The exponential function."""
    return np.exp(data)


@operator(vjp=(lambda g, y, x: g / x,))
def log(data, /):
    """The natural logarithm."""
    return np.log(data)


@operator(vjp=(lambda g, y, x: g * exp(x),))
def expm1(data, /):
    """$e^x-1$, exact for small x."""
    return np.expm1(data)


@operator(vjp=(lambda g, y, x: g / (1 + x),))
def log1p(data, /):
    """$\\ln(1+x)$, exact for small x."""
    return np.log1p(data)


@operator(vjp=(lambda g, y, x: g / (2 * y),))
def sqrt(data, /):
    """The square root."""
    return np.sqrt(data)


@operator(vjp=(lambda g, y, x: -g * y / (2 * x),))
def rsqrt(data, /):
    """One over the square root."""
    return 1 / np.sqrt(data)


@operator(vjp=(lambda g, y, x: 2 * g * x,))
def square(data, /):
    """The square."""
    return data * data


@operator(vjp=(lambda g, y, x: -g * y * y,))
def reciprocal(data, /):
    """One over each number."""
    return 1 / data


@operator(vjp=(lambda g, y, x: g * cos(x),))
def sin(data, /):
    """The sine."""
    return np.sin(data)


@operator(vjp=(lambda g, y, x: -g * sin(x),))
def cos(data, /):
    """The cosine."""
    return np.cos(data)


@operator(vjp=(lambda g, y, x: g * (1 - y * y),))
def tanh(data, /):
    """The hyperbolic tangent."""
    return np.tanh(data)


@operator(vjp=(lambda g, y, x: g * y * (1 - y),))
def sigmoid(data, /):
    """The logistic function $1/(1+e^{-x})$."""
    return 0.5 * (1 + np.tanh(0.5 * data))


@operator(vjp=(lambda g, y, x: g * greater(x, 0),))
def relu(data, /):
    """The positive part, max(x, 0); its derivative at 0 is 0."""
    return np.maximum(data, 0)


@operator(vjp=(lambda g, y, x: g * sign(x),))
def abs(data, /):
    """The absolute value; its derivative at 0 is 0."""
    return np.abs(data)


@operator(vjp=(None,))
def sign(data, /):
    """-1, 0 or 1."""
    return np.sign(data)


@operator(vjp=(None,))
def floor(data, /):
    """The largest whole number that is not larger."""
    return np.floor(data).astype(data.dtype, copy=False)


@operator(vjp=(lambda g, y, x, a_min, a_max: g * greater_equal(x, a_min) * lesser_equal(x, a_max),))
def clip(data, /, a_min, a_max):
    """Each number, but at least `a_min` and at most `a_max`; the derivative at these bounds is 1."""
    return np.clip(data, a_min, a_max).astype(data.dtype, copy=False)


# --- Copies and types -----------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x: g,), aliases=("_copy",))
def identity(data, /):
    """The same numbers in new memory."""
    return data.copy()


@operator(vjp=(None,), aliases=("BlockGrad",))
def stop_gradient(data, /):
    """The same numbers; no gradient passes."""
    return data.copy()


@operator(vjp=(lambda g, y, x, dtype: cast_like(g, x),), aliases=("Cast",))
def cast(data, /, dtype):
    """The numbers in another type, such as 'float64' or 'int32'."""
    return data.astype(real_dtype(dtype))


@operator(vjp=(lambda g, y, x, like: cast_like(g, x), None), same_dtype=False)
def cast_like(lhs, rhs, /):
    """The numbers of `lhs` in the type of `rhs`."""
    return lhs.astype(rhs.dtype)


# --- Methods --------------------------------------------------------------------------------------

Operand.__add__ = Operand.__radd__ = add
Operand.__mul__ = Operand.__rmul__ = multiply
Operand.__sub__, Operand.__rsub__ = subtract, lambda self, other: subtract(other, self)
Operand.__truediv__, Operand.__rtruediv__ = divide, lambda self, other: divide(other, self)
Operand.__mod__, Operand.__rmod__ = modulo, lambda self, other: modulo(other, self)
Operand.__pow__, Operand.__rpow__ = power, lambda self, other: power(other, self)
Operand.__neg__, Operand.__abs__ = negative, abs
Operand.__eq__, Operand.__ne__ = equal, not_equal
Operand.__gt__, Operand.__ge__ = greater, greater_equal
Operand.__lt__, Operand.__le__ = lesser, lesser_equal
for op in [
    exp,
    log,
    expm1,
    log1p,
    sqrt,
    rsqrt,
    square,
    reciprocal,
    sin,
    cos,
    tanh,
    sigmoid,
    relu,
] + [abs, sign, floor, clip]:
    setattr(Operand, op.name, op)


# --- In place -------------------------------------------------------------------------------------


def in_place(op):
    """The method for `x op= y`."""

    def method(self, other):
        writable(self)
        return assign(self, op(self, other))

    return method


NDArray.__iadd__, NDArray.__isub__ = in_place(add), in_place(subtract)
NDArray.__imul__, NDArray.__itruediv__ = in_place(multiply), in_place(divide)
NDArray.__imod__, NDArray.__ipow__ = in_place(modulo), in_place(power)


def astype(self, dtype, copy=True):
    """The numbers in another type; the array itself if it has that type and `copy` is false."""
    return self if not copy and self.dtype == real_dtype(dtype) else cast(self, dtype=dtype)


def copyto(self, other):
    """Write the numbers into the array `other`, or copy them to the context `other`."""
    if isinstance(other, Context):
        out = identity(self)
        out._data, out._ctx = put(out._data, other), other
        return out
    if other is self:
        raise MXNetError("copyto: an array cannot be copied onto itself")
    if self.shape != other.shape:
        raise MXNetError(f"copyto: cannot write shape {self.shape} into shape {other.shape}")
    out = self if self.dtype == other.dtype else cast(self, dtype=other.dtype)
    return assign(other, out)


def as_in_context(self, context):
    """The array itself if it is on `context`, else a copy there."""
    return self if self._ctx == context else copyto(self, context)


NDArray.astype, NDArray.copy, NDArray.copyto = astype, identity, copyto
NDArray.as_in_context = NDArray.as_in_ctx = as_in_context
NDArray.as_nd_ndarray = lambda self: self
