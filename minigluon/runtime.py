"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

from importlib.util import find_spec

from minigluon.context import num_gpus

__all__ = ["Feature", "Features", "NAMES", "feature_list", "present"]


# --- What it runs on ------------------------------------------------------------------------------

NAMES = """
CUDA CUDNN NCCL CUDA_RTC TENSORRT CPU_SSE CPU_SSE2 CPU_SSE3 CPU_SSE4_1 CPU_SSE4_2 CPU_SSE4A CPU_AVX
CPU_AVX2 OPENMP SSE F16C JEMALLOC BLAS_OPEN BLAS_ATLAS BLAS_MKL BLAS_APPLE LAPACK MKLDNN OPENCV CAFFE PROFILER
DIST_KVSTORE CXX14 INT64_TENSOR_SIZE SIGNAL_HANDLER DEBUG TVM_OP
""".split()  # noqa: SIM905


class Feature:
    """A feature and whether it is there."""

    def __init__(self, name, enabled):
        self.name, self.enabled = name, enabled

    def __repr__(self):
        return f"{'✔' if self.enabled else '✖'} {self.name}"


def present():
    """The features that are there: pictures count as OPENCV, MPI as DIST_KVSTORE."""
    found = {"F16C", "LAPACK", "PROFILER", "INT64_TENSOR_SIZE"}
    found |= {"CUDA", "CUDA_RTC"} if num_gpus() else set()
    found |= {"OPENCV"} if find_spec("PIL") else set()
    return found | ({"DIST_KVSTORE"} if find_spec("mpi4py") else set())


def feature_list():
    """All features, with whether they are there."""
    there = present()
    return [Feature(name, name in there) for name in NAMES]


class Features(dict):
    """The features by name."""

    def __init__(self):
        super().__init__((feature.name, feature) for feature in feature_list())

    def __repr__(self):
        return str(list(self.values()))

    def is_enabled(self, feature_name):
        """Whether a feature is there; RuntimeError for a name that is none."""
        name = feature_name.upper()
        if name not in self:
            raise RuntimeError(f"Feature '{name}' is unknown, known features are: {list(self)}")
        return self[name].enabled
