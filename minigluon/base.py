"""An operator is a function on arrays that does not know what an array is."""

# Written from chapters/01_operators.ipynb: edit the chapter, then run `minigluon export`.

import difflib
import os
import warnings

import numpy as np

__all__ = [
    "BadName",
    "LENIENT",
    "MXNetError",
    "NotImplementedForSymbol",
    "NotSupportedForSparseNDArray",
    "data_dir",
    "integer_types",
    "mx_real_t",
    "numeric_types",
    "py_str",
    "refuse",
    "string_types",
    "unexpected",
]


# --- What everything stands on --------------------------------------------------------------------

# log(0) is -inf without a word, as on a GPU and in MXNet: kernels, and
# reductions inside NumPy, are silent
warnings.filterwarnings("ignore", ".* encountered in", RuntimeWarning, r"minigluon\b")
warnings.filterwarnings("ignore", ".* encountered in reduce", RuntimeWarning, r"numpy\._core\b")


class MXNetError(RuntimeError):
    """An operator was called with something it cannot work on; the name is MXNet's, for old code."""


class NotImplementedForSymbol(MXNetError):
    """Something that needs numbers was asked of a Symbol, which has none yet."""


class NotSupportedForSparseNDArray(MXNetError):
    """Something that needs all numbers was asked of a sparse array."""


class BadName(KeyError, ValueError):
    """A name that is none of those known: MXNet looks it up in a dictionary."""

    __str__ = Exception.__str__  # the message as it is, where a KeyError shows a key


LENIENT = [False]  # whether a program is one for MXNet, which passes over what is refused here


def refuse(told, instead):
    """Raise MXNetError; where `LENIENT` says so, only warn, and tell what happens `instead`."""
    if not LENIENT[-1]:
        raise MXNetError(told)
    warnings.warn(f"{told}, and {instead}", stacklevel=3)


# --- For programs of MXNet ------------------------------------------------------------------------


def unexpected(cls, name):
    """The TypeError for an argument that no constructor of a class takes, with those that there are."""
    known = {}
    for made in (
        c.__init__.__code__ for c in cls.__mro__ if hasattr(vars(c).get("__init__"), "__code__")
    ):
        known |= dict.fromkeys(made.co_varnames[1 : made.co_argcount + made.co_kwonlyargcount])
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return TypeError(
        f"{cls.__name__}() got an unexpected keyword argument {name!r};{hint} it takes "
        f"{', '.join(known)}"
    )


numeric_types = (float, int, np.generic)
integer_types = (int, np.int32, np.int64)
string_types = (str,)
mx_real_t = np.float32  # the type of arrays whose maker names none


def py_str(text):
    """A text as a `str`; MXNet's hooks are given bytes."""
    return text.decode("utf-8") if isinstance(text, bytes) else text


def data_dir():
    """Where data are kept: the environment variable MXNET_HOME, or ~/.mxnet."""
    return os.environ.get("MXNET_HOME", os.path.join(os.path.expanduser("~"), ".mxnet"))


def _as_list(obj):
    """A list or tuple itself, anything else as a list of one."""
    return obj if isinstance(obj, list | tuple) else [obj]
