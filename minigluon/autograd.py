"""While recording, each call leaves a note of itself; walking the notes backwards gives every gradient."""

# Written from chapters/03_autograd.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import threading
from heapq import heappop, heappush
from itertools import count, zip_longest
from operator import attrgetter
from sys import getrefcount

import numpy as np
from numpy import ndarray

from minigluon.base import MXNetError
from minigluon.context import busy, current_context
from minigluon.ndarray.ndarray import (
    NDArray,
    compute_soon,
    numbered,
    require_same_dtype,
    with_scalars,
)
from minigluon.op import failure, interpreters, operator, summary

__all__ = [
    "ALONE",
    "Function",
    "HELD",
    "Leaf",
    "Node",
    "Output",
    "Partial",
    "Scope",
    "State",
    "alone",
    "assign",
    "attach_grad",
    "backpropagate",
    "backward",
    "backward_from",
    "broadcast_like",
    "clock",
    "compute_and_note",
    "detach",
    "get_symbol",
    "grad",
    "grad_of",
    "gradients",
    "head_gradients",
    "held",
    "holders",
    "is_fresh",
    "is_recording",
    "is_training",
    "leaf_grad",
    "mark_variables",
    "noted",
    "of_all",
    "ones_like",
    "own_memory",
    "pause",
    "places",
    "predict_mode",
    "pull",
    "pull_and_release",
    "pull_recorded",
    "record",
    "recorders",
    "remember",
    "result",
    "set_fresh",
    "set_recording",
    "set_training",
    "several_noted",
    "starts",
    "state",
    "sum_like",
    "summed",
    "switch_recording",
    "take_over",
    "train_mode",
    "writable",
    "zeros_like",
]


# --- Broadcast and sum are adjoint ----------------------------------------------------------------


@operator(vjp=(lambda g, y, data, like: broadcast_like(g, data), None))
def sum_like(data, like, /):
    """Sum `data` down to the shape of `like`: what undoes a broadcast."""
    if data.shape == like.shape:
        return data
    extra = data.ndim - like.ndim
    ones = tuple(i + extra for i, n in enumerate(like.shape) if n == 1)
    return data.sum(axis=tuple(range(extra)) + ones, keepdims=True).reshape(like.shape)


@operator(vjp=(lambda g, y, lhs, rhs: sum_like(g, lhs), None), same_dtype=False)
def broadcast_like(lhs, rhs, /):
    """Repeat `lhs` along its axes of size 1 to the shape of `rhs`."""
    return np.broadcast_to(lhs, rhs.shape)


@operator(vjp=(None,))
def zeros_like(data, /):
    """Zeros in the shape and type of `data`."""
    return np.zeros_like(data)


@operator(vjp=(None,))
def ones_like(data, /):
    """Ones in the shape and type of `data`."""
    return np.ones_like(data)


# --- Recording ------------------------------------------------------------------------------------


class State(threading.local):
    """What this thread is doing."""

    recording = False
    training = False


state = State()
# The threads that record: one that ended meanwhile costs the others time, no more.
recorders = set()


def switch_recording(on):
    """Let this thread record, or not."""
    state.recording = on
    (recorders.add if on else recorders.discard)(threading.get_ident())


class Scope:
    """A `with` block in which `state` has other values; None leaves one as it is."""

    __slots__ = ("before", "recording", "training")

    def __init__(self, recording, training):
        self.recording, self.training = recording, training

    def __enter__(self):
        self.before = state.recording, state.training
        if self.recording is not None:
            switch_recording(self.recording)
        if self.training is not None:
            state.training = self.training

    def __exit__(self, *_):
        recording, state.training = self.before
        switch_recording(recording)


def record(train_mode=True):
    """A `with` block whose operations can be differentiated; layers behave as in training."""
    return Scope(True, train_mode)


def pause(train_mode=False):
    """A `with` block inside `record` whose operations leave no note."""
    return Scope(False, train_mode)


def train_mode():
    """A `with` block in which layers behave as in training, whether recorded or not."""
    return Scope(None, True)


def predict_mode():
    """A `with` block in which layers behave as in use: no dropout, running statistics."""
    return Scope(None, False)


def is_recording():
    """Whether operations are being recorded."""
    return state.recording


