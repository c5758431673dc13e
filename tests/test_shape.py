"""Shapes and pieces beyond the table: random calls against NumPy, edge cases, methods, memory, errors."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigluon as mx
from minigluon import autograd, nd
from minigluon.ndarray.ndarray import place
from minigluon.op import operators
from minigluon.ops.pieces import concatenate
from minigluon.ops.shape import decoded

quick = settings(max_examples=60, deadline=None)
dtypes = st.sampled_from(["float16", "float32", "float64", "int32", "int64", "uint8"])
shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


def ours(a):
    return place(np.array(a), None)


@st.composite
def arrays(draw, shape=shapes, min_side=1):
    """Distinct numbers of any type; `min_side=0` allows empty arrays."""
    sizes = shape if min_side else hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
    shape = draw(sizes) if isinstance(sizes, st.SearchStrategy) else sizes
    return np.arange(math.prod(shape)).reshape(shape).astype(draw(dtypes))


def equal(got, want):
    """The same numbers, shape and type, in memory in order and of one's own."""
    got, want = (np.atleast_1d(a) for a in (got.asnumpy(), want))
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def gradient(f, x, head=None):
    """The gradient of f at a float64 array."""
    x = ours(x.astype("float64"))
    x.attach_grad()
    with autograd.record():
        y = f(x)
    y.backward(head)
    return x.grad.asnumpy()


# --- reshape --------------------------------------------------------------------------------------


def by_the_book(codes, old):
    """The documentation of the codes, sentence by sentence; None where it allows no shape."""
    codes, at, new, i = list(codes), 0, [], 0
    while i < len(codes):
        code, i = codes[i], i + 1
        if code == -2:
            new, at = new + list(old[at:]), len(old)
        elif code == -3:
            if at + 2 > len(old):
                return None
            new, at = [*new, old[at] * old[at + 1]], at + 2
        elif code == -4:
            pair, i = codes[i : i + 2], i + 2
            fits = [
                (a, b)
                for a in range(1, 100)
                for b in range(1, 100)
                if at < len(old) and a * b == old[at]
                if len(pair) == 2 and pair != [-1, -1] and pair[0] in (a, -1) and pair[1] in (b, -1)
            ]
            if not fits:
                return None
            new, at = [*new, *fits[0]], at + 1
        else:
            if code == 0 and at >= len(old):
                return None
            new, at = [*new, old[at] if code == 0 else code], at + 1
    if new.count(-1) > 1:
        return None
    for free in range(1, math.prod(old) + 1):
        shape = tuple(free if n == -1 else n for n in new)
        if math.prod(shape) == math.prod(old):
            return shape
    return None


@quick
@given(shapes, st.lists(st.integers(-4, 4), min_size=1, max_size=6), st.booleans())
def test_reshape_reads_its_codes_as_documented(old, codes, reverse):
    x = ours(np.arange(math.prod(old)).reshape(old))
    if reverse:
        want = by_the_book(codes[::-1], old[::-1])
        want = want and want[::-1]
    else:
        want = by_the_book(codes, old)
    if want is None:
        for call in (x.reshape, lambda s, **k: nd.reshape(x, shape=s, **k)):
            with pytest.raises(mx.MXNetError):
                call(tuple(codes), reverse=reverse)
        with pytest.raises(ValueError):
            x.reshape(tuple(codes), reverse=reverse)
    else:
        assert x.reshape(codes, reverse=reverse).shape == want
        equal(nd.reshape(x, shape=codes, reverse=reverse), x.asnumpy().reshape(want))


MXNET_SAYS = [
    ((2, 3, 4), (4, 0, 2), False, (4, 3, 2)),
    ((2, 3, 4), (-1, 0), False, (8, 3)),
    ((2, 3, 4), (-2, 1, 1), False, (2, 3, 4, 1, 1)),
    ((2, 3, 4), (-3, -2), False, (6, 4)),
    ((2, 3, 4), (0, -4, -1, 3, -2), False, (2, 1, 3, 4)),
    ((10, 5, 4), (-1, 0), True, (50, 4)),
    ((2, 3, 4), (1, -2), True, (1, 2, 3, 4)),
    ((2, 3, 4), (-2, 0), True, (2, 3, 4)),
    ((8, 6), (0, 3, 2, -4), True, (8, 3, 2)),
    ((8, 6), (-1, 2, -4, 0), True, (4, 2, 6)),
]


