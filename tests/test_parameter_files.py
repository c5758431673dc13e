"""Files of parameters: by place, by name, both ways with MXNet, and what must be refused."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
from minigluon import gluon
from minigluon.gluon import SymbolBlock, nn


def mlp(units=(4, 3), **kwargs):
    net = nn.HybridSequential(**kwargs)
    with net.name_scope():
        net.add(*[nn.Dense(n, activation="relu") for n in units])
    return net


@pytest.fixture
def trained():
    net = mlp()
    net.initialize(mx.init.Xavier())
    net(mx.nd.ones((1, 5)))
    return net


def values(net):
    return [p.data().asnumpy() for p in net.collect_params().values()]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(values(a), values(b), strict=True))


def test_a_file_by_places_fits_a_network_of_other_names(trained, tmp_path):
    file = str(tmp_path / "net.params")
    trained.save_parameters(file)
    assert [*mx.nd.load(file)] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    other = mlp(prefix="other_")
    other.load_parameters(file)
    assert same(trained, other)


def test_a_file_by_names_is_read_too(trained, tmp_path):
    file = str(tmp_path / "net.params")
    arrays = {name: p.data() for name, p in trained.collect_params().items()}
    mx.nd.save(file, arrays)
    again = mlp(prefix=trained.prefix)
    again.load_parameters(file)
    assert same(trained, again)
    mx.nd.save(file, {name.removeprefix(trained.prefix): a for name, a in arrays.items()})
    bare = mlp()
    bare.load_parameters(file)
    assert same(trained, bare)
    dense, copy = trained[0], nn.Dense(4)
    dense.save_parameters(file)  # no dots in the names of a single layer
    copy.load_parameters(file)
    assert same(dense, copy)


def test_missing_and_extra(trained, tmp_path):
    file = str(tmp_path / "net.params")
    trained.save_parameters(file)
    longer, shorter = mlp((4, 3, 2)), mlp((4,))
    with pytest.raises(
        AssertionError, match=r"Parameter '2.weight' is missing in file '.*'0.bias'"
    ):
        longer.load_parameters(file)
    assert longer[0].weight.shape == (4, 0)  # nothing was touched
    longer.load_parameters(file, allow_missing=True)
    assert np.array_equal(longer[1].bias.data().asnumpy(), trained[1].bias.data().asnumpy())
    with pytest.raises(ValueError, match="'1.weight' loaded from file .* is not present"):
        shorter.load_parameters(file)
    shorter.load_parameters(file, ignore_extra=True)
    assert np.array_equal(shorter[0].weight.data().asnumpy(), trained[0].weight.data().asnumpy())


def test_shapes_and_types_must_fit_before_anything_changes(trained, tmp_path):
    file = str(tmp_path / "net.params")
    arrays = {w: p.data() * 0 for w, p in trained._collect_params_with_prefix().items()}
    arrays["1.bias"] = mx.nd.ones((7,))
    mx.nd.save(file, arrays)
    before = values(trained)
    with pytest.raises(AssertionError, match=r"shape incompatible expected \(3,\) vs saved \(7,\)"):
        trained.load_parameters(file)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(trained)))
    trained.save_parameters(file)
    half = mlp()
    half.cast("float16")
    with pytest.raises(
        AssertionError, match="dtype incompatible expected float16.*cast_dtype=True"
    ):
        half.load_parameters(file)
    half.load_parameters(file, cast_dtype=True)
    assert half[0].weight.data().dtype == np.float16
    half.load_parameters(file, cast_dtype=True, dtype_source="saved")
    assert half[0].weight.data().dtype == np.float32
    with pytest.raises(AssertionError, match="dtype_source"):
        half.load_parameters(file, dtype_source="wishes")


def test_contexts(trained, tmp_path):
    file = str(tmp_path / "net.params")
    trained.save_parameters(file)
    two = mlp()
    two.load_parameters(file, ctx=[mx.cpu(0), mx.cpu(1)])
    assert two[0].weight.list_ctx() == [mx.cpu(0), mx.cpu(1)]
    with pytest.raises(AssertionError, match="previous initialized"):
        two.load_parameters(file, ctx=mx.cpu(0))
    waiting = mlp()
    waiting.initialize(ctx=mx.cpu(1))
    waiting.load_parameters(file)
    assert waiting[0].weight.list_ctx() == [mx.cpu(1)]
    assert waiting(mx.nd.ones((1, 5), mx.cpu(1))).context == mx.cpu(1)


def test_shared_parameters_are_found_by_either_place(tmp_path):
    def tied():
        net, first = nn.HybridSequential(), nn.Dense(3, in_units=3)
        net.add(first, nn.Dense(3, in_units=3, params=first.params))
        return net

    net, file = tied(), str(tmp_path / "net.params")
    net.initialize()
    net.save_parameters(file)
    assert len(mx.nd.load(file)) == 4
    net.save_parameters(file, deduplicate=True)
    assert [*mx.nd.load(file)] == ["1.weight", "1.bias"]
    again = tied()
    again.load_parameters(file)
    assert same(net, again)
    with pytest.raises(AssertionError, match="'0.weight' is missing"):
        mlp((3, 3)).load_parameters(file)


def test_files_that_are_none(trained, tmp_path):
    file = tmp_path / "net.params"
    mx.nd.save(str(file), [mx.nd.ones((2,))])
    with pytest.raises(ValueError, match="without names"):
        trained.load_parameters(str(file))
    file.write_bytes(b"hello")
    with pytest.raises(mx.MXNetError):
        trained.load_parameters(str(file))
    with pytest.raises((mx.MXNetError, FileNotFoundError)):
        trained.load_parameters(str(tmp_path / "nothing.params"))
    with pytest.warns(UserWarning, match="save_params is deprecated"):
        trained.save_params(str(file))
    with pytest.warns(UserWarning, match="load_params is deprecated"):
        mlp().load_params(str(file))


def test_exported_parameters_load_into_the_network(trained, tmp_path):
    trained.hybridize()
    trained(mx.nd.ones((1, 5)))
    trained.export(str(tmp_path / "net"))
    again = mlp(prefix=trained.prefix)
    again.load_parameters(str(tmp_path / "net-0000.params"))
    assert same(trained, again)
    block = SymbolBlock.imports(str(tmp_path / "net-symbol.json"), "data")
    block.load_parameters(str(tmp_path / "net-0000.params"))
    x = mx.nd.ones((2, 5))
    assert np.array_equal(block(x).asnumpy(), trained(x).asnumpy())


THERE = """
import sys
import numpy as np
np.bool = bool
import mxnet as mx
from mxnet.gluon import nn
net = nn.HybridSequential()
net.add(nn.Dense(4, activation="relu"), nn.Dense(3, activation="relu"))
net.load_parameters(sys.argv[1])
np.save(sys.argv[3], net(mx.nd.arange(10).reshape((2, 5))).asnumpy())
net.save_parameters(sys.argv[2])
"""


def test_mxnet_reads_and_writes_the_same_files(trained, tmp_path, mxnet_python):
    ours, theirs, out = (str(tmp_path / n) for n in ("ours.params", "theirs.params", "out.npy"))
    trained.save_parameters(ours)
    subprocess.run([mxnet_python, "-c", THERE, ours, theirs, out], check=True)
    assert Path(ours).read_bytes() == Path(theirs).read_bytes()
    x = mx.nd.arange(10).reshape((2, 5))
    np.testing.assert_allclose(trained(x).asnumpy(), np.load(out), rtol=1e-5)
    again = mlp()
    again.load_parameters(theirs)
    assert same(trained, again)


SUMMARY = """\
--------------------------------------------------------------------------------
        Layer (type)                                Output Shape         Param #
