"""A file is a promise about bytes: write it whole, and believe nothing that you read."""

# Written from chapters/18_files.ipynb, chapters/19_namespace.ipynb: edit the chapter, then run `minigluon export`.

import io
import math
import os
import secrets
import stat
import struct
from contextlib import suppress
from functools import cache

import numpy as np

from minigluon.base import MXNetError
from minigluon.context import Context
from minigluon.ndarray import ndarray, sparse
from minigluon.ndarray.ndarray import restored, zero_is_a_size
from minigluon.ndarray.sparse import KINDS, relocated
from minigluon.op import operators
from minigluon.ops.csr import Sparse

__all__ = [
    "CPU",
    "LIST",
    "NAMES",
    "PLACES",
    "Reader",
    "STORAGE",
    "STORED",
    "TYPES",
    "V1",
    "V2",
    "V3",
    "aimed",
    "array",
    "array_chunks",
    "code",
    "concatenate",
    "empty",
    "file_chunks",
    "full",
    "histogram",
    "is_array",
    "layout",
    "load",
    "load_frombuffer",
    "located",
    "named",
    "onehot_encode",
    "ones",
    "packed_shape",
    "path_of",
    "raw_numbers",
    "replace_file",
    "require_sizes",
    "restore",
    "save",
    "state_of",
    "zeros",
]


# --- Files of arrays ------------------------------------------------------------------------------

LIST, V1, V2, V3 = 0x112, 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "b1")  # the number of a type is its place here
PLACES = {"default": (), "row_sparse": ("indices",), "csr": ("indptr", "indices")}
STORAGE = tuple(PLACES)  # and the same for the kinds of storage
STORED = [np.dtype(f"<{t}") for t in TYPES]  # the types as they lie in a file
NAMES = [t.name for t in STORED]
CPU = Context("cpu")


# --- Writing --------------------------------------------------------------------------------------


def file_chunks(names, arrays):
    """The bytes of a file with `arrays`, piece by piece; `names` are as many, or none."""
    yield struct.pack("<QQQ", LIST, 0, len(arrays))
    for a in arrays:
        yield from array_chunks(a)
    yield struct.pack("<Q", len(names))
    for name in (n.encode() for n in names):
        yield struct.pack("<Q", len(name)) + name


def array_chunks(a):
    """The bytes of one array, dense or sparse."""
    values = a if a.stype == "default" else a.data
    places = [getattr(a, name) for name in PLACES[a.stype]]
    shape, on = a.shape, values.context
    head = struct.pack("<Ii", V2 if shape else V3, STORAGE.index(a.stype))
    if places:
        head += packed_shape(values.shape)
    head += packed_shape(shape)
    head += struct.pack("<iii", on.device_typeid, on.device_id, code(values.dtype))
    for p in places:
        head += struct.pack("<i", code(p.dtype)) + packed_shape(p.shape)
    yield head
    for part in (values, *places):
        yield raw_numbers(part)


def packed_shape(shape):
    """A shape: how many axes, and their sizes."""
    return struct.pack(f"<I{len(shape)}q", len(shape), *shape)


@cache  # a file may have thousands of arrays, but it has few types
def code(dtype):
    """The number of a type; MXNetError for one that the format does not know."""
    dtype = np.dtype(dtype)
    if (name := f"{dtype.kind}{dtype.itemsize}") not in TYPES:
        known = ", ".join(np.dtype(t).name for t in TYPES)
        raise MXNetError(f"a file of arrays cannot hold {dtype}; convert it to one of {known}")
    return TYPES.index(name)


def raw_numbers(a):
    """The numbers of a dense array on the host, side by side, the least significant byte first."""
    raw = a._data if isinstance(a._data, np.ndarray) else a._data.get()
    return np.ascontiguousarray(raw.reshape(-1), raw.dtype.newbyteorder("<"))


