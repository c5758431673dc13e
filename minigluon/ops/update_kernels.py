"""All parameters in one launch, a mask that is never stored, and a table's gradient without atomics."""

# Written from chapters/95_update_kernels.ipynb: edit the chapter, then run `minigluon export`.

from inspect import signature

import numpy as np

from minigluon.context import brought, capture, cupy_or_none
from minigluon.kernels import STORED, WIDE, Kernels, cpp_name, cuda, dense, stored, width
from minigluon.op import Operand, operator
from minigluon.ops.csr import Rows, Sparse, embedding_gradient
from minigluon.ops.dropout import Dropout, check_rate
from minigluon.ops.indexing import Embedding, untake, whole
from minigluon.ops.optimizer import adam_step, elsewhere, momentum_step, sgd_step
from minigluon.ops.random import drawn
from minigluon.ops.reduce import one_axis

__all__ = [
    "CHUNK",
    "DEFAULTS",
    "LOOKS",
    "NOT_HERE",
    "NUMBERS",
    "RATES",
    "STEPS",
    "drop",
    "dropped",
    "droppings",
    "embedding",
    "key_law",
    "kind_of",
    "sparse_gradient",
    "sum_found",
    "sum_runs",
    "table",
    "tables",
    "update",
    "update_together",
    "updates",
]


# --- Code: updates --------------------------------------------------------------------------------

STEPS = {sgd_step: (0, 2), momentum_step: (1, 3), adam_step: (2, 4)}  # number, arrays a tensor
DEFAULTS = {
    step: {
        p.name: p.default for p in signature(step).parameters.values() if p.default is not p.empty
    }
    for step in STEPS
}
CHUNK = 65536
updates = Kernels(
    "optimizer", [f"update<{t}, {n}>" for t in STORED.values() for n, _ in STEPS.values()]
)
tables = {}  # addresses and sizes of the arrays -> what the kernel needs of them, and the last rates


def update_together(jobs):
    """Make the updates of arrays on a GPU in as few launches as there are kinds;
    return the other jobs.
    """
    if not jobs or type(jobs[0][1][0]) is np.ndarray:
        return jobs
    kinds, left = {}, []
    for job in jobs:
        step, arrays, settings = job
        lr, wd = settings["lr"], settings.get("wd", 0.0)
        # rates are arrays in the operators that preload them
        told = type(lr) in NUMBERS and type(wd) in NUMBERS
        kind = kind_of(step, arrays) if told and step in STEPS else None
        if kind is None:
            left.append(job)
            continue
        shared = tuple([item for item in settings.items() if item[0] not in RATES])
        group = kinds.setdefault((kind, step, shared), ([], []))
        group[0].append(arrays)
        group[1].append((lr, wd))
    for (kind, step, shared), (arrays, rates) in kinds.items():
        update(kind, step, {**DEFAULTS[step], **dict(shared)}, arrays, rates)
    return left


NUMBERS, RATES = (int, float), ("lr", "wd")
NOT_HERE = np.ndarray, Sparse


def kind_of(step, arrays):
    """The C++ type of the arrays of an update that the kernel can make, or None."""
    w = arrays[0]
    if isinstance(w, NOT_HERE) or not w.size:
        return None
    own, shape, dtype = type(w), w.shape, w.dtype
    for a in arrays:  # every parameter of every step passes here: no generators
        if type(a) is not own or a.shape != shape or a.dtype != dtype or not a.flags.c_contiguous:
            return None
    return cpp_name(dtype)


def update(kind, step, settings, arrays, rates):
    """One launch for all tensors of a list of `arrays`, with a rate and a decay each."""
    number, each = STEPS[step]
    key = tuple([a.data.ptr for tensors in arrays for a in tensors])
    key += tuple([tensors[0].size for tensors in arrays])
    if key not in tables:
        if len(tables) > 64:  # other parameters than before, again and again
            tables.clear()
        tables[key] = [*table(arrays, each), None, None]
    found = tables[key]
    if found[-2] != rates:  # a constant rate is sent once
        found[-2:] = rates, np.asarray(np.array(rates, "float32"), like=arrays[0][0])
    clip = settings["clip_gradient"]
    beta1 = settings.get("momentum", settings.get("beta1", 0.0))
    numbers = settings["rescale_grad"], -1.0 if clip is None else clip, beta1
    numbers += settings.get("beta2", 0.0), settings.get("epsilon", 0.0)
    *where, _, on_device = found
    args = *where, on_device, np.int32(len(arrays)), np.int32(CHUNK)
    blocks = len(where[2])
    updates(f"update<{kind}, {number}>", (blocks,), (256,), *args, *map(np.float32, numbers))


def table(arrays, each):
    """Addresses, sizes, and for each block the tensor it works on and where it begins."""
    cupy = cupy_or_none()
    flat = [tensors[k] for k in range(each) for tensors in arrays]
    sizes = np.array([tensors[0].size for tensors in arrays], "int64")
    chunks = [(t, at) for t, n in enumerate(sizes) for at in range(0, n, CHUNK)]
    which, begin = (np.array(a, kind) for a, kind in zip(zip(*chunks), ("int32", "int64")))
    if hasattr(cupy, "pointers"):  # the stand-in, which has to know what lies behind an address
        addresses = cupy.pointers(flat)
    else:
        addresses = cupy.asarray(np.array([a.data.ptr for a in flat], "uint64"))
    return addresses, *(cupy.asarray(a) for a in (sizes, which, begin))


