"""A stand-in for CuPy: the same refusals as a GPU's arrays, the same kernels, on a laptop."""

# Written from chapters/92b_a_gpu_of_numpy.ipynb: edit the chapter, then run `minigluon export`.

import contextlib
import types

import numpy as np

from minigluon import cuda_on_cpu

__all__ = [
    "ABSENT",
    "Device",
    "Kernel",
    "LACKING",
    "NO_LIKE",
    "OutOfMemoryError",
    "Pool",
    "RawModule",
    "UNKNOWN",
    "allocator",
    "asarray",
    "cuda",
    "empty",
    "get_default_memory_pool",
    "how",
    "ndarray",
    "pointers",
    "pool",
    "refuse_mixed",
    "refuse_settings",
    "unwrap",
    "wrap",
]


# --- The array ------------------------------------------------------------------------------------

LACKING = """asmatrix block bmat einsum_path geomspace histogram_bin_edges insert matvec nanpercentile
nanquantile polyder polydiv polyint spacing unstack vecdot vecmat lexsort"""
# functions of NumPy that CuPy 14.2 has not, or not through NumPy's dispatch; and attributes of arrays:
ABSENT = "ctypes getfield resize setfield setflags to_device itemset"
LACKING, ABSENT = frozenset(LACKING.split()), frozenset(ABSENT.split())
UNKNOWN = frozenset(["initial", "where", "correction"])  # settings of reductions
NO_LIKE = frozenset(["full", "ones", "eye", "linspace"])  # `like=` makes NumPy pass a device


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in a memory of its own: it answers NumPy's calls and is never converted silently."""

    def __init__(self, x):
        self.x = np.asarray(x)

    shape = property(lambda self: self.x.shape)
    dtype = property(lambda self: self.x.dtype)
    ndim = property(lambda self: self.x.ndim)
    size = property(lambda self: self.x.size)
    flags = property(lambda self: self.x.flags)
    device = property(lambda self: cuda.Device(0))
    T = property(lambda self: ndarray(self.x.T))
    base = property(lambda self: wrap(self.x.base))  # the array whose memory it is in, or None

    @property
    def data(self):
        """Where the numbers are, as `data.ptr`."""
        return types.SimpleNamespace(ptr=self.x.ctypes.data)

    def get(self):
        """A copy in RAM: the explicit way out."""
        return self.x.copy()

    def __array__(self, *_, **__):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __len__(self):
        return len(self.x)

    def __repr__(self):  # a copy in RAM, to be read by people
        return repr(self.x)

    def __str__(self):
        return str(self.x)

    def __bool__(self):  # allowed, at the price of waiting for the device
        return bool(self.x)

    def __int__(self):
        return int(self.x)

    def __float__(self):
        return float(self.x)

    def __getitem__(self, key):
        return wrap(self.x[unwrap(key)])

    def __setitem__(self, key, value):
        refuse_mixed("assignment", [value])
        self.x[unwrap(key)] = unwrap(value)

    # --- The array --------------------------------------------------------------------------------

    def __getattr__(self, name):
        if name.startswith("__") or name in ABSENT:
            raise AttributeError(f"an array on a GPU has no attribute {name!r}")
        member = getattr(self.x, name)
        if not callable(member):
            return member

        def method(*args, **settings):
            refuse_mixed(name, args)
            refuse_settings(name, settings)
            return wrap(member(*unwrap(args), **unwrap(settings)))

        return method

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        refuse_mixed(ufunc.__name__, inputs if method != "at" else inputs[::2])  # places may mix
        if method in ("accumulate", "reduce") and ufunc not in (np.add, np.multiply):
            raise NotImplementedError(f"`cupy_{ufunc.__name__}.{method}` is not supported yet")
        return wrap(getattr(ufunc, method)(*unwrap(inputs), **unwrap(settings)))

    def __array_function__(self, func, types, args, settings):
        if func.__name__ in LACKING:
            raise TypeError(f"CuPy has no {func.__name__}")
        if func.__name__ in NO_LIKE:
            raise TypeError(f"{func.__name__}() got an unexpected keyword argument 'device'")
        if func.__name__ not in ("array", "asarray"):  # which bring an array over, with `like=`
            refuse_mixed(func.__name__, args)
        refuse_settings(func.__name__, settings)
        return wrap(func(*unwrap(args), **unwrap(settings)))


