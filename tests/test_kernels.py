"""Every CUDA kernel without a GPU: compiled for two cards, run on the CPU, watched, and against NumPy."""

import itertools
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

import minigluon as mx
import minigluon.ops
from minigluon import context, cuda_on_cpu, gpu_on_cpu
from minigluon.autograd import record, train_mode
from minigluon.base import MXNetError
from minigluon.cuda_on_cpu import KernelError, RawModule, available, source
from minigluon.kernels import Kernels
from minigluon.op import operators
from minigluon.ops import optimizer, product_kernels, recurrent_kernels, update_kernels
from tests import nvrtc
from tests.standins import unwrap, wrap

minigluon.ops.load()

on_cpu = pytest.mark.skipif(not available(), reason="no g++: kernels cannot run on the CPU")
TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def random(*shape, dtype="float32", scale=1.0, seed=None):
    """Normal numbers of a type, the same for the same shape."""
    rng = np.random.default_rng(zlib.crc32(repr((shape, seed)).encode()))
    return (rng.normal(size=shape) * scale).astype(typed(dtype))


def typed(dtype):
    """A NumPy type; bfloat16 by ml_dtypes."""
    if dtype != "bfloat16":
        return np.dtype(dtype)
    return np.dtype(pytest.importorskip("ml_dtypes", reason="no ml_dtypes: no bfloat16").bfloat16)


def labels(*shape, below, seed=0):
    """Whole numbers as float32, as Gluon's labels are."""
    return np.random.default_rng(seed).integers(0, below, shape).astype("float32")


def softmaxed(*shape, dtype="float32"):
    e = np.exp(random(*shape, seed=9).astype("float32"))
    return (e / e.sum(-1, keepdims=True)).astype(typed(dtype))


# name: (operator, how to make its arrays, settings)
CASES = {
    "softmax odd": ("softmax", lambda: [random(5, 33, scale=9)], {}),
    "softmax one": ("softmax", lambda: [random(3, 1)], {}),
    "softmax wide": ("softmax", lambda: [random(2, 300)], {"temperature": 2.0}),
    "softmax block": ("softmax", lambda: [random(2, 1036)], {}),
    "softmax half": ("softmax", lambda: [random(9, 40, dtype="float16")], {}),
    "softmax bf16": ("softmax", lambda: [random(9, 41, dtype="bfloat16")], {}),
    "softmax long": ("softmax", lambda: [random(2, 25001)], {}),
    "softmax of 48 KiB": ("softmax", lambda: [random(1, 12288)], {}),
    "softmax strided": ("softmax", lambda: [random(7, 5).T], {}),
    "log_softmax": ("log_softmax", lambda: [random(4, 3, 7, scale=9)], {"axis": 2}),
    "softmax_back odd": ("softmax_back", lambda: [random(5, 33), softmaxed(5, 33)], {}),
    "softmax_back wide": ("softmax_back", lambda: [random(2, 300), softmaxed(2, 300)], {}),
    "softmax_back half": (
        "softmax_back",
        lambda: [random(9, 40, dtype="float16"), softmaxed(9, 40, dtype="float16")],
        {"temperature": 0.5},
    ),
    "log_softmax_back": ("log_softmax_back", lambda: [random(3, 7), np.log(softmaxed(3, 7))], {}),
    "cross-entropy": (
        "sparse_softmax_cross_entropy",
        lambda: [random(9, 33, scale=9), labels(9, below=33)],
        {},
    ),
    "cross-entropy wide": (
        "sparse_softmax_cross_entropy",
        lambda: [random(2, 1040), np.array([-1, 1039], "float32")],
        {},
    ),
    "overestimate": (
        "overestimate",
        lambda: [random(9, 33), random(9, 1) + 4, labels(9, below=33)],
        {},
    ),
    "cross_entropy_back": (
        "cross_entropy_back",
        lambda: [random(9, 1), random(9, 32), random(9, 1) + 4, labels(9, below=32)],
        {},
    ),
}


def norm_arrays(*shape, channels, dtype="float32", offset=0):
    """Data away from 0, gamma and beta."""
    data = (random(*shape) * 2 + 3 + offset).astype(typed(dtype))
    return [data, random(channels, seed=1) + 2, random(channels, seed=2)]


def back_arrays(*shape, over, channels, dtype="float32"):
    """What a normalization's gradient gets: that of its output, its input, gamma, means,
    1/deviations.
    """
    x = random(*shape) * 2 + 3
    m = x.mean(axis=over, keepdims=True)
    r = 1 / np.sqrt(x.var(axis=over, keepdims=True) + 1e-5)
    g = random(*shape, seed=3).astype(typed(dtype))
    return [g, x.astype(typed(dtype)), random(channels, seed=1), m, r]


def batch_arrays(*shape, axis=1, dtype="float32", offset=0):
    """What batch normalization gets."""
    c = shape[axis]
    arrays = norm_arrays(*shape, channels=c, dtype=dtype, offset=offset)
    return [*arrays, random(c, seed=4), random(c, seed=5) ** 2 + 1]


def batch_back(*shape, axis=1, dtype="float32", mode=1.0):
    """What its gradient gets."""
    c, over = shape[axis], tuple(i for i in range(len(shape)) if i != axis)
    g, x, gamma, m, r = back_arrays(*shape, over=over, channels=c, dtype=dtype)
    moving = [random(c, seed=4), random(c, seed=5) ** 2]
    v = 1 / r**2 - 1e-5
    return [g, x, gamma, *moving, *(a.reshape(-1) for a in (m, r, v)), np.float32([mode])]


CASES |= {
    "layer odd": ("LayerNorm", lambda: norm_arrays(5, 33, channels=33), {}),
    "layer wide": ("LayerNorm", lambda: norm_arrays(2, 1300, channels=1300), {"eps": 1e-3}),
    "layer of 48 KiB": ("LayerNorm", lambda: norm_arrays(1, 12288, channels=12288), {}),
    "layer half": ("LayerNorm", lambda: norm_arrays(3, 40, channels=40, dtype="float16"), {}),
    "layer moments": (
        "LayerNorm",
        lambda: norm_arrays(3, 40, channels=40, dtype="float16"),
        {"output_mean_var": True},
    ),
    "layer far": ("LayerNorm", lambda: norm_arrays(3, 40, channels=40, offset=100), {}),
    "instance": ("InstanceNorm", lambda: norm_arrays(2, 3, 4, 5, channels=3), {}),
    "group": ("GroupNorm", lambda: norm_arrays(3, 4, 3, 3, channels=2), {"num_groups": 2}),
    "group moments": (
        "GroupNorm",
        lambda: norm_arrays(3, 4, 3, 3, channels=2),
        {"num_groups": 2, "output_mean_var": True},
    ),
    "layer back odd": (
        "norm_backward",
        lambda: back_arrays(9, 33, over=1, channels=33),
        {"axis": 1, "along": 1},
    ),
    "layer back wide": (
        "norm_backward",
        lambda: back_arrays(3, 1100, over=1, channels=1100),
        {"axis": 1, "along": 1},
    ),
    "layer back half": (
        "norm_backward",
        lambda: back_arrays(3, 40, over=1, channels=40, dtype="float16"),
        {"axis": 1, "along": 1},
    ),
    "instance back": (
        "norm_backward",
        lambda: back_arrays(2, 3, 4, 5, over=(2, 3), channels=3),
        {"axis": (0, 1), "exclude": True, "along": 1},
    ),
    "batch": ("BatchNorm", lambda: batch_arrays(3, 4, 5, 6), {"fix_gamma": False}),
    "batch odd": ("BatchNorm", lambda: batch_arrays(3, 5, 7, 1), {"fix_gamma": False}),
    "batch far": ("BatchNorm", lambda: batch_arrays(3, 4, 9, offset=100), {}),
    "batch columns": ("BatchNorm", lambda: batch_arrays(70, 33), {"fix_gamma": False}),
    "batch last": ("BatchNorm", lambda: batch_arrays(3, 4, 36, axis=2), {"axis": 2}),
    "batch half": ("BatchNorm", lambda: batch_arrays(3, 4, 8, dtype="float16"), {}),
    "batch fixed": (
        "BatchNorm",
        lambda: batch_arrays(3, 4, 5),
        {"use_global_stats": True, "fix_gamma": False},
    ),
    "batch relu": ("contrib_BatchNormWithReLU", lambda: batch_arrays(3, 4, 5), {}),
    "batch sync": ("contrib_SyncBatchNorm", lambda: batch_arrays(3, 4, 5), {}),
    "batch back": ("batch_norm_backward", lambda: batch_back(3, 4, 5, 6), {"fix_gamma": False}),
    "batch back odd": ("batch_norm_backward", lambda: batch_back(3, 5, 7), {}),
    "batch back columns": ("batch_norm_backward", lambda: batch_back(70, 33), {}),
    "batch back fixed": ("batch_norm_backward", lambda: batch_back(3, 4, 5, mode=0.0), {}),
}


