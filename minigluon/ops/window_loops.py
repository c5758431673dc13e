"""Laid out well, what one number of a window sees in all places is a run of memory, whatever the stride and the border."""

# Written from chapters/96k_window_loops.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.autograd import state
from minigluon.kernels import dense
from minigluon.native import Loops, native
from minigluon.ops import product_loops as helpers
from minigluon.ops.convolution import Convolution, conv_data, conv_weight, geometry, is_last
from minigluon.ops.normalization import (
    LONG,
    BatchNorm,
    batch_norm_backward,
    check_batch_norm,
    moved,
)
from minigluon.ops.pieces import places
from minigluon.ops.pooling import (
    Pooling,
    counts,
    covers,
    pool_frame,
    pool_place,
    pool_spread,
    pool_sum,
)

__all__ = [
    "ENOUGH",
    "MANY",
    "MANY_PLACED",
    "channels_of",
    "cores",
    "fits_all",
    "frame_of",
    "loops",
    "planes",
    "share",
    "walk",
    "walk_channels",
]


# --- Code: who takes them -------------------------------------------------------------------------

loops = Loops("windows")
ENOUGH = 1 << 16  # numbers of the pictures from which a second core pays


def walk(name, shape, frame, *arrays):
    """Call a loop on all channels of pictures of a `shape`, whose windows are told by kernel,
    stride, pad and results.
    """
    kernel, stride, pad, outs = frame
    numbers = np.array([*shape, *outs, *kernel, *stride, *pad], "int64")
    loops(name, helpers.share(), cores(math.prod(shape)), numbers, *arrays)


def cores(size):
    """How many threads share so many numbers."""
    return helpers.threads() if size >= ENOUGH else 1


def frame_of(like, kernel, stride, dilate, pad, layout, num_group, **_):
    """The frame of a convolution with one filter for each channel of `like`;
    None if it is none of these.
    """
    if num_group == 1 or like.ndim != 4 or like.shape[1] != num_group or is_last(layout):
        return None
    found = geometry(like, kernel, stride, dilate, pad, layout, num_group)
    kernel, stride, dilate, pad = found
    if max(dilate) > 1 or not loops:
        return None
    return kernel, stride, pad, places(like.shape[2:], *found)


def fits_all(frame, like, weight=None, results=None, bias=None):
    """Whether all arrays are of single precision, and have the shapes that belong to the frame."""
    n, c = like.shape[:2]
    shapes = (c, 1, *frame[0]), (n, c, *frame[3]), (c,)
    return math.prod((*like.shape, *frame[3])) and all(
        a is None or (a.dtype.char == "f" and a.shape == shape)
        for a, shape in zip((weight, results, bias), shapes)
    )


@native(Convolution)
def _(data, weight, bias=None, *, num_filter, no_bias, **settings):
    if (frame := frame_of(data, **settings)) is None or (bias is None and not no_bias):
        return NotImplemented
    if not fits_all(frame, data, weight, bias=bias) or num_filter not in (0, len(weight)):
        return NotImplemented
    y = np.empty(data.shape[:2] + frame[3], data.dtype)
    bias = None if bias is None else dense(bias)
    walk("windows", data.shape, frame, dense(data), dense(weight), bias, y)
    return y


@native(conv_data)
def _(data, weight, like, **settings):
    if (frame := frame_of(like, **settings)) is None or not fits_all(frame, like, weight, data):
        return NotImplemented
    out = np.empty(like.shape, data.dtype)
    walk("windows_data", like.shape, frame, dense(data), dense(weight), out)
    return out


@native(conv_weight)
def _(data, inputs, **settings):
    frame = frame_of(inputs, **settings)
    if frame is None or not fits_all(frame, inputs, results=data) or inputs.dtype.char != "f":
        return NotImplemented
    out = np.empty((data.shape[1], 1, *frame[0]), data.dtype)
    walk("windows_weight", inputs.shape, frame, dense(data), dense(inputs), out)
    return out


MANY = 64  # numbers of a window from which NumPy, which adds rows before columns, is faster
MANY_PLACED = 16  # and in maximum's gradient


def planes(like, most, g=None, *, kernel, global_pool, pooling_convention, stride, pad, layout):
    """The frame of pooling `like` and its shape as planes; None where it is not for loops."""
    if like.ndim != 4 or is_last(layout) or not like.size or like.dtype.char != "f":
        return None
    frame = pool_frame(like, kernel, stride, pad, global_pool, pooling_convention, layout)
    if covers(like, frame) or math.prod(frame[0]) > most or not loops:
        return None
    if g is not None and (g.dtype.char != "f" or g.shape != like.shape[:2] + frame[3]):
        return None
    return frame, (1, math.prod(like.shape[:2]), *like.shape[2:])


