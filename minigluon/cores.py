"""NumPy lets go of Python's lock while it computes, so threads that work on different pieces of an array run at once."""

# Written from chapters/04_cores.ipynb: edit the chapter, then run `minigluon export`.

import contextvars
import ctypes
import os
import threading
from contextlib import suppress
from ctypes import addressof
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from time import monotonic

import numpy as np

__all__ = [
    "Alone",
    "FEW",
    "Helpers",
    "Job",
    "LONG",
    "MANY",
    "NAMES",
    "PAUSE",
    "alone",
    "axpby",
    "blas",
    "busy",
    "byte",
    "control",
    "core_matmul",
    "elsewhere",
    "fits",
    "forget_threads",
    "helpers",
    "latest",
    "matmul",
    "neighbours",
    "nowhere",
    "on_a_core",
    "openblas",
    "plain_matmul",
    "pool",
    "processor",
    "processor_number",
    "prompt",
    "prompt_matmul",
    "spread",
    "spread_matmul",
    "stacked",
    "together",
]


# --- OpenBLAS and its threads ---------------------------------------------------------------------

NAMES = [(a, z) for a in ("scipy_", "") for z in ("64_", "")]


@cache
def openblas():
    """NumPy's OpenBLAS, and what stands before and after its functions' names;
    None for another library.
    """
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs"):
        for file in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(file))
            for a, z in NAMES:
                if hasattr(library, f"{a}openblas_set_num_threads{z}"):
                    return library, a, z
    return None


def control():
    """OpenBLAS's functions that tell and set its number of threads; None for another library."""
    if (found := openblas()) is None:
        return None
    library, a, z = found
    quick = ctypes.PyDLL(library._name)
    return [getattr(quick, f"{a}openblas_{verb}_num_threads{z}") for verb in ("get", "set")]


# --- One thread a product -------------------------------------------------------------------------


class Alone:
    """A `with` block in which OpenBLAS uses one thread; `threads` is how many it has outside."""

    def __init__(self):
        self.found = self.before = None
        self.depth, self.lock = 0, threading.Lock()

    @property
    def threads(self):
        """How many threads there are to spread work on."""
        if self.found is None:
            self.found = control() or (lambda: 1, lambda n: None)
        return self.found[0]()

    def __enter__(self):
        with self.lock:
            if self.depth == 0:
                self.before = self.threads
                self.found[1](1)
            self.depth += 1

    def __exit__(self, *_):
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                self.found[1](self.before)


alone = Alone()


# --- Spreading ------------------------------------------------------------------------------------


def nowhere():
    """Where no one can tell."""
    return -1


def processor_number():
    """The C library's function that tells a thread its processor;
    None without it, or a way to choose.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.PyDLL(None), "sched_getcpu", None)


processor = processor_number() or nowhere


class Job:
    """A call for another thread."""

    def __init__(self, function, arguments):
        self.function, self.arguments, self.ended = function, arguments, SimpleQueue()

    def run(self):
        error = None
        try:
            self.function(*self.arguments)
        except BaseException as raised:
            error = raised
        self.ended.put(error)

    def exception(self):
        """What the call has raised, or None, when it has ended; to be asked once."""
        return self.ended.get()


class Helpers:
    """Threads that run the jobs that come, for as long as Python runs."""

    def __init__(self):
        self.jobs, self.threads = SimpleQueue(), []
        self.apart = None  # the processor that they keep off, and how many they are

    def grow(self, count):
        """Have `count` threads at least."""
        for i in range(len(self.threads), count):
            self.threads.append(
                threading.Thread(target=self.work, name=f"minigluon_{i}", daemon=True)
            )
            self.threads[i].start()
        return self

    def work(self):
        while True:
            self.jobs.get().run()  # a job with a name here would keep its arrays until the next one

    def keep_apart(self):
        """Keep the threads off the processor that the caller runs on, whichever it is now."""
        here = processor(), len(self.threads)
        if here == self.apart or here[0] < 0:
            return
        self.apart = here
        with suppress(OSError):  # such as a processor that was taken away meanwhile
            others = os.sched_getaffinity(0) - {here[0]}
            for thread in self.threads if others else ():
                os.sched_setaffinity(thread.native_id, others)

    def submit(self, function, *arguments):
        self.keep_apart()
        job = Job(function, arguments)
        self.jobs.put(job)
        return job


pool = Helpers()
latest = -1.0  # when threads other than OpenBLAS's last had work, in seconds


def forget_threads():
    """After a fork the child has none of its parent's threads."""
    global pool, alone, latest
    pool, alone, latest = Helpers(), Alone(), -1.0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_threads)


def busy():
    """Take note that other threads than OpenBLAS's have work."""
    global latest
    latest = monotonic()


# what to call before the pool gets work, so that threads which only wait let go of the cores
neighbours = []


def helpers(count):
    """The threads that help, `count` of them or more."""
    return pool if len(pool.threads) >= count else pool.grow(count)