def is_training():
    """Whether layers behave as in training."""
    return state.training


def set_recording(is_recording):
    """Switch recording on or off; return what it was."""
    before = state.recording
    switch_recording(bool(is_recording))
    return before


def set_training(train_mode):
    """Switch training behaviour on or off; return what it was."""
    before, state.training = state.training, bool(train_mode)
    return before


# --- The tape -------------------------------------------------------------------------------------

clock = count()


class Node:
    """One recorded call, `out = op(*args, **settings)` on raw arrays; `parents` made the `args`."""

    __slots__ = ("args", "ctx", "op", "out", "parents", "settings", "time")

    def __init__(self, op, args, settings, out, parents, ctx):
        self.op, self.args, self.settings, self.out = op, args, settings, out
        self.parents, self.ctx, self.time = parents, ctx, next(clock)

    @property
    def used(self):
        """Whether a backward pass has used this node up."""
        return self.args is None


class Output:
    """One output of a node that has several."""

    __slots__ = ("index", "parents", "time")

    def __init__(self, node, index):
        self.index, self.parents, self.time = index, (node,), next(clock)

    @property
    def used(self):
        """Whether a backward pass has used its node up."""
        return self.parents[0].args is None


class Leaf:
    """A marked variable: it holds the gradient that reaches it."""

    used = False

    __slots__ = ("fresh", "grad", "parents", "req", "time")

    def __init__(self, grad, req):
        self.grad, self.req, self.parents, self.time = grad, req, (), next(clock)
        self.fresh = False  # whether a backward pass has written `grad` since the last update


def remember(op, args, settings):
    """Interpret `op` on NDArrays: compute, and while recording leave a node behind."""
    if recorders and state.recording:
        return compute_and_note(op, args, settings)
    return compute_soon(op, args, settings)


def compute_and_note(op, args, settings):
    """`compute`, and a node that remembers the call if an array of it is remembered."""
    raw, parents, dtype, plain, numbers, tracked = [], [], None, True, False, False
    for a in args:
        if type(a) is NDArray:
            data, node = a._data, a._node
            raw.append(data)
            if node is not None:
                if node.used:  # a result of an earlier pass is a constant for this one
                    node = None
                else:
                    tracked = True
            parents.append(node)
            if dtype is None:
                dtype, ctx = data.dtype, a._ctx.results
                kernel = op.plain if type(data) is ndarray else op.kernel
            elif data.dtype is not dtype and op.same_dtype:
                require_same_dtype(op, args, settings)
        elif type(a) is float or type(a) is int:
            raw.append(a)
            parents.append(None)
            numbers = True
        elif isinstance(a, NDArray):  # an array of another kind knows what to do
            return interpreters[type(a)](op, args, settings)
        else:
            raw.append(a)
            parents.append(None)
            plain = False
    if not plain or (numbers and dtype.kind != "f"):
        raw = with_scalars(op, args, raw, dtype)
    try:
        out = kernel(*raw, **settings)
    except Exception as error:
        raise failure(error, op, raw, settings) from error
    node = Node(op, raw, settings, out, parents, ctx) if tracked else None
    if type(out) is not tuple:
        return NDArray(out if type(out) is ndarray else numbered(out), ctx, node)
    return several_noted(op, out, ctx, node)


def several_noted(op, out, ctx, node):
    """The outputs of a node as NDArrays that know their places;
    where only one is visible, it is the node's.
    """
    if op.visible == 1:
        return NDArray(numbered(out[0]), ctx, node)
    visible = enumerate(out[: op.visible])
    return [NDArray(numbered(o), ctx, node and Output(node, i)) for i, o in visible]


interpreters[NDArray] = remember


def noted(op, out, arrays, settings):
    """What the kernel of `op` gave for NDArrays (or None), with the node
    that `compute_and_note` would make.
    """
    raw, parents, ctx, tracked = [], [], arrays[0]._ctx.results, False
    for a in arrays:
        node = None if a is None else a._node
        if node is not None:
            if node.used:
                node = None
            else:
                tracked = True
        raw.append(None if a is None else a._data)
        parents.append(node)
    node = Node(op, raw, settings, out, parents, ctx) if tracked else None
    if type(out) is not tuple:
        return NDArray(out if type(out) is ndarray else numbered(out), ctx, node)
    return several_noted(op, out, ctx, node)


