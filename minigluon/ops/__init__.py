"""One seed, one stream; and the namespace through which all operators are seen."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import pkgutil

__all__ = ["load"]


# --- The namespace --------------------------------------------------------------------------------


def load():
    """Import every module of the catalogue, and so register every operator."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
