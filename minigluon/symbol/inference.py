"""What shape will it have? Run the kernel on zeros that weigh nothing; and where a size is unknown, run it twice and see what moved."""

# Written from chapters/20b_inference.ipynb: edit the chapter, then run `minigluon export`.

import ast
import math
import warnings
from contextlib import suppress
from itertools import count

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import real_dtype, zero_is_a_size
from minigluon.op import failure, operators
from minigluon.symbol.symbol import INFIX, TYPE_CODES, Symbol, in_order

__all__ = [
    "CUTS",
    "EMBEDDINGS",
    "FIRST",
    "FIXED",
    "FLATTENED",
    "Facts",
    "INDEXED",
    "INT64",
    "Inference",
    "KEEPS_AXES",
    "KEEPS_SIZE",
    "NOTHING",
    "Nothing",
    "OWN_TYPES",
    "Outline",
    "RULES",
    "SAME_SHAPE",
    "SECOND",
    "SINGLE",
    "SINGLE_INSIDE",
    "Symbol",
    "bordered",
    "called",
    "chosen",
    "complete",
    "decided",
    "dotted",
    "draws",
    "either",
    "first_known",
    "fitting",
    "full_like",
    "given",
    "in_a_row",
    "infer_shape",
    "infer_shape_partial",
    "infer_type",
    "infer_type_partial",
    "keeps_shape",
    "known_sizes",
    "lists",
    "made",
    "made_like",
    "merged",
    "multiplied",
    "open_shape",
    "reduced",
    "require_one_type",
    "rising",
    "sketched",
    "spread",
    "summed",
    "told_as",
    "type_of_call",
    "types_of",
    "types_of_call",
    "undrawn",
    "units",
    "widest",
]


# --- Shapes of a graph ----------------------------------------------------------------------------


def complete(shape):
    """Whether a shape is known, in all its sizes."""
    return shape is not None and 0 not in shape


class Nothing(int):
    """The size 0 where it is known: of a partial shape a plain 0 says that a size is unknown."""

    __slots__ = ()

    def __bool__(self):
        return True

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


NOTHING = Nothing()


def known_sizes(shape):
    """A shape as arrays have it, all of whose sizes are known: under `np_shape` 0 is one."""
    return tuple([n or NOTHING for n in shape] if zero_is_a_size[-1]() else shape)


def merged(a, b):
    """Two partial shapes of one array as one; None if they contradict each other."""
    if a is None or b is None:
        return a if b is None else b
    if len(a) != len(b) or any(m and n and m != n for m, n in zip(a, b)):
        return None
    return tuple(m or n for m, n in zip(a, b))


def open_shape(node):
    """The shape of a call without arrays that leaves a size to its consumers, as `zeros((0, 4))`;
    else None.
    """
    if node.inputs or node.op is None:
        return None
    if node.settings.get("infer_range") and node.settings.get("stop") is None:
        return (0,)
    shape = node.settings.get("shape")
    shape = (shape,) if isinstance(shape, int) else shape
    if not isinstance(shape, list | tuple) or all(n > 0 for n in shape):
        return None
    return tuple(max(n, 0) for n in shape)


def draws(op):
    """Whether an operator draws random numbers."""
    return "rng" in op.known


def undrawn(node):
    """The settings of a node's call, with a stream of its own: nothing is drawn from the user's."""
    return {**node.settings, "rng": 0} if draws(node.op) else node.settings


