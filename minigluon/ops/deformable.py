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
    "BentBins",
    "CORNERS",
    "bent",
    "beyond",
    "bin_index",
    "bin_places",
    "binned",
    "contrib_DeformableConvolution",
    "contrib_DeformablePSROIPooling",
    "contrib_ModulatedDeformableConvolution",
    "halves",
    "joined_groups",
    "near_index",
    "parts_at",
    "parts_back",
    "require_bins",
    "resolved",
    "sampled",
    "sampled_back",
    "shares",
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


# --- Bins that bend -------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, **s: parts_back(g, x, **s),), listed=False)
def parts_at(data, /, axis, pooled_size):
    """The shift along an axis (0: x, 1: y) of each bin: (regions, kinds, 1, bins, 1)."""
    part = np.arange(pooled_size, like=data) * data.shape[2] // pooled_size
    found = data[:, axis::2][:, :, part[:, None], part]
    return found.reshape(*found.shape[:2], 1, pooled_size**2, 1)


@operator(vjp=(lambda h, y, g, like, **s: parts_at(h, **s), None), listed=False)
def parts_back(data, like, /, axis, pooled_size):
    """Undo `parts_at`: what all bins of a part got, added."""
    part = np.arange(pooled_size, like=data) * like.shape[2] // pooled_size
    take = (part[:, None] == np.arange(like.shape[2], like=data)).astype(data.dtype)
    bins = data.reshape(*data.shape[:2], pooled_size, pooled_size)
    out = np.zeros_like(like)
    out[:, axis::2] = take.T @ bins @ take
    return out


@operator(vjp=(None,), listed=False)
def bin_places(rois, /, axis, spatial_scale, pooled_size, sample_per_part):
    """Samples of each bin along an axis, (regions, 1, 1, bins, samples),
    and the lengths of the boxes.
    """
    ends = np.trunc(rois + np.copysign(0.5, rois))[:, 1 + axis :: 2]
    low, high = ends[:, 0] * spatial_scale - 0.5, (ends[:, 1] + 1) * spatial_scale - 0.5
    length = np.maximum(high - low, 0.1).reshape(-1, 1, 1, 1, 1)
    bins, inner = (
        np.arange(n * n, like=rois) // n if axis else np.arange(n * n, like=rois) % n
        for n in (pooled_size, sample_per_part)
    )
    step = (bins[:, None] + inner / sample_per_part).astype(rois.dtype) / pooled_size
    return low.reshape(-1, 1, 1, 1, 1) + step * length, length


bin_places.outputs = ["places", "lengths"]


@operator(vjp=(lambda g, y, at, like, **_: g, None), listed=False)
def beyond(at, like, /, axis):
    """How far a place, moved to the border of the picture, lies beyond a pixel; see `bin_index`."""
    at = np.clip(at, 0, like.shape[3 - axis] - 1)
    return at - np.floor(at)


@operator(vjp=(None,) * 4, listed=False)
def bin_index(data, rois, y, x, /, dy, dx, output_dim, group_size, pooled_size):
    """Where the neighbours of samples lie in `data`, counted through all axes; -1 for a sample outside.

    y, x: (regions, kinds, 1, bins, samples); output (regions, kinds, output_dim / kinds, bins, samples).
    """
    _, c, h, w = data.shape
    inside = (y >= -0.5) & (y <= h - 0.5) & (x >= -0.5) & (x <= w - 0.5)
    row = (np.ceil if dy else np.floor)(np.clip(y, 0, h - 1))
    column = (np.ceil if dx else np.floor)(np.clip(x, 0, w - 1))
    group = np.arange(pooled_size, like=rois) * group_size // pooled_size
    group = (group[:, None] * group_size + group).reshape(-1, 1)
    channel = np.arange(output_dim, like=rois).reshape(y.shape[1], -1, 1, 1) * group_size**2
    plane = rois[:, 0].astype("int64").reshape(-1, 1, 1, 1, 1) * c + channel + group
    return np.where(inside, (plane * h + row.astype("int64")) * w + column.astype("int64"), -1)


@operator(vjp=(None, None), same_dtype=False, listed=False)
def shares(index, like, /):
    """What each sample counts in the mean of its bin: one over the number of those inside."""
    inside = index >= 0
    count = inside.sum(axis=-1, keepdims=True)
    return (inside / np.maximum(count, 1)).astype(like.dtype)


@operator(vjp=(lambda h, y, g, like: reshape_like(h, g), None), listed=False)
def binned(data, like, /):
    """Numbers (regions, outputs, height, width) as (regions, kinds, -1, bins, 1),
    with the kinds of `like`.
    """
    return data.reshape(len(data), like.shape[1], -1, math.prod(data.shape[2:]), 1)


