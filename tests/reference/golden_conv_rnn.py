"""Ask MXNet 1.9.1 for convolutional cells: `MXNET_PYTHON tests/reference/golden_conv_rnn.py` writes golden_conv_rnn.npz."""

from pathlib import Path

import numpy as np
import numpy.ma  # before np.bool is bent

FILE = Path(__file__).with_name("golden_conv_rnn.npz")
SHAPES = {1: (2, 6), 2: (2, 5, 4), 3: (1, 3, 4, 3)}
CASES = [(kind, dims, {}) for kind in ("RNN", "LSTM", "GRU") for dims in SHAPES]
CASES += [
    ("LSTM", 2, {"i2h_kernel": (3, 1), "h2h_kernel": (1, 3), "i2h_pad": (2, 0), "h2h_dilate": 2}),
    ("GRU", 1, {"activation": "softsign", "i2h_dilate": 2}),
    ("RNN", 2, {"activation": "relu", "i2h_pad": 0}),
]


def numbers(shape, seed):
    """Numbers that every machine can make again."""
    return (np.sin(np.arange(np.prod(shape)) * 1.7 + seed) * 0.5).reshape(shape).astype("float32")


def answers(mx, kind, dims, settings):
    """Outputs, states and all gradients of three steps of one cell."""
    given = {"i2h_kernel": 3, "h2h_kernel": 3, "i2h_pad": 1, **settings}
    made = getattr(mx.gluon.contrib.rnn, f"Conv{dims}D{kind}Cell")
    cell = made(SHAPES[dims], 2, prefix="x_", **given)
    cell.initialize()
    for i, p in enumerate(cell.collect_params().values()):
        p.set_data(mx.nd.array(numbers(p.shape, i)))
    x = mx.nd.array(numbers((2, 3, *SHAPES[dims]), 50))
    states = [mx.nd.array(numbers(s["shape"], 60 + k)) for k, s in enumerate(cell.state_info(2))]
    for a in (x, *states):
        a.attach_grad()
    with mx.autograd.record():
        out, new = cell.unroll(3, x, begin_state=states, merge_outputs=True)
        total = sum(
            (y * mx.nd.array(numbers(y.shape, 70 + i))).sum() for i, y in enumerate([out, *new])
        )
    total.backward()
    found = [out, *new, x.grad, *(s.grad for s in states)]
    found += [p.grad() for p in cell.collect_params().values()]
    return np.concatenate([a.asnumpy().ravel() for a in found])


def main():
    np.bool = bool  # MXNet 1.9.1 was written for an older NumPy
    import mxnet as mx

    np.savez_compressed(FILE, **{str(i): answers(mx, *case) for i, case in enumerate(CASES)})


if __name__ == "__main__":
    main()
