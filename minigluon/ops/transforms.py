"""A product of sums becomes a sum of products when both are told in waves; and a hash makes vectors short enough to afford it."""

# Written from chapters/14d_transforms.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.op import operator
from minigluon.ops.indexing import add_at, take
from minigluon.ops.shape import reshape

__all__ = ["contrib_count_sketch", "contrib_fft", "contrib_ifft"]


# --- Waves and hashes -----------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, **_: contrib_ifft(g),), aliases=("_contrib_fft",))
def contrib_fft(data, /, compute_size=128):
    r"""The discrete Fourier transform $\sum_nx_ne^{-2\pi imn/d}$ along the last axis,
    real and imaginary parts in turn.

    data: (…, d); the result: (…, 2 d).
    """
    found = np.fft.fft(data, axis=-1)
    parts = np.stack([np.real(found), np.imag(found)], axis=-1)
    return parts.reshape(*data.shape[:-1], 2 * data.shape[-1]).astype(data.dtype)


@operator(vjp=(lambda g, y, x, **_: contrib_fft(g),), aliases=("_contrib_ifft",))
def contrib_ifft(data, /, compute_size=128):
    r"""The real part of $\sum_mx_me^{2\pi imn/d}$ along the last axis:
    d times the inverse of `contrib_fft`.

    data: (…, 2 d), real and imaginary parts in turn; the result: (…, d).
    """
    if data.shape[-1] % 2:
        raise ValueError(f"real and imaginary parts in turn, not {data.shape[-1]} numbers")
    parts = data.reshape(*data.shape[:-1], data.shape[-1] // 2, 2)
    found = np.fft.ifft(parts[..., 0] + 1j * parts[..., 1], axis=-1)
    return (np.real(found) * found.shape[-1]).astype(data.dtype)


@operator(same_dtype=False, aliases=("_contrib_count_sketch",))
def contrib_count_sketch(data, h, s, /, out_dim, processing_batch_size=32):
    """Sums of the numbers of each row that fall into one of `out_dim` buckets, each with its sign.

    data: (n, d); h: (1, d) or (d,), the buckets; s: likewise, the signs. Source: Charikar, Chen,
    Farach-Colton, 2002.
    """
    if data.ndim != 2 or not h.size == s.size == data.shape[1]:
        raise ValueError(
            f"data (n, d) and d buckets and signs, not {data.shape}, {h.shape}, {s.shape}"
        )
    bucket = h.reshape(-1).astype("int64")
    if ((bucket < 0) | (bucket >= out_dim)).any():
        raise ValueError(f"a bucket that is none of 0 … {out_dim - 1}")
    out = np.zeros_like(data, shape=(len(data), out_dim))
    add_at(out, (slice(None), bucket), data * s.reshape(-1).astype(data.dtype))
    return out


@contrib_count_sketch.vjp
def _(g, y, data, h, s, **_):
    return take(g, reshape(h, shape=(-1,)), axis=1) * reshape(s, shape=(-1,)), None, None
