"""Four layers that keep numbers in a good range are one formula over four sets of axes."""

# Written from chapters/43_normalization.ipynb: edit the chapter, then run `minigluon export`.

import math
from functools import update_wrapper

import numpy as np

from minigluon.autograd import ones_like, state
from minigluon.cores import alone, spread
from minigluon.op import operator, operators
from minigluon.ops.convolution import Convolution, is_last
from minigluon.ops.elementwise import cast_like, greater
from minigluon.ops.reduce import axes, broadcast_along, mean, one_axis, sum
from minigluon.ops.shape import reshape, reshape_like, several

__all__ = [
    "BLOCK",
    "BatchNorm",
    "FAR",
    "FEW",
    "GroupNorm",
    "InstanceNorm",
    "LONG",
    "LayerNorm",
    "SHARE",
    "STATES",
    "are_rows",
    "averaged",
    "batch_norm_backward",
    "batch_norm_rule",
    "batch_norm_shapes",
    "batch_normalized",
    "blocks",
    "by_channel",
    "channel_shapes",
    "check_batch_norm",
    "complement",
    "contrib_BatchNormWithReLU",
    "contrib_SyncBatchNorm",
    "dotted",
    "each_block",
    "grouped",
    "halves",
    "in_groups",
    "in_use",
    "is_scalable",
    "kept",
    "leading",
    "moved",
    "named",
    "norm_backward",
    "normalize",
    "normalize_block",
    "normalize_channels",
    "normalize_rows",
    "normalized_convolution",
    "part",
    "pull_block",
    "pull_channels",
    "pull_rows",
    "pulled",
    "require_floats",
    "require_sizes",
    "revealing",
    "scaled_into",
    "size_along",
    "sums_of",
    "twice",
    "wide",
    "with_convolution",
]


# --- Groups ---------------------------------------------------------------------------------------


def kept(a, data, along):
    """An array with one number for each index of the axis `along`, in a shape that fits `data`."""
    return a.reshape([-1 if i == along else 1 for i in range(data.ndim)])


def wide(x):
    """Floating-point numbers of half precision, which have two bytes, as single precision,
    others as they are.
    """
    return x.astype("float32") if x.dtype.itemsize == 2 else x  # to ask for a name takes 3 µs


def require_floats(data):
    """Refuse integers, which have no room for a normal distribution."""
    if data.dtype.kind not in "fV":
        raise TypeError(f"only floating-point numbers can be normalized, not {data.dtype}")


def require_sizes(size, **arrays):
    """Refuse parameters that have not one number for each of `size` channels."""
    for name, a in arrays.items():
        if a.shape != (size,):
            raise ValueError(f"{name} needs the shape {(size,)}, this one has {a.shape}")


# --- A block at a time ----------------------------------------------------------------------------

# numbers in a block at most: with smaller ones threads wait for Python's lock more often
BLOCK = 1 << 19
SHARE = 1 << 17  # numbers that are worth a thread


