"""Checkpoints survive kill -9; callbacks say what MXNet's say; safetensors."""

import logging
import subprocess
import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon import callback, metric, model, nd
from minigluon.contrib import safetensors
from minigluon.model import BatchEndParam

KILLED = """
import os, random, signal, sys, time
import minigluon as mx
from minigluon.model import load_params, save_checkpoint
prefix, whole = sys.argv[1], 0
save_checkpoint(prefix, 0, None, {"w": mx.nd.zeros((200, 200))}, {})
random.seed(0)
for _ in range(100):
    child = os.fork()
    if child == 0:
        i = 0
        while True:
            i += 1
            save_checkpoint(prefix, 0, None, {"w": mx.nd.full((200, 200), i)}, {})
    time.sleep(random.random() / 50)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    w = load_params(prefix, 0)[0]["w"].asnumpy()
    whole += bool((w == w[0, 0]).all())
print(whole)
"""


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="no fork on this system")
def test_killed_a_hundred_times(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "w")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "100", done.stderr[-1000:]


def test_save_and_load(tmp_path):
    prefix = str(tmp_path / "net")
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=1, name="fc")
    arguments = {"fc_weight": nd.ones((1, 2)), "fc_bias": nd.zeros((1,))}
    auxiliaries = {"moving_mean": nd.zeros((2,)), "moving_var": nd.ones((2,))}
    callback.do_checkpoint(prefix, period=2)(1, net, arguments, auxiliaries)
    callback.do_checkpoint(prefix, period=2)(2, net, arguments, auxiliaries)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net-0002.params", "net-symbol.json"]
    assert set(nd.load(f"{prefix}-0002.params")) == {
        *(f"arg:{name}" for name in arguments),
        *(f"aux:{name}" for name in auxiliaries),
    }
    symbol, arg, aux = model.load_checkpoint(prefix, 2)
    assert symbol.list_arguments() == net.list_arguments()
    assert set(arg) == set(arguments) and set(aux) == set(auxiliaries)
    assert aux["moving_var"].asnumpy().tolist() == [1, 1]


def test_callbacks(caplog):
    caplog.set_level(logging.INFO)
    accuracy = metric.Accuracy()
    accuracy.update(nd.array([0, 1]), nd.array([[0.9, 0.1], [0.6, 0.4]]))

    def at(nbatch, found=accuracy):
        return BatchEndParam(epoch=3, nbatch=nbatch, eval_metric=found, locals=None)

    callback.ProgressBar(total=4, length=8)(at(1))
    callback.LogValidationMetricsCallback()(at(1))
    callback.log_train_metric(2)(at(2))
    callback.log_train_metric(2)(at(3))
    speed = callback.Speedometer(10, frequent=2, auto_reset=False)
    speed(at(0))
    speed(at(2))
    speed = callback.Speedometer(10, frequent=2)
    speed(at(0, None))
    speed(at(2, None))
    speed(at(4))
    assert np.isnan(accuracy.get()[1]) and accuracy.get_global()[1] == 0.5
    said = [r.getMessage() for r in caplog.records]
    assert said[:3] == [
        "[==------] 25%\r",
        "Epoch[3] Validation-accuracy=0.500000",
        "Iter[3] Batch[2] Train-accuracy=0.500000",
    ]
    assert said[3].startswith("Epoch[3] Batch [0-2]\tSpeed: ")
    assert said[3].endswith(" samples/sec\taccuracy=0.500000")
    assert said[4].startswith("Iter[3] Batch [2]\tSpeed: ") and said[4].endswith("samples/sec")
    assert said[5].startswith("Epoch[3] Batch [2-4]\tSpeed: ") and len(said) == 6


def test_safetensors(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "w.safetensors"
    data = {"a": nd.arange(6).reshape((2, 3)), "h": nd.ones((2,), dtype="float16")}
    safetensors.save(path, data, {"made": "here"})
    found = safetensors.load(path, mx.cpu(1))
    assert set(found) == {"a", "h"} and found["h"].dtype == np.float16
    assert found["a"].context == mx.cpu(1) and found["a"].asnumpy().tolist() == [
        [0, 1, 2],
        [3, 4, 5],
    ]
    assert library.load(path.read_bytes())["a"].shape == (2, 3)
    path.write_bytes(b"not at all")
    with pytest.raises(mx.MXNetError, match="no safetensors file"):
        safetensors.load(path)


def test_safetensors_wants_a_dictionary(tmp_path):
    with pytest.raises(TypeError, match="dict"):
        safetensors.save(tmp_path / "x", [nd.ones((2,))])
