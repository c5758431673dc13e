"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
import os
from multiprocessing import reduction

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray
from minigluon.symbol.symbol import Symbol

__all__ = [
    "ARRAYS",
    "CSR",
    "DEFAULT",
    "GRAPHS",
    "IR_FORMAT",
    "IR_SIZE",
    "LIBRARY",
    "LOADS",
    "Library",
    "MODULES",
    "NORMS",
    "PLACES",
    "POINTERS",
    "POOLED",
    "ROW_SPARSE",
    "SHOWN",
    "STORE",
    "STORED",
    "TABLE",
    "TENSORS",
    "TEXTS",
    "UNDEFINED",
    "USUAL",
    "WITHIN",
    "ZOO",
    "c_array",
    "c_str",
    "c_str_array",
    "check_call",
    "classproperty",
    "common_prefix",
    "flatten",
    "gather_type_ctx_info",
    "indent",
    "initialize_kvstore",
    "load_data",
    "load_general",
    "load_label",
    "multiple_callbacks",
    "pickler",
    "pointer",
    "real",
    "regroup",
    "unsigned",
    "update_params",
    "update_params_on_kvstore",
    "whole",
    "with_metaclass",
]


# --- Names in other places ------------------------------------------------------------------------


def flatten(args, inout_str):
    """The arrays in nested lists, in a row, and the form of the lists: 0 for an array, -1 for None."""
    if args is None or isinstance(args, NDArray):
        return [args], -1 if args is None else 0
    if isinstance(args, Symbol):
        return [args], len(args) if len(args) > 1 else 0
    if not isinstance(args, list | tuple):
        raise ValueError(
            f"When hybridized, the input of HybridBlock {inout_str} must be (nested) list of Symbol or NDArray, "
            f"but got {args} of type {type(args)}"
        )
    parts = [flatten(a, inout_str) for a in args]
    return [a for flat, _ in parts for a in flat], [form for _, form in parts]


def regroup(args, fmt):
    """Undo `flatten`: nested lists of that form, and what is left of the row."""
    if fmt in (0, -1):
        return args[0], args[1:]
    if isinstance(fmt, int):
        return args[:fmt], args[fmt:]
    found = []
    for form in fmt:
        part, args = regroup(args, form)
        found.append(part)
    return found, args


def gather_type_ctx_info(args):
    """Whether there are symbols, whether there are arrays, their contexts, and the first one."""
    flat = [a for a in flatten(args, "input")[0] if a is not None]
    contexts = [a.context for a in flat if isinstance(a, NDArray)]
    first = contexts[0] if contexts else None
    return any(isinstance(a, Symbol) for a in flat), bool(contexts), {*contexts}, first


def indent(s_, numSpaces):
    """A text whose lines but the first stand to the right."""
    return s_.replace("\n", "\n" + " " * numSpaces)


def common_prefix(names):
    """What all names begin with."""
    return os.path.commonprefix(list(names))


def initialize_kvstore(kvstore, param_arrays, arg_params, param_names, update_on_kvstore):
    """Give a store the parameters, and the arrays their values if it is the store that updates."""
    for i, (name, arrays) in enumerate(zip(param_names, param_arrays)):
        kvstore.init(name, arg_params[name])
        if update_on_kvstore:
            kvstore.pull(name, arrays, priority=-i)


def update_params_on_kvstore(param_arrays, grad_arrays, kvstore, param_names):
    """Send gradients to a store that updates, and fetch the parameters."""
    for i, (name, arrays, grads) in enumerate(zip(param_names, param_arrays, grad_arrays)):
        if grads[0] is not None:
            kvstore.push(name, grads, priority=-i)
            kvstore.pull(name, arrays, priority=-i)


def update_params(param_arrays, grad_arrays, updater, num_device, kvstore=None, param_names=None):
    """Sum gradients through a store, if there is one, and update every device's parameters."""
    for i, (arrays, grads) in enumerate(zip(param_arrays, grad_arrays)):
        if grads[0] is None:
            continue
        if kvstore:
            kvstore.push(param_names[i], grads, priority=-i)
            kvstore.pull(param_names[i], grads, priority=-i)
        for k, (w, g) in enumerate(zip(arrays, grads)):
            updater(i * num_device + k, g, w)


