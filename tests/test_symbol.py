"""Symbols: names, lists, shapes, types, running, files, and what is refused."""

import copy
import functools
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigluon as mx
from minigluon import autograd
from minigluon.base import MXNetError
from minigluon.symbol import inference
from tests.expressions import EXPRESSIONS

S = mx.sym


@pytest.fixture(autouse=True)
def fresh_names():
    with mx.name.NameManager():
        yield


def perceptron():
    x = S.var("x")
    hidden = S.FullyConnected(x, num_hidden=4)
    w = S.var("w", shape=(2, 4), lr_mult=2, init=mx.init.One(), __note__="kept")
    return S.Activation(
        S.FullyConnected(hidden, w, num_hidden=2, no_bias=True, name="out"), act_type="relu"
    )


# --- Names and lists ------------------------------------------------------------------------------


def test_missing_arrays_become_variables():
    act = perceptron()
    assert act.list_arguments() == ["x", "fullyconnected0_weight", "fullyconnected0_bias", "w"]
    assert act.list_outputs() == ["activation0_output"]
    assert act.list_auxiliary_states() == []
    assert act.list_inputs() == act.list_arguments()
    assert S.FullyConnected(num_hidden=2, name="f").list_arguments() == [
        "f_data",
        "f_weight",
        "f_bias",
    ]


def test_internals_are_all_outputs_in_order():
    inner = perceptron().get_internals()
    assert inner.list_outputs() == [
        "x",
        "fullyconnected0_weight",
        "fullyconnected0_bias",
        "fullyconnected0_output",
        "w",
        "out_output",
        "activation0_output",
    ]
    assert inner["out_output"].name == "out"
    assert inner[-1].name == "activation0"
    assert [s.name for s in inner[:2]] == ["x", "fullyconnected0_weight"]
    with pytest.raises(ValueError, match='name "nothing"'):
        inner["nothing"]
    with pytest.raises(IndexError, match="7 outputs"):
        inner[7]


def test_children_are_the_inputs_of_the_last_call():
    assert perceptron().get_children().list_outputs() == ["out_output"]
    assert S.var("x").get_children() is None


def test_attributes_are_found_under_both_forms():
    attrs = perceptron().attr_dict()
    assert attrs["w"] == {
        "__shape__": "(2, 4)",
        "__lr_mult__": "2",
        "lr_mult": "2",
        "__init__": '["one", {}]',
        "__note__": "kept",
    }
    assert attrs["out"] == {"num_hidden": "2", "no_bias": "True"}
    assert attrs["fullyconnected0_bias"] == {"num_hidden": "4"}
    assert "x" not in attrs
    assert S.var("v").attr("lr_mult") is None


def test_scopes_nest():
    with mx.AttrScope(ctx_group="a", lr_mult="3"), mx.AttrScope(ctx_group="b"):
        assert S.var("v").list_attr() == {
            "__ctx_group__": "b",
            "ctx_group": "b",
            "__lr_mult__": "3",
            "lr_mult": "3",
        }
    assert S.var("v").list_attr() == {}
    with mx.name.Prefix("pre_"):
        f = S.FullyConnected(S.var("x"), num_hidden=2, name="n")
        assert f.list_arguments() == ["x", "pre_n_weight", "pre_n_bias"]
        assert (f + 1).name == "pre__plusscalar0"
    with pytest.raises(ValueError, match="need to be string"):
        mx.AttrScope(lr_mult=3)


def test_attributes_of_an_operator_become_texts():
    y = S.relu(S.var("x"), name="y", attr={"__init__": mx.init.Xavier(magnitude=2), "__n__": 3})
    assert y.attr("__n__") == "3" and "magnitude=2" in y.attr("__init__")
    with pytest.raises(ValueError, match="only accepts string"):
        S.var("x", attr={"__n__": 3})


def test_groups():
    both = S.Group([S.var("x"), perceptron()])
    assert (both.name, len(both), both.list_outputs()) == (None, 2, ["x", "activation0_output"])
    assert repr(both) == "<Symbol group [x, activation0]>"
    assert repr(both[1]) == "<Symbol activation0>"
    for bad in ([], [1]):
        with pytest.raises(TypeError, match="Expected a list of symbols"):
            S.Group(bad)


def test_composition_replaces_variables():
    f = S.FullyConnected(S.var("x"), num_hidden=2, name="f")
    g = f(x=S.var("q") * 2)
    assert g.list_arguments() == ["q", "f_weight", "f_bias"]
    assert f.list_arguments() == ["x", "f_weight", "f_bias"]
    with pytest.raises(MXNetError, match="variables x, f_weight, f_bias"):
        f(y=S.var("q"))


# --- Shapes and types -----------------------------------------------------------------------------


def test_shapes_flow_and_parameters_are_found():
    f = S.FullyConnected(S.var("x"), num_hidden=3)
    assert f.infer_shape(x=(2, 5)) == ([(2, 5), (3, 5), (3,)], [(2, 3)], [])
    assert f.infer_shape((2, 5)) == f.infer_shape(x=(2, 5))
    with pytest.warns(UserWarning, match="x: ()"):
        assert f.infer_shape() == (None, None, None)
    assert f.infer_shape_partial() == ([(), (), ()], [()], [])
    assert (S.var("a") + S.var("b")).infer_shape(a=(2, 3)) == ([(2, 3), (2, 3)], [(2, 3)], [])


def test_contradicting_shapes_name_the_operator():
    x, w = S.var("x"), S.var("w", shape=(3, 4))
    f = S.FullyConnected(x, w, num_hidden=3, no_bias=True, name="out")
    with pytest.raises(MXNetError, match=r"operator out: Shape inconsistent, Provided = \(3, 4\)"):
        f.infer_shape(x=(2, 5))
    with pytest.raises(MXNetError, match="not among the arguments"):
        f.infer_shape(y=(2, 5))
    with pytest.raises(MXNetError, match="Error in operator _plus0"):
        (x + S.var("y")).infer_shape(x=(2,), y=(3,))


def test_types_flow():
    f = S.FullyConnected(S.var("x"), num_hidden=3)
    assert f.infer_type(x="float16") == ([np.float16] * 3, [np.float16], [])
    with pytest.warns(UserWarning, match="x: None"):
        assert f.infer_type() == (None, None, None)
    assert S.cast(f, dtype="int32").infer_type(x="float64")[1] == [np.int32]
    assert S.argmax(f, axis=1).infer_type(x="float16")[1] == [np.float16]
    assert S.var("v", dtype="float16").exp().infer_type()[1] == [np.float16]


# --- Running --------------------------------------------------------------------------------------