elsewhere.append(update_together)


# --- Code: dropout --------------------------------------------------------------------------------


@operator(
    vjp=(lambda h, y, g, mask, p: dropped(h, mask, p=p), lambda h, y, g, mask, p: None),
    same_dtype=False,
)
def dropped(data, mask, /, p=0.5):
    """`data` where dropout with probability `p` keeps it, times 1 / (1 - p);
    `mask` is what it has left.
    """
    return data * mask


Dropout.rules = (lambda g, y, data, *, p, **_: dropped(g[0], y[1], p=p),)

droppings = Kernels("dropout", [f"dropout<{t}, {v}>" for t in WIDE for v in (4, 1)])


def key_law(r, n, t):
    """Words of any value."""
    return r.integers(0, 1 << 32, n, dtype="uint32")


def drop(data, key, p):
    """`data` without the numbers that the key and `p` condemn."""
    x = dense(data)
    y = np.empty_like(x)
    kind = stored(x)
    v = 4 if width(kind, x.size, x, y) > 1 else 1
    blocks = min(-(-x.size // 1024), 132 * 16)
    bound = np.uint32(min(round(p * 2**32), 2**32 - 1))
    scale = np.float32(1 / (1 - p) if p < 1 else 0)
    args = x, y, key, np.int64(x.size), bound, scale
    droppings(f"dropout<{kind}, {v}>", (blocks,), (256,), *args)
    return y


@cuda(Dropout)
def _(data, p, mode, axes, cudnn_off, rng):
    from minigluon.autograd import state

    check_rate(p)
    idle = p == 0 or not (state.training or mode == "always")
    together = axes not in (None, (), [])
    unknown = mode not in ("training", "always")
    if idle or together or unknown or stored(data) is None or not data.size:
        return NotImplemented
    key = brought(lambda: drawn(rng, data, key_law, (2,), "uint32"), data)
    return drop(data, key, p), key


@cuda(dropped)
def _(data, mask, p):
    if mask.dtype != "uint32" or stored(data) is None:
        return NotImplemented
    return drop(data, mask, p)


# --- Code: embedding ------------------------------------------------------------------------------

embedding = Kernels(
    "embedding",
    [f"{k}<{t}, {v}>" for k in ("sum_runs", "sum_found") for t, w in WIDE.items() for v in (w, 1)],
)


def sum_runs(g, order, keys, to, out):
    """Fill the rows `to` of `out` with the sums of the rows of `g` that have equal keys."""
    cols = out.shape[-1]
    kind = stored(g)
    v = width(kind, cols, g, out)
    grid = (-(-len(keys) // 8), max(1, min(-(-cols // (32 * v)), 64)))
    args = g, order, keys, to, out, np.int64(len(keys)), np.int32(cols)
    embedding(f"sum_runs<{kind}, {v}>", grid, (32, 8), *args)


LOOKS = 1 << 27  # at keys, up to which a table's gradient without a sort is worth it: an estimate


def sum_found(g, keys, like):
    """The gradient of a table `like`: each of its rows looks for its own among all keys.

    RuntimeError if they are many.
    """
    kind, out = stored(g), np.empty_like(like, order="C")
    flat = out.reshape(len(like), -1)
    v = width(kind, flat.shape[1], g, flat)
    grid = -(-len(like) // 8), -(-flat.shape[1] // (128 * v))
    if len(like) * len(keys) * grid[1] > LOOKS:
        raise RuntimeError(f"a table of {len(like)} rows and {len(keys)} indices want a sort")
    args = g, keys, flat, np.int64(len(like)), np.int64(len(keys)), np.int32(flat.shape[1])
    embedding(f"sum_found<{kind}, {v}>", grid, (32, 8), *args)
    return out


@cuda(untake)
def _(data, like, indices, axis, mode):
    if one_axis(like, axis) or like.ndim < 2 or stored(data, like) is None or not data.size:
        return NotImplemented
    rows = whole(like, indices, 0, mode).reshape(-1)
    flat = dense(data).reshape(len(rows), -1)
    if capture.before is not None:
        return sum_found(flat, dense(rows), like)
    order = np.argsort(rows, kind="stable")
    keys, out = rows[order], np.zeros_like(like)
    sum_runs(flat, order, keys, keys, out.reshape(len(like), -1))
    return out


def sparse_gradient(g, y, data, weight, sparse_grad, **settings):
    """The gradient of a table on a GPU as the rows that were looked up; any other as before."""
    on_gpu = not isinstance(g, Operand) and type(g) is not np.ndarray
    if not (sparse_grad and on_gpu and stored(g) and g.size):
        return embedding_gradient(g, y, data, weight, sparse_grad=sparse_grad, **settings)
    rows = whole(weight, data, 0, "clip").reshape(-1)
    order = np.argsort(rows, kind="stable")
    keys = rows[order]
    starts = np.concatenate([np.ones_like(keys[:1], dtype=bool), keys[1:] != keys[:-1]])
    places = keys[starts]  # how many there are is asked of the device: the only wait
    values = np.empty_like(g, shape=(len(places), weight.shape[1]))
    flat = dense(g).reshape(len(rows), -1)
    sum_runs(flat, order, keys, np.cumsum(starts.astype("int64")) - 1, values)
    return Rows(weight.shape, values, places)


Embedding.rules = (None, sparse_gradient)
