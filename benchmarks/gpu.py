"""Each hot path on a GPU: time, floor, the fraction of the floor that is reached, PyTorch's time on the same card.

`python benchmarks/gpu.py` takes two or three minutes on one GPU and writes benchmarks/results/DATE-gpu.json. Times are the
best of five rounds, by the device's own clock. The floor is the larger of bytes over the measured copy bandwidth and
operations over `--peak`. Each row names the hand-written kernels that it launches: none means that CuPy's own functions did
it all, or a graph. Where PyTorch fails, the row has its error, and our time all the same. `--tiny` divides the sizes by 1024 and more, to try the script on the stand-in:

    MINIGLUON_CUPY=minigluon.gpu_on_cpu python benchmarks/gpu.py --tiny --out gpu.json
"""

import argparse
import datetime
import json
import platform
import time
from pathlib import Path

import numpy as np

import minigluon as mx
import minigluon.ops
from minigluon import autograd
from minigluon.context import cupy_or_none, gpu_memory_info, num_gpus, put
from minigluon.kernels import Kernels
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import operators
from minigluon.ops import optimizer, product_kernels

minigluon.ops.load()
GPU = mx.gpu(0)
rng = np.random.default_rng(0)


def torch_or_none():
    """PyTorch, if it can use a GPU here."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


torch = torch_or_none()


class Row:
    """One row of the table: what is run here and there, its bytes and its operations."""

    def __init__(self, name, ours, theirs=None, bytes=0, flops=0):
        self.name, self.ours, self.theirs, self.bytes, self.flops = name, ours, theirs, bytes, flops


def device(*shape, dtype="float16", scale=1.0):
    """Random numbers on the GPU, few of them different: what they are does not matter."""
    small = (rng.normal(size=min(int(np.prod(shape)), 1 << 16)) * scale).astype(dtype)
    size = int(np.prod(shape))
    there = put(small, GPU)
    many = np.concatenate([there] * -(-size // len(small))) if size > len(small) else there
    return many[:size].reshape(shape).copy()


def tensor(x, grad=False):
    """The same numbers in PyTorch."""
    found = x.get()
    if found.dtype.name == "bfloat16":  # NumPy's kind of it is not PyTorch's
        half = torch.as_tensor(found.astype("float32"), device="cuda").bfloat16()
        return half.requires_grad_(grad)
    return torch.as_tensor(found, device="cuda").requires_grad_(grad)


def half_kinds():
    """The half types: bfloat16 where ml_dtypes is installed."""
    try:
        import ml_dtypes
    except ImportError:
        return ["float16"]
    return ["float16", ml_dtypes.bfloat16]


def kernel(name):
    """The kernel of an operator."""
    op = operators[name]
    return getattr(op, "revealing", (op,))[0].kernel


def rows(tiny):
    """Paths over rows: softmax, cross-entropy, layer normalization."""
    r, c, d = (16, 64, 64) if tiny else (8192, 16384, 4096)
    x, g = device(r, c), device(r, c)
    n = x.nbytes
    label = put(rng.integers(0, c, r).astype("float32"), GPU)
    layers = x.reshape(-1, d)  # as wide as those of networks
    gamma, beta = (device(d, dtype="float32") for _ in "gb")
    p = kernel("softmax")(x)
    loss = kernel("sparse_softmax_cross_entropy")(x, label)
    one = np.ones_like(loss)
    y, _, _, m, s = kernel("LayerNorm")(layers, gamma, beta)
    t = theirs_rows(x, g, label, gamma, beta) if torch else {}
    make = lambda name, ours, bytes: Row(name, ours, t.get(name), bytes)
    yield make("softmax", lambda: kernel("softmax")(x), 2 * n)
    log = kernel("log_softmax")
    z = log(x)
    yield make("log-softmax", lambda: log(x), 2 * n)
    yield make("log-softmax backward", lambda: kernel("log_softmax_back")(g, z), 3 * n)
    yield make("softmax backward", lambda: kernel("softmax_back")(g, p), 3 * n)
    yield make("cross-entropy", lambda: kernel("sparse_softmax_cross_entropy")(x, label), n)
    yield make(
        "cross-entropy backward", lambda: kernel("cross_entropy_back")(one, x, loss, label), 2 * n
    )
    yield make("layer norm", lambda: kernel("LayerNorm")(layers, gamma, beta), 2 * n)
    back = lambda: kernel("norm_backward")(g.reshape(-1, d), layers, gamma, m, s, axis=1, along=1)
    yield make("layer norm backward", back, 3 * n)


def theirs_rows(x, g, label, gamma, beta):
    """The same in PyTorch, eager."""
    F = torch.nn.functional
    X, G, L = tensor(x), tensor(g), tensor(label).long()
    W, B = tensor(gamma).half(), tensor(beta).half()
    Xg, Wg, Bg = X.clone().requires_grad_(), W.clone().requires_grad_(), B.clone().requires_grad_()
    soft, loss = F.softmax(Xg, -1), F.cross_entropy(Xg, L, reduction="none")
    rows, by_rows = (a.view(-1, len(W)) for a in (Xg, G))
    norm, one = F.layer_norm(rows, W.shape, Wg, Bg), torch.ones_like(loss)
    back = lambda y, g, xs: lambda: torch.autograd.grad(y, xs, g, retain_graph=True)
    return {
        "softmax": lambda: F.softmax(X, -1),
        "log-softmax": lambda: F.log_softmax(X, -1),
        "log-softmax backward": back(F.log_softmax(Xg, -1), G, [Xg]),
        "softmax backward": back(soft, G, [Xg]),
        "cross-entropy": lambda: F.cross_entropy(X, L, reduction="none"),
        "cross-entropy backward": back(loss, one, [Xg]),
        "layer norm": lambda: F.layer_norm(X.view(-1, len(W)), W.shape, W, B),
        "layer norm backward": back(norm, by_rows, [rows, Wg, Bg]),
    }


def batch_norm(tiny):
    """Batch normalization in training."""
    shape = (2, 4, 4, 4) if tiny else (256, 64, 112, 112)
    x, g, c = device(*shape), device(*shape), shape[1]
    gamma, beta, mean = (device(c, dtype="float32") for _ in "gbm")
    var = np.abs(device(c, dtype="float32")) + 1
    arrays, n = (gamma, beta, mean, var), x.nbytes
    with autograd.train_mode():
        y, *saved = kernel("BatchNorm")(x, *arrays, fix_gamma=False)

    def forward():
        with autograd.train_mode():
            kernel("BatchNorm")(x, *arrays, fix_gamma=False)

    def backward():
        kernel("batch_norm_backward")(g, x, gamma, mean, var, *saved, fix_gamma=False)

    theirs = [None, None]
    if torch:
        layer, X = torch.nn.BatchNorm2d(c).cuda(), tensor(x, True)
        Y, G = layer(X), tensor(g)
        both = [X, *layer.parameters()]
        theirs = [
            lambda: layer(X.detach()),
            lambda: torch.autograd.grad(Y, both, G, retain_graph=True),
        ]
    yield Row("batch norm", forward, theirs[0], 3 * n)
    yield Row("batch norm backward", backward, theirs[1], 5 * n)


def planes(tiny):
    """Normalization over the planes of pictures, group and instance; pooling."""
    shape = (2, 4, 8, 8) if tiny else (96, 64, 112, 112)
    x, g = device(*shape, dtype="float32"), device(*shape, dtype="float32")
    gamma, beta = (device(shape[1], dtype="float32") for _ in "gb")
    few, n = [a[:2] for a in (gamma, beta)], x.nbytes
    y, m, r = (kernel("InstanceNorm")(x, gamma, beta)[i] for i in (0, -2, -1))
    over = {"axis": (0, 1), "exclude": True, "along": 1}
    window = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
    p = kernel("Pooling")(x, **window)
    back = p + 1
    theirs = [None] * 5
    if torch:
        F, X, W, B = torch.nn.functional, tensor(x, True), tensor(gamma, True), tensor(beta, True)
        Y, P, G, H = (
            F.instance_norm(X, weight=W, bias=B),
            F.max_pool2d(X, 3, 2, 1),
            tensor(g),
            tensor(back),
        )
        grad = lambda y, h: lambda: torch.autograd.grad(y, X, h, retain_graph=True)
        x_ = X.detach()
        theirs = [
            lambda: F.group_norm(x_, 2, W, B),
            lambda: F.instance_norm(x_, weight=W, bias=B),
            grad(Y, G),
            lambda: F.max_pool2d(x_, 3, 2, 1),
            grad(P, H),
        ]
    ours = {
        "group norm": (lambda: kernel("GroupNorm")(x, *few, num_groups=2), 2 * n),
        "instance norm": (lambda: kernel("InstanceNorm")(x, gamma, beta), 2 * n),
        "instance norm backward": (
            lambda: kernel("norm_backward")(g, x, gamma, m, r, **over),
            3 * n,
        ),
        "pooling": (lambda: kernel("Pooling")(x, **window), n + p.nbytes),
        "pooling backward": (lambda: kernel("pool_place")(back, x, **window), 2 * n + p.nbytes),
    }
    for (name, (call, moved)), other in zip(ours.items(), theirs):
        yield Row(name, call, other, moved)


class Chain(mx.gluon.HybridBlock):
    """Six calls number by number, in one pass."""

    def hybrid_forward(self, F, x, w):
        return F.tanh(x) * F.sigmoid(w) + F.relu(x - w) * 0.5


def chains(tiny):
    """A run of elementwise calls, fused, and with its gradient."""
    n = 4096 if tiny else 1 << 26
    x, w = (NDArray(device(n, dtype="float32"), GPU) for _ in "xw")
    net = Chain()
    net.hybridize()
    theirs = None
    if torch:
        X, W = (tensor(a._data) for a in (x, w))
        theirs = lambda: torch.tanh(X) * torch.sigmoid(W) + torch.relu(X - W) * 0.5
    yield Row("fused chain", lambda: net(x, w), theirs, 12 * n)


def updates(tiny):
    """Optimizers for many parameters."""
    sizes = [64, 3] if tiny else [1 << 20] * 90 + [1 << 12] * 200
    total = sum(sizes)
    for name, step, states, each in (
        ("SGD with momentum", optimizer.momentum_step, 1, 20),
        ("Adam", optimizer.adam_step, 2, 28),
    ):
        arrays = [[device(n, dtype="float32") for _ in range(2 + states)] for n in sizes]
        for a in arrays:
            a[2:] = [np.abs(s) for s in a[2:]]
        more = {"momentum": 0.9} if states == 1 else {}
        jobs = [(step, a, {"lr": 1e-6, "wd": 0.0, **more}) for a in arrays]
        theirs = None
        if torch:
            params = [torch.nn.Parameter(tensor(a[0])) for a in arrays]
            for p, a in zip(params, arrays):
                p.grad = tensor(a[1])
            kind = torch.optim.SGD if states == 1 else torch.optim.Adam
            theirs = kind(params, lr=1e-6, **more).step
        yield Row(name, lambda jobs=jobs: optimizer.run(list(jobs)), theirs, each * total)


def lookups(tiny):
    """Dropout and the gradient of an embedding."""
    n = 4096 if tiny else 1 << 27
    x = device(n)

    def drop():
        kernel("Dropout")(x, p=0.1, mode="always")

    X = tensor(x) if torch else None
    theirs = (lambda: torch.nn.functional.dropout(X, 0.1)) if torch else None
    yield Row("dropout", drop, theirs, 2 * x.nbytes)
    r, d, v = (64, 32, 50) if tiny else (131072, 1024, 50000)
    index = np.minimum(rng.zipf(1.2, r), v - 1).astype("float32")
    g, table = device(r, d), device(v, d)
    where = put(index, GPU)
    theirs = None
    if torch:
        W, I, G = tensor(table, True), tensor(where).long(), tensor(g)
        found = torch.nn.functional.embedding(I, W)
        theirs = lambda: torch.autograd.grad(found, W, G, retain_graph=True)
    yield Row(
        "embedding gradient",
        lambda: kernel("untake")(g, table, where),
        theirs,
        g.nbytes + table.nbytes,
    )
    rule, rows = operators["Embedding"].rules[1], len(np.unique(index))
    if torch:
        lookup = torch.nn.functional.embedding(I, W, sparse=True)
        # ours are the unique rows, summed
        theirs = lambda: torch.autograd.grad(lookup, W, G, retain_graph=True)[0].coalesce()
    sparse = lambda: rule(g, None, where, table, sparse_grad=True)
    yield Row("embedding gradient, rows", sparse, theirs, g.nbytes + rows * d * 2)


def products(tiny):
    """The ladder of matrix products, cuBLAS, and convolutions."""
    n = 64 if tiny else 4096
    a, b = device(n, n), device(n, n)
    single = a.astype("float32"), b.astype("float32")
    flops = 2 * n**3
    A, B = (tensor(a), tensor(b)) if torch else (None, None)
    theirs = (lambda: A @ B.T) if torch else None
    for step in product_kernels.LADDER:
        pair = (a, b) if step == "tensor" else single
        ours = lambda pair=pair, step=step: product_kernels.product(*pair, step)
        yield Row(f"product, {step}", ours, theirs if step == "tensor" else None, 0, flops)
    yield Row("product, cuBLAS fp16", lambda: np.matmul(a, b.T), theirs, 0, flops)
    yield from convolutions(tiny)
    yield from depthwise(tiny)


def convolutions(tiny):
    """3 x 3 windows forwards and backwards: tensor cores for halves, NHWC, and float, NCHW."""
    for kind in (*half_kinds(), "float32"):
        last = kind != "float32"
        shape, f = (
            ((2, 8, 8, 16), 8) if tiny else ((256, 56, 56, 64) if last else (64, 64, 56, 56), 64)
        )
        x, c = device(*shape, dtype=kind), shape[-1 if last else 1]
        w = device(*((f, 3, 3, c) if last else (f, c, 3, 3)), dtype=kind)
        name = f"{'NHWC' if last else 'NCHW'} {np.dtype(kind).name}"
        yield from convolution(name, x, w, device(f, dtype=kind), f, last)


def convolution(name, x, w, b, f, last):
    """Of one type: alone, with bias and ReLU, and both gradients."""
    same = {"kernel": (3, 3), "pad": (1, 1), "layout": "NHWC" if last else "NCHW"}
    settings = {**same, "num_filter": f, "no_bias": True}
    g = kernel("Convolution")(x, w, **settings)
    theirs = [None] * 4
    if torch:
        turned = lambda v: tensor(v).permute(0, 3, 1, 2) if last else tensor(v)
        picture, filters, G, B = turned(x), turned(w), turned(g), tensor(b)
        conv, grad = torch.nn.functional.conv2d, torch.nn.grad
        theirs = [
            lambda: conv(picture, filters, padding=1),
            lambda: torch.relu_(conv(picture, filters, B, padding=1)),
            lambda: grad.conv2d_input(picture.shape, filters, G, padding=1),
            lambda: grad.conv2d_weight(picture, filters.shape, G, padding=1),
        ]
    ours = {
        "": lambda: kernel("Convolution")(x, w, **settings),
        ", bias, ReLU": lambda: kernel("Convolution")(
            x, w, b, relu=True, **{**settings, "no_bias": False}
        ),
        ", picture": lambda: kernel("conv_data")(g, w, x, **same),
        ", weight": lambda: kernel("conv_weight")(g, x, **same),
    }
    flops = 2 * x.size * f * 9
    for (part, call), other in zip(ours.items(), theirs):
        yield Row(f"convolution {name}{part}", call, other, x.nbytes + g.nbytes, flops)


def depthwise(tiny):
    """A convolution with one filter a group, and the gradient of its weight."""
    n, c, h = (2, 4, 8) if tiny else (64, 128, 56)
    x, w = device(n, c, h, h, dtype="float32"), device(c, 1, 3, 3, dtype="float32")
    settings = {"kernel": (3, 3), "pad": (1, 1), "num_group": c}
    layer = lambda: kernel("Convolution")(x, w, num_filter=c, no_bias=True, **settings)
    theirs = [None, None]
    if torch:
        X, W = tensor(x), tensor(w)
        theirs = [
            lambda: torch.nn.functional.conv2d(X, W, padding=1, groups=c),
            lambda: torch.nn.grad.conv2d_weight(X, W.shape, X, padding=1, groups=c),
        ]
    yield Row("depthwise", layer, theirs[0], 2 * x.nbytes)
    weight = lambda: kernel("conv_weight")(x, x, **settings)
    yield Row("depthwise, weight", weight, theirs[1], 2 * x.nbytes)


def recurrent(tiny):
    """A layer whose weights fit into a block, and one whose weights do not;
    forwards, and with its gradients.
    """
    for kind, h in [("LSTM", h) for h in ((8, 80) if tiny else (64, 650, 1024))] + [
        ("GRU", 8 if tiny else 64)
    ]:
        t, n, gates = (3, 2, 4) if tiny else (35, 64, 4)
        gates = 4 if kind == "LSTM" else 3
        layer = getattr(mx.gluon.rnn, kind)(h, input_size=h)
        layer.initialize(ctx=GPU)
        x = mx.nd.array(rng.normal(size=(t, n, h)), ctx=GPU)

        def both(layer=layer, x=x):
            with autograd.record():
                total = layer(x).sum()
            total.backward()

        theirs = [None, None]
        if torch:
            lstm = getattr(torch.nn, kind)(h, h).cuda()
            X = torch.randn(t, n, h, device="cuda")
            theirs = [
                lambda lstm=lstm, X=X: lstm(X),
                lambda lstm=lstm, X=X: lstm(X)[0].sum().backward(),
            ]
        moved = t * n * h * 4
        flops = 4 * gates * t * n * h * h  # of two products, of the inputs and of the states
        forward = lambda layer=layer, x=x: layer(x)
        yield Row(f"{kind} of {h}", forward, theirs[0], 10 * moved, flops)
        yield Row(f"{kind} of {h}, gradients", both, theirs[1], 20 * moved, 3 * flops)


def transcripts(tiny):
    """CTC with its gradient: 64 recordings of 500 steps, 20 letters, few classes and many."""
    for c in (6,) if tiny else (32, 5000):
        t, n, letters = (8, 2, 3) if tiny else (500, 64, 20)
        z, label = device(t, n, c, dtype="float32"), rng.integers(1, c, (n, letters))
        said = put(label.astype("float32"), GPU)
        theirs = None
        if torch:
            Z, L = tensor(z, True), torch.as_tensor(label, device="cuda")
            sizes = [torch.full((n,), k, dtype=torch.long) for k in (t, letters)]

            def theirs(Z=Z, L=L, sizes=sizes, loss=torch.nn.functional.ctc_loss):
                torch.autograd.grad(loss(Z.log_softmax(2), L, *sizes, reduction="sum"), Z)

        moved = 3 * z.nbytes + 32 * t * n * (2 * letters + 1)
        yield Row(f"CTC, {c} classes", lambda z=z, s=said: kernel("CTCLoss")(z, s), theirs, moved)


def order(tiny):
    """The first few of long rows: the words of a language model."""
    r, c = (2, 300) if tiny else (256, 32768)
    x = device(r, c, dtype="float32")
    X = tensor(x) if torch else None
    for k in (5, 100):
        theirs = (lambda k=k: torch.topk(X, k)) if torch else None
        ours = lambda k=k: kernel("topk")(x, k=k, ret_typ="both")
        yield Row(f"top {k} of {c}", ours, theirs, x.nbytes + 8 * r * k)


def networks(tiny):
    """Whole training steps: a small network as graphs, ResNet-18, a word model of two LSTM layers."""
    theirs = torch_mlp() if torch else None
    yield Row("step of an MLP, as graphs", training(mlp(), (64, 784), 10), theirs)
    yield Row("step of an MLP, call by call", training(mlp(False), (64, 784), 10, False), theirs)
    yield Row("step of an MLP and its loss, one program", training(Whole(), (64, 784), 10), theirs)
    n, side, classes = (1, 32, 10) if tiny else (64, 224, 1000)
    for dtype in (np.dtype(half_kinds()[-1]).name, "float32"):
        net = mx.gluon.model_zoo.vision.resnet18_v1(classes=classes)
        net.cast(dtype)
        net.hybridize(static_alloc=True)
        theirs = torch_resnet(n, side, dtype) if torch else None
        ours = training(net, (n, 3, side, side), classes, dtype=dtype)
        yield Row(f"step of ResNet-18, {dtype}", ours, theirs)
    sizes = (3, 2, 8, 50) if tiny else (35, 64, 650, 10000)
    theirs = torch_words(*sizes) if torch else None
    yield Row("step of a word model", word_step(*sizes), theirs)


class WordModel(mx.gluon.HybridBlock):
    """A table of words, two LSTM layers, a score for each word."""

    def __init__(self, h, words):
        super().__init__()
        with self.name_scope():
            self.table = mx.gluon.nn.Embedding(words, h)
            self.lstm = mx.gluon.rnn.LSTM(h, num_layers=2, input_size=h)
            self.scores = mx.gluon.nn.Dense(words, flatten=False, in_units=h)

    def hybrid_forward(self, F, x):
        return self.scores(self.lstm(self.table(x)))


def word_step(t, n, h, words):
    """A step of the word model: forward, loss, backward, update."""
    net, loss = WordModel(h, words), mx.gluon.loss.SoftmaxCrossEntropyLoss()
    net.initialize(ctx=GPU)
    x, label = (mx.nd.array(rng.integers(0, words, (t, n)), ctx=GPU) for _ in "xl")
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3}, kvstore=None)

    def step():
        with autograd.record():
            total = loss(net(x), label)
        total.backward()
        trainer.step(n)

    return step


def torch_words(t, n, h, words):
    """The word model in PyTorch."""
    table, lstm = torch.nn.Embedding(words, h), torch.nn.LSTM(h, h, 2)
    net = torch.nn.ModuleList([table, lstm, torch.nn.Linear(h, words)]).cuda()
    x, label = (torch.randint(0, words, (t, n), device="cuda") for _ in "xl")
    net.forward = lambda x: net[2](net[1](net[0](x))[0])
    cross = torch.nn.functional.cross_entropy
    return torch_training(net, x, lambda y: cross(y.flatten(0, 1), label.flatten()))


def torch_resnet(n, side, dtype):
    """ResNet-18 of torchvision, where that is installed; all of it of one type, as ours."""
    try:
        from torchvision.models import resnet18
    except ImportError:
        return None
    label = torch.randint(0, 1000, (n,), device="cuda")
    kind = getattr(torch, dtype)
    x = torch.randn(n, 3, side, side, device="cuda", dtype=kind)
    cross = torch.nn.functional.cross_entropy
    return torch_training(resnet18().cuda().to(kind), x, lambda y: cross(y, label))


def mlp(static=True):
    """784-256-256-10."""
    net = mx.gluon.nn.HybridSequential()
    net.add(
        *[mx.gluon.nn.Dense(n, activation=a) for n, a in ((256, "relu"), (256, "relu"), (10, None))]
    )
    net.hybridize(static_alloc=static)
    return net


class Whole(mx.gluon.HybridBlock):
    """The MLP and its loss in one program: two launches a step in place of four."""

    def __init__(self):
        super().__init__()
        self.net, self.loss = mlp(), mx.gluon.loss.SoftmaxCrossEntropyLoss()
        self.hybridize(static_alloc=True)

    def hybrid_forward(self, F, x, label):
        return self.loss(self.net(x), label)


def training(net, shape, classes, static=True, dtype="float32"):
    """A step: forward, loss, backward, update."""
    net.initialize(ctx=GPU)
    x = mx.nd.array(rng.normal(size=shape), ctx=GPU).astype(dtype)
    label = mx.nd.array(rng.integers(0, classes, shape[0]), ctx=GPU)
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    loss.hybridize(static_alloc=static)
    total_of = net if type(net) is Whole else lambda x, label: loss(net(x), label)
    total_of(x, label)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3}, kvstore=None)

    def step():
        with autograd.record():
            total = total_of(x, label)
        total.backward()
        trainer.step(shape[0])

    return step


def torch_training(net, x, loss):
    """The same step in PyTorch."""
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3)

    def step():
        sgd.zero_grad()
        loss(net(x)).backward()
        sgd.step()

    return step


def torch_mlp():
    """The MLP in PyTorch, eager."""
    L, R = torch.nn.Linear, torch.nn.ReLU
    net = torch.nn.Sequential(L(784, 256), R(), L(256, 256), R(), L(256, 10)).cuda()
    label = torch.randint(0, 10, (64,), device="cuda")
    return torch_training(
        net,
        torch.randn(64, 784, device="cuda"),
        lambda y: torch.nn.functional.cross_entropy(y, label),
    )


GROUPS = (rows, batch_norm, planes, chains, updates, lookups, products, recurrent)
GROUPS += (transcripts, order, networks)


def seconds(call, own):
    """The best time of a call, of five rounds of at least 20 ms; `own` is CuPy or PyTorch's cuda."""
    call()
    wait = own.cuda.synchronize if own is torch else own.cuda.Device().synchronize
    wait()
    started = time.perf_counter()
    call()
    wait()
    repeat = max(1, min(200, int(0.02 / (time.perf_counter() - started + 1e-9))))
    best = float("inf")
    for _ in range(5):
        best = min(best, round_(call, repeat, own, wait))
    return best