def replace_file(path, chunks):
    """Write a file whole or not at all: beside `path` first, then in its place."""
    path, mode = aimed(path)
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "wb") as file:
            return file.writelines(chunks)
    part = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with open(part, "xb") as file:
            file.writelines(chunks)
            if (
                mode is not None and os.fstat(file.fileno()).st_mode != mode
            ):  # rarely, and chmod writes
                os.chmod(part, stat.S_IMODE(mode))
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def aimed(path):
    """The file that `path` means, where a link leads to, and its mode; None if there is none yet."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            path = os.path.realpath(path)  # the link goes on to point where it does
            mode = os.stat(path).st_mode
    except OSError:
        mode = None
    return path, mode


def save(fname, data):
    """Write an array, a list of arrays or a dict `{name: array}` to the file `fname`.

    Arrays may be dense or sparse. The file is MXNet's `.params`. If anything fails, what stood there
    before stays: TypeError for what is no array or no name, MXNetError if it cannot be written.
    """
    names, arrays = named(data)
    path = path_of(fname)
    try:
        replace_file(path, file_chunks(names, arrays))
    except OSError as error:
        raise MXNetError(f"cannot write {path}: {error.strerror or error}") from error


def named(data):
    """The names and the arrays of `data`; a list has no names."""
    if isinstance(data, dict):
        names, arrays = list(data), list(data.values())
    elif isinstance(data, list) or is_array(data):
        names, arrays = [], data if isinstance(data, list) else [data]
    else:
        raise ValueError(f"save takes an NDArray, a list or a dict of them, not {type(data)}")
    if not all(isinstance(n, str) for n in names) or not all(map(is_array, arrays)):
        raise TypeError(
            "save takes lists of NDArrays and dicts {str: NDArray}, nothing else inside"
        )
    return names, arrays


def is_array(a):
    """Whether `a` is an NDArray, dense or sparse."""
    return getattr(a, "stype", "") in PLACES and hasattr(a, "context")


def path_of(fname):
    """A path as text, from a str, bytes or a path object."""
    try:
        return os.fsdecode(fname)
    except TypeError:
        raise TypeError(f"fname is the path of a file, not {fname!r}") from None


# --- Reading --------------------------------------------------------------------------------------

layout = cache(struct.Struct)  # of the forms of this format: a few, and 33 shapes


class Reader:
    """Reads a file of arrays from front to back; MXNetError names the byte where it makes no sense."""

    def __init__(self, file, size, name):
        self.file, self.left, self.size, self.name, self.at = file, size, size, name, 0

    def fail(self, why):
        """Give up: the part read last, or about to be read, is wrong."""
        raise MXNetError(f"{self.name} is no whole file of arrays: at byte {self.at}, {why}")

    def claim(self, length, what):
        """Count `length` bytes as read, or fail if the file has no more so many."""
        self.at = self.size - self.left
        if length > self.left:
            self.fail(f"{what} takes {length} bytes, but only {self.left} are left")
        self.left -= length

    def read(self, length):
        """The next `length` bytes, claimed before."""
        if len(found := self.file.read(length)) != length:
            self.fail("the file became shorter while it was read")
        return found

    def fill(self, buffer, length):
        """Read `length` bytes, claimed before, into `buffer`."""
        if self.file.readinto(buffer) != length:
            self.fail("the file became shorter while it was read")

    def fields(self, form, what):
        """A few numbers, packed as `form` says."""
        packed = layout(form)
        self.claim(packed.size, what)
        return packed.unpack(self.read(packed.size))

    # --- Reading ----------------------------------------------------------------------------------

    def shape(self, size="q"):
        """A shape: how many axes, at most 32, and the size of each."""
        (axes,) = self.fields("<i", "the number of axes")
        if not 0 <= axes <= 32:
            self.fail(f"an array of {axes} axes")
        return self.sizes(axes, size)

    def sizes(self, axes, size):
        """The sizes of so many axes."""
        shape = self.fields(f"<{axes}{size}", "the shape")
        if shape and min(shape) < 0:
            self.fail(f"the shape {shape}")
        return shape

    def numbers(self, shape, number):
        """As many numbers as `shape` says, of type `number`, as an array of NumPy."""
        if not 0 <= number < len(TYPES):
            self.fail(f"type {number} is unknown")
        dtype = STORED[number]
        length = math.prod(shape) * dtype.itemsize
        self.claim(length, f"{NAMES[number]}{list(shape)}")
        try:
            raw = np.empty(shape, dtype)  # an axis of size 0 does not make the others small
        except ValueError as error:
            self.fail(f"the shape {shape}: {error}")
        self.fill(raw.reshape(-1).view("u1"), length)
        native = raw if dtype.isnative else raw.astype(dtype.newbyteorder("="))
        return native.view("u1").astype(bool) if dtype.kind == "b" else native

    def array(self):
        """One array, dense or sparse, of any version."""
        (magic,) = self.fields("<I", "an array")
        storage = self.fields("<i", "the kind of storage")[0] if magic in (V2, V3) else 0
        if not 0 <= storage < len(STORAGE):
            self.fail(f"storage {storage} is unknown")
        if storage:
            return self.sparse(STORAGE[storage])
        if magic not in (V1, V2, V3) and magic > 32:
            self.fail(f"{magic:#x} begins no array")
        shape = self.shape() if magic in (V1, V2, V3) else self.sizes(magic, "I")
        if not shape and magic != V3:
            self.fail("an array without a shape: it was saved before it had numbers")
        device, number, kind = self.fields("<iii", "device and type")
        raw = self.numbers(shape, kind)
        if not shape and not zero_is_a_size[-1]():  # mx.nd has no array without axes
            raw = raw.reshape(1)
        return located(raw, device, number)

    def sparse(self, stype):
        """A sparse array: the shape of its values, its own, and the types of everything;
        then numbers.
        """
        stored, shape = self.shape(), self.shape()
        device, number, kind = self.fields("<iii", "device and type")
        forms = [(self.fields("<i", "a type")[0], self.shape()) for _ in PLACES[stype]]
        data = self.numbers(stored, kind)
        places = {n: self.numbers(s, t) for n, (t, s) in zip(PLACES[stype], forms)}
        raw = KINDS[stype](shape, data, **places)
        whole = all(p.dtype.kind in "iu" for p in places.values())
        if not whole or (why := raw.problem(ordered=False)):
            self.fail(f"a {stype} array {shape}: {why if whole else 'places are whole numbers'}")
        return located(raw, device, number)

    def everything(self):
        """All arrays: a list, or a dict if they have names."""
        magic, _, count = self.fields("<QQQ", "the header")
        if magic != LIST:
            self.at = 0
            self.fail(f"it begins with {magic:#x}, not with {LIST:#x}")
        arrays = [self.array() for _ in range(count)]
        (named,) = self.fields("<Q", "the number of names")
        if named not in (0, count):
            self.fail(f"{named} names for {count} arrays")
        names = [self.text() for _ in range(named)]
        if self.left:
            self.at = self.size - self.left
            self.fail(f"{self.left} bytes follow the end")
        return dict(zip(names, arrays)) if names else arrays

    def text(self):
        """A name."""
        (length,) = self.fields("<Q", "the length of a name")
        self.claim(length, "a name")
        try:
            return self.read(length).decode()
        except UnicodeDecodeError as error:
            self.fail(f"a name is not UTF-8: {error}")


def located(raw, device, number):
    """An NDArray on the GPU that it was saved from, or else on the CPU."""
    on_gpu = device == Context.devstr2type["gpu"] and number >= 0
    bring = relocated if isinstance(raw, Sparse) else restored
    return bring(raw, Context("gpu", number) if on_gpu else CPU)


def load(fname):
    """The arrays in the file `fname`, as `save` or MXNet wrote them: a list, or a dict by name.

    MXNetError with the path and the place if the file is not there, damaged or no such file.
    """
    path = path_of(fname)
    try:
        with open(path, "rb") as file:
            return Reader(file, os.fstat(file.fileno()).st_size, path).everything()
    except OSError as error:
        raise MXNetError(f"cannot read {path}: {error.strerror or error}") from error


def load_frombuffer(buf):
    """The arrays in `buf`, the bytes of a file that `save` or MXNet wrote."""
    if not isinstance(buf, bytes | bytearray | memoryview):
        raise TypeError(
            f"buf holds the bytes of a file of arrays, it is not a {type(buf).__name__}"
        )
    file = io.BytesIO(buf)
    return Reader(file, file.getbuffer().nbytes, "the buffer").everything()


def state_of(self):
    """The state of an array in MXNet's pickles: its bytes in a file."""
    return {"handle": bytearray(b"".join(array_chunks(self)))}


