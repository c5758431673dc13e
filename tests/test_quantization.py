"""Networks of bytes: the graph, the ranges and the figures, here and in MXNet."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
from minigluon.contrib import quantization
from minigluon.gluon import nn
from tests.reference.exceptions import mxnet_overflows

SIDE = Path(__file__).parent / "reference" / "quantization_side.py"


def answers(python, module, path):
    done = subprocess.run([python, SIDE, module, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(path.read_text())


def test_agrees_with_mxnet(mxnet_python, tmp_path):
    ours = answers(sys.executable, "minigluon", tmp_path / "ours.json")
    theirs = answers(mxnet_python, "mxnet", tmp_path / "theirs.json")
    assert ours.keys() == theirs.keys() and len(ours) == 50
    right = not mxnet_overflows()  # else what MXNet computes with bytes is no measure
    for key, there in theirs.items():
        here = ours[key]
        assert here["nodes"] == there["nodes"], key
        assert here["ranges"].keys() == there["ranges"].keys() and here["params"] == there["params"]
        near = 2e-3 if "entropy" in key else 1e-5  # MXNet adds up its divergence in float32
        for name, bounds in there["ranges"].items():
            np.testing.assert_allclose(here["ranges"][name], bounds, rtol=near, atol=near)
        if "outputs" in there and "uint8" not in key and "entropy" not in key and right:
            # of unsigned bytes MXNet's relu says that they are signed
            np.testing.assert_allclose(here["outputs"], there["outputs"], atol=1e-6)


def network():
    mx.random.seed(0)
    net = nn.HybridSequential(prefix="n_")
    with net.name_scope():
        net.add(nn.Conv2D(8, 3, padding=1), nn.BatchNorm(), nn.Activation("relu"))
        net.add(nn.MaxPool2D(), nn.Conv2D(8, 3, activation="relu", use_bias=False))
        net.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(10))
    net.initialize(mx.init.Xavier())
    x = mx.nd.random.uniform(-1, 1, (32, 3, 12, 12))
    with mx.autograd.train_mode():  # statistics of the batches
        net(x)
    return net, x


@pytest.mark.parametrize("mode", ["none", "naive", "entropy"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "auto"])
def test_a_block_of_bytes(mode, dtype):
    net, x = network()
    want = net(x).asnumpy()
    loader = mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(x, mx.nd.zeros(32)), 8)
    settings = {"calib_mode": mode, "quantized_dtype": dtype}
    if mode == "none":
        settings["data_shapes"] = [mx.io.DataDesc("data", x.shape)]
    else:
        settings["calib_data"] = loader
    small = quantization.quantize_net(net, **settings)
    found = small(x).asnumpy()
    if dtype == "uint8":  # negative numbers are cut off: only the shape is certain
        assert found.shape == want.shape
    else:
        assert abs(found - want).max() < 0.1 * abs(want).max()
    weights = [p for n, p in small.collect_params().items() if n.endswith("weight_quantize")]
    assert len(weights) == 3 and all(p.data().dtype == np.int8 for p in weights)


def test_excluded_layers_and_files(tmp_path):
    net, x = network()
    settings = {"calib_mode": "naive", "calib_data": mx.io.NDArrayIter(x, None, 8)}
    small = quantization.quantize_net_v2(
        net, exclude_layers_match=["conv"], exclude_operators=["Flatten"], **settings
    )
    inside = small._graph.get_internals().list_outputs()
    assert not [n for n in inside if n.startswith(("quantized_n_conv", "quantized_n_flatten"))]
    assert [n for n in inside if n.startswith("quantized_n_dense")]
    want = small(x).asnumpy()
    assert abs(want - net(x).asnumpy()).max() < 0.1
    small.export(str(tmp_path / "net"))
    again = mx.gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    np.testing.assert_allclose(again(x).asnumpy(), want, rtol=1e-6)


def test_three_steps_with_a_collector():
    sym = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc")
    rng = np.random.default_rng(0)
    args = {"fc_weight": mx.nd.array(rng.normal(size=(4, 3))), "fc_bias": mx.nd.ones(4)}
    made, params, _, collector = quantization.quantize_graph(sym, args, {}, calib_mode="naive")
    exe = sym.bind(mx.cpu(), {"data": mx.nd.array(rng.normal(size=(50, 3))), **args})
    exe.set_monitor_callback(collector.collect, monitor_all=True)
    out = exe.forward(is_train=False)[0].asnumpy()
    made, params, _ = quantization.calib_graph(made, args, {}, collector, calib_mode="naive")
    own = made.bind(mx.cpu(), {"data": exe.arg_dict["data"], **params})
    assert abs(own.forward()[0].asnumpy() - out).max() < 0.05
    assert collector.min_max_dict["fc_output"] == pytest.approx((out.min(), out.max()))
    assert mx.contrib.quant is quantization


class Halves:
    """A collector of one's own."""

    def __init__(self):
        self.min_max_dict, self.include_layer = {}, None

    def collect(self, name, arr):
        self.min_max_dict[name] = (-0.5, 0.5)


