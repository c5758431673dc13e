"""The table of operators, one module a chapter of the catalogue."""

from importlib import import_module
from pkgutil import iter_modules

ROWS = [
    row
    for found in iter_modules(__path__)
    for row in import_module(f"{__name__}.{found.name}").ROWS
]
