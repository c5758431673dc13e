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
from minigluon.op import operator, operators
from minigluon.symbol.files import READERS
from minigluon.symbol.hybrid import Written
from minigluon.symbol.symbol import Node, Symbol, clock, in_order, var

__all__ = [
    "Body",
    "PLACES",
    "READERS",
    "as_graph",
    "choosing",
    "cond",
    "foreach",
    "listed",
    "looping",
    "outer",
    "outer_variables",
    "placed",
    "placed_choice",
    "placed_loop",
    "programs_of",
    "read_cond",
    "read_foreach",
    "read_places",
    "read_while_loop",
    "repeating",
    "stepping",
    "undifferentiated",
    "variables_of",
    "while_loop",
]


# --- The body as a graph --------------------------------------------------------------------------


class Body:
    """A function of symbols written down: its own variables, its outputs,
    and what it uses from outside.
    """

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
        if node.op is None:  # variables of one name are one, whichever branch has looked them up
            same = (e for (n, _), e in free.items() if n.op is None and n.name == node.name)
            if (known := next(same, None)) is not None:
                return known
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

    Data, states and outputs are Symbols or nested lists of them. Returns the outputs of all steps,
    stacked, and the last states.
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
    """The Symbols of a `foreach` node, `many` of them stacked;
    `own`: the body's variables, three lists.
    """
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


def as_graph(outputs):
    """The graph of these outputs for a file, in which a variable becomes a copy: MXNet wants calls."""
    copied = [e if e[0].op else operators["identity"](Symbol([e]))._entries[0] for e in outputs]
    return Symbol(copied)


def placed(own, outputs, many, number):
    """What a file says of a `foreach`: settings and the body; None if the body leaves a variable out."""
    order = [node for node in in_order(outputs) if node.op is None]
    if not {node for part in own for node, _ in part} <= {*order}:
        return None
    settings = {
        place: str([order.index(node) for node, _ in part]) for place, part in zip(PLACES, own)
    }
    settings |= {"num_args": str(number + 1), "num_outputs": str(len(outputs))}
    return settings | {"num_out_data": str(many)}, [as_graph(outputs)]


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


def repeating(holds, step, places, many, most):
    """What a `while_loop` node runs: programs of condition and body,
    whose first `many` outputs are stacked.

    `places` are three lists of numbers: the input of the node for each variable of the condition,
    and for each of the body; and for each loop variable the variable of the body that holds it.
    """
    tested, used, changing = places

    def run(*given):
        values, rows = [given[i] for i in used], []

        def goes_on():
            now = {used[v]: values[v] for v in changing}
            found = holds(*[now.get(i, given[i]) for i in tested])
            return as_python(found, bool, "the result of cond")

        while len(rows) < most and goes_on():
            found = listed(step(*values))
            rows.append(found[:many])
            for v, new in zip(changing, found[many:]):
                values[v] = new
        last = [values[v] for v in changing]
        if rows or not many:
            return [*eager.stacked(rows, "the output of func", most), *last]
        shapes = listed(step(*values))[:many]
        return [*[zeros((most, *a.shape), a.context, a.dtype) for a in shapes], *last]

    return run


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
    many, inputs = len(outputs), [*variables, *outer_variables(free)]
    every = [*range(len(inputs))]
    places = every, every, every[: len(first)]
    run = repeating(test.written(free), step.written(free), places, many, most)
    stored = placed_loop(test.outputs, step.outputs, inputs, len(first), most)
    made = looping("_while_loop", run, len(step.outputs), [*first, *outer(free)], name, stored)
    last = made[many:]
    return regroup(iter(made[:many]), out_form), last[0] if alone else last


def choosing(test, branches, places):
    """What a `cond` node runs: programs of the condition, None if it is the first input,
    and of both branches.

    `places` are three lists: the input of the node for each variable of these.
    """

    def run(*given):
        asked, *sides = [[given[i] for i in part] for part in places]
        choice = asked[0] if test is None else test(*asked)
        side = 0 if as_python(choice, bool, "pred") else 1
        context = given[0]._ctx
        return [
            a if isinstance(a, NDArray) else place(a, context)
            for a in listed(branches[side](*sides[side]))
        ]

    return run


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
    (form, count), every = forms[0], [*range(1, len(free) + 1)]
    run = choosing(None, [branch.written(free) for branch in branches], ([0], every, every))
    stored = placed_choice(pred, [branch.outputs for branch in branches], free)
    return regroup(iter(looping("_cond", run, count, [pred, *outer(free)], name, stored)), form)


