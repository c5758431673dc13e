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


LAYERS = {
    "softmax": lambda F, x, y: F.SoftmaxOutput(x, y),
    "linear": lambda F, x, y: F.LinearRegressionOutput(x, F.broadcast_like(y.expand_dims(1), x)),
    "absolute": lambda F, x, y: F.MAERegressionOutput(x, F.broadcast_like(y.expand_dims(1), x)),
    "svm": lambda F, x, y: F.SVMOutput(x, y),
    "made": lambda F, x, y: F.MakeLoss(x * x),
    "made in small letters": lambda F, x, y: F.make_loss(x * x),
}
AFTER = {
    "blocked": lambda F, p: F.sum(F.BlockGrad(p)),
    "a choice": lambda F, p: F.argmax(p, axis=1),
    "a comparison": lambda F, p: p > 0.5,
    "printed loss": lambda F, p: F.sum(F.log(F.BlockGrad(p) + 9)),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_loss_has_its_gradient_whatever_follows(layer, after):
    class Net(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x, y):
            p = LAYERS[layer](F, x * 1, y)
            return AFTER[after](F, p) if self.after else p

    data, y = np.random.default_rng(0).normal(size=(2, 3)).astype("float32"), mx.nd.array([0, 2])
    slopes = []
    for hybrid in (False, True):
        for inside in (None, True, False):  # nothing follows; inside the block; outside
            net, x = Net(), mx.nd.array(data)
            net.after = inside
            net.hybridize(hybrid)
            x.attach_grad()
            with mx.autograd.record():
                out = net(x, y)
                out = AFTER[after](mx.nd, out) if inside is False else out
            out.backward()
            slopes.append(x.grad.asnumpy())
    assert abs(slopes[0]).sum() > 0
    for slope in slopes[1:]:
        assert np.allclose(slope, slopes[0], atol=1e-6)
    graph = AFTER[after](mx.sym, LAYERS[layer](mx.sym, mx.sym.var("x"), mx.sym.var("y")))
    given = (
        {"x": mx.nd.array(data), "y": y}
        if "y" in graph.list_arguments()
        else {"x": mx.nd.array(data)}
    )
    exe = graph.bind(mx.cpu(), given, args_grad={"x": mx.nd.zeros((2, 3))})
    exe.backward([mx.nd.ones_like(o) for o in exe.forward(is_train=True)])
    assert np.allclose(exe.grad_dict["x"].asnumpy(), slopes[0], atol=1e-6)


def test_functions_of_ones_own_are_asked_as_well():
    class Five(mx.autograd.Function):
        def forward(self, x):
            return x * 2

        def backward(self, g):
            assert g.asnumpy().tolist() == [0, 0]
            return g + 5

    x = mx.nd.ones(2)
    x.attach_grad()
    with mx.autograd.record():
        y = mx.nd.BlockGrad(Five()(x))
    y.backward()
    assert x.grad.asnumpy().tolist() == [5, 5]
    with mx.autograd.record():
        y = mx.nd.BlockGrad(mx.nd.exp(x)).sum()  # no loss: nothing
    y.backward()
    assert x.grad.asnumpy().tolist() == [0, 0]


@pytest.mark.parametrize("normalization, factor", [("null", 1), ("batch", 1 / 6), ("valid", 1 / 4)])
def test_a_row_of_labels_too_many(normalization, factor):
    """MXNet 1.9.1: labels of shape data.shape[:-1] for one softmax a sample; the first ones count."""
    p = mx.nd.array([[0, 1, 1], [0, 2, 2]])  # 4 of 6 are valid
    x, ignored = mx.nd.arange(24).reshape((2, 3, 4)) / 10, 1
    x.attach_grad()
    with mx.autograd.record():
        y = mx.nd.SoftmaxOutput(
            x, p, normalization=normalization, use_ignore=True, ignore_label=ignored
        )
    y.backward()
    want = y.asnumpy().reshape(2, 12).copy()
    want[0, 0] -= 1
    want[1] = 0  # its label, the second in memory, is the ignored one
    assert np.allclose(x.grad.asnumpy().reshape(2, 12), want * factor, atol=1e-6)
