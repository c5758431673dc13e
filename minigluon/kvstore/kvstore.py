"""Several devices hold a copy of each weight; the store holds the true one, and adds up what they say about it."""

# Written from chapters/70x_kvstore.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon import optimizer as opt
from minigluon.autograd import assign, pause, writable
from minigluon.base import MXNetError
from minigluon.context import cpu
from minigluon.kvstore.base import KVStoreBase
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.sparse import wrapped
from minigluon.ops.csr import Rows, Sparse
from minigluon.states import load_states, save_states

__all__ = [
    "KVStore",
    "as_arrays",
    "by_key",
    "checked",
    "create",
    "makers",
    "quantize",
    "stored_rows",
    "total",
    "write",
]


# --- Keys and values ------------------------------------------------------------------------------


def by_key(keys, values):
    """{key: its arrays} from a key and arrays, or from lists of both;
    AssertionError if they do not fit.
    """
    if not isinstance(keys, list | tuple):
        return {checked(keys): as_arrays(values)}
    assert len(keys) == len(values), f"{len(keys)} keys and {len(values)} values"
    found = {}
    for key, value in zip(keys, values):
        found.setdefault(checked(key), []).extend(as_arrays(value))
    assert len({type(key) for key in found}) <= 1, "inconsistent types of keys detected."
    return found


def checked(key):
    """A key, if it is a text or a number."""
    assert isinstance(key, int | str), f"unexpected type for keys: {type(key)}"
    return key


def as_arrays(value):
    """A list of the arrays of one key."""
    arrays = [value] if isinstance(value, NDArray) else list(value)
    assert all(isinstance(a, NDArray) for a in arrays), "values are NDArrays or lists of them"
    return arrays


# --- Sum and copy ---------------------------------------------------------------------------------


def write(out, value):
    """The numbers of `value` into the memory of `out`, whatever its device and type."""
    if out.shape != value.shape:
        raise MXNetError(f"the value has shape {value.shape}, the array to fill {out.shape}")
    value = value.as_in_context(out.context)
    if out.stype == "default":
        raw = value._data
        writable(out)[...] = raw.dense() if isinstance(raw, Sparse) else raw
    else:
        assign(out, value.tostype(out.stype).astype(out.dtype))


def total(arrays, context):
    """The sum of `arrays` on `context`, in the order of the list, in new memory."""
    first, *others = arrays
    if not others:
        return first.copyto(context)
    found = first.as_in_context(context)
    for other in others:
        found = found + other.as_in_context(context)
    return found


# --- The store ------------------------------------------------------------------------------------


