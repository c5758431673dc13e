"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

import logging

__all__ = ["FactorScheduler", "LearningRateScheduler"]


# --- Names in other places ------------------------------------------------------------------------


class LearningRateScheduler:
    """The rate of an iteration, from `base_lr`."""

    def __init__(self):
        self.base_lr = 0.01

    def __call__(self, iteration):
        """The rate: a subclass says it."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(iteration)")


class FactorScheduler(LearningRateScheduler):
    """The rate times `factor` every `step` iterations; it logs a new rate."""

    def __init__(self, step, factor=0.1):
        super().__init__()
        if step < 1 or factor >= 1.0:
            raise ValueError(
                f"FactorScheduler({step}, {factor}): step is at least 1, factor below 1"
            )
        self.step, self.factor, self.old_lr = step, factor, None

    def __call__(self, iteration):
        """The rate of this iteration."""
        lr = self.base_lr * self.factor ** (iteration // self.step)
        if lr != (self.base_lr if self.old_lr is None else self.old_lr):
            logging.info("iteration %d: the learning rate is now %.5f", iteration, lr)
        self.old_lr = lr
        return lr
