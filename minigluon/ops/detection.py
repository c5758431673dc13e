"""Boxes on pictures: propose them, match them, correct them, throw most of them away, look inside."""

# Written from chapters/18_detection.ipynb: edit the chapter, then run `minigluon export`.

import math
from functools import lru_cache
from heapq import heapify, heappop, heappush

import numpy as np

from minigluon.cores import matmul
from minigluon.op import operator
from minigluon.ops import reduce
from minigluon.ops.elementwise import constant, floor
from minigluon.ops.ordering import stable_order
from minigluon.ops.pieces import concat, slice_axis

__all__ = [
    "BilinearSampler",
    "COUNTS",
    "EMPTY",
    "FEW",
    "FEW_PAIRS",
    "GridGenerator",
    "KNOWN",
    "LARGEST",
    "LEAST",
    "NEIGHBOURS",
    "PORTION",
    "ROIPooling",
    "SpatialTransformer",
    "VARIANCES",
    "add_at_index",
    "anchor_middles",
    "anchors",
    "area",
    "assigned",
    "at_index",
    "average_back",
    "averages",
    "bins",
    "bins_between",
    "box_nms_index",
    "brightest",
    "by_image",
    "by_score",
    "centers",
    "channels_out",
    "check_columns",
    "check_detection_shapes",
    "check_pictures",
    "check_regions",
    "check_target_shapes",
    "contrib_AdaptiveAvgPooling2D",
    "contrib_BilinearResize2D",
    "contrib_MultiBoxDetection",
    "contrib_MultiBoxPrior",
    "contrib_MultiBoxTarget",
    "contrib_ROIAlign",
    "contrib_bipartite_matching",
    "contrib_box_decode",
    "contrib_box_encode",
    "contrib_box_iou",
    "contrib_box_nms",
    "corners",
    "decoded",
    "decoded_anchors",
    "edges",
    "encoded",
    "encoded_few",
    "evenly",
    "first",
    "half_sizes",
    "hardest",
    "known_anchors",
    "largest",
    "largest_in_bins",
    "largest_of",
    "likeliest",
    "listed",
    "neighbour_index",
    "new_size",
    "objects",
    "overlaps",
    "overlaps_of",
    "overlaps_with_anchors",
    "paired",
    "paired_soon",
    "pairs_of_few",
    "pixels_of",
    "raster",
    "raster_moments",
    "read_bins",
    "read_regions",
    "region_bins",
    "region_weights",
    "require",
    "require_real",
    "resize_back",
    "resizing",
    "roi_max_index",
    "roi_spread",
    "spread_bins",
    "spread_regions",
    "steps_of",
    "survivors",
    "survivors_by_class",
    "survivors_by_table",
    "survivors_in_turn",
    "taken",
    "taken_in_turn",
    "tents",
    "through",
    "to_pixels",
    "to_unit",
    "unit",
    "weight",
]


# --- Boxes ----------------------------------------------------------------------------------------


def require(condition, wanted):
    """Raise ValueError, saying what is `wanted`, unless the condition holds."""
    if not condition:
        raise ValueError(f"need {wanted}")


def require_real(data):
    """Refuse whole numbers, which cannot measure boxes."""
    if data.dtype.kind not in "fV":
        raise ValueError(f"need floating-point numbers, not {data.dtype}")


def corners(boxes, format):
    """Boxes (x, y, width, height) or corners, as `format` says, as corners: (..., 4)."""
    if format == "corner":
        return boxes
    require(format == "center", f"a format 'corner' or 'center', not {format!r}")
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([middle - half, middle + half], axis=-1)


