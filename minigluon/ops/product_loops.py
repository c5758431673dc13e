"""A library that multiplies matrices copies them first. Cut a product into blocks that fit into the cache, and there is nothing to copy for."""

# Written from chapters/96h_product_loops.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
from functools import cache

import numpy as np

from minigluon.cores import (
    alone,
    busy,
    neighbours,
    on_a_core,
    plain_matmul,
    prompt,
    spread_matmul,
    together,
)
from minigluon.native import Loops, compiled, gemm

__all__ = [
    "FEW",
    "SHORT",
    "blocked",
    "in_blocks",
    "least",
    "loops",
    "product",
    "room",
    "share",
    "threads",
    "tiling",
]


# --- Code: on one core ----------------------------------------------------------------------------

loops = Loops("products")
FEW = 1 << 15  # multiplications that are too few for any call
SHORT = 1 << 26  # multiplications up to which it pays that helpers wait awake


@cache
def tiling():
    """Whether all products are made of tiles, where OpenBLAS copies matrices of any size."""
    return gemm() is not None and bool(compiled("products").tiling())


def least(stack=False):
    """Multiplications of a product, or of each one of a stack, up to which NumPy's way is taken:
    OpenBLAS copies nothing then, or a call costs too much.
    """
    return 1_000_000 if not tiling() else FEW if stack else 1 << 18


@cache
def product():
    """The function of products.cpp, called with Python's lock."""
    function = ctypes.PyDLL(compiled("products")._name).product
    function.argtypes = [
        *[ctypes.c_void_p] * 2,
        *[ctypes.c_int64] * 2,
        ctypes.c_int,
        *[ctypes.py_object] * 4,
    ]
    return function


@cache
def share():
    """The place of the function by which loops share pieces among threads."""
    library = ctypes.PyDLL(compiled("helpers")._name)
    neighbours.append(library.go_to_sleep)
    return ctypes.cast(library.share, ctypes.c_void_p)


def blocked(a, b, out=None, threads=1, bias=None, ending=0):
    """`a @ b` of NumPy's matrices on so many cores, or of stacks of them on one;
    None if they do not suit.

    The result goes into `out` if it is given. `ending`: 0, or 1 where each column gets
    a number of `bias`, 2 where each row does; and 4 more where nothing below 0 is to remain.
    """
    if min(a.ndim, b.ndim) < 2:
        return None
    work = a.shape[-2] * a.shape[-1] * b.shape[-1]
    if work <= FEW or not (a.dtype.char == b.dtype.char == "f" and loops):
        return None
    few = least(max(a.ndim, b.ndim) > 2)
    if work <= few or (work > SHORT and threads > 1 and not tiling()):
        return None
    into = room(a, b) if out is None else out
    arrays = (x.__array_struct__ for x in (a, b, into, into if bias is None else bias))
    return into if product()(gemm(), share(), few, threads, ending, *arrays) else None


def room(a, b):
    """Memory for `a @ b`."""
    if a.ndim == b.ndim == 2:
        return np.empty((len(a), b.shape[1]), a.dtype)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return np.empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)


def in_blocks(otherwise, count=lambda: 1):
    """A product in blocks where they suit, on `count()` cores, `otherwise` where they do not."""

    def multiply(a, b, out=None):
        found = blocked(a, b, out, count())
        return otherwise(a, b, out) if found is None else found

    return multiply


on_a_core.append(in_blocks(plain_matmul))


# --- Code: on all cores ---------------------------------------------------------------------------


def threads():
    """How many threads a loop may have: one where others work already, else OpenBLAS's number."""
    if (count := alone.threads) > 1:
        busy()
    return count


together.append(in_blocks(spread_matmul, threads))
prompt.append(in_blocks(plain_matmul, threads))