def test_a_collector_of_ones_own():
    net, x = network()
    data = mx.io.NDArrayIter(x, None, 8)
    settings = {"LayerOutputCollector": Halves(), "calib_data": data}
    small = quantization.quantize_net_v2(net, calib_mode="customize", **settings)
    found = small._graph.attr_dict()
    assert {a["min_calib_range"] for a in found.values() if "min_calib_range" in a} == {"-0.5"}


def test_histograms_grow():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=500) * s for s in (1, 3, 0.5)]
    known = quantization.histogram(parts[0], 101)
    for a in parts[1:]:
        known = quantization.grown(known, a)
    hist, edges, low, high, bound = known
    assert hist.sum() == 1500 and len(hist) % 2 == 1 and len(edges) == len(hist) + 1
    assert (low, high) == (np.concatenate(parts).min(), np.concatenate(parts).max())
    assert bound == edges[-1] >= abs(np.concatenate(parts)).max()
    again = np.histogram(np.concatenate(parts), edges)[0]
    assert abs(hist - again).sum() <= 4  # a number on an edge may go either way


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"excluded_sym_names": "fc"}, "list of names"),
        ({"excluded_op_names": ("Flatten",)}, "list of names"),
        ({"quantized_dtype": "int4"}, "int4"),
        ({"quantize_mode": "fast"}, "fast"),
        ({"quantize_granularity": "row"}, "row"),
        ({"ctx": [mx.cpu()]}, "single ctx"),
        ({"calib_mode": "naive"}, "DataIter"),
        ({"calib_mode": "best"}, "unknown calibration mode"),
    ],
)
def test_errors(change, says):
    sym = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc")
    args = {"fc_weight": mx.nd.ones((4, 3)), "fc_bias": mx.nd.ones(4)}
    with pytest.raises(ValueError, match=says):
        quantization.quantize_model(sym, args, {}, **{"calib_mode": "none", **change})


def test_keyword_arrays_stand_in_the_order_of_the_operator():
    d, w = (mx.nd.array(np.eye(3) * 5, dtype="int8") for _ in range(2))
    one, two = mx.nd.array([-1.0]), mx.nd.array([2.0])
    call = mx.nd.contrib.quantized_fully_connected
    want = call(d, w, one, one, two, two, num_hidden=3, no_bias=True)
    ends = {"max_weight": two, "min_weight": two, "max_data": one, "min_data": one}
    found = call(weight=w, data=d, num_hidden=3, no_bias=True, **ends)
    for a, b in zip(want, found):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def joined(graph, op, inputs, outputs=(0,), **attrs):
    """A graph as MXNet writes it where it joined its nodes: variables, and one node that holds them."""
    nodes = [{"op": "null", "name": n, "inputs": []} for n in dict.fromkeys(inputs)]
    own = [[[n["name"] for n in nodes].index(name), 0, 0] for name in inputs]
    held = json.loads(graph.tojson())
    nodes.append({"op": op, "name": "all", "inputs": own, "attrs": attrs, "subgraphs": [held]})
    return json.dumps({"nodes": nodes, "heads": [[len(nodes) - 1, k, 0] for k in outputs]})


def convolved():
    x, skip = mx.sym.var("x"), mx.sym.var("skip")
    y = mx.sym.BatchNorm(mx.sym.Convolution(x, kernel=(3, 3), num_filter=4, pad=(1, 1)))
    return mx.sym.Activation(mx.sym.elemwise_add(y, skip), act_type="relu")


def bytes_of(a):
    """Bytes of an array, and their bounds."""
    return mx.nd.contrib.quantize_v2(a, out_type="int8")


