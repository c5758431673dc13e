"""Four layers that keep numbers in a good range are one formula over four sets of axes."""

# Written from chapters/43_normalization.ipynb, chapters/45_dropout_embedding.ipynb: edit the chapter, then run `minigluon export`.

import minigluon.ndarray as nd
from minigluon.gluon.block import Block
from minigluon.gluon.nn.basic_layers import Concatenate, Embedding, HybridConcatenate
from minigluon.gluon.nn.normalization import BatchNorm

__all__ = ["Concurrent", "HybridConcurrent", "SparseEmbedding", "SyncBatchNorm"]


# --- Layers ---------------------------------------------------------------------------------------


class SyncBatchNorm(BatchNorm):
    """`BatchNorm` for several devices; each normalizes by its own part of the batch."""

    _node_names = {"_contrib_syncbatchnorm": "fwd", "syncbatchnorm": "fwd"}

    def __init__(
        self,
        in_channels=0,
        num_devices=None,
        momentum=0.9,
        epsilon=1e-5,
        center=True,
        scale=True,
        use_global_stats=False,
        beta_initializer="zeros",
        gamma_initializer="ones",
        running_mean_initializer="zeros",
        running_variance_initializer="ones",
        **kwargs,
    ):
        super().__init__(
            1,
            momentum,
            epsilon,
            center,
            scale,
            use_global_stats,
            beta_initializer,
            gamma_initializer,
            running_mean_initializer,
            running_variance_initializer,
            in_channels,
            **kwargs,
        )
        del self._kwargs["axis"]
        self._kwargs = {"eps": self._kwargs.pop("eps"), **self._kwargs}
        self._kwargs |= {"ndev": num_devices or 1, "key": self.prefix}

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        settings = self._kwargs
        return F.contrib.SyncBatchNorm(x, gamma, beta, running_mean, running_var, **settings)


# --- Side by side ---------------------------------------------------------------------------------


class Concurrent(Concatenate):
    """The outputs of all blocks for the same input, concatenated along `axis`."""


class HybridConcurrent(HybridConcatenate):
    """The outputs of all HybridBlocks for the same input, concatenated along `axis`."""


class SparseEmbedding(Block):
    """`Embedding` whose gradient is stored by rows."""

    def __init__(self, input_dim, output_dim, dtype="float32", weight_initializer=None, **kwargs):
        super().__init__(**kwargs)
        self._kwargs = {"input_dim": input_dim, "output_dim": output_dim}
        self._kwargs |= {"dtype": dtype, "sparse_grad": True}
        self.weight = self.params.get(
            "weight",
            shape=(input_dim, output_dim),
            init=weight_initializer,
            dtype=dtype,
            grad_stype="row_sparse",
        )

    def forward(self, x):
        return nd.Embedding(x, self.weight.data(x.context), **self._kwargs)

    __repr__ = Embedding.__repr__
