"""A vocabulary turns words into numbers; an embedding file says where each word lies among the others."""

# Written from chapters/87_text.ipynb: edit the chapter, then run `minigluon export`.

from collections import Counter

__all__ = ["Vocabulary", "frequent"]


# --- The vocabulary -------------------------------------------------------------------------------


class Vocabulary:
    """Tokens by number: first the unknown token, then the reserved ones, then the most frequent.

    Tokens of equal frequency are in their own order. `most_freq_count` bounds the counted tokens,
    `min_freq` leaves out the rare ones.
    """

    def __init__(
        self,
        counter=None,
        most_freq_count=None,
        min_freq=1,
        unknown_token="<unk>",
        reserved_tokens=None,
    ):
        assert min_freq > 0, "`min_freq` must be set to a positive value."
        reserved = [] if reserved_tokens is None else list(reserved_tokens)
        assert unknown_token not in reserved, "`reserved_token` cannot contain `unknown_token`."
        assert len(set(reserved)) == len(reserved), (
            "`reserved_tokens` cannot contain duplicate reserved tokens."
        )
        self._unknown_token = unknown_token
        self._reserved_tokens = None if reserved_tokens is None else reserved
        self._idx_to_token = [unknown_token, *reserved]
        if counter is not None:
            self._idx_to_token += frequent(counter, self._idx_to_token, most_freq_count, min_freq)
        self._token_to_idx = {token: i for i, token in enumerate(self._idx_to_token)}

    # --- The vocabulary ---------------------------------------------------------------------------

    def __len__(self):
        return len(self.idx_to_token)

    @property
    def token_to_idx(self):
        """A dict {token: number}."""
        return self._token_to_idx

    @property
    def idx_to_token(self):
        """The tokens, a list in the order of their numbers."""
        return self._idx_to_token

    @property
    def unknown_token(self):
        """What stands for every token that is not known."""
        return self._unknown_token

    @property
    def reserved_tokens(self):
        """The tokens that were reserved, a list or None."""
        return self._reserved_tokens

    def to_indices(self, tokens):
        """The number of a token, or of each in a list; 0 for what is not known."""
        if not isinstance(tokens, list):
            return self._token_to_idx.get(tokens, 0)
        return [self._token_to_idx.get(token, 0) for token in tokens]

    def to_tokens(self, indices):
        """The token of a number, or of each in a list; ValueError for a number that is none."""
        if isinstance(indices, list):
            return [self.to_tokens(i) for i in indices]
        if not isinstance(indices, int) or not 0 <= indices < len(self._idx_to_token):
            raise ValueError(
                f"Token index {indices} in the provided `indices` is invalid: it is a whole number "
                f"from 0 to {len(self._idx_to_token) - 1}"
            )
        return self._idx_to_token[indices]


def frequent(counter, known, most_freq_count, min_freq):
    """The tokens of a counter that are not known yet, the most frequent first."""
    assert isinstance(counter, Counter), "`counter` must be an instance of collections.Counter."
    pairs = sorted(counter.items(), key=lambda pair: pair[0])
    pairs.sort(key=lambda pair: pair[1], reverse=True)
    known = set(known)
    tokens = [token for token, count in pairs if count >= min_freq and token not in known]
    return tokens if most_freq_count is None else tokens[:most_freq_count]
