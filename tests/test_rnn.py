"""Recurrent layers against their cells, against MXNet, with lengths, in graphs and when wrong."""

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import cores
from minigluon.base import MXNetError
from minigluon.gluon import block as gluon_block
from minigluon.gluon import rnn
from minigluon.gluon.contrib import rnn as contrib
from minigluon.op import operators
from minigluon.ops.rnn import Plan, places, plain
from tests.reference import golden_conv_rnn as conv
from tests.reference.golden_rnn import CASES, FILE, answers

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import by_hand

minigluon.ops.load()
mx.gluon.rnn = rnn
needs_dropout = pytest.mark.skipif("Dropout" not in operators, reason="there is no Dropout yet")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_layers_are_mxnets(number):
    got, want = answers(mx, *CASES[number]), np.load(FILE)[str(number)]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", range(len(conv.CASES)))
def test_convolutional_cells_are_mxnets(number):
    got, want = conv.answers(mx, *conv.CASES[number]), np.load(conv.FILE)[str(number)]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_convolutional_cells_hybridized(kind):
    cell = getattr(contrib, f"Conv2D{kind}Cell")((3, 6, 5), 4, (3, 3), (3, 3))
    cell.initialize(mx.init.Normal(0.3))
    x = mx.nd.random.normal(shape=(2, 3, 3, 6, 5))
    want, states = cell.unroll(3, x, merge_outputs=True)
    assert want.shape == (2, 3, 4, 4, 3) and states[0].shape == (2, 4, 4, 3)
    cell.hybridize()
    got, _ = cell.unroll(3, x, merge_outputs=True)
    np.testing.assert_allclose(got.asnumpy(), want.asnumpy(), atol=1e-6)


def test_convolutional_cells_refuse():
    with pytest.raises(AssertionError, match="Only support odd number, get h2h_kernel= \\(2, 2\\)"):
        contrib.Conv2DGRUCell((3, 8, 8), 4, 3, 2)
    with pytest.raises(AssertionError, match="For 2D convolution"):
        contrib.Conv2DGRUCell((3, 8, 8), 4, (3, 3, 3), 3)
    with pytest.raises(AssertionError, match="input_shape"):
        contrib.Conv2DGRUCell((8, 8), 4, 3, 3)
    cell = contrib.Conv1DRNNCell((3, 8), 4, 3, 3)
    cell.initialize()
    with pytest.raises(MXNetError, match="add"):
        cell(mx.nd.ones((2, 3, 9)), cell.begin_state(2))


LAYERS = [
    (kind, {"num_layers": n, "bidirectional": both, "layout": layout})
    for kind in (rnn.RNN, rnn.LSTM, rnn.GRU)
    for n, both, layout in itertools.product((1, 2), (False, True), ("TNC", "NTC"))
]


@pytest.mark.parametrize("kind, settings", LAYERS, ids=lambda v: getattr(v, "__name__", None))
def test_layers_are_their_cells(kind, settings):
    layer = kind(4, input_size=3, **settings)
    layer.initialize(mx.init.Normal(0.3))
    stack = layer._unfuse()
    assert sorted(stack.collect_params()) == sorted(layer.collect_params())
    x = mx.nd.random.normal(shape=(2, 5, 3))
    steps = x.shape[settings["layout"].find("T")]
    results = []
    for hybrid in (None, False, True):
        x.attach_grad()
        layer.hybridize(bool(hybrid))
        with mx.autograd.record():
            if hybrid is None:
                y, _ = stack.unroll(steps, x, layout=settings["layout"], merge_outputs=True)
            else:
                y = layer(x)
            (y * y).sum().backward()
        grads = [p.grad().asnumpy() for _, p in sorted(layer.collect_params().items())]
        results.append([y.asnumpy(), x.grad.asnumpy(), *grads])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


SWEPT = [
    (mode, both, None) for mode in ("rnn_relu", "rnn_tanh", "lstm", "gru") for both in (False, True)
]


