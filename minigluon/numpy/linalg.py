"""The same operators, seen by an array that keeps NumPy's shapes: a sum has no axes, a comparison is true or false."""

# Written from chapters/24_numpy.ipynb: edit the chapter, then run `minigluon export`.

import numpy as onp

from minigluon.base import MXNetError
from minigluon.numpy import multiarray as np
from minigluon.op import operators

# --- Linear algebra and random numbers ------------------------------------------------------------


def norm(x, ord=None, axis=None, keepdims=False):  # noqa: A002
    """The length of vectors, or a norm of matrices: by default the root of the sum of squares.

    Along one axis `ord` is any number; along two, or for a matrix, None, 'fro', 1, -1, inf or -inf.
    """
    axes = axis if isinstance(axis, tuple) or axis is None else (axis,)
    if ord is None or ord == "fro" or (ord == 2 and axes is not None and len(axes) == 1):
        return np.sqrt(np.sum(x * x, axes, keepdims=keepdims))
    axes = tuple(range(x.ndim)) if axes is None else axes
    if len(axes) == 1:
        return vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2 or ord not in (1, -1, onp.inf, -onp.inf):
        raise MXNetError(f"norm: ord={ord!r} for matrices is None, 'fro', 1, -1, inf or -inf")
    row, column = [a % x.ndim for a in axes]
    over, across = (row, column) if ord in (1, -1) else (column, row)
    sums = np.sum(np.abs(x), over, keepdims=True)
    found = (np.max if ord > 0 else np.min)(sums, across, keepdims=True)
    return found if keepdims else np.squeeze(found, (row, column))


def vector_norm(x, ord, axis, keepdims):  # noqa: A002
    """The norm of vectors along an axis."""
    size = np.abs(x)
    if ord in (onp.inf, -onp.inf):
        return (np.max if ord > 0 else np.min)(size, axis, keepdims=keepdims)
    if ord == 0:
        return np.sum((x != 0).astype(x.dtype), axis, keepdims=keepdims)
    return np.power(np.sum(np.power(size, ord), axis, keepdims=keepdims), 1.0 / ord)


def inv(a):
    """The inverse of square matrices."""
    return operators["linalg_inverse"](a)


def det(a):
    """The determinant of square matrices."""
    return np.reshape(operators["linalg_det"](a), a.shape[:-2])


def slogdet(a):
    """Sign and logarithm of the absolute value of the determinant."""
    return [np.reshape(part, a.shape[:-2]) for part in operators["linalg_slogdet"](a)]


def cholesky(a):
    """The lower triangular factor of positive definite matrices."""
    return operators["linalg_potrf"](a)


def solve(a, b):
    """The x of a x = b."""
    return np.np_solve(*np.alike(a, b))


def matrix_power(a, n):
    """The n-th power of square matrices; n is a whole number."""
    if n < 0:
        return matrix_power(inv(a), -n)
    found = np.eye(a.shape[-1], dtype=a.dtype) + np.zeros_like(a)
    for bit in bin(n)[2:]:
        found = np.matmul(found, found)
        found = np.matmul(found, a) if bit == "1" else found
    return found


def multi_dot(arrays, out=None):
    """The product of several matrices."""
    found = arrays[0]
    for a in arrays[1:]:
        found = np.dot(found, a)
    return found


BY_NUMPY = {
    "cond",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "lstsq",
    "matrix_rank",
    "pinv",
    "qr",
    "svd",
    "tensorinv",
    "tensorsolve",
}


def __getattr__(name):
    """A function that NumPy carries out."""
    if name not in BY_NUMPY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return np.by_numpy(name, onp.linalg)
