"""A block owns parameters and other blocks, and says in one method how to use them."""

# Written from chapters/32_block.ipynb, chapters/34_parameter_files.ipynb, chapters/35_pictures.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import json
import math
import re
import threading
import warnings
from itertools import count

import numpy as np

import minigluon.ndarray as nd
import minigluon.symbol as sym
from minigluon.base import MXNetError, unexpected
from minigluon.context import Context, cpu
from minigluon.gluon.parameter import (
    Constant,
    DeferredInitializationError,
    Parameter,
    ParameterDict,
    reduced,
)
from minigluon.initializer import Uniform
from minigluon.name import NameManager, Prefix, current
from minigluon.ndarray.ndarray import NDArray, shown
from minigluon.ndarray.utils import replace_file
from minigluon.op import BadValue, Operand, describe, failure, interpreters
from minigluon.symbol.symbol import Symbol

__all__ = [
    "Block",
    "BlockNames",
    "HookHandle",
    "HybridBlock",
    "NameScope",
    "Outline",
    "Parameter",
    "RULE",
    "Summary",
    "arrays_in",
    "brief",
    "claim_name",
    "compiled",
    "compiler",
    "complete_shapes",
    "first_of",
    "locate",
    "matched",
    "named_as",
    "outlined",
    "passes_on",
    "receive",
    "require_all",
    "settle",
    "shapes_of",
    "sketch",
    "tree_of",
    "variable_of",
    "warn_of_strays",
]


# --- Names ----------------------------------------------------------------------------------------


class NameScope:
    """Gives out prefixes: `dense0_`, `dense1_`, … inside a block, each after the block's own prefix."""

    current = threading.local()

    def __init__(self, block):
        self.block, self.names, self.outer = block, NameManager(), []

    def __enter__(self):
        if not self.block._empty_prefix:
            self.outer.append(getattr(NameScope.current, "value", None))
            NameScope.current.value = self
            Prefix(self.block.prefix).__enter__()  # of the nodes of graphs
        return self

    def __exit__(self, *_):
        if not self.block._empty_prefix:
            NameScope.current.value = self.outer.pop()
            current().__exit__()


def claim_name(prefix, params, hint):
    """The prefix and the ParameterDict of a new block."""
    scope = getattr(NameScope.current, "value", None)
    if prefix is None:
        names = scope.names if scope else current()
        prefix = names.get(None, hint) + "_"
    if params is not None:
        params = ParameterDict(params.prefix, params)
    elif scope is None:
        params = ParameterDict(prefix)
    else:
        parent = scope.block.params
        params = ParameterDict(parent.prefix + prefix, parent._shared)
    return (scope.block.prefix if scope else "") + prefix, params


NameScope._current, NameScope.create = NameScope.current, staticmethod(claim_name)
_BlockScope = NameScope  # its name in MXNet, by which programs import it


# --- Where it went wrong --------------------------------------------------------------------------


def locate(error, block):
    """Put the layer that raised `error` in front of its text, and the path to it from `block`."""
    inner, path, layer, text = getattr(error, "where", (block, "", block.name, str(error)))
    if inner is not block:
        key = next((k for k, c in block._children.items() if c is inner), inner.name)
        path = f"{key}.{path}" if path else key
    error.where = block, path, layer, text
    error.args = (f"in layer {path} ({layer}), {text}" if path else f"in layer {layer}, {text}",)


# --- The block ------------------------------------------------------------------------------------


