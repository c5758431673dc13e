"""Planted bugs are found with their line, and sound kernels raise no alarm."""

from pathlib import Path

import numpy as np
import pytest

from minigluon import cuda_on_cpu
from minigluon.cuda_on_cpu import KernelError, RawModule, available, empty

pytestmark = pytest.mark.skipif(not available(), reason="no g++: kernels cannot run on the CPU")

HEAD = """extern "C" __global__ void k(const float* x, float* y, int n) {
int i = blockIdx.x * blockDim.x + threadIdx.x;
"""
SHARED = "__shared__ float s[128]; s[threadIdx.x] = x[i];\n"
MAIL = """__shared__ bool last;
if (threadIdx.x == 0) { y[1 + blockIdx.x] = x[i]; FENCE;
  last = atomicAdd((unsigned*)y, 1u) == gridDim.x - 1; }
__syncthreads();
if (last && threadIdx.x == 0) { float t = 0; for (int b = 0; b < gridDim.x; ++b) t += y[1 + b];
  y[9] = t; }"""

BUGS = {  # the body: what check mode says
    "y[i + 1] = x[i];": "out-of-bounds global",
    "y[i] = x[i + 1];": "out-of-bounds global",
    "y[i & 3] += x[i];": "global-memory race",
    "y[threadIdx.x] = x[i];": "global-memory race",
    "y[i] = x[i]; if (blockIdx.x) y[i] += y[threadIdx.x];": "global-memory race",
    SHARED + "y[i] = s[127 - threadIdx.x];": "shared-memory race",
    SHARED + "y[i] = s[threadIdx.x ^ 1];": "shared-memory race",
    "__shared__ float s[128]; s[threadIdx.x + (i == 5) * 123] = x[i];": "out of",
    "__shared__ float s[128]; y[i] = s[threadIdx.x];": "uninitialised shared",
    "if (threadIdx.x < 64) __syncthreads(); y[i] = x[i];": "divergent",
    "if (threadIdx.x < 64) {\n__syncthreads(); } else {\n__syncthreads(); }": "different barriers",
    "float v = x[i]; if (i & 1) v += __shfl_xor_sync(~0u, v, 2); y[i] = v;": "warp",
    "float4 v = *(const float4*)(x + 1 + 4 * (i & 7)); if (!i) y[i] = v.x;": "misaligned",
    "int big = (n << 20) * 16; y[i] = big;": "overflow",
    "float r[4]; for (int q = 0; q <= 4; ++q) r[(q + n) % 5] = x[i]; y[i] = r[0];": "out of",
    MAIL.replace("FENCE", ""): "global-memory race",
}
SOUND = [
    "y[i] = x[i];",
    "atomicAdd(&y[i & 3], x[i]);",
    SHARED + "__syncthreads(); y[i] = s[127 - threadIdx.x];",
    SHARED + "__syncwarp(); y[i] = s[threadIdx.x ^ 1];",
    MAIL.replace("FENCE", "__threadfence()"),
]


def run(body, **how):
    """Run a kernel of this body on 256 numbers, two blocks of 128 threads."""
    kernel = RawModule(code=HEAD + body + "\n}", **how).get_function("k")
    x, y = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
    kernel((2,), (128,), (x, y, np.int32(256)))
    return y


@pytest.mark.parametrize("body", BUGS)
def test_a_planted_bug_is_found(body):
    with pytest.raises(KernelError, match=BUGS[body]) as error:
        run(body, check=True)
    assert "kernel.cu:" in str(error.value) or "line" in str(error.value)


@pytest.mark.parametrize("order", [0, 1, 5])
@pytest.mark.parametrize("body", SOUND)
def test_no_false_alarm(body, order):
    run(body, check=True, order=order)


def test_memory_that_nobody_wrote():
    code = HEAD + "if (i < n) atomicAdd(&y[0], x[i]);\n}"
    kernel = RawModule(code=code, check=True).get_function("k")
    with pytest.raises(KernelError, match="uninitialised global"):
        kernel((1,), (32,), (np.ones(8, np.float32), empty(1), np.int32(8)))


def test_arguments_and_launches_that_a_gpu_would_misread():
    kernel = RawModule(code=HEAD + "y[i] = x[i];\n}").get_function("k")
    x, y, n = np.ones((16, 16), np.float32), np.zeros(256, np.float32), np.int32(256)
    wrong = [
        ((2,), (128,), (x.astype(float), y, n), "float64"),
        ((2,), (128,), (x.T, y, n), "contiguous"),
        ((2,), (128,), (x, y, 256), "np.int32"),
        ((2,), (128,), (x, y), "takes 3"),
        ((2,), (2048,), (x, y, n), "bad launch"),
        ((0,), (128,), (x, y, n), "bad launch"),
    ]
    for grid, block, args, says in wrong:
        with pytest.raises(KernelError, match=says):
            kernel(grid, block, args)
    with pytest.raises(KernelError, match="max_dynamic"):
        kernel((1,), (1,), (x, y, n), shared_mem=60000)


def test_shared_memory_that_a_kernel_declares_counts_as_well():
    code = """extern "C" __global__ void k(float* x) {
    extern __shared__ float room[];
    __shared__ float own[32];
    own[threadIdx.x] = room[threadIdx.x] = 1.f;
    x[threadIdx.x] = own[threadIdx.x] + room[threadIdx.x];
}"""
    kernel, x = RawModule(code=code).get_function("k"), np.zeros(32, np.float32)
    kernel((1,), (32,), (x,), shared_mem=49152 - 128)
    with pytest.raises(KernelError, match="too much shared memory: 49156 bytes, 49028 of them"):
        kernel((1,), (32,), (x,), shared_mem=49152 - 124)
    kernel.max_dynamic_shared_size_bytes = 65536
    kernel((1,), (32,), (x,), shared_mem=65536)
    assert x.tolist() == [2] * 32


def test_what_is_wrong_is_said(monkeypatch):
    with pytest.raises(KernelError, match="does not compile"):
        run("y[i] = fminf(x[i], INFINITY);")  # NVRTC does not know INFINITY either
    with pytest.raises(KernelError, match="no kernel 'other'"):
        RawModule(code=HEAD + "}").get_function("other")
    monkeypatch.setattr(cuda_on_cpu.shutil, "which", lambda name: None)
    with pytest.raises(KernelError, match="needs g\\+\\+"):
        cuda_on_cpu.gxx("--version")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc to count mappings in")
@pytest.mark.parametrize("check", [False, True])
def test_a_launch_gives_its_stacks_back(check):
    """A process has some 65,000 mappings; a thread that waits needs two."""
    code = 'extern "C" __global__ void wait(float* x) { __syncthreads(); x[threadIdx.x] = 1; }'
    kernel, x = RawModule(code=code, check=check).get_function("wait"), np.zeros(1024, np.float32)
    before = len(Path("/proc/self/maps").read_text().splitlines())
    kernel((1,), (1024,), (x,))
    assert (x == 1).all()
    assert len(Path("/proc/self/maps").read_text().splitlines()) < before + 200


def test_memory_given_back_is_not_unwritten_for_its_next_owner():
    from minigluon import cuda_on_cpu

    array = cuda_on_cpu.empty((16,))
    at = array.ctypes.data
    view = array[2:]
    del array
    assert at in cuda_on_cpu.unwritten  # a view has it still
    del view
    assert at not in cuda_on_cpu.unwritten
