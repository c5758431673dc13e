"""`mxnet` as another name of this package."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigluon
import minigluon as mx

ROOT = Path(minigluon.__file__).parents[1]


def python(*arguments, code=None, tmp_path=None):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    return done.returncode, done.stdout, done.stderr


PROGRAM = """
import pickle, sys
import mxnet as mx
import mxnet
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
import mxnet.ndarray as F
from mxnet.gluon.data import DataLoader as Loader
import mxnet.gluon.data.dataloader
import minigluon
import minigluon as mx

assert mx is minigluon is mxnet and mx.__name__ == "minigluon"
assert mx.nd is F is minigluon.nd and gluon is minigluon.gluon and nn is minigluon.gluon.nn
assert Loader is minigluon.gluon.data.DataLoader
assert sys.modules["mxnet.gluon.data"] is sys.modules["minigluon.gluon.data"]
assert minigluon.gluon.__spec__.name == "minigluon.gluon" == minigluon.gluon.__name__
x = pickle.loads(pickle.dumps(nd.ones((2,))))
assert type(x) is minigluon.nd.NDArray and x.sum().asscalar() == 2
x.attach_grad()
with autograd.record():
    y = (x * x).sum()
y.backward()
class Mine:
    pass
assert type(pickle.loads(pickle.dumps(Mine()))) is Mine
print(x.grad.asnumpy().tolist(), sys.argv[1:], __name__, __file__)
"""


def test_a_program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + "import helper\n")
    (tmp_path / "helper.py").write_text("import mxnet.gluon\n")
    code, out, err = python("-m", "minigluon.mxnet", str(path), "--epochs", "3")
    assert code == 0, err
    assert out == f"[2.0, 2.0] ['--epochs', '3'] __main__ {path}\n" and not err


def test_code_and_modules(tmp_path):
    code, out, _ = python("-m", "minigluon.mxnet", "-c", "import mxnet, sys; print(sys.argv)", "a")
    assert (code, out) == (0, "['-c', 'a']\n")
    code, out, _ = python("-m", "minigluon.mxnet", "-m", "platform")
    assert code == 0 and out
    assert python("-m", "minigluon.mxnet")[0] == 2
    assert "usage" in python("-m", "minigluon.mxnet", "--help")[1]
    code, _, err = python("-m", "minigluon.mxnet", str(tmp_path / "none.py"))
    assert code == 1 and "cannot open" in err
    code, _, err = python("-m", "minigluon.mxnet", "-c", "import sys; sys.exit(7)")
    assert code == 7


MISSING = [
    ("import mxnet.gluonn", "ImportError", "mxnet has no 'gluonn'", "gluon"),
    ("import mxnet.gluon.los", "ImportError", "mxnet.gluon has no 'los'", "loss"),
    ("from mxnet import autogradd", "ImportError", "'autogradd'", "autograd"),
    ("from mxnet.gluon.nn import Dens", "ImportError", "'Dens'", "Dense"),
    ("import mxnet; mxnet.gloun", "AttributeError", "'gloun'", "gluon"),
    ("from mxnet.nosuch.part import x", "ImportError", "mxnet has no 'nosuch'", ""),
]


@pytest.mark.parametrize(("code", "error", "says", "close"), MISSING)
def test_what_is_missing(code, error, says, close):
    status, _, err = python("-m", "minigluon.mxnet", "-c", code)
    last = err.strip().splitlines()[-1]
    assert status == 1 and last.startswith(error) and says in last and close in last, err


def test_in_place_and_away():
    code = """
import minigluon.mxnet as alias, sys, importlib.util
before = list(sys.meta_path)
alias.load_ipython_extension(None); alias.install()
import mxnet.gluon
assert importlib.util.find_spec("minigluon.nothing") is None
try:
    import mxnet.nothing
except ImportError as error:
    assert error.name == "mxnet.nothing"
alias.unload_ipython_extension(None)
assert sys.meta_path == before and not [m for m in sys.modules if m.startswith("mxnet")]
import types
sys.modules["mxnet"] = types.ModuleType("mxnet"); sys.modules["mxnet"].__file__ = "elsewhere"
try:
    alias.install()
