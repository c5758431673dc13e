"""One small window of weights, laid on every place of a picture: convolution, its adjoint, and how to make both fast."""

# Written from chapters/41_convolution.ipynb, chapters/43_normalization.ipynb, chapters/45_dropout_embedding.ipynb: edit the chapter, then run `minigluon export`.

import math

import minigluon.ndarray as nd
from minigluon.gluon.block import Block, HybridBlock
from minigluon.gluon.nn.basic_layers import Concatenate, Embedding, HybridConcatenate
from minigluon.gluon.nn.normalization import BatchNorm

__all__ = [
    "Concurrent",
    "HybridConcurrent",
    "PixelShuffle1D",
    "PixelShuffle2D",
    "PixelShuffle3D",
    "SparseEmbedding",
    "SyncBatchNorm",
]


# --- Pixel shuffle --------------------------------------------------------------------------------


class _PixelShuffle(HybridBlock):
    """(n, f·c, sizes…) to (n, c, enlarged sizes…), f the product of the factors."""

    _axes = 0

    def __init__(self, factor):
        super().__init__()
        try:
            self._factors = (int(factor),) * self._axes
        except TypeError:
            self._factors = tuple(int(f) for f in factor)
            assert len(self._factors) == self._axes, f"wrong length {len(self._factors)}"

    def hybrid_forward(self, F, x):
        k, sizes = self._axes, (0,) * self._axes
        x = F.reshape(x, (0, -4, -1, math.prod(self._factors), *sizes))  # (n, c, f, sizes…)
        for i in range(1, k):  # … and f as f1, f2, …
            split = -4, self._factors[i - 1], math.prod(self._factors[i:])
            x = F.reshape(x, (*(0,) * (i + 1), *split, *sizes))
        # each size before its factor
        order = [axis for i in range(k) for axis in (2 + k + i, 2 + i)]
        return F.reshape(F.transpose(x, (0, 1, *order)), (0, 0, *(-3,) * k))

    def __repr__(self):
        return f"{type(self).__name__}({self._factors})"


class PixelShuffle1D(_PixelShuffle):
    """(n, f·c, w) to (n, c, w·f)."""

    _axes = 1

    def __init__(self, factor):
        super().__init__(int(factor))

    def __repr__(self):
        return f"{type(self).__name__}({self._factors[0]})"


class PixelShuffle2D(_PixelShuffle):
    """(n, f1·f2·c, h, w) to (n, c, h·f1, w·f2)."""

    _axes = 2


class PixelShuffle3D(_PixelShuffle):
    """(n, f1·f2·f3·c, d, h, w) to (n, c, d·f1, h·f2, w·f3)."""

    _axes = 3

    def hybrid_forward(self, F, x):
        left = math.prod(self._factors)
        x = F.reshape(x, (0, -4, -1, left, 0, 0, 0))
        for i, f in enumerate(self._factors):  # by swaps: MXNet transposes no more than six axes
            x, left = F.swapaxes(x, dim1=2 + i, dim2=3 + i), left // f
            if i < 2:
                x = F.reshape(x, (*(0,) * (3 + i), -4, f, left, *(0,) * (2 - i)))
            x = F.reshape(x, (*(0,) * (2 + i), -3, *(0,) * (3 - i if i < 2 else 0)))
        return x


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
    """`Embedding` whose weight and gradient are stored by rows."""

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
            stype="row_sparse",
        )

    def forward(self, x):
        return nd.Embedding(x, self.weight.row_sparse_data(x), **self._kwargs)

    __repr__ = Embedding.__repr__