class Block:
    """A piece of a network: parameters, child blocks and `forward`, which says how to use them.

    `prefix` begins the names of its parameters, by default after its class; `params` is a
    ParameterDict to share parameters with another block.
    """

    def __init__(self, prefix=None, params=None, **unknown):
        for name in unknown:
            raise unexpected(type(self), name)
        self._empty_prefix = prefix == ""
        self._children, self._reg_params = {}, {}
        self._forward_hooks, self._forward_pre_hooks = {}, {}
        self._prefix, self._params = claim_name(prefix, params, self._alias())
        self._scope = NameScope(self)

    def __setattr__(self, name, value):
        before = self.__dict__.get(name)
        if isinstance(before, Parameter | Block) and not isinstance(value, type(before)):
            raise TypeError(
                f"Changing attribute type for {name} from {type(before)} to {type(value)} is not "
                "allowed: register the new one under a name of its own"
            )
        if isinstance(value, Block):
            self.register_child(value, name)
        elif isinstance(value, Parameter):
            assert self._reg_params.get(name, value) is value, (
                f"Overriding Parameter attribute {name} is not allowed. If you want to share "
                "parameters between blocks, pass 'params' when making them"
            )
            self._reg_params[name] = value
        super().__setattr__(name, value)

    # --- The block --------------------------------------------------------------------------------

    def _alias(self):
        return type(self).__name__.lower()

    @property
    def prefix(self):
        """What the names of this block's parameters begin with."""
        return self._prefix

    @property
    def name(self):
        """The prefix without its last underscore."""
        return self._prefix.removesuffix("_")

    @property
    def params(self):
        """This block's own parameters, without its children's."""
        return self._params

    def name_scope(self):
        """A `with` block: blocks made inside get names that begin with this block's prefix."""
        return self._scope

    def register_child(self, block, name=None):
        """Add a child; its attribute's name, or its number, is its key."""
        self._children[str(len(self._children)) if name is None else name] = block

    def collect_params(self, select=None):
        """All parameters of this block and its children, or those whose name matches `select`.

        Warns of blocks in a list, tuple or dictionary: they are no children, and their parameters
        are not found.
        """
        for name, value in vars(self).items():
            if type(value) in (list, tuple, dict) and name != "_children":
                warn_of_strays(value, name, self)
        found = ParameterDict(self._params.prefix)
        pattern = re.compile(select or "")
        found.update({n: p for n, p in self.params.items() if pattern.match(n)})
        for child in self._children.values():
            found.update(child.collect_params(select))
        return found

    def initialize(self, init=None, ctx=None, verbose=False, force_reinit=False):
        """Give all parameters their first values, by default uniform in ±0.07, on `ctx`."""
        init = Uniform() if init is None else init
        self.collect_params().initialize(init, ctx, verbose, force_reinit)

    def apply(self, fn):
        """Call `fn` on every block of the tree, children first; return self."""
        for child in self._children.values():
            child.apply(fn)
        fn(self)
        return self

    def cast(self, dtype):
        """Convert all parameters of the tree to `dtype`."""
        for child in self._children.values():
            child.cast(dtype)
        for parameter in self.params.values():
            parameter.cast(dtype)

    def hybridize(self, active=True, **kwargs):
        """Hybridize the children that can be."""
        for child in self._children.values():
            child.hybridize(active, **kwargs)

    def __call__(self, *args):
        if self._forward_pre_hooks:
            for hook in tuple(self._forward_pre_hooks.values()):
                hook(self, args)
        try:
            out = self.forward(*args)
        except MXNetError as error:
            locate(error, self)
            raise
        if self._forward_hooks:
            for hook in tuple(self._forward_hooks.values()):
                hook(self, args, out)
        return out

    def forward(self, *args):
        """What this block computes: to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(self, ...)")

    def register_forward_pre_hook(self, hook):
        """Call `hook(block, inputs)` before each forward; returns a handle with `detach()`."""
        return HookHandle(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook):
        """Call `hook(block, inputs, output)` after each forward; returns a handle with `detach()`."""
        return HookHandle(self._forward_hooks, hook)

    def __repr__(self):
        blocks = [(k, v) for k, v in self.__dict__.items() if isinstance(v, Block)]
        lines = [f"  ({k}): " + repr(v).replace("\n", "\n  ") for k, v in blocks]
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"

    # --- Places -----------------------------------------------------------------------------------

    def _collect_params_with_prefix(self, prefix=""):
        """{way from this block: parameter}, such as `body.0.weight`."""
        prefix += "." if prefix else ""
        found = {prefix + name: p for name, p in self._reg_params.items()}
        for name, child in self._children.items():
            found.update(child._collect_params_with_prefix(prefix + name))
        return found

    def save_parameters(self, filename, deduplicate=False):
        """Write all parameters, by their places in the tree, into a file that MXNet reads too.

        With `deduplicate`, a parameter that several places share is written once.
        """
        params = self._collect_params_with_prefix()
        if deduplicate:
            params = {way: p for p, way in {p: way for way, p in params.items()}.items()}
        nd.save(filename, {way: reduced(p) for way, p in params.items()})

    # Reading.

    def load_parameters(
        self,
        filename,
        ctx=None,
        allow_missing=False,
        ignore_extra=False,
        cast_dtype=False,
        dtype_source="current",
    ):
        """Read parameters from a file of `save_parameters`, or of `collect_params().save`.

        ctx: where to put them, unless they are initialized. A parameter that is not in the file
        raises AssertionError unless `allow_missing`, one that is too many ValueError unless
        `ignore_extra`. Types must agree; with `cast_dtype` those of the network win, or of the file
        (dtype_source='saved').
        """
        assert dtype_source in ("current", "saved"), "dtype_source must be 'current' or 'saved'"
        loaded = nd.load(filename) or {}  # a file of no arrays does not tell what names they have
        if not isinstance(loaded, dict):
            raise ValueError(f"'{filename}' holds a list of arrays without names, no parameters")
        params = self._collect_params_with_prefix()
        # by names, as `collect_params().save` writes them
        if not any("." in name for name in loaded):
            params = named_as(loaded, self.collect_params(), self.prefix)
        ctx = [ctx] if isinstance(ctx, Context) else ctx
        if not allow_missing:
            require_all(params, loaded, filename)
        extra = [name for name in loaded if name not in params]
        if extra and not ignore_extra:
            raise ValueError(
                f"Parameter '{extra[0]}' loaded from file '{filename}' is not present in ParameterDict, "
                f"which contains parameters {brief(params)}. Set ignore_extra=True to ignore."
            )
        source = dtype_source if cast_dtype else "current"
        fitting = [
            (params[name], receive(params[name], a, ctx, cast_dtype, source))
            for name, a in loaded.items()
            if name in params
        ]
        for parameter, a in fitting:
            settle(parameter, a, ctx)

    # --- Places -----------------------------------------------------------------------------------

    def save_params(self, filename):
        """[Deprecated] Write all parameters by their names; use `save_parameters`."""
        warnings.warn("save_params is deprecated. Please use save_parameters.", stacklevel=2)
        params = self.collect_params().items()
        nd.save(filename, {n.removeprefix(self.prefix): reduced(p) for n, p in params})

    def load_params(self, filename, ctx=None, allow_missing=False, ignore_extra=False):
        """[Deprecated] Use `load_parameters`."""
        warnings.warn("load_params is deprecated. Please use load_parameters.", stacklevel=2)
        self.load_parameters(filename, ctx, allow_missing, ignore_extra)

    # --- The tree in a file -----------------------------------------------------------------------

    def save(self, prefix):
        """Write `prefix-model.json`, the tree of blocks, and `prefix-model.params`."""
        replace_file(f"{prefix}-model.json", [json.dumps(tree_of(self, count())).encode()])
        self.save_parameters(f"{prefix}-model.params")

    def load(self, prefix):
        """Read what `save` has written into a network that was built in the same way.

        MXNetError, with nothing changed, for a tree of another form.
        """
        with open(f"{prefix}-model.json", encoding="utf-8") as file:
            text = file.read()
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MXNetError(f"{prefix}-model.json: this is no JSON: {error}") from None
        for block, record in matched(self, tree, count()):
            block._children = dict(zip(record["children"].values(), block._children.values()))
            if record.get("hybridized"):
                block._active = True
        self.load_parameters(f"{prefix}-model.params")

    # --- Summary of a network ---------------------------------------------------------------------

    def summary(self, *inputs):
        """Print a line for every block that a forward pass on `inputs` calls: output shape, parameters.

        AssertionError if a block is hybridized: its children are not called then.
        """
        found, handles = Summary(), []

        def listen(block):
            assert not getattr(block, "_active", False), (
                f'"{block.name}" must not be hybridized to print summary.'
            )
            handles.append(block.register_forward_hook(found.note))

        try:
            self.apply(listen)
            self(*inputs)
        finally:
            for handle in handles:
                handle.detach()
        print(found.table(inputs))

    # --- Hooks on operators -----------------------------------------------------------------------

    def register_op_hook(self, callback, monitor_all=False):
        """Call `callback(name, operator, array)` for each operator's output
        of the hybridized blocks below.

        With `monitor_all` for each input as well. A network that listens runs node by node, so slowly.
        """
        for child in self._children.values():
            child.register_op_hook(callback, monitor_all)

    # --- Tables for blocks ------------------------------------------------------------------------

    def _repr_html_(self):
        """The block as a table, for JupyterLab."""
        return importlib.import_module("minigluon.visualization").table(self)


def warn_of_strays(value, name, block):
    """Warn if the container `value`, an attribute of `block`, holds blocks that are not its children."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, Block) and part not in block._children.values():
            warnings.warn(
                f'"{name}" of {type(block).__name__} holds blocks in an unregistered '
                "container: a list, tuple or "
                "dictionary does not make them children. Use register_child, or nn.Sequential instead",
                stacklevel=4,
            )
            return
        if type(part) in (list, tuple, dict):
            stack += part.values() if isinstance(part, dict) else part


