"""The gradient of a program is a program: trace once, differentiate on paper, and write both as Python."""

# Written from chapters/22_hybridize.ipynb: edit the chapter, then run `minigluon export`.

import builtins
import gc
import keyword
import math
import re
from collections import Counter
from functools import cache, cached_property, wraps
from typing import NamedTuple

import numpy as np

from minigluon import executor
from minigluon.autograd import state
from minigluon.base import MXNetError
from minigluon.context import keep_memory
from minigluon.cores import alone, core_matmul, matmul, prompt_matmul, spread
from minigluon.ndarray.ndarray import held, require_same_dtype
from minigluon.op import operator, operators
from minigluon.ops.reduce import axes, column_sums
from minigluon.symbol import parts
from minigluon.symbol.inference import Facts, Outline, draws, open_shape, undrawn, units
from minigluon.symbol.symbol import Node, Symbol

__all__ = [
    "AGAIN",
    "BLOCK",
    "CHANCE",
    "FIRST_DRAWN",
    "FUSED",
    "JOINS",
    "KEPT",
    "LARGE",
    "LOOPS",
    "MOVES",
    "OWNERS",
    "Outlines",
    "PRODUCTS",
    "Pair",
    "SHARING",
    "SMALL",
    "SPELT",
    "UFUNCS",
    "Writer",
    "Written",
    "adding",
    "are_sums_of_columns",
    "as_operator",
    "backward_operator",
    "by_chance",
    "calls",
    "collect",
    "copied",
    "differentiate",
    "elsewhere",
    "expanded",
    "head_of",
    "held_draws",
    "identifier",
    "identity_of",
    "in_blocks",
    "in_fewer_calls",
    "in_parts",
    "keepers",
    "kinds_of_both",
    "listed",
    "merged",
    "name_of",
    "needed",
    "outlined",
    "plus",
    "redrawn",
    "remember",
    "renewed",
    "rule_of",
    "shares_of",
    "simplest",
    "spelt_data",
    "spelt_dense",
    "spelt_plus",
    "spelt_split",
    "spelt_sum",
    "spelt_view",
    "spelt_weight",
    "text_of",
    "traced",
    "uncollected",
    "undone",
    "unique",
    "with_whole",
    "without_gradient",
]


# --- Shapes of everything -------------------------------------------------------------------------


class Outlines(Facts):
    """Shapes and types of all outputs of calls, hidden ones too, where they can be known."""

    def __init__(self):
        super().__init__({}, {})
        self.counts = {}  # of the outputs of calls whose kernel returns several, as a tuple
        self.failed = set()  # calls that cannot be tried on zeros

    def put(self, entry, shape, dtype):
        """Write down what is known of an input."""
        self.shapes[entry], self.types[entry] = tuple(shape), np.dtype(dtype)

    def call(self, node):
        if (node, 0) in self.shapes or node in self.failed:
            return
        if len(node.outputs) > 1:  # so much is known without shapes
            self.counts.setdefault(node, len(node.outputs))
        if None in [self.shapes.get(a) for a in node.inputs if type(a) is tuple]:
            return
        try:
            found = self.outlined(node)
        except Exception:
            self.failed.add(node)
            return
        for i, out in enumerate(found):
            self.put((node, i), out.shape, out.dtype)

    def outlined(self, node):
        inputs = self.fitted(node)
        known = {a: (self.shapes[a], self.types[a]) for a in inputs if type(a) is tuple}
        call = node if inputs is node.inputs else copied(node, inputs)
        if (out := self.sketch(call, known)) is None:
            out = self.computed(call, known)
        if isinstance(out, tuple):
            self.counts[node] = len(out)
            return out
        return (out,)

    def computed(self, call, known):
        """What a call returns for zeros."""
        raw = [np.zeros(*known[a]) if type(a) is tuple else a for a in call.inputs]
        with np.errstate(all="ignore"):
            try:
                return call.op.kernel(*raw, **undrawn(call))
            except MXNetError:
                # numbers that zeros cannot be, such as the parameter of a distribution
                ones = [units(a) if isinstance(a, np.ndarray) else a for a in raw]
                return call.op.kernel(*ones, **undrawn(call))

    def fitted(self, node):
        """The inputs of a call, its plain numbers as its first array holds them:
        -1.0 is -1 among whole ones.
        """
        dtype = next((self.types.get(a) for a in node.inputs if type(a) is tuple), None)
        if dtype is None or dtype.kind == "f":
            return node.inputs
        numbers = int, float, np.generic
        return [held(a, dtype) if isinstance(a, numbers) else a for a in node.inputs]


# --- Which calls, in which order ------------------------------------------------------------------


def calls(entries, given):
    """The calls that `entries` need beyond the values in `given`, each after its inputs."""
    found, seen = [], set()
    stack = [(e[0], False) for e in reversed(entries) if e is not None and e not in given]
    while stack:
        node, visited = stack.pop()
        if visited:
            found.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            inputs = [a for a in node.inputs if type(a) is tuple and a not in given]
            stack.extend((a[0], False) for a in reversed(inputs))
    return found


def expanded(entries, inputs, outlines):
    """The same graph with the calls that shorthand stands for, for these shapes."""
    order = calls(entries, {*inputs})
    if not any(hasattr(node.op, "expand") for node in order):
        return entries
    made = {}
    for node in order:
        own = [made.get(a, a) for a in node.inputs]
        expand = getattr(node.op, "expand", None)
        found = expand and expand(own, outlines, **node.settings)
        if found is None:
            new = node if own == node.inputs else copied(node, own)
            found = [(new, i) for i in range(len(node.outputs))]
        for new in calls(found, {*inputs}):
            outlines.visit(new)
        made |= {(node, i): entry for i, entry in enumerate(found)}
    return [made.get(entry, entry) for entry in entries]


