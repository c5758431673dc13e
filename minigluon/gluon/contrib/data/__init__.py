"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.data.sampler import IntervalSampler

__all__ = ["IntervalSampler"]
