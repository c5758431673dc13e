"""Hybridized programs as CUDA graphs: captured and launched on the stand-in, which carries nothing out while it captures."""

import re
import warnings

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import autograd, context, cuda_on_cpu, gluon, gpu_on_cpu
from minigluon.cores import stacked
from minigluon.cuda_on_cpu import available
from minigluon.gluon import nn, rnn
from minigluon.kernels import Kernels
from minigluon.ops import graphs, update_kernels
from minigluon.ops.graphs import Lease, Run
from tests.standins import wrap
from tests.test_kernels import compare, random

minigluon.ops.load()
pytestmark = pytest.mark.skipif(not available(), reason="no g++: kernels cannot run on the CPU")


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """A GPU made of NumPy; a program that cannot be captured is an error."""
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield mx.gpu(0)


@pytest.fixture
def launched(monkeypatch):
    """How often graphs have been launched, one entry each."""
    seen, launch = [], gpu_on_cpu.Graph.launch

    def counted(self, stream=None):
        seen.append(len(self.steps))
        launch(self, stream)

    monkeypatch.setattr(gpu_on_cpu.Graph, "launch", counted)
    return seen


def sequence(*layers):
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(*layers)
    return net


class Attention(gluon.HybridBlock):
    """Products of two and of three axes, softmax between them."""

    def __init__(self):
        super().__init__(prefix="attention_")
        with self.name_scope():
            self.keys = nn.Dense(6, flatten=False, in_units=6)

    def hybrid_forward(self, F, x):
        k = self.keys(x)
        scores = F.softmax(F.batch_dot(x, k, transpose_b=True) * 0.4)
        y = F.batch_dot(scores, x).reshape((-1, 6))
        return F.dot(y, F.dot(y, y, transpose_a=True)) * 0.1


class Words(gluon.HybridBlock):
    """A table, looked up, whose gradient sorts its indices outside of a capture."""

    def __init__(self):
        super().__init__(prefix="words_")
        with self.name_scope():
            self.table = nn.Embedding(7, 3)

    def hybrid_forward(self, F, x):
        return self.table(F.abs(x) * 3)


class Woven(gluon.HybridBlock):
    """Attention, its queries, keys and values side by side."""

    def hybrid_forward(self, F, x):
        scores = F.contrib.interleaved_matmul_selfatt_qk(x, heads=2)
        return F.contrib.interleaved_matmul_selfatt_valatt(x, F.softmax(scores), heads=2)


class Made(gluon.HybridBlock):
    """Arrays out of nothing, random ones too."""

    def hybrid_forward(self, F, x):
        x = F.broadcast_add(x * F.arange(4), F.random.uniform(shape=(1, 4)))
        return F.broadcast_mul(x, F.zeros((1, 4)) + 2) + F.random.normal_like(x)


class Two(gluon.HybridBlock):
    """Two outputs, one of which is the input."""

    def hybrid_forward(self, F, x):
        return [F.exp(x) * x, x]


class RReLU(gluon.HybridBlock):
    """Slopes that are drawn."""

    def hybrid_forward(self, F, x):
        return F.LeakyReLU(x, act_type="rrelu", lower_bound=0.1, upper_bound=0.4)


NETS = {  # how to make a network, the shape of its data
    "perceptron": (lambda: sequence(nn.Dense(9, activation="relu"), nn.Dense(5)), (4, 7)),
    "running statistics": (
        lambda: sequence(nn.Conv2D(4, 3), nn.BatchNorm(), nn.Activation("tanh"), nn.Dense(3)),
        (2, 3, 6, 6),
    ),
    "dropout": (lambda: sequence(nn.Dense(40), nn.Dropout(0.5), nn.LayerNorm()), (3, 5)),
    "dropout along axes": (lambda: sequence(nn.Dense(9), nn.Dropout(0.5, axes=(1,))), (6, 5)),
    "random slopes": (lambda: sequence(nn.Dense(30), RReLU()), (3, 5)),
    "pooling": (lambda: sequence(nn.MaxPool2D(2), nn.AvgPool2D(2), nn.Dense(2)), (2, 1, 8, 8)),
    "lstm": (lambda: rnn.LSTM(6, num_layers=2, input_size=4, prefix="lstm_"), (5, 3, 4)),
    "wide gru": (
        lambda: rnn.GRU(90, input_size=4, dropout=0.3, num_layers=2, prefix="gru_"),
        (3, 2, 4),
    ),
    "attention": (Attention, (2, 5, 6)),
    "woven attention": (Woven, (5, 2, 12)),
    "words": (Words, (3, 4)),
    "two outputs": (Two, (3, 4)),
    "made of nothing": (Made, (1, 4)),
}


