"""Parameters and their dictionaries: behaviours and errors as MXNet 1.9.1 answered."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import minigluon as mx
from minigluon import nd
from minigluon.gluon import Constant, Parameter, ParameterDict
from minigluon.gluon.parameter import DeferredInitializationError

TWO = [mx.cpu(0), mx.cpu(1)]


def made(**settings):
    p = Parameter("w", shape=(2, 3), **settings)
    p.initialize(ctx=TWO)
    return p


def waiting():
    p = Parameter("w", shape=(2, 0), allow_deferred_init=True)
    p.initialize()
    return p


def bare(**settings):
    return Parameter("w", shape=(2, 3), **settings)


def sparse():
    p = Parameter("w", shape=(4, 2), stype="row_sparse")
    p.initialize(init="ones", ctx=TWO)
    return p


def net():
    params = ParameterDict("net_")
    params.get("w", shape=(2, 3))
    params.get("b", shape=2)
    params.get_constant("c", [1])
    return params


def begun(**settings):
    params = net()
    params.initialize(**settings)
    return params


DEFERRED = "has not been initialized yet because initialization was deferred"
ERRORS = {  # as MXNet: who raises what, and what the message says
    "data": (lambda: bare().data(), RuntimeError, "Parameter 'w' has not been initialized"),
    "grad": (lambda: bare().grad(), RuntimeError, "Parameter 'w' has not been initialized"),
    "list_ctx": (lambda: bare().list_ctx(), RuntimeError, "'w' has not been initialized$"),
    "list_grad": (lambda: bare().list_grad(), RuntimeError, "has not been initialized"),
    "set_data": (lambda: bare().set_data(nd.ones((2, 3))), AssertionError, "not been initialized"),
    "reset_ctx": (
        lambda: bare().reset_ctx(mx.cpu(1)),
        ValueError,
        "Cannot reset context for Parameter 'w' because it has not been initialized",
    ),
    "null": (lambda: bare(grad_req="null").grad(), RuntimeError, "has not been initialized"),
    "deferred data": (lambda: waiting().data(), DeferredInitializationError, DEFERRED),
    "deferred grad": (lambda: waiting().grad(), DeferredInitializationError, DEFERRED),
    "deferred list": (lambda: waiting().list_data(), DeferredInitializationError, DEFERRED),
    "deferred finish": (
        lambda: waiting()._finish_deferred_init(),
        AssertionError,
        r"invalid shape: \(2, 0\)",
    ),
    "deferred shape": (
        lambda: waiting().set_data(nd.ones((3, 4))),
        AssertionError,
        r"Expected shape \(3, 4\) is incompatible with given shape \(2, 0\)\.",
    ),
    "context": (
        lambda: made().data(mx.cpu(2)),
        RuntimeError,
        r"'w' was not initialized on context cpu\(2\). It was only initialized on \[cpu\(0\), cpu",
    ),
    "no gradient": (
        lambda: made(grad_req="null").grad(),
        RuntimeError,
        "Cannot get gradient array for Parameter 'w' because grad_req='null'",
    ),
    "no gradients": (lambda: made(grad_req="null").list_grad(), RuntimeError, "grad_req='null'"),
    "grad_req": (
        lambda: bare(grad_req="foo"),
        AssertionError,
        "grad_req must be one of 'write', 'add', or 'null', but got 'foo'",
    ),
    "no shape": (lambda: Parameter("w").initialize(), ValueError, "invalid shape: None"),
    "zero": (lambda: Parameter("w", shape=(0, 3)).initialize(), ValueError, r"shape: \(0, 3\)"),
    "minus": (
        lambda: Parameter("w", shape=(-1, 3)).initialize(),
        AssertionError,
        "cannot be less than 0, while received -1",
    ),
    "rank": (lambda: setattr(waiting(), "shape", (2, 4, 5)), AssertionError, "incompatible"),
    "new shape": (lambda: made().set_data(nd.ones((4, 3))), AssertionError, "incompatible"),
    "stype": (lambda: bare(stype="foo"), AssertionError, "stype for Parameter 'w' must be one of"),
    "grad_stype": (lambda: bare(grad_stype="foo"), AssertionError, "grad_stype for Parameter 'w'"),
    "sparse data": (lambda: sparse().data(), RuntimeError, r"ctx None via data\(\) because its"),
    "sparse list": (lambda: sparse().list_data(), RuntimeError, r"all contexts via list_data\(\)"),
    "no trainer": (
        lambda: sparse().row_sparse_data(nd.array([0])),
        RuntimeError,
        "Cannot get row_sparse data for Parameter 'w' when no Trainer is created",
    ),
    "dense rows": (
        lambda: made().row_sparse_data(nd.array([0])),
        RuntimeError,
        r"Parameter w via row_sparse_data\(\) because its storage type is default",
    ),
    "dense list rows": (
        lambda: made().list_row_sparse_data(nd.array([0])),
        RuntimeError,
        r"list_row_sparse_data\(\) because its storage type is default",
    ),
    "key": (lambda: net()["w"], KeyError, "w"),
    "get shape": (
        lambda: net().get("w", shape=(2, 4)),
        AssertionError,
        r"for attribute 'shape': desired '\(2, 4\)' vs stored '\(2, 3\)'",
    ),
    "get rank": (lambda: net().get("w", shape=(2, 4, 5)), AssertionError, "attribute 'shape'"),
    "get dtype": (
        lambda: net().get("w", dtype="float64"),
        AssertionError,
        "Cannot retrieve Parameter 'net_w'.*'dtype': desired 'float64' vs stored",
    ),
    "get lr": (lambda: net().get("w", lr_mult=3), AssertionError, "desired '3' vs stored '1.0'"),
    "get req": (lambda: net().get("w", grad_req="null"), AssertionError, "'grad_req'"),
    "get other": (lambda: net().get("z", foo=3), TypeError, "foo"),
    "constant": (lambda: net().get_constant("z"), KeyError, "No constant named 'net_z'"),
    "not constant": (
        lambda: net().get_constant("w", [2]),
        AssertionError,
        "Parameter 'net_w' already exists but it is not a constant",
    ),
    "update": (
        lambda: net().update(net()),
        AssertionError,
        "they have different Parameters with the same name",
    ),
    "initializer": (lambda: net().initialize(init="foo"), AssertionError, "foo is not registered"),
    "dict list_ctx": (lambda: net().list_ctx(), RuntimeError, "'net_w' has not been initialized"),
    "setattr": (lambda: net().setattr("grad_req", "foo"), AssertionError, "grad_req must be"),
    "dict reset": (lambda: net().reset_ctx(mx.cpu(1)), ValueError, "Cannot reset context"),
}


@pytest.mark.parametrize("call", ERRORS)
def test_errors_are_mxnets(call):
    wrong, error, says = ERRORS[call]
    with pytest.raises(error, match=says):
        wrong()


def test_what_needs_no_arrays():
    bare().zero_grad()
    bare().cast("float16")
    made(grad_req="null").zero_grad()
    assert made(differentiable=False).grad_req == "null"
    assert Parameter("w", shape=5).shape == (5,)
    assert repr(bare()) == "Parameter w (shape=(2, 3), dtype=<class 'numpy.float32'>)"
    assert repr(bare(dtype="float32")) == "Parameter w (shape=(2, 3), dtype=float32)"
    assert repr(Parameter("w")) == "Parameter w (shape=None, dtype=<class 'numpy.float32'>)"
    assert copy.deepcopy(bare()).shape == (2, 3)
    assert pickle.loads(pickle.dumps(bare())).name == "w"


def test_writing_keeps_the_objects():
    p = made()
    a, g = p.data(mx.cpu(1)), p.grad(mx.cpu(1))
    p.set_data(np.ones((2, 3)))
    assert p.data(mx.cpu(1)) is a and p.grad(mx.cpu(1)) is g
    assert a.asnumpy().all() and a.dtype == np.float32
    p.set_data(nd.ones((2, 3), dtype="float64") * 2)
    assert [b.asnumpy().sum() for b in p.list_data()] == [12, 12]
    a[:] = 5  # contexts keep their numbers apart
    assert p.data(mx.cpu(0)).asnumpy().sum() == 12


def test_writing_while_waiting():
    p = waiting()
    p.set_data(nd.ones((2, 4), dtype="float64"))
    assert p.shape == (2, 4)
    with pytest.raises(DeferredInitializationError):
        p.data()
    p._finish_deferred_init()
    assert p.data().asnumpy().all() and p.data().dtype == np.float32
    p = waiting()
    p.reset_ctx([mx.cpu(1), mx.cpu(2)])
    assert p.list_ctx() == [mx.cpu(1), mx.cpu(2)]


def test_initializing_again():
    p = made(init="zeros")
    with pytest.warns(UserWarning, match="'w' is already initialized, ignoring"):
        p.initialize(init="ones")
    a = p.data()
    p.initialize(init="ones", force_reinit=True)
    assert p.data() is not a and p.data().asnumpy().all() and p.list_ctx() == [mx.cpu(0)]


def test_gradients_and_requests():
    p = made()
    p.grad_req = "null"
    assert p.data().grad is None
    p.grad_req = "add"
    x = nd.ones((2, 3))
    for _ in range(2):
        with mx.autograd.record():
            y = (p.data() * x).sum()
        y.backward()
    assert p.grad().asnumpy().tolist() == [[2] * 3] * 2
    p.zero_grad()
    assert not p.grad().asnumpy().any() and len(p.list_grad()) == 2
    p.cast("float16")
    assert p.dtype == "float16" and p.data().dtype == p.grad().dtype == np.float16
    p.reset_ctx(mx.cpu(3))
    assert p.list_ctx() == [mx.cpu(3)] == [p.grad().context]
    with mx.cpu(1):
        assert made().data().context == mx.cpu(1)


def test_row_sparse():
    p = Parameter("w", shape=(4, 2), grad_stype="row_sparse")
    p.initialize()
    assert p.grad().stype == p.list_grad()[0].stype == "row_sparse"
    p = sparse()
    assert p.list_ctx() == TWO
    assert p.var().attr("__storage_type__") == "1"
    trainer = mx.gluon.Trainer([p], "sgd")
    rows = p.row_sparse_data(nd.array([0, 2]))
    assert rows.stype == "row_sparse" and rows.asnumpy()[:, 0].tolist() == [1, 0, 1, 0]
    assert len(p.list_row_sparse_data(nd.array([[1]]))) == 2
    with pytest.raises(RuntimeError, match="Failed to set the trainer for Parameter 'w'"):
        mx.gluon.Trainer([p], "sgd")
    with pytest.raises(TypeError, match="row_id must have NDArray type"):
        p.row_sparse_data([0])
    p._set_trainer(trainer)
    p._set_trainer(None)


def test_rows_learn_where_they_are_kept(tmp_path):
    p = Parameter("w", shape=(5, 2), stype="row_sparse", grad_stype="row_sparse")
    p.initialize(init="ones", ctx=TWO)
    trainer = mx.gluon.Trainer([p], "sgd", {"learning_rate": 1})
    used = [nd.array([1, 3], ctx=TWO[0]), nd.array([3, 4], ctx=TWO[1])]
    with mx.autograd.record():
        losses = [nd.Embedding(i, p.row_sparse_data(i), 5, 2, sparse_grad=True) for i in used]
    mx.autograd.backward(losses)
    trainer.step(1)
    learnt = [1, 0, 1, -1, 0]
    assert p.row_sparse_data(nd.arange(5)).asnumpy()[:, 0].tolist() == learnt
    params = ParameterDict()
    params.update({"w": p})
    params.save(str(tmp_path / "rows"))
    assert nd.load(str(tmp_path / "rows"))["w"].asnumpy()[:, 1].tolist() == learnt
    p.cast("float64")
    assert p._data[1].asnumpy()[:, 0].tolist() == learnt
    params.load(str(tmp_path / "rows"), cast_dtype=True)
    assert trainer._kvstore is None  # which had the rows of before
    p._data[1][:] = 0
    assert p.row_sparse_data(nd.array([3])).asnumpy()[3].tolist() == [-1, -1]


def test_another_store_after_new_numbers():
    rows, dense = sparse(), Parameter("v", shape=(2,))
    dense.initialize(init="ones", ctx=TWO)
    rows.grad_req = "null"
    trainer = mx.gluon.Trainer([rows, dense], "sgd", {"learning_rate": 1})
    for _ in range(2):
        with mx.autograd.record():
            losses = [d.sum() for d in dense.list_data()]
        mx.autograd.backward(losses)
        trainer.step(1)
        rows._data[0][:] = 7  # not what the store has
        dense.set_data(nd.array([10, 20]))
        assert trainer._kvstore is None and not trainer._kv_initialized
        assert rows._data[0].asnumpy().max() == 1
    with mx.autograd.record():
        losses = [d.sum() for d in dense.list_data()]
    mx.autograd.backward(losses)
    trainer.step(1)
    assert dense.data(TWO[1]).asnumpy().tolist() == [8, 18]


def test_constants():
    c = Constant("c", [[1, 2], [3, 4]])
    c.initialize()
    assert c.grad_req == "null" and c.data().asnumpy().tolist() == c.value.asnumpy().tolist()
    with pytest.warns(UserWarning, match='Constant parameter "c" does not support grad_req'):
        c.grad_req = "write"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c.grad_req = "null"
    assert Constant("c", nd.array([1], dtype="int32")).dtype == np.int32


def test_dictionaries():
    params = net()
    assert repr(ParameterDict("net_")) == "net_ (\n\n)" and repr(ParameterDict()) == "(\n\n)"
    assert repr(params).splitlines()[:2] == ["net_ (", f"  {params['net_w']!r}"]
    assert list(params) == list(params.keys()) == ["net_w", "net_b", "net_c"]
    assert "net_w" in params and params.prefix == "net_"
    assert params.get("w", shape=(2, 0)).shape == (2, 3)
    assert params.get("w", dtype=np.float32) is params.get("w", dtype="float32")
    assert params.get("w", init="ones").init == "ones"
    params.get("q", shape=(2, 0, 3))
    assert params.get("q", shape=(0, 4, 0)).shape == (2, 4, 3)
    other = ParameterDict("net_", shared=params)
    assert other.get("w") is params["net_w"] and list(other) == ["net_w"]
    assert ParameterDict("other_", shared=params).get("w").shape is None
    params.setattr("lr_mult", 3)
    assert params["net_b"].lr_mult == 3
    assert begun(ctx=TWO).list_ctx() == TWO and ParameterDict().list_ctx() == []
    params = begun(init=mx.init.One())
    assert params["net_b"].data().asnumpy().tolist() == [1, 1]


def test_files(tmp_path):
    full, short = str(tmp_path / "a.params"), str(tmp_path / "b.params")
    params = begun(ctx=TWO)
    params["net_w"].data(mx.cpu(0))[:] = 1
    params["net_w"].data(mx.cpu(1))[:] = 3
    params.save(full)
    params.save(short, strip_prefix="net_")
    assert list(nd.load(full)) == ["net_w", "net_b", "net_c"]
    assert nd.load(short)["w"].asnumpy().tolist() == [[2] * 3] * 2  # the mean over contexts
    loaded = net()
    loaded.load(full)
    assert loaded.list_ctx() == [mx.cpu(0)]
    loaded = begun(ctx=mx.cpu(1))
    loaded.load(short, restore_prefix="net_")
    assert loaded.list_ctx() == [mx.cpu(1)] and loaded["net_w"].data().asnumpy().all()
    late = ParameterDict("net_")
    late.get("w", shape=(2, 0), allow_deferred_init=True)
    late.initialize()
    late.load(full, ignore_extra=True)
    assert late["net_w"].data().shape == (2, 3)
    half = ParameterDict("net_")
    half.get("w", shape=(2, 3), dtype="float16")
    half.load(full, ignore_extra=True, cast_dtype=True)
    assert half["net_w"].data().dtype == np.float16
    half.load(full, ignore_extra=True, cast_dtype=True, dtype_source="saved")
    assert half["net_w"].data().dtype == np.float32
    nd.save(short, {"arg:net_w": nd.ones((2, 3)), "aux:net_c": nd.array([5])})
    loaded = net()
    loaded.load(short, allow_missing=True)
    assert loaded["net_c"].data().asscalar() == 5


def extra():
    params = net()
    params.get("more", shape=(1,))
    return params


FILE_ERRORS = {
    "missing": (
        lambda f: extra().load(f),
        AssertionError,
        "'net_more' is missing in file: .*, which",
    ),
    "extra": (
        lambda f: ParameterDict("net_").load(f),
        AssertionError,
        "'net_w' loaded from file: .* is not present in ParameterDict",
    ),
    "context": (
        lambda f: begun().load(f, ctx=mx.cpu(2)),
        AssertionError,
        r"Failed to load Parameter 'net_w' on \[cpu\(2\)\] because it was previous initialized",
    ),
    "prefix": (lambda f: net().load(f, restore_prefix="x_"), AssertionError, "restore_prefix is"),
    "strip": (lambda f: begun().save(f, strip_prefix="x_"), ValueError, "Prefix 'x_' is to be"),
    "not begun": (lambda f: net().save(f), RuntimeError, "'net_w' has not been initialized"),
    "no file": (lambda f: net().load(f + "no"), mx.MXNetError, "cannot read"),
    "no names": (lambda f: (nd.save(f, [nd.ones(1)]), net().load(f)), ValueError, "without names"),
    "dictionary": (
        lambda f: net().load_dict({"net_w": nd.ones((2, 3))}),
        AssertionError,
        "'net_b' is missing in param_dict",
    ),
    "shape": (
        lambda f: bare()._load_init(nd.ones((2, 4)), None),
        AssertionError,
        r"shape incompatible expected \(2, 3\) vs saved \(2, 4\)",
    ),
    "dtype": (
        lambda f: bare(dtype="float16")._load_init(nd.ones((2, 3)), None),
        AssertionError,
        "dtype incompatible expected float16 vs saved",
    ),
    "source": (
        lambda f: bare()._load_init(nd.ones((2, 3)), None, True, "foo"),
        AssertionError,
        "foo",
    ),
}


@pytest.mark.parametrize("call", FILE_ERRORS)
def test_files_that_do_not_fit(call, tmp_path):
    path = str(tmp_path / "a.params")
    begun().save(path)
    wrong, error, says = FILE_ERRORS[call]
    with pytest.raises(error, match=says):
        wrong(path)


class DroppedWeight(Parameter):
    """A parameter that takes another's place and drops weights,
    as language models' toolkits write it.
    """

    def __init__(self, other, rate):
        super().__init__(
            other.name, other.grad_req, other._shape, other.dtype, other.lr_mult, other.wd_mult, other.init,
            other._allow_deferred_init, other._differentiable,
        )  # fmt: skip
        self._rate, self._stype, self._grad_stype = rate, other._stype, other._grad_stype
        for name in ("_var", "_data", "_grad", "_ctx_list", "_ctx_map", "_deferred_init"):
            setattr(self, name, getattr(other, name))

    def data(self, ctx=None):
        return mx.nd.Dropout(self._check_and_get(self._data, ctx), self._rate)


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("early", [False, True])
def test_a_parameter_that_takes_anothers_place(hybrid, early):
    net = mx.gluon.nn.Dense(64, in_units=64, use_bias=False)
    if not early:
        net.initialize(mx.init.One())
    old = net.weight
    net._reg_params["weight"] = net.params._params[old.name] = DroppedWeight(old, 0.5)
    object.__setattr__(net, "weight", net._reg_params["weight"])
    if early:
        net.initialize(mx.init.One())
    net.hybridize(hybrid)
    x = mx.nd.ones((1, 64))
    assert (net(x) == 64).asnumpy().all()
    with mx.autograd.record():
        y = net(x)
    y.backward()
    kept = net.weight.grad().asnumpy()
    assert 0.4 < (kept == 0).mean() < 0.6 and (kept.sum(1) == y.asnumpy()).all()
    mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0}).step(1)
    assert (net.weight._data[0].asnumpy() == 1 - kept).all()
    assert early or net.weight._data[0] is old.data()


def test_private_views_of_the_arrays():
    p = Parameter("w", shape=(2,))
    assert p._ctx_list is None and p._grad is None and p._ctx_map == [[], []]
    p.initialize(ctx=[mx.cpu(0), mx.cpu(2)])
    assert p._ctx_list == [mx.cpu(0), mx.cpu(2)]
    places = p._ctx_map
    assert [k for k in places if k] == [[0, None, 1]]
    assert p._check_and_get(p._data, []) is p._data
    p._grad = [mx.nd.ones(2), mx.nd.ones(2, ctx=mx.cpu(2))]
    assert p.grad(mx.cpu(2)).sum().asscalar() == 2
    p._ctx_list = [mx.cpu(1)]
    assert p.list_ctx() == [mx.cpu(1)] and p._ctx_map != places


def test_all_arrays_of_a_parameter_are_asked_for_by_the_type_of_a_list():
    p = mx.gluon.Parameter("p", shape=(2,))
    p.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    for wanted in (list, [mx.cpu(0)]):
        assert [a.context for a in p._check_and_get(p._data, wanted)] == [mx.cpu(0), mx.cpu(1)]
    assert p._check_and_get(p._data, mx.cpu(1)) is p.data(mx.cpu(1))


def test_memory_of_the_host_is_near():
    p = mx.gluon.Parameter("w", shape=(2,))
    p.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    for ctx in (mx.cpu_pinned(1), mx.Context("cpu_shared", 1)):
        assert p.data(ctx) is p.data(mx.cpu(1)) and p.grad(ctx) is p.grad(mx.cpu(1))
    for ctx in (mx.cpu_pinned(2), mx.gpu(0)):
        with pytest.raises(RuntimeError, match="not initialized on context"):
            p.data(ctx)
    dense = mx.gluon.nn.Dense(3)
    dense.initialize()
    assert dense(mx.nd.ones((2, 4), ctx=mx.cpu_pinned())).shape == (2, 3)