def rows(*indices):
    """A gradient of looked-up rows, a table, the indices."""
    return lambda cols, dtype="float32": [
        random(len(indices), cols, dtype=dtype),
        random(6, cols, dtype=dtype),
        np.float32(indices),
    ]


CASES |= {
    "untake odd": ("untake", lambda: rows(1, 5, 1, 0, 5, 1, 99, 3, 1, 1)(33), {}),
    "untake wide": ("untake", lambda: rows(2, 2, 0)(260), {}),
    "untake half": ("untake", lambda: rows(2, 4, 2)(40, "float16"), {}),
    "untake wrap": ("untake", lambda: rows(-1, 7, 1)(3), {"mode": "wrap"}),
}

CONV = {"kernel": (3, 2), "stride": (2, 1), "dilate": (1, 2), "pad": (1, 2)}


def conv_arrays(n, c, h, w, f, r, s, groups=1, dtype="float32", last=False, bias=True):
    """Data, weight and bias."""
    arrays = [random(n, c, h, w), random(f, c // groups, r, s) / (c * r * s) ** 0.5]
    if last:
        arrays = [np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in arrays]
    return [a.astype(typed(dtype)) for a in arrays + [random(f)] * bias]


CASES |= {
    "conv": ("Convolution", lambda: conv_arrays(2, 3, 9, 8, 5, 3, 2), {**CONV, "num_filter": 5}),
    "conv groups": (
        "Convolution",
        lambda: conv_arrays(2, 6, 9, 8, 4, 3, 2, groups=2, bias=False),
        {**CONV, "num_filter": 4, "num_group": 2, "no_bias": True},
    ),
    "conv large": (
        "Convolution",
        lambda: conv_arrays(1, 4, 11, 13, 70, 3, 3),
        {"kernel": (3, 3), "num_filter": 70, "pad": (1, 1)},
    ),
    "conv depthwise": (
        "Convolution",
        lambda: conv_arrays(2, 4, 9, 8, 8, 3, 2, groups=4),
        {**CONV, "num_filter": 8, "num_group": 4},
    ),
    "conv few": (
        "Convolution",
        lambda: conv_arrays(2, 6, 9, 8, 18, 3, 2, groups=2, bias=False),
        {**CONV, "num_filter": 18, "num_group": 2, "no_bias": True},
    ),
    "conv relu": (
        "Convolution",
        lambda: conv_arrays(1, 3, 7, 5, 5, 3, 3),
        {"kernel": (3, 3), "num_filter": 5, "relu": True},
    ),
    "conv tensor half": (
        "Convolution",
        lambda: conv_arrays(2, 16, 9, 8, 5, 3, 2, dtype="float16", last=True),
        {**CONV, "num_filter": 5, "layout": "NHWC"},
    ),
    "conv half channels first": (
        "Convolution",
        lambda: conv_arrays(2, 3, 9, 8, 5, 3, 2, dtype="float16"),
        {**CONV, "num_filter": 5},
    ),
    "conv tensor bf16": (
        "Convolution",
        lambda: conv_arrays(1, 8, 9, 8, 70, 3, 3, dtype="bfloat16", last=True),
        {"kernel": (3, 3), "num_filter": 70, "layout": "NHWC"},
    ),
}


def conv_gradient(*sizes, of, stride=(1, 1), dilate=(1, 1), pad=(0, 0), **more):
    """What the gradient of the picture, or of the weight, gets."""
    x, w = conv_arrays(*sizes, bias=False, **more)
    layout = "NHWC" if more.get("last") else None
    settings = {"kernel": sizes[5:7], "stride": stride, "dilate": dilate, "pad": pad}
    settings |= {"num_group": more.get("groups", 1), "layout": layout}
    wide = [a.astype("float32") for a in (x, w)]
    y = operators["Convolution"].kernel(*wide, no_bias=True, num_filter=sizes[4], **settings)
    g = random(*y.shape, seed=3, dtype=more.get("dtype", "float32")) / 4
    return ([g.astype(x.dtype), w, x] if of == "data" else [g.astype(x.dtype), x]), settings


def gradient_case(of, *sizes, **more):
    """A row of the table for one of the two gradients."""
    arrays = lambda: conv_gradient(*sizes, of=of, **more)[0]
    return f"conv_{of}", arrays, conv_gradient(*sizes, of=of, **more)[1]


ODD = {"stride": (2, 1), "dilate": (1, 2), "pad": (1, 2)}
for of in ("data", "weight"):
    CASES |= {
        f"conv {of}": gradient_case(of, 2, 3, 9, 8, 5, 3, 2, **ODD),
        f"conv {of} groups": gradient_case(of, 2, 6, 9, 8, 4, 3, 2, groups=2, **ODD),
        f"conv {of} large": gradient_case(of, 3, 7, 16, 15, 70, 3, 3, pad=(1, 1)),
        f"conv {of} one": gradient_case(of, 1, 1, 1, 1, 1, 1, 1),
        f"conv {of} gaps": gradient_case(of, 1, 66, 7, 5, 3, 1, 2, stride=(3, 3)),
        f"conv {of} few": gradient_case(of, 2, 20, 9, 8, 20, 3, 2, groups=2, **ODD),
        f"conv {of} depthwise": gradient_case(of, 3, 5, 16, 15, 5, 3, 3, groups=5, pad=(1, 1)),
        f"conv {of} half": gradient_case(
            of, 2, 16, 9, 8, 8, 3, 2, dtype="float16", last=True, **ODD
        ),
        f"conv {of} half channels first": gradient_case(
            of, 2, 3, 9, 8, 5, 3, 2, dtype="float16", **ODD
        ),
        f"conv {of} half large": gradient_case(
            of, 3, 24, 13, 15, 72, 3, 3, dtype="float16", last=True, pad=(1, 1)
        ),
    }
    if ml_dtypes:
        CASES[f"conv {of} bf16"] = gradient_case(
            of, 2, 8, 9, 8, 72, 3, 3, dtype="bfloat16", last=True, stride=(2, 2)
        )

DECONV = {"kernel": (3, 2), "stride": (2, 3), "pad": (1, 0), "adj": (1, 2), "num_filter": 6}


def deconv_arrays(weight=True, bias=True, grad=False):
    """Data, weight of two groups, bias; or data and the gradient of the result."""
    x, w = random(2, 4, 5, 3), random(4, 3, 3, 2) / 5
    return [x] + [w] * weight + [random(6)] * bias + [random(2, 6, 10, 10, seed=1) / 4] * grad


CASES |= {
    "deconv": ("Deconvolution", deconv_arrays, {**DECONV, "num_group": 2, "no_bias": False}),
    "deconv data": (
        "deconv_data",
        lambda: [random(2, 6, 10, 10, seed=1), deconv_arrays()[1], random(2, 4, 5, 3)],
        {**{k: v for k, v in DECONV.items() if k != "num_filter"}, "num_group": 2},
    ),
    "deconv weight": (
        "deconv_weight",
        lambda: deconv_arrays(weight=False, bias=False, grad=True),
        {**{k: v for k, v in DECONV.items() if k != "num_filter"}, "num_group": 2},
    ),
}


def rnn_arrays(t, n, i, h, mode, layers=1, both=1, proj=0, lengths=None, dtype="float32"):
    """Data, parameters, states and lengths of a recurrent network."""
    rows, r = {"lstm": 4, "gru": 3}.get(mode, 1) * h, proj or h
    widths = [i] * both + [both * r] * both * (layers - 1)
    size = sum(rows * (w + r + 2) + r * h * bool(proj) for w in widths)
    shapes = [(layers * both, n, r)] + [(layers * both, n, h)] * (mode == "lstm")
    arrays = [random(t, n, i), random(size) / 2 / h**0.5, *(random(*s, seed=5) for s in shapes)]
    return [a.astype(typed(dtype)) for a in arrays] + [np.float32(lengths)] * bool(lengths)


def rnn_case(*sizes, **more):
    """A row of the table for a recurrent network."""
    h, mode, lengths = *sizes[3:5], more.get("lengths")
    settings = {"state_size": h, "mode": mode, "num_layers": more.get("layers", 1)}
    settings |= {"bidirectional": more.get("both", 1) == 2, "state_outputs": True}
    settings |= {"projection_size": more.get("proj"), "use_sequence_length": bool(lengths)}
    place = [None] * bool(lengths and mode != "lstm")
    arrays = lambda: rnn_arrays(*sizes, **more)
    there = lambda: [*arrays()[:3], *place, *arrays()[3:]]
    return "RNN", there if place else arrays, settings


RECURRENT = {"rnn long": rnn_case(3, 150, 4, 6, "lstm", lengths=[2] * 149 + [0])}
for mode in ("rnn_relu", "rnn_tanh", "lstm", "gru"):
    large = {"lstm": 77, "gru": 90}.get(mode, 157)  # one unit more than a block holds, or a few
    RECURRENT |= {
        f"{mode} one": rnn_case(1, 1, 1, 1, mode),
        f"{mode} odd": rnn_case(4, 3, 5, 7, mode, layers=2, both=2),
        f"{mode} ends": rnn_case(5, 4, 3, 6, mode, both=2, lengths=[5, 1, 0, 3]),
        f"{mode} steps": rnn_case(2, 3, 4, large, mode),
        f"{mode} steps ends": rnn_case(3, 3, 2, large, mode, lengths=[3, 0, 2]),
        f"{mode} four": rnn_case(2, 134, 3, 5, mode),
        f"{mode} half": rnn_case(3, 2, 4, 8, mode, dtype="float16"),
    }
RECURRENT |= {
    "lstm projected": rnn_case(3, 4, 5, 7, "lstm", layers=2, both=2, proj=3),
    "lstm steps half": rnn_case(2, 3, 4, 112, "lstm", dtype="float16"),
}
if ml_dtypes:
    RECURRENT["lstm bf16"] = rnn_case(3, 2, 4, 8, "lstm", dtype="bfloat16")
CASES |= RECURRENT


def ctc_arrays(t, n, c, letters, *lengths, dtype="float32"):
    """Logits, labels, and lengths of data or of labels."""
    z = (random(t, n, c) * 3).astype(typed(dtype))
    return [z, np.float32(letters), *map(np.float32, lengths)]


LONG = np.random.default_rng(0).integers(1, 4, (2, 41))  # 83 states, many equal neighbours
BOTH = {"use_data_lengths": True, "use_label_lengths": True}
CASES |= {
    "ctc": ("CTCLoss", lambda: ctc_arrays(6, 3, 5, [[1, 1, 2], [3, 0, 0], [4, 3, 4]]), {}),
    "ctc one": ("CTCLoss", lambda: ctc_arrays(1, 1, 2, [[1]]), {}),
    "ctc nothing said": ("CTCLoss", lambda: ctc_arrays(3, 1, 4, [[0, 0]]), {}),
    "ctc last": (
        "CTCLoss",
        lambda: ctc_arrays(6, 2, 5, [[0, 0, 2], [3, -1, -1]]),
        {"blank_label": "last"},
    ),
    "ctc lengths": (
        "CTCLoss",
        lambda: ctc_arrays(
            7, 4, 5, [[1, 1, 2], [3, 0, 0], [4, 0, 0], [2, 0, 0]], [7, 3, 0, 0], [3, 1, 0, 1]
        ),
        BOTH,
    ),
    "ctc does not fit": (
        "CTCLoss",
        lambda: ctc_arrays(3, 2, 3, [[1, 1], [2, 2]], [3, 2]),
        {"use_data_lengths": True},
    ),
    "ctc long": ("CTCLoss", lambda: ctc_arrays(90, 2, 70, LONG), {}),
    "ctc many classes": ("CTCLoss", lambda: ctc_arrays(4, 2, 1041, [[1040, 7], [3, 3]]), {}),
    "ctc half": (
        "CTCLoss",
        lambda: ctc_arrays(6, 3, 5, [[1, 1, 2], [3, 0, 0], [4, 3, 4]], dtype="float16"),
        {},
    ),
    "ctc bf16": (
        "CTCLoss",
        lambda: ctc_arrays(6, 2, 5, [[1, 1, 2], [3, 0, 0]], dtype="bfloat16"),
        {},
    ),
}


def ties(*shape, dtype="float32", nan=False):
    """Whole numbers, many of them equal; both zeros, infinities and, if wanted, NaN."""
    x = np.round(random(*shape) * 2).astype(typed(dtype))
    x.reshape(-1)[::7] *= -1
    x.reshape(-1)[::31] = np.inf
    x.reshape(-1)[5::37] = -np.inf
    if nan:
        x.reshape(-1)[3::17] = np.nan
    return [x]


CASES |= {
    "topk one": ("topk", lambda: [random(1, 1)], {}),
    "topk": ("topk", lambda: ties(5, 33), {"k": 7, "ret_typ": "both"}),
    "topk ascending": (
        "topk",
        lambda: ties(3, 300),
        {"k": 20, "is_ascend": True, "dtype": "int32"},
    ),
    "topk all": ("topk", lambda: ties(2, 3, 70), {"k": 0, "ret_typ": "value"}),
    "topk nan": ("topk", lambda: ties(3, 300, nan=True), {"k": 40}),
    "topk nan ascending": ("topk", lambda: ties(3, 60, nan=True), {"k": 60, "is_ascend": True}),
    "topk mask": ("topk", lambda: ties(4, 65), {"k": 3, "ret_typ": "mask"}),
    "topk flat": ("topk", lambda: ties(9, 40), {"k": 5, "axis": None, "ret_typ": "both"}),
    "topk equal": ("topk", lambda: [np.zeros((2, 700), "float32")], {"k": 300}),
    "topk small": ("topk", lambda: [random(2, 50, scale=1e-41)], {"k": 5, "ret_typ": "both"}),
    "topk long": ("topk", lambda: [random(1, 20011)], {"k": 1000, "ret_typ": "both"}),
    "topk half": ("topk", lambda: ties(4, 90, dtype="float16"), {"k": 9, "ret_typ": "both"}),
    "topk bf16": ("topk", lambda: ties(4, 90, dtype="bfloat16"), {"k": 9, "ret_typ": "value"}),
}

POOL = {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1), "pooling_convention": "full"}


def pool_arrays(*shape, outs=None, dtype="float32"):
    """Pictures with ties; before them the gradient of the windows, if there are `outs`."""
    x = np.round(random(*shape) * 2).astype(typed(dtype))
    return [x] if outs is None else [random(*shape[:2], *outs, dtype=dtype, seed=1), x]


CASES |= {
    "pool max": ("Pooling", lambda: pool_arrays(2, 3, 7, 6), POOL),
    "pool half": ("Pooling", lambda: pool_arrays(2, 3, 7, 6, dtype="float16"), POOL),
    "pool global": ("Pooling", lambda: pool_arrays(2, 3, 7, 6), {"global_pool": True}),
    "pool avg": ("Pooling", lambda: pool_arrays(2, 3, 7, 6), {**POOL, "pool_type": "avg"}),
    "pool sum": ("pool_sum", lambda: pool_arrays(2, 3, 7, 6), {**POOL, "pool_type": "sum"}),
    "pool inside": (
        "Pooling",
        lambda: pool_arrays(2, 3, 7, 6),
        {**POOL, "pool_type": "avg", "count_include_pad": False},
    ),
    "pool back max": ("pool_place", lambda: pool_arrays(2, 3, 7, 6, outs=(4, 4)), POOL),
    "pool back avg": (
        "pool_spread",
        lambda: pool_arrays(2, 3, 7, 6, outs=(4, 4)),
        {**POOL, "pool_type": "avg"},
    ),
    "pool back inside": (
        "pool_spread",
        lambda: pool_arrays(2, 3, 7, 6, outs=(4, 4)),
        {**POOL, "pool_type": "avg", "count_include_pad": False},
    ),
    "pool back sum": ("pool_spread", lambda: pool_arrays(2, 3, 7, 6, outs=(4, 4)), POOL),
    "pool back gaps": (
        "pool_place",
        lambda: pool_arrays(1, 2, 9, 9, outs=(3, 3), dtype="float16"),
        {"kernel": (2, 2), "stride": (3, 3)},
    ),
}


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that a test has launched, on the stand-in for CuPy."""
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    seen, launch = [], Kernels.__call__

    def counted(self, name, *args, **settings):
        seen.append(name)
        return launch(self, name, *args, **settings)

    monkeypatch.setattr(Kernels, "__call__", counted)
    for kernels in Kernels.files.values():
        monkeypatch.setattr(kernels, "loaded", {})
    return seen


def listed(x):
    return list(x) if isinstance(x, list | tuple) else [x]


def compare(got, want, dtype):
    """Outputs against NumPy's, in the accuracy of their type."""
    for g, w in zip(listed(got), listed(want), strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        tolerance = TOLERANCE.get(dtype.name, 1e-5)
        np.testing.assert_allclose(
            unwrap(g).astype("float32"), w.astype("float32"), rtol=tolerance, atol=tolerance
        )


def plain(op, arrays, settings):
    """NumPy's outputs; kernels know a ReLU at the end, which the operator does not."""
    settings = dict(settings)
    relu = settings.pop("relu", False)
    want = listed(op.kernel(*arrays, **settings))
    return [np.maximum(w, 0) for w in want] if relu else want


def read(name, outputs, settings):
    """Without the outputs that nobody reads, and that a kernel leaves as they are."""
    hidden = name in ("LayerNorm", "GroupNorm") and not settings.get("output_mean_var")
    return [outputs[0], *outputs[3:]] if hidden else outputs


def widened(arrays):
    """NumPy's arrays, bfloat16 as float32."""
    return [a.astype("float32") if holds(a) and a.dtype.name == "bfloat16" else a for a in arrays]


def holds(a):
    """Whether an argument is there."""
    return a is not None


def run(case, monkeypatch, check, order=0):
    """What an operator gives on the stand-in, and on the CPU; both may write into their arrays."""
    name, make, settings = CASES[case]
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    monkeypatch.setitem(gpu_on_cpu.how, "order", order)
    arrays, own = make(), make()
    on_gpu = [wrap(a) for a in arrays]
    op = operators[name]
    wide = widened(own)
    with train_mode(), np.errstate(divide="ignore"):  # a label that does not fit is no news here
        got = op.kernel(*on_gpu, **settings)
        want = plain(op, wide, settings)
    if arrays[0].dtype.name == "bfloat16":
        want = [w.astype(arrays[0].dtype) for w in want]
    for a, b in zip(
        filter(holds, on_gpu), filter(holds, own)
    ):  # running statistics and states are changed in place
        compare(a, b, arrays[0].dtype)
    return read(name, got, settings), read(name, want, settings), arrays[0].dtype


@on_cpu
def test_moments_that_nobody_reads_cost_nothing(launched):
    """Each small launch is 2 µs of a card, where 256 MiB take 125."""
    for case in ("layer half", "group"):
        name, make, settings = CASES[case]
        y = operators[name].kernel(*map(wrap, make()), **settings)
        assert np.shares_memory(y[1].x, y[3].x) and np.shares_memory(y[2].x, y[4].x)


@on_cpu
@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("case", CASES)
def test_against_numpy(case, check, monkeypatch, launched):
    got, want, dtype = run(case, monkeypatch, check, order=7 * check)
    assert launched, f"{case}: no kernel was launched"
    compare(got, want, dtype)


def with_gaps(a):
    """The same numbers with others between them, and those in memory from last to first."""
    if a is None or not a.ndim:
        return a if a is None else wrap(a)
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), 77, a.dtype)
    wide[..., -2::-2] = a
    return wrap(wide)[..., -2::-2]


