"""Every operator that Gluon code uses against bare NumPy, PyTorch and MXNet: `python benchmarks/operators.py`.

Each line is one call, forwards, on large arrays (at least 1e6 numbers unless it says otherwise) and on
small ones (16 to 64 numbers). NumPy's column is the best formulation by hand that we know, into fresh
memory, as the operator gives it. NumPy and minigluon take turns in one process, on the same memory:
a line is judged by the median of ratios and of differences. PyTorch and MXNet run in processes
of their own (--torch, --mxnet or TORCH_PYTHON, MXNET_PYTHON); one thread each. Only ratios within one
run mean something.

A large call is to take at most 1.15 times NumPy's time, a small one at most 1.5 µs more. Some calls on
large arrays touch few of their numbers (views, a diagonal, three rows, new arrays of 1e5 numbers and
less): they take as long as small calls, and are judged as those are. Beside a line that misses stands
its floor: how much longer than NumPy's formulation a call takes of an operator that is nothing but
this formulation, with as many arrays and settings, and that checks none of them.
"""

import argparse
import ast
import atexit
import gc
import json
import os
import shutil
import sys
import tempfile
import timeit
from pathlib import Path
from statistics import median

import numpy as np

R = np.random.default_rng(0)
FILE = os.path.join(tempfile.mkdtemp(prefix="arrays"), "x")
atexit.register(shutil.rmtree, os.path.dirname(FILE), ignore_errors=True)


