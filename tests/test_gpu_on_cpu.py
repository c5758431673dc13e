"""mx.gpu(0) without a GPU: the stand-in refuses what CuPy refuses, and errors say what is missing."""

import json
import subprocess
import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon import context, gpu_on_cpu
from minigluon.context import OutOfMemory, gpu_memory_info, num_gpus


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
}


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


def test_arrays_go_there_and_back(gpu):
    x = mx.nd.array(X, ctx=gpu)
    assert x.context == gpu and isinstance(x._data, gpu_on_cpu.ndarray)
    y = (x * 2).as_in_context(mx.cpu())
    assert y.context == mx.cpu() and isinstance(y._data, np.ndarray)
    np.testing.assert_array_equal(y.asnumpy(), 2 * X)
    with pytest.raises(mx.MXNetError, match="Unsupported type"):
        x + mx.nd.array(X)
    assert num_gpus() == 1 and gpu_memory_info(0) == (1 << 30, 1 << 30)


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
    assert "no hardware" in found["device"] and len(found["paths"]) >= 20
