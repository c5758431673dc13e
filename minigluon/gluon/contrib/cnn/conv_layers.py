"""A deformable convolution asks the picture where to look before it looks, and learns both by gradients."""

# Written from chapters/41b_deformable.ipynb: edit the chapter, then run `minigluon export`.

from numbers import Number

from minigluon.gluon.block import HybridBlock
from minigluon.gluon.nn.activations import Activation

__all__ = ["DeformableConvolution", "ModulatedDeformableConvolution"]


# --- Layers ---------------------------------------------------------------------------------------


class DeformableConvolution(HybridBlock):
    """A 2-D convolution whose window is bent by offsets that another one computes: Dai et al., 2017."""

    _node_names = {"_contrib_deformableconvolution": "fwd", "deformableconvolution": "fwd"}
    _per_place = 2  # numbers that move a place of the window
    _offset_first = True  # among the block's parameters, whose order is part of a file

    def __init__(
        self,
        channels,
        kernel_size=(1, 1),
        strides=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        groups=1,
        num_deformable_group=1,
        layout="NCHW",
        use_bias=True,
        in_channels=0,
        activation=None,
        weight_initializer=None,
        bias_initializer="zeros",
        offset_weight_initializer="zeros",
        offset_bias_initializer="zeros",
        offset_use_bias=True,
        op_name="DeformableConvolution",
        adj=None,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
        assert layout in ("NCHW", "NHWC"), "Only supports 'NCHW' and 'NHWC' layout for now"
        kernel, stride, pad, dilate = (
            (n,) * 2 if isinstance(n, Number) else tuple(n)
            for n in (kernel_size, strides, padding, dilation)
        )
        self._channels, self._in_channels = channels, in_channels
        shared = {"kernel": kernel, "stride": stride, "dilate": dilate, "pad": pad}
        moved = self._per_place * kernel[0] * kernel[1] * num_deformable_group
        self._split = 2 * kernel[0] * kernel[1] * num_deformable_group
        self._offsets = {**shared, "num_filter": moved, "num_group": groups}
        self._offsets["no_bias"] = not offset_use_bias
        self._kwargs = {**shared, "num_filter": channels, "num_group": groups}
        self._kwargs |= {"num_deformable_group": num_deformable_group, "no_bias": not use_bias}
        with self.name_scope():
            learnt = [
                ("offset", self._offsets, offset_weight_initializer, offset_bias_initializer),
                ("deformable_conv", self._kwargs, weight_initializer, bias_initializer),
            ]
            for one in learnt[:: 1 if self._offset_first else -1]:
                self._learn(*one)
            self.act = Activation(activation, prefix=activation + "_") if activation else None

    # Its two convolutions.

    def _learn(self, name, settings, weight, bias):
        """Give the block weight and bias of one of its two convolutions."""
        later, count = {"allow_deferred_init": True}, settings["num_filter"]
        shape = count, self._in_channels // settings["num_group"], *settings["kernel"]
        made = self.params.get(f"{name}_weight", shape=shape, init=weight, **later)
        setattr(self, f"{name}_weight", made)
        made = None
        if not settings["no_bias"]:
            made = self.params.get(f"{name}_bias", shape=(count,), init=bias, **later)
        setattr(self, f"{name}_bias", made)

    def hybrid_forward(
        self,
        F,
        x,
        offset_weight,
        deformable_conv_weight,
        offset_bias=None,
        deformable_conv_bias=None,
    ):
        arrays = [x, offset_weight] + [offset_bias] * (offset_bias is not None)
        moved = F.Convolution(*arrays, **self._offsets)
        weights = [deformable_conv_weight] + [deformable_conv_bias] * (
            deformable_conv_bias is not None
        )
        y = self._bent(F, x, moved, weights)
        return y if self.act is None else self.act(y)

    def _bent(self, F, x, moved, weights):
        return F.contrib.DeformableConvolution(x, moved, *weights, **self._kwargs)

    # How it is named and printed.

    def _alias(self):
        return "deformable_conv"

    def __repr__(self):
        settings = self._kwargs
        first, second = self.deformable_conv_weight.shape[:2]
        parts = [f"{second or None} -> {first}", f"kernel_size={settings['kernel']}"]
        parts.append(f"stride={settings['stride']}")
        parts += [f"padding={settings['pad']}"] * (settings["pad"] != (0, 0))
        parts += [f"dilation={settings['dilate']}"] * (settings["dilate"] != (1, 1))
        parts += [f"groups={settings['num_group']}"] * (settings["num_group"] != 1)
        parts += ["bias=False"] * (self.deformable_conv_bias is None)
        parts += [str(self.act)] * (self.act is not None)
        return f"{type(self).__name__}({', '.join(parts)})"


class ModulatedDeformableConvolution(DeformableConvolution):
    """`DeformableConvolution` that also weighs what it reads, by numbers from 0 to 2:
    Zhu et al., 2019.
    """

    _node_names = {"_contrib_modulateddeformableconvolution": "fwd"}
    _per_place = 3
    _offset_first = False

    def _bent(self, F, x, moved, weights):
        offset = F.slice_axis(moved, axis=1, begin=0, end=self._split)
        mask = F.sigmoid(F.slice_axis(moved, axis=1, begin=self._split, end=None)) * 2
        call = F.contrib.ModulatedDeformableConvolution
        return call(x, offset, mask, *weights, **self._kwargs)

    def _alias(self):
        return "modulated_deformable_conv"

    __repr__ = HybridBlock.__repr__
