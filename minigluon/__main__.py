"""Chapters in, modules out: the book's own tools, written in the book."""

# Written from chapters/99_colophon.ipynb: edit the chapter, then run `minigluon export`.

import argparse
import sys
from pathlib import Path

__all__ = ["complain", "main", "parser", "run_export", "run_run", "run_student"]


# --- The command ----------------------------------------------------------------------------------


def main(argv=None):
    """`minigluon [digits | export | run | student]`: the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv = ["digits", *argv]
    if argv[0] == "digits":
        from minigluon import digits

        return digits.main(argv[1:])
    options = parser().parse_args(argv)
    return options.run(options)


def parser():
    """The command line of the book's tools."""
    about = "Deep learning from scratch. Without a command: digits."
    top = argparse.ArgumentParser("minigluon", description=about)
    commands = top.add_subparsers(title="commands", required=True)
    commands.add_parser("digits", help="train a network on real handwritten digits (digits --help)")
    export = commands.add_parser("export", help="write the package from the chapters")
    export.add_argument(
        "--check", action="store_true", help="write nothing, fail if something would change"
    )
    export.set_defaults(run=run_export)
    run = commands.add_parser("run", help="execute chapters and store their outputs")
    run.add_argument("chapters", nargs="*", type=Path, help="notebooks; default: all")
    run.set_defaults(run=run_run)
    student = commands.add_parser("student", help="write a chapter with holes for students")
    student.add_argument("chapter", help="a notebook, or a chapter's name")
    student.add_argument(
        "names", nargs="*", help="functions, classes, methods or rules to leave out; default: all"
    )
    student.add_argument("-o", "--out", type=Path, help="default: student/CHAPTER.ipynb")
    student.add_argument(
        "--solutions", action="store_true", help="keep the bodies, between nbgrader's marks"
    )
    student.set_defaults(run=run_student)
    for command in (export, run, student):
        command.add_argument(
            "--root", type=Path, default=Path.cwd(), help="the book; default: here"
        )
    return top


def run_export(options):
    """`minigluon export`."""
    from minigluon.book import BookError, export

    try:
        changed = export(options.root, check=options.check)
    except BookError as error:
        return complain(error)
    verb = "stale" if options.check else "wrote"
    print("\n".join(f"{verb}: minigluon/{name}" for name in changed) or "up to date")
    return int(options.check and bool(changed))


def run_run(options):
    """`minigluon run`."""
    from minigluon.book import BookError, run_chapters

    chapters = options.chapters or sorted((options.root / "chapters").glob("*.ipynb"))
    try:
        run_chapters(chapters)
    except BookError as error:
        return complain(error)
    return 0


def run_student(options):
    """`minigluon student`."""
    from minigluon.book import BookError, write_student

    path = Path(options.chapter)
    if not path.exists():
        path = options.root / "chapters" / f"{path.stem}.ipynb"
    out = options.out or Path("student") / path.name
    try:
        made, points = write_student(path, out, options.names, options.solutions)
    except (BookError, FileNotFoundError) as error:
        return complain(error)
    print(f"{out}: {points} points for {', '.join(made)}")
    return 0


def complain(error):
    """Say what is wrong on the error stream; the exit status 1."""
    print(f"minigluon: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__" and __package__ == "minigluon":  # a notebook is a __main__ as well
    sys.exit(main())
