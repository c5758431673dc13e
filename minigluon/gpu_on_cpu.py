"""A stand-in for CuPy: the same refusals as a GPU's arrays, the same kernels, on a laptop."""

# Written from chapters/92b_a_gpu_of_numpy.ipynb: edit the chapter, then run `minigluon export`.

import contextlib
import ctypes
import threading
import types

import numpy as np

from minigluon import cuda_on_cpu

__all__ = [
    "ABSENT",
    "BLAS",
    "BRIEF",
    "CHANGING",
    "Current",
    "Device",
    "Event",
    "Graph",
    "Kernel",
    "LACKING",
    "MemoryPointer",
    "MemoryPool",
    "NO_LIKE",
    "OutOfMemoryError",
    "PinnedMemoryPointer",
    "RawModule",
    "Stream",
    "UNKNOWN",
    "UnownedMemory",
    "WAITING",
    "again",
    "alloc_pinned_memory",
    "allocators",
    "arrive",
    "asarray",
    "blocks_take_turns",
    "cuda",
    "current",
    "done",
    "empty",
    "flat",
    "get_current_stream",
    "get_default_memory_pool",
    "how",
    "in_ram",
    "ndarray",
    "pointers",
    "pool",
    "refuse_brief",
    "refuse_captured",
    "refuse_mixed",
    "refuse_settings",
    "streams",
    "unwrap",
    "using_allocator",
    "waits",
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

    def __init__(self, shape, dtype=float, memptr=None, strides=None):
        if memptr is None:
            self.x = empty(shape, dtype).x
        elif hasattr(memptr, "of"):  # the `data` of an array
            self.x = np.lib.stride_tricks.as_strided(memptr.of, shape, strides)
        else:
            self.x = np.ndarray(shape, dtype, memptr.mem.bytes, memptr.offset, strides)

    shape = property(lambda self: self.x.shape)
    dtype = property(lambda self: self.x.dtype)
    ndim = property(lambda self: self.x.ndim)
    size = property(lambda self: self.x.size)
    flags = property(lambda self: self.x.flags)
    device = property(lambda self: cuda.Device(0))
    T = property(lambda self: wrap(self.x.T))

    @property
    def base(self):
        """The array whose memory it is in, or None."""
        return wrap(self.x.base) if isinstance(self.x.base, np.ndarray) else None

    @property
    def data(self):
        """Where the numbers are, as `data.ptr`."""
        return types.SimpleNamespace(ptr=self.x.ctypes.data, of=self.x)

    def get(self):
        """A copy in RAM: the explicit way out."""
        refuse_captured("D2H transfers")
        arrive()
        return self.x.copy()

    def set(self, x, stream=None):
        """Copy an array of RAM into this one; a page-locked one when the stream gets to it."""
        if type(x) is not np.ndarray or x.dtype != self.dtype:
            raise TypeError(f"{type(x)} cannot be set to {self.dtype} array")
        if x.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {x.shape}")
        x = x if isinstance(x.base, PinnedMemoryPointer) else x.copy()
        (stream or get_current_stream()).do(lambda: np.copyto(self.x, x))

    # --- The array --------------------------------------------------------------------------------

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
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __getitem__(self, key):
        return done("[]", lambda: self.x[unwrap(key)], [self, key])

    def __setitem__(self, key, value):
        refuse_mixed("assignment", [value])
        x = self.x  # a capture holds memory, as a card does, not the object that shows it
        done("[]=", lambda: x.__setitem__(unwrap(key), unwrap(value)), [key, value], self)

    def __getattr__(self, name):
        if name.startswith("__") or name in ABSENT:
            raise AttributeError(f"an array on a GPU has no attribute {name!r}")
        member = getattr(self.x, name)
        if not callable(member):
            return member

        def method(*args, **settings):
            refuse_mixed(name, args)
            refuse_settings(name, settings)
            refuse_brief(name, [self, *args])
            into = self if name in CHANGING else settings.get("out")
            call = lambda: member(*unwrap(args), **unwrap(settings))
            return done(name, call, [self, *args], into)

        return method

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        refuse_mixed(ufunc.__name__, inputs if method != "at" else inputs[::2])  # places may mix
        if method in ("accumulate", "reduce") and ufunc not in (np.add, np.multiply):
            raise NotImplementedError(f"`cupy_{ufunc.__name__}.{method}` is not supported yet")
        if method == "at" and isinstance(inputs[1], tuple):
            raise TypeError("operand type(s) all returned NotImplemented from __array_ufunc__")
        refuse_brief(method if method in BRIEF else ufunc.__name__, inputs)
        into = inputs[0] if method == "at" else settings.get("out")
        call = lambda: getattr(ufunc, method)(*unwrap(inputs), **unwrap(settings))
        return done(ufunc.__name__, call, inputs, into)

    def __array_function__(self, func, types, args, settings):
        if func.__name__ in LACKING:
            raise TypeError(f"CuPy has no {func.__name__}")
        if func.__name__ in NO_LIKE:
            raise TypeError(f"{func.__name__}() got an unexpected keyword argument 'device'")
        if func.__name__ not in ("array", "asarray"):  # which bring an array over, with `like=`
            refuse_mixed(func.__name__, args)
        refuse_settings(func.__name__, settings)
        refuse_brief(func.__name__, args)
        if (
            func.__name__ == "sliding_window_view"
        ):  # CuPy looks at sizes that it has sent to the card
            refuse_captured("synchronous API calls")
        into = args[0] if func.__name__ in CHANGING else settings.get("out")
        call = lambda: func(*unwrap(args), **unwrap(settings))
        return done(func.__name__, call, args, into)


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
    if not isinstance(x, np.ndarray | np.generic):
        return x
    y = object.__new__(ndarray)
    y.x = np.asarray(x)
    return y


def refuse_settings(name, settings):
    """TypeError for a setting that NumPy has and CuPy has not."""
    for key in settings:
        if key in UNKNOWN and name != "copyto" or (name, key) == ("take", "mode"):
            raise TypeError(f"{name}() got an unexpected keyword argument {key!r}")


BRIEF = (
    "at sort argsort partition argpartition cumsum cumprod reduceat histogram where tril triu round"
)
BRIEF = frozenset(BRIEF.split())  # calls that fail in bfloat16, or make float32 of it


def refuse_brief(name, args):
    """TypeError for what CuPy does not do with bfloat16."""
    brief = [a for a in flat(args) if a.dtype.name == "bfloat16"]
    if brief and (name in BRIEF or (name == "matmul" and max(a.ndim for a in brief) > 2)):
        raise TypeError(f"{name}: Unsupported dtype (bfloat16)")


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


class MemoryPool:
    """Memory that is only counted: `limit` bytes at once, None for no limit."""

    def __init__(self):
        self.limit, self.freed, self.asked = None, 0, 0

    def malloc(self, size):
        """Nothing, or OutOfMemoryError."""
        if self.limit is not None and size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        self.asked += int(size)

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
        """Wait for all streams."""
        refuse_captured("synchronous API calls")
        arrive()
        for stream in list(streams):
            stream.finish()

    attributes = {"MultiProcessorCount": 132}  # noqa: RUF012

    @property
    def mem_info(self):
        """Bytes free and in all."""
        return (pool.limit or 1 << 30), 1 << 30


pool = MemoryPool()
allocators = [pool.malloc]  # the last one gives


@contextlib.contextmanager
def using_allocator(allocator):
    """A `with` block in which memory comes from elsewhere."""
    allocators.append(allocator)
    try:
        yield
    finally:
        allocators.pop()


def get_default_memory_pool():
    """The pool."""
    return pool


def asarray(x):
    """`x` on the device: a copy, unless it is there already."""
    if isinstance(x, ndarray):
        return x
    refuse_captured("H2D transfers")
    allocators[-1](x.nbytes)
    return wrap(np.array(x, order="C"))


def empty(shape, dtype=np.float32):
    """Memory that nobody wrote: filled with NaN's bits, and known to the checker."""
    allocators[-1](int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return wrap(cuda_on_cpu.empty(shape, dtype))


how = {"check": False, "order": 0}  # how kernels run: `check` watches every access


class RawModule(cuda_on_cpu.RawModule):
    """The runner's module, for arrays of this library;
    its blocks run one after the other in any case.
    """

    def __init__(self, *, enable_cooperative_groups=False, **settings):
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
        given = [unwrap(a) for a in args]
        call = lambda: self.kernel(grid, block, given, shared_mem=shared_mem)
        done(self.kernel.name, call, args, ())


blocks_take_turns = True  # so a kernel whose blocks wait for one another must not be launched


def pointers(arrays):
    """A table of addresses on the device, for kernels that take many arrays."""
    return wrap(cuda_on_cpu.pointers([a.x for a in arrays]))


# --- Streams: as late as they may -----------------------------------------------------------------

# with work that is not done yet; events that the default one must wait for
streams, waits = set(), []


def arrive():
    """Let the default stream wait for what it must wait for."""
    while waits:
        waits.pop().wait()


class Stream:
    """A queue of work; the default one, `Stream.null`, keeps nobody waiting."""

    null, steps = None, None  # of a capture that is going on

    def __init__(self, null=False, non_blocking=False):
        self.is_null, self.queue, self.asked, self.finished = null, [], 0, 0

    def __enter__(self):
        current.stack.append(self)
        return self

    def __exit__(self, *_):
        current.stack.pop()

    def do(self, work):
        """Put a call on the queue."""
        refuse_captured("H2D transfers", self)
        if self.is_null:
            arrive()
        self.asked += 1
        self.queue.append(work)
        streams.add(self)
        if self.is_null:
            self.finish()

    def finish(self, count=None):
        """Carry out what waits, up to the work of that number."""
        while self.queue and (count is None or self.finished < count):
            self.finished += 1
            self.queue.pop(0)()
        if not self.queue:
            streams.discard(self)

    def synchronize(self):
        """Wait for all of it."""
        refuse_captured("synchronous API calls", self)
        self.finish()

    def record(self, event=None):
        """An event that is over when all work up to now is done."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        """Do later work after the event; the default stream comes to it with its next work."""
        if self.is_null:
            waits.append(event)
        elif self.queue:
            self.do(event.wait)
        else:
            event.wait()

    # --- Capture: a note instead of a call --------------------------------------------------------

    def begin_capture(self, mode=None):
        """Write down what is asked of this stream from now on; RuntimeError for the default one."""
        if self.is_null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.steps = []

    def end_capture(self):
        """The graph of what was written down."""
        steps, self.steps = self.steps, None
        return Graph(steps)

    def is_capturing(self):
        """Whether a capture is going on."""
        return self.steps is not None


class Event:
    """A place in a stream."""

    stream = None

    def __init__(self, block=False, disable_timing=False):
        """Not recorded yet: over."""

    def record(self, stream=None):
        """Take the present end of a stream."""
        self.stream = stream or get_current_stream()
        self.count = self.stream.asked

    @property
    def done(self):
        """Whether the stream has come so far."""
        return self.stream is None or self.stream.finished >= self.count

    def wait(self):
        """Let the stream come so far."""
        if self.stream is not None:
            self.stream.finish(self.count)

    def synchronize(self):
        """Wait until the stream has come so far."""
        refuse_captured("synchronous API calls")
        self.wait()


class Current(threading.local):
    """The streams that this thread has entered, the innermost last."""

    def __init__(self):
        self.stack = [Stream.null]


Stream.null = Stream(null=True)
current = Current()


def get_current_stream():
    """The stream that work goes to."""
    return current.stack[-1]


class PinnedMemoryPointer(bytearray):
    """Page-locked memory: here, any."""


def alloc_pinned_memory(size):
    """So many bytes that the device can copy by itself."""
    return PinnedMemoryPointer(size)


class UnownedMemory:
    """Memory of somebody else, who stays alive as long as an array lies in it."""

    def __init__(self, ptr, size, owner, device_id=-1):
        self.bytes = (ctypes.c_char * size).from_address(ptr)
        self.owner = self.bytes.owner = owner


class MemoryPointer:
    """A place in a piece of memory."""

    def __init__(self, mem, offset):
        self.mem, self.offset = mem, offset


# --- Capture: a note instead of a call ------------------------------------------------------------

CHANGING = "copyto put place putmask put_along_axis fill_diagonal fill sort partition"  # an array
BLAS = "matmul dot tensordot inner vdot einsum"  # calls of cuBLAS
WAITING = "sort argsort partition argpartition nonzero argwhere flatnonzero unique item tolist"
CHANGING, BLAS, WAITING = (frozenset(names.split()) for names in (CHANGING, BLAS, WAITING))


def refuse_captured(what, stream=None):
    """RuntimeError for what a stream that is capturing does not do."""
    if (stream or get_current_stream()).steps is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def in_ram(x):
    """Whether there is an array of RAM with axes in `x`: it would have to be sent."""
    if isinstance(x, tuple | list):
        return any(map(in_ram, x))
    return isinstance(x, np.ndarray) and x.ndim > 0


def done(name, call, args, into=None):
    """The result of a call on arrays of RAM; in a capture, a note of it. `into` is what it changes."""
    stream = get_current_stream()
    for a in flat([] if into is None else [into]):
        cuda_on_cpu.unwritten.discard(unwrap(a).ctypes.data)  # what NumPy writes, kernels may read
    if stream.steps is None:
        arrive()
        return wrap(call())
    if name in BLAS:
        raise NotImplementedError(
            "calling cuBLAS API during stream capture is currently unsupported"
        )
    if name in WAITING or in_ram(args):
        refuse_captured("synchronous API calls" if name in WAITING else "H2D transfers")
    if into is not None:
        stream.steps.append(call)
        return into[0] if isinstance(into, tuple) and len(into) == 1 else into
    with np.errstate(all="ignore"):
        found = call()
    results = [unwrap(r) for r in found] if isinstance(found, tuple | list) else [np.asarray(found)]
    if any(np.may_share_memory(r, unwrap(a)) for r in results for a in flat(args)):
        return wrap(found)
    if name not in ("empty", "empty_like"):
        stream.steps.append(lambda: again(call, results))
    for r in results:
        allocators[-1](r.nbytes)
        r[...] = np.frombuffer(b"\xff" * r.itemsize, r.dtype)[0]
    made = [wrap(r) for r in results]
    return made[0] if isinstance(found, np.ndarray | np.generic) else made


def flat(args):
    """The arrays in arguments, however deep."""
    for a in args:
        if isinstance(a, tuple | list):
            yield from flat(a)
        elif isinstance(a, ndarray):
            yield a


def again(call, results):
    """Make a call anew, into the memory of its first results."""
    found = call()
    for r, f in zip(results, found if isinstance(found, tuple | list) else [found]):
        r[...] = f


class Graph:
    """Work that was captured."""

    def __init__(self, steps):
        self.steps = steps

    def launch(self, stream=None):
        """Do it, in order."""
        arrive()
        for step in self.steps:
            step()


cuda = types.SimpleNamespace(
    Device=Device,
    Event=Event,
    Graph=Graph,
    MemoryPointer=MemoryPointer,
    MemoryPool=MemoryPool,
    PinnedMemoryPointer=PinnedMemoryPointer,
    Stream=Stream,
    UnownedMemory=UnownedMemory,
    alloc_pinned_memory=alloc_pinned_memory,
    get_current_stream=get_current_stream,
    is_available=cuda_on_cpu.available,
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=types.SimpleNamespace(getDeviceCount=lambda: 1),
    set_allocator=lambda function: allocators.__setitem__(0, function),
    using_allocator=using_allocator,
)