# --- Backwards ------------------------------------------------------------------------------------


def backpropagate(heads, pull, wanted=(), last=None):
    """Send the gradients {node: g} of `heads` back in time; yield each leaf with its total.

    The latest node goes first: by its turn all its consumers, which are younger, have contributed.
    `pull(node, g)` computes the parents' shares. None stands for zero and travels at no cost, as
    far as a node where gradients start. Nodes
    in `wanted` are yielded as well. `last` takes the place of `pull` when no other node is waiting.
    """
    grads = dict(heads)
    pending = sorted((-node.time, node) for node in grads if node.parents)
    while pending:
        node = heappop(pending)[1]
        g, parents = grads.pop(node), node.parents
        if node in wanted:
            yield node, g
        if g is None and not starts(node):
            shares = [None] * len(parents)
        else:
            shares = pull(node, g) if pending or last is None else last(node, g)
        for parent, share in zip(parents, shares):
            if parent is None:
                continue
            if parent not in grads:
                grads[parent] = share
                if parent.parents:
                    heappush(pending, (-parent.time, parent))
            elif share is not None:
                total = grads[parent]
                grads[parent] = share if total is None else total + share
    yield from grads.items()


def starts(node):
    """Whether gradients begin at a node even if none comes: a loss has one whatever follows it."""
    return type(node) is Node and node.op.starts


class Partial(dict):
    """Gradients of some outputs of a node, {index: gradient}."""

    def __add__(self, other):
        return Partial({**self, **other})


def gradients(node, g, y, args, into=None):
    """The gradient of each array of a recorded call, in whatever arrays `g`, `y`, `args` are.

    `into` is for rules that can write gradients into given memory: see `places`.
    """
    rules, settings = node.op.rules, node.settings
    if g is None:
        g = zeros_like(y)
    if node.op.defaults:
        settings = {**node.op.defaults, **settings}
    if rules is None:
        return [None] * len(args)
    if into is not None:
        settings = {**settings, "into": into}
    together = None if type(rules) is tuple else rules(g, y, *args, **settings)
    shares = []
    for i, (parent, a) in enumerate(zip(node.parents, args)):
        if parent is None:
            s = None
        elif together is not None:
            s = together[i]
        else:
            s = None if rules[i] is None else rules[i](g, y, *args, **settings)
        shares.append(s if s is None or s.shape == a.shape else sum_like(s, a))
    return shares


def pull(node, g, into=None):
    """Shares of the parents of `node`, computed on raw arrays."""
    if type(node) is Output:
        return (Partial({node.index: g}),)
    args, y = node.args, node.out
    if args is None:
        raise MXNetError(
            f"Cannot differentiate {node.op.name} because it is not in a computational graph any "
            "more: a backward pass has used it up. Pass retain_graph=True to the first one."
        )
    if type(y) is tuple:
        g = of_all(g, y[: node.op.visible])
    return gradients(node, g, y, args, into)


def of_all(g, y):
    """The gradients of all outputs `y` of a node, of which `g` has some or none,
    or is that of the only one.
    """
    if g is None:
        g = Partial()
    elif type(g) is not Partial:
        return [g]
    return [g[i] if i in g else zeros_like(o) for i, o in enumerate(y)]


def pull_and_release(node, g, into=None):
    """The same, and let go of the arrays that the node kept."""
    shares = pull(node, g, into)
    if type(node) is Node:
        node.args = node.out = None
    return shares


def pull_recorded(node, g):
    """The same on NDArrays tied to the graph, so that the gradients are recorded in turn."""
    if type(node) is Output or node.args is None:
        return pull(node, g)
    ctx, y = node.ctx, node.out
    args = [
        NDArray(a, ctx, p) if hasattr(a, "shape") else a for a, p in zip(node.args, node.parents)
    ]
    if type(y) is tuple:
        seen = len(y[: node.op.visible])
        noted = [node] if node.op.visible == 1 else [Output(node, i) for i in range(seen)]
        y = [NDArray(o, ctx, note) for o, note in zip_longest(y, noted)]
        g = of_all(g, y[:seen])
    else:
        y = NDArray(y, ctx, node)
    return gradients(node, g, y, args)