def blocks(data, axis):
    """Slices along `axis` that cover `data`, each of at most BLOCK numbers, and one for each thread."""
    if axis >= data.ndim:  # one vector
        return [(slice(None),)]
    n = data.shape[axis]
    size = min(BLOCK, max(SHARE, -(-data.size // alone.threads)))
    step = max(1, -(-size * n // data.size)) if data.size else 1
    if type(data) is not np.ndarray or n <= step:
        return [(slice(None),)]
    return [(slice(None),) * axis + (slice(i, i + step),) for i in range(0, n, step)]


def each_block(function, data, axis):
    """What `function` returns for each of the blocks, which all cores share
    if there are many numbers.
    """
    found = blocks(data, axis)
    return spread(function, found) if len(found) > 1 else [function(found[0])]


def part(a, block):
    """The part of `a` that belongs to a block; an array that is the same
    for all blocks has size 1 there.
    """
    axis = len(block) - 1
    return a if a.shape[axis] == 1 else a[block]


# --- Forwards -------------------------------------------------------------------------------------


def normalize(x, gamma, beta, over, eps, split):
    """y, m, v and r: the whole layer in one walk; γ and β in shapes that broadcast."""
    out = np.empty_like(x)
    found = each_block(lambda at: normalize_block(x, gamma, beta, over, eps, out, at), x, split)
    if len(found) == 1:
        return out, *found[0]
    return out, *(np.concatenate(parts, axis=split) for parts in zip(*found))


def leading(a, kept_axes):
    """Whether the axes that stay are the first ones, and BLAS can add up the others of `a`."""
    count = len(kept_axes)
    known = type(a) is np.ndarray and a.flags.c_contiguous and a.size and a.dtype.char in "fd"
    return known and kept_axes == tuple(range(count)) and count < a.ndim


def averaged(a, over):
    """The mean over some axes, which get the size 1: a product with ones where that can be."""
    stay = complement(over, a.ndim)
    if not leading(a, stay):
        return a.mean(axis=over, keepdims=True)
    sums = a.reshape(*a.shape[: len(stay)], -1)
    sums = sums @ np.full(sums.shape[-1], 1 / sums.shape[-1], a.dtype)
    return sums.reshape(*sums.shape, *[1] * len(over))


def dotted(a, b, kept_axes):
    """The sums of a b over all axes but some, which stay; no array of products is made."""
    if leading(a, kept_axes) and leading(b, kept_axes):
        flat = *a.shape[: len(kept_axes)], -1
        sums = np.vecdot(a.reshape(flat), b.reshape(flat))
        return sums.reshape(*sums.shape, *[1] * (a.ndim - len(kept_axes)))
    if type(a) is not np.ndarray or a.ndim > 8:
        over = tuple(i for i in range(a.ndim) if i not in kept_axes)
        return (a * b).sum(axis=over, keepdims=True)
    letters = "abcdefgh"[: a.ndim]
    stay = "".join(letters[i] for i in kept_axes)
    sums = np.einsum(f"{letters},{letters}->{stay}", a, b)
    return sums.reshape([n if i in kept_axes else 1 for i, n in enumerate(a.shape)])


def complement(axes, ndim):
    """The axes that are not among `axes`."""
    return tuple(i for i in range(ndim) if i not in axes)


def normalize_block(x, gamma, beta, over, eps, out, at):
    """Fill one block of `out`; return its m, v and r."""
    a, y = wide(x[at]), out[at]
    m = averaged(a, over)
    centred = np.subtract(a, m, out=y if y.dtype == a.dtype else None)
    v = dotted(centred, centred, complement(over, x.ndim))
    v /= centred.size // max(v.size, 1)
    r = 1 / np.sqrt(v + eps)
    gain = part(gamma, at)
    if gain.shape == r.shape:
        centred *= r * gain
    else:
        centred *= r
        centred *= gain
    np.add(centred, part(beta, at), out=y, casting="same_kind")
    return m, v, r


# --- Backwards ------------------------------------------------------------------------------------


def pull_block(g, x, gamma, m, r, over, others, t, out, at):
    """Fill one block of the gradient `out` of x; return the shares of γ and β."""
    if are_rows(g, x, gamma, m, r, over):
        return pull_rows(g[at], x[at], gamma, m[at], r[at], out[at])
    g, xhat = wide(g[at]), wide(x[at]) - part(m, at)
    r, gain = part(r, at), part(gamma, at)
    xhat *= r
    by_beta = g.sum(axis=others, keepdims=True)
    by_gamma = dotted(g, xhat, complement(others, x.ndim))
    if over == others:  # batch normalization: E[h] and E[h x̂] are there already
        n = g.size // by_beta.size
        scale = (1 if t is None else t) / n
        xhat *= by_gamma * scale
        xhat += by_beta * scale
        np.subtract(g, xhat, out=xhat)
        np.multiply(xhat, r * gain, out=out[at], casting="same_kind")
    else:
        h = np.multiply(g, gain)
        along_xhat = dotted(h, xhat, complement(over, x.ndim))
        along_xhat /= h.size // max(along_xhat.size, 1)
        xhat *= along_xhat
        h -= averaged(h, over)
        h -= xhat
        np.multiply(h, r, out=out[at], casting="same_kind")
    return by_gamma, by_beta


def are_rows(g, x, gamma, m, r, over):
    """Whether each row of NumPy's numbers of one type, along the last axis, is a group,
    and has all of γ.
    """
    arrays = (g, x, gamma, m, r)
    if any(type(a) is not np.ndarray or a.dtype is not g.dtype for a in arrays):
        return False
    last = over == (x.ndim - 1,) and x.ndim > 1 and gamma.size == x.shape[-1] and x.size > 0
    return last and g.dtype.char in "fd" and g.flags.c_contiguous and x.flags.c_contiguous


def pull_rows(g, x, gamma, m, r, out):
    """Fill the gradient `out` of x, where each row is a group; return those of γ and β."""
    n, shape = x.shape[-1], (1,) * (x.ndim - 1) + x.shape[-1:]
    g, x, out = g.reshape(-1, n), x.reshape(-1, n), out.reshape(-1, n)
    gamma, m, r = gamma.reshape(-1), m.reshape(-1, 1), r.reshape(-1)
    c = x - m
    p = np.multiply(g, c, out=out)
    by_gamma, by_beta = r @ p, np.ones(len(g), g.dtype) @ g
    rate, shift = (p @ gamma) * (r * r / n), (g @ gamma) / n
    c *= rate[:, None]
    c += shift[:, None]
    np.multiply(g, gamma, out=out)
    out -= c
    out *= r[:, None]
    return by_gamma.reshape(shape), by_beta.reshape(shape)


def pulled(g, x, gamma, m, r, over, along, split, t=None):
    """The gradients of x, γ and β; those of γ and β as vectors."""
    out, others = np.empty_like(x), tuple(i for i in range(x.ndim) if i != along)
    work = each_block(lambda at: pull_block(g, x, gamma, m, r, over, others, t, out, at), x, split)
    by_gamma, by_beta = work[0]
    if len(work) > 1:
        by_gamma, by_beta = (np.concatenate(parts, axis=split) for parts in zip(*work))
    if along != split < x.ndim:
        by_gamma, by_beta = (a.sum(axis=split) for a in (by_gamma, by_beta))
    return out, by_gamma.reshape(-1), by_beta.reshape(-1)


# --- A whole channel from two sums ----------------------------------------------------------------

FAR = 64  # (m/σ)² up to which a variance is taken from sums: six digits of seven are left at worst
LONG = 48  # numbers of a channel that lie together, from which a step for each is worth it


def by_channel(data, axis):
    """`data` as (before, channels, after), or None where sums had better be taken the plain way."""
    known = type(data) is np.ndarray and data.dtype.char in "fd" and data.flags.c_contiguous
    if not known or data.size < 2:
        return None
    before, after = math.prod(data.shape[:axis]), math.prod(data.shape[axis + 1 :])
    return data.reshape(before, data.shape[axis], after)


def halves(x):
    """Slices of the channels: one a thread, or where rows would become too short, all."""
    _, c, run = x.shape
    threads = min(alone.threads, x.size // SHARE, c)
    if threads < 2 or (run < LONG and c * run < 512 * threads):
        return [slice(0, c)]
    step = min(-(-c // threads), max(1, BLOCK * c // x.size))
    return [slice(i, i + step) for i in range(0, c, step)]


def sums_of(a, b):
    """The sums of a and of a b for each channel, in double precision."""
    n, c, run = a.shape
    if run < LONG:
        a, b = a.reshape(n, c * run), b.reshape(n, c * run)
        both = a.sum(0), np.einsum("ij,ij->j", a, b)
        return [s.reshape(c, run).sum(1, dtype="f8") for s in both]
    return (a @ np.ones(run, a.dtype)).sum(0, dtype="f8"), np.vecdot(a, b).sum(0, dtype="f8")


def scaled_into(out, x, factors, offsets=None):
    """`out` = `factors` x + `offsets`, with a number a channel; short channels as one long row."""
    n, c, run = x.shape
    if run < LONG:
        x, out = x.reshape(n, c * run), out.reshape(n, c * run)
    for f, a in ((np.multiply, factors), (np.add, offsets)):
        if a is not None:
            a = a.astype(x.dtype)
            f(x, np.repeat(a, run) if run < LONG else a[:, None], out=out)
        x = out


def normalize_channels(x, gamma, beta, eps):
    """y, m, v and r of x, (before, channels, after); None where sums would lose digits."""
    out, count = np.empty_like(x), x.shape[0] * x.shape[2]

    def fill(at):
        a = x[:, at]
        total, squares = sums_of(a, a)
        m = total / count
        v = squares / count - m * m
        if not (m * m <= FAR * v).all():
            return None
        r = 1 / np.sqrt(v + eps)
        gain = gamma[at] * r
        scaled_into(out[:, at], a, gain, beta[at] - m * gain)
        return m, v, r

    found = spread(fill, halves(x))
    return None if None in found else (out, *(np.concatenate(parts) for parts in zip(*found)))


def pull_channels(g, x, gain, m, r, t):
    """The gradients of x, γ and β from that of y, g, both (before, channels, after)."""
    out, count = np.empty_like(x), x.shape[0] * x.shape[2]

    def fill(at):
        h, a, centre, scale = g[:, at], x[:, at], m[at], r[at]
        by_beta, along_x = sums_of(h, a)
        by_gamma = scale * (along_x - centre * by_beta)
        A = scale * gain[at]
        B = -t / count * A * scale * by_gamma
        rest = np.empty(a.shape, a.dtype)
        scaled_into(rest, a, B, -t / count * A * by_beta - B * centre)
        scaled_into(out[:, at], h, A)
        out[:, at] += rest
        return by_gamma, by_beta

    parts = zip(*spread(fill, halves(x)))
    return out, *(np.concatenate(p).astype(x.dtype) for p in parts)


# --- Twice ----------------------------------------------------------------------------------------


def twice(h, g, x, gamma, centred, r, t, group, along):
    """Gradients of g, x and γ from the cotangents `h` of (∂x, ∂γ, ∂β); `group` tells the axes of E."""
    xhat = centred * r
    by_x, by_gamma, by_beta = h
    spread = {"axis": along, "exclude": True}
    gain, v, w = (broadcast_along(a, x, **spread) for a in (gamma, by_gamma, by_beta))

    def E(a):
        return mean(a, keepdims=True, **group)

    def P(a):
        return r * (a - t * (E(a) + xhat * E(a * xhat)))

    a, pu = g * gain, P(by_x)
    k = v * g - t * r * (by_x * E(a * xhat) + a * E(by_x * xhat))
    gx = P(k) - t * r * xhat * E(by_x * P(a))
    return gain * pu + v * xhat + w, gx, sum(g * pu, **spread)


@operator(same_dtype=False)
def norm_backward(
    data, inputs, gamma, mean, scale, /, axis=-1, exclude=False, along=-1, eps=1e-5, split=0,
    num_groups=None,
):  # fmt: skip
    """Gradients of a normalization's inputs, γ and β, from that of its output, `data`.

    `mean` and `scale`, 1/σ, of the groups over `axis`, or with `exclude` over all other axes; γ
    belongs to the axis `along`; groups are independent along the axis `split`. With `num_groups`
    the axes are those of (batch, num_groups, rest), as which both arrays are seen.
    """
    g, x = (in_groups(a, num_groups) for a in (data, inputs))
    over, along = axes(x, axis, exclude), one_axis(x, along)
    factor = kept(wide(gamma), x, along)
    dx, by_gamma, by_beta = pulled(g, x, factor, mean, scale, over, along, split)
    dx = dx if num_groups is None else dx.reshape(inputs.shape)
    return dx, by_gamma.astype(gamma.dtype), by_beta.astype(gamma.dtype)


def in_groups(data, num_groups):
    """An array as (batch, num_groups, rest); without groups as it is."""
    return data if num_groups is None else data.reshape(len(data), num_groups, -1)


norm_backward.outputs = 3


@norm_backward.vjp
def _(h, y, data, inputs, gamma, m, r, axis, exclude, along, eps, split, num_groups):
    g, x = data, inputs
    if num_groups is not None:
        h0, g, x = (reshape(a, shape=(0, num_groups, -1)) for a in (h[0], data, inputs))
        h = h0, *h[1:]
    group = {"axis": axis, "exclude": exclude}
    centred = x - mean(x, keepdims=True, **group)
    r = (mean(centred * centred, keepdims=True, **group) + eps) ** -0.5
    by_g, by_x, by_gamma = twice(h, g, x, gamma, centred, r, 1, group, along)
    return reshape_like(by_g, data), reshape_like(by_x, inputs), by_gamma, None, None


# --- How many outputs are shown -------------------------------------------------------------------


def revealing(op, seen=3):
    """Let `output_mean_var=True` show `seen` outputs of `op`, which otherwise shows one."""
    more = operator(op.kernel, vjp=op.rules, same_dtype=op.same_dtype, listed=False)
    more.inputs, more.outputs, more.infer = op.inputs, op.outputs, op.infer
    more.aliases, more.states = op.aliases, getattr(op, "states", {})
    more.visible, op.visible = seen, 1

    def call(*args, **settings):
        return (more if settings.get("output_mean_var") else op)(*args, **settings)

    update_wrapper(call, op)
    call.revealing = op, more
    for name in (op.name, *op.aliases):
        operators[name] = call
    return call


def named(*names):
    """What the outputs are called, with `output_mean_var` and without."""
    return lambda number, output_mean_var=False, **_: ["output", *names] if output_mean_var else 1


# --- Layer, group, instance -----------------------------------------------------------------------


def channel_shapes(data, size):
    """The shapes of data, γ and β."""
    return data, (size,), (size,)


def size_along(shape, axis):
    """The size along an axis; IndexError, which says the shape, if there is no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise IndexError(f"axis={axis} is no axis of data of shape {shape}")
    return shape[axis]


@operator(same_dtype=False)
def LayerNorm(data, gamma, beta, /, axis=-1, eps=1e-5, output_mean_var=False):
    """Each position normalized over one axis, then times γ plus β: Ba et al., 2016.

    gamma, beta: (size of `axis`,). With `output_mean_var` also mean and standard deviation.
    """
    require_floats(data)
    axis = one_axis(data, axis)
    require_sizes(data.shape[axis], gamma=gamma, beta=beta)
    plain = gamma.dtype is beta.dtype is data.dtype and data.dtype.char in "fd"
    if plain and 0 < data.size <= FEW and axis == data.ndim - 1:
        return normalize_rows(data, gamma, beta, eps)
    split = 1 if axis == 0 else 0  # a vector, which has no axis 1, is one block
    gain, offset = (kept(wide(a), data, axis) for a in (gamma, beta))
    y, m, v, r = normalize(data, gain, offset, (axis,), eps, split)
    return y, m.astype(data.dtype), np.sqrt(v + eps).astype(data.dtype), m, r


FEW = 1 << 12  # numbers of which the steps below take less time than the way to them


def normalize_rows(x, gamma, beta, eps):
    """`LayerNorm` of a few rows: no blocks, no threads, nothing to find out."""
    n = x.shape[-1]
    m = x.sum(-1, None, None, True)
    m /= n
    y = x - m
    v = np.square(y).sum(-1, None, None, True)
    v /= n
    v += eps
    deviation = np.sqrt(v, out=v)
    r = np.reciprocal(deviation)
    y *= r
    y *= gamma
    y += beta
    return y, m, deviation, m, r


LayerNorm.outputs = named("mean", "std")


@LayerNorm.vjp
def _(g, y, x, gamma, beta, axis, eps, output_mean_var):
    split = 1 if axis == 0 else 0
    return (
        *norm_backward(g[0], x, gamma, y[3], y[4], axis=axis, along=axis, eps=eps, split=split),
    )


@LayerNorm.shapes
def _(data, gamma, beta, axis, **_):
    return channel_shapes(data, size_along(data, axis))


LayerNorm = revealing(LayerNorm)


def grouped(data, gamma, beta, eps):
    """Each slice of the first two axes normalized; γ and β belong to the second one."""
    over = tuple(range(2, data.ndim))
    gain, offset = (kept(wide(a), data, 1) for a in (gamma, beta))
    return normalize(data, gain, offset, over, eps, 0)


@operator(same_dtype=False)
def InstanceNorm(data, gamma, beta, /, eps=1e-3):
    """Each channel of each sample normalized over its places: Ulyanov et al., 2016.

    data: (batch, channels, …), at least 3 axes; gamma, beta: (channels,).
    """
    require_floats(data)
    if data.ndim < 3:
        raise ValueError(f"data needs at least 3 axes, this has shape {data.shape}")
    require_sizes(data.shape[1], gamma=gamma, beta=beta)
    y, m, _, r = grouped(data, gamma, beta, eps)
    return y, m, r


InstanceNorm.visible = InstanceNorm.outputs = 1


@InstanceNorm.vjp
def _(g, y, x, gamma, beta, eps):
    return (
        *norm_backward(g[0], x, gamma, y[1], y[2], axis=(0, 1), exclude=True, along=1, eps=eps),
    )


@InstanceNorm.shapes
def _(data, gamma, beta, **_):
    return channel_shapes(data, size_along(data, 1))


@operator(same_dtype=False)
def GroupNorm(data, gamma, beta, /, num_groups=1, eps=1e-5, output_mean_var=False):
    """Each group of channels of each sample normalized: Wu and He, 2018.

    data: (batch, channels, …); gamma, beta: (num_groups,). With `output_mean_var` also mean and
    standard deviation, (batch, num_groups).
    """
    require_floats(data)
    if data.ndim < 3 or num_groups < 1 or data.shape[1] % num_groups:
        raise ValueError(
            f"the channels, axis 1 of at least 3, must be divisible into num_groups={num_groups}"
        )
    require_sizes(num_groups, gamma=gamma, beta=beta)
    pieces = in_groups(data, num_groups)
    y, m, v, r = grouped(pieces, gamma, beta, eps)
    flat = m.shape[:2]
    deviation = np.sqrt(v + eps).astype(data.dtype).reshape(flat)
    return y.reshape(data.shape), m.astype(data.dtype).reshape(flat), deviation, m, r


GroupNorm.outputs = named("mean", "std")


@GroupNorm.vjp
def _(g, y, x, gamma, beta, num_groups, eps, output_mean_var):
    settings = {"axis": 2, "along": 1, "eps": eps, "num_groups": num_groups}
    return (*norm_backward(g[0], x, gamma, y[3], y[4], **settings),)


@GroupNorm.shapes
def _(data, gamma, beta, num_groups, **_):
    return channel_shapes(data, num_groups)


GroupNorm = revealing(GroupNorm)


# --- Batch normalization --------------------------------------------------------------------------


def check_batch_norm(data, axis, **arrays):
    """The channel axis, counted from the front; refuse arrays that do not fit it."""
    require_floats(data)
    axis = one_axis(data, axis)
    require_sizes(data.shape[axis], **arrays)
    return axis


def batch_normalized(data, gamma, beta, moving_mean, moving_var, eps, fix_gamma, fixed, axis):
    """y, mean, 1/σ, variance and mode of batch normalization; `fixed` takes the running statistics."""
    states = {"moving_mean": moving_mean, "moving_var": moving_var}
    axis = check_batch_norm(data, axis, gamma=gamma, beta=beta, **states)
    if fix_gamma:
        gamma[...] = 1  # as MXNet: a parameter that is not learnt is not left at another value
    gain, offset = (kept(wide(a), data, axis) for a in (gamma, beta))
    if state.training and not fixed:
        x = by_channel(data, axis)
        found = None if x is None else normalize_channels(x, gamma, beta, eps)
        if found is None:
            over = tuple(i for i in range(data.ndim) if i != axis)
            found = normalize(data, gain, offset, over, eps, axis)
        y, m, v, r = found
        m, v, r = (a.reshape(-1).astype(moving_mean.dtype) for a in (m, v, r))
        return y.reshape(data.shape), m, r, v, np.ones_like(moving_mean, shape=1)
    return *in_use(data, gain, offset, moving_mean, moving_var, eps, axis), np.zeros_like(
        moving_mean, shape=1
    )


def in_use(data, gain, offset, moving_mean, moving_var, eps, axis):
    """The same with the running statistics: y, mean, 1/σ, variance."""
    r = 1 / np.sqrt(moving_var + eps)
    gain = gain * kept(wide(r), data, axis)  # not in place: it may be γ itself
    offset = (offset - kept(wide(moving_mean), data, axis) * gain).astype(data.dtype)
    if (x := by_channel(data, axis)) is None:
        y = data * gain.astype(data.dtype)
        y += offset
    else:
        y, factors, offsets = np.empty_like(data), gain.reshape(-1), offset.reshape(-1)
        out = y.reshape(x.shape)
        spread(lambda at: scaled_into(out[:, at], x[:, at], factors[at], offsets[at]), halves(x))
    return y, moving_mean.copy(), r, moving_var.copy()


def moved(state_array, new, momentum, t):
    """Move a running statistic towards `new`, unless the switch `t` is 0."""
    state_array += ((1 - momentum) * t * (new - state_array)).astype(state_array.dtype)


@operator(same_dtype=False)
def batch_norm_backward(
    data,
    inputs,
    gamma,
    moving_mean,
    moving_var,
    mean,
    scale,
    var,
    mode,
    /,
    eps=1e-3,
    momentum=0.9,
    fix_gamma=True,
    axis=1,
):
    """Gradients of BatchNorm's data, γ and β from that of its output, `data`; moves the statistics.

    `mean`, `scale`, `var` and `mode` are what the forward pass has used.
    """
    axis = check_batch_norm(inputs, axis, gamma=gamma, mean=mean, scale=scale)
    if state.training:
        moved(moving_mean, mean, momentum, mode)
        moved(moving_var, var, momentum, mode)
    gain = np.ones_like(gamma) if fix_gamma else gamma
    x, m, r = by_channel(inputs, axis), wide(mean), wide(scale)
    if x is not None and data.flags.c_contiguous and ((m * r) ** 2 <= FAR).all():
        found = pull_channels(data.reshape(x.shape), x, wide(gain), m, r, wide(mode))
    else:
        over = tuple(i for i in range(inputs.ndim) if i != axis)
        gain, m, r = (kept(wide(a), inputs, axis) for a in (gain, m, r))
        found = pulled(data, inputs, gain, m, r, over, axis, axis, wide(mode))
    return found[0].reshape(inputs.shape), *(a.astype(gamma.dtype) for a in found[1:])


batch_norm_backward.outputs = 3


@batch_norm_backward.vjp
def _(h, y, g, x, gamma, mu, var, m, r, v, t, eps, momentum, fix_gamma, axis):
    group = {"axis": axis, "exclude": True}
    gain = ones_like(gamma) if fix_gamma else gamma
    gain, mu, var, t, *h = (cast_like(a, x) for a in (gain, mu, var, t, *h))
    mu, var = (broadcast_along(a, x, axis=axis, exclude=True) for a in (mu, var))
    centred = x - t * mean(x, keepdims=True, **group) - (1 - t) * mu
    variance = t * mean(centred * centred, keepdims=True, **group) + (1 - t) * var
    r = (variance + eps) ** -0.5
    by_g, by_x, by_gamma = twice(h, g, x, gain, centred, r, t, group, axis)
    by_gamma = None if fix_gamma else cast_like(by_gamma, gamma)
    return by_g, by_x, by_gamma, None, None, None, None, None, None


def batch_norm_rule(g, y, x, gamma, beta, mu, var, eps, momentum, fix_gamma, axis):
    """The gradients of BatchNorm's five arrays."""
    saved = y[1], y[2], y[3], y[4]
    settings = {"eps": eps, "momentum": momentum, "fix_gamma": fix_gamma, "axis": axis}
    dx, by_gamma, by_beta = batch_norm_backward(g, x, gamma, mu, var, *saved, **settings)
    return dx, None if fix_gamma else by_gamma, by_beta, None, None


# --- Four faces of it -----------------------------------------------------------------------------


@operator(same_dtype=False, aliases=("BatchNorm_v1",))
def BatchNorm(
    data,
    gamma,
    beta,
    moving_mean,
    moving_var,
    /,
    eps=1e-3,
    momentum=0.9,
    fix_gamma=True,
    use_global_stats=False,
    output_mean_var=False,
    axis=1,
    cudnn_off=False,
    min_calib_range=None,
    max_calib_range=None,
):
    """Each channel normalized over the batch and all places: Ioffe and Szegedy, 2015.

    gamma, beta, moving_mean, moving_var: (size of `axis`,). `fix_gamma` keeps γ at 1. With
    `output_mean_var` also the mean and 1/σ that were used.
    """
    arrays = data, gamma, beta, moving_mean, moving_var
    return batch_normalized(*arrays, eps, fix_gamma, use_global_stats, axis)


def batch_norm_shapes(data, *_, axis=1, **__):
    """Data, and four vectors with a number a channel."""
    return data, *[(size_along(data, axis),)] * 4


STATES = {"moving_mean": '["zero", {}]', "moving_var": '["one", {}]'}  # and their initializers


@BatchNorm.vjp
def _(g, y, x, gamma, beta, mu, var, eps, momentum, fix_gamma, axis, **_):
    return batch_norm_rule(g[0], y, x, gamma, beta, mu, var, eps, momentum, fix_gamma, axis)


BatchNorm.infer, BatchNorm.states = batch_norm_shapes, STATES
BatchNorm.outputs = named("mean", "var")
BatchNorm = revealing(BatchNorm)


@operator(same_dtype=False, aliases=("_contrib_BatchNormWithReLU",))
def contrib_BatchNormWithReLU(
    data,
    gamma,
    beta,
    moving_mean,
    moving_var,
    /,
    eps=1e-3,
    momentum=0.9,
    fix_gamma=True,
    use_global_stats=False,
    output_mean_var=False,
    axis=1,
    cudnn_off=False,
    min_calib_range=None,
    max_calib_range=None,
):
    """The positive part of `BatchNorm`."""
    arrays = data, gamma, beta, moving_mean, moving_var
    y, *saved = batch_normalized(*arrays, eps, fix_gamma, use_global_stats, axis)
    return np.maximum(y, 0), *saved


@contrib_BatchNormWithReLU.vjp
def _(g, y, x, gamma, beta, mu, var, eps, momentum, fix_gamma, axis, **_):
    arrays = x, gamma, beta, mu, var
    return batch_norm_rule(g[0] * greater(y[0], 0), y, *arrays, eps, momentum, fix_gamma, axis)


contrib_BatchNormWithReLU.infer = batch_norm_shapes
contrib_BatchNormWithReLU.states = STATES
contrib_BatchNormWithReLU.outputs = named("mean", "var")
contrib_BatchNormWithReLU = revealing(contrib_BatchNormWithReLU)


@operator(same_dtype=False, aliases=("_contrib_SyncBatchNorm",))
def contrib_SyncBatchNorm(
    data,
    gamma,
    beta,
    moving_mean,
    moving_var,
    /,
    eps=1e-3,
    momentum=0.9,
    fix_gamma=True,
    use_global_stats=False,
    output_mean_var=False,
    ndev=1,
    key="",
):
    """`BatchNorm` along axis 1; each device normalizes by the statistics of its own part
    of the batch.
    """
    arrays = data, gamma, beta, moving_mean, moving_var
    return batch_normalized(*arrays, eps, fix_gamma, use_global_stats, 1)


@contrib_SyncBatchNorm.vjp
def _(g, y, x, gamma, beta, mu, var, eps, momentum, fix_gamma, **_):
    return batch_norm_rule(g[0], y, x, gamma, beta, mu, var, eps, momentum, fix_gamma, 1)


contrib_SyncBatchNorm.infer, contrib_SyncBatchNorm.states = batch_norm_shapes, STATES
contrib_SyncBatchNorm.outputs = named("mean", "var")
contrib_SyncBatchNorm = revealing(contrib_SyncBatchNorm)


# --- In one step with a convolution ---------------------------------------------------------------


@operator(same_dtype=False, listed=False)
def normalized_convolution(
    data,
    weight,
    bias,
    gamma,
    beta,
    moving_mean,
    moving_var,
    /,
    kernel=(),
    stride=(),
    dilate=(),
    pad=(),
    num_filter=0,
    num_group=1,
    eps=1e-3,
    fix_gamma=True,
    use_global_stats=False,
):
    """`BatchNorm` of a `Convolution`, in use with scaled filters."""
    settings = {"kernel": kernel, "stride": stride, "dilate": dilate, "pad": pad}
    settings |= {"num_filter": num_filter, "num_group": num_group}
    vectors = gamma, beta, moving_mean, moving_var
    training = state.training and not use_global_stats
    if training or not is_scalable(data, weight, bias, vectors, stride):
        y = Convolution.kernel(data, weight, bias, no_bias=bias is None, **settings)
        return batch_normalized(y, *vectors, eps, fix_gamma, use_global_stats, 1)[0]
    require_sizes(
        len(weight), gamma=gamma, beta=beta, moving_mean=moving_mean, moving_var=moving_var
    )
    if fix_gamma:
        gamma[...] = 1
    gain = gamma / np.sqrt(moving_var + eps)
    offset = beta - (moving_mean if bias is None else moving_mean - bias) * gain
    weight = weight * kept(gain, weight, 0)
    return Convolution.kernel(data, weight, offset, no_bias=False, **settings)


def is_scalable(data, weight, bias, vectors, stride):
    """Whether filters may be scaled, and have fewer numbers than places: NumPy's floats of one type."""
    arrays = weight, *vectors, *(() if bias is None else (bias,))
    if type(data) is not np.ndarray or data.dtype.char not in "fd" or not len(weight):
        return False
    if any(a.dtype is not data.dtype for a in arrays):
        return False
    places = len(data) * math.prod(data.shape[2:]) // max(1, math.prod(several(stride)))
    return weight.size // len(weight) <= places


def with_convolution(before, inputs, settings):
    """Operator, inputs and settings of the call that does a `BatchNorm`
    and the convolution `before` it; None if there is none.
    """
    settings = {**BatchNorm.defaults, **settings}
    if before.op.name != "Convolution" or settings["output_mean_var"] or settings["axis"] != 1:
        return None
    first = {**before.op.defaults, **before.settings}
    if is_last(first["layout"]):
        return None
    both = {k: first[k] for k in ("kernel", "stride", "dilate", "pad", "num_filter", "num_group")}
    both |= {k: settings[k] for k in ("eps", "fix_gamma", "use_global_stats")}
    data, weight, *bias = before.inputs
    bias = None if first["no_bias"] or not bias else bias[0]
    return normalized_convolution, [data, weight, bias, *inputs[1:]], both


BatchNorm.merge = with_convolution
