"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import autograd
from minigluon.base import MXNetError
from minigluon.context import current_context
from minigluon.ndarray.ndarray import NDArray, place, zeros
from minigluon.symbol.symbol import Symbol, complete, in_order

__all__ = [
    "Executor",
    "Symbol",
    "bind",
    "by_name",
    "evaluate",
    "requests",
    "resized",
    "run",
    "simple_bind",
    "tell",
]


# --- Running --------------------------------------------------------------------------------------


def run(entries, values, ctx, hooks=()):
    """The values of `entries`, NDArrays, from those of the variables, {name: NDArray}.

    `hooks` are pairs (callback, whether it hears of inputs too), called as in `register_op_hook`.
    """
    made = {}
    for node in in_order(entries):
        if node.op is None:
            made[node] = [values[node.name]]
            continue
        inputs = [made[a[0]][a[1]] if type(a) is tuple else a for a in node.inputs]
        out = node.op(*inputs, **node.settings)
        parts = list(out) if isinstance(out, list | tuple) else [out]
        made[node] = [p if isinstance(p, NDArray) else place(p, ctx) for p in parts]
        for callback, inputs_too in hooks:
            tell(callback, node, inputs if inputs_too else (), made[node])
    return [made[node][i] for node, i in entries]


def tell(callback, node, inputs, outputs):
    """Call `callback(name, operator, array)` for the arrays of one call."""
    several = node.op.most > len(node.op.arrays)
    for i, a in enumerate(inputs):
        if isinstance(a, NDArray):
            name = f"arg{i}" if several else node.op.arrays[i]
            callback(f"{node.name}_{name}", node.called, a)
    for name, a in zip(node.outputs, outputs):
        callback(name, node.called, a)


# --- Binding --------------------------------------------------------------------------------------


class Executor:
    """A graph bound to arrays on a device: run `forward`, then `backward`.

    `arg_dict`, `grad_dict`, `aux_dict` and `output_dict` hold the arrays by name.
    """

    def __init__(self, symbol, ctx, args, grads, grad_req, states):
        self._symbol, self._ctx, self.outputs = symbol, ctx, []
        self.arg_dict, self.grad_dict, self.aux_dict = args, grads, states
        self._grad_req = grad_req

    arg_arrays = property(lambda self: list(self.arg_dict.values()), doc="Arguments, in order.")
    grad_arrays = property(
        lambda self: [self.grad_dict.get(name) for name in self.arg_dict],
        doc="Gradients in the order of the arguments; None where there is none.",
    )
    aux_arrays = property(lambda self: list(self.aux_dict.values()), doc="Auxiliary states.")
    output_dict = property(
        lambda self: dict(zip(self._symbol.list_outputs(), self.outputs)),
        doc="{name: output} of the last forward.",
    )

    def forward(self, is_train=False, **kwargs):
        """Run the graph, after writing `kwargs` into the arguments of these names."""
        for name, value in kwargs.items():
            if name not in self.arg_dict:
                raise TypeError(f"Unknown argument {name}: there are {', '.join(self.arg_dict)}")
            self.arg_dict[name][:] = value
        own = {name: a.detach() for name, a in {**self.arg_dict, **self.aux_dict}.items()}
        wanted = [
            n for n, g in self.grad_dict.items() if g is not None and self._grad_req[n] != "null"
        ]
        autograd.mark_variables(
            [own[n] for n in wanted],
            [self.grad_dict[n] for n in wanted],
            [self._grad_req[n] for n in wanted],
        )
        with autograd.Scope(bool(is_train and wanted), bool(is_train)):
            self.outputs = run(self._symbol._entries, own, self._ctx)
        return self.outputs

    def backward(self, out_grads=None, is_train=True):
        """Write the gradients of the last `forward(is_train=True)`; heads are ones by default."""
        if not self.outputs:
            raise MXNetError("backward: call forward(is_train=True) first")
        if isinstance(out_grads, dict):
            out_grads = [out_grads[name] for name in self._symbol.list_outputs()]
        elif isinstance(out_grads, NDArray):
            out_grads = [out_grads]
        autograd.backward(self.outputs, out_grads, train_mode=is_train)

    # --- Binding ----------------------------------------------------------------------------------

    def copy_params_from(self, arg_params, aux_params=None, allow_extra_params=False):
        """Write arrays into the arguments and states of their names."""
        for own, new in ((self.arg_dict, arg_params), (self.aux_dict, aux_params or {})):
            extra = new.keys() - own.keys()
            if extra and not allow_extra_params:
                raise ValueError(f"Find names {sorted(extra)} that are not in the arguments")
            for name in new.keys() & own.keys():
                own[name][:] = new[name].astype(own[name].dtype)

    def reshape(self, partial_shaping=False, allow_up_sizing=False, **kwargs):
        """A new executor for other shapes of the inputs; arrays whose shape stays are shared."""
        found = self._symbol.infer_shape(**kwargs)
        names = self._symbol.list_arguments(), self._symbol.list_auxiliary_states()
        args = resized(self.arg_dict, names[0], found[0], self._ctx)
        grads = resized(
            self.grad_dict,
            [n for n in names[0] if n in self.grad_dict],
            found[0],
            self._ctx,
            names[0],
        )
        states = resized(self.aux_dict, names[1], found[2], self._ctx)
        return Executor(self._symbol, self._ctx, args, grads, self._grad_req, states)