@pytest.mark.parametrize(("old", "codes", "reverse", "new"), MXNET_SAYS)
def test_codes_as_mxnet_reads_them(old, codes, reverse, new):
    assert decoded(codes, old, reverse) == new


def test_the_method_is_a_view_and_the_operator_is_not():
    x = nd.array(np.arange(6)).reshape(2, 3)
    x.reshape(-1)[0] = 10
    x.flatten(inplace=True)[0, 1] = 11
    x.expand_dims(0, inplace=True)[0, 0, 2] = 12
    x.squeeze(inplace=True)[1, 0] = 13
    assert x.asnumpy().tolist() == [[10, 11, 12], [13, 4, 5]]
    before = x.asnumpy()
    for copy in [
        nd.reshape(x, shape=(3, 2)),
        nd.flatten(x),
        x.flatten(),
        x.expand_dims(0),
        x.squeeze(),
        x.T,
        x.broadcast_to((2, 3)),
        x.broadcast_like(x),
        nd.broadcast_like(x, x),
        x.slice_axis(axis=0, begin=0, end=2),
        nd.split(x, num_outputs=1),
        nd.concat(x),
        x.swapaxes(0, 0),
        x.tile(1),
        x.flip(()),
    ]:
        copy[:] = -1
        np.testing.assert_array_equal(x.asnumpy(), before)


def test_ways_to_call_reshape():
    x = nd.zeros((2, 3))
    for y in [
        x.reshape(3, 2),
        x.reshape((3, 2)),
        x.reshape([3, -1]),
        x.reshape(shape=(3, 2)),
        x.reshape(np.int64(3), np.int32(2)),
        nd.reshape(x, (3, 2)),
        nd.Reshape(x, shape=[3, 2]),
    ]:
        assert y.shape == (3, 2)
    assert x.reshape(6).shape == x.reshape(shape=-1).shape == nd.reshape(x, shape=6).shape == (6,)
    assert nd.zeros(1).reshape(()).shape == (1,)


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((4,), ValueError),
        ((5, -1), ValueError),
        ((48,), mx.MXNetError),
        ((-1, -1), mx.MXNetError),
        ((0, 0, 0), mx.MXNetError),
        ((-5,), mx.MXNetError),
        ((-4, 2), mx.MXNetError),
        ((-4, 0, 2, -2), mx.MXNetError),
        ((2**32, 2**32), ValueError),
        ((2**70,), ValueError),
        ((), ValueError),
    ],
)
def test_shapes_that_do_not_fit(shape, error):
    x = nd.zeros((2, 3))
    with pytest.raises(error, match="reshape"):
        x.reshape(shape)
    with pytest.raises(mx.MXNetError, match="reshape"):
        nd.reshape(x, shape=shape)


def test_reshape_refuses_what_is_no_shape():
    x = nd.zeros((2, 3))
    for call in [lambda: x.reshape(), lambda: x.reshape(6, foo=1)]:
        with pytest.raises((AssertionError, TypeError)):
            call()
    with pytest.raises(TypeError):
        x.reshape((2.0, 3))


def test_a_recorded_reshape_is_named_and_differentiated_twice():
    x = nd.array([[1.0, 2.0, 3.0]])
    x.attach_grad()
    with autograd.record():
        y = x.reshape((-1,), reverse=True)
        (g,) = autograd.grad((y * y * y).sum(), x, create_graph=True)
        z = g.sum()
    assert y._node.op.name == "reshape"
    z.backward()
    assert x.grad.asnumpy().tolist() == [[6, 12, 18]]


# --- one array in, one array out ------------------------------------------------------------------


@quick
@given(arrays(min_side=0), st.data())
def test_transpositions(a, data):
    axes = data.draw(st.permutations(range(a.ndim)))
    signs = [n - a.ndim * data.draw(st.booleans()) for n in axes]
    one, two = axes[0], axes[-1]
    equal(nd.transpose(ours(a), axes=signs), a.transpose(axes))
    equal(ours(a).transpose(*axes), a.transpose(axes))
    equal(ours(a).T, a.T)
    equal(ours(a).swapaxes(one, two), a.swapaxes(one, two))
    equal(nd.moveaxis(ours(a), one, two - a.ndim), np.moveaxis(a, one, two))
    equal(ours(a).flip(axis=(one,)), np.flip(a, one))
    undone = gradient(lambda x: nd.transpose(x, axes=signs), a, ours(a.transpose(axes) * 1.0))
    np.testing.assert_array_equal(undone, a)