def listed(x):
    return list(x) if isinstance(x, list | tuple) else [x]


def history(make, shape, ctx, steps=6, **hybrid):
    """Outputs, gradients and parameters of some steps of training, with a look at the network in use."""
    mx.random.seed(3)
    rng, net, found = np.random.default_rng(0), make(), []
    net.initialize(mx.init.Xavier(), ctx=ctx)
    if hybrid:
        net.hybridize(**hybrid)
    net(mx.nd.zeros(shape, ctx=ctx))
    for p in net.collect_params().values():
        low = 0.5 if p.name.endswith(("gamma", "var")) else -0.5
        p.set_data(mx.nd.array(rng.uniform(low, low + 1, p.shape)))
    trainer = None
    for step in range(steps):
        x = mx.nd.array(rng.normal(size=shape), ctx=ctx)
        x.attach_grad()
        with autograd.record():
            y = listed(net(x))
            total = sum((o * o * (i + 1)).mean() for i, o in enumerate(y))
        total.backward()
        if trainer is None and net.collect_params():
            trainer = gluon.Trainer(
                net.collect_params(), "sgd", {"learning_rate": 0.1}, kvstore=None
            )
        if trainer:
            trainer.step(1)
        found += [o.asnumpy() for o in y] + [x.grad.asnumpy()]
        if step % 2:
            found += [o.asnumpy() for o in listed(net(x))]
    return found + [p.data(ctx).asnumpy() for p in net.collect_params().values()], net


def captures(net):
    """The captured programs of a network."""
    for graph in net._programs.graphs.values():
        yield from (op.captured for op in graph.programs.values())


@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("name", NETS)
def test_a_graph_computes_what_its_calls_do(name, check, gpu, launched, monkeypatch):
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    for kernels in Kernels.files.values():
        monkeypatch.setattr(kernels, "loaded", {})
    make, shape = NETS[name]
    got, net = history(make, shape, gpu, static_alloc=True)
    want, _ = history(make, shape, gpu, active=True)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not any(c.refused for c in captures(net))
    assert len(launched) >= 5 + 4 + 1  # all but the first, forwards and backwards; in use


def test_the_first_numbers_are_those_of_the_cpu(gpu):
    for name in ("perceptron", "running statistics", "lstm"):
        got, _ = history(*NETS[name], gpu, static_alloc=True)
        want, _ = history(*NETS[name], mx.cpu(), static_alloc=True)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def dense(ctx, units=5, **settings):
    """A hybridized layer that has been called once, and a function that makes its data."""
    net, rng = nn.Dense(units, in_units=3, **settings), np.random.default_rng(1)
    net.initialize(mx.init.Normal(1), ctx=ctx)
    net.hybridize(static_alloc=True)
    data = lambda n=4: mx.nd.array(rng.normal(size=(n, 3)), ctx=ctx)
    net(data())
    return net, data


def by_hand(net, x):
    w, b = (p.data(x.context).asnumpy() for p in (net.weight, net.bias))
    return x.asnumpy() @ w.T + b


