"""Loops in C++ against NumPy's way: kernels/cpu, chapter 96h."""

import os
import shutil
from contextlib import nullcontext

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, native
from minigluon.cores import alone
from minigluon.op import operator
from minigluon.ops import recurrent_loops
from minigluon.ops.rnn import GATES, Plan, places, rnn_derivative


def test_loops_are_there_where_a_compiler_is():
    assert bool(native.Loops("rnn")) is (native.missing() is None)


CASES = {
    "one": {"shape": (1, 1, 1), "hidden": 1},
    "odd": {"shape": (5, 3, 4), "hidden": 7},
    "two layers": {"shape": (4, 2, 3), "hidden": 5, "layers": 2},
    "both ways": {"shape": (4, 3, 3), "hidden": 6, "layers": 2, "both": True},
    "lengths": {"shape": (6, 4, 3), "hidden": 5, "both": True, "lengths": [6, 0, 3, 1]},
    "parts": {"shape": (9, 35, 20), "hidden": 64},
    "parts and lengths": {"shape": (4, 40, 8), "hidden": 70, "lengths": [i % 5 for i in range(40)]},
    "dropout": {"shape": (5, 40, 8), "hidden": 64, "layers": 2, "p": 0.5},
    "parts both ways": {"shape": (6, 35, 8), "hidden": 64, "layers": 2, "both": True, "p": 0.3},
    "parts, lengths, both ways": {
        "shape": (6, 35, 8),
        "hidden": 70,
        "layers": 2,
        "both": True,
        "p": 0.3,
        "lengths": [*range(7)] * 5,
    },
    "products in many blocks": {"shape": (50, 32, 64), "hidden": 128},
    "weights that no cache holds": {"shape": (3, 40, 20), "hidden": 300},
    "one part for all cores": {"shape": (20, 8, 150), "hidden": 200, "layers": 2},
    "output alone": {"shape": (5, 3, 4), "hidden": 7, "states": False},
}


def results(mode, shape, hidden, layers=1, both=False, lengths=None, p=0.0, states=True, times=1):
    """Outputs of `RNN` and the gradients of all its arrays, of `times` passes backwards together."""
    plan, rng = Plan(shape, mode, hidden, layers, both, None), np.random.default_rng(0)
    wide = (plan.cells, shape[1], hidden)
    arrays = [rng.standard_normal(s) for s in (shape, places(plan)[1], wide, wide)]
    arrays[1] *= min(0.3, hidden**-0.5)  # larger weights make errors grow from step to step
    arrays = [mx.nd.array(a.astype("float32")) for a in arrays[: plan.arrays]]
    for a in arrays:
        a.attach_grad("add")
    more = {} if lengths is None else {"use_sequence_length": True}
    given = arrays + ([] if lengths is None else [mx.nd.array(lengths)])
    mx.random.seed(1)
    with autograd.record():
        y = mx.nd.RNN(
            *given, mode=mode, state_size=hidden, num_layers=layers, bidirectional=both, p=p,
            state_outputs=states, **more,
        )  # fmt: skip
        y = y if isinstance(y, list) else [y]
        loss = sum((o * mx.nd.array(np.cos(np.arange(o.size)).reshape(o.shape))).sum() for o in y)
    for i in range(times):
        loss.backward(retain_graph=i + 1 < times)
    return [a.asnumpy() for a in [*y, *(a.grad for a in arrays)]]


@pytest.mark.loops
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", GATES)
def test_recurrent_layers_are_those_of_numpy(mode, case, by_numpy, called):
    found = results(mode, **CASES[case])
    assert {*called} >= {mode, f"{mode}_back"}
    for a, b in zip(found, by_numpy(lambda: results(mode, **CASES[case]))):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))


@pytest.mark.loops
@pytest.mark.parametrize("case", ["odd", "two layers", "lengths", "parts", "dropout"])
@pytest.mark.parametrize("mode", GATES)
def test_one_core_does_the_same(mode, case, by_numpy):
    with alone:
        found = results(mode, **CASES[case])
    for a, b in zip(found, by_numpy(lambda: results(mode, **CASES[case]))):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))