class HookHandle:
    """Takes a hook away: by `detach()`, or at the end of a `with` block."""

    def __init__(self, hooks, hook):
        self._hooks = hooks
        hooks[id(self)] = hook

    def detach(self):
        self._hooks.pop(id(self), None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.detach()


# --- Shapes without numbers -----------------------------------------------------------------------


class Outline(Operand):
    """An array without its numbers: shape, type and, if it is one, the parameter it stands for."""

    def __init__(self, shape, dtype, parameter=None):
        self.shape, self.dtype, self.parameter = tuple(shape), np.dtype(dtype), parameter

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))

    def asscalar(self):
        """A truth for loops and branches: go on, and take the first."""
        return 1

    def __repr__(self):
        return f"<Outline {self.dtype}{list(self.shape)}>"


def sketch(op, args, settings):
    """Interpret `op` on outlines: complete the shapes of its parameters, return outlines."""
    if op.infer is not None:
        complete_shapes(op, args, settings)
    for a in args:
        if isinstance(a, Outline) and a.parameter is not None and 0 in a.shape:
            raise ValueError(
                f"the shape {a.shape} of parameter {a.parameter.name} cannot be inferred from "
                f"{describe(op, args, settings)}: give its sizes when making the layer"
            )
    raw = [np.zeros(a.shape, a.dtype) if hasattr(a, "shape") else a for a in args]
    try:
        out = op.kernel(*raw, **settings)
    except Exception as error:
        raise failure(error, op, raw, settings) from error
    if type(out) is tuple:
        return shown(op, [Outline(o.shape, o.dtype) for o in out[: op.visible]])
    return Outline(out.shape, out.dtype)


