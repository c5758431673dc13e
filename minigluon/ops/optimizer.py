"""Step against the gradient, remember where you were heading, and mind the shape of the valley."""

# Written from chapters/70_sgd.ipynb, chapters/70c_optimizers.ipynb: edit the chapter, then run `minigluon export`.

import os
from inspect import Parameter, Signature, signature
from sys import getrefcount

import numpy as np

from minigluon.cores import LONG, axpby, spread
from minigluon.op import operator
from minigluon.ops.csr import Rows, Sparse
from minigluon.ops.sparse import WAYS

__all__ = [
    "BLOCK",
    "LARGE",
    "NORMS",
    "WHOLE",
    "WORKERS",
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "adamax_step",
    "adamw",
    "adamw_step",
    "average",
    "clipped",
    "common",
    "contrib_adamw_update",
    "contrib_mp_adamw_update",
    "cut",
    "dcasgd_step",
    "decayed",
    "dense_step",
    "descent",
    "elsewhere",
    "exposed",
    "ftml_step",
    "ftrl_step",
    "group_step",
    "in_a_row",
    "lamb_direction",
    "lamb_step",
    "lamb_update_phase1",
    "lamb_update_phase2",
    "lars_step",
    "momentum_step",
    "mp_lamb_update_phase1",
    "mp_lamb_update_phase2",
    "mp_sgd_mom_update",
    "mp_sgd_update",
    "multi",
    "multi_lars",
    "nadam_step",
    "nesterov_step",
    "norm",
    "places_of",
    "plain",
    "prepared",
    "put_rows",
    "quicker",
    "rmsprop_centered_step",
    "rmsprop_step",
    "row_sparse_update",
    "rows_step",
    "run",
    "run_flat",
    "run_share",
    "scaled",
    "several",
    "sgd_mom_update",
    "sgd_step",
    "sgd_update",
    "sign_momentum_step",
    "sign_step",
    "stepped",
    "stepped32",
    "taken",
    "trust",
]


# --- The update -----------------------------------------------------------------------------------


def descent(w, g, lr, wd, rescale_grad, clip_gradient):
    """`lr` times the direction to go against, a new array: the gradient rescaled, clipped to
    ±clip_gradient unless that is None or negative, plus the decay of the weight."""
    d = g * (lr * rescale_grad)
    if clip_gradient is not None and clip_gradient >= 0:
        bound = abs(lr) * clip_gradient
        np.clip(d, -bound, bound, out=d)
    if not isinstance(wd, float) or wd:  # an array is not asked: it may live on a GPU
        d += (lr * wd) * w
    return d


def plain(lr, wd, clip_gradient):
    """Whether a step is a sum of two terms: nothing to clip, and numbers for factors, no arrays."""
    return type(lr) is float is type(wd) and (clip_gradient is None or clip_gradient < 0)


