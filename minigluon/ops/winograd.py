"""Four outputs of a window of three need six multiplications, not twelve: filtering is multiplying polynomials."""

# Written from chapters/40b_winograd.ipynb: edit the chapter, then run `minigluon export`.

import functools

import numpy as np

from minigluon.cores import alone, core_matmul, spread

__all__ = [
    "BAND",
    "CHUNK",
    "FIVE",
    "FOUR",
    "POINTS",
    "ROWS",
    "ROWS5",
    "Tile",
    "all_scattered",
    "bands",
    "chunks",
    "few",
    "filtered",
    "five",
    "five_columns",
    "five_data",
    "five_spectrum",
    "five_weight",
    "gathered",
    "is_filterwise",
    "pays",
    "pays_five",
    "placed",
    "portions",
    "rowwise",
    "scattered",
    "sideways",
    "spectral_share",
    "spectrum",
    "toom_cook",
    "winograd",
    "winograd_weight",
]


# --- Mathematics ----------------------------------------------------------------------------------

POINTS = (0, 1, -1, 2, -2)


def toom_cook(points=POINTS, outputs=4, window=3):
    """The matrices $A^\\top, G, B^\\top$ of F(outputs, window), from the points of interpolation."""
    n = outputs + window - 1
    powers = np.array(
        [[float(s) ** k for k in range(n)] for s in points] + [[0.0] * (n - 1) + [1.0]]
    )
    A, G = powers[:, :outputs].copy(), powers[:, :window].copy()
    A[-1] = G[-1] = 0
    A[-1, -1] = G[-1, -1] = 1
    B = np.linalg.inv(powers)  # interpolation: from values to coefficients
    scale = np.array([1 / np.prod([s - t for t in points if t != s]) for s in points] + [1.0])
    return A.T, G * scale[:, None], np.rint(B.T / scale[:, None] * 4) / 4


