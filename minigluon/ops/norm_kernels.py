"""Two sums and a walk: layer, group, instance and batch normalization at the price of their bytes."""

# Written from chapters/94_norm_kernels.ipynb: edit the chapter, then run `minigluon export`.

import math
from functools import partial

import numpy as np

from minigluon.autograd import state
from minigluon.kernels import (
    MORE,
    SHARED,
    STORED,
    VECTORS,
    Kernels,
    cuda,
    dense,
    flag,
    row_launch,
    stored,
    width,
)
from minigluon.ops.normalization import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    batch_norm_backward,
    check_batch_norm,
    contrib_BatchNormWithReLU,
    contrib_SyncBatchNorm,
    in_groups,
    moved,
    norm_backward,
)
from minigluon.ops.reduce import axes

__all__ = [
    "BLOCKS",
    "BOTH",
    "NORMS",
    "apply",
    "back_launch",
    "batch",
    "channel_launch",
    "frame",
    "group",
    "instance",
    "kernels",
    "layer",
    "normalized",
    "rows_back",
    "rows_of",
    "shown",
    "single",
    "sums",
    "vector",
]


# --- Code: rows -----------------------------------------------------------------------------------

BOTH = "true", "false"
kernels = Kernels(
    "norm",
    [f"{k}<{t}, {v}, {b}>" for k in ("norm", "norm_back") for t, v in VECTORS for b in BOTH]
    + [f"{k}_sums<{t}, {b}>" for k in ("channel", "column") for t in STORED.values() for b in BOTH]
    + [f"batch_{k}<{t}>" for k in ("moments", "factors") for t in STORED.values()]
    + [f"batch_apply<{t}, {v}>" for t, v in VECTORS],
)


def single(a):
    """`a` in float32, contiguous."""
    return dense(a.astype("float32", copy=False))