@quick
@given(arrays(min_side=0), st.data())
def test_repetitions(a, data):
    reps = tuple(data.draw(st.lists(st.integers(0, 3), max_size=5)))
    with mx.np_shape():
        equal(ours(a).tile(reps), np.tile(a, reps))
    axis = data.draw(st.one_of(st.none(), st.integers(-a.ndim, a.ndim - 1)))
    times = data.draw(st.integers(0, 3))
    equal(ours(a).repeat(times, axis=axis), a.repeat(times, axis))
    want = np.full(a.shape, float(math.prod(reps)))
    with mx.np_shape():
        np.testing.assert_array_equal(gradient(lambda x: x.tile(reps), a), want)
    np.testing.assert_array_equal(
        gradient(lambda x: x.repeat(times, axis=axis), a), np.full(a.shape, float(times))
    )


@quick
@given(arrays(min_side=0), st.data())
def test_broadcasting(a, data):
    ones = [i for i, n in enumerate(a.shape) if n == 1]
    sizes = [data.draw(st.integers(1, 3)) for _ in ones]
    shape = list(a.shape)
    for i, n in zip(ones, sizes):
        shape[i] = n
    want = np.broadcast_to(a, shape)
    equal(nd.broadcast_axis(ours(a), axis=ones, size=sizes), want)
    equal(ours(a).broadcast_to((2, *shape)), np.broadcast_to(a, (2, *shape)))
    equal(ours(a).broadcast_like(ours(want)), want)
    equal(
        nd.broadcast_to(ours(a), shape=[0 if n == m else m for n, m in zip(a.shape, shape)]), want
    )
    if ones:
        equal(nd.broadcast_like(ours(a), ours(want), lhs_axes=ones, rhs_axes=ones), want)


@quick
@given(arrays(min_side=0))
def test_axes_of_size_one(a):
    for axis in range(-a.ndim - 1, a.ndim + 1):
        equal(ours(a).expand_dims(axis), np.expand_dims(a, axis))
        equal(ours(a).expand_dims(axis).squeeze(axis), a)
    equal(ours(a).squeeze(), a.squeeze())
    equal(ours(a).flatten(), a.reshape(len(a), math.prod(a.shape[1:])))
    equal(ours(a).shape_array(), np.array(a.shape))
    equal(ours(a).size_array(), np.array([a.size]))
    equal(ours(a).zeros_like(), np.zeros_like(a))
    equal(ours(a).ones_like(), np.ones_like(a))


@quick
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), dtypes)
def test_depth_and_space_undo_each_other(b, c, h, w, dtype):
    deep = np.arange(c * b * b * h * w).reshape(1, c * b * b, h, w).astype(dtype)
    wide = ours(deep).depth_to_space(b)
    assert wide.shape == (1, c, h * b, w * b)
    equal(wide.space_to_depth(b), deep)


# --- joining and cutting --------------------------------------------------------------------------


@quick
@given(arrays(min_side=0), st.data())
def test_cut_and_joined_again(a, data):
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    places = tuple(sorted(data.draw(st.lists(st.integers(0, a.shape[axis]), max_size=3))))
    pieces = ours(a).split_v2(places, axis=axis)
    pieces = pieces if places else [pieces]
    for got, want in zip(pieces, np.split(a, places, axis), strict=True):
        equal(got, want)
    equal(nd.concat(*pieces, dim=axis), a)
    equal(concatenate(pieces, axis=axis), a)


@quick
@given(arrays(), st.data())
def test_stacked_and_split(a, data):
    axis, count = data.draw(st.integers(-a.ndim - 1, a.ndim)), data.draw(st.integers(1, 3))
    parts = [a + i for i in range(count)]
    stacked = nd.stack(*map(ours, parts), axis=axis)
    equal(stacked, np.stack(parts, axis))
    again = nd.split(stacked, num_outputs=count, axis=axis, squeeze_axis=True)
    for got, want in zip(again if count > 1 else [again], parts, strict=True):
        equal(got, want)


