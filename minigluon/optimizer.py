"""Step against the gradient, remember where you were heading, and mind the shape of the valley."""

# Written from chapters/70_sgd.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.autograd import writable
from minigluon.ndarray.ndarray import zeros
from minigluon.ops.optimizer import descent

__all__ = ["Optimizer", "SGD", "Updater", "create", "get_updater", "register", "registry"]


# --- The optimizer --------------------------------------------------------------------------------

registry = {}  # name in small letters -> class


def register(klass):
    """Class decorator: let `create` find an optimizer by its class name in small letters."""
    registry[klass.__name__.lower()] = klass
    return klass


def create(name, **kwargs):
    """An optimizer by name, such as 'sgd'; ValueError for an unknown one."""
    if name.lower() not in registry:
        raise ValueError(f"Cannot find optimizer {name}; known are {', '.join(sorted(registry))}")
    return registry[name.lower()](**kwargs)


class Optimizer:
    """The base class of optimizers: learning rate, weight decay, multipliers and counts.

    `rescale_grad` multiplies each gradient, `clip_gradient` bounds its numbers afterwards; `wd` is the
    weight decay; `lr_scheduler(num_update)` gives the learning rate if there is one.
    """

    def __init__(
        self,
        rescale_grad=1.0,
        param_idx2name=None,
        wd=0.0,
        clip_gradient=None,
        learning_rate=None,
        lr_scheduler=None,
        sym=None,
        begin_num_update=0,
        multi_precision=False,
        param_dict=None,
    ):
        self.rescale_grad, self.wd, self.clip_gradient = rescale_grad, wd, clip_gradient
        self.lr = 0.01 if learning_rate is None else learning_rate
        self.lr_scheduler = lr_scheduler
        if lr_scheduler is not None and learning_rate is not None:
            lr_scheduler.base_lr = learning_rate
        self.begin_num_update = self.num_update = begin_num_update
        self.multi_precision = multi_precision
        self.idx2name, self.param_dict = dict(param_idx2name or {}), dict(param_dict or {})
        self.lr_mult, self.wd_mult = {}, {}
        self._counts = {}  # (device, parameter) -> updates
        self._device = None

    create_optimizer = staticmethod(create)
    register = staticmethod(register)

    # --- The optimizer ----------------------------------------------------------------------------

    @property
    def learning_rate(self):
        """The learning rate now, before the parameters' multipliers."""
        return self.lr if self.lr_scheduler is None else self.lr_scheduler(self.num_update)

    def set_learning_rate(self, lr):
        """Set the learning rate; UserWarning is raised if a schedule decides."""
        if self.lr_scheduler is not None:
            raise UserWarning("LRScheduler of the optimizer has already been defined: it decides")
        self.lr = lr

    def set_lr_mult(self, args_lr_mult):
        """Multiply the learning rates of parameters, given by number or name."""
        self.lr_mult = dict(args_lr_mult)

    def set_wd_mult(self, args_wd_mult):
        """Multiply the weight decays of parameters, given by number or name."""
        self.wd_mult = dict(args_wd_mult)

    def _multiplier(self, kind, index):
        if index in self.param_dict:
            return getattr(self.param_dict[index], kind)
        given = getattr(self, kind)
        return given.get(index, given.get(self.idx2name.get(index), 1.0))

    def _update_count(self, index):
        key = self._device, index
        count = self._counts[key] = self._counts.get(key, self.begin_num_update) + 1
        if count > self.num_update:
            self.num_update = count

    def _get_lr(self, index):
        return self.learning_rate * self._multiplier("lr_mult", index)

    def _get_wd(self, index):
        return self.wd * self._multiplier("wd_mult", index)

    # --- The optimizer ----------------------------------------------------------------------------

    def create_state(self, index, weight):
        """What the optimizer remembers of a parameter between updates; None for nothing."""
        return None

    def update(self, index, weight, grad, state):
        """Change `weight` by its gradient: to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} does not define update(...)")

    def create_state_multi_precision(self, index, weight):
        """The state of a parameter that may be float16; here the same as `create_state`."""
        return self.create_state(index, weight)

    def update_multi_precision(self, index, weight, grad, state):
        """Update a parameter that may be float16; here the same as `update`."""
        self.update(index, weight, grad, state)


@register
class SGD(Optimizer):
    """Gradient descent, with `momentum` if it is not 0. Polyak, 1964."""

    def __init__(self, momentum=0.0, lazy_update=True, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.lazy_update = momentum, lazy_update

    def create_state(self, index, weight):
        """The velocity: zeros at first."""
        return zeros(weight.shape, weight.context, weight.dtype) if self.momentum else None

    def update(self, index, weight, grad, state):
        """Change `weight`, and the velocity `state`, in place."""
        self._update_count(index)
        w, lr, wd = writable(weight), self._get_lr(index), self._get_wd(index)
        step = descent(w, grad._data, lr, wd, self.rescale_grad, self.clip_gradient)
        if state is not None:
            velocity = state._data
            velocity *= self.momentum
            step = np.subtract(velocity, step, out=velocity)
            w += step
        else:
            w -= step


class Updater:
    """Applies an optimizer to parameters by number, and keeps their states."""

    def __init__(self, optimizer):
        self.optimizer, self.states = optimizer, {}

    def __call__(self, index, grad, weight):
        """Update `weight`; the first time its state is made."""
        self.optimizer._device = weight._ctx  # each device counts its own updates
        if index not in self.states:
            self.states[index] = self.optimizer.create_state_multi_precision(index, weight)
        self.optimizer.update_multi_precision(index, weight, grad, self.states[index])


def get_updater(optimizer):
    """An `Updater` of an optimizer."""
    return Updater(optimizer)
