"""Back-propagation through time as one sweep, between one large product for the inputs and one for the weights."""

# Written from chapters/61_recurrent_layers.ipynb: edit the chapter, then run `minigluon export`.

import math
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from copy import copy
from functools import lru_cache, partial
from itertools import accumulate, repeat
from queue import Empty, SimpleQueue
from threading import Lock
from types import SimpleNamespace

import numpy as np

from minigluon import autograd
from minigluon.base import MXNetError
from minigluon.context import current_context
from minigluon.cores import FEW, MANY, alone, helpers, matmul, spread
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import operator
from minigluon.ops.derivatives import derived, outputs_of
from minigluon.ops.elementwise import clip, relu, sigmoid, tanh
from minigluon.ops.indexing import where
from minigluon.ops.linalg import dot
from minigluon.ops.pieces import concat, stack
from minigluon.ops.random import source
from minigluon.ops.sequences import SequenceMask, SequenceReverse, inside, require_lengths

__all__ = [
    "BACK",
    "Flow",
    "GATES",
    "HEAD",
    "LIMITS",
    "Plan",
    "RNN",
    "Room",
    "SIZES",
    "SMALL",
    "SWEEPS",
    "Scratch",
    "Size",
    "Slab",
    "Total",
    "across",
    "along",
    "apart",
    "at_ends",
    "back",
    "back_gru",
    "back_lstm",
    "back_rnn",
    "bends",
    "beside",
    "blank",
    "blocks",
    "by_step",
    "checked",
    "computed",
    "counts",
    "drop",
    "dropped",
    "ends",
    "enter",
    "factors",
    "fast",
    "flipped",
    "flow_of",
    "forwards",
    "further",
    "gates_of",
    "halves",
    "in_pieces",
    "inputs_of",
    "joined",
    "kept",
    "layers_back",
    "limited",
    "named",
    "operands",
    "packed",
    "pieces",
    "places",
    "plain",
    "prepared",
    "products",
    "rnn_again",
    "rnn_derivative",
    "rnn_inputs",
    "rnn_outputs",
    "rolled",
    "rooms",
    "shapes",
    "shares",
    "side",
    "size_of",
    "slab_of",
    "slopes",
    "slopes_gru",
    "slowly",
    "small",
    "spans",
    "step",
    "sweep_gru",
    "sweep_lstm",
    "sweep_rnn",
    "swept_back",
    "threads_for",
    "through",
    "told",
    "told_derivative",
    "turned",
    "turned_back",
    "unpacked",
    "unpacked_like",
    "views",
    "weight_gradients",
]


# --- One vector of parameters ---------------------------------------------------------------------

kept = lru_cache(256)  # for what follows from a plan
SIZES = ("mode", "state_size", "num_layers", "bidirectional", "projection_size")
GATES = {"rnn_relu": 1, "rnn_tanh": 1, "lstm": 4, "gru": 3}  # blocks of rows of a weight


