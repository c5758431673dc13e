"""An operator that a program brings along: a class that computes, a class that describes, and a name for both."""

# Written from chapters/23_custom.ipynb: edit the chapter, then run `minigluon export`.

from collections import namedtuple
from itertools import count

import numpy as np

from minigluon import ops
from minigluon.autograd import assign, pause, state
from minigluon.base import MXNetError
from minigluon.context import current_context
from minigluon.ndarray.ndarray import ArgumentError, NDArray, place
from minigluon.op import interpreters, operator, operators
from minigluon.ops.random import device_of
from minigluon.symbol.files import READERS
from minigluon.symbol.symbol import Node, Symbol, compose

__all__ = [
    "Called",
    "Custom",
    "CustomOp",
    "CustomOpProp",
    "Custom_symbol",
    "Described",
    "Description",
    "KINDS",
    "NDArrayOp",
    "NumpyOp",
    "OperatorArguments",
    "PythonOp",
    "backward_operator",
    "called",
    "forward_operator",
    "get_all_registered_operators",
    "get_operator_arguments",
    "given",
    "learned",
    "made",
    "read_custom",
    "register",
    "registered",
    "serial",
    "several",
    "sorted_arguments",
    "type_of_setting",
    "unwrapped",
    "wrapped",
]


# --- Operators of your own ------------------------------------------------------------------------


