"""Compare with bare NumPy, PyTorch and MXNet in one run: `python benchmarks/run.py`.

The contenders take turns, each in a process of its own, and the best time of each counts: only
ratios within one run mean something. MXNet 1.9.1 needs an old NumPy, so it lives in a virtual
environment of its own: name its interpreter with --mxnet or MXNET_PYTHON (PyTorch's likewise).
"""

import argparse
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BYTECODE = tempfile.mkdtemp(prefix="bytecode")
atexit.register(shutil.rmtree, BYTECODE, ignore_errors=True)
ROWS = {
    "add": "unrecorded add, float32[16]",
    "recorded add": "recorded add, float32[16]",
    "chain": "100 multiplies, forward + backward",
    "step": "digits MLP 64-128-10, batch 64: a training step",
}
TARGETS = {  # row: (text, whether minigluon's and the others' times meet it)
    "add": ("<= NumPy + 1.0", lambda t: t["minigluon"] <= t["numpy"] + 1.0),
    "recorded add": ("<= NumPy + 1.5", lambda t: t["minigluon"] <= t["numpy"] + 1.5),
    "chain": ("<= PyTorch", lambda t: t["minigluon"] <= t.get("torch", float("nan"))),
    "step": ("<= PyTorch", lambda t: t["minigluon"] <= t.get("torch", float("nan"))),
    "import": ("<= NumPy + 60000", lambda t: t["minigluon"] <= t["numpy"] + 60000),
}


def has(python, module):
    """Whether an interpreter can import a module."""
    test = f"import numpy as np; np.bool = bool; import {module}"
    return subprocess.run([python, "-c", test], capture_output=True).returncode == 0


def run(python, arguments, threads):
    """Run a Python process; its output."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    env["PYTHONPYCACHEPREFIX"] = (
        BYTECODE  # as for an installed package: compiled in the first round,
    )
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # read from then on
    done = subprocess.run([python, *arguments], capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def import_microseconds(python, module, threads):
    """How long `import module` takes in a fresh process."""
    load = "; minigluon.nd.relu, minigluon.gluon.Trainer, minigluon.gluon.nn, minigluon.gluon.loss"
    load = load if module == "minigluon" else ""
    code = f"import time; t = time.perf_counter(); import {module}{load}; print(time.perf_counter() - t)"
    return float(run(python, ["-c", code], threads)) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default=os.environ.get("TORCH_PYTHON", sys.executable))
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON", sys.executable))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--threads", type=int, default=1, help="threads of the math libraries")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    args = parser.parse_args()
    pythons = {"numpy": sys.executable, "minigluon": sys.executable}
    for name in ("torch", "mxnet"):
        if has(getattr(args, name), name):
            pythons[name] = getattr(args, name)
        else:
            print(f"{name} is not installed for {Path(getattr(args, name)).name}: left out")
    times = {row: {} for row in [*ROWS, "import"]}
    for _ in range(args.rounds):
        for name, python in pythons.items():
            found = json.loads(run(python, [str(HERE / "contender.py"), name, "7"], args.threads))
            if name in ("numpy", "minigluon"):
                found["import"] = import_microseconds(python, name, args.threads)
            for row, value in found.items():
                times[row][name] = min(value, times[row].get(name, float("inf")))
    report(times, list(pythons), args.threads)
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "us": times}, indent=1) + "\n")


def report(times, names, threads):
    """Print the table."""
    print(f"\nmicroseconds a call, best of all rounds, {threads} thread(s)\n")
    print(f"{'':50}" + "".join(f"{n:>12}" for n in names) + "   minigluon's target")
    for row, label in {**ROWS, "import": "import, and load all of nd and gluon"}.items():
        cells = [f"{times[row][n]:12.2f}" if n in times[row] else f"{'':>12}" for n in names]
        text, met = TARGETS[row]
        print(f"{label:50}{''.join(cells)}   {text}: {'met' if met(times[row]) else 'MISSED'}")


if __name__ == "__main__":
    main()
