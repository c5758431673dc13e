"""Give every parameter a step of its own size, learnt from the gradients it has seen."""

# Written from chapters/70c_optimizers.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.autograd import assign
from minigluon.ndarray.ndarray import NDArray
from minigluon.ndarray.utils import zeros
from minigluon.op import operators
from minigluon.ops.optimizer import group_step, lamb_step, stepped, stepped32
from minigluon.optimizer.optimizer import Stepper, register

__all__ = [
    "GroupAdaGrad",
    "lamb_steps",
    "multi_adamw_update",
    "multi_lamb_update",
    "multi_mp_adamw_update",
    "multi_mp_lamb_update",
    "written",
]


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


def written(out, ys):
    """The arrays `ys`, written into those of `out` if there are any."""
    return list(ys) if out is None else [assign(o, y) for o, y in zip(out, ys)]


def multi_adamw_update(
    weights, grads, mean, var, rescale_grad, lrs, wds, etas, out=None, name=None, size=0, **kwargs
):
    """`adamw_update` of many weights, into `out`; `mean` and `var` are changed in place."""
    update, scale = operators["contrib_adamw_update"], rescale_grad
    rows = zip(weights, grads, mean, var, lrs, wds, etas)
    return written(
        out, [update(*a, scale, lr=lr, wd=wd, eta=eta, **kwargs) for *a, lr, wd, eta in rows]
    )


def multi_mp_adamw_update(
    weights,
    grads,
    mean,
    var,
    weights32,
    rescale_grad,
    lrs,
    wds,
    etas,
    out=None,
    name=None,
    size=0,
    **kwargs,
):
    """The same for float16 weights; their float32 copies are changed in place."""
    update, scale = operators["contrib_mp_adamw_update"], rescale_grad
    rows = zip(weights, grads, mean, var, weights32, lrs, wds, etas)
    return written(
        out, [update(*a, scale, lr=lr, wd=wd, eta=eta, **kwargs) for *a, lr, wd, eta in rows]
    )


def multi_lamb_update(
    weights, grads, mean, var, step_count, lrs, wds, out=None, num_tensors=0, **kwargs
):
    """A step of LAMB for many weights, into `out`; `mean` and `var` are changed in place."""
    return written(
        out, lamb_steps(stepped, zip(weights, grads, mean, var), step_count, lrs, wds, **kwargs)
    )


def multi_mp_lamb_update(
    weights, grads, mean, var, weights32, step_count, lrs, wds, out=None, num_tensors=0, **kwargs
):
    """The same for float16 weights; their float32 copies are changed in place."""
    groups = zip(weights, grads, mean, var, weights32)
    return written(out, lamb_steps(stepped32, groups, step_count, lrs, wds, **kwargs))


def lamb_steps(
    stepped,
    groups,
    step_count,
    lrs,
    wds,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-6,
    bias_correction=True,
    rescale_grad=1.0,
    lower_bound=-1.0,
    upper_bound=-1.0,
    clip_gradient=-1.0,
):
    """The new weights of groups of arrays, one after the other."""
    common = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "rescale_grad": rescale_grad}
    common |= {"bias_correction": bias_correction, "clip_gradient": clip_gradient}
    common |= {"lower_bound": lower_bound, "upper_bound": upper_bound}
    for arrays, t, lr, wd in zip(groups, step_count, lrs, wds):
        raw = stepped(lamb_step, *[a._data for a in arrays], lr=lr, wd=wd, t=t, **common)
        yield NDArray(raw, arrays[0]._ctx)
