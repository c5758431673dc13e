"""Rows of the table that differ from MXNet 1.9.1, each with its reason."""

DRAWN = "the numbers that belong to a seed are others, and MXNet's operators take no `rng`"
LAWS = [
    "uniform",
    "normal",
    "exponential",
    "gamma",
    "poisson",
    "negative_binomial",
    "generalized_negative_binomial",
]

EXCEPTIONS = {  # row id -> reason
    "khatri_rao": "MXNet has no gradient of it",
    "khatri_rao-one": "MXNet has no gradient of it",
    "khatri_rao-three": "MXNet has no gradient of it",
    "contrib_allclose": "MXNet's answer has shape (); here a single number has shape (1,)",
    "broadcast_like": "MXNet wants as many axes on both sides; the adjoint of a sum may add some",
    **{f"sample_{law}-shape{n}": DRAWN for law in LAWS for n in (0, 1)},
    **{f"Dropout-{kind}": DRAWN for kind in ("always", "axes", "all", "in use")},
    "LeakyReLU-rrelu in use": DRAWN,
    "LeakyReLU-selu3": "MXNet's gradient below 0 is not the derivative: scale (alpha + y), not scale alpha + y",
    "sample_multinomial": DRAWN,
    "sample_multinomial-only": DRAWN,
    "shuffle": DRAWN,
    "Embedding-sparse gradient": "MXNet wants a row-sparse buffer for this gradient; any will do",
    "im2col-one_axis": "MXNet's manual has one axis as well, its code fails on all but two",
    "reshape-split_reversed": "MXNet infers -1 wrongly where -4 stands as well, and spoils memory",
    "sgd_mom_update": "MXNet changes the momentum in place, here it is returned",
    "split-numbers": "MXNet gives arrays of shape (), which it takes for unknown",
    "transpose-negative": "MXNet refuses negative axes; they mean what they mean in NumPy",
}