@on_cpu
@pytest.mark.parametrize("case", CASES)
def test_memory_with_gaps_is_never_misread(case, launched):
    name, make, settings = CASES[case]
    op, arrays = operators[name], [with_gaps(a) for a in make()]
    plain_arrays = [a if a is None else wrap(a) for a in make()]
    assert all(a is None or a.size <= 1 or not a.flags.c_contiguous for a in arrays)
    with train_mode(), np.errstate(divide="ignore"):
        got = listed(op.kernel(*arrays, **settings))
        want = listed(op.kernel(*plain_arrays, **settings))
    for a, b in zip([*got, *arrays], [*want, *plain_arrays], strict=True):  # states change in place
        if a is not None:
            compare(a, unwrap(b), b.dtype)


def at_odd_places(a):
    """The same numbers without gaps, one number behind where 16 bytes could be loaded."""
    if a is None or not a.ndim:
        return a if a is None else wrap(a)
    room = np.zeros(a.size + 16, a.dtype)
    start = -room.ctypes.data // a.itemsize % (16 // a.itemsize) + 1
    memory = room[start:][: a.size].reshape(a.shape)
    memory[...] = a
    return wrap(memory)


@on_cpu
@pytest.mark.parametrize("case", CASES)
def test_wide_loads_stay_where_they_may(case, launched, monkeypatch):
    """A card ends the process on a load of 16 bytes from elsewhere; check mode says so."""
    monkeypatch.setitem(gpu_on_cpu.how, "check", True)
    name, make, settings = CASES[case]
    op, arrays = operators[name], [at_odd_places(a) for a in make()]
    with train_mode(), np.errstate(divide="ignore"):
        got = listed(op.kernel(*arrays, **settings))
        want = listed(op.kernel(*[a if a is None else wrap(a) for a in make()], **settings))
    for a, b in zip(got, want, strict=True):
        compare(a, unwrap(b), b.dtype)


