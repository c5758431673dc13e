"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb, chapters/81_records.ipynb: edit the chapter, then run `minigluon export`.

import multiprocessing
import os
import warnings

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray, place
from minigluon.recordio import MXIndexedRecordIO

__all__ = [
    "ArrayDataset",
    "Chosen",
    "Dataset",
    "FirstTransform",
    "Readable",
    "RecordFileDataset",
    "SimpleDataset",
    "Transformed",
    "gather",
    "rows",
]


# --- Datasets -------------------------------------------------------------------------------------


class Dataset:
    """Samples by number: override `__getitem__` and `__len__`."""

    def __getitem__(self, idx):
        raise NotImplementedError

    def __len__(self):
        raise NotImplementedError

    def transform(self, fn, lazy=True):
        """The dataset of `fn(sample)`, or `fn(*sample)` for tuples;
        computed when asked for if `lazy`.
        """
        found = Transformed(self, fn)
        return found if lazy else SimpleDataset([found[i] for i in range(len(found))])

    def transform_first(self, fn, lazy=True):
        """The dataset with `fn` applied to the first element of each sample."""
        return self.transform(FirstTransform(fn), lazy)

    def filter(self, fn):
        """The samples for which `fn(sample)` is true; a tuple is one argument."""
        return Chosen(self, [i for i in range(len(self)) if fn(self[i])])

    def take(self, count):
        """The first `count` samples; None takes all."""
        if count is not None and count < 0:
            raise ValueError(f"take({count}): the number of samples is 0 or more, None for all")
        return Chosen(self, range(len(self) if count is None else min(count, len(self))))

    def sample(self, sampler):
        """The samples that a `Sampler` names, in the order it gives now."""
        from minigluon.gluon.data.sampler import Sampler

        if not isinstance(sampler, Sampler):
            raise TypeError(
                f"Invalid sampler type: {type(sampler).__name__}. Expected gluon.data.Sampler instead."
            )
        return Chosen(self, list(sampler))

    def shard(self, num_shards, index):
        """Part `index` of `num_shards` nearly equal parts; the first ones are one longer."""
        assert 0 <= index < num_shards, (
            f"Shard index out of bound: {index} of {num_shards}; it runs from 0 to {num_shards - 1}"
        )
        size, rest = divmod(len(self), num_shards)
        start = size * index + min(index, rest)
        return Chosen(self, range(start, start + size + (index < rest)))

    def readable(self, errors=(MXNetError, OSError)):
        """The same samples, where the next one stands in for one that raises one of `errors`."""
        return Readable(self, errors)


class Readable(Dataset):
    """The samples of another dataset; for one that cannot be read the next stands in, with a warning.

    `skipped` is how often that happened, in this process and in all workers.
    """

    def __init__(self, dataset, errors):
        self._dataset, self._errors = dataset, tuple(errors)
        self._count = multiprocessing.Value("q", 0)  # workers count in the same memory

    def __len__(self):
        return len(self._dataset)

    def __getitem__(self, idx):
        for step in range(len(self)):
            number = (idx + step) % len(self)
            try:
                return self._dataset[number]
            except self._errors as error:
                with self._count.get_lock():
                    self._count.value += 1
                warnings.warn(f"sample {number} is skipped: {error}", stacklevel=2)
                last = error
        raise MXNetError(f"no sample of the dataset can be read, the last because of: {last}")

    @property
    def skipped(self):
        """How many samples were skipped."""
        return self._count.value


class SimpleDataset(Dataset):
    """A list, or anything with a length and elements, as a dataset."""

    def __init__(self, data):
        self._data = data

    def __len__(self):
        return len(self._data)

    def __getitem__(self, idx):
        return self._data[idx]


class _DownloadedDataset(Dataset):
    """A data set whose files are kept in `root`; samples are pairs (data, label)."""

    def __init__(self, root, transform):
        super().__init__()
        self._transform, self._data, self._label = transform, None, None
        self._root = os.path.expanduser(root)
        os.makedirs(self._root, exist_ok=True)
        self._get_data()

    def __getitem__(self, idx):
        if self._transform is not None:
            return self._transform(self._data[idx], self._label[idx])
        return self._data[idx], self._label[idx]

    def __len__(self):
        return len(self._label)

    def _get_data(self):
        raise NotImplementedError


