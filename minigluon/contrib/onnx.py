"""ONNX is a graph in a protocol buffer: write each node in its words, and any runtime can run it."""

# Written from chapters/97b_onnx.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.onnx.mx2onnx import export_model
from minigluon.onnx.onnx2mx import get_model_metadata, import_model, import_to_gluon

__all__ = ["export_model", "get_model_metadata", "import_model", "import_to_gluon"]
