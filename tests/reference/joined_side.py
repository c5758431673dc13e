"""Quantize a small network with MXNet 1.9.1, which joins its nodes, and save it: `python joined_side.py FOLDER`."""

import sys

import numpy as np

np.bool = bool  # this release of MXNet still asks for it
import mxnet as mx
from mxnet.contrib import quantization
from mxnet.gluon import nn


class Residual(nn.HybridBlock):
    def __init__(self, channels, first, **kwargs):
        super().__init__(**kwargs)
        self.first = first
        with self.name_scope():
            self.conv = nn.Conv2D(channels, 3, padding=1)
            self.norm = nn.BatchNorm()

    def hybrid_forward(self, F, x):
        y = self.norm(self.conv(x))
        return F.relu(x + y if self.first else y + x)


def network():
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(
            *(nn.Conv2D(8, 3, activation="relu"), Residual(8, False), Residual(8, True)),
            *(nn.Conv2D(6, 1, use_bias=False), nn.BatchNorm(), nn.LeakyReLU(0.1), nn.AvgPool2D(2)),
            *(nn.Dense(16, activation="relu"), nn.Dense(10, use_bias=False), nn.Dense(5)),
        )
    net.initialize(mx.init.Xavier())
    net.hybridize()
    return net


folder = sys.argv[1]
mx.random.seed(0)
np.random.seed(0)
rng = np.random.RandomState(1)
x, net = mx.nd.array(rng.normal(size=(16, 3, 12, 12))), network()
net(x)
for name, p in net.collect_params().items():
    if name.endswith(("gamma", "running_var")):
        p.set_data(mx.nd.array(rng.uniform(0.7, 1.4, p.shape)))
    elif not name.endswith("weight"):
        p.set_data(mx.nd.array(rng.normal(size=p.shape) * 0.1))
data = mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(x, mx.nd.zeros(16)), 8)
small = quantization.quantize_net(
    net, quantized_dtype="auto", calib_mode="naive", calib_data=data, ctx=mx.cpu()
)
small.hybridize()
arrays = {"x": x.asnumpy(), "floats": net(x).asnumpy(), "bytes": small(x).asnumpy()}
small.export(f"{folder}/small", 0)
net.export(f"{folder}/net", 0)
joined = mx.sym.load(f"{folder}/net-symbol.json").get_backend_symbol("MKLDNN")
joined.save(f"{folder}/joined-symbol.json")
np.savez(f"{folder}/arrays.npz", **arrays)
