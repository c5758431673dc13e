"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb, chapters/41_convolution.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.block import Block, HybridBlock
from minigluon.gluon.nn.activations import Activation
from minigluon.gluon.nn.basic_layers import Dense, Flatten, HybridSequential, Sequential
from minigluon.gluon.nn.conv_layers import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
)

__all__ = [
    "Activation",
    "Block",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "Flatten",
    "HybridBlock",
    "HybridSequential",
    "Sequential",
]
