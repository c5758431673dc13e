"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import autograd
from minigluon.autograd import backward, mark_variables
from minigluon.ndarray.ndarray import NDArray, zeros

__all__ = [
    "TrainingStateScope",
    "compute_gradient",
    "grad",
    "grad_and_loss",
    "set_is_training",
    "test_section",
    "train_section",
]


# --- Older names ----------------------------------------------------------------------------------


def set_is_training(is_train):
    """Switch recording and training on or off together; what it was before."""
    autograd.set_recording(is_train)
    return autograd.set_training(is_train)


class TrainingStateScope:
    """A `with` block in which recording and training are on, or off."""

    def __init__(self, enter_state):
        self._scope = autograd.record() if enter_state else autograd.pause()

    def __enter__(self):
        self._scope.__enter__()

    def __exit__(self, *error):
        self._scope.__exit__(*error)


def train_section():
    """A `with` block that records for training."""
    return TrainingStateScope(True)


def test_section():
    """A `with` block that does not record, inside one that does."""
    return TrainingStateScope(False)


def compute_gradient(outputs):
    """`backward` of ones."""
    backward(outputs)


def grad_and_loss(func, argnum=None):
    """A function that returns the gradients of `func` for its arguments, or for those of `argnum`,
    and its value.
    """

    def both(*args):
        chosen = (
            range(len(args)) if argnum is None else [argnum] if isinstance(argnum, int) else argnum
        )
        wanted = [args[i] for i in chosen]
        for x in wanted:
            assert isinstance(x, NDArray), (
                f"type of autograd input should be NDArray, not {type(x)}"
            )
        grads = [zeros(x.shape, x.context, x.dtype) for x in wanted]
        mark_variables(wanted, grads)
        with train_section():
            outputs = func(*args)
        compute_gradient([outputs] if isinstance(outputs, NDArray) else outputs)
        return grads, outputs

    return both


def grad(func, argnum=None):
    """A function that returns the gradients of `func` alone."""
    both = grad_and_loss(func, argnum)
    return lambda *args: both(*args)[0]
