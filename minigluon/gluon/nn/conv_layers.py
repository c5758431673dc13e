"""One small window of weights, laid on every place of a picture: convolution, its adjoint, and how to make both fast."""

# Written from chapters/41_convolution.ipynb, chapters/42_pooling.ipynb: edit the chapter, then run `minigluon export`.

from numbers import Number
from operator import index

from minigluon.base import MXNetError
from minigluon.gluon.block import HybridBlock
from minigluon.gluon.nn.activations import Activation
from minigluon.ops.convolution import weight_shape

__all__ = [
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "ReflectionPad2D",
    "pool_layout",
    "repeated",
]


# --- Layers ---------------------------------------------------------------------------------------


def repeated(n, axes, name):
    """A number for each of `axes` axes, from one number or from so many."""
    if isinstance(n, Number):
        n = (n,) * axes
    assert len(n) == axes, f"{name} must be a number or a list of {axes} ints"
    return tuple(map(index, n))  # NumPy's whole numbers as Python's


class _Conv(HybridBlock):
    """What all convolutional layers share."""

    _node_names = {"convolution": "fwd", "deconvolution": "fwd"}
    _layouts = ()

    def __init__(
        self,
        channels,
        kernel_size,
        strides,
        padding,
        dilation,
        groups,
        layout,
        in_channels=0,
        activation=None,
        use_bias=True,
        weight_initializer=None,
        bias_initializer="zeros",
        op_name="Convolution",
        adj=None,
        prefix=None,
        params=None,
        **unknown,
    ):
        super().__init__(prefix=prefix, params=params, **unknown)
        assert layout in self._layouts, f"Only supports {self._layouts} layout for now"
        axes = len(layout) - 2
        kernel_size = repeated(kernel_size, axes, "kernel_size")
        numbers = [
            (index(n),) * axes if isinstance(n, Number) else n for n in (strides, padding, dilation)
        ]
        self._channels, self._in_channels, self._op_name = channels, in_channels, op_name
        self._kwargs = {"kernel": kernel_size, "stride": numbers[0], "dilate": numbers[2]}
        self._kwargs |= {"pad": numbers[1], "num_filter": channels, "num_group": groups}
        self._kwargs |= {"no_bias": not use_bias, "layout": layout}
        if adj is not None:
            self._kwargs["adj"] = self.outpad = repeated(adj, axes, "output_padding")
        self._check(axes)
        self._own(weight_initializer, bias_initializer, activation)

    # --- Layers -----------------------------------------------------------------------------------

    def _check(self, axes):
        settings = self._kwargs
        for name, least in (("kernel", 1), ("stride", 1), ("dilate", 1), ("pad", 0)):
            if len(settings[name]) != axes or min(settings[name]) < least:
                raise MXNetError(
                    f"{name} needs {axes} numbers of at least {least}, not {settings[name]}"
                )
        if settings["num_filter"] < 1 or settings["num_group"] < 1:
            raise MXNetError("channels and groups must be at least 1")
        if any(a >= s for a, s in zip(settings.get("adj", ()), settings["stride"])):
            raise MXNetError("output_padding must be smaller than the stride")

    def _own(self, weight_initializer, bias_initializer, activation):
        settings = self._kwargs
        data = [0] * len(settings["layout"])
        data[settings["layout"].find("C")] = self._in_channels
        names = "kernel", "num_filter", "num_group", "layout"
        shape = weight_shape(
            data, *(settings[n] for n in names), transposed=self._op_name == "Deconvolution"
        )
        self.bias = self.act = None
        with self.name_scope():
            self.weight = self.params.get(
                "weight", shape=shape, init=weight_initializer, allow_deferred_init=True
            )
            if not settings["no_bias"]:
                self.bias = self.params.get(
                    "bias", shape=(self._channels,), init=bias_initializer, allow_deferred_init=True
                )
            if activation is not None:
                self.act = Activation(activation, prefix=activation + "_")

    def hybrid_forward(self, F, x, weight, bias=None):
        op = getattr(F, self._op_name)
        arrays = (x, weight) if bias is None else (x, weight, bias)
        y = op(*arrays, **self._kwargs)
        return y if self.act is None else self.act(y)

    def _alias(self):
        return "conv"

    def __repr__(self):
        settings, axes = self._kwargs, len(self._kwargs["kernel"])
        first, second = self.weight.shape[:2]
        parts = [f"{second or None} -> {first}", f"kernel_size={settings['kernel']}"]
        parts.append(f"stride={settings['stride']}")
        parts += [f"padding={settings['pad']}"] * (settings["pad"] != (0,) * axes)
        parts += [f"dilation={settings['dilate']}"] * (settings["dilate"] != (1,) * axes)
        parts += [f"groups={settings['num_group']}"] * (settings["num_group"] != 1)
        parts += ["bias=False"] * (self.bias is None) + [str(self.act)] * (self.act is not None)
        return f"{type(self).__name__}({', '.join(parts)})"


