"""An operator is a function on arrays that does not know what an array is."""

# Written from chapters/01_operators.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import pkgutil

__all__ = ["load"]


# --- The catalogue --------------------------------------------------------------------------------


def load():
    """Import every module of the catalogue, and so register every operator."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
