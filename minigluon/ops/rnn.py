"""Back-propagation through time as one sweep, between one large product for the inputs and one for the weights."""

# Written from chapters/61_recurrent_layers.ipynb: edit the chapter, then run `minigluon export`.

import math
from contextlib import nullcontext

import numpy as np

from minigluon import autograd
from minigluon.base import MXNetError
from minigluon.context import current_context
from minigluon.cores import FEW, MANY, alone, matmul
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
    "GATES",
    "Plan",
    "RNN",
    "Room",
    "SIZES",
    "SWEEPS",
    "Size",
    "Slab",
    "affine",
    "along",
    "at_ends",
    "back",
    "back_gru",
    "back_lstm",
    "back_rnn",
    "blocks",
    "checked",
    "computed",
    "counts",
    "drop",
    "dropped",
    "ends",
    "enter",
    "fast",
    "flipped",
    "forwards",
    "further",
    "joined",
    "limited",
    "places",
    "plain",
    "rnn_derivative",
    "rnn_inputs",
    "rnn_outputs",
    "rooms",
    "shapes",
    "side",
    "size_of",
    "slab_of",
    "slopes_lstm",
    "slowly",
    "step",
    "step_by_step",
    "sweep_gru",
    "sweep_lstm",
    "sweep_rnn",
    "told",
    "turned",
    "unpacked",
    "views",
    "weight_gradients",
]


# --- One vector of parameters ---------------------------------------------------------------------

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

    def width(self, layer):
        """How many numbers a step of a layer's input has."""
        return self.directions * self.recurrent if layer else self.inputs


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


# --- The slab -------------------------------------------------------------------------------------


class Slab:
    """Memory cut into arrays, one after the other: cut twice in the same order, it gives the same ones."""

    def __init__(self, memory):
        self.memory, self.at = memory, 0

    def cut(self, *shape):
        """The next array."""
        begin, self.at = self.at, self.at + math.prod(shape)
        return self.memory[begin : self.at].reshape(shape)


class Room:
    """The arrays of one layer and direction that the way back needs."""

    def __init__(self, plan, slab):
        t, n, h = plan.steps, plan.batch, plan.hidden
        self.h = slab.cut(t + 1, n, plan.recurrent)  # states, the first before the first step
        self.gates = slab.cut(t, n, plan.rows)
        if plan.mode == "lstm":
            self.c, self.tanh_c = slab.cut(t + 1, n, h), slab.cut(t, n, h)
            self.y = slab.cut(t, n, h) if plan.projected else self.h[1:]  # before the projection
        if plan.mode == "gru":
            self.n = slab.cut(t, n, h)  # the state's share of the new gate


def rooms(plan, memory, dropout):
    """The output, the room of each layer and direction, the inputs of layers above, their masks."""
    slab = Slab(memory)
    t, n = plan.steps, plan.batch
    width = plan.directions * plan.recurrent
    found = [Room(plan, slab) for _ in range(plan.cells)]
    joined = [slab.cut(t, n, width) for _ in range(plan.layers)] if plan.directions > 1 else None
    outs = joined or [room.h[1:] for room in found]
    dropped = range(plan.layers - 1) if dropout else ()
    inputs, masks = (
        [slab.cut(t, n, width) for _ in dropped],
        [slab.cut(t, n, width) for _ in dropped],
    )
    return slab.at, outs, found, inputs, masks


class Size:
    """Memory that is only measured."""

    def __getitem__(self, key):
        return self

    def reshape(self, shape):
        return self


def size_of(plan, dropout):
    """How many numbers the slab of a call holds."""
    return rooms(plan, Size(), dropout)[0]


# --- Forwards in one sweep ------------------------------------------------------------------------


def affine(mode, hidden, dtype):
    """Scale and shift with which one tanh gives all gates: sigmoid(u) = (1 + tanh(u / 2)) / 2."""
    kinds = {"lstm": (1, 1, 0, 1), "gru": (1, 1, 0)}.get(mode, (0,))  # 1: a sigmoid
    sigmoids = np.repeat(np.array(kinds, dtype), hidden)
    return 1 - sigmoids / 2, sigmoids / 2


def forwards(plan, room, x, w):
    """Fill the room of one layer and direction; its first states are there already."""
    scale, shift = affine(plan.mode, plan.hidden, x.dtype)
    bias = w["i2h_bias"] + w["h2h_bias"]
    if plan.mode == "gru":
        bias[2 * plan.hidden :] = w["i2h_bias"][2 * plan.hidden :]
    weight = np.concatenate([w["i2h"], bias[:, None]], axis=1)  # the bias: a weight of the input 1
    weight *= scale[:, None]
    wide = np.ones((plan.steps * plan.batch, x.shape[2] + 1), x.dtype)
    wide[:, :-1] = x.reshape(-1, x.shape[2])
    matmul(wide, weight.T, out=room.gates.reshape(-1, plan.rows))
    recurrent = np.ascontiguousarray((w["h2h"] * scale[:, None]).T)
    with step_by_step(plan):
        SWEEPS[plan.mode](plan, room, w, recurrent, scale, shift)