class Facts:
    """Shapes and types of the outputs of nodes, as far as they are known: {(node, number): …}."""

    def __init__(self, shapes, types):
        self.by_name, self.type_by_name = shapes, types
        self.shapes, self.types = {}, {}
        self.sketches = {}  # a call's operator, arrays and settings -> what `sketched` returns

    def begin(self, node):
        """What is known of a variable."""
        shape = self.by_name.get(node.name)
        shape = (shape,) if isinstance(shape, int) else shape
        shape = shape if shape is None else known_sizes(shape)
        if shape is None and "__shape__" in node.attrs:
            shape = ast.literal_eval(node.attrs["__shape__"])
        code = node.attrs.get("__dtype__", "0")
        own = TYPE_CODES[int(code)] if code.isdigit() else code
        shape = (shape,) if isinstance(shape, int) else shape
        self.shapes[node, 0] = (
            None if shape is None else tuple([n if n is NOTHING else max(n, 0) for n in shape])
        )
        self.types[node, 0] = real_dtype(self.type_by_name.get(node.name, own))

    def learn(self, node, entry, shape):
        """Write down the shape of an edge; MXNetError if another one is known. Whether it was new."""
        known, shape = self.shapes.get(entry), tuple(shape)
        found = merged(known, shape)
        if found is None:
            raise MXNetError(
                f"Error in operator {node.name}: Shape inconsistent, Provided = {known}, "
                f"inferred shape={shape} for {entry[0].name}"
            )
        self.shapes[entry] = found
        return found != known

    # --- Shapes of a graph ------------------------------------------------------------------------

    def visit(self, node):
        """Find the shapes of a node's outputs."""
        if node.op is None:
            self.begin(node)
        else:
            self.call(node)

    def call(self, node):
        """Find the shapes of a call's outputs, and those of its parameters on the way."""
        if (left_open := open_shape(node)) is not None:
            self.learn(node, (node, 0), left_open)
            self.types[node, 0] = real_dtype(node.settings.get("dtype") or "float32")
            return
        for entry, shape in zip(node.inputs, self.guessed(node)):
            if type(entry) is tuple and shape is not None:
                self.learn(node, entry, shape)
        entries = [a for a in node.inputs if type(a) is tuple]
        if all(complete(self.shapes.get(a)) for a in entries):
            for i, out in enumerate(self.outlined(node)):
                self.learn(node, (node, i), known_sizes(out.shape))
                self.types[node, i] = out.dtype
        else:
            found = types_of_call(node, [self.types.get(a) for a in entries])
            self.types |= {(node, i): kind for i, kind in enumerate(found) if kind is not None}

    # Rules and trials.

    def guessed(self, node):
        """The shapes of the inputs that the operator asks for."""
        shapes = [self.shapes.get(a) if type(a) is tuple else None for a in node.inputs]
        needed = shapes[:1] if node.op.arrays and node.op.required else shapes
        if node.op.infer is None or all(s is None for s in needed):
            return []
        try:
            return node.op.infer(*shapes, **{**node.op.defaults, **node.settings})
        except (IndexError, TypeError, ValueError) as error:
            if isinstance(error, IndexError) and complete(shapes[0]):  # an axis that is not there
                told = failure(error, node.op, self.known_zeros(node), node.settings)
                raise MXNetError(f"Error in operator {node.name}: {told}") from error
            return []  # a rule that needs more than is known
        except MXNetError as error:
            raise MXNetError(f"Error in operator {node.name}: {error}") from error

    def known_zeros(self, node):
        """The inputs of a call whose shapes are known, as zeros."""
        entries = [a for a in node.inputs if complete(self.shapes.get(a))]
        return [np.zeros(self.shapes[a], self.types.get(a, np.float32)) for a in entries]

    # --- Shapes of a graph ------------------------------------------------------------------------

    def outlined(self, node):
        """The outputs of the node's kernel, run on zeros."""
        try:
            return self.tried(node, {})
        except Exception as error:
            for made in units, rising:  # zeros have no inverse, and boxes of zeros no width
                with suppress(Exception):
                    out = self.run(node, {}, made)
                    return out[: len(node.outputs)] if isinstance(out, tuple) else [out]
            found = failure(error, node.op, self.zeros(node, {}), node.settings)
            raise MXNetError(f"Error in operator {node.name}: {found}") from error

    def zeros(self, node, shapes):
        """The inputs of a call as zeros; `shapes` overrides what is known."""
        return [
            np.zeros(shapes.get(a) or self.shapes[a], self.types.get(a, np.float32))
            if type(a) is tuple
            else a
            for a in node.inputs
        ]

    def tried(self, node, shapes):
        """Outlines of a call's outputs; `shapes` overrides what is known of its inputs."""
        entries = [a for a in node.inputs if type(a) is tuple]
        known = {
            a: (shapes.get(a) or self.shapes[a], self.types.get(a, np.float32)) for a in entries
        }
        key, seen = (zero_is_a_size[-1](), *known.values()), node.seen
        if key not in seen:
            try:
                out = self.sketch(node, known)
                out = out if out is not None else self.run(node, shapes)
                out = out if isinstance(out, tuple) else (out,)
                seen[key] = [Outline(o.shape, o.dtype) for o in out[: len(node.outputs)]]
            except Exception as error:
                error.__cause__ = error.__context__ = None  # they hold arrays
                seen[key] = error.with_traceback(None)
        if isinstance(seen[key], Exception):
            raise seen[key]
        return seen[key]

    def run(self, node, shapes, made=None):
        """The outputs of a call on zeros, or on what `made` makes of them."""
        raw = self.zeros(node, shapes)
        with np.errstate(all="ignore"):
            return node.op.kernel(
                *[made(a) if made and isinstance(a, np.ndarray) else a for a in raw],
                **undrawn(node),
            )

    def sketch(self, node, known):
        """What `sketched` returns, which is remembered for calls like this one."""
        inputs = [known[a] if type(a) is tuple else (type(a), a) for a in node.inputs]
        key = (node.op, *inputs, *[(k, type(v), v) for k, v in node.settings.items()])
        try:
            seen = key in self.sketches
        except TypeError:
            return sketched(node, known)
        if not seen:
            out = sketched(node, known)
            parts = out if isinstance(out, tuple) else (out,)
            # of an array from nothing, such as `arange`, only the outline is kept
            parts = [a if a is None else Outline(a.shape, a.dtype) for a in parts]
            out = tuple(parts) if isinstance(out, tuple) else parts[0]
            self.sketches[key] = out
        return self.sketches[key]