def resized(arrays, names, shapes, ctx, order=None):
    """{name: array} of these shapes, the old array where its shape is right."""
    shape_of = dict(zip(order or names, shapes))
    return {
        n: a
        if (a := arrays[n]) is None or a.shape == shape_of[n]
        else zeros(shape_of[n], ctx, a.dtype)
        for n in names
    }


def by_name(names, given, what, partial=False):
    """{name: value} of a list or a dictionary."""
    if isinstance(given, dict):
        for name in names:
            if name not in given and not partial:
                raise ValueError(f"key `{name}` is missing in `{what}`")
        return {name: given[name] for name in names if name in given}
    given = list(given)
    if len(given) != len(names):
        raise ValueError(f"Length of {what} does not match the number of arguments: {names}")
    return dict(zip(names, given))


def requests(names, grad_req):
    """{name: 'write', 'add' or 'null'} of one for all, a list, or a dictionary; 'null' by default."""
    if isinstance(grad_req, str):
        return dict.fromkeys(names, grad_req)
    return {**dict.fromkeys(names, "null"), **by_name(names, grad_req, "grad_req", True)}


def bind(self, ctx, args, args_grad=None, grad_req="write", aux_states=None, **_):
    """An Executor of this graph on `args`: a list in the order of `list_arguments`, or a dict."""
    names, states = self.list_arguments(), self.list_auxiliary_states()
    args = by_name(names, args, "args")
    for name, a in args.items():
        if not isinstance(a, NDArray):
            raise TypeError(f"bind: argument {name} must be an NDArray, not {type(a).__name__}")
    grads = by_name(names, args_grad or {}, "args_grad", partial=True)
    reqs = requests(names, grad_req)
    return Executor(self, ctx, args, grads, reqs, by_name(states, aux_states or {}, "aux_states"))


def simple_bind(self, ctx, grad_req="write", type_dict=None, stype_dict=None, **kwargs):
    """An Executor on fresh arrays, zeros, whose shapes follow from those that are given."""
    shapes = {k: v for k, v in kwargs.items() if isinstance(v, list | tuple)}
    found = self.infer_shape(**shapes)
    if found[0] is None:
        partial = self.infer_shape_partial(**shapes)[0]
        unknown = [n for n, s in zip(self.list_arguments(), partial) if not complete(s or None)]
        raise MXNetError(f"simple_bind: give the shapes of {', '.join(unknown)}")
    types = type_dict or {}
    names, states = self.list_arguments(), self.list_auxiliary_states()
    args = {n: zeros(s, ctx, types.get(n)) for n, s in zip(names, found[0])}
    aux = {n: zeros(s, ctx, types.get(n)) for n, s in zip(states, found[2])}
    reqs = requests(names, grad_req)
    wanted = [n for n in names if reqs[n] != "null"]
    grads = {n: zeros(args[n].shape, ctx, args[n].dtype) for n in wanted}
    return self.bind(ctx, args, grads, reqs, aux)


def evaluate(self, ctx=None, **kwargs):
    """The outputs, a list of NDArrays, where the variables have the values in `kwargs`."""
    return self.bind(ctx or current_context(), kwargs).forward()


Symbol.bind, Symbol.simple_bind, Symbol.eval = bind, simple_bind, evaluate
