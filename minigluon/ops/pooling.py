"""Make a picture smaller by keeping one number of each window: its largest, its mean, its length."""

# Written from chapters/42_pooling.ipynb: edit the chapter, then run `minigluon export`.

import functools
import math

import numpy as np

from minigluon.base import MXNetError
from minigluon.cores import alone, spread
from minigluon.op import operator
from minigluon.ops.convolution import (
    LAYOUTS,
    Deconvolution,
    back,
    deconv_data,
    deconv_weight,
    front,
)
from minigluon.ops.elementwise import equal, power
from minigluon.ops.pieces import split_like
from minigluon.ops.shape import several

__all__ = [
    "LRN",
    "MANY",
    "Pooling",
    "Pooling_v1",
    "UpSampling",
    "added",
    "along",
    "bilinear",
    "bordered",
    "counts",
    "covers",
    "every",
    "first_of_all",
    "first_places",
    "in_parts",
    "inside",
    "is_dense",
    "largest",
    "lowest",
    "lp",
    "near_sum",
    "placed",
    "pool_frame",
    "pool_pick",
    "pool_place",
    "pool_sizes",
    "pool_spread",
    "pool_sum",
    "put",
    "slid",
    "spaced",
    "squares",
    "stretched",
    "taps",
    "unpooled",
    "upsample_back",
    "upsample_like",
    "winners",
]


# --- Windows --------------------------------------------------------------------------------------

MANY = 1 << 16  # numbers of a result from which threads pay for their start


def pool_frame(data, kernel, stride, pad, global_pool, pooling_convention, layout):
    """Kernel, stride, pad and the sizes of the result; MXNetError where they do not fit `data`."""
    axes, sizes = data.ndim - 2, front(data, layout).shape[2:]
    if not 1 <= axes <= 3 or (layout is not None and layout not in LAYOUTS[data.ndim]):
        raise MXNetError(f"layout {layout} does not fit data of shape {data.shape}")
    if global_pool:
        return sizes, (1,) * axes, (0,) * axes, (1,) * axes
    kernel = several(kernel)
    stride, pad = ((several(n) or (d,) * axes)[:axes] for n, d in ((stride, 1), (pad, 0)))
    if not len(kernel) == len(stride) == len(pad) == axes or min(*kernel, *stride) < 1:
        raise MXNetError(
            f"data of shape {data.shape} needs {axes} numbers each: {kernel}, {stride}, {pad}"
        )
    if any(k > n + 2 * p for n, k, p in zip(sizes, kernel, pad)):
        raise MXNetError(f"kernel size {kernel} exceeds input {sizes} with borders {pad}")
    return kernel, stride, pad, pool_sizes(sizes, kernel, stride, pad, pooling_convention)


