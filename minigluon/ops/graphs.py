"""A program whose memory stays where it is can be written down on the card, and one launch carries out all of it."""

# Written from chapters/96g_graphs.ipynb: edit the chapter, then run `minigluon export`.

import threading
import warnings
import weakref
from contextlib import contextmanager, suppress
from functools import partial, wraps

import numpy as np

from minigluon.autograd import state
from minigluon.context import allocate, capture, cupy_or_none
from minigluon.cores import elsewhere, plain_matmul
from minigluon.kernels import STORED, Kernels, cuda, dense, flag, stored
from minigluon.ops.linalg import batch_dot, dot, dot_left, dot_right, left_matrix, right_matrix
from minigluon.ops.product_kernels import HALVES, convolutions
from minigluon.symbol.hybrid import calls, keepers
from minigluon.symbol.symbol import states_of

__all__ = [
    "BOTH",
    "Backward",
    "Captured",
    "LARGE",
    "Lease",
    "MOST",
    "MOST_BLOCKS",
    "PLACED",
    "Run",
    "TALL",
    "alike",
    "alone",
    "apart",
    "capturing",
    "given",
    "in_captures",
    "keep",
    "laid",
    "left",
    "lent",
    "lying",
    "marked",
    "matrices",
    "multiplied",
    "multiplied_or_plain",
    "products",
    "right",
    "settled",
    "stack_of_halves",
    "turned",
]


# --- Code: a product that may be captured ---------------------------------------------------------

BOTH = "false", "true"
products = Kernels(
    "strided", [f"strided<{t}, {a}, {b}>" for t in STORED.values() for a in BOTH for b in BOTH]
)
LARGE = 1 << 27  # multiplications from which a call of cuBLAS is worth its launch: an estimate


def multiplied(a, b, out=None):
    """`a @ b` of matrices or stacks of them on a GPU, however they lie, without cuBLAS;
    RuntimeError if they do not suit.
    """
    a, b = alike(a, b)
    (*stack, m, k), n, kind = a.shape, b.shape[-1], stored(a, b)
    if kind is None or b.shape != (*stack, k, n) or m > 64 * MOST_BLOCKS:
        raise RuntimeError(
            f"no kernel multiplies {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
        )
    count = int(np.prod(stack))
    if count * m * k * n > LARGE:
        raise RuntimeError(
            f"products of {count} x {m} x {k} x {n} are better left to cuBLAS, which no graph can hold"
        )
    y = np.empty_like(a, shape=(*stack, m, n), order="C") if out is None else out
    if 0 in (count, m, n, k) or not y.flags.c_contiguous or y.dtype != a.dtype:
        y[...] = 0 if k == 0 else multiplied(a, b) if y.size else y
        return y
    return laid(kind, y, a.reshape(count, m, k), b.reshape(count, k, n))


MOST_BLOCKS = 65535  # along the second and third axis of a grid


def alike(a, b):
    """Matrices or stacks of them with the same axes before the last two."""
    if min(a.ndim, b.ndim) < 2:
        raise RuntimeError("no kernel multiplies vectors")
    if a.shape[:-2] == b.shape[:-2]:
        return a, b
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return tuple(np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))


