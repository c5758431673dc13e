"""A vocabulary turns words into numbers; an embedding file says where each word lies among the others."""

# Written from chapters/87_text.ipynb: edit the chapter, then run `minigluon export`.

import re
from collections import Counter

__all__ = ["count_tokens_from_str"]


# --- Counting -------------------------------------------------------------------------------------


def count_tokens_from_str(
    source_str, token_delim=" ", seq_delim="\n", to_lower=False, counter_to_update=None
):
    """Count the tokens of a text; the delimiters are regular expressions.

    Returns a new Counter, or `counter_to_update` with the counts added.
    """
    tokens = [token for token in re.split(f"{token_delim}|{seq_delim}", source_str) if token]
    counter = Counter() if counter_to_update is None else counter_to_update
    counter.update(token.lower() for token in tokens) if to_lower else counter.update(tokens)
    return counter
