"""The operator of chapter 51b: the likelihood of events by its definition, a sum over pairs of them."""

import numpy as np

from tests.rows import Row, positive


def pairs(mu, alpha, beta, state, lags, marks, valid_length, max_time):
    """Likelihoods and memories, event by event."""
    found, memories = np.zeros(len(mu)), np.zeros_like(mu)
    for i, row in enumerate(mu):
        n = int(valid_length[i])
        times, kinds = np.cumsum(lags[i, :n]), marks[i, :n].astype(int)

        def memory(k, until, i=i, times=times, kinds=kinds):
            old = times[(kinds == k) & (times < until)]
            return state[i, k] * np.exp(-beta[k] * until) + np.exp(-beta[k] * (until - old)).sum()

        for t, k in zip(times, kinds):
            found[i] += np.log(row[k] + alpha[k] * beta[k] * memory(k, t))
        memories[i] = [memory(k, max_time[i]) for k in range(len(row))]
        put_in = state[i] + np.bincount(kinds, minlength=len(row))
        found[i] -= (row * max_time[i] + alpha * (put_in - memories[i])).sum()
    return found, memories


NUMBERS = (positive(3, 2), positive(2, seed=1), positive(2, seed=2), positive(3, 2, seed=3))
LAGS, MARKS = positive(3, 4, seed=4), np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], "int32")
REST = (np.array([4.0, 2.0, 0.0]), np.array([7.0, 6.5, 2.0]))
ROWS = [
    Row("contrib_hawkesll", (*NUMBERS, LAGS, MARKS, *REST), {}, pairs, (0, 1, 2, 3, 4, 7),
        wrong=((*NUMBERS, LAGS, MARKS + 1, *REST), {}), says="mark 2 is none of the 2 kinds"),
    Row("contrib_hawkesll", (*NUMBERS, LAGS, MARKS, *REST), {}, pairs, (), note="value",
        wrong=((*NUMBERS, LAGS, MARKS[:, :3], *REST), {}), says="marks needs the shape (3, 4)"),
    Row("contrib_hawkesll", (*NUMBERS, LAGS[:, :1], MARKS[:, :1], REST[1] * 0 + 1, REST[1]), {},
        pairs, (0, 4), note="one event",
        wrong=((*NUMBERS, LAGS, MARKS, REST[0] + 1, REST[1]), {}), says="valid_length: from 0 to 4"),
]  # fmt: skip
