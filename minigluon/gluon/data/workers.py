"""A loader keeps some batches ahead of the training: worker processes make them, shared memory carries them over."""

# Written from chapters/82_loader.ipynb: edit the chapter, then run `minigluon export`.

import itertools
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
import traceback
import warnings
import zlib
from concurrent import futures
from contextlib import contextmanager, suppress
from io import BytesIO
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from minigluon.context import cpu
from minigluon.gluon.data.dataset import gather
from minigluon.ndarray.ndarray import NDArray, restored
from minigluon.ops import random as streams

__all__ = [
    "ALIGNED",
    "BatchPickler",
    "Crew",
    "Slot",
    "Threads",
    "Worker",
    "WorkerTraceback",
    "answer",
    "attached",
    "made_batch",
    "pickled",
    "places",
    "plant",
    "portable",
    "quiet_fork",
    "raised",
    "roots",
    "start_method",
    "unpicklable",
    "whole",
    "work",
]


# --- What a worker does ---------------------------------------------------------------------------


class BatchPickler(pickle.Pickler):
    """Pickles arrays without their numbers, which are left beside, in `buffers`."""

    def __init__(self, file):
        self.buffers = []
        super().__init__(file, protocol=5, buffer_callback=self.buffers.append)

    def reducer_override(self, value):
        if type(value) is NDArray and isinstance(value._data, np.ndarray):
            return restored, (np.ascontiguousarray(value._data), value._ctx)
        return NotImplemented


def pickled(batch):
    """A batch as bytes, and the memory of its arrays."""
    file = BytesIO()
    pickler = BatchPickler(file)
    pickler.dump(batch)
    return file.getvalue(), [buffer.raw() for buffer in pickler.buffers]


def whole(dataset, numbers, batchify_fn):
    """The batch taken at once, where the dataset can and nothing but stacking is asked for."""
    if not getattr(batchify_fn, "stacks", False) or not numbers:
        return None
    if not all(type(i) is int or isinstance(i, np.integer) for i in numbers):
        return None
    return gather(dataset, numbers)


def work(number, conn, inherited, dataset, batchify_fn):
    """The life of worker `number`: tasks in, batches out, until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in inherited:
        other.close()
    blocks = {}  # slot -> its shared memory
    with suppress(EOFError, OSError):
        while True:
            ticket, numbers, seed, slot, name = conn.recv()
            started = time.monotonic()
            try:
                plant(seed)
                data, buffers = pickled(made_batch(dataset, numbers, batchify_fn))
            except Exception as error:
                conn.send_bytes(pickle.dumps((ticket, "error", portable(error, number))))
                continue
            answer(conn, ticket, data, buffers, attached(blocks, slot, name), started)


def made_batch(dataset, numbers, batchify_fn):
    """The batch of the samples of these numbers; an error is told which of them."""
    with suppress(Exception):  # sample by sample, it will be told which one it was
        batch = whole(dataset, numbers, batchify_fn)
        if batch is not None:
            return batch
    samples = []
    for i in numbers:
        try:
            samples.append(dataset[i])
        except Exception as error:
            error.add_note(f"sample {i!r} of the dataset raised this")
            raise
    try:
        return batchify_fn(samples)
    except Exception as error:
        shown = ", ".join(map(repr, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
        error.add_note(f"making a batch of the samples {shown} raised this")
        raise


def portable(error, number):
    """An error as something that can be sent: itself or a likeness, its notes, its traceback."""
    text = "".join(traceback.format_exception(error))
    notes = [*getattr(error, "__notes__", []), f"in worker process {number}"]
    try:
        again = pickle.loads(pickle.dumps(error))
        same = type(again) is type(error) and not isinstance(error, StopIteration)
    except Exception:
        same = False
    return (error if same else RuntimeError(f"{type(error).__name__}: {error}")), notes, text


class WorkerTraceback(Exception):
    """The traceback of an error in a worker, as its cause."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return f"\n\n{self.text}"


