"""The older way to feed a network: an iterator that knows the names and shapes of its arrays before the first batch."""

# Written from chapters/86_io.ipynb: edit the chapter, then run `minigluon export`.

import struct
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import minigluon.ndarray as nd
from minigluon.base import MXNetError
from minigluon.io.utils import _getdata_by_idx, _has_instance, _init_data, is_stored
from minigluon.ndarray.ndarray import place
from minigluon.ndarray.sparse import CSRNDArray
from minigluon.recordio import MXRecordIO, decoded, scaled, unpack

__all__ = [
    "Ahead",
    "CSVIter",
    "Current",
    "DataBatch",
    "DataDesc",
    "DataIter",
    "IGNORED",
    "ImageIter",
    "ImageRecordIter",
    "ImageRecordUInt8Iter",
    "ImageRecords",
    "LibSVMIter",
    "MNISTIter",
    "MXDataIter",
    "NDArrayIter",
    "PrefetchingIter",
    "ResizeIter",
    "SparseIter",
    "enlarged",
    "joined",
    "numbers_of",
    "refuse",
    "renamed",
    "sparse_lines",
    "stored_rows",
    "table",
    "ubytes",
]


# --- Batches and their description ----------------------------------------------------------------


class DataDesc(namedtuple("DataDesc", ["name", "shape"])):
    """Name, shape, type and layout of an array; as a tuple, name and shape."""

    def __new__(cls, name, shape, dtype=np.float32, layout="NCHW"):
        self = super().__new__(cls, name, shape)
        self.dtype, self.layout = dtype, layout
        return self

    def __getnewargs__(self):
        return self.name, self.shape, self.dtype, self.layout

    def __repr__(self):
        return f"DataDesc[{self.name},{self.shape},{self.dtype},{self.layout}]"

    @staticmethod
    def get_batch_axis(layout):
        """Which axis counts the samples: the place of N, 0 without a layout, -1 if there is none."""
        return 0 if layout is None else layout.find("N")

    @staticmethod
    def get_list(shapes, types):
        """Descriptions of [(name, shape)], with [(name, type)] or None."""
        known = None if types is None else dict(types)
        return [DataDesc(s[0], s[1], *(() if known is None else (known[s[0]],))) for s in shapes]


class DataBatch:
    """A batch: lists of arrays `data` and `label`, and how many of the last rows are `pad`."""

    def __init__(
        self,
        data,
        label=None,
        pad=None,
        index=None,
        bucket_key=None,
        provide_data=None,
        provide_label=None,
    ):
        for name, given in (("Data", data), ("Label", label)):
            assert given is None or isinstance(given, list | tuple), (
                f"{name} must be list of NDArrays"
            )
        self.data, self.label, self.pad, self.index = data, label, pad, index
        self.bucket_key = bucket_key
        self.provide_data, self.provide_label = provide_data, provide_label

    def __str__(self):
        labels = [y.shape for y in self.label] if self.label else None
        data = [x.shape for x in self.data]
        return f"{type(self).__name__}: data shapes: {data} label shapes: {labels}"


class DataIter:
    """The base of iterators: override `iter_next`, `getdata` and their kin, or `next`."""

    def __init__(self, batch_size=0):
        self.batch_size = batch_size

    def __iter__(self):
        return self

    def reset(self):
        """Go back to the beginning."""

    def next(self):
        """The next batch; StopIteration at the end."""
        if not self.iter_next():
            raise StopIteration
        return DataBatch(self.getdata(), self.getlabel(), self.getpad(), self.getindex())

    def __next__(self):
        return self.next()

    def iter_next(self):
        """Go on to the next batch; whether there is one."""

    def getdata(self):
        """The data of the current batch, a list of arrays."""

    def getlabel(self):
        """The labels of the current batch, a list of arrays."""

    def getindex(self):
        """The numbers of the samples of the current batch, if they are known."""

    def getpad(self):
        """How many samples at the end of the current batch only fill it up."""


# --- Iterating over arrays ------------------------------------------------------------------------


