"""mx.gpu(0) without a GPU: the stand-in refuses what CuPy refuses, and errors say what is missing."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import minigluon as mx
from minigluon import context, gpu_on_cpu
from minigluon.context import OutOfMemory, gpu_memory_info, num_gpus
from minigluon.cuda_on_cpu import KernelError, available
from minigluon.gluon.data import pinned
from minigluon.op import operators
from minigluon.ops.indexing import add_at
from tests.cases import ROWS
from tests.standins import wrap


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that is made of NumPy."""
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    monkeypatch.setattr(gpu_on_cpu.cuda, "is_available", lambda: True)
    return mx.gpu(0)


X = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)

REFUSED = {  # what a GPU's array does not do, and what it says
    "implicit conversion": (lambda x: np.ascontiguousarray(x), "Implicit conversion"),
    "a list of numbers": (lambda x: np.array(x), "Implicit conversion"),
    "strides": (lambda x: np.lib.stride_tricks.as_strided(x, (1,), (4,)), "Implicit conversion"),
    "arrays in two memories": (lambda x: x + X, "Unsupported type"),
    "two memories in a function": (lambda x: np.concatenate([x, X]), "Unsupported type"),
    "two memories in a method": (lambda x: x.dot(X.T), "Unsupported type"),
    "two memories in an assignment": (lambda x: x.__setitem__(0, X[0]), "Unsupported type"),
    "a function that CuPy lacks": (lambda x: np.insert(x, 0, 1), "no insert"),
    "a setting that CuPy lacks": (lambda x: np.take(x, 0, mode="clip"), "mode"),
    "places in a tuple": (lambda x: np.add.at(x, (slice(None), [0, 1]), 1), "NotImplemented"),
    "a sort of bfloat16": (lambda x: np.sort(brief(x)), "bfloat16"),
    "a choice of bfloat16": (lambda x: np.where(x > 0, brief(x), 0), "bfloat16"),
    "a running sum of bfloat16": (lambda x: brief(x).cumsum(), "bfloat16"),
    "stacks of bfloat16": (lambda x: brief(x)[None] @ brief(x.T)[None], "bfloat16"),
}


def brief(x):
    """`x` in bfloat16."""
    return x.astype(pytest.importorskip("ml_dtypes").bfloat16)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, says = REFUSED[case]
    with pytest.raises(TypeError, match=says):
        call(gpu_on_cpu.asarray(X))


def test_what_is_allowed():
    x = gpu_on_cpu.asarray(X)
    for call in (
        lambda x: np.maximum(x, 0) @ x.T * np.float32(2),
        lambda x: np.concatenate([x, x]).sum(axis=1, keepdims=True) / 3,
        lambda x: x[np.array([0, 0])],
        lambda x: np.asarray(X, like=x) + x,
        lambda x: np.add.accumulate(x, axis=1),
    ):
        found = call(x)
        assert isinstance(found, gpu_on_cpu.ndarray)
        np.testing.assert_array_equal(found.get(), call(X))
    assert not hasattr(x, "ctypes") and x.data.ptr == x.x.ctypes.data
    assert x.base is None and (base := x[1:].reshape(-1).base).x is x.x and type(base) is type(x)
    for refused in (np.maximum.accumulate, np.maximum.reduce):
        with pytest.raises(NotImplementedError):
            refused(x)


BRIEFLY = """BilinearSampler SequenceMask argsort batch_dot box_encode cumsum gather gather_nd im2col col2im modulo
scatter scatter_like sort take topk triangle where conv_data Convolution interleaved_matmul_selfatt_qk untake"""
ASKED = [r for r in ROWS if r.op.removeprefix("contrib_") in BRIEFLY.split()]


@pytest.mark.parametrize("row", ASKED, ids=[r.id for r in ASKED])
def test_what_cupy_lacks_in_bfloat16_is_done_otherwise(row, gpu):
    dtype = pytest.importorskip("ml_dtypes", reason="no ml_dtypes: no bfloat16").bfloat16
    arrays = [a.astype(dtype) if getattr(a, "dtype", None) == "float64" else a for a in row.arrays]
    op = operators[row.op]
    want, got = op(*arrays, **row.settings), op(*map(wrap, arrays), **row.settings)
    for w, g in zip(*[v if isinstance(v, tuple | list) else [v] for v in (want, got)]):
        assert isinstance(g, gpu_on_cpu.ndarray) and g.shape == w.shape
        assert g.dtype == w.dtype or {g.dtype.name, w.dtype.name} == {"bfloat16", "float32"}
        np.testing.assert_allclose(*[v.astype("float32") for v in (g.get(), w)], 3e-2, 3e-2)


