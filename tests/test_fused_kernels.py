"""Runs of elementwise calls in hybridized programs are one kernel on a GPU, and the program for NumPy is untouched."""

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import gpu_on_cpu
from minigluon.cuda_on_cpu import KernelError, available, inline_headers, kernels_folder
from minigluon.kernels import Kernels
from minigluon.ops import fused_kernels
from minigluon.ops.fused_kernels import EXPRESSIONS, Chain, text_of
from minigluon.symbol import hybrid
from tests import nvrtc

minigluon.ops.load()
on_cpu = pytest.mark.skipif(not available(), reason="no g++: kernels cannot run on the CPU")


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels launched on the stand-in, chains being made anew."""
    monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
    monkeypatch.setattr(fused_kernels, "chains", {})
    seen, launch = [], Kernels.__call__

    def counted(self, name, *args, **settings):
        seen.append(name)
        return launch(self, name, *args, **settings)

    monkeypatch.setattr(Kernels, "__call__", counted)
    return seen


CHAINS = {  # a function of two arrays, and how many chains its forward program has
    "arithmetic": (lambda F, x, w: (x + w) * (x - w) / (w * w + 1), 1),
    "functions": (lambda F, x, w: F.exp(-x * x) + F.tanh(w) * F.log1p(x * x) - F.expm1(w), 1),
    "bounds": (lambda F, x, w: F.maximum(x, w) * F.minimum(x, 0.5) + F.relu(w), 1),
    "activations": (lambda F, x, w: F.Activation(x, act_type="sigmoid") * F.sigmoid(w), 1),
    "two outputs": (lambda F, x, w: [F.sin(x) * w, F.cos(x) + F.sin(x)], 1),
    "two runs": (lambda F, x, w: F.exp(F.softmax(x * w + 1) * 2 - 1), 2),
    "roots": (lambda F, x, w: F.sqrt(F.abs(x) + 1) * F.square(w) + F.log(w * w + 2), 1),
    "one call": (lambda F, x, w: F.exp(F.dot(x, w, transpose_b=True)), 0),
    "another shape": (lambda F, x, w: F.broadcast_add(x * w, F.sum(w, axis=1, keepdims=True)), 0),
}


class Net(mx.gluon.HybridBlock):
    """A function of two arrays as a block."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def hybrid_forward(self, F, x, w):
        return self.function(F, x, w)


def answers(function, ctx, dtype, shape):
    """Outputs, gradients of both arrays."""
    net = Net(function)
    net.hybridize()
    rng = np.random.default_rng(0)
    x, w = (mx.nd.array(rng.normal(size=shape), ctx=ctx, dtype=dtype) for _ in "xw")
    x.attach_grad()
    w.attach_grad()
    with mx.autograd.record():
        out = net(x, w)
    out = out if isinstance(out, list | tuple) else [out]
    mx.autograd.backward(list(out))
    return [a.asnumpy().astype("float32") for a in (*out, x.grad, w.grad)]


@on_cpu
@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 5), "float32"), ((4, 16), "float16")], ids=["odd", "wide"]
)
@pytest.mark.parametrize("name", CHAINS)
def test_chains_compute_what_their_calls_do(name, shape, dtype, launched, monkeypatch):
    monkeypatch.setitem(gpu_on_cpu.how, "check", shape == (3, 5))
    function, count = CHAINS[name]
    there = answers(function, mx.gpu(0), dtype, shape)
    here = answers(function, mx.cpu(), dtype, shape)
    tolerance = 2e-5 if dtype == "float32" else 1e-2
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    made = [c for c in launched if c.startswith("chain")]
    assert len(made) >= count and (count or name == "another shape" or len(made) <= 1)


def test_the_program_for_numpy_is_untouched(launched):
    answers(CHAINS["arithmetic"][0], mx.cpu(), "float32", (3, 5))
    assert launched == [] and fused_kernels.chains == {}


@on_cpu
def test_other_types_have_no_chains(launched):
    there = answers(CHAINS["arithmetic"][0], mx.gpu(0), "float64", (3, 5))
    here = answers(CHAINS["arithmetic"][0], mx.cpu(), "float64", (3, 5))
    assert not any(c.startswith("chain") for c in launched)
    for a, b in zip(there, here):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@on_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chains_made_for_a_cpus_cache_stay_there(dtype, launched, monkeypatch):
    monkeypatch.setattr(hybrid, "FUSED", 1)  # chapter 22's chains, on small arrays as well
    there = answers(CHAINS["arithmetic"][0], mx.gpu(0), dtype, (3, 5))
    here = answers(CHAINS["arithmetic"][0], mx.cpu(), dtype, (3, 5))
    for a, b in zip(there, here):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert bool(launched) == (dtype == "float32")


@on_cpu
def test_nan_is_carried_on(launched):
    f = lambda F, x, w: F.maximum(x, w) + F.relu(x) * 0
    net = Net(f)
    net.hybridize()
    x = mx.nd.array([np.nan, 1.0, -np.inf, np.nan], ctx=mx.gpu(0))
    y = net(x, mx.nd.zeros(4, ctx=mx.gpu(0))).asnumpy()
    assert np.isnan(y[[0, 3]]).all() and y[1] == 1
    assert launched


@on_cpu
def test_a_chain_that_does_not_compile_says_so(launched):
    x = gpu_on_cpu.asarray(np.ones(4, "float32"))
    with pytest.raises(mx.MXNetError, match="chain<4> of a fused program cannot be compiled"):
        Chain("float", ("const float v0 = nonsense(a0);",), 1, ("v0",)).run(x)


@on_cpu
def test_a_loop_too_long_is_found(launched, monkeypatch):
    monkeypatch.setitem(gpu_on_cpu.how, "check", True)
    chain = Chain("float", ("const float v0 = a0;",), 1, ("v0",))
    chain.text = chain.text.replace("i < packs", "i <= packs")
    with pytest.raises((KernelError, mx.MXNetError), match="out-of-bounds"):
        chain.run(gpu_on_cpu.asarray(np.ones(7, "float32")))


@pytest.mark.skipif(not nvrtc.available(), reason="no NVRTC: pip install 'minigluon[nvrtc]'")
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("kind", ["float", "__half", "__nv_bfloat16"])
def test_every_expression_compiles_for_a_gpu(kind, arch):
    lines, names = [], []
    for i, form in enumerate(EXPRESSIONS.values()):
        lines.append(f"const float v{i} = {form.format('a0', 'a1')};")
        names.append(f"v{i}")
    total = f"const float total = {' + '.join(names)};"
    text = text_of(kind, (*lines, total), 2, ("total",))
    wide = 4 if kind == "float" else 8
    found = nvrtc.compiled(
        inline_headers(text, kernels_folder()), ["chain<1>", f"chain<{wide}>"], arch
    )
    assert len(found) == 2 and all(spilled == 0 for _, spilled, _ in found.values())