@pytest.mark.parametrize("mode, both, projection", [*SWEPT, ("lstm", True, 2)])
def test_the_sweep_is_the_plain_version(mode, both, projection):
    rng, lengths = np.random.default_rng(0), np.array([3, 0, 2, 4])
    plan = Plan((4, 4, 3), mode, 5, 2, both, projection)
    states = [rng.normal(size=(plan.cells, 4, n)) for n in (projection or 5, 5)]
    arrays = [rng.normal(size=(4, 4, 3)), rng.normal(size=places(plan)[1]) * 0.5]
    arrays += states[: plan.arrays - 2]
    for own in (None, lengths):
        found = []
        for fast in (True, False):
            xs = [mx.nd.array(a, dtype="float64") for a in arrays]
            n = None if own is None else mx.nd.array(own, dtype="int64")
            for x in xs:
                x.attach_grad()
            with mx.autograd.record():
                ys = called(xs, n, plan, both, projection) if fast else plain(plan, xs, n, None)
                total = sum((y * y * y).sum() for y in ys)
            total.backward()
            found.append([a.asnumpy() for a in (*ys, *(x.grad for x in xs))])
        for a, b in zip(*found):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def called(xs, lengths, plan, both, projection):
    given = {} if lengths is None else {"sequence_length": lengths, "use_sequence_length": True}
    return mx.nd.RNN(*xs, mode=plan.mode, state_size=plan.hidden, num_layers=plan.layers, bidirectional=both,
                     state_outputs=True, projection_size=projection, **given)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("limit", [10**6, 30_000])  # the lower one: one product for all inputs
@pytest.mark.parametrize(
    "mode, projection", [("rnn_tanh", None), ("lstm", None), ("lstm", 48), ("gru", None)]
)
def test_threads_share_the_sweep(mode, projection, limit, threads, monkeypatch):
    assert cores.alone.threads  # which also finds OpenBLAS, and the next line would not
    monkeypatch.setattr(cores.Alone, "threads", property(lambda a: 1 if a.depth else threads))
    monkeypatch.setattr(minigluon.ops.rnn, "SMALL", limit)
    size, steps, batch, inputs = (128 if mode == "rnn_tanh" else 80), 9, 66, 16
    if projection:
        size = 96
    plan = Plan((steps, batch, inputs), mode, size, 1, True, projection)
    assert minigluon.ops.rnn.shares(plan) == threads
    assert len(minigluon.ops.rnn.spans(plan)) == 4
    rng = np.random.default_rng(1)
    states = [rng.normal(size=(2, batch, n)) for n in (projection or size, size)]
    arrays = [rng.normal(size=(steps, batch, inputs)), rng.normal(size=places(plan)[1]) * 0.05]
    arrays += states[: plan.arrays - 2]
    lengths = None if limit == 10**6 else rng.integers(0, steps + 1, batch)
    found = []
    for fast in (True, False):
        xs = [mx.nd.array(a, dtype="float64") for a in arrays]
        n = None if lengths is None else mx.nd.array(lengths, dtype="int64")
        for x in xs:
            x.attach_grad()
        with mx.autograd.record():
            ys = called(xs, n, plan, True, projection) if fast else plain(plan, xs, n, None)
            total = sum((y * y).sum() for y in ys)
        total.backward()
        found.append([a.asnumpy() for a in (*ys, *(x.grad for x in xs))])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 9, 50, 333])
@pytest.mark.parametrize("batch", [1, 20, 1000])
def test_spans_hold_every_step_once_the_last_first(steps, batch):
    found = minigluon.ops.rnn.spans(Plan((steps, batch, 8), "lstm", 200, 1, False, None))
    edges = [(s.start, s.stop) for s in found[::-1]]
    assert edges[0][0] == 0 and edges[-1][1] == steps and all(i < j for i, j in edges)
    assert [i for i, _ in edges[1:]] == [j for _, j in edges[:-1]]


def test_an_error_beside_the_sweep_is_raised():
    def fails():
        raise ZeroDivisionError

    before = cores.alone.threads
    with pytest.raises(ZeroDivisionError), minigluon.ops.rnn.beside() as later:
        later(fails)
    done = []
    with minigluon.ops.rnn.beside() as later:
        for i in range(20):
            later(lambda i=i: done.append(i))
    assert sorted(done) == list(range(20)) and cores.alone.threads == before


