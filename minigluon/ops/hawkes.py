"""A Hawkes process remembers all that has happened in one number that fades, and so does its gradient, backwards."""

# Written from chapters/51b_hawkes.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.op import operator
from minigluon.ops.elementwise import exp, log
from minigluon.ops.pieces import concat, slice_axis
from minigluon.ops.reduce import sum
from minigluon.ops.shape import expand_dims

__all__ = ["Process", "contrib_hawkesll", "faded", "faded_back", "kinds", "moved", "require_shapes"]


# --- Fading ---------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, x, ahead: moved(g, ahead=not ahead),), listed=False)
def moved(data, /, ahead=False):
    """What stood one step before along axis 1, or one step ahead; 0 where there is nothing."""
    out = np.zeros_like(data)
    if ahead:
        out[:, :-1] = data[:, 1:]
    else:
        out[:, 1:] = data[:, :-1]
    return out


@operator(vjp=lambda g, y, d, b, ahead: faded_back(g, y, d, b, ahead), listed=False)
def faded(decay, added, /, ahead=False):
    """s_j = decay_j (s_{j-1} + added_j) along axis 1, from s = 0 on;
    `ahead`: from the end to the start.
    """
    out, s = np.empty_like(added), np.zeros_like(added[:, 0])
    steps = range(added.shape[1])
    for j in reversed(steps) if ahead else steps:
        out[:, j] = s = decay[:, j] * (s + added[:, j])
    return out


def faded_back(g, y, decay, added, ahead=False):
    """The gradients of both arrays of `faded`: its own recurrence, the other way."""
    by_added = faded(decay, g, ahead=not ahead)
    by_decay = (moved(by_added, ahead=not ahead) + g) * (moved(y, ahead=ahead) + added)
    return by_decay, by_added


# --- Events ---------------------------------------------------------------------------------------


def require_shapes(mu, alpha, beta, state, lags, marks, valid_length, max_time):
    """ValueError for arrays that do not fit each other."""
    if mu.ndim != 2 or lags.ndim != 2:
        raise ValueError(
            f"lda is (batch, kinds), lags (batch, events), not {mu.shape}, {lags.shape}"
        )
    n, k = mu.shape
    wanted = {"alpha": (alpha, (k,)), "beta": (beta, (k,)), "state": (state, (n, k))}
    wanted |= {"lags": (lags, (n, lags.shape[1])), "marks": (marks, lags.shape)}
    wanted |= {"valid_length": (valid_length, (n,)), "max_time": (max_time, (n,))}
    for name, (a, shape) in wanted.items():
        if a.shape != shape:
            raise ValueError(f"{name} needs the shape {shape} here, not {a.shape}")


@operator(vjp=(None, None, None), same_dtype=False, listed=False)
def kinds(marks, valid_length, like, /):
    """1 where event j of a sequence counts and is of kind k, else 0: (batch, events, kinds);
    like: (batch, kinds).
    """
    most, count = marks.shape[1], like.shape[1]
    if (valid_length < 0).any() or (valid_length > most).any():
        raise ValueError(f"valid_length: from 0 to {most}, not {valid_length.tolist()}")
    inside = np.arange(most, like=marks) < valid_length[:, None]
    wrong = inside & ((marks < 0) | (marks >= count))
    if wrong.any():
        raise ValueError(f"mark {marks[wrong][0]} is none of the {count} kinds, 0 to {count - 1}")
    hot = inside[:, :, None] & (marks[:, :, None] == np.arange(count, like=marks))
    return hot.astype(like.dtype)


# --- Likelihood -----------------------------------------------------------------------------------


class Process:
    """The gaps, memories and rates of sequences of events: what value and gradient have in common."""

    def __init__(self, mu, alpha, beta, state, lags, marks, valid_length, max_time):
        self.hot = kinds(marks, valid_length, mu)
        self.inside = sum(self.hot, axis=2)
        lags = lags * self.inside
        rest = max_time - sum(lags, axis=1)
        self.gaps = expand_dims(concat(lags, expand_dims(rest, axis=1), dim=1), axis=2)
        self.added = concat(expand_dims(state, axis=1), self.hot, dim=1)
        self.decay = exp(0 - self.gaps * beta)
        self.memory = faded(self.decay, self.added)
        self.before = slice_axis(self.memory, axis=1, begin=0, end=-1)  # each event
        self.end = sum(slice_axis(self.memory, axis=1, begin=-1, end=None), axis=1)
        rates = expand_dims(mu, axis=1) + self.before * (alpha * beta)
        outside = 1 - self.inside  # so that those who do not count give log 1
        self.rate = sum(rates * self.hot, axis=2) + outside
        self.lost = state + sum(self.hot, axis=1) - self.end

    def likelihood(self, mu, alpha, max_time):
        """The sum of the logarithms of rates, less the rates' integral: (batch,)."""
        integral = expand_dims(max_time, axis=1) * mu + self.lost * alpha
        return sum(log(self.rate), axis=1) - sum(integral, axis=1)


@operator(same_dtype=False, aliases=("_contrib_hawkesll",))
def contrib_hawkesll(lda, alpha, beta, state, lags, marks, valid_length, max_time, /):
    """The log-likelihood of sequences of events whose kinds excite themselves,
    and the memories at the end.

    lda: (batch, kinds), the rates without events; alpha, beta: (kinds,), how many events one
    brings, and how fast its effect fades; state: (batch, kinds), memories at the start; lags:
    (batch, events), time since the event before; marks: (batch, events), their kinds, whole
    numbers; valid_length: (batch,), how many events count; max_time: (batch,), until when they were
    watched. Outputs (batch,) and (batch, kinds). Source: Bacry, Mastromatteo and Muzy, Hawkes
    processes in finance, 2015.
    """
    require_shapes(lda, alpha, beta, state, lags, marks, valid_length, max_time)
    work = Process(lda, alpha, beta, state, lags, marks, valid_length, max_time)
    return work.likelihood(lda, alpha, max_time), work.end


contrib_hawkesll.outputs = ["output0", "output1"]


@contrib_hawkesll.vjp
def _(g, y, mu, alpha, beta, state, lags, marks, valid_length, max_time):
    work = Process(mu, alpha, beta, state, lags, marks, valid_length, max_time)
    g, by_end = expand_dims(g[0], axis=1), g[1]
    by_rate = work.hot * expand_dims(g / work.rate, axis=2)
    by_memory = concat(by_rate * (alpha * beta), expand_dims(by_end + g * alpha, axis=1), dim=1)
    by_decay, by_added = faded_back(by_memory, work.memory, work.decay, work.added)
    by_power = 0 - by_decay * work.decay  # of gap times beta
    by_gap = sum(by_power * beta, axis=2)
    by_rest = slice_axis(by_gap, axis=1, begin=-1, end=None)
    first = slice_axis(by_added, axis=1, begin=0, end=1)
    seen = sum(by_rate * work.before, axis=1)
    return [
        sum(by_rate, axis=1) - g * expand_dims(max_time, axis=1),
        seen * beta - g * work.lost,
        seen * alpha + sum(by_power * work.gaps, axis=1),
        sum(first, axis=1) - g * alpha,
        (slice_axis(by_gap, axis=1, begin=0, end=-1) - by_rest) * work.inside,
        None,
        None,
        sum(by_rest, axis=1) - sum(g * mu, axis=1),
    ]