def copied(node, inputs):
    """A call on other inputs."""
    return Node(node.name, node.op, inputs, node.settings, dict(node.attrs), node.called)


# --- Equal calls are written once -----------------------------------------------------------------


def unique(entries, table, given):
    """The same graph in which equal calls are one; `table` remembers them from graph to graph."""
    made = {}
    for given_node in calls(entries, given):
        node = simplest(given_node)
        inputs = [renewed(a, made) for a in node.inputs]
        key = (node.op.name, node.op, text_of(node.settings), tuple(map(identity_of, inputs)))
        if draws(node.op):  # a draw of random numbers is never another one
            key = node
        if key not in table:
            same = [*map(identity_of, inputs)] == [*map(identity_of, node.inputs)]
            table[key] = node if same else Node(node.name, node.op, inputs, node.settings)
        made[given_node] = table[key]
    return [e and renewed(e, made) for e in entries]


def simplest(node):
    """The same call by the operator that does the work: relu for Activation of type relu."""
    simpler = getattr(node.op, "simpler", None)
    op = simpler and simpler(**node.settings)
    return Node(node.name, op, node.inputs) if op else node


def renewed(a, made):
    """An input of a call, in the new graph."""
    return (made.get(a[0], a[0]), a[1]) if type(a) is tuple else a


def identity_of(a):
    """What tells inputs apart: a number has a type as well as a value."""
    return (id(a[0]), a[1]) if type(a) is tuple else (type(a), a)


def text_of(settings):
    """Settings as something that can be compared."""
    return repr(sorted(settings.items(), key=lambda item: item[0])) if settings else ""


# --- The gradient, on paper -----------------------------------------------------------------------


def differentiate(outputs, heads, inputs, outlines):
    """Entries of the gradients of `inputs`, None where there is none, given those of `outputs`.

    `inputs` may hold None for those whose gradient nobody wants.
    """
    wanted = {e for e in inputs if e is not None}
    order = calls(outputs, wanted)
    live = set()
    for node in order:
        if any(type(a) is tuple and (a in wanted or a[0] in live) for a in node.inputs):
            live.add(node)
    grads = {}
    for entry, head in zip(outputs, heads):
        collect(grads, entry, Symbol([head]))
    for node in reversed(order):
        if node in live:
            for a, share in zip(node.inputs, shares_of(node, grads, outlines)):
                if share is not None and type(a) is tuple and (a in wanted or a[0] in live):
                    collect(grads, a, undone(share, a, outlines))
    return [grads[e]._entries[0] if e in grads else None for e in inputs]


def collect(grads, entry, share):
    """Add a share to the gradient of an entry."""
    grads[entry] = grads[entry] + share if entry in grads else share


def shares_of(node, grads, outlines):
    """What the rule of a call writes down for each of its arrays."""
    number = outlines.counts.get(node)
    seen = len(node.outputs)
    found = [grads.get((node, i)) for i in range(seen)]
    rules = node.op.rules
    if rules is None or (all(g is None for g in found) and not node.op.starts):
        return [None] * len(node.inputs)
    args = [Symbol([a]) if type(a) is tuple else a for a in node.inputs]
    if number is None:
        y = Symbol([(node, 0)])
        g = operators["zeros_like"](y) if found[0] is None else found[0]
    else:
        y = [Symbol([(node, i)]) for i in range(number)]
        g = [operators["zeros_like"](y[i]) if g is None else g for i, g in enumerate(found)]
    settings = {**node.op.defaults, **node.settings}
    if type(rules) is not tuple:
        return rules(g, y, *args, **settings)
    return [
        None if rule is None or type(a) is not tuple else rule(g, y, *args, **settings)
        for rule, a in zip(rules, node.inputs)
    ]


def undone(share, entry, outlines):
    """A share in the shape of its array: the sum over what was broadcast."""
    for node in calls(share._entries, outlines.shapes):
        outlines.visit(node)
    found = outlines.shapes.get(share._entries[0])
    if found is not None and found == outlines.shapes.get(entry):
        return share
    return operators["sum_like"](share, Symbol([entry]))


# --- Writing the program --------------------------------------------------------------------------

UFUNCS = {  # operator -> NumPy's function that does exactly the same on real numbers
    "add": "add",
    "subtract": "subtract",
    "multiply": "multiply",
    "divide": "divide",
    "negative": "negative",
    "maximum": "maximum",
    "minimum": "minimum",
    "exp": "exp",
    "log": "log",
    "expm1": "expm1",
    "log1p": "log1p",
    "sqrt": "sqrt",
    "square": "square",
    "sin": "sin",
    "cos": "cos",
    "tanh": "tanh",
    "abs": "absolute",
}
elsewhere = []  # functions of a writer and its program that return one for other arrays as well
# operator -> function of a writer and a call: the calls of its
# result alone that its walk makes as well
JOINS = {}
OWNERS = {*UFUNCS, "relu", "above", "FullyConnected", "dot", "batch_dot", "dense_data"}
OWNERS |= {"dense_weight", "Convolution", "conv_data", "conv_weight", "channel_sum", "pool_place"}
OWNERS |= {"normalized_convolution"}
# operators whose result is memory of their own, and that keep no view of their inputs


name_of = cache(str)  # of a type: NumPy puts it together anew each time, in 6 µs


def identifier(wish):
    """A name of Python like `wish`: a block may be called cross-entropy, or class."""
    wish = re.sub(r"\W", "_", wish) or "v"
    return f"_{wish}" if wish[0].isdigit() or keyword.iskeyword(wish) else wish


