"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.data import batchify
from minigluon.gluon.data.dataloader import DataLoader
from minigluon.gluon.data.dataset import ArrayDataset, Dataset, SimpleDataset
from minigluon.gluon.data.sampler import (
    BatchSampler,
    FilterSampler,
    IntervalSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "FilterSampler",
    "IntervalSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SimpleDataset",
    "batchify",
]
