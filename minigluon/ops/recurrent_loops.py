"""One walk over memory where NumPy takes ten: the same operators as loops, compiled where there is a compiler."""

# Written from chapters/96h_loops.ipynb: edit the chapter, then run `minigluon export`.

import ctypes

import numpy as np

from minigluon import autograd
from minigluon.cores import MANY, alone, matmul, spread
from minigluon.kernels import dense
from minigluon.native import Loops, gemm, native
from minigluon.ops.recurrent_kernels import LIMITS, blanked, kept
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
    flipped,
    rnn_derivative,
    shares,
    slowly,
    told,
    unpacked,
    views,
)

__all__ = [
    "CACHED",
    "FIRST",
    "NOWHERE",
    "backwards",
    "by_all_cores",
    "divided",
    "fitting",
    "forwards",
    "in_rows",
    "last_gradients",
    "looped",
    "looped_back",
    "loops",
    "memory_of",
    "own",
    "sizes",
    "strided",
    "suits",
    "swept",
    "swept_back",
    "turned",
]


# --- Code: recurrent layers -----------------------------------------------------------------------

loops = Loops("rnn")


def strided(a):
    """An array (steps, rows, numbers) as a loop takes it:
    its beginning, the distances of steps and rows. `a` has to stay.
    """
    step, row, _ = a.strides
    return ctypes.c_void_p(a.ctypes.data), step // a.itemsize, row // a.itemsize


def in_rows(a):
    """`a`, if each row's numbers lie one beside the other and rows do not overlap; else a copy."""
    step, row, number = a.strides
    size = a.itemsize
    fits = number == size and row >= a.shape[2] * size and not (row % size or step % size)
    return a if fits else np.array(a, order="C")


NOWHERE = None, 0, 0  # no array
CACHED = 1 << 18  # numbers that a core's cache holds, at most, as in tiles.h


def by_all_cores(plan, a):
    """Whether a layer with such inputs has products for more cores than one, and these for itself."""
    work = plan.steps * plan.batch * plan.rows * max(a.shape[2], plan.hidden)
    return work >= MANY and alone.threads > 1


def fitting(plan, a):
    """`a` as a layer's products want it: by steps, or, for large weights and several cores,
    all in a row.
    """
    large = plan.rows * (a.shape[2] + plan.hidden) > CACHED
    return dense(a) if large or by_all_cores(plan, a) else in_rows(a)


def sizes(plan, x):
    """What every call begins with."""
    return gemm(), plan.steps, plan.batch, x.shape[2], plan.hidden


def swept(plan, cell, x, w, out, ends):
    """Fill what a layer keeps, whose first states are there, and its output.

    `ends`: lengths as int32, or None.
    """
    x, i2h, h2h, told = fitting(plan, x), dense(w["i2h"]), dense(w["h2h"]), sizes(plan, x)
    work = np.empty_like(x, shape=(plan.rows * (plan.hidden + x.shape[2] + 1 + plan.batch),))
    if several := by_all_cores(plan, x):
        matmul(x.reshape(-1, x.shape[2]), i2h.T, cell.gates.reshape(-1, plan.rows))
    weights = i2h, h2h, dense(w["i2h_bias"]), dense(w["h2h_bias"])
    own = cell.gates, cell.h, cell.c, cell.n
    given = NOWHERE if several else strided(x)
    loops(plan.mode, *told, *given, *weights, *own, *strided(out), ends, work)


def swept_back(plan, cell, x, w, g, dh, dc, dx, into, ends):
    """Fill the gradients of a layer's inputs and, `into`, of its weights;
    dh, dc become the first states'.
    """
    x, to, g = fitting(plan, x), fitting(plan, dx), in_rows(g)
    i2h, h2h, d = dense(w["i2h"]), dense(w["h2h"]), np.empty_like(cell.gates)
    du = np.empty_like(d) if plan.mode == "gru" else d
    work = np.empty_like(x, shape=(2 * plan.rows + max(256, plan.batch) * x.shape[2],))
    given = *sizes(plan, x), *strided(x), i2h, h2h, cell.gates, cell.h, cell.c, cell.n
    products = *strided(to), into["i2h"], into["h2h"]
    if several := by_all_cores(plan, x):
        products = *NOWHERE, None, None
    found = *strided(g), dh, dc, d, du, *products, into["i2h_bias"], into["h2h_bias"]
    loops(f"{plan.mode}_back", *given, *found, ends, work)
    if several:
        flat = lambda a: a.reshape(-1, a.shape[2])
        matmul(flat(d).T, flat(x), into["i2h"])
        matmul(flat(du).T, flat(cell.h[:-1]), into["h2h"])
        matmul(flat(d), i2h, flat(to))
    if to is not dx:
        dx[...] = to


FIRST = 2 * HEAD  # numbers before the output: the first one is the number of parts


