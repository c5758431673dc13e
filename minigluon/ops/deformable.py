"""A deformable convolution asks the picture where to look before it looks, and learns both by gradients."""

# Written from chapters/41b_deformable.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.base import MXNetError
from minigluon.op import operator
from minigluon.ops.convolution import (
    Convolution,
    bias_gradient,
    conv_data,
    conv_weight,
    geometry,
    weight_shape,
)
from minigluon.ops.detection import add_at_index, at_index
from minigluon.ops.elementwise import floor
from minigluon.ops.pieces import concat, places, slice_axis
from minigluon.ops.reduce import sum
from minigluon.ops.shape import reshape, reshape_like, several

__all__ = [
    "Bent",
    "CORNERS",
    "bent",
    "contrib_DeformableConvolution",
    "contrib_ModulatedDeformableConvolution",
    "halves",
    "joined_groups",
    "near_index",
    "resolved",
    "sampled",
    "sampled_back",
    "shifts",
    "side",
    "split_groups",
    "unshifted",
    "window_places",
]


# --- Where to read --------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, **s: unshifted(g, x, **s),))
def shifts(data, /, window, groups, axes=2):
    """Numbers (n, groups * window * axes, h, w) as (n * groups, axes, window, h * w)."""
    n, count = len(data), math.prod(data.shape[2:])
    return data.reshape(n * groups, window, axes, count).swapaxes(1, 2)


@operator(vjp=(lambda h, y, g, like, **s: shifts(h, **s), None))
def unshifted(data, like, /, window, groups, axes=2):
    """Undo `shifts`."""
    return data.swapaxes(1, 2).reshape(like.shape)


@operator(vjp=(None,))
def window_places(data, /, kernel, stride, dilate, pad):
    """Where a plain window reads in pictures like `data`: (1, 2, window, places), y and x."""
    sizes = places(data.shape[2:], kernel, stride, dilate, pad)
    at = []
    for axis in (0, 1):
        inner, outer = (
            np.indices(kernel)[axis].reshape(-1, 1),
            np.indices(sizes)[axis].reshape(1, -1),
        )
        at.append(inner * dilate[axis] + outer * stride[axis] - pad[axis])
    return np.asarray(np.stack(at)[None], data.dtype, like=data)


# --- Reading between the pixels -------------------------------------------------------------------


@operator(vjp=(None, None))
def near_index(data, at, /, dy, dx, fading=False):
    """Where in `data` the pixel at floor(at) + (dy, dx) lies, counted through all axes; -1 outside."""
    n, c, h, w = data.shape
    y, x = at[:, :1], at[:, 1:]
    rows, cols = np.floor(y) + dy, np.floor(x) + dx
    if fading:
        inside = (rows >= 0) & (rows < h) & (cols >= 0) & (cols < w)
    else:
        inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
        rows, cols = np.minimum(rows, h - 1), np.minimum(cols, w - 1)
    pixel = np.where(inside, rows * w + cols, 0).astype("int64")
    plane = np.arange(n * c, like=data).reshape(n, c, 1, 1).astype("int64")
    return np.where(inside, plane * (h * w) + pixel, -1)


CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def halves(at):
    """The parts of a pixel that `at` lies beyond its floor, along y and along x."""
    part = at - floor(at)
    return [slice_axis(part, axis=1, begin=i, end=i + 1) for i in (0, 1)]


def side(part, d):
    """What the near (d = 0) or the far (d = 1) neighbour counts."""
    return part if d else 1 - part


def sampled(data, at, fading):
    """The numbers of `data` at `at`: (n, c, window, places)."""
    a, b = halves(at)
    found = 0
    for dy, dx in CORNERS:
        index = near_index(data, at, dy=dy, dx=dx, fading=fading)
        found = at_index(data, index) * (side(a, dy) * side(b, dx)) + found
    return found


def sampled_back(g, data, at, fading):
    """The gradients of `sampled`'s data and places, from that of its value."""
    a, b = halves(at)
    by_data, by_y, by_x = 0, 0, 0
    for dy, dx in CORNERS:
        index = near_index(data, at, dy=dy, dx=dx, fading=fading)
        seen = sum(g * at_index(data, index), axis=1, keepdims=True)
        by_data = add_at_index(g * (side(a, dy) * side(b, dx)), data, index) + by_data
        by_y = seen * side(b, dx) * (2 * dy - 1) + by_y
        by_x = seen * side(a, dy) * (2 * dx - 1) + by_x
    return by_data, concat(by_y, by_x, dim=1)


# --- The operators --------------------------------------------------------------------------------


def split_groups(x, groups):
    """(n, c, h, w) as (n * groups, c / groups, h, w)."""
    return reshape(reshape(x, shape=(0, -4, groups, -1, 0, 0)), shape=(-3, 0, 0, 0))


def joined_groups(x, groups):
    """Undo `split_groups`."""
    return reshape(reshape(x, shape=(-4, -1, groups, 0, 0, 0)), shape=(0, -3, 0, 0))


