"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.block import HybridBlock
from minigluon.gluon.model_zoo.model_store import pretrained_or_not

__all__ = [
    "BasicBlockV1",
    "BasicBlockV2",
    "BottleneckV1",
    "BottleneckV2",
    "Classifier",
    "FirstVersion",
    "NARROW",
    "ResNetV1",
    "ResNetV2",
    "WIDE",
    "add_stages",
    "add_stem",
    "conv3x3",
    "get_resnet",
    "named",
    "resnet101_v1",
    "resnet101_v2",
    "resnet152_v1",
    "resnet152_v2",
    "resnet18_v1",
    "resnet18_v2",
    "resnet34_v1",
    "resnet34_v2",
    "resnet50_v1",
    "resnet50_v2",
    "resnet_block_versions",
    "resnet_net_versions",
    "resnet_spec",
    "shortcut",
]


# --- ResNet ---------------------------------------------------------------------------------------


def conv3x3(channels, stride, in_channels):
    """A window of 3 × 3 without bias."""
    return nn.Conv2D(
        channels, kernel_size=3, strides=stride, padding=1, use_bias=False, in_channels=in_channels
    )


def shortcut(channels, stride, in_channels):
    """The way round a block that changes the shape."""
    return nn.Conv2D(
        channels, kernel_size=1, strides=stride, use_bias=False, in_channels=in_channels
    )


class FirstVersion(HybridBlock):
    """A residual block with the activation after the sum; He et al., 2016a."""

    body_first = False  # in the sum, whose order MXNet's files of graphs show

    def __init__(self, channels, stride, downsample=False, in_channels=0, **kwargs):
        super().__init__(**kwargs)
        self.body = nn.HybridSequential(prefix="")
        self.fill(channels, stride, in_channels)
        self.downsample = None
        if downsample:
            self.downsample = nn.HybridSequential(prefix="")
            self.downsample.add(shortcut(channels, stride, in_channels), nn.BatchNorm())

    def hybrid_forward(self, F, x):
        y = self.body(x)
        around = x if self.downsample is None else self.downsample(x)
        total = y + around if self.body_first else around + y
        return F.Activation(total, act_type="relu")


class BasicBlockV1(FirstVersion):
    """Two convolutions."""

    def fill(self, channels, stride, in_channels):
        self.body.add(conv3x3(channels, stride, in_channels), nn.BatchNorm(), nn.Activation("relu"))
        self.body.add(conv3x3(channels, 1, channels), nn.BatchNorm())


class BottleneckV1(FirstVersion):
    """Three convolutions, the middle one on a quarter of the channels."""

    body_first = True

    def fill(self, channels, stride, in_channels):
        few = channels // 4
        self.body.add(nn.Conv2D(few, kernel_size=1, strides=stride))
        self.body.add(nn.BatchNorm(), nn.Activation("relu"), conv3x3(few, 1, few))
        self.body.add(nn.BatchNorm(), nn.Activation("relu"))
        self.body.add(nn.Conv2D(channels, kernel_size=1, strides=1), nn.BatchNorm())


class BasicBlockV2(HybridBlock):
    """Two convolutions, each after normalization and activation; He et al., 2016b."""

    def __init__(self, channels, stride, downsample=False, in_channels=0, **kwargs):
        super().__init__(**kwargs)
        self.bn1, self.conv1 = nn.BatchNorm(), conv3x3(channels, stride, in_channels)
        self.bn2, self.conv2 = nn.BatchNorm(), conv3x3(channels, 1, channels)
        self.downsample = shortcut(channels, stride, in_channels) if downsample else None

    def hybrid_forward(self, F, x):
        y = F.Activation(self.bn1(x), act_type="relu")
        around = x if self.downsample is None else self.downsample(y)
        y = F.Activation(self.bn2(self.conv1(y)), act_type="relu")
        return self.conv2(y) + around


class BottleneckV2(HybridBlock):
    """Three convolutions, each after normalization and activation."""

    def __init__(self, channels, stride, downsample=False, in_channels=0, **kwargs):
        super().__init__(**kwargs)
        few = channels // 4
        self.bn1 = nn.BatchNorm()
        self.conv1 = nn.Conv2D(few, kernel_size=1, strides=1, use_bias=False)
        self.bn2, self.conv2 = nn.BatchNorm(), conv3x3(few, stride, few)
        self.bn3 = nn.BatchNorm()
        self.conv3 = nn.Conv2D(channels, kernel_size=1, strides=1, use_bias=False)
        self.downsample = shortcut(channels, stride, in_channels) if downsample else None

    def hybrid_forward(self, F, x):
        y = F.Activation(self.bn1(x), act_type="relu")
        around = x if self.downsample is None else self.downsample(y)
        y = F.Activation(self.bn2(self.conv1(y)), act_type="relu")
        y = F.Activation(self.bn3(self.conv2(y)), act_type="relu")
        return self.conv3(y) + around


