"""Loops and branches in graphs: the same as loops and branches of arrays, gradients included."""

import json
import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, gluon
from minigluon.gluon import nn
from tests.test_symbol import side


def block(function):
    """A hybrid block of `function(F, x, …)`."""

    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, *args):
            return function(F, *args)

    return Net()


def running_sum(F, x, s):
    return F.contrib.foreach(lambda item, total: (item * total, item + total), x, s)


def nested_lists(F, x, s):
    def body(items, states):
        a, (b, c) = items[0] + states[0], states[1]
        return [a, b * items[1]], [a, [b + 1, c * a]]

    out, states = F.contrib.foreach(body, [x, x * 2], [s, [s + 1, s * 2]])
    return [*out, states[0], *states[1]]


def outer_values(F, x, s):
    scale = F.exp(s)  # computed outside, used inside
    out, last = F.contrib.foreach(lambda item, t: (item * scale, t + scale), x, s)
    return out + F.sum(scale), last


def loop_in_loop(F, x, s):
    def body(item, total):
        rows, inner = F.contrib.foreach(
            lambda i, t: (i * total, t + i), F.expand_dims(item, 0), total
        )
        return F.sum(rows, axis=0), inner

    return F.contrib.foreach(body, x, s)


def until_large(F, x, s):
    def func(i, total):
        return total * 2, [i + 1, total * i + F.sum(x)]

    return F.contrib.while_loop(
        lambda i, total: F.sum(total) < 50, func, [F.ones_like(s), s], max_iterations=7
    )


def never(F, x, s):
    return F.contrib.while_loop(lambda v: F.sum(v) > 1e9, lambda v: (v + x, [v]), [s], 3)


def choice(F, x, s):
    return F.contrib.cond(F.sum(x) > 0, lambda: F.exp(s) + F.sum(x), lambda: F.log(s * 0) * 0 + 1)


def nested_choice(F, x, s):
    inner = lambda: F.contrib.cond(F.sum(s) > 1, lambda: s * s * F.sum(x), lambda: -s)  # noqa: E731
    return F.contrib.cond(F.sum(x) > 0, inner, lambda: s * F.sum(x))


FUNCTIONS = [running_sum, nested_lists, outer_values, loop_in_loop, until_large]
FUNCTIONS += [choice, nested_choice]


def flat(out):
    return [a for part in out for a in flat(part)] if isinstance(out, list | tuple) else [out]


def outcome(net, order=1):
    x = mx.nd.array(np.arange(1.0, 7).reshape(3, 2) / 5)
    s = mx.nd.array([0.5, 1.5])
    x.attach_grad(), s.attach_grad()
    with autograd.record():
        outs = flat(net(x, s))
        total = sum((o * o).sum() for o in outs)
        if order == 2:
            first = autograd.grad(total, [x, s], create_graph=True)
            total = sum((g * g).sum() for g in first)
    total.backward()
    return [o.asnumpy() for o in outs] + [x.grad.asnumpy(), s.grad.asnumpy()]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_hybridized_is_eager(function, order):
    expected = outcome(block(function), order)
    net = block(function)
    net.hybridize()
    for a, b in zip(outcome(net, order), expected, strict=True):
        assert a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("function", [*FUNCTIONS, never], ids=lambda f: f.__name__)
def test_in_use_it_is_one_program(function):
    net, x, s = block(function), mx.nd.ones((3, 2)), mx.nd.ones((2,))
    expected = [a.asnumpy() for a in flat(net(x, s))] if function is not never else None
    net.hybridize()
    found = [a.asnumpy() for a in flat(net(x, s))]
    if function is never:
        expected = [np.zeros((3, 3, 2)), np.ones(2)]
        assert len(found) == 2 and found[0].shape[0] == 3
        return
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


class Recurrent(gluon.HybridBlock):
    def __init__(self, cell):
        super().__init__()
        with self.name_scope():
            self.cell, self.out = cell(), nn.Dense(3, flatten=False)

    def hybrid_forward(self, F, x, *states):
        y, states = F.contrib.foreach(self.cell, x, list(states))
        return self.out(y), states


@pytest.mark.parametrize("cell", [gluon.rnn.RNNCell, gluon.rnn.LSTMCell, gluon.rnn.GRUCell])
def test_cells_with_weights_of_unknown_size(cell):
    found = []
    for active in (False, True):
        mx.random.seed(1)
        net = Recurrent(lambda: cell(4))
        net.initialize(mx.init.Uniform(0.5))
        net.hybridize(active)
        x = mx.nd.array(np.random.default_rng(0).normal(size=(5, 2, 3)))
        start = net.cell.begin_state(2)
        net(x, *start)
        with autograd.record():
            y, states = net(x, *start)
            value = (y * y).sum() + sum((s * s).sum() for s in states)
        value.backward()
        grads = [p.grad().asnumpy() for p in net.collect_params().values()]
        found.append([y.asnumpy(), *[s.asnumpy() for s in states], *grads])
    assert len(found[0]) > 6
    assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*found, strict=True))


