"""An operator is given a kernel of its own by one decorator; the first is softmax, which should cost two walks over memory."""

# Written from chapters/93_kernels.ipynb: edit the chapter, then run `minigluon export`.

from functools import cache, partial, wraps

import numpy as np

from minigluon.base import MXNetError
from minigluon.context import cupy_or_none

__all__ = [
    "Kernels",
    "MORE",
    "OWN",
    "SHARED",
    "STORED",
    "VECTORS",
    "WIDE",
    "chosen",
    "cpp_name",
    "cuda",
    "dense",
    "fits",
    "flag",
    "in_float32",
    "is_brief",
    "loadable",
    "row_launch",
    "stored",
    "wider",
    "width",
]


# --- Code: from a file to a call ------------------------------------------------------------------

SHARED = 49152  # bytes of shared memory that a block gets without asking
OWN = 4096  # of which a kernel declares less than this for itself, if a launch adds to it
MORE = 98304  # bytes that a launch adds with asking, on every card since the A100 of 2020


class Kernels:
    """The kernels of `kernels/<file>.cu`, launched by name; `names` are all instances that are used.

    Of those whose names begin as in `together` all blocks run at once, or the launch fails.
    """

    files = {}  # file -> its Kernels: tests compile them all

    together = ()

    def __init__(self, file, names, together=()):
        self.file, self.names, self.loaded, self.together = file, list(names), {}, together
        self.where = f"kernels/{file}.cu"
        Kernels.files[file] = self

    def __call__(self, name, grid, block, *args, shared=0):
        """Launch a kernel, given by name, over `grid` blocks of `block` threads."""
        cupy = cupy_or_none()
        key = cupy.__name__, cupy.cuda.Device().id, name
        kernel = self.loaded.get(key) or self.load(cupy, key, name)
        if shared > SHARED - OWN and kernel.max_dynamic_shared_size_bytes < MORE:
            kernel.max_dynamic_shared_size_bytes = MORE
        kernel(grid, block, args, shared_mem=shared)

    def load(self, cupy, key, name):
        """Compile a kernel; MXNetError with its name and the compiler's log if that fails."""
        if name not in self.names:
            raise MXNetError(f"{self.where} is not built for {name}")
        try:
            module = cupy.RawModule(
                code=self.code(),
                options=("-std=c++17",),
                name_expressions=(name,),
                enable_cooperative_groups=name.startswith(self.together),
            )
            self.loaded[key] = module.get_function(name)
        except Exception as error:
            where = f"the kernel {name} of {self.where}"
            raise MXNetError(f"{where} cannot be compiled:\n{error}") from error
        return self.loaded[key]

    def code(self):
        """The text to compile."""
        from minigluon.cuda_on_cpu import source

        return source(self.file)


# --- From an operator to its kernel ---------------------------------------------------------------


def cuda(op):
    """Make a function the kernel of `op` for arrays on a GPU, as a decorator.

    It gets the arrays, and all settings by name; what it returns NotImplemented for goes NumPy's way.
    """

    def decorate(function):
        for face in {op, *getattr(op, "revealing", ())}:
            face.kernel = chosen(face.kernel, function, face)
        return function

    return decorate


def chosen(plain, function, op):
    """`plain` for arrays of NumPy, `function` for others."""

    @wraps(plain)
    def kernel(*arrays, **settings):
        if isinstance(arrays[0], np.ndarray):
            return op.plain(*arrays, **settings)
        if len(arrays) <= op.most:
            out = function(*arrays, **{**op.defaults, **settings})
            if out is not NotImplemented:
                return out
        return kernel.plain(*arrays, **settings)

    kernel.plain = plain
    return kernel


# --- Arrays as kernels want them ------------------------------------------------------------------

STORED = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}
WIDE = {"float": 4, "__half": 8, "__nv_bfloat16": 8}  # numbers in 16 bytes: one wide load
VECTORS = [(t, v) for t, w in WIDE.items() for v in (w, 1)]  # the instances of most kernels


def stored(*arrays):
    """The C++ name of the arrays' common type; None if they have none, or one that no kernel knows."""
    kinds = {a.dtype for a in arrays}
    return cpp_name(kinds.pop()) if len(kinds) == 1 else None


@cache
def cpp_name(dtype):
    """The C++ name of a NumPy type, or None; NumPy takes 3 µs to say what a type is called."""
    return STORED.get(dtype.name)


def dense(a):
    """`a`, contiguous: a copy if it is not."""
    return a if a.flags.c_contiguous else a.copy()


def loadable(a):
    """`a`, contiguous and at a multiple of 16 bytes, for kernels that know wide loads only:
    a copy if it is not.
    """
    a = dense(a)
    return a if a.data.ptr % 16 == 0 else a.copy()


def width(kind, cols, *arrays):
    """How many numbers one load may take: rows and addresses must be multiples of 16 bytes."""
    v = WIDE[kind]
    return v if cols % v == 0 and all(a.data.ptr % 16 == 0 for a in arrays) else 1


def row_launch(rows, packs):
    """Grid and block for rows of so many loads: a warp a row where it is short, else a block."""
    if packs <= 256:
        return (-(-rows // 8),), (32, 8)
    return (rows,), (256 if packs <= 2048 else 512 if packs <= 8192 else 1024,)


def flag(value):
    """A truth as a template argument."""
    return "true" if value else "false"


def fits(data, axis):
    """Type, rows and columns if `axis` is the last one of an array that kernels know; else None."""
    kind = stored(data)
    if kind is None or not data.size or axis not in (-1, data.ndim - 1) or not data.ndim:
        return None
    cols = data.shape[-1]
    return kind, data.size // cols, cols


def in_float32(op):
    """Let `op` compute with bfloat16 on a GPU in float32; its results are bfloat16 again."""
    for face in {op, *getattr(op, "revealing", ())}:
        last = face  # kernels for types that they know come before
        kernel, name = face.kernel, "kernel"
        while kernel is not face.plain and hasattr(kernel, "plain"):
            last, kernel, name = kernel, kernel.plain, "plain"
        setattr(last, name, chosen(kernel, partial(wider, kernel), face))


def wider(plain, *arrays, **settings):
    """What `plain` makes of arrays of bfloat16 in float32; NotImplemented if there are none."""
    if not any(is_brief(a) for a in arrays):
        return NotImplemented
    out = plain(*[a.astype("float32") if is_brief(a) else a for a in arrays], **settings)
    brief = next(a.dtype for a in arrays if is_brief(a))
    back = lambda a: a.astype(brief) if getattr(a, "dtype", None) == "float32" else a
    return tuple(map(back, out)) if isinstance(out, tuple) else back(out)


def is_brief(a):
    """Whether it is an array of bfloat16."""
    return hasattr(a, "dtype") and cpp_name(a.dtype) == "__nv_bfloat16"
