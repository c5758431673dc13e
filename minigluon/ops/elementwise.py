"""One number in, one number out: the table of derivatives, and arithmetic that broadcasts."""

# Written from chapters/10_elementwise.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import math
import warnings
from functools import lru_cache

import numpy as np

from minigluon.autograd import assign, state, writable
from minigluon.base import MXNetError
from minigluon.context import Context, put
from minigluon.cores import alone, spread
from minigluon.ndarray.ndarray import NDArray, real_dtype
from minigluon.op import Operand, operator

__all__ = [
    "FLOAT",
    "LONG",
    "NDArray",
    "Operand",
    "STRETCH",
    "ZEROS",
    "above",
    "abs",
    "add",
    "add_n",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "as_in_context",
    "as_np_ndarray",
    "astype",
    "away_from_zero",
    "bent",
    "broadcast_power",
    "cast",
    "cast_like",
    "cbrt",
    "ceil",
    "clip",
    "comparison",
    "constant",
    "copy",
    "copyto",
    "cos",
    "cosh",
    "degrees",
    "divide",
    "dtype_of",
    "equal",
    "exp",
    "expm1",
    "fitted",
    "floor",
    "fractional",
    "greater",
    "greater_equal",
    "half_down",
    "hard_sigmoid",
    "hypot",
    "identity",
    "in_place",
    "inverse_root",
    "lesser",
    "lesser_equal",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_logistic",
    "log_sigmoid",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logistic",
    "maximum",
    "minimum",
    "mish",
    "mish_rule",
    "modulo",
    "multiply",
    "negative",
    "not_equal",
    "passed",
    "positive",
    "power",
    "radians",
    "rcbrt",
    "real",
    "reciprocal",
    "relu",
    "rint",
    "round",
    "rsqrt",
    "shared",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "smooth_l1",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
    "tan",
    "tanh",
    "trunc",
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
    """Difference.

    Shapes are equal or broadcast: counted from the last axis, sizes equal or one of them 1.
    """
    return lhs - rhs


@operator(
    vjp=(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    aliases=("broadcast_mul", "elemwise_mul", "_mul"),
)
def multiply(lhs, rhs, /):
    """Product.

    Shapes are equal or broadcast: counted from the last axis, sizes equal or one of them 1.
    """
    return lhs * rhs


@operator(vjp=(lambda g, y, x: -g,), aliases=("_np_negative",))
def negative(data, /):
    """Minus each number."""
    return -data


@operator(
    vjp=lambda g, y, *args, num_args: [g] * len(args),
    aliases=("ElementWiseSum",),
)
def add_n(*args, num_args=None):
    """The sum of one or more arrays of the same shape and type."""
    first = total = args[0]
    shape = first.shape
    for a in args[1:]:
        if a.shape != shape:
            raise ValueError("give arrays of one shape only")
        if total is first:
            total = first + a
        else:
            total += a
    return first.copy() if total is first else total


def dtype_of(lhs, rhs):
    """The type of whichever argument is an array."""
    return lhs.dtype if hasattr(lhs, "dtype") else rhs.dtype


def fitted(y, dtype):
    """The numbers of `y` in `dtype`, into integers truncated toward zero."""
    if y.dtype == dtype:
        return y
    with np.errstate(invalid="ignore"):
        return y.astype(dtype)


@operator(
    vjp=(lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    aliases=("broadcast_div", "elemwise_div", "_div", "true_divide"),
)
def divide(lhs, rhs, /):
    """Quotient, truncated toward zero for integers. Shapes are equal or broadcast."""
    dtype = dtype_of(lhs, rhs)
    if dtype.kind in "fV":
        return lhs / rhs
    with np.errstate(divide="ignore", invalid="ignore"):
        return fitted(lhs / rhs, dtype)


@operator(vjp=(lambda g, y, x: fractional(g),))
def fractional(data, /):
    """`data` of a type that has fractions; of whole numbers, which have no derivative, zeros."""
    return data if data.dtype.kind in "fV" else np.zeros_like(data)


@operator(
    vjp=(lambda g, y, a, b: fractional(g), lambda g, y, a, b: -fractional(g) * floor(divide(a, b))),
    aliases=("broadcast_mod", "_mod", "mod"),
)
def modulo(lhs, rhs, /):
    """Remainder with the sign of the divisor, 0 where that is 0. Shapes are equal or broadcast."""
    if not hasattr(rhs, "dtype") and rhs != 0:
        return np.mod(lhs, rhs)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rhs == 0, 0, np.mod(lhs, rhs))


@operator(
    vjp=(
        lambda g, y, a, n: g * n * power(a, n - 1),
        lambda g, y, a, n: g * y * log(a),
    ),
    aliases=("_power", "_pow"),
)
def power(base, exp, /):
    """`base` to the power `exp`, truncated for integers. Shapes are equal or broadcast."""
    dtype = dtype_of(base, exp)
    if dtype.kind in "fV":
        return base**exp
    with np.errstate(all="ignore"):
        return fitted(base ** (1.0 * exp), dtype)


@operator(vjp=power.rules)
def broadcast_power(lhs, rhs, /):
    """`power`, under the names that MXNet gives its arrays here."""
    return power.kernel(lhs, rhs)


@operator(
    vjp=(lambda g, y, a, b: g * a / y, lambda g, y, a, b: g * b / y),
    aliases=("broadcast_hypot", "_hypot"),
)
def hypot(lhs, rhs, /):
    """$\\sqrt{a^2+b^2}$ without overflow on the way. Shapes are equal or broadcast."""
    return fitted(np.hypot(lhs, rhs), dtype_of(lhs, rhs))


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


logical_and = comparison(
    np.logical_and, "logical_and", "and", ("broadcast_logical_and", "_logical_and")
)
logical_or = comparison(np.logical_or, "logical_or", "or", ("broadcast_logical_or", "_logical_or"))
logical_xor = comparison(
    np.logical_xor, "logical_xor", "xor", ("broadcast_logical_xor", "_logical_xor")
)


@operator(vjp=(None,))
def logical_not(data, /):
    """1 where a number is 0, else 0, in their type."""
    return (data == 0).astype(data.dtype)


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


# --- Exponentials and powers ----------------------------------------------------------------------

LONG = 1 << 18  # numbers from which two threads pay for their start
STRETCH = 1 << 15  # numbers that a thread takes at a time


def shared(f, data):
    """`f` of many numbers, computed by `f(numbers, out=memory)` on all cores."""
    if type(data) is not np.ndarray or data.dtype.char not in "fd" or not data.flags.c_contiguous:
        return real(f, data)
    out = np.empty_like(data)
    if alone.threads < 2:
        return f(data, out=out)
    x, y = data.reshape(-1), out.reshape(-1)
    spread(lambda i: f(x[i : i + STRETCH], out=y[i : i + STRETCH]), range(0, x.size, STRETCH))
    return out


FLOAT = np.dtype("float64")


@lru_cache(maxsize=256)
def constant(value, dtype):
    """A number as an array without axes: NumPy takes it 0.3 µs sooner than Python's number.

    Nobody may write to it.
    """
    found = np.array(value, dtype)
    found.flags.writeable = False
    return found


def real(f, data):
    """`f` of the numbers; that of integers is computed in double precision and truncated."""
    dtype = getattr(data, "dtype", FLOAT)
    if dtype.kind in "fV":
        return f(data)
    with np.errstate(all="ignore"):
        return fitted(f(data.astype(FLOAT)), dtype)


@operator(vjp=(lambda g, y, x: g * y,))
def exp(data, /):
    """The exponential function."""
    return real(np.exp, data) if data.size < LONG else shared(np.exp, data)


@operator(vjp=(lambda g, y, x: g * exp(x),))
def expm1(data, /):
    """$e^x-1$, exact for small x."""
    return real(np.expm1, data)


@operator(vjp=(lambda g, y, x: g / x,))
def log(data, /):
    """The natural logarithm."""
    return real(np.log, data)


@operator(vjp=(lambda g, y, x: g / (1 + x),))
def log1p(data, /):
    """$\\ln(1+x)$, exact for small x."""
    return real(np.log1p, data)


@operator(vjp=(lambda g, y, x: g / (x * math.log(2)),))
def log2(data, /):
    """The logarithm to base 2."""
    return real(np.log2, data)


@operator(vjp=(lambda g, y, x: g / (x * math.log(10)),))
def log10(data, /):
    """The logarithm to base 10."""
    return real(np.log10, data)


@operator(vjp=(lambda g, y, x: 2 * g * x,))
def square(data, /):
    """The square."""
    return data * data


@operator(vjp=(lambda g, y, x: g / (2 * y),))
def sqrt(data, /):
    """The square root."""
    return real(np.sqrt, data)


def inverse_root(x):
    """1 / √x, in the memory of the root."""
    y = np.sqrt(x)
    return np.reciprocal(y, out=y) if y.ndim else 1 / y


@operator(vjp=(lambda g, y, x: -g * y / (2 * x),))
def rsqrt(data, /):
    """One over the square root."""
    return real(inverse_root, data)


@operator(vjp=(lambda g, y, x: -g * y * y,))
def reciprocal(data, /):
    """One over each number."""
    return real(np.reciprocal, data)


@operator(vjp=(lambda g, y, x: g / (3 * y * y),))
def cbrt(data, /):
    """The cube root, of negative numbers too."""
    return real(np.cbrt, data)


@operator(vjp=(lambda g, y, x: -g * y / (3 * x),))
def rcbrt(data, /):
    """One over the cube root."""
    return real(lambda x: 1 / np.cbrt(x), data)


# --- Angles ---------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x: g * cos(x),))
def sin(data, /):
    """The sine."""
    return real(np.sin, data)


@operator(vjp=(lambda g, y, x: -g * sin(x),))
def cos(data, /):
    """The cosine."""
    return real(np.cos, data)


@operator(vjp=(lambda g, y, x: g * (1 + y * y),))
def tan(data, /):
    """The tangent."""
    return real(np.tan, data)


@operator(vjp=(lambda g, y, x: g / sqrt(1 - x * x),))
def arcsin(data, /):
    """The angle in [-π/2, π/2] whose sine is the number."""
    return real(np.arcsin, data)


@operator(vjp=(lambda g, y, x: -g / sqrt(1 - x * x),))
def arccos(data, /):
    """The angle in [0, π] whose cosine is the number."""
    return real(np.arccos, data)


@operator(vjp=(lambda g, y, x: g / (1 + x * x),))
def arctan(data, /):
    """The angle in (-π/2, π/2) whose tangent is the number."""
    return real(np.arctan, data)


@operator(vjp=(lambda g, y, x: g * (180 / math.pi),))
def degrees(data, /):
    """Angles given in radians, in degrees."""
    return real(np.degrees, data)


@operator(vjp=(lambda g, y, x: g * (math.pi / 180),))
def radians(data, /):
    """Angles given in degrees, in radians."""
    return real(np.radians, data)


@operator(vjp=(lambda g, y, x: g * cosh(x),))
def sinh(data, /):
    """The hyperbolic sine."""
    return real(np.sinh, data)


@operator(vjp=(lambda g, y, x: g * sinh(x),))
def cosh(data, /):
    """The hyperbolic cosine."""
    return real(np.cosh, data)


@operator(vjp=(lambda g, y, x: g * (1 - y * y),))
def tanh(data, /):
    """The hyperbolic tangent."""
    return real(np.tanh, data) if data.size < LONG else shared(np.tanh, data)


@operator(vjp=(lambda g, y, x: g / sqrt(x * x + 1),))
def arcsinh(data, /):
    """The number whose hyperbolic sine is given."""
    return real(np.arcsinh, data)


@operator(vjp=(lambda g, y, x: g / sqrt(x * x - 1),))
def arccosh(data, /):
    """The number, not negative, whose hyperbolic cosine is given."""
    return real(np.arccosh, data)


@operator(vjp=(lambda g, y, x: g / (1 - x * x),))
def arctanh(data, /):
    """The number whose hyperbolic tangent is given."""
    return real(np.arctanh, data)


# --- Bends and steps ------------------------------------------------------------------------------


@np.errstate(over="ignore")
def logistic(x, out=None):
    """1 / (1 + exp(-x)), in the memory of the first step, or in `out`:
    fresh memory for each one takes longer.
    """
    y = np.negative(x, out=out)
    if not y.ndim:  # NumPy makes a bare number of an array without axes
        return 1 / (1 + np.exp(y))
    np.exp(y, out=y)
    y += constant(1, y.dtype) if type(y) is np.ndarray else 1
    return np.reciprocal(y, out=y)


@operator(vjp=(lambda g, y, x: g * y * (1 - y),))
def sigmoid(data, /):
    """The logistic function $1/(1+e^{-x})$."""
    return real(logistic, data) if data.size < LONG else shared(logistic, data)


def log_logistic(x):
    """ln σ(x), with an exponential that does not overflow."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@operator(vjp=(lambda g, y, x: g * sigmoid(-x),))
def log_sigmoid(data, /):
    """The logarithm of the logistic function, $\\ln\\sigma(x)=-\\ln(1+e^{-x})$."""
    return real(log_logistic, data)


def mish_rule(g, y, x):
    """The product rule: tanh(ln(1 + eˣ)) has the slope (1 - tanh²) σ(x)."""
    t = tanh(-log_sigmoid(-x))
    return (g * (t + x * (1 - t * t) * sigmoid(x)),)


@operator(vjp=mish_rule)
def mish(data, /):
    """$x\\tanh(\\ln(1+e^x))$ (Misra, Mish: a self regularized activation function, 2019)."""
    return real(lambda x: x * np.tanh(-log_logistic(-x)), data)


@operator(vjp=(lambda g, y, x, alpha, beta: alpha * g * greater(y, 0) * lesser(y, 1),))
def hard_sigmoid(data, /, alpha=0.2, beta=0.5):
    """$\\alpha x+\\beta$, but at least 0 and at most 1; the derivative is 0 from these bounds on."""
    return real(lambda x: clip.kernel(alpha * x + beta, 0, 1), data)


def positive(data, out=None):
    """max(x, 0), into `out` if given.

    NumPy compares two arrays four times as fast as an array and a number, so 0 comes as a row of zeros.
    """
    if type(data) is not np.ndarray or data.dtype.char != "f" or not data.flags.forc:
        return np.maximum(data, 0, out=out)
    out = np.empty_like(data) if out is None else out
    x, y = (data, out) if data.flags.c_contiguous else (data.T, out.T)
    x, y, n = x.reshape(-1), y.reshape(-1), data.size
    whole = n - n % len(ZEROS) if n > len(ZEROS) else 0
    if whole:
        np.maximum(x[:whole].reshape(-1, len(ZEROS)), ZEROS, out=y[:whole].reshape(-1, len(ZEROS)))
        x, y = x[whole:], y[whole:]
    np.maximum(x, ZEROS[: n - whole], out=y)
    return out


ZEROS = np.zeros(1 << 14, "float32")


def passed(data, like, out=None):
    """`data` where `like` is above 0, else 0, into `out` if given."""
    out = np.empty_like(data) if out is None else out
    if type(data) is not np.ndarray or not data.flags.c_contiguous or not like.flags.c_contiguous:
        return np.multiply(data, like > 0, out=out, casting="same_kind")
    g, y, z = data.reshape(-1), like.reshape(-1), out.reshape(-1)

    def fill(part):
        np.multiply(g[part], y[part] > 0, out=z[part])

    half = g.size // 2
    spread(fill, [slice(half), slice(half, None)]) if g.size > LONG else fill(slice(None))
    return out


@operator(vjp=(lambda h, z, g, y: above(h, y), None))
def above(data, like, /):
    """`data` where `like` is above 0, else 0: the gradient of relu."""
    return passed(data, like)


above.into = passed


@operator(vjp=(lambda g, y, x: above(g, y),))
def relu(data, /):
    """The positive part, max(x, 0); its derivative at 0 is 0."""
    return positive(data)


relu.into = positive  # a program may write the result into the memory of the argument


@operator(vjp=(lambda g, y, x: g * sign(x),))
def abs(data, /):
    """The absolute value; its derivative at 0 is 0."""
    return np.abs(data)


@operator(vjp=(None,))
def sign(data, /):
    """-1, 0 or 1; 0 for what is not a number."""
    y = np.sign(data, out=np.empty_like(data))
    if data.dtype.kind in "fV":
        y[y != y] = 0
    return y


@operator(vjp=(lambda g, y, x, a_min, a_max: g * greater_equal(x, a_min) * lesser_equal(x, a_max),))
def clip(data, /, a_min, a_max):
    """Each number, but at least `a_min` and at most `a_max`; the derivative at these bounds is 1."""
    if a_min > a_max:  # then no number is between; MXNet looks at `a_max` first
        high, low = fitted(np.array([a_max, a_min]), data.dtype).tolist()
        bounded = np.where(data > a_max, high, np.where(data < a_min, low, data))
        return bounded.astype(data.dtype)
    if data.size < 4096 and data.dtype.kind in "fV":  # NumPy's function takes 2 µs to begin
        return fitted(np.minimum(np.maximum(data, a_min), a_max), data.dtype)
    return fitted(np.clip(data, a_min, a_max), data.dtype)


@operator(
    vjp=(lambda g, y, x, scalar: g * clip(scalar * scalar * x, a_min=-1.0, a_max=1.0),),
)
def smooth_l1(data, /, scalar=1.0):
    """$s^2x^2/2$ where $|x|<1/s^2$, with s = `scalar`, else $|x|-1/(2s^2)$ (Girshick, 2015, eq. 3)."""
    curvature = scalar * scalar
    bend = 1 / curvature if curvature else math.inf
    if data.dtype.kind in "fV":
        return bent(data, bend, curvature)
    return real(lambda x: bent(x, bend, curvature), data)


def bent(x, bend, curvature):
    """A parabola up to the `bend`, a straight line behind it."""
    size = np.abs(x)
    inside = np.minimum(size, bend)
    size -= 0.5 * inside  # in place: fresh memory for each step can take ten times as long
    size *= inside
    if curvature != 1:
        size *= curvature
    return size


# --- Rounding -------------------------------------------------------------------------------------


@operator(vjp=(None,))
def floor(data, /):
    """The largest whole number that is not larger."""
    return real(np.floor, data)


@operator(vjp=(None,))
def ceil(data, /):
    """The smallest whole number that is not smaller."""
    return real(np.ceil, data)


@operator(vjp=(None,), aliases=("fix",))
def trunc(data, /):
    """The whole part: the next whole number toward zero."""
    return real(np.trunc, data)


def away_from_zero(x):
    """The nearest whole numbers; halves away from zero."""
    almost_half = 0.5 - np.finfo(x.dtype).eps / 4
    y = np.copysign(almost_half, x)
    if not y.ndim:
        return np.trunc(x + y)
    y += x  # in place: memory is what large arrays wait for
    return np.trunc(y, out=y)


def half_down(x):
    """The nearest whole numbers; halves down."""
    low = np.floor(x)
    with np.errstate(invalid="ignore"):  # inf - inf
        low += x - low > np.ceil(x) - x
    return low


@operator(vjp=(None,))
def round(data, /):
    """The nearest whole number; halves go away from zero."""
    return real(away_from_zero, data)


@operator(vjp=(None,))
def rint(data, /):
    """The nearest whole number; halves go down."""
    return real(half_down, data)


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
for op in (
    *(exp, expm1, log, log1p, log2, log10),
    *(square, sqrt, rsqrt, reciprocal, cbrt, rcbrt),
    *(sin, cos, tan, arcsin, arccos, arctan, degrees, radians),
    *(sinh, cosh, tanh, arcsinh, arccosh, arctanh),
    *(sigmoid, log_sigmoid, mish, relu, abs, sign, clip, floor, ceil, trunc, round, rint),
):
    setattr(Operand, op.name, op)
Operand.fix = trunc


# --- In place -------------------------------------------------------------------------------------


def in_place(op, ufunc=None):
    """The method for `x op= y`; `ufunc` does the same on real numbers."""

    def method(self, other):
        raw = writable(self)
        plain = isinstance(raw, np.ndarray) and raw.dtype.kind in "fV" and not state.recording
        if ufunc is not None and plain:
            other_raw = getattr(other, "_data", None)
            if isinstance(other_raw, np.ndarray) and other_raw.dtype == raw.dtype:
                if other_raw.shape == raw.shape or other_raw.size == 1 == other_raw.ndim:
                    ufunc(raw, other_raw, out=raw)
                    return self
            elif type(other) in (int, float):
                ufunc(raw, other, out=raw)
                return self
        return assign(self, op(self, other))

    return method


NDArray.__iadd__, NDArray.__isub__ = in_place(add, np.add), in_place(subtract, np.subtract)
NDArray.__imul__ = in_place(multiply, np.multiply)
NDArray.__itruediv__ = in_place(divide, np.divide)
NDArray.__imod__ = in_place(modulo)  # `x **= 2` makes a new array, as in MXNet


def astype(self, dtype, copy=True):
    """The numbers in another type; the array itself if it has that type and `copy` is false."""
    if not copy and self.dtype == real_dtype(dtype):
        return self
    out = cast(self, dtype=dtype)
    out._ctx = self._ctx  # page-locked, say, where an operator's result is in ordinary memory
    return out


def copy(self):
    """The same numbers in memory of their own, on the same context."""
    out = identity(self)
    out._ctx = self._ctx
    return out


def copyto(self, other):
    """Write the numbers into the array `other`, or copy them to the context `other`."""
    if isinstance(other, Context):
        if self._node is None:
            raw = put(self._data, other)
            return self._alike(NDArray(raw.copy() if raw is self._data else raw, other))
        out = identity(self)
        out._data, out._ctx = put(out._data, other), other
        return out
    if other is self:
        warnings.warn("You are attempting to copy an array to itself", RuntimeWarning, stacklevel=2)
        return False
    if not isinstance(other, NDArray):
        raise TypeError(f"copyto does not support type {type(other)}: give an NDArray or a Context")
    if self.shape != other.shape:
        raise MXNetError(f"copyto: cannot write shape {self.shape} into shape {other.shape}")
    out = self if self.dtype == other.dtype else cast(self, dtype=other.dtype)
    return assign(other, out)


def as_in_context(self, context):
    """The array itself if it is on `context`, else a copy there."""
    return self if self._ctx == context else copyto(self, context)


NDArray.astype, NDArray.copy, NDArray.copyto = astype, copy, copyto
NDArray.as_in_context = as_in_context
NDArray.as_in_ctx = lambda self, ctx: self.as_in_context(ctx)
NDArray.as_nd_ndarray = lambda self: self


def as_np_ndarray(self):
    """The same memory as an array of `mx.np`, which puts its own function in this place."""
    importlib.import_module("minigluon.numpy.multiarray")
    return self.as_np_ndarray()


NDArray.as_np_ndarray = as_np_ndarray
