"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.block import HybridBlock

__all__ = ["Activation"]


# --- Layers ---------------------------------------------------------------------------------------


class Activation(HybridBlock):
    """The elementwise function named by `activation`, as in `mx.nd.Activation`."""

    _node_names = {"activation": "fwd"}

    def __init__(self, activation, **kwargs):
        self._act_type = activation
        super().__init__(**kwargs)

    def _alias(self):
        return self._act_type

    def hybrid_forward(self, F, x):
        return F.Activation(x, act_type=self._act_type)

    def __repr__(self):
        return f"{type(self).__name__}({self._act_type})"