def rows_of(data, axis):
    """Type, rows and columns where `axis`, and all behind it, make a row;
    None where kernels do not fit.
    """
    kind, cols = stored(data), math.prod(data.shape[axis:])
    return None if kind is None or not data.size else (kind, data.size // cols, cols)


def normalized(data, gamma, beta, axis, columns, eps):
    """y, m and r of the rows from `axis` on; m and r of float32, one a row."""
    kind, rows, cols = rows_of(data, axis)
    x = dense(data)
    y = np.empty_like(x)
    m, r = (np.empty_like(x, dtype="float32", shape=(rows,)) for _ in "mr")
    gamma, beta = single(gamma), single(beta)
    v = width(kind, cols, x, y, gamma, beta)
    grid, block = row_launch(rows, cols // v)
    room = cols * x.itemsize * (block[1] if len(block) > 1 else 1)
    room = room if room <= MORE else 0
    sizes = (
        np.int64(rows),
        np.int32(cols),
        np.int32(gamma.size),
        np.float32(eps),
        np.int32(room > 0),
    )
    args = x, gamma, beta, y, m, r, *sizes
    kernels(f"norm<{kind}, {v}, {flag(columns)}>", grid, block, *args, shared=room)
    return y, m, r


def layer(normalized, data, gamma, beta, *, axis, eps, output_mean_var):
    """`LayerNorm` by a function that normalizes rows."""
    last = data.ndim - 1
    if (
        axis not in (-1, last)
        or rows_of(data, last) is None
        or not gamma.size == beta.size == data.shape[-1]
    ):
        return NotImplemented
    y, m, r = normalized(data, gamma, beta, last, True, eps)
    m, r = (a.reshape(*data.shape[:-1], 1) for a in (m, r))
    return y, *shown(data, m, r, output_mean_var), m, r


def shown(data, m, r, wanted):
    """Mean and deviation in the type of `data`, if they are `wanted`;
    else what stands in their places, which costs no launch.
    """
    return (m.astype(data.dtype), (1 / r).astype(data.dtype)) if wanted else (m, r)


def instance(normalized, data, gamma, beta, *, eps):
    """`InstanceNorm` by a function that normalizes rows."""
    if data.ndim < 3 or rows_of(data, 2) is None or not gamma.size == beta.size == data.shape[1]:
        return NotImplemented
    y, m, r = normalized(data, gamma, beta, 2, False, eps)
    ones = (1,) * (data.ndim - 2)
    return y, m.reshape(*data.shape[:2], *ones), r.reshape(*data.shape[:2], *ones)


def group(normalized, data, gamma, beta, *, num_groups, eps, output_mean_var):
    """`GroupNorm` by a function that normalizes rows."""
    fits = data.ndim >= 3 and num_groups > 0 and data.shape[1] % num_groups == 0
    if (
        not fits
        or stored(data) is None
        or not data.size
        or not gamma.size == beta.size == num_groups
    ):
        return NotImplemented
    flat = data.shape[0], num_groups
    y, m, r = normalized(data.reshape(*flat, -1), gamma, beta, 2, False, eps)
    m, r = m.reshape(*flat, 1), r.reshape(*flat, 1)
    seen = (a.reshape(flat) for a in shown(data, m, r, output_mean_var))
    return y.reshape(data.shape), *seen, m, r


NORMS = {LayerNorm: layer, InstanceNorm: instance, GroupNorm: group}
for op, function in NORMS.items():
    cuda(op)(partial(function, normalized))


# two on each of an H200's 132 multiprocessors: each adds to the sums that are left over
BLOCKS = 264


def rows_back(data, inputs, axis, exclude, along, num_groups):
    """Whether γ belongs to the columns, type, rows and columns of a normalization of rows;
    None if it is another one.
    """
    inputs = in_groups(inputs, num_groups)
    over, last = axes(inputs, axis, exclude), inputs.ndim - 1
    columns = over == (last,) and along in (-1, last)
    if not columns and not (over == tuple(range(2, last + 1)) and along == 1):
        return None
    found = rows_of(inputs, over[0])
    return None if found is None or data.dtype != inputs.dtype else (columns, *found)


@cuda(norm_backward)
def _(data, inputs, gamma, mean, scale, axis, exclude, along, eps, split, num_groups):
    found = rows_back(data, inputs, axis, exclude, along, num_groups)
    if found is None or 8 * found[-1] * found[0] > MORE:
        return NotImplemented
    (columns, kind, rows, cols), g, x, gain = found, dense(data), dense(inputs), single(gamma)
    dx = np.empty_like(x)
    v = width(kind, cols, g, x, dx, gain)
    grid, block, room = back_launch(rows, cols, cols // v, columns)
    count = grid[0] * (block[1] if len(block) > 1 else 1) if columns else rows
    shares = (count, cols) if columns else (rows // gamma.size, gamma.size)
    by_gamma, by_beta = (np.empty_like(x, dtype="float32", shape=shares) for _ in "gb")
    sizes = np.int64(rows), np.int32(cols), np.int32(gamma.size)
    args = g, x, gain, single(mean), single(scale), dx, by_gamma, by_beta, *sizes
    kernels(f"norm_back<{kind}, {v}, {flag(columns)}>", grid, block, *args, shared=room)
    return dx, *(a.sum(axis=0).astype(gamma.dtype, copy=False) for a in (by_gamma, by_beta))


def back_launch(rows, cols, packs, columns):
    """Grid, block and shared memory of the gradient."""
    if packs > 128:
        block = (256 if packs <= 1024 else 512,)
        return (min(rows, BLOCKS) if columns else rows,), block, 8 * cols * columns
    y = 4 if 8 * cols * 4 <= SHARED else 1
    grid = -(-rows // y)
    return (min(grid, BLOCKS) if columns else grid,), (32, y), 8 * cols * y * columns


# --- Code: channels -------------------------------------------------------------------------------


def channel_launch(n, c, l):
    """The kernel's start of name, grid and block of the sums; as many splits as fill the card."""
    if l == 1:
        splits = max(1, min(-(-n // 64), 1056 // -(-c // 32)))
        return "column", (-(-c // 32), splits), (32, 8)
    splits = max(1, min(-(-n * l // 2048), 1056 // c))
    return "channel", (c, splits), (256,)


def frame(data, axis):
    """The sizes before, along and behind the channels."""
    return math.prod(data.shape[:axis]), data.shape[axis], math.prod(data.shape[axis + 1 :])


def vector(like, size):
    """Unwritten memory for a number a channel."""
    return np.empty_like(like, dtype="float32", shape=(size,))


def sums(g, x, m, r, kind, n, c, l):
    """The two sums of each channel, in splits."""
    name, grid, block = channel_launch(n, c, l)
    part = vector(x, 2 * grid[1] * c)
    sizes = (np.int32(n), np.int32(c)) + ((np.int32(l),) if name == "channel" else ())
    kernels(f"{name}_sums<{kind}, {flag(g is not None)}>", grid, block, g, x, m, r, part, *sizes)
    return part, np.int32(grid[1])


def apply(g, x, f, s, m, o, kind, c, l):
    """`f g + s (x - m) + o`, the vectors having a number a channel."""
    y = np.empty_like(x)
    v = width(kind, l if l > 1 else c, *[a for a in (g, x, y) if a is not None])
    grid = (min(-(-x.size // (256 * v)), 132 * 16),)
    args = g, x, f, s, m, o, y, np.int64(x.size), np.int32(c), np.int32(l)
    kernels(f"batch_apply<{kind}, {v}>", grid, (256,), *args)
    return y


def batch(data, gamma, beta, moving_mean, moving_var, eps, fix_gamma, fixed, axis):
    """What `batch_normalized` gives, on a GPU."""
    states = {"moving_mean": moving_mean, "moving_var": moving_var}
    axis = check_batch_norm(data, axis, gamma=gamma, beta=beta, **states)
    kind = stored(data)
    if kind is None or not data.size:
        return NotImplemented
    if fix_gamma:
        gamma[...] = 1
    (n, c, l), x, training = frame(data, axis), dense(data), state.training and not fixed
    if training:
        m, r, v = (vector(x, c) for _ in "mrv")
        part, splits = sums(None, x, None, None, kind, n, c, l)
        sizes = splits, np.int32(c), np.int32(l), np.float32(n * l), np.float32(eps)
        kernels(f"batch_moments<{kind}>", (-(-c // 256),), (256,), x, part, m, r, v, *sizes)
    else:
        m, v = single(moving_mean), single(moving_var)
        r = 1 / np.sqrt(v + np.float32(eps))
    y = apply(None, x, None, single(gamma) * r, m, single(beta), kind, c, l)
    m, r, v = (a.astype(moving_mean.dtype, copy=not training) for a in (m, r, v))
    return y, m, r, v, np.full_like(moving_mean, training, shape=1)


@cuda(BatchNorm)
def _(*arrays, eps, fix_gamma, use_global_stats, axis, **_):
    return batch(*arrays, eps, fix_gamma, use_global_stats, axis)


@cuda(contrib_SyncBatchNorm)
def _(*arrays, eps, fix_gamma, use_global_stats, **_):
    return batch(*arrays, eps, fix_gamma, use_global_stats, 1)


@cuda(contrib_BatchNormWithReLU)
def _(*arrays, eps, fix_gamma, use_global_stats, axis, **_):
    found = batch(*arrays, eps, fix_gamma, use_global_stats, axis)
    return found if found is NotImplemented else (np.maximum(found[0], 0), *found[1:])


@cuda(batch_norm_backward)
def _(
    data,
    inputs,
    gamma,
    moving_mean,
    moving_var,
    mean,
    scale,
    var,
    mode,
    eps,
    momentum,
    fix_gamma,
    axis,
):
    axis = check_batch_norm(inputs, axis, gamma=gamma, mean=mean, scale=scale)
    kind = stored(data, inputs)
    if kind is None or not inputs.size:
        return NotImplemented
    if state.training:
        moved(moving_mean, mean, momentum, mode)
        moved(moving_var, var, momentum, mode)
    (n, c, l), g, x = frame(inputs, axis), dense(data), dense(inputs)
    gain = single(np.ones_like(gamma) if fix_gamma else gamma)
    m, r = single(mean), single(scale)
    part, splits = sums(g, x, m, r, kind, n, c, l)
    by_gamma, by_beta, f, s, o = (vector(x, c) for _ in "gbfso")
    args = part, gain, r, single(mode), by_gamma, by_beta, f, s, o, splits, np.int32(c)
    kernels(f"batch_factors<{kind}>", (-(-c // 256),), (256,), *args, np.float32(n * l))
    dx = apply(g, x, f, s, m, o, kind, c, l)
    return dx, *(a.astype(gamma.dtype, copy=False) for a in (by_gamma, by_beta))