SINGLE_INSIDE = {"BatchNorm", "contrib_SyncBatchNorm"}  # statistics are no half precision numbers


def first_known(types):
    """The first type that is known; None if none is."""
    return next((t for t in types if t is not None), None)


def chosen(types, dtype, ret_typ, **_):
    """The types of what `topk` returns."""
    parts = {"both": [types[0], dtype], "value": types, "mask": types}
    return parts.get(ret_typ, [dtype])


def summed(types, **_):
    """A batch in half precision has statistics in single precision."""
    first = first_known(types)
    return [first] + [np.dtype("float32") if first == np.float16 else first] * 2


def widest(types, num_outputs, cast_narrow, **_):
    """The type that all are cast to."""
    known = sorted((t for t in types if t is not None), key=lambda t: t.itemsize)
    return [known[0 if cast_narrow else -1] if known else None] * num_outputs


INT64, SINGLE = [np.dtype("int64")], [np.dtype("float32")]
FIXED = {  # name -> the types of a call's outputs, whatever its inputs have
    **dict.fromkeys(["shape_array", "size_array", "contrib_index_array", "contrib_getnnz"], INT64),
    **dict.fromkeys(["image_to_tensor", "all_finite", "multi_all_finite", "multi_sum_sq"], SINGLE),
    "contrib_allclose": [np.dtype("uint8")],
    "contrib_calibrate_entropy": SINGLE * 2,
}
INDEXED = ["take", "pick", "batch_take", "gather_nd"]  # the indices have types of their own
EMBEDDINGS = ["Embedding", "contrib_SparseEmbedding"]
OWN_TYPES = {  # name -> the types of a call's outputs, from those of its inputs and its settings
    **dict.fromkeys(INDEXED, lambda types, **_: types[:1]),
    **dict.fromkeys(EMBEDDINGS, lambda types, dtype, **_: [first_known(types[1:]) or dtype]),
    "contrib_quantize": lambda types, out_type, **_: [out_type] + [first_known(types[1:])] * 2,
    "norm": lambda types, out_dtype, **_: [out_dtype or types[0]],
    "where": lambda types, **_: [first_known(types[1:])],
    "sample_multinomial": lambda types, dtype, **_: [dtype, types[0]],
    "topk": chosen,
    "amp_multicast": widest,
    **dict.fromkeys(SINGLE_INSIDE, summed),
}


def types_of_call(node, types):
    """The types of a node's outputs, from those of its inputs; None for what is unknown."""
    if node.op.name in FIXED:
        return FIXED[node.op.name]
    settings = {**node.op.defaults, **node.settings}
    if node.op.name in OWN_TYPES:
        found = OWN_TYPES[node.op.name](types, **settings)
        return [t and real_dtype(t) for t in found][: len(node.outputs)]
    if settings.get("dtype") is not None:
        return [real_dtype(settings["dtype"])] * len(node.outputs)
    return [first_known(types)] * len(node.outputs)


