"""A network that has learnt needs few of its bits: numbers become whole steps of a range, and products of steps are exact."""

# Written from chapters/89d_eight_bits.ipynb: edit the chapter, then run `minigluon export`.

from functools import reduce

import numpy as np

from minigluon.op import operator
from minigluon.ops.convolution import Convolution
from minigluon.ops.indexing import take
from minigluon.ops.nn import FullyConnected
from minigluon.ops.normalization import STATES
from minigluon.ops.pooling import Pooling
from minigluon.ops.regions import STEPS, symmetric
from minigluon.ops.rnn import RNN, Plan, checked, unpacked

__all__ = [
    "LEAST",
    "contrib_calibrate_entropy",
    "contrib_quantize_asym",
    "contrib_quantize_v2",
    "contrib_quantized_act",
    "contrib_quantized_batch_norm",
    "contrib_quantized_concat",
    "contrib_quantized_conv",
    "contrib_quantized_elemwise_add",
    "contrib_quantized_elemwise_mul",
    "contrib_quantized_embedding",
    "contrib_quantized_flatten",
    "contrib_quantized_fully_connected",
    "contrib_quantized_pooling",
    "contrib_quantized_rnn",
    "contrib_requantize",
    "divergence",
    "exact",
    "in_steps",
    "names_of_product",
    "need_both",
    "one",
    "parted",
    "product",
    "require_bytes",
    "same_shape",
    "shapes_of_product",
    "smoothed",
    "steps_of",
    "type_for",
    "unit",
]


# --- Eight bits -----------------------------------------------------------------------------------

LEAST = {"int8": -128, "uint8": 0, "int32": -(2**31)}


def steps_of(numbers, kind):
    """Numbers rounded to whole ones of a type; those beyond its bounds become its bounds."""
    most = STEPS[kind]
    return np.rint(numbers).clip(LEAST[kind], most).astype(kind)


def one(value, like):
    """An array of one float32, where `like` is."""
    return np.asarray(np.reshape(value, (1,)), "float32", like=like)


def need_both(low, high):
    """Whether a range was given; ValueError for half of one."""
    if (low is None) != (high is None):
        raise ValueError("give min_calib_range and max_calib_range, or neither")
    return low is not None


def type_for(out_type, low):
    """The type that a setting names; 'auto' means uint8 where the range does not go below zero."""
    if out_type not in ("int8", "uint8", "auto"):
        raise ValueError(f"out_type is int8, uint8 or auto, not {out_type!r}")
    return ("uint8" if low is not None and low >= 0 else "int8") if out_type == "auto" else out_type


def unit(kind, bound):
    """The length of a step of bytes within a bound."""
    return bound / (STEPS[kind] + 0.5)


@operator(vjp=(None,), aliases=("_contrib_quantize_v2",))
def contrib_quantize_v2(data, /, out_type="int8", min_calib_range=None, max_calib_range=None):
    """`data` as whole steps of a range, its own or the one given, and two bounds; bytes stay bytes.

    Outputs int8 or uint8 in the shape of data, and the bounds, (1,).
    """
    given = need_both(min_calib_range, max_calib_range)
    if data.dtype.name in ("int8", "uint8"):
        whole = (0, 255) if data.dtype == np.uint8 else (-127, 127)
        low, high = (min_calib_range, max_calib_range) if given else whole
        return data.copy(), one(low, data), one(high, data)
    kind = type_for(out_type, min_calib_range)
    low, high = (min_calib_range, max_calib_range) if given else (data.min(), data.max())
    low, high = one(low, data), one(high, data)
    bound = symmetric(low, high)
    scale = (STEPS[kind] + np.float32(0.5)) / np.where(bound > 0, bound, np.float32(1))
    steps = steps_of(data * scale, kind)
    return (steps, -bound, bound) if kind == "int8" else (steps, low, high)


contrib_quantize_v2.outputs = ["output0", "output1", "output2"]


