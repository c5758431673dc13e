"""A file appears whole and verified or not at all, a batch falls into slices, and a gradient is cut to length."""

# Written from chapters/79_utilities.ipynb, chapters/86_io.ipynb: edit the chapter, then run `minigluon export`.

import bz2
import json
import math
import os
import platform
import random
import sys
import time
import zipfile
from contextlib import contextmanager
from functools import wraps

import numpy as np

from minigluon import autograd, im2rec, util
from minigluon.context import Context, current_context, num_gpus
from minigluon.gluon import utils
from minigluon.gluon.data.vision.datasets import MNIST, ROOTS, fetched, unpacked
from minigluon.gluon.utils import download as fetched_file
from minigluon.io.io import DataIter, MNISTIter
from minigluon.ndarray import sparse
from minigluon.ndarray.ndarray import NDArray, array, waitall
from minigluon.ndarray.utils import replace_file as write_whole
from minigluon.symbol.symbol import Symbol, var

__all__ = [
    "ATOL",
    "DummyIter",
    "RANK",
    "RTOL",
    "WHOLE",
    "agree",
    "almost_equal",
    "almost_equal_ignore_nan",
    "as_array",
    "as_arrays",
    "assert_allclose",
    "assert_almost_equal",
    "assert_almost_equal_ignore_nan",
    "assert_almost_equal_with_err",
    "assert_exception",
    "assign_each",
    "assign_each2",
    "bound",
    "checkShapes",
    "check_consistency",
    "check_gluon_hybridize_consistency",
    "check_numeric_gradient",
    "check_speed",
    "check_symbolic_backward",
    "check_symbolic_forward",
    "chi_square_check",
    "collapse_sum_like",
    "compare_ndarray_tuple",
    "compare_optimizer",
    "create_2d_tensor",
    "create_sparse_array",
    "create_sparse_array_zd",
    "create_vector",
    "default_atols",
    "default_context",
    "default_dtype",
    "default_numeric_eps",
    "default_rtols",
    "discard_stderr",
    "doubled",
    "download",
    "effective_dtype",
    "environment",
    "exactness",
    "fill",
    "gamma_tail",
    "gen_buckets_probs_with_ppf",
    "get_atol",
    "get_bz2_data",
    "get_cifar10",
    "get_etol",
    "get_identity_mat",
    "get_identity_mat_batch",
    "get_im2rec_path",
    "get_mnist",
    "get_mnist_iterator",
    "get_mnist_pkl",
    "get_mnist_ubyte",
    "get_rtol",
    "get_tolerance",
    "get_tols",
    "get_zip_data",
    "getenv",
    "has_tvm_ops",
    "in_training",
    "in_use",
    "is_aarch64_run",
    "is_cd_run",
    "is_np_array",
    "is_op_runnable",
    "list_gpus",
    "mean_check",
    "new_matrix_with_real_eigvals_2d",
    "new_matrix_with_real_eigvals_nd",
    "new_orthonormal_matrix_2d",
    "new_sym_matrix_with_real_eigvals_2d",
    "new_sym_matrix_with_real_eigvals_nd",
    "np_reduce",
    "numeric_grad",
    "plain",
    "rand_coord_2d",
    "rand_ndarray",
    "rand_shape_2d",
    "rand_shape_3d",
    "rand_shape_nd",
    "rand_sizes",
    "rand_sparse_ndarray",
    "random_arrays",
    "random_sample",
    "random_uniform_arrays",
    "restore",
    "retry",
    "same",
    "same_array",
    "same_symbol_structure",
    "set_default_context",
    "setenv",
    "shuffle_csr_column_indices",
    "simple_bound",
    "simple_forward",
    "stacked",
    "use_np",
    "var_check",
    "verify_generator",
    "within",
    "worst",
]


# --- Instruments: tolerances ----------------------------------------------------------------------

RTOL = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-5}
ATOL = {"float16": 1e-1, "float32": 1e-3, "float64": 1e-20}
WHOLE = ("bool", "int8", "uint8", "int32", "uint32", "int64", "uint64")


def default_rtols():
    """The relative tolerance of each type."""
    return {np.dtype(t): r for t, r in {**RTOL, **dict.fromkeys(WHOLE, 0)}.items()}


def default_atols():
    """The absolute tolerance of each type."""
    return {np.dtype(t): a for t, a in {**ATOL, **dict.fromkeys(WHOLE, 0)}.items()}


def default_numeric_eps():
    """The step of finite differences for each type."""
    return {np.dtype("float16"): 2**-6, np.dtype("float32"): 2**-9, np.dtype("float64"): 2**-14}


def default_context():
    """The device that tests use."""
    return current_context()


def set_default_context(ctx):
    """Make `ctx` the device that tests use."""
    Context._default_ctx.value = Context(ctx)


def default_dtype():
    """The type that tests use."""
    return np.float32


def effective_dtype(dat):
    """The type that decides about tolerances: a Python number counts as double."""
    return np.dtype(getattr(dat, "dtype", np.float64))


def get_rtol(rtol=None, dtype="float64"):
    """`rtol`, or the usual one of a type."""
    return default_rtols()[np.dtype(dtype)] if rtol is None else rtol


def get_atol(atol=None, dtype="float64"):
    """`atol`, or the usual one of a type."""
    return default_atols()[np.dtype(dtype)] if atol is None else atol


def get_etol(etol=None):
    """`etol`, the share of elements that may differ, by default 0."""
    return 0 if etol is None else etol


def get_tolerance(dat, tol, default_tol):
    """A tolerance for an array: `tol`, a number or a dict by type, or the usual one."""
    if isinstance(tol, dict):
        return tol[effective_dtype(dat)]
    return default_tol[effective_dtype(dat)] if tol is None else tol


