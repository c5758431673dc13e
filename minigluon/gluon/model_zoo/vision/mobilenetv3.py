"""Look at a picture with windows of several shapes at once, or let a search on a telephone choose the shapes."""

# Written from chapters/88b_late_networks.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.block import HybridBlock
from minigluon.gluon.model_zoo.model_store import pretrained_or_not
from minigluon.gluon.model_zoo.vision.resnet import Classifier

__all__ = [
    "HardSigmoid",
    "HardSwish",
    "InvertedResidual",
    "LARGE",
    "MobileNetV3",
    "SMALL",
    "SqueezeExcite",
    "WIDEST",
    "add_unit",
    "divisible",
    "get_mobilenet_v3",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
]


# --- MobileNet v3 ---------------------------------------------------------------------------------

LARGE = [
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
]
SMALL = [
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
]
WIDEST = {"large": (LARGE, 960, 1280), "small": (SMALL, 576, 1024)}


def divisible(channels, by=8):
    """The multiple of `by` that is nearest to `channels`, not less than nine tenths of them."""
    found = max(by, int(channels + by / 2) // by * by)
    return found + by if found < 0.9 * channels else found


class HardSigmoid(HybridBlock):
    """A sigmoid of three straight pieces."""

    def hybrid_forward(self, F, x):
        return F.clip(x + 3, 0, 6) / 6


class HardSwish(HybridBlock):
    """x times its `HardSigmoid`."""

    def hybrid_forward(self, F, x):
        return x * (F.clip(x + 3, 0, 6) / 6)


class SqueezeExcite(HybridBlock):
    """Channels weighed by a small network of their means; Hu et al., 2018."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.weigh = nn.HybridSequential(prefix="")
            self.weigh.add(nn.GlobalAvgPool2D())
            self.weigh.add(nn.Conv2D(divisible(channels / 4), 1), nn.Activation("relu"))
            self.weigh.add(nn.Conv2D(channels, 1), HardSigmoid())

    def hybrid_forward(self, F, x):
        return F.broadcast_mul(x, self.weigh(x))


def add_unit(out, channels, kernel, stride=1, groups=1, activation=None):
    """Convolution, normalization, and an activation if there is one."""
    out.add(nn.Conv2D(channels, kernel, stride, kernel // 2, groups=groups, use_bias=False))
    out.add(nn.BatchNorm(momentum=0.99, epsilon=0.001))
    if activation is not None:
        out.add(HardSwish() if activation == "hard_swish" else nn.Activation(activation))


class InvertedResidual(HybridBlock):
    """Wide between two narrow ends, with a way round where the shape stays."""

    def __init__(self, before, kernel, wide, channels, weighed, activation, stride, **kwargs):
        super().__init__(**kwargs)
        self.use_shortcut = stride == 1 and before == channels
        with self.name_scope():
            self.out = nn.HybridSequential(prefix="")
            if wide != before:
                add_unit(self.out, wide, 1, activation=activation)
            add_unit(self.out, wide, kernel, stride, wide, activation)
            if weighed:
                self.out.add(SqueezeExcite(wide))
            add_unit(self.out, channels, 1)

    def hybrid_forward(self, F, x):
        return self.out(x) + x if self.use_shortcut else self.out(x)


class MobileNetV3(Classifier):
    """Howard et al., "Searching for MobileNetV3", 2019; `version` is 'large' or 'small'."""

    def __init__(self, version="large", multiplier=1.0, classes=1000, dropout=0.2, **kwargs):
        super().__init__(**kwargs)
        assert version in WIDEST, f"version {version!r}: it is 'large' or 'small'"
        rows, last, hidden = WIDEST[version]
        with self.name_scope():
            f = self.features = nn.HybridSequential(prefix="features_")
            with f.name_scope():
                before = divisible(16 * multiplier)
                add_unit(f, before, 3, 2, activation="hard_swish")
                for kernel, wide, channels, weighed, activation, stride in rows:
                    wide, channels = divisible(wide * multiplier), divisible(channels * multiplier)
                    unit = before, kernel, wide, channels, weighed, activation, stride
                    f.add(InvertedResidual(*unit))
                    before = channels
                add_unit(f, divisible(last * multiplier), 1, activation="hard_swish")
                f.add(nn.GlobalAvgPool2D(), nn.Conv2D(hidden, 1), HardSwish(), nn.Dropout(dropout))
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                self.output.add(nn.Conv2D(classes, 1, prefix="fc_"), nn.Flatten())


def get_mobilenet_v3(version, multiplier=1.0, pretrained=False, ctx=None, root=None, **kwargs):
    """MobileNetV3 'large' or 'small', its channels times `multiplier`."""
    net = MobileNetV3(version, multiplier, **kwargs)
    return pretrained_or_not(net, f"mobilenetv3_{version}", pretrained, ctx, root)


def mobilenet_v3_large(**kwargs):
    """MobileNetV3 for a fast telephone."""
    return get_mobilenet_v3("large", **kwargs)


def mobilenet_v3_small(**kwargs):
    """MobileNetV3 for a slow one."""
    return get_mobilenet_v3("small", **kwargs)