def type_of_call(node, types):
    """The type of a node's first output, from those of its inputs; None if unknown."""
    return types_of_call(node, types)[0]


class Outline(np.ndarray):
    """Zeros that take no memory and no time: a shape and a type, and strides of 0.

    What is computed from it is one as well.

    Made as an array on a GPU is. Nothing is written into it. Code that takes its pointer and trusts
    its size would read beyond it.
    """

    def __new__(cls, shape, dtype=float, data=None, strides=None):
        dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(shape)
        return super().__new__(cls, shape, dtype, bytes(dtype.itemsize), 0, (0,) * len(shape))

    def __setitem__(self, key, value):
        fitting(np.shape(value), self[key])

    def __array_ufunc__(self, ufunc, method, *inputs, out=(None,), **settings):
        if method == "at":
            return None
        if method == "reduce":
            y = reduced(ufunc, *inputs, **settings)
        elif method == "accumulate":
            y = made_like(
                inputs[0],
                ufunc.reduce(np.zeros(1, inputs[0].dtype), dtype=settings.get("dtype")).dtype,
            )
        elif ufunc is np.matmul:
            y = multiplied(*inputs)
        elif method == "__call__" and ufunc.signature is None:
            y = called(ufunc, inputs, settings)
        else:
            raise TypeError(f"{ufunc.__name__}.{method} has no outline")
        return y if out[0] is None else fitting(y.shape, *out)

    def __array_function__(self, func, types, args, settings):
        if func.__name__ in RULES:
            return RULES[func.__name__](*args, **settings)
        return super().__array_function__(func, types, args, settings)

    def astype(self, dtype, *_, **__):
        """The outline of another type."""
        return Outline(self.shape, dtype)

    def copy(self, order="C"):
        """The same."""
        return self

    def ravel(self, order="C"):
        """With one axis."""
        return Outline(self.size, self.dtype)

    def dot(self, b):
        """The product."""
        return np.dot(self, b)

    flatten = ravel


# What is computed of outlines.
def fitting(shape, out):
    """`out`, if something of this shape can be written into it; ValueError if not."""
    over = len(shape) - out.ndim
    if np.broadcast_shapes(shape[max(over, 0) :], out.shape) != out.shape or {
        *shape[: max(over, 0)]
    } - {1}:
        raise ValueError(f"shape {shape} does not fit into {out.shape}")
    return out


def called(ufunc, inputs, settings):
    """The outline of a function of numbers: the shapes broadcast."""
    few = [np.zeros(1, a.dtype) if isinstance(a, np.ndarray) else a for a in inputs]
    shape = np.broadcast_shapes(*map(np.shape, inputs))
    y = ufunc(*few, **{k: v for k, v in settings.items() if k != "where"})
    return (
        tuple(Outline(shape, p.dtype) for p in y)
        if isinstance(y, tuple)
        else Outline(shape, y.dtype)
    )


def reduced(ufunc, a, axis=0, dtype=None, keepdims=False, **_):
    """The outline of a sum or a maximum: without the axes, or with 1 in their place."""
    axes = range(a.ndim) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, a.ndim)
    shape = [1 if i in axes else n for i, n in enumerate(a.shape) if keepdims or i not in axes]
    return Outline(shape, ufunc.reduce(np.zeros(1, a.dtype), dtype=dtype).dtype)


def multiplied(a, b):
    """The outline of a product of stacks of matrices."""
    if a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise ValueError(f"shapes {a.shape} and {b.shape} have no product")
    rows, cols = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return Outline((*stack, *rows, *cols), np.result_type(a, b))


def dotted(a, b, out=None):
    """The outline of NumPy's `dot`, where stacks do not meet."""
    if a.ndim < 1 or b.ndim < 3:
        return np.matmul(a, b)
    flat = multiplied(a, np.moveaxis(b, -2, 0).reshape(b.shape[-2], -1))
    return flat.reshape(*a.shape[:-1], *b.shape[:-2], b.shape[-1])


# NumPy's functions that make an array: what they are given, and how large it gets.
def made(shape, dtype=float, *_, **__):
    """As `np.empty(shape, dtype, like=a)`."""
    return Outline(shape, dtype)


