"""One table of operators, seen through the eyes of one kind of array, and made when somebody looks."""

# Written from chapters/19_namespace.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.namespace import Namespace, seen_by_ndarray

# --- Namespaces -----------------------------------------------------------------------------------

PLACES = {
    "minigluon.random": (
        "normal",
        "random_exponential",
        "random_gamma",
        "random_generalized_negative_binomial",
        "random_negative_binomial",
        "random_normal",
        "random_poisson",
        "random_randint",
        "random_uniform",
        "uniform",
    ),
    "minigluon.executor": ("CachedOp",),
    "minigluon.ndarray.sparse": ("cast_storage",),
    "minigluon.operator": ("Custom",),
}
space = Namespace(__name__, seen_by_ndarray, places=PLACES)
__getattr__, __dir__ = space.find, space.names
