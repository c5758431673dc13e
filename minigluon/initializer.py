"""The first values decide whether a deep network hears its input at all."""

# Written from chapters/30_initializers.ipynb: edit the chapter, then run `minigluon export`.

import json
import logging
import re

import numpy as np

import minigluon.ndarray as nd
from minigluon import random, registry

__all__ = [
    "Bilinear",
    "Constant",
    "ENDINGS",
    "FORMER_ENDINGS",
    "FusedRNN",
    "GATES",
    "InitDesc",
    "Initializer",
    "LSTMBias",
    "Load",
    "MSRAPrelu",
    "Mixed",
    "Normal",
    "One",
    "Orthogonal",
    "Uniform",
    "Xavier",
    "Zero",
    "alias",
    "bilinear",
    "chosen",
    "create",
    "fans",
    "register",
    "rnn_parts",
    "root_mean_square",
]


# --- Initializers ---------------------------------------------------------------------------------


class InitDesc(str):
    """The name of a parameter, with attributes and the initializer to fall back on."""

    def __new__(cls, name, attrs=None, global_init=None):
        found = super().__new__(cls, name)
        found.attrs, found.global_init = attrs or {}, global_init
        return found


class Initializer:
    """The base class: chooses by the ending of the parameter's name what to do."""

    _verbose, _print_func = False, None

    def __init__(self, **kwargs):
        self._kwargs = kwargs

    def __call__(self, desc, arr):
        """Fill `arr`; `desc` is an InitDesc, or a plain name."""
        if not isinstance(desc, str):
            raise TypeError(f"the name of a parameter is a string or an InitDesc, not {desc!r}")
        if isinstance(desc, InitDesc) and desc.global_init is None:
            desc.global_init = self
        own = getattr(desc, "attrs", {}).get("__init__")
        if own:
            create(own)._init_weight(desc, arr)
        else:
            getattr(self, chosen(desc))(desc, arr)
        if self._verbose:
            logging.info("Initialized %s as %s: %s", desc, own or self, self._print_func(arr))

    # --- Initializers -----------------------------------------------------------------------------

    def dumps(self):
        """The initializer as JSON that `create` reads."""
        return json.dumps([type(self).__name__.lower(), self._kwargs], default=lambda a: a.tolist())

    def set_verbosity(self, verbose=False, print_func=None):
        """Log each parameter that is filled, with `print_func(array)`, by default its size."""
        self._verbose, self._print_func = verbose, print_func or root_mean_square
        return self

    def __eq__(self, other):
        if type(self) is not type(other) or self._kwargs.keys() != other._kwargs.keys():
            return False
        return all(np.array_equal(v, other._kwargs[k]) for k, v in self._kwargs.items())

    __hash__ = object.__hash__

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._kwargs.items())})"

    def _init_weight(self, name, arr):
        """Fill a weight: to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} does not define _init_weight(name, arr)")

    def _init_zero(self, _, arr):
        arr[:] = 0

    def _init_one(self, _, arr):
        arr[:] = 1

    _init_bias = _init_beta = _init_zero
    _init_gamma = _init_one

    def _init_bilinear(self, _, arr):
        arr[:] = bilinear(arr.shape)

    def _init_loc_bias(self, _, arr):
        assert arr.shape == (6,), f"an affine map has 6 numbers, not the shape {arr.shape}"
        arr[:] = np.array([1, 0, 0, 0, 1, 0])  # the identity: stay where you are

    def _init_default(self, name, _):
        raise ValueError(
            f"Unknown initialization pattern for {name}. Names end in weight, bias, gamma or beta; "
            "give a parameter of another name its own initializer: params.get(name, init=...)"
        )


def root_mean_square(arr):
    """How large the numbers of an array are, as a string."""
    return str(np.sqrt(np.mean(arr.asnumpy() ** 2)))


ENDINGS = [  # beginning of a name, ending, method
    ("", "weight", "_init_weight"),
    ("", "bias", "_init_bias"),
    ("", "gamma", "_init_gamma"),
    ("", "beta", "_init_beta"),
    ("", "min", "_init_zero"),
    ("", "max", "_init_one"),
]
FORMER_ENDINGS = [  # for plain strings
    ("upsampling", "", "_init_bilinear"),
    ("stn_loc", "weight", "_init_zero"),
    ("stn_loc", "bias", "_init_loc_bias"),
    *ENDINGS,
    ("", "moving_mean", "_init_zero"),
    ("", "moving_var", "_init_one"),
    ("", "moving_inv_var", "_init_zero"),
    ("", "moving_avg", "_init_zero"),
]


def chosen(desc):
    """The name of the method that fills a parameter of that name."""
    for start, end, method in ENDINGS if isinstance(desc, InitDesc) else FORMER_ENDINGS:
        if desc.startswith(start) and desc.endswith(end):
            return method
    return "_init_default"


register = registry.get_register_func(Initializer, "initializer")
alias = registry.get_alias_func(Initializer, "initializer")
create = registry.get_create_func(Initializer, "initializer")


# --- Constant values ------------------------------------------------------------------------------


@register
@alias("zeros")
class Zero(Initializer):
    """All zeros."""

    def _init_weight(self, _, arr):
        arr[:] = 0


@register
@alias("ones")
class One(Initializer):
    """All ones."""

    def _init_weight(self, _, arr):
        arr[:] = 1


@register
class Constant(Initializer):
    """A number everywhere, or the numbers of an array of the same shape."""

    def __init__(self, value):
        super().__init__(value=value)
        self.value = value

    def _init_weight(self, _, arr):
        arr[:] = self.value


# --- Independent numbers --------------------------------------------------------------------------


@register
class Uniform(Initializer):
    """Numbers spread evenly over (-scale, scale)."""

    def __init__(self, scale=0.07):
        super().__init__(scale=scale)
        self.scale = scale

    def _init_weight(self, _, arr):
        random.uniform(-self.scale, self.scale, out=arr)


@register
class Normal(Initializer):
    """Normally distributed numbers of mean 0 and standard deviation `sigma`."""

    def __init__(self, sigma=0.01):
        super().__init__(sigma=sigma)
        self.sigma = sigma

    def _init_weight(self, _, arr):
        random.normal(0, self.sigma, out=arr)


# --- Variance that lasts --------------------------------------------------------------------------


@register
class Xavier(Initializer):
    """Weights of variance `magnitude / (3 fan)`, uniform, or `magnitude / fan`, gaussian.

    The fan is inputs ('in'), outputs ('out') or their mean ('avg'). Glorot and Bengio, 2010.
    """

    def __init__(self, rnd_type="uniform", factor_type="avg", magnitude=3):
        super().__init__(rnd_type=rnd_type, factor_type=factor_type, magnitude=magnitude)
        if rnd_type not in ("uniform", "gaussian") or factor_type not in ("in", "out", "avg"):
            raise ValueError(
                f"Xavier(rnd_type={rnd_type!r}, factor_type={factor_type!r}): "
                "rnd_type is 'uniform' or 'gaussian', factor_type 'in', 'out' or 'avg'"
            )
        self.rnd_type, self.factor_type, self.magnitude = rnd_type, factor_type, float(magnitude)

    def _init_weight(self, name, arr):
        fan_in, fan_out = fans(name, arr.shape)
        factor = {"in": fan_in, "out": fan_out, "avg": (fan_in + fan_out) / 2}[self.factor_type]
        scale = np.sqrt(self.magnitude / factor).item()
        if self.rnd_type == "uniform":
            random.uniform(-scale, scale, out=arr)
        else:
            random.normal(0, scale, out=arr)


def fans(name, shape):
    """Inputs and outputs of one unit, each times the places where a weight is used."""
    if len(shape) < 2:
        raise ValueError(
            f"Xavier initializer cannot be applied to vector {name}: it needs at least 2 axes, "
            f"not {shape}"
        )
    places = np.prod(shape[2:], initial=1)
    return shape[1] * places, shape[0] * places


@register
class MSRAPrelu(Xavier):
    """Weights for (leaky) relu of slope `slope`: variance 2 / ((1 + slope²) fan). He et al., 2015."""

    def __init__(self, factor_type="avg", slope=0.25):
        super().__init__("gaussian", factor_type, 2.0 / (1 + slope**2))
        self._kwargs = {"factor_type": factor_type, "slope": slope}


@register
class Orthogonal(Initializer):
    """A matrix of orthogonal rows or columns, times `scale`. Saxe et al., 2013."""

    def __init__(self, scale=1.414, rand_type="uniform"):
        super().__init__(scale=scale, rand_type=rand_type)
        self.scale, self.rand_type = scale, rand_type
        if rand_type not in ("uniform", "normal"):
            raise ValueError(f"rand_type is 'uniform' or 'normal', not {rand_type!r}")

    def _init_weight(self, _, arr):
        shape = arr.shape[0], int(np.prod(arr.shape[1:]))
        a, b, draw = (
            (-1, 1, random.uniform) if self.rand_type == "uniform" else (0, 1, random.normal)
        )
        u, _, v = np.linalg.svd(draw(a, b, shape).asnumpy(), full_matrices=False)
        q = u if u.shape == shape else v
        arr[:] = self.scale * q.reshape(arr.shape)


# --- Values with a meaning ------------------------------------------------------------------------


@register
class Bilinear(Initializer):
    """The weights of bilinear interpolation, for a transposed convolution: shape (out, in, h, w)."""

    def _init_weight(self, _, arr):
        arr[:] = bilinear(arr.shape)


def bilinear(shape):
    """A tent in the last two of four axes, the same for all others. Long et al., 2015."""
    if len(shape) != 4:
        raise ValueError(f"bilinear weights have 4 axes, (out, in, height, width), not {shape}")
    half = (shape[3] + 1) // 2
    centre = (2 * half - 1 - half % 2) / (2 * half)
    rows, columns = (1 - np.abs(np.arange(n) / half - centre) for n in shape[2:])
    return np.broadcast_to(np.outer(rows, columns), shape)


@register
class LSTMBias(Initializer):
    """Zeros, but `forget_bias` for the forget gate, the second quarter of an LSTM's bias."""

    def __init__(self, forget_bias=1.0):
        super().__init__(forget_bias=forget_bias)
        self.forget_bias = forget_bias

    def _init_weight(self, _, arr):
        num_hidden = arr.shape[0] // 4
        arr[:] = 0
        arr[num_hidden : 2 * num_hidden] = self.forget_bias


