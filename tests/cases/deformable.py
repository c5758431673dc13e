"""Operators of chapter 41b: windows that bend, by their definition, one number at a time."""

import numpy as np

from tests.rows import Row, signed

X, W, B = signed(2, 4, 5, 4), signed(2, 2, 3, 2, seed=1), signed(2, seed=2)
OFFSET = np.random.default_rng(3).uniform(0.1, 0.9, (2, 24, 2, 2)) * 1.9  # not at whole pixels
OFFSET += 0.05 * (abs(OFFSET - 1) < 0.05)
MASK = signed(2, 12, 2, 2, seed=4)
SETTINGS = {"kernel": (3, 2), "stride": (2, 2), "num_filter": 2, "num_group": 2}
SETTINGS |= {"num_deformable_group": 2}
PLAIN = {"kernel": (3, 2), "stride": (2, 2), "dilate": (1, 1), "pad": (0, 0)}


def between(x, p, q, fading):
    """The number of a picture at (p, q)."""
    h, w = x.shape
    if not fading and not (0 <= p < h and 0 <= q < w):
        return 0
    i, j, total = int(np.floor(p)), int(np.floor(q)), 0
    for di, dj in np.ndindex(2, 2):
        a, b = i + di, j + dj
        if not fading:
            a, b = min(a, h - 1), min(b, w - 1)
        if 0 <= a < h and 0 <= b < w:
            part = (p - i if di else 1 - p + i) * (q - j if dj else 1 - q + j)
            total += part * x[a, b]
    return total


def bent(x, offset, w, b=None, mask=None, kernel=(), stride=(), num_filter=0, num_group=1, **more):
    deformable = more["num_deformable_group"]
    n, c, f, per = len(x), x.shape[1], num_filter, x.shape[1] // num_group
    y = np.zeros((n, f, *offset.shape[2:]))
    for i, o, u, v in np.ndindex(*y.shape):
        for k, (s, t) in enumerate(np.ndindex(*kernel)):
            for at in range(per):
                channel = o // (f // num_group) * per + at
                group = channel // (c // deformable) * len([*np.ndindex(*kernel)]) + k
                p, q = offset[i, 2 * group : 2 * group + 2, u, v] + (
                    u * stride[0] + s,
                    v * stride[1] + t,
                )
                seen = between(x[i, channel], p, q, mask is not None)
                seen *= 1 if mask is None else mask[i, group, u, v]
                y[i, o, u, v] += w[o, at, s, t] * seen
    return y if b is None else y + b.reshape(-1, 1, 1)


def laid(x, window, groups, axes=2):
    n, _, h, w = x.shape
    out = np.zeros((n * groups, axes, window, h * w))
    for i, g, k, a in np.ndindex(n, groups, window, axes):
        out[i * groups + g, a, k] = x[i, (g * window + k) * axes + a].ravel()
    return out


def unlaid(g, like, **settings):
    places = np.arange(like.size).reshape(like.shape)
    out = np.zeros(like.size)
    out[laid(places, **settings).astype(int).ravel()] = g.ravel()
    return out.reshape(like.shape)


def window_places(x, kernel, stride, dilate, pad):
    out = np.zeros((1, 2, 6, 4))
    for k, (s, t) in enumerate(np.ndindex(3, 2)):
        for q, (u, v) in enumerate(np.ndindex(2, 2)):
            out[0, :, k, q] = u * 2 + s, v * 2 + t
    return out


def near(x, at, dy, dx, fading):
    n, c, h, w = x.shape
    out = np.zeros((n, c, *at.shape[2:]))
    for i, j, k, q in np.ndindex(*out.shape):
        a, b = np.floor(at[i, :, k, q]).astype(int) + (dy, dx)
        inside = 0 <= a < h and 0 <= b < w
        out[i, j, k, q] = (i * c + j) * h * w + a * w + b if inside else -1
    return out


AT = np.random.default_rng(5).uniform(-2, 6, (2, 2, 3, 2))
ROWS = [
    Row("shifts", (OFFSET,), {"window": 6, "groups": 2}, laid),
    Row("unshifted", (laid(OFFSET, 6, 2), OFFSET), {"window": 6, "groups": 2}, unlaid, (0,)),
    Row("window_places", (X,), PLAIN, window_places, ()),
    Row("near_index", (X, AT), {"dy": 1, "dx": 0, "fading": True}, near, ()),
    Row(
        "contrib_DeformableConvolution",
        (X, OFFSET, W, B),
        SETTINGS,
        bent,
        wrong=((X, X, W, B), SETTINGS),
        says="offset needs the shape (2, 24, 2, 2)",
    ),
    Row(
        "contrib_ModulatedDeformableConvolution",
        (X, OFFSET - 1, MASK, W, B),
        SETTINGS,
        lambda x, o, m, w, b, **s: bent(x, o, w, b, m, **s),
        wrong=((X, OFFSET, OFFSET, W, B), SETTINGS),
        says="mask needs the shape (2, 12, 2, 2)",
    ),
]


def bent_bins(x, rois, trans=None, *, spatial_scale, output_dim, group_size, pooled_size, part_size,
              sample_per_part=1, trans_std=0.0, no_trans=False):  # fmt: skip
    """The mean of the samples of each bin, one after the other."""
    p, h, w = pooled_size, *x.shape[2:]
    y = np.zeros((len(rois), output_dim, p, p))
    for r, d, i, j in np.ndindex(*y.shape):
        ends = np.floor(rois[r, 1:] + 0.5)
        low, high = ends[:2] * spatial_scale - 0.5, (ends[2:] + 1) * spatial_scale - 0.5
        length = np.maximum(high - low, 0.1)
        moved = np.zeros(2)
        if not no_trans:
            kind = d // (output_dim // (trans.shape[1] // 2))
            part = i * part_size // p, j * part_size // p
            moved = trans[r, 2 * kind : 2 * kind + 2, *part] * trans_std * length
        start = low + moved + np.array([j, i]) * length / p
        channel = (d * group_size + i * group_size // p) * group_size + j * group_size // p
        seen = []
        for u, v in np.ndindex(sample_per_part, sample_per_part):
            q, o = start + np.array([v, u]) * length / p / sample_per_part
            if -0.5 <= q <= w - 0.5 and -0.5 <= o <= h - 0.5:
                at = np.clip(o, 0, h - 1), np.clip(q, 0, w - 1)
                seen.append(between(x[int(rois[r, 0]), channel], *at, False))
        y[r, d, i, j] = np.mean(seen) if seen else 0
    return y


BINS = np.random.default_rng(6).normal(size=(2, 16, 6, 5))
ROIS = np.array([[0, 1, 0, 7, 9], [1, 3, 4, 6, 5], [0, -30, -30, -20, -20]], "float64")
MOVED = np.random.default_rng(7).uniform(-1, 1, (3, 4, 2, 2))
POOL = {"spatial_scale": 0.51, "output_dim": 4, "group_size": 2, "pooled_size": 4, "part_size": 2}
POOL |= {"sample_per_part": 2, "trans_std": 0.3}
ROWS += [
    Row("contrib_DeformablePSROIPooling", (BINS, ROIS, MOVED), POOL, bent_bins, (0, 2),
        wrong=((BINS, ROIS, MOVED[:, :3]), POOL), says="trans needs the shape"),
    Row("contrib_DeformablePSROIPooling", (BINS, ROIS), {**POOL, "no_trans": True}, bent_bins, (0,),
        note="not moved", wrong=((BINS[:, 1:], ROIS, MOVED), POOL), says="need 16 channels, not 15"),
]  # fmt: skip
