"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import pkgutil

# --- Samplers -------------------------------------------------------------------------------------

PARTS = sorted(m.name for m in pkgutil.iter_modules(globals().get("__path__", [])))
__all__ = [*PARTS]


def __getattr__(name):
    """Load a part on first use."""
    if name in PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {PARTS}")


def __dir__():
    return PARTS
