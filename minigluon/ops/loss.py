"""A loss turns predictions and truth into one number a sample; its gradient is what the network learns from."""

# Written from chapters/50_losses.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.base import MXNetError
from minigluon.op import operator
from minigluon.ops.elementwise import exp
from minigluon.ops.indexing import pick, unpick

__all__ = ["check_labels", "sparse_softmax_cross_entropy"]


# --- Cross-entropy of class numbers ---------------------------------------------------------------


@operator(
    vjp=(
        lambda g, y, z, label, axis: (
            g * exp(z - (y + pick(z, label, axis=axis, keepdims=True)))
            - unpick(g, z, label, axis=axis, keepdims=True)
        ),
        None,
    ),
    same_dtype=False,
)
def sparse_softmax_cross_entropy(data, label, /, axis=-1):
    """Minus the log-probability of class `label` under the softmax of `data` along `axis`.

    data: logits; label: whole numbers from 0 to classes - 1, of data's shape without `axis` or with
    size 1 there. The result keeps `axis` with size 1.
    """
    check_labels(data, label, axis)
    shifted = data - data.max(axis=axis, keepdims=True)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    return np.log(total) - pick.kernel(shifted, label, axis=axis, keepdims=True)


def check_labels(data, label, axis):
    """Raise MXNetError if a label is no whole number, or not the number of a class."""
    classes = data.shape[axis]
    wrong = (label < 0) | (label >= classes)
    if label.dtype.kind == "f":
        wrong |= label != np.floor(label)
    if wrong.any():
        raise MXNetError(
            f"label {label[wrong].ravel()[0]} is not a class: labels are whole numbers "
            f"from 0 to {classes - 1}"
        )