def restore(self, state):
    """Become the array that a state of MXNet's pickles holds."""
    file = io.BytesIO(state["handle"])
    found = Reader(file, file.getbuffer().nbytes, "the pickle").array()
    self._data, self._ctx, self._node = found._data, found._ctx, None


# --- Arrays of every storage ----------------------------------------------------------------------


def require_sizes(name, shape, unknown=(0,)):
    """Refuse a shape that MXNet reads as one not known yet: `()`, or with one of `unknown` in it."""
    if type(shape) is tuple and shape and 0 not in shape:
        return
    shape = ndarray.sizes(shape)
    unclear = shape == () or not {*unknown}.isdisjoint(shape)
    if unclear and not ndarray.zero_is_a_size[-1]():
        raise MXNetError(
            f"{name}: the shape {shape} is not known completely, as 0 stands for an unknown size; "
            "within mx.np_shape() it is a size like others"
        )


def zeros(shape, ctx=None, dtype=None, stype=None, **settings):
    """An array of zeros, with storage 'default', 'csr' or 'row_sparse'."""
    if type(shape) is not tuple or not shape or 0 in shape:  # what `require_sizes` asks first
        require_sizes("zeros", shape)
    if stype is None is dtype and not settings:  # nearly always, 0.3 µs sooner
        raw = ndarray.fresh(np.zeros, 0, ndarray.sizes(shape), ndarray.SINGLE, ctx)
        return ndarray.place(raw, ctx)
    if stype in (None, "default"):
        return ndarray.zeros(shape, ctx, dtype, **settings)
    return sparse.zeros(stype, shape, ctx, dtype)


