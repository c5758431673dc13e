"""Rows of the table that differ from MXNet 1.9.1, each with its reason."""

from pathlib import Path

DRAWN = "the numbers that belong to a seed are others, and MXNet's operators take no `rng`"
IN_PLACE = "MXNet wants `out=` for it: without, it fails on shapes or types that it does not know"
MANY = [
    f"{start}{exact}{update}"
    for start in ("multi_", "preloaded_multi_")
    for exact in ("", "mp_")
    for update in ("sgd_update", "sgd_mom_update")
]
LAWS = [
    "uniform",
    "normal",
    "exponential",
    "gamma",
    "poisson",
    "negative_binomial",
    "generalized_negative_binomial",
]

FLIPS = ["image_flip_left_right", "image_flip_top_bottom"]
FLIPS += ["image_random_flip_left_right", "image_random_flip_top_bottom"]
PICTURES = ["brightness", "contrast", "contrast-batch", "saturation", "hue", "color_jitter"]
PICTURES += ["lighting"]

EXCEPTIONS = {  # row id -> reason
    **dict.fromkeys(
        ["contrib_fft", "contrib_fft-four axes", "contrib_ifft", "contrib_ifft-four axes"]
        + ["contrib_count_sketch", "contrib_count_sketch-flat"],
        "MXNet has it on a GPU only",
    ),
    **dict.fromkeys(
        ["contrib_quantized_conv", "contrib_quantized_conv-no bias"],
        "on a CPU MXNet has it for uint8 only, and with wrong bounds",
    ),
    "contrib_quantized_rnn": "MXNet's library refuses or strays, depending on the processor",
    "contrib_quantized_act-uint8": "MXNet calls the unsigned bytes signed",
    **dict.fromkeys(
        [f"contrib_quantized_elemwise_mul{n}" for n in ("", "-bytes", "-floats")],
        "MXNet does not infer its shapes",
    ),
    "contrib_quantized_batch_norm-int8 True False": "MXNet wants a range, and ignores fix_gamma",
    "khatri_rao": "MXNet has no gradient of it",
    "khatri_rao-one": "MXNet has no gradient of it",
    "khatri_rao-three": "MXNet has no gradient of it",
    **dict.fromkeys(
        ["contrib_SparseEmbedding", "contrib_getnnz", "contrib_getnnz-all"],
        "MXNet has it for sparse arrays only",
    ),
    **dict.fromkeys(["_square_sum", "_square_sum-axis"], "MXNet has it for row_sparse arrays only"),
    "_scatter_set_nd": "MXNet has it with out=lhs only",
    "softmax_cross_entropy-out of range": "MXNet reads beyond the row; here the probability is 0",
    "IdentityAttachKLSparseReg": "in MXNet a program cannot give it the mean so far; only a graph can",
    "contrib_ModulatedDeformableConvolution": "on a CPU MXNet has no gradient of it",
    **dict.fromkeys(
        ["contrib_hawkesll", "contrib_hawkesll-one event"],
        "MXNet has no gradient of lags, and none that comes through the states at the end",
    ),
    "broadcast_like": "MXNet wants as many axes on both sides; the adjoint of a sum may add some",
    **{f"sample_{law}-shape{n}": DRAWN for law in LAWS for n in (0, 1)},
    **{f"_random_{law}": DRAWN for law in [*LAWS, "randint"]},
    "_slice_assign": "MXNet wants every end, and has no gradient of it",
    "_slice_assign_scalar": "MXNet has no gradient of it",
    "fill_element_0index": "MXNet wants float32 for the index, and has no gradient of it",
    **dict.fromkeys(MANY, IN_PLACE),
    "mp_lamb_update_phase1": "MXNet wants the weight in float16, which the table's rows are not",
    "contrib_group_adagrad_update": "on a CPU MXNet has it for row-sparse gradients only",
    **{f"Dropout-{kind}": DRAWN for kind in ("always", "axes", "all", "in use")},
    "LeakyReLU-rrelu in use": DRAWN,
    "LeakyReLU-selu3": "MXNet's gradient below 0 is not the derivative: scale (alpha + y), "
    "not scale alpha + y",
    "RNN-lstm projected": "MXNet does not train an LSTM with a projection on the CPU",
    **dict.fromkeys(
        FLIPS, "MXNet takes single pictures: of a batch it turns other axes or refuses"
    ),
    **{f"image_random_{law}": DRAWN for law in PICTURES},
    "Convolution-channels last": "MXNet convolves with channels last on a GPU only",
    "Deconvolution-target": "MXNet does not take this dilated transposed convolution on the CPU",
    "Pooling-same": "MXNet fails on 'same' with one axis, whose shape it does not infer",
    "sample_multinomial": DRAWN,
    "sample_multinomial-only": DRAWN,
    "shuffle": DRAWN,
    "Embedding-sparse gradient": "MXNet wants a row-sparse buffer for this gradient; any will do",
    "im2col-one_axis": "MXNet's manual has one axis as well, its code fails on all but two",
    "reshape-split_reversed": "MXNet infers -1 wrongly where -4 stands as well, and spoils memory",
    "SequenceLast-axis": "for a sequence of length 0 MXNet reads what lies before it in memory",
    "SequenceLast-whole": "MXNet aborts in its gradient without lengths",
    "SequenceMask-beyond": "MXNet aborts where a length is beyond the end",
    "SequenceReverse-axis": "MXNet takes axis 0 only",
    "SoftmaxActivation-instance": "with more than two axes MXNet's values are those of the last axis "
    "alone, its gradients those of all but the first, as in its manual and here",
    "batch_take": "MXNet wants indices of type int32; any will do",
    "moments-all": "MXNet refuses axes=None, which means all of them",
    "sort": "MXNet's gradient fails where axis is left to its default",
    "split-numbers": "MXNet gives arrays of shape (), which it takes for unknown",
    "transpose-negative": "MXNet refuses negative axes; they mean what they mean in NumPy",
}

PROGRAMS = {  # pattern of the line of a program that differs, and how -> reason
    r"sort|topk.*nothing is raised": "MXNet does not sort float16",
    r"(dot|FullyConnected|khatri_rao)\(.*nothing is raised": "MXNet multiplies float16 "
    "matrices on a GPU only",
    r"reshape.*-4.*(: shape|nothing is raised)": "MXNet infers -1 wrongly where -4 stands as "
    "well, and spoils memory",
    r"\[.*None.*\]: shape": "beside lists MXNet puts new axes elsewhere than NumPy: here as NumPy does",
}

EDGES = {  # (row id, type) -> reason: special numbers on which the answers differ
    ("erfinv", "int32"): "there is no answer beyond 1, and no NaN among whole numbers",
}


def mxnet_overflows():
    """Whether MXNet's products of bytes may be wrong: on processors without VNNI it adds pairs of
    them in 16 bits, which 2 x 127 x 127 and its like do not fit.
    """
    told = Path("/proc/cpuinfo")
    return told.exists() and "vnni" not in told.read_text()
