"""ONNX is a graph in a protocol buffer: write each node in its words, and any runtime can run it."""

# Written from chapters/97b_onnx.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.base import MXNetError
from minigluon.context import cpu
from minigluon.gluon.hybrid import SymbolBlock
from minigluon.ndarray.ndarray import array
from minigluon.ndarray.utils import path_of
from minigluon.notebook.callback import needed
from minigluon.onnx.mx2onnx import (
    ACTIVATIONS,
    BINARY,
    COMPARED,
    FAR,
    LAW_SETTINGS,
    LAWS,
    LOGICAL,
    UNARY,
)
from minigluon.op import operators
from minigluon.symbol.space import created, ones
from minigluon.symbol.symbol import Group, var

__all__ = [
    "Found",
    "PLAIN",
    "READERS",
    "Reader",
    "get_model_metadata",
    "import_model",
    "import_to_gluon",
    "one_window",
    "reader",
    "whole",
]


# --- Code -----------------------------------------------------------------------------------------

READERS = {}  # operator of ONNX -> function(call) that gives Symbols


def reader(*names):
    """Let a function read these operators."""

    def note(function):
        READERS.update(dict.fromkeys(names, function))
        return function

    return note


class Reader:
    """The constants, Symbols, parameters and states of a graph while it is read."""

    def __init__(self, onnx, opsets):
        self.onnx, self.opsets = onnx, opsets
        self.values, self.symbols = {}, {}
        self.params, self.states = {}, {}
        self.shaped = {}  # name of a shape -> Symbol whose shape it is

    def symbol(self, name, state=False):
        """An output as a Symbol; a constant becomes a parameter, or a state."""
        if name not in self.symbols:
            (self.states if state else self.params)[name] = array(
                self.values[name], dtype=self.values[name].dtype
            )
            self.symbols[name] = var(name)
        return self.symbols[name]

    def read(self, node):
        """Read a node."""
        if node.op_type == "Constant":
            self.values[node.output[0]] = self.onnx.numpy_helper.to_array(node.attribute[0].t)
            return
        if node.input and all(name in self.values for name in node.input):
            run = needed("onnx.reference", "import_model").ReferenceEvaluator(
                node, opsets=self.opsets
            )
            found = run.run(None, {name: self.values[name] for name in node.input})
            self.values |= dict(zip(node.output, found))
            return
        if node.op_type not in READERS:
            raise MXNetError(
                f"No reader for the operator {node.op_type} of node {node.name!r}: there are "
                f"{', '.join(sorted(READERS))}"
            )
        found = READERS[node.op_type](Found(self, node))
        for name, part in zip(node.output, found if isinstance(found, list) else [found]):
            self.symbols[name] = part


class Found:
    """A node of ONNX: its inputs as Symbols `x(i)` or constants `value(i)`, its attributes `get(name)`."""

    def __init__(self, reader, node):
        self.reader, self.node = reader, node
        get = reader.onnx.helper.get_attribute_value
        self.attributes = {a.name: get(a) for a in node.attribute}
        self.inputs = list(node.input)

    def x(self, i=0, state=False):
        """An input as a Symbol."""
        return self.reader.symbol(self.inputs[i], state)

    def number(self, i):
        """An input as a Symbol, or as a number if it is a single constant one."""
        single = self.known(i) and self.value(i).size == 1
        return float(self.value(i).item()) if single else self.x(i)

    def known(self, i):
        """Whether an input is a constant."""
        return i < len(self.inputs) and self.inputs[i] in self.reader.values

    def shape_of(self, i):
        """The Symbol whose shape an input is, or None."""
        return self.reader.shaped.get(self.inputs[i]) if i < len(self.inputs) else None

    def value(self, i):
        """An input that must be a constant."""
        if not self.known(i):
            raise MXNetError(
                f"{self.node.op_type} {self.node.name!r}: input {i} must be a constant here"
            )
        return self.reader.values[self.inputs[i]]

    def get(self, name, default=None, i=None):
        """An attribute, or in newer versions the constant input number `i`, or the default."""
        if name in self.attributes:
            found = self.attributes[name]
            return found.decode() if isinstance(found, bytes) else found
        given = i is not None and i < len(self.inputs) and self.inputs[i]
        return self.value(i) if given else default

    def parameter(self, name, a):
        """A constant that has been changed, as a parameter."""
        self.reader.values.setdefault(name, np.ascontiguousarray(a))
        return self.reader.symbol(name)

    def call(self, op, *arrays, **settings):
        """One of our operators, named after this node."""
        return operators[op](*arrays, **settings, name=self.node.name or self.node.output[0])