except ImportError as error:
    print(error)
"""
    status, out, err = python("-c", code)
    assert status == 0, err
    assert "imported already, from elsewhere" in out


def test_old_pickles(tmp_path):
    """A pickle that names MXNet's modules finds ours."""
    code = (
        "import pickle\n"
        "text = b'cmxnet.gluon.data.sampler\\nSequentialSampler\\n(I3\\ntR.'\n"
        "print(list(pickle.loads(text)))"
    )
    assert python("-m", "minigluon.mxnet", "-c", code)[1] == "[0, 1, 2]\n"


OLDER = """
import numpy as np
import mxnet as mx
import mxnet.contrib.ndarray, mxnet.contrib.symbol
from mxnet.contrib.ndarray import MultiBoxPrior
from mxnet.contrib import autograd as ag
from mxnet.contrib.io import DataLoaderIter
assert mx.__version__ >= "1.4.0" and mx.libinfo.__version__ == "1.9.1"
assert mxnet.contrib.ndarray is mx.contrib.nd is mx.nd.contrib and MultiBoxPrior is mx.nd.contrib.MultiBoxPrior
assert np.float is float and np.Inf > 1 and np.product([2, 3]) == 6
x, y = mx.nd.array([1.0, 2]), mx.nd.array([3.0, 4])
grads, loss = ag.grad_and_loss(lambda x, y: x * y)(x, y)
assert [g.asnumpy().tolist() for g in grads] == [[3, 4], [1, 2]] and loss.asnumpy().tolist() == [3, 8]
assert [g.asnumpy().tolist() for g in ag.grad(lambda x, y: x * x * y, argnum=0)(x, y)] == [[6, 16]]
with ag.train_section():
    with ag.test_section():
        assert not mx.autograd.is_recording() and not mx.autograd.is_training()
    assert mx.autograd.is_recording() and mx.autograd.is_training()
pairs = mx.gluon.data.ArrayDataset(mx.nd.arange(10).reshape((10, 1)), mx.nd.arange(10))
it = DataLoaderIter(mx.gluon.data.DataLoader(pairs, 4))
assert it.provide_data[0].shape == (4, 1) and it.provide_label[0].name == "softmax_label"
for epoch in range(2):
    batches = list(it)
    assert [b.pad for b in batches] == [0, 0, 2]
    assert batches[2].label[0].asnumpy().tolist() == [8, 9, 0, 0]
    it.reset()
"""


PACKAGES = """
import multiprocessing, urllib
import mxnet
assert multiprocessing.pool.Pool and urllib.request.urlopen
import io, pickle
from mxnet.gluon.data.dataloader import ForkingPickler
from mxnet.gluon.model_zoo import model_store
model_store._model_sha1.update({"mine": "0123456789abcdef"})
assert model_store.short_hash("mine") == "01234567"
try:
    model_store.short_hash("yours")
except ValueError as error:
    assert "yours is not available" in str(error)
buffer = io.BytesIO()
ForkingPickler(buffer, pickle.HIGHEST_PROTOCOL).dump(mxnet.nd.ones((2,)))
assert pickle.loads(buffer.getvalue()).asnumpy().tolist() == [1, 1]
from mxnet.contrib.amp import amp
assert not amp._amp_initialized
amp.init()
assert amp._amp_initialized
"""


CLIPPED = """
import minigluon, warnings
from minigluon import mxnet as alias

def loss(label):
    return minigluon.gluon.loss.SoftmaxCELoss()(minigluon.nd.array([[1, 2, 4.0]]), minigluon.nd.array([label])).asscalar()

alias.install()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    assert abs(loss(3) - loss(2)) < 1e-6
assert "label 3.0 is not a class" in str(told[0].message)
alias.uninstall()
try:
    loss(3)
    raise SystemExit("no error")
except minigluon.MXNetError:
    pass
"""


def test_wrong_labels_count_as_mxnet_counts_them_while_the_alias_stands():
    status, _, err = python("-c", CLIPPED)
    assert status == 0, err


