"""Loops over rows against NumPy's way: kernels/cpu/rows.cpp, chapter 96i."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd
from minigluon.op import operators
from minigluon.ops import row_loops

R = np.random.default_rng(0)
pytestmark = pytest.mark.loops


def draw(*shape, scale=1.0):
    return (scale * R.standard_normal(shape)).astype("float32")


def labels(*shape, classes):
    return R.integers(0, classes, shape).astype("float32")


def cross_entropy(x, label):
    return mx.nd.sparse_softmax_cross_entropy(x, label)


X, LONG = draw(16, 32, 40), draw(64, 5000, scale=30)
CASES = {  # function, arrays to differentiate by, other arrays
    "softmax": (mx.nd.softmax, [X], []),
    "softmax of one row": (mx.nd.softmax, [draw(17000)], []),
    "softmax of long rows": (mx.nd.softmax, [LONG], []),
    "softmax on two cores": (mx.nd.softmax, [draw(4100, 64)], []),
    "softmax, temperature": (lambda x: mx.nd.softmax(x, temperature=0.3), [X], []),
    "softmax, scores of 1e4": (lambda x: mx.nd.softmax(x), [1e4 * X], []),
    "softmax, axis": (lambda x: mx.nd.softmax(x, axis=2), [X], []),
    "softmax of a view": (lambda x: mx.nd.softmax(x.transpose((1, 0, 2))), [X], []),
    "log_softmax": (mx.nd.log_softmax, [X], []),
    "log_softmax of long rows": (mx.nd.log_softmax, [LONG], []),
    "log_softmax, temperature": (lambda x: mx.nd.log_softmax(x, temperature=7), [X], []),
    "cross-entropy": (cross_entropy, [X], [labels(16, 32, classes=40)]),
    "cross-entropy, whole": (cross_entropy, [X], [labels(16, 32, 1, classes=40).astype("int32")]),
    "cross-entropy of long rows": (cross_entropy, [LONG], [labels(64, classes=5000)]),
    "cross-entropy, scores of 1e4": (cross_entropy, [1e4 * X], [labels(16, 32, classes=40)]),
    "cross-entropy on two cores": (cross_entropy, [draw(900, 300)], [labels(900, classes=300)]),
    "the loss": (mx.gluon.loss.SoftmaxCELoss(), [draw(400, 50)], [labels(400, classes=50)]),
    "LayerNorm": (mx.nd.LayerNorm, [X, draw(40), draw(40)], []),
    "LayerNorm, eps": (lambda *a: mx.nd.LayerNorm(*a, eps=0.1), [X, draw(40), draw(40)], []),
    "LayerNorm on two cores": (mx.nd.LayerNorm, [draw(1100, 256), draw(256), draw(256)], []),
    "LayerNorm, moments": (
        lambda *a: mx.nd.concat(*mx.nd.LayerNorm(*a, output_mean_var=True), dim=-1),
        [X, draw(40), draw(40)],
        [],
    ),
    "LayerNorm far from zero": (mx.nd.LayerNorm, [X + 1000, draw(40), draw(40)], []),
    "InstanceNorm": (mx.nd.InstanceNorm, [draw(4, 6, 20, 21), draw(6), draw(6)], []),
    "InstanceNorm on two cores": (mx.nd.InstanceNorm, [draw(7, 3, 130, 128), draw(3), draw(3)], []),
    "GroupNorm": (
        lambda *a: mx.nd.GroupNorm(*a, num_groups=3),
        [draw(4, 6, 20, 21), draw(3), draw(3)],
        [],
    ),
}


def results(f, arrays, others, mode="write"):
    """The output, and the gradients of a loss that weighs each number of it differently."""
    arrays, others = ([mx.nd.array(a, dtype=a.dtype) for a in some] for some in (arrays, others))
    for a in arrays:
        a.attach_grad(mode)
    with autograd.record():
        y = f(*arrays, *others)
        loss = (y * mx.nd.array(np.cos(np.arange(y.size)).reshape(y.shape))).sum()
    loss.backward()
    return [a.asnumpy() for a in (y, *(a.grad for a in arrays))]


@pytest.mark.parametrize("case", CASES)
def test_rows_are_those_of_numpy(case, by_numpy, called):
    found = results(*CASES[case])
    assert len({*called}) == 2
    near = 1e-4 if "far" in case else 2e-5  # a mean near 1000 is known to 6e-5
    for a, b in zip(found, by_numpy(lambda: results(*CASES[case]))):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.allclose(a, b, rtol=3e-5, atol=near * max(1, np.abs(b).max()))


@pytest.mark.parametrize("case", ["softmax", "log_softmax", "cross-entropy", "LayerNorm"])
def test_compiled_programs_take_loops(case, called):
    f, arrays, others = CASES[case]

    class Net(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, *a):
            name = {"cross-entropy": "sparse_softmax_cross_entropy"}.get(case, case)
            return getattr(F, name)(*a)

    net = Net()
    eager = results(net, arrays, others)
    net.hybridize()
    called.clear()
    found = results(net, arrays, others)
    assert len({*called}) == 2
    for a, b in zip(eager, found):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", ["softmax", "log_softmax", "cross-entropy", "LayerNorm"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_kept(case, bad, by_numpy):
    f, arrays, others = CASES[case]
    x = arrays[0].copy()
    x[0, 0, 0] = x[2, 3, 4] = x[5] = bad
    run = lambda: f(*map(mx.nd.array, [x, *arrays[1:], *others])).asnumpy()
    with np.errstate(all="ignore"):
        assert np.allclose(run(), by_numpy(run), rtol=1e-5, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("case", ["softmax", "log_softmax", "cross-entropy", "LayerNorm"])
def test_second_derivatives_follow_loops(case, by_numpy):
    f, arrays, others = CASES[case]

    def run():
        given = [mx.nd.array(a) for a in (*arrays, *others)]
        given[0].attach_grad()
        with autograd.record():
            y = f(*given)
            (g,) = autograd.grad((y * y).sum(), given[0], create_graph=True)
            loss = (g * g).sum()
        loss.backward()
        return given[0].grad.asnumpy()

    assert np.allclose(run(), by_numpy(run), rtol=1e-3, atol=1e-4)


def test_what_is_masked_gets_nothing():
    x = X.copy()
    x[..., 20:] = -1e9
    p = mx.nd.softmax(mx.nd.array(x)).asnumpy()
    assert not p[..., 20:].any() and np.allclose(p.sum(-1), 1)


def test_a_gradient_of_cross_entropy_needs_its_loss_alone():
    x, label = mx.nd.array(X)._data, labels(16, 32, classes=40)
    loss, g = cross_entropy(mx.nd.array(x), mx.nd.array(label))._data, draw(16, 32, 1)
    back = row_loops.cross_entropy_back.plain
    assert loss.base is not None
    assert np.allclose(back(g, x, loss, label), back(g, x, loss.copy(), label), atol=1e-6)


def test_gradients_are_added(by_numpy):
    for case in ("cross-entropy", "softmax", "LayerNorm"):
        f, arrays, others = CASES[case]
        once, twice = results(f, arrays, others), results(f, arrays, others, "add")
        assert all((a == b).all() for a, b in zip(once, twice))


@pytest.mark.parametrize(
    "x", [draw(8000, 2), draw(10, 10), X.astype("float64"), X[:, :, :0]], ids=str
)
def test_short_rows_few_numbers_and_other_types_go_the_way_of_numpy(x, called):
    y = mx.nd.softmax(mx.nd.array(x, dtype=x.dtype))
    assert not called and y.dtype == x.dtype and y.shape == x.shape


@pytest.mark.parametrize("label", [40, -1, 0.5, np.nan, 1e30])
def test_labels_are_checked_as_numpy_s_way_does(label, by_numpy):
    some = labels(16, 32, classes=40)
    some[3, 4] = label

    def run():
        try:
            return results(cross_entropy, [X], [some])
        except mx.MXNetError as error:
            return str(error)

    found, wanted = run(), by_numpy(run)
    if isinstance(wanted, str):
        assert found == wanted
    else:
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted))


FEW = {
    "floats": (draw(64, 10), labels(64, classes=10)),
    "whole": (draw(64, 10), labels(64, 1, classes=10).astype("int32")),
    "long": (draw(3, 4, 5), labels(3, 4, classes=5).astype("int64")),
    "one row": (draw(7), labels(1, classes=7)),
    "one class": (draw(5, 1), np.zeros(5, "f")),
    "scores of 1e4": (draw(20, 30, scale=1e4), labels(20, classes=30)),
    "bytes": (draw(64, 10), labels(64, classes=10).astype("uint8")),
    "double": (draw(64, 10).astype("d"), labels(64, classes=10)),
    "no rows": (np.zeros((0, 10), "f"), np.zeros(0, "f")),
    "not a number": (np.full((4, 3), np.nan, "f"), labels(4, classes=3)),
    "infinite": (np.array([[np.inf, 1, 2], [1, -np.inf, 0]], "f"), np.array([1, 0], "f")),
    **{
        f"label {bad}": (draw(6, 5), np.array([0, 1, bad, 3, 4, 0], "f"))
        for bad in (5, -1, 0.5, np.nan, np.inf, -0.0)
    },
}
LEFT = ("bytes", "double", "no rows", *(f"label {bad}" for bad in (5, -1, 0.5, "nan", "inf")))


@pytest.mark.parametrize("case", FEW)
def test_few_rows_are_those_of_numpy(case, by_numpy):
    x, label = FEW[case]

    def run():
        with np.errstate(all="ignore"):
            try:
                return results(cross_entropy, [x], [label])
            except mx.MXNetError as error:
                return [np.frombuffer(str(error).encode(), "uint8")]

    found, wanted = run(), by_numpy(run)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.allclose(a, b, rtol=3e-5, atol=2e-5, equal_nan=True)
    left = row_loops.few_losses(x, label, -1) is NotImplemented
    assert left == (case in LEFT)


def test_few_rows_whose_loss_is_a_copy_go_the_way_of_numpy():
    (x, label), g = FEW["floats"], draw(64, 1)
    loss = row_loops.few_losses(x, label, -1)
    way = row_loops.few_losses_back
    assert way(g, x, loss.copy(), label, -1) is NotImplemented
    assert way(g, x[:5].copy(), loss, label, -1) is NotImplemented  # of other rows
    assert way(g, x, loss, label[:5], -1) is NotImplemented
    assert way(g[:5], x, loss, label, -1) is NotImplemented
    assert way(draw(64, 2)[:, :1], x, loss, label, -1) is NotImplemented  # not in a row
    want = row_loops.cross_entropy_back.plain.plain(g, x, loss.copy(), label, -1)
    assert np.allclose(way(g, x, loss, label, -1), want, atol=1e-6)


def test_a_temperature_below_zero_is_that_of_numpy(by_numpy):
    run = lambda: mx.nd.softmax(mx.nd.array(X), temperature=-1.0).asnumpy()
    assert (run() == by_numpy(run)).all()


FOLDS = {
    "prod of rows": ("prod", lambda x: mx.nd.prod(x, axis=1)),
    "prod of all": ("prod", lambda x: mx.nd.prod(x)),
    "nanprod of rows": ("prod", lambda x: mx.nd.nanprod(x, axis=-1, keepdims=True)),
    "nanprod of two axes": ("prod", lambda x: mx.nd.nanprod(x, axis=(1, 2), keepdims=True)),
    "nansum of rows": ("nansum", lambda x: mx.nd.nansum(x, axis=2)),
    "nansum of all": ("nansum", lambda x: mx.nd.nansum(x)),
    "nansum but of samples": ("nansum", lambda x: mx.nd.nansum(x, axis=0, exclude=True)),
}


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize("case", FOLDS)
def test_products_and_sums_without_nan_are_those_of_numpy(case, spoilt, by_numpy, called):
    loop, function = FOLDS[case]
    x = np.exp(draw(7, 40, 70) * 0.02)
    if case.startswith("prod of rows"):
        x = x.transpose(0, 2, 1).reshape(7 * 40, 70)
    if spoilt:
        x.reshape(-1)[::97], x.reshape(-1)[5] = np.nan, np.inf
    x = mx.nd.array(x)
    found, wanted = function(x).asnumpy(), by_numpy(lambda: function(x).asnumpy())
    assert {*called} == {loop} and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_other_products_go_numpys_way(called):
    x = mx.nd.array(draw(90, 120))
    mx.nd.prod(x, axis=0), mx.nd.prod(x.astype("float64"), axis=1)
    mx.nd.nansum(x.reshape((-1, 8)), axis=1)
    assert not called


@pytest.mark.parametrize(
    "shape", [(64, 200), (5, 3001), (3, 4, 1001), (1, 9000), (9001, 1), (4100, 65)]
)
def test_running_sums_are_numpys_to_the_last_bit(shape, called):
    x = draw(*shape, scale=100)
    x[..., :2] = -0.0
    x[-1, ..., -1] = np.nan
    for axis in (-1, len(shape) - 1):
        found = operators["cumsum"](mx.nd.array(x), axis=axis).asnumpy()
        assert (found.view("uint32") == x.cumsum(axis).view("uint32")).all()
    assert called == ["cumsum"] * len(called) and len(called) >= 2


def test_running_sums_that_go_numpys_way(called):
    x = draw(120, 130)
    for a in (x, x.T, x.astype("float64"), x.astype("int32")):
        assert (
            operators["cumsum"](mx.nd.array(a, dtype=a.dtype), axis=0).asnumpy() == a.cumsum(0)
        ).all()
    assert (operators["cumsum"](mx.nd.array(x)).asnumpy() == x.cumsum()).all()
    double = operators["cumsum"](mx.nd.array(x), axis=1, dtype="float64").asnumpy()
    assert double.dtype == np.float64 and (double == x.cumsum(1, "float64")).all()
    assert not called
    assert (operators["cumsum"].kernel(x.T, 1) == x.T.cumsum(1)).all()
