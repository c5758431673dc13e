"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import pkgutil

# --- The package gluon ----------------------------------------------------------------------------

HERE = {m.name for m in pkgutil.iter_modules(globals().get("__path__", []))}
PARTS = [  # those that are here
    "block",
    "contrib",
    "data",
    "loss",
    "model_zoo",
    "nn",
    "parameter",
    "rnn",
    "trainer",
    "utils",
]
PARTS = [part for part in PARTS if part in HERE]
CLASSES = {
    "Block": "block",
    "Constant": "parameter",
    "DeferredInitializationError": "parameter",
    "HybridBlock": "block",
    "Parameter": "parameter",
    "ParameterDict": "parameter",
    "SymbolBlock": "hybrid",
    "Trainer": "trainer",
}
__all__ = [*CLASSES, *PARTS]


def __getattr__(name):
    """Load a part on first use."""
    if name in PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in CLASSES:
        return getattr(importlib.import_module(f"{__name__}.{CLASSES[name]}"), name)
    known = ", ".join((*CLASSES, *PARTS))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {known}")


def __dir__():
    return sorted((*CLASSES, *PARTS))
