"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

import io
import pickle
from multiprocessing import TimeoutError
from multiprocessing.reduction import ForkingPickler

from minigluon.context import cpu_pinned
from minigluon.gluon.data.dataloader import as_in_context
from minigluon.util import set_np

__all__ = ["MultiWorkerIter", "thread_worker_fn", "worker_fn", "worker_initializer"]


# --- Names in other places ------------------------------------------------------------------------


def worker_initializer(dataset, active_shape=False, active_array=False):
    """A process of a pool begins: the dataset that `worker_fn` reads."""
    worker_initializer.dataset = dataset
    set_np(shape=active_shape, array=active_array)


def worker_fn(samples, batchify_fn, dataset=None):
    """A batch of these samples of the process's dataset, pickled."""
    batch, buffer = batchify_fn([worker_initializer.dataset[i] for i in samples]), io.BytesIO()
    ForkingPickler(buffer, pickle.HIGHEST_PROTOCOL).dump(batch)
    return buffer.getvalue()


def thread_worker_fn(samples, batchify_fn, dataset):
    """A batch of these samples, in a thread."""
    return batchify_fn([dataset[i] for i in samples])


class MultiWorkerIter:
    """Batches in order from a pool: `worker_fn(samples, batchify_fn, dataset)` makes each,
    pickled where `dataset` is None.
    """

    def __init__(
        self, worker_pool, batchify_fn, batch_sampler, pin_memory=False, pin_device_id=0, worker_fn=worker_fn,
        prefetch=0, dataset=None, data_loader=None, timeout=120,
    ):  # fmt: skip
        self._worker_pool, self._batchify_fn, self._worker_fn = worker_pool, batchify_fn, worker_fn
        self._batch_sampler, self._iter = batch_sampler, iter(batch_sampler)
        self._data_buffer, self._rcvd_idx, self._sent_idx = {}, 0, 0
        self._pin_memory, self._pin_device_id = pin_memory, pin_device_id
        self._dataset, self._data_loader, self._timeout = dataset, data_loader, timeout
        for _ in range(prefetch):
            self._push_next()

    def __len__(self):
        return len(self._batch_sampler)

    def __iter__(self):
        return self

    def _push_next(self):
        """Ask the pool for one more batch, if there is one."""
        samples = next(self._iter, None)
        if samples is None:
            return
        task = samples, self._batchify_fn, self._dataset
        self._data_buffer[self._sent_idx] = self._worker_pool.apply_async(self._worker_fn, task)
        self._sent_idx += 1

    def __next__(self):
        self._push_next()
        if self._rcvd_idx == self._sent_idx:
            raise StopIteration
        answer = self._data_buffer.pop(self._rcvd_idx)
        try:
            batch = answer.get(self._timeout)
        except TimeoutError:
            raise  # it may come yet
        except Exception:
            self._worker_pool.terminate()
            raise
        self._rcvd_idx += 1
        batch = pickle.loads(batch) if self._dataset is None else batch
        return as_in_context(batch, cpu_pinned(self._pin_device_id)) if self._pin_memory else batch

    next = __next__