@pytest.mark.skipif(not nvrtc.available(), reason="no NVRTC: pip install 'minigluon[nvrtc]'")
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("file", sorted(Kernels.files))
def test_compiles_within_its_budget(file, arch):
    """At most so many registers that enough warps fit, nothing spilled."""
    names = Kernels.files[file].names
    found = nvrtc.compiled(source(file), names, arch)
    assert sorted(found) == sorted(names)
    for name, (registers, spilled, shared) in found.items():
        budget = next((b for start, b in REGISTERS.items() if name.startswith(start)), 64)
        assert spilled == 0 and registers <= budget and shared <= 49152, (name, registers, spilled)


REGISTERS = {
    "tensor": 96,
    "conv": 96,
    "blocked": 96,
    "sweep": 96,
}  # what a kernel may use beyond 64, by the start of its name


@pytest.mark.skipif(not nvrtc.available(), reason="no NVRTC: pip install 'minigluon[nvrtc]'")
@pytest.mark.parametrize("arch", [80, 90])
def test_a_multiprocessor_has_the_registers_of_the_largest_block(arch):
    """A launch fails whose threads, in warps, want more than 65,536 registers, in eights."""
    found = nvrtc.compiled(source("rnn"), recurrent_kernels.cells.names, arch)
    seen = set()
    for itemsize, kinds in ((4, ["float"]), (2, ["__half", "__nv_bfloat16"])):
        for mode, gates in (("rnn_relu", 1), ("rnn_tanh", 1), ("gru", 3), ("lstm", 4)):
            for batch, hidden in itertools.product((1, 1000), range(1, 300)):
                sizes = {"batch": batch, "hidden": hidden, "rows": gates * hidden}
                plan = SimpleNamespace(**sizes, projected=False, mode=mode)
                n = recurrent_kernels.samples(plan, itemsize)
                if not n:
                    continue
                threads = recurrent_kernels.launch(plan, n)[1][0]
                end = f"{recurrent_kernels.MODES[mode]}, {n}>"
                for name in [f"{way}<{k}, {end}" for way in ("sweep", "sweep_back") for k in kinds]:
                    assert -(-found[name][0] // 8) * 8 * threads <= 65536 and threads <= 1024, name
                    seen.add(name)
    assert seen == {name for name in found if name.startswith("sweep")}


PLANTED = {  # a case, what is changed in its source, what check mode must say
    "a barrier less": ("softmax block", "__syncthreads();", "", "race"),
    "one column more": (
        "softmax odd",
        "i < n; i += blockDim.x",
        "i <= n; i += blockDim.x",
        "out-of-bounds",
    ),
    "one row more": ("softmax odd", "row >= rows", "row > rows", "out-of-bounds"),
    "columns of a neighbour": (
        "layer back odd",
        "threadIdx.y;\n    if (COLUMNS)",
        "0;\n    if (COLUMNS)",
        "race",
    ),
    "too many splits": ("batch columns", "threadIdx.y > 1 || ", "", "out-of-bounds|out of"),
    "two writers of a row": ("untake odd", "if (r > 0 && keys[r - 1] == key) return;", "", "race"),
    "copies not waited for": ("conv tensor half", "wait<1>", "wait<2>", "uninit"),
    "a window beyond the picture": ("conv", "v < size ? v", "v <= size ? v", "out-of-bounds"),
    "a tile in use is written": (
        "conv large",
        "acc[j][i]);\n        }\n        __syncthreads();",
        "acc[j][i]);\n        }",
        "race",
    ),
    "deep copies not waited for": ("conv weight half", "wait<1>", "wait<2>", "uninit"),
    "a part too long": (
        "conv weight large",
        "begin + span < m ? begin + span : m",
        "begin + span",
        "out-of-bounds",
    ),
    "a window that no place had": (
        "conv data large",
        "return v < size ? v : -1;",
        "return v;",
        "out-of-bounds",
    ),
    "a step that does not wait": (
        "lstm one",
        "products[i * cols + col] = sum[i];\n        }\n        __syncthreads();",
        "products[i * cols + col] = sum[i];\n        }",
        "race|uninit",
    ),
    "a sample too many": ("lstm four", "r < ROWS && b < batch", "r < ROWS", "out-of-bounds"),
    "a row that is not padded": (
        "gru odd",
        "for (int i = col; i < ROWS * pitch; i += blockDim.x) state[i] = 0.f;",
        "",
        "uninit",
    ),
    "a tile that is still read": (
        "lstm steps",
        "    __syncthreads();\n    for (int i = threadIdx.x; i < SAMPLES * WIDTH",
        "    for (int i = threadIdx.x; i < SAMPLES * WIDTH",
        "race",
    ),
    "a unit beyond the last": (
        "rnn_tanh steps",
        "works = b < batch && j < hidden",
        "works = b < batch",
        "race",
    ),
    "walks that do not wait": (
        "ctc long",
        "S + s] = v;\n        }\n        __syncthreads();",
        "S + s] = v;\n        }",
        "race",
    ),
    "no edge to walk from": ("ctc", "s < 2 * (S + 4)", "s < S + 4", "uninit"),
    "a letter before its row": (
        "ctc",
        "blanks : 0.f));\n    __syncthreads();",
        "blanks : 0.f));",
        "race",
    ),
    "a number too many": (
        "topk",
        "i < cols; i += 256) {",
        "i <= cols; i += 256) {",
        "out of|out-of",
    ),
    "counts that are read too soon": (
        "topk",
        "255], 1);\n        }\n        __syncthreads();",
        "255], 1);\n        }",
        "race",
    ),
    "a network that does not wait": (
        "topk all",
        "chosen[b] = u;\n                }\n            }\n            __syncthreads();",
        "chosen[b] = u;\n                }\n            }",
        "race",
    ),
    "a row below the picture": ("pool max", "min(top + z.r, z.h)", "top + z.r", "out-of-bounds"),
    "a total of half a warp": (
        "softmax block",
        "blockDim.x >> 5) ? part",
        "blockDim.x >> 4) ? part",
        "uninit",
    ),
}


@on_cpu
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug, monkeypatch, launched):
    case, old, new, says = PLANTED[bug]
    plain = cuda_on_cpu.source

    def planted(name):
        assert old in plain(name)
        return plain(name).replace(old, new)

    monkeypatch.setattr(cuda_on_cpu, "source", planted)
    with pytest.raises((KernelError, MXNetError), match=says):
        run(case, monkeypatch, check=True)