class Tile:
    """A tile with so many outputs on each axis, for windows of `window`, and its three matrices."""

    def __init__(self, outputs, window, points):
        self.outputs, self.size = outputs, outputs + window - 1
        matrices = toom_cook(points, outputs, window)
        self.AT, self.G, self.BT = (m.astype("float32") for m in matrices)

    def count(self, n):
        """How many tiles cover n outputs."""
        return -(-n // self.outputs)


FOUR = Tile(4, 3, POINTS)
ROWS5 = Tile(4, 5, (*POINTS, 0.5, -0.5))


# --- Sideways, by banded products -----------------------------------------------------------------

BAND = 4  # tiles in a product: more would multiply by zeros, fewer would make more calls


@functools.lru_cache(256)
def bands(size, pad, out):
    """For each few tiles of an axis: their rows, what they read and write, and the matrices B and A."""
    found, o, n = [], FOUR.outputs, FOUR.size
    for a in range(0, FOUR.count(out), BAND):
        tiles = min(BAND, FOUR.count(out) - a)
        read = slice(max(o * a - pad, 0), min(o * (a + tiles) + n - o - pad, size))
        write = slice(o * a, min(o * (a + tiles), out))
        B, A = np.zeros((tiles, n, o * tiles + n - o), "f4"), np.zeros((tiles, n, o * tiles), "f4")
        for i in range(tiles):
            B[i, :, o * i : o * i + n] = FOUR.BT
            A[i, :, o * i : o * i + o] = FOUR.AT.T
        first = read.start - (o * a - pad)
        B = B.reshape(n * tiles, -1)[:, first : first + read.stop - read.start].copy()
        A = A.reshape(n * tiles, -1)[:, : write.stop - write.start].copy()
        found.append((slice(n * a, n * (a + tiles)), read, write, B, A))
    return found


def sideways(x, out, axis_bands, transposed=False):
    """Rows of pictures x, (m, c, h, w), into `out`, (h, m, 6 * tiles, c): times B, or times A."""
    x = x.transpose(2, 0, 3, 1)
    for rows, read, write, B, A in axis_bands:
        matrix, seen = (A, write) if transposed else (B, read)
        np.matmul(matrix, x[:, :, seen], out=out[:, :, rows])


# --- Downwards, one product a tile ----------------------------------------------------------------


def scattered(x, pad, across, out):
    """$B^\top DB$ of pictures x, into `out`: (6, tiles down, pictures, 6 * tiles across, channels)."""
    (m, c, h, _), (n, t, _, total, _), o = x.shape, out.shape, FOUR.outputs
    p = np.empty((o * t + n - o, m, total, c), x.dtype)
    p[:pad] = p[pad + h :] = 0
    keep = min(h, len(p) - pad)
    sideways(x[:, :, :keep], p[pad : pad + keep], across)
    (step, *_), long = p.strides, m * total * c
    rows = np.lib.stride_tricks.as_strided(p, (t, n, long), (o * step, step, x.itemsize))
    np.matmul(FOUR.BT, rows, out=out.reshape(n, t, long).swapaxes(0, 1))
    return out.reshape(n, t * m * (total // n), n, c)


# --- The filters ----------------------------------------------------------------------------------


def placed(w):
    """Filters (f, c, 3, 3) as (3, 3, c, f), sixteen at a time:
    then cache lines that are read are used up.
    """
    out = np.empty((*w.shape[2:], w.shape[1], len(w)), w.dtype)
    step = 16 if w.size > 1 << 18 else len(w)
    for i in range(0, len(w), step):
        out[..., i : i + step] = w[i : i + step].transpose(2, 3, 1, 0)
    return out


def spectrum(w, turned=False, part=slice(None)):
    """$GWG^\top$ of filters, or of a part of them: (6, 6, channels, filters);
    `turned` by 180 degrees, for the way back.
    """
    if turned:
        w = np.ascontiguousarray(w[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)[..., part])
    else:
        w = placed(w[part])
    rows = (FOUR.G @ w.reshape(3, -1)).reshape(6, 3, -1)
    return (FOUR.G @ rows).reshape(6, 6, *w.shape[2:])


# --- The way there --------------------------------------------------------------------------------

ROWS = 128  # tiles in a product at the least: OpenBLAS is slower with fewer rows
CHUNK = 1 << 18  # numbers of a spectrum that stay in a core's cache


def few(n, tiles):
    """Slices of the batch: enough pictures for ROWS tiles, but a slice for each thread."""
    step = max(1, min(-(-ROWS // tiles), -(-n // alone.threads)))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def chunks(f, c):
    """Slices of the filters: a slice for each thread, and spectra that stay in the cache;
    by 16, as BLAS likes it.
    """
    step = max(16, min(CHUNK // (c * 36), -(-f // alone.threads)) // 16 * 16)
    return [slice(i, min(i + step, f)) for i in range(0, f, step)]


def is_filterwise(w, n, tiles):
    """Whether the cores share filters, and not pictures."""
    return n * tiles <= ROWS and w.size > 1 << 17


def filtered(v, u, out, across):
    """From spectra of pictures and filters to `out`, (m, f, rows, width):
    36 products, and $A^\top MA$.
    """
    m, f, height, _ = out.shape
    total, t = across[-1][0].stop, FOUR.count(height)
    products = np.empty((*v.shape[:3], f), v.dtype)
    core_matmul(v.swapaxes(1, 2), u, products.swapaxes(1, 2))
    q = np.matmul(FOUR.AT, products.reshape(6, t, -1).swapaxes(0, 1))
    q = q.reshape(4 * t, m, total, f)[:height].transpose(1, 0, 3, 2)
    for rows, _, write, _, A in across:
        np.matmul(q[..., rows], A, out=out.swapaxes(1, 2)[..., write])


def winograd(x, w, pad, sizes, turned=False):
    """The convolution of x, (n, c, h, w), with 3 × 3 filters w, with output `sizes`."""
    (n, c, _, width), f = x.shape, w.shape[1 if turned else 0]
    t, across = FOUR.count(sizes[0]), bands(width, pad[1], sizes[1])
    y, total = np.empty((n, f, *sizes), x.dtype), across[-1][0].stop
    if is_filterwise(w, n, t * total // 6):
        v = all_scattered(x, pad, t, across)

        def fill(part):
            filtered(v, spectrum(w, turned, part), y[:, part], across)

        spread(fill, chunks(f, c))
    else:
        with alone:
            u = spectrum(w, turned)

        def fill(part):
            v = np.empty((6, t, len(y[part]), total, c), x.dtype)
            filtered(scattered(x[part], pad[0], across, v), u, y[part], across)

        spread(fill, few(n, t * total // 6))
    return y


def all_scattered(x, pad, t, across):
    """`scattered` of all pictures, which the cores share."""
    (n, c), total = x.shape[:2], across[-1][0].stop
    v = np.empty((6, t, n, total, c), x.dtype)
    step = -(-n // alone.threads)
    parts = [slice(i, i + step) for i in range(0, n, step)]
    spread(lambda part: scattered(x[part], pad[0], across, v[:, :, part]), parts)
    return v.reshape(6, -1, 6, c)


# --- The way back to the weights ------------------------------------------------------------------


def spectral_share(v, g, across):
    """The gradient of filter spectra, from those of pictures, v, and that of their outputs, g,
    (m, f, rows, width).
    """
    m, f, height, _ = g.shape
    t, total = FOUR.count(height), across[-1][0].stop
    p = np.empty((4 * t, m, total, f), g.dtype)
    p[height:] = 0
    sideways(g, p[:height], across, transposed=True)
    products = np.empty((6, t, p[0].size), g.dtype)
    np.matmul(FOUR.AT.T, p.reshape(t, 4, -1), out=products.swapaxes(0, 1))
    products = products.reshape(6, -1, 6, f).transpose(0, 2, 3, 1)
    return core_matmul(products, v.swapaxes(1, 2))


def winograd_weight(g, x, pad):
    """The gradient of the filters, from that of the output, g, and the data, x."""
    (n, f, *sizes), c = g.shape, x.shape[1]
    t, across = FOUR.count(sizes[0]), bands(x.shape[3], pad[1], sizes[1])
    total, out = across[-1][0].stop, np.empty((f, c, 3, 3), x.dtype)
    if is_filterwise(out, n, t * total // 6):
        v = all_scattered(x, pad, t, across)

        def fill(part):
            gathered([spectral_share(v, g[:, part], across)], out[part])

        spread(fill, chunks(f, c))
        return out

    def share(part):
        v = np.empty((6, t, len(g[part]), total, c), x.dtype)
        return spectral_share(scattered(x[part], pad[0], across, v), g[part], across)

    shares, half = spread(share, few(n, t * total // 6)), -(-f // 2)
    spread(
        lambda at: gathered([u[:, :, at] for u in shares], out[at]), [slice(half), slice(half, f)]
    )
    return out


def gathered(shares, out):
    """$G^\top UG$ of the sum U of shares, (6, 6, filters, channels), into `out`,
    (filters, channels, 3, 3).
    """
    u = functools.reduce(np.add, shares)
    w = FOUR.G.T @ (FOUR.G.T @ u.reshape(6, -1)).reshape(3, 6, -1)
    out[...] = w.reshape(3, 3, *out.shape[:2]).transpose(2, 3, 0, 1)


# --- Windows of five rows -------------------------------------------------------------------------

# numbers of the columns of all points, for as many pictures as a core takes at a time
FIVE = 1 << 17


def rowwise(x, rows, pad=(0, 0)):
    """Pictures (m, c, h, w) as (rows, c, w, m), with zeros around them."""
    m, c, h, w = x.shape
    if rows == h and not any(pad):
        return np.ascontiguousarray(x.transpose(2, 1, 3, 0))
    out = np.zeros((rows, c, w + 2 * pad[1], m), x.dtype)
    out[pad[0] : pad[0] + h, :, pad[1] : pad[1] + w] = x.transpose(2, 1, 3, 0)
    return out


def portions(n, c, window, width):
    """Slices of the batch, whose columns fit the cache."""
    step = max(1, min(FIVE // (8 * c * window * width), -(-n // alone.threads)))
    return [slice(i, i + step) for i in range(0, n, step)]


def five_spectrum(w):
    """$G$ times the rows of all filters: (8, filters, channels * columns)."""
    f, c, rows, columns = w.shape
    u = ROWS5.G @ w.transpose(2, 0, 1, 3).reshape(rows, -1)
    return u.reshape(8, f, c * columns)


def five_columns(x, t, window, out):
    """$B^\\top$ of the rows that tile t sees, and what each column of the window sees of them,
    into `out`.
    """
    _, c, width, m = x.shape
    v = np.matmul(ROWS5.BT, x[4 * t : 4 * t + 8].reshape(8, -1)).reshape(8, c, width * m)
    seen = out.reshape(8, c, window, -1)
    for j in range(window):
        seen[:, :, j] = v[:, :, j * m : j * m + seen.shape[3]]
    return out


def five(x, w, pad, sizes):
    """The convolution of x, (n, c, h, w), with filters of five rows, with output `sizes`."""
    (n, c), (f, _, _, window), tiles = x.shape[:2], w.shape, -(-sizes[0] // 4)
    u, y = five_spectrum(w), np.empty((n, f, *sizes), x.dtype)

    def fill(part):
        seen = rowwise(x[part], 4 * tiles + 4, pad)
        long = sizes[1] * seen.shape[3]
        out, m = np.empty((tiles, 4, f * long), x.dtype), np.empty((8, f, long), x.dtype)
        into = np.empty((8, c * window, long), x.dtype)
        for t in range(tiles):
            core_matmul(u, five_columns(seen, t, window, into), m)
            np.matmul(ROWS5.AT, m.reshape(8, -1), out=out[t])
        y[part] = out.reshape(4 * tiles, f, sizes[1], -1)[: sizes[0]].transpose(3, 1, 0, 2)

    spread(fill, portions(n, c, window, sizes[1]))
    return y


def five_data(g, w, pad, sizes):
    """The gradient of the data, in pictures of `sizes`, from that of the output, g."""
    n, f, rows, width = g.shape
    c, window, tiles = w.shape[1], w.shape[3], -(-rows // 4)
    u, x = np.ascontiguousarray(five_spectrum(w).swapaxes(1, 2)), np.empty((n, c, *sizes), g.dtype)

    def fill(part):
        back = rowwise(g[part], 4 * tiles).reshape(tiles, 4, -1)
        m, wide = len(g[part]), sizes[1] + 2 * pad[1]
        out = np.zeros((4 * tiles + 4, c * wide * m), g.dtype)
        seen, v = np.empty((8, c * window, width * m), g.dtype), np.empty((8, c, wide * m), g.dtype)
        for t in range(tiles):
            core_matmul(u, np.matmul(ROWS5.AT.T, back[t]).reshape(8, f, -1), seen)
            v[:, :, width * m :] = 0
            for j, column in enumerate(seen.reshape(8, c, window, -1).transpose(2, 0, 1, 3)):
                if j == 0:
                    v[:, :, : width * m] = column
                else:
                    v[:, :, j * m : (j + width) * m] += column
            out[4 * t : 4 * t + 8] += np.matmul(ROWS5.BT.T, v.reshape(8, -1))
        out = out.reshape(-1, c, wide, m)[pad[0] : pad[0] + sizes[0], :, pad[1] : pad[1] + sizes[1]]
        x[part] = out.transpose(3, 1, 0, 2)

    spread(fill, portions(n, c, window, width))
    return x


def five_weight(g, x, pad, window):
    """The gradient of filters of five rows, from that of the output, g, and the data, x."""
    (n, f, _, width), c, tiles = g.shape, x.shape[1], -(-g.shape[2] // 4)

    def share(part):
        seen, back = rowwise(x[part], 4 * tiles + 4, pad), rowwise(g[part], 4 * tiles)
        long = width * seen.shape[3]
        into, m = np.empty((8, c * window, long), g.dtype), np.empty((8, f * long), g.dtype)
        total = np.zeros((8, f, c * window), g.dtype)
        for t in range(tiles):
            np.matmul(ROWS5.AT.T, back[4 * t : 4 * t + 4].reshape(4, -1), out=m)
            into = five_columns(seen, t, window, into)
            total += core_matmul(m.reshape(8, f, long), into.swapaxes(1, 2))
        return total

    u = functools.reduce(np.add, spread(share, portions(n, c, window, width)))
    w = np.matmul(ROWS5.G.T, u.reshape(8, -1)).reshape(5, f, c, window)
    return np.ascontiguousarray(w.transpose(1, 2, 0, 3))


# --- Where it pays --------------------------------------------------------------------------------


def pays(x, w, sizes):
    """Whether `winograd` is faster than the direct way: both in nanoseconds, as measured on one core."""
    f, c = w.shape[:2]
    if c < 16 or f < 16:
        return False
    outputs = len(x) * sizes[0] * sizes[1]
    tiles = len(x) * FOUR.count(sizes[0]) * FOUR.count(sizes[1])
    direct = outputs * (0.2 * c * f + 6 * c)
    return tiles * (0.78 * c * f + 30 * (c + f)) + 18 * c * f < direct


def pays_five(x, w, sizes):
    """Whether `five` is faster: enough channels for its products,
    and few rows of its last tile empty.
    """
    f, c = w.shape[:2]
    return len(x) > 1 and c >= 8 and f >= 16 and -(-sizes[0] // 4) * 3 <= sizes[0]
