"""What NumPy's names mean in operators: a choice of numbers, a product, a shape; the gradients come with them."""

# Written from chapters/24b_numpy_functions.ipynb: edit the chapter, then run `minigluon export`.

import math
from types import SimpleNamespace

import numpy as onp

from minigluon.base import MXNetError
from minigluon.numpy import multiarray as np
from minigluon.op import operators

# --- Linear algebra -------------------------------------------------------------------------------


def norm(x, ord=None, axis=None, keepdims=False):  # noqa: A002
    """The length of vectors, or a norm of matrices: by default the root of the sum of squares.

    Along one axis `ord` is any number; along two, or for matrices, None, 'fro', 'nuc', 1, -1, 2,
    -2, inf or -inf.
    """
    ord = {"inf": onp.inf, "-inf": -onp.inf}.get(ord, ord)  # noqa: A001
    axes = axis if isinstance(axis, tuple) or axis is None else (axis,)
    if ord is None or ord == "fro" or (ord == 2 and axes is not None and len(axes) == 1):
        return np.sqrt(np.sum(x * x, axes, keepdims=keepdims))
    axes = tuple(range(x.ndim))[-2:] if axes is None else axes
    if len(axes) == 1:
        return vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2 or ord not in (1, -1, 2, -2, "nuc", onp.inf, -onp.inf):
        raise MXNetError(
            f"norm: ord={ord!r} for matrices is 'fro', 'nuc', 1, -1, 2, -2, inf or -inf"
        )
    row, column = [a % x.ndim for a in axes]
    if ord in (2, -2, "nuc"):
        values = svd(np.moveaxis(x, (row, column), (-2, -1)))[1]
        found = {2: np.max, -2: np.min, "nuc": np.sum}[ord](values, -1)
        kept = tuple(1 if i in (row, column) else n for i, n in enumerate(x.shape))
        return np.reshape(found, kept) if keepdims else found
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


def svd(a, full_matrices=False):
    """The U, s and Vᵀ of a = U diag(s) Vᵀ, as many columns and rows as there are singular values."""
    return tuple(np.by_numpy("svd", onp.linalg)(a) if full_matrices else np.np_svd(a))


def eigh(a, UPLO="L"):
    """Ascending eigenvalues of symmetric matrices, and eigenvectors as columns."""
    a = a if a.dtype.kind == "f" else a.astype("float64")
    vectors, values = operators["linalg_syevd"](np.swapaxes(a, -1, -2) if UPLO == "U" else a)
    return values, np.swapaxes(vectors, -1, -2)


def eigvalsh(a, UPLO="L"):
    """Ascending eigenvalues of symmetric matrices."""
    return eigh(a, UPLO)[0]


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


def square_map(name, a, first, last):
    """Refuse an array that as a map has not as many numbers on one side as on the other."""
    if math.prod(first) != math.prod(last):
        raise MXNetError(f"{name}: {a.shape} maps {last} to {first}, which are not as many numbers")


def tensorinv(a, ind=2):
    """The inverse of an array as a map from its axes from `ind` on to those before."""
    if ind <= 0:
        raise MXNetError(f"tensorinv: ind={ind}, but it counts the first axes: 1 or more")
    first, last = a.shape[:ind], a.shape[ind:]
    square_map("tensorinv", a, first, last)
    return np.reshape(inv(np.reshape(a, (math.prod(first), -1))), last + first)


def tensorsolve(a, b, axes=None):
    """The x whose product with `a`, summed over all axes of x, is b; `axes` of a go to its end first."""
    if axes is not None:
        axes = [i % a.ndim for i in axes]
        a = np.transpose(a, [i for i in range(a.ndim) if i not in axes] + axes)
    first, last = a.shape[: b.ndim], a.shape[b.ndim :]
    square_map("tensorsolve", a, b.shape, last)
    return np.reshape(solve(np.reshape(a, (math.prod(first), -1)), np.ravel(b)), last)


def pinv(a, rcond=1e-15, hermitian=False):
    """The pseudoinverse of matrices; singular values below `rcond` times the largest one count as 0."""
    if hermitian:
        raise NotImplementedError(
            "pinv: hermitian=True is not there: without it, the result is the same"
        )
    rcond = rcond.asnumpy() if isinstance(rcond, np.ndarray) else rcond
    return np.np_pinv(a if a.dtype.kind == "f" else a.astype("float64"), rcond=rcond)


def real_eig(a):
    """NumPy's `eig`; real where all values are, which NumPy 2.5 leaves complex."""
    values, vectors = onp.linalg.eig(a)
    return (values.real, vectors.real) if not values.imag.any() else (values, vectors)


def real_eigvals(a):
    """NumPy's `eigvals`; real where all of them are."""
    values = onp.linalg.eigvals(a)
    return values if values.imag.any() else values.real


def old_lstsq(a, b, rcond="warn"):
    """NumPy's `lstsq`; "warn" was NumPy 1's word for the machine's precision as the limit."""
    return onp.linalg.lstsq(a, b, rcond=-1 if isinstance(rcond, str) else rcond)


ADAPTED = SimpleNamespace(eig=real_eig, eigvals=real_eigvals, lstsq=old_lstsq)
BY_NUMPY = {
    "cond",
    "eig",
    "eigvals",
    "lstsq",
    "matrix_rank",
    "qr",
}


def __getattr__(name):
    """A function that NumPy carries out."""
    if name not in BY_NUMPY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return np.by_numpy(name, ADAPTED if name in vars(ADAPTED) else onp.linalg)


def __dir__():
    own = [n for n in globals() if n[0] != "_" and hasattr(onp.linalg, n)]
    return sorted({*own, *BY_NUMPY})
