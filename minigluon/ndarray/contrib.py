"""One table of operators, seen through the eyes of one kind of array, and made when somebody looks."""

# Written from chapters/19_namespace.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.namespace import Namespace, seen_by_ndarray

# --- Namespaces -----------------------------------------------------------------------------------

PLACES = {
    "minigluon.ndarray.control_flow": ("cond", "foreach", "while_loop"),
    "minigluon.optimizer.contrib": (
        "multi_adamw_update",
        "multi_lamb_update",
        "multi_mp_adamw_update",
        "multi_mp_lamb_update",
    ),
    "minigluon.ndarray.graphs": (
        "dgl_adjacency",
        "dgl_csr_neighbor_non_uniform_sample",
        "dgl_csr_neighbor_uniform_sample",
        "dgl_graph_compact",
        "dgl_subgraph",
        "edge_id",
    ),
    "minigluon.random": ("rand_zipfian",),
}
space = Namespace(__name__, seen_by_ndarray, prefix="contrib_", places=PLACES)
__getattr__, __dir__ = space.find, space.names
