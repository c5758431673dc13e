"""Initializers: what the name decides, the spread of what is drawn, and refusals."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import gluon, nd, registry
from minigluon.initializer import GATES, InitDesc, Initializer, create, rnn_parts


def filled(init, shape=(200, 300), name="a_weight", attrs=None):
    arr = nd.zeros(shape)
    arr[:] = -5
    init(InitDesc(name, attrs), arr)
    return arr.asnumpy()


SPREAD = [  # initializer, shape, standard deviation
    (mx.init.Uniform(), (200, 300), 0.07 / 3**0.5),
    (mx.init.Uniform(2), (200, 300), 2 / 3**0.5),
    (mx.init.Normal(), (200, 300), 0.01),
    (mx.init.Xavier(), (200, 300), (1 / 250) ** 0.5),
    (mx.init.Xavier("uniform", "in", 2), (40, 60, 3, 3), (2 / 3 / 540) ** 0.5),
    (mx.init.Xavier("uniform", "out", 2), (40, 60, 3, 3), (2 / 3 / 360) ** 0.5),
    (mx.init.Xavier("gaussian", "avg", 2), (40, 60, 3, 3), (2 / 450) ** 0.5),
    (mx.init.MSRAPrelu(), (40, 60, 3, 3), (2 / (1 + 0.25**2) / 450) ** 0.5),
    (mx.init.MSRAPrelu("in", 0), (200, 300), (2 / 300) ** 0.5),
]


@pytest.mark.parametrize(("init", "shape", "std"), SPREAD)
def test_spread(init, shape, std):
    mx.random.seed(0)
    w = filled(init, shape)
    assert abs(w.std() / std - 1) < 0.03
    assert abs(w.mean()) < 5 * std / w.size**0.5


def test_uniform_stays_inside():
    assert np.abs(filled(mx.init.Uniform(0.5))).max() <= 0.5


NAMES = [("bias", 0), ("gamma", 1), ("beta", 0), ("min", 0), ("max", 1)]


@pytest.mark.parametrize("init", [mx.init.Xavier(), mx.init.One(), mx.init.Constant(7)])
@pytest.mark.parametrize(("ending", "value"), NAMES)
def test_the_name_decides(init, ending, value):
    assert (filled(init, (3,), f"net0_{ending}") == value).all()


FORMER = [("moving_mean", 0), ("moving_var", 1), ("moving_inv_var", 0), ("moving_avg", 0)]
FORMER += [("bias", 0), ("gamma", 1)]


@pytest.mark.parametrize(("ending", "value"), FORMER)
def test_plain_strings_have_more_rules(ending, value):
    arr = nd.full((3,), -5)
    mx.init.Constant(7)(f"net0_{ending}", arr)
    assert (arr.asnumpy() == value).all()


def test_plain_strings_by_beginning():
    up, weight, bias = nd.zeros((1, 1, 4, 4)), nd.ones((6, 2)), nd.zeros((6,))
    mx.init.One()("upsampling0_weight", up)
    mx.init.One()("stn_loc_weight", weight)
    mx.init.One()("stn_loc_bias", bias)
    assert (up.asnumpy() == filled(mx.init.Bilinear(), (1, 1, 4, 4))).all()
    assert (weight.asnumpy() == 0).all() and bias.tolist() == [1, 0, 0, 0, 1, 0]
    with pytest.raises(AssertionError, match="6 numbers"):
        mx.init.One()("stn_loc_bias", nd.zeros((5,)))


def test_rules_may_be_overridden():
    class Own(Initializer):
        def _init_weight(self, name, arr):
            arr[:] = 1

        def _init_gamma(self, name, arr):
            arr[:] = 2

        def _init_default(self, name, arr):
            arr[:] = 3

    names = ["a_weight", "a_gamma", "a_beta", "temperature", "a_running_var"]
    assert [filled(Own(), (1,), name)[0] for name in names] == [1, 2, 0, 3, 3]


def test_constants():
    assert (filled(mx.init.Zero()) == 0).all()
    assert (filled(mx.init.One()) == 1).all()
    assert (filled(mx.init.Constant(3)) == 3).all()
    assert filled(mx.init.Constant(nd.array([1, 2])), (2,)).tolist() == [1, 2]


def test_own_initializer_comes_first():
    own = {"__init__": mx.init.Constant(3).dumps()}
    assert (filled(mx.init.Zero(), (2,), "a_bias", own) == 3).all()
    assert (filled(mx.init.Zero(), (2,), "any name", own) == 3).all()


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (4, 3, 2)])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_orthogonal(shape, kind):
    w = filled(mx.init.Orthogonal(scale=2, rand_type=kind), shape).reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-4)


def test_drawn_from_mx_random():
    mx.random.seed(1)
    first = filled(mx.init.Xavier())
    mx.random.seed(1)
    assert (filled(mx.init.Xavier()) == first).all()
    assert (filled(mx.init.Xavier()) != first).any()


def test_dumps_and_create():
    assert mx.init.Uniform().dumps() == '["uniform", {"scale": 0.07}]'
    assert mx.init.Constant(nd.ones((2,))).dumps() == '["constant", {"value": [1.0, 1.0]}]'
    for init in [mx.init.Xavier("gaussian"), mx.init.MSRAPrelu(slope=0), mx.init.Orthogonal(1)]:
        assert create(init.dumps()) == init
    assert mx.init.Uniform(0.1) != mx.init.Uniform()


@pytest.mark.parametrize("name", ["zeros", "ones", "zero", "one", "uniform", "normal", "XAVIER"])
def test_create_by_name(name):
    assert isinstance(create(name), Initializer)


def test_create_with_arguments():
    assert create("uniform", 0.3) == mx.init.Uniform(0.3)
    two = mx.init.Xavier(magnitude=2)
    assert create("xavier", magnitude=2) == two
    assert create('["xavier", {"magnitude": 2}]') == two
    assert create('{"initializer": "xavier", "magnitude": 2}') == two
    assert create({"initializer": "xavier", "magnitude": 2}) == two
    assert create(initializer="xavier", magnitude=2) == two and create(mx.init.Zero) == create(
        "zero"
    )
    zero = mx.init.Zero()
    assert create(zero) is zero


def test_a_class_of_ones_own():
    @mx.init.register
    class Two(mx.init.Initializer):
        def _init_weight(self, name, data):
            data[:] = 2

    try:
        assert (filled(create("two")) == 2).all() and "two" in registry.get_registry(Initializer)
    finally:
        del registry.known[Initializer]["two"]


def test_register_says_what_it_replaces():
    def make(name):
        return type(name, (Initializer,), {})

    try:
        mx.init.register(make("Three"))
        mx.init.register(make("Three"))  # the same cell run again
        other = make("Other")
        with pytest.warns(UserWarning, match="overriding"):
            registry.get_register_func(Initializer, "initializer")(other, "three")
        assert type(create("three")) is other
    finally:
        del registry.known[Initializer]["three"]
    with pytest.raises(AssertionError, match="subclass"):
        mx.init.register(int)


TENT4 = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25])
TENT35 = np.outer([1, 2, 3], [1, 2, 3, 2, 1]) / 9


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((2, 3, 4, 4), TENT4), ((1, 1, 3, 5), TENT35), ((2, 1, 3, 3), TENT4[:3, :3])],
)
def test_bilinear(shape, kernel):
    w = filled(mx.init.Bilinear(), shape)
    np.testing.assert_allclose(w, np.broadcast_to(kernel, shape), rtol=1e-6)


def test_lstm_bias():
    assert filled(mx.init.LSTMBias(2), (13,)).tolist() == [0] * 3 + [2] * 3 + [0] * 7
    assert (filled(mx.init.LSTMBias(2), (8,), "a_bias") == 0).all()  # the name comes first
    own = gluon.Parameter("a_bias", shape=(8,), init=mx.init.LSTMBias())
    own.initialize()
    assert own.data().tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_mixed():
    mixed = mx.init.Mixed(["a_bias", ".*bias", ".*"], [mx.init.Zero(), "ones", "ones"])
    assert (filled(mixed, (3,), "a_bias") == 0).all()
    assert (filled(mixed, (3,), "b_bias") == 0).all()  # a bias for the initializer as well
    assert (filled(mixed, (3,), "b_weight") == 1).all()
    net = gluon.nn.Dense(2, in_units=3)
    net.initialize(mixed)
    assert (net.weight.data().asnumpy() == 1).all()
    own = gluon.Parameter("alpha", shape=(2,), init=mixed)
    own.initialize()
    assert own.data().tolist() == [1, 1]


def test_load():
    load = mx.init.Load({"arg:a_weight": nd.ones((2,)), "aux:b": np.full(3, 2.0)}, "zeros")
    assert (filled(load, (2,), "a_weight") == 1).all() and (filled(load, (3,), "b") == 2).all()
    assert (filled(load, (3,), "c_weight") == 0).all()


def test_verbosity(caplog):
    caplog.set_level("INFO")
    filled(mx.init.Constant(2).set_verbosity(True), (3,))
    filled(mx.init.Constant(2).set_verbosity(True, lambda arr: f"sum {arr.sum().asscalar()}"), (3,))
    filled(mx.init.Load({"a_weight": nd.ones((2,))}, verbose=True), (2,))
    said = [record.getMessage() for record in caplog.records]
    assert "a_weight" in said[0] and said[0].endswith("2.0") and said[1].endswith("sum 6.0")
    assert said[2] == "Initialized a_weight by loading"


class Counting(Initializer):
    """Fills the n-th weight with n, and notes what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _init_weight(self, name, arr):
        self.seen.append((str(name), arr.shape))
        arr[:] = len(self.seen)


