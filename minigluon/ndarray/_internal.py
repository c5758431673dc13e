"""One table of operators, seen through the eyes of one kind of array, and made when somebody looks."""

# Written from chapters/19_namespace.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.namespace import Namespace, seen_by_ndarray, with_numbers

# --- Namespaces -----------------------------------------------------------------------------------

PICTURES = ("imdecode", "imread", "imresize", "copyMakeBorder")
PLACES = {
    "minigluon.random": {"_sample_unique_zipfian": "unique_zipfian"},
    "minigluon.image.image": {f"_cv{name}": name for name in PICTURES},
}
space = Namespace(__name__, seen_by_ndarray, places=PLACES)
__getattr__, __dir__ = with_numbers(space.find), space.names