class Writer:
    """Writes a function on raw arrays: names, lines, and the scope in which it runs."""

    def __init__(self, name, inputs, outputs, outlines, saved=(), placing=False):
        self.name, self.inputs, self.outlines = identifier(name), inputs, outlines
        self.shown, self.outputs = {*outputs}, [*outputs, *saved]  # all that is returned
        self.kept = {*inputs, *self.outputs}  # what no call may write over, or let go
        # output's number -> argument: memory to write it to
        self.placing, self.places = placing, {}
        outputs = self.outputs
        self.scope, self.taken, self.names = {"__name__": __name__}, set(dir(builtins)), {}
        self.tried = Counter()  # a wish -> its last number
        self.known = {}  # the id of a value -> its name
        self.order, self.users, self.joined = calls(outputs, {*inputs}), {}, {}
        for a, node in self.reads():
            self.users.setdefault(a, []).append(node)
        self.order = self.together()
        self.last = dict(self.reads())

    def reads(self):
        """Who reads which value, in order."""
        return [(a, node) for node in self.order for a in node.inputs if type(a) is tuple]

    def together(self):
        """The calls in order, those that `JOINS` knows behind the one whose walk makes them:
        `joined` says which.
        """
        found, made = [], set()
        for node in self.order:
            if node not in made:
                self.joined[node] = self.joins(node)
                found += [node, *self.joined[node]]
                made.update(self.joined[node])
        return found

    def joins(self, node):
        """The calls that are made in the same walk as this one."""
        found = JOINS.get(node.op.name)
        return found(self, node) if found is not None and self.real(node) else ()

    def free_name(self, wish):
        """A Python name like `wish` that nothing else in the function has."""
        wish = found = identifier(wish)
        while found in self.taken:
            self.tried[wish] += 1
            found = f"{wish}_{self.tried[wish]}"
        self.taken.add(found)
        return found

    def bound(self, wish, value):
        """The name of a value from outside, such as a kernel."""
        if id(value) not in self.known:
            self.known[id(value)] = name = self.free_name(wish)
            self.scope[name] = value
        return self.known[id(value)]

    # --- Writing the program ----------------------------------------------------------------------

    def value(self, a):
        """An input of a call as Python writes it."""
        if type(a) is not tuple:
            return self.constant(a)
        name = self.names[a[0]] if a[0] in self.names else self.names[a]
        return f"{name}[{a[1]}]" if a[0] in self.outlines.counts and a not in self.names else name

    def constant(self, a):
        """A number or a setting as Python writes it; by name if its text would not make it again."""
        plain = a is None or type(a) in (bool, int, str) or (type(a) is float and np.isfinite(a))
        if plain or (type(a) is tuple and all(type(n) in (int, type(None)) for n in a)):
            return repr(a)
        return self.bound("constant", a)

    def line(self, node):
        """The call of a node: `y = f(x, setting=…)`, in place where that does no harm."""
        args = [self.value(a) for a in self.outlines.fitted(node)]
        if node.op.name in SPELT and self.real(node) and (text := SPELT[node.op.name](self, node)):
            for made in (node, *self.joined[node]):
                into = self.dying(made) if self.in_place(made.op) else None
                self.names[made] = self.value(into) if into else self.free_name(made.name)
            results = dict.fromkeys(self.names[made] for made in (node, *self.joined[node]))
            return f"{', '.join(results)} = {text}"
        if (ufunc := self.in_place(node.op)) and self.real(node):
            into = self.dying(node)
            function = self.bound(ufunc.__name__, ufunc)
            self.names[node] = self.value(into) if into else self.free_name(node.name)
            args += [f"out={self.value(into)}"] if into else []
            return f"{self.names[node]} = {function}({', '.join(args)})"
        args += [f"{key}={self.constant(v)}" for key, v in node.settings.items()]
        function = self.bound(node.op.name, node.op.kernel)
        self.names[node] = self.free_name(node.name)
        return f"{self.names[node]} = {function}({', '.join(args)})"

    def in_place(self, op):
        """The function of a call that can write into an array `out`; None if there is none."""
        return getattr(np, UFUNCS[op.name]) if op.name in UFUNCS else getattr(op, "into", None)

    def real(self, node):
        """Whether a call is known to map arrays of one floating type to the same type."""
        types = {self.outlines.types.get(a) for a in [*node.inputs, (node, 0)] if type(a) is tuple}
        return len(types) == 1 and getattr(types.pop(), "kind", "") == "f"

    def product(self, node):
        """The name of the function that multiplies two matrices in a call."""
        entries = *node.inputs[:2], (node, 0)
        work = math.prod(math.prod(self.outlines.shapes[e]) for e in entries) ** 0.5
        if work <= LARGE and self.small:
            return self.bound("matmul", np.matmul)
        function = core_matmul if self.alone else prompt_matmul if self.small else matmul
        return self.bound("matmul", function)

    alone = False  # whether the program has one thread, and others run beside it
    own = 0  # how many outputs the caller gets, each an array of its own

    def results(self):
        """What is returned, as Python writes it: a call that was written once and is asked for twice, with a copy."""
        texts = ["None" if e is None else self.value(e) for e in self.outputs]
        for i, e in enumerate(self.outputs[: self.own]):
            if e in self.outputs[:i] and e not in self.inputs:
                texts[i] += ".copy()"
        return texts

    @cached_property
    def small(self):
        """Whether no operator of the program shares its work."""
        entries = [*self.inputs, *((n, 0) for n in self.order)]
        small = all(math.prod(self.outlines.shapes.get(e) or (SMALL,)) < SMALL for e in entries)
        return small and not any(n.op.name in SHARING for n in self.order)

    def passes_on(self, node):
        """Whether nobody but calls that move numbers, or multiply them, reads the results of a call."""
        entries = [(node, i) for i in range(self.outlines.counts.get(node, 1))]
        users = [user for e in entries for user in self.users.get(e, ())]
        return not self.shown.intersection(entries) and all(u.op.name in MOVES for u in users)

    def turned(self, node):
        """Whether a layer's result lies in memory column by column: if only products and what is
        computed number by number will read it."""
        return self.small and len(self.outlines.shapes[node, 0]) == 2 and self.inner(node)

    def inner(self, node):
        """Whether only products read a call's result, or what is computed of it number by number."""
        return (node, 0) not in self.shown and all(
            user.op.name in PRODUCTS or (self.in_place(user.op) and self.inner(user))
            for user in self.users.get((node, 0), ())
        )

    def place(self, node):
        """The argument `out` of a call whose result is returned: memory that the caller may give."""
        if not self.placing or (node, 0) not in self.shown:
            return ""
        number = self.outputs.index((node, 0))
        self.places[number] = self.free_name(f"into_{node.name}")
        return f", out={self.places[number]}"

    def matrix(self, a, flatten):
        """An input of a layer as the matrix that it multiplies."""
        shape, text = self.outlines.shapes[a], self.value(a)
        sizes = (shape[0], math.prod(shape[1:])) if flatten else (math.prod(shape[:-1]), shape[-1])
        return text if shape == sizes else f"{text}.reshape({sizes})"

    def shaped(self, text, node):
        """A matrix in the shape of a call's result."""
        shape = self.outlines.shapes[node, 0]
        return text if len(shape) == 2 else f"{text}.reshape({shape})"

    def dying(self, node):
        """The input that a call may overwrite, or None."""
        shape = self.outlines.shapes[node, 0]
        for a in node.inputs:
            if (
                type(a) is tuple
                and shape  # NumPy gives numbers without axes as scalars, which hold nothing
                and self.last[a] is node
                and a not in self.kept
                and a[0].op.name in OWNERS
                and self.outlines.shapes.get(a) == shape
                and all(user.op.name in OWNERS for user in self.users[a])
            ):
                return a
        return None

    def large(self, entry):
        """Whether an array is worth freeing early."""
        shape = self.outlines.shapes.get(entry)
        return shape is None or math.prod(shape) >= 16384

    def function(self):
        """The function itself; its text is `function.source`."""
        for entry in self.inputs:
            self.names[entry] = self.free_name(
                entry[0].name if entry[0].op is None else f"saved_{entry[0].name}"
            )
        arguments = ", ".join(self.names[e] for e in self.inputs)
        lines = []
        for part in self.runs():
            if len(part) > 1:
                lines += [f"    {line}" for line in self.chain(part)]
            else:
                lines.append(f"    {self.line(part[0])}{self.remark(part[0])}")
            dead = {self.names[a[0]] for n in part for a in n.inputs if self.dead(a, part)}
            if dead:
                lines.append(f"    del {', '.join(sorted(dead))}")
        lines.append(f"    return ({', '.join(self.results())},)")
        arguments += "".join(
            [", /" if arguments else "", *(f", {p}=None" for p in self.places.values())]
        )
        source = "\n".join([f"def {self.name}({arguments}):", *lines])
        exec(compile(source, f"<{self.name}>", "exec"), self.scope)
        function = self.scope[self.name]
        function.source, function.places = source, self.places
        for way in elsewhere:
            function = way(self, function)
        return function

    def dead(self, a, run):
        """Whether an input's name can go after these calls."""
        return (
            type(a) is tuple
            and self.last[a] in run
            and a[0] not in run
            and a not in self.kept
            and a[0] not in self.outlines.counts
            and self.names[a[0]] not in {self.names[node] for node in run}
            and self.large(a)
        )

    def remark(self, node):
        """Type and shape of a call's result, for the reader."""
        shape = self.outlines.shapes.get((node, 0))
        return "" if shape is None else f"  # {name_of(self.outlines.types[node, 0])}{list(shape)}"

    # --- One pass instead of many -----------------------------------------------------------------

    def runs(self):
        """The calls in order, as lists: chains of elementwise calls on equal shapes, others alone."""
        found, before = [], None
        for node in self.joined:
            shape = None if self.joined[node] else self.chained(node)
            if shape is not None and shape == before:
                found[-1].append(node)
            else:
                found.append([node])
            before = shape
        return found

    def chained(self, node):
        """The shape and type of a call that can be part of a chain, else None."""
        shape = self.outlines.shapes.get((node, 0))
        if (
            self.in_place(node.op) is None
            or shape is None
            or math.prod(shape) * alone.threads < FUSED
        ):
            return None
        same = all(self.outlines.shapes.get(a) == shape for a in node.inputs if type(a) is tuple)
        return (shape, self.outlines.types[node, 0]) if same and self.real(node) else None

    def chain(self, run):
        """The lines of a chain: a function of a slice, and its call on all slices."""
        shape, dtype = self.chained(run[0])
        name, size = self.free_name("chain"), math.prod(shape)
        results = [n for n in run if self.goes_on(n, run)]
        outside = {a: self.value(a) for n in run for a in n.inputs if self.enters(a, run)}
        given = {
            a: self.free_name(f"{re.sub('[^a-zA-Z0-9_]', '_', text)}_")
            for a, text in outside.items()
        }
        for n in results:
            self.names[n] = self.free_name(n.name)
        empty, flat, walk = (self.bound(f.__name__, f) for f in (np.empty, np.ravel, in_blocks))
        typed = self.bound(str(dtype), dtype.type)
        lines = [f"{self.names[n]} = {empty}({shape}, {typed})" for n in results]
        parameters = [f"{given[a]}={flat}({text})" for a, text in outside.items()]
        parameters += [f"{self.names[n]}={flat}({self.names[n]})" for n in results]
        lines.append(f"def {name}(at, {', '.join(parameters)}):")
        local = {a: f"{given[a]}[at]" for a in outside}
        for n in run:
            lines.append(f"    {self.part(n, run, results, local)}{self.remark(n)}")
        return [*lines, f"{walk}({name}, {size})"]

    def part(self, node, run, results, local):
        """The line of one call in a chain; `local` maps entries to their names there."""
        args = [local[a] if type(a) is tuple else self.constant(a) for a in node.inputs]
        function = self.bound(self.in_place(node.op).__name__, self.in_place(node.op))
        into = self.dying(node)
        if node in results:
            args.append(f"out={self.names[node]}[at]")
            local[node, 0] = self.free_name("part")
        elif into is not None and into[0] in run:
            args.append(f"out={local[into]}")
            local[node, 0] = local[into]
        else:
            local[node, 0] = self.free_name(node.name)
        self.names.setdefault(node, local[node, 0])
        return f"{local[node, 0]} = {function}({', '.join(args)})"

    def goes_on(self, node, run):
        """Whether a call's result is needed after the chain."""
        return (node, 0) in self.kept or any(u not in run for u in self.users.get((node, 0), ()))

    def enters(self, a, run):
        """Whether an input comes from outside the chain."""
        return type(a) is tuple and a[0] not in run


