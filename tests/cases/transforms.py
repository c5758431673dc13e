"""Operators of chapter 14d: Fourier transforms and count sketches, by their definitions."""

import numpy as np

from tests.rows import Row, signed


def waves(d):
    """Angles of d places and d waves."""
    return 2 * np.pi * np.outer(np.arange(d), np.arange(d)) / d


def transformed(x, **_):
    angles = waves(x.shape[-1])
    found = np.stack([x @ np.cos(angles), -x @ np.sin(angles)], -1)
    return found.reshape(*x.shape[:-1], -1)


def back(x, **_):
    angles, pairs = waves(x.shape[-1] // 2), x.reshape(*x.shape[:-1], -1, 2)
    return pairs[..., 0] @ np.cos(angles) - pairs[..., 1] @ np.sin(angles)


def sketched(x, h, s, out_dim, **_):
    out = np.zeros((len(x), out_dim))
    for i, (bucket, sign) in enumerate(zip(np.ravel(h).astype(int), np.ravel(s))):
        out[:, bucket] += sign * x[:, i]
    return out


HASH, SIGNS = np.array([[0.0, 3, 3, 1]]), np.array([[1.0, -1, 1, -1]])
ROWS = [
    Row("contrib_fft", (signed(2, 5),), {}, transformed),
    Row("contrib_fft", (signed(2, 1, 2, 4),), {"compute_size": 64}, transformed, note="four axes"),
    Row(
        "contrib_ifft",
        (signed(2, 6),),
        {},
        back,
        wrong=((signed(2, 5),), {}),
        says="5 numbers",
    ),
    Row("contrib_ifft", (signed(1, 2, 2, 8),), {}, back, note="four axes"),
    Row(
        "contrib_count_sketch",
        (signed(3, 4), HASH, SIGNS),
        {"out_dim": 5, "processing_batch_size": 16},
        sketched,
        (0,),
        wrong=((signed(3, 4), HASH, SIGNS), {"out_dim": 3}),
        says="0 … 2",
    ),
    Row(
        "contrib_count_sketch",
        (signed(3, 4), HASH[0], SIGNS[0]),
        {"out_dim": 4},
        sketched,
        (0,),
        wrong=((signed(3, 4), HASH[0, 1:], SIGNS[0]), {"out_dim": 5}),
        says="buckets and signs",
        note="flat",
    ),
]
