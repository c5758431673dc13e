"""Hybridized blocks: the same numbers, cached programs, export and SymbolBlock, and what is refused."""

import copy
import json
import pickle
import subprocess

import numpy as np
import pytest

import minigluon as mx
from minigluon import autograd, gluon
from minigluon.base import MXNetError
from minigluon.gluon import nn
from minigluon.gluon.hybrid import SymbolBlock


def perceptron(prefix="net_", **settings):
    net = nn.HybridSequential(prefix=prefix)
    with net.name_scope():
        net.add(
            nn.Dense(8, activation="relu", **settings), nn.Dense(4, activation="tanh"), nn.Flatten()
        )
        net.add(nn.Dense(3, use_bias=False))
    net.initialize(mx.init.Xavier())
    return net


def trained(net, active, steps=20):
    rng = np.random.default_rng(0)
    net.hybridize(active)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    loss.hybridize(active)
    found = []
    for _ in range(steps):
        x = mx.nd.array(rng.normal(size=(6, 5)))
        label = mx.nd.array(rng.integers(0, 3, 6))
        with autograd.record():
            value = loss(net(x), label)
        value.backward()
        trainer.step(6)
        found.append(value.asnumpy())
    return np.stack(found), [p.data().asnumpy() for p in net.collect_params().values()]


def test_training_is_the_same_with_and_without():
    mx.random.seed(3)
    plain = trained(perceptron("a_"), False)
    mx.random.seed(3)
    active = trained(perceptron("b_"), True)
    np.testing.assert_allclose(active[0], plain[0], rtol=1e-5)
    for a, b in zip(active[1], plain[1]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_program_a_shape_and_mode():
    net = perceptron()
    net.hybridize()
    for n in (2, 2, 3):
        net(mx.nd.ones((n, 5)))
    graphs = net._programs.graphs
    assert [len(g.programs) for g in graphs.values()] == [2]
    with autograd.record():
        net(mx.nd.ones((2, 5)))
    with autograd.train_mode():
        net(mx.nd.ones((2, 5)))
    assert sorted(len(g.programs) for g in net._programs.graphs.values()) == [2, 2]
    net.cast("float64")
    assert net(mx.nd.ones((2, 5), dtype="float64")).dtype is np.float64
    net.hybridize(False)
    assert net._programs is None and net(mx.nd.ones((2, 5), dtype="float64")).shape == (2, 3)


def test_only_wanted_gradients():
    net = perceptron()
    net.hybridize()
    net.collect_params("net_dense0.*").setattr("grad_req", "null")
    x = mx.nd.ones((2, 5))
    with autograd.record():
        y = net(x)
    y.backward()
    assert net[1].weight.grad().asnumpy().any()
    listing = next(iter(net._programs.latest.programs.values())).listing
    assert "return (None, None, None, " in listing


def test_nested_arguments_and_none():
    class Step(gluon.HybridBlock):
        def hybrid_forward(self, F, x, states, mask=None):
            y = x + states[0] * states[1][0]
            y = y if mask is None else y * mask
            return y, [states[0], [y * 2]]

    step, x = Step(), mx.nd.array([1.0, 2.0])
    for args in ([x, [x, [x]]], [x, [x, [x]], x], [x, [x, [x]], None]):
        step.hybridize(False)
        eager = step(*args)
        step.hybridize()
        compiled = step(*args)
        assert (compiled[0].asnumpy() == eager[0].asnumpy()).all()
        assert (compiled[1][1][0].asnumpy() == eager[1][1][0].asnumpy()).all()
    with pytest.raises(ValueError, match="nested"):
        step(x, [x, ["x"]])


def test_several_outputs_of_one_call():
    class Halves(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return F.split(x, num_outputs=2)

    halves, x = Halves(), mx.nd.array([[1, 2, 3, 4]])
    halves.hybridize()
    assert [p.asnumpy().tolist() for p in halves(x)] == [[[1, 2]], [[3, 4]]]


def test_second_order_through_a_hybridized_network():
    def penalty(active):
        mx.random.seed(1)
        net = perceptron(f"n{active}_")
        net.hybridize(active)
        x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 5)))
        x.attach_grad()
        with autograd.record():
            y = net(x)
            g = autograd.grad(y, x, create_graph=True)[0]
            z = (g * g).sum()
        z.backward()
        return net[0].weight.grad().asnumpy()

    np.testing.assert_allclose(penalty(True), penalty(False), rtol=1e-5, atol=1e-7)


