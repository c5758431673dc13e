"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon import nn
from minigluon.gluon.model_zoo.model_store import pretrained_or_not
from minigluon.gluon.model_zoo.vision.resnet import Classifier

__all__ = ["AlexNet", "alexnet"]


# --- AlexNet and VGG ------------------------------------------------------------------------------


class AlexNet(Classifier):
    """Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014."""

    def __init__(self, classes=1000, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            f = self.features = nn.HybridSequential(prefix="")
            with f.name_scope():
                f.add(nn.Conv2D(64, 11, 4, 2, activation="relu"), nn.MaxPool2D(3, 2))
                f.add(nn.Conv2D(192, 5, padding=2, activation="relu"), nn.MaxPool2D(3, 2))
                for channels in (384, 256, 256):
                    f.add(nn.Conv2D(channels, 3, padding=1, activation="relu"))
                f.add(nn.MaxPool2D(3, 2), nn.Flatten())
                for _ in range(2):
                    f.add(nn.Dense(4096, activation="relu"), nn.Dropout(0.5))
            self.output = nn.Dense(classes)


def alexnet(pretrained=False, ctx=None, root=None, **kwargs):
    """AlexNet."""
    return pretrained_or_not(AlexNet(**kwargs), "alexnet", pretrained, ctx, root)
