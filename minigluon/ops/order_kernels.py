"""To find the largest few of a row nobody has to sort it: count how the numbers begin."""

# Written from chapters/96f_order_kernels.ipynb: edit the chapter, then run `minigluon export`.

from functools import partial

import numpy as np

from minigluon.kernels import SHARED, STORED, Kernels, cuda, dense, fits
from minigluon.ops.ordering import RET_TYPES, laid_out, topk

__all__ = ["COUNTS", "MOST", "chosen", "first", "kernels"]


# --- The first k ----------------------------------------------------------------------------------

kernels = Kernels("topk", [f"topk<{t}>" for t in STORED.values()])
MOST, COUNTS = 1024, 2048  # keys that are sorted; bytes of shared memory beside keys and row


def first(x, k, ascend, values):
    """Indices, as int32, and values of the first k of each row; no values unless they are wanted."""
    kind, rows, cols = fits(x, -1)
    index = np.empty_like(x, shape=(*x.shape[:-1], k), dtype="int32")
    value = np.empty_like(x, shape=index.shape) if values else None
    size = 1 << (k - 1).bit_length()
    staged = 8 * size + 4 * cols + COUNTS <= SHARED
    numbers = map(np.int32, (cols, k, size, ascend, staged))
    room = 8 * size + 4 * cols * staged
    kernels(f"topk<{kind}>", (rows,), (256,), dense(x), index, value, *numbers, shared=room)
    return index, value


def chosen(first, most, data, *, axis, k, ret_typ, is_ascend, dtype):
    """`topk` by a function that finds the first k of the rows, at most `most` of them."""
    x, axis = laid_out(data, axis)
    if fits(x, axis) is None or ret_typ not in RET_TYPES:
        return NotImplemented
    k = x.shape[-1] if k < 1 else k
    if k > min(most, x.shape[-1]):
        return NotImplemented
    index, value = first(x, k, is_ascend, ret_typ in ("value", "both"))
    if ret_typ == "mask":
        mask = np.zeros_like(x)
        np.put_along_axis(mask, index.astype("int64"), 1, -1)
        return mask.reshape(data.shape)
    if ret_typ == "value":
        return value
    index = index.astype(dtype)
    return (value, index) if ret_typ == "both" else index


cuda(topk)(partial(chosen, first, MOST))