class Conv1D(_Conv):
    """1-D convolution; `in_channels` is learnt from the first batch if it is 0."""

    _layouts = ("NCW",)

    def __init__(
        self,
        channels,
        kernel_size,
        strides=1,
        padding=0,
        dilation=1,
        groups=1,
        layout="NCW",
        activation=None,
        use_bias=True,
        weight_initializer=None,
        bias_initializer="zeros",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            kwargs.pop("op_name", "Convolution"),
            **kwargs,
        )


class Conv2D(_Conv):
    """2-D convolution; `in_channels` is learnt from the first batch if it is 0."""

    _layouts = ("NCHW", "NHWC")

    def __init__(
        self,
        channels,
        kernel_size,
        strides=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        groups=1,
        layout="NCHW",
        activation=None,
        use_bias=True,
        weight_initializer=None,
        bias_initializer="zeros",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            kwargs.pop("op_name", "Convolution"),
            **kwargs,
        )


class Conv3D(_Conv):
    """3-D convolution; `in_channels` is learnt from the first batch if it is 0."""

    _layouts = ("NCDHW", "NDHWC")

    def __init__(
        self,
        channels,
        kernel_size,
        strides=(1, 1, 1),
        padding=(0, 0, 0),
        dilation=(1, 1, 1),
        groups=1,
        layout="NCDHW",
        activation=None,
        use_bias=True,
        weight_initializer=None,
        bias_initializer="zeros",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            kwargs.pop("op_name", "Convolution"),
            **kwargs,
        )


class Conv1DTranspose(_Conv):
    """Transposed 1-D convolution: it enlarges what Conv1D makes smaller."""

    _layouts = ("NCW",)

    def __init__(
        self,
        channels,
        kernel_size,
        strides=1,
        padding=0,
        output_padding=0,
        dilation=1,
        groups=1,
        layout="NCW",
        activation=None,
        use_bias=True,
        weight_initializer=None,
        bias_initializer="zeros",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            kwargs.pop("op_name", "Deconvolution"),
            output_padding,
            **kwargs,
        )


class Conv2DTranspose(_Conv):
    """Transposed 2-D convolution: it enlarges what Conv2D makes smaller."""

    _layouts = ("NCHW", "NHWC")

    def __init__(
        self,
        channels,
        kernel_size,
        strides=(1, 1),
        padding=(0, 0),
        output_padding=(0, 0),
        dilation=(1, 1),
        groups=1,
        layout="NCHW",
        activation=None,
        use_bias=True,
        weight_initializer=None,
        bias_initializer="zeros",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            kwargs.pop("op_name", "Deconvolution"),
            output_padding,
            **kwargs,
        )


class Conv3DTranspose(_Conv):
    """Transposed 3-D convolution: it enlarges what Conv3D makes smaller."""

    _layouts = ("NCDHW", "NDHWC")

    def __init__(
        self,
        channels,
        kernel_size,
        strides=(1, 1, 1),
        padding=(0, 0, 0),
        output_padding=(0, 0, 0),
        dilation=(1, 1, 1),
        groups=1,
        layout="NCDHW",
        activation=None,
        use_bias=True,
        weight_initializer=None,
        bias_initializer="zeros",
        in_channels=0,
        **kwargs,
    ):
        super().__init__(
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            kwargs.pop("op_name", "Deconvolution"),
            output_padding,
            **kwargs,
        )


def pool_layout(layout, axes):
    """`layout`, if a picture with so many axes can have it."""
    known = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}[axes]
    assert layout in known, f"Only {' and '.join(known)} layouts are valid for {axes}D Pooling"
    return layout


class _Pooling(HybridBlock):
    """What all pooling layers share; `_axes` is the number of a subclass's axes,
    otherwise that of `pool_size`.
    """

    _node_names = {"pooling": "fwd"}
    _axes = None

    def __init__(
        self,
        pool_size,
        strides,
        padding,
        ceil_mode,
        global_pool,
        pool_type,
        layout,
        count_include_pad=None,
        **kwargs,
    ):
        axes = self._axes or len(pool_size)
        pool_size, layout = repeated(pool_size, axes, "pool_size"), pool_layout(layout, axes)
        super().__init__(**kwargs)
        strides = pool_size if strides is None else strides
        strides, padding = ((n,) * axes if isinstance(n, Number) else n for n in (strides, padding))
        self._kwargs = {"kernel": pool_size, "stride": strides, "pad": padding}
        self._kwargs |= {"global_pool": global_pool, "pool_type": pool_type, "layout": layout}
        self._kwargs["pooling_convention"] = "full" if ceil_mode else "valid"
        if count_include_pad is not None:
            self._kwargs["count_include_pad"] = count_include_pad

    # --- Layers -----------------------------------------------------------------------------------

    def _alias(self):
        return "pool"

    def hybrid_forward(self, F, x):
        return F.Pooling(x, **self._kwargs)

    def __repr__(self):
        s = self._kwargs
        return (
            f"{type(self).__name__}(size={s['kernel']}, stride={s['stride']}, padding={s['pad']}, "
            f"ceil_mode={s['pooling_convention'] == 'full'}, global_pool={s['global_pool']}, "
            f"pool_type={s['pool_type']}, layout={s['layout']})"
        )