def spread(function, items):
    """`[function(item) for item in items]`, on as many threads as OpenBLAS has,
    which gets one meanwhile.

    Items must not depend on each other. The first error is raised when all threads have stopped.
    """
    items = list(items)
    count = min(alone.threads, len(items))
    if count < 2:
        return [function(item) for item in items]
    busy()
    for make_room in neighbours:
        make_room()
    numbers, found, ended = iter(range(len(items))), [None] * len(items), SimpleQueue()

    def work():
        for i in numbers:
            error = None
            try:
                found[i] = function(items[i])
            except BaseException as raised:
                error = raised
            ended.put(error)

    begun = 0  # here
    with alone:
        for _ in range(count - 1):
            helpers(count - 1).submit(contextvars.copy_context().run, work)
        try:
            for i in numbers:
                begun += 1  # before the call: what stops it, Ctrl-C too, finds it counted
                found[i] = function(items[i])
        finally:
            never = len(list(numbers))  # after an error
            errors = [ended.get() for _ in range(len(items) - begun - never)]
    for error in filter(None, errors):
        raise error
    return found


# --- A product without OpenBLAS's threads ---------------------------------------------------------

FEW = 1 << 18  # multiplications: OpenBLAS uses no threads for fewer
MANY = 1 << 22  # multiplications from which threads pay for their start


def plain_matmul(a, b, out=None):
    """`a @ b` by the library of the arrays, into `out` if it is given."""
    return a @ b if out is None else np.matmul(a, b, out=out)


elsewhere = [plain_matmul]  # the last one multiplies arrays that are not NumPy's
on_a_core = [plain_matmul]  # the last one multiplies NumPy's arrays on the core that asks


def stacked(a, b, out=None):
    """`a @ b` of stacks of matrices, into `out` if it is given."""
    return (plain_matmul if type(a) is np.ndarray else elsewhere[-1])(a, b, out)


def core_matmul(a, b, out=None):
    """`a @ b` of matrices, or stacks of them, on the core that asks; into `out` if it is given."""
    return (on_a_core if type(a) is np.ndarray else elsewhere)[-1](a, b, out)


def spread_matmul(a, b, out=None):
    """`a @ b` of two of NumPy's matrices, spread."""
    m, k, n = *a.shape, b.shape[1]
    if m * k * n < MANY or alone.threads == 1:
        with alone:
            return core_matmul(a, b, out)
    if out is None:
        out = np.empty((m, n), np.result_type(a, b))
    elif np.may_share_memory(out, a) or np.may_share_memory(out, b):
        out[...] = spread_matmul(a, b)  # a part that is done would change what others read
        return out
    step = -(-max(m, n) // alone.threads)
    parts = [slice(i, i + step) for i in range(0, max(m, n), step)]
    if m >= n:
        spread(lambda at: core_matmul(a[at], b, out[at]), parts)
    else:
        spread(lambda at: core_matmul(a, b[:, at], out[:, at]), parts)
    return out


together = [spread_matmul]  # the last one multiplies NumPy's matrices on all cores
prompt = [plain_matmul]  # so does the last one of these, which may hold the cores for a while


def prompt_matmul(a, b, out=None):
    """`a @ b` of two matrices, by threads that wait awake; into `out` if it is given."""
    return (prompt if type(a) is np.ndarray else elsewhere)[-1](a, b, out)


def matmul(a, b, out=None):
    """`a @ b` of two matrices, on all cores without OpenBLAS's threads; into `out` if it is given."""
    if type(a) is not np.ndarray:
        return elsewhere[-1](a, b, out)
    work = a.size * b.shape[1]
    if work <= FEW or a.dtype.char not in "fd":
        found = a.dot(b) if out is None else np.matmul(a, b, out=out)
        return found.astype(a.dtype, copy=False) if a.dtype.kind == "V" else found  # bfloat16
    return together[-1](a, b, out)


# --- Two terms in one pass ------------------------------------------------------------------------

LONG = 1 << 12  # numbers from which a call through ctypes pays, which costs 2 µs
PAUSE = 0.1  # seconds without work for the pool, after which OpenBLAS's threads are in nobody's way


@cache
def blas(name, kind):
    """OpenBLAS's function `axpby` or `axpy` for numbers of a kind, 'f' or 'd'; None without it."""
    letter = {"f": "s", "d": "d"}.get(kind)
    library, a, z = openblas() or (None, "", "")
    function = getattr(library, f"{a}cblas_{letter}{name}{z}", None)
    if function is None:
        return None
    size = ctypes.c_int64 if z else ctypes.c_int
    x = (ctypes.c_float if kind == "f" else ctypes.c_double, ctypes.c_void_p, size)
    y = x if name == "axpby" else x[1:]
    function.argtypes = [size, *x, *y]
    function.restype = None
    return function


def axpby(a, x, b, y):
    """`y = a x + b y`, in place: for long flat arrays of one type in one pass of OpenBLAS,
    else by NumPy.
    """
    if x.size >= LONG and fits(x, y) and a and (f := blas("axpby", y.dtype.char)) is not None:
        a, b, at, to = float(a), float(b), addressof(byte(x)), addressof(byte(y))
        if b != 1:
            f(x.size, a, at, 1, b, to, 1)
        elif alone.depth or monotonic() > latest + PAUSE:  # this function has threads
            blas("axpy", y.dtype.char)(x.size, a, at, 1, to, 1)
        else:
            with alone:
                blas("axpy", y.dtype.char)(x.size, a, at, 1, to, 1)
        return
    if b != 1:
        y *= b
    y += a * x


byte = ctypes.c_char.from_buffer  # where an array begins: four times as quick as `x.ctypes.data`


def fits(x, y):
    """Whether two arrays are NumPy's, of one shape and type, each in a row in memory
    that can be written to.
    """
    return (
        type(x) is np.ndarray is type(y)
        and x.dtype is y.dtype
        and x.shape == y.shape
        and x.flags.carray
        and y.flags.carray
    )
