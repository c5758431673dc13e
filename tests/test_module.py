"""Modules: a graph trained without a loop of one's own."""

import logging
from collections import namedtuple

import numpy as np
import pytest

import minigluon as mx
from minigluon.io import DataBatch, NDArrayIter

X = np.random.RandomState(0).normal(size=(50, 5)).astype("float32")
Y = (X.sum(1) > 0).astype("float32")
SGD = {"learning_rate": 0.5, "momentum": 0.9}


def graph(norm=False):
    out = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=8, name="fc1")
    if norm:
        out = mx.sym.BatchNorm(out, name="bn", fix_gamma=False)
    out = mx.sym.Activation(out, act_type="relu", name="relu1")
    out = mx.sym.FullyConnected(out, num_hidden=2, name="fc2")
    return mx.sym.SoftmaxOutput(out, name="softmax")


SHAPES = {"fc1_weight": (8, 5), "fc1_bias": (8,), "fc2_weight": (2, 8), "fc2_bias": (2,)}
NUMBERS = np.random.RandomState(1)
PARAMS = {n: mx.nd.array(NUMBERS.uniform(-0.3, 0.3, s)) for n, s in SHAPES.items()}


def batches(size=10):
    return NDArrayIter(X, Y, size)


def bound(module=None, **settings):
    module = module or mx.mod.Module(graph())
    module.bind(batches().provide_data, batches().provide_label, **settings)
    return module


def fitted(module=None, **settings):
    module = module or mx.mod.Module(graph())
    settings = {"num_epoch": 3, "arg_params": PARAMS, "optimizer_params": SGD} | settings
    module.fit(batches(), **settings)
    return module


def values(module):
    return {n: a.asnumpy() for n, a in module.get_params()[0].items()}


def test_sums_of_parameters_are_those_of_mxnet():
    """Three epochs from the same start; the figures are MXNet 1.9.1's."""
    found = {n: a.sum() for n, a in values(fitted()).items()}
    wanted = {"fc1_weight": 0.8594, "fc1_bias": 1.7148, "fc2_weight": -1.3362, "fc2_bias": -0.2485}
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=2e-4), name


def test_is_the_loop_by_hand():
    executor = graph().simple_bind(mx.cpu(), data=(10, 5), softmax_label=(10,))
    executor.copy_params_from(PARAMS)
    update = mx.optimizer.get_updater(mx.optimizer.SGD(rescale_grad=0.1, **SGD))
    for _ in range(3):
        for batch in batches():
            executor.forward(True, data=batch.data[0], softmax_label=batch.label[0])
            executor.backward()
            for i, name in enumerate(SHAPES):
                update(i, executor.grad_dict[name], executor.arg_dict[name])
    for name, value in values(fitted()).items():
        assert (value == executor.arg_dict[name].asnumpy()).all(), name


def test_merged_arrays_lie_where_their_group_does():
    with mx.AttrScope(ctx_group="one"):
        a = mx.sym.var("a") * 2
    with mx.AttrScope(ctx_group="two"):
        y = a + mx.sym.var("b")
    groups = [{"one": mx.cpu(2), "two": mx.cpu(3)}, {"one": mx.cpu(4), "two": mx.cpu(5)}]
    ones = mx.nd.ones((2, 5))
    for devices, given in (([mx.cpu(0)], groups[:1]), ([mx.cpu(0), mx.cpu(1)], groups)):
        mod = mx.mod.Module(y, ["a", "b"], None, context=devices, group2ctxs=given)
        mod.bind([("a", (2, 5)), ("b", (2, 5))], inputs_need_grad=True)
        mod.init_params()
        mod.forward(mx.io.DataBatch([ones, ones]), is_train=True)
        mod.backward([ones])
        assert [g.context for g in mod.get_input_grads()] == [mx.cpu(2), mx.cpu(3)]
        assert mod.get_outputs()[0].context == mx.cpu(3)