def get_tols(x, y, rtol, atol):
    """Tolerances for comparing two arrays: those of the less exact."""
    rtol, atol = (
        max(get_tolerance(a, tol, usual) for a in (x, y))
        for tol, usual in ((rtol, default_rtols()), (atol, default_atols()))
    )
    return rtol, atol


def plain(a):
    """Anything like an array as a NumPy array."""
    return a.asnumpy() if isinstance(a, NDArray) else np.asarray(a)


def same(a, b):
    """Whether two arrays are equal, element by element."""
    return np.array_equal(plain(a), plain(b))


def within(a, b, rtol, atol, equal_nan):
    """Element by element, whether two NumPy arrays agree."""
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        a, b = a.astype(np.float64), b.astype(np.float64)
    return np.isclose(a, b, rtol, atol, equal_nan)


def almost_equal(a, b, rtol=None, atol=None, equal_nan=False, use_broadcast=True):
    """Whether two arrays agree within tolerances."""
    rtol, atol = get_tols(a, b, rtol, atol)
    a, b = plain(a), plain(b)
    if not use_broadcast:
        checkShapes(a, b)
    return bool(within(a, b, rtol, atol, equal_nan).all())


def checkShapes(a, b):
    """AssertionError unless two arrays have one shape."""
    assert np.shape(a) == np.shape(b), (
        f"Items are not equal: a.shape = {np.shape(a)} and b.shape = {np.shape(b)} are not equal"
    )


def assert_almost_equal(
    a,
    b,
    rtol=None,
    atol=None,
    names=("a", "b"),
    equal_nan=False,
    use_broadcast=True,
    mismatches=(10, 10),
):
    """AssertionError, which shows the worst element, unless two arrays agree within tolerances."""
    assert_almost_equal_with_err(a, b, rtol, atol, 0, names, equal_nan, mismatches, use_broadcast)


def assert_almost_equal_with_err(
    a,
    b,
    rtol=None,
    atol=None,
    etol=None,
    names=("a", "b"),
    equal_nan=False,
    mismatches=(10, 10),
    use_broadcast=True,
):
    """As `assert_almost_equal`, but a share `etol` of the elements may differ."""
    rtol, atol = get_tols(a, b, rtol, atol)
    a, b = plain(a), plain(b)
    if not use_broadcast:
        checkShapes(a, b)
    good = within(a, b, rtol, atol, equal_nan)
    if good.all() or 1 - good.mean() <= get_etol(etol):
        return
    raise AssertionError(worst(*np.broadcast_arrays(a, b, good), rtol, atol, names))


def worst(a, b, good, rtol, atol, names):
    """The message about two arrays that differ."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        excess = np.abs(x - y) / (atol + rtol * np.abs(y) + 1e-30)
    excess = np.where(good, -1, np.where(np.isnan(excess), np.inf, excess))
    where = tuple(int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
    return (
        f"\nItems are not equal:\nError {excess[where]:f} exceeds tolerance rtol={rtol:e}, "
        f"atol={atol:e} (mismatch {100 * (1 - good.mean()):f}%).\nLocation of maximum error: {where}, "
        f"{names[0]}={a[where]:.8f}, {names[1]}={b[where]:.8f}\n ACTUAL: {a!r}\n DESIRED: {b!r}"
    )


def assert_almost_equal_ignore_nan(a, b, rtol=None, atol=None, names=("a", "b")):
    """As `assert_almost_equal`, where neither array is NaN."""
    a, b = plain(a).copy(), plain(b).copy()
    nan = np.isnan(a) | np.isnan(b)
    a[nan] = b[nan] = 0
    assert_almost_equal(a, b, rtol, atol, names)


def almost_equal_ignore_nan(a, b, rtol=None, atol=None):
    """As `almost_equal`, where neither array is NaN."""
    a, b = plain(a).copy(), plain(b).copy()
    nan = np.isnan(a) | np.isnan(b)
    a[nan] = b[nan] = 0
    return almost_equal(a, b, rtol, atol)


def assert_allclose(a, b, rtol=1e-07, atol=0, equal_nan=True):
    """AssertionError unless two arrays agree within NumPy's tolerances."""
    assert_almost_equal(a, b, rtol, atol, equal_nan=equal_nan)


def assert_exception(f, exception_type, *args, **kwargs):
    """AssertionError unless `f(*args, **kwargs)` raises `exception_type`."""
    try:
        f(*args, **kwargs)
    except exception_type:
        return
    raise AssertionError(f"{f} did not raise {exception_type.__name__}")


def compare_ndarray_tuple(t1, t2, rtol=None, atol=None):
    """Compare arrays, or nested tuples of them."""
    if t1 is None or t2 is None:
        return
    if isinstance(t1, tuple):
        for a, b in zip(t1, t2):
            compare_ndarray_tuple(a, b, rtol, atol)
    else:
        assert_almost_equal(t1, t2, rtol, atol)


def same_array(array1, array2):
    """Whether two NDArrays share their memory."""
    return bool(np.shares_memory(array1._data, array2._data))


# --- Instruments: random arrays -------------------------------------------------------------------


def random_arrays(*shapes):
    """Normal numbers as NumPy arrays, one for each shape."""
    arrays = [
        np.random.randn(*s).astype(np.float32) if s else np.float32(np.random.randn())
        for s in shapes
    ]
    arrays = [np.array(a, dtype=default_dtype()) for a in arrays]
    return arrays[0] if len(arrays) == 1 else arrays


def random_uniform_arrays(*shapes, low=0.0, high=1.0, dtype=np.float32):
    """Uniform numbers as NumPy arrays, one for each shape, in a list."""
    return [np.random.uniform(low, high, s).astype(dtype) for s in shapes]


