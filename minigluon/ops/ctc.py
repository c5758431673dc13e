"""When nobody says which frame of a recording is which letter, sum over all the ways it could have been."""

# Written from chapters/51_ctc.ipynb: edit the chapter, then run `minigluon export`.

import warnings

import numpy as np

from minigluon.base import MXNetError
from minigluon.context import current_context
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import operator
from minigluon.ops.derivatives import derived, outputs_of
from minigluon.ops.elementwise import exp, log, maximum
from minigluon.ops.indexing import pick, where
from minigluon.ops.linalg import batch_dot
from minigluon.ops.pieces import concat
from minigluon.ops.reduce import log_softmax

__all__ = [
    "CTCLoss",
    "FAR",
    "LONGEST",
    "SMALLEST",
    "both_ways",
    "by_factors",
    "by_logs",
    "ctc_derivative",
    "further",
    "jumps",
    "lengths_in",
    "merged",
    "places",
    "plain",
    "prepared",
    "read",
    "scaled_sweep",
    "slowly",
    "solve",
    "states_of",
    "subtract_shares",
    "sweep",
    "told",
    "turned",
    "waiting",
    "warn_of",
    "whole",
]


# --- States, and what is never --------------------------------------------------------------------

FAR = -1e30  # the logarithm of what is never: finite, so that differences of it are numbers


def states_of(label, blank):
    """Labels (N, L) with blanks before, between and behind: (N, 2L + 1)."""
    out = np.full_like(label, blank, shape=(len(label), 2 * label.shape[1] + 1))
    out[:, 1::2] = label
    return out


def jumps(states, blank):
    """What it costs to come to a state from two before: nothing, or FAR. (N, S)"""
    out = np.full_like(states, FAR, dtype="float64")
    here, before = states[:, 2:], states[:, :-2]
    out[:, 2:] = np.where((here != blank) & (here != before), 0, FAR)
    return out


def read(logp, states, last, inside):
    """Log-probability of each state at each step, (T, N, S);
    ended sequences wait in their last state.
    """
    rows = np.arange(len(states), like=states)[:, None]
    found = logp[:, rows, states].astype("float64")
    found = np.maximum(found, FAR)
    if inside is None:
        return found
    return np.where(inside[:, :, None], found, waiting(states, last))


def waiting(states, last):
    """0 in the last state of each sequence, FAR elsewhere: (N, S)."""
    here = np.arange(states.shape[1], like=states) == last[:, None]
    return np.where(here, np.zeros_like(last, dtype="float64")[:, None], FAR)


# --- The sweep ------------------------------------------------------------------------------------


def sweep(steps, jump, start):
    """Log-probabilities of all walks from `start`, (N, S), after each of the steps: (T + 1, N, S)."""
    t, n, s = steps.shape
    size = n * (s + 2)
    found = np.full_like(steps, FAR, shape=(t + 1, 2 + size))
    rows = found[:, 2:].reshape(t + 1, n, s + 2)
    rows[0, :, 2:] = start
    wide = np.full_like(steps, FAR, shape=(t + 1, n, s + 2))
    wide[:t, :, 2:], wide[t, :, 2:] = steps, jump
    wide = wide.reshape(t + 1, size)
    three = np.empty_like(steps, shape=(3, size))
    stay, move, far = three[0], three[1], three[2]
    top = np.empty_like(stay)
    for before, after, step in zip(found, found[1:], wide):
        here, one = before[2:], before[1:-1]
        np.add(before[:-2], wide[t], out=far)
        np.maximum(here, one, out=top)
        np.maximum(top, far, out=top)
        np.subtract(here, top, out=stay)
        np.subtract(one, top, out=move)
        far -= top
        np.maximum(three, -700, out=three)
        np.exp(three, out=three)
        stay += move
        stay += far
        np.log(stay, out=stay)
        stay += top
        np.add(stay, step, out=after[2:])
    return rows[:, :, 2:]


def turned(steps, states, last, blank):
    """Steps, costs of jumps and starts of both sweeps, from the start and from the end, side by side."""
    n, jump = len(states), jumps(states, blank)
    back = np.full_like(jump, FAR)  # a jump to s from s + 2 costs what one from s to s + 2 does
    back[:, 2:] = jump[:, ::-1][:, :-2]
    start = np.full_like(steps, FAR, shape=(2 * n, states.shape[1]))
    start[:n, 0] = 0
    start[n:] = waiting(states, last)[:, ::-1]
    both = np.concatenate([steps, steps[::-1, :, ::-1]], axis=1)
    return both, np.concatenate([jump, back]), start


