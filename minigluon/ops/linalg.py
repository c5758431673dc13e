"""Nearly all the work of a network is one operator, and the gradient of a product is two products."""

# Written from chapters/14_linalg.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.op import Operand, operator

__all__ = [
    "batch_dot",
    "dot",
    "dot_left",
    "dot_right",
    "left_gradient",
    "left_matrix",
    "product_shape",
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


@operator(
    vjp=(
        lambda g, y, a, b, **t: dot_left(g, b, a, **t),
        lambda g, y, a, b, **t: dot_right(a, g, b, **t),
    )
)
def dot(lhs, rhs, /, transpose_a=False, transpose_b=False):
    """Product over the last axis of `lhs` and the first of `rhs`, whose sizes are equal.

    With `transpose_a` it is the first axis of `lhs`, with `transpose_b` the last of `rhs`.
    """
    a, b = left_matrix(lhs, transpose_a), right_matrix(rhs, transpose_b)
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"the summed axes have sizes {a.shape[1]} and {b.shape[0]}, not equal ones"
        )
    y = a @ b
    if lhs.ndim == rhs.ndim == 2:
        return y
    return y.reshape(product_shape(lhs, rhs, transpose_a, transpose_b))


@operator(
    vjp=(
        lambda h, y, g, b, a, **t: dot(h, b, **t),
        lambda h, y, g, b, a, **t: dot_right(h, g, b, **t),
        None,
    )
)
def dot_left(data, rhs, like, /, transpose_a=False, transpose_b=False):
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
def dot_right(lhs, data, like, /, transpose_a=False, transpose_b=False):
    """The gradient of `dot`'s right factor, in the shape of `like`, from the product's, `data`."""
    a = left_matrix(lhs, transpose_a)
    g = data.reshape(a.shape[0], -1)
    return (g.T @ a if transpose_b else a.T @ g).reshape(like.shape)


# --- Batches of products --------------------------------------------------------------------------


def left_gradient(g, b, transpose_a, transpose_b):
    """The gradient of the left factors."""
    if transpose_a:
        return batch_dot(b, g, transpose_a=transpose_b, transpose_b=True)
    return batch_dot(g, b, transpose_b=not transpose_b)


def right_gradient(g, a, transpose_a, transpose_b):
    """The gradient of the right factors."""
    if transpose_b:
        return batch_dot(g, a, transpose_a=True, transpose_b=transpose_a)
    return batch_dot(a, g, transpose_a=not transpose_a)


@operator(
    vjp=(
        lambda g, y, a, b, **t: left_gradient(g, b, **t),
        lambda g, y, a, b, **t: right_gradient(g, a, **t),
    )
)
def batch_dot(lhs, rhs, /, transpose_a=False, transpose_b=False):
    """Products of the matrices (batch, m, k) and (batch, k, n), each transposed first if asked."""
    if lhs.ndim != 3 or rhs.ndim != 3 or len(lhs) != len(rhs):
        raise ValueError("batch_dot takes two arrays of 3 axes with equal first sizes")
    a = lhs.swapaxes(1, 2) if transpose_a else lhs
    b = rhs.swapaxes(1, 2) if transpose_b else rhs
    if a.shape[2] != b.shape[1]:
        raise ValueError(
            f"the summed axes have sizes {a.shape[2]} and {b.shape[1]}, not equal ones"
        )
    return a @ b


# --- Methods --------------------------------------------------------------------------------------

Operand.dot = dot
Operand.__matmul__ = dot
