"""The namespace mx.nd: every operator, made on first use, with MXNet's manners."""

import inspect
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, namespace, nd
from minigluon.base import MXNetError
from minigluon.namespace import in_general
from minigluon.op import operators
from tests.cases import ROWS


def python(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_every_operator_is_there():
    assert set(operators) <= set(dir(nd))
    for name in operators:
        assert callable(getattr(nd, name))


def test_made_once():
    assert nd.relu is nd.relu is vars(nd)["relu"]
    from minigluon.ndarray import relu

    assert relu is nd.relu


def test_aliases_share_one_function():
    for name, op in operators.items():
        strict = name.startswith("elemwise_")  # one that refuses to broadcast
        assert strict or getattr(nd, name) is getattr(nd, op.name)


def test_pickled_by_name():
    assert pickle.loads(pickle.dumps(nd.relu)) is nd.relu
    assert pickle.loads(pickle.dumps(nd.broadcast_add)) is nd.broadcast_add


def test_help():
    assert "data" in inspect.signature(nd.relu).parameters
    assert nd.relu.__doc__ == operators["relu"].__doc__
    assert nd.relu.__module__ == "minigluon.ndarray"


def test_misspelt_name():
    with pytest.raises(
        AttributeError, match="'minigluon.ndarray' has no attribute 'rellu'.*'relu'"
    ):
        nd.rellu
    assert not hasattr(nd, "__wrapped__")
    with pytest.raises(ImportError):
        exec("from minigluon.ndarray import rellu")


@pytest.mark.parametrize("wrong", [np.ones(3), [1], 1])
def test_not_an_array(wrong):
    for error in (AssertionError, TypeError):
        with pytest.raises(error, match="Argument data must have NDArray type"):
            nd.relu(wrong)
    with pytest.raises(AssertionError):
        nd.sum(data=wrong)
    with pytest.raises(AssertionError):
        nd.dot(nd.ones((1,)), [wrong])


def test_out_and_name():
    x, y = nd.array([-1, 2]), nd.zeros((2,))
    assert nd.relu(x, out=y, name="any") is y
    assert y.tolist() == [0, 2]
    with pytest.raises(mx.MXNetError, match="cannot write"):
        nd.relu(x, out=nd.zeros((3,)))
    a, b = nd.zeros((1, 2)), nd.zeros((1, 2))
    got = nd.split(nd.array([[1, 2], [3, 4]]), 2, axis=0, out=[a, b])
    assert got[0] is a
    assert (a.tolist(), b.tolist()) == ([[1, 2]], [[3, 4]])


def test_out_carries_history():
    x, y = nd.array([1, 2]), nd.zeros((2,))
    x.attach_grad()
    with autograd.record():
        nd.square(x, out=y)
    y.backward()
    assert x.grad.tolist() == [2, 4]


def test_settings_by_position_and_arrays_by_name():
    x = nd.array([[1, 2], [3, 4]])
    assert nd.sum(x, 1).tolist() == nd.sum(data=x, axis=1).tolist() == [3, 7]
    assert nd.add(lhs=x, rhs=x).tolist() == [[2, 4], [6, 8]]


def test_core_stays_light():
    python(
        "import sys, minigluon.ndarray.ndarray\n"
        "assert not [m for m in sys.modules if m.startswith('minigluon.ops.')]\n"
        "assert 'minigluon.autograd' not in sys.modules"
    )


@pytest.mark.parametrize("first", ["mx.nd.array([1, 2])", "mx.nd.random.uniform(shape=2)"])
def test_first_array_has_all_methods(first):
    python(f"import minigluon as mx; x = {first}; (x + x).exp().reshape((2, 1)).sum()")


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda x: nd.gather_nd(x, nd.array([[0, 9]])), IndexError, "gather_nd"),
        (lambda x: nd.cast(x, dtype="foo"), TypeError, "cast"),
        (lambda x: nd.moveaxis(x, 0, 5), ValueError, "moveaxis"),
        (lambda x: nd.split_v2(x, 7), ValueError, "split_v2"),
        (lambda x: x.squeeze(axis=0, inplace=True), AssertionError, "squeeze"),
        (lambda x: nd.sum(), MXNetError, "no array"),
        (lambda x: nd.linspace(0, 1, -1), MXNetError, "negative"),
        (lambda x: nd.eye(-2), MXNetError, "negative"),
    ],
)
def test_errors_are_of_mxnets_and_of_pythons_kind(call, kind, says):
    with pytest.raises(kind, match=says) as found:
        call(nd.ones((2, 3)))
    assert isinstance(found.value, MXNetError)