def test_clipped_cells():
    layer = rnn.LSTM(4, input_size=3, state_clip_min=-0.1, state_clip_max=0.1, state_clip_nan=True)
    layer.initialize(mx.init.Normal(1))
    x = mx.nd.random.normal(shape=(6, 2, 3))
    x.attach_grad()
    with mx.autograd.record():
        y, (_, c) = layer(x, layer.begin_state(2))
    y.backward()
    assert abs(c.asnumpy()).max() <= 0.1 + 1e-6
    assert np.isfinite(x.grad.asnumpy()).all()


def test_dropout_between_layers():
    layer = rnn.LSTM(8, 2, dropout=0.5, input_size=3)
    layer.initialize(mx.init.Normal(0.5))
    x = mx.nd.random.normal(shape=(4, 2, 3))
    assert (layer(x).asnumpy() == layer(x).asnumpy()).all()
    with mx.autograd.record():
        one, two = layer(x), layer(x)
    assert (one.asnumpy() != two.asnumpy()).any()
    one.backward()
    assert np.isfinite(layer.l0_i2h_weight.grad().asnumpy()).all()


def test_dropout_between_layers_of_a_program():
    layer = rnn.LSTM(8, 2, dropout=0.5, input_size=3)
    layer.initialize(mx.init.Normal(0.5))
    layer.hybridize()
    with mx.autograd.record():
        y = layer(mx.nd.random.normal(shape=(4, 2, 3)))
    y.backward()
    assert np.isfinite(layer.l0_i2h_weight.grad().asnumpy()).all()


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("kind", [rnn.RNN, rnn.LSTM, rnn.GRU])
@pytest.mark.parametrize("form", ["output", "states", "lengths"])
def test_dropout_between_layers_of_a_program_to_any_order(form, kind, order):
    """The program keeps the masks of its first run:
    gradients of its gradients are those of eager mode.
    """

    def gradients(hybrid):
        mx.random.seed(1)
        lengths = form == "lengths"
        layer = kind(
            4, 3, dropout=0.5, input_size=3, bidirectional=True, use_sequence_length=lengths
        )
        layer.initialize(mx.init.Normal(0.5))
        layer.cast("float64")
        layer.hybridize(hybrid)
        x = mx.nd.random.normal(shape=(3, 2, 3), dtype="float64")
        x.attach_grad()
        states = [] if form == "output" else [layer.begin_state(2, dtype="float64")]
        args = [x, *states, *([mx.nd.array([3, 2], dtype="float64")] if lengths else [])]
        with mx.autograd.record():
            out = layer(*args)
            y = out if form == "output" else out[0] + sum(s.sum() for s in out[1])
            y = (2 * y * y).sum()
            for _ in range(order - 1):
                y = (mx.autograd.grad(y, [x], create_graph=True)[0] ** 2).sum()
        y.backward()
        found = [x.grad, *(p.grad() for p in layer.collect_params().values())]
        return [a.asnumpy() for a in found]

    for one, two in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-8, atol=1e-10)
        assert one.any()


def test_the_gradient_has_the_masks_of_the_output():
    layer = rnn.GRU(4, 2, dropout=0.5, input_size=3)
    layer.initialize(mx.init.Normal(0.5))
    layer.cast("float64")
    x = mx.nd.random.normal(shape=(3, 2, 3), dtype="float64")
    x.attach_grad()
    v, eps = np.random.default_rng(0).normal(size=x.shape), 1e-6

    def at(t):
        mx.random.seed(3)
        with mx.autograd.train_mode():
            return layer(x + mx.nd.array(t * v, dtype="float64")).sum().asscalar()

    mx.random.seed(3)
    with mx.autograd.record():
        y = layer(x).sum()
    y.backward()
    slope = (at(eps) - at(-eps)) / (2 * eps)
    np.testing.assert_allclose((x.grad.asnumpy() * v).sum(), slope, rtol=1e-5)


