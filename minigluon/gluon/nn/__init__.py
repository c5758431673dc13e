"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb, chapters/43_normalization.ipynb, chapters/44_activations.ipynb, chapters/45_dropout_embedding.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.block import Block, HybridBlock
from minigluon.gluon.nn.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    LeakyReLU,
    PReLU,
    SiLU,
    Swish,
)
from minigluon.gluon.nn.basic_layers import (
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    HybridConcatenate,
    HybridLambda,
    HybridSequential,
    Identity,
    Lambda,
    Sequential,
)
from minigluon.gluon.nn.normalization import (
    BatchNorm,
    BatchNormReLU,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
)

__all__ = [
    "Activation",
    "BatchNorm",
    "BatchNormReLU",
    "Block",
    "Concatenate",
    "Dense",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "GroupNorm",
    "HybridBlock",
    "HybridConcatenate",
    "HybridLambda",
    "HybridSequential",
    "Identity",
    "InstanceNorm",
    "Lambda",
    "LayerNorm",
    "LeakyReLU",
    "PReLU",
    "SELU",
    "Sequential",
    "SiLU",
    "Swish",
]
