"""How fast samples become batches: `python benchmarks/data.py`; the contenders take turns in one run.

10,000 images of 28 x 28 bytes through ToTensor and Normalize, batches of 256, by minigluon, PyTorch and
MXNet 1.9.1 (name their interpreters by --torch and --mxnet, or TORCH_PYTHON and MXNET_PYTHON); how a
decode-bound dataset gains from two workers; and records against the raw bytes of their file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = str(Path(__file__).parents[1])
MEAN, STD, BATCH = 0.1307, 0.3081, 256


def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (10000, 28, 28, 1), "uint8"), rng.integers(0, 10, 10000, "int32")


def gluon(mx, gluon_data, to_tensor):
    """Epochs of a Gluon loader; `to_tensor` is the function of one image."""
    x, y = images()
    dataset = gluon_data.ArrayDataset(mx.nd.array(x, dtype="uint8"), y)
    return gluon_data.DataLoader(dataset.transform_first(to_tensor), BATCH)


def minigluon_loader(one_by_one=False):
    sys.path.insert(0, ROOT)
    import minigluon as mx
    from minigluon.gluon import data
    from minigluon.gluon.data.vision import transforms

    def to_tensor(x):
        return ((x.astype("float32") / 255).transpose((2, 0, 1)) - MEAN) / STD

    both = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return gluon(mx, data, to_tensor if one_by_one else both)


def mxnet_loader():
    np.bool = bool
    import mxnet as mx
    from mxnet.gluon.data.vision import transforms

    both = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return gluon(mx, mx.gluon.data, both)


def torch_loader():
    import torch
    from torch.utils import data

    x, y = (torch.from_numpy(a) for a in images())

    class Images(data.Dataset):
        def __len__(self):
            return len(x)

        def __getitem__(self, i):  # what torchvision's ToTensor and Normalize do
            image = x[i].permute(2, 0, 1).contiguous().to(torch.float32).div(255)
            return image.sub_(MEAN).div_(STD), y[i]

    return data.DataLoader(Images(), BATCH)


def seconds(loader, rounds=3):
    """The best time of an epoch."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for x, _ in loader:
            last = x
        last.reshape((-1,))[0].item() if hasattr(
            last, "item"
        ) else last.asnumpy()  # MXNet computes behind our back
        best = min(best, time.perf_counter() - start)
    return best


class Decoded:
    """Images that are decoded when asked for: JPEGs of 480 x 480 pixels,
    of which the middle is taken.
    """

    def __init__(self, count=384):
        from minigluon import recordio

        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (8, 60, 60, 3), "uint8").repeat(8, 1).repeat(8, 2)
        self.records = [recordio.pack_img((0, 1, 2, 0), c) for c in coarse]
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        from minigluon import recordio

        return recordio.unpack_img(self.records[i % 8])[1][128:352, 128:352], i


def scaling():
    """Seconds of an epoch of a decode-bound dataset with 0, 1 and 2 workers."""
    sys.path.insert(0, ROOT)
    from minigluon.gluon import data

    loaders = {n: data.DataLoader(Decoded(96), 8, num_workers=n) for n in (0, 1, 2)}
    times = [
        {n: seconds(loader, 1) for n, loader in loaders.items()} for _ in range(10)
    ]  # in turns
    return {n: min(t[n] for t in times) for n in loaders}


def record_speed(size, total=64 << 20):
    """Seconds for the raw bytes of a file and for its records, one after another."""
    sys.path.insert(0, ROOT)
    from minigluon import recordio

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "a.rec"))
        writer = recordio.MXRecordIO(path, "w")
        content = np.random.default_rng(0).bytes(size)
        for _ in range(total // size):
            writer.write(content)
        writer.close()
        return {
            "raw": best(lambda: raw(path, size)),
            "whole": best(lambda: Path(path).read_bytes()),
            "records": best(lambda: read(recordio, path)),
        }


def best(f, rounds=15):
    """The least time of this thread on a processor: what others do meanwhile does not count."""
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        f()
        times.append(time.thread_time() - start)
    return min(times)


def raw(path, size):
    """The file in pieces of the same size, buffered: as many objects, as many bytes."""
    with open(path, "rb", buffering=1 << 20) as file:
        while file.read(size + 8):
            pass


def read(recordio, path):
    reader = recordio.MXRecordIO(path, "r")
    while reader.read() is not None:
        pass
    reader.close()


def ask(python, name):
    """Run one contender in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [python, "-W", "ignore", __file__, "--contender", name]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout)


CONTENDERS = {
    "minigluon": lambda: seconds(minigluon_loader()),
    "one by one": lambda: seconds(minigluon_loader(one_by_one=True)),
    "torch": lambda: seconds(torch_loader()),
    "mxnet": lambda: seconds(mxnet_loader(), 1),
    "scaling": scaling,
    "4 KiB records": lambda: record_speed(4 << 10),
    "16 KiB records": lambda: record_speed(16 << 10),
    "64 KiB records": lambda: record_speed(64 << 10),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default=os.environ.get("TORCH_PYTHON", sys.executable))
    parser.add_argument("--mxnet", default=os.environ.get("MXNET_PYTHON", sys.executable))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        return print(json.dumps(CONTENDERS[args.contender]()))
    times = {}
    for round_number in range(args.rounds):
        for name in CONTENDERS:
            if name == "mxnet" and round_number:
                continue  # it takes long, and the target is far away
            found = ask({"torch": args.torch, "mxnet": args.mxnet}.get(name, sys.executable), name)
            if isinstance(found, dict):
                old = times.setdefault(name, found)
                times[name] = {k: min(v, old[k]) for k, v in found.items()}
            elif found is not None:
                times[name] = min(found, times.get(name, found))
    if args.json:
        about = {"python": sys.version.split()[0], "numpy": np.__version__, "cores": os.cpu_count()}
        about |= {"load": os.getloadavg()[0], "what": "seconds, the least of several rounds"}
        seconds_of = dict(times)
        Path(args.json).write_text(json.dumps({**about, "seconds": seconds_of}, indent=1) + "\n")
    return report(times)


def report(times):
    """Print the table."""
    ours = times["minigluon"]
    print("10,000 images through ToTensor and Normalize, batches of 256, one process:")
    print(f"  minigluon   {ours * 1e3:9.0f} ms   transforms, which a loader gives whole batches")
    print(
        f"  minigluon   {times['one by one'] * 1e3:9.0f} ms   a function of one's own, of one image"
    )
    for name, target in (("torch", 1.0), ("mxnet", 0.1)):
        if name in times:
            both = " and ".join(f"{t / times[name]:.3f}" for t in (ours, times["one by one"]))
            print(f"  {name:12}{times[name] * 1e3:9.0f} ms   ours are {both} of it (<= {target})")
    scale = times["scaling"]
    print("96 JPEGs decoded and cropped, batches of 8, by the number of workers:")
    for n, t in scale.items():
        print(f"  {n:12}{t * 1e3:9.0f} ms   {scale['0'] / t:.2f} times as fast (2: >= 1.6)")
    for name in [n for n in times if n.endswith("records")]:
        t = times[name]
        speeds = ", ".join(f"{way} {64 / 1024 / seconds:.1f}" for way, seconds in t.items())
        print(f"{name}: {t['raw'] / t['records']:.2f} of raw pieces of that size (>= 0.8)", end="")
        print(f", {t['whole'] / t['records']:.1f} of the file read whole; GiB/s: {speeds}")


if __name__ == "__main__":
    main()