interpreters[Outline] = sketch


def complete_shapes(op, args, settings):
    """Let `op` say which shapes its arrays have, and pass that on to the parameters."""
    shapes = [a.shape if hasattr(a, "shape") else None for a in args]
    try:
        found = op.infer(*shapes, **{**op.defaults, **settings})
    except (MXNetError, IndexError, TypeError, ValueError) as error:
        raise BadValue(
            "Deferred initialization failed because shape cannot be inferred: in "
            f"{describe(op, args, settings)}: {error}"
        ) from error
    for a, shape in zip(args, found):
        if isinstance(a, Outline) and a.parameter is not None and 0 in a.shape:
            a.shape = a.parameter.shape = tuple(shape)


# --- Hybrid blocks --------------------------------------------------------------------------------


class HybridBlock(Block):
    """A block whose `hybrid_forward(F, x, …, **params)` works on whatever operands it is given."""

    _node_names = {}  # {what the name of a node would begin with: what it is in this block}

    def __init__(self, prefix=None, params=None, **unknown):
        super().__init__(prefix, params, **unknown)
        self._active, self._flags, self._programs = False, {}, None
        self._in_format = self._out_format = None  # nested lists of a traced call, 0 for an array

    def hybrid_forward(self, F, x, *args, **kwargs):
        """What this block computes, with operators from `F` and its parameters by name."""
        raise NotImplementedError(
            f"{type(self).__name__} does not define hybrid_forward(self, F, x, ...)"
        )

    def register_child(self, block, name=None):
        if not isinstance(block, HybridBlock):
            raise ValueError(
                f"Children of HybridBlock must also be HybridBlock, but {block!r} has type "
                f"{type(block)}. If you are using Sequential, please try HybridSequential instead"
            )
        super().register_child(block, name)
        self._clear_cached_op()

    def _clear_cached_op(self):
        """Forget the programs: a block that has changed inside writes them anew."""
        self._programs = None

    def __getstate__(self):
        """What is pickled or copied: all but the programs, which the copy writes anew."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin._clear_cached_op()
        return vars(twin)

    def hybridize(self, active=True, **kwargs):
        """Write calls down as a program on the first one, and run that from then on."""
        self._active, self._flags = active, kwargs
        self._clear_cached_op()
        super().hybridize(active, **kwargs)

    def cast(self, dtype):
        self._clear_cached_op()
        super().cast(dtype)

    # --- Hybrid blocks ----------------------------------------------------------------------------

    def export(self, path, epoch=0, remove_amp_cast=True):
        """Write `path-symbol.json` and `path-0000.params`: the graph, and the parameters it needs."""
        compiler().export(self, path, epoch, remove_amp_cast)

    @property
    def _cached_graph(self):
        return compiler().graph_of(self)

    def _get_graph(self, *args):
        """Symbols of the inputs, and the graph of a call with `args`, traced if it was not."""
        if not self._cached_graph:
            self._build_cache(*args)
        return self._cached_graph

    def _build_cache(self, *args):
        """Trace a call with `args`, without running it."""
        compiler().begun(self, args)

    def _call_cached_op(self, *args):
        """Run the program, whether the block is active or not."""
        return compiled(self, *args)

    def _deferred_infer_shape(self, *args):
        """`infer_shape`, under the name that a block may override in MXNet."""
        self.infer_shape(*args)

    def forward(self, x, *args):
        if self._active and type(x) is NDArray:
            return compiled(self, x, *args)
        first = x if type(x) is NDArray and not args else first_of((x, *args))
        if isinstance(first, Symbol):
            return self._written(x, *args)
        if isinstance(first, Outline):
            return self._outlined(x, *args)
        if self._active:
            return compiled(self, x, *args)
        ctx = first._ctx
        try:
            params = {n: p.data(ctx) for n, p in self._reg_params.items()}
        except DeferredInitializationError:
            self._finish_deferred_init(x, *args)
            params = {n: p.data(ctx) for n, p in self._reg_params.items()}
        return self.hybrid_forward(nd, x, *args, **params)

    def _outlined(self, *args):
        """The outlines of what this block computes; its parameters learn their shapes on the way."""
        params = {n: Outline(p._shape, p.dtype, p) for n, p in self._reg_params.items()}
        return self.hybrid_forward(nd, *args, **params)

    def _written(self, *args):
        """The graph of this block on symbols; the names of its nodes begin with the block's prefix."""
        kind = type(first_of(args))
        params = {n: kind(variable_of(p)._entries) for n, p in self._reg_params.items()}
        if self._empty_prefix:
            return self.hybrid_forward(sym, *args, **params)
        with BlockNames(self):
            return self.hybrid_forward(sym, *args, **params)

    def infer_shape(self, *args):
        """Learn the shapes of all parameters from inputs like `args`:
        from the graph, or by outlines if there is none.
        """
        compiler().shapes_from_graph(self, args)

    def _finish_deferred_init(self, *args):
        self.infer_shape(*args)
        for parameter in self.params.values():
            parameter._finish_deferred_init()

    # --- Hooks on operators -----------------------------------------------------------------------

    _op_hooks = ()

    def register_op_hook(self, callback, monitor_all=False):
        self._op_hooks = (*self._op_hooks, (callback, monitor_all))
        super().register_op_hook(callback, monitor_all)

    def optimize_for(self, x, *args, backend=None, clear=False, **kwargs):
        """Hybridize, and run once on these inputs; for a backend, by its name,
        the network is what it was.
        """
        if not isinstance(backend, str | None):
            raise TypeError(f"optimize_for: backend is a name, not {backend!r}")
        self.hybridize(True, **kwargs)
        self(x, *args)

    def infer_type(self, *args):
        """Give all parameters the type of the first argument, an array."""
        self.cast(args[0].dtype)