class MaxPool1D(_Pooling):
    """The largest number of each window, 1-D; `strides` is `pool_size` if not given."""

    _axes = 1

    def __init__(
        self, pool_size=2, strides=None, padding=0, layout="NCW", ceil_mode=False, **kwargs
    ):
        super().__init__(pool_size, strides, padding, ceil_mode, False, "max", layout, **kwargs)


class GlobalMaxPool1D(_Pooling):
    """The largest number of each channel, 1-D."""

    def __init__(self, layout="NCW", **kwargs):
        super().__init__((1,), None, 0, True, True, "max", layout, **kwargs)


class MaxPool2D(_Pooling):
    """The largest number of each window, 2-D; `strides` is `pool_size` if not given."""

    _axes = 2

    def __init__(
        self, pool_size=(2, 2), strides=None, padding=0, layout="NCHW", ceil_mode=False, **kwargs
    ):
        super().__init__(pool_size, strides, padding, ceil_mode, False, "max", layout, **kwargs)


class GlobalMaxPool2D(_Pooling):
    """The largest number of each channel, 2-D."""

    def __init__(self, layout="NCHW", **kwargs):
        super().__init__((1, 1), None, 0, True, True, "max", layout, **kwargs)


class MaxPool3D(_Pooling):
    """The largest number of each window, 3-D; `strides` is `pool_size` if not given."""

    _axes = 3

    def __init__(
        self,
        pool_size=(2, 2, 2),
        strides=None,
        padding=0,
        ceil_mode=False,
        layout="NCDHW",
        **kwargs,
    ):
        super().__init__(pool_size, strides, padding, ceil_mode, False, "max", layout, **kwargs)


class GlobalMaxPool3D(_Pooling):
    """The largest number of each channel, 3-D."""

    def __init__(self, layout="NCDHW", **kwargs):
        super().__init__((1, 1, 1), None, 0, True, True, "max", layout, **kwargs)


class AvgPool1D(_Pooling):
    """The mean of each window, 1-D; `strides` is `pool_size` if not given."""

    _axes = 1

    def __init__(
        self,
        pool_size=2,
        strides=None,
        padding=0,
        layout="NCW",
        ceil_mode=False,
        count_include_pad=True,
        **kwargs,
    ):
        given = pool_size, strides, padding, ceil_mode, False, "avg", layout, count_include_pad
        super().__init__(*given, **kwargs)


class GlobalAvgPool1D(_Pooling):
    """The mean of each channel, 1-D."""

    def __init__(self, layout="NCW", **kwargs):
        super().__init__((1,), None, 0, True, True, "avg", layout, **kwargs)


class AvgPool2D(_Pooling):
    """The mean of each window, 2-D; `strides` is `pool_size` if not given."""

    _axes = 2

    def __init__(
        self,
        pool_size=(2, 2),
        strides=None,
        padding=0,
        ceil_mode=False,
        layout="NCHW",
        count_include_pad=True,
        **kwargs,
    ):
        given = pool_size, strides, padding, ceil_mode, False, "avg", layout, count_include_pad
        super().__init__(*given, **kwargs)


class GlobalAvgPool2D(_Pooling):
    """The mean of each channel, 2-D."""

    def __init__(self, layout="NCHW", **kwargs):
        super().__init__((1, 1), None, 0, True, True, "avg", layout, **kwargs)


class AvgPool3D(_Pooling):
    """The mean of each window, 3-D; `strides` is `pool_size` if not given."""

    _axes = 3

    def __init__(
        self,
        pool_size=(2, 2, 2),
        strides=None,
        padding=0,
        ceil_mode=False,
        layout="NCDHW",
        count_include_pad=True,
        **kwargs,
    ):
        given = pool_size, strides, padding, ceil_mode, False, "avg", layout, count_include_pad
        super().__init__(*given, **kwargs)


class GlobalAvgPool3D(_Pooling):
    """The mean of each channel, 3-D."""

    def __init__(self, layout="NCDHW", **kwargs):
        super().__init__((1, 1, 1), None, 0, True, True, "avg", layout, **kwargs)


class ReflectionPad2D(HybridBlock):
    """(n, c, h, w) with a border that mirrors it: a number, or eight, two an axis."""

    def __init__(self, padding=0, **kwargs):
        super().__init__(**kwargs)
        if isinstance(padding, Number):
            padding = (0, 0, 0, 0, padding, padding, padding, padding)
        assert len(padding) == 8, "padding must be a number or 8 of them"
        self._padding = padding

    def hybrid_forward(self, F, x):
        return F.pad(x, mode="reflect", pad_width=self._padding)
