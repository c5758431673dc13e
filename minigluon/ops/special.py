"""Functions without a formula: erf, gamma and their kin by rational approximation, and derivatives by decree."""

# Written from chapters/10_special.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.autograd import zeros_like
from minigluon.cores import spread
from minigluon.ndarray.ndarray import real_dtype
from minigluon.op import operator
from minigluon.ops.elementwise import LONG, cast_like, exp, fitted, real, round, sign

__all__ = [
    "BERNOULLI",
    "BLOCK",
    "ERF",
    "ERFINV",
    "ERFINV_SINGLE",
    "ERF_SINGLE",
    "GAMMA",
    "GAMMALN",
    "MakeLoss",
    "STIRLING",
    "all_finite",
    "amp_cast",
    "amp_multicast",
    "back",
    "contrib_allclose",
    "contrib_gradientmultiplier",
    "contrib_quadratic",
    "contrib_round_ste",
    "contrib_sign_ste",
    "cotangent_slope",
    "counted",
    "digamma",
    "digamma_of",
    "erf",
    "erf_of",
    "erfinv",
    "erfinv_of",
    "finite",
    "gamma",
    "gamma_from_one",
    "gamma_of",
    "gammaln",
    "gammaln_of",
    "in_blocks",
    "loss_gradient",
    "make_loss",
    "multi_all_finite",
    "multi_sum_sq",
    "nothing",
    "polygamma",
    "polygamma_of",
    "polynomial",
    "quotient",
    "reset_arrays",
    "right_half",
    "sine_of_pi",
    "table",
    "zeta_of",
]


# --- Rational approximation -----------------------------------------------------------------------


def table(text):
    """The coefficients of a polynomial, highest power first."""
    return tuple(map(float, text.split()))


def polynomial(t, coefficients):
    """The polynomial at `t` by Horner's rule."""
    y = coefficients[0] * t
    for c in coefficients[1:-1]:
        y += c
        y *= t
    y += coefficients[-1]
    return y


def quotient(t, numerator, denominator):
    """The quotient of two polynomials at `t`."""
    y = polynomial(t, numerator)
    y /= polynomial(t, denominator)
    return y


# The best or nearly so of 2048 to 65536 on a million numbers. The whole array at once took 1 to 3.5
# times as long, in single precision not the same from one process to the next.
BLOCK = 32768


def in_blocks(f, data, narrow=False):
    """`f` of the numbers, a block at a time, of many on all cores; the result has their type.

    It is computed in double precision, with `narrow` in single precision for what is not more.
    """
    if (
        not data.ndim
    ):  # NumPy makes a bare number of an array without axes, which takes nothing in place
        return in_blocks(f, data.reshape(1), narrow).reshape(())
    floating = data.dtype.kind in "fV"
    work = "float32" if narrow and floating and data.dtype.itemsize <= 4 else "float64"
    with np.errstate(all="ignore"):
        if type(data) is not np.ndarray or data.size <= BLOCK:
            return fitted(f(data.astype(work, copy=False)), data.dtype)
        out, flat = np.empty(data.size, data.dtype), data.reshape(-1)

        def fill(i):
            out[i : i + BLOCK] = f(flat[i : i + BLOCK].astype(work, copy=False))

        starts = range(0, data.size, BLOCK)
        spread(fill, starts) if data.size >= LONG else [fill(i) for i in starts]
        return out.reshape(data.shape)


# --- The error function ---------------------------------------------------------------------------

