"""A loss turns predictions and truth into one number a sample; its gradient is what the network learns from."""

# Written from chapters/50_losses.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.base import MXNetError
from minigluon.op import operator
from minigluon.ops.elementwise import exp
from minigluon.ops.indexing import at, pick, unpick
from minigluon.ops.reduce import sum

__all__ = ["check_labels", "overestimate", "sparse_softmax_cross_entropy"]


# --- Cross-entropy of class numbers ---------------------------------------------------------------


@operator(
    vjp=(lambda g, y, z, label, axis: g * overestimate(z, y, label, axis=axis), None),
    same_dtype=False,
)
def sparse_softmax_cross_entropy(data, label, /, axis=-1):
    """Minus the log-probability of class `label` under the softmax of `data` along `axis`.

    data: logits; label: whole numbers from 0 to classes - 1, of data's shape without `axis` or with
    size 1 there. The result keeps `axis` with size 1.
    """
    check_labels(data, label, axis)
    shifted = data - data.max(axis=axis, keepdims=True)
    picked = shifted[at(data, label, axis, "clip")]
    total = np.exp(shifted, out=shifted).sum(axis=axis, keepdims=True)
    return np.log(total, out=total) - picked


@operator(same_dtype=False)
def overestimate(data, loss, label, /, axis=-1):
    """Softmax of `data` minus 1 at `label`, along `axis`; `loss` is the cross-entropy of the two."""
    where = at(data, label, axis, "clip")
    out = np.exp(data - (loss + data[where]))
    out[where] -= 1
    return out


@overestimate.vjp
def _(h, y, z, loss, label, axis):
    r = h * exp(z - (loss + pick(z, label, axis=axis, keepdims=True)))
    total = sum(r, axis=axis, keepdims=True)
    return r - unpick(total, z, label, axis=axis, keepdims=True), -total, None


def check_labels(data, label, axis):
    """Raise MXNetError if a label is neither the number of a class nor -1, which counts as 0."""
    classes = data.shape[axis]
    wrong = (label < -1) | (label >= classes)  # -1 pads, and is masked by a weight
    if label.dtype.kind == "f":
        wrong |= label != np.floor(label)
    if wrong.any():
        raise MXNetError(
            f"label {label[wrong].ravel()[0]} is not a class: labels are whole numbers "
            f"from 0 to {classes - 1}"
        )