def round_(call, repeat, own, wait):
    """Seconds a call in one round, by events where the library has them."""
    if own is not torch and not hasattr(own.cuda, "get_elapsed_time"):  # the stand-in has no clock
        started = time.perf_counter()
        for _ in range(repeat):
            call()
        wait()
        return (time.perf_counter() - started) / repeat
    first, last = (
        own.cuda.Event(enable_timing=True) if own is torch else own.cuda.Event() for _ in "fl"
    )
    first.record()
    for _ in range(repeat):
        call()
    last.record()
    last.synchronize()
    elapsed = first.elapsed_time(last) if own is torch else own.cuda.get_elapsed_time(first, last)
    return elapsed / 1e3 / repeat


def copy_bandwidth(tiny):
    """Bytes a second that a plain copy of 512 MiB moves, read and written."""
    x = device(1 << (12 if tiny else 28))
    y = np.empty_like(x)
    return 2 * x.nbytes / seconds(lambda: np.copyto(y, x), cupy_or_none())


def measured(path, bandwidth, peak):
    """One row of the table; an error of PyTorch is a part of it."""
    names = launched(path.ours)
    ours, theirs, more = seconds(path.ours, cupy_or_none()), None, {}
    try:
        theirs = seconds(path.theirs, torch) if path.theirs else None
    except Exception as error:
        more = {"pytorch_error": described(error)}
    floor = max(path.bytes / bandwidth, path.flops / peak)
    return {
        "path": path.name,
        "us": ours * 1e6,
        "floor_us": floor * 1e6,
        "reached": floor / ours if floor else None,
        "pytorch_us": theirs and theirs * 1e6,
        "against_pytorch": theirs and theirs / ours,
        "kernels": names,
        **more,
    }