def test_gradients_are_compressed():
    rough, two = {"type": "2bit", "threshold": 0.5}, [mx.cpu(0), mx.cpu(1)]
    module = bound(mx.mod.Module(graph(), context=two, compression_params=rough))
    module.init_params(arg_params=PARAMS)
    settings = {"learning_rate": 1.0, "rescale_grad": 1.0}
    module.init_optimizer("device", optimizer_params=settings)
    module.forward_backward(next(batches()))
    module.update()
    steps = np.concatenate([(PARAMS[n].asnumpy() - v).ravel() for n, v in values(module).items()])
    assert {*np.round(steps, 4)} <= {-1, -0.5, 0, 0.5, 1} and np.any(steps)  # three a device
    groups = {"a": two[1]}
    made = mx.mod.BucketingModule(summing, 10, compression_params=rough, group2ctxs=groups)._made(5)
    assert (made._compression_params, made._group2ctxs) == (rough, groups)


@pytest.mark.parametrize("kvstore", ["local", "device"])
def test_two_devices_train_like_one(kvstore):
    two = fitted(mx.mod.Module(graph(), context=[mx.cpu(0), mx.cpu(1)]), kvstore=kvstore)
    for name, value in values(fitted()).items():
        np.testing.assert_allclose(values(two)[name], value, rtol=1e-4, atol=1e-6)
    two.forward(next(batches()), is_train=False)
    assert two.get_outputs()[0].shape == (10, 2)
    assert [[a.shape for a in o] for o in two.get_outputs(False)] == [[(5, 2), (5, 2)]]


def test_the_log_and_the_callbacks(caplog):
    seen, epochs = [], []
    with caplog.at_level(logging.INFO):
        fitted(
            num_epoch=2,
            eval_data=batches(),
            batch_end_callback=lambda p: seen.append((p.epoch, p.nbatch)),
            epoch_end_callback=[lambda *a: epochs.append((a[0], sorted(a[2]), a[3]))],
        )
    kinds = [r.message.split("=")[0] for r in caplog.records]
    names = ["Train-accuracy", "Time cost", "Validation-accuracy"]
    assert kinds == [f"Epoch[{e}] {name}" for e in (0, 1) for name in names]
    assert seen == [(e, b) for e in (0, 1) for b in range(5)]
    assert epochs == [(e, sorted(SHAPES), {}) for e in (0, 1)]


def test_score_and_predict_leave_out_the_padding():
    module = fitted()
    assert [n for n, _ in module.score(batches(), ["acc", "ce"])] == ["accuracy", "cross-entropy"]
    whole = module.predict(batches(50)).asnumpy()
    assert whole.shape == (50, 2)
    np.testing.assert_allclose(module.predict(batches(15)).asnumpy(), whole, rtol=1e-5)
    assert module.predict(batches(), num_batch=2).shape == (20, 2)
    assert len(module.predict(batches(), merge_batches=False)) == 5
    assert isinstance(module.predict(batches(), always_output_list=True), list)
    steps = [(i, o[0].shape, b.pad) for o, i, b in module.iter_predict(batches(20))]
    assert steps == [(0, (20, 2), 0), (1, (20, 2), 0), (2, (10, 2), 10)]
    np.testing.assert_allclose(module.predict(X).asnumpy(), whole, rtol=1e-5)


def test_step_by_step():
    module = bound(inputs_need_grad=True)
    module.init_params(mx.init.One())
    module.init_optimizer()
    assert module._optimizer.rescale_grad == 0.1
    batch = next(batches())
    module.forward(batch)
    module.backward()
    assert module.get_input_grads()[0].shape == (10, 5)
    module.update()
    metric = mx.metric.Accuracy()
    module.update_metric(metric, batch.label)
    assert metric.get() == ("accuracy", 0.3)
    assert (module.binded, module.params_initialized, module.optimizer_initialized) == (True,) * 3
    assert module.output_shapes == [("softmax_output", (10, 2))]


def test_a_batch_of_another_size_binds_anew():
    module = bound()
    module.init_params(arg_params=PARAMS)
    module.forward(DataBatch([mx.nd.array(X[:4])], [mx.nd.array(Y[:4])]), is_train=False)
    assert module.get_outputs()[0].shape == (4, 2) and module.data_shapes[0].shape == (4, 5)
    module.reshape([("data", (3, 5))], [("softmax_label", (3,))])
    module.forward(DataBatch([mx.nd.array(X[:3])], None), is_train=False)
    first = module.get_outputs()[0].asnumpy()
    whole = bound()
    whole.init_params(arg_params=PARAMS)
    whole.forward(DataBatch([mx.nd.array(X[:10])], None), is_train=False)
    np.testing.assert_allclose(first, whole.get_outputs()[0].asnumpy()[:3], rtol=1e-5)


