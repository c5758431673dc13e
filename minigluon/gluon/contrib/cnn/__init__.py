"""A deformable convolution asks the picture where to look before it looks, and learns both by gradients."""

# Written from chapters/41b_deformable.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.cnn.conv_layers import (
    DeformableConvolution,
    ModulatedDeformableConvolution,
)

__all__ = ["DeformableConvolution", "ModulatedDeformableConvolution"]
