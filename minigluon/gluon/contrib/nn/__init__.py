"""Four layers that keep numbers in a good range are one formula over four sets of axes."""

# Written from chapters/43_normalization.ipynb, chapters/45_dropout_embedding.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.nn.basic_layers import (
    Concurrent,
    HybridConcurrent,
    SparseEmbedding,
    SyncBatchNorm,
)
from minigluon.gluon.nn.basic_layers import Identity

__all__ = ["Concurrent", "HybridConcurrent", "Identity", "SparseEmbedding", "SyncBatchNorm"]
