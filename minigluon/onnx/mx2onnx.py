"""ONNX is a graph in a protocol buffer: write each node in its words, and any runtime can run it."""

# Written from chapters/97b_onnx.ipynb: edit the chapter, then run `minigluon export`.

import os

import numpy as np

from minigluon.base import MXNetError
from minigluon.executor import filled
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.utils import load, path_of, replace_file
from minigluon.notebook.callback import needed
from minigluon.ops.detection import averages, resizing
from minigluon.ops.shape import axes_between, several
from minigluon.symbol import load as load_symbol
from minigluon.symbol.inference import Inference, draws, open_shape
from minigluon.symbol.symbol import Symbol, in_order

__all__ = [
    "ACTIVATIONS",
    "BINARY",
    "CELLS",
    "COMPARED",
    "Call",
    "FAR",
    "GATES",
    "LABELLED",
    "LAWS",
    "LAW_SETTINGS",
    "LOGICAL",
    "RULES",
    "UNARY",
    "Writer",
    "all_axes",
    "channels_first",
    "cut_parameters",
    "data_names",
    "export_model",
    "fold",
    "get_operator_support",
    "halves",
    "heads_of",
    "model_of",
    "plain_params",
    "reduced",
    "rule",
    "turned",
    "window",
    "written",
]


# --- A network for others -------------------------------------------------------------------------

RULES = {}  # operator -> function(call) that writes its nodes and names the result
LABELLED = {"SoftmaxOutput", "LinearRegressionOutput", "LogisticRegressionOutput"}
LABELLED |= {"MAERegressionOutput", "SVMOutput"}


