"""What treats every sample alike can treat half of the samples on each core, and gradients add up."""

# Written from chapters/21b_parts.ipynb: edit the chapter, then run `minigluon export`.

import math

import numpy as np

from minigluon.cores import spread
from minigluon.symbol.inference import draws

__all__ = [
    "ALL",
    "Call",
    "ENOUGH",
    "LARGE",
    "LINEAR",
    "PART",
    "RULES",
    "SCALING",
    "SUM",
    "TIMES",
    "added",
    "agrees",
    "along_an_axis",
    "backward_in_parts",
    "by_itself",
    "count_for",
    "cut",
    "forward_in_parts",
    "in_order",
    "joined",
    "kind_of",
    "kinds_of",
    "layer",
    "layer_data",
    "layer_weight",
    "moved",
    "normalized",
    "number_by_number",
    "products",
    "reduced",
    "reduces_samples",
    "rule",
    "shares_itself",
    "spread_out",
    "summed",
    "summed_like",
    "worth",
]


# --- The kinds of values --------------------------------------------------------------------------

ALL, PART, SUM = "all", "part", "sum"
RULES = {}  # operator -> function(call) that returns the kind of its result, or kinds, or None


def rule(*names):
    """Decorator: how these operators treat the kinds of their arrays."""

    def note(function):
        for name in names:
            RULES[name] = function
        return function

    return note


class Call:
    """A call in a graph: kinds and shapes of its arrays, its settings, the shape of its first result."""

    def __init__(self, node, kinds, shapes):
        arrays = [a for a in node.inputs if type(a) is tuple]
        self.kinds, self.shapes = [kinds[a] for a in arrays], [shapes[a] for a in arrays]
        self.numbers = len(node.inputs) - len(arrays)
        self.settings, self.shape = {**node.op.defaults, **node.settings}, shapes[node, 0]

    def spares(self, axis):
        """Whether `axis` of the first array, or none of several, is the first."""
        several = axis if isinstance(axis, tuple | list) else (axis,)
        return all(a is not None and a % len(self.shapes[0]) for a in several)


LINEAR = ("add", "subtract", "negative", "reshape", "reshape_like", "sum_like")
SCALING = ("multiply", "divide")  # linear if one of the two is a number


@rule(
    *("add", "subtract", "negative"),
    *("multiply", "divide", "maximum", "minimum", "power", "exp", "log", "expm1", "log1p", "sqrt"),
    *(
        "square",
        "sin",
        "cos",
        "tanh",
        "sigmoid",
        "relu",
        "abs",
        "sign",
        "greater",
        "lesser",
        "equal",
        "above",
    ),
    *(
        "softrelu",
        "softsign",
        "erf",
        "gelu",
        "rsqrt",
        "Activation",
        "zeros_like",
        "ones_like",
        "where",
    ),
    *("greater_equal", "lesser_equal", "not_equal", "clip", "cast_like"),
)
def number_by_number(call):
    axes = len(call.shape)
    whole = [s for k, s in zip(call.kinds, call.shapes) if k == ALL]
    cut = [s for k, s in zip(call.kinds, call.shapes) if k == PART]
    fits = all(len(s) == axes and s[0] == call.shape[0] for s in cut)
    return PART if fits and all(len(s) < axes or s[0] == 1 for s in whole) else None


@rule("reshape", "Flatten", "reshape_like", "expand_dims", "squeeze")
def in_order(call):
    return PART


@rule("transpose")
def moved(call):
    axes = call.settings["axes"] or ()
    return PART if axes and axes[0] == 0 else None


@rule(
    "split", "slice_axis", "softmax", "log_softmax", "softmax_back", "log_softmax_back", "LayerNorm"
)
@rule("sparse_softmax_cross_entropy", "cross_entropy_back")
def along_an_axis(call):
    return PART if call.spares(call.settings["axis"]) else None


@rule("concat", "stack")
def joined(call):
    where = call.settings["dim"] if "dim" in call.settings else call.settings["axis"]
    return PART if {*call.kinds} == {PART} and call.spares(where) else None


def reduces_samples(call, shape):
    """Whether the first axis of an array of this shape is reduced."""
    axis, axes = call.settings["axis"], len(shape)
    if axis is None or axis == ():
        return not (call.settings["exclude"] and axis == ())
    chosen = {a % axes for a in (axis if isinstance(axis, tuple | list) else (axis,))}
    return (0 in chosen) != call.settings["exclude"]


@rule("sum")
def summed(call):
    return SUM if reduces_samples(call, call.shapes[0]) else PART


@rule("mean", "max", "min")
def reduced(call):
    return None if reduces_samples(call, call.shapes[0]) else PART


@rule("spread_along", "broadcast_along")
def spread_out(call):
    return None if call.kinds != [PART, PART] or reduces_samples(call, call.shapes[1]) else PART


@rule("sum_like")
def summed_like(call):
    kind, like = call.kinds[0], call.shapes[1]
    if kind == SUM:
        return SUM
    if call.kinds[1] == PART:
        return PART
    return SUM if len(like) < len(call.shapes[0]) or like[0] == 1 else None


@rule("FullyConnected")
def layer(call):
    return (
        PART if call.kinds[1:] == [ALL] * len(call.kinds[1:]) and len(call.shapes[0]) > 1 else None
    )


@rule("dense_data")
def layer_data(call):
    return PART if call.kinds == [PART, ALL, PART] else None


