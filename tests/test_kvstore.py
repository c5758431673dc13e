"""Stores: what MXNet 1.9.1 answers, refusals that change nothing, and several processes under MPI."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
from minigluon import kvstore, nd

CPUS = [mx.cpu(i) for i in range(4)]


def ones(n=1.0, ctx=None):
    return nd.full((2, 3), n, ctx)


def pulled(kv, key):
    out = nd.zeros((2, 3))
    kv.pull(key, out=out)
    assert len(set(out.asnumpy().ravel().tolist())) == 1
    return out.asnumpy()[0, 0].item()


@pytest.mark.parametrize("kind", ["local", "device", "local_allreduce_cpu"])
def test_push_and_pull(kind):
    kv = kvstore.create(kind)
    assert (kv.type, kv.rank, kv.num_workers, kv.is_capable("optimizer")) == (kind, 0, 1, True)
    kv.init(3, ones(2))
    assert pulled(kv, 3) == 2
    kv.push(3, ones(8))
    assert pulled(kv, 3) == 8
    kv.push(3, [ones(1, c) for c in CPUS])
    assert pulled(kv, 3) == 4
    kv.init([5, 6], [ones(0), ones(0)])
    kv.push([5, 6], [[ones(), ones()], [ones()]])
    assert (pulled(kv, 5), pulled(kv, 6)) == (2, 1)
    kv.push([5, 5], [ones(), ones()])
    assert pulled(kv, 5) == 2
    out = ones(0)
    kv.pushpull(5, ones(7), out=out)
    assert out.asnumpy().max() == pulled(kv, 5) == 7
    values = [ones(1), ones(2, CPUS[1])]
    kv.pushpull(5, values)
    assert [v.asnumpy()[0, 0] for v in values] == [3, 3]
    outs = [ones(0), ones(0)]
    kv.broadcast(9, ones(5), out=outs)
    assert outs[1].asnumpy().min() == 5
    kv._barrier()


def test_the_store_keeps_its_own_memory():
    kv, a = kvstore.create("device"), ones(1)
    kv.init("a", a)
    a += 1
    assert pulled(kv, "a") == 1
    kv.push("a", a)
    a += 1
    assert pulled(kv, "a") == 2


def test_types_are_converted():
    kv = kvstore.create()
    kv.init(1, nd.ones((2,), dtype="float16"))
    out = nd.zeros((2,))
    kv.pull(1, out)
    assert out.dtype == np.float32 and out.asnumpy().tolist() == [1, 1]


def test_updaters():
    kv, seen = kvstore.create(), []

    def double(key, pushed, stored):
        seen.append(key)
        stored += pushed * 2

    kv.init("w", ones(4))
    kv.set_updater(double)
    kv.push("w", ones())
    assert pulled(kv, "w") == 6 and seen == ["w"]
    kv = kvstore.create()
    kv.set_optimizer(mx.optimizer.create("sgd", learning_rate=0.1, momentum=0.9))
    kv.init("w", ones())
    kv.push("w", ones())
    assert np.isclose(pulled(kv, "w"), 0.9) and list(kv._updater.states) == ["w"]


def test_states_of_the_store(tmp_path):
    stores = []
    for _ in range(2):
        kv = kvstore.create()
        kv.set_optimizer(mx.optimizer.create("sgd", learning_rate=0.1, momentum=0.9))
        kv.init("w", ones())
        stores.append(kv)
    first, second = stores
    first.push("w", ones())
    first.save_optimizer_states(tmp_path / "s")
    second.load_optimizer_states(tmp_path / "s")
    second.push("w", ones(0))
    assert np.isclose(pulled(second, "w"), 1 - 0.09)


def test_compression_as_in_mxnet():
    kv = kvstore.create("device")
    kv.set_gradient_compression({"type": "2bit", "threshold": 0.5})
    kv.init("g", nd.zeros((6,)))
    g, out = nd.array([0.2, 0.5, -0.5, 0.49, 1.7, -3]), nd.zeros((6,))
    for wanted in (
        [0, 0.5, -0.5, 0, 0.5, -0.5],
        [0, 0.5, -0.5, 0.5, 0.5, -0.5],
        [0.5, 0.5, -0.5, 0.5, 0.5, -0.5],
    ):
        kv.push("g", g)
        kv.pull("g", out)
        assert out.asnumpy().tolist() == wanted


def test_rows():
    kv = kvstore.create("local")
    kv.init("e", nd.ones((3, 2)).tostype("row_sparse"))
    a, b = (nd.sparse.zeros("row_sparse", (3, 2)) for _ in range(2))
    kv.row_sparse_pull("e", out=a, row_ids=nd.array([2, 0, 2]))
    assert a.indices.tolist() == [0, 2] and a.asnumpy()[:, 0].tolist() == [1, 0, 1]
    kv.row_sparse_pull("e", out=[a, b], row_ids=[nd.array([0]), nd.array([1, 1])])
    assert (a.indices.tolist(), b.indices.tolist()) == ([0], [1])
    kv.row_sparse_pull("e", out=[a, b], row_ids=[nd.array([0])])
    assert a.indices.tolist() == b.indices.tolist() == [0]
    rows = nd.sparse.row_sparse_array(([[1, 1], [2, 2]], [0, 2]), shape=(3, 2))
    kv.push("e", [rows, rows.copyto(mx.cpu(1))])
    kv.row_sparse_pull("e", out=a, row_ids=nd.array([0, 1, 2]))
    assert a.asnumpy()[:, 0].tolist() == [2, 0, 4]
    dense = nd.zeros((3, 2))
    kv.pull("e", out=dense)
    assert dense.asnumpy()[:, 0].tolist() == [2, 0, 4]
    kv.pull("e", out=b)  # left alone
    assert b.indices.tolist() == [0]
    kv.pull("e", out=b, ignore_sparse=False)
    assert b.asnumpy().tolist() == dense.asnumpy().tolist()
    kv.init("dense", nd.ones((3, 2)))
    kv.push("dense", rows)
    kv.pull("dense", out=dense)
    assert dense.asnumpy()[:, 0].tolist() == [1, 0, 2]
    kv.row_sparse_pull("dense", out=a, row_ids=nd.array([0]))
    assert a.asnumpy()[:, 0].tolist() == [1, 0, 0]


def rows_of(ids, out=None):
    kv = store()
    out = nd.sparse.zeros("row_sparse", (2, 3)) if out is None else out
    return lambda: kv.row_sparse_pull(3, out=out, row_ids=ids)


def store(kind="local"):
    kv = kvstore.create(kind)
    kv.init(3, ones())
    return kv


FAULTS = {
    "name": (lambda: kvstore.create(3), TypeError, "name must be a string"),
    "unknown": (lambda: kvstore.create("dist_snyc"), mx.MXNetError, "known are"),
    "async": (lambda: kvstore.create("dist_async"), mx.MXNetError, "dist_sync"),
    "nccl": (lambda: kvstore.create("nccl"), mx.MXNetError, "device"),
    "again": (lambda: store().init(3, ones()), mx.MXNetError, "duplicate init of key 3"),
    "mixed": (lambda: store().init("a", ones()), mx.MXNetError, "Mixed key types"),
    "push": (lambda: store().push(4, ones()), mx.MXNetError, "has not been inited"),
    "pull": (lambda: store().pull(4, ones()), mx.MXNetError, "has not been inited"),
    "no out": (lambda: store().pull(3), AssertionError, "out"),
    "shape": (lambda: store().push(3, nd.zeros((4,))), mx.MXNetError, "shape"),
    "shape out": (lambda: store().pull(3, nd.zeros((4,))), mx.MXNetError, "shape"),
    "lengths": (lambda: store().push([3, 3], [ones()]), AssertionError, "2 keys and 1"),
    "key": (lambda: store().init(1.5, ones()), AssertionError, "unexpected type for keys"),
    "value": (lambda: store().init(4, np.ones(3)), AssertionError, "NDArray"),
    "capability": (lambda: store().is_capable("x"), ValueError, "Unknown capability"),
    "save": (lambda: store().save_optimizer_states("x"), AssertionError, "Cannot save states"),
    "load": (lambda: store().load_optimizer_states("x"), AssertionError, "Cannot load states"),
    "local 2bit": (
        lambda: store().set_gradient_compression({"type": "2bit"}),
        Exception,
        "not supported for this type",
    ),
    "1bit": (
        lambda: store("device").set_gradient_compression({"type": "1bit"}),
        mx.MXNetError,
        "Unknown type for gradient compression",
    ),
    "no kind": (lambda: store("device").set_gradient_compression({}), mx.MXNetError, "Required"),
    "threshold": (
        lambda: store("device").set_gradient_compression({"type": "2bit", "threshold": 0}),
        mx.MXNetError,
        "greater than 0",
    ),
    "no rows": (rows_of(None), AssertionError, "row_ids"),
    "rows": (rows_of(3), AssertionError, "row_ids should be NDArray"),
    "dense rows": (rows_of(nd.array([0]), ones()), mx.MXNetError, "row_sparse"),
    "row 7": (rows_of(nd.array([7])), mx.MXNetError, "of 2 rows"),
    "base": (lambda: kvstore.KVStoreBase().pushpull(1, ones()), NotImplementedError, None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name):
    call, error, message = FAULTS[name]
    with pytest.raises(error, match=message):
        call()


def test_register():
    @kvstore.KVStoreBase.register
    class OwnStore(kvstore.KVStoreBase):
        pass

    assert type(kvstore.create("OwnStore")) is OwnStore
    with pytest.warns(UserWarning, match="overriding"):
        kvstore.KVStoreBase.register(OwnStore)
    del kvstore.KVStoreBase.kv_registry["ownstore"]


# Several processes


@pytest.fixture
def launch(tmp_path):
    """A function that trains on so many ranks; skipped aloud where no MPI can be started."""
    python = os.environ.get("MINIGLUON_MPI_PYTHON", sys.executable)
    mpirun = Path(python).with_name("mpirun")
    mpirun = str(mpirun) if mpirun.exists() else shutil.which("mpirun")
    if mpirun is None or (python == sys.executable and importlib.util.find_spec("mpi4py") is None):
        pytest.skip(
            "no MPI: pip install 'minigluon[mpi]', or set MINIGLUON_MPI_PYTHON to a Python with it"
        )
    program = Path(__file__).with_name("mpi_train.py")
    root = str(Path(mx.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",  # these are Open MPI's; others do not mind them
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    if importlib.util.find_spec("sklearn"):
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        np.savez(tmp_path / "digits.npz", images=images / 16, labels=labels)

    def launched(ranks, out="w", *fault):
        command = [mpirun, "-n", str(ranks), python]
        return subprocess.run(
            [*command, str(program), out, *fault],
            cwd=tmp_path, env=environment, capture_output=True, timeout=60,
        )  # fmt: skip

    return launched


def test_ranks_train_as_one(launch, tmp_path):
    for ranks, out in ((1, "w"), (2, "w"), (4, "w"), (4, "again")):
        done = launch(ranks, out)
        assert done.returncode == 0, done.stderr[-2000:]
    found = {p.name: dict(np.load(p)) for p in tmp_path.glob("*.*.*.npz")}
    assert len(found) == 11
    whole = found["w.1.0.npz"]
    for name, arrays in found.items():
        ranks, rows = int(name.split(".")[1]), arrays.pop("rows").tolist()
        assert rows == [[1] * 6, [float(row < ranks) for row in range(5)] + [ranks]]
        for key in whole.keys() - {"rows"}:
            np.testing.assert_allclose(arrays[key], whole[key], atol=1e-10)
            same = found[f"w.{ranks}.0.npz"][key]
            assert arrays[key].tobytes() == same.tobytes()  # on all ranks, in every run


@pytest.mark.parametrize(
    ("fault", "message"),
    [("raise", "rank 1 of 3 has failed"), ("exit", "rank 1 has ended"), ("kill", "signal 9")],
)
def test_one_dies_all_end(launch, fault, message):
    done = launch(3, "w", fault)
    said = " ".join((done.stdout + done.stderr).decode(errors="replace").split())
    assert done.returncode != 0 and message in said, said[-2000:]