def multiple_callbacks(callbacks, *args, **kwargs):
    """Call one function, or each of a list."""
    for callback in callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else ():
        callback(*args, **kwargs)


def load_general(data, targets):
    """Copy arrays of a batch into the devices' arrays: each target is an array, or pairs of a slice and an array."""
    for source, target in zip(data, targets):
        for part, array in [(slice(None), target)] if isinstance(target, NDArray) else target:
            array[:] = source[part].as_in_context(array.context).astype(array.dtype)


def load_data(batch, targets):
    """`load_general` of a batch's data."""
    load_general(batch.data, targets)


def load_label(batch, targets):
    """`load_general` of a batch's labels."""
    load_general(batch.label, targets)


def c_str(string):
    """A text for C."""
    return ctypes.c_char_p(string.encode("utf-8"))


def c_array(ctype, values):
    """An array for C."""
    return (ctype * len(values))(*values)


def c_str_array(strings):
    """Texts for C."""
    return c_array(ctypes.c_char_p, [s.encode("utf-8") for s in strings])


class Library:
    """Stands for MXNet's C library, which is not here: every function of it is an MXNetError."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise MXNetError(
            f"_LIB.{name}: MXNet's C library is not here; this package is made of Python alone"
        )


def check_call(ret):
    """MXNetError for a C function's return value other than 0."""
    if ret != 0:
        raise MXNetError(f"a C function returned {ret}")


def with_metaclass(meta, *bases):
    """A base class for a class with a metaclass."""
    return meta("temporary_class", bases, {})


class classproperty:  # noqa: N801
    """A property of a class, read through a function of the class."""

    def __init__(self, function):
        self.function = getattr(function, "__func__", function)

    def __get__(self, instance, owner):
        return self.function(owner)


LIBRARY, pointer, unsigned, whole, real = (
    Library(), ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_float,
)  # fmt: skip
DEFAULT, ROW_SPARSE, CSR, UNDEFINED = 0, 1, 2, -1  # how arrays are stored
IR_FORMAT, IR_SIZE = "IfQQ", 24  # of a record's header
pickler = reduction.ForkingPickler  # for what goes from one process to another


ARRAYS = "add subtract multiply divide modulo power maximum minimum equal not_equal greater greater_equal lesser lesser_equal"
ARRAYS += " logical_and logical_or logical_xor true_divide concatenate histogram moveaxis split_v2 onehot_encode"
GRAPHS = "load load_json zeros ones full arange eye pow power maximum minimum hypot histogram split_v2 linspace"
STORED = {
    f"_STORAGE_TYPE_{name}": f"lent:{name}"
    for name in ("DEFAULT", "ROW_SPARSE", "CSR", "UNDEFINED")
}
USUAL = {"ndarray": "ndarray", "symbol": "symbol", "is_np_array": "util:is_np_array"}
TEXTS = {"_indent": "lent:indent", "_brief_print_list": "gluon.block:brief"}
LOADS = {f"_load_{name}": f"lent:load_{name}" for name in ("general", "data", "label")}
STORE = ("initialize_kvstore", "update_params", "update_params_on_kvstore", "multiple_callbacks")
POINTERS = "NDArrayHandle SymbolHandle ExecutorHandle KVStoreHandle CachedOpHandle OpHandle DataIterHandle RecordIOHandle"
TENSORS = {"tensor_types": "gluon.parameter:tensor_types"}
POOLED = {
    f"_{name}": f"gluon.data.pools:{name}"
    for name in ("MultiWorkerIter", "worker_initializer", "worker_fn", "thread_worker_fn")
}
NORMS = ("BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm")
ZOO = "gluon.model_zoo.vision."

