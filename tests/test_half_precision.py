"""mx.contrib.amp: the loss scaler of MXNet 1.9.1, and training with it."""

import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, gluon, nd
from minigluon.contrib import amp
from minigluon.contrib.amp import amp as module
from minigluon.gluon import nn


def trainer_of(net, name="sgd", **settings):
    trainer = gluon.Trainer(net.collect_params(), name, {"learning_rate": 0.1, **settings})
    amp.init()
    amp.init_trainer(trainer)
    return trainer


def dense(dtype="float32"):
    net = gluon.nn.Dense(3, in_units=4)
    net.initialize(mx.init.Constant(0.5))
    net.cast(dtype)
    return net


def step(net, trainer, x, clip=None):
    with autograd.record():
        loss = (net(x) ** 2).mean()
        with amp.scale_loss(loss, trainer) as scaled:
            scaled.backward()
    if clip:
        amp.unscale(trainer)
        gluon.utils.clip_global_norm([p.grad() for p in net.collect_params().values()], clip)
    trainer.step(1)


def test_scaling_changes_nothing_in_float32():
    x = nd.array(np.random.default_rng(0).normal(size=(5, 4)))
    net, plain = dense(), dense()
    trainer = trainer_of(net, momentum=0.9)
    other = gluon.Trainer(plain.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    for _ in range(4):
        step(net, trainer, x)
        with autograd.record():
            (plain(x) ** 2).mean().backward()
        other.step(1)
    assert np.array_equal(net.weight.data().asnumpy(), plain.weight.data().asnumpy())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_overflow_is_left_out_and_halves():
    net = dense()
    trainer = trainer_of(net)
    before = net.weight.data().asnumpy()
    step(net, trainer, nd.full((5, 4), np.inf))
    scaler = trainer._amp_loss_scaler
    assert np.array_equal(net.weight.data().asnumpy(), before) and scaler.loss_scale == 2**16
    step(net, trainer, nd.ones((5, 4)))
    assert scaler.loss_scale == 2**15 and not np.array_equal(net.weight.data().asnumpy(), before)


def test_it_grows_and_stops_growing():
    scaler, seen = amp.LossScaler(), []
    for _ in range(2000 * 10 + 1):
        scaler.has_overflow([])
        seen.append(scaler.loss_scale)
    assert seen[1999] == 2**16 and seen[2000] == 2**17 and seen[-1] == max(seen) == 2**24


def test_unscaled_gradients_can_be_clipped():
    net = dense()
    step(net, trainer_of(net), nd.ones((5, 4)), clip=0.1)
    norm = np.sqrt(sum((p.grad().asnumpy() ** 2).sum() for p in net.collect_params().values()))
    assert norm == pytest.approx(0.1, rel=1e-4)
    assert np.allclose(net.weight.data().asnumpy(), 0.5 - 0.1 * net.weight.grad().asnumpy())


def test_lists_of_losses_and_sparse_gradients():
    net = gluon.nn.Embedding(6, 2, sparse_grad=True)
    net.initialize(mx.init.One())
    trainer = trainer_of(net)
    with autograd.record():
        losses = [net(nd.array([i])).sum() for i in (1, 3)]
        with amp.scale_loss(losses, trainer) as scaled:
            autograd.backward(scaled)
    trainer.step(1)
    assert np.allclose(net.weight.data().asnumpy()[:, 0], [1, 0.9, 1, 0.9, 1, 1])


def test_faults(monkeypatch):
    monkeypatch.setattr(module, "_amp_initialized", False)
    net = dense()
    trainer = gluon.Trainer(net.collect_params(), "sgd")
    with pytest.raises(AssertionError, match="amp.init"):
        amp.init_trainer(trainer)
    with pytest.raises(AssertionError, match="int8"):
        amp.init("int8")
    amp.init(np.float16)
    with pytest.raises(AssertionError, match="init_trainer"), amp.scale_loss(nd.ones(1), trainer):
        pass
    for wrong in (mx.optimizer.SGD(), 3):
        with pytest.raises(TypeError):
            amp.init_trainer(wrong)
    for convert in (amp.convert_hybrid_block, amp.convert_model, amp.convert_symbol):
        with pytest.raises(mx.MXNetError, match="float16"):
            convert(net)


def picture_net():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, padding=1), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(2))
    net.add(nn.Flatten(), nn.Dense(16, activation="tanh"), nn.Dropout(0.1), nn.Dense(4))
    return net


@pytest.mark.parametrize("hybrid", [False, True], ids=["eager", "hybrid"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_network_of_halves_trains(dtype, hybrid):
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.float16
    mx.random.seed(0)
    net, cross = picture_net(), gluon.loss.SoftmaxCrossEntropyLoss()
    net.initialize(mx.init.Xavier())
    net.cast(dtype)
    if hybrid:
        net.hybridize()
    x = nd.random.normal(shape=(6, 3, 8, 8)).astype(dtype)
    label, trainer = nd.array([0, 1, 2, 3, 0, 1]), None
    found = []
    for _ in range(12):
        with autograd.record():
            y = net(x)
            loss = cross(y, label)
        loss.backward()
        settings = {"learning_rate": 0.1, "multi_precision": dtype == "float16"}
        trainer = trainer or gluon.Trainer(net.collect_params(), "sgd", settings)
        trainer.step(6)
        found.append(float(loss.mean().asnumpy().astype("float32")[0]))
        assert y.dtype == loss.dtype == kind
    assert found[-1] < 0.5 * found[0]
    of = {p.name.split("_")[-1] + p.name[:5]: p for p in net.collect_params().values()}
    assert {np.dtype(p.dtype).name for n, p in of.items() if "batch" in n} == {"float32"}
    assert {np.dtype(p.dtype).name for n, p in of.items() if "batch" not in n} == {dtype}


def test_bfloat16_is_a_floating_type_like_others():
    kind = pytest.importorskip("ml_dtypes").bfloat16
    x = nd.array([1.5, -2.25, 3], dtype="bfloat16")
    assert x.dtype == kind and x.astype("float32").asnumpy().tolist() == [1.5, -2.25, 3]
    for y in (x + 0.25, 2 * x, x / 4, x**2, nd.relu(x), nd.exp(x), x.mean(), -x, x - x):
        assert y.dtype == kind
    assert (x + 0.25).asnumpy().astype("float32").tolist() == [1.75, -2, 3.25]
    x.attach_grad()
    with autograd.record():
        y = (x * x).sum()
    y.backward()
    assert x.grad.dtype == kind and x.grad.asnumpy().astype("float32").tolist() == [3, -4.5, 6]


def test_an_array_names_its_type():
    whole, half = nd.array([1, 2], dtype="int32"), nd.ones(2, dtype="float16")
    assert half.astype(whole).dtype == np.int32 and half.astype(whole, copy=False).dtype == np.int32
    assert half.astype(half, copy=False) is half and nd.cast(half, dtype=whole).dtype == np.int32
    assert nd.zeros(2, dtype=half).dtype == np.float16 == nd.array([1], dtype=half).dtype
    with pytest.raises(TypeError):
        half.astype(np.ones(2))


def test_bfloat16_without_ml_dtypes_says_what_is_missing(monkeypatch):
    from minigluon.ndarray.ndarray import named_dtype

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    named_dtype.cache_clear()
    with pytest.raises(TypeError, match="pip install ml_dtypes"):
        nd.ones(2, dtype="bfloat16")
    named_dtype.cache_clear()
