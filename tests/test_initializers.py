"""Initializers: what the name decides, the spread of what is drawn, and refusals."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import nd
from minigluon.initializer import InitDesc, Initializer, create, registry


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
NAMES += [("running_mean", 0), ("running_var", 1), ("moving_mean", 0), ("moving_var", 1)]


@pytest.mark.parametrize("init", [mx.init.Xavier(), mx.init.One(), mx.init.Constant(7)])
@pytest.mark.parametrize(("ending", "value"), NAMES)
def test_the_name_decides(init, ending, value):
    assert (filled(init, (3,), f"net0_{ending}") == value).all()


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
    assert create("xavier", magnitude=2) == mx.init.Xavier(magnitude=2)
    zero = mx.init.Zero()
    assert create(zero) is zero


def test_a_class_of_ones_own():
    @mx.init.register
    class Two(mx.init.Initializer):
        def _init_weight(self, name, data):
            data[:] = 2

    try:
        assert (filled(create("two")) == 2).all()
    finally:
        del registry["two"]


WRONG = [
    (lambda: filled(mx.init.Xavier(), (3,)), ValueError, "cannot be applied to vector"),
    (lambda: filled(mx.init.Uniform(), name="alpha"), ValueError, "Unknown initialization pattern"),
    (lambda: filled(mx.init.Xavier("cauchy")), ValueError, "rnd_type"),
    (lambda: filled(mx.init.Xavier(factor_type="x")), ValueError, "factor_type"),
    (lambda: create("xaveir"), AssertionError, "xavier"),
    (lambda: create(None), AssertionError, "known are"),
    (lambda: create(mx.init.Zero(), 1), AssertionError, "no arguments"),
    (lambda: mx.init.Zero()(3, nd.ones((2,))), TypeError, "string"),
    (lambda: filled(Initializer()), NotImplementedError, "_init_weight"),
]


@pytest.mark.parametrize(("call", "error", "says"), WRONG)
def test_refusals(call, error, says):
    with pytest.raises(error, match=says):
        call()
