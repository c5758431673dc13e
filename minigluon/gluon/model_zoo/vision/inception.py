"""Look at a picture with windows of several shapes at once, or let a search on a telephone choose the shapes."""

# Written from chapters/88b_late_networks.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.contrib.nn import HybridConcurrent
from minigluon.gluon.model_zoo.model_store import pretrained_or_not
from minigluon.gluon.model_zoo.vision.resnet import Classifier

__all__ = [
    "BLOCKS",
    "COLUMN",
    "Inception3",
    "ROW",
    "basic_conv",
    "block_a",
    "block_b",
    "block_c",
    "block_d",
    "block_e",
    "branch",
    "forked",
    "inception_block",
    "inception_v3",
]


# --- Inception v3 ---------------------------------------------------------------------------------

ROW, COLUMN = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))


def basic_conv(channels, kernel_size, strides=1, padding=0):
    """Convolution, normalization, activation."""
    out = nn.HybridSequential(prefix="")
    out.add(nn.Conv2D(channels, kernel_size, strides, padding, use_bias=False))
    out.add(nn.BatchNorm(epsilon=0.001), nn.Activation("relu"))
    return out


def branch(*chain, pool=None):
    """A chain of convolutions, behind a pooling layer if there is one."""
    out = nn.HybridSequential(prefix="")
    if pool == "avg":
        out.add(nn.AvgPool2D(pool_size=3, strides=1, padding=1))
    elif pool == "max":
        out.add(nn.MaxPool2D(pool_size=3, strides=2))
    out.add(*[basic_conv(*step) for step in chain])
    return out


def forked(*chain):
    """A chain that ends in a row and a column side by side."""
    out, fork = nn.HybridSequential(prefix=""), HybridConcurrent(axis=1, prefix="")
    out.add(branch(*chain))
    fork.add(branch((384, (1, 3), 1, (0, 1))), branch((384, (3, 1), 1, (1, 0))))
    out.add(fork)
    return out


def block_a(pooled):
    """Windows of 1, 5 and twice 3."""
    yield branch((64, 1))
    yield branch((48, 1), (64, 5, 1, 2))
    yield branch((64, 1), (96, 3, 1, 1), (96, 3, 1, 1))
    yield branch((pooled, 1), pool="avg")


def block_b():
    """Half the size."""
    yield branch((384, 3, 2))
    yield branch((64, 1), (96, 3, 1, 1), (96, 3, 2))
    yield branch(pool="max")


def block_c(c):
    """Windows of 7 × 7 as rows and columns, `c` channels between."""
    yield branch((192, 1))
    yield branch((c, 1), (c, *ROW), (192, *COLUMN))
    yield branch((c, 1), (c, *COLUMN), (c, *ROW), (c, *COLUMN), (192, *ROW))
    yield branch((192, 1), pool="avg")


def block_d():
    """Half the size again."""
    yield branch((192, 1), (320, 3, 2))
    yield branch((192, 1), (192, *ROW), (192, *COLUMN), (192, 3, 2))
    yield branch(pool="max")


def block_e():
    """Rows and columns side by side."""
    yield branch((320, 1))
    yield forked((384, 1))
    yield forked((448, 1), (384, 3, 1, 1))
    yield branch((192, 1), pool="avg")


BLOCKS = [("A1", block_a, 32), ("A2", block_a, 64), ("A3", block_a, 64), ("B", block_b)]
BLOCKS += [("C1", block_c, 128), ("C2", block_c, 160), ("C3", block_c, 160), ("C4", block_c, 192)]
BLOCKS += [("D", block_d), ("E1", block_e), ("E2", block_e)]


def inception_block(name, make, *settings):
    """The chains of a block side by side."""
    out = HybridConcurrent(axis=1, prefix=f"{name}_")
    with out.name_scope():
        for chain in make(*settings):
            out.add(chain)
    return out


class Inception3(Classifier):
    """Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016: 299 × 299."""

    def __init__(self, classes=1000, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            f = self.features = nn.HybridSequential(prefix="")
            f.add(basic_conv(32, 3, 2), basic_conv(32, 3), basic_conv(64, 3, 1, 1))
            f.add(nn.MaxPool2D(pool_size=3, strides=2))
            f.add(basic_conv(80, 1), basic_conv(192, 3))
            f.add(nn.MaxPool2D(pool_size=3, strides=2))
            f.add(*[inception_block(*block) for block in BLOCKS])
            f.add(nn.AvgPool2D(pool_size=8), nn.Dropout(0.5))
            self.output = nn.Dense(classes)


def inception_v3(pretrained=False, ctx=None, root=None, **kwargs):
    """Inception v3."""
    return pretrained_or_not(Inception3(**kwargs), "inceptionv3", pretrained, ctx, root)