def sgd_step(w, g, lr, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """`w' = w - lr (clip(rescale_grad g) + wd w)`."""
    if plain(lr, wd, clip_gradient):
        axpby(-lr * rescale_grad, g, 1 - lr * wd, w)
        return
    w -= descent(w, g, lr, wd, rescale_grad, clip_gradient)


def momentum_step(w, g, mom, lr, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """`mom' = momentum mom - lr (...)`, `w' = w + mom'`. Polyak, 1964."""
    if plain(lr, wd, clip_gradient):
        axpby(-lr * rescale_grad, g, momentum, mom)
        if wd:
            axpby(-lr * wd, w, 1, mom)
        axpby(1, mom, 1, w)
        return
    mom *= momentum
    mom -= descent(w, g, lr, wd, rescale_grad, clip_gradient)
    w += mom


# --- Few rows, many rows --------------------------------------------------------------------------


def rows_step(step, w, g, *states, **settings):
    """Make a step for the rows that the row-sparse `g` stores; the other rows stay as they are."""
    rows, kept = g.indices, (w, *states)
    if len(rows):
        parts = [taken(a, rows) for a in kept]
        step(parts[0], g.values, *parts[1:], **settings)
        for a, part in zip(kept, parts):
            put_rows(a, rows, part)


def taken(a, rows):
    """A copy of some rows of an array, which may be row-sparse itself."""
    if not isinstance(a, Rows):
        return a[rows]
    part = np.zeros_like(a.values, shape=(len(rows), *a.shape[1:]))
    at, there = places_of(a, rows)
    part[there] = a.values[at[there]]
    return part


def places_of(a, rows):
    """Where a row-sparse array stores some rows, or would, and which of them it does store."""
    at = np.searchsorted(a.indices, rows)
    there = at < len(a.indices)
    there[there] = a.indices[at[there]] == rows[there]
    return at, there


def put_rows(a, rows, part):
    """Write rows back; in a row-sparse array they are stored from now on.

    Its numbers are written in place if it alone holds them; others see the old ones.
    """
    if not isinstance(a, Rows):
        a[rows] = part
        return
    at, there = places_of(a, rows)
    if there.all():
        if getrefcount(a.values) > 2 or not a.values.flags.owndata:  # `a` and the question are two
            a.values = a.values.copy()
        a.values[at] = part
        return
    others = ~np.isin(a.indices, rows)
    places = np.concatenate([a.indices[others], rows])
    order = np.argsort(places)
    a.values = np.concatenate([a.values[others], part])[order]
    a.indices = places[order]


# --- In the cache, on all cores -------------------------------------------------------------------

# Numbers in a block, of all arrays; measured: halves of it take a sixth
# longer, threads wait for each other more.
BLOCK = 1 << 19
LARGE = 1 << 19  # numbers of all weights from which threads pay for their start
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
# who limits the products' threads means these too
if os.environ.get("OMP_NUM_THREADS", "").isdigit():
    WORKERS = min(WORKERS, max(1, int(os.environ["OMP_NUM_THREADS"])))
WORKERS = min(WORKERS, 8)


WHOLE = set()  # steps that look at more than one number at a time
NORMS = set()  # those that look at all rows, and make a step on few of them by themselves
elsewhere = []  # ways to make many updates at once on a device; each returns the jobs that it leaves
quicker = {}  # step -> a step that does the same, sooner, on flat arrays of NumPy's


def run(jobs, lazy=True):
    """Carry out updates, a list of (step, (w, g, *states), settings)."""
    for way in elsewhere:
        jobs = way(jobs)
    run_flat([job for job in [prepared(*job, lazy) for job in jobs] if job is not None])


def run_flat(jobs):
    """Carry out updates of flat arrays of NumPy's, on all cores if there are many numbers."""
    jobs = [(quicker.get(step, step), arrays, settings) for step, arrays, settings in jobs]
    total = sum([len(arrays[0]) for _, arrays, _ in jobs])
    shares = WORKERS if total >= LARGE else 1
    if shares > 1:
        spread(lambda i: run_share(jobs, i, shares, total), range(shares))
        return
    for step, arrays, settings in jobs:
        n = len(arrays[0])
        if n * len(arrays) <= BLOCK:
            step(*arrays, **settings)
        else:
            run_share([(step, arrays, settings)], 0, 1, n)


def run_share(jobs, i, shares, total):
    """Share number i of the numbers of all jobs, in a row, block by block."""
    before, low, high = 0, total * i // shares, total * (i + 1) // shares
    for step, arrays, settings in jobs:
        n = len(arrays[0])
        before, begin, end = before + n, low - before, high - before
        if begin >= n or end <= 0:
            continue
        begin, end = cut(begin, n), cut(end, n)
        size = BLOCK // len(arrays)
        if begin == 0 and end == n <= size:
            step(*arrays, **settings)
            continue
        while begin < end:
            piece = slice(begin, begin := min(end, cut(begin + size, n)))
            step(*[a[piece] for a in arrays], **settings)


def cut(at, n):
    """Where to cut n numbers near `at`: steps treat short pieces in another way than long ones."""
    if at <= 0:
        return 0
    return n if at + LONG > n else at // LONG * LONG


def prepared(step, arrays, settings, lazy=True):
    """A job with flat arrays; None if it is done already, as sparse and strided ones are."""
    w, g = arrays[:2]
    if g.shape != w.shape:
        raise ValueError(f"a gradient of shape {g.shape} for a weight of shape {w.shape}")
    if step not in WHOLE and in_a_row(arrays):
        return step, arrays if w.ndim == 1 else [a.reshape(-1) for a in arrays], settings
    if isinstance(g, Rows) and lazy:
        return step(*arrays, **settings) if step in NORMS else rows_step(step, *arrays, **settings)
    if any(isinstance(a, Sparse) for a in arrays):
        return dense_step(step, arrays, settings)
    step(*arrays, **settings)
    return None


def in_a_row(arrays):
    """Whether arrays are NumPy's and their numbers lie one behind the other."""
    for a in arrays:  # noqa: SIM110, quicker than `all`, and asked for every parameter
        if type(a) is not np.ndarray or not a.flags.c_contiguous:
            return False
    return True


def dense_step(step, arrays, settings):
    """Make a step on dense copies of the sparse arrays."""
    copies = [a.dense() if isinstance(a, Sparse) else a for a in arrays]
    step(*copies, **settings)
    for a, copy in zip(arrays[:1] + arrays[2:], copies[:1] + copies[2:]):
        if copy is not a:
            a[...] = copy


# --- Operators ------------------------------------------------------------------------------------


def stepped(step, weight, *arrays, lazy=True, **settings):
    """The new weight after a step; the states are changed in place."""
    w = weight.copy()
    run([(step, (w, *arrays), settings)], lazy)
    return w


def stepped32(step, weight, grad, *arrays, **settings):
    """The same in float32: the last array is the exact weight, changed in place."""
    *states, w = arrays
    run([(step, (w, grad.astype(w.dtype), *states), settings)])
    return w.astype(weight.dtype)


@operator
def sgd_update(weight, grad, /, lr, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0, lazy_update=True):
    """`weight - lr (clip(rescale_grad grad) + wd weight)`; two arrays of one shape."""
    return stepped(sgd_step, weight, grad, lazy=lazy_update, **common(locals()))


@operator
def sgd_mom_update(
    weight,
    grad,
    mom,
    /,
    lr,
    momentum=0.0,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
    lazy_update=True,
):
    """The new weight `weight + mom'`, where `mom' = momentum mom - lr descent` replaces `mom`."""
    settings = common(locals(), "momentum")
    return stepped(momentum_step, weight, grad, mom, lazy=lazy_update, **settings)


def common(given, *more):
    """The settings of an update among the local variables of its operator."""
    names = ("lr", "wd", "rescale_grad", "clip_gradient", *more)
    return {name: float(given[name]) for name in names if name in given}


@operator(same_dtype=False)
def mp_sgd_update(
    weight, grad, weight32, /, lr, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0, lazy_update=True
):
    """`sgd_update` of a float16 weight, by its float32 copy `weight32`, which is changed."""
    return stepped32(sgd_step, weight, grad, weight32, **common(locals()))


@operator(same_dtype=False)
def mp_sgd_mom_update(
    weight,
    grad,
    mom,
    weight32,
    /,
    lr,
    momentum=0.0,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
    lazy_update=True,
):
    """`sgd_mom_update` of a float16 weight, by its float32 copy `weight32`, which is changed."""
    return stepped32(momentum_step, weight, grad, mom, weight32, **common(locals(), "momentum"))


def row_sparse_update(op, weight, *arrays, **settings):
    """An update in which arrays are sparse: the same kernel, which knows how; like `weight`."""
    raw = op.kernel(weight._data, *[a._data for a in arrays], **settings)
    return type(weight)(raw, weight._ctx)


WAYS.update(dict.fromkeys(("sgd_update", "sgd_mom_update"), row_sparse_update))


def several(step, arrays, data, lrs, wds, settings, exact=False):
    """New weights of many updates at once; `arrays` of `data` belong to each weight."""
    groups = [data[i : i + arrays] for i in range(0, len(data), arrays)]
    if not len(groups) == len(lrs) == len(wds) or len(data) % arrays:
        raise ValueError(f"{len(data)} arrays, {len(lrs)} lrs, {len(wds)} wds do not fit together")
    weights, jobs = [group[0] for group in groups], []
    for (w, g, *states), lr, wd in zip(groups, lrs, wds):
        new = states.pop() if exact else w.copy()
        jobs.append(
            (
                step,
                (new, g.astype(new.dtype), *states),
                {**settings, "lr": lr, "wd": wd},
            )
        )
    run(jobs)
    out = [job[1][0].astype(w.dtype) for job, w in zip(jobs, weights)]
    return tuple(out) if len(out) > 1 else out[0]


def multi(name, step, arrays, preloaded, exact):
    """Register an update of many weights."""
    has_momentum = step is momentum_step

    def kernel(
        *data, lrs=(), wds=(), momentum=0.0, rescale_grad=1.0, clip_gradient=-1.0, num_weights=1
    ):
        if preloaded:
            *data, lrs, wds = data
            lrs, wds = ([a[i : i + 1] for i in range(len(a))] for a in (lrs, wds))
        settings = {"rescale_grad": rescale_grad, "clip_gradient": clip_gradient}
        if has_momentum:
            settings["momentum"] = momentum
        return several(step, arrays, data, lrs, wds, settings, exact)

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = (
        "Update many weights: for each, weight, gradient and states one after the other."
    )
    op = operator(kernel, same_dtype=False)
    op.outputs = lambda number, **settings: int(settings.get("num_weights", 1))


for start in ("multi_", "preloaded_multi_"):
    for exact in (False, True):
        for step, end in ((sgd_step, "sgd_update"), (momentum_step, "sgd_mom_update")):
            number = 2 + (step is momentum_step) + exact
            multi(start + "mp_" * exact + end, step, number, start[0] == "p", exact)


# --- Steps with momentum and with signs -----------------------------------------------------------


def nesterov_step(w, g, mom, lr, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """`mom' = momentum mom - lr g`, `w' = w + momentum mom' - lr g`. Nesterov, 1983."""
    d = descent(w, g, lr, 0.0, rescale_grad, clip_gradient)
    mom *= momentum
    w += momentum * mom - (1 + momentum) * (d + (lr * wd) * w)
    mom -= d + (lr * wd) * w  # the decay is that of the new weight already, as in MXNet


def sign_step(w, g, lr, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """`w' = (1 - lr wd) w - lr sign(g)`. Bernstein et al., signSGD, 2018."""
    w *= 1 - lr * wd
    w -= lr * np.sign(g)


def sign_momentum_step(
    w, g, mom, lr, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0, wd_lh=0.0
):
    """The sign of the momentum, with decay `wd` in it and `wd_lh` beside it."""
    mom *= momentum
    mom -= descent(w, g, 1 - momentum, wd, rescale_grad, clip_gradient)
    w *= 1 - lr * wd_lh
    w += lr * np.sign(mom)


def dcasgd_step(w, g, *states, lr, momentum, lamda, wd, rescale_grad, clip_gradient):
    """Momentum with a correction for gradients of an older weight, the last state.

    Zheng et al., 2016.
    """
    *mom, previous = states
    g = scaled(g, rescale_grad, clip_gradient)
    step = -lr * (g + wd * w + lamda * g * g * (w - previous))
    if mom:
        mom[0] *= momentum
        mom[0] += step
        step = mom[0]
    previous[...] = w
    w += step


# --- Steps by the scale of the gradients ----------------------------------------------------------


def scaled(g, rescale_grad, clip_gradient):
    """The gradient, rescaled and clipped; perhaps the same array."""
    if rescale_grad != 1:
        g = g * rescale_grad
    return clipped(g, clip_gradient)


def decayed(w, g, wd, rescale_grad, clip_gradient):
    """The gradient, rescaled, with the decay, then clipped; perhaps the same array."""
    if rescale_grad != 1:
        g = g * rescale_grad
    if wd:
        g = g + wd * w
    return clipped(g, clip_gradient)


def clipped(g, bound):
    """`g` within ±bound, unless that is None or negative."""
    return g if bound is None or bound < 0 else np.clip(g, -bound, bound)


def average(mean, x, beta):
    """`mean' = beta mean + (1 - beta) x`, in place."""
    mean *= beta
    mean += (1 - beta) * x


def adam_step(
    w,
    g,
    mean,
    var,
    lr,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
):
    """`w' = w - lr mean / (sqrt(var) + epsilon)`, running means of g and g². Kingma and Ba, 2015."""
    if wd or (clip_gradient is not None and clip_gradient >= 0):
        g, rescale_grad = decayed(w, g, wd, rescale_grad, clip_gradient), 1.0
    axpby((1 - beta1) * rescale_grad, g, beta1, mean)
    s = g * g  # one buffer for all that comes and goes
    axpby((1 - beta2) * rescale_grad**2, s, beta2, var)
    np.sqrt(var, out=s)
    s += epsilon
    np.divide(mean, s, out=s)
    axpby(-lr, s, 1, w)


def adamw_step(w, g, mean, var, decay, **settings):
    """Adam's step after a decay of its own, `w' = (1 - decay) w - …`. Loshchilov and Hutter, 2019."""
    w *= 1 - decay
    adam_step(w, g, mean, var, **settings)


def adagrad_step(w, g, history, lr, epsilon=1e-7, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """`w' = w - lr (g / sqrt(sum of g² + epsilon) + wd w)`. Duchi, Hazan and Singer, 2011."""
    g = scaled(g, rescale_grad, clip_gradient)
    history += g * g
    w -= lr * (g / np.sqrt(history + epsilon) + wd * w)


def rmsprop_step(
    w,
    g,
    n,
    lr,
    gamma1=0.95,
    epsilon=1e-8,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
    clip_weights=-1.0,
):
    """`w' = w - lr g / sqrt(mean of g² + epsilon)`. Tieleman and Hinton, 2012."""
    g = decayed(w, g, wd, rescale_grad, clip_gradient)
    average(n, g * g, gamma1)
    w -= lr * g / np.sqrt(n + epsilon)
    w[...] = clipped(w, clip_weights)


def rmsprop_centered_step(
    w,
    g,
    n,
    mean,
    delta,
    lr,
    gamma1=0.95,
    gamma2=0.9,
    epsilon=1e-8,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
    clip_weights=-1.0,
):
    """RMSProp by the variance of g, with momentum. Graves, 2013, eq. 38-45."""
    g = decayed(w, g, wd, rescale_grad, clip_gradient)
    average(n, g * g, gamma1)
    average(mean, g, gamma1)
    delta *= gamma2
    delta -= lr * g / np.sqrt(n - mean * mean + epsilon)
    w += delta
    w[...] = clipped(w, clip_weights)


def adadelta_step(w, g, acc_g, acc_delta, lr, rho, epsilon, wd, rescale_grad, clip_gradient):
    """The step has the running size of former steps, relative to that of g. Zeiler, 2012."""
    g = scaled(g, rescale_grad, clip_gradient)
    average(acc_g, g * g, rho)
    delta = np.sqrt(acc_delta + epsilon) / np.sqrt(acc_g + epsilon) * g
    average(acc_delta, delta * delta, rho)
    w -= delta + wd * w


def ftrl_step(w, g, z, n, lr, lamda1=0.01, beta=1.0, wd=0.0, rescale_grad=1.0, clip_gradient=-1.0):
    """Follow the regularized leader, which sets small weights to 0. McMahan et al., 2013."""
    g = scaled(g, rescale_grad, clip_gradient)
    root = np.sqrt(n + g * g)
    z += g - (root - np.sqrt(n)) * w / lr
    n += g * g
    w[...] = (np.sign(z) * lamda1 - z) / ((beta + root) / lr + wd) * (abs(z) > lamda1)


def ftml_step(
    w,
    g,
    d,
    v,
    z,
    lr,
    beta1=0.6,
    beta2=0.999,
    epsilon=1e-8,
    t=1,
    wd=0.0,
    rescale_grad=1.0,
    clip_grad=-1.0,
):
    """Follow the moving leader. Zheng and Kwok, 2017."""
    g = decayed(w, g, wd, rescale_grad, clip_grad)
    average(v, g * g, beta2)
    new = (1 - beta1**t) / lr * (np.sqrt(v / (1 - beta2**t)) + epsilon)
    average(z, g, beta1)
    z -= (new - beta1 * d) * w
    d[...] = new
    np.divide(-z, d, out=w)


def adamax_step(w, g, mean, most, lr, beta1, beta2, wd, rescale_grad, clip_gradient):
    """Adam by the largest |g|, slowly forgotten. Kingma and Ba, 2015, section 7."""
    g = decayed(w, g, wd, rescale_grad, clip_gradient)
    average(mean, g, beta1)
    np.maximum(beta2 * most, abs(g), out=most)
    w -= lr * mean / most


def nadam_step(
    w,
    g,
    mean,
    var,
    lr,
    beta1,
    beta2,
    epsilon,
    t,
    now,
    after,
    product,
    wd,
    rescale_grad,
    clip_gradient,
):
    """Adam with Nesterov's momentum: weights `now` and `after` of this step and the next.

    Dozat, 2016.
    """
    g = decayed(w, g, wd, rescale_grad, clip_gradient)
    average(mean, g, beta1)
    average(var, g * g, beta2)
    ahead = (1 - now) / (1 - product) * g + after / (1 - product * after) * mean
    w -= lr * ahead / (np.sqrt(var / (1 - beta2**t)) + epsilon)


# --- Steps of whole layers ------------------------------------------------------------------------


def group_step(w, g, history, lr, rescale_grad=1.0, clip_gradient=-1.0, epsilon=1e-5):
    """AdaGrad with one history for a row: shape (n, 1) for weights (n, …)."""
    g = scaled(g, rescale_grad, clip_gradient)
    history += (g * g).mean(axis=tuple(range(1, g.ndim)), keepdims=True)
    w -= lr * g / np.sqrt(history + epsilon)


def lamb_direction(
    w, g, mean, var, beta1, beta2, epsilon, t, bias_correction, wd, rescale_grad, clip_gradient
):
    """Adam's direction, with the decay: what LAMB scales by the trust ratio."""
    g = scaled(g, rescale_grad, clip_gradient)
    average(mean, g, beta1)
    average(var, g * g, beta2)
    m, v = mean, var
    if bias_correction:
        m, v = mean / (1 - beta1**t), var / (1 - beta2**t)
    return m / (np.sqrt(v) + epsilon) + wd * w


def trust(w_norm, u_norm, lower_bound=None, upper_bound=None):
    """The norm of the weight within its bounds over that of the step; 1 if one of them is 0."""
    if lower_bound is not None and lower_bound > 0:
        w_norm = np.maximum(w_norm, lower_bound)
    if upper_bound is not None and upper_bound > 0:
        w_norm = np.minimum(w_norm, upper_bound)
    usable = (w_norm > 0) & (u_norm > 0)
    return np.where(usable, w_norm / np.where(usable, u_norm, 1), 1).astype(w_norm.dtype)


def norm(x):
    """The root of the sum of squares, in float32 at least; shape (1,)."""
    x = x.values if isinstance(x, Rows) else x
    return np.sqrt(np.square(x.reshape(1, -1), dtype=np.result_type(x, np.float32)).sum(axis=1))


def lamb_step(w, g, mean, var, lr, lower_bound=None, upper_bound=None, **settings):
    """Adam's step, scaled so that its norm is `lr` times the weight's. You et al., 2020."""
    u = lamb_direction(w, g, mean, var, **settings)
    u *= lr * trust(norm(w), norm(u), lower_bound, upper_bound)
    w -= u


def lars_step(w, g, *mom, lr, eta, eps, wd, rescale_grad, **settings):
    """A step with or without momentum, its rate scaled by a trust ratio. You et al., 2017."""
    w_norm, g_norm = norm(w), norm(g) * rescale_grad
    usable = (w_norm > 0) & (g_norm > 0)
    lr = lr * np.where(usable, eta * w_norm / (g_norm + wd * w_norm + eps + ~usable), 1)
    step = momentum_step if mom else sgd_step
    settings |= {"lr": lr.astype(w_norm.dtype), "wd": wd, "rescale_grad": rescale_grad}
    run([(step, (w, g, *mom), settings)])


WHOLE.update((group_step, lamb_step, lars_step))
NORMS.add(lars_step)


# --- Operators ------------------------------------------------------------------------------------


def exposed(name, step, arrays, exact=False, lazy=False, aliases=()):
    """Register a step as an operator on `arrays` that returns the new weight and changes the states.

    `exact`: for float16 weights with a float32 copy; `lazy`: for row-sparse gradients, too, and
    "rows" if a dense weight moves in all rows nevertheless.
    """

    def kernel(*given, **named):
        raw, named = given[: len(arrays)], dict(zip(names, given[len(arrays) :])) | named
        lazy_update = named.pop("lazy_update", True)
        lazy_update &= lazy != "rows" or isinstance(raw[0], Rows)
        if exact:
            return stepped32(step, *raw, **named)
        return stepped(step, *raw, lazy=lazy_update, **named)

    arrays = arrays.split()
    settings = list(signature(step).parameters.values())[len(arrays) - exact :]
    if lazy:
        settings.append(Parameter("lazy_update", Parameter.POSITIONAL_OR_KEYWORD, default=True))
        WAYS[name] = row_sparse_update
    names = [s.name for s in settings]
    first = [Parameter(a, Parameter.POSITIONAL_ONLY) for a in arrays]
    kernel.__signature__ = Signature(first + settings)
    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = (
        f"The new weight; {' and '.join(arrays[2:]) or 'nothing'} changes in place. {step.__doc__}"
    )
    return operator(kernel, aliases=aliases, same_dtype=not exact)


exposed("nag_mom_update", nesterov_step, "weight grad mom")
exposed("mp_nag_mom_update", nesterov_step, "weight grad mom weight32", exact=True)
exposed("signsgd_update", sign_step, "weight grad")
exposed("signum_update", sign_momentum_step, "weight grad mom")
exposed("adam_update", adam_step, "weight grad mean var", lazy=True)
exposed("rmsprop_update", rmsprop_step, "weight grad n")
exposed("rmspropalex_update", rmsprop_centered_step, "weight grad n g delta")
exposed("ftrl_update", ftrl_step, "weight grad z n", lazy="rows")
exposed("ftml_update", ftml_step, "weight grad d v z")
exposed("adagrad_update", adagrad_step, "weight grad history", lazy=True)
exposed("contrib_group_adagrad_update", group_step, "weight grad history", lazy=True)


@operator
def lamb_update_phase1(
    weight,
    grad,
    mean,
    var,
    /,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-6,
    t=1,
    bias_correction=True,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
):
    """Adam's direction with the decay; `mean` and `var` are changed in place."""
    settings = (beta1, beta2, epsilon, t, bias_correction, wd, rescale_grad, clip_gradient)
    return lamb_direction(weight, grad, mean, var, *settings)


@operator
def lamb_update_phase2(weight, g, r1, r2, /, lr, lower_bound=-1.0, upper_bound=-1.0):
    """`weight - lr r1/r2 g`; the norms `r1` of the weight, kept in its bounds, and `r2` of `g`: (1,)."""
    return weight - lr * trust(r1, r2, lower_bound, upper_bound) * g


@operator(same_dtype=False)
def mp_lamb_update_phase1(
    weight,
    grad,
    mean,
    var,
    weight32,
    /,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-6,
    t=1,
    bias_correction=True,
    wd=0.0,
    rescale_grad=1.0,
    clip_gradient=-1.0,
):
    """The same for a float16 weight, by its float32 copy."""
    settings = (beta1, beta2, epsilon, t, bias_correction, wd, rescale_grad, clip_gradient)
    return lamb_direction(weight32, grad.astype(weight32.dtype), mean, var, *settings)


@operator(same_dtype=False)
def mp_lamb_update_phase2(weight, g, r1, r2, weight32, /, lr, lower_bound=-1.0, upper_bound=-1.0):
    """The same for a float16 weight; its float32 copy is changed in place."""
    weight32 -= lr * trust(r1, r2, lower_bound, upper_bound) * g
    return weight32.astype(weight.dtype)


@operator
def multi_lars(lrs, weights_sum_sq, grads_sum_sq, wds, /, eta, eps, rescale_grad=1.0):
    """Learning rates of layers times their trust ratios, from sums of squares; all of shape (n,)."""
    w, g = np.sqrt(weights_sum_sq), np.sqrt(grads_sum_sq) * rescale_grad
    usable = (w > 0) & (g > 0)
    return lrs * np.where(usable, eta * w / (g + wds * w + eps + ~usable), 1).astype(lrs.dtype)


def adamw(w, weight, grad, mean, var, scale, lr, eta, beta1, beta2, epsilon, wd, clip_gradient):
    """Adam with a decay of its own, in place; nothing changes if `scale` is 0 or not finite."""
    if not (np.isfinite(scale) & (scale != 0)).all():
        return
    g = scaled(grad.astype(w.dtype) * scale.astype(w.dtype), 1, clip_gradient)
    average(mean, g, beta1)
    average(var, g * g, beta2)
    w -= eta * (lr * mean / (np.sqrt(var) + epsilon) + wd * w)


@operator(same_dtype=False)
def contrib_adamw_update(
    weight,
    grad,
    mean,
    var,
    rescale_grad,
    /,
    lr,
    eta,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    wd=0.0,
    clip_gradient=-1.0,
):
    """`weight - eta (lr mean / (sqrt(var) + epsilon) + wd weight)`, `mean` and `var` changed in place.

    If `rescale_grad`, shape (1,), is 0 or not finite, nothing changes. Loshchilov and Hutter, 2019."""
    w, scale = weight.copy(), np.add(rescale_grad, np.zeros_like(weight, shape=(1,)))
    adamw(w, weight, grad, mean, var, scale, lr, eta, beta1, beta2, epsilon, wd, clip_gradient)
    return w


@operator(same_dtype=False)
def contrib_mp_adamw_update(
    weight,
    grad,
    mean,
    var,
    weight32,
    rescale_grad,
    /,
    lr,
    eta,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    wd=0.0,
    clip_gradient=-1.0,
):
    """The same for a float16 weight; its float32 copy is changed in place."""
    w, scale = weight32, np.add(rescale_grad, np.zeros_like(weight32, shape=(1,)))
    adamw(w, weight, grad, mean, var, scale, lr, eta, beta1, beta2, epsilon, wd, clip_gradient)
    return w.astype(weight.dtype)
