"""The recurrent steps of `rnn.py` written by hand: what NumPy can do on this machine, without any framework.

All memory is there before the first step, and so are all views. OpenBLAS has one thread; each of Python's threads
takes a part of the batch through all steps and layers, forwards and back, and multiplies what a span of steps gives
to weights and inputs while it is in its cache. Nothing is checked; no lengths, states, dropout or other types are
served; the word model never writes the gradient of its logits, and changes only the rows of its table that it read.

Halved weights make one tanh do for all gates, as sigmoid(u) = (1 + tanh(u / 2)) / 2. Gates lie in the order f, i, o, g,
so that what is done to several of them is one call. `tests/test_rnn.py` holds the layer and the model to it.
"""

import numpy as np
from numpy import add, matmul, multiply, subtract, tanh

ROOM = 10**6  # multiplications up to which OpenBLAS does not copy its matrices


def zeros(*shape):
    return np.zeros(shape, "float32")


def in_pieces(a, rows):
    """The columns in pieces (P, K, N / P) whose products with `rows` rows OpenBLAS takes as they lie."""
    k, n = a.shape
    count = next(p for p in range(1, n + 1) if n % p == 0 and rows * k * n <= ROOM * p)
    return a.reshape(k, count, n // count).swapaxes(0, 1)


def cut(size, count):
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


def spans(steps, size, late):
    """Spans of steps, the last ones first. Every other part is half a span late: so it takes its steps, whose many
    calls need Python's lock, while the other one multiplies what its span gives."""
    ends = [steps, *range(steps - (size + late) // (1 + late), 0, -size), 0]
    return [slice(begin, end) for end, begin in zip(ends, ends[1:])]


def on_all(pool, function, items):
    """Each item on a thread of its own, the last one on this one."""
    jobs = [pool.submit(function, item) for item in items[:-1]]
    function(items[-1])
    for job in jobs:
        job.result()


def add_rows(table, index, rows):
    """`table[index] += rows`, where numbers in `index` may repeat: five times as fast as `np.add.at`."""
    order = np.argsort(index, kind="stable")
    found, begin = np.unique(index[order], return_index=True)
    table[found] += np.add.reduceat(rows[order], begin)


class Layer:
    """An LSTM's weight and its gradient, (4 H, H + 1 + I): for the state, the bias, and the inputs."""

    def __init__(self, steps, batch, inputs, hidden, parts, draws):
        self.steps, self.hidden, self.inputs, width = steps, hidden, inputs, hidden + 1 + inputs
        self.weight = draws.uniform(-0.1, 0.1, (4 * hidden, width)).astype("float32")
        self.gradient, self.right = np.empty_like(self.weight), zeros(4, width, hidden)
        self.most = -(-batch // parts)
        self.parts = [Part(self, at.stop - at.start, i) for i, at in enumerate(cut(batch, parts))]

    def ready(self):
        """Lay the weights as the sweeps multiply them."""
        h = self.hidden
        for j, i in enumerate((1, 0, 3, 2)):  # f, i, o, g
            half = 1 if i == 2 else 0.5
            np.multiply(self.weight[i * h : (i + 1) * h].T, half, out=self.right[j])
        self.left = in_pieces(self.weight[:, :h], self.most)
        self.inputs_left = self.weight[:, h + 1 :]

    def gather(self):
        """Add the parts' sums."""
        first, *others = self.parts
        self.gradient[...] = first.sums
        for part in others:
            self.gradient += part.sums


class Part:
    """A layer's memory for a part of the batch, and views of it for every step.

    What the way back needs of a step is computed while its numbers are in the cache: the slopes of
    the gates f, i, o and g, that of the cell, and f itself. So the gates need no memory of their
    own.
    """

    def __init__(self, layer, n, number):
        self.layer, t, h, width = layer, layer.steps, layer.hidden, layer.weight.shape[1]
        self.rows, self.k = zeros(t + 1, n, width), zeros(t, 6, n, h)
        self.rows[..., h] = 1  # for the bias
        self.gates, self.shares, self.c = zeros(5, n, h), zeros(3, n, h), zeros(n, h)
        self.four, self.work = zeros(4, n, h), zeros(2, n, h)
        self.x, self.h = self.rows[:-1, :, h + 1 :], self.rows[1:, :, :h]
        self.dx, self.sums, self.more = zeros(t, n, layer.inputs), *zeros(2, 4 * h, width)
        self.dh, self.dc, self.leaves, self.cell = zeros(4, n, h)
        span = max(1, min(t, 272 // n))
        self.spans, self.d = spans(t, span, number % 2), zeros(span, n, 4 * h)
        self.way = [(x, y, k[:3], k[3:5], k[5]) for x, y, k in zip(self.rows, self.h, self.k)]
        self.way_back = [*zip(self.d, self.d.reshape(span, n, 4, h))]
        self.slopes = [tuple(k) for k in self.k]

    def forwards(self):
        weight, c, work = self.layer.right, self.c, self.work
        one, half = (np.full((), x, "float32") for x in (1, 0.5))
        (f, i, o, g, tanh_c), (fc, ig, y), shares = self.gates, self.shares, self.shares
        a, sigmoids, i_o, g_tanh_c = (
            self.gates[at] for at in map(slice, (0, 0, 1, 3), (4, 3, 3, 5))
        )
        ig_y = shares[1:]
        c[...] = 0
        for x, new_h, slopes, slopes_g_c, leaving in self.way:
            matmul(x, weight, a)
            tanh(a, a)
            multiply(sigmoids, half, sigmoids)
            add(sigmoids, half, sigmoids)
            multiply(f, c, fc)
            multiply(i, g, ig)
            add(fc, ig, c)
            tanh(c, tanh_c)
            multiply(o, tanh_c, y)
            new_h[...] = y
            multiply(ig_y, g_tanh_c, work)
            subtract(i_o, work, slopes_g_c)
            leaving[...] = f
            subtract(one, sigmoids, sigmoids)
            multiply(sigmoids, shares, slopes)

    def back(self, g):
        """From gradients of outputs, (T, n, H), those of inputs, into dx, and sums for the weights."""
        layer, dh, dc, leaves, cell = self.layer, self.dh, self.dc, self.leaves, self.cell
        target = dh.reshape(len(dh), len(layer.left), -1).swapaxes(0, 1)
        (d_i, d_f, d_g, d_o), four = self.four, self.four.swapaxes(0, 1)
        dh[...] = leaves[...] = self.sums[...] = 0
        for steps in self.spans:
            passed = zip(g[steps], self.slopes[steps], self.way_back)
            for gt, (k_f, k_i, k_o, k_g, k_c, f), (d, rows) in reversed([*passed]):
                add(dh, gt, dh)
                multiply(k_o, dh, d_o)
                multiply(k_c, dh, cell)
                add(leaves, cell, dc)
                multiply(f, dc, leaves)
                multiply(k_i, dc, d_i)
                multiply(k_f, dc, d_f)
                multiply(k_g, dc, d_g)
                rows[...] = four
                matmul(d, layer.left, target)
            d = self.d[: steps.stop - steps.start].reshape(-1, self.d.shape[2])
            matmul(d, layer.inputs_left, self.dx[steps].reshape(len(d), -1))
            matmul(d.T, self.rows[steps].reshape(len(d), -1), self.more)
            self.sums += self.more


class Lstm:
    """A layer's outputs and all gradients."""

    def __init__(self, pool, threads, hidden, shape, seed=0):
        draws, (steps, batch, inputs) = np.random.default_rng(seed), shape
        self.pool, self.x = pool, draws.normal(size=shape).astype("float32")
        self.layer = Layer(steps, batch, inputs, hidden, threads, draws)
        self.parts = [*zip(cut(batch, threads), self.layer.parts)]
        self.out, self.g, self.dx = (
            zeros(steps, batch, hidden),
            zeros(steps, batch, hidden) + 1,
            zeros(*shape),
        )

    def step(self):
        self.layer.ready()
        on_all(self.pool, self.forwards, self.parts)
        on_all(self.pool, self.back, self.parts)
        self.layer.gather()

    def forwards(self, item):
        at, part = item
        part.x[...] = self.x[:, at]
        part.forwards()
        self.out[:, at] = part.h

    def back(self, item):
        at, part = item
        part.back(self.g[:, at])
        self.dx[:, at] = part.dx


class Words:
    """A step of stochastic gradient descent of the word model;
    the decoder's weight has the bias as its last column.

    The gradient of the logits z is e / s - one_hot, with e = exp(z) and its rows' sums s. It is
    never written: the products take e, their other factor is divided by s, and one_hot's share is a
    few rows of the factors.
    """

    def __init__(
        self, pool, threads, words=10000, hidden=200, steps=35, batch=20, rate=0.1, seed=0
    ):
        draws = np.random.default_rng(seed)
        self.pool, n, self.rate = pool, steps * batch, np.float32(rate / (steps * batch))
        self.table, self.decoder = (
            draws.normal(0, 0.1, (words, k)).astype("float32") for k in (hidden, hidden + 1)
        )
        self.layers = [Layer(steps, batch, hidden, hidden, threads, draws) for _ in range(2)]
        self.parts = [*zip(cut(batch, threads), *(layer.parts for layer in self.layers))]
        self.x, self.y = draws.integers(0, words, (steps, batch)), draws.integers(0, words, n)
        self.out, self.g = zeros(steps, batch, hidden + 1), zeros(steps, batch, hidden)
        self.blocks = []  # eight a thread: words, their exponentials, the rows they are true in
        for at in cut(words, 8 * threads):
            rows = np.flatnonzero((self.y >= at.start) & (self.y < at.stop))
            self.blocks.append((at, zeros(n, at.stop - at.start), rows, self.y[rows] - at.start))
        self.out[..., hidden] = 1
        self.sums, self.shares = zeros(2, threads, n, 1), zeros(2, threads, n, hidden)
        self.ones, self.true, self.threads = zeros(words, 1) + 1, zeros(n), range(threads)

    def step(self):
        rows = self.out.reshape(len(self.y), -1)
        for layer in self.layers:
            layer.ready()
        on_all(self.pool, self.forwards, self.parts)
        on_all(self.pool, self.decode, self.threads)
        total, true = self.sums[0].sum(0), self.decoder[self.y]
        self.loss = np.log(total[:, 0] / self.true)
        self.scaled = rows / total
        on_all(self.pool, self.learn, self.threads)
        add_rows(self.decoder, self.y, self.rate * rows)
        np.divide(self.shares[0].sum(0), total, out=self.g.reshape(len(rows), -1))
        self.g -= true[:, :-1].reshape(self.g.shape)
        on_all(self.pool, self.back, self.parts)
        for layer in self.layers:
            layer.gather()
            layer.weight -= self.rate * layer.gradient
        for at, first, _ in self.parts:
            change = -self.rate * first.dx.reshape(-1, self.table.shape[1])
            add_rows(self.table, self.x[:, at].reshape(-1), change)

    def forwards(self, item):
        at, first, second = item
        first.x[...] = self.table[self.x[:, at]]
        first.forwards()
        second.x[...] = first.h
        second.forwards()
        self.out[:, at, :-1] = second.h

    def decode(self, i):
        """Exponentials of some words' logits, and their share in the sums."""
        self.sums[0, i] = 0
        for at, e, rows, classes in self.blocks[8 * i : 8 * i + 8]:
            np.matmul(self.out.reshape(len(e), -1), self.decoder[at].T, out=e)
            np.exp(e, out=e)
            self.true[rows] = e[rows, classes]
            np.matmul(e, self.ones[at], out=self.sums[1, i])
            self.sums[0, i] += self.sums[1, i]

    def learn(self, i):
        """Some words' share in the gradient of the outputs, and a step of their weights."""
        self.shares[0, i] = 0
        for at, e, *_ in self.blocks[8 * i : 8 * i + 8]:
            weight = self.decoder[at]
            np.matmul(e, weight[:, :-1], out=self.shares[1, i])
            self.shares[0, i] += self.shares[1, i]
            change = e.T @ self.scaled
            change *= self.rate
            weight -= change

    def back(self, item):
        at, first, second = item
        second.back(self.g[:, at])
        first.back(second.dx)