@operator(vjp=(None, None, None), same_dtype=False, aliases=("_contrib_requantize",))
def contrib_requantize(
    data, min_range, max_range, /, out_type="int8", min_calib_range=None, max_calib_range=None
):
    """Steps of 32 bits as bytes of a range, the largest number's or the one given, and its bounds.

    data: int32, which min_range and max_range, (1,), say the bounds of.
    """
    if data.dtype != np.int32:
        raise ValueError(f"data of type int32, not {data.dtype}")
    kind = type_for(out_type, min_calib_range)
    real = data * unit("int32", symmetric(min_range, max_range).astype("float64"))
    if need_both(min_calib_range, max_calib_range):
        bound = np.asarray(max(abs(min_calib_range), abs(max_calib_range)), like=data)
    else:
        bound = abs(real).max()
    steps = steps_of(real * (STEPS[kind] / np.where(bound > 0, bound, 1)), kind)
    high = one(bound, data)
    return steps, (-high if kind == "int8" else np.zeros_like(high)), high


@operator(vjp=(None,), aliases=("_contrib_quantize_asym",))
def contrib_quantize_asym(data, /, min_calib_range=None, max_calib_range=None):
    """uint8 of `data` s + t, which maps the range to 0 … 255, then s and t."""
    given = need_both(min_calib_range, max_calib_range)
    low, high = (min_calib_range, max_calib_range) if given else (data.min(), data.max())
    scale = 255 / (one(high, data) - one(low, data))
    shift = 255 - one(high, data) * scale
    return steps_of(data * scale + shift, "uint8"), scale, shift


contrib_requantize.outputs = contrib_quantize_v2.outputs
contrib_quantize_asym.outputs = ["output", "scale", "shift"]


def exact(a, b, terms):
    """Both as floats that hold every sum of so many products."""
    kind = "float32" if terms * STEPS.get(a.dtype.name, 255) * 127 < 2**24 else "float64"
    return a.astype(kind), b.astype(kind)


def product(y, data, bias, ranges):
    """int32 of whole numbers `y`, with the bias in the same steps, and the bounds of 32 such bits.

    `ranges` are the bounds of data, of the weight, and of the bias if there is one.
    """
    kind = data.dtype.name
    by_data, by_weight, *rest = (
        symmetric(*ranges[i : i + 2]).astype("float64") for i in range(0, len(ranges), 2)
    )
    y = np.rint(y)
    if bias is not None:
        step = unit(kind, by_data) * (by_weight / 127)
        step = np.where(step > 0, step, 1)
        y = y + np.trunc(bias * ((rest[0] / 127) / step)).reshape(1, -1, *[1] * (y.ndim - 2))
    bound = by_data / STEPS[kind] * (by_weight / 127) * STEPS["int32"]
    return steps_of(y.astype("float64"), "int32"), -bound.astype("float32"), bound.astype("float32")


def parted(rest, no_bias):
    """The bias, or None, and the bounds, of what follows data and weight;
    ValueError if they are too many or few.
    """
    count = 4 if no_bias else 7
    if len(rest) != count:
        raise ValueError(
            f"{count} arrays follow data and weight with no_bias={no_bias}, not {len(rest)}"
        )
    return (None, rest) if no_bias else (rest[0], rest[1:])


def require_bytes(**arrays):
    """ValueError for data that is not made of bytes."""
    for name, a in arrays.items():
        if a.dtype.name not in ("int8", "uint8"):
            raise ValueError(f"{name} of type int8 or uint8, not {a.dtype}: quantize_v2 makes them")


@operator(same_dtype=False, aliases=("_contrib_quantized_fully_connected",))
def contrib_quantized_fully_connected(
    data, weight, /, *rest, num_hidden=None, no_bias=False, flatten=True
):
    """`FullyConnected` of bytes: int32, exact, and its bounds.

    Arrays: data, weight, bias unless no_bias, then min and max of each, (1,).
    """
    require_bytes(data=data)
    bias, ranges = parted(rest, no_bias)
    floats = exact(data, weight, weight.shape[-1])
    y = FullyConnected.kernel(*floats, None, num_hidden, True, flatten)
    if y.ndim > 2 and bias is not None:
        found, *bounds = product(y.reshape(-1, y.shape[-1]), data, bias, ranges)
        return found.reshape(y.shape), *bounds
    return product(y, data, bias, ranges)


