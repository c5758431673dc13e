"""Walk fast while the goal is far, slowly when it is near, and carefully at the very start."""

# Written from chapters/70b_schedules.ipynb: edit the chapter, then run `minigluon export`.

import logging
from math import cos, pi

__all__ = [
    "CosineScheduler",
    "Curve",
    "FactorScheduler",
    "LRScheduler",
    "MultiFactorScheduler",
    "PolyScheduler",
    "check_factor",
]


# --- Schedules ------------------------------------------------------------------------------------


class LRScheduler:
    """A learning rate for each number of updates; subclasses define `__call__(num_update)`.

    In the first `warmup_steps` updates the rate rises from `warmup_begin_lr` to `base_lr` ('linear') or
    stays at `warmup_begin_lr` ('constant').
    """

    def __init__(self, base_lr=0.01, warmup_steps=0, warmup_begin_lr=0, warmup_mode="linear"):
        assert isinstance(warmup_steps, int), f"warmup_steps is a whole number, not {warmup_steps}"
        if warmup_begin_lr > base_lr:
            raise ValueError("Base lr has to be higher than warmup_begin_lr")
        if warmup_steps < 0:
            raise ValueError("Warmup steps has to be positive or 0")
        if warmup_mode not in ("linear", "constant"):
            raise ValueError("Supports only linear and constant modes of warmup")
        self.base_lr, self.warmup_final_lr, self.warmup_begin_lr = base_lr, base_lr, warmup_begin_lr
        self.warmup_steps, self.warmup_mode = warmup_steps, warmup_mode

    def get_warmup_lr(self, num_update):
        """The rate during warm-up; AssertionError after it."""
        assert num_update < self.warmup_steps, f"warm-up ends after {self.warmup_steps} updates"
        if self.warmup_mode == "constant":
            return self.warmup_begin_lr
        rise = self.warmup_final_lr - self.warmup_begin_lr
        return self.warmup_begin_lr + rise * num_update / self.warmup_steps

    def __call__(self, num_update):
        raise NotImplementedError("must override this")


class FactorScheduler(LRScheduler):
    """The rate times `factor` after every `step` updates, not below `stop_factor_lr`."""

    def __init__(
        self,
        step,
        factor=1,
        stop_factor_lr=1e-8,
        base_lr=0.01,
        warmup_steps=0,
        warmup_begin_lr=0,
        warmup_mode="linear",
    ):
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        if step < 1:
            raise ValueError("Schedule step must be greater or equal than 1 round")
        check_factor(factor)
        self.step, self.factor, self.stop_factor_lr, self.count = step, factor, stop_factor_lr, 0

    def __call__(self, num_update):
        """The rate of an update; earlier ones cannot be asked for any more."""
        if num_update < self.warmup_steps:
            return self.get_warmup_lr(num_update)
        while num_update > self.count + self.step:
            self.count += self.step
            self.base_lr = max(self.base_lr * self.factor, self.stop_factor_lr)
            logging.info("Update[%d]: learning rate is now %0.5e", num_update, self.base_lr)
        return self.base_lr


def check_factor(factor):
    """Refuse a factor that would let the rate grow."""
    if factor > 1.0:
        raise ValueError("Factor must be no more than 1 to make lr reduce")


class MultiFactorScheduler(LRScheduler):
    """The rate times `factor` after each of the update numbers in the list `step`."""

    def __init__(
        self, step, factor=1, base_lr=0.01, warmup_steps=0, warmup_begin_lr=0, warmup_mode="linear"
    ):
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        assert isinstance(step, list) and step, f"step is a list of update numbers, not {step!r}"
        if any(b <= a for a, b in zip(step, step[1:])):
            raise ValueError("Schedule step must be an increasing integer list")
        if step[0] < 1:
            raise ValueError("Schedule step must be greater or equal than 1 round")
        check_factor(factor)
        self.step, self.factor, self.cur_step_ind, self.count = step, factor, 0, 0

    def __call__(self, num_update):
        """The rate of an update; earlier ones cannot be asked for any more."""
        if num_update < self.warmup_steps:
            return self.get_warmup_lr(num_update)
        while self.cur_step_ind < len(self.step) and num_update > self.step[self.cur_step_ind]:
            self.count = self.step[self.cur_step_ind]
            self.cur_step_ind += 1
            self.base_lr *= self.factor
            logging.info("Update[%d]: learning rate is now %0.5e", num_update, self.base_lr)
        return self.base_lr


class Curve(LRScheduler):
    """From `base_lr` down to `final_lr` at update `max_update`, along a curve of the part gone."""

    def __init__(self, max_update, base_lr, final_lr, warmup_steps, warmup_begin_lr, warmup_mode):
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        assert isinstance(max_update, int), f"max_update is a whole number, not {max_update!r}"
        if max_update < 1:
            raise ValueError("maximum number of updates must be strictly positive")
        self.base_lr_orig, self.final_lr, self.max_update = base_lr, final_lr, max_update
        self.max_steps = max_update - warmup_steps

    def __call__(self, num_update):
        """The rate of an update; after `max_update` it stays."""
        if num_update < self.warmup_steps:
            return self.get_warmup_lr(num_update)
        if num_update <= self.max_update:
            height = self.height((num_update - self.warmup_steps) / self.max_steps)
            self.base_lr = self.final_lr + (self.base_lr_orig - self.final_lr) * height
        return self.base_lr


class PolyScheduler(Curve):
    """The curve (1 - t)^pwr."""

    def __init__(
        self,
        max_update,
        base_lr=0.01,
        pwr=2,
        final_lr=0,
        warmup_steps=0,
        warmup_begin_lr=0,
        warmup_mode="linear",
    ):
        super().__init__(max_update, base_lr, final_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        self.power = pwr

    def height(self, t):
        """What is left of the way at the part t of the time."""
        return (1 - t) ** self.power


class CosineScheduler(Curve):
    """The curve (1 + cos πt)/2. Loshchilov and Hutter, SGDR, 2017."""

    def __init__(
        self,
        max_update,
        base_lr=0.01,
        final_lr=0,
        warmup_steps=0,
        warmup_begin_lr=0,
        warmup_mode="linear",
    ):
        super().__init__(max_update, base_lr, final_lr, warmup_steps, warmup_begin_lr, warmup_mode)

    def height(self, t):
        """What is left of the way at the part t of the time."""
        return (1 + cos(pi * t)) / 2
