"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.base import MXNetError

__all__ = ["KVStoreServer"]


# --- What it runs on ------------------------------------------------------------------------------


class KVStoreServer:
    """The loop of a server of MXNet's store; here machines form a ring, and none is a server."""

    def __init__(self, kvstore):
        self.kvstore, self.handle, self.init_logging = kvstore, None, False

    def run(self):
        """MXNetError, which says how several machines are started."""
        raise MXNetError(
            "there are no servers: start every machine as a worker, "
            "mpirun -n 4 python train.py, and make the "
            "store by mx.kv.create('dist_sync')"
        )
