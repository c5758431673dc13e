"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import nd
from minigluon.io import DataBatch, DataDesc, DataIter

__all__ = ["DataLoaderIter", "filled"]


# --- Older names ----------------------------------------------------------------------------------


class DataLoaderIter(DataIter):
    """A `DataLoader` of pairs as an iterator; a last batch that is short is filled up with zeros."""

    def __init__(self, loader, data_name="data", label_name="softmax_label", dtype="float32"):
        super().__init__()
        self._loader, self.dtype = loader, dtype
        data, label = next(iter(loader))
        self.batch_size = data.shape[0]
        self.provide_data = [DataDesc(data_name, data.shape, dtype)]
        self.provide_label = [DataDesc(label_name, label.shape, dtype)]
        self.reset()

    def reset(self):
        """Begin an epoch."""
        self._iter = iter(self._loader)

    def next(self):
        """The next batch."""
        data, label = next(self._iter)
        pad = self.batch_size - data.shape[0]
        arrays = [filled(a.astype(self.dtype), pad) for a in (data, label)]
        return DataBatch([arrays[0]], [arrays[1]], pad)


def filled(a, pad):
    """An array with `pad` rows of zeros behind it."""
    return nd.concat(a, nd.zeros((pad, *a.shape[1:]), a.context, a.dtype), dim=0) if pad else a
