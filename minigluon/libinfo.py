"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

__all__ = ["find_include_path", "find_lib_path"]


# --- What it runs on ------------------------------------------------------------------------------

__version__ = "1.9.1"  # of the MXNet whose behaviour this is


def find_lib_path(prefix="libmxnet"):
    """MXNet's library; RuntimeError, for here everything is Python."""
    raise RuntimeError(
        f"Cannot find {prefix}: minigluon has no library in C++, it is Python on NumPy"
    )


def find_include_path():
    """MXNet's headers; RuntimeError, for here are none."""
    raise RuntimeError(
        "Cannot find include path: minigluon has no headers in C++, it is Python on NumPy"
    )
