"""A loss turns predictions and truth into one number a sample; its gradient is what the network learns from."""

# Written from chapters/50_losses.ipynb: edit the chapter, then run `minigluon export`.

import os
from concurrent.futures import ThreadPoolExecutor

__all__ = ["BLOCK", "LARGE", "WORKERS", "cores", "forget_threads", "in_blocks", "pools", "share"]


# --- All cores, in the cache ----------------------------------------------------------------------

BLOCK = 1 << 16  # numbers that stay in the cache of a core
LARGE = 1 << 18  # numbers from which threads pay for their start


def cores():
    """How many threads may compute: the cores we may use, or OMP_NUM_THREADS of them."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(here or 1, int(asked) if asked.isdigit() else 8))


WORKERS = cores()
pools = []  # the one pool, once it is needed


def forget_threads():
    """After a fork the child makes threads of its own."""
    pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_threads)


def in_blocks(f, rows, width):
    """Call `f(begin, end)` for blocks of rows of `width` numbers that fit the cache, on all cores."""
    step = max(1, BLOCK // max(width, 1))
    if rows <= step:
        f(0, rows)
        return
    shares = min(WORKERS, rows) if rows * width >= LARGE else 1
    if shares > 1 and not pools:
        pools.append(ThreadPoolExecutor(WORKERS - 1, "minigluon-rows"))
    bounds = [rows * i // shares for i in range(shares + 1)]
    rest = [pools[0].submit(share, f, *bounds[i : i + 2], step) for i in range(1, shares)]
    share(f, bounds[0], bounds[1], step)
    for done in rest:
        done.result()


def share(f, begin, end, step):
    """One thread's blocks."""
    for i in range(begin, end, step):
        f(i, min(i + step, end))