def traffic(file, name, grid, block, args, shared=0):
    """Bytes asked for and bytes moved in global memory, by reads and writes:
    {"read": (…), "write": (…)}.
    """
    module = RawModule(code=source(file), name_expressions=[name], check=True)
    report = module.get_function(name)(grid, block, args, shared_mem=shared, profile=True)
    found = {}
    for line in report.splitlines():
        if m := re.match(r"global (\w+) .*bytes (\d+) \w+ (\d+) ideal (\d+)", line):
            kind, numbers = m[1], tuple(map(int, m.groups()[1:]))
            old = found.get(kind, (0, 0, 0))
            found[kind] = tuple(a + b for a, b in zip(old, numbers))
    return found


@on_cpu
def test_softmax_reads_once_and_writes_once():
    x, y = random(8, 256), np.empty((8, 256), np.float32)
    args = x, y, np.int64(8), np.int32(256), np.float32(1), np.int32(1)
    found = traffic("softmax", "softmax<float, 4, false>", (1,), (32, 8), args, 8192)
    for kind in ("read", "write"):
        asked, sectors, ideal = found[kind]
        assert asked == x.nbytes and sectors == ideal == x.nbytes // 32


@on_cpu
def test_layer_norm_moves_its_bytes_and_nothing_else():
    x, y, one = random(8, 256), np.empty((8, 256), np.float32), np.ones(256, np.float32)
    m, r = np.empty(8, np.float32), np.empty(8, np.float32)
    sizes = np.int64(8), np.int32(256), np.int32(256), np.float32(1e-5), np.int32(1)
    args = x, one, one, y, m, r, *sizes
    found = traffic("norm", "norm<float, 4, true>", (1,), (32, 8), args, 8192)
    asked, sectors, ideal = found[
        "read"
    ]  # x once; gamma and beta, which a cache keeps, for each row
    assert asked == 3 * x.nbytes and sectors == ideal == asked // 32
    asked, sectors, ideal = found["write"]
    assert asked == y.nbytes + 64 and sectors == ideal


