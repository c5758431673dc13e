"""Gradients that are too small for float16 survive if the loss is multiplied by a power of two, and divided out again at the end."""

# Written from chapters/74_half_precision.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.contrib.amp.amp import late_lists

# --- Casting a graph ------------------------------------------------------------------------------

__getattr__ = late_lists("bfloat16")
