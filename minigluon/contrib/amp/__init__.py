"""Gradients that are too small for float16 survive if the loss is multiplied by a power of two, and divided out again at the end."""

# Written from chapters/74_half_precision.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.contrib.amp.amp import (
    convert_hybrid_block,
    convert_model,
    convert_symbol,
    init,
    init_trainer,
    scale_loss,
    unscale,
)
from minigluon.contrib.amp.loss_scaler import LossScaler

__all__ = [
    "LossScaler",
    "convert_hybrid_block",
    "convert_model",
    "convert_symbol",
    "init",
    "init_trainer",
    "scale_loss",
    "unscale",
]