def both_ways(steps, states, last, blank):
    """The sweep from the start and the one from the end, in one: alpha and beta, (T + 1, N, S) each."""
    n, found = len(states), sweep(*turned(steps, states, last, blank))
    return found[:, :n], found[::-1, n:, ::-1]


def by_logs(logp, states, last, inside, blank):
    """Log-probabilities of the labels, (N,), and the shares of walks in each place, (T, N, S)."""
    steps = read(logp, states, last, inside)
    alpha, beta = both_ways(steps, states, last, blank)
    rows = np.arange(len(states), like=states)
    end, short = alpha[-1, rows, last], alpha[-1, rows, np.maximum(last - 1, 0)]
    total = np.logaddexp(end, np.where(last > 0, short, FAR))
    share = alpha[1:] + beta[:-1] - steps
    share -= total[:, None]
    return total, np.exp(np.clip(share, -700, 0, out=share), out=share)


# --- Without logarithms ---------------------------------------------------------------------------

SMALLEST, LONGEST = 1e-200, 1300  # bounds within which probabilities have lost nothing


def scaled_sweep(steps, jump, start):
    """The sweep without logarithms: sums before each of the steps, (T, N, S), after all,
    and logs of their scales.
    """
    t, n, s = steps.shape
    wide = np.zeros_like(steps, shape=(t + 1, n, s + 2), order="C")
    wide[:t, :, 2:], wide[t, :, 2:] = steps, np.exp(jump)
    found = np.empty_like(wide[:t], order="C")
    after = np.zeros_like(steps, shape=2 + n * (s + 2))
    rows, flat = after[2:].reshape(n, s + 2), wide.reshape(t + 1, -1)
    rows[:, 2:], scale, may = np.exp(start), np.zeros_like(steps, shape=n), flat[t]
    far, one, here = np.empty_like(may), after[1:-1], after[2:]
    for i, before, step in zip(range(t), found.reshape(t, -1), flat):
        np.multiply(after[:-2], may, out=far)
        np.add(here, one, out=before)
        before += far
        np.multiply(before, step, out=here)
        if i % 16 == 15:
            top = rows.max(axis=1)
            top = np.where(top > 0, top, 1)
            rows /= top[:, None]
            scale += np.log(top)
    return found[:, :, 2:], rows[:, 2:], scale


def by_factors(e, norms, states, last, inside, blank):
    """What `by_logs` returns, and for which samples it is sure;
    e: (T, N, C), which `norms`, (T, N), make probabilities.
    """
    n, norms = len(states), np.log(norms)
    steps = e.reshape(len(e), -1).take(places(states, e), axis=1)
    if inside is not None:
        waits = np.arange(states.shape[1], like=states) == last[:, None]
        steps, norms = np.where(inside[:, :, None], steps, waits), np.where(inside, norms, 0)
    found, after, scale = scaled_sweep(*turned(steps, states, last, blank))
    share = np.multiply(found[:, :n], steps, out=steps)
    share *= found[::-1, n:, ::-1]
    each = share.sum(axis=2)
    share /= np.where(each > 0, each, 1)[:, :, None]
    ends = np.arange(states.shape[1], like=states) - last[:, None]
    end = np.where((ends == 0) | (ends == -1), after[:n], 0).sum(axis=1)
    reached = np.log(np.where(end > 0, end, 1)) + scale[:n]
    sure = (each.min(axis=0) > SMALLEST) & (1.1 * len(e) - reached < LONGEST)
    return reached - norms.sum(axis=0), share, sure


# --- Loss and gradient ----------------------------------------------------------------------------


def solve(z, states, last, inside, blank):
    """Losses (N,) and their gradient, (T, N, C), for logits z."""
    centred = z - z.max(axis=2, keepdims=True)
    e = np.exp(centred.astype("float64", order="C"))  # written to through a flat view, below
    norms = e.sum(axis=2)
    totals, share, sure = by_factors(e, norms, states, last, inside, blank)
    if not sure.all():
        hard = np.flatnonzero(~sure)
        logp = centred[:, hard] - np.log(norms[:, hard, None])
        ended = None if inside is None else inside[:, hard]
        totals[hard], share[:, hard] = by_logs(logp, states[hard], last[hard], ended, blank)
    never = totals < FAR / 2
    e /= norms[:, :, None]
    subtract_shares(e, share, states, blank)
    g = e.astype(z.dtype, copy=False)
    if inside is not None:
        g = np.where(inside[:, :, None], g, 0)
    if never.any():
        g = np.where(never[:, None], 0, g)
    return np.where(never, np.inf, -totals), g


