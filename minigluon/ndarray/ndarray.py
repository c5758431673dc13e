"""An NDArray is a block of numbers, a shape to read them by, and the place where they live."""

# Written from chapters/02_arrays.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
import importlib
import math
from functools import lru_cache
from operator import index

import numpy as np
from numpy import ndarray

from minigluon.base import MXNetError
from minigluon.context import (
    Context,
    cupy_for,
    current_context,
    fetched,
    put,
    read_notes,
    scopes,
    wait_for_all,
)
from minigluon.op import BadType, Operand, describe, failure, interpreters, signature

__all__ = [
    "ArgumentError",
    "Capsule",
    "EXACT",
    "NAMES_OF_TYPES",
    "NDArray",
    "SINGLE",
    "Shared",
    "arange",
    "array",
    "compute",
    "compute_soon",
    "empty",
    "eye",
    "files",
    "fresh",
    "from_dlpack",
    "from_numpy",
    "full",
    "held",
    "host_array",
    "linspace",
    "made",
    "named_dtype",
    "new",
    "number",
    "numbered",
    "ones",
    "place",
    "real_dtype",
    "require_same_dtype",
    "restored",
    "several",
    "shown",
    "single",
    "sizes",
    "to_dlpack_for_read",
    "to_dlpack_for_write",
    "waitall",
    "with_scalars",
    "wrapped",
    "zero_is_a_size",
    "zeros",
]


# --- The array ------------------------------------------------------------------------------------


class NDArray(Operand):
    """An array of numbers on a device, `_data`, that may remember how it was made, `_node`."""

    __slots__ = ("__weakref__", "_ctx", "_data", "_node")
    __array_priority__ = 1000.0  # so that NumPy's scalars leave `2.0 * x` to us
    __hash__ = object.__hash__
    stype = "default"

    def __init__(self, data, ctx=None, node=None):
        self._data, self._ctx, self._node = data, ctx, node

    # --- The array --------------------------------------------------------------------------------

    @property
    def shape(self):
        """Sizes of the axes, a tuple of ints."""
        return self._data.shape

    @property
    def dtype(self):
        """The type of the numbers, such as `numpy.float32`."""
        return self._data.dtype.type

    @property
    def ndim(self):
        """How many axes there are."""
        return self._data.ndim

    @property
    def size(self):
        """How many numbers there are."""
        return self._data.size

    @property
    def context(self):
        """The device that holds the numbers."""
        return self._ctx

    ctx = context

    @property
    def handle(self):
        """MXNet's pointer into its C library: AttributeError, which tells what there is instead."""
        raise AttributeError(
            "handle: MXNet's pointer into its C library, which is not here; "
            "asnumpy() copies the numbers, "
            "to_dlpack_for_read(x) and numpy.from_dlpack(x) share them"
        )

    writable = property(lambda self: True, doc="Whether it can be written to: always.")

    # --- Out to NumPy and Python ------------------------------------------------------------------

    def asnumpy(self):
        """A NumPy array with a copy of the numbers."""
        data = self._data
        found = np.array(data) if isinstance(data, ndarray) else fetched(data)
        return found.view(single) if found.shape == (1,) else found

    def __array__(self, dtype=None, copy=None):
        return self.asnumpy() if dtype is None else self.asnumpy().astype(dtype)

    def asscalar(self):
        """The only number of an array of size 1, as a NumPy scalar; otherwise ValueError."""
        if self.size != 1:
            raise ValueError(f"The current array is not a scalar: its shape is {self.shape}")
        return self.asnumpy().reshape(-1)[0]

    def item(self):
        """The only number of an array of size 1, as a Python number."""
        return self.asscalar().item()

    def tolist(self):
        """Nested Python lists of the numbers."""
        return self.asnumpy().tolist()

    def wait_to_read(self):
        """Wait until the numbers are there; NumPy computes at once, so there is nothing to wait for."""
        if not isinstance(self._data, np.ndarray):
            self._data.device.synchronize()
            read_notes()

    wait_to_write = wait_to_read

    def __bool__(self):
        if self.size > 1:
            raise ValueError(
                f"The truth value of an NDArray with multiple elements is ambiguous: {self.shape}"
            )
        return bool(self.size and self.asscalar())

    def __float__(self):
        return float(self._only())

    def __int__(self):
        return int(self._only())

    def _only(self):
        """The only number; TypeError, as Python's functions of numbers raise it,
        if there are more or none.
        """
        if self.size != 1:
            raise TypeError(
                f"only an array of one number is a number, not one of shape {self.shape}"
            )
        return self.asscalar()

    def __index__(self):
        if self._data.dtype.kind not in "iu":
            raise TypeError(f"only integer arrays can serve as an index, not {self._data.dtype}")
        return int(self.asscalar())

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        shape = "x".join(map(str, self.shape))
        return f"\n{self.asnumpy()}\n<{type(self).__name__} {shape} @{self._ctx}>"

    def __reduce__(self):
        return restored, (self.asnumpy(), self._ctx)

    def __getstate__(self):
        return files().state_of(self)

    def __setstate__(self, state):
        files().restore(self, state)

    def __dlpack__(self, **settings):
        return self._data.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self._data.__dlpack_device__()


