"""Profiler, monitor, and what programs ask about the library they run on."""

import json
import logging
import sys
import threading

import numpy as np
import pytest

import minigluon as mx
from minigluon import engine, error, log, nd, profiler, runtime
from minigluon.contrib.tensorboard import LogMetricsCallback
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import interpreters


@pytest.fixture(autouse=True)
def fresh():
    before = interpreters[NDArray]
    yield
    profiler.set_state("stop")
    profiler.recorder.__init__()
    assert interpreters[NDArray] is before


def counts():
    rows = json.loads(profiler.dumps(format="json"))["Time"]
    return {name: row["Count"] for category in rows.values() for name, row in category.items()}


def test_calls_are_counted(tmp_path):
    x = nd.ones((2, 2))
    profiler.set_state("run")
    profiler.set_state("run")  # twice is once
    y = nd.dot(x, x) + 1
    profiler.pause()
    y = nd.dot(y, y)
    profiler.resume()
    y.exp()
    with pytest.raises(mx.MXNetError):
        nd.dot(x, nd.ones((3, 2)))
    profiler.set_state("stop")
    profiler.resume()  # after the end it begins nothing
    nd.exp(y)
    found = counts()
    assert (
        found["dot"] == 2
        and found["exp"] == 1
        and len(profiler.recorder.events) == sum(found.values())
    )
    table = profiler.dumps(reset=True)
    assert "Total Count" in table and "dot" in table and not counts()
    profiler.set_config(filename=str(tmp_path / "p.json"))
    profiler.dump()  # as in MXNet, what no table shows any more is in the trace still
    traced = json.loads((tmp_path / "p.json").read_text())["traceEvents"]
    assert sum(found.values()) == len(traced)


def test_other_threads_are_seen():
    profiler.set_state("run")
    thread = threading.Thread(target=lambda: nd.ones((2,)).exp())
    thread.start()
    thread.join()
    nd.ones((2,)).exp()
    assert len({e[4] for e in profiler.recorder.events if e[0] == "exp"}) == 2


def test_a_trace(tmp_path):
    profiler.set_config(profile_all=True, aggregate_stats=True, filename=str(tmp_path / "p.json"))
    domain = profiler.Domain("mine")
    counter = domain.new_counter("loss", 5)
    profiler.set_state("run")
    with domain.new_task("task"):
        nd.ones((2,)).exp()
    frame, event = domain.new_frame("frame"), profiler.Event("event")
    for span in (frame, event):
        span.start()
        span.stop()
        span.stop()  # what has ended ends once
    counter += 2
    counter -= 1
    domain.new_marker("now").mark()
    profiler.dump()
    trace = json.loads((tmp_path / "p.json").read_text())["traceEvents"]
    names = [e["name"] for e in trace]
    for name in ("exp", "task", "frame", "event"):
        assert names.count(name) == 1
    assert [e["args"]["loss"] for e in trace if e["ph"] == "C"] == [7, 6]
    assert counter.value == 6 and "now" in names and str(domain) == "mine" and str(frame) == "frame"
    task, exp = (next(e for e in trace if e["name"] == n) for n in ("task", "exp"))
    assert task["ts"] <= exp["ts"] and exp["ts"] + exp["dur"] <= task["ts"] + task["dur"]
    assert interpreters[NDArray] is not profiler.recorder.timed  # dump ends the recording


@pytest.mark.parametrize(
    "wrong, raises",
    [
        (lambda: profiler.set_config(nothing=1), mx.MXNetError),
        (lambda: profiler.set_state("go"), ValueError),
        (lambda: profiler.dumps(format="xml"), AssertionError),
        (lambda: profiler.dumps(sort_by="x"), AssertionError),
        (lambda: runtime.Features().is_enabled("nothing"), RuntimeError),
        (lambda: mx.libinfo.find_lib_path(), RuntimeError),
        (lambda: mx.libinfo.find_include_path(), RuntimeError),
    ],
)
def test_faults(wrong, raises):
    with pytest.raises(raises):
        wrong()


def test_a_monitor():
    y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, no_bias=True, name="fc")
    exe = mx.sym.relu(y, name="bend").simple_bind(mx.cpu(), data=(1, 2))
    exe.arg_dict["data"][:], exe.arg_dict["fc_weight"][:] = 1, nd.array([[1, 2.1], [-3, 1]])
    watch = mx.mon.Monitor(2, stat_func=lambda x: x.max(), pattern="fc|bend", sort=True)
    watch.install(exe)
    rows = []
    for _ in range(3):
        watch.tic()
        exe.forward()
        rows.append(watch.toc())
    assert rows[1] == [] and [r[0] for r in rows[2]] == [3, 3, 3]
    assert [r[1:] for r in rows[0]] == [
        ("bend_output", "3.1\t"),
        ("fc_output", "3.1\t"),
        ("fc_weight", "2.1\t"),
    ]