def rule(*names):
    """Let a function write the nodes of these operators."""

    def note(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return note


class Writer:
    """The nodes and constants of an ONNX graph; `names` and `values` tell those of each output."""

    def __init__(self, facts, values):
        self.onnx = needed("onnx", "export_model")
        self.facts, self.values, self.names = facts, values, {}
        self.nodes, self.constants, self.count, self.seen = [], {}, 0, {}

    def constant(self, a, name=None):
        """The name of a constant."""
        if name is None:
            self.count += 1
            name = f"constant_{self.count}"
        self.constants.setdefault(name, self.onnx.numpy_helper.from_array(np.asarray(a), name))
        return name

    def name_of(self, entry):
        """The name of an output."""
        name = self.names[entry]
        return self.constant(self.values[entry], name) if entry in self.values else name

    def announce(self, node):
        """Name a node's outputs, each by a name of its own: a layer called twice gives two nodes one."""
        times = self.seen[node.name] = self.seen.get(node.name, 0) + 1
        again = f"_{times}" if times > 1 else ""
        for i, name in enumerate(node.outputs):
            self.names[node, i] = name + again


class Call:
    """One node while it is written: names `x`, `shapes`, constants `values` of its inputs,
    its `settings`.
    """

    def __init__(self, writer, node):
        self.writer, self.node = writer, node
        self.outputs = [writer.names[node, i] for i in range(len(node.outputs))]
        self.settings = {**node.op.defaults, **node.settings}
        self.inputs = [a for a in node.inputs if a is not None]  # a bias may be left out
        self.values = [writer.values.get(a) if type(a) is tuple else None for a in self.inputs]
        self.shapes = [writer.facts.shapes.get(a) if type(a) is tuple else () for a in self.inputs]
        self.shape, self.dtype = (
            f.get((node, 0)) for f in (writer.facts.shapes, writer.facts.types)
        )
        arrays = [a for a in self.inputs if type(a) is tuple]
        self.own = writer.facts.types[arrays[0]] if arrays else self.dtype  # of the numbers told

    def x(self, i=0):
        """The name of an input."""
        a = self.inputs[i]
        return self.writer.name_of(a) if type(a) is tuple else self.floats(a)

    def add(self, op, *inputs, last=False, outputs=None, **settings):
        """Write a node; its output has a name of its own, or with `last` that of ours."""
        w = self.writer
        w.count += 1
        names = outputs or [self.outputs[0] if last else f"{self.node.name}_{w.count}"]
        settings = {k: v for k, v in settings.items() if v is not None}
        name = f"{self.node.name}_{w.count}"
        w.nodes.append(w.onnx.helper.make_node(op, inputs, names, name, **settings))
        return names[0]

    # --- A network for others ---------------------------------------------------------------------

    def code(self, dtype):
        """ONNX's number of a type."""
        return self.writer.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def ints(self, *numbers):
        """The name of a constant vector of whole numbers."""
        return self.writer.constant(np.array(numbers, "int64"))

    def whole(self, n):
        """The name of one constant whole number, without axes."""
        return self.writer.constant(np.array(n, "int64"))

    def floats(self, a):
        """The name of a constant in the type of the first input."""
        return self.writer.constant(np.asarray(a, self.own))

    def cast(self, x, dtype, last=False):
        """Numbers in another type."""
        return self.add("Cast", x, to=self.code(dtype), last=last)

    def size(self, i, axis):
        """How long an axis of an input is when the model runs, which may be left open now."""
        if self.values[i] is not None:
            return self.whole(self.shapes[i][axis])
        shape = self.add("Shape", self.x(i))
        return self.add("Gather", shape, self.whole(axis % len(self.shapes[i])))

    def count(self, size):
        """0, 1, …, size - 1."""
        return self.add("Range", self.whole(0), size, self.whole(1))


UNARY = {
    **{n: n.capitalize() for n in ("relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "ceil")},
    **{n: n.capitalize() for n in ("floor", "erf", "sin", "cos", "tan", "softsign", "identity")},
    **{n: n.capitalize() for n in ("sign", "sinh", "cosh")},
    **{f"arc{n}": f"A{n}" for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "negative": "Neg", "reciprocal": "Reciprocal", "stop_gradient": "Identity", "make_loss": "Identity",
    "MakeLoss": "Identity", "LinearRegressionOutput": "Identity", "MAERegressionOutput": "Identity",
    "LogisticRegressionOutput": "Sigmoid",
}  # fmt: skip
BINARY = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "power": "Pow"}
BINARY |= {"maximum": "Max", "minimum": "Min", "broadcast_power": "Pow"}
ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus"}
ACTIVATIONS |= {"softsign": "Softsign"}


@rule(*UNARY)
def _(c):
    c.add(UNARY[c.node.op.name], c.x(), last=True)


@rule(*BINARY)
def _(c):
    c.add(BINARY[c.node.op.name], c.x(0), c.x(1), last=True)


@rule("Activation")
def _(c):
    c.add(ACTIVATIONS[c.settings["act_type"]], c.x(), last=True)


@rule("LeakyReLU")
def _(c):
    kind, slope = c.settings["act_type"], float(c.settings["slope"])
    if kind == "prelu":
        axes = [1] * (len(c.shapes[0]) - 2)
        gamma = c.add("Reshape", c.x(1), c.ints(-1, *axes))
        c.add("PRelu", c.x(), gamma, last=True)
    elif kind == "gelu":
        half = c.add("Mul", c.x(), c.floats(0.5))
        inner = c.add("Erf", c.add("Mul", c.x(), c.floats(0.5**0.5)))
        c.add("Mul", half, c.add("Add", inner, c.floats(1.0)), last=True)
    elif kind == "rrelu":
        raise MXNetError(
            f"{c.node.name}: slopes that are drawn cannot be told: use act_type='leaky'"
        )
    else:
        op = {"leaky": "LeakyRelu", "elu": "Elu", "selu": "Selu"}[kind]
        c.add(op, c.x(), last=True, **({} if kind == "selu" else {"alpha": slope}))


@rule("Dropout")
def _(c):
    if c.settings["mode"] == "always":
        raise MXNetError(f"{c.node.name}: dropout that draws when it is used cannot be told")
    c.add("Identity", c.x(), last=True)


@rule("softmax", "log_softmax")
def _(c):
    axis, n = c.settings["axis"] % len(c.shapes[0]), len(c.shapes[0])
    x, inside, wide = c.x(), None, np.promote_types(c.own, c.dtype)
    if wide != c.own:
        x, c.own = c.cast(x, wide), wide
    if (c.settings["temperature"] or 1) != 1:
        x = c.add("Div", x, c.floats(c.settings["temperature"]))
    if c.settings["use_length"]:
        places = c.count(c.size(0, axis))
        places = c.add("Unsqueeze", places, c.ints(*(a for a in range(n) if a != axis)))
        length = c.add("Unsqueeze", c.cast(c.x(1), "int64"), c.ints(axis))
        inside = c.add("Less", places, length)
        x = c.add("Where", inside, x, c.floats(np.finfo(c.own).min))
    op = "Softmax" if c.node.op.name == "softmax" else "LogSoftmax"
    y = c.add(op, x, axis=axis, last=inside is None and wide == c.dtype)
    if inside is not None:
        y = c.add("Where", inside, y, c.floats(0), last=wide == c.dtype)
    if wide != c.dtype:
        c.cast(y, c.dtype, last=True)


@rule("SoftmaxOutput")
def _(c):
    several_axes, each = c.settings["multi_output"], c.settings["preserve_shape"]
    if several_axes or each or len(c.shapes[0]) == 2:
        c.add("Softmax", c.x(), axis=1 if several_axes else -1, last=True)
    else:  # all numbers of a sample are one row
        y = c.add("Softmax", c.add("Flatten", c.x(), axis=1), axis=1)
        c.add("Reshape", y, c.add("Shape", c.x()), last=True)


def window(c, kernel, pooling=False):
    """The settings of a window."""
    n = len(kernel)
    pad = tuple(np.broadcast_to(c.settings["pad"] or 0, n).tolist())
    found = {"kernel_shape": kernel, "pads": pad * 2}
    found["strides"] = np.broadcast_to(c.settings["stride"] or 1, n).tolist()
    if not pooling:
        found["dilations"] = np.broadcast_to(c.settings["dilate"] or 1, n).tolist()
    return found


def channels_first(c):
    """MXNetError for channels at the end."""
    if not (c.settings.get("layout") or "NC").startswith("NC"):
        raise MXNetError(f"{c.node.name}: ONNX has channels first, not {c.settings['layout']}")


@rule("Convolution", "Deconvolution")
def _(c):
    channels_first(c)
    kernel = np.ravel(c.settings["kernel"]).tolist()
    more = {}
    op = "Conv" if c.node.op.name == "Convolution" else "ConvTranspose"
    if op == "ConvTranspose":
        if any(np.ravel(c.settings["target_shape"] or 0)):
            raise MXNetError(
                f"{c.node.name}: a target_shape cannot be told in ONNX: give pad and adj"
            )
        more["output_padding"] = np.broadcast_to(c.settings["adj"] or 0, len(kernel)).tolist()
    arrays = [c.x(i) for i in range(len(c.inputs))]
    c.add(op, *arrays, group=c.settings["num_group"], **window(c, kernel), **more, last=True)


@rule("FullyConnected")
def _(c):
    arrays = [c.x(i) for i in range(1, len(c.inputs))]
    if c.settings["flatten"] or len(c.shapes[0]) == 2:
        c.add("Gemm", c.add("Flatten", c.x(), axis=1), *arrays, transB=1, last=True)
        return
    y = [c.x(), c.add("Transpose", arrays[0], perm=[1, 0])]
    if len(arrays) == 1:
        c.add("MatMul", *y, last=True)
    else:
        c.add("Add", c.add("MatMul", *y), arrays[1], last=True)


@rule("BatchNorm")
def _(c):
    if c.settings["axis"] != 1:
        raise MXNetError(f"{c.node.name}: ONNX normalizes axis 1, not {c.settings['axis']}")
    fixed = c.settings["fix_gamma"]
    gamma = c.floats(np.ones(c.shapes[1])) if fixed else c.x(1)
    arrays = c.x(0), gamma, *(c.x(i) for i in (2, 3, 4))
    c.add("BatchNormalization", *arrays, epsilon=float(c.settings["eps"]), last=True)


@rule("LayerNorm")
def _(c):
    axis = c.settings["axis"] % len(c.shapes[0])
    middle = c.add("Sub", c.x(), c.add("ReduceMean", c.x(), axes=[axis], keepdims=1))
    square = c.add("ReduceMean", c.add("Mul", middle, middle), axes=[axis], keepdims=1)
    deviation = c.add("Sqrt", c.add("Add", square, c.floats(c.settings["eps"])))
    shape = c.ints(-1, *[1] * (len(c.shapes[0]) - axis - 1))
    gamma, beta = (c.add("Reshape", c.x(i), shape) for i in (1, 2))
    scaled = c.add("Mul", c.add("Div", middle, deviation), gamma)
    c.add("Add", scaled, beta, last=True)


@rule("InstanceNorm")
def _(c):
    arrays = (c.x(i) for i in range(3))
    c.add("InstanceNormalization", *arrays, epsilon=float(c.settings["eps"]), last=True)


@rule("Embedding")
def _(c):
    last = c.whole(c.shapes[1][0] - 1)
    # as here; there -1 is the last
    index = c.add("Clip", c.cast(c.x(0), "int64"), c.whole(0), last)
    c.add("Gather", c.x(1), index, axis=0, last=True)


@rule("LRN")
def _(c):
    s = {k: float(c.settings[k]) for k in ("alpha", "beta")}
    c.add("LRN", c.x(), size=c.settings["nsize"], bias=float(c.settings["knorm"]), **s, last=True)


@rule("Pooling")
def _(c):
    channels_first(c)
    kind = c.settings["pool_type"]
    if kind not in ("max", "avg"):
        raise MXNetError(f"{c.node.name}: ONNX pools by max and avg, not by {kind!r}")
    name = {"max": "MaxPool", "avg": "AveragePool"}[kind]
    if c.settings["global_pool"]:
        c.add(f"Global{name}", c.x(), last=True)
        return
    settings = window(c, np.ravel(c.settings["kernel"]).tolist(), pooling=True)
    if c.settings["pooling_convention"] == "full":
        settings["ceil_mode"] = 1
    if kind == "avg":
        settings["count_include_pad"] = int(c.settings["count_include_pad"] in (None, True))
    c.add(name, c.x(), **settings, last=True)


@rule("flatten")
def _(c):
    c.add("Flatten", c.x(), axis=1, last=True)


@rule("reshape")
def _(c):
    shape = list(np.ravel(c.settings["shape"]).astype(int))
    if not shape or min(shape) < -1 or c.settings.get("reverse"):
        shape = list(c.shape)  # MXNet's codes below -1 have no words there
    c.add("Reshape", c.x(), c.ints(*shape), last=True)


@rule("transpose")
def _(c):
    axes = list(c.settings["axes"] or range(len(c.shapes[0]))[::-1])
    c.add("Transpose", c.x(), perm=axes, last=True)


@rule("swapaxes")
def _(c):
    perm = list(range(len(c.shapes[0])))
    a, b = c.settings["dim1"], c.settings["dim2"]
    perm[a], perm[b] = perm[b], perm[a]
    c.add("Transpose", c.x(), perm=perm, last=True)


@rule("expand_dims")
def _(c):
    c.add("Unsqueeze", c.x(), c.ints(c.settings["axis"]), last=True)


@rule("squeeze")
def _(c):
    axis = c.settings["axis"]
    if c.shape == (1,):  # an axis of size 1 is kept
        c.add("Reshape", c.x(), c.ints(1), last=True)
        return
    axes = [] if axis is None else [c.ints(*np.ravel(axis))]
    c.add("Squeeze", c.x(), *axes, last=True)


@rule("concat")
def _(c):
    arrays = (c.x(i) for i in range(len(c.inputs)))
    c.add("Concat", *arrays, axis=c.settings["dim"], last=True)


@rule("slice_axis")
def _(c):
    end = c.settings["end"]
    end = 2**31 - 1 if end is None else end
    bounds = (c.ints(n) for n in (c.settings["begin"], end, c.settings["axis"]))
    c.add("Slice", c.x(), *bounds, last=True)


@rule("split", "split_v2")
def _(c):
    axis, squeezed = c.settings["axis"], c.settings["squeeze_axis"]
    parts = [f"{out}_part" for out in c.outputs] if squeezed else c.outputs
    shapes = [c.writer.facts.shapes[c.node, i] for i in range(len(parts))]
    if len(parts) == 1:
        c.add("Identity", c.x(), outputs=parts)
    else:
        sizes = [1 if squeezed else shape[axis] for shape in shapes]
        # else as many equal ones as there are outputs
        told = [c.ints(*sizes)] if len({*sizes}) > 1 else []
        c.add("Split", c.x(), *told, axis=axis, outputs=parts)
    for part, out in zip(parts, c.outputs if squeezed else []):
        c.add("Squeeze", part, c.ints(axis), outputs=[out])


def all_axes(c, axis):
    """The axes that `axis` names, counted from the front; None and () are all."""
    n = len(c.shapes[0])
    return list(range(n)) if axis in (None, ()) else [a % n for a in np.ravel(axis).tolist()]


def reduced(c, op, x, axes):
    """Write a word that reduces. Where no axis is left, MXNet keeps one of size 1."""
    keep = c.settings["keepdims"]
    alone = not keep and len(axes) == len(c.shapes[0]) and c.shape == (1,)
    told = [c.ints(*axes)] if op == "ReduceSum" else []  # the others are told by a setting
    y = c.add(op, x, *told, axes=None if told else axes, keepdims=int(keep), last=not alone)
    if alone:
        c.add("Reshape", y, c.ints(1), last=True)


@rule("sum", "mean", "max", "min", "prod")
def _(c):
    axes = all_axes(c, c.settings["axis"])
    if c.settings.get("exclude"):
        axes = [a for a in range(len(c.shapes[0])) if a not in axes]
    if axes:
        reduced(c, "Reduce" + c.node.op.name.capitalize(), c.x(), axes)
    else:  # no axes mean all of them there
        c.add("Identity", c.x(), last=True)


@rule("norm")
def _(c):
    dtype = c.settings["out_dtype"]
    x = c.cast(c.x(), dtype) if dtype else c.x()
    reduced(c, f"ReduceL{c.settings['ord']}", x, all_axes(c, c.settings["axis"]))


@rule("argmax", "argmin")
def _(c):
    axis, flat = c.settings["axis"], c.settings["axis"] is None or len(c.shapes[0]) == 1
    x = c.add("Reshape", c.x(), c.ints(-1)) if flat else c.x()
    keep = int(flat or c.settings["keepdims"])
    y = c.add(f"Arg{c.node.op.name[3:].capitalize()}", x, axis=0 if flat else axis, keepdims=keep)
    y = c.cast(y, c.dtype, last=not flat)
    if flat:
        c.add("Reshape", y, c.ints(*c.shape), last=True)


@rule("L2Normalization")
def _(c):
    n = len(c.shapes[0])
    axes = {"instance": range(1, n), "channel": [1], "spatial": range(2, n)}[c.settings["mode"]]
    square = c.add("Mul", c.x(), c.x())
    total = c.add("ReduceSum", square, c.ints(*axes), keepdims=1, noop_with_empty_axes=1)
    length = c.add("Sqrt", c.add("Add", total, c.floats(c.settings["eps"])))
    c.add("Div", c.x(), length, last=True)


@rule("clip")
def _(c):
    c.add("Clip", c.x(), *(c.floats(c.settings[k]) for k in ("a_min", "a_max")), last=True)


@rule("square")
def _(c):
    c.add("Mul", c.x(), c.x(), last=True)


@rule("log2")
def _(c):
    c.add("Div", c.add("Log", c.x()), c.floats(np.log(2)), last=True)


@rule("add_n")
def _(c):
    c.add("Sum", *(c.x(i) for i in range(len(c.inputs))), last=True)


@rule("hard_sigmoid")
def _(c):
    s = {k: float(c.settings[k]) for k in ("alpha", "beta")}
    c.add("HardSigmoid", c.x(), **s, last=True)


@rule("cast")
def _(c):
    c.add("Cast", c.x(), to=c.code(c.settings["dtype"]), last=True)


@rule("pad")
def _(c):
    widths = np.reshape(c.settings["pad_width"], (-1, 2))
    value = c.floats(c.settings["constant_value"] or 0)
    c.add("Pad", c.x(), c.ints(*widths.T.ravel()), value, mode=c.settings["mode"], last=True)


@rule("dot", "batch_dot", "linalg_gemm2")
def _(c):
    if c.settings.get("axis", -2) not in (-2, len(c.shapes[0]) - 2):
        raise MXNetError(f"{c.node.name}: matrices stand in the last two axes in ONNX")
    if c.node.op.name == "dot" and max(map(len, c.shapes)) > 2:
        raise MXNetError(f"{c.node.name}: dot of {c.shapes} cannot be told in ONNX")
    arrays, vector = [], min(map(len, c.shapes)) == 1
    for i, name in enumerate(("transpose_a", "transpose_b")):
        axes = list(range(len(c.shapes[i])))
        if len(axes) == 1:  # as a matrix: onnxruntime 1.32 joins a Transpose with a vector wrongly
            arrays.append(c.add("Unsqueeze", c.x(i), c.ints(i)))
        elif c.settings[name]:
            arrays.append(c.add("Transpose", c.x(i), perm=axes[:-2] + axes[-2:][::-1]))
        else:
            arrays.append(c.x(i))
    alpha = c.settings.get("alpha", 1.0)
    y = c.add("MatMul", *arrays, last=alpha == 1 and not vector)
    if vector:
        c.add("Reshape", y, c.ints(-1), last=True)
    elif alpha != 1:
        c.add("Mul", y, c.floats(alpha), last=True)


COMPARED = {"equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual"}
COMPARED |= {"lesser": "Less", "lesser_equal": "LessOrEqual", "not_equal": "Equal"}
LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not"}


@rule(*COMPARED)
def _(c):
    truth = c.add(COMPARED[c.node.op.name], c.x(0), c.x(1))
    truth = c.add("Not", truth) if c.node.op.name == "not_equal" else truth
    c.cast(truth, c.dtype, last=True)


@rule(*LOGICAL)
def _(c):
    truths = (c.cast(c.x(i), bool) for i in range(len(c.inputs)))
    c.cast(c.add(LOGICAL[c.node.op.name], *truths), c.dtype, last=True)


@rule("where")
def _(c):
    condition = c.cast(c.x(0), bool)
    if len(c.shapes[0]) < len(c.shape):  # it chooses rows
        condition = c.add("Reshape", condition, c.ints(-1, *[1] * (len(c.shape) - 1)))
    c.add("Where", condition, c.x(1), c.x(2), last=True)


FAR = 2**31 - 1  # beyond every end


@rule("shape_array")
def _(c):
    c.add("Shape", c.x(), last=True)


@rule("size_array")
def _(c):
    c.add("Reshape", c.add("Size", c.x()), c.ints(1), last=True)


@rule("zeros_like", "ones_like")
def _(c):
    number = np.full(1, c.node.op.name == "ones_like", c.dtype)
    value = c.writer.onnx.numpy_helper.from_array(number)
    c.add("ConstantOfShape", c.add("Shape", c.x()), value=value, last=True)


@rule("contrib_arange_like")
def _(c):
    axis, repeat = c.settings["axis"], c.settings["repeat"]
    y = c.count(c.add("Size", c.x()) if axis is None else c.size(0, axis))
    y = y if repeat == 1 else c.add("Div", y, c.whole(repeat))
    for op, number in (("Mul", c.settings["step"]), ("Add", c.settings["start"])):
        y = c.add(op, c.cast(y, "float64"), c.writer.constant(np.float64(number)))
    y = c.cast(y, c.dtype, last=axis is not None)
    if axis is None:
        c.add("Reshape", y, c.add("Shape", c.x()), last=True)


@rule("reshape_like")
def _(c):
    lhs, rhs = (c.add("Shape", c.x(i)) for i in (0, 1))
    bounds = [c.settings[k] for k in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")]
    if bounds != [None] * 4:
        (a, b), (first, last) = (
            axes_between(np.empty(s), *p) for s, p in zip(c.shapes, (bounds[:2], bounds[2:]))
        )
        parts = (lhs, 0, a), (rhs, first, last), (lhs, b, len(c.shapes[0]))
        rhs = c.add(
            "Concat", *(c.add("Slice", x, c.ints(i), c.ints(j)) for x, i, j in parts), axis=0
        )
    c.add("Reshape", c.x(), rhs, last=True)


@rule("broadcast_axis")
def _(c):
    sizes = [1] * len(c.shapes[0])  # 1 keeps a size there
    for axis, size in zip(np.ravel(c.settings["axis"]), np.ravel(c.settings["size"])):
        sizes[int(axis)] = int(size)
    c.add("Expand", c.x(), c.ints(*sizes), last=True)


@rule("broadcast_to")
def _(c):
    sizes = np.ravel(c.settings["shape"]).tolist()
    c.add("Expand", c.x(), c.ints(*(n or 1 for n in sizes)), last=True)


@rule("broadcast_like")
def _(c):
    shape, axes = c.add("Shape", c.x(1)), c.settings["lhs_axes"]
    if axes is not None and c.settings["rhs_axes"] is not None:
        sizes = [c.ints(1)] * len(c.shapes[0])
        for to, axis in zip(np.ravel(axes), np.ravel(c.settings["rhs_axes"])):
            sizes[to] = c.add("Gather", shape, c.ints(axis))
        shape = c.add("Concat", *sizes, axis=0)
    c.add("Expand", c.x(), shape, last=True)


@rule("slice_like")
def _(c):
    axes = all_axes(c, c.settings["axes"])
    ends = c.add("Gather", c.add("Shape", c.x(1)), c.ints(*axes))
    c.add("Slice", c.x(), c.ints(*[0] * len(axes)), ends, c.ints(*axes), last=True)


@rule("SequenceMask")
def _(c):
    if not c.settings["use_sequence_length"]:
        c.add("Identity", c.x(), last=True)
        return
    axis = c.settings["axis"]
    others = [[a for a in range(len(c.shapes[0])) if a != mine] for mine in (axis, 1 - axis)]
    step = c.add("Unsqueeze", c.count(c.size(0, axis)), c.ints(*others[0]))
    length = c.add("Unsqueeze", c.cast(c.x(1), "int64"), c.ints(*others[1]))
    c.add("Where", c.add("Less", step, length), c.x(), c.floats(c.settings["value"]), last=True)


@rule("SequenceReverse")
def _(c):
    if c.settings["use_sequence_length"]:
        length = c.cast(c.x(1), "int64")
        c.add("ReverseSequence", c.x(), length, batch_axis=1, time_axis=0, last=True)
    else:
        c.add("Slice", c.x(), *map(c.ints, (-1, -FAR, 0, -1)), last=True)


@rule("slice")
def _(c):
    begin, end = (several(c.settings[k]) for k in ("begin", "end"))
    steps = [n or 1 for n in several(c.settings["step"] or ()) or [1] * len(begin)]
    starts = [(0 if s > 0 else FAR) if b is None else b for b, s in zip(begin, steps)]
    ends = [(FAR if s > 0 else -FAR) if e is None else e for e, s in zip(end, steps)]
    bounds = (c.ints(*numbers) for numbers in (starts, ends, range(len(begin)), steps))
    c.add("Slice", c.x(), *bounds, last=True)


@rule("flip")
def _(c):
    axes = all_axes(c, several(c.settings["axis"]))
    bounds = (c.ints(*[n] * len(axes)) for n in (-1, -FAR))
    c.add("Slice", c.x(), *bounds, c.ints(*axes), c.ints(*[-1] * len(axes)), last=True)


@rule("stack")
def _(c):
    axis = c.settings["axis"] % len(c.shape)
    arrays = (c.add("Unsqueeze", c.x(i), c.ints(axis)) for i in range(len(c.inputs)))
    c.add("Concat", *arrays, axis=axis, last=True)


@rule("tile")
def _(c):
    reps, n, x = list(several(c.settings["reps"])), len(c.shapes[0]), c.x()
    if len(reps) > n:
        x = c.add("Unsqueeze", x, c.ints(*range(len(reps) - n)))
    c.add("Tile", x, c.ints(*[1] * (n - len(reps)), *reps), last=True)


@rule("repeat")
def _(c):
    axis, repeats = c.settings["axis"], c.settings["repeats"]
    x = c.add("Reshape", c.x(), c.ints(-1)) if axis is None else c.x()
    size = c.add("Size", c.x()) if axis is None else c.size(0, axis)
    index = c.count(c.add("Mul", size, c.whole(repeats)))
    c.add("Gather", x, c.add("Div", index, c.whole(repeats)), axis=axis or 0, last=True)


@rule("depth_to_space", "space_to_depth")
def _(c):
    op = "".join(word.capitalize() for word in c.node.op.name.split("_"))
    c.add(op, c.x(), blocksize=c.settings["block_size"], last=True)


@rule("take")
def _(c):
    index, axis = c.cast(c.x(1), "int64"), c.settings["axis"]
    if c.settings["mode"] == "clip":
        end = c.add("Sub", c.size(0, axis), c.whole(1))
        index = c.add("Clip", index, c.whole(0), end)
    elif c.settings["mode"] == "wrap":
        index = c.add("Mod", index, c.size(0, axis))
    c.add("Gather", c.x(), index, axis=axis, last=True)


@rule("gather_nd")
def _(c):
    perm = [*range(1, len(c.shapes[1])), 0]  # there the coordinates stand last
    index = c.add("Transpose", c.cast(c.x(1), "int64"), perm=perm)
    c.add("GatherND", c.x(), index, last=True)


@rule("topk", "argsort")
def _(c):
    axis, kind = c.settings["axis"], c.settings.get("ret_typ", "indices")
    if axis is None or kind == "mask":
        raise MXNetError(f"{c.node.name}: ONNX ranks along an axis, and has no mask")
    k = c.settings.get("k", 0)
    size = c.ints(k) if k > 0 else c.add("Reshape", c.size(0, axis), c.ints(1))
    names = [f"{c.outputs[0]}_{part}" for part in ("values", "indices")]
    c.add("TopK", c.x(), size, axis=axis, largest=int(not c.settings["is_ascend"]), outputs=names)
    told = {"value": names[:1], "indices": names[1:], "both": names}[kind]
    for name, out, i in zip(told, c.outputs, range(2)):
        to = c.code(c.writer.facts.types[c.node, i])
        c.add("Cast", name, to=to, outputs=[out])


@rule("one_hot")
def _(c):
    here = c.add("Unsqueeze", c.cast(c.x(), "int64"), c.ints(-1))
    truth = c.add("Equal", here, c.writer.constant(np.arange(c.settings["depth"])))
    on, off = (np.asarray(c.settings[k], c.dtype) for k in ("on_value", "off_value"))
    c.add("Where", truth, c.writer.constant(on), c.writer.constant(off), last=True)


def heads_of(c, i, parts, part, turned=False):
    """Matrices (batch·heads, length, size), or turned, of one of the parts of an input."""
    size = c.shapes[i][2] // c.settings["heads"] // parts
    x = c.add("Reshape", c.x(i), c.ints(0, -1, parts, size))
    x = c.add("Gather", x, c.whole(part), axis=2)
    return c.add("Transpose", x, perm=[1, 2, 0] if turned else [1, 0, 2]), size


@rule("contrib_interleaved_matmul_selfatt_qk", "contrib_interleaved_matmul_encdec_qk")
def _(c):
    queries, keys = ((0, 3, 0), (0, 3, 1)) if len(c.inputs) == 1 else ((0, 1, 0), (1, 2, 0))
    (q, size), (k, _) = heads_of(c, *queries), heads_of(c, *keys, turned=True)
    c.add("MatMul", c.add("Mul", q, c.floats(size**-0.5)), k, last=True)


@rule("contrib_interleaved_matmul_selfatt_valatt", "contrib_interleaved_matmul_encdec_valatt")
def _(c):
    parts = 3 if "selfatt" in c.node.op.name else 2
    values, size = heads_of(c, 0, parts, parts - 1)
    y = c.add("Transpose", c.add("MatMul", c.x(1), values), perm=[1, 0, 2])
    c.add("Reshape", y, c.ints(0, -1, size * c.settings["heads"]), last=True)


@rule("contrib_div_sqrt_dim")
def _(c):
    c.add("Mul", c.x(), c.floats(c.shapes[0][-1] ** -0.5), last=True)


@rule("contrib_AdaptiveAvgPooling2D", "contrib_BilinearResize2D")
def _(c):
    like = np.empty(c.shapes[0], c.own)
    if c.node.op.name == "contrib_AdaptiveAvgPooling2D":
        rows, columns = averages(like, c.settings["output_size"])
    else:
        corners = c.settings["align_corners"]
        rows, columns = (resizing(like, i, c.shape[2 + i], corners) for i in (0, 1))
    c.add("MatMul", c.floats(rows), c.add("MatMul", c.x(), c.floats(columns.T)), last=True)


@rule("UpSampling")
def _(c):
    if c.settings["sample_type"] != "nearest":
        raise MXNetError(
            f"{c.node.name}: only UpSampling by 'nearest' can be told: use Deconvolution"
        )
    words = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    grown, height = [], c.shape[2]
    for i, shape in enumerate(c.shapes):
        scales = np.array([1, 1, height // shape[2], height // shape[2]], "float32")
        told = c.x(i), "", c.writer.constant(scales)
        grown.append(c.add("Resize", *told, **words, nearest_mode="floor"))
    joined = c.settings["multi_input_mode"] == "concat"
    c.add("Concat" if joined else "Sum", *grown, axis=1 if joined else None, last=True)


@rule("ROIPooling")
def _(c):
    shape, scale = list(several(c.settings["pooled_size"])), float(c.settings["spatial_scale"])
    c.add("MaxRoiPool", c.x(0), c.x(1), pooled_shape=shape, spatial_scale=scale, last=True)


@rule("contrib_ROIAlign")
def _(c):
    if c.settings["position_sensitive"] or c.settings["aligned"]:
        raise MXNetError(
            f"{c.node.name}: position_sensitive and aligned cannot be told at opset 15"
        )
    image, boxes = (c.add("Slice", c.x(1), *map(c.ints, (*ends, 1))) for ends in ((0, 1), (1, 5)))
    image = c.add("Reshape", c.cast(image, "int64"), c.ints(-1))
    height, width = several(c.settings["pooled_size"])
    told = {"output_height": height, "output_width": width}
    told["sampling_ratio"] = max(c.settings["sample_ratio"], 0)  # 0: as many as there are pixels
    scale = float(c.settings["spatial_scale"])
    c.add("RoiAlign", c.x(0), boxes, image, spatial_scale=scale, mode="avg", **told, last=True)


@rule("Crop")
def _(c):
    (*_, h, w), (*_, height, width) = c.shapes[0], c.shape
    middle = (h - height) // 2, (w - width) // 2
    top, left = middle if c.settings["center_crop"] else c.settings["offset"]
    bounds = (top, left), (top + height, left + width), (2, 3)
    c.add("Slice", c.x(), *(c.ints(*b) for b in bounds), last=True)


@rule("contrib_MultiBoxPrior")
def _(c):
    c.writer.values[c.node, 0] = c.node.op.kernel(np.empty(c.shapes[0], c.own), **c.node.settings)


def halves(c, x):
    """The first and the last two of four columns."""
    return [c.add("Slice", x, *map(c.ints, (i, i + 2, -1))) for i in (0, 2)]


@rule("contrib_box_decode")
def _(c):
    by = c.floats([c.settings[f"std{i}"] for i in range(4)])
    shift, scale = halves(c, c.add("Mul", c.x(0), by))
    if c.settings["clip"] > 0:
        scale = c.add("Min", scale, c.floats(c.settings["clip"]))
    middle, size = halves(c, c.x(1))
    if c.settings["format"] == "corner":
        size, ends = c.add("Sub", size, middle), c.add("Add", size, middle)
        middle = c.add("Mul", ends, c.floats(0.5))
    at = c.add("Add", c.add("Mul", shift, size), middle)
    half = c.add("Mul", c.add("Mul", c.add("Exp", scale), size), c.floats(0.5))
    c.add("Concat", c.add("Sub", at, half), c.add("Add", at, half), axis=-1, last=True)


LAWS = {"normal": ("RandomNormal", "loc", "scale"), "uniform": ("RandomUniform", "low", "high")}
LAW_SETTINGS = {"loc": "mean"}  # the others have the same names there


@rule("_random_normal", "_random_uniform", "normal_like", "uniform_like")
def _(c):
    like = c.node.op.name.endswith("_like")
    op, *names = LAWS[c.node.op.name.removeprefix("_random_").removesuffix("_like")]
    told = {LAW_SETTINGS.get(k, k): float(c.settings[k]) for k in names}
    told |= {"dtype": c.code(c.dtype)} | ({} if like else {"shape": c.shape})
    arrays = [c.x()] if like else []
    c.add(op + "Like" * like, *arrays, **told, last=True)


@rule("sample_multinomial")
def _(c):
    if c.settings["get_prob"]:
        raise MXNetError(f"{c.node.name}: get_prob cannot be told in ONNX")
    rows = c.add("Log", c.add("Reshape", c.x(), c.ints(-1, c.shapes[0][-1])))
    count = int(np.prod(c.settings["shape"] or 1))
    y = c.add("Multinomial", rows, sample_size=count, dtype=c.code("int32"))
    y = c.add("Reshape", y, c.ints(-1, *c.shape[1:]))
    c.cast(y, c.dtype, last=True)


GATES = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn_tanh": [0], "rnn_relu": [0]}
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


def turned(a, mode, hidden):
    """Blocks of rows in ONNX's order of gates."""
    return np.concatenate([a[g * hidden : (g + 1) * hidden] for g in GATES[mode]])


def cut_parameters(vector, mode, inputs, hidden, layers, ways):
    """For each layer its W, R and B, with an axis of directions first."""
    gates, at, weights, found = len(GATES[mode]), 0, [], []

    def take(*shape):
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return vector[at - size : at].reshape(shape)

    for layer in range(layers):
        wide = inputs if layer == 0 else hidden * ways
        weights.append(
            [(take(gates * hidden, wide), take(gates * hidden, hidden)) for _ in range(ways)]
        )
    for layer in range(layers):
        biases = [
            [turned(take(gates * hidden), mode, hidden) for _ in range(2)] for _ in range(ways)
        ]
        w, r = (
            np.stack([turned(pair[i], mode, hidden) for pair in weights[layer]]) for i in (0, 1)
        )
        found.append((w, r, np.stack([np.concatenate(pair) for pair in biases])))
    return found


@rule("RNN")
def _(c):
    mode, hidden, layers = (c.settings[k] for k in ("mode", "state_size", "num_layers"))
    ways = 2 if c.settings["bidirectional"] else 1
    if c.values[1] is None or c.settings["projection_size"] or c.settings["use_sequence_length"]:
        raise MXNetError(
            f"{c.node.name}: a layer with known parameters, without projection and lengths, can be told"
        )
    parts = cut_parameters(c.values[1], mode, c.shapes[0][2], hidden, layers, ways)
    settings = {"hidden_size": hidden, "direction": "bidirectional" if ways == 2 else "forward"}
    settings |= {"linear_before_reset": 1} if mode == "gru" else {}
    settings |= {"activations": ["Relu"] * ways} if mode == "rnn_relu" else {}
    states = [i for i in range(2, len(c.inputs)) if c.values[i] is None or c.values[i].any()]
    y, ends = c.x(), [[], []]
    for layer, arrays in enumerate(parts):
        rows = layer * ways, (layer + 1) * ways, 0
        given = [c.add("Slice", c.x(i), *map(c.ints, rows)) for i in states]
        outs = [f"{c.outputs[0]}_layer{layer}_{k}" for k in ("y", "h", "c")][: 2 + (mode == "lstm")]
        named = [c.floats(a) for a in arrays]
        blank = [""] if given else []
        c.add(CELLS[mode], y, *named, *blank, *given, outputs=outs, **settings)
        for kind, out in enumerate(outs[1:]):
            ends[kind].append(out)
        last = layer == layers - 1
        joined = c.add("Transpose", outs[0], perm=[0, 2, 1, 3])
        if last:
            c.add("Reshape", joined, c.ints(0, 0, -1), last=True)
        else:
            y = c.add("Reshape", joined, c.ints(0, 0, -1))
    for kind, out in enumerate(c.outputs[1:]):
        c.add("Concat", *ends[kind], axis=0, outputs=[out])


def plain_params(params):
    """{name: array} of parameters, from a file or a dict, without `arg:` and `aux:` before names."""
    params = load(path_of(params)) if isinstance(params, str | os.PathLike) else params
    found = {}
    for name, a in params.items():
        name = name.partition(":")[2] if name.startswith(("arg:", "aux:")) else name
        found[name] = a.asnumpy() if isinstance(a, NDArray) else np.asarray(a)
    return found


def data_names(sym, params):
    """Names of the inputs: no parameters, and no labels."""
    nodes = in_order(sym._entries)
    labels = {n.inputs[1][0] for n in nodes if n.op and n.op.name in LABELLED and len(n.inputs) > 1}
    return [n.name for n in nodes if n.op is None and n.name not in params and n not in labels]


def export_model(
    sym,
    params,
    in_shapes=None,
    in_types=np.float32,
    onnx_file_path="model.onnx",
    verbose=False,
    dynamic=False,
    dynamic_input_shapes=None,
    run_shape_inference=False,
    input_type=None,
    input_shape=None,
):
    """Write a network as an ONNX file, opset 15; the path comes back.

    `sym` and `params` are a Symbol and a dict, or files; `in_shapes`: a shape for each input. With
    `dynamic` sizes that are None in `dynamic_input_shapes` are left open. MXNetError for what ONNX
    lacks.
    """
    sym = sym if isinstance(sym, Symbol) else load_symbol(path_of(sym))
    params, shapes = plain_params(params), in_shapes or input_shape
    types = in_types if input_type is None else input_type
    names = data_names(sym, params)
    if shapes is None or len(shapes) != len(names):
        raise ValueError(f"in_shapes: a shape for each of {names}, not {shapes}")
    types = list(types) if isinstance(types, list | tuple) else [types] * len(names)
    writer = written(sym, params, dict(zip(names, map(tuple, shapes))), dict(zip(names, types)))
    told = dynamic_input_shapes if dynamic and dynamic_input_shapes else shapes
    opened = [
        [f"{n}_{i}" if size is None else size for i, size in enumerate(shape)]
        for n, shape in zip(names, told)
    ]
    outputs, out_shapes = (
        [d[e] for e in sym._entries] for d in (writer.names, writer.facts.shapes)
    )
    if dynamic:
        out_shapes = [[f"{n}_{i}" for i in range(len(s))] for n, s in zip(outputs, out_shapes)]
    out_types = [writer.facts.types[e] for e in sym._entries]
    whole = model_of(writer, zip(names, types, opened), zip(outputs, out_types, out_shapes))
    replace_file(path_of(onnx_file_path), [whole.SerializeToString()])
    return onnx_file_path


def model_of(writer, inputs, outputs):
    """The model of what a Writer has written, with triples of name, type and shape."""
    onnx = writer.onnx
    ends = [
        [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(t)), s
            )
            for n, t, s in each
        ]
        for each in (inputs, outputs)
    ]
    graph = onnx.helper.make_graph(writer.nodes, "minigluon", *ends, [*writer.constants.values()])
    opset = onnx.helper.make_opsetid("", 15)
    model = onnx.helper.make_model(
        graph, opset_imports=[opset], producer_name="minigluon", ir_version=8
    )
    onnx.checker.check_model(model)
    return model


def written(sym, params, shapes, types):
    """A Writer that has been through the graph."""
    nodes = in_order(sym._entries)
    known = shapes | {n: a.shape for n, a in params.items()}
    facts = Inference(
        known, {n: np.dtype(t) for n, t in types.items()} | {n: a.dtype for n, a in params.items()}
    )
    facts.settle(nodes)
    values = {(n, 0): params[n.name] for n in nodes if n.op is None and n.name in params}
    writer = Writer(facts, values)
    for node in nodes:
        if node.op is None:
            writer.names[node, 0] = node.name
            continue
        writer.announce(node)
        if not draws(node.op) and all(a in values for a in node.inputs if type(a) is tuple):
            fold(writer, node)
        elif node.op.name not in RULES:
            raise MXNetError(
                f"No conversion function registered for op type {node.op.name} yet, "
                f"of node {node.name}: there are "
                f"{', '.join(sorted(RULES))}"
            )
        else:
            RULES[node.op.name](Call(writer, node))
    for entry in sym._entries:
        name = writer.names[entry]
        if entry in values and name not in writer.constants:  # an output must come from a node
            told = writer.constant(values[entry])
            writer.nodes.append(writer.onnx.helper.make_node("Identity", [told], [name], name))
    return writer


def fold(writer, node):
    """Compute what depends on constants alone."""
    arrays = [writer.values[a] if type(a) is tuple else a for a in node.inputs]
    left_open = open_shape(node) is not None
    call = filled(node, writer.facts.shapes[node, 0]) if left_open else node
    found = call.op.kernel(*arrays, **call.settings)
    for i, a in enumerate(found if isinstance(found, tuple) else [found]):
        writer.values[node, i] = np.asarray(a)


def get_operator_support(opset_version=None):
    """Names of the operators that can be written."""
    return sorted(RULES)
