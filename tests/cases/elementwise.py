"""Operators of chapter 10: one number in, one number out."""

import numpy as np

from tests.rows import Row, positive, signed

A, B = signed(3, 4), signed(4, seed=1)
P, Q = positive(3, 4), positive(3, 1, seed=1)
HALVES = np.array([-2.5, -1.5, -1.2, -0.5, 0.0, 0.5, 0.7, 1.5, 2.5])
MISFIT = ((signed(2, 3), signed(4)), {})


def binary(name, a, b, reference, **more):
    return Row(name, (a, b), reference=reference, wrong=MISFIT, says="float64[2, 3]", **more)


ROWS = [
    binary("add", A, B, np.add),
    binary("subtract", A, B, np.subtract),
    binary("multiply", A, B, np.multiply),
    binary("divide", A, Q, np.divide),
    binary("power", P, Q, np.power),
    binary("broadcast_power", P, Q, np.power),
    binary("modulo", P * 5, Q, np.mod),
    binary("hypot", A, B, np.hypot),
    Row("fractional", (P,), {}, lambda x: x),
    Row("modulo", (P, np.zeros(1)), reference=lambda a, b: 0 * a, differentiable=(), note="zero"),
    binary("maximum", A, B, np.maximum),
    binary("minimum", A, B, np.minimum),
    Row("above", (A, signed(3, 4, seed=1)), {}, lambda g, y: g * (y > 0), (0,)),
    Row(
        "subtract", (2.0, A), reference=np.subtract, differentiable=(1,), note="number on the left"
    ),
    Row("power", (A, 3), reference=np.power, differentiable=(0,), note="whole exponent"),
    Row("power", (2.0, A), reference=np.power, differentiable=(1,), note="number as base"),
    *(
        binary(name, np.round(A), np.round(B), compare, differentiable=())
        for name, compare in {
            "equal": np.equal,
            "not_equal": np.not_equal,
            "greater": np.greater,
            "greater_equal": np.greater_equal,
            "lesser": np.less,
            "lesser_equal": np.less_equal,
            "logical_and": np.logical_and,
            "logical_or": np.logical_or,
            "logical_xor": np.logical_xor,
        }.items()
    ),
    *(
        Row(name, (A,), reference=reference, wrong=((A,), {"bend": 1}), says="no argument bend")
        for name, reference in {
            "negative": np.negative,
            "exp": np.exp,
            "expm1": np.expm1,
            "square": np.square,
            "reciprocal": np.reciprocal,
            "sin": np.sin,
            "cos": np.cos,
            "tanh": np.tanh,
            "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "log_sigmoid": lambda x: -np.logaddexp(0, -x),
            "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
            "relu": lambda x: np.maximum(x, 0),
            "abs": np.abs,
            "cbrt": np.cbrt,
            "rcbrt": lambda x: 1 / np.cbrt(x),
            "tan": np.tan,
            "arctan": np.arctan,
            "degrees": np.degrees,
            "radians": np.radians,
            "sinh": np.sinh,
            "cosh": np.cosh,
            "arcsinh": np.arcsinh,
            "identity": np.copy,
        }.items()
    ),
    *(
        Row(name, (P,), reference=reference)
        for name, reference in {
            "log": np.log,
            "log1p": np.log1p,
            "log2": np.log2,
            "log10": np.log10,
            "sqrt": np.sqrt,
            "rsqrt": lambda x: 1 / np.sqrt(x),
        }.items()
    ),
    *(
        Row(name, (0.9 * A,), reference=reference)
        for name, reference in {
            "arcsin": np.arcsin,
            "arccos": np.arccos,
            "arctanh": np.arctanh,
        }.items()
    ),
    Row("arccosh", (P + 1,), reference=np.arccosh),
    *(
        Row(name, (HALVES,), reference=reference, differentiable=())
        for name, reference in {
            "ceil": np.ceil,
            "trunc": np.trunc,
            "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
            "rint": lambda x: np.ceil(x - 0.5),
            "logical_not": np.logical_not,
        }.items()
    ),
    Row("hard_sigmoid", (A,), reference=lambda x: 0.2 * x + 0.5),
    Row(
        "hard_sigmoid",
        (A * 3,),
        {"alpha": 0.7, "beta": 0.4},
        lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
        note="clipped",
    ),
    *(
        Row(
            "smooth_l1",
            (A,),
            {"scalar": scalar},
            lambda x, scalar: np.where(
                np.abs(x) < scalar**-2, (scalar * x) ** 2 / 2, np.abs(x) - scalar**-2 / 2
            ),
            note=f"scalar {scalar}",
        )
        for scalar in (1.0, 1.5, 2.5)
    ),
    Row(
        "add_n",
        (A, 2 * A, A * A),
        reference=lambda *args: sum(args),
        wrong=((A, B), {}),
        says="one shape",
    ),
    Row("add_n", (A,), reference=lambda a: a, note="alone"),
    Row("sign", (A,), reference=lambda x: np.where(np.isnan(x), 0, np.sign(x)), differentiable=()),
    Row("floor", (A * 3,), reference=np.floor, differentiable=()),
    Row("stop_gradient", (A,), reference=np.copy, differentiable=()),
    Row(
        "clip",
        (A,),
        {"a_min": -0.5, "a_max": 0.5},
        lambda x, a_min, a_max: np.clip(x, a_min, a_max),
    ),
    Row(
        "cast",
        (np.round(A),),
        {"dtype": "int32"},
        lambda x, dtype: x.astype(dtype),
        differentiable=(),
        wrong=((A,), {"dtype": "complex64"}),
        says="real numbers",
    ),
    Row("cast_like", (A, np.ones(3)), reference=lambda a, b: a, differentiable=(0,)),
]