def test_what_is_held_is_not_overwritten(gpu, launched):
    net, data = dense(gpu)
    xs = [data() for _ in range(9)]
    ys = [net(x) for x in xs]  # more than there may be runs
    assert len(launched) == graphs.MOST
    rows = [net(x)[1] for x in xs]  # of these only a view is left
    for x, y, row in zip(xs, ys, rows):
        np.testing.assert_allclose(y.asnumpy(), by_hand(net, x), rtol=1e-5)
        np.testing.assert_allclose(row.asnumpy(), by_hand(net, x)[1], rtol=1e-5)
    del ys, y, row, rows
    for x in xs:
        np.testing.assert_allclose(net(x).asnumpy(), by_hand(net, x), rtol=1e-5)
    assert len(launched) == graphs.MOST + 9


def test_a_step_is_five_calls(gpu, monkeypatch):
    """Data and head are copied, the head's ones are made, two graphs are launched."""
    net, data = dense(gpu)
    seen, done, launch = [], gpu_on_cpu.done, gpu_on_cpu.Graph.launch
    for _ in range(7):  # two runs, since `y` is held, and both ways of each
        x = data()
        with monkeypatch.context() as patch:
            patch.setattr(
                gpu_on_cpu, "done", lambda name, *rest: seen.append(name) or done(name, *rest)
            )
            patch.setattr(gpu_on_cpu.Graph, "launch", lambda *a: seen.append("graph") or launch(*a))
            with autograd.record():
                y = net(x)
            y.backward()
    assert seen[-5:] == ["copyto", "graph", "ones_like", "copyto", "graph"]
    assert seen[-10:-5] == seen[-5:]


def test_two_calls_before_the_way_back(gpu, launched):
    net, data = dense(gpu)
    for _ in range(4):
        a, b = data(), data()
        with autograd.record():
            total = (net(a) * 2).sum() + net(b).sum()
        total.backward()
        want = np.tile(2 * a.asnumpy().sum(0) + b.asnumpy().sum(0), (5, 1))
        np.testing.assert_allclose(net.weight.grad().asnumpy(), want, rtol=1e-4, atol=1e-5)
    assert len(launched) > 8


def test_a_graph_is_walked_back_twice(gpu, launched):
    net, data = dense(gpu)
    w = net.weight.data(gpu)
    for _ in range(4):
        x = data()
        with autograd.record():
            y = net(x)
        found = [autograd.grad(y, [w], g, retain_graph=True)[0] for g in (y * 0 + 1, y * 0 + 3)]
        for g, factor in zip(found, (1, 3)):
            want = np.tile(factor * x.asnumpy().sum(0), (5, 1))
            np.testing.assert_allclose(g.asnumpy(), want, rtol=1e-4, atol=1e-5)
    assert len(launched) >= 3 + 2


def test_gradients_that_add_up(gpu):
    net, data = dense(gpu)
    net.weight.grad_req = "add"
    total = np.zeros((5, 3))
    for _ in range(5):
        x = data()
        with autograd.record():
            net(x).sum().backward()
        total += x.asnumpy().sum(0)
    np.testing.assert_allclose(net.weight.grad().asnumpy(), total, rtol=1e-4, atol=1e-5)


def test_gradients_of_gradients(gpu):
    net, data = dense(gpu, activation="tanh")
    for _ in range(3):
        x = data()
        x.attach_grad()
        with autograd.record():
            (g,) = autograd.grad(net(x), [x], create_graph=True)
            (g * g).sum().backward()
        w = net.weight.data(gpu).asnumpy()
        y = np.tanh(by_hand(net, x))
        inner = (1 - y * y) @ w
        want = ((2 * inner @ w.T) * (-2 * y) * (1 - y * y)) @ w
        np.testing.assert_allclose(x.grad.asnumpy(), want, rtol=1e-3, atol=1e-4)


