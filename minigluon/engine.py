"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

from contextlib import contextmanager

__all__ = ["bulk", "set_bulk_size", "size"]


# --- What it runs on ------------------------------------------------------------------------------

size = 15


def set_bulk_size(size):
    """Note how many operators MXNet would run in bulk; the number before. Nothing else changes."""
    before, globals()["size"] = globals()["size"], size
    return before


@contextmanager
def bulk(size):
    """A `with` block with another bulk size."""
    before = set_bulk_size(size)
    try:
        yield
    finally:
        set_bulk_size(before)
