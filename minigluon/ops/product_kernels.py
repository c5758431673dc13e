"""A matrix product in four steps, each with what it saves; and a convolution that is one of them without its matrix."""

# Written from chapters/96_product_kernels.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.kernels import STORED, WIDE, Kernels, cuda, dense, flag, loadable, stored
from minigluon.ops.convolution import (
    Convolution,
    Deconvolution,
    check_bias,
    check_weights,
    conv_data,
    conv_weight,
    deconv_data,
    deconv_weight,
    enlarging,
    front,
    geometry,
    is_last,
)
from minigluon.ops.pieces import places

__all__ = [
    "BLOCKS",
    "ENLARGING",
    "FEW",
    "HALVES",
    "LADDER",
    "ROOM",
    "SETTINGS",
    "SPAN",
    "are_halves_first",
    "channels_first",
    "channels_last",
    "convolutions",
    "correlated",
    "eights",
    "frame",
    "frames",
    "in_eights",
    "kind_of",
    "ladder",
    "laid",
    "laid_back",
    "on_device",
    "product",
    "spans",
    "turned",
]


# --- Code: the ladder -----------------------------------------------------------------------------

LADDER = {"naive": ((32, 8), (32, 8)), "tiled": ((32, 32), (32, 32))}  # threads, tile
LADDER |= {"blocked": ((256,), (64, 64)), "tensor": ((128,), (64, 64))}
HALVES = [kind for kind in WIDE if kind != "float"]
ladder = Kernels(
    "matmul",
    [f"{step}<{t}>" for step in LADDER for t in (HALVES if step == "tensor" else STORED.values())],
)