def ones(shape, ctx=None, dtype=None, **settings):
    """An array of ones."""
    require_sizes("ones", shape)
    return ndarray.ones(shape, ctx, dtype, **settings)


def full(shape, val, ctx=None, dtype=None, out=None):
    """An array in which every number is `val`."""
    require_sizes("full", shape, unknown=())
    return ndarray.full(shape, val, ctx, dtype, out)


def empty(shape, ctx=None, dtype=None, stype=None):
    """An array whose numbers are whatever the memory held; a sparse one is of zeros."""
    if stype in (None, "default"):
        return ndarray.empty(shape, ctx, dtype)
    return sparse.empty(stype, shape, ctx, dtype)


def array(source_array, ctx=None, dtype=None):
    """An array of the numbers in a list or an array; sparse if that is sparse, also one of SciPy."""
    dense = getattr(source_array, "stype", "default") == "default"
    if dense and not hasattr(source_array, "tocsr"):
        return ndarray.array(source_array, ctx, dtype)
    return sparse.array(source_array, ctx, dtype)


# --- Older functions ------------------------------------------------------------------------------


def concatenate(arrays, axis=0, always_copy=True):
    """The arrays of a list, one behind the other along an axis."""
    if not isinstance(arrays, list) or not arrays:
        raise AssertionError(f"concatenate takes a list of NDArrays, not {type(arrays).__name__}")
    if len(arrays) == 1 and not always_copy:
        return arrays[0]
    return operators["concat"](*arrays, dim=axis)


def onehot_encode(indices, out):
    """Fill the matrix `out` with a one in each row, at the place that `indices` names."""
    out[:] = operators["one_hot"](indices, depth=out.shape[1])
    return out


def histogram(a, bins=10, range=None):
    """Counts and edges: `bins` equal parts of `range`, by default from least to greatest,
    or an array.
    """
    if isinstance(bins, ndarray.NDArray):
        return operators["_histogram"](a, bins)
    if not isinstance(bins, int | np.integer):
        raise ValueError("bins argument should be either an integer or an NDArray")
    if range is None:
        low, high = a.min().asscalar(), a.max().asscalar()
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        counts, edges = operators["_histogram"](a, bin_cnt=bins, range=(float(low), float(high)))
        # as MXNet: whole numbers only where range is given
        return [counts.astype(edges.dtype), edges]
    if len(range) != 2 or range[0] > range[1]:
        raise MXNetError(f"histogram: range={range!r} is no pair of a lower and an upper end")
    return operators["_histogram"](a, bin_cnt=bins, range=tuple(map(float, range)))
