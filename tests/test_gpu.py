"""The tables of operators, kernels, layers and optimizers on a GPU, against the CPU: `pytest -m gpu -n0`.

Without a GPU everything here is skipped, which says nothing about the hardware. MINIGLUON_CUPY=minigluon.gpu_on_cpu
runs it on the stand-in, to test the tests.
"""

import warnings
import zlib

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import autograd, context
from minigluon.context import OutOfMemory, cupy_or_none, gpu_memory_info, num_gpus, put
from minigluon.kernels import Kernels
from minigluon.op import operators
from minigluon.ops import optimizer
from tests import optimizer_table
from tests.cases import ROWS
from tests.reference import golden_layers, golden_rnn
from tests.test_graphs import NETS, captures, history
from tests.test_kernels import CASES, listed, plain, read, widened
from tests.test_ops import shares

minigluon.ops.load()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        num_gpus() == 0, reason="no GPU that CuPy can use: nothing was tested on hardware"
    ),
]
GPU = mx.gpu(0)


def on_gpu(x):
    """`x` with NumPy's arrays inside in the memory of the GPU."""
    if isinstance(x, np.ndarray):
        return put(x, GPU)
    return [on_gpu(part) for part in x] if isinstance(x, list | tuple) else x


def back(x):
    """An array of the GPU as one of NumPy."""
    return x.get() if hasattr(x, "get") else np.asarray(x)


def close(got, want, tolerance):
    """Arrays, or lists of them, within a tolerance."""
    for g, w in zip(listed(got), listed(want), strict=True):
        if w is None:
            continue
        g, w = (np.asarray(back(a), "float64") for a in (g, w))
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


def narrowed(row, dtype):
    """The arrays of a row, its floating ones in another type."""
    return [
        a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
        for a in row.arrays
    ]


DRAWS = {op.name for op in operators.values() if "rng" in op.settings}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_operator(row, dtype):
    """Value and gradients by the rules.

    In float32 the hand-written kernels run, where there are some.
    """
    op = operators[row.op]
    if not row.arrays or row.op in DRAWS:
        pytest.skip("draws its numbers, or makes them out of nothing: on the CPU")
    arrays = narrowed(row, dtype)
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    fresh = lambda: [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
    want = op(*fresh(), **row.settings)  # some operators change their arrays
    got = op(*on_gpu(fresh()), **row.settings)
    assert all(not isinstance(g, np.ndarray) for g in listed(got)), f"{row.op} left its device"
    close(got, want, tolerance)
    if row.differentiable:
        op = getattr(op, "revealing", (op,))[-1]
        arrays, there = fresh(), on_gpu(fresh())
        y, z = (op.kernel(*a, **row.settings) for a in (arrays, there))
        g = [np.ones_like(o) for o in y[: op.visible]] if isinstance(y, tuple) else np.ones_like(y)
        here = shares(op, g, y, arrays, row.settings, row.differentiable)
        found = shares(op, on_gpu(g), z, there, row.settings, row.differentiable)
        at = row.differentiable
        close([found[i] for i in at], [here[i] for i in at], tolerance * 10)


@pytest.mark.parametrize("case", CASES)
def test_kernel(case):
    """Each hand-written kernel against NumPy on the CPU, on hardware."""
    name, make, settings = CASES[case]
    op, arrays, own = operators[name], make(), make()
    kind = arrays[0].dtype.name
    tolerance = {"float16": 4e-3, "bfloat16": 3e-2}.get(kind, 1e-4)
    there = [on_gpu(a) for a in arrays]
    wide = widened(own)
    with autograd.train_mode(), np.errstate(divide="ignore"):
        got, want = op.kernel(*there, **settings), plain(op, wide, settings)
        close(read(name, got, settings), read(name, want, settings), tolerance)
    close(there, wide, tolerance)


@pytest.mark.parametrize("hybrid", [False, True], ids=["eager", "hybrid"])
@pytest.mark.parametrize("name", golden_layers.LAYERS)
def test_layer(name, hybrid):
    make, shape = golden_layers.LAYERS[name]
    want, _ = golden_layers.observe(mx, make, shape, hybrid)
    with GPU:
        got, _ = golden_layers.observe(mx, make, shape, hybrid)
    if "Dropout" in make:  # each context draws its own numbers
        got, want = got[-1:], want[-1:]
    close(got, want, 1e-3)


@pytest.mark.parametrize("hybrid", [False, True], ids=["eager", "hybrid"])
@pytest.mark.parametrize("name", golden_layers.NETWORKS)
def test_network_trains(name, hybrid):
    make, *more = golden_layers.NETWORKS[name]

    def losses():
        net = make(mx)
        if hybrid:
            net.hybridize()
        return [np.asarray(a) for a in golden_layers.train(mx, net, *more)]

    want = losses()
    with GPU:
        got = losses()
    close(got, want, 1e-2)


@pytest.mark.parametrize("case", golden_rnn.CASES, ids=repr)
def test_recurrent(case):
    want = golden_rnn.answers(mx, *case)
    with GPU:
        got = golden_rnn.answers(mx, *case)
    close(list(got), list(want), 1e-3)


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [(kind, *case) for kind, cases in optimizer_table.KINDS.items() for case in cases],
    ids=repr,
)
def test_optimizer(kind, name, settings):
    if name == "sgld":
        pytest.skip("draws its numbers")
    want = optimizer_table.run(mx, kind, name, settings)
    with GPU:
        got = optimizer_table.run(mx, kind, name, settings)
    close(got, want, 1e-2 if kind == "half" else 1e-4)


