"""ONNX is a graph in a protocol buffer: write each node in its words, and any runtime can run it."""

# Written from chapters/97b_onnx.ipynb: edit the chapter, then run `minigluon export`.

import math

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
from minigluon.symbol.inference import Facts, complete
from minigluon.symbol.space import created, ones
from minigluon.symbol.symbol import Group, in_order, var

__all__ = [
    "Found",
    "PLAIN",
    "READERS",
    "Reader",
    "THEIR_GATES",
    "USUAL",
    "codes",
    "first_state",
    "get_model_metadata",
    "import_model",
    "import_to_gluon",
    "mode_of",
    "one_window",
    "packed",
    "reader",
    "resolved",
    "sliced_like",
    "walked",
    "whole",
]


# --- A network for others -------------------------------------------------------------------------

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
        self.varying = {}  # name -> its values in both worlds, if these differ
        self.worlds, self.open, self.seen = (Facts({}, {}), Facts({}, {})), {}, {}

    def begin(self, each):
        """Note an input of the graph, with a size for what the file leaves open in each world."""
        kind = each.type.tensor_type
        sizes = [self.size(d, axis) for axis, d in enumerate(kind.shape.dim)]
        dtype = self.onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type or 1)
        for facts, shape in zip(self.worlds, zip(*sizes) if sizes else ((), ())):
            facts.by_name[each.name], facts.type_by_name[each.name] = tuple(shape), dtype
        self.symbols[each.name] = var(each.name)

    def size(self, dim, axis):
        """A size of an input in both worlds: small where samples are counted, larger for pictures."""
        if dim.dim_value:
            return dim.dim_value, dim.dim_value
        k = self.open.setdefault(dim.dim_param or object(), len(self.open))
        return (64 + 32 * k, 96 + 64 * k) if axis > 1 else (2 + k, 3 + 2 * k)

    def shapes(self, name):
        """The shapes of a Symbol in both worlds; None if they do not follow from the inputs."""
        if name not in self.seen:
            (entry,), found = self.symbols[name]._entries, []
            for facts in self.worlds:
                for known, a in (self.params | self.states).items():
                    facts.by_name[known], facts.type_by_name[known] = a.shape, a.dtype
                try:
                    for node in in_order([entry]):
                        if (node, 0) not in facts.shapes:
                            facts.visit(node)
                except MXNetError:
                    break
                found.append(facts.shapes.get(entry))
            self.seen[name] = found if len(found) == 2 and all(map(complete, found)) else None
        return self.seen[name]

    def alike(self, matches):
        """The latest Symbol whose shapes in both worlds a function agrees with, or None;
        and these shapes.
        """
        for name in reversed([*self.symbols]):
            if len(self.symbols[name]) == 1 and (both := self.shapes(name)) and matches(*both):
                return self.symbols[name], both
        return None, None

    # --- A network for others ---------------------------------------------------------------------

    def keep(self, names, both):
        """Keep values: those that are the same in both worlds as constants."""
        for name, a, b in zip(names, *both):
            same = a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)
            (self.values if same else self.varying)[name] = a if same else (a, b)

    def symbol(self, name, state=False):
        """An output as a Symbol; a constant becomes a parameter, or a state."""
        if name in self.varying and name not in self.symbols:
            raise MXNetError(
                f"{name} depends on sizes of the input that the file leaves open: "
                "export it with fixed sizes"
            )
        if name not in self.symbols:
            (self.states if state else self.params)[name] = array(
                self.values[name], dtype=self.values[name].dtype
            )
            self.symbols[name] = var(name)
        return self.symbols[name]

    def read(self, node):
        """Read a node."""
        if node.op_type == "Constant":
            value = self.onnx.helper.get_attribute_value(node.attribute[0])
            tensor = node.attribute[0].name == "value"
            value = self.onnx.numpy_helper.to_array(value) if tensor else np.array(value)
            kind = {"f": "float32", "i": "int64"}.get(value.dtype.kind)
            self.values[node.output[0]] = value if tensor else value.astype(kind)
            return
        names = [name for name in node.input if name]
        table = node.op_type == "Slice" and self.values.get(names[0], np.array(0)).dtype.kind == "f"
        steady = all(name in self.values for name in names)
        if (
            names
            and (steady or not table)
            and all(n in self.values or n in self.varying for n in names)
        ):
            self.compute(node, names)
            return
        if node.op_type == "Shape" and (both := self.shapes(names[0])):
            span = slice(*(Found(self, node).get(k) for k in ("start", "end")))
            self.keep(node.output, [[np.array(shape[span], "int64")] for shape in both])
            if node.attribute:
                return
        if node.op_type not in READERS:
            raise MXNetError(
                f"No reader for the operator {node.op_type} of node {node.name!r}: there are "
                f"{', '.join(sorted(READERS))}"
            )
        found = READERS[node.op_type](Found(self, node))
        for name, part in zip(node.output, found if isinstance(found, list) else [found]):
            self.symbols[name] = part

    def compute(self, node, names):
        """Compute what depends on no array: once, or in both worlds."""
        run = needed("onnx.reference", "import_model").ReferenceEvaluator(node, opsets=self.opsets)
        if all(name in self.values for name in names):
            found = run.run(None, {name: self.values[name] for name in names})
            self.values |= dict(zip(node.output, found))
            return
        both = [
            {n: self.varying[n][i] if n in self.varying else self.values[n] for n in names}
            for i in (0, 1)
        ]
        self.keep(node.output, [run.run(None, given) for given in both])