def test_what_packages_take_from_inside():
    status, _, err = python("-W", "error", "-m", "minigluon.mxnet", "-c", PACKAGES)
    assert status == 0, err


def test_older_names():
    status, _, err = python("-W", "error", "-m", "minigluon.mxnet", "-c", OLDER)
    assert status == 0, err
    code = (
        "import minigluon.mxnet as a, minigluon, numpy as np; before = minigluon.__version__\n"
        "a.install(); a.install(); assert np.product is np.prod; a.uninstall(); a.uninstall()\n"
        "assert minigluon.__version__ == before != '1.9.1' and 'product' not in vars(np)"
    )
    status, _, err = python("-c", code)
    assert status == 0, err


def test_textbooks_format_arrays_of_one_number():
    mean = minigluon.nd.array([1.5, 2.5]).mean().asnumpy()
    text = "%f %d" % (mean, mean)  # noqa: UP031
    assert text == "2.000000 2" and float(mean) == 2 and repr(mean).startswith("array(")
    for plain in (mean + 1, pickle.loads(pickle.dumps(mean)), np.concatenate([mean, mean])):
        assert type(plain) is np.ndarray
    with pytest.raises((TypeError, ValueError)):
        float(minigluon.nd.ones(2).asnumpy())


def test_names_that_other_packages_import_from_inside():
    from minigluon.base import _as_list
    from minigluon.gluon.data.dataset import _DownloadedDataset
    from minigluon.gluon.data.vision import MNIST
    from minigluon.gluon.loss import L2Loss, _apply_weighting, _reshape_like
    from minigluon.gluon.rnn.rnn_cell import (
        _format_sequence,
        _get_begin_state,
        _mask_sequence_variable_length,
    )

    assert _as_list(3) == [3] and _as_list((1, 2)) == (1, 2)
    assert issubclass(MNIST, _DownloadedDataset)
    x, y = mx.nd.ones((2, 3)), mx.nd.ones((3, 2)) * 2
    assert _reshape_like(mx.nd, y, x).shape == (2, 3)
    assert _apply_weighting(mx.nd, x, 2.0, mx.nd.array([[1], [0]])).asnumpy().sum() == 6
    assert L2Loss()(x, y).shape == (2,)
    steps, axis, F, batch = _format_sequence(2, mx.nd.ones((4, 2, 3)), "NTC", False)
    assert (len(steps), axis, F, batch) == (2, 1, mx.nd, 4)
    cell = mx.gluon.rnn.RNNCell(5)
    assert _get_begin_state(cell, F, None, steps, batch)[0].shape == (4, 5)
    masked = _mask_sequence_variable_length(F, steps, 2, mx.nd.array([1, 1, 2, 2]), 1, True)
    assert masked.asnumpy()[:, 1, 0].tolist() == [0, 0, 1, 1]


def test_a_parameter_tells_whether_it_has_gradients():
    p = mx.gluon.Parameter("w", shape=(2,))
    assert p._grad is None
    p.initialize()
    assert p._grad[0] is p.grad()
    p.grad_req = "null"
    assert p._grad is None