def conv_sizes(n, c, h, w, f, r, s, p, q):
    """What the kernels of a convolution with stride 1 and no border want to know."""
    return np.array([n, c, h, w, f, r, s, p, q, 1, 1, 1, 1, 0, 0, 1], np.int32)


@on_cpu
@pytest.mark.parametrize(
    ("case", "way"),
    [
        ("conv", "conv_direct"),
        ("conv few", "conv"),
        ("conv data large", "conv_direct"),
        ("conv data few", "conv"),
        ("conv data gaps", "conv"),
        ("conv weight few", "conv_weight"),
        ("conv weight depthwise", "conv_weight_direct"),
    ],
)
def test_a_tile_is_taken_where_it_is_full(case, way, monkeypatch, launched):
    run(case, monkeypatch, check=False)
    assert launched[0].partition("<")[0] == way


@on_cpu
@pytest.mark.parametrize(
    ("name", "threads", "dtype"),
    [("conv_weight<float>", 256, "float32"), ("conv_weight_tensor<__half>", 128, "float16")],
)
def test_the_gradient_of_a_weight_reads_a_tile_once(name, threads, dtype):
    """64 filters, 64 channels, 64 places: one tile, which fetches each of its numbers once,
    by whole sectors.
    """
    g, x = (random(64, 64, dtype=dtype, seed=s) for s in (1, 2))
    part, sizes = np.empty((1, 64, 64), np.float32), conv_sizes(1, 64, 8, 8, 64, 1, 1, 8, 8)
    found = traffic("conv", name, (1, 1, 1), (threads,), (g, x, part, sizes, np.int64(64)))
    asked, sectors, ideal = found["read"]
    assert asked - 16 * 4 * threads == g.nbytes + x.nbytes and sectors == ideal
    asked, sectors, ideal = found["write"]
    assert asked == part.nbytes and sectors <= 2 * ideal  # whole sectors in two halves


@on_cpu
def test_a_convolution_writes_its_places_by_whole_sectors():
    x, w, y = random(1, 1, 8, 8), random(64, 1, 1, 1), np.empty((1, 64, 8, 8), np.float32)
    args = x, w, None, y, conv_sizes(1, 1, 8, 8, 64, 1, 1, 8, 8), np.int32(0)
    found = traffic("conv", "conv<float, false>", (1, 1, 1), (256,), args)
    asked, sectors, ideal = found["write"]
    assert asked == y.nbytes and sectors == ideal


@on_cpu
def test_the_first_k_read_a_row_once():
    x, index = random(2, 256), np.empty((2, 4), np.int32)
    args = x, index, None, *map(np.int32, (256, 4, 4, 0, 1))
    found = traffic("topk", "topk<float>", (2,), (256,), args, 32 + 4 * 256)
    asked, sectors, ideal = found["read"]
    assert asked == x.nbytes and sectors == ideal == x.nbytes // 32


@on_cpu
def test_a_transposed_walk_is_seen():
    code = """extern "C" __global__ void k(const float* x, float* y) {
    int i = threadIdx.x; y[i] = x[i * 32]; }"""
    kernel = RawModule(code=code, check=True).get_function("k")
    report = kernel((1,), (32,), (random(1024), np.empty(32, np.float32)), profile=True)
    assert "sectors 32 ideal 4" in report  # so that the tests above could fail


@on_cpu
@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("step", ["sgd_step", "momentum_step", "adam_step"])
def test_updates_of_many_tensors(step, dtype, check, monkeypatch, launched):
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    monkeypatch.setattr(update_kernels, "CHUNK", 100)  # so that a small tensor has several blocks
    monkeypatch.setattr(update_kernels, "tables", {})
    states = {"sgd_step": 0, "momentum_step": 1, "adam_step": 2}[step]
    more = {"momentum_step": {"momentum": 0.9}, "adam_step": {"epsilon": 1e-3}}.get(step, {})

    def jobs(enter):
        for i, shape in enumerate([(3, 5), (250,), (1,), (7, 33)]):
            arrays = [random(*shape, dtype=dtype, seed=10 * i + k) for k in range(2 + states)]
            arrays[2:] = [abs(a) for a in arrays[2:]]
            settings = {"lr": 0.1 / (i + 1), "wd": 0.01 * i, "rescale_grad": 0.5, **more}
            settings["clip_gradient"] = 0.3
            yield getattr(optimizer, step), [enter(a) for a in arrays], settings

    there, here = list(jobs(wrap)), list(jobs(lambda a: a))
    sent = []
    for factor in (1, 1, 0.5):
        for job in (*there, *here):
            job[2]["lr"] *= factor
        optimizer.run(list(there))
        optimizer.run(list(here))
        sent.append(next(iter(update_kernels.tables.values()))[-1])
    assert sent[0] is sent[1] is not sent[2]  # rates, when they have changed
    assert launched == [launched[0]] * 3 and "update<" in launched[0]  # one launch a step
    for (_, a, _), (_, b, _) in zip(there, here):
        for got, want in zip(a, b):
            compare(got, want, np.dtype(dtype))


def test_updates_without_a_kernel_go_the_old_way(launched):
    w, g = random(4), random(4, seed=1)
    strided = wrap(np.zeros((4, 2), "float32"))[:, 0]
    double = wrap(w.astype("float64")), wrap(g.astype("float64"))
    settings = {"lr": 0.1}
    optimizer.run([(optimizer.sgd_step, double, settings)])
    optimizer.run([(optimizer.sgd_step, (strided, wrap(g)), settings)])
    optimizer.run([(optimizer.sign_step, (wrap(w.copy()), wrap(g)), settings)])
    assert launched == []
    np.testing.assert_allclose(unwrap(double[0]), w - 0.1 * g, rtol=1e-6)
    np.testing.assert_allclose(unwrap(strided), -0.1 * g, rtol=1e-6)


