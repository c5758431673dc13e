"""`mx.rtc` compiles CUDA text at run time and launches it on arrays: on a GPU, or on a laptop with every access watched."""

# Written from chapters/93b_rtc.ipynb: edit the chapter, then run `minigluon export`.

import contextlib
import re
from numbers import Number

import numpy as np

from minigluon import cuda_on_cpu
from minigluon.base import MXNetError
from minigluon.context import cpu, cupy_for, gpu, num_gpus
from minigluon.ndarray import NDArray

__all__ = ["CudaKernel", "CudaModule", "PARAMETER", "Parameter", "TYPES", "device", "packed"]


# --- A signature ----------------------------------------------------------------------------------

TYPES = {
    "float": np.float32,
    "double": np.float64,
    "__half": np.float16,
    "uint8_t": np.uint8,
    "int": np.int32,
    "int32_t": np.int32,
    "int8_t": np.int8,
    "char": np.int8,
    "int64_t": np.int64,
}
PARAMETER = re.compile(r"\s*(const\s+)?(\w+)\s*(\*)?\s*(\w+)?\s*")


class Parameter:
    """One parameter of a kernel: `dtype`, whether it is an `array`, whether the kernel may write it."""

    def __init__(self, text):
        found = PARAMETER.fullmatch(text)
        if found is None:
            form = 'Must be in the form of "(const) type (*) (name)"'
            raise ValueError(f'Invalid function prototype "{text}". {form}')
        constant, kind, star, _ = found.groups()
        if kind not in TYPES:
            known = ",".join(TYPES)
            raise TypeError(
                f"Unsupported kernel argument type {text}. Supported types are: {known}."
            )
        self.text, self.dtype = text.strip(), np.dtype(TYPES[kind])
        self.array, self.written = bool(star), bool(star and not constant)


# --- A module -------------------------------------------------------------------------------------


class CudaModule:
    """CUDA text, compiled at run time: MXNet's `mx.rtc`.

    `options` are the compiler's ("-DSIZE=32"), `exports` the instances of templates that are
    wanted. Where there is no GPU the text is compiled for the CPU, and with `check` each access to
    memory is watched there. MXNetError with the compiler's log if it does not compile.
    """

    def __init__(self, source, options=(), exports=(), *, check=False):
        self.source, self.options, self.check = source, tuple(options), check
        self.names = [*exports, *cuda_on_cpu.KERNEL.findall(source)]
        self.compiled = {}
        if self.names:
            self.function(self.names[0], gpu(0) if num_gpus() else cpu(0))

    def get_kernel(self, name, signature):
        """The kernel of that name.

        `signature` lists its parameters: "const float *x, float *y, int n".
        """
        return CudaKernel(self, name, [Parameter(p) for p in signature.split(",")])

    def function(self, name, ctx):
        """The kernel of that name, compiled for the kind of context."""
        key = ctx.device_type, name
        if key not in self.compiled:
            try:
                self.compiled[key] = self.module(name, ctx).get_function(name)
            except Exception as error:
                raise MXNetError(f"the kernel {name} cannot be compiled:\n{error}") from error
        return self.compiled[key]

    def module(self, name, ctx):
        """CuPy's module of the text, or the runner's, with a kernel of that name in it."""
        names = self.names  # but for those that are declared in a way that only the compiler reads
        names = names if name in names else [*names, name]
        settings = {"code": self.source, "options": self.options, "name_expressions": names}
        if ctx.device_type == "gpu":
            return cupy_for(ctx.device_id).RawModule(**settings)
        return cuda_on_cpu.RawModule(**settings, check=self.check)


# --- A launch -------------------------------------------------------------------------------------


class CudaKernel:
    """A kernel of a `CudaModule`; `CudaModule.get_kernel` makes it."""

    def __init__(self, module, name, parameters):
        self.module, self.name, self.parameters = module, name, parameters

    def launch(self, args, ctx, grid_dims, block_dims, shared_mem=0):
        """Run the kernel on `ctx` in `grid_dims` blocks of `block_dims` threads, three numbers each.

        `args` are NDArrays of `ctx` where the signature has a star, else numbers; `shared_mem` is
        in bytes. AssertionError if they do not fit the signature, MXNetError if the kernel does not
        compile or, on the CPU, touches memory wrongly.
        """
        self.refuse(args, ctx, grid_dims, block_dims)
        raw = [p.dtype.type(a) if not p.array else packed(a) for p, a in zip(self.parameters, args)]
        function = self.module.function(self.name, ctx)
        if shared_mem > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared_mem
        with device(ctx):
            try:
                function(tuple(grid_dims), tuple(block_dims), tuple(raw), shared_mem=shared_mem)
            except cuda_on_cpu.KernelError as error:
                raise MXNetError(str(error)) from error
        for p, a, r in zip(self.parameters, args, raw):
            if p.written and r is not a._data:
                a._data[...] = r

    # --- A launch ---------------------------------------------------------------------------------

    def refuse(self, args, ctx, grid_dims, block_dims):
        """AssertionError unless the launch fits the signature."""
        for what, dims in (("grid_dims", grid_dims), ("block_dims", block_dims)):
            if len(dims) != 3:
                raise AssertionError(
                    f"{self.name}: {what} must be a tuple of 3 integers, got {dims}"
                )
        if len(args) != len(self.parameters):
            wants = f"expects {len(self.parameters)} arguments but got {len(args)}"
            raise AssertionError(f"CudaKernel({self.name}) {wants}")
        for i, (p, a) in enumerate(zip(self.parameters, args)):
            where = f"CudaKernel({self.name}): argument {i} ({p.text})"
            if not isinstance(a, NDArray if p.array else Number | np.generic):
                wants = "an NDArray" if p.array else "a number"
                raise AssertionError(f"{where} must be {wants}, got {type(a).__name__}")
            if p.array and a._data.dtype != p.dtype:
                raise AssertionError(
                    f"{where} must be of {p.dtype}, got {a._data.dtype}: use astype"
                )
            if p.array and a.context != ctx:
                advice = "use as_in_context"
                raise AssertionError(f"{where} is on {a.context}, the launch on {ctx}: {advice}")


def packed(array):
    """The raw array, copied if there are gaps in it."""
    return array._data if array._data.flags.c_contiguous else array._data.copy()


def device(ctx):
    """The GPU of `ctx` as the current one, for a `with`."""
    if ctx.device_type != "gpu":
        return contextlib.nullcontext()
    return cupy_for(ctx.device_id).cuda.Device(ctx.device_id)
