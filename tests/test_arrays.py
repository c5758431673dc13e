"""Making arrays, and taking them over from NumPy and from other libraries."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import context, nd


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (lambda: nd.eye(3), np.eye(3, dtype="float32")),
        (lambda: nd.eye(2, 3, 1), np.eye(2, 3, 1, dtype="float32")),
        (lambda: nd.eye(2, k=-1, dtype="int32"), np.eye(2, k=-1, dtype="int32")),
        (lambda: nd.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype="float32")),
        (
            lambda: nd.linspace(0, 1, 5, endpoint=False),
            np.array([0, 0.2, 0.4, 0.6, 0.8], "float32"),
        ),
        (lambda: nd.linspace(0, 1, 0), np.zeros(0, "float32")),
        (lambda: nd.arange(5), np.arange(5, dtype="float32")),
        (
            lambda: nd.arange(2, 8, 2, repeat=2, dtype="int32"),
            np.array([2, 2, 4, 4, 6, 6], "int32"),
        ),
        (lambda: nd.arange(5, 0, -2), np.array([5, 3, 1], "float32")),
        (lambda: nd.full(3, 7.5), np.full(3, 7.5, "float32")),
        (lambda: nd.full((2,), 3, dtype="int32"), np.full(2, 3, "int32")),
        (lambda: nd.zeros(3), np.zeros(3, "float32")),
        (lambda: nd.ones((2,), dtype=np.float16), np.ones(2, "float16")),
        (lambda: nd.array([True, False]), np.array([1, 0], "float32")),
        (lambda: nd.array(np.arange(3)), np.arange(3, dtype="float32")),
        (lambda: nd.array([10**12], dtype="int64"), np.array([10**12])),
    ],
)
def test_made(made, wanted):
    found = made().asnumpy()
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, -1), (2.5,), "name", (10**10, 10**10), (2**62,)])
@pytest.mark.parametrize("make", [nd.zeros, nd.ones, nd.empty, lambda shape: nd.full(shape, 1)])
def test_impossible_shapes(make, shape):
    with pytest.raises(mx.MXNetError, match="shape"):
        make(shape)


@pytest.mark.parametrize("bounds", [(3, 3), (0, 5, -1), (0, 5, 0), (0,)])
def test_empty_range(bounds):
    with pytest.raises(mx.MXNetError, match="no number lies in this range"):
        nd.arange(*bounds)


@pytest.mark.parametrize("wrong", [[[1, 2], [3]], "a", [1 + 2j]])
def test_what_is_no_array(wrong):
    with pytest.raises(TypeError, match="source_array must be array like object"):
        nd.array(wrong)


def test_out():
    out = nd.ones((2,), dtype="float64")
    assert nd.zeros((2,), out=out) is out and out.tolist() == [0, 0]
    assert nd.full((2,), 3, out=out) is out and out.tolist() == [3, 3]
    with pytest.raises(mx.MXNetError, match="does not fit out"):
        nd.zeros((3,), out=out)


def test_gradients_are_fresh_until_somebody_says_no():
    x = nd.ones(2)
    assert x._fresh_grad is False
    with pytest.raises(mx.MXNetError, match="attach_grad"):
        x._fresh_grad = True
    x.attach_grad()
    with mx.autograd.record():
        y = x * 2
    y.backward()
    assert x._fresh_grad is True
    x._fresh_grad = False
    assert x._fresh_grad is False
    with pytest.raises(AssertionError, match="1 heads"):
        mx.autograd.backward([y], [y, y])


def test_shapes_may_be_arrays_of_numpy():
    assert nd.ones((2, 1)).broadcast_to(shape=np.array([2, 3])).shape == (2, 3)


def test_states_of_pickles_that_mxnet_wrote():
    """The bytes are what MXNet 1.9.1 pickles for `nd.array([1, 2])`."""
    head = "c9fa93f900000000010000000200000000000000010000000000000000000000"
    state = {"handle": bytearray.fromhex(head + "0000803f00000040")}
    made = nd.NDArray(None)
    made.__setstate__(state)
    assert made.asnumpy().tolist() == [1, 2] and made.context == mx.cpu()
    assert made.__getstate__() == state
    for kind in ("csr", "row_sparse"):
        a, b = nd.array([[0, 1]]).tostype(kind), nd.zeros((3, 1)).tostype(kind)
        b.__setstate__(a.__getstate__())
        assert b.asnumpy().tolist() == [[0, 1]] and b.stype == kind
    with pytest.raises(mx.MXNetError, match="pickle"):
        made.__setstate__({"handle": state["handle"][:-4]})


def test_from_numpy_shares_memory():
    x = np.arange(3.0)
    y = nd.from_numpy(x)
    y[0] = 7
    assert x[0] == 7 and y.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1
    with pytest.raises(ValueError, match="c-contiguous"):
        nd.from_numpy(np.arange(6)[::2])
    z = np.arange(3)
    assert not np.shares_memory(nd.from_numpy(z, zero_copy=False)._data, z) and z.flags.writeable


def test_dlpack():
    x = nd.array([[1, 2], [3, 4]])
    for y in (nd.from_dlpack(x), nd.from_dlpack(x.to_dlpack_for_read()), np.from_dlpack(x)):
        assert y.shape == (2, 2)
    y = nd.from_dlpack(nd.to_dlpack_for_write(x))
    y[0, 0] = 9
    assert x[0, 0].asscalar() == 9 and np.asarray(x)[0, 0] == 9
    for capsule in (x.to_dlpack_for_read(), x.to_dlpack_for_write()):
        assert '"dltensor"' in repr(capsule)  # which readers of MXNet's time look for
        y = nd.from_dlpack(capsule)
        with pytest.raises(AssertionError, match="read before"):
            nd.from_dlpack(capsule)
        y += 1
        del capsule
        assert y.asnumpy()[0, 0] == x.asnumpy()[0, 0]
    assert x.asnumpy().tolist() == [[11, 4], [5, 6]]
    for wrong in (3, "x"):
        with pytest.raises(AssertionError, match="no DLPack capsule"):
            nd.from_dlpack(wrong)


def test_freed_memory_is_kept_at_hand(monkeypatch):
    resource = pytest.importorskip("resource")
    if not context.keep_memory():
        pytest.skip("the C library is not glibc, or the environment has told it what to keep")

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            made = [np.ones(1 << 18, "float32") for _ in range(8)]  # 8 MB, freed at once
            del made
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 2048  # one round of fresh pages; ten without keeping
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert not context.keep_memory()


NUMBERS = np.arange(1, 7, dtype="float32").reshape(2, 3)


@pytest.mark.parametrize(
    ("name", "args", "settings"),
    [
        ("negative", [NUMBERS], {}),
        ("sum", [NUMBERS], {"axis": 1}),
        ("add", [NUMBERS, NUMBERS], {}),
        ("add", [NUMBERS, 2], {}),
        ("add", [2.5, NUMBERS], {}),
        ("add", [NUMBERS.astype("int32"), 2.5], {}),
        ("where", [NUMBERS, NUMBERS, -NUMBERS], {}),
        ("where", [NUMBERS.astype("int32"), NUMBERS, -NUMBERS], {}),
        ("split", [NUMBERS], {"num_outputs": 3}),
        ("add", [NUMBERS, NUMBERS.astype("float64")], {}),
        ("add", [NUMBERS, NUMBERS[:, :2]], {}),
        ("sum", [NUMBERS], {"axis": 5}),
    ],
)
def test_the_short_way_of_a_call_is_the_long_one(name, args, settings):
    from minigluon.ndarray.ndarray import compute, compute_soon
    from minigluon.op import operators

    def answer(way):
        given = [mx.nd.array(a, dtype=a.dtype) if hasattr(a, "dtype") else a for a in args]
        try:
            found = way(operators[name], given, settings)
        except mx.MXNetError as error:
            return type(error), str(error)
        found = found if isinstance(found, list) else [found]
        return [(y.asnumpy().tolist(), y.dtype, y.context) for y in found]

    assert answer(compute_soon) == answer(compute)


def test_the_current_context_by_its_old_names():
    assert mx.Context.default_ctx == mx.Context._default_ctx.value == mx.cpu()
    with mx.cpu(1):
        assert mx.Context.default_ctx == mx.Context._default_ctx.value == mx.cpu(1)
        mx.Context.default_ctx = mx.cpu(2)
        assert mx.current_context() == mx.nd.ones(1).context == mx.cpu(2)
        mx.Context._default_ctx.value = mx.cpu(3)
        assert mx.Context.default_ctx == mx.cpu(3)
        mx.test_utils.set_default_context(mx.cpu(4))
        assert mx.test_utils.default_context() == mx.cpu(4)
    assert mx.current_context() == mx.cpu()


@pytest.mark.parametrize("kind", ["cpu_pinned", "cpu_shared"])
def test_operators_leave_memory_for_transfers(kind):
    """As in MXNet: results are in ordinary memory; copies, types and parts stay where the array is."""
    home = mx.Context(kind, 0)
    x = mx.nd.ones((2, 3), ctx=home)
    x.attach_grad()
    with mx.autograd.record():
        y = mx.nd.dot(x * 2, x.T)
    y.backward()
    results = x + 1, x * x, mx.nd.split(x, 3)[0], mx.nd.concat(x, x), y, x.grad, x.sum(), 1 / x
    assert {a.context for a in results} == {mx.cpu()}
    stay = x, x.copy(), x.astype("float16"), x.reshape((3, 2)), x[:1], mx.nd.zeros(2, home)
    assert {a.context for a in stay} == {home}
