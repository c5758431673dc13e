"""Four layers that keep numbers in a good range are one formula over four sets of axes."""

# Written from chapters/43_normalization.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.gluon.block import HybridBlock

__all__ = ["BatchNorm", "BatchNormReLU", "GroupNorm", "InstanceNorm", "LayerNorm", "Normalization"]


# --- Layers ---------------------------------------------------------------------------------------


class Normalization(HybridBlock):
    """What the layers share: γ and β, each learnt or not."""

    def _gain_and_offset(self, size, scale, center, gamma, beta, final=False):
        """Register γ and β with one number a channel; 0 channels are learnt from the first batch.

        `final`: what is not learnt never will be, also where a program sets `grad_req` of all
        parameters.
        """
        for name, learnt, init in (("gamma", scale, gamma), ("beta", center, beta)):
            found = self.params.get(
                name,
                grad_req="write" if learnt else "null",
                shape=(size,),
                init=init,
                allow_deferred_init=True,
                differentiable=learnt or not final,
            )
            setattr(self, name, found)

    def _channels(self):
        """How many channels there are, as far as is known."""
        return self.gamma.shape[0]


class BatchNorm(Normalization):
    """Normalizes each channel, `axis`, over the batch and all places; with running statistics in use."""

    _node_names = {"batchnorm": "fwd"}

    def __init__(
        self,
        axis=1,
        momentum=0.9,
        epsilon=1e-5,
        center=True,
        scale=True,
        use_global_stats=False,
        beta_initializer="zeros",
        gamma_initializer="ones",
        running_mean_initializer="zeros",
        running_variance_initializer="ones",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._kwargs = {"axis": axis, "eps": epsilon, "momentum": momentum}
        self._kwargs |= {"fix_gamma": not scale, "use_global_stats": use_global_stats}
        self._axis, self._in_channels = axis, in_channels
        made = gamma_initializer, beta_initializer
        self._gain_and_offset(in_channels, scale, center, *made, final=True)
        self.running_mean = self._statistic("running_mean", running_mean_initializer)
        self.running_var = self._statistic("running_var", running_variance_initializer)

    def _statistic(self, name, init):
        """A parameter that is not learnt, but moved."""
        return self.params.get(
            name,
            grad_req="null",
            shape=(self._in_channels,),
            init=init,
            allow_deferred_init=True,
            differentiable=False,
        )

    def cast(self, dtype):
        """Convert to `dtype`; parameters and statistics stay at least in single precision."""
        super().cast("float32" if np.dtype(dtype).itemsize == 2 else dtype)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return F.BatchNorm(x, gamma, beta, running_mean, running_var, **self._kwargs)

    def __repr__(self):
        settings = ", ".join(f"{k}={v!r}" for k, v in self._kwargs.items())
        return f"{type(self).__name__}({settings}, in_channels={self._channels() or None})"


class BatchNormReLU(BatchNorm):
    """`BatchNorm` followed by a relu."""

    _node_names = {"_contrib_batchnormwithrelu": "fwd", "batchnormwithrelu": "fwd"}

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        settings = self._kwargs
        return F.contrib.BatchNormWithReLU(x, gamma, beta, running_mean, running_var, **settings)


class LayerNorm(Normalization):
    """Normalizes each position over one axis, by default the last."""

    def __init__(
        self,
        axis=-1,
        epsilon=1e-5,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        in_channels=0,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
        self._kwargs = {"eps": epsilon, "axis": axis, "center": center, "scale": scale}
        self._axis, self._epsilon = axis, epsilon
        self._gain_and_offset(in_channels, scale, center, gamma_initializer, beta_initializer)

    def hybrid_forward(self, F, data, gamma, beta):
        return F.LayerNorm(data, gamma=gamma, beta=beta, axis=self._axis, eps=self._epsilon)

    def __repr__(self):
        settings = ", ".join(f"{k}={v!r}" for k, v in self._kwargs.items())
        return f"{type(self).__name__}({settings}, in_channels={self._channels()})"


class GroupNorm(Normalization):
    """Normalizes each of `num_groups` groups of channels of each sample."""

    def __init__(
        self,
        num_groups=1,
        epsilon=1e-5,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
        self._kwargs = {"eps": epsilon, "num_groups": num_groups, "center": center, "scale": scale}
        self._num_groups, self._epsilon = num_groups, epsilon
        self._gain_and_offset(num_groups, scale, center, gamma_initializer, beta_initializer)

    def hybrid_forward(self, F, data, gamma, beta):
        return F.GroupNorm(
            data, gamma=gamma, beta=beta, num_groups=self._num_groups, eps=self._epsilon
        )

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._kwargs.items())})"


class InstanceNorm(Normalization):
    """Normalizes each channel, `axis`, of each sample over its places."""

    _node_names = {"instancenorm": "fwd"}

    def __init__(
        self,
        axis=1,
        epsilon=1e-5,
        center=True,
        scale=False,
        beta_initializer="zeros",
        gamma_initializer="ones",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._kwargs = {"eps": epsilon, "axis": axis, "center": center, "scale": scale}
        self._axis, self._epsilon = axis, epsilon
        self._gain_and_offset(in_channels, scale, center, gamma_initializer, beta_initializer)

    def hybrid_forward(self, F, x, gamma, beta):
        if self._axis == 1:
            return F.InstanceNorm(x, gamma, beta, eps=self._epsilon)
        x = x.swapaxes(1, self._axis)
        return F.InstanceNorm(x, gamma, beta, eps=self._epsilon).swapaxes(1, self._axis)

    def __repr__(self):
        settings = ", ".join(f"{k}={v!r}" for k, v in self._kwargs.items())
        return f"{type(self).__name__}({settings}, in_channels={self._channels()})"
