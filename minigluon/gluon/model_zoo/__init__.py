"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.model_zoo import model_store, vision
from minigluon.gluon.model_zoo.vision import get_model

# --- All by name ----------------------------------------------------------------------------------

__all__ = ["get_model", "model_store", "vision"]
