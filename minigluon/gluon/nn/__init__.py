"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.block import Block, HybridBlock
from minigluon.gluon.nn.activations import Activation
from minigluon.gluon.nn.basic_layers import Dense, Flatten, HybridSequential, Sequential

__all__ = [
    "Activation",
    "Block",
    "Dense",
    "Flatten",
    "HybridBlock",
    "HybridSequential",
    "Sequential",
]