@operator(same_dtype=False, aliases=("_contrib_quantized_conv",))
def contrib_quantized_conv(
    data,
    weight,
    /,
    *rest,
    kernel=(),
    stride=(),
    dilate=(),
    pad=(),
    num_filter=0,
    num_group=1,
    workspace=1024,
    no_bias=False,
    cudnn_tune=None,
    cudnn_off=False,
    layout=None,
):
    """`Convolution` of bytes, channels first: int32, exact, and its bounds.

    Arrays: data, weight, bias unless no_bias, then min and max of each, (1,).
    """
    require_bytes(data=data)
    if layout is not None and not layout.startswith("NC"):
        raise ValueError(f"quantized_conv has channels first, not {layout}")
    bias, ranges = parted(rest, no_bias)
    shape = {"kernel": kernel, "stride": stride, "dilate": dilate, "pad": pad, "layout": layout}
    y = Convolution.kernel(
        data.astype("float64"), weight.astype("float64"), None, num_filter=num_filter,
        num_group=num_group, no_bias=True, **shape,
    )  # fmt: skip
    return product(y, data, bias, ranges)


def names_of_product(no_bias=False, **_):
    """What the arrays of a product of bytes are called."""
    names = ["data", "weight"] if no_bias else ["data", "weight", "bias"]
    return names + [f"{end}_{name}" for name in names for end in ("min", "max")]


def shapes_of_product(op):
    """The rule for the shapes of a product's arrays, from that for floats."""

    def rule(data, *known, no_bias, **settings):
        own = {k: v for k, v in settings.items() if k in op.known} | {"no_bias": no_bias}
        found = op.infer(data, None, **{**op.defaults, **own})
        whole = list(found)[:2] if no_bias else list(found)[:3]
        return whole + [(1,)] * (2 * len(whole))

    return rule


contrib_quantized_fully_connected.shapes(shapes_of_product(FullyConnected))
contrib_quantized_conv.shapes(shapes_of_product(Convolution))
for op in (contrib_quantized_fully_connected, contrib_quantized_conv):
    op.inputs, op.outputs = names_of_product, contrib_quantize_v2.outputs
    op.vjp(lambda g, y, *arrays, **_: [None] * len(arrays))


@operator(vjp=(None, None, None), same_dtype=False, aliases=("_contrib_quantized_pooling",))
def contrib_quantized_pooling(
    data,
    min_data,
    max_data,
    /,
    kernel=(),
    pool_type="max",
    global_pool=False,
    cudnn_off=False,
    pooling_convention="valid",
    stride=(),
    pad=(),
    p_value=None,
    count_include_pad=None,
    layout=None,
):
    """`Pooling` of bytes, max or avg, rounded to whole steps; and the bounds."""
    require_bytes(data=data)
    if pool_type not in ("max", "avg"):
        raise ValueError(f"pool_type is max or avg for bytes, not {pool_type!r}")
    settings = cudnn_off, pooling_convention, stride, pad, p_value, count_include_pad, layout
    y = Pooling.kernel(data.astype("float32"), kernel, pool_type, global_pool, *settings)
    return steps_of(y, data.dtype.name), min_data.copy(), max_data.copy()


@operator(vjp=(None, None, None), same_dtype=False, aliases=("_contrib_quantized_act",))
def contrib_quantized_act(data, min_data, max_data, /, act_type="relu"):
    """The positive part of bytes, and the bounds."""
    require_bytes(data=data)
    if act_type != "relu":
        raise ValueError(f"act_type is relu for bytes, not {act_type!r}")
    return np.maximum(data, data.dtype.type(0)), min_data.copy(), max_data.copy()


@operator(vjp=(None, None, None), same_dtype=False, aliases=("_contrib_quantized_flatten",))
def contrib_quantized_flatten(data, min_data, max_data, /):
    """`flatten` of bytes, and the bounds."""
    require_bytes(data=data)
    return data.reshape(len(data), -1).copy(), min_data.copy(), max_data.copy()