def centers(boxes):
    """Corners as middle and size, two arrays (..., 2)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


# --- Anchors --------------------------------------------------------------------------------------


@operator(vjp=(None,), aliases=("_contrib_MultiBoxPrior",))
def contrib_MultiBoxPrior(
    data, /, sizes=(1.0,), ratios=(1.0,), clip=False, steps=(-1.0, -1.0), offsets=(0.5, 0.5)
):
    """Anchor boxes around each pixel of `data`, as corners relative to the picture: (1, n, 4).

    data: (batch, channels, height, width), of which the shape alone counts; for each pixel all sizes
    with the first ratio, then the first size with the other ratios. `steps` and `offsets` are (y, x).
    Source: Liu et al., SSD, 2016, section 2.2.
    """
    require_real(data)
    require(data.ndim >= 4, "data of shape (batch, channels, height, width)")
    given = *listed(sizes, ratios, steps, offsets), clip, data.dtype
    if type(data) is np.ndarray and math.prod(data.shape[2:4]) <= FEW:
        return known_anchors(data.shape[2:4], *given).copy()
    return anchors(data.shape[2:4], *given, like=data)


def anchors(picture, sizes, ratios, steps, offsets, clip, dtype, like=None):
    """The anchors of all pixels of a picture (height, width)."""
    x, y = anchor_middles(picture, steps, offsets, dtype, like)
    w, h = half_sizes(picture, sizes, ratios, dtype, like)
    out = np.empty((len(y), len(x), len(w), 4), dtype, like=like)
    for side, edge in enumerate((x - w, y - h, x + w, y + h)):
        out[..., side] = edge
    out = out.reshape(1, -1, 4)
    return out.clip(0, 1) if clip else out


FEW = 4096  # pixels of a picture whose anchors are kept: at four a pixel 256 KiB
known_anchors = lru_cache(maxsize=64)(anchors)


def anchor_middles(picture, steps, offsets, dtype, like):
    """Where the pixels lie in the picture: (width, 1) and (height, 1, 1)."""
    require(len(steps) == 2 and len(offsets) == 2, "steps and offsets for y and x")
    require(steps[0] * steps[1] >= 0, "both steps or none")
    height, width = picture
    step_y, step_x = steps if min(steps) > 0 else (1 / height, 1 / width)
    x = np.arange(width, dtype=dtype, like=like)[:, None]
    y = np.arange(height, dtype=dtype, like=like)[:, None, None]
    return (x + offsets[1]) * step_x, (y + offsets[0]) * step_y


def half_sizes(picture, sizes, ratios, dtype, like):
    """Half the widths and heights of the anchors of one pixel, relative to the picture."""
    require(sizes and ratios, "at least one size and one ratio")
    height, width = picture
    size = np.array(sizes + sizes[:1] * (len(ratios) - 1), dtype, like=like)
    root = np.sqrt(np.array(ratios[:1] * len(sizes) + ratios[1:], dtype, like=like))
    return size * height / width * root / 2, size / root / 2


def listed(*settings):
    """Settings that are numbers, each several or a single one, as tuples."""
    return [(s,) if isinstance(s, int | float) else tuple(s) for s in settings]


# --- Overlap --------------------------------------------------------------------------------------


def overlaps(a, b):
    """Intersection over union of boxes as corners, (4, ...) against (4, ...), broadcast;
    empty or NaN: 0.
    """
    return overlaps_of(a, b, area(a), area(b))


def overlaps_of(a, b, area_a, area_b):
    """`overlaps` of boxes whose areas, (...), are known."""
    side = np.minimum(a[2:], b[2:])
    side -= np.maximum(a[:2], b[:2])
    zero, least = (KNOWN if type(a) is np.ndarray else LEAST)[side.dtype.char]
    np.fmax(side, zero, out=side)
    common, union = np.multiply(side[0], side[1], out=side[0]), np.add(area_a, area_b, out=side[1])
    union -= common
    common /= np.fmax(union, least, out=union)
    return common


# 0, and the least number above it: a union of 0 has nothing in
# common. As arrays NumPy knows them sooner.
LEAST = {"e": (0.0, 2.0**-24), "f": (0.0, 2.0**-149), "d": (0.0, 5e-324)}
KNOWN = {c: tuple(constant(number, c) for number in both) for c, both in LEAST.items()}


def area(boxes):
    """Width times height of corners (4, ...): (...)."""
    size = boxes[2:] - boxes[:2]
    return size[0] * size[1]


@operator(vjp=(None, None), aliases=("_contrib_box_iou",))
def contrib_box_iou(lhs, rhs, /, format="corner"):
    """Intersection over union of each box of `lhs` with each of `rhs`.

    lhs: (*a, 4), rhs: (*b, 4), result (*a, *b); format: 'corner' for (xmin, ymin, xmax, ymax),
    'center' for (x, y, width, height). Boxes without area overlap nothing. The gradient is zero.
    """
    require_real(lhs)
    for boxes in (lhs, rhs):
        require(boxes.ndim > 1 and boxes.shape[-1] == 4, "boxes of shape (..., 4)")
    a, b = corners(lhs, format), corners(rhs, format)
    found = overlaps(a.reshape(-1, 4).T.copy()[:, :, None], b.reshape(-1, 4).T.copy()[:, None])
    return found.reshape(lhs.shape[:-1] + rhs.shape[:-1])


# --- Offsets --------------------------------------------------------------------------------------


def encoded(anchors, boxes):
    """How to get from anchors to boxes, both corners (..., 4): shifts in sizes, logarithms of scales."""
    (at, size), (middle, extent) = centers(anchors), centers(boxes)
    return np.concatenate([(middle - at) / size, np.log(extent / size)], axis=-1)


def decoded(at, size, offsets):
    """The boxes, as corners, at `offsets` from anchors with middle `at` and `size`."""
    middle, half = offsets[..., :2] * size + at, np.exp(offsets[..., 2:]) * size / 2
    return np.concatenate([middle - half, middle + half], axis=-1)


@operator(vjp=(None,) * 6, aliases=("_contrib_box_encode",))
def contrib_box_encode(samples, matches, anchors, refs, means, stds, /):
    """What a network should predict at each anchor, and a mask: two arrays (batch, n, 4).

    samples: (batch, n), 1 where an anchor has an object; matches: (batch, n), which one; anchors:
    (batch, n, 4) and refs: (batch, m, 4), corners; means and stds: (4,). Targets are
    (offset - mean) / std where samples > 0.5; elsewhere target and mask are 0.
    """
    require(samples.ndim == 2 and samples.shape == matches.shape, "samples and matches (batch, n)")
    require(anchors.shape == (*samples.shape, 4), f"anchors of shape {(*samples.shape, 4)}")
    require(refs.ndim == 3 and refs.shape[2] == 4, "refs of shape (batch, m, 4)")
    chosen = (samples > 0.5)[..., None]
    which = matches.astype("int64").clip(0, refs.shape[1] - 1)[..., None]
    # boxes without area, which nobody asks for
    with np.errstate(divide="ignore", invalid="ignore"):
        target = (encoded(anchors, np.take_along_axis(refs, which, axis=1)) - means) / stds
    return np.where(chosen, target, 0), np.broadcast_to(chosen, target.shape).astype(refs.dtype)


contrib_box_encode.outputs = 2


@operator(vjp=(None, None), aliases=("_contrib_box_decode",))
def contrib_box_decode(
    data, anchors, /, std0=1.0, std1=1.0, std2=1.0, std3=1.0, clip=-1.0, format="center"
):
    """The boxes that predicted offsets mean, as corners: (batch, n, 4).

    data: (batch, n, 4), multiplied by std0 … std3; anchors: (1, n, 4) in `format`. With clip > 0 the
    logarithms of the scales stay below it. The gradient is zero.
    """
    require_real(data)
    require(data.ndim == 3 and data.shape[2] == 4, "data of shape (batch, n, 4)")
    require(anchors.shape == (1, *data.shape[1:]), f"anchors of shape {(1, *data.shape[1:])}")
    offsets = data * np.array([std0, std1, std2, std3], data.dtype, like=data)
    if clip > 0:
        offsets[..., 2:] = np.minimum(offsets[..., 2:], clip)
    return decoded(*centers(corners(anchors, format)), offsets)


# --- Matching -------------------------------------------------------------------------------------


def paired(scores, threshold, most):
    """Greedy pairs: the best score first, then the best of the other rows and columns, and so on.

    scores: (batch, n, m); only scores above `threshold` count, and at most `most` pairs are made.
    Returns the images, rows and columns of all pairs, three arrays of one length.
    """
    batch, n, m = scores.shape
    left, image = np.where(scores == scores, scores, -np.inf), np.arange(batch, like=scores)
    found = [[image[:0]] * 3]
    for _ in range(min(n, m, most)):
        best = left.reshape(batch, n * m).argmax(axis=1)
        row, column = best // m, best % m
        good = left[image, row, column] > threshold
        if not good.any():
            break
        found.append([image[good], row[good], column[good]])
        left[image, row] = -np.inf
        left[image, :, column] = -np.inf
    return [np.concatenate(part) for part in zip(*found)]


def paired_soon(scores, threshold, most):
    """`paired` of NumPy's arrays, in which a column looks again only when its best row is taken."""
    found, best = [], zip(scores.max(axis=1).tolist(), scores.argmax(axis=1).tolist())
    for i, (values, rows) in enumerate(best):
        if math.isnan(sum(values)):  # a NaN hides what is behind it
            return paired(scores, threshold, most)
        waiting = [(-v, row, c) for c, (v, row) in enumerate(zip(values, rows)) if v > threshold]
        taken = taken_in_turn(waiting, scores[i], threshold, most)
        found += [(i, row, column) for row, column in taken.items()]
    return np.array(found or EMPTY, COUNTS).T


def taken_in_turn(waiting, scores, threshold, most):
    """The pairs {row: column} of one image; `waiting`: (minus the best score, its row, the column)."""
    taken = {}
    heapify(waiting)
    while waiting and len(taken) < most:
        _, row, column = heappop(waiting)
        if row not in taken:
            taken[row] = column
            continue
        left = scores[:, column].copy()
        left[[*taken]] = -np.inf
        row = int(left.argmax())
        if left[row] > threshold:
            heappush(waiting, (-left[row].item(), row, column))
    return taken


EMPTY, COUNTS = np.empty((0, 3)), np.dtype("int64")


def pairs_of_few(scores, threshold, most):
    """`paired` of NumPy's arrays, pair by pair: a list of (image, row, column);
    None if there is a NaN.
    """
    found = []
    for i, left in enumerate(scores):
        left = left.copy()  # in order of rows, whatever that of `scores`
        n, m = left.shape
        for _ in range(min(n, m, most)):
            at = int(left.argmax())
            best = left.item(at)
            if best != best:
                return None
            if best <= threshold:
                break
            row, column = divmod(at, m)
            left[row] = left[:, column] = -np.inf
            found.append((i, row, column))
    return found


