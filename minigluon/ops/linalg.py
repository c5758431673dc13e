"""Nearly all the work of a network is one operator, and the gradient of a product is two products."""

# Written from chapters/14_linalg.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.cores import stacked
from minigluon.op import Operand, operator
from minigluon.ops.reduce import sum
from minigluon.ops.shape import expand_dims, reshape_like

__all__ = [
    "FEW",
    "apart",
    "batch_dot",
    "dot",
    "dot_left",
    "dot_right",
    "khatri_rao",
    "left_gradient",
    "left_matrix",
    "product",
    "product_shape",
    "products",
    "right_gradient",
    "right_matrix",
]


# --- The product ----------------------------------------------------------------------------------


def left_matrix(a, transpose):
    """`a` as a matrix of rows × summed axis."""
    if a.ndim == 2:
        return a.T if transpose else a
    return a.reshape(a.shape[0], -1).T if transpose else a.reshape(-1, a.shape[-1])


def right_matrix(b, transpose):
    """`b` as a matrix of summed axis × columns."""
    if b.ndim == 2:
        return b.T if transpose else b
    return b.reshape(-1, b.shape[-1]).T if transpose else b.reshape(b.shape[0], -1)


def product_shape(a, b, transpose_a, transpose_b):
    """The shape of a product: the axes that are not summed, or (1,)."""
    rows = a.shape[1:] if transpose_a else a.shape[:-1]
    columns = b.shape[:-1] if transpose_b else b.shape[1:]
    return rows + columns or (1,)


# numbers of a matrix up to which NumPy's method `dot` is sooner ready than `@`, by 0.6 µs
FEW = 4096


@operator(
    vjp=(
        lambda g, y, a, b, **t: dot_left(g, b, a, **t),
        lambda g, y, a, b, **t: dot_right(a, g, b, **t),
    )
)
def dot(lhs, rhs, /, transpose_a=False, transpose_b=False, forward_stype=None):
    """Product over the last axis of `lhs` and the first of `rhs`, whose sizes are equal.

    With `transpose_a` it is the first axis of `lhs`, with `transpose_b` the last of `rhs`. Two vectors
    give their inner product, of shape (1,). `forward_stype` asks for a kind of storage: all is dense.
    """
    if lhs.ndim == rhs.ndim == 2:  # the usual case
        a, b = lhs.T if transpose_a else lhs, rhs.T if transpose_b else rhs
        try:
            return a.dot(b) if a.size < FEW else a @ b
        except ValueError:
            pass  # the summed axes differ, as is told below
    a, b = left_matrix(lhs, transpose_a), right_matrix(rhs, transpose_b)
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"the {'first' if transpose_a else 'last'} axis of lhs, of size {a.shape[1]}, and the "
            f"{'last' if transpose_b else 'first'} axis of rhs, of size {b.shape[0]}, must agree"
        )
    return (a @ b).reshape(product_shape(lhs, rhs, transpose_a, transpose_b))


@operator(
    vjp=(
        lambda h, y, g, b, a, **t: dot(h, b, **t),
        lambda h, y, g, b, a, **t: dot_right(h, g, b, **t),
        None,
    )
)
def dot_left(data, rhs, like, /, transpose_a=False, transpose_b=False, forward_stype=None):
    """The gradient of `dot`'s left factor, in the shape of `like`, from the product's, `data`."""
    b = right_matrix(rhs, transpose_b)
    g = data.reshape(-1, b.shape[1])
    return (b @ g.T if transpose_a else g @ b.T).reshape(like.shape)


@operator(
    vjp=(
        lambda h, y, a, g, b, **t: dot_left(g, h, a, **t),
        lambda h, y, a, g, b, **t: dot(a, h, **t),
        None,
    )
)
def dot_right(lhs, data, like, /, transpose_a=False, transpose_b=False, forward_stype=None):
    """The gradient of `dot`'s right factor, in the shape of `like`, from the product's, `data`."""
    a = left_matrix(lhs, transpose_a)
    g = data.reshape(a.shape[0], -1)
    return (g.T @ a if transpose_b else a.T @ g).reshape(like.shape)