def made_like(a, dtype=None, *_, shape=None, **__):
    """As `np.empty_like(a, dtype, shape=shape)`."""
    return Outline(np.shape(a) if shape is None else shape, dtype or a.dtype)


def full_like(a, fill_value, dtype=None, *_, shape=None, **__):
    """As NumPy's."""
    return made_like(a, dtype, shape=shape)


def in_a_row(arrays, axis=0, out=None, **_):
    """As `np.concatenate`."""
    first, kind = arrays[0], np.result_type(*arrays)
    (axis,) = np.lib.array_utils.normalize_axis_tuple(axis, first.ndim)
    rests = {(*a.shape[:axis], *a.shape[axis + 1 :]) for a in arrays}
    if len(rests) > 1:
        raise ValueError(f"shapes {[a.shape for a in arrays]} differ beside axis {axis}")
    shape = (*first.shape[:axis], sum(a.shape[axis] for a in arrays), *first.shape[axis + 1 :])
    return Outline(shape, kind) if out is None else fitting(shape, out)


def bordered(a, pad_width, *_, **__):
    """As `np.pad`."""
    widths = np.broadcast_to(pad_width, (a.ndim, 2))
    return Outline([n + left + right for n, (left, right) in zip(a.shape, widths)], a.dtype)


def either(condition, x, y):
    """As `np.where` of three."""
    return Outline(np.broadcast_shapes(*map(np.shape, (condition, x, y))), np.result_type(x, y))


RULES = {"copyto": lambda out, a, *_, **__: fitting(np.shape(a), out) and None, "dot": dotted}
RULES |= {
    "empty": made,
    "zeros": made,
    "ones": made,
    "concatenate": in_a_row,
    "pad": bordered,
    "where": either,
}
RULES |= dict.fromkeys(("empty_like", "zeros_like", "ones_like"), made_like) | {
    "full_like": full_like
}


def sketched(node, known):
    """What a call's kernel returns for outlines, `known` {edge: (shape, type)};
    None where they will not do.
    """
    ours = operators.get(node.op.name) is node.op and node.op.__module__.startswith("minigluon.")
    if not ours or not all(math.prod(shape) for shape, _ in known.values()):
        return None
    raw = [Outline(*known[a]) if type(a) is tuple else a for a in node.inputs]
    try:
        with np.errstate(all="ignore"):
            return node.op.plain(*raw, **undrawn(node))
    except Exception:
        return None


def units(a):
    """Identity matrices in the place of square ones, ones of all else."""
    square = a.ndim > 1 and a.shape[-1] == a.shape[-2]
    return a + np.eye(a.shape[-1], dtype=a.dtype) if square else a + a.dtype.type(1)


def rising(a):
    """0, 1, 2, … along the last axis: as corners of boxes they have a width and a height."""
    return a + np.arange(a.shape[-1], dtype=a.dtype) if a.ndim else a


# sizes to try: divisible by most that one divides by, larger than most kernels
FIRST, SECOND = 24, 48
# operators of several arrays, or of other modules, whose output is shaped as the first array
SAME_SHAPE = {
    *("Activation", "LeakyReLU", "Dropout", "softmax", "log_softmax", "softmin", "BatchNorm"),
    *("LayerNorm", "InstanceNorm", "GroupNorm", "L2Normalization", "SoftmaxOutput", "LRN"),
    *("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput"),
    *("zeros_like", "ones_like", "MakeLoss", "make_loss", "cumsum", "cast_like"),
}


FLATTENED = {"all_finite", "multi_all_finite"}  # one number for all
KEEPS_SIZE = {"reshape", "flatten", "expand_dims", "squeeze"}  # as many numbers as before
KEEPS_AXES = {"transpose", "swapaxes", "flip", "slice", "slice_axis"}  # as many axes as before
# what remains of an unknown size is unknown, as the end may lie outside
CUTS = {"slice", "slice_axis"}


