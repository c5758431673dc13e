"""Step against the gradient, remember where you were heading, and mind the shape of the valley."""

# Written from chapters/70_sgd.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.op import operator

__all__ = ["descent", "sgd_mom_update", "sgd_update"]


# --- The update -----------------------------------------------------------------------------------


@operator
def sgd_update(weight, grad, /, lr, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """`weight - lr (clip(rescale_grad grad) + wd weight)`; four arrays of one shape at most."""
    return weight - lr * descent(weight, grad, wd, rescale_grad, clip_gradient)


def descent(weight, grad, wd, rescale_grad, clip_gradient):
    """The direction to go against: the gradient rescaled, clipped to ±clip_gradient if that is
    positive, plus the decay of the weight."""
    g = grad * rescale_grad
    if clip_gradient is not None and clip_gradient > 0:
        g = g.clip(-clip_gradient, clip_gradient, out=g)
    if wd:
        g += wd * weight
    return g


@operator
def sgd_mom_update(
    weight, grad, mom, /, lr, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0
):
    """The new weight and momentum: `mom' = momentum mom - lr descent`, `weight + mom'`."""
    mom = momentum * mom - lr * descent(weight, grad, wd, rescale_grad, clip_gradient)
    return weight + mom, mom