def test_copies_onto_itself_and_onto_nothing():
    x = nd.ones(2)
    with pytest.warns(RuntimeWarning, match="itself"):
        assert x.copyto(x) is False
    with pytest.raises(TypeError, match="copyto"):
        x.copyto(3)


def test_internal_names():
    x, s = nd.array([1.0, 2.0]), mx.sym.var("x")
    for name, want in {
        "_plus_scalar": x + 5,
        "_rminus_scalar": 5 - x,
        "_rdiv_scalar": 5 / x,
        "_power_scalar": x**5,
        "_greater_scalar": x > 5,
        "_logical_and_scalar": x * 0 + 1,
        "_maximum_scalar": x * 0 + 5,
        "_hypot_scalar": nd.sqrt(x * x + 25),
    }.items():
        np.testing.assert_allclose(
            getattr(nd._internal, name)(x, scalar=5).asnumpy(), want.asnumpy()
        )
        graph = getattr(mx.sym._internal, name)(s, scalar=5)
        np.testing.assert_allclose(graph.eval(x=x)[0].asnumpy(), want.asnumpy())
    out = nd.zeros(2)
    assert nd._internal._mul_scalar(x, 3, out=out) is out and out.asnumpy().tolist() == [3, 6]
    assert nd._internal._copyto(x) is not x
    with pytest.raises(AttributeError, match="_nosuch_scalar"):
        nd._internal._nosuch_scalar  # noqa: B018


def test_a_graph_as_a_function():
    op = nd.CachedOp(mx.sym.var("a") - 2 * mx.sym.var("b"))
    assert op(nd.ones(2), nd.ones(2)).asnumpy().tolist() == [-1, -1]
    out = nd.zeros(2)
    op(nd.ones(2) * 4, nd.ones(2), out=out)
    assert out.asnumpy().tolist() == [2, 2]
    with pytest.raises(MXNetError, match="takes 2 arrays, a, b, not 1"):
        op(nd.ones(2))


def test_numbers_stored():
    x = nd.array([[0, 1], [0, 0], [2, 3]]).tostype("csr")
    assert nd.contrib.getnnz(x).asnumpy().tolist() == [3]
    assert nd.contrib.getnnz(x, axis=1).asnumpy().tolist() == [1, 0, 2]


def test_shapes_that_are_not_known_are_refused_as_in_mxnet():
    for make in (mx.nd.zeros, mx.nd.ones):
        for shape in ((), 0, (2, 0), [0, 1]):
            with pytest.raises(mx.MXNetError, match="not known completely"):
                make(shape)
        with mx.np_shape():
            assert make(()).shape == () and make((2, 0)).shape == (2, 0)
    with pytest.raises(mx.MXNetError):
        mx.nd.full((), 1)
    assert mx.nd.full((2, 0), 1).shape == mx.nd.empty((2, 0)).shape == (2, 0)


