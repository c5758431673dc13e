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
    "dense": ("nn.Dense(3)", (2, 2, 3)),
    "dense rows": ("nn.Dense(3, flatten=False, activation='tanh')", (2, 2, 3)),
    "dense free": ("nn.Dense(3, use_bias=False, activation='softrelu')", (2, 4)),
    "softsign": ("nn.Activation('softsign')", (3, 4)),
    "flatten": ("nn.Flatten()", (2, 3, 2)),
    "dropout axes": ("nn.Dropout(0, axes=(1,))", (3, 4)),
    "batch volume": ("nn.BatchNorm()", (2, 2, 2, 2, 3)),
    "batch no gain": ("nn.BatchNorm(scale=False)", (4, 3, 2)),
    "batch relu global": ("nn.BatchNormReLU(use_global_stats=True)", (4, 3, 2, 2)),
    "group flat": ("nn.GroupNorm(num_groups=2, center=False, scale=False)", (3, 4, 2, 1)),
    "layer rows": ("nn.LayerNorm(center=False)", (4, 5)),
    "instance wide": ("nn.InstanceNorm(epsilon=0.1, center=False)", (2, 3, 2, 2)),
    "conv": ("nn.Conv2D(3, 3)", (2, 2, 5, 4)),
    "conv wide": ("nn.Conv2D(4, (3, 2), (2, 1), (1, 2), (2, 1), activation='relu')", (2, 2, 7, 5)),
    "conv groups": ("nn.Conv2D(4, 3, padding=1, groups=2, use_bias=False)", (2, 4, 4, 4)),
    "conv depth": ("nn.Conv2D(6, 3, 2, 1, groups=3)", (2, 3, 5, 5)),
    "conv one": ("nn.Conv2D(3, 1, 2)", (2, 4, 4, 3)),
    "conv row": ("nn.Conv1D(3, 3, 2, 1, 2)", (2, 2, 8)),
    "conv row groups": ("nn.Conv1D(4, 2, groups=2)", (2, 2, 5)),
    "conv volume": ("nn.Conv3D(2, 2, (2, 1, 1), (1, 0, 1))", (2, 2, 3, 3, 2)),
    "conv volume groups": ("nn.Conv3D(2, 2, dilation=2, groups=2)", (1, 2, 3, 4, 3)),
    "back": ("nn.Conv2DTranspose(3, 3)", (2, 2, 3, 2)),
    "back wide": ("nn.Conv2DTranspose(2, (3, 4), (2, 3), (1, 0), (1, 2))", (2, 3, 3, 2)),
    "back dilated": ("nn.Conv2DTranspose(2, 3, dilation=2, activation='relu')", (2, 3, 3, 2)),
    "back groups": (
        "nn.Conv2DTranspose(4, 3, 2, 1, 1, groups=2, use_bias=False, in_channels=4)",
        (2, 4, 2, 3),
    ),
    "back row": ("nn.Conv1DTranspose(3, 4, 3, 1, 2)", (2, 2, 4)),
    "back volume": ("nn.Conv3DTranspose(2, 2, 2, 1, 1)", (1, 2, 2, 3, 2)),
    "max": ("nn.MaxPool2D()", (2, 2, 5, 4)),
    "max wide": ("nn.MaxPool2D((3, 2), (2, 1), (1, 0), ceil_mode=True)", (2, 2, 6, 5)),
    "max row": ("nn.MaxPool1D(3, 2, 1, ceil_mode=True)", (2, 2, 6)),
    "max row last": ("nn.MaxPool1D(2, layout='NWC')", (2, 6, 2)),
    "max last": ("nn.MaxPool2D(2, 1, layout='NHWC')", (2, 4, 3, 2)),
    "max volume": ("nn.MaxPool3D(2, 1, ceil_mode=True)", (1, 2, 3, 3, 2)),
    "mean": ("nn.AvgPool2D()", (2, 2, 5, 4)),
    "mean wide": ("nn.AvgPool2D(3, 2, 1, ceil_mode=True)", (2, 2, 6, 5)),
    "mean inside": ("nn.AvgPool2D(3, 2, 1, count_include_pad=False)", (2, 2, 6, 5)),
    "mean ceil inside": (
        "nn.AvgPool2D(3, 2, 1, ceil_mode=True, count_include_pad=False)",
        (2, 2, 6, 6),
    ),
    "mean last": ("nn.AvgPool2D(2, layout='NHWC')", (2, 4, 3, 2)),
    "mean row": ("nn.AvgPool1D(3, 1, 1, count_include_pad=False)", (2, 2, 6)),
    "mean volume": ("nn.AvgPool3D((2, 1, 2), 1, (1, 0, 1))", (1, 2, 3, 3, 2)),
    "global max": ("nn.GlobalMaxPool2D()", (2, 2, 3, 4)),
    "global mean": ("nn.GlobalAvgPool2D()", (2, 2, 3, 4)),
    "global max row": ("nn.GlobalMaxPool1D(layout='NWC')", (2, 4, 3)),
    "global mean row": ("nn.GlobalAvgPool1D()", (2, 2, 4)),
    "global max volume": ("nn.GlobalMaxPool3D()", (2, 2, 2, 3, 2)),
    "global mean volume": ("nn.GlobalAvgPool3D()", (2, 2, 2, 3, 2)),
    "mirror": ("nn.ReflectionPad2D(1)", (2, 2, 3, 4)),
    "mirror sides": ("nn.ReflectionPad2D((0, 0, 0, 0, 1, 2, 2, 1))", (1, 2, 3, 4)),
    "shuffle row": ("gluon.contrib.nn.PixelShuffle1D(2)", (2, 4, 3)),
    "shuffle": ("gluon.contrib.nn.PixelShuffle2D((2, 3))", (1, 12, 2, 2)),
    "shuffle volume": ("gluon.contrib.nn.PixelShuffle3D(2)", (1, 8, 2, 1, 2)),
    "deformable": ("gluon.contrib.cnn.DeformableConvolution(2, 3, padding=1)", (1, 2, 4, 4)),
    "deformable groups": (
        "gluon.contrib.cnn.DeformableConvolution(2, (3, 2), 2, num_deformable_group=2, use_bias=False,"
        " groups=2, activation='relu')",
        (2, 4, 5, 4),
    ),
    "side by side": (
        "beside(gluon.contrib.nn.HybridConcurrent(1), nn.Conv2D(2, 1), gluon.contrib.nn.Identity())",
        (2, 2, 2, 3),
    ),
    "chain": ("beside(nn.HybridSequential(), nn.Conv2D(2, 1), nn.Dense(3))", (2, 2, 2, 3)),
}