def arrays(large):
    """What the programs work on, by name."""
    n, m, k = (1000, 2000, 64) if large else (4, 8, 2)
    x = R.normal(size=(n, m)).astype("float32")
    image = R.normal(size=(16, 16, 64, 64) if large else (1, 4, 4, 4)).astype("float32")
    square = R.normal(size=(400, 400) if large else (4, 4)).astype("float32")
    spd = square @ square.T + np.eye(len(square), dtype="float32") * len(square)
    vector = R.normal(size=m).astype("float32")
    return {
        "x": x,
        "own": x.copy(),  # what programs in place change
        "y": R.normal(size=(n, m)).astype("float32"),
        "p": np.abs(x) + np.float32(0.5),
        "row": R.normal(size=(1, m)).astype("float32"),
        "column": R.integers(0, m, n).astype("float32"),
        "rows": R.integers(0, n, n).astype("float32"),
        "mask": (x > 0).astype("float32"),
        "image": image,
        "square": square,
        "spd": spd,
        "batch": R.normal(size=(64, 64, 64) if large else (2, 2, 4)).astype("float32"),
        "batch2": R.normal(size=(64, 64, 64) if large else (2, 4, 2)).astype("float32"),
        "lengths": R.integers(1, n, m).astype("float32"),
        "few": x[:, :k].copy(),
        "whole": R.integers(-9, 9, (n, m)).astype("int32"),
        "vector": vector,
        "weight": R.normal(size=(64, m) if large else (4, m)).astype("float32"),
        "thin": x[:, :1].copy(),
        "keep": (R.integers(0, 4, n) > 0).astype("float32"),
        "fifty": np.sort(R.random((50, 4), "float32"), axis=1),
        "bias": np.zeros(64 if large else 4, "float32"),
        "labels": R.integers(0, k, n).astype("float32"),
        "chance": np.full((n, k), 1 / k, "float32"),
        "steps": R.normal(size=(100, 64, 200) if large else (4, 2, 2)).astype("float32"),
        "ends": R.integers(1, 4, 64 if large else 2).astype("float32"),
        "pairs": R.integers(0, min(n, m), (2, n)).astype("float32"),
        "boxes": np.sort(R.random((n, 4), "float32"), axis=1),
        "lower": np.linalg.cholesky(spd),
        "high": vector + np.float32(2),
        "scale": np.abs(vector) + np.float32(0.5),
        "some": R.permutation(n)[: n // 2].astype("float32"),
        "half": R.normal(size=(n // 2, m)).astype("float32"),
        "flat": R.integers(0, m * m, n).astype("float32"),
        "scarce": np.where(R.random((n, m)) < (0.01 if large else 0.3), x, np.float32(0)),
        "tall": R.normal(size=(m, 64 if large else 4)).astype("float32"),
        "left": np.sort(R.permutation(n)[: n // 4]),
        "right": np.sort(R.permutation(n)[: n // 4]),
        "regions": regions(64 if large else 2, len(image), image.shape[-1]),
        "scored": np.concatenate(
            [
                R.random((50 if large else 4, 2), "float32"),
                np.sort(R.random((50 if large else 4, 4), "float32")),
            ],
            1,
        ),
        **detections(500 if large else 8, 10 if large else 2),
    }


def detections(n, m):
    """Anchors, objects of one class, scores of the background and of it, and what moves the anchors."""
    rows = np.sort(R.random((1, m, 5), "float32"))
    rows[..., 0] = 0
    return {
        "priors": np.sort(R.random((1, n, 4), "float32")),
        "truth": rows,
        "scores": R.random((1, 2, n), "float32"),
        "moves": R.normal(size=(1, 4 * n), scale=0.1).astype("float32"),
    }


def regions(count, images, size):
    """Random rectangles of at least two pixels: rows of image, x0, y0, x1, y1."""
    corners = np.sort(R.integers(0, size - 1, (count, 2, 2)), axis=1).reshape(count, 4)
    corners[:, 2:] += 1
    return np.concatenate([R.integers(0, images, (count, 1)), corners], 1).astype("float32")


def stable_softmax(x):
    e = x - x.max(-1, keepdims=True)
    np.exp(e, out=e)
    e /= e.sum(-1, keepdims=True)
    return e


def log_softmax(x):
    e = x - x.max(-1, keepdims=True)
    e -= np.log(np.exp(e).sum(-1, keepdims=True))
    return e


def sigmoid(x):  # 0.5 tanh(x / 2) + 0.5 is faster, and 0 where this is 1e-9
    out = np.negative(x)
    np.exp(out, out=out)
    out += np.float32(1)
    return np.reciprocal(out, out=out)


def whole_numbers(a):
    return a.astype("int64")


def clipped(x, low, high):
    return np.minimum(np.maximum(x, np.float32(low)), np.float32(high))


def padded(image):
    out = np.zeros((*image.shape[:2], image.shape[2] + 2, image.shape[3] + 2), image.dtype)
    out[..., 1:-1, 1:-1] = image
    return out


def chosen(index, depth):
    out = np.zeros((len(index), depth), "float32")
    inside = (index >= 0) & (index < depth)
    out[np.arange(len(index))[inside], index[inside]] = 1
    return out


def inverse_root(x):
    out = np.sqrt(x)
    return np.reciprocal(out, out=out)


def half_up(x):  # halves away from zero
    out = np.copysign(np.float32(0.49999997), x)
    out += x
    return np.trunc(out, out=out)


def huber(x):
    size = np.abs(x)
    inside = np.minimum(size, np.float32(1))
    size -= np.float32(0.5) * inside
    size *= inside
    return size


def log_sigmoid(x):
    out = np.abs(x)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    return np.subtract(np.minimum(x, np.float32(0)), out, out=out)


def scattered(data, pairs, m):
    out = np.zeros((m, m), data.dtype)
    out[tuple(pairs)] = data
    return out


def moments(x):
    center = x.mean(0, keepdims=True)
    away = x - center
    away *= away
    return center[0], away.mean(0)


def cross_entropy(z, labels):
    e = z - z.max(-1, keepdims=True)
    e -= np.log(np.exp(e).sum(-1, keepdims=True))
    losses = -e[np.arange(len(z)), whole_numbers(labels)]
    return np.minimum(losses, np.float32(18.420681)).sum(keepdims=True)  # no p below 1e-8, as MXNet


def pixels(image, b):
    n, depth, h, w = image.shape
    c = depth // b**2
    parts = image.reshape(n, b, b, c, h, w).transpose(0, 3, 4, 1, 5, 2)
    return np.ascontiguousarray(parts).reshape(n, c, h * b, w * b)


def affine(x, weight, bias):
    out = x.dot(weight.T)
    out += bias
    return out


def layer_norm(x, gamma):
    out = x - x.mean(-1, keepdims=True)
    out /= np.sqrt((out * out).mean(-1, keepdims=True) + np.float32(1e-5))
    out *= gamma
    out += gamma
    return out


def chosen_at_random(p):  # in double precision, or no outcome would be rarer than 1e-7
    edges = p.cumsum(1, "float64")
    at = R.random(len(p))
    at *= edges[:, -1]
    return (edges > at[:, None]).argmax(1).astype("int32")


def iou(a, b):
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    side = np.maximum(high - low, np.float32(0))
    both = side[..., 0] * side[..., 1]
    area_a, area_b = ((q[:, 2] - q[:, 0]) * (q[:, 3] - q[:, 1]) for q in (a, b))
    union = area_a[:, None] + area_b - both
    return np.where(union > 0, both / np.where(union > 0, union, 1), np.float32(0))


def suppressed(scored, threshold):  # the plain loop: the best that is left removes what overlaps it
    order = np.argsort(-scored[:, 1], kind="stable")
    rows, kept = scored[order], []
    left = rows[:, 1] > 0
    while left.any():
        i = left.argmax()
        kept.append(i)
        left &= iou(rows[:, 2:], rows[i : i + 1, 2:])[:, 0] <= threshold
        left[i] = False
    out = np.full_like(scored, -1)
    out[: len(kept)] = rows[kept]
    return out


def eigenvectors(a):  # as rows, the number of largest magnitude positive: the same in every run
    values, vectors = np.linalg.eigh(a)
    u = vectors.T
    return u * np.sign(u[np.arange(len(u)), np.abs(u).argmax(1)])[:, None], values


def largest(x, k):  # of equal numbers any may be left out, where ours takes the first
    part = np.argpartition(x, -k)[:, -k:]
    order = np.argsort(-np.take_along_axis(x, part, 1), axis=1)
    return np.take_along_axis(part, order, 1).astype("float32")


def largest_numbers(x, k):
    part = np.partition(x, x.shape[1] - k)[:, -k:]
    part.sort()
    return part[:, ::-1].copy()


def largest_mask(x, k):
    out = np.zeros_like(x)
    np.put_along_axis(out, np.argpartition(x, -k)[:, -k:], 1, 1)
    return out


def replaced(x, rows, new):
    out = x.copy()
    out[rows] = new
    return out


def blocks(image, b):
    n, c, h, w = image.shape
    parts = image.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(parts).reshape(n, c * b * b, h // b, w // b)


def reversed_rows(steps, ends):
    at = np.arange(len(steps))[:, None]
    at = np.where(at < ends, ends - 1 - at, at)
    return steps[at, np.arange(steps.shape[1])]


def inverse_of_factor(lower):
    inverse = np.linalg.inv(np.tril(lower))  # only the triangle counts
    return inverse.T.dot(inverse)


def rows_and_triangle(a):
    q, r = np.linalg.qr(a.T)
    return q.T.copy(), r.T.copy()


def product_and_sum(a, b, c):
    out = a.dot(b)
    out += c
    return out


def refuse_below_0(a):  # as NumPy's own `R.uniform(low, high)` and its kin do, which are slower
    if a[a.argmin()] < 0:
        raise ValueError("below 0")


def between(low, high, n):
    width = high - low
    refuse_below_0(width)
    out = R.random((len(low), n), "float32")
    out *= width[:, None]
    out += low[:, None]
    return out


def normals(mean, scale, n):
    refuse_below_0(scale)
    out = R.standard_normal((len(mean), n), "float32")
    out *= scale[:, None]
    out += mean[:, None]
    return out


def gammas(shape, scale, n):
    refuse_below_0(scale)
    out = R.standard_gamma(shape[:, None], (len(scale), n), "float32")
    out *= scale[:, None]
    return out


def packed(a):  # the parts of a CSR matrix
    rows, columns = np.nonzero(a)
    ends = np.zeros(len(a) + 1, "int64")
    np.cumsum(np.bincount(rows, minlength=len(a)), out=ends[1:])
    return a[rows, columns], columns, ends


def unpacked(values, columns, ends, shape):
    out = np.zeros(shape, values.dtype)
    out[np.repeat(np.arange(shape[0]), np.diff(ends)), columns] = values
    return out


def sparse_product(values, columns, ends, b):
    out = np.zeros((len(ends) - 1, b.shape[1]), b.dtype)
    full = np.diff(ends) > 0
    out[full] = np.add.reduceat(b[columns] * values[:, None], ends[:-1][full])
    return out


def sum_of_rows(x, left, right):  # of two row-sparse arrays: places and rows
    places = np.union1d(left, right)
    out = np.zeros((len(places), x.shape[1]), x.dtype)
    out[np.searchsorted(places, left)] = x[left]
    out[np.searchsorted(places, right)] += x[right]
    return places, out


def anchors(image, size, ratio):
    h, w = image.shape[2:]
    x = ((np.arange(w, dtype="float32") + np.float32(0.5)) / np.float32(w))[:, None]
    y = ((np.arange(h, dtype="float32") + np.float32(0.5)) / np.float32(h))[:, None, None]
    root = np.sqrt(np.array([1, ratio], "float32"))
    half_w, half_h = np.float32(size * h / w / 2) * root, np.float32(size / 2) / root
    out = np.empty((h, w, 2, 4), "float32")
    for i, edge in enumerate((x - half_w, y - half_h, x + half_w, y + half_h)):
        out[..., i] = edge
    return out.reshape(1, -1, 4)


VARIANCES = np.array([0.1, 0.1, 0.2, 0.2], "float32")


def matched(
    anchors, labels, variances
):  # the best anchor of each object, then the best object of each anchor
    anchors, truth = anchors[0], labels[0]
    shared = iou(anchors, truth[:, 1:])
    best = shared.argmax(1)
    chosen = shared[np.arange(len(anchors)), best] > 0.5
    free = shared.copy()
    for _ in range(len(truth)):
        a, o = divmod(int(free.argmax()), len(truth))
        best[a], chosen[a] = o, True
        free[a], free[:, o] = -1, -1
    (c, size), (d, span) = (
        ((b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]) for b in (anchors, truth[best, 1:])
    )
    offsets = np.concatenate([(d - c) / size, np.log(span / size)], 1) / variances
    mask = np.repeat(chosen[:, None], 4, 1).astype("float32")
    classes = np.where(chosen, truth[best, 0] + 1, 0).astype("float32")
    return (offsets * mask).reshape(1, -1), mask.reshape(1, -1), classes[None]


def detected(chances, offsets, anchors, variances):
    anchors, moves = anchors[0], offsets.reshape(-1, 4) * variances
    c, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    middle, half = moves[:, :2] * size + c, np.exp(moves[:, 2:]) * size / 2
    boxes = np.clip(np.concatenate([middle - half, middle + half], 1), 0, 1)
    score = chances[0, 1:].max(0)
    score *= score >= np.float32(0.01)  # less is nothing
    rows = np.concatenate([chances[0, 1:].argmax(0)[:, None], score[:, None], boxes], 1)
    return suppressed(rows.astype("float32"), np.float32(0.5))[None]


def pooled_regions(image, rois, count):  # a maximum a bin, in loops
    out = np.empty((len(rois), image.shape[1], count, count), image.dtype)
    for r, roi in enumerate(rois.astype("int64").tolist()):
        i, x0, y0, x1, y1 = roi
        for a in range(count):
            top = y0 + a * (y1 - y0 + 1) // count
            bottom = y0 - (-(a + 1) * (y1 - y0 + 1) // count)
            for b in range(count):
                start = x0 + b * (x1 - x0 + 1) // count
                stop = x0 - (-(b + 1) * (x1 - x0 + 1) // count)
                out[r, :, a, b] = image[i, :, top:bottom, start:stop].max((1, 2))
    return out


def saved(x):  # whole or not at all
    with open(f"{FILE}.part", "wb") as file:
        np.lib.format.write_array(file, x)
    os.replace(f"{FILE}.part", f"{FILE}.npy")


# name: (minigluon and MXNet, NumPy, PyTorch), all expressions over the arrays above
PROGRAMS = {
    "add": ("x + y", "x + y", "x + y"),
    "add a row": ("nd.broadcast_add(x, row)", "x + row", "x + row"),
    "multiply by a number": ("x * 2", "x * np.float32(2)", "x * 2"),
    "in place": ("own.__iadd__(y)", "np.add(own, y, out=own)", "own.add_(y)"),
    "maximum": ("nd.maximum(x, y)", "np.maximum(x, y)", "torch.maximum(x, y)"),
    "exp": ("nd.exp(x)", "np.exp(x)", "torch.exp(x)"),
    "log": ("nd.log(p)", "np.log(p)", "torch.log(p)"),
    "sqrt": ("nd.sqrt(p)", "np.sqrt(p)", "torch.sqrt(p)"),
    "tanh": ("nd.tanh(x)", "np.tanh(x)", "torch.tanh(x)"),
    "sigmoid": ("nd.sigmoid(x)", "sigmoid(x)", "torch.sigmoid(x)"),
    "relu": ("nd.relu(x)", "np.maximum(x, np.float32(0))", "torch.relu(x)"),
    "clip": ("nd.clip(x, -1, 1)", "clipped(x, -1, 1)", "torch.clip(x, -1, 1)"),
    "compare": ("x > y", "(x > y).astype('float32')", "(x > y).float()"),
    "where": ("nd.where(mask, x, y)", "np.where(mask != 0, x, y)", "torch.where(mask != 0, x, y)"),
    "astype float16": ("x.astype('float16')", "x.astype('float16')", "x.half()"),
    "sum": ("nd.sum(x)", "x.sum()", "x.sum()"),
    "sum of columns": ("nd.sum(x, axis=0)", "x.sum(0)", "x.sum(0)"),
    "sum of rows": ("nd.sum(x, axis=1)", "x.sum(1)", "x.sum(1)"),
    "mean": ("nd.mean(x, axis=1)", "x.mean(1)", "x.mean(1)"),
    "max": ("nd.max(x, axis=1)", "x.max(1)", "x.max(1).values"),
    "argmax": ("nd.argmax(x, axis=1)", "x.argmax(1).astype('float32')", "x.argmax(1)"),
    "norm": ("nd.norm(x)", "np.sqrt(np.vdot(x, x))", "x.norm()"),
    "cumsum": ("nd.cumsum(x, axis=1)", "np.cumsum(x, 1)", "x.cumsum(1)"),
    "softmax": ("nd.softmax(x)", "stable_softmax(x)", "x.softmax(-1)"),
    "log_softmax": ("nd.log_softmax(x)", "log_softmax(x)", "x.log_softmax(-1)"),
    "transpose": (
        "nd.transpose(x)",
        "np.ascontiguousarray(x.T)",
        "x.T.contiguous()",
    ),
    "transpose 4": (
        "nd.transpose(image, axes=(0, 2, 3, 1))",
        "np.ascontiguousarray(image.transpose(0, 2, 3, 1))",
        "image.permute(0, 2, 3, 1).contiguous()",
    ),
    "concat": ("nd.concat(x, y, dim=1)", "np.concatenate((x, y), 1)", "torch.cat((x, y), 1)"),
    "stack": ("nd.stack(x, y)", "np.stack((x, y))", "torch.stack((x, y))"),
    "split": (
        "nd.split(x, num_outputs=2, axis=1)",
        "[np.ascontiguousarray(p) for p in np.split(x, 2, 1)]",
        "[p.contiguous() for p in x.chunk(2, 1)]",
    ),
    "tile": ("nd.tile(x, reps=(2, 2))", "np.tile(x, (2, 2))", "x.tile(2, 2)"),
    "repeat": (
        "nd.repeat(x, repeats=2, axis=1)",
        "np.repeat(x, 2, 1)",
        "x.repeat_interleave(2, 1)",
    ),
    "pad": (
        "nd.pad(image, mode='constant', pad_width=(0, 0, 0, 0, 1, 1, 1, 1))",
        "padded(image)",
        "torch.nn.functional.pad(image, (1, 1, 1, 1))",
    ),
    "flip": ("nd.flip(x, axis=1)", "np.ascontiguousarray(x[:, ::-1])", "x.flip(1)"),
    "slice": (
        "nd.slice(x, begin=(0, 1), end=(None, None))",
        "x[:, 1:].copy()",
        "x[:, 1:].clone()",
    ),
    "take": (
        "nd.take(x, rows)",
        "np.take(x, whole_numbers(rows), 0, mode='clip')",
        "x[rows.long()]",
    ),
    "pick": (
        "nd.pick(x, column)",
        "x[np.arange(len(x)), whole_numbers(column).clip(0, x.shape[1] - 1)]",
        "x.gather(1, column.long()[:, None])[:, 0]",
    ),
    "one_hot": (
        "nd.one_hot(column, 1000)",
        "chosen(whole_numbers(column), 1000)",
        "torch.nn.functional.one_hot(column.long(), 2000).float()",
    ),
    "sort": ("nd.sort(few)", "np.sort(few)", "few.sort().values"),
    "argsort": (
        "nd.argsort(few)",
        "few.argsort(kind='stable').astype('float32')",
        "few.argsort(stable=True)",
    ),
    "topk": ("nd.topk(x, k=2)", "largest(x, 2)", "x.topk(2).indices"),
    "SequenceMask": (
        "nd.SequenceMask(x, lengths, use_sequence_length=True)",
        "np.where(np.arange(len(x), dtype='float32')[:, None] < lengths, x, np.float32(0))",
        "x * (torch.arange(len(x))[:, None] < lengths)",
    ),
    "dot": ("nd.dot(square, square)", "square.dot(square)", "square @ square"),
    "dot, transposed": (
        "nd.dot(square, square, transpose_b=True)",
        "square.dot(square.T)",
        "square @ square.T",
    ),
    "batch_dot": ("nd.batch_dot(batch, batch2)", "batch @ batch2", "batch @ batch2"),
    "potrf": ("nd.linalg.potrf(spd)", "np.linalg.cholesky(spd)", "torch.linalg.cholesky(spd)"),
    "inverse": ("nd.linalg.inverse(spd)", "np.linalg.inv(spd)", "torch.linalg.inv(spd)"),
    "uniform": (
        "nd.random.uniform(shape=x.shape)",
        "R.random(x.shape, 'float32')",
        "torch.rand(x.shape)",
    ),
    "normal": (
        "nd.random.normal(shape=x.shape)",
        "R.standard_normal(x.shape, 'float32')",
        "torch.randn(x.shape)",
    ),
    "subtract": ("x - y", "x - y", "x - y"),
    "divide": ("x / p", "x / p", "x / p"),
    "number minus array": ("1 - x", "np.float32(1) - x", "1 - x"),
    "divide by a number": ("x / 2", "x / np.float32(2)", "x / 2"),
    "power": ("x ** 2", "x * x", "x ** 2"),
    "broadcast_mul column": ("nd.broadcast_mul(x, thin)", "x * thin", "x * thin"),
    "negative": ("-x", "-x", "-x"),
    "minimum": ("nd.minimum(x, y)", "np.minimum(x, y)", "torch.minimum(x, y)"),
    "maximum of a number": ("nd.maximum(x, 0)", "np.maximum(x, np.float32(0))", "x.clamp(min=0)"),
    "modulo": ("x % 2", "np.mod(x, np.float32(2))", "torch.remainder(x, 2)"),
    "add whole numbers": ("whole + whole", "whole + whole", "whole + whole"),
    "in place, a number": (
        "own.__imul__(1)",
        "np.multiply(own, np.float32(1), out=own)",
        "own.mul_(1)",
    ),
    "abs": ("nd.abs(x)", "np.abs(x)", "x.abs()"),
    "sign": ("nd.sign(x)", "np.sign(x)", "x.sign()"),
    "square": ("nd.square(x)", "x * x", "x.square()"),
    "rsqrt": ("nd.rsqrt(p)", "inverse_root(p)", "p.rsqrt()"),
    "reciprocal": ("nd.reciprocal(p)", "np.reciprocal(p)", "p.reciprocal()"),
    "log1p": ("nd.log1p(p)", "np.log1p(p)", "p.log1p()"),
    "expm1": ("nd.expm1(x)", "np.expm1(x)", "x.expm1()"),
    "sin": ("nd.sin(x)", "np.sin(x)", "x.sin()"),
    "arctan": ("nd.arctan(x)", "np.arctan(x)", "x.arctan()"),
    "floor": ("nd.floor(x)", "np.floor(x)", "x.floor()"),
    "round": ("nd.round(x)", "half_up(x)", "x.round()"),
    "softsign": ("nd.softsign(x)", "x / (np.float32(1) + np.abs(x))", "x / (1 + x.abs())"),
    "smooth_l1": (
        "nd.smooth_l1(x)",
        "huber(x)",
        "torch.nn.functional.smooth_l1_loss(x, y, reduction='none')",
    ),
    "softrelu": (
        "nd.Activation(x, act_type='softrelu')",
        "np.logaddexp(x, np.float32(0))",
        "torch.nn.functional.softplus(x)",
    ),
    "leaky relu": (
        "nd.LeakyReLU(x, slope=0.1)",
        "np.maximum(x, x * np.float32(0.1))",
        "torch.nn.functional.leaky_relu(x, 0.1)",
    ),
    "equal": ("x == y", "(x == y).astype('float32')", "(x == y).float()"),
    "logical_not": ("nd.logical_not(x)", "(x == 0).astype('float32')", "(x == 0).float()"),
    "isnan": ("nd.contrib.isnan(x)", "np.isnan(x).astype('float32')", "x.isnan().float()"),
    "cast to whole": ("x.astype('int32')", "x.astype('int32')", "x.int()"),
    "copy": ("x.copy()", "x.copy()", "x.clone()"),
    "zeros_like": ("nd.zeros_like(x)", "np.zeros_like(x)", "torch.zeros_like(x)"),
    "zeros": (
        "nd.zeros((1000, 100))",
        "np.zeros((1000, 100), 'float32')",
        "torch.zeros(1000, 100)",
    ),
    "arange": ("nd.arange(1000)", "np.arange(1000, dtype='float32')", "torch.arange(1000.0)"),
    "prod": ("nd.prod(x, axis=1)", "x.prod(1)", "x.prod(1)"),
    "min": ("nd.min(x, axis=0)", "x.min(0)", "x.min(0).values"),
    "argmin": ("nd.argmin(x, axis=1)", "x.argmin(1).astype('float32')", "x.argmin(1)"),
    "sum of images": (
        "nd.sum(image, axis=(0, 2, 3))",
        "image.sum((0, 2, 3))",
        "image.sum((0, 2, 3))",
    ),
    "mean of all": ("nd.mean(x)", "x.mean()", "x.mean()"),
    "norm of rows": ("nd.norm(x, axis=1)", "np.sqrt((x * x).sum(1))", "x.norm(dim=1)"),
    "moments": ("nd.moments(x, axes=(0,))", "moments(x)", "(x.mean(0), x.var(0, correction=0))"),
    "L2Normalization": (
        "nd.L2Normalization(x)",
        "x / np.sqrt((x * x).sum(1, keepdims=True) + np.float32(1e-10))",
        "torch.nn.functional.normalize(x)",
    ),
    "softmax, warm": (
        "nd.softmax(x, temperature=2.0)",
        "stable_softmax(x / np.float32(2))",
        "(x / 2).softmax(-1)",
    ),
    "softmax_cross_entropy": (
        "nd.softmax_cross_entropy(few, labels)",
        "cross_entropy(few, labels)",
        "torch.nn.functional.cross_entropy(few, labels.long(), reduction='sum')",
    ),
    "reshape": ("x.reshape((-1, 4))", "x.reshape(-1, 4)", "x.reshape(-1, 4)"),
    "flatten": (
        "nd.flatten(image)",
        "image.reshape(len(image), -1).copy()",
        "image.flatten(1).clone()",
    ),
    "expand_dims": ("nd.expand_dims(x, axis=1)", "x[:, None].copy()", "x.unsqueeze(1).clone()"),
    "swapaxes": (
        "nd.swapaxes(image, 1, 2)",
        "np.ascontiguousarray(image.swapaxes(1, 2))",
        "image.transpose(1, 2).contiguous()",
    ),
    "broadcast_to": (
        "nd.broadcast_to(row, shape=x.shape)",
        "np.broadcast_to(row, x.shape).copy()",
        "row.expand(x.shape).contiguous()",
    ),
    "slice_axis": (
        "nd.slice_axis(x, axis=1, begin=0, end=2)",
        "x[:, 0:2].copy()",
        "x[:, 0:2].clone()",
    ),
    "concat of rows": (
        "nd.concat(x, y, dim=0)",
        "np.concatenate((x, y), 0)",
        "torch.cat((x, y), 0)",
    ),
    "depth_to_space": (
        "nd.depth_to_space(image, 2)",
        "pixels(image, 2)",
        "torch.nn.functional.pixel_shuffle(image, 2)",
    ),
    "diag": ("nd.diag(square)", "np.diagonal(square).copy()", "square.diagonal().clone()"),
    "x[1]": ("x[1]", "x[1]", "x[1]"),
    "x[1:3]": ("x[1:3]", "x[1:3]", "x[1:3]"),
    "x[:, 1]": ("x[:, 1]", "x[:, 1].copy()", "x[:, 1].clone()"),
    "x[1, 2] = 3": (
        "own.__setitem__((1, 2), 3.0)",
        "own.__setitem__((1, 2), 3.0)",
        "own.__setitem__((1, 2), 3.0)",
    ),
    "x[:] = y": (
        "own.__setitem__(slice(None), y)",
        "own.__setitem__(slice(None), y)",
        "own.__setitem__(slice(None), y)",
    ),
    "asnumpy": ("x.asnumpy()", "x.copy()", "x.numpy().copy()"),
    "Embedding": (
        "nd.Embedding(rows, x, input_dim=n, output_dim=m)",
        "np.take(x, whole_numbers(rows), 0, mode='clip')",
        "torch.nn.functional.embedding(rows.long(), x)",
    ),
    "gather_nd": (
        "nd.gather_nd(x, pairs)",
        "x[tuple(whole_numbers(pairs))]",
        "x[tuple(pairs.long())]",
    ),
    "boolean_mask": (
        "nd.contrib.boolean_mask(x, keep)",
        "x[keep != 0]",
        "x[keep != 0]",
    ),
    "SequenceLast": (
        "nd.SequenceLast(steps, ends, use_sequence_length=True)",
        "steps[whole_numbers(ends) - 1, np.arange(steps.shape[1])]",
        "steps[ends.long() - 1, torch.arange(steps.shape[1])]",
    ),
    "gemm2": ("nd.linalg.gemm2(square, square)", "square.dot(square)", "square @ square"),
    "syrk": ("nd.linalg.syrk(square)", "square.dot(square.T)", "square @ square.T"),
    "trsm": (
        "nd.linalg.trsm(spd, square)",
        "np.linalg.solve(np.tril(spd), square)",
        "torch.linalg.solve_triangular(spd, square, upper=False)",
    ),
    "det": ("nd.linalg.det(spd)", "np.linalg.det(spd)", "torch.linalg.det(spd)"),
    "slogdet": ("nd.linalg.slogdet(spd)", "np.linalg.slogdet(spd)", "torch.linalg.slogdet(spd)"),
    "syevd": ("nd.linalg.syevd(spd)", "eigenvectors(spd)", "torch.linalg.eigh(spd)"),
    "FullyConnected": (
        "nd.FullyConnected(x, weight, bias, num_hidden=units)",
        "affine(x, weight, bias)",
        "torch.nn.functional.linear(x, weight, bias)",
    ),
    "LayerNorm": (
        "nd.LayerNorm(x, vector, vector)",
        "layer_norm(x, vector)",
        "torch.nn.functional.layer_norm(x, x.shape[1:], vector, vector)",
    ),
    "exponential": (
        "nd.random.exponential(shape=x.shape)",
        "R.standard_exponential(x.shape, 'float32')",
        "torch.empty(x.shape).exponential_()",
    ),
    "randint": (
        "nd.random.randint(0, 10, shape=x.shape)",
        "R.integers(0, 10, x.shape, 'int32')",
        "torch.randint(0, 10, x.shape, dtype=torch.int32)",
    ),
    "multinomial": (
        "nd.random.multinomial(chance)",
        "chosen_at_random(chance)",
        "torch.multinomial(chance, 1)",
    ),
    "shuffle": ("nd.random.shuffle(x)", "R.permutation(x)", "x[torch.randperm(len(x))]"),
    "hypot": ("nd.broadcast_hypot(x, y)", "np.hypot(x, y)", "torch.hypot(x, y)"),
    "log_sigmoid": (
        "nd.log_sigmoid(x)",
        "log_sigmoid(x)",
        "torch.nn.functional.logsigmoid(x)",
    ),
    "hard_sigmoid": (
        "nd.hard_sigmoid(x)",
        "clipped(x * np.float32(0.2) + np.float32(0.5), 0, 1)",
        "(x * 0.2 + 0.5).clip(0, 1)",
    ),
    "add_n": ("nd.add_n(x, y, p)", "x + y + p", "x + y + p"),
    "nansum": ("nd.nansum(x, axis=1)", "np.nansum(x, 1)", "x.nansum(1)"),
    "full": (
        "nd.full((1000, 100), 2)",
        "np.full((1000, 100), 2, 'float32')",
        "torch.full((1000, 100), 2.0)",
    ),
    "eye": ("nd.eye(100)", "np.eye(100, dtype='float32')", "torch.eye(100)"),
    "linspace": (
        "nd.linspace(0, 1, 1000)",
        "np.linspace(0, 1, 1000, dtype='float32')",
        "torch.linspace(0, 1, 1000)",
    ),
    "slice_like": (
        "nd.slice_like(x, few)",
        "x[:few.shape[0], :few.shape[1]].copy()",
        "x[:few.shape[0], :few.shape[1]].clone()",
    ),
    "batch_take": (
        "nd.batch_take(x, column)",
        "x[np.arange(len(x)), whole_numbers(column).clip(0, x.shape[1] - 1)]",
        "x.gather(1, column.long()[:, None])[:, 0]",
    ),
    "scatter_nd": (
        "nd.scatter_nd(keep, pairs, shape=(m, m))",
        "scattered(keep, whole_numbers(pairs), x.shape[1])",
        "None",
    ),
    "SequenceReverse": ("nd.SequenceReverse(steps)", "steps[::-1].copy()", "steps.flip(0)"),
    "ravel_multi_index": (
        "nd.ravel_multi_index(pairs, shape=(m, m))",
        "np.ravel_multi_index(tuple(whole_numbers(pairs)), (x.shape[1],) * 2).astype('float32')",
        "pairs[0] * len(pairs[0]) + pairs[1]",
    ),
    "extractdiag": (
        "nd.linalg.extractdiag(square)",
        "np.diagonal(square).copy()",
        "square.diagonal().clone()",
    ),
    "sumlogdiag": (
        "nd.linalg.sumlogdiag(spd)",
        "np.log(np.diagonal(spd)).sum(keepdims=True)",
        "spd.diagonal().log().sum()",
    ),
    "trmm": (
        "nd.linalg.trmm(spd, square)",
        "np.tril(spd).dot(square)",
        "spd.tril() @ square",
    ),
    "gamma": (
        "nd.random.gamma(2, 1, shape=x.shape)",
        "R.standard_gamma(2, x.shape, 'float32')",
        "None",
    ),
    "poisson": (
        "nd.random.poisson(3, shape=x.shape)",
        "R.poisson(3, x.shape).astype('float32')",
        "None",
    ),
    "bernoulli": (
        "nd.random.bernoulli(0.5, shape=x.shape)",
        "(R.random(x.shape, 'float32') < 0.5).astype('float32')",
        "(torch.rand(x.shape) < 0.5).float()",
    ),
    "box_iou": ("nd.contrib.box_iou(boxes, fifty)", "iou(boxes, fifty)", "None"),
    "box_nms": (
        "nd.contrib.box_nms(scored, overlap_thresh=0.5)",
        "suppressed(scored, 0.5)",
        "None",
    ),
    "topk, numbers": (
        "nd.topk(x, k=2, ret_typ='value')",
        "largest_numbers(x, 2)",
        "x.topk(2).values",
    ),
    "topk, mask": ("nd.topk(x, k=2, ret_typ='mask')", "largest_mask(x, 2)", "None"),
    "sort of columns": ("nd.sort(few, axis=0)", "np.sort(few, 0)", "few.sort(0).values"),
    "index_copy": (
        "nd.contrib.index_copy(x, some, half)",
        "replaced(x, whole_numbers(some), half)",
        "x.index_copy(0, some.long(), half)",
    ),
    "x[rows]": ("x[rows]", "x.take(whole_numbers(rows), 0)", "x[rows.long()]"),
    "x[rows] = y": (
        "own.__setitem__(rows, y)",
        "own.__setitem__(whole_numbers(rows), y)",
        "own.__setitem__(rows.long(), y)",
    ),
    "unravel_index": (
        "nd.unravel_index(flat, shape=(m, m))",
        "np.stack(np.divmod(whole_numbers(flat), x.shape[1])).astype('float32')",
        "None",
    ),
    "space_to_depth": (
        "nd.space_to_depth(image, 2)",
        "blocks(image, 2)",
        "torch.nn.functional.pixel_unshuffle(image, 2)",
    ),
    "SequenceReverse, lengths": (
        "nd.SequenceReverse(steps, ends, use_sequence_length=True)",
        "reversed_rows(steps, whole_numbers(ends))",
        "None",
    ),
    "softmin": ("nd.softmin(x)", "stable_softmax(-x)", "(-x).softmax(-1)"),
    "nanprod": ("nd.nanprod(x, axis=1)", "np.nanprod(x, 1)", "None"),
    "argmax_channel": (
        "nd.argmax_channel(x)",
        "x.argmax(1).astype('float32')",
        "x.argmax(1).float()",
    ),
    "gemm": (
        "nd.linalg.gemm(square, square, square)",
        "product_and_sum(square, square, square)",
        "torch.addmm(square, square, square)",
    ),
    "potri": (
        "nd.linalg.potri(lower)",
        "inverse_of_factor(lower)",
        "torch.cholesky_inverse(lower)",
    ),
    "gelqf": ("nd.linalg.gelqf(weight)", "rows_and_triangle(weight)", "torch.linalg.qr(weight.T)"),
    "makediag": ("nd.linalg.makediag(vector)", "np.diag(vector)", "vector.diag()"),
    "extracttrian": (
        "nd.linalg.extracttrian(square)",
        "square[np.tri(len(square), dtype=bool)]",
        "square[torch.tril_indices(*square.shape).unbind()]",
    ),
    "khatri_rao": (
        "nd.khatri_rao(weight, weight)",
        "(weight[:, None] * weight).reshape(-1, weight.shape[1])",
        "(weight[:, None] * weight).flatten(0, 1)",
    ),
    "SoftmaxOutput": (
        "nd.SoftmaxOutput(few, labels)",
        "stable_softmax(few)",
        "few.softmax(-1)",
    ),
    "LinearRegressionOutput": (
        "nd.LinearRegressionOutput(x, y)",
        "x.copy()",
        "x.clone()",
    ),
    "LogisticRegressionOutput": (
        "nd.LogisticRegressionOutput(x, y)",
        "sigmoid(x)",
        "x.sigmoid()",
    ),
    "sample_uniform": (
        "nd.random.uniform(vector, high, shape=n)",
        "between(vector, high, len(x))",
        "None",
    ),
    "sample_normal": (
        "nd.random.normal(vector, scale, shape=n)",
        "normals(vector, scale, len(x))",
        "None",
    ),
    "sample_gamma": (
        "nd.random.gamma(scale, scale, shape=n)",
        "gammas(scale, scale, len(x))",
        "None",
    ),
    "sample_poisson": (
        "nd.random.poisson(scale, shape=n)",
        "R.poisson(scale[:, None], (len(scale), len(x))).astype('float32')",
        "None",
    ),
    "negative_binomial": (
        "nd.random.negative_binomial(3, 0.5, shape=x.shape)",
        "R.negative_binomial(3, 0.5, x.shape).astype('float32')",
        "None",
    ),
    "to csr": ("scarce.tostype('csr')", "packed(scarce)", "scarce.to_sparse_csr()"),
    "from csr": (
        "csr.tostype('default')",
        "unpacked(*csr, scarce.shape)",
        "csr.to_dense()",
    ),
    "dot of csr": ("nd.dot(csr, tall)", "sparse_product(*csr, tall)", "csr @ tall"),
    "row_sparse add": (
        "nd.sparse.add(rows_left, rows_right)",
        "sum_of_rows(x, left, right)",
        "None",
    ),
    "retain": (
        "nd.sparse.retain(rows_left, right)",
        "np.where(np.isin(right, left)[:, None], x[right], np.float32(0))",
        "None",
    ),
    "MultiBoxPrior": (
        "nd.contrib.MultiBoxPrior(image, sizes=(0.5,), ratios=(1, 2))",
        "anchors(image, 0.5, 2)",
        "None",
    ),
    "MultiBoxTarget": (
        "nd.contrib.MultiBoxTarget(priors, truth, scores)",
        "matched(priors, truth, VARIANCES)",
        "None",
    ),
    "MultiBoxDetection": (
        "nd.contrib.MultiBoxDetection(scores, moves, priors)",
        "detected(scores, moves, priors, VARIANCES)",
        "None",
    ),
    "ROIPooling": (
        "nd.ROIPooling(image, regions, pooled_size=(2, 2), spatial_scale=1)",
        "pooled_regions(image, regions, 2)",
        "None",
    ),
    "save": ("nd.save(FILE, x)", "saved(x)", "torch.save(x, FILE)"),
    "load": ("nd.load(FILE)", "np.load(FILE + '.npy')", "torch.load(FILE)"),
}
HELPERS = (
    "stable_softmax",
    "log_softmax",
    "sigmoid",
    "whole_numbers",
    "inverse_root",
    "half_up",
    "huber",
    "log_sigmoid",
    "scattered",
    "moments",
    "cross_entropy",
    "pixels",
    "layer_norm",
    "affine",
    "chosen_at_random",
    "iou",
    "suppressed",
    "clipped",
    "padded",
    "chosen",
    "largest",
    "eigenvectors",
    "R",
    "largest_numbers",
    "largest_mask",
    "replaced",
    "blocks",
    "reversed_rows",
    "inverse_of_factor",
    "rows_and_triangle",
    "product_and_sum",
    "between",
    "normals",
    "gammas",
    "matched",
    "detected",
    "VARIANCES",
    "packed",
    "unpacked",
    "sparse_product",
    "sum_of_rows",
    "anchors",
    "pooled_regions",
    "saved",
    "FILE",
)


def contenders(names, large):
    """{contender: {program: function}} of those that live in one process, on the same numbers."""
    global R
    R = np.random.default_rng(0)
    raw, found, scopes = arrays(large), {}, {}
    for i, name in enumerate(("minigluon", "numpy", "torch")):
        if name in names or (name == "minigluon" and "mxnet" in names):
            scope, wait = world(names, name, raw)
            found[name] = {p: compiled(e[i], scope, wait) for p, e in PROGRAMS.items()}
            scopes[name] = scope
    if "minigluon" in found and "numpy" in found:
        bare = found["numpy"]
        found["floor"] = {p: floor(e[0], scopes["minigluon"], bare[p]) for p, e in PROGRAMS.items()}
    return found


def floor(text, scope, bare):
    """The call `text` with an operator that checks nothing in place of its own: it just calls `bare`.

    None where the call has no array, and so is no operator's.
    """
    import minigluon as mx
    from minigluon.namespace import seen_by_ndarray
    from minigluon.op import operator

    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not text.startswith("nd."):
        return None
    given = [scope.get(a.id) if isinstance(a, ast.Name) else None for a in call.args]
    count = [type(a) is mx.nd.NDArray for a in [*given, None]].index(False)
    if not count or any(isinstance(a, mx.nd.NDArray) for a in given[count:]):
        return None
    names = [f"a{i}" for i in range(len(given))]
    settings = [f"{n}=None" for n in [*names[count:], *[k.arg for k in call.keywords]]]
    taken = ", ".join([*names[:count], "/", *settings])
    op = operator(eval(f"lambda {taken}: bare()", {"bare": bare}), same_dtype=False, listed=False)
    arguments = ", ".join(ast.unparse(a) for a in [*call.args, *call.keywords])
    return eval(f"lambda: op({arguments})", {**scope, "op": seen_by_ndarray(op)})


def world(names, name, raw):
    """The names that a contender's expressions use, and what waits for it."""
    if name == "numpy":
        helpers = {h: globals()[h] for h in HELPERS}
        return {**helpers, "np": np, "csr": packed(raw["scarce"]), **raw}, None
    if name == "torch":
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        own = {k: torch.tensor(a) for k, a in raw.items()}
        return {"torch": torch, "FILE": FILE, "csr": own["scarce"].to_sparse_csr(), **own}, None
    if "mxnet" in names:
        np.bool = bool  # this release of MXNet still asks for it
        import mxnet as mx
    else:
        import minigluon as mx
    sizes = {"n": len(raw["x"]), "m": raw["x"].shape[1], "units": len(raw["weight"])}
    if "mxnet" in names:
        own = {k: mx.nd.array(a) for k, a in raw.items()}
    else:  # the memory of NumPy's: where an array lies in memory decides a tenth of its speed
        own = {k: mx.nd.from_numpy(a[...]) for k, a in raw.items()}
    own |= {"csr": own["scarce"].tostype("csr"), "right": mx.nd.array(raw["right"])}
    for side in ("left", "right"):
        rows = (raw["x"][raw[side]], raw[side])
        own[f"rows_{side}"] = mx.nd.sparse.row_sparse_array(rows, shape=raw["x"].shape)
    scope = {"nd": mx.nd, "FILE": FILE, **sizes, **own}
    return scope, mx.nd.waitall if "mxnet" in names else None


def compiled(text, scope, wait):
    """The function of an expression."""
    f = eval(f"lambda: {text}", scope)
    if wait is None:
        return f

    def waiting():
        f()
        wait()

    return waiting


def measure(names, rounds):
    """{size: {program: {contender: µs}}}, and how minigluon's times compare with NumPy's.

    All programs have a turn in each round, so that what disturbs the machine for a while disturbs one
    round of a program; what counts is the median of the rounds.
    """
    programs = {size: contenders(names, size == "large") for size in ("large", "small")}
    lines = [(size, p) for size in programs for p in PROGRAMS if knows(names, programs[size], p)]
    found = {line: [] for line in lines}
    for _ in range(rounds):
        for size, p in lines:
            own = {c: f[p] for c, f in programs[size].items() if c != "floor"}
            found[size, p].append(compared(own))
    middle = {k: {c: median(r[c] for r in found[k]) for c in found[k][0]} for k in lines}
    for size, p in lines:
        lowest = programs[size].get("floor", {}).get(p)
        if lowest and not met(size, middle[size, p]):
            pair = {"minigluon": lowest, "numpy": programs[size]["numpy"][p]}
            middle[size, p]["floor"] = median(compared(pair)["more"] for _ in range(rounds))
    return {size: {p: middle[s, p] for s, p in lines if s == size} for size in programs}


def met(size, line):
    """Whether minigluon's time is near enough to NumPy's."""
    return line["more"] <= 1.5 or (size == "large" and line["ratio"] <= 1.15)


def compared(functions):
    """{contender: µs a call} in one round, and minigluon's time as a multiple of NumPy's,
    and its excess.
    """
    turns = taken(functions)
    found = {c: median(times) for c, times in turns.items()}
    if "numpy" in turns:
        pairs = list(zip(turns["minigluon"], turns["numpy"]))
        found["ratio"] = median(ours / bare for ours, bare in pairs)
        found["more"] = median(ours - bare for ours, bare in pairs)
    return found


def taken(functions):
    """{contender: µs a call of each turn}: the contenders take turns, each of up to 2 ms or one call."""
    gc.collect()
    once = max(timeit.timeit(f, number=2) / 2 for f in functions.values())
    number = max(1, min(100, int(2e-3 / once)))
    found = {c: [] for c in functions}
    for turn in range(max(2, min(20, int(2e-2 / once / number)))):
        for c in sorted(functions, reverse=turn % 2):  # whoever is second finds the caches warm
            found[c].append(timeit.timeit(functions[c], number=number) / number * 1e6)
    return found


def knows(names, programs, p):
    """Whether the contender has the operator: MXNet lacks some, and takes other types in one."""
    if names != ["mxnet"]:
        return True
    try:
        next(iter(programs.values()))[p]()
    except Exception as error:
        print(f"mxnet, {p}: left out, {str(error).splitlines()[0]}", file=sys.stderr)
        return False
    return True


def report(found, names):
    """Print the tables, and which lines miss the targets, with what an empty operator takes there."""
    missed = []
    for size, target in (("large", "<= 1.15 x NumPy"), ("small", "<= NumPy + 1.5 us")):
        print(f"\n{size} arrays, µs a call (minigluon {target})\n")
        print(f"{'':26}" + "".join(f"{n:>12}" for n in names) + "   ours/NumPy, ours-NumPy")
        for p, t in found[size].items():
            note = ""
            if not met(size, t):
                note = f"  MISSED, floor {t['floor']:+.2f}" if "floor" in t else "  MISSED"
                missed.append(f"{p} ({size})")
            cells = "".join(f"{t[n]:12.2f}" if n in t else f"{'':12}" for n in names)
            print(f"{p:26}{cells}   {t['ratio']:5.2f} {t['more']:+9.2f}{note}")
    print(f"\n{len(missed)} of {2 * len(PROGRAMS)} lines miss: {', '.join(missed) or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default=os.environ.get("TORCH_PYTHON", sys.executable))
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON", sys.executable))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only.split(","), args.rounds)))
        return
    from run import has, run

    names, found = ["minigluon", "numpy"], None
    for name, python in (("own", sys.executable), ("torch", args.torch), ("mxnet", args.mxnet)):
        if name != "own" and not has(python, name):
            print(f"{name} is not installed for {Path(python).name}: left out")
            continue
        only = "minigluon,numpy" if name == "own" else name
        arguments = [str(Path(__file__)), "--only", only, "--rounds", str(args.rounds)]
        part = json.loads(run(python, arguments, 1))
        if name == "own":
            found = part
            continue
        names.append(name)
        for size in found:
            for p, times in part[size].items():
                found[size][p][name] = min(times.values())
    report(found, names)
    if args.json:
        args.json.write_text(json.dumps({"threads": 1, "us": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