@operator(vjp=(None,), aliases=("_contrib_bipartite_matching",))
def contrib_bipartite_matching(data, /, is_ascend=False, threshold=None, topk=-1):
    """Greedy pairs of rows and columns: two arrays, (..., n) and (..., m), with -1 for no partner.

    data: scores (..., n, m), of which those above `threshold` count, with is_ascend those below. With
    topk > 0 there are at most topk + 1 pairs. The gradient is zero.
    """
    require_real(data)
    require(data.ndim >= 2, "scores of shape (..., n, m)")
    require(threshold is not None, "a threshold")
    *batch, n, m = data.shape
    sign, most = -1 if is_ascend else 1, topk + 1 if topk > 0 else n * m
    scores = sign * data.reshape(math.prod(batch), n, m)
    find = paired_soon if type(data) is np.ndarray and n else paired
    image, row, column = find(scores, sign * threshold, most)
    rows, columns = (np.full_like(data, -1, shape=(len(scores), size)) for size in (n, m))
    rows[image, row], columns[image, column] = column, row
    return rows.reshape(*batch, n), columns.reshape(*batch, m)


contrib_bipartite_matching.outputs = 2


# --- Targets --------------------------------------------------------------------------------------

VARIANCES = (0.1, 0.1, 0.2, 0.2)


def objects(label):
    """Which rows of the labels (batch, m, 5 or more) are objects:
    those before the first of class -1; None for all.
    """
    end = label[..., 0] == (constant(-1, label.dtype) if type(label) is np.ndarray else -1)
    if not np.count_nonzero(end):
        return None
    before = end.cumsum(axis=1)
    stop = end & (before == 1)
    spoilt = stop[..., None] & (label[..., 1:5] != -1)
    require(not spoilt.any(), "all of (class, box) to be -1 where a label ends")
    return before == 0


def assigned(iou, threshold):
    """Which anchors count by their overlap with objects, (batch, m, n), and their best one:
    each (batch, n).

    An absent object has -inf. The overlap of an object and the anchor that it is paired with
    becomes inf.
    """
    scores, plain = iou.swapaxes(1, 2), type(iou) is np.ndarray
    few = pairs_of_few(scores, 1e-6, iou.shape[1]) if plain and 0 < iou.size <= FEW_PAIRS else None
    if few is None:
        image, anchor, thing = (paired_soon if plain and iou.shape[2] else paired)(
            scores, 1e-6, iou.shape[1]
        )
        iou[image, thing, anchor] = np.inf
    else:
        for image, anchor, thing in few:
            iou[image, thing, anchor] = np.inf
    best = np.maximum.reduce(iou, 1) if plain else iou.max(axis=1)  # as `max`, 0.3 µs sooner
    limit = threshold if threshold > 0 else LARGEST
    return best > (constant(limit, best.dtype) if plain else limit), best


FEW_PAIRS = 64  # overlaps up to which each pair may look through all of them
LARGEST = 2.0  # no overlap is larger, but for that of a pair


def hardest(cls_pred, candidates, count):
    """The `count` candidates of each image, (batch, n), that look least like background.

    cls_pred: (batch, classes + 1, n), of which the softmax along axis 1 makes probabilities.
    """
    e = np.exp(cls_pred - cls_pred.max(axis=1, keepdims=True))
    background = e[:, 0] / e.sum(axis=1)
    order = stable_order.kernel(np.where(candidates, background, np.inf))
    first = np.arange(order.shape[1], like=order) < count[:, None]
    hard = np.empty_like(candidates)
    np.put_along_axis(hard, order, first, axis=1)
    return candidates & hard


@operator(vjp=(None, None, None), aliases=("_contrib_MultiBoxTarget",))
def contrib_MultiBoxTarget(
    anchor,
    label,
    cls_pred,
    /,
    overlap_threshold=0.5,
    ignore_label=-1.0,
    negative_mining_ratio=-1.0,
    negative_mining_thresh=0.5,
    minimum_negative_samples=0,
    variances=VARIANCES,
):
    """What a detector should predict: offsets (batch, 4n), their mask (batch, 4n), classes (batch, n).

    anchor: (1, n, 4) corners; label: (batch, m, 5 or more), rows (class, corners), ended by -1;
    cls_pred: (batch, classes + 1, n), used with negative_mining_ratio > 0 alone. Class 0 is the
    background, `ignore_label` does not count. minimum_negative_samples has no effect, as in MXNet.
    Source: Liu et al., SSD, 2016, section 2.2.
    """
    check_target_shapes(anchor, label, cls_pred, variances)
    (batch, m), n, dtype = label.shape[:2], anchor.shape[1], anchor.dtype
    like = {} if type(label) is np.ndarray else {"like": label}
    boxes = np.empty((4, n + batch * m), dtype, **like)  # all of them, the anchors first
    boxes[:, :n], boxes[:, n:] = anchor[0].T, label[..., 1:5].reshape(-1, 4).T
    size, valid = boxes[2:] - boxes[:2], objects(label)
    iou = overlaps_with_anchors(boxes, size, label.shape[:2], valid)
    positive, best = assigned(iou, overlap_threshold)
    classes = np.zeros(best.shape, dtype, **like)
    if negative_mining_ratio > 0:
        require(negative_mining_thresh > 0, "a positive negative_mining_thresh")
        count = (positive.sum(axis=1) * negative_mining_ratio).astype("int64")
        negative = hardest(cls_pred, ~positive & (best < negative_mining_thresh), count)
        classes[~negative] = ignore_label
    if valid is not None:
        classes[~valid[:, 0]] = ignore_label  # without objects everything is ignored
    (counted,) = positive.reshape(-1).nonzero()  # few
    if batch == 1:
        at, match = counted, iou[0].take(counted, 1).argmax(0)
    else:
        image, at = counted // n, counted % n
        match = iou[image, :, at].argmax(axis=1) + image * m  # a row of all labels
    classes.reshape(-1)[counted] = label.reshape(batch * m, -1)[:, 0].take(match) + 1
    target = np.zeros((batch * n, 4), dtype, **like)
    target[counted] = encoded_few(boxes, size, at, match + n, variances)
    return target.reshape(batch, -1), positive.astype(dtype).repeat(4, 1), classes


contrib_MultiBoxTarget.outputs = ["loc_target", "loc_mask", "cls_target"]


def overlaps_with_anchors(boxes, size, count, valid):
    """The overlap of each object with each anchor, (batch, m, n), -inf where there is none.

    boxes: the corners of all n anchors, then of the batch · m objects, (4, …); size: (2, …); count:
    (batch, m).
    """
    n = boxes.shape[1] - count[0] * count[1]
    area, things = size[0] * size[1], boxes[:, n:].reshape(4, *count, 1)
    iou = overlaps_of(things, boxes[:, None, None, :n], area[n:].reshape(*count, 1), area[:n])
    return iou if valid is None else np.where(valid[..., None], iou, -np.inf)


def encoded_few(boxes, size, anchors, matches, variances):
    """How to get from some anchors to some objects, (k, 4), over the variances:
    `encoded`, with the sizes known.

    boxes: corners, (4, …); size: (2, …); anchors and matches: (k,), which of them.
    """
    (x, y, w, h), middle = variances, boxes[:2] + boxes[2:]  # twice the middle
    old, new = size.take(anchors, 1), size.take(matches, 1)
    shift = (middle.take(matches, 1) - middle.take(anchors, 1)) / old
    out = np.concatenate([shift, np.log(new / old)]).T
    scale = (2 * x, 2 * y, w, h)
    out /= (
        constant(scale, size.dtype)
        if type(size) is np.ndarray
        else np.array(scale, size.dtype, like=size)
    )
    return out