INSIDE = """
import ctypes
import mxnet as mx
from mxnet.base import _LIB, _Null, NDArrayHandle, c_array, c_str, check_call, classproperty, mx_uint, with_metaclass
from mxnet.executor_manager import _load_data, _split_input_slice
from mxnet.gluon.block import SymbolBlock, _BlockScope, _brief_print_list, _flatten, _gather_type_ctx_info, _indent, _regroup
from mxnet.gluon.model_zoo.vision.densenet import _make_dense_layer, _make_transition
from mxnet.gluon.model_zoo.vision.mobilenet import _add_conv
from mxnet.gluon.model_zoo.vision.resnet import _conv3x3
from mxnet.gluon.model_zoo.vision.squeezenet import _make_fire_conv
from mxnet.gluon.nn.basic_layers import BatchNorm
from mxnet.gluon.parameter import tensor_types
from mxnet.gluon.rnn.rnn_cell import tensor_types as same
from mxnet.model import _initialize_kvstore, _multiple_callbacks, _update_params, _update_params_on_kvstore
from mxnet.ndarray._internal import NDArrayBase
from mxnet.ndarray.ndarray import _STORAGE_TYPE_CSR, add, concatenate
from mxnet.symbol.symbol import load_json
from mxnet.metric import ndarray, numeric_types
from mxnet.gluon.loss import is_np_array
from mxnet.gluon.model_zoo.vision.resnet import cpu as device

assert ndarray is mx.nd and is_np_array is mx.util.is_np_array and device is mx.cpu and float in numeric_types
assert SymbolBlock is mx.gluon.SymbolBlock and BatchNorm is mx.gluon.nn.BatchNorm and same is tensor_types
assert add is mx.nd.add and _STORAGE_TYPE_CSR == 2 and load_json is mx.sym.load_json
x, y = mx.nd.ones(2), mx.nd.zeros(3)
assert isinstance(x, NDArrayBase) and NDArrayHandle is ctypes.c_void_p
flat, form = _flatten([x, [y, None]], "input")
assert form == [0, [0, -1]] and flat[1] is y and len(flat) == 3
back, left = _regroup(flat, form)
assert back[0] is x and back[1][0] is y and back[1][1] is None and left == []
assert _flatten(None, "input") == ([None], -1) and _flatten(x, "input")[1] == 0
assert _gather_type_ctx_info([x, [mx.sym.var("a"), y]]) == (True, True, {mx.cpu()}, mx.cpu())
assert _brief_print_list(list("abcdefghi"), 4) == "'a', 'b', ..., 'h', 'i'" and _indent("a\\nb", 2) == "a\\n  b"
try:
    _flatten({"a": x}, "input")
except ValueError as error:
    assert "(nested) list of Symbol or NDArray" in str(error)
net = mx.gluon.nn.HybridSequential()
_add_conv(net, 4, kernel=3, pad=1, relu6=True)
net.add(_conv3x3(6, 2, in_channels=4), _make_dense_layer(3, 2, 0), _make_transition(5), _make_fire_conv(2, 3, padding=1))
net.initialize()
assert net(mx.nd.ones((1, 3, 8, 8))).shape == (1, 2, 2, 2)
prefix, params = _BlockScope.create(None, None, "dense")
assert prefix.startswith("dense") and params.prefix == prefix
assert c_array(mx_uint, [1, 2])[1] == 2 and c_str("ab").value == b"ab"
check_call(0)
for call, says in ((lambda: _LIB.MXGetVersion(), "_LIB.MXGetVersion"), (lambda: check_call(-1), "returned -1")):
    try:
        call()
    except mx.MXNetError as error:
        assert says in str(error)
    else:
        raise AssertionError(says)
try:
    x.handle
except AttributeError as error:
    assert "C library" in str(error) and "asnumpy" in str(error)
assert mx.nd.sum(mx.nd.ones((2, 3)), axis=1, keepdims=_Null).shape == (2,)
store = mx.kv.create("local")
weights = [[mx.nd.ones(2), mx.nd.ones(2)]]
grads = [[mx.nd.ones(2), mx.nd.ones(2) * 3]]
_initialize_kvstore(store, weights, {"w": mx.nd.ones(2) * 5}, ["w"], True)
assert weights[0][1].asnumpy().tolist() == [5, 5]
seen = []
_update_params(weights, grads, lambda i, g, w: seen.append((i, g.asnumpy().tolist())), 2, store, ["w"])
assert seen == [(0, [4, 4]), (1, [4, 4])]
_multiple_callbacks([seen.append, seen.append], "called")
assert seen[2:] == ["called", "called"]
batch = mx.io.DataBatch([mx.nd.arange(4)], [mx.nd.zeros(4)])
halves = [mx.nd.zeros(2), mx.nd.zeros(2)]
_load_data(batch, [list(zip(_split_input_slice(4, [1, 1]), halves))])
assert halves[1].asnumpy().tolist() == [2, 3]
assert mx.name.NameManager._current.value is mx.name.NameManager.current
with mx.AttrScope(ctx_group="a") as scope:
    assert mx.AttrScope._current.value is scope
assert not hasattr(mx.gluon.block, "no_such_name")
import numpy as np
assert np.asscalar(np.float32(2)) == np.asscalar(np.array([2])) == np.asscalar([2.0]) == 2
import pydoc
assert pydoc.locate("mxnet.nd.array") is mx.nd.array and pydoc.locate("mxnet.gluon.nn.Dense") is mx.gluon.nn.Dense
"""


