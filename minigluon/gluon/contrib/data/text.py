"""A vocabulary turns words into numbers; an embedding file says where each word lies among the others."""

# Written from chapters/87_text.ipynb: edit the chapter, then run `minigluon export`.

import os

import numpy as np

from minigluon.contrib.text import utils, vocab
from minigluon.contrib.text.embedding import taken_out
from minigluon.gluon.data.vision.datasets import _DownloadedDataset, data_dir, fetched
from minigluon.gluon.utils import check_sha1
from minigluon.ndarray.ndarray import array

__all__ = ["FOLDER", "WikiText103", "WikiText2"]


# --- A text as numbers ----------------------------------------------------------------------------

FOLDER = os.path.join(data_dir(), "datasets")


class _WikiText(_DownloadedDataset):
    """Articles of Wikipedia: samples are pairs (words, the words one later),
    int32 of length `seq_len`.
    """

    def __init__(self, root, segment, vocab, seq_len):
        if segment not in self._files:
            raise ValueError(f"segment is one of {[*self._files]}, not {segment!r}")
        self._segment, self._vocab, self._seq_len, self._counter = segment, vocab, seq_len, None
        super().__init__(root, None)

    @property
    def vocabulary(self):
        """The vocabulary that numbers the words."""
        return self._vocab

    @property
    def frequencies(self):
        """How often each word occurs, unless the vocabulary was given."""
        return self._counter

    def _get_data(self):
        name, sha1 = self._files[self._segment]
        path = os.path.join(self._root, name)
        if not os.path.exists(path) or (sha1 and not check_sha1(path, sha1)):
            taken_out(fetched(self._root, self._name, None, *self._archive), path)
        numbers = self._numbers(path)
        size = (len(numbers) - 1) // self._seq_len * self._seq_len
        self._data, self._label = (
            array(part, dtype="int32").reshape((-1, self._seq_len))
            for part in (numbers[:size], numbers[1 : size + 1])
        )

    def _numbers(self, path):
        with open(path, encoding="utf-8") as file:
            content = file.read()
        if self._vocab is None:
            self._counter = utils.count_tokens_from_str(content)
            self._vocab = vocab.Vocabulary(self._counter, reserved_tokens=["<eos>"])
        lines = [words for line in content.splitlines() if (words := line.split())]
        words = [word for line in lines for word in [*line, "<eos>"]]
        return np.array(self._vocab.to_indices(words), "int32")


class WikiText2(_WikiText):
    """WikiText-2: two million words; `segment` is 'train', 'validation' or 'test'."""

    _name = "wikitext-2"
    _archive = ("wikitext-2-v1.zip", "3c914d17d80b1459be871a5039ac23e752a53cbe")
    _files = {
        "train": ("wiki.train.tokens", "863f29c46ef9d167fff4940ec821195882fe29d1"),
        "validation": ("wiki.valid.tokens", "0418625c8b4da6e4b5c7a0b9e78d4ae8f7ee5422"),
        "test": ("wiki.test.tokens", "c7b8ce0aa086fb34dab808c5c49224211eb2b172"),
    }

    def __init__(
        self,
        root=f"{FOLDER}/wikitext-2",
        segment="train",
        vocab=None,
        seq_len=35,
    ):
        super().__init__(root, segment, vocab, seq_len)


class WikiText103(_WikiText):
    """WikiText-103: a hundred million words; `segment` is 'train', 'validation' or 'test'."""

    _name = "wikitext-103"
    _archive = ("wikitext-103-v1.zip", "0aec09a7537b58d4bb65362fee27650eeaba625a")
    _files = {
        "train": ("wiki.train.tokens", "b7497e2dfe77e72cfef5e3dbc61b7b53712ac211"),
        "validation": ("wiki.valid.tokens", "c326ac59dc587676d58c422eb8a03e119582f92b"),
        "test": ("wiki.test.tokens", "8a5befc548865cec54ed4273cf87dbbad60d1e47"),
    }

    def __init__(
        self,
        root=f"{FOLDER}/wikitext-103",
        segment="train",
        vocab=None,
        seq_len=35,
    ):
        super().__init__(root, segment, vocab, seq_len)