def one_window(f, fill):
    """The data and the settings of a window; unequal borders are laid around the data, filled with a number."""
    kernel = list(f.get("kernel_shape") or f.value(1).shape[2:])
    n, x = len(kernel), f.x()
    if f.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise MXNetError(
            f"{f.node.name!r}: auto_pad={f.get('auto_pad')} depends on the data: give pads"
        )
    pads = list(f.get("pads") or [0] * (2 * n))
    if pads[:n] != pads[n:]:
        widths = [0] * 4 + [p for pair in zip(pads[:n], pads[n:]) for p in pair]
        x = operators["pad"](x, mode="constant", pad_width=tuple(widths), constant_value=fill)
        pads = [0] * (2 * n)
    settings = {"kernel": tuple(kernel), "pad": tuple(pads[:n])}
    return x, settings | {"stride": tuple(f.get("strides") or [1] * n)}


@reader("Conv", "ConvTranspose")
def _(f):
    x, settings = one_window(f, 0.0)
    group, shape = f.get("group", 1), f.value(1).shape
    settings |= {"num_group": group, "no_bias": len(f.inputs) < 3}
    settings["dilate"] = tuple(f.get("dilations") or [1] * len(settings["kernel"]))
    arrays = [f.x(i) for i in range(1, len(f.inputs))]
    if f.node.op_type == "Conv":
        return f.call("Convolution", x, *arrays, num_filter=shape[0], **settings)
    settings["adj"] = tuple(f.get("output_padding") or [0] * len(settings["kernel"]))
    return f.call("Deconvolution", x, *arrays, num_filter=shape[1] * group, **settings)


@reader("MaxPool", "AveragePool")
def _(f):
    x, settings = one_window(f, float("-inf") if f.node.op_type == "MaxPool" else 0.0)
    settings["pool_type"] = "max" if f.node.op_type == "MaxPool" else "avg"
    settings["pooling_convention"] = "full" if f.get("ceil_mode", 0) else "valid"
    if settings["pool_type"] == "avg":
        settings["count_include_pad"] = bool(f.get("count_include_pad", 0))
    return f.call("Pooling", x, **settings)


@reader("GlobalMaxPool", "GlobalAveragePool")
def _(f):
    kind = "max" if "Max" in f.node.op_type else "avg"
    return f.call("Pooling", f.x(), kernel=(1, 1), global_pool=True, pool_type=kind)


@reader("Gemm")
def _(f):
    alpha, beta = (f.get(k, 1.0) for k in ("alpha", "beta"))
    if alpha == beta == 1 and not f.get("transA", 0) and f.known(1):
        w = f.value(1) if f.get("transB", 0) else f.value(1).T
        weight = f.x(1) if f.get("transB", 0) else f.parameter(f"{f.inputs[1]}_turned", w)
        bias = [f.x(2)] if len(f.inputs) > 2 else []
        return f.call("FullyConnected", f.x(), weight, *bias, num_hidden=len(w), no_bias=not bias)
    turned = {"transpose_a": bool(f.get("transA", 0)), "transpose_b": bool(f.get("transB", 0))}
    y = operators["dot"](f.x(0), f.x(1), **turned) * alpha
    return y + f.x(2) * beta if len(f.inputs) > 2 else y


@reader("MatMul")
def _(f):
    if f.known(1) and f.value(1).ndim == 2:
        weight = f.parameter(f"{f.inputs[1]}_turned", f.value(1).T)
        settings = {"num_hidden": f.value(1).shape[1], "flatten": False, "no_bias": True}
        return f.call("FullyConnected", f.x(), weight, **settings)
    if f.known(0) and f.value(0).ndim == 2:  # (X^T W^T)^T
        settings = {"num_hidden": len(f.value(0)), "flatten": False, "no_bias": True}
        turned = operators["swapaxes"](f.x(1), dim1=-1, dim2=-2)
        y = operators["FullyConnected"](turned, f.x(0), **settings)
        return f.call("swapaxes", y, dim1=-1, dim2=-2)
    return f.call("linalg_gemm2", f.x(0), f.x(1))


@reader("BatchNormalization")
def _(f):
    arrays = [f.x(i) for i in (0, 1, 2)] + [f.x(i, state=True) for i in (3, 4)]
    return f.call("BatchNorm", *arrays, eps=f.get("epsilon", 1e-5), fix_gamma=False)[0]