def step_by_step(plan):
    """One thread for products that are too small to share: threads that wait for each other every step."""
    size = plan.batch * plan.recurrent * plan.rows
    return alone if FEW < size < MANY else nullcontext()


def sweep_rnn(plan, room, w, recurrent, scale, shift):
    """Plain recurrence, h = f(a + h W^T)."""
    act = np.tanh if plan.mode == "rnn_tanh" else lambda a, out: np.maximum(a, 0, out=out)
    work = np.empty_like(room.h[0])
    for t in range(plan.steps):
        np.matmul(room.h[t], recurrent, out=work)
        work += room.gates[t]
        act(work, out=room.h[t + 1])


def sweep_lstm(plan, room, w, recurrent, scale, shift):
    """Long short-term memory; gates i, f, g, o."""
    work, product = np.empty_like(room.gates[0]), np.empty_like(room.c[0])
    scales, shifts = (np.broadcast_to(row, work.shape).copy() for row in (scale, shift))
    for a, i, f, g, o, h, c, new_c, tanh_c, y, new_h in zip(
        room.gates,
        *views(room.gates, 4),
        room.h,
        room.c,
        room.c[1:],
        room.tanh_c,
        room.y,
        room.h[1:],
    ):
        np.matmul(h, recurrent, out=work)
        a += work
        np.tanh(a, out=a)
        a *= scales
        a += shifts
        np.multiply(f, c, out=new_c)
        np.multiply(i, g, out=product)
        new_c += product
        np.tanh(new_c, out=tanh_c)
        np.multiply(o, tanh_c, out=y)
        if plan.projected:
            np.matmul(y, w["h2r"].T, out=new_h)


def sweep_gru(plan, room, w, recurrent, scale, shift):
    """Gated recurrent unit; gates r, z, n."""
    m = 2 * plan.hidden
    work, bias = np.empty_like(room.gates[0]), w["h2h_bias"][m:]
    product = np.empty_like(room.n[0])
    for a, h, un, new_h in zip(room.gates, room.h, room.n, room.h[1:]):
        np.matmul(h, recurrent, out=work)
        rz, n = a[:, :m], a[:, m:]
        rz += work[:, :m]
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        np.add(work[:, m:], bias, out=un)
        np.multiply(rz[:, : plan.hidden], un, out=product)
        n += product
        np.tanh(n, out=n)
        np.subtract(h, n, out=product)
        product *= rz[:, plan.hidden :]
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
    """The operator on NumPy arrays: one product a layer for all inputs, then one sweep in time."""
    x, parameters, *states = arrays
    memory = np.empty(size_of(plan, p > 0), x.dtype)
    _, outs, found, inputs, masks = rooms(plan, memory, p > 0)
    if lengths is not None:
        x = np.where(inside(x, lengths), x, 0).astype(x.dtype, copy=False)
    for layer, out in enumerate(outs):
        for d in range(plan.directions):
            cell = layer * plan.directions + d
            enter(plan, found[cell], [s[cell] for s in states])
            turn = flipped(x, lengths) if d else x
            forwards(plan, found[cell], turn, unpacked(parameters, plan)[cell])
        joined(plan, out, found, layer, lengths)
        x = out
        if p > 0 and layer < plan.layers - 1:
            drop(masks[layer], p, rng)
            x = np.multiply(out, masks[layer], out=inputs[layer])
    last = ends(plan, found, lengths)
    return (x if keep else x.copy(), *last)


def enter(plan, room, states):
    """Write the first states into a room."""
    room.h[0] = states[0]
    if plan.mode == "lstm":
        room.c[0] = states[1]


def joined(plan, out, found, layer, lengths):
    """The outputs of a layer's directions side by side, zero behind the ends of the sequences."""
    if plan.directions > 1:
        one, two = found[2 * layer : 2 * layer + 2]
        out[..., : plan.recurrent] = one.h[1:]
        out[..., plan.recurrent :] = flipped(two.h[1:], lengths)
    if lengths is not None:
        out[...] = np.where(inside(out, lengths), out, 0)


def ends(plan, found, lengths):
    """The last states of all layers and directions: h, and for an LSTM c."""
    at = -1 if lengths is None else (lengths, np.arange(plan.batch))
    kinds = ("h", "c") if plan.mode == "lstm" else ("h",)
    return tuple(np.stack([getattr(room, kind)[at] for room in found]) for kind in kinds)


