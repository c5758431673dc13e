"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

import math
from itertools import zip_longest

import numpy as np

from minigluon import autograd
from minigluon.base import MXNetError
from minigluon.context import current_context
from minigluon.ndarray import sparse
from minigluon.ndarray.ndarray import NDArray, place, zeros
from minigluon.op import operator
from minigluon.ops.sparse import KEEP
from minigluon.symbol.inference import (
    Facts,
    Inference,
    complete,
    decided,
    draws,
    open_shape,
    types_of,
)
from minigluon.symbol.symbol import Node, Symbol, in_order, states_of, substituted

__all__ = [
    "BACKENDS",
    "BY_NUMBER",
    "CachedOp",
    "Executor",
    "LIKE_INPUT",
    "NAMED",
    "PASSED",
    "STORAGES",
    "Symbol",
    "UNCERTAIN",
    "ZERO_AT_ZERO",
    "asks",
    "bind",
    "by_name",
    "closed",
    "empty_as",
    "evaluate",
    "executor_of",
    "filled",
    "get_backend_symbol",
    "group_of",
    "heard",
    "kept_as",
    "moved_to",
    "optimize_for",
    "overheard",
    "passes",
    "product_storage",
    "renewed",
    "requests",
    "require_shapes",
    "resized",
    "returned_as",
    "run",
    "simple_bind",
    "storage_of",
    "storages",
    "sum_as",
    "tell",
    "the_only",
]


# --- Running --------------------------------------------------------------------------------------


def run(entries, values, ctx, hooks=(), groups=None, backwards=None, order=None):
    """The values of `entries`, NDArrays, from those of the variables, {name: NDArray}.

    `groups`, {ctx_group: device}, says where the nodes of a group compute. `hooks` are pairs
    (callback, whether it hears of inputs too), called as in `register_op_hook`; "variables" stands
    for inputs under the name of the variable as well. `backwards(name, array)` hears of gradients.
    `order` are the nodes `in_order`, where that is known.
    """
    made = {}
    for node in order or in_order(entries):
        if node.op is None:
            made[node] = [values[node.name]]
            continue
        inputs = [made[a[0]][a[1]] if type(a) is tuple else a for a in node.inputs]
        if groups:
            inputs = moved_to(group_of(node, groups, ctx), inputs)
        seen = inputs if backwards is None else overheard(node, inputs, backwards)
        try:
            out = node.op(*seen, **node.settings)
        except MXNetError as error:
            error.args = (f"{node.name}: {error}",)
            raise
        if not isinstance(out, NDArray):  # several, or what an operator without arrays has made
            parts = list(out) if isinstance(out, list | tuple) else [out]
            out = [p if isinstance(p, NDArray) else place(p, ctx) for p in parts]
        made[node] = out if isinstance(out, list) else [out]
        for callback, inputs_too in hooks:
            shown = inputs if inputs_too else ()
            tell(callback, node, shown, made[node], inputs_too == "variables")
    return [made[node][i] for node, i in entries]


@operator(same_dtype=False, listed=False)
def heard(*arrays, tell):
    """The arrays; `tell` is called with the list of their gradients on the way back."""
    found = tuple(a[...] for a in arrays)
    return found if len(found) > 1 else found[0]


@heard.vjp
def _(g, y, *arrays, tell):
    shares = list(g) if isinstance(g, tuple | list) else [g]
    tell(shares)
    return shares


