"""An NDArray is a block of numbers, a shape to read them by, and the place where they live."""

# Written from chapters/02_arrays.ipynb: edit the chapter, then run `minigluon export`.

import threading

import numpy as np

from minigluon.base import MXNetError

__all__ = [
    "Context",
    "DEFAULT",
    "cpu",
    "cpu_pinned",
    "cupy_or_none",
    "current_context",
    "gpu",
    "num_gpus",
    "put",
]


# --- Contexts -------------------------------------------------------------------------------------


class Context:
    """A device: `Context('cpu', 0)`; as a `with` block it becomes the default for new arrays."""

    devtype2str = {1: "cpu", 2: "gpu", 3: "cpu_pinned", 5: "cpu_shared"}
    devstr2type = {name: number for number, name in devtype2str.items()}
    _current = threading.local()

    def __init__(self, device_type, device_id=0):
        if isinstance(device_type, Context):
            device_type, device_id = device_type.device_type, device_type.device_id
        if device_type not in self.devstr2type:
            known = ", ".join(self.devstr2type)
            raise ValueError(f"Context({device_type!r}): unknown device type; known are {known}")
        self.device_type, self.device_id = device_type, int(device_id)
        self.device_typeid = self.devstr2type[device_type]
        self._outer = []

    def __eq__(self, other):
        return isinstance(other, Context) and self._key() == other._key()

    def __hash__(self):
        return hash(self._key())

    def _key(self):
        return self.device_typeid, self.device_id

    def __repr__(self):
        return f"{self.device_type}({self.device_id})"

    def __enter__(self):
        self._outer.append(current_context())
        Context._current.value = self
        return self

    def __exit__(self, *_):
        Context._current.value = self._outer.pop()

    def __reduce__(self):
        return Context, (self.device_type, self.device_id)

    def empty_cache(self):
        """Give cached device memory back; on a CPU there is none."""


def cpu(device_id=0):
    """The CPU. Numbers above 0 name the same memory, which lets one machine play several."""
    return Context("cpu", device_id)


def gpu(device_id=0):
    """A GPU; naming one that is not there is no error, putting an array on it is."""
    return Context("gpu", device_id)


def cpu_pinned(device_id=0):
    """Page-locked CPU memory; without a GPU, ordinary memory."""
    return Context("cpu_pinned", device_id)


def current_context():
    """The context that new arrays get: the innermost `with` block's, at first `cpu(0)`."""
    return getattr(Context._current, "value", None) or DEFAULT


DEFAULT = cpu()


def num_gpus():
    """How many GPUs can be used: 0 without CuPy or without a driver."""
    cupy = cupy_or_none()
    return (
        cupy.cuda.runtime.getDeviceCount() if cupy is not None and cupy.cuda.is_available() else 0
    )


def cupy_or_none():
    """CuPy, if it is installed."""
    try:
        import cupy
    except ImportError:
        return None
    return cupy


def put(raw, ctx):
    """The raw array `raw` in the memory of `ctx`; raises MXNetError where there is no such GPU."""
    if ctx.device_type != "gpu":
        return raw if isinstance(raw, np.ndarray) else raw.get()
    if ctx.device_id >= (found := num_gpus()):
        raise MXNetError(
            f"{ctx} is not available: {found} GPUs found. Use mx.cpu(), or install CuPy "
            "(pip install 'minigluon[cuda13]') on a machine with an NVIDIA GPU"
        )
    cupy = cupy_or_none()
    with cupy.cuda.Device(ctx.device_id):
        return cupy.asarray(raw)