def product(a, b, step):
    """`a @ b.T` on a GPU, by a step of the ladder; `tensor` wants half types and columns in eights."""
    (m, k), n, kind = a.shape, len(b), stored(a, b)
    if b.shape[1] != k or kind is None or (step == "tensor" and (kind == "float" or k % 8)):
        raise ValueError(
            f"{step}: no product of {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
        )
    out, (threads, tile) = np.empty_like(a, shape=(m, n)), LADDER[step]
    grid = -(-n // tile[0]), -(-m // tile[1])
    args = loadable(a), loadable(b), out, *map(np.int32, (m, n, k))
    ladder(f"{step}<{kind}>", grid, threads, *args)
    return out


# --- Code: convolution ----------------------------------------------------------------------------

convolutions = Kernels(
    "conv",
    [f"{k}<float, {b}>" for k in ("conv", "conv_direct") for b in ("false", "true")]
    + ["conv_weight<float>", "conv_weight_direct<float>", *[f"fold<{t}>" for t in STORED.values()]]
    + [f"conv_tensor<{t}, {b}>" for t in HALVES for b in ("false", "true")]
    + [f"conv_weight_tensor<{t}>" for t in HALVES],
)
frames = {}  # sizes -> the same on the device


def frame(data, weight, settings, groups, layout):
    """What a kernel wants to know: n; channels of a group, sizes;
    filters of a group, window, results; settings.
    """
    x, w = front(data, layout), front(weight, layout)
    (n, channels, *sizes), (kernel, stride, dilate, pad) = x.shape, settings
    out = places(sizes, kernel, stride, dilate, pad)
    each = channels // groups, *sizes, len(w) // groups, *kernel, *out
    return n, *each, *stride, *dilate, *pad, groups


def on_device(sizes, like):
    """Sizes in the memory of `like`, sent once."""
    key = like.device.id, type(like), sizes
    if key not in frames:
        frames[key] = np.asarray(np.array(sizes, "int32"), like=like)
    return frames[key]


def kind_of(layout, groups, *arrays):
    """The C++ type if there is a kernel for pictures of this type and layout, else None."""
    kind, last = stored(*arrays), is_last(layout)
    fits = kind in HALVES and groups == 1 if last else kind == "float"
    return kind if fits and all(a.size for a in arrays) and arrays[0].ndim == 4 else None


def eights(layout, *channels):
    """Whether channels can be loaded in eights, where that matters."""
    return not is_last(layout) or all(c % 8 == 0 for c in channels)


def are_halves_first(layout, groups, *arrays):
    """Whether these are pictures of a half type whose channels come first, with one group."""
    fits = (
        not is_last(layout) and groups == 1 and arrays[0].ndim == 4 and all(a.size for a in arrays)
    )
    return fits and stored(*arrays) in HALVES


def in_eights(a, axis):
    """`a` with zeros behind, so that the size of an axis is a multiple of eight."""
    size = a.shape[axis]
    if size % 8 == 0:
        return a
    shape = *a.shape[:axis], size + -size % 8, *a.shape[axis + 1 :]
    out = np.zeros_like(a, shape=shape, order="C")
    out[(slice(None),) * axis + (slice(size),)] = a
    return out


def channels_last(a, filled):
    """An array (n, c, h, w) as (n, h, w, c), the axis `filled` of the first in eights."""
    return loadable(in_eights(a, filled).transpose(0, 2, 3, 1))


def channels_first(a):
    """An array (n, h, w, c) as (n, c, h, w); NotImplemented as it is."""
    return a if a is NotImplemented else dense(a.transpose(0, 3, 1, 2))


# filters of a group below which a thread makes one number, for a tile would be nearly empty
FEW = 8


def laid(x, weight, bias, layout, sizes, back=False, relu=False):
    """Lay windows on `x`, with bias and ReLU; `back`: find the windows that each number was in."""
    n, _, _, _, f, _, _, *out = sizes[:9]
    filters, last = f * sizes[-1], is_last(layout)
    y = np.empty_like(x, shape=(n, *out, filters) if last else (n, filters, *out))
    grid = -(-n * out[0] * out[1] // 64), -(-f // 64), sizes[-1]
    way = "_tensor" if last else "_direct" if f < FEW else ""
    if way == "_direct":
        grid = (-(-y.size // 256),)
    name = f"conv{way}<{stored(x)}, {flag(back)}>"
    offset = None if bias is None else dense(bias)
    args = loadable(x), loadable(weight), offset, y, on_device(sizes, x), np.int32(relu)
    convolutions(name, grid, (128 if last else 256,), *args)
    return y


@cuda(Convolution)
def _(data, weight, bias=None, *, relu=False, **settings):
    layout, groups = settings["layout"], settings["num_group"]
    found = geometry(data, *(settings[k] for k in SETTINGS), layout, groups)
    arrays = data, weight, *[bias] * (bias is not None)
    kind, turns = kind_of(layout, groups, *arrays), are_halves_first(layout, groups, *arrays)
    x, w = front(data, layout), front(weight, layout)
    if not turns and (kind is None or not eights(layout, x.shape[1])):
        return NotImplemented
    check_weights(x.shape[1], settings["num_filter"] or len(w), w.shape, found[0], groups)
    check_bias(bias, len(w), settings["no_bias"])
    if turns:
        x, w = channels_last(data, 1), channels_last(weight, 1)
        return channels_first(laid(x, w, bias, "NHWC", frame(x, w, found, 1, "NHWC"), relu=relu))
    return laid(data, weight, bias, layout, frame(data, weight, found, groups, layout), relu=relu)


SETTINGS = "kernel", "stride", "dilate", "pad"


# --- Code: the gradients --------------------------------------------------------------------------


def turned(sizes, weight, layout, groups):
    """The sizes of a walk back, from results to pictures, and the weight for it."""
    n, c, h, w, f, r, s, p, q, *rest = sizes
    if is_last(layout):
        weight = weight.transpose(3, 1, 2, 0)
    else:
        weight = weight.reshape(groups, f, c, r, s).swapaxes(1, 2)
    return (n, f, p, q, c, r, s, h, w, *rest), weight


def laid_back(g, weight, bias, shape, found, groups, layout):
    """The gradient of a picture of `shape` from that of its windows;
    NotImplemented where no kernel fits.
    """
    like = np.empty_like(weight, shape=(0, *shape[1:]))
    sizes = len(g), *frame(like, weight, found, groups, layout)[1:]
    here = front(g, layout).shape
    if here != (len(g), sizes[4] * groups, *sizes[7:9]) or not eights(layout, here[1]):
        return NotImplemented
    back, other = turned(sizes, weight, layout, groups)
    return laid(g, other, bias, layout, back, back=True)


@cuda(conv_data)
def _(data, weight, like, *, num_group, layout, **settings):
    turns = are_halves_first(layout, num_group, data, weight)
    if not turns and kind_of(layout, num_group, data, weight) is None or len(like) != len(data):
        return NotImplemented
    found = geometry(data, *(settings[k] for k in SETTINGS), layout, num_group)
    if turns:
        g, w, (n, c, *sizes) = channels_last(data, 1), channels_last(weight, 0), like.shape
        return channels_first(laid_back(g, w, None, (n, *sizes, c), found, 1, "NHWC"))
    return laid_back(data, weight, None, like.shape, found, num_group, layout)


BLOCKS, SPAN, ROOM = 4 * 132, 256, 1 << 24


def spans(total, blocks, size):
    """How many places a part has: a multiple of 32."""
    parts = max(1, min(BLOCKS // blocks, total // SPAN, ROOM // size))
    return -(-total // (32 * parts)) * 32


def correlated(g, x, found, groups, layout):
    """The gradient of a weight from that of the result and the picture;
    NotImplemented where no kernel fits.
    """
    channels, filters = (front(a, layout).shape[1] for a in (x, g))
    inner, last = channels // groups, is_last(layout)
    shape = (filters, *found[0], inner) if last else (filters, inner, *found[0])
    like = np.empty_like(g, shape=shape)
    sizes = frame(x, like, found, groups, layout)
    (_, c, _, _, f, r, s, p, q), here = sizes[:9], front(g, layout).shape
    if here != (len(x), f * groups, p, q) or c * groups != channels:
        return NotImplemented
    if not eights(layout, channels, filters):
        return NotImplemented
    total, tiles = len(x) * p * q, (-(-c * r * s // 64), -(-f // 64))
    pairs = c * r * s * f
    direct = not last and 16 * pairs < 4096 * tiles[0] * tiles[1]  # under a sixteenth of the tiles
    blocks = pairs if direct else tiles[0] * tiles[1]
    span = spans(total, blocks * groups, like.size)
    parts = -(-total // span)
    sums = np.empty_like(g, shape=(parts, like.size), dtype="float32")
    way = "_tensor" if last else "_direct" if direct else ""
    args = loadable(g), loadable(x), sums, on_device(sizes, g), np.int64(span)
    grid = (pairs, groups, parts) if direct else (*tiles, parts * groups)
    convolutions(f"conv_weight{way}<{stored(g)}>", grid, (128 if last else 256,), *args)
    grid = (-(-like.size // 256),)
    out = like, np.int32(parts), np.int64(like.size)
    convolutions(f"fold<{stored(g)}>", grid, (256,), sums, *out)
    return like


@cuda(conv_weight)
def _(data, inputs, *, num_group, layout, **settings):
    turns = are_halves_first(layout, num_group, data, inputs)
    if not turns and kind_of(layout, num_group, data, inputs) is None:
        return NotImplemented
    found = geometry(inputs, *(settings[k] for k in SETTINGS), layout, num_group)
    if turns:
        g, x = channels_last(data, 1), channels_last(inputs, 1)
        out = channels_first(correlated(g, x, found, 1, "NHWC"))
        return dense(out[: data.shape[1], : inputs.shape[1]])
    return correlated(data, inputs, found, num_group, layout)


@cuda(Deconvolution)
def _(data, weight, bias=None, **settings):
    layout, groups = settings["layout"], settings["num_group"]
    if kind_of(layout, groups, data, weight, *[bias] * (bias is not None)) is None:
        return NotImplemented
    outs, (*found, _) = enlarging(data, *(settings[k] for k in ENLARGING), layout, groups)
    x, w = front(data, layout), front(weight, layout)
    filters = settings["num_filter"] or w.shape[1] * groups
    check_weights(x.shape[1], filters, w.shape, found[0], groups, transposed=True)
    check_bias(bias, filters, settings["no_bias"] or bias is None)
    shape = (len(x), *outs, filters) if is_last(layout) else (len(x), filters, *outs)
    return laid_back(data, weight, bias, shape, found, groups, layout)


@cuda(deconv_data)
def _(data, weight, like, *, layout, num_group, **settings):
    if kind_of(layout, num_group, data, weight) is None:
        return NotImplemented
    _, (*found, _) = enlarging(like, *(settings[k] for k in ENLARGING), layout, num_group)
    sizes, here = frame(data, weight, found, num_group, layout), front(data, layout).shape
    fits = sizes[7:9] == front(like, layout).shape[2:] and sizes[1] * num_group == here[1]
    if not fits or not eights(layout, here[1]):
        return NotImplemented
    return laid(data, weight, None, layout, sizes)


@cuda(deconv_weight)
def _(data, grad, *, layout, num_group, **settings):
    if kind_of(layout, num_group, data, grad) is None:
        return NotImplemented
    _, (*found, _) = enlarging(data, *(settings[k] for k in ENLARGING), layout, num_group)
    return correlated(data, grad, found, num_group, layout)


ENLARGING = *SETTINGS, "adj", "target_shape"
