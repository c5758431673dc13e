"""Several devices hold a copy of each weight; the store holds the true one, and adds up what they say about it."""

# Written from chapters/70x_kvstore.ipynb: edit the chapter, then run `minigluon export`.

import warnings

__all__ = ["KVStoreBase", "TestStore", "as_list"]


# --- What a store must do -------------------------------------------------------------------------


class KVStoreBase:
    """What a store for training on several devices must have;
    `register` makes its name known to `create`.
    """

    OPTIMIZER = "optimizer"
    kv_registry = {}  # name in small letters -> class

    def broadcast(self, key, value, out, priority=0):
        """Write the `value` of the worker of rank 0 into `out`, on all workers."""
        raise NotImplementedError()

    def pushpull(self, key, value, out=None, priority=0):
        """Sum `value` over devices and workers, and write the result into `out`, by default `value`."""
        raise NotImplementedError()

    def set_optimizer(self, optimizer):
        """Let the store update its values by `optimizer`."""
        raise NotImplementedError()

    def is_capable(self, capability):
        """Whether the store can do something, such as KVStoreBase.OPTIMIZER."""
        raise NotImplementedError()

    def save_optimizer_states(self, fname, dump_optimizer=False):
        """Write what the store's optimizer remembers."""
        raise NotImplementedError()

    def load_optimizer_states(self, fname):
        """Read what the store's optimizer is to remember."""
        raise NotImplementedError()

    # --- What a store must do ---------------------------------------------------------------------

    @property
    def type(self):
        """The name of the kind of store."""
        raise NotImplementedError()

    @property
    def rank(self):
        """The number of this worker, from 0."""
        raise NotImplementedError()

    @property
    def num_workers(self):
        """How many workers there are."""
        raise NotImplementedError()

    @staticmethod
    def register(klass):
        """Class decorator: let `create` find the class by its name, in small or large letters."""
        assert isinstance(klass, type)
        name, known = klass.__name__.lower(), KVStoreBase.kv_registry
        if name in known:
            warnings.warn(
                f"WARNING: New kvstore {klass.__module__}.{klass.__name__} is overriding existing "
                f"kvstore {known[name].__module__}.{known[name].__name__}",
                stacklevel=2,
            )
        known[name] = klass
        return klass


# --- By name --------------------------------------------------------------------------------------


def as_list(out):
    """A list of arrays from one of them or several."""
    return out if isinstance(out, list) else [out]


@KVStoreBase.register
class TestStore(KVStoreBase):
    """A store that keeps nothing: it sums, and copies. It serves to test trainers."""

    __test__ = False  # pytest: no test
    type, rank, num_workers = "teststore", 0, 1

    def broadcast(self, key, value, out, priority=0):
        """Write `value` into `out`."""
        for o in as_list(out):
            o[:] = value.as_in_context(o.context)

    def pushpull(self, key, value, out=None, priority=0):
        """Write the sum of `value` into `out`, by default into `value`."""
        values = as_list(value)
        found = values[0]
        for other in values[1:]:
            found = found + other.as_in_context(found.context)
        for o in values if out is None else as_list(out):
            o[:] = found.as_in_context(o.context)

    @staticmethod
    def is_capable(capability):
        """Whether the store can do something: no optimizer."""
        if capability.lower() == KVStoreBase.OPTIMIZER:
            return False
        raise ValueError(f"Unknown capability: {capability}")
