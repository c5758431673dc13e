"""A vocabulary turns words into numbers; an embedding file says where each word lies among the others."""

# Written from chapters/87_text.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import pkgutil

# --- A text as numbers ----------------------------------------------------------------------------

PARTS = {m.name: f"contrib.{m.name}" for m in pkgutil.iter_modules(globals().get("__path__", []))}
PARTS |= {"nd": "ndarray.contrib", "ndarray": "ndarray.contrib"}
PARTS |= {"sym": "symbol.contrib", "symbol": "symbol.contrib"}
PARTS |= {"quant": "contrib.quantization"}
__all__ = [*PARTS]


def __getattr__(name):
    """Load a part on first use."""
    if name in PARTS:
        return importlib.import_module(f"minigluon.{PARTS[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {[*PARTS]}")


def __dir__():
    return [*PARTS]
