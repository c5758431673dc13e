"""The first values decide whether a deep network hears its input at all."""

# Written from chapters/30_initializers.ipynb: edit the chapter, then run `minigluon export`.

import json

import numpy as np

from minigluon import random

__all__ = [
    "Constant",
    "ENDINGS",
    "InitDesc",
    "Initializer",
    "MSRAPrelu",
    "Normal",
    "One",
    "Orthogonal",
    "Uniform",
    "Xavier",
    "Zero",
    "create",
    "fans",
    "register",
    "registry",
]


# --- Initializers ---------------------------------------------------------------------------------


class InitDesc(str):
    """The name of a parameter, with attributes and the initializer to fall back on."""

    def __new__(cls, name, attrs=None, global_init=None):
        found = super().__new__(cls, name)
        found.attrs, found.global_init = attrs or {}, global_init
        return found


registry = {}  # lower-case name -> class


def register(klass):
    """Class decorator: let `create` find the class by its name in small letters."""
    registry[klass.__name__.lower()] = klass
    return klass


def create(initializer, *args, **kwargs):
    """An initializer from an object, a name such as 'xavier', or what `dumps` wrote."""
    if isinstance(initializer, Initializer):
        assert not args and not kwargs, f"{initializer} is made already: it takes no arguments"
        return initializer
    if isinstance(initializer, type) and issubclass(initializer, Initializer):
        return initializer(*args, **kwargs)
    name = initializer
    if isinstance(name, str) and name.startswith("["):
        name, kwargs = json.loads(name)
    assert isinstance(name, str) and name.lower() in registry, (
        f"unknown initializer {initializer!r}; known are {', '.join(sorted(registry))}"
    )
    return registry[name.lower()](*args, **kwargs)


class Initializer:
    """The base class: chooses by the ending of the parameter's name what to do."""

    def __init__(self, **kwargs):
        self._kwargs = kwargs

    def __call__(self, desc, arr):
        """Fill `arr`; `desc` is an InitDesc, or a plain name."""
        if not isinstance(desc, str):
            raise TypeError(f"the name of a parameter is a string or an InitDesc, not {desc!r}")
        own = getattr(desc, "attrs", {}).get("__init__")
        if own:
            create(own)._init_weight(desc, arr)
            return
        for ending, method in ENDINGS:
            if desc.endswith(ending):
                getattr(self, method)(desc, arr)
                return
        self._init_default(desc, arr)

    def dumps(self):
        """The initializer as JSON that `create` reads."""
        return json.dumps([type(self).__name__.lower(), self._kwargs], default=lambda a: a.tolist())

    def __eq__(self, other):
        return type(self) is type(other) and self._kwargs == other._kwargs

    __hash__ = object.__hash__

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._kwargs.items())})"

    # --- Initializers -----------------------------------------------------------------------------

    def _init_weight(self, name, arr):
        """Fill a weight: to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} does not define _init_weight(name, arr)")

    def _init_zero(self, _, arr):
        arr[:] = 0

    def _init_one(self, _, arr):
        arr[:] = 1

    _init_bias = _init_zero

    def _init_default(self, name, _):
        raise ValueError(
            f"Unknown initialization pattern for {name}. Names end in weight, bias, gamma or beta; "
            "give a parameter of another name its own initializer: params.get(name, init=...)"
        )


ENDINGS = [
    ("weight", "_init_weight"),
    ("bias", "_init_bias"),
    ("gamma", "_init_one"),
    ("beta", "_init_zero"),
    ("min", "_init_zero"),
    ("max", "_init_one"),
    ("running_mean", "_init_zero"),
    ("running_var", "_init_one"),
    ("moving_mean", "_init_zero"),
    ("moving_var", "_init_one"),
    ("moving_inv_var", "_init_zero"),
    ("moving_avg", "_init_zero"),
]


# --- Constant values ------------------------------------------------------------------------------


@register
class Zero(Initializer):
    """All zeros."""

    def _init_weight(self, _, arr):
        arr[:] = 0


@register
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


registry["zeros"], registry["ones"] = Zero, One


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

    def _init_weight(self, _, arr):
        shape = arr.shape[0], int(np.prod(arr.shape[1:]))
        sample = (
            random.uniform(-1, 1, shape)
            if self.rand_type == "uniform"
            else random.normal(0, 1, shape)
        )
        u, _, v = np.linalg.svd(sample.asnumpy(), full_matrices=False)
        q = u if u.shape == shape else v
        arr[:] = self.scale * q.reshape(arr.shape)