@reader("InstanceNormalization")
def _(f):
    return f.call("InstanceNorm", *(f.x(i) for i in range(3)), eps=f.get("epsilon", 1e-5))


@reader("LRN")
def _(f):
    s = {k: f.get(k, d) for k, d in (("alpha", 1e-4), ("beta", 0.75))}
    return f.call("LRN", f.x(), nsize=f.get("size"), knorm=f.get("bias", 1.0), **s)


@reader("Gather")
def _(f):
    if f.get("axis", 0) == 0 and f.known(0) and f.value(0).ndim == 2:
        rows, columns = f.value(0).shape
        return f.call("Embedding", f.x(1), f.x(0), input_dim=rows, output_dim=columns)
    axis = f.get("axis", 0)
    if f.known(1) and f.value(1).ndim == 0:
        i = int(f.value(1))
        one = operators["slice_axis"](f.x(0), axis=axis, begin=i, end=i + 1 or None)
        return f.call("squeeze", one, axis=axis)
    return f.call("take", f.x(0), f.x(1), axis=axis, mode="wrap")


PLAIN = {theirs: ours for ours, theirs in UNARY.items() if theirs not in ("Identity", "Sigmoid")}
PLAIN |= {"Sigmoid": "sigmoid", "Identity": "identity", "Dropout": "identity"}
PLAIN |= {theirs: ours for ours, theirs in (BINARY | COMPARED | LOGICAL).items()}
PLAIN |= {"Pow": "power", "Equal": "equal", "Size": "size_array"}


@reader(*PLAIN)
def _(f):
    count = 1 if f.node.op_type == "Dropout" else len(f.inputs)
    return f.call(PLAIN[f.node.op_type], *(f.number(i) for i in range(count)))


@reader("Softplus")
def _(f):
    kind = {theirs: ours for ours, theirs in ACTIVATIONS.items()}[f.node.op_type]
    return f.call("Activation", f.x(), act_type=kind)


@reader("LeakyRelu", "Elu", "Selu", "PRelu")
def _(f):
    kind = f.node.op_type.lower()
    if kind == "prelu":
        slope = f.value(1).reshape(-1)
        return f.call("LeakyReLU", f.x(), f.parameter(f"{f.inputs[1]}_flat", slope), act_type=kind)
    settings = (
        {} if kind == "selu" else {"slope": f.get("alpha", 0.01 if kind == "leakyrelu" else 1.0)}
    )
    return f.call("LeakyReLU", f.x(), act_type=kind.removesuffix("relu"), **settings)


@reader("Softmax", "LogSoftmax")
def _(f):
    op = "softmax" if f.node.op_type == "Softmax" else "log_softmax"
    return f.call(op, f.x(), axis=f.get("axis", -1))


@reader("Clip")
def _(f):
    low, high = f.get("min", -np.inf, 1), f.get("max", np.inf, 2)
    return f.call("clip", f.x(), a_min=float(low), a_max=float(high))


@reader("Cast")
def _(f):
    kind = np.dtype(f.reader.onnx.helper.tensor_dtype_to_np_dtype(f.get("to")))
    if kind.kind == "b":  # a truth is a number here
        return f.call("not_equal", f.x(), 0.0)
    return f.call("cast", f.x(), dtype=kind.name)


@reader("Sum")
def _(f):
    return sum((f.number(i) for i in range(1, len(f.inputs))), start=f.number(0))


@reader("Mean")
def _(f):
    return sum((f.x(i) for i in range(1, len(f.inputs))), start=f.x(0)) / len(f.inputs)


@reader("HardSigmoid")
def _(f):
    return f.call("hard_sigmoid", f.x(), alpha=f.get("alpha", 0.2), beta=f.get("beta", 0.5))


@reader("Where")
def _(f):
    x, y = f.number(1), f.number(2)
    truth = operators["not_equal"](f.x(0), 0.0)
    if type(x) is float and type(y) is float:
        return operators["cast"](truth, dtype=f.value(1).dtype.name) * (x - y) + y
    zeros = operators["zeros_like"](truth)  # of the shape that they have together
    for a in (x, y):
        zeros = zeros if type(a) is float else zeros + operators["zeros_like"](a)
    return f.call("where", truth + zeros, x + zeros, y + zeros)


def whole(values):
    """A tuple of whole numbers."""
    return tuple(int(v) for v in np.ravel(values))


@reader("Flatten")
def _(f):
    if f.get("axis", 1) != 1:
        raise MXNetError(
            f"Flatten {f.node.name!r}: axis 1 is joined with the rest here, not {f.get('axis')}"
        )
    return f.call("flatten", f.x())


