"""Operators of chapter 03: what the tape itself needs."""

import numpy as np

from tests.rows import Row, signed

ROWS = [
    Row(
        "sum_like",
        (signed(2, 3, 4), signed(3, 1)),
        reference=lambda x, like: x.sum((0, 2)).reshape(3, 1),
        differentiable=(0,),
        wrong=((signed(2, 3), signed(2)), {}),
    ),
    Row(
        "broadcast_like",
        (signed(3, 1), signed(2, 3, 4)),
        reference=lambda x, like: np.broadcast_to(x, like.shape),
        differentiable=(0,),
        wrong=((signed(2, 3), signed(2, 4)), {}),
    ),
    Row("zeros_like", (signed(2, 3),), reference=np.zeros_like, differentiable=()),
    Row("ones_like", (signed(2, 3),), reference=np.ones_like, differentiable=()),
]
