"""Work on all cores: order, errors, OpenBLAS's threads, forks."""

import _ctypes
import os
import threading
import time
import weakref

import numpy as np
import pytest

from minigluon import cores


def test_results_in_order_and_threads_given_back():
    before = cores.alone.threads
    assert cores.spread(lambda i: i * i, range(50)) == [i * i for i in range(50)]
    assert cores.spread(lambda i: cores.alone.threads, range(4)) == [1] * 4 or before == 1
    assert cores.spread(str, []) == [] and cores.alone.threads == before


def test_the_first_error_reaches_the_caller():
    before, done = cores.alone.threads, []

    def work(i):
        if i == 3:
            raise ValueError("the fourth")
        done.append(i)

    with pytest.raises(ValueError, match="the fourth"):
        cores.spread(work, range(6))
    assert cores.alone.threads == before


def held_up(monkeypatch):
    """Jobs that reach no thread before `give` is called."""
    kept, submit = [], cores.pool.submit
    monkeypatch.setattr(cores.pool, "submit", lambda *call: kept.append(call))
    return lambda: [submit(*call).exception() for call in kept]


def test_nobody_waits_for_a_thread_that_comes_late(monkeypatch):
    give, found = held_up(monkeypatch), []
    assert cores.spread(lambda i: found.append(i) or i, range(4)) == [0, 1, 2, 3]
    assert give() == [None] * (min(cores.alone.threads, 4) - 1) and found == [0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        cores.spread(lambda i: 1 // i, range(4))
    assert give()[-1:] in ([None], []) and cores.alone.depth == 0


def test_an_error_here_waits_for_who_works_elsewhere():
    begun, done, caller = threading.Event(), [], threading.current_thread()

    def work(i):
        if threading.current_thread() is not caller:
            begun.set()
            time.sleep(0.02)
            done.append(i)
            return
        assert begun.wait(10) or cores.alone.threads == 1
        raise ValueError("here")

    if cores.alone.threads == 1:
        pytest.skip("one thread")
    with pytest.raises(ValueError, match="here"):
        cores.spread(work, range(50))
    assert 1 <= len(done) < 10  # what was begun has ended, the rest was left


def test_threads_keep_nothing_of_what_they_have_worked_on():
    a = np.ones(1000)
    watch = weakref.ref(a)
    assert cores.spread(lambda i, a=a: a[i], range(8)) == [1.0] * 8
    del a
    for _ in range(100):
        if watch() is None:
            break
        time.sleep(0.01)  # a late thread may still look into the queue
    assert watch() is None


def test_spreading_inside_and_beside_each_other():
    before, found = cores.alone.threads, []

    def outer(i):
        return sum(cores.spread(lambda j: i * j, range(10)))

    def many():
        for _ in range(20):
            found.append(cores.spread(outer, range(6)))

    threads = [threading.Thread(target=many) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f == [45 * i for i in range(6)] for f in found) and len(found) == 60
    assert cores.alone.threads == before


def test_to_ask_for_the_threads_keeps_pythons_lock():
    for f in cores.control() or ():
        assert f._flags_ & _ctypes.FUNCFLAG_PYTHONAPI


def test_the_handling_of_floating_point_errors_travels():
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        cores.spread(lambda i: np.ones(1) / i, [1, 2, 3, 0, 4, 5])


def test_a_child_has_threads_of_its_own():
    cores.spread(abs, range(8))
    child = os.fork()
    if child == 0:
        os._exit(0 if cores.spread(abs, range(-4, 4)) == [4, 3, 2, 1, 0, 1, 2, 3] else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("size", [0, 3, cores.LONG - 1, cores.LONG, 3 * cores.LONG + 5])
def test_two_terms_in_one_pass(size, dtype):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-9, 9, size).astype(dtype) for _ in "xy")
    for a, b in ((2, 3), (-1, 1), (0, 2), (1, 0)):
        got, wide = y.copy(), a * x.astype("float64") + b * y
        cores.axpby(a, x, b, got)
        np.testing.assert_array_equal(got, wide.astype(dtype))


def test_two_terms_of_arrays_that_openblas_cannot_take():
    x, y = np.arange(2.0 * cores.LONG), np.ones(2 * cores.LONG)
    cores.axpby(2.0, x[::2], 3.0, y[::2])  # not in a row
    np.testing.assert_array_equal(y[::2], 3 + 2 * x[::2])
    assert (y[1::2] == 1).all()
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        cores.axpby(2.0, x, 3.0, y)


def test_two_terms_are_the_same_whoever_had_work_before(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=5 * cores.LONG + 3).astype("float32") for _ in "xy")
    found = []
    for latest in (-1.0, float("inf")):  # the pool has rested, the pool is at work
        monkeypatch.setattr(cores, "latest", latest)
        found.append(y.copy())
        cores.axpby(-0.1, x, 1, found[-1])
    np.testing.assert_array_equal(*found)
    assert cores.alone.depth == 0


def test_helpers_keep_off_the_processor_of_the_caller(monkeypatch):
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor, or no way to choose one")
    all_of_them, pool = os.sched_getaffinity(0), cores.Helpers().grow(1)
    for here in sorted(all_of_them)[:2]:
        monkeypatch.setattr(cores, "processor", lambda here=here: here)
        assert pool.submit(lambda: None).exception() is None
        assert os.sched_getaffinity(pool.threads[0].native_id) == all_of_them - {here}
        assert os.sched_getaffinity(0) == all_of_them
    monkeypatch.setattr(cores, "processor", cores.nowhere)
    pool.submit(lambda: None).exception()
    assert here not in os.sched_getaffinity(pool.threads[0].native_id)  # it stays where it is


def test_where_a_thread_runs_is_one_of_the_processors():
    if hasattr(os, "sched_getaffinity"):
        assert cores.processor() in {*os.sched_getaffinity(0), -1}


@pytest.mark.parametrize("left", [True, False])
def test_a_spread_product_over_its_factor_is_that_of_what_was_there(left, monkeypatch):
    if cores.alone.threads < 2:
        pytest.skip("one core: nothing is spread")
    one_by_one = lambda function, items: [function(item) for item in items]
    monkeypatch.setattr(cores, "spread", one_by_one)  # the worst case: the first part is done
    memory = np.random.default_rng(0).standard_normal((500, 500), dtype="f")
    a = memory[:400] if left else memory[:200, :400].copy()
    b = memory[:, :300].copy() if left else memory[:400]
    want, out = a.astype("d") @ b, memory[100 : 100 + len(a), 200 : 200 + b.shape[1]]
    if not left:
        want, out = want[:, :400], memory[:200, 100:]
        b = b[:, :400]
    assert cores.spread_matmul(a, b, out) is out and np.allclose(out, want, atol=1e-2)
