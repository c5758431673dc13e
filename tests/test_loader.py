"""Worker processes: the same batches, errors told, nothing left behind."""

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
from minigluon import nd
from minigluon.gluon import data
from minigluon.gluon.data import batchify, workers

ROOT = str(Path(mx.__file__).parents[1])
SHM = Path("/dev/shm")
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /dev/shm")


def there(names):
    return [name for name in names if (SHM / name).exists()]


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    """After each test, none of its blocks of memory and of its processes is there."""
    made, children = [], set(multiprocessing.active_children())

    class Block(workers.SharedMemory):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            made.append(self.name)

    monkeypatch.setattr(workers, "SharedMemory", Block)
    yield
    gc.collect()
    assert not there(made)
    assert set(multiprocessing.active_children()) <= children


class Numbered(data.Dataset):
    """Sample i: an array full of i, and i."""

    def __init__(self, length=40, shape=(3, 4)):
        self.length, self.shape = length, shape

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if i >= self.length:
            raise IndexError(i)
        return nd.full(self.shape, i), i


def values(loader):
    return [(x.asnumpy()[:, 0, 0].tolist(), y.asnumpy().tolist()) for x, y in loader]


PLAIN = values(data.DataLoader(Numbered(), 7))


@pytest.mark.parametrize("workers_, prefetch", [(1, None), (2, None), (3, 0), (2, 1), (2, 50)])
@pytest.mark.parametrize("thread_pool", [False, True])
def test_the_same_batches(workers_, prefetch, thread_pool):
    loader = data.DataLoader(
        Numbered(), 7, num_workers=workers_, prefetch=prefetch, thread_pool=thread_pool
    )
    assert len(loader) == 6
    for _ in range(3):
        assert values(loader) == PLAIN


@pytest.mark.parametrize("last_batch", ["keep", "discard", "rollover"])
def test_orders(last_batch):
    settings = {"shuffle": True, "last_batch": last_batch}
    found = []
    for n in (0, 2):
        np.random.seed(7)
        loader = data.DataLoader(Numbered(), 7, num_workers=n, **settings)
        found.append([values(loader) for _ in range(3)])
    assert found[0] == found[1]


def test_what_a_batch_may_be():
    def anything(samples):
        arrays = [nd.ones((2,)), nd.array([1, 2], dtype="int8").reshape((1, 2)).T]
        return {"words": ["a", None], "arrays": arrays, "raw": np.arange(6).reshape(2, 3).T, "n": 1}

    (batch,) = data.DataLoader(Numbered(2), 2, num_workers=1, batchify_fn=anything)
    assert batch["words"] == ["a", None] and batch["n"] == 1
    assert batch["arrays"][1].dtype == np.int8 and batch["arrays"][1].shape == (2, 1)
    assert batch["raw"].tolist() == [[0, 3], [1, 4], [2, 5]]
    batch["arrays"][0][:] = 5  # it is ours, to write to
    batch["raw"][:] = 5
    group = batchify.Group(batchify.Pad(), batchify.Stack())
    ragged = data.SimpleDataset([([1] * (1 + i), i) for i in range(8)])
    batches = list(data.DataLoader(ragged, 4, num_workers=2, batchify_fn=group))
    assert [b[0].shape for b in batches] == [(4, 4), (4, 8)]
    empty = data.SimpleDataset([nd.empty((0, 3))] * 4)
    assert [b.shape for b in data.DataLoader(empty, 2, num_workers=1)] == [(2, 0, 3)] * 2


def test_batches_stay_as_they_are_while_others_come():
    loader = data.DataLoader(Numbered(60, (64, 64)), 4, num_workers=2)
    batches = [x for x, _ in loader] + [x for x, _ in loader]
    for n, x in enumerate(batches):
        first = n % 15 * 4
        assert (x.asnumpy()[:, 5, 5] == np.arange(first, first + 4)).all()
        x[:] = -1


def test_batches_that_grow():
    growing = data.SimpleDataset([nd.ones((1 + i * 4000,)) for i in range(12)])
    loader = data.DataLoader(growing, 1, num_workers=2)
    for _ in range(2):
        assert [b.shape[1] for b in loader] == [1 + i * 4000 for i in range(12)]