@quick
@given(arrays(min_side=0), st.data())
def test_slices(a, data):
    number = st.one_of(st.none(), st.integers(-5, 5))
    count = data.draw(st.integers(1, a.ndim))
    begin, end = ([data.draw(number) for _ in range(count)] for _ in "be")
    step = [data.draw(st.sampled_from([None, 1, 2, -1, -2])) for _ in range(count)]
    where = tuple(map(slice, begin, end, step))
    equal(nd.slice(ours(a), begin=begin, end=end, step=step), a[where])
    seen = np.zeros(a.shape)
    seen[where] = 1
    got = gradient(lambda x: nd.slice(x, begin=begin, end=end, step=step), a)
    np.testing.assert_array_equal(got, seen)


@quick
@given(arrays(), st.data())
def test_slices_along_an_axis(a, data):
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    size = a.shape[axis]
    begin, end = (
        data.draw(st.integers(-size - 1, size + 1)),
        data.draw(st.integers(-size, size + 1)),
    )
    first, last = (n + size if n < 0 else n for n in (begin, end))
    if 0 <= first < last <= size:
        want = a.take(range(first, last), axis)
        equal(ours(a).slice_axis(axis, begin, end), want)
        like = ours(np.zeros(want.shape))
        equal(nd.slice_like(ours(a), like), a[tuple(map(slice, want.shape))])
    else:
        with pytest.raises(mx.MXNetError, match="slice_axis"):
            ours(a).slice_axis(axis, begin, end)


@quick
@given(arrays(), st.sampled_from(["constant", "edge", "reflect"]), st.data())
def test_borders(a, mode, data):
    most = [n - 1 if mode == "reflect" else 3 for n in a.shape]
    widths = [data.draw(st.integers(0, n)) for n in most for _ in "ab"]
    kind = {"constant_values": 2} if mode == "constant" else {}
    value = {"constant_value": 2} if mode == "constant" else {}
    call = {"mode": mode, "pad_width": tuple(widths), **value}
    pairs = np.reshape(widths, (-1, 2))
    equal(ours(a).pad(**call), np.pad(a, pairs, mode, **kind))
    seen = np.bincount(
        np.pad(np.arange(a.size).reshape(a.shape) + 1, pairs, mode).reshape(-1),
        minlength=a.size + 1,
    )[1:]
    np.testing.assert_array_equal(gradient(lambda x: x.pad(**call), a), seen.reshape(a.shape))


@quick
@given(arrays(hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)), st.data())
def test_diagonals(a, data):
    one, two = data.draw(st.permutations(range(a.ndim)))[:2]
    k = data.draw(st.integers(-a.shape[one], a.shape[two]))
    equal(ours(a).diag(k, axis1=one, axis2=two - a.ndim), np.diagonal(a, k, one, two))
    v = a.reshape(-1)[:4]
    equal(ours(v).diag(k), np.diag(v, k))


@quick
@given(st.data())
def test_columns_and_their_adjoint(data):
    axes = data.draw(st.integers(1, 3))
    draw = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(axes))
    sizes = draw(1, 6 if axes < 3 else 4)
    window = {"kernel": draw(1, 3), "stride": draw(1, 2), "dilate": draw(1, 2), "pad": draw(0, 1)}
    fit = zip(sizes, window["kernel"], window["dilate"], window["pad"])
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, k, d, p in fit))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, *sizes))
    columns = nd.im2col(ours(x), **window)
    g = rng.normal(size=columns.shape)
    back = nd.col2im(ours(g), output_size=sizes, **window)
    assert back.shape == x.shape
    assert np.isclose((columns.asnumpy() * g).sum(), (back.asnumpy() * x).sum())
    shape = (2, 2, *window["kernel"], *columns.asnumpy().shape[2:])
    first = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in window["pad"])])
    corner = tuple(slice(None, k * d, d) for k, d in zip(window["kernel"], window["dilate"]))
    np.testing.assert_array_equal(
        columns.asnumpy().reshape(shape)[..., 0], first[(slice(None), slice(None), *corner)]
    )


