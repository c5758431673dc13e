"""A loader keeps some batches ahead of the training: worker processes make them, shared memory carries them over."""

# Written from chapters/82_loader.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

import minigluon.ndarray as nd
from minigluon.ndarray.ndarray import NDArray, place, real_dtype
from minigluon.op import BadValue

__all__ = ["AsList", "Group", "List", "Pad", "Stack", "Tuple", "stacked"]


# --- From samples to a batch ----------------------------------------------------------------------


class Stack:
    """Stack numbers or arrays of one shape along a new first axis; their type is kept, or `dtype`."""

    def __init__(self, dtype=None):
        self._dtype = dtype

    def __call__(self, data):
        if isinstance(data[0], NDArray):
            if len({x.shape for x in data}) > 1:
                raise BadValue(self.ragged(data))
            out = stacked(data)
            return out if self._dtype is None else out.astype(self._dtype)
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise ValueError(self.ragged(data)) from error
        return place(data.astype(real_dtype(self._dtype or data.dtype), copy=False), None)

    @staticmethod
    def ragged(data):
        """What to say of samples of several shapes."""
        shapes = sorted({np.shape(x) for x in data})
        return (
            f"samples of shapes {shapes} cannot be stacked: give the loader a batchify_fn that "
            "pads, such as batchify.Pad()"
        )


def stacked(arrays):
    """`nd.stack` of a list of arrays, by a shorter way where no gradient and no GPU is concerned."""
    first = arrays[0]._data
    shape, dtype = first.shape, first.dtype
    if type(first) is not np.ndarray or not shape:
        return nd.stack(*arrays, axis=0)
    raw = []
    for a in arrays:
        if type(a) is not NDArray or a._node is not None:
            return nd.stack(*arrays, axis=0)
        data = a._data
        if data.shape != shape or data.dtype != dtype:
            return nd.stack(*arrays, axis=0)  # it says what is wrong
        raw.append(data)
    return NDArray(np.concatenate(raw).reshape(len(raw), *shape), arrays[0]._ctx)


class Pad:
    """Stack arrays of different shapes, filled up behind with `val`.

    All axes are filled up to the longest sample, or `axis` only; `round_to` makes the lengths
    multiples of it. With `ret_length` the result is (batch, lengths along `axis` or the first).
    """

    def __init__(self, axis=None, val=0, ret_length=False, dtype=None, round_to=None):
        self._axis, self._val, self._ret_length = axis, val, ret_length
        self._dtype, self._round_to = dtype, round_to or 1

    def __call__(self, data):
        data = [x.asnumpy() if isinstance(x, NDArray) else np.asarray(x) for x in data]
        shape = self._padded_shape([x.shape for x in data])
        dtype = np.result_type(*data) if self._dtype is None else self._dtype
        out = np.full((len(data), *shape), self._val, dtype)
        for row, x in zip(out, data):
            row[tuple(map(slice, x.shape))] = x
        batch = nd.array(out, dtype=out.dtype)
        if not self._ret_length:
            return batch
        lengths = np.array([x.shape[self._axis or 0] for x in data], "int32")
        return batch, nd.array(lengths, dtype="int32")

    # --- From samples to a batch ------------------------------------------------------------------

    def _padded_shape(self, shapes):
        """The least shape into which all fit, rounded up where it is padded."""
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError(f"Pad: samples have different numbers of axes: {sorted(set(shapes))}")
        sizes = [max(column) for column in zip(*shapes)]
        padded = range(len(sizes)) if self._axis is None else [range(len(sizes))[self._axis]]
        for i, column in enumerate(zip(*shapes)):
            if i in padded:
                sizes[i] = -(-sizes[i] // self._round_to) * self._round_to
            elif len(set(column)) > 1:
                raise ValueError(
                    f"Pad(axis={self._axis}): axis {i} differs too: {sorted(set(shapes))}"
                )
        return sizes


class Group:
    """A function for each element of the samples, which are tuples: `Group(Pad(), Stack())`."""

    def __init__(self, fn, *args):
        self._fns = [*fn, *args] if isinstance(fn, list | tuple) else [fn, *args]
        for function in self._fns:
            assert callable(function), f"Group takes functions, not {function!r}"

    def __call__(self, data):
        assert len(data[0]) == len(self._fns), (
            f"{len(self._fns)} functions, but samples of {len(data[0])} elements"
        )
        return tuple(fn(list(part)) for fn, part in zip(self._fns, zip(*data)))


Tuple = Group  # its name in GluonNLP


class AsList:
    """The samples as a list, for what is no array, such as strings."""

    def __call__(self, data):
        return list(data)


List = AsList  # its name in GluonNLP