def add_stem(features, channels, thumbnail):
    """The first layers: a large window and a pooling, or a small window for small pictures."""
    if thumbnail:
        features.add(conv3x3(channels, 1, 0))
        return
    features.add(nn.Conv2D(channels, 7, 2, 3, use_bias=False), nn.BatchNorm())
    features.add(nn.Activation("relu"), nn.MaxPool2D(3, 2, 1))


def add_stages(features, block, layers, channels):
    """The stages: each begins with a block that halves the picture, but the first."""
    for i, count in enumerate(layers):
        before, width = channels[i], channels[i + 1]
        stage = nn.HybridSequential(prefix=f"stage{i + 1}_")
        with stage.name_scope():
            first = 1 if i == 0 else 2
            stage.add(block(width, first, width != before, in_channels=before, prefix=""))
            for _ in range(count - 1):
                stage.add(block(width, 1, False, in_channels=width, prefix=""))
        features.add(stage)


class Classifier(HybridBlock):
    """A network that finds `features` and gives an `output` from them."""

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))


class ResNetV1(Classifier):
    """He et al., "Deep Residual Learning for Image Recognition", 2016."""

    def __init__(self, block, layers, channels, classes=1000, thumbnail=False, **kwargs):
        super().__init__(**kwargs)
        assert len(layers) == len(channels) - 1
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            add_stem(self.features, channels[0], thumbnail)
            add_stages(self.features, block, layers, channels)
            self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.Dense(classes, in_units=channels[-1])


class ResNetV2(Classifier):
    """He et al., "Identity Mappings in Deep Residual Networks", 2016."""

    def __init__(self, block, layers, channels, classes=1000, thumbnail=False, **kwargs):
        super().__init__(**kwargs)
        assert len(layers) == len(channels) - 1
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(nn.BatchNorm(scale=False, center=False))
            add_stem(self.features, channels[0], thumbnail)
            add_stages(self.features, block, layers, channels)
            self.features.add(nn.BatchNorm(), nn.Activation("relu"), nn.GlobalAvgPool2D())
            self.features.add(nn.Flatten())
            self.output = nn.Dense(classes, in_units=channels[-1])


NARROW, WIDE = [64, 64, 128, 256, 512], [64, 256, 512, 1024, 2048]
resnet_spec = {
    18: ("basic_block", [2, 2, 2, 2], NARROW),
    34: ("basic_block", [3, 4, 6, 3], NARROW),
    50: ("bottle_neck", [3, 4, 6, 3], WIDE),
    101: ("bottle_neck", [3, 4, 23, 3], WIDE),
    152: ("bottle_neck", [3, 8, 36, 3], WIDE),
}
resnet_net_versions = [ResNetV1, ResNetV2]
resnet_block_versions = [
    {"basic_block": BasicBlockV1, "bottle_neck": BottleneckV1},
    {"basic_block": BasicBlockV2, "bottle_neck": BottleneckV2},
]


def get_resnet(version, num_layers, pretrained=False, ctx=None, root=None, **kwargs):
    """A ResNet of version 1 or 2 with 18, 34, 50, 101 or 152 layers."""
    assert num_layers in resnet_spec, (
        f"Invalid number of layers: {num_layers}. Options are {[*resnet_spec]}"
    )
    assert version in (1, 2), f"Invalid resnet version: {version}. Options are 1 and 2."
    kind, layers, channels = resnet_spec[num_layers]
    block = resnet_block_versions[version - 1][kind]
    net = resnet_net_versions[version - 1](block, layers, channels, **kwargs)
    return pretrained_or_not(net, f"resnet{num_layers}_v{version}", pretrained, ctx, root)


def named(version, num_layers):
    """The function of one of the ResNets."""

    def make(**kwargs):
        return get_resnet(version, num_layers, **kwargs)

    make.__name__ = make.__qualname__ = f"resnet{num_layers}_v{version}"
    make.__doc__ = f"ResNet-{num_layers}, version {version}."
    return make


resnet18_v1, resnet34_v1, resnet50_v1, resnet101_v1, resnet152_v1 = [
    named(1, n) for n in resnet_spec
]
resnet18_v2, resnet34_v2, resnet50_v2, resnet101_v2, resnet152_v2 = [
    named(2, n) for n in resnet_spec
]
