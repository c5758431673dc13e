"""`mx.np` and `mx.npx`: the same operators, with NumPy's shapes and rules."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as onp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigluon as mx
from minigluon import autograd, gluon, np, npx
from tests.reference.golden_numpy import answers

GOLDEN = json.loads((Path(__file__).parent / "golden_numpy.json").read_text())


@pytest.fixture(autouse=True)
def numpy_mode():
    npx.set_np()
    yield
    npx.reset_np()


@pytest.fixture(scope="module")
def found():
    with mx.util.np_array(), mx.util.np_shape(), onp.errstate(all="ignore"):
        return answers({"mx": mx, "np": np, "npx": npx, "onp": onp})


def same(one, two):
    """Whether what was found is what MXNet gives: numbers within rounding, an error of its kind."""
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    if not (isinstance(one, dict) and isinstance(two, dict)):
        return one == two
    if "error" in one or "error" in two:
        return two.get("error", [""])[0] in one.get("error", [])
    numbers = [onp.array([float(x) for x in d["numbers"]]) for d in (one, two)]
    if one["dtype"] != two["dtype"] or one["shape"] != two["shape"]:
        return False
    return onp.allclose(*numbers, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("line", GOLDEN)
def test_gives_what_mxnet_gives(line, found):
    assert same(found[line], GOLDEN[line]), (found[line], GOLDEN[line])


TEXTS = {
    "np.array([1., 2.])": "array([1., 2.])",
    "np.array(3.)": "array(3.)",
    "np.array([1, 2], dtype='int32')": "array([1, 2], dtype=int32)",
    "np.zeros((0, 3))": "array([], shape=(0, 3))",
    "np.array([1, 2]) > 1": "array([False,  True])",
    "np.arange(4).reshape(2, 2)": "array([[0., 1.],\n       [2., 3.]])",
}


@pytest.mark.parametrize("line", TEXTS)
def test_prints_as_mxnet_does(line):
    assert repr(eval(line)) == TEXTS[line]


KEYS = hnp.array_shapes(max_dims=3, max_side=4).flatmap(
    lambda shape: st.tuples(
        st.just(shape),
        st.one_of(
            hnp.basic_indices(shape, allow_newaxis=True),
            hnp.integer_array_indices(shape),
            hnp.arrays(bool, shape),
        ),
    )
)


@given(KEYS)
def test_indices_are_numpys(case):
    shape, key = case
    raw = onp.arange(onp.prod(shape), dtype="float32").reshape(shape)
    wanted = onp.asarray(raw[key])
    x = np.array(raw)
    ours = x[np.array(key)] if isinstance(key, onp.ndarray) else x[key]
    assert ours.shape == wanted.shape and (ours.asnumpy() == wanted).all()
    x.attach_grad()
    with autograd.record():
        y = (x[key] * 2).sum()
    y.backward()
    expected = onp.zeros(shape)
    onp.add.at(expected, key, 2)
    assert (x.grad.asnumpy() == expected).all()
    x[key], raw[key] = -1, -1
    assert (x.asnumpy() == raw).all()


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_dims=0))
def test_arithmetic_and_its_gradient_with_any_axes(shapes):
    a, b = (np.array(onp.random.RandomState(0).uniform(1, 2, s)) for s in shapes.input_shapes)
    a.attach_grad()
    b.attach_grad()
    with autograd.record():
        y = np.exp(a * b / 3 - 1) + npx.sigmoid(a) + (a - b) ** 2
        total = y.sum()
    assert y.shape == shapes.result_shape and total.shape == ()
    total.backward()
    assert isinstance(a.grad, np.ndarray) and a.grad.shape == a.shape and b.grad.shape == b.shape
    h = 1e-6
    f = lambda a, b: onp.exp(a * b / 3 - 1) + 1 / (1 + onp.exp(-a)) + (a - b) ** 2
    raw_a, raw_b = a.asnumpy(), b.asnumpy()
    slope = (f(raw_a + h, raw_b).sum() - f(raw_a - h, raw_b).sum()) / (2 * h)
    onp.testing.assert_allclose(a.grad.asnumpy().sum(), slope, rtol=1e-4)


def test_second_order():
    x = np.array([0.3, -0.7], dtype="float64")
    x.attach_grad()
    with autograd.record():
        first = autograd.grad((x**3).sum(), [x], create_graph=True)[0]
        total = (first**2).sum()
    assert isinstance(first, np.ndarray)
    total.backward()
    onp.testing.assert_allclose(x.grad.asnumpy(), 36 * x.asnumpy() ** 3)


def test_a_function_with_its_own_derivative():
    class Double(autograd.Function):
        def forward(self, x):
            return 2 * x

        def backward(self, g):
            return 3 * g

    x = np.array([1.0, 2.0])
    x.attach_grad()
    with autograd.record():
        y = Double()(x)
    y.backward()
    assert x.grad.asnumpy().tolist() == [3, 3]


def test_copies_keep_kind_and_type():
    x = np.array(onp.array([[1.5, 2]], "float64"))
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), x.copy(), x.detach()):
        assert type(y) is np.ndarray and y.dtype == "float64" and (y == x).all()
    assert type(x.as_in_ctx(mx.cpu(1))) is np.ndarray
    same_memory = x.as_nd_ndarray().as_np_ndarray()
    same_memory[0, 0] = 7
    assert x[0, 0].item() == 7


def test_views_share_memory():
    x = np.zeros((2, 3))
    row = x[1]
    row[:] = 5
    x.reshape(-1)[0] = 2
    assert x.tolist() == [[2, 0, 0], [5, 5, 5]]


def test_in_place_keeps_the_array():
    x = np.ones((2, 2))
    before = id(x)
    x += 1
    x *= np.array([1.0, 2.0])
    x[:] = x - 1
    x[0] = [7, 8]
    assert id(x) == before and x.tolist() == [[7, 8], [1, 3]]


def test_layers_make_numpy_arrays():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(8, activation="relu"), gluon.nn.BatchNorm(), gluon.nn.Dense(2))
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    data = gluon.data.ArrayDataset(np.random.normal(size=(12, 3)), np.arange(12) % 2)
    for hybrid in (False, True):
        if hybrid:
            net.hybridize()
        for x, y in gluon.data.DataLoader(data, 4):
            assert type(x) is np.ndarray and type(y) is np.ndarray
            with autograd.record():
                value = loss(net(x), y).mean()
            assert type(value) is np.ndarray and value.shape == ()
            value.backward()
            trainer.step(4)
    assert type(net[0].weight.data()) is np.ndarray and type(net[0].weight.grad()) is np.ndarray


@pytest.mark.parametrize("hybrid", [False, True])
def test_f_np_in_hybrid_forward(hybrid):
    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            hidden = F.np.exp(x) + F.npx.relu(x)
            return F.np.concatenate([hidden, F.np.tanh(x)], axis=1), F.np.sum(hidden, axis=0)

    net = Net()
    if hybrid:
        net.hybridize()
    x = np.array([[-1.0, 2.0]])
    one, two = net(x)
    onp.testing.assert_allclose(two.asnumpy(), onp.exp([-1, 2]) + [0, 2], rtol=1e-6)
    assert one.shape == (1, 4) and type(one) is np.ndarray


def test_recurrent_layers_and_embedding():
    layer, embed = gluon.rnn.LSTM(5), gluon.nn.Embedding(10, 4)
    layer.initialize()
    embed.initialize()
    out, (h, c) = layer(embed(np.array([[1, 2], [3, 4], [5, 6]])), layer.begin_state(2))
    assert out.shape == (3, 2, 5) and type(out) is np.ndarray and h.shape == c.shape == (1, 2, 5)


def test_files(tmp_path):
    path = str(tmp_path / "x")
    npx.save(path, {"a": np.ones((2, 3)), "b": np.arange(3, dtype="int32")})
    read = npx.load(path)
    assert type(read["a"]) is np.ndarray and read["b"].dtype == "int32" and read["b"][2] == 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "uint8", "int64"])
def test_files_keep_arrays_without_axes(tmp_path, dtype):
    path = str(tmp_path / "x")
    npx.save(path, [np.array(1, dtype=dtype), np.zeros((2, 0, 1), dtype=dtype)])
    one, none = npx.load(path)
    assert (one.shape, none.shape) == ((), (2, 0, 1))
    assert one.item() == 1 and one.dtype == none.dtype == onp.dtype(dtype)
    npx.reset_np()
    assert mx.nd.load(path)[0].shape == (1,)


def test_switches():
    npx.reset_np()
    assert not mx.util.is_np_array()

    @mx.util.use_np
    def inside():
        return mx.util.is_np_array(), npx.is_np_shape()

    @mx.util.use_np
    class Block:
        def ask(self):
            return npx.is_np_array()

    assert inside() == (True, True) and Block().ask() and not npx.is_np_array()
    with mx.util.np_shape():
        assert mx.util.is_np_shape()
    assert not mx.util.is_np_shape()
    with pytest.raises(ValueError, match="NumPy's shapes"):
        mx.util.set_np(shape=False, array=True)


def test_random_numbers_follow_their_laws():
    mx.random.seed(3)
    laws = {
        "normal": (np.random.normal(1, 2, 20000), 1, 2),
        "uniform": (np.random.uniform(-1, 3, 20000), 1, 4 / 12**0.5),
        "exponential": (np.random.exponential(2.0, 20000), 2, 2),
        "gamma": (np.random.gamma(3.0, 2.0, 20000), 6, 12**0.5),
        "beta": (np.random.beta(2.0, 3.0, 20000), 0.4, 0.2),
        "chisquare": (np.random.chisquare(4.0, 20000), 4, 8**0.5),
        "gumbel": (np.random.gumbel(1.0, 2.0, 20000), 1 + 2 * 0.5772, 2 * onp.pi / 6**0.5),
        "logistic": (np.random.logistic(1.0, 2.0, 20000), 1, 2 * onp.pi / 3**0.5),
        "lognormal": (np.random.lognormal(0.0, 0.5, 20000), 1.1331, 0.6039),
        "rayleigh": (np.random.rayleigh(2.0, 20000), 2.5066, 1.3103),
        "weibull": (np.random.weibull(2.0, 20000), 0.8862, 0.4633),
        "pareto": (np.random.pareto(5.0, 20000), 0.25, 0.3227),
        "power": (np.random.power(3.0, 20000), 0.75, 0.1936),
        "choice": (np.random.choice(4, 20000, p=[0.1, 0.2, 0.3, 0.4]), 2, 1),
        "randint": (np.random.randint(0, 5, 20000), 2, 2**0.5),
    }
    for name, (x, mean, std) in laws.items():
        numbers = x.asnumpy().astype("float64")
        assert abs(numbers.mean() - mean) < 5 * std / 20000**0.5, name
        assert abs(numbers.std() / std - 1) < 0.08, name
    counts = np.random.multinomial(1000, [0.2, 0.8], size=(2,))
    assert counts.shape == (2, 2) and counts.sum(axis=1).tolist() == [1000, 1000]
    assert sorted(np.random.permutation(5).tolist()) == [0, 1, 2, 3, 4]
    assert sorted(np.random.choice(5, 5, replace=False).tolist()) == [0, 1, 2, 3, 4]
    vectors = np.random.multivariate_normal([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]], 20000)
    onp.testing.assert_allclose(onp.cov(vectors.asnumpy().T), [[1, 0.5], [0.5, 2]], atol=0.08)


NO_LAWS = {
    "normal": (0, -1),
    "lognormal": (0, -1),
    "gumbel": (0, -1),
    "logistic": (0, -1),
    "exponential": (-1,),
    "rayleigh": (-1,),
    "gamma": (1, 0),
    "chisquare": (0,),
    "beta": (1, 0),
    "weibull": (0,),
    "pareto": (-2,),
    "power": (0,),
}


@pytest.mark.parametrize("name", NO_LAWS)
def test_laws_refuse_parameters_out_of_range(name):
    """MXNet raises ValueError, for numbers and for arrays of which one is wrong."""
    draw, params = getattr(np.random, name), NO_LAWS[name]
    for wrong in (params, [np.array([1.0, p]) for p in params]):
        with pytest.raises(ValueError, match=f"{name}: "):
            draw(*wrong)
    assert draw(*[np.ones((0,)) for _ in params]).shape == (0,)


@pytest.mark.parametrize("name", ["gumbel", "logistic", "pareto", "power", "weibull", "rayleigh"])
def test_laws_of_long_parameters_give_short_numbers(name):
    assert getattr(np.random, name)(np.array([2.0], dtype="float64")).dtype == onp.float32


def test_least_squares_take_numpys_former_default():
    found = np.linalg.lstsq(np.eye(2), np.array([1.0, 2.0]), rcond="warn")
    assert found[0].tolist() == [1, 2] and found[2] == 2


def test_a_degenerate_law_is_a_number():
    assert np.random.exponential(0.0).item() == np.random.rayleigh(np.array(0.0)).item() == 0
    assert 1 <= np.random.uniform(2, 1).item() <= 2  # MXNet takes the bounds in either order


def test_several_normal_vectors_at_once():
    """Means and covariances broadcast, as in MXNet."""
    mx.random.seed(1)
    mean = np.array([[1.0, -1.0], [0.0, 5.0], [2.0, 2.0]])
    cov = np.array([[[1.0, 0.5], [0.5, 2.0]]] * 3) * np.array([1.0, 4.0, 9.0]).reshape(3, 1, 1)
    drawn = np.random.multivariate_normal(mean, cov, (10000,)).asnumpy()
    assert drawn.shape == (10000, 3, 2)
    assert np.random.multivariate_normal(mean[0], cov).shape == (3, 2)
    for k in range(3):
        onp.testing.assert_allclose(drawn[:, k].mean(0), mean[k].asnumpy(), atol=0.2)
        onp.testing.assert_allclose(onp.cov(drawn[:, k].T), cov[k].asnumpy(), rtol=0.2)


def test_one_seed_one_stream():
    mx.random.seed(7)
    first = np.random.normal(size=3).tolist() + np.random.rand(2).tolist()
    np.random.seed(7)
    assert np.random.normal(size=3).tolist() + np.random.rand(2).tolist() == first


NORMS = [
    ((4,), {}),
    ((4,), {"ord": 1}),
    ((4,), {"ord": 3}),
    ((4,), {"ord": onp.inf}),
    ((4,), {"ord": 0}),
    ((3, 4), {}),
    ((3, 4), {"ord": "fro"}),
    ((3, 4), {"ord": 1}),
    ((3, 4), {"ord": -onp.inf}),
    ((2, 3, 4), {"axis": 1}),
    ((2, 3, 4), {"axis": (0, 2), "ord": onp.inf}),
    ((2, 3, 4), {"axis": -1, "keepdims": True}),
]


@pytest.mark.parametrize("shape, settings", NORMS)
def test_norms_are_numpys(shape, settings):
    x = onp.random.RandomState(0).normal(size=shape)
    wanted = onp.linalg.norm(x, **settings)
    found = np.linalg.norm(np.array(x), **settings)
    assert found.shape == onp.shape(wanted)
    onp.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-6)


SQUARE = onp.random.RandomState(1).normal(size=(2, 3, 3)) + 3 * onp.eye(3)


@pytest.mark.parametrize(
    "name", ["inv", "det", "slogdet", "cholesky", "matrix_power", "svd", "eigh"]
)
def test_linear_algebra_is_numpys(name):
    raw = SQUARE @ onp.swapaxes(SQUARE, 1, 2) if name in ("cholesky", "eigh") else SQUARE
    more = (3,) if name == "matrix_power" else ()
    wanted = getattr(onp.linalg, name)(raw, *more)
    found = getattr(np.linalg, name)(np.array(raw), *more)
    pairs = zip(found, wanted) if isinstance(found, list | tuple) else [(found, wanted)]
    for f, w in pairs:
        onp.testing.assert_allclose(onp.abs(f.asnumpy()), onp.abs(w), rtol=1e-6, atol=1e-8)


OTHER = onp.random.RandomState(3).normal(size=(3, 4))
COMPOSED = {
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2))),
    "mirrored": lambda x: np.pad(x, ((1, 1), (0, 2)), "reflect"),
    "diagonal": lambda x: np.diagonal(x, 1),
    "diagflat": lambda x: np.diagflat(x[0]),
    "polyval": lambda x: np.polyval(x[0], x[1]),
    "ediff1d": lambda x: np.ediff1d(x, to_begin=1.0),
    "copysign": lambda x: np.copysign(x, np.array(OTHER)),
    "ldexp": lambda x: np.ldexp(np.array(OTHER), x),
    "nan_to_num": lambda x: np.nan_to_num(x),
    "trace_twice": lambda x: np.einsum("ii->i", x[:, :3]) * np.einsum("jj", x[:, 1:]),
    "ellipsis": lambda x: np.einsum("...j,kj->...k", x, np.array(OTHER)),
    "svd": lambda x: np.einsum("ik,k,kj->ij", *[np.tanh(part) for part in np.linalg.svd(x)]),
    "spectral": lambda x: np.linalg.norm(x, 2),
    "nuclear": lambda x: np.linalg.norm(x, "nuc", axis=(1, 0), keepdims=True),
    "eigh": lambda x: np.tanh(np.linalg.eigh(np.matmul(x, x.T))[0]),
    "borrowed": lambda x: onp.square(onp.tanh(x)) + onp.multiply(x, 2),
    "roll": lambda x: np.roll(x, 2, axis=1),
    "rot90": lambda x: np.rot90(x, 3),
    "diff": lambda x: np.diff(x, n=2),
    "var": lambda x: np.var(x, axis=0, ddof=1),
    "tril": lambda x: np.tril(x, 1),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "stack": lambda x: np.stack([x, 2 * x], axis=1),
    "repeat by a list": lambda x: np.repeat(x, [2, 0, 1], axis=0),
    "repeat all": lambda x: np.repeat(x, onp.arange(12)),
    "reflect": lambda x: np.pad(x, 1, "reflect", reflect_type="even"),
    "corner": lambda x: np.trace(x, 3) * np.trace(x),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_functions_have_gradients(name):
    calls = COMPOSED
    raw = onp.random.RandomState(0).normal(size=(3, 4))
    x = np.array(raw)
    x.attach_grad()
    with autograd.record():
        y = calls[name](x)
        weights = np.array(onp.random.RandomState(1).normal(size=y.shape))
        total = (y * y * weights).sum()
    total.backward()
    step, h = onp.random.RandomState(2).normal(size=raw.shape), 1e-6
    f = lambda t: (calls[name](np.array(raw + t * step)) ** 2 * weights).sum().item()
    onp.testing.assert_allclose(
        (x.grad.asnumpy() * step).sum(), (f(h) - f(-h)) / (2 * h), rtol=1e-5, atol=1e-6
    )


FAULTS = {
    "mixed": (TypeError, lambda: np.ones(2) + [1, 2]),
    "list": (TypeError, lambda: np.exp([1.0])),
    "ragged": (TypeError, lambda: np.array([[1], [2, 3]])),
    "text": (TypeError, lambda: np.array("abc")),
    "negative": (mx.MXNetError, lambda: np.zeros((2, -1))),
    "divide": (ValueError, lambda: np.split(np.ones(5), 2)),
    "squeeze": (ValueError, lambda: np.squeeze(np.ones((2, 3)), 0)),
    "out": (mx.MXNetError, lambda: np.add(np.ones(2), np.ones(2), out=np.ones(3))),
    "take": (mx.MXNetError, lambda: np.take(np.ones(2), np.array([5]))),
    "borrowed": (ValueError, lambda: recorded(onp.sinc)),
    "reduce": (TypeError, lambda: onp.add.reduce(np.ones(2))),
    "axis": (mx.MXNetError, lambda: np.take(np.ones((2, 3)), np.array([0]), axis=2)),
    "pad": (ValueError, lambda: np.pad(np.ones(2), 1, "edge", stat_length=2)),
    "name": (AttributeError, lambda: np.no_such_function),
    "npx": (AttributeError, lambda: npx.no_such_function),
    "reshape": (ValueError, lambda: npx.reshape(np.ones((2, 3)), (-3, 3))),
    "bernoulli": (ValueError, lambda: npx.random.bernoulli()),
    "choice": (ValueError, lambda: np.random.choice(2, 3, replace=False)),
}
VARIABLE = np.ones((2, 2))


def recorded(f):
    VARIABLE.attach_grad()
    with autograd.record():
        return f(VARIABLE)


@pytest.mark.parametrize("name", FAULTS)
def test_refuses(name):
    kind, call = FAULTS[name]
    with pytest.raises(kind):
        call()


def test_an_exported_network_is_read_where_mx_np_was_not_used(tmp_path):
    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return F.np.sum(F.np.exp(x), axis=1)

    net, x = Net(), np.array([[0.0, 1.0]])
    net.hybridize()
    wanted = net(x).asnumpy()
    net.export(str(tmp_path / "net"))
    program = (
        "import sys, minigluon as mx\n"
        "net = mx.gluon.SymbolBlock.imports(sys.argv[1], ['data'])\n"
        "print(net(mx.nd.array([[0.0, 1.0]])).asnumpy().tolist())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "net-symbol.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    onp.testing.assert_allclose(json.loads(done.stdout), wanted, rtol=1e-6)


def test_one_number_is_formatted_as_a_number():
    x = np.array([6666.8631, 0.1]).sum()
    assert (str(x), f"{x:.1f}", f"{round(x, 1)}") == ("6666.9634", "6667.0", "6667.0")
    assert f"{np.array([1])}" == "[1.]"
    with pytest.raises(TypeError, match="shape"):
        f"{np.array([1]):.1f}"


def test_a_place_takes_an_array_of_one_number():
    x = np.zeros(3)
    x[1], x[2] = np.ones((1, 1)), [[2]]
    assert x.tolist() == [0, 1, 2]


def test_clip_by_one_bound():
    x = np.arange(4)
    assert x.clip(min=1).tolist() == [1, 1, 2, 3]
    assert x.clip(max=1).tolist() == [0, 1, 1, 1]
    with pytest.raises(ValueError, match="a_min"):
        x.clip()


def test_positions_of_settings_are_those_of_mxnet():
    x = np.arange(6).reshape(2, 3)
    assert np.max(x, 0, True).shape == np.sum(x, 0, None, True).shape == (1, 3)
    assert x.max(0, None, True).shape == (1, 3)
    assert np.size(x, 1) == 3
    assert npx.random.normal_n(np.zeros((2, 1)), np.ones(3), batch_shape=(4,)).shape == (4, 2, 3)
    assert np.diff(x, prepend=0).tolist() == [[0, 1, 1], [3, 1, 1]]
    assert np.diff(x, append=x[:, :1]).tolist() == [[1, 1, -2], [1, 1, -2]]


def test_numpys_functions_give_our_arrays_a_history():
    x = np.array([1.0, 2.0])
    x.attach_grad()
    with autograd.record():
        y = onp.sum(onp.exp(x)) + onp.linalg.norm(x)
    y.backward()
    assert type(y) is np.ndarray
    wanted = onp.exp([1, 2]) + onp.array([1, 2]) / 5**0.5
    onp.testing.assert_allclose(x.grad.asnumpy(), wanted, rtol=1e-6)


def test_columns_may_be_swapped_and_powers_are_new_arrays():
    x = np.arange(6).reshape(2, 3)
    first = x[:, 0]
    x[:, 0] = x[:, 2]
    x[:, 2] = first
    assert x.tolist() == [[2, 1, 0], [5, 4, 3]]
    y = x
    y **= 2
    assert x.tolist() != y.tolist()


def test_images_in_npx():
    assert npx.image.to_tensor(np.ones((2, 3, 3), dtype="uint8")).shape == (3, 2, 3)
    assert npx.image.imresize is mx.image.imresize and "CreateAugmenter" in dir(npx.image)
    with pytest.raises(AttributeError, match="no attribute"):
        npx.image.no_such_function  # noqa: B018


@pytest.mark.parametrize("label", ["int32", "int64", "float64", "bool"])
@pytest.mark.parametrize("weight", ["int64", "bool", "float32"])
def test_losses_take_labels_and_weights_of_other_types(label, weight):
    predicted = np.array([[0.5, -1.0], [2.0, 0.1]])
    labels, weights = np.array([[1, 0], [0, 1]], dtype=label), np.array([[1], [0]], dtype=weight)
    loss = gluon.loss.L2Loss()(predicted, labels, weights)
    onp.testing.assert_allclose(loss.asnumpy(), [(0.25 + 1) / 4, 0])
    assert loss.dtype == ("float64" if label == "float64" else "float32")


WRITTEN = {
    "mixed": lambda F, x, y: x * y + x,
    "whole": lambda F, x, y: x / 2 + x / x,
    "truth": lambda F, x, y: ((x > 2) & (y < 1)) | (x == 1),
    "sum": lambda F, x, y: x.sum() * y.mean() + y.max() - y.min() + y.prod(),
    "kept": lambda F, x, y: y.sum(axis=1, keepdims=True) * x,
    "item": lambda F, x, y: x[0] + y[1, 1:2],
    "masks": lambda F, x, y: y[..., None] * x[:, None, ::-1].astype("float32").swapaxes(1, 2),
    "T": lambda F, x, y: F.np.dot(x.T, y),
    "split": lambda F, x, y: F.np.split(y, 3, axis=1)[1] + F.np.array_split(y, [1], axis=1)[0],
    "stack": lambda F, x, y: F.np.stack([y, F.np.concatenate([y[:1], y[1:]])]),
    "made": lambda F, x, y: F.np.arange(3) + F.np.zeros((2, 3)) + y,
    "var": lambda F, x, y: y.var(axis=0) + F.np.std(y),
    "roll": lambda F, x, y: F.np.roll(F.np.flip(y, 1), 1),
    "tril": lambda F, x, y: F.np.tril(y) + F.np.triu(y),
    "tensordot": lambda F, x, y: F.np.tensordot(y, y, [[1], [1]]) @ F.np.einsum("ij,kj", y, y),
    "norm": lambda F, x, y: F.np.linalg.norm(y, axis=1) + F.np.linalg.svd(y)[1],
    "take": lambda F, x, y: F.np.take(y, x % 2, axis=0, mode="clip"),
    "chosen": lambda F, x, y: y[x[0] % 2],
    "where": lambda F, x, y: F.np.where(x > 2, y, 0) ** 2 + 2**y - -y,
    "reshape": lambda F, x, y: y.reshape(-1) + y.flatten() + F.npx.reshape(y, (-1,)),
    "layers": lambda F, x, y: F.npx.softmax(y) + F.npx.one_hot(x[0], 3)[:2] + F.npx.relu(y),
    "random": lambda F, x, y: F.np.random.normal(0, 1, (2, 3)) * 0 + y,
    "operator": lambda F, x, y: F.broadcast_mul(y, x) + F.broadcast_add(y, x),
    "lent": lambda F, x, y: F.np.cov(x),
    "at least": lambda F, x, y: sum(F.np.atleast_2d(y.sum(), y[0])) + F.np.atleast_1d(y[0]),
}


ONE_SHAPE, NO_GRADIENT = {"made", "random", "layers"}, {"truth", "whole", "lent"}


def run_once(net, shape, slope):
    """The output of a network on arrays of two types, and the gradient of the real one."""
    x = np.array(onp.arange(shape[0] * shape[1]).reshape(shape) + 1)
    y = np.array(onp.random.RandomState(0).uniform(0.5, 2, shape).astype("float32"))
    y.attach_grad()
    with autograd.record():
        out = net(x, y)
        total = (out.astype("float32") ** 2).sum()
    if slope:
        total.backward()
    return out, y.grad


@pytest.mark.parametrize("name", WRITTEN)
def test_a_hybridized_block_computes_what_it_does_on_arrays(name):
    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x, y):
            return WRITTEN[name](F, x, y)

    eager, written = Net(), Net()
    written.hybridize()
    for shape in ((2, 3),) if name in ONE_SHAPE else ((2, 3), (2, 6)):
        pairs = zip(*[run_once(net, shape, name not in NO_GRADIENT) for net in (eager, written)])
        for one, two in pairs:
            assert type(two) is np.ndarray and two.dtype == one.dtype and two.shape == one.shape
            onp.testing.assert_allclose(two.asnumpy(), one.asnumpy(), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("hybrid", [False, True])
def test_shapes_are_learnt_where_f_np_stands_between_layers(hybrid):
    class Net(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.first, self.last = gluon.nn.Dense(6, flatten=False), gluon.nn.Dense(2)
            self.scale = self.params.get("scale", shape=(0,), allow_deferred_init=True)

        def hybrid_forward(self, F, x, scale):
            parts = F.np.split(self.first(x), 2, axis=-1)
            middle = F.np.matmul(parts[0], F.np.swapaxes(parts[1], 1, 2))[:, 1:] + x.sum()
            return self.last(F.npx.layer_norm(middle, scale, scale * 0)), F.np.argmax(
                middle, axis=-1
            )

    net = Net()
    net.initialize()
    net.hybridize(hybrid)
    for n in (3, 5):
        out, places = net(np.ones((n, 4, 5)))
        assert out.shape == (n, 2) and places.shape == (n, 3) and places.dtype == "int64"
    assert net.scale.shape == (4,) and net.first.weight.shape == (6, 5)


def picture_file(folder):
    Image = pytest.importorskip("PIL.Image")
    path = folder / "picture.png"
    Image.fromarray(onp.arange(60, dtype="uint8").reshape(4, 5, 3)).save(path)
    return str(path)


def batch_of_pictures(folder):
    it = mx.image.ImageIter(1, (3, 4, 4), imglist=[[0.0, picture_file(folder)]], path_root="")
    batch = it.next()
    return batch.data + batch.label


def embedding(folder):
    path = folder / "vectors.txt"
    path.write_text("a 1 2 3\nb 4 5 6\n")
    found = mx.contrib.text.embedding.CustomEmbedding(str(path), " ")
    found.update_token_vectors("a", np.array([7.0, 8, 9]))
    both = found.get_vecs_by_tokens(["a", "b"])
    assert both.tolist() == [[7, 8, 9], [4, 5, 6]]
    return [found.idx_to_vec, both, found.get_vecs_by_tokens("a")]


class Twice(autograd.Function):
    def forward(self, x):
        return x * 2

    def backward(self, g):
        self.kind = type(g)
        return g * 2


def own_function(_):
    x, twice = np.arange(3.0), Twice()
    x.attach_grad()
    with autograd.record():
        y = twice(x)
    y.backward()
    assert twice.kind is np.ndarray and x.grad.tolist() == [2, 2, 2]
    return [y]


MADE = {
    "imread": lambda f: [mx.image.imread(picture_file(f))],
    "imresize": lambda f: [mx.image.imresize(mx.image.imread(picture_file(f)), 2, 3)],
    "center_crop": lambda f: [mx.image.center_crop(mx.image.imread(picture_file(f)), (2, 2))[0]],
    "ImageIter": batch_of_pictures,
    "embedding": embedding,
    "split_and_load": lambda _: gluon.utils.split_and_load(
        onp.ones((4, 2)), [mx.cpu(0), mx.cpu(1)]
    ),
    "Constant": lambda _: [gluon.Constant("c", [1, 2]).value],
    "Function": own_function,
}


@pytest.mark.parametrize("name", MADE)
def test_what_the_package_makes_is_of_the_kind_asked_for(name, tmp_path):
    assert all(type(a) is np.ndarray for a in MADE[name](tmp_path))


def test_split_and_load_keeps_numpys_types_as_mx_np_does():
    (part,) = gluon.utils.split_and_load(onp.ones(2), [mx.cpu()])
    assert part.dtype == "float64"
    npx.reset_np()
    (part,) = gluon.utils.split_and_load(onp.ones(2), [mx.cpu()])
    assert part.dtype == onp.float32


def test_unknown_sizes_are_minus_one():
    p = gluon.Parameter("p", shape=(0, 3), allow_deferred_init=True)
    q = gluon.Parameter("q", shape=(-1, 3), allow_deferred_init=True)
    for one in (p, q):
        assert one.shape == (-1, 3)
        one.initialize()
        with pytest.raises(gluon.parameter.DeferredInitializationError):
            one.data()
        one.shape = (2, 3)
        one._finish_deferred_init()
        assert one.data().shape == one.shape == (2, 3)
    with pytest.raises(ValueError, match=r"\(-1, 3\)"):
        gluon.Parameter("r", shape=(0, 3)).initialize()
    dense = gluon.nn.Dense(2)
    assert repr(dense) == "Dense(-1 -> 2, linear)" and dense.weight.shape == (2, -1)
    assert "in_channels=-1" in repr(gluon.nn.BatchNorm())
    npx.reset_np()
    assert repr(dense) == "Dense(None -> 2, linear)" and dense.weight.shape == (2, 0)


LOOKS = {  # functions that look at numbers: two trials with made-up ones might agree
    "isclose": lambda F, x, y: F.np.isclose(x, F.np.abs(x)),
    "isin": lambda F, x, y: F.np.isin(x, [3.0]),
    "signbit": lambda F, x, y: F.np.signbit(x),
    "array_equal": lambda F, x, y: F.np.array_equal(x, x + 0),
    "count_nonzero": lambda F, x, y: F.np.count_nonzero(x > 2),
    "mask": lambda F, x, y: x[x > 2],
    "mask of rows": lambda F, x, y: x[x[:, 0] > 2],
    "median": lambda F, x, y: F.np.median(x),
    "nansum": lambda F, x, y: F.np.nansum(F.np.where(x > 2, onp.nan, x)),
    "unique": lambda F, x, y: F.np.unique(x, return_counts=True)[1],
    "nonzero": lambda F, x, y: F.npx.nonzero(x > 2),
    "unravel_index": lambda F, x, y: F.np.unravel_index(y.astype("int32"), (2, 3))[1],
    "eig": lambda F, x, y: F.np.linalg.eigvals(F.np.matmul(x, x.T)),
    "pinv": lambda F, x, y: F.np.linalg.pinv(x),
    "lstsq": lambda F, x, y: F.np.linalg.lstsq(x, y, rcond=None)[0],
    "no axis": lambda F, x, y: F.npx.reshape(F.np.expand_dims(x, 0), (-3, -2, -2)),
}


class Written(gluon.HybridBlock):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def hybrid_forward(self, F, *arrays):
        return self.function(F, *arrays)


@pytest.mark.parametrize("name", LOOKS)
def test_a_graph_looks_at_the_numbers_of_each_run(name):
    eager, block = Written(LOOKS[name]), Written(LOOKS[name])
    block.hybridize()
    for seed in range(3):
        numbers = onp.random.default_rng(seed).integers(-4, 5, (2, 3)).astype("float32")
        x, y = np.array(numbers), np.array([1.0, 2 + seed])
        wanted, found = onp.asarray(eager(x, y)), onp.asarray(block(x, y))
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        onp.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_graph_refuses_as_many_results_as_it_cannot_know():
    block = Written(lambda F, x: F.np.nonzero(x))
    block.hybridize()
    with pytest.raises(mx.MXNetError, match="2 results, which a graph cannot know"):
        block(np.ones((2, 2)))


LAWS = {
    "normal": lambda F, x: F.np.random.normal(x, 1.0),
    "uniform": lambda F, x: F.np.random.uniform(x, x + 1),
    "gumbel": lambda F, x: F.np.random.gumbel(x),
    "logistic": lambda F, x: F.np.random.logistic(x, 2.0),
    "exponential": lambda F, x: F.np.random.exponential(x + 1),
    "lognormal": lambda F, x: F.np.random.lognormal(x),
    "gamma": lambda F, x: F.np.random.gamma(x + 1, 2.0),
    "beta": lambda F, x: F.np.random.beta(x + 1, x + 2),
    "rand": lambda F, x: F.np.random.rand(6) + x,
    "two": lambda F, x: F.np.random.rand(6) - F.np.random.rand(6) + x,
    "randint": lambda F, x: F.np.random.randint(0, 1000, (6,)) + x,
    "choice": lambda F, x: F.np.random.choice(1000, (6,)) + x,
    "bernoulli": lambda F, x: F.npx.random.bernoulli(prob=x + 0.5),
    "normal_n": lambda F, x: F.npx.random.normal_n(x, 1.0, batch_shape=(2,)),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_graph_draws_anew_in_each_run_what_the_block_would_draw(name):
    eager, block, x = Written(LAWS[name]), Written(LAWS[name]), np.zeros(6)
    block.hybridize()
    npx.random.seed(1)
    wanted = [eager(x).asnumpy() for _ in range(3)]
    npx.random.seed(1)
    assert all((block(x).asnumpy() == w).all() for w in wanted)
    assert (wanted[0] != wanted[1]).any() and len(set(wanted[2].ravel().tolist())) > 1


@pytest.mark.parametrize("hybrid", [False, True])
def test_gradients_pass_through_samples(hybrid):
    block = Written(lambda F, m, s: F.np.random.normal(m, s))
    block.hybridize(hybrid)
    m, s = np.array([1.0, 2.0]), np.array([[0.5], [2.0], [1.0]])
    m.attach_grad(), s.attach_grad()
    with autograd.record():
        y = block(m, s)
    y.backward()
    assert y.shape == (3, 2) and m.grad.tolist() == [3, 3]
    onp.testing.assert_allclose(
        s.grad.asnumpy(), ((y - m) / s).sum(1, keepdims=True).asnumpy(), 1e-5
    )


@pytest.mark.parametrize("name", ["gumbel", "logistic", "weibull", "rayleigh", "pareto", "power"])
def test_each_parameter_has_a_draw_of_its_own(name):
    drawn = getattr(np.random, name)(np.ones(50))
    assert len(set(drawn.tolist())) == 50


def test_a_size_must_hold_the_parameters():
    with pytest.raises(ValueError, match="do not fit"):
        np.random.normal(np.zeros((3, 2)), 1.0, size=(2,))
    assert np.random.normal(np.zeros(2), 1.0, size=(3, 2)).shape == (3, 2)
    assert np.random.uniform(np.zeros(2), 1.0, dtype="float64").dtype == "float64"


def test_namespaces_show_what_programs_may_ask_for():
    for space, wanted in ((np, "dot"), (np.linalg, "eig"), (np.random, "beta"), (npx, "relu")):
        shown = dir(space)
        assert wanted in shown and all(
            getattr(space, n) is not None or n == "newaxis" for n in shown
        )
    ours = {"ndarray", "NINF", "PINF", "alltrue", "msort", "product", "round_", "sometrue", "trapz"}
    ours |= {"NZERO", "PZERO", "NAN", "NaN", "row_stack"}
    assert not [n for n in dir(np) if not hasattr(onp, n) and n not in ours]
    with pytest.raises(AttributeError):
        np.pair  # noqa: B018
    assert "pair" not in dir(mx.sym.np) and "dot" in dir(mx.sym.np)


def test_numpys_own_names_take_our_arrays():
    x = np.ones(2, dtype="int32")
    assert np.result_type(x, np.ones(1)) == onp.result_type(x.asnumpy(), onp.float32)
    assert onp.result_type(x) == onp.int32


def test_layers_share_parameters_of_unknown_sizes():
    shared = gluon.nn.Dense(3)
    net = gluon.nn.Sequential()
    net.add(shared, gluon.nn.Dense(3, params=shared.params))
    net.initialize()
    assert net(np.ones((2, 3))).shape == (2, 3) and net[0].weight is net[1].weight
    assert net[0].weight.shape == (3, 3)


def test_eigenvalues_that_are_real_are_real_numbers():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    values, vectors = np.linalg.eig(a)
    assert isinstance(values, np.ndarray) and isinstance(vectors, np.ndarray)
    assert onp.allclose(
        a.asnumpy() @ vectors.asnumpy(), vectors.asnumpy() * values.asnumpy(), atol=1e-5
    )
    assert onp.allclose(np.linalg.eigvals(a).asnumpy(), values.asnumpy())
    turned = np.linalg.eigvals(np.array([[0.0, 1.0], [-1.0, 0.0]]))
    assert sorted(turned.imag) == [-1, 1]


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "var"])
def test_no_axes_are_no_sum(name):
    """NumPy's axis=() reduces nothing, also on the way back."""
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    a.attach_grad()
    with autograd.record():
        y = getattr(np, name)(a, axis=())
    y.backward()
    assert y.shape == a.shape
    onp.testing.assert_array_equal(a.grad.asnumpy(), 0 if name == "var" else 1)


