"""A picture is an array of bytes; to resize it is to multiply it by a narrow matrix from both sides."""

# Written from chapters/83_image.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.symbol.space import SymbolSpace

# --- Two faces ------------------------------------------------------------------------------------

space = SymbolSpace(__name__, prefix="image_")
__getattr__, __dir__ = space.find, space.names