def overheard(node, inputs, callback):
    """The inputs of a call: callback(name, gradient) will hear of theirs,
    under MXNet's names for the outputs of the call's way back.

    Where nobody asked for a gradient it hears of zeros. A sparse one is left alone: it would not
    stay sparse.
    """
    states = states_of(node)
    asked = [
        i
        for i, a in enumerate(inputs)
        if isinstance(a, NDArray) and node.inputs[i][0] not in states
    ]
    tracked = [i for i in asked if inputs[i]._node is not None]
    loud = [i for i in tracked if inputs[i].grad is None or inputs[i].grad.stype == "default"]
    if not loud:
        return inputs

    def tell(gradients):
        told = dict(zip(loud, gradients))
        for number, i in enumerate(asked):
            if i in told or i not in tracked:
                g = told[i] if i in told else autograd.zeros_like(inputs[i])
                of = number if len(asked) > 1 else ""
                g = g if isinstance(g, NDArray) else place(g, None)
                callback(f"{node.name}_backward_output{of}", g)

    made = heard(*[inputs[i] for i in loud], tell=tell)
    made = dict(zip(loud, made if isinstance(made, list) else [made]))
    return [made.get(i, a) for i, a in enumerate(inputs)]


def group_of(node, groups, ctx):
    """The device on which a node computes, or a variable lies: that of its `ctx_group`, else `ctx`."""
    return (groups or {}).get(node.attrs.get("__ctx_group__"), ctx)


def moved_to(ctx, inputs):
    """The inputs of a call on its device; the way there is recorded, as a gradient takes it back."""
    return [a.as_in_context(ctx) if isinstance(a, NDArray) else a for a in inputs]


NAMED = {  # operators of one array whose input MXNet's monitors call by its name; of others it is input0
    *("softmax", "log_softmax", "MakeLoss", "L2Normalization", "Dropout", "squeeze", "diag", "LRN"),
    *("cumsum", "Pooling", "tile", "repeat", "flip", "reverse", "pad", "swapaxes", "split"),
    *("one_hot", "depth_to_space", "space_to_depth", "moments", "GridGenerator", "linalg_det"),
}


def tell(callback, node, inputs, outputs, variables=False):
    """Call `callback(name, operator, array)` for the arrays of one call,
    also under the names of `variables`.
    """
    several = node.op.most > len(node.op.arrays)
    alone = len(node.inputs) == 1 and node.op.most == 1 and node.op.name not in NAMED
    alone |= any(a is not None and type(a) is not tuple for a in node.inputs)  # beside a number
    for i, a in enumerate(inputs):
        if isinstance(a, NDArray):
            if variables and node.inputs[i][0].op is None:
                callback(node.inputs[i][0].name, node.called, a)
            name = "input0" if alone else f"arg{i}" if several else node.op.arrays[i]
            callback(f"{node.name}_{name}", node.called, a)
    for name, a in zip(node.outputs, outputs):
        callback(name, node.called, a)


# --- Binding --------------------------------------------------------------------------------------


def closed(entries, arrays):
    """The graph with the sizes that its calls without arrays leave open,
    from the shapes of its variables.
    """
    nodes = in_order(entries)
    left_open = [node for node in nodes if open_shape(node) is not None]
    if not left_open:
        return entries
    facts = Inference({n: a.shape for n, a in arrays.items()}, {})
    facts.settle(nodes)
    found = {node: facts.shapes.get((node, 0)) for node in left_open}
    made = {node: (node, None) for node in nodes if node.op is None}
    made |= {node: (filled(node, shape), None) for node, shape in found.items() if complete(shape)}
    return substituted(entries, made)


