"""A recurrent layer takes its steps one after the other, so a step must be one launch, and where the weights fit into a block none at all."""

# Written from chapters/96d_recurrent_kernels.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon import autograd
from minigluon.context import brought, cupy_or_none
from minigluon.cores import matmul
from minigluon.kernels import MORE, STORED, Kernels, cuda, dense, stored
from minigluon.ops.random import drawn
from minigluon.ops.rnn import (
    RNN,
    SIZES,
    Plan,
    Size,
    Slab,
    checked,
    counts,
    flipped,
    rnn_derivative,
    told,
    unpacked,
    views,
)
from minigluon.ops.sequences import inside
from minigluon.ops.update_kernels import drop, key_law

__all__ = [
    "BLOCKS",
    "Card",
    "Kept",
    "LIMITS",
    "MODES",
    "SAMPLES",
    "WORK",
    "backwards",
    "blanked",
    "cells",
    "forwards",
    "grid_room",
    "grids",
    "kept",
    "launch",
    "names",
    "persistent",
    "projected_back",
    "samples",
    "shared",
    "spans",
    "steps",
    "suits",
    "sweeps",
    "swept",
    "swept_back",
    "units",
    "weight_gradients",
]


# --- Code: what is kept ---------------------------------------------------------------------------


class Kept:
    """What one layer in one direction keeps of all steps."""

    def __init__(self, plan, slab):
        t, n, h = plan.steps, plan.batch, plan.hidden
        self.h = slab.cut(t + 1, n, plan.recurrent)  # the first state before the first step
        self.gates = slab.cut(t, n, plan.rows)
        self.c = slab.cut(t + 1, n, h) if plan.mode == "lstm" else None
        self.n = slab.cut(t, n, h) if plan.mode == "gru" else None  # the state's share of n
        self.y = slab.cut(t, n, h) if plan.projected else None  # before the projection


def kept(plan, memory, apart, dropout):
    """The size of the memory, the outputs of layers, what each layer and direction keeps,
    masks between layers.

    `apart`: outputs have a place of their own; else they are the states.
    """
    slab, d = Slab(memory), plan.directions
    wide = plan.steps, plan.batch, d * plan.recurrent
    found = [Kept(plan, slab) for _ in range(plan.cells)]
    outs = [slab.cut(*wide) if apart else cell.h[1:] for cell in found[::d]]
    masks = [slab.cut(*wide) for _ in range(plan.layers - 1)] if dropout else []
    return slab.at, outs, found, masks


# --- Code: forwards -------------------------------------------------------------------------------

MODES = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}
SAMPLES, BLOCKS = (1, 4), 132  # one sample a block where every block finds a multiprocessor
steps = [f"{k}<{t}, {m}" for k in ("cell", "cell_back") for t in STORED.values() for m in range(4)]
sweeps, grids = ([s.replace("cell", way) for s in steps] for way in ("sweep", "persist"))
names = [f"{s}>" for s in steps + grids] + [f"{s}, {n}>" for s in sweeps for n in SAMPLES]
cells = Kernels("rnn", names, together=("persist",))


def samples(plan, itemsize):
    """How many samples a block takes through all steps; 0 where its shared memory is too small."""
    if plan.projected:
        return 0
    n = SAMPLES[plan.batch > BLOCKS]
    return n if max(*shared(plan, n, itemsize)) <= MORE else 0