def test_two_epochs_at_once_and_one_that_is_left():
    loader = data.DataLoader(Numbered(), 7, num_workers=2)
    pairs = list(zip(loader, loader))
    assert all((a[0] == b[0]).asnumpy().all() for a, b in pairs) and len(pairs) == 6
    for _ in loader:
        break
    assert values(loader) == PLAIN
    epoch = iter(loader)
    next(epoch)
    epoch.close()
    assert values(loader) == PLAIN


def test_samplers_with_huge_batches():
    loader = data.DataLoader(
        data.SimpleDataset(range(40000)), 20000, num_workers=2, prefetch=4, shuffle=True
    )
    seen = np.concatenate([b.asnumpy() for b in loader])
    assert sorted(seen) == list(range(40000))


def test_an_array_is_a_dataset():
    loader = data.DataLoader(nd.arange(6).reshape((6, 1)), 4, num_workers=1)
    assert [b.shape for b in loader] == [(4, 1), (2, 1)]
    assert [b.dtype for b in data.DataLoader(np.arange(4), 4, num_workers=1)] == [np.int64]


# --- Errors ---------------------------------------------------------------------------------------


class Odd(Exception):
    """An error that cannot be rebuilt from its arguments."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def failing(error):
    def fail(x, i):
        if i in (17, 30):
            raise error
        return x

    return fail


@pytest.mark.parametrize("thread_pool", [False, True])
@pytest.mark.parametrize("error", [KeyError("oops"), ValueError("oops"), IndexError("oops")])
def test_the_first_error(error, thread_pool):
    loader = data.DataLoader(
        Numbered().transform(failing(error)), 7, num_workers=2, thread_pool=thread_pool
    )
    found = []
    with pytest.raises(type(error), match="oops") as caught:
        for batch in loader:
            found.append(batch)  # noqa: PERF402
    assert len(found) == 2
    notes = "\n".join(caught.value.__notes__)
    assert "sample 17" in notes
    if not thread_pool:
        assert "in worker process" in notes
        assert "in fail" in str(caught.value.__cause__)  # the worker's traceback


@pytest.mark.parametrize("error", [Odd(1, 2), StopIteration("oops")])
def test_errors_that_cannot_travel(error):
    with pytest.raises(RuntimeError, match=type(error).__name__):
        list(data.DataLoader(Numbered().transform(failing(error)), 7, num_workers=2))


def test_an_error_of_batchify():
    def refuse(samples):
        raise ValueError("no batch")

    with pytest.raises(ValueError, match="no batch") as caught:
        list(data.DataLoader(Numbered(), 7, num_workers=2, batchify_fn=refuse))
    assert "samples 0, 1, 2" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="batchify.Pad"):
        ragged = data.SimpleDataset([np.ones(2), np.ones(3)])
        list(data.DataLoader(ragged, 2, num_workers=1))


def test_a_batch_that_cannot_be_sent():
    loader = data.DataLoader(Numbered(), 7, num_workers=1, batchify_fn=lambda samples: lambda: 0)
    with pytest.raises((AttributeError, TypeError, RuntimeError), match="pickle|local"):
        list(loader)


def test_after_an_error_the_loader_goes_on():
    state = {"bad": True}

    def once(x, i):
        if state["bad"] and i == 3:
            raise KeyError(i)
        return x, i

    loader = data.DataLoader(Numbered().transform(once), 7, num_workers=2, thread_pool=True)
    with pytest.raises(KeyError):
        list(loader)
    state["bad"] = False
    assert values(loader) == PLAIN


@needs_fork
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker(number):
    def die(x, i):
        if i == 17:
            os.kill(os.getpid(), number)
        return x, i

    loader = data.DataLoader(Numbered().transform(die), 7, num_workers=2)
    with pytest.raises(
        RuntimeError, match=f"{number.name}.*while it made the batch of samples .14"
    ):
        list(loader)
    with pytest.raises(RuntimeError, match=number.name):  # new workers, the same fate
        list(loader)


@needs_fork
def test_a_worker_that_is_killed_while_idle():
    loader = data.DataLoader(Numbered(), 7, num_workers=2)
    assert values(loader) == PLAIN
    os.kill(loader._crew.workers[0].process.pid, signal.SIGKILL)
    loader._crew.workers[0].process.join()
    with pytest.raises(RuntimeError, match="SIGKILL"):
        values(loader)
    assert values(loader) == PLAIN


def test_exit_in_a_worker():
    def leave(x, i):
        sys.exit(3)

    with pytest.raises(RuntimeError, match="exit code 3"):
        list(data.DataLoader(Numbered().transform(leave), 7, num_workers=1))


@pytest.mark.parametrize("thread_pool", [False, True])
def test_timeout(thread_pool):
    def slow(x, i):
        time.sleep(1 if i > 3 else 0)
        return x

    loader = data.DataLoader(
        Numbered(8).transform(slow), 4, num_workers=1, timeout=0.2, thread_pool=thread_pool
    )
    epoch = iter(loader)
    next(epoch)
    with pytest.raises(multiprocessing.TimeoutError, match="0.2 seconds"):
        next(epoch)


# --- Changes --------------------------------------------------------------------------------------


def test_a_dataset_that_changes_its_length():
    dataset = Numbered(10)
    for n in (0, 1):
        dataset.length = 10
        loader = data.DataLoader(dataset, 5, num_workers=n)
        assert len(values(loader)) == 2
        dataset.length = 7
        with pytest.raises(IndexError):
            values(loader)
        dataset.length = 20
        assert len(values(loader)) == 2  # the sampler was made for ten


def test_auto_reload():
    seen = []

    def look(x, i):
        seen.append(i)
        return x, i

    dataset = Numbered(6).transform(look)
    loader = data.DataLoader(
        dataset, 2, num_workers=1, thread_pool=True, auto_reload=True, prefetch=1
    )
    time.sleep(0.3)
    assert seen == [0, 1]  # fetched before it was asked for
    assert len(list(loader)) == 3
    loader.clean()
    assert len(list(loader)) == 3
    plain = data.DataLoader(dataset, 2, auto_reload=True)
    assert [len(list(plain)) for _ in range(2)] == [3, 3]


def test_pinned():
    for n in (0, 1):
        for x, y in data.DataLoader(Numbered(4), 2, pin_memory=True, num_workers=n):
            assert x.context == y.context == mx.cpu_pinned(0)


# --- Chance ---------------------------------------------------------------------------------------


def chance(x, i):
    return np.random.rand(), random.random(), mx.nd.random.uniform().asscalar()


def draws(n, seed=None, epochs=1, batch=4):
    if seed is not None:
        mx.random.seed(seed)
        np.random.seed(seed)
        random.seed(seed)
    loader = data.DataLoader(Numbered(16).transform(chance), batch, num_workers=n)

    def one_epoch():
        batches = list(loader)
        return np.stack([np.concatenate([b[k].asnumpy() for b in batches]) for k in range(3)])

    return [one_epoch() for _ in range(epochs)]


def test_seeds():
    first, second = draws(2, 1, epochs=2)
    again = draws(2, 1, epochs=2)
    assert (first == again[0]).all() and (second == again[1]).all()
    assert first.shape == (3, 16) and all(len(set(row)) == 16 for row in first)
    assert not np.intersect1d(first, second).size  # each epoch anew
    assert not np.intersect1d(first, draws(2, 2)[0]).size


def test_the_number_of_workers_changes_nothing():
    one, two, three = (draws(n, 5)[0].tolist() for n in (1, 2, 3))
    assert one == two == three


def test_numpys_seed_alone_is_enough():
    found = []
    for _ in range(2):
        workers.streams.generators.clear()  # mx.random as in a fresh process
        np.random.seed(3)
        random.seed(3)
        loader = data.DataLoader(Numbered(16).transform(chance), 4, num_workers=2)
        found.append([[b[0].asnumpy().tolist() for b in loader] for _ in range(2)])
    assert found[0] == found[1] and found[0][0] != found[0][1]
    mx.random.seed(0)


def test_workers_leave_the_order_of_samples_alone():
    orders = []
    for n in (0, 2):
        np.random.seed(0)
        loader = data.DataLoader(Numbered(), 7, shuffle=True, num_workers=n)
        orders.append([values(loader), np.random.rand()])
    assert orders[0] == orders[1]


# --- Processes and memory -------------------------------------------------------------------------


def test_workers_are_kept_between_epochs_and_end_with_the_loader():
    loader = data.DataLoader(Numbered(), 7, num_workers=2)
    assert loader._crew is None and not multiprocessing.active_children()
    values(loader)
    pids = {w.process.pid for w in loader._crew.workers}
    values(loader)
    assert pids == {w.process.pid for w in loader._crew.workers}
    del loader
    gc.collect()
    assert not pids & {p.pid for p in multiprocessing.active_children()}


@needs_fork
def test_memory_is_shared_and_bounded():
    loader = data.DataLoader(Numbered(60, (100, 100)), 4, num_workers=2)
    sizes = []
    for _ in range(4):
        values(loader)
        sizes.append(sum((SHM / s.name).stat().st_size for s in loader._crew.slots if s.name))
    assert sizes[0] > 160_000 and sizes[1] == sizes[2] == sizes[3] <= 5 * 210_000


@needs_fork
def test_without_shared_memory(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    loader = data.DataLoader(Numbered(), 7, num_workers=2)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert values(loader) == PLAIN
    assert values(loader) == PLAIN and all(s.name is None for s in loader._crew.slots)


SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
import minigluon as mx
from minigluon.gluon import data

class Mine(data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, i):
        if {slow}:
            time.sleep(0.05)
        return mx.nd.ones((100, 100)) * i

def double(x):
    return x * 2

if __name__ == "__main__":
    {start}
    loader = data.DataLoader(Mine().transform({transform}), 10, num_workers=2)
    for n, batch in enumerate(loader):
        print(n, *(s.name for s in loader._crew.slots if s.name), flush=True)
    print("done", batch[-1, 0, 0].asscalar())
"""


