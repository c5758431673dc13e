"""Random numbers that pass gradients on, the functions of layers, and graphs of calls that are taken apart when shapes are known."""

# Written from chapters/24c_numpy_networks.ipynb: edit the chapter, then run `minigluon export`.

import importlib

from numpy import broadcast_shapes

from minigluon import ops
from minigluon.context import (
    Context,
    cpu,
    cpu_pinned,
    current_context,
    gpu,
    gpu_memory_info,
    num_gpus,
)
from minigluon.ndarray import utils
from minigluon.ndarray.ndarray import waitall
from minigluon.numpy import random as np_random
from minigluon.numpy.multiarray import as_np, exp, given, np_reshape, places, stack, swapaxes
from minigluon.numpy.scope import is_np_array, is_np_shape, reset_np, set_np
from minigluon.op import BadValue, operators
from minigluon.random import seed

# --- Layers' functions: mx.npx --------------------------------------------------------------------

generators_anew = seed

ops.load()
__all__ = [
    "Context",
    "cpu",
    "cpu_pinned",
    "current_context",
    "gpu",
    "is_np_array",
    "is_np_shape",
    "load",
    "gpu_memory_info",
    "nonzero",
    "num_gpus",
    "random",
    "reset_np",
    "reshape",
    "save",
    "seed",
    "set_np",
    "waitall",
]


OPERATORS = {
    "activation": "Activation",
    "arange_like": "contrib_arange_like",
    "batch_dot": "batch_dot",
    "batch_flatten": "flatten",
    "batch_norm": "BatchNorm",
    "cast": "cast",
    "constraint_check": "_np_constraint_check",
    "convolution": "Convolution",
    "deconvolution": "Deconvolution",
    "dropout": "Dropout",
    "embedding": "Embedding",
    "erf": "erf",
    "erfinv": "erfinv",
    "fully_connected": "FullyConnected",
    "gamma": "gamma",
    "gammaln": "gammaln",
    "gather_nd": "gather_nd",
    "layer_norm": "LayerNorm",
    "leaky_relu": "LeakyReLU",
    "log_softmax": "log_softmax",
    "multibox_detection": "contrib_MultiBoxDetection",
    "multibox_prior": "contrib_MultiBoxPrior",
    "multibox_target": "contrib_MultiBoxTarget",
    "one_hot": "one_hot",
    "pick": "pick",
    "pooling": "Pooling",
    "relu": "relu",
    "reshape_like": "reshape_like",
    "rnn": "RNN",
    "roi_pooling": "ROIPooling",
    "sequence_mask": "SequenceMask",
    "shape_array": "shape_array",
    "sigmoid": "sigmoid",
    "slice": "slice",
    "smooth_l1": "smooth_l1",
    "softmax": "softmax",
    "topk": "topk",
}
CODES = {-2: (0,), -4: (-2,), -5: (-3,), -6: (-4,)}  # of npx.reshape, as those of nd.reshape


def reshape(a, newshape, reverse=False, order="C"):
    """The numbers in another shape, by codes.

    -1 is what is left over, -2 the size of this axis, -3 leaves out an axis of size 1, -4 is all further axes, -5
    the product of two axes, -6 divides an axis into the two sizes that follow.
    """
    codes = [newshape] if isinstance(newshape, int) else list(newshape)
    if -3 in codes:
        a, codes = without_ones(a, codes, reverse)
    if not any(code < -1 for code in codes):
        return np_reshape(a, newshape=tuple(codes))
    named = tuple(n for code in codes for n in CODES.get(code, (code,)))
    return operators["reshape"](a, shape=named, reverse=reverse)


def without_ones(a, codes, reverse):
    """The array without the axes that stand at a code -3, and the other codes."""
    axis, gone = 0, []
    in_order = iter(reversed(codes) if reverse else codes)
    for code in in_order:
        if code == -3:
            gone.append(a.ndim - 1 - axis if reverse else axis)
        elif code == -6:
            next(in_order, None), next(in_order, None)  # the two sizes of this one axis
        axis += {-5: 2, -4: a.ndim}.get(code, 1)
    if not all(0 <= i < a.ndim and a.shape[i] == 1 for i in gone):
        raise BadValue(
            f"npx.reshape: in {tuple(codes)} -3 leaves out axes {gone} of the shape {a.shape}: "
            "they need size 1"
        )
    kept = tuple(n for i, n in enumerate(a.shape) if i not in gone)
    return a.reshape(kept), [c for c in codes if c != -3]


def nonzero(a):
    """The places of all numbers but 0, one a row, int64."""
    return swapaxes(stack(places(a)), 0, 1)


def save(file, arr):
    """Write an array, a list or a dictionary of them to a file."""
    utils.save(file, arr)


def load(file):
    """The arrays of a file, a list or a dictionary, as arrays of `mx.np`."""
    found = utils.load(file)
    return {k: as_np(a) for k, a in found.items()} if isinstance(found, dict) else as_np(found)


class random:  # noqa: N801
    """Random numbers that NumPy does not have."""

    @staticmethod
    def bernoulli(prob=None, logit=None, size=None, dtype=None, ctx=None, out=None):
        """Ones with probability `prob`, or with that whose log-odds are `logit`, else zeros."""
        if (prob is None) == (logit is None):
            raise ValueError("bernoulli: give prob or logit, one of them")
        if prob is None:
            prob = 1 / (1 + exp(-logit))
        size = getattr(prob, "shape", None) if size is None else size
        found = (np_random.uniform(size=size, ctx=ctx) < prob).astype(dtype or "float32")
        return given(found, out)

    @staticmethod
    def uniform_n(low=0.0, high=1.0, batch_shape=None, dtype=None, ctx=None):
        """Numbers spread evenly from `low` to `high`: `batch_shape` of them for each pair."""
        return np_random.uniform(low, high, batched(batch_shape, low, high), dtype, ctx)

    @staticmethod
    def normal_n(loc=0.0, scale=1.0, batch_shape=None, dtype=None, ctx=None):
        """Normal numbers: `batch_shape` of them for each pair of mean and standard deviation."""
        return np_random.normal(loc, scale, batched(batch_shape, loc, scale), dtype, ctx)

    @staticmethod
    def seed(seed, ctx="all"):
        """Start the stream of random numbers anew, on all contexts or on one."""
        generators_anew(seed, ctx)


def batched(batch_shape, *params):
    """`batch_shape`, and behind it the shape of the parameters."""
    front = (batch_shape,) if isinstance(batch_shape, int) else tuple(batch_shape or ())
    return front + broadcast_shapes(*[getattr(p, "shape", ()) for p in params])


def __getattr__(name):
    """An operator under its name here, or the functions on images."""
    if name == "image":
        return importlib.import_module(f"{__name__}.image")
    if name not in OPERATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = operators[OPERATORS[name]]
    return found


def __dir__():
    return sorted({*__all__, *OPERATORS, "image"})