# --- Batches of products --------------------------------------------------------------------------


def left_gradient(product, g, b, transpose_a, transpose_b, **settings):
    """The gradient of the left factors."""
    if transpose_a:
        return product(b, g, transpose_a=transpose_b, transpose_b=True, **settings)
    return product(g, b, transpose_a=False, transpose_b=not transpose_b, **settings)


def right_gradient(product, g, a, transpose_a, transpose_b, **settings):
    """The gradient of the right factors."""
    if transpose_b:
        return product(g, a, transpose_a=True, transpose_b=transpose_a, **settings)
    return product(a, g, transpose_a=not transpose_a, transpose_b=False, **settings)


@operator(
    vjp=(
        lambda g, y, a, b, **t: left_gradient(batch_dot, g, b, **t),
        lambda g, y, a, b, **t: right_gradient(batch_dot, g, a, **t),
    )
)
def batch_dot(lhs, rhs, /, transpose_a=False, transpose_b=False, forward_stype=None):
    """Products of the matrices (…, m, k) and (…, k, n), each transposed first if asked.

    The axes before the last two, at least one, are equal.
    """
    if lhs.ndim < 3:
        raise ValueError("lhs has no batch axis: for two matrices there is dot")
    return products(lhs, rhs, transpose_a, transpose_b)


def products(a, b, transpose_a, transpose_b):
    """Matrix products over the last two axes."""
    a = a.swapaxes(-1, -2) if transpose_a else a
    b = b.swapaxes(-1, -2) if transpose_b else b
    left, right = a.shape, b.shape
    if len(left) == 2 == len(right) and left[1] == right[0]:
        return a.dot(b) if a.size < FEW else a @ b
    if len(left) != len(right) or left[:-2] != right[:-2]:
        raise ValueError("the axes before the last two must agree: nothing is broadcast here")
    if left[-1] != right[-2]:
        raise ValueError(f"the summed axes, of sizes {left[-1]} and {right[-2]}, must agree")
    if transpose_b and type(b) is np.ndarray and a.shape[-2] > 1:
        b = np.ascontiguousarray(b)  # NumPy is almost twice as fast with it, the copy included
    return stacked(a, b)


# --- Products of columns --------------------------------------------------------------------------


def product(factors):
    """The elementwise product of a list of arrays; they broadcast."""
    y = factors[0]
    for x in factors[1:]:
        y = y * x
    return y


@operator
def khatri_rao(*args, num_args=None):
    """Columnwise Kronecker products of matrices with equally many columns: each row with each row."""
    first, columns = args[0], args[0].shape[-1]
    for a in args:
        if a.ndim != 2 or (a is not first and a.shape[1] != columns):
            raise ValueError("give matrices with the same number of columns")
    if num_args is not None and num_args != len(args):
        raise ValueError(f"num_args={num_args}, but {len(args)} matrices")
    y = first if len(args) > 1 else first.copy()
    for a in args[1:]:
        y = (y[:, None] * a).reshape(len(y) * len(a), columns)
    return y


def apart(a, i, count):
    """Matrix `a` with its rows along axis `i` of `count`, and its columns along one more."""
    for axis in range(count):
        a = a if axis == i else expand_dims(a, axis=axis)
    return a


@khatri_rao.vjp
def _(g, y, *args, num_args):
    n = len(args)
    spread = [apart(a, i, n) for i, a in enumerate(args)]
    whole = reshape_like(g, product(spread))
    return [
        sum(product([whole, *spread[:i], *spread[i + 1 :]]), axis=(i, n), exclude=True)
        for i in range(n)
    ]


# --- Methods --------------------------------------------------------------------------------------

Operand.dot = dot
Operand.__matmul__ = dot