# --- Several at once ------------------------------------------------------------------------------


class Mixed(Initializer):
    """The initializer of the first of `patterns`, regular expressions, that a name matches."""

    def __init__(self, patterns, initializers):
        assert len(patterns) == len(initializers), (
            f"{len(patterns)} patterns, but {len(initializers)} initializers"
        )
        super().__init__(patterns=list(patterns), initializers=list(initializers))
        self.map = [(re.compile(p), create(i)) for p, i in zip(patterns, initializers)]

    def __call__(self, name, arr):
        self._for(name)(name, arr)

    def _init_weight(self, name, arr):
        self._for(name)._init_weight(name, arr)

    def _for(self, name):
        for pattern, init in self.map:
            if pattern.match(name):
                return init
        raise ValueError(
            f"Parameter name {name} did not match any pattern. Consider adding a '.*' pattern at "
            "the end with a default initializer"
        )


class Load(Initializer):
    """The arrays of `param`, a dictionary or the name of a file, by name; else `default_init`."""

    def __init__(self, param, default_init=None, verbose=False):
        param = nd.load(param) if isinstance(param, str) else param
        assert isinstance(param, dict), f"Load needs a dictionary of arrays, not {type(param)}"
        super().__init__(default_init=default_init)
        self.param = {re.sub("^(arg|aux):", "", name): arr for name, arr in param.items()}
        self.default_init, self.verbose = default_init, verbose

    def __call__(self, name, arr):
        if name in self.param:
            found = self.param[name]
            assert tuple(found.shape) == arr.shape, (
                f"Parameter {name} cannot be initialized from loading. "
                f"Shape mismatch, target {arr.shape} vs loaded {tuple(found.shape)}"
            )
            arr[:] = found
        else:
            assert self.default_init is not None, (
                f"Cannot Initialize {name}. Not found in loaded param and no default Initializer is "
                "provided"
            )
            create(self.default_init)(name, arr)
        if self.verbose:
            logging.info(
                "Initialized %s by %s", name, "loading" if name in self.param else "default"
            )

    _init_weight = __call__


