"""Operators of chapter 15: drawing with a fixed seed, and densities."""

import math

import numpy as np

from tests.rows import Row, positive, signed

A, B, C = positive(2, 2), positive(2, 2, seed=1), {"dtype": "float64", "rng": 3}
P = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
X, COUNTS = positive(2, 3, seed=2), np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 7.0]])
ONE, TWO, PART = positive(2, seed=3), positive(2, seed=4), np.array([0.3, 0.6])


def sampled(draw):
    """The reference of a `sample_` operator: `draw(generator, size, *parameters)`."""

    def reference(*params, shape=(), dtype=None, rng=None):
        columns = [p.reshape(p.shape + (1,) * len(shape)) for p in params]
        return draw(np.random.default_rng(rng), params[0].shape + tuple(shape), *columns)

    return reference


def like(draw):
    """The reference of a `_like` operator."""
    return lambda data, rng, **settings: draw(
        np.random.default_rng(rng), data.shape, *settings.values()
    )


LAWS = {  # name -> how NumPy draws it
    "uniform": lambda r, n, low, high: low + (high - low) * r.random(n),
    "normal": lambda r, n, mu, sigma: mu + sigma * r.standard_normal(n),
    "exponential": lambda r, n, lam: r.standard_exponential(n) / lam,
    "gamma": lambda r, n, alpha, beta: beta * r.standard_gamma(alpha, n),
    "poisson": lambda r, n, lam: r.poisson(lam, n),
    "negative_binomial": lambda r, n, k, p: r.poisson(r.standard_gamma(k, n) * ((1 - p) / p), n),
    "generalized_negative_binomial": lambda r, n, mu, alpha: r.poisson(
        r.standard_gamma(1 / alpha, n) * (alpha * mu), n
    ),
}
OF_NUMBERS = LAWS | {"negative_binomial": lambda r, n, k, p: r.negative_binomial(k, p, n)}
SAMPLED = [  # name, arrays, wrong arrays, what is said
    ("uniform", (A, A + B), (A + B, A), "low"),
    ("normal", (A, B), (A, -B), "not negative"),
    ("exponential", (A,), (-A,), "positive"),
    ("gamma", (A, B), (A, A[0]), "same"),
    ("poisson", (A,), (-A,), "negative"),
    ("negative_binomial", (A, B / 2), (A, B + 1), "probability"),
    ("generalized_negative_binomial", (A, B), (-A, B), "negative"),
]
LIKE = {
    "uniform": {"low": 2.0, "high": 3.0},
    "normal": {"loc": 2.0, "scale": 3.0},
    "exponential": {"lam": 3.0},
    "gamma": {"alpha": 2.0, "beta": 3.0},
    "poisson": {"lam": 3.0},
    "negative_binomial": {"k": 3, "p": 0.4},
    "generalized_negative_binomial": {"mu": 3.0, "alpha": 0.4},
}


def chosen(data, index):
    return np.take_along_axis(data, index.reshape(len(data), -1), -1).reshape(index.shape)


def unchosen(data, like, index):
    total = np.zeros_like(like)
    for row, at in enumerate(index.reshape(len(like), -1)):
        np.add.at(total[row], at, data.reshape(len(like), -1)[row])
    return total


def multinomial(data, shape, get_prob, dtype, rng):
    u = np.random.default_rng(rng).random((len(data), *shape))
    above = data.cumsum(-1) / data.sum(-1, keepdims=True)
    index = np.array([np.searchsorted(c, row, side="right") for c, row in zip(above, u)])
    return [index, np.log(chosen(data, index))] if get_prob else index


def density(log_p):
    """The reference of a density: `log_p(x, *parameters)` element by element."""

    def reference(sample, *params, is_log=False):
        columns = [p.reshape(p.shape + (1,) * (sample.ndim - p.ndim)) for p in params]
        value = np.vectorize(log_p)(sample, *columns)
        return value if is_log else np.exp(value)

    return reference


def normal(x, m, s):
    return -(((x - m) / s) ** 2) / 2 - math.log(s) - math.log(2 * math.pi) / 2


def gamma(x, a, b):
    return (a - 1) * math.log(x) + a * math.log(b) - b * x - math.lgamma(a)


def poisson(x, lam):
    return x * math.log(lam) - lam - math.lgamma(x + 1)


def negative_binomial(x, k, p):
    ways = math.lgamma(x + k) - math.lgamma(k) - math.lgamma(x + 1)
    return ways + k * math.log(p) + x * math.log(1 - p)


def generalized(x, mu, alpha):
    return negative_binomial(x, 1 / alpha, 1 / (1 + alpha * mu))