def check_target_shapes(anchor, label, cls_pred, variances):
    """Raise ValueError where the arrays of MultiBoxTarget do not fit together."""
    require_real(anchor)
    require(anchor.ndim == 3 and anchor.shape[::2] == (1, 4), "anchors of shape (1, n, 4)")
    require(label.ndim == 3 and label.shape[2] >= 5, "labels of shape (batch, m, 5 or more)")
    require(label.shape[1] > 0, "a row of -1 in the label of a picture without objects")
    n, shape = anchor.shape[1], cls_pred.shape
    if len(shape) != 3 or shape[2] != n:
        require(False, f"class predictions of shape (batch, classes + 1, {n})")
    require(len(variances) == 4, "four variances")


# --- Suppression ----------------------------------------------------------------------------------


@operator(vjp=(None,) * 3, same_dtype=False, listed=False)
def survivors(boxes, ids, alive, /, threshold, equal=False):
    """Which boxes are kept, (batch, n): each removes those behind it that overlap it too much.

    boxes: corners (batch, n, 4), the best first; ids: (batch, n), of which equal ones compete, or
    None; alive: (batch, n), who takes part; more than `threshold` is too much, or with `equal` as much.
    """
    too_much = np.greater_equal if equal else np.greater
    if boxes.shape[0] * boxes.shape[1] ** 2 <= 2**18:
        return survivors_by_table(boxes, ids, alive, too_much, threshold)
    if ids is not None and type(boxes) is np.ndarray:
        return survivors_by_class(boxes, ids, alive, too_much, threshold)
    return survivors_in_turn(boxes, ids, alive, too_much, threshold)


def survivors_in_turn(boxes, ids, alive, too_much, threshold):
    """The same round by round; too_much(overlap, threshold) tells who goes."""
    image, left, kept = np.arange(len(boxes), like=boxes), alive.copy(), np.zeros_like(alive)
    boxes = boxes.transpose(2, 0, 1).copy()
    while left.any():
        i = left.argmax(axis=1)  # the best that is left in each image
        kept[image, i] |= left[image, i]
        gone = too_much(overlaps(boxes, boxes[:, image, i, None]), threshold)
        if ids is not None:
            gone &= ids == ids[image, i][:, None]
        left &= ~gone
        left[image, i] = False
    return kept


def survivors_by_class(boxes, ids, alive, too_much, threshold):
    """The same, each class of each image alone: twenty classes have a twentieth of the pairs."""
    kept = alive & (ids != ids)  # NaN is no class
    for image, (own, here) in enumerate(zip(ids, alive)):
        for i in np.unique(own[here & (own == own)]):
            some = np.flatnonzero(here & (own == i))
            group, all_there = boxes[image, some][None], np.ones((1, len(some)), bool)
            way = survivors_by_table if len(some) ** 2 <= 2**18 else survivors_in_turn
            kept[image, some] = way(group, None, all_there, too_much, threshold)[0]
    return kept


def survivors_by_table(boxes, ids, alive, too_much, threshold):
    """The same with all pairs compared beforehand:
    for few boxes, where a call costs more than a number.
    """
    rows = boxes.transpose(2, 0, 1).copy()
    gone = too_much(overlaps(rows[..., None], rows[:, :, None]), threshold)
    if ids is not None:
        gone &= ids[:, :, None] == ids[:, None]
    stays, kept = ~gone, alive.copy()
    for i in range(boxes.shape[1]):
        behind = kept[:, i + 1 :]
        behind &= stays[:, i, i + 1 :] | ~kept[:, i : i + 1]
    return kept


def by_score(score, valid, most):
    """The numbers of the valid boxes, the best first, (batch, k), and which of these are valid."""
    most = min(most, largest(valid.sum(axis=1)))
    order = stable_order.kernel(np.where(valid, -score, np.inf))[:, :most]
    return order, taken(valid, order)


def taken(rows, order):
    """Of each image the rows that `order`, (batch, k), names, in this order."""
    batch, n = rows.shape[:2]
    start = np.arange(batch, like=order)[:, None] * n
    return rows.reshape(batch * n, *rows.shape[2:]).take(order + start, axis=0)


def largest(x):
    """The largest number as a Python number, for a shape that depends on it: waits for the device."""
    return x.max().item() if x.size else 0


# --- Gather and scatter ---------------------------------------------------------------------------


@operator(vjp=(lambda g, y, data, index: add_at_index(g, data, index), None), same_dtype=False)
def at_index(data, index, /):
    """The numbers of `data`, counted through all axes, at whole numbers `index`;
    0 where it is negative.
    """
    return np.where(index < 0, 0, data.reshape(-1)[index])


@operator(vjp=(lambda g, y, data, like, index: at_index(g, index), None, None), same_dtype=False)
def add_at_index(data, like, index, /):
    """Undo `at_index`: zeros in the shape of `like`, with `data` added where it came from."""
    out = np.zeros(like.size, data.dtype, like=data)  # a row: others may not lie in this order
    data = np.where(index < 0, 0, data)
    # rows: an eighth of the time
    np.add.at(out, np.maximum(index, 0).reshape(-1), data.reshape(-1))
    return out.reshape(like.shape)


# --- Suppression by score -------------------------------------------------------------------------


@operator(vjp=(None,))
def box_nms_index(
    data,
    /,
    overlap_thresh=0.5,
    valid_thresh=0.0,
    topk=-1,
    coord_start=2,
    score_index=1,
    id_index=-1,
    background_id=-1,
    force_suppress=False,
    in_format="corner",
    out_format="corner",
):
    """Where `contrib_box_nms` takes its numbers from, counted through all of `data`; -1 for nowhere."""
    check_columns(data, coord_start, score_index, id_index)
    *batch, n, k = data.shape
    rows = data.reshape(math.prod(batch), n, k)
    image = np.arange(len(rows), like=data)[:, None]
    if not topk:
        which = np.broadcast_to(np.arange(n, like=data), (len(rows), n))
    else:
        score, ids = rows[..., score_index], rows[..., max(id_index, 0)]
        valid = score > valid_thresh
        if id_index >= 0:
            valid &= ids != background_id
        order, alive = by_score(score, valid, topk if topk > 0 else n)
        ids = None if force_suppress or id_index < 0 else taken(ids, order)
        boxes = corners(taken(rows, order)[..., coord_start : coord_start + 4], in_format)
        kept = survivors.kernel(boxes, ids, alive, overlap_thresh)
        which = first(order, kept, n)
    start = (image * n + which)[..., None] * k
    return np.where(which[..., None] < 0, -1, start + np.arange(k, like=data)).reshape(data.shape)


def first(order, kept, n):
    """The kept numbers of `order`, (batch, k), moved to the front of (batch, n); -1 behind them."""
    out = np.full_like(order, -1, dtype="int64", shape=(len(order), n))
    front = (~kept).argsort(axis=1, kind="stable")
    image = np.arange(len(order), like=order)[:, None]
    numbers, good = order[image, front], kept[image, front]
    out[:, : order.shape[1]] = np.where(good, numbers, -1)
    return out


def check_columns(data, coord_start, score_index, id_index):
    """Raise ValueError where the rows of `data` do not have the columns that are named."""
    require_real(data)
    require(data.ndim >= 2, "data of shape (..., boxes, numbers a box)")
    k = data.shape[-1]
    if not 0 <= coord_start <= k - 4:
        raise ValueError(f"need four coordinates from column {coord_start} of {k}")
    if not 0 <= score_index < k:
        raise ValueError(f"need a score in column {score_index} of {k}")
    if id_index >= k:
        raise ValueError(f"need a class in column {id_index} of {k}")


