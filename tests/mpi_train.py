"""Train on digits, each rank on its share of every batch: mpirun -n 4 python tests/mpi_train.py OUT."""

import os
import sys
import time

import numpy as np

import minigluon as mx
from minigluon import autograd, gluon, kvstore


def main(out, fault=None):
    kv = kvstore.create("dist_sync")
    rng = np.random.default_rng(0)
    images, labels = rng.random((96, 64)), rng.integers(0, 10, 96)
    if os.path.exists("digits.npz"):
        with np.load("digits.npz") as found:
            images, labels = found["images"], found["labels"]
    mx.random.seed(0)  # the first gradient is of weights drawn here, so draw the same
    net = gluon.nn.Sequential(prefix="net_")
    with net.name_scope():
        net.add(gluon.nn.Dense(16, activation="tanh", in_units=64), gluon.nn.Dense(10, in_units=16))
    net.initialize(mx.init.Xavier())
    net.collect_params().setattr("dtype", "float64")
    settings = {"learning_rate": 0.5, "momentum": 0.9}
    trainer = gluon.Trainer(net.collect_params(), "sgd", settings, kvstore=kv)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(40):
        own = slice(kv.rank, None, kv.num_workers)
        batch = np.arange(32 * step, 32 * step + 32) % len(images)
        x, y = (mx.nd.array(a[batch][own], dtype="float64") for a in (images, labels))
        with autograd.record():
            value = loss(net(x), y)
        value.backward()
        if fault and step == 3 and kv.rank == 1:
            die(fault)
        trainer.step(32)
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    np.savez(f"{out}.{kv.num_workers}.{kv.rank}.npz", rows=exchanged_rows(), **arrays)


def exchanged_rows():
    """What is stored after each rank has pushed its own row, and all of them the last one."""
    kv = kvstore.create("dist_sync")
    kv.init("table", mx.nd.full((6, 2), 1 + kv.rank).tostype("row_sparse"))
    first = mx.nd.zeros((6, 2))
    kv.pull("table", out=first)
    values = np.ones((2, 2), "float32")
    rows = mx.nd.sparse.row_sparse_array((values, [kv.rank, 5]), shape=(6, 2))
    kv.push("table", rows)
    found = mx.nd.sparse.zeros("row_sparse", (6, 2))
    kv.row_sparse_pull("table", out=found, row_ids=mx.nd.arange(6))
    kv._barrier()
    return np.stack([first.asnumpy()[:, 0], found.asnumpy()[:, 1]])


def die(fault):
    if fault == "raise":
        raise ValueError("this rank dies")
    if fault == "exit":
        sys.exit(3)
    os.kill(os.getpid(), 9)
    time.sleep(60)


main(*sys.argv[1:])