@pytest.mark.parametrize("rows", [64, 512])
def test_a_hybridized_network_on_a_gpu_is_that_on_a_core(rows, gpu):
    """Loops and blocks are for NumPy's arrays, and a program knows it only when it runs."""
    x = np.random.default_rng(0).standard_normal((rows, 784)).astype("float32")
    label = np.arange(rows) % 10
    found = []
    for ctx in (mx.cpu(), gpu):
        net, loss = mx.gluon.nn.HybridSequential(), mx.gluon.loss.SoftmaxCELoss()
        for units, kind in ((256, "relu"), (128, "relu"), (10, None)):
            net.add(mx.gluon.nn.Dense(units, activation=kind))
        mx.random.seed(1)
        net.initialize(mx.init.Constant(0.01), ctx=ctx)
        net.hybridize(), loss.hybridize()
        with mx.autograd.record():
            out = loss(net(mx.nd.array(x, ctx=ctx)), mx.nd.array(label, ctx=ctx))
        out.backward()
        grads = [p.grad(ctx).asnumpy() for p in net.collect_params().values()]
        found.append([out.asnumpy(), *grads])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_places_that_cupy_would_not_count():
    for key in ((1, [0, 2, 0]), ([True, False], slice(1, None)), (..., np.array([2, 2]))):
        for dtype in ("float32", "int8", "bool"):
            want = np.zeros((2, 3), dtype)
            np.add.at(want, key, np.ones(1, dtype))
            got = wrap(np.zeros((2, 3), dtype))
            add_at(got, key, wrap(np.ones(1, dtype)))
            np.testing.assert_array_equal(got.get(), want)


def test_arrays_go_there_and_back(gpu):
    x = mx.nd.array(X, ctx=gpu)
    assert x.context == gpu and isinstance(x._data, gpu_on_cpu.ndarray)
    y = (x * 2).as_in_context(mx.cpu())
    assert y.context == mx.cpu() and isinstance(y._data, np.ndarray)
    np.testing.assert_array_equal(y.asnumpy(), 2 * X)
    here = mx.nd.array(X)
    for call in (
        lambda: x + here,
        lambda: mx.nd.dot(x, here, transpose_b=True),
        lambda: mx.nd.concat(x, here, dim=0),
        lambda: mx.nd.FullyConnected(x, weight=here, num_hidden=2, no_bias=True),
    ):
        with pytest.raises(
            mx.MXNetError, match="number 1 on a GPU, number 2 on the CPU.*as_in_context"
        ):
            call()
    assert num_gpus() == 1 and gpu_memory_info(0) == (1 << 30, 1 << 30)
    assert mx.util.get_gpu_count() == 1 and mx.util.get_gpu_memory(0) == (1 << 30, 1 << 30)


def test_out_of_memory_tries_once_more_and_tells(gpu, monkeypatch):
    mx.nd.zeros(1, ctx=gpu)
    pool, before = gpu_on_cpu.pool, gpu_on_cpu.pool.freed
    monkeypatch.setattr(pool, "limit", 64)
    with pytest.raises(OutOfMemory, match="4096 bytes asked for, 64 of"):
        mx.nd.zeros(1024, ctx=gpu)
    assert pool.freed == before + 1
    assert issubclass(OutOfMemory, mx.MXNetError) and issubclass(OutOfMemory, MemoryError)
    monkeypatch.setattr(pool, "free_all_blocks", lambda: setattr(pool, "limit", None))
    assert mx.nd.zeros(1024, ctx=gpu).shape == (1024,)  # the second try succeeds
    freed = []
    monkeypatch.setattr(pool, "free_all_blocks", lambda: freed.append(1))
    gpu.empty_cache()
    mx.cpu().empty_cache()
    assert freed == [1]


