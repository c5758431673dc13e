"""Four layers that keep numbers in a good range are one formula over four sets of axes."""

# Written from chapters/43_normalization.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib import nn

__all__ = ["nn"]