def test_lengths():
    layer = rnn.LSTM(4, bidirectional=True, input_size=3, use_sequence_length=True)
    layer.initialize(mx.init.Normal(0.5))
    x = mx.nd.random.normal(shape=(5, 2, 3))
    for active in (False, True):
        layer.hybridize(active)
        out, (h, c) = layer(x, layer.begin_state(2), mx.nd.array([5, 2]))
        short, (sh, sc) = layer(x[:2, 1:], layer.begin_state(1), mx.nd.array([2]))
        np.testing.assert_allclose(out[:2, 1:].asnumpy(), short.asnumpy(), atol=1e-6)
        np.testing.assert_allclose(h[:, 1:].asnumpy(), sh.asnumpy(), atol=1e-6)
        np.testing.assert_allclose(c[:, 1:].asnumpy(), sc.asnumpy(), atol=1e-6)
        assert not out[2:, 1].asnumpy().any()


@pytest.mark.parametrize("kind", [rnn.RNNCell, rnn.LSTMCell, rnn.GRUCell])
@pytest.mark.parametrize("merge", [True, False, None])
def test_valid_length(kind, merge):
    both = rnn.BidirectionalCell(kind(4, input_size=3), kind(4, input_size=3))
    both.initialize(mx.init.Normal(0.5))
    x = mx.nd.random.normal(shape=(2, 5, 3))
    out, states = both.unroll(5, x, merge_outputs=merge, valid_length=mx.nd.array([5, 2]))
    short, own = both.unroll(2, x[1:, :2], merge_outputs=True)
    out = mx.nd.stack(*out, axis=1) if isinstance(out, list) else out
    np.testing.assert_allclose(out[1:, :2].asnumpy(), short.asnumpy(), atol=1e-6)
    assert not out[1, 2:].asnumpy().any()
    for a, b in zip(states, own):
        np.testing.assert_allclose(a[1:].asnumpy(), b.asnumpy(), atol=1e-6)


def test_names_and_shapes_in_graphs():
    cell = rnn.RNNCell(100, prefix="rnn_")
    inputs = [mx.sym.var(f"rnn_t{i}_data") for i in range(3)]
    outputs, _ = cell.unroll(3, inputs)
    outputs = mx.sym.Group(outputs)
    assert sorted(cell.collect_params()) == [
        f"rnn_{n}" for n in ("h2h_bias", "h2h_weight", "i2h_bias", "i2h_weight")
    ]
    assert outputs.list_outputs() == [f"rnn_t{i}_out_output" for i in range(3)]
    shapes = {f"rnn_t{i}_data": (10, 50) for i in range(3)}
    assert outputs.infer_shape(**shapes)[1] == [(10, 100)] * 3


@pytest.mark.parametrize(
    "made, text",
    [
        (lambda: rnn.RNN(4), "RNN(None -> 4, TNC)"),
        (
            lambda: rnn.LSTM(4, 2, bidirectional=True, dropout=0.3, layout="NTC"),
            "LSTM(None -> 4, NTC, num_layers=2, dropout=0.3, bidirectional)",
        ),
        (lambda: rnn.GRU(4, 3, input_size=5), "GRU(5 -> 4, TNC, num_layers=3)"),
        (lambda: rnn.LSTMCell(4, input_size=5), "LSTMCell(5 -> 16)"),
        (lambda: rnn.RNNCell(4), "RNNCell(None -> 4, tanh)"),
        (lambda: rnn.DropoutCell(0.3), "DropoutCell(rate=0.3, axes=())"),
        (
            lambda: rnn.ZoneoutCell(rnn.RNNCell(3), 0.1, 0.2),
            "ZoneoutCell(p_out=0.1, p_state=0.2, RNNCell(None -> 3, tanh))",
        ),
        (
            lambda: rnn.BidirectionalCell(rnn.RNNCell(3), rnn.GRUCell(3)),
            "BidirectionalCell(forward=RNNCell(None -> 3, tanh), backward=GRUCell(None -> 9))",
        ),
        (
            lambda: contrib.Conv2DLSTMCell((3, 8, 8), 5, 3, 3),
            "Conv2DLSTMCell(3 -> 20, tanh, NCHW)",
        ),
        (
            lambda: contrib.Conv1DRNNCell((3, 8), 5, 3, 3, activation="relu"),
            "Conv1DRNNCell(3 -> 5, relu, NCW)",
        ),
        (lambda: contrib.LSTMPCell(4, 3), "LSTMPCell(None -> 16 -> 3)"),
        (
            lambda: contrib.VariationalDropoutCell(rnn.RNNCell(3), 0.1, 0.2, 0.3),
            "VariationalDropoutCell(p_out = 0.3, p_state = 0.2)",
        ),
    ],
)
def test_reprs_are_mxnets(made, text):
    assert repr(made()) == text


