"""The operator of chapter 51: CTC, against a sum over all sequences of frames."""

from itertools import product

import numpy as np

from tests.rows import Row, signed


def reading(frames, blank):
    merged = [f for i, f in enumerate(frames) if i == 0 or f != frames[i - 1]]
    return [f for f in merged if f != blank]


def enumerated(logits, label, blank):
    """Minus the log-probability of a label, by trying every sequence of frames. logits: (T, C)."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    total = sum(
        np.prod(p[np.arange(len(p)), frames])
        for frames in product(range(p.shape[1]), repeat=len(p))
        if reading(frames, blank) == list(label)
    )
    with np.errstate(divide="ignore"):
        return -np.log(total)


def reference(data, label, *lengths, use_data_lengths=False, use_label_lengths=False, **settings):
    first = settings.get("blank_label", "first") == "first"
    blank, pads = (0, (0, -1)) if first else (data.shape[2] - 1, (-1,))
    lengths = list(lengths)
    own = lengths.pop(0) if use_data_lengths else [len(data)] * len(label)
    found = []
    for i, row in enumerate(label):
        ends = [k for k, n in enumerate(row) if n in pads] + [len(row)]
        count = int(lengths[0][i]) if use_label_lengths else ends[0]
        found.append(enumerated(data[: int(own[i]), i], row[:count].astype(int), blank))
    return np.array(found)


data = signed(4, 3, 3) * 3
labels = np.array([[1, 2, 0], [2, 2, 0], [0, 0, 0]])
behind = np.array([[1, 0, -1], [1, 1, -1], [0, 1, 0]])
both = {"use_data_lengths": True, "use_label_lengths": True}
ROWS = [
    Row("CTCLoss", (data, labels), {}, reference, (0,), note="blank first",
        wrong=((data, labels + 1), {}), says="label 3 is not a whole number from 0 to 2"),
    Row("CTCLoss", (data, behind), {"blank_label": "last"}, reference, (0,), note="blank last",
        wrong=((data, labels), {"blank_label": "middle"}), says="'first' or 'last'"),
    Row("CTCLoss", (data, labels, np.array([4, 3, 2])), {"use_data_lengths": True}, reference, (0,),
        note="lengths of data",
        wrong=((data, labels, np.array([4, 5, 2])), {"use_data_lengths": True}),
        says="data length 5 is not a whole number from 0 to 4"),
    Row("CTCLoss", (data, labels, np.array([4, 4, 2]), np.array([2, 1, 0])), both, reference, (0,),
        note="both lengths",
        wrong=((data, labels, np.array([4, 4, 2]), np.array([2, 4, 0])), both),
        says="label length 4 is not a whole number from 0 to 3"),
    Row("CTCLoss", (data[:, :1], np.array([[1, 2]])), {}, reference, (0,), note="alone",
        wrong=((data, np.array([[1, 2]])), {}), says="(batch, labels)"),
    Row("CTCLoss", (data[:, :1], np.array([[1.0]])), {}, reference, (0,), note="one letter",
        wrong=((data, labels + 0.5), {}), says="label 1.5 is not a whole number"),
    Row("CTCLoss", (data, labels), {}, reference, (), note="arrays missing",
        wrong=((data, labels), both), says="expecting 4 arrays, but got 2"),
]  # fmt: skip