def keeps_shape(node):
    """The inputs of a call that have its output's shape for certain."""
    arrays = [a for a in node.inputs if type(a) is tuple]
    if node.op.name in FLATTENED or (
        node.op.name == "cumsum" and node.settings.get("axis") is None
    ):
        return []
    if node.op.name in INFIX:
        return arrays if node.called == node.op.name or "elemwise" in node.called else []
    if node.op.name == "add_n":
        return arrays
    if node.op.name == "where":  # a condition of one axis chooses rows
        return arrays[1:] if len(node.inputs) == len(arrays) else []
    module = node.op.kernel.__module__.rpartition(".")[2]
    alone = len(arrays) == 1 and module in ("elementwise", "special", "activations")
    return arrays[:1] if alone or node.op.name in SAME_SHAPE else []


def spread(node, shapes):
    """The partial shape to which partial shapes broadcast; MXNetError where they cannot."""
    longest = max(map(len, shapes))
    columns = list(zip(*[(1,) * (longest - len(s)) + s for s in shapes]))
    if any(len({*ns} - {0, 1}) > 1 for ns in columns):
        raise MXNetError(
            f"Error in operator {node.name}: operands could not be broadcast together with shapes "
            + " ".join(map(str, shapes))
        )
    return tuple(0 if 0 in ns else NOTHING if NOTHING in ns else max(ns) for ns in columns)


class Inference(Facts):
    """Facts that flow in both directions, to a fixed point."""

    def settle(self, nodes):
        """Apply all rules until nothing changes."""
        for node in nodes:
            if node.op is None:
                self.begin(node)
        calls = [node for node in nodes if node.op is not None]
        rounds = count()
        while next(rounds) < 2 * len(calls) + 2:
            before = dict(self.shapes)
            for node in calls:
                self.apply(self.forwards, node)
            if all(map(complete, self.shapes.values())):
                # nothing to learn backwards, and no contradiction: kernels have run on these shapes
                return
            for node in reversed(calls):
                self.apply(self.backwards, node)
            if self.shapes == before:
                return

    def apply(self, rule, node):
        """Apply a rule to a call, which remembers what came of what was known of its edges."""
        edges = [a for a in node.inputs if type(a) is tuple]
        edges += [(node, i) for i in range(len(node.outputs))]
        known = [(self.shapes.get(e), self.types.get(e)) for e in edges]
        key = rule.__name__, zero_is_a_size[-1](), *known
        if key not in node.seen:
            rule(node)
            node.seen[key] = [(self.shapes.get(e), self.types.get(e)) for e in edges]
        for edge, had, (shape, kind) in zip(edges, known, node.seen[key]):
            if shape is not None and (shape, kind) != had:
                self.shapes[edge] = shape
                self.types |= {edge: kind} if kind is not None else {}

    def forwards(self, node):
        """Learn about the outputs of a call."""
        arrays = [a for a in node.inputs if type(a) is tuple]
        self.call(node)
        shapes = [self.shapes.get(a) for a in arrays]
        partly = all(shapes) and not all(map(complete, shapes))
        if partly and node.op.name in INFIX and not keeps_shape(node):
            self.learn(node, (node, 0), spread(node, shapes))
        elif partly:
            for i, shape in enumerate(self.moved(node, arrays)):
                self.learn(node, (node, i), shape)
        for a in keeps_shape(node):
            if self.shapes.get(a) is not None:
                self.learn(node, (node, 0), self.shapes[a])

    # --- Shapes of a graph ------------------------------------------------------------------------

    def trial(self, node, arrays, size):
        """Shapes of the outputs if the unknown sizes are `size`, {axis: number}; None if it fails."""
        shapes = {
            a: tuple(n or size.get(axis, FIRST) for axis, n in enumerate(self.shapes[a]))
            for a in arrays
        }
        try:
            return [known_sizes(out.shape) for out in self.tried(node, shapes)]
        except Exception:
            return None

    def moved(self, node, arrays):
        """Shapes of the outputs with 0 where they move with the unknown sizes; [] if nothing is sure."""
        axes, asked = range(max(len(self.shapes[a]) for a in arrays)), node.settings.get("shape")
        asked = asked if node.op.name == "reshape" and isinstance(asked, list | tuple) else ()
        unit = math.prod(n for n in asked if n > 0)  # what a new shape asks for divides both
        sizes = [dict.fromkeys(axes, unit * n) for n in (FIRST, SECOND)]
        one, two = (self.trial(node, arrays, size) for size in sizes)
        if one is None or two is None or [*map(len, one)] != [*map(len, two)]:
            return []
        found = [tuple(m if m == n else 0 for m, n in zip(s, t)) for s, t in zip(one, two)]
        if node.op.name in CUTS:
            found = [tuple(m if n else 0 for m, n in zip(found[0], self.shapes[arrays[0]]))]
        return found

    def backwards(self, node):
        """Learn about the inputs of a call from its outputs."""
        arrays = [a for a in node.inputs if type(a) is tuple]
        for a in keeps_shape(node):
            if self.shapes.get((node, 0)) is not None:
                self.learn(node, a, self.shapes[node, 0])
        out = self.shapes.get((node, 0))
        if node.op.name in KEEPS_AXES and out and self.shapes.get(arrays[0]) is None:
            self.learn(node, arrays[0], [0] * len(out))
        open_ = [a for a in arrays if not complete(self.shapes.get(a))]
        if not open_ or any(self.shapes.get(a) is None for a in arrays):
            return
        shape = self.shapes[arrays[0]]
        if node.op.name in KEEPS_SIZE and shape.count(0) == 1 and complete(out):
            size = math.prod(out) // math.prod(int(n) or 1 for n in shape)
            self.learn(node, arrays[0], [n or size for n in shape])
            return
        for axis in sorted({i for a in open_ for i, n in enumerate(self.shapes[a]) if n == 0}):
            size = self.solved(node, arrays, axis)
            for a in open_ if size else ():
                shape = self.shapes[a]
                if axis < len(shape) and not shape[axis]:
                    self.learn(node, a, (*shape[:axis], size, *shape[axis + 1 :]))

    def solved(self, node, arrays, axis):
        """The unknown size along `axis` that fits what is known of the outputs; None if none is sure."""
        one = self.trial(node, arrays, {})
        two = self.trial(node, arrays, {axis: SECOND})
        if one is None or two is None:
            return None
        known = [self.shapes.get((node, i)) or () for i in range(len(one))]
        moving = [
            (i, j, m)
            for i, s in enumerate(known)
            for j, m in enumerate(s)
            if m and one[i][j] != two[i][j]
        ]
        if not moving:
            return None
        i, j, m = moving[0]
        a, b = one[i][j], two[i][j]
        steps, rest = divmod((m - a) * (SECOND - FIRST), b - a)
        size = FIRST + steps
        if size < 1 or rest:
            return None
        good = [self.fits(node, arrays, {axis: n}, moving) for n in (size, size + 1, size - 1)]
        return size if good == [True, False, False] else None

    def fits(self, node, arrays, size, moving):
        """Whether a trial gives the sizes (output, axis, size) that are known."""
        found = self.trial(node, arrays, size) if min(size.values()) else None
        return found is not None and all(found[i][j] == m for i, j, m in moving)