def first_of(args):
    """The first array in nested lists; ValueError if there is none, or arrays and symbols mixed."""
    found, stack = [], [args]
    while stack:
        part = stack.pop()
        if isinstance(part, list | tuple):
            stack.extend(reversed(part))
        elif isinstance(part, Operand):
            found.append(part)
    if not found:
        raise ValueError(
            "In HybridBlock, there must be one NDArray or one Symbol in the input. Please check the "
            f"type of the args: {', '.join(type(a).__name__ for a in args)}. mx.nd.array(...) makes one"
        )
    if len({isinstance(part, Symbol) for part in found}) > 1:
        raise ValueError(
            "In HybridBlock, we do not support mixed NDArrays and Symbols types for the input."
        )
    return found[0]


def compiler():
    """The module that writes and runs programs, which comes after this one."""
    return importlib.import_module("minigluon.gluon.hybrid")


def compiled(block, *args):
    """The outputs of an active block, from its program."""
    if block._programs is None:
        block._programs = compiler().Programs(block)
    return block._programs(args)


def outlined(x):
    """`x` with each NDArray, also inside lists and tuples, as its outline."""
    if isinstance(x, list | tuple):
        return type(x)(outlined(part) for part in x)
    return Outline(x.shape, x.dtype) if isinstance(x, NDArray) else x


