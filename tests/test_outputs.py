"""Output layers: the values and gradients of MXNet 1.9.1, in eager programs and in executors."""

import json
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx

GOLDEN = json.loads(Path(__file__).with_name("golden_outputs.json").read_text())
NAMED = [pytest.param(*row, id=f"{i}-{row[0]}") for i, row in enumerate(GOLDEN)]


@pytest.mark.parametrize(("name", "settings", "data", "label", "value", "slope"), NAMED)
def test_mxnet_gave_these(name, settings, data, label, value, slope):
    x = mx.nd.array(data)
    x.attach_grad()
    with mx.autograd.record():
        y = getattr(mx.nd, name)(x, mx.nd.array(label), **settings)
        z = y * 3  # the gradient from above is ignored
    z.backward()
    assert np.allclose(y.asnumpy(), value, atol=2e-6)
    assert np.allclose(x.grad.asnumpy(), slope, atol=2e-6)


@pytest.mark.parametrize(("name", "settings", "data", "label", "value", "slope"), NAMED)
def test_executor(name, settings, data, label, value, slope):
    net = getattr(mx.sym, name)(mx.sym.var("data"), name="out", **settings)
    assert net.list_arguments() == ["data", "out_label"]
    exe = net.simple_bind(mx.cpu(), data=np.shape(data), out_label=np.shape(label))
    exe.forward(is_train=True, data=mx.nd.array(data), out_label=mx.nd.array(label))
    exe.backward()
    assert np.allclose(exe.outputs[0].asnumpy(), value, atol=2e-6)
    assert np.allclose(exe.grad_dict["data"].asnumpy(), slope, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "settings", "data", "label"),
    [
        ("SoftmaxOutput", {}, (4, 3), (4,)),
        ("SoftmaxOutput", {"multi_output": True}, (2, 3, 5), (2, 5)),
        ("SoftmaxOutput", {"preserve_shape": True}, (2, 3, 5), (2, 3)),
        ("LinearRegressionOutput", {}, (4, 3), (4, 3)),
        ("LogisticRegressionOutput", {}, (4, 1), (4,)),
        ("SVMOutput", {}, (4, 3), (4,)),
    ],
)
def test_label_shape_follows_from_data(name, settings, data, label):
    net = getattr(mx.sym, name)(mx.sym.var("data"), name="softmax", **settings)
    assert net.infer_shape(data=data)[0] == [data, label]


def test_out_grad_multiplies_by_the_gradient_from_above():
    x = mx.nd.array([[1.0, 2.0, 3.0]])
    x.attach_grad()
    slopes = []
    for use in (False, True):
        with mx.autograd.record():
            y = mx.nd.Softmax(x, mx.nd.array([1]), out_grad=use) * 3
        y.backward()
        slopes.append(x.grad.asnumpy().copy())
    assert np.allclose(slopes[1], 3 * slopes[0])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_type_of_gradient(dtype):
    x = mx.nd.array([[1, 2, 3]], dtype=dtype)
    x.attach_grad()
    with mx.autograd.record():
        y = mx.nd.SoftmaxOutput(x, mx.nd.array([1], dtype="int32"), normalization="valid")
    y.backward()
    assert y.dtype == x.grad.dtype == np.dtype(dtype)


def test_labels_of_many_outputs_lie_in_rows():
    """As in MXNet, whose graphs ask for labels of this shape."""
    for shape, label in (((2, 3), (2, 1)), ((2, 3, 4), (2, 4)), ((2, 3, 4, 5), (2, 20))):
        y = mx.sym.SoftmaxOutput(mx.sym.var("d"), multi_output=True, name="s")
        assert y.infer_shape(d=shape)[0] == [shape, label]
        assert y.infer_shape(d=shape, s_label=shape[:1] + shape[2:])[1] == [shape]
        out = y.eval(d=mx.nd.ones(shape), s_label=mx.nd.zeros(label))[0]
        assert out.shape == shape