GATES = {
    "rnn_relu": [""],
    "rnn_tanh": [""],
    "lstm": ["_i", "_f", "_c", "_o"],
    "gru": ["_r", "_z", "_o"],
}


def rnn_parts(size, hidden, layers, mode, directions):
    """Names and shapes of what lies in the vector of a fused recurrent layer, in order."""
    gates = GATES[mode]
    later = (layers - 1) * ((directions + 1) * hidden + 2)  # columns and biases of other layers
    inputs = size // (directions * len(gates) * hidden) - later - hidden - 2
    weights, biases = [], []
    for i in range(layers):
        for side in "lr"[:directions]:
            for kind, width in (("i2h", directions * hidden if i else inputs), ("h2h", hidden)):
                names = [f"{side}{i}_{kind}{gate}" for gate in gates]
                weights += [(f"{name}_weight", (hidden, width)) for name in names]
                biases += [(f"{name}_bias", (hidden,)) for name in names]
    return weights + biases


@register
class FusedRNN(Initializer):
    """Fills the vector of a fused recurrent layer matrix by matrix with `init`, or the global one."""

    def __init__(self, init, num_hidden, num_layers, mode, bidirectional=False, forget_bias=1.0):
        if mode not in GATES:
            raise ValueError(f"mode is one of {', '.join(GATES)}, not {mode!r}")
        self._init = None if init is None else create(init)
        self._shape = num_hidden, num_layers, mode, 1 + bool(bidirectional)
        self._forget_bias = forget_bias
        super().__init__(
            init=self._init and self._init.dumps(),
            num_hidden=num_hidden,
            num_layers=num_layers,
            mode=mode,
            bidirectional=bidirectional,
            forget_bias=forget_bias,
        )

    # --- Several at once --------------------------------------------------------------------------

    def _init_weight(self, desc, arr):
        init = self._init or getattr(desc, "global_init", None)
        if init is None or init is self:
            raise ValueError(
                f"FusedRNN(init=None) of {desc}: there is no global initializer either"
            )
        parts = rnn_parts(arr.size, *self._shape)
        sizes = [int(np.prod(shape)) for _, shape in parts]
        if sum(sizes) != arr.size or min(sizes) < 1:
            raise ValueError(f"{desc}: no layer of {self._shape} has {arr.size} numbers")
        for (name, shape), end in zip(parts, np.cumsum(sizes).tolist()):
            part = nd.zeros(shape, arr.context, arr.dtype)
            if self._shape[2] == "lstm" and name.endswith("_f_bias"):
                part[:] = self._forget_bias
            else:
                init(InitDesc(name, global_init=init), part)
            arr[end - part.size : end] = part.reshape(-1)
