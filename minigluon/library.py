"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

import os

from minigluon.base import MXNetError

__all__ = ["load"]


# --- What it runs on ------------------------------------------------------------------------------


def load(path, verbose=True):
    """Load a compiled library of operators: MXNetError, for here operators are functions in Python."""
    if not os.path.isabs(path) or not os.path.exists(path):
        raise MXNetError(f"load path {path} is not an absolute path, or does NOT exist")
    raise MXNetError(
        f"{path} is compiled for MXNet; minigluon has no library in C++: "
        "write the operator in Python, with "
        "mx.operator, or its kernel in CUDA, with mx.rtc"
    )
