"""One small window of weights, laid on every place of a picture: convolution, its adjoint, and how to make both fast."""

# Written from chapters/41_convolution.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.nn.basic_layers import PixelShuffle1D, PixelShuffle2D, PixelShuffle3D

__all__ = ["PixelShuffle1D", "PixelShuffle2D", "PixelShuffle3D"]
