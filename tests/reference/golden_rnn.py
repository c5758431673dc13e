"""Ask MXNet 1.9.1 for recurrent layers: `MXNET_PYTHON tests/reference/golden_rnn.py` writes golden_rnn.npz."""

from itertools import product
from pathlib import Path

import numpy as np
import numpy.ma  # before np.bool is bent

FILE = Path(__file__).with_name("golden_rnn.npz")
T, N, C, H = 3, 2, 3, 4
CASES = [
    (kind, {"num_layers": layers, "bidirectional": both, "layout": layout})
    for kind in ("RNN", "LSTM", "GRU")
    for layers, both, layout in product((1, 2), (False, True), ("TNC", "NTC"))
]
CASES += [("RNN", {**case, "activation": "tanh"}) for kind, case in CASES if kind == "RNN"]


def numbers(shape, seed):
    """Numbers that every machine can make again."""
    return (np.sin(np.arange(np.prod(shape)) * 1.7 + seed) * 0.5).reshape(shape).astype("float32")


def answers(mx, kind, settings):
    """Outputs, states and all gradients of one configuration."""
    layer = getattr(mx.gluon.rnn, kind)(H, input_size=C, prefix="x_", **settings)
    layer.initialize()
    for i, p in enumerate(layer.collect_params().values()):
        p.set_data(mx.nd.array(numbers(p.shape, i)))
    x = mx.nd.array(numbers((T, N, C) if settings["layout"] == "TNC" else (N, T, C), 50))
    return derived(mx, layer, layer, x, layer.state_info(N))


def derived(mx, block, run, x, infos):
    """What `run(x, states)` of a block gives, and the gradients of all that goes in, in a row."""
    states = [mx.nd.array(numbers(info["shape"], 60 + k)) for k, info in enumerate(infos)]
    for a in (x, *states):
        a.attach_grad()
    with mx.autograd.record():
        out, new = run(x, states)
        total = sum(
            (y * mx.nd.array(numbers(y.shape, 70 + i))).sum() for i, y in enumerate([out, *new])
        )
    total.backward()
    found = [out, *new, x.grad, *(s.grad for s in states)]
    found += [p.grad() for p in block.collect_params().values()]
    return np.concatenate([a.asnumpy().ravel() for a in found])


def write(file, answers, cases):
    """Ask MXNet, and write down its answers."""
    np.bool = bool  # MXNet 1.9.1 was written for an older NumPy
    import mxnet as mx

    np.savez_compressed(file, **{str(i): answers(mx, *case) for i, case in enumerate(cases)})


if __name__ == "__main__":
    write(FILE, answers, CASES)
