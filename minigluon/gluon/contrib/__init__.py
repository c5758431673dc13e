"""One small window of weights, laid on every place of a picture: convolution, its adjoint, and how to make both fast."""

# Written from chapters/41_convolution.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib import nn

__all__ = ["nn"]
