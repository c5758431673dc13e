"""A cell that is given symbols instead of arrays writes down one step; unrolled, it writes down the whole sentence."""

# Written from chapters/89b_symbolic_cells.ipynb: edit the chapter, then run `minigluon export`.

import bisect
import logging
import random

import numpy as np

from minigluon import ndarray as nd
from minigluon.io import DataBatch, DataDesc, DataIter

__all__ = ["BucketSentenceIter", "encode_sentences"]


# --- Recurrent networks as graphs -----------------------------------------------------------------


def encode_sentences(
    sentences, vocab=None, invalid_label=-1, invalid_key="\n", start_label=0, unknown_token=None
):
    """Sentences of words as lists of numbers, and the vocabulary {word: number},
    which is made if none is given.
    """
    fresh, number, found = vocab is None, start_label, []
    vocab = {invalid_key: invalid_label} if fresh else vocab
    for sentence in sentences:
        coded = []
        for word in sentence:
            if word not in vocab:
                assert fresh or unknown_token, f"Unknown token {word}"
                number += number == invalid_label
                word = unknown_token if unknown_token else word
                vocab[word] = number
                number += 1
            coded.append(vocab[word])
        found.append(coded)
    return found, vocab


class BucketSentenceIter(DataIter):
    """Batches of sentences of similar length, for language models.

    `sentences` are lists of numbers; `buckets` lengths, by default all that fill a batch; longer
    sentences are left out. Missing words are `invalid_label`. A batch has `bucket_key`, its length;
    `layout` is NT or TN.
    """

    def __init__(
        self,
        sentences,
        batch_size,
        buckets=None,
        invalid_label=-1,
        data_name="data",
        label_name="softmax_label",
        dtype="float32",
        layout="NT",
    ):
        super().__init__(batch_size)
        if not buckets:
            counts = np.bincount([len(s) for s in sentences])
            buckets = [n for n, count in enumerate(counts) if count >= batch_size]
        if not buckets:
            raise ValueError(f"no length has {batch_size} sentences, a batch: give buckets")
        self.buckets = sorted(buckets)
        self.data_name, self.label_name, self.dtype = data_name, label_name, dtype
        self.invalid_label, self.layout = invalid_label, layout
        self.major_axis = layout.find("N")
        self._fill(sentences)
        self.default_bucket_key = max(self.buckets)
        self.provide_data = self._described(data_name, self.default_bucket_key)
        self.provide_label = self._described(label_name, self.default_bucket_key)
        self.idx = [
            (i, j)
            for i, rows in enumerate(self.data)
            for j in range(0, len(rows) - batch_size + 1, batch_size)
        ]
        self.reset()

    # Sentences in their buckets.

    def _fill(self, sentences):
        """Sort the sentences into the buckets."""
        rows = [[] for _ in self.buckets]
        for sentence in sentences:
            place = bisect.bisect_left(self.buckets, len(sentence))
            if place < len(rows):
                row = np.full(self.buckets[place], self.invalid_label, self.dtype)
                row[: len(sentence)] = sentence
                rows[place].append(row)
        lost = len(sentences) - sum(map(len, rows))
        if lost:
            logging.warning("discarded %d sentences longer than the largest bucket.", lost)
        self.data = [np.array(r, self.dtype).reshape(-1, n) for r, n in zip(rows, self.buckets)]

    def _described(self, name, length):
        """Name, shape and layout of the batches of a bucket."""
        shape = (self.batch_size, length) if self.major_axis == 0 else (length, self.batch_size)
        return [DataDesc(name, shape, layout=self.layout)]

    # --- Recurrent networks as graphs -------------------------------------------------------------

    def reset(self):
        """Begin a new epoch, in another order."""
        self.curr_idx, self.nddata, self.ndlabel = 0, [], []
        random.shuffle(self.idx)
        for rows in self.data:
            np.random.shuffle(rows)
            labels = np.full_like(rows, self.invalid_label)
            labels[:, :-1] = rows[:, 1:]
            self.nddata.append(rows.copy())
            self.ndlabel.append(labels)

    def next(self):
        """The next batch; StopIteration after the last."""
        if self.curr_idx == len(self.idx):
            raise StopIteration
        i, j = self.idx[self.curr_idx]
        self.curr_idx += 1
        data, label = (
            nd.array(part[i][j : j + self.batch_size], dtype=self.dtype)
            for part in (self.nddata, self.ndlabel)
        )
        if self.major_axis == 1:
            data, label = data.T, label.T
        key = self.buckets[i]
        return DataBatch(
            [data],
            [label],
            pad=0,
            bucket_key=key,
            provide_data=self._described(self.data_name, key),
            provide_label=self._described(self.label_name, key),
        )
