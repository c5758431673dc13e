"""Ask MXNet for the values of layers: `python golden_layers.py FILE`, where MXNet 1.9.1 is installed.

The file holds, for each layer below, outputs, gradients and running statistics; and a network after
20 steps of training. It imports nothing of this project, but the project's tests import `LAYERS` from it.
"""

import json
import sys

import numpy as np

LAYERS = {  # name -> (what to make, shape of the input)
    "batch": ("nn.BatchNorm()", (4, 3, 2, 2)),
    "batch rows": ("nn.BatchNorm(momentum=0.5, epsilon=0.1)", (5, 3)),
    "batch last": ("nn.BatchNorm(axis=-1, in_channels=4)", (3, 2, 4)),
    "batch fixed": ("nn.BatchNorm(scale=False, center=False)", (4, 3)),
    "batch global": ("nn.BatchNorm(use_global_stats=True)", (4, 3)),
    "batch relu": ("nn.BatchNormReLU()", (4, 3, 2, 2)),
    "sync": ("gluon.contrib.nn.SyncBatchNorm(in_channels=3)", (4, 3, 2, 2)),
    "layer": ("nn.LayerNorm()", (4, 3, 5)),
    "layer axis": ("nn.LayerNorm(axis=1, epsilon=0.1, scale=False)", (4, 3, 5)),
    "group": ("nn.GroupNorm(num_groups=2)", (3, 4, 5)),
    "group one": ("nn.GroupNorm()", (3, 4, 2, 2)),
    "instance": ("nn.InstanceNorm()", (3, 4, 5)),
    "instance axis": ("nn.InstanceNorm(axis=2, scale=True)", (3, 4, 5)),
    "leaky": ("nn.LeakyReLU(0.2)", (3, 4)),
    "prelu": ("nn.PReLU()", (3, 4)),
    "prelu channels": ("nn.PReLU(in_channels=4)", (3, 4, 2)),
    "elu": ("nn.ELU(1.5)", (3, 4)),
    "selu": ("nn.SELU()", (3, 4)),
    "gelu": ("nn.GELU()", (3, 4)),
    "swish": ("nn.Swish(2)", (3, 4)),
    "dropout": ("nn.Dropout(0)", (3, 4)),
    "embedding": ("nn.Embedding(5, 2)", (3, 4)),
    "lambda": ("nn.HybridLambda('tanh')", (3, 4)),
    "lambda function": ("nn.HybridLambda(lambda F, x: F.sin(x) * x)", (3, 4)),
    "identity": ("gluon.contrib.nn.Identity()", (3, 4)),
}


def numbers(seed, shape):
    return np.random.RandomState(seed).uniform(-1, 2, shape).astype("float32")


def fill(mx, net):
    """Parameters that depend on nothing but their order and shape."""
    for i, p in enumerate(net.collect_params().values()):
        p.set_data(mx.nd.array(abs(numbers(i + 1, p.shape)) + 0.5))


def observe(mx, make, shape, hybrid):
    """Outputs, gradients, statistics, the printed form and names of one layer."""
    gluon, nd = mx.gluon, mx.nd
    with gluon.Block(prefix="net_").name_scope():
        layer = eval(make, {"nn": gluon.nn, "gluon": gluon})
    layer.initialize()
    x = nd.array(
        np.floor(abs(numbers(0, shape)) * 4) if "Embedding" in make else numbers(0, shape) - 0.75
    )
    layer(x)
    fill(mx, layer)
    if hybrid:
        layer.hybridize()
    if "Embedding" not in make:  # its input has no gradient
        x.attach_grad()
    with mx.autograd.record():
        y = layer(x)
    y.backward(nd.array(numbers(9, y.shape)))
    params = list(layer.collect_params().values())
    grads = [p.grad().asnumpy() for p in params if p.grad_req != "null"]
    slope = np.zeros(1) if x.grad is None else x.grad.asnumpy()
    arrays = [y.asnumpy(), slope, *grads, *[p.data().asnumpy() for p in params]]
    used = layer(x).asnumpy()
    return [*arrays, used], [repr(layer), *[p.name for p in params]]


def network(mx):
    """A network with every kind of layer that keeps something."""
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Dense(8, in_units=5), nn.BatchNorm(in_channels=8), nn.Activation("relu"))
        net.add(nn.Dropout(0), nn.Dense(3, in_units=8), nn.LayerNorm(in_channels=3))
    net.initialize()
    fill(mx, net)
    return net


def train(mx, net):
    """20 steps on fixed batches; the losses."""
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    loss, losses = mx.gluon.loss.L2Loss(), []
    for step in range(20):
        x, t = mx.nd.array(numbers(step, (6, 5))), mx.nd.array(numbers(100 + step, (6, 3)))
        with mx.autograd.record():
            out = loss(net(x), t)
        out.backward()
        trainer.step(6)
        losses.append(float(out.mean().asscalar()))
    return losses


def main():
    np.bool = bool
    import mxnet as mx

    told, arrays = {}, {}
    for name, (make, shape) in LAYERS.items():
        found, told[name] = observe(mx, make, shape, False)
        arrays |= {f"{name}/{i}": a for i, a in enumerate(found)}
    net = network(mx)
    arrays["losses"] = np.array(train(mx, net))
    for p in net.collect_params().values():
        arrays[p.name] = p.data().asnumpy()
    np.savez_compressed(sys.argv[1], told=json.dumps(told), **arrays)


if __name__ == "__main__":
    main()
