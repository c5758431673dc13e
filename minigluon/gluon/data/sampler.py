"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

__all__ = [
    "BatchSampler",
    "FilterSampler",
    "IntervalSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
]


# --- Samplers -------------------------------------------------------------------------------------


class Sampler:
    """Numbers of samples, in some order: override `__iter__` and `__len__`."""

    def __iter__(self):
        raise NotImplementedError

    def __len__(self):
        raise NotImplementedError


class SequentialSampler(Sampler):
    """The numbers from `start` on, `length` of them, in order."""

    def __init__(self, length, start=0):
        self._length, self._start = length, start

    def __iter__(self):
        return iter(range(self._start, self._start + self._length))

    def __len__(self):
        return self._length


class RandomSampler(Sampler):
    """The numbers from 0 to `length` - 1, each once, in an order drawn anew from NumPy's generator."""

    def __init__(self, length):
        self._length = length

    def __iter__(self):
        return iter(np.random.permutation(self._length).tolist())

    def __len__(self):
        return self._length


class FilterSampler(Sampler):
    """The numbers of the samples for which `fn(sample)` is true."""

    def __init__(self, fn, dataset):
        self._numbers = [i for i in range(len(dataset)) if fn(dataset[i])]

    def __iter__(self):
        return iter(self._numbers)

    def __len__(self):
        return len(self._numbers)


class IntervalSampler(Sampler):
    """Every `interval`-th number below `length`: 0, 3, 6, ...; with `rollover` then 1, 4, 7, ..."""

    def __init__(self, length, interval, rollover=True):
        assert 1 <= interval <= length, (
            f"Interval {interval} must be smaller than or equal to length {length}, and at least 1"
        )
        starts = range(interval if rollover else 1)
        self._numbers = [i for start in starts for i in range(start, length, interval)]

    def __iter__(self):
        return iter(self._numbers)

    def __len__(self):
        return len(self._numbers)


class BatchSampler(Sampler):
    """Lists of `batch_size` numbers from another sampler.

    `last_batch`: 'keep' a shorter last one, 'discard' it, or 'rollover' its numbers to the next epoch.
    """

    def __init__(self, sampler, batch_size, last_batch="keep"):
        if last_batch not in ("keep", "discard", "rollover"):
            raise ValueError(
                f"last_batch must be one of 'keep', 'discard', or 'rollover', but got {last_batch!r}"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
        self._sampler, self._batch_size, self._last_batch = sampler, batch_size, last_batch
        self._saved = []

    def __iter__(self):
        batch, self._saved = self._saved, []
        for i in self._sampler:
            batch.append(i)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch and self._last_batch == "keep":
            yield batch
        elif self._last_batch == "rollover":
            self._saved = batch

    def __len__(self):
        if self._last_batch == "keep":
            return -(-len(self._sampler) // self._batch_size)
        return (len(self._sampler) + len(self._saved)) // self._batch_size
