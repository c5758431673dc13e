"""A loader keeps some batches ahead of the training: worker processes make them, shared memory carries them over."""

# Written from chapters/82_loader.ipynb: edit the chapter, then run `minigluon export`.

import itertools
import weakref
from collections import deque

from minigluon.context import cpu_pinned
from minigluon.gluon.data.batchify import Stack
from minigluon.gluon.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from minigluon.gluon.data.workers import Crew, Threads, roots, whole
from minigluon.ndarray.ndarray import NDArray
from minigluon.numpy.scope import is_np_array

__all__ = [
    "DataLoader",
    "DataLoaderV1",
    "Epoch",
    "as_in_context",
    "as_np_arrays",
    "default_batchify_fn",
    "default_mp_batchify_fn",
    "length_of",
    "make_sampler",
]


# --- The loader -----------------------------------------------------------------------------------


def default_batchify_fn(data):
    """A batch of a list of samples: arrays are stacked, tuples taken element by element."""
    if isinstance(data[0], tuple):
        return [default_batchify_fn(part) for part in zip(*data)]
    return Stack()(data)


def default_mp_batchify_fn(data):
    """The same in a worker; whatever a batch holds goes through shared memory."""
    return default_batchify_fn(data)


default_batchify_fn.stacks = default_mp_batchify_fn.stacks = True  # so batches may be taken at once


def as_in_context(data, ctx):
    """The arrays of a nested batch on a device; tuples become lists."""
    if isinstance(data, NDArray):
        return data.as_in_context(ctx)
    if isinstance(data, list | tuple):
        return [as_in_context(part, ctx) for part in data]
    return data


def as_np_arrays(data):
    """The arrays of a nested batch as those of `mx.np`."""
    if isinstance(data, list | tuple):
        return type(data)(as_np_arrays(part) for part in data)
    return data.as_np_ndarray() if isinstance(data, NDArray) else data


class DataLoader:
    """Batches of a dataset, an epoch an iteration.

    Give `batch_size` with `shuffle` or a `sampler` and `last_batch`, or a `batch_sampler` alone.
    `batchify_fn` makes a batch of a list of samples. With `num_workers`, that many processes (with
    `thread_pool`, threads) keep `prefetch` batches ahead; none may take longer than `timeout` seconds.
    """

    def __init__(
        self,
        dataset,
        batch_size=None,
        shuffle=False,
        sampler=None,
        last_batch=None,
        batch_sampler=None,
        batchify_fn=None,
        num_workers=0,
        pin_memory=False,
        pin_device_id=0,
        prefetch=None,
        thread_pool=False,
        timeout=120,
        auto_reload=False,
    ):
        assert timeout > 0, f"timeout must be positive, given {timeout}"
        if batch_sampler is None:
            batch_sampler = make_sampler(dataset, batch_size, shuffle, sampler, last_batch)
        elif batch_size is not None or shuffle or sampler is not None or last_batch is not None:
            raise ValueError(
                "batch_size, shuffle, sampler and last_batch must not be specified if "
                "batch_sampler is specified."
            )
        self._dataset, self._batch_sampler = dataset, batch_sampler
        self._num_workers, self._thread_pool = max(0, num_workers), thread_pool
        self._prefetch = max(0, 2 * self._num_workers if prefetch is None else int(prefetch))
        self._batchify_fn = batchify_fn or default_batchify_fn
        # loaders made from this one read them
        self._pin_memory, self._pin_device_id = pin_memory, pin_device_id
        self._timeout, self._crew, self._epochs = timeout, None, itertools.count()
        self.auto_reload = auto_reload
        self.clean()
        if auto_reload:
            self.refresh()

    # --- The loader -------------------------------------------------------------------------------

    def __len__(self):
        return len(self._batch_sampler)

    def __iter__(self):
        if self._iter is None:
            self.refresh()
        batches, self._iter = self._iter, None  # an epoch is used once
        try:
            for batch in batches:
                if self._pin_memory:
                    batch = as_in_context(batch, cpu_pinned(self._pin_device_id))
                yield as_np_arrays(batch) if is_np_array() else batch
        finally:
            batches.close()
        if self._iter is None and self.auto_reload:
            self.refresh()

    def refresh(self):
        """Begin an epoch: workers start on its first batches."""
        self._iter = self._here() if self._num_workers == 0 else Epoch(self)

    def clean(self):
        """Forget the epoch that `refresh` began."""
        self._iter = None

    def _here(self):
        """The batches of an epoch, made in this process."""
        dataset, batchify_fn = self._dataset, self._batchify_fn
        for numbers in self._batch_sampler:
            batch = whole(dataset, numbers, batchify_fn)
            yield batchify_fn([dataset[i] for i in numbers]) if batch is None else batch

    def _workers(self):
        """The workers; new ones if there are none, or none that know the dataset as it is."""
        length = length_of(self._dataset)
        crew = self._crew
        if crew is None or crew.closed or crew.length != length:
            if crew is not None:
                crew.close()
            kind = Threads if self._thread_pool else Crew
            crew = self._crew = kind(self._dataset, self._num_workers, self._batchify_fn)
            crew.length = length
            weakref.finalize(self, crew.close)
        return crew


def make_sampler(dataset, batch_size, shuffle, sampler, last_batch):
    """The batch sampler that a loader's arguments ask for; ValueError where they contradict."""
    if batch_size is None:
        raise ValueError("batch_size must be specified unless batch_sampler is specified")
    if sampler is not None and shuffle:
        raise ValueError("shuffle must not be specified if sampler is specified")
    if sampler is None:
        sampler = (RandomSampler if shuffle else SequentialSampler)(len(dataset))
    return BatchSampler(sampler, batch_size, last_batch or "keep")


def length_of(dataset):
    """The length of a dataset, None if it has none."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


class Epoch:
    """An epoch that workers make: `prefetch` tickets ahead of the batch that was asked for."""

    def __init__(self, loader):
        self._crew, self._timeout = loader._workers(), loader._timeout
        self._numbers, self._tickets = iter(loader._batch_sampler), deque()
        self._roots, self._count = roots(next(loader._epochs)), itertools.count()
        for _ in range(loader._prefetch):
            self._push()

    def _push(self):
        """Ask for one more batch, if there is one."""
        for numbers in itertools.islice(self._numbers, 1):
            seed = (*self._roots, next(self._count))
            self._tickets.append(self._crew.submit(list(numbers), seed, self._timeout))

    def __iter__(self):
        return self

    def __next__(self):
        self._push()
        if not self._tickets:
            raise StopIteration
        return self._crew.result(self._tickets.popleft(), self._timeout)

    def close(self):
        """Give up what was asked for and not fetched."""
        if not self._crew.closed:
            self._crew.forget(self._tickets)
        self._tickets.clear()

    __del__ = close


class DataLoaderV1(DataLoader):
    """`DataLoader` with the arguments it had at first."""

    def __init__(
        self,
        dataset,
        batch_size=None,
        shuffle=False,
        sampler=None,
        last_batch=None,
        batch_sampler=None,
        batchify_fn=None,
        num_workers=0,
        pin_memory=False,
        pin_device_id=0,
    ):
        how = batch_sampler, batchify_fn, num_workers, pin_memory, pin_device_id
        super().__init__(dataset, batch_size, shuffle, sampler, last_batch, *how)
