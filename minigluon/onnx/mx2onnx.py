"""ONNX is a graph in a protocol buffer: write each node in its words, and any runtime can run it."""

# Written from chapters/97b_onnx.ipynb: edit the chapter, then run `minigluon export`.

import os

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.utils import load, path_of, replace_file
from minigluon.notebook.callback import needed
from minigluon.symbol import load as load_symbol
from minigluon.symbol.inference import Inference
from minigluon.symbol.symbol import Symbol, in_order

__all__ = [
    "ACTIVATIONS",
    "BINARY",
    "CELLS",
    "Call",
    "GATES",
    "LABELLED",
    "RULES",
    "UNARY",
    "Writer",
    "channels_first",
    "cut_parameters",
    "data_names",
    "export_model",
    "fold",
    "get_operator_support",
    "model_of",
    "plain_params",
    "rule",
    "turned",
    "window",
    "written",
]


# --- Code -----------------------------------------------------------------------------------------

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
    """The nodes and constants of an ONNX graph; `names` and `values` tell of each output its name or its constant."""

    def __init__(self, facts, values):
        self.onnx = needed("onnx", "export_model")
        self.facts, self.values, self.names = facts, values, {}
        self.nodes, self.constants, self.count = [], {}, 0

    def constant(self, a, name=None):
        """The name of a constant."""
        if name is None:
            self.count += 1
            name = f"constant_{self.count}"
        self.constants.setdefault(name, self.onnx.numpy_helper.from_array(np.asarray(a), name))
        return name

    def name_of(self, entry):
        """The name of an output, or of a number."""
        if type(entry) is not tuple:
            return self.constant(np.asarray(entry, self.dtype))
        if entry in self.values:
            return self.constant(self.values[entry], entry[0].outputs[entry[1]])
        return self.names[entry]


class Call:
    """One node while it is written: names `x`, `shapes`, constants `values` of its inputs, its `settings`."""

    def __init__(self, writer, node):
        self.writer, self.node = writer, node
        self.settings = {**node.op.defaults, **node.settings}
        self.inputs = [a for a in node.inputs if a is not None]  # a bias may be left out
        self.values = [writer.values.get(a) if type(a) is tuple else None for a in self.inputs]
        self.shapes = [writer.facts.shapes.get(a) if type(a) is tuple else () for a in self.inputs]
        self.shape = writer.facts.shapes.get((node, 0))

    def x(self, i=0):
        """The name of an input."""
        return self.writer.name_of(self.inputs[i])

    def add(self, op, *inputs, last=False, outputs=None, **settings):
        """Write a node; its output has a name of its own, or with `last` that of ours."""
        w = self.writer
        w.count += 1
        names = outputs or [self.node.outputs[0] if last else f"{self.node.name}_{w.count}"]
        settings = {k: v for k, v in settings.items() if v is not None}
        name = f"{self.node.name}_{w.count}"
        w.nodes.append(w.onnx.helper.make_node(op, inputs, names, name, **settings))
        return names[0]

    def code(self, dtype):
        """ONNX's number of a type."""
        return self.writer.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def ints(self, *numbers):
        """The name of a constant vector of whole numbers."""
        return self.writer.constant(np.array(numbers, "int64"))

    def floats(self, a):
        """The name of a constant in the type of the model."""
        return self.writer.constant(np.asarray(a, self.writer.dtype))


