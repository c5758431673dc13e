"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.model_zoo.model_store import pretrained_or_not
from minigluon.gluon.model_zoo.vision.resnet import Classifier
from minigluon.initializer import Xavier

__all__ = [
    "FILTERS",
    "VGG",
    "get_vgg",
    "named",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "vgg_spec",
]


# --- AlexNet and VGG ------------------------------------------------------------------------------


class VGG(Classifier):
    """Simonyan and Zisserman, "Very Deep Convolutional Networks
    for Large-Scale Image Recognition", 2014.
    """

    def __init__(self, layers, filters, classes=1000, batch_norm=False, **kwargs):
        super().__init__(**kwargs)
        assert len(layers) == len(filters)
        start = {"weight_initializer": "normal", "bias_initializer": "zeros"}
        with self.name_scope():
            self.features = self._make_features(layers, filters, batch_norm)
            for _ in range(2):
                self.features.add(nn.Dense(4096, activation="relu", **start), nn.Dropout(rate=0.5))
            self.output = nn.Dense(classes, **start)

    def _make_features(self, layers, filters, batch_norm):
        features = nn.HybridSequential(prefix="")
        start = Xavier(rnd_type="gaussian", factor_type="out", magnitude=2)
        for count, channels in zip(layers, filters):
            for _ in range(count):
                features.add(
                    nn.Conv2D(
                        *(channels, 3),
                        padding=1,
                        weight_initializer=start,
                        bias_initializer="zeros",
                    )
                )
                if batch_norm:
                    features.add(nn.BatchNorm())
                features.add(nn.Activation("relu"))
            features.add(nn.MaxPool2D(strides=2))
        return features


FILTERS = [64, 128, 256, 512, 512]
vgg_spec = {
    11: ([1, 1, 2, 2, 2], FILTERS),
    13: ([2, 2, 2, 2, 2], FILTERS),
    16: ([2, 2, 3, 3, 3], FILTERS),
    19: ([2, 2, 4, 4, 4], FILTERS),
}


def get_vgg(num_layers, pretrained=False, ctx=None, root=None, **kwargs):
    """A VGG network with 11, 13, 16 or 19 layers."""
    net = VGG(*vgg_spec[num_layers], **kwargs)
    name = f"vgg{num_layers}{'_bn' if kwargs.get('batch_norm') else ''}"
    return pretrained_or_not(net, name, pretrained, ctx, root)


def named(num_layers, **settings):
    """The function of one of the networks."""

    def make(**kwargs):
        return get_vgg(num_layers, **settings, **kwargs)

    make.__name__ = make.__qualname__ = f"vgg{num_layers}{'_bn' if settings else ''}"
    make.__doc__ = f"VGG-{num_layers}{' with batch normalization' if settings else ''}."
    return make


vgg11, vgg13, vgg16, vgg19 = [named(n) for n in vgg_spec]
vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn = [named(n, batch_norm=True) for n in vgg_spec]
