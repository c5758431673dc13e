"""Operators of chapter 14b: factorizations, triangular systems, determinants."""

import itertools
import math

import numpy as np

from tests.rows import Row, positive, signed

A, B, C = signed(2, 3), signed(3, 4), signed(2, 4)
SQUARE = signed(3, 3) + 3 * np.eye(3)
STACK = signed(2, 3, 3) + 3 * np.eye(3)
LOW = np.tril(0.3 * signed(3, 3), -1) + np.diag([1.5, 2.0, 2.5])  # a Cholesky factor
LOWS = np.stack([LOW, LOW + 0.1 * np.tril(np.ones((3, 3)))])
SHEAR = signed(4, 4)
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


def t(x):
    return x.swapaxes(-1, -2)


def gemm2(a, b, transpose_a=False, transpose_b=False, alpha=1.0):
    return alpha * ((t(a) if transpose_a else a) @ (t(b) if transpose_b else b))


def part(a, transpose, lower):
    """The triangle that an operator reads, turned as it wants."""
    a = np.tril(a) if lower else np.triu(a)
    return t(a) if transpose else a


def trmm(a, b, transpose=False, rightside=False, lower=True, alpha=1.0):
    a = part(a, transpose, lower)
    return alpha * (b @ a if rightside else a @ b)


def trsm(a, b, transpose=False, rightside=False, lower=True, alpha=1.0):
    a = inverse(part(a, transpose, lower))
    return alpha * (b @ a if rightside else a @ b)


def det(a):
    """Leibniz's sum over all permutations."""
    n, total = a.shape[-1], 0
    for order in itertools.permutations(range(n)):
        turns = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
        total = total + (-1) ** turns * math.prod(a[..., i, order[i]] for i in range(n))
    return total


def inverse(a):
    """Cramer's rule."""
    n = a.shape[-1]
    minors = [
        [(-1) ** (i + j) * det(np.delete(np.delete(a, i, -2), j, -1)) for i in range(n)]
        for j in range(n)
    ]
    return np.moveaxis(np.array(minors), (0, 1), (-2, -1)) / det(a)[..., None, None]


def householder(a):
    """LQ of one matrix by reflections."""
    low, q = a.copy(), np.eye(a.shape[1])
    for i in range(min(a.shape[0], a.shape[1] - 1)):
        v = np.zeros(a.shape[1])
        v[i:] = low[i, i:]
        v[i] += np.copysign(np.linalg.norm(low[i, i:]), low[i, i])
        reflection = np.eye(a.shape[1]) - 2 * np.outer(v, v) / (v @ v)
        low, q = low @ reflection, reflection @ q
    return q[: a.shape[0]], np.tril(low[:, : a.shape[0]])


def turned(angle):
    """A symmetric matrix of known eigenvectors, the larger number of each positive."""
    c, s = math.cos(angle), math.sin(angle)
    u = np.array([[c, s], [-s, c]])
    return u.T @ np.diag([1.0, 2.5]) @ u, u, np.array([1.0, 2.5])


TURNED = [turned(0.3), turned(-0.6)]


def extracttrian(a, offset=0, lower=True):
    """Number by number: by rows of a lower triangle, by columns of an upper one."""
    n, down = a.shape[-1], offset < 0 or (offset == 0 and lower)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    if down:
        chosen = [(i, j) for i, j in pairs if j - i <= offset]
    else:
        chosen = [(i, j) for j, i in pairs if j - i >= offset]
    return np.stack([a[..., i, j] for i, j in chosen], -1)


def maketrian(a, offset=0, lower=True):
    n = {1: 1, 3: 2, 6: 3}[a.shape[-1]] + abs(offset)
    where = extracttrian(np.arange(n * n).reshape(n, n), offset, lower)
    y = np.zeros((*a.shape[:-1], n * n))
    y[..., where] = a
    return y.reshape(*a.shape[:-1], n, n)