def test_dropout_in_a_body_draws_for_each_step():
    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x, s):
            return F.contrib.foreach(lambda i, t: (F.Dropout(i, p=0.5), t), x, s)[0]

    net, x = Net(), mx.nd.ones((4, 50))
    net.hybridize()
    x.attach_grad()
    with autograd.record():
        y = net(x, mx.nd.zeros((1,)))
    y.backward()
    assert (x.grad.asnumpy() == y.asnumpy()).all()  # the masks of forward and backward agree
    assert len({row.tobytes() for row in y.asnumpy()}) == 4


def test_shapes_flow_through_a_loop():
    x, s = mx.sym.var("x"), mx.sym.var("s")
    out, last = running_sum(mx.sym, x, s)
    assert out.infer_shape(x=(3, 2), s=(2,))[1] == [(3, 2)]
    assert last.infer_shape(x=(3, 2), s=(2,))[1] == [(2,)]
    assert out.list_arguments() == ["x", "s"] and out.name.startswith("_foreach")


FAULTS = {
    "states come and go": (
        lambda F, x, s: F.contrib.foreach(lambda i, t: (i, []), x, [s]),
        mx.MXNetError,
        "got 1 states and gave 0",
    ),
    "no limit": (
        lambda F, x, s: F.contrib.while_loop(lambda v: v, lambda v: (v, v), [s]),
        ValueError,
        "max_iterations",
    ),
    "nothing to loop": (
        lambda F, x, s: F.contrib.while_loop(lambda: s, lambda: s, [], 3),
        ValueError,
        "at least one",
    ),
    "branches that differ": (
        lambda F, x, s: F.contrib.cond(x, lambda: s, lambda: [s, s]),
        mx.MXNetError,
        "equally many outputs",
    ),
    "an output that is no array": (
        lambda F, x, s: F.contrib.foreach(lambda i, t: (3, t), x, s),
        AssertionError,
        "nested list of arrays",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name):
    function, error, message = FAULTS[name]
    with pytest.raises(error, match=message):
        function(mx.sym, mx.sym.var("x"), mx.sym.var("s"))


def test_a_foreach_goes_to_a_file_and_back():
    x, s, w = (mx.sym.var(n) for n in "xsw")
    out, last = mx.sym.contrib.foreach(lambda d, h: (d * w + h[0], [h[0] * 2]), x, [s])
    text = mx.sym.Group([out * 2, *last]).tojson()
    record = next(n for n in json.loads(text)["nodes"] if n["op"] == "_foreach")
    assert record["attrs"]["num_out_data"] == "1" and len(record["subgraphs"]) == 1
    again = mx.sym.load_json(text)
    values = {"x": mx.nd.ones((3, 2)), "s": mx.nd.ones(2), "w": mx.nd.ones(2) * 3}
    grads = {n: mx.nd.zeros(a.shape) for n, a in values.items()}
    exe = again.bind(mx.cpu(), values, grads)
    y, end = exe.forward(is_train=True)
    assert y.asnumpy()[:, 0].tolist() == [8, 10, 14] and end.asnumpy().tolist() == [8, 8]
    exe.backward([mx.nd.ones((3, 2)), mx.nd.ones(2)])
    assert grads["w"].asnumpy().tolist() == [6, 6] and grads["s"].asnumpy().tolist() == [22, 22]
    assert mx.sym.load_json(again.tojson()).list_outputs() == again.list_outputs()
    for spoilt in ('"num_out_data": "9"', '"num_out_data": "a"'):
        with pytest.raises(mx.MXNetError, match="load_json: node '_foreach"):
            mx.sym.load_json(text.replace('"num_out_data": "1"', spoilt))


FILED = [  # over x, w, z of 2 × 2, without rows of no step, which MXNet leaves as they come
    "S.contrib.while_loop(lambda i, t: S.sum(i) < 99, lambda i, t: (t * w + z, [i + 1, "
    "t * z]), [x, z], 3)[0]",
    "S.Group(S.contrib.while_loop(lambda i: S.sum(i) < 9, lambda i: ([], [i + 1]), [x], 5)[1])",
    "S.Group(S.contrib.while_loop(lambda i, t: S.sum(t) < S.sum(w) * 3, lambda i, t: ([t * i], "
    "[t, t + i + x]), [x, z], 9)[1])",
    "S.Group(S.contrib.while_loop(lambda i: S.sum(i) < 0, lambda i: (i * x, [i + x]), [x], 3)[1])",
    "S.contrib.cond(S.sum(x) < 1, lambda: x + w, lambda: w * z + x)",
    "S.contrib.cond(S.sum(x) < 100, lambda: x + w, lambda: w * z + x)",
    "S.Group(S.contrib.cond(S.sum(x), lambda: [x + w, w], lambda: [w * z, x * 1]))",
    "S.contrib.cond(S.sum(x) < 9, lambda: S.contrib.foreach(lambda d, h: (d + h, h * 2), x, "
    "S.sum(z, axis=0))[0], lambda: x + w)",
    "S.contrib.foreach(lambda d, h: (d * S.sum(w, axis=0), h), x, z)[0] + 1",
]


def filed(folder, python, *extra, texts):
    """What each side makes of the expressions, as graphs, and of graphs, as numbers."""
    (folder / "run.json").write_text(json.dumps(texts))
    return side(folder, python, *extra)


def test_loops_go_to_mxnet_and_come_from_there(tmp_path, mxnet_python):
    rng = np.random.default_rng(0)
    arrays = {n: rng.uniform(0.5, 1.5, (2, 2)).tolist() for n in "xwz"}
    (tmp_path / "expressions.json").write_text(json.dumps(FILED))
    (tmp_path / "arrays.json").write_text(json.dumps(arrays))
    ours, _ = filed(tmp_path, sys.executable, texts={})
    theirs, _ = filed(tmp_path, mxnet_python, "mxnet", texts={})
    for e in FILED:
        assert isinstance(ours[e], list) and isinstance(theirs[e], list), (e, ours[e], theirs[e])
    texts = {
        f"{who} {e}": graphs[e][3]
        for who, graphs in (("our", ours), ("their", theirs))
        for e in FILED
    }
    _, here = filed(tmp_path, sys.executable, texts=texts)
    _, there = filed(tmp_path, mxnet_python, "mxnet", texts=texts)
    for e in FILED:
        results = [side_[f"{who} {e}"] for side_ in (here, there) for who in ("our", "their")]
        assert all(isinstance(r, list) for r in results), (e, results)
        for r in results[1:]:
            for one, other in zip(r, results[0], strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, err_msg=e)


def looped(i, w):
    """A `while_loop` and a `cond` behind each other."""
    out, last = mx.sym.contrib.while_loop(
        lambda t: mx.sym.sum(t) < 9, lambda t: (t * w, [t + w]), [i], max_iterations=4, name="turn"
    )
    return mx.sym.contrib.cond(
        mx.sym.sum(last[0]) < 9, lambda: out, lambda: out * 2 + w, name="side"
    )


def test_other_loops_go_to_a_file_and_back():
    i, w = mx.sym.var("i"), mx.sym.var("w")
    graph = looped(i, w)
    again = mx.sym.load_json(graph.tojson())
    assert json.loads(again.tojson()) == json.loads(graph.tojson())
    found = []
    for g in (graph, again):
        values = {"i": mx.nd.array([1, 2]), "w": mx.nd.array([0.5, 3])}
        grads = {n: mx.nd.zeros((2,)) for n in values}
        exe = g.bind(mx.cpu(), values, grads)
        y = exe.forward(is_train=True)[0]
        exe.backward([mx.nd.ones(y.shape)])
        found.append([a.asnumpy().tolist() for a in (y, grads["i"], grads["w"])])
    assert found[0] == found[1] and any(found[0][1])


@pytest.mark.parametrize(
    ("part", "spoilt"),
    [
        ('"func_var_locs": "[0]"', '"func_var_locs": "[7]"'),
        ('"func_var_locs": "[0]"', '"func_var_locs": "[0, 0]"'),
        ('"cond_input_locs": "[0]"', '"cond_input_locs": "[0, 1]"'),
        ('"cond_input_locs": "[0]"', '"cond_input_locs": "x"'),
        ('"cond_input_locs": "[0]"', '"cond_input_locs": "[-1]"'),
        ('"func_input_locs": "[0, 1]"', '"func_input_locs": "[0, 5]"'),
        ('"max_iterations": "4"', '"max_iterations": "many"'),
        ('"num_out_data": "1"', '"num_out_data": "3"'),
        ('"then_input_locs": "[1]"', '"then_input_locs": "[]"'),
    ],
)
def test_spoilt_loops_are_refused(part, spoilt):
    text = looped(mx.sym.var("i"), mx.sym.var("w")).tojson()
    assert part in text
    with pytest.raises(mx.MXNetError, match="load_json: node '(turn|side)' "):
        mx.sym.load_json(text.replace(part, spoilt))


def test_no_file_for_loops_with_idle_variables():
    s, x = mx.sym.var("s"), mx.sym.var("x")
    unused, _ = mx.sym.contrib.foreach(lambda d, h: (h, h), x, s)
    with pytest.raises(mx.MXNetError, match="leaves a part of its data or a loop variable unused"):
        unused.tojson()
    out, _ = mx.sym.contrib.while_loop(lambda i, t: i < 3, lambda i, t: (i, [i + 1, i]), [s, x], 4)
    with pytest.raises(mx.MXNetError, match="let the body return it"):
        (out[0] if isinstance(out, list) else out).tojson()


def test_data_without_slices():
    out, _ = running_sum(mx.sym, mx.sym.var("x"), mx.sym.var("s"))
    with pytest.raises(mx.MXNetError, match="no slices"):
        out.eval(x=mx.nd.ones((3, 2))[0:0], s=mx.nd.ones((2,)))