class CustomOp:
    """What a custom operator computes: override `forward` and, if it has a gradient, `backward`.

    Lists of NDArrays come in; the outputs are written with `self.assign`.
    """

    def forward(self, is_train, req, in_data, out_data, aux):
        """Write the outputs, from `in_data`, into `out_data`; `aux` are states to read and write."""

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        """Write the gradients of the inputs into `in_grad`; `out_grad` are those of the outputs."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def assign(self, dst, req, src):
        """Write `src` into the array `dst` as `req` says: 'write', 'inplace', 'add' or 'null'."""
        if req in ("write", "inplace"):
            dst[:] = src
        elif req == "add":
            dst[:] += src


class CustomOpProp:
    """What is known of a custom operator before it computes; override what is not as here.

    By default: one array `data`, one output of its shape and type, no states. Settings of the call
    reach `__init__` as texts. Without `need_top_grad` the gradients of the outputs do not matter.
    """

    def __init__(self, need_top_grad=True):
        self.need_top_grad_ = need_top_grad

    def list_arguments(self):
        """Names of the arrays."""
        return ["data"]

    def list_outputs(self):
        """Names of the outputs."""
        return ["output"]

    def list_auxiliary_states(self):
        """Names of the arrays that the operator changes by itself."""
        return []

    def infer_shape(self, in_shape):
        """The shapes of arguments, outputs and states, from those of the arguments; [] is unknown."""
        return in_shape, [in_shape[0]] * len(self.list_outputs()), []

    def infer_type(self, in_type):
        """The types of arguments, outputs and states, from those of the arguments."""
        states = [in_type[0]] * len(self.list_auxiliary_states())
        return in_type, [in_type[0]] * len(self.list_outputs()), states

    def infer_storage_type(self, in_stype):
        """Kinds of storage: all dense."""
        outputs, states = self.list_outputs(), self.list_auxiliary_states()
        return in_stype, ["default"] * len(outputs), ["default"] * len(states)

    def infer_storage_type_backward(self, ograd_stype, in_stype, out_stype, igrad_stype, aux_stype):
        """Kinds of storage on the way back: all dense."""
        given = ograd_stype, in_stype, out_stype, igrad_stype, aux_stype
        return tuple(["default"] * len(kinds) for kinds in given)

    def declare_backward_dependency(self, out_grad, in_data, out_data):
        """Which arrays `backward` reads; here it is given all of them."""
        return [*(out_grad if self.need_top_grad_ else ()), *in_data, *out_data]

    def create_operator(self, ctx, in_shapes, in_dtypes):
        """The object that computes on arrays of these shapes and types."""
        return CustomOp()


registered = {}  # name -> class that describes


def register(reg_name):
    """A decorator that makes a subclass of `CustomOpProp` the operator `op_type=reg_name`."""

    def note(prop_cls):
        if not (isinstance(prop_cls, type) and issubclass(prop_cls, CustomOpProp)):
            raise AssertionError("Can only register subclass of CustomOpProp")
        registered[reg_name] = prop_cls
        return prop_cls

    return note


def get_all_registered_operators():
    """Names of all operators, those of the package and those of programs."""
    ops.load()
    return [*operators, *registered]


OperatorArguments = namedtuple("OperatorArguments", ["narg", "names", "types"])


def get_operator_arguments(op_name):
    """How many arguments an operator takes, their names and types, in MXNet's words;
    MXNetError if there is none.
    """
    ops.load()
    op = operators.get(op_name, operators.get(op_name.removeprefix("_")))
    if op is None:
        raise MXNetError(f"get_operator_arguments: there is no operator {op_name!r}")
    array = "NDArray-or-Symbol" + "[]" * (op.most > len(op.arrays))
    settings = [s for s in op.settings if s != "rng"]  # a program cannot give a stream
    types = [array] * len(op.arrays) + [type_of_setting(op, s) for s in settings]
    return OperatorArguments(len(types), op.arrays + settings, types)


KINDS = {bool: "boolean", int: "int", float: "float", tuple: "Shape(tuple)", str: "string"}


def type_of_setting(op, name):
    """What a setting may be, from its choices and its default."""
    default = op.defaults.get(name)
    choices = ", ".join(map(repr, sorted(op.choices.get(name, ()))))
    kind = f"{{{choices}}}" if choices else KINDS.get(type(default), "any")
    if name not in op.defaults:
        return f"{kind}, required"
    shown = {bool: int, float: "{:g}".format, tuple: list}.get(type(default), repr)(default)
    shown = f"'{shown}'" if type(default) is int else shown
    return f"{kind},{' ' * (not choices)}optional, default={shown}"


class Description:
    """What a `CustomOpProp` says, asked once and checked."""

    def __init__(self, op_type, settings):
        if op_type not in registered:
            raise MXNetError(
                f"Cannot find custom operator {op_type}: mx.operator.register({op_type!r}) comes first"
            )
        self.name = op_type
        self.prop = self.told(registered[op_type], **{k: str(v) for k, v in settings.items()})
        self.arguments = list(self.told(self.prop.list_arguments))
        self.states = list(self.told(self.prop.list_auxiliary_states))
        self.outputs = list(self.told(self.prop.list_outputs))
        self.made = {}

    def told(self, method, *args, **settings):
        """What the author's method answers; MXNetError names it where it fails."""
        try:
            return method(*args, **settings)
        except Exception as error:
            where = getattr(method, "__qualname__", method)
            raise MXNetError(f"in {where} of Custom {self.name!r}: {error!r}") from error

    def inferred(self, method, known):
        """The three lists of `infer_shape` or `infer_type`; the states may be left out."""
        found = [list(part) for part in self.told(method, known)]
        found += [[]] * (3 - len(found))
        wanted = [len(self.arguments), len(self.outputs), len(self.states)]
        if [*map(len, found)] != wanted:
            raise MXNetError(
                f"{method.__qualname__} of Custom {self.name!r} must give {wanted} entries for "
                f"arguments, outputs and states, not {[*map(len, found)]}"
            )
        return found

    def blanks(self, raw):
        """Zeros in the shapes and types of the outputs."""
        raw = raw[: len(self.arguments)]
        shapes = self.inferred(self.prop.infer_shape, [list(a.shape) for a in raw])[1]
        types = self.inferred(self.prop.infer_type, [a.dtype.type for a in raw])[1]
        return [self.blank(tuple(s), t, raw) for s, t in zip(shapes, types)]

    def blank(self, shape, dtype, raw):
        return np.zeros_like(raw[0], dtype, shape=shape) if raw else np.zeros(shape, dtype)

    def computing(self, raw, fresh=False):
        """The object that computes on such arrays, the same for a call and its gradient."""
        raw = raw[: len(self.arguments)]
        key = tuple((a.shape, a.dtype) for a in raw)
        if fresh or key not in self.made:
            ctx = device_of(raw[0]) if raw else current_context()
            shapes, types = [list(a.shape) for a in raw], [a.dtype.type for a in raw]
            self.made[key] = self.told(self.prop.create_operator, ctx, shapes, types)
        return self.made[key]


def wrapped(raw):
    """NDArrays that share the memory of raw arrays."""
    raw = [np.asarray(a) if isinstance(a, np.generic) else a for a in raw]  # sums without axes
    return [NDArray(a, device_of(a)) for a in raw]