COMPLETE = """
import mxnet as mx
assert "box_decode" in mx.nd.contrib.__dict__ and "box_decode" in vars(mx.sym.contrib) and "nothing" not in vars(mx.nd.contrib)
assert "gemm2" in vars(mx.nd.linalg) and vars(mx.nd.linalg)["gemm2"] is mx.nd.linalg.gemm2
import minigluon.mxnet
minigluon.mxnet.uninstall()
assert type(mx.nd.contrib) is type(mx)
"""


def test_a_module_of_operators_tells_all_that_it_has():
    status, _, err = python("-m", "minigluon.mxnet", "-c", COMPLETE)
    assert status == 0, err


def test_what_a_module_shows_is_there():
    code = (
        "import importlib, mxnet\nfrom minigluon import lent\n"
        "for module, row in lent.TABLE.items():\n"
        "    found = importlib.import_module('mxnet.' + module)\n"
        "    [getattr(found, name) for name in row]\n"
    )
    status, _, err = python("-m", "minigluon.mxnet", "-c", code)
    assert status == 0, err


POOLS = """
import multiprocessing
from multiprocessing.pool import ThreadPool
import mxnet as mx
import numpy as np
from mxnet.gluon.data.dataloader import _MultiWorkerIter, _thread_worker_fn, _worker_fn, _worker_initializer, default_batchify_fn


class Short(_MultiWorkerIter):
    def _push_next(self):
        if self._sent_idx < 2:
            super()._push_next()


numbers = mx.gluon.data.ArrayDataset(np.arange(10, dtype="float32"))
sampler = mx.gluon.data.BatchSampler(mx.gluon.data.SequentialSampler(10), 4, "keep")
with multiprocessing.Pool(2, initializer=_worker_initializer, initargs=[numbers, False, False]) as pool:
    for kind in (_MultiWorkerIter, Short):
        batches = kind(pool, default_batchify_fn, sampler, prefetch=2, pin_memory=True)
        assert len(batches) == 3 and batches._sent_idx == 2 and iter(batches) is batches
        first = batches.next()
        assert first.asnumpy().tolist() == [0, 1, 2, 3] and first.context == mx.cpu_pinned()
        assert [b.shape for b in batches] == [(4,), (2,)][: 1 if kind is Short else 2] and batches._rcvd_idx == batches._sent_idx
with ThreadPool(2) as pool:
    batches = _MultiWorkerIter(pool, default_batchify_fn, sampler, worker_fn=_thread_worker_fn, dataset=numbers)
    assert sum(b.sum().asscalar() for b in batches) == 45
    failing = _MultiWorkerIter(pool, lambda data: 1 / 0, sampler, worker_fn=_thread_worker_fn, dataset=numbers)
    try:
        next(failing)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("no error")
loader = mx.gluon.data.DataLoader(numbers, 4, pin_memory=True, pin_device_id=1)
assert (loader._pin_memory, loader._pin_device_id) == (True, 1)
assert next(iter(loader)).context == mx.cpu_pinned(1)
"""


def test_loaders_of_ones_own():
    status, _, err = python("-m", "minigluon.mxnet", "-c", POOLS)
    assert status == 0, err


def test_names_in_other_places():
    for code in (INSIDE, "import mxnet.gluon.block, mxnet.model, mxnet.base\n" + INSIDE):
        status, _, err = python("-m", "minigluon.mxnet", "-c", code)
        assert status == 0, err
    code = (
        "import minigluon.gluon.block as block, minigluon.mxnet as a\n"
        "a.install(); assert block._flatten; a.uninstall(); assert not hasattr(block, '_flatten')\n"
    )
    status, _, err = python("-c", code)
    assert status == 0, err