class Found:
    """A node of ONNX: its inputs as Symbols `x(i)` or constants `value(i)`,
    its attributes `get(name)`.
    """

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

    def varying(self, i):
        """The values of an input in both worlds, if it depends on open sizes; else None."""
        return self.reader.varying.get(self.inputs[i]) if i < len(self.inputs) else None

    def given(self, i):
        """Whether there is such an input."""
        return i < len(self.inputs) and self.inputs[i] != ""

    # --- A network for others ---------------------------------------------------------------------

    def value(self, i):
        """An input that must be a constant."""
        if self.varying(i) is not None:
            raise MXNetError(
                f"{self.node.op_type} {self.node.name!r}: input {i} depends on sizes of the "
                "input that the file leaves "
                "open: export it with fixed sizes"
            )
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
    """The data and the settings of a window; unequal borders are laid around the data,
    filled with a number.
    """
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


@reader("LayerNormalization")
def _(f):
    shapes, axis = f.reader.shapes(f.inputs[0]), f.get("axis", -1)
    if axis != -1 and not (shapes and axis == len(shapes[0]) - 1):
        raise MXNetError(
            f"LayerNormalization {f.node.name!r}: over the last axis only, not from {axis} on"
        )
    bias = (
        f.x(2) if f.given(2) else f.parameter(f"{f.node.output[0]}_beta", np.zeros_like(f.value(1)))
    )
    return f.call("LayerNorm", f.x(0), f.x(1), bias, axis=-1, eps=f.get("epsilon", 1e-5))[0]


@reader("Gelu")
def _(f):
    x = f.x()
    if f.get("approximate", "none") == "none":
        return f.call("LeakyReLU", x, act_type="gelu")
    return x * (operators["tanh"]((x + x * x * x * 0.044715) * (2 / np.pi) ** 0.5) + 1) * 0.5


@reader("HardSwish")
def _(f):
    return f.x() * operators["hard_sigmoid"](f.x(), alpha=1 / 6, beta=0.5)


@reader("CumSum")
def _(f):
    if f.get("exclusive", 0) or f.get("reverse", 0):
        raise MXNetError(f"CumSum {f.node.name!r}: from the front, and with each number itself")
    return f.call("cumsum", f.x(), axis=int(np.ravel(f.value(1))[0]))


@reader("Resize")
def _(f):
    both = f.reader.shapes(f.inputs[0])
    if f.given(3) and both:
        sizes = f.varying(3) or [f.value(3)] * 2
        scales = [np.divide(s, own) for s, own in zip(sizes, both)]
    else:
        scales = [f.value(2)] * 2
    scale = scales[0][2:]
    plain = f.get("mode", "nearest") == "nearest" and (scales[0] == scales[1]).all()
    asked = (
        f.get("coordinate_transformation_mode", "half_pixel"),
        f.get("nearest_mode", "round_prefer_floor"),
    )
    exact = asked == ("asymmetric", "floor") or (
        asked[0] == "half_pixel" and asked[1][:5] == "round"
    )
    if (
        not plain
        or not exact
        or len(scale) != 2
        or scale[0] != scale[1]
        or scale[0] % 1
        or (scales[0][:2] != 1).any()
    ):
        raise MXNetError(
            f"Resize {f.node.name!r}: by 'nearest', height and width by one whole factor, "
            f"not by {scales[0]}, "
            f"{f.get('mode')}, {asked}"
        )
    return f.call("UpSampling", f.x(), scale=int(scale[0]), sample_type="nearest", num_args=1)


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
    arrays, like = [a for a in (x, y) if type(a) is not float], operators["cast_like"]
    zeros = like(operators["zeros_like"](truth), arrays[0])  # of the shape that they have together
    for a in arrays:
        zeros = zeros + operators["zeros_like"](a)
    return f.call("where", truth + like(zeros, truth), x + zeros, y + zeros)


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
    if (both := f.varying(1)) is not None:
        return f.call("reshape", f.x(), shape=codes(f, both))
    return f.call("reshape", f.x(), shape=whole(f.get("shape", i=1)))


