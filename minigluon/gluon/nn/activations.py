"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb, chapters/44_activations.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import initializer
from minigluon.base import MXNetError
from minigluon.gluon.block import HybridBlock
from minigluon.ops.nn import ACTIVATIONS

__all__ = ["Activation", "ELU", "GELU", "LeakyReLU", "PReLU", "QUARTER", "SELU", "SiLU", "Swish"]


# --- Layers ---------------------------------------------------------------------------------------


class Activation(HybridBlock):
    """The elementwise function named by `activation`, as in `mx.nd.Activation`."""

    _node_names = {"activation": "fwd"}

    def __init__(self, activation, **kwargs):
        if activation not in ACTIVATIONS:
            raise MXNetError(
                f"unknown activation {activation!r}; known are {', '.join(ACTIVATIONS)}"
            )
        self._act_type = activation
        super().__init__(**kwargs)

    def _alias(self):
        return self._act_type

    def hybrid_forward(self, F, x):
        return F.Activation(x, act_type=self._act_type)

    def __repr__(self):
        return f"{type(self).__name__}({self._act_type})"


class LeakyReLU(HybridBlock):
    """x above 0, and `alpha` x below."""

    _node_names = {"leakyrelu": "fwd"}

    def __init__(self, alpha, **kwargs):
        assert alpha >= 0, "Slope coefficient for LeakyReLU must be no less than 0."
        super().__init__(**kwargs)
        self._alpha = alpha

    def hybrid_forward(self, F, x):
        return F.LeakyReLU(x, act_type="leaky", slope=self._alpha)

    def __repr__(self):
        return f"{type(self).__name__}({self._alpha})"


QUARTER = initializer.Constant(0.25)


class PReLU(HybridBlock):
    """x above 0 and α x below, with a learnt α for each of `in_channels` channels, or one for all."""

    _node_names = {"leakyrelu": "fwd"}

    def __init__(self, alpha_initializer=QUARTER, in_channels=1, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.alpha = self.params.get("alpha", shape=(in_channels,), init=alpha_initializer)

    def hybrid_forward(self, F, x, alpha):
        return F.LeakyReLU(x, gamma=alpha, act_type="prelu")


class ELU(HybridBlock):
    """x above 0, and `alpha` (e^x - 1) below: Clevert et al., 2016."""

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self._alpha = alpha

    def hybrid_forward(self, F, x):
        return F.LeakyReLU(x, act_type="elu", slope=self._alpha)


class SELU(HybridBlock):
    """The scaled elu that keeps mean 0 and variance 1: Klambauer et al., 2017."""

    _node_names = {"leakyrelu": "fwd"}

    def hybrid_forward(self, F, x):
        return F.LeakyReLU(x, act_type="selu")


class GELU(HybridBlock):
    """x times the probability that a normal number is below x: Hendrycks and Gimpel, 2016."""

    _node_names = {"leakyrelu": "fwd"}

    def hybrid_forward(self, F, x):
        return F.LeakyReLU(x, act_type="gelu")


class Swish(HybridBlock):
    """x σ(`beta` x): Ramachandran et al., 2017."""

    _node_names = {"sigmoid": "fwd"}

    def __init__(self, beta=1.0, **kwargs):
        super().__init__(**kwargs)
        self._beta = beta

    def hybrid_forward(self, F, x):
        return x * F.sigmoid(self._beta * x)


class SiLU(Swish):
    """x σ(x), the name that later releases give to `Swish()`."""

    def __init__(self, **kwargs):
        super().__init__(1.0, **kwargs)