def test_a_parameter_that_moves_and_a_shape_that_changes(gpu, launched):
    net, data = dense(gpu)
    for n in (4, 4, 2, 2, 4):
        for p in (net.weight, net.bias):
            array = p.data(gpu)
            array._data = (array._data * 2).copy()  # elsewhere
            x = data(n)
            np.testing.assert_allclose(net(x).asnumpy(), by_hand(net, x), rtol=1e-5)
            np.testing.assert_allclose(net(x).asnumpy(), by_hand(net, x), rtol=1e-5)
    assert len(launched) == 10
    net.weight.set_data(mx.nd.ones((5, 3)))  # where it was
    x = data()
    np.testing.assert_allclose(net(x).asnumpy(), by_hand(net, x), rtol=1e-5)


def test_strided_data_and_half_precision(gpu, launched):
    net = nn.Dense(8, in_units=16)
    net.initialize(mx.init.Normal(0.1), ctx=gpu)
    net.cast("float16")
    net.hybridize(static_alloc=True)
    for i in range(3):
        x = mx.nd.array(np.random.default_rng(i).normal(size=(16, 6)), ctx=gpu, dtype="float16").T
        np.testing.assert_allclose(net(x).asnumpy(), by_hand(net, x), rtol=2e-2, atol=2e-2)
    assert len(launched) == 2


def test_memory_of_a_graph_is_its_own(gpu):
    net, data = dense(gpu)
    x = data()
    asked = gpu_on_cpu.pool.asked
    net(x)  # captures
    (captured,) = captures(net)
    (runs,) = captured.runs.values()
    inside = runs[0].pool.asked
    assert inside >= runs[0].results[0].nbytes
    assert gpu_on_cpu.pool.asked == asked


class Ordered(gluon.HybridBlock):
    """A sort waits for the device."""

    def hybrid_forward(self, F, x):
        return F.sort(x) * 2


class Asked(gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return F.contrib.cond(F.sum(x) > 0, lambda: x * 2, lambda: x * 3)


class Doubles(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], in_data[0] * 2)

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], out_grad[0] * 2)


@mx.operator.register("doubles_in_a_graph")
class DoublesProp(mx.operator.CustomOpProp):
    def create_operator(self, ctx, shapes, dtypes):
        return Doubles()


