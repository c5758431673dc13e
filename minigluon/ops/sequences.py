"""A batch is a rectangle and sentences are not: a mask, a last step and a reversal that know each length."""

# Written from chapters/17_sequences.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.op import operator
from minigluon.ops.indexing import NATURAL, WHOLE, blend, counting, largest

__all__ = [
    "SHORT",
    "SequenceLast",
    "SequenceMask",
    "SequenceReverse",
    "back",
    "inside",
    "last_places",
    "lengths_of",
    "masked",
    "require_lengths",
    "time_first",
    "unlast",
]


# --- Mathematics ----------------------------------------------------------------------------------

SHORT = np.dtype("int32")


def time_first(data, axis):
    """`data` with time on axis 0, a view; `axis` is 0 or 1."""
    if axis not in (0, 1):
        raise ValueError(f"axis={axis}: time is on axis 0 or 1, and the other one is the batch")
    return data if axis == 0 else np.swapaxes(data, 0, 1)


def lengths_of(data, sequence_length, use_sequence_length, dtype=WHOLE):
    """The lengths as whole numbers of type `dtype`; None where all steps count.

    `data` has time on axis 0.
    """
    if not use_sequence_length:
        return None
    if sequence_length is None:
        raise ValueError("use_sequence_length=True: give sequence_length")
    if sequence_length.shape != data.shape[1:2]:
        raise ValueError(f"{data.shape[1]} sequences, but lengths of shape {sequence_length.shape}")
    return sequence_length.astype(dtype)


def require_lengths(lengths, steps):
    """Refuse lengths that name steps which are not there."""
    if lengths.size and not (lengths.min() >= 0 and lengths.max() <= steps):
        raise ValueError(f"a length is not between 0 and {steps}, the number of steps")


def back(first, axis):
    """An array with time on axis 0 in the order that was asked for."""
    return first if axis == 0 else np.swapaxes(first, 0, 1).copy()


def inside(data, lengths):
    """Where the sequences are: an array of truths, of data's number of axes."""
    if lengths.dtype != SHORT:
        lengths = lengths.astype(SHORT)  # of half the width: twice as fast
    found = np.arange(len(data), dtype=SHORT, like=lengths)[:, None] < lengths
    return found if data.ndim == 2 else found.reshape(found.shape + (1,) * (data.ndim - 2))


@operator(
    vjp=(
        lambda g, y, x, n=None, *, use_sequence_length, value, axis: masked(
            g, n, use_sequence_length, axis
        ),
        None,
    ),
    same_dtype=False,
)
def SequenceMask(data, sequence_length=None, /, use_sequence_length=False, value=0.0, axis=0):
    """`data` with `value` behind the end of each sequence.

    data: (steps, batch, …), or (batch, steps, …) with axis=1; sequence_length: (batch,).
    """
    first = data if axis == 0 else time_first(data, axis)
    lengths = lengths_of(first, sequence_length, use_sequence_length, SHORT)
    if lengths is None:
        return data.copy()
    value = np.array(value, first.dtype, like=first)
    y = blend(inside(first, lengths), first, value)
    return y if axis == 0 else back(y, axis)


def masked(g, n, use_sequence_length, axis):
    """A gradient without what lies behind the ends."""
    if n is None:
        return SequenceMask(g, axis=axis)
    return SequenceMask(g, n, use_sequence_length=use_sequence_length, axis=axis)


@operator(
    vjp=(
        lambda g, y, x, n=None, **settings: (
            unlast(g, x, **settings) if n is None else unlast(g, x, n, **settings)
        ),
        None,
    ),
    same_dtype=False,
)
def SequenceLast(data, sequence_length=None, /, use_sequence_length=False, axis=0):
    """The last step of each sequence, (batch, …); of an empty one the first.

    data: (steps, batch, …), or (batch, steps, …) with axis=1; sequence_length: (batch,).
    """
    first = data if axis == 0 else time_first(data, axis)
    last = first[last_places(first, sequence_length, use_sequence_length)]
    return last if use_sequence_length else last.copy()


def last_places(data, sequence_length, use_sequence_length):
    """The index of the last steps."""
    lengths = lengths_of(data, sequence_length, use_sequence_length)
    if lengths is None:
        return len(data) - 1
    last = lengths - 1
    if last.size and largest(last.view(NATURAL)) >= len(data):  # negatives are large, too
        require_lengths(lengths, len(data))
        last = np.maximum(last, 0)
    return last, counting(len(last), lengths)


@operator(
    vjp=(
        lambda g, y, x, like, n=None, **settings: (
            SequenceLast(g, **settings) if n is None else SequenceLast(g, n, **settings)
        ),
        None,
        None,
    ),
    same_dtype=False,
)
def unlast(data, like, sequence_length=None, /, use_sequence_length=False, axis=0):
    """Undo `SequenceLast`: zeros in the shape of `like`, with `data` at the last steps."""
    out = np.zeros_like(like)
    first = time_first(out, axis)
    first[last_places(first, sequence_length, use_sequence_length)] = data
    return out


@operator(
    vjp=(
        lambda g, y, x, n=None, **settings: (
            SequenceReverse(g, **settings) if n is None else SequenceReverse(g, n, **settings)
        ),
        None,
    ),
    same_dtype=False,
)
def SequenceReverse(data, sequence_length=None, /, use_sequence_length=False, axis=0):
    """Each sequence backwards; what lies behind its end stays where it is.

    data: (steps, batch, …), or (batch, steps, …) with axis=1; sequence_length: (batch,).
    """
    first = data if axis == 0 else time_first(data, axis)
    lengths = lengths_of(first, sequence_length, use_sequence_length)
    if lengths is None:
        return back(first[::-1], axis) if axis else first[::-1].copy()
    if lengths.size and largest(lengths.view(NATURAL)) > len(first):
        require_lengths(lengths, len(first))
    steps = counting(len(first), lengths)[:, None]
    mirrored = lengths - 1 - steps  # below 0 behind the end
    y = first[np.where(mirrored < 0, steps, mirrored), counting(len(lengths), lengths)]
    return y if axis == 0 else back(y, axis)


for op in (SequenceMask, SequenceLast, SequenceReverse):
    op.inputs = lambda use_sequence_length, **_: (
        ["data"] + ["sequence_length"] * bool(use_sequence_length)
    )