# --- types and emptiness --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int32", "uint8"])
def test_adjoints_keep_the_type(dtype):
    x = nd.zeros((2, 2), dtype=dtype)
    g = nd.ones((4, 4), dtype=dtype)
    for y in [
        operators["untile"](g, x, reps=(2, 2)),
        operators["unrepeat"](g[:, :2], x, repeats=2, axis=0),
        operators["unpad"](g, x, mode="edge", pad_width=(1, 1, 2, 0)),
        operators["place"](x, g, begin=(0, 0), end=(2, 2)),
        nd.col2im(nd.ones((1, 4, 4), dtype=dtype), output_size=(3, 3), kernel=(2, 2)),
    ]:
        assert y.dtype == np.dtype(dtype)


def test_shape_like_arrays_may_be_of_another_type():
    x, like = nd.zeros((2, 3)), nd.zeros((1, 6), dtype="int32")
    assert nd.reshape_like(x, like).dtype == np.float32
    assert nd.slice_like(x, nd.zeros((1, 2), dtype="int64")).dtype == np.float32
    assert nd.zeros((1, 1)).broadcast_like(like).dtype == np.float32
    pictures = nd.zeros((1, 1, 4, 4))
    assert nd.Crop(pictures, nd.zeros((1, 1, 2, 2), dtype="int32"), num_args=2).shape[2:] == (2, 2)
    with pytest.raises(mx.MXNetError, match="types"):
        nd.concat(x, x.astype("int32"), dim=0)


def test_gradients_of_arrays_that_lend_only_their_shape_are_zero():
    x, like = nd.array(np.arange(6)).reshape(2, 3), nd.zeros((1, 2))
    like.attach_grad()
    x.attach_grad()
    like.grad[:] = 5
    with autograd.record():
        y = nd.slice_like(x, like)
    y.backward()
    assert like.grad.asnumpy().tolist() == [[0, 0]]
    assert x.grad.asnumpy().tolist() == [[1, 1, 0], [0, 0, 0]]


# --- errors ---------------------------------------------------------------------------------------

X, PICTURE = (2, 3), (1, 4, 2, 2)
MISUSE = [
    ("transpose", X, {"axes": (0, 2)}),
    ("transpose", X, {"axes": (0, 0)}),
    ("transpose", X, {"axes": (0,)}),
    ("swapaxes", X, {"dim1": 0, "dim2": 2}),
    ("moveaxis", X, {"source": 2, "destination": 0}),
    ("moveaxis", X, {"source": (0, 1), "destination": 0}),
    ("flip", X, {"axis": 2}),
    ("flip", X, {}),
    ("expand_dims", X, {"axis": 4}),
    ("expand_dims", X, {"axis": -4}),
    ("squeeze", X, {"axis": 0}),
    ("squeeze", (1, 1), {"axis": (0, 0)}),
    ("broadcast_to", X, {"shape": (3,)}),
    ("broadcast_to", (1, 3), {"shape": (-1, 3)}),
    ("broadcast_to", (1, 1), {"shape": (2**62, 2**62)}),
    ("broadcast_axis", X, {"axis": 0, "size": 4}),
    ("broadcast_axis", (1, 1), {"axis": 0, "size": -2}),
    ("tile", X, {"reps": (-1,)}),
    ("tile", X, {"reps": (2, 0)}),
    ("tile", X, {}),
    ("tile", X, {"reps": (2**62, 2**62)}),
    ("repeat", X, {"repeats": -1}),
    ("repeat", X, {"repeats": 2, "axis": 2}),
    ("repeat", X, {"axis": 0}),
    ("depth_to_space", PICTURE, {"block_size": 0}),
    ("depth_to_space", PICTURE, {"block_size": -2}),
    ("space_to_depth", PICTURE, {"block_size": 3}),
    ("concat", X, {"dim": 2}),
    ("stack", X, {"axis": 3}),
    ("split", X, {"num_outputs": -1}),
    ("split", X, {"num_outputs": 6}),
    ("split", X, {"num_outputs": 3, "axis": -3}),
    ("split_v2", X, {"indices_or_sections": 0}),
    ("split_v2", X, {"indices_or_sections": (-1,)}),
    ("split_v2", X, {"indices_or_sections": 2, "axis": 5}),
    ("slice", X, {"begin": (0, 0, 0), "end": (1, 1, 1)}),
    ("slice", X, {"begin": (0, 0), "end": (2, 3), "step": (1,)}),
    ("slice", X, {"begin": (0,), "end": (1,), "step": (0,)}),
    ("slice", X, {"begin": (0.5,), "end": (2.0,)}),
    ("slice_axis", X, {"axis": 2, "begin": 0, "end": 1}),
    ("slice_axis", X, {"axis": 1, "begin": -4, "end": 2}),
    ("diag", X, {"k": -3}),
    ("diag", X, {"axis1": 0, "axis2": 2}),
    ("pad", PICTURE, {"mode": "reflect", "pad_width": (0, 0, 0, 0, 2, 0, 0, 0)}),
    ("pad", PICTURE, {"mode": "constant", "pad_width": (0, 0, 0, 0, -1, 0, 0, 0)}),
    ("pad", PICTURE, {"mode": "constant", "pad_width": (0, 0, 0, 0, 1)}),
    ("pad", PICTURE, {"mode": "constant", "pad_width": ()}),
    ("pad", PICTURE, {"mode": "constant"}),
    ("im2col", PICTURE, {"kernel": (0, 2)}),
    ("im2col", PICTURE, {"kernel": (2, 2), "pad": (-1, 0)}),
    ("im2col", PICTURE, {"kernel": (2, 2, 2)}),
    ("im2col", PICTURE, {"kernel": (2, 2), "dilate": (2, 2)}),
    ("im2col", X, {"kernel": ()}),
    ("col2im", (1, 8, 4), {"output_size": (4, 4), "kernel": (2, 2)}),
    ("col2im", (1, 7, 4), {"output_size": (3, 3), "kernel": (2, 2)}),
    ("Crop", PICTURE, {"h_w": (5, 2), "num_args": 1}),
    ("Crop", X, {"h_w": (1, 1), "num_args": 1}),
]