# --- The public functions -------------------------------------------------------------------------


def backward(heads, head_grads=None, retain_graph=False, train_mode=True):
    """Compute the gradients of `heads` with respect to all marked variables they depend on.

    `head_grads` are the gradients of the heads, by default ones. Raises MXNetError before any
    gradient is written if a head was not recorded or has been used up.
    """
    start = summed((node, g._data) for node, g in head_gradients(heads, head_grads))
    pulled = pull if retain_graph else pull_and_release
    with Scope(False, train_mode):
        found = list(backpropagate(start, pulled, (), lambda n, g: pulled(n, g, places(n))))
    for leaf, g in found:
        if leaf.req == "write" and (g is None or g is not leaf.grad._data):
            kind = type(leaf.grad)  # arrays of other kinds have neither size nor base to ask for
            small = g is None or kind is not NDArray or g.size < 4096
            if small or holders(leaf.grad, g) != ALONE:
                leaf.grad._data[...] = 0 if g is None else g
            else:
                take_over(leaf.grad, g)
        elif leaf.req == "add" and g is not None:
            leaf.grad._data += g
        leaf.fresh = leaf.fresh or leaf.req != "null"


def head_gradients(heads, head_grads):
    """Pairs of node and gradient to start from; raises MXNetError for what was not recorded."""
    heads = [heads] if isinstance(heads, NDArray) else list(heads)
    if head_grads is None or isinstance(head_grads, NDArray):
        head_grads = [head_grads] * len(heads)
    if not heads:
        raise MXNetError("backward([]): give at least one array to start from")
    if len(head_grads) != len(heads):
        raise AssertionError(f"{len(heads)} heads, but {len(head_grads)} head gradients")
    for head, g in zip(heads, head_grads):
        if head._node is None:
            raise MXNetError(
                f"Cannot differentiate {summary(head._data)} because it is not in a computational "
                "graph: compute it inside `with autograd.record():` from arrays with attach_grad()"
            )
        if g is not None and g.shape != head.shape:
            raise MXNetError(f"a head of shape {head.shape} with a gradient of shape {g.shape}")
    return [
        (head._node, NDArray(np.ones_like(head._data), head._ctx) if g is None else g)
        for head, g in zip(heads, head_grads)
    ]


def summed(pairs):
    """A dict of (key, value) pairs; the values of equal keys are added."""
    total = {}
    for key, value in pairs:
        total[key] = total[key] + value if key in total else value
    return total


def grad(heads, variables, head_grads=None, retain_graph=None, create_graph=False, train_mode=True):
    """The gradients of `heads` with respect to `variables`, as a list of new arrays.

    With `create_graph` they are recorded in turn and can be differentiated again. The variables'
    own `.grad` stays as it is. Raises MXNetError for a variable that the heads do not depend on.
    """
    variables = [variables] if isinstance(variables, NDArray) else list(variables)
    assert variables, "grad: variables cannot be an empty list"
    for i, v in enumerate(variables):
        if v._node is None:
            raise MXNetError(
                f"Cannot differentiate with respect to variable {i}, {summary(v._data)}: "
                "call its attach_grad() before recording"
            )
    pairs, wanted = head_gradients(heads, head_grads), {v._node for v in variables}
    retain_graph = create_graph if retain_graph is None else retain_graph
    with Scope(create_graph, train_mode):
        if create_graph:
            found = dict(backpropagate(summed(pairs), pull_recorded, wanted))
        else:
            start = summed((node, g._data) for node, g in pairs)
            found = dict(backpropagate(start, pull if retain_graph else pull_and_release, wanted))
    return [result(v, found, i) for i, v in enumerate(variables)]


def result(variable, found, i):
    """What `grad` returns for one variable: memory of its own, since two of them, or a head, may have the same gradient."""
    if variable._node not in found:
        raise MXNetError(
            f"the heads do not depend on variable {i}, {summary(variable._data)}: "
            "no operation recorded between them leads to it"
        )
    g = found[variable._node]
    if g is None:
        g = np.zeros_like(variable._data)
    raw, node = (g._data, g._node) if isinstance(g, NDArray) else (numbered(g), None)
    return variable._alike(NDArray(raw.copy(), variable._ctx, node))


