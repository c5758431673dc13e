"""The operators that end a classic symbolic network: a prediction forward, and the gradient of a loss that nobody computes."""

# Written from chapters/52_output_layers.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.op import operator
from minigluon.ops.elementwise import sigmoid
from minigluon.ops.indexing import at
from minigluon.ops.reduce import softmax

__all__ = [
    "IdentityAttachKLSparseReg",
    "LinearRegressionOutput",
    "LogisticRegressionOutput",
    "MAERegressionOutput",
    "SVMOutput",
    "SoftmaxOutput",
    "absolute",
    "check_label",
    "divisor",
    "known",
    "label_like_data",
    "middle",
    "minus_truth",
    "regression_gradient",
    "softmax_output_gradient",
    "sparseness_gradient",
    "squared",
    "svm_gradient",
]


# --- Softmax --------------------------------------------------------------------------------------


def middle(data, multi_output, preserve_shape):
    """`data` as (n, classes, m): m is 1, or with `multi_output` the number of places."""
    shape = data.shape
    if multi_output:
        return data.reshape(shape[0], shape[1], math.prod(shape[2:]))
    if preserve_shape:
        return data.reshape(math.prod(shape[:-1]), shape[-1], 1)
    return data.reshape(shape[0], math.prod(shape[1:]), 1)


@operator(
    vjp=(
        lambda g, y, x, label, out_grad, **settings: (
            softmax_output_gradient(y, label, **settings) * g
            if out_grad
            else softmax_output_gradient(y, label, **settings)
        ),
        None,
    ),
    aliases=("Softmax",),
    same_dtype=False,
)
def SoftmaxOutput(
    data,
    label,
    /,
    grad_scale=1.0,
    ignore_label=-1.0,
    multi_output=False,
    use_ignore=False,
    preserve_shape=False,
    normalization="null",
    out_grad=False,
    smooth_alpha=0.0,
):
    """The softmax of `data`; its gradient is that of the cross-entropy with `label`, whatever follows.

    data: (batch, classes, …); label: a class for each softmax, or probabilities of data's shape.
    normalization: 'null', 'batch' or 'valid', what the gradient is divided by.
    """
    if normalization not in ("null", "batch", "valid"):
        raise ValueError(f"normalization is null, batch or valid, not {normalization!r}")
    if data.ndim == 2 and label.size == len(data):  # the usual case: a class for each row
        return softmax.kernel(data)
    z = middle(data, multi_output, preserve_shape)
    rows = z.shape[0] * z.shape[2]
    if label.shape != data.shape and label.size not in (rows, math.prod(data.shape[:-1])):
        raise ValueError(f"{rows} softmaxes need as many labels, not {label.size}")
    return softmax.kernel(z, axis=1).reshape(data.shape)


SoftmaxOutput.choices["normalization"] = ("null", "batch", "valid")
SoftmaxOutput.starts = True  # its gradient asks for nothing from above


def known(shape):
    """Whether a shape is given, without open sizes."""
    return bool(shape) and 0 not in shape and -1 not in shape


@SoftmaxOutput.shapes
def _(data, label=None, multi_output=False, **settings):
    if known(label):
        return data, label
    if label is not None and len(label) == len(data):  # a probability for each class
        return data, data
    if multi_output:  # as MXNet: all places of a sample in one row
        return data, (*data[:1], math.prod(data[2:]))
    return data, data[:-1]


@operator(same_dtype=False)
def softmax_output_gradient(
    data,
    label,
    /,
    grad_scale=1.0,
    ignore_label=-1.0,
    multi_output=False,
    use_ignore=False,
    preserve_shape=False,
    normalization="null",
    smooth_alpha=0.0,
):
    """The gradient of `SoftmaxOutput` for its output `data`: probabilities minus truth, scaled."""
    if label.shape == data.shape:
        return (data - label.astype(data.dtype)) * grad_scale
    p = middle(data, multi_output, preserve_shape)
    n, _, m = p.shape
    labels = label.astype("int64").reshape(-1)
    truth = labels[: n * m].reshape(n, 1, m)  # MXNet takes a row too many, and reads the first ones
    out = minus_truth(p, truth, 0 if multi_output else smooth_alpha)
    if use_ignore:
        out *= truth != int(ignore_label)
    out *= grad_scale / divisor(labels != int(ignore_label), normalization, m)
    return out.reshape(data.shape)


def minus_truth(p, truth, alpha):
    """`p` minus 1 - alpha at the true class of axis 1, minus alpha shared by the other classes."""
    k = p.shape[1]
    others = alpha / (k - 1) if alpha else 0
    out = p - others
    inside = (truth >= 0) & (truth < k)
    out[at(p, truth, 1, "clip")] -= inside.astype(p.dtype) * (1 - alpha - others)
    return out


def divisor(valid, normalization, places):
    """What the gradient of softmaxes at `places` a sample is divided by, given which labels are valid."""
    if normalization == "valid":
        return np.maximum(valid.sum(), 1)
    return valid.size if normalization == "batch" else places


# --- Regression -----------------------------------------------------------------------------------


