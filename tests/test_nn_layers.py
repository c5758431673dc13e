"""Normalization, activations, dropout and embedding as layers: against MXNet, and in each mode."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
import minigluon.gluon.contrib
from minigluon import autograd, gluon, nd
from minigluon.gluon import nn
from minigluon.gluon.hybrid import SymbolBlock
from minigluon.ops import normalization as norm
from tests.reference.golden_layers import LAYERS, NETWORKS, network, numbers, observe, train
from tests.test_ops import check_gradient

GOLDEN = np.load(Path(__file__).parent / "reference" / "golden_layers.npz")
TOLD = json.loads(str(GOLDEN["told"]))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_as_in_mxnet(name, hybrid):
    arrays, told = observe(mx, *LAYERS[name], hybrid)
    for i, a in enumerate(arrays):
        if (name, i) == ("selu", 1):
            continue  # MXNet's gradient below 0 is λ(α + y), where λα + y is the derivative
        np.testing.assert_allclose(a, GOLDEN[f"{name}/{i}"], rtol=2e-4, atol=2e-5, err_msg=str(i))
    assert told == TOLD[name]


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_stays_with_mxnets_for_20_steps(name, hybrid):
    make, *settings = NETWORKS[name]
    net = make(mx)
    net.hybridize(hybrid)
    np.testing.assert_allclose(train(mx, net, *settings), GOLDEN[f"{name} losses"], rtol=1e-3)
    for p in net.collect_params().values():
        np.testing.assert_allclose(p.data().asnumpy(), GOLDEN[p.name], rtol=2e-3, atol=2e-4)


def statistics(n):
    return np.zeros(n), np.ones(n)


@pytest.mark.parametrize("op", ["BatchNorm", "BatchNormWithReLU", "SyncBatchNorm"])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_batch_norm_in_training(op, fixed, order):
    f = getattr(nd, op, None) or getattr(nd.contrib, op)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 2, 4)), rng.uniform(0.5, 1, 2), rng.normal(size=2)]
    arrays += statistics(2)
    which = (0, 2) if fixed else (0, 1, 2)
    weight = nd.array(rng.normal(size=(3, 2, 4)), dtype="float64")

    def value(xs):
        return (f(*xs, fix_gamma=fixed) * weight).sum()

    def slopes(xs):
        for i in which:
            if xs[i]._node is None:
                xs[i].attach_grad()
        with autograd.record():
            grads = autograd.grad(value(xs), [xs[i] for i in which], create_graph=True)
            return sum(((g + xs[i]) ** 2).sum() for g, i in zip(grads, which))

    with autograd.train_mode():
        check_gradient(value if order == 1 else slopes, arrays, which, rtol=1e-4, atol=1e-6)


def layer(**kwargs):
    found = nn.BatchNorm(in_channels=3, **kwargs)
    found.initialize()
    return found


X = nd.array(np.arange(12).reshape(4, 3))


@pytest.mark.parametrize("hybrid", [False, True])
def test_statistics_move_in_the_backward_pass(hybrid):
    norm = layer()
    norm.hybridize(hybrid)
    with autograd.record():
        y = norm(X)
    assert norm.running_mean.data().tolist() == [0, 0, 0]
    y.backward(retain_graph=True)
    np.testing.assert_allclose(norm.running_mean.data().asnumpy(), [0.45, 0.55, 0.65], rtol=1e-6)
    np.testing.assert_allclose(norm.running_var.data().asnumpy(), 2.025, rtol=1e-6)
    y.backward()
    np.testing.assert_allclose(norm.running_mean.data().asnumpy(), [0.855, 1.045, 1.235], rtol=1e-6)
    before = norm.running_mean.data().asnumpy()
    with autograd.train_mode():
        norm(X)
    with autograd.record():
        y = norm(X)
    y.backward(train_mode=False)
    with autograd.record(train_mode=False):
        y = norm(X)
    y.backward()
    assert (norm.running_mean.data().asnumpy() == before).all()


@pytest.mark.parametrize("hybrid", [False, True])
def test_the_forward_pass_decides_the_mode(hybrid):
    norm = layer()
    norm.running_var.set_data(nd.array([4, 9, 16]))
    norm.hybridize(hybrid)
    x = X.copy()
    x.attach_grad()
    with autograd.record(train_mode=False):
        y = norm(x)
    y.backward()
    want = 1 / np.sqrt(np.array([4, 9, 16]) + 1e-5)
    np.testing.assert_allclose(x.grad.asnumpy(), np.tile(want, (4, 1)), rtol=1e-5)


def test_an_executor_moves_its_states():
    net = mx.sym.BatchNorm(mx.sym.var("data"), name="bn", fix_gamma=False)
    assert net.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert net.list_arguments() == ["data", "bn_gamma", "bn_beta"]
    run = net.simple_bind(mx.cpu(), data=(4, 3))
    run.forward(is_train=True, data=X)
    assert run.aux_dict["bn_moving_mean"].tolist() == [0, 0, 0]
    run.backward(nd.ones((4, 3)))
    np.testing.assert_allclose(
        run.aux_dict["bn_moving_mean"].asnumpy(), [0.45, 0.55, 0.65], rtol=1e-6
    )


def test_statistics_as_outputs():
    net = mx.sym.BatchNorm(mx.sym.var("data"), name="bn", output_mean_var=True)
    assert net.list_outputs() == ["bn_output", "bn_mean", "bn_var"]
    with autograd.train_mode():
        y, m, r = nd.BatchNorm(
            X, nd.ones(3), nd.zeros(3), *map(nd.array, statistics(3)), output_mean_var=True
        )
    assert m.tolist() == [4.5, 5.5, 6.5]
    np.testing.assert_allclose(r.asnumpy(), 1 / np.sqrt(11.25 + 1e-3), rtol=1e-6)
    outs = nd.LayerNorm(X, nd.ones(3), nd.zeros(3), output_mean_var=True)
    assert [o.shape for o in outs] == [(4, 3), (4, 1), (4, 1)]


def test_fix_gamma_writes_ones():
    gamma = nd.array([2, 3, 4])
    nd.BatchNorm(X, gamma, nd.zeros(3), nd.zeros(3), nd.ones(3))
    assert gamma.tolist() == [1, 1, 1]
    gamma = nd.array([2, 3, 4])
    nd.BatchNorm(X, gamma, nd.zeros(3), nd.zeros(3), nd.ones(3), fix_gamma=False)
    assert gamma.tolist() == [2, 3, 4]


@pytest.mark.parametrize("hybrid", [False, True])
def test_half_precision(hybrid):
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=3), nn.LayerNorm(in_channels=3), nn.GELU(), nn.Dropout(0.5))
    net.initialize()
    net.cast("float16")
    net.hybridize(hybrid)
    kept, cast = np.dtype(net[0].gamma.dtype), np.dtype(net[1].gamma.dtype)
    assert kept == np.float32 and cast == np.float16
    x = X.astype("float16")
    x.attach_grad()
    with autograd.record():
        y = net(x)
    y.backward()
    assert y.dtype is np.float16 and x.grad.dtype is np.float16
    np.testing.assert_allclose(net[0].running_mean.data().asnumpy()[0], 0.45, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "along"), [((7, 40, 9, 33), 1), ((900, 301), 1), ((50, 4, 700), 2), ((3, 2), 1)]
)
def test_blocks_are_the_whole(shape, along, monkeypatch):
    from minigluon.ops import normalization as n

    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, *shape))
    gamma, beta = (rng.normal(size=shape[along]) for _ in range(2))
    small = [n.kept(a, x, along) for a in (gamma, beta)]
    others = tuple(i for i in range(len(shape)) if i != along)

    def both(over, split):
        y, m, v, r = n.normalize(x, *small, over, 1e-5, split)
        return y, m, v, r, *n.pulled(g, x, small[0], m, r, over, along, split)

    for over, split in ((others, along), ((along,), 0)):
        monkeypatch.setattr(n, "BLOCK", 10**9)
        want = both(over, split)
        monkeypatch.setattr(n, "BLOCK", 2048)
        for a, b in zip(both(over, split), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_dropout():
    mx.random.seed(0)
    x = nd.ones((200, 300))
    drop = nn.Dropout(0.3)
    assert (drop(x).asnumpy() == 1).all()
    with autograd.train_mode():
        y = drop(x).asnumpy()
        rows = nn.Dropout(0.5, axes=(1,))(x).asnumpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)} and abs((y > 0).mean() - 0.7) < 0.01
    assert (rows == rows[:, :1]).all() and 0.3 < (rows > 0).mean() < 0.7
    y = drop(x)
    y[:] = 7
    assert (x.asnumpy() == 1).all()


def test_dropout_draws_the_same_hybridized():
    net = nn.HybridSequential()
    net.add(nn.Dense(50, in_units=4), nn.Dropout(0.5), nn.Dense(3, in_units=50), nn.Dropout(0.2))
    net.initialize()
    found = []
    for hybrid in (False, True):
        net.hybridize(hybrid)
        mx.random.seed(3)
        for _ in range(2):
            with autograd.record():
                y = net(nd.ones((5, 4)))
            y.backward()
        found.append((y.asnumpy(), net[0].weight.grad().asnumpy()))
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_mask_of_the_backward_program_is_that_of_the_forward_one():
    net = nn.HybridSequential()
    net.add(nn.Dropout(0.5), nn.Dropout(0.5))
    net.hybridize()
    x = nd.ones((20, 20))
    x.attach_grad()
    for _ in range(2):
        with autograd.record():
            y = net(x)
        y.backward()
        assert (x.grad.asnumpy() == y.asnumpy()).all()


def test_rrelu_in_training():
    mx.random.seed(0)
    with autograd.record():
        y, slopes = nd.LeakyReLU(nd.array([-1.0, 2.0] * 500), act_type="rrelu")
    drawn = -y.asnumpy()[::2]
    assert 0.125 <= drawn.min() < 0.15 and 0.3 < drawn.max() <= 0.334
    assert (y.asnumpy()[1::2] == 2).all() and slopes.shape == y.shape


@pytest.mark.parametrize("kind", [nn.Embedding, gluon.contrib.nn.SparseEmbedding])
def test_embedding_with_rows(kind):
    net = kind(10, 2, sparse_grad=True) if kind is nn.Embedding else kind(10, 2)
    net.initialize(mx.init.One())
    gluon.Trainer(net.collect_params(), "sgd")  # keeps the rows of a weight that is stored by rows
    with autograd.record():  # Embedding takes row -1 for row 0; who stores rows has no such row
        y = net(nd.array([[1, 3], [3, -1 if kind is nn.Embedding else 0]])).sum()
    y.backward()
    grad = net.weight.grad()
    assert grad.stype == "row_sparse"
    assert grad.asnumpy()[:, 0].tolist() == [1, 1, 0, 2, 0, 0, 0, 0, 0, 0]


def test_side_by_side():
    for kind, home in (("Concurrent", gluon.contrib.nn), ("HybridConcurrent", gluon.contrib.nn)):
        for name, where in ((kind, home), (kind.replace("Concurrent", "Concatenate"), nn)):
            net = getattr(where, name)(axis=1)
            with net.name_scope():
                net.add(nn.Dense(2), nn.Identity(), nn.Dense(1))
            net.initialize()
            if isinstance(net, gluon.HybridBlock):
                net.hybridize()
            assert net(X).shape == (4, 6) and (net(X).asnumpy()[:, 2:5] == X.asnumpy()).all()
            printed = "(0): Dense(3 -> 2, linear)\n  (1): Identity(\n  \n  )\n  (2): Dense(3 -> 1, linear)"
            assert repr(net) == f"{name}(\n  {printed}\n)"


def test_sequential_is_a_list():
    net = nn.HybridSequential()
    net.add(nn.Dense(2), nn.BatchNorm(), nn.Dropout(0.3))
    assert len(net) == 3 and [type(b).__name__ for b in net] == ["Dense", "BatchNorm", "Dropout"]
    assert type(net[0:2]) is nn.HybridSequential and net[-1] is net[2] and net[:2][1] is net[1]
    with pytest.raises(IndexError):
        net[7]


WRONG = [
    (lambda: nn.Lambda(3), ValueError, "Unrecognized function"),
    (lambda: nn.Lambda("nope"), AssertionError, "not found in ndarray"),
    (lambda: nn.HybridLambda("nope"), AssertionError, "not found in symbol/ndarray"),
    (lambda: nn.LeakyReLU(-1), AssertionError, "no less than 0"),
    (lambda: layer()(nd.ones((2, 4))), mx.MXNetError, "needs the shape"),
    (lambda: nd.BatchNorm(X, nd.ones(3), nd.ones(3)), mx.MXNetError, "BatchNorm"),
]


@pytest.mark.parametrize(("attempt", "error", "says"), WRONG)
def test_refusals(attempt, error, says):
    with pytest.raises(error, match=says):
        attempt()


OTHER_SIDE = """
import sys
import numpy as np
np.bool = bool
import mxnet as mx
sys.path.insert(0, {here!r})
from golden_layers import network, numbers, train
x = mx.nd.array(numbers(7, (4, 5)))
theirs = mx.gluon.SymbolBlock.imports({ours!r} + "-symbol.json", ["data"], {ours!r} + "-0000.params")
np.save({out!r} + "-ours.npy", theirs(x).asnumpy())
net = network(mx)
net.hybridize()
train(mx, net)
np.save({out!r} + "-theirs.npy", net(x).asnumpy())
net.export({out!r})
"""


def test_files_go_both_ways(mxnet_python, tmp_path):
    net = network(mx)
    net.hybridize()
    train(mx, net)
    x = nd.array(numbers(7, (4, 5)))
    want, ours, out = net(x).asnumpy(), str(tmp_path / "ours"), str(tmp_path / "theirs")
    net.export(ours)
    assert "aux:net_batchnorm0_running_mean" in nd.load(f"{ours}-0000.params")
    here = str(Path(__file__).parent / "reference")
    code = OTHER_SIDE.format(here=here, ours=ours, out=out)
    subprocess.run([mxnet_python, "-c", code], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(f"{out}-ours.npy"), want, rtol=1e-4, atol=1e-5)
    back = SymbolBlock.imports(f"{out}-symbol.json", ["data"], f"{out}-0000.params")
    np.testing.assert_allclose(
        back(x).asnumpy(), np.load(f"{out}-theirs.npy"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, axis", [((16, 40, 8, 9), 1), ((6, 64, 32, 32), 1), ((50, 70), 1)])
@pytest.mark.parametrize("far", [0.0, 100.0, 1e4])
def test_channels_from_sums_equal_the_plain_way(dtype, shape, axis, far):
    """Also where the mean is so large that sums of squares would lose all digits."""
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    x[:, 1] += far
    x[:, 2] = 3
    gamma, beta = rng.normal(size=(2, shape[axis])).astype(dtype)
    over = tuple(i for i in range(len(shape)) if i != axis)
    gain, offset = (norm.kept(a, x, axis) for a in (gamma, beta))
    wanted = norm.normalize(x, gain, offset, over, 1e-3, axis)
    states = np.zeros(shape[axis], dtype), np.ones(shape[axis], dtype)
    with mx.autograd.train_mode():
        found = norm.BatchNorm.revealing[0].kernel(x, gamma, beta, *states, fix_gamma=False)
    tolerance = {"float32": 2e-5, "float64": 1e-10}[dtype]
    tolerance += far * np.finfo(dtype).eps  # the mean is not known better
    for a, b in zip((found[0], found[1], found[2]), (wanted[0], wanted[1], wanted[3])):
        assert abs(a.reshape(b.shape) - b).max() <= tolerance * max(abs(b).max(), 1)
    pulled = norm.pulled(g, x, gain, wanted[1], wanted[3], over, axis, axis)
    back = norm.batch_norm_backward.kernel(
        g, x, gamma, *states, *found[1:], fix_gamma=False, axis=axis
    )
    for a, b in zip(back, pulled):
        assert abs(a - b).max() <= 10 * tolerance * max(abs(b).max(), 1)


def test_few_rows_are_normalized_as_many(monkeypatch):
    rng = np.random.default_rng(0)
    x, gamma, beta = (rng.normal(size=s).astype("float32") for s in ((3, 4, 8), 8, 8))
    kernel = norm.LayerNorm.revealing[0].kernel
    few = kernel(x, gamma, beta)
    monkeypatch.setattr(norm, "FEW", 0)
    for a, b in zip(few, kernel(x, gamma, beta), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 4, 8), (2, 3, 4, 60), (700, 400)])
def test_gradients_of_rows_are_the_plain_ones(shape, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    g, x = (rng.normal(3, 2, shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.normal(size=shape[-1]).astype(dtype) for _ in range(2))
    _, _, _, m, r = norm.LayerNorm.revealing[0].kernel(x, gamma, beta)
    settings = {"axis": -1, "along": -1, "split": 0}
    rows = norm.norm_backward.kernel(g, x, gamma, m, r, **settings)
    monkeypatch.setattr(norm, "are_rows", lambda *_: False)
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    for a, b in zip(rows, norm.norm_backward.kernel(g, x, gamma, m, r, **settings), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert abs(a - b).max() <= tolerance * abs(g).sum() ** 0.5 * max(1, abs(r).max())


@pytest.mark.parametrize("shape", [(1, 7), (3, 5), (2, 3, 4)])
def test_a_bias_reaches_every_row_in_parts_too(shape, monkeypatch):
    x, w, b = nd.random.normal(shape=shape), nd.random.normal(shape=(6, shape[-1])), nd.arange(6)
    whole = nd.FullyConnected(x, w, b, num_hidden=6, flatten=False)
    monkeypatch.setattr(minigluon.ops.nn, "LARGE", 0)
    parts = nd.FullyConnected(x, w, b, num_hidden=6, flatten=False)
    assert (whole == parts).asnumpy().all()


@pytest.mark.parametrize("make", [nn.BatchNorm, gluon.contrib.nn.SyncBatchNorm])
def test_what_a_batch_norm_does_not_learn_stays_so(make):
    layer = make(scale=False, center=False, in_channels=3)
    layer.collect_params().setattr("grad_req", "add")
    assert {p.grad_req for p in layer.collect_params().values()} == {"null"}
    layer = make(scale=False, in_channels=3)
    layer.collect_params().setattr("grad_req", "null")
    layer.collect_params().setattr("grad_req", "write")  # the way to freeze a network, and back
    assert layer.gamma.grad_req == "null" and layer.beta.grad_req == "write"
    other = nn.GroupNorm(1, scale=False)
    other.collect_params().setattr("grad_req", "write")
    assert other.gamma.grad_req == "write"  # as in MXNet