def test_order_of_parameters():
    cell = contrib.LSTMPCell(4, 2, prefix="")
    kinds = ["i2h_weight", "h2h_weight", "h2r_weight", "i2h_bias", "h2h_bias"]
    assert list(cell.collect_params()) == kinds


def test_projected_layer_is_its_cell():
    layer, cell = (
        rnn.LSTM(4, projection_size=2, input_size=3),
        contrib.LSTMPCell(4, 2, input_size=3),
    )
    for block in (layer, cell):
        block.initialize(mx.init.Normal(0.5))
    for name in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias", "h2r_weight"):
        getattr(cell, name).set_data(getattr(layer, f"l0_{name}").data())
    x = mx.nd.random.normal(shape=(5, 2, 3))
    out, (r, c) = layer(x, layer.begin_state(2))
    for unroll in (
        lambda: cell.unroll(5, x, layout="TNC", merge_outputs=True),
        lambda: contrib.dynamic_unroll(cell, x, cell.begin_state(2)),
    ):
        y, (yr, yc) = unroll()
        np.testing.assert_allclose(out.asnumpy(), y.asnumpy(), atol=1e-6)
        np.testing.assert_allclose(r[0].asnumpy(), yr.asnumpy(), atol=1e-6)
        np.testing.assert_allclose(c[0].asnumpy(), yc.asnumpy(), atol=1e-6)


def test_dynamic_unroll_with_lengths():
    cell = rnn.GRUCell(4, input_size=3)
    cell.initialize(mx.init.Normal(0.5))
    x, n = mx.nd.random.normal(shape=(2, 5, 3)), mx.nd.array([5, 2])
    y, s = contrib.dynamic_unroll(cell, x, cell.begin_state(2), layout="NTC", valid_length=n)
    z, t = cell.unroll(5, x, valid_length=n, merge_outputs=True)
    np.testing.assert_allclose(y.asnumpy(), z.asnumpy(), atol=1e-6)
    np.testing.assert_allclose(s[0].asnumpy(), t[0].asnumpy(), atol=1e-6)


def test_states_begin_as_asked():
    for made in (rnn.LSTM(4, 2), rnn.LSTMCell(4), rnn.SequentialRNNCell()):
        if isinstance(made, rnn.SequentialRNNCell):
            made.add(rnn.LSTMCell(4))
        h, c = made.begin_state(batch_size=3, func=mx.nd.random.uniform, low=1, high=2)
        assert h.shape == c.shape == ((2, 3, 4) if isinstance(made, rnn.LSTM) else (3, 4))
        assert (h.asnumpy() >= 1).all() and (h.asnumpy() != c.asnumpy()).any()
    asked = []

    def own(name, shape, **more):
        asked.append((name, more))
        return mx.nd.ones(shape)

    rnn.GRUCell(4, prefix="g_").begin_state(2, func=own)
    assert asked == [("g_begin_state_0", {"__layout__": "NC"})]


def test_cells_of_cells():
    stack = rnn.HybridSequentialRNNCell()
    with stack.name_scope():
        stack.add(rnn.LSTMCell(3))
        stack.add(rnn.ResidualCell(rnn.GRUCell(3)))
    stack.initialize(mx.init.Normal(0.5))
    x = mx.nd.random.normal(shape=(2, 4, 3))
    want, states = stack.unroll(4, x, merge_outputs=True)
    assert len(states) == 3 and len(stack) == 2
    stack.hybridize()
    got, _ = stack.unroll(4, x, merge_outputs=True)
    np.testing.assert_allclose(got.asnumpy(), want.asnumpy(), atol=1e-6)
    state, outs = stack.begin_state(batch_size=2, func=mx.nd.zeros), []
    for t in range(4):
        out, state = stack(x[:, t], state)
        outs.append(out)
    np.testing.assert_allclose(mx.nd.stack(*outs, axis=1).asnumpy(), want.asnumpy(), atol=1e-6)