def codes(f, both):
    """What a reshape must be told to give the shapes `both` in the two worlds."""
    own, both = f.reader.shapes(f.inputs[0]), [s.tolist() for s in both]
    if own:
        both = [resolved(shape, wanted) for shape, wanted in zip(own, both)]
    before, after = [*zip(*own)] if own else [], [*zip(*both)]
    if (found := walked(before, after)) is not None:
        return found
    found = [
        int(a) if a == b else 0 if (a, b) in before[p : p + 1] else -1
        for p, (a, b) in enumerate(after)
    ]
    if found.count(-1) > 1:
        raise MXNetError(
            f"Reshape {f.node.name!r}: more than one size depends on sizes of the input that "
            "the file leaves open: "
            "export it with fixed sizes"
        )
    return tuple(found)


def resolved(shape, wanted):
    """The sizes that a reshape to `wanted`, with 0 and -1 in it, makes of a shape."""
    found = [shape[p] if n == 0 else n for p, n in enumerate(wanted)]
    rest = math.prod(shape) // max(math.prod(n for n in found if n != -1), 1)
    return [rest if n == -1 else n for n in found]


def walked(before, after):
    """Codes that copy sizes, split one in two (-4) or join two (-3), from the first on;
    None if these do not do.
    """
    times = lambda one, two: (one[0] * two[0], one[1] * two[1])
    found, i, p = [], 0, 0
    while i < len(before) and p < len(after):
        if before[i] == after[p]:
            found.append(0)
        elif p + 1 < len(after) and times(*after[p : p + 2]) == before[i]:
            parts = [a if a == b else -1 for a, b in after[p : p + 2]]
            if parts == [-1, -1]:
                return None
            found += [-4, *parts]
            p += 1
        elif i + 1 < len(before) and times(*before[i : i + 2]) == after[p]:
            found.append(-3)
            i += 1
        else:
            return None
        i, p = i + 1, p + 1
    return tuple(found) if i == len(before) and p == len(after) else None


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
    y, begin = f.x(), whole(f.get("starts", i=1))
    axes, steps = f.get("axes", range(len(begin)), 3), f.get("steps", [1] * len(begin), 4)
    if (both := f.varying(2)) is not None:
        return sliced_like(f, y, begin, whole(axes), both)
    end = whole(f.get("ends", i=2))
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


def sliced_like(f, y, begin, axes, both):
    """A slice that ends where another array does:
    the one whose size is that of the end in both worlds.
    """
    for axis, b, *ends in zip(axes, begin, *(e.tolist() for e in both)):
        ends = tuple(ends)
        if ends[0] == ends[1]:
            y = operators["slice_axis"](
                y, axis=axis, begin=b, end=None if abs(ends[0]) >= FAR else ends[0]
            )
            continue
        own = f.reader.shapes(f.inputs[0]) if f.inputs[0] in f.reader.symbols else None
        if b == 0 and own and (own[0][axis], own[1][axis]) == ends:
            continue  # the whole axis
        fits = lambda one, two, axis=axis, ends=ends: len(one) > axis >= 0 and ends in zip(one, two)
        like, shapes = f.reader.alike(fits)
        if b or like is None:
            f.value(2)  # which tells what is wrong
        place = [*zip(*shapes)].index(ends)
        like = like if place == axis else operators["swapaxes"](like, dim1=axis, dim2=place)
        y = operators["slice_like"](y, like, axes=(axis,))
    return y


@reader("Tile")
def _(f):
    return f.call("tile", f.x(), reps=whole(f.get("repeats", i=1)))


@reader("Expand")
def _(f):
    if (like := f.shape_of(1)) is not None:
        return f.call("broadcast_like", f.x(), like)
    if (both := f.varying(1)) is not None:
        wanted = [tuple(s.tolist()) for s in both]
        like, _ = f.reader.alike(lambda *shapes: [*shapes] == wanted)
        if like is not None:
            return f.call("broadcast_like", f.x(), like)
    return f.call("multiply", f.x(), ones(whole(f.value(1))))


