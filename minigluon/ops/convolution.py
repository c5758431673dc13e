"""One small window of weights, laid on every place of a picture: convolution, its adjoint, and how to make both fast."""

# Written from chapters/41_convolution.ipynb: edit the chapter, then run `minigluon export`.

import functools
import math

import numpy as np

from minigluon.base import MXNetError
from minigluon.cores import alone, core_matmul, spread
from minigluon.op import operator
from minigluon.ops.pieces import overlaid, places, seen_through
from minigluon.ops.reduce import broadcast_along, sum
from minigluon.ops.shape import several
from minigluon.ops.winograd import (
    five,
    five_data,
    five_weight,
    pays,
    pays_five,
    winograd,
    winograd_weight,
)

__all__ = [
    "AREA",
    "CACHE",
    "Convolution",
    "Deconvolution",
    "FEW_FILTERS",
    "FEW_PLACES",
    "HALVES",
    "HEAVY",
    "LABOUR",
    "LAYOUTS",
    "SHORT",
    "SMALL",
    "START",
    "TURN",
    "WIDE",
    "across",
    "added_up",
    "adjoint",
    "arguments",
    "back",
    "backwards",
    "banded",
    "batches",
    "bias_gradient",
    "by_remainders",
    "by_rows",
    "channel_sum",
    "check_bias",
    "check_weights",
    "columns",
    "compiled",
    "conv_data",
    "conv_weight",
    "correlation",
    "crosswise",
    "cut",
    "deconv_data",
    "deconv_weight",
    "diagonals",
    "enlarged",
    "enlarging",
    "fast_correlation",
    "fast_product",
    "forwards",
    "front",
    "geometry",
    "heavy_adjoint",
    "heavy_columns",
    "heavy_correlation",
    "heavy_product",
    "is_by_remainders",
    "is_by_rows",
    "is_crosswise",
    "is_five",
    "is_heavy",
    "is_last",
    "is_simple",
    "laid",
    "lengthwise",
    "live_taps",
    "matrix",
    "one_more",
    "pasted",
    "product",
    "quickly",
    "saves",
    "seen_from",
    "shared",
    "shared_out",
    "side_by_side",
    "sidelong",
    "slices",
    "smaller",
    "some_groups",
    "striped",
    "tiles",
    "weight_shape",
    "with_bias",
]


# --- Settings -------------------------------------------------------------------------------------