def unwrapped(arrays):
    """The raw arrays of NDArrays: a tuple, or the only one."""
    raw = tuple([a._data for a in arrays])
    return raw if len(raw) > 1 else raw[0]


def forward_operator(described, settings):
    """The operator of one call of `Custom`."""
    n, m = len(described.arguments), len(described.outputs)
    backward = backward_operator(described)

    def rule(g, y, *args, **_):
        grads = backward(*several(g), *several(y), *args)
        grads = [*grads] if n > 1 else [grads]  # of a Symbol too, which has `n` outputs
        return [*grads, *[None] * len(described.states)]

    def kernel(*arrays, **_):
        inputs, states = wrapped(arrays[:n]), wrapped(arrays[n:])
        outputs = wrapped(described.blanks(arrays))
        with pause(train_mode=state.training):
            described.told(
                described.computing(arrays).forward,
                is_train=state.training,
                req=["write"] * m,
                in_data=inputs,
                out_data=outputs,
                aux=states,
            )
        return unwrapped(outputs)

    kernel.__name__ = kernel.__qualname__ = "Custom"
    op = operator(kernel, vjp=rule, same_dtype=False, listed=False)
    op.starts = True  # it may be a loss: nobody but its author knows
    op.asks = described.prop.need_top_grad_
    op.arrays = op.required = described.arguments + described.states
    op.most, op.outputs = len(op.arrays), described.outputs
    op.settings, op.known = list(settings), frozenset(settings)
    op.states = tuple(described.states)
    if described.arguments:
        op.infer = lambda *shapes, **_: learned(described, shapes)
    return op


def learned(described, shapes):
    """The shapes of arguments and states, from what is known of the arguments; None is unknown."""
    known = [list(s or ()) for s in shapes[: len(described.arguments)]]
    known += [[]] * (len(described.arguments) - len(known))
    arguments, _, states = described.inferred(described.prop.infer_shape, known)
    return [tuple(s) or None for s in [*arguments, *states]]


def backward_operator(described):
    """The operator that computes the gradients of a custom one."""
    n, m = len(described.arguments), len(described.outputs)

    def kernel(*arrays):
        grads, outputs, rest = arrays[:m], arrays[m : 2 * m], arrays[2 * m :]
        inputs, states = wrapped(rest[:n]), wrapped(rest[n:])
        filled = wrapped([np.zeros_like(a) for a in rest[:n]])
        with pause(train_mode=state.training):
            described.told(
                described.computing(rest).backward,
                req=["write"] * n,
                out_grad=wrapped(grads),
                in_data=inputs,
                out_data=wrapped(outputs),
                in_grad=filled,
                aux=states,
            )
        return unwrapped(filled)

    def refuse(g, y, *args):
        raise MXNetError(f"the gradient of Custom {described.name!r} has no gradient of its own")

    kernel.__name__ = kernel.__qualname__ = "Custom_backward"
    op = operator(kernel, vjp=refuse, same_dtype=False, listed=False)
    op.outputs = n
    return op


def made(op_type, settings):
    """A fresh operator for one call, and its description."""
    described = Description(op_type, settings)
    return forward_operator(described, {"op_type": op_type, **settings}), described


def sorted_arguments(args, kwargs):
    """(named arrays, settings) of a call."""
    kinds = NDArray, Symbol
    arrays = {k: v for k, v in kwargs.items() if isinstance(v, kinds)}
    return arrays, {k: v for k, v in kwargs.items() if k not in arrays}


def Custom(*data, op_type=None, name=None, out=None, **kwargs):
    """Call the operator that `mx.operator.register(op_type)` has named.

    data: its arrays and states, by position or by name. Other arguments are settings, which its
    description gets as texts. A list of the outputs, or the only one.
    """
    op, args, _ = called(data, op_type, kwargs)
    if not all(type(a) in interpreters for a in args):
        kinds = ", ".join(type(a).__name__ for a in args)
        raise ArgumentError(f"Custom: Argument data must have NDArray type, but got {kinds}")
    if not args:
        return given([place(np.asarray(a), None) for a in several(op.kernel())], out)
    return given(several(op(*args)), out)