class KVStore(KVStoreBase):
    """A store of values by key, in one process: 'local' adds on the CPU, 'device' where the values are.

    Values are given by device in a list and added in its order, so that results are the same in every
    run. Keys are whole numbers or texts, not both. Errors are MXNetErrors and leave the store as it was.
    """

    rank, num_workers, type = 0, 1, None  # here and in the classes for several machines

    def __init__(self, type="local"):
        self.type = type
        self._store, self._updater = {}, None
        self._threshold, self._residuals = None, {}  # of gradient compression

    def is_capable(self, capability):
        """Whether the store can do something, such as KVStoreBase.OPTIMIZER."""
        if capability.lower() != KVStoreBase.OPTIMIZER:
            raise ValueError(f"Unknown capability: {capability}")
        return True

    def _stored(self, key):
        if key not in self._store:
            raise MXNetError(f"key {key!r} has not been inited: init or broadcast it first")
        return self._store[key]

    def _home(self, value):
        """Where the store keeps a value."""
        return value.context if "device" in self.type or self.type == "nccl" else cpu()

    # --- The store --------------------------------------------------------------------------------

    def init(self, key, value):
        """Give one key its first value, or each of a list of keys; MXNetError if it has one already."""
        given = by_key(key, value)
        for key in given:
            if key in self._store:
                raise MXNetError(
                    f"duplicate init of key {key}. Please double check if you called kv.init or "
                    "kv.broadcast with this key multiple times"
                )
            if any(type(key) is not type(old) for old in self._store):
                raise MXNetError("Mixed key types are not allowed: numbers or texts, not both")
        with pause():
            self._begin(
                {key: total(arrays[:1], self._home(arrays[0])) for key, arrays in given.items()}
            )

    def _begin(self, values):
        self._store.update(values)

    def broadcast(self, key, value, out, priority=0):
        """`init` the key with `value`, then `pull` it into `out`."""
        self.init(key, value)
        self.pull(key, out, priority, ignore_sparse=False)

    def push(self, key, value, priority=0):
        """Sum the arrays of each key, then update the stored value by them, or replace it."""
        given = by_key(key, value)
        with pause():
            for key, found in self._totals(given).items():
                self._merge(key, found)

    def pull(self, key, out=None, priority=0, ignore_sparse=True):
        """Write the stored values into `out`, an array or a list of them for each key.

        Row-sparse arrays are left alone unless `ignore_sparse` is False.
        """
        assert out is not None, "pull wants `out`, the arrays to be filled"
        given = by_key(key, out)
        with pause():
            for key, arrays in given.items():
                self._give(self._stored(key), arrays, ignore_sparse)

    def pushpull(self, key, value, out=None, priority=0):
        """`push` the values, then `pull` into `out`, by default into the values themselves."""
        given = by_key(key, value)
        outs = given if out is None else by_key(key, out)
        with pause():
            for key, found in self._totals(given).items():
                self._merge(key, found)
                self._give(self._stored(key), outs[key], False)

    def _give(self, value, outs, ignore_sparse):
        for o in outs:
            if o.stype == "default" or not ignore_sparse:
                write(o, value)

    def _totals(self, given):
        """The sum of the arrays of each key, where the store keeps its value."""
        found = {}
        for key, arrays in given.items():
            stored = self._stored(key)
            for a in arrays:
                if a.shape != stored.shape:
                    raise MXNetError(f"key {key} has shape {stored.shape}, not {a.shape}")
            arrays = self._compressed(key, arrays)
            found[key] = total(arrays, stored.context)
        return found

    def _merge(self, key, found):
        """Update the stored value by a sum, or replace it."""
        if self._updater is None:
            self._store[key] = found
        else:
            self._updater(key, found, self._store[key])

    # --- Rows -------------------------------------------------------------------------------------

    def row_sparse_pull(self, key, out=None, priority=0, row_ids=None):
        """Write the rows `row_ids` of the stored values into the row-sparse arrays `out`.

        One array of rows serves all arrays of `out`. Rows need not be sorted, nor differ.
        """
        assert out is not None and row_ids is not None, "row_sparse_pull wants `out` and `row_ids`"
        row_ids = [row_ids] if isinstance(row_ids, NDArray) else row_ids
        assert isinstance(row_ids, list), "row_ids should be NDArray or list of NDArray"
        pairs = [(k, o) for k, arrays in by_key(key, out).items() for o in arrays]
        wanted = row_ids * len(pairs) if len(row_ids) == 1 else row_ids
        assert len(pairs) == len(wanted), "the number of row_ids doesn't match the number of values"
        with pause():
            for (k, o), ids in zip(pairs, wanted):
                self._give_rows(self._stored(k), o, ids)

    def _give_rows(self, value, out, ids):
        if out.stype != "row_sparse":
            raise MXNetError(f"row_sparse_pull fills row_sparse arrays, not {out.stype} ones")
        places = np.unique(ids.as_in_context(value.context)._data.astype("int64"))
        if places.size and not 0 <= int(places[0]) <= int(places[-1]) < len(value):
            raise MXNetError(f"rows {int(places[0])} … {int(places[-1])} of {len(value)} rows")
        rows = Rows(value.shape, stored_rows(value._data, places), places)
        write(out, wrapped(rows, value.context))

    # --- Updating on the store --------------------------------------------------------------------

    def set_optimizer(self, optimizer):
        """Let `push` update the stored values by `optimizer`, the sum being the gradient."""
        self._set_updater(opt.get_updater(optimizer))

    def _set_updater(self, updater):
        """Let `push` call `updater(key, sum, stored)`, which changes `stored` in place."""
        self._updater = updater

    set_updater = _set_updater

    def save_optimizer_states(self, fname, dump_optimizer=False):
        """Write what the optimizer remembers, and with `dump_optimizer` its numbers too."""
        assert self._updater is not None, "Cannot save states without an optimizer: set_optimizer"
        save_states(fname, [self._updater], dump_optimizer)

    def load_optimizer_states(self, fname):
        """Read what the optimizer is to remember."""
        assert self._updater is not None, "Cannot load states without an optimizer: set_optimizer"
        load_states(fname, [self._updater])

    def _barrier(self):
        """Wait for all workers."""

    barrier = _barrier

    # --- Two bits a number ------------------------------------------------------------------------

    def set_gradient_compression(self, compression_params):
        """Round what is pushed to 0 and ±threshold: {'type': '2bit', 'threshold': 0.5}.

        The numbers are those of MXNet's compression; the arrays keep their type.
        """
        if "device" not in self.type and "dist" not in self.type:
            raise Exception("Gradient compression is not supported for this type of kvstore")
        if (kind := compression_params.get("type")) is None:
            raise MXNetError("Required parameter type of string is not presented")
        if kind != "2bit":
            raise MXNetError(f"Unknown type for gradient compression {kind}: it is '2bit'")
        threshold = float(compression_params.get("threshold", 0.5))
        if not threshold > 0:
            raise MXNetError("threshold must be greater than 0")
        self._threshold = threshold

    def _compressed(self, key, arrays):
        if self._threshold is None or arrays[0].stype != "default":
            return arrays
        return [self._rounded((key, i), a) for i, a in enumerate(arrays)]

    def _rounded(self, place, a):
        """What is sent of an array; the rest is kept under `place`."""
        if place not in self._residuals:
            self._residuals[place] = np.zeros_like(a._data)
        return NDArray(quantize(self._residuals[place], a._data, self._threshold), a.context)


