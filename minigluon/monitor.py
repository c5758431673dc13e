"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

import logging
import re

from minigluon.ndarray.ndarray import NDArray

__all__ = ["Monitor", "size_of", "told"]


# --- The monitor ----------------------------------------------------------------------------------


def size_of(x):
    """The norm of an array, divided by the root of its size."""
    return x.norm() / x.size**0.5


class Monitor:
    """Statistics of the arrays in executors, every `interval` batches.

    `stat_func` gives an NDArray of an array; `pattern` is a regular expression that names match
    from their beginning. With `sort`, results stand by name; with `monitor_all`, inputs of
    operators count as well.
    """

    def __init__(self, interval, stat_func=None, pattern=".*", sort=False, monitor_all=False):
        self.interval, self.stat_func = interval, stat_func or size_of
        self.re_prog, self.sort, self.monitor_all = re.compile(pattern), sort, monitor_all
        self.queue, self.exes, self.step, self.activated = [], [], 0, False
        self.stat_helper = self._hear

    def _hear(self, name, array):
        if self.activated and self.re_prog.match(name):
            self.queue.append((self.step, name, self.stat_func(array)))

    # Before and after a batch.

    def install(self, exe, monitor_all=None):
        """Listen to an executor."""
        exe.set_monitor_callback(
            self.stat_helper, self.monitor_all if monitor_all is None else monitor_all
        )
        self.exes.append(exe)

    def tic(self):
        """Before a batch: switch on, if it is one of those."""
        if self.step % self.interval == 0:
            self.queue, self.activated = [], True
        self.step += 1

    def toc(self):
        """After a batch: a list of (batch, name, statistics as text)."""
        if not self.activated:
            return []
        for exe in self.exes:
            for name, array in {**exe.arg_dict, **exe.aux_dict}.items():
                self._hear(name, array)
        self.activated = False
        found = sorted(self.queue, key=lambda row: row[1]) if self.sort else self.queue
        self.queue = []
        return [(step, name, told(value)) for step, name, value in found]

    def toc_print(self):
        """`toc`, written to the log."""
        for step, name, text in self.toc():
            logging.info("Batch: %7d %-30s %s", step, name, text)


def told(value):
    """A statistic as text, a tab behind each array."""
    arrays = value if isinstance(value, list) else [value]
    for a in arrays:
        assert isinstance(a, NDArray), f"stat_func gives NDArrays, not {type(a).__name__}"
    return "".join(f"{a.asscalar() if a.shape == (1,) else a.asnumpy()!s}\t" for a in arrays)
