"""Gradients that are too small for float16 survive if the loss is multiplied by a power of two, and divided out again at the end."""

# Written from chapters/74_half_precision.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.contrib.amp import lists
from minigluon.contrib.amp.amp import (
    convert_bucketing_module,
    convert_hybrid_block,
    convert_model,
    convert_symbol,
    init,
    init_trainer,
    list_conditional_fp32_ops,
    list_fp32_ops,
    list_loss_output_functions,
    list_lp16_fp32_ops,
    list_lp16_ops,
    list_widest_type_cast,
    scale_loss,
    unscale,
)
from minigluon.contrib.amp.loss_scaler import LossScaler

__all__ = [
    "LossScaler",
    "convert_bucketing_module",
    "convert_hybrid_block",
    "convert_model",
    "convert_symbol",
    "init",
    "init_trainer",
    "list_conditional_fp32_ops",
    "list_fp32_ops",
    "list_loss_output_functions",
    "list_lp16_fp32_ops",
    "list_lp16_ops",
    "list_widest_type_cast",
    "lists",
    "scale_loss",
    "unscale",
]