def test_a_bound_graph_gives_the_gradient_of_a_number():
    """Its own gradient is a number of NumPy's then, no array."""
    a, b = (mx.sym.Variable(n).as_np_ndarray() for n in "ab")
    graph = mx.sym.np.tensordot(a, b, 1)
    held, grads = ({n: np.array(v) for n in "ab"} for v in ([1.0, 2.0], [0.0, 0.0]))
    graph = (graph * graph).as_nd_ndarray()
    executor = graph.bind(mx.cpu(), held, args_grad=grads)
    assert executor.forward(is_train=True)[0].shape == ()
    executor.backward(mx.nd.ones(executor.outputs[0].shape))
    onp.testing.assert_array_equal(grads["a"].asnumpy(), [10, 20])


def test_bytes_with_and_without_a_sign_meet_in_int32():
    small, large = np.array([-3], dtype="int8"), np.array([200], dtype="uint8")
    assert np.add(small, large).dtype == onp.int32
    assert np.add(small, large).item() == 197


def test_out_may_be_a_tuple_of_one():
    kept = np.zeros(2)
    np.exp(np.zeros(2), out=(kept,))
    onp.testing.assert_array_equal(kept.asnumpy(), 1)


DIFFERENTIABLE = (
    "np.array(x)",
    "np.array(x, dtype='float64')",
    "np.full((2, 3, 4), x)",
    "np.full((2,), x[0, 0])",
    "np.linalg.tensorinv(np.matmul(x, x.T).reshape(3, 3, 1), ind=1)",
    "np.linalg.tensorsolve(np.matmul(x, x.T).reshape(3, 1, 1, 3), x[:, :1])",
    "np.linalg.tensorsolve(np.matmul(x, x.T).reshape(3, 1, 3, 1), x[:, :1], axes=(0,))",
)
GRADIENTS = """
import sys, json, mxnet as mx
from mxnet import autograd, np, npx
npx.set_np()
answers = []
for line in json.loads(sys.argv[1]):
    x = np.array([[3.0, 1.0, 2.0, 0.5], [0.0, 5.0, 4.0, 1.0], [1.0, 2.0, -1.0, 7.0]])
    x.attach_grad()
    with autograd.record():
        y = eval(line)
    w = np.arange(y.size).reshape(y.shape).astype(y.dtype)
    y.backward(w)
    answers.append(x.grad.asnumpy().tolist())
print(json.dumps(answers))
"""