ERF = (
    table("""
    1.5064265615517887e-17 2.1705743922199896e-14 3.3254747302022547e-12 1.7444428130500318e-10
    6.8390352035226327e-9 1.7226251637393961e-7 3.9431819562116761e-6 5.7738386437318324e-5
    8.6201096455519328e-4 6.9599181360958436e-3 6.6349697248488188e-2 2.2146352519759438e-1
    1.1283791670955126e0
    """),
    table("""
    8.5515154853127956e-16 3.2689043814817263e-13 2.5706385908439923e-11 1.1392588552159806e-9
    3.5656177534241426e-8 8.4645908894425009e-7 1.5689867043111483e-5 2.2848419521998351e-4
    2.5867403815437108e-3 2.2129000863641477e-2 1.3533431232033455e-1 5.2960027236912355e-1
    1.0000000000000000e0
    """),
)
ERF_SINGLE = (
    table("""
    1.987552790e-6 2.842360795e-4 3.872444361e-3 5.306786182e-2 1.933032621e-1 1.128379142e0
    """),
    table("""
    3.741083817e-5 1.182768951e-3 1.518550055e-2 1.152483271e-1 5.046431682e-1 1.000000000e0
    """),
)


def erf_of(x):
    """The error function: x P(x²)/Q(x²), fitted to 5e-17, in single precision to 3e-8."""
    last, tables = (6.0, ERF) if x.dtype == "float64" else (4.0, ERF_SINGLE)
    x = np.clip(x, -last, last)
    y = quotient(x * x, *tables)
    y *= x
    return np.clip(y, -1, 1, out=y)


@operator(vjp=(lambda g, y, x: (2 / math.sqrt(math.pi)) * g * exp(-x * x),))
def erf(data, /):
    """The error function, $\\frac2{\\sqrt\\pi}\\int_0^x e^{-t^2}dt$."""
    return in_blocks(erf_of, data, narrow=True)


ERFINV = (
    table("""
    1.4044774906585868e-14 4.3427893010879524e-12 2.4064376024036861e-10 6.8432645636708483e-9
    1.4430862945627511e-7 2.4091489236291020e-6 3.1938437463023507e-5 3.3563401814247230e-4
    2.8023463339707051e-3 1.8518322288432351e-2 9.3634754252687399e-2 3.3939188812602888e-1
    8.8622692545276405e-1
    """),
    table("""
    2.6892591613404569e-16 3.2445672924022470e-13 3.8468713235263980e-11 1.3261738618056286e-9
    3.5350534824920742e-8 5.8156972859593771e-7 1.0444313486516831e-5 9.6090542750689047e-5
    1.2594699013744003e-3 6.0072013962800368e-3 6.0902978664631353e-2 1.2116334824400063e-1
    1.0000000000000000e0
    """),
)
ERFINV_SINGLE = (
    table("""
    1.036163418e-7 3.761969216e-5 7.673821388e-4 8.609659337e-3 6.331581783e-2 3.144221427e-1
    8.862269225e-1
    """),
    table("""
    3.151389212e-6 2.314887429e-4 2.218051193e-3 3.406851078e-2 9.298790772e-2 1.000000000e0
    """),
)


def erfinv_of(y):
    """The inverse error function: y P(w)/Q(w) with w = -ln(1 - y²); ±inf at ±1, NaN beyond."""
    tables = ERFINV if y.dtype == "float64" else ERFINV_SINGLE
    w = -np.log((1 - y) * (1 + y))
    return y * np.where(w == np.inf, np.inf, quotient(w, *tables))


@operator(vjp=(lambda g, y, x: (math.sqrt(math.pi) / 2) * g * exp(y * y),))
def erfinv(data, /):
    """The inverse of the error function; infinite at ±1, NaN beyond."""
    return in_blocks(erfinv_of, data, narrow=True)


# --- The gamma function ---------------------------------------------------------------------------

GAMMA = (
    table("""
    1.8360907035369561e-2 4.6417223957011033e-1 3.0927779608981631e0 8.5150541161734061e0
    1.2156930779862066e1 9.8450164582108126e0 4.3992337861313722e0 1.0000000000000004e0
    """),
    table("""
    3.6663412820239641e-3 2.6296134421802986e-1 2.4500062184987148e0 7.5477269248678960e0
    1.1354469187124842e1 9.4818858649012654e0 4.3159004527982221e0 1.0000000000000000e0
    """),
)


