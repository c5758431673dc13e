"""An NDArray is a block of numbers, a shape to read them by, and the place where they live."""

# Written from chapters/02_arrays.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
import gc
import importlib
import os
import threading
from functools import partial

import numpy as np

from minigluon.base import BadName, MXNetError

__all__ = [
    "Capture",
    "Context",
    "Current",
    "DEFAULT",
    "KEPT",
    "OutOfMemory",
    "Scopes",
    "allocate",
    "brought",
    "busy",
    "capture",
    "cpu",
    "cpu_pinned",
    "cupy_for",
    "cupy_or_none",
    "current_context",
    "each_run",
    "ferries",
    "fetched",
    "gpu",
    "gpu_memory_info",
    "is_page_locked",
    "keep_memory",
    "notes",
    "num_gpus",
    "page_locked",
    "prepared",
    "put",
    "read_notes",
    "scopes",
    "wait_for_all",
]


# --- Contexts -------------------------------------------------------------------------------------


class Scopes(threading.local):
    """The `with` blocks of contexts that this thread is in, the innermost last."""

    def __init__(self):
        self.stack = []

    def replace(self, ctx):
        """Let a context stand for the innermost block's; outside of blocks, from here on."""
        self.stack[-1:] = [ctx]


scopes = Scopes()


class Current(type):
    """The class of `Context`: MXNet's names for the current context,
    `default_ctx` and `_default_ctx.value`.
    """

    default_ctx = value = property(
        lambda cls: current_context(), lambda cls, ctx: scopes.replace(Context(ctx))
    )
    _default_ctx = property(lambda cls: cls)


class Context(metaclass=Current):
    """A device: `Context('cpu', 0)`; as a `with` block it becomes the default for new arrays."""

    devtype2str = {1: "cpu", 2: "gpu", 3: "cpu_pinned", 5: "cpu_shared"}
    devstr2type = {name: number for number, name in devtype2str.items()}
    _made = {}  # (type, number) -> the one object for that device

    def __new__(cls, device_type, device_id=0):
        if isinstance(device_type, Context):
            return device_type
        if device_type not in cls.devstr2type:
            known = ", ".join(cls.devstr2type)
            raise BadName(f"Context({device_type!r}): unknown device type; known are {known}")
        self = super().__new__(cls)
        self.device_type, self.device_id = device_type, int(device_id)
        self.device_typeid = cls.devstr2type[device_type]
        self.results = self if device_type in ("cpu", "gpu") else cpu()  # of operators
        return cls._made.setdefault((device_type, self.device_id), self)

    def __repr__(self):
        return f"{self.device_type}({self.device_id})"

    def __enter__(self):
        scopes.stack.append(self)
        return self

    def __exit__(self, *_):
        scopes.stack.pop()

    def __reduce__(self):
        return Context, (self.device_type, self.device_id)

    def empty_cache(self):
        """Give cached device memory back; on a CPU there is none."""
        if self.device_type == "gpu" and self.device_id < num_gpus():
            cupy_or_none().get_default_memory_pool().free_all_blocks()


def cpu(device_id=0):
    """The CPU. Numbers above 0 name the same memory, which lets one machine play several."""
    return Context("cpu", device_id)


def gpu(device_id=0):
    """A GPU; naming one that is not there is no error, putting an array on it is."""
    return Context("gpu", device_id)


def cpu_pinned(device_id=0):
    """Page-locked CPU memory; without a GPU, ordinary memory."""
    return Context("cpu_pinned", device_id)


def current_context():
    """The context that new arrays get: the innermost `with` block's, at first `cpu(0)`."""
    return scopes.stack[-1] if scopes.stack else DEFAULT


DEFAULT = cpu()


def cupy_or_none():
    """CuPy, if it is installed; $MINIGLUON_CUPY may name a module that plays its part."""
    try:
        return importlib.import_module(os.environ.get("MINIGLUON_CUPY") or "cupy")
    except ImportError:
        return None


def num_gpus():
    """How many GPUs can be used: 0 without CuPy or without a driver."""
    cupy = cupy_or_none()
    return (
        cupy.cuda.runtime.getDeviceCount() if cupy is not None and cupy.cuda.is_available() else 0
    )


def cupy_for(device_id):
    """CuPy, for the GPU of that number; MXNetError says what is missing."""
    cupy, found = cupy_or_none(), num_gpus()
    if device_id < found:
        if cupy.__name__ not in prepared:
            prepared.add(cupy.__name__)
            cupy.cuda.set_allocator(partial(allocate, cupy))
        return cupy
    if cupy is None:
        lacks = "CuPy is not installed: pip install 'minigluon[cuda13]' (or cuda12)"
    elif found == 0:
        lacks = "CuPy finds no NVIDIA GPU: `nvidia-smi` tells whether its driver runs"
    else:
        lacks = f"{found} GPUs found, numbered from 0"
    raise MXNetError(f"gpu({device_id}) is not available. {lacks}. Without one use mx.cpu()")


