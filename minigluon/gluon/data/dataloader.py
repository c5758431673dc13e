"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb: edit the chapter, then run `minigluon export`.

import warnings

from minigluon.gluon.data.batchify import Stack
from minigluon.gluon.data.sampler import BatchSampler, RandomSampler, SequentialSampler

__all__ = ["DataLoader", "default_batchify_fn", "default_mp_batchify_fn", "make_sampler"]


# --- The loader -----------------------------------------------------------------------------------


def default_batchify_fn(data):
    """A batch of a list of samples: arrays are stacked, tuples taken element by element."""
    if isinstance(data[0], tuple):
        return [default_batchify_fn(part) for part in zip(*data)]
    return Stack()(data)


default_mp_batchify_fn = default_batchify_fn  # MXNet's name for the one that workers use


class DataLoader:
    """Batches of a dataset, an epoch an iteration.

    Give `batch_size` with `shuffle` or a `sampler` and `last_batch`, or a `batch_sampler` alone.
    `batchify_fn` makes a batch of a list of samples. All batches are made in this process: what
    concerns workers and pinned memory is accepted, and `num_workers` is said to have no effect.
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
        self._dataset = dataset
        if batch_sampler is None:
            batch_sampler = make_sampler(dataset, batch_size, shuffle, sampler, last_batch)
        elif batch_size is not None or shuffle or sampler is not None or last_batch is not None:
            raise ValueError(
                "batch_size, shuffle, sampler and last_batch must not be specified if "
                "batch_sampler is specified."
            )
        assert timeout > 0, f"timeout must be positive, given {timeout}"
        if num_workers > 0:
            warnings.warn(
                f"num_workers={num_workers}: this edition loads in the calling process",
                stacklevel=2,
            )
        self._batch_sampler = batch_sampler
        self._batchify_fn = batchify_fn or default_batchify_fn

    def __iter__(self):
        for numbers in self._batch_sampler:
            yield self._batchify_fn([self._dataset[i] for i in numbers])

    def __len__(self):
        return len(self._batch_sampler)


def make_sampler(dataset, batch_size, shuffle, sampler, last_batch):
    """The batch sampler that a loader's arguments ask for; ValueError where they contradict."""
    if batch_size is None:
        raise ValueError("batch_size must be specified unless batch_sampler is specified")
    if sampler is not None and shuffle:
        raise ValueError("shuffle must not be specified if sampler is specified")
    if sampler is None:
        sampler = (RandomSampler if shuffle else SequentialSampler)(len(dataset))
    return BatchSampler(sampler, batch_size, last_batch or "keep")