class BlockNames(Prefix):
    """Names of the nodes of one block."""

    def __init__(self, block):
        super().__init__(block.prefix)
        self._names = block._node_names

    def get(self, name, hint):
        return super().get(name or self._names.get(hint), hint)


def variable_of(parameter):
    """The symbol of a parameter, always the same, with what is known about it as attributes."""
    if getattr(parameter, "_var", None) is None:
        init = parameter.init
        if init is not None and not isinstance(init, str):
            init = (
                f"{type(init).__name__}_{parameter.name}" if parameter.is_constant else init.dumps()
            )
        parameter._var = sym.var(
            parameter.name,
            shape=parameter._shape,
            dtype=parameter.dtype,
            lr_mult=parameter.lr_mult,
            wd_mult=parameter.wd_mult,
            init=init,
            stype=parameter._stype,
        )
    return parameter._var


Parameter.var, Parameter.is_constant = variable_of, False
Constant.is_constant = True


# --- Places ---------------------------------------------------------------------------------------


def receive(parameter, data, ctx, cast_dtype, dtype_source):
    """Check that an array fits a parameter: the array in the type that it will have there.

    AssertionError where shape, type or contexts do not fit; nothing is changed.
    """
    shape = parameter._shape or (0,) * data.ndim
    assert len(shape) == data.ndim and all(a in (0, b) for a, b in zip(shape, data.shape)), (
        f"Failed loading Parameter '{parameter.name}' from saved params: shape incompatible "
        f"expected {parameter.shape} vs saved {data.shape}"
    )
    old = np.dtype(parameter.dtype)
    assert cast_dtype or old == data.dtype, (
        f"Failed loading Parameter '{parameter.name}' from saved params: dtype incompatible expected "
        f"{old} vs saved {data.dtype}. Set cast_dtype=True to cast the dtype of saved params."
    )
    there = parameter._data is not None or parameter._deferred_init is not None
    assert not there or ctx is None or {*ctx} == {*parameter.list_ctx()}, (
        f"Failed to load Parameter '{parameter.name}' on {ctx} because it was previous initialized "
        f"on {parameter.list_ctx()}."
    )
    return data.astype(old, copy=False) if dtype_source == "current" else data


def settle(parameter, data, ctx):
    """Give a parameter the numbers of an array that fits, on its contexts, else on `ctx`,
    else on the CPU.
    """
    parameter.shape = data.shape
    if np.dtype(parameter.dtype) != data.dtype:
        parameter.cast(data.dtype)
    if parameter._data is not None:
        parameter.set_data(data)
        return
    waiting = parameter._deferred_init is not None
    contexts = parameter.list_ctx() if waiting else ctx or [cpu()]
    parameter._deferred_init = None
    parameter._init_impl(data, contexts)


def named_as(loaded, params, prefix):
    """Parameters by the names that a file uses: whole, or without the block's prefix."""
    if any(name in params for name in loaded):
        return {**params}
    bare = [name.removeprefix("arg:").removeprefix("aux:") for name in loaded]
    if bare != [*loaded] and any(name in params for name in bare):  # a file of `export`
        return {name: params[b] for name, b in zip(loaded, bare) if b in params} | {
            n: p for n, p in params.items() if n not in bare
        }
    return {name.removeprefix(prefix): p for name, p in params.items()}


def require_all(params, loaded, filename):
    """AssertionError if a parameter has none of its names in a file."""
    ways = {}
    for name, p in params.items():
        ways.setdefault(p, []).append(name)
    for names in ways.values():
        assert any(name in loaded for name in names), (
            f"Parameter '{names[0]}' is missing in file '{filename}', which contains parameters: "
            f"{brief(loaded)}. Set allow_missing=True to ignore missing parameters."
        )


