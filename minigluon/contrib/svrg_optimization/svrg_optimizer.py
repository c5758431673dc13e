"""Remember the mean gradient of one place: then a batch need only say how things have changed since."""

# Written from chapters/89c_variance_reduction.ipynb: edit the chapter, then run `minigluon export`.

import inspect

from minigluon import optimizer as opt
from minigluon.optimizer import Optimizer

# --- Less noise, not smaller steps ----------------------------------------------------------------


@opt.register
class _AssignmentOptimizer(Optimizer):
    """Writes what it is given as a gradient into the array: for arrays that are sums, not weights."""

    def update(self, index, weight, grad, state):
        """Let the array be the gradient."""
        weight[:] = grad


@opt.register
class _SVRGOptimizer(Optimizer):
    """Two optimizers: `default_optimizer`, by name or as an object, for weights;
    arrays whose names end in `_full` are written.
    """

    def __init__(self, default_optimizer, **kwargs):
        known = inspect.signature(Optimizer.__init__).parameters
        super().__init__(**{k: v for k, v in kwargs.items() if k in known})
        chosen = isinstance(default_optimizer, str)
        self.default_opt = opt.create(default_optimizer, **kwargs) if chosen else default_optimizer
        self.aux_opt = _AssignmentOptimizer()

    def _of(self, index):
        """The optimizer for an array, given by number or by name."""
        name = self.idx2name.get(index, index)
        return self.aux_opt if str(name).endswith("_full") else self.default_opt

    def _set_current_context(self, device_id):
        super()._set_current_context(device_id)
        if hasattr(self, "default_opt"):
            self.default_opt._set_current_context(device_id)

    def create_state(self, index, weight):
        """The state that the optimizer of this array wants."""
        return self._of(index).create_state(index, weight)

    def update(self, index, weight, grad, state):
        """Update by the optimizer of this array."""
        self._of(index).update(index, weight, grad, state)
