"""Rows of the table that differ from MXNet 1.9.1, each with its reason."""

EXCEPTIONS = {  # row id -> reason
    "contrib_allclose": "MXNet's answer has shape (); here a single number has shape (1,)",
    "broadcast_like": "MXNet wants as many axes on both sides; the adjoint of a sum may add some",
    "sgd_mom_update": "MXNet changes the momentum in place, here it is returned",
}
