"""NVRTC, the compiler that CuPy uses, by ctypes: it needs no GPU and no CuPy.

The library comes with a CUDA toolkit or with `pip install nvidia-cuda-nvrtc`; the headers of half types with a
toolkit or with `nvidia-cuda-runtime`. $MINIGLUON_NVRTC names the library where it is not found.
"""

import ctypes
import ctypes.util
import glob
import os
import re
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path


@cache
def library():
    """The NVRTC library, or None."""
    site = [sysconfig.get_paths()["purelib"], *sys.path]
    places = [os.environ.get("MINIGLUON_NVRTC"), ctypes.util.find_library("nvrtc")]
    for folder in site + ["/usr/local/cuda*/lib64", "/usr/local/cuda*/lib"]:
        for inside in ("nvidia/*/lib", "."):
            places += sorted(glob.glob(f"{folder}/{inside}/libnvrtc.so*"))
    for place in places:
        if place:
            try:
                for part in glob.glob(f"{Path(place).parent}/libnvrtc-builtins.so*"):
                    ctypes.CDLL(part)  # which NVRTC itself looks for on the loader's path only
                return ctypes.CDLL(place)
            except OSError:
                continue
    return None


@cache
def includes():
    """Folders with `cuda_fp16.h`."""
    site = sysconfig.get_paths()["purelib"]
    found = glob.glob("/usr/local/cuda*/include") + glob.glob(f"{site}/nvidia/*/include")
    return [f for f in found if Path(f, "cuda_fp16.h").exists()]


def available():
    """Whether kernels can be compiled for GPUs here."""
    return library() is not None and bool(includes())


def check(nvrtc, code, program=None):
    """Raise RuntimeError with the compiler's log unless `code` is 0."""
    if code:
        log = (
            text(nvrtc.nvrtcGetProgramLog, nvrtc.nvrtcGetProgramLogSize, program) if program else ""
        )
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(f"{nvrtc.nvrtcGetErrorString(code).decode()}\n{log}")


def text(get, size_of, program):
    """A text or binary that NVRTC gives in two calls."""
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    out = ctypes.create_string_buffer(size.value)
    get(program, out)
    return out.raw.rstrip(b"\0").decode(errors="replace")


def compiled(source, names, arch, options=()):
    """{kernel: (registers, bytes spilled, bytes of static shared memory)} of kernels for `sm_<arch>`."""
    nvrtc, program = library(), ctypes.c_void_p()
    made = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
    )
    check(nvrtc, made)
    try:
        for name in names:
            check(nvrtc, nvrtc.nvrtcAddNameExpression(program, name.encode()))
        flags = [f"-arch=sm_{arch}", "-std=c++17", "-ftz=true", "--ptxas-options=-v", *options]
        flags += ["--device-as-default-execution-space", *(f"-I{i}" for i in includes())]
        array = (ctypes.c_char_p * len(flags))(*[f.encode() for f in flags])
        check(nvrtc, nvrtc.nvrtcCompileProgram(program, len(flags), array), program)
        lowered = {}
        for name in names:
            at = ctypes.c_char_p()
            check(nvrtc, nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(at)))
            lowered[at.value.decode()] = name
        log = text(nvrtc.nvrtcGetProgramLog, nvrtc.nvrtcGetProgramLogSize, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return {lowered.get(name, name): cost for name, cost in costs(log)}


def costs(log):
    """What ptxas says of each entry."""
    for part in log.split("Compiling entry function '")[1:]:
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = re.search(r"(\d+) bytes smem", part)
        yield part.split("'")[0], (registers, spilled, int(shared[1]) if shared else 0)


def nvcc_version():
    """What `nvcc` says it is, or None."""
    try:
        return subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    except OSError:
        return None
