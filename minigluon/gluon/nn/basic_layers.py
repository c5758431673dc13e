"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb: edit the chapter, then run `minigluon export`.

import warnings

from minigluon.gluon.block import Block, HybridBlock
from minigluon.gluon.nn.activations import Activation

__all__ = ["Chain", "Dense", "Flatten", "HybridSequential", "Sequential"]


# --- Layers ---------------------------------------------------------------------------------------


class Dense(HybridBlock):
    """A fully connected layer: `activation(x W^T + b)`.

    Input (batch, …), flattened to (batch, in_units), or (…, in_units) with `flatten=False`; output
    (batch, units) or (…, units). `in_units` is learnt from the first batch if it is 0.
    """

    _node_names = {"fullyconnected": "fwd"}

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        flatten=True,
        dtype="float32",
        weight_initializer=None,
        bias_initializer="zeros",
        in_units=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._units, self._in_units, self._flatten = units, in_units, flatten
        known = {"dtype": dtype, "allow_deferred_init": True}
        with self.name_scope():
            self.weight = self.params.get(
                "weight", shape=(units, in_units), init=weight_initializer, **known
            )
            self.bias = self.act = None
            if use_bias:
                self.bias = self.params.get("bias", shape=(units,), init=bias_initializer, **known)
            if activation is not None:
                self.act = Activation(activation, prefix=activation + "_")

    # --- Layers -----------------------------------------------------------------------------------

    def hybrid_forward(self, F, x, weight, bias=None):
        no_bias = bias is None
        y = F.FullyConnected(
            x, weight, bias, num_hidden=self._units, no_bias=no_bias, flatten=self._flatten
        )
        return y if self.act is None else self.act(y)

    def __repr__(self):
        units, inputs = self.weight.shape
        act = self.act or "linear"
        return f"{type(self).__name__}({inputs or None} -> {units}, {act})"


class Flatten(HybridBlock):
    """(batch, a, b, …) to (batch, a·b·…)."""

    def hybrid_forward(self, F, x):
        return F.Flatten(x)

    def __repr__(self):
        return type(self).__name__


# --- Sequences ------------------------------------------------------------------------------------


class Chain:
    """What both kinds of Sequential can do: a list of blocks, called one after the other."""

    def add(self, *blocks):
        """Append blocks."""
        for block in blocks:
            self.register_child(block)

    def _run(self, x, *args):
        for block in self._children.values():
            x = block(x, *args)
            args = ()
            if isinstance(x, tuple | list):
                x, args = x[0], x[1:]
        return (x, *args) if args else x

    def __repr__(self):
        lines = [f"  ({k}): " + repr(v).replace("\n", "\n  ") for k, v in self._children.items()]
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"

    def __getitem__(self, key):
        layers = list(self._children.values())[key]
        if not isinstance(layers, list):
            return layers
        part = type(self)(prefix=self._prefix)
        part.add(*layers)
        return part

    def __len__(self):
        return len(self._children)


class Sequential(Chain, Block):
    """Blocks called one after the other."""

    def forward(self, x, *args):
        return self._run(x, *args)

    def hybridize(self, active=True, **kwargs):
        """Hybridize the children that can be."""
        if self._children and all(isinstance(c, HybridBlock) for c in self._children.values()):
            warnings.warn(
                f"All children of this Sequential layer {self.prefix!r} are HybridBlocks. Consider "
                "using HybridSequential for the best performance.",
                stacklevel=2,
            )
        super().hybridize(active, **kwargs)


class HybridSequential(Chain, HybridBlock):
    """HybridBlocks called one after the other."""

    def hybrid_forward(self, F, x, *args):
        return self._run(x, *args)
