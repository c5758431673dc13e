"""A matrix product in four steps, each with what it saves; and a convolution that is one of them without its matrix."""

# Written from chapters/96_product_kernels.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.kernels import STORED, WIDE, Kernels, cuda, dense, stored
from minigluon.ops.convolution import (
    Convolution,
    check_bias,
    check_weights,
    front,
    geometry,
    is_last,
)

__all__ = ["HALVES", "LADDER", "convolutions", "convolved", "frame", "frames", "ladder", "product"]


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
    ladder(f"{step}<{kind}>", grid, threads, dense(a), dense(b), out, *map(np.int32, (m, n, k)))
    return out


# --- Code: convolution ----------------------------------------------------------------------------

convolutions = Kernels("conv", ["conv<float>", *[f"conv_tensor<{t}>" for t in HALVES]])
frames = {}  # sizes -> the same on the device


def frame(x, w, kernel, stride, dilate, pad, groups):
    """The sizes that a kernel wants, and those of the result."""
    (n, channels, *sizes), f = x.shape, len(w) // groups
    spans = [d * (k - 1) + 1 for d, k in zip(dilate, kernel)]
    out = [(s + 2 * p - e) // t + 1 for s, p, e, t in zip(sizes, pad, spans, stride)]
    return (n, channels // groups, *sizes, f, *kernel, *out, *stride, *dilate, *pad, groups), out


def convolved(data, weight, bias, kind, last, relu, settings, groups):
    """Convolution by a kernel, with bias and ReLU."""
    layout = "NHWC" if last else None
    sizes, out = frame(front(data, layout), front(weight, layout), *settings, groups)
    filters = sizes[4] * groups
    key = data.device.id, type(data), sizes
    if key not in frames:
        frames[key] = np.asarray(np.array(sizes, "int32"), like=data)
    shape = (len(data), *out, filters) if last else (len(data), filters, *out)
    y = np.empty_like(data, shape=shape)
    places = len(data) * out[0] * out[1]
    grid = -(-places // 64), -(-sizes[4] // 64), groups
    name, threads = ("conv_tensor", 128) if last else ("conv", 256)
    offset = None if bias is None else dense(bias)
    args = dense(data), dense(weight), offset, y, frames[key], np.int32(relu)
    convolutions(f"{name}<{kind}>", grid, (threads,), *args)
    return y


@cuda(Convolution)
def _(
    data,
    weight,
    bias=None,
    *,
    relu=False,
    kernel,
    stride,
    dilate,
    pad,
    num_filter,
    num_group,
    no_bias,
    layout,
    **_,
):
    arrays = [a for a in (data, weight, bias) if a is not None]
    kind = stored(*arrays)
    settings = geometry(data, kernel, stride, dilate, pad, layout, num_group)
    last = is_last(layout)
    fits = (
        kind in HALVES and num_group == 1 and data.shape[-1] % 8 == 0 if last else kind == "float"
    )
    if data.ndim != 4 or not fits or not data.size:
        return NotImplemented
    x, w = front(data, layout), front(weight, layout)
    check_weights(x.shape[1], num_filter or w.shape[0], w.shape, settings[0], num_group)
    check_bias(bias, w.shape[0], no_bias)
    if min(frame(x, w, *settings, num_group)[1]) < 1:
        return NotImplemented
    return convolved(data, weight, bias, kind, last, relu, settings, num_group)
