"""CUDA text compiled at run time, on the CPU's runner and on the stand-in for a GPU."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import cuda_on_cpu, gpu_on_cpu, nd, rtc

pytestmark = pytest.mark.skipif(not cuda_on_cpu.available(), reason="no g++ to compile kernels")

AXPY = """
extern "C" __global__ void axpy(const float *x, float *y, float alpha) {
    int i = threadIdx.x + blockIdx.x * blockDim.x;
    y[i] += alpha * x[i];
}
"""
SIGNATURE = "const float *x, float *y, float alpha"


@pytest.fixture(params=["cpu", "gpu"])
def ctx(request, monkeypatch):
    """The CPU, and a GPU made of NumPy."""
    if request.param == "gpu":
        monkeypatch.setenv("MINIGLUON_CUPY", "minigluon.gpu_on_cpu")
        monkeypatch.setattr(gpu_on_cpu.cuda, "is_available", lambda: True)
        return mx.gpu(0)
    return mx.cpu(0)


@pytest.mark.parametrize(
    "signature",
    [SIGNATURE, "const float *, float *, float", " const  float*x ,float* y,float  alpha "],
)
def test_axpy(ctx, signature):
    kernel = mx.rtc.CudaModule(AXPY).get_kernel("axpy", signature)
    x, y = nd.ones((10,), ctx=ctx), nd.zeros((10,), ctx=ctx)
    kernel.launch([x, y, 3], ctx, (1, 1, 1), (10, 1, 1))
    assert (y.asnumpy() == 3).all()
    kernel.launch((x, y, np.float32(2)), ctx, (2, 1, 1), (5, 1, 1))
    assert (y.asnumpy() == 5).all()


def test_a_view_with_gaps_is_read_and_written(ctx):
    kernel = mx.rtc.CudaModule(AXPY).get_kernel("axpy", SIGNATURE)
    x, y = nd.arange(12, ctx=ctx).reshape((3, 4)).T, nd.ones((3, 4), ctx=ctx).T
    kernel.launch([x, y, 2.0], ctx, (1, 1, 1), (12, 1, 1))
    assert (y.asnumpy() == 1 + 2 * np.arange(12).reshape(3, 4).T).all()


@pytest.mark.parametrize("kind", rtc.TYPES)
def test_every_type(kind):
    code = f'#include <cuda_fp16.h>\nextern "C" __global__ void put(const {kind} *x, {kind} *y, {kind} a)'
    code += "{ y[threadIdx.x] = threadIdx.x ? x[threadIdx.x] : a; }"
    code = "typedef signed char int8_t;\n" + code if kind == "int8_t" else code
    code = code.replace("char ", "signed char ") if kind == "char" else code
    kernel = mx.rtc.CudaModule(code).get_kernel("put", f"const {kind} *x, {kind} *y, {kind} a")
    x = nd.arange(1, 5, dtype=rtc.TYPES[kind])
    y = x.zeros_like()
    kernel.launch([x, y, 7], mx.cpu(), (1, 1, 1), (4, 1, 1))
    assert y.asnumpy().tolist() == [7, 2, 3, 4] and y.dtype == rtc.TYPES[kind]


def test_options_exports_and_shared_memory():
    code = """
    template <class T> __global__ void reverse(T *x) {
        extern __shared__ float s[];
        s[threadIdx.x] = x[threadIdx.x] * TIMES;
        __syncthreads();
        x[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
    }
    extern "C" { __global__ void one(float *x) { x[0] = 1; } }
    """
    module = mx.rtc.CudaModule(code, options=["-DTIMES=2"], exports=["reverse<float>"], check=True)
    x = nd.arange(8)
    module.get_kernel("reverse<float>", "float *x").launch([x], mx.cpu(), (1, 1, 1), (8, 1, 1), 32)
    assert x.asnumpy().tolist() == [14, 12, 10, 8, 6, 4, 2, 0]
    module.get_kernel("one", "float *x").launch([x], mx.cpu(), (1, 1, 1), (1, 1, 1))
    assert x[0] == 1


@pytest.mark.parametrize(
    "signature, error, says",
    [
        ("flot *x", TypeError, "Unsupported kernel argument type flot"),
        ("float **x", ValueError, "Invalid function prototype"),
        ("", ValueError, "Invalid function prototype"),
        ("float *x, unsigned int n", ValueError, "unsigned int n"),
        ("const float* __restrict__ x", ValueError, "__restrict__"),
    ],
)
def test_signatures_that_are_none(signature, error, says):
    with pytest.raises(error, match=says.replace("*", r"\*")):
        mx.rtc.CudaModule(AXPY).get_kernel("axpy", signature)


def test_wrong_launches_change_nothing():
    module = mx.rtc.CudaModule(AXPY)
    kernel = module.get_kernel("axpy", SIGNATURE)
    x, y = nd.ones(4), nd.zeros(4)
    one, four = (1, 1, 1), (4, 1, 1)
    for args, ctx, grid, error, says in [
        ([x, y], mx.cpu(), one, AssertionError, "expects 3 arguments but got 2"),
        ([x, y, x], mx.cpu(), one, AssertionError, "argument 2 .float alpha. must be a number"),
        (
            [x, 1.0, 2.0],
            mx.cpu(),
            one,
            AssertionError,
            "argument 1 .* must be an NDArray, got float",
        ),
        (
            [x.astype("int32"), y, 2.0],
            mx.cpu(),
            one,
            AssertionError,
            "must be of float32, got int32",
        ),
        ([x, y, 2.0], mx.cpu(1), one, AssertionError, r"is on cpu\(0\), the launch on cpu\(1\)"),
        ([x, y, 2.0], mx.cpu(), (1, 1), AssertionError, "grid_dims must be a tuple of 3"),
        ([x, y, 2.0], mx.cpu(), (1, 70000, 1), mx.MXNetError, "bad launch"),
    ]:
        with pytest.raises(error, match=says):
            kernel.launch(args, ctx, grid, four)
    lying = module.get_kernel("axpy", "const float *x, float *y, int alpha")
    with pytest.raises(mx.MXNetError, match="the kernel wants f4"):
        lying.launch([x, y, 2], mx.cpu(), one, four)
    assert (y.asnumpy() == 0).all()


def test_text_that_does_not_compile_and_names_that_are_not_there():
    with pytest.raises(mx.MXNetError, match="the kernel f cannot be compiled:[^$]*expected"):
        mx.rtc.CudaModule('extern "C" __global__ void f(float *x) { x[0] = 1 }')
    module, x, y = mx.rtc.CudaModule(AXPY), nd.ones(1), nd.ones(1)
    with pytest.raises(mx.MXNetError, match="nowhere"):
        module.get_kernel("nowhere", "float *x").launch([x], mx.cpu(), (1, 1, 1), (1, 1, 1))
    module.get_kernel("axpy", SIGNATURE).launch([x, y, 2], mx.cpu(), (1, 1, 1), (1, 1, 1))
    assert y[0] == 3


def test_a_write_out_of_bounds_is_named():
    kernel = mx.rtc.CudaModule(AXPY, check=True).get_kernel("axpy", SIGNATURE)
    with pytest.raises(mx.MXNetError, match=r"kernel\.cu:4"):
        kernel.launch([nd.ones(4), nd.ones(4), 1], mx.cpu(), (1, 1, 1), (5, 1, 1))