def test_running_statistics_are_trained_and_averaged():
    one = mx.mod.Module(graph(norm=True))
    two = mx.mod.Module(graph(norm=True), context=[mx.cpu(0), mx.cpu(1)])
    for module in (one, two):
        module.fit(batches(), num_epoch=2, optimizer_params=SGD)
        learnt, states = module.get_params()
        assert sorted(states) == ["bn_moving_mean", "bn_moving_var"]
        assert (states["bn_moving_var"].asnumpy() != 1).all()
    assert one.score(batches(), "acc")[0][1] > 0.8


def test_checkpoint_and_resume_bit_for_bit(tmp_path):
    prefix = str(tmp_path / "m")
    first = fitted(num_epoch=1)
    first.save_checkpoint(prefix, 1, save_optimizer_states=True)
    names = ["m-0001.params", "m-0001.states", "m-symbol.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    resumed = mx.mod.Module.load(prefix, 1, True)
    with pytest.warns(UserWarning, match="already initialized"):
        resumed.fit(batches(), begin_epoch=1, num_epoch=3, optimizer_params=SGD)
    whole, parts = values(fitted()), values(resumed)
    assert all((whole[n] == parts[n]).all() for n in whole)


def test_parameters_in_a_file(tmp_path):
    path, module = str(tmp_path / "p"), fitted(num_epoch=1)
    module.save_params(path)
    assert sorted(mx.nd.load(path)) == [f"arg:{n}" for n in sorted(SHAPES)]
    other = bound()
    other.load_params(path)
    assert all((values(module)[n] == values(other)[n]).all() for n in SHAPES)
    mx.nd.save(path, {"fc1_weight": mx.nd.ones((8, 5))})
    with pytest.raises(ValueError, match="neither arg: nor aux:"):
        other.load_params(path)


def test_fixed_parameters_stay():
    module = fitted(mx.mod.Module(graph(), fixed_param_names=["fc1_weight"]))
    assert (values(module)["fc1_weight"] == PARAMS["fc1_weight"].asnumpy()).all()
    assert (values(module)["fc2_weight"] != PARAMS["fc2_weight"].asnumpy()).any()


def summing(length):
    total = mx.sym.sum(mx.sym.Variable("data"), axis=1, keepdims=True)
    out = mx.sym.FullyConnected(total, num_hidden=2, name="fc")
    return mx.sym.SoftmaxOutput(out, name="softmax"), ("data",), ("softmax_label",)


def bucket(k):
    label = [mx.nd.array([0, 1, 1, 1])]
    shapes = [("data", (4, k))], [("softmax_label", (4,))]
    return DataBatch([mx.nd.ones((4, k))], label, 0, None, k, *shapes)


def test_buckets_share_parameters():
    """The weights after each step are MXNet 1.9.1's."""
    module = mx.mod.BucketingModule(summing, default_bucket_key=10)
    module.bind([("data", (4, 10))], [("softmax_label", (4,))])
    module.init_params(mx.init.One())
    module.init_optimizer(optimizer_params={"learning_rate": 1.0})
    for k, wanted in ((10, [-1.5, 3.5]), (5, [-0.25, 2.25]), (10, [2.25, -0.25]), (7, [-3, 5])):
        module.forward_backward(bucket(k))
        module.update()
        np.testing.assert_allclose(values(module)["fc_weight"].ravel(), wanted, rtol=1e-5)
        assert module.data_shapes[0].shape == (4, k)
    assert sorted(module._buckets) == [5, 7, 10]


def test_buckets_in_files(tmp_path):
    module = mx.mod.BucketingModule(summing, default_bucket_key=10)
    module.bind([("data", (4, 10))], [("softmax_label", (4,))])
    module.init_params(mx.init.One())
    module.forward(bucket(5), is_train=False)
    module.save_checkpoint(str(tmp_path / "b"), 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "b-0003.params",
        "b-10-symbol.json",
        "b-5-symbol.json",
        "b.buckets",
    ]
    keys = mx.nd.load(str(tmp_path / "b.buckets"))[0]
    assert (keys.asnumpy().tolist(), keys.dtype) == ([10, 5], np.int32)
    again = mx.mod.BucketingModule.load(str(tmp_path / "b"), 3, summing, default_bucket_key=10)
    again.bind([("data", (4, 10))], [("softmax_label", (4,))])
    assert (values(again)["fc_weight"] == 1).all()


def test_a_shared_module_lends_its_optimizer():
    first = fitted()
    second = mx.mod.Module(graph())
    second.bind([("data", (4, 5))], [("softmax_label", (4,))], shared_module=first)
    before = values(first)["fc1_weight"].copy()
    second.forward_backward(DataBatch([mx.nd.array(X[:4])], [mx.nd.array(Y[:4])]))
    second.update()  # with the momentum of the first one
    after = values(first)["fc1_weight"]
    assert not np.allclose(before, after) and np.array_equal(after, values(second)["fc1_weight"])


def unbound():
    return mx.mod.Module(graph())


FAULTS = {
    "unbound": (AssertionError, "call bind", lambda: unbound().init_params()),
    "no epochs": (AssertionError, "number of epochs", lambda: unbound().fit(batches())),
    "not ready": (AssertionError, "init_params", lambda: bound().forward(next(batches()))),
    "no optimizer": (AssertionError, "init_optimizer", lambda: bound().update()),
    "data": (ValueError, "no argument 'x'", lambda: mx.mod.Module(graph(), data_names=["x"])),
    "missing": (
        RuntimeError,
        "fc1_bias is not presented",
        lambda: bound().init_params(arg_params={"fc1_weight": mx.nd.ones((8, 5))}),
    ),
    "described": (
        ValueError,
        "data_names are",
        lambda: unbound().bind([("x", (10, 5))], [("softmax_label", (10,))]),
    ),
    "sizes": (
        AssertionError,
        "same batch size",
        lambda: unbound().bind([("data", (10, 5))], [("softmax_label", (9,))]),
    ),
    "few": (
        ValueError,
        "a batch of 1 for 2 devices",
        lambda: mx.mod.Module(graph(), context=[mx.cpu(0), mx.cpu(1)]).bind(
            [("data", (1, 5))], [("softmax_label", (1,))]
        ),
    ),
    "wide": (
        mx.MXNetError,
        r"fc1_weight has shape \(8, 5\), \(8, 6\) here",
        lambda: fitted().forward(DataBatch([mx.nd.zeros((10, 6))], None), is_train=False),
    ),
    "for use": (
        AssertionError,
        "for_training=True",
        lambda: bound(for_training=False).backward(),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refuses(name):
    kind, says, call = FAULTS[name]
    with pytest.raises(kind, match=says):
        call()


def test_missing_labels_are_said_aloud():
    with pytest.warns(UserWarning, match="no argument 'y'"):
        mx.mod.Module(graph(), label_names=["y"])
    with pytest.warns(UserWarning, match="rescale_grad=1.0"):
        module = bound()
        module.init_params()
        module.init_optimizer(optimizer=mx.optimizer.SGD())


def test_nothing_is_written_if_a_parameter_is_missing():
    module = bound()
    module.init_params(arg_params=PARAMS)
    with pytest.raises(RuntimeError, match="fc2_bias"):
        module.set_params({n: a + 1 for n, a in PARAMS.items() if n != "fc2_bias"}, {})
    assert (values(module)["fc1_weight"] == PARAMS["fc1_weight"].asnumpy()).all()


def test_a_batch_may_have_data_alone():
    batch = namedtuple("Batch", ["data"])
    out = mx.sym.SoftmaxOutput(
        mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2), name="softmax"
    )
    module = mx.mod.Module(out, label_names=None)
    module.bind([("data", (1, 3))], for_training=False)
    learnt = {"fullyconnected0_weight": mx.nd.ones((2, 3)), "fullyconnected0_bias": mx.nd.zeros(2)}
    names = [n for n in out.list_arguments() if n.startswith("fully")]
    module.set_params(dict(zip(names, learnt.values())), {}, allow_missing=True)
    module.forward(batch([mx.nd.ones((1, 3))]))
    assert module.get_outputs()[0].asnumpy().tolist() == [[0.5, 0.5]]


def test_an_executor_group_is_a_face_of_a_module():
    from minigluon.module.executor_group import DataParallelExecutorGroup

    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    symbol = mx.sym.SoftmaxOutput(x, name="softmax")
    names, shape = ["fc_weight", "fc_bias"], (10, 6)
    contexts = [mx.cpu(0), mx.cpu(1)]

    def group(shared):
        labels = [("softmax_label", (10,))]
        return DataParallelExecutorGroup(
            symbol, contexts, [1, 1], [("data", shape)], labels, names, True, False, shared
        )

    one = group(None)
    two = group(one)
    assert [sorted(d) for d in one.shared_data_arrays] == [["data", "softmax_label"]] * 2
    assert two.shared_data_arrays is one.shared_data_arrays
    for a, b in zip(one.execs, two.execs):
        for name in names:
            assert np.shares_memory(a.arg_dict[name]._data, b.arg_dict[name]._data)
            assert np.shares_memory(a.grad_dict[name]._data, b.grad_dict[name]._data)
    one.set_params({"fc_weight": mx.nd.ones((3, 6)), "fc_bias": mx.nd.zeros((3,))}, {})
    batch = mx.io.DataBatch([mx.nd.ones(shape)], [mx.nd.ones((10,))])
    one.forward(batch, is_train=True)
    one.backward()
    assert np.allclose(one.get_outputs()[0].asnumpy(), 1 / 3)
    assert np.allclose(sum(g.asnumpy() for g in one.grad_arrays[1]), [10 / 3, -20 / 3, 10 / 3])
    assert [a.shape for a in one.param_arrays[0]] == [(3, 6)] * 2
    found = {}
    one.get_params(found, {})
    assert sorted(found) == sorted(names)


def test_a_module_with_groups_of_devices():
    with mx.AttrScope(ctx_group="a"):
        y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    for groups in ({"a": [mx.cpu(1)]}, {"a": mx.cpu(1)}, [{"a": mx.cpu(1)}]):
        module = mx.mod.Module(y, label_names=None, group2ctxs=groups)
        module.bind([("data", (2, 3))])
        module.init_params()
        module.forward(mx.io.DataBatch([mx.nd.ones((2, 3))]))
        assert module._exec_group.execs[0].arg_dict["fc_weight"].context == mx.cpu(1)
        assert module.get_outputs()[0].context == mx.cpu(1)


def test_batches_are_cut_by_work():
    from minigluon.executor_manager import _check_arguments, _split_input_slice

    cuts = lambda *given: [(s.start, s.stop) for s in _split_input_slice(*given)]
    assert cuts(10, [1, 1, 2]) == [(0, 2), (2, 4), (4, 10)]  # as MXNet rounds
    assert cuts(7, [1, 2, 4]) == [(0, 1), (1, 3), (3, 7)]
    assert cuts(100, [0.3, 0.7]) == [(0, 30), (30, 100)]
    with pytest.raises(ValueError, match="Too many slices"):
        _split_input_slice(1, [1, 1])
    a = mx.sym.var("a")
    _check_arguments(a + 1)
    with pytest.raises(ValueError, match="duplicated argument name 'a'"):
        _check_arguments(a + mx.sym.var("a"))


def test_on_several_devices_the_store_takes_the_steps(tmp_path):
    """As in MXNet: its states are written and read with the module's,
    and parameters set later reach it.
    """

    def pair():
        module = bound(mx.mod.Module(graph(), context=[mx.cpu(0), mx.cpu(1)]))
        module.init_params(arg_params=PARAMS)
        module.init_optimizer(optimizer_params=SGD)
        return module

    first = pair()
    assert first._updater is None
    first.forward_backward(next(batches()))
    first.update()
    first.save_optimizer_states(str(tmp_path / "states"))
    second = pair()
    second.load_optimizer_states(str(tmp_path / "states"))
    kept, read = (m._kvstore._updater.states for m in (first, second))
    assert kept.keys() == read.keys() == {0, 1, 2, 3}
    for key in kept:
        np.testing.assert_array_equal(kept[key].asnumpy(), read[key].asnumpy())
    second.set_params(*first.get_params())
    for module in (first, second):
        module.forward_backward(next(batches()))
        module.update()
    for name, value in values(first).items():
        np.testing.assert_array_equal(value, values(second)[name])
        for executor in second._execs:
            np.testing.assert_array_equal(value, executor.arg_dict[name].asnumpy())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "ftrl"])