@needs_dropout
def test_dropout_cells():
    x = mx.nd.ones((2, 4, 3))
    for cell in (
        rnn.ZoneoutCell(rnn.LSTMCell(3, input_size=3), 0.5, 0.5),
        contrib.VariationalDropoutCell(rnn.GRUCell(3, input_size=3), 0.5, 0.5, 0.5),
    ):
        cell.initialize()
        with mx.autograd.record():
            out, _ = cell.unroll(4, x, merge_outputs=True)
        assert out.shape == (2, 4, 3)


def test_errors():
    x, gru, cell = mx.nd.ones((5, 3, 10)), rnn.GRU(4), rnn.RNNCell(3)
    gru.initialize()
    with pytest.raises(ValueError, match="shape cannot be inferred"):
        gru(x, mx.nd.zeros((1, 2, 4)))
    gru(x)
    with pytest.raises(ValueError, match="Invalid recurrent state shape. Expecting"):
        gru(x, mx.nd.zeros((1, 2, 4)))
    with pytest.raises(ValueError, match="three axes"):
        gru(x[0])
    with pytest.raises(ValueError, match="1 states, but got 2"):
        gru(x, [mx.nd.zeros((1, 3, 4))] * 2)
    with pytest.raises(AssertionError, match="Invalid layout CTN"):
        rnn.GRU(4, layout="CTN")
    with pytest.raises(RuntimeError, match="has not been initialized"):
        cell(x[0], cell.begin_state(3))
    with pytest.raises(AssertionError, match="unroll"):
        cell.unroll(3, None)
    rnn.ZoneoutCell(cell)
    with pytest.raises(AssertionError, match="After applying modifier cells"):
        cell.begin_state(3)
    with pytest.raises(AssertionError, match="cannot be modified twice"):
        rnn.ResidualCell(cell)
    with pytest.raises(NotImplementedError, match="Please use unroll"):
        rnn.BidirectionalCell(rnn.RNNCell(3), rnn.RNNCell(3))(x[0], [])
    lengths = rnn.GRU(4, use_sequence_length=True, input_size=10)
    lengths.initialize()
    with pytest.raises(MXNetError, match="sequence_length"):
        lengths(x, None, mx.nd.array([1, 2]))
    for bad in ([1, 2, 6], [1, 2, -1], [1, 2, 0.5]):
        with pytest.raises(MXNetError, match="length"):
            lengths(x, None, mx.nd.array(bad))


@pytest.mark.parametrize("bad", [[6, 2], [-1, 2], [3], [[3, 2]]])
def test_valid_lengths_that_do_not_fit(bad):
    cells = [rnn.LSTMCell(4, input_size=3) for _ in range(3)]
    for cell in (cells[0], rnn.BidirectionalCell(*cells[1:])):
        cell.initialize()
        with pytest.raises(MXNetError, match="length"):
            cell.unroll(5, mx.nd.ones((2, 5, 3)), valid_length=mx.nd.array(bad))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_cell_says_how_many_states_it_takes(kind, hybrid):
    cell = getattr(rnn, kind)(3, prefix="cell_")
    cell.initialize()
    cell.hybridize(hybrid)
    x, h = mx.nd.ones((2, 4)), mx.nd.zeros((2, 3))
    right = 2 if kind == "LSTMCell" else 1
    for states, came in (
        ([], "0"),
        ([h] * (3 - right), str(3 - right)),
        ((h,) * 3, "3"),
        (h, "an"),
    ):
        with pytest.raises(
            ValueError, match=f"cell: {kind} takes a list of {right} .*{came}.*came"
        ):
            cell(x, states)
    assert len(cell(x, [h] * right)[1]) == len(cell(x, (h,) * right)[1]) == right


@pytest.mark.parametrize("hybrid", [False, True])
def test_states_that_do_not_fit(hybrid):
    for kind, shapes in ((rnn.GRU, [(1, 3, 4)]), (rnn.LSTM, [(1, 2, 4), (1, 2, 5)])):
        layer = kind(4, input_size=3)
        layer.initialize()
        layer.hybridize(hybrid)
        with pytest.raises((ValueError, MXNetError), match="expecting|Expecting"):
            layer(mx.nd.ones((5, 2, 3)), [mx.nd.zeros(s) for s in shapes])