def get_symbol(x):
    """The recorded computation of `x` as a Symbol; see `minigluon.symbol.symbol.get_symbol`."""
    later = importlib.import_module("minigluon.symbol.symbol")  # a chapter that stands on this one
    return later.get_symbol(x)


# --- Marked variables -----------------------------------------------------------------------------


def mark_variables(variables, gradients, grad_reqs="write"):
    """Make arrays variables: backward passes will leave their gradients in `gradients`.

    `grad_reqs`, one for all or one each: 'write' replaces, 'add' accumulates, 'null' does nothing.
    """
    if isinstance(variables, NDArray):
        variables, gradients = [variables], [gradients]
    if isinstance(grad_reqs, str):
        grad_reqs = [grad_reqs] * len(variables)
    for variable, gradient, req in zip(variables, gradients, grad_reqs):
        if req not in ("write", "add", "null"):
            raise KeyError(f"grad_req {req!r}: it is 'write', 'add' or 'null'")
        variable._node = Leaf(gradient, req)


def attach_grad(self, grad_req="write", stype=None):
    """Make this array a variable with a gradient of zeros; its own history is cut off."""
    zeros = NDArray(np.zeros_like(self._data), self._ctx.results)
    mark_variables(self, self._alike(zeros), grad_req)


def detach(self):
    """The same numbers, in the same memory, without a history."""
    return NDArray(self._data, self._ctx)


def backward_from(self, out_grad=None, retain_graph=False, train_mode=True):
    """Compute the gradient of this array, `out_grad` being its own (by default ones)."""
    backward([self], None if out_grad is None else [out_grad], retain_graph, train_mode)


def leaf_grad(self):
    """The gradient buffer of a marked variable; None for any other array."""
    return self._node.grad if type(self._node) is Leaf else None


def is_fresh(self):
    """Whether a backward pass has written the gradient since somebody last said False here;
    MXNet's `_fresh_grad`.
    """
    return type(self._node) is Leaf and self._node.fresh


def set_fresh(self, value):
    """Say that the gradient is used up, or is not; MXNetError if there is none."""
    if type(self._node) is not Leaf:
        raise MXNetError("_fresh_grad: the array has no gradient: call attach_grad() first")
    self._node.fresh = bool(value)


NDArray._fresh_grad = property(is_fresh, set_fresh)
NDArray.attach_grad = attach_grad
NDArray._alike = lambda self, x: x  # another kind of array makes one of its own of `x`
NDArray.detach = detach
NDArray.backward = backward_from
NDArray.grad = property(leaf_grad)


# --- Writing in place -----------------------------------------------------------------------------


def writable(x):
    """The raw array of `x`, to be written to.

    Raises MXNetError while recording if `x` is part of the graph. Afterwards a computed array gets
    memory of its own, so that the graph keeps the value it was recorded with.
    """
    if x._node is not None:
        if state.recording:
            raise MXNetError(
                "Inplace operations (+=, -=, x[:]=, etc) are not supported when recording with "
                f"autograd: this {summary(x._data)} is part of the graph. Make a new array instead"
            )
        if type(x._node) is not Leaf:
            x._data = x._data.copy()
    if x._ctx.device_typeid == 3:  # a GPU may still be fetching it
        for wait in busy:
            wait(x._data)
    return x._data


def assign(x, y):
    """`x[...] = y`: the numbers of `y` into the memory of `x`, its history too while recording."""
    if x.shape != y.shape or x.dtype != y.dtype:
        raise MXNetError(f"cannot write {summary(y._data)} into {summary(x._data)}")
    writable(x)[...] = y._data
    if state.recording:
        x._node = y._node
    return x


# --- Functions with their own derivative ----------------------------------------------------------