@operator(
    vjp=(lambda g, y, x, **settings: add_at_index(g, x, box_nms_index(x, **settings)),),
    aliases=(
        "_contrib_box_nms",
        "contrib_box_non_maximum_suppression",
        "_contrib_box_non_maximum_suppression",
    ),
)
def contrib_box_nms(
    data,
    /,
    overlap_thresh=0.5,
    valid_thresh=0.0,
    topk=-1,
    coord_start=2,
    score_index=1,
    id_index=-1,
    background_id=-1,
    force_suppress=False,
    in_format="corner",
    out_format="corner",
):
    """Non-maximum suppression: the boxes that survive, the best score first, then rows of -1.

    data: (..., n, k), a box a row: a score, 4 coordinates from coord_start on, perhaps a class, and
    anything else. Only boxes with a score above valid_thresh, not of class background_id, take part,
    the best `topk` of them. A box goes if it overlaps a better one of its class (with force_suppress:
    of any) by more than overlap_thresh. topk=0 changes nothing.
    """
    index = box_nms_index.kernel(
        data, overlap_thresh, valid_thresh, topk, coord_start, score_index, id_index, background_id,
        force_suppress, in_format,
    )  # fmt: skip
    out = np.where(index < 0, -1, data.reshape(-1)[index])
    require(
        out_format in ("corner", "center"), f"out_format 'corner' or 'center', not {out_format!r}"
    )
    if topk and in_format != out_format:
        box = out[..., coord_start : coord_start + 4]
        other = (
            corners(box, in_format) if in_format == "center" else np.concatenate(centers(box), -1)
        )
        box[...] = np.where(box[..., :1] < 0, box, other)  # MXNet takes a negative xmin for no box
    return out


contrib_box_nms.outputs = ["output0"]  # MXNet hides the second one


# --- Detections -----------------------------------------------------------------------------------


@operator(vjp=(None, None, None), aliases=("_contrib_MultiBoxDetection",))
def contrib_MultiBoxDetection(
    cls_prob,
    loc_pred,
    anchor,
    /,
    clip=True,
    threshold=0.01,
    background_id=0,
    nms_threshold=0.5,
    force_suppress=False,
    variances=VARIANCES,
    nms_topk=-1,
):
    """The boxes that a detector sees, rows (class, score, xmin, ymin, xmax, ymax): (batch, n, 6).

    cls_prob: (batch, classes + 1, n), class 0 is the background whatever background_id says, as in
    MXNet; loc_pred: (batch, 4n); anchor: (1, n, 4) corners. Sorted by score; the class of what is
    suppressed is -1. nms_threshold outside of (0, 1] suppresses nothing and does not sort.
    """
    check_detection_shapes(cls_prob, loc_pred, anchor, variances)
    rows = likeliest(cls_prob, threshold)
    rows[..., 2:] = decoded_anchors(loc_pred, anchor, variances, clip)
    valid = rows[..., 0] >= 0
    if not valid.all():
        rows[~valid] = -1
        order = (~valid).argsort(axis=1, kind="stable")
        rows, valid = taken(rows, order), taken(valid, order)
    if 0 < nms_threshold <= 1:
        order, alive = by_score(rows[..., 1], valid, nms_topk if nms_topk > 0 else rows.shape[1])
        best, k = taken(rows, order), order.shape[1]
        ids = None if force_suppress else best[..., 0]
        kept = survivors.kernel(best[..., 2:], ids, alive, nms_threshold, True)
        rows[..., 0], rows[:, :k] = -1, best
        rows[:, :k, 0] = np.where(kept, best[..., 0], -1)
    return rows


def likeliest(cls_prob, threshold):
    """Rows (batch, n, 6) with class and score of the likeliest object, -1 if its score is too low."""
    batch, classes, n = cls_prob.shape
    rows = np.full_like(cls_prob, -1, shape=(batch, n, 6))
    if classes > 1:
        rows[..., 1] = score = cls_prob[:, 1:].max(axis=1)
        good = (score > -1) & ~(score < threshold)
        rows[..., 0] = np.where(good, reduce.places("argmax", cls_prob[:, 1:], 1), -1)
    return rows


def decoded_anchors(loc_pred, anchor, variances, clip):
    """The boxes that the predictions (batch, 4n) make of the anchors: corners (batch, n, 4), a view."""
    x, y, w, h = loc_pred.reshape(len(loc_pred), -1, 4).transpose(2, 0, 1).copy()
    at, size = centers(anchor)
    # low and high ends, of x and y: rows are long
    out = np.empty_like(loc_pred, shape=(2, 2, *x.shape))
    for i, (shift, scale) in enumerate(((x, w), (y, h))):
        middle, half = at[..., i] + shift * variances[i] * size[..., i], size[..., i] / 2
        half = np.exp(scale * variances[2 + i]) * half
        out[0, i], out[1, i] = middle - half, middle + half
    out = out.clip(0, 1, out=out) if clip else out
    return out.reshape(4, *x.shape).transpose(1, 2, 0)


def check_detection_shapes(cls_prob, loc_pred, anchor, variances):
    """Raise ValueError where the arrays of MultiBoxDetection do not fit together."""
    require_real(cls_prob)
    require(cls_prob.ndim == 3, "probabilities of shape (batch, classes + 1, n)")
    batch, n = cls_prob.shape[::2]
    require(anchor.shape == (1, n, 4), f"anchors of shape {(1, n, 4)}")
    require(loc_pred.shape == (batch, 4 * n), f"offsets of shape {(batch, 4 * n)}")
    require(len(variances) == 4, "four variances")


# --- Pooling regions ------------------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, rois, **s: add_at_index(g, x, roi_max_index(x, rois, **s)), None),
)
def ROIPooling(data, rois, /, pooled_size, spatial_scale):
    """The maximum in each bin of each region: (regions, channels, *pooled_size).

    data: (batch, channels, height, width); rois: (regions, 5), rows (image, x0, y0, x1, y1), which
    times spatial_scale, 0 to 1, and rounded are pixels, the last ones included. Bins outside of the
    picture, and regions of images that do not exist, give 0. Source: Girshick, Fast R-CNN, 2015.
    """
    if type(data) is not np.ndarray:
        return at_index.kernel(data, roi_max_index.kernel(data, rois, pooled_size, spatial_scale))
    height, width = check_regions(data, rois, pooled_size)
    out = np.zeros((len(rois), data.shape[1], *pooled_size), data.dtype)
    corners, (down, across), dtype = (
        pixels_of(rois, spatial_scale).tolist(),
        pooled_size,
        data.dtype,
    )
    for image, (x0, y0, x1, y1), found in zip(rois[:, 0].tolist(), corners, out):
        if -1 < image < len(data):
            tops = bins_between(y0, y1, down, height, dtype)
            sides = bins_between(x0, x1, across, width, dtype)
            largest_in_bins(data[int(image)], tops, sides, found)
    return out


@lru_cache(maxsize=4096)
def bins_between(low, high, count, size, dtype):
    """The pixels of `count` equal bins from pixel `low` to `high` in a picture of `size`,
    and which bin it is; none of an empty one.
    """
    ends = [
        [int(min(size, max(0, low + end))) for end in ends]
        for ends in steps_of(high - low + 1, count, dtype)
    ]
    return [(slice(*end), i) for i, end in enumerate(ends) if end[0] < end[1]]


@lru_cache(maxsize=1024)
def steps_of(pixels, count, dtype):
    """Where `count` equal bins of so many pixels begin and end, from the first pixel:
    few widths come often.
    """
    edge = np.arange(count + 1, dtype=dtype) * (dtype.type(max(pixels, 1)) / count)
    return list(zip(np.floor(edge[:-1]).tolist(), np.ceil(edge[1:]).tolist()))


