"""Ask MXNet 1.9.1 for convolutional cells: `MXNET_PYTHON tests/reference/golden_conv_rnn.py` writes golden_conv_rnn.npz."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.reference.golden_rnn import derived, numbers, write

FILE = Path(__file__).with_name("golden_conv_rnn.npz")
SHAPES = {1: (2, 6), 2: (2, 5, 4), 3: (1, 3, 4, 3)}
CASES = [(kind, dims, {}) for kind in ("RNN", "LSTM", "GRU") for dims in SHAPES]
CASES += [
    ("LSTM", 2, {"i2h_kernel": (3, 1), "h2h_kernel": (1, 3), "i2h_pad": (2, 0), "h2h_dilate": 2}),
    ("GRU", 1, {"activation": "softsign", "i2h_dilate": 2}),
    ("RNN", 2, {"activation": "relu", "i2h_pad": 0}),
]


def answers(mx, kind, dims, settings):
    """Outputs, states and all gradients of three steps of one cell."""
    given = {"i2h_kernel": 3, "h2h_kernel": 3, "i2h_pad": 1, **settings}
    made = getattr(mx.gluon.contrib.rnn, f"Conv{dims}D{kind}Cell")
    cell = made(SHAPES[dims], 2, prefix="x_", **given)
    cell.initialize()
    for i, p in enumerate(cell.collect_params().values()):
        p.set_data(mx.nd.array(numbers(p.shape, i)))
    x = mx.nd.array(numbers((2, 3, *SHAPES[dims]), 50))
    run = lambda x, states: cell.unroll(3, x, begin_state=states, merge_outputs=True)
    return derived(mx, cell, run, x, cell.state_info(2))


if __name__ == "__main__":
    write(FILE, answers, CASES)
