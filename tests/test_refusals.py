"""What graphs refuse, and when; and names of MXNet that only tell what to do instead."""

import bz2
import zipfile

import pytest

import minigluon as mx
from minigluon import nd

S = mx.sym
X = S.Variable("data")

AT_ONCE = {
    "Pooling takes .*kernel is not given": lambda: S.Pooling(X, pool_type="max"),
    "stride is": lambda: S.Pooling(X, kernel=(2, 2), stride=(0, 1)),
    "num_filter is -4": lambda: S.Convolution(X, kernel=(3, 3), num_filter=-4),
    "num_filter is 0": lambda: S.Convolution(X, kernel=(3, 3), num_filter=0),
    "num_filter is not": lambda: S.Convolution(X, kernel=(3, 3)),
    "kernel is not": lambda: S.Convolution(X, num_filter=4),
    "num_group is 0": lambda: S.Convolution(X, kernel=(3, 3), num_filter=4, num_group=0),
    "dilate is": lambda: S.Deconvolution(X, kernel=(3, 3), num_filter=4, dilate=(0, 1)),
    "num_hidden is not": lambda: S.FullyConnected(X),
    "num_hidden is 0": lambda: S.FullyConnected(X, num_hidden=0),
    "num_hidden is 2.5": lambda: S.FullyConnected(X, num_hidden=2.5),
    "input_dim is 0": lambda: S.Embedding(X, input_dim=0, output_dim=3),
    "scale is 0": lambda: S.UpSampling(X, scale=0, sample_type="nearest"),
    "pooled_size is": lambda: S.ROIPooling(X, S.var("r"), pooled_size=(0, 2), spatial_scale=1),
    "mode is 'foo'": lambda: S.RNN(X, state_size=3, num_layers=1, mode="foo"),
    "num_layers is 0": lambda: S.RNN(X, state_size=3, num_layers=0, mode="lstm"),
    "num_outputs is 0": lambda: S.split(X, num_outputs=0),
    "p is 1.5": lambda: S.Dropout(X, p=1.5),
    "one of 'constant', 'edge', 'reflect'": lambda: S.pad(X, mode="foo", pad_width=(0,) * 8),
}


@pytest.mark.parametrize("says", AT_ONCE)
def test_sizes_out_of_range_are_refused_when_a_graph_is_written(says):
    with pytest.raises(mx.MXNetError, match=says):
        AT_ONCE[says]()


def test_what_needs_no_number_may_do_without():
    shape = {"data": (2, 3, 8, 8)}
    for s in (
        S.Pooling(X, global_pool=True, pool_type="avg"),
        S.Pooling(X, kernel="(2, 2)", stride="(2, 2)"),
        S.Convolution(X, kernel=(3, 3), num_filter="4", pad=(0, 0)),
        S.Dropout(X, p=0),
        S.FullyConnected(X, num_hidden=4) * 2,
    ):
        assert s.infer_shape(**shape)[1]
        assert mx.sym.load_json(s.tojson()).infer_shape(**shape)[1] == s.infer_shape(**shape)[1]


@pytest.mark.parametrize("axis", [4, -5])
def test_an_axis_that_is_not_there(axis):
    for s in (S.BatchNorm(X, axis=axis), S.LayerNorm(X, axis=axis), S.sum(X, axis=axis)):
        with pytest.raises(mx.MXNetError):
            s.infer_shape(data=(2, 3, 8, 8))


def arrays(**change):
    return {
        "data": nd.zeros((2, 4)),
        "fc_weight": nd.zeros((3, 4)),
        "fc_bias": nd.zeros(3),
        **change,
    }


def test_bind_looks_at_shapes():
    fc = S.FullyConnected(X, num_hidden=3, name="fc")
    assert fc.bind(mx.cpu(), arrays()).forward()[0].shape == (2, 3)
    for wrong in (
        {"fc_weight": nd.zeros((3, 5))},
        {"fc_bias": nd.zeros(4)},
        {"data": nd.zeros((2, 5))},
    ):
        with pytest.raises(mx.MXNetError, match="Error in operator fc"):
            fc.bind(mx.cpu(), arrays(**wrong))
    with pytest.raises(mx.MXNetError):
        S.sum(X, axis=5).bind(mx.cpu(), [nd.zeros((2, 3))])