def launched(call):
    """The names of the hand-written kernels that a call launches, each once."""
    names, launch = [], Kernels.__call__

    def noted(self, name, *args, **settings):
        names.append(name)
        launch(self, name, *args, **settings)

    Kernels.__call__ = noted
    try:
        call()
    finally:
        Kernels.__call__ = launch
    return sorted({*names})


def tf32():
    """Whether PyTorch's products and convolutions of float32 are of fewer digits than float32 has."""
    try:
        return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]
    except Exception as error:  # its versions name these settings differently
        return described(error)


def versions():
    """The device and the versions of everything."""
    cupy = cupy_or_none()
    name = "the stand-in: no hardware"
    if hasattr(cupy.cuda.runtime, "getDeviceProperties"):
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return {
        "device": name,
        "memory": gpu_memory_info(0)[1],
        "cupy": getattr(cupy, "__version__", cupy.__name__),
        "cuda": cupy.cuda.runtime.runtimeGetVersion()
        if hasattr(cupy.cuda.runtime, "runtimeGetVersion")
        else None,
        "pytorch": torch and torch.__version__,
        "pytorch_tf32": torch and tf32(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "minigluon": mx.__version__,
    }


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="sizes for the stand-in")
    parser.add_argument(
        "--peak", type=float, default=790e12, help="operations a second, fp16 tensor cores"
    )
    parser.add_argument("--only", default="", help="paths whose name contains this")
    parser.add_argument("--out", help="the JSON file")
    parser.add_argument("--resume", action="store_true", help="only what the file has not yet")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after")
    given = parser.parse_args()
    if not num_gpus():
        raise SystemExit("no GPU that CuPy can use: all of this is not yet measured on hardware")
    until = time.perf_counter() + given.seconds
    today = datetime.date.today().isoformat()
    out = Path(given.out or Path(__file__).parent / "results" / f"{today}-gpu.json")
    found = json.loads(out.read_text()) if given.resume and out.exists() else {}
    if not found:
        bandwidth = {"copy_bandwidth": copy_bandwidth(given.tiny), "peak": given.peak}
        found = {"date": today, **versions(), **bandwidth, "paths": []}
    give_up_on(found)
    speed = f"copies at {found['copy_bandwidth'] / 1e12:.2f} TB/s; PyTorch {found['pytorch']}"
    print(f"{found['device']}: {speed}")
    print(f"{'path':40s} {'us':>10s} {'floor':>10s} {'reached':>8s} {'PyTorch':>10s} {'ratio':>6s}")
    for path in paths(given.tiny, found, out):
        if time.perf_counter() > until:
            break
        if given.only in path.name:
            tried(path, found, out)


