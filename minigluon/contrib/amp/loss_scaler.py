"""Gradients that are too small for float16 survive if the loss is multiplied by a power of two, and divided out again at the end."""

# Written from chapters/74_half_precision.ipynb: edit the chapter, then run `minigluon export`.

import logging

from minigluon import nd

__all__ = ["LossScaler", "all_finite"]


# --- The scaler -----------------------------------------------------------------------------------


class LossScaler:
    """A factor for the loss, halved when a gradient overflows and doubled after 2,000 good steps."""

    def __init__(self):
        self._loss_scale = self._next_loss_scale = 2.0**16
        self._max_loss_scale, self._scale_seq_len, self._unskipped = 2.0**24, 2000, 0

    @property
    def loss_scale(self):
        """The factor of this step."""
        return self._loss_scale

    def has_overflow(self, params):
        """Whether a gradient of these parameters is not finite; sets the factor of the next step."""
        grads = [g for p in params if p.grad_req != "null" for g in p.list_grad()]
        overflow = not all_finite(grads)
        self._loss_scale = self._next_loss_scale
        self._unskipped = 0 if overflow else self._unskipped + 1
        if overflow:
            self._next_loss_scale = self._loss_scale / 2
            logging.info("AMP: decreasing loss scale to %f", self._next_loss_scale)
        elif self._unskipped == self._scale_seq_len:
            self._unskipped = 0
            self._next_loss_scale = min(self._max_loss_scale, self._loss_scale * 2)
            logging.info("AMP: increasing loss scale to %f", self._next_loss_scale)
        return overflow


def all_finite(arrays):
    """Whether all numbers of all arrays are finite."""
    groups = {}
    for a in arrays:
        a = a if a.stype == "default" else a.data
        groups.setdefault((a.context, a.dtype), []).append(a)
    return all(
        bool(nd.multi_all_finite(*group, num_arrays=len(group)).asscalar())
        for group in groups.values()
    )