def laid(kind, y, a, b):
    """Fill `y` with the products of two stacks."""
    (count, m, k), n = a.shape, b.shape[2]
    if count > MOST_BLOCKS:
        rest = y.reshape(count, m, n)
        for i in range(0, count, MOST_BLOCKS):
            at = slice(i, i + MOST_BLOCKS)
            laid(kind, rest[at], a[at], b[at])
        return y
    tiles = -(-n // 64), -(-m // 64)
    parts = max(1, min(132 // (tiles[0] * tiles[1] * count), k // 64))
    span = -(-k // (16 * parts)) * 16
    parts = -(-k // span)
    sums = np.empty_like(a, shape=(parts, y.size), dtype="float32") if parts > 1 else None
    (a, *by_a), (b, *by_b) = lying(a), lying(b)
    wide = n % 4 == 0 and y.data.ptr % (4 * y.itemsize) == 0
    name = f"strided<{kind}, {flag(by_a[0] == 1)}, {flag(by_b[1] == 1)}>"
    sizes = map(np.int32, (m, n, k, span, parts, wide))
    products(name, (*tiles, count * parts), (256,), a, b, y, sums, *by_a, *by_b, *sizes)
    if parts > 1:
        args = sums, y, np.int32(parts), np.int64(y.size)
        convolutions(f"fold<{kind}>", (-(-y.size // 256),), (256,), *args)
    return y


def lying(a):
    """The memory of a stack of matrices without gaps, and the steps to the next row,
    column and matrix.
    """
    across = a.swapaxes(1, 2)
    a = a if a.flags.c_contiguous or across.flags.c_contiguous else a.copy()
    steps = [np.int64(a.strides[i] // a.itemsize) for i in (1, 2, 0)]
    return (a if a.flags.c_contiguous else across, *steps)


TALL = 1 << 24  # multiplications of one matrix from which a call for each is better: an estimate


def stack_of_halves(a, b, out=None):
    """`a @ b` of stacks of matrices of half precision."""
    a, b = alike(a, b)
    (*stack, m, k), n = a.shape, b.shape[-1]
    y = np.empty_like(a, shape=(*stack, m, n), order="C") if out is None else out
    if b.shape[-2] != k or not y.size or not k or not y.flags.c_contiguous or y.dtype != a.dtype:
        return plain_matmul(a, b, out)
    whole = y.reshape(-1, m, n), a.reshape(-1, m, k), b.reshape(-1, k, n)
    if m * k * n < TALL and m <= 64 * MOST_BLOCKS:
        return laid(stored(a, b), y, *whole[1:])
    for into, left, right in zip(*whole):
        plain_matmul(left, right, into)
    return y


def multiplied_or_plain(a, b, out=None):
    """A product on a GPU: by cuBLAS, or in a capture by a kernel."""
    if capture.before is not None:
        return multiplied(a, b, out)
    halves = min(a.ndim, b.ndim) > 1 and max(a.ndim, b.ndim) > 2 and stored(a, b) in HALVES
    return (stack_of_halves if halves else plain_matmul)(a, b, out)


elsewhere.append(multiplied_or_plain)


def in_captures(op, function):
    """Let `function` be the kernel of `op` while something is captured."""
    cuda(op)(
        lambda *a, **settings: (
            NotImplemented if capture.before is None else function(*a, **settings)
        )
    )


def turned(a, yes):
    """`a` with its last two axes exchanged, if `yes`."""
    return a.swapaxes(-1, -2) if yes else a


def matrices(lhs, rhs, transpose_a, transpose_b, **_):
    """Two matrices, or stacks of them, multiplied in a capture."""
    if lhs.ndim != rhs.ndim or lhs.ndim < 2:
        return NotImplemented
    return multiplied(turned(lhs, transpose_a), turned(rhs, transpose_b))


def left(data, rhs, like, transpose_a, transpose_b, **_):
    """The gradient of a product's left factor, in a capture."""
    b = right_matrix(rhs, transpose_b)
    g = data.reshape(-1, b.shape[1])
    return (multiplied(b, g.T) if transpose_a else multiplied(g, b.T)).reshape(like.shape)


def right(lhs, data, like, transpose_a, transpose_b, **_):
    """The gradient of its right factor."""
    a = left_matrix(lhs, transpose_a)
    g = data.reshape(a.shape[0], -1)
    return (multiplied(g.T, a) if transpose_b else multiplied(a.T, g)).reshape(like.shape)


for op, function in ((dot, matrices), (batch_dot, matrices), (dot_left, left), (dot_right, right)):
    in_captures(op, function)


# --- Code: a run ----------------------------------------------------------------------------------


class Lease:
    """Held by whoever looks at the memory of a run."""

    __slots__ = ("__weakref__", "run")

    def __init__(self, run):
        self.run = run


@contextmanager
def capturing(before):
    """A `with` block in which operators add to `before` what is to be done before each run."""
    capture.before = before
    try:
        yield
    finally:
        capture.before = None


class Run:
    """A captured call: its graph, and the memory in which it works, which one holder at a time has."""

    lease = staticmethod(lambda: None)

    def __init__(self, call, moving):
        cupy = cupy_or_none()
        self.buffers = [np.empty_like(a, order="C") for a in moving]
        self.pool, self.before, self.backs = cupy.cuda.MemoryPool(), [], {}
        stream = cupy.cuda.Stream(non_blocking=True)
        own = cupy.cuda.using_allocator(partial(allocate, cupy, own=self.pool))
        with stream, own, capturing(self.before):
            stream.begin_capture()
            try:
                self.results = call(self.buffers)
            except BaseException:
                with suppress(RuntimeError):  # the capture may be broken off already
                    stream.end_capture()
                raise
            self.graph = stream.end_capture()

    def leased(self):
        """The lease of a new holder."""
        lease = Lease(self)
        self.lease = weakref.ref(lease)
        return lease

    def launch(self, moving):
        """Copy what comes in, do what is to be done before, and launch."""
        for buffer, a in zip(self.buffers, moving):
            np.copyto(buffer, a)
        for action in self.before:
            action()
        self.graph.launch()


def lent(a, lease):
    """A new array on the memory of `a`, whose owner is the lease."""
    cuda = cupy_or_none().cuda
    memory = cuda.UnownedMemory(a.data.ptr, a.nbytes, lease, a.device.id)
    return type(a)(a.shape, a.dtype, cuda.MemoryPointer(memory, 0))


def apart(a, held):
    """`a` as an array of its own: a copy if it has gaps or lies in the memory of one of `held`."""
    at = a.data.ptr
    inside = any(h is not None and h.data.ptr <= at < h.data.ptr + h.nbytes for h in held)
    return a.copy() if inside or a.base is not None or not a.flags.c_contiguous else a


# --- Code: a program ------------------------------------------------------------------------------

MOST = 4  # runs of a kind, and kinds


class Captured:
    """The forward and backward program of an operator, for arrays on a GPU as graphs;
    the first `data` arrays vary.
    """

    def __init__(self, op, data):
        self.op, self.data, self.kernel, self.rule = op, data, op.kernel, op.rules
        self.runs, self.refused, self.lock = {}, {}, threading.Lock()
        self.warm = False  # whether a gradient has been computed

    def forward(self, *arrays):
        """The outputs, and after them a lease in place of what the gradient needs."""
        if (
            type(arrays[0]) is np.ndarray
            or "forwards" in self.refused
            or capture.before is not None
        ):
            return self.kernel(*arrays)
        fixed = arrays[self.data :]
        key = state.training, state.recording, tuple([(a.data.ptr, a.strides) for a in fixed])
        with arrays[0].device:
            if key not in self.runs:
                return self.first(key, arrays)
            lease = self.taken("forwards", self.runs[key], lambda: self.captured(arrays))
            if lease is None:
                return self.kernel(*arrays)
            lease.run.launch(arrays[: self.data])
            shown = lease.run.results[: self.op.visible]
            return (*[lent(a, lease) for a in shown], lease)

    def first(self, key, arrays):
        """The outputs by the program itself, watched."""
        given = arrays[: self.data]
        before = [a.copy() for a in given]
        out = self.kernel(*arrays)
        bits = lambda a: dense(a).reshape(-1).view("uint8")
        if any(bool((bits(a) != bits(b)).any()) for a, b in zip(given, before)):
            self.refuse("forwards", "it changes what it is given")
        if len(self.runs) >= MOST:
            self.runs.clear()
        self.runs[key] = []
        return out

    # --- Code: a program --------------------------------------------------------------------------

    def captured(self, arrays):
        """A new run for such arrays."""
        fixed = arrays[self.data :]

        def call(buffers):
            out = self.kernel(*buffers, *fixed)
            n = self.op.visible
            return [apart(o, [*buffers, *fixed]) for o in out[:n]] + [*out[n:]]

        run = Run(call, arrays[: self.data])
        run.args = [*run.buffers, *fixed]
        return run

    def taken(self, way, runs, make):
        """The lease of a run that nobody holds, made now if there is none;
        None if there are enough or it cannot be.
        """
        with self.lock:
            run = next((r for r in runs if r.lease() is None), None)
            if run is None and len(runs) < MOST and way not in self.refused:
                try:
                    run = make()
                    runs.append(run)
                except Exception as error:  # what is wrong elsewhere as well will be told there
                    self.refuse(way, error)
            return run and run.leased()

    def refuse(self, way, why):
        """Run call by call from now on, and say so."""
        self.refused[way] = str(why)
        warnings.warn(
            f"{self.op.name} runs {way} without a CUDA graph, call by call: {why}",
            RuntimeWarning,
            stacklevel=3,
        )


PLACED = object()  # stands for a gradient in the memory of its variable, which must not be held


def settled(share, into, held):
    """A gradient in memory that will stay: that of its variable, or its own."""
    if share is None or share is into:
        return share
    if into is None or into.shape != share.shape or into.dtype != share.dtype:
        return apart(share, held)
    into[...] = share
    return into


class Backward:
    """The rule of a captured operator."""

    places = True  # gradients can be written into memory that is given

    def __init__(self, captured):
        self.captured = captured

    def __call__(self, g, y, *args, into=()):
        lease = y[-1] if type(y) is tuple else None
        if type(lease) is not Lease:
            return self.captured.rule(g, y, *args, into=into)
        run, program = lease.run, self.captured
        into = [*into] + [None] * (len(run.args) - len(into))

        def call(heads):
            shares = program.rule(heads, tuple(run.results), *run.args, into=into)
            held = [*heads, *run.results, *run.args]
            return [settled(s, i, held) for s, i in zip(shares, into)]

        key = state.training, tuple([i is not None and i.data.ptr for i in into])
        with g[0].device:
            if not program.warm or "backwards" in program.refused:
                program.warm = True
                return call(g)
            if len(run.backs) >= MOST:
                run.backs.clear()
            runs = run.backs.setdefault(key, [])
            make = lambda: Run(lambda heads: marked(call(heads), into), g)
            found = program.taken("backwards", runs, make) if alone(runs) else None
            if found is None:
                return call(g)
            found.run.launch(g)
            return [given(s, i, found) for s, i in zip(found.run.results, into)]


def alone(runs):
    """Whether there is at most one run, and nobody holds it."""
    return all(r.lease() is None for r in runs)


def marked(shares, into):
    """Shares, in which PLACED stands for those that have gone to `into`."""
    return [PLACED if s is i and s is not None else s for s, i in zip(shares, into)]


def given(share, into, lease):
    """A share of a run, as its holder gets it."""
    if share is PLACED:
        return into
    return share if share is None else lent(share, lease)[...]


def keep(op, graph):
    """Let the programs of an operator be graphs, unless they call Python on their way
    or change their data.
    """
    order = calls(graph.outputs, {*graph.inputs})
    states = {(n, 0) for node in order for n in states_of(node)}
    if any(node.op.name == "Custom" for node in order) or states.intersection(graph.batch):
        return
    captured = Captured(op, len(graph.batch))
    op.kernel = wraps(op.kernel)(lambda *arrays: captured.forward(*arrays))
    op.rules, op.captured = op.rules and Backward(captured), captured


keepers.append(keep)
