"""Between the products of a step every number is touched many times; once is enough."""

# Written from chapters/96j_step_loops.ipynb: edit the chapter, then run `minigluon export`.

from functools import cache, wraps
from math import inf, prod

import numpy as np

from minigluon.cores import LONG, core_matmul, spread
from minigluon.native import Loops, native
from minigluon.ndarray.ndarray import real_dtype
from minigluon.ops.activations import ALPHA, LAMBDA, LeakyReLU, gelu_slope
from minigluon.ops.elementwise import (
    above,
    cast,
    cast_like,
    hypot,
    modulo,
    passed,
    positive,
    relu,
    round,
    sign,
    smooth_l1,
)
from minigluon.ops.optimizer import adam_step, adamw_step, momentum_step, quicker, sgd_step
from minigluon.ops.product_loops import blocked, least, share, threads, tiling
from minigluon.ops.reduce import axes, column_sums
from minigluon.ops.row_loops import parts
from minigluon.ops.special import amp_cast, erf
from minigluon.symbol.hybrid import JOINS, SPELT, adding, are_sums_of_columns, spelt_plus
from minigluon.symbol.parts import shares_itself

__all__ = [
    "CONVERSIONS",
    "MANY",
    "OURS",
    "adam",
    "adamw",
    "add_bias",
    "bound",
    "converted",
    "descent",
    "each",
    "fill",
    "fit",
    "helped",
    "is_number",
    "joins_bias",
    "layer",
    "loops",
    "momentum",
    "over_rows",
    "pairwise",
    "passed_sums",
    "rectified",
    "relu_of",
    "spelt_above",
    "spelt_bias",
    "sums_of",
    "walk",
    "walkable",
    "worth",
]


# --- Code: updates in one walk --------------------------------------------------------------------

loops = Loops("steps")


def walk(step):
    """Make a function the way of `step` for long flat arrays of single precision, as a decorator."""

    def decorate(function):
        @wraps(step)
        def in_one_walk(*arrays, **settings):
            fits = all(map(fit, arrays)) and all(map(is_number, settings.values()))
            (function if fits and loops else step)(*arrays, **settings)

        quicker[step] = in_one_walk
        return function

    return decorate


def walkable(a):
    """Whether a loop can walk over an array: NumPy's, of single precision, in a row, writable."""
    return type(a) is np.ndarray and a.dtype == np.float32 and a.flags.carray


def fit(a):
    """Whether it pays to walk over an array once."""
    return a.size >= LONG and walkable(a)


def is_number(x):
    """Whether a setting is a plain number, or left out."""
    return type(x) in (int, float) or x is None


def bound(clip_gradient):
    """How far from 0 a gradient may be."""
    return inf if clip_gradient is None or clip_gradient < 0 else float(clip_gradient)