@reader("Reshape")
def _(f):
    if (like := f.shape_of(1)) is not None:
        return f.call("reshape_like", f.x(), like)
    return f.call("reshape", f.x(), shape=whole(f.get("shape", i=1)))


@reader("Transpose")
def _(f):
    return f.call("transpose", f.x(), axes=whole(f.get("perm", ())))


@reader("Concat")
def _(f):
    return f.call("concat", *(f.x(i) for i in range(len(f.inputs))), dim=f.get("axis"))


@reader("Unsqueeze")
def _(f):
    y = f.x()
    for axis in sorted(whole(f.get("axes", i=1))):
        y = operators["expand_dims"](y, axis=axis)
    return y


@reader("Squeeze")
def _(f):
    axes = f.get("axes", None, 1)
    return f.call("squeeze", f.x(), axis=None if axes is None else whole(axes))


@reader("Slice")
def _(f):
    begin, end = whole(f.get("starts", i=1)), whole(f.get("ends", i=2))
    axes, steps = f.get("axes", range(len(begin)), 3), f.get("steps", [1] * len(begin), 4)
    y = f.x()
    for axis, b, e, step in zip(whole(axes), begin, end, whole(steps)):
        e = None if abs(e) >= FAR else e
        if step == 1:
            y = operators["slice_axis"](y, axis=axis, begin=b, end=e)
        elif axis < 0:
            raise MXNetError(f"Slice {f.node.name!r}: with steps an axis is counted from the front")
        else:
            b, before = (None if abs(b) >= FAR else b), (None,) * axis
            y = operators["slice"](y, begin=(*before, b), end=(*before, e), step=(*before, step))
    return y


@reader("Tile")
def _(f):
    return f.call("tile", f.x(), reps=whole(f.get("repeats", i=1)))


@reader("Expand")
def _(f):
    if (like := f.shape_of(1)) is not None:
        return f.call("broadcast_like", f.x(), like)
    return f.call("multiply", f.x(), ones(whole(f.value(1))))


@reader("Shape")
def _(f):
    if f.attributes:
        raise MXNetError(f"Shape {f.node.name!r}: the whole shape only, without start and end")
    f.reader.shaped[f.node.output[0]] = f.x()
    return f.call("shape_array", f.x())


@reader("ConstantOfShape")
def _(f):
    if (like := f.shape_of(0)) is None:
        raise MXNetError(f"ConstantOfShape {f.node.name!r}: the shape of an array only")
    value = np.zeros(1, "float32")
    if "value" in f.attributes:
        value = f.reader.onnx.numpy_helper.to_array(f.attributes["value"])
    zeros = operators["cast"](operators["zeros_like"](like), dtype=value.dtype.name)
    return zeros + float(value.item())


@reader("DepthToSpace", "SpaceToDepth")
def _(f):
    if f.get("mode", "DCR") != "DCR":
        raise MXNetError(f"DepthToSpace {f.node.name!r}: mode DCR only, not {f.get('mode')}")
    op = "depth_to_space" if f.node.op_type == "DepthToSpace" else "space_to_depth"
    return f.call(op, f.x(), block_size=f.get("blocksize"))


@reader("Split")
def _(f):
    parts = f.get("split", None, 1)
    axis, many = f.get("axis", 0), len(f.node.output)
    if parts is not None and len({*whole(parts)}) > 1:
        ends = tuple(np.cumsum(whole(parts))[:-1].tolist())
        return list(f.call("split_v2", f.x(), indices_or_sections=ends, axis=axis))
    return list(f.call("split", f.x(), num_outputs=many, axis=axis))


@reader("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")
def _(f):
    axes, name = f.get("axes", None, 1), f.node.op_type.removeprefix("Reduce").lower()
    settings = {"axis": None if axes is None else whole(axes)}
    if name in ("l1", "l2"):
        name, settings["ord"] = "norm", int(name[1])
    return f.call(name, f.x(), keepdims=bool(f.get("keepdims", 1)), **settings)