@pytest.mark.parametrize("devices", [1, 2])
def test_row_sparse_weights_train_alike_with_a_store_and_without(optimizer, devices):
    rng = np.random.default_rng(0)
    x = rng.random((16, 30)).astype("float32") * (rng.random((16, 30)) < 0.2)
    rows = mx.nd.array(x).tostype("csr")
    data = mx.io.NDArrayIter(rows, x[:, 0] > 0, 8, last_batch_handle="discard")
    weight = mx.sym.Variable("weight", shape=(30, 2), stype="row_sparse")
    out = mx.sym.sparse.dot(mx.sym.Variable("data", stype="csr"), weight)
    out = mx.sym.SoftmaxOutput(out, name="softmax")
    first = {"weight": mx.nd.array(rng.random((30, 2))).tostype("row_sparse")}
    found = []
    for store in ("local", None):
        mod = mx.mod.Module(out, context=[mx.cpu(i) for i in range(devices)])
        mod.bind(data.provide_data, data.provide_label)
        mod.init_params(arg_params=first)
        mod.init_optimizer(store, optimizer, {"learning_rate": 0.5})
        for _ in range(3):
            data.reset()
            for batch in data:
                mod.prepare(batch, lambda b: {"weight": b.data[0].indices})
                mod.forward_backward(batch)
                mod.update()
        learnt = mod.get_params()[0]["weight"]
        assert learnt.stype == "row_sparse" and mod._exec_group.grad_arrays[0][0].stype != "default"
        found.append(learnt.asnumpy())
        if devices == 2:  # without a store each device would go its own way
            break
    assert abs(found[0] - first["weight"].asnumpy()).max() > 0.1
    np.testing.assert_allclose(found[0], found[-1], rtol=1e-5)


