"""A record file is a row of byte strings, each behind a number that can be found again when the rest is lost."""

# Written from chapters/81_records.ipynb: edit the chapter, then run `minigluon export`.

import argparse
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor

from minigluon.recordio import MXIndexedRecordIO, decoded, pack, pack_img, scaled

__all__ = [
    "OPTIONS",
    "fitted",
    "image_encode",
    "is_image",
    "list_image",
    "main",
    "make_list",
    "parser",
    "parts",
    "read_list",
    "write_list",
    "write_records",
]


# --- A command: from images to records ------------------------------------------------------------


def list_image(root, recursive, exts):
    """Yield (number, path below `root`, label): with `recursive`, each folder is a class."""
    if not recursive:
        found = [(name, 0) for name in sorted(os.listdir(root)) if is_image(root, name, exts)]
    else:
        found, classes = [], {}
        for path, folders, files in os.walk(root, followlinks=True):
            folders.sort()
            for name in sorted(files):
                if is_image(path, name, exts):
                    label = classes.setdefault(path, len(classes))
                    found.append((os.path.relpath(os.path.join(path, name), root), label))
        for path, label in classes.items():
            print(os.path.relpath(path, root), label)
    for number, (path, label) in enumerate(found):
        yield number, path, label


def is_image(folder, name, exts):
    """Whether a file has one of the extensions."""
    return os.path.splitext(name)[1].lower() in exts and os.path.isfile(os.path.join(folder, name))


def write_list(path_out, image_list):
    """Write a list: a line with number, label or labels and path of each image, tabs between."""
    with open(path_out, "w", encoding="utf-8") as file:
        for number, path, *labels in image_list:
            file.write("\t".join([str(number), *(f"{v:f}" for v in labels), path]) + "\n")


def read_list(path_in):
    """Yield (number, path, labels...) of a list; a line that is none is named and left out."""
    with open(path_in, encoding="utf-8") as file:
        for n, line in enumerate(file, 1):
            words = [word.strip() for word in line.strip().split("\t")]
            try:
                if len(words) < 3:
                    raise ValueError("it needs a number, a label and a path")
                yield (int(words[0]), words[-1], *map(float, words[1:-1]))
            except ValueError as error:
                print(f"{path_in}, line {n}, is left out: {error}", file=sys.stderr)