def test_reads_nodes_that_hold_a_convolution():
    graph = convolved()
    names = graph.list_inputs()
    rng = np.random.default_rng(0)
    shapes = dict(zip(graph.list_arguments(), graph.infer_shape(x=(2, 4, 5, 5))[0]))
    shapes |= dict(zip(graph.list_auxiliary_states(), graph.infer_shape(x=(2, 4, 5, 5))[2]))
    arrays = {n: mx.nd.array(rng.uniform(0.5, 1.5, s) - (s > (4,))) for n, s in shapes.items()}
    expected = evaluated(graph, arrays)
    back = mx.sym.load_json(joined(graph, "_sg_mkldnn_conv", names, with_bn="true"))
    assert back.list_arguments() == graph.list_arguments()
    assert back.list_auxiliary_states() == graph.list_auxiliary_states()
    np.testing.assert_array_equal(evaluated(back, arrays), expected)

    ends = ["x_min", "x_max", "skip_min", "skip_max"]
    top = float(expected.max())
    ranges = {"min_calib_range": "0.0", "max_calib_range": str(top)}
    text = joined(graph, "_sg_mkldnn_conv", names + ends, quantized="true", **ranges)
    for name in ("x", "skip"):
        parts = bytes_of(arrays[name])
        arrays |= dict(zip((name, f"{name}_min", f"{name}_max"), parts))
    steps = evaluated(mx.sym.load_json(text), arrays)
    assert steps.dtype == np.uint8
    np.testing.assert_allclose(steps * (top / 255), expected, atol=0.02 * top)
    text = joined(graph, "_sg_mkldnn_conv", names + ends, (1, 2), quantized="true", **ranges)
    np.testing.assert_allclose(evaluated(mx.sym.load_json(text)[1], arrays), top, rtol=1e-6)


def test_reads_nodes_that_hold_a_full_connection():
    x = mx.sym.var("x")
    graph = mx.sym.tanh(mx.sym.FullyConnected(x, num_hidden=3, name="fc"))
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 5), "fc_weight": (3, 5), "fc_bias": (3,)}
    arrays = {n: mx.nd.array(rng.normal(size=s)) for n, s in shapes.items()}
    expected = evaluated(graph, arrays)
    names = [*shapes, *(f"{n}_{end}" for n in shapes for end in ("min", "max"))]
    for n in shapes:
        arrays |= dict(zip((n, f"{n}_min", f"{n}_max"), bytes_of(arrays[n])))
    settings = {"quantized": "True", "enable_float_output": "True"}
    floats = mx.sym.load_json(joined(graph, "_sg_mkldnn_fully_connected", names, **settings))
    np.testing.assert_allclose(evaluated(floats, arrays), expected, atol=0.03)
    del settings["enable_float_output"]  # and without a range: the result's own
    steps = mx.sym.load_json(joined(graph, "_sg_mkldnn_fully_connected", names, **settings))
    found = evaluated(steps, arrays)
    assert found.dtype == np.int8 and abs(found.astype(int)).max() >= 127
    with pytest.raises(mx.MXNetError, match="wants output 3 of all, which has 3"):
        mx.sym.load_json(joined(graph, "_sg_mkldnn_fully_connected", names, (3,), **settings))


def evaluated(sym, arrays):
    """The first output, of arrays by name."""
    states = sym.list_auxiliary_states()
    kinds = [{n: a for n, a in arrays.items() if (n in states) is own} for own in (False, True)]
    args = {n: a for n, a in kinds[0].items() if n in sym.list_arguments()}
    return sym.bind(mx.cpu(), args, aux_states=kinds[1], grad_req="null").forward()[0].asnumpy()


def test_reads_what_mxnet_quantized(mxnet_python, tmp_path):
    side = SIDE.with_name("joined_side.py")
    done = subprocess.run([mxnet_python, side, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    arrays = np.load(tmp_path / "arrays.npz")
    load = lambda name, params: mx.gluon.SymbolBlock.imports(
        str(tmp_path / f"{name}-symbol.json"), ["data"], str(tmp_path / f"{params}-0000.params")
    )
    x, exact = mx.nd.array(arrays["x"]), arrays["floats"]
    joined, small = load("joined", "net")(x).asnumpy(), load("small", "small")(x).asnumpy()
    np.testing.assert_allclose(joined, exact, rtol=1e-4, atol=1e-5)
    ours, theirs = (abs(a - exact).mean() for a in (small, arrays["bytes"]))
    assert 0 < ours < 0.1 * abs(exact).max()
    assert mxnet_overflows() or ours < 1.5 * theirs < 0.1 * abs(exact).max()
