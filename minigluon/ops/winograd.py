"""Four outputs of a window of three need six multiplications, not twelve: filtering is multiplying polynomials."""

# Written from chapters/40b_winograd.ipynb: edit the chapter, then run `minigluon export`.

import functools

import numpy as np

from minigluon.cores import alone, matmul, spread

__all__ = [
    "AT",
    "AT5",
    "BAND",
    "BT",
    "BT5",
    "FIVE",
    "G",
    "G5",
    "GG",
    "POINTS",
    "ROWS",
    "bands",
    "down",
    "down_again",
    "few",
    "five",
    "five_columns",
    "five_data",
    "five_spectrum",
    "five_weight",
    "pays",
    "pays_five",
    "portions",
    "rowwise",
    "scattered",
    "sideways",
    "spectrum",
    "toom_cook",
    "up",
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


AT, G, BT = (m.astype("float32") for m in toom_cook())
GG = np.kron(G, G)  # 36 × 9: both axes at once
AT5, G5, BT5 = (m.astype("float32") for m in toom_cook((*POINTS, 0.5, -0.5), 4, 5))


# --- Sideways, by products ------------------------------------------------------------------------

BAND = 4  # tiles in a product: more would multiply by zeros, fewer would make more calls


@functools.lru_cache(256)
def bands(size, pad, out):
    """For each few tiles of an axis: their rows, what they read and write, and the matrices B and A."""
    found, count = [], -(-out // 4)
    for a in range(0, count, BAND):
        tiles = min(BAND, count - a)
        read = slice(max(4 * a - pad, 0), min(4 * (a + tiles) + 2 - pad, size))
        write = slice(4 * a, min(4 * (a + tiles), out))
        B, A = np.zeros((tiles, 6, 4 * tiles + 2), "f4"), np.zeros((tiles, 6, 4 * tiles), "f4")
        for i in range(tiles):
            B[i, :, 4 * i : 4 * i + 6] = BT
            A[i, :, 4 * i : 4 * i + 4] = AT.T
        first = read.start - (4 * a - pad)
        B = B.reshape(6 * tiles, -1)[:, first : first + read.stop - read.start].copy()
        A = A.reshape(6 * tiles, -1)[:, : write.stop - write.start].copy()
        found.append((slice(6 * a, 6 * (a + tiles)), read, write, B, A))
    return found


def sideways(x, out, axis_bands, transposed=False):
    """Rows of pictures x, (m, c, h, w), into `out`, (h, m, 6 * tiles, c): times B, or times A."""
    x = x.transpose(2, 0, 3, 1)
    for rows, read, write, B, A in axis_bands:
        matrix, seen = (A, write) if transposed else (B, read)
        np.matmul(matrix, x[:, :, seen], out=out[:, :, rows])


# --- Downwards, by sums ---------------------------------------------------------------------------


def down(p, v):
    """$B^\\top$ along axis 0: p, (4t + 2, numbers), to v, (6, t, numbers)."""
    d = [p[k : len(p) - 5 + k : 4] for k in range(6)]
    a, b = np.multiply(d[2], -4), np.multiply(d[1], -4)
    a += d[4]
    b += d[3]
    np.add(a, b, out=v[1])
    np.subtract(a, b, out=v[2])
    np.multiply(d[0], 4, out=v[0])
    v[0] -= d[2]
    v[0] += a
    np.multiply(d[3], -4, out=v[5])
    v[5] += d[5]
    v[5] -= b
    np.subtract(d[4], d[2], out=a)
    np.subtract(d[3], d[1], out=b)
    b *= 2
    np.add(a, b, out=v[3])
    np.subtract(a, b, out=v[4])


def up(m, q):
    """$A^\\top$ along axis 0: m, (6, t, numbers), to q, (t, 4, numbers)."""
    s, d, t, e = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    np.add(m[0], s, out=q[:, 0])
    q[:, 0] += t
    t *= 4
    np.add(s, t, out=q[:, 2])
    e *= 2
    np.add(d, e, out=q[:, 1])
    e *= 4
    d += e
    np.add(d, m[5], out=q[:, 3])


def down_again(p, v):
    """$A$ along axis 0, the adjoint of `up`: p, (4t, numbers), to v, (6, t, numbers)."""
    g = [p[k::4] for k in range(4)]
    v[0], v[5] = g[0], g[3]
    a, b = g[0] + g[2], g[1] + g[3]
    np.add(a, b, out=v[1])
    np.subtract(a, b, out=v[2])
    np.multiply(g[2], 4, out=a)
    a += g[0]
    np.multiply(g[3], 4, out=b)
    b += g[1]
    b *= 2
    np.add(a, b, out=v[3])
    np.subtract(a, b, out=v[4])


# --- The way there --------------------------------------------------------------------------------

ROWS = 128  # tiles in a product at the least: OpenBLAS is slower with fewer rows


def few(n, tiles, threads=2):
    """Slices of the batch: enough pictures for ROWS tiles, but a slice for each thread."""
    step = max(1, min(-(-ROWS // tiles), -(-n // threads)))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def scattered(x, pad, t, across, total):
    """$B^\\top DB$ of pictures x: (6, tiles, 6, channels)."""
    m, c, h, _ = x.shape
    p = np.empty((4 * t + 2, m, total, c), x.dtype)
    p[:pad] = p[pad + h :] = 0
    keep = min(h, 4 * t + 2 - pad)
    sideways(x[:, :, :keep], p[pad : pad + keep], across)
    v = np.empty((6, t, m * total * c), x.dtype)
    down(p.reshape(4 * t + 2, -1), v)
    return v.reshape(6, t * m * (total // 6), 6, c)


def spectrum(w, turned=False):
    """$GWG^\\top$ of all filters: (6, 6, channels, filters); `turned` by 180 degrees, for the way back."""
    matrix = GG[:, ::-1].copy() if turned else GG
    w = w if turned else w.swapaxes(0, 1)
    n, m = w.shape[:2]
    out = np.empty((36, n * m), w.dtype)

    def fill(part):
        at = slice(part.start * m, part.stop * m)
        np.matmul(matrix, w[part].reshape(-1, 9).T, out=out[:, at])

    if w.size < 1 << 17:
        with alone:
            fill(slice(0, n))
    else:
        spread(fill, few(n, 1))
    return out.reshape(6, 6, n, m)


def winograd(x, u, pad, sizes):
    """The convolution of x, (n, c, h, w), with the filters of spectrum u, with output `sizes`."""
    n, f = x.shape[0], u.shape[3]
    t, across = -(-sizes[0] // 4), bands(x.shape[3], pad[1], sizes[1])
    total = across[-1][0].stop
    y = np.empty((n, f, *sizes), x.dtype)

    def fill(part):
        v = scattered(x[part], pad[0], t, across, total)
        m = np.empty((*v.shape[:3], f), x.dtype)
        np.matmul(v.swapaxes(1, 2), u, out=m.swapaxes(1, 2))
        q = np.empty((t, 4, m.size // (6 * t)), x.dtype)
        up(m.reshape(6, t, -1), q)
        q = q.reshape(4 * t, -1, total, f)[: sizes[0]].transpose(1, 0, 3, 2)
        out = y[part].swapaxes(1, 2)
        for rows, _, write, _, A in across:
            np.matmul(q[..., rows], A, out=out[..., write])

    spread(fill, few(n, t * (total // 6)))
    return y


# --- The way back to the weights ------------------------------------------------------------------


def winograd_weight(g, x, pad):
    """The gradient of the filters, from that of the output, g, and the data, x."""
    n, f, *sizes = g.shape
    c, t, across = x.shape[1], -(-sizes[0] // 4), bands(x.shape[3], pad[1], sizes[1])
    total = across[-1][0].stop

    def share(part):
        v = scattered(x[part], pad[0], t, across, total)
        p = np.zeros((4 * t, v.shape[1] // t // (total // 6), total, f), g.dtype)
        sideways(g[part], p[: sizes[0]], across, transposed=True)
        m = np.empty((6, t, p.size // (4 * t)), g.dtype)
        down_again(p.reshape(4 * t, -1), m)
        return np.matmul(m.reshape(6, -1, 6, f).transpose(0, 2, 3, 1), v.swapaxes(1, 2))

    u = functools.reduce(np.add, spread(share, few(n, t * (total // 6))))
    return matmul(u.reshape(36, f * c).T, GG).reshape(f, c, 3, 3)


# --- Windows of five rows -------------------------------------------------------------------------

FIVE = (
    1 << 17
)  # numbers of the columns of all points, for as many pictures as a core takes at a time


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
    u = G5 @ w.transpose(2, 0, 1, 3).reshape(rows, -1)
    return u.reshape(8, f, c * columns)


def five_columns(x, t, window, out):
    """$B^\\top$ of the rows that tile t sees, and what each column of the window sees of them, into `out`."""
    _, c, width, m = x.shape
    v = np.matmul(BT5, x[4 * t : 4 * t + 8].reshape(8, -1)).reshape(8, c, width * m)
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
            np.matmul(u, five_columns(seen, t, window, into), out=m)
            np.matmul(AT5, m.reshape(8, -1), out=out[t])
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
            np.matmul(u, np.matmul(AT5.T, back[t]).reshape(8, f, -1), out=seen)
            v[:, :, width * m :] = 0
            for j, column in enumerate(seen.reshape(8, c, window, -1).transpose(2, 0, 1, 3)):
                if j == 0:
                    v[:, :, : width * m] = column
                else:
                    v[:, :, j * m : (j + width) * m] += column
            out[4 * t : 4 * t + 8] += np.matmul(BT5.T, v.reshape(8, -1))
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
            np.matmul(AT5.T, back[4 * t : 4 * t + 4].reshape(4, -1), out=m)
            into = five_columns(seen, t, window, into)
            total += np.matmul(m.reshape(8, f, long), into.swapaxes(1, 2))
        return total

    u = functools.reduce(np.add, spread(share, portions(n, c, window, width)))
    w = np.matmul(G5.T, u.reshape(8, -1)).reshape(5, f, c, window)
    return np.ascontiguousarray(w.transpose(1, 2, 0, 3))


# --- Where it pays --------------------------------------------------------------------------------


def pays(x, w, sizes):
    """Whether `winograd` is faster than the direct way: both in nanoseconds, as measured on one core."""
    f, c = w.shape[:2]
    if c < 16 or f < 16:
        return False
    outputs = len(x) * sizes[0] * sizes[1]
    tiles = len(x) * -(-sizes[0] // 4) * -(-sizes[1] // 4)
    direct = outputs * (0.18 * c * f + 4 * c)
    return tiles * 16 * (0.045 * c * f + 3.3 * c + 2 * f) + 50 * c * f < direct


def pays_five(x, w, sizes):
    """Whether `five` is faster: enough channels for its products, and few rows of its last tile empty."""
    f, c = w.shape[:2]
    return len(x) > 1 and c >= 8 and f >= 16 and -(-sizes[0] // 4) * 3 <= sizes[0]
