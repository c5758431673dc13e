"""Every row again at the edges: other memory, other types, little or no data, NaN and infinity."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import autograd
from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import operators
from tests.cases import ROWS, activations, elementwise, finite, norms, reduce, special

minigluon.ops.load()

ROWS = [row for row in ROWS if row.arrays and "rng" not in row.settings]  # who draws, draws anew
NUMBERS = elementwise.ROWS + special.ROWS + finite.ROWS + activations.ROWS


def rows(chosen):
    return pytest.mark.parametrize("row", list(chosen), ids=lambda row: row.id)


def listed(x):
    return list(x) if isinstance(x, list | tuple) else [x]


def each(f, arrays):
    """`f` of what is an array among the arguments of a row."""
    return tuple(f(a) if isinstance(a, np.ndarray) else a for a in arrays)


def outcome(row, arrays):
    """Outputs and gradients of a row's operator on other arrays, which an update may write to."""
    xs = each(lambda a: NDArray(a, mx.cpu()), arrays)
    for i in row.differentiable:
        xs[i].attach_grad()
    with autograd.record():
        out = listed(operators[row.op](*xs, **row.settings))
    if row.differentiable:
        random = [np.random.default_rng(i).uniform(0.5, 1, o.shape) for i, o in enumerate(out)]
        autograd.backward(out, [NDArray(r.astype(o.dtype), o.ctx) for r, o in zip(random, out)])
    return [o.asnumpy() for o in out], [xs[i].grad.asnumpy() for i in row.differentiable]


def assert_close(found, wanted, tolerance):
    for group in zip(found, wanted):
        assert len(group[0]) == len(group[1])
        for f, w in zip(*group):
            assert f.shape == w.shape
            np.testing.assert_allclose(f, w, rtol=tolerance, atol=tolerance)


# --- Other memory ---------------------------------------------------------------------------------


def strided(a):
    """The same numbers, every second one of a larger array."""
    inside = tuple(slice(1, 2 * n + 1, 2) for n in a.shape)
    view = np.full([2 * n + 1 for n in a.shape], 7, a.dtype)[inside]
    view[...] = a
    return view


@pytest.mark.parametrize("laid_out", [strided, np.asfortranarray], ids=["strided", "columns"])
@rows(ROWS)
def test_memory_makes_no_difference(row, laid_out):
    wanted = outcome(row, copy.deepcopy(row.arrays))
    found = outcome(row, each(laid_out, row.arrays))
    assert_close(found, wanted, 1e-10)


# --- Other types ----------------------------------------------------------------------------------

SINGLE_OR_DOUBLE = (
    "_np_pinv",  # as in NumPy: LAPACK knows no half precision
    "linalg_",
    "inverse_or_zero",
    "_np_solve",
    "_np_svd",  # LAPACK, and MXNet, know no other
    "contrib_quantized_batch_norm",  # factors in half precision turn the rounding to whole steps
    "contrib_DeformablePSROIPooling",  # in half precision places are a hundredth of a pixel off
)
DECREED = {"topk-both", "inverse_or_zero-singular"}  # the row itself is about float64
OVERFLOWING = {
    "contrib_isinf",
    "contrib_isfinite",
    "contrib_isnan",
}  # the row has 1e300, in half precision infinite


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float16", 3e-2)])
@rows(ROWS)
def test_precision(row, dtype, tolerance):
    if dtype == "float16" and (row.op.startswith(SINGLE_OR_DOUBLE) or row.id in OVERFLOWING):
        return
    double = outcome(row, copy.deepcopy(row.arrays))
    narrow = lambda a: a.astype(dtype) if a.dtype == "float64" else a.copy()
    found = outcome(row, each(narrow, row.arrays))
    assert_close(found, double, tolerance)
    if row.id not in DECREED and "dtype" not in row.settings:
        wanted = [[dtype if w.dtype == "float64" else w.dtype for w in part] for part in double]
        assert [[f.dtype for f in part] for part in found] == wanted


@rows(row for row in ROWS if row.op.startswith("linalg_") and row.arrays[0].dtype == "float64")
def test_matrices_in_half_precision_are_refused(row):
    half = each(lambda a: NDArray(a.astype("float16"), mx.cpu()), row.arrays)
    with pytest.raises(mx.MXNetError, match="float32 or float64"):
        operators[row.op](*half, **row.settings)


# --- Axes -----------------------------------------------------------------------------------------

AXES = ("axis", "axes", "dim", "axis1", "axis2", "dim1", "dim2")
GROWN = {"stack", "expand_dims"}  # which count the axes of what comes out
ABSENT = {"broadcast_along", "spread_along"}  # which count those of their second array
FIRST_TWO = {
    "SequenceMask",
    "SequenceLast",
    "SequenceReverse",
    "contrib_getnnz",
}  # 0 or 1, no other


def turned(row, name):
    """A setting with its axes counted from the other end."""
    ndim = row.arrays[-1 if row.op in ABSENT else 0].ndim + (row.op in GROWN)
    flip = lambda axis: axis - ndim if axis >= 0 else axis + ndim
    axes = row.settings[name]
    return flip(axes) if isinstance(axes, int) else tuple(map(flip, axes))


