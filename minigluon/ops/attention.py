"""To look up what is similar, weigh everything by its similarity; the whole is three matrix products."""

# Written from chapters/16_attention.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.autograd import zeros_like
from minigluon.cores import stacked
from minigluon.op import operator
from minigluon.ops.linalg import batch_dot

__all__ = [
    "answer_gradients",
    "answers",
    "contrib_div_sqrt_dim",
    "contrib_interleaved_matmul_encdec_qk",
    "contrib_interleaved_matmul_encdec_valatt",
    "contrib_interleaved_matmul_selfatt_qk",
    "contrib_interleaved_matmul_selfatt_valatt",
    "heads_of",
    "score_gradients",
    "scores",
    "unweave",
    "weave",
]


# --- The root -------------------------------------------------------------------------------------


@operator(vjp=(lambda g, y, data: contrib_div_sqrt_dim(g),), aliases=("_contrib_div_sqrt_dim",))
def contrib_div_sqrt_dim(data, /):
    """`data` divided by the root of the size of its last axis (Vaswani et al., 2017, equation 1)."""
    root = data.dtype.type(data.shape[-1] ** 0.5)
    if data.dtype.kind not in "fV":
        return np.trunc(data / root).astype(data.dtype)
    return data / root


# --- Layouts --------------------------------------------------------------------------------------


def heads_of(data, heads, parts, part):
    """A view of one of the interleaved projections:
    (length, batch, heads·parts·d) → (batch·heads, length, d).
    """
    if data.ndim != 3:
        raise ValueError(f"projections have the axes (length, batch, width), not {data.shape}")
    length, batch, width = data.shape
    if heads < 1 or width % (heads * parts):
        raise ValueError(
            f"a width of {width} is not {heads} heads times {parts} times a whole number"
        )
    split = data.reshape(length, batch * heads, parts, width // (heads * parts))
    return split[:, :, part].transpose(1, 0, 2)


@operator(
    vjp=(
        lambda g, y, x, heads, parts, part: weave(
            *[g if i == part else zeros_like(g) for i in range(parts)], heads=heads
        ),
    )
)
def unweave(data, /, heads, parts=1, part=0):
    """Projection `part` of `parts` interleaved ones, as matrices.

    (length, batch, heads·parts·d) becomes (batch·heads, length, d).
    """
    return heads_of(data, heads, parts, part).copy()


@operator
def weave(*data, heads):
    """Undo `unweave`: arrays (batch·heads, length, d) interleaved to (length, batch, heads·parts·d)."""
    count, length, d = data[0].shape
    if heads < 1 or count % heads:
        raise ValueError(f"{count} matrices are not {heads} heads times a whole number")
    together = np.stack([a.transpose(1, 0, 2) for a in data], axis=2)
    return together.reshape(length, count // heads, heads * len(data) * d)


@weave.vjp
def _(g, y, *data, heads):
    return [unweave(g, heads=heads, parts=len(data), part=i) for i in range(len(data))]


# --- Scores and answers ---------------------------------------------------------------------------


def scores(q, k):
    """QKᵀ/√d for each matrix."""
    if q.shape[::2] != k.shape[::2]:
        raise ValueError(
            f"queries {q.shape} and keys {k.shape}, (batch·heads, length, d), differ in more than length"
        )
    return stacked(contrib_div_sqrt_dim.kernel(q), k.swapaxes(1, 2))


def score_gradients(g, q, k):
    """The gradients of queries and keys, from that of the scores."""
    of_q, of_k = batch_dot(g, k), batch_dot(g, q, transpose_a=True)
    return contrib_div_sqrt_dim(of_q), contrib_div_sqrt_dim(of_k)


def answers(attention, v, heads):
    """AV for each matrix, the heads side by side again."""
    if attention.ndim != 3 or attention.shape[::2] != v.shape[:2]:
        raise ValueError(
            f"attention {attention.shape} does not fit the values {v.shape}: "
            f"it must be ({v.shape[0]}, queries, {v.shape[1]})"
        )
    return weave.kernel(stacked(attention, v), heads=heads)


def answer_gradients(g, attention, v, heads):
    """The gradients of attention and values, from that of the answers."""
    g = unweave(g, heads=heads)
    return batch_dot(g, v, transpose_b=True), batch_dot(attention, g, transpose_a=True)


# --- Attention to oneself -------------------------------------------------------------------------


@operator(aliases=("_contrib_interleaved_matmul_selfatt_qk",))
def contrib_interleaved_matmul_selfatt_qk(queries_keys_values, /, heads):
    """Scores QKᵀ/√d of a sequence with itself.

    From (length, batch, heads·3·d), queries, keys and values interleaved, to (batch·heads, length,
    length).
    """
    q, k = (heads_of(queries_keys_values, heads, 3, i) for i in (0, 1))
    return scores(q, k)


@contrib_interleaved_matmul_selfatt_qk.vjp
def _(g, y, x, heads):
    q, k = (unweave(x, heads=heads, parts=3, part=i) for i in (0, 1))
    of_q, of_k = score_gradients(g, q, k)
    return (weave(of_q, of_k, zeros_like(of_k), heads=heads),)


@operator(aliases=("_contrib_interleaved_matmul_selfatt_valatt",))
def contrib_interleaved_matmul_selfatt_valatt(queries_keys_values, attention, /, heads):
    """Values of a sequence weighed by `attention`, (batch·heads, length, length).

    From (length, batch, heads·3·d), queries, keys and values interleaved, to (length, batch, heads·d).
    """
    return answers(attention, heads_of(queries_keys_values, heads, 3, 2), heads)


@contrib_interleaved_matmul_selfatt_valatt.vjp
def _(g, y, x, attention, heads):
    v = unweave(x, heads=heads, parts=3, part=2)
    of_attention, of_v = answer_gradients(g, attention, v, heads)
    zeros = zeros_like(of_v)
    return weave(zeros, zeros, of_v, heads=heads), of_attention


# --- Attention to another sequence ----------------------------------------------------------------


@operator(aliases=("_contrib_interleaved_matmul_encdec_qk",))
def contrib_interleaved_matmul_encdec_qk(queries, keys_values, /, heads):
    """Scores QKᵀ/√d of one sequence with another: (batch·heads, queries, keys).

    `queries` is (length, batch, heads·d), `keys_values` (length, batch, heads·2·d), interleaved.
    """
    return scores(heads_of(queries, heads, 1, 0), heads_of(keys_values, heads, 2, 0))


@contrib_interleaved_matmul_encdec_qk.vjp
def _(g, y, queries, keys_values, heads):
    q, k = unweave(queries, heads=heads), unweave(keys_values, heads=heads, parts=2)
    of_q, of_k = score_gradients(g, q, k)
    return weave(of_q, heads=heads), weave(of_k, zeros_like(of_k), heads=heads)


@operator(aliases=("_contrib_interleaved_matmul_encdec_valatt",))
def contrib_interleaved_matmul_encdec_valatt(keys_values, attention, /, heads):
    """Values weighed by `attention`, (batch·heads, queries, keys), for each query.

    From `keys_values`, (length, batch, heads·2·d), interleaved, to (queries, batch, heads·d).
    """
    return answers(attention, heads_of(keys_values, heads, 2, 1), heads)


@contrib_interleaved_matmul_encdec_valatt.vjp
def _(g, y, keys_values, attention, heads):
    v = unweave(keys_values, heads=heads, parts=2, part=1)
    of_attention, of_v = answer_gradients(g, attention, v, heads)
    return weave(zeros_like(of_v), of_v, heads=heads), of_attention