def test_differentiates_what_mxnet_differentiates(mxnet_python, tmp_path):
    file, found = tmp_path / "gradients.py", []
    file.write_text(GRADIENTS)
    for program in ([sys.executable, "-m", "minigluon.mxnet"], [mxnet_python, "-W", "ignore"]):
        command = [*program, str(file), json.dumps(DIFFERENTIABLE)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    for line, ours, theirs in zip(DIFFERENTIABLE, *found, strict=True):
        onp.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=line)


SLOPES = {
    "percentile": lambda a: np.percentile(a, np.array([10.0, 75.0]), axis=0),
    "quantile": lambda a: np.quantile(a, 0.3, axis=(0, 1), keepdims=True),
    "lower": lambda a: np.quantile(a, 0.3, interpolation="lower"),
    "wide": lambda a: np.linalg.pinv(a),
    "tall": lambda a: np.linalg.pinv(a.T),
    "square": lambda a: np.linalg.pinv(a[:, :3]),
    "rank 1": lambda a: np.linalg.pinv(np.matmul(a[:, :1], a[:1])),
    "several": lambda a: np.linalg.pinv(np.stack([a, a * a])),
}


@pytest.mark.parametrize("name", SLOPES)
def test_percentiles_and_pseudoinverses_have_the_slope_of_their_numbers(name):
    f, numbers = SLOPES[name], onp.random.default_rng(1)
    start, step = numbers.normal(size=(2, 3, 4))
    a = np.array(start)
    a.attach_grad()
    with autograd.record():
        out = (np.sin(f(a)) ** 2).sum()
    out.backward()
    up, down = ((np.sin(f(np.array(start + h * step))) ** 2).sum().item() for h in (1e-6, -1e-6))
    assert onp.isclose((up - down) / 2e-6, (a.grad.asnumpy() * step).sum(), rtol=1e-4)