def test_shared_parameters_and_constants():
    class Tied(gluon.HybridBlock):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            with self.name_scope():
                self.a = nn.Dense(3, in_units=3, use_bias=False)
                self.b = nn.Dense(3, in_units=3, use_bias=False, params=self.a.params)
                self.c = self.params.get_constant("c", mx.nd.array([1, 2, 3]))

        def hybrid_forward(self, F, x, c):
            return self.b(self.a(x)) * F.reshape(c, shape=(1, 3))

    def gradient(active):
        mx.random.seed(2)
        net = Tied()
        net.initialize()
        net.hybridize(active)
        with autograd.record():
            y = net(mx.nd.ones((2, 3)))
        y.backward()
        return net.a.weight.grad().asnumpy()

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-6)


def test_an_active_block_inside_an_eager_one():
    outer = nn.Sequential()
    outer.add(nn.HybridSequential(), nn.Sequential())
    outer[0].add(nn.Dense(2))
    outer.initialize()
    outer.hybridize()
    assert outer(mx.nd.ones((1, 3))).shape == (1, 2)
    assert outer[0]._programs is not None


def test_hooks_of_children_run_on_the_trace_alone():
    net, seen = perceptron(), []
    net[0].register_forward_hook(lambda block, x, y: seen.append(type(y).__name__))
    net.hybridize()
    for _ in range(3):
        net(mx.nd.ones((2, 5)))
    assert seen.count("Symbol") == 1 and "NDArray" not in seen


# --- What is refused ------------------------------------------------------------------------------


def test_branching_on_values_names_the_line():
    class Bad(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            if x.sum() > 0:  # here
                return x
            return -x

    bad = Bad()
    bad.hybridize()
    with pytest.raises(MXNetError, match="not implemented for Symbol") as caught:
        bad(mx.nd.ones(2))
    assert (
        "# here" in caught.value.__notes__[0]
        and "test_hybrid_block.py" in caught.value.__notes__[0]
    )


def test_wrong_shapes_name_the_call():
    net = perceptron()
    net.hybridize()
    net(mx.nd.ones((2, 5)))
    with pytest.raises(MXNetError, match=r"in FullyConnected\(data: float32\[2, 6\]"):
        net(mx.nd.ones((2, 6)))


def test_export_needs_a_run():
    with pytest.raises(RuntimeError, match="call block.hybridize"):
        perceptron().export("nowhere")


# --- Files ----------------------------------------------------------------------------------------


def test_export_and_import(tmp_path):
    net, x = perceptron(), mx.nd.array(np.random.default_rng(0).normal(size=(2, 5)))
    net.hybridize()
    expected = net(x).asnumpy()
    net.export(str(tmp_path / "net"), epoch=7)
    files = [str(tmp_path / name) for name in ("net-symbol.json", "net-0007.params")]
    again = SymbolBlock.imports(files[0], ["data"], files[1])
    assert (again(x).asnumpy() == expected).all()
    assert repr(again) == "SymbolBlock(\n<Symbol net_dense2_fwd> : 1 -> 1\n)"
    assert set(again.collect_params()) == set(net.collect_params())
    with autograd.record():
        y = again(x)
    y.backward()
    graph = mx.sym.load(files[0])
    inner = graph.get_internals()["net_dense0_relu_fwd_output"]
    features = SymbolBlock([graph, inner], mx.sym.var("data"), params=net.collect_params())
    assert [o.shape for o in features(x)] == [(2, 3), (2, 8)]
    with pytest.raises(AssertionError, match="Parameter 'data' is missing"):
        SymbolBlock.imports(files[0], ["nosuch"], files[1])
    with pytest.raises(RuntimeError, match="has not been initialized"):
        SymbolBlock.imports(files[0], "data")(x)


def test_the_parameters_of_a_graph_come_before_its_states():
    data = mx.sym.var("data")
    norm = mx.sym.BatchNorm(
        mx.sym.Convolution(data, num_filter=2, kernel=(1, 1), name="a"), name="b"
    )
    block = SymbolBlock(mx.sym.FullyConnected(norm, num_hidden=3, name="c"), data)
    names = [
        "a_weight",
        "a_bias",
        "b_gamma",
        "b_beta",
        "c_weight",
        "c_bias",
        "b_moving_mean",
        "b_moving_var",
    ]
    assert [*block.collect_params()] == names


def test_files_leave_out_casts_between_operators(tmp_path):
    a, b = mx.sym.var("a"), mx.sym.var("b")
    both = mx.sym.amp_multicast(a, b, num_outputs=2)
    s = mx.sym.amp_cast(
        mx.sym.relu(mx.sym.amp_cast(both[0] + both[1], dtype="float16")), dtype="float32"
    )

    def operators(text):
        return [node["op"] for node in json.loads(text)["nodes"] if node["op"] != "null"]

    whole = ["amp_multicast", "elemwise_add", "amp_cast", "relu", "amp_cast"]
    assert operators(s.tojson()) == ["elemwise_add", "relu", "amp_cast"]  # an output stays
    assert (
        operators(s.tojson(remove_amp_cast=False))
        == whole
        == operators(pickle.loads(pickle.dumps(s)).tojson(False))
    )
    for given, want in (
        ({}, ["elemwise_add", "relu", "amp_cast"]),
        ({"remove_amp_cast": False}, whole),
    ):
        s.save(str(tmp_path / "s.json"), **given)
        assert operators((tmp_path / "s.json").read_text()) == want

    class Cast(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return F.relu(F.amp_cast(x, dtype="float16"))

    block = Cast()
    block.hybridize()
    block(mx.nd.ones((2,)))
    for given, want in (((), ["relu"]), ((0, False), ["amp_cast", "relu"])):
        block.export(str(tmp_path / "b"), *given)
        assert operators((tmp_path / "b-symbol.json").read_text()) == want


def test_symbols_in_the_scope_of_a_block_get_its_prefix():
    for prefix, begins in (("net_", "net_"), ("", "")):
        block = nn.HybridSequential(prefix=prefix)
        for _ in range(2):  # each time the numbers begin anew
            with block.name_scope(), mx.name.NameManager() if not prefix else block.name_scope():
                y = mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=3, name="fc")
                assert y.list_arguments() == ["x", f"{begins}fc_weight", f"{begins}fc_bias"]
                assert mx.sym.relu(y).name == f"{begins}relu0"
    assert mx.sym.relu(y, name="out").name == "out"


def test_a_function_of_symbols_is_one_object():
    assert mx.sym.contrib.SyncBatchNorm is mx.symbol.contrib.SyncBatchNorm
    assert (
        mx.sym.relu is mx.sym.relu
        and mx.sym.relu is mx.sym.op.relu
        and mx.sym.relu is not mx.sym.tanh
    )


def test_a_graph_without_shapes_learns_them(tmp_path):
    s = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="f")
    block = SymbolBlock(mx.sym.tanh(s), mx.sym.var("data"))
    block.initialize()
    assert block(mx.nd.ones((2, 4))).shape == (2, 3)
    assert block.params["f_weight"].shape == (3, 4)