# --- Out to NumPy and Python ----------------------------------------------------------------------


class single(ndarray):
    """A NumPy array of shape (1,) that float() and int() take;
    what is computed from it is an ordinary array.
    """

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __array_wrap__(self, found, context=None, return_scalar=False):
        return found[()] if return_scalar else found.view(ndarray)

    def __reduce_ex__(self, protocol):
        return self.view(ndarray).__reduce_ex__(protocol)


single.__name__ = "array"  # in its repr


# --- The first interpreter ------------------------------------------------------------------------


class ArgumentError(AssertionError, TypeError):
    """Something that is no array stands where an array should.

    MXNet raises AssertionError from functions and TypeError from `+` and its kin: this is both.
    """


def compute(op, args, settings):
    """Interpret `op` on NDArrays: take the raw arrays, run the kernel, wrap what comes out."""
    raw, dtype, plain, numbers = [], None, True, False
    for a in args:
        if type(a) is NDArray:
            data = a._data
            raw.append(data)
            if dtype is None:
                dtype, ctx = data.dtype, a._ctx.results
                kernel = op.plain if type(data) is ndarray else op.kernel
            elif data.dtype is not dtype and op.same_dtype:
                require_same_dtype(op, args, settings)
        elif type(a) is float or type(a) is int:
            raw.append(a)
            numbers = True
        elif isinstance(a, NDArray):  # an array of another kind knows what to do
            return interpreters[type(a)](op, args, settings)
        else:
            raw.append(a)
            plain = False
    if not plain or (numbers and dtype.kind != "f"):
        raw = with_scalars(op, args, raw, dtype)
    try:
        out = kernel(*raw, **settings)
    except Exception as error:
        raise failure(error, op, raw, settings) from error
    return NDArray(out, ctx) if type(out) is ndarray else several(op, out, ctx)


def several(op, out, ctx):
    """What a kernel gave, if it is not one array, as NDArrays."""
    if type(out) is not tuple:
        return NDArray(numbered(out), ctx)
    visible, found = op.visible, []  # a comprehension would be one more call
    if visible == 1:
        return NDArray(numbered(out[0]), ctx)
    for o in out if visible is None else out[:visible]:
        y = new(NDArray)  # NDArray(o, ctx), 0.05 µs sooner
        y._data, y._ctx, y._node = o if type(o) is ndarray else numbered(o), ctx, None
        found.append(y)
    return found


def numbered(out):
    """What a kernel gave, as an array: of arrays without axes NumPy makes bare numbers."""
    return np.asarray(out) if isinstance(out, np.generic) else out


def shown(op, outputs):
    """The outputs of a call as its caller sees them: a list, or the only visible one."""
    return outputs[0] if op.visible == 1 else outputs


new = object.__new__


def compute_soon(op, args, settings):
    """`compute`, in fewer steps for a call on one to three arrays of a type, or on one and a number."""
    a, out = args[0], None
    if type(a) is NDArray:
        data = a._data
        kernel = op.plain if type(data) is ndarray else op.kernel
        try:
            if len(args) == 1:
                out = kernel(data, **settings) if settings else kernel(data)
            elif len(args) == 2:
                b = args[1]
                if type(b) is NDArray:
                    b = b._data
                    if b.dtype is data.dtype or not op.same_dtype:
                        out = kernel(data, b, **settings) if settings else kernel(data, b)
                elif (type(b) is float or type(b) is int) and data.dtype.kind == "f":
                    out = kernel(data, b, **settings) if settings else kernel(data, b)
            elif len(args) == 3 and type(args[1]) is NDArray is type(args[2]):
                b, c = args[1]._data, args[2]._data
                if b.dtype is data.dtype is c.dtype:
                    out = kernel(data, b, c, **settings) if settings else kernel(data, b, c)
        except Exception as error:
            raw = [x._data if type(x) is NDArray else x for x in args]
            raise failure(error, op, raw, settings) from error
        if type(out) is ndarray:
            y = new(NDArray)  # NDArray(out, a._ctx.results), 0.05 µs sooner
            y._data, y._ctx, y._node = out, a._ctx.results, None
            return y
        if out is not None:
            return several(op, out, a._ctx.results)
    return compute(op, args, settings)