def beside(block, *children):
    """A block of several others."""
    block.add(*children)
    return block


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
        layer = eval(make, {"nn": gluon.nn, "gluon": gluon, "beside": beside})
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


def pictures(mx):
    """A network of convolutions, pooling and normalization."""
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="pictures_")
    with net.name_scope():
        net.add(nn.Conv2D(4, 3, padding=1, in_channels=2), nn.BatchNorm(in_channels=4))
        net.add(nn.Activation("relu"), nn.MaxPool2D(), nn.Conv2D(6, 3, groups=2, in_channels=4))
        net.add(nn.LeakyReLU(0.1), nn.Conv2DTranspose(4, 2, 2, in_channels=6), nn.AvgPool2D())
        net.add(nn.InstanceNorm(in_channels=4), nn.Dense(3, in_units=36))
    net.initialize()
    fill(mx, net)
    return net


def train(mx, net, shape=(6, 5), rate=0.1):
    """20 steps on fixed batches; the losses."""
    settings = {"learning_rate": rate, "momentum": 0.9}
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", settings)
    loss, losses = mx.gluon.loss.L2Loss(), []
    for step in range(20):
        x, t = mx.nd.array(numbers(step, shape)), mx.nd.array(numbers(100 + step, (shape[0], 3)))
        with mx.autograd.record():
            out = loss(net(x), t)
        out.backward()
        trainer.step(shape[0])
        losses.append(float(out.mean().asscalar()))
    return losses


NETWORKS = {"rows": (network, (6, 5)), "pictures": (pictures, (4, 2, 10, 10), 0.001)}


def main():
    np.bool = bool
    import mxnet as mx

    told, arrays = {}, {}
    for name, (make, shape) in LAYERS.items():
        found, told[name] = observe(mx, make, shape, False)
        arrays |= {f"{name}/{i}": a for i, a in enumerate(found)}
    for name, (make, *settings) in NETWORKS.items():
        net = make(mx)
        arrays[f"{name} losses"] = np.array(train(mx, net, *settings))
        for p in net.collect_params().values():
            arrays[p.name] = p.data().asnumpy()
    np.savez_compressed(sys.argv[1], told=json.dumps(told), **arrays)


if __name__ == "__main__":
    main()