def test_namespaces_can_be_walked_through():
    program = """
import inspect, mxnet as mx
for face in mx.nd, mx.sym:
    names = {n for n, f in face.__dict__.items() if inspect.isroutine(f)}
    assert {"dot", "relu", "reshape", "FullyConnected", "zeros", "where"} <= names, names
relu = mx.nd.__dict__["relu"]
assert relu is mx.nd.relu and relu(mx.nd.array([-1, 2])).asnumpy().tolist() == [0, 2]
assert relu is mx.nd.relu and "data" in inspect.signature(relu).parameters
"""
    subprocess.run([sys.executable, "-m", "minigluon.mxnet", "-c", program], check=True)


FIRST = """
import array, ctypes, importlib
import mxnet as mx
from minigluon import lent
for name in lent.MOVED:
    assert importlib.import_module("mxnet." + name).__name__ == "minigluon." + lent.MOVED[name]
from mxnet.ndarray.gen_op import FullyConnected
from mxnet.gluon.contrib.rnn.conv_rnn_cell import Conv2DLSTMCell
assert FullyConnected.__name__ == 'FullyConnected' and Conv2DLSTMCell is mx.gluon.contrib.rnn.Conv2DLSTMCell
from mxnet.module.base_module import _check_input_names, _parse_data_desc
from mxnet.module.executor_group import _merge_multi_context, _prepare_group2ctxs
from mxnet.model import _create_kvstore
store, on_store = _create_kvstore("local", 2, {"a": mx.nd.ones(3)})
assert store.type == "local" and on_store and _create_kvstore("local", 1, {}) == (None, False)
data, label = _parse_data_desc(["x"], ["y"], [("x", (2, 3))], [mx.io.DataDesc("y", (2,))])
assert data[0].name == "x" and data[0].shape == (2, 3) and label[0].name == "y"
for call in (
    lambda: _parse_data_desc(["x"], [], [("data", (2, 3))], None),
    lambda: _check_input_names(mx.sym.var("x"), ["data"], "data", True),
):
    try:
        call()
    except ValueError as error:
        assert "data" in str(error)
    else:
        raise AssertionError("no error")
groups = _prepare_group2ctxs({"a": mx.cpu(), "b": [mx.cpu(1), mx.cpu(2)]}, 2)
assert groups == [{"a": mx.cpu(), "b": mx.cpu(1)}, {"a": mx.cpu(), "b": mx.cpu(2)}]
whole, first = _merge_multi_context([[mx.nd.ones((1, 2)), mx.nd.zeros((2, 2))], [mx.nd.ones(1)] * 2], [0, -1])
assert whole.shape == (3, 2) and first.shape == (1,)
from mxnet.base import build_param_doc, c_array_buf, ctypes2buffer, ctypes2numpy_shared
assert list(c_array_buf(ctypes.c_int, array.array("i", [1, 2]))) == [1, 2]
assert ctypes2buffer(ctypes.cast(b"abc", ctypes.POINTER(ctypes.c_char)), 3) == b"abc"
numbers = (ctypes.c_float * 4)(1, 2, 3, 4)
shared = ctypes2numpy_shared(ctypes.cast(numbers, ctypes.POINTER(ctypes.c_float)), (2, 2))
shared[0, 0] = 5
assert numbers[0] == 5
told = build_param_doc(["a", "b", "a"], ["int", "float", "int"], ["one", "", "again"])
assert told.splitlines() == ["Parameters", "----------", "a : int", "    one", "b : float"]
from mxnet.misc import FactorScheduler
rate = FactorScheduler(2, 0.5)
assert [rate(i) for i in range(5)] == [0.01, 0.01, 0.005, 0.005, 0.0025]
from mxnet.numpy.multiarray import take_along_axis
from mxnet.recordio import check_call, c_str
from mxnet.image.detection import HueJitterAug
assert take_along_axis is mx.np.take_along_axis and check_call(0) is None and HueJitterAug is mx.image.HueJitterAug
assert mx.sym.op.random_normal(shape=(2,)).infer_shape()[1] == [(2,)]
import minigluon.mxnet
minigluon.mxnet.uninstall()
assert not hasattr(mx.nd, "gen_op")
"""