def shared(plan, n, itemsize):
    """Bytes of shared memory, forwards and backwards: as `sweep` and `sweep_back` cut it."""
    pitch, gates = -(-plan.hidden // 4) * 4, plan.rows // plan.hidden
    forwards = 4 * n * (pitch + plan.rows) + pitch * plan.rows * itemsize
    backwards = 4 * n * gates * pitch + 16 * -(-plan.rows * n // 4)
    return forwards, backwards + gates * pitch * plan.hidden * itemsize


# multiplications of a block and step from which cuBLAS is the better half: an estimate
WORK = 1 << 21


def units(plan, itemsize):
    """Of how many units a block keeps the weights, all blocks being there at once;
    0 where that cannot or should not be.
    """
    each = -(-plan.hidden // cupy_or_none().cuda.Device().attributes["MultiProcessorCount"])
    fits = each <= 16 and grid_room(plan, each, itemsize) <= MORE
    return each if fits and not plan.projected and plan.batch * each * plan.rows <= WORK else 0


def grid_room(plan, each, itemsize):
    """Bytes of shared memory: 32 columns of 64 samples, padded, and the weights."""
    return 4 * 64 * 33 + plan.rows * each * itemsize


def spans(plan):
    """The steps of each launch: all in one, or, where blocks take turns and cannot meet, one in each."""
    turns = getattr(cupy_or_none(), "blocks_take_turns", False)
    return [(t, t + 1) for t in range(plan.steps)] if turns else [(0, plan.steps)]


def persistent(name, plan, each, itemsize, *args):
    """Launch a kernel whose blocks keep `each` units."""
    grid, block, room = -(-plan.hidden // each), 64 * each, grid_room(plan, each, itemsize)
    cells(name, (grid,), (block,), *args, np.int32(each), shared=room)


def launch(plan, n):
    """Grid and block: of a sweep with `n` samples a block, of a step if `n` is 0."""
    if not n:
        return (-(-plan.batch * plan.hidden // 256),), (256,)
    return (-(-plan.batch // n),), (-(-max(plan.rows, n * plan.hidden) // 32) * 32,)


def swept(plan, cell, x, w, ends):
    """Fill what a layer keeps; its first states are there. `ends`: lengths as int32, or None."""
    kind, n = f"{stored(x)}, {MODES[plan.mode]}", samples(plan, x.itemsize)
    matmul(x.reshape(-1, x.shape[2]), w["i2h"].T, cell.gates.reshape(-1, plan.rows))
    biases, sizes = (w["i2h_bias"], w["h2h_bias"]), (np.int32(plan.batch), np.int32(plan.hidden))
    if n:
        room = shared(plan, n, x.itemsize)[0]
        args = cell.gates, w["h2h"], *biases, cell.h, cell.c, cell.n, ends, np.int32(plan.steps)
        cells(f"sweep<{kind}, {n}>", *launch(plan, n), *args, *sizes, shared=room)
        return
    if each := units(plan, x.itemsize):
        args = cell.gates, w["h2h"], *biases, cell.h, cell.c, cell.n, ends
        meeting = np.zeros_like(x, shape=(1,), dtype="uint32")
        for first, last in spans(plan):
            steps = meeting, np.int32(first), np.int32(last)
            persistent(f"persist<{kind}>", plan, each, x.itemsize, *args, *steps, *sizes)
        return
    product, recurrent = np.empty_like(cell.gates[0]), w["h2h"].T
    for t in range(plan.steps):
        matmul(cell.h[t], recurrent, product)
        args = cell.gates, product, *biases, cell.h, cell.c, cell.n, cell.y, ends, np.int32(t)
        cells(f"cell<{kind}>", *launch(plan, 0), *args, *sizes)
        if plan.projected:
            matmul(cell.y[t], w["h2r"].T, cell.h[t + 1])


def forwards(way, plan, arrays, lengths, memory, p, rng):
    """All layers, in `memory`, which keeps everything: the output, a part of it, and the last states."""
    x, parameters, *states = arrays
    apart = way.apart(plan, lengths)
    _, outs, found, masks = kept(plan, memory, apart, p > 0)
    ends = None if lengths is None else lengths.astype("int32")
    x = blanked(x, lengths)
    for i, (cell, w) in enumerate(zip(found, unpacked(parameters, plan))):
        layer, d = divmod(i, plan.directions)
        for first, state in zip((cell.h, cell.c), states):
            first[0] = state[i]
        way.swept(plan, cell, dense(flipped(x, lengths) if d else x), w, ends)
        if apart:
            out = blanked(cell.h[1:], lengths)
            views(outs[layer], plan.directions)[d][...] = flipped(out, lengths) if d else out
        if d == plan.directions - 1:
            x = outs[layer]
            if layer < len(masks):
                way.draw(layer, masks[layer], p, rng)
                x = x * masks[layer]
    kinds = ("h", "c") if plan.mode == "lstm" else ("h",)
    return (outs[-1], *(np.stack([getattr(cell, k)[-1] for cell in found]) for k in kinds))


def blanked(x, lengths):
    """`x` with zeros behind the ends of the sequences."""
    return x if lengths is None else np.where(inside(x, lengths), x, 0).astype(x.dtype, copy=False)


# --- Code: backwards ------------------------------------------------------------------------------


def swept_back(plan, cell, w, g, dh, dc, ends):
    """Gradients of the inputs' and the state's share of all gates, and of the projection;
    dh, dc become the first states'.
    """
    kind, n = f"{stored(g)}, {MODES[plan.mode]}", samples(plan, g.itemsize)
    da, dy = np.empty_like(cell.gates), None
    du = np.empty_like(da) if plan.mode == "gru" else None
    saved, sizes = (
        (cell.gates, cell.h, cell.c, cell.n, ends, dh, dc, da, du),
        (np.int32(plan.batch), np.int32(plan.hidden)),
    )
    if n:
        room, args = shared(plan, n, g.itemsize)[1], (g, w["h2h"], *saved, np.int32(plan.steps))
        cells(f"sweep_back<{kind}, {n}>", *launch(plan, n), *args, *sizes, shared=room)
    elif plan.projected:
        dy = projected_back(plan, kind, w, g, dh, saved, sizes)
    elif each := units(plan, g.itemsize):
        meeting = np.zeros_like(g, shape=(1,), dtype="uint32")
        for first, last in reversed(spans(plan)):
            steps = meeting, *map(np.int32, (first, last, plan.steps))
            args = g, w["h2h"], *saved, *steps, *sizes
            persistent(f"persist_back<{kind}>", plan, each, g.itemsize, *args)
        dh += matmul((da if du is None else du)[0], w["h2h"])
    else:
        product = None
        for t in reversed(range(plan.steps)):
            args = g[t], product, *saved, np.int32(t)
            cells(f"cell_back<{kind}>", *launch(plan, 0), *args, *sizes)
            product = matmul((da if du is None else du)[t], w["h2h"])
        dh += product
    return da, da if du is None else du, dy


def projected_back(plan, kind, w, g, dh, saved, sizes):
    """The same with a projection: what comes to it, of all steps;
    the gradient of a state has its size.
    """
    da, total, dy = saved[7], dh, np.empty_like(g)
    zero = np.zeros_like(dh, shape=(plan.batch, plan.hidden))
    saved = *saved[:5], zero, *saved[6:]
    for t in reversed(range(plan.steps)):
        dy[t] = g[t] + total
        inner = matmul(dy[t], w["h2r"])
        cells(f"cell_back<{kind}>", *launch(plan, 0), inner, None, *saved, np.int32(t), *sizes)
        total = matmul(da[t], w["h2h"])
    dh[...] = total
    return dy


def weight_gradients(way, plan, cell, x, w, da, du, dy, into):
    """Gradients of one layer's weights, written to `into`, and of its inputs."""
    flat = lambda a: a.reshape(-1, a.shape[2])
    matmul(flat(da).T, flat(x), into["i2h"])
    matmul(flat(du).T, flat(cell.h[:-1]), into["h2h"])
    into["i2h_bias"][...] = sums = way.sums(flat(da))
    into["h2h_bias"][...] = sums if du is da else way.sums(flat(du))
    if plan.projected:
        matmul(flat(dy).T, flat(cell.y), into["h2r"])
    return matmul(flat(da), w["i2h"]).reshape(x.shape).astype(x.dtype, copy=False)


def backwards(way, plan, heads, arrays, lengths, memory, p):
    """Gradients of data, parameters and states, from those of the outputs."""
    x, parameters, *states = arrays
    _, outs, found, masks = kept(plan, memory, way.apart(plan, lengths), p > 0)
    packed, firsts = np.empty_like(parameters), [np.empty_like(s) for s in states]
    weights, into = unpacked(parameters, plan), unpacked(packed, plan)
    ends = None if lengths is None else lengths.astype("int32")
    x, g = blanked(x, lengths), blanked(heads[0], lengths)
    for layer in reversed(range(plan.layers)):
        below, total = outs[layer - 1] if layer else x, None
        if masks and layer:
            below = below * masks[layer - 1]
        for d in range(plan.directions):
            i, turn = layer * plan.directions + d, (lambda a, d=d: flipped(a, lengths) if d else a)
            last = [dense(h[i]).astype("float32") for h in heads[1:]] or [
                np.zeros_like(s[i], dtype="float32") for s in states
            ]
            dh, dc = (*last, None)[:2]
            gd = dense(turn(views(g, plan.directions)[d]))
            shares = way.swept_back(plan, found[i], weights[i], gd, dh, dc, ends)
            own = dense(turn(below))
            dx = turn(weight_gradients(way, plan, found[i], own, weights[i], *shares, into[i]))
            total = dx if total is None else total + dx
            for first, end in zip(firsts, (dh, dc)):
                first[i] = end
        g = total * masks[layer - 1] if masks and layer else total
    return (g, packed, *firsts)


# --- Code: the operator ---------------------------------------------------------------------------


class Card:
    """How a card does what differs from machine to machine."""

    swept, swept_back = staticmethod(swept), staticmethod(swept_back)

    @staticmethod
    def apart(plan, lengths):
        """Whether outputs are anything else than the states."""
        return plan.directions > 1 or lengths is not None

    @staticmethod
    def draw(layer, mask, p, rng):
        """Fill a layer's mask of dropout."""
        key = brought(lambda: drawn(rng, mask, key_law, (2,), "uint32"), mask)
        mask[...] = drop(np.ones_like(mask), key, p)

    @staticmethod
    def sums(d):
        """The sums of columns."""
        return d.sum(0, dtype="float32")


def suits(plan, data, lengths, limits):
    """Whether the kernels can do it."""
    known = stored(data) is not None and data.size and plan.hidden and plan.layers
    return known and limits[:2] == (None, None) and not (plan.projected and lengths)


LIMITS = "lstm_state_clip_min", "lstm_state_clip_max", "lstm_state_clip_nan"


@cuda(RNN)
def _(*arrays, p, rng, use_sequence_length, state_outputs, **settings):
    plan = Plan(arrays[0].shape, *(settings[k] for k in SIZES))
    limits = tuple(settings[k] for k in LIMITS)
    if not suits(plan, arrays[0], use_sequence_length, limits):
        return NotImplemented
    *given, lengths = told(list(arrays), plan, use_sequence_length)
    given = checked(plan, given, lengths)
    p = p if autograd.state.training else 0.0
    size = kept(plan, Size(), Card.apart(plan, lengths), p > 0)[0]
    memory = np.empty_like(given[0], shape=(size,))
    x, *last = forwards(Card, plan, [dense(a) for a in given], lengths, memory, p, rng)
    x = x if autograd.state.recording else x.copy()  # let go of what is not needed
    return (x, *last) if state_outputs else x


@cuda(rnn_derivative)
def _(*arrays, order, sizes, p, use_sequence_length, state_outputs, limits):
    *arrays, y = arrays
    lengths = arrays.pop().astype("int64") if use_sequence_length else None
    n, p = counts(sizes[0], state_outputs)[0], p if autograd.state.training else 0.0
    plan = Plan(arrays[-n].shape, *sizes)
    if order != 1 or not suits(plan, y, use_sequence_length, limits):
        return NotImplemented
    heads, own = arrays[:-n], checked(plan, arrays[-n:], lengths)
    memory = y.base
    size = kept(plan, Size(), Card.apart(plan, lengths), p > 0)[0]
    if memory is None or memory.shape != (size,) or stored(*heads, *own, y, memory) is None:
        return NotImplemented
    return backwards(Card, plan, heads, [dense(a) for a in own], lengths, memory, p)