def random_sample(population, k):
    """`k` different elements of a population, in the order they have there."""
    return [population[i] for i in sorted(random.sample(range(len(population)), k))]


def rand_shape_2d(dim0=10, dim1=10, allow_zero_size=False):
    """A random shape of two axes."""
    return rand_sizes((dim0, dim1), allow_zero_size)


def rand_shape_3d(dim0=10, dim1=10, dim2=10, allow_zero_size=False):
    """A random shape of three axes."""
    return rand_sizes((dim0, dim1, dim2), allow_zero_size)


def rand_shape_nd(num_dim, dim=10, allow_zero_size=False):
    """A random shape of `num_dim` axes."""
    return rand_sizes((dim,) * num_dim, allow_zero_size)


def rand_sizes(most, allow_zero_size):
    """Random sizes, each up to its own maximum."""
    low = 0 if allow_zero_size else 1
    return tuple(int(np.random.randint(low, n + 1)) for n in most)


def rand_coord_2d(x_low, x_high, y_low, y_high):
    """A random pair of whole numbers."""
    return np.random.randint(x_low, x_high), np.random.randint(y_low, y_high)


def rand_ndarray(
    shape,
    stype="default",
    density=None,
    dtype=None,
    modifier_func=None,
    shuffle_csr_indices=False,
    distribution=None,
    ctx=None,
):
    """An NDArray of numbers from -1 to 1, dense or sparse."""
    assert stype in ("default", "csr", "row_sparse"), f"unknown storage type {stype!r}"
    if stype != "default":
        return rand_sparse_ndarray(
            shape, stype, density, dtype, modifier_func=modifier_func, ctx=ctx
        )[0]
    return array(np.random.uniform(-1, 1, shape), ctx=ctx, dtype=dtype or default_dtype())


def rand_sparse_ndarray(
    shape,
    stype,
    density=None,
    dtype=None,
    distribution=None,
    data_init=None,
    rsp_indices=None,
    modifier_func=None,
    shuffle_csr_indices=False,
    ctx=None,
):
    """A sparse array in which a share `density` is stored, and its parts (for rows: values, indices).

    A csr array of distribution 'powerlaw' stores 2, 4, 8, … numbers in its rows until the share is
    used up.
    """
    a = np.random.uniform(-1, 1, shape) if data_init is None else np.full(shape, float(data_init))
    a = a if modifier_func is None else np.vectorize(modifier_func)(a)
    share = np.random.rand() if density is None else density
    if distribution not in (None, "uniform", "powerlaw"):
        raise ValueError(f"distribution {distribution!r}: it is 'uniform' or 'powerlaw'")
    if stype == "csr" and distribution == "powerlaw":
        kept = np.arange(shape[1]) < doubled(*shape, int(shape[0] * shape[1] * share))[:, None]
        a = a + 2 * (a == 0)  # so that none of them is 0
    elif stype == "csr":
        kept = np.random.rand(*shape) < share
    else:
        rows = np.random.rand(shape[0]) < share
        rows = rows if rsp_indices is None else np.isin(np.arange(shape[0]), rsp_indices)
        kept = rows.reshape((-1,) + (1,) * (len(shape) - 1))
    made = sparse.cast_storage(array(a * kept, ctx=ctx, dtype=dtype or default_dtype()), stype)
    if stype == "csr":
        return made, (made.indptr, made.indices, made.data)
    return made, (made.data.asnumpy(), made.indices.asnumpy())


def doubled(rows, columns, count):
    """How many of `count` numbers each row gets:
    one while there are any, then all together 2, 4, 8, … of them.
    """
    first = (np.arange(rows) < count).astype(int)
    more = np.minimum(columns, 2.0 ** np.arange(1, rows + 1)).astype(int) - 1
    left = count - first.sum() - (np.cumsum(more) - more)
    return first + np.clip(left, 0, more)


def create_sparse_array(
    shape,
    stype,
    data_init=None,
    rsp_indices=None,
    dtype=None,
    modifier_func=None,
    density=0.5,
    shuffle_csr_indices=False,
):
    """A sparse array, see `rand_sparse_ndarray`."""
    return rand_sparse_ndarray(
        shape, stype, density, dtype, None, data_init, rsp_indices, modifier_func
    )[0]


def create_sparse_array_zd(
    shape,
    stype,
    density,
    data_init=None,
    rsp_indices=None,
    dtype=None,
    modifier_func=None,
    shuffle_csr_indices=False,
):
    """A sparse array of some density, or, row_sparse with `rsp_indices`, with these rows."""
    if stype == "row_sparse" and rsp_indices is not None:
        density = 0.0
        assert len(rsp_indices) <= shape[0], "more rows are named than there are"
    return create_sparse_array(
        shape, stype, data_init, rsp_indices, dtype, modifier_func, density, shuffle_csr_indices
    )


def shuffle_csr_column_indices(csr):
    """Shuffle the columns of each row of a SciPy matrix, in place:
    a csr array need not have them sorted.
    """
    for start, stop in zip(csr.indptr, csr.indptr[1:]):
        np.random.shuffle(csr.indices[start:stop])


def new_orthonormal_matrix_2d(n):
    """A random rotation, (n, n)."""
    return np.linalg.qr(np.random.randn(n, n))[0]


def new_matrix_with_real_eigvals_2d(n):
    """A matrix (n, n) whose eigenvalues are real and lie between 0.5 and 1.5."""
    q, scale = new_orthonormal_matrix_2d(n), np.exp(np.random.uniform(-0.2, 0.2, n))
    values = np.diag(np.linspace(0.5, 1.5, n))
    return (q * scale) @ values @ (q * (1 / scale)).T