LAYOUTS = {3: ("NCW", "NWC"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}


def geometry(data, kernel, stride, dilate, pad, layout, num_group):
    """The settings as tuples with one number a spatial axis; MXNetError where they do not fit."""
    kernel, axes = several(kernel), len(several(kernel))
    if data.ndim != axes + 2 or not 1 <= axes <= 3:
        raise MXNetError(
            f"a kernel {kernel} needs data with {axes + 2} axes, this one has shape {data.shape}"
        )
    if layout is not None and layout not in LAYOUTS[data.ndim]:
        raise MXNetError(f"unknown layout {layout!r}; {LAYOUTS[data.ndim]} are known")
    found = kernel, *(several(n) or (d,) * axes for n, d in ((stride, 1), (dilate, 1), (pad, 0)))
    for n, name, least in zip(found, ("kernel", "stride", "dilate", "pad"), (1, 1, 1, 0)):
        if len(n) != axes or min(n) < least:
            raise MXNetError(f"{name} needs {axes} numbers of at least {least}, not {n}")
    if num_group < 1:
        raise MXNetError(f"num_group is {num_group}, which is less than 1")
    return found


def is_last(layout):
    """Whether `layout` has the channels last."""
    return layout is not None and layout[-1] == "C"


def front(data, layout):
    """`data` with its channels as axis 1."""
    return np.moveaxis(data, -1, 1) if is_last(layout) else data


def back(data, layout):
    """`data` with its channels where `layout` has them."""
    return np.moveaxis(data, 1, -1).copy() if is_last(layout) else data


# --- Three products -------------------------------------------------------------------------------

CACHE = 1 << 19  # numbers of columns, 2 MB: more fall out of the cache, fewer make more calls
SMALL = 1 << 17  # numbers of columns of the whole batch from which threads pay for their start
LABOUR = 1 << 23  # multiplications from which they do as well


def batches(data, numbers):
    """Slices of the batch: few pictures, `numbers` in the columns of each, and work for all cores."""
    n = len(data)
    if type(data) is not np.ndarray or n < 2:
        return [slice(0, n)]
    step = max(1, CACHE // max(numbers, 1))
    if n * numbers >= SMALL:
        step = min(step, -(-n // alone.threads))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def shared_out(function, parts, numbers):
    """`function` of each part, on all cores if there is enough to do."""
    if parts[-1].stop * numbers >= SMALL:
        return spread(function, parts)
    with alone:
        return [function(part) for part in parts]


def slices(n):
    """`range(n)` in slices, one for each thread."""
    step = max(1, -(-n // alone.threads))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)] or [slice(0, 0)]


def with_bias(y, bias):
    """`y` with `bias` added to its channels, in place."""
    if bias is None:
        return y
    bias = bias.reshape(-1, *(1,) * (y.ndim - 2))
    if type(y) is not np.ndarray or y.size < SMALL:
        y += bias
    else:
        spread(lambda part: np.add(y[part], bias, out=y[part]), slices(len(y)))
    return y


def columns(data, kernel, stride, dilate, pad, groups):
    """What the window sees, by groups: (n, groups, c/groups * window, places)."""
    n, c = data.shape[:2]
    if math.prod(kernel) == 1:
        seen = data[..., *(slice(None, None, s) for s in stride)] if max(stride) > 1 else data
        data = seen if not any(pad) else seen_through(data, kernel, stride, dilate, pad)
    else:
        data = seen_through(data, kernel, stride, dilate, pad)
    count = math.prod(data.shape[-len(kernel) :])
    return data.reshape(n, groups, c // groups * math.prod(kernel), count)


def matrix(weight, groups):
    """A weight as one matrix a group: (groups, f/groups, c/groups * window)."""
    f = weight.shape[0]
    return weight.reshape(groups, f // groups, math.prod(weight.shape[1:]))


SHORT = 32  # numbers of a run that are worth starting it
START, TURN = 7, 1.2  # nanoseconds: to start a run, to move a number when axes are exchanged


def is_crosswise(data, outputs, groups, rows, turned):
    """Whether the batch should be the last axis:
    `rows` of columns in short runs cost more than `turned` numbers.
    """
    known = groups == 1 and len(data) >= 8 and type(data) is np.ndarray
    cheap = TURN * turned < START * rows * math.prod(outputs[:-1])
    return known and outputs[-1] < SHORT and cheap


def crosswise(data):
    """(n, c, sizes…) as one picture (1, c, sizes…, n)."""
    return np.ascontiguousarray(np.moveaxis(data, 0, -1))[None]


def one_more(kernel, stride, dilate, pad):
    """Settings for pictures whose last axis is the batch."""
    return (*kernel, 1), (*stride, 1), (*dilate, 1), (*pad, 0)


def lengthwise(data, m):
    """Undo `crosswise` for a matrix (rows, places * m): (m, rows, places)."""
    return np.moveaxis(data.reshape(len(data), -1, m), -1, 0)


def product(data, weight, kernel, stride, dilate, pad, groups, bias=None):
    """Y = W C(X), and `bias` added to each filter's numbers while they are in the cache."""
    sizes = places(data.shape[2:], kernel, stride, dilate, pad)
    n, f, count = len(data), len(weight), math.prod(sizes)
    settings, w = (kernel, stride, dilate, pad), matrix(weight, groups)
    if is_heavy(data, weight, count, groups):
        return with_bias(heavy_product(data, w[0], settings).reshape(n, f, *sizes), bias)
    if is_by_rows(data, weight, kernel, dilate, groups):
        return with_bias(by_rows(data, weight, *settings, sizes), bias)
    y = np.empty_like(data, shape=(n, groups, f // groups, count))
    numbers = w[0].shape[1] * groups * count
    much = numbers >= SMALL or numbers * (f // groups) >= LABOUR
    if n == 1 and type(data) is np.ndarray and much:
        return with_bias(striped(data, w, settings, y, sizes).reshape(n, f, *sizes), bias)

    turned = math.prod(data.shape[1:]) + f * count
    across_batch = is_crosswise(data, sizes, groups, w[0].shape[1], turned)

    def fill(part):
        if across_batch:
            c = columns(crosswise(data[part]), *one_more(*settings), 1)[0, 0]
            y[part, 0] = lengthwise(core_matmul(w[0], c), part.stop - part.start)
        else:
            core_matmul(w, columns(data[part], *settings, groups), y[part])
        if bias is not None:
            y[part] += bias.reshape(groups, -1, 1)

    shared_out(fill, batches(data, numbers), numbers)
    return y.reshape(n, f, *sizes)


def adjoint(data, weight, sizes, kernel, stride, dilate, pad, groups):
    """Columns W^T G laid where they came from, in pictures of `sizes`: the gradient of X."""
    n, f, count = *data.shape[:2], math.prod(data.shape[2:])
    settings, w = (kernel, stride, dilate, pad), matrix(weight, groups)
    if is_heavy(data, weight, count, groups):
        return heavy_adjoint(data, w[0], sizes, settings)
    g, w = data.reshape(n, groups, f // groups, count), w.swapaxes(1, 2)
    rows = w.shape[1] * groups
    x = np.empty_like(data, shape=(n, rows // math.prod(kernel), *sizes))
    turned = f * count + math.prod(x.shape[1:])
    across_batch = is_crosswise(data, data.shape[2:], groups, rows, turned)

    def fill(part):
        m = part.stop - part.start
        if across_batch:
            c = core_matmul(w, crosswise(g[part, 0]).reshape(f, count * m))
            x[part] = np.moveaxis(overlaid(c, (*sizes, m), *one_more(*settings))[0], -1, 0)
        else:
            x[part] = overlaid(core_matmul(w, g[part]).reshape(m, rows, count), sizes, *settings)

    shared_out(fill, batches(data, rows * count), rows * count)
    return x


def correlation(data, inputs, kernel, stride, dilate, pad, groups):
    """The sum of G C(X)^T over the batch: the gradient of W."""
    n, f, count = *data.shape[:2], math.prod(data.shape[2:])
    settings, shape = (kernel, stride, dilate, pad), (f, inputs.shape[1] // groups, *kernel)
    weight = np.empty((f, math.prod(shape[1:])))
    if n == 0:
        return np.zeros_like(data, shape=shape)
    if is_heavy(data, weight, count, groups):
        return heavy_correlation(data, inputs, settings, shape)
    g, numbers = data.reshape(n, groups, f // groups, count), weight.shape[1] * groups * count

    turned = f * count + math.prod(inputs.shape[1:])
    # few places: products as large as the weight, one for each picture, would
    # cost more than to turn everything
    turned = turned if count >= SHORT else 0
    across_batch = is_crosswise(data, data.shape[2:], groups, weight.shape[1], turned)

    def share(part):
        if across_batch:
            c = columns(crosswise(inputs[part]), *one_more(*settings), 1)[0, 0]
            return core_matmul(crosswise(g[part, 0]).reshape(f, -1), c.T)
        c = columns(inputs[part], *settings, groups)
        return core_matmul(g[part], c.swapaxes(2, 3)).sum(0)

    return added_up(shared_out(share, batches(data, numbers), numbers), shape)


def added_up(shares, shape):
    """The sum of shares in memory of its own: a gradient that is a view would be copied once more."""
    if len(shares) == 1:
        return shares[0].reshape(shape).copy()
    out = np.empty_like(shares[0], shape=shape)
    flat = out.reshape(shares[0].shape)
    np.add(*shares[:2], out=flat)
    for share in shares[2:]:
        flat += share
    return out


# --- Without most of the copies -------------------------------------------------------------------


def is_simple(data, kernel, stride, dilate, pad, groups):
    """Whether the fast products apply: NumPy's floats, one group, a 2-D window that keeps the width."""
    return (
        type(data) is np.ndarray
        and data.dtype.char in "fd"
        and len(kernel) == 2
        and groups == max(stride) == max(dilate) == 1
        and max(kernel) > 1
        and 2 * pad[1] == kernel[1] - 1
        and kernel[0] > pad[0]
        and data.shape[2] * data.shape[3] >= 64
        and data.shape[1] >= 16
    )


def sidelong(data, kernel, pad):
    """Each picture in turn, as (c * l, rows * width): moved sideways once a column of the window."""
    n, c, h, w = data.shape
    out = np.zeros((c, kernel[1], h + 2 * pad[0], w), data.dtype)
    inner = out[:, :, pad[0] : pad[0] + h]
    flat = out.reshape(c, kernel[1], -1)[:, :, pad[0] * w : (pad[0] + h) * w]
    for picture in np.ascontiguousarray(data).reshape(n, c, h * w):
        for j in range(kernel[1]):
            left, right = max(pad[1] - j, 0), max(j - pad[1], 0)
            # long runs copy faster than rows; what they carry round the edge is wiped out
            flat[:, j, left : h * w - right] = picture[:, right : h * w - left]
            inner[:, j, :, :left] = 0
            inner[:, j, :, w - right :] = 0
        yield out.reshape(c * kernel[1], (h + 2 * pad[0]) * w)


def fast_product(data, weight, kernel, pad):
    """`product`, a picture and a row of the window at a time."""
    n, _, h, w = data.shape
    f, rows = weight.shape[0], h + 2 * pad[0] - kernel[0] + 1
    y = np.empty((n, f, rows, w), data.dtype)
    parts = [np.ascontiguousarray(weight[:, :, a]).reshape(f, -1) for a in range(kernel[0])]

    def fill(some):
        part = np.empty((f, rows * w), data.dtype)
        for out, seen in zip(y[some].reshape(-1, f, rows * w), sidelong(data[some], kernel, pad)):
            core_matmul(parts[0], seen[:, : rows * w], out)
            for a in range(1, kernel[0]):
                out += core_matmul(parts[a], seen[:, a * w : (a + rows) * w], part)

    numbers = parts[0].shape[1] * rows * w
    shared_out(fill, slices(n), numbers)
    return y


def fast_correlation(data, inputs, kernel, pad):
    """`correlation`, a picture and a row of the window at a time."""
    n, f, rows, w = data.shape
    c = inputs.shape[1]

    def share(some):
        total = np.zeros((kernel[0], f, c * kernel[1]), data.dtype)
        part = np.empty_like(total[0])
        for g, seen in zip(
            data[some].reshape(-1, f, rows * w), sidelong(inputs[some], kernel, pad)
        ):
            for a in range(kernel[0]):
                total[a] += core_matmul(g, seen[:, a * w : (a + rows) * w].T, part)
        return total

    numbers = c * kernel[1] * rows * w
    total = functools.reduce(np.add, shared_out(share, slices(n), numbers))
    total = total.reshape(kernel[0], f, c, kernel[1])
    return np.ascontiguousarray(total.transpose(1, 2, 0, 3))


# --- Heavy weights --------------------------------------------------------------------------------

HEAVY = 1 << 18  # weights that do not fit into a core's cache


def is_heavy(data, weight, count, groups):
    """Whether the columns of the whole batch take part in one product:
    weights are large, columns are few.
    """
    columns_of_all = weight.size // len(weight) * len(data) * count
    known = groups == 1 and len(data) > 1 and type(data) is np.ndarray
    return known and weight.size >= HEAVY and columns_of_all <= 8 * weight.size


def heavy_columns(data, kernel, stride, dilate, pad):
    """The columns of all pictures, crosswise: (c * window, places * n)."""
    seen = seen_through(crosswise(data), *one_more(kernel, stride, dilate, pad))[0]
    out = np.empty(seen.shape, data.dtype)
    spread(lambda part: np.copyto(out[part], seen[part]), slices(len(seen)))
    return out.reshape(len(seen) * math.prod(kernel), -1)


def heavy_product(data, w, settings):
    """`product` with the filters shared out."""
    c, n = heavy_columns(data, *settings), len(data)
    y = np.empty((n, len(w), c.shape[1] // n), data.dtype)

    def fill(part):
        y[:, part] = lengthwise(core_matmul(w[part], c), n)

    spread(fill, slices(len(w)))
    return y


def heavy_adjoint(data, w, sizes, settings):
    """`adjoint` with the channels shared out."""
    n, f, window = *data.shape[:2], math.prod(settings[0])
    g = crosswise(data).reshape(f, -1)
    x = np.empty((n, w.shape[1] // window, *sizes), data.dtype)

    def fill(part):
        c = core_matmul(w[:, part.start * window : part.stop * window].T, g)
        x[:, part] = np.moveaxis(overlaid(c[None], (*sizes, n), *one_more(*settings))[0], -1, 0)

    spread(fill, slices(x.shape[1]))
    return x


def heavy_correlation(data, inputs, settings, shape):
    """`correlation` with the filters shared out."""
    c = heavy_columns(inputs, *settings)
    g = crosswise(data).reshape(data.shape[1], -1)
    out = np.empty(shape, data.dtype)
    flat = out.reshape(len(g), len(c))
    spread(lambda part: core_matmul(g[part], c.T, flat[part]), slices(len(g)))
    return out


# --- One picture ----------------------------------------------------------------------------------

FEW_PLACES = 256  # in stripes of fewer columns OpenBLAS multiplies at half its speed


def striped(data, w, settings, y, sizes):
    """`product` of one picture into y, (1, groups, filters, places):
    shared out are its groups, rows or filters.
    """
    row, groups = math.prod(sizes[1:]), len(w)
    if groups > 1:
        pictures = data.reshape(groups, 1, -1, *data.shape[2:])
        spread(
            lambda part: some_groups(pictures[part], w[part], settings, y[:, part]), slices(groups)
        )
    elif y.shape[-1] < FEW_PLACES:
        seen = columns(data, *settings, 1)
        spread(lambda part: core_matmul(w[:, part], seen, y[:, :, part]), slices(w.shape[1]))
    else:
        step = max(1, min(-(-sizes[0] // alone.threads), CACHE // (w.shape[2] * row)))
        view = math.prod(settings[0]) == 1  # a window of one number copies nothing
        seen = columns(data, *settings, 1) if view else seen_through(data, *settings)

        def fill(start):
            rows = slice(start, start + step)
            at = slice(rows.start * row, rows.stop * row)
            c = seen[..., at] if view else seen[..., rows, *(slice(None),) * (len(sizes) - 1)]
            core_matmul(w, c.reshape(1, 1, w.shape[2], -1), y[..., at])

        spread(fill, range(0, sizes[0], step))
    return y


def some_groups(pictures, w, settings, y):
    """The products of some groups, whose channels are `pictures`, into y."""
    channels = pictures.reshape(1, -1, *pictures.shape[3:])
    core_matmul(w, columns(channels, *settings, len(w)), y)


# --- Windows larger than the picture --------------------------------------------------------------


def live_taps(sizes, kernel, stride, dilate, pad):
    """A slice of the window for each axis, and kernel and pad of the smaller window;
    None unless it is a quarter or less.
    """
    outs, slices_, smaller = places(sizes, kernel, stride, dilate, pad), [], []
    for n, o, k, s, d, p in zip(sizes, outs, kernel, stride, dilate, pad):
        seen = [i for i in range(k) if i * d - p < n and (o - 1) * s + i * d - p >= 0]
        first = min(seen[0], p // d) if seen else 0
        last = seen[-1] if seen else k - 1
        slices_.append(slice(first, last + 1))
        smaller.append((last + 1 - first, p - first * d))
    small, border = zip(*smaller)
    if 4 * math.prod(small) > math.prod(kernel):
        return None
    if places(sizes, small, stride, dilate, border) != outs:
        return None
    return (..., *slices_), small, border


def smaller(settings, live):
    """The settings of a convolution whose window is cut down."""
    return live[1], *settings[1:3], live[2], *settings[4:]


def cut(weight, key):
    """A part of all windows, in memory of its own; the cores share the filters."""
    part = weight[key]
    if type(weight) is not np.ndarray or weight.size < HEAVY:
        return part.copy()
    out = np.empty(part.shape, part.dtype)
    spread(lambda at: np.copyto(out[at], part[at]), slices(len(part)))
    return out


def pasted(part, kernel, key):
    """Undo `cut`: zeros around it."""
    shape = *part.shape[:2], *kernel
    if type(part) is not np.ndarray:
        out = np.zeros_like(part, shape=shape)
        out[key] = part
        return out
    out = np.empty(shape, part.dtype)

    def fill(at):
        out[at] = 0
        out[at][key] = part[at]

    spread(fill, slices(len(part)))
    return out


# --- A filter a channel ---------------------------------------------------------------------------

FEW_FILTERS = 8  # in a group: with more, columns laid down cost less than columns looked up


def by_remainders(data, weight, sizes, kernel, stride, dilate, pad, groups):
    """`adjoint` as convolutions with step one, a remainder of the places in X after the other;
    no gaps unless steps are one.
    """
    f, c, *window = weight.shape
    w = weight.reshape(groups, f // groups, c, *window).swapaxes(1, 2)
    w = np.flip(w.reshape(groups * c, f // groups, *window), range(2, weight.ndim))
    x, ones = np.zeros((len(data), groups * c, *sizes), data.dtype), (1,) * len(kernel)
    axes = list(zip(sizes, data.shape[2:], kernel, stride, dilate, pad))
    for remainders in np.ndindex(*stride):
        found = [seen_from(r, *axis) for r, axis in zip(remainders, axes)]
        if None in found:
            continue
        taps, border, read, write = zip(*found)
        part = np.ascontiguousarray(w[..., *taps])
        y = product(data, part, part.shape[2:], ones, dilate, border, groups)
        laid(x[..., *write], y[..., *read])
    return x


def laid(x, y):
    """Copy y into x; the cores share the batch."""
    spread(lambda at: np.copyto(x[at], y[at]), slices(len(x)))


def seen_from(r, size, outs, k, s, d, p):
    """For places i in X, i + p = r modulo s: the turned taps, the border, which results are wanted,
    and the i; None for no tap.
    """
    taps = slice((k - 1 - r) % s, k - r, s) if r < k else slice(0)
    border = d * (len(range(k)[taps]) - 1)
    first, last = -(-max(p - r, 0) // s), min((p + size - 1 - r) // s, outs - 1 + border)
    if r >= k or last < first:
        return None
    return taps, border, slice(first, last + 1), slice(s * first + r - p, s * last + r - p + 1, s)


def is_by_remainders(data, stride, dilate, groups):
    """Whether `by_remainders` applies, and pays: NumPy's floats, groups of few filters, enough to do."""
    return (
        type(data) is np.ndarray
        and groups > 1
        and data.shape[1] <= FEW_FILTERS * groups
        and data.size >= SMALL
        and (max(stride) == 1 or max(dilate) == 1)
    )


# --- Matrices of diagonals ------------------------------------------------------------------------

WIDE = 28  # outputs of a tile: for wider ones zeros are multiplied, narrower ones copy more
AREA = 1 << 17  # numbers of the rows laid side by side at a time, which stay in a core's cache


def diagonals(matrices, window, stride, dilate):
    """A view (c, rows, window, outputs) of `matrices`, (c, rows, reach, outputs):
    where a filter's numbers stand.
    """
    *outer, row, column = matrices.strides
    shape = *matrices.shape[:2], window, matrices.shape[3]
    strides = *outer, dilate * row, stride * row + column
    return np.lib.stride_tricks.as_strided(matrices, shape, strides)


def banded(w, outs, stride, dilate):
    """Filters (c, rows, window) as matrices (c, rows * reach, outs):
    a row of pixels times such a one is a row of outputs.
    """
    c, rows, window = w.shape
    out = np.zeros((c, rows, (outs - 1) * stride + (window - 1) * dilate + 1, outs), w.dtype)
    diagonals(out, window, stride, dilate)[...] = w[..., None]
    return out.reshape(c, -1, outs)


def tiles(width):
    """(first output, how many tiles, outputs of each) of a row: equal tiles, and what is left over."""
    wide = -(-width // -(-width // WIDE))
    many, rest = divmod(width, wide)
    return [(0, many, wide), (many * wide, 1, rest)][: 2 if rest else 1]


def side_by_side(x, tile, outs, rows, reach, stride, dilate):
    """The rows that each tile's windows see, of bordered x: (m, c, tiles, outs, rows * reach)."""
    first, many, wide = tile
    *outer, row, number = x.strides
    shape = *x.shape[:2], many, outs, rows, reach
    strides = *outer, wide * stride[1] * number, stride[0] * row, dilate * row, number
    start = x[..., first * stride[1] :]
    seen = np.lib.stride_tricks.as_strided(start, shape, strides, writeable=False)
    return seen.reshape(*shape[:4], rows * reach)


def by_rows(data, weight, kernel, stride, dilate, pad, sizes):
    """`product` with a filter a channel, as a product with a banded matrix for each."""
    (n, c), (h, width) = data.shape[:2], sizes
    full = [(o - 1) * s + (k - 1) * d + 1 for o, k, s, d in zip(sizes, kernel, stride, dilate)]
    w, y = weight.reshape(c, *kernel), np.empty((n, c, *sizes), data.dtype)
    keep = [max(0, f - p) for f, p in zip(full, pad)]  # what is further is seen by no window
    inner = [slice(p, p + min(m, k)) for p, m, k in zip(pad, data.shape[2:], keep)]
    each = h * kernel[0] * full[1]
    step = max(1, min(-(-c // alone.threads), AREA // each))
    few = max(1, min(n, AREA // (each * step)))

    def fill(at):
        padded = np.zeros((few, len(w[at]), *full), data.dtype)
        matrices = [banded(w[at], wide, stride[1], dilate[1]) for *_, wide in tiles(width)]
        for i in range(0, n, few):
            out = y[i : i + few, at]
            seen = padded[: len(out)]
            seen[..., *inner] = data[i : i + few, at, : keep[0], : keep[1]]
            for (a, many, wide), T in zip(tiles(width), matrices):
                reach = T.shape[1] // kernel[0]
                rows = side_by_side(seen, (a, many, wide), h, kernel[0], reach, stride, dilate[0])
                into = out[..., a : a + many * wide].reshape(*out.shape[:3], many, wide)
                np.matmul(rows, T[:, None], out=into.swapaxes(2, 3))

    parts = [slice(i, min(i + step, c)) for i in range(0, c, step)]
    shared_out(fill, parts, n * each)
    return y


def is_by_rows(data, weight, kernel, dilate, groups):
    """Whether `by_rows` applies, and pays: NumPy's floats, a filter a channel,
    a window that is wide, but has no wide gaps.
    """
    return (
        type(data) is np.ndarray
        and data.dtype.char in "fd"
        and len(kernel) == 2
        and groups == data.shape[1] == len(weight) > 1
        and kernel[1] > 1
        and (kernel[1] - 1) * dilate[1] <= 2 * WIDE
    )


# --- The way that suits ---------------------------------------------------------------------------


def saves(data, weight, sizes, kernel, stride, dilate, pad, groups):
    """Whether `winograd` applies, and pays: single precision, 3 × 3, one group, many channels."""
    return (
        type(data) is np.ndarray
        and data.dtype.char == "f"
        and kernel == (3, 3)
        and groups == max(stride) == max(dilate) == 1
        and max(pad) <= 2
        and pays(data, weight, sizes)
    )


def is_five(data, weight, sizes, kernel, stride, dilate, pad, groups):
    """Whether `five` applies, and pays: single precision, five rows, one group, many channels."""
    return (
        type(data) is np.ndarray
        and data.dtype.char == "f"
        and len(kernel) == 2
        and kernel[0] == 5
        and groups == max(stride) == max(dilate) == 1
        and pays_five(data, weight, sizes)
    )


HALVES = "float16", "bfloat16"  # which NumPy multiplies number by number
# name of a way below: a function of the same arguments that may know a quicker one, or returns None
compiled = {}


def quickly(name, *arguments):
    """The result of a compiled loop; None if there is none for these arguments."""
    return compiled[name](*arguments) if name in compiled else None


def forwards(data, weight, *settings, bias=None):
    """Y plus `bias`, by the way that suits the arrays."""
    if data.dtype.name in HALVES:
        y = forwards(*(a.astype("float32") for a in (data, weight)), *settings).astype(data.dtype)
        return with_bias(y, bias)
    if live := live_taps(data.shape[2:], *settings[:4]):
        weight, settings = cut(weight, live[0]), smaller(settings, live)
    if (y := quickly("forwards", data, weight, *settings, bias)) is not None:
        return y
    sizes = places(data.shape[2:], *settings[:4])
    if saves(data, weight, sizes, *settings):
        return with_bias(winograd(data, weight, settings[3], sizes), bias)
    if is_five(data, weight, sizes, *settings):
        return with_bias(five(data, weight, settings[3], sizes), bias)
    # fewer numbers do not pay for turned filters
    turns = len(data) * math.prod(sizes) >= len(weight)
    if turns and is_simple(data, *settings):
        return with_bias(fast_product(data, weight, settings[0], settings[3]), bias)
    return product(data, weight, *settings, bias)


def backwards(data, weight, sizes, *settings):
    """The gradient of X, by the way that suits the arrays."""
    if data.dtype.name in HALVES:
        y = backwards(*(a.astype("float32") for a in (data, weight)), sizes, *settings)
        return y.astype(data.dtype)
    if live := live_taps(sizes, *settings[:4]):
        weight, settings = cut(weight, live[0]), smaller(settings, live)
    if (x := quickly("backwards", data, weight, tuple(sizes), *settings)) is not None:
        return x
    kernel, pad, sizes = settings[0], settings[3], tuple(sizes)
    if saves(data, weight, sizes, *settings) and places(sizes, *settings[:4]) == data.shape[2:]:
        return winograd(data, weight, tuple(2 - p for p in pad), sizes, turned=True)
    if is_five(data, weight, data.shape[2:], *settings):
        return five_data(data, weight, pad, sizes)
    if is_simple(data, *settings) and places(sizes, *settings[:4]) == data.shape[2:]:
        turned = np.ascontiguousarray(weight[:, :, ::-1, ::-1].swapaxes(0, 1))
        return fast_product(data, turned, kernel, tuple(k - 1 - p for k, p in zip(kernel, pad)))
    if is_by_remainders(data, settings[1], settings[2], settings[4]):
        return by_remainders(data, weight, sizes, *settings)
    return adjoint(data, weight, sizes, *settings)


def across(data, inputs, *settings):
    """The gradient of W, by the way that suits the arrays."""
    if data.dtype.name in HALVES:
        return across(*(a.astype("float32") for a in (data, inputs)), *settings).astype(data.dtype)
    if live := live_taps(inputs.shape[2:], *settings[:4]):
        return pasted(across(data, inputs, *smaller(settings, live)), settings[0], live[0])
    if (w := quickly("across", data, inputs, *settings)) is not None:
        return w
    if saves(inputs, np.empty((data.shape[1], inputs.shape[1], 0)), data.shape[2:], *settings):
        return winograd_weight(data, inputs, settings[3])
    if is_five(inputs, np.empty((data.shape[1], inputs.shape[1], 0)), data.shape[2:], *settings):
        return five_weight(data, inputs, settings[3], settings[0][1])
    if is_simple(data, *settings) and inputs.shape[1] >= 16:
        return fast_correlation(data, inputs, settings[0], settings[3])
    return correlation(data, inputs, *settings)


# --- Operators ------------------------------------------------------------------------------------


def shared(settings):
    """The settings that all products of one convolution have in common."""
    names = "kernel", "stride", "dilate", "pad", "num_group", "layout"
    return {name: settings[name] for name in names}


def check_bias(bias, filters, no_bias):
    """Raise MXNetError where a bias is missing or does not fit."""
    if bias is None and not no_bias:
        raise MXNetError("bias is missing: give one, or no_bias=True")
    if bias is not None and bias.shape != (filters,):
        raise MXNetError(f"{filters} filters need a bias of shape {(filters,)}, not {bias.shape}")


@operator(vjp=(lambda h, y, g: broadcast_along(h, g, axis=1, exclude=True),))
def channel_sum(data, /):
    """The sum over all axes but the second; of single precision as a product with ones,
    four times as fast.
    """
    if type(data) is not np.ndarray or data.dtype.char != "f" or not data.flags.c_contiguous:
        return sum.kernel(data, axis=1, exclude=True)
    n, c, count = *data.shape[:2], math.prod(data.shape[2:])
    with alone:
        return (data.reshape(n * c, count) @ np.ones(count, data.dtype)).reshape(n, c).sum(0)


def bias_gradient(g, layout):
    """The gradient of a bias: the sum over all axes but the channels."""
    return sum(g, axis=-1, exclude=True) if is_last(layout) else channel_sum(g)


@operator(aliases=("Convolution_v1",))
def Convolution(
    data,
    weight,
    bias=None,
    /,
    kernel=(),
    stride=(),
    dilate=(),
    pad=(),
    num_filter=0,
    num_group=1,
    workspace=1024,
    no_bias=False,
    cudnn_tune=None,
    cudnn_off=False,
    layout=None,
):
    """Lay `num_filter` windows on every place of `data`: $Y = WC(X) + b$.

    data: (n, c, sizes…); weight: (num_filter, c/num_group, *kernel); bias: (num_filter,), absent with
    no_bias=True. Channels are last, in the weight too, with a layout such as "NHWC".
    """
    kernel, *rest = geometry(data, kernel, stride, dilate, pad, layout, num_group)
    x, w = front(data, layout), front(weight, layout)
    check_weights(x.shape[1], num_filter or weight.shape[0], w.shape, kernel, num_group)
    check_bias(bias, w.shape[0], no_bias)
    return back(forwards(x, w, kernel, *rest, num_group, bias=bias), layout)


def check_weights(channels, filters, shape, kernel, num_group, transposed=False):
    """Raise MXNetError where channels, filters, groups and the weight's shape do not fit."""
    for n, name in ((filters, "num_filter"), (channels, "the channels of data")):
        if n % num_group:
            raise MXNetError(f"num_group={num_group} does not divide {name}, {n}")
    first, second = (channels, filters) if transposed else (filters, channels)
    wanted = first, second // num_group, *kernel
    if tuple(shape) != wanted:
        raise MXNetError(f"these settings need a weight of shape {wanted}, not {tuple(shape)}")


@Convolution.vjp
def _(g, y, x, w, b=None, **settings):
    same = shared(settings)
    found = conv_data(g, w, x, **same), conv_weight(g, x, **same)
    return found if b is None else (*found, bias_gradient(g, same["layout"]))


@operator(
    vjp=(
        lambda h, y, g, w, x, **s: Convolution(h, w, no_bias=True, **s),
        lambda h, y, g, w, x, **s: conv_weight(g, h, **s),
        None,
    )
)
def conv_data(
    data, weight, like, /, kernel, stride=(), dilate=(), pad=(), num_group=1, layout=None
):
    """The gradient of `Convolution`'s data, in the shape of `like`, from that of its output, `data`."""
    kernel, *rest = geometry(data, kernel, stride, dilate, pad, layout, num_group)
    g, w, sizes = front(data, layout), front(weight, layout), front(like, layout).shape[2:]
    return back(backwards(g, w, sizes, kernel, *rest, num_group), layout)


@operator(
    vjp=(
        lambda h, y, g, x, **s: Convolution(x, h, no_bias=True, **s),
        lambda h, y, g, x, **s: conv_data(g, h, x, **s),
    )
)
def conv_weight(data, inputs, /, kernel, stride=(), dilate=(), pad=(), num_group=1, layout=None):
    """The gradient of `Convolution`'s weight, from that of its output, `data`, and its `inputs`."""
    kernel, *rest = geometry(data, kernel, stride, dilate, pad, layout, num_group)
    g, x = front(data, layout), front(inputs, layout)
    return back(across(g, x, kernel, *rest, num_group), layout)


def arguments(no_bias, **_):
    """The arrays that a convolution on symbols needs."""
    return ["data", "weight"] + ["bias"] * (not no_bias)


def weight_shape(data, kernel, num_filter, num_group, layout, transposed=False):
    """The shape of a weight, 0 where `data` does not tell."""
    kernel = several(kernel)
    if len(data) != len(kernel) + 2:
        raise MXNetError(f"a kernel {kernel} needs data with {len(kernel) + 2} axes, not {data}")
    last = is_last(layout)
    channels = data[-1 if last else 1]
    if channels % num_group or num_filter % num_group:
        raise MXNetError(
            f"num_group={num_group} must divide the channels of data, {channels}, and num_filter, "
            f"{num_filter}"
        )
    first, second = (channels, num_filter) if transposed else (num_filter, channels)
    inner = second // num_group
    return (first, *kernel, inner) if last else (first, inner, *kernel)


@Convolution.shapes
def _(data, weight, bias=None, *, kernel, num_filter, num_group, layout, **_):
    return data, weight_shape(data, kernel, num_filter, num_group, layout), (num_filter,)


Convolution.inputs = arguments


# --- Transposed convolution -----------------------------------------------------------------------


def enlarged(sizes, kernel, stride, dilate, pad, adj, target):
    """The sizes of a Deconvolution's output, and the border that leads there."""
    adj, target = several(adj) or (0,) * len(kernel), several(target)
    full = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(sizes, kernel, stride, dilate)]
    if any(target):
        if any(f < t for f, t in zip(full, target)):
            raise MXNetError(f"target_shape {target} is too large: at most {tuple(full)}")
        return target, tuple((f - t + 1) // 2 for f, t in zip(full, target))
    if len(adj) != len(kernel) or any(a >= s for a, s in zip(adj, stride)):
        raise MXNetError(f"adj {adj} needs a number smaller than the stride for each of {stride}")
    out = tuple(f - 2 * p + a for f, p, a in zip(full, pad, adj))
    if min(out) < 1:
        raise MXNetError(f"pad {pad} leaves nothing of {tuple(full)}")
    return out, pad


def enlarging(data, kernel, stride, dilate, pad, adj, target_shape, layout, num_group):
    """`geometry` with the border resolved, and the output's sizes."""
    found = geometry(data, kernel, stride, dilate, pad, layout, num_group)
    sizes, pad = enlarged(front(data, layout).shape[2:], *found, adj, target_shape)
    return sizes, (*found[:3], pad, num_group)


@operator
def Deconvolution(
    data,
    weight,
    bias=None,
    /,
    kernel=(),
    stride=(),
    dilate=(),
    pad=(),
    adj=(),
    target_shape=(),
    num_filter=0,
    num_group=1,
    workspace=512,
    no_bias=True,
    cudnn_tune=None,
    cudnn_off=False,
    layout=None,
):
    """The adjoint of `Convolution`: each number of `data` lays down a window of weights.

    data: (n, c, sizes…); weight: (c, num_filter/num_group, *kernel); bias: (num_filter,). `adj` < stride
    adds to the output's sizes; `target_shape` sets them, and the border with them.
    """
    sizes, found = enlarging(
        data, kernel, stride, dilate, pad, adj, target_shape, layout, num_group
    )
    x, w = front(data, layout), front(weight, layout)
    filters = num_filter or w.shape[1] * num_group
    check_weights(x.shape[1], filters, w.shape, found[0], num_group, transposed=True)
    check_bias(bias, filters, no_bias or bias is None)
    return back(with_bias(backwards(x, w, sizes, *found), bias), layout)


@Deconvolution.vjp
def _(g, y, x, w, b=None, **settings):
    same = {**shared(settings), "adj": settings["adj"], "target_shape": settings["target_shape"]}
    found = deconv_data(g, w, x, **same), deconv_weight(x, g, **same)
    return found if b is None else (*found, bias_gradient(g, same["layout"]))


@operator(
    vjp=(
        lambda h, y, g, w, x, **s: Deconvolution(h, w, **s),
        lambda h, y, g, w, x, **s: deconv_weight(h, g, **s),
        None,
    )
)
def deconv_data(
    data,
    weight,
    like,
    /,
    kernel,
    stride=(),
    dilate=(),
    pad=(),
    num_group=1,
    layout=None,
    adj=(),
    target_shape=(),
):
    """The gradient of `Deconvolution`'s data, in the shape of `like`: a convolution."""
    _, found = enlarging(like, kernel, stride, dilate, pad, adj, target_shape, layout, num_group)
    return back(forwards(front(data, layout), front(weight, layout), *found), layout)


@operator(
    vjp=(
        lambda h, y, x, g, **s: deconv_data(g, h, x, **s),
        lambda h, y, x, g, **s: Deconvolution(x, h, **s),
    )
)
def deconv_weight(
    data,
    grad,
    /,
    kernel,
    stride=(),
    dilate=(),
    pad=(),
    num_group=1,
    layout=None,
    adj=(),
    target_shape=(),
):
    """The gradient of `Deconvolution`'s weight, from its `data` and the gradient `grad`
    of its output.
    """
    _, found = enlarging(data, kernel, stride, dilate, pad, adj, target_shape, layout, num_group)
    return back(across(front(data, layout), front(grad, layout), *found), layout)


@Deconvolution.shapes
def _(data, weight, bias=None, *, kernel, num_filter, num_group, layout, **_):
    return data, weight_shape(data, kernel, num_filter, num_group, layout, True), (num_filter,)


Deconvolution.inputs = arguments