def largest_in_bins(picture, rows, columns, out):
    """Write the largest number of each bin, NaN aside, into `out`; of an empty bin nothing."""
    for pixels, y in rows:
        for others, x in columns:
            largest_of(picture[:, pixels, others], (1, 2), None, out[:, y, x])


largest_of = np.fmax.reduce


def pixels_of(rois, spatial_scale):
    """The corners of regions, in whole pixels: half a pixel goes away from 0."""
    if not 0 <= spatial_scale <= 1:
        raise ValueError(f"need a spatial_scale from 0 to 1, not {spatial_scale}")
    at = rois[:, 1:] if spatial_scale == 1 else rois[:, 1:] * spatial_scale
    half = constant(0.5, at.dtype) if type(at) is np.ndarray else 0.5
    up = np.copysign(half, at)
    up += at
    return np.trunc(up, out=up)


def region_bins(data, rois, pooled_size, spatial_scale):
    """From which to which row, and column, the bins of each region reach: (regions, bins, 2)."""
    height, width = check_regions(data, rois, pooled_size)
    at = pixels_of(rois, spatial_scale)
    rows = edges(at[:, 1], at[:, 3], pooled_size[0], height)
    return rows, edges(at[:, 0], at[:, 2], pooled_size[1], width)


@operator(vjp=(None, None))
def roi_max_index(data, rois, /, pooled_size, spatial_scale):
    """Where `ROIPooling` takes its numbers from, counted through all of `data`; -1 for nowhere."""
    height, width = data.shape[2:]
    down, across = region_bins(data, rois, pooled_size, spatial_scale)
    (rows, in_y), (columns, in_x) = bins(down, height), bins(across, width)
    inside = in_y[:, :, None, :, None] & in_x[:, None, :, None, :]
    pixel = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    shape = (*inside.shape[:3], -1) if inside.size else (*inside.shape[:3], 1)
    inside, pixel = inside.reshape(shape), pixel.reshape(shape)
    some = max(1, PORTION // (math.prod(shape[1:3]) * pixel.shape[3] * data.shape[1]))
    parts = [slice(i, i + some) for i in range(0, max(len(rois), 1), some)]
    image = rois[:, 0].astype("int64")
    return np.concatenate([brightest(data, image[p], pixel[p], inside[p]) for p in parts])


PORTION = 1 << 20  # numbers at a time: more do not fit the cache


def edges(low, high, count, size):
    """Where `count` equal bins from pixel `low` to `high` begin and end: (regions, count, 2)."""
    edge = np.arange(count + 1, dtype=low.dtype, like=low)
    edge = edge * (np.maximum(high - low + 1, 1) / count)[:, None]
    start, stop = np.floor(edge[:, :-1]), np.ceil(edge[:, 1:])
    both = np.stack([start, stop], axis=2) + low[:, None, None]
    return both.clip(0, size).astype("int64")


def bins(ends, size):
    """The pixels of bins that begin and end at `ends`, and which of them there are.

    ends: (regions, bins, 2); both results (regions, bins, pixels of the largest bin).
    """
    start, stop = ends[..., 0], ends[..., 1]
    pixels = start[..., None] + np.arange(max(1, largest(stop - start)), like=ends)
    return np.minimum(pixels, size - 1), pixels < stop[..., None]


def brightest(data, image, pixel, inside):
    """The index of the largest number a bin and channel: (regions, channels, *pooled_size).

    pixel: (regions, *pooled_size, pixels of a bin), counted through a picture; inside: likewise.
    """
    batch, channels, height, width = data.shape
    there = (image >= 0) & (image < batch)
    image = np.where(there, image, 0)[:, None, None, None]
    plane = data.reshape(batch, channels, -1).swapaxes(1, 2).reshape(-1, channels)
    values = plane[image * (height * width) + pixel]
    # NaN is never largest
    values = np.where(inside[..., None] & (values == values), values, -np.inf)
    best = np.take_along_axis(pixel, values.argmax(axis=3), axis=3)
    index = (image * channels + np.arange(channels, like=data)) * (height * width) + best
    good = inside.any(axis=3) & there[:, None, None]
    return np.where(good[..., None], index, -1).transpose(0, 3, 1, 2)


def check_regions(data, rois, pooled_size):
    """The height and width of `data`; ValueError where data, regions and size do not fit together."""
    if data.dtype.kind not in "fV":
        require_real(data)
    if data.ndim != 4:
        raise ValueError("need data of shape (batch, channels, height, width)")
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise ValueError("need rois of shape (regions, 5)")
    if len(pooled_size) != 2 or pooled_size[0] <= 0 or pooled_size[1] <= 0:
        raise ValueError("need a pooled_size (height, width)")
    return data.shape[2:]


# --- Aligned regions ------------------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, rois, **s: roi_spread(g, x, rois, **s), None),
    aliases=("_contrib_ROIAlign",),
)
def contrib_ROIAlign(
    data,
    rois,
    /,
    pooled_size,
    spatial_scale,
    sample_ratio=-1,
    position_sensitive=False,
    aligned=False,
):
    """The mean in each bin of each region, read between the pixels: (regions, channels, *pooled_size).

    data: (batch, channels, height, width); rois: (regions, 5), rows (image, x0, y0, x1, y1), times
    spatial_scale; `aligned` shifts by half a pixel. sample_ratio points a bin and axis, or as many as
    it has pixels. With position_sensitive each bin reads channels of its own. Regions of images that
    do not exist give 0.
    Source: He et al., Mask R-CNN, 2017, section 3.
    """
    shape = check_regions(data, rois, pooled_size)
    rows, columns = region_weights(rois, shape, pooled_size, spatial_scale, sample_ratio, aligned)
    channels = channels_out(data, pooled_size, position_sensitive)
    out = np.zeros((len(rois), channels, *pooled_size), data.dtype, like=data)
    for i, mine in by_image(data, rois):
        read = read_bins if position_sensitive else read_regions
        out[mine] = read(data[i], rows[mine], columns[mine])
    return out


@operator(
    vjp=(lambda g, y, x, like, rois, **s: contrib_ROIAlign(g, rois, **s), None, None),
)
def roi_spread(
    data,
    like,
    rois,
    /,
    pooled_size,
    spatial_scale,
    sample_ratio=-1,
    position_sensitive=False,
    aligned=False,
):
    """Undo `contrib_ROIAlign`: zeros in the shape of `like`, with `data` added where it was read."""
    shape, out = check_regions(like, rois, pooled_size), np.zeros_like(like)
    rows, columns = region_weights(rois, shape, pooled_size, spatial_scale, sample_ratio, aligned)
    for i, mine in by_image(like, rois):
        spread = spread_bins if position_sensitive else spread_regions
        out[i] = spread(data[mine], rows[mine], columns[mine]).reshape(like.shape[1:])
    return out


def region_weights(rois, shape, pooled_size, spatial_scale, sample_ratio, aligned):
    """How regions read rows and columns: (regions, bins, height) and (regions, bins, width)."""
    at = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0)
    unit = np.asarray([0, 0, 1, 1], at.dtype, like=at)  # regions of no image may have any size
    at = np.where(rois[:, :1] < 0, unit, at)
    return [
        tents(at[:, axis], at[:, axis + 2], count, size, sample_ratio, aligned)
        for axis, count, size in ((1, pooled_size[0], shape[0]), (0, pooled_size[1], shape[1]))
    ]