@reader("Shape")
def _(f):
    if f.attributes:
        raise MXNetError(
            f"Shape {f.node.name!r}: a part of a shape that does not follow from the inputs"
        )
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


THEIR_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}  # where ours stand among ONNX's
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def mode_of(f, kind, directions):
    """Our name for the kind of a recurrent layer; MXNetError for one that is not here."""
    given = f.get("activations") or USUAL[kind] * directions
    given = [a.decode() if isinstance(a, bytes) else a for a in given]
    relu = kind == "RNN" and given == ["Relu"] * directions
    odd = {"layout": 0, "input_forget": 0, "clip": 0.0}
    wrong = [f"{k}={f.get(k)}" for k, usual in odd.items() if f.get(k, usual) != usual]
    if not relu and given != USUAL[kind] * directions:
        wrong.append(f"activations={given}")
    if kind == "GRU" and not f.get("linear_before_reset", 0):
        wrong.append("linear_before_reset=0")
    if f.given(7):
        wrong.append("peepholes")
    if wrong:
        raise MXNetError(
            f"{kind} {f.node.name!r}: there is no such layer here with {', '.join(wrong)}"
        )
    return {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_relu" if relu else "rnn_tanh"}[kind]


def packed(w, r, b, order):
    """The vector of parameters of our layers: for each direction all weights, then all biases."""
    turn = lambda a: a.reshape(len(order), -1, *a.shape[1:])[list(order)].reshape(a.shape)
    weights = [turn(a[d]).ravel() for d in range(len(w)) for a in (w, r)]
    return np.concatenate(
        weights + [turn(part) for d in range(len(w)) for part in np.split(b[d], 2)]
    )


def first_state(f, i, x, directions, hidden):
    """A state that a recurrent layer begins with: the one given, or zeros for each sample of `x`."""
    given = [f.value(i)] if f.known(i) else f.varying(i)
    zero = not f.given(i) or (given is not None and not any(np.any(a) for a in given))
    if not zero:
        return f.x(i)
    one = operators["slice_axis"](x, axis=0, begin=0, end=1)
    one = operators["zeros_like"](operators["slice_axis"](one, axis=2, begin=0, end=1))
    return operators["tile"](one, reps=(directions, 1, hidden))


@reader(*THEIR_GATES)
def _(f):
    kind, (w, r), x = f.node.op_type, (f.value(1), f.value(2)), f.x(0)
    directions, hidden = len(w), r.shape[2]
    b = f.value(3) if f.given(3) else np.zeros((directions, 2 * r.shape[1]), w.dtype)
    name, mode = f.node.name or f.node.output[0], mode_of(f, kind, directions)
    vector = f.parameter(f"{name}_parameters", packed(w, r, b, THEIR_GATES[kind]))
    if reverse := f.get("direction", "forward") == "reverse":
        x = operators["flip"](x, axis=0)
    states = [
        first_state(f, i, x, directions, hidden) for i in ((5, 6) if kind == "LSTM" else (5,))
    ]
    settings = {
        "state_size": hidden,
        "num_layers": 1,
        "mode": mode,
        "bidirectional": directions == 2,
    }
    if f.given(4):
        states.append(operators["cast"](f.x(4), dtype="float32"))
        settings["use_sequence_length"] = True
    y, *last = f.call("RNN", x, vector, *states, state_outputs=True, **settings)
    y = operators["flip"](y, axis=0) if reverse else y
    y = operators["reshape"](y, shape=(0, 0, -4, directions, -1))
    return [operators["transpose"](y, axes=(0, 2, 1, 3)), *last]


def import_model(model_file):
    """(Symbol, parameters, states) of an ONNX file;
    MXNetError for an operator that has no words here.
    """
    onnx = needed("onnx", "import_model")
    model = onnx.load(path_of(model_file))
    graph = model.graph
    work = Reader(onnx, {o.domain: o.version for o in model.opset_import})
    work.values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for each in graph.input:
        if each.name not in work.values:
            work.begin(each)
    for node in graph.node:
        work.read(node)
    outputs = [work.symbol(out.name) for out in graph.output]
    sym = outputs[0] if len(outputs) == 1 else Group(outputs)
    used = {*sym.list_inputs()}
    both = ({n: a for n, a in found.items() if n in used} for found in (work.params, work.states))
    return sym, *both


def get_model_metadata(model_file):
    """{'input_tensor_data': [(name, shape)], 'output_tensor_data': …} of an ONNX file;
    0 for a size that is open.
    """
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
