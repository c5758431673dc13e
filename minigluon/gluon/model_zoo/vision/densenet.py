"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.contrib.nn import HybridConcurrent, Identity
from minigluon.gluon.model_zoo.model_store import pretrained_or_not
from minigluon.gluon.model_zoo.vision.resnet import Classifier

__all__ = [
    "DenseNet",
    "dense_layer",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "densenet_spec",
    "get_densenet",
    "named",
    "transition",
]


# --- DenseNet -------------------------------------------------------------------------------------


def dense_layer(growth_rate, bn_size, dropout):
    """The input, and beside it `growth_rate` new channels."""
    new, out = nn.HybridSequential(prefix=""), HybridConcurrent(axis=1, prefix="")
    new.add(nn.BatchNorm(), nn.Activation("relu"))
    new.add(nn.Conv2D(bn_size * growth_rate, kernel_size=1, use_bias=False))
    new.add(nn.BatchNorm(), nn.Activation("relu"))
    new.add(nn.Conv2D(growth_rate, kernel_size=3, padding=1, use_bias=False))
    if dropout:
        new.add(nn.Dropout(dropout))
    out.add(Identity(), new)
    return out


def transition(channels):
    """Fewer channels and a smaller picture."""
    out = nn.HybridSequential(prefix="")
    out.add(nn.BatchNorm(), nn.Activation("relu"))
    out.add(nn.Conv2D(channels, kernel_size=1, use_bias=False), nn.AvgPool2D(2, 2))
    return out


class DenseNet(Classifier):
    """Huang et al., "Densely Connected Convolutional Networks", 2017."""

    def __init__(
        self,
        num_init_features,
        growth_rate,
        block_config,
        bn_size=4,
        dropout=0,
        classes=1000,
        **kwargs,
    ):
        super().__init__(**kwargs)
        with self.name_scope():
            f = self.features = nn.HybridSequential(prefix="")
            f.add(nn.Conv2D(num_init_features, 7, 2, 3, use_bias=False), nn.BatchNorm())
            f.add(nn.Activation("relu"), nn.MaxPool2D(3, 2, 1))
            channels = num_init_features
            for i, count in enumerate(block_config):
                block = nn.HybridSequential(prefix=f"stage{i + 1}_")
                with block.name_scope():
                    for _ in range(count):
                        block.add(dense_layer(growth_rate, bn_size, dropout))
                f.add(block)
                channels += count * growth_rate
                if i < len(block_config) - 1:
                    channels //= 2
                    f.add(transition(channels))
            f.add(nn.BatchNorm(), nn.Activation("relu"), nn.AvgPool2D(7), nn.Flatten())
            self.output = nn.Dense(classes)


densenet_spec = {
    121: (64, 32, [6, 12, 24, 16]),
    161: (96, 48, [6, 12, 36, 24]),
    169: (64, 32, [6, 12, 32, 32]),
    201: (64, 32, [6, 12, 48, 32]),
}


def get_densenet(num_layers, pretrained=False, ctx=None, root=None, **kwargs):
    """A DenseNet with 121, 161, 169 or 201 layers."""
    net = DenseNet(*densenet_spec[num_layers], **kwargs)
    return pretrained_or_not(net, f"densenet{num_layers}", pretrained, ctx, root)


def named(num_layers):
    """The function of one of the networks."""

    def make(**kwargs):
        return get_densenet(num_layers, **kwargs)

    make.__name__ = make.__qualname__ = f"densenet{num_layers}"
    make.__doc__ = f"DenseNet-{num_layers}."
    return make


densenet121, densenet161, densenet169, densenet201 = [named(n) for n in densenet_spec]