MXNET = """
import sys
import numpy as np
np.bool = bool
import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn
folder = sys.argv[1]
x = mx.nd.array(np.load(folder + "/x.npy"))
ours = gluon.SymbolBlock.imports(folder + "/ours-symbol.json", ["data"], folder + "/ours-0000.params")
np.save(folder + "/ours.npy", ours(x).asnumpy())
net = nn.HybridSequential(prefix="net_")
with net.name_scope():
    net.add(nn.Dense(8, activation="relu"), nn.Dense(4, activation="tanh"), nn.Flatten())
    net.add(nn.Dense(3, use_bias=False))
net.initialize(mx.init.Xavier())
net.hybridize()
np.save(folder + "/theirs.npy", net(x).asnumpy())
net.export(folder + "/theirs")
"""


def test_exports_cross_over_to_mxnet_and_back(tmp_path, mxnet_python):
    net, x = perceptron(), np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
    net.hybridize()
    expected = net(mx.nd.array(x)).asnumpy()
    np.save(tmp_path / "x.npy", x)
    net.export(str(tmp_path / "ours"))
    subprocess.run([mxnet_python, "-c", MXNET, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "ours.npy"), expected, rtol=1e-5)
    files = [str(tmp_path / f"theirs{end}") for end in ("-symbol.json", "-0000.params")]
    block = SymbolBlock.imports(files[0], ["data"], files[1])
    found = block(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(found, np.load(tmp_path / "theirs.npy"), rtol=1e-5)
    names = [
        [n["name"] for n in json.loads((tmp_path / f"{who}-symbol.json").read_text())["nodes"]]
        for who in ("ours", "theirs")
    ]
    assert names[0] == names[1]


# --- What may be passed ---------------------------------------------------------------------------


class Either(gluon.HybridBlock):
    def hybrid_forward(self, F, a, b=None):
        return a if b is None else b if a is None else a + b


def either():
    block = Either()
    block.hybridize()
    return block


ONE = mx.nd.ones((2,))


@pytest.mark.parametrize("args", [(None, ONE), (ONE, None), (ONE, ONE), (ONE,)])
def test_none_is_an_argument(args):
    expected = Either()(*args).asnumpy()
    assert (either()(*args).asnumpy() == expected).all()


def test_nones_at_the_end_stand_for_defaults():
    block = either()
    assert (block(ONE, None).asnumpy() == block(ONE).asnumpy()).all()
    with pytest.raises(ValueError, match="does not match the cached version"):
        block(ONE, ONE)


@pytest.mark.parametrize(
    "args, message",
    [
        ((ONE, mx.sym.var("s")), "mixed NDArrays and Symbols"),
        ((mx.sym.var("s"), ONE), "mixed NDArrays and Symbols"),
        ((1, 2), "one NDArray or one Symbol"),
        ((ONE, "b"), r"nested\) list of Symbol or NDArray"),
    ],
)
def test_what_cannot_be_passed(args, message):
    with pytest.raises(ValueError, match=message):
        either()(*args)


def test_lists_of_arrays_without_hybridize():
    class Sum(gluon.HybridBlock):
        def hybrid_forward(self, F, parts, more):
            return sum(parts) + more

    assert Sum()([ONE, ONE], ONE).asnumpy().tolist() == [3, 3]


def test_parameters_of_a_graph_take_its_type():
    f = mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=2, name="f")
    block = gluon.SymbolBlock(f, mx.sym.var("x", dtype="float64"))
    assert block.collect_params()["f_weight"].dtype == np.float64