def test_percentiles_of_nan_and_infinity():
    rows = np.array([[1.0, onp.nan, 3.0], [2.0, 0.0, 1.0], [onp.inf, onp.inf, 1.0]])
    assert same_numbers(np.percentile(rows, 50, axis=1), [onp.nan, 1.0, onp.inf])
    assert same_numbers(
        np.quantile(rows[1:], np.array([0.5, 1.0]), axis=0)[1], [onp.inf, onp.inf, 1]
    )


def same_numbers(found, wanted):
    return onp.array_equal(found.asnumpy(), onp.asarray(wanted, "float32"), equal_nan=True)


@pytest.mark.parametrize(
    "line", ("ptp(x)", "median(x, axis=1)", "cov(x)", "interp(x[0], x[1], x[2])", "linalg.qr(x)")
)
def test_what_numpy_carries_out_loses_no_gradient_silently(line):
    x = np.array(onp.random.default_rng(0).normal(size=(3, 4)))
    wanted = eval("np." + line)
    x.attach_grad()
    with autograd.record():
        with pytest.raises(ValueError, match="without a gradient: call it outside of record"):
            eval("np." + line)
        eval("np." + line, {"np": np, "x": x.detach()})
        assert np.array_equal(x, x) and np.isclose(x, x).all() and np.argwhere(x).shape == (12, 2)
    assert type(eval("np." + line)) is type(wanted)