def new_sym_matrix_with_real_eigvals_2d(n):
    """A symmetric matrix (n, n) whose eigenvalues lie between 0.5 and 1.5."""
    q = new_orthonormal_matrix_2d(n)
    a = (q * np.linspace(0.5, 1.5, n)) @ q.T
    return (a + a.T) / 2


def stacked(make, shape):
    """Matrices, one for each place in the leading axes of `shape`, (…, n, n)."""
    parts = [make(shape[-1]) for _ in range(math.prod(shape[:-2]))]
    return np.stack(parts).reshape(shape)


def new_matrix_with_real_eigvals_nd(shape):
    """Matrices with real eigenvalues, in an array of `shape`, (…, n, n)."""
    return stacked(new_matrix_with_real_eigvals_2d, shape)


def new_sym_matrix_with_real_eigvals_nd(shape):
    """Symmetric matrices, in an array of `shape`, (…, n, n)."""
    return stacked(new_sym_matrix_with_real_eigvals_2d, shape)


def get_identity_mat(size):
    """An identity matrix (size, size) as an array of MXNet's."""
    return array(np.identity(size))


def get_identity_mat_batch(size):
    """Two of them, (2, size, size)."""
    return array(np.stack([np.identity(size)] * 2))


def compare_optimizer(
    opt1,
    opt2,
    shape,
    dtype,
    w_stype="default",
    g_stype="default",
    rtol=1e-4,
    atol=1e-5,
    compare_states=True,
    ntensors=1,
):
    """AssertionError unless a step of both leads to the same weights, and states if `compare_states`.

    The first gets dense arrays, one after the other; the second those of the storage asked for, and if
    `shape` is a list, all of them in one call.
    """
    many = isinstance(shape, list)
    shapes = shape if many else [shape]
    theirs = [rand_ndarray(s, w_stype, 1, dtype) for s in shapes]
    grads = [rand_ndarray(s, g_stype, None, dtype) for s in shapes]
    own = [w.copy().tostype("default") for w in theirs]
    states1 = [opt1.create_state_multi_precision(i, w) for i, w in enumerate(own)]
    states2 = [opt2.create_state_multi_precision(i, w) for i, w in enumerate(theirs)]
    if compare_states:
        compare_ndarray_tuple(tuple(states1), tuple(states2))
    for i, (w, g, s) in enumerate(zip(own, grads, states1)):
        opt1.update_multi_precision(i, w, g.tostype("default"), s)
    if many:
        opt2.update_multi_precision(list(range(len(shapes))), theirs, grads, states2)
    else:
        opt2.update_multi_precision(0, theirs[0], grads[0], states2[0])
    if compare_states:
        compare_ndarray_tuple(tuple(states1), tuple(states2), rtol, atol)
    compare_ndarray_tuple(tuple(own), tuple(theirs), rtol, atol)


def list_gpus():
    """The numbers of all GPUs."""
    return range(num_gpus())


def np_reduce(dat, axis, keepdims, numpy_reduce_func):
    """A reduction of a NumPy array over several axes, one after the other."""
    axis = (axis,) if isinstance(axis, int) else axis
    axis = range(dat.ndim) if axis is None else [i % dat.ndim for i in axis]
    for i in sorted(axis, reverse=True):
        dat = numpy_reduce_func(dat, axis=i)
        dat = np.expand_dims(dat, i) if keepdims else dat
    return dat


def collapse_sum_like(a, shape):
    """A NumPy array summed down to `shape`, which broadcasts to its own."""
    extra = a.ndim - len(shape)
    ones = tuple(i + extra for i, n in enumerate(shape) if n == 1)
    return a.sum(axis=tuple(range(extra)) + ones, keepdims=True).reshape(shape)


def assign_each(the_input, function):
    """A NumPy array of `function` of each element."""
    return np.array(the_input) if function is None else np.vectorize(function)(the_input)


def assign_each2(input1, input2, function):
    """A NumPy array of `function` of each pair of elements."""
    return np.array(input1) if function is None else np.vectorize(function)(input1, input2)


def retry(n):
    """Run a test up to `n` times, until it passes."""
    assert n > 0, "retry(n): n is at least 1"

    def decorate(f):
        @wraps(f)
        def wrapped(*args, **kwargs):
            for left in range(n - 1, -1, -1):
                try:
                    return f(*args, **kwargs)
                except AssertionError:
                    if left == 0:
                        raise
            return None

        return wrapped

    return decorate


@contextmanager
def environment(*args):
    """A `with` block with other environment variables: name and value, or a dict; None removes one."""
    wanted = dict([args]) if len(args) == 2 else dict(args[0])
    before = {name: os.environ.get(name) for name in wanted}
    try:
        for name, value in wanted.items():
            setenv(name, value)
        yield
    finally:
        for name, value in before.items():
            setenv(name, value)


getenv, setenv, is_np_array, use_np = util.getenv, util.setenv, util.is_np_array, util.use_np


def download(url, fname=None, dirname=None, overwrite=False, retries=5):
    """Fetch a file unless it is there; return its name."""
    fname = fname or url.split("/")[-1]
    return fetched_file(url, os.path.join(dirname or "", fname), overwrite, retries=retries)


def mean_check(generator, mu, sigma, nsamples=1000000):
    """Whether the mean of `generator(nsamples)` lies within three standard errors of `mu`."""
    mean = np.mean(plain(generator(nsamples)).astype(np.float64))
    return bool(abs(mean - mu) < 3 * sigma / math.sqrt(nsamples))


def var_check(generator, sigma, nsamples=1000000):
    """Whether the variance of normal `generator(nsamples)` lies within three standard errors."""
    var = np.var(plain(generator(nsamples)).astype(np.float64), ddof=1)
    return bool(abs(var - sigma**2) < 3 * math.sqrt(2 * sigma**4 / (nsamples - 1)))


