"""Operators of chapter 18: boxes, and reading inside of pictures. The references are plain loops."""

import math

import numpy as np

from tests.rows import Row, signed

# --- Boxes ----------------------------------------------------------------------------------------


def random_boxes(*shape, seed=0):
    """Corners inside of the unit square, at least 0.1 wide and high."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.1, 0.4, (*shape, 2))], axis=-1)


def prior(x, sizes=(1,), ratios=(1,), clip=False, steps=(-1, -1), offsets=(0.5, 0.5)):
    (h, w), rows = x.shape[2:], []
    dy, dx = steps if steps[0] > 0 else (1 / h, 1 / w)
    shapes = [(s, ratios[0]) for s in sizes] + [(sizes[0], r) for r in ratios[1:]]
    for i, j in np.ndindex(h, w):
        y, x = (i + offsets[0]) * dy, (j + offsets[1]) * dx
        for s, r in shapes:
            a, b = s * h / w * r**0.5 / 2, s / r**0.5 / 2
            rows.append([x - a, y - b, x + a, y + b])
    return np.clip([rows], 0, 1) if clip else np.array([rows])


def corner(box, format="center"):
    if format == "corner":
        return box
    x, y, w, h = box
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def center(box):
    a, b, c, d = box
    return (a + c) / 2, (b + d) / 2, c - a, d - b


def overlap(p, q, format="corner"):
    """The intersection over union of two boxes."""
    p, q = corner(p, format), corner(q, format)
    w, h = (min(p[i + 2], q[i + 2]) - max(p[i], q[i]) for i in (0, 1))
    if w <= 0 or h <= 0:
        return 0
    return w * h / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (p, q)) - w * h)


def iou(a, b, format="corner"):
    out = np.zeros((*a.shape[:-1], *b.shape[:-1]))
    for i in np.ndindex(a.shape[:-1]):
        for j in np.ndindex(b.shape[:-1]):
            out[i + j] = overlap(a[i], b[j], format)
    return out


def offsets(anchor, box):
    (x, y, w, h), (u, v, a, b) = center(anchor), center(box)
    return np.array([(u - x) / w, (v - y) / h, math.log(a / w), math.log(b / h)])


def moved(anchor, t):
    x, y, w, h = center(anchor)
    return corner([x + t[0] * w, y + t[1] * h, w * math.exp(t[2]), h * math.exp(t[3])])


def encode(samples, matches, anchors, refs, means, stds):
    target, mask = np.zeros(anchors.shape), np.zeros(anchors.shape)
    for i, j in np.ndindex(samples.shape):
        if samples[i, j] > 0.5:
            t = offsets(anchors[i, j], refs[i, int(matches[i, j])])
            target[i, j], mask[i, j] = (t - means) / stds, 1
    return target, mask


def decode(x, anchors, std0=1, std1=1, std2=1, std3=1, clip=-1, format="center"):
    out = np.zeros(x.shape)
    for i, j in np.ndindex(x.shape[:2]):
        t = x[i, j] * [std0, std1, std2, std3]
        t[2:] = np.minimum(t[2:], clip if clip > 0 else np.inf)
        out[i, j] = moved(corner(anchors[0, j], format), t)
    return out


# --- Matching -------------------------------------------------------------------------------------


def greedy(scores, threshold, ascending=False, most=math.inf):
    """{row: column}, by walking through the sorted table."""
    sign = -1 if ascending else 1
    pairs = {}
    for r, c in sorted(np.ndindex(scores.shape), key=lambda at: -sign * scores[at]):
        good = sign * scores[r, c] > sign * threshold
        if good and r not in pairs and c not in pairs.values() and len(pairs) < most:
            pairs[r] = c
    return pairs


def matching(x, is_ascend=False, threshold=None, topk=-1):
    tables = x.reshape(-1, *x.shape[-2:])
    rows, columns = np.full(tables.shape[:2], -1.0), np.full(tables.shape[::2], -1.0)
    for i, table in enumerate(tables):
        for r, c in greedy(table, threshold, is_ascend, topk + 1 if topk > 0 else math.inf).items():
            rows[i, r], columns[i, c] = c, r
    return rows.reshape(x.shape[:-1]), columns.reshape(*x.shape[:-2], x.shape[-1])


def target(
    anchors,
    labels,
    predictions,
    overlap_threshold=0.5,
    ignore_label=-1,
    negative_mining_ratio=-1,
    negative_mining_thresh=0.5,
    minimum_negative_samples=0,
    variances=(0.1, 0.1, 0.2, 0.2),
):
    anchors, n = anchors[0], anchors.shape[1]
    out, mask = (np.zeros((len(labels), n, 4)) for _ in range(2))
    classes = np.full((len(labels), n), float(ignore_label))
    for i, (label, scores) in enumerate(zip(labels, predictions)):
        things = label[: list(label[:, 0]).index(-1)] if -1 in label[:, 0] else label
        if not len(things):
            continue
        table = iou(anchors, things[:, 1:5])
        pairs = greedy(table, 1e-6)
        for j in range(n):
            if table[j].max() > overlap_threshold:
                pairs.setdefault(j, table[j].argmax())
        others = [j for j in range(n) if j not in pairs]
        if negative_mining_ratio > 0:
            p = np.exp(scores) / np.exp(scores).sum(0)
            others = [j for j in others if table[j].max() < negative_mining_thresh]
            others = sorted(others, key=lambda j: p[0, j])[
                : int(len(pairs) * negative_mining_ratio)
            ]
        classes[i, others] = 0
        for j, k in pairs.items():
            out[i, j], mask[i, j] = offsets(anchors[j], things[k, 1:5]) / variances, 1
            classes[i, j] = things[k, 0] + 1
    return out.reshape(len(out), -1), mask.reshape(len(out), -1), classes


# --- Suppression ----------------------------------------------------------------------------------


def suppressed(boxes, scores, ids, alive, too_much):
    """The boxes that are alive, the best first, and which of these remain."""
    order = sorted(alive, key=lambda j: -scores[j])
    gone = set()
    for at, j in enumerate(order):
        if j not in gone:
            rivals = (k for k in order[at + 1 :] if ids is None or ids[k] == ids[j])
            gone.update(k for k in rivals if too_much(overlap(boxes[j], boxes[k])))
    return order, [j for j in order if j not in gone]


def nms_rows(
    x,
    overlap_thresh=0.5,
    valid_thresh=0,
    topk=-1,
    coord_start=2,
    score_index=1,
    id_index=-1,
    background_id=-1,
    force_suppress=False,
    in_format="corner",
    **_,
):
    """The rows of one table (n, k) that survive, the best first."""
    if topk == 0:
        return list(range(len(x)))
    alive = [j for j, row in enumerate(x) if row[score_index] > valid_thresh]
    ids = None
    if id_index >= 0:
        alive = [j for j in alive if x[j, id_index] != background_id]
        ids = None if force_suppress else x[:, id_index]
    alive = sorted(alive, key=lambda j: -x[j, score_index])[: topk if topk > 0 else None]
    boxes = [corner(row[coord_start : coord_start + 4], in_format) for row in x]
    too_much = overlap_thresh.__lt__
    return suppressed(boxes, x[:, score_index], ids, alive, too_much)[1]


def nms_index(x, **settings):
    tables, (n, k) = x.reshape(-1, *x.shape[-2:]), x.shape[-2:]
    out = np.full(tables.shape, -1)
    for i, table in enumerate(tables):
        for place, row in enumerate(nms_rows(table, **settings)):
            out[i, place] = (i * n + row) * k + np.arange(k)
    return out.reshape(x.shape)


def nms(x, in_format="corner", out_format="corner", coord_start=2, **settings):
    index = nms_index(x, in_format=in_format, coord_start=coord_start, **settings)
    out = np.where(index < 0, -1, x.reshape(-1)[index])
    if in_format != out_format:
        for at in np.ndindex(out.shape[:-1]):
            box = out[at][coord_start : coord_start + 4]
            if box[0] >= 0:
                box[:] = corner(box) if in_format == "center" else center(box)
    return out


def detection(
    p,
    t,
    anchors,
    clip=True,
    threshold=0.01,
    background_id=0,
    nms_threshold=0.5,
    force_suppress=False,
    variances=(0.1, 0.1, 0.2, 0.2),
    nms_topk=-1,
):
    out = np.full((len(p), p.shape[2], 6), -1.0)
    for i, (scores, shifts) in enumerate(zip(p, t.reshape(len(p), -1, 4))):
        best, which = scores[1:].max(0), scores[1:].argmax(0)
        boxes = np.array([moved(a, v) for a, v in zip(anchors[0], shifts * variances)])
        boxes = boxes.clip(0, 1) if clip else boxes
        valid = [j for j in range(len(best)) if best[j] >= threshold]
        for place, j in enumerate(valid):
            out[i, place] = [which[j], best[j], *boxes[j]]
        if 0 < nms_threshold <= 1:
            out[i, :, 0] = -1  # those behind the best nms_topk stay where they are
            alive = sorted(valid, key=lambda j: -best[j])[: nms_topk if nms_topk > 0 else None]
            ids = None if force_suppress else which
            order, kept = suppressed(boxes, best, ids, alive, nms_threshold.__le__)
            for place, j in enumerate(order):
                out[i, place] = [which[j] if j in kept else -1, best[j], *boxes[j]]
    return out


# --- Looking inside -------------------------------------------------------------------------------


def whole(v):
    return int(math.copysign(math.floor(abs(v) + 0.5), v))


def pool_index(x, rois, pooled_size, spatial_scale):
    n, channels, h, w = x.shape
    out = np.full((len(rois), channels, *pooled_size), -1)
    for r, channel, p, q in np.ndindex(out.shape):
        image, x0, y0, x1, y1 = int(rois[r, 0]), *(whole(v * spatial_scale) for v in rois[r, 1:])
        ranges = []
        for low, high, k, count, size in (
            (y0, y1, p, pooled_size[0], h),
            (x0, x1, q, pooled_size[1], w),
        ):
            step = max(high - low + 1, 1) / count
            ends = low + math.floor(k * step), low + math.ceil((k + 1) * step)
            ranges.append(range(*(min(max(e, 0), size) for e in ends)))
        pixels = [(image, channel, i, j) for i in ranges[0] for j in ranges[1]]
        if pixels and 0 <= image < n:
            out[r, channel, p, q] = np.ravel_multi_index(max(pixels, key=lambda at: x[at]), x.shape)
    return out


def pool(x, rois, **settings):
    index = pool_index(x, rois, **settings)
    return np.where(index < 0, 0, x.reshape(-1)[index])


def between(plane, y, x):
    """A number of a plane, between the pixels."""
    h, w = plane.shape
    if not (-1 <= y <= h and -1 <= x <= w):
        return 0
    y, x = (min(max(v, 0), size - 1) for v, size in ((y, h), (x, w)))
    i, j = (min(int(v), max(size - 2, 0)) for v, size in ((y, h), (x, w)))
    a, b, k, m = y - i, x - j, min(i + 1, h - 1), min(j + 1, w - 1)
    rows = [(1 - b) * plane[r, j] + b * plane[r, m] for r in (i, k)]
    return (1 - a) * rows[0] + a * rows[1]


def align(
    x, rois, pooled_size, spatial_scale, sample_ratio=-1, position_sensitive=False, aligned=False
):
    p, q = pooled_size
    out = np.zeros((len(rois), x.shape[1] // (p * q if position_sensitive else 1), p, q))
    for r, c, i, j in np.ndindex(out.shape):
        if not 0 <= rois[r, 0] < len(x):
            continue
        x0, y0, x1, y1 = rois[r, 1:] * spatial_scale - (0.5 if aligned else 0)
        h, w = (d if aligned else max(d, 1) for d in (y1 - y0, x1 - x0))
        ny, nx = (sample_ratio if sample_ratio > 0 else math.ceil(d) for d in (h / p, w / q))
        plane = x[int(rois[r, 0]), (c * p + i) * q + j if position_sensitive else c]
        out[r, c, i, j] = np.mean(
            [
                between(plane, y0 + (i + (k + 0.5) / ny) * h / p, x0 + (j + (m + 0.5) / nx) * w / q)
                for k in range(ny)
                for m in range(nx)
            ]
        )
    return out


def transposed(forward):
    """What undoes a linear reference, by its matrix."""

    def reference(g, like, *rest, **settings):
        units = np.eye(like.size).reshape(-1, *like.shape)
        return np.array([(forward(u, *rest, **settings) * g).sum() for u in units]).reshape(
            like.shape
        )

    return reference


def resize(x, like=None, height=1, width=1, align_corners=True, **_):
    (h, w), (p, q) = x.shape[2:], like.shape[2:] if like is not None else (height, width)
    out = np.zeros((*x.shape[:2], p, q))

    def source(k, count, size):
        if count == 1:
            return 0
        return (
            k * (size - 1) / (count - 1)
            if align_corners
            else max((k + 0.5) * size / count - 0.5, 0)
        )

    for n, c, i, j in np.ndindex(out.shape):
        out[n, c, i, j] = between(x[n, c], source(i, p, h), source(j, q, w))
    return out


def resized_to(height, width):
    """The reference for one of the other ways to tell the size."""
    return lambda x, **settings: resize(x, None, height, width, settings.get("align_corners", True))


def average(x, output_size=()):
    (h, w), (p, q) = x.shape[2:], np.broadcast_to(output_size or 1, 2)
    out = np.zeros((*x.shape[:2], p, q))
    for i, j in np.ndindex(p, q):
        rows = slice(math.floor(i * h / p), math.ceil((i + 1) * h / p))
        columns = slice(math.floor(j * w / q), math.ceil((j + 1) * w / q))
        out[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
    return out


def grid(x, transform_type, target_shape=None):
    h, w = target_shape or x.shape[2:]
    v, u = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    if transform_type == "warp":
        return x * np.reshape([2 / (w - 1), 2 / (h - 1)], (2, 1, 1)) + [u, v]
    return np.einsum("bij,jhw->bihw", x.reshape(-1, 2, 3), np.array([u, v, np.ones_like(u)]))


def pixels(g, like):
    return g * np.reshape([(like.shape[3] - 1) / 2, (like.shape[2] - 1) / 2], (2, 1, 1))


def neighbour(x, at, dx, dy):
    out = np.full((*x.shape[:2], *at.shape[2:]), -1)
    for n, c, i, j in np.ndindex(out.shape):
        u, v = math.floor(at[n, 0, i, j]) + dx, math.floor(at[n, 1, i, j]) + dy
        if 0 <= u < x.shape[3] and 0 <= v < x.shape[2]:
            out[n, c, i, j] = np.ravel_multi_index((n, c, v, u), x.shape)
    return out


def sample(x, at):
    padded, at = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), pixels(at + 1, x)
    out = np.zeros((*x.shape[:2], *at.shape[2:]))
    for n, c, i, j in np.ndindex(out.shape):
        u, v = at[n, :, i, j] + 1  # in the padded picture
        if 0 <= u <= x.shape[3] + 1 and 0 <= v <= x.shape[2] + 1:
            out[n, c, i, j] = between(padded[n, c], v, u)
    return out


def transform(x, loc, target_shape, **_):
    return sample(x, grid(loc, "affine", target_shape))


# --- Rows -----------------------------------------------------------------------------------------

MAP = signed(2, 1, 2, 3)
ANCHORS = random_boxes(1, 7, seed=1)
THINGS = np.array(
    [
        [[2, 0.1, 0.1, 0.5, 0.5], [0, 0.4, 0.3, 0.9, 0.8], [1, 0.5, 0.1, 0.7, 0.4]],
        [[1, 0.2, 0.4, 0.6, 0.9], [-1, -1, -1, -1, -1], [-1, -1, -1, -1, -1]],
        [[-1, -1, -1, -1, -1], [-1, -1, -1, -1, -1], [-1, -1, -1, -1, -1]],
    ]
)
LOGITS = signed(3, 4, 7, seed=2)
ROWS_OF_BOXES = np.concatenate(  # class, score, box
    [
        np.random.default_rng(3).integers(0, 2, (2, 9, 1)).astype(float),
        np.random.default_rng(4).permutation(18).reshape(2, 9, 1) / 20,
        random_boxes(2, 9, seed=5),
    ],
    axis=2,
)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
SHIFTS = signed(3, 28, seed=6)
PICTURE = signed(2, 2, 5, 6)
ROIS = np.array(
    [[0, 0.3, 0.4, 4.7, 3.8], [1, 2.2, 1.1, 9, 2.1], [1, 1, 1, 1, 1], [0, -3, 2, 2, 8.0]]
)
INSIDE = {"pooled_size": (2, 3), "spatial_scale": 1.0}
INDEX = np.array([[3, -1, 0], [3, 5, 1]])
LOOK = signed(2, 2, 3, 4, seed=7)
AFFINE = np.array([[0.8, 0.1, 0.05, -0.2, 0.9, 0.13], [1.3, -0.1, 0.23, 0.3, 0.7, -0.33]])
LIKE = signed(2, 2, 3, 8)

ROWS = [
    Row(
        "contrib_MultiBoxPrior",
        (MAP,),
        {"sizes": (0.5, 0.25), "ratios": (1, 2, 0.5)},
        prior,
        (),
        wrong=((MAP[0, 0],), {}),
        says="data of shape",
    ),
    Row(
        "contrib_MultiBoxPrior",
        (MAP,),
        {
            "sizes": (0.7,),
            "ratios": (2, 3),
            "clip": True,
            "steps": (0.4, 0.3),
            "offsets": (0.25, 0.75),
        },
        prior,
        (),
        wrong=((MAP,), {"sizes": ()}),
        says="at least one size",
        note="steps",
    ),
    Row(
        "contrib_box_iou",
        (random_boxes(2, 3), random_boxes(4, seed=1)),
        {},
        iou,
        (),
        wrong=((random_boxes(2)[:, :3], random_boxes(2)), {}),
        says="boxes of shape",
    ),
    Row(
        "contrib_box_iou",
        (random_boxes(3), random_boxes(2, 2, seed=1)),
        {"format": "center"},
        iou,
        (),
        wrong=((random_boxes(2), random_boxes(2)), {"format": "centre"}),
        says="'corner' or 'center'",
        note="center",
    ),
    Row(
        "contrib_box_encode",
        (
            np.array([[1.0, 0, -1], [0, 1, 1]]),
            np.array([[1.0, 0, 0], [0, 1, 0]]),
            random_boxes(2, 3),
            random_boxes(2, 2, seed=1),
            np.array([0, 0.1, 0, -0.1]),
            np.array([0.1, 0.1, 0.2, 0.2]),
        ),
        {},
        encode,
        (),
        wrong=(
            (np.ones((2, 3)), np.ones((2, 2)), *[random_boxes(2, 3)] * 2, *[np.ones(4)] * 2),
            {},
        ),
        says="samples and matches",
    ),
    Row(
        "contrib_box_decode",
        (signed(2, 7, 4), ANCHORS),
        {},
        decode,
        (),
        wrong=((signed(2, 7, 4), signed(2, 7, 4)), {}),
        says="anchors of shape (1, 7, 4)",
    ),
    Row(
        "contrib_box_decode",
        (signed(2, 7, 4) * 3, ANCHORS),
        {"std0": 0.1, "std1": 0.2, "std2": 0.3, "std3": 0.4, "clip": 0.5, "format": "corner"},
        decode,
        (),
        wrong=((signed(2, 7), ANCHORS), {}),
        says="(batch, n, 4)",
        note="corner",
    ),
    Row(
        "contrib_bipartite_matching",
        (signed(2, 2, 4, 3),),
        {"threshold": 0.05},
        matching,
        (),
        wrong=((signed(2, 3),), {}),
        says="a threshold",
    ),
    Row(
        "contrib_bipartite_matching",
        (signed(4, 5),),
        {"threshold": 0.5, "is_ascend": True, "topk": 2},
        matching,
        (),
        wrong=((signed(2),), {"threshold": 0.5}),
        says="scores of shape",
        note="ascending",
    ),
    Row(
        "contrib_MultiBoxTarget",
        (ANCHORS, THINGS, LOGITS),
        {},
        target,
        (),
        wrong=((ANCHORS, THINGS, LOGITS[..., :3]), {}),
        says="class predictions of shape",
    ),
    Row(
        "contrib_MultiBoxTarget",
        (ANCHORS, THINGS, LOGITS),
        {
            "overlap_threshold": 0.3,
            "ignore_label": -5,
            "negative_mining_ratio": 0.8,
            "negative_mining_thresh": 0.2,
            "variances": (0.1, 0.2, 0.3, 0.4),
        },
        target,
        (),
        wrong=((ANCHORS, THINGS - [0, 1, 0, 0, 0], LOGITS), {}),
        says="where a label ends",
        note="mining",
    ),
    Row(
        "contrib_box_nms",
        (ROWS_OF_BOXES,),
        {"overlap_thresh": 0.2, "valid_thresh": 0.1},
        nms,
        wrong=((ROWS_OF_BOXES[..., 1:],), {}),
        says="four coordinates from column 2",
    ),
    Row(
        "contrib_box_nms",
        (ROWS_OF_BOXES,),
        {
            "overlap_thresh": 0.1,
            "id_index": 0,
            "topk": 5,
            "background_id": 1,
            "in_format": "center",
            "out_format": "corner",
        },
        nms,
        (),
        wrong=((ROWS_OF_BOXES,), {"score_index": 6}),
        says="a score in column 6",
        note="center",
    ),
    Row(
        "contrib_box_nms",
        (np.roll(ROWS_OF_BOXES[1], -2, axis=1),),
        {
            "overlap_thresh": 0.05,
            "coord_start": 0,
            "id_index": 4,
            "score_index": 5,
            "force_suppress": True,
            "out_format": "center",
        },
        nms,
        (),
        wrong=((ROWS_OF_BOXES,), {"in_format": "centre"}),
        says="'corner' or 'center'",
        note="forced",
    ),
    Row("contrib_box_nms", (ROWS_OF_BOXES,), {"topk": 0}, nms, note="none"),
    Row(
        "box_nms_index",
        (ROWS_OF_BOXES,),
        {"overlap_thresh": 0.1, "id_index": 0},
        nms_index,
        (),
        wrong=((ROWS_OF_BOXES[0, 0],), {}),
        says="data of shape",
    ),
    Row(
        "contrib_MultiBoxDetection",
        (PROBABILITIES, SHIFTS, ANCHORS),
        {"threshold": 0.3, "nms_threshold": 0.1},
        detection,
        (),
        wrong=((PROBABILITIES, SHIFTS[:, 1:], ANCHORS), {}),
        says="offsets of shape (3, 28)",
    ),
    Row(
        "contrib_MultiBoxDetection",
        (PROBABILITIES, SHIFTS, ANCHORS),
        {"clip": False, "nms_threshold": 0.15, "force_suppress": True, "nms_topk": 4},
        detection,
        (),
        wrong=((PROBABILITIES, SHIFTS, ANCHORS[:, 1:]), {}),
        says="anchors of shape (1, 7, 4)",
        note="forced",
    ),
    Row(
        "contrib_MultiBoxDetection",
        (PROBABILITIES, SHIFTS, ANCHORS),
        {"threshold": 0.4, "nms_threshold": 0, "variances": (0.2, 0.2, 0.1, 0.1)},
        detection,
        (),
        wrong=((PROBABILITIES, SHIFTS, ANCHORS), {"variances": (0.1, 0.2)}),
        says="four variances",
        note="unsorted",
    ),
    Row(
        "at_index",
        (LOOK, INDEX),
        {},
        lambda x, index: np.where(index < 0, 0, x.reshape(-1)[index]),
        (0,),
        wrong=((LOOK, INDEX + 99), {}),
        says="out of bounds",
    ),
    Row(
        "add_at_index",
        (signed(2, 3), LOOK, INDEX),
        {},
        lambda g, like, index: np.bincount(index[index >= 0], g[index >= 0], like.size).reshape(
            like.shape
        ),
        (0,),
        wrong=((signed(2, 3), LOOK, INDEX + 99), {}),
        says="out of bounds",
    ),
    Row(
        "ROIPooling",
        (PICTURE, ROIS),
        INSIDE,
        pool,
        (0,),
        wrong=((PICTURE, ROIS[:, 1:]), INSIDE),
        says="rois of shape (regions, 5)",
    ),
    Row(
        "ROIPooling",
        (PICTURE, ROIS * [1, 2, 2, 2, 2]),
        {"pooled_size": (7, 7), "spatial_scale": 0.5},
        pool,
        (0,),
        wrong=((PICTURE, ROIS), {"pooled_size": (2, 2), "spatial_scale": 2}),
        says="spatial_scale",
        note="small_regions",
    ),
    Row("roi_max_index", (PICTURE, ROIS), INSIDE, pool_index, (), ((PICTURE[0], ROIS), INSIDE)),
    Row(
        "contrib_ROIAlign",
        (PICTURE, ROIS),
        INSIDE,
        align,
        (0,),
        wrong=((PICTURE, ROIS), {"pooled_size": (0, 2), "spatial_scale": 1}),
        says="pooled_size",
    ),
    Row(
        "contrib_ROIAlign",
        (PICTURE, ROIS[:2]),
        {"pooled_size": (2, 2), "spatial_scale": 0.5, "sample_ratio": 3, "aligned": True},
        align,
        (0,),
        wrong=((PICTURE, ROIS), {**INSIDE, "aligned": True}),
        says="positive width",
        note="aligned",
    ),
    Row(
        "contrib_ROIAlign",
        (signed(2, 12, 5, 6), ROIS),
        {**INSIDE, "position_sensitive": True, "sample_ratio": 2},
        align,
        (0,),
        wrong=((PICTURE, ROIS), {**INSIDE, "position_sensitive": True}),
        says="divided by the 6 bins",
        note="position",
    ),
    Row(
        "roi_spread",
        (signed(4, 2, 2, 3), PICTURE, ROIS),
        INSIDE,
        transposed(align),
        (0,),
        wrong=((signed(4, 2, 2, 3), PICTURE, ROIS[:, 1:]), INSIDE),
    ),
    Row(
        "roi_spread",
        (signed(4, 2, 2, 3), signed(2, 12, 5, 6), ROIS),
        {**INSIDE, "position_sensitive": True},
        transposed(align),
        (0,),
        note="position",
    ),
    Row(
        "contrib_BilinearResize2D",
        (PICTURE,),
        {"height": 3, "width": 9},
        resize,
        wrong=((PICTURE,), {"mode": "bigger"}),
        says="not 'bigger'",
    ),
    Row(
        "contrib_BilinearResize2D",
        (PICTURE,),
        {"height": 7, "width": 2, "align_corners": False},
        resize,
        wrong=((PICTURE,), {"height": 0, "width": 2}),
        says="at least one pixel",
        note="edges",
    ),
    Row(
        "contrib_BilinearResize2D",
        (PICTURE,),
        {"align_corners": False},
        resize,
        wrong=((PICTURE[0],), {}),
        says="data of shape",
        note="one",
    ),
    Row(
        "contrib_BilinearResize2D",
        (PICTURE, LIKE),
        {"mode": "like"},
        lambda x, like, mode: resize(x, like),
        (0,),
        wrong=((PICTURE, LIKE), {}),
        says="like with mode",
        note="like",
    ),
    Row(
        "contrib_BilinearResize2D",
        (PICTURE,),
        {"scale_height": 1.5, "scale_width": 0.4},
        resized_to(7, 2),
        wrong=((PICTURE,), {"scale_height": 2}),
        says="both scales",
        note="scale",
    ),
    Row(
        "contrib_BilinearResize2D",
        (PICTURE,),
        {"scale_height": 1.5, "scale_width": 1.4, "mode": "odd_scale"},
        resized_to(7, 8),
        wrong=((PICTURE,), {"mode": "odd_scale"}),
        says="with mode 'odd_scale'",
        note="odd_scale",
    ),
    *(
        Row("contrib_BilinearResize2D", (PICTURE,), {"mode": mode}, resized_to(*size), note=mode)
        for mode, size in {
            "to_even_down": (4, 6),
            "to_even_up": (6, 6),
            "to_odd_down": (5, 5),
            "to_odd_up": (5, 7),
        }.items()
    ),
    Row(
        "resize_back",
        (signed(2, 2, 3, 8), PICTURE),
        {"align_corners": False},
        lambda g, like, align_corners: transposed(resize)(
            g, like, height=3, width=8, align_corners=align_corners
        ),
        (0,),
    ),
    Row(
        "contrib_AdaptiveAvgPooling2D",
        (PICTURE,),
        {"output_size": (2, 4)},
        average,
        wrong=((PICTURE,), {"output_size": (2, 0)}),
        says="output_size of",
    ),
    Row("contrib_AdaptiveAvgPooling2D", (PICTURE,), {}, average, note="one"),
    Row(
        "contrib_AdaptiveAvgPooling2D",
        (PICTURE,),
        {"output_size": 7},
        average,
        wrong=((PICTURE[0],), {}),
        says="data of shape",
        note="more",
    ),
    Row(
        "average_back",
        (signed(2, 2, 2, 4), PICTURE),
        {"output_size": (2, 4)},
        transposed(average),
        (0,),
    ),
    Row(
        "GridGenerator",
        (AFFINE,),
        {"transform_type": "affine", "target_shape": (3, 4)},
        grid,
        wrong=((AFFINE,), {"transform_type": "affine"}),
        says="a target_shape",
    ),
    Row(
        "GridGenerator",
        (LOOK,),
        {"transform_type": "warp"},
        grid,
        wrong=((AFFINE,), {"transform_type": "linear", "target_shape": (3, 4)}),
        says="'affine' or 'warp'",
        note="warp",
    ),
    Row(
        "raster_moments",
        (LOOK,),
        {"target_shape": (3, 4)},
        lambda g, target_shape: transposed(grid)(
            g, AFFINE, transform_type="affine", target_shape=target_shape
        ),
        wrong=((LOOK,), {"target_shape": (2, 4)}),
    ),
    Row("to_unit", (LOOK, PICTURE), {}, lambda x, like: x / pixels(np.ones((2, 1, 1)), like), (0,)),
    Row("to_pixels", (LOOK, PICTURE), {}, pixels, (0,)),
    Row(
        "BilinearSampler",
        (PICTURE, LOOK * 1.2),
        {},
        sample,
        wrong=((PICTURE, LOOK[:1]), {}),
        says="a grid of shape (2, 2, h, w)",
    ),
    Row("neighbour_index", (PICTURE, LOOK * 6), {"dx": 1, "dy": 0}, neighbour, ()),
    Row(
        "SpatialTransformer",
        (PICTURE, AFFINE),
        {"target_shape": (3, 4), "transform_type": "affine", "sampler_type": "bilinear"},
        transform,
        wrong=((PICTURE, AFFINE), {"target_shape": (3, 4), "transform_type": "affine"}),
        says="sampler_type='bilinear'",
    ),
]