@pytest.mark.parametrize(("name", "shape", "call"), MISUSE)
def test_misuse_is_refused_by_name(name, shape, call):
    x = nd.ones(shape)
    with pytest.raises(mx.MXNetError, match=name):
        getattr(nd, name)(x, **call)
    assert (x.asnumpy() == 1).all()


def test_the_methods_that_broadcast_raise_value_errors():
    x = nd.zeros((2, 3))
    for call in [lambda: x.broadcast_to((2, 4)), lambda: x.broadcast_like(nd.zeros((3, 3)))]:
        with pytest.raises(ValueError, match="broadcast_to"):
            call()


def test_concatenate_takes_a_list():
    x = nd.ones((1, 2))
    assert concatenate([x, x], axis=-1).shape == (1, 4)
    assert concatenate([x], always_copy=False) is x
    assert concatenate([x]) is not x
    for wrong in ([], x):
        with pytest.raises(AssertionError):
            concatenate(wrong)


def test_methods_take_settings_by_position():
    x = nd.array(np.arange(16)).reshape(1, 4, 2, 2)
    assert x.pad("constant", (0, 0, 0, 0, 1, 2, 0, 1), 3).shape == (1, 4, 5, 3)
    assert x.tile((2, 1)).shape == (1, 4, 4, 2)
    assert x.split(2)[0].shape == (1, 2, 2, 2)
    assert x.slice((0, 1), (1, 3)).shape == (1, 2, 2, 2)
    assert x.depth_to_space(2).shape == (1, 1, 4, 4)
    assert x.transpose(axes=(1, 0, 3, 2)).shape == (4, 1, 2, 2)
    assert x.slice_like(nd.zeros((1, 2)), axes=(0, 1)).shape == (1, 2, 2, 2)
    assert x.reshape_like(nd.zeros((4, 4))).shape == (4, 4)
    assert x.broadcast_axes(axis=0, size=3).shape == (3, 4, 2, 2)
    assert x.squeeze(axis=0).shape == (4, 2, 2)


def test_one_axis_may_be_a_number():
    x, like = nd.arange(5), nd.zeros((2, 3))
    assert nd.slice_like(x, like, axes=0).shape == (2,)
    assert nd.slice_like(nd.zeros((4, 4)), like, axes=1).shape == (4, 3)
    with mx.autograd.train_mode():
        for axes in (0, 1):
            y = nd.Dropout(nd.ones((8, 8)), p=0.5, axes=axes).asnumpy()
            assert (y.max(axes) == y.min(axes)).all() and y.max() > y.min()