@rule("dense_weight")
def layer_weight(call):
    return SUM if call.kinds == [PART, PART] else None


@rule("batch_dot")
def products(call):
    return PART if call.kinds == [PART, PART] else None


@rule("norm_backward")
def normalized(call):
    over = not reduces_samples(call, call.shapes[1]) and call.spares(call.settings["along"])
    return [PART, SUM, SUM] if call.kinds == [PART, PART, ALL, PART, PART] and over else None


def kinds_of(order, given, whole, part, count):
    """{entry: kind} of the calls `order` and of the inputs `given`, a dict like it;
    None if it cannot be.

    `whole` and `part` know the shapes for the batch, and for a part of it, one of `count`.
    """
    kinds = dict(given)
    for node in order:
        found = kind_of(node, kinds, whole)
        outputs = whole.counts.get(node, 1)
        several = found if isinstance(found, list) else [found] * outputs
        if found is None or len(several) != outputs:
            return None
        kinds.update({(node, i): kind for i, kind in enumerate(several)})
    agree = all(agrees(e, kind, whole, part, count) for e, kind in kinds.items())
    return kinds if agree else None


def kind_of(node, kinds, whole):
    """The kind of a call's result, or a list of those of its results; None if it cannot run in parts."""
    arrays = [a for a in node.inputs if type(a) is tuple]
    if draws(node.op) or not arrays or whole.shapes.get((node, 0)) is None:
        return None
    there = {kinds[a] for a in arrays}
    if there == {ALL}:
        return ALL
    name = node.op.name
    if SUM in there:
        linear = name in LINEAR or (
            name in SCALING and len(arrays) == 1 and arrays == node.inputs[:1]
        )
        like = name in ("reshape_like", "sum_like")  # their second array only has a shape
        return SUM if linear and (there == {SUM} or (like and kinds[arrays[0]] == SUM)) else None
    return RULES[name](Call(node, kinds, whole.shapes)) if name in RULES else None


def agrees(entry, kind, whole, part, count):
    """Whether a value of a part has the shape and type that its kind demands."""
    a, b = whole.shapes.get(entry), part.shapes.get(entry)
    if a is None or b is None or whole.types[entry] != part.types[entry]:
        return False
    if kind == PART:
        return len(a) == len(b) > 0 and a[0] == b[0] * count and a[1:] == b[1:]
    return a == b


# --- Running in parts -----------------------------------------------------------------------------

LARGE = 1 << 18  # numbers from which threads add terms
ENOUGH = 1 << 19  # numbers in parts from which it pays to hand out parts
TIMES = 4  # as many numbers in parts as in sums, at least: each part has a sum of its own to write


def count_for(size, threads):
    """Into how many parts to cut a batch: as many as threads at most, all of one size,
    of 2 samples at least.
    """
    return max((n for n in range(1, threads + 1) if size % n == 0 and size >= 2 * n), default=1)


def worth(kinds, whole):
    """Whether a program is so large, and its parts so much larger than its sums, that it pays."""
    total = dict.fromkeys((ALL, PART, SUM), 0)
    for entry, kind in kinds.items():
        if kind != PART or not by_itself(entry):
            total[kind] += math.prod(whole.shapes[entry])
    return total[PART] >= max(ENOUGH, TIMES * total[SUM])


shares_itself = [lambda operator: False]  # the last one tells whose work cores share quickly anyway


def by_itself(entry):
    """Whether cores share the work of a value without parts."""
    operator = getattr(entry[0], "op", None)
    return operator is not None and shares_itself[-1](operator.name)


def cut(arrays, kinds, count):
    """For each part the arrays: slices of those in parts, all of the others."""

    def part(i):
        return [
            a[len(a) * i // count : len(a) * (i + 1) // count] if kind == PART else a
            for a, kind in zip(arrays, kinds)
        ]

    return [part(i) for i in range(count)]


def forward_in_parts(program, kinds, count, visible):
    """The forward program in parts: its visible outputs, and a list of what each part has saved."""

    def run(*arrays):
        given = cut(arrays, kinds, count)
        found = spread(lambda part: program(*part), given)
        joined = [np.concatenate(parts) for parts in zip(*[f[:visible] for f in found])]
        return (*joined, [f[visible:] for f in found])

    return run


def backward_in_parts(program, heads, kinds, count, results):
    """The backward program in parts: `heads` gradients, what was saved, the inputs;
    `results` are kinds.
    """

    def run(*arrays, **into):
        given = cut(arrays[:heads], [PART] * heads, count)
        inputs = cut(arrays[heads + 1 :], kinds, count)
        parts = list(zip(given, arrays[heads], inputs))
        found = list(zip(*spread(lambda part: program(*part[0], *part[1], *part[2]), parts)))

        def whole(i):
            terms = found[i]
            if results[i] is None or results[i] == ALL:
                return terms[0]
            return (
                np.concatenate(terms) if results[i] == PART else added(terms, into.get(f"into_{i}"))
            )

        numbers = range(len(results))
        large = sum([f[0].size for f in found if f[0] is not None]) >= LARGE
        return tuple(spread(whole, numbers) if large else map(whole, numbers))

    run.places = {i: f"into_{i}" for i, kind in enumerate(results) if kind == SUM}
    return run


def added(terms, out):
    """The sum of some arrays, a new array or `out`."""
    total = np.add(terms[0], terms[1], out=out)
    for term in terms[2:]:
        total += term
    return total