def test_the_tutorials_listings():
    for layer, states in ((rnn.GRU(100, 3), 1), (rnn.LSTM(100, 3), 2)):
        layer.initialize()
        sequence = mx.nd.random.uniform(shape=(5, 3, 10))
        assert layer(sequence).shape == (5, 3, 100)
        first = [mx.nd.random.uniform(shape=(3, 3, 100)) for _ in range(states)]
        out, last = layer(sequence, first if states == 2 else first[0])
        assert out.shape == (5, 3, 100)
        assert [s.shape for s in last] == [(3, 3, 100)] * states


def test_export_and_import(tmp_path):
    layer = mx.gluon.nn.HybridSequential()
    layer.add(rnn.LSTM(4, 2, bidirectional=True))
    layer.initialize(mx.init.Normal(0.5))
    layer.hybridize()
    x = mx.nd.random.normal(shape=(5, 2, 3))
    want = layer(x).asnumpy()
    layer.export(str(tmp_path / "net"))
    files = str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    again = gluon_block.compiler().SymbolBlock.imports(*files)
    np.testing.assert_allclose(again(x).asnumpy(), want, atol=1e-6)
    np.testing.assert_allclose(again(mx.nd.concat(x, x, dim=1)).asnumpy()[:, :2], want, atol=1e-6)


def test_mxnet_reads_the_export(tmp_path, mxnet_python):
    layer = mx.gluon.nn.HybridSequential()
    layer.add(rnn.GRU(4, 2, layout="NTC"))
    layer.initialize(mx.init.Normal(0.5))
    layer.hybridize()
    x = mx.nd.random.normal(shape=(2, 5, 3))
    want = layer(x).asnumpy()
    layer.export(str(tmp_path / "net"))
    np.save(tmp_path / "x.npy", x.asnumpy())
    code = (
        "import sys, numpy as np; np.bool = bool; import mxnet as mx; p = sys.argv[1]; "
        "net = mx.gluon.SymbolBlock.imports(p + '/net-symbol.json', ['data'], p + '/net-0000.params'); "
        "np.save(p + '/y.npy', net(mx.nd.array(np.load(p + '/x.npy'))).asnumpy())"
    )
    subprocess.run([mxnet_python, "-c", code, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), want, atol=1e-5)


def set_to(layer, i, weight):
    """Give a layer the weights of one written by hand:
    (4 H, H + 1 + I), for the state, the bias, the inputs.
    """
    n = weight.shape[0] // 4
    parts = {
        "h2h_weight": weight[:, :n],
        "i2h_bias": weight[:, n],
        "i2h_weight": weight[:, n + 1 :],
    }
    for name, values in parts.items():
        getattr(layer, f"l{i}_{name}").set_data(mx.nd.array(values))


def test_the_benchmarks_layer_by_hand_is_the_layer():
    shape = 9, 20, 7
    with ThreadPoolExecutor(2) as pool:
        hand = by_hand.Lstm(pool, 2, 16, shape)
        layer, x = rnn.LSTM(16, input_size=7), mx.nd.array(hand.x)
        layer.initialize()
        set_to(layer, 0, hand.layer.weight)
        x.attach_grad()
        with mx.autograd.record():
            y = layer(x)
        y.backward()
        hand.step()
    grads = [getattr(layer, f"l0_{n}").grad() for n in ("h2h_weight", "i2h_bias", "i2h_weight")]
    want = np.concatenate([g.asnumpy().reshape(64, -1) for g in grads], axis=1)
    np.testing.assert_allclose(hand.out, y.asnumpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(hand.dx, x.grad.asnumpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(hand.layer.gradient, want, rtol=1e-4, atol=1e-5)


def test_the_benchmarks_words_by_hand_are_the_models():
    with ThreadPoolExecutor(2) as pool:
        hand = by_hand.Words(pool, 2, words=50, hidden=8, steps=6, batch=16, rate=2.0)
        table, layer = mx.gluon.nn.Embedding(50, 8), rnn.LSTM(8, 2, input_size=8)
        decoder, model = mx.gluon.nn.Dense(50, in_units=8), mx.gluon.nn.Sequential()
        model.add(table, layer, decoder)
        model.initialize()
        table.weight.set_data(mx.nd.array(hand.table))
        decoder.weight.set_data(mx.nd.array(hand.decoder[:, :8]))
        decoder.bias.set_data(mx.nd.array(hand.decoder[:, 8]))
        for i, own in enumerate(hand.layers):
            set_to(layer, i, own.weight)
        layer.collect_params(".*h2h_bias").setattr("grad_req", "null")  # by hand there is one bias
        trainer = mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 2.0})
        x, y = mx.nd.array(hand.x), mx.nd.array(hand.y)
        for _ in range(2):
            with mx.autograd.record():
                out = layer(table(x)).reshape((-1, 8))
                loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(decoder(out), y)
            loss.backward()
            trainer.step(96)
            hand.step()
    np.testing.assert_allclose(hand.loss, loss.asnumpy(), rtol=1e-5)
    weights = [*layer.collect_params().values()]
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(hand.table, table.weight.data().asnumpy(), **close)
    np.testing.assert_allclose(hand.decoder[:, :8], decoder.weight.data().asnumpy(), **close)
    np.testing.assert_allclose(hand.layers[0].weight[:, :8], weights[1].data().asnumpy(), **close)


