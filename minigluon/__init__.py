"""Chapters in, modules out: the book's own tools, written in the book."""

# Written from chapters/99_colophon.ipynb: edit the chapter, then run `minigluon export`.

import difflib
import importlib

# --- The package's face ---------------------------------------------------------------------------

__version__ = "0.1.0"


MODULES = {
    "attribute": "attribute",
    "autograd": "autograd",
    "base": "base",
    "callback": "callback",
    "context": "context",
    "contrib": "contrib",
    "engine": "engine",
    "error": "error",
    "executor": "executor",
    "executor_manager": "executor_manager",
    "gluon": "gluon",
    "image": "image",
    "img": "image",
    "init": "initializer",
    "initializer": "initializer",
    "io": "io",
    "kv": "kvstore",
    "kvstore": "kvstore",
    "libinfo": "libinfo",
    "library": "library",
    "log": "log",
    "lr_scheduler": "lr_scheduler",
    "metric": "metric",
    "mod": "module",
    "model": "model",
    "module": "module",
    "mon": "monitor",
    "monitor": "monitor",
    "name": "name",
    "notebook": "notebook",
    "nd": "ndarray",
    "ndarray": "ndarray",
    "onnx": "onnx",
    "operator": "operator",
    "np": "numpy",
    "npx": "numpy_extension",
    "numpy": "numpy",
    "numpy_extension": "numpy_extension",
    "optimizer": "optimizer",
    "profiler": "profiler",
    "random": "random",
    "recordio": "recordio",
    "rnd": "random",
    "rnn": "rnn",
    "rtc": "rtc",
    "runtime": "runtime",
    "sym": "symbol",
    "symbol": "symbol",
    "test_utils": "test_utils",
    "th": "th",
    "util": "util",
    "visualization": "visualization",
    "viz": "visualization",
}


MEMBERS = {
    "AttrScope": "attribute",
    "Context": "context",
    "cpu": "context",
    "cpu_pinned": "context",
    "current_context": "context",
    "gpu": "context",
    "num_gpus": "context",
    "MXNetError": "base",
    "is_np_array": "util",
    "is_np_shape": "util",
    "np_shape": "util",
    "set_np_shape": "util",
    "use_np": "util",
    "use_np_array": "util",
    "use_np_shape": "util",
    "np_array": "util",
}
__all__ = [*MODULES, *MEMBERS]


def __getattr__(name):
    """Load a part of the package on first use."""
    if name in MODULES:
        found = importlib.import_module(f"{__name__}.{MODULES[name]}")
        if name in ("nd", "ndarray", "sym", "symbol"):
            dir(found)  # loads the catalogue, and so gives arrays their methods
    elif name in MEMBERS:
        found = getattr(importlib.import_module(f"{__name__}.{MEMBERS[name]}"), name)
    else:
        close = difflib.get_close_matches(name, [*MODULES, *MEMBERS], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    globals()[name] = found  # the next look-up costs nothing
    return found


def __dir__():
    return sorted({*globals(), *MODULES, *MEMBERS})