def drop(mask, p, rng):
    """Fill a mask: 0 with probability p, else what keeps the mean."""
    draws = source(rng, mask).random(mask.shape, np.float32)
    np.multiply(draws >= p, 1 / (1 - p), out=mask, casting="unsafe")


# --- Backwards in one sweep -----------------------------------------------------------------------


def back_rnn(plan, room, w, g, dh, dc, injected):
    """Gradients of the gates of a plain recurrence, and of its first state."""
    h = room.h[1:]
    k = 1 - h * h if plan.mode == "rnn_tanh" else (h > 0).astype(h.dtype)
    for kt, gt in zip(k[::-1], g[::-1]):
        dh += gt
        kt *= dh
        np.matmul(kt, w["h2h"], out=dh)
    return k, k, dh, None


def slopes_lstm(plan, room):
    """What the sweep multiplies: the slopes of the gates i, f, g, o and of the cell."""
    i, f, g, o = views(room.gates, 4)
    k = np.subtract(1, room.gates)
    k *= room.gates
    ki, kf, kg, ko = views(k, 4)
    ki *= g
    kf *= room.c[:-1]
    np.multiply(g, g, out=kg)
    np.subtract(1, kg, out=kg)
    kg *= i
    ko *= room.tanh_c
    kc = room.tanh_c * room.tanh_c
    np.subtract(1, kc, out=kc)
    kc *= o
    return k, kc


def back_lstm(plan, room, w, g, dh, dc, injected):
    """Gradients of the gates of an LSTM, and of its first states."""
    k, kc = slopes_lstm(plan, room)
    n, m = plan.batch, plan.hidden
    f, dy = room.gates[..., m : 2 * m], dh
    if plan.projected:
        room.dy = np.empty_like(g)  # gradients of the projection's outputs
        dy = np.empty_like(dc)
    times = np.empty_like(k[0]).reshape(
        n, 4, m
    )  # dc, dc, dc, dy: what each gate's slope is multiplied by
    for t in range(plan.steps - 1, -1, -1):
        dh += g[t]
        if plan.projected:
            room.dy[t] = dh
            np.matmul(dh, w["h2r"], out=dy)
        kt, kct = k[t], kc[t]
        kct *= dy
        dc += kct
        if injected is not None:
            dc += injected[t]
        times[:, :3] = dc[:, None]
        times[:, 3] = dy
        kt *= times.reshape(n, 4 * m)
        dc *= f[t]
        np.matmul(kt, w["h2h"], out=dh)
    return k, k, dh, dc


def back_gru(plan, room, w, g, dh, dc, injected):
    """Gradients of the gates of a GRU, in the order n, r, z and r, z, n, and of its first state."""
    m, (r, z, n) = plan.hidden, views(room.gates, 3)
    k = np.empty((plan.steps, plan.batch, 4 * m), g.dtype)
    kn, kr, kz, kq = views(k, 4)
    np.multiply(1 - z, 1 - n * n, out=kn)
    np.multiply(kn, r, out=kq)
    np.multiply(kq, 1 - r, out=kr)
    kr *= room.n
    np.multiply(z, 1 - z, out=kz)
    kz *= room.h[:-1] - n
    through = np.empty_like(dh)
    for kt, gt, zt in zip(k[::-1], g[::-1], z[::-1]):
        dh += gt
        four = kt.reshape(plan.batch, 4, m)
        four *= dh[:, None]
        dh *= zt
        np.matmul(kt[:, m:], w["h2h"], out=through)
        dh += through
    return k[..., : 3 * m], k[..., m:], dh, None


BACK = {"rnn_relu": back_rnn, "rnn_tanh": back_rnn, "lstm": back_lstm, "gru": back_gru}


def weight_gradients(plan, room, x, w, da, du, into):
    """Gradients of one layer and direction: its weights, into `into`, and its inputs."""
    same = da is du  # in all but a GRU
    x, da, du = (a.reshape(-1, a.shape[2]) for a in (x, da, du))
    h = room.h[:-1].reshape(-1, plan.recurrent)
    into["h2h"][...] = matmul(h.T, du).T  # a third faster than du.T @ h in OpenBLAS
    matmul(da.T, x, out=into["i2h"])
    ones = np.ones(len(x), x.dtype)
    np.matmul(ones, du, out=into["h2h_bias"])
    if same:
        into["i2h_bias"][...] = into["h2h_bias"]
    else:
        np.matmul(ones, da, out=into["i2h_bias"])
    if plan.projected:
        dy = room.dy.reshape(-1, plan.recurrent)
        np.matmul(dy.T, room.y.reshape(-1, plan.hidden), out=into["h2r"])
    weight = w["i2h"]
    if plan.mode == "gru":  # from n, r, z to r, z, n
        m = plan.hidden
        for name in ("i2h", "i2h_bias"):
            into[name][...] = np.roll(into[name], -m, axis=0)
        weight = np.roll(weight, m, axis=0)
    return matmul(da, weight)


