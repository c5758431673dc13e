"""Compare two pictures at all displacements at once; propose boxes; and pool each part of a box from channels of its own."""

# Written from chapters/18b_regions.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.op import operator
from minigluon.ops.detection import survivors
from minigluon.ops.ordering import stable_order
from minigluon.ops.shape import several

__all__ = [
    "Correlation",
    "SETTINGS",
    "STEPS",
    "along_rule",
    "base_anchors",
    "best_boxes",
    "between_pixels",
    "bin_masks",
    "chosen",
    "contrib_MultiProposal",
    "contrib_PSROIPooling",
    "contrib_Proposal",
    "contrib_RROIAlign",
    "contrib_dequantize",
    "contrib_quantize",
    "correlation_along",
    "correlation_first",
    "correlation_rule",
    "correlation_second",
    "first_rule",
    "grid",
    "moved_boxes",
    "padded",
    "pairs",
    "parts_of",
    "proposals",
    "region_parts_back",
    "scores",
    "second_rule",
    "sizes",
    "spread",
    "symmetric",
    "turned_points",
    "window",
]


# --- Regions --------------------------------------------------------------------------------------


def grid(shape, kernel_size, max_displacement, stride1, stride2, pad_size):
    """Height, width and radius of displacements of a correlation; ValueError if there are none."""
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size should be an odd number, not {kernel_size}")
    border = max_displacement + (kernel_size - 1) // 2
    size = [-(-(n + 2 * pad_size - 2 * border) // stride1) for n in shape[2:]]
    if len(shape) != 4 or min(size) < 1:
        raise ValueError(
            f"pictures {shape}, padded by {pad_size}, have no room for displacements of "
            f"{max_displacement} "
            f"and windows of {kernel_size}"
        )
    return *size, max_displacement // stride2


def pairs(shape, kernel_size, max_displacement, stride1, stride2, pad_size):
    """Triples: the number of a displacement, and a window of either padded picture."""
    h, w, r = grid(shape, kernel_size, max_displacement, stride1, stride2, pad_size)
    steps = [(y, x) for y in range(-r, r + 1) for x in range(-r, r + 1)]
    for number, (dy, dx) in enumerate(steps):
        for u, v in np.ndindex(kernel_size, kernel_size):
            y, x = max_displacement + u, max_displacement + v
            yield (
                number,
                window(y, x, h, w, stride1),
                window(y + dy * stride2, x + dx * stride2, h, w, stride1),
            )


def window(y, x, h, w, stride):
    """The key of `h` by `w` pixels from (y, x) on."""
    rows, columns = (
        slice(y, y + (h - 1) * stride + 1, stride),
        slice(x, x + (w - 1) * stride + 1, stride),
    )
    return slice(None), slice(None), rows, columns


def padded(a, pad_size):
    """A picture with zeros around it."""
    return np.pad(a, ((0, 0), (0, 0), (pad_size, pad_size), (pad_size, pad_size)))


def scores(a, b, product, **where):
    """The sums over windows of product(window of a, window of b), over channels,
    for each displacement.
    """
    h, w, r = grid(a.shape, **where)
    y = np.zeros_like(a, shape=(a.shape[0], (2 * r + 1) ** 2, h, w))
    a, b, channels = padded(a, where["pad_size"]), padded(b, where["pad_size"]), a.shape[1]
    for number, one, two in pairs((*y.shape[:1], 1, *sizes(a, where)), **where):
        y[:, number] += product(a[one], b[two], one, two).sum(axis=1)
    return y / (where["kernel_size"] ** 2 * channels)


def sizes(a, where):
    """Height and width of a padded picture before it was padded."""
    return [n - 2 * where["pad_size"] for n in a.shape[2:]]


def spread(g, a, b, slope, second, **where):
    """The sums of g times slope(window of a, window of b) at the places of the first picture,
    or of the second.
    """
    pad, channels = where["pad_size"], a.shape[1]
    out, shape = np.zeros_like(padded(a, pad)), a.shape
    a, b = padded(a, pad), padded(b, pad)
    for number, one, two in pairs(shape, **where):
        out[two if second else one] += g[:, number, None] * slope(a[one], b[two])
    out = out / (where["kernel_size"] ** 2 * channels)
    return out[:, :, pad : pad + shape[2], pad : pad + shape[3]].copy()


SETTINGS = ("kernel_size", "max_displacement", "stride1", "stride2", "pad_size")


def chosen(settings):
    """The settings that say where the windows are."""
    return {name: settings[name] for name in SETTINGS}


def correlation_rule(g, y, a, b, **settings):
    """The gradients of both pictures."""
    return correlation_first(g, a, b, **settings), correlation_second(g, a, b, **settings)


@operator(vjp=correlation_rule)
def Correlation(
    data1,
    data2,
    /,
    kernel_size=1,
    max_displacement=1,
    stride1=1,
    stride2=1,
    pad_size=0,
    is_multiply=True,
):
    """How well windows of `data1` match those of `data2` at every displacement:
    their mean product, or distance.

    data1, data2: (batch, channels, height, width). Output (batch, displacements, h, w):
    displacements go in steps of stride2 up to max_displacement, rows first; places in steps of
    stride1. Source: Dosovitskiy and others, FlowNet, 2015.
    """
    if data1.shape != data2.shape:
        raise ValueError(f"two pictures of one shape, not {data1.shape} and {data2.shape}")
    where = chosen(locals())
    product = (lambda a, b, *_: a * b) if is_multiply else (lambda a, b, *_: abs(a - b))
    return scores(data1, data2, product, **where)


def first_rule(h, y, g, a, b, is_multiply=True, **settings):
    """Rules of `correlation_first`: `h` takes the place of the first picture."""
    settings["is_multiply"] = is_multiply
    if is_multiply:
        return Correlation(h, b, **settings), None, correlation_second(g, h, b, **settings)
    return correlation_along(h, a, b, **settings), None, None


@operator(vjp=first_rule)
def correlation_first(g, data1, data2, /, kernel_size=1, max_displacement=1, stride1=1, stride2=1, pad_size=0, is_multiply=True):  # fmt: skip
    """The gradient of `Correlation`'s first picture."""
    where = chosen(locals())
    slope = (lambda a, b: b) if is_multiply else (lambda a, b: np.sign(a - b))
    return spread(g, data1, data2, slope, False, **where)


def second_rule(h, y, g, a, b, is_multiply=True, **settings):
    """Rules of `correlation_second`: `h` takes the place of the second picture."""
    settings["is_multiply"] = is_multiply
    if is_multiply:
        return Correlation(a, h, **settings), correlation_first(g, a, h, **settings), None
    return correlation_along(h, a, b, second=True, **settings), None, None


@operator(vjp=second_rule)
def correlation_second(g, data1, data2, /, kernel_size=1, max_displacement=1, stride1=1, stride2=1, pad_size=0, is_multiply=True):  # fmt: skip
    """The gradient of `Correlation`'s second picture."""
    where = chosen(locals())
    slope = (lambda a, b: a) if is_multiply else (lambda a, b: -np.sign(a - b))
    return spread(g, data1, data2, slope, True, **where)


def along_rule(g, y, h, a, b, second=False, **settings):
    """The rule of `correlation_along`, which is linear in `h`."""
    back = correlation_second if second else correlation_first
    return back(g, a, b, **settings), None, None


@operator(vjp=along_rule)
def correlation_along(h, data1, data2, /, second=False, kernel_size=1, max_displacement=1, stride1=1, stride2=1, pad_size=0, is_multiply=False):  # fmt: skip
    """How the distances of `Correlation` change when the first picture, or the second,
    changes by `h`.
    """
    where, step = chosen(locals()), padded(h, pad_size)
    if second:
        return scores(data1, data2, lambda a, b, one, two: -np.sign(a - b) * step[two], **where)
    return scores(data1, data2, lambda a, b, one, two: np.sign(a - b) * step[one], **where)


def bin_masks(low, high, count, size):
    """Which of `size` pixels lie in each of `count` bins: (regions, count, size)."""
    length = np.maximum(high - low, 0.1) / count
    edge = np.arange(count, dtype=low.dtype, like=low)
    start = np.floor(edge * length[:, None] + low[:, None]).clip(0, size)
    stop = np.ceil((edge + 1) * length[:, None] + low[:, None]).clip(0, size)
    pixel = np.arange(size, like=low)
    inside = (pixel >= start[..., None]) & (pixel < stop[..., None])
    return inside.astype(low.dtype)


def parts_of(data, rois, spatial_scale, output_dim, pooled_size, group_size):
    """What both operators need: masks of rows and columns, (regions, bins, pixels), and of groups,
    (bins, groups).
    """
    group = group_size or pooled_size
    if rois.ndim != 2 or rois.shape[1] != 5 or data.ndim != 4:
        raise ValueError("data of shape (batch, channels, height, width) and rois (regions, 5)")
    if data.shape[1] != output_dim * group**2:
        raise ValueError(f"{output_dim} outputs in {group} x {group} groups need as many channels")
    at = np.floor(rois[:, 1:] + 0.5)
    low, high = at[:, :2] * spatial_scale, (at[:, 2:] + 1) * spatial_scale
    rows = bin_masks(low[:, 1], high[:, 1], pooled_size, data.shape[2])
    columns = bin_masks(low[:, 0], high[:, 0], pooled_size, data.shape[3])
    rows = rows / np.maximum(rows.sum(axis=2, keepdims=True), 1)
    columns = columns / np.maximum(columns.sum(axis=2, keepdims=True), 1)
    place = np.arange(pooled_size, like=data) * group // pooled_size
    groups = (place[:, None] == np.arange(group, like=data)).astype(data.dtype)
    return rows, columns, groups


@operator(
    vjp=(lambda g, y, x, rois, **s: region_parts_back(g, x, rois, **s), None),
    aliases=("_contrib_PSROIPooling",),
)
def contrib_PSROIPooling(data, rois, /, spatial_scale, output_dim, pooled_size, group_size=0):
    """The mean of each bin of each region, every bin from channels of its own:
    (regions, output_dim, pooled_size, pooled_size).

    data: (batch, output_dim · group_size², height, width); rois: (regions, 5), rows (image, x0, y0,
    x1, y1), which rounded and times spatial_scale are pixels. Bins without pixels give 0. Source:
    Dai and others, R-FCN, 2016.
    """
    rows, columns, groups = parts_of(data, rois, spatial_scale, output_dim, pooled_size, group_size)
    image = rois[:, 0].astype("int64")
    shape = (output_dim, groups.shape[1], groups.shape[1], *data.shape[2:])
    out = np.zeros_like(data, shape=(len(rois), output_dim, pooled_size, pooled_size))
    for r in range(len(rois)):
        planes = data[image[r : r + 1]][0].reshape(shape)
        tall = np.matmul(planes, columns[r].T)  # (outputs, groups, groups, height, bins)
        both = np.matmul(rows[r], tall)  # (outputs, groups, groups, bins, bins)
        out[r] = np.einsum("dghij,ig,jh->dij", both, groups, groups)
    return out


@operator(vjp=(lambda h, y, g, x, rois, **s: contrib_PSROIPooling(h, rois, **s), None, None))
def region_parts_back(g, data, rois, /, spatial_scale, output_dim, pooled_size, group_size=0):
    """The gradient of `contrib_PSROIPooling`'s data."""
    rows, columns, groups = parts_of(data, rois, spatial_scale, output_dim, pooled_size, group_size)
    image, out = rois[:, 0].astype("int64"), np.zeros_like(data)
    for r in range(len(rois)):
        split = np.einsum("dij,ig,jh->dghij", g[r], groups, groups)
        part = np.matmul(np.matmul(rows[r].T, split), columns[r])
        out[image[r : r + 1]] += part.reshape(1, *data.shape[1:])
    return out


def turned_points(roi, pooled, scale, ratio):
    """Where a turned region is read: rows and columns, each (bins down, points, bins across, points)."""
    x, y, width, height = (float(n) * scale for n in roi[1:5])
    width, height, angle = max(width, 1.0), max(height, 1.0), math.radians(float(roi[5]))
    axes = []
    for size, bins in ((height, pooled[0]), (width, pooled[1])):
        points = ratio if ratio > 0 else math.ceil(size / bins)
        axes.append(((np.arange(bins * points) + 0.5) / (bins * points) - 0.5) * size)
    down, across = np.meshgrid(*axes, indexing="ij")
    rows = down * math.cos(angle) - across * math.sin(angle) + y
    columns = across * math.cos(angle) + down * math.sin(angle) + x
    shape = pooled[0], len(axes[0]) // pooled[0], pooled[1], len(axes[1]) // pooled[1]
    return rows.reshape(shape), columns.reshape(shape)


def between_pixels(picture, rows, columns):
    """The numbers of `picture`, (channels, h, w), at places between its pixels;
    0 more than a pixel outside.
    """
    h, w = picture.shape[1:]
    inside = (rows >= -1) & (rows <= h) & (columns >= -1) & (columns <= w)
    rows, columns = np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)
    y, x = np.floor(rows).astype("int64"), np.floor(columns).astype("int64")
    a, b = rows - y, columns - x
    below, right = np.minimum(y + 1, h - 1), np.minimum(x + 1, w - 1)
    upper = picture[:, y, x] * (1 - b) + picture[:, y, right] * b
    lower = picture[:, below, x] * (1 - b) + picture[:, below, right] * b
    return (upper * (1 - a) + lower * a) * inside


@operator(vjp=(None, None), aliases=("_contrib_RROIAlign",))
def contrib_RROIAlign(data, rois, /, pooled_size, spatial_scale, sampling_ratio=-1):
    """The mean of each bin of regions that are turned: (regions, channels, *pooled_size).

    As in MXNet it has no gradient.

    data: (batch, channels, height, width); rois: (regions, 6), rows (image, x, y, width, height,
    degrees), x and y of the middle, counter-clockwise. Source: Ma et al., Arbitrary-oriented scene
    text detection, 2018.
    """
    pooled = several(pooled_size)
    pooled = pooled * 2 if len(pooled) == 1 else pooled
    if rois.ndim != 2 or rois.shape[1] != 6 or data.ndim != 4:
        raise ValueError("data of shape (batch, channels, height, width) and rois (regions, 6)")
    out = np.zeros_like(data, shape=(len(rois), data.shape[1], *pooled))
    for r, roi in enumerate(rois):
        at = (
            np.asarray(a, data.dtype, like=data)
            for a in turned_points(roi, pooled, spatial_scale, sampling_ratio)
        )
        read = between_pixels(data[int(roi[0])], *at)
        out[r] = read.mean(axis=(2, 4))
    return out


def base_anchors(stride, scales, ratios, like):
    """The boxes at the first place, (anchors, 4): for each ratio all scales, in whole pixels."""
    rows, middle = [], 0.5 * (stride - 1)
    for ratio in ratios:
        width = math.floor(math.sqrt(math.floor(stride * stride / ratio)) + 0.5)
        height = math.floor(width * ratio + 0.5)
        for scale in scales:
            w, h = (0.5 * (n * scale - 1) for n in (width, height))
            rows.append([middle - w, middle - h, middle + w, middle + h])
    return np.array(rows, like.dtype, like=like)


def moved_boxes(anchors, delta, iou_loss):
    """Boxes moved and stretched by what the network says, or by corners with `iou_loss`."""
    if iou_loss:
        return anchors + delta
    size = anchors[..., 2:] - anchors[..., :2] + 1
    middle = anchors[..., :2] + 0.5 * (size - 1) + delta[..., :2] * size
    half = 0.5 * (np.exp(delta[..., 2:]) * size - 1)
    return np.concatenate([middle - half, middle + half], axis=-1)


@operator(vjp=(None, None, None), aliases=("_contrib_MultiProposal",))
def contrib_MultiProposal(
    cls_prob,
    bbox_pred,
    im_info,
    /,
    rpn_pre_nms_top_n=6000,
    rpn_post_nms_top_n=300,
    threshold=0.7,
    rpn_min_size=16,
    scales=(4, 8, 16, 32),
    ratios=(0.5, 1, 2),
    feature_stride=16,
    output_score=False,
    iou_loss=False,
):
    """Boxes that may hold an object: (batch · rpn_post_nms_top_n, 5), rows (image, x0, y0, x1, y1);
    with output_score also their scores.

    cls_prob: (batch, 2 · anchors, h, w), the second half of the channels counts; bbox_pred: (batch,
    4 · anchors, h, w); im_info: (batch, 3), rows (height, width, scale). Of the best
    rpn_pre_nms_top_n those go that overlap a better one by more than `threshold`; if too few are
    left they are repeated. Source: Ren and others, Faster R-CNN, 2015.
    """
    batch, _, h, w = cls_prob.shape
    base = base_anchors(feature_stride, scales, ratios, cls_prob)
    n = len(base)
    if cls_prob.shape[1] != 2 * n or bbox_pred.shape != (batch, 4 * n, h, w):
        raise ValueError(f"{n} anchors: cls_prob needs {2 * n} channels, and bbox_pred {4 * n}")
    if im_info.shape != (batch, 3):
        raise ValueError(f"im_info: a row (height, width, scale) an image, not {im_info.shape}")
    steps = [np.arange(m, dtype=base.dtype, like=base) * feature_stride for m in (h, w)]
    y, x = np.meshgrid(*steps, indexing="ij")
    anchors = base + np.stack([x, y, x, y], -1)[:, :, None]  # (h, w, anchors, 4)
    delta = bbox_pred.reshape(batch, n, 4, h, w).transpose(0, 3, 4, 1, 2)
    boxes = moved_boxes(anchors, delta, iou_loss)
    limit = (im_info[:, [1, 0, 1, 0]] - 1)[:, None, None, None]
    boxes = np.minimum(np.maximum(boxes, 0), limit)
    score = cls_prob[:, n:].transpose(0, 2, 3, 1).copy()
    there = np.floor(im_info[:, :2] / feature_stride)[:, :, None, None, None]
    beyond = (y[..., None] / feature_stride >= there[:, 0]) | (
        x[..., None] / feature_stride >= there[:, 1]
    )
    least = (rpn_min_size * im_info[:, 2])[:, None, None, None, None]
    small = (boxes[..., 2:] - boxes[..., :2] + 1 < least).any(axis=-1)
    grown = np.concatenate([boxes[..., :2] - least / 2, boxes[..., 2:] + least / 2], axis=-1)
    boxes = np.where(small[..., None], grown, boxes).reshape(batch, -1, 4)
    score = np.where(small | beyond, -1, score).reshape(batch, -1)
    return best_boxes(boxes, score, rpn_pre_nms_top_n, rpn_post_nms_top_n, threshold, output_score)


def best_boxes(boxes, score, before, after, threshold, output_score):
    """The `after` best of the `before` best boxes an image, without those that overlap a better one."""
    batch = len(boxes)
    image = np.arange(batch, like=boxes)[:, None]
    order = stable_order.kernel(-score)[:, : before if before > 0 else None]
    best = boxes[image, order]
    ends = np.concatenate([best[..., :2], best[..., 2:] + 1], axis=-1)  # the last pixel counts
    alive = np.ones_like(order, dtype=bool)
    kept = survivors.kernel(ends, None, alive, threshold)
    front = (~kept).argsort(axis=1, kind="stable")
    count = kept.sum(axis=1, keepdims=True)
    place = np.take_along_axis(front, np.arange(after, like=front) % count, axis=1)
    rows = np.take_along_axis(order, place, axis=1)
    number = np.broadcast_to(image, rows.shape).astype(boxes.dtype)[..., None]
    found = np.concatenate([number, boxes[image, rows]], axis=-1).reshape(-1, 5)
    return (found, score[image, rows].reshape(-1, 1)) if output_score else found


def proposals(number, output_score=False, **_):
    """What the outputs are called."""
    return ["output", "score"] if output_score else ["output"]


contrib_MultiProposal.outputs = proposals


@operator(vjp=(None, None, None), aliases=("_contrib_Proposal",))
def contrib_Proposal(cls_prob, bbox_pred, im_info, /, rpn_pre_nms_top_n=6000, rpn_post_nms_top_n=300, threshold=0.7, rpn_min_size=16, scales=(4, 8, 16, 32), ratios=(0.5, 1, 2), feature_stride=16, output_score=False, iou_loss=False):  # fmt: skip
    """`contrib_MultiProposal` for a batch of one image."""
    if len(cls_prob) != 1:
        raise ValueError("Sorry, multiple images each device is not implemented: use MultiProposal")
    return contrib_MultiProposal.kernel(
        cls_prob, bbox_pred, im_info, rpn_pre_nms_top_n, rpn_post_nms_top_n, threshold, rpn_min_size,
        scales, ratios, feature_stride, output_score, iou_loss,
    )  # fmt: skip


contrib_Proposal.outputs = proposals


STEPS = {"int8": 127, "uint8": 255, "int32": 2147483647}


def symmetric(low, high):
    """The larger bound, by absolute value."""
    return np.maximum(abs(low), abs(high))


@operator(vjp=(None, None, None), same_dtype=False, aliases=("_contrib_quantize",))
def contrib_quantize(data, min_range, max_range, /, out_type="uint8"):
    """`data` as whole steps of the larger bound, and the bounds; uint8 takes negative numbers for 0.

    min_range and max_range: (1,). Outputs the steps in the shape of data, and two bounds, (1,).
    """
    if out_type not in ("int8", "uint8"):
        raise ValueError(f"out_type is int8 or uint8, not {out_type!r}")
    bound, most = symmetric(min_range, max_range), STEPS[out_type]
    steps = np.rint(data * (most / np.where(bound > 0, bound, 1))).clip(
        -most if out_type == "int8" else 0, most
    )
    bounds = (-bound, bound) if out_type == "int8" else (min_range.copy(), max_range.copy())
    return steps.astype(out_type), *bounds


contrib_quantize.outputs = ["output0", "output1", "output2"]


@operator(vjp=(None, None, None), same_dtype=False, aliases=("_contrib_dequantize",))
def contrib_dequantize(data, min_range, max_range, /, out_type="float32"):
    """The numbers that steps of a range stand for; the steps are uint8, int8 or int32."""
    kind = data.dtype.name
    if kind not in STEPS:
        raise ValueError(f"data of type int8, uint8 or int32, not {kind}")
    found = data * (symmetric(min_range, max_range) / (STEPS[kind] + 0.5))
    return found.astype(out_type)