def test_fused_lstm():
    init = Counting()
    fused = mx.init.FusedRNN(mx.init.One(), 2, 1, "lstm", forget_bias=7)
    fused._init = init
    vector = filled(fused, (56,))
    gates = [f"l0_{kind}_{gate}_weight" for kind in ("i2h", "h2h") for gate in "ifco"]
    assert init.seen == list(zip(gates, [(2, 3)] * 4 + [(2, 2)] * 4))
    assert vector[:40].tolist() == [n for n in (1, 2, 3, 4) for _ in range(6)] + [
        n for n in (5, 6, 7, 8) for _ in range(4)
    ]
    assert vector[40:].tolist() == [0, 0, 7, 7, 0, 0, 0, 0] * 2


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("directions", [1, 2])
def test_fused_sizes(mode, layers, directions):
    hidden, inputs, gates = 4, 5, len(GATES[mode])
    widths = [inputs] + [directions * hidden] * (layers - 1)
    size = sum(directions * gates * hidden * (width + hidden + 2) for width in widths)
    parts = rnn_parts(size, hidden, layers, mode, directions)
    assert sum(np.prod(shape) for _, shape in parts) == size and parts[0][1] == (4, 5)
    names = [name for name, _ in parts]
    assert len(set(names)) == len(names) == 4 * gates * layers * directions
    assert [n.endswith("bias") for n in names] == sorted(n.endswith("bias") for n in names)
    fused = mx.init.FusedRNN(None, hidden, layers, mode, directions == 2)
    arr = nd.zeros((size,))
    fused(InitDesc("a_weight", global_init=mx.init.One()), arr)
    assert arr.sum().asscalar() == sum(np.prod(s) for n, s in parts if n.endswith("weight")) + (
        2 * hidden * layers * directions if mode == "lstm" else 0
    )


