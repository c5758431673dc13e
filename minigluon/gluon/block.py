"""A block owns parameters and other blocks, and says in one method how to use them."""

# Written from chapters/32_block.ipynb: edit the chapter, then run `minigluon export`.

import re
import threading
from collections import Counter

import numpy as np

import minigluon.ndarray as nd
from minigluon.gluon.parameter import DeferredInitializationError, Parameter, ParameterDict
from minigluon.initializer import Uniform
from minigluon.ndarray.ndarray import ArgumentError, NDArray, shown
from minigluon.op import Operand, describe, failure, interpreters

__all__ = [
    "Block",
    "HookHandle",
    "HybridBlock",
    "NameScope",
    "Outline",
    "claim_name",
    "complete_shapes",
    "outermost_counts",
    "outlined",
    "sketch",
]


# --- Names ----------------------------------------------------------------------------------------


class NameScope:
    """Gives out prefixes: `dense0_`, `dense1_`, … inside a block, each after the block's own prefix."""

    current = threading.local()

    def __init__(self, block):
        self.block, self.counts, self.outer = block, Counter(), []

    def __enter__(self):
        if not self.block._empty_prefix:
            self.outer.append(getattr(NameScope.current, "value", None))
            NameScope.current.value = self
        return self

    def __exit__(self, *_):
        if not self.block._empty_prefix:
            NameScope.current.value = self.outer.pop()


def claim_name(prefix, params, hint):
    """The prefix and the ParameterDict of a new block."""
    scope = getattr(NameScope.current, "value", None)
    if prefix is None:
        counts = scope.counts if scope else outermost_counts()
        prefix = f"{hint}{counts[hint]}_"
        counts[hint] += 1
    if params is not None:
        params = ParameterDict(params.prefix, params)
    elif scope is None:
        params = ParameterDict(prefix)
    else:
        parent = scope.block.params
        params = ParameterDict(parent.prefix + prefix, parent._shared)
    return (scope.block.prefix if scope else "") + prefix, params


def outermost_counts():
    """The counters of this thread for blocks outside all scopes."""
    if not hasattr(NameScope.current, "counts"):
        NameScope.current.counts = Counter()
    return NameScope.current.counts


# --- The block ------------------------------------------------------------------------------------


class Block:
    """A piece of a network: parameters, child blocks and `forward`, which says how to use them.

    `prefix` begins the names of its parameters, by default after its class; `params` is a
    ParameterDict to share parameters with another block.
    """

    def __init__(self, prefix=None, params=None):
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

    # --- The block --------------------------------------------------------------------------------

    def register_child(self, block, name=None):
        """Add a child; its attribute's name, or its number, is its key."""
        self._children[str(len(self._children)) if name is None else name] = block

    def collect_params(self, select=None):
        """All parameters of this block and its children, or those whose name matches `select`."""
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

    # --- The block --------------------------------------------------------------------------------

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
        out = self.forward(*args)
        if self._forward_hooks:
            for hook in tuple(self._forward_hooks.values()):
                hook(self, args, out)
        return out

    def forward(self, *args):
        """What this block computes: to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(self, ...)")

    # --- The block --------------------------------------------------------------------------------

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
    for a, shape in zip(args, op.infer(*shapes, **{**op.defaults, **settings})):
        if isinstance(a, Outline) and a.parameter is not None and 0 in a.shape:
            a.parameter.shape = tuple(shape)
            a.shape = a.parameter.shape


# --- Hybrid blocks --------------------------------------------------------------------------------


class HybridBlock(Block):
    """A block whose `hybrid_forward(F, x, …, **params)` works on whatever operands it is given."""

    def __init__(self, prefix=None, params=None):
        super().__init__(prefix, params)
        self._active, self._flags = False, {}

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

    def hybridize(self, active=True, **kwargs):
        """Ask for compiled execution. In this edition the wish is noted and calls run eagerly."""
        self._active, self._flags = active, kwargs
        super().hybridize(active, **kwargs)

    # --- Hybrid blocks ----------------------------------------------------------------------------

    def forward(self, x, *args):
        if isinstance(x, Outline):
            params = {n: Outline(p.shape, p.dtype, p) for n, p in self._reg_params.items()}
            return self.hybrid_forward(nd, x, *args, **params)
        if not isinstance(x, NDArray):
            raise ArgumentError(
                f"{type(self).__name__} takes an NDArray as its first argument, but got {type(x)}: "
                "convert it with mx.nd.array(...)"
            )
        ctx = x._ctx
        try:
            params = {n: p.data(ctx) for n, p in self._reg_params.items()}
        except DeferredInitializationError:
            self._finish_deferred_init(x, *args)
            params = {n: p.data(ctx) for n, p in self._reg_params.items()}
        return self.hybrid_forward(nd, x, *args, **params)

    def infer_shape(self, *args):
        """Learn the shapes of all parameters from inputs like `args`."""
        self.forward(*outlined(args))

    def _finish_deferred_init(self, *args):
        self.infer_shape(*args)
        for parameter in self.params.values():
            parameter._finish_deferred_init()


def outlined(x):
    """`x` with each NDArray, also inside lists and tuples, as its outline."""
    if isinstance(x, list | tuple):
        return type(x)(outlined(part) for part in x)
    return Outline(x.shape, x.dtype) if isinstance(x, NDArray) else x
