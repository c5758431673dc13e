"""The text of a CUDA kernel runs on the CPU, where every memory access can be watched."""

# Written from chapters/92_cuda_on_a_laptop.ipynb: edit the chapter, then run `minigluon export`.

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import weakref
from importlib.resources import files
from pathlib import Path
from threading import get_ident

import numpy as np

__all__ = [
    "BLOB",
    "CHECK",
    "COMMON",
    "DYNAMIC",
    "KERNEL",
    "KernelError",
    "PLAIN",
    "RawKernel",
    "RawModule",
    "STATIC",
    "WATCH",
    "available",
    "build",
    "cache_folder",
    "check_array",
    "code_of",
    "declarators",
    "digest",
    "empty",
    "gxx",
    "inline_headers",
    "kernels_folder",
    "link",
    "once",
    "pointers",
    "region",
    "rewrite",
    "scalar",
    "shared",
    "source",
    "tables",
    "translation_unit",
    "unwritten",
]


# --- The runner's files ---------------------------------------------------------------------------


class KernelError(RuntimeError):
    """A kernel that does not compile, is launched wrongly, or touches memory wrongly."""


def kernels_folder():
    """Where the `.cu` files are: in the checkout beside the package, in a wheel within it."""
    package = Path(str(files("minigluon")))
    inside = package / "kernels"
    return inside if inside.is_dir() else package.parent / "kernels"


def available():
    """Whether there is a compiler that can build kernels for the CPU."""
    return shutil.which("g++") is not None


def inline_headers(code, folder):
    """`code` with each `#include "file"` of `folder` replaced by that file, the first time;
    later ones go, as `#pragma once` asks.
    """
    seen = set()

    def body(match):
        path = Path(folder) / match[1]
        if not path.exists():
            return match[0]
        text = "" if path in seen else path.read_text().replace("#pragma once", "")
        seen.add(path)
        return include.sub(body, text)

    include = re.compile(r'^[ \t]*#include\s+"([^"]+)".*$', flags=re.M)
    return include.sub(body, code)


def source(name):
    """The text of `kernels/<name>.cu` with its headers inlined, for any `RawModule`."""
    folder = kernels_folder()
    return inline_headers((folder / f"{name}.cu").read_text(), folder)


# --- From CUDA to C++ -----------------------------------------------------------------------------

DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?([\w:<> ]+?)\s+(\w+)\s*\[\s*\]\s*;"
)
STATIC = re.compile(
    r"\b__shared__\s+(?:(?:__align__|alignas)\(\d+\)\s*)?"
    r"((?:unsigned |const )?[\w:]+(?:<[^;>]*>)?)\s+([^;=]+);"
)
KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:void\s+|__launch_bounds__\([^)]*\)\s*)+(\w+)\s*\('
)


def rewrite(code):
    """The kernel's text with its `__shared__` declarations made C++; lines keep their numbers."""
    code = re.sub(r"^[ \t]*#include <cuda_(?:fp16|bf16)\.h>", "", code, flags=re.M)
    code = DYNAMIC.sub(r"\1* \2 = (\1*)mg::dyn_smem();", code)
    return STATIC.sub(lambda m: " ".join(shared(m[1], d) for d in declarators(m[2])), code)


def declarators(text):
    """`a[2], b` is two declarators; commas inside brackets do not part them."""
    return re.split(r",(?![^\[(<]*[\])>])", text)


def shared(kind, declarator):
    """The C++ for one shared variable."""
    name, dims = re.match(r"\s*(\w+)\s*((?:\[[^\]]*\]\s*)*)$", declarator).groups()
    size = f"sizeof({name}__t), sizeof(std::remove_all_extents_t<{name}__t>)"
    return (
        f"typedef {kind} {name}__t {dims}; static mg::Slot {name}__s; "
        f'{name}__t& {name} = *({name}__t*)mg::smem({name}__s, {size}, "{name}");'
    )


# --- Compiling ------------------------------------------------------------------------------------

COMMON = ["-std=c++17", "-fPIC", "-w", "-g1", "-fno-strict-aliasing", "-fno-gnu-unique"]
COMMON += ["-ftrivial-auto-var-init=pattern"]
PLAIN = ["-O2"]
CHECK = ["-O1", "-fno-tree-vectorize", "-fno-tree-loop-distribute-patterns", "-fno-tree-sra"]
CHECK += ["-DMG_CHECK"]
WATCH = [  # calls a hook before each access; the hooks are the runner's, no sanitizer is linked
    "-fsanitize=thread,alignment,bounds,signed-integer-overflow,shift,integer-divide-by-zero",
    *("--param", "tsan-instrument-func-entry-exit=0"),
]
if platform.machine() in ("x86_64", "AMD64"):
    COMMON += ["-mfma", "-mf16c", "-mavx2"]