def back(plan, heads, arrays, lengths, memory, p):
    """Gradients of data, parameters and states, from those of the outputs: one sweep a layer."""
    x, parameters, *states = arrays
    if lengths is not None:
        x = np.where(inside(x, lengths), x, 0).astype(x.dtype, copy=False)
    _, outs, found, inputs, masks = rooms(plan, memory, p > 0)
    weights, packed = unpacked(parameters, plan), np.empty_like(parameters)
    into, firsts = unpacked(packed, plan), [np.empty_like(s) for s in states]
    g = heads[0]
    for layer in range(plan.layers - 1, -1, -1):
        below = x if layer == 0 else (inputs or outs)[layer - 1]
        total = None
        for d in range(plan.directions):
            cell = layer * plan.directions + d
            last = [s[cell] for s in heads[1:]]
            gd = views(g, plan.directions)[d]
            found_x = side(
                plan, found[cell], below, weights[cell], gd, last, lengths, d, into[cell]
            )
            dx, *ends = found_x
            total = dx if total is None else total + dx
            for first, end in zip(firsts, ends):
                first[cell] = end
        g = total * masks[layer - 1] if p > 0 and layer else total
    return (g, packed, *firsts)


def side(plan, room, x, w, g, last, lengths, d, into):
    """Gradients of one layer in one direction: of its inputs, and of its first states."""
    if lengths is not None:
        g = np.where(inside(g, lengths), g, 0)
    if d:
        x, g = flipped(x, lengths), flipped(g, lengths)
    dh = np.zeros_like(room.h[0])
    dc = np.zeros_like(room.c[0]) if plan.mode == "lstm" else None
    injected = None
    if last and lengths is None:
        dh[...] = last[0]
        if dc is not None:
            dc[...] = last[1]
    elif last:
        g = at_ends(g, last[0], lengths)
        injected = at_ends(np.zeros_like(room.tanh_c), last[1], lengths) if dc is not None else None
    with step_by_step(plan):
        da, du, *ends = BACK[plan.mode](plan, room, w, g, dh, dc, injected)
    dx = weight_gradients(plan, room, x, w, da, du, into).reshape(x.shape)
    if lengths is not None and last:
        for end, g_last in zip(ends, last):
            end += np.where(lengths[:, None] == 0, g_last, 0)
    return (flipped(dx, lengths) if d else dx, *ends)


def at_ends(g, last, lengths):
    """`g` plus the gradients of the last states, at the last steps of sequences that are not empty."""
    g, found = g.copy(), np.flatnonzero(lengths)
    g[lengths[found] - 1, found] += last[found]
    return g


# --- Derivatives of any order ---------------------------------------------------------------------


def slab_of(y, size):
    """The slab of this size that an output is a part of; None if it is not there any more."""
    memory = y.base if type(y) is np.ndarray else None
    known = type(memory) is np.ndarray and memory.shape == (size,) and memory.dtype == y.dtype
    return memory if known else None


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
    return slowly(plan, order, [*above, *own], lengths, memory, p, limits, n, m)


def slowly(plan, order, arrays, lengths, memory, p, limits, n, m):
    """A derivative by the tape, through the operator's definition."""
    ctx = current_context()
    wrap = lambda a: NDArray(a, ctx)
    arrays = [wrap(a) for a in arrays]
    for a in arrays:
        a.attach_grad()
    lengths = None if lengths is None else wrap(lengths)
    masks = [wrap(a) for a in rooms(plan, memory, True)[4]] if p > 0 else None
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
    _, outs, *_, masks = rooms(plan, memory, True)
    for mask in masks:
        draws = source(rng, mask).random(mask.shape, np.float32)
        mask[...] = np.asarray((draws >= p) / (1 - p), like=mask)
    x, *last = plain(plan, arrays, lengths, masks, limits)
    outs[-1][...] = x
    return (outs[-1], *last)


@RNN.vjp
def _(g, y, *arrays, **settings):
    g, y = (list(g), y[0]) if isinstance(g, list | tuple) else ([g], y)
    given = [a for a in arrays if a is not None]
    limits = "lstm_state_clip_min", "lstm_state_clip_max", "lstm_state_clip_nan"
    same = {k: settings[k] for k in ("p", "use_sequence_length", "state_outputs")}
    same |= {"sizes": tuple(settings[k] for k in SIZES), "order": 1}
    shares = rnn_derivative(*g, *given, y, limits=tuple(settings[k] for k in limits), **same)
    shares = iter(shares)
    return [None if a is None or i == 4 else next(shares, None) for i, a in enumerate(arrays)]


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