def gamma_from_one(x):
    """Γ(x) for x ≥ 1: Stirling's formula times a correction P(1/x)/Q(1/x)."""
    x = np.minimum(x, 180)  # Γ(171.7) is infinite in double precision
    half = np.power(x, 0.5 * x - 0.25)
    return half * (math.sqrt(2 * math.pi) * np.exp(-x) * quotient(1 / x, *GAMMA)) * half


def right_half(x):
    """Whether no number is negative; on a device it is not asked,
    since the answer must be waited for.
    """
    return type(x) is np.ndarray and not (x < 0).any()


def sine_of_pi(x):
    """sin(πx), exact to the last digit beside whole numbers too."""
    whole = np.rint(x)
    return np.sin(math.pi * (x - whole)) * (1 - 2 * np.mod(whole, 2))


def gamma_of(x):
    """The gamma function; ±inf at ±0, NaN at the negative whole numbers."""
    w = np.where(x < 0, 1 - x, x)
    y = gamma_from_one(np.where(w < 1, w + 1, w))
    y = np.where(w < 1, y / w, y)
    if right_half(x):
        return y
    sine = sine_of_pi(x)
    mirrored = math.pi / (np.where(sine == 0, np.nan, sine) * y)
    return np.where(x < 0, mirrored, y)


@operator(vjp=(lambda g, y, x: g * y * digamma(x),))
def gamma(data, /):
    """The gamma function, $\\Gamma(n)=(n-1)!$ for whole numbers."""
    if data.dtype.kind in "fV":
        return in_blocks(gamma_of, data)
    return real(lambda x: np.rint(gamma_of(x)), data)


GAMMALN = (
    table("""
    1.9149066533376183e-8 5.1584320759116633e-6 3.1962103958484557e-4 7.4642687871841742e-3
    8.0654919469464792e-2 4.4774201547037784e-1 1.3416865314356974e0 2.1743239107484742e0
    1.7827209485611735e0 5.7721566490153275e-1
    """),
    table("""
    3.0571156056287160e-9 1.2559853554872229e-6 1.0718727559609425e-4 3.3619116069649132e-3
    4.8741910163299894e-2 3.6803457228465786e-1 1.5442316560412748e0 3.6981710239567218e0
    4.9904198208089143e0 3.5133702018112918e0 1.0000000000000000e0
    """),
)
STIRLING = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)


def gammaln_of(x):
    """ln |Γ(x)|; inf at 0 and the negative whole numbers."""
    w = np.where(x < 0, 1 - x, x)
    log = np.log(w)
    small = w < 1
    d = np.where(small, w, np.minimum(w, 12) - 1)
    near = d * (d - 1) * quotient(d, *GAMMALN) - np.where(small, log, 0)  # ln Γ(1 + d)
    far = (w - 0.5) * (log - 1) + (0.5 * math.log(2 * math.pi) - 0.5)
    far += polynomial(1 / (w * w), STIRLING) / w
    y = np.where(w < 12, near, far)
    if right_half(x):
        return y
    mirrored = np.log(math.pi / np.abs(sine_of_pi(x))) - y
    return np.where(np.isinf(x), np.inf, np.where(x < 0, mirrored, y))


@operator(vjp=(lambda g, y, x: g * digamma(x),))
def gammaln(data, /):
    """The logarithm of the absolute value of the gamma function."""
    return in_blocks(gammaln_of, data)


# --- Polygamma functions --------------------------------------------------------------------------

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def digamma_of(x):
    """ψ(x) for x > 0."""
    steps = sum(1 / (x + k) for k in range(10))
    z = x + 10
    series = [b / (2 * j) for j, b in enumerate(BERNOULLI, 1)]
    return np.log(z) - 0.5 / z - polynomial(1 / (z * z), (*series[::-1], 0.0)) - steps


