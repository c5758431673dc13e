"""Each machine talks to its right neighbour only, and still everybody ends up with the sum."""

# Written from chapters/70y_machines.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.kvstore import base, kvstore, mpi, nccl
from minigluon.kvstore.base import KVStoreBase, TestStore
from minigluon.kvstore.kvstore import KVStore, create

# --- The package ----------------------------------------------------------------------------------

__all__ = ["KVStore", "KVStoreBase", "TestStore", "base", "create", "kvstore", "mpi", "nccl"]