TABLE = {
    "gluon": TENSORS,
    "gluon.rnn.rnn_cell": TENSORS,
    "gluon.rnn.rnn_layer": TENSORS,
    "gluon.block": USUAL | TEXTS | {
        "SymbolBlock": "gluon.hybrid:SymbolBlock", "_flatten": "lent:flatten", "_regroup": "lent:regroup",
        "_gather_type_ctx_info": "lent:gather_type_ctx_info", "_common_prefix": "lent:common_prefix",
        "initializer": "initializer", "mx_real_t": "base:mx_real_t",
    },
    "gluon.parameter": USUAL | TEXTS | {"shape_is_known": "gluon.utils:shape_is_known", "context": "context"},
    "gluon.utils": USUAL | TEXTS,
    "gluon.trainer": {f"_{name}": f"gluon.trainer:{name}" for name in ("create_kvstore", "create_sparse_kvstore")},
    "gluon.model_zoo.model_store": {"_model_sha1": "gluon.model_zoo.model_store:SHA1"},
    "gluon.data.dataloader": POOLED | {"_as_in_context": "gluon.data.dataloader:as_in_context", "ForkingPickler": "lent:pickler"},
    ZOO + "densenet": {"_make_dense_layer": ZOO + "densenet:dense_layer", "_make_transition": ZOO + "densenet:transition"},
    ZOO + "mobilenet": {"_add_conv": ZOO + "mobilenet:add_conv"},
    ZOO + "resnet": {"_conv3x3": ZOO + "resnet:conv3x3"},
    ZOO + "squeezenet": {"_make_fire_conv": ZOO + "squeezenet:bent"},
    "gluon.nn.basic_layers": {name: f"gluon.nn:{name}" for name in NORMS},
    "ndarray.ndarray": {name: f"ndarray:{name}" for name in ARRAYS.split()} | STORED | {"NDArrayBase": "ndarray:NDArray"},
    "ndarray.sparse": {"_ndarray_cls": "ndarray.ndarray:NDArray"},
    "ndarray._internal": {"_Null": "namespace:_Null", "NDArrayBase": "ndarray:NDArray", "CachedOp": "ndarray:CachedOp"},
    "symbol._internal": {"_Null": "namespace:_Null", "SymbolBase": "symbol:Symbol", "NameManager": "name:NameManager", "AttrScope": "attribute:AttrScope"},
    "symbol.symbol": {name: f"symbol:{name}" for name in GRAPHS.split()} | {
        "AttrScope": "attribute:AttrScope", "Executor": "executor:Executor", "NDArray": "ndarray:NDArray",
    },
    "base": dict.fromkeys(POINTERS.split(), "lent:pointer") | {
        "_Null": "namespace:_Null", "_NullType": "namespace:NullType", "_LIB": "lent:LIBRARY", "mx_uint": "lent:unsigned",
        "mx_int": "lent:whole", "mx_float": "lent:real",
        **{n: f"lent:{n}" for n in ("c_str", "c_array", "c_str_array", "check_call", "classproperty", "with_metaclass")},
    },
    "model": {f"_{name}": f"lent:{name}" for name in STORE},
    "module.module": {f"_{name}": f"lent:{name}" for name in STORE[:3]},
    "module.base_module": {"_as_list": "base:_as_list"},
    "module.executor_group": LOADS | {"_split_input_slice": "executor_manager:_split_input_slice"},
    "executor_manager": LOADS | {"DataParallelExecutorGroup": "module.executor_group:DataParallelExecutorGroup"},
    "recordio": {"_IR_FORMAT": "lent:IR_FORMAT", "_IR_SIZE": "lent:IR_SIZE"},
}  # fmt: skip


