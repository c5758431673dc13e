"""A gradient that scatters becomes one that gathers, if each number asks which windows it was in."""

# Written from chapters/96b_window_kernels.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.kernels import STORED, Kernels, cuda, dense, stored
from minigluon.ops.pooling import Pooling, pool_frame, pool_place, pool_spread, pool_sum

__all__ = [
    "FRAME",
    "LARGEST",
    "MAXIMUM",
    "MEAN",
    "MEAN_INSIDE",
    "SUM",
    "framed",
    "kernels",
    "kind_of",
    "launch",
    "pooled",
    "spread",
    "windows",
]


# --- Windows without atomics ----------------------------------------------------------------------

MAXIMUM, SUM, MEAN, MEAN_INSIDE = range(4)
LARGEST = 256  # places of a window that one thread walks over
kernels = Kernels(
    "pooling",
    [f"{k}<{t}, {n}>" for k in ("pool", "pool_back") for t in STORED.values() for n in range(4)],
)
windows = {}  # sizes -> the same on the device


def kind_of(pool_type, include):
    """What the kernels call it."""
    if pool_type == "avg":
        return MEAN_INSIDE if include is False else MEAN
    return {"max": MAXIMUM, "sum": SUM}.get(pool_type)


def framed(x, settings):
    """The sizes of a picture, its window and the result; None where the kernels do not fit."""
    layout = settings["layout"]
    if x.ndim != 4 or layout not in (None, "NCHW") or not x.size or stored(x) is None:
        return None
    kernel, stride, pad, outs = pool_frame(x, *(settings[k] for k in FRAME))
    if min(outs) < 1 or math.prod(kernel) > LARGEST:
        return None
    sizes = *x.shape[2:], *kernel, *outs, *stride, *pad
    key = x.device.id, type(x), sizes
    if key not in windows:
        windows[key] = np.asarray(np.array(sizes, "int32"), like=x)
    return windows[key], outs


FRAME = "kernel", "stride", "pad", "global_pool", "pooling_convention", "layout"


def pooled(x, kind, settings):
    """Each window's maximum, sum or mean."""
    if kind is None or (found := framed(x, settings)) is None:
        return NotImplemented
    sizes, outs = found
    y = np.empty_like(x, shape=(*x.shape[:2], *outs))
    launch("pool", kind, y.size, dense(x), y, sizes)
    return y


def spread(g, x, kind, settings):
    """The gradient of `x` from that of the windows."""
    if kind is None or g.dtype != x.dtype or (found := framed(x, settings)) is None:
        return NotImplemented
    dx = np.empty_like(x, shape=x.shape)
    launch("pool_back", kind, dx.size, dense(g), dense(x), dx, found[0])
    return dx


def launch(name, kind, total, *arrays):
    """One thread a number, up to sixteen blocks on each of 132 multiprocessors."""
    blocks = min(-(-total // 256), 132 * 16)
    name = f"{name}<{stored(arrays[0])}, {kind}>"
    kernels(name, (blocks,), (256,), *arrays, np.int64(total))


@cuda(Pooling)
def _(data, pool_type, p_value, cudnn_off, count_include_pad, **settings):
    return pooled(data, kind_of(pool_type, count_include_pad), settings)


@cuda(pool_spread)
def _(data, like, pool_type, count_include_pad, **settings):
    return spread(data, like, kind_of(pool_type, count_include_pad), settings)


@cuda(pool_place)
def _(data, like, **settings):
    return spread(data, like, MAXIMUM, settings)


@cuda(pool_sum)
def _(data, pool_type, count_include_pad, **settings):
    return pooled(data, kind_of(pool_type, count_include_pad), settings)
