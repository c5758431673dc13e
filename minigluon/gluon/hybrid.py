"""A network that is written down once runs as one operator, and can leave the program it was born in."""

# Written from chapters/33_hybrid_blocks.ipynb: edit the chapter, then run `minigluon export`.

import ast
import traceback
from contextlib import suppress
from os.path import commonprefix

import minigluon.symbol as sym
from minigluon.autograd import state
from minigluon.base import MXNetError
from minigluon.gluon.block import HybridBlock, Outline, first_of, outlined
from minigluon.gluon.parameter import (
    DeferredInitializationError,
    ParameterDict,
    as_contexts,
    reduced,
)
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.utils import load, replace_file, save
from minigluon.op import BadValue
from minigluon.symbol.hybrid import Written, calls, uncollected
from minigluon.symbol.inference import Inference, complete, types_of
from minigluon.symbol.symbol import TYPE_CODES, Symbol, in_order

__all__ = [
    "Graph",
    "ONLY_ARRAYS",
    "Programs",
    "ROW_SPARSE",
    "SymbolBlock",
    "as_lists",
    "begun",
    "declared",
    "export",
    "fill",
    "flattened",
    "graph_for",
    "graph_of",
    "learn",
    "named",
    "rebuilt",
    "shapes_from_graph",
    "shortened",
    "told",
    "traced",
    "written",
]


# --- The structure of a call ----------------------------------------------------------------------


def flattened(x, found, what="input"):
    """The form of nested lists of arrays; the arrays themselves are added to the list `found`."""
    if isinstance(x, list | tuple):
        return tuple(flattened(part, found, what) for part in x)
    if x is None:
        return -1
    if isinstance(x, Symbol) and len(x) > 1:
        return tuple(flattened(part, found, what) for part in x)
    if not isinstance(x, NDArray | Symbol):
        raise ValueError(
            f"When hybridized, the input of HybridBlock {what} must be (nested) list of Symbol or "
            f"NDArray, but got {x!r} of type {type(x)}"
        )
    found.append(x)
    return 0


def shortened(form):
    """A form without the Nones at its end, which stand for defaults."""
    while form and form[-1] == -1:
        form = form[:-1]
    return form


def rebuilt(form, parts):
    """Nested lists of that form, filled from the iterator `parts`."""
    if isinstance(form, tuple | list):
        return [rebuilt(part, parts) for part in form]
    if form > 0:  # a symbol of so many outputs
        return [next(parts) for _ in range(form)]
    return None if form == -1 else next(parts)


def as_lists(form):
    """A form as MXNet keeps it, and programs write it into files: with lists."""
    return [as_lists(part) for part in form] if isinstance(form, tuple) else form


# --- A graph and its programs ---------------------------------------------------------------------


class Graph(Written):
    """A block written down once: its outputs, the data and the parameters that they need."""

    def __init__(self, block, form, count, name, kind=Symbol):
        self.kind = kind
        names = ["data"] if count == 1 else [f"data{i}" for i in range(count)]
        data = [kind(sym.var(n)._entries) for n in names]
        outputs = []
        self.form = flattened(written(block, rebuilt(form, iter(data))), outputs, "output")
        entries = [entry for out in outputs for entry in out._entries]
        nodes = [node for node in in_order(entries) if node.op is None]
        position = {x._entries[0][0]: i for i, x in enumerate(data)}
        known = {**block.collect_params()}
        lost = [n.name for n in nodes if n not in position and n.name not in known]
        if lost:
            raise RuntimeError(
                f"{block.name}: the graph needs {', '.join(lost)}, which no block of it has registered"
            )
        self.data = [position[n] for n in nodes if n in position]
        self.parameters = [known[n.name] for n in nodes if n not in position]
        inputs = [(n, 0) for n in nodes if n in position]
        super().__init__(
            inputs + [(n, 0) for n in nodes if n not in position], entries, name, len(inputs)
        )
        self.static = bool(block._flags.get("static_alloc"))
        if len(calls(entries, {*self.inputs})) <= block._flags.get("inline_limit", 2):
            self.inside = self.inputs, entries


