"""Compiled programs against eager execution: the same numbers, forwards, backwards and to second order."""

import ctypes
import gc
import os
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings

import minigluon as mx
import minigluon.ops
from minigluon import autograd, cores, gluon
from minigluon.executor import run as interpret
from minigluon.gluon import nn
from minigluon.op import operator, operators
from minigluon.symbol import hybrid
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
    check_row(row)


def check_row(row):
    """A row's call compiled is the call eager, to second order."""
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
    check_graph(graph)


def check_graph(graph):
    """The graph compiled is the graph eager, to second order."""
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


# --- Chains in blocks -----------------------------------------------------------------------------


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of seven numbers, on two threads, for arrays of any size."""
    monkeypatch.setattr(hybrid, "FUSED", 1)
    monkeypatch.setattr(hybrid, "BLOCK", 7)
    before = cores.alone.threads
    cores.alone.found[1](2)
    yield
    cores.alone.found[1](before)


def polynomial(x, y):
    z = x * y + x * 2 - 1
    w = z.relu() * y - z * 3 + x.square() * z
    return w.tanh() + z, w


def test_a_chain_runs_in_blocks(blocks):
    op = traced(polynomial, [(4, 9), (4, 9)], dtype="float64")
    assert "in_blocks(chain, 36)" in op.listing
    x, y = (
        mx.nd.array(np.random.default_rng(i).normal(size=(4, 9)), dtype="float64") for i in (0, 1)
    )
    for order in (1, 2):
        found = []
        for f in (op, polynomial):
            x.attach_grad(), y.attach_grad()
            with autograd.record():
                a, b = f(x, y)
                total = (a * b).sum()
                if order == 2:
                    first = autograd.grad(total, [x, y], create_graph=True)
                    total = sum((g * g).sum() for g in first)
            total.backward()
            found.append([v.asnumpy() for v in (a, b, x.grad, y.grad)])
        assert all(np.allclose(p, q, rtol=1e-12, atol=1e-12) for p, q in zip(*found))


def test_every_row_in_blocks(blocks):
    for row in rows:
        check_row(row)


def test_a_chain_reads_strided_arrays(blocks):
    op = traced(polynomial, [(4, 9), (4, 9)])
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32").T
    assert not x.flags.c_contiguous
    found, expected = op.kernel(x, x), op.kernel(x.copy(), x.copy())
    assert all(np.array_equal(p, q) for p, q in zip(found, expected, strict=True))


def test_a_chain_changes_none_of_its_inputs(blocks):
    op = traced(lambda x: (x + 1) * 2 - x, [(50,)])
    x = np.arange(50, dtype="float32")
    assert (op.kernel(x)[0] == x + 2).all() and (x == np.arange(50)).all()


CHAIN = """
import threading
import numpy as np
from minigluon.symbol.hybrid import traced

op = traced(lambda x: (x * 2 + 1).tanh() - x, [(1 << 21,)])
assert "in_blocks" in op.listing, op.listing
op.kernel(np.ones(1 << 21, "float32"))
print(threading.active_count())
"""


def test_a_chain_has_the_threads_of_the_products():
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    env |= {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHAIN], capture_output=True, text=True, env=env)
    assert done.stdout == "1\n", done.stderr


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_random_graphs_in_blocks(graph):
    before = hybrid.FUSED, hybrid.BLOCK
    hybrid.FUSED, hybrid.BLOCK = 1, 3
    try:
        check_graph(graph)
    finally:
        hybrid.FUSED, hybrid.BLOCK = before


STEPS = """
import os, resource
import minigluon as mx
from minigluon import autograd, gluon
from minigluon.gluon import nn
from minigluon.gluon import nn

net = nn.HybridSequential()
net.add(nn.Dense(1000, activation="relu"), nn.Dense(1000, activation="relu"))
net.initialize()
net.hybridize()
x = mx.nd.ones((300, 1000))

def step():
    with autograd.record():
        net(x).backward()

for _ in range(4):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