# --- Rows -----------------------------------------------------------------------------------------


def stored_rows(raw, places):
    """The rows `places` of a raw array, dense or row-sparse; they ascend."""
    if not isinstance(raw, Rows):
        return raw[places]
    if not len(raw.indices):
        return np.zeros_like(raw.values, shape=(len(places), *raw.shape[1:]))
    at = np.minimum(np.searchsorted(raw.indices, places), len(raw.indices) - 1)
    there = raw.indices[at] == places
    return raw.values[at] * there.reshape(-1, *[1] * (len(raw.shape) - 1)).astype(raw.dtype)


# --- Two bits a number ----------------------------------------------------------------------------


def quantize(residual, gradient, threshold):
    """The three-valued part of `residual + gradient` that is sent; the rest stays in `residual`."""
    residual += gradient
    sent = np.zeros_like(residual)
    sent[residual >= threshold] = threshold
    sent[residual <= -threshold] = -threshold
    residual -= sent
    return sent


# --- By name --------------------------------------------------------------------------------------

makers = dict.fromkeys(
    ("local", "device", "local_update_cpu", "local_allreduce_cpu", "local_allreduce_device"),
    KVStore,
)


def create(name="local"):
    """A store by the name of its kind: 'local', 'device', 'nccl', 'dist_sync', 'dist_device_sync', …

    Or one of a registered class. TypeError for what is no text, MXNetError for an unknown name.
    """
    if not isinstance(name, str):
        raise TypeError("name must be a string")
    name = name.lower()
    if name in KVStoreBase.kv_registry:
        return KVStoreBase.kv_registry[name]()
    if name not in makers:
        known = ", ".join((*makers, *KVStoreBase.kv_registry))
        raise MXNetError(f"unknown kvstore {name!r}; known are {known}")
    return makers[name](name)
