"""Losses of gluon: values that MXNet 1.9.1 gave, large logits, labels that pad, hybridized programs."""

import json
import warnings

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import autograd, base, gluon, nd
from minigluon.base import MXNetError
from minigluon.gluon import loss as losses
from minigluon.op import operators
from minigluon.ops.loss import in_blocks
from tests.test_symbol import side

A = [[0.7610377, 0.121675014, 0.44386324], [0.33367444, 1.4940791, -0.20515826]]
B = [[2.2697546, -1.4543657, 0.045758516], [-0.18718386, 1.5327792, 1.4693588]]
C = [[1.2302906, 1.2023798, -0.3873268], [-0.30230275, -1.048553, -1.4200180]]
a, b, c = (nd.array(x) for x in (A, B, C))
yes, signs, alike = b > 0, nd.sign(b), nd.array([1, -1])
pos = nd.array([[2, 3, 0.5]])
sizes = nd.array([[1], [2]])

CASES = [  # loss, arguments, MXNet's values, MXNet's gradient of the first row
    (losses.L1Loss(weight=2), (a, b, sizes), [2.32191, 2.97877], [-0.6667, 0.6667, 0.6667]),
    (losses.HuberLoss(0.5), (a, b), [0.91442, 0.56562], [-0.3333, 0.3333, 0.2654]),
    (losses.HingeLoss(2), (a, signs), [1.63892, 1.68158], [-0.3333, 0.3333, -0.3333]),
    (losses.SquaredHingeLoss(2), (a, signs), [2.81936, 3.52157], [-0.826, 1.4145, -1.0374]),
    (losses.LogisticLoss(), (a, signs), [0.54494, 0.62577], [-0.1061, 0.1768, -0.1303]),
    (
        losses.LogisticLoss(label_format="binary"),
        (a, yes),
        [0.54494, 0.62577],
        [-0.1061, 0.1768, -0.1303],
    ),
    (losses.SigmoidBCELoss(), (a, yes), [0.54494, 0.62577], [-0.1061, 0.1768, -0.1303]),
    (
        losses.SigmoidBCELoss(),
        (a, yes, None, pos),
        [0.59011, 0.62727],
        [-0.2123, 0.1768, -0.0651],
    ),
    (losses.TripletLoss(), (a, b, c), [3.83962, 0.0], [-2.0789, 5.3135, -0.8662]),
    (
        losses.CosineEmbeddingLoss(weight=2),
        (a, b, alike, sizes),
        [[0.68991], [2.34022]],
        [-0.6327, 1.4146, 0.697],
    ),
    (losses.SDMLLoss(), (a, b), [0.39238, 2.21758], [-2.0955, 2.5477, 1.2142]),
    (losses.SDMLLoss(0.1, weight=2), (a, b), [0.87349, 0.61779], [-3.0783, 3.7425, 1.7836]),
    (
        losses.KLDivLoss(from_logits=False),
        (a, nd.softmax(b)),
        [0.44134, 0.33031],
        [-0.4399, 0.2126, 0.2273],
    ),
]
CASES = [pytest.param(*x, id=f"{i}-{type(x[0]).__name__}") for i, x in enumerate(CASES)]


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(("loss", "args", "values", "slopes"), CASES)
def test_mxnet_gave_these(loss, args, values, slopes, hybrid):
    loss.hybridize(hybrid)
    args[0].attach_grad()
    with autograd.record():
        y = loss(*args)
    y.backward()
    np.testing.assert_allclose(y.asnumpy(), values, atol=2e-5)
    np.testing.assert_allclose(args[0].grad.asnumpy()[0], slopes, atol=1e-4)


def test_poisson():
    y = losses.PoissonNLLLoss(compute_full=True)(nd.array([0.0, 1.0]), nd.array([0.0, 3.0]))
    stirling = 3 * np.log(3) - 3 + 0.5 * np.log(6 * np.pi)
    assert y.shape == (1,)
    np.testing.assert_allclose(y.asnumpy(), [(1 + np.e - 3 + stirling) / 2], rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.SigmoidBCELoss(), losses.LogisticLoss()])
def test_large_logits_are_finite(loss):
    z = nd.array([[1e4, -1e4, 0.0]])
    z.attach_grad()
    with autograd.record():
        y = loss(z, nd.array([[-1.0, 1.0, 1.0]] if "Logistic" in repr(loss) else [[0, 1, 1]]))
    y.backward()
    np.testing.assert_allclose(y.asnumpy(), [6666.898], rtol=1e-6)
    np.testing.assert_allclose(z.grad.asnumpy(), [[1 / 3, -1 / 3, -1 / 6]], rtol=1e-5)


def test_cosine_counts_labels_of_one_and_minus_one_alone():
    y = losses.CosineEmbeddingLoss()(a, b, nd.array([0, 1])).asnumpy()
    assert y[0] == 0 and y[1] > 0