def gamma_tail(a, x):
    """The regularised incomplete gamma function Q(a, x), from a series or a continued fraction."""
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = 0
        while term > 1e-16 * total:
            n += 1
            term *= x / (a + n)
            total += term
        return 1 - scale * total
    f = 0.0
    for n in range(int(200 + 4 * math.sqrt(a)), 0, -1):
        f = n * (a - n) / (x + 2 * n + 1 - a + f)
    return scale / (x + 1 - a + f)


def gen_buckets_probs_with_ppf(ppf, nbuckets):
    """Buckets of equal probability, [(low, high), ...], from an inverse distribution function."""
    edges = [ppf(i / nbuckets) for i in range(nbuckets + 1)]
    return list(zip(edges[:-1], edges[1:])), [1 / nbuckets] * nbuckets


def chi_square_check(generator, buckets, probs, nsamples=1000000):
    """Pearson's test of `generator(nsamples)`: p-value, observed and expected counts.

    buckets: pairs (low, high), or single values of a discrete distribution; probs: their probabilities.
    """
    assert buckets and len(buckets) == len(probs), "give buckets, and a probability for each"
    samples, probs = plain(generator(nsamples)).reshape(-1), np.asarray(probs, np.float64)
    assert samples.size == nsamples, f"the generator gave {samples.size} numbers, not {nsamples}"
    if isinstance(buckets[0], list | tuple):
        found = [np.count_nonzero((low <= samples) & (samples < high)) for low, high in buckets]
    else:
        found = [np.count_nonzero(samples == value) for value in buckets]
    found, expected = np.array(found), nsamples * probs
    statistic = np.sum((found - expected) ** 2 / expected)
    return gamma_tail((len(buckets) - 1) / 2, statistic / 2), found, expected


def verify_generator(
    generator, buckets, probs, nsamples=1000000, nrepeat=5, success_rate=0.2, alpha=0.05
):
    """The p-values of `nrepeat` tests; AssertionError if fewer than `success_rate` exceed `alpha`."""
    runs = [chi_square_check(generator, buckets, probs, nsamples) for _ in range(nrepeat)]
    values = [p for p, _, _ in runs]
    if np.sum(np.array(values) > alpha) < nrepeat * success_rate:
        raise AssertionError(
            f"the numbers do not have the distribution: p-values {values}, "
            f"observed {runs[-1][1]}, expected {runs[-1][2]}"
        )
    return values


def create_vector(size, dtype=np.int64):
    """The numbers 0, 1, 2, ... as an array."""
    return array(np.arange(size), dtype=dtype)


def create_2d_tensor(rows, columns, dtype=np.int64):
    """An array whose row i is filled with i."""
    return array(np.arange(rows).repeat(columns).reshape(rows, columns), dtype=dtype)


def is_cd_run():
    """Whether this is a run of a release pipeline."""
    return os.environ.get("CD_JOB") == "1"


def has_tvm_ops():
    """Whether operators compiled by TVM are there: they are not."""
    return False


def is_op_runnable():
    """Whether the operators compiled for this machine run on it: NumPy's do."""
    return True


def get_zip_data(data_dir, url, data_origin_name):
    """Fetch a zip file into a folder, if it is not there, and unpack it there."""
    name = os.path.join(data_dir, data_origin_name)
    if not os.path.exists(name):
        download(url, data_origin_name, data_dir)
        with zipfile.ZipFile(name) as packed:
            packed.extractall(data_dir)


def get_bz2_data(data_dir, data_name, url, data_origin_name):
    """Fetch a bz2 file into a folder, if its content is not there as `data_name`, and unpack it."""
    data_name, packed_name = (os.path.join(data_dir, n) for n in (data_name, data_origin_name))
    if not os.path.exists(data_name):
        download(url, data_origin_name, data_dir)
        with bz2.open(packed_name) as packed:
            write_whole(data_name, iter(lambda: packed.read(1 << 20), b""))
        os.remove(packed_name)


def is_aarch64_run():
    """Whether this machine has an ARM processor."""
    return platform.machine() in ("aarch64", "arm64")


# --- Instruments: gradients -----------------------------------------------------------------------


def as_arrays(names, given, ctx, dtype):
    """A list or a dict of arrays as a dict of NDArrays."""
    given = given if isinstance(given, dict) else dict(zip(names, given or ()))
    missing = set(names) - set(given)
    if missing or set(given) - set(names):
        raise ValueError(
            "Symbol arguments and keys of the given location do not match: "
            f"{sorted(names)} vs. {sorted(given)}"
        )
    return {n: as_array(a, ctx, dtype) for n, a in given.items()}


def as_array(a, ctx, dtype):
    """An NDArray of its own type and storage, or one of NumPy's as `dtype`,
    or with "asnumpy" of its own type too.
    """
    if isinstance(a, NDArray):
        return a.copy()
    a = np.asarray(a)
    return array(a, ctx=ctx, dtype=a.dtype if isinstance(dtype, str) else dtype)


def bound(sym, location, aux_states, ctx, dtype, grad_req="write", grad_stypes=None):
    """An executor of `sym` on arrays, with gradients of ones, in the storage
    that `grad_stypes` names.
    """
    ctx = ctx or default_context()
    args = as_arrays(sym.list_arguments(), location, ctx, dtype)
    states = as_arrays(sym.list_auxiliary_states(), aux_states, ctx, dtype) if aux_states else None
    grads = {n: array(np.ones(a.shape), ctx=ctx, dtype=a.dtype) for n, a in args.items()}
    for name, stype in (grad_stypes or {}).items():
        grads[name] = grads[name].tostype(stype or "default")
    return sym.bind(ctx, args, args_grad=grads, grad_req=grad_req, aux_states=states)