@operator(vjp=(None,) * 4, same_dtype=False, aliases=("_contrib_quantized_embedding",))
def contrib_quantized_embedding(
    data,
    weight,
    min_weight,
    max_weight,
    /,
    input_dim,
    output_dim,
    dtype="float32",
    sparse_grad=False,
):
    """Rows of a matrix of bytes, chosen by whole numbers, and the bounds of the matrix."""
    if weight.shape != (input_dim, output_dim):
        raise ValueError(f"a weight of shape {(input_dim, output_dim)}, not {weight.shape}")
    return take.kernel(weight, data, mode="clip"), min_weight.copy(), max_weight.copy()


@contrib_quantized_embedding.shapes
def _(data, weight, *bounds, input_dim, output_dim, **_):
    return data, (input_dim, output_dim), (1,), (1,)


for op in (contrib_quantized_pooling, contrib_quantized_act, contrib_quantized_flatten):
    op.outputs = contrib_quantize_v2.outputs
contrib_quantized_embedding.outputs = contrib_quantize_v2.outputs


@operator(same_dtype=False, aliases=("_contrib_quantized_concat",))
def contrib_quantized_concat(*data, num_args=None, dim=1):
    """Bytes joined along axis `dim`, in steps of the union of their ranges, and its bounds.

    Arrays: first all of the data, then min and max of each, (1,). uint8 if all of them are.
    """
    n = len(data) // 3
    if len(data) != 3 * n or not n:
        raise ValueError(f"arrays and two bounds for each, not {len(data)} in all")
    arrays, lows, highs = data[:n], data[n::2], data[n + 1 :: 2]
    require_bytes(**{f"data{i}": a for i, a in enumerate(arrays)})
    low, high = reduce(np.minimum, lows), reduce(np.maximum, highs)
    kind = "uint8" if all(a.dtype == np.uint8 for a in arrays) else "int8"
    step = unit(kind, symmetric(low, high).astype("float64"))
    told = [
        steps_of(a * (unit(a.dtype.name, symmetric(*bounds).astype("float64")) / step), kind)
        for a, *bounds in zip(arrays, lows, highs)
    ]
    return np.concatenate(told, axis=dim), low, high


contrib_quantized_concat.vjp(lambda g, y, *arrays, **_: [None] * len(arrays))
contrib_quantized_concat.outputs = contrib_quantize_v2.outputs


@operator(vjp=(None,) * 6, same_dtype=False, aliases=("_contrib_quantized_elemwise_add",))
def contrib_quantized_elemwise_add(
    lhs, rhs, lhs_min, lhs_max, rhs_min, rhs_max, /, min_calib_range=None, max_calib_range=None
):
    """The sum of bytes of two ranges: int32 of the sum of the ranges, or bytes of the range given;
    and bounds.
    """
    require_bytes(lhs=lhs, rhs=rhs)
    same_shape(lhs, rhs)
    left, right = symmetric(lhs_min, lhs_max), symmetric(rhs_min, rhs_max)
    if need_both(min_calib_range, max_calib_range):
        kind = "uint8" if lhs.dtype == rhs.dtype == np.uint8 else "int8"
        low, high = one(min_calib_range, lhs), one(max_calib_range, lhs)
        bound = symmetric(low, high)
    else:
        kind, bound = "int32", left + right
        low, high = -bound, bound
    a, b = (
        x * (t.astype("float64") / bound * (unit(x.dtype.name, 1.0) / unit(kind, 1.0)))
        for x, t in ((lhs, left), (rhs, right))
    )
    return steps_of(a + b, kind), low, high


def same_shape(lhs, rhs):
    """ValueError for arrays of different shapes."""
    if lhs.shape != rhs.shape:
        raise ValueError(f"arrays of one shape, not {lhs.shape} and {rhs.shape}")