interpreters[NDArray] = compute_soon


def with_scalars(op, args, raw, dtype):
    """The raw arguments of a call, its plain numbers fitted to the arrays' `dtype`."""
    required = len(op.required)  # later arrays may be absent, None
    return [
        data if data is not a or (a is None and i >= required) else number(op, a, dtype)
        for i, (a, data) in enumerate(zip(args, raw))
    ]


def number(op, a, dtype):
    """`a` as a Python number that does not change the type of an array of `dtype`."""
    a = a.item() if isinstance(a, np.generic) else a
    if a is None:
        raise BadType(
            f"{op.name} takes {signature(op)}: type {type(a)} not supported, an array is missing"
        )
    if not isinstance(a, int | float):
        raise ArgumentError(f"{op.name}: type {type(a)} not supported, give an NDArray or a number")
    return held(a, dtype)


def held(a, dtype):
    """A number as an array of `dtype` holds it: a whole one where that is of whole numbers."""
    if dtype.kind not in "iu":
        return dtype.type(a) if dtype.kind == "V" else a  # bfloat16, which a plain number widens
    if a in (math.inf, -math.inf):  # beyond all whole numbers of the type
        return np.iinfo(dtype).max if a > 0 else np.iinfo(dtype).min
    return int(a) if -128 <= a < 128 and dtype.kind == "i" else wrapped(int(a), dtype)


def wrapped(a, dtype):
    """A whole number as the type holds it: its last bits, as when C converts it."""
    bits, low = 8 * dtype.itemsize, np.iinfo(dtype).min
    return (a - low) % 2**bits + low


def require_same_dtype(op, args, settings):
    """Refuse arrays of different types: nothing is promoted behind the caller's back."""
    raw = [a._data if isinstance(a, NDArray) else a for a in args]
    if len({a.dtype for a in raw if isinstance(a, np.ndarray)}) > 1:
        raise MXNetError(
            f"in {describe(op, raw, settings)}: arrays of different types; "
            "convert one with .astype(...)"
        )


# --- Making arrays --------------------------------------------------------------------------------


def array(source_array, ctx=None, dtype=None):
    """An array of the numbers in a list, a NumPy array or an NDArray.

    Without a `dtype` it becomes float32; only an NDArray keeps its own.
    """
    if isinstance(source_array, NDArray):
        dtype = source_array.dtype if dtype is None else dtype
        source_array = source_array.asnumpy()
    try:
        return place(host_array(source_array, real_dtype(dtype)), ctx)
    except (ValueError, TypeError) as error:
        raise TypeError(f"source_array must be array like object: {error}") from None


def host_array(source, dtype):
    """The numbers of a list or an array, in `dtype`; too large ones as C converts them."""
    try:
        return np.array(source, dtype)
    except OverflowError:
        return np.array(source).astype(dtype)


def place(raw, ctx):
    """An NDArray of a fresh raw array, on `ctx` or the current context."""
    if ctx is None:
        ctx = current_context()
    elif type(ctx) is not Context:
        ctx = Context(ctx)
    here = ctx.device_typeid not in (2, 3) and type(raw) is ndarray  # neither a GPU nor pinned
    return NDArray(raw if here else put(raw, ctx), ctx)


def files():
    """The module of files of arrays, a chapter that stands on this one:
    a pickle of MXNet holds such bytes.
    """
    return importlib.import_module("minigluon.ndarray.utils")


def restored(raw, ctx):
    """An unpickled array: on its old context, or on the CPU if that is not there."""
    try:
        return place(raw, ctx)
    except MXNetError:
        return place(raw, Context("cpu"))


SINGLE = np.dtype("float32")
NAMES_OF_TYPES = str, type, np.dtype, np.ndarray, type(None)  # an array of NumPy's is no type