def written(block, args):
    """What `block` computes, on symbols; errors tell the line that asked for numbers."""
    try:
        return block._written(*args)
    except Exception as error:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if f.name == "hybrid_forward"
        ]
        for frame in frames[-1:]:
            error.add_note(
                f"while {block.name} was traced, at {frame.filename}:{frame.lineno}: {frame.line}\n"
                "Hybridized, hybrid_forward runs once, on symbols without numbers or shapes"
            )
        raise


def shapes_from_graph(block, args):
    """Learn the shapes of a block's parameters from its graph, on inputs like `args`.

    A formula that asks for shapes or numbers cannot be written down, and is run on outlines.
    """
    try:
        outputs, data = graph_for(block, args)
    except Exception:
        block.forward(*outlined(args))
        return
    facts = Inference({n: a.shape for n, a in data.items()}, {n: a.dtype for n, a in data.items()})
    nodes, parameters = in_order(outputs), {**block.collect_params()}
    try:
        facts.settle(nodes)
    except MXNetError as error:
        raise BadValue(
            f"Deferred initialization failed because shape cannot be inferred. {error}"
        ) from error
    found = {n.name: facts.shapes[n, 0] for n in nodes if n.op is None and n.name in parameters}
    if not all(map(complete, found.values())):
        # the body of a loop is a graph of its own, which outlines go through
        with suppress(Exception):
            block.forward(*outlined(args))
    for name, shape in found.items():
        if complete(shape) or not complete(parameters[name].shape):
            learn(parameters[name], shape)


def graph_for(block, args):
    """The outputs of a graph of `block`, the one that it has or a new one, and its data,
    {name: array}.
    """
    flat, outputs = [], []
    form = flattened(list(args), flat)
    graph = getattr(block._programs, "latest", None)
    if graph is not None:
        return graph.outputs, {x.name: flat[i] for (x, _), i in zip(graph.inputs, graph.data)}
    kind = getattr(flat[0], "symbol", Symbol)  # arrays of `mx.np` have symbols of their own
    data = [kind(sym.var(f"data{i}")._entries) for i in range(len(flat))]
    flattened(written(block, rebuilt(form, iter(data))), outputs, "output")
    return sym.Group(outputs)._entries, {x.name: a for x, a in zip(data, flat)}


def learn(parameter, shape):
    """Give a parameter the shape that was inferred;
    ValueError if some of its sizes are still unknown.
    """
    if not complete(shape) and not complete(parameter.shape):
        raise ValueError(
            f"the shape {shape} of parameter {parameter.name} cannot be inferred from the inputs: "
            "give its sizes when making the layer"
        )
    parameter.shape = shape


ONLY_ARRAYS = {NDArray}


class Programs:
    """The graphs of an active block: one in training, one in use."""

    def __init__(self, block):
        self.block, self.graphs, self.form = block, {}, None

    def __call__(self, args):
        if {*map(type, args)} == ONLY_ARRAYS:  # by far the most common
            form, flat = (0,) * len(args), args
        else:
            flat = []
            form = flattened(list(args), flat)
            first_of(flat)
        graph = self.graphs.get(state.training)
        if graph is None or form != self.form:
            graph = self.trace(form, flat)
        ctx = flat[0]._ctx
        try:
            arrays = [flat[i] for i in graph.data] + [p.data(ctx) for p in graph.parameters]
        except DeferredInitializationError:
            self.finish(graph, args)
            arrays = [flat[i] for i in graph.data] + [p.data(ctx) for p in graph.parameters]
        try:
            hooks = getattr(self.block, "_op_hooks", ())
            out = graph.walk(arrays, ctx, hooks) if hooks else graph(*arrays)
        except MXNetError:
            graph.walk(arrays, ctx)  # the same error, with the call's name
            raise
        if graph.form == 0:
            return out
        return rebuilt(graph.form, iter(out if isinstance(out, list) else [out]))

    # --- A graph and its programs -----------------------------------------------------------------

    @uncollected
    def trace(self, form, flat):
        """The graph for arguments of this form, in the present mode; all forms must be the same."""
        if self.form is not None and shortened(form) != shortened(self.form):
            raise ValueError(
                "The argument structure of HybridBlock does not match the cached version. "
                f"Stored format = {self.form}, input format = {form}"
            )
        graph = self.graphs.get(state.training)
        if graph is None:
            kind = getattr(flat[0], "symbol", Symbol)  # arrays of `mx.np` have symbols of their own
            graph = Graph(self.block, form, len(flat), self.block.name or "forward", kind)
            self.graphs[state.training] = self.latest = graph
            self.form = self.form or form
            self.block._in_format, self.block._out_format = as_lists(form), as_lists(graph.form)
        return graph

    @uncollected
    def finish(self, graph, args):
        """Find the shapes of parameters that wait for the first batch, and fill them."""
        self.block.infer_shape(*args)
        for parameter in graph.parameters:
            parameter._finish_deferred_init()