@operator(vjp=(None,) * 6, same_dtype=False, aliases=("_contrib_quantized_elemwise_mul",))
def contrib_quantized_elemwise_mul(
    lhs,
    rhs,
    lhs_min,
    lhs_max,
    rhs_min,
    rhs_max,
    /,
    min_calib_range=None,
    max_calib_range=None,
    enable_float_output=False,
):
    """The product of bytes: int32, exact, or bytes of the range given; and bounds. Or float32 alone."""
    require_bytes(lhs=lhs, rhs=rhs)
    same_shape(lhs, rhs)
    whole = lhs.astype("int32") * rhs.astype("int32")
    left, right = (
        symmetric(*t).astype("float64") for t in ((lhs_min, lhs_max), (rhs_min, rhs_max))
    )
    step = left / STEPS[lhs.dtype.name] * (right / STEPS[rhs.dtype.name])
    if enable_float_output:
        return (whole * step).astype("float32")
    if need_both(min_calib_range, max_calib_range):
        low, high = one(min_calib_range, lhs), one(max_calib_range, lhs)
        return steps_of(whole * (step * 127 / symmetric(low, high)), "int8"), low, high
    bound = (step * STEPS["int32"]).astype("float32")
    return whole, -bound, bound


contrib_quantized_elemwise_add.outputs = contrib_quantize_v2.outputs
contrib_quantized_elemwise_mul.outputs = lambda _, enable_float_output=False, **__: (
    1 if enable_float_output else ["output0", "output1", "output2"]
)


@operator(vjp=(None,) * 7, same_dtype=False, aliases=("_contrib_quantized_batch_norm",))
def contrib_quantized_batch_norm(
    data,
    gamma,
    beta,
    moving_mean,
    moving_var,
    min_data,
    max_data,
    /,
    eps=1e-3,
    momentum=0.9,
    fix_gamma=True,
    use_global_stats=False,
    output_mean_var=False,
    axis=1,
    cudnn_off=False,
    min_calib_range=None,
    max_calib_range=None,
):
    """`BatchNorm` of bytes by the running statistics:
    int8 of the range given, or of the largest number; and bounds.
    """
    require_bytes(data=data)
    kind = data.dtype.name
    steps = data if kind == "int8" else steps_of(data * (127.5 / 255.5), "int8")
    factor = (1 if fix_gamma else gamma) / np.sqrt(moving_var + eps)
    shape = [1] * data.ndim
    shape[axis] = -1
    by_step = (factor * unit("int8", symmetric(min_data, max_data))).reshape(shape)
    y = steps * by_step + (beta - moving_mean * factor).reshape(shape)
    if need_both(min_calib_range, max_calib_range):
        low, high = one(min_calib_range, data), one(max_calib_range, data)
    else:
        high = one(abs(y).max(), data)
        low = -high
    bound = symmetric(low, high)
    return steps_of(y * (127.5 / np.where(bound > 0, bound, 1)), "int8"), low, high


contrib_quantized_batch_norm.outputs = contrib_quantize_v2.outputs
contrib_quantized_batch_norm.states = STATES


@contrib_quantized_batch_norm.shapes
def _(data, *known, axis, **_):
    return data, *[(data[axis],)] * 4, (1,), (1,)


def in_steps(parameters, plan):
    """The vector of weights with those of each unit rounded to 127 steps of its largest;
    biases as they are.
    """
    out = parameters.copy()
    for cell in unpacked(out, plan):
        x, h = cell["i2h"], cell["h2h"]
        most = np.maximum(abs(x).max(axis=1), abs(h).max(axis=1))
        step = np.where(most > 0, most / 127, 1).astype(out.dtype)[:, None]
        for w in (x, h):
            w[...] = np.rint(w / step) * step
    return out


