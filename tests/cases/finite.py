"""Operators of the chapter on loops and branches."""

import numpy as np

from tests.rows import Row

X = np.array([np.nan, np.inf, -np.inf, 0.0, 1e30, -2.0])
ROWS = [
    Row("contrib_isnan", (X,), {}, np.isnan, ()),
    Row("contrib_isinf", (X,), {}, np.isinf, ()),
    Row("contrib_isfinite", (X,), {}, np.isfinite, ()),
]
