"""A loader keeps some batches ahead of the training: worker processes make them, shared memory carries them over."""

# Written from chapters/82_loader.ipynb: edit the chapter, then run `minigluon export`.

import weakref
from collections import deque

import numpy as np

from minigluon.context import busy, ferries

__all__ = ["KEPT", "Lane", "Owner", "ferry", "lanes", "wait_for_lanes"]


# --- Page-locked memory ---------------------------------------------------------------------------

KEPT = 4  # pieces of memory of a size that wait for the next batch


class Owner:
    """Whose end tells that nobody looks at a piece of memory any more."""

    __slots__ = ("__weakref__", "memory")


class Lane:
    """The way from page-locked memory to a GPU, beside its other work."""

    def __init__(self, cupy):
        self.cupy, self.device = cupy, cupy.cuda.Device().id
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.free, self.under_way = {}, deque()

    def send(self, raw):
        """An array on the GPU that will hold the numbers of `raw` before anything else is done there."""
        here, cuda, owner = self.cupy.cuda.get_current_stream(), self.cupy.cuda, Owner()
        owner.memory, released = self.room(raw.nbytes, here)
        self.stream.wait_event(released)
        memory = cuda.UnownedMemory(owner.memory.data.ptr, raw.nbytes, owner, self.device)
        there = self.cupy.ndarray(raw.shape, raw.dtype, cuda.MemoryPointer(memory, 0))
        there.set(raw, stream=self.stream)
        arrived = self.stream.record()
        here.wait_event(arrived)
        weakref.finalize(owner, self.release, owner.memory).atexit = False
        self.under_way.append((arrived, raw))
        while self.under_way and (len(self.under_way) > KEPT or self.under_way[0][0].done):
            self.under_way.popleft()[0].synchronize()
        return there

    def room(self, size, here):
        """Memory of `size` bytes, and the event after which it may be written."""
        if self.free.get(size):
            return self.free[size].pop(0)
        return self.cupy.empty((max(1, size),), "uint8"), here.record()

    def release(self, memory):
        """Take memory back that nobody looks at; what was ordered up to now may still read it."""
        with self.cupy.cuda.Device(self.device):
            waiting = self.free.setdefault(memory.nbytes, [])
            waiting.append((memory, self.cupy.cuda.Stream.null.record()))
            del waiting[:-KEPT]

    def wait(self, raw):
        """Wait until the numbers of `raw` have been fetched."""
        for arrived, other in self.under_way:
            if np.may_share_memory(raw, other):
                arrived.synchronize()


lanes = {}  # library and device -> its lane


def ferry(cupy, raw):
    """Page-locked numbers on the current GPU, by its lane."""
    key = cupy.__name__, cupy.cuda.Device().id
    if key not in lanes:
        lanes[key] = Lane(cupy)
    return lanes[key].send(raw)


def wait_for_lanes(raw):
    """Wait until no GPU needs the numbers of `raw` any more."""
    for lane in lanes.values():
        lane.wait(raw)


ferries.append(ferry)
busy.append(wait_for_lanes)
