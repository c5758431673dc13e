"""The older way to feed a network: an iterator that knows the names and shapes of its arrays before the first batch."""

# Written from chapters/86_io.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

import minigluon.ndarray as nd
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.sparse import CSRNDArray

__all__ = ["as_array", "is_stored", "rows"]


# --- Names and arrays -----------------------------------------------------------------------------


def _init_data(data, allow_empty, default_name):
    """Arrays as a sorted list of (name, array): from an array, a list, or a dict with names."""
    assert data is not None or allow_empty, "data must not be None"
    if data is None:
        data = []
    elif isinstance(data, np.ndarray | NDArray) or is_stored(data):
        data = [data]
    if isinstance(data, list):
        assert data or allow_empty, "data must hold at least one array"
        several = len(data) > 1
        data = {
            (f"_{i}_{default_name}" if several else default_name): d for i, d in enumerate(data)
        }
    if not isinstance(data, dict):
        raise TypeError(
            "Input must be NDArray, numpy.ndarray, h5py.Dataset a list of them or dict with them as "
            f"values, not {type(data)}"
        )
    return sorted((name, as_array(name, value)) for name, value in data.items())


def as_array(name, value):
    """A value of the input as an NDArray; what is stored in a file stays there."""
    if isinstance(value, NDArray | CSRNDArray) or is_stored(value):
        return value
    try:
        return nd.array(value)
    except Exception as error:
        raise TypeError(
            f"Invalid type '{type(value)}' for {name}, should be NDArray, numpy.ndarray or h5py.Dataset"
        ) from error


def is_stored(value):
    """Whether a value is a dataset of h5py, which is read piece by piece."""
    return type(value).__module__.startswith("h5py") and hasattr(value, "shape")


def _has_instance(data, dtype):
    """Whether one of the (name, array) is of a type."""
    return any(isinstance(a, dtype) for _, a in data)


def _getdata_by_idx(data, idx):
    """The (name, array) with their rows in the order of `idx`."""
    return [(name, a if is_stored(a) else rows(a, idx)) for name, a in data]


def rows(a, idx):
    """Some rows of an array, dense or sparse."""
    numbers = a.asnumpy()[idx]
    taken = nd.array(numbers, a.context, numbers.dtype)
    return taken.tostype("csr") if isinstance(a, CSRNDArray) else taken