def test_pairs_must_match():
    with pytest.raises(AssertionError, match="one row a pair"):
        losses.SDMLLoss()(a, b[:, :1])
    assert np.isfinite(losses.SDMLLoss()(a[:1], b[:1]).asnumpy()).all()  # nobody to be told from


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("settings", [{}, {"from_logits": True}, {"axis": 0, "batch_axis": 1}])
def test_minus_one_pads_and_other_labels_raise(settings, hybrid, monkeypatch):
    z, loss = nd.array(A), losses.SoftmaxCELoss(**settings)
    z = z.T if settings.get("axis") == 0 else z
    loss.hybridize(hybrid)
    weights = nd.array([[0], [1]]) if settings.get("axis") != 0 else nd.array([[0, 1]])
    masked = loss(z, nd.array([-1, 2]), weights).asnumpy()
    assert masked[0] == 0 and masked[1] != 0
    for bad in (3, -2, 0.5, np.nan):
        with pytest.raises(MXNetError, match=f"label {float(bad)}"):
            loss(z, nd.array([bad, 0]), weights)
    monkeypatch.setattr(base, "LENIENT", [True])  # as in programs that import mxnet
    for bad, counts in ((3, 2), (-2, 0), (0.5, 0)):
        with pytest.warns(UserWarning, match=f"label {float(bad)}"):
            found = loss(z, nd.array([bad, 0]), 1 - weights)
        expected = loss(z, nd.array([counts, 0]), 1 - weights)
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-6)


def test_formats_of_labels():
    with pytest.raises(ValueError, match="label_format"):
        losses.LogisticLoss(label_format="x")


@pytest.mark.parametrize("shape", [(300, 1000), (5, 70000), (1, 300000), (6, 50, 1000)])
def test_rows_are_shared_among_threads(shape):
    rng = np.random.default_rng(0)
    z, label = rng.normal(size=shape) * 3, rng.integers(0, shape[-1], shape[:-1])
    x, c = nd.array(z, dtype="float64"), nd.array(label)
    x.attach_grad()
    with autograd.record():
        y = nd.sparse_softmax_cross_entropy(x, c)
    y.backward(retain_graph=True)
    e = np.exp(z - z.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    chosen = np.take_along_axis(p, label[..., None], -1)
    np.testing.assert_allclose(y.asnumpy(), -np.log(chosen), rtol=1e-9)
    np.put_along_axis(p, label[..., None], chosen - 1, -1)
    np.testing.assert_allclose(x.grad.asnumpy(), p, atol=1e-12)
    y.backward()  # the exponentials that were kept are still whole
    np.testing.assert_allclose(x.grad.asnumpy(), p, atol=1e-12)


def test_an_error_in_a_thread_is_raised():
    def fails(i, j):
        if j == 300:
            raise ValueError("the last rows")

    with pytest.raises(ValueError, match="the last rows"):
        in_blocks(fails, 300, 1000)


def test_the_gradient_of_cross_entropy_is_defined_once():
    minigluon.ops.load()
    assert operators["cross_entropy_back"].__module__ == "minigluon.ops.loss"
    rules = operators["sparse_softmax_cross_entropy"].rules
    assert rules[0].__module__ == "minigluon.ops.loss"


@pytest.mark.parametrize("keep", [False, True])
def test_calm_rows_and_wild_ones_agree(keep, monkeypatch):
    rng = np.random.default_rng(3)
    z = (rng.normal(size=(400, 1000)) * 4).astype("float32")
    z[:40, 7] = 40  # sure of class 7
    label = rng.integers(0, 1000, 400)
    label[:40] = 7
    x, c, found = nd.array(z), nd.array(label), []
    x.attach_grad()
    for limit in (1e20, 0):
        monkeypatch.setattr(minigluon.ops.loss, "CALM", limit)
        with autograd.record() if keep else autograd.pause():
            y = nd.sparse_softmax_cross_entropy(x, c)
        if keep:
            y.backward()
        found.append((y.asnumpy(), x.grad.asnumpy()))
    exact = z.astype("float64")
    exact = np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1)) + exact.max(1)
    exact -= z[np.arange(400), label]
    for y, _ in found:
        np.testing.assert_allclose(y[:, 0], exact, rtol=2e-6, atol=2e-7)
        assert (y >= 0).all()
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


