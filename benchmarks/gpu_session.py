"""All that a GPU is needed for, in one command with a time limit: compile, kernel by kernel, benchmark, tests.

    python benchmarks/gpu_session.py --out FOLDER --seconds 540 [--parts card,compile,kernels,benchmark,tests]

What is found is written as it is found: FOLDER/session.json (a summary), compile.jsonl, kernels.jsonl and tests.jsonl (a
line a kernel or test), gpu.json (the benchmark) and log.txt; what is printed last is the table and what went wrong. A failed test or row is a line, not an end; after an error that leaves the card unusable a
process begins anew behind it. Nothing is installed: NumPy, CuPy, pytest and ml_dtypes must be there, PyTorch may be.
On the stand-in (MINIGLUON_CUPY=minigluon.gpu_on_cpu) with `--tiny` it tries itself out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
FIRST = "test_kernel or test_a_broken_kernel_is_named or test_graph or test_recurrent"
LARGE = "test_more_than_two_to_the_31_numbers"  # which must not all be there at once
DEAD = 77  # how a process ends that cannot use the card any more


class Session:
    """The parts that have run, what is left of the time, and where results go."""

    def __init__(self, given):
        self.given, self.began, self.found = given, time.monotonic(), {}
        self.out = Path(given.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = (self.out / "log.txt").open("a")

    def left(self):
        """Seconds until the end."""
        return self.given.seconds - (time.monotonic() - self.began)

    def note(self, part, found):
        """Write what a part has found, and say it."""
        self.found[part] = found
        text = json.dumps(self.found, indent=1, default=str)
        (self.out / "session.json").write_text(text + "\n")
        print(
            f"{part}, {self.given.seconds - self.left():.0f} s: {json.dumps(found)[:1500]}",
            flush=True,
        )

    def start(self, *command):
        """A process of this Python, its output in the log."""
        where = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": where, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=env,
            stdout=self.log,
            stderr=self.log,
        )


def card(session):
    """The card and the versions of everything."""
    from benchmarks.gpu import versions

    return versions()


# --- Compiling ------------------------------------------------------------------------------------


def instances():
    """Every kernel: pairs of a file and a name."""
    import minigluon.ops

    minigluon.ops.load()
    from minigluon.kernels import Kernels

    return [(file, name) for file, kernels in Kernels.files.items() for name in kernels.names]


def compiled(pair):
    """Compile one kernel, which CuPy keeps on disk: None, or what is wrong with it."""
    from minigluon.context import cupy_for
    from minigluon.kernels import Kernels

    file, name = pair
    cupy, kernels = cupy_for(0), Kernels.files[file]
    try:
        kernels.load(cupy, (cupy.__name__, 0, name), name)
    except Exception as error:
        return f"{file}: {str(error)[:1000]}"
    return None


def compile_all(session):
    """All kernels, on all cores, by a process of its own that can be ended."""
    path = session.out / "compile.jsonl"
    process = session.start(__file__, "--child", "--out", path, *["--tiny"] * session.given.tiny)
    ended(process, min(120, session.left() - 10))
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    wrong = [line["wrong"] for line in lines if line["wrong"]]
    return {"kernels": len(lines), "of": len(instances()), "wrong": wrong}


def compile_child(given):
    """Compile all kernels; a line each."""
    import multiprocessing

    spawn = multiprocessing.get_context("spawn")
    pairs = instances()[: 8 if given.tiny else None]
    with (
        open(given.out, "w") as file,
        ProcessPoolExecutor(
            min(16, os.cpu_count()), mp_context=spawn, initializer=instances
        ) as pool,
    ):
        for pair, wrong in zip(pairs, pool.map(compiled, pairs, chunksize=4)):
            print(json.dumps({"kernel": pair, "wrong": wrong}), file=file, flush=True)


def ended(process, limit):
    """Whether a process ends by itself within `limit` seconds; after them it is ended."""
    try:
        process.wait(max(0, limit))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


# --- Tests ----------------------------------------------------------------------------------------


class Recorder:
    """For pytest: every `shards`-th test that has no result yet; a line for each begin and end."""

    def __init__(self, path, shard, shards, limit):
        self.path, self.shard, self.shards, self.limit = path, shard, shards, limit

    def write(self, **line):
        """One line of the results, which all shards write to one file."""
        with open(self.path, "a") as file:
            file.write(json.dumps({"shard": self.shard, **line}) + "\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: "::test_operator" in item.nodeid)  # thousands: they come last
        shard = lambda i, item: 0 if LARGE in item.nodeid else i % self.shards
        mine = [item for i, item in enumerate(items) if shard(i, item) == self.shard]
        done = results(self.path)
        items[:] = [item for item in mine[: self.limit] if item.nodeid not in done]

    def pytest_runtest_logstart(self, nodeid):
        self.write(test=nodeid, is_="began")

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            text = "" if report.passed else str(report.longrepr)[-1500:]
            self.write(
                test=report.nodeid, is_=report.outcome, s=round(report.duration, 2), why=text
            )
        if report.failed and is_dead():
            os._exit(DEAD)


def is_dead():
    """Whether the card does not answer this process any more."""
    from minigluon.context import cupy_or_none

    try:
        cupy_or_none().cuda.Device().synchronize()
    except Exception:
        return True
    return False


def results(path):
    """test -> its last line; one that had only begun has ended its process."""
    found = {}
    if Path(path).exists():
        for text in Path(path).read_text().splitlines():
            with suppress(ValueError):  # a line that another process is just writing
                line = json.loads(text)
                found[line["test"]] = line
    return found


def child(given):
    """Run one shard of the tests in this process."""
    shard, shards = map(int, given.shard.split("/"))
    recorder = Recorder(given.out, shard, shards, 4 if given.tiny else None)
    more = ["-p", "no:cacheprovider", "-o", "addopts=", "-q", "--tb=short", "-m", "gpu"]
    raise SystemExit(pytest.main([*more, "-k", given.select, "tests/test_gpu.py"], [recorder]))


def tested(session, part, select, limit, shards):
    """Tests in several processes, each begun again behind a test that ends it; a summary."""
    path, until = session.out / f"{part}.jsonl", time.monotonic() + min(limit, session.left() - 10)
    tiny = ["--tiny"] * session.given.tiny
    begin = lambda i: session.start(
        __file__, "--child", "--shard", f"{i}/{shards}", "--out", path, "--select", select, *tiny
    )
    running, odd = {i: begin(i) for i in range(shards)}, []
    try:
        while running and time.monotonic() < until:
            time.sleep(0.5)
            for i, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[i]
                lines = [line for line in results(path).values() if line["shard"] == i]
                died = [line["test"] for line in lines if line["is_"] == "began"]
                for test in died:
                    Recorder(path, i, 1, None).write(test=test, is_="died", why="its process ended")
                if died or process.returncode == DEAD:
                    running[i] = begin(i)
                elif process.returncode not in (0, 1, 5):  # passed, failed, none to run
                    odd.append(process.returncode)
    finally:
        for process in running.values():
            ended(process, 0)
    more = {"cut_by_time": bool(running), "ends_of_pytest": odd}
    return {**summary(results(path).values()), **more}


def summary(lines):
    """How many of each outcome, and the ends of what failed."""
    counts = {}
    for line in lines:
        counts[line["is_"]] = counts.get(line["is_"], 0) + 1
    wrong = [
        f"{line['test'].split('::')[-1]}: {line.get('why', '').strip()[-300:]}"
        for line in lines
        if line["is_"] in ("failed", "died")
    ]
    return {"counts": counts, "wrong": wrong[:60]}


def kernels(session):
    """Kernel by kernel, graphs, recurrent layers."""
    return tested(session, "kernels", FIRST, 150, 2 if session.given.tiny else 6)


def rest(session):
    """All other tests."""
    return tested(session, "tests", f"not ({FIRST})", 400, 2 if session.given.tiny else 12)


# --- The benchmark --------------------------------------------------------------------------------


def benchmark(session):
    """The table, begun again behind a row that ends its process."""
    path, tries = session.out / "gpu.json", 0
    until = time.monotonic() + min(session.given.benchmark, session.left() - 10)
    while tries < 8 and (left := until - time.monotonic()) > 5:
        tries += 1
        more = ["--resume", "--out", path, "--seconds", int(left), *["--tiny"] * session.given.tiny]
        process = session.start("benchmarks/gpu.py", *more)
        if ended(process, left + 15) and process.returncode == 0:
            break
    rows = json.loads(path.read_text())["paths"] if path.exists() else []
    short = [
        {k: r.get(k) for k in ("path", "us", "reached", "against_pytorch", "error")} for r in rows
    ]
    return {"tries": tries, "rows": len(rows), "table": short}


def last_words(found):
    """What a caller who sees only the end of the output should see."""
    for part, what in found.items():
        what = what if type(what) is dict else {"said": what}
        print(part, {k: v for k, v in what.items() if k not in ("wrong", "table")})
        for line in what.get("wrong", [])[:12]:
            print("   wrong:", line[:200].replace("\n", " "))
        for row in what.get("table", []):
            numbers = [row[k] if row[k] is None else round(row[k], 2) for k in SHOWN]
            print(f"   {row['path'][:38]:38s}", *numbers, (row["error"] or "")[:60])


SHOWN = "us", "reached", "against_pytorch"


PARTS = {
    "card": card,
    "compile": compile_all,
    "kernels": kernels,
    "benchmark": benchmark,
    "tests": rest,
}


def main():
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=540, help="until everything ends")
    parser.add_argument("--benchmark", type=float, default=300, help="seconds of the benchmark")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--tiny", action="store_true", help="little of each, for the stand-in")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    parser.add_argument("--select", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given) if given.shard else compile_child(given)
        return
    session = Session(given)
    for part in given.parts.split(","):
        if session.left() < 20:
            session.note(part, "no time left")
            continue
        try:
            session.note(part, PARTS[part](session))
        except Exception as error:  # the next part may do
            session.note(part, {"error": f"{type(error).__name__}: {error}"[:2000]})
    last_words(session.found)


if __name__ == "__main__":
    main()