def real_dtype(dtype):
    """The NumPy type of `dtype`, or of what has one; by default float32.

    TypeError for what is no number.
    """
    if not isinstance(dtype, NAMES_OF_TYPES):
        dtype = getattr(dtype, "dtype", dtype)  # `x.astype(y)` is MXNet's `x.astype(y.dtype)`
    return named_dtype(dtype)


@lru_cache(maxsize=64)
def named_dtype(dtype):
    """`real_dtype` of a name, a class or a type of NumPy."""
    if dtype is None:
        return SINGLE
    try:
        if isinstance(dtype, str) and dtype == "bfloat16":
            import ml_dtypes  # noqa: F401, it tells NumPy of the type, whose kind is V
        found = np.dtype(dtype)
    except (TypeError, ImportError):
        found = None
    if found is None or (found.kind not in "fiub" and found.name != "bfloat16"):
        also = "; bfloat16 with `pip install ml_dtypes`" if dtype == "bfloat16" else ""
        raise TypeError(f"dtype {dtype!r}: an array holds real numbers, as float32 or int64{also}")
    return found


# MXNet's numbers of storage kinds, types and gradient requests, by the names that its programs import.
_STORAGE_TYPE_STR_TO_ID = {"undefined": -1, "default": 0, "row_sparse": 1, "csr": 2}
_STORAGE_TYPE_ID_TO_STR = {number: name for name, number in _STORAGE_TYPE_STR_TO_ID.items()}
_GRAD_REQ_MAP = {"null": 0, "write": 1, "add": 3}
_DTYPE_MX_TO_NP = {-1: None, 0: np.float32, 1: np.float64, 2: np.float16, 3: np.uint8} | {
    4: np.int32,
    5: np.int8,
    6: np.int64,
    7: np.bool_,
}
_DTYPE_NP_TO_MX = {dtype: number for number, dtype in _DTYPE_MX_TO_NP.items()}


def fresh(make, value, shape, dtype, ctx):
    """A raw array that NumPy's `make` makes; where `ctx` is a GPU it is filled there with `value`,
    unless that is None, for RAM need not hold what a GPU can.
    """
    if ctx is None and not scopes.stack:  # nearly always
        return make(shape, dtype)
    ctx = current_context() if ctx is None else Context(ctx)
    if ctx.device_typeid != 2:
        return make(shape, dtype)
    cupy = cupy_for(ctx.device_id)
    with cupy.cuda.Device(ctx.device_id):
        raw = cupy.empty(shape, dtype)
        if value is not None:
            raw[...] = value
    return raw


def zeros(shape, ctx=None, dtype=None, out=None, **_):
    """An array of zeros."""
    return made(fresh(np.zeros, 0, sizes(shape), real_dtype(dtype), ctx), ctx, out)


def ones(shape, ctx=None, dtype=None, out=None, **_):
    """An array of ones."""
    return made(fresh(np.ones, 1, sizes(shape), real_dtype(dtype), ctx), ctx, out)


def full(shape, val, ctx=None, dtype=None, out=None):
    """An array in which every number is `val`; of `out`, if given, which has its own shape."""
    if out is not None:
        out[...] = val
        return out
    dtype = real_dtype(dtype)
    if isinstance(val, int | float):
        val, raw = held(val, dtype), fresh(np.empty, None, sizes(shape), dtype, ctx)
    else:
        raw = np.empty(sizes(shape), dtype)
    raw[...] = val  # np.full does the same, 0.5 µs later
    return made(raw, ctx)


def empty(shape, ctx=None, dtype=None):
    """An array whose numbers are whatever the memory held."""
    return place(fresh(np.empty, None, sizes(shape), real_dtype(dtype), ctx), ctx)


EXACT = 2**24  # up to here float32 holds every whole number


def arange(start, stop=None, step=1.0, repeat=1, infer_range=None, ctx=None, dtype=None, out=None):
    """Evenly spaced numbers from `start` up to `stop`, each `repeat` times."""
    start, stop = (0, start) if stop is None else (start, stop)
    if step == 0 or (stop - start) / step <= 0:
        raise MXNetError(f"arange({start}, {stop}, {step}): no number lies in this range")
    if (
        dtype is None
        and step == 1
        and type(start) is type(stop) is int
        and -EXACT < start < stop < EXACT
    ):
        values = np.arange(start, stop, 1, SINGLE)
    else:
        values = np.arange(start, stop, step).astype(real_dtype(dtype), copy=False)
    return made(values if repeat == 1 else np.repeat(values, repeat), ctx, out)


