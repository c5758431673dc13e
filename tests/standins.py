"""Two stand-ins for arrays that a machine without a GPU, or a book without symbols, does not have."""

from minigluon.gpu_on_cpu import ndarray as Duck
from minigluon.gpu_on_cpu import unwrap, wrap
from minigluon.op import Operand, interpreters

__all__ = ["Duck", "Traced", "unwrap", "wrap"]


class Traced(Operand):
    """An operand like a Symbol: it can be computed with, but has no shape, type or numbers to read.

    A gradient rule that works on it can be traced.
    """

    def __init__(self, hidden):
        self._hidden = hidden

    def __bool__(self):
        raise TypeError("a rule asked whether an operand is true: it cannot be traced")

    def __array__(self, *_, **__):
        raise TypeError("a rule gave an operand to NumPy: it cannot be traced")


def trace(op, args, settings):
    """Interpret an operator on Traced operands."""
    out = op.kernel(*[a._hidden if isinstance(a, Traced) else a for a in args], **settings)
    return [Traced(o) for o in out[: op.visible]] if isinstance(out, tuple) else Traced(out)


interpreters[Traced] = trace
