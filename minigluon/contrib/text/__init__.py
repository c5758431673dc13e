"""A vocabulary turns words into numbers; an embedding file says where each word lies among the others."""

# Written from chapters/87_text.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.contrib.text import embedding, utils, vocab

__all__ = ["embedding", "utils", "vocab"]