def philox(counters, key0, key1):
    """Philox 4x32-10, by the book: four words a counter."""
    a = counters.astype("uint64")
    a, b = a & 0xFFFFFFFF, a >> 32
    c, d = np.zeros_like(a), np.zeros_like(a)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (p1 >> 32) ^ b ^ key0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ d ^ key1, p0 & 0xFFFFFFFF
        key0, key1 = (key0 + 0x9E3779B9) & 0xFFFFFFFF, (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([a, b, c, d], 1).astype("uint32")


def test_philox_is_the_published_one():
    words = philox(np.zeros(1, "uint64"), 0, 0)[0]
    assert " ".join(f"{w:08x}" for w in words) == "6627e8d5 e169c58d bc57ac4c 9b00dbd8"


@on_cpu
@pytest.mark.parametrize("n", [1, 3, 64, 1027])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dropout_regenerates_its_mask(n, dtype, monkeypatch, launched):
    monkeypatch.setitem(gpu_on_cpu.how, "check", n == 1027)
    x, g = (wrap(random(n, dtype=dtype, seed=s)) for s in (1, 2))
    op = operators["Dropout"]
    with train_mode():
        y, key = op.kernel(x, p=0.3, rng=5)
    assert key.shape == (2,) and key.dtype == "uint32"
    words = philox(np.arange((n + 3) // 4, dtype="uint64"), *map(int, unwrap(key))).reshape(-1)[:n]
    kept = (words >= round(0.3 * 2**32)) / np.float32(0.7)
    want = (unwrap(x).astype("float32") * kept).astype(x.dtype)
    compare(y, want, x.dtype)
    back = op.rules[0]([g], [y, key], x, p=0.3, mode="training", axes=(), cudnn_off=False, rng=None)
    compare(back, (unwrap(g).astype("float32") * kept).astype(x.dtype), x.dtype)
    assert len(launched) == 2


def test_dropout_without_a_kernel(launched):
    x = wrap(random(4, 6))
    op = operators["Dropout"]
    for settings in ({"p": 0.5}, {"p": 0.5, "axes": (1,), "mode": "always"}):
        y, mask = op.kernel(x, rng=3, **settings)
        assert mask.dtype == "float32" and isinstance(mask, gpu_on_cpu.ndarray)
    assert launched == []
    y, key = op.kernel(x, p=1, mode="always", rng=3)
    assert not available() or not unwrap(y).any()


@on_cpu
@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("cols", [1, 33, 40, 600])
def test_a_table_s_gradient_without_a_sort(cols, dtype, check, launched, monkeypatch):
    """In a capture, where nothing can be sorted, each row looks for its own."""
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    monkeypatch.setattr(context.capture, "before", [])
    g, table = random(70, cols, dtype=dtype), random(9, cols, dtype=dtype)
    index = np.random.default_rng(0).integers(-1, 8, 70).astype("float32")
    want = operators["untake"].kernel(g.astype("float32"), table.astype("float32"), index)
    compare(
        operators["untake"].kernel(wrap(g), wrap(table), wrap(index)), want.astype(dtype), g.dtype
    )
    assert [name.split("<")[0] for name in launched] == ["sum_found"]
    monkeypatch.setattr(update_kernels, "LOOKS", 10)
    with pytest.raises(RuntimeError, match="a table of 9 rows and 70 indices want a sort"):
        operators["untake"].kernel(wrap(g), wrap(table), wrap(index))


@on_cpu
def test_a_sparse_gradient_of_a_table(launched):
    g, table, indices = (wrap(a) for a in rows(1, 5, 1, 0, 5, 1)(33))
    rule = operators["Embedding"].rules[1]
    there = rule(g, None, indices, table, sparse_grad=True)
    here = rule(*map(unwrap, (g, None, indices, table)), sparse_grad=True)
    assert launched and there.shape == here.shape
    np.testing.assert_array_equal(unwrap(there.indices), here.indices)
    np.testing.assert_allclose(unwrap(there.values), here.values, rtol=1e-5)


@on_cpu
@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("sizes", [(1, 1, 8), (70, 33, 40), (64, 130, 72)])
@pytest.mark.parametrize("step", product_kernels.LADDER)
def test_the_ladder_of_products(step, sizes, check, monkeypatch, launched):
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    m, n, k = sizes
    for dtype in ["float16", "bfloat16"] if step == "tensor" else ["float32"]:
        a, b = random(m, k, dtype=dtype), random(n, k, dtype=dtype, seed=1) / np.float32(k) ** 0.5
        b = b.astype(a.dtype)
        got = product_kernels.product(wrap(a), wrap(b), step)
        compare(got, (a.astype("float32") @ b.astype("float32").T).astype(a.dtype), a.dtype)


@on_cpu
@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent_gradients(case, check, monkeypatch, launched):
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    _, make, settings = RECURRENT[case]
    op, own = operators["RNN"], make()
    kind = own[0].dtype
    wide = [a if a is None or a.dtype == "float32" else a.astype("float32") for a in own]
    found = []
    for arrays, enter in ((own, wrap), (wide, lambda a: a)):
        arrays = [a if a is None else enter(a) for a in arrays]
        with record():
            y = op.kernel(*arrays, **settings)
            g = [enter(random(*o.shape, seed=7).astype(arrays[0].dtype)) for o in y]
            found.append(op.rules(g, y, *arrays, **{**op.defaults, **settings}))
    pairs = [(a, b) for a, b in zip(*found) if a is not None]
    assert len(pairs) == (4 if settings["mode"] == "lstm" else 3)
    for got, want in pairs:
        scale = np.float32(max(1, abs(want).max()))
        assert got.dtype == kind
        compare(wrap(unwrap(got) / scale), (want / scale).astype(unwrap(got / scale).dtype), kind)
    way = "cell" if "projected" in case else "persist" if "steps" in case else "sweep"
    assert {name.partition("<")[0] for name in launched} == {way, f"{way}_back"}


@on_cpu
@pytest.mark.parametrize("case", [case for case in RECURRENT if "steps" in case])
def test_recurrent_gradients_step_by_step(case, monkeypatch, launched):
    monkeypatch.setattr(recurrent_kernels, "WORK", 0)
    found = recurrent_answers(case, wrap)
    assert {name.partition("<")[0] for name in launched} == {"cell", "cell_back"}
    single = lambda a: a.astype("float32")
    for got, want in zip(found, recurrent_answers(case, single), strict=True):
        if want is not None:
            scale = np.float32(max(1, abs(want).max()))
            here = (unwrap(got) / scale).astype(got.dtype)
            compare(wrap(here), (want / scale).astype(got.dtype), got.dtype)


def recurrent_answers(case, enter):
    """The outputs of a recurrent network and its gradients."""
    _, make, settings = RECURRENT[case]
    op = operators["RNN"]
    arrays = [a if a is None else enter(a) for a in make()]
    with record():
        y = op.kernel(*arrays, **settings)
        g = [enter(random(*o.shape, seed=7).astype(arrays[0].dtype)) for o in y]
        return [*y, *op.rules(g, y, *arrays, **{**op.defaults, **settings})]


@on_cpu
@pytest.mark.parametrize("mode", range(4))
def test_blocks_meet_between_steps(mode, monkeypatch, launched):
    """All steps in one launch, by the one block that there may be here, are the steps one by one."""
    monkeypatch.setitem(gpu_on_cpu.how, "check", True)
    name = [*recurrent_kernels.MODES][mode]
    case = rnn_case(5, 70, 4, 7, name, lengths=[5, 3] * 35)
    monkeypatch.setitem(RECURRENT, "meeting", case)
    monkeypatch.setattr(recurrent_kernels, "samples", lambda plan, itemsize: 0)
    monkeypatch.setitem(gpu_on_cpu.Device.attributes, "MultiProcessorCount", 1)
    want = recurrent_answers("meeting", wrap)
    one_by_one = len(launched)
    monkeypatch.setattr(gpu_on_cpu, "blocks_take_turns", False)
    got = recurrent_answers("meeting", wrap)
    assert one_by_one == 10 and len(launched) == 12
    for a, b in zip(got, want, strict=True):
        if b is not None:
            np.testing.assert_array_equal(unwrap(a), unwrap(b))


@pytest.mark.parametrize(
    ("batch", "hidden", "size", "units"),
    [(64, 650, 4, 5), (64, 1024, 4, 0), (64, 1024, 2, 8), (1, 4096, 2, 0), (640, 650, 4, 0)],
)
def test_where_weights_fit_all_blocks(batch, hidden, size, units, launched):
    plan = recurrent_kernels.Plan((35, batch, hidden), "lstm", hidden, 1, False, None)
    assert recurrent_kernels.units(plan, size) == units


@on_cpu
def test_a_recurrent_dropout_keeps_its_masks(launched):
    """The same draws give the same output, and its gradient is that of a difference."""
    _, make, settings = rnn_case(3, 4, 6, 5, "gru", layers=3, both=2)
    op, arrays = operators["RNN"], make()

    def total(x):
        with record():
            y = op.kernel(wrap(x), *map(wrap, arrays[1:]), p=0.4, rng=3, **settings)
        return y, sum(float((unwrap(o) * v).sum()) for o, v in zip(y, heads))

    shapes = (3, 4, 10), (6, 4, 5)
    heads = [random(*s, seed=8) for s in shapes]
    y, here = total(arrays[0])
    assert total(arrays[0])[1] == here and len(launched) > 12
    with record():
        all_settings = {**op.defaults, **settings, "p": 0.4}
        g = op.rules([wrap(h) for h in heads], y, *map(wrap, arrays), **all_settings)[0]
    step = random(*arrays[0].shape, seed=9)
    there = [total(arrays[0] + e * step)[1] for e in (1e-2, -1e-2)]
    np.testing.assert_allclose((unwrap(g) * step).sum(), (there[0] - there[1]) / 2e-2, rtol=1e-2)


def test_what_recurrent_kernels_do_not_know_goes_step_by_step(launched):
    for more in ({"dtype": "float64"}, {"proj": 2, "lengths": [2, 1]}):
        _, make, settings = rnn_case(2, 2, 3, 4, "lstm", **more)
        got = operators["RNN"].kernel(*map(wrap, make()), **settings)
        for a, b in zip(got, operators["RNN"].kernel(*make(), **settings)):
            np.testing.assert_allclose(unwrap(a), b, rtol=1e-5, atol=1e-6)
    assert launched == []


@on_cpu
def test_naive_loads_are_scattered_and_tiled_ones_are_not():
    a, b, c = random(32, 64), random(32, 64, seed=1), np.empty((32, 32), np.float32)
    sizes = [np.int32(s) for s in (32, 32, 64)]
    found = {}
    for step, (threads, tile) in product_kernels.LADDER.items():
        if step != "tensor":
            grid = -(-32 // tile[0]), -(-32 // tile[1])
            args = a, b, c, *sizes
            found[step] = traffic("matmul", f"{step}<float>", grid, threads, args)["read"]
    assert found["naive"][1] > 4 * found["naive"][2]  # neighbours in a warp read different rows
    assert found["tiled"][1] == found["tiled"][2]
    assert found["tiled"][0] == 2 * 32 * 32 * 64 * 4 // 32


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("conv", {"kernel": (3, 2), "num_filter": 7}),
        ("conv", {"kernel": (30, 2), "num_filter": 5}),
        ("conv tensor half", {"kernel": (3, 2), "num_filter": 5, "layout": "NHWC", "num_group": 3}),
    ],
)
def test_a_wrong_convolution_is_refused_as_on_the_cpu(case, settings, launched):
    arrays = CASES[case][1]()
    op = operators["Convolution"]
    with pytest.raises(Exception) as here:
        op.kernel(*arrays, **settings)
    with pytest.raises(type(here.value)) as there:
        op.kernel(*map(wrap, arrays), **settings)
    assert str(there.value) == str(here.value) and launched == []


WAITS = {
    "asnumpy": lambda a: a.asnumpy(),
    "another array": lambda a: mx.nd.ones(1, ctx=a.context).asscalar(),
    "as_in_context": lambda a: a.as_in_context(mx.cpu()),
    "wait_to_read": lambda a: a.wait_to_read(),
    "waitall": lambda a: mx.nd.waitall(),
}


@on_cpu
@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("label", [4, -2, 1.5, float("nan"), 1e20])
@pytest.mark.parametrize("wait", WAITS)
def test_a_label_that_is_no_class_is_told_when_somebody_waits(
    wait, label, check, monkeypatch, launched
):
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    loss, data = operators["sparse_softmax_cross_entropy"], random(3, 4)

    def losses(ctx, *labels):
        return loss(mx.nd.array(data, ctx=ctx), mx.nd.array(labels, ctx=ctx))

    with pytest.raises(MXNetError) as here:
        losses(mx.cpu(), 0, label, 3)
    found = losses(mx.gpu(0), 0, label, 3)
    with pytest.raises(MXNetError) as there:
        WAITS[wait](found)
    says = "label .* is not a class: labels are whole numbers from 0 to 3"
    words = [re.search(says, str(error.value))[0] for error in (here, there)]
    assert words[0] == words[1]
    assert np.isfinite(found.asnumpy()).all()  # told once
    np.testing.assert_allclose(
        losses(mx.gpu(0), 0, -1, 3).asnumpy(), losses(mx.cpu(), 0, -1, 3).asnumpy(), rtol=1e-5
    )


def test_an_unknown_instance_and_a_broken_kernel_are_named(launched, monkeypatch):
    kernels = Kernels.files["softmax"]
    with pytest.raises(MXNetError, match="not built for softmax<double"):
        kernels("softmax<double, 1, true>", (1,), (32,))
    if available():
        monkeypatch.setattr(cuda_on_cpu, "source", lambda name: "nonsense")
        says = r"softmax<float, 1, true> of kernels/softmax.cu cannot be compiled(.|\n)*nonsense"
        with pytest.raises(MXNetError, match=says):  # the compiler's log quotes the line
            kernels("softmax<float, 1, true>", (1,), (32,))


@on_cpu
@pytest.mark.slow
def test_more_than_two_to_the_31_numbers(launched):
    """The last row of a table of 32,800 rows of 2^16 numbers;
    memory that nobody writes to costs nothing.
    """
    table = wrap(np.zeros((32800, 1 << 16), "float16"))
    g = wrap(random(2, 1 << 16, dtype="float16"))
    out = unwrap(
        operators["untake"].kernel(g, table, wrap(np.float32([32799, 32799])), mode="clip")
    )
    np.testing.assert_allclose(out[32799], unwrap(g).astype("f").sum(0), rtol=4e-3, atol=4e-3)
    assert launched and not out[32798].any()
