"""mx.contrib.amp: the loss scaler of MXNet 1.9.1, and training with it."""

import json
import subprocess
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


def branches():
    """Products, a normalization, sums of low and of mixed numbers, an exponential."""
    x = mx.sym.var("data")
    y = mx.sym.Convolution(x, kernel=(3, 3), num_filter=4, name="c0")
    y = mx.sym.Activation(
        mx.sym.BatchNorm(y, name="bn", fix_gamma=False), act_type="relu", name="r"
    )
    z = mx.sym.Convolution(y, kernel=(1, 1), num_filter=4, no_bias=True, name="c1")
    both = mx.sym.elemwise_add(y, z, name="both")
    grown = mx.sym.Activation(both, act_type="softrelu", name="grown")
    joined = mx.sym.Concat(grown, z, name="joined")
    return mx.sym.softmax(mx.sym.FullyConnected(joined, num_hidden=3, name="fc"), name="sm")


def wiring(text):
    """{node: (operator, its inputs)} of a graph's file."""
    nodes = json.loads(text)["nodes"]
    return {n["name"]: (n["op"], [nodes[i[0]]["name"] for i in n["inputs"]]) for n in nodes}


def arrays_for(sym, rng):
    args, _, states = sym.infer_shape(data=(2, 3, 6, 6))
    arg = {n: nd.array(rng.normal(size=s) * 0.3) for n, s in zip(sym.list_arguments(), args)}
    states = {
        n: nd.array(rng.uniform(0.5, 1.5, s)) for n, s in zip(sym.list_auxiliary_states(), states)
    }
    return arg.pop("data"), arg, states