def zeta_of(s, x):
    """ζ(s, x), the sum of (x + k)⁻ˢ over k = 0, 1, 2, …, for s > 1 and x > 0 (Euler–Maclaurin)."""
    steps = 10 + s
    z = x + steps
    y = sum((x + k) ** -s for k in range(steps)) + z ** (1.0 - s) / (s - 1) + 0.5 * z**-s
    term = s * z ** (-s - 1.0)
    for j, b in enumerate(BERNOULLI, 1):
        y += b / math.factorial(2 * j) * term
        term = term * ((s + 2 * j - 1) * (s + 2 * j)) / (z * z)
    return y


def cotangent_slope(n, x):
    """The n-th derivative of π cot(πx)."""
    c, p = np.polynomial.Polynomial([0, 1]), np.polynomial.Polynomial([0, 1])
    for _ in range(n):
        p = -(1 + c**2) * p.deriv()
    cotangent = 1 / np.tan(math.pi * (x - np.rint(x)))
    return math.pi ** (n + 1) * polynomial(cotangent, (*p.coef[::-1],))


def polygamma_of(n, x):
    """ψ⁽ⁿ⁾(x); NaN or infinite at 0 and the negative whole numbers."""
    w = np.where(x < 0, 1 - x, x)
    sign = (-1) ** n
    y = digamma_of(w) if n == 0 else -sign * math.factorial(n) * zeta_of(n + 1, w)
    return y if right_half(x) else np.where(x < 0, sign * y - cotangent_slope(n, x), y)


@operator(vjp=(lambda g, y, x: g * polygamma(x, n=1),))
def digamma(data, /):
    """The derivative of `gammaln`."""
    return in_blocks(lambda x: polygamma_of(0, x), data)


@operator(vjp=(lambda g, y, x, n: g * polygamma(x, n=n + 1),))
def polygamma(data, /, n):
    """The n-th derivative of `digamma`, for n = 0, 1, 2, …"""
    if n != int(n) or n < 0:
        raise ValueError(f"n={n}: it is a whole number, not negative")
    return in_blocks(lambda x: polygamma_of(int(n), x), data)


# --- Derivatives by decree ------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x: zeros_like(x) + 1,))
def make_loss(data, /):
    """The same numbers as a loss: the gradient is 1, whatever comes from above."""
    return data.copy()


@operator(vjp=(lambda g, y, x, **settings: loss_gradient(x, **settings),))
def MakeLoss(data, /, grad_scale=1.0, valid_thresh=0.0, normalization="null"):
    """The same numbers as a loss: the gradient is `grad_scale`, whatever comes from above.

    normalization: 'null', or 'batch' to divide it by the number of rows, which is the first size of a
    matrix, or 'valid' by the count of numbers above `valid_thresh`.
    """
    if normalization not in ("null", "batch", "valid"):
        raise ValueError(f"normalization={normalization!r}: it is 'null', 'batch' or 'valid'")
    return data.copy()


make_loss.starts = MakeLoss.starts = True
make_loss.outputs = ["loss"]


@operator(vjp=(None,))
def loss_gradient(data, /, grad_scale=1.0, valid_thresh=0.0, normalization="null"):
    """The gradient of `MakeLoss`, the same for all numbers."""
    ones = np.ones_like(data)
    if normalization == "batch":
        return ones * (grad_scale * data.shape[-1] / max(data.size, 1))
    if normalization == "valid":
        count = np.maximum((data > valid_thresh).sum(), 1)
        return fitted(ones * (grad_scale / count), data.dtype)
    return ones * grad_scale


@operator(vjp=(lambda g, y, x: g,), aliases=("_contrib_round_ste",))
def contrib_round_ste(data, /):
    """The nearest whole number, halves away from zero; its derivative is taken to be 1."""
    return round.kernel(data)


@operator(vjp=(lambda g, y, x: g,), aliases=("_contrib_sign_ste",))
def contrib_sign_ste(data, /):
    """-1, 0 or 1; its derivative is taken to be 1."""
    return sign.kernel(data)


