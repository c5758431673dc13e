"""Recurrent cells on symbols, chains of modules, and networks trained on arrays."""

import warnings

import numpy as np
import pytest

import minigluon as mx
from minigluon import nd, sym

CELLS = {
    "rnn_tanh": lambda prefix: mx.rnn.RNNCell(3, "tanh", prefix),
    "rnn_relu": lambda prefix: mx.rnn.RNNCell(3, "relu", prefix),
    "lstm": lambda prefix: mx.rnn.LSTMCell(3, prefix),
    "gru": lambda prefix: mx.rnn.GRUCell(3, prefix),
}


def stacked(mode, layers, both):
    stack = mx.rnn.SequentialRNNCell()
    for i in range(layers):
        cells = [CELLS[mode](f"{d}{i}_") for d in ("lr" if both else "l")]
        stack.add(mx.rnn.BidirectionalCell(*cells) if both else cells[0])
    return stack


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("mode", CELLS)
def test_a_fused_layer_and_its_cells_agree(mode, both):
    fused = mx.rnn.FusedRNNCell(3, 2, mode, both, get_next_state=True, prefix="")
    x, found = nd.random.normal(shape=(2, 4, 5)), []
    graph, _ = fused.unroll(4, sym.var("data"), merge_outputs=True)
    size = dict(zip(graph.list_arguments(), graph.infer_shape(data=x.shape)[0]))["parameters"]
    # Of a size that lets gradients be of the order of one, as the tolerance is absolute.
    whole = {"parameters": nd.random.normal(scale=0.5, shape=size)}
    parts = fused.unpack_weights(whole)
    assert fused.pack_weights(parts)["parameters"].asnumpy().tolist() == (
        whole["parameters"].asnumpy().tolist()
    )
    for cell in (fused, stacked(mode, 2, both), fused.unfuse()):
        graph, states = cell.unroll(4, sym.var("data"), merge_outputs=True)
        states = [s for part in states for s in (part if isinstance(part, list) else [part])]
        args = {"data": x, **cell.pack_weights(parts)}
        grads = {"data": nd.zeros(x.shape)}
        exe = mx.sym.Group([graph, *states]).bind(mx.cpu(), args, grads)
        out = exe.forward(is_train=True)[0]
        exe.backward([nd.ones(out.shape)] + [nd.zeros(s.shape) for s in exe.outputs[1:]])
        found.append((out.asnumpy(), exe.grad_dict["data"].asnumpy()))
    for other in found[1:]:
        np.testing.assert_allclose(found[0][0], other[0], atol=1e-5)
        np.testing.assert_allclose(found[0][1], other[1], atol=1e-5)


def test_both_directions_give_their_states_apart():
    cell = mx.rnn.FusedRNNCell(3, 2, "lstm", True, prefix="p_").unfuse()
    outputs, states = cell.unroll(2, sym.var("data"), merge_outputs=True)
    assert outputs.name == "p_bi_l1_out" and [len(part) for part in states] == [2, 2, 2, 2]


def test_names_of_outputs_and_parameters():
    cell = mx.rnn.LSTMCell(4, prefix="rnn_", forget_bias=2.0)
    outputs, states = cell.unroll(2, [sym.var("a"), sym.var("b")])
    names = sym.Group(outputs).list_outputs()
    assert names == ["rnn_t0_out_output", "rnn_t1_out_output"]
    assert sorted(cell.params._params) == [
        f"rnn_{group}_{kind}" for group in ("h2h", "i2h") for kind in ("bias", "weight")
    ]
    assert states[1].name == "rnn_t1_state" and cell.state_shape == [(0, 4), (0, 4)]
    bias = mx.init.InitDesc("rnn_i2h_bias", cell.params.get("i2h_bias").attr_dict()["rnn_i2h_bias"])
    value = nd.zeros((16,))
    mx.init.Xavier()(bias, value)
    assert value.asnumpy().tolist() == [0] * 4 + [2] * 4 + [0] * 8