def test_bind_trusts_what_only_running_can_tell():
    s = S.contrib.boolean_mask(X, S.Variable("mask")) + S.Variable("b")
    found = s.bind(
        mx.cpu(), {"data": nd.ones((3, 2)), "mask": nd.array([1, 0, 1]), "b": nd.ones((2, 2))}
    )
    assert found.forward()[0].shape == (2, 2)
    empty = S.relu(X).bind(mx.cpu(), {"data": mx.nd.ones((2, 3))[2:]})
    assert empty.forward()[0].shape == (0, 3)


def test_backends():
    s = S.relu(S.FullyConnected(X, num_hidden=3, name="fc"))
    for made in (s.get_backend_symbol("MKLDNN"), s.optimize_for("any", arrays())):
        assert made.tojson() == s.tojson() and made is not s
    with pytest.raises(mx.MXNetError, match="TensorRT"):
        s.get_backend_symbol("TensorRT")
    with pytest.raises(mx.MXNetError):
        s.optimize_for("any", arrays(fc_bias=nd.zeros(7)))
    with pytest.raises(TypeError):
        s.optimize_for(None)


def test_names_that_say_what_to_do_instead(tmp_path):
    (tmp_path / "x.so").write_bytes(b"")
    for path, says in (("x.so", "absolute path"), (str(tmp_path / "x.so"), "mx.operator")):
        with pytest.raises(mx.MXNetError, match=says):
            mx.library.load(path)
    with pytest.raises(AttributeError, match="DLPack"):
        mx.th.exp(nd.ones(2))
    from minigluon.kvstore.kvstore_server import KVStoreServer

    with pytest.raises(mx.MXNetError, match="mpirun"):
        KVStoreServer(mx.kv.create("local")).run()
    assert mx.executor_manager._split_input_slice(4, [1, 1]) == [slice(0, 2), slice(2, 4)]


def test_packed_data(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as packed:
        packed.writestr("a.txt", "text")
    (tmp_path / "source.bz2").write_bytes(bz2.compress(b"numbers" * 1000))
    calls = []

    def download(url, fname, dirname):
        calls.append(url)
        (tmp_path / dirname / fname).write_bytes((tmp_path / url).read_bytes())

    monkeypatch.setattr(mx.test_utils, "download", download)
    folder = tmp_path / "data"
    folder.mkdir()
    for _ in range(2):
        mx.test_utils.get_zip_data(str(folder), "source.zip", "mine.zip")
        mx.test_utils.get_bz2_data(str(folder), "numbers", "source.bz2", "mine.bz2")
    assert (folder / "a.txt").read_text() == "text" and len(calls) == 2
    assert (folder / "numbers").read_bytes() == b"numbers" * 1000
    assert mx.test_utils.is_aarch64_run() in (True, False)


def test_buckets_of_given_graphs_and_states():
    def made(key, units=1):
        s = mx.sym.FullyConnected(
            X + mx.sym.var("state"), num_hidden=units, name="fc", flatten=False
        )
        return (
            mx.sym.LinearRegressionOutput(s, mx.sym.var("softmax_label")),
            ["data"],
            ["softmax_label"],
        )

    given = {"fc_weight": nd.ones((2, 3)), "fc_bias": nd.zeros(2)}
    graphs = {4: made(4, 2)[0]}
    module = mx.mod.BucketingModule.load_dict(
        graphs, made, 4, given, {}, state_names=["state"], context=mx.cpu()
    )
    module.bind([("data", (5, 3))], [("softmax_label", (5, 2))], for_training=False)
    module.set_states(value=2)
    batch = mx.io.DataBatch([nd.ones((5, 3))], None, bucket_key=4)
    batch.provide_data, batch.provide_label = [("data", (5, 3))], [("softmax_label", (5, 2))]
    module.forward(batch)
    assert module.get_outputs()[0].asnumpy().tolist() == [[9, 9]] * 5
    assert module.get_states()[0].asnumpy().min() == 2
    with pytest.raises(AssertionError, match="sym_gen"):
        mx.mod.BucketingModule.load_dict(graphs)
