"""A loop in a graph is a call like any other: its body is a graph of its own, and what it uses from outside are its arguments."""

# Written from chapters/23_loops.ipynb: edit the chapter, then run `minigluon export`.

import json
from functools import update_wrapper

from minigluon.autograd import pause, state
from minigluon.base import MXNetError
from minigluon.context import current_context
from minigluon.name import current as current_manager
from minigluon.ndarray import control_flow as eager
from minigluon.ndarray.control_flow import as_python, flatten, regroup
from minigluon.ndarray.ndarray import NDArray, place, zeros
from minigluon.op import operator
from minigluon.symbol.files import READERS
from minigluon.symbol.hybrid import Written
from minigluon.symbol.symbol import Node, Symbol, clock, in_order, var

__all__ = [
    "Body",
    "PLACES",
    "cond",
    "foreach",
    "listed",
    "looping",
    "outer",
    "placed",
    "read_foreach",
    "stepping",
    "undifferentiated",
    "while_loop",
]


# --- The body as a graph --------------------------------------------------------------------------


class Body:
    """A function of symbols written down: its own variables, its outputs, and what it uses from outside."""

    def __init__(self, name, own):
        self.name, self.own, self.start = name, own, next(clock)

    def close(self, outputs, free):
        """Take the outputs; entries from outside become variables and are added to the dict `free`."""
        made = {s._entries[0][0]: s._entries[0] for s in self.own}
        self.outputs = [self.inside(e, made, free) for s in outputs for e in s._entries]
        return self

    def inside(self, entry, made, free):
        """An entry in the body's own graph."""
        stack = [entry[0]]
        while stack:
            node = stack[-1]
            waiting = [a[0] for a in node.inputs if type(a) is tuple and a[0] not in made]
            if node in made or self.from_outside(node):
                stack.pop()
            elif waiting := [n for n in waiting if not self.from_outside(n)]:
                stack.extend(waiting)
            else:
                inputs = [self.moved(a, made, free) for a in node.inputs]
                made[node] = (
                    Node(node.name, node.op, inputs, node.settings, dict(node.attrs), node.called),
                    None,
                )
                stack.pop()
        return self.moved(entry, made, free)

    # What comes from outside.

    def from_outside(self, node):
        """Whether a node was there before the body, or is a variable that the body looked up."""
        return node.time < self.start or (node.op is None and not self.is_own(node))

    def is_own(self, node):
        return any(s._entries[0][0] is node for s in self.own)

    def moved(self, a, made, free):
        """An input of a node in the body's graph."""
        if type(a) is not tuple:
            return a
        node, i = a
        if node in made:
            new, first = made[node]
            return (new, i if first is None else first)
        if (node, i) not in free:
            name = node.name if node.op is None else f"{self.name}_free{len(free)}"
            free[node, i] = (Node(name, attrs=dict(node.attrs)), 0)
        return free[node, i]

    def written(self, free):
        """The graph, to be called on its own variables and those from outside."""
        inputs = [s._entries[0] for s in self.own] + [*free.values()]
        return Written(inputs, self.outputs, self.name)


# --- The operator of a loop -----------------------------------------------------------------------


def looping(name, run, count, symbols, title, stored=None):
    """The Symbol of a call with the function `run` of NDArrays, which gives `count` outputs.

    `stored`, a pair of settings and graphs, is what stands in a file.
    """

    def kernel(*arrays):
        with pause(state.training):
            out = run(*[NDArray(a, current_context()) for a in arrays])
        return tuple(a._data for a in out)

    kernel.__name__ = name
    op = operator(kernel, same_dtype=False, listed=False)
    op.outputs = op.visible = count
    op.rules = undifferentiated

    def call(*arrays):
        return run(*arrays) if any(type(a) is NDArray for a in arrays) else op(*arrays)

    node_op = update_wrapper(call, op)
    node_op.stored = stored
    entries = [s._entries[0] if isinstance(s, Symbol) else s for s in symbols]
    node = Node(current_manager().get(title, name), node_op, entries)
    return [Symbol([(node, i)]) for i in range(count)]


def undifferentiated(g, y, *args):
    """The rule of a loop inside a program: there is none, for such graphs are recorded call by call."""
    raise MXNetError("a loop is differentiated step by step: record the block that holds it")


def listed(out):
    """One result or several as a list."""
    return list(out) if isinstance(out, list | tuple) else [out]


# --- Along an array -------------------------------------------------------------------------------


def foreach(body, data, init_states, name=None):
    """`out, states = body(slice, states)` for each slice of `data` along axis 0, as one node.

    Data, states and outputs are Symbols or nested lists of them. Returns the outputs of all steps, stacked,
    and the last states.
    """
    arrays, form = flatten(data, "data")
    states, state_form = flatten(init_states, "init_states")
    title = name or "foreach"
    items = [var(f"{title}_data{i}") for i in range(len(arrays))]
    variables = [var(f"{title}_state{i}") for i in range(len(states))]
    step = Body(title, [*items, *variables])
    out, new = body(regroup(iter(items), form), regroup(iter(variables), state_form))
    outputs, out_form = flatten(out, "the output of body")
    new, _ = flatten(new, "the states of body")
    if len(new) != len(states):
        raise MXNetError(f"body got {len(states)} states and gave {len(new)}: give as many")
    free, many = {}, len(outputs)
    step.close([*outputs, *new], free)
    own = [[s._entries[0] for s in part] for part in (items, variables)] + [[*free.values()]]
    symbols = [*arrays, *states, *outer(free)]
    made = stepping(title, own, step.outputs, many, symbols, name)
    return regroup(iter(made[:many]), out_form), regroup(iter(made[many:]), state_form)


