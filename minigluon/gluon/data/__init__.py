"""A loader keeps some batches ahead of the training: worker processes make them, shared memory carries them over."""

# Written from chapters/82_loader.ipynb: edit the chapter, then run `minigluon export`.

import importlib

from minigluon.gluon.data import batchify, pinned
from minigluon.gluon.data.dataloader import DataLoader
from minigluon.gluon.data.dataset import ArrayDataset, Dataset, RecordFileDataset, SimpleDataset
from minigluon.gluon.data.sampler import (
    BatchSampler,
    FilterSampler,
    IntervalSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

# --- The loader -----------------------------------------------------------------------------------

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "FilterSampler",
    "IntervalSampler",
    "RandomSampler",
    "RecordFileDataset",
    "Sampler",
    "SequentialSampler",
    "SimpleDataset",
    "batchify",
    "pinned",
    "vision",  # noqa: F822
]


def __getattr__(name):
    """Load `vision`, which comes in later chapters, on first use."""
    if name == "vision":
        return importlib.import_module("minigluon.gluon.data.vision")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has vision")
