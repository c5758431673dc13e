"""ONNX is a graph in a protocol buffer: write each node in its words, and any runtime can run it."""

# Written from chapters/97b_onnx.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.onnx import mx2onnx, onnx2mx
from minigluon.onnx.mx2onnx import export_model, get_operator_support

__all__ = ["export_model", "get_operator_support", "mx2onnx", "onnx2mx"]