def test_inputs_of_a_graph_are_variables():
    f = mx.sym.exp(mx.sym.var("x"), name="f")
    with pytest.raises(AssertionError, match="must be variable, but f is"):
        gluon.SymbolBlock(f, f)


def test_imports_may_miss_and_ignore(tmp_path):
    f = mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=2, name="f")
    f.save(str(tmp_path / "f.json"))
    mx.nd.save(str(tmp_path / "f.params"), {"arg:f_weight": mx.nd.ones((2, 3)), "arg:z": ONE})
    files = str(tmp_path / "f.json"), "x", str(tmp_path / "f.params")
    for allowed in ({}, {"allow_missing": True}, {"ignore_extra": True}):
        with pytest.raises(AssertionError, match="is missing|is not a parameter"):
            SymbolBlock.imports(*files, **allowed)
    block = SymbolBlock.imports(*files, allow_missing=True, ignore_extra=True)
    assert block.collect_params()["f_weight"].data().asnumpy().sum() == 6
    block.collect_params()["f_bias"].initialize()
    block.reset_ctx(mx.cpu(1))
    assert block.collect_params()["f_weight"].list_ctx() == [mx.cpu(1)]


def test_an_embedding_knows_its_size():
    e = mx.sym.Embedding(mx.sym.var("x"), input_dim=10, output_dim=5, name="e")
    assert e.infer_shape(x=(3, 7)) == ([(3, 7), (10, 5)], [(3, 7, 5)], [])


def square_dense(hybrid):
    """A layer with a weight of 64 x 64, and a batch of 64."""
    net = nn.Dense(64, in_units=64)
    net.initialize(mx.init.Normal(0.1))
    rng = np.random.default_rng(0)
    net.weight.set_data(mx.nd.array(rng.normal(size=(64, 64))))
    net.hybridize(hybrid)
    return net, mx.nd.array(rng.normal(size=(64, 64)))


def passes(hybrid):
    """Gradients of the weight where somebody else has, or has not, a hand on their memory."""
    net, x = square_dense(hybrid)
    w, found = net.weight.data(), []

    def step(head=None, times=1):
        with autograd.record():
            y = sum(net(x) * 1.0 for _ in range(times)) if times > 1 else net(x)
        y.backward(head)
        found.append(w.grad.asnumpy())

    step()
    step(w.grad)  # the memory to write to is the gradient to start from
    held = w.grad.detach()
    step()
    assert (held.asnumpy() == found[-1]).all()  # it shares memory, as in MXNet
    step(times=2)  # two calls of one program give to one gradient
    net.weight.grad_req = "add"
    step(), step()
    with autograd.record():
        y = net(x)
    before = w.grad.asnumpy()
    autograd.grad([y], [w])
    assert (w.grad.asnumpy() == before).all()
    return found


