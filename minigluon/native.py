"""One walk over memory where NumPy takes ten: the same operators as loops, compiled where there is a compiler."""

# Written from chapters/96h_loops.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
import os
import platform
import shutil
import sys
import warnings
from ctypes import addressof
from functools import cache, wraps
from pathlib import Path

import numpy as np

from minigluon.cores import byte, openblas

__all__ = [
    "FLAGS",
    "IN_PLACE",
    "Loops",
    "as_c",
    "blas_flags",
    "both_ways",
    "build",
    "by_numpy",
    "called",
    "compiled",
    "gemm",
    "getenv",
    "missing",
    "native",
    "place",
    "preferred",
    "processor",
    "quick_getenv",
]


# --- Code: from a file to a call ------------------------------------------------------------------

FLAGS = ["-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fno-exceptions", "-fno-rtti"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast"]
FLAGS += ["-fopenmp-simd"]  # sums in the order of vectors, where a text says so; no threads
FLAGS += ["-Wl,-undefined,dynamic_lookup"] * (sys.platform == "darwin")  # Python's own names


def quick_getenv():
    """The C library's function that tells an environment variable's value: it takes 0.2 µs
    to say that there is none, `os.environ` 1.6.
    """
    if os.name == "nt":
        return lambda name: os.environ.get(name.decode(), "").encode()
    getenv = ctypes.PyDLL(None).getenv
    getenv.argtypes, getenv.restype = [ctypes.c_char_p], ctypes.c_char_p
    return getenv


getenv = quick_getenv()


class Loops:
    """The functions of `kernels/cpu/<file>.cpp`, compiled for this machine when the first one is
    called.
    """

    def __init__(self, file):
        self.file = file

    def __bool__(self):
        """Whether there are any: a compiler, and nobody who forbids it."""
        return getenv(b"MINIGLUON_NATIVE") != b"0" and compiled(self.file) is not None

    def __call__(self, name, *args):
        """Call a function with arrays, which lie in a row in memory, whole numbers, floats and None."""
        getattr(compiled(self.file), name)(*map(as_c, args))


@cache
def compiled(file):
    """The library of a file; None, with a warning if the compiler refuses, where there is none."""
    from minigluon import cuda_on_cpu as cpu  # it is not cheap, and few programs come here

    compiler = shutil.which("g++")
    if compiler is None:
        return None
    folder = cpu.kernels_folder() / "cpu"
    text = cpu.inline_headers((folder / f"{file}.cpp").read_text(), folder)
    flags, status = [*FLAGS, *blas_flags()], os.stat(compiler)
    name = cpu.digest(text, *flags, compiler, status.st_size, status.st_mtime_ns, processor())
    try:
        path = cpu.once(cpu.cache_folder() / f"{name}.so", lambda to: build(text, flags, to))
        return ctypes.CDLL(str(path))
    except (OSError, cpu.KernelError) as error:
        warnings.warn(
            f"kernels/cpu/{file}.cpp goes unused, NumPy's way is taken: {error}", stacklevel=2
        )
        return None


def build(text, flags, to):
    """Compile a text into the library `to`."""
    from minigluon.cuda_on_cpu import gxx

    source = to.with_suffix(".cpp")
    source.write_text(text)
    try:
        gxx(*flags, source, "-o", to)
    finally:
        source.unlink()


def processor():
    """What tells one kind of processor from another:
    the instructions that it knows, where the system says so.
    """
    try:
        told = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    known = [
        line for line in told if line.startswith(("model name", "flags", "Features", "CPU part"))
    ]
    return "\n".join(sorted({*known}))


def as_c(x):
    """An argument as C takes it: an array by its place, a whole number in 64 bits,
    any other number as a float.
    """
    if isinstance(x, np.ndarray):
        if not x.flags.c_contiguous:
            raise ValueError(
                f"an array of shape {x.shape} and strides {x.strides} does not lie in a row"
            )
        return ctypes.c_void_p(place(x))
    if x is None or isinstance(x, ctypes.c_void_p):
        return x
    return ctypes.c_int64(x) if isinstance(x, int) else ctypes.c_float(x)


def place(x):
    """Where an array begins."""
    try:
        return addressof(byte(x))
    except (TypeError, ValueError):  # it is for reading only, or empty
        return x.ctypes.data


@cache
def gemm():
    """The place of OpenBLAS's product of single precision, which NumPy brings along;
    None where it has another library.
    """
    library, a, z = openblas() or (None, "", "")
    found = getattr(library, f"{a}cblas_sgemm{z}", None)
    return None if found is None else ctypes.cast(found, ctypes.c_void_p)


# kernels of OpenBLAS that read small matrices where they lie
IN_PLACE = {"SkylakeX", "Cooperlake", "SapphireRapids"}


def blas_flags():
    """What tells a loop how wide OpenBLAS's numbers are, and up
    to how many multiplications it copies nothing.
    """
    library, a, z = openblas() or (None, "", "64_")
    name = getattr(library, f"{a}openblas_get_corename{z}", bytes)
    if library is not None:
        name.restype = ctypes.c_char_p
    in_place = name().decode() in IN_PLACE
    return ([] if z else ["-DBLAS_INT=int"]) + ["-DIN_PLACE=1000000"] * in_place


def native(op, least=0, kind="f"):
    """Make a function the kernel of `op` for NumPy's arrays of single precision, or of the types
    in `kind`, as a decorator.

    A first array of fewer numbers than `least` goes NumPy's way: a call from Python into C takes
    some microseconds. A second function takes the place of the first.
    """

    def decorate(function):
        for face in {op, *getattr(op, "revealing", ())}:
            before = face.plain
            loop, numpys = getattr(face, "loop", (None, None))
            plain = numpys if before is loop else before
            face.plain = preferred(plain, function, face, least, kind)
            face.loop = face.plain, plain
            if face.kernel is before:
                face.kernel = face.plain
        return function

    return decorate


def preferred(plain, function, op, least, kind):
    """`function` for what it can do, `plain` for the rest."""

    @wraps(plain)
    def kernel(*arrays, **settings):
        x = arrays[0]
        if type(x) is np.ndarray and x.size >= least and x.dtype.char in kind:
            own = arrays[: op.most]
            told = {**op.defaults, **dict(zip(op.settings, arrays[op.most :])), **settings}
            if (out := function(*own, **told)) is not NotImplemented:
                return out
        return plain(*arrays, **settings)

    kernel.plain = plain
    return kernel


# --- At once --------------------------------------------------------------------------------------


def missing():
    """Why there are no loops here; None where there are."""
    if os.environ.get("MINIGLUON_NATIVE") == "0":
        return "MINIGLUON_NATIVE=0 forbids the loops of kernels/cpu"
    return None if shutil.which("g++") else "the loops of kernels/cpu want a C++ compiler, g++"


def called(run):
    """What `run` gives, and the names of the loops that it calls, in order."""
    names, plain = [], Loops.__call__

    def call(self, name, *args):
        names.append(name)
        return plain(self, name, *args)

    Loops.__call__ = call
    try:
        return run(), names
    finally:
        Loops.__call__ = plain


def by_numpy(run):
    """What `run` gives without loops."""
    before = os.environ.get("MINIGLUON_NATIVE")
    os.environ["MINIGLUON_NATIVE"] = "0"
    try:
        return run()
    finally:
        if before is None:
            del os.environ["MINIGLUON_NATIVE"]
        else:
            os.environ["MINIGLUON_NATIVE"] = before


def both_ways(run):
    """What `run` gives by loops, and by NumPy.

    Raises AssertionError if it calls no loop, but warns where there is none.
    """
    found, names = called(run)
    if reason := missing():
        warnings.warn(f"NumPy is compared with itself: {reason}", stacklevel=2)
    elif not names:
        raise AssertionError("NumPy is compared with itself: no loop was called")
    return found, by_numpy(run)