def spelt_dense(writer, node):
    """A layer: its product, to which the bias is added in place."""
    data, weight, *bias = node.inputs
    data = writer.matrix(data, node.settings.get("flatten", True))
    product, weight, turned = writer.product(node), writer.value(weight), writer.turned(node)
    factors = f"{weight}, {data}.T" if turned else f"{data}, {weight}.T"
    if bias and bias[0] is not None:
        text = adding[-1](writer, node, product, factors, writer.value(bias[0]), turned)
    else:
        text = f"{product}({factors})"
    return f"{text}.T" if turned else writer.shaped(text, node)


def spelt_plus(writer, node, product, factors, bias, turned):
    """A bias, added to the product of a layer."""
    bias = f"{bias}[:, None]" if turned else bias
    return f"{writer.bound('plus', plus)}({product}({factors}), {bias})"


adding = [spelt_plus]  # the last one is taken


def plus(y, bias):
    """`y`, to which a bias is added in place."""
    y += bias
    return y


def spelt_data(writer, node):
    """The gradient of a layer's data."""
    data, weight, _ = node.inputs
    data, weight, product = writer.matrix(data, False), writer.value(weight), writer.product(node)
    if writer.turned(node):
        return f"{product}({weight}.T, {data}.T).T"
    return writer.shaped(f"{product}({data}, {weight})", node)


