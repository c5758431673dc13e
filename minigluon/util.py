"""A file appears whole and verified or not at all, a batch falls into slices, and a gradient is cut to length."""

# Written from chapters/79_utilities.ipynb: edit the chapter, then run `minigluon export`.

import os
import threading

from minigluon.context import num_gpus

__all__ = [
    "NumpyScope",
    "get_gpu_count",
    "getenv",
    "is_np_array",
    "is_np_shape",
    "makedirs",
    "np_shape",
    "reset_np",
    "scope",
    "set_np",
    "set_np_shape",
    "setenv",
    "use_np",
    "use_np_array",
    "use_np_shape",
]


# --- MXNet's switches -----------------------------------------------------------------------------


class NumpyScope(threading.local):
    """Which of MXNet's NumPy semantics this thread has asked for."""

    shape = False


scope = NumpyScope()


def is_np_array():
    """Whether arrays are those of `mx.np`: never."""
    return False


def is_np_shape():
    """Whether shapes are read as NumPy reads them: 0 is a size, -1 is unknown."""
    return scope.shape


def set_np_shape(active):
    """Switch NumPy's reading of shapes on or off; return what it was."""
    before, scope.shape = scope.shape, bool(active)
    return before


class np_shape:
    """A `with` block, or a decorator, in which `is_np_shape()` is `active`."""

    def __init__(self, active=True):
        self.active = active

    def __enter__(self):
        self.before = set_np_shape(self.active)
        return self

    def __exit__(self, *_):
        set_np_shape(self.before)


def use_np(func):
    """A function or class as it is: all arrays here are `mx.nd`'s."""
    return func


use_np_array = use_np_shape = use_np


def set_np(shape=True, array=True):
    """Ask for NumPy's shapes; `array` has no effect, since there is no `mx.np`."""
    set_np_shape(shape)


def reset_np():
    """Back to MXNet's classical reading of shapes."""
    set_np_shape(False)


def makedirs(d):
    """Make a folder and its parents, if they are not there."""
    os.makedirs(os.path.expanduser(d), exist_ok=True)


def getenv(name):
    """An environment variable, or None."""
    return os.environ.get(name)


def setenv(name, value):
    """Set an environment variable; None removes it."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def get_gpu_count():
    """How many GPUs there are."""
    return num_gpus()
