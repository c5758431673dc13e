"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.base import MXNetError
from minigluon.cores import alone, matmul, spread
from minigluon.op import operator
from minigluon.ops.elementwise import LONG, exp, fitted, relu, shared, sigmoid, tanh
from minigluon.ops.reduce import sum

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "FEW",
    "FullyConnected",
    "LARGE",
    "add_row",
    "check_sizes",
    "dense_data",
    "dense_weight",
    "rows",
    "softplus",
    "softrelu",
    "softsign",
    "without_bias",
]


# --- Fully connected ------------------------------------------------------------------------------


def rows(data, flatten):
    """`data` as a matrix: all axes but the first become one, or without `flatten` all but the last."""
    if data.ndim == 2:
        return data
    if flatten:
        return data.reshape(data.shape[0], math.prod(data.shape[1:]))
    return data.reshape(math.prod(data.shape[:-1]), data.shape[-1])


@operator(
    vjp=(
        lambda g, y, x, w, b=None, *, flatten, **_: dense_data(g, w, x, flatten=flatten),
        lambda g, y, x, w, b=None, *, flatten, **_: dense_weight(g, x, flatten=flatten),
        lambda g, y, x, w, b=None, **_: sum(g, axis=-1, exclude=True),
    )
)
def FullyConnected(data, weight, bias=None, /, num_hidden=None, no_bias=False, flatten=True):
    """Affine map of the rows of `data`, $Y = XW^T + b$.

    data: (batch, …), flattened to (batch, in_units), or (…, in_units) with flatten=False;
    weight: (num_hidden, in_units); bias: (num_hidden,), absent with no_bias=True.
    """
    if (
        (data.ndim == 2 and bias is not None)
        and bias.shape == (num_hidden,)
        and weight.shape == (num_hidden, data.shape[1])
    ):  # the usual case, in which all is well
        y = matmul(data, weight.T)
        if y.size < LARGE:
            y += bias
        else:
            add_row(y, bias)
        return y
    check_sizes(data, weight, bias, num_hidden, no_bias, flatten)
    y = matmul(data if data.ndim == 2 else rows(data, flatten), weight.T)
    if bias is not None:
        add_row(y, bias)
    return y if flatten or data.ndim == 2 else y.reshape(*data.shape[:-1], y.shape[1])


LARGE = 1 << 21  # numbers from which threads pay for their start


def add_row(y, row):
    """Add a row to every row of `y`, in place."""
    if y.size < LARGE or type(y) is not np.ndarray:
        y += row
        return
    parts = np.array_split(y, alone.threads)
    spread(lambda part: np.add(part, row, out=part), parts)


def without_bias(data, weight, flatten):
    """`FullyConnected` of a layer that has no bias."""
    return FullyConnected(data, weight, no_bias=True, flatten=flatten)


@operator(
    vjp=(
        lambda h, y, g, w, x, flatten: without_bias(h, w, flatten),
        lambda h, y, g, w, x, flatten: dense_weight(g, h, flatten=flatten),
        None,
    )
)
def dense_data(data, weight, like, /, flatten=True):
    """The gradient of `FullyConnected`'s data, in the shape of `like`, from that of its output,
    `data`.
    """
    return matmul(rows(data, False), weight).reshape(like.shape)


@operator(
    vjp=(
        lambda h, y, g, x, flatten: without_bias(x, h, flatten),
        lambda h, y, g, x, flatten: dense_data(g, h, x, flatten=flatten),
    )
)
def dense_weight(data, inputs, /, flatten=True):
    """The gradient of `FullyConnected`'s weight, from that of its output, `data`, and its `inputs`."""
    return matmul(rows(data, False).T, rows(inputs, flatten))


def check_sizes(data, weight, bias, num_hidden, no_bias, flatten):
    """Raise MXNetError where the arrays of a FullyConnected do not fit together."""
    units = num_hidden or weight.shape[0]
    if data.ndim == 2:
        inputs = data.shape[1]
    elif data.ndim < 2 and not (data.ndim and flatten):  # numbers in a row are samples of one input
        raise MXNetError("data needs a batch axis and at least one more")
    else:
        inputs = math.prod(data.shape[1:]) if flatten else data.shape[-1]
    if weight.shape != (units, inputs):
        raise MXNetError(
            f"{units} units of {inputs} inputs each need a weight of shape {(units, inputs)}, "
            f"this one has {weight.shape}"
        )
    if bias is None:
        if not no_bias:
            raise MXNetError("bias is missing: give one, or no_bias=True")
    elif bias.shape != (units,):
        raise MXNetError(
            f"{units} units need a bias of shape {(units,)}, this one has {bias.shape}"
        )


@FullyConnected.shapes
def _(data, weight, bias=None, num_hidden=None, no_bias=False, flatten=True):
    inputs = math.prod(data[1:]) if flatten else data[-1]
    return data, (num_hidden, inputs), (num_hidden,)


FullyConnected.inputs = lambda no_bias, **_: ["data", "weight"] + ["bias"] * (not no_bias)


# --- Activations ----------------------------------------------------------------------------------


def softplus(x, out=None):
    """max(x, 0) + ln(1 + exp(-|x|)), into `out` if given: a tenth of the time of `np.logaddexp`."""
    y = np.abs(x, out=out)
    if not y.ndim:  # NumPy makes a bare number of an array without axes
        return np.logaddexp(x, 0)
    np.negative(y, out=y)
    np.exp(y, out=y)
    np.log1p(y, out=y)
    y += np.maximum(x, 0)
    return y


FEW = 1 << 7  # numbers up to which one slow call is sooner done than six quick ones


@operator(vjp=(lambda g, y, x: g * (1 - exp(-y)),))
def softrelu(data, /):
    """A smooth relu, $\\ln(1+e^x)$, also called softplus."""
    if data.dtype.kind not in "fV" or (data.size <= FEW and data.dtype.char in "fd"):
        return np.logaddexp(data, 0)
    return softplus(data) if data.size < LONG else shared(softplus, data)


@operator(vjp=(lambda g, y, x: g * (1 - abs(y)) * (1 - abs(y)),))
def softsign(data, /):
    """$x/(1+|x|)$, elementwise: between -1 and 1 like tanh, but with slower tails."""
    return fitted(data / (1 + abs(data)), data.dtype)


ACTIVATIONS = {
    "relu": relu,
    "sigmoid": sigmoid,
    "softrelu": softrelu,
    "softsign": softsign,
    "tanh": tanh,
}


@operator(vjp=(lambda g, y, x, act_type: ACTIVATIONS[act_type].rules[0](g, y, x),))
def Activation(data, /, act_type):
    """The elementwise function named by `act_type`: relu, sigmoid, softrelu, softsign or tanh."""
    if act_type not in ACTIVATIONS:
        raise MXNetError(f"unknown act_type {act_type!r}; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[act_type].kernel(data)


Activation.choices["act_type"] = (*ACTIVATIONS,)
Activation.simpler = lambda act_type: ACTIVATIONS.get(act_type)  # what programs call instead
