"""Every operator against NumPy and its own derivatives: one row an operator, seven checks a row."""

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon.autograd import sum_like
from minigluon.ndarray.ndarray import NDArray, place
from minigluon.op import operators
from minigluon.symbol.inference import Outline
from tests.cases import ROWS
from tests.standins import Duck, Traced, unwrap, wrap

minigluon.ops.load()

every = pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
differentiable = pytest.mark.parametrize(
    "row", [row for row in ROWS if row.differentiable], ids=lambda row: row.id
)


def ours(a):
    """An NDArray of the same type; a plain number as it is."""
    return place(np.array(a), None) if isinstance(a, np.ndarray) else a


def numbers(x):
    """The NumPy arrays of one output or several."""
    return [np.asarray(o) for o in (x if isinstance(x, list | tuple) else [x])]


def listed(x):
    return list(x) if isinstance(x, list | tuple) else [x]


def call(row, *arrays):
    return operators[row.op](*arrays, **row.settings)


def weighted(row, arrays):
    """A scalar of the outputs, by a fixed random weighting."""
    total = 0
    for i, y in enumerate(listed(call(row, *arrays))):
        weight = ours(np.random.default_rng(i).normal(size=y.shape).astype(y.dtype))
        total = total + (y * weight).sum()
    return total


def check_gradient(f, arrays, which, eps=1e-6, rtol=1e-5, atol=1e-7, symmetric=False):
    """The gradient of `f` against central differences, along one random direction an array."""
    xs = [ours(a) for a in arrays]
    for i in which:
        xs[i].attach_grad()
    with mx.autograd.record():
        y = f(xs)
    y.backward()
    for i in which:
        v = np.random.default_rng(i).normal(size=arrays[i].shape)
        v = v + v.swapaxes(-1, -2) if symmetric else v

        def moved(t, i=i, v=v):
            at = [ours(a + t * v) if j == i else ours(a) for j, a in enumerate(arrays)]
            return f(at).asscalar()

        slope = (moved(eps) - moved(-eps)) / (2 * eps)
        np.testing.assert_allclose((xs[i].grad.asnumpy() * v).sum(), slope, rtol=rtol, atol=atol)


@every
def test_forward(row):
    want = row.reference(*row.arrays, **row.settings)
    got = numbers(call(row, *map(ours, row.arrays)))
    scalar = row.op.startswith("_np_") or row.op == "contrib_allclose"  # these have shape ()
    shaped = np.asarray if scalar else np.atleast_1d
    want = [shaped(w) for w in (want if isinstance(want, list | tuple) else [want])]
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-12)


@differentiable
def test_gradient(row):
    f = lambda xs: weighted(row, xs)
    check_gradient(f, row.arrays, row.differentiable, symmetric=row.symmetric)


@differentiable
def test_second_gradient(row):
    def gradient_norm(xs):
        for i in row.differentiable:
            if xs[i]._node is None:
                xs[i].attach_grad()
        variables = [xs[i] for i in row.differentiable]
        with mx.autograd.record():
            grads = mx.autograd.grad(weighted(row, xs), variables, create_graph=True)
            total = 0
            for g, x in zip(grads, variables):
                total = total + ((g + x) * (g + x)).sum()
        return total

    check_gradient(
        gradient_norm, row.arrays, row.differentiable, rtol=1e-4, atol=1e-6, symmetric=row.symmetric
    )


def shares(op, g, y, args, settings, which):
    """What the rules of `op` give for the arrays in `which`."""
    settings = {**op.defaults, **settings}
    if isinstance(op.rules, tuple):
        rules = op.rules[: len(args)]
        return [rules[i](g, y, *args, **settings) if i in which else None for i in range(len(args))]
    return list(op.rules(g, y, *args, **settings))


def run_rules(row, enter, leave):
    """The gradients by the rules of a row, computed on arrays as `enter` makes them."""
    op = operators[row.op]
    y = op.kernel(*row.arrays, **row.settings)
    g = [np.ones_like(o) for o in y] if isinstance(y, tuple) else np.ones_like(y)
    args = [enter(a) if isinstance(a, np.ndarray) else a for a in row.arrays]
    y = [enter(o) for o in y] if isinstance(y, tuple) else enter(y)
    g = [enter(o) for o in g] if isinstance(g, list) else enter(g)
    found = shares(op, g, y, args, row.settings, row.differentiable)
    return [
        None if s is None else sum_like(np.asarray(leave(s)), a)
        for i, (s, a) in enumerate(zip(found, row.arrays))
        if i in row.differentiable
    ]


@differentiable
def test_rules_can_be_traced(row):
    plain = run_rules(row, lambda a: a, lambda a: a)
    traced = run_rules(row, Traced, lambda t: t._hidden)
    for p, t in zip(plain, traced):
        np.testing.assert_array_equal(p, t)


@every
def test_stays_on_its_device(row):
    args = [wrap(a) for a in row.arrays]
    want = row.reference(*row.arrays, **row.settings)
    got = operators[row.op](*args, **row.settings)
    for g, w in zip(listed(got), listed(want)):
        made = not row.arrays  # out of nothing: who calls puts it on a device
        assert made or isinstance(g, Duck), f"{row.op} left its device"
        np.testing.assert_allclose(unwrap(g), np.atleast_1d(w), rtol=1e-12, atol=1e-12)
    if row.differentiable:
        run_rules(row, wrap, unwrap)


