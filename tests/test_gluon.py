"""Blocks, parameters, training and data, as a Gluon user meets them."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, gluon, nd
from minigluon.gluon import Block, HybridBlock, nn


class Model(Block):  # the tutorial's first listing
    def __init__(self, **kwargs):
        super(Model, self).__init__(**kwargs)  # noqa: UP008
        # use name_scope to give child Blocks appropriate names.
        with self.name_scope():
            self.dense0 = nn.Dense(20)
            self.dense1 = nn.Dense(20)

    def forward(self, x):
        x = mx.nd.relu(self.dense0(x))
        return mx.nd.relu(self.dense1(x))


class HybridModel(HybridBlock):  # the tutorial's second listing
    def __init__(self, **kwargs):
        super(HybridModel, self).__init__(**kwargs)  # noqa: UP008
        # use name_scope to give child Blocks appropriate names.
        with self.name_scope():
            self.dense0 = nn.Dense(20)
            self.dense1 = nn.Dense(20)

    def forward(self, x):
        x = nd.relu(self.dense0(x))
        return nd.relu(self.dense1(x))


@pytest.mark.parametrize("cls", [Model, HybridModel])
def test_the_tutorials_listings(cls):
    model = cls()
    model.initialize(ctx=mx.cpu(0))
    model.hybridize()
    out = model(mx.nd.zeros((5, 5), ctx=mx.cpu(0)))
    assert repr(out).endswith("<NDArray 5x20 @cpu(0)>") and not out.asnumpy().any()
    scope = model.prefix
    assert list(model.collect_params()) == [
        f"{scope}dense{i}_{kind}" for i in (0, 1) for kind in ("weight", "bias")
    ]


def test_the_tutorials_parameter():
    weight = gluon.Parameter("weight", shape=(2, 2))
    weight.initialize(ctx=mx.cpu(0))
    assert weight.data() is weight.data() and abs(weight.data().asnumpy()).max() <= 0.07
    assert not weight.grad().asnumpy().any()
    weight.initialize(ctx=[mx.cpu(0), mx.cpu(1)], force_reinit=True)
    np.testing.assert_array_equal(
        weight.data(mx.cpu(0)).asnumpy(), weight.data(mx.cpu(1)).asnumpy()
    )


def test_the_tutorials_sampler():
    batches = gluon.data.BatchSampler(gluon.data.SequentialSampler(15), 4, "keep")
    assert list(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14]]


def test_names_and_reprs():
    code = (
        "from minigluon.gluon import nn; net = nn.HybridSequential();\n"
        "with net.name_scope(): net.add(nn.Dense(3, activation='relu', in_units=2), nn.Dense(1))\n"
        "print(net); print(*net.collect_params()); print(nn.Dense(2).name, nn.Activation('tanh').name)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out == (
        "HybridSequential(\n  (0): Dense(2 -> 3, Activation(relu))\n  (1): Dense(None -> 1, linear)\n)\n"
        "hybridsequential0_dense0_weight hybridsequential0_dense0_bias "
        "hybridsequential0_dense1_weight hybridsequential0_dense1_bias\n"
        "dense0 tanh0\n"
    )


def test_sequential_is_a_list():
    net = nn.Sequential()
    net.add(nn.Flatten(), nn.Dense(3), nn.Dense(2))
    assert len(net) == 3 and isinstance(net[1:], nn.Sequential) and net[-1] is net[2]
    net.initialize()
    assert net(nd.ones((4, 2, 2))).shape == (4, 2) and net[1].weight.shape == (3, 4)


def test_select_setattr_and_sharing():
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Dense(3, in_units=3))
        net.add(nn.Dense(3, in_units=3, params=net[0].params))
    assert list(net.collect_params(".*bias")) == ["net_dense0_bias"]
    net.initialize()
    assert net[0].weight.data() is net[1].weight.data()
    net.collect_params().setattr("grad_req", "null")
    with pytest.raises(RuntimeError, match="grad_req='null'"):
        net[0].weight.grad()


PARAMETER_FAULTS = {
    "uninitialized": (lambda: nn.Dense(2, in_units=2).weight.data(), RuntimeError, "initialize()"),
    "deferred": (
        lambda: initialized(nn.Dense(2)).weight.data(),
        gluon.DeferredInitializationError,
        "first batch",
    ),
    "elsewhere": (
        lambda: initialized(nn.Dense(2, in_units=2)).weight.data(mx.cpu(3)),
        RuntimeError,
        r"only initialized on \[cpu\(0\)\]",
    ),
    "shape": (
        lambda: gluon.Parameter("w", shape=(0,)).initialize(),
        ValueError,
        "allow_deferred_init",
    ),
    "initializer": (
        lambda: initialized(nn.Dense(2, in_units=2, weight_initializer="xaveir")),
        AssertionError,
        "known are",
    ),
    "width": (
        lambda: initialized(nn.Dense(2, in_units=3))(nd.ones((1, 4))),
        mx.MXNetError,
        r"in FullyConnected\(data: float32\[1, 4\]",
    ),
    "child": (lambda: nn.HybridSequential().add(Model()), ValueError, "HybridSequential instead"),
    "input": (lambda: initialized(nn.Dense(2))([1, 2]), ValueError, "must be one NDArray"),
    "optimizer": (lambda: gluon.Trainer([], "sgdd"), ValueError, "known are"),
    "params": (lambda: gluon.Trainer("w", "sgd"), ValueError, "list or dict"),
    "label": (
        lambda: gluon.loss.SoftmaxCrossEntropyLoss()(nd.ones((1, 2)), nd.array([0.5])),
        mx.MXNetError,
        "label 0.5 is not a class",
    ),
    "misspelt class": (lambda: gluon.Tariner, AttributeError, "Trainer"),
}


def initialized(block):
    block.initialize()
    return block


@pytest.mark.parametrize("name", PARAMETER_FAULTS)
def test_faults(name):
    call, error, message = PARAMETER_FAULTS[name]
    with pytest.raises(error, match=f"(?s){message}"):
        call()


def test_reinitialize_warns():
    layer = initialized(nn.Dense(2, in_units=2))
    before = layer.weight.data().asnumpy()
    with pytest.warns(UserWarning, match="already initialized"):
        layer.initialize()
    np.testing.assert_array_equal(layer.weight.data().asnumpy(), before)


def test_stale_gradients_are_refused_before_anything_changes():
    first, second = (initialized(nn.Dense(1, in_units=1)) for _ in range(2))
    parameters = [*first.collect_params().values(), *second.collect_params().values()]
    trainer = gluon.Trainer(parameters, "sgd", {"learning_rate": 1.0})
    with autograd.record():
        y = first(nd.ones((1, 1)))
    y.backward()
    before = first.weight.data().asnumpy()
    with pytest.raises(UserWarning, match="ignore_stale_grad"):
        trainer.step(1)
    np.testing.assert_array_equal(first.weight.data().asnumpy(), before)
    trainer.step(1, ignore_stale_grad=True)
    assert first.weight.data().asnumpy() != before


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_by_hand(momentum):
    w = gluon.Parameter("w_weight", shape=(2,), lr_mult=0.5)
    w.initialize("ones")
    settings = {"learning_rate": 0.1, "momentum": momentum, "wd": 0.1, "clip_gradient": 0.3}
    trainer = gluon.Trainer([w], "sgd", settings)
    hand, v = np.ones(2), np.zeros(2)
    for _ in range(3):
        with autograd.record():
            y = (w.data() * nd.array([1, 8])).sum()
        y.backward()
        trainer.step(4)
        v = momentum * v - 0.05 * (np.clip(np.array([1, 8]) / 4, -0.3, 0.3) + 0.1 * hand)
        hand = hand + v
    np.testing.assert_allclose(w.data().asnumpy(), hand, rtol=1e-6)


def test_losses_weigh_samples():
    pred, label = nd.array([[1.0, 2.0], [3.0, 5.0]]), nd.array([[1.0, 1.0], [0.0, 1.0]])
    loss = gluon.loss.L2Loss()
    assert loss(pred, label).asnumpy().tolist() == [0.25, 6.25]
    assert loss(pred, label, nd.array([[1], [0]])).asnumpy().tolist() == [0.25, 0]
    assert repr(loss) == "L2Loss(batch_axis=0, w=1.0)"
    with pytest.raises(NotImplementedError):
        gluon.loss.Loss(None, 0)(pred)


def test_loader():
    data = gluon.data.ArrayDataset(nd.arange(10).reshape(10, 1), np.arange(10))
    batches = list(gluon.data.DataLoader(data, batch_size=4, last_batch="discard"))
    assert len(batches) == 2 and isinstance(batches[0], list)
    assert batches[0][0].shape == (4, 1) and batches[0][1].dtype == np.int64
    assert len(list(gluon.data.DataLoader(data, batch_size=4, num_workers=2))) == 3


def test_the_main_job(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "minigluon"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    share = float(done.stdout.split("held-out accuracy: ")[1].split("%")[0])
    assert (
        share >= 97 and "learning to read" in done.stderr and "jupyter" in done.stdout + "jupyter"
    )
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_line():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "minigluon", *arguments], capture_output=True, text=True
        )

    assert "export" in run("--help").stdout
    assert run("digits", "--epochs", "0").returncode == 2
    assert "not above 0" in run("--lr", "-1").stderr
    assert run("exprot").returncode == 2


def test_import_is_light():
    code = (
        "import sys, minigluon; print(sorted(m for m in sys.modules if m.startswith('minigluon')))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "['minigluon']"


def test_blocks_in_lists_are_told_of():
    class Listed(mx.gluon.Block):
        def __init__(self, layers):
            super().__init__()
            self.layers = layers

    dense = mx.gluon.nn.Dense
    for layers in ([dense(1)], {"a": [dense(1), dense(2)]}, (1, {"b": dense(1)})):
        with pytest.warns(UserWarning, match='"layers" of Listed holds blocks in an unregistered'):
            Listed(layers).collect_params()
    for layers in (["a", 1], {"a": "4", "b": 123}, mx.gluon.nn.Sequential(), []):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Listed(layers).collect_params()
    net = Listed([])
    net.inner = dense(1)
    net.layers.append(net.inner)  # it is a child as well
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.collect_params()