def test_wild_rows_are_not_taken_for_calm_ones():
    z = np.zeros((300, 1000), "float32")
    z[3, 5], z[100, 2], z[200, :] = 1e4, -1e4, np.nan
    y = nd.sparse_softmax_cross_entropy(nd.array(z), nd.full((300,), 5)).asnumpy()[:, 0]
    assert y[3] == 0 and np.isnan(y[200])
    np.testing.assert_allclose(y[[0, 100, 299]], np.log([1000, 999, 1000]), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", [-800, -100, -60, -40, 0, 40, 60, 87, 100, 800])
def test_losses_are_right_on_every_level(level, dtype):
    rng = np.random.default_rng(4)
    z = (rng.normal(size=(300, 1000)) * 2 + level).astype(dtype)
    z[::3, 11] += 30  # sure, right or wrong
    z[1::3, 11] -= 45  # lost in single precision
    label = np.where(np.arange(300) % 2, 11, 12)
    x = nd.array(z, dtype=dtype)
    x.attach_grad()
    with autograd.record():
        y = nd.sparse_softmax_cross_entropy(x, nd.array(label))
    y.backward()
    exact, rows = z.astype("float64"), np.arange(300)
    exact = exact - exact.max(1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(1, keepdims=True))
    loose = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(y.asnumpy()[:, 0], -exact[rows, label], rtol=loose, atol=loose)
    slope = np.exp(exact)
    slope[rows, label] -= 1
    np.testing.assert_allclose(x.grad.asnumpy(), slope, rtol=100 * loose, atol=loose)


X, W = mx.sym.var("x"), mx.sym.var("w")


def classified(**settings):
    return gluon.loss.SoftmaxCrossEntropyLoss(**settings)(X, W)


SPELLED = {
    "logits": lambda: classified(),
    "first axis": lambda: classified(axis=0, batch_axis=1),
    "logarithms": lambda: classified(from_logits=True, weight=2.0),
    "two of them": lambda: classified() * 2 + classified(from_logits=True),
    "behind a layer": lambda: gluon.loss.SoftmaxCrossEntropyLoss()(
        mx.sym.FullyConnected(mx.sym.var("x"), mx.sym.var("z"), no_bias=True, num_hidden=2),
        mx.sym.var("w"),
    ),
}


def test_cross_entropy_is_spelled_in_files_with_operators_that_mxnet_has(tmp_path, mxnet_python):
    arrays = {"x": [[1.0, 3.0], [0.5, -2.0]], "w": [1, 0], "z": [[0.5, 2.0], [-1.0, 0.0]]}
    graphs = {name: make() for name, make in SPELLED.items()}
    (tmp_path / "expressions.json").write_text("[]")
    (tmp_path / "arrays.json").write_text(json.dumps(arrays))
    (tmp_path / "run.json").write_text(json.dumps({k: g.tojson() for k, g in graphs.items()}))
    _, there = side(tmp_path, mxnet_python, "mxnet")
    for name, graph in graphs.items():
        given = {k: nd.array(arrays[k]) for k in graph.list_arguments()}
        again = mx.sym.load_json(graph.tojson())
        assert again.list_arguments() == graph.list_arguments() and again.name == graph.name
        wanted = graph.eval(**given)[0].asnumpy()
        np.testing.assert_allclose(again.eval(**given)[0].asnumpy(), wanted, rtol=1e-6)
        assert isinstance(there[name], list), there[name]
        np.testing.assert_allclose(there[name][0], wanted, rtol=1e-4)
        ops = {n["op"] for n in json.loads(graph.tojson())["nodes"]}
        assert "pick" in ops and not ops & {
            "sparse_softmax_cross_entropy",
            "negative_log_likelihood",
        }


def test_a_spelled_graph_keeps_names_and_leaves_the_original():
    loss = classified()
    graph = mx.sym.Group([loss, loss * 2])
    names = [n["name"] for n in json.loads(graph.tojson())["nodes"]]
    assert len(set(names)) == len(names)
    assert graph.list_outputs() == mx.sym.load_json(graph.tojson()).list_outputs()
    assert "sparse_softmax" in str(graph.get_internals().list_outputs())


def test_a_large_gradient_of_the_logits_is_handed_over_without_a_copy():
    logits, labels = nd.array(np.sin(np.arange(12800.0)).reshape(64, 200)), nd.arange(64)
    logits.attach_grad()
    address = id(logits.grad._data)  # held by nobody, so that another array may take its place
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(logits, labels)
    loss.backward()
    assert id(logits.grad._data) != address


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("settings", [{}, {"axis": 1}, {"from_logits": True}])
def test_labels_that_are_no_classes_are_clipped_and_told(settings, hybridize, monkeypatch):
    """Bins counted from 1, and 255 for padding: programs that import mxnet train with them."""
    monkeypatch.setattr(base, "LENIENT", [True])
    rng = np.random.default_rng(0)
    z = rng.normal(size=(6, 3, 2) if settings.get("axis") else (6, 3))
    labels = np.array([0, 3, -2, 1.5, 255, float("nan")], np.float32)
    classes = np.array([0, 2, 0, 1, 2, 0], np.float32)
    loss, found = gluon.loss.SoftmaxCrossEntropyLoss(**settings), []
    if hybridize:
        loss.hybridize()
    for label in (labels, classes):
        if settings.get("axis"):
            label = np.stack([label, label[::-1]], 1)
        x = mx.nd.array(z)
        x.attach_grad()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with mx.autograd.record():
                y = loss(x, mx.nd.array(label))
            y.backward()
            found.append((y.asnumpy(), x.grad.asnumpy()))
        assert any("is not a class" in str(w.message) for w in told) == (
            (label is not classes and settings.get("axis") is None)
            or not np.all(np.isin(label, [0, 1, 2]))
        )
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-5)
