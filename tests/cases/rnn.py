"""Rows for the recurrent operator: its modes, directions, layers, states and lengths."""

import numpy as np

from tests.rows import Row


def size(mode, inputs, hidden, layers, directions, projection=None):
    """The number of parameters, counted by hand."""
    gates, recurrent = {"lstm": 4, "gru": 3}.get(mode, 1), projection or hidden
    total = 0
    for layer in range(layers):
        width = inputs if layer == 0 else recurrent * directions
        total += directions * gates * hidden * (width + recurrent + 2)
        total += directions * recurrent * hidden if projection else 0
    return total


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def one_direction(mode, x, take, hidden, first):
    """One layer in one direction, from the formulas."""
    wi, wh, bi, bh, wr = take
    h, c = first[0], first[1] if len(first) > 1 else None
    outs = []
    for xt in x:
        a, u = xt @ wi.T + bi, h @ wh.T + bh
        if mode == "lstm":
            i, f, g, o = np.split(a + u, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            h = h if wr is None else h @ wr.T
        elif mode == "gru":
            (ar, az, an), (ur, uz, un) = np.split(a, 3, axis=1), np.split(u, 3, axis=1)
            z = sigmoid(az + uz)
            n = np.tanh(an + sigmoid(ar + ur) * un)
            h = (1 - z) * n + z * h
        else:
            h = np.tanh(a + u) if mode == "rnn_tanh" else np.maximum(a + u, 0)
        outs.append(h)
    return np.stack(outs), [h] if c is None else [h, c]


def reference(x, packed, *states, mode, state_size, num_layers=1, bidirectional=False,
              state_outputs=False, projection_size=None, **_):  # fmt: skip
    """The layers, with the weights taken from the vector in MXNet's order."""
    gates, d = {"lstm": 4, "gru": 3}.get(mode, 1), 2 if bidirectional else 1
    rows, r, at, cells = gates * state_size, projection_size or state_size, 0, []

    def take(*shape):
        nonlocal at
        at += int(np.prod(shape))
        return packed[at - int(np.prod(shape)) : at].reshape(shape)

    for cell in range(num_layers * d):
        width = x.shape[2] if cell < d else r * d
        wi, wh = take(rows, width), take(rows, r)
        cells.append([wi, wh, take(r, state_size) if projection_size else None])
    biases = [(take(rows), take(rows)) for _ in cells]
    ends = []
    for layer in range(num_layers):
        sides = []
        for side in range(d):
            k = layer * d + side
            weights = (cells[k][0], cells[k][1], *biases[k], cells[k][2])
            out, end = one_direction(
                mode, x[::-1] if side else x, weights, state_size, [s[k] for s in states]
            )
            sides.append(out[::-1] if side else out)
            ends.append(end)
        x = np.concatenate(sides, axis=2)
    return [x, *map(np.stack, zip(*ends))] if state_outputs else x


def row(mode, note, layers=1, both=False, **settings):
    """A row of one configuration: 2 steps, 2 sequences, 2 inputs, 2 units."""
    rng = np.random.default_rng(7)
    d, p = 2 if both else 1, settings.get("projection_size")
    sizes = [p or 2, 2][: 2 if mode == "lstm" else 1]
    arrays = [rng.normal(size=(2, 2, 2)), rng.normal(size=size(mode, 2, 2, layers, d, p)) * 0.5]
    arrays += [rng.normal(size=(layers * d, 2, n)) for n in sizes]
    given = {"mode": mode, "state_size": 2, "num_layers": layers, "bidirectional": both, **settings}
    return Row("RNN", tuple(arrays), given, reference, note=f"{mode} {note}")


data, weights, state = np.ones((2, 3, 4)), np.ones(size("gru", 4, 2, 1, 1)), np.zeros((1, 3, 2))
wrong = {"mode": "gru", "state_size": 2, "num_layers": 1}
says = [
    ((data, weights[1:], state), wrong, "need 48 of them"),
    ((data, weights, state[:, 1:]), wrong, "expecting (1, 3, 2)"),
    ((data[0], weights, state), wrong, "three axes"),
    ((data, weights, state), {**wrong, "mode": "gsm"}, "is none of"),
    ((data, weights, state, state), wrong, "expects 3 arrays"),
    (
        (data, weights, state, np.array([9.0, 1, 1])),
        {**wrong, "use_sequence_length": True},
        "length",
    ),
    (
        (data, weights, state, np.array([1.0, 1])),
        {**wrong, "use_sequence_length": True},
        "sequence_length",
    ),
]

ROWS = [
    row("rnn_relu", "states", state_outputs=True),
    row("rnn_tanh", "both ways", both=True),
    row("lstm", "states", state_outputs=True),
    row("lstm", "two layers both ways", layers=2, both=True, state_outputs=True),
    row("lstm", "projected", projection_size=1, state_outputs=True),
    row("gru", "two layers", layers=2, state_outputs=True),
    row("gru", "output alone"),
] + [
    Row("RNN", (data, weights, state), wrong, reference, (), wrong=(a, s), says=text, note=f"wrong {i}")
    for i, (a, s, text) in enumerate(says)
]  # fmt: skip
