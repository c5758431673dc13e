"""Factorizations beyond the table: what defines each of them, on random matrices; what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigluon as mx
from minigluon import autograd, nd
from minigluon.ndarray.ndarray import place
from minigluon.ops.factorizations import linalg_trsm, substitute

quick = settings(max_examples=40, deadline=None)
linalg = nd.linalg
REAL = ["potrf", "potri", "syrk", "gelqf", "syevd", "inverse", "det", "slogdet", "sumlogdiag"]
REAL += ["extractdiag", "extracttrian"]  # of one matrix


def ours(a):
    return place(np.array(a), None)


def t(x):
    return x.swapaxes(-1, -2)


def close(got, want, like=None):
    """Equal to the precision of the type in which it was computed."""
    got, want = (a.asnumpy() if hasattr(a, "asnumpy") else a for a in (got, want))
    tolerance = 1e-9 if got.dtype == "float64" else 2e-3
    assert got.shape == want.shape and (like is None or got.dtype == like)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@st.composite
def stacks(draw, square=True, most=5):
    """Well-conditioned random matrices, none, one or several, in either type, in any layout."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    m = draw(st.integers(1, most))
    n = m if square else draw(st.integers(m, most + 2))
    batch = draw(st.sampled_from([(), (), (2,), (2, 3), (0,)]))
    a = rng.uniform(-1, 1, (*batch, m, n)) + (m + 1) * np.eye(m, n)
    a = a.astype(draw(st.sampled_from(["float32", "float64"])))
    return np.asfortranarray(a) if draw(st.booleans()) else a


@given(stacks(), st.booleans())
@quick
def test_cholesky(x, lower):
    a = x @ t(x)
    y = linalg.potrf(ours(a), lower=lower)
    f = y.asnumpy()
    close(f @ t(f) if lower else t(f) @ f, a, x.dtype)
    assert (f == (np.tril(f) if lower else np.triu(f))).all()
    assert (np.diagonal(f, 0, -2, -1) > 0).all()
    close(linalg.potri(y, lower=lower).asnumpy() @ a, np.zeros_like(a) + np.eye(a.shape[-1]))
    close(2 * linalg.sumlogdiag(y), linalg.slogdet(ours(a))[1])


@given(stacks(square=False))
@quick
def test_lq(a):
    q, low = linalg.gelqf(ours(a))
    close(low.asnumpy() @ q.asnumpy(), a, a.dtype)
    close(q.asnumpy() @ t(q.asnumpy()), np.zeros(low.shape, a.dtype) + np.eye(a.shape[-2]))
    assert (low.asnumpy() == np.tril(low.asnumpy())).all()


@given(stacks())
@quick
def test_eigenvalues(x):
    a = x + t(x)
    u, values = (y.asnumpy() for y in linalg.syevd(ours(a)))
    close(t(u) @ (values[..., None] * u), a, x.dtype)
    close(u @ t(u), np.zeros_like(a) + np.eye(a.shape[-1]))
    assert (np.diff(values) >= 0).all()
    assert (u.max(-1) >= np.abs(u).max(-1) - 1e-6).all()


@given(stacks(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([1.0, 2, -0.5]))
@quick
def test_trsm_undoes_trmm_and_reads_one_triangle(a, transpose, rightside, lower, alpha):
    form = {"transpose": transpose, "rightside": rightside, "lower": lower}
    b = ours(np.random.default_rng(0).normal(size=a.shape).astype(a.dtype))
    other = ~np.tri(a.shape[-1], dtype=bool)
    a = np.where(other if lower else t(other), np.nan, a)
    y = linalg.trmm(ours(a), b, alpha=alpha, **form)
    close(linalg.trsm(ours(a), y, alpha=1 / alpha, **form), b, a.dtype)


@given(stacks(), stacks())
@quick
def test_determinants(a, b):
    det = lambda x: linalg.det(ours(x)).asnumpy()
    sign, value = (y.asnumpy() for y in linalg.slogdet(ours(a)))
    np.testing.assert_allclose(sign * np.exp(value), det(a), rtol=1e-3)
    np.testing.assert_allclose(det(linalg.inverse(ours(a)).asnumpy()) * det(a), 1, rtol=1e-3)
    if a.shape == b.shape and a.dtype == b.dtype:
        np.testing.assert_allclose(det(a @ b), det(a) * det(b), rtol=1e-3)


@given(stacks(), st.integers(-3, 3), st.booleans())
@quick
def test_triangles_and_diagonals_are_taken_and_put_back(a, offset, lower):
    if abs(offset) >= a.shape[-1]:
        with pytest.raises(mx.MXNetError, match=f"offset {offset}"):
            linalg.extracttrian(ours(a), offset=offset)
        return
    x = ours(a)
    kept = linalg.maketrian(linalg.extracttrian(x, offset, lower), offset, lower)
    down = offset < 0 or (offset == 0 and lower)
    close(kept, np.tril(a, offset) if down else np.triu(a, offset), a.dtype)
    line = linalg.makediag(linalg.extractdiag(x, offset=offset), offset=offset)
    close(line, np.tril(np.triu(a, offset), offset), a.dtype)


def test_an_upper_triangle_is_packed_as_the_transpose_of_a_lower_one():
    v = ours(np.arange(1.0, 7))
    assert (linalg.maketrian(v, lower=False).asnumpy() == linalg.maketrian(v).asnumpy().T).all()
    assert (linalg.maketrian(v).asnumpy() == [[1, 0, 0], [2, 3, 0], [4, 5, 6]]).all()


def test_one_batch_is_many_matrices():
    a = np.random.default_rng(0).normal(size=(2, 3, 4, 4)) + 4 * np.eye(4)
    for name in ("potrf", "potri", "inverse", "det", "slogdet", "syevd", "gelqf", "sumlogdiag"):
        f = getattr(linalg, name)
        x = a @ t(a)
        both = lambda y: [o.asnumpy() for o in (y if isinstance(y, list) else [y])]
        whole = both(f(ours(x)))
        for i, j in np.ndindex(2, 3):
            for w, one in zip(whole, both(f(ours(x[i, j])))):
                np.testing.assert_allclose(w[i, j], one.reshape(w[i, j].shape), rtol=1e-10)


@pytest.mark.parametrize("n", [32, 33, 100])
@pytest.mark.parametrize("lower", [True, False])
def test_large_triangles_are_solved_by_halves(n, lower):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, n, n)) + 2 * n * np.eye(n)
    b = rng.normal(size=(2, n, 3))
    triangle = np.tril(a) if lower else np.triu(a)
    np.testing.assert_allclose(triangle @ substitute(a, b, lower), b, rtol=1e-9, atol=1e-9)
    y = linalg_trsm(a, t(b), rightside=True, lower=lower)
    np.testing.assert_allclose(y @ triangle, t(b), rtol=1e-9, atol=1e-9)
    assert y.flags.c_contiguous


