"""A loss turns predictions and truth into one number a sample; its gradient is what the network learns from."""

# Written from chapters/50_losses.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.base import numeric_types
from minigluon.gluon.block import HybridBlock

__all__ = ["L2Loss", "Loss", "SoftmaxCELoss", "SoftmaxCrossEntropyLoss", "apply_weighting"]


# --- Losses ---------------------------------------------------------------------------------------


class Loss(HybridBlock):
    """The base class of losses: a `weight` for all samples, and the axis that counts the samples."""

    def __init__(self, weight, batch_axis, **kwargs):
        super().__init__(**kwargs)
        self._weight, self._batch_axis = weight, batch_axis

    def __repr__(self):
        return f"{type(self).__name__}(batch_axis={self._batch_axis}, w={self._weight})"

    def _average(self, F, loss, sample_weight, weight=None):
        """Weight the values of `loss` and average them over all axes but the batch."""
        weight = self._weight if weight is None else weight
        loss = apply_weighting(F, loss, weight, sample_weight)
        return F.mean(loss, axis=self._batch_axis, exclude=True)


def apply_weighting(F, loss, weight=None, sample_weight=None):
    """`loss` times a constant, and times an array that broadcasts to it."""
    if sample_weight is not None:
        loss = F.broadcast_mul(loss, sample_weight)
    if weight is not None:
        assert isinstance(weight, numeric_types), f"weight must be a number, not {weight!r}"
        loss = loss * weight
    return loss


class L2Loss(Loss):
    """Half the squared difference, $\\frac12 w\\,(p-l)^2$, averaged a sample.

    pred: any shape with the batch on `batch_axis`; label: as many numbers; sample_weight:
    broadcastable to pred. Output (batch,).
    """

    def __init__(self, weight=1.0, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        loss = F.square(F.reshape_like(label, pred) - pred)
        return self._average(F, loss, sample_weight, self._weight / 2)


class SoftmaxCrossEntropyLoss(Loss):
    """Minus the log-probability of the true class under the softmax of `pred` along `axis`.

    pred: logits, or log-probabilities with `from_logits`; label: class numbers of pred's shape without
    `axis`, or with `sparse_label=False` probabilities of pred's shape. Output (batch,).
    """

    def __init__(
        self,
        axis=-1,
        sparse_label=True,
        from_logits=False,
        weight=None,
        batch_axis=0,
        **kwargs,
    ):
        super().__init__(weight, batch_axis, **kwargs)
        self._axis, self._sparse_label, self._from_logits = axis, sparse_label, from_logits

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        axis = self._axis
        if self._sparse_label and not self._from_logits:
            loss = F.sparse_softmax_cross_entropy(pred, label, axis=axis)
        else:
            pred = pred if self._from_logits else F.log_softmax(pred, axis=axis)
            if self._sparse_label:
                loss = -F.pick(pred, label, axis=axis, keepdims=True)
            else:
                loss = -F.sum(pred * F.reshape_like(label, pred), axis=axis, keepdims=True)
        return self._average(F, loss, sample_weight)


SoftmaxCELoss = SoftmaxCrossEntropyLoss
