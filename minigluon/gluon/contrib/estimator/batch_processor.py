"""A loop says what happens in which order; handlers say what happens: so one loop serves every experiment."""

# Written from chapters/89_estimator.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import autograd
from minigluon.gluon.utils import split_and_load

__all__ = ["BatchProcessor"]


# --- What happens to a batch ----------------------------------------------------------------------


class BatchProcessor:
    """What an estimator does with a batch; override a method to do something else."""

    def _get_data_and_label(self, batch, ctx, batch_axis=0):
        """The two arrays of a batch, each split over the contexts `ctx`: two lists."""
        return tuple(
            split_and_load(part, ctx_list=ctx, batch_axis=batch_axis)
            for part in (batch[0], batch[1])
        )

    def evaluate_batch(self, estimator, val_batch, batch_axis=0):
        """Data, labels, predictions and losses of a batch of validation: four lists."""
        data, label = self._get_data_and_label(val_batch, estimator.context, batch_axis)
        pred = [estimator.val_net(x) for x in data]
        return data, label, pred, [estimator.val_loss(p, y) for p, y in zip(pred, label)]

    def fit_batch(self, estimator, train_batch, batch_axis=0):
        """The same of a batch of training, after its backward pass."""
        data, label = self._get_data_and_label(train_batch, estimator.context, batch_axis)
        with autograd.record():
            pred = [estimator.net(x) for x in data]
            loss = [estimator.loss(p, y) for p, y in zip(pred, label)]
        for one in loss:
            one.backward()
        return data, label, pred, loss