================================================================================
               Input                              (2, 3), (1, 3)               0
             Dense-1                                      (2, 2)               8
             Dense-2                                      (1, 2)               8
               Two-3                              (2, 2), (1, 2)               0
================================================================================
Parameters in forward computation graph, duplicate included
   Total params: 16
   Trainable params: 16
   Non-trainable params: 0
Shared params in forward computation graph: 8
Unique parameters in model: 8
--------------------------------------------------------------------------------
"""  # as MXNet 1.9.1 prints it


def test_summary(capsys):
    class Two(mx.gluon.Block):
        def __init__(self):
            super().__init__()
            self.d = nn.Dense(2)

        def forward(self, x, y):
            return [self.d(x), self.d(y)]

    net = Two()
    net.initialize()
    net.d(mx.nd.ones((1, 3)))
    net.summary(mx.nd.ones((2, 3)), mx.nd.ones((1, 3)))
    assert capsys.readouterr().out == SUMMARY
    net.hybridize()
    with pytest.raises(AssertionError, match="must not be hybridized to print summary"):
        net.summary(mx.nd.ones((2, 3)), mx.nd.ones((1, 3)))
    assert not net.d._forward_hooks


def test_summary_of_a_network_that_waits_for_its_first_batch(capsys):
    net = mlp()
    net.initialize()
    net.summary(mx.nd.ones((2, 5)))
    assert "Total params: 39" in capsys.readouterr().out


def test_hooks_on_operators(trained):
    heard, x = [], mx.nd.ones((1, 5))
    wanted = trained(x).asnumpy()
    trained.register_op_hook(lambda *a: heard.append(a), monitor_all=True)
    trained(x)
    assert not heard  # as in MXNet: only hybridized networks have a graph to walk
    trained.hybridize()
    assert np.array_equal(trained(x).asnumpy(), wanted)
    name = trained[0].prefix
    assert [h[:2] for h in heard[:4]] == [
        (f"{name}fwd_data", "FullyConnected"),
        (f"{name}fwd_weight", "FullyConnected"),
        (f"{name}fwd_bias", "FullyConnected"),
        (f"{name}fwd_output", "FullyConnected"),
    ]
    with mx.autograd.record():
        y = trained(x)
    y.backward()
    assert trained[0].weight.grad().shape == (4, 5)


def test_optimize_for(trained):
    trained.optimize_for(mx.nd.ones((1, 5)))
    assert trained._active
    before = trained(mx.nd.ones((1, 5))).asnumpy()
    trained.optimize_for(mx.nd.ones((1, 5)), backend="MKLDNN", static_alloc=True)  # as for symbols
    assert np.array_equal(trained(mx.nd.ones((1, 5))).asnumpy(), before)
    with pytest.raises(TypeError, match="backend is a name"):
        trained.optimize_for(mx.nd.ones((1, 5)), backend=3)


# --- Trees of blocks ------------------------------------------------------------------------------


def tower(inner=3):
    net = nn.HybridSequential()
    net.add(nn.Dense(inner, activation="relu"), nn.HybridSequential(), nn.Dense(2))
    net[1].add(nn.Dropout(0.5))
    return net


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_network_is_saved_with_its_tree(tmp_path, hybrid):
    net, x = tower(), mx.nd.ones((2, 4))
    net.initialize()
    net.hybridize(hybrid)
    y = net(x).asnumpy()
    net.save(str(tmp_path / "net"))
    again = tower()
    again.load(str(tmp_path / "net"))
    assert (again(x).asnumpy() == y).all() and again._active == hybrid


@pytest.mark.parametrize(
    "text, message",
    [("{", "no JSON"), ("[]", "no block 'hybridsequential0'"), ('{"a": 3}', "no block")],
)
def test_a_tree_that_does_not_fit_changes_nothing(tmp_path, text, message):
    (tmp_path / "net-model.json").write_text(text)
    net = tower()
    before = [*net._children]
    with pytest.raises(mx.MXNetError, match=message):
        net.load(str(tmp_path / "net"))
    assert [*net._children] == before


def test_mxnet_reads_a_tree(tmp_path):
    if "MXNET_PYTHON" not in os.environ:
        pytest.skip("MXNet is not installed: name its interpreter in MXNET_PYTHON")
    net, x = tower(), mx.nd.ones((2, 4))
    net.initialize()
    net(x)
    net.save(str(tmp_path / "net"))
    code = (
        "import numpy as np; np.bool = bool; import mxnet as mx, sys; from mxnet.gluon import nn\n"
        "net = nn.HybridSequential(); net.add(nn.Dense(3, activation='relu'), nn.HybridSequential(), "
        "nn.Dense(2)); net[1].add(nn.Dropout(0.5)); net.load(sys.argv[1]); "
        "print(net(mx.nd.ones((2, 4))).asnumpy().tolist())"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [os.path.expanduser(os.environ["MXNET_PYTHON"]), "-c", code, str(tmp_path / "net")],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), net(x).asnumpy(), rtol=1e-5)


def test_weights_stored_by_rows_are_saved(tmp_path):
    net = gluon.contrib.nn.SparseEmbedding(5, 2)
    net.initialize(mx.init.One())
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0})
    with mx.autograd.record():
        loss = net(mx.nd.array([1, 3])).sum()
    loss.backward()
    trainer.step(1)
    net.save_parameters(str(tmp_path / "a"))
    found = mx.nd.load(str(tmp_path / "a"))["weight"]
    assert found.stype == "row_sparse" and found.asnumpy()[:, 0].tolist() == [1, 0, 1, 0, 1]
    again = gluon.contrib.nn.SparseEmbedding(5, 2)
    again.load_parameters(str(tmp_path / "a"))
    gluon.Trainer(again.collect_params(), "sgd")
    assert again.weight.row_sparse_data(mx.nd.array([0, 1])).asnumpy()[:2, 0].tolist() == [1, 0]


def test_saved_parameters_are_the_mean_over_contexts(tmp_path):
    net = gluon.nn.Dense(1, in_units=1)
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    for i in range(2):
        net.weight.data(mx.cpu(i))[:] = i
    net.save_parameters(str(tmp_path / "a"))
    assert mx.nd.load(str(tmp_path / "a"))["weight"].asscalar() == 0.5


def test_a_block_without_parameters_has_a_file_too(tmp_path):
    path, bend = str(tmp_path / "none.params"), nn.Activation("relu")
    bend.save_parameters(path)
    bend.load_parameters(path)
    bend.collect_params().save(path)
    bend.collect_params().load(path)
    with pytest.raises(AssertionError, match="missing"):
        nn.Dense(2, in_units=2).load_parameters(path)