def makediag(a, offset=0):
    one = np.eye(a.shape[-1] + abs(offset), k=offset)
    y = np.zeros((*a.shape[:-1], *one.shape))
    y[..., one > 0] = a
    return y


TRIANGULAR = list(itertools.product([False, True], repeat=3))


def triangular(op, reference):
    """All forms of a triangular operator."""
    return [
        Row(
            op,
            (SQUARE, signed(2, 3) if right else B),
            {"transpose": transpose, "rightside": right, "lower": lower, "alpha": 0.5},
            reference,
            note=f"{transpose}-{right}-{lower}",
        )
        for transpose, right, lower in TRIANGULAR
    ]


ROWS = [
    Row(
        "linalg_gemm",
        (A, B, C),
        {},
        lambda a, b, c: a @ b + c,
        wrong=((A, B, B), {}),
        says="(2, 4)",
    ),
    Row(
        "linalg_gemm",
        (signed(2, 3, 2), signed(2, 4, 3), signed(2, 2, 4)),
        {"transpose_a": True, "transpose_b": True, "alpha": 2.0, "beta": -0.5},
        lambda a, b, c, **_: 2 * t(a) @ t(b) - 0.5 * c,
        wrong=((signed(3), B, C), {}),
        says="1 axis holds no matrices",
        note="batch",
    ),
    Row("linalg_gemm2", (A, B), {}, gemm2, wrong=((A, A), {}), says="sizes 3 and 2"),
    *[
        Row(
            "linalg_gemm2",
            (signed(2, *((3, 2) if ta else (2, 3))), signed(2, *((4, 3) if tb else (3, 4)))),
            {"transpose_a": ta, "transpose_b": tb, "alpha": 1.5},
            gemm2,
            note=f"{ta}-{tb}",
            wrong=((STACK, STACK[:1]), {}),
            says="nothing is broadcast",
        )
        for ta, tb in [(True, False), (False, True), (True, True)]
    ],
    Row(
        "linalg_gemm2",
        (signed(3, 2, 5, 4), signed(6, 2, 5, 4)),
        {"transpose_b": True, "axis": 0},
        lambda a, b, **_: np.einsum("mijk,nijk->mijn", a, b),
        wrong=((STACK, STACK), {"axis": -1}),
        says="axis -1 of 3 axes",
        note="axis",
    ),
    Row(
        "linalg_syrk",
        (A,),
        {},
        lambda a: a @ a.T,
        wrong=((signed(3),), {}),
        says="holds no matrices",
    ),
    Row(
        "linalg_syrk",
        (signed(2, 2, 3),),
        {"transpose": True, "alpha": 0.5},
        lambda a, **_: 0.5 * t(a) @ a,
        note="batch",
    ),
    *triangular("linalg_trmm", trmm),
    *triangular("linalg_trsm", trsm),
    Row(
        "linalg_trmm", (STACK, STACK), {}, trmm, None, ((A, A), {}), "2 × 3 is not square", note="b"
    ),
    Row("linalg_trsm", (STACK, STACK), {}, trsm, None, ((SQUARE, A), {}), "axis -2 of B", note="b"),
    Row("linalg_potrf", (LOW @ LOW.T,), {}, lambda a: LOW, symmetric=True),
    Row(
        "linalg_potrf",
        (LOWS @ t(LOWS),),
        {"lower": False},
        lambda a, **_: t(LOWS),
        symmetric=True,
        note="upper",
        wrong=((-np.eye(2),), {}),
        says="positive definite",
    ),
    Row(
        "linalg_potri",
        (SQUARE,),
        {},
        lambda a: inverse(np.tril(a) @ np.tril(a).T),
        wrong=((np.tri(2) - np.eye(2),), {}),
        says="zero on its diagonal",
    ),
    Row(
        "linalg_potri",
        (STACK,),
        {"lower": False},
        lambda a, **_: inverse(t(np.triu(a)) @ np.triu(a)),
        note="upper",
    ),
    Row(
        "linalg_sumlogdiag",
        (positive(3, 3),),
        {},
        lambda a: np.log(a[0, 0] * a[1, 1] * a[2, 2]),
        wrong=((A,), {}),
        says="2 × 3 is not square",
    ),
    Row(
        "linalg_sumlogdiag",
        (positive(2, 1, 2, 2),),
        {},
        lambda a: np.log(a[..., 0, 0] * a[..., 1, 1]),
        note="batch",
    ),
    Row("linalg_gelqf", (A,), {}, householder, wrong=((A.T,), {}), says="more rows than columns"),
    Row("linalg_gelqf", (SQUARE,), {}, householder, note="square"),
    Row(
        "linalg_gelqf",
        (signed(2, 2, 4),),
        {},
        lambda a: tuple(np.stack(x) for x in zip(*map(householder, a))),
        note="batch",
    ),
    Row(
        "linalg_syevd",
        (TURNED[0][0],),
        {},
        lambda a: TURNED[0][1:],
        symmetric=True,
        wrong=((A,), {}),
        says="2 × 3 is not square",
    ),
    Row(
        "linalg_syevd",
        (np.stack([a for a, _, _ in TURNED]),),
        {},
        lambda a: tuple(np.stack(x) for x in list(zip(*TURNED))[1:]),
        symmetric=True,
        note="batch",
    ),
    *[
        Row(
            "linalg_extractdiag",
            (signed(2, 3, 3),),
            {"offset": k},
            lambda a, offset: np.diagonal(a, offset, 1, 2),
            wrong=((SQUARE,), {"offset": 3}),
            says="offset 3",
            note=str(k),
        )
        for k in (0, 1, -2)
    ],
    *[
        Row("linalg_makediag", (signed(2, 3),), {"offset": k}, makediag, note=str(k))
        for k in (0, 2, -1)
    ],
    *[
        Row(
            op,
            (array,),
            {"offset": k, "lower": lower},
            reference,
            wrong=((wrong,), {}),
            says=says,
            note=f"{k}-{lower}",
        )
        for op, array, reference, wrong, says in [
            ("linalg_extracttrian", SHEAR, extracttrian, A, "2 × 3 is not square"),
            ("linalg_extracttrian", signed(2, 3, 3), extracttrian, A, "2 × 3 is not square"),
            ("linalg_maketrian", signed(6), maketrian, signed(5), "5 numbers fill no triangle"),
        ]
        for k, lower in [(0, True), (0, False), (1, True), (-1, False)]
    ],
    Row("linalg_maketrian", (signed(2, 2, 3),), {}, maketrian, note="batch"),
    Row("linalg_inverse", (SQUARE,), {}, inverse, None, ((SINGULAR,), {}), "invertible"),
    Row("linalg_inverse", (STACK,), {}, inverse, note="batch"),
    Row("linalg_det", (SQUARE,), {}, det, None, ((signed(3),), {}), "1 axis holds no matrices"),
    Row("linalg_det", (-STACK,), {}, det, note="batch"),
    Row(
        "linalg_slogdet",
        (-SQUARE,),
        {},
        lambda a: (np.sign(det(a)), np.log(np.abs(det(a)))),
        wrong=((A,), {}),
        says="2 × 3 is not square",
    ),
    Row(
        "linalg_slogdet",
        (STACK,),
        {},
        lambda a: (np.sign(det(a)), np.log(np.abs(det(a)))),
        note="batch",
    ),
    Row("triangle", (SHEAR,), {}, lambda a: np.tril(a)),
    Row(
        "triangle",
        (signed(2, 3, 3),),
        {"lower": False, "diagonal": 0.5},
        lambda a, **_: np.triu(a, 1) + 0.5 * np.eye(3) * a,
        note="half",
    ),
    Row("inverse_or_zero", (STACK,), {}, inverse),
    Row("inverse_or_zero", (SINGULAR,), {}, np.zeros_like, (), note="singular"),
]
