"""Each machine talks to its right neighbour only, and still everybody ends up with the sum."""

# Written from chapters/70y_machines.ipynb: edit the chapter, then run `minigluon export`.

import time

import numpy as np

__all__ = ["DATA", "LEFT", "NeighbourLeft", "PATIENCE", "Ring"]


# --- The ring -------------------------------------------------------------------------------------

DATA, LEFT = 1, 2  # tags of messages
PATIENCE = 2.0  # seconds that a message may still take after its sender has left


class NeighbourLeft(RuntimeError):
    """A rank has ended while others still wait for it."""


class Ring:
    """Ranks of an MPI communicator in a circle: each sends to the next and hears from the one before."""

    def __init__(self, comm):
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self.right, self.left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size

    def wait(self, requests):
        """Wait for messages; NeighbourLeft if they cannot come any more."""
        deadline = None
        while not all(request.Test() for request in requests):
            if deadline is None and self.comm.Iprobe(source=self.left, tag=LEFT):
                deadline = time.monotonic() + PATIENCE
            if deadline is not None and time.monotonic() > deadline:
                raise NeighbourLeft(f"rank {self.left} has ended, rank {self.rank} waits for it")
            time.sleep(0)  # there may be more ranks than cores

    def pass_on(self, out, into):
        """Send `out` to the right while `into` is filled from the left."""
        receive = self.comm.Irecv(into, source=self.left, tag=DATA)
        self.wait([receive, self.comm.Isend(out, dest=self.right, tag=DATA)])

    # --- The ring ---------------------------------------------------------------------------------

    def allreduce(self, a):
        """Replace `a`, one axis of numbers on the host, by the sum over ranks: the same bits on all."""
        P, r = self.size, self.rank
        ends = [len(a) * k // P for k in range(P + 1)]
        chunks = [a[i:j] for i, j in zip(ends, ends[1:])]
        heard = np.empty(max(map(len, chunks)), a.dtype)
        for step in range(P - 1):  # each chunk goes round and grows
            own = chunks[(r - step - 1) % P]
            self.pass_on(chunks[(r - step) % P], heard[: len(own)])
            np.add(heard[: len(own)], own, out=own)
        for step in range(P - 1):  # each finished chunk goes round
            self.pass_on(chunks[(r + 1 - step) % P], chunks[(r - step) % P])
        return a

    def broadcast(self, a):
        """Replace `a` by that of rank 0, which is passed on along the ring."""
        if self.rank > 0:
            self.wait([self.comm.Irecv(a, source=self.left, tag=DATA)])
        if self.right != 0:
            self.wait([self.comm.Isend(a, dest=self.right, tag=DATA)])
        return a

    def sum_of(self, a):
        """The sum over ranks of an array of any shape and type, as a new array."""
        return self.allreduce(np.array(a).reshape(-1)).reshape(a.shape)

    def leave(self):
        """Tell all that nothing more will come from here, and wait until they say so too."""
        others = [r for r in range(self.size) if r != self.rank]
        word = np.zeros(1, "u1")
        requests = [self.comm.Isend(word, dest=r, tag=LEFT) for r in others]
        heard = [np.empty(1, "u1") for _ in others]
        requests += [self.comm.Irecv(h, source=r, tag=LEFT) for h, r in zip(heard, others)]
        while not all(request.Test() for request in requests):
            time.sleep(0.001)
