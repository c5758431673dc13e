"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.symbol.space import SymbolSpace

# --- The face `mx.sym` ----------------------------------------------------------------------------

PLACES = {
    "minigluon.symbol.random": ("rand_zipfian",),
    "minigluon.symbol.control_flow": ("cond", "foreach", "while_loop"),
}
space = SymbolSpace(__name__, prefix="contrib_", places=PLACES)
__getattr__, __dir__ = space.find, space.names
