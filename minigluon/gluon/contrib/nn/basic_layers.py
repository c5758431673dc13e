"""One small window of weights, laid on every place of a picture: convolution, its adjoint, and how to make both fast."""

# Written from chapters/41_convolution.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.block import HybridBlock

__all__ = ["PixelShuffle1D", "PixelShuffle2D", "PixelShuffle3D"]


# --- Pixel shuffle --------------------------------------------------------------------------------


class _PixelShuffle(HybridBlock):
    """(n, f·c, sizes…) to (n, c, enlarged sizes…), f the product of the factors."""

    _axes = 0

    def __init__(self, factor):
        super().__init__()
        try:
            self._factors = (int(factor),) * self._axes
        except TypeError:
            self._factors = tuple(int(f) for f in factor)
            assert len(self._factors) == self._axes, f"wrong length {len(self._factors)}"

    def hybrid_forward(self, F, x):
        for i, f in enumerate(self._factors):  # split f off the channels; put it after size i
            rest = (0,) * (self._axes - i - 1)
            left = 1
            for other in self._factors[i + 1 :]:
                left *= other
            x = F.reshape(x, (0, -4, -1, f * left, *(0,) * self._axes))
            x = F.reshape(x, (0, 0, -4, f, left, *(0,) * self._axes))
            order = [0, 1, 3, *range(4, 5 + i), 2, *range(5 + i, 4 + self._axes)]
            x = F.transpose(x, order)
            x = F.reshape(x, (0, -3, *(0,) * i, -3, *rest))
        return x

    def __repr__(self):
        return f"{type(self).__name__}({self._factors})"


class PixelShuffle1D(_PixelShuffle):
    """(n, f·c, w) to (n, c, w·f)."""

    _axes = 1

    def __init__(self, factor):
        super().__init__(int(factor))

    def __repr__(self):
        return f"{type(self).__name__}({self._factors[0]})"


class PixelShuffle2D(_PixelShuffle):
    """(n, f1·f2·c, h, w) to (n, c, h·f1, w·f2)."""

    _axes = 2


class PixelShuffle3D(_PixelShuffle):
    """(n, f1·f2·f3·c, d, h, w) to (n, c, d·f1, h·f2, w·f3)."""

    _axes = 3