def spelt_weight(writer, node):
    """The gradient of a layer's weight."""
    data, inputs = node.inputs
    inputs = writer.matrix(inputs, node.settings.get("flatten", True))
    return f"{writer.product(node)}({writer.matrix(data, False)}.T, {inputs}{writer.place(node)})"


def spelt_sum(writer, node):
    """A sum or mean along axes."""
    data = writer.value(node.inputs[0])
    shape, result = writer.outlines.shapes[node.inputs[0]], writer.outlines.shapes[node, 0]
    if math.prod(result) == 0 or writer.outlines.types[node, 0].itemsize == 2:
        return None
    if math.prod(shape) == math.prod(result):
        return f"{data}.reshape({result})"
    settings, n = {**node.op.defaults, **node.settings}, math.prod(shape) / math.prod(result)
    where = axes(np.broadcast_to(False, shape), settings["axis"], settings["exclude"])
    if are_sums_of_columns(shape, where, settings["keepdims"], writer.outlines.types[node, 0]):
        text = f"{writer.bound('column_sums', column_sums)}({data})"
    else:
        text = f"{data}.sum({where[0] if len(where) == 1 else where}"
        text += ", keepdims=True)" if settings["keepdims"] else ")"
    text = f"{text}.reshape(1)" if len(where) == len(shape) and not settings["keepdims"] else text
    return f"{text} / {n}" if node.op.name == "mean" else text


def are_sums_of_columns(shape, where, keepdims, dtype):
    """Whether the kernel of `sum` takes a product with ones for such a sum,
    as it does for many numbers.
    """
    size, others = math.prod(shape), (*range(len(shape) - 1),)
    many = len(shape) > 1 and size >= 8192 and size >= 8 * shape[-1]
    return many and where == others and not keepdims and dtype == np.float32


MOVES = ("reshape", "reshape_like", "transpose", "batch_dot", "Flatten")  # read each number once


def spelt_view(writer, node):
    """A reshape or transpose that only such calls read: they need no copy."""
    if not writer.passes_on(node):
        return None
    data = writer.value(node.inputs[0])
    if node.op.name == "reshape":
        return f"{data}.reshape({writer.outlines.shapes[node, 0]})"
    return f"{data}.transpose({node.settings.get('axes') or ''})"


def spelt_split(writer, node):
    """The pieces of an array, as views, where only such calls read them."""
    if not writer.passes_on(node) or node not in writer.outlines.counts:
        return None
    data, shape = node.inputs[0], writer.outlines.shapes[node.inputs[0]]
    settings = {**node.op.defaults, **node.settings}
    axis, n = settings["axis"] % len(shape), writer.outlines.counts[node]
    size, before = shape[axis] // n, ":, " * axis
    pieces = [f"{writer.value(data)}[{before}{size * i} : {size * (i + 1)}]" for i in range(n)]
    return None if settings["squeeze_axis"] else f"({', '.join(pieces)})"


SPELT = {
    "reshape": spelt_view,
    "transpose": spelt_view,
    "split": spelt_split,
    "FullyConnected": spelt_dense,
    "dense_data": spelt_data,
    "dense_weight": spelt_weight,
    "sum": spelt_sum,
    "mean": spelt_sum,
}


SMALL = 1 << 18  # numbers: operators share the work on arrays from this size
LARGE = 1 << 20  # multiplications from which a core has better ways than NumPy's
# and from fewer:
SHARING = ("Convolution", "normalized_convolution", "Deconvolution", "Pooling", "RNN")
PRODUCTS = ("FullyConnected", "dense_data", "dense_weight", "sum", "greater")