def pool_sizes(sizes, kernel, stride, pad, convention):
    """How many windows there are along each axis."""
    if convention == "same":
        if any(pad):
            raise MXNetError("pooling_convention 'same' takes no pad")
        return tuple(-(-n // s) for n, s in zip(sizes, stride))
    if convention not in ("valid", "full"):
        raise MXNetError(f"unknown pooling_convention {convention!r}: valid, full or same")
    left = [n + 2 * p - k for n, k, p in zip(sizes, kernel, pad)]
    return tuple((-(-m // s) if convention == "full" else m // s) + 1 for m, s in zip(left, stride))


def bordered(data, frame, value, inner=0):
    """`data` with `value` around it, so that no window reaches beyond; up to `pad` it is `inner`."""
    kernel, stride, pad, outs = frame
    need = [(o - 1) * s + k for o, s, k in zip(outs, stride, kernel)]
    after = [max(m - n - p, 0) for m, n, p in zip(need, data.shape[2:], pad)]
    if inner:
        near = [min(a, p) for a, p in zip(after, pad)]
        data = np.pad(data, [(0, 0)] * 2 + list(zip(pad, near)), constant_values=inner)
        pad, after = [0] * len(pad), [a - n for a, n in zip(after, near)]
    if not any(pad) and not any(after):
        return data
    return np.pad(data, [(0, 0)] * 2 + list(zip(pad, after)), constant_values=value)


def taps(frame):
    """For each number of the window: the key of a view on it, for all windows at once."""
    kernel, stride, _, outs = frame
    for at in np.ndindex(*kernel):
        spots = zip(at, outs, stride)
        yield ..., *(slice(i, i + s * (o - 1) + 1, s) for i, o, s in spots)


def covers(data, frame):
    """Whether there is one window only, which is all of `data`."""
    return frame[0] == data.shape[2:] and not any(frame[2]) and max(frame[3]) == 1


# --- Sums and means -------------------------------------------------------------------------------


def added(data, frame, inner=0):
    """The sum of each window; half precision is added up in single."""
    if data.dtype.kind in "fV" and data.itemsize == 2:
        return added(data.astype("float32"), frame, inner).astype(data.dtype)
    if covers(data, frame):
        return data.sum(axis=tuple(range(2, data.ndim)), keepdims=True)
    data = bordered(data, frame, 0, inner)
    for axis, (k, s, _, o) in enumerate(zip(*frame), 2):  # rows first: they are long runs in memory
        total = data[every(axis, 0, s, o)].copy()
        for i in range(1, k):
            total += data[every(axis, i, s, o)]
        data = total
    return data


def every(axis, i, s, o):
    """The key of o places along an axis: i, i + s, i + 2 s, …"""
    return (slice(None),) * axis + (slice(i, i + s * (o - 1) + 1, s),)


def counts(data, frame, pool_type, include):
    """What to divide sums by: a number, or an array where windows reach beyond the border."""
    kernel, stride, pad, outs = frame
    if pool_type != "avg":
        return 1
    reach = [(o - 1) * s + k for o, s, k in zip(outs, stride, kernel)]
    beyond = any(m > n + 2 * p for m, n, p in zip(reach, data.shape[2:], pad))
    if not beyond and (include or not any(pad)):
        return math.prod(kernel)
    ones = np.ones_like(data[:1, :1])
    return np.maximum(added(ones, frame, inner=1 if include else 0), 1)


def unpooled(g, like, frame):
    """The adjoint of `added`: each sum's gradient on all numbers of its window."""
    for axis, (k, s, p, o) in reversed(list(enumerate(zip(*frame), 2))):
        size = max(s * (o - 1) + k, p + like.shape[axis])  # with the border
        out = np.zeros_like(g, shape=(*g.shape[:axis], size, *g.shape[axis + 1 :]))
        for i in range(k):
            out[every(axis, i, s, o)] += g
        g = out
    return inside(g, like, frame)


def inside(out, like, frame):
    """`out` without the border that `bordered` gave it."""
    if out.shape == like.shape:
        return out
    return out[..., *(slice(p, p + n) for p, n in zip(frame[2], like.shape[2:]))].copy()


@operator(vjp=(lambda g, y, x, **s: pool_spread(g, x, **s),))
def pool_sum(
    data,
    /,
    kernel=(),
    pool_type="sum",
    global_pool=False,
    pooling_convention="valid",
    stride=(),
    pad=(),
    count_include_pad=None,
    layout=None,
):
    """The sum of each window, or its mean with pool_type="avg"."""
    frame = pool_frame(data, kernel, stride, pad, global_pool, pooling_convention, layout)
    x = front(data, layout)
    count = counts(x, frame, pool_type, count_include_pad is not False)

    def some(x):
        y = added(x, frame)
        return y if pool_type != "avg" else (y / count).astype(y.dtype, copy=False)

    y = np.empty_like(x, shape=(*x.shape[:2], *frame[3]))
    return back(in_parts(some, y, x), layout)


@operator(vjp=(lambda h, y, g, x, **s: pool_sum(h, **s), None))
def pool_spread(
    data,
    like,
    /,
    kernel=(),
    pool_type="sum",
    global_pool=False,
    pooling_convention="valid",
    stride=(),
    pad=(),
    count_include_pad=None,
    layout=None,
):
    """Undo `pool_sum`: every number of `data` on its whole window, in the shape of `like`."""
    frame = pool_frame(like, kernel, stride, pad, global_pool, pooling_convention, layout)
    g, x = front(data, layout), front(like, layout)
    count = counts(x, frame, pool_type, count_include_pad is not False)
    g = (g / count).astype(g.dtype) if pool_type == "avg" else g
    if covers(x, frame):
        return back(g + np.zeros_like(x), layout)
    return back(in_parts(lambda *a: unpooled(*a, frame), np.empty_like(x), g, x), layout)


# --- Maxima ---------------------------------------------------------------------------------------


def lowest(dtype):
    """The least number of a type: the value of a window outside of all data, as in MXNet."""
    if dtype.kind == "V":  # bfloat16, of which np.finfo knows nothing
        return -np.inf
    return np.finfo(dtype).min if dtype.kind == "f" else np.iinfo(dtype).min


def largest(data, frame):
    """The maximum of each window."""
    if covers(data, frame):
        return data.max(axis=tuple(range(2, data.ndim)), keepdims=True)
    data = bordered(data, frame, lowest(data.dtype))
    if is_dense(data, frame):
        return slid(data, frame)
    for axis, (k, s, _, o) in enumerate(zip(*frame), 2):
        best = data[every(axis, 0, s, o)].copy()
        for i in range(1, k):
            np.maximum(best, data[every(axis, i, s, o)], out=best)
        data = best
    return data


def winners(data, frame):
    """For each tap in turn: its key, and where it is the first to have the maximum."""
    padded = bordered(data, frame, lowest(data.dtype))
    keys = [*taps(frame)]
    seen = [padded[key].copy() for key in keys]  # what is compared twice had better lie together
    best = functools.reduce(np.maximum, seen)
    free = np.ones_like(best, dtype=bool)
    for key, part in zip(keys, seen):
        won = part == best
        won &= free
        free ^= won
        yield key, won


def in_parts(function, out, *arrays):
    """Fill `out` with `function` of some pictures of the arrays at a time,
    on all cores if they are many.
    """
    n = len(out)
    if type(out) is not np.ndarray or out.size < MANY or n < 2:
        return function(*arrays)
    step = max(1, min(8 * MANY * n // out.size, -(-n // alone.threads)))

    def fill(at):
        out[at] = function(*[a[at] for a in arrays])

    spread(fill, [slice(i, i + step) for i in range(0, n, step)])
    return out


# --- Maxima of neighbours -------------------------------------------------------------------------


def is_dense(data, frame):
    """Whether windows overlap, so that neighbours are compared everywhere."""
    kernel, overlap = math.prod(frame[0]), any(s < k for k, s in zip(*frame[:2]))
    known = type(data) is np.ndarray and data.flags.c_contiguous and data.dtype.char in "fd"
    return known and overlap and math.prod(frame[1]) <= kernel < 1 << 15 and data.size > 0


def spaced(flat, data, frame):
    """The numbers of `flat`, one for each place of `data` from which a window starts,
    for all windows.
    """
    full = np.empty(data.size, flat.dtype)
    full[: flat.size] = flat
    return full.reshape(data.shape)[next(taps(frame))]


def slid(data, frame):
    """The maximum of each window of bordered `data`."""
    best, step = data.reshape(-1), 1
    for k, size in zip(frame[0][::-1], data.shape[:1:-1]):
        for _ in range(k - 1):
            best = np.maximum(best[:-step], best[step:])
        step *= size
    return spaced(best, data, frame).copy()


def first_places(data, frame):
    """The flat index of each window's first maximum in bordered `data`."""
    best, code, below, step, offsets = data, None, 1, 1, np.zeros(1, int)
    kind = "i1" if math.prod(frame[0]) < 128 else "i2"
    for axis, (k, s, _, o) in reversed(list(enumerate(zip(*frame), 2))):
        near = math.prod(best.shape[axis + 1 :])
        best, code = along(best, code, k, near, below, kind)
        if s > 1:  # the next axis need not look at what no window begins with
            best, code = (np.ascontiguousarray(a[every(axis, 0, s, o)]) for a in (best, code))
        offsets = (np.arange(k)[:, None] * step + offsets).reshape(-1)
        below, step = below * k, step * data.shape[axis]
    at = offsets[code[(..., *map(slice, frame[3]))]]
    at += np.arange(step).reshape(data.shape[2:])[next(taps(frame))]
    at += np.arange(0, data.size, step).reshape(*data.shape[:2], *[1] * len(frame[0]))
    return at


def along(best, code, k, near, below, kind):
    """The maximum of k neighbours `near` numbers apart, and codes that tell which was the first."""
    most, found = best.reshape(-1), None if code is None else code.reshape(-1)
    flat, codes = most, found
    for i in range(1, k):
        later = flat[i * near :]
        most = most[: later.size]
        won = (later > most).astype(kind)
        won *= won.dtype.type(i * below) if codes is None else codes[i * near :] + i * below
        most = np.maximum(most, later)
        found = won if found is None else np.maximum(found[: won.size], won)
    if found is None:  # a window of one number
        found = np.zeros(most.size, kind)
    return stretched(most, best.shape), stretched(found, best.shape)


def stretched(flat, shape):
    """The numbers of `flat` in a shape that holds more, which no window sees: zeros."""
    if flat.size == math.prod(shape):
        return flat.reshape(shape)
    out = np.empty(math.prod(shape), flat.dtype)
    out[: flat.size], out[flat.size :] = flat, 0
    return out.reshape(shape)


def put(g, data, frame):
    """The sum of the numbers of `g` whose window of bordered `data` has its first maximum there."""
    at = first_places(data, frame).reshape(-1)
    return np.bincount(at, g.reshape(-1), data.size).astype(data.dtype).reshape(data.shape)


def placed(g, x, frame):
    """Each number of `g` where its window of `x` has its first maximum."""
    padded = bordered(x, frame, lowest(x.dtype))
    if is_dense(padded, frame) and not np.isnan(x.max()):  # nan is nobody's maximum
        return inside(put(g, padded, frame), x, frame)
    out = bordered(np.zeros_like(x), frame, 0)
    disjoint = all(s >= k for k, s in zip(frame[0], frame[1]))
    for key, won in winners(x, frame):
        if disjoint:
            np.multiply(g, won, out=out[key])
        else:
            out[key] += g * won
    return inside(out, x, frame)


def first_of_all(data):
    """A mask of the first maximum of each channel."""
    flat = data.reshape(*data.shape[:2], math.prod(data.shape[2:]))
    at = flat.argmax(axis=2)[..., None]
    return (np.arange(flat.shape[2], like=at) == at).reshape(data.shape)


@operator(vjp=(lambda h, y, g, x, **s: pool_pick(h, x, **s), None))
def pool_place(
    data,
    like,
    /,
    kernel=(),
    global_pool=False,
    pooling_convention="valid",
    stride=(),
    pad=(),
    layout=None,
):
    """Each number of `data` where the window of `like` has its first maximum: max pooling's gradient."""
    frame = pool_frame(like, kernel, stride, pad, global_pool, pooling_convention, layout)
    g, x = front(data, layout), front(like, layout)
    if covers(x, frame):
        return back(np.where(first_of_all(x), g, np.zeros_like(g)), layout)
    found = in_parts(lambda *a: placed(*a, frame), np.empty_like(x), g, x)
    return back(found, layout)


@operator(vjp=(lambda g, y, h, x, **s: pool_place(g, x, **s), None))
def pool_pick(
    data,
    like,
    /,
    kernel=(),
    global_pool=False,
    pooling_convention="valid",
    stride=(),
    pad=(),
    layout=None,
):
    """The number of `data` where each window of `like` has its first maximum."""
    frame = pool_frame(like, kernel, stride, pad, global_pool, pooling_convention, layout)
    h, x = front(data, layout), front(like, layout)
    if covers(x, frame):
        axes = tuple(range(2, x.ndim))
        return back((h * first_of_all(x)).sum(axis=axes, keepdims=True), layout)
    h, out = bordered(h, frame, 0), 0
    for key, won in winners(x, frame):
        out = out + h[key] * won
    return back(out, layout)


# --- The operator ---------------------------------------------------------------------------------


@operator
def Pooling(
    data,
    /,
    kernel=(),
    pool_type="max",
    global_pool=False,
    cudnn_off=False,
    pooling_convention="valid",
    stride=(),
    pad=(),
    p_value=None,
    count_include_pad=None,
    layout=None,
):
    """One number a window of `data`, (n, c, sizes…): its max, avg, sum, or lp, $(\\sum x^p)^{1/p}$.

    The window has a size for each spatial axis; global_pool=True makes it the whole picture.
    """
    settings = kernel, global_pool, pooling_convention, stride, pad, layout
    if pool_type == "max":
        frame = pool_frame(data, kernel, stride, pad, global_pool, pooling_convention, layout)
        x = front(data, layout)
        y = np.empty_like(x, shape=(*x.shape[:2], *frame[3]))
        return back(in_parts(lambda a: largest(a, frame), y, x), layout)
    if pool_type == "lp":
        return lp(data, p_value, settings)
    if pool_type not in ("avg", "sum"):
        raise MXNetError(f"unknown pool_type {pool_type!r}; known are max, avg, sum, lp")
    return pool_sum.kernel(
        data, kernel, pool_type, *settings[1:5], count_include_pad=count_include_pad, layout=layout
    )


Pooling.choices = {
    "pool_type": ("max", "avg", "sum", "lp"),
    "pooling_convention": ("valid", "full", "same"),
}


def lp(data, p, settings):
    """The root of the sum of powers."""
    if p not in (1, 2, 3):
        raise MXNetError(f"lp pooling needs p_value 1, 2 or 3, not {p}")
    kernel, *rest, layout = settings
    y = pool_sum.kernel(data**p if p > 1 else data, kernel, "sum", *rest, layout=layout)
    return {1: lambda: y, 2: lambda: np.sqrt(y), 3: lambda: np.cbrt(y)}[p]()


@Pooling.vjp
def _(g, y, x, pool_type, p_value, cudnn_off, count_include_pad, **settings):
    if pool_type == "max":
        return (pool_place(g, x, **settings),)
    if pool_type != "lp":
        include = count_include_pad
        return (pool_spread(g, x, pool_type=pool_type, count_include_pad=include, **settings),)
    if p_value == 1:
        return (pool_spread(g, x, **settings),)
    p = p_value - 1
    scale = power(y, p)  # 0 for a window of zeros, whose gradient is 0 here
    return (pool_spread(g / (scale + equal(scale, 0)), x, **settings) * power(x, p),)


@operator
def Pooling_v1(
    data,
    /,
    kernel=(),
    pool_type="max",
    global_pool=False,
    pooling_convention="valid",
    stride=(),
    pad=(),
):
    """`Pooling` as it was at first: a mean divides by the size of the window, wherever it lies."""
    settings = global_pool, False, pooling_convention, stride, pad
    if pool_type != "avg" or global_pool:
        return Pooling.kernel(data, kernel, pool_type, *settings)
    return Pooling.kernel(data, kernel, "sum", *settings) / math.prod(several(kernel))


@Pooling_v1.vjp
def _(g, y, x, kernel, pool_type, global_pool, **settings):
    same = {**Pooling.defaults, **settings, "kernel": kernel, "global_pool": global_pool}
    if pool_type != "avg" or global_pool:
        return Pooling.rules(g, y, x, **{**same, "pool_type": pool_type})
    return Pooling.rules(g / math.prod(several(kernel)), y, x, **{**same, "pool_type": "sum"})


# --- Enlarging ------------------------------------------------------------------------------------


def squares(data, factor):
    """Each number of (n, c, h, w) as a square of `factor` by `factor`."""
    return data.repeat(factor, axis=2).repeat(factor, axis=3)


@operator(vjp=(lambda g, y, x, like: upsample_back(g, x), None))
def upsample_like(data, like, /):
    """`data` with its numbers repeated until it is as high and wide as `like`."""
    return squares(data, like.shape[2] // data.shape[2])


@operator(vjp=(lambda h, y, g, like: upsample_like(h, g), None))
def upsample_back(data, like, /):
    """Undo `upsample_like`: sums of squares of `data`, as high and wide as `like`."""
    side = tuple(n // m for n, m in zip(data.shape[2:], like.shape[2:]))
    frame = side, side, (0, 0), like.shape[2:]
    out = np.empty_like(data, shape=(*data.shape[:2], *like.shape[2:]))
    return in_parts(lambda data: added(data, frame), out, data)


def bilinear(scale, num_filter):
    """The settings of the Deconvolution that enlarges `scale` times."""
    kernel, pad = 2 * scale - scale % 2, scale // 2
    settings = {"kernel": (kernel,) * 2, "stride": (scale,) * 2, "pad": (pad,) * 2}
    return {**settings, "num_group": num_filter}


@operator
def UpSampling(
    *data,
    scale,
    num_filter=0,
    sample_type,
    multi_input_mode="concat",
    num_args=1,
    workspace=512,
):
    """(n, c, h, w) to (n, c, h·scale, w·scale); further arrays grow to the same size.

    "nearest" repeats numbers, and joins several arrays' channels or sums them; "bilinear" takes data and
    a weight (num_filter, 1, k, k), k = 2·scale - scale % 2.
    """
    if sample_type == "bilinear":
        x, w = data
        return Deconvolution.kernel(x, w, num_filter=num_filter, **bilinear(scale, num_filter))
    if sample_type != "nearest" or multi_input_mode not in ("concat", "sum"):
        raise MXNetError(f"unknown sample_type {sample_type!r} or mode {multi_input_mode!r}")
    height = data[0].shape[2] * scale
    if any(x.ndim != 4 or height % x.shape[2] for x in data):
        raise MXNetError(f"heights of (n, c, h, w) must divide {height}: {[x.shape for x in data]}")
    grown = [squares(x, height // x.shape[2]) for x in data]
    if multi_input_mode == "sum":
        return grown[0] + sum(grown[1:]) if len(grown) > 1 else grown[0]
    return np.concatenate(grown, axis=1) if len(grown) > 1 else grown[0]


UpSampling.inputs = lambda sample_type=None, **_: (
    ["data", "weight"] if sample_type == "bilinear" else ["data"]
)
UpSampling.choices = {
    "sample_type": ("nearest", "bilinear"),
    "multi_input_mode": ("concat", "sum"),
}
UpSampling.initial = {"weight": '["bilinear", {}]'}


@UpSampling.shapes
def _(data, *more, scale, num_filter, sample_type, **_):
    size = 2 * scale - scale % 2
    return [data, (num_filter, 1, size, size)] if sample_type == "bilinear" else []


@UpSampling.vjp
def _(g, y, *data, scale, num_filter, sample_type, multi_input_mode, **_):
    if sample_type == "bilinear":
        (x, w), settings = data, bilinear(scale, num_filter)
        return deconv_data(g, w, x, **settings), deconv_weight(x, g, **settings)
    if multi_input_mode == "sum" or len(data) == 1:
        return tuple([upsample_back(g, x) for x in data])
    parts = split_like(g, *data, dim=1)
    return tuple([upsample_back(part, x) for part, x in zip(parts, data)])


# --- Local response -------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, nsize: near_sum(g, nsize=nsize),))
def near_sum(data, /, nsize):
    """The sum over the nearest channels, as many on both sides and at most `nsize`:
    it is its own adjoint.
    """
    half, out, c = (nsize - 1) // 2, data.copy(), data.shape[1]
    for by in range(1, min(half, c - 1) + 1):
        out[:, by:] += data[:, :-by]
        out[:, :-by] += data[:, by:]
    return out


@operator
def LRN(data, /, alpha=1e-4, beta=0.75, knorm=2.0, nsize=5):
    """$x\\,(k + \\frac{\\alpha}{n}\\sum x_j^2)^{-\\beta}$ over the `nsize` nearest channels of
    (n, c, h, w).
    """
    if data.ndim != 4 or nsize < 1:
        raise MXNetError(f"LRN needs (n, c, h, w) and a nsize from 1 on, not {data.shape}, {nsize}")
    return data * (knorm + alpha / nsize * near_sum.kernel(data * data, nsize)) ** -beta


@LRN.vjp
def _(g, y, x, alpha, beta, knorm, nsize):
    s = knorm + alpha / nsize * near_sum(x * x, nsize=nsize)
    far = near_sum(g * x * power(s, -beta - 1), nsize=nsize)
    return (g * power(s, -beta) - 2 * alpha * beta / nsize * x * far,)
