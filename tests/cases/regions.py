"""Operators of chapter 18b: correlations, parts of regions, proposals, steps. The references are plain loops."""

import math

import numpy as np

from tests.rows import Row, signed


def correlation(
    a, b, kernel_size=1, max_displacement=1, stride1=1, stride2=1, pad_size=0, is_multiply=True
):
    k, md, p = kernel_size, max_displacement, pad_size
    a, b = (np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))) for x in (a, b))
    border, r = md + (k - 1) // 2, md // stride2
    h, w = (-(-(n - 2 * border) // stride1) for n in a.shape[2:])
    out = np.zeros((len(a), (2 * r + 1) ** 2, h, w))
    for n, d, i, j in np.ndindex(out.shape):
        dy, dx = (d // (2 * r + 1) - r) * stride2, (d % (2 * r + 1) - r) * stride2
        y, x = i * stride1 + md, j * stride1 + md
        one = a[n, :, y : y + k, x : x + k]
        two = b[n, :, y + dy : y + dy + k, x + dx : x + dx + k]
        out[n, d, i, j] = (one * two if is_multiply else abs(one - two)).sum()
    return out / (k * k * a.shape[1])


def changes(a, b, second, is_multiply, **where):
    """How `correlation` changes with each number of one picture: (outputs, numbers of the picture)."""
    rows = []
    for i in np.ndindex(a.shape):
        step = np.zeros_like(a)
        step[i] = 1
        if is_multiply:
            rows.append(correlation(*((a, step) if second else (step, b)), **where).ravel())
        else:  # the distance has no kink within a small step
            ends = [(a, b + t * step) if second else (a + t * step, b) for t in (1e-3, -1e-3)]
            up, down = (correlation(*end, is_multiply=False, **where) for end in ends)
            rows.append((up - down).ravel() / 2e-3)
    return np.array(rows).T


def first(g, a, b, is_multiply=True, **where):
    return (g.ravel() @ changes(a, b, False, is_multiply, **where)).reshape(a.shape)


def second(g, a, b, is_multiply=True, **where):
    return (g.ravel() @ changes(a, b, True, is_multiply, **where)).reshape(a.shape)


def along(h, a, b, second=False, **where):
    return (changes(a, b, second, False, **where) @ h.ravel()).reshape(G.shape)


def psroi_back(g, data, rois, **settings):
    out = np.zeros_like(data)
    for i in np.ndindex(data.shape):
        step = np.zeros_like(data)
        step[i] = 1
        out[i] = (g * psroi(step, rois, **settings)).sum()
    return out


def psroi(data, rois, spatial_scale, output_dim, pooled_size, group_size=0):
    g, (h, w) = group_size or pooled_size, data.shape[2:]
    out = np.zeros((len(rois), output_dim, pooled_size, pooled_size))
    for r, d, i, j in np.ndindex(out.shape):
        at = np.floor(rois[r, 1:] + 0.5)
        (x0, y0), (x1, y1) = at[:2] * spatial_scale, (at[2:] + 1) * spatial_scale
        bh, bw = max(y1 - y0, 0.1) / pooled_size, max(x1 - x0, 0.1) / pooled_size
        top, left = (
            int(np.clip(np.floor(v), 0, n)) for v, n in ((i * bh + y0, h), (j * bw + x0, w))
        )
        low, right = (
            int(np.clip(np.ceil(v), 0, n))
            for v, n in (((i + 1) * bh + y0, h), ((j + 1) * bw + x0, w))
        )
        channel = (d * g + i * g // pooled_size) * g + j * g // pooled_size
        part = data[int(rois[r, 0]), channel, top:low, left:right]
        out[r, d, i, j] = part.mean() if part.size else 0
    return out


def proposals(prob, delta, info, **settings):
    """For one anchor of one size and one image: no box overlaps another, the best come first."""
    stride, scale, n = settings["feature_stride"], settings["scales"][0], prob.shape[0]
    found, scores = [], []
    for image in range(n):
        rows = []
        for i, j in np.ndindex(prob.shape[2:]):
            middle = (stride - 1) / 2 + stride * np.array([j, i])
            size = np.array([stride * scale] * 2)
            move = delta[image, :, i, j]
            center, half = middle + move[:2] * size, (np.exp(move[2:]) * size - 1) / 2
            box = np.concatenate([center - half, center + half])
            box = np.clip(box, 0, info[image, [1, 0, 1, 0]] - 1)
            rows.append((prob[image, 1, i, j], box))
        rows.sort(key=lambda row: -row[0])
        rows = [rows[k % len(rows)] for k in range(settings["rpn_post_nms_top_n"])]
        found += [[image, *box] for _, box in rows]
        scores += [[s] for s, _ in rows]
    return np.array(found), np.array(scores)


def steps(data, low, high, out_type="uint8"):
    bound, most = np.maximum(abs(low), abs(high)), 127 if out_type == "int8" else 255
    q = np.clip(np.rint(data * most / bound), -most if out_type == "int8" else 0, most)
    return (q, -bound, bound) if out_type == "int8" else (q, low, high)


A, B = signed(2, 2, 6, 7, seed=1), signed(2, 2, 6, 7, seed=2)
SMALL = {"kernel_size": 3, "max_displacement": 2, "stride1": 2, "stride2": 2, "pad_size": 2}
G = signed(2, 9, 2, 3, seed=3)  # of the output with SMALL
H = signed(2, 2, 6, 7, seed=4)
PARTS = signed(2, 8, 5, 6, seed=5)
ROIS = np.array([[0.0, 1, 1, 4, 3], [1, 0, 0, 5, 4], [1, 2, 2, 2, 2]])
BINS = {"spatial_scale": 1.0, "output_dim": 2, "pooled_size": 3, "group_size": 2}
ONE = {"scales": (1,), "ratios": (1,), "feature_stride": 8, "rpn_min_size": 1, "threshold": 1.0}
ONE |= {"rpn_post_nms_top_n": 14, "output_score": True}
PROB, DELTA = abs(signed(2, 2, 3, 4, seed=6)), signed(2, 4, 3, 4, seed=7) * 0.1
INFO = np.array([[24.0, 32, 1], [24, 32, 1]])
BOUNDS = np.array([-0.7]), np.array([0.9])


def between(picture, y, x):
    """The number of `picture` at (y, x), of the four pixels around it."""
    h, w = picture.shape
    if not (-1 <= y <= h and -1 <= x <= w):
        return 0.0
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    total = 0.0
    for i in {int(y), min(int(y) + 1, h - 1)}:
        for j in {int(x), min(int(x) + 1, w - 1)}:
            total += picture[i, j] * max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j))
    return total


def turned(data, rois, pooled_size, spatial_scale, sampling_ratio=-1):
    """`RROIAlign`, one point at a time."""
    down, across = pooled_size
    out = np.zeros((len(rois), data.shape[1], down, across))
    for r, (image, x, y, w, h, degrees) in enumerate(rois):
        x, y, w, h = (n * spatial_scale for n in (x, y, w, h))
        w, h, t = max(w, 1), max(h, 1), math.radians(degrees)
        n = sampling_ratio if sampling_ratio > 0 else math.ceil(h / down)
        m = sampling_ratio if sampling_ratio > 0 else math.ceil(w / across)
        for c, i, j, u, v in np.ndindex(data.shape[1], down, across, n, m):
            b = -h / 2 + (i + (u + 0.5) / n) * h / down
            a = -w / 2 + (j + (v + 0.5) / m) * w / across
            at = b * math.cos(t) - a * math.sin(t) + y, a * math.cos(t) + b * math.sin(t) + x
            out[r, c, i, j] += between(data[int(image), c], *at) / (n * m)
    return out


TURNED = np.array([[0, 3, 3, 4, 2, 30], [1, 2, 2, 3, 3, 0], [0, 0, 5, 9, 4, -75.0]])

ROWS = [
    Row(
        "Correlation",
        (A, B),
        {"pad_size": 1},
        correlation,
        wrong=((A, B[:1]), {}),
        says="one shape",
    ),
    Row("Correlation", (A, B), SMALL, correlation, note="windows"),
    Row(
        "Correlation",
        (A, B),
        SMALL | {"is_multiply": False},
        correlation,
        wrong=((A, B), {"kernel_size": 2}),
        says="odd",
        note="distance",
    ),
    Row("correlation_first", (G, A, B), SMALL, first, (0, 2)),
    Row(
        "correlation_first", (G, A, B), SMALL | {"is_multiply": False}, first, (0,), note="distance"
    ),
    Row("correlation_second", (G, A, B), SMALL, second, (0, 1)),
    Row(
        "correlation_second",
        (G, A, B),
        SMALL | {"is_multiply": False},
        second,
        (0,),
        note="distance",
    ),
    Row("correlation_along", (H, A, B), SMALL, along, (0,)),
    Row("correlation_along", (H, A, B), SMALL | {"second": True}, along, (0,), note="second"),
    Row(
        "contrib_PSROIPooling",
        (PARTS, ROIS),
        BINS,
        psroi,
        (0,),
        wrong=((PARTS[:, :7], ROIS), BINS),
        says="channels",
    ),
    Row(
        "contrib_PSROIPooling",
        (PARTS, ROIS * [1, 2, 2, 2, 2]),
        {"spatial_scale": 0.5, "output_dim": 2, "pooled_size": 2},
        psroi,
        (0,),
        note="scaled",
    ),
    Row(
        "region_parts_back",
        (signed(3, 2, 3, 3), PARTS, ROIS),
        BINS,
        psroi_back,
        differentiable=(0,),
    ),
    Row(
        "contrib_MultiProposal",
        (PROB, DELTA, INFO),
        ONE,
        proposals,
        (),
        wrong=((PROB, DELTA[:, :3], INFO), ONE),
        says="channels",
    ),
    Row(
        "contrib_Proposal",
        (PROB[:1], DELTA[:1], INFO[:1]),
        ONE,
        proposals,
        (),
        wrong=((PROB, DELTA, INFO), ONE),
        says="MultiProposal",
    ),
    Row(
        "contrib_quantize",
        (signed(3, 4), *BOUNDS),
        {"out_type": "int8"},
        steps,
        (),
        wrong=((signed(3, 4), *BOUNDS), {"out_type": "int4"}),
        says="out_type",
    ),
    Row("contrib_quantize", (signed(3, 4), *BOUNDS), {}, steps, (), note="unsigned"),
    Row(
        "contrib_dequantize",
        (np.arange(-3, 4, dtype="int8"), *BOUNDS),
        {},
        lambda q, low, high: (q * (0.9 / 127.5)).astype("float32"),
        (),
        wrong=((signed(3), *BOUNDS), {}),
        says="int8, uint8 or int32",
    ),
    *(
        Row(
            "contrib_RROIAlign",
            (signed(2, 2, 6, 6), TURNED),
            settings,
            turned,
            differentiable=(),
            wrong=((signed(2, 2, 6, 6), TURNED[:, :5]), settings),
            says="rois (regions, 6)",
            note=note,
        )
        for note, settings in {
            "points": {"pooled_size": (2, 2), "spatial_scale": 1.0, "sampling_ratio": 2},
            "as many as pixels": {"pooled_size": (3, 1), "spatial_scale": 0.5},
        }.items()
    ),
]