def test_the_way_back_may_have_other_threads(monkeypatch):
    """How the batch was cut is told by the slab, not by the threads there are now."""
    assert cores.alone.threads
    found = []
    for there, back in ((1, 1), (3, 1), (1, 3), (2, 3)):
        threads = [there]
        monkeypatch.setattr(
            cores.Alone, "threads", property(lambda a, t=threads: 1 if a.depth else t[0])
        )
        mx.random.seed(1)
        layer, x = rnn.LSTM(80, input_size=16), mx.nd.random.normal(shape=(9, 66, 16))
        layer.initialize()
        x.attach_grad()
        with mx.autograd.record():
            y = layer(x)
        threads[0] = back
        y.backward()
        found.append([a.asnumpy() for a in (y, x.grad, layer.l0_h2h_weight.grad())])
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_packed_weights_have_gradients_of_gradients():
    """One vector of all weights on arrays: equal to a reshape for each and a concatenation,
    to second order.
    """
    from minigluon.ops.rnn import packed

    draws = np.random.default_rng(3)
    arrays = [mx.nd.array(draws.normal(size=s), dtype="float64") for s in ((3, 2), (4,), (1, 2, 2))]
    v = mx.nd.array(draws.normal(size=14), dtype="float64")
    found = []
    for pack in (packed, lambda *a: mx.nd.concat(*[x.reshape(-1) for x in a], dim=0)):
        for a in arrays:
            a.attach_grad()
        with mx.autograd.record():
            y = pack(*arrays)
            first = mx.autograd.grad((y**3 * v).sum(), arrays, create_graph=True)
            slope = sum((g * g).sum() for g in first)
        slope.backward()
        found.append([y.asnumpy()] + [g.asnumpy() for g in (*first, *(a.grad for a in arrays))])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("first", [None, 3])
def test_a_projection_as_wide_as_the_state_is_one(first):
    """Plans are kept by their sizes: a layer with such a projection has the sizes of one without."""
    x, found = mx.nd.array(np.random.default_rng(0).normal(size=(4, 2, 5))), {}
    x.attach_grad()
    for projection in (first, None if first else 3):
        layer = rnn.LSTM(3, projection_size=projection, input_size=5)
        layer.initialize(mx.init.Uniform(0.5))
        with mx.autograd.record():
            y = layer(x)
        y.backward()
        found[projection] = layer, y.asnumpy(), x.grad.asnumpy()
    cell, (layer, *wanted) = contrib.LSTMPCell(3, 3, input_size=5), found[3]
    cell.initialize()
    for name, p in cell.collect_params().items():
        p.set_data(getattr(layer, "l0_" + name.removeprefix(cell.prefix)).data())
    with mx.autograd.record():
        y, _ = cell.unroll(4, x, layout="TNC", merge_outputs=True)
    y.backward()
    for ours, want in zip((y, x.grad), wanted):
        np.testing.assert_allclose(ours.asnumpy(), want, rtol=1e-5, atol=1e-6)
