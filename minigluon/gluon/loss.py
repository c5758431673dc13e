"""A loss turns predictions and truth into one number a sample; its gradient is what the network learns from."""

# Written from chapters/50_losses.ipynb, chapters/51_ctc.ipynb: edit the chapter, then run `minigluon export`.

import math

from minigluon.base import numeric_types
from minigluon.gluon.block import HybridBlock
from minigluon.ndarray.ndarray import NDArray

__all__ = [
    "CTCLoss",
    "CosineEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "L2Loss",
    "LogisticLoss",
    "Loss",
    "PoissonNLLLoss",
    "SDMLLoss",
    "SigmoidBCELoss",
    "SigmoidBinaryCrossEntropyLoss",
    "SoftmaxCELoss",
    "SoftmaxCrossEntropyLoss",
    "SquaredHingeLoss",
    "TripletLoss",
    "apply_weighting",
    "binary_cross_entropy",
]


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


def _reshape_like(F, x, y):
    """`x` in the shape of `y`."""
    return F.reshape_like(x, y)


_apply_weighting = apply_weighting  # under these names losses written elsewhere import both


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
        if self._sparse_label:
            logs = self._from_logits
            f = F.negative_log_likelihood if logs else F.sparse_softmax_cross_entropy
            loss = f(pred, label, axis=axis)
        else:
            pred = pred if self._from_logits else F.log_softmax(pred, axis=axis)
            loss = -F.sum(pred * F.reshape_like(label, pred), axis=axis, keepdims=True)
        return self._average(F, loss, sample_weight)


SoftmaxCELoss = SoftmaxCrossEntropyLoss


# --- Losses of numbers ----------------------------------------------------------------------------