class NDArrayIter(DataIter):
    """Batches of arrays; the last batch is filled up, left out, or kept for the next epoch.

    `data` and `label` are an array, a list, or a dict with names. `last_batch_handle` is 'pad' (with
    the first samples), 'discard' or 'roll_over'. `shuffle` orders anew at each reset.
    """

    def __init__(
        self,
        data,
        label=None,
        batch_size=1,
        shuffle=False,
        last_batch_handle="pad",
        data_name="data",
        label_name="softmax_label",
        layout="NCHW",
    ):
        super().__init__(batch_size)
        self.data = _init_data(data, allow_empty=False, default_name=data_name)
        self.label = _init_data(label, allow_empty=True, default_name=label_name)
        refuse(self.data + self.label, batch_size, last_batch_handle)
        self.idx = np.arange(self.data[0][1].shape[0])
        self.shuffle, self.last_batch_handle = shuffle, last_batch_handle
        self.num_data, self.layout = len(self.idx), layout
        self.num_source = len(self.data) + len(self.label)
        self.cursor, self._kept = -batch_size, None
        self.reset()
        self.data_list = [a for _, a in self.data + self.label]

    # --- Iterating over arrays --------------------------------------------------------------------

    @property
    def provide_data(self):
        """Names, shapes and types of the data of a batch."""
        return self._described(self.data)

    @property
    def provide_label(self):
        """Names, shapes and types of the labels of a batch."""
        return self._described(self.label)

    def _described(self, arrays):
        n = self.layout.find("N")
        return [
            DataDesc(
                name,
                (*a.shape[:n], self.batch_size, *a.shape[n + 1 :]),
                a.dtype,
                layout=self.layout,
            )
            for name, a in arrays
        ]

    def hard_reset(self):
        """Go back to the beginning and forget what was kept for the next epoch."""
        self._shuffled()
        self.cursor, self._kept = -self.batch_size, None

    def reset(self):
        """Go back to the beginning, or before it by what was kept for the next epoch."""
        self._shuffled()
        left = self.num_data - self.cursor
        rolled = self.last_batch_handle == "roll_over" and 0 < left < self.batch_size
        self.cursor = -self.batch_size - (left if rolled else 0)

    def _shuffled(self):
        if self.shuffle:
            np.random.shuffle(self.idx)
            self.data = _getdata_by_idx(self.data, self.idx)
            self.label = _getdata_by_idx(self.label, self.idx)

    # --- Iterating over arrays --------------------------------------------------------------------

    def iter_next(self):
        """Go on by a batch; whether a sample is left."""
        self.cursor += self.batch_size
        return self.cursor < self.num_data

    def next(self):
        """The next batch; a last one that is not full is kept, for `roll_over`."""
        if not self.iter_next():
            raise StopIteration
        first = -self.batch_size < self.cursor < 0  # it begins with what was kept
        kept, self._kept = (self._kept or ([], [])) if first else ([], []), None
        data = joined(kept[0], self.getdata(), self.layout)
        label = joined(kept[1], self.getlabel(), self.layout)
        if data[0].shape[self.layout.find("N")] != self.batch_size:
            self._kept = data, label
            raise StopIteration
        return DataBatch(data=data, label=label, pad=self.getpad(), index=None)

    def getdata(self):
        """The data of the current batch."""
        return self._batch(self.data)

    def getlabel(self):
        """The labels of the current batch."""
        return self._batch(self.label)

    def getpad(self):
        """How many samples of the current batch only fill it up, or come from the last epoch."""
        beyond = self.cursor + self.batch_size - self.num_data
        if self.last_batch_handle == "roll_over" and -self.batch_size < self.cursor < 0:
            return -self.cursor
        return max(0, beyond) if self.last_batch_handle == "pad" else 0

    # --- Iterating over arrays --------------------------------------------------------------------

    def _batch(self, arrays):
        """The samples from the cursor on; those beyond the end are the first again, for 'pad'."""
        assert self.cursor < self.num_data, "DataIter needs reset."
        start, stop = max(0, self.cursor), self.cursor + self.batch_size
        found = self._slices(arrays, start, min(stop, self.num_data))
        if self.last_batch_handle != "pad":
            return found
        missing = stop - self.num_data
        while missing > 0:
            found = joined(found, self._slices(arrays, 0, min(missing, self.num_data)), self.layout)
            missing -= self.num_data
        return found

    def _slices(self, arrays, start, stop):
        axis = self.layout.find("N")
        return [
            stored_rows(a, self.idx[start:stop])
            if is_stored(a)
            else a[start:stop]
            if isinstance(a, CSRNDArray)
            else a.slice_axis(axis=axis, begin=start, end=stop)
            for _, a in arrays
        ]


