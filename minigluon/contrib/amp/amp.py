"""Gradients that are too small for float16 survive if the loss is multiplied by a power of two, and divided out again at the end."""

# Written from chapters/74_half_precision.ipynb: edit the chapter, then run `minigluon export`.

from contextlib import contextmanager

from minigluon.base import MXNetError
from minigluon.contrib.amp.loss_scaler import LossScaler
from minigluon.gluon.trainer import Trainer
from minigluon.optimizer import Optimizer

__all__ = [
    "convert_hybrid_block",
    "convert_model",
    "convert_symbol",
    "init",
    "init_trainer",
    "scale_loss",
    "trained",
    "unscale",
]


# --- Beside a trainer -----------------------------------------------------------------------------

_amp_initialized = False  # attention asks for it: what is least in float16 is more than in float32


def init(
    target_dtype="float16", target_precision_ops=None, conditional_fp32_ops=None, fp32_ops=None
):
    """Switch mixed precision on: here that means loss scaling alone.

    MXNet also casts the arrays of products to `target_dtype`. NumPy computes slower in float16 than in float32, so
    here a network computes in the type that `net.cast` gives it.
    """
    global _amp_initialized
    name = getattr(target_dtype, "__name__", str(target_dtype))
    assert name in ("float16", "bfloat16"), (
        f"AMP currently supports only float16 or bfloat16 as a target_dtype, not {name}"
    )
    _amp_initialized = True


def init_trainer(optimizer_or_trainer):
    """Give a trainer a loss scaler; AssertionError before `init`."""
    assert _amp_initialized, "AMP not initialized, did you forget to call amp.init()?"
    trainer = trained(optimizer_or_trainer)
    trainer._amp_loss_scaler, trainer._amp_original_scale = LossScaler(), trainer._scale


def trained(trainer):
    """A trainer; TypeError for anything else."""
    if isinstance(trainer, Optimizer):
        raise TypeError("AMP is currently only compatible with Gluon Trainer")
    if not isinstance(trainer, Trainer):
        raise TypeError(f"want a Gluon Trainer, not {type(trainer).__name__}")
    return trainer


@contextmanager
def scale_loss(loss, optimizer_or_trainer):
    """A `with` block for the backward pass of the scaled loss, an array or a list; `step` divides again."""
    trainer = optimizer_or_trainer
    scaler = getattr(trainer, "_amp_loss_scaler", None)
    assert scaler is not None, (
        "Loss scaler is not initialized, did you forget to call amp.init_trainer()?"
    )
    trainer._scale = trainer._amp_original_scale / scaler.loss_scale
    several = isinstance(loss, list | tuple)
    yield [part * scaler.loss_scale for part in loss] if several else loss * scaler.loss_scale


def unscale(optimizer_or_trainer):
    """Divide the gradients now, for who wants to look at them or clip them before `step`."""
    trainer = trained(optimizer_or_trainer)
    for p in trainer._params:
        if p.grad_req != "null":
            for g in p.list_grad():
                g[:] = g * trainer._scale
    trainer._scale = 1.0


def _refuse(name, instead):
    """A function that says what to do instead."""

    def convert(*args, **kwargs):
        raise MXNetError(f"amp.{name} is not here: {instead}")

    convert.__name__, convert.__doc__ = name, f"MXNetError: {instead}."
    return convert


convert_hybrid_block = _refuse("convert_hybrid_block", "cast the block with block.cast('float16')")
convert_model = _refuse("convert_model", "cast the arrays with .astype('float16')")
convert_symbol = _refuse("convert_symbol", "cast the arrays with .astype('float16')")