def unwrap(x):
    """`x` with the arrays inside in RAM."""
    if isinstance(x, ndarray):
        return x.x
    if isinstance(x, tuple | list):
        return type(x)([unwrap(part) for part in x])
    if isinstance(x, dict):
        return {k: unwrap(v) for k, v in x.items()}
    return x


def wrap(x):
    """`x` with each NumPy array inside on the device."""
    if isinstance(x, tuple | list):
        parts = [wrap(part) for part in x]
        return parts if isinstance(x, list) else tuple(parts)  # NumPy's named tuples as well
    return ndarray(x) if isinstance(x, np.ndarray | np.generic) else x


def refuse_settings(name, settings):
    """TypeError for a setting that NumPy has and CuPy has not."""
    for key in settings:
        if key in UNKNOWN and name != "copyto" or (name, key) == ("take", "mode"):
            raise TypeError(f"{name}() got an unexpected keyword argument {key!r}")


def refuse_mixed(name, args):
    """TypeError if arrays in RAM are among arguments that are on the device."""
    for a in args:
        if isinstance(a, tuple | list):
            refuse_mixed(name, a)
        elif isinstance(a, np.ndarray) and a.ndim:
            raise TypeError(f"{name}: Unsupported type {np.ndarray}")


# --- The library ----------------------------------------------------------------------------------


class OutOfMemoryError(MemoryError):
    """The pool's limit is reached."""


class Pool:
    """Memory that counts nothing but what is asked for at once: `limit` bytes, None for no limit."""

    limit, freed = None, 0

    def malloc(self, size):
        """Nothing, or OutOfMemoryError."""
        if self.limit is not None and size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")

    def free_all_blocks(self):
        """Give memory back: only counted."""
        self.freed += 1


class Device(contextlib.AbstractContextManager):
    """The one device there is."""

    def __init__(self, number=0):
        self.id = number

    def __exit__(self, *_):
        """Leave the device."""

    def synchronize(self):
        """Wait for nothing."""

    @property
    def mem_info(self):
        """Bytes free and in all."""
        return (pool.limit or 1 << 30), 1 << 30


pool = Pool()
allocator = [pool.malloc]
cuda = types.SimpleNamespace(
    Device=Device,
    is_available=cuda_on_cpu.available,
    set_allocator=lambda function: allocator.__setitem__(0, function),
    runtime=types.SimpleNamespace(getDeviceCount=lambda: 1),
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
)


def get_default_memory_pool():
    """The pool."""
    return pool


def asarray(x):
    """`x` on the device: a copy, unless it is there already."""
    if isinstance(x, ndarray):
        return x
    allocator[0](x.nbytes)
    return ndarray(np.array(x, order="C"))


def empty(shape, dtype=np.float32):
    """Memory that nobody wrote: filled with NaN's bits, and known to the checker."""
    allocator[0](int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return ndarray(cuda_on_cpu.empty(shape, dtype))


how = {"check": False, "order": 0}  # how kernels run: `check` watches every access


class RawModule(cuda_on_cpu.RawModule):
    """The runner's module, for arrays of this library."""

    def __init__(self, **settings):
        super().__init__(**how, **settings)

    def get_function(self, name):
        """The kernel of that name."""
        return Kernel(super().get_function(name))


class Kernel:
    """A kernel that takes arrays of this library."""

    max_dynamic_shared_size_bytes = 49152

    def __init__(self, kernel):
        self.kernel = kernel

    def __call__(self, grid, block, args, *, shared_mem=0):
        """Run on the CPU; KernelError as the runner says."""
        self.kernel.max_dynamic_shared_size_bytes = self.max_dynamic_shared_size_bytes
        return self.kernel(grid, block, [unwrap(a) for a in args], shared_mem=shared_mem)


def pointers(arrays):
    """A table of addresses on the device, for kernels that take many arrays."""
    return ndarray(cuda_on_cpu.pointers([a.x for a in arrays]))