def test_what_modules_of_the_first_years_begin_with():
    status, _, err = python("-m", "minigluon.mxnet", "-c", FIRST)
    assert status == 0, err


def test_a_module_names_what_it_leaves_open():
    class Mine(mx.mod.BaseModule):
        pass

    for name in ("forward", "bind", "update", "get_outputs", "set_states"):
        with pytest.raises(NotImplementedError, match=f"Mine has no {name}"):
            getattr(Mine(), name)()


def test_the_zoo_shows_its_classes():
    zoo = mx.gluon.model_zoo.vision
    assert zoo.VGG is zoo.vgg.VGG and not hasattr(zoo, "FIRES")


STARS = """
from mxnet.test_utils import *
from mxnet.gluon.model_zoo.vision import *
from mxnet.gluon.data import *
from mxnet.image import *
import numpy, os as system, mxnet, minigluon
assert np is numpy and mx is mxnet and os is system and rnd is numpy.random
assert json.loads("3") == 3 and Context is mx.Context and issubclass(OrderedDict, dict)
assert resnet18_v1 is mx.gluon.model_zoo.vision.resnet18_v1 and ResNetV1 and vgg16_bn and dataloader.DataLoader is DataLoader
assert nd is mx.nd and io is mx.io
for module in "lr_scheduler", "metric", "initializer", "model", "operator", "module.module", "io.io", "rnn", "gluon.nn":
    exec(f"from mxnet.{module} import *")
assert cos(0) == 1 and numpy.ones(1) == 1
before = minigluon.test_utils.__all__
minigluon.mxnet.uninstall()
assert "np" in before and "np" not in minigluon.test_utils.__all__ and "same" in minigluon.test_utils.__all__
assert "math" not in minigluon.metric.__all__ and not hasattr(minigluon.test_utils, "npt")
"""


def test_import_star_brings_what_modules_without_a_list_import():
    status, _, err = python("-m", "minigluon.mxnet", "-c", "import minigluon.mxnet\n" + STARS)
    assert status == 0, err


CHILDREN = """
import multiprocessing, os, subprocess, sys
import mxnet as mx

def work(queue):
    import mxnet.gluon.nn as nn
    queue.put((mx.__name__, nn.Dense(2).name, float(mx.nd.ones(3).sum().asscalar())))

if __name__ == "__main__":
    say = "import mxnet.gluon, mxnet; print(mxnet.__name__, mxnet.gluon.nn.__name__)"
    for command in ([sys.executable, "-c", say], [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {say!r}])"]):
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert told == "minigluon minigluon.gluon.nn\\n", told
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    name, layer, total = queue.get(timeout=100)
    assert (name, total) == ("minigluon", 3.0) and layer.startswith("dense")
    process.join()
    assert process.exitcode == 0
    away = {**os.environ, "MINIGLUON_ALIAS": "/another/python"}  # as a child under another Python sees it
    told = subprocess.run([sys.executable, "-c", "import mxnet"], capture_output=True, text=True, env=away)
    assert told.returncode == 1 and "ModuleNotFoundError" in told.stderr, told.stderr
    import minigluon.mxnet
    minigluon.mxnet.uninstall()
    assert "MINIGLUON_ALIAS" not in os.environ and "heirs" not in os.environ.get("PYTHONPATH", "")
    assert not any(place.endswith("heirs") for place in sys.path)
"""


def test_processes_that_a_program_starts_inherit_the_alias(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(CHILDREN)
    status, _, err = python("-m", "minigluon.mxnet", str(program))
    assert status == 0, err


def test_tests_under_pytest_find_one_package(tmp_path):
    (tmp_path / "test_theirs.py").write_text(
        "import mxnet.test_utils\nimport sys\nfrom mxnet.test_utils import *\n\n\n"
        "def test_one():\n"
        "    assert same(np.ones(2), mx.nd.ones(2).asnumpy())\n"
        "    assert sys.modules['mxnet.test_utils'] is sys.modules['minigluon.test_utils']\n"
    )
    options = "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)
    status, out, err = python("-m", "minigluon.mxnet", "-m", "pytest", *options, str(tmp_path))
    assert status == 0, out + err
