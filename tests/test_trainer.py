"""The trainer: MXNet's rules about stores, runs that resume bit for bit, refusals."""

import pickle

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, gluon, kvstore, nd, states
from minigluon.gluon import nn

TWO = [mx.cpu(0), mx.cpu(1)]


def network(ctxs=None, use_bias=True):
    net = nn.Dense(1, in_units=2, prefix="d_", use_bias=use_bias)
    net.initialize(mx.init.One(), ctx=ctxs)
    return net


def made(ctxs=None, optimizer="sgd", settings=None, **rest):
    net = network(ctxs)
    settings = {"learning_rate": 0.1} if settings is None else settings
    return net, gluon.Trainer(net.collect_params(), optimizer, settings, **rest)


def backward(net, ctxs, x=1.0):
    with autograd.record():
        losses = [(net(nd.full((1, 2), x, c)) ** 2 / 6).sum() for c in ctxs]
    autograd.backward(losses)


RULES = [  # contexts, kvstore, update_on_kvstore -> store, who updates
    (1, "device", None, None, False),
    (1, "local", False, None, False),
    (1, "foo", None, None, False),
    (1, None, None, None, False),
    (1, kvstore.create, None, "KVStore", True),
    (1, kvstore.TestStore, None, "TestStore", False),
    (2, "device", None, "KVStore", True),
    (2, "device", False, "KVStore", False),
    (2, "local", True, "KVStore", True),
    (2, None, None, None, False),
    (2, kvstore.TestStore, None, "TestStore", False),
]


@pytest.mark.parametrize(("n", "kv", "on_store", "kind", "updates"), RULES)
def test_who_updates(n, kv, on_store, kind, updates):
    ctxs = TWO[:n]
    kv = kv() if callable(kv) else kv
    net, trainer = made(ctxs, kvstore=kv, update_on_kvstore=on_store)
    backward(net, ctxs)
    trainer.step(1)
    store = trainer._kvstore
    assert (store and type(store).__name__, bool(trainer._update_on_kvstore)) == (kind, updates)
    devices = 1 if kind is None else n
    for w in net.weight.list_data():
        np.testing.assert_allclose(w.asnumpy(), 1 - 0.1 * devices * 2 / 3, rtol=1e-6)


def test_reduce_then_update():
    net, trainer = made(TWO, update_on_kvstore=False)
    backward(net, TWO)
    one = net.weight.grad(TWO[0]).asnumpy()
    trainer.allreduce_grads()
    assert all(np.array_equal(g.asnumpy(), 2 * one) for g in net.weight.list_grad())
    trainer.update(2)
    np.testing.assert_allclose(net.weight.data(TWO[1]).asnumpy(), 1 - 0.1 * one, rtol=1e-6)


@pytest.mark.parametrize("ctxs", [TWO[:1], TWO])
def test_stale_gradients(ctxs):
    net, trainer = made(ctxs)
    with pytest.raises(UserWarning, match=r"`d_.*` on context cpu\(0\) has not been updated"):
        trainer.step(1)
    backward(net, ctxs)
    trainer.step(1)
    before = net.weight.data(ctxs[0]).asnumpy()
    with pytest.raises(UserWarning):
        trainer.step(1)
    trainer.step(1, ignore_stale_grad=True)
    assert np.array_equal(net.weight.data(ctxs[0]).asnumpy(), before)


def mismatched():
    a, b = (gluon.Parameter(name, shape=(1,)) for name in "ab")
    a.initialize(ctx=mx.cpu(0))
    b.initialize(ctx=mx.cpu(1))
    return gluon.Trainer([a, b], "sgd")


def stepped(ctxs=None, **rest):
    net, trainer = made(ctxs, **rest)
    backward(net, ctxs or TWO[:1])
    trainer.step(1)
    return trainer