def put(raw, ctx):
    """The raw array `raw` in the memory of `ctx`; raises MXNetError where there is no such GPU."""
    if ctx.device_type != "gpu":
        raw = raw if isinstance(raw, np.ndarray) else fetched(raw)
        return page_locked(raw) if ctx.device_type == "cpu_pinned" and num_gpus() else raw
    cupy = cupy_for(ctx.device_id)
    with cupy.cuda.Device(ctx.device_id):
        if ferries and is_page_locked(raw):
            return ferries[-1](cupy, raw)
        return cupy.asarray(raw)


# --- For the maintainer: what a GPU needs of a context --------------------------------------------

ferries = []  # the last one brings page-locked memory to the current GPU: function(cupy, raw)
busy = []  # functions that wait until nobody needs the numbers of a page-locked array any more


def page_locked(raw):
    """A copy of an array of RAM in page-locked memory, which a GPU can fetch by itself;
    that itself, if it is there.
    """
    if is_page_locked(raw):
        return raw
    memory = cupy_or_none().cuda.alloc_pinned_memory(max(1, raw.nbytes))
    there = np.ndarray(raw.shape, raw.dtype, memory)
    there[...] = raw
    return there


def is_page_locked(raw):
    """Whether an array is in memory that `page_locked` has taken, without gaps."""
    if not isinstance(raw, np.ndarray) or not raw.flags.c_contiguous:
        return False
    base = raw.base.base if isinstance(raw.base, np.ndarray) else raw.base
    return base is not None and isinstance(base, cupy_or_none().cuda.PinnedMemoryPointer)


notes = []  # functions that raise what a kernel has noted


def fetched(raw):
    """A GPU's array in RAM; raises what kernels have noted up to now."""
    found = raw.get()
    read_notes()
    return found


def wait_for_all():
    """Wait for all GPUs in use; raises what kernels have noted."""
    if prepared:
        for i in range(num_gpus()):
            cupy_or_none().cuda.Device(i).synchronize()
        read_notes()


def read_notes():
    """Raise what kernels have noted; the GPU has been waited for."""
    for note in notes:
        note()


prepared = set()  # the libraries that take their memory by `allocate`


class OutOfMemory(MXNetError, MemoryError):
    """A GPU has not enough memory for an array."""


def allocate(cupy, size, own=None):
    """`size` bytes on the current GPU from CuPy's pool, or from `own`,
    with a second try and an error that tells.
    """
    pool, Full = cupy.get_default_memory_pool(), cupy.cuda.memory.OutOfMemoryError
    try:
        return (own or pool).malloc(size)
    except Full:
        gc.collect()
        pool.free_all_blocks()
    try:
        return (own or pool).malloc(size)
    except Full:
        free, total = cupy.cuda.Device().mem_info
        raise OutOfMemory(
            f"out of memory on a GPU: {size} bytes asked for, {free} of {total} free after "
            "unused memory was given back. Use a smaller batch, or free arrays with `del`"
        ) from None


def gpu_memory_info(device_id=0):
    """Bytes that are free, and bytes in all, on the GPU of that number."""
    return cupy_for(device_id).cuda.Device(device_id).mem_info


class Capture(threading.local):
    """What is to be done before each run of the program that this thread captures;
    None if it captures none.
    """

    before = None


capture = Capture()


def each_run(action):
    """Call `action`; if a program is being captured, do it before each of its runs instead."""
    if capture.before is None:
        action()
    else:
        capture.before.append(action)


def brought(make, like):
    """The array of RAM that `make` returns, in the memory of `like`;
    in a captured program a new one for each run.
    """
    if capture.before is None or isinstance(like, np.ndarray):
        return np.asarray(make(), like=like)
    before, capture.before = capture.before, None
    try:
        found = make()
    finally:
        capture.before = before
    there, first = np.empty_like(like, shape=found.shape, dtype=found.dtype), [found]
    # `there.set` would wait for the device, as its source is not page-locked; `asarray` sees to that
    send = lambda: np.copyto(there, np.asarray(first.pop() if first else make(), like=there))
    before.append(send)
    return there


# --- For the maintainer: memory that stays --------------------------------------------------------

KEPT = 256 << 20  # bytes of freed memory that the process keeps for its next arrays


def keep_memory(size=KEPT):
    """Let the C library keep freed memory at hand;
    False where it is not glibc, or was told otherwise.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    trim, mapped = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    return bool(mallopt(trim, size) and mallopt(mapped, 32 << 20))


keep_memory()