SHOWN = """
autograd: Symbol string_types
contrib.amp.amp: BucketingModule NDArray Symbol base gpu ndarray opt symbol trainer
contrib.autograd: string_types
contrib.quantization: Module ndarray
contrib.text.embedding: _mx_np _mx_npx base is_np_array
executor: ndarray
executor_manager: DataDesc cpu nd
gluon.block: _mx_np _mx_npx _name np_array np_shape
gluon.contrib.cnn.conv_layers: numeric_types symbol
gluon.contrib.data.sampler: sampler
gluon.contrib.data.text: base dataset download nd
gluon.contrib.estimator.estimator: cpu split_and_load
gluon.contrib.nn.basic_layers: HybridSequential Sequential context
gluon.contrib.rnn.rnn_cell: _as_list
gluon.data.dataloader: _mx_np context is_np_shape nd set_np
gluon.data.dataset: ndarray recordio
gluon.data.vision.datasets: _mx_np base dataset nd
gluon.data.vision.transforms: is_np_array
gluon.loss: is_np_array ndarray
gluon.model_zoo.model_store: base
gluon.model_zoo.vision.alexnet: HybridBlock base cpu
gluon.model_zoo.vision.densenet: HybridBlock base cpu
gluon.model_zoo.vision.inception: HybridBlock base cpu
gluon.model_zoo.vision.mobilenet: base cpu
gluon.model_zoo.vision.resnet: base cpu is_np_array
gluon.model_zoo.vision.squeezenet: HybridBlock base cpu
gluon.model_zoo.vision.vgg: HybridBlock base cpu
gluon.nn.activations: is_np_array
gluon.nn.basic_layers: is_np_array
gluon.nn.conv_layers: is_np_array numeric_types symbol
"""


SHOWN += """\
gluon.parameter: _mx_np
gluon.rnn.rnn_cell: _as_list ndarray numeric_types string_types symbol
gluon.rnn.rnn_layer: is_np_array ndarray rnn_cell symbol
gluon.trainer: KVStore
gluon.utils: _mx_np is_np_shape
image: io is_np_array nd numeric_types recordio
image.detection: _mx_np io is_np_array numeric_types
image.image: _mx_np is_np_array recordio
initializer: NDArray _mx_np is_np_array ndarray string_types
io.io: NDArray array
io.utils: array
kvstore.base: NDArray string_types
metric: ndarray numeric_types string_types
model: Context DataDesc get_updater io kvs metric nd opt
module.base_module: DataIter metric ndarray
module.bucketing_module: NameManager ctx nd sym
module.executor_group: DataDesc ctx nd
module.module: ctx nd zeros
module.python_module: Uniform nd
monitor: ndarray
ndarray.contrib: _as_list current_context ndarray
ndarray.ndarray: integer_types is_np_array numeric_types
ndarray.random: NDArray current_context numeric_types
ndarray.sparse: integer_types numeric_types
ndarray.utils: NDArray string_types
operator: context is_np_array symbol
optimizer.contrib: Optimizer
optimizer.optimizer: array is_np_array
random: integer_types
rnn: DataDesc DataIter init ndarray numeric_types string_types symbol
rnn.io: ndarray
rnn.rnn_cell: init ndarray numeric_types string_types symbol
"""


MODULES = "ndarray symbol base context io recordio metric"
PLACES = {name: name for name in MODULES.split()} | {
    "nd": "ndarray", "sym": "symbol", "ctx": "context", "opt": "optimizer", "kvs": "kvstore", "init": "initializer", "_name": "name",
    "_mx_np": "numpy", "_mx_npx": "numpy_extension", "dataset": "gluon.data.dataset", "sampler": "gluon.data.sampler",
    "trainer": "gluon.trainer", "rnn_cell": "gluon.rnn.rnn_cell",
}  # fmt: skip
WITHIN = {
    "util": "is_np_array is_np_shape set_np np_array np_shape", "context": "cpu gpu current_context Context",
    "base": "string_types numeric_types integer_types _as_list", "ndarray": "NDArray array zeros", "symbol": "Symbol",
    "io": "DataDesc DataIter", "module": "Module BucketingModule", "gluon.block": "HybridBlock", "gluon.nn": "Sequential HybridSequential",
    "gluon.utils": "download split_and_load", "optimizer": "Optimizer get_updater", "kvstore": "KVStore", "name": "NameManager",
    "initializer": "Uniform",
}  # fmt: skip
PLACES |= {name: f"{place}:{name}" for place, names in WITHIN.items() for name in names.split()}

for row in SHOWN.split("\n")[1:-1]:
    module, names = row.split(": ")
    TABLE[module] = {name: PLACES[name] for name in names.split()} | TABLE.get(module, {})
