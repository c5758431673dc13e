"""A layer that forgets at random, a layer that looks up, and blocks that put others together."""

# Written from chapters/45_dropout_embedding.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.autograd import state
from minigluon.context import brought
from minigluon.op import operator
from minigluon.ops.random import drawn
from minigluon.ops.shape import several

__all__ = ["Dropout", "check_rate", "keep_law"]


# --- The mask -------------------------------------------------------------------------------------


def keep_law(r, n, t, p):
    """A mask of shape `n`: 1 / (1 - p) with probability 1 - p, else 0."""
    size = math.prod(n)
    bits = r.bit_generator.random_raw((size + 1) // 2).view("uint32")[:size]
    kept = bits >= min(round(p * 2**32), 2**32 - 1) if p < 1 else np.zeros(size, "bool")
    scale = t.type(1 / (1 - p)) if p < 1 else t.type(0)
    return np.multiply(kept, scale, dtype=t).reshape(n)


def check_rate(p):
    """Refuse what is no probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"value {p} for Parameter p exceed bound [0,1]")


# --- The operator ---------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, data, **_: g[0] * y[1],))
def Dropout(data, /, p=0.5, mode="training", axes=(), cudnn_off=False, rng=None):
    """Each number is 0 with probability `p`, else divided by 1 - p: Srivastava et al., 2014.

    Only in training, or with mode='always'. Numbers along `axes` are kept or dropped together.
    """
    check_rate(p)
    if mode not in ("training", "always"):
        raise ValueError(f"mode {mode!r}: it is 'training' or 'always'")
    if p == 0 or not (state.training or mode == "always"):
        return data.copy(), np.ones_like(data, shape=1)
    axes = several(() if axes is None else axes)
    for a in axes:
        if not 0 <= a < data.ndim:
            raise ValueError(f"axis {a} is out of range for an array of {data.ndim} axes")
    n = tuple(1 if i in axes else size for i, size in enumerate(data.shape))
    mask = brought(lambda: drawn(rng, data, keep_law, n, data.dtype, p), data)
    return data * mask, mask


Dropout.visible = Dropout.outputs = 1
