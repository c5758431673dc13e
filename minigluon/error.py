"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.base import MXNetError

__all__ = ["InternalError", "error_types", "register", "register_error"]


# --- What it runs on ------------------------------------------------------------------------------

error_types = {}  # name -> class


def register(func_name=None, cls=None):
    """Note a class of errors under a name, its own by default;
    also a decorator, with or without a name.
    """
    if callable(func_name):
        func_name, cls = func_name.__name__, func_name

    def note(each):
        error_types[func_name or each.__name__] = each
        return each

    return note if cls is None else note(cls)


register_error = register


@register
class InternalError(MXNetError):
    """An error inside the library, whatever the caller did."""

    def __init__(self, msg):
        hint = "MXNet hint: you hit an internal error, please open an issue."
        super().__init__(msg if hint in msg else f"{msg}\n{hint}")
