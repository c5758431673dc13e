"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import executor
from minigluon.symbol import files, inference
from minigluon.symbol.space import SymbolSpace

# --- The face `mx.sym` ----------------------------------------------------------------------------

PARTS = (executor, files, inference)  # they give Symbol its methods
PLACES = {
    "minigluon.symbol.symbol": ("Group", "NotImplementedForSymbol", "Symbol", "Variable", "var"),
    "minigluon.symbol.space": (
        "arange",
        "eye",
        "cast_storage",
        "full",
        "histogram",
        "hypot",
        "linspace",
        "maximum",
        "minimum",
        "modulo",
        "ones",
        "pow",
        "power",
        "zeros",
    ),
    "minigluon.symbol.files": ("load", "load_json", "fromjson"),
    "minigluon.operator": {"Custom": "Custom_symbol"},
    "minigluon.symbol.random": (
        "normal",
        "uniform",
        "random_exponential",
        "random_gamma",
        "random_generalized_negative_binomial",
        "random_negative_binomial",
        "random_normal",
        "random_poisson",
        "random_randint",
        "random_uniform",
    ),
}
space = SymbolSpace(__name__, places=PLACES)
__getattr__, __dir__ = space.find, space.names