def with_axes():
    for row in ROWS:
        for name in AXES:
            if isinstance(row.settings.get(name), int | tuple) and row.op not in FIRST_TWO:
                yield row, name


@pytest.mark.parametrize(
    "row, name", list(with_axes()), ids=lambda v: v.id if hasattr(v, "id") else v
)
def test_axes_count_from_either_end(row, name):
    again = replace(row, settings={**row.settings, name: turned(row, name)})
    assert_close(outcome(again, row.arrays), outcome(row, row.arrays), 0)


# --- Little or no data ----------------------------------------------------------------------------


# Whose reference holds for the shape or the labels of its row only.
SHAPED = {"spread_along", "SoftmaxActivation-instance", "softmax_cross_entropy"}


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
@pytest.mark.parametrize("size", [0, 1])
@rows(row for row in elementwise.ROWS + reduce.ROWS + norms.ROWS if row.id not in SHAPED)
def test_few_numbers(row, size):
    arrays = each(lambda a: a[tuple(slice(size) for _ in a.shape)], row.arrays)
    try:
        with np.errstate(all="ignore"):
            wanted = listed(row.reference(*arrays, **row.settings))
    except ValueError:  # such as the maximum of nothing
        with pytest.raises(mx.MXNetError, match=row.op):
            outcome(row, arrays)
        return
    with np.errstate(all="ignore"):
        found, gradients = outcome(row, arrays)
    assert_close([found], [[np.atleast_1d(w) for w in wanted]], 1e-12)
    assert [g.shape for g in gradients] == [arrays[i].shape for i in row.differentiable]


def alone(a):
    """The first number, as an array without axes."""
    return a.reshape(-1)[:1].reshape(()).copy()


@rows(row for row in elementwise.ROWS if row.id != "modulo-zero")
def test_numbers_without_axes(row):
    arrays = each(alone, row.arrays)
    found, gradients = outcome(row, arrays)
    wanted = [np.asarray(w) for w in listed(row.reference(*arrays, **row.settings))]
    assert_close([found], [wanted], 1e-12)
    assert all(g.shape == () for g in gradients)


NOTHING = np.zeros((0, 3))
SHAPES_OF_NOTHING = [
    ("reshape", {"shape": (3, -1)}, lambda x, **_: x.reshape(3, 0)),
    ("reshape", {"shape": (-1, 3)}, lambda x, **_: x.reshape(0, 3)),
    ("flatten", {}, lambda x: x),
    ("expand_dims", {"axis": 1}, np.expand_dims),
    ("squeeze", {}, np.squeeze),
    ("transpose", {}, np.transpose),
    ("swapaxes", {"dim1": 0, "dim2": 1}, lambda x, **_: x.T),
    ("flip", {"axis": 0}, np.flip),
    ("tile", {"reps": (2, 2)}, np.tile),
    ("repeat", {"repeats": 2, "axis": 1}, np.repeat),
    ("slice", {"begin": (0, 1), "end": (None, 3)}, lambda x, **_: x[:, 1:]),
    ("slice_axis", {"axis": 1, "begin": 1, "end": 3}, lambda x, **_: x[:, 1:]),
    ("sort", {"axis": 0}, np.sort),
    ("argsort", {"axis": 1}, np.argsort),
    ("cumsum", {"axis": 0}, np.cumsum),
    ("one_hot", {"depth": 4}, lambda x, **_: np.zeros((0, 3, 4))),
    ("norm", {"axis": 0}, lambda x, axis: np.zeros(3)),
    ("softmax", {"axis": 0}, lambda x, axis: x),
    ("contrib_isnan", {}, np.isnan),
]


@pytest.mark.parametrize(
    "name, settings, reference",
    SHAPES_OF_NOTHING,
    ids=[f"{n}-{s}" for n, s, _ in SHAPES_OF_NOTHING],
)
def test_shapes_of_nothing(name, settings, reference):
    found = operators[name](NDArray(NOTHING, mx.cpu()), **settings)
    assert found.shape == reference(NOTHING, **settings).shape


def test_joining_nothing():
    nothing, some = NDArray(NOTHING, mx.cpu()), NDArray(np.ones((2, 3)), mx.cpu())
    assert mx.nd.concat(nothing, some, dim=0).shape == (2, 3)
    assert mx.nd.stack(nothing, nothing).shape == (2, 0, 3)
    assert mx.nd.dot(nothing, some.T).shape == (0, 2)
    assert mx.nd.dot(nothing.T, nothing).asnumpy().tolist() == [[0] * 3] * 3


# --- NaN and infinity -----------------------------------------------------------------------------

SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 1e-310, 2.5, -800]
)
# Whose reference holds for the numbers of its row only; test_special.py has their edges.
LOCAL = {"erfinv", "gamma", "gammaln", "digamma", "polygamma", "loss_gradient", "contrib_round_ste"}
LOCAL |= {"all_finite", "contrib_allclose", "contrib_quadratic", "hard_sigmoid", "modulo-zero"}
CHANNELS = {"per_channel", "sum_channel"}  # want as many axes as their rows have


