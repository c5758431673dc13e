"""Each machine talks to its right neighbour only, and still everybody ends up with the sum."""

# Written from chapters/70y_machines.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.base import MXNetError
from minigluon.context import cupy_or_none
from minigluon.kvstore import kvstore
from minigluon.kvstore.kvstore import KVStore

__all__ = ["NCCLKVStore"]


# --- NCCL -----------------------------------------------------------------------------------------


class NCCLKVStore(KVStore):
    """A store for several GPUs of one process: dense sums by NCCL, the rest as in 'device'.

    It follows the documentation of CuPy and NCCL; it has not been run on several GPUs. The order of
    NCCL's sums is NCCL's. MXNetError where CuPy has no NCCL.
    """

    def __init__(self, type="nccl"):
        super().__init__(type)
        cupy = cupy_or_none()
        if cupy is None or not cupy.cuda.nccl.available:
            raise MXNetError("kvstore 'nccl' needs CuPy with NCCL and NVIDIA GPUs: use 'device'")
        self._nccl, self._circles = cupy.cuda.nccl, {}

    def _totals(self, given):
        for arrays in given.values():
            kinds = {(a.context.device_type, a.stype) for a in arrays}
            if len(arrays) > 1 and kinds == {("gpu", "default")} and self._threshold is None:
                self._allreduce(arrays)
                del arrays[1:]  # the first has the sum
        return super()._totals(given)

    def _allreduce(self, arrays):
        devices = tuple(a.context.device_id for a in arrays)
        if devices not in self._circles:
            self._circles[devices] = self._nccl.NcclCommunicator.initAll(list(devices))
        nccl, cupy = self._nccl, cupy_or_none()
        code = {"e": nccl.NCCL_FLOAT16, "f": nccl.NCCL_FLOAT32, "d": nccl.NCCL_FLOAT64}
        nccl.groupStart()
        for circle, a in zip(self._circles[devices], arrays):
            with cupy.cuda.Device(a.context.device_id):
                at, stream = a._data.data.ptr, cupy.cuda.get_current_stream().ptr
                circle.allReduce(at, at, a.size, code[a._data.dtype.char], nccl.NCCL_SUM, stream)
        nccl.groupEnd()


kvstore.makers["nccl"] = NCCLKVStore