def test_a_class_under_use_np_inherits_its_methods_under_it():
    with mx.util.np_shape(False), mx.util.np_array(False):
        check_inherited_methods()


def check_inherited_methods():
    @mx.util.use_np
    class Net(mx.gluon.nn.HybridSequential):
        @staticmethod
        def still():
            return mx.util.is_np_array()

        @classmethod
        def kind(cls):
            return cls.__name__, mx.util.is_np_array()

        @property
        def asked(self):
            return mx.util.is_np_array()

        def __repr__(self):
            return str(mx.util.is_np_array())

    net = Net()
    net.add(mx.gluon.nn.Dense(3, in_units=2))
    net.initialize()  # inherited
    assert type(net[0].weight.data()) is mx.np.ndarray
    assert type(net(mx.np.ones((1, 2)))) is mx.np.ndarray
    assert Net.still() and net.still() and Net.kind() == ("Net", True) and net.asked
    assert repr(net) == "False" and not mx.util.is_np_array()
    plain = mx.gluon.nn.HybridSequential()  # its class is as it was
    plain.add(mx.gluon.nn.Dense(3, in_units=2))
    plain.initialize()
    assert type(plain[0].weight.data()) is mx.nd.NDArray


def test_products_over_nothing():
    a = np.ones((3, 0))
    assert np.vdot(a, a).item() == 0 and np.vdot(a, a).shape == ()
    assert np.inner(a, a).asnumpy().tolist() == [[0.0] * 3] * 3
    assert np.tensordot(np.ones((0, 2)), np.ones((2, 0)), 1).shape == (0, 0)


def test_constants_while_recording():
    """MXNet has operators without a gradient for them."""
    x = np.array([3.0, 1.0, 3.0])
    x.attach_grad()
    with autograd.record():
        y = x * 2
        found = np.delete(y, 0), np.insert(y, 1, 5), np.unique(y)
        counts = np.histogram(y, bins=2, range=(0, 8))[0]
        with pytest.raises(ValueError, match="without a gradient"):
            np.median(y)
    assert [a.asnumpy().tolist() for a in found] == [[2, 6], [6, 5, 2, 6], [2, 6]]
    assert counts.asnumpy().tolist() == [1, 2]