def test_a_monitor_of_inputs_and_the_log(caplog):
    y = mx.sym.relu(mx.sym.var("data"), name="bend")
    exe = y.simple_bind(mx.cpu(), data=(4,))
    exe.arg_dict["data"][:] = 2
    watch = mx.monitor.Monitor(1, monitor_all=True)
    watch.install(exe)
    watch.tic()
    exe.forward()
    with caplog.at_level(logging.INFO):
        watch.toc_print()
    assert [r.getMessage().rstrip() for r in caplog.records] == [
        f"Batch: {1:7d} {name:30s} 2.0" for name in ("data", "bend_input0", "bend_output", "data")
    ]
    broken = mx.monitor.Monitor(1, stat_func=lambda x: 3)
    broken.install(exe)
    broken.tic()
    exe.forward()
    with pytest.raises(AssertionError, match="NDArray"):
        broken.toc()


def test_what_it_runs_on():
    features = runtime.Features()
    assert features.is_enabled("lapack") and not features.is_enabled("MKLDNN")
    assert str(features["CUDNN"]) == "✖ CUDNN" and "✔ LAPACK" in repr(features)
    assert [f.name for f in runtime.feature_list()] == list(features)
    before = engine.set_bulk_size(3)
    with engine.bulk(7):
        assert engine.set_bulk_size(7) == 7
    assert engine.set_bulk_size(before) == 3


def test_a_log_file(tmp_path):
    path = tmp_path / "a.log"
    logger = log.get_logger("minigluon.test", str(path), level=log.INFO)
    assert log.getLogger("minigluon.test") is logger
    logger.debug("no")
    logger.info("yes %d", 3)
    for handler in logger.handlers:
        handler.close()
    line = path.read_text()
    assert (
        line.startswith("I")
        and line.endswith("] yes 3\n")
        and "test_instruments.py:test_a_log" in line
    )


def test_errors_by_name():
    @error.register
    class One(mx.MXNetError):
        pass

    @error.register("Other")
    class Two(mx.MXNetError):
        pass

    assert error.error_types["One"] is One and error.error_types["Other"] is Two
    hint = str(error.InternalError("lost"))
    assert hint.startswith("lost\n") and str(error.InternalError(hint)) == hint


def test_event_files(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    callback = LogMetricsCallback(str(tmp_path / "logs"), prefix="eval")
    metric = mx.metric.CompositeEvalMetric([mx.metric.Loss("a"), mx.metric.Loss("b")])
    metric.update(None, [nd.array([2.5])])
    callback(mx.model.BatchEndParam(7, 0, metric, None))
    callback(mx.model.BatchEndParam(8, 0, None, None))  # without a metric there is nothing to say
    callback.summary_writer.close()
    (path,) = (tmp_path / "logs").iterdir()
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + size :]
    assert found == [(7, "eval-a", 2.5), (7, "eval-b", 2.5)]


class Table:
    """As much of a pandas table as the logger uses."""

    def __init__(self):
        self.columns, self.rows, self.loc = [], [], self

    def __len__(self):
        return len(self.rows)

    def __setitem__(self, key, value):
        if isinstance(key, str):
            self.columns.append(key)
        else:
            assert key == len(self.rows) and value.keys() <= {*self.columns}
            self.rows.append(value)


def test_a_logger_of_tables(monkeypatch):
    from minigluon.notebook import callback

    monkeypatch.setitem(sys.modules, "pandas", type(mx)("pandas"))
    sys.modules["pandas"].DataFrame = Table
    logger = callback.PandasLogger(8, frequent=2)
    data = mx.io.NDArrayIter(nd.ones((32, 3)), nd.zeros(32), 8)
    graph = mx.sym.SoftmaxOutput(
        mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2), name="softmax"
    )
    mx.mod.Module(graph).fit(data, data, num_epoch=3, **callback.args_wrapper(logger))
    assert [len(t) for t in logger.all_dataframes.values()] == [6, 3, 3]
    for row in logger.train_df.rows:
        assert row["records_per_sec"] == pytest.approx(8 * row["batches_per_sec"])
    assert [row["minibatch_count"] for row in logger.train_df.rows] == [0, 2] * 3
    assert all("accuracy" in row for row in logger.eval_df.rows)


def test_missing_libraries_are_named(monkeypatch):
    from minigluon.notebook import callback

    for library in ("pandas", "bokeh", "bokeh.plotting"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match="pip install pandas"):
        callback.PandasLogger(8)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        LogMetricsCallback("never")
    with pytest.raises(ImportError, match="pip install bokeh"):
        callback.LiveLearningCurve("accuracy")