def linspace(start, stop, num, endpoint=True, ctx=None, dtype=None, out=None):
    """`num` numbers from `start` to `stop`, which is the last one unless `endpoint` is False."""
    (num,) = sizes(num)
    return made(np.linspace(start, stop, num, endpoint).astype(real_dtype(dtype)), ctx, out)


def eye(N, M=0, k=0, ctx=None, dtype=None, out=None):
    """A matrix of N rows and M columns (0: as many) with ones on its k-th diagonal."""
    N, M = sizes((N, M))
    return made(np.eye(N, M or None, k, real_dtype(dtype)), ctx, out)


def made(raw, ctx, out=None):
    """A new array of fresh numbers, or `out` filled with them."""
    if out is None:
        return place(raw, ctx)
    if out.shape != raw.shape:
        raise MXNetError(f"shape {raw.shape} does not fit out, which has {out.shape}")
    out._data[...] = put(raw, out._ctx)
    return out


zero_is_a_size = [lambda: False]  # the last one tells; the chapter on mx.np adds its switch


def sizes(shape):
    """A shape as a tuple of ints; MXNetError if one is negative or memory could never hold it."""
    if type(shape) is int and 0 <= shape < 2**60:
        return (shape,)
    if type(shape) is tuple:  # nearly always it is a shape as it stands, and 0.3 µs sooner known
        count = 1
        for n in shape:
            if type(n) is not int or n < 0:
                break
            count *= n
        else:
            if count < 2**60:
                return shape
    try:
        found = (shape,) if isinstance(shape, int) else shape
        if type(found) is not tuple:
            found = (shape,) if np.ndim(shape) == 0 else tuple(shape)
        found = tuple(map(index, found))
    except TypeError:
        raise MXNetError(f"shape {shape!r}: give a whole number or a tuple of them") from None
    if (found and min(found) < 0) or math.prod(found) >= 2**60:
        raise MXNetError(f"shape {found}: sizes are not negative, and memory must hold them")
    return found


def from_numpy(ndarray, zero_copy=True):
    """An array of the same numbers and type; with `zero_copy` in the same memory.

    That memory must be contiguous, and NumPy may no longer write to it.
    """
    if not zero_copy:
        return array(ndarray, dtype=ndarray.dtype)
    if not ndarray.flags.c_contiguous:
        raise ValueError("Only c-contiguous arrays are supported for zero-copy")
    ours = ndarray[...]  # a view: it stays writable when the original is locked
    ndarray.flags.writeable = False
    real_dtype(ours.dtype)
    return NDArray(ours, Context("cpu"))


def from_dlpack(dlpack):
    """The array behind a DLPack capsule, or behind an object with `__dlpack__`, in the same memory."""
    if hasattr(dlpack, "__dlpack__"):
        return NDArray(np.from_dlpack(dlpack), Context("cpu"))
    return NDArray(np.asarray(Shared(np.from_dlpack(Capsule(dlpack)))), Context("cpu"))


def to_dlpack_for_read(data):
    """A DLPack capsule of the array, for a reader."""
    return data.__dlpack__()


def to_dlpack_for_write(data):
    """A DLPack capsule of the array, for somebody who will write into it: the same."""
    return data.__dlpack__()


class Capsule:
    """A bare DLPack capsule of CPU memory, as an object that NumPy can ask for it."""

    def __init__(self, capsule):
        valid = ctypes.pythonapi.PyCapsule_IsValid
        if not any(
            valid(ctypes.py_object(capsule), name) for name in (b"dltensor", b"dltensor_versioned")
        ):
            raise ArgumentError(
                f"from_dlpack: {capsule!r} is no DLPack capsule, or has been read before: make a new one"
            )
        self.capsule = capsule

    def __dlpack__(self, **_):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0


class Shared:
    """The memory of an array from a capsule, to be written into:
    before version 1 capsules do not say whether one may.
    """

    def __init__(self, array):
        self.array, place = array, array.__array_interface__
        self.__array_interface__ = place | {"data": (place["data"][0], False)}


NDArray.to_dlpack_for_read, NDArray.to_dlpack_for_write = to_dlpack_for_read, to_dlpack_for_write


def waitall():
    """Wait for all computations: those of GPUs, for NumPy computes at once."""
    wait_for_all()