@reader("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def _(f):
    x, axes, op = f.x(), f.get("axes", None, 1), f.node.op_type
    axis = None if axes is None else whole(axes)
    settings = {"axis": axis, "keepdims": bool(f.get("keepdims", 1))}
    total = operators["sum"]
    if op == "ReduceSumSquare":
        return total(x * x, **settings)
    if op == "ReduceLogSum":
        return operators["log"](total(x, **settings))
    top = operators["max"](x, axis=axis, keepdims=True)  # that no exp overflows
    y = operators["log"](total(operators["exp"](x - top), axis=axis, keepdims=True)) + top
    return total(y, **settings)  # over axes of size 1, so as to keep them or not


@reader("ArgMax", "ArgMin")
def _(f):
    if f.get("select_last_index", 0):
        raise MXNetError(f"{f.node.op_type} {f.node.name!r}: the first of equal numbers only")
    settings = {"axis": f.get("axis", 0), "keepdims": bool(f.get("keepdims", 1))}
    return f.call(f.node.op_type.lower(), f.x(), **settings)


@reader("TopK")
def _(f):
    settings = {"k": int(np.ravel(f.get("k", i=1))[0]), "axis": f.get("axis", -1)}
    settings |= {"is_ascend": not f.get("largest", 1), "ret_typ": "both", "dtype": "int64"}
    return list(f.call("topk", f.x(), **settings))


@reader("ReverseSequence")
def _(f):
    if (f.get("batch_axis", 1), f.get("time_axis", 0)) != (1, 0):
        raise MXNetError(f"ReverseSequence {f.node.name!r}: time has axis 0 here, the batch axis 1")
    return f.call("SequenceReverse", f.x(0), f.x(1), use_sequence_length=True)


@reader("MaxRoiPool")
def _(f):
    settings = {"pooled_size": whole(f.get("pooled_shape"))}
    return f.call(
        "ROIPooling", f.x(0), f.x(1), spatial_scale=f.get("spatial_scale", 1.0), **settings
    )


@reader("Pad")
def _(f):
    widths = np.reshape(f.get("pads", i=1), (2, -1)).T
    value = float(np.ravel(f.get("value", 0.0, 2))[0])
    return f.call(
        "pad", f.x(), mode=f.get("mode", "constant"), pad_width=whole(widths), constant_value=value
    )


@reader("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")
def _(f):
    law = f.node.op_type.removeprefix("Random").removesuffix("Like").lower()
    standard = {"loc": 0.0, "scale": 1.0, "low": 0.0, "high": 1.0}
    settings = {k: f.get(LAW_SETTINGS.get(k, k), standard[k]) for k in LAWS[law][1:]}
    if f.inputs:
        return f.call(f"{law}_like", f.x(), **settings)
    kind = f.reader.onnx.helper.tensor_dtype_to_np_dtype(f.get("dtype", 1))
    settings |= {"shape": whole(f.get("shape")), "dtype": np.dtype(kind).name}
    return created(f"_random_{law}", settings, {"name": f.node.name or f.node.output[0]})


def import_model(model_file):
    """(Symbol, parameters, states) of an ONNX file; MXNetError for an operator that has no words here."""
    onnx = needed("onnx", "import_model")
    model = onnx.load(path_of(model_file))
    graph = model.graph
    work = Reader(onnx, {o.domain: o.version for o in model.opset_import})
    work.values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for each in graph.input:
        if each.name not in work.values:
            work.symbols[each.name] = var(each.name)
    for node in graph.node:
        work.read(node)
    outputs = [work.symbol(out.name) for out in graph.output]
    sym = outputs[0] if len(outputs) == 1 else Group(outputs)
    used = {*sym.list_inputs()}
    both = ({n: a for n, a in found.items() if n in used} for found in (work.params, work.states))
    return sym, *both


def get_model_metadata(model_file):
    """{'input_tensor_data': [(name, shape)], 'output_tensor_data': …} of an ONNX file; 0 for a size that is open."""
    graph = needed("onnx", "get_model_metadata").load(path_of(model_file)).graph
    constants = {t.name for t in graph.initializer}
    told = [
        [
            (e.name, tuple(d.dim_value for d in e.type.tensor_type.shape.dim))
            for e in ends
            if e.name not in constants
        ]
        for ends in (graph.input, graph.output)
    ]
    return {"input_tensor_data": told[0], "output_tensor_data": told[1]}


def import_to_gluon(model_file, ctx=cpu()):  # noqa: B008
    """A SymbolBlock of an ONNX file, with its parameters on a device."""
    sym, params, states = import_model(model_file)
    known = params | states
    names = [name for name in sym.list_inputs() if name not in known]
    block = SymbolBlock(sym, [var(name) for name in names])
    for name, parameter in block.collect_params().items():
        parameter.shape, parameter.dtype = known[name].shape, known[name].dtype
        parameter.initialize(ctx=ctx, init="zeros")
        parameter.set_data(known[name])
    return block