def check_symbolic_forward(
    sym,
    location,
    expected,
    rtol=None,
    atol=None,
    aux_states=None,
    ctx=None,
    equal_nan=False,
    dtype=np.float32,
):
    """Compare the outputs of `sym` on `location` with `expected`, a list or a dict; return them."""
    outputs = bound(sym, location, aux_states, ctx, dtype).forward(is_train=False)
    names = sym.list_outputs()
    expected = [expected[n] for n in names] if isinstance(expected, dict) else expected
    for name, wanted, y in zip(names, expected, outputs):
        assert_almost_equal(
            wanted, y, rtol, atol, (f"EXPECTED_{name}", f"FORWARD_{name}"), equal_nan
        )
    return outputs


def check_symbolic_backward(
    sym,
    location,
    out_grads,
    expected,
    rtol=None,
    atol=None,
    aux_states=None,
    grad_req="write",
    ctx=None,
    grad_stypes=None,
    equal_nan=False,
    dtype=np.float32,
):
    """Compare the gradients of `sym` for `out_grads` with `expected`; return them by name."""
    names = sym.list_arguments()
    ctx = ctx or default_context()
    wanted = expected if isinstance(expected, dict) else dict(zip(names, expected))
    if isinstance(grad_req, list | tuple):
        grad_req = dict(zip(names, grad_req))
    requests = grad_req if isinstance(grad_req, dict) else dict.fromkeys(names, grad_req)
    if isinstance(grad_stypes, list | tuple):
        grad_stypes = dict(zip(names, grad_stypes))
    exe = bound(sym, location, aux_states, ctx, dtype, requests, grad_stypes)
    exe.forward(is_train=True)
    if isinstance(out_grads, dict):
        out_grads = [out_grads[n] for n in sym.list_outputs()]
    exe.backward([as_array(g, ctx, dtype) for g in out_grads or ()] or None)
    for name, value in wanted.items():
        request = requests.get(name, "write")
        value = (
            plain(value) + 1
            if request == "add"
            else np.ones(exe.arg_dict[name].shape)
            if request == "null"
            else value
        )
        found = exe.grad_dict[name]
        if found is not None and request != "null":
            assert_almost_equal(
                value, found, rtol, atol, (f"EXPECTED_{name}", f"BACKWARD_{name}"), equal_nan
            )
    return {n: exe.grad_dict[n] for n in wanted}


def numeric_grad(
    executor, location, aux_states=None, eps=1e-4, use_forward_train=True, dtype=np.float32
):
    """Central differences of the sum of the first output, for each argument in `location`."""
    found = {}
    for name, value in location.items():
        x = plain(value).copy()
        found[name] = np.zeros(x.shape, dtype)
        for i in np.ndindex(x.shape) if x.dtype.kind == "f" else ():
            ends = []
            for step in (eps / 2, -eps / 2):
                moved = x.copy()
                moved[i] += step
                executor.arg_dict[name][:] = moved
                restore(executor, aux_states)
                y = executor.forward(is_train=use_forward_train)[0]
                ends.append(y.asnumpy().astype(np.float64).sum())
            found[name][i] = (ends[0] - ends[1]) / eps
        executor.arg_dict[name][:] = x
    return found


def restore(executor, aux_states):
    """Give the auxiliary states of an executor their first values again."""
    for name, value in (aux_states or {}).items():
        executor.aux_dict[name][:] = plain(value)


def check_numeric_gradient(
    sym,
    location,
    aux_states=None,
    numeric_eps=None,
    rtol=None,
    atol=None,
    grad_nodes=None,
    use_forward_train=True,
    ctx=None,
    grad_stype_dict=None,
    dtype=np.float32,
):
    """Compare the gradients of a random projection of `sym` with central differences."""
    assert dtype in (np.float16, np.float32, np.float64), f"dtype {dtype} has no gradients"
    ctx, names = ctx or default_context(), sym.list_arguments()
    args = as_arrays(names, location, ctx, dtype)
    states = as_arrays(sym.list_auxiliary_states(), aux_states, ctx, dtype) if aux_states else {}
    step = numeric_eps or default_numeric_eps()[np.dtype(dtype)]
    rtol, atol = get_rtol(rtol, dtype), get_atol(atol, dtype)
    nodes = names if grad_nodes is None else list(grad_nodes)
    if isinstance(grad_nodes, dict):
        nodes = [n for n in nodes if grad_nodes[n] != "null"]
    shape = sym.infer_shape(**{n: a.shape for n, a in args.items()})[1][0]
    p = array(np.random.uniform(0.1, 1.1, shape), ctx=ctx, dtype=dtype)  # none is small
    weighted = sym * var("__random_proj")  # added in double precision, by numeric_grad
    exe = bound(weighted, {**args, "__random_proj": p}, states, ctx, dtype)
    exe.forward(is_train=True)
    exe.backward([y.ones_like() for y in exe.outputs])
    symbolic = {n: exe.grad_dict[n].asnumpy() for n in nodes}
    numeric = numeric_grad(
        exe, {n: args[n].copy() for n in nodes}, states, step, use_forward_train, dtype
    )
    for name in nodes:
        assert_almost_equal(
            numeric[name], symbolic[name], rtol, atol, (f"NUMERICAL_{name}", f"BACKWARD_{name}")
        )


def simple_forward(sym, ctx=None, is_train=False, **inputs):
    """The outputs of a graph on NumPy arrays, as NumPy arrays; a single one stands alone."""
    ctx = ctx or default_context()
    outputs = sym.bind(ctx, {n: array(a) for n, a in inputs.items()}).forward(is_train=is_train)
    outputs = [y.asnumpy() for y in outputs]
    return outputs[0] if len(outputs) == 1 else outputs


