"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.symbol.space import SymbolSpace

# --- The face `mx.sym` ----------------------------------------------------------------------------

space = SymbolSpace(__name__, places={"minigluon.symbol.space": ("cast_storage", "retain")})
__getattr__, __dir__ = space.find, space.names