def script(tmp_path, transform="double", start="pass", slow=False):
    path = tmp_path / "program.py"
    path.write_text(SCRIPT.format(root=ROOT, transform=transform, start=start, slow=slow))
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as in a shell's background: a child would ignore it too
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(
            [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


SPAWN = "import multiprocessing; multiprocessing.set_start_method('spawn')"


@pytest.mark.parametrize(
    ("transform", "start"), [("double", "pass"), ("lambda x: x * 2", "pass"), ("double", SPAWN)]
)
def test_what_a_program_defines(tmp_path, transform, start):
    out, err = script(tmp_path, transform, start).communicate(timeout=60)
    assert "done 198.0" in out, err
    assert not err  # no leaked memory, no warning


def test_a_lambda_under_spawn(tmp_path):
    process = script(tmp_path, "lambda x: x * 2", SPAWN)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the dataset must be picklable" in err and "no lambda" in err


@needs_fork
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_parent(tmp_path, number):
    process = script(tmp_path, slow=True)
    assert process.stdout.readline().startswith("0")
    names = process.stdout.readline().split()[1:]
    assert there(names)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    pids = [int(p) for p in children.stdout.split()]
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in err and err.count("Traceback") == 1
    end = time.monotonic() + 10
    while time.monotonic() < end and any(Path(f"/proc/{p}").exists() for p in pids):
        time.sleep(0.05)
    assert not [p for p in pids if Path(f"/proc/{p}").exists()]
    while time.monotonic() < end and there(names):
        time.sleep(0.05)  # after SIGKILL and SIGTERM, Python's resource tracker tidies up
    assert not there(names)


@needs_fork
def test_no_warning_about_threads(monkeypatch):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(data.DataLoader(Numbered(), 7, num_workers=1)) == PLAIN
    stop.set()
    thread.join()


def test_signature():
    import inspect

    names = inspect.signature(data.DataLoader.__init__).parameters
    assert " ".join(names) == (
        "self dataset batch_size shuffle sampler last_batch batch_sampler batchify_fn num_workers "
        "pin_memory pin_device_id prefetch thread_pool timeout auto_reload"
    )


def test_records_with_workers(tmp_path):
    from minigluon import recordio

    file = recordio.MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "w")
    for i in range(50):
        file.write_idx(i, recordio.pack((0, i, i, 0), bytes([i]) * 1000 * i))
    file.close()
    dataset = data.RecordFileDataset(str(tmp_path / "a.rec"))
    assert recordio.unpack(dataset[3])[0].label == 3
    labels = dataset.transform(lambda record: recordio.unpack(record)[0].label)
    for n in (1, 2):
        loader = data.DataLoader(labels, 7, num_workers=n)
        assert np.concatenate([b.asnumpy() for b in loader]).tolist() == list(range(50))
    assert recordio.unpack(dataset[4])[0].label == 4


def test_the_first_loader_has_its_own_arguments():
    one = data.dataloader.DataLoaderV1(np.arange(10), 4, last_batch="discard")
    assert [b.asnumpy().tolist() for b in one] == [[0, 1, 2, 3], [4, 5, 6, 7]] and len(one) == 2
    with pytest.raises(TypeError, match="prefetch"):
        data.dataloader.DataLoaderV1(np.arange(10), 4, prefetch=2)