@pytest.mark.loops
@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("batch", [3, 40])
def test_data_of_any_strides(mode, batch, by_numpy):
    plan, rng = Plan((5, batch, 6), mode, 64, 1, False, None), np.random.default_rng(0)
    x, weights, state = (
        rng.standard_normal(s).astype("float32") * 0.3
        for s in ((6, batch, 5), places(plan)[1], (1, batch, 64))
    )
    heads = [rng.standard_normal((64, batch, 5)).astype("float32").T]
    if mode != "lstm":
        heads = [np.broadcast_to(heads[0][:, :1], heads[0].shape)]
    settings = {"mode": mode, "state_size": 64, "num_layers": 1}
    given = {
        "turned about": x.T,
        "backwards": np.ascontiguousarray(x.T)[::-1],
        "samples before steps": np.ascontiguousarray(x.T.swapaxes(0, 1)).swapaxes(0, 1),
        "one sample for all": np.broadcast_to(x.T[:, :1], x.T.shape),
        "every other number": np.repeat(x.T, 2, axis=2)[..., ::2],
    }
    for name, data in given.items():
        for core in (alone, nullcontext()):

            def run(data=data):
                arrays = [data, weights, *[state] * (plan.arrays - 2)]
                with autograd.record():
                    y = recurrent_loops.RNN.plain(*arrays, **settings)
                sizes = (mode, 64, 1, False, None)
                return [y, *rnn_derivative.plain(*heads, *arrays, y, order=1, sizes=sizes)]

            with core:
                found = run()
            for a, b in zip(found, by_numpy(run), strict=True):
                assert np.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max())), name


@pytest.mark.loops
@pytest.mark.parametrize("mode", GATES)
def test_what_is_kept_serves_twice(mode):
    once, twice = (results(mode, (4, 3, 2), 5, times=n) for n in (1, 2))
    outputs = len(once) - (4 if mode == "lstm" else 3)
    for a, b in zip(once[outputs:], twice[outputs:]):
        assert np.allclose(2 * a, b, rtol=1e-6)


@pytest.mark.loops
def test_what_is_written_into_an_output_does_not_reach_the_way_back():
    layer, x = mx.gluon.rnn.LSTM(4, input_size=3), mx.nd.ones((5, 2, 3))
    layer.initialize()
    x.attach_grad()
    grads = []
    for spoil in (False, True):
        with autograd.record():
            y = layer(x)
        if spoil:
            y._data[...] = 7
        y.backward()
        grads.append(x.grad.asnumpy())
    assert (grads[0] == grads[1]).all()


@pytest.mark.loops
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_second_derivatives_follow_loops(p, by_numpy):
    def run():
        mx.random.seed(2)
        layer = mx.gluon.rnn.GRU(5, 2, input_size=3, dropout=p)
        layer.initialize(mx.init.Normal(0.5))
        x = mx.nd.random.normal(shape=(4, 3, 3))
        x.attach_grad()
        with autograd.record():
            y = layer(x)
            (g,) = autograd.grad((y * y).sum(), x, create_graph=True)
            loss = (g * g).sum()
        loss.backward()
        return x.grad.asnumpy()

    assert np.allclose(run(), by_numpy(run), rtol=1e-4, atol=1e-5)


@pytest.mark.loops
def test_an_output_of_loops_can_go_back_by_numpy(by_numpy):
    layer, x = mx.gluon.rnn.LSTM(4, input_size=3), mx.nd.random.normal(shape=(5, 2, 3))
    layer.initialize()
    x.attach_grad()
    grads = []
    for back in (lambda y: y.backward(), lambda y: by_numpy(y.backward)):
        with autograd.record():
            y = layer(x)
        back(y)
        grads.append(x.grad.asnumpy())
    assert np.allclose(*grads, rtol=1e-4, atol=1e-6)


@pytest.mark.loops
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("mode", GATES)
def test_numbers_that_are_none_are_kept(mode, bad, by_numpy):
    def run():
        x = mx.nd.ones((3, 2, 2))
        x[1, 0, 0] = bad
        plan = Plan(x.shape, mode, 3, 1, False, None)
        states = [mx.nd.zeros((1, 2, 3))] * (plan.arrays - 2)
        weights = mx.nd.ones(places(plan)[1]) * 0.1
        return mx.nd.RNN(x, weights, *states, mode=mode, state_size=3, num_layers=1).asnumpy()

    with np.errstate(all="ignore"):
        assert np.allclose(run(), by_numpy(run), rtol=1e-5, atol=1e-6, equal_nan=True)