# --- Types ----------------------------------------------------------------------------------------


def types_of(entries, given):
    """{edge: type or None} of a graph, `given` {name: type} of some variables."""
    nodes, types, guesses = in_order(entries), {}, set()
    for node in nodes:
        if node.op is None:
            code = node.attrs.get("__dtype__")
            own = TYPE_CODES[int(code)] if code and code.isdigit() else code
            found = given.get(node.name, own)
            types[node, 0] = None if found is None else real_dtype(found)
            continue
        arrays = [a for a in node.inputs if type(a) is tuple]
        if not node.op.same_dtype or guesses & {*arrays}:
            guesses |= {(node, i) for i in range(len(node.outputs))}
        else:
            require_one_type(node, arrays, types)
        first = first_known([types[a] for a in arrays])
        outs = types_of_call(node, [types[a] for a in arrays])
        others = first if node.op.same_dtype else outs[0]
        if others == np.float16 and node.op.name in SINGLE_INSIDE:
            others = np.dtype("float32")
        for a in arrays:
            if types[a] is None:
                types[a] = others
        for i in range(len(node.outputs)):
            types[node, i] = outs[i]
    return types


def require_one_type(node, arrays, types):
    """MXNetError if the edges `arrays` that go into a call have different types."""
    known = {a[0].name: types[a] for a in arrays if types[a] is not None}
    if len({*known.values()}) > 1:
        told = ", ".join(f"{name}: {kind}" for name, kind in known.items())
        raise MXNetError(
            f"Error in operator {node.name}: {node.op.name} of different types, {told}; "
            "convert one with astype"
        )