@pytest.mark.parametrize("name", NETS)
def test_graph(name):
    """Programs as CUDA graphs, with their random numbers, against the same programs call by call."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # what cannot be captured
        got, net = history(*NETS[name], GPU, static_alloc=True)
    want, _ = history(*NETS[name], GPU, active=True)
    close(got, want, 1e-3)
    assert all(c.runs and not c.refused for c in captures(net))


def rows_beyond():
    """How many rows of 1024 make more than 2^31 numbers; a few on the stand-in, to try the tests."""
    if cupy_or_none().__name__ != "cupy":
        return 3
    if gpu_memory_info(0)[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free memory on the GPU")
    return (1 << 21) + 1


def last_row(x, **settings):
    """What softmax and its like make of a row."""
    return lambda name: (
        operators[name](x, **settings)[-1:],
        operators[name](back(x[-1:]), **settings),
    )


def chained(x):
    """A fused chain."""
    net = Chain()
    net.hybridize()
    return net(mx.nd.NDArray(x, GPU))._data[-1:], np.tanh(back(x[-1:])) * 2 + 1


class Chain(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return F.tanh(x) * 2 + 1


def normalized(x):
    one = [put(np.full(1024, v, "float32"), GPU) for v in (2, 1)]
    y = operators["LayerNorm"].kernel(x, *one)[0][-1:]
    return y, operators["LayerNorm"].kernel(back(x[-1:]), *map(back, one))[0]


def dropped(x):
    y = back(operators["Dropout"].kernel(x + 1, p=0.5, mode="always")[0][-1:])
    kept = y != 0
    assert 300 < kept.sum() < 700
    return y, kept * 2 * (back(x[-1:]) + 1)


def pooled(x):
    window = {"kernel": (2, 2), "stride": (1, 1)}
    pool = operators["Pooling"].kernel
    return pool(x[None, None], **window)[0, 0, -1], pool(back(x[None, None, -2:]), **window)[
        0, 0, -1
    ]


def updated(x):
    w, g = x.copy(), x
    optimizer.run([(optimizer.sgd_step, (w, g), {"lr": 0.5})])
    return w[-1], back(x[-1]) / 2


BEYOND = {
    "softmax": lambda x: last_row(x)("softmax"),
    "log_softmax": lambda x: last_row(x)("log_softmax"),
    "topk": lambda x: last_row(x, k=3, ret_typ="value")("topk"),
    "chain": chained,
    "layer norm": normalized,
    "dropout": dropped,
    "pooling": pooled,
    "update": updated,
}


@pytest.mark.parametrize("case", BEYOND)
def test_more_than_two_to_the_31_numbers(case):
    """What is made of the last row, which begins beyond 2^31, of an array of half precision."""
    x = put(np.zeros((1, 1024), "float16"), GPU)
    x = np.zeros_like(x, shape=(rows_beyond(), 1024))
    x[-1, ::7] = 5
    x[-1, 3] = -2
    got, want = BEYOND[case](x)
    close(got, want, 4e-3)


def test_memory():
    free, total = gpu_memory_info(0)
    assert 0 < free <= total
    if cupy_or_none().__name__ == "cupy":
        with pytest.raises(OutOfMemory, match="bytes asked for"):
            mx.nd.array(np.zeros(1, "float32"), ctx=GPU)._data.repeat(total)
    GPU.empty_cache()


def test_a_broken_kernel_is_named(monkeypatch):
    from minigluon import cuda_on_cpu

    monkeypatch.setattr(cuda_on_cpu, "source", lambda name: "nonsense " + str(zlib.crc32(b"x")))
    monkeypatch.setattr(Kernels.files["softmax"], "loaded", {})
    with pytest.raises(mx.MXNetError, match=r"softmax<float, 1, true> of kernels/softmax.cu"):
        Kernels.files["softmax"]("softmax<float, 1, true>", (1,), (32,))


def test_contexts_do_not_mix():
    with pytest.raises(mx.MXNetError, match="number 1 on a GPU, number 2 on the CPU"):
        mx.nd.ones(2, ctx=GPU) + mx.nd.ones(2)
    assert context.num_gpus() >= 1