class Bent:
    """What value and gradient of a bent window have in common."""

    def __init__(self, x, offset, mask, weight, settings, groups, deformable):
        kernel, _, _, _ = self.settings = settings
        self.window, self.groups, self.deformable = math.prod(kernel), groups, deformable
        self.layout = {"window": self.window, "groups": deformable}
        self.x, self.fading = split_groups(x, deformable), mask is not None
        at = window_places(x, **dict(zip(("kernel", "stride", "dilate", "pad"), settings)))
        self.at = shifts(offset, **self.layout) + at
        self.mask = None if mask is None else shifts(mask, axes=1, **self.layout)
        self.read = sampled(self.x, self.at, self.fading)
        self.columns = self.read if mask is None else self.read * self.mask
        self.columns = joined_groups(self.columns, deformable)
        self.weight = reshape(reshape(weight, shape=(0, 0, -3)), shape=(0, 0, 0, 1))
        self.same = {"kernel": (self.window, 1), "num_group": groups}

    def gradients(self, g, x, offset, mask, weight):
        """The gradients of data, offsets, mask and weight."""
        g = reshape(g, shape=(0, 0, 1, -1))
        by_weight = reshape_like(conv_weight(g, self.columns, **self.same), weight)
        by_read = split_groups(
            conv_data(g, self.weight, self.columns, **self.same), self.deformable
        )
        by_mask = None
        if mask is not None:
            by_mask = sum(by_read * self.read, axis=1, keepdims=True)
            by_mask = unshifted(by_mask, mask, axes=1, **self.layout)
            by_read = by_read * self.mask
        by_x, by_at = sampled_back(by_read, self.x, self.at, self.fading)
        by_x = joined_groups(by_x, self.deformable)
        return by_x, unshifted(by_at, offset, **self.layout), by_mask, by_weight


def resolved(kernel, stride, dilate, pad):
    """The four settings with two numbers each."""
    return several(kernel), *(several(n) or (d, d) for n, d in ((stride, 1), (dilate, 1), (pad, 0)))


def bent(x, offset, mask, weight, bias, settings, num_group, deformable, num_filter, no_bias):
    """The value of both operators; MXNetError where arrays do not fit."""
    found = geometry(x, *settings, None, num_group)
    sizes, window = places(x.shape[2:], *found), math.prod(found[0])
    if len(found[0]) != 2 or x.shape[1] % deformable or x.shape[1] % num_group:
        raise MXNetError(
            f"2 axes, and {x.shape[1]} channels in groups of {num_group}, {deformable}"
        )
    for name, a, count in (("offset", offset, 2), ("mask", mask, 1)):
        wanted = len(x), deformable * window * count, *sizes
        if a is not None and a.shape != wanted:
            raise MXNetError(f"{name} needs the shape {wanted}, this one has {a.shape}")
    work = Bent(x, offset, mask, weight, found, num_group, deformable)
    y = Convolution.kernel(
        work.columns, work.weight, bias, num_filter=num_filter, no_bias=no_bias, **work.same
    )
    return y.reshape(*y.shape[:2], *sizes)


@operator(aliases=("_contrib_DeformableConvolution",))
def contrib_DeformableConvolution(
    data,
    offset,
    weight,
    bias=None,
    /,
    kernel=(),
    stride=(),
    dilate=(),
    pad=(),
    num_filter=0,
    num_group=1,
    num_deformable_group=1,
    workspace=1024,
    no_bias=False,
    layout=None,
):
    """A convolution whose window reads at places moved by `offset`: Dai et al., 2017.

    data: (n, c, h, w); offset: (n, num_deformable_group * k * l * 2, outputs), y before x; weight:
    (num_filter, c / num_group, k, l); bias: (num_filter,).
    """
    settings = kernel, stride, dilate, pad
    groups = num_group, num_deformable_group
    return bent(data, offset, None, weight, bias, settings, *groups, num_filter, no_bias)


@contrib_DeformableConvolution.vjp
def _(g, y, x, o, w, b=None, *, kernel, stride, dilate, pad, num_group, num_deformable_group, **_):
    found = resolved(kernel, stride, dilate, pad)
    work = Bent(x, o, None, w, found, num_group, num_deformable_group)
    by_x, by_o, _, by_w = work.gradients(g, x, o, None, w)
    return (by_x, by_o, by_w) if b is None else (by_x, by_o, by_w, bias_gradient(g, None))


@operator(aliases=("_contrib_ModulatedDeformableConvolution",))
def contrib_ModulatedDeformableConvolution(
    data,
    offset,
    mask,
    weight,
    bias=None,
    /,
    kernel=(),
    stride=(),
    dilate=(),
    pad=(),
    num_filter=0,
    num_group=1,
    num_deformable_group=1,
    workspace=1024,
    no_bias=False,
    im2col_step=64,
    layout=None,
):
    """`DeformableConvolution` that also weighs what it reads by `mask`: Zhu et al., 2019.

    mask: (n, num_deformable_group * k * l, outputs).
    """
    settings = kernel, stride, dilate, pad
    groups = num_group, num_deformable_group
    return bent(data, offset, mask, weight, bias, settings, *groups, num_filter, no_bias)


@contrib_ModulatedDeformableConvolution.vjp
def _(
    g, y, x, o, m, w, b=None, *, kernel, stride, dilate, pad, num_group, num_deformable_group, **_
):
    found = resolved(kernel, stride, dilate, pad)
    work = Bent(x, o, m, w, found, num_group, num_deformable_group)
    by = work.gradients(g, x, o, m, w)
    return by if b is None else (*by, bias_gradient(g, None))


@contrib_DeformableConvolution.shapes
def _(data, offset, weight, bias=None, *, kernel, num_filter, num_group, **_):
    return data, offset, weight_shape(data, kernel, num_filter, num_group, None), (num_filter,)


@contrib_ModulatedDeformableConvolution.shapes
def _(data, offset, mask, weight, bias=None, *, kernel, num_filter, num_group, **_):
    return (
        data,
        offset,
        mask,
        weight_shape(data, kernel, num_filter, num_group, None),
        (num_filter,),
    )


contrib_DeformableConvolution.inputs = lambda no_bias, **_: (
    ["data", "offset", "weight"] + ["bias"] * (not no_bias)
)
contrib_ModulatedDeformableConvolution.inputs = lambda no_bias, **_: (
    ["data", "offset", "mask", "weight"] + ["bias"] * (not no_bias)
)
