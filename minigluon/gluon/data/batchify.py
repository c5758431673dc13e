"""A dataset answers "give me sample i"; a sampler says which i come next; a loader makes batches of the answers."""

# Written from chapters/80_data.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

import minigluon.ndarray as nd
from minigluon.ndarray.ndarray import NDArray

__all__ = ["AsList", "Group", "List", "Pad", "Stack", "Tuple"]


# --- From samples to a batch ----------------------------------------------------------------------


class Stack:
    """Stack numbers or arrays of one shape along a new first axis; their type is kept, or `dtype`."""

    def __init__(self, dtype=None):
        self._dtype = dtype

    def __call__(self, data):
        if isinstance(data[0], NDArray):
            out = nd.stack(*data, axis=0)
            return out if self._dtype is None else out.astype(self._dtype)
        try:
            data = np.asarray(data)
        except ValueError as error:
            shapes = sorted({np.shape(x) for x in data})
            raise ValueError(
                f"samples of shapes {shapes} cannot be stacked: give the loader a batchify_fn that "
                "pads, such as batchify.Pad()"
            ) from error
        return nd.array(data, dtype=self._dtype or data.dtype)


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