class ByPython(gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return F.Custom(x, op_type="doubles_in_a_graph") + 0


DECLINED = {  # a block, its result, whether a warning says why
    "a wait": (Ordered, lambda x: 2 * np.sort(x), "forwards .* synchronous"),
    "a branch, which the tape walks": (Asked, None, None),
    "a call of Python": (ByPython, lambda x: 2 * x, None),
}


@pytest.mark.parametrize("case", DECLINED)
def test_what_cannot_be_captured_runs_call_by_call_and_says_so(case, gpu, launched):
    make, want, says = DECLINED[case]
    here, there = [], []
    for ctx, found in ((mx.cpu(), here), (gpu, there)):
        net = make()
        net.initialize(mx.init.One(), ctx=ctx)
        net.hybridize(static_alloc=True)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            for i in range(4):
                x = mx.nd.array([[1, 2, i]], ctx=ctx)
                x.attach_grad()
                with autograd.record():
                    y = net(x)
                y.backward()
                found += [y.asnumpy(), x.grad.asnumpy()]
                found += [p.grad(ctx).asnumpy() for p in net.collect_params().values()]
    for a, b in zip(there, here):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    if want is not None:
        np.testing.assert_allclose(there[-2], want(np.array([[1, 2, 3]])))
    heard = [str(w.message) for w in heard if w.category is RuntimeWarning]
    if says is None:
        assert not heard and not launched
    else:
        assert len(heard) == 1 and re.search(says, heard[0])


def test_data_that_a_program_changes_is_not_copied(gpu, launched):
    class Moved(gluon.HybridBlock):
        def hybrid_forward(self, F, x, mean, var):
            return F.BatchNorm(x, mean * 0 + 1, mean * 0, mean, var, fix_gamma=False)

    net = Moved()
    net.hybridize(static_alloc=True)
    x, m, v = (
        mx.nd.array([[1.0, 3.0], [2.0, 5.0]], ctx=gpu),
        mx.nd.zeros(2, ctx=gpu),
        mx.nd.ones(2, ctx=gpu),
    )
    x.attach_grad()
    for _ in range(4):
        with autograd.record():
            net(x, m, v).backward()
    np.testing.assert_allclose(m.asnumpy(), np.array([1.5, 4]) * (1 - 0.9**4), rtol=1e-5)
    assert not launched


def test_data_that_an_operator_changes_unasked(gpu, launched):
    class Changed(gluon.HybridBlock):
        def hybrid_forward(self, F, x, g, m):
            return F.sgd_mom_update(x, g, m, lr=0.1, momentum=0.9)

    net = Changed()
    net.hybridize(static_alloc=True)
    x, g, m = (mx.nd.array(v, ctx=gpu) for v in ([1.0, 2.0], [1.0, 1.0], [0.0, 0.0]))
    with pytest.warns(RuntimeWarning, match="changes what it is given"):
        for _ in range(3):
            net(x, g, m)
    np.testing.assert_allclose(m.asnumpy(), [-0.271, -0.271], rtol=1e-5)
    assert not launched


def test_a_wrong_label_is_told_of_every_run(gpu, launched):
    loss, z = gluon.loss.SoftmaxCrossEntropyLoss(), mx.nd.array(np.eye(3), ctx=gpu)
    loss.hybridize(static_alloc=True)
    for label in ([0, 1, 2], [0, 1, 2], [0, 9, 2], [0, 1, 2], [7, 0, 0]):
        y = loss(z, mx.nd.array(label, ctx=gpu))
        if max(label) > 2:
            with pytest.raises(mx.MXNetError, match="is not a class"):
                y.asnumpy()
        else:
            y.asnumpy()
    assert len(launched) == 4


def test_memory_that_runs_out_leaves_the_program_as_it_is(gpu, launched, monkeypatch):
    net, data = dense(gpu)
    x = data()
    monkeypatch.setattr(gpu_on_cpu.MemoryPool, "malloc", full)
    with pytest.warns(
        RuntimeWarning, match=r"forwards .* out of memory on a GPU: \d+ bytes asked for"
    ):
        y = net(x)
    monkeypatch.undo()
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    np.testing.assert_allclose(y.asnumpy(), by_hand(net, x), rtol=1e-5)
    assert not launched


def full(self, size):
    """No memory for a graph; enough for all else."""
    if self is not gpu_on_cpu.pool:
        raise gpu_on_cpu.OutOfMemoryError


def copied_once(self, moving):
    if not hasattr(self, "used"):
        self.used = launch(self, moving)
    else:
        self.graph.launch()


def drawn_once(make, like):
    before, context.capture.before = context.capture.before, None
    try:
        return wrap(make())
    finally:
        context.capture.before = before


launch = Run.launch
FAULTS = {  # a network, what goes wrong in it
    "data are not copied": ("perceptron", lambda m: m.setattr(Run, "launch", copied_once)),
    "a key is drawn once": ("dropout", lambda m: m.setattr(update_kernels, "brought", drawn_once)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault, gpu, monkeypatch):
    name, plant = FAULTS[fault]
    make, shape = NETS[name]
    want, _ = history(make, shape, gpu, active=True)
    plant(monkeypatch)
    got, _ = history(make, shape, gpu, static_alloc=True)
    assert not all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(got, want))


def test_leases_that_are_not_looked_at_are_seen(gpu, monkeypatch):
    monkeypatch.setattr(Run, "leased", lambda self: Lease(self))
    net, data = dense(gpu)
    x = data()
    y = net(x)
    net(data())
    assert not np.allclose(y.asnumpy(), by_hand(net, x))


def test_addresses_that_are_not_looked_at_are_seen(gpu, monkeypatch):
    net, data = dense(gpu)
    monkeypatch.setattr(gpu_on_cpu.ndarray, "data", type("At", (), {"ptr": 0})())
    net(data()), net(data())
    array = net.weight.data(gpu)
    array._data = (array._data * 2).copy()
    x = data()
    assert not np.allclose(net(x).asnumpy(), by_hand(net, x))


SHAPES = [(1, 1, 1), (70, 33, 40), (3, 500, 5), (64, 64, 64), (0, 3, 4), (3, 0, 4)]


@pytest.mark.parametrize("check", [False, True], ids=["plain", "check"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("sizes", SHAPES, ids=repr)
def test_a_product_of_matrices_that_lie_anyhow(sizes, dtype, check, monkeypatch):
    monkeypatch.setitem(gpu_on_cpu.how, "check", check)
    for kernels in Kernels.files.values():
        monkeypatch.setattr(kernels, "loaded", {})
    m, k, n = sizes
    for stack in ((), (3,), (2, 2)):
        a = random(*stack, m, k, dtype=dtype)
        b = (random(*stack, k, n, seed=1) / max(k, 1) ** 0.5).astype(a.dtype)
        want = (a.astype("float32") @ b.astype("float32")).astype(a.dtype)
        for turn_a in (False, True):
            for turn_b in (False, True):
                x, y = (lie(v, turn) for v, turn in ((a, turn_a), (b, turn_b)))
                compare(graphs.multiplied(x, y), want, a.dtype)
    out = wrap(np.zeros((m, 2 * n), a.dtype))[:, ::2]
    compare(graphs.multiplied(wrap(a[0, 0]), wrap(b[0, 0]), out), want[0, 0], a.dtype)
    flat = wrap(np.zeros(m * n + 1, a.dtype))[1:].reshape(m, n)  # nothing to load four numbers from
    compare(graphs.multiplied(wrap(a[0, 0]), wrap(b[0, 0]), flat), want[0, 0], a.dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("tall", [0, 1 << 24], ids=["one by one", "together"])
def test_stacks_of_halves(tall, dtype, monkeypatch):
    """By the kernel or matrix by matrix, never as CuPy does it: in float32, or not at all."""
    monkeypatch.setattr(graphs, "TALL", tall)
    a, b = random(2, 3, 5, 7, dtype=dtype), random(3, 7, 4, dtype=dtype)
    want = a.astype("float32") @ b.astype("float32")
    compare(stacked(wrap(a), wrap(b)), want.astype(a.dtype), a.dtype)
    out = wrap(np.zeros((2, 3, 5, 4), a.dtype))
    assert stacked(wrap(a), wrap(b), out) is out
    compare(out, want.astype(a.dtype), a.dtype)
    many = random(5, 2, 2, dtype=dtype)
    monkeypatch.setattr(graphs, "MOST_BLOCKS", 2)
    want = (many.astype("float32") @ many.astype("float32")).astype(a.dtype)
    compare(stacked(wrap(many), wrap(many)), want, a.dtype)


def lie(v, turned):
    """The matrices `v`, in memory column by column if `turned`."""
    if not turned:
        return wrap(v)
    return wrap(np.ascontiguousarray(v.swapaxes(-1, -2))).swapaxes(-1, -2)


def test_a_product_that_suits_no_kernel_is_refused():
    x = wrap(np.ones((2, 3)))
    with pytest.raises(RuntimeError, match="no kernel multiplies float64"):
        graphs.multiplied(x, x.T)
    x = wrap(np.zeros((1 << 14, 1), "float32"))
    with pytest.raises(RuntimeError, match="better left to cuBLAS"):
        graphs.multiplied(x, x.T)


def test_a_part_too_long_is_found(monkeypatch):
    monkeypatch.setitem(gpu_on_cpu.how, "check", True)
    for kernels in Kernels.files.values():
        monkeypatch.setattr(kernels, "loaded", {})
    plain = cuda_on_cpu.source

    def planted(name):
        return plain(name).replace("min(k, begin + span)", "begin + span")

    monkeypatch.setattr(cuda_on_cpu, "source", planted)
    with pytest.raises((mx.MXNetError, cuda_on_cpu.KernelError), match="out-of-bounds"):
        graphs.multiplied(wrap(random(3, 500)), wrap(random(500, 5)))
