"""CTC: MXNet's values, labels that do not fit, large logits, programs and graphs, properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigluon as mx
import minigluon.ops.ctc
from minigluon.base import MXNetError
from tests.cases.ctc import enumerated, reference

nd, CTCLoss = mx.nd, mx.gluon.loss.CTCLoss
ones = nd.ones((2, 20, 4))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(
    "layouts, pred, args",
    [
        ({}, ones, [[[1, 0, -1, -1], [2, 1, 1, -1]]]),
        ({"layout": "TNC"}, nd.ones((20, 2, 4)), [[[1, 0, -1, -1], [2, 1, 1, -1]]]),
        (
            {"layout": "TNC", "label_layout": "TN"},
            nd.ones((20, 2, 4)),
            [[[1, 2], [0, 1], [-1, 1], [-1, -1]]],
        ),
        ({}, ones, [[[2, 1, 2, 2], [3, 2, 2, 2]], None, [2, 3]]),
        ({}, nd.ones((2, 25, 4)), [[[2, 1, -1, -1], [3, 2, 2, -1]], [20, 20]]),
        ({}, nd.ones((2, 25, 4)), [[[2, 1, 3, 3], [3, 2, 2, 3]], [20, 20], [2, 3]]),
    ],
)
def test_all_ways_to_say_the_same(layouts, pred, args, hybrid):
    loss = CTCLoss(**layouts)
    loss.hybridize(hybrid)
    y = loss(pred, *[a if a is None else nd.array(a) for a in args])
    np.testing.assert_allclose(y.asnumpy(), [18.82820702, 16.50581741], rtol=1e-6)  # MXNet's


def test_weights():
    pred, label = nd.random.normal(shape=(2, 5, 4)), nd.array([[1, 0], [2, -1]])
    y = CTCLoss()(pred, label)
    w = CTCLoss(weight=2)(pred, label, None, None, nd.array([1, 3]))
    np.testing.assert_allclose(w.asnumpy(), y.asnumpy() * [2, 6], rtol=1e-6)
    with pytest.raises(AssertionError, match="Got: NCT"):
        CTCLoss(layout="NCT")
    with pytest.raises(AssertionError, match="Got: X"):
        CTCLoss(label_layout="X")


@pytest.mark.parametrize("label", [[1, 1, 1], [1, 2, 1]])
def test_a_label_that_does_not_fit_harms_nobody(label):
    rng = np.random.default_rng(0)
    z = nd.array(rng.normal(size=(4, 3, 4)))
    labels, lengths = nd.array([[1, 2, 3], label, [3, 0, 0]]), nd.array([4, 2, 3])
    z.attach_grad()
    with mx.autograd.record(), pytest.warns(RuntimeWarning, match="sample 1, 3 long, does not fit"):
        y = nd.CTCLoss(z, labels, lengths, use_data_lengths=True)
    y.backward()
    assert np.isposinf(y.asnumpy()[1]) and np.isfinite(y.asnumpy()[[0, 2]]).all()
    assert not z.grad.asnumpy()[:, 1].any() and np.isfinite(z.grad.asnumpy()).all()
    whole = z.grad.asnumpy()
    for i, steps in ((0, 4), (2, 3)):
        alone = nd.array(z.asnumpy()[:steps, i : i + 1])
        alone.attach_grad()
        with mx.autograd.record():
            one = nd.CTCLoss(alone, labels[i : i + 1])
        one.backward()
        np.testing.assert_allclose(whole[:steps, i], alone.grad.asnumpy()[:, 0], atol=1e-6)
        assert not whole[steps:, i].any()


def test_the_warning_can_be_silenced():
    with np.errstate(divide="ignore"):
        assert np.isinf(nd.CTCLoss(nd.ones((1, 1, 3)), nd.array([[1, 2]])).asscalar())


def test_second_derivatives_beside_a_label_that_does_not_fit():
    z = nd.array(np.random.default_rng(0).normal(size=(3, 2, 3)), dtype="float64")
    z.attach_grad()
    with np.errstate(divide="ignore"), mx.autograd.record():
        y = nd.CTCLoss(z, nd.array([[1, 2], [1, 1]]), nd.array([3, 2]), use_data_lengths=True)
        (g,) = mx.autograd.grad(y, [z], create_graph=True)
        total = (g * g).sum()
    total.backward()
    assert np.isfinite(z.grad.asnumpy()).all()
    assert z.grad.asnumpy()[:, 0].any() and not z.grad.asnumpy()[:, 1].any()


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_are_finite(size):
    z = nd.array([[[size, 0, 0]], [[0, size, 0]], [[0, 0, size]]])
    z.attach_grad()
    with mx.autograd.record():
        y = nd.CTCLoss(z, nd.array([[2, 1]]))
    y.backward()
    assert np.isfinite(y.asscalar()) and np.isfinite(z.grad.asnumpy()).all()


def test_forbidden_classes():
    z = nd.array(np.random.default_rng(0).normal(size=(4, 1, 4)))
    z[:, :, 3] = -np.inf
    z.attach_grad()
    with mx.autograd.record():
        y = nd.CTCLoss(z, nd.array([[1, 2]]))
    y.backward()
    np.testing.assert_allclose(
        y.asnumpy(), nd.CTCLoss(z[:, :, :3], nd.array([[1, 2]])).asnumpy(), rtol=1e-6
    )
    assert np.isfinite(z.grad.asnumpy()).all()


def test_graphs():
    data, label = mx.sym.var("data"), mx.sym.var("label")
    out = mx.sym.contrib.ctc_loss(data, label, name="c")
    assert out.list_arguments() == ["data", "label"]
    assert out.infer_shape(data=(4, 3, 5), label=(3, 2))[1] == [(3,)]
    z = nd.random.normal(shape=(4, 3, 5))
    arrays = {"data": z, "label": nd.array([[1, 2], [3, 3], [2, 0]])}
    grads = {"data": nd.zeros((4, 3, 5))}
    run = out.bind(mx.cpu(), arrays, args_grad=grads, grad_req={"data": "write", "label": "null"})
    run.forward(is_train=True)
    run.backward(nd.array([1, 2, 3]))
    z.attach_grad()
    with mx.autograd.record():
        y = nd.ctc_loss(z, arrays["label"])
    y.backward(nd.array([1, 2, 3]))
    np.testing.assert_allclose(run.outputs[0].asnumpy(), y.asnumpy(), rtol=1e-6)
    np.testing.assert_allclose(grads["data"].asnumpy(), z.grad.asnumpy(), atol=1e-6)
    named = mx.sym.CTCLoss(data, label, use_data_lengths=True, use_label_lengths=True, name="c")
    assert named.list_arguments() == ["data", "label", "c_data_lengths", "c_label_lengths"]


@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("float32", 1e-6)])
def test_types(dtype, tolerance):
    z, label = np.random.default_rng(0).normal(size=(4, 2, 3)), np.array([[1, 2], [1, 1]])
    y = nd.CTCLoss(nd.array(z, dtype=dtype), nd.array(label, dtype="int32"))
    assert y.dtype == np.dtype(dtype)
    np.testing.assert_allclose(y.asnumpy(), reference(z, label), rtol=tolerance)


def test_wrong_lengths():
    z, label = nd.ones((4, 2, 3)), nd.array([[1, 2], [1, 1]])
    for lengths in ([4], [4, 4, 4], [[4, 4]]):
        with pytest.raises(MXNetError, match="data_lengths of shape"):
            nd.CTCLoss(z, label, nd.array(lengths), use_data_lengths=True)
    with pytest.raises(MXNetError, match="expecting 2 arrays"):
        nd.CTCLoss(z, label, nd.array([4, 4]))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_small_batch(data):
    """Values are the enumeration's, a step's gradients add up to 0, and padding changes nothing."""
    steps, classes, width = (data.draw(st.integers(1, n), "size") for n in (5, 3, 3))
    classes, batch = classes + 1, data.draw(st.integers(1, 3), "batch")
    seed = data.draw(st.integers(0, 99), "seed")
    z = np.random.default_rng(seed).normal(size=(steps, batch, classes)) * 3
    row = st.lists(st.integers(1, classes - 1), min_size=width, max_size=width)
    label = np.array([data.draw(row, "label") for _ in range(batch)])
    own = np.array([data.draw(st.integers(0, steps), "steps") for _ in range(batch)])
    count = np.array([data.draw(st.integers(0, width), "letters") for _ in range(batch)])
    x = nd.array(z, dtype="float64")
    x.attach_grad()
    with np.errstate(divide="ignore"), mx.autograd.record():
        y = nd.CTCLoss(x, nd.array(label), nd.array(own), nd.array(count),
                       use_data_lengths=True, use_label_lengths=True)  # fmt: skip
    y.backward()
    want = [enumerated(z[:t, i], label[i, :n], 0) for i, (t, n) in enumerate(zip(own, count))]
    np.testing.assert_allclose(y.asnumpy(), want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x.grad.asnumpy().sum(axis=2), 0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0.1, 3, 30, 300, 1e4])
@pytest.mark.parametrize("steps", [7, 40, 400])
def test_probabilities_and_logarithms_agree(steps, size, dtype, monkeypatch):
    rng, batch, classes, found = np.random.default_rng(steps), 12, 6, []
    z = (rng.normal(size=(steps, batch, classes)) * size).astype(dtype)
    z[:, 3] = 0  # all equal
    z[:, 4, 2] = -np.inf  # never
    label = rng.integers(1, classes, (batch, 4))
    label[5], label[4] = 3, [1, 3, 1, 3]
    own = np.array([0, steps, 3, *rng.integers(4, steps + 1, batch - 3)])
    count = rng.integers(0, 5, batch)
    x = nd.array(z, dtype=dtype)
    x.attach_grad()
    for smallest in (minigluon.ops.ctc.SMALLEST, np.inf):
        monkeypatch.setattr(minigluon.ops.ctc, "SMALLEST", smallest)
        with np.errstate(divide="ignore"), mx.autograd.record():
            y = nd.CTCLoss(x, nd.array(label), nd.array(own), nd.array(count),
                           use_data_lengths=True, use_label_lengths=True)  # fmt: skip
        y.backward()
        found.append((y.asnumpy(), x.grad.asnumpy()))
    close = 2e-5 if dtype == "float32" else 1e-9
    (y, g), (y_logs, g_logs) = found
    assert np.isfinite(y).any() and np.isfinite(g).all()
    np.testing.assert_allclose(y, y_logs, rtol=close, atol=close)
    np.testing.assert_allclose(g, g_logs, atol=close)


@pytest.mark.parametrize("late", [False, True])
def test_a_walk_that_falls_behind_may_win(late):
    """Letters cost 10^-25 each in the first frames, and in the last,
    all but class 3 10^-40 in between.
    """
    before = [1, 2] * 8
    label = np.array([[*before, 3, *(before if late else [])]])
    cost = np.zeros((76, 1, 4))
    cost[:20, :, 1:], cost[20:56, :, :3] = 25, 40
    cost[56:, :, 1:] = 25 if late else 0
    z = -cost * np.log(10)
    args = minigluon.ops.ctc.prepared(z, label, None, None, "first")
    losses, g = minigluon.ops.ctc.solve(z, *args)
    logp = z - np.log(np.exp(z).sum(2, keepdims=True))
    total, share = minigluon.ops.ctc.by_logs(logp, *args)
    np.testing.assert_allclose(losses, -total, rtol=1e-10)
    assert abs(losses[0] / np.log(10) - (800 if late else 400)) < 30
    want = np.exp(logp)
    minigluon.ops.ctc.subtract_shares(want, share, args[0], 0)
    np.testing.assert_allclose(g, want, atol=1e-9)
