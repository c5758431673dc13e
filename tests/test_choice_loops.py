"""The first k and products with CSR matrices by loops, against NumPy's way: kernels/cpu/choices.cpp, chapter 96l."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd
from minigluon.ops import choice_loops
from minigluon.ops.csr import combined, csr_dot, csr_pick, csr_undot
from minigluon.ops.detection import survivors
from minigluon.ops.image import resized

R = np.random.default_rng(0)
pytestmark = pytest.mark.loops


def special():
    x = R.standard_normal((30, 640)).astype("float32")
    x[0, 3] = x[0, 600] = np.nan
    x[1, 5], x[2, 5] = np.inf, -np.inf
    x[3], x[4] = 0.0, -0.0
    x[4, ::3] = 0.0
    x[5] = np.nan
    x[6, :630] = -np.inf
    return x


ROWS = {
    "mixed": R.standard_normal((40, 700)),
    "equal": R.integers(0, 4, (40, 700)),
    "rising": np.sort(R.standard_normal((20, 1000))),
    "falling": np.sort(R.standard_normal((20, 1000)))[:, ::-1],
    "special": special(),
    "one long": R.standard_normal(20_000),
    "two cores": R.standard_normal((300, 1000)),
    "three axes": R.standard_normal((5, 6, 999)),
}


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("ascend", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_the_first_k_are_those_of_numpy(name, ascend, k, by_numpy, called):
    x = mx.nd.array(ROWS[name])
    for kind in ("indices", "value", "mask", "both"):
        run = lambda kind=kind: mx.nd.topk(x, k=k, ret_typ=kind, is_ascend=ascend)
        found, wanted = run(), by_numpy(run)
        for a, b in zip(*(r if kind == "both" else [r] for r in (found, wanted))):
            assert np.array_equal(a.asnumpy(), b.asnumpy(), equal_nan=True) and a.dtype == b.dtype
    assert called and called.count("topk") % 4 == 0  # as many parts in each call


def test_axes_and_types_of_indices(by_numpy, called):
    x = mx.nd.array(ROWS["three axes"])
    for settings in ({"axis": None}, {"axis": 2}, {"dtype": "int32"}, {"dtype": "int64"}):
        run = lambda settings=settings: mx.nd.topk(x, k=4, **settings)
        found, wanted = run(), by_numpy(run)
        assert found.dtype == wanted.dtype and (found.asnumpy() == wanted.asnumpy()).all()
    assert called
    called.clear()
    mx.nd.topk(x, k=4, axis=1)
    assert not called


def test_values_carry_their_gradient_back(by_numpy):
    def run():
        x = mx.nd.array(ROWS["mixed"])
        x.attach_grad()
        with autograd.record():
            y = mx.nd.topk(x, k=3, ret_typ="value")
            loss = (y * y * y).sum()
        loss.backward()
        return x.grad.asnumpy()

    assert (run() == by_numpy(run)).all() and np.count_nonzero(run()) == 120


def csr(m, k, density):
    """The parts of a random CSR matrix, of which some rows are empty."""
    dense = np.where(R.random((m, k)) < density, R.standard_normal((m, k)), 0).astype("float32")
    dense[m // 2] = 0
    rows, columns = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m))])
    return dense, dense[rows, columns], columns, starts


@pytest.mark.parametrize("kind", ["int64", "int32"])
@pytest.mark.parametrize(("m", "k", "n"), [(300, 300, 40), (400, 900, 1), (900, 400, 64)])
def test_products_are_those_of_dense_matrices(m, k, n, kind, called):
    dense, a, columns, starts = csr(m, k, 0.05)
    columns, starts = columns.astype(kind), starts.astype(kind)
    b, g = (R.standard_normal(s).astype("float32") for s in ((k, n), (m, n)))
    near = lambda x, y: np.allclose(x, y, rtol=1e-4, atol=1e-4) and x.dtype == np.float32
    assert near(csr_dot.plain(a, columns, starts, b), dense @ b)
    assert near(csr_undot.plain(a, columns, starts, g, b), dense.T @ g)
    rows = np.repeat(np.arange(m), np.diff(starts))
    assert near(csr_pick.plain(g, b, columns, starts), (g @ b.T)[rows, columns])
    assert {*called} == {"csr_dot", "csr_undot", "csr_pick"}


def test_a_matrix_that_is_no_row_in_memory(called):
    dense, a, columns, starts = csr(200, 300, 0.05)
    b = R.standard_normal((40, 300)).astype("float32").T
    assert np.allclose(csr_dot.plain(a, columns, starts, b), dense @ b, atol=1e-4) and called


@pytest.mark.parametrize("bad", [-1, 300, 1 << 40])
def test_indices_outside_never_reach_a_loop(bad, called):
    _, a, columns, starts = csr(200, 300, 0.05)
    b = R.standard_normal((300, 40)).astype("float32")
    columns = columns.copy()
    columns[7] = bad
    if bad > 0:
        with pytest.raises(IndexError):
            csr_dot.plain(a, columns, starts, b)
    else:
        csr_dot.plain(a, columns, starts, b)
    for wrong in (starts + 1, starts[::-1].copy(), starts - 1):
        assert choice_loops.told(columns.clip(0, 299), wrong, 300) is None
    assert not called


def test_few_numbers_and_other_types_go_the_way_of_numpy(called):
    mx.nd.topk(mx.nd.ones((3, 64)), k=1)
    mx.nd.topk(mx.nd.ones((30, 640), dtype="float64"), k=1)
    mx.nd.topk(mx.nd.ones((3, 300)), k=100)
    mx.nd.argsort(mx.nd.ones((300, 30)))
    mx.nd.argsort(mx.nd.ones((300, 300)), axis=0)
    mx.nd.argsort(mx.nd.ones((30, 640), dtype="float64"))
    with pytest.raises(ValueError, match="k=700"):
        mx.nd.topk(mx.nd.ones((30, 640)), k=700)
    assert not called


@pytest.mark.parametrize("ascend", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_the_order_is_that_of_numpy(name, ascend, by_numpy, called):
    x = mx.nd.array(ROWS[name])
    run = lambda: mx.nd.argsort(x, is_ascend=ascend, dtype="int32").asnumpy()
    assert np.array_equal(run(), by_numpy(run)) and "order" in called


def boxes_of(n, size):
    """Corners of random boxes in two pictures; some without area, turned about, infinite or NaN."""
    low = R.random((2, n, 2))
    boxes = np.concatenate([low, low + R.random((2, n, 2)) * size], -1).astype("float32")
    boxes[:, 3::17, 2] = boxes[:, 3::17, 0]
    boxes[:, 5::17] = boxes[:, 5::17, ::-1]
    boxes[:, 7::17, 1], boxes[:, 8::17, 2:] = np.nan, np.inf
    boxes[:, 9::17] = boxes[:, 8::17][:, : len(boxes[0, 9::17])]
    return boxes


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("classes", [None, 1, 4])
@pytest.mark.parametrize("n, size", [(1, 0.1), (50, 0.5), (700, 0.1), (700, 1.0)])
def test_the_boxes_that_stay_are_those_of_numpy(
    n, size, classes, threshold, equal, by_numpy, called
):
    boxes, alive = boxes_of(n, size), R.random((2, n)) < 0.9
    ids = None if classes is None else R.integers(0, classes, (2, n)).astype("float32")
    if classes == 4:
        ids[:, ::7] = np.nan  # which competes with nobody
    run = lambda: survivors(boxes, ids, alive, threshold, equal)
    with np.errstate(invalid="ignore"):
        found, wanted = run(), by_numpy(run)
    assert called == ["survivors"] * 2 and found.dtype == bool
    assert np.array_equal(found, wanted)


def test_no_boxes_and_boxes_of_double_precision(called):
    nothing = np.empty((2, 0, 4), "float32"), None, np.empty((2, 0), bool), 0.5
    assert survivors(*nothing).shape == (2, 0)
    boxes = mx.nd.array(np.concatenate([R.random((40, 2)), boxes_of(20, 0.5).reshape(40, 4)], 1))
    with np.errstate(invalid="ignore"):
        y = mx.nd.contrib.box_nms(boxes.astype("float64"))
    assert y.shape == (40, 6) and "order" not in called


def gradient_of(table, run, stype=None):
    """The gradient of a table, weighed differently everywhere."""
    table = mx.nd.array(table)
    table.attach_grad(stype=stype)
    with autograd.record():
        y = run(table)
        loss = (y * mx.nd.array(np.cos(np.arange(y.size)).reshape(y.shape))).sum()
    loss.backward()
    assert table.grad.stype == (stype or "default")
    return table.grad.asnumpy()


STORED = csr(200, 300, 0.05)[0]
LOOKED_UP = R.integers(0, 300, (20, 40)).astype("float32")
TABLES = {
    "looked up": ("add_rows", lambda t: mx.nd.Embedding(mx.nd.array(LOOKED_UP), t, 300, 40), None),
    "looked up, sparse": (
        "add_rows",
        lambda t: mx.nd.Embedding(mx.nd.array(LOOKED_UP), t, 300, 40, sparse_grad=True),
        "row_sparse",
    ),
    "one word": (
        "add_rows",
        lambda t: mx.nd.Embedding(mx.nd.full((300,), 299), t, 300, 40, sparse_grad=True),
        "row_sparse",
    ),
    "taken": ("add_rows", lambda t: mx.nd.take(t, mx.nd.array(LOOKED_UP) * 2, mode="wrap"), None),
    "product": (
        "csr_undot",
        lambda t: mx.nd.sparse.dot(mx.nd.array(STORED).tostype("csr"), t),
        None,
    ),
    "product, sparse": (
        "csr_undot",
        lambda t: mx.nd.sparse.dot(mx.nd.array(STORED).tostype("csr"), t),
        "row_sparse",
    ),
}


@pytest.mark.parametrize("width", [40, 100, 700])
@pytest.mark.parametrize("name", TABLES)
def test_gradients_of_tables_are_those_of_numpy(name, width, by_numpy, called):
    loop, run, stype = TABLES[name]
    if width != 40 and ("looked" in name or "one" in name):
        words = mx.nd.full((300,), 299) if "one" in name else mx.nd.array(LOOKED_UP)
        run = lambda t: mx.nd.Embedding(words, t, 300, width, sparse_grad=stype is not None)
    table = R.standard_normal((300, width)).astype("float32")
    found = gradient_of(table, run, stype)
    assert loop in called and found.any()
    wanted = by_numpy(lambda: gradient_of(table, run, stype))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("far", [1, 10**12])
def test_sums_of_equal_keys_are_those_of_numpy(far, by_numpy, called):
    keys, values = R.integers(0, 50, 400) * far, R.standard_normal((400, 30)).astype("float32")
    run = lambda: combined.kernel(values, keys)
    for a, b in zip(run(), by_numpy(run), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert called == ["add_rows"]


@pytest.mark.parametrize("interp", [1, 3])
@pytest.mark.parametrize("shape", [(30, 41, 3), (1, 1, 3), (2, 17, 9, 1), (3, 8, 8, 4)])
@pytest.mark.parametrize("size", [(7, 5), (33, 64), (1, 1), (8, 9)])
def test_bytes_in_another_size_are_those_of_numpy(shape, size, interp, by_numpy, called):
    data = R.integers(0, 256, shape).astype("uint8")
    run = lambda: resized(data, *size, interp)
    found, wanted = run(), by_numpy(run)
    assert found.dtype == np.uint8 and np.array_equal(found, wanted)
    shrunk = interp == 3 and size[0] <= shape[-3] and size[1] <= shape[-2]
    assert bool(called) != (shrunk or size == shape[-3:-1])


def test_other_interpolations_of_bytes_go_numpys_way(called):
    for interp in (0, 2, 4):
        resized(R.integers(0, 256, (30, 41, 3)).astype("uint8"), 20, 60, interp)
    resized(R.random((30, 41, 3)).astype("float32"), 20, 60, 1)
    assert not called