def outer_variables(free):
    """The Symbols of the variables that stand in a body for what comes from outside."""
    return [Symbol([entry]) for entry in free.values()]


def variables_of(outputs):
    """The variables of a graph, in the order of a file."""
    return [node for node in in_order(outputs) if node.op is None]


def placed_loop(test, step, inputs, count, most):
    """What a file says of a `while_loop`: settings and two graphs;
    None if the body leaves a loop variable out.

    `test` and `step` are the outputs of condition and body; the first `count` of the Symbols
    `inputs` are loop variables.
    """
    order, inside = [s._entries[0][0] for s in inputs], variables_of(step)
    if not {*order[:count]} <= {*inside}:
        return None
    settings = {
        "cond_input_locs": [order.index(node) for node in variables_of(test)],
        "func_input_locs": [order.index(node) for node in inside],
        "func_var_locs": [inside.index(node) for node in order[:count]],
        "max_iterations": most,
        "num_args": len(inputs) + 2,
        "num_out_data": len(step) - count,
        "num_outputs": len(step),
    }
    return {k: str(v) for k, v in settings.items()}, [as_graph(test), as_graph(step)]


def placed_choice(pred, branches, free):
    """What a file says of a `cond`: settings and three graphs,
    of which the first only hands on its input.
    """
    order = [entry[0] for entry in free.values()]
    sides = [[order.index(node) + 1 for node in variables_of(outputs)] for outputs in branches]
    settings = {"cond_input_locs": [0], "then_input_locs": sides[0], "else_input_locs": sides[1]}
    settings |= {"num_args": len(free) + 4, "num_outputs": len(branches[0])}
    graphs = map(as_graph, [[(Node(pred.name), 0)], *branches])
    return {k: str(v) for k, v in settings.items()}, [*graphs]


def read_places(name, texts, keys, number):
    """The lists of a loop's settings; MXNetError for others than lists of numbers below `number`."""
    try:
        found = [json.loads(texts[key]) for key in keys]
        good = all(type(i) is int and 0 <= i < number for part in found for i in part)
    except (KeyError, ValueError, TypeError):
        good = False
    if not good:
        raise MXNetError(
            f"load_json: node {name!r} is no loop: {', '.join(keys)} must name its inputs"
        )
    return found


def programs_of(name, graphs, places):
    """The graphs of a loop as programs; MXNetError if `places` are not as many as their variables."""
    if [len(variables_of(g._entries)) for g in graphs] != [*map(len, places)]:
        raise MXNetError(f"load_json: node {name!r} does not fit its graphs")
    return [
        Written([(n, 0) for n in variables_of(g._entries)], list(g._entries), name) for g in graphs
    ]


def read_while_loop(name, inputs, texts, graphs):
    """The node of a `while_loop` in a file."""
    keys = ("cond_input_locs", "func_input_locs", "func_var_locs")
    tested, used, changing = read_places(name, texts, keys, len(inputs))
    numbers = [texts.get(key, "") for key in ("num_out_data", "max_iterations")]
    if len(graphs) != 2 or not all(n.isdigit() for n in numbers) or not tested:
        raise MXNetError(f"load_json: node {name!r} is no loop: it needs a condition and a body")
    holds, step = programs_of(name, graphs, (tested, used))
    many, most = map(int, numbers)
    if len(graphs[1]) != many + len(changing) or max(changing, default=0) >= len(used):
        raise MXNetError(f"load_json: node {name!r} does not fit its body")
    run = repeating(holds, step, (tested, used, changing), many, most)
    symbols, stored = [Symbol([e]) for e in inputs], (texts, graphs)
    return looping("_while_loop", run, len(graphs[1]), symbols, name, stored)[0]._entries[0][0]


def read_cond(name, inputs, texts, graphs):
    """The node of a `cond` in a file."""
    keys = ("cond_input_locs", "then_input_locs", "else_input_locs")
    places = read_places(name, texts, keys, len(inputs))
    if len(graphs) != 3 or len(graphs[1]) != len(graphs[2]) or not places[0]:
        raise MXNetError(
            f"load_json: node {name!r} is no branch: it needs a condition and two sides"
        )
    test, *branches = programs_of(name, graphs, places)
    symbols, stored = [Symbol([e]) for e in inputs], (texts, graphs)
    run = choosing(test, branches, places)
    return looping("_cond", run, len(graphs[1]), symbols, name, stored)[0]._entries[0][0]


READERS["_while_loop"], READERS["_cond"] = read_while_loop, read_cond
