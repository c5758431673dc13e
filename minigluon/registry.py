"""The first values decide whether a deep network hears its input at all."""

# Written from chapters/30_initializers.ipynb: edit the chapter, then run `minigluon export`.

import json
import warnings

__all__ = [
    "address",
    "described",
    "find",
    "get_alias_func",
    "get_create_func",
    "get_register_func",
    "get_registry",
    "known",
]


# --- Classes by name ------------------------------------------------------------------------------

known = {}  # base class -> {name in small letters: class}


def get_registry(base_class):
    """A copy of the registered subclasses of `base_class` by name."""
    return dict(known.get(base_class, {}))


def get_register_func(base_class, nickname):
    """The decorator `register(klass, name=None)` for subclasses of `base_class`."""
    names = known.setdefault(base_class, {})

    def register(klass, name=None):
        """Class decorator: let `create` find the class by its name, in small or large letters."""
        assert isinstance(klass, type) and issubclass(klass, base_class), (
            f"Can only register subclass of {base_class.__name__}, not {klass!r}"
        )
        name = (klass.__name__ if name is None else name).lower()
        if name in names and address(names[name]) != address(klass):
            old, new = names[name], klass
            warnings.warn(
                f"New {nickname} {new} registered with name {name} is overriding existing {old}",
                stacklevel=2,
            )
        names[name] = klass
        return klass

    return register


def address(klass):
    """Where a class is defined: a cell that runs again makes a new class of the same address."""
    return klass.__module__, klass.__qualname__


def get_alias_func(base_class, nickname):
    """The decorator `alias(*names)`, which registers a class under further names."""
    register = get_register_func(base_class, nickname)

    def alias(*aliases):
        """Class decorator: let `create` find the class by these names too."""

        def decorate(klass):
            for name in aliases:
                register(klass, name)
            return klass

        return decorate

    return alias


def get_create_func(base_class, nickname):
    """The function `create(description, *args, **kwargs)` for subclasses of `base_class`.

    A description is an object, which is returned as it is, a class, a name, or JSON text.
    """

    def create(*args, **kwargs):
        """An object from a name and arguments, or from JSON; AssertionError for unknown names."""
        given, args = (args[0], args[1:]) if args else (kwargs.pop(nickname, None), ())
        if isinstance(given, base_class):
            assert not args and not kwargs, (
                f"{nickname} is already an instance. Additional arguments are invalid"
            )
            return given
        name, kwargs = described(given, kwargs, nickname)
        if isinstance(name, base_class):
            return name
        klass = name if isinstance(name, type) else find(name, base_class, nickname)
        assert issubclass(klass, base_class), f"{klass} is no subclass of {base_class.__name__}"
        return klass(*args, **kwargs)

    return create


def described(given, kwargs, nickname):
    """Name and keyword arguments of a description, which may hold them in JSON or a dictionary."""
    if isinstance(given, str) and given.startswith("["):
        assert not kwargs, f"{nickname} {given} has its arguments inside: it takes no others"
        given, kwargs = json.loads(given)
    elif isinstance(given, str) and given.startswith("{"):
        given = json.loads(given)
    if isinstance(given, dict):
        kwargs = {**given, **kwargs}
        given = kwargs.pop(nickname, None)
    return given, kwargs


def find(name, base_class, nickname):
    """The class of that name; AssertionError, with those there are, if there is none."""
    names = known.get(base_class, {})
    assert isinstance(name, str), f"{nickname} must be of string type, not {name!r}"
    assert name.lower() in names, (
        f"{name} is not registered. Please register with {nickname}.register first; "
        f"known are {', '.join(sorted(names))}"
    )
    return names[name.lower()]
