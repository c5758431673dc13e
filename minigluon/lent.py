"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
import functools
import os
from multiprocessing import reduction

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray
from minigluon.numpy.multiarray import CASTINGS, check_options
from minigluon.symbol.symbol import Symbol

__all__ = [
    "ARRAYS",
    "ARRAY_FUNCTIONS",
    "AUGMENTERS",
    "CELLS",
    "CHECKS",
    "CODES",
    "CSR",
    "DEFAULT",
    "DRAWS",
    "GENERATED",
    "GRAPHS",
    "IR_FORMAT",
    "IR_SIZE",
    "LIBRARY",
    "LOADS",
    "Library",
    "MODULES",
    "MOVED",
    "NORMS",
    "OUTSIDE",
    "PARTS_OF",
    "PLACES",
    "POINTERS",
    "POOLED",
    "ROW_SPARSE",
    "SEQUENCES",
    "SHOWN",
    "STARRED",
    "STARS",
    "STORE",
    "STORED",
    "TABLE",
    "TALK",
    "TALKERS",
    "TENSORS",
    "TEXTS",
    "UNDEFINED",
    "UPDATES",
    "USUAL",
    "WITHIN",
    "ZOO",
    "basestring",
    "build_param_doc",
    "c_array",
    "c_array_buf",
    "c_str",
    "c_str_array",
    "cells_begin_state",
    "cells_state_info",
    "check_call",
    "classproperty",
    "common_prefix",
    "ctypes2buffer",
    "ctypes2numpy_shared",
    "data_dir_default",
    "flatten",
    "gather_type_ctx_info",
    "indent",
    "initialize_kvstore",
    "load_data",
    "load_general",
    "load_label",
    "long",
    "long_whole",
    "many",
    "multiple_callbacks",
    "np_ufunc_legal_option",
    "numbers_for_c",
    "pickler",
    "pointer",
    "real",
    "regroup",
    "set_module",
    "unsigned",
    "update_params",
    "update_params_on_kvstore",
    "whole",
    "with_metaclass",
    "wrap_np_ufunc",
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
            f"When hybridized, the input of HybridBlock {inout_str} must be (nested) list of "
            "Symbol or NDArray, "
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
    """Copy arrays of a batch into the devices' arrays:
    each target is an array, or pairs of a slice and an array.
    """
    for source, target in zip(data, targets):
        for part, array in [(slice(None), target)] if isinstance(target, NDArray) else target:
            array[:] = source[part].as_in_context(array.context).astype(array.dtype)


def load_data(batch, targets):
    """`load_general` of a batch's data."""
    load_general(batch.data, targets)


def load_label(batch, targets):
    """`load_general` of a batch's labels."""
    load_general(batch.label, targets)


def cells_state_info(cells, batch_size):
    """What the states of several cells are."""
    return [info for cell in cells for info in cell.state_info(batch_size)]


def cells_begin_state(cells, **kwargs):
    """The first states of several cells."""
    return [state for cell in cells for state in cell.begin_state(**kwargs)]


def c_str(string):
    """A text for C."""
    return ctypes.c_char_p(string.encode("utf-8"))


def c_array(ctype, values):
    """An array for C."""
    return (ctype * len(values))(*values)


def c_str_array(strings):
    """Texts for C."""
    return c_array(ctypes.c_char_p, [s.encode("utf-8") for s in strings])


def c_array_buf(ctype, buf):
    """An array for C that shares a buffer's memory."""
    return (ctype * len(buf)).from_buffer(buf)


def ctypes2buffer(cptr, length):
    """The bytes at a pointer."""
    if not isinstance(cptr, ctypes.POINTER(ctypes.c_char)):
        raise TypeError(f"a pointer to char is wanted, not {type(cptr).__name__}")
    return bytearray(ctypes.string_at(cptr, length))


def ctypes2numpy_shared(cptr, shape):
    """The float32 numbers at a pointer, in its memory."""
    if not isinstance(cptr, ctypes.POINTER(ctypes.c_float)):
        raise RuntimeError(f"a pointer to float is wanted, not {type(cptr).__name__}")
    return np.ctypeslib.as_array(cptr, shape)


def data_dir_default():
    """Where data are kept unless the environment says otherwise."""
    return os.path.join(os.path.expanduser("~"), ".mxnet")


def build_param_doc(arg_names, arg_types, arg_descs, remove_dup=True):
    """The section of a docstring on arguments."""
    rows, seen = [], set()
    for name, kind, told in zip(arg_names, arg_types, arg_descs):
        if name != "num_args" and (name not in seen or not remove_dup):
            rows.append(f"{name} : {kind}" + (f"\n    {told}" if told else ""))
        seen.add(name)
    return "\n".join(["Parameters", "----------", *rows, ""])


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


def set_module(module):
    """A decorator that says in which module a function is to be looked for."""

    def note(function):
        if module is not None:
            function.__module__ = module
        return function

    return note


def np_ufunc_legal_option(key, value):
    """Whether NumPy's functions of numbers would take a value for an option."""
    types = ["int8", "uint8", "int32", "int64", "float16", "float32", "float64"]
    kinds = {
        "where": lambda: True,
        "casting": lambda: value in CASTINGS,
        "order": lambda: isinstance(value, str),
        "dtype": lambda: value in [*types, *(getattr(np, name) for name in types)],
        "subok": lambda: isinstance(value, bool),
    }
    return key in kinds and kinds[key]()


def wrap_np_ufunc(function):
    """A function of arrays that refuses all that NumPy's take beside them and `out`,
    but for the defaults.
    """

    @functools.wraps(function)
    def checked(*arrays, out=None, **options):
        check_options(function.__name__, options)
        return function(*arrays, out=out)

    return checked


class classproperty:  # noqa: N801
    """A property of a class, read through a function of the class."""

    def __init__(self, function):
        self.function = getattr(function, "__func__", function)

    def __get__(self, instance, owner):
        return self.function(owner)


LIBRARY, pointer, unsigned, whole, real = (
    Library(), ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_float,
)  # fmt: skip
long_whole, long, basestring = ctypes.c_int64, int, str
numbers_for_c = ctypes.POINTER(ctypes.c_float)
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
POINTERS += " CudaKernelHandle CudaModuleHandle DLPackHandle DataIterCreatorHandle FunctionHandle ProfileHandle RtcHandle"
TENSORS = {"tensor_types": "gluon.parameter:tensor_types"}
POOLED = {
    f"_{name}": f"gluon.data.pools:{name}"
    for name in ("MultiWorkerIter", "worker_initializer", "worker_fn", "thread_worker_fn")
}
NORMS = ("BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm")
CHECKS = {
    f"_{name}": f"module.names:{name}"
    for name in ("check_input_names", "check_names_match", "parse_data_desc")
}
CELLS = {f"_cells_{name}": f"lent:cells_{name}" for name in ("state_info", "begin_state")}
SEQUENCES = {
    f"_{name}": f"gluon.rnn.rnn_cell:_{name}"
    for name in ("format_sequence", "get_begin_state", "mask_sequence_variable_length")
}
CODES = {
    n: f"ndarray.ndarray:{n}"
    for n in ("_DTYPE_NP_TO_MX", "_DTYPE_MX_TO_NP", "_GRAD_REQ_MAP", "_STORAGE_TYPE_STR_TO_ID")
}
CODES |= {"_ndarray_cls": "ndarray:NDArray"}
ZOO = "gluon.model_zoo.vision."


TABLE = {
    "ndarray": CODES,
    "ndarray.utils": CODES,
    "operator": CODES | STORED,
    "executor": CODES,
    "io.io": CODES,
    "contrib.amp.amp": CODES,
    "autograd": CODES,
    "gluon.data.dataset": {
        "_LazyTransformDataset": "gluon.data.dataset:Transformed", "_SampledDataset": "gluon.data.dataset:Chosen",
        "_TransformFirstClosure": "gluon.data.dataset:FirstTransform",
    },
    "gluon.contrib.rnn.rnn_cell": TENSORS | SEQUENCES | {"SequentialRNNCell": "gluon.rnn:SequentialRNNCell"},
    "kvstore": {"KVStoreServer": "kvstore.kvstore_server:KVStoreServer", "kvstore_server": "kvstore.kvstore_server"},
    "io": {n: f"io.utils:{n}" for n in ("_init_data", "_has_instance", "_getdata_by_idx")},
    "rnn": {"DataBatch": "io:DataBatch", "save_checkpoint": "model:save_checkpoint", "load_checkpoint": "model:load_checkpoint"},
    "module.bucketing_module": CHECKS,
    "registry": {"_REGISTRY": "registry:known"},
    "gluon": TENSORS,
    "gluon.rnn.rnn_cell": TENSORS | CELLS | TEXTS | {"LeakyReLU": "gluon.nn:LeakyReLU"},
    "rnn.rnn_cell": CELLS,
    "gluon.rnn.rnn_layer": TENSORS,
    "gluon.block": USUAL | TEXTS | {
        "SymbolBlock": "gluon.hybrid:SymbolBlock", "_flatten": "lent:flatten", "_regroup": "lent:regroup",
        "_gather_type_ctx_info": "lent:gather_type_ctx_info", "_common_prefix": "lent:common_prefix",
        "initializer": "initializer", "mx_real_t": "base:mx_real_t",
    },
    "gluon.parameter": USUAL | TEXTS | {"shape_is_known": "gluon.utils:shape_is_known", "context": "context"},
    "gluon.utils": USUAL | TEXTS,
    "util": {n: f"lent:{n}" for n in ("set_module", "np_ufunc_legal_option")} | {
        f"wrap_np_{n}_func": "lent:wrap_np_ufunc" for n in ("unary", "binary")
    },
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
    "symbol.symbol": CODES | {name: f"symbol:{name}" for name in GRAPHS.split()} | {
        "AttrScope": "attribute:AttrScope", "Executor": "executor:Executor", "NDArray": "ndarray:NDArray",
    },
    "base": dict.fromkeys(POINTERS.split(), "lent:pointer") | {
        "_Null": "namespace:_Null", "_NullType": "namespace:NullType", "_LIB": "lent:LIBRARY", "mx_uint": "lent:unsigned",
        "mx_int": "lent:whole", "mx_float": "lent:real",
        **{n: f"lent:{n}" for n in ("c_str", "c_array", "c_str_array", "check_call", "classproperty", "with_metaclass")},
        **{n: f"lent:{n}" for n in ("c_array_buf", "ctypes2buffer", "ctypes2numpy_shared", "build_param_doc", "data_dir_default", "long", "basestring")},
        "mx_int64": "lent:long_whole", "mx_float_p": "lent:numbers_for_c", "libinfo": "libinfo",
    },
}  # fmt: skip


TABLE |= {
    "model": {f"_{name}": f"lent:{name}" for name in STORE} | {"LogValidationMetricsCallback": "callback:LogValidationMetricsCallback"},
    "module.module": CHECKS | {f"_{name}": f"lent:{name}" for name in STORE[:3]} | {
        "_create_kvstore": "gluon.trainer:create_kvstore", "DataParallelExecutorGroup": "module.executor_group:DataParallelExecutorGroup",
    },
    "module.base_module": CHECKS | {"_as_list": "base:_as_list"},
    "module.executor_group": LOADS | {
        "_split_input_slice": "executor_manager:_split_input_slice", "_merge_multi_context": "module.names:merge_multi_context",
        "_prepare_group2ctxs": "module.names:prepare_group2ctxs",
    },
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

UPDATES = "cast clip maximum multiply normal sqrt square sparse multi_lars multi_sum_sq adam_update ftml_update ftrl_update rmsprop_update"
UPDATES += " rmspropalex_update signsgd_update signum_update nag_mom_update mp_nag_mom_update lamb_update_phase1 lamb_update_phase2"
UPDATES += " mp_lamb_update_phase1 mp_lamb_update_phase2"
many = [
    f"{many}{exact}sgd{mom}_update"
    for many in ("", "multi_", "preloaded_multi_")
    for exact in ("", "mp_")
    for mom in ("", "_mom")
]
TABLE["optimizer.optimizer"] |= {n: f"ndarray:{n}" for n in [*UPDATES.split(), *many]} | {
    "NDabs": "ndarray:abs",
    "NDnorm": "ndarray:norm",
}
TABLE["optimizer"] = {"NDabs": "ndarray:abs"}


TALK = "_LIB check_call c_str c_str_array c_array c_array_buf mx_uint"
TALKERS = "autograd executor io.io kvstore.base kvstore.kvstore ndarray.ndarray ndarray.utils operator profiler random recordio rtc runtime"
for module in f"{TALKERS} symbol.symbol util contrib.quantization".split():
    shown = {name: TABLE["base"][name] for name in TALK.split()} | {"py_str": "base:py_str"}
    TABLE[module] = shown | TABLE.get(module, {})

ARRAY_FUNCTIONS = """
allclose apply_along_axis apply_over_axes argpartition argwhere array_equal array_equiv choose compress corrcoef correlate count_nonzero cov
diag_indices_from digitize divmod extract flatnonzero float_power frexp heaviside histogram histogram2d histogram_bin_edges histogramdd i0 interp
intersect1d isclose isin ix_ lexsort min_scalar_type modf nanargmax nanargmin nancumprod nancumsum nanmax nanmedian nanmin nanpercentile nanprod
nanquantile packbits partition piecewise poly polyadd polydiv polyfit polyint polymul polysub positive promote_types ptp real resize result_type
rollaxis roots searchsorted select setdiff1d setxor1d signbit spacing take_along_axis tril_indices_from trim_zeros triu_indices_from union1d unique
unpackbits unwrap vander
"""
TABLE["numpy.multiarray"] = {n: f"numpy:{n}" for n in ARRAY_FUNCTIONS.split()}
DRAWS = "normal uniform random_exponential random_gamma random_negative_binomial random_generalized_negative_binomial random_normal"
DRAWS += " random_poisson random_randint random_uniform Custom cast_storage"
TABLE["symbol.op"] = {n: f"symbol:{n}" for n in DRAWS.split()}
AUGMENTERS = "Cast ColorJitter ColorNormalize HueJitter Lighting RandomGray RandomOrder"
TABLE["image.detection"] |= {f"{n}Aug": f"image.image:{n}Aug" for n in AUGMENTERS.split()}
TABLE["gluon.nn.basic_layers"] |= {"BatchNormReLU": "gluon.nn:BatchNormReLU"}
TABLE["gluon.contrib.nn.basic_layers"] |= {"Identity": "gluon.contrib.nn:Identity"}
TABLE["gluon.data.dataloader"] |= {"_sampler": "gluon.data.sampler"}
TABLE["util"] |= {"get_gpu_memory": "context:gpu_memory_info"}
for module in ("estimator", "event_handler"):
    row = TABLE.get(f"gluon.contrib.estimator.{module}", {})
    TABLE[f"gluon.contrib.estimator.{module}"] = row | {
        "metric_loss": "metric:Loss",
        "gluon_loss": "gluon.loss:Loss",
    }


GENERATED = "op _internal contrib image linalg random sparse"
MOVED = {  # theirs -> ours
    f"{face}.gen_{part}": f"{face}.{part}" for face in ("ndarray", "symbol") for part in GENERATED.split()
} | {
    "gluon.contrib.rnn.conv_rnn_cell": "gluon.contrib.rnn.rnn_cell", "contrib.onnx.onnx2mx": "contrib.onnx", "ndarray.numpy": "numpy",
    "ndarray.numpy_extension": "numpy_extension", "symbol.numpy._symbol": "symbol.numpy", "numpy.fallback": "numpy",
}  # fmt: skip
for moved, place in MOVED.items():
    parent, _, name = moved.rpartition(".")
    TABLE[parent] = TABLE.get(parent, {}) | {name: place}


STARS = """
callback: logging math save_checkpoint time
contrib.io: DataDesc DataIter nd
contrib.text.embedding: logging nd os warnings zipfile
contrib.text.utils: collections re
contrib.text.vocab: collections
executor_manager: logging mx_real_t np
gluon.data: dataloader dataset sampler
gluon.data.vision.transforms: Block HybridBlock HybridSequential Sequential image np numeric_types random
gluon.nn: activations basic_layers conv_layers
gluon.rnn: rnn_cell rnn_layer
image: Number json logging np os random sys warnings
image.detection: Augmenter ForceResizeAug ImageIter ResizeAug copyMakeBorder fixed_crop json logging nd np random warnings
image.image: Number io json logging nd np numeric_types os random recordio sys warnings
initializer: json logging np random re registry sqrt warnings
io.io: CSRNDArray concat logging mx_real_t namedtuple np sys threading tile
io.utils: CSRNDArray OrderedDict np
log: CRITICAL DEBUG ERROR INFO WARNING logging warnings
lr_scheduler: cos logging pi
metric: OrderedDict math numpy registry
misc: logging math
model: Uniform cpu logging mx_real_t namedtuple np os sym time warnings
module.base_module: BatchEndParam DataBatch DataDesc Uniform cpu logging np time warnings
module.bucketing_module: BaseModule Module Uniform logging np warnings
module.module: BaseModule DataDesc InitDesc Uniform load_checkpoint logging opt warnings
module.python_module: BaseModule logging
module.sequential_module: BaseModule Uniform copy logging
monitor: logging re sqrt
operator: NDArray array collections traceback warnings
recordio: namedtuple np numbers struct
rnn: bisect functools np random warnings
rnn.io: DataBatch DataDesc DataIter bisect np random
rnn.rnn_cell: functools warnings
test_utils: Context Features OrderedDict Symbol array bz2 contextmanager current_context errno gzip json logging mx np npt
test_utils: numbers os platform rnd struct sys time traceback zipfile
visualization: Symbol copy json re warnings
"""


OUTSIDE = "numpy os sys time json logging warnings math random re copy threading functools struct numbers errno gzip bz2 zipfile collections"
PLACES |= {name: f"={name}" for name in f"{OUTSIDE} platform traceback bisect".split()}
PLACES |= {"mx": "=minigluon", "np": "=numpy", "rnd": "=numpy.random", "npt": "=numpy.testing"}
WITHIN = {
    "=collections": "OrderedDict namedtuple", "=contextlib": "contextmanager", "=math": "cos pi sqrt", "=numbers": "Number",
    "=logging": "CRITICAL DEBUG ERROR INFO WARNING", "model": "BatchEndParam save_checkpoint "
                                                              "load_checkpoint", "initializer": "InitDesc",
    "ndarray": "concat tile", "ndarray.sparse": "CSRNDArray", "base": "mx_real_t", "io": "DataBatch", "module": "BaseModule",
    "gluon.block": "Block", "runtime": "Features", "image.image": "Augmenter ForceResizeAug "
                                                                  "ImageIter ResizeAug "
                                                                  "copyMakeBorder fixed_crop",
}  # fmt: skip
PLACES |= {name: f"{place}:{name}" for place, names in WITHIN.items() for name in names.split()}
PLACES |= {"registry": "registry", "image": "image", "sym": "symbol"}
PARTS_OF = {
    "data": "dataloader dataset sampler",
    "nn": "activations basic_layers conv_layers",
    "rnn": "rnn_cell rnn_layer",
}
PLACES |= {name: f"gluon.{of}.{name}" for of, names in PARTS_OF.items() for name in names.split()}
STARRED = set()
for row in STARS.split("\n")[1:-1]:
    module, names = row.split(": ")
    STARRED.add(module)
    TABLE[module] = {name: PLACES[name] for name in names.split()} | TABLE.get(module, {})
