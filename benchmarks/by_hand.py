"""The recurrent steps of `rnn.py` written by hand: what NumPy can do on this machine, without any framework.

All memory is there before the first step, and so are all views. OpenBLAS has one thread; each of Python's threads
takes a part of the batch through all steps and layers, forwards and back, and multiplies what a span of steps gives
to weights and inputs while it is in its cache. Nothing is checked; no lengths, states, dropout or other types are
served; the word model never writes the gradient of its logits, and changes only the rows of its table that it read.

Sigmoids are kept doubled, s = 1 + tanh(u / 2), by halved weights, and so is h = o tanh(c); what flows back to the
gates i, f, g, o is 8, 8, 4 and 4 times its gradient. `tests/test_rnn.py` holds the layer and the model to it.
"""

import numpy as np

ROOM = 10**6  # multiplications up to which OpenBLAS does not copy its matrices
MULTIPLES = 8, 8, 4, 4


def zeros(*shape):
    return np.zeros(shape, "float32")


def in_pieces(a, rows):
    """The columns in pieces (P, K, N / P) whose products with `rows` rows OpenBLAS takes as they lie."""
    k, n = a.shape
    count = next(p for p in range(1, n + 1) if n % p == 0 and rows * k * n <= ROOM * p)
    return a.reshape(k, count, n // count).swapaxes(0, 1)


def cut(size, count):
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


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
        self.k = (1 / np.repeat(MULTIPLES, hidden)).astype("float32")[:, None]
        self.most = -(-batch // parts)
        self.parts = [Part(self, at.stop - at.start) for at in cut(batch, parts)]

    def ready(self):
        """Lay the weights as the sweeps multiply them."""
        h = self.hidden
        for j, i in enumerate((0, 1, 3, 2)):  # i, f, o, g
            block, half = self.weight[i * h : (i + 1) * h].T, 1 if i == 2 else 0.5
            np.multiply(block, half, out=self.right[j])
            self.right[j, :h] *= 0.5
        scaled = self.weight * self.k
        self.left = in_pieces(np.ascontiguousarray(scaled[:, :h]), self.most)
        self.inputs_left = scaled[:, h + 1 :]

    def gather(self):
        """Add the parts' sums."""
        total = self.parts[0].sums
        for part in self.parts[1:]:
            total += part.sums
        np.multiply(total, self.k, out=self.gradient)
        self.gradient[:, : self.hidden] *= 0.5


class Part:
    """A layer's memory for a part of the batch, and views of it for every step."""

    def __init__(self, layer, n):
        self.layer, t, h, width = layer, layer.steps, layer.hidden, layer.weight.shape[1]
        self.rows, self.gates = zeros(t + 1, n, width), zeros(t + 1, 5, n, h)  # i, f, o, g, c
        self.both, self.tanh_c = zeros(t, 2, n, h), zeros(t, n, h)
        self.rows[..., h] = 1  # for the bias
        self.x, self.h, self.dx = (
            self.rows[:-1, :, h + 1 :],
            self.rows[1:, :, :h],
            zeros(t, n, layer.inputs),
        )
        self.dh, self.dc, self.sums, self.more = zeros(n, h), zeros(n, h), *zeros(2, 4 * h, width)
        self.span = max(1, min(t, 272 // n))
        self.k, self.d = zeros(self.span, 6, n, h), zeros(self.span, n, 6 * h)
        pairs = self.both.reshape(t, 2, -1)
        self.way = [
            (
                x,
                g[:4],
                g[:3],
                g[:2],
                g[3:],
                both,
                pair,
                new[4].reshape(1, -1),
                new[4],
                g[2],
                tanh_c,
                y,
            )
            for x, g, both, pair, new, tanh_c, y in zip(
                self.rows, self.gates, self.both, pairs, self.gates[1:], self.tanh_c, self.h
            )
        ]
        six = self.d.reshape(self.span, n, 6, h).swapaxes(1, 2)
        self.way_back = [
            (d[:4], d[4:], d[5], d[0], row[:, h : 5 * h]) for d, row in zip(six, self.d)
        ]

    def forwards(self):
        weight, half, one = (
            self.layer.right,
            np.full((1, 2), 0.5, "float32"),
            np.ones((), "float32"),
        )
        for x, a, s, left, right, both, pair, flat_c, c, o, tanh_c, y in self.way:
            np.matmul(x, weight, out=a)
            np.tanh(a, out=a)
            np.add(s, one, out=s)
            np.multiply(left, right, out=both)  # 2ig and 2fc, whose mean is c
            np.matmul(half, pair, out=flat_c)
            np.tanh(c, out=tanh_c)
            np.multiply(o, tanh_c, out=y)

    def slopes(self, steps):
        """Of a span of steps: f, the slopes of the gates i, f, g, o, and that of the cell."""
        gates, both, tanh_c, y = (a[steps] for a in (self.gates, self.both, self.tanh_c, self.h))
        k = self.k[: len(y)]
        np.multiply(gates[:, 1], 0.5, out=k[:, 0])
        np.subtract(2, gates[:, :2], out=k[:, 1:3])
        k[:, 1:3] *= both
        np.subtract(2, gates[:, 2], out=k[:, 4])
        k[:, 4] *= y
        for i, share, t, s in ((3, both[:, 0], gates[:, 3], 0), (5, y, tanh_c, 2)):
            np.multiply(share, t, out=k[:, i])
            np.subtract(gates[:, s], k[:, i], out=k[:, i])
        return k

    def back(self, g):
        """From gradients of outputs, (T, n, H), those of inputs, into dx, and sums for the weights."""
        layer, dh, dc, h = self.layer, self.dh, self.dc, self.layer.hidden
        dc[...], leaves = 0, dc
        target = dh.reshape(len(dh), len(layer.left), -1).swapaxes(0, 1)
        dh[...] = self.sums[...] = 0
        for end in range(layer.steps, 0, -self.span):
            steps = slice(max(end - self.span, 0), end)
            passed = zip(self.slopes(steps), g[steps], self.way_back)
            for k, gt, (d_c, d_h, cell, left, d) in reversed([*passed]):
                np.add(dh, gt, out=dh)
                np.multiply(k[4:], dh, out=d_h)
                np.add(leaves, cell, out=dc)
                np.multiply(k[:4], dc, out=d_c)
                leaves = left
                np.matmul(d, layer.left, out=target)
            dc[...], leaves = leaves, dc
            d = self.d[: steps.stop - steps.start].reshape(-1, 6 * h)[:, h : 5 * h]
            np.matmul(d, layer.inputs_left, out=self.dx[steps].reshape(len(d), -1))
            np.matmul(d.T, self.rows[steps].reshape(len(d), -1), out=self.more)
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
        list(self.pool.map(self.forwards, self.parts))
        list(self.pool.map(self.back, self.parts))
        self.layer.gather()

    def forwards(self, item):
        at, part = item
        part.x[...] = self.x[:, at]
        part.forwards()
        np.multiply(part.h, 0.5, out=self.out[:, at])

    def back(self, item):
        at, part = item
        part.back(self.g[:, at])
        self.dx[:, at] = part.dx


class Words:
    """A step of stochastic gradient descent of the word model; the decoder's weight has the bias as its last column.

    The gradient of the logits z is e / s - one_hot, with e = exp(z) and its rows' sums s. It is never written: the
    products take e, their other factor is divided by s, and one_hot's share is a few rows of the factors.
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
        list(self.pool.map(self.forwards, self.parts))
        list(self.pool.map(self.decode, self.threads))
        total, true = self.sums[0].sum(0), self.decoder[self.y]
        self.loss = np.log(total[:, 0] / self.true)
        self.scaled = rows / total
        list(self.pool.map(self.learn, self.threads))
        add_rows(self.decoder, self.y, self.rate * rows)
        np.divide(self.shares[0].sum(0), total, out=self.g.reshape(len(rows), -1))
        self.g -= true[:, :-1].reshape(self.g.shape)
        list(self.pool.map(self.back, self.parts))
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
        np.multiply(first.h, 0.5, out=second.x)
        second.forwards()
        np.multiply(second.h, 0.5, out=self.out[:, at, :-1])

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