class Chosen(Dataset):
    """Some samples of another dataset."""

    def __init__(self, dataset, numbers):
        self._dataset, self._numbers = dataset, numbers

    def __len__(self):
        return len(self._numbers)

    def __getitem__(self, idx):
        return self._dataset[self._numbers[idx]]

    # --- Whole batches ----------------------------------------------------------------------------

    def _gather(self, numbers):
        return gather(self._dataset, [self._numbers[i] for i in numbers])


class Transformed(Dataset):
    """The samples of another dataset, changed by a function."""

    def __init__(self, dataset, fn):
        self._dataset, self._fn = dataset, fn

    def __len__(self):
        return len(self._dataset)

    def __getitem__(self, idx):
        item = self._dataset[idx]
        return self._fn(*item) if isinstance(item, tuple) else self._fn(item)

    # --- Whole batches ----------------------------------------------------------------------------

    def _gather(self, numbers):
        on_batch = getattr(getattr(self._fn, "_fn", None), "on_batch", None)
        if type(self._fn) is not FirstTransform or on_batch is None:
            return None
        found = gather(self._dataset, numbers)
        if found is None:
            return None
        return [on_batch(found[0]), *found[1:]] if type(found) is list else on_batch(found)


class FirstTransform:
    """A function of the first element of a sample; a class, so that it can be pickled."""

    def __init__(self, fn):
        self._fn = fn

    def __call__(self, first, *rest):
        return (self._fn(first), *rest) if rest else self._fn(first)


class ArrayDataset(Dataset):
    """Several arrays or lists of one length; sample i has the i-th of each."""

    def __init__(self, *args):
        assert args, "ArrayDataset needs at least one array"
        lengths = [len(a) for a in args]
        assert len(set(lengths)) == 1, f"All arrays must have the same length, got {lengths}"
        self._length = lengths[0]
        self._data = [a.asnumpy() if isinstance(a, NDArray) and a.ndim == 1 else a for a in args]

    def __len__(self):
        return self._length

    def __getitem__(self, idx):
        if len(self._data) == 1:
            return self._data[0][idx]
        return tuple([data[idx] for data in self._data])  # faster than a generator

    # --- Whole batches ----------------------------------------------------------------------------

    def _gather(self, numbers):
        found = []
        for a in self._data:
            part = gather(a, numbers) if isinstance(a, Dataset) else rows(a, numbers)
            if part is None:
                return None
            found.append(part)
        return found if len(found) > 1 else found[0]


# --- Whole batches --------------------------------------------------------------------------------


def gather(dataset, numbers):
    """The batch of the samples of these numbers, as stacked; None if it must be made of samples.

    A dataset takes part with a method `_gather(numbers)`. A function of `transform_first` does with an
    attribute `on_batch`, which does to a batch what the function does to each sample.
    """
    kind, way = type(dataset), None
    for base in kind.__mro__:  # whichever comes first decides
        if "_gather" in vars(base) or "__getitem__" in vars(base):
            way = vars(base).get("_gather")
            break
    return None if way is None else way(dataset, numbers)


def rows(data, numbers):
    """Rows of an array with two axes or more, or of a NumPy array; None for anything else."""
    if type(data) is NDArray and data.ndim > 1 and data._node is None:
        return NDArray(data._data[numbers], data._ctx)
    if type(data) is np.ndarray and data.dtype.kind in "fiub":
        return place(data[numbers], None)
    return None


# --- Records as a dataset -------------------------------------------------------------------------


class RecordFileDataset(Dataset):
    """The records of a file `name.rec` with an index `name.idx`, as bytes."""

    def __init__(self, filename):
        self.filename = filename
        self.idx_file = os.path.splitext(filename)[0] + ".idx"
        self._record = MXIndexedRecordIO(self.idx_file, filename, "r")

    def __getitem__(self, idx):
        return self._record.read_idx(self._record.keys[idx])

    def __len__(self):
        return len(self._record.keys)
