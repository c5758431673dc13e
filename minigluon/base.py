"""An operator is a function on arrays that does not know what an array is."""

# Written from chapters/01_operators.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

__all__ = ["MXNetError", "numeric_types", "string_types"]


# --- Mathematics ----------------------------------------------------------------------------------


class MXNetError(RuntimeError):
    """An operator was called with something it cannot work on; the name is MXNet's, for old code."""


numeric_types = (float, int, np.generic)
string_types = (str,)
