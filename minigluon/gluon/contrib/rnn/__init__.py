"""A projection, a mask that stays the same for a whole sequence, and a loop that never unrolls."""

# Written from chapters/62_contrib_cells.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.rnn.rnn_cell import LSTMPCell, VariationalDropoutCell, dynamic_unroll

__all__ = ["LSTMPCell", "VariationalDropoutCell", "dynamic_unroll"]