@operator(
    vjp=(lambda g, y, x, scalar, is_int: scalar * g,),
    aliases=("_contrib_gradientmultiplier",),
)
def contrib_gradientmultiplier(data, /, scalar=1.0, is_int=True):
    """The same numbers; the gradient is multiplied by `scalar`."""
    return data.copy()


@operator(vjp=(lambda g, y, x, a, b, c: g * (2 * a * x + b),), aliases=("_contrib_quadratic",))
def contrib_quadratic(data, /, a=0.0, b=0.0, c=0.0):
    """$ax^2+bx+c$."""
    return real(lambda x: (a * x + b) * x + c, data)


# --- Mixed precision ------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, dtype: cast_like(g, x),))
def amp_cast(data, /, dtype):
    """Real numbers in another type; integers as they are."""
    return data.astype(real_dtype(dtype)) if data.dtype.kind in "fV" else data.copy()


def back(g, y, *data, **_):
    """Each gradient in the type of its array."""
    g = g if isinstance(g, list | tuple) else [g]
    return [cast_like(share, a) for share, a in zip(g, data)]


@operator(vjp=back, same_dtype=False)
def amp_multicast(*data, num_outputs, cast_narrow=False):
    """All arrays of half or single precision in the wider of their types, or the narrower.

    Arrays of other types stay as they are. num_outputs: how many arrays there are.
    """
    counted(data, num_outputs, "num_outputs")
    found = {a.dtype for a in data if a.dtype in ("float16", "float32")}
    choose = min if cast_narrow else max
    target = choose(found, key=lambda dtype: dtype.itemsize, default=None)
    cast = tuple(a.astype(target if a.dtype in found else a.dtype) for a in data)
    return cast if len(cast) > 1 else cast[0]


amp_multicast.outputs = lambda arrays, **_: arrays


def counted(data, number, name):
    """Refuse a number of arrays that is not the number given."""
    if len(data) != number:
        raise ValueError(f"{name}={number}, but there are {len(data)} arrays")


# --- Checks on numbers ----------------------------------------------------------------------------


def finite(data):
    """1 if all numbers are finite, else 0, as float32 of shape (1,)."""
    if data.dtype.kind not in "fV":
        raise TypeError(f"{data.dtype} is always finite: ask about real numbers")
    return np.isfinite(data).all().reshape(1).astype("float32")


@operator(vjp=(None,))
def all_finite(data, /, init_output=True):
    """1 if all numbers are finite, else 0, as float32 of shape (1,)."""
    return finite(data)


def nothing(g, y, *data, **_):
    """No gradients."""
    return [None] * len(data)


@operator(vjp=nothing)
def multi_all_finite(*data, num_arrays=1, init_output=True):
    """1 if all numbers of `num_arrays` arrays are finite, else 0, as float32 of shape (1,)."""
    counted(data, num_arrays, "num_arrays")
    return np.min(np.stack([finite(a) for a in data]), axis=0)


@operator(vjp=nothing)
def multi_sum_sq(*data, num_arrays):
    """The sum of squares of each of `num_arrays` arrays, as float32 of shape (num_arrays,)."""
    counted(data, num_arrays, "num_arrays")
    wide = [a.astype(np.result_type(a.dtype, "float32"), copy=False) for a in data]
    return np.concatenate([np.vdot(a, a).reshape(1) for a in wide]).astype("float32")


@operator(vjp=nothing)
def reset_arrays(*data, num_arrays):
    """Write zeros into all `num_arrays` arrays; returns nothing."""
    counted(data, num_arrays, "num_arrays")
    for a in data:
        a[...] = 0
    return ()


@operator(vjp=(None, None), aliases=("_contrib_allclose",))
def contrib_allclose(a, b, /, rtol=1e-5, atol=1e-8, equal_nan=True):
    """1 if $|a-b|\\le$ `atol` + `rtol` $|b|$ for all numbers of two arrays of one shape, else 0;
    uint8, of shape ().
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape}: they must be the same")
    close = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    return close.all(keepdims=True).reshape(()).astype("uint8")
