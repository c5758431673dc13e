"""Whatever happens, at any moment: on the disk there is a whole model, the old one or the new one."""

# Written from chapters/73_checkpoints.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray, array
from minigluon.ndarray.utils import path_of, replace_file

__all__ = ["library", "load", "save"]


# --- Safetensors ----------------------------------------------------------------------------------


def library():
    """The functions of the package safetensors; MXNetError if it is not installed."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MXNetError("safetensors is not installed: pip install safetensors") from error
    return safetensors.numpy


def save(fname, data, metadata=None):
    """Write {name: dense NDArray} to a safetensors file, whole or not at all.

    `metadata` is a dictionary of texts. TypeError for other data, OSError if it cannot be written.
    """
    if not isinstance(data, dict) or not all(
        isinstance(name, str) and isinstance(a, NDArray) and a.stype == "default"
        for name, a in data.items()
    ):
        raise TypeError("save takes a dict {str: dense NDArray}")
    raw = {name: np.ascontiguousarray(a.asnumpy()) for name, a in data.items()}
    replace_file(path_of(fname), [library().save(raw, metadata)])


def load(fname, ctx=None):
    """The arrays of a safetensors file on `ctx`, {name: NDArray}; MXNetError if it is none."""
    path = path_of(fname)
    with open(path, "rb") as file:
        data = file.read()
    try:
        found = library().load(data)
    except MXNetError:
        raise
    except Exception as error:  # the library's own class, KeyError for types NumPy does not have
        raise MXNetError(f"{path} is no safetensors file that can be read: {error}") from error
    return {name: array(a, ctx, a.dtype) for name, a in found.items()}
