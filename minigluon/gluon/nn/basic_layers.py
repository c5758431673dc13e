"""An affine map, a bend, and a way to stack them: the layers of every perceptron."""

# Written from chapters/40_basic_layers.ipynb, chapters/45_dropout_embedding.ipynb: edit the chapter, then run `minigluon export`.

import warnings

import minigluon.ndarray as nd
import minigluon.symbol as sym
from minigluon.gluon.block import Block, HybridBlock
from minigluon.gluon.nn.activations import Activation

__all__ = [
    "Chain",
    "Concatenate",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "HybridConcatenate",
    "HybridLambda",
    "HybridSequential",
    "Identity",
    "Lambda",
    "Sequential",
]


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


# --- Layers ---------------------------------------------------------------------------------------


class Dropout(HybridBlock):
    """Drops each number with probability `rate` while training; numbers along `axes` together."""

    _node_names = {"dropout": "fwd"}

    def __init__(self, rate, axes=(), **kwargs):
        super().__init__(**kwargs)
        self._rate, self._axes = rate, axes

    def hybrid_forward(self, F, x):
        if self._rate > 0:
            return F.Dropout(x, p=self._rate, axes=self._axes, cudnn_off=False)
        return F.identity(x)

    def __repr__(self):
        return f"{type(self).__name__}(p = {self._rate}, axes={self._axes})"


class Embedding(HybridBlock):
    """The rows of a learnt matrix (`input_dim`, `output_dim`) that the numbers of the input name.

    Numbers out of range name the first or the last row. `sparse_grad` stores a gradient by rows.
    """

    _node_names = {"embedding": "fwd"}

    def __init__(
        self,
        input_dim,
        output_dim,
        dtype="float32",
        weight_initializer=None,
        sparse_grad=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._kwargs = {"input_dim": input_dim, "output_dim": output_dim}
        self._kwargs |= {"dtype": dtype, "sparse_grad": sparse_grad}
        self.weight = self.params.get(
            "weight",
            shape=(input_dim, output_dim),
            init=weight_initializer,
            dtype=dtype,
            allow_deferred_init=True,
            grad_stype="row_sparse" if sparse_grad else "default",
        )

    def hybrid_forward(self, F, x, weight):
        return F.Embedding(x, weight, **self._kwargs)

    def __repr__(self):
        k = self._kwargs
        return f"{type(self).__name__}({k['input_dim']} -> {k['output_dim']}, {k['dtype']})"


# --- Functions as blocks --------------------------------------------------------------------------


class Lambda(Block):
    """A function of arrays, or the name of one in `mx.nd`, as a block."""

    def __init__(self, function, prefix=None):
        super().__init__(prefix=prefix)
        if isinstance(function, str):
            assert hasattr(nd, function), f"Function name {function} is not found in ndarray."
            self._func_impl, self._func_name = getattr(nd, function), function
        elif callable(function):
            self._func_impl, self._func_name = function, function.__name__
        else:
            raise ValueError(
                f"Unrecognized function in lambda: {function} of type {type(function)}"
            )

    def forward(self, *args):
        return self._func_impl(*args)

    def __repr__(self):
        return f"{type(self).__name__}({self._func_name})"


class HybridLambda(HybridBlock):
    """A function of F and arrays, or the name of one in both `mx.nd` and `mx.sym`, as a block."""

    def __init__(self, function, prefix=None):
        super().__init__(prefix=prefix)
        if isinstance(function, str):
            assert hasattr(nd, function) and hasattr(sym, function), (
                f"Function name {function} is not found in symbol/ndarray."
            )
            self._func = lambda F, *args: getattr(F, function)(*args)
            self._func_name = function
        elif callable(function):
            self._func, self._func_name = function, function.__name__
        else:
            raise ValueError(
                f"Unrecognized function in lambda: {function} of type {type(function)}"
            )

    def hybrid_forward(self, F, x, *args):
        return self._func(F, x, *args)

    def __repr__(self):
        return f"{type(self).__name__}({self._func_name})"


# --- Side by side ---------------------------------------------------------------------------------


class Identity(HybridBlock):
    """The input as it is: a shortcut beside other blocks."""

    def hybrid_forward(self, F, x):
        return x


class Concatenate(Sequential):
    """The outputs of all blocks for the same input, concatenated along `axis`."""

    def __init__(self, axis=-1, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        self.axis = axis

    def forward(self, x):
        return nd.concat(*[block(x) for block in self._children.values()], dim=self.axis)


class HybridConcatenate(HybridSequential):
    """The outputs of all HybridBlocks for the same input, concatenated along `axis`."""

    def __init__(self, axis=-1, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        self.axis = axis

    def hybrid_forward(self, F, x):
        return F.concat(*[block(x) for block in self._children.values()], dim=self.axis)