def give_up_on(found):
    """A row that was being measured when the last process ended has ended it."""
    if name := found.pop("measuring", None):
        found["paths"].append({"path": name, "error": "the process ended in it"})


def paths(tiny, found, out, groups=None):
    """The rows of all groups that have no result; a group that cannot be prepared becomes a row,
    and is tried again without PyTorch.
    """
    global torch
    theirs = torch
    for group in groups or GROUPS:
        if group.__name__ in {row["path"] for row in found["paths"]}:
            continue
        for own in dict.fromkeys((theirs, None)):
            torch = own
            done = {row["path"] for row in found["paths"]}
            try:
                begun(group.__name__, found, out)
                for path in group(tiny):
                    if path.name not in done:
                        yield path
                        begun(group.__name__, found, out)
                break
            except Exception as error:
                found["paths"].append({"path": group.__name__, "error": described(error)})
                print(f"{group.__name__}: {described(error)}", flush=True)
        torch = theirs
        found.pop("measuring", None)
    out.write_text(json.dumps(found, indent=1) + "\n")


def begun(name, found, out):
    """Write down what is being done, in case that it ends the process."""
    found["measuring"] = name
    out.write_text(json.dumps(found, indent=1) + "\n")


def tried(path, found, out):
    """Measure one row and write it, or its error, which ends the process if the card is lost."""
    begun(path.name, found, out)
    try:
        row = measured(path, found["copy_bandwidth"], found["peak"])
        print(line(row), flush=True)
    except Exception as error:
        row = {"path": path.name, "error": described(error)}
        print(f"{path.name}: {described(error)}", flush=True)
    found["paths"].append(row)
    del found["measuring"]
    out.write_text(json.dumps(found, indent=1) + "\n")
    if {"error", "pytorch_error"} & {*row}:
        cupy_or_none().cuda.Device().synchronize()


def described(error):
    """An error in a line."""
    return f"{type(error).__name__}: {error}"[:1000]


def line(row):
    """A row as text; a dash for what there is not."""
    show = lambda key, form: "-" if row[key] is None else format(row[key], form)
    cells = show("us", ".1f"), show("floor_us", ".1f"), show("reached", ".0%")
    cells += show("pytorch_us", ".1f"), show("against_pytorch", ".2f")
    return f"{row['path']:40s} " + " ".join(c.rjust(w) for c, w in zip(cells, (10, 10, 8, 10, 6)))


if __name__ == "__main__":
    main()