def test_eval_and_bind_agree_with_arrays():
    act = perceptron()
    shapes = dict(zip(act.list_arguments(), act.infer_shape(x=(3, 5))[0]))
    values = {n: mx.nd.random.normal(shape=s) for n, s in shapes.items()}
    hidden = mx.nd.FullyConnected(
        values["x"], values["fullyconnected0_weight"], values["fullyconnected0_bias"], num_hidden=4
    )
    expected = mx.nd.dot(hidden, values["w"].T).relu().asnumpy()
    assert np.allclose(act.eval(**values)[0].asnumpy(), expected, atol=1e-6)
    exe = act.bind(mx.cpu(), [values[n] for n in act.list_arguments()])
    assert np.allclose(exe.forward()[0].asnumpy(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="key `w` is missing"):
        act.eval(**{k: v for k, v in values.items() if k != "w"})


def test_outputs_are_the_same_arrays_at_each_pass():
    x = S.var("x")
    exe = S.Group([x * 2, S.sum(x), x]).simple_bind(mx.cpu(), x=(2,))
    held, names = exe.outputs, exe.output_dict
    exe.forward(x=mx.nd.array([1, 2]))
    first = exe.outputs
    again = exe.forward(is_train=True, x=mx.nd.array([3, 4]))
    for seen in (held, first, again, [*names.values()]):  # so it is in MXNet
        assert [a.asnumpy().tolist() for a in seen] == [[6, 8], [7], [3, 4]]
    exe.backward([mx.nd.ones(2), mx.nd.ones(1), mx.nd.zeros(2)])
    assert exe.grad_dict["x"].asnumpy().tolist() == [3, 3]
    first[0][:] = 5
    assert exe.outputs[0].asnumpy().tolist() == [5, 5]
    copy = exe.outputs[0].copy()
    exe.forward(x=mx.nd.array([1, 2]))
    assert (copy.asnumpy().tolist(), first[0].asnumpy().tolist()) == ([5, 5], [2, 4])


def test_simple_bind_gives_gradients():
    x, y = S.var("x"), S.var("y")
    exe = (x * x * y).simple_bind(mx.cpu(), x=(2,), y=(2,), grad_req={"x": "write", "y": "add"})
    for times in (1, 2):
        exe.forward(is_train=True, x=mx.nd.array([2, 3]), y=mx.nd.array([5, 7]))
        exe.backward(mx.nd.ones(2))
        assert exe.grad_dict["x"].asnumpy().tolist() == [20, 42]
        assert exe.grad_dict["y"].asnumpy().tolist() == [4 * times, 9 * times]
    assert exe.output_dict["_mul1_output"].asnumpy().tolist() == [20, 63]
    exe.forward(is_train=True)
    exe.backward(mx.nd.array([1, 0]))
    assert exe.grad_dict["x"].asnumpy().tolist() == [20, 0]
    with pytest.raises(TypeError, match="Unknown argument q"):
        exe.forward(q=1)
    with pytest.raises(MXNetError, match="give the shapes of x, y"):
        (x * y).simple_bind(mx.cpu())


NO_LOSSES = {
    "product": lambda d, w: d * w,
    "variable": lambda d, w: d,
    "sum": lambda d, w: S.sum(d * w),
    "one of two": lambda d, w: S.Group([S.MakeLoss(d * w), d + w]),
    "values": lambda d, w: S.topk(d, ret_typ="value"),
    "half": lambda d, w: S.SliceChannel(d * w, num_outputs=2)[1],
    "pull": lambda d, w: S.IdentityAttachKLSparseReg(S.sigmoid(d)),
}
LOSSES = {
    "MakeLoss": lambda d, w: S.MakeLoss(d * w),
    "behind": lambda d, w: S.sum(S.reshape(S.make_loss(d * w), shape=(4,))),
    "BlockGrad": lambda d, w: S.Group([S.MakeLoss(d), S.BlockGrad(d * w)]),
    "indices": lambda d, w: S.topk(d * w),
    "classes": lambda d, w: S.one_hot(S.argmax(d * w, axis=1), depth=2),
    "LinearRegressionOutput": lambda d, w: S.LinearRegressionOutput(d, w),
    "comparison": lambda d, w: S.broadcast_greater(d, w),
}


@pytest.mark.parametrize("name", NO_LOSSES | LOSSES)
def test_only_losses_go_back_without_a_head_gradient(name):
    graph = (NO_LOSSES | LOSSES)[name](S.var("d"), S.var("w"))
    names = graph.list_arguments()
    exe = graph.simple_bind(mx.cpu(), **dict.fromkeys(names, (2, 2)))
    exe.forward(is_train=True, **{n: mx.nd.ones((2, 2)) for n in names})
    if name in LOSSES:
        exe.backward()
    else:
        with pytest.raises(MXNetError, match="head_gradient is required"):
            exe.backward()
        assert all((g.asnumpy() == 0).all() for g in exe.grad_dict.values())
        frozen = graph.simple_bind(mx.cpu(), grad_req="null", **dict.fromkeys(names, (2, 2)))
        frozen.forward(is_train=True)
        frozen.backward()


def test_gradients_of_the_first_outputs_are_enough_before_losses():
    d, w = S.var("d"), S.var("w")
    for graph in (S.Group([d * w, S.MakeLoss(d)]), S.Group([S.MakeLoss(d), d * w])):
        exe = graph.simple_bind(mx.cpu(), d=(2,), w=(2,))
        exe.forward(is_train=True, d=mx.nd.ones(2), w=mx.nd.ones(2))
        if graph[0].name.startswith("makeloss"):
            with pytest.raises(MXNetError, match="head_gradient is required"):
                exe.backward([mx.nd.ones(2)])
            exe.backward([mx.nd.ones(2)] * 3)
        else:
            exe.backward([mx.nd.ones(2)])
        assert exe.grad_dict["d"].asnumpy().tolist() == [2, 2]


def test_a_graph_is_composed_by_position_or_by_name():
    graph = S.var("a") + 2 * S.var("b")
    assert graph(S.var("x"), S.var("y")).list_arguments() == ["x", "y"]
    assert graph(b=S.var("y")).list_arguments() == ["a", "y"]
    with pytest.raises(TypeError, match="by position or by name"):
        graph(S.var("x"), b=S.var("y"))


def test_binding_leaves_the_owners_recording_alone():
    a = mx.nd.array([1.0, 2.0])
    a.attach_grad()
    grad = mx.nd.zeros(2)
    exe = (S.var("x") * 3).bind(mx.cpu(), {"x": a}, {"x": grad})
    with autograd.record():
        b = a * a
    exe.forward(is_train=True)
    exe.backward(mx.nd.ones(2))
    b.backward()
    assert (grad.asnumpy().tolist(), a.grad.asnumpy().tolist()) == ([3, 3], [2, 4])


def test_arrays_out_of_nothing_and_several_outputs():
    made = S.Group(
        [S.zeros((2, 3)), S.ones(2), S.full((2,), 7), S.arange(3), S.eye(2), S.linspace(0, 1, 3)]
    )
    shapes = [o.shape for o in made.eval()]
    assert shapes == [(2, 3), (2,), (2,), (3,), (2, 2), (3,)]
    parts = S.split(S.var("x"), num_outputs=3)
    assert parts.list_outputs() == ["split0_output0", "split0_output1", "split0_output2"]
    assert [o.asnumpy().tolist() for o in parts.eval(x=mx.nd.array([[1, 2, 3]]))] == [
        [[1]],
        [[2]],
        [[3]],
    ]
    with pytest.raises(MXNetError, match="3 outputs: pick one"):
        parts + 1


# --- Files ----------------------------------------------------------------------------------------


def test_a_graph_survives_its_file(tmp_path):
    act = perceptron()
    act.save(str(tmp_path / "net.json"))
    again = S.load(str(tmp_path / "net.json"))
    assert again.tojson() == act.tojson() == pickle.loads(pickle.dumps(act)).tojson()
    assert copy.deepcopy(act).tojson() == copy.copy(act).tojson() == act.tojson()
    assert again.attr_dict() == act.attr_dict()


def test_older_formats_are_read():
    old = {
        "nodes": [
            {"op": "null", "param": {}, "name": "data", "inputs": [], "backward_source_id": -1},
            {
                "op": "Flatten",
                "attr": {},
                "param": {},
                "name": "f",
                "inputs": [[0, 0]],
                "backward_source_id": -1,
            },
        ],
        "arg_nodes": [0],
        "heads": [[1, 0]],
    }
    assert S.load_json(json.dumps(old)).list_outputs() == ["f_output"]


def broken(change):
    graph = json.loads((S.var("x") * 2 + S.var("y")).tojson())
    change(graph)
    return json.dumps(graph)


BROKEN = {
    "cycle": lambda g: g["nodes"][1].update(inputs=[[3, 0, 0]]),
    "itself": lambda g: g["nodes"][1].update(inputs=[[1, 0, 0]]),
    "negative": lambda g: g["nodes"][1].update(inputs=[[-1, 0, 0]]),
    "output": lambda g: g["nodes"][1].update(inputs=[[0, 5, 0]]),
    "operator": lambda g: g["nodes"][1].update(op="Teleport"),
    "setting": lambda g: g["nodes"][1]["attrs"].update(colour="red"),
    "no number": lambda g: g["nodes"][1].update(attrs={}),
    "no name": lambda g: g["nodes"][1].pop("name"),
    "arrays": lambda g: g["nodes"][3].update(inputs=[[0, 0, 0]]),
    "heads": lambda g: g.update(heads=[]),
    "head": lambda g: g.update(heads=[[9, 0, 0]]),
    "nodes": lambda g: g.update(nodes=3),
    "inputs": lambda g: g["nodes"][1].update(inputs="all"),
    "attrs": lambda g: g["nodes"][1].update(attrs=[1]),
    **{
        f"{key}={value}": lambda g, key=key, value=value: g["nodes"][0].update(attrs={key: value})
        for key, values in {
            "__shape__": ["(1", "", "1.5", "x", "(1, 'a')", "f()", {"a": 1}],
            "__dtype__": ["", "13", "-1", "9" * 9, "real", "(1,)", "²"],
        }.items()
        for value in values
    },
    "limit": lambda g: g["nodes"].__setitem__(
        1,
        {"op": "Pooling", "name": "p", "attrs": {"kernel": "(0, 2)"}, "inputs": [[0, 0, 0]]},
    ),
    "choice": lambda g: g["nodes"].__setitem__(
        1,
        {"op": "Activation", "name": "p", "attrs": {"act_type": "rule"}, "inputs": [[0, 0, 0]]},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_graph_is_refused(name):
    with pytest.raises(MXNetError, match="load_json"):
        S.load_json(broken(BROKEN[name]))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"nodes": []}', "[" * 100_000])
def test_what_is_no_graph_is_refused(text):
    with pytest.raises(MXNetError, match="load_json"):
        S.load_json(text)


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_no_damaged_byte_does_harm(place, byte):
    text = bytearray(perceptron().tojson().encode())
    text[place % len(text)] = byte
    try:
        found = S.load_json(text.decode("latin-1"))
    except (MXNetError, ValueError):
        return
    assert isinstance(found, S.Symbol)


@st.composite
def graphs(draw):
    """A random graph over x, w and z, all of one shape."""
    made = [S.var(n) for n in "xwz"]
    for _ in range(draw(st.integers(1, 12))):
        a, b = draw(st.sampled_from(made)), draw(st.sampled_from(made))
        number = draw(st.sampled_from([2, 0.5, -1.25]))
        made.append(
            draw(
                st.sampled_from(
                    [
                        a + b,
                        a * b,
                        a - b,
                        a + number,
                        number - a,
                        a * number,
                        a.tanh(),
                        a.sigmoid(),
                        -a,
                    ]
                    + [S.maximum(a, b), a > b, S.broadcast_add(a, b), a.square(), S.clip(a, -1, 1)]
                )
            )
        )
    return S.Group([made[-1], draw(st.sampled_from(made))])


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_random_graphs_survive_and_run(graph):
    again = S.load_json(graph.tojson())
    assert again.tojson() == graph.tojson()
    values = {n: mx.nd.array(np.linspace(-1, 1, 4) + i) for i, n in enumerate("xwz")}
    given = {n: values[n] for n in graph.list_arguments()}
    for a, b in zip(graph.eval(**given), again.eval(**given)):
        assert np.array_equal(a.asnumpy(), b.asnumpy())


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [bool, float, int, lambda x: x.asnumpy(), lambda x: x.asscalar(), lambda x: x.attach_grad()]
    + [lambda x: x.backward(), lambda x: x.__iadd__(1), lambda x: x.__setitem__(0, 1)],
)
def test_a_symbol_has_no_numbers(use):
    with pytest.raises(MXNetError, match="not implemented for Symbol"):
        use(S.var("x"))


@pytest.mark.parametrize("name", ["shape", "dtype", "size", "T", "grad", "context"])
def test_a_symbol_has_no_shape(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(S.var("x"), name)


def test_wrong_calls():
    x = S.var("x")
    with pytest.raises(AssertionError, match="weight must be Symbol"):
        S.FullyConnected(x, "w", num_hidden=2)
    with pytest.raises(AssertionError, match="must be Symbol"):
        S.exp(mx.nd.ones(2))
    with pytest.raises(MXNetError, match="no argument nosuch"):
        S.FullyConnected(x, nosuch=3)
    with pytest.raises(MXNetError, match="num_outputs is not given"):
        S.split(x)
    with pytest.raises(AttributeError, match="did you mean 'softmax'"):
        S.sofmax
    with pytest.raises(TypeError, match="Expect a string"):
        S.var(3)
    with pytest.raises(ValueError, match="double underscores"):
        S.var("x", colour="red")


# --- MXNet ----------------------------------------------------------------------------------------


def side(folder, python, *extra):
    script = mx.__path__[0] + "/../tests/reference/symbol_side.py"
    subprocess.run([python, script, str(folder), *extra], check=True, capture_output=True)
    return [json.loads((folder / name).read_text()) for name in ("graphs.json", "results.json")]


def essence(graph):
    """What must agree of a graph's JSON: operators, names, settings, edges and heads."""
    graph = json.loads(graph)
    nodes = [[n["op"], n["name"], n.get("attrs", {}), n["inputs"]] for n in graph["nodes"]]
    return [nodes, graph["arg_nodes"], graph["heads"]]


def test_graphs_are_written_and_run_as_in_mxnet(tmp_path, mxnet_python):
    rng = np.random.default_rng(0)
    arrays = {n: rng.uniform(0.5, 1.5, (2, 2)).tolist() for n in "xwz"}
    both = S.Group([S.maximum(2 - S.var("x"), S.var("w")) * 3, S.var("z").tanh() ** 2])
    (tmp_path / "expressions.json").write_text(json.dumps(EXPRESSIONS))
    (tmp_path / "arrays.json").write_text(json.dumps(arrays))
    (tmp_path / "run.json").write_text(json.dumps({"ours": both.tojson()}))
    theirs, results = side(tmp_path, mxnet_python, "mxnet")
    (tmp_path / "run.json").write_text(
        json.dumps({k: v[3] for k, v in theirs.items()} | {"ours": both.tojson()})
    )
    ours, ran = side(tmp_path, sys.executable)
    assert np.allclose(results["ours"], ran["ours"], rtol=1e-5)
    for expression in EXPRESSIONS:
        (*names, text), (*expected, wanted) = ours[expression], theirs[expression]
        assert names == expected, expression
        assert essence(text) == essence(wanted), expression


# --- Shapes that flow both ways -------------------------------------------------------------------


def shapes_of(symbol, **known):
    found = symbol.infer_shape_partial(**known)
    return dict(zip(symbol.list_arguments(), found[0])) | {"out": found[1][0]}


A, C = S.var("a", shape=(0, 10)), S.var("c", shape=(5, 0))
IMAGE = S.var("a", shape=(0, 10, 0, 0))
PARTIAL = {  # symbol, what is known, what is found
    "elementwise": (A + S.var("b", shape=(12, 0)), {}, {"a": (12, 10), "b": (12, 10)}),
    "product": (S.FullyConnected(A, num_hidden=21) + C, {}, {"a": (5, 10), "c": (5, 21)}),
    "squeezed split": (
        S.split(A, num_outputs=10, axis=1, squeeze_axis=True)[1] + S.var("c", shape=(5,)),
        {},
        {"a": (5, 10)},
    ),
    "split": (
        S.split(S.var("a", shape=(0, 15, 0)), num_outputs=3)[1] + S.var("c", shape=(3, 5, 2)),
        {},
        {"a": (3, 15, 2)},
    ),
    "convolution": (
        S.Convolution(IMAGE, num_filter=21, kernel=(3, 3), pad=(1, 1))
        + S.var("c", shape=(5, 21, 32, 32)),
        {},
        {"a": (5, 10, 32, 32)},
    ),
    "concat": (
        S.concat(A, S.var("b", shape=(0, 5)), dim=1) + S.var("d", shape=(2, 0)),
        {},
        {"a": (2, 10), "b": (2, 5), "d": (2, 15)},
    ),
    "unknown": (S.sin(S.var("x")), {}, {"x": (), "out": ()}),
    "product of unknown rows": (
        S.dot(S.var("x"), S.var("y")),
        {"x": (0, 3, 4), "y": (4, 5)},
        {"out": (0, 3, 5)},
    ),
    "transpose": (S.transpose(S.var("x")), {"x": (0, 3, 4)}, {"out": (4, 3, 0)}),
    "sizes that broadcast": (
        S.broadcast_sub(S.var("x"), S.var("y")),
        {"x": (0, 7, 3), "y": (0, 0, 0)},
        {"out": (0, 0, 0), "x": (0, 7, 3), "y": (0, 0, 0)},
    ),
    "a shorter one that broadcasts": (
        S.broadcast_greater(S.var("x"), S.var("y")),
        {"x": (4, 1, 3), "y": (0, 1)},
        {"out": (4, 0, 3)},
    ),
    "rows of sevens": (
        S.reshape(S.var("x"), shape=(-1, 7, 3)),
        {"x": (0, 3)},
        {"out": (0, 7, 3), "x": (0, 3)},
    ),
    "stack": (
        S.stack(S.var("x"), S.var("y"), axis=1),
        {"x": (0, 5), "y": (3, 0)},
        {"out": (3, 2, 5), "x": (3, 5), "y": (3, 5)},
    ),
    "probabilities as labels": (
        S.SoftmaxOutput(S.var("x"), S.var("y")),
        {"x": (0, 5), "y": (0, 5)},
        {"out": (0, 5), "y": (0, 5)},
    ),
    "sum": (S.sum(S.var("x"), axis=1), {"x": (0, 3, 4)}, {"out": (0, 4)}),
    "pooling": (
        S.Pooling(S.var("x"), pool_type="max", kernel=(2, 2), stride=(2, 2)),
        {"x": (0, 3, 8, 8)},
        {"out": (0, 3, 4, 4)},
    ),
    "reshape": (S.reshape(S.var("x"), shape=(-1, 3)), {"x": (0, 3, 4)}, {"out": (0, 3)}),
    "a staircase is not climbed": (
        S.Pooling(S.var("x", shape=(2, 3, 0, 8)), pool_type="max", kernel=(2, 2), stride=(3, 3))
        + S.var("y", shape=(2, 3, 3, 3)),
        {},
        {"x": (2, 3, 0, 8)},
    ),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_shapes_flow_in_both_directions(name):
    symbol, known, expected = PARTIAL[name]
    found = shapes_of(symbol, **known)
    assert {k: found[k] for k in expected} == expected


def test_a_label_takes_the_type_of_the_data():
    f = S.SoftmaxOutput(S.FullyConnected(S.cast(S.var("x"), dtype="float32"), num_hidden=3))
    assert f.infer_type(x="float16")[0] == [np.float16] + [np.float32] * 3


# --- Names and attributes in a call ---------------------------------------------------------------


def test_methods_take_the_name_of_their_node():
    x = S.var("x")
    assert x.exp(name="e").name == x.transpose(name="e").name == "e"
    assert x.split(num_outputs=2, axis=1, name="s").list_outputs() == ["s_output0", "s_output1"]
    assert S.FullyConnected(x, num_hidden=2, name="f", lr_mult=0.3).attr("__lr_mult__") == "0.3"


def test_a_composed_graph_can_be_named():
    y = S.var("y").exp(name="inner")(y=S.var("x").sin(), name="outer")
    assert y.list_outputs() == ["outer_output"]


def test_states_say_how_they_begin():
    attrs = S.BatchNorm(S.var("x"), name="b").attr_dict()
    assert attrs["b_moving_var"]["__init__"] == '["one", {}]'
    assert attrs["b_moving_mean"]["__init__"] == '["zero", {}]'


@pytest.mark.parametrize(
    "call", [lambda: S.FullyConnected(3, num_hidden=2), lambda: S.concat(S.var("x"), 3)]
)
def test_numbers_are_no_symbols(call):
    with pytest.raises(AssertionError, match="must be Symbol instances, but got 3"):
        call()


def test_indexing_with_anything_but_a_number():
    with pytest.raises(TypeError, match="only support integer index"):
        S.var("x")[:, 0]


# --- Executors ------------------------------------------------------------------------------------


def bound():
    e = S.FullyConnected(S.var("x"), num_hidden=4, name="f").simple_bind(
        mx.cpu(), x=(5, 4), grad_req="null"
    )
    e.arg_dict["x"][:], e.arg_dict["f_weight"][:] = 1, 1
    return e


def test_a_reshaped_executor_shares_memory():
    e = bound()
    small = e.reshape(x=(3, 4))
    assert (small.forward()[0].asnumpy() == 4).all()
    small.arg_dict["x"][:] = 2
    assert (e.forward()[0].asnumpy() == [[8]] * 3 + [[4]] * 2).all()
    assert e.reshape(allow_up_sizing=True, x=(6, 4)).arg_dict["x"].shape == (6, 4)
    wide = e.reshape(partial_shaping=True, allow_up_sizing=True, x=(6, 5))
    assert wide.arg_dict["f_weight"].shape == (4, 5)


@pytest.mark.parametrize("shape, message", [((7, 4), "up size"), ((3, 5), "f_weight changed")])
def test_reshape_asks_first(shape, message):
    with pytest.raises(mx.MXNetError, match=message):
        bound().reshape(x=shape)


def test_executors_are_monitored():
    e, seen = (S.var("x") * 2 + 1).simple_bind(mx.cpu(), x=(2,)), []
    e.set_monitor_callback(lambda name, array: seen.append((name, array.shape)))
    e.forward()
    assert [shape for _, shape in seen] == [(2,), (2,)] and seen[0][0].endswith("_output")
    e.set_monitor_callback(lambda name, array: seen.append(name), monitor_all=True)
    e.forward()
    assert len(seen) == 7 and "MB allocated" in e.debug_str()
    assert e.get_optimized_symbol().list_arguments() == list(e.arg_dict)


def test_backward_after_a_forward_in_use():
    e = (S.var("x") * 2).simple_bind(mx.cpu(), x=(2,))
    e.forward(is_train=False)
    e.backward(mx.nd.ones((2,)))
    assert e.grad_dict["x"].asnumpy().tolist() == [2, 2]


def test_shapes_of_tables_and_choices():
    table = mx.sym.Embedding(mx.sym.var("data"), input_dim=10, output_dim=4, name="e")
    assert table.infer_shape(data=(2, 3)) == ([(2, 3), (10, 4)], [(2, 3, 4)], [])
    rows = mx.sym.where(mx.sym.var("c"), mx.sym.var("x"), mx.sym.var("y"))
    assert rows.infer_shape(c=(3,), x=(3, 4), y=(3, 4))[1] == [(3, 4)]
    assert rows.infer_shape(c=(3,), x=(3, 4))[0][2] == (3, 4)


def test_numeric_gradients_of_large_numbers():
    from minigluon.test_utils import check_numeric_gradient

    x = np.arange(60).reshape(3, 4, 5).astype("float32")
    part = mx.sym.slice(mx.sym.var("d"), begin=(0,), end=(None,), step=(-1,))
    for seed in range(5):
        np.random.seed(seed)
        check_numeric_gradient(part, [x], rtol=1e-2)
    both, e = part * mx.sym.var("e"), np.ones((1, 4, 5), "float32")
    requests = {"d": "write", "e": "null"}
    check_numeric_gradient(both, [x, e], grad_nodes=requests, rtol=1e-2)
    with pytest.raises(AssertionError):
        check_numeric_gradient(mx.sym.BlockGrad(mx.sym.var("d")) * 2, [x])


# --- Sizes left open, notes, heads ----------------------------------------------------------------


def test_calls_without_arrays_take_the_size_that_is_asked_for():
    x = S.var("x")
    state = S.zeros(shape=(0, 3)) + 1
    exe = (x + state).bind(mx.cpu(), {"x": mx.nd.ones((2, 3))})
    assert exe.forward()[0].asnumpy().tolist() == [[2, 2, 2], [2, 2, 2]]
    steps = S.elemwise_add(S.arange(3, infer_range=True), S.zeros(shape=[4]))
    assert steps.bind(mx.cpu(), {}).forward()[0].asnumpy().tolist() == [3, 4, 5, 6]
    mixed = S.ones(shape=[2, -1]) + S.transpose(S.ones(shape=[3, -1]))
    assert mixed.bind(mx.cpu(), {}).forward()[0].shape == (2, 3)


def test_any_note_between_underscores_is_kept():
    y = S.Activation(S.var("x"), act_type="relu", __layout__="TNC")
    assert y.attr("__layout__") == "TNC"
    with pytest.raises(MXNetError, match="layout"):
        S.Activation(S.var("x"), act_type="relu", layout="TNC")


def test_backward_ignores_heads_that_nothing_asks_for():
    x = S.var("x")
    exe = S.shape_array(x).bind(mx.cpu(), {"x": mx.nd.ones((2, 3))}, {"x": mx.nd.ones((2, 3))})
    assert exe.outputs[0].shape == (2,)  # before the first forward
    exe.forward(is_train=True)
    exe.backward([mx.nd.ones((9,))])
    assert exe.grad_dict["x"].asnumpy().sum() == 0
    exe = (2 * x).bind(mx.cpu(), {"x": mx.nd.ones(2)}, {"x": mx.nd.zeros(2)})
    exe.forward(is_train=True)
    exe.backward([mx.nd.ones(2), mx.nd.ones(7)])  # one more than there are outputs
    assert exe.grad_dict["x"].asnumpy().tolist() == [2, 2]


def test_current_scopes_are_attributes_of_their_classes():
    with mx.AttrScope(note="a") as scope, mx.name.Prefix("p_") as names:
        assert mx.AttrScope.current is scope and mx.name.NameManager.current is names


def test_a_record_is_written_down_as_a_symbol():
    x, w = mx.nd.array([[1.0, 2.0]]), mx.nd.ones((4, 2))
    x.attach_grad()
    with mx.autograd.record():
        parts = mx.nd.split(mx.nd.FullyConnected(x, w, num_hidden=4, no_bias=True), num_outputs=2)
        y = parts[1] * 2 + x
    symbol = mx.autograd.get_symbol(y)
    names = symbol.list_arguments()
    assert names == ["var0", "var1"]
    assert (symbol.eval(**dict(zip(names, (x, w))))[0] == y).asnumpy().all()
    y.backward()
    with pytest.raises(mx.MXNetError, match="used"):
        mx.autograd.get_symbol(y)


def test_monitors_hear_of_variables_and_hooks_do_not():
    heard = []
    y = S.FullyConnected(S.var("x"), num_hidden=2, name="fc")
    exe = y.simple_bind(mx.cpu(), x=(1, 3), grad_req="null")
    exe.set_monitor_callback(lambda name, a: heard.append(name), monitor_all=True)
    exe.forward()
    assert heard == ["x", "fc_data", "fc_weight", "fc_weight", "fc_bias", "fc_bias", "fc_output"]


def test_shapes_where_zeros_do_not_do():
    x = S.var("x")
    for name in ("inverse", "potrf", "potri", "slogdet"):
        y = getattr(S.linalg, name)(x)
        assert y.infer_shape(x=(2, 3, 3))[1][-1][0] == 2
    opened = S.elemwise_add(x.reshape((-4, 16, 4)), S.ones(shape=(16, 4)))
    assert opened.infer_shape(x=(0,))[0] == [(64,)]


def test_batchnorm_keeps_single_precision_inside():
    found = S.BatchNorm(S.var("x")).infer_type(x="float16")
    assert found == ([np.float16, np.float32, np.float32], [np.float16], [np.float32] * 2)


def test_an_operator_alone_gets_new_variables():
    y = S.FullyConnected(S.var("x"), S.var("w"), num_hidden=3, no_bias=True)
    alone = y._gen_atomic_symbol()
    assert len(alone.list_arguments()) == 2 and not {"x", "w"} & {*alone.list_arguments()}


def test_outputs_are_called_as_in_mxnet():
    d = S.var("d")
    assert S.CTCLoss(d, d, name="c").list_outputs() == ["c_output0"]
    assert S.contrib.Proposal(d, d, d, name="p").list_outputs() == ["p_output"]
    assert S.sort(d, name="t").list_outputs() == ["t_output0"]
    assert S.topk(d, name="t").list_outputs() == ["t_output"]
    with mx.name.NameManager():
        assert d.fix().list_outputs() + d.trunc().list_outputs() == ["fix0_output", "trunc0_output"]
        assert d.broadcast_axes(axis=0, size=2).name == "broadcast_axes0"
    assert S.linalg.det(d, name="t").list_outputs() == ["t_output0"]
    assert S.contrib.box_nms(d, name="t").list_outputs() == ["t_output0"]
    found = S.contrib.MultiBoxTarget(d, d, d, name="m").list_outputs()
    assert found == ["m_loc_target", "m_loc_mask", "m_cls_target"]


def test_arrays_by_name_of_operators_of_any_number():
    up = S.UpSampling(
        data=S.var("x"), weight=S.var("w"), scale=2, sample_type="bilinear", num_filter=3
    )
    assert up.infer_shape(x=(1, 3, 4, 4))[:2] == ([(1, 3, 4, 4), (3, 1, 4, 4)], [(1, 3, 8, 8)])
    made = S.UpSampling(S.var("x"), scale=2, sample_type="bilinear", num_filter=3, name="u")
    assert made.list_arguments() == ["x", "u_weight"]
    assert made.attr_dict()["u_weight"]["__init__"] == '["bilinear", {}]'
    assert S.Concat(arg0=S.var("a"), arg1=S.var("b"), dim=0).list_arguments() == ["a", "b"]
    with pytest.raises(MXNetError, match="no argument blub"):
        S.Concat(blub=S.var("a"))
    for name in ("SequenceMask", "SequenceLast", "SequenceReverse"):
        y = getattr(S, name)(S.var("x"), use_sequence_length=True, name="q")
        assert y.list_arguments() == ["x", "q_sequence_length"]


WRONG_SETTINGS = [
    ("Activation", {"act_type": "foo"}, "act_type is 'foo': it must be one of 'relu'"),
    ("LeakyReLU", {"act_type": "foo"}, "'leaky'"),
    ("Pooling", {"kernel": (2, 2), "pool_type": "foo"}, "'max'"),
    ("SoftmaxOutput", {"normalization": "foo"}, "'valid'"),
    ("BatchNorm", {"eps": "foo"}, "it must be a number"),
]


@pytest.mark.parametrize(("name", "settings", "says"), WRONG_SETTINGS)
def test_wrong_settings_are_refused_when_the_graph_is_written(name, settings, says):
    with pytest.raises(MXNetError, match=says):
        getattr(S, name)(S.var("x"), **settings)


def test_settings_may_be_texts():
    y = S.FullyConnected(S.var("x"), num_hidden="3", no_bias="True")
    assert y.infer_shape(x=(2, 5)) == ([(2, 5), (3, 5)], [(2, 3)], [])
    y = S.Pooling(S.var("x"), kernel="(2, 2)", stride="(2L, 2L)", pool_type="avg")
    assert y.infer_shape(x=(1, 1, 4, 4))[1] == [(1, 1, 2, 2)]


def test_shapes_go_back_through_moves_of_axes():
    x, i = S.var("x"), S.var("i", shape=(4, 2, 3))
    for y, shape in [
        (S.transpose(x, axes=(2, 0, 1)), (2, 3, 4)),
        (S.swapaxes(x, 0, 2), (3, 2, 4)),
        (S.flip(x, axis=0), (4, 2, 3)),
        (S.slice_axis(x, axis=0, begin=0, end=1), (0, 2, 3)),
    ]:
        found = (y + S.var("i", shape=(1, 2, 3)) if shape[0] == 0 else y + i).infer_shape_partial()
        assert found[0][0] == shape
    left = S.ones(shape=[2, -1]) + S.transpose(S.ones(shape=[3, -1]))
    assert left.bind(mx.cpu(), {}).forward()[0].shape == (2, 3)
    data = S.var("data", shape=(0, 20))
    assert S.slice(data, begin=(2, 3), end=(5, 10)).infer_shape_partial()[1] == [(0, 7)]
    assert S.slice(data, begin=(None, 3), end=(5, 10), step=(1, 3)).infer_shape_partial()[1] == [
        (0, 3)
    ]


def test_groups_of_nodes_have_devices():
    with mx.AttrScope(ctx_group="a"):
        f = S.FullyConnected(S.var("x"), num_hidden=4, name="f")
    with mx.AttrScope(ctx_group="b"):
        y = S.FullyConnected(S.relu(f), num_hidden=2, name="g")
    groups = {"a": mx.cpu(1), "b": mx.cpu(2)}
    e = y.simple_bind(mx.cpu(0), group2ctx=groups, x=(2, 3))
    assert [a.context for a in e.arg_arrays] == [mx.cpu(1)] * 3 + [mx.cpu(2)] * 2
    values = {n: mx.nd.random.uniform(shape=a.shape) for n, a in e.arg_dict.items()}
    e.forward(is_train=True, **values)
    e.backward(mx.nd.ones((2, 2), ctx=mx.cpu(2)))
    plain = y.bind(mx.cpu(0), values, {n: a.zeros_like() for n, a in values.items()})
    plain.forward(is_train=True)
    plain.backward(mx.nd.ones((2, 2)))
    assert e.outputs[0].context == mx.cpu(2)
    assert (e.outputs[0].asnumpy() == plain.outputs[0].asnumpy()).all()
    for name, g in e.grad_dict.items():
        assert g.context == e.arg_dict[name].context
        assert (g.asnumpy() == plain.grad_dict[name].asnumpy()).all()


def test_a_graph_prints_as_in_mxnet():
    bn = S.BatchNorm(S.FullyConnected(S.var("x"), num_hidden=3, name="f") * 2, name="b")
    assert bn.debug_str().splitlines()[:9] == [
        "Symbol Outputs:",
        "\toutput[0]=b(0)",
        "Variable:x",
        "Variable:f_weight",
        "Variable:f_bias",
        "-" * 20,
        "Op:FullyConnected, Name=f",
        "Inputs:",
        "\targ[0]=x(0) version=0",
    ]
    assert "Op:_mul_scalar" in bn.debug_str() and "b_moving_var(0) version=1" in bn.debug_str()


def test_what_is_no_text_or_no_file():
    with pytest.raises(ValueError, match="only accepts string"):
        S.var("x", attr={"a": 1})
    with pytest.raises(ValueError, match="'write', 'add' or 'null', not 'bad'"):
        (S.var("x") * 2).bind(mx.cpu(), [mx.nd.ones(2)], grad_req="bad")
    with pytest.raises(MXNetError, match="cannot read"):
        S.load("/nowhere/at/all.json")


def test_files_that_cannot_be_read_or_written(tmp_path):
    """As MXNet says it; nothing is left behind."""
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00")
    for path in ("nowhere.json", "noise", "."):
        with pytest.raises(mx.MXNetError, match=r"cannot read .*|load_json"):
            S.load(str(tmp_path / path))
    with pytest.raises(mx.MXNetError, match="cannot write .*nowhere"):
        S.var("x").save(str(tmp_path / "nowhere" / "x.json"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["noise"]


def test_numbers_are_settings():
    """The number of `x * 2` is its node's setting `scalar`, as in MXNet."""
    x = S.var("x")
    assert (x * 2).attr_dict() == {"_mulscalar0": {"scalar": "2"}}
    assert (1.5 - x).list_attr() == {"scalar": "1.5"}
    assert S.dot(x, x).list_attr() == {} == (x + x).list_attr()


def test_an_executor_has_arrays_with_storage():
    data, w = S.var("data", stype="csr"), S.var("w", stype="row_sparse", shape=(3, 2))
    e = S.sparse.dot(data, w).simple_bind(
        mx.cpu(), data=(4, 3), grad_req={"data": "null", "w": "write"}
    )
    assert [a.stype for a in e.arg_arrays] == ["csr", "row_sparse"]
    x = mx.nd.array([[0, 1, 0], [2, 0, 0], [0, 0, 0], [0, 3, 0]])
    e.arg_dict["data"][:] = x.tostype("csr")
    e.arg_dict["w"][:] = mx.nd.ones((3, 2)).tostype("row_sparse")
    e.forward(is_train=True)
    e.backward(mx.nd.ones((4, 2)))
    assert (e.outputs[0].asnumpy() == x.asnumpy() @ np.ones((3, 2))).all()
    assert e.grad_dict["w"].stype == "row_sparse"
    assert (e.grad_dict["w"].asnumpy() == [[2, 2], [4, 4], [0, 0]]).all()
    embedded = S.Embedding(S.var("i"), S.var("t"), input_dim=5, output_dim=2, sparse_grad=True)
    e = embedded.simple_bind(mx.cpu(), i=(3,), grad_req={"i": "null", "t": "write"})
    e.forward(is_train=True, i=mx.nd.array([1, 3, 1]))
    e.backward(mx.nd.ones((3, 2)))
    assert e.grad_dict["t"].stype == "row_sparse" and e.grad_dict["t"].indices.tolist() == [1, 3]
    e = embedded.simple_bind(mx.cpu(), i=(3,), stype_dict={"t": "row_sparse"})
    assert e.arg_dict["t"].stype == "row_sparse"


D, R, C = "default", "row_sparse", "csr"


@pytest.mark.parametrize(
    "write, storages, grads, output",
    [
        (S.dot, (C, D), (D, R), D),
        (S.dot, (C, R), (D, R), D),
        (S.dot, (D, R), (D, D), D),
        (S.dot, (D, C), (D, D), C),
        (lambda a, b: S.dot(a, b, transpose_a=True), (C, D), (D, D), R),
        (S.elemwise_add, (R, R), (R, R), R),
        (S.elemwise_add, (R, D), (D, D), D),
        (S.broadcast_add, (R, R), (D, D), D),
        (S.elemwise_mul, (R, D), (D, D), R),
        (lambda a, b: S.elemwise_div(a, b + 1), (R, R), (D, D), D),
        (S.add_n, (R, R), (R, R), R),
        (lambda a, b: S.concat(a, b, dim=0), (C, C), (D, D), C),
        (S.square, (R,), (R,), R),
        (S.sin, (R,), (D,), R),
        (S.relu, (C,), (C,), C),
        (S.exp, (R,), (D,), D),
        (lambda a: a * 2, (C,), (C,), C),
        (lambda a: a + 2, (R,), (D,), D),
        (lambda a: a + 0, (R,), (R,), R),
        (lambda a: S.square(a) + a * 2, (R,), (R,), R),
        (lambda a: S.square(a) + a * 2, (C,), (D,), C),
        (S.sum, (R,), (D,), D),
        (lambda a, b: S.dot(a, S.square(b)), (C, R), (D, R), D),
        (lambda a, b: S.dot(a, S.square(b)), (C, D), (D, D), D),
    ],
)
def test_simple_bind_infers_storage(write, storages, grads, output):
    """As MXNet 1.9.1 does: gradients, and outputs before they are computed, have these storages."""
    names = ["a", "b"][: len(storages)]
    y = write(*map(S.var, names))
    e = y.simple_bind(
        mx.cpu(), stype_dict=dict(zip(names, storages)), **dict.fromkeys(names, (4, 4))
    )
    assert [a.stype for a in e.arg_arrays] == list(storages)
    assert [a.stype for a in e.grad_arrays] == list(grads)
    assert [a.stype for a in e.outputs] == [output]
    rng = np.random.default_rng(0)
    for name in names:
        x = rng.random((4, 4)) * (rng.random((4, 4)) < 0.5)
        e.arg_dict[name][:] = mx.nd.array(x).tostype(e.arg_dict[name].stype)
    e.forward(is_train=True)
    dense = {n: e.arg_dict[n].tostype("default") for n in names}
    for x in dense.values():
        x.attach_grad()
    with mx.autograd.record():
        z = y.bind(mx.cpu(), dense).forward()[0]
    assert np.allclose(e.outputs[0].asnumpy(), z.asnumpy())
    e.backward(mx.nd.ones(e.outputs[0].shape))
    other = y.bind(mx.cpu(), dense, {n: mx.nd.zeros((4, 4)) for n in names})
    other.forward(is_train=True)
    other.backward(mx.nd.ones(z.shape))
    assert [a.stype for a in e.grad_arrays] == list(grads)
    for a, b in zip(e.grad_arrays, other.grad_arrays):
        assert np.allclose(a.asnumpy(), b.asnumpy(), equal_nan=True)


@pytest.mark.parametrize("name", ["copy", "detach", "gradient", "asnumpy"])
def test_what_a_symbol_cannot_do_says_so(name):
    with pytest.raises(S.NotImplementedForSymbol, match=name):
        getattr(S.var("a"), name)()


def test_monitors_call_inputs_as_mxnet_does():
    heard = []
    x, w = S.var("x"), S.var("w")
    y = S.softmax(S.relu(S.elemwise_add(x * 2, w, name="a"), name="r"), name="s")
    values = {"x": mx.nd.ones(2), "w": mx.nd.ones(2)}
    e = y.bind(mx.cpu(), values)
    e.set_monitor_callback(lambda name, a: heard.append(name), monitor_all=True)
    e.forward()
    number = y.get_internals().list_outputs()[1].removesuffix("output")
    assert heard == [
        *("x", f"{number}input0", f"{number}output", "a_lhs", "w", "a_rhs", "a_output"),
        *("r_input0", "r_output", "s_data", "s_output"),
    ]


def test_the_name_is_an_attribute():
    x = S.var("x")
    y = (x + 1).attr("name")
    assert x.attr("name") == "x" and y.startswith("_plusscalar") and x.list_attr() == {}
    assert S.Group([x, x + 1]).attr("name") is None
    assert S.var("y", attr={"name": "own"}).attr("name") == "own"


def test_backward_runs_what_it_needs():
    x = mx.sym.var("x")
    exe = (x * x).simple_bind(mx.cpu(), x=(2,))
    exe.arg_dict["x"][:] = mx.nd.array([1, 2])
    assert exe.outputs[0].shape == (2,)  # zeros, which no call has made
    exe.backward(mx.nd.ones(2))
    assert exe.grad_dict["x"].asnumpy().tolist() == [2, 4]
    exe.arg_dict["x"][:] = 3
    exe.backward([mx.nd.ones(2)])
    assert exe.grad_dict["x"].asnumpy().tolist() == [6, 6]
    with pytest.raises(TypeError, match="NDArrays, not ndarray"):
        exe.backward(np.ones(2, "float32"))
    exe = mx.sym.Dropout(x).simple_bind(mx.cpu(), x=(2,))
    exe.forward(is_train=True)
    exe.backward(mx.nd.ones(2))
    with pytest.raises(mx.MXNetError, match="used it up"):  # another draw would be another mask
        exe.backward(mx.nd.ones(2))


def test_partial_shapes_where_zero_is_a_size():
    with mx.np_shape():
        x = mx.sym.var("x", shape=(-1, 20))
        y = mx.sym.slice(x, begin=(None, 3), end=(None, 10))
        assert y.infer_shape_partial() == ([(-1, 20)], [(-1, 7)], [])
        with pytest.warns(UserWarning, match="Cannot decide"):
            assert y.infer_shape() == (None, None, None)
        assert y.infer_shape(x=(4, 20))[1] == [(4, 7)]
        assert mx.sym.relu(mx.sym.var("z")).infer_shape_partial() == ([None], [None], [])


def test_remainders_of_whole_numbers_have_no_gradient():
    a, b = (mx.sym.cast(mx.sym.var(n), dtype="int32") for n in "ab")
    exe = (a % b).simple_bind(mx.cpu(), a=(3,), b=(3,))
    exe.arg_dict["a"][:] = 7
    exe.arg_dict["b"][:] = mx.nd.array([0, 2, -3])
    exe.forward(is_train=True)
    exe.backward(mx.nd.ones(3, dtype="int32"))
    assert not exe.grad_dict["a"].asnumpy().any() and not exe.grad_dict["b"].asnumpy().any()


def test_small_hybridized_networks_are_written_down_call_by_call():
    net = mx.gluon.nn.HybridSequential()
    net.add(*[mx.gluon.nn.Dense(3, in_units=3) for _ in range(3)])
    net.initialize()
    x = mx.nd.ones((2, 3))
    for limit, count in ((3, 3), (2, 1)):
        net.hybridize(inline_limit=limit)
        with mx.autograd.record():
            y = net(x)
        symbol = mx.autograd.get_symbol(y)
        assert len(symbol.list_arguments()) == 7
        nodes = json.loads(symbol.tojson())["nodes"]
        assert sum(node["op"] != "null" for node in nodes) == count


WRITTEN = [  # a call -> the name that MXNet 1.9.1 writes for it
    ("contrib.ctc_loss", 2, {}, "CTCLoss"),
    ("ctc_loss", 2, {}, "CTCLoss"),
    ("contrib.box_non_maximum_suppression", 1, {}, "_contrib_box_nms"),
    ("contrib.getnnz", 1, {}, "_contrib_getnnz"),
    ("contrib.SparseEmbedding", 2, {"input_dim": 2, "output_dim": 3}, "_contrib_SparseEmbedding"),
    ("contrib.isnan", 1, {}, "_contrib_isnan"),  # not there in MXNet
    ("contrib.adamw_update", 5, {"lr": 0.1, "eta": 1.0}, "_adamw_update"),
    ("random_pdf_normal", 3, {}, "_random_pdf_normal"),
    ("sample_gamma", 2, {}, "_sample_gamma"),
    ("shuffle", 1, {}, "_shuffle"),
    ("sparse.retain", 2, {}, "_sparse_retain"),
]


@pytest.mark.parametrize("call, number, settings, written", WRITTEN)
def test_names_in_files_are_those_of_mxnet_and_read_back(call, number, settings, written):
    function = functools.reduce(getattr, call.split("."), S)
    graph = function(*(S.Variable(f"v{i}") for i in range(number)), **settings)
    text = graph.tojson()
    assert json.loads(text)["nodes"][-1]["op"] == written
    assert S.load_json(text).tojson() == text


def test_concat_says_soon_that_there_is_no_such_axis():
    a, b = mx.sym.var("a"), mx.sym.var("b")
    for dim, shapes in ((5, {"a": (2, 3)}), (-3, {"b": (2, 3)}), (2, {"a": (0, 0)})):
        with pytest.raises(mx.MXNetError, match=f"dim={dim} is no axis"):
            mx.sym.concat(a, b, dim=dim).infer_shape_partial(**shapes)
    y = mx.sym.concat(a, b, dim=1)
    assert y.infer_shape_partial(a=(2, 0), b=(0, 3))[0] == [(2, 0), (2, 3)]
    assert y.infer_shape_partial(b=(2, 3, 4))[0] == [(2, 0, 4), (2, 3, 4)]
    with pytest.raises(mx.MXNetError):
        y.infer_shape(a=(2, 3), b=(4, 3))


@pytest.mark.parametrize(
    ("shape", "settings", "places", "out"),
    [
        ((4, 6), {}, (4,), (4,)),
        ((4, 6), {"keepdims": True}, (4,), (4, 1)),
        ((2, 3, 8), {"axis": 0}, (3, 8), (3, 8)),
        ((5,), {}, (1,), (1,)),
    ],
)
def test_where_pick_looks_is_inferred(shape, settings, places, out):
    """The shapes are MXNet 1.9.1's."""
    graph = mx.sym.pick(mx.sym.var("d"), mx.sym.var("i"), **settings)
    assert graph.infer_shape(d=shape)[:2] == ([shape, places], [out])


def test_lists_among_settings_are_written_as_lists():
    x = S.var("x")
    for axis, written in (([1], "[1]"), ((1,), "(1,)"), ([np.int64(0), 1], "[0, 1]")):
        y = S.sum(x, axis=axis, name="y")
        assert y.attr_dict() == {"y": {"axis": written}}
        again = S.load_json(y.tojson())
        assert again.attr_dict() == {"y": {"axis": written}} and again.tojson() == y.tojson()
        assert again.infer_shape(x=(2, 3))[1] == y.infer_shape(x=(2, 3))[1]


def test_equal_calls_are_sketched_once(monkeypatch):
    asked, sketched = [], inference.sketched
    told = lambda node, known: asked.append(node.name) or sketched(node, known)
    monkeypatch.setattr(inference, "sketched", told)
    y = x = mx.sym.var("x", shape=(4, 4))
    for _ in range(20):
        y = mx.sym.sigmoid(mx.sym.dot(y, x) * 2.0)
    assert y.infer_shape()[1] == [(4, 4)] and len(asked) == 3
    different = [x.sum(axis=0), x.sum(axis=1, keepdims=True), x.sum(axis=[0, 1], keepdims=True)]
    different += [x.slice_axis(axis=0, begin=0, end=n) for n in (1, 2)]
    assert mx.sym.Group(different).infer_shape()[1] == [(4,), (4, 1), (1, 1), (1, 4), (2, 4)]
    net = mx.gluon.nn.HybridLambda(
        lambda F, x: (
            F.Group([F.cast(x, t) * 2 for t in ("int8", "float16", "int8")])
            if F is mx.sym
            else None
        )
    )
    net.hybridize()
    assert [y.dtype for y in net(mx.nd.ones(2))] == [np.int8, np.float16, np.int8]


def test_types_of_calls_that_answer_in_their_own():
    a, b = S.var("a"), S.var("b")
    half, single, double, whole, long = np.float16, np.float32, np.float64, np.int32, np.int64
    rows = [  # a call, the types of a and b, those of the outputs in MXNet
        (S.topk(a, ret_typ="both", dtype="int32"), double, None, [double, whole]),
        (S.topk(a, ret_typ="value", dtype="int32"), double, None, [double]),
        (S.topk(a, ret_typ="mask", dtype="int32"), double, None, [double]),
        (S.topk(a, dtype="int32"), double, None, [whole]),
        (S.BatchNorm(a, output_mean_var=True), half, None, [half, single, single]),
        (S.LayerNorm(a, output_mean_var=True), half, None, [half] * 3),
        (S.random.multinomial(a, get_prob=True), single, None, [whole, single]),
        (S.amp_multicast(a, b, num_outputs=2), half, single, [single] * 2),
        (S.amp_multicast(a, b, num_outputs=2, cast_narrow=True), half, single, [half] * 2),
        (S.norm(a, out_dtype="float64"), single, None, [double]),
        (S.norm(a), half, None, [half]),
        (S.where(a, b, b), whole, double, [double]),
        (S.contrib.index_array(a), half, None, [long]),
        (S.Embedding(a, b, input_dim=2, output_dim=3), single, double, [double]),
        (S.take(a, b), half, long, [half]),
        (S.contrib.quantize(a, b, b), single, single, [np.uint8, single, single]),
    ]
    for call, one, other, found in rows:
        given = {"a": one} | ({} if other is None else {"b": other})
        assert call.infer_type(**given)[1] == found, call.name


@pytest.mark.parametrize(
    "call",
    [lambda a, b: a + b, S.dot, lambda a, b: S.concat(a, b, dim=0), lambda a, b: (a > b) * a],
)
def test_types_that_contradict_each_other_are_refused(call):
    s = call(S.var("a"), S.var("b"))
    types = {"a": "float32", "b": "float64"}
    for infer in (s.infer_type, s.infer_type_partial):
        with pytest.raises(MXNetError, match="a: float32, b: float64"):
            infer(**types)
    with pytest.raises(MXNetError, match="different types"):
        s.simple_bind(mx.cpu(), type_dict=types, a=(2, 2), b=(2, 2))
    half = S.var("w", dtype="float16")
    with pytest.raises(MXNetError, match="different types"):
        call(S.var("a"), half).infer_type(a="float32")
    assert S.where(S.var("c"), S.var("a"), half).infer_type(c="int32")[1] == [np.float16]
