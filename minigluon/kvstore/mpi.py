"""Each machine talks to its right neighbour only, and still everybody ends up with the sum."""

# Written from chapters/70y_machines.ipynb: edit the chapter, then run `minigluon export`.

import atexit
import sys
import traceback

import numpy as np

from minigluon.base import MXNetError
from minigluon.context import put
from minigluon.kvstore import kvstore
from minigluon.kvstore.kvstore import KVStore
from minigluon.kvstore.ring import Ring
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.sparse import wrapped
from minigluon.ops.csr import Rows

__all__ = ["DistKVStore", "end_all", "joined", "on", "on_host", "rings", "unsupported"]


# --- The end of one is the end of all -------------------------------------------------------------


def joined():
    """The ring of all processes that `mpirun` has started; MXNetError if there is no MPI."""
    if not rings:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise MXNetError(
                "a store over several processes needs MPI: pip install 'minigluon[mpi]', then "
                f"mpirun -n 4 python train.py ({error})"
            ) from error
        rings.append(Ring(MPI.COMM_WORLD.Dup()))
        if rings[0].size > 1:
            sys.excepthook = end_all
            atexit.register(rings[0].leave)
    return rings[0]


rings = []  # the one ring, once it is joined


def end_all(kind, error, trace):
    """Print an exception that nobody has caught, and end all ranks."""
    traceback.print_exception(kind, error, trace)
    ring = joined()
    print(f"minigluon: rank {ring.rank} of {ring.size} has failed, all ranks end", file=sys.stderr)
    sys.stderr.flush()
    ring.comm.Abort(1)


# --- The store ------------------------------------------------------------------------------------


class DistKVStore(KVStore):
    """A store over the processes of MPI: every rank has a copy, sums go round a ring.

    All ranks must make the same calls in the same order. The sum over devices is made first, in the
    order of the list, then over ranks, in the order of the ring: results are equal in every run and
    equal on all ranks, bit for bit.
    """

    def __init__(self, type="dist_sync"):
        super().__init__(type)
        self.ring = joined()

    @property
    def rank(self):
        """The number of this process, from 0."""
        return self.ring.rank

    @property
    def num_workers(self):
        """How many processes there are."""
        return self.ring.size

    def _barrier(self):
        """Wait for all processes."""
        self.ring.allreduce(np.zeros(self.ring.size, "u1"))

    barrier = _barrier

    def _begin(self, values):
        for value in values.values():
            if value.stype != "default":
                self._share_rows(value)
                continue
            raw = on_host(value)
            self.ring.broadcast(raw.reshape(-1).view("u1"))
            value[:] = NDArray(raw, value.context) if raw is value._data else on(raw, value.context)
        super()._begin(values)

    def _share_rows(self, value):
        """Make a row-sparse first value that of rank 0."""
        rows = value._data if self.rank == 0 else Rows.none(value.shape, value._data.values)
        value[:] = wrapped(self._sum_of_rows(rows), value.context)

    # --- The store --------------------------------------------------------------------------------

    def _totals(self, given):
        found = super()._totals(given)
        if self.ring.size == 1:
            return found
        dense = {}
        for key, a in found.items():
            if a.stype == "default":
                dense.setdefault(a.dtype, []).append(key)
            else:
                found[key] = wrapped(self._sum_of_rows(a._data), a.context)
        for keys in dense.values():
            self._sum_together(found, keys)
        return found

    def _sum_together(self, found, keys):
        """Replace arrays of one type by their sums over ranks, in one round."""
        flat = self.ring.allreduce(np.concatenate([on_host(found[k]).reshape(-1) for k in keys]))
        begin = 0
        for k in keys:
            end = begin + found[k].size
            found[k] = on(flat[begin:end].reshape(found[k].shape), found[k].context)
            begin = end

    def _sum_of_rows(self, rows):
        """The sum over ranks of raw row-sparse arrays."""
        counts = np.zeros(self.ring.size, "int64")
        counts[self.rank] = len(rows.indices)
        ends = np.cumsum(self.ring.allreduce(counts))
        own = slice(ends[self.rank] - len(rows.indices), ends[self.rank])
        places = np.zeros(ends[-1], "int64")
        values = np.zeros((ends[-1], *rows.shape[1:]), rows.dtype)
        if len(rows.indices):
            places[own], values[own] = rows.indices, rows.values
        places, values = self.ring.sum_of(places), self.ring.sum_of(values)
        if not len(places):
            return rows
        return Rows.summed(rows.shape, places, values)


def on_host(a):
    """The raw numbers of a dense array in NumPy's memory, side by side."""
    return np.ascontiguousarray(a.asnumpy())


def on(raw, ctx):
    """An array of raw numbers on a context."""
    return NDArray(put(raw, ctx), ctx)


def unsupported(name):
    """Refuse kinds of stores that live elsewhere."""
    raise MXNetError(
        f"kvstore {name!r} is not part of minigluon: asynchronous servers, Horovod and BytePS are not "
        "here. Use 'dist_sync' under mpirun"
    )


kvstore.makers.update(
    dict.fromkeys(("dist", "dist_sync", "dist_device_sync", "dist_sync_device"), DistKVStore)
)
kvstore.makers.update(
    dict.fromkeys(("dist_async", "dist_device_async", "horovod", "byteps", "p3"), unsupported)
)
