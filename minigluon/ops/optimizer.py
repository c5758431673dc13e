"""Step against the gradient, remember where you were heading, and mind the shape of the valley."""

# Written from chapters/70_sgd.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.op import operator

__all__ = ["descent", "sgd_mom_update", "sgd_update"]


# --- The update -----------------------------------------------------------------------------------


@operator
def sgd_update(weight, grad, /, lr, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """`weight - lr (clip(rescale_grad grad) + wd weight)`; four arrays of one shape at most."""
    return weight - descent(weight, grad, lr, wd, rescale_grad, clip_gradient)


def descent(weight, grad, lr, wd, rescale_grad, clip_gradient):
    """`lr` times the direction to go against: the gradient rescaled, clipped to ±clip_gradient if
    that is positive, plus the decay of the weight."""
    step = grad * (lr * rescale_grad)
    if clip_gradient is not None and clip_gradient > 0:
        bound = abs(lr) * clip_gradient
        step = step.clip(-bound, bound, out=step)
    if wd:
        step += (lr * wd) * weight
    return step


@operator
def sgd_mom_update(
    weight, grad, mom, /, lr, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0
):
    """The new weight and momentum: `mom' = momentum mom - lr descent`, `weight + mom'`."""
    mom = momentum * mom - descent(weight, grad, lr, wd, rescale_grad, clip_gradient)
    return weight + mom, mom