# --- One pass instead of many ---------------------------------------------------------------------

FUSED = 1 << 20  # numbers of an array, for each core, from which chains run in blocks
BLOCK = 1 << 16  # numbers in a block: measured, smaller ones cost more in calls


def in_blocks(function, size):
    """Call `function` on slices that cover `size` numbers, on all cores if there are many."""
    spread(function, [slice(i, i + BLOCK) for i in range(0, size, BLOCK)])


# --- One operator ---------------------------------------------------------------------------------


def as_operator(name, inputs, outputs, outlines, wanted=None, batch=()):
    """The operator that runs a graph: variables `inputs` to entries `outputs`, as one call.

    `outlines` knows shapes and types of the inputs. `wanted` tells for which inputs there will be a
    gradient, by default for all; `batch`, which inputs may be cut along their first axis. The text
    of both programs is `op.listing`.
    """
    table, given = {}, {*inputs}
    outputs = unique(outputs, table, given)
    for node in calls(outputs, given):
        outlines.visit(node)
    heads = [head_of(i, e, outlines) for i, e in enumerate(outputs)]
    chosen = [e if wanted is None or wanted[i] else None for i, e in enumerate(inputs)]
    back = unique(differentiate(outputs, heads, chosen, outlines), table, {*given, *heads})
    inside = {*calls(outputs, given)}
    drawn = [node for node in calls(outputs, given) if by_chance(node)]
    held, stuck = held_draws(drawn, outlines) if heads else ({}, [])
    saved = list(dict.fromkeys([*needed(back, inside, {*given, *heads}), *held]))
    for node in calls(back, {*given, *heads, *saved}):
        outlines.visit(node)
    graph = Pair(name, inputs, outputs, saved, heads, back)
    kernel, pull = in_parts(graph, outlines, batch) or graph.written(outlines)
    op = operator(kernel, same_dtype=False, listed=False)
    op.starts = any(node.op.starts for node in inside)
    op.visible, op.listing = len(outputs), f"{kernel.source}\n\n\n{pull.source}\n"
    there = [op.visible + saved.index(e) for e in held]  # where the program returns what was drawn
    op.rules = rule_of(name, op, pull, (heads, inputs, back, outlines), held, there, stuck)
    return op


class Pair(NamedTuple):
    """A forward graph, from `inputs` to `outputs` and what is `saved`, and a backward graph,
    from `heads` to `back`.
    """

    name: str
    inputs: list
    outputs: list
    saved: list
    heads: list
    back: list

    def written(self, outlines, alone=False):
        """The two programs; with `alone` for one thread each."""
        given = [*self.heads, *self.saved, *self.inputs]
        kernel = Writer(self.name, self.inputs, self.outputs, outlines, self.saved)
        pull = Writer(f"{self.name}_backward", given, self.back, outlines, placing=not alone)
        kernel.own = len(self.outputs)
        for writer in (kernel, pull):
            writer.alone = alone
        return kernel.function(), pull.function() if self.heads else None


CHANCE = {  # operators that draw only with some settings
    "Dropout": lambda p, mode, **_: p > 0 and (mode == "always" or state.training),
    "LeakyReLU": lambda act_type, **_: act_type == "rrelu",
    "RNN": lambda p=0, **_: p > 0 and state.training,
}


def by_chance(node):
    """Whether two runs of a call may give different numbers."""
    settings = {**node.op.defaults, **node.settings}
    if not draws(node.op) or settings["rng"] is not None:
        return False
    return CHANCE.get(node.op.name, lambda **_: True)(**settings)


def head_of(number, entry, outlines):
    """A variable for the gradient of an output."""
    head = (Node(f"g{number}"), 0)
    if outlines.shapes.get(entry) is not None:
        outlines.put(head, outlines.shapes[entry], outlines.types[entry])
    return head


FIRST_DRAWN = {"Dropout": 1, "LeakyReLU": 1}  # which output shows what was drawn; else all do

# operator -> its other outputs, or those that can be differentiated, from
# its arrays and from what it has drawn
AGAIN = {
    "Dropout": lambda data, mask, **_: data * mask,
    "LeakyReLU": lambda data, slopes, **_: operators["where"](data > 0, data, data * slopes),
    "RNN": lambda *arrays, **settings: operators["RNN"].again(*arrays, **settings),
}


def held_draws(drawn, outlines):
    """{entry: None} of what the calls `drawn` have drawn, and the names of those that do not show it."""
    shown = [node for node in drawn if node.op.name in AGAIN or node.op.rules is None]
    held = {}
    for node in shown:
        first = FIRST_DRAWN.get(node.op.name, 0)
        held |= {(node, i): None for i in range(first, outlines.counts.get(node, first + 1))}
    return held, [node.name for node in drawn if node not in shown]


def redrawn(heads, inputs, back, outlines, held):
    """The backward graph with a variable, one more input, for each of the drawn entries `held`."""
    if not held:
        return heads, inputs, back, outlines
    variables, made, moved, of = {}, {}, {}, {}
    for node, i in held:
        variables[node, i] = made[node, i] = (Node(f"{node.name}_drawn{i}"), 0)
        of.setdefault(node, []).append(made[node, i])
        if outlines.shapes.get((node, i)) is not None:
            outlines.put(made[node, i], outlines.shapes[node, i], outlines.types[node, i])

    def found(a):
        return made.get(a) or (moved.get(a[0], a[0]), a[1])

    alone = {e for e in held if e[0].op.name not in AGAIN}  # what was drawn from nothing
    for node in calls(back, {*heads, *inputs, *alone}):
        entries = [found(a) if type(a) is tuple else a for a in node.inputs]
        if node in of:
            arrays = [Symbol([e]) for e in (*entries, *of[node])]
            again = AGAIN[node.op.name](*arrays, **{**node.op.defaults, **node.settings})
            made |= {(node, i): e for i, e in enumerate(again._entries)}
        elif entries != node.inputs:
            moved[node] = Node(node.name, node.op, entries, node.settings)
    return heads, [*inputs, *variables.values()], [e and found(e) for e in back], outlines