def share(like, frame, pool_type, include):
    """A filter that adds up, or averages, for each plane, and what is left to divide by
    where windows differ.
    """
    count = counts(like, frame, pool_type, include is not False)
    equal = isinstance(count, int)
    shape = math.prod(like.shape[:2]), *frame[0]
    return np.full(shape, 1 / count if equal else 1, like.dtype), None if equal else count


@native(pool_sum)
def _(data, pool_type, count_include_pad, **settings):
    if (found := planes(data, MANY, **settings)) is None:
        return NotImplemented
    frame, shape = found
    weight, count = share(data, frame, pool_type, count_include_pad)
    y = np.empty(data.shape[:2] + frame[3], data.dtype)
    walk("windows", shape, frame, dense(data), weight, None, y)
    return y if count is None else np.divide(y, count, out=y)


@native(pool_spread)
def _(data, like, pool_type, count_include_pad, **settings):
    if (found := planes(like, MANY, data, **settings)) is None:
        return NotImplemented
    frame, shape = found
    weight, count = share(like, frame, pool_type, count_include_pad)
    g = dense(data) if count is None else data / count
    out = np.empty(like.shape, data.dtype)
    walk("windows_data", shape, frame, g, weight, out)
    return out


@native(Pooling)
def _(data, pool_type, cudnn_off, p_value, count_include_pad, **settings):
    if pool_type in ("avg", "sum"):
        given = {**settings, "pool_type": pool_type, "count_include_pad": count_include_pad}
        return pool_sum.kernel(data, **given)
    found = planes(data, MANY, **settings) if pool_type == "max" else None
    if found is None:
        return NotImplemented
    frame, shape = found
    y = np.empty(data.shape[:2] + frame[3], data.dtype)
    walk("maxima", shape, frame, dense(data), y)
    return y


@native(pool_place)
def _(data, like, **settings):
    if (found := planes(like, MANY_PLACED, data, **settings)) is None:
        return NotImplemented
    frame, shape = found
    out = np.empty(like.shape, data.dtype)
    walk("maxima_data", shape, frame, dense(data), dense(like), out)
    return out


# --- Code: between the windows --------------------------------------------------------------------


def channels_of(x, axis, **vectors):
    """x as (before, channels, after); None where runs are short, or not all is of single precision."""
    axis = check_batch_norm(x, axis, **vectors)
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    single = all(a.dtype.char == "f" for a in (x, *vectors.values()))
    return (before, x.shape[axis], after) if single and after >= LONG and x.size and loops else None


def walk_channels(name, sizes, *arrays):
    """Call a loop on all channels, on all cores if there is enough to do."""
    loops(name, helpers.share(), cores(math.prod(sizes)), *sizes, *arrays)


@native(BatchNorm)
def _(data, gamma, beta, moving_mean, moving_var, *, eps, fix_gamma, use_global_stats, axis, **_):
    vectors = {"gamma": gamma, "beta": beta, "moving_mean": moving_mean, "moving_var": moving_var}
    if (sizes := channels_of(data, axis, **vectors)) is None:
        return NotImplemented
    if fix_gamma:
        gamma[...] = 1
    y = np.empty(data.shape, data.dtype)
    if use_global_stats or not state.training:
        scale = 1 / np.sqrt(moving_var + np.float32(eps))
        gain = gamma * scale
        walk_channels("scaled", sizes, dense(data), gain, beta - moving_mean * gain, y)
        return y, moving_mean.copy(), scale, moving_var.copy(), np.zeros_like(gamma, shape=1)
    found = [np.empty_like(gamma) for _ in range(3)]
    given = dense(data), dense(gamma), dense(beta)
    walk_channels("channels", sizes, float(eps), *given, y, *found)
    return y, *found, np.ones_like(gamma, shape=1)


@native(batch_norm_backward)
def _(data, inputs, gamma, moving_mean, moving_var, mean, scale, var, mode, **settings):
    vectors = {"gamma": gamma, "mean": mean, "scale": scale}
    sizes = channels_of(inputs, settings["axis"], **vectors)
    if sizes is None or data.shape != inputs.shape:
        return NotImplemented
    if state.training:
        moved(moving_mean, mean, settings["momentum"], mode)
        moved(moving_var, var, settings["momentum"], mode)
    gain = np.ones_like(gamma) if settings["fix_gamma"] else dense(gamma)
    dx, found = np.empty(inputs.shape, inputs.dtype), [np.empty_like(gamma) for _ in range(2)]
    given = dense(data), dense(inputs), gain, dense(mean), dense(scale)
    walk_channels("channels_back", sizes, float(mode[0]), *given, dx, *found)
    return dx, *found
