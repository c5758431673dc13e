"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.block import HybridBlock
from minigluon.gluon.model_zoo.model_store import pretrained_or_not
from minigluon.gluon.model_zoo.vision.resnet import Classifier

__all__ = [
    "LinearBottleneck",
    "MobileNet",
    "MobileNetV2",
    "RELU6",
    "SIZES",
    "STAGES",
    "add_conv",
    "get_mobilenet",
    "get_mobilenet_v2",
    "mobilenet0_25",
    "mobilenet0_5",
    "mobilenet0_75",
    "mobilenet1_0",
    "mobilenet_v2_0_25",
    "mobilenet_v2_0_5",
    "mobilenet_v2_0_75",
    "mobilenet_v2_1_0",
    "named",
    "version_suffix",
]


# --- MobileNet ------------------------------------------------------------------------------------


class RELU6(nn.HybridBlock):
    """The positive part, at most 6."""

    def hybrid_forward(self, F, x):
        return F.clip(x, 0, 6, name="relu6")


def add_conv(out, channels, kernel=1, stride=1, pad=0, num_group=1, active=True, relu6=False):
    """Convolution, normalization, and an activation unless `active` is false."""
    out.add(nn.Conv2D(channels, kernel, stride, pad, groups=num_group, use_bias=False))
    out.add(nn.BatchNorm(scale=True))
    if active:
        out.add(RELU6() if relu6 else nn.Activation("relu"))


class MobileNet(Classifier):
    """Howard et al., "MobileNets", 2017; `multiplier` scales the channels."""

    def __init__(self, multiplier=1.0, classes=1000, **kwargs):
        super().__init__(**kwargs)
        widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
        widths = [int(w * multiplier) for w in widths]
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            with self.features.name_scope():
                add_conv(self.features, widths[0], kernel=3, pad=1, stride=2)
                strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
                for before, after, stride in zip(widths, widths[1:], strides):
                    add_conv(self.features, before, 3, stride, 1, num_group=before)
                    add_conv(self.features, after)
                self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes)


class LinearBottleneck(HybridBlock):
    """Widen the channels t times, a window for each, narrow them without activation;
    Sandler et al., 2018.
    """

    def __init__(self, in_channels, channels, t, stride, **kwargs):
        super().__init__(**kwargs)
        self.use_shortcut = stride == 1 and in_channels == channels
        wide = in_channels * t
        with self.name_scope():
            self.out = nn.HybridSequential()
            add_conv(self.out, wide, relu6=True)
            add_conv(self.out, wide, 3, stride, 1, num_group=wide, relu6=True)
            add_conv(self.out, channels, active=False, relu6=True)

    def hybrid_forward(self, F, x):
        y = self.out(x)
        return F.elemwise_add(y, x) if self.use_shortcut else y


STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
STAGES += [(6, 320, 1, 1)]  # widening, channels, blocks, the first block's stride


class MobileNetV2(Classifier):
    """Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018."""

    def __init__(self, multiplier=1.0, classes=1000, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="features_")
            with self.features.name_scope():
                before = int(32 * multiplier)
                add_conv(self.features, before, kernel=3, stride=2, pad=1, relu6=True)
                for t, channels, count, first in STAGES:
                    for i in range(count):
                        after, stride = int(channels * multiplier), first if i == 0 else 1
                        self.features.add(LinearBottleneck(before, after, t, stride))
                        before = after
                last = int(1280 * multiplier) if multiplier > 1 else 1280
                add_conv(self.features, last, relu6=True)
                self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                self.output.add(nn.Conv2D(classes, 1, use_bias=False, prefix="pred_"), nn.Flatten())


def version_suffix(multiplier):
    """How a multiplier is written in the name of a file."""
    text = f"{multiplier:.2f}"
    return text[:-1] if text in ("1.00", "0.50") else text


def get_mobilenet(multiplier, pretrained=False, ctx=None, root=None, **kwargs):
    """MobileNet, its channels times `multiplier`."""
    name = f"mobilenet{version_suffix(multiplier)}"
    return pretrained_or_not(MobileNet(multiplier, **kwargs), name, pretrained, ctx, root)


def get_mobilenet_v2(multiplier, pretrained=False, ctx=None, root=None, **kwargs):
    """MobileNetV2, its channels times `multiplier`."""
    name = f"mobilenetv2_{version_suffix(multiplier)}"
    return pretrained_or_not(MobileNetV2(multiplier, **kwargs), name, pretrained, ctx, root)


def named(get, stem, multiplier):
    """The function of one of the networks."""

    def make(**kwargs):
        return get(multiplier, **kwargs)

    make.__name__ = make.__qualname__ = f"{stem}{version_suffix(multiplier).replace('.', '_')}"
    make.__doc__ = f"{get.__doc__.split(',')[0]} with {multiplier} times the channels."
    return make


SIZES = (1.0, 0.75, 0.5, 0.25)
mobilenet1_0, mobilenet0_75, mobilenet0_5, mobilenet0_25 = [
    named(get_mobilenet, "mobilenet", m) for m in SIZES
]
mobilenet_v2_1_0, mobilenet_v2_0_75, mobilenet_v2_0_5, mobilenet_v2_0_25 = [
    named(get_mobilenet_v2, "mobilenet_v2_", m) for m in SIZES
]