def test_modifiers():
    inner = mx.rnn.RNNCell(5, prefix="r_")
    cell = mx.rnn.ResidualCell(inner)
    with pytest.raises(AssertionError, match="modifier"):
        inner.begin_state()
    outputs, _ = cell.unroll(2, [sym.var("a"), sym.var("b")])
    assert outputs[0].list_outputs() == ["r_t0_out_plus_residual_output"]
    args = {n: nd.zeros(s) for n, s in (("r_i2h_weight", (5, 5)), ("r_h2h_weight", (5, 5)))}
    args |= {"r_i2h_bias": nd.zeros(5), "r_h2h_bias": nd.zeros(5), "a": nd.ones((2, 5))}
    assert outputs[0].bind(mx.cpu(), args).forward()[0].asnumpy().sum() == 10
    zone = mx.rnn.ZoneoutCell(mx.rnn.RNNCell(5, prefix="z_"), 0.5, 0.5)
    outputs, _ = zone.unroll(2, [sym.var("a"), sym.var("b")])
    assert sym.Group(outputs).infer_shape(a=(2, 5), b=(2, 5))[1] == [(2, 5)] * 2
    with pytest.raises(AssertionError, match="unfuse"):
        mx.rnn.ZoneoutCell(mx.rnn.FusedRNNCell(3))
    with pytest.raises(NotImplementedError, match="unroll"):
        mx.rnn.FusedRNNCell(3)(sym.var("x"), [])
    stack = mx.rnn.SequentialRNNCell()
    stack.add(mx.rnn.DropoutCell(0.3))
    assert stack.unroll(2, sym.var("x"), merge_outputs=True)[0].infer_shape(x=(1, 2, 3))[1]


def test_sentences_are_numbered_and_sorted_into_buckets():
    coded, vocab = mx.rnn.encode_sentences([["a", "b"], ["b", "c"]], invalid_label=0, start_label=0)
    assert coded == [[1, 2], [2, 3]] and vocab == {"\n": 0, "a": 1, "b": 2, "c": 3}
    with pytest.raises(AssertionError, match="Unknown token d"):
        mx.rnn.encode_sentences([["d"]], vocab)
    rows = [[1, 2], [3, 4, 5], [6], [7, 8, 9]] * 3
    it = mx.rnn.BucketSentenceIter(rows, 2, buckets=[2, 3], invalid_label=0, layout="TN")
    assert it.provide_data[0].shape == (3, 2) and it.default_bucket_key == 3
    for batch in it:
        data, label = batch.data[0].asnumpy(), batch.label[0].asnumpy()
        assert data.shape == (batch.bucket_key, 2) == batch.provide_data[0].shape
        assert (label[:-1] == data[1:]).all() and (label[-1] == 0).all()
    assert len(it.idx) == 6
    with pytest.raises(ValueError, match="give buckets"):
        mx.rnn.BucketSentenceIter([[1]], 2)


def test_checkpoints_hold_unpacked_weights(tmp_path):
    cell = mx.rnn.GRUCell(3, prefix="g_")
    out = sym.Group(cell.unroll(1, [sym.var("x")])[0])
    shapes = dict(zip(out.list_arguments(), out.infer_shape(x=(1, 2))[0]))
    args = {n: nd.random.normal(shape=s) for n, s in shapes.items() if n[:2] == "g_"}
    mx.rnn.do_rnn_checkpoint(cell, str(tmp_path / "m"), 2)(1, out, args, {})
    assert "arg:g_i2h_r_weight" in nd.load(str(tmp_path / "m-0002.params"))
    _, found, _ = mx.rnn.load_rnn_checkpoint(cell, str(tmp_path / "m"), 2)
    assert found.keys() == args.keys()
    assert all((found[n] == a).asnumpy().all() for n, a in args.items())


# --- Modules --------------------------------------------------------------------------------------