def faults(**variables):
    """Fresh pages of memory that a training step asks for, in a process of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | variables
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_is_kept_from_step_to_step():
    assert faults() < 100  # without: some thousands


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_who_has_set_malloc_has_decided():
    assert faults(MALLOC_TOP_PAD_="0") > 200


def test_random_numbers_are_drawn_once():
    net = nn.HybridSequential()
    net.add(nn.Dropout(0.5), nn.HybridLambda("square"))
    net.hybridize()
    x = mx.nd.ones((500,))
    x.attach_grad()
    with autograd.record():
        y = net(x)
    y.backward()
    assert ((x.grad.asnumpy() > 0) == (y.asnumpy() > 0)).all() and 0 < y.asnumpy().sum() < 2000


DRAWING = {
    "dropout": lambda F, x: F.square(F.Dropout(F.tanh(x), p=0.5)) * x,
    "dropout along axes": lambda F, x: F.exp(F.Dropout(x, p=0.3, axes=(1,))),
    "two masks": lambda F, x: F.Dropout(F.square(F.Dropout(x, p=0.5)) * x, p=0.5, mode="always"),
    "slopes": lambda F, x: F.square(F.LeakyReLU(x, act_type="rrelu")[0]) * x,
    "noise": lambda F, x: F.square(x + F.random.normal(shape=(5, 4))) * x,
    "a factor": lambda F, x: F.exp(x * F.random.uniform(shape=(5, 4))),
    "like": lambda F, x: F.square(x + F.random.normal_like(F.square(x))) * x,
    "none in use": lambda F, x: F.square(F.Dropout(x, p=0.0)) * x,
}


@pytest.mark.parametrize("name", DRAWING)
def test_what_was_drawn_stays_drawn_in_gradients_of_gradients(name):
    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return DRAWING[name](F, x)

    net, found = Net(), []
    start = np.random.default_rng(0).normal(size=(5, 4))
    for active in (False, True):
        net.hybridize(active)
        for _ in range(2):  # the first call of a hybridized block traces, the second only runs
            mx.random.seed(5)
            x = mx.nd.array(start)
            x.attach_grad()
            with autograd.record():
                y = net(x)
                (once,) = autograd.grad(y, [x], create_graph=True)
                (twice,) = autograd.grad(once * once, [x], create_graph=True)
                total = twice.sum()
            total.backward()
        found.append([a.asnumpy() for a in (y, once, twice, x.grad)])
    for a, b in zip(*found):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-5)
    assert abs(found[0][3]).max() > 0


def test_draws_that_an_operator_hides_have_no_second_gradient():
    @operator(vjp=(lambda g, y, x, **_: g * y / x,), listed=False)
    def noisy(x, /, rng=None):
        return x * np.random.default_rng(0).random(x.shape).astype(x.dtype)

    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return noisy(x)

    net = Net()
    net.hybridize()
    x = mx.nd.ones((4, 2, 3))
    x.attach_grad()
    with autograd.record(), pytest.raises(mx.MXNetError, match="keeps them to itself"):
        autograd.grad(net(x), [x], create_graph=True)


def test_moved_numbers_are_views_between_products_and_copies_for_the_reader():
    def program(x, w):
        q, k = mx.sym.split(mx.sym.FullyConnected(x, w, no_bias=True, num_hidden=4), 2, axis=1)
        k = mx.sym.transpose(mx.sym.reshape(k, shape=(2, 2, 1)), axes=(1, 0, 2))
        return mx.sym.reshape(k, shape=(4, 1)), q

    op = traced(program, [(2, 3), (4, 3)])
    assert ".transpose(" in op.listing and "[:, 2 : 4]" not in op.listing
    x, w = (np.random.default_rng(0).normal(size=s).astype("float32") for s in ((2, 3), (4, 3)))
    k, q = op(mx.nd.array(x), mx.nd.array(w))
    np.testing.assert_allclose(q.asnumpy(), (x @ w.T)[:, :2], rtol=1e-6)
    np.testing.assert_allclose(k.asnumpy().ravel(), (x @ w.T)[:, 2:].T.ravel(), rtol=1e-6)
    before = k.asnumpy()
    q[:] = 0  # what the reader has is his own
    np.testing.assert_array_equal(k.asnumpy(), before)


def test_a_program_is_written_in_a_time_that_grows_with_its_length():
    def looks(n):
        """How often nodes are compared while a chain of `n` layers is compiled and differentiated."""
        counted = []

        class Counted(Node):
            def __eq__(self, other):
                counted.append(1)
                return self is other

            __hash__ = Node.__hash__

        y = x = mx.sym.var("x")
        inputs = [x._entries[0]]
        for i in range(n):
            w = Symbol([(Counted(f"w{i}"), 0)])
            inputs.append(w._entries[0])
            y = mx.sym.broadcast_mul(y, w).tanh()
        outlines = Outlines()
        for entry in inputs:
            outlines.put(entry, (2,), "float32")
        as_operator("chain", inputs, y._entries, outlines)
        return len(counted)

    assert looks(80) < 3 * looks(40) + 100


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float16", "float32"])
def test_plain_numbers_take_the_type_of_the_array(dtype):
    """As they do eagerly, and as in MXNet: half of a whole number is nothing."""

    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, a):
            chosen = F.where(a > 2, -F.ones_like(a), a * 1.5)
            return chosen, a - 0.5, a**0.5, 7 / (a + 1), 2.5 * a, F.concat(-chosen, a, dim=0), a / 2

    a, found = mx.nd.array([0, 1, 5, 9], dtype=dtype), []
    for compiled in (False, True):
        net = Net()
        net.hybridize(compiled)
        found.append(net(a))
    for eager, other in zip(*found):
        assert eager.dtype == other.dtype == a.dtype
        np.testing.assert_allclose(other.asnumpy(), eager.asnumpy(), rtol=1e-3)


@pytest.mark.parametrize(
    "prefix", ["cross-entropy", "class", "1a", "a b", "f(", "a.b", "None", "x\ny"]
)
def test_a_block_may_have_any_prefix(prefix):
    net = nn.Dense(2, in_units=2, prefix=prefix)
    net.initialize()
    net.hybridize()
    with autograd.record():
        y = net(mx.nd.ones((1, 2)))
    y.backward()
    assert [*net.collect_params()] == [f"{prefix}weight", f"{prefix}bias"]


def counted(F, x):
    """The numbers of the places along the second axis, as programs wrote it before arange_like."""
    one = x.slice(begin=(0, 0), end=(1, None)).reshape((-1,))
    return F.elemwise_add(F.arange(start=0, infer_range=True), F.zeros_like(one))


OPEN = {  # sizes that the shapes of a call tell
    "arange": (lambda F, x: F.broadcast_mul(x, counted(F, x).reshape((1, -1))), [[0, 1, 2]] * 2),
    "zeros": (lambda F, x: F.elemwise_add(x, F.zeros(shape=(0, 3))) * 2, [[2, 2, 2]] * 2),
    "ones": (lambda F, x: F.elemwise_mul(F.ones(shape=(0, 0)), x), [[1, 1, 1]] * 2),
}


@pytest.mark.parametrize("name", OPEN)
def test_sizes_left_open(name):
    function, wanted = OPEN[name]

    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return function(F, x)

    net = Net()
    net.hybridize()
    x = mx.nd.ones((2, 3))
    x.attach_grad()
    with autograd.record():
        y = net(x)
    y.backward()
    assert y.asnumpy().tolist() == wanted == x.grad.asnumpy().tolist()
    assert net(mx.nd.ones((5, 3))).shape == (5, 3)
    heard = []
    net.register_op_hook(lambda *found: heard.append(found))
    assert net(x).asnumpy().tolist() == wanted and heard


def test_the_collector_waits_while_programs_are_written_and_only_then():
    class Net(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            seen.append(gc.isenabled())
            if self.fails:
                raise ValueError("no")
            return F.exp(x)

    for fails in (False, True):
        seen, net = [], Net()
        net.fails = fails
        net.hybridize()
        with pytest.raises(ValueError) if fails else nullcontext():
            net(mx.nd.ones(3))
        assert seen == [False] and gc.isenabled()


@pytest.mark.parametrize("size", [2, 300])
@pytest.mark.parametrize("flags", [{}, {"static_alloc": True}])
@pytest.mark.parametrize("recording", [False, True])
def test_outputs_that_are_one_call_share_no_memory(recording, flags, size):
    class Twice(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            y = F.tanh(x)
            return [x * 2, y, x * 2, F.tanh(x), y, F.reshape(y, (-1,))]

    x = mx.nd.array(np.random.default_rng(0).normal(size=(size, size)))
    x.attach_grad()
    net = Twice()
    grads = []
    for active in (False, True):
        net.hybridize(active, **flags)
        with autograd.record() if recording else autograd.pause():
            out = net(x)
            total = sum((i + 1) * y.sum() for i, y in enumerate(out))
        if recording:
            total.backward()
            grads.append(x.grad.asnumpy())
    want = [y.asnumpy() for y in out]
    for i, y in enumerate(out):
        y[:] = 50
        for other, numbers in zip(out[i + 1 :], want[i + 1 :]):
            np.testing.assert_array_equal(other.asnumpy(), numbers)
    if recording:
        np.testing.assert_allclose(*grads, rtol=1e-5, atol=1e-6)
