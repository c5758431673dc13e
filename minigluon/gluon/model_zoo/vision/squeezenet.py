"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.contrib.nn import HybridConcurrent
from minigluon.gluon.model_zoo.model_store import pretrained_or_not
from minigluon.gluon.model_zoo.vision.resnet import Classifier

__all__ = [
    "FIRES",
    "POOL",
    "SqueezeNet",
    "bent",
    "fire",
    "get_squeezenet",
    "squeezenet1_0",
    "squeezenet1_1",
]


# --- SqueezeNet and DenseNet ----------------------------------------------------------------------

POOL = "pool"
FIRES = {  # version -> the first convolution, then poolings and fires: squeezed and widened channels
    "1.0": ((96, 7), [POOL, 16, 16, 32, POOL, 32, 48, 48, 64, POOL, 64]),
    "1.1": ((64, 3), [POOL, 16, 16, POOL, 32, 32, POOL, 48, 48, 64, 64]),
}


def fire(squeezed):
    """Squeeze the channels by windows of one place, widen them by windows of one and of nine."""
    out, wide = nn.HybridSequential(prefix=""), HybridConcurrent(axis=1, prefix="")
    out.add(bent(squeezed, 1))
    wide.add(bent(4 * squeezed, 1), bent(4 * squeezed, 3, 1))
    out.add(wide)
    return out


def bent(channels, kernel_size, padding=0):
    """A convolution and an activation."""
    out = nn.HybridSequential(prefix="")
    out.add(nn.Conv2D(channels, kernel_size, padding=padding), nn.Activation("relu"))
    return out


class SqueezeNet(Classifier):
    """Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016."""

    def __init__(self, version, classes=1000, **kwargs):
        super().__init__(**kwargs)
        assert version in FIRES, f"Unsupported SqueezeNet version {version}: 1.0 or 1.1 expected"
        first, rest = FIRES[version]
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(nn.Conv2D(*first, strides=2), nn.Activation("relu"))
            for part in rest:
                self.features.add(
                    nn.MaxPool2D(3, 2, ceil_mode=True) if part == POOL else fire(part)
                )
            self.features.add(nn.Dropout(0.5))
            self.output = nn.HybridSequential(prefix="")
            self.output.add(nn.Conv2D(classes, 1), nn.Activation("relu"), nn.AvgPool2D(13))
            self.output.add(nn.Flatten())


def get_squeezenet(version, pretrained=False, ctx=None, root=None, **kwargs):
    """SqueezeNet of version '1.0' or '1.1'."""
    net = SqueezeNet(version, **kwargs)
    return pretrained_or_not(net, f"squeezenet{version}", pretrained, ctx, root)


def squeezenet1_0(**kwargs):
    """SqueezeNet 1.0."""
    return get_squeezenet("1.0", **kwargs)


def squeezenet1_1(**kwargs):
    """SqueezeNet 1.1, at less than half the cost."""
    return get_squeezenet("1.1", **kwargs)