def test_arrays_made_of_nothing_are_made_there(gpu, monkeypatch):
    monkeypatch.setattr(gpu_on_cpu.pool, "limit", 1 << 20)
    faces = mx.nd.zeros, mx.nd.ones, mx.nd.empty, mx.np.zeros, mx.np.ones, mx.np.empty
    for make in (*faces, lambda shape, ctx: mx.nd.full(shape, 3, ctx=ctx)):
        with pytest.raises(OutOfMemory, match="35184372088832 bytes asked for"):
            make((1 << 43,), ctx=gpu)  # nor would RAM hold it
    with gpu:
        for dtype in ("float32", "float16", "int8", "bool"):
            found = [mx.nd.zeros((2, 3), dtype=dtype), mx.nd.ones(2, dtype=dtype), mx.np.ones(2)]
            found += [mx.nd.full((2,), 1, dtype=dtype), mx.nd.full(2, [1, 1], dtype=dtype)]
            assert {a.context for a in found} == {gpu}
            assert not found[0].asnumpy().any() and all(a.asnumpy().all() for a in found[1:])
        out = mx.nd.array([1.0, 2.0], ctx=mx.cpu())
        mx.nd.zeros(2, out=out)
    assert out.context == mx.cpu() and out.asnumpy().tolist() == [0, 0]


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setenv("MINIGLUON_CUPY", "no_such_module")
    assert num_gpus() == 0
    with pytest.raises(mx.MXNetError, match=r"pip install 'minigluon\[cuda13\]'"):
        mx.nd.zeros(1, ctx=mx.gpu(0))
    with pytest.raises(mx.MXNetError, match="not available"):
        gpu_memory_info(0)
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    monkeypatch.setattr(gpu_on_cpu.cuda, "is_available", lambda: False)
    with pytest.raises(mx.MXNetError, match="no NVIDIA GPU"):
        mx.nd.zeros(1, ctx=mx.gpu(0))
    monkeypatch.setattr(gpu_on_cpu.cuda, "is_available", lambda: True)
    with pytest.raises(mx.MXNetError, match=r"gpu\(3\) is not available. 1 GPUs found"):
        mx.nd.zeros(1, ctx=mx.gpu(3))
    assert context.cupy_or_none() is gpu_on_cpu


@pytest.mark.slow
def test_the_tests_for_hardware_pass_on_the_stand_in(monkeypatch):
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "addopts=",
        "-m",
        "gpu",
        "tests/test_gpu.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-2000:]