def called(data, op_type, kwargs):
    """The operator of a call of `Custom`, its arrays in order and its settings."""
    if not isinstance(op_type, str):
        raise MXNetError("Custom: op_type names a registered operator, a str")
    arrays, settings = sorted_arguments(data, kwargs)
    op, described = made(op_type, settings)
    names = described.arguments + described.states
    unknown = [k for k in arrays if k not in names[len(data) :]]
    if unknown or len(data) > len(names):
        raise MXNetError(f"Custom {op_type!r} takes the arrays {names}, not also {unknown or data}")
    args = [*data, *(arrays.get(k) for k in names[len(data) :])]
    return op, args, settings


def several(outputs):
    """One output or several as a list."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def given(outputs, out):
    """The outputs as a caller sees them, or `out` filled with them."""
    if out is not None:
        outputs = [assign(o, y) for o, y in zip(several(out), outputs, strict=True)]
    return outputs if len(outputs) > 1 else outputs[0]


def Custom_symbol(*data, op_type=None, name=None, attr=None, **kwargs):
    """The Symbol of a call of `Custom`; arrays that are missing become variables."""
    op, args, settings = called(data, op_type, kwargs)
    settings = {"op_type": op_type, **settings}
    return compose(op, args, settings, "Custom", name, attr)


class PythonOp:
    """What `NumpyOp` and `NDArrayOp` share: forward is the identity, backward ones,
    until a subclass says otherwise.
    """

    def __init__(self, need_top_grad=True):
        self.need_top_grad_ = need_top_grad

    def __call__(self, *args, **kwargs):
        return self.get_symbol(*args, **kwargs)

    def forward(self, in_data, out_data):
        """Write the outputs."""
        out_data[0][:] = in_data[0]

    def backward(self, out_grad, in_data, out_data, in_grad):
        """Write the gradients of the inputs."""
        in_grad[0][:] = 1.0

    def infer_shape(self, in_shape):
        """Shapes of inputs and outputs."""
        return in_shape, [in_shape[0]]

    def list_arguments(self):
        """Names of the inputs."""
        return ["data"]

    def list_outputs(self):
        """Names of the outputs."""
        return ["output"]

    def need_top_grad(self):
        """Whether backward looks at the gradients of the outputs."""
        return self.need_top_grad_

    def get_symbol(self, *args, **kwargs):
        """The Symbol of a call on `args`."""
        name = f"_{type(self).__name__}_{next(serial)}"
        register(name)(type(name, (Described,), {"op": self}))
        return Custom_symbol(*args, op_type=name, **kwargs)

    def _run(self, method, *groups):
        """Call a method on lists of arrays."""
        method(*groups)


class NumpyOp(PythonOp):
    """An operator whose forward and backward read and write NumPy arrays."""

    def _run(self, method, *groups):
        found = [[a.asnumpy() for a in group] for group in groups]
        method(*found)
        for a, value in zip(groups[-1], found[-1]):
            a[:] = value


class NDArrayOp(PythonOp):
    """An operator whose forward and backward read and write NDArrays."""


serial = count()


class Described(CustomOpProp):
    """The description of a `PythonOp`, which its subclasses hold as `op`."""

    def __init__(self):
        super().__init__(need_top_grad=self.op.need_top_grad())

    def list_arguments(self):
        return self.op.list_arguments()

    def list_outputs(self):
        return self.op.list_outputs()

    def infer_shape(self, in_shape):
        return *self.op.infer_shape(in_shape), []

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return Called(self.op)


class Called(CustomOp):
    """The two methods of a `PythonOp` as a custom operator."""

    def __init__(self, op):
        self.op = op

    def forward(self, is_train, req, in_data, out_data, aux):
        self.op._run(self.op.forward, in_data, out_data)

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.op._run(self.op.backward, out_grad, in_data, out_data, in_grad)


def read_custom(name, inputs, texts):
    """The node of a custom operator in a file; its class must be registered."""
    attrs = {k: v for k, v in texts.items() if k.startswith("__") and k.endswith("__")}
    settings = {k: v for k, v in texts.items() if k not in attrs}
    op, _ = made(settings.pop("op_type", None), settings)
    if len(inputs) != len(op.arrays):
        raise MXNetError(f"load_json: node {name!r}: Custom does not take {len(inputs)} arrays")
    return Node(name, op, inputs, {"op_type": texts["op_type"], **settings}, attrs, "Custom")


READERS["Custom"] = read_custom