# operators that ask for numbers that zeros have not, or that write into an array they were given
NO_OUTLINE = {
    *("csr_dot", "csr_undot", "contrib_ROIAlign", "linalg_trsm", "linalg_potrf", "linalg_potri"),
    *("linalg_inverse", "inverse_or_zero", "nansum", "nanprod", "_np_nan_to_num", "_np_solve"),
    *("sort", "scatter_nd", "gather_places", "scatter_add_nd", "unmask", "contrib_index_copy"),
    *("_scatter_set_nd", "_np_constraint_check"),
    *("rows_at", "contrib_calibrate_entropy", "sample_poisson", "sample_multinomial"),
    "sample_generalized_negative_binomial",
}


@every
def test_outlines_have_the_shapes_of_zeros(row):
    op, settings = operators[row.op], dict(row.settings)
    if "rng" in op.known:
        settings["rng"] = 0

    def shapes(made):
        args = [made(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in row.arrays]
        with np.errstate(all="ignore"):
            y = op.plain(*args, **settings)
        return [(o.shape, o.dtype) for o in (y if isinstance(y, tuple) else [y]) if o is not None]

    try:
        found = shapes(Outline)
    except Exception:
        assert row.op in NO_OUTLINE
        return
    try:
        wanted = shapes(np.zeros)
    except Exception:  # such as a rate of zero
        given = iter([a for a in row.arrays if isinstance(a, np.ndarray)])
        wanted = shapes(lambda *_: next(given))
    assert found == wanted


def test_outlines_are_computed_without_numbers():
    a, b = Outline((2, 3, 4), "float32"), Outline((4, 5))
    made = [a + 1, a @ b, np.dot(a, b), a.sum(axis=1), np.concatenate([a, a]), a.mean(), a[:, 1:]]
    made += [np.where(a > 0, a, 1), np.zeros_like(a, shape=7), a.astype("int8"), a.T.ravel()]
    made += [np.pad(a, 1), np.cumsum(a, 1), a.max(-1, keepdims=True), np.exp(a), a.reshape(6, -1)]
    wanted = [(2, 3, 4), (2, 3, 5), (2, 3, 5), (2, 4), (4, 3, 4), (), (2, 2, 4), (2, 3, 4), (7,)]
    wanted += [(2, 3, 4), (24,), (4, 5, 6), (2, 3, 4), (2, 3, 1), (2, 3, 4), (6, 4)]
    assert [y.shape for y in made] == wanted
    assert all(type(y) is Outline and {*y.strides} <= {0} for y in made)
    assert [y.dtype.name for y in made[:3]] == ["float32", "float64", "float64"]
    for wrong in (
        lambda: a + np.zeros(3),
        lambda: a @ a,
        lambda: np.concatenate([a, b]),
        lambda: a.__iadd__(np.zeros((5, 2, 3, 4))),
        lambda: a.__setitem__(0, np.zeros((4, 3))),
    ):
        with pytest.raises((ValueError, TypeError)):
            wrong()


@pytest.mark.parametrize("row", [row for row in ROWS if row.wrong], ids=lambda row: row.id)
def test_wrong_input(row):
    arrays, settings = row.wrong
    xs = [ours(a) for a in arrays]
    with pytest.raises(mx.MXNetError) as caught:
        operators[row.op](*xs, **settings)
    assert row.op in str(caught.value)
    assert row.says in str(caught.value)


@every
def test_foreign_arrays_are_refused(row):
    if len(row.arrays) > 1 and all(isinstance(a, np.ndarray) for a in row.arrays):
        xs = [ours(row.arrays[0]), *row.arrays[1:]]
        with pytest.raises((AssertionError, TypeError)):
            operators[row.op](*xs, **row.settings)


def test_every_operator_has_a_row():
    names = {op.name for op in operators.values() if op.__module__.startswith("minigluon")}
    assert sorted(names - {row.op for row in ROWS}) == []


def test_ndarray_methods_are_operators():
    assert NDArray.exp is operators["exp"]


@pytest.mark.parametrize(
    "shape", [(64, 200), (8, 2000), (5, 3000), (20000, 3), (40, 50, 60), (9000,)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_over_all_axes_but_the_last(shape, dtype):
    a = np.random.default_rng(0).normal(size=shape).astype(dtype)
    for keepdims in (False, True):
        found = mx.nd.sum(mx.nd.array(a, dtype=dtype), axis=-1, exclude=True, keepdims=keepdims)
        want = a.sum(tuple(range(a.ndim - 1)), dtype="float64", keepdims=keepdims)
        assert found.dtype == a.dtype and found.shape == want.shape
        near = {"float32": 1e-2, "float64": 1e-10}[dtype]
        np.testing.assert_allclose(found.asnumpy(), want, rtol=0, atol=near)
    if len(shape) == 2:
        for axis in (0, -2, [0], (-2,)):
            found = mx.nd.sum(mx.nd.array(a, dtype=dtype), axis=axis).asnumpy()
            np.testing.assert_allclose(found, a.sum(0, dtype="float64"), rtol=0, atol=near)
