"""What NumPy's names mean in operators: a choice of numbers, a product, a shape; the gradients come with them."""

# Written from chapters/24b_numpy_functions.ipynb: edit the chapter, then run `minigluon export`.

import builtins
import importlib

import numpy as onp

# --- The names of mx.np ---------------------------------------------------------------------------

PARTS = ("linalg", "random", "multiarray", "scope")
OLDER = "NAN NINF NZERO NaN PINF PZERO alltrue msort product round_ row_stack sometrue trapz"


def __getattr__(name):
    """A part, one of our functions, a name of NumPy's, or a function that NumPy carries out."""
    if name in PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__all__":
        return __dir__()
    if name == "bool":
        return builtins.bool
    ours = importlib.import_module(f"{__name__}.multiarray")
    if name in public(ours):
        found = getattr(ours, name)
    elif name in ours.NAMES:
        found = getattr(onp, name)
    elif name in ours.FALLBACK and hasattr(onp, name):
        found = ours.by_numpy(name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def public(ours):
    """What programs may ask for: our functions under names that NumPy has, or had."""
    return {n for n in ours.__all__ if n in OLDER.split() or (n[0] != "_" and hasattr(onp, n))}


def __dir__():
    ours = importlib.import_module(f"{__name__}.multiarray")
    borrowed = {n for n in ours.FALLBACK if hasattr(onp, n)}
    return sorted({*public(ours), *ours.NAMES, *borrowed, "bool", "linalg", "random"})
