"""A parameter is a named array that knows how to come into being, on as many devices as are asked for."""

# Written from chapters/31_parameter.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import warnings
from collections import OrderedDict
from operator import index

import numpy as np

import minigluon.ndarray as nd
from minigluon import autograd, initializer
from minigluon.base import MXNetError
from minigluon.context import Context, cpu, current_context
from minigluon.ndarray.ndarray import NDArray, real_dtype
from minigluon.numpy.scope import as_asked, is_np_shape, new_array
from minigluon.symbol.symbol import Symbol

__all__ = [
    "Constant",
    "DeferredInitializationError",
    "Parameter",
    "ParameterDict",
    "agree",
    "as_contexts",
    "brief",
    "checked",
    "fill",
    "fits",
    "known",
    "noted",
    "reduced",
    "tensor_types",
]


tensor_types = (Symbol, NDArray)  # what a layer may be called with


# --- Shapes ---------------------------------------------------------------------------------------


class DeferredInitializationError(MXNetError):
    """A parameter was read before the first batch has told its shape."""


def known(shape):
    """Whether all sizes of a shape are known."""
    return shape is not None and all(n > 0 for n in shape)


def noted(shape):
    """A shape as it is kept, unknown sizes as 0; with NumPy's shapes a program writes them -1."""
    if not shape:
        return shape
    sizes = tuple(map(index, shape))  # NumPy's whole numbers as Python's
    return tuple(0 if n == -1 else n for n in sizes) if is_np_shape() else sizes


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
        dtype=np.float32,
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
                f"{kind} for Parameter '{name}' must be one of 'default', 'row_sparse', or 'csr', "
                f"but got '{given}'"
            )
        self.name, self.lr_mult, self.wd_mult, self.init = name, lr_mult, wd_mult, init
        self._shape = noted((shape,) if isinstance(shape, int | np.integer) else shape)
        self._dtype = checked(dtype)
        self._allow_deferred_init, self._differentiable = allow_deferred_init, differentiable
        self._data, self._deferred_init, self._grad_req, self._trainer = None, None, None, None
        self._var = None
        self._stype, self._grad_stype = stype, grad_stype
        self.grad_req = grad_req

    def __repr__(self):
        return f"Parameter {self.name} (shape={self.shape}, dtype={self.dtype})"

    # --- The parameter ----------------------------------------------------------------------------

    @property
    def shape(self):
        """Sizes; 0 for those not known yet, -1 with NumPy's shapes."""
        if self._shape and 0 in self._shape and is_np_shape():
            return tuple(n or -1 for n in self._shape)
        return self._shape

    @shape.setter
    def shape(self, new):
        new = noted(new)
        assert self._shape is None or fits(self._shape, new), (
            f"Expected shape {tuple(new)} is incompatible with given shape {self._shape}."
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
        req = req if self._differentiable else "null"
        if req == self._grad_req:
            return
        self._grad_req = req
        for data in self._data or ():
            self._mark(data)

    def _mark(self, data):
        """Make `data` a variable, or an ordinary array if it is to have no gradient."""
        data._node = None
        if self._grad_req != "null":
            data.attach_grad(self._grad_req, self._grad_stype)

    def __setstate__(self, state):
        """From a pickle or a copy, whose arrays are without gradients: make them variables again."""
        vars(self).update(state)
        self._init_grad()

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
        assert all(n >= 0 for n in self._shape or ()), (
            f"shape dimension size cannot be less than 0, while received {min(self._shape)}"
        )
        if known(self._shape):
            self._deferred_init = (init, contexts, None)
            self._finish_deferred_init()
        elif self._allow_deferred_init:
            self._data, self._deferred_init = None, (init, contexts, None)
        else:
            raise ValueError(
                f"Cannot initialize Parameter '{self.name}' because it has invalid shape: "
                f"{self.shape}. Give all sizes, or allow_deferred_init=True"
            )

    # Making the arrays.

    def _finish_deferred_init(self):
        """Make the arrays that `initialize` has asked for, now that the shape is known."""
        if self._deferred_init is None:
            return
        (own, default), contexts, data = self._deferred_init
        assert known(self._shape), (
            f"Cannot initialize Parameter '{self.name}' because it has invalid shape: {self.shape}"
        )
        if data is None:
            with autograd.pause():
                data = nd.zeros(self._shape, contexts[0], self._dtype)
                fill(self.name, data, own, default)
        self._deferred_init = None
        self._init_impl(data, contexts)

    def _init_impl(self, data, contexts):
        """Keep a copy of `data` on each context: the one place where arrays are made,
        which tools like to wrap.
        """
        if data.stype != self._stype:
            data = data.tostype(self._stype)
        self._data = [data.copyto(ctx) for ctx in contexts]
        if self._stype == "default":
            self._data = [as_asked(copy) for copy in self._data]
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
        if self._stype != "default":
            self._refuse_sparse(f"a copy of Parameter '{self.name}' on ctx {ctx} via data()")
        if found is not None and len(found) == 1 and (ctx is None or found[0]._ctx == ctx):
            return found[0]
        return self._on(ctx)

    def _on(self, ctx):
        return self._check_and_get(self._data, ctx)

    def _check_and_get(self, arrays, ctx):
        """Of `arrays`, one a context, that on `ctx`; all of them if `ctx` is `list`, or a list."""
        self._check_initialized()
        if ctx is list or isinstance(ctx, list):
            return arrays
        if ctx is None:
            ctx = self._data[0]._ctx if len(self._data) == 1 else current_context()
        # Types 1, 3 and 5 are memory of the CPU: plain, pinned and shared.
        host = ctx.device_typeid % 2, ctx.device_id
        for data, found in zip(self._data, arrays):
            if (data._ctx.device_typeid % 2, data._ctx.device_id) == host:
                return found
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
        data = self._on(ctx)
        if self._grad_req == "null":
            raise RuntimeError(
                f"Cannot get gradient array for Parameter '{self.name}' because grad_req='null'"
            )
        return data.grad

    @property
    def _grad(self):
        """The gradients, one a context; None where there are none."""
        absent = self._data is None or self._grad_req == "null"
        return None if absent else [data.grad for data in self._data]

    @_grad.setter
    def _grad(self, grads):
        for data, grad in zip(self._data or (), grads or ()):
            if data.grad is not grad:
                autograd.mark_variables([data], [grad], self._grad_req)

    @property
    def _ctx_list(self):
        """The contexts of the arrays; None before there are any."""
        return None if self._data is None else [data._ctx for data in self._data]

    @_ctx_list.setter
    def _ctx_list(self, contexts):
        if contexts is not None and contexts != self._ctx_list:
            self.reset_ctx(contexts)

    @property
    def _ctx_map(self):
        """For each of two kinds of device, by its number, which of the arrays is there."""
        places = [[], []]
        for i, ctx in enumerate(self._ctx_list or ()):
            kind = places[ctx.device_typeid & 1]
            kind += [None] * (ctx.device_id + 1 - len(kind))
            kind[ctx.device_id] = i
        return places

    @_ctx_map.setter
    def _ctx_map(self, places):
        """It follows from the contexts: nothing is left to set."""

    def _init_grad(self):
        """Make the gradients anew, zeros."""
        for data in self._data or ():
            self._mark(data)

    def _reduce(self):
        """The numbers on the CPU, the mean over the contexts."""
        return reduced(self)

    def var(self):
        """The symbol of this parameter; a later chapter says how it is made."""
        return importlib.import_module("minigluon.gluon.block").variable_of(self)

    def list_data(self):
        """The arrays on all contexts."""
        if self._stype != "default":
            name = self.name
            self._refuse_sparse(f"copies of Parameter '{name}' on all contexts via list_data()")
        self._check_initialized()
        return list(self._data)

    def list_grad(self):
        """The gradients on all contexts."""
        self._check_initialized()
        return [self.grad(data._ctx) for data in self._data]

    def list_ctx(self):
        """The contexts that this parameter is on, or will be."""
        if self._data is None and self._deferred_init is not None:
            return self._deferred_init[1]
        if self._data is None:
            raise RuntimeError(f"Parameter '{self.name}' has not been initialized")
        return [data._ctx for data in self._data]

    def set_data(self, data):
        """Write `data` into the arrays on all contexts."""
        self.shape = data.shape
        if self._data is None:
            assert self._deferred_init, f"Parameter '{self.name}' has not been initialized"
            self._deferred_init = (*self._deferred_init[:2], nd.array(data, cpu(), self._dtype))
            return
        if self._trainer is not None:
            self._trainer._forget(self)
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
            self._init_impl(self._newest(), contexts)
        elif self._deferred_init is not None:
            init, _, data = self._deferred_init
            self._deferred_init = (init, contexts, data)
        else:
            raise ValueError(
                f"Cannot reset context for Parameter '{self.name}' because it has not been initialized."
            )

    def cast(self, dtype):
        """Convert numbers and gradients to another type."""
        self._dtype, self._var = checked(dtype), None
        if self._data is not None:
            self._init_impl(self._newest().astype(self._dtype), self.list_ctx())

    def row_sparse_data(self, row_id):
        """The rows `row_id` of a row-sparse parameter, on the context of `row_id`; the others are 0."""
        if self._stype != "row_sparse":
            raise RuntimeError(
                f"Cannot return a copy of Parameter {self.name} via row_sparse_data() because its "
                f"storage type is {self._stype}. Please use data() instead."
            )
        return self._rows(row_id, everywhere=False)[0]

    def list_row_sparse_data(self, row_id):
        """The same rows on all contexts."""
        if self._stype != "row_sparse":
            raise RuntimeError(
                f"Cannot return copies of Parameter '{self.name}' on all contexts via "
                f"list_row_sparse_data() because its storage type is {self._stype}. Please use "
                "data() instead."
            )
        return self._rows(row_id, everywhere=True)

    def _rows(self, row_id, everywhere):
        if not isinstance(row_id, NDArray):
            raise TypeError(f"row_id must have NDArray type, but {type(row_id)} is given")
        if self._trainer is None:
            raise RuntimeError(
                f"Cannot get row_sparse data for Parameter '{self.name}' when no Trainer is created "
                "with it."
            )
        contexts = self.list_ctx() if everywhere else [row_id.context]
        return [self._pulled(self._on(ctx), row_id) for ctx in contexts]

    def _pulled(self, data, row_id):
        """Rows where the trainer keeps them; to the tape they are the variable `data`."""
        rows, whole = (
            nd.sparse.zeros("row_sparse", self._shape, data._ctx, data.dtype),
            row_id is None,
        )
        row_id = nd.arange(self._shape[0], dtype="int64") if whole else row_id
        self._trainer._row_sparse_pull(self, rows, row_id, full_idx=whole)
        rows._node = data._node
        return rows

    # Row-sparse: what is not handed out.

    def _newest(self):
        """The numbers, without a history; rows are where the trainer keeps them, if there is one."""
        if self._stype == "default" or self._trainer is None:
            return self._data[0].detach()
        return self._pulled(self._data[0], None).detach()

    def _refuse_sparse(self, what):
        raise RuntimeError(
            f"Cannot return {what} because its storage type is {self._stype}. Please use "
            "row_sparse_data() instead."
        )

    def _set_trainer(self, trainer):
        """Note who updates this parameter; a row-sparse one has a single trainer."""
        if self._stype != "default" and self._trainer and trainer and self._trainer is not trainer:
            raise RuntimeError(
                f"Failed to set the trainer for Parameter '{self.name}' because it was already set. "
                "More than one trainers for a row_sparse Parameter is not supported."
            )
        self._trainer = trainer

    # --- Reading and writing ----------------------------------------------------------------------

    def _load_init(self, data, ctx, cast_dtype=False, dtype_source="current"):
        """Take the numbers of a file, on `ctx` or where the parameter is, or was to be.

        With `cast_dtype` their type may differ: that of the parameter ('current') or of the file
        ('saved') wins. AssertionError if shape, type or contexts do not fit.
        """
        failed = f"Failed loading Parameter '{self.name}' from saved params:"
        if self._shape is not None:
            assert fits(self._shape, data.shape), (
                f"{failed} shape incompatible expected {self._shape} vs saved {data.shape}"
            )
        self._shape = tuple(data.shape)
        if cast_dtype:
            assert dtype_source in ("current", "saved"), (
                f"dtype_source is 'current' or 'saved', not {dtype_source!r}"
            )
            if dtype_source == "saved" and np.dtype(self._dtype) != data.dtype:
                self.cast(data.dtype)
            data = data.astype(self._dtype)
        assert np.dtype(self._dtype) == data.dtype, (
            f"{failed} dtype incompatible expected {self._dtype} vs saved {data.dtype}. "
            "Set cast_dtype=True to cast the dtype of saved params."
        )
        self._place_loaded(data, None if ctx is None else as_contexts(ctx))

    def _place_loaded(self, data, contexts):
        if self._data is None and self._deferred_init is None:
            self._init_impl(data, contexts or [cpu()])
            return
        own = self.list_ctx()
        assert contexts is None or set(contexts) == set(own), (
            f"Failed to load Parameter '{self.name}' on {contexts} because it was previous "
            f"initialized on {own}."
        )
        if self._data is None:
            self._init_impl(data, own)
        else:
            self.set_data(data)
        self._deferred_init = None


def checked(dtype):
    """`dtype` as it was given; TypeError if numbers cannot have it."""
    real_dtype(dtype)
    return np.float32 if dtype is None else dtype


# --- Initialization -------------------------------------------------------------------------------


def as_contexts(ctx):
    """A list of contexts from one, several or None."""
    if ctx is None:
        return [current_context()]
    return [ctx] if isinstance(ctx, Context) else list(ctx)


def fill(name, data, own, default):
    """Fill `data` by its own initializer or by the default one, whatever its name.

    Those that are no `Initializer`, as `Mixed` and `Load`, go by the name."""
    default = initializer.create(default)
    own = default if own is None and isinstance(default, initializer.Initializer) else own
    attrs = {} if own is None else {"__init__": own}
    default(initializer.InitDesc(name, attrs, default), data)


# --- Reading and writing --------------------------------------------------------------------------


class Constant(Parameter):
    """A named array that is not learnt."""

    def __init__(self, name, value):
        value = value if isinstance(value, NDArray) else new_array(value)
        self.value = value
        super().__init__(
            name,
            "null",
            value.shape,
            value.dtype,
            init=initializer.Constant(value),
            differentiable=False,
        )

    @property
    def grad_req(self):
        """Always 'null'; setting another one is told and ignored."""
        return "null"

    @grad_req.setter
    def grad_req(self, req):
        self._grad_req = "null"
        if req != "null":
            warnings.warn(
                f'Constant parameter "{self.name}" does not support grad_req other than "null", and '
                f'new value "{req}" is ignored.',
                stacklevel=2,
            )

    def __repr__(self):
        return f"Constant {self.name} (shape={self.shape}, dtype={self.dtype})"


# --- Dictionaries of parameters -------------------------------------------------------------------


class ParameterDict:
    """Parameters by name. `get` makes those that are missing; `shared` is asked first."""

    def __init__(self, prefix="", shared=None):
        self._prefix, self._params, self._shared = prefix, OrderedDict(), shared

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
                raise KeyError(
                    f"No constant named '{name}'. Please specify value if you want to create a new "
                    "constant."
                )
            found = self._params[name] = Constant(name, value)
        elif value is not None:
            assert isinstance(found, Constant), (
                f"Parameter '{name}' already exists but it is not a constant."
            )
            assert np.array_equal(nd.array(value).asnumpy(), found.value.asnumpy()), (
                f"Constant '{name}' exists with other values"
            )
        return found

    def _find(self, name):
        """The parameter of that full name, here or in the shared dictionary."""
        if name not in self._params and self._shared is not None and name in self._shared._params:
            self._params[name] = self._shared._params[name]
        return self._params.get(name)

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

    # --- Files ------------------------------------------------------------------------------------

    def save(self, filename, strip_prefix=""):
        """Write all parameters to a file; their names lose `strip_prefix`, which all must have."""
        arrays = {}
        for parameter in self.values():
            name = parameter.name
            if not name.startswith(strip_prefix):
                raise ValueError(
                    f"Prefix '{strip_prefix}' is to be striped before saving, but Parameter's name "
                    f"'{name}' does not start with '{strip_prefix}'. The block may share parameters "
                    "of other blocks, or its children were made outside of its name_scope()"
                )
            arrays[name[len(strip_prefix) :]] = reduced(parameter)
        nd.save(filename, arrays)

    def load(
        self,
        filename,
        ctx=None,
        allow_missing=False,
        ignore_extra=False,
        restore_prefix="",
        cast_dtype=False,
        dtype_source="current",
    ):
        """Read the parameters from a file, whose names get `restore_prefix` in front."""
        for name in self.keys() if restore_prefix else ():
            assert name.startswith(restore_prefix), (
                f"restore_prefix is '{restore_prefix}' but Parameters name '{name}' does not start "
                f"with '{restore_prefix}'."
            )
        found = nd.load(filename) or {}  # a file of no arrays does not tell what names they have
        if not isinstance(found, dict):
            raise ValueError(f"{filename} holds arrays without names: nothing tells whose they are")
        arrays = {restore_prefix + name: a for name, a in found.items()}
        rest = cast_dtype, dtype_source
        self.load_dict(arrays, ctx, allow_missing, ignore_extra, restore_prefix, filename, *rest)

    def load_dict(
        self,
        param_dict,
        ctx=None,
        allow_missing=False,
        ignore_extra=False,
        restore_prefix="",
        filename=None,
        cast_dtype=False,
        dtype_source="current",
    ):
        """Take the parameters from a dictionary of arrays.

        AssertionError for a parameter that is missing there, unless `allow_missing`, and for an array
        too many, unless `ignore_extra`.
        """
        where = f"file: {filename}" if filename else "param_dict"
        arrays = {n[4:] if n[:4] in ("arg:", "aux:") else n: a for n, a in param_dict.items()}
        cut = len(restore_prefix)
        for name in () if allow_missing else self.keys():
            assert name in arrays, (
                f"Parameter '{name[cut:]}' is missing in {where}, which contains parameters: "
                f"{brief(n[cut:] for n in arrays)}. Please make sure source and target networks have "
                "the same prefix."
            )
        for name, array in arrays.items():
            if name in self._params:
                self[name]._load_init(array, ctx, cast_dtype, dtype_source)
                continue
            assert ignore_extra, (
                f"Parameter '{name[cut:]}' loaded from {where} is not present in ParameterDict, "
                f"choices are: {brief(self.keys())}. Set ignore_extra to True to ignore. Please make "
                "sure source and target networks have the same prefix."
            )


def agree(parameter, key, value):
    """Check an argument of `get` against an existing parameter, and learn a shape from it."""
    if getattr(parameter, key, None) is None:
        setattr(parameter, key, value)
        return
    stored, fine = getattr(parameter, key), value is None
    if key == "shape" and not fine:
        value, stored = noted((value,) if isinstance(value, int) else value), parameter._shape
        if len(stored) == len(value) and all(b in (0, a) or a == 0 for a, b in zip(stored, value)):
            parameter._shape, fine = tuple(b or a for a, b in zip(stored, value)), True
    elif key == "dtype" and not fine:
        fine = np.dtype(value) == np.dtype(stored)
    assert fine or value == stored, (
        f"Cannot retrieve Parameter '{parameter.name}' because desired attribute does not match with "
        f"stored for attribute '{key}': desired '{value}' vs stored '{stored}'."
    )


# --- Files ----------------------------------------------------------------------------------------


def reduced(parameter):
    """The numbers of a parameter on the host, the mean over its contexts."""
    parameter._check_initialized()
    if len(parameter._data) == 1 or parameter._stype != "default":
        return parameter._newest().as_in_context(cpu())
    copies = [a.detach().copyto(cpu()) for a in parameter._data]
    return nd.add_n(*copies) / len(copies)


def brief(names):
    """Names in quotes; of many the first and the last five."""
    names = [f"'{n}'" for n in names]
    return ", ".join(names if len(names) <= 10 else [*names[:5], "...", *names[-5:]])
