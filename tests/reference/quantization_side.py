"""Quantize a perceptron: `python quantization_side.py MODULE OUT.json`, the same in MXNet 1.9.1 and here."""

import importlib
import json
import os
import sys

os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"  # nodes stay what they were
import numpy as np

np.bool = bool  # this release of MXNet still asks for it
mx = importlib.import_module(sys.argv[1])
quantization = importlib.import_module(sys.argv[1] + ".contrib.quantization")


def network():
    """Two branches that are added and joined; each kind of node that keeps bytes."""
    x = mx.sym.Variable("data")
    a = mx.sym.FullyConnected(x, num_hidden=12, name="fc0")
    a = mx.sym.Activation(a, act_type="relu", name="relu0")
    b = mx.sym.FullyConnected(a, num_hidden=12, no_bias=True, name="fc1")
    c = mx.sym.elemwise_add(a, b, name="sum0")
    c = mx.sym.Concat(c, a, dim=1, name="cat0")
    c = mx.sym.Flatten(c, name="flat0")
    c = mx.sym.FullyConnected(c, num_hidden=8, name="fc2")
    c = mx.sym.Activation(c, act_type="tanh", name="tanh0")
    c = mx.sym.FullyConnected(c, num_hidden=4, name="fc3")
    return mx.sym.SoftmaxOutput(c, name="softmax")


def small():
    """A trunk of full connections alone, whose figures are compared."""
    x = mx.sym.Variable("data")
    for i, n in enumerate((16, 12, 4)):
        x = mx.sym.FullyConnected(x, num_hidden=n, name=f"fc{i}")
        x = mx.sym.Activation(x, act_type="relu", name=f"relu{i}") if n > 4 else x
    return mx.sym.SoftmaxOutput(x, name="softmax")


def params(sym, rng):
    shapes = sym.infer_shape(data=(8, 10))[0]
    own = zip(sym.list_arguments(), shapes)
    return {
        n: mx.nd.array(rng.uniform(-1, 1, s)) for n, s in own if n not in ("data", "softmax_label")
    }


def named(name):
    """Where an operator's output has no name in MXNet, its bytes are called after a number."""
    return name.replace("_0_quantize", "_output_quantize")


def nodes(sym):
    found = json.loads(sym.tojson())["nodes"]
    inputs = [[[named(found[i[0]]["name"]), i[1]] for i in n["inputs"]] for n in found]
    return [[n["op"], named(n["name"]), own] for n, own in zip(found, inputs)]


def cases():
    for mode in ("smart", "full"):
        for dtype in ("int8", "uint8", "auto"):
            for calib in ("none", "naive"):
                for excluded in ([], ["fc1"]):
                    yield mode, dtype, calib, excluded
    yield "smart", "auto", "entropy", []


def main():
    rng = np.random.RandomState(0)
    data = mx.io.NDArrayIter(rng.uniform(-1, 2, (32, 10)).astype("float32"), np.zeros(32), 8)
    answers = {}
    for kind, sym in (("network", network()), ("small", small())):
        own = params(sym, rng)
        for mode, dtype, calib, excluded in cases():
            settings = {"quantized_dtype": dtype, "quantize_mode": mode, "calib_mode": calib}
            settings |= {"calib_data": data, "excluded_sym_names": excluded}
            data.reset()
            made, found, _ = quantization.quantize_model(sym, own, {}, **settings)
            answers[" ".join((kind, mode, dtype, calib, *excluded))] = answer = {
                "nodes": nodes(made),
                "ranges": {
                    named(n): [float(a["min_calib_range"]), float(a["max_calib_range"])]
                    for n, a in made.attr_dict().items()
                    if "min_calib_range" in a
                },
                "params": {n: a.asnumpy().tolist() for n, a in found.items()},
            }
            if kind == "small":
                module = mx.mod.Module(made)
                module.bind(data.provide_data, data.provide_label, for_training=False)
                module.set_params(found, {})
                data.reset()
                answer["outputs"] = module.predict(data).asnumpy().tolist()
    with open(sys.argv[2], "w") as file:
        json.dump(answers, file)


main()
