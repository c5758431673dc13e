"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.op import operator

__all__ = ["float_or"]


# --- Arrays out of nothing ------------------------------------------------------------------------


def float_or(dtype):
    """A type, by default single precision."""
    return dtype or "float32"


@operator
def _zeros(shape=(1,), ctx=None, dtype="float32"):
    """Zeros, inside a graph."""
    return np.zeros(shape, float_or(dtype))


@operator
def _ones(shape=(1,), ctx=None, dtype="float32"):
    """Ones, inside a graph."""
    return np.ones(shape, float_or(dtype))


@operator
def _full(shape=(1,), value=0.0, ctx=None, dtype="float32"):
    """An array of one value, inside a graph."""
    return np.full(shape, value, float_or(dtype))


@operator
def _arange(start=0, stop=None, step=1.0, repeat=1, infer_range=False, ctx=None, dtype="float32"):
    """Evenly spaced numbers, inside a graph: as `mx.nd.arange`."""
    start, stop = (0, start) if stop is None else (start, stop)
    return np.repeat(np.arange(start, stop, step), repeat).astype(float_or(dtype))


@operator
def _linspace(
    start=0, stop=None, num=1, endpoint=True, step=None, repeat=1, ctx=None, dtype="float32"
):
    """`num` numbers from `start` to `stop`, inside a graph."""
    return np.linspace(start, stop, int(num), endpoint).astype(float_or(dtype))


@operator
def _eye(N=1, M=0, k=0, ctx=None, dtype="float32"):
    """A matrix with ones on its k-th diagonal, inside a graph."""
    return np.eye(int(N), int(M) or None, int(k), float_or(dtype))