def test_states_of_a_module_are_carried_on():
    cell = mx.rnn.RNNCell(2, prefix="c_")
    begin = cell.begin_state(func=sym.Variable)
    _, states = cell.unroll(3, sym.var("data"), begin)
    two = [mx.cpu(0), mx.cpu(1)]
    names = [s.name for s in begin]
    module = mx.mod.Module(sym.Group(states), label_names=None, context=two, state_names=names)
    module.bind([("data", (5, 3, 4))], for_training=False)
    module.init_params(mx.init.One())
    module.set_states(value=1)
    assert module.get_states()[0].asnumpy().tolist() == [[1, 1]] * 5
    batch = mx.io.DataBatch([nd.zeros((5, 3, 4))])
    module.forward(batch)
    before = module.get_outputs(merge_multi_context=False)
    module.set_states(states=before)
    assert (module.get_states()[0] == module.get_outputs()[0]).asnumpy().all()
    with pytest.raises(AssertionError, match="either"):
        module.set_states()


def test_layout_tells_which_axis_is_the_batch():
    out = sym.Activation(sym.var("data"), act_type="relu", __layout__="TNC")
    module = mx.mod.Module(out, label_names=None, context=[mx.cpu(0), mx.cpu(1)])
    module.bind([mx.io.DataDesc("data", (3, 8, 7), layout="TNC")], inputs_need_grad=True)
    module.init_params()
    x = nd.random.normal(shape=(3, 8, 7))
    module.forward(mx.io.DataBatch([x]))
    module.backward([x])
    assert [a.shape for a in module.get_outputs(False)[0]] == [(3, 4, 7)] * 2
    expected = np.maximum(x.asnumpy(), 0)
    assert np.array_equal(module.get_outputs()[0].asnumpy(), expected)
    assert np.array_equal(module.get_input_grads()[0].asnumpy(), expected)


def test_requests_by_name_and_absent_gradients():
    module = mx.mod.Module(
        sym.FullyConnected(sym.var("data"), num_hidden=2, name="fc"), label_names=None
    )
    module.bind([("data", (3, 4))], inputs_need_grad=True, grad_req={"data": "null"})
    grads = module._execs[0].grad_dict
    assert {n for n, g in grads.items() if g is not None} == {"fc_weight", "fc_bias"}
    module.init_params()
    assert module.get_input_grads() == [None]
    given = {"fc_weight": nd.ones((2, 4)), "fc_bias": nd.ones(2), "x": nd.ones(1)}
    with pytest.raises(ValueError, match="'x'"):
        module.set_params(given, {}, allow_missing=True)
    module.set_params(given, {}, allow_missing=True, allow_extra=True)
    assert module.get_params()[0]["fc_bias"].asnumpy().tolist() == [1, 1]


def points():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    x = rng.normal(size=(120, 4)).astype("float32")
    x[np.arange(120), y] += 4
    return x, y.astype("float32")


def test_a_chain_of_modules_and_a_loss_in_python():
    x, y = points()
    row = mx.mod.SequentialModule()
    net = mx.mod.Module(sym.FullyConnected(sym.var("data"), num_hidden=3), label_names=None)
    loss = mx.mod.PythonLossModule(grad_func=lambda s, t: (s.softmax() - t.one_hot(3)).asnumpy())
    assert row.add(net).add(loss, take_labels=True, auto_wiring=True) is row
    it = mx.io.NDArrayIter(x, y, 20)
    row.fit(it, num_epoch=5, optimizer_params={"learning_rate": 0.5})
    assert row.score(it, "acc")[0][1] > 0.9
    assert row.output_names == ["pyloss_output"] and row.data_names == ["data"]
    with pytest.raises(AssertionError, match="out_grads"):
        loss.backward([nd.ones(1)])
    with pytest.raises(AssertionError, match="Unknown meta"):
        row.add(net, labels=True)


