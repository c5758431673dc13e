"""A parameter is a named array that knows how to come into being, on as many devices as are asked for."""

# Written from chapters/31_parameter.ipynb: edit the chapter, then run `minigluon export`.

import warnings

import numpy as np

import minigluon.ndarray as nd
from minigluon import autograd, initializer
from minigluon.base import MXNetError
from minigluon.context import Context, cpu, current_context
from minigluon.ndarray.ndarray import NDArray, real_dtype

__all__ = [
    "Constant",
    "DeferredInitializationError",
    "Parameter",
    "ParameterDict",
    "agree",
    "as_contexts",
    "fill",
    "fits",
    "known",
]


# --- Shapes ---------------------------------------------------------------------------------------


class DeferredInitializationError(MXNetError):
    """A parameter was read before the first batch has told its shape."""


def known(shape):
    """Whether all sizes of a shape are known."""
    return shape is not None and all(n > 0 for n in shape)


def fits(old, new):
    """Whether `new` agrees with `old` wherever that is known."""
    return len(old) == len(new) and all(a in (0, b) for a, b in zip(old, new))


# --- The parameter --------------------------------------------------------------------------------


class Parameter:
    """A named array to be learnt, on one context or several.

    `shape` may hold zeros for sizes that the first batch will tell, if `allow_deferred_init`.
    `grad_req` is 'write', 'add' or 'null'; `lr_mult` and `wd_mult` scale learning rate and weight
    decay for this parameter; `init` is its own initializer.
    """

    def __init__(
        self,
        name,
        grad_req="write",
        shape=None,
        dtype="float32",
        lr_mult=1.0,
        wd_mult=1.0,
        init=None,
        allow_deferred_init=False,
        differentiable=True,
        stype="default",
        grad_stype="default",
    ):
        for kind, given in (("stype", stype), ("grad_stype", grad_stype)):
            assert given in ("default", "row_sparse", "csr"), (
                f"{kind} {given!r} of {name} is unknown"
            )
        self.name, self.lr_mult, self.wd_mult, self.init = name, lr_mult, wd_mult, init
        self._shape = (shape,) if isinstance(shape, int) else shape and tuple(shape)
        self._dtype = real_dtype(dtype).type
        self._allow_deferred_init, self._differentiable = allow_deferred_init, differentiable
        self._data, self._deferred_init, self._grad_req = None, None, None
        if stype != "default":
            raise NotImplementedError(f"stype={stype!r}: sparse parameters have no chapter yet")
        self._stype, self._grad_stype = stype, grad_stype
        self.grad_req = grad_req

    def __repr__(self):
        return f"Parameter {self.name} (shape={self.shape}, dtype={self.dtype})"

    # --- The parameter ----------------------------------------------------------------------------

    @property
    def shape(self):
        """Sizes; 0 for those not known yet."""
        return self._shape

    @shape.setter
    def shape(self, new):
        assert self._shape is None or fits(self._shape, new), (
            f"Expected shape {tuple(new)} is incompatible with given shape {self._shape} "
            f"of Parameter {self.name}"
        )
        self._shape = tuple(new)

    @property
    def dtype(self):
        """The type of the numbers."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype):
        self.cast(dtype)

    @property
    def grad_req(self):
        """What backward passes do with the gradient: 'write', 'add' or 'null'."""
        return self._grad_req

    @grad_req.setter
    def grad_req(self, req):
        assert req in ("write", "add", "null"), (
            f"grad_req must be one of 'write', 'add', or 'null', but got {req!r}"
        )
        self._grad_req = req if self._differentiable else "null"
        for data in self._data or ():
            self._mark(data)

    def _mark(self, data):
        """Make `data` a variable, or an ordinary array if it is to have no gradient."""
        data._node = None
        if self._grad_req != "null":
            data.attach_grad(self._grad_req, self._grad_stype)

    # --- Initialization ---------------------------------------------------------------------------

    def initialize(self, init=None, ctx=None, default_init=None, force_reinit=False):
        """Make the arrays, on `ctx`, a context or a list of them.

        The values come from `init`, else from the parameter's own initializer, else from
        `default_init`, uniform in ±0.07. Raises ValueError if the shape is not known and may not wait.
        """
        if self._data is not None and not force_reinit:
            warnings.warn(
                f"Parameter '{self.name}' is already initialized, ignoring. "
                "Set force_reinit=True to re-initialize.",
                stacklevel=2,
            )
            return
        init = (self.init if init is None else init, default_init or initializer.Uniform())
        contexts = as_contexts(ctx)
        if known(self._shape):
            self._deferred_init = (init, contexts, None)
            self._finish_deferred_init()
        elif self._allow_deferred_init:
            self._data, self._deferred_init = None, (init, contexts, None)
        else:
            raise ValueError(
                f"Cannot initialize Parameter '{self.name}' because it has invalid shape: "
                f"{self._shape}. Give all sizes, or allow_deferred_init=True"
            )

    def _finish_deferred_init(self):
        """Make the arrays that `initialize` has asked for, now that the shape is known."""
        if self._deferred_init is None:
            return
        (own, default), contexts, data = self._deferred_init
        assert known(self._shape), (
            f"Cannot initialize Parameter '{self.name}' because it has invalid shape: {self._shape}"
        )
        if data is None:
            with autograd.pause():
                data = nd.zeros(self._shape, contexts[0], self._dtype)
                fill(self.name, data, own, default)
        self._deferred_init = None
        self._place(data, contexts)

    def _place(self, data, contexts):
        """Keep a copy of `data` on each context."""
        self._data = [data.copyto(ctx) for ctx in contexts]
        for copy in self._data:
            copy._node = None
            self._mark(copy)

    # --- Reading and writing ----------------------------------------------------------------------

    def data(self, ctx=None):
        """The array on `ctx`, or the only one; always the same object.

        Raises DeferredInitializationError before the first batch has told the shape, RuntimeError
        before `initialize` and for a context it was not initialized on.
        """
        found = self._data
        if found is not None and len(found) == 1 and (ctx is None or found[0]._ctx == ctx):
            return found[0]
        return self._on(ctx)

    def _on(self, ctx):
        self._check_initialized()
        ctx = current_context() if ctx is None else ctx
        for data in self._data:
            if data._ctx == ctx:
                return data
        raise RuntimeError(
            f"Parameter '{self.name}' was not initialized on context {ctx}. "
            f"It was only initialized on {self.list_ctx()}."
        )

    def _check_initialized(self):
        if self._data is not None:
            return
        if self._deferred_init is not None:
            raise DeferredInitializationError(
                f"Parameter '{self.name}' has not been initialized yet because initialization was "
                f"deferred: its shape {self._shape} is not known before the first batch has gone "
                "through the network. Call the network once, or give all sizes when making the layer"
            )
        raise RuntimeError(
            f"Parameter '{self.name}' has not been initialized. Call initialize() on the block, or "
            "on block.collect_params(), before using it; the parameters of blocks that are not "
            "registered as children are not among them"
        )

    def grad(self, ctx=None):
        """The gradient on `ctx`, or the only one; always the same object."""
        data = self.data(ctx)
        if self._grad_req == "null":
            raise RuntimeError(
                f"Cannot get gradient array for Parameter '{self.name}' because grad_req='null'"
            )
        return data.grad

    # --- Reading and writing ----------------------------------------------------------------------

    def list_data(self):
        """The arrays on all contexts."""
        self._check_initialized()
        return list(self._data)

    def list_grad(self):
        """The gradients on all contexts."""
        return [self.grad(data._ctx) for data in self.list_data()]

    def list_ctx(self):
        """The contexts that this parameter is on, or will be."""
        if self._data is None and self._deferred_init is not None:
            return self._deferred_init[1]
        self._check_initialized()
        return [data._ctx for data in self._data]

    def set_data(self, data):
        """Write `data` into the arrays on all contexts."""
        self.shape = data.shape
        if self._data is None:
            if self._deferred_init is None:
                self._check_initialized()
            self._deferred_init = (*self._deferred_init[:2], nd.array(data, cpu(), self._dtype))
            return
        for own in self._data:
            own[:] = data.astype(own.dtype) if isinstance(data, NDArray) else data

    def zero_grad(self):
        """Set the gradients on all contexts to 0."""
        if self._data is not None and self._grad_req != "null":
            for g in self.list_grad():
                g[:] = 0

    def reset_ctx(self, ctx):
        """Move to other contexts."""
        contexts = as_contexts(ctx)
        if self._data is not None:
            self._place(self._data[0].detach(), contexts)
        elif self._deferred_init is not None:
            init, _, data = self._deferred_init
            self._deferred_init = (init, contexts, data)
        else:
            raise ValueError(f"Cannot reset context for Parameter '{self.name}': not initialized")

    def cast(self, dtype):
        """Convert numbers and gradients to another type."""
        self._dtype = real_dtype(dtype).type
        if self._data is not None:
            for data in self._data:
                data._data = data._data.astype(self._dtype)
                self._mark(data)


# --- Initialization -------------------------------------------------------------------------------


def as_contexts(ctx):
    """A list of contexts from one, several or None."""
    if ctx is None:
        return [current_context()]
    return [ctx] if isinstance(ctx, Context) else list(ctx)


def fill(name, data, own, default):
    """Fill `data` by its own initializer, whatever its name, or by the default one."""
    attrs = {} if own is None else {"__init__": own}
    default = initializer.create(default)
    default(initializer.InitDesc(name, attrs, default), data)


# --- Reading and writing --------------------------------------------------------------------------


class Constant(Parameter):
    """A named array that is not learnt."""

    def __init__(self, name, value):
        value = value if isinstance(value, NDArray) else nd.array(value)
        self.value = value
        super().__init__(
            name,
            "null",
            value.shape,
            value.dtype,
            init=initializer.Constant(value),
            differentiable=False,
        )

    def __repr__(self):
        return f"Constant {self.name} (shape={self.shape}, dtype={self.dtype})"


# --- Dictionaries of parameters -------------------------------------------------------------------


class ParameterDict:
    """Parameters by name. `get` makes those that are missing; `shared` is asked first."""

    def __init__(self, prefix="", shared=None):
        self._prefix, self._params, self._shared = prefix, {}, shared

    @property
    def prefix(self):
        """What the names begin with."""
        return self._prefix

    def __getitem__(self, key):
        return self._params[key]

    def __iter__(self):
        return iter(self._params)

    def __len__(self):
        return len(self._params)

    def __contains__(self, key):
        return key in self._params

    def items(self):
        return self._params.items()

    def keys(self):
        return self._params.keys()

    def values(self):
        return self._params.values()

    def __repr__(self):
        name = self._prefix + " " if self._prefix else ""
        return f"{name}(\n" + "\n".join(f"  {p!r}" for p in self.values()) + "\n)"

    # --- Dictionaries of parameters ---------------------------------------------------------------

    def get(self, name, **kwargs):
        """The parameter `prefix + name`; made from `kwargs` if there is none.

        An existing one must agree with `kwargs`, where both know; else AssertionError.
        """
        name = self.prefix + name
        found = self._find(name)
        if found is None:
            found = self._params[name] = Parameter(name, **kwargs)
        else:
            for key, value in kwargs.items():
                agree(found, key, value)
        return found

    def get_constant(self, name, value=None):
        """The constant `prefix + name`; made from `value` if there is none."""
        name = self.prefix + name
        found = self._find(name)
        if found is None:
            if value is None:
                raise KeyError(f"No constant named '{name}': give its value to make it")
            found = self._params[name] = Constant(name, value)
        elif value is not None:
            assert isinstance(found, Constant), f"Parameter '{name}' exists and is no Constant"
            assert np.array_equal(nd.array(value).asnumpy(), found.value.asnumpy()), (
                f"Constant '{name}' exists with other values"
            )
        return found

    def _find(self, name):
        """The parameter of that full name, here or in the shared dictionary."""
        if name not in self._params and self._shared is not None and name in self._shared._params:
            self._params[name] = self._shared._params[name]
        return self._params.get(name)

    # --- Dictionaries of parameters ---------------------------------------------------------------

    def update(self, other):
        """Take in the parameters of another dictionary; two of one name must be the same object."""
        for name, parameter in other.items():
            assert self._params.get(name, parameter) is parameter, (
                f"Cannot update self with other because they have different Parameters with the same "
                f"name '{name}'"
            )
            self._params[name] = parameter

    def initialize(self, init=None, ctx=None, verbose=False, force_reinit=False):
        """Initialize all parameters."""
        default = initializer.Uniform() if init is None else initializer.create(init)
        for parameter in self.values():
            parameter.initialize(None, ctx, default, force_reinit)

    def zero_grad(self):
        """Set all gradients to 0."""
        for parameter in self.values():
            parameter.zero_grad()

    def reset_ctx(self, ctx):
        """Move all parameters to other contexts."""
        for parameter in self.values():
            parameter.reset_ctx(ctx)

    def list_ctx(self):
        """All contexts on which there is a parameter."""
        return list(dict.fromkeys(ctx for p in self.values() for ctx in p.list_ctx()))

    def setattr(self, name, value):
        """Set an attribute of all parameters, as in `setattr('grad_req', 'null')`."""
        for parameter in self.values():
            setattr(parameter, name, value)


def agree(parameter, key, value):
    """Check an argument of `get` against an existing parameter, and learn a shape from it."""
    if key == "shape" and value is not None:
        value = (value,) if isinstance(value, int) else tuple(value)
        old = parameter.shape
        if old is not None and len(old) == len(value):
            value = tuple(b or a for a, b in zip(old, value))
        parameter.shape = value
    elif key == "dtype":
        assert real_dtype(value).type is parameter.dtype, (
            f"Cannot retrieve Parameter '{parameter.name}': it has dtype {parameter.dtype}, not {value}"
        )
    elif getattr(parameter, key, None) is None:
        setattr(parameter, key, value)
    else:
        assert value is None or getattr(parameter, key, value) == value, (
            f"Cannot retrieve Parameter '{parameter.name}' because desired attribute does not match "
            f"with stored for attribute '{key}': desired {value!r} vs stored {getattr(parameter, key)!r}"
        )