def tents(low, high, count, size, sample_ratio, aligned):
    """Weights (regions, count, size) with which `count` bins from `low` to `high` read `size` pixels."""
    if aligned:
        require((high > low).all(), "regions of positive width and height")
    step = (high - low if aligned else np.maximum(high - low, 1)) / count
    points = np.ceil(step) if sample_ratio <= 0 else np.full_like(step, sample_ratio)
    k = np.arange(int(largest(points)), dtype=low.dtype, like=low)
    at = (k + 0.5) / points[:, None]
    at = at[:, None] + np.arange(count, dtype=low.dtype, like=low)[:, None]
    at = (low[:, None, None] + at * step[:, None, None])[..., None]
    there = (at >= -1) & (at <= size) & (k < points[:, None])[:, None, :, None]
    pixel = np.arange(size, dtype=low.dtype, like=low)
    weight = np.maximum(0, 1 - np.abs(at.clip(0, size - 1) - pixel))
    return np.where(there, weight, 0).sum(axis=2) / points[:, None, None]


def by_image(data, rois):
    """Pairs: the number of an image, and which regions lie in it."""
    image = rois[:, 0].astype("int64")
    for i in range(len(data)):
        mine = np.nonzero(image == i)[0]
        if mine.size:
            yield i, mine


def read_regions(image, rows, columns):
    """$R x C^T$ for each region of an image (channels, height, width), as two large products."""
    channels, height, width = image.shape
    count, p, _ = rows.shape
    strips = matmul(rows.reshape(-1, height), image.swapaxes(0, 1).reshape(height, -1))
    out = strips.reshape(count, p * channels, width) @ columns.swapaxes(1, 2)
    return out.reshape(count, p, channels, -1).swapaxes(1, 2)


def spread_regions(g, rows, columns):
    """$R^T g C$ summed over the regions: (channels, height, width)."""
    count, channels, p, q = g.shape
    strips = g.swapaxes(1, 2).reshape(count, p * channels, q) @ columns
    out = matmul(rows.reshape(count * p, -1).T, strips.reshape(count * p, -1))
    return out.reshape(rows.shape[2], channels, -1).swapaxes(0, 1)


def read_bins(image, rows, columns):
    """The same where bin (p, q) reads channels of its own: one of p·q groups each."""
    p, q = rows.shape[1], columns.shape[1]
    image = image.reshape(-1, p, q, *image.shape[1:])
    return np.einsum("rph,cpqhw,rqw->rcpq", rows, image, columns, optimize=True)


def spread_bins(g, rows, columns):
    """Undo `read_bins`: (channels, p, q, height, width)."""
    return np.einsum("rcpq,rph,rqw->cpqhw", g, rows, columns, optimize=True)


def channels_out(data, pooled_size, position_sensitive):
    """How many channels come out; with position_sensitive the bins share those of `data`."""
    bins = math.prod(pooled_size) if position_sensitive else 1
    require(data.shape[1] % bins == 0, f"channels that can be divided by the {bins} bins")
    return data.shape[1] // bins


# --- Whole pictures -------------------------------------------------------------------------------


@operator(aliases=("_contrib_BilinearResize2D",))
def contrib_BilinearResize2D(
    data,
    like=None,
    /,
    height=1,
    width=1,
    scale_height=None,
    scale_width=None,
    mode="size",
    align_corners=True,
):
    """Pictures in another size, read between the pixels: (batch, channels, *new size).

    data: (batch, channels, height, width). mode 'size': height and width, or those of `data` times the
    scales; 'odd_scale': the scales, from the middle of the first pixel to that of the last; 'like':
    those of `like`; 'to_even_down', 'to_even_up', 'to_odd_down', 'to_odd_up': the next even or odd
    numbers.
    """
    check_pictures(data)
    require((like is not None) == (mode == "like"), "like with mode 'like', and with no other")
    scales, given = (
        (scale_height, scale_width),
        like.shape[2:] if mode == "like" else (height, width),
    )
    require((scale_height is None) == (scale_width is None), "both scales or none")
    sizes = [new_size(*numbers, mode) for numbers in zip(data.shape[2:], given, scales)]
    return through(data, *(resizing(data, axis, sizes[axis], align_corners) for axis in (0, 1)))


@contrib_BilinearResize2D.vjp
def _(g, y, data, like=None, align_corners=True, **_):
    return resize_back(g, data, align_corners=align_corners), None


@operator(
    vjp=(
        lambda g, y, x, like, **s: contrib_BilinearResize2D(g, x, mode="like", **s),
        None,
    )
)
def resize_back(data, like, /, align_corners=True):
    """Undo `contrib_BilinearResize2D`: each number spread over the pixels of `like` it was read from."""
    sizes = data.shape[2:]
    weights = (resizing(like, axis, sizes[axis], align_corners).T for axis in (0, 1))
    return through(data, *weights)


def check_pictures(data):
    """Refuse what is not a batch of pictures with at least one pixel."""
    require_real(data)
    wanted = "data of shape (batch, channels, height, width), with at least one pixel"
    require(data.ndim == 4 and min(data.shape[2:]) > 0, wanted)


def new_size(size, given, scale, mode):
    """The new height or width in one of the modes of `contrib_BilinearResize2D`."""
    if mode in ("size", "like") and (scale is None or mode == "like"):
        out = given
    elif mode in ("size", "odd_scale"):
        require(scale is not None, "scale_height and scale_width with mode 'odd_scale'")
        last = mode == "odd_scale" and size % 2
        out = int(np.float32(scale) * np.float32(size - last)) + last
    else:
        steps = {"to_even_down": -(size % 2), "to_even_up": size % 2}
        steps |= {"to_odd_down": size % 2 - 1, "to_odd_up": 1 - size % 2}
        require(mode in steps, f"a mode size, odd_scale, like, {', '.join(steps)}, not {mode!r}")
        out = size + steps[mode]
    require(out > 0, f"a new size of at least one pixel, not {out}")
    return out


def resizing(data, axis, count, align_corners):
    """Weights (count, size) with which `count` new pixels read those of `data` along axis 2 + `axis`."""
    size, k = data.shape[2 + axis], np.arange(count, dtype="float64", like=data)
    if count == 1:
        at = k
    elif align_corners:
        at = k * ((size - 1) / (count - 1))
    else:
        at = ((k + 0.5) * (size / count) - 0.5).clip(0, size - 1)
    far = np.abs(at[:, None] - np.arange(size, like=data))
    return np.maximum(0, 1 - far).astype(data.dtype)


def through(data, rows, columns):
    """$R x C^T$ for each picture and channel."""
    return rows @ (data @ columns.T)


@operator(
    vjp=(lambda g, y, x, output_size: average_back(g, x, output_size=output_size),),
    aliases=("_contrib_AdaptiveAvgPooling2D",),
)
def contrib_AdaptiveAvgPooling2D(data, /, output_size=()):
    """The means in output_size bins, as equal as can be: (batch, channels, *output_size).

    data: (batch, channels, height, width); output_size: a number, (height, width), or () for one bin.
    Bin k of p of n pixels begins at floor(k n / p) and ends before ceil((k + 1) n / p).
    """
    return through(data, *averages(data, output_size))


@operator(
    vjp=(lambda g, y, x, like, **s: contrib_AdaptiveAvgPooling2D(g, **s), None),
)
def average_back(data, like, /, output_size=()):
    """Undo `contrib_AdaptiveAvgPooling2D`: each mean divided evenly among the pixels of its bin."""
    return through(data, *(weights.T for weights in averages(like, output_size)))