def make_list(args):
    """Write `prefix.lst`, or several for chunks, training, validation and test."""
    images = list(list_image(args.root, args.recursive, set(args.exts)))
    if args.shuffle:
        random.Random(100).shuffle(images)
    size = -(-len(images) // args.chunks)
    for i in range(args.chunks):
        name = args.prefix + (f"_{i}" if args.chunks > 1 else "")
        for part, chosen in parts(images[i * size : (i + 1) * size], size, args):
            write_list(name + part + ".lst", chosen)


def parts(chunk, size, args):
    """The parts of a chunk with their names: first those for testing, then for training."""
    if args.train_ratio == 1:
        return [("", chunk)]
    test, train = int(size * args.test_ratio), int(size * args.train_ratio)
    found = [("_train", chunk[test : test + train])]
    if args.test_ratio:
        found.append(("_test", chunk[:test]))
    if args.train_ratio + args.test_ratio < 1:
        found.append(("_val", chunk[test + train :]))
    return found


def image_encode(args, item):
    """The record of a line of a list; None, and a word about it, if its image cannot be read."""
    number, path, *labels = item
    label = labels if len(labels) > 1 and args.pack_label else labels[0]
    header, full = (0, label, number, 0), os.path.join(args.root, path)
    try:
        with open(full, "rb") as file:
            data = file.read()
    except OSError as error:
        print(f"{full} is left out: {error.strerror}", file=sys.stderr)
        return None
    if args.pass_through:
        return pack(header, data)
    img = decoded(data, args.color)
    if img is None:
        print(f"{full} is left out: it is no image", file=sys.stderr)
        return None
    return pack_img(header, fitted(img, args), args.quality, args.encoding)


def fitted(img, args):
    """An image cut to its middle square and scaled to a shorter edge, as asked for."""
    if args.center_crop:
        height, width = img.shape[:2]
        edge, top, left = min(height, width), max(0, height - width), max(0, width - height)
        img = img[top // 2 : top // 2 + edge, left // 2 : left // 2 + edge]
    if not args.resize:
        return img
    height, width = img.shape[:2]
    if height > width:
        return scaled(img, height * args.resize // width, args.resize)
    return scaled(img, args.resize, width * args.resize // height)


def write_records(args, list_path):
    """Write `.rec` and `.idx` beside a list; how many records were written, and left out."""
    base = os.path.splitext(list_path)[0]
    items, counts = list(read_list(list_path)), [0, 0]
    record = MXIndexedRecordIO(base + ".idx", base + ".rec", "w")
    with ThreadPoolExecutor(max(1, args.num_thread)) as pool:  # Pillow decodes beside Python
        for start in range(0, len(items), 1000):
            some = items[start : start + 1000]
            for item, data in zip(some, pool.map(lambda item: image_encode(args, item), some)):
                counts[data is None] += 1
                if data is not None:
                    record.write_idx(item[0], data)
    record.close()
    return counts


def main(argv=None):
    """`python -m minigluon.im2rec prefix root [--list]`: the exit status."""
    args = parser().parse_args(argv)
    args.prefix, args.root = os.path.abspath(args.prefix), os.path.abspath(args.root)
    if args.list:
        make_list(args)
        return 0
    folder = args.prefix if os.path.isdir(args.prefix) else os.path.dirname(args.prefix)
    lists = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    lists = [path for path in lists if path.startswith(args.prefix) and path.endswith(".lst")]
    for path in lists:
        print("Creating .rec file from", path, "in", folder)
        written, left_out = write_records(args, path)
        print(f"{written} records" + (f", {left_out} images left out" if left_out else ""))
    if not lists:
        print(f"Did not find and list file with prefix {args.prefix}", file=sys.stderr)
    return int(not lists)


OPTIONS = [  # name, settings: MXNet's
    (
        "--list",
        {"action": "store_true", "help": "write lists of the images below root, no records"},
    ),
    ("--exts", {"nargs": "+", "default": [".jpeg", ".jpg", ".png"], "help": "extensions"}),
    ("--chunks", {"type": int, "default": 1, "help": "number of lists"}),
    ("--train-ratio", {"type": float, "default": 1.0, "help": "share of images for training"}),
    ("--test-ratio", {"type": float, "default": 0.0, "help": "share of images for testing"}),
    ("--recursive", {"action": "store_true", "help": "go into folders; each is a class"}),
    ("--no-shuffle", {"dest": "shuffle", "action": "store_false", "help": "keep the order"}),
    ("--shuffle", {"action": "store_true", "default": True, "help": "random order (the default)"}),
    ("--pass-through", {"action": "store_true", "help": "pack the files as they are"}),
    ("--resize", {"type": int, "default": 0, "help": "new length of the shorter edge; 0 keeps it"}),
    ("--center-crop", {"action": "store_true", "help": "cut out the middle square first"}),
    ("--quality", {"type": int, "default": 95, "help": "JPEG 1-100, PNG 1-9"}),
    ("--num-thread", {"type": int, "default": 1, "help": "threads that encode; the order stays"}),
    (
        "--color",
        {"type": int, "default": 1, "choices": [-1, 0, 1], "help": "1 colour, 0 grey, -1 as is"},
    ),
    (
        "--encoding",
        {"default": ".jpg", "choices": [".jpg", ".png"], "help": "how images are packed"},
    ),
    (
        "--pack-label",
        {"action": "store_true", "help": "pack all labels of a line, not the first only"},
    ),
]


def parser():
    """The command line."""
    about = "Make a list of images, or a file of records from a list."
    top = argparse.ArgumentParser("minigluon.im2rec", description=about)
    top.add_argument("prefix", help="prefix of the .lst, .rec and .idx files")
    top.add_argument("root", help="folder with the images")
    for name, settings in OPTIONS:
        top.add_argument(name, **settings)
    return top


if __name__ == "__main__" and __package__ == "minigluon":  # a notebook is a __main__ as well
    sys.exit(main())