def brief(names, limit=7):
    """A few names, quoted."""
    names = [f"'{name}'" for name in names]
    if len(names) > limit:
        names = [*names[: limit // 2], "...", *names[-(limit // 2) :]]
    return ", ".join(names)


# --- The tree in a file ---------------------------------------------------------------------------


def tree_of(block, numbers):
    """A block and its children as MXNet writes them: {class and number: record}."""
    record = {"orig_name": block.name}
    key = f"{type(block).__name__.lower()}{next(numbers)}"
    found = getattr(block, "_cached_graph", ())
    if hasattr(block, "_active"):
        record["hybridized"] = bool(found)
    if found:
        programs, (data, whole) = block._programs, found
        record |= {"in_format": list(programs.form), "out_format": programs.latest.form}
        record |= {"inputs": [s.tojson() for s in data], "symbol": whole.tojson()}
    record["children"] = {child.name: key for key, child in block._children.items()}
    for child in block._children.values():
        record |= tree_of(child, numbers)
    return {key: record}


def matched(block, tree, numbers):
    """Pairs of a block and its record in a tree; MXNetError if the tree has another form."""
    key = f"{type(block).__name__.lower()}{next(numbers)}"
    record = tree.get(key) if isinstance(tree, dict) else None
    children = record.get("children") if isinstance(record, dict) else None
    if not isinstance(children, dict) or len(children) != len(block._children):
        raise MXNetError(
            f"load: the file has no block {key!r} with {len(block._children)} children: "
            "build the network "
            "in the order in which it was built when it was saved"
        )
    found = [(block, record)]
    for child in block._children.values():
        found += matched(child, record, numbers)
    return found


# --- Summary of a network -------------------------------------------------------------------------

RULE = "{:>20}  {:>42} {:>15}"


class Summary:
    """What each call of a block in one forward pass made: lines of a table."""

    def __init__(self):
        self.lines, self.seen, self.shared = [], set(), 0
        self.total = self.trainable = 0

    def note(self, block, _, output):
        """Add a line for a call of `block`, unless it only passes data on to its children."""
        name = type(block).__name__
        if passes_on(block) or not arrays_in(output):
            return
        count = sum(p.data(p.list_ctx()[0]).size for p in block._reg_params.values())
        fixed = sum(
            p.data(p.list_ctx()[0]).size for p in block._reg_params.values() if p.grad_req == "null"
        )
        for p in block._reg_params.values():
            self.shared += p.data(p.list_ctx()[0]).size if p in self.seen else 0
            self.seen.add(p)
        self.total, self.trainable = self.total + count, self.trainable + count - fixed
        self.lines.append((f"{name}-{len(self.lines) + 1}", shapes_of(output), count))

    def table(self, inputs):
        """The text."""
        rows = [("Input", shapes_of(list(inputs)), 0), *self.lines]
        return "\n".join(
            [
                "-" * 80,
                RULE.format("Layer (type)", "Output Shape", "Param #"),
                "=" * 80,
                *[RULE.format(*row) for row in rows],
                "=" * 80,
                "Parameters in forward computation graph, duplicate included",
                f"   Total params: {self.total}",
                f"   Trainable params: {self.trainable}",
                f"   Non-trainable params: {self.total - self.trainable}",
                f"Shared params in forward computation graph: {self.shared}",
                f"Unique parameters in model: {self.total - self.shared}",
                "-" * 80,
            ]
        )


def passes_on(block):
    """Whether a block is a plain chain of its children."""
    return any(c.__name__ in ("Sequential", "HybridSequential") for c in type(block).__mro__)


def arrays_in(x):
    """All NDArrays in nested lists."""
    if isinstance(x, list | tuple):
        return [a for part in x for a in arrays_in(part)]
    return [x] if isinstance(x, NDArray) else []


def shapes_of(x):
    """The shapes in nested lists, as a text; the outermost list goes without brackets."""

    def nested(part):
        return [nested(p) for p in part] if isinstance(part, list | tuple) else part.shape

    found = nested(x)
    if isinstance(found, list):
        return nested(x[0]).__str__() if len(found) == 1 else str(found)[1:-1]
    return str(found)