def averages(data, output_size):
    """Weights (bins, size) for the height and the width of `data`."""
    check_pictures(data)
    counts = [output_size] if isinstance(output_size, int) else list(output_size) or [1]
    require(len(counts) <= 2 and min(counts) > 0, "an output_size of one or two numbers > 0")
    return [evenly(data, size, p) for size, p in zip(data.shape[2:], counts * (3 - len(counts)))]


def evenly(data, size, count):
    """Weights (count, size) of the means of `count` bins of `size` pixels."""
    k, pixel = np.arange(count, like=data)[:, None], np.arange(size, like=data)
    first, end = k * size // count, -(-(k + 1) * size // count)
    return (((first <= pixel) & (pixel < end)) / (end - first)).astype(data.dtype)


# --- Grids ----------------------------------------------------------------------------------------


@operator
def GridGenerator(data, /, transform_type, target_shape=(0, 0)):
    """Addresses (batch, 2, height, width), x and y from -1 to 1, for `BilinearSampler`.

    transform_type 'affine': data (batch, 6), a matrix (2, 3) applied to (x, y, 1) of each pixel of
    `target_shape`; 'warp': data (batch, 2, height, width), shifts in pixels. Source: Jaderberg et al.,
    Spatial Transformer Networks, 2015, section 3.2.
    """
    require(transform_type in ("affine", "warp"), "a transform_type 'affine' or 'warp'")
    if transform_type == "affine":
        require(data.ndim == 2 and data.shape[1] == 6, "data of shape (batch, 6)")
        require(min(target_shape) > 0, "a target_shape (height, width)")
        return (data.reshape(-1, 2, 3) @ raster(data, target_shape)).reshape(-1, 2, *target_shape)
    require(data.ndim == 4 and data.shape[1] == 2, "data of shape (batch, 2, height, width)")
    height, width = data.shape[2:]
    base = raster(data, (height, width))[:2].reshape(2, height, width)
    return to_unit.kernel(data, data) + base


GridGenerator.choices["transform_type"] = ("affine", "warp")


@GridGenerator.vjp
def _(g, y, data, transform_type, target_shape):
    if transform_type == "affine":
        return (raster_moments(g, target_shape=target_shape),)
    return (to_unit(g, data),)


def raster(data, shape):
    """x, y and 1 of each pixel of `shape`, from -1 to 1: (3, height · width), in the type of `data`."""
    out = np.ones_like(data, shape=(3, *shape))
    for row, size, axis in ((0, shape[1], 0), (1, shape[0], 1)):
        at = np.arange(size, dtype=data.dtype, like=data) * unit(size) - (size > 1)
        out[row] = at.reshape(-1, *(1,) * axis)
    return out.reshape(3, -1)


def unit(size):
    """The distance of two of `size` pixels when the whole axis is 2 long; 0 for a single pixel."""
    return 2 / (size - 1) if size > 1 else 0.0


@operator(vjp=(lambda g, y, x, target_shape: GridGenerator(g, "affine", target_shape),))
def raster_moments(data, /, target_shape):
    """Undo the affine `GridGenerator`: (batch, 2, height, width) times (x, y, 1), summed: (batch, 6)."""
    return (data.reshape(len(data), 2, -1) @ raster(data, target_shape).T).reshape(-1, 6)


@operator(vjp=(lambda g, y, x, like: to_unit(g, like), None))
def to_unit(data, like, /):
    """Shifts (batch, 2, …) in pixels of `like`, (…, height, width), as shifts between -1 and 1."""
    scale = [unit(like.shape[3]), unit(like.shape[2])]
    return data * np.array(scale, data.dtype, like=data).reshape(2, 1, 1)


@operator(vjp=(lambda g, y, x, like: to_pixels(g, like), None))
def to_pixels(data, like, /):
    """Undo `to_unit`: shifts (batch, 2, …) between -1 and 1 in pixels of `like`."""
    scale = [(like.shape[3] - 1) / 2, (like.shape[2] - 1) / 2]
    return data * np.array(scale, data.dtype, like=data).reshape(2, 1, 1)


# --- Bilinear sampling ----------------------------------------------------------------------------


@operator
def BilinearSampler(data, grid, /, cudnn_off=None):
    """`data` read at the addresses in `grid`, between the pixels: (batch, channels, h, w).

    data: (batch, channels, height, width); grid: (batch, 2, h, w), x and y from -1 to 1, the middles
    of the outermost pixels; outside of the picture there are zeros. Differentiable in both. Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, equation 5.
    """
    require(data.ndim == 4, "data of shape (batch, channels, height, width)")
    require(
        grid.ndim == 4 and grid.shape[:2] == (len(data), 2),
        f"a grid of shape ({len(data)}, 2, h, w)",
    )
    at = to_pixels.kernel(grid + 1, data)
    part, out = at - np.floor(at), 0
    for dx, dy in NEIGHBOURS:
        x = at_index.kernel(data, neighbour_index.kernel(data, at, dx, dy))
        out = out + weight(part[:, :1], dx) * weight(part[:, 1:], dy) * x
    return out


NEIGHBOURS = ((0, 0), (1, 0), (0, 1), (1, 1))  # (dx, dy)


def weight(part, d):
    """What a neighbour on the near (d = 0) or far (d = 1) side counts, `part` of the way along."""
    return part if d else 1 - part


@operator(vjp=(None, None))
def neighbour_index(data, at, /, dx, dy):
    """Where in `data` the pixel at floor(at) + (dx, dy) lies; -1 outside: (batch, channels, h, w).

    at: (batch, 2, h, w), x and y in pixels.
    """
    batch, channels, height, width = data.shape
    x, y = np.floor(at[:, :1]) + dx, np.floor(at[:, 1:]) + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixel = np.where(inside, y * width + x, 0).astype("int64")
    plane = np.arange(batch * channels, like=data).reshape(batch, channels, 1, 1)
    return np.where(inside, plane * (height * width) + pixel, -1)


@BilinearSampler.vjp
def _(g, y, data, grid, cudnn_off):
    at = to_pixels(grid + 1, data)
    part = at - floor(at)
    a, b = (slice_axis(part, axis=1, begin=i, end=i + 1) for i in (0, 1))
    gdata, gu, gv = 0, 0, 0
    for dx, dy in NEIGHBOURS:
        index = neighbour_index(data, at, dx=dx, dy=dy)
        gx = reduce.sum(g * at_index(data, index), axis=1, keepdims=True)
        gdata = add_at_index(g * (weight(a, dx) * weight(b, dy)), data, index) + gdata
        gu = gx * weight(b, dy) * (2 * dx - 1) + gu
        gv = gx * weight(a, dx) * (2 * dy - 1) + gv
    return gdata, to_pixels(concat(gu, gv, dim=1), data)


@operator
def SpatialTransformer(
    data, loc, /, target_shape=(0, 0), transform_type=None, sampler_type=None, cudnn_off=None
):
    """`data` seen through the affine maps `loc`, (batch, 6): (batch, channels, *target_shape).

    transform_type is 'affine' and sampler_type 'bilinear'. Source: Jaderberg et al., 2015.
    """
    require(transform_type == "affine", "transform_type='affine'")
    require(sampler_type == "bilinear", "sampler_type='bilinear'")
    grid = GridGenerator.kernel(loc, "affine", target_shape)
    return BilinearSampler.kernel(data, grid)


@SpatialTransformer.vjp
def _(g, y, data, loc, target_shape, **_):
    grid = GridGenerator(loc, transform_type="affine", target_shape=target_shape)
    gdata, ggrid = BilinearSampler.rules(g, y, data, grid, None)
    return gdata, raster_moments(ggrid, target_shape=target_shape)
