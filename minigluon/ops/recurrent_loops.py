"""One walk over memory where NumPy takes ten: the same operators as loops, compiled where there is a compiler."""

# Written from chapters/96h_loops.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon import autograd
from minigluon.cores import matmul, spread
from minigluon.kernels import dense
from minigluon.native import Loops, gemm, native
from minigluon.ops.recurrent_kernels import LIMITS, backwards, forwards, kept
from minigluon.ops.reduce import column_sums
from minigluon.ops.rnn import (
    HEAD,
    RNN,
    SIZES,
    Plan,
    Size,
    Slab,
    checked,
    counts,
    drop,
    pieces,
    rnn_derivative,
    shares,
    slowly,
    told,
)

__all__ = [
    "FIRST",
    "Host",
    "divided",
    "looped",
    "looped_back",
    "loops",
    "memory_of",
    "part_of",
    "suits",
]


# --- Code: recurrent layers -----------------------------------------------------------------------

loops = Loops("rnn")


class Host:
    """How a processor does what differs from machine to machine; `masks`, one a layer, have been drawn."""

    def __init__(self, masks):
        self.masks = masks

    def apart(self, plan, lengths):
        """Outputs are never the states themselves: who writes into them must not change what backwards reads."""
        return True

    def draw(self, layer, mask, p, rng):
        """Fill a layer's mask of dropout."""
        mask[...] = self.masks[layer]

    def sums(self, d):
        """The sums of columns."""
        return column_sums(d)

    def swept(self, plan, cell, x, w, ends):
        """Fill what a layer keeps; its first states are there. `ends`: lengths as int32, or None."""
        matmul(x.reshape(-1, x.shape[2]), w["i2h"].T, cell.gates.reshape(-1, plan.rows))
        h, weight, work = plan.hidden, w["h2h"].T.copy(), None
        bias, own = w["i2h_bias"] + w["h2h_bias"], w["h2h_bias"][2 * h :].copy()
        if plan.mode == "gru":  # the state's bias of n belongs to the state's share
            bias[2 * h :], work = w["i2h_bias"][2 * h :], np.empty_like(cell.gates[0])
        sizes = plan.steps, plan.batch, h, pieces(plan.batch, h, plan.rows)
        kept = cell.gates, weight, bias, own, cell.h, cell.c, cell.n
        loops(plan.mode, gemm(), *sizes, *kept, work, ends)

    def swept_back(self, plan, cell, w, g, dh, dc, ends):
        """Gradients of the inputs' and the state's share of all gates; dh, dc become the first states'."""
        da = np.empty_like(cell.gates)
        du = np.empty_like(da) if plan.mode == "gru" else da
        sizes = plan.steps, plan.batch, plan.hidden, pieces(plan.batch, plan.rows, plan.hidden)
        kept = cell.gates, dense(w["h2h"]), cell.h, cell.c, cell.n
        loops(plan.mode + "_back", gemm(), *sizes, *kept, g, dh, dc, da, du, ends)
        return da, du, None


FIRST = 2 * HEAD  # numbers before the output: the first one is the number of parts


def divided(plan, memory, dropout, count=1):
    """The size of a call's memory, its output and masks, and of each part samples, sizes and memory."""
    slab, wide = Slab(memory), (plan.steps, plan.batch, plan.directions * plan.recurrent)
    slab.cut(FIRST)
    out = slab.cut(*wide)
    masks = [slab.cut(*wide) for _ in range(plan.layers - 1)] if dropout else []
    parts = [
        (at, part, slab.cut(kept(part, Size(), True, dropout)[0])) for at, part in plan.cut(count)
    ]
    return slab.at, out, masks, parts


def part_of(arrays, at):
    """Some samples of the batch, of arrays (steps or layers, batch, ...)."""
    return [dense(a[:, at]) for a in arrays]


def looped(plan, arrays, lengths, p, rng):
    """The operator: the output and the last states."""
    x, parameters, *states = arrays
    memory = np.empty_like(x, shape=(divided(plan, Size(), p > 0)[0],))
    memory[0] = count = shares(plan)
    _, out, masks, parts = divided(plan, memory, p > 0, count)
    for mask in masks:
        drop(mask, p, rng)
    last = [np.empty_like(s) for s in states]

    def run(item):
        at, part, memory = item
        data, *first = part_of([x, *states], at)
        way, own = Host(part_of(masks, at)), None if lengths is None else lengths[at]
        found = forwards(way, part, [data, parameters, *first], own, memory, p, rng)
        for whole, piece in zip([out, *last], found):
            whole[:, at] = piece

    spread(run, parts)
    return (out, *last)


def looped_back(plan, heads, arrays, lengths, memory, p):
    """Gradients of data, parameters and states, from those of the outputs."""
    x, parameters, *states = arrays
    *_, parts = divided(plan, memory, p > 0, int(memory[0]))
    dx, firsts = np.empty_like(x), [np.empty_like(s) for s in states]

    def run(item):
        at, part, memory = item
        data, *first = part_of([x, *states], at)
        own, mine = None if lengths is None else lengths[at], part_of(heads, at)
        found = backwards(Host([]), part, mine, [data, parameters, *first], own, memory, p)
        for whole, piece in zip([dx, *firsts], [found[0], *found[2:]]):
            whole[:, at] = piece
        return found[1]

    packed, *more = spread(run, parts)
    for share in more:
        packed += share
    return (dx, packed, *firsts)


def suits(plan, arrays, limits):
    """Whether the loops can do it: single precision, no projection, and states without limits."""
    plainly = limits[:2] == (None, None) and not plan.projected and plan.steps and plan.batch
    single = all(a.dtype.char == "f" for a in arrays)
    return plainly and single and plan.hidden and plan.layers and gemm() and loops


@native(RNN)
def _(*arrays, p, rng, use_sequence_length, state_outputs, **settings):
    plan = Plan(arrays[0].shape, *(settings[k] for k in SIZES))
    *given, lengths = told(list(arrays), plan, use_sequence_length)
    if not suits(plan, given, tuple(settings[k] for k in LIMITS)):
        return NotImplemented
    p = p if autograd.state.training else 0.0
    x, *last = looped(plan, checked(plan, given, lengths), lengths, p, rng)
    x = x if autograd.state.recording else x.copy()  # let go of what is not needed
    return (x, *last) if state_outputs else x


@native(rnn_derivative)
def _(*arrays, order, sizes, p, use_sequence_length, state_outputs, limits):
    *given, y = arrays
    lengths = given.pop().astype("int64") if use_sequence_length else None
    (n, m), p = counts(sizes[0], state_outputs), p if autograd.state.training else 0.0
    plan = Plan(given[-n].shape, *sizes)
    if not suits(plan, given, limits) or (memory := memory_of(y, plan, p > 0)) is None:
        return NotImplemented
    above, own = given[:-n], checked(plan, given[-n:], lengths)
    if order == 1:
        return looped_back(plan, above, own, lengths, memory, p)
    masks = divided(plan, memory, True)[2] if p > 0 else None
    return slowly(order, plan, [*above, *own], lengths, masks, limits, n, m)


def memory_of(y, plan, dropout):
    """The memory of a call with the output `y`; None if the loops did not make it."""
    memory, size = y.base, divided(plan, Size(), dropout)[0]
    if type(memory) is not np.ndarray or memory.shape != (size,) or memory.dtype != y.dtype:
        return None
    return memory if memory[FIRST:].ctypes.data == y.ctypes.data else None
