"""An operator is a function on arrays that does not know what an array is."""

# Written from chapters/01_operators.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import pkgutil
from functools import cache

__all__ = ["cache", "load"]


# --- The catalogue --------------------------------------------------------------------------------

# a graph of a thousand calls asks a thousand times, and looking into a folder takes a millisecond
@cache
def load():
    """Import every module of the catalogue, and so register every operator."""
    folder = importlib.import_module("minigluon.ops")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"minigluon.ops.{module.name}")