# --- Leaving home ---------------------------------------------------------------------------------


def traced(block):
    """The graph of a block that has run hybridized, with its parameters: a Symbol and a list;
    None before.
    """
    graph = getattr(block._programs, "latest", None) if hasattr(block, "_programs") else None
    return None if graph is None else (Symbol(graph.outputs), graph.parameters)


def begun(block, args):
    """Write down a call of a block with `args`, for its later calls."""
    flat = []
    form = flattened(list(args), flat)
    if block._programs is None:
        block._programs = Programs(block)
    block._programs.trace(form, flat)


def graph_of(block):
    """Symbols of the inputs, and the graph, of a block that has run hybridized; () before."""
    graph = getattr(block._programs, "latest", None)
    if graph is None:
        return ()
    return [Symbol([entry]) for entry in graph.inputs[: len(graph.data)]], Symbol(graph.outputs)


def export(block, path, epoch=0, remove_amp_cast=True):
    """Write `path-symbol.json` and `path-<epoch>.params` of a block that has run hybridized."""
    found = traced(block)
    if found is None:
        raise RuntimeError(
            "Please first call block.hybridize() and then run forward with this block at least once "
            "before calling export."
        )
    whole, parameters = found
    states = {*whole.list_auxiliary_states()}
    arrays = {f"{'aux' if p.name in states else 'arg'}:{p.name}": reduced(p) for p in parameters}
    replace_file(f"{path}-symbol.json", [whole.tojson(remove_amp_cast).encode()])
    save(f"{path}-{epoch:04d}.params", arrays)


# --- A network from a file ------------------------------------------------------------------------

ROW_SPARSE = "1"  # in the attributes of a variable


