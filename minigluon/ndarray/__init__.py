"""One table of operators, seen through the eyes of one kind of array, and made when somebody looks."""

# Written from chapters/19_namespace.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.namespace import Namespace, seen_by_ndarray

__all__ = ["Namespace", "PLACES", "seen_by_ndarray", "space"]


# --- Namespaces -----------------------------------------------------------------------------------

PLACES = {
    "minigluon.ndarray.ndarray": (
        "NDArray",
        "arange",
        "array",
        "empty",
        "eye",
        "from_dlpack",
        "from_numpy",
        "full",
        "linspace",
        "ones",
        "to_dlpack_for_read",
        "to_dlpack_for_write",
        "waitall",
        "zeros",
    ),
}
space = Namespace(__name__, seen_by_ndarray, places=PLACES)
__getattr__, __dir__ = space.find, space.names