def cache_folder():
    """Where compiled kernels are kept: $MINIGLUON_KERNEL_CACHE or ~/.cache/minigluon."""
    at = Path(os.environ.get("MINIGLUON_KERNEL_CACHE", Path.home() / ".cache/minigluon/kernels"))
    at.mkdir(parents=True, exist_ok=True)
    return at


def gxx(*arguments):
    """Run g++; its complaint becomes a KernelError."""
    if not available():
        raise KernelError("no C++ compiler: running CUDA kernels on the CPU needs g++ 12 or newer")
    done = subprocess.run(["g++", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise KernelError("the kernel does not compile:\n" + done.stderr[:4000])


def once(path, make):
    """Make the file `path` unless it is there; two processes or threads may try at the same time."""
    if not path.exists():
        mine = path.with_suffix(f".{os.getpid()}-{get_ident()}{path.suffix}")
        make(mine)
        os.replace(mine, path)
    return path


def translation_unit(code, names):
    """The C++ for a kernel's text: the header, the text, one entry point a kernel."""
    entries = "".join(
        f"static void mg_entry_{i}(void** a) {{ mg::call({n}, a); }}\n"
        f'extern "C" void* mg_kernel_{i} = (void*)mg_entry_{i};\n'
        f'extern "C" void mg_sig_{i}(char* o) {{ mg::desc({n}, o); }}\n'
        for i, n in enumerate(names)
    )
    head = '#include "cuda_shim.h"\n#line 1 "kernel.cu"\n'
    return head + rewrite(code) + '\n#line 1 "entries"\n' + entries


def build(code, names, options=(), check=False):
    """Compile kernels into a shared library: its path."""
    runner, cache = kernels_folder() / "cpu_runner", cache_folder()
    flags = [*COMMON, *(CHECK if check else PLAIN), f"-I{runner}"]
    runs = [p.read_text() for p in sorted(runner.iterdir()) if p.suffix in (".h", ".cpp")]
    defines = [o for o in options if o.startswith(("-D", "-U", "-I"))]
    text = translation_unit(code, names)
    runtime = cache / f"{digest(*runs, *flags)}.o"
    once(runtime, lambda to: gxx(*flags, "-c", runner / "shim_rt.cpp", "-o", to))
    library = cache / f"{digest(*runs, *flags, *defines, text)}.so"
    watch = WATCH if check else []
    return once(library, lambda to: link(text, [*flags, *defines, *watch], runtime, to))


def link(text, flags, runtime, to):
    """Compile `text` and link it with the runtime into the library `to`."""
    cpp, o = to.with_suffix(".cpp"), to.with_suffix(".o")
    cpp.write_text(text)
    gxx(*flags, "-c", cpp, "-o", o)
    gxx("-shared", "-Wl,-Bsymbolic", o, runtime, "-o", to)
    cpp.unlink()
    o.unlink()


def digest(*texts):
    """A short name for what a file is made of."""
    return hashlib.sha256("\0".join(map(str, texts)).encode()).hexdigest()[:24]


# --- Arguments ------------------------------------------------------------------------------------

unwritten, tables = set(), {}  # addresses of poisoned arrays; arrays behind tables of pointers


def empty(shape, dtype=np.float32):
    """Like `cupy.empty`: filled with NaN's bits, and known to the checker as never written."""
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(0xFF)
    at = array.ctypes.data
    unwritten.add(at)
    weakref.finalize(array, unwritten.discard, at).atexit = False  # others may get this memory
    return array


def pointers(arrays):
    """A table of the arrays' addresses, as kernels that take many tensors want it."""
    table = np.array([a.ctypes.data for a in arrays], np.uint64)
    tables[table.ctypes.data] = (table, list(arrays))
    return table


def code_of(dtype):
    """A dtype as the runtime spells it: f4, i8, B2 (bfloat16)."""
    if dtype.name == "bfloat16":
        return "B2"
    return {"f": "f", "i": "i", "u": "u", "b": "b"}.get(dtype.kind, "s") + str(dtype.itemsize)


def region(array):
    """What the checker must know of an array: address, bytes, bytes an element, unwritten."""
    at = array.ctypes.data
    return [at, array.nbytes, max(1, array.itemsize), int(at in unwritten)]


def check_array(array, wanted, where):
    """Raise KernelError unless a kernel that wants `wanted` can take this array."""
    if wanted[:-1].lstrip("c") not in (code_of(array.dtype), "v1"):
        raise KernelError(f"{where} is {array.dtype}, the kernel wants {wanted}")
    if not array.flags.c_contiguous:
        raise KernelError(f"{where} is not C-contiguous: a RawKernel ignores strides")


def scalar(value, wanted, where):
    """A number as the kernel gets it, one element long."""
    plain = {bool: np.bool_, int: np.int64, float: np.float64}.get(type(value))
    array = np.array(value, plain).reshape(1)
    if wanted[0] != "s" and code_of(array.dtype) != wanted:
        raise KernelError(
            f"{where} is {type(value).__name__} ({array.dtype}), the kernel wants {wanted}: "
            "pass np.float32(…) or np.int32(…)"
        )
    return array


# --- Launching ------------------------------------------------------------------------------------

BLOB = 1 << 16


class RawKernel:
    """A kernel to be called as CuPy's: `kernel(grid, block, args, shared_mem=0)`."""

    def __init__(self, path, number, name, order):
        self.path, self.name, self.order = path, name, order
        self.library = ctypes.CDLL(str(path))
        text = ctypes.create_string_buffer(4096)
        self.library[f"mg_sig_{number}"](text)
        self.signature = [s for s in text.value.decode().split(",") if s]
        self.entry = ctypes.c_void_p.in_dll(self.library, f"mg_kernel_{number}").value
        self.max_dynamic_shared_size_bytes = 49152

    def __call__(self, grid, block, args, *, shared_mem=0, order=None, profile=False):
        """Run the kernel; with `profile` (check mode only) return the memory's traffic, by line."""
        shape = self.configuration(grid, block, shared_mem)
        values, names, regions = self.arguments(args)
        order = self.order if order is None else order
        asked = self.max_dynamic_shared_size_bytes > 49152  # what kernels declare counts as well
        config = (ctypes.c_uint32 * 9)(*shape, shared_mem, order, profile | asked << 1)
        addresses = (ctypes.c_void_p * (len(values) + 1))(*[v.ctypes.data for v in values])
        out = ctypes.create_string_buffer(BLOB)
        errors = self.library.mg_launch(
            *(ctypes.c_void_p(self.entry), addresses, config),
            *((ctypes.c_uint64 * (len(regions) + 1))(*regions), len(names)),
            *((ctypes.c_char_p * (len(names) + 1))(*names), out, ctypes.c_size_t(BLOB)),
        )
        unwritten.difference_update(regions[::4])
        text = self.with_lines(out.value.decode())
        if errors:
            raise KernelError(f"{self.name}: {errors} error(s)\n{text}")
        return text if profile else None

    # --- Launching --------------------------------------------------------------------------------

    def configuration(self, grid, block, shared_mem):
        """Six numbers; KernelError where a GPU would refuse the launch."""
        grid, block = ((*map(int, t), 1, 1)[:3] for t in (grid, block))
        fits = 0 < np.prod(block) <= 1024 and block[2] <= 64 and min(grid) > 0
        if not fits or max(grid[1:]) > 65535:
            raise KernelError(f"{self.name}: bad launch, grid {grid}, block {block}")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise KernelError(
                f"{self.name}: {shared_mem} bytes of dynamic shared memory; "
                "set max_dynamic_shared_size_bytes first"
            )
        return *grid, *block

    def arguments(self, args):
        """The arguments' bytes, and the names and places of the memory they lead to."""
        if len(args) != len(self.signature):
            wants = f"{len(self.signature)} arguments {self.signature}"
            raise KernelError(f"{self.name} takes {wants}, got {len(args)}")
        values, names, regions = [], [], []
        for k, (arg, wanted) in enumerate(zip(args, self.signature)):
            where = f"{self.name}: argument {k}"
            if not wanted.endswith("*"):
                values.append(scalar(arg, wanted, where))
                continue
            if arg is not None:
                check_array(arg, wanted, where)
                for one in [arg, *tables.get(arg.ctypes.data, (None, []))[1]]:
                    names.append(f"argument {k}".encode())
                    regions += region(one)
            values.append(np.array([0 if arg is None else arg.ctypes.data], np.uint64))
        return values, names, regions

    def with_lines(self, text):
        """The report with addresses of instructions made file and line."""
        return re.sub(r"@([0-9a-f]+)", lambda m: self.line(int(m[1], 16)), text)

    def line(self, address):
        """`[kernel.cu:12]`, if the machine has addr2line."""
        if not address or not shutil.which("addr2line"):
            return ""
        command = ["addr2line", "-e", str(self.path), hex(address - 1)]
        found = subprocess.run(command, capture_output=True, text=True).stdout
        return f"[{found.strip().split('/')[-1]}]"


# --- A module -------------------------------------------------------------------------------------


class RawModule:
    """Kernels to run on NumPy arrays: `cupy.RawModule`'s arguments, and `check` and `order`."""

    def __init__(
        self, *, code, options=(), backend="nvrtc", name_expressions=None, check=False, order=0
    ):
        self.names = list(name_expressions or KERNEL.findall(code))
        self.code, self.options, self.check, self.order = code, options, check, order

    def get_function(self, name):
        """The kernel of that name, compiled at the first call."""
        if name not in self.names:
            known = ", ".join(self.names)
            raise KernelError(f"no kernel {name!r}, known: {known} (see name_expressions)")
        path = build(self.code, self.names, self.options, self.check)
        return RawKernel(path, self.names.index(name), name, self.order)
