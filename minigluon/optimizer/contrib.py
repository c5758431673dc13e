"""Give every parameter a step of its own size, learnt from the gradients it has seen."""

# Written from chapters/70c_optimizers.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.ndarray.utils import zeros
from minigluon.ops.optimizer import group_step
from minigluon.optimizer.optimizer import Stepper, register

__all__ = ["GroupAdaGrad"]


# --- The package ----------------------------------------------------------------------------------


@register
class GroupAdaGrad(Stepper):
    """AdaGrad with one history for each row; without decay."""

    lazy_update = True

    def __init__(self, eps=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.float_stable_eps = eps

    def create_state(self, index, weight):
        assert len(weight.shape) == 2, "GroupAdaGrad is for matrices"
        return zeros((weight.shape[0], 1), weight.context, weight.dtype, weight.stype)

    def _formula(self, index, state, settings):
        assert settings.pop("wd") == 0, "Weight decay is not supported for GroupAdaGrad"
        return group_step, {**settings, "epsilon": self.float_stable_eps}