def check_consistency(
    sym,
    ctx_list,
    scale=1.0,
    grad_req="write",
    arg_params=None,
    aux_params=None,
    rtol=None,
    atol=None,
    raise_on_err=True,
    ground_truth=None,
    equal_nan=False,
    use_uniform=False,
    rand_type=np.float64,
):
    """Run `sym` as each dict of `ctx_list` says ('ctx', shapes, 'type_dict'); all must agree.

    In use and, unless `grad_req` is 'null', in training, with the gradients. Returns {name: array}
    of the most exact run, with which, or with `ground_truth`, the others are compared.
    """
    assert len(ctx_list) > 1, "check_consistency compares at least two settings"
    symbols = [sym] * len(ctx_list) if isinstance(sym, Symbol) else sym
    executors = [simple_bound(s, grad_req, **c) for s, c in zip(symbols, ctx_list)]
    draw = (
        (lambda n: np.random.uniform(-scale, scale, n))
        if use_uniform
        else (lambda n: np.random.normal(size=n, scale=scale))
    )
    first = executors[0]
    values = {n: draw(a.shape).astype(rand_type) for n, a in first.arg_dict.items()} | (
        arg_params or {}
    )
    states = {n: np.zeros(a.shape) for n, a in first.aux_dict.items()} | (aux_params or {})
    for exe in executors:
        fill(exe, values, states)
    runs = [in_use(executors)] + ([] if grad_req == "null" else [in_training(executors)])
    exact = int(np.argmax([exactness(exe) for exe in executors]))
    for results in runs:
        truth = ground_truth or results[exact]
        for found, exe in zip(results, executors):
            worse = min(exactness(exe), exactness(executors[exact]), key=lambda r: r or 9)
            agree(found, truth, worse, (rtol, atol, equal_nan), raise_on_err)
    return truth


RANK = {"float16": 1, "float32": 2, "float64": 3}


def exactness(exe):
    """How exact the outputs of an executor are: 0 for whole numbers, then 1, 2, 3."""
    return max(RANK.get(np.dtype(y.dtype).name, 0) for y in exe.outputs)


def simple_bound(sym, grad_req, ctx, type_dict=None, **shapes):
    """An executor in which the types that are not given follow from those that are."""
    given = {n: t for n, t in (type_dict or {}).items() if n in sym.list_arguments()}
    found = sym.infer_type(**given)[0] if given else None
    types = dict(zip(sym.list_arguments(), found or ())) | given
    return sym.simple_bind(ctx, grad_req, type_dict=types, **shapes)


def fill(exe, values, states):
    """Write arguments and auxiliary states into an executor, in the types it has;
    gradients become zeros.
    """
    for name, value in values.items():
        exe.arg_dict[name][:] = plain(value).astype(exe.arg_dict[name].dtype)
    for name, value in states.items():
        exe.aux_dict[name][:] = plain(value)
    for grad in exe.grad_arrays:
        if grad is not None:
            grad[:] = 0


def in_use(executors):
    """{name: output} of each executor, run outside of training."""
    return [dict(zip(exe._symbol.list_outputs(), exe.forward(is_train=False))) for exe in executors]


def in_training(executors):
    """{name: output or gradient} of each executor, with the same heads for all."""
    outputs = [exe.forward(is_train=True) for exe in executors]
    least = [min((y.dtype for y in ys), key=lambda t: np.dtype(t).itemsize) for ys in zip(*outputs)]
    heads = [y.astype(t).asnumpy() for y, t in zip(outputs[0], least)]
    for exe, ys in zip(executors, outputs):
        own = [array(h, exe._ctx, y.dtype).tostype(y.stype) for h, y in zip(heads, ys)]
        exe.backward(own)
    return [
        dict(zip(exe._symbol.list_outputs(), ys)) | exe.grad_dict
        for exe, ys in zip(executors, outputs)
    ]


def agree(found, truth, rank, tolerance, strict):
    """Compare two dicts of arrays; `rank` is the exactness of the outputs,
    at which gradients are no better.
    """
    rtol, atol, equal_nan = tolerance
    kinds = {r: name for name, r in RANK.items()}
    for name, y in found.items():
        if y is None or truth[name] is None:
            assert y is truth[name], f"{name}: one of the runs has no gradient"
            continue
        of = [min(RANK.get(np.dtype(a.dtype).name, 9), rank or 9) for a in (y, truth[name])]
        as_exact = [a.astype(kinds.get(r, a.dtype)) for a, r in zip((y, truth[name]), of)]
        limits = get_tols(*as_exact, rtol, atol)
        try:
            names = (name, f"{name} in the most exact")
            assert_almost_equal(y, truth[name], *limits, names, equal_nan)
        except AssertionError:
            if strict:
                raise


def check_gluon_hybridize_consistency(
    net_builder, data_l, numpy_func=None, test_grad=True, rtol=1e-4, atol=1e-4
):
    """Compare a block as it is with the same block hybridized: outputs, and gradients of the inputs."""
    saved, seen = None, []
    for active in (False, True):
        net = net_builder()
        net.initialize()
        inputs = [array(a.asnumpy(), dtype=a.dtype) for a in data_l]
        net(*inputs)
        if saved is None:
            saved = [p.data().asnumpy() for p in net.collect_params().values()]
        for p, value in zip(net.collect_params().values(), saved):
            p.set_data(array(value, dtype=value.dtype))
        if active:
            net.hybridize()
        for a in inputs if test_grad else ():
            a.attach_grad()
        with autograd.record(test_grad):
            y = net(*inputs)
        if test_grad:
            y.backward()
        seen.append([y] + ([a.grad for a in inputs] if test_grad else []))
    for a, b in zip(*seen):
        assert_almost_equal(a, b, rtol, atol)
    if numpy_func is not None:
        assert_almost_equal(numpy_func(*[a.asnumpy() for a in data_l]), seen[0][0], rtol, atol)