class Plan:
    """The sizes of a call, and where each weight lies in the packed vector.

    steps T, batch N, inputs I, hidden H, recurrent R (the projection's size, or H), directions D.
    """

    def __init__(self, shape, mode, state_size, num_layers, bidirectional, projection_size):
        if mode not in GATES:
            raise ValueError(f"mode={mode!r} is none of {', '.join(GATES)}")
        if len(shape) != 3:
            raise ValueError(
                f"data of shape {shape}: it has three axes, (sequence length, batch size, input size)"
            )
        if projection_size and mode != "lstm":
            raise ValueError(f"projection_size={projection_size} is for mode='lstm', not {mode!r}")
        self.steps, self.batch, self.inputs = shape
        self.mode, self.hidden, self.layers = mode, state_size, num_layers
        self.recurrent = projection_size or state_size
        self.projected, self.directions = bool(projection_size), 2 if bidirectional else 1
        self.rows = GATES[mode] * state_size
        self.cells = self.layers * self.directions
        self.arrays = 4 if mode == "lstm" else 3  # data, parameters and states
        self.parts, self.part, self.most = 1, 0, self.batch
        sizes = self.hidden, self.layers, self.recurrent, self.projected, self.directions
        self.key = (*shape, mode, *sizes, 1, 0)

    def __eq__(self, other):
        return self.key == other.key

    def __hash__(self):
        return hash(self.key)

    def width(self, layer):
        """How many numbers a step of a layer's input has."""
        return self.directions * self.recurrent if layer else self.inputs

    @kept
    def cut(self, count):
        """The same sizes for each of `count` parts of the batch, of at most `most` samples:
        [(samples, plan)].
        """
        edges, found = [i * self.batch // count for i in range(count + 1)], []
        for i, (begin, end) in enumerate(zip(edges, edges[1:])):
            part = copy(self)
            part.batch, part.most = end - begin, -(-self.batch // count)
            part.parts, part.part = count, i
            part.key = (*self.key[:-2], count, i)
            found.append((slice(begin, end), part))
        return found


@kept
def places(plan):
    """For each layer and direction {name: (begin, end, shape)} in the packed vector, and its size."""
    found, at = [{} for _ in range(plan.cells)], 0
    for biases in (False, True):
        for cell in range(plan.cells):
            for name, shape in shapes(plan, cell // plan.directions, biases):
                found[cell][name] = at, at + math.prod(shape), shape
                at += math.prod(shape)
    return found, at


def shapes(plan, layer, biases):
    """Names and shapes of the weights, or of the biases, of one layer and direction."""
    if biases:
        return [("i2h_bias", (plan.rows,)), ("h2h_bias", (plan.rows,))]
    projection = [("h2r", (plan.recurrent, plan.hidden))] if plan.projected else []
    return [
        ("i2h", (plan.rows, plan.width(layer))),
        ("h2h", (plan.rows, plan.recurrent)),
        *projection,
    ]


def unpacked(parameters, plan):
    """The weights of each layer and direction, views of the packed vector: [{name: array}]."""
    return [
        {name: parameters[begin:end].reshape(shape) for name, (begin, end, shape) in cell.items()}
        for cell in places(plan)[0]
    ]


def checked(plan, arrays, lengths):
    """The arrays, if they fit; a state of batch size 0 stands for zeros, as in graphs."""
    data, parameters, *states = arrays
    size = places(plan)[1]
    if parameters.shape != (size,):
        raise ValueError(
            f"parameters of shape {parameters.shape}: {plan.layers} layers, {plan.directions} "
            f"directions, {plan.inputs} inputs and state_size={plan.hidden} need {size} of them"
        )
    for i, s in enumerate(states):
        want = (plan.cells, plan.batch, plan.hidden if i else plan.recurrent)
        if s.shape == (want[0], 0, want[2]):
            states[i] = np.zeros_like(data, shape=want)
        elif s.shape != want:
            name = "state_cell" if i else "state"
            raise ValueError(f"{name} of shape {s.shape}: expecting {want}")
    if any(a.dtype != data.dtype for a in (parameters, *states)):
        raise ValueError(f"types differ: {', '.join(str(a.dtype) for a in arrays)}")
    if lengths is not None:
        if lengths.shape != (plan.batch,):
            raise ValueError(f"sequence_length of shape {lengths.shape}: expecting {(plan.batch,)}")
        require_lengths(lengths, plan.steps)
    return [data, parameters, *states]


# --- Step by step ---------------------------------------------------------------------------------


def step(mode, a, w, h, c, limits):
    """One step: `a` are the inputs' share of the gates, (N, gates H); returns the new h and c."""
    u = dot(h, w["h2h"], transpose_b=True) + w["h2h_bias"]
    if mode == "gru":
        r, z, n = blocks(a, 3)
        ur, uz, un = blocks(u, 3)
        r, z = sigmoid(r + ur), sigmoid(z + uz)
        n = tanh(n + r * un)
        return n + z * (h - n), None
    if mode != "lstm":
        return (relu if mode == "rnn_relu" else tanh)(a + u), None
    i, f, g, o = blocks(a + u, 4)
    c = limited(sigmoid(f) * c + sigmoid(i) * tanh(g), *limits)
    h = sigmoid(o) * tanh(c)
    return dot(h, w["h2r"], transpose_b=True) if "h2r" in w else h, c


def blocks(a, n):
    """The columns of a matrix in `n` blocks."""
    width = a.shape[1] // n
    return [a[:, i * width : (i + 1) * width] for i in range(n)]


def limited(c, low, high, no_nan):
    """A cell state within its limits; with `no_nan`, NaN becomes the lower one."""
    if low is None or high is None:
        return c
    if no_nan:
        c = where(c == c, c, low + 0 * where(c == c, c, c * 0 == c))
    return clip(c, a_min=low, a_max=high)


def plain(plan, arrays, lengths, masks, limits=(None, None, False)):
    """The operator as its definition says, one step after the other, on any kind of array."""
    x, parameters, *states = arrays
    ends, weights = [], unpacked(parameters, plan)
    for layer in range(plan.layers):
        sides = []
        for d in range(plan.directions):
            cell = layer * plan.directions + d
            inputs = turned(x, lengths) if d else x
            first = [s[cell] for s in states]
            out, last = along(plan, inputs, weights[cell], first, lengths, limits)
            sides.append(turned(out, lengths) if d else out)
            ends.append(last)
        x = concat(*sides, dim=2) if len(sides) > 1 else sides[0]
        if masks and layer < plan.layers - 1:
            x = x * masks[layer]
    return (x, *[stack(*parts, axis=0) for parts in zip(*ends)])


def along(plan, x, w, states, lengths, limits):
    """One layer in one direction: its outputs, (T, N, R), and its last states."""
    h, c = states[0], states[1] if len(states) > 1 else None
    outs = []
    for t in range(plan.steps):
        a = dot(x[t], w["i2h"], transpose_b=True) + w["i2h_bias"]
        new = step(plan.mode, a, w, h, c, limits)
        if lengths is not None:
            new = [n if n is None else where(lengths > t, n, o) for n, o in zip(new, (h, c))]
        h, c = new
        outs.append(h)
    out = stack(*outs, axis=0)
    if lengths is not None:
        out = SequenceMask(out, lengths, use_sequence_length=True)
    return out, [h] if c is None else [h, c]


def turned(x, lengths):
    """Sequences backwards in time."""
    if lengths is None:
        return SequenceReverse(x)
    return SequenceReverse(x, lengths, use_sequence_length=True)


# --- The slab, and parts of the batch -------------------------------------------------------------

HEAD = 16  # numbers before the arrays: the first one is the number of parts


class Slab:
    """Memory cut into arrays, one after the other:
    cut twice in the same order, it gives the same ones.
    """

    def __init__(self, memory):
        self.memory, self.at = memory, 0

    def cut(self, *shape):
        """The next array."""
        begin, self.at = self.at, self.at + math.prod(shape)
        return self.memory[begin : self.at].reshape(shape)

    def by_step(self, count, steps, *shape):
        """The next array, (count, steps, ...), in which a step's numbers lie in a row."""
        return self.cut(steps, count, *shape).swapaxes(0, 1)


class Room:
    """What the way back needs of one layer and direction, for a part of the batch;
    `rows` is what every step multiplies.

    Of an LSTM that is `k`: the slopes of the gates f, i, o and g, that of the cell, and f itself. A
    GRU keeps its gates r, z, n; a plain recurrence needs no more than h.
    """

    def __init__(self, plan, slab, layer):
        t, n, h, r = plan.steps, plan.batch, plan.hidden, plan.recurrent
        self.rows = slab.cut(t + 1, n, r + 1 + plan.width(layer))
        self.h = self.rows[..., :r]
        self.x = self.rows[:-1, ..., r:]  # begins with a 1 for the bias
        if plan.mode == "lstm":
            self.k = slab.by_step(6, t, n, h)
            self.y = slab.cut(t, n, h) if plan.projected else self.h[1:]  # before the projection
        if plan.mode == "gru":
            self.gates = slab.cut(3, t, n, h)
            self.n = slab.cut(t, n, h)  # the state's share of the new gate


def rooms(plan, memory, dropout, count=1):
    """The size of the slab, the output, the masks between the layers, and of each part samples,
    plan and rooms.
    """
    slab = Slab(memory)
    slab.cut(HEAD)
    shape = plan.steps, plan.batch, plan.directions * plan.recurrent
    out = slab.cut(*shape)
    masks = [slab.cut(*shape) for _ in range(plan.layers - 1)] if dropout else []
    parts = [
        (at, part, [Room(part, slab, cell // plan.directions) for cell in range(plan.cells)])
        for at, part in plan.cut(count)
    ]
    return slab.at, out, masks, parts


class Size:
    """Memory that is only measured."""

    def itself(self, *_):
        return self

    __getitem__ = reshape = swapaxes = itself


@kept
def size_of(plan, dropout):
    """How many numbers the slab of a call holds, into however many parts the batch is cut."""
    return rooms(plan, Size(), dropout)[0]


# --- Small products and two cores -----------------------------------------------------------------

# multiplications: up to here OpenBLAS reads matrices where they lie, larger ones it copies first
SMALL = 10**6


def pieces(m, k, n):
    """Into how many pieces to cut the columns of a product (m, k) @ (k, n) to have small ones;
    1 if none are.
    """
    work = m * k * n
    if work <= SMALL:
        return 1
    return next((p for p in range(2, n // 16 + 1) if n % p == 0 and work <= SMALL * p), 1)


def in_pieces(a, count):
    """The columns in pieces, (..., m, n) as (..., count, m, n / count): a view."""
    return a.reshape(*a.shape[:-1], count, a.shape[-1] // count).swapaxes(-2, -3)


def small(m, k, n):
    """Whether a product with every step's `m` rows is better than one with those of all steps."""
    return m >= 8 and m * k * n <= SMALL * pieces(m, k, n)


def apart(plan, layer):
    """Whether a layer's inputs are multiplied before the sweep."""
    k = plan.recurrent + 1 + plan.width(layer)
    return plan.mode == "gru" or not small(plan.most, k, plan.hidden)


def shares(plan):
    """Into how many parts to cut the batch, each large enough to pay for a thread."""
    size = plan.batch * plan.recurrent * plan.rows
    return max(1, min(alone.threads, 4, plan.batch // 8, size // FEW))


def threads_for(plan):
    """Where a part's sweep runs: with OpenBLAS's threads only if its products are large,
    as they wait for each other every step.
    """
    many = plan.batch * plan.recurrent * plan.rows >= MANY
    return nullcontext() if many else alone


# --- Forwards in one sweep ------------------------------------------------------------------------


def factors(plan, rows, columns):
    """Blocks of a weight's columns, (G H, K) each, as right sides
    (G, P, K, H / P) of small products of `rows` rows.

    Sigmoids have half of each, as sigmoid(u) = (1 + tanh(u / 2)) / 2. An LSTM's gates i, f, g, o
    become f, i, o, g.
    """
    gates, k = GATES[plan.mode], sum(c.shape[1] for c in columns)
    count, pair = pieces(rows, k, plan.hidden), 2 if plan.mode == "lstm" else 1
    shape = (gates // pair, pair, count, plan.hidden // count)
    found = np.empty_like(columns[0], shape=(*shape[:3], k, shape[3]))
    half = halves(plan, found.dtype).reshape(*shape[:2], 1, 1, 1)

    def fill(some):
        at = 0
        for c in columns:
            block = c.reshape(*shape, c.shape[1])[some, ::-1].swapaxes(3, 4)
            np.multiply(block, half[some], out=found[some, ..., at : at + c.shape[1], :])
            at += c.shape[1]

    if found.size > FEW // 2:
        spread(fill, [slice(i, i + 1) for i in range(len(found))])
    else:
        fill(slice(None))
    return found.reshape(gates, *found.shape[2:])


@kept
def halves(plan, dtype):
    """What the gates before their bend are multiplied by:
    all but the last one are sigmoids, if there are several.
    """
    gates = GATES[plan.mode]
    return np.array([0.5] * (gates - 1) + [1], dtype)


def prepared(plan, w, layer):
    """Right sides for a layer's inputs, or None, and for what each step multiplies."""
    bias = w["i2h_bias"] + w["h2h_bias"]
    if plan.mode == "gru":
        bias[2 * plan.hidden :] = w["i2h_bias"][2 * plan.hidden :]
    states, inputs = [w["h2h"]], [bias[:, None], w["i2h"]]
    if apart(plan, layer):
        return factors(plan, 0, inputs)[:, 0], factors(plan, plan.most, states)
    return None, factors(plan, plan.most, states + inputs)


def forwards(plan, room, w, ready):
    """Fill the room of one layer and direction; its inputs and first states are there already."""
    inputs, weight = ready
    gates = repeat(None)
    if inputs is not None:
        x, shape = (
            room.x.reshape(-1, room.x.shape[2]),
            (len(inputs), *room.x.shape[:2], plan.hidden),
        )
        gates = room.gates if plan.mode == "gru" else np.empty_like(x, shape=shape)
        flat = gates.reshape(len(gates), -1, plan.hidden)
        if x.size * plan.rows <= FEW:
            np.matmul(x, inputs, flat)
        else:
            for a, block in zip(flat, inputs):
                matmul(x, block, out=a)
        gates = gates.swapaxes(0, 1)
    with threads_for(plan):
        SWEEPS[plan.mode](plan, room, w, weight, gates)


def operands(plan, room, weight, a):
    """What each step multiplies, and memory for its gates in the pieces that the weight is in."""
    count, k = weight.shape[1:3]
    return room.rows[:-1] if k > plan.recurrent else room.h[:-1], in_pieces(a, count)


def blank(plan, room, *shape):
    """Memory for numbers of one step."""
    return np.empty_like(room.rows, shape=(*shape, plan.batch, plan.hidden))


def sweep_rnn(plan, room, w, weight, gates):
    """Plain recurrence, h = f(a + h W^T)."""
    act = np.tanh if plan.mode == "rnn_tanh" else lambda a, out: np.maximum(a, 0, out=out)
    a = blank(plan, room, 1)
    rows, target = operands(plan, room, weight, a)
    for x, more, new_h in zip(rows, gates, room.h[1:]):
        np.matmul(x, weight, target)
        if more is not None:
            a += more
        act(a[0], new_h)


class Scratch:
    """Memory of an LSTM's step: the gates f, i, o and g, then tanh c;
    the shares fc, ig and h = o tanh c; and c.
    """

    def __init__(self, plan, room):
        self.gates, self.shares = blank(plan, room, 5), blank(plan, room, 3)
        self.work, self.c = blank(plan, room, 2), blank(plan, room)
        self.one, self.half = (np.full_like(self.c, x, shape=()) for x in (1, 0.5))


def bends(own):
    """A function that makes the new c, and h, from the gates before their bend and the old c."""
    (f, i, o, g, tanh_c), (fc, ig, h), c, half = own.gates, own.shares, own.c, own.half
    a, sigmoids = own.gates[:4], own.gates[:3]
    add, multiply, tanh = np.add, np.multiply, np.tanh

    def bend():
        tanh(a, a)
        multiply(sigmoids, half, sigmoids)
        add(sigmoids, half, sigmoids)
        multiply(f, c, fc)
        multiply(i, g, ig)
        add(fc, ig, c)
        tanh(c, tanh_c)
        multiply(o, tanh_c, h)

    return bend


def slopes(own):
    """A function that then computes the slopes of f, i and o, those of g and c, and f itself."""
    gates, shares, work, one = own.gates, own.shares, own.work, own.one
    f, sigmoids, i_o, g_tanh_c, ig_h = gates[0], gates[:3], gates[1:3], gates[3:], shares[1:]
    multiply, subtract = np.multiply, np.subtract

    def slope(of_f_i_o, of_g_c, once_f):
        multiply(ig_h, g_tanh_c, work)
        subtract(i_o, work, of_g_c)
        once_f[...] = f
        subtract(one, sigmoids, sigmoids)
        multiply(sigmoids, shares, of_f_i_o)

    return slope


def sweep_lstm(plan, room, w, weight, gates):
    """Long short-term memory; a cell's state stays where it is,
    and is kept step by step for `lengths` alone.
    """
    own = Scratch(plan, room)
    bend, slope, h, a, c = bends(own), slopes(own), own.shares[2], own.gates[:4], own.c
    rows, target = operands(plan, room, weight, a)
    project = w["h2r"].T if plan.projected else None
    cells, k = room.c[1:] if len(room.c) > 1 else repeat(None), room.k
    c[...] = room.c[0]
    for x, more, new_y, new_h, new_c, *of in zip(
        rows, gates, room.y, room.h[1:], cells, by_step(k[:3]), by_step(k[3:5]), k[5]
    ):
        np.matmul(x, weight, target)
        if more is not None:
            a += more
        bend()
        new_y[...] = h
        if room.recorded:
            slope(*of)
        if plan.projected:
            np.matmul(h, project, new_h)
        if new_c is not None:
            new_c[...] = c
    room.c[-1] = c


def by_step(k):
    """Numbers (count, T, ...) as (T, count, ...): a view."""
    return k.swapaxes(0, 1)


def sweep_gru(plan, room, w, weight, gates):
    """Gated recurrent unit; gates r, z, n."""
    bias, product = w["h2h_bias"][2 * plan.hidden :], np.empty_like(room.n[0])
    work = blank(plan, room, 3)
    rows, target = operands(plan, room, weight, work)
    for h, rz, (r, z, n), un, new_h in zip(rows, gates[:, :2], gates, room.n, room.h[1:]):
        np.matmul(h, weight, target)
        rz += work[:2]
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        np.add(work[2], bias, out=un)
        np.multiply(r, un, out=product)
        product += n
        np.tanh(product, out=n)
        np.subtract(h, n, out=product)
        product *= z
        np.add(product, n, out=new_h)


SWEEPS = {"rnn_relu": sweep_rnn, "rnn_tanh": sweep_rnn, "lstm": sweep_lstm, "gru": sweep_gru}


def views(a, n):
    """The last axis in `n` blocks, views."""
    width = a.shape[-1] // n
    return [a[..., i * width : (i + 1) * width] for i in range(n)]


def flipped(x, lengths):
    """Raw sequences backwards in time."""
    return np.flip(x, 0).copy() if lengths is None else turned(x, lengths)


def fast(plan, arrays, lengths, p, rng, keep):
    """The operator on NumPy arrays: each part of the batch on a thread of its own."""
    x, parameters, *states = arrays
    memory = np.empty(size_of(plan, p > 0), x.dtype)
    memory[0] = count = shares(plan)
    _, out, masks, parts = rooms(plan, memory, p > 0, count)
    for mask in masks:
        drop(mask, p, rng)
    weights, size = unpacked(parameters, plan), parts[0][1]
    ready = [prepared(size, w, cell // plan.directions) for cell, w in enumerate(weights)]
    last = [np.empty_like(s) for s in states]

    def run(item):
        at, part, found = item
        own = None if lengths is None else lengths[at]
        inputs = x[:, at] if own is None else np.where(inside(x[:, at], own), x[:, at], 0)
        enter(part, found, [s[:, at] for s in states], own, keep)
        through(part, found, inputs, own, [*zip(weights, ready)], [m[:, at] for m in masks])
        joined(part, out[:, at], found[-plan.directions :], own)
        ends(part, found, own, [s[:, at] for s in last])

    spread(run, parts)
    return (out if keep else out.copy(), *last)


def through(plan, found, x, lengths, weights, masks):
    """Fill the rooms of all layers, for a part of the batch."""
    for layer in range(plan.layers):
        at = layer * plan.directions
        first = found[at].x[..., 1:]
        if layer:
            joined(plan, first, found[at - plan.directions : at], lengths)
        else:
            first[...] = x
        if masks and layer:
            first *= masks[layer - 1]
        for cell in range(at, at + plan.directions):
            if cell > at:
                found[cell].x[..., 1:] = flipped(first, lengths)
            forwards(plan, found[cell], *weights[cell])


def enter(plan, found, states, lengths, recorded=True):
    """Write ones, for the biases, and first states into rooms; whether a way back may follow."""
    for cell, room in enumerate(found):
        room.recorded = recorded
        room.x[..., 0] = 1
        room.h[0] = states[0][cell]
        if len(states) > 1:
            first = states[1][cell]
            steps = 1 if lengths is None else plan.steps + 1
            room.c = np.empty_like(first, shape=(steps, *first.shape))
            room.c[0] = first


def joined(plan, out, rooms, lengths):
    """The outputs of a layer's directions side by side, zero behind the ends of the sequences."""
    for d, (room, part) in enumerate(zip(rooms, views(out, plan.directions))):
        part[...] = flipped(room.h[1:], lengths) if d else room.h[1:]
    if lengths is not None:
        out[...] = np.where(inside(out, lengths), out, 0)


def ends(plan, found, lengths, last):
    """Write the last states of all layers and directions into `last`: h, and for an LSTM c."""
    at = -1 if lengths is None else (lengths, np.arange(plan.batch))
    for cell, room in enumerate(found):
        last[0][cell] = room.h[at]
        if len(last) > 1:
            last[1][cell] = room.c[at]


def drop(mask, p, rng):
    """Fill a mask: 0 with probability p, else what keeps the mean."""
    draws = source(rng, mask).random(mask.shape, np.float32)
    np.multiply(draws >= p, 1 / (1 - p), out=mask, casting="unsafe")


# --- Backwards in one sweep -----------------------------------------------------------------------


def back_rnn(plan, room, w, flow, steps):
    """Gradients of the gates of a plain recurrence, into the flow."""
    h, dh = room.h[1:][steps], flow.dh
    k = 1 - h * h if plan.mode == "rnn_tanh" else (h > 0).astype(h.dtype)
    weight, target = across(w["h2h"], dh)
    for kt, gt, dt in zip(k[::-1], flow.g[steps][::-1], flow.of(steps)[::-1]):
        dh += gt
        np.multiply(kt, dh, out=dt)
        np.matmul(dt, weight, out=target)


def across(weight, out):
    """A right side in pieces for small products, and the pieces of where they go."""
    count = pieces(len(out), *weight.shape)
    return in_pieces(weight, count), in_pieces(out, count)


def gates_of(d, count):
    """Gradients of gates (T, N, G H) as a view, (T, G, N, H)."""
    return d.reshape(*d.shape[:2], count, d.shape[2] // count).swapaxes(1, 2)


def back_lstm(plan, room, w, flow, steps):
    """Gradients of the gates of an LSTM, into the flow."""
    d, dh, leaves, k = flow.of(steps), flow.dh, flow.dc, room.k[:, steps]
    weight, target = across(w["h2h"], dh)
    dc, from_h, own = np.empty_like(leaves), np.empty_like(leaves), blank(plan, room, 4)
    dy = np.empty_like(leaves) if plan.projected else dh
    (d_i, d_f, d_g, d_o), own = own, own.swapaxes(0, 1)
    add, multiply, injected = np.add, np.multiply, repeat(None)
    if flow.injected is not None:
        injected = flow.injected[steps][::-1]
    dys = flow.dy[steps][::-1] if plan.projected else repeat(None)
    every = flow.g[steps], *k, d, d.reshape(*d.shape[:2], 4, plan.hidden)
    for gt, of_f, of_i, of_o, of_g, of_c, f, dt, rows, more, dyt in zip(
        *(a[::-1] for a in every), injected, dys
    ):
        add(dh, gt, dh)
        if plan.projected:
            dyt[...] = dh
            np.matmul(dh, w["h2r"], dy)
        multiply(of_o, dy, d_o)
        multiply(of_c, dy, from_h)
        add(leaves, from_h, dc)
        if more is not None:
            dc += more
        multiply(f, dc, leaves)
        multiply(of_i, dc, d_i)
        multiply(of_f, dc, d_f)
        multiply(of_g, dc, d_g)
        rows[...] = own
        np.matmul(dt, weight, target)


def slopes_gru(gates, un, h):
    """What the sweep multiplies: the slopes of n, r, z and of the state's share of n."""
    r, z, n = gates
    k = np.empty((4, *n.shape), n.dtype)
    kn, kr, kz, kq = k
    np.multiply(1 - z, 1 - n * n, out=kn)
    np.multiply(kn, r, out=kq)
    np.multiply(kq, 1 - r, out=kr)
    kr *= un
    np.multiply(z, 1 - z, out=kz)
    kz *= h - n
    return k


def back_gru(plan, room, w, flow, steps):
    """Gradients of the gates of a GRU, in the order n, r, z and r, z, n, into the flow."""
    gates, d, dh = room.gates[:, steps], flow.of(steps), flow.dh
    k = slopes_gru(gates, room.n[steps], room.h[steps]).swapaxes(0, 1)
    through = np.empty_like(dh)
    weight, target = across(w["h2h"], through)
    all_steps = k, flow.g[steps], gates[1], gates_of(d, 4), d[..., plan.hidden :]
    for kt, gt, zt, dt, dut in zip(*(a[::-1] for a in all_steps)):
        dh += gt
        np.multiply(kt, dh, out=dt)
        dh *= zt
        np.matmul(dut, weight, out=target)
        dh += through


BACK = {"rnn_relu": back_rnn, "rnn_tanh": back_rnn, "lstm": back_lstm, "gru": back_gru}


def products(plan, room, flow, weight, steps):
    """What some steps' gradients of gates give: those of inputs, into the flow,
    and shares in those of weights.
    """
    m, r = plan.hidden, plan.recurrent
    d, rows = (a.reshape(-1, a.shape[2]) for a in (flow.of(steps), room.rows[steps]))  # h, 1, x
    da = d[:, inputs_of(plan)]
    matmul(da, weight, out=flow.dx[steps].reshape(len(d), -1))
    if plan.mode == "gru":  # gates n, r, z and r, z, n
        found = [matmul(da.T, rows[:, r:]), matmul(d[:, m:].T, rows[:, : r + 1])]
    else:
        found = [matmul(da.T, rows)]
    if plan.projected:
        found.append(matmul(flow.dy[steps].reshape(-1, r).T, room.y[steps].reshape(-1, m)))
    return found


def weight_gradients(plan, parts, into):
    """Gradients of one layer's weights in one direction, into `into`,
    from the sums over all steps of each part.
    """
    first, *others = [named(plan, sums) for sums in parts]
    for name, total in first.items():
        if not others:
            into[name][...] = total
        for more in others:
            total = np.add(total, more[name], out=into[name])


def named(plan, sums):
    """What `products` found by the names of the weights that it is for."""
    r, both = plan.recurrent, sums[0]
    if plan.mode == "gru":
        both, states = rolled(both, plan.hidden), sums[1]  # from n, r, z to r, z, n
    else:
        both, states = both[:, r:], both
    found = {"i2h": both[:, 1:], "h2h": states[:, :r]}
    found |= {"i2h_bias": both[:, 0], "h2h_bias": states[:, r]}
    return found | {"h2r": sums[1]} if plan.projected else found


def rolled(a, rows):
    """A matrix that begins with a later row, and ends with those before:
    `np.roll` takes 20 µs to begin.
    """
    return np.concatenate([a[rows:], a[:rows]])


def inputs_of(plan):
    """The columns of a flow's gradients that inputs have a share in."""
    return slice(GATES[plan.mode] * plan.hidden)


def turned_back(plan, w):
    """The weights as what flows back meets them."""
    if plan.mode == "gru":
        return {**w, "i2h": rolled(w["i2h"], 2 * plan.hidden)}  # from r, z, n to n, r, z
    return w


def back(plan, heads, arrays, lengths, memory, p):
    """Gradients of data, parameters and states, from those of the outputs: one sweep a layer."""
    data, parameters, *states = arrays
    *_, masks, parts = rooms(plan, memory, p > 0, int(memory[0]))
    weights, packed = unpacked(parameters, plan), np.empty_like(parameters)
    each = spread if parameters.size > FEW // 2 else map
    turned = [*each(partial(turned_back, plan), weights)]
    dx, firsts = np.empty_like(data), [np.empty_like(s) for s in states]

    def run(item):
        at, part, found = item
        own, mine = None if lengths is None else lengths[at], [s[:, at] for s in heads]
        dx[:, at], sums, ends = layers_back(
            part, found, mine, own, turned, [m[:, at] for m in masks]
        )
        for first, end in zip(firsts, zip(*ends)):
            first[:, at] = end
        return sums

    shares = [*zip(*spread(run, parts))]
    into = unpacked(packed, plan)
    write = lambda cell: weight_gradients(plan, shares[cell], into[cell])
    for _ in each(write, range(plan.cells)):
        pass
    return (dx, packed, *firsts)


def layers_back(plan, found, heads, lengths, weights, masks):
    """Of a part of the batch: gradients of its inputs;
    of each layer and direction sums for weights, and gradients of first states.
    """
    g, sums, ends = heads[0], [None] * plan.cells, [None] * plan.cells
    for layer in range(plan.layers - 1, -1, -1):
        total = None
        for d in range(plan.directions):
            cell = layer * plan.directions + d
            last = [s[cell] for s in heads[1:]]
            gd = views(g, plan.directions)[d]
            dx, sums[cell], ends[cell] = side(
                plan, found[cell], weights[cell], gd, last, lengths, d
            )
            total = dx if total is None else total + dx
        g = total * masks[layer - 1] if masks and layer else total
    return g, sums, ends


def side(plan, room, w, g, last, lengths, d):
    """Of one layer in one direction: gradients of its inputs, sums for its weights,
    gradients of its first states.
    """
    if lengths is not None:
        g = np.where(inside(g, lengths), g, 0)
    flow = flow_of(plan, room, flipped(g, lengths) if d else g, last, lengths)
    sums = swept_back(plan, room, w, flow)
    ends = [flow.dh] if flow.dc is None else [flow.dh, flow.dc]
    if lengths is not None and last:
        for end, g_last in zip(ends, last):
            end += np.where(lengths[:, None] == 0, g_last, 0)
    return (flipped(flow.dx, lengths) if d else flow.dx), sums, ends


def swept_back(plan, room, w, flow):
    """Carry the flow back to the first step; the sums of `products` over all steps.

    This thread goes back in time; if it has the whole batch, others multiply what it leaves behind.
    """
    total, all_steps = Total(), spans(plan)

    def rest(number):
        total.add(number, products(plan, room, flow, w["i2h"], all_steps[number]))

    if len(all_steps) == 1:
        with threads_for(plan):
            BACK[plan.mode](plan, room, w, flow, all_steps[0])
        rest(0)
    else:
        with beside() as later:
            for number, steps in enumerate(all_steps):
                BACK[plan.mode](plan, room, w, flow, steps)
                later(partial(rest, number))
    return total.sums


@kept
def spans(plan):
    """Spans of steps, the last first: enough work for another thread each,
    and few enough numbers for a cache.

    The outer ones are shorter: so the other threads begin early, and have little left at the end. A
    part of a batch has a thread of its own, and spans of equal length; but every other part begins
    with half a one. So it takes its steps, whose many calls need Python's lock, while the part
    before multiplies what a span gives.
    """
    rows = plan.steps * plan.batch
    few = rows * plan.rows * plan.recurrent < 2 * MANY
    count = 1 if few else max(1, min(plan.steps, rows // 128, 8))
    sizes = [min(i + 1, count - i, 3) for i in range(count)]
    if plan.parts > 1:
        sizes = [2] * max(1, min(plan.steps, rows // 256))
        if plan.part % 2 and len(sizes) > 1:
            sizes = [1, *sizes[1:], 1]
    edges = [sum(sizes[:i]) * plan.steps // sum(sizes) for i in range(len(sizes) + 1)]
    return [slice(i, j) for i, j in zip(edges, edges[1:]) if i < j][::-1]


class Total:
    """Sums of arrays that come in any order and are added in that of their numbers:
    so they are always the same.
    """

    def __init__(self):
        self.sums, self.next, self.waiting, self.lock = None, 0, {}, Lock()

    def add(self, number, arrays):
        """Add the arrays when all with lower numbers are there."""
        with self.lock:
            self.waiting[number] = arrays
            while (arrays := self.waiting.pop(self.next, None)) is not None:
                self.next += 1
                for a, b in zip(self.sums or (), arrays):
                    a += b
                self.sums = self.sums or arrays


@contextmanager
def beside():
    """A block that can leave tasks to other threads, `later(task)`;
    at its end this one takes its share of them.
    """
    tasks, count = SimpleQueue(), alone.threads

    def work(ask):
        with suppress(Empty):
            while task := ask():
                task()

    with alone:
        run = lambda: copy_context().run
        jobs = [helpers(count).submit(run(), work, tasks.get) for _ in range(count - 1)]
        try:
            yield tasks.put if jobs else lambda task: task()
            work(tasks.get_nowait)
        finally:
            for _ in jobs:
                tasks.put(None)
            errors = [job.exception() for job in jobs]
    for error in filter(None, errors):
        raise error


def flow_of(plan, room, g, last, lengths):
    """What flows back: gradients that have come, and room for those of gates,
    inputs and first states.
    """
    t, n, lstm = plan.steps, plan.batch, plan.mode == "lstm"
    new = lambda *shape: np.empty_like(g, order="C", shape=shape)
    dh, dc = np.zeros_like(room.h[0]), np.zeros_like(room.k[0, 0]) if lstm else None
    injected = None
    if last and lengths is None:
        dh[...] = last[0]
        if lstm:
            dc[...] = last[1]
    elif last:
        g = at_ends(g, last[0], lengths)
        if lstm:
            injected = at_ends(np.zeros_like(room.k[0]), last[1], lengths)
    longest = max(s.stop - s.start for s in spans(plan))
    blocks = 4 if plan.mode == "gru" else GATES[plan.mode]
    d = new(longest if plan.parts > 1 else t, n, blocks * plan.hidden)
    dy = new(t, n, plan.recurrent) if plan.projected else None
    dx = new(t, n, room.x.shape[2] - 1)
    return Flow(g=g, dh=dh, dc=dc, injected=injected, d=d, dy=dy, dx=dx)


class Flow(SimpleNamespace):
    """What `flow_of` makes."""

    def of(self, steps):
        """The gradients of gates of a span of steps;
        where all spans share one memory, only until the next one.
        """
        return self.d[steps] if len(self.d) == len(self.g) else self.d[: steps.stop - steps.start]


def at_ends(g, last, lengths):
    """`g` plus the gradients of the last states, at the last steps of sequences that are not empty."""
    g, found = g.copy(), np.flatnonzero(lengths)
    g[lengths[found] - 1, found] += last[found]
    return g


# --- Derivatives of any order ---------------------------------------------------------------------


def slab_of(y, size):
    """The slab of this size that an output is a part of; None if it is not there any more."""
    memory = y.base if type(y) is np.ndarray else None
    if type(memory) is not np.ndarray or memory.shape != (size,) or memory.dtype != y.dtype:
        return None
    return memory if y.ctypes.data == memory[HEAD:].ctypes.data else None  # else it is another's


def counts(mode, state_outputs):
    """How many arrays that can be differentiated a call takes, and how many it returns."""
    n = 4 if mode == "lstm" else 3
    return n, n - 1 if state_outputs else 1


@operator(same_dtype=False, listed=False)
def rnn_derivative(
    *arrays,
    order,
    sizes,
    p=0.0,
    use_sequence_length=False,
    state_outputs=False,
    limits=(None, None, False),
):
    """The derivative of `RNN` of an order: its heads, the arrays of the order below, lengths, output.

    `sizes`: mode, state_size, num_layers, bidirectional and projection_size.
    """
    *arrays, y = arrays
    lengths = arrays.pop().astype("int64") if use_sequence_length else None
    p = p if autograd.state.training else 0.0
    n, m = counts(sizes[0], state_outputs)
    plan = Plan(arrays[-n].shape, *sizes)
    above, own = arrays[:-n], checked(plan, arrays[-n:], lengths)
    memory = slab_of(y, size_of(plan, p > 0))
    if order == 1 and memory is not None and limits[:2] == (None, None):
        return back(plan, above, own, lengths, memory, p)
    if p > 0 and memory is None:
        raise MXNetError("the masks of this dropout are gone: keep the output in its memory")
    masks = rooms(plan, memory, True)[2] if p > 0 else None
    return slowly(order, plan, [*above, *own], lengths, masks, limits, n, m)


def slowly(order, plan, arrays, lengths, masks, limits, n, m):
    """A derivative by the tape, through the operator's definition."""
    ctx = current_context()
    wrap = lambda a: NDArray(a, ctx)
    arrays = [wrap(a) for a in arrays]
    for a in arrays:
        a.attach_grad()
    lengths = None if lengths is None else wrap(lengths)
    masks = masks and [wrap(a) for a in masks]
    f = lambda *own: plain(plan, own, lengths, masks, limits)[:m]
    return tuple(a._data for a in derived(f, order, arrays, n, m))


def further(g, y, *arrays, order, **settings):
    """The rule of a derivative: the derivative of the next order."""
    g = list(g) if isinstance(g, list | tuple) else [g]
    constants = 2 if settings["use_sequence_length"] else 1
    shares = rnn_derivative(*g, *arrays, order=order + 1, **settings)
    return [*shares, *[None] * constants]


rnn_derivative.rules = further
rnn_derivative.outputs = lambda number, order, sizes, state_outputs, **_: outputs_of(
    order, *counts(sizes[0], state_outputs)
)


# --- The operator ---------------------------------------------------------------------------------


@operator(same_dtype=False)
def RNN(
    data,
    parameters,
    state,
    state_cell=None,
    sequence_length=None,
    /,
    state_size=None,
    num_layers=None,
    bidirectional=False,
    mode=None,
    p=0.0,
    state_outputs=False,
    projection_size=None,
    lstm_state_clip_min=None,
    lstm_state_clip_max=None,
    lstm_state_clip_nan=False,
    use_sequence_length=False,
    rng=None,
):
    """Layers of a recurrent network, one over the other, in one direction or both.

    data: (T, N, I); parameters: all weights, then all biases, as one vector; state, and state_cell for
    mode='lstm': (num_layers * directions, N, state_size). sequence_length: (N,), with
    use_sequence_length=True. Output (T, N, directions * state_size), with state_outputs=True also the
    last states. mode: rnn_relu, rnn_tanh, lstm or gru; p: dropout between layers, in training.
    """
    plan = Plan(data.shape, mode, state_size, num_layers, bidirectional, projection_size)
    given = told([data, parameters, state, state_cell, sequence_length], plan, use_sequence_length)
    *arrays, lengths = given
    arrays = checked(plan, arrays, lengths)
    limits = (lstm_state_clip_min, lstm_state_clip_max, lstm_state_clip_nan)
    p = p if autograd.state.training else 0.0
    out = computed(plan, arrays, lengths, p, rng, limits)
    return out if state_outputs else out[0]


def told(arrays, plan, use_sequence_length):
    """The arrays of a call and, last, the lengths; those that are given by position come in a row."""
    given = [a for a in arrays if a is not None]
    number = plan.arrays + bool(use_sequence_length)
    if len(given) != number:
        raise ValueError(f"mode={plan.mode!r} expects {number} arrays, but got {len(given)}")
    if not use_sequence_length:
        return [*given, None]
    lengths = given.pop()
    if (lengths != np.floor(lengths)).any():
        raise ValueError(f"sequence_length {lengths}: lengths are whole numbers")
    return [*given, lengths.astype("int64")]


def computed(plan, arrays, lengths, p, rng, limits):
    """All outputs: fast on NumPy's arrays, else step by step."""
    if type(arrays[0]) is np.ndarray and limits[:2] == (None, None):
        return fast(plan, arrays, lengths, p, rng, autograd.state.recording)
    if p == 0:
        return plain(plan, arrays, lengths, None, limits)
    return dropped(plan, arrays, lengths, p, rng, limits)


def dropped(plan, arrays, lengths, p, rng, limits):
    """The same step by step with dropout: its masks stay in the output's slab."""
    memory = np.empty_like(arrays[0], shape=(size_of(plan, True),))
    _, out, masks, _ = rooms(plan, memory, True)
    for mask in masks:
        draws = source(rng, mask).random(mask.shape, np.float32)
        mask[...] = np.asarray((draws >= p) / (1 - p), like=mask)
    x, *last = plain(plan, arrays, lengths, masks, limits)
    out[...] = x
    return (out, *last)


LIMITS = "lstm_state_clip_min", "lstm_state_clip_max", "lstm_state_clip_nan"


def told_derivative(settings):
    """The settings of `rnn_derivative` from those of `RNN`."""
    same = {k: settings[k] for k in ("p", "use_sequence_length", "state_outputs")}
    limits = tuple(settings[k] for k in LIMITS)
    return {**same, "sizes": tuple(settings[k] for k in SIZES), "limits": limits}


@RNN.vjp
def _(g, y, *arrays, **settings):
    g, y = (list(g), y[0]) if isinstance(g, list | tuple) else ([g], y)
    given = [a for a in arrays if a is not None]
    shares = iter(rnn_derivative(*g, *given, y, order=1, **told_derivative(settings)))
    return [None if a is None or i == 4 else next(shares, None) for i, a in enumerate(arrays)]


@operator(same_dtype=False, listed=False)
def rnn_again(*arrays, sizes, p, use_sequence_length, state_outputs, limits):
    """What `RNN` returned once: of its arrays and then its outputs, the outputs."""
    once = arrays[-counts(sizes[0], state_outputs)[1] :]
    return once if state_outputs else once[0]


@rnn_again.vjp
def _(g, y, *arrays, sizes, state_outputs, **same):
    m = counts(sizes[0], state_outputs)[1]
    own, y = arrays[:-m], arrays[-m]
    g = list(g) if isinstance(g, list | tuple) else [g]
    shares = rnn_derivative(*g, *own, y, order=1, sizes=sizes, state_outputs=state_outputs, **same)
    return [*shares, *[None] * (len(arrays) - len(shares))]


rnn_again.outputs = lambda number, sizes, state_outputs, **_: counts(sizes[0], state_outputs)[1]
RNN.again = lambda *arrays, **settings: rnn_again(*arrays, **told_derivative(settings))


@RNN.shapes
def _(data, parameters, state, state_cell=None, sequence_length=None, **settings):
    plan = Plan(data, *[settings[k] for k in SIZES])
    lengths = [(plan.batch,)] if settings["use_sequence_length"] else []
    h, c = ((plan.cells, plan.batch, n) for n in (plan.recurrent, plan.hidden))
    states = (
        [h, c] if plan.mode == "lstm" else [h, None if sequence_length else (lengths or [None])[0]]
    )
    return [data, (places(plan)[1],), *states, *lengths]


def rnn_inputs(mode, use_sequence_length, **_):
    """Names of the arrays that a call needs."""
    cell = ["state_cell"] if mode == "lstm" else []
    lengths = ["sequence_length"] if use_sequence_length else []
    return ["data", "parameters", "state", *cell, *lengths]


def rnn_outputs(number, mode, state_outputs, **_):
    """Names of the outputs."""
    states = ["state_output", "statecell_output"] if mode == "lstm" else ["state_output"]
    return ["output", *(states if state_outputs else [])]


RNN.inputs, RNN.outputs = rnn_inputs, rnn_outputs


@operator(listed=False)
def packed(*arrays):
    """The numbers of all arrays in one vector, one array after the other."""
    return np.concatenate([a.reshape(-1) for a in arrays])


@operator(listed=False)
def unpacked_like(g, /, *arrays):
    """Undo `packed`: pieces of a vector in the shapes of the arrays."""
    ends = list(accumulate((a.size for a in arrays), initial=0))
    return tuple(g[i:j].reshape(a.shape) for i, j, a in zip(ends, ends[1:], arrays))


packed.rules = lambda g, y, *arrays: unpacked_like(g, *arrays)
unpacked_like.rules = lambda g, y, _, *arrays: (packed(*g), *[None] * len(arrays))
unpacked_like.outputs = lambda number: number - 1
