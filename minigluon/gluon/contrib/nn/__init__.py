"""One small window of weights, laid on every place of a picture: convolution, its adjoint, and how to make both fast."""

# Written from chapters/41_convolution.ipynb, chapters/43_normalization.ipynb, chapters/45_dropout_embedding.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.nn.basic_layers import (
    Concurrent,
    HybridConcurrent,
    PixelShuffle1D,
    PixelShuffle2D,
    PixelShuffle3D,
    SparseEmbedding,
    SyncBatchNorm,
)
from minigluon.gluon.nn.basic_layers import Identity

__all__ = [
    "Concurrent",
    "HybridConcurrent",
    "Identity",
    "PixelShuffle1D",
    "PixelShuffle2D",
    "PixelShuffle3D",
    "SparseEmbedding",
    "SyncBatchNorm",
]