FAULTS = {
    "contexts": (mismatched, AssertionError, "same set of contexts"),
    "uninitialized": (
        lambda: gluon.Trainer(nn.Dense(1).collect_params(), "sgd"),
        RuntimeError,
        "has not been initialized",
    ),
    "object": (
        lambda: made(optimizer=mx.optimizer.SGD()),
        AssertionError,
        "optimizer_params must be None",
    ),
    "generator": (lambda: gluon.Trainer((p for p in []), "sgd"), ValueError, "list or dict"),
    "number": (lambda: gluon.Trainer([1], "sgd"), ValueError, "list of <class 'int'>"),
    "kvstore": (lambda: stepped(kvstore=3), TypeError, "kvstore must be KVStore, str or None"),
    "no store": (lambda: stepped(update_on_kvstore=True), ValueError, "needs a kvstore"),
    "test store": (
        lambda: stepped(TWO, kvstore=kvstore.TestStore(), update_on_kvstore=True),
        ValueError,
        "Please set update_on_kvstore=False",
    ),
    "allreduce": (
        lambda: stepped(TWO).allreduce_grads(),
        AssertionError,
        r"allreduce_grads\(\) when parameters are updated on kvstore",
    ),
    "update": (
        lambda: stepped(TWO).update(1),
        AssertionError,
        r"update\(\) when parameters are updated on kvstore",
    ),
    "compression": (
        lambda: stepped(TWO, kvstore="local", compression_params={"type": "2bit"}),
        Exception,
        "not supported for this type",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name):
    call, error, message = FAULTS[name]
    with pytest.raises(error, match=message):
        call()


def test_compression():
    net, trainer = made(TWO, compression_params={"type": "2bit", "threshold": 0.5})
    backward(net, TWO)
    trainer.step(1)
    assert np.allclose(net.weight.data(TWO[0]).asnumpy(), 0.9)  # ±0.5 from each of two


@pytest.mark.parametrize("on_store", [None, False])
def test_row_sparse_gradients(on_store):
    p = gluon.Parameter("a", shape=(3, 2), grad_stype="row_sparse")
    p.initialize("ones", ctx=TWO)
    settings = {"learning_rate": 0.1, "momentum": 0.9}
    trainer = gluon.Trainer([p], "sgd", settings, update_on_kvstore=on_store)
    with autograd.record():
        losses = [
            nd.Embedding(nd.array([i, 0], c), p.data(c), 3, 2, sparse_grad=True).sum()
            for i, c in enumerate(TWO)
        ]
    autograd.backward(losses)
    trainer.step(1)
    assert trainer._update_on_kvstore is False
    for w in p.list_data():
        np.testing.assert_allclose(w.asnumpy()[:, 0], [0.7, 0.9, 1.0], rtol=1e-6)
    assert [g.indices.tolist() for g in p.list_grad()] == [[0, 1], [0, 1]]


def test_multipliers_and_rescaling():
    net = network()
    net.weight.lr_mult = 0.5
    trainer = gluon.Trainer(
        net.collect_params(), "sgd", {"learning_rate": 0.1, "rescale_grad": 0.5}
    )
    backward(net, TWO[:1])
    trainer.step(1)
    np.testing.assert_allclose(net.weight.data().asnumpy(), 1 - 0.1 * 0.25 * 2 / 3, rtol=1e-6)
    assert trainer.optimizer.rescale_grad == trainer._scale == 0.5


# States

NAMES = {c.__name__.lower() for c in mx.optimizer.Optimizer.opt_registry.values()}
OPTIMIZERS = sorted(n for n in NAMES if n[0] != "_")  # SVRG's two are in tests/test_svrg.py


def train(net, trainer, ctxs, steps):
    mx.random.seed(7)  # what an optimizer draws, it draws again
    for step in range(steps):
        backward(net, ctxs, 0.3 + 0.1 * step)
        trainer.step(2)


def weights(net):
    return [w.asnumpy() for p in net.collect_params().values() for w in p.list_data()]


def copied(net, ctxs):
    other = network(ctxs, net.bias is not None)
    for name, p in other.collect_params().items():
        p.set_data(net.collect_params()[name].list_data()[0])
    return other


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_equals_whole(name, n, tmp_path):
    ctxs = TWO[:n]
    net = network(ctxs, use_bias=name != "groupadagrad")  # which is for matrices
    trainer = gluon.Trainer(net.collect_params(), name)
    train(net, trainer, ctxs, 3)
    trainer.save_states(tmp_path / "states")
    again = copied(net, ctxs)
    resumed = gluon.Trainer(again.collect_params(), name, {"learning_rate": 0.77})
    resumed.load_states(tmp_path / "states")
    train(net, trainer, ctxs, 3)
    train(again, resumed, ctxs, 3)
    for a, b in zip(weights(net), weights(again)):
        assert a.tobytes() == b.tobytes()
    assert resumed.learning_rate == trainer.learning_rate


def test_schedules_resume(tmp_path):
    scheduler = pytest.importorskip("minigluon.lr_scheduler").FactorScheduler
    net, trainer = made(settings={"lr_scheduler": scheduler(2, 0.5, base_lr=1.0)})
    train(net, trainer, TWO[:1], 5)
    trainer.save_states(tmp_path / "s")
    _, other = made(settings={"lr_scheduler": scheduler(9, 0.1, base_lr=3.0)})
    other.load_states(tmp_path / "s")
    assert other.learning_rate == trainer.learning_rate == 0.25
    _, plain = made()
    with pytest.raises(mx.MXNetError, match="make the same object"):
        plain.load_states(tmp_path / "s")
    assert plain.learning_rate == 0.1


def test_states_of_another_optimizer(tmp_path):
    if "adam" not in OPTIMIZERS:
        pytest.skip("no other optimizer yet")
    net, trainer = made(optimizer="adam")
    train(net, trainer, TWO[:1], 2)
    trainer.save_states(tmp_path / "s")
    _, other = made()
    other.load_states(tmp_path / "s")
    assert type(other.optimizer).__name__ == "Adam" and other.optimizer.num_update == 2
    assert other.optimizer.param_dict[0] is other._params[0]


def test_refused_files(tmp_path):
    _, trainer = made()
    path = tmp_path / "s"
    with pytest.raises(FileNotFoundError):
        trainer.load_states(path)
    trainer.save_states(path)
    good = path.read_bytes()
    for wrong in [pickle.dumps({}, p) for p in range(6)] + [b"", good[:50], b"x" * 100]:
        path.write_bytes(wrong)
        with pytest.raises(mx.MXNetError):
            trainer.load_states(path)
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(mx.MXNetError, match="is a pickle"):
        trainer.load_states(path)
    nd.save(str(path), {"w": nd.ones((2,))})
    with pytest.raises(mx.MXNetError, match="no file of an optimizer"):
        trainer.load_states(path)


def test_no_code_in_trees():
    class Dangerous:
        def __reduce__(self):
            raise AssertionError("pickled")

    tree = states.to_tree(Dangerous(), [])
    assert tree == {"object": "Dangerous", "has": {"dict": []}}
    with pytest.raises(mx.MXNetError, match="here is a NoneType"):
        states.from_tree(tree, [])


def test_a_trainer_of_another_way_to_sum():
    class Doubling(gluon.Trainer):
        def _allreduce_grads(self):
            for p in self._params:
                for g in p.list_grad():
                    g[:] *= 2

    p = gluon.Parameter("w", shape=(1,))
    p.initialize("ones")
    trainer = Doubling([p], "sgd", {"learning_rate": 0.25}, kvstore=None)
    with mx.autograd.record():
        y = p.data() * 1
    y.backward()
    trainer.step(1)
    assert p.data().asscalar() == 0.5
    with mx.autograd.record():
        y = p.data() * 1
    y.backward()
    trainer.allreduce_grads()
    trainer.update(1)
    assert p.data().asscalar() == 0


def test_arrays_are_made_in_one_place_that_tools_may_wrap():
    net = gluon.nn.Dense(2)
    net.initialize()
    seen, make = [], net.weight._init_impl
    net.weight._init_impl = lambda *args: (make(*args), seen.append(net.weight.shape))
    net(mx.nd.ones((1, 3)))
    assert seen == [(2, 3)]
    assert net.weight._reduce().shape == (2, 3)
    net.weight.grad()[:] = 1
    net.weight._init_grad()
    assert not net.weight.grad().asnumpy().any()