@walk(sgd_step)
def descent(w, g, lr, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """Gradient descent."""
    rates = map(float, (lr, wd, rescale_grad, bound(clip_gradient)))
    loops("descend", share(), threads(), w.size, w, g, *rates)


@walk(momentum_step)
def momentum(w, g, mom, lr, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """Gradient descent with momentum."""
    rates = lr, momentum, wd, rescale_grad, bound(clip_gradient)
    loops("momentum", share(), threads(), w.size, w, g, mom, *map(float, rates))


@walk(adamw_step)
def adamw(
    w,
    g,
    mean,
    var,
    decay,
    lr,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
):
    """Adam's step from `1 - decay` times the weight."""
    rates = 1 - decay, lr, beta1, 1 - beta1, beta2, 1 - beta2
    more = epsilon, wd, rescale_grad, bound(clip_gradient)
    loops("adam", share(), threads(), w.size, w, g, mean, var, *map(float, rates + more))


@walk(adam_step)
def adam(w, g, mean, var, lr, **settings):
    """Adam's step."""
    adamw(w, g, mean, var, 0.0, lr, **settings)


# --- Code: a layer's bias and relu ----------------------------------------------------------------

MANY = 1 << 15  # numbers from which it pays to walk once: the call costs some 5 µs


def add_bias(y, bias, turned, relu):
    """A matrix to which a bias is added, in place; with `relu` nothing below 0 remains."""
    if not (walkable(y) and walkable(bias)):
        y += bias[:, None] if turned else bias
        return positive(y, out=y) if relu else y
    rows, cols = y.shape

    def run(at):
        b = bias[at] if turned else bias
        loops("add_bias", at.stop - at.start, cols, turned, relu, y[at], b)

    spread(run, parts(rows, cols))
    return y


@cache
def layer(multiply):
    """A layer: the product by `multiply`, each piece of which gets bias and relu as it is made."""
    count = (lambda: 1) if multiply is core_matmul else threads

    def layer(a, b, bias, turned, relu):
        ending = (2 if turned else 1) + 4 * relu
        if type(a) is np.ndarray and (y := blocked(a, b, None, count(), bias, ending)) is not None:
            return y
        return add_bias(multiply(a, b), bias, turned, relu)

    return layer


def passed_sums(data, like, out=None):
    """`data` where `like` is above 0, else 0, in `out` if given,
    and the sums over all axes but the last.
    """
    out = np.empty_like(data) if out is None else out
    turned = data.ndim == 2 and not data.flags.c_contiguous
    g, y, d = (a.T if turned else a for a in (data, like, out))
    if not all(map(walkable, (g, y, d))):
        passed(data, like, out)
        return out, column_sums(out)
    g, y, d = (a.reshape(-1, a.shape[-1]) for a in (g, y, d))
    count, cores = len(parts(*d.shape)), threads()
    sums = np.empty(len(d) if turned else (count, d.shape[1]), d.dtype)
    loops("passed_sums", share(), cores, count, *d.shape, turned, g, y, d, sums)
    return out, sums if turned else sums[0] if count == 1 else sums.sum(0)


@native(above, MANY)
def _(data, like):
    if data.shape != like.shape or not (walkable(data) and walkable(like) and loops):
        return NotImplemented
    out = np.empty_like(data)
    loops("passed", data.size, data, like, out)
    return out


def rectified(data, out=None):
    """max(x, 0), into `out` if given, on all cores."""
    if data.size < MANY or not (walkable(data) and (out is None or walkable(out)) and loops):
        return positive(data, out)
    out = np.empty_like(data) if out is None else out
    loops("rectify", share(), threads(), data.size, data, out)
    return out


@native(relu, MANY)
def _(data):
    return rectified(data)


relu.into = rectified


def worth(writer, node):
    """Whether a loop pays for the result of a call."""
    shape = writer.outlines.shapes.get((node, 0))
    single = writer.outlines.types.get((node, 0)) == np.float32
    return single and shape is not None and prod(shape) >= MANY and bool(loops)


def relu_of(writer, node):
    """The relu of a layer with a bias, if nobody else reads the layer's result."""
    users = writer.users.get((node, 0), [])
    alone = len(users) == 1 and users[0].op.name == "relu" and (node, 0) not in writer.kept
    biased = len(node.inputs) == 3 and type(node.inputs[2]) is tuple
    return users if alone and biased and joins_bias(writer, node) else ()


def joins_bias(writer, node):
    """Whether bias and relu come in the product's own walk, or in one of their own that pays."""
    shape, units = (writer.outlines.shapes.get(e) for e in ((node, 0), node.inputs[1]))
    if worth(writer, node):
        return True
    single = writer.outlines.types.get((node, 0)) == np.float32
    if not (single and shape and units and loops):
        return False
    return prod(shape) * prod(units[1:]) > least()


def sums_of(writer, node):
    """The sum over all axes but the last of relu's gradient, which is the gradient of a bias."""
    shape = writer.outlines.shapes.get((node, 0))
    users = [n for n in writer.users.get((node, 0), ()) if n.op.name == "sum"]
    return [
        n for n in users if worth(writer, node) and over_rows(shape, **n.op.defaults | n.settings)
    ][:1]


def over_rows(shape, axis, keepdims, exclude):
    """Whether a sum is over all axes but the last."""
    chosen = axes(np.broadcast_to(False, shape), axis, exclude)
    return are_sums_of_columns(shape, chosen, keepdims, np.float32)


def spelt_bias(writer, node, product, factors, bias, turned):
    """A layer with its bias, and its relu if nobody else reads what comes before."""
    if not joins_bias(writer, node):
        return spelt_plus(writer, node, product, factors, bias, turned)
    joined, multiply = bool(writer.joined[node]), layer(writer.scope[product])
    return f"{writer.bound('layer', multiply)}({factors}, {bias}, {turned}, {joined})"


def spelt_above(writer, node):
    """The gradient of relu, with the sums that are made in the same walk."""
    if not writer.joined[node]:
        return None
    data, like = map(writer.value, node.inputs)
    into = writer.dying(node)
    out = f", out={writer.value(into)}" if into else ""
    return f"{writer.bound('passed_sums', passed_sums)}({data}, {like}{out})"


JOINS.update({"FullyConnected": relu_of, "above": sums_of})
SPELT["above"] = spelt_above
adding.append(spelt_bias)


OURS = {"FullyConnected", "dense_data", "dense_weight", "relu", "above"}


def helped(operator):
    """Whether the helpers share the work of an operator: products of tiles,
    and the walks that go with them.
    """
    return operator in OURS and bool(loops) and tiling()


shares_itself.append(helped)


# --- Code: the error function ---------------------------------------------------------------------


def each(name, data, *numbers):
    """A loop's result for each number, a new array."""
    if not (walkable(data) and loops):
        return NotImplemented
    return fill(np.empty_like(data), name, data, *numbers)


def fill(out, name, data, *numbers):
    """Let a loop write its result for each number into `out`, which lies as `data` does."""
    x, y = data.reshape(-1), out.reshape(-1)
    spread(lambda at: loops(name, at.stop - at.start, *numbers, x[at], y[at]), parts(x.size, 1))
    return out


@native(erf, LONG)
def _(data):
    return each("erf_all", data)


@native(gelu_slope, LONG)
def _(data):
    return each("gelu_slope", data)


@native(LeakyReLU, LONG)
def _(data, gamma=None, *, act_type, slope, **settings):
    if gamma is not None or act_type not in ("gelu", "elu", "selu"):
        return NotImplemented
    if act_type == "gelu":
        return each("gelu", data)
    scale, slope = (1, slope) if act_type == "elu" else (LAMBDA, LAMBDA * ALPHA)
    return each("elu", data, float(scale), float(slope))


def pairwise(name, a, b, *numbers):
    """A loop's result for two arrays of one shape, or for an array and a single number."""
    single = not hasattr(b, "dtype")
    if single:
        b = np.full(1, b, np.float32)
    if not (walkable(a) and walkable(b) and loops and (single or a.shape == b.shape)):
        return NotImplemented
    out = np.empty_like(a)
    x, m, y = (array.reshape(-1) for array in (a, b, out))

    def run(at):
        loops(name, at.stop - at.start, *numbers, x[at], m if single else m[at], y[at])

    spread(run, parts(x.size, 1))
    return out


@native(modulo, LONG)
def _(lhs, rhs):
    return pairwise("modulo", lhs, rhs, int(not hasattr(rhs, "dtype")))


@native(hypot, LONG)
def _(lhs, rhs):
    return pairwise("hypot_all", lhs, rhs) if hasattr(rhs, "dtype") else NotImplemented


@native(round, LONG)
def _(data):
    return each("round_all", data)


@native(sign, LONG)
def _(data):
    return each("sign", data)


@native(smooth_l1, LONG)
def _(data, scalar):
    curvature = float(scalar * scalar)
    return each("smooth_l1", data, 1 / curvature if curvature else inf, curvature)


# --- Code: half precision and back ----------------------------------------------------------------

CONVERSIONS = {
    (np.dtype("float32"), np.dtype("float16")): "halve",
    (np.dtype("float16"), np.dtype("float32")): "widen",
}


def converted(data, dtype):
    """Single precision as half precision, or half as single, as NumPy's `astype` gives them."""
    name = CONVERSIONS.get((data.dtype, np.dtype(dtype)))
    if name is None or not (data.flags.c_contiguous and loops):
        return NotImplemented
    return fill(np.empty(data.shape, dtype), name, data)


@native(cast, LONG, kind="fe")
def _(data, dtype):
    return converted(data, real_dtype(dtype))


@native(amp_cast, LONG, kind="fe")
def _(data, dtype):
    return converted(data, real_dtype(dtype))


@native(cast_like, LONG, kind="fe")
def _(lhs, rhs):
    return converted(lhs, rhs.dtype)
