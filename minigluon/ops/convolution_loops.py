"""A convolution is a product with a matrix that nobody has to write down: all of its rows lie in the picture already, as runs of memory."""

# Written from chapters/96m_convolution_loops.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.autograd import state
from minigluon.kernels import dense
from minigluon.native import Loops, native
from minigluon.ops.convolution import compiled, geometry, is_five, saves
from minigluon.ops.normalization import normalized_convolution
from minigluon.ops.pieces import places
from minigluon.ops.product_loops import share, threads

__all__ = [
    "CALLS",
    "ENOUGH",
    "FAR",
    "FEW",
    "LANES",
    "NEAR",
    "PLACES",
    "RUN",
    "SLACK",
    "SPECTRA",
    "TERM",
    "VAIN",
    "across",
    "backwards",
    "by_tiles",
    "flat",
    "forwards",
    "gaps_of",
    "is_for_loops",
    "loops",
    "vain",
    "walk",
    "wins",
]


# --- Code: who takes it ---------------------------------------------------------------------------

loops = Loops("convolutions")
ENOUGH = 1 << 19  # multiplications from which a second core pays


def flat(sizes, fill=1):
    """Numbers for two axes: a picture of one axis has one row."""
    return (fill, *sizes) if len(sizes) == 1 else tuple(sizes)


def walk(name, x, y, settings, *arrays):
    """Call a loop on pictures of shape x, with results of shape y, both (n, channels, sizes…)."""
    *axes, pad, groups = settings
    numbers = [*x[:2], *flat(x[2:]), y[1], *flat(y[2:])]
    numbers += [n for setting in axes for n in flat(setting)] + [*flat(pad, 0), groups]
    work = math.prod(y) * x[1] // groups * math.prod(settings[0])
    given = [a if a is None else dense(a) for a in arrays]
    loops(name, share(), threads() if work >= ENOUGH else 1, np.array(numbers, "int64"), *given)


def is_for_loops(x, y, groups, *arrays):
    """Whether a loop can do it: NumPy's single precision, one or two axes,
    more than a filter a channel.
    """
    single = all(a is None or (type(a) is np.ndarray and a.dtype.char == "f") for a in arrays)
    some = len(x) <= 4 and math.prod((*x, *y)) > 0 and (x[1] > groups or y[1] > groups)
    return single and some and bool(loops)


LANES = 16  # numbers of a vector; processors with shorter ones compute less in vain
VAIN = 1.6  # numbers that are computed, for each that is wanted, up to which it pays
FEW = 4  # pictures of a batch that would be turned
TERM = 0.0185  # ns: to multiply and add a number
# ns for a number of Winograd's spectra, where so many stay in a cache or do not
NEAR, FAR, SPECTRA = 30, 90, 1 << 18
SLACK, CALLS = 1.4, 3e5  # between other layers its arrays are in no cache, and its threads asleep


def vain(sizes, gaps):
    """How many numbers are computed for each that is wanted: rows are `gaps` numbers further apart."""
    rows, width = flat(sizes)
    return -(-(rows * (width + gaps) - gaps) // LANES) * LANES / (rows * width)


def gaps_of(kernel, stride, dilate):
    """What lies between two rows of results."""
    return (kernel[-1] - 1) * dilate[-1] // stride[-1]


def by_tiles(n, f, c, sizes):
    """What Winograd's way costs, in nanoseconds on one core."""
    tiles = math.prod(-(-m // 4) for m in sizes)
    moved = FAR if tiles * 36 * c > SPECTRA else NEAR
    return SLACK * (n * tiles * (0.78 * c * f + moved * (c + f)) + 36 * c * f + CALLS)


def wins(data, weight, sizes, settings, more=1.0):
    """Whether the loop, which computes so many numbers for each that is wanted, is better than Winograd's way."""
    if not saves(data, weight, sizes, *settings):
        return True
    n, (f, c) = len(data), weight.shape[:2]
    return TERM * 9 * n * f * c * math.prod(sizes) * more <= by_tiles(n, f, c, sizes)


def forwards(data, weight, kernel, stride, dilate, pad, groups, bias=None, gain=None):
    """Y = gain W C(X) + bias; None where another way is better."""
    settings = kernel, stride, dilate, pad, groups
    y = len(data), len(weight), *places(data.shape[2:], *settings[:4])
    if not is_for_loops(data.shape, y, groups, data, weight, bias, gain):
        return None
    more = vain(y[2:], gaps_of(kernel, stride, dilate))
    if (more > VAIN and len(data) >= FEW) or is_five(data, weight, y[2:], *settings):
        return None
    if not wins(data, weight, y[2:], settings, more):
        return None
    out = np.empty(y, data.dtype)
    walk("convolve", data.shape, y, settings, data, weight, gain, bias, out)
    return out


def backwards(data, weight, sizes, kernel, stride, dilate, pad, groups):
    """The gradient of X; None where another way is better."""
    settings = kernel, stride, dilate, pad, groups
    x = len(data), weight.shape[1] * groups, *sizes
    if not is_for_loops(x, data.shape, groups, data, weight):
        return None
    phases = [-(-(m + p) // s) - p // s for m, p, s in zip(sizes, pad, stride)]
    more = vain(phases, gaps_of(kernel, stride, dilate)) * math.prod(phases) * math.prod(stride)
    more /= math.prod(sizes)
    if (more > VAIN and len(data) >= FEW) or is_five(data, weight, data.shape[2:], *settings):
        return None
    same = places(sizes, *settings[:4]) == data.shape[2:]
    if same and not wins(data, weight, sizes, settings, more):
        return None
    out = np.empty(x, data.dtype)
    walk("convolve_data", x, data.shape, settings, data, weight, out)
    return out


RUN, PLACES = 8, 32  # numbers of a run, and places of a picture, from which it pays


def across(data, inputs, kernel, stride, dilate, pad, groups):
    """The gradient of W; None where another way is better."""
    settings = kernel, stride, dilate, pad, groups
    if not is_for_loops(inputs.shape, data.shape, groups, data, inputs):
        return None
    shape = data.shape[1], inputs.shape[1] // groups, *kernel
    if shape[1] * kernel[-1] < RUN or math.prod(data.shape[2:]) < PLACES:
        return None
    w = np.empty(shape, data.dtype)
    if not wins(inputs, w, data.shape[2:], settings):
        return None
    walk("convolve_weight", inputs.shape, data.shape, settings, data, inputs, w)
    return w


compiled.update(forwards=forwards, backwards=backwards, across=across)


@native(normalized_convolution)
def _(data, weight, bias, gamma, beta, moving_mean, moving_var, **given):
    names = "eps", "fix_gamma", "use_global_stats", "num_filter"
    eps, fix_gamma, always, filters = (given.pop(name) for name in names)
    vectors = gamma, beta, moving_mean, moving_var
    groups, known = given.pop("num_group"), [a for a in (*vectors, bias) if a is not None]
    settings = geometry(data, *given.values(), None, groups)
    if (state.training and not always) or data.shape[1] % groups:
        return NotImplemented
    if any(a.dtype.char != "f" or a.shape != (len(weight),) for a in known):
        return NotImplemented
    if weight.shape != (filters or len(weight), data.shape[1] // groups, *settings[0]):
        return NotImplemented
    gain = (1 if fix_gamma else gamma) / np.sqrt(moving_var + eps)
    offset = beta - (moving_mean if bias is None else moving_mean - bias) * gain
    y = forwards(data, weight, *settings, groups, offset, gain)
    if y is None:
        return NotImplemented
    if fix_gamma:
        gamma[...] = 1
    return y