def test_fused_dumps():
    fused = mx.init.FusedRNN(mx.init.One(), 2, 1, "lstm")
    assert fused.dumps() == (
        '["fusedrnn", {"init": "[\\"one\\", {}]", "num_hidden": 2, "num_layers": 1, '
        '"mode": "lstm", "bidirectional": false, "forget_bias": 1.0}]'
    )
    assert create(fused.dumps()) == fused


WRONG = [
    (lambda: filled(mx.init.Xavier(), (3,)), ValueError, "cannot be applied to vector"),
    (lambda: filled(mx.init.Uniform(), name="alpha"), ValueError, "Unknown initialization pattern"),
    (lambda: filled(mx.init.Xavier("cauchy")), ValueError, "rnd_type"),
    (lambda: filled(mx.init.Xavier(factor_type="x")), ValueError, "factor_type"),
    (lambda: create("xaveir"), AssertionError, "xavier"),
    (lambda: create(None), AssertionError, "must be of string type"),
    (lambda: create(3), AssertionError, "must be of string type"),
    (lambda: create(int), AssertionError, "no subclass"),
    (lambda: create('["zero", {}]', a=1), AssertionError, "inside"),
    (lambda: create(mx.init.Zero(), 1), AssertionError, "Additional arguments are invalid"),
    (lambda: filled(mx.init.Zero(), name="running_mean"), ValueError, "Unknown initialization"),
    (lambda: mx.init.Orthogonal(rand_type="q"), ValueError, "rand_type"),
    (lambda: filled(mx.init.Bilinear(), (3, 5)), ValueError, "4 axes"),
    (lambda: filled(mx.init.Constant(np.ones(3)), (2, 4)), ValueError, "broadcast"),
    (lambda: mx.init.Mixed(["a"], []), AssertionError, "1 patterns"),
    (lambda: filled(mx.init.Mixed(["bias"], ["zeros"])), ValueError, "did not match any pattern"),
    (lambda: mx.init.Load(3), AssertionError, "dictionary"),
    (lambda: filled(mx.init.Load({})), AssertionError, "Not found in loaded param"),
    (lambda: filled(mx.init.Load({"a_weight": nd.ones((2,))})), AssertionError, "Shape mismatch"),
    (lambda: mx.init.FusedRNN("one", 2, 1, "q"), ValueError, "mode is one of"),
    (lambda: filled(mx.init.FusedRNN("one", 2, 1, "gru"), (7,)), ValueError, "7 numbers"),
    (lambda: filled(mx.init.FusedRNN(None, 2, 1, "gru"), (42,)), ValueError, "no global"),
    (lambda: mx.init.Zero()(3, nd.ones((2,))), TypeError, "string"),
    (lambda: filled(Initializer()), NotImplementedError, "_init_weight"),
]


@pytest.mark.parametrize(("call", "error", "says"), WRONG)
def test_refusals(call, error, says):
    with pytest.raises(error, match=says):
        call()