def raised(report):
    """The error of a worker's report, ready to be raised here."""
    error, notes, text = report
    error.__notes__ = []
    for note in notes:
        error.add_note(note)
    error.__cause__ = WorkerTraceback(text)
    return error


# --- Shared memory --------------------------------------------------------------------------------

ALIGNED = 64


def places(buffers):
    """Where each buffer begins when they lie one after another, and where the last ends."""
    starts, at = [], 0
    for buffer in buffers:
        starts.append(at)
        at += -(-buffer.nbytes // ALIGNED) * ALIGNED
    return starts, at


def attached(blocks, slot, name):
    """The shared memory of a slot, in a worker; None if it has none yet."""
    if slot in blocks and blocks[slot].name != name:
        blocks.pop(slot).close()
    if name and slot not in blocks:
        settings = {"track": False} if sys.version_info >= (3, 13) else {}
        blocks[slot] = SharedMemory(name, **settings)
    return blocks.get(slot)


def answer(conn, ticket, data, buffers, block, started):
    """Send a batch: its numbers through shared memory if they fit, otherwise after the message."""
    starts, total = places(buffers)
    shared = block is not None and total <= block.size
    sizes = [(start, buffer.nbytes) for start, buffer in zip(starts, buffers)]
    if shared:
        for start, buffer in zip(starts, buffers):
            block.buf[start : start + buffer.nbytes] = buffer
    way = "shared" if shared else "sent"
    conn.send_bytes(pickle.dumps((ticket, way, (data, sizes, started, time.monotonic()))))
    if not shared:
        for buffer in buffers:
            conn.send_bytes(buffer)


class Slot:
    """A block of shared memory for one batch at a time; it grows when a batch did not fit."""

    def __init__(self, number):
        self.number, self.block = number, None

    @property
    def name(self):
        """The name of the block; None if there is none yet."""
        return self.block and self.block.name

    def grow(self, size):
        """Take a new block of `size` bytes; OSError if there is not so much shared memory."""
        self.remove()
        block = SharedMemory(create=True, size=size)
        if hasattr(os, "posix_fallocate"):  # now, and not by a bus error when it is written
            try:
                with open(f"/dev/shm/{block.name}", "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
            except FileNotFoundError:
                pass  # elsewhere than on Linux
            except OSError:
                block.close()
                block.unlink()
                raise
        self.block = block

    def remove(self):
        """Give the block back."""
        if self.block is not None:
            block, self.block = self.block, None
            block.close()
            with suppress(FileNotFoundError):
                block.unlink()


# --- Seeds ----------------------------------------------------------------------------------------


def roots(epoch):
    """What all randomness of an epoch grows from: the states of the generators, not moved by asking.

    A seeded `mx.random` gives a number of its own for each epoch; without, `epoch` tells them apart.
    """
    key, at = np.random.get_state()[1:3]
    seeded = None in streams.generators
    fresh = int(streams.generator(cpu()).integers(2**62)) if seeded else epoch
    return zlib.crc32(key.tobytes()) + at, hash(random.getstate()) % 2**63, fresh


def plant(seed):
    """Seed NumPy, Python and `mx.random`: a batch has the same chances whichever worker makes it."""
    words = np.random.SeedSequence(seed).generate_state(8)
    np.random.seed(words[:4])
    random.seed(int(words[4]) << 32 | int(words[5]))
    streams.seed(int(words[6]) << 32 | int(words[7]))


# --- The crew -------------------------------------------------------------------------------------


class Worker:
    """A worker process as its parent knows it."""

    def __init__(self, context, number, inherited, dataset, batchify_fn):
        self.number, self.load, self.jobs = number, 0, {}  # ticket -> bytes of its task
        self.conn, theirs = context.Pipe()
        arguments = (number, theirs, [*inherited, self.conn], dataset, batchify_fn)
        if context.get_start_method() != "fork":
            arguments = (number, theirs, [], dataset, batchify_fn)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        try:
            with quiet_fork():
                self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(unpicklable(dataset, batchify_fn, context)) from error
        finally:
            theirs.close()

    def fate(self):
        """How the process ended, in words."""
        self.process.join(1)
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"ended with exit code {code}"


@contextmanager
def quiet_fork():
    """Without the warning that a process with threads forks: a worker takes no lock of theirs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        yield


def unpicklable(dataset, batchify_fn, context):
    """What of a loader cannot be sent to a process that was not forked."""
    for name, value in (("dataset", dataset), ("batchify_fn", batchify_fn)):
        try:
            pickle.dumps(value)
        except Exception as error:
            return (
                f"workers are started by {context.get_start_method()!r}, so the {name} must be "
                f"picklable, but: {error}. Define its functions at the top of a module (no lambda), "
                "or use thread_pool=True"
            )
    return "the dataset cannot be sent to a worker"


def start_method():
    """How workers start: as the program has set, otherwise by fork on Linux."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen or ("fork" if sys.platform == "linux" else None)


class Crew:
    """Worker processes, their tasks by ticket, and the batches that have arrived."""

    CAPACITY = 32768 if sys.platform == "linux" else 4096  # bytes of tasks that a pipe surely holds

    def __init__(self, dataset, count, batchify_fn):
        context = multiprocessing.get_context(start_method())
        self.start_method = context.get_start_method()
        resource_tracker.ensure_running()  # before the fork: one tracker for all
        self.pid, self.tickets, self.closed = os.getpid(), itertools.count(), False
        self.workers, self.done, self.slots = [], {}, []
        self.free, self.slot_of, self.trace = [], {}, None
        self.full = False  # whether shared memory was too small
        try:
            for n in range(count):
                conns = [worker.conn for worker in self.workers]
                self.workers.append(Worker(context, n, conns, dataset, batchify_fn))
        except BaseException:
            self.close()
            raise

    # --- The crew ---------------------------------------------------------------------------------

    def submit(self, numbers, seed, timeout):
        """Give a task to the least busy worker; its ticket."""
        ticket = next(self.tickets)
        if not self.free:
            self.slots.append(Slot(len(self.slots)))
            self.free.append(self.slots[-1])
        slot = self.slot_of[ticket] = self.free.pop()
        task = pickle.dumps((ticket, numbers, seed, slot.number, slot.name))
        while True:
            worker = min(self.workers, key=lambda w: (len(w.jobs), w.number))
            if not worker.jobs or worker.load + len(task) <= self.CAPACITY:
                break  # otherwise both could wait for the other to read
            self.receive(timeout)
        try:
            worker.conn.send_bytes(task)
        except OSError:
            raise self.lost(worker, numbers) from None
        worker.jobs[ticket] = (len(task), numbers)
        worker.load += len(task)
        return ticket

    def result(self, ticket, timeout):
        """The batch of a ticket; raises the worker's error, or TimeoutError after so many seconds."""
        end = time.monotonic() + timeout
        while ticket not in self.done:
            self.receive(end - time.monotonic(), timeout)
        way, value = self.done.pop(ticket)
        if way != "error":
            return value
        try:
            raise raised(value)
        finally:
            del value  # or the error would hold a frame that holds the error, and all of us

    def forget(self, tickets):
        """Drop these batches, now or when they arrive."""
        for ticket in tickets:
            if self.done.pop(ticket, None) is None and ticket in self.slot_of:
                self.done[ticket] = None

    def receive(self, timeout, shown=None):
        """Wait for answers and take them; RuntimeError if a worker is gone."""
        if self.closed:
            raise RuntimeError("the workers of this loader were shut down")
        sources = {w.conn: w for w in self.workers} | {w.process.sentinel: w for w in self.workers}
        ready = wait(list(sources), max(0, timeout))
        if not ready:
            raise multiprocessing.TimeoutError(
                f"no batch within {shown or timeout:g} seconds: give DataLoader a longer timeout if "
                "its dataset is slow, or look for what it waits for"
            )
        for source in sorted(ready, key=lambda source: isinstance(source, int)):
            worker = sources[source]  # answers first: the last words of one that ended count
            try:
                if isinstance(source, int):
                    while worker.conn.poll():
                        self.take(worker)
                    raise EOFError
                self.take(worker)
            except (EOFError, OSError):
                raise self.lost(worker) from None

    def lost(self, worker, numbers=None):
        """The error that says which worker is gone, and with which samples; all others are ended."""
        jobs = list(worker.jobs.values())
        numbers = jobs[0][1] if jobs else numbers
        work = f" while it made the batch of samples {list(numbers[:8])}" if numbers else ""
        fate, start = worker.fate(), self.start_method
        self.close()
        hint = "; guard the script's main part with if __name__ == '__main__':"
        return RuntimeError(
            f"worker process {worker.number} {fate}{work}" + (hint if start != "fork" else "")
        )

    def take(self, worker):
        """Receive one answer of a worker, copy its numbers, and free its slot."""
        ticket, way, value = pickle.loads(worker.conn.recv_bytes())
        buffers = []
        slot = self.slot_of[ticket]
        if way == "sent":
            buffers = [worker.conn.recv_bytes() for _ in value[1]]
        self.slot_of.pop(ticket)
        worker.load -= worker.jobs.pop(ticket)[0]
        wanted = self.done.pop(ticket, True)
        if wanted and way == "shared":
            buffers = [np.frombuffer(slot.block.buf, "u1", n, at).copy() for at, n in value[1]]
        elif way == "sent":
            buffers = [bytearray(buffer) for buffer in buffers]  # bytes would not be writable
            self.widen(slot, value[1])
        self.free.append(slot)
        if not wanted:
            return
        if way != "error":
            data, _, *span = value
            if self.trace is not None:
                self.trace.append((worker.number, ticket, *span))
            value = pickle.loads(data, buffers=buffers)
        self.done[ticket] = (way, value)

    def widen(self, slot, sizes):
        """Make the slot large enough for batches like one that was not."""
        total = sum(-(-n // ALIGNED) * ALIGNED for _, n in sizes)
        if not total or self.full:
            return
        try:
            slot.grow(total + total // 4)
        except OSError as error:
            self.full = True
            warnings.warn(
                f"{total} bytes of shared memory for a batch are not to be had ({error.strerror}): "
                "batches go through pipes, which is slower. Give /dev/shm more room",
                stacklevel=2,
            )

    def close(self):
        """End the workers and remove the shared memory; in a forked child nothing is ours."""
        if self.closed or os.getpid() != self.pid:
            return
        self.closed = True
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(2)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.conn.close()
        for slot in self.slots:
            slot.remove()


class Threads:
    """Worker threads: no memory to share, but one interpreter."""

    trace = None

    def __init__(self, dataset, count, batchify_fn):
        self.pool, self.closed = futures.ThreadPoolExecutor(count), False
        self.call = lambda numbers: made_batch(dataset, numbers, batchify_fn)

    def submit(self, numbers, seed, timeout):
        """Give a task to a thread; its future is its ticket."""
        return self.pool.submit(self.call, numbers)

    def result(self, ticket, timeout):
        """The batch of a ticket, or its error."""
        try:
            return ticket.result(timeout)
        except futures.TimeoutError as error:
            if ticket.done():
                raise  # an error of the dataset
            raise multiprocessing.TimeoutError(f"no batch within {timeout:g} seconds") from error

    def forget(self, tickets):
        """Drop tasks that have not begun."""
        for ticket in tickets:
            ticket.cancel()

    def close(self):
        """Let the threads end after what they are doing."""
        self.closed = True
        self.pool.shutdown(wait=False, cancel_futures=True)