@operator(vjp=(None,) * 6, same_dtype=False, aliases=("_contrib_quantized_rnn",))
def contrib_quantized_rnn(
    data,
    parameters,
    state,
    state_cell,
    data_scale,
    data_shift,
    /,
    state_size=None,
    num_layers=None,
    bidirectional=False,
    mode=None,
    p=0.0,
    state_outputs=False,
    projection_size=None,
    lstm_state_clip_min=None,
    lstm_state_clip_max=None,
    lstm_state_clip_nan=False,
    use_sequence_length=False,
):
    """`RNN` of bytes, mode 'lstm' alone: data is uint8, numbers times data_scale plus data_shift;
    weights become int8, states stay floats.

    data: (T, N, I), uint8; parameters, state, state_cell: as for `RNN`, float32; data_scale,
    data_shift: (1,). Outputs float32.
    """
    if data.dtype != np.uint8:
        raise ValueError(f"data of type uint8, not {data.dtype}: quantize_asym makes it")
    if mode != "lstm" or projection_size or use_sequence_length:
        raise ValueError("of bytes there is mode='lstm', without projection_size and lengths")
    plan = Plan(data.shape, mode, state_size, num_layers, bidirectional, None)
    checked(plan, [data.astype(parameters.dtype), parameters, state, state_cell], None)
    real = ((data - data_shift) / data_scale).astype(parameters.dtype)
    clipped = lstm_state_clip_min, lstm_state_clip_max, lstm_state_clip_nan
    return RNN.kernel(
        real, in_steps(parameters, plan), state, state_cell, None, state_size, num_layers,
        bidirectional, mode, 0.0, state_outputs, None, *clipped,
    )  # fmt: skip


contrib_quantized_rnn.outputs = RNN.outputs


@contrib_quantized_rnn.shapes
def _(data, *known, **settings):
    found = RNN.infer(
        data, None, None, None, **{k: settings[k] for k in RNN.settings if k in settings}
    )
    return [*found, (1,), (1,)]


def smoothed(p):
    """A distribution with a little for every empty bin, of sum 1; None if all are empty."""
    empty = p == 0
    full = p.size - empty.sum()
    if full == 0:
        return None
    p = np.where(empty, 1e-4, p - 1e-4 * empty.sum() / full)
    return p / p.sum()


def divergence(hist, below, first, last, bins):
    """How badly `bins` steps tell the histogram between two bins; `below` are its sums."""
    inner = hist[first:last]
    p = inner.copy()
    p[0] += below[first]
    p[-1] += below[-1] - below[last]
    inner = inner.copy()
    inner[0] = 0  # as in MXNet, whose first step is told by the bins beside the outermost one
    full = inner != 0
    starts = np.arange(bins, like=hist) * (inner.size // bins)
    lengths = np.diff(starts, append=np.asarray([inner.size], like=starts))
    sums, counts = (np.add.reduceat(v, starts) for v in (inner, full.astype(hist.dtype)))
    q = np.repeat(sums / np.maximum(counts, 1), lengths) * (p != 0)
    p, q = smoothed(p), smoothed(q)
    return np.inf if q is None else float((p * np.log(p / q)).sum())


@operator(vjp=(None, None), aliases=("_contrib_calibrate_entropy",))
def contrib_calibrate_entropy(hist, hist_edges, /, num_quantized_bins=255):
    """The bound by which `num_quantized_bins` steps tell a histogram best, (1,),
    and the divergence, (1,).

    hist: (n,), n odd, around zero; hist_edges: (n + 1,). Source: Migacz, 8-bit Inference with
    TensorRT, 2017.
    """
    if hist.ndim != 1 or len(hist) % 2 == 0 or hist_edges.shape != (len(hist) + 1,):
        raise ValueError(
            f"an odd number of bins and their edges, not {hist.shape}, {hist_edges.shape}"
        )
    if num_quantized_bins > len(hist):
        raise ValueError(f"{num_quantized_bins} steps cannot be told by {len(hist)} bins")
    counts, middle = hist.astype("float64"), len(hist) // 2
    below = np.concatenate([np.zeros_like(counts[:1]), counts.cumsum()])
    ends = range(num_quantized_bins // 2, middle + 1)
    found = [
        divergence(counts, below, middle - i, middle + i + 1, num_quantized_bins) for i in ends
    ]
    best = int(np.argmin(found))
    return one(hist_edges[middle + ends[best] + 1], hist), one(found[best], hist)


contrib_calibrate_entropy.outputs = ["output0", "output1"]
