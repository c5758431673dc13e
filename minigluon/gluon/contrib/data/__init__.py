"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb, chapters/87_text.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.data import text
from minigluon.gluon.contrib.data.sampler import IntervalSampler

__all__ = ["IntervalSampler", "WikiText103", "WikiText2", "text"]


# --- A text as numbers ----------------------------------------------------------------------------

WikiText2, WikiText103 = text.WikiText2, text.WikiText103