class L1Loss(Loss):
    """The absolute difference of pred and label, averaged a sample. Output (batch,)."""

    def __init__(self, weight=None, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        return self._average(F, F.abs(F.reshape_like(label, pred) - pred), sample_weight)


class HuberLoss(Loss):
    """The absolute difference minus rho/2, and below `rho` the square over 2 rho. Output (batch,)."""

    def __init__(self, rho=1, weight=None, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._rho = rho

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        loss = F.abs(F.reshape_like(label, pred) - pred)
        square = (0.5 / self._rho) * F.square(loss)
        loss = F.where(loss > self._rho, loss - 0.5 * self._rho, square)
        return self._average(F, loss, sample_weight)


class PoissonNLLLoss(Loss):
    """Minus the log-likelihood of counts `target` under rates `pred`, or exp(pred) with `from_logits`.

    The mean over all samples, shape (1,). `compute_full` adds Stirling's ln(target!) above 1.
    """

    def __init__(self, weight=None, from_logits=True, batch_axis=0, compute_full=False, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._from_logits, self._compute_full = from_logits, compute_full

    def hybrid_forward(self, F, pred, target, sample_weight=None, epsilon=1e-08):
        target = F.reshape_like(target, pred)
        if self._from_logits:
            loss = F.exp(pred) - target * pred
        else:
            loss = pred - target * F.log(pred + epsilon)
        if self._compute_full:
            k = F.maximum(target, 1)  # no logarithm of 0, whose product with 0 is no number
            stirling = k * F.log(k) - k + 0.5 * F.log(2 * math.pi * k)
            loss = loss + stirling * (target > 1)
        return F.mean(apply_weighting(F, loss, self._weight, sample_weight))


# --- Losses of yes and no -------------------------------------------------------------------------


def binary_cross_entropy(F, pred, label, factor=1):
    """Minus the log-likelihood of `label` under the logits `pred`; positive samples count `factor`."""
    each = 1 + (factor - 1) * label if isinstance(factor, numeric_types) else factor
    return (1 - label) * pred + each * F.Activation(-pred, act_type="softrelu")


class SigmoidBinaryCrossEntropyLoss(Loss):
    """Minus the log-likelihood of labels 0 or 1 under logits, or probabilities with `from_sigmoid`.

    pos_weight: a factor for the positive labels, broadcastable to pred. Output (batch,).
    """

    def __init__(self, from_sigmoid=False, weight=None, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._from_sigmoid = from_sigmoid

    def hybrid_forward(self, F, pred, label, sample_weight=None, pos_weight=None):
        label = F.reshape_like(label, pred)
        if self._from_sigmoid:
            loss = self._of_probabilities(F, pred, label, pos_weight)
        elif pos_weight is None:
            loss = binary_cross_entropy(F, pred, label)
        else:
            factor = 1 + F.broadcast_mul(label, pos_weight - 1)
            loss = binary_cross_entropy(F, pred, label, factor)
        return self._average(F, loss, sample_weight)

    def _of_probabilities(self, F, p, label, pos_weight):
        yes = F.log(p + 1e-12) * label
        yes = yes if pos_weight is None else F.broadcast_mul(yes, pos_weight)
        return -(yes + F.log(1 - p + 1e-12) * (1 - label))


SigmoidBCELoss = SigmoidBinaryCrossEntropyLoss


class LogisticLoss(Loss):
    """ln(1 + exp(-label pred)) for labels -1 and 1 ('signed'), or 0 and 1 ('binary').

    Output (batch,).
    """

    def __init__(self, weight=None, batch_axis=0, label_format="signed", **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        if label_format not in ("signed", "binary"):
            raise ValueError(f"label_format can only be signed or binary, not {label_format}")
        self._label_format = label_format

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        label = F.reshape_like(label, pred)
        if self._label_format == "signed":
            label = (label + 1) / 2
        return self._average(F, binary_cross_entropy(F, pred, label), sample_weight)


class HingeLoss(Loss):
    """How far label times pred falls short of `margin`, for labels -1 and 1. Output (batch,)."""

    def __init__(self, margin=1, weight=None, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        loss = F.relu(self._margin - pred * F.reshape_like(label, pred))
        return self._average(F, loss, sample_weight)


class SquaredHingeLoss(Loss):
    """The square of how far label times pred falls short of `margin`. Output (batch,)."""

    def __init__(self, margin=1, weight=None, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        loss = F.square(F.relu(self._margin - pred * F.reshape_like(label, pred)))
        return self._average(F, loss, sample_weight)


# --- Losses of distributions and of distances -----------------------------------------------------


class KLDivLoss(Loss):
    """label (ln label - pred), summed a sample, not averaged;
    pred holds log-probabilities if `from_logits`.
    """

    def __init__(self, from_logits=True, axis=-1, weight=None, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._from_logits, self._axis = from_logits, axis

    def hybrid_forward(self, F, pred, label, sample_weight=None):
        pred = pred if self._from_logits else F.log_softmax(pred, axis=self._axis)
        loss = label * (F.log(label + 1e-12) - pred)
        loss = apply_weighting(F, loss, self._weight, sample_weight)
        return F.sum(loss, axis=self._batch_axis, exclude=True)


class TripletLoss(Loss):
    """How far `positive` is from being nearer to pred than `negative` by `margin`. Output (batch,)."""

    def __init__(self, margin=1, weight=None, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F, pred, positive, negative):
        near = F.square(F.reshape_like(positive, pred) - pred)
        far = F.square(F.reshape_like(negative, pred) - pred)
        loss = F.sum(near - far, axis=self._batch_axis, exclude=True)
        return apply_weighting(F, F.relu(loss + self._margin), self._weight)


class CosineEmbeddingLoss(Loss):
    """1 - cosine for label 1; for label -1 the cosine above `margin`. Output (batch, 1)."""

    def __init__(self, weight=None, batch_axis=0, margin=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F, input1, input2, label, sample_weight=None):
        input1, label = F.reshape_like(input1, input2), F.reshape(label, shape=(-1, 1))
        sizes = F.norm(input1, axis=-1) * F.norm(input2, axis=-1)
        cosine = F.sum(input1 * input2, axis=-1) / F.maximum(sizes, 1e-12)
        cosine = F.reshape(cosine, shape=(-1, 1))
        unlike = F.relu(cosine - self._margin) * (label == -1)  # a label of 0 counts for nothing
        loss = F.where(label == 1, 1 - cosine, unlike)
        return apply_weighting(F, loss, self._weight, sample_weight)


class SDMLLoss(Loss):
    """How badly each row of x1 finds its own row of x2 among all, by distance, with smoothed truth.

    x1, x2: (batch, features). Output (batch,). Bonadiman et al. 2019, arXiv:1905.12786.
    """

    def __init__(self, smoothing_parameter=0.3, weight=1.0, batch_axis=0, **kwargs):
        super().__init__(weight, batch_axis, **kwargs)
        self.kl_loss = KLDivLoss(from_logits=True)
        self.smoothing_parameter = smoothing_parameter

    def hybrid_forward(self, F, x1, x2):
        if isinstance(x1, NDArray):
            assert x1.shape == x2.shape, f"x1 has shape {x1.shape}, x2 {x2.shape}: one row a pair"
        pairs = F.broadcast_sub(F.expand_dims(x1, axis=1), F.expand_dims(x2, axis=0))
        distances = F.sum(F.square(pairs), axis=2)
        return self.kl_loss(F.log_softmax(-distances, axis=1), self._truth(F, distances))

    def _truth(self, F, distances):
        """The probability of each partner: 1 - s for the own one, s shared by the others."""
        place = F.contrib.arange_like(distances, axis=0)
        own = F.broadcast_equal(F.expand_dims(place, axis=1), F.expand_dims(place, axis=0))
        others = F.maximum(F.sum(1 - own, axis=1, keepdims=True), 1)
        s = self.smoothing_parameter
        return own * (1 - s) + F.broadcast_div(1 - own, others) * s


# --- The loss -------------------------------------------------------------------------------------


class CTCLoss(Loss):
    """Minus the log-probability that a sequence reads as its label; the last class is the blank.

    pred: logits in `layout`, NTC or TNC; label: class numbers in `label_layout`, NT or TN, padded
    with -1. pred_lengths, label_lengths: (batch,). Output (batch,), infinite where a label does not
    fit.
    """

    def __init__(self, layout="NTC", label_layout="NT", weight=None, **kwargs):
        assert layout in ("NTC", "TNC"), (
            f"Only 'NTC' and 'TNC' layouts for pred are supported. Got: {layout}"
        )
        assert label_layout in ("NT", "TN"), (
            f"Only 'NT' and 'TN' layouts for label are supported. Got: {label_layout}"
        )
        self._layout, self._label_layout = layout, label_layout
        super().__init__(weight, label_layout.find("N"), **kwargs)

    def hybrid_forward(
        self, F, pred, label, pred_lengths=None, label_lengths=None, sample_weight=None
    ):
        if self._layout == "NTC":
            pred = F.swapaxes(pred, dim1=0, dim2=1)
        if self._batch_axis == 1:
            label = F.swapaxes(label, dim1=0, dim2=1)
        lengths = {"data_lengths": pred_lengths, "label_lengths": label_lengths}
        given = {name: a for name, a in lengths.items() if a is not None}
        used = {f"use_{name}": True for name in given}
        loss = F.CTCLoss(pred, label, **given, **used, blank_label="last")
        return apply_weighting(F, loss, self._weight, sample_weight)