def meshed(arrays):
    """All combinations of special numbers, an axis an array."""
    count = sum(isinstance(a, np.ndarray) for a in arrays)
    grids = iter(np.meshgrid(*[SPECIAL] * min(count, 2)) * 2)
    return each(lambda a: next(grids).copy(), arrays)


@rows(row for row in NUMBERS if not {row.op, row.id} & (LOCAL | CHANNELS))
def test_special_numbers(row):
    arrays = meshed(row.arrays)
    with np.errstate(all="ignore"):
        wanted = listed(row.reference(*arrays, **row.settings))
        found = listed(
            operators[row.op](*each(lambda a: NDArray(a, mx.cpu()), arrays), **row.settings)
        )
    if row.op == "modulo" and isinstance(
        arrays[1], np.ndarray
    ):  # 0 where the divisor is, as in MXNet; NaN in NumPy
        wanted = [np.where(arrays[1] == 0, 0, wanted[0])]
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f.asnumpy(), np.atleast_1d(w), rtol=1e-12, atol=1e-12)


def test_elemwise_names_do_not_broadcast():
    a, b = mx.nd.ones((2, 3)), mx.nd.ones((3,))
    for name in ("add", "sub", "mul", "div"):
        with pytest.raises(MXNetError, match=f"elemwise_{name}.*broadcast_{name}"):
            getattr(mx.nd, f"elemwise_{name}")(a, b)
        assert getattr(mx.nd, f"broadcast_{name}")(a, b).shape == (2, 3)
        out = mx.nd.zeros((2, 3))
        getattr(mx.nd, f"elemwise_{name}")(lhs=a, rhs=a, out=out)
        assert (out == getattr(mx.nd, f"elemwise_{name}")(a, a)).asnumpy().all()


def test_what_is_no_number_is_silent():
    program = """if 1:
        import minigluon as mx, numpy as np
        x, i = mx.nd.zeros(2), mx.nd.array([np.inf, -np.inf])
        mx.nd.log(x), 1 / x, x / x, i - i, i.sum(), i.mean(), mx.nd.exp(i * 1e3)
        x.attach_grad()
        with mx.autograd.record():
            y = mx.nd.log(x) + mx.nd.sqrt(x)
        y.backward()
        net = mx.gluon.nn.HybridLambda("log")
        net.hybridize()
        net(x)
    """
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_blocks_of_axes_without_numbers_are_refused():
    with mx.np_shape(), pytest.raises(MXNetError, match="without numbers"):
        mx.nd.space_to_depth(mx.nd.zeros((1, 4, 0, 2)), 2)
    with mx.np_shape():
        assert mx.nd.contrib.index_array(mx.nd.ones(())).shape == (0,)


def test_slopes_for_samples_and_channels():
    x, slopes = mx.nd.ones((2, 3, 4)) * -1, mx.nd.array([[1, 2, 3], [4, 5, 6]])
    slopes.attach_grad()
    with mx.autograd.record():
        y = mx.nd.LeakyReLU(x, slopes, act_type="prelu")
    y.backward()
    assert y.asnumpy()[1, 2].tolist() == [-6] * 4
    assert slopes.grad.asnumpy().tolist() == [[-4] * 3] * 2


def test_labels_out_of_range_have_a_large_loss_and_no_column():
    x, label = mx.nd.array([[1.0, 2, 3], [1, 2, -60]]), mx.nd.array([-1, 7])
    x.attach_grad()
    with autograd.record():
        y = mx.nd.softmax_cross_entropy(x, label)
    y.backward()
    assert np.allclose(y.asnumpy(), -2 * np.log(1e-8))
    assert np.allclose(x.grad.asnumpy(), x.softmax().asnumpy())
    far = mx.nd.softmax_cross_entropy(x[1:], mx.nd.array([2], dtype="int32"))
    assert np.allclose(far.asnumpy(), -np.log(1e-8))


def test_where_does_not_broadcast():
    x, row = mx.nd.ones((2, 3)), mx.nd.ones((1, 3))
    for bad in ((x, x, row), (row, x, x), (mx.nd.ones(3), x, x)):
        with pytest.raises(MXNetError, match="where: condition has shape"):
            mx.nd.where(*bad)
    with pytest.raises(MXNetError, match="one shape"):
        mx.nd.where(condition=x, x=x, y=row)
    chosen = mx.nd.where(mx.nd.array([1, 0]), x, x * 2)
    assert chosen.asnumpy().tolist() == [[1] * 3, [2] * 3]
    assert mx.np.where(mx.np.ones((2, 3)) > 0, mx.np.ones((1, 3)), 0.0).shape == (2, 3)


def test_bounds_that_are_numbers_of_numpy_do_not_widen_arrays():
    for size in (3, 5000):
        found = mx.nd.ones(size).clip(np.float64(0), np.float64(0.5))
        assert found.dtype == np.float32 and found.asnumpy().max() == 0.5
