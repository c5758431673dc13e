"""A data set from a file trusts nothing that the file says about itself until it has checked it."""

# Written from chapters/85_vision_datasets.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.data.vision import transforms
from minigluon.gluon.data.vision.datasets import (
    CIFAR10,
    CIFAR100,
    MNIST,
    FashionMNIST,
    ImageFolderDataset,
    ImageListDataset,
    ImageRecordDataset,
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "FashionMNIST",
    "ImageFolderDataset",
    "ImageListDataset",
    "ImageRecordDataset",
    "MNIST",
    "transforms",
]
