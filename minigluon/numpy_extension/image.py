"""Random numbers that pass gradients on, the functions of layers, and graphs of calls that are taken apart when shapes are known."""

# Written from chapters/24c_numpy_networks.ipynb: edit the chapter, then run `minigluon export`.

import importlib

# --- Layers' functions: mx.npx --------------------------------------------------------------------

PARTS = "minigluon.ndarray.image", "minigluon.image"


def __getattr__(name):
    """An operator on images, or what `mx.image` has."""
    for part in map(importlib.import_module, PARTS):
        if not name.startswith("__") and hasattr(part, name):
            return getattr(part, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({n for part in PARTS for n in dir(importlib.import_module(part))})
