"""The older way to feed a network: an iterator that knows the names and shapes of its arrays before the first batch."""

# Written from chapters/86_io.ipynb: edit the chapter, then run `minigluon export`.

import logging
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
from minigluon.ops.image import GREY, LIGHT
from minigluon.recordio import MXRecordIO, decoded, pillow, scaled, unpack

__all__ = [
    "Ahead",
    "CHANCES",
    "COLOURS",
    "CSVIter",
    "Current",
    "DataBatch",
    "DataDesc",
    "DataIter",
    "DetIter",
    "DetRecords",
    "IGNORED",
    "ImageDetRecordIter",
    "ImageIter",
    "ImageRecordInt8Iter",
    "ImageRecordIter",
    "ImageRecordIter_v1",
    "ImageRecordUInt8Iter",
    "ImageRecordUInt8Iter_v1",
    "ImageRecords",
    "LISTED",
    "LibSVMIter",
    "MNISTIter",
    "MOVED",
    "MXDataIter",
    "NDArrayIter",
    "NORMAL",
    "PrefetchingIter",
    "ResizeIter",
    "SHARES",
    "SparseIter",
    "VARIED",
    "allowed",
    "chosen_of",
    "coloured",
    "cut",
    "edged",
    "enlarged",
    "ground",
    "joined",
    "listed_labels",
    "mapped",
    "moved",
    "nth",
    "numbers_of",
    "part",
    "refuse",
    "renamed",
    "searched",
    "share",
    "shifted",
    "sparse_lines",
    "stored_rows",
    "stretch",
    "table",
    "through",
    "tinted",
    "turned",
    "ubytes",
    "view",
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
    """Batches of the rows of a CSV file, each a sample of shape `data_shape`;
    labels from another file.
    """
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
    input_shape=None,
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
        listed = listed_labels(settings["path_imglist"], label_width)
        while (record := self.reader.read()) is not None:
            header, image = unpack(record)
            label = np.atleast_1d(np.float32(header.label))
            if listed is not None:
                label = listed.get(header.id)
                if label is None:
                    raise MXNetError(f"{settings['path_imglist']}: no line for image {header.id}")
            if label_width not in (None, len(label)):
                raise MXNetError(
                    f"{path}: a label of {len(label)} numbers, but label_width is {label_width}"
                )
            self.records.append(image)
            labels.append(label)
        step = -(-len(labels) // part[1])
        chosen = slice(part[0] * step, (part[0] + 1) * step)
        self.records, self.labels = self.records[chosen], labels[chosen]
        if label_width is not None:
            labels = np.array(self.labels).reshape(-1, label_width)
            self.labels = labels[:, 0] if label_width == 1 else labels
        self.mean = None
        if settings["mean_img"] and self.dtype.kind == "f":
            self.mean = self.mean_image(settings["mean_img"])

    def __len__(self):
        return len(self.records)

    # --- Iterators over files ---------------------------------------------------------------------

    def image(self, number, rng):
        """One image of shape (channels, height, width); `rng` decides where it is cut and mirrored."""
        channels, height, width = self.shape[1:]
        image = decoded(self.records[number], 0 if channels == 1 else 1)
        if image is None:
            raise MXNetError(f"record {number} of {self.reader.uri} holds no image")
        image = edged(image, self.settings["resize"])
        image = cut(
            ground(turned(image, self.settings, rng), self.settings),
            height,
            width,
            self.settings,
            rng,
        )
        image = image.reshape(height, width, channels)
        mirrored = self.settings["mirror"] or (self.settings["rand_mirror"] and rng.random() < 0.5)
        image = coloured(image[:, ::-1] if mirrored else image, self.settings, rng)
        image = image[..., ::-1].transpose(2, 0, 1)  # red, green, blue
        if self.mean is None:
            return image
        return image - (self.mean[..., ::-1] if mirrored else self.mean)

    def normalized(self, batch):
        """(x - mean) * scale / std, channel by channel."""
        n, s = batch.shape[1], self.settings
        mean, std = (np.array(s[k][:n], "float32")[:, None, None] for k in ("mean", "std"))
        mean = 0 if self.mean is not None else mean  # it has been subtracted
        out = (batch - mean) * np.float32(s["scale"]) / std
        if self.dtype.kind in "iu":  # out of range is the edge of the range, as in MXNet
            out = out.clip(np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
        return out.astype(self.dtype)

    def mean_image(self, path):
        """The mean image in a file; if there is none, it is taken over all images,
        as they come out, and written.
        """
        if Path(path).exists():
            found = nd.load(path)
            mean = (list(found.values()) if isinstance(found, dict) else found)[0].asnumpy()
        else:
            logging.info("mean_img: the mean of %d images goes to %s", len(self), path)
            draws = np.random.default_rng(0).spawn(len(self))
            images = (self.normalized(self.image(i, rng)[None])[0] for i, rng in enumerate(draws))
            mean = sum(images) / np.float32(len(self))
            nd.save(path, {"mean_img": nd.array(mean)})
        if mean.shape != self.shape[1:]:
            raise MXNetError(f"{path}: a mean of shape {mean.shape} for images {self.shape[1:]}")
        return mean


def listed_labels(path, width):
    """The first `width` labels, or all, of each image number of a list as `im2rec` writes it;
    None without one.
    """
    if not path:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        rows = [line.split("\t") for line in lines if line.strip()]
        return {int(row[0]): np.array(row[1:-1][:width], "float32") for row in rows}
    except (OSError, ValueError) as error:
        raise MXNetError(f"cannot read {path}: {error}") from error


def edged(image, resize):
    """An image with `resize` as its shorter edge, unless that is -1."""
    rows, columns = image.shape[:2]
    if resize <= 0:
        return image
    if rows > columns:
        return scaled(image, resize * rows // columns, resize)
    return scaled(image, resize, resize * columns // rows)


def enlarged(image, height, width):
    """An image at least of this height and width."""
    rows, columns = image.shape[:2]
    if rows < height:  # one after the other, as MXNet does
        image = scaled(image, height, height * columns // rows)
    rows, columns = image.shape[:2]
    return image if columns >= width else scaled(image, width * rows // columns, width)


VARIED = {"resize": -1, "rand_crop": False, "rand_mirror": False, "mirror": False, "scale": 1.0}
LISTED = {"path_imglist": "", "mean_img": ""}
VARIED |= {
    **LISTED,
    "max_rotate_angle": 0,
    "rotate": -1,
    "max_shear_ratio": 0.0,
    "pad": 0,
    "fill_value": 255,
}
VARIED |= {"max_random_scale": 1.0, "min_random_scale": 1.0, "max_aspect_ratio": 0.0}
VARIED |= {"min_aspect_ratio": None, "max_img_size": 1e10, "min_img_size": 0.0}
VARIED |= {"random_resized_crop": False, "max_random_area": 1.0, "min_random_area": 1.0}
VARIED |= {"max_crop_size": -1, "min_crop_size": -1, "random_h": 0, "random_s": 0, "random_l": 0}
VARIED |= {
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "pca_noise": 0.0,
    "rand_gray": 0.0,
}


def stretch(s, rng):
    """A random ratio of width to height."""
    most, least = s["max_aspect_ratio"], s["min_aspect_ratio"]
    return rng.uniform(1 - most, 1 + most) if least is None else rng.uniform(least, most)


def turned(image, s, rng):
    """An image turned, sheared, scaled and stretched at random about its middle."""
    still = "max_rotate_angle", "max_shear_ratio", "max_aspect_ratio"
    scaling = s["max_random_scale"], s["min_random_scale"]
    cropped = s["random_resized_crop"]  # which has a ratio of its own
    if scaling == (1, 1) and s["rotate"] <= 0 and (cropped or not any(s[key] for key in still)):
        return image
    shear = rng.uniform(-1, 1) * s["max_shear_ratio"]
    angle = s["rotate"] if s["rotate"] > 0 else rng.uniform(-1, 1) * s["max_rotate_angle"]
    scale, ratio = rng.uniform(scaling[1], scaling[0]), 1.0 if cropped else stretch(s, rng)
    h, turn = 2 * scale / (1 + ratio), np.deg2rad(angle)
    w, a, b = ratio * h, np.cos(turn).round(12), np.sin(turn).round(12)  # a quarter is a quarter
    there = np.array([[h * a - shear * b * w, h * b + shear * a * w], [-b * w, a * w]])
    return mapped(image, there, scale, s)


def mapped(image, there, scale, s):
    """An image under the linear map `there` of (column, row) about its middle."""
    Image, middle = pillow(), np.array(image.shape[1::-1]) / 2
    size = (2 * middle * scale).clip(s["min_img_size"], s["max_img_size"]).astype(int).clip(1)
    back = np.linalg.inv(there)
    shift = middle - back @ (size / 2)
    rows = np.column_stack([back, shift]).ravel()
    fill = s["fill_value"] if image.ndim == 2 else (s["fill_value"],) * 3
    picture = Image.fromarray(np.ascontiguousarray(image))
    kind, smooth = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(
        picture.transform(tuple(size.tolist()), kind, tuple(rows), smooth, fillcolor=fill)
    )


def ground(image, s):
    """An image with a border of `pad` pixels."""
    n = s["pad"]
    wide = [(n, n), (n, n)] + [(0, 0)] * (image.ndim - 2)
    return np.pad(image, wide, constant_values=s["fill_value"]) if n > 0 else image


def cut(image, height, width, s, rng):
    """A part of an image, random or its middle, in this height and width."""
    anywhere = s["rand_crop"] or s["random_resized_crop"]
    if s["random_resized_crop"]:
        h, w = share(*image.shape[:2], s, rng)
    elif s["max_crop_size"] > 0:
        h = w = min(*image.shape[:2], int(rng.integers(s["min_crop_size"], s["max_crop_size"] + 1)))
    else:
        image, h, w = enlarged(image, height, width), height, width
    top, left = image.shape[0] - h, image.shape[1] - w
    top = rng.integers(top + 1) if anywhere else top // 2
    left = rng.integers(left + 1) if anywhere else left // 2
    image = image[top : top + h, left : left + w]
    return image if (h, w) == (height, width) else scaled(image, height, width)


def share(rows, columns, s, rng):
    """Height and width of a part with a random share of the area and a random ratio."""
    for _ in range(10):
        area = rng.uniform(s["min_random_area"], s["max_random_area"]) * rows * columns
        ratio = stretch(s, rng)
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < h <= rows and 0 < w <= columns:
            return h, w
    return (min(rows, columns),) * 2


def coloured(image, s, rng):
    """An image, blue, green and red, with its colours varied at random."""
    jitter = [key for key in ("brightness", "contrast", "saturation") if s[key]]
    shifts = [s["random_h"], s["random_l"], s["random_s"]]
    if image.shape[2] != 3 or not (jitter or any(shifts) or s["pca_noise"] or s["rand_gray"]):
        return image
    x = image.astype("float32")
    if any(shifts):
        x = shifted(x, *(rng.integers(-n, n + 1) if n else 0 for n in shifts))
    for key in rng.permutation(jitter):
        grey = x @ GREY[::-1].astype("float32")
        other = {"brightness": 0, "contrast": grey.mean(), "saturation": grey[..., None]}[key]
        x = other + (x - other) * (1 + rng.uniform(-s[key], s[key]))
    if s["pca_noise"]:
        x = x + (LIGHT @ rng.normal(0, s["pca_noise"], 3))[::-1]
    if s["rand_gray"] and rng.random() < s["rand_gray"]:
        x = np.repeat((x @ GREY[::-1])[..., None], 3, axis=2)
    return x.clip(0, 255).astype("float32")


def shifted(x, hue, lightness, saturation):
    """Blue, green and red with hue (of 180), lightness and saturation (of 255) moved."""
    x = x / 255
    most, least = x.max(axis=2), x.min(axis=2)
    spread, light = most - least, (most + least) / 2
    safe = np.where(spread > 0, spread, 1)
    b, g, r = np.moveaxis(x, 2, 0)
    sixth = np.select(
        [most == r, most == g], [(g - b) / safe % 6, (b - r) / safe + 2], (r - g) / safe + 4
    )
    part = 1 - np.abs(2 * light - 1)
    colour = np.where(part > 0, spread / np.where(part > 0, part, 1), 0)
    sixth = (sixth + hue / 30) % 6
    light = (light + lightness / 255).clip(0, 1)
    colour = (colour + saturation / 255).clip(0, 1)
    spread = colour * (1 - np.abs(2 * light - 1))
    k = np.stack([(sixth + n) % 6 for n in (2, 4, 0)], axis=2)  # where blue, green and red stand
    wave = (np.abs(k - 3) - 1).clip(0, 1)
    return 255 * (light[..., None] + spread[..., None] * (wave - 0.5))


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
IGNORED |= {"shuffle_chunk_seed", "path_imgidx", "inter_method", "aug_seq"}
NORMAL = {f"{word}_{c}": float(word == "std") for word in ("mean", "std") for c in "rgb"}


def chosen_of(settings, known, name):
    """The settings of an iterator by name, with their defaults; MXNetError for one that is not here."""
    unknown = [k for k, v in settings.items() if k not in {*known, *NORMAL, *IGNORED} and v]
    if unknown:
        raise MXNetError(f"{name}: not here: {', '.join(unknown)}; transform a DataLoader")
    normal = {**NORMAL, **{k: v for k, v in settings.items() if k in NORMAL}}
    means = {word: [normal[f"{word}_{c}"] for c in "rgb"] for word in ("mean", "std")}
    return {k: settings.get(k, v) for k, v in known.items()} | means


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

    Settings: resize (the shorter edge, first), rand_crop (otherwise the middle), rand_mirror,
    mirror, mean_r, mean_g, mean_b, std_r, std_g, std_b, scale, and those of VARIED; `path_imglist`,
    a list that has other labels; `mean_img`, a file of a mean for each pixel, which is made if it
    is not there. MXNetError for one that is not here.
    """
    chosen = chosen_of(settings, VARIED, "ImageRecordIter") | {"dtype": dtype}
    part = part_index, num_parts
    images = ImageRecords(path_imgrec, tuple(data_shape), label_width, part, chosen)
    names = data_name, label_name
    return ImageIter(images, batch_size, round_batch, *names, preprocess_threads, shuffle, seed)


def ImageRecordUInt8Iter(*args, **settings):
    """The same with whole numbers from 0 to 255."""
    return ImageRecordIter(*args, **{**settings, "dtype": "uint8"})


def ImageRecordInt8Iter(*args, **settings):
    """The same with whole numbers up to 127."""
    return ImageRecordIter(*args, **{**settings, "dtype": "int8"})


class DetRecords(ImageRecords):
    """The images of a record file in the size of a batch, with labels of any length filled up."""

    def __init__(self, path, shape, pad, part, settings):
        super().__init__(path, shape, None, part, settings)
        self.rows, most = self.labels, max((len(row) for row in self.labels), default=0)
        self.pad = {**pad, "width": pad["width"] if pad["width"] > 0 else most}
        if most > self.pad["width"]:
            wide = self.pad["width"]
            raise MXNetError(f"{path}: a label of {most} numbers, but label_pad_width is {wide}")
        self.labels = np.stack([self.packed(row) for row in self.rows])

    def packed(self, label):
        """A label as a row of the batch."""
        out = np.full(4 + self.pad["width"], self.pad["value"], "float32")
        out[: 4 + len(label)] = [*self.shape[1:], len(label), *label]
        return out

    def pair(self, number, rng):
        """One image of shape (channels, height, width), and its label."""
        channels, height, width = self.shape[1:]
        image = decoded(self.records[number], 0 if channels == 1 else 1)
        if image is None:
            raise MXNetError(f"record {number} of {self.reader.uri} holds no image")
        image, label = moved(image, self.rows[number], self.settings, rng)
        image = scaled(image, height, width).reshape(height, width, channels)[..., ::-1]
        return image.transpose(2, 0, 1) - (0 if self.mean is None else self.mean), label

    def image(self, number, rng):
        return self.pair(number, rng)[0]


CHANCES = {"rand_mirror_prob": 0.0, "rand_pad_prob": 0.0, "rand_crop_prob": 0.0}
COLOURS = {"hue": 0, "illumination": 0, "saturation": 0, "contrast": 0.0}
MOVED = {"scale": 1.0, **LISTED, **CHANCES, "max_pad_scale": 1.0, "fill_value": 127}
MOVED |= {"num_crop_sampler": 1, "max_crop_trials": (25,), "resize_mode": "force"}
MOVED |= {"crop_emit_mode": "center", "emit_overlap_thresh": 0.3}
MOVED |= {f"max_random_{key}": most for key, most in COLOURS.items()}
MOVED |= {f"random_{key}_prob": 0.0 for key in COLOURS}
SHARES = ("overlaps", "sample_coverages", "object_coverages")
MOVED |= {f"min_crop_{key}": (0.0,) for key in ("scales", *SHARES)}
MOVED |= {f"max_crop_{key}": (1.0,) for key in ("scales", *SHARES)}
MOVED |= {f"{end}_crop_aspect_ratios": (1.0,) for end in ("min", "max")}


def moved(image, label, s, rng):
    """An image, blue, green and red, and its label, with colours, mirror,
    border and cut drawn from `rng`.
    """
    image = tinted(image, s, rng)
    if not any(s[key] for key in CHANCES):
        return image, label
    head, wide = (int(n) for n in label[:2])
    if head < 2 or wide < 5 or (len(label) - head) % wide:
        raise MXNetError(f"a label of {len(label)} numbers, whose first say {head} and {wide}")
    things = label[head:].reshape(-1, wide).copy()
    if rng.random() < s["rand_mirror_prob"]:
        image = image[:, ::-1]
        things[:, [1, 3]] = 1 - things[:, [3, 1]]
    if rng.random() < s["rand_pad_prob"] and s["max_pad_scale"] > 1:
        size = rng.uniform(1, s["max_pad_scale"])
        left, top = rng.uniform(1 - size, 0, 2)
        image, window = view(image, (left, top, left + size, top + size), s["fill_value"])
        things[:, 1:5] = through(window, things[:, 1:5])
    if rng.random() < s["rand_crop_prob"]:
        image, things = searched(image, things, s, rng)
    return image, np.concatenate([label[:head], things.ravel()])


def view(image, window, fill):
    """The part of an image in a window (left, top, right, bottom), and the window in whole pixels,
    in parts of the image.
    """
    rows, columns = image.shape[:2]
    edges = np.array([columns, rows, columns, rows])
    left, top, right, bottom = found = (np.array(window) * edges).round().astype(int)
    right, bottom = found[2:] = max(right, left + 1), max(bottom, top + 1)
    n = np.clip([-top, bottom - rows, -left, right - columns], 0, None)
    border = [n[:2], n[2:]] + [(0, 0)] * (image.ndim - 2)
    image = np.pad(image, border, constant_values=fill)[top + n[0] : bottom + n[0]]
    return image[:, left + n[2] : right + n[2]], found / edges


def through(window, boxes):
    """Boxes, in parts of an image, in parts of a window of it."""
    start, size = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    return (boxes - start) / size


def searched(image, things, s, rng):
    """A cut of an image that one of its samplers allows, with the objects that are left;
    else both as they are.
    """
    for k in rng.permutation(s["num_crop_sampler"]):
        bounds = {key: nth(s[key], k) for key in s if key.startswith(("min_crop", "max_crop"))}
        for _ in range(int(bounds["max_crop_trials"])):
            window = part(image.shape, bounds, rng)
            if window is None or (shown := allowed(things, np.array(window), bounds, s)) is None:
                continue
            image, window = view(image, window, s["fill_value"])
            shown = shown.copy()
            shown[:, 1:5] = through(window, shown[:, 1:5]).clip(0, 1)
            return image, shown
    return image, things


def nth(values, k):
    """The bound of sampler `k`: one for all, or one for each."""
    values = values if isinstance(values, tuple | list) else (values,)
    if len(values) > 1 and k >= len(values):
        raise MXNetError(f"{len(values)} bounds {values} for more samplers, of num_crop_sampler")
    return values[k if len(values) > 1 else 0]


def part(shape, bounds, rng):
    """A random window within an image, of a random share and ratio; None if the ratios leave none."""
    rows, columns = shape[:2]
    scale = max(rng.uniform(bounds["min_crop_scales"], bounds["max_crop_scales"]), 1e-3)
    least = max(bounds["min_crop_aspect_ratios"] * rows / columns, scale**2)
    most = min(bounds["max_crop_aspect_ratios"] * rows / columns, scale**-2)
    if least > most:
        return None
    root = rng.uniform(least, most) ** 0.5
    width, height = scale * root, scale / root
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, left + width, top + height


def allowed(things, window, bounds, s):
    """The objects that stay in a window; None if it shows none as it should."""
    boxes = things[:, 1:5]
    common = np.maximum(np.minimum(boxes, window)[:, 2:] - np.maximum(boxes, window)[:, :2], 0)
    common, area = common.prod(1), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    whole = (window[2:] - window[:2]).prod()
    covered = common / np.maximum(area, 1e-12)
    shares = common / (area + whole - common), common / whole, covered
    fits = np.ones(len(things), bool)
    for key, share in zip(SHARES, shares):
        fits &= (share >= bounds[f"min_crop_{key}"]) & (share <= bounds[f"max_crop_{key}"])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    stays = ((middle >= window[:2]) & (middle <= window[2:])).all(1)
    if s["crop_emit_mode"] == "overlap":
        stays = covered > s["emit_overlap_thresh"]
    return things[stays] if fits.any() and stays.any() else None


def tinted(image, s, rng):
    """An image with hue, lightness, saturation and contrast varied, each with a chance of its own."""
    ranges = [s[f"max_random_{key}"] for key in COLOURS]
    hit = [rng.random() < s[f"random_{key}_prob"] for key in COLOURS]
    by = [rng.uniform(-n, n) if n and yes else 0 for n, yes in zip(ranges, hit)]
    if image.ndim == 2 or not any(by):
        return image
    x = shifted(image.astype("float32"), *by[:3]) * (1 + by[3])
    return x.clip(0, 255).astype("uint8")


class DetIter(ImageIter):
    """Batches of images and of the labels that moved with them."""

    def _taken(self, a, numbers):
        if a is not self._data:
            return place(self._packed, None)
        numbers = self._order[numbers]
        pairs = [*self._pool.map(a.pair, numbers, self._rng.spawn(len(numbers)))]
        self._packed = np.stack([a.packed(label) for _, label in pairs])
        return place(a.normalized(np.stack([image for image, _ in pairs])), None)


def ImageDetRecordIter(
    path_imgrec,
    data_shape,
    batch_size,
    label_pad_width=0,
    label_pad_value=-1.0,
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
    """Batches of images of a record file, resized to `data_shape`, and of labels of any length.

    A label begins with its own width and that of an object, then come objects (class, left, top,
    right, bottom, …). Normalized by mean_r and its kin, varied by the settings of MOVED; MXNetError
    for one that is not here.
    """
    left_out = {k: v for k, v in settings.items() if k != "label_width"}
    chosen = chosen_of(left_out, MOVED, "ImageDetRecordIter") | {"dtype": dtype}
    if chosen["resize_mode"] != "force":
        raise MXNetError(f"resize_mode {chosen['resize_mode']!r} is not here: 'force' is")
    pad = {"width": label_pad_width, "value": label_pad_value}
    part = part_index, num_parts
    images = DetRecords(path_imgrec, tuple(data_shape), pad, part, chosen)
    names = data_name, label_name
    return DetIter(images, batch_size, round_batch, *names, preprocess_threads, shuffle, seed)


ImageRecordIter_v1, ImageRecordUInt8Iter_v1 = ImageRecordIter, ImageRecordUInt8Iter  # older names