def test_monitors_hear_gradients_under_the_names_of_mxnet():
    out = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    out = mx.sym.Concat(mx.sym.Activation(out, act_type="tanh", name="bend"), out, name="both")
    exe = mx.sym.SoftmaxOutput(out, name="softmax").simple_bind(mx.cpu(), data=(4, 5))
    rng = np.random.default_rng(0)
    for name, a in exe.arg_dict.items():
        a[:] = rng.integers(0, 6, a.shape) if name == "softmax_label" else rng.normal(size=a.shape)
    exe.forward(is_train=True)
    exe.backward()
    alone = {name: g.asnumpy() for name, g in exe.grad_dict.items()}
    watch = mx.monitor.Monitor(1, stat_func=lambda x: x.abs().sum(), pattern=".*_backward_")
    watch.install(exe)
    watch.tic()
    exe.forward(is_train=True)
    exe.backward()
    found = watch.toc()
    names = [
        "softmax:0",
        "softmax:1",
        "both:0",
        "both:1",
        "bend:",
        "fc:0",
        "fc:1",
        "fc:2",
    ]  # from the last call to the first
    assert [n for _, n, _ in found] == [n.replace(":", "_backward_output") for n in names]
    for number, name in enumerate(("data", "fc_weight", "fc_bias")):
        np.testing.assert_array_equal(exe.grad_dict[name].asnumpy(), alone[name])
        told = float(found[5 + number][2].strip().strip("[]"))
        assert np.isclose(told, abs(alone[name]).sum(), rtol=1e-5)


def test_a_monitored_sparse_gradient_stays_sparse():
    weight = mx.sym.var("weight", stype="row_sparse")
    out = mx.sym.Embedding(mx.sym.var("data"), weight, input_dim=9, output_dim=2, sparse_grad=True)
    exe = mx.sym.sum(out).simple_bind(mx.cpu(), {"weight": "write"}, data=(3,))
    mx.monitor.Monitor(1).install(exe)
    exe.forward(is_train=True, data=mx.nd.array([1, 2, 2]))
    exe.backward([mx.nd.ones(1)])
    assert exe.grad_dict["weight"].stype == "row_sparse"
    assert exe.grad_dict["weight"].indices.asnumpy().tolist() == [1, 2]


def test_a_monitor_hears_of_every_input_of_a_call_in_a_batch():
    """Names and figures are MXNet 1.9.1's; where it shows memory, for gradients nobody asked for,
    here are zeros.
    """
    x = mx.sym.Variable("data")
    for k in "01":
        x = mx.sym.FullyConnected(x, num_hidden=2, name=f"fc_{k}")
        x = mx.sym.Activation(x, act_type="sigmoid", name=f"act_{k}")
    graph = mx.sym.LinearRegressionOutput(x, name="softmax", grad_scale=2)
    params = {
        "fc_0_weight": mx.nd.array([[0.15, 0.20], [0.25, 0.30]]),
        "fc_0_bias": mx.nd.array([0.35, 0.35]),
        "fc_1_weight": mx.nd.array([[0.40, 0.45], [0.50, 0.55]]),
        "fc_1_bias": mx.nd.array([0.60, 0.60]),
    }
    batches = mx.io.NDArrayIter(mx.nd.array([[0.05, 0.10]]), mx.nd.array([[0.01, 0.99]]), 1)
    module = mx.mod.Module(graph)
    module.bind(batches.provide_data, batches.provide_label)
    module.init_params(arg_params=params)
    watch = mx.monitor.Monitor(1, stat_func=lambda a: mx.nd.sum(mx.nd.abs(a)) / a.size)
    module.install_monitor(watch)
    watch.tic()
    module.forward_backward(next(batches))
    found = [(name, float(text)) for _, name, text in watch.toc()]
    assert len(found) == 21
    backward = {name: value for name, value in found if "backward" in name}
    assert backward == pytest.approx(
        {
            "softmax_backward_output0": 0.4792183,
            "softmax_backward_output1": 0,
            "act_1_backward_output": 0.0882984,
            "fc_1_backward_output0": 0.0388603,
            "fc_1_backward_output1": 0.0525444,
            "fc_1_backward_output2": 0.0882984,
            "act_0_backward_output": 0.0093628,
            "fc_0_backward_output0": 0,
            "fc_0_backward_output1": 0.0007022,
            "fc_0_backward_output2": 0.0093628,
        },
        rel=1e-4,
    )


def test_a_monitor_leaves_running_statistics_and_gradients_as_they_are():
    graph = mx.sym.MakeLoss(
        mx.sym.sum(mx.sym.BatchNorm(mx.sym.var("x"), fix_gamma=False, name="bn") ** 3)
    )
    found = []
    for watched in (False, True):
        exe = graph.simple_bind(mx.cpu(), x=(4, 3))
        exe.arg_dict["x"][:] = np.random.RandomState(0).normal(size=(4, 3))
        exe.arg_dict["bn_gamma"][:] = 2
        heard = []
        if watched:
            exe.set_monitor_callback(lambda name, a, to=heard: to.append(name))
        exe.forward(is_train=True)
        exe.backward()
        found.append({**exe.grad_dict, **exe.aux_dict})
    names = [n for n in heard if n.startswith("bn_backward")]
    assert names == [f"bn_backward_output{k}" for k in range(3)]  # no statistics among them
    for name, value in found[0].items():
        np.testing.assert_array_equal(value.asnumpy(), found[1][name].asnumpy())