def outer(free):
    """The Symbols that a body uses from outside."""
    return [Symbol([entry]) for entry in free]


def stepping(title, own, outputs, many, symbols, name):
    """The Symbols of a `foreach` node: `own` are the variables of the body, three lists; the first `many` outputs are stacked."""
    there, kept = len(own[0]), len(own[1])
    program = Written([e for part in own for e in part], outputs, title)

    def run(*given):
        outside = given[there + kept :]

        def once(parts, states):
            found = listed(program(*parts, *states, *outside))
            return found[:many], found[many:]

        out, last = eager.foreach(once, list(given[:there]), list(given[there : there + kept]))
        if many and not out:
            raise MXNetError("foreach: data has no slices, so there is no output")
        return [*out, *last]

    stored = placed(own, outputs, many, len(symbols))
    return looping("_foreach", run, many + kept, symbols, name, stored)


PLACES = ("in_data_locs", "in_state_locs", "remain_locs")


def placed(own, outputs, many, number):
    """What a file says of a `foreach`: settings and the body; None if the body leaves a variable out."""
    order = [node for node in in_order(outputs) if node.op is None]
    if not {node for part in own for node, _ in part} <= {*order}:
        return None
    settings = {
        place: str([order.index(node) for node, _ in part]) for place, part in zip(PLACES, own)
    }
    settings |= {"num_args": str(number + 1), "num_outputs": str(len(outputs))}
    return settings | {"num_out_data": str(many)}, [Symbol(outputs)]


def read_foreach(name, inputs, texts, graphs):
    """The node of a `foreach` in a file."""
    try:
        (body,), many = graphs, int(texts["num_out_data"])
        order = [(node, 0) for node in in_order(body._entries) if node.op is None]
        own = [[order[i] for i in json.loads(texts[place])] for place in PLACES]
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise MXNetError(f"load_json: node {name!r} is no loop: {error!r}") from None
    if len(inputs) != sum(map(len, own)) or not 0 <= many <= len(body):
        raise MXNetError(f"load_json: node {name!r} does not fit its body")
    symbols = [Symbol([entry]) for entry in inputs]
    return stepping(name, own, list(body._entries), many, symbols, name)[0]._entries[0][0]


READERS["_foreach"] = read_foreach


# --- Until a condition fails, and one or the other ------------------------------------------------


def while_loop(cond, func, loop_vars, max_iterations=None, name=None):
    """`out, loop_vars = func(*loop_vars)` while `cond(*loop_vars)` holds, as one node.

    Returns the outputs, stacked to `max_iterations` rows, and the last variables.
    """
    if max_iterations is None:
        raise ValueError("max_iterations should be specified: it is the length of the outputs")
    most, title = as_python(max_iterations, int, "max_iterations"), name or "while_loop"
    if len(loop_vars) == 0:
        raise ValueError("loop_vars should contain at least one element")
    alone = isinstance(loop_vars, Symbol)
    first = [loop_vars] if alone else list(loop_vars)
    variables, free = [var(f"{title}_var{i}") for i in range(len(first))], {}
    test = Body(f"{title}_cond", variables)
    test.close([cond(*variables)], free)
    step = Body(title, variables)
    out, new = func(*variables)
    outputs, out_form = flatten([] if out is None else out, "the output of func")
    step.close([*outputs, *eager.updated(first, new)], free)
    holds, step = test.written(free), step.written(free)
    many, count = len(outputs), len(first)

    def run(*given):
        values, outside, rows = list(given[:count]), given[count:], []
        while len(rows) < most and as_python(holds(*values, *outside), bool, "the result of cond"):
            found = listed(step(*values, *outside))
            rows.append(found[:many])
            values = found[many:]
        if rows or not many:
            return [*eager.stacked(rows, "the output of func", most), *values]
        shapes = listed(step(*values, *outside))[:many]
        return [*[zeros((most, *a.shape), a.context, a.dtype) for a in shapes], *values]

    made = looping("_while_loop", run, many + count, [*first, *outer(free)], name)
    last = made[many:]
    return regroup(iter(made[:many]), out_form), last[0] if alone else last


def cond(pred, then_func, else_func, name=None):
    """`then_func()` where `pred`, a Symbol of size 1, is not 0, else `else_func()`, as one node."""
    title, free, forms, branches = name or "cond", {}, [], []
    for side, function in (("then", then_func), ("else", else_func)):
        branch = Body(f"{title}_{side}", [])
        outputs, form = flatten(function(), f"the output of {side}_func")
        branches.append(branch.close(outputs, free))
        forms.append((form, len(outputs)))
    if forms[0] != forms[1]:
        raise MXNetError("then_func and else_func must give equally many outputs, in the same form")
    programs = [branch.written(free) for branch in branches]

    def run(choice, *outside):
        chosen = programs[0] if as_python(choice, bool, "pred") else programs[1]
        context = choice._ctx
        return [
            a if isinstance(a, NDArray) else place(a, context) for a in listed(chosen(*outside))
        ]

    form, count = forms[0]
    return regroup(iter(looping("_cond", run, count, [pred, *outer(free)], name)), form)
