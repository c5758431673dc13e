"""Compiled programs against eager execution: the same numbers, forwards, backwards and to second order."""

import numpy as np
import pytest
from hypothesis import given, settings

import minigluon as mx
import minigluon.ops
from minigluon import autograd
from minigluon.executor import run as interpret
from minigluon.op import operators
from minigluon.symbol.hybrid import Outlines, as_operator, traced
from minigluon.symbol.symbol import Node, Symbol, compose, in_order
from tests.cases import ROWS
from tests.test_ops import listed, ours
from tests.test_symbol import graphs

minigluon.ops.load()
silent = {"reset_arrays"}  # has no outputs
rows = [row for row in ROWS if row.arrays and row.op not in silent]


def compiled(row):
    """The operator of a row's call, traced on its arrays, and which arguments are arrays."""
    inputs, outlines, args = [], Outlines(), []
    for i, a in enumerate(row.arrays):
        if isinstance(a, np.ndarray):
            entry = (Node(f"x{i}"), 0)
            outlines.put(entry, a.shape, a.dtype)
            inputs.append(entry)
            args.append(Symbol([entry]))
        else:
            args.append(a)
    out = compose(operators[row.op], args, row.settings)
    return as_operator("forward", inputs, out._entries, outlines)


def arrays_of(row):
    return [ours(a) for a in row.arrays if isinstance(a, np.ndarray)]


def differentiable_of(row):
    """The positions, among the arrays, of those that have a gradient."""
    arrays = [i for i, a in enumerate(row.arrays) if isinstance(a, np.ndarray)]
    return [k for k, i in enumerate(arrays) if i in row.differentiable]


def run(f, row, order):
    """Outputs and gradients of `f` on the arrays of a row."""
    xs = arrays_of(row)
    which = differentiable_of(row)
    for k in which:
        xs[k].attach_grad()
    with autograd.record():
        outs = listed(f(*xs))
        if order == 2:
            heads = [
                mx.nd.array(np.cos(np.arange(o.size)).reshape(o.shape), dtype=o.dtype) for o in outs
            ]
            total = 0
            for o, h in zip(outs, heads):
                total = total + (o * h).sum()
            first = autograd.grad(total, [xs[k] for k in which], create_graph=True)
            outs = [(g * g).sum() for g in first]
    if which:
        heads = [
            mx.nd.array(np.sin(1 + np.arange(o.size)).reshape(o.shape), dtype=o.dtype) for o in outs
        ]
        autograd.backward(outs, heads)
    return [o.asnumpy() for o in outs], [xs[k].grad.asnumpy() for k in which]


def eagerly(row):
    def f(*xs):
        given = iter(xs)
        args = [next(given) if isinstance(a, np.ndarray) else a for a in row.arrays]
        return operators[row.op](*args, **row.settings)

    return f


@pytest.mark.parametrize("row", rows, ids=[row.id for row in rows])
def test_every_row_compiled_is_the_row_eager(row):
    op = compiled(row)
    for order in (1, 2) if row.differentiable else (1,):
        outs, grads = run(op, row, order)
        wanted, wanted_grads = run(eagerly(row), row, order)
        for a, b in zip(outs + grads, wanted + wanted_grads, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-12 if order == 1 else 1e-9, atol=1e-12)


@given(graphs())
@settings(max_examples=80, deadline=None)
def test_random_graphs_compiled_are_the_graphs_eager(graph):
    names = graph.list_arguments()
    inputs = [next((n, 0) for n in in_order(graph._entries) if n.name == name) for name in names]
    values = [np.linspace(-1, 1, 4).astype("float64") + i for i in range(len(names))]
    outlines = Outlines()
    for entry, v in zip(inputs, values):
        outlines.put(entry, v.shape, v.dtype)
    op = as_operator("forward", inputs, graph._entries, outlines)

    def result(f):
        xs = [mx.nd.array(v, dtype="float64") for v in values]
        for x in xs:
            x.attach_grad()
        with autograd.record():
            a, b = f(*xs)
            y = (a * 3 + b).sum()
            first = autograd.grad(y, xs, create_graph=True)
            z = y
            for g in first:
                z = z + (g * g).sum()
        z.backward()
        return [a, b, *first, *[x.grad for x in xs]]

    def eager(*xs):
        return interpret(graph._entries, dict(zip(names, xs)), mx.cpu())

    for a, b in zip(result(op), result(eager)):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-9, atol=1e-12)


def test_equal_calls_are_written_once_and_dead_ones_not_at_all():
    def program(x):
        x.exp()  # nobody asks for it
        return x.tanh() * x.tanh()

    listing = traced(program, [(3,)]).listing
    assert listing.count("tanh(") == 1 and "exp(" not in listing


def test_a_dying_array_is_overwritten_and_an_input_never():
    op = traced(lambda x: (x * 2 + 1).exp(), [(3,)])
    x = mx.nd.ones(3)
    assert "add(multiply" not in op.listing
    before = x.asnumpy()
    op(x)
    assert (x.asnumpy() == before).all()
    source = op.kernel.source
    assert (
        source.count("def ") == 1
        and len({line.split(" = ")[0] for line in source.splitlines()[1:-1]}) < 3
    )


def test_a_view_is_never_overwritten():
    def program(x):
        y = x * 2
        z = y.reshape(shape=(-1,))
        return y + 1, z * 3

    x = mx.nd.ones((2, 3))
    a, b = traced(program, [(2, 3)])(x)
    assert (a.asnumpy() == 3).all() and (b.asnumpy() == 6).all()


def test_no_gradient_is_computed_that_nobody_wants():
    x, w = (Node("x"), 0), (Node("w"), 0)
    outlines = Outlines()
    outlines.put(x, (4, 3), "float32")
    outlines.put(w, (2, 3), "float32")
    y = compose(
        operators["FullyConnected"], [Symbol([x]), Symbol([w])], {"num_hidden": 2, "no_bias": True}
    )
    op = as_operator("f", [x, w], y._entries, outlines, wanted=[False, True])
    assert "dense_data" not in op.listing and "dense_weight" in op.listing


def test_third_derivative():
    op = traced(lambda x: x * x * x * x, [(1,)])
    x = mx.nd.array([2.0])
    x.attach_grad()
    with autograd.record():
        y = op(x)
        y = autograd.grad(y, x, create_graph=True)[0]
        y = autograd.grad(y, x, create_graph=True)[0]
    y.backward()
    assert x.grad.asscalar() == 24 * 2