def subtract_shares(g, share, states, blank):
    """Take the shares of the states from the letters that stand in them, in place."""
    letters, flat = states[:, 1::2], g.reshape(len(g), -1)
    same = (letters[:, :, None] == letters[:, None, :]).astype("float64")
    share_of = np.matmul(share[:, :, 1::2].swapaxes(0, 1), same).swapaxes(0, 1)
    at = places(letters, g)
    flat[:, at] = flat.take(at, axis=1) - share_of
    g[:, :, blank] -= share[:, :, ::2].sum(axis=2)


def places(states, like):
    """Where the classes of the states stand in a row of all samples' classes, (N, S);
    `like`: (T, N, C).
    """
    return np.arange(len(states), like=states)[:, None] * like.shape[2] + states


# --- What comes in --------------------------------------------------------------------------------


def told(arrays, use_data_lengths, use_label_lengths):
    """Label, lengths of data and lengths of labels, None where all counts; given in a row."""
    given, wanted = [a for a in arrays if a is not None], 1 + use_data_lengths + use_label_lengths
    if len(given) != wanted:
        raise ValueError(f"expecting {wanted + 1} arrays, but got {len(given) + 1}")
    label, *lengths = given
    own = lengths.pop(0) if use_data_lengths else None
    return label, own, lengths.pop() if use_label_lengths else None


def whole(a, low, high, what):
    """An array of whole numbers between two bounds, as int64."""
    found = a.astype("int64")
    wrong = (found != a) | (found < low) | (found > high)
    if wrong.any():
        raise MXNetError(f"{what} {a[wrong].ravel()[0]} is not a whole number from {low} to {high}")
    return found


def lengths_in(lengths, batch, most, what):
    """Lengths of a batch, checked; None stays None."""
    if lengths is None:
        return None
    if lengths.shape != (batch,):
        raise ValueError(f"{what}_lengths of shape {lengths.shape}: expecting {(batch,)}")
    return whole(lengths, 0, most, f"{what} length")


def prepared(data, label, own, label_lengths, blank_label):
    """States (N, S), the last one of each (N,), where sequences are (T, N) or None, and the blank."""
    if blank_label not in ("first", "last"):
        raise ValueError(f"blank_label is 'first' or 'last', not {blank_label!r}")
    if data.ndim != 3 or label.ndim != 2 or len(label) != data.shape[1]:
        raise ValueError(
            f"data of shape {data.shape} is (steps, batch, classes), and label {label.shape} "
            "(batch, labels)"
        )
    steps, batch, classes = data.shape
    blank = 0 if blank_label == "first" else classes - 1
    own = lengths_in(own, batch, steps, "data")
    label_lengths = lengths_in(label_lengths, batch, label.shape[1], "label")
    place = np.arange(label.shape[1], like=label)
    if label_lengths is None:
        pads = (label == -1) | ((label == 0) & (blank == 0))
        label_lengths = np.where(pads, place, label.shape[1]).min(axis=1)
    label = np.where(place < label_lengths[:, None], label, blank)
    label = whole(label, 0, classes - 1, "label")
    inside = None if own is None else np.arange(steps, like=own)[:, None] < own
    return states_of(label, blank), 2 * label_lengths, inside, blank


def warn_of(losses, last, own, steps):
    """Say which sequences are too short, unless the caller has silenced divisions by zero."""
    for i in np.flatnonzero(np.isinf(losses)).tolist():
        here = steps if own is None else int(own[i])
        warnings.warn(
            f"CTCLoss: the label of sample {i}, {int(last[i]) // 2} long, does not fit into its "
            f"{here} steps (equal neighbours need a blank between): its loss is infinite, "
            "its gradient 0",
            RuntimeWarning,
            stacklevel=2,
        )


# --- Derivatives of any order ---------------------------------------------------------------------


def plain(data, letters, jump, start, ends, inside, last):
    """The losses as their definition says, in operators. letters: (N, C, S), which stands where."""
    z = log_softmax(data).transpose((1, 0, 2))
    steps = batch_dot(z, letters).transpose((1, 0, 2))
    if inside is not None:
        steps = where(inside, steps, ends)
    found, edge = start, start[:, :2] * 0 + FAR
    for t in range(data.shape[0]):
        wide = concat(edge, found, dim=1)
        found = merged(found, wide[:, 1:-1], wide[:, :-2] + jump) + steps[t]
    short = where(last > 0, pick(found, maximum(last - 1, 0)), last * 0 + FAR)
    total = merged(pick(found, last), short, short * 0 + FAR)
    return where(total > FAR / 2, -total, total * 0 + float("inf"))