def test_gemm_along_another_axis_is_swapaxes():
    rng = np.random.default_rng(0)
    a, b, c = (ours(rng.normal(size=s)) for s in [(2, 5, 3), (3, 5, 4), (2, 5, 4)])
    turn = lambda x: nd.swapaxes(x, dim1=0, dim2=1)
    got = linalg.gemm(a, b, c, axis=0, alpha=2.0, beta=3.0)
    close(got, turn(linalg.gemm(turn(a), turn(b), turn(c), alpha=2.0, beta=3.0)))
    assert got._data.flags.c_contiguous


def test_only_real_types_are_taken():
    for dtype in ("float16", "int32", "int64", "uint8"):
        x, v = ours(np.eye(2, dtype=dtype)), ours(np.ones(3, dtype))
        for name in REAL:
            with pytest.raises(mx.MXNetError, match=f"float32 or float64 is needed, not {dtype}"):
                getattr(linalg, name)(x)
        for call in (
            lambda x=x: linalg.gemm2(x, x),
            lambda x=x: linalg.gemm(x, x, x),
            lambda x=x: linalg.trmm(x, x),
            lambda x=x: linalg.trsm(x, x),
            lambda v=v: linalg.makediag(v),
            lambda v=v: linalg.maketrian(v),
        ):
            with pytest.raises(mx.MXNetError, match="float32 or float64 is needed"):
                call()
    with pytest.raises(mx.MXNetError):
        linalg.gemm2(ours(np.eye(2)), ours(np.eye(2, dtype="float32")))


def gradient(f, a):
    x = ours(a)
    x.attach_grad()
    with autograd.record():
        y = f(x)
    y.backward()
    return x.grad.asnumpy()


def test_what_is_singular():
    singular = np.array([[1.0, 2], [2, 4]])
    with pytest.raises(mx.MXNetError, match=r"in linalg_potrf\(A: float64\[2, 2\]\).*positive def"):
        linalg.potrf(ours(singular))
    with pytest.raises(mx.MXNetError, match=r"in linalg_trsm\(.*zero on its diagonal"):
        linalg.trsm(ours(np.zeros((40, 40))), ours(np.ones((40, 1))))
    with pytest.raises(mx.MXNetError, match="zero on its diagonal"):
        gradient(lambda x: linalg.gelqf(x)[1].sum(), np.zeros((2, 3)))
    sign, value = linalg.slogdet(ours(singular))
    assert linalg.det(ours(singular)).asscalar() == sign.asscalar() == 0
    assert value.asscalar() == -np.inf


def test_a_singular_matrix_gets_no_gradient_and_spoils_no_other():
    a = np.stack([np.eye(2), np.ones((2, 2)), 2 * np.eye(2)]).astype("float32")
    got = gradient(lambda x: linalg.det(x), a)
    assert (got == [np.eye(2), np.zeros((2, 2)), 2 * np.eye(2)]).all() and got.dtype == "float32"
    got = gradient(lambda x: linalg.slogdet(x)[1], a)
    assert (got == [np.eye(2), np.zeros((2, 2)), np.eye(2) / 2]).all()


def test_equal_eigenvalues():
    eye = np.eye(3, dtype="float32")
    assert (gradient(lambda x: linalg.syevd(x)[1], eye) == eye).all()
    head = np.array([[0.0, 1], [0, 0]], "float32")
    got = gradient(lambda x: linalg.syevd(x)[0] * ours(head), np.eye(2, dtype="float32"))
    np.testing.assert_allclose(got, [[0, -5e29], [-5e29, 0]], rtol=1e-5)


def test_the_log_of_a_negative_diagonal_is_nan():
    with np.errstate(invalid="ignore"):
        assert np.isnan(linalg.sumlogdiag(ours(-np.eye(2))).asscalar())


@pytest.mark.parametrize(
    "name, want",
    [("potrf", 3 / 8 * 4**-2.5), ("inverse", -6 * 4.0**-4), ("potri", -24 * 4.0**-5)],
)
def test_third_derivatives(name, want):
    x = ours(np.array([[4.0]]))
    x.attach_grad()
    with autograd.record():
        y = getattr(linalg, name)(x)
        for _ in range(2):
            y = autograd.grad(y, x, create_graph=True)[0]
    y.backward()
    np.testing.assert_allclose(x.grad.asscalar(), want, rtol=1e-10)


def test_names():
    for name in [*REAL, "gemm", "gemm2", "trmm", "trsm", "makediag", "maketrian"]:
        for found in (f"linalg_{name}", f"_linalg_{name}"):
            assert getattr(nd.op, found).__doc__ == getattr(linalg, name).__doc__
