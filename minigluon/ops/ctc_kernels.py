"""A recursion that cannot be cut in time is cut by samples and by direction; its sums want double precision, its functions do not."""

# Written from chapters/96e_ctc_kernels.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.kernels import STORED, Kernels, cuda, dense, row_launch, stored
from minigluon.ops.ctc import CTCLoss, prepared, told, warn_of

__all__ = ["MOST", "kernels", "solved"]


# --- A block a sequence ---------------------------------------------------------------------------

kernels = Kernels(
    "ctc", [f"ctc_{k}<{t}>" for k in ("rows", "sweep", "back") for t in STORED.values()]
)
MOST = 2400  # states that fit into a block's shared memory


def solved(z, states, last, own, blank):
    """Losses (N,) and their gradient, (T, N, C), for logits z; `own` are lengths or None."""
    (t, n, c), s, kind = z.shape, states.shape[1], stored(z)
    new = lambda dtype, *shape: np.empty_like(z, shape=shape, dtype=dtype)
    norms, walks = new("float32", t, n), new("float64", 2, n, t, s)
    totals, losses, g = new("float64", n), new(z.dtype, n), new(z.dtype, t, n, c)
    states, last = (a.astype("int32") for a in (states, last))
    ends = None if own is None else own.astype("int32")
    sizes = [np.int32(k) for k in (t, n, c, s, blank)]
    threads = (min(-(-s // 32) * 32, 1024),)
    kernels(f"ctc_rows<{kind}>", *row_launch(t * n, c), z, norms, np.int64(t * n), np.int32(c))
    args = z, norms, states, last, ends, walks, totals, losses, *sizes
    kernels(f"ctc_sweep<{kind}>", (n, 2), threads, *args, shared=20 * s + 64)
    args = z, norms, states, ends, walks, totals, g, *sizes
    kernels(f"ctc_back<{kind}>", (t * n,), (128,), *args, shared=8 * s)
    return losses, g


@cuda(CTCLoss)
def _(data, *others, use_data_lengths, use_label_lengths, blank_label):
    if stored(data) is None or not data.size:
        return NotImplemented
    label, own, of_labels = told(list(others), use_data_lengths, use_label_lengths)
    states, last, _, blank = prepared(data, label, own, of_labels, blank_label)
    if states.shape[1] > MOST:
        return NotImplemented
    losses, g = solved(dense(data), states, last, own, blank)
    if np.geterr()["divide"] != "ignore" and np.isinf(losses).any():
        warn_of(losses, last, own, len(data))
    return losses, g