class SymbolBlock(HybridBlock):
    """A block that runs a graph: `outputs`, a Symbol or a list, as a function of the variables `inputs`.

    `params` is a ParameterDict that already has some of the parameters.
    """

    @staticmethod
    def imports(
        symbol_file,
        input_names,
        param_file=None,
        ctx=None,
        allow_missing=False,
        ignore_extra=False,
    ):
        """The block of a graph in a file, with parameters from another file if one is given.

        AssertionError for parameters that are missing there or too many, unless that is allowed.
        """
        names = [input_names] if isinstance(input_names, str) else list(input_names)
        block = SymbolBlock(sym.load(symbol_file), [sym.var(n) for n in names])
        if param_file is not None:
            fill(block, named(param_file), param_file, ctx, allow_missing, ignore_extra)
        return block

    def __init__(self, outputs, inputs, params=None):
        super().__init__(prefix="")
        self._params = ParameterDict("", params)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        inputs = inputs if isinstance(inputs, list | tuple) else [inputs]
        self._graph = sym.Group(list(outputs)) if len(outputs) > 1 else outputs[0]
        for x in inputs:
            assert x._entries[0][0].op is None, (
                f"Input symbols must be variable, but {x.name} is an output of operators"
            )
        self._inputs = [x.name for x in inputs]
        states = {*self._graph.list_auxiliary_states()}
        for node in in_order(self._graph._entries):
            sparse = node.attrs.get("__storage_type__") == ROW_SPARSE
            assert not sparse, (
                f"SymbolBlock doesn't support Parameter '{node.name}' because its storage type "
                "is 'row_sparse'."
            )
        types, self._by_name = types_of(self._graph._entries, declared(inputs)), {}
        variables = [n for n in in_order(self._graph._entries) if n.op is None]
        learnt = [n for n in variables if n.name not in self._inputs]
        for node in sorted(learnt, key=lambda n: n.name in states):  # states last, as in files
            req = "null" if node.name in states else "write"
            self._by_name[node.name] = self.params._find(node.name) or self.params.get(
                node.name, grad_req=req, dtype=types[node, 0] or "float32", **told(node)
            )
        self._in_format = [0] * len(inputs)
        self._out_format = len(self._graph) if len(self._graph) > 1 else 0
        common = len(commonprefix([*self._by_name]))
        self._reg_params = {name[common:]: p for name, p in self._by_name.items()}
        self._active = True

    # --- A network from a file --------------------------------------------------------------------

    def hybridize(self, active=True, **kwargs):
        """Set the flags of the program; a graph is run as one whatever `active` says."""
        super().hybridize(True, **kwargs)

    def _written(self, *args):
        given = dict(self._here(args)) | {n: p.var() for n, p in self._by_name.items()}
        here = {n: given[n] for n in self._graph.list_inputs() if n in given}
        return rebuilt(self._out_format, iter(self._graph(**here)))

    def _outlined(self, *args):
        types = {n: a.dtype for n, a in self._here(args)}
        shapes, types = self.infer_shape(*args), self._graph.infer_type_partial(**types)[1]
        outputs = [Outline(s, t or "float32") for s, t in zip(shapes, types)]
        return outputs if len(outputs) > 1 else outputs[0]

    def _here(self, args):
        """The pairs (name, argument) of inputs that the graph mentions."""
        names, flat = self._graph.list_inputs(), []
        flattened(list(args), flat)
        return [(n, a) for n, a in zip(self._inputs, flat) if n in names]

    def infer_shape(self, *args):
        shapes = {n: a.shape for n, a in self._here(args)}
        found = self._graph.infer_shape_partial(**shapes)
        ordered = self._graph.list_arguments() + self._graph.list_auxiliary_states()
        for name, shape in zip(ordered, found[0] + found[2]):
            if name in self._by_name and shape:
                self._by_name[name].shape = shape
        return found[1]

    def reset_ctx(self, ctx):
        """Move the parameters to `ctx`, a context or a list of them."""
        for parameter in self.collect_params().values():
            parameter.reset_ctx(ctx)

    def __repr__(self):
        return f"{type(self).__name__}(\n{self._graph!r} : {len(self._inputs)} -> {len(self._graph)}\n)"


def declared(inputs):
    """{name: type} of the variables that say theirs."""
    types = {x.name: x.attr("__dtype__") for x in inputs}
    return {n: TYPE_CODES[int(t)] if t.isdigit() else t for n, t in types.items() if t}


def told(node):
    """What a variable's attributes say about the parameter."""
    shape = ast.literal_eval(node.attrs["__shape__"]) if "__shape__" in node.attrs else None
    return {"shape": shape, "allow_deferred_init": True}


def named(fname):
    """The arrays of a file by their names, of which an empty file has none."""
    arrays = load(fname) or {}
    if not isinstance(arrays, dict):
        raise ValueError(f"'{fname}' holds a list of arrays without names, no parameters")
    return arrays


def fill(block, arrays, source, ctx=None, allow_missing=False, ignore_extra=False):
    """Give a block's parameters the arrays of a file, whose names may begin with `arg:` or `aux:`."""
    arrays = {name.removeprefix("arg:").removeprefix("aux:"): a for name, a in arrays.items()}
    params = block._by_name
    for name in () if allow_missing else params:
        assert name in arrays, (
            f"Parameter '{name}' is missing in file: {source}, which contains parameters: "
            f"{', '.join(arrays) or 'none'}. Please make sure source and target networks have "
            "the same prefix"
        )
    extra = [name for name in arrays if name not in params]
    assert not extra or ignore_extra, (
        f"Parameter '{extra[0]}' loaded from file: {source} is not a parameter of the graph"
    )
    for name, a in arrays.items():
        if name in extra:
            continue
        parameter = params[name]
        parameter.shape = a.shape
        parameter.cast(a.dtype)
        parameter._deferred_init = None
        parameter._init_impl(a, as_contexts(ctx))