class Function:
    """An operation with a derivative of its own: override `forward` and `backward`.

    Both work on NDArrays; `backward` gets one gradient an output and returns one an input. An
    instance serves one call.
    """

    def __init__(self):
        self.saved_tensors = ()
        self._used = False

    def save_for_backward(self, *arrays):
        """Keep arrays for `backward`, where they are `self.saved_tensors`."""
        self.saved_tensors = arrays

    def forward(self, *inputs):
        raise NotImplementedError

    def backward(self, *output_grads):
        raise NotImplementedError

    def __call__(self, *inputs):
        assert not self._used, "a Function instance serves one call: make another one"
        self._used = True
        with pause(train_mode=state.training):
            out = self.forward(*inputs)
        if not state.recording:
            return out  # of whatever `forward` can work on, symbols too
        outs = list(out) if isinstance(out, tuple | list) else [out]
        parents = [self._history(x) for x in inputs]
        if any(p is not None for p in parents):
            outs = self._recorded(inputs, outs, parents)
        return type(out)(outs) if isinstance(out, tuple | list) else outs[0]

    def _history(self, x):
        """The node of an input."""
        if not isinstance(x, NDArray):
            raise MXNetError(
                f"{self.name} was called on {type(x).__name__}: while recording, "
                "a Function works on NDArrays; in a "
                "hybridized block use an operator of your own (mx.operator), "
                "or leave the block unhybridized"
            )
        return x._node

    # --- Functions with their own derivative ------------------------------------------------------

    def _recorded(self, inputs, outs, parents):
        """The outputs with a node whose rule is this object's `backward`."""
        ctx = outs[0]._ctx
        raw = [x._data for x in inputs]
        node = Node(self, raw, {}, tuple(o._data for o in outs), parents, ctx)
        self._alike = outs[0]._alike  # gradients are of the kind that `forward` has made
        return [o._alike(NDArray(o._data, ctx, Output(node, i))) for i, o in enumerate(outs)]

    # What the tape asks of an operator.
    name = property(lambda self: type(self).__name__)
    defaults, visible, starts = {}, None, True

    def rules(self, g, y, *args):
        """The gradients of all inputs, as raw arrays or NDArrays, like `g`."""
        if isinstance(g[0], NDArray):
            return self._shares(g)
        shares = self._shares([self._alike(NDArray(a, current_context())) for a in g])
        return [None if s is None else s._data for s in shares]

    def _shares(self, gs):
        shares = self.backward(*gs)
        return list(shares) if isinstance(shares, tuple | list) else [shares]


# --- For the maintainer: gradients without a copy -------------------------------------------------


def holders(grad, g):
    """How many references there are to the array of `grad`, and to `g`."""
    old = grad._data
    return getrefcount(old), getrefcount(g)


def alone():
    """What `holders` says, called as `backward` calls it, of two arrays that nobody else holds."""
    found, counts = [(NDArray(np.zeros(1), None), np.zeros(1))], None
    for grad, g in found:
        counts = holders(grad, g)
    return counts


ALONE = alone()


def places(node):
    """The memory for the gradient of each parent of the last node,
    None where there is none to write to.
    """
    there = getattr(node.op.rules, "places", None) if type(node) is Node else None
    if not there:
        return None
    leaves = [p for p in node.parents if p is not None]
    if {*map(type, leaves)} != {Leaf} or len({*map(id, map(grad_of, leaves))}) < len(leaves):
        return None
    return [  # True: to all
        own_memory(p) if p is not None and (there is True or i in there) else None
        for i, p in enumerate(node.parents)
    ]


grad_of = attrgetter("grad")


def own_memory(leaf):
    """The raw array of a variable's gradient, if it is to be written and is held by nobody else."""
    if leaf.req != "write" or type(leaf.grad) is not NDArray:
        return None
    found = leaf.grad._data
    if type(found) is ndarray and found.size < 4096:  # so few are soon copied
        return None
    free = found.base is None and found.flags.c_contiguous
    return found if free and getrefcount(found) == HELD else None


def held():
    """How many references `own_memory` counts to an array that one variable holds."""
    leaf = Leaf(NDArray(np.zeros(1), None), "write")
    found = leaf.grad._data
    return getrefcount(found)


HELD = held()


def take_over(grad, g):
    """Let `grad` hold the array `g` in place of its own, if they are alike; else copy it."""
    old = grad._data
    like = (type(g), g.shape, g.dtype) == (type(old), old.shape, old.dtype)
    if like and g.base is None and old.base is None and g.flags.c_contiguous:
        grad._data = g
    else:
        old[...] = g