UNARY = {
    **{n: n.capitalize() for n in ("relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "ceil")},
    **{n: n.capitalize() for n in ("floor", "erf", "sin", "cos", "tan", "softsign", "identity")},
    "negative": "Neg", "reciprocal": "Reciprocal", "stop_gradient": "Identity", "make_loss": "Identity",
    "MakeLoss": "Identity", "LinearRegressionOutput": "Identity", "MAERegressionOutput": "Identity",
    "LogisticRegressionOutput": "Sigmoid", "Dropout": "Identity",
}  # fmt: skip
BINARY = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "power": "Pow"}
BINARY |= {"maximum": "Max", "minimum": "Min"}
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
    else:
        op = {"leaky": "LeakyRelu", "elu": "Elu", "selu": "Selu"}[kind]
        c.add(op, c.x(), last=True, **({} if kind == "selu" else {"alpha": slope}))


@rule("softmax", "log_softmax", "SoftmaxOutput")
def _(c):
    op = "LogSoftmax" if c.node.op.name == "log_softmax" else "Softmax"
    x = c.x()
    if (c.settings.get("temperature") or 1) != 1:
        x = c.add("Div", x, c.floats(c.settings["temperature"]))
    c.add(op, x, axis=1 if c.node.op.name == "SoftmaxOutput" else c.settings["axis"], last=True)


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
    index = c.add("Cast", c.x(0), to=c.code("int64"))
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


@rule("split")
def _(c):
    n, axis = c.settings["num_outputs"], c.settings["axis"]
    if c.settings["squeeze_axis"]:
        parts = [f"{o}_part" for o in c.node.outputs]
        c.add("Split", c.x(), axis=axis, outputs=parts)
        for part, out in zip(parts, c.node.outputs):
            c.add("Squeeze", part, c.ints(axis), outputs=[out])
    else:
        c.add(
            "Split" if n > 1 else "Identity",
            c.x(),
            outputs=c.node.outputs,
            axis=axis if n > 1 else None,
        )


@rule("sum", "mean", "max", "min", "prod")
def _(c):
    op = "Reduce" + c.node.op.name.capitalize()
    axis = c.settings["axis"]
    axes = list(range(len(c.shapes[0]))) if axis in (None, ()) else np.ravel(axis).tolist()
    if c.settings.get("exclude"):
        given = {a % len(c.shapes[0]) for a in axes}
        axes = [a for a in range(len(c.shapes[0])) if a not in given]
    keep = int(c.settings["keepdims"])
    if op == "ReduceSum":
        c.add(op, c.x(), c.ints(*axes), keepdims=keep, last=True)
    else:
        c.add(op, c.x(), axes=axes, keepdims=keep, last=True)


@rule("clip")
def _(c):
    c.add("Clip", c.x(), *(c.floats(c.settings[k]) for k in ("a_min", "a_max")), last=True)


@rule("square")
def _(c):
    c.add("Mul", c.x(), c.x(), last=True)


@rule("cast")
def _(c):
    c.add("Cast", c.x(), to=c.code(c.settings["dtype"]), last=True)


@rule("pad")
def _(c):
    widths = np.reshape(c.settings["pad_width"], (-1, 2))
    value = c.floats(c.settings["constant_value"] or 0)
    c.add("Pad", c.x(), c.ints(*widths.T.ravel()), value, mode=c.settings["mode"], last=True)


@rule("dot", "batch_dot")
def _(c):
    arrays = []
    for i, name in enumerate(("transpose_a", "transpose_b")):
        axes = list(range(len(c.shapes[i])))
        turned = c.settings[name]
        perm = axes[:-2] + axes[-2:][::-1]
        arrays.append(c.add("Transpose", c.x(i), perm=perm) if turned else c.x(i))
    if c.node.op.name == "dot" and max(map(len, c.shapes)) > 2:
        raise MXNetError(f"{c.node.name}: dot of {c.shapes} cannot be told in ONNX")
    c.add("MatMul", *arrays, last=True)


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
        outs = [f"{c.node.name}_layer{layer}_{k}" for k in ("y", "h", "c")][: 2 + (mode == "lstm")]
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
    for kind, out in enumerate(c.node.outputs[1:]):
        c.add("Concat", *ends[kind], axis=0, outputs=[out])


def plain_params(params):
    """{name: array} of parameters, from a file or a dict, with or without `arg:` and `aux:` before the names."""
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

    `sym` and `params` are a Symbol and a dict, or files; `in_shapes` has the shape of each input. With `dynamic` the sizes that are None in
    `dynamic_input_shapes` are left open. MXNetError for an operator, or a setting of one, that has no words there.
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
    outputs, out_shapes = sym.list_outputs(), [writer.facts.shapes[e] for e in sym._entries]
    if dynamic:
        out_shapes = [[f"{n}_{i}" for i in range(len(s))] for n, s in zip(outputs, out_shapes)]
    whole = model_of(
        writer, zip(names, types, opened), zip(outputs, [writer.dtype] * len(outputs), out_shapes)
    )
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
    writer.dtype = np.dtype(next(iter(types.values()), "float32"))
    for node in nodes:
        if node.op is None:
            writer.names[node, 0] = node.name
        elif all(a in values for a in node.inputs if type(a) is tuple):
            fold(writer, node)
        elif node.op.name not in RULES:
            raise MXNetError(
                f"No conversion function registered for op type {node.op.name} yet, of node {node.name}: there are "
                f"{', '.join(sorted(RULES))}"
            )
        else:
            RULES[node.op.name](Call(writer, node))
            writer.names |= {(node, i): out for i, out in enumerate(node.outputs)}
    return writer


def fold(writer, node):
    """Compute what depends on constants alone."""
    arrays = [writer.values[a] if type(a) is tuple else a for a in node.inputs]
    if not node.inputs and writer.facts.shapes.get((node, 0)):
        found = node.op.kernel(**{**node.settings, "shape": writer.facts.shapes[node, 0]})
    else:
        found = node.op.kernel(*arrays, **node.settings)
    for i, a in enumerate(found if isinstance(found, tuple) else [found]):
        writer.values[node, i] = np.asarray(a)


def get_operator_support(opset_version=None):
    """Names of the operators that can be written."""
    return sorted(RULES)