APART = {"fc1_weight": -0.5991, "fc1_bias": 0.2838, "fc2_weight": -1.3362, "fc2_bias": -0.2485}


def test_devices_without_a_store_learn_apart_and_are_averaged():
    """As in MXNet, whose sums of the parameters after two batches these are."""
    module = bound(mx.mod.Module(graph(), context=[mx.cpu(0), mx.cpu(1)]))
    module.init_params(arg_params=PARAMS)
    module.init_optimizer(kvstore=None, optimizer_params=SGD)
    for batch in list(batches())[:2]:
        module.forward_backward(batch)
        module.update()
    for name, value in values(module).items():
        own = [e.arg_dict[name].asnumpy() for e in module._execs]
        np.testing.assert_allclose(value, (own[0] + own[1]) / 2, rtol=1e-6)
    assert not np.array_equal(*[e.arg_dict["fc1_weight"].asnumpy() for e in module._execs])
    sums = {name: round(float(value.sum()), 4) for name, value in values(module).items()}
    assert sums == pytest.approx(APART, abs=2e-4)


def test_outputs_need_a_bound_module():
    with pytest.raises(AssertionError, match="bind"):
        mx.mod.Module(graph()).get_outputs()


def test_a_device_takes_its_steps_together(monkeypatch):
    calls, x = [], mx.sym.var("data")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(x, num_hidden=3, name="fc"), name="softmax")
    module = mx.mod.Module(net, context=[mx.cpu(0), mx.cpu(1)])
    module.bind([("data", (4, 5))], [("softmax_label", (4,))])
    module.init_params()
    module.init_optimizer(kvstore=None)
    updater = module._updater
    monkeypatch.setattr(module, "_updater", lambda i, g, w: (calls.append(i), updater(i, g, w)))
    module.forward_backward(mx.io.DataBatch([mx.nd.ones((4, 5))], [mx.nd.array([0, 1, 2, 0])]))
    module.update()
    assert calls == [[0, 2], [1, 3]]
