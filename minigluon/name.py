"""A Symbol is a value still to be computed: an expression that is remembered instead of evaluated."""

# Written from chapters/20_symbols.ipynb: edit the chapter, then run `minigluon export`.

import threading
from collections import Counter

__all__ = ["Current", "Innermost", "NameManager", "Prefix", "current", "managers"]


# --- Names ----------------------------------------------------------------------------------------


class NameManager:
    """Gives nodes their names: the one that is asked for, or a hint with a number behind it."""

    stack = threading.local()

    def __init__(self):
        self._counter = Counter()

    def get(self, name, hint):
        """`name` itself, or `hint` and how often it was used before."""
        if name:
            return name
        self._counter[hint] += 1
        return f"{hint}{self._counter[hint] - 1}"

    def __enter__(self):
        managers().append(self)
        return self

    def __exit__(self, *_):
        managers().pop()


class Prefix(NameManager):
    """A manager that puts `prefix` before every name."""

    def __init__(self, prefix):
        super().__init__()
        self._prefix = prefix

    def get(self, name, hint):
        return self._prefix + super().get(name, hint)


def managers():
    """This thread's managers, the current one last."""
    if not hasattr(NameManager.stack, "value"):
        NameManager.stack.value = [NameManager()]
    return NameManager.stack.value


def current():
    """The manager that names the next node."""
    return managers()[-1]


class Current:
    """The attribute `current` of a class: what `get()` says at the time."""

    def __init__(self, get):
        self.get = get

    def __get__(self, instance, owner):
        return self.get()


class Innermost:
    """MXNet's `_current`: its `value` is the innermost of a thread's scopes, and may be replaced."""

    def __init__(self, scopes):
        self.scopes = scopes

    @property
    def value(self):
        """The innermost scope."""
        return self.scopes()[-1]

    @value.setter
    def value(self, scope):
        self.scopes()[-1] = scope


NameManager.current, NameManager._current = Current(current), Innermost(managers)
