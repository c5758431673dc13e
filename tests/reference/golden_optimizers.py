"""Ask MXNet 1.9.1 for ten steps of every optimizer and for every schedule; write tests/golden_optimizers.npz.

`$MXNET_PYTHON tests/reference/golden_optimizers.py`: the committed file came from this.
"""

import sys
from pathlib import Path

import numpy as np

np.bool = bool  # MXNet 1.9.1 is older than its removal
sys.path.insert(0, str(Path(__file__).parents[2]))

import mxnet as mx

from tests import optimizer_table as t


def main(path):
    found = {}
    for kind, rows in t.KINDS.items():
        for number, (name, settings) in enumerate(rows):
            found[t.key(kind, number)] = t.run(mx, kind, name, settings)
    for number, (name, settings) in enumerate(t.SCHEDULES):
        schedule = getattr(mx.lr_scheduler, name)(**settings)
        found[t.key("schedule", number)] = np.array([schedule(n) for n in range(200)])
    np.savez_compressed(path, **found)


if __name__ == "__main__":
    main(Path(__file__).parents[1] / "golden_optimizers.npz")