def test_feedforward(tmp_path):
    x, y = points()
    out = sym.SoftmaxOutput(sym.FullyConnected(sym.var("data"), num_hidden=3), name="softmax")
    with pytest.warns(DeprecationWarning):
        model = mx.model.FeedForward(out, num_epoch=4, learning_rate=0.5, numpy_batch_size=30)
    model.fit(x, y, eval_data=(x, y))
    assert (model.predict(x).argmax(1) == y).mean() > 0.9
    assert model.score(mx.io.NDArrayIter(x, y, 40)) > 0.9
    found, data, label = model.predict(mx.io.NDArrayIter(x, y, 50), return_data=True)
    assert found.shape == (120, 3) and np.array_equal(data, x) and np.array_equal(label, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model.save(str(tmp_path / "m"))
        again = mx.model.FeedForward.load(str(tmp_path / "m"), 4)
        made = mx.model.FeedForward.create(out, mx.io.NDArrayIter(x, y, 30), num_epoch=1)
    np.testing.assert_allclose(again.predict(x), model.predict(x))
    assert made.arg_params.keys() == model.arg_params.keys()
    with pytest.raises(ValueError, match="y must be"):
        model.fit(x)


@pytest.mark.parametrize("epoch_size, batches", [(None, 6), (4, 4), (10, 10)])
@pytest.mark.filterwarnings("ignore:mxnet.model.FeedForward:DeprecationWarning")
def test_feedforward_with_a_label_of_another_name(epoch_size, batches):
    x, y = points()
    out = sym.FullyConnected(sym.var("data"), num_hidden=3)
    out = sym.SoftmaxOutput(out, sym.var("answer"), name="softmax")
    seen, ends = [], []
    model = mx.model.FeedForward.create(
        out,
        mx.io.NDArrayIter(x, y, 20, label_name="answer"),
        num_epoch=2,
        epoch_size=epoch_size,
        eval_data=mx.io.NDArrayIter(x, y, 40, label_name="answer"),
        batch_end_callback=lambda p: seen.append((p.epoch, p.nbatch)),
        eval_end_callback=lambda p: ends.append(p.epoch),
    )
    assert seen == [(e, i + 1) for e in range(2) for i in range(batches)] and ends == [0, 1]
    assert model.predict(x).shape == (120, 3)  # the label's name there is another
    odd = mx.io.NDArrayIter(x, np.zeros((120, 7)), 40, label_name="answer")
    assert model.predict(odd).shape == (120, 3)  # a label does not count there, whatever its shape
    assert 0 <= model.score(mx.io.NDArrayIter(x, y, 40, label_name="answer")) <= 1


def test_first_states_of_numpy_kind():
    mx.npx.set_np()
    try:
        for layer in (mx.gluon.rnn.LSTM(4), mx.gluon.rnn.GRUCell(4)):
            assert type(layer.begin_state(batch_size=2)[0]) is mx.np.ndarray
    finally:
        mx.npx.reset_np()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_cell_over_pictures_of_one_pixel_is_the_plain_cell(kind):
    one = {"h2h_kernel": (1, 1), "i2h_kernel": (1, 1), "i2h_pad": (0, 0), "activation": "tanh"}
    over = getattr(mx.rnn, f"Conv{kind}Cell")((1, 3, 1, 1), 4, prefix="c_", **one)
    plain = getattr(mx.rnn, f"{kind}Cell")(4, prefix="c_")
    assert isinstance(over, mx.rnn.BaseConvRNNCell) and isinstance(over, type(plain))
    steps = [sym.var("x0"), sym.var("x1")]
    a, b = (sym.Group(cell.unroll(2, steps)[0]) for cell in (over, plain))
    shapes = dict(zip(b.list_arguments(), b.infer_shape(x0=(2, 3), x1=(2, 3))[0]))
    values = {n: mx.nd.random.uniform(-1, 1, s) for n, s in shapes.items()}
    pictures = {n: v if v.ndim == 1 else v.reshape((0, 0, 1, 1)) for n, v in values.items()}
    for y, z in zip(a.eval(**pictures), b.eval(**values)):
        assert np.allclose(y.asnumpy()[:, :, 0, 0], z.asnumpy(), atol=1e-6)
    assert over.unpack_weights({n: v for n, v in pictures.items() if n[0] == "c"}).keys() == (
        plain.unpack_weights({n: v for n, v in values.items() if n[0] == "c"}).keys()
    )
    with pytest.raises(AssertionError, match="odd number"):
        getattr(mx.rnn, f"Conv{kind}Cell")((1, 3, 4, 4), 2, h2h_kernel=(2, 2))
    wide = mx.rnn.ConvLSTMCell((1, 3, 8, 6), 2, i2h_stride=(2, 2))
    assert wide.state_shape == [(0, 2, 4, 3)] * 2
