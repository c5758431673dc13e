"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import os
import sys

__all__ = ["inherit"]


# --- Names in other places ------------------------------------------------------------------------


def inherit(folder):
    """Let `import mxnet` mean what it means in the process that started this one;
    under another Python what it means there.
    """
    sys.path[:] = [place for place in sys.path if place != folder]
    del sys.modules["mxnet"]
    if os.environ.get("MINIGLUON_ALIAS") == sys.prefix:
        root = os.path.dirname(os.path.dirname(folder))
        if root not in sys.path:
            sys.path.append(root)
        importlib.import_module("minigluon.mxnet").install()
    importlib.import_module("mxnet")


if __name__ == "mxnet":  # found on the path
    inherit(os.path.dirname(__file__))