def refuse(arrays, batch_size, last_batch_handle):
    """Raise an error for arguments of NDArrayIter that would fail later or yield nothing sensible."""
    ways = ("pad", "discard", "roll_over")
    if last_batch_handle not in ways:
        raise ValueError(f"last_batch_handle must be one of {ways}, not {last_batch_handle!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if _has_instance(arrays, CSRNDArray) and last_batch_handle != "discard":
        raise NotImplementedError(
            "`NDArrayIter` only supports ``CSRNDArray`` with `last_batch_handle` set to `discard`."
        )


def stored_rows(a, numbers):
    """Rows of a dataset in a file, which can be asked for in increasing order only."""
    order = np.argsort(numbers)
    return nd.array(a[numbers[order]][np.argsort(order)])


def joined(first, second, layout):
    """Two lists of arrays, put together pair by pair along the axis of samples."""
    if not first or not second:
        return first or second
    return [nd.concat(a, b, dim=layout.find("N")) for a, b in zip(first, second)]


# --- Iterators over iterators ---------------------------------------------------------------------


class Current(DataIter):
    """An iterator that holds its batch whole, in `current_batch`."""

    def getdata(self):
        return self.current_batch.data

    def getlabel(self):
        return self.current_batch.label

    def getindex(self):
        return self.current_batch.index

    def getpad(self):
        return self.current_batch.pad


class ResizeIter(Current):
    """Another iterator with `size` batches an epoch: it is cut, or begun again."""

    def __init__(self, data_iter, size, reset_internal=True):
        super().__init__(data_iter.batch_size)
        self.data_iter, self.size, self.reset_internal = data_iter, size, reset_internal
        self.cur, self.current_batch = 0, None
        self.provide_data, self.provide_label = data_iter.provide_data, data_iter.provide_label
        if hasattr(data_iter, "default_bucket_key"):
            self.default_bucket_key = data_iter.default_bucket_key

    def reset(self):
        """Begin an epoch; the other iterator is reset only with `reset_internal`."""
        self.cur = 0
        if self.reset_internal:
            self.data_iter.reset()

    def iter_next(self):
        """Go on to the next batch of the other iterator."""
        if self.cur == self.size:
            return False
        try:
            self.current_batch = self.data_iter.next()
        except StopIteration:
            self.data_iter.reset()
            self.current_batch = self.data_iter.next()
        self.cur += 1
        return True


class PrefetchingIter(Current):
    """One or several iterators side by side, each fetched a batch ahead by a thread of its own.

    `rename_data` and `rename_label` are a dict {old name: new name} for each iterator.
    """

    def __init__(self, iters, rename_data=None, rename_label=None):
        super().__init__()
        self.iters = iters if isinstance(iters, list) else [iters]
        self.n_iter = len(self.iters)
        assert self.n_iter > 0, "PrefetchingIter needs an iterator"
        self.rename_data, self.rename_label = rename_data, rename_label
        self.batch_size = self.provide_data[0][1][0]
        self.current_batch = None
        self._ahead = [Ahead(i) for i in self.iters]

    @property
    def provide_data(self):
        """Names, shapes and types of the data of all iterators."""
        return renamed([i.provide_data for i in self.iters], self.rename_data)

    @property
    def provide_label(self):
        """Names, shapes and types of the labels of all iterators."""
        return renamed([i.provide_label for i in self.iters], self.rename_label)

    def reset(self):
        """Begin an epoch in all iterators, and fetch their first batches."""
        for ahead in self._ahead:
            ahead.wait()
        for ahead in self._ahead:
            ahead.source.reset()
            ahead.fetch()

    # --- Iterators over iterators -----------------------------------------------------------------

    def iter_next(self):
        """Take the batches that have been fetched, and have the next fetched."""
        batches = [ahead.wait() for ahead in self._ahead]
        if batches[0] is None:
            assert all(b is None for b in batches), "Number of entry mismatches between iterators"
            return False
        same = all(b is not None and b.pad == batches[0].pad for b in batches)
        assert same, "Number of entry mismatches between iterators"
        self.current_batch = DataBatch(
            [a for b in batches for a in b.data],
            [a for b in batches for a in b.label],
            batches[0].pad,
            batches[0].index,
            provide_data=self.provide_data,
            provide_label=self.provide_label,
        )
        for ahead in self._ahead:
            ahead.fetch()
        return True

    def next(self):
        """The next batches of all iterators as one."""
        if not self.iter_next():
            raise StopIteration
        return self.current_batch


def renamed(described, names):
    """Descriptions of several iterators in one list, with the names that they are given."""
    if names is None:
        return [d for part in described for d in part]
    return [
        DataDesc(new[d.name], d.shape, d.dtype) if isinstance(d, DataDesc) else DataDesc(*d)
        for new, part in zip(names, described)
        for d in part
    ]


class Ahead:
    """The next batch of an iterator, or its error, fetched by a thread."""

    def __init__(self, source):
        self.source = source
        self.fetch()

    def fetch(self):
        """Start to fetch the next batch."""
        self.found = self.error = None
        self.thread = threading.Thread(target=self._fetch, daemon=True)
        self.thread.start()

    def _fetch(self):
        try:
            self.found = self.source.next()
        except StopIteration:
            pass
        except Exception as error:
            self.error = error

    def wait(self):
        """The batch, when it is there; None at the end; or raises its error."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        return self.found


# --- Iterators over files -------------------------------------------------------------------------


class MXDataIter(Current):
    """Batches of samples that were read from a file, `data` and `label` with one row each.

    With `round_batch`, the samples that fill up the last batch are not used again in the next epoch.
    """

    def __init__(
        self,
        data,
        label,
        batch_size,
        round_batch=True,
        data_name="data",
        label_name="softmax_label",
    ):
        super().__init__(batch_size)
        if len(data) == 0 or batch_size < 1:
            raise MXNetError(
                f"{len(data)} samples in batches of {batch_size}: both must be positive"
            )
        self._data, self._label = data, label
        self._round, self._next = round_batch, 0
        self.provide_data = [DataDesc(data_name, (batch_size, *data.shape[1:]), data.dtype.type)]
        shape = (batch_size, *label.shape[1:])
        self.provide_label = [DataDesc(label_name, shape, label.dtype.type)]

    def reset(self):
        """Begin an epoch."""
        over = self._next - len(self._data)
        self._next = over if self._round and over > 0 else 0

    def iter_next(self):
        """Go on to the next batch; samples are missing at the end of the file only."""
        start, count = self._next, len(self._data)
        if start >= count:
            return False
        numbers = np.arange(start, start + self.batch_size)
        self._next = start + self.batch_size
        pad = max(0, self._next - count)
        numbers = self._filled(numbers, pad)
        data, label = (self._taken(a, numbers) for a in (self._data, self._label))
        self.current_batch = DataBatch([data], [label], pad, numbers.astype("uint64"))
        return True

    def _filled(self, numbers, pad):
        """The numbers of a batch; beyond the end come the first, or the rows of the batch before."""
        if pad and not self._round and numbers[0] > 0:
            numbers[-pad:] -= self.batch_size
        return numbers % len(self._data)

    def _taken(self, a, numbers):
        return place(a[numbers], None)


def table(file, dtype):
    """The numbers of a CSV file; for a whole type, fractions are cut off."""
    try:
        return np.loadtxt(file, dtype, delimiter=",", ndmin=2)
    except ValueError:
        if dtype.kind == "f":
            raise
        return np.loadtxt(file, "float64", delimiter=",", ndmin=2).astype(dtype)


def numbers_of(path, shape, dtype):
    """The rows of a CSV file, or of all in a folder, in the shape of a sample."""
    dtype = np.dtype(dtype or "float32")
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    width, found = int(np.prod(shape)), []
    for file in files:
        try:
            found.append(table(file, dtype))
        except (OSError, ValueError) as error:
            raise MXNetError(f"{file}: {error}") from error
        if found[-1].size and found[-1].shape[1] != width:
            raise MXNetError(
                f"{file}: rows of {found[-1].shape[1]} numbers, a sample of shape {shape} has {width}"
            )
    return np.concatenate(found).reshape(-1, *shape)


def CSVIter(
    data_csv,
    data_shape,
    batch_size,
    label_csv="NULL",
    label_shape=(1,),
    round_batch=True,
    prefetch_buffer=4,
    ctx="gpu",
    dtype=None,
    data_name="data",
    label_name="softmax_label",
):
    """Batches of the rows of a CSV file, each a sample of shape `data_shape`; labels from another file."""
    data = numbers_of(data_csv, tuple(data_shape), dtype)
    if label_csv == "NULL":
        label = np.zeros(len(data), data.dtype)
    else:
        label = numbers_of(label_csv, tuple(label_shape), dtype)
        label = label[:, 0] if label.shape[1:] == (1,) else label
    if len(label) != len(data):
        raise MXNetError(f"{label_csv} has {len(label)} rows, {data_csv} has {len(data)}")
    return MXDataIter(data, label, batch_size, round_batch, data_name, label_name)


def ubytes(path, axes):
    """The array of an MNIST file: big-endian numbers for its kind and sizes, then bytes."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise MXNetError(f"cannot open {path}: {error.strerror}") from error
    head = struct.calcsize(f">{1 + axes}I")
    if len(content) < head:
        raise MXNetError(f"{path} ends within its header: {len(content)} bytes")
    kind, *shape = struct.unpack(f">{1 + axes}I", content[:head])
    size = int(np.prod([int(n) for n in shape], dtype=object))
    if kind != 0x800 + axes or len(content) - head < size or 0 in shape[1:]:
        raise MXNetError(f"{path} is no MNIST file of shape {shape}: it begins with {kind:#x}")
    return np.frombuffer(content, "u1", size, head).reshape(shape)


def MNISTIter(
    image="./train-images-idx3-ubyte",
    label="./train-labels-idx1-ubyte",
    batch_size=128,
    shuffle=True,
    flat=False,
    seed=0,
    silent=False,
    num_parts=1,
    part_index=0,
    prefetch_buffer=4,
    ctx="gpu",
    dtype=None,
    data_name="data",
    label_name="softmax_label",
):
    """Batches of the handwritten digits: images from 0 to 1 of shape (1, rows, columns), or `flat`.

    What does not fill a batch is left out. `part_index` of `num_parts` takes a part of the file.
    """
    images, labels = ubytes(image, 3), ubytes(label, 1)
    if len(images) != len(labels):
        raise MXNetError(f"{len(images)} images, but {len(labels)} labels")
    step = len(images) // num_parts
    order = np.arange(step * part_index, step * (part_index + 1))
    if shuffle:
        np.random.RandomState(seed).shuffle(order)
    order = order[: len(order) // batch_size * batch_size]
    data = images[order].astype(dtype or "float32") / np.float32(256)
    data = data.reshape(len(order), -1) if flat else data[:, None]
    return MXDataIter(
        data, labels[order].astype("float32"), batch_size, True, data_name, label_name
    )


def LibSVMIter(
    data_libsvm,
    data_shape,
    batch_size,
    label_libsvm="NULL",
    label_shape=(1,),
    num_parts=1,
    part_index=0,
    round_batch=True,
    prefetch_buffer=4,
    ctx="gpu",
    dtype=None,
    data_name="data",
    label_name="softmax_label",
):
    """Sparse batches of lines `label place:value ...`, places counted from 0.

    With another such file for labels, these are sparse too.
    """
    data, label = sparse_lines(data_libsvm, data_shape, dtype)
    sparse = label_libsvm != "NULL"
    if sparse:
        label, _ = sparse_lines(label_libsvm, label_shape, dtype)
    step = -(-len(data) // num_parts)
    part = slice(step * part_index, step * (part_index + 1))
    return SparseIter(
        data[part], label[part], batch_size, round_batch, data_name, label_name, sparse
    )


class SparseIter(MXDataIter):
    """Batches in CSR form."""

    def __init__(self, data, label, batch_size, round_batch, data_name, label_name, sparse):
        super().__init__(data, label, batch_size, round_batch, data_name, label_name)
        self._sparse_label = sparse

    def _taken(self, a, numbers):
        batch = super()._taken(a, numbers)
        return batch.tostype("csr") if a is self._data or self._sparse_label else batch


def sparse_lines(path, shape, dtype):
    """The rows and the first numbers of the lines of a LibSVM file."""
    (width,) = (shape,) if isinstance(shape, int) else shape
    rows, labels = [], []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MXNetError(f"cannot read {path}: {error}") from error
    for n, line in enumerate((line for line in lines if line.strip()), 1):
        row = np.zeros(width, dtype or "float32")
        try:
            first, *pairs = line.split()
            labels.append(float(first))
            for place, value in (pair.split(":") for pair in pairs):
                if int(place) < 0:
                    raise IndexError(f"place {place} is negative")
                row[int(place)] = float(value)
        except (ValueError, IndexError) as error:
            raise MXNetError(f"{path}, line {n}: {error}") from error
        rows.append(row)
    return np.array(rows).reshape(-1, width), np.array(labels, dtype or "float32")


class ImageRecords:
    """The images of a record file, decoded, cut to `shape` and normalized when they are asked for."""

    def __init__(self, path, shape, label_width, part, settings):
        self.reader, self.settings = MXRecordIO(path, "r"), settings
        self.shape, self.dtype = (None, *shape), np.dtype(settings["dtype"] or "float32")
        self.records, labels = [], []
        while (record := self.reader.read()) is not None:
            header, image = unpack(record)
            label = np.atleast_1d(np.float32(header.label))
            if len(label) != label_width:
                raise MXNetError(
                    f"{path}: a label of {len(label)} numbers, but label_width is {label_width}"
                )
            self.records.append(image)
            labels.append(label)
        step = -(-len(labels) // part[1])
        chosen = slice(part[0] * step, (part[0] + 1) * step)
        self.records, labels = (
            self.records[chosen],
            np.array(labels[chosen]).reshape(-1, label_width),
        )
        self.labels = labels[:, 0] if label_width == 1 else labels

    def __len__(self):
        return len(self.records)

    # --- Iterators over files ---------------------------------------------------------------------

    def image(self, number, rng):
        """One image of shape (channels, height, width); `rng` decides where it is cut and mirrored."""
        channels, height, width = self.shape[1:]
        image = decoded(self.records[number], 0 if channels == 1 else 1)
        if image is None:
            raise MXNetError(f"record {number} of {self.reader.uri} holds no image")
        image = enlarged(image, height, width, self.settings["resize"])
        top, left = image.shape[0] - height, image.shape[1] - width
        random_cut = self.settings["rand_crop"]
        top = rng.integers(top + 1) if random_cut else top // 2
        left = rng.integers(left + 1) if random_cut else left // 2
        image = image[top : top + height, left : left + width].reshape(height, width, channels)
        if self.settings["mirror"] or (self.settings["rand_mirror"] and rng.random() < 0.5):
            image = image[:, ::-1]
        return image[..., ::-1].transpose(2, 0, 1)  # red, green, blue

    def normalized(self, batch):
        """(x - mean) * scale / std, channel by channel."""
        n, s = batch.shape[1], self.settings
        mean, std = (np.array(s[k][:n], "float32")[:, None, None] for k in ("mean", "std"))
        return ((batch - mean) * np.float32(s["scale"]) / std).astype(self.dtype)


def enlarged(image, height, width, resize):
    """An image with `resize` as its shorter edge (unless -1), and at least of height and width."""
    rows, columns = image.shape[:2]
    if resize > 0 and rows > columns:
        image = scaled(image, resize * rows // columns, resize)
    elif resize > 0:
        image = scaled(image, resize, resize * columns // rows)
    rows, columns = image.shape[:2]
    if rows < height:  # one after the other, as MXNet does
        image = scaled(image, height, height * columns // rows)
    rows, columns = image.shape[:2]
    return image if columns >= width else scaled(image, width * rows // columns, width)


class ImageIter(MXDataIter):
    """Batches of the images of a record file."""

    def __init__(
        self, images, batch_size, round_batch, data_name, label_name, threads, shuffle, seed
    ):
        super().__init__(images, images.labels, batch_size, round_batch, data_name, label_name)
        self._order, self._shuffle = np.arange(len(images)), shuffle
        self._rng, self._pool = np.random.default_rng(seed), ThreadPoolExecutor(max(1, threads))
        self._shuffled()

    def _shuffled(self):
        if self._shuffle:
            self._rng.shuffle(self._order)

    def reset(self):
        """Begin an epoch, in a new order if it is shuffled."""
        super().reset()
        self._shuffled()

    def _taken(self, a, numbers):
        numbers = self._order[numbers]
        if a is not self._data:
            return super()._taken(a, numbers)
        images = self._pool.map(a.image, numbers, self._rng.spawn(len(numbers)))
        return place(a.normalized(np.stack(list(images))), None)


IGNORED = {"verbose", "prefetch_buffer", "ctx", "device_id", "shuffle_chunk_size", "seed_aug"}
IGNORED |= {"shuffle_chunk_seed", "path_imgidx", "inter_method", "aug_seq", "fill_value"}


def ImageRecordIter(
    path_imgrec,
    data_shape,
    batch_size,
    label_width=1,
    preprocess_threads=4,
    num_parts=1,
    part_index=0,
    shuffle=False,
    seed=0,
    round_batch=True,
    dtype=None,
    data_name="data",
    label_name="softmax_label",
    **settings,
):
    """Batches of images of a record file, in the shape (channels, height, width) of `data_shape`.

    Settings: resize (the shorter edge, first), rand_crop (otherwise the middle), rand_mirror, mirror,
    mean_r, mean_g, mean_b, std_r, std_g, std_b, scale. MXNetError for an augmentation that is not here.
    """
    known = {"resize": -1, "rand_crop": False, "rand_mirror": False, "mirror": False, "scale": 1.0}
    means, stds = ([f"{word}_{c}" for c in "rgb"] for word in ("mean", "std"))
    unknown = [k for k, v in settings.items() if k not in {*known, *means, *stds, *IGNORED} and v]
    if unknown:
        raise MXNetError(f"ImageRecordIter: not here: {', '.join(unknown)}; transform a DataLoader")
    chosen = {k: settings.get(k, v) for k, v in known.items()} | {"dtype": dtype}
    chosen["mean"] = [settings.get(k, 0) for k in means]
    chosen["std"] = [settings.get(k, 1) for k in stds]
    part = part_index, num_parts
    images = ImageRecords(path_imgrec, tuple(data_shape), label_width, part, chosen)
    names = data_name, label_name
    return ImageIter(images, batch_size, round_batch, *names, preprocess_threads, shuffle, seed)


def ImageRecordUInt8Iter(*args, **settings):
    """The same with whole numbers from 0 to 255."""
    return ImageRecordIter(*args, **{**settings, "dtype": "uint8"})