def needed(back, inside, given):
    """The values of forward calls, `inside`, that the backward graph reads."""
    found, seen, stack = {}, set(), [e for e in back if e is not None]
    while stack:
        entry = stack.pop()
        if entry in given or entry in seen:
            continue
        seen.add(entry)
        if entry[0] in inside:
            found[entry] = True
        else:
            stack.extend(a for a in entry[0].inputs if type(a) is tuple)
    return list(found)


def rule_of(name, op, pull, graph, held, there, stuck):
    """The rule of an operator whose backward program is `pull`.

    `held` are entries that were drawn, which the operator returns at the places `there`; `stuck`
    names calls that hide theirs.
    """
    second = []

    def rule(g, y, *args, into=()):
        if type(y) is tuple:  # raw arrays: run the program on what was saved
            given = {places[i]: a for i, a in enumerate(into) if a is not None and i in places}
            return pull(*g, *y[op.visible :], *args, **given)
        if stuck:  # from the inputs alone other numbers would be drawn
            raise MXNetError(
                f"{name}: a program that draws random numbers, in {', '.join(stuck)}, "
                "and keeps them to itself, has a "
                "gradient but no gradient of its gradient: call hybridize(False) for create_graph=True"
            )
        if not second:
            second.append(backward_operator(f"{name}_backward", *redrawn(*graph, held)))
        return second[0](*g, *args, *[y[i] for i in there])

    rule.places = places = pull.places
    return rule


def backward_operator(name, heads, inputs, back, outlines):
    """The function from head gradients and inputs to the gradients of the inputs, as an operator."""
    there = [e for e in back if e is not None]
    if not there:
        return lambda *_: [None] * len(back)
    op = as_operator(name, [*heads, *inputs], there, outlines)

    def call(*args):
        out = op(*args)
        parts = iter(out if isinstance(out, list | tuple) else [out])
        return [None if e is None else next(parts) for e in back]

    return call