@operator(same_dtype=False)
def regression_gradient(data, label, /, grad_scale=1.0, absolute=False):
    """Prediction `data` minus `label`, or its sign (-1 for 0, as in MXNet), times `grad_scale`,
    over the labels a sample.
    """
    out = data - label.astype(data.dtype).reshape(data.shape)
    if absolute:
        out = np.where(out > 0, out.dtype.type(1), out.dtype.type(-1))
    return out * (grad_scale * label.shape[0] / max(label.size, 1))


def check_label(data, label):
    """Raise ValueError if a regression has not one label a number."""
    if data.size != label.size:
        raise ValueError(f"label must have data's shape {data.shape}, not {label.shape}")


def squared(g, y, x, label, grad_scale):
    """The rule of an output layer with prediction minus truth."""
    return regression_gradient(y, label, grad_scale=grad_scale)


def absolute(g, y, x, label, grad_scale):
    """The rule of an output layer with the sign of prediction minus truth."""
    return regression_gradient(y, label, grad_scale=grad_scale, absolute=True)


@operator(vjp=(squared, None), same_dtype=False)
def LinearRegressionOutput(data, label, /, grad_scale=1.0):
    """`data` itself; its gradient is that of half the squared error to `label`, of data's shape."""
    check_label(data, label)
    return data.copy()


@operator(vjp=(absolute, None), same_dtype=False)
def MAERegressionOutput(data, label, /, grad_scale=1.0):
    """`data` itself; its gradient is that of the absolute error to `label`, of data's shape."""
    check_label(data, label)
    return data.copy()


@operator(vjp=(squared, None), same_dtype=False)
def LogisticRegressionOutput(data, label, /, grad_scale=1.0):
    """The sigmoid of `data`; its gradient is that of the cross-entropy with `label`, of data's shape."""
    check_label(data, label)
    return sigmoid.kernel(data)


def label_like_data(data, label=None, **settings):
    """Shapes of a regression: a column of numbers wants a plain list of labels."""
    column = len(data) == 2 and data[1] == 1
    return data, label if known(label) else data[:1] if column else data


for op in (LinearRegressionOutput, MAERegressionOutput, LogisticRegressionOutput):
    op.shapes(label_like_data)
    op.starts = True


# --- Margins --------------------------------------------------------------------------------------


@operator(
    vjp=(lambda g, y, x, label, **settings: svm_gradient(x, label, **settings), None),
    same_dtype=False,
)
def SVMOutput(data, label, /, margin=1.0, regularization_coefficient=1.0, use_linear=False):
    """`data` itself; its gradient is that of the squared hinge loss, or the hinge loss if `use_linear`.

    data: (…, classes); label: a class for each row.
    """
    if label.size != math.prod(data.shape[:-1]):
        raise ValueError(f"label must have shape {data.shape[:-1]}, not {label.shape}")
    return data.copy()


@SVMOutput.shapes
def _(data, label=None, **settings):
    return data, label if known(label) else data[:-1]


SVMOutput.starts = True


@operator(same_dtype=False)
def svm_gradient(data, label, /, margin=1.0, regularization_coefficient=1.0, use_linear=False):
    """The gradient of `SVMOutput` at `data`: which way, and how far, scores violate the margin."""
    x = data.reshape(math.prod(data.shape[:-1]), data.shape[-1])
    truth = label.astype("int64").reshape(len(x), 1)
    side = minus_truth(np.zeros_like(x), truth, 0) * 2 + 1
    short = margin + side * x
    slope = short > 0 if use_linear else 2 * np.maximum(short, 0)
    return (side * slope * regularization_coefficient).astype(data.dtype).reshape(data.shape)


# --- Sparseness -----------------------------------------------------------------------------------


@operator(same_dtype=False)
def IdentityAttachKLSparseReg(
    data, moving_avg, /, sparseness_target=0.1, penalty=0.001, momentum=0.9
):
    """`data` itself, (batch, units) of numbers between 0 and 1;
    its gradient pulls the mean activity of each unit to a target.

    moving_avg: (units,), the mean so far. Source: Hinton, A practical guide to training RBMs, 2010,
    section 11.
    """
    if moving_avg.shape != data.shape[1:2]:
        raise ValueError(f"moving_avg must have shape {data.shape[1:2]}, not {moving_avg.shape}")
    return data.copy()


@IdentityAttachKLSparseReg.vjp
def _(g, y, x, moving_avg, **settings):
    return sparseness_gradient(g, x, moving_avg, **settings), None


@IdentityAttachKLSparseReg.shapes
def _(data, moving_avg=None, **_):
    return data, (math.prod(data[1:]),)


IdentityAttachKLSparseReg.states = {"moving_avg": '["zero", {}]'}
IdentityAttachKLSparseReg.starts = True  # the pull is there even if nothing else is
IdentityAttachKLSparseReg.asks = True  # and adds to what comes


@operator(vjp=(lambda h, y, *_, **__: h, None, None), same_dtype=False)
def sparseness_gradient(
    data, inputs, moving_avg, /, sparseness_target=0.1, penalty=0.001, momentum=0.9
):
    """The gradient of `IdentityAttachKLSparseReg`, from that of its output, `data`;
    moves the mean activity.
    """
    moving_avg *= momentum
    moving_avg += ((1 - momentum) * inputs.mean(axis=0)).astype(moving_avg.dtype)
    slope = (1 - sparseness_target) / (1 - moving_avg) - sparseness_target / moving_avg
    return data + (penalty * slope).astype(data.dtype)
