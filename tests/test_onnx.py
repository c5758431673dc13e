"""Networks as ONNX files: against the interpreter of the onnx package, and there and back."""

import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon.gluon import nn, rnn

onnx = pytest.importorskip("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402

from minigluon.contrib.onnx import (  # noqa: E402
    export_model,
    get_model_metadata,
    import_model,
    import_to_gluon,
)


def sequence(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


def numbers(*shape):
    return mx.nd.array(np.random.default_rng(0).normal(size=shape))


def exported(net, path, *xs, **settings):
    """The file of a network that has seen a batch, and its outputs."""
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    with mx.autograd.train_mode():
        net(*xs)
    y = net(*xs)
    params = {p.name: p.data() for p in net.collect_params().values()}
    names = ["data"] if len(xs) == 1 else [f"data{i}" for i in range(len(xs))]
    graph = net(*(mx.sym.var(n) for n in names))
    shapes = [x.shape for x in xs]
    assert export_model(graph, params, shapes, onnx_file_path=path, **settings) == path
    return y.asnumpy()


def run(path, *xs):
    names = [i.name for i in onnx.load(path).graph.input]
    return ReferenceEvaluator(path).run(None, {n: x.asnumpy() for n, x in zip(names, xs)})


NETS = {
    "lenet": (
        lambda: sequence(
            *(nn.Conv2D(6, 5, activation="tanh"), nn.MaxPool2D(2, 2), nn.Conv2D(8, 5, groups=2)),
            *(nn.MaxPool2D(2, 2), nn.Flatten(), nn.Dense(20, activation="sigmoid"), nn.Dense(10)),
        ),
        (2, 1, 28, 28),
    ),
    "perceptron": (
        lambda: sequence(
            *(nn.Dense(8, activation="relu"), nn.BatchNorm(), nn.Dropout(0.5), nn.LeakyReLU(0.1)),
            *(nn.PReLU(), nn.ELU(), nn.SELU(), nn.GELU(), nn.Swish(), nn.LayerNorm()),
            *(nn.Activation("softrelu"), nn.Activation("softsign"), nn.Dense(4, use_bias=False)),
        ),
        (3, 7),
    ),
    "rows": (lambda: sequence(nn.Dense(5, flatten=False), nn.Dense(6, flatten=False)), (2, 3, 7)),
    "windows": (
        lambda: sequence(
            *(nn.AvgPool2D(3, 2, 1), nn.AvgPool2D(2, 1, count_include_pad=False, padding=1)),
            *(nn.MaxPool2D(3, 2, 1), nn.Conv2DTranspose(3, 3, strides=2, padding=1)),
            *(nn.InstanceNorm(), nn.Conv2D(6, 3, dilation=2, padding=2), nn.GlobalAvgPool2D()),
        ),
        (2, 3, 17, 15),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_networks(name, tmp_path):
    made, shape = NETS[name]
    x, path = numbers(*shape), str(tmp_path / "net.onnx")
    want = exported(made(), path, x)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    np.testing.assert_allclose(run(path, x)[0], want, atol=1e-5)
    np.testing.assert_allclose(import_to_gluon(path)(x).asnumpy(), want, atol=1e-6)


class Pieces(nn.HybridBlock):
    def hybrid_forward(self, F, a, b):
        c = F.concat(F.transpose(a, axes=(0, 2, 1)), F.swapaxes(b, 1, 2), dim=2)
        c = F.slice_axis(c, axis=2, begin=1, end=None).expand_dims(1).squeeze(axis=1)
        left, right = F.split(F.reshape(c, shape=(0, -1)), num_outputs=2, axis=1)
        y = F.broadcast_add(left * 2 - 1, F.mean(right, axis=1, keepdims=True))
        y = F.square(F.clip(y / 3, a_min=-0.5, a_max=0.75)) + F.exp(-F.abs(y))
        y = F.log_softmax(y, axis=-1) + F.softmax(y, temperature=2.0) ** 2
        c = F.batch_dot(c, c, transpose_b=True)
        return F.broadcast_maximum(F.sum(c, axis=(1,)), F.max(y, axis=1, keepdims=True))


def test_operators_of_two_inputs(tmp_path):
    path = str(tmp_path / "net.onnx")
    xs = numbers(2, 3, 4), numbers(2, 4, 4)
    want = exported(Pieces(), path, *xs)
    np.testing.assert_allclose(run(path, *xs)[0], want, atol=1e-5)
    np.testing.assert_allclose(import_to_gluon(path)(*xs).asnumpy(), want, atol=1e-5)


LAYERS = {
    "LSTM": lambda: rnn.LSTM(4, 1),
    "GRU": lambda: rnn.GRU(4, 1),
    "tanh": lambda: rnn.RNN(4, 1, activation="tanh"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers(name, tmp_path):
    path, x = str(tmp_path / "net.onnx"), numbers(5, 2, 3)
    want = exported(LAYERS[name](), path, x)
    np.testing.assert_allclose(run(path, x)[0], want, atol=1e-5)
    with pytest.raises(mx.MXNetError, match="No reader"):
        import_model(path)


def test_labels_files_and_open_sizes(tmp_path):
    fc = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(fc, name="softmax"))
    module.bind([("data", (4, 5))], [("softmax_label", (4,))])
    module.init_params(mx.init.Xavier())
    prefix, path = str(tmp_path / "m"), str(tmp_path / "net.onnx")
    module.save_checkpoint(prefix, 0)
    export_model(
        f"{prefix}-symbol.json", f"{prefix}-0000.params", [(4, 5)], onnx_file_path=path,
        dynamic=True, dynamic_input_shapes=[(None, 5)],
    )  # fmt: skip
    x = numbers(7, 5)
    module.reshape([("data", (7, 5))], [("softmax_label", (7,))])
    module.forward(mx.io.DataBatch([x]), is_train=False)
    want = module.get_outputs()[0].asnumpy()
    np.testing.assert_allclose(run(path, x)[0], want, atol=1e-6)
    found = get_model_metadata(path)
    assert found["input_tensor_data"] == [("data", (0, 5))]
    assert [name for name, _ in found["output_tensor_data"]] == ["softmax_output"]
    sym, params, states = import_model(path)
    assert {*params} == {"fc_weight", "fc_bias"} and not states
    assert sym.infer_shape(data=(2, 5))[1] == [(2, 3)]


def test_unequal_borders_and_older_words(tmp_path):
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    w = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype("float32")
    nodes = [
        make("Conv", ["x", "w"], ["y"], pads=[0, 1, 2, 1]),
        make("MaxPool", ["y"], ["p"], kernel_shape=[2, 2], pads=[0, 0, 1, 0]),
        make("Clip", ["p"], ["c"], min=-0.5, max=0.5),
        make("Unsqueeze", ["c"], ["u"], axes=[0]),
        make("Constant", [], ["s"], value=onnx.numpy_helper.from_array(np.array([2, -1]))),
        make("Reshape", ["u", "s"], ["z"]),
    ]
    ends = [value("x", 1, [1, 1, 5, 5])], [value("z", 1, None)]
    graph = onnx.helper.make_graph(nodes, "g", *ends, [onnx.numpy_helper.from_array(w, "w")])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 10)], ir_version=5
    )
    onnx.save(model, tmp_path / "old.onnx")
    x = numbers(1, 1, 5, 5)
    padded = np.pad(x.asnumpy(), ((0, 0), (0, 0), (0, 2), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    y = np.einsum("nchwij,ocij->nohw", views, w)
    y = np.pad(y, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=-np.inf)
    want = np.lib.stride_tricks.sliding_window_view(y, (2, 2), (2, 3)).max((-1, -2))
    found = import_to_gluon(tmp_path / "old.onnx")(x).asnumpy()
    np.testing.assert_allclose(found, want.clip(-0.5, 0.5).reshape(2, -1), atol=1e-5)


def test_errors(tmp_path, monkeypatch):
    x, path = mx.sym.var("data"), str(tmp_path / "net.onnx")
    wrong = {
        "No conversion function registered for op type gamma": mx.sym.gamma(x),
        "pools by max and avg": mx.sym.Pooling(x, kernel=(2, 2), pool_type="sum"),
    }
    for says, sym in wrong.items():
        with pytest.raises(mx.MXNetError, match=says):
            export_model(sym, {}, [(1, 2, 4, 4)], onnx_file_path=path)
    with pytest.raises(ValueError, match="in_shapes"):
        export_model(mx.sym.relu(x), {}, onnx_file_path=path)
    assert not (tmp_path / "net.onnx").exists()
    assert "Convolution" in mx.onnx.get_operator_support()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        export_model(mx.sym.relu(x), {}, [(1, 2)], onnx_file_path=path)