def test_other_types_go_the_way_of_numpy(monkeypatch):
    monkeypatch.setattr(recurrent_loops, "loops", lambda *a: pytest.fail("a loop for float64"))
    layer = mx.gluon.rnn.LSTM(3, input_size=2)
    layer.cast("float64")
    layer.initialize()
    assert layer(mx.nd.ones((2, 1, 2), dtype="float64")).dtype == np.float64


def test_without_a_compiler_there_are_no_loops(monkeypatch):
    native.compiled.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not native.Loops("rnn")
    native.compiled.cache_clear()


@pytest.mark.loops
def test_a_refused_text_is_told_once_and_goes_unused(monkeypatch, tmp_path):
    native.compiled.cache_clear()
    monkeypatch.setenv("MINIGLUON_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "FLAGS", [*native.FLAGS, "-include", "no_such_header.h"])
    with pytest.warns(UserWarning, match="(?s)rnn.cpp goes unused.*no_such_header"):
        assert not native.Loops("rnn")
    assert not native.Loops("rnn") and not [*tmp_path.iterdir()]
    native.compiled.cache_clear()


@pytest.mark.loops
def test_libraries_are_kept_by_all_that_they_are_made_of(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGLUON_KERNEL_CACHE", str(tmp_path))
    for kind in ("one processor", "another"):
        native.compiled.cache_clear()
        monkeypatch.setattr(native, "processor", lambda kind=kind: kind)
        assert native.Loops("rnn")
    native.compiled.cache_clear()
    assert len([*tmp_path.iterdir()]) == 2


def test_arguments_are_those_of_c():
    x = np.zeros((3, 4), "float32")
    assert native.as_c(x).value == x.ctypes.data and native.as_c(3).value == 3
    assert native.as_c(0.5).value == 0.5 and native.as_c(None) is None
    x.flags.writeable = False
    assert native.as_c(x).value == x.ctypes.data and native.as_c(x[:0]) is not None
    with pytest.raises(ValueError, match=r"shape \(4, 3\) and strides"):
        native.as_c(x.T)


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_after_a_run_by_numpy_all_is_as_before(monkeypatch, before):
    if before is None:
        monkeypatch.delenv("MINIGLUON_NATIVE", raising=False)
    else:
        monkeypatch.setenv("MINIGLUON_NATIVE", before)
    assert native.by_numpy(lambda: os.environ["MINIGLUON_NATIVE"]) == "0"
    with pytest.raises(ZeroDivisionError):
        native.by_numpy(lambda: 1 / 0)
    assert os.environ.get("MINIGLUON_NATIVE") == before


@pytest.mark.loops
def test_both_ways_refuse_to_compare_numpy_with_itself(monkeypatch, called):
    x = mx.nd.array(np.ones((100, 100)))
    for one in native.both_ways(lambda: mx.nd.softmax(x).asnumpy()):
        assert np.allclose(one, 0.01)
    assert called == ["softmax"]
    with pytest.raises(AssertionError, match="no loop was called"):
        native.both_ways(lambda: 1)
    assert native.called(lambda: mx.nd.softmax(x).shape) == ((100, 100), ["softmax"])
    monkeypatch.setenv("MINIGLUON_NATIVE", "0")
    with pytest.warns(UserWarning, match="NumPy is compared with itself: MINIGLUON_NATIVE=0"):
        assert native.both_ways(lambda: 1) == (1, 1)
    monkeypatch.delenv("MINIGLUON_NATIVE")
    monkeypatch.setenv("PATH", "")
    assert "g++" in native.missing()


def test_a_second_loop_takes_the_place_of_the_first():
    @operator(listed=False)
    def twofold(data, /):
        return 2 * data

    x, met = np.ones(3, "float32"), []
    for name in "ab":

        @native.native(twofold)
        def _(data, name=name):
            met.append(name)
            return NotImplemented

    assert (twofold(x) == 2).all() and twofold.kernel is twofold.plain and met == ["b"]