def in_parts(graph, outlines, batch):
    """The two programs of a `Pair` in parts of the batch; None where that cannot be or does not pay."""
    batch = [e for e in batch if outlines.shapes.get(e)]
    size = outlines.shapes[batch[0]][0] if batch else 0
    count = parts.count_for(size, alone.threads)
    numbers = sum(math.prod(shape) for shape in outlines.shapes.values() if shape is not None)
    if count < 2 or numbers < parts.ENOUGH:  # too few, whatever their kinds
        return None
    if not (graph.outputs and all(e in outlines.shapes for e in graph.inputs)):
        return None
    kinds = dict.fromkeys(graph.inputs, parts.ALL)
    kinds |= {e: parts.PART for e in batch if outlines.shapes[e][0] == size}
    part = Outlines()
    for e in graph.inputs:
        shape = outlines.shapes[e]
        part.put(
            e,
            (shape[0] // count, *shape[1:]) if kinds[e] == parts.PART else shape,
            outlines.types[e],
        )
    found = kinds_of_both(graph, kinds, outlines, part, count)
    if found is None or not parts.worth(found, outlines):
        return None
    kernel, pull = graph.written(part, alone=True)
    given, results = [kinds[e] for e in graph.inputs], [e and found[e] for e in graph.back]
    both = (
        parts.forward_in_parts(kernel, given, count, len(graph.outputs)),
        parts.backward_in_parts(pull, len(graph.heads), given, count, results),
    )
    whole = cache(lambda: graph.written(outlines))
    return [
        f and with_whole(f, run, whole, i, "# in parts of the batch\n")
        for i, (f, run) in enumerate(zip((kernel, pull), both))
    ]


def kinds_of_both(graph, kinds, whole, part, count):
    """The kinds of all values of two programs; None if they cannot run in parts."""
    given = {*graph.inputs}
    forward = calls([*graph.outputs, *graph.saved], given)
    for node in forward:
        part.visit(node)
    found = parts.kinds_of(forward, kinds, whole, part, count)
    if found is None or any(found[e] != parts.PART for e in graph.outputs):
        return None
    for head, e in zip(graph.heads, graph.outputs):
        part.put(head, part.shapes[e], part.types[e])
        found[head] = parts.PART
    backward = calls(graph.back, {*found})
    for node in backward:
        part.visit(node)
    return parts.kinds_of(backward, found, whole, part, count)


def with_whole(function, run, whole, number, note=""):
    """The program `run`, and for arrays that are not NumPy's the ordinary one, which `whole` writes."""

    @wraps(function)
    def program(*arrays, **into):
        if type(arrays[0]) is np.ndarray:
            return run(*arrays, **into)
        return whole()[number](*arrays)

    program.places = getattr(run, "places", {})
    program.source = f"{note}{function.source}"
    return program


# --- A program for each kind of call --------------------------------------------------------------

LOOPS = ("_foreach", "_while_loop", "_cond")
KEPT = 1 << 30  # bytes of freed memory for the next batch


def uncollected(function):
    """Let Python's collector of cycles wait while `function` runs, as a decorator."""

    @wraps(function)
    def call(*args, **kwargs):
        if not gc.isenabled():
            return function(*args, **kwargs)
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            gc.enable()

    return call


class Written:
    """A graph, variables `inputs` to entries `outputs`, that can be called on NDArrays."""

    static = False  # whether its programs may keep their memory from call to call
    inside = None  # (inputs, outputs) of a graph so small that `get_symbol` shows it

    def __init__(self, inputs, outputs, name, data=0):
        self.inputs, self.outputs, self.name, self.programs = inputs, outputs, name, {}
        self.batch = inputs[:data]  # what may be cut along its first axis
        order = calls(outputs, {*inputs})
        self.loops = any(node.op.name in LOOPS for node in order)
        self.open = any(open_shape(node) is not None for node in order)

    def __call__(self, *arrays):
        """The outputs: a list, or the only one."""
        if self.loops and state.recording:  # the tape wants to see every step
            return self.walk(arrays, arrays[0]._ctx)
        return self.program(arrays)(*arrays)

    def program(self, arrays):
        """The operator for such arrays, written if there is none yet."""
        wanted = tuple([a._node is not None for a in arrays]) if state.recording else ()
        wanted = wanted if any(wanted) else ()
        key = wanted, tuple([(a._data.shape, a._data.dtype) for a in arrays])
        found = self.programs.get(key)
        if found is None:
            found = self.programs[key] = self.write(arrays, wanted)
        return found

    def walk(self, arrays, ctx, hooks=()):
        """The same, computed node by node, which `hooks` hear of."""
        names = [node.name for node, _ in self.inputs]
        out = executor.run(self.closed(arrays), dict(zip(names, arrays)), ctx, hooks)
        return out if len(out) > 1 else out[0]

    def closed(self, arrays):
        """The outputs, where calls leave no sizes open: `zeros((0, 4))` has what fits such arrays."""
        names = [node.name for node, _ in self.inputs]
        return (
            executor.closed(self.outputs, dict(zip(names, arrays))) if self.open else self.outputs
        )

    @uncollected
    def write(self, arrays, wanted):
        """A new program."""
        keep_memory(KEPT)
        outlines = Outlines()
        for entry, a in zip(self.inputs, arrays):
            outlines.put(entry, a._data.shape, a._data.dtype)
        outputs = expanded(self.closed(arrays), self.inputs, outlines)
        graph = self.name, self.inputs, outlined(outputs, {*self.inputs}, outlines), outlines
        if wanted:
            op = as_operator(*graph, wanted, self.batch)
        else:
            op = without_gradient(*graph, self.batch)
        op.inside = self.inside
        for keep in keepers if self.static else ():
            keep(op, self)
        return op


def outlined(entries, given, outlines):
    """The graph with equal calls as one, all of them outlined;
    MXNetError for one on arrays of different types.
    """
    entries = unique(entries, {}, given)
    for node in calls(entries, given):
        outlines.visit(node)
        if node.op.same_dtype:
            known = [a for a in node.inputs if type(a) is tuple and a in outlines.types]
            raw = [Outline(outlines.shapes[a], outlines.types[a]) for a in known]
            require_same_dtype(node.op, raw, node.settings)
    return entries


keepers = []  # functions of an operator and its `Written`, a static one


def without_gradient(name, inputs, outputs, outlines, batch=()):
    """The operator that only runs a graph forwards."""
    graph = Pair(name, inputs, outputs, [], [], [])
    found = in_parts(graph, outlines, batch)
    kernel, _ = found or in_fewer_calls(graph, outlines)
    op = operator(kernel, same_dtype=False, listed=False)
    op.visible, op.listing = len(outputs), kernel.source
    return op


def merged(outputs, inputs, outlines):
    """The same graph, where a call and the one before it are one call if an operator knows how."""
    order = calls(outputs, {*inputs})
    if not any(hasattr(node.op, "merge") for node in order):
        return outputs
    readers = Counter([*outputs, *(a for n in order for a in n.inputs if type(a) is tuple)])
    several, made = {node for node, i in readers if i}, {}
    for node in order:
        before = node.inputs[0] if node.inputs and type(node.inputs[0]) is tuple else None
        merge = getattr(node.op, "merge", None)
        alone = merge and before and before[0].op and before not in inputs
        alone = alone and readers[before] == 1 and not several & {node, before[0]}
        found = merge(before[0], node.inputs, node.settings) if alone else None
        own = [renewed(a, made) for a in (found[1] if found else node.inputs)]
        if found:
            made[node] = Node(node.name, found[0], own, found[2])
        elif own != node.inputs:
            made[node] = copied(node, own)
        remember(outlines, node, made.get(node, node), not found)
    return [renewed(e, made) for e in outputs]


def in_fewer_calls(graph, outlines):
    """The programs of a `Pair` that only runs forwards, with `merged` calls for NumPy's arrays."""
    outputs = merged(graph.outputs, graph.inputs, outlines)
    kernel, pull = graph._replace(outputs=outputs).written(outlines)
    if outputs != graph.outputs:
        kernel = with_whole(kernel, kernel, cache(lambda: graph.written(outlines)), 0)
    return kernel, pull


def remember(outlines, node, new, all_outputs):
    """Write down of a new call what is known of the one whose place it takes."""
    if new is node:
        return
    count = outlines.counts.get(node)
    if count and all_outputs:
        outlines.counts[new] = count
    for i in range((count or 1) if all_outputs else 1):
        if (node, i) in outlines.shapes:
            outlines.put((new, i), outlines.shapes[node, i], outlines.types[node, i])


# --- At once --------------------------------------------------------------------------------------


def traced(function, shapes, name="forward", dtype="float32"):
    """The operator of `function`, traced on variables x0, x1, … of these shapes."""
    inputs, outlines = [(Node(f"x{i}"), 0) for i in range(len(shapes))], Outlines()
    for entry, shape in zip(inputs, shapes):
        outlines.put(entry, shape, dtype)
    out = function(*[Symbol([e]) for e in inputs])
    return as_operator(name, inputs, [e for s in listed(out) for e in s._entries], outlines)


def listed(out):
    """One result or several as a list."""
    return list(out) if isinstance(out, list | tuple) else [out]
