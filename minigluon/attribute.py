"""A Symbol is a value still to be computed: an expression that is remembered instead of evaluated."""

# Written from chapters/20_symbols.ipynb: edit the chapter, then run `minigluon export`.

import threading

from minigluon.name import Current, Innermost

__all__ = ["AttrScope", "HIDDEN", "current", "hidden", "scopes"]


# --- Attributes -----------------------------------------------------------------------------------

HIDDEN = (
    "ctx_group",
    "lr_mult",
    "wd_mult",
    "force_mirroring",
    "mirror_stage",
    "profiler_scope",
)


class AttrScope:
    """A `with` block whose nodes all get these attributes, which are texts."""

    stack = threading.local()

    def __init__(self, **kwargs):
        for name, value in kwargs.items():
            if not isinstance(value, str):
                raise ValueError(f"Attributes need to be string: {name}={value!r}")
        self._attr = {hidden(name): value for name, value in kwargs.items()}

    def get(self, attr=None):
        """The attributes of this block, and `attr` over them."""
        return {**self._attr, **{hidden(k): v for k, v in (attr or {}).items()}}

    def __enter__(self):
        outer = scopes()[-1]
        self._attr = {**outer._attr, **self._attr}
        scopes().append(self)
        return self

    def __exit__(self, *_):
        scopes().pop()


def hidden(name):
    """The form in which an attribute is kept: MXNet's own ones stand between double underscores."""
    return f"__{name}__" if name in HIDDEN else name


def scopes():
    """This thread's scopes, the current one last."""
    if not hasattr(AttrScope.stack, "value"):
        AttrScope.stack.value = [AttrScope()]
    return AttrScope.stack.value


def current():
    """The scope that gives attributes to the next node."""
    return scopes()[-1]


AttrScope.current, AttrScope._current = Current(current), Innermost(scopes)
