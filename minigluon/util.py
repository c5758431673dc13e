"""A file appears whole and verified or not at all, a batch falls into slices, and a gradient is cut to length."""

# Written from chapters/79_utilities.ipynb: edit the chapter, then run `minigluon export`.

import os

from minigluon.context import gpu_memory_info, num_gpus
from minigluon.numpy import scope

__all__ = [
    "get_gpu_count",
    "get_gpu_memory",
    "getenv",
    "is_np_array",
    "is_np_shape",
    "makedirs",
    "np_array",
    "np_shape",
    "reset_np",
    "set_np",
    "set_np_shape",
    "setenv",
    "use_np",
    "use_np_array",
    "use_np_shape",
]


# --- MXNet's switches -----------------------------------------------------------------------------

is_np_array, is_np_shape = scope.is_np_array, scope.is_np_shape
set_np, reset_np, set_np_shape = scope.set_np, scope.reset_np, scope.set_np_shape
np_array, np_shape = scope.np_array, scope.np_shape
use_np, use_np_array, use_np_shape = scope.use_np, scope.use_np_array, scope.use_np_shape


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


def get_gpu_memory(gpu_dev_id):
    """Bytes of a GPU's memory: (free, all); MXNetError if there is no such GPU."""
    return gpu_memory_info(gpu_dev_id)