def dirichlet(sample, alpha, is_log=False):
    while alpha.ndim < sample.ndim:
        alpha = alpha[..., None, :]
    value = ((alpha - 1) * np.log(sample) - np.vectorize(math.lgamma)(alpha)).sum(-1)
    value = value + np.vectorize(math.lgamma)(alpha.sum(-1))
    return value if is_log else np.exp(value)


DENSITIES = [  # name, log-density, sample, parameters, what has a gradient
    ("uniform", lambda x, low, high: -math.log(high - low), X, (ONE - 2, TWO + 2), (1, 2)),
    ("normal", normal, X, (ONE, TWO), (0, 1, 2)),
    ("exponential", lambda x, lam: math.log(lam) - lam * x, X, (ONE,), (0, 1)),
    ("gamma", gamma, X, (ONE, TWO), (0, 1, 2)),
    ("poisson", poisson, COUNTS, (ONE,), (1,)),
    ("negative_binomial", negative_binomial, COUNTS, (ONE, PART), (1, 2)),
    ("generalized_negative_binomial", generalized, COUNTS, (ONE, PART), (1, 2)),
]

ROWS = [
    *[
        Row(
            f"sample_{name}",
            arrays,
            {"shape": shape, **C},
            sampled(LAWS[name]),
            (),
            (wrong, {}),
            says,
            note=f"shape{len(shape)}",
        )
        for name, arrays, wrong, says in SAMPLED
        for shape in ((), (3,))
    ],
    *[
        Row(
            f"{name}_like",
            (A,),
            {**settings, "rng": 4},
            like(OF_NUMBERS[name]),
            (),
            ((np.ones(2, "int32"),), {}),
            "float",
        )
        for name, settings in LIKE.items()
    ],
    Row(
        "shuffle",
        (signed(5, 2),),
        {"rng": 1},
        lambda data, rng: data[np.random.default_rng(rng).permutation(5)],
    ),
    Row(
        "sample_multinomial",
        (P,),
        {"shape": (2, 3), "get_prob": True, **C},
        multinomial,
        wrong=((-P,), {}),
        says="not negative",
    ),
    Row(
        "sample_multinomial",
        (P,),
        {"shape": (), "get_prob": False, **C},
        multinomial,
        (),
        ((np.ones((2, 2), "int32"),), {}),
        "floating-point",
        note="only",
    ),
    Row("chosen", (P, np.array([[0, 2], [1, 1]])), {}, chosen, (0,)),
    Row("unchosen", (B, P, np.array([[0, 2], [1, 1]])), {}, unchosen, (0,)),
    Row(
        "spread_left",
        (ONE, X),
        {},
        lambda a, like: np.repeat(a[:, None], 3, 1),
        (0,),
        ((X, ONE), {}),
        "begin",
    ),
    Row("sum_left", (X, ONE), {}, lambda a, like: a.sum(1), (0,)),
    Row(
        "spread_left",
        (ONE, signed(3, 2)),
        {"last": 1},
        lambda a, like, last: np.repeat(a[None], 3, 0),
        (0,),
        note="last",
    ),
    Row(
        "sum_left",
        (signed(3, 2), ONE),
        {"last": 1},
        lambda a, like, last: a.sum(0),
        (0,),
        note="last",
    ),
    Row(
        "gamma_slope",
        (np.array([1.0, 0.5, 2.0]),),
        {},
        lambda x: np.array([0, -2 * math.log(2), 1]) - 0.5772156649015329,
    ),
    Row(
        "gamma_slope",
        (np.array([1.0, 0.5]),),
        {"order": 1},
        lambda x, order: np.array([math.pi**2 / 6, math.pi**2 / 2]),
        note="second",
    ),
    *[
        Row(
            f"random_pdf_{name}",
            (sample, *params),
            {"is_log": is_log},
            density(log_p),
            which,
            ((sample[0], *params), {}),
            "must begin",
            note="log" if is_log else "",
        )
        for name, log_p, sample, params, which in DENSITIES
        for is_log in (False, True)
    ],
    *[
        Row(
            "random_pdf_dirichlet",
            (sample, alpha),
            {"is_log": is_log},
            dirichlet,
            wrong=((P, ONE), {}),
            says="must begin",
            note=f"{note}{is_log}",
        )
        for note, sample, alpha in [
            ("rows", P, positive(2, 3)),
            ("many", np.stack([P, P[::-1], P]), positive(3, 3)),
            ("one", P, positive(3)),
        ]
        for is_log in (False, True)
    ],
]