def same_symbol_structure(sym1, sym2):
    """Whether two graphs have the same operators in the same order, whatever their names."""
    one, two = ([node["op"] for node in json.loads(s.tojson())["nodes"]] for s in (sym1, sym2))
    return all(a == b for a, b in zip(one, two))


def check_speed(sym, location=None, ctx=None, N=20, grad_req=None, typ="whole", **kwargs):
    """Seconds that a run of `sym` takes, the mean of N; `typ` is 'whole', with gradients, or 'forward'.

    The arguments are in `location`, or random in the shapes that `kwargs` names.
    """
    if typ not in ("whole", "forward"):
        raise ValueError(f"typ can only be 'whole' or 'forward', not {typ!r}")
    request = grad_req or ("write" if typ == "whole" else "null")
    shapes = kwargs if location is None else {k: v.shape for k, v in location.items()}
    exe = sym.simple_bind(ctx or default_context(), grad_req=request, **shapes)
    for name, a in exe.arg_dict.items():
        a[:] = np.random.normal(size=a.shape) if location is None else location[name]

    def run():
        exe.forward(is_train=typ == "whole")
        if typ == "whole":
            exe.backward(exe.outputs)

    run()  # the first time is not like the others
    waitall()
    start = time.perf_counter()
    for _ in range(N):
        run()
    waitall()
    return (time.perf_counter() - start) / N


@contextmanager
def discard_stderr():
    """A `with` block in which nothing that is written to the standard error reaches it,
    not even by C code.
    """
    try:
        number = sys.stderr.fileno()
    except (AttributeError, OSError):  # no file: a notebook, or a test that listens
        yield
        return
    kept = os.dup(number)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


# --- Iterators over files -------------------------------------------------------------------------


def get_mnist():
    """Handwritten digits: float32 pictures (n, 1, 28, 28) from 0 to 1 and int8 labels,
    {'train_data': ...}.
    """
    found = {}
    for name in ("train", "test"):
        pictures, labels = MNIST(ROOTS["mnist"], name == "train")[:]
        shape = len(labels), 1, *pictures.shape[1:3]
        found[f"{name}_data"] = pictures.asnumpy().reshape(shape).astype(np.float32) / 255
        found[f"{name}_label"] = np.asarray(labels).astype(np.int8)
    return found


def get_mnist_ubyte(path="data"):
    """Put the four files of handwritten digits, unpacked, into a folder."""
    os.makedirs(path, exist_ok=True)
    train, test = (MNIST._train_data, MNIST._train_label), (MNIST._test_data, MNIST._test_label)
    for packed, sha1 in train + test:
        name = os.path.join(path, packed.removesuffix(".gz"))
        if not os.path.exists(name):
            source = fetched(ROOTS["mnist"], MNIST._namespace, MNIST._mirror, packed, sha1)
            part = f"{name}.{os.getpid()}.part"
            with open(part, "wb") as file:
                file.write(unpacked(source))
            utils.replace_file(part, name)


def get_mnist_pkl():
    """Fetch handwritten digits, pickled, into the folder `data`, if they are not there."""
    if not os.path.exists(os.path.join("data", "mnist.pkl.gz")):
        os.makedirs("data", exist_ok=True)
        utils.download(utils._get_repo_file_url("mxnet/data", "mnist.pkl.gz"), "data")


def get_cifar10():
    """Fetch records of small pictures of ten kinds into `data/cifar`, if they are not there."""
    names = [f"{part}.{kind}" for part in ("train", "test") for kind in ("rec", "lst")]
    if not all(os.path.exists(os.path.join("data", "cifar", name)) for name in names):
        os.makedirs("data", exist_ok=True)
        packed = utils.download(utils._get_repo_file_url("mxnet/data", "cifar10.zip"), "data")
        with zipfile.ZipFile(packed) as file:
            file.extractall("data")


def get_im2rec_path(home_env="MXNET_HOME"):
    """The program that makes record files of pictures:
    this package's, or that of the MXNet in the folder that a variable names.
    """
    if home_env not in os.environ:
        return im2rec.__file__
    path = os.path.join(os.environ[home_env], "tools", "im2rec.py")
    if not os.path.isfile(path):
        raise OSError(f"Could not find path to tools/im2rec.py: {home_env} says {path}")
    return path


def get_mnist_iterator(batch_size, input_shape, num_parts=1, part_index=0, path="data"):
    """Iterators over handwritten digits, to train and to test;
    flat unless `input_shape` has three numbers.
    """
    get_mnist_ubyte(path)
    settings = {"batch_size": batch_size, "flat": len(input_shape) != 3}
    settings |= {"num_parts": num_parts, "part_index": part_index}
    return tuple(
        MNISTIter(
            os.path.join(path, f"{name}-images-idx3-ubyte"),
            os.path.join(path, f"{name}-labels-idx1-ubyte"),
            shuffle=True,
            **settings,
        )
        for name in ("train", "t10k")
    )


class DummyIter(DataIter):
    """The first batch of another iterator, again and again: what training costs without its data."""

    def __init__(self, real_iter):
        super().__init__(real_iter.batch_size)
        self.real_iter, self.the_batch = real_iter, next(real_iter)
        self.provide_data, self.provide_label = real_iter.provide_data, real_iter.provide_label

    def next(self):
        """The batch."""
        return self.the_batch