def test_casts_stand_before_products_and_before_what_grows():
    there = wiring(amp.convert_symbol(branches()).tojson(remove_amp_cast=False))
    low = [n for n in there if n.endswith("_amp_cast_float16")]
    assert [n.removesuffix("_amp_cast_float16") for n in low] == [
        *("data", "c0_weight", "c0_bias", "c1_weight", "joined_output", "fc_weight", "fc_bias"),
    ]
    assert there["bn"][1] == ["c0", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"]
    assert there["both"][1] == ["r", "c1"]  # both are low
    assert there["grown"][1] == ["both_output_amp_cast_float32"]
    assert there["joined"][1] == ["grown", "c1_output_amp_cast_float32"]
    assert there["sm"][1] == ["fc_output_amp_cast_float32"]
    without = wiring(amp.convert_symbol(branches(), excluded_sym_names=["c1"]).tojson(False))
    assert without["c1"][1] == ["r_output_amp_cast_float32", "c1_weight"]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("offline", [False, True])
def test_a_cast_model_is_near_and_may_be_half_as_large(kind, offline):
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    sym = branches()
    data, arg, states = arrays_for(sym, np.random.default_rng(0))
    made, small, kept = amp.convert_model(sym, arg, states, kind, cast_optional_params=offline)
    low = {n for n, a in small.items() if np.dtype(a.dtype).name == kind}
    assert low == (
        {"c0_weight", "c0_bias", "c1_weight", "fc_weight", "fc_bias"} if offline else set()
    )
    assert all(np.dtype(a.dtype).name == "float32" for a in kept.values())
    assert np.dtype(arg["fc_weight"].dtype) == np.float32  # what was given stays
    exact, found = (
        s.bind(mx.cpu(), {**a, "data": data}, aux_states=t, grad_req="null").forward()[0]
        for s, a, t in ((sym, arg, states), (made, small, kept))
    )
    assert found.dtype == np.float32
    error = abs(found.asnumpy() - exact.asnumpy()).max()
    assert 0 < error < (2e-3 if kind == "float16" else 2e-2)


def test_a_parameter_that_others_read_is_not_stored_low():
    x, w = mx.sym.var("data"), mx.sym.var("w")
    sym = mx.sym.Group([mx.sym.FullyConnected(x, w, num_hidden=2, name="fc"), mx.sym.exp(w)])
    made = amp.convert_symbol(sym, data_names=["data"], cast_optional_params=True)
    kinds = {n: found.get("__dtype__") for n, found in made.attr_dict().items()}
    assert kinds["w"] == "0" and kinds["fc_bias"] == "2"


@pytest.mark.parametrize("cell", [gluon.rnn.LSTM, gluon.rnn.GRU])
def test_a_cast_block_with_states_of_its_own(cell):
    """Its first states have a size that waits for the batch, and the type of their cast."""
    net = nn.HybridSequential()
    net.add(nn.Embedding(20, 8), cell(6), nn.LayerNorm(), nn.Dense(4))
    net.initialize()
    with pytest.raises(RuntimeError, match="hybridize"):
        amp.convert_hybrid_block(net)
    net.hybridize()
    x = nd.array([[1, 2, 3], [4, 5, 6]])
    exact = net(x)
    cast = amp.convert_hybrid_block(net, cast_optional_params=True)
    np.testing.assert_allclose(cast(x).asnumpy(), exact.asnumpy(), atol=5e-3)
    params = {n: np.dtype(p.dtype) for n, p in cast.collect_params().items()}
    assert {n for n, kind in params.items() if kind == np.float16} == {
        n for n in params if n.startswith("dense")
    }  # an LSTM's are joined before the product


def test_types_that_numpy_learns_later_are_read_in_graphs():
    pytest.importorskip("ml_dtypes")
    code = """
import minigluon as mx
s = mx.sym.amp_cast(mx.sym.amp_cast(mx.sym.var("data"), dtype="bfloat16"), dtype="float32")
print(s.infer_type(data="float32")[1], s.infer_shape(data=(2, 3))[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "(2, 3)" in done.stdout, done.stderr[-1000:]


def test_lists_of_operators():
    lists = [amp.list_lp16_ops, amp.list_fp32_ops, amp.list_lp16_fp32_ops]
    low, high, others = ({*f("float16")} for f in lists)
    assert "Convolution" in low and "softmax" in high and "BatchNorm" in others
    assert not low & high and not others & (low | high)
    assert {"broadcast_add", "concat"} <= {*amp.list_widest_type_cast(np.float16)} <= others
    assert amp.list_conditional_fp32_ops("bfloat16")[0][0] == "Activation"
    sym = branches()
    named = amp.convert_symbol(sym, target_dtype_ops=["FullyConnected"], fp32_ops=["Convolution"])
    assert wiring(named.tojson(False))["c0"][1] == ["data", "c0_weight", "c0_bias"]
    for wrong, says in (
        ({"target_dtype": "int8"}, "float16 or bfloat16"),
        ({"target_dtype_ops": ["softmax"]}, "two or more lists.*softmax"),
        ({"fp32_ops": ["softmux"]}, "softmux is no operator"),
        ({"fp32_ops": "softmax"}, "list of strs"),
        ({"excluded_sym_names": "c0"}, "list of strs"),
    ):
        with pytest.raises(AssertionError, match=says):
            amp.convert_symbol(sym, **wrong)
    for call in (
        lambda: amp.convert_symbol(None),
        lambda: amp.convert_model(sym, [], {}),
        lambda: amp.convert_hybrid_block(gluon.nn.Sequential()),
    ):
        with pytest.raises(AssertionError, match="should be"):
            call()


def test_casts_stand_where_mxnet_puts_them(mxnet_python, tmp_path):
    sym = branches()
    sym.save(str(tmp_path / "sym.json"))
    code = """
import sys
import numpy as np
np.bool = bool
import mxnet as mx
from mxnet.contrib import amp
sym, folder = mx.sym.load(sys.argv[1] + "/sym.json"), sys.argv[1]
settings = [{}, {"data_names": ["data"], "cast_optional_params": True}, {"excluded_sym_names": ["c1"]}]
for i, own in enumerate(settings):
    amp.convert_symbol(sym, **own).save(f"{folder}/{i}.json", remove_amp_cast=False)
"""
    done = subprocess.run([mxnet_python, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    settings = (
        {},
        {"data_names": ["data"], "cast_optional_params": True},
        {"excluded_sym_names": ["c1"]},
    )
    for i, own in enumerate(settings):
        ours = amp.convert_symbol(sym, **own)
        there = mx.sym.load(str(tmp_path / f"{i}.json"))
        assert wiring(ours.tojson(False)) == wiring((tmp_path / f"{i}.json").read_text())
        ours, theirs = (
            {n: a["__dtype__"] for n, a in s.attr_dict().items() if "__dtype__" in a}
            for s in (ours, there)
        )
        assert ours == theirs


def test_a_bucketing_module_is_cast_key_by_key():
    def graph(key):
        x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc", flatten=False)
        x = mx.sym.FullyConnected(mx.sym.sum(x, axis=1), num_hidden=3, name="out")
        return mx.sym.SoftmaxOutput(x, name="softmax"), ["data"], ["softmax_label"]

    def ran(net, n):
        shapes = [("data", (2, n, 3))], [("softmax_label", (2,))]
        data = mx.nd.array(np.random.default_rng(0).normal(size=(2, n, 3)))
        batch = mx.io.DataBatch([data], [mx.nd.zeros(2)], 0, n, None, *shapes)
        net.forward(batch, is_train=False)
        return net.get_outputs()[0]

    net = mx.mod.BucketingModule(graph, default_bucket_key=6)
    with pytest.raises(AssertionError, match="should not be empty"):
        module.convert_bucketing_module(net)
    net.bind([("data", (2, 6, 3))], [("softmax_label", (2,))], for_training=False)
    net.init_params(mx.init.Xavier())
    for kind in "float16", "bfloat16":
        low = module.convert_bucketing_module(net, kind)
        assert type(low) is mx.mod.BucketingModule and not low.binded
        low.bind([("data", (2, 6, 3))], [("softmax_label", (2,))], for_training=False)
        for n in 6, 4:
            exact, found = ran(net, n).asnumpy(), ran(low, n)
            assert found.dtype == np.float32
            assert 0 < abs(found.asnumpy() - exact).max() < 2e-2
            inside = low.symbol.get_internals().list_outputs()
            assert sum("amp_cast" in name for name in inside) > 3
    with pytest.raises(AssertionError, match="instance of bucketing module"):
        module.convert_bucketing_module(3)
    with pytest.raises(AssertionError, match="only float16 or bfloat16"):
        module.convert_bucketing_module(net, "int8")


def test_lists_of_operators_have_mxnets_names():
    from minigluon.contrib.amp.lists import symbol_bf16, symbol_fp16

    assert amp.list_lp16_ops("float16") == symbol_fp16.FP16_FUNCS
    assert symbol_bf16.BF16_FUNCS == ["Convolution", "FullyConnected"]
    assert amp.lists.symbol_fp16.CONDITIONAL_FP32_FUNCS[0] == (
        "Activation",
        "act_type",
        ["softrelu"],
    )
    for name in ("FP16_FP32_FUNCS", "WIDEST_TYPE_CASTS", "LOSS_OUTPUT_FUNCTIONS", "FP32_FUNCS"):
        assert all(isinstance(n, str) for n in getattr(symbol_fp16, name))
    assert {*symbol_fp16.LOSS_OUTPUT_FUNCTIONS} == {
        *("SoftmaxOutput", "LinearRegressionOutput"),
        *("LogisticRegressionOutput", "MAERegressionOutput"),
    }
    with pytest.raises(AttributeError, match="FP16_FUNCS"):
        symbol_fp16.FP8_FUNCS