def filled(node, shape):
    """A call without arrays that has the shape `shape`."""
    settings = {**node.op.defaults, **node.settings}
    if "infer_range" in settings:
        steps = -(-shape[0] // int(settings["repeat"]))
        settings |= {"infer_range": False, "stop": settings["start"] + steps * settings["step"]}
    else:
        settings["shape"] = tuple(map(int, shape))
    return Node(node.name, node.op, (), settings, node.attrs, node.called)


def asks(y):
    """Whether a gradient that is wanted depends on the gradient of `y`.

    It does not behind a loss, whose gradient begins there, nor behind operators that have none.
    """
    stack, seen = [y._node], set()
    while stack:
        node = stack.pop()
        if type(node) is autograd.Leaf:
            return True
        if node is None or node in seen:
            continue
        seen.add(node)
        rules = node.op.rules if type(node) is autograd.Node else True
        if rules is None or (rules is not True and not passes(node)):
            continue
        passed = rules if type(rules) is tuple else [True] * len(node.parents)
        stack += [parent for parent, rule in zip(node.parents, passed) if rule is not None]
    return False


def passes(node):
    """Whether the gradients of a recorded call depend on that of its output:
    `asks` of its operator, where that says it.
    """
    told = getattr(node.op, "asks", not node.op.starts)
    return told(**node.settings) if callable(told) else told


def renewed(held, found):
    """The arrays `held`, now with the data and the record of those that were `found`,
    if they are of a kind.
    """
    if held is None or [type(a) for a in held] != [type(a) for a in found]:
        return found
    for a, b in zip(held, found):
        a._data, a._ctx, a._node = b._data, b._ctx, b._node
    return held


class Executor:
    """A graph bound to arrays on a device: run `forward`, then `backward`.

    `arg_dict`, `grad_dict`, `aux_dict` and `output_dict` hold the arrays by name.
    """

    def __init__(self, symbol, ctx, args, grads, grad_req, states, groups=None):
        self._symbol, self._ctx, self._outputs, self._hooks = symbol, ctx, None, ()
        self._mode = None  # of the last `forward`, whether it was for training
        self._groups, self._backwards = groups, None
        self.arg_dict, self.grad_dict, self.aux_dict = args, grads, states
        self._grad_req = grad_req
        self._entries = closed(symbol._entries, {**args, **states})
        self._order = in_order(self._entries)

    @property
    def outputs(self):
        """The outputs, always the same arrays, which each `forward` writes;
        before the first one zeros.
        """
        if self._outputs is None:
            arrays = {**self.arg_dict, **self.aux_dict}
            facts = Facts(
                {n: a.shape for n, a in arrays.items()}, {n: a.dtype for n, a in arrays.items()}
            )
            for node in self._order:
                facts.visit(node)
            kinds = kept_as(self._order, {n: a.stype for n, a in arrays.items()})
            made = [(kinds[e[0]], facts.shapes.get(e), facts.types.get(e)) for e in self._entries]
            self._outputs = [empty_as(k, s, self._ctx, t) for k, s, t in made if s is not None]
        return self._outputs

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

    # --- Binding ----------------------------------------------------------------------------------

    def forward(self, is_train=False, **kwargs):
        """Run the graph, after writing `kwargs` into the arguments of these names."""
        for name, value in kwargs.items():
            if name not in self.arg_dict:
                raise TypeError(f"Unknown argument {name}: there are {', '.join(self.arg_dict)}")
            self.arg_dict[name][:] = value
        own = {name: a.detach() for name, a in {**self.arg_dict, **self.aux_dict}.items()}
        wanted = [n for n, g in self.grad_dict.items() if g is not None]
        wanted = [n for n in wanted if self._grad_req[n] != "null"]
        autograd.mark_variables(
            [own[n] for n in wanted],
            [self.grad_dict[n] for n in wanted],
            [self._grad_req[n] for n in wanted],
        )
        with autograd.Scope(bool(wanted), bool(is_train)):
            settings = self._hooks, self._groups, self._backwards, self._order
            found = run(self._entries, own, self._ctx, *settings)
        self._outputs = renewed(self._outputs, found)
        self._mode = bool(is_train)
        return self._outputs

    def backward(self, out_grads=None, is_train=True):
        """Write the gradients of the last `forward`, from those of the outputs; a loss needs none.

        Runs `forward` on the present arguments if there was none since the last `backward`.
        MXNetError for an output whose gradient is needed and not given.
        """
        if isinstance(out_grads, dict):
            out_grads = [out_grads[name] for name in self._symbol.list_outputs()]
        elif not isinstance(out_grads, list | tuple | None):
            out_grads = [out_grads]
        for g in out_grads or ():
            if not isinstance(g, NDArray | None):
                raise TypeError(f"backward: out_grads are NDArrays, not {type(g).__name__}")
        if self._mode is None or (self._played() and not self._draws()):
            self.forward(True if self._mode is None else self._mode)
        heads = [*zip_longest(self._outputs, (out_grads or ())[: len(self._outputs)])]
        heads = [(y, g if asks(y) else None) for y, g in heads if y._node is not None]
        for y, g in heads:
            if g is None and asks(y):
                raise MXNetError(
                    f"backward: output {self._name_of(y)!r} is no loss, so head_gradient is required "
                    "when calling backward: pass the gradient of every output in out_grads"
                )
        if heads:  # else nothing was bound that wants a gradient
            autograd.backward(*zip(*heads), train_mode=is_train)

    def _name_of(self, y):
        """The name of an output."""
        return next(n for n, o in self.output_dict.items() if o is y)

    def _played(self):
        """Whether a backward pass has used the record of the last `forward` up."""
        return any(y._node is not None and y._node.used for y in self._outputs)

    def _draws(self):
        """Whether the graph draws random numbers."""
        return any(node.op and draws(node.op) for node in self._order)

    def copy_params_from(self, arg_params, aux_params=None, allow_extra_params=False):
        """Write arrays into the arguments and states of their names."""
        for own, new in ((self.arg_dict, arg_params), (self.aux_dict, aux_params or {})):
            extra = new.keys() - own.keys()
            if extra and not allow_extra_params:
                raise ValueError(f"Find names {sorted(extra)} that are not in the arguments")
            for name in new.keys() & own.keys():
                own[name][:] = new[name].astype(own[name].dtype)

    def set_monitor_callback(self, callback, monitor_all=False):
        """Call `callback(name, array)` for each output of a node,
        with `monitor_all` for inputs too; in `backward` for gradients.
        """

        def told(name, operator, array):
            callback(name, array)

        self._hooks = ((told, "variables" if monitor_all else False),)
        self._backwards = callback

    def get_optimized_symbol(self):
        """The graph that runs: the one that was bound."""
        return self._symbol

    def debug_str(self):
        """The calls in order, and how much memory the arrays take."""
        arrays = [*self.arg_dict.values(), *self.aux_dict.values(), *self.outputs]
        arrays += [g for g in self.grad_dict.values() if g is not None]
        size = sum(a.size * a.dtype().itemsize for a in arrays)
        return f"{self._symbol.debug_str()}Total {size // 2**20} MB allocated\n"

    def reshape(self, partial_shaping=False, allow_up_sizing=False, **kwargs):
        """A new executor for other shapes of the inputs, in the memory of this one where it is enough.

        MXNetError, unless `partial_shaping`, if the shape of an argument changes that `kwargs` does not
        name, and unless `allow_up_sizing` if one becomes larger.
        """
        found = self._symbol.infer_shape(**kwargs)
        if found[0] is None:
            raise MXNetError("reshape: insufficient argument shapes provided.")
        shapes = dict(zip(self._symbol.list_arguments(), found[0]))
        states = dict(zip(self._symbol.list_auxiliary_states(), found[2]))
        for name, shape in {**shapes, **states}.items():
            old = {**self.arg_dict, **self.aux_dict}[name]
            if shape != old.shape and name not in kwargs and not partial_shaping:
                raise MXNetError(
                    f"Shape of unspecified arg: {name} changed. This can cause the new executor to not "
                    "share parameters with the old one. Please check for error in network. If this is "
                    "intended, set partial_shaping=True to suppress this warning."
                )
            if math.prod(shape) > old.size and not allow_up_sizing:
                raise MXNetError(
                    f"New shape of arg: {name} larger than original. "
                    "First making a big executor and then "
                    "down sizing it is more efficient than the reverse. If you really want to up size, "
                    "set allow_up_sizing=True."
                )
        parts = [
            {n: a if a is None else resized(a, sizes[n], self._ctx) for n, a in arrays.items()}
            for arrays, sizes in (
                (self.arg_dict, shapes),
                (self.grad_dict, shapes),
                (self.aux_dict, states),
            )
        ]
        found = self._symbol, self._ctx, parts[0], parts[1], self._grad_req, parts[2]
        return Executor(*found, self._groups)


def resized(array, shape, ctx):
    """An array of another shape: the beginning of the same memory,
    or new memory if that is too small.
    """
    if array.shape == shape:
        return array
    size = math.prod(shape)
    if size > array.size:
        return zeros(shape, ctx, array.dtype)
    return NDArray(array._data.reshape(-1)[:size].reshape(shape), ctx)


def by_name(names, given, what, partial=False):
    """{name: value} of a list or a dictionary."""
    if not isinstance(given, dict | list | tuple):
        raise TypeError(f"Only accept list of NDArrays or dict of str to NDArray, not {given!r}")
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
        found = dict.fromkeys(names, grad_req)
    else:
        found = {**dict.fromkeys(names, "null"), **by_name(names, grad_req, "grad_req", True)}
    unknown = {*found.values()} - {"write", "add", "null", "inplace"}
    if unknown:
        raise ValueError(f"grad_req must be 'write', 'add' or 'null', not {unknown.pop()!r}")
    return found


UNCERTAIN = {"Custom", "contrib_boolean_mask", "_foreach", "_while_loop", "_cond"}


def require_shapes(symbol, arrays):
    """MXNetError, which names the node, where the shapes of the arguments do not fit together."""
    nodes = in_order(symbol._entries)
    dense = all(a.stype == "default" and a.size for a in arrays.values())
    if dense and not any(node.op is not None and node.op.name in UNCERTAIN for node in nodes):
        shapes = {name: a.shape for name, a in arrays.items()}
        facts = Facts(shapes, {name: a.dtype for name, a in arrays.items()})
        for node in nodes:
            facts.visit(node)


def bind(
    self,
    ctx,
    args,
    args_grad=None,
    grad_req="write",
    aux_states=None,
    group2ctx=None,
    shared_exec=None,
):
    """An Executor of this graph on `args`: a list in the order of `list_arguments`, or a dict.

    `group2ctx` is {name: device} for the nodes made in `AttrScope(ctx_group=name)`.
    """
    names = self.list_arguments()
    args = by_name(names, args, "args")
    for name, a in args.items():
        if not isinstance(a, NDArray):
            raise TypeError(f"bind: argument {name} must be an NDArray, not {type(a).__name__}")
    require_shapes(self, args)
    return executor_of(self, ctx, args, args_grad, grad_req, aux_states, group2ctx)


def executor_of(self, ctx, args, args_grad, grad_req, aux_states, group2ctx):
    """`bind` of arrays whose shapes are known to fit."""
    names, states = self.list_arguments(), self.list_auxiliary_states()
    if len({*names}) < len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise MXNetError(
            f"bind: two variables have the name {twice!r}: give each a name of its own"
        )
    grads = dict.fromkeys(names) | by_name(names, args_grad or {}, "args_grad", partial=True)
    reqs = requests(names, grad_req)
    states = by_name(states, aux_states or {}, "aux_states")
    return Executor(self, ctx, args, grads, reqs, states, group2ctx)


def simple_bind(
    self,
    ctx,
    grad_req="write",
    type_dict=None,
    stype_dict=None,
    group2ctx=None,
    shared_arg_names=None,
    shared_exec=None,
    shared_buffer=None,
    **kwargs,
):
    """An Executor on fresh arrays, zeros, whose shapes follow from those that are given.

    A variable of a `ctx_group` lies on the device that `group2ctx` names for it; one with a
    storage, of its own or in `stype_dict`, has an array of that storage.
    """
    shapes = {k: v for k, v in kwargs.items() if isinstance(v, list | tuple)}
    found = self.infer_shape_partial(**shapes)
    unknown = [n for n, s in zip(self.list_arguments(), found[0]) if not decided(s)]
    if unknown:
        raise MXNetError(f"simple_bind: give the shapes of {', '.join(unknown)}")
    types = types_of(self._entries, type_dict or {})
    types = {node.name: t for (node, _), t in types.items() if node.op is None}
    at = {n.name: group_of(n, group2ctx, ctx) for n in in_order(self._entries) if n.op is None}
    names, states = self.list_arguments(), self.list_auxiliary_states()
    stored, sparse_grads = storages(self._entries, stype_dict or {})
    args = {n: empty_as(stored.get(n), s, at[n], types.get(n)) for n, s in zip(names, found[0])}
    aux = {n: zeros(s, at[n], types.get(n)) for n, s in zip(states, found[2])}
    reqs = requests(names, grad_req)
    wanted = [n for n in names if reqs[n] != "null"]
    grads = {n: empty_as(sparse_grads.get(n), args[n].shape, at[n], args[n].dtype) for n in wanted}
    return executor_of(self, ctx, args, grads, reqs, aux, group2ctx)


def storages(entries, given):
    """{variable: storage} of the arrays, from `given` or the attributes, and of their gradients."""
    nodes = in_order(entries)
    codes = {n.name: n.attrs.get("__storage_type__") for n in nodes if n.op is None}
    stored = {name: STORAGES.get(code, code) for name, code in codes.items()} | given
    kinds, coming = kept_as(nodes, stored), {node: [] for node in nodes}
    for node, _ in entries:
        coming[node].append(kinds[node])
    for node in reversed(nodes):
        arrays = [a[0] for a in node.inputs if type(a) is tuple]
        g = sum_as(coming[node])
        returned = returned_as(node, [kinds[a] for a in arrays], g) if node.op else ()
        for a, kind in zip(arrays, returned):
            coming[a].append(kind)
    return stored, {n.name: sum_as(coming[n]) for n in nodes if n.op is None}


def kept_as(nodes, stored):
    """{node: storage} of the values in a graph, where variables have the storages `stored`."""
    kinds = {}
    for node in nodes:
        inputs = [kinds[a[0]] for a in node.inputs if type(a) is tuple]
        kinds[node] = storage_of(node, inputs) if node.op else stored.get(node.name) or "default"
    return kinds


def the_only(kinds):
    """The one storage that there is among `kinds`; dense if there are several, or none."""
    return kinds.pop() if len(kinds := {*kinds}) == 1 else "default"


def sum_as(kinds):
    """The storage of a sum of arrays of the storages `kinds`."""
    return "default" if len(kinds) > 1 and "csr" in kinds else the_only(kinds)


ZERO_AT_ZERO = {*KEEP.split(), "zeros_like", "slice", "sparse_retain"}
BY_NUMBER = {"add": 0, "subtract": 0, "multiply": None, "divide": None}


def storage_of(node, kinds):
    """The storage of a call's outputs, from those of its arrays."""
    name, settings, same = node.op.name, node.settings, the_only(kinds)
    if name in ZERO_AT_ZERO or (name in BY_NUMBER and len(kinds) == 1):
        number = node.inputs[1] if len(node.inputs) > 1 else None
        kept = len(kinds) > 1 or name in ZERO_AT_ZERO or BY_NUMBER[name] in (None, number)
        return kinds[0] if kept and type(node.inputs[0]) is tuple else "default"
    if name == "dot":
        return settings.get("forward_stype") or product_storage(settings, *kinds)
    if name == "multiply":  # of few numbers and all
        return the_only({*kinds} - {"default"})
    if name in ("add", "subtract"):
        return "default" if node.called.startswith("broadcast") else same
    if name == "add_n":
        return sum_as(kinds)
    if name == "concat":
        return same if same == "csr" and int(settings.get("dim", 1)) == 0 else "default"
    summed = name == "_square_sum" and settings.get("keepdims")
    return "row_sparse" if summed else "default"


def product_storage(settings, a, b):
    """The storage of a product of matrices."""
    if a == "csr" and settings.get("transpose_a"):
        few = b != "csr" and not settings.get("transpose_b")
        return "row_sparse" if few else "default"
    return "csr" if (a, b) == ("default", "csr") and not settings.get("transpose_a") else "default"


PASSED = {
    "add",
    "subtract",
    "identity",
    "negative",
    "add_n",
}  # the gradient itself, or its negative
LIKE_INPUT = """abs ceil floor relu rint round sign square stop_gradient trunc zeros_like"""


def returned_as(node, kinds, g):
    """The storages of the gradients that a call returns, from that of its output's."""
    name, settings, dense = node.op.name, node.settings, ["default"] * len(kinds)
    if name in PASSED or (name in BY_NUMBER and len(kinds) == 1):
        return [g] * len(kinds)
    if name in LIKE_INPUT.split():
        return [the_only([g, kinds[0]])]
    if name == "_square_sum":
        return ["row_sparse"]
    few = name == "contrib_SparseEmbedding" or settings.get("sparse_grad")  # of an Embedding
    if name == "dot" and (kinds[0], g) == ("csr", "default"):
        few = not settings.get("transpose_a") and not settings.get("transpose_b")
    return ["default", "row_sparse"] if few else dense


STORAGES = {"0": "default", "1": "row_sparse", "2": "csr"}


def empty_as(stype, shape, ctx, dtype):
    """Zeros with a storage."""
    if stype in (None, "default"):
        return zeros(shape, ctx, dtype)
    return sparse.zeros(stype, shape, ctx, dtype)


def evaluate(self, ctx=None, **kwargs):
    """The outputs, a list of NDArrays, where the variables have the values in `kwargs`."""
    return self.bind(ctx or current_context(), kwargs).forward()


Symbol.bind, Symbol.simple_bind, Symbol.eval = bind, simple_bind, evaluate


BACKENDS = ("MKLDNN", "MKLDNN_QUANTIZE")  # of a CPU


def get_backend_symbol(self, backend):
    """The graph for a backend of a CPU: the graph itself; MXNetError for another backend."""
    if backend not in BACKENDS:
        raise MXNetError(
            f"SubgraphProperty {backend} is not found: there are {', '.join(BACKENDS)}"
        )
    return Symbol(self._entries)


def optimize_for(
    self,
    backend,
    args=None,
    aux=None,
    ctx=None,
    shape_dict=None,
    type_dict=None,
    stype_dict=None,
    skip_infer=False,
    **kwargs,
):
    """The graph for a backend: the graph itself, if the shapes of `args`, or in `shape_dict`, fit."""
    if not isinstance(backend, str):
        raise TypeError(f"optimize_for: backend is a name, not {backend!r}")
    named = args if isinstance(args, dict) else dict(zip(self.list_arguments(), args or ()))
    shapes = {name: a.shape for name, a in named.items()} | (shape_dict or {})
    if shapes and not skip_infer:
        self.infer_shape_partial(**shapes)
    return Symbol(self._entries)


Symbol.get_backend_symbol, Symbol.optimize_for = get_backend_symbol, optimize_for


# --- The face `mx.sym` ----------------------------------------------------------------------------


class CachedOp:
    """A graph as a function of NDArrays, one for each of its variables in the order of `list_inputs`."""

    def __init__(self, sym, flags=(), thread_safe=False):
        self._symbol, self._names = sym, sym.list_inputs()

    def __call__(self, *args, out=None, default_ctx=None):
        """The outputs: a list, or the only one; or `out` filled with them."""
        if len(args) != len(self._names):
            raise MXNetError(
                f"CachedOp takes {len(self._names)} arrays, {', '.join(self._names)}, not {len(args)}"
            )
        ctx = args[0].context if args else default_ctx or current_context()
        values = dict(zip(self._names, args))
        found = run(closed(self._symbol._entries, values), values, ctx)
        if out is not None:
            outs = out if isinstance(out, list | tuple) else [out]
            found = [autograd.assign(o, y) for o, y in zip(outs, found, strict=True)]
        return found if len(found) > 1 else found[0]