def merged(a, b, c):
    """The logarithm of the sum of three exponentials."""
    top = maximum(maximum(a, b), c)
    return log(exp(a - top) + exp(b - top) + exp(c - top)) + top


def slowly(order, arrays, states, last, inside, blank):
    """A derivative by the tape, through the definition."""
    ctx, like = current_context(), arrays[-1]
    wrap = lambda a: NDArray(a.astype(like.dtype), ctx)
    letters = states[:, None, :] == np.arange(like.shape[2], like=states)[:, None]
    start = np.full_like(states, FAR, dtype=like.dtype)
    start[:, 0] = 0
    seen = None
    if inside is not None:
        seen = wrap(np.broadcast_to(inside[:, :, None], (*inside.shape, states.shape[1])))
    ends = np.broadcast_to(waiting(states, last), (len(like), *states.shape))
    known = [wrap(a) for a in (letters, jumps(states, blank), start, ends)]
    arrays = [NDArray(a, ctx) for a in arrays]
    for a in arrays:
        a.attach_grad()
    f = lambda data: [plain(data, *known, seen, wrap(last))]
    return tuple(a._data for a in derived(f, order, arrays, 1, 1))


# --- The operator ---------------------------------------------------------------------------------


@operator(aliases=("ctc_loss", "contrib_CTCLoss", "contrib_ctc_loss"), same_dtype=False)
def CTCLoss(
    data,
    label,
    data_lengths=None,
    label_lengths=None,
    /,
    use_data_lengths=False,
    use_label_lengths=False,
    blank_label="first",
):
    """Minus the log-probability that a sequence reads as its label, however the label lies in time.

    data: (steps, batch, classes), logits; label: (batch, labels), padded with 0 if class 0 is the
    blank (blank_label='first'), with -1 if the last one is ('last'). data_lengths, label_lengths:
    (batch,), with use_data_lengths, use_label_lengths. Output (batch,); infinite, with a warning
    and a gradient of 0, where a label does not fit. Graves et al. 2006, "Connectionist temporal
    classification".
    """
    label, own, of_labels = told(
        [label, data_lengths, label_lengths], use_data_lengths, use_label_lengths
    )
    states, last, inside, blank = prepared(data, label, own, of_labels, blank_label)
    z = data.astype(np.promote_types(data.dtype, "float32"), copy=False)
    losses, g = solve(z, states, last, inside, blank)
    if np.geterr()["divide"] != "ignore" and np.isinf(losses).any():
        warn_of(losses, last, own, len(data))
    return losses.astype(data.dtype), g.astype(data.dtype, copy=False)


CTCLoss.visible, CTCLoss.outputs = 1, ["output0"]  # so MXNet calls it, and hides the second one
CTCLoss.inputs = lambda use_data_lengths, use_label_lengths, **_: [
    "data",
    "label",
    *["data_lengths"] * bool(use_data_lengths),
    *["label_lengths"] * bool(use_label_lengths),
]


@operator(same_dtype=False, listed=False)
def ctc_derivative(
    *arrays, order, use_data_lengths=False, use_label_lengths=False, blank_label="first"
):
    """The derivative of `CTCLoss` of an order: its heads, data, label, lengths, and the gradient."""
    count = outputs_of(order, 1, 1) + (outputs_of(order - 1, 1, 1) if order else 0)
    *arrays, gradient = arrays
    own, others = arrays[:count], arrays[count:]
    if order == 1:
        return (own[0][:, None] * gradient,)
    label, lengths, of_labels = told(others, use_data_lengths, use_label_lengths)
    found = prepared(own[-1], label, lengths, of_labels, blank_label)
    return slowly(order, own, *found)


def further(g, y, *arrays, order, **settings):
    """The rule of a derivative: the derivative of the next order."""
    g = list(g) if isinstance(g, list | tuple) else [g]
    shares = ctc_derivative(*g, *arrays, order=order + 1, **settings)
    return [*shares, *[None] * (len(arrays) - len(shares))]


ctc_derivative.rules = further
ctc_derivative.outputs = lambda number, order, **_: outputs_of(order, 1, 1)


@CTCLoss.vjp
def _(g, y, data, *others, **settings):
    g = g[0] if isinstance(g, list | tuple) else g
    given = [a for a in others if a is not None]
    share = ctc_derivative(g, data, *given, y[1], order=1, **settings)
    share = share[0] if isinstance(share, list | tuple) else share
    return [share, *[None] * len(others)]