def test_gradients_written_in_place_are_those_of_eager_mode():
    for compiled, eager in zip(passes(True), passes(False)):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-4)


def test_a_program_writes_into_the_gradients_own_memory():
    net, x = square_dense(True)
    memory = set()
    for _ in range(3):
        with autograd.record():
            y = net(x)
        y.backward()
        memory.add(net.weight.grad()._data.ctypes.data)
    assert len(memory) == 1


def test_a_block_that_changes_inside_writes_its_program_anew():
    class Flips(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return x * 2 if self.twice else x

    block, x = Flips(), mx.nd.ones((2,))
    block.twice = True
    block.hybridize()
    assert block._cached_graph == () and block(x).asnumpy().tolist() == [2, 2]
    block.twice = False
    assert block(x).asnumpy().tolist() == [2, 2]  # what was written stands
    inputs, graph = block._cached_graph
    assert [s.name for s in inputs] == ["data"] and graph.list_arguments() == ["data"]
    block._clear_cached_op()
    assert block._cached_graph == () and block(x).asnumpy().tolist() == [1, 1]


def test_a_recurrent_layer_forgets_the_programs_of_both_kinds_of_calls():
    layer, x = gluon.rnn.GRU(3), mx.nd.ones((2, 1, 4))
    layer.initialize()
    layer.hybridize()
    layer(x), layer(x, layer.begin_state(1))
    assert len(layer._by_kind) == 2
    layer._clear_cached_op()
    assert not layer._by_kind and layer._programs is None


def network_around_a_graph():
    class Around(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                dense = mx.gluon.nn.Dense(3)
                out = dense(mx.sym.var("data"))
                self.body = mx.gluon.nn.Dense(5)
                self.top = SymbolBlock(
                    [mx.sym.relu(out), mx.sym.tanh(out)], mx.sym.var("data"), dense.collect_params()
                )

        def hybrid_forward(self, F, x):
            return F.add_n(*self.top(self.body(x)))

    return Around()


def test_a_graph_inside_of_a_network_waits_for_its_shapes(tmp_path):
    x, file = mx.nd.ones((2, 4)), str(tmp_path / "p")
    for active in (True, False):
        net = network_around_a_graph()
        net.initialize()
        net.hybridize(active)
        y = net(x)
        net.save_parameters(file)
        assert {*mx.nd.load(file)} == {"body.weight", "body.bias", "top.weight", "top.bias"}
        again = network_around_a_graph()  # all of whose names have other numbers
        again.load_parameters(file)
        assert (again(x) == y).asnumpy().all()


def test_graphs_with_sparse_variables_are_no_blocks():
    weight = mx.sym.var("weight", stype="row_sparse")
    with pytest.raises(AssertionError, match="row_sparse"):
        SymbolBlock(mx.sym.dot(mx.sym.var("data"), weight), mx.sym.var("data"))


def test_a_graph_before_the_first_call():
    net = mx.gluon.nn.Dense(3, in_units=2, prefix="fc_")
    net.initialize()
    inputs, out = net._get_graph(mx.nd.ones((4, 2)))
    assert [s.name for s in inputs] == ["data"]
    assert out.list_arguments() == ["data", "fc_weight", "fc_bias"]
    x = mx.nd.ones((4, 2))
    assert (net._call_cached_op(x) == net(x)).asnumpy().all()
    net.hybridize()
    assert net._cached_graph == () and net(x).shape == (4, 3) and len(net._cached_graph) == 2


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("head", ["program", "sum"])
def test_a_program_may_be_the_last_of_the_tape(static, head):
    net, x = perceptron(), mx.nd.ones((2, 5))
    net.hybridize(static_alloc=static)
    for _ in range(2):
        with autograd.record():
            y = net(x)
            y = y.sum() if head == "sum" else y
        y.backward()
    found = [p.grad().asnumpy() for p in net.collect_params().values()]
    net.hybridize(False)
    with autograd.record():
        y = net(x)
        y = y.sum() if head == "sum" else y
    y.backward()
    for a, p in zip(found, net.collect_params().values()):
        np.testing.assert_allclose(a, p.grad().asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("make", [perceptron, lambda: gluon.rnn.LSTM(4, 2), lambda: nn.Dense(3)])
@pytest.mark.parametrize("active", [False, True])
def test_a_copy_of_a_net_that_has_run_learns_alone(way, make, active):
    net, x = make(), mx.nd.ones((2, 3, 5))
    net.initialize(force_reinit=True)
    net.hybridize(active, **({"static_alloc": True} if active else {}))
    with autograd.record():
        net(x).sum().backward()
    before, twin = net(x).asnumpy(), way(net)
    np.testing.assert_array_equal(twin(x).asnumpy(), before)
    trainer = gluon.Trainer(twin.collect_params(), "sgd", {"learning_rate": 1})
    with autograd.record():
        loss = twin(x).sum()
    loss.backward()
    trainer.step(1)
    np.testing.assert_array_equal(net(x).asnumpy(), before)
    assert abs(twin(x).asnumpy() - before).max() > 1e-3


class Typed(gluon.HybridBlock):
    """Asks what it is given, as libraries of distributions do, before it has seen a shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = nn.Dense(3)

    def hybrid_forward(self, F, x):
        assert isinstance(x, mx.nd.NDArray if F is mx.nd else mx.sym.Symbol)
        y = self.dense(x)
        return F.broadcast_mul(y.astype("float32"), F.ones((1, 3)))


class Shaped(gluon.HybridBlock):
    """Reads a shape, so it cannot be traced; its own parameter still learns its size."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.w = self.params.get("w", shape=(2, 0), allow_deferred_init=True)

    def hybrid_forward(self, F, x, w):
        return F.FullyConnected(x, w, num_hidden=w.shape[0], no_bias=True)


@pytest.mark.parametrize("hybridize", [False, True])
def test_shapes_are_learnt_from_a_graph(hybridize):
    net = Typed()
    net.initialize()
    if hybridize:
        net.hybridize()
    assert net(mx.nd.ones((2, 5))).shape == (2, 3) and net.dense.weight.shape == (3, 5)
    shaped = Shaped()
    shaped.initialize()
    assert shaped(mx.nd.ones((2, 5))).shape == (2, 2) and shaped.w.shape == (2, 5)


class Open(gluon.HybridBlock):
    """States for batches of any size, and a choice between them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.cell = mx.gluon.rnn.LSTMCell(4, input_size=3)

    def hybrid_forward(self, F, x, mask):
        start = self.cell.begin_state(batch_size=0, func=F.zeros) if F is mx.sym else None
        if start is None:
            start = self.cell.begin_state(batch_size=x.shape[0], func=F.zeros)
        y, states = self.cell(x, [F.where(mask, s, s) for s in start])
        return y, [F.where(mask, s, b) for s, b in zip(states, start)]


@pytest.mark.parametrize("static", [False, True])
def test_sizes_left_open_are_those_of_the_batch(static):
    net = Open()
    net.initialize()
    rng = np.random.default_rng(1)
    for size in (2, 5, 2):
        x = mx.nd.array(rng.normal(size=(size, 3)))
        mask = mx.nd.array(rng.integers(0, 2, size=(size, 4)))
        net.hybridize(False)
        expected, (h, c) = net(x, mask)
        net.hybridize(static_alloc=static, static_shape=static)
        found, (g, d) = net(x, mask)
        for a, b in ((expected, found), (h, g), (c, d)):
            np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-5)


class Nested(gluon.HybridBlock):
    def hybrid_forward(self, F, x, pair):
        return [x + pair[0], [pair[1] * 2, None, x]]


def test_the_form_of_a_call_is_kept_for_files(tmp_path):
    net = Nested()
    assert net._in_format is None and net._out_format is None
    net.hybridize()
    x, y, z = (mx.nd.array([i]) for i in range(3))
    net(x, [y, z])
    assert net._in_format == [0, [0, 0]] and net._out_format == [0, [0, -1, 0]]
    net.export(str(tmp_path / "net"))

    def imported():
        names = ["data0", "data1", "data2"]
        return mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), names)

    flat = imported()
    assert flat._in_format == [0, 0, 0] and flat._out_format == 3
    assert [a.asscalar() for a in flat(x, y, z)] == [1, 4, 0]
    block = imported()
    block._in_format, block._out_format = net._in_format, net._out_format
    first, (second, nothing, third) = block(x, [y, z])
    assert [first.asscalar(), second.asscalar(), nothing, third.asscalar()] == [1, 4, None, 0]


class Drawn(gluon.HybridBlock):
    """A distribution whose parameter zeros cannot be, and an operator with a hidden output after it."""

    def hybrid_forward(self, F, x):
        return F.Dropout(F.random.gamma(x, x) * 0 + x, p=0.5)


def test_what_zeros_cannot_be_is_outlined_with_ones():
    net = Drawn()
    net.hybridize()
    assert net(mx.nd.ones((2, 3))).asnumpy().tolist() == [[1, 1, 1]] * 2


def test_blocks_outside_all_scopes_are_counted_by_the_manager_of_names():
    with mx.name.NameManager():
        first, node = nn.Dense(2), mx.sym.relu(mx.sym.var("data"))
        assert first.prefix == "dense0_" and node.name == "relu0"
        with mx.name.NameManager():
            assert nn.Dense(2).prefix == "dense0_"
        assert nn.Dense(2).prefix == "dense1_"
        assert nn.Activation("relu").prefix == "relu1_"  # nodes and blocks share the counter
        with mx.name.Prefix("left_"):
            net = nn.HybridSequential()
            assert (
                net.prefix == "left_hybridsequential0_" and nn.Dense(2, prefix="q_").prefix == "q_"
            )
            with net.name_scope():
                net.add(nn.Dense(2))
        assert [*net.collect_params()][0] == "left_hybridsequential0_dense0_weight"


def test_nodes_that_are_made_in_a_name_scope_get_its_prefix():
    with mx.name.NameManager():
        net, data = nn.HybridSequential(prefix="net_"), mx.sym.var("data")
        for _ in range(2):  # each time from 0, as in MXNet
            with net.name_scope():
                assert mx.sym.relu(data).name == "net_relu0"
                with nn.HybridSequential(prefix="").name_scope():
                    assert mx.sym.relu(data).name == "net_relu1"
        assert mx.sym.relu(data).name == "relu0"


class Constants(gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        half = np.float64(0.5)
        return x + half, half * x, x / half, x**half, F.maximum(x, half), x > half, x + np.int64(2)


def test_numbers_of_numpy_do_not_widen_arrays():
    """NumPy 2 makes float64 of a float32 array and one of its own float64 numbers;
    MXNet knows numbers alone.
    """
    net, x = Constants(), mx.nd.array([0.25, 2])
    expected = net(x)
    net.hybridize()
    for a, b in zip(expected, net(x)):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def listing_of(net):
    """The text of the program that ran last."""
    return list(net._programs.latest.programs.values())[-1].listing


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("groups, side", [(1, 24), (4, 24), (1, 2)])
def test_normalization_scales_the_filters_before_it(bias, scale, groups, side):
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, padding=1, groups=groups, use_bias=bias, in_channels=4))
    net.add(nn.BatchNorm(scale=scale, in_channels=8), nn.Activation("relu"))
    net.initialize(mx.init.Normal(1))
    for parameter in net.collect_params().values():
        parameter.set_data(mx.nd.random.uniform(0.5, 2, shape=parameter.shape))
    x = mx.nd.random.normal(shape=(2, 4, side, side))
    plain = net(x).asnumpy()
    with mx.autograd.train_mode():
        training = net(x).asnumpy()
    net.hybridize()
    np.testing.assert_allclose(net(x).asnumpy(), plain, rtol=1e-5, atol=1e-5)
    assert "normalized_convolution(" in listing_of(net) and "BatchNorm(" not in listing_of(net)
    with mx.autograd.train_mode():  # the same program, but with the batch's own statistics
        np.testing.assert_allclose(net(x).asnumpy(), training, rtol=1e-5, atol=1e-5)
    with mx.autograd.record():
        y = net(x)
    np.testing.assert_allclose(y.asnumpy(), training, rtol=1e-5, atol=1e-5)


class Branches(mx.gluon.HybridBlock):
    """A convolution, of which `function` reads more than its normalization."""

    def __init__(self, function, **settings):
        super().__init__()
        self.function = function
        self.conv, self.norm = nn.Conv2D(6, 1, in_channels=3), nn.BatchNorm(**settings)

    def hybrid_forward(self, F, x):
        y = self.conv(x)
        return self.function(y, self.norm(y))


@pytest.mark.parametrize(
    "function, settings",
    [
        (lambda y, z: z + y, {}),
        (lambda y, z: (y, z), {}),
        (lambda y, z: z, {"axis": 2}),
    ],
)
def test_what_others_read_is_not_merged(function, settings):
    net = Branches(function, **settings)
    net.initialize()
    x = mx.nd.random.normal(shape=(2, 3, 6, 5))
    plain = net(x)
    net.hybridize()
    several = isinstance(plain, list | tuple)
    for a, b in zip(plain if several else [plain], net(x) if several else [net(x)]):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-5, atol=1e-6)
    assert "BatchNorm(" in listing_of(net) and "normalized_convolution(" not in listing_of(net)


def test_layers_of_channels_last_and_chains_are_merged_or_left():
    mx.random.seed(1)
    net = nn.HybridSequential()
    for layout, axis in (("NCHW", 1), ("NHWC", 3)):
        net.add(nn.Conv2D(4, 3, padding=1, layout=layout), nn.BatchNorm(axis=axis))
    net.add(nn.Conv2D(4, 3, layout="NCHW"), nn.BatchNorm(), nn.BatchNorm())
    net.initialize(mx.init.Normal(1))
    x = mx.nd.random.normal(shape=(2, 8, 8, 8))
    plain = net(x).asnumpy()
    net.hybridize()
    np.testing.assert_allclose(net(x).asnumpy(), plain, rtol=1e-4, atol=1e-4)
    assert listing_of(net).count("normalized_convolution(") == 2
    assert listing_of(net).count("BatchNorm(") == 2


MIXTURES = [
    lambda F, x, y: x + y,
    lambda F, x, y: F.dot(x, y),
    lambda F, x, y: F.concat(x, y, dim=0),
    lambda F, x, y: F.exp(x) * F.sin(x) + F.tanh(y) * 2,
    lambda F, x, y: F.cast(x, "float16") * y,
]


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("f", MIXTURES)
@pytest.mark.parametrize(
    "types", [("float32", "float64"), ("float64", "float32"), ("int32", "float32")]
)
def test_programs_promote_no_types_either(f, types, recording):
    class Both(gluon.HybridBlock):
        def hybrid_forward(self, F, x, y):
            return f(F, x, y)

    x, y = (mx.nd.ones((2, 2), dtype=t) for t in types)
    x.attach_grad()
    net = Both()
    for active in (False, True):
        net.hybridize(active)
        with (
            autograd.record() if recording else autograd.pause(),
            pytest.raises(MXNetError, match="different types"),
        ):
            net(x, y)
    assert net(x.astype("float16"), y.astype("float16")).dtype == np.float16


def test_a_program_refuses_data_of_another_type_than_its_parameters():
    net = nn.HybridSequential()
    net.add(nn.Dense(3, activation="relu"), nn.Dense(2))
    net.initialize()
    net.hybridize()
    net(mx.nd.ones((2, 4)))
    with pytest.raises(MXNetError, match=r"float64\[2, 4\].*float32.*different types"):
        net(mx.nd.ones((2, 4), dtype="float64"))
    net.cast("float64")
    assert net(mx.nd.ones((2, 4), dtype="float64")).dtype == np.float64


def test_networks_without_parameters_come_back_from_their_files(tmp_path):
    net = nn.HybridSequential()
    net.add(nn.MaxPool1D(2), nn.Flatten())
    net.hybridize()
    x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 8)))
    want = net(x).asnumpy()
    net.export(str(tmp_path / "net"))
    graph, params = (str(tmp_path / f"net-{end}") for end in ("symbol.json", "0000.params"))
    back = SymbolBlock.imports(graph, ["data"], params)
    np.testing.assert_array_equal(back(x).asnumpy(), want)
    mx.nd.save(params, [x])
    with pytest.raises(ValueError, match="without names"):
        SymbolBlock.imports(graph, ["data"], params)


def test_files_of_graphs_hold_names_as_they_are(tmp_path):
    net = nn.HybridSequential(prefix="größe_")
    with net.name_scope():
        net.add(nn.Dense(2, in_units=3))
    net.initialize()
    net.hybridize()
    want = net(mx.nd.ones((1, 3))).asnumpy()
    net.export(str(tmp_path / "net"))
    graph = tmp_path / "net-symbol.json"
    assert "größe_dense0_weight" in graph.read_text(encoding="utf-8")
    back = SymbolBlock.imports(str(graph), ["data"], str(tmp_path / "net-0000.params"))
    np.testing.assert_array_equal(back(mx.nd.ones((1, 3))).asnumpy(), want)