# --- The methods of a Symbol ----------------------------------------------------------------------


def given(symbol, args, kwargs, what):
    """{name: value} of what was given by position or by name."""
    names = symbol.list_arguments()
    if args and kwargs:
        raise ValueError(
            f"Can only specify known argument {what}s either by positional or kwargs way."
        )
    unknown = kwargs.keys() - {*symbol.list_inputs()}
    if unknown or len(args) > len(names):
        raise MXNetError(
            f"infer_{what}: {', '.join(sorted(unknown)) or args} is not among the arguments "
            f"{', '.join(symbol.list_inputs())}"
        )
    return {k: v for k, v in (kwargs or dict(zip(names, args))).items() if v is not None}


def lists(symbol, values):
    """The values of arguments, outputs and auxiliary states, as three lists."""
    arguments, states = symbol._variables()
    parts = [(n, 0) for n in arguments], symbol._entries, [(n, 0) for n in states]
    return tuple([values.get(entry) for entry in part] for part in parts)


def infer_shape_partial(self, *args, **kwargs):
    """As `infer_shape`, with () for what is unknown, and 0 for a size that is;
    in NumPy's shapes None and -1.
    """
    known = given(self, args, kwargs, "shape")
    for name, shape in known.items():
        if not isinstance(shape, list | tuple):
            raise TypeError(f"Arguments need to be shapes (tuple), but '{name}' is {type(shape)}.")
    facts = Inference({k: tuple(v) for k, v in known.items()}, {})
    try:
        facts.settle(in_order(self._entries))
    except MXNetError as error:
        told = "".join(f"  {name}: {tuple(shape)}\n" for name, shape in known.items())
        raise MXNetError(f"infer_shape error. Arguments:\n{told}{error}") from error
    return tuple([told_as(shape) for shape in part] for part in lists(self, facts.shapes))


def told_as(shape):
    """A partial shape as users read it: what is unknown is 0 or (),
    but where 0 is a size it is -1 or None.
    """
    if not zero_is_a_size[-1]():
        return shape or ()
    return None if shape is None else tuple([int(n) if n else -1 for n in shape])


def decided(shape):
    """Whether a shape told by `infer_shape_partial` has no unknown sizes."""
    if zero_is_a_size[-1]():
        return shape is not None and -1 not in shape
    return bool(shape) and 0 not in shape


def infer_shape(self, *args, **kwargs):
    """Shapes of arguments, outputs and auxiliary states, from those of some arguments.

    Three lists, in the order of `list_arguments` and the others; (None, None, None) and a warning
    if some remain unknown. MXNetError where shapes contradict each other.
    """
    found = infer_shape_partial(self, *args, **kwargs)
    if all(decided(shape) for part in found for shape in part):
        return found
    unknown = zip(self.list_arguments(), found[0])
    told = [f"{name}: {shape}" for name, shape in unknown if not decided(shape)]
    warnings.warn(
        "Cannot decide shape for the following arguments (0s in shape means unknown dimensions). "
        "Consider providing them as input:\n\t" + "\n\t".join(told),
        stacklevel=2,
    )
    return None, None, None


def infer_type_partial(self, *args, **kwargs):
    """As `infer_type`, with None for what is unknown."""
    types = types_of(self._entries, given(self, args, kwargs, "type"))
    return tuple([t and t.type for t in part] for part in lists(self, types))


def infer_type(self, *args, **kwargs):
    """Types of arguments, outputs and auxiliary states, from those of some arguments.

    Three lists; (None, None, None) and a warning if some remain unknown.
    """
    found = infer_type_partial(self, *args, **kwargs)
    if all(t is not None for part in found for t in part):
        return found
    told = [f"{n}: {t}" for n, t in zip(self.list_arguments(), found[0]) if t is None]
    warnings.warn(
        "Cannot decide type for the following arguments. Consider providing them as input:\n\t"
        + "\n\t".join(told),
        stacklevel=2,
    )
    return None, None, None


Symbol.infer_shape, Symbol.infer_shape_partial = infer_shape, infer_shape_partial
Symbol.infer_type, Symbol.infer_type_partial = infer_type, infer_type_partial