def test_arrays_become_those_of_np_before_np_is_imported():
    program = """
import minigluon as mx
x = mx.nd.ones((2, 3))
y = x.as_np_ndarray()
y[0, 0] = 5
print(type(y).__name__, x[0, 0].asscalar(), y.as_nd_ndarray().shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "ndarray 5.0 (2, 3)\n", done.stderr


def test_settings_as_texts():
    x, w, image = nd.array([[1.0, 2], [3, 4]]), nd.ones((4, 2)), nd.ones((1, 2, 6, 6))
    for no_bias in ("True", "true", "1", True):
        y = nd.FullyConnected(x, w, num_hidden="4", no_bias=no_bias)
        assert y.asnumpy().tolist() == [[3] * 4, [7] * 4]
    window = nd.ones((3, 2, 3, 3))
    y = nd.Convolution(image, window, kernel="(3,3)", stride="[1, 2]", num_filter="3", no_bias="1")
    assert y.shape == (1, 3, 4, 2)
    assert nd.sum(x, axis="1", keepdims="False").shape == (2,)
    assert nd.sum(x, axis="1", keepdims="True").shape == (2, 1)
    assert nd.sum(x, axis="None").asscalar() == 10
    assert nd.clip(x, a_min="2", a_max="3.5").asnumpy().tolist() == [[2, 2], [3, 3.5]]
    assert nd.one_hot(nd.array([1]), depth="3", dtype="int32").dtype == np.int32
    assert nd.Activation(x, act_type="relu").shape == x.shape  # twice, as words are remembered
    for name, value in (("no_bias", "yes"), ("flatten", "4x")):
        with pytest.raises(MXNetError, match=f"{name} expect bool but value='{value}'"):
            nd.FullyConnected(x, w, num_hidden=4, **{"no_bias": True, name: value})
    assert nd._internal._plus_scalar(x, scalar="2")[0, 0].asscalar() == 3


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("L2Normalization", {"eps": np.float64(1e-3)}),
        ("hard_sigmoid", {"alpha": np.float64(0.3), "beta": np.float64(0.4)}),
        ("softmax", {"temperature": np.float64(2)}),
        ("smooth_l1", {"scalar": np.float64(2)}),
        ("clip", {"a_min": np.float64(0.1), "a_max": np.float64(0.5)}),
        ("LRN", {"nsize": np.int64(3), "alpha": np.float64(0.1)}),
    ],
)
def test_numbers_of_numpy_among_settings_leave_the_type_alone(name, settings):
    x = nd.array(np.random.default_rng(0).normal(size=(1, 3, 2, 2)))
    plain = {key: value.item() for key, value in settings.items()}
    function, results = getattr(nd, name), []
    for given in (settings, plain):
        x.attach_grad()
        with mx.autograd.record():
            y = function(x, **given)
        y.backward()
        results.append((y, x.grad))
    for a, b in zip(*results):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-6, atol=1e-6)


WHOLE, REAL = (np.int32, np.int64), (np.float16, np.float32, np.float64)


def of_numpy(value, kinds):
    """A setting's number as one of NumPy's types; None if it is none."""
    if isinstance(value, bool):
        return np.bool_(value)
    for kind, types in ((int, WHOLE), (float, REAL)):
        if isinstance(value, kind):
            new = kinds[types](value)
            return new if new == value else None  # 0.1 is no number of half precision
    return None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("kinds", [*zip(WHOLE, REAL[1:])], ids=["single", "double"])
def test_the_functions_of_mx_nd_are_the_operators_also_with_numbers_of_numpy(dtype, kinds):
    """Plain numbers take the short way through a function, NumPy's the long one;
    both are the operator.
    """
    kinds, different, computed = dict(zip((WHOLE, REAL), kinds)), [], 0
    for row in ROWS:
        numbers = {n: of_numpy(v, kinds) for n, v in row.settings.items()}
        numbers = {n: v for n, v in numbers.items() if v is not None}
        if not row.arrays or not (numbers or row.op.endswith("update")):
            continue
        real = [np.asarray(a).dtype.kind == "f" for a in row.arrays]
        types = [dtype if is_real else np.asarray(a).dtype for a, is_real in zip(row.arrays, real)]
        results = []
        for call, settings in (
            (in_general(operators[row.op]), row.settings),
            (getattr(nd, row.op), row.settings),
            (getattr(nd, row.op), row.settings | numbers),
        ):
            mx.random.seed(0)
            try:
                found = call(*[nd.array(a, dtype=t) for a, t in zip(row.arrays, types)], **settings)
            except MXNetError as error:
                results.append(type(error))
            else:
                found = found if isinstance(found, list) else [found]
                results.append([(a.dtype, a.asnumpy().tobytes()) for a in found])
        if hasattr(operators[row.op], "revealing"):  # its function shows fewer outputs
            results[0] = results[1]
        if not results[0] == results[1] == results[2]:
            different.append(row.id)
        computed += isinstance(results[2], list)
    assert not different and computed > 200


@pytest.mark.parametrize("setting", [np.array(1), np.int8(1), np.str_("1")])
def test_what_reads_as_a_number_is_one(setting):
    x = nd.arange(6).reshape((2, 3))
    assert nd.sum(x, axis=setting, keepdims=np.True_).asnumpy().tolist() == [[3], [12]]


def test_internal_names_of_the_first_years():
    x, inner = nd.array([1.0, 4]), nd._internal
    for name, want in (
        ("_PlusScalar", [3, 6]), ("_RMinusScalar", [1, -2]), ("_RDivScalar", [2, 0.5]),
        ("_PowerScalar", [1, 16]), ("_NotEqualScalar", [1, 1]), ("_GreaterEqualScalar", [0, 1]),
    ):  # fmt: skip
        assert getattr(inner, name)(x, scalar=2).asnumpy().tolist() == want, name
    assert inner._Plus(x, x).asnumpy().tolist() == inner._add(x, x).asnumpy().tolist() == [2, 8]
    assert inner._Not_Equal(x, x).asnumpy().tolist() == [0, 0]
    assert inner._random_pdf_uniform(x, nd.zeros(2), nd.ones(2) * 4).shape == (2,)


NOTED = {  # name: shapes of the arrays, None for one that is not given; settings
    "square": (((2, 3),), {}),
    "dot": (((2, 3), (3, 2)), {}),
    "softmax": (((2, 3),), {}),
    "SequenceMask": (((3, 2), (2,)), {"use_sequence_length": True}),
    "FullyConnected": (((2, 3), (4, 3), (4,)), {"num_hidden": 4}),
    "Convolution": (
        ((1, 2, 4, 4), (3, 2, 2, 2), None),
        {"num_filter": 3, "kernel": (2, 2), "no_bias": True},
    ),
    "split": (((2, 4),), {"num_outputs": 2}),
    "SequenceLast": (((3, 2), (2,)), {"use_sequence_length": True}),
    "add_n": (((2, 3), (2, 3), (2, 3)), {}),
    "concat": (((2, 3), (2, 4)), {"dim": 1}),
    "stack": (((2, 3), (2, 3)), {"axis": 2}),
    "linalg_gelqf": (((2, 3),), {}),
}


@pytest.mark.parametrize("name", NOTED)
def test_a_written_function_leaves_the_note_of_the_general_one(name):
    shapes, settings = NOTED[name]
    # no ones: a factorization is differentiated where the rows do not depend on each other
    arrays = [None if s is None else nd.arange(1, math.prod(s) + 1).reshape(s) for s in shapes]
    for a in arrays[1:]:
        if a is not None and a.shape != (2,):
            a.attach_grad()
    arrays[0].attach_grad()
    with autograd.record():
        found = [f(*arrays, **settings) for f in (getattr(nd, name), in_general(operators[name]))]
    assert "noted(" in getattr(nd, name).source
    firsts = [y[0] if isinstance(y, list) else y for y in found]
    for y in firsts:
        np.testing.assert_array_equal(y.asnumpy(), firsts[1].asnumpy())
    one, other = (
        y._node.parents[0] if type(y._node) is autograd.Output else y._node for y in firsts
    )
    assert type(one) is type(other) is autograd.Node and one.op is other.op
    assert [type(a) for a in one.args] == [type(a) for a in other.args][: len(one.args)]
    assert list(map(id, one.parents)) == list(map(id, other.parents))[: len(one.parents)]
    defaults = operators[name].defaults
    assert {**defaults, **one.settings} == {**defaults, **other.settings}
    grads = []
    for y in firsts:
        y.backward(nd.ones(y.shape) * 2)
        grads.append([None if a is None or a.grad is None else a.grad.asnumpy() for a in arrays])
    for a, b in zip(*grads):
        np.testing.assert_array_equal(a, b)


OF_MANY = [  # calls of an operator of any number of arrays, of which a and b are of two types
    lambda f, a, b: f(a, a, dim="0"),
    lambda f, a, b: f(a, a, dim=0, name="joined"),
    lambda f, a, b: f(arg0=a, arg1=a, dim=0),
    lambda f, a, b: f(a),
    lambda f, a, b: f(a, b),
    lambda f, a, b: f(a, 1),
    lambda f, a, b: f(),
    lambda f, a, b: f(a, a, dim="first"),
    lambda f, a, b: f(a, a, dim=5),
    lambda f, a, b: f(a, a, dims=0),
]


@pytest.mark.parametrize("call", OF_MANY)
def test_a_function_of_any_number_of_arrays_does_what_the_general_one_does(call):
    a, b, found = nd.ones((2, 3)), nd.ones((2, 3), dtype="float64"), []
    for f in (nd.concat, in_general(operators["concat"])):
        try:
            found.append(call(f, a, b).asnumpy().tolist())
        except mx.MXNetError as error:
            found.append((type(error), str(error).replace(", num_args=None", "")))
    assert found[0] == found[1]
    assert "_args" in nd.concat.source


def test_an_array_that_is_not_there_is_none_while_recording():
    x = nd.ones((2, 3))
    x.attach_grad()
    with autograd.record():
        y = nd.softmax(x, namespace._Null)
    y.backward()
    assert y.shape == (2, 3)


@pytest.mark.parametrize(
    "call",
    (
        lambda nd, i: nd.sum(nd.ones((2, 3)), axis=i([1])),
        lambda nd, i: nd.transpose(nd.ones((2, 3)), axes=i([1, 0])),
        lambda nd, i: nd.tile(nd.ones((2, 3)), i([1, 2])),
        lambda nd, i: nd.slice(nd.ones((2, 3)), begin=i([0, 1]), end=i([2, 3])),
        lambda nd, i: nd.Pooling(nd.ones((1, 1, 4, 4)), kernel=(i(2), 2), stride=(2, i(2))),
        lambda nd, i: nd.random.multinomial(nd.array([0, 1]), shape=i(3)),
        lambda nd, i: nd.histogram(nd.array([1, 2, 3]), bins=i(2), range=(0, 4))[0],
        lambda nd, i: nd.zeros((i(2), 3)) + nd.ones(i([2, 3])),
    ),
)
@pytest.mark.parametrize("kind", ("int32", "int64", "uint8"))
def test_numpys_whole_numbers_are_settings(call, kind):
    plain = call(mx.nd, lambda n: tuple(n) if isinstance(n, list) else n)
    found = call(
        mx.nd, lambda n: np.asarray(n, kind) if isinstance(n, list) else np.dtype(kind).type(n)
    )
    assert found.dtype == plain.dtype and np.array_equal(found.asnumpy(), plain.asnumpy())


def test_out_takes_lists():
    """As in MXNet: the list that was given comes back, and it must have an array for each output."""
    x = nd.arange(16).reshape((4, 4))
    out = [nd.zeros((4, 2)), nd.zeros((4, 2))]
    assert nd.split(x, num_outputs=2, axis=1, out=out) is out
    assert (nd.concat(*out, dim=1).asnumpy() == x.asnumpy()).all()
    assert x.split(num_outputs=2, axis=0, out=(again := [nd.zeros((2, 4))] * 2)) is again
    single = [nd.zeros((4, 4))]
    assert nd.relu(x, out=single) is single and (single[0].asnumpy() == x.asnumpy()).all()
    with pytest.raises(MXNetError, match="1 arrays for 2 outputs"):
        nd.split(x, num_outputs=2, axis=1, out=[nd.zeros((4, 2))])
    turned = nd.zeros((4, 4))
    assert x.transpose(out=turned) is turned and (turned.asnumpy() == x.asnumpy().T).all()
    whole = nd.zeros((2, 3))
    assert nd.full((1,), 5, out=whole) is whole and (whole.asnumpy() == 5).all()


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
def test_clip_between_crossed_bounds(dtype):
    """MXNet looks at the upper bound first."""
    x = nd.array([1, 2, 3, 4, 5], dtype=dtype)
    x.attach_grad()
    with mx.autograd.record():
        y = nd.clip(x, a_min=4, a_max=2)
    y.backward()
    assert y.asnumpy().tolist() == [4, 4, 2, 2, 2] and y.dtype == x.dtype
    assert not x.grad.asnumpy().any()
    if dtype == "float32":
        assert np.isnan(nd.clip(nd.array([np.nan]), a_min=4, a_max=2).asnumpy()).all()
        assert mx.sym.clip(mx.sym.var("x"), a_min=4, a_max=2).eval(x=x)[0].asnumpy().tolist() == [
            4,
            4,
            2,
            2,
            2,
        ]
