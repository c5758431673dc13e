"""Operators of chapter 17: products of sparse matrices, given by their parts."""

import numpy as np

from tests.rows import Row, signed

DATA, COLUMNS, INDPTR = signed(4), np.array([1, 0, 0, 2]), np.array([0, 1, 2, 2, 4])
B, X = signed(3, 2), signed(4, 2, seed=1)


def dense(data, indices, indptr, width=3):
    out = np.zeros((len(indptr) - 1, width))
    out[np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), indices] = data
    return out


def undot(data, indices, indptr, rhs, like):
    return dense(data, indices, indptr).T @ rhs


def pick(lhs, rhs, indices, indptr):
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return (lhs @ rhs.T)[rows, indices]


def retain(data, indices):
    return data * np.isin(np.arange(len(data)), indices)[:, None]


PARTS = (DATA, COLUMNS, INDPTR)
ROWS = [
    Row(
        "csr_dot",
        (*PARTS, B),
        {},
        lambda *a: dense(*a[:3]) @ a[3],
        (0, 3),
        ((*PARTS, B[:1]), {}),
        "out of bounds",
    ),
    Row("csr_undot", (*PARTS, X, B), {}, undot, (0, 3)),
    Row("csr_pick", (X, B, COLUMNS, INDPTR), {}, pick, (0, 1)),
    Row("sparse_retain", (X, np.array([2, 0])), {}, retain, (0,)),
    Row(
        "Embedding",
        (np.array([[2, 0], [2, 2]]), B),
        {"sparse_grad": True},
        lambda i, w, sparse_grad: w[i],
        (1,),
        note="sparse gradient",
    ),
    Row(
        "contrib_SparseEmbedding",
        (np.array([[2, 0], [2, 2]]), B),
        {"input_dim": 3, "output_dim": 2},
        lambda i, w, **_: w[i],
        (1,),
        ((np.array([1]), B), {"input_dim": 4, "output_dim": 2}),
        "weight of shape (4, 2)",
    ),
    Row("_scatter_plus_scalar", (X,), {"scalar": 2.0}, lambda x, scalar: x + scalar, (0,)),
    Row("_scatter_minus_scalar", (X,), {"scalar": 2.0}, lambda x, scalar: x - scalar, (0,)),
    Row(
        "_scatter_elemwise_div",
        (X, X * X + 1),
        {},
        np.divide,
        (0, 1),
        ((X, X[:1]), {}),
        "one shape",
    ),
    Row(
        "contrib_getnnz",
        (dense(*PARTS),),
        {"axis": 1},
        lambda x, axis: np.count_nonzero(x, axis),
        (),
        ((B,), {"axis": 0}),
        "None or 1",
    ),
    Row("contrib_getnnz", (dense(*PARTS),), {}, np.count_nonzero, (), note="all"),
]