def divided(plan, memory, dropout, count=1):
    """The size of a call's memory, its output and masks, and of each part samples, sizes and memory."""
    slab, wide = Slab(memory), (plan.steps, plan.batch, plan.directions * plan.recurrent)
    slab.cut(FIRST)
    out = slab.cut(*wide)
    masks = [slab.cut(*wide) for _ in range(plan.layers - 1)] if dropout else []
    parts = [
        (at, part, slab.cut(kept(part, Size(), True, False)[0])) for at, part in plan.cut(count)
    ]
    return slab.at, out, masks, parts


def looped(plan, arrays, lengths, p, rng):
    """The operator: the output and the last states."""
    memory = np.empty_like(arrays[0], shape=(divided(plan, Size(), p > 0)[0],))
    memory[0] = count = shares(plan)
    _, out, masks, parts = divided(plan, memory, p > 0, count)
    for mask in masks:
        drop(mask, p, rng)
    last = [np.empty_like(s) for s in arrays[2:]]
    spread(lambda item: forwards(*item, arrays, lengths, masks, out, last), parts)
    return (out, *last)


def turned(a, lengths):
    """Sequences backwards in time: a view if they have one length."""
    return a[::-1] if lengths is None else flipped(a, lengths)


def own(arrays, at, lengths):
    """A part's data, with zeros behind the ends, its lengths, and the same for loops."""
    if lengths is None:
        return arrays[0][:, at], None, None
    lengths = lengths[at]
    return blanked(arrays[0][:, at], lengths), lengths, lengths.astype("int32")


def forwards(at, plan, memory, arrays, lengths, masks, out, last):
    """All layers for the samples `at`, in `memory`, which keeps everything;
    fills their output and last states.
    """
    _, parameters, *states = arrays
    x, lengths, ends = own(arrays, at, lengths)
    _, outs, found, _ = kept(plan, memory, True, False)
    outs[-1] = out[:, at]
    for i, (cell, w) in enumerate(zip(found, unpacked(parameters, plan))):
        layer, d = divmod(i, plan.directions)
        for kind, state in zip((cell.h, cell.c), states):
            kind[0] = state[i, at]
        to = views(outs[layer], plan.directions)[d]
        if not d:
            swept(plan, cell, x, w, to, ends)
        elif lengths is None:
            swept(plan, cell, x[::-1], w, to[::-1], None)
        else:
            back = np.empty_like(cell.h[1:])
            swept(plan, cell, turned(x, lengths), w, back, ends)
            to[...] = turned(back, lengths)
        for kind, whole in zip((cell.h, cell.c), last):
            whole[i, at] = kind[-1]
        if d == plan.directions - 1:
            x = outs[layer]
            x = x * masks[layer][:, at] if layer < len(masks) else x


def looped_back(plan, heads, arrays, lengths, memory, p):
    """Gradients of data, parameters and states, from those of the outputs."""
    x, _, *states = arrays
    _, _, masks, parts = divided(plan, memory, p > 0, int(memory[0]))
    dx, firsts = np.empty_like(x, order="C"), [np.empty_like(s) for s in states]
    run = lambda item: backwards(*item, heads, arrays, lengths, masks, dx, firsts)
    packed, *more = spread(run, parts)
    for share in more:
        packed += share
    return (dx, packed, *firsts)


def backwards(at, plan, memory, heads, arrays, lengths, masks, dx, firsts):
    """The parameters' gradient by the samples `at`; fills those of their data and first states."""
    _, parameters, *states = arrays
    x, lengths, ends = own(arrays, at, lengths)
    _, outs, found, _ = kept(plan, memory, True, False)
    packed, g = np.empty_like(parameters), heads[0][:, at]
    weights, into = unpacked(parameters, plan), unpacked(packed, plan)
    for layer in reversed(range(plan.layers)):
        below = outs[layer - 1] if layer else x
        if masks and layer:
            below = below * masks[layer - 1][:, at]
        total = np.empty_like(below) if layer else dx[:, at]
        for d, gd in enumerate(views(g, plan.directions)):
            i, to = layer * plan.directions + d, np.empty_like(below, order="C") if d else total
            ways = [turned(a, lengths) for a in (below, gd)] if d else (below, gd)
            dh, dc = (*last_gradients(heads, states, i, at), None)[:2]
            swept_back(plan, found[i], ways[0], weights[i], ways[1], dh, dc, to, into[i], ends)
            if d:
                total += turned(to, lengths)
            for first, end in zip(firsts, (dh, dc)):
                first[i, at] = end
        g = total * masks[layer - 1][:, at] if masks and layer else total
    return packed


def last_gradients(heads, states, i, at):
    """Gradients of a layer's last states, in memory of their own."""
    return [h[i, at].copy() for h in heads[1:]] or [np.zeros_like(s[i, at]) for s in states]


def suits(plan, arrays, limits):
    """Whether the loops can do it: single precision, no projection, and states without limits."""
    plainly = (
        limits[:2] == (None, None)
        and not plan.projected
        and plan.steps
        and plan.batch
        and plan.inputs
    )
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