@pytest.mark.slow
def test_the_benchmark_for_hardware_runs_on_the_stand_in(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "no hardware" in found["device"]
    names = [row["path"] for row in found["paths"]]
    missing = [p for p in PATHS.split("; ") if not any(n.startswith(p) for n in names)]
    assert missing == [] and len({*names}) == len(names)
    assert all({"us", "floor_us", "reached", "pytorch_us"} <= {*row} for row in found["paths"])
    # steps call by call and as graphs launch kernels, too; cuBLAS is the one path without
    assert [row["path"] for row in found["paths"] if not row["kernels"]] == ["product, cuBLAS fp16"]


@pytest.mark.slow
def test_the_session_for_hardware_runs_on_the_stand_in(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    command = [sys.executable, "benchmarks/gpu_session.py", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--seconds", "280"], capture_output=True, text=True)
    found = json.loads((tmp_path / "session.json").read_text())
    assert done.returncode == 0
    assert list(found) == ["card", "compile", "kernels", "benchmark", "tests"]
    assert found["compile"]["wrong"] == found["kernels"]["wrong"] == found["tests"]["wrong"] == []
    assert found["kernels"]["counts"]["passed"] == 8 and found["benchmark"]["rows"] > 40
    assert not any(row["error"] for row in found["benchmark"]["table"])


def test_a_test_that_ends_its_process_is_told_and_the_next_runs(tmp_path):
    from benchmarks import gpu_session

    path = tmp_path / "kernels.jsonl"
    recorder = gpu_session.Recorder(path, 0, 1, None)
    recorder.pytest_runtest_logstart("a")
    assert gpu_session.results(path)["a"]["is_"] == "began"
    items = [SimpleNamespace(nodeid=name) for name in "abc"]
    recorder.pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["b", "c"]
    recorder.write(test="a", is_="died", why="its process ended")
    with path.open("a") as file:
        file.write('{"shard": 3, "te')  # of a process that is just writing
    found = gpu_session.summary(gpu_session.results(path).values())
    assert found == {"counts": {"died": 1}, "wrong": ["a: its process ended"]}


def test_thousands_of_tests_come_last_and_large_ones_one_by_one(tmp_path):
    from benchmarks import gpu_session

    large = [f"t::{gpu_session.LARGE}[{i}]" for i in range(4)]
    names = [
        "t::test_operator[a]",
        "t::test_memory",
        *large,
        "t::test_operator[b]",
        "t::test_layer",
    ]
    shares = []
    for shard in range(3):
        items = [SimpleNamespace(nodeid=name) for name in names]
        recorder = gpu_session.Recorder(tmp_path / "x", shard, 3, None)
        recorder.pytest_collection_modifyitems(items)
        shares.append([item.nodeid for item in items])
    assert sorted(sum(shares, [])) == sorted(names)
    assert [name for name in shares[0] if name in large] == large
    for share in shares:
        assert share == sorted(share, key=lambda name: "operator" in name)


def test_a_session_ends_what_does_not_end(tmp_path, capsys):
    from benchmarks import gpu_session

    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    assert not gpu_session.ended(sleeper, 0.2) and sleeper.returncode not in (None, 0)
    assert gpu_session.ended(subprocess.Popen([sys.executable, "-c", ""]), 100)
    row = {"path": "softmax", "us": 12.3456, "reached": None, "against_pytorch": 1.5, "error": None}
    gpu_session.last_words(
        {
            "tests": {"counts": {"failed": 1}, "wrong": ["why"]},
            "benchmark": {"table": [row]},
            "x": "no",
        }
    )
    said = capsys.readouterr().out
    assert "12.35 None 1.5" in said and "wrong: why" in said and "{'said': 'no'}" in said


def test_a_row_that_fails_or_ends_the_benchmark_is_told(gpu, tmp_path):
    from benchmarks import gpu as table

    def broken(tiny):
        yield table.Row("bad", lambda: 1 / 0)
        yield table.Row("good", lambda: None)
        raise ValueError("no more")

    out = tmp_path / "gpu.json"
    found = {"copy_bandwidth": 1.0, "peak": 1.0, "paths": [], "measuring": "lost"}
    table.give_up_on(found)
    for path in table.paths(True, found, out, [broken]):
        table.tried(path, found, out)
    rows = {row["path"]: row.get("error") for row in json.loads(out.read_text())["paths"]}
    assert rows["lost"] == "the process ended in it" and rows["good"] is None
    assert "ZeroDivisionError" in rows["bad"] and rows["broken"] == "ValueError: no more"


class Torch:
    """What the benchmark calls of PyTorch for times; its `cuda.Device` is the name of a type, not a class."""

    def __init__(self):
        self.waits = 0
        event = lambda enable_timing: SimpleNamespace(
            record=lambda: None, synchronize=lambda: None, elapsed_time=lambda other: 3.0
        )
        self.cuda = SimpleNamespace(Device=str | None, Event=event, synchronize=self.wait)

    def wait(self):
        self.waits += 1


def test_pytorch_is_measured_and_may_fail(gpu, monkeypatch, tmp_path):
    from benchmarks import gpu as table

    pytorch = Torch()
    monkeypatch.setattr(table, "torch", pytorch)
    calls = []
    took = table.seconds(lambda: calls.append(1), pytorch)
    assert took == 3e-3 / ((len(calls) - 2) / 5) and pytorch.waits == 2

    def group(tiny):
        yield table.Row("theirs fails", lambda: None, lambda: 1 / 0)
        assert not table.torch, "not with this PyTorch"
        yield table.Row("ours alone", lambda: None)

    out, found = tmp_path / "gpu.json", {"copy_bandwidth": 1.0, "peak": 1.0, "paths": []}
    for path in table.paths(True, found, out, [group]):
        table.tried(path, found, out)
    rows = {row["path"]: row for row in json.loads(out.read_text())["paths"]}
    assert rows["theirs fails"]["us"] and "ZeroDivision" in rows["theirs fails"]["pytorch_error"]
    assert rows["ours alone"]["us"] and "not with this PyTorch" in rows["group"]["error"]
    assert table.torch is pytorch


@pytest.mark.skipif(not available(), reason="no g++: kernels cannot run on the CPU")
def test_the_benchmark_names_the_kernels_of_a_row(gpu):
    from benchmarks import gpu as table

    row = next(row for row in table.rows(True) if row.name == "softmax")
    assert table.launched(row.ours) == ["softmax<__half, 8, false>"]
    assert table.launched(lambda: None) == []


def test_without_a_gpu_the_benchmark_says_so(monkeypatch):
    monkeypatch.setenv("MINIGLUON_CUPY", "no_such_module")
    done = subprocess.run([sys.executable, "benchmarks/gpu.py"], capture_output=True, text=True)
    assert done.returncode and "not yet measured on hardware" in done.stderr


PATHS = """fused chain; softmax; softmax backward; log-softmax; log-softmax backward; cross-entropy; \
cross-entropy backward; layer norm; layer norm backward; group norm; instance norm; batch norm; \
batch norm backward; LSTM; GRU; embedding gradient; embedding gradient, rows; SGD with momentum; Adam; \
dropout; pooling; pooling backward; convolution NHWC float16; convolution NCHW float32; CTC; top 5; \
product, naive; product, tiled; product, blocked; product, tensor; step of an MLP; step of ResNet-18; \
step of a word model"""


def lane_of(monkeypatch):
    """The lane of the stand-in, a new one."""
    monkeypatch.setattr(pinned, "lanes", {})
    mx.nd.arange(1, ctx=mx.cpu_pinned()).as_in_context(mx.gpu(0))
    return next(iter(pinned.lanes.values()))


def test_page_locked_memory_travels_beside_the_work(gpu, monkeypatch):
    lane = lane_of(monkeypatch)
    x = mx.nd.array(X, ctx=mx.cpu_pinned())
    assert context.is_page_locked(x._data) and x.context == mx.cpu_pinned()
    assert not context.is_page_locked(mx.nd.array(X)._data) and not context.is_page_locked(
        X[:, ::2]
    )
    y = x.as_in_context(gpu)
    assert y.context == gpu and lane.stream.queue  # not there yet, and nobody has waited
    np.testing.assert_array_equal((y * 2).asnumpy(), 2 * X)
    assert not lane.stream.queue
    np.testing.assert_array_equal(x[1].as_in_context(gpu).asnumpy(), X[1])
    for empty in ((0,), (2, 0)):
        assert mx.nd.array(np.zeros(empty), ctx=mx.cpu_pinned()).as_in_context(gpu).shape == empty


def test_what_is_still_to_be_fetched_is_not_overwritten(gpu, monkeypatch):
    lane_of(monkeypatch)

    def sent():
        x = mx.nd.array(X, ctx=mx.cpu_pinned())
        y = x.as_in_context(gpu)
        x[:] = 0
        return y.asnumpy()

    np.testing.assert_array_equal(sent(), X)
    monkeypatch.setattr(context, "busy", [])
    monkeypatch.setattr(mx.autograd, "busy", [])
    np.testing.assert_array_equal(sent(), 0 * X)  # the fault that this is about


def test_work_that_does_not_wait_finds_old_numbers(gpu, monkeypatch):
    lane_of(monkeypatch)
    monkeypatch.setattr(gpu_on_cpu.Stream, "wait_event", lambda self, event: None)
    y = mx.nd.array(X, ctx=mx.cpu_pinned()).as_in_context(gpu)
    assert not np.array_equal(y.asnumpy(), X)


def test_two_pieces_of_memory_go_back_and_forth(gpu, monkeypatch):
    lane = lane_of(monkeypatch)
    places, waited, wait = [], [], gpu_on_cpu.Stream.wait_event

    def noted(self, event):
        waited.append((self, event))
        wait(self, event)

    monkeypatch.setattr(gpu_on_cpu.Stream, "wait_event", noted)
    data = np.arange(40, dtype="float32").reshape(10, 4)
    total = 0
    loader = mx.gluon.data.DataLoader(mx.gluon.data.SimpleDataset(list(data)), 2, pin_memory=True)
    for batch in loader:
        assert batch.context == mx.cpu_pinned(0)
        x = batch.as_in_context(gpu)
        places.append(x._data.data.ptr)
        total += float((x * x).sum().asscalar())
    assert total == (data**2).sum() and len({*places}) == 2 and places[:4] == places[:2] * 2
    events = [event for stream, event in waited if stream is lane.stream]
    assert len(events) == 5 and all(e.stream is gpu_on_cpu.Stream.null for e in events)
    held = [b.as_in_context(gpu) for b in loader]  # nobody's memory is given away
    np.testing.assert_array_equal(np.concatenate([h.asnumpy() for h in held]), data)
    assert sum(map(len, lane.free.values())) <= 2 * pinned.KEPT


@pytest.mark.skipif(not available(), reason="no g++: kernels cannot run on the CPU")
def test_what_is_filled_by_numpy_is_not_unwritten_for_a_watched_kernel(gpu, monkeypatch):
    monkeypatch.setitem(gpu_on_cpu.how, "check", True)
    for make in (mx.nd.zeros, mx.nd.ones, lambda shape, ctx: mx.nd.full(shape, 2, ctx=ctx)):
        assert mx.nd.softmax(make((2, 8), ctx=gpu)).asnumpy().sum() == 2
    x = mx.nd.empty((2, 8), ctx=gpu)
    with pytest.raises(KernelError, match="uninit"):
        mx.nd.softmax(x)
    x[:] = 1
    assert mx.nd.softmax(x).asnumpy().sum() == 2