class BentBins:
    """What value and gradients of bent bins have in common."""

    def __init__(self, data, rois, trans, settings):
        scale, shift, outputs, group, self.pooled, samples = settings
        where = {"spatial_scale": scale, "pooled_size": self.pooled, "sample_per_part": samples}
        self.data, self.trans, self.at, self.scales = data, trans, [], []
        for axis in (0, 1):
            at, length = bin_places(rois, axis=axis, **where)
            if trans is not None:
                moved = parts_at(trans, axis=axis, pooled_size=self.pooled)
                at = at + moved * (length * shift)
            self.at.append(at)
            self.scales.append(length * shift)
        x, y = self.at
        self.b, self.a = (beyond(at, data, axis=axis) for axis, at in enumerate(self.at))
        sizes = {"output_dim": outputs, "group_size": group, "pooled_size": self.pooled}
        self.index = [bin_index(data, rois, y, x, dy=dy, dx=dx, **sizes) for dy, dx in CORNERS]
        self.weight = shares(self.index[0], data)

    def value(self):
        """The mean of the samples: (regions, kinds, outputs / kinds, bins)."""
        found = 0
        for index, (dy, dx) in zip(self.index, CORNERS):
            found = at_index(self.data, index) * (side(self.a, dy) * side(self.b, dx)) + found
        return sum(found * self.weight, axis=-1)

    def gradients(self, g):
        """The gradients of data and shifts."""
        g, by_data, by_y, by_x = binned(g, self.at[0]) * self.weight, 0, 0, 0
        for index, (dy, dx) in zip(self.index, CORNERS):
            by_data = (
                add_at_index(g * (side(self.a, dy) * side(self.b, dx)), self.data, index) + by_data
            )
            seen = sum(g * at_index(self.data, index), axis=2, keepdims=True)
            by_y = seen * side(self.b, dx) * (2 * dy - 1) + by_y
            by_x = seen * side(self.a, dy) * (2 * dx - 1) + by_x
        if self.trans is None:
            return by_data, None
        by_trans = 0
        for axis, by in enumerate((by_x, by_y)):
            by = sum(by * self.scales[axis], axis=-1, keepdims=True)
            by_trans = parts_back(by, self.trans, axis=axis, pooled_size=self.pooled) + by_trans
        return by_data, by_trans


def require_bins(data, rois, trans, output_dim, group_size, part_size):
    """ValueError for arrays of `DeformablePSROIPooling` that do not fit."""
    if rois.ndim != 2 or rois.shape[1] != 5 or data.ndim != 4:
        raise ValueError(
            "data (batch, channels, height, width) and rois (regions, 5), "
            f"not {data.shape} and {rois.shape}"
        )
    if data.shape[1] != output_dim * group_size**2:
        raise ValueError(
            f"{output_dim} outputs in {group_size} x {group_size} groups need "
            f"{output_dim * group_size**2} "
            f"channels, not {data.shape[1]}"
        )
    if ((rois[:, 0] < 0) | (rois[:, 0] >= len(data))).any():
        raise ValueError(f"rois name a picture that is none of the {len(data)}")
    if trans is None:
        return
    kinds = trans.shape[1] // 2 if trans.ndim == 4 else 0
    wanted = len(rois), 2 * kinds, part_size, part_size
    if trans.shape != wanted or not kinds or output_dim % kinds:
        raise ValueError(
            "trans needs the shape (regions, 2 kinds, parts, parts), "
            f"{len(rois)} regions of {part_size} parts, and "
            f"kinds that divide {output_dim} outputs, not {trans.shape}"
        )


@operator(aliases=("_contrib_DeformablePSROIPooling",))
def contrib_DeformablePSROIPooling(data, rois, trans=None, /, spatial_scale=None, output_dim=None, group_size=None, pooled_size=None, part_size=0, sample_per_part=1, trans_std=0.0, no_trans=False):  # fmt: skip
    """Means of samples in the bins of regions, each bin moved by its part's shift and read
    from channels of its own.

    data: (batch, output_dim · group_size², height, width); rois: (regions, 5), rows (image, x0, y0,
    x1, y1); trans, unless no_trans: (regions, 2 · kinds, part_size, part_size), x before y. Output
    (regions, output_dim, pooled_size, pooled_size); 0 where all samples lie outside. Source: Dai
    and others, Deformable Convolutional Networks, 2017.
    """
    trans, part_size = None if no_trans else trans, part_size or pooled_size
    if trans is None and not no_trans:
        raise ValueError("give trans, or no_trans=True")
    require_bins(data, rois, trans, output_dim, group_size, part_size)
    settings = spatial_scale, trans_std, output_dim, group_size, pooled_size, sample_per_part
    found = BentBins(data, rois, trans, settings).value()
    return found.reshape(len(rois), output_dim, pooled_size, pooled_size)


@contrib_DeformablePSROIPooling.vjp
def _(g, y, data, rois, trans=None, *, no_trans, **s):
    names = "spatial_scale", "trans_std", "output_dim", "group_size", "pooled_size"
    settings = [s[name] for name in (*names, "sample_per_part")]
    work = BentBins(data, rois, None if no_trans else trans, settings)
    by_data, by_trans = work.gradients(g)
    return (by_data, None) if trans is None else (by_data, None, by_trans)


contrib_DeformablePSROIPooling.inputs = lambda no_trans, **_: (
    ["data", "rois"] + ["trans"] * (not no_trans)
)
