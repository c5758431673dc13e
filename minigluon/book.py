"""Chapters in, modules out: the book's own tools, written in the book."""

# Written from chapters/99_colophon.ipynb: edit the chapter, then run `minigluon export`.

import ast
import json
import os
import re
import sys
from inspect import isfunction
from pathlib import Path
from textwrap import dedent, indent

__all__ = [
    "BookError",
    "CELL_METADATA",
    "Module",
    "NOTEBOOK_METADATA",
    "banner",
    "bodies",
    "by_own",
    "directives",
    "executed",
    "export",
    "exported_cells",
    "extend",
    "failed",
    "first",
    "functions_of",
    "hole",
    "import_order",
    "is_fragment",
    "jupyter",
    "marked",
    "members",
    "names_of",
    "opened",
    "opening",
    "origin",
    "parse",
    "put",
    "read_for_jupyter",
    "read_notebook",
    "run_chapters",
    "said",
    "stand_in",
    "student",
    "tangle",
    "tidy",
    "trailing_comment",
    "wanted",
    "write_notebook",
    "write_student",
    "write_whole",
    "written_imports",
    "written_names",
]


# --- Reading a chapter ----------------------------------------------------------------------------


class BookError(Exception):
    """A chapter that cannot be exported or run; the message names the chapter and the cell."""


def directives(source):
    """The leading ``#| key value`` lines of a cell as a dict, and the rest of its text."""
    lines, found = source.splitlines(), {}
    while lines and lines[0].startswith("#|"):
        key, _, value = lines.pop(0)[2:].strip().partition(" ")
        found[key] = value.strip()
    return found, "\n".join(lines).strip("\n")


def exported_cells(path):
    """Yield ``(cell number, module, heading, code)`` of each exported cell of a chapter."""
    default, title, heading = None, "", ""
    for number, cell in enumerate(read_notebook(path)["cells"], start=1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            title = title or "".join(re.findall(r"^# +([^:\n]+)", source)[:1]).strip()
            heading = ([heading] + re.findall(r"^## +(.+?)\s*$", source, re.M))[-1]
        elif cell["cell_type"] == "code":
            found, code = directives(source)
            default = found.get("default_exp", default)
            if "export" in found and code:
                module = found["export"] or default
                if not re.fullmatch(r"\w+(\.\w+)*", module or ""):
                    raise BookError(f"{path.name}, cell {number}: no module is named {module!r}")
                yield number, module, title if heading == "Code" else heading, code


def read_notebook(path):
    """The notebook at `path` as JSON; a file that is not one raises `BookError`."""
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
        return {"cells": list(notebook["cells"])}
    except (ValueError, KeyError, TypeError) as error:
        raise BookError(f"{Path(path).name}: not a Jupyter notebook ({error})") from None


def parse(path, number, code):
    """The syntax tree of a cell; a syntax error names the chapter, the cell and the line."""
    if magic := re.search(r"^[%!].*", code, re.M):
        raise BookError(f"{path.name}, cell {number}: {magic[0]!r} works in notebooks only")
    try:
        return ast.parse(code)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise BookError(
            f"{path.name}, cell {number}, line {error.lineno}: {error.msg}: {line}"
        ) from None


# --- A class over several cells -------------------------------------------------------------------


def extend(fragment):
    """Class decorator for chapters: move the members of `fragment` into the class of that name.

    The exporter writes the fragments as one class, so the decorator never reaches the package.
    """
    cls = sys._getframe(1).f_globals[fragment.__name__]
    for name, value in vars(fragment).items():
        if name in ("__module__", "__dict__", "__weakref__", "__doc__", "__qualname__"):
            continue
        for function in functions_of(value):
            if "__class__" in function.__code__.co_freevars:  # so that super() works
                cell = function.__code__.co_freevars.index("__class__")
                function.__closure__[cell].cell_contents = cls
        setattr(cls, name, value)
    return cls


def functions_of(member):
    """The plain functions behind a class member: a method, property, class or static method."""
    found = [getattr(member, name, None) for name in ("fget", "fset", "fdel", "__func__")]
    return [f for f in [member, *found] if hasattr(f, "__code__")]


# --- From cells to a module -----------------------------------------------------------------------


class Module:
    """The source of one module, grown cell by cell."""

    def __init__(self, name):
        self.name = name
        self.chapters = []  # paths of the chapters that write it
        self.summary = ""
        self.imports = []  # syntax trees of import statements
        self.chunks = []  # texts, in order
        self.classes = {}  # name -> index of the chunk that holds it
        self.names = []  # public names
        self.is_face = False  # whether it says itself what it shows
        self.headings = {None: ""}  # class -> the last section in it; None: outside of classes

    # One cell after another.

    def add(self, path, number, heading, code):
        """Append one exported cell: its imports go up, its class fragments go home."""
        lines, keep = code.splitlines(), []
        tree, start = parse(path, number, code), 0
        for node in tree.body:
            first = min([node.lineno] + [d.lineno for d in getattr(node, "decorator_list", [])])
            keep += lines[start : first - 1]
            text = lines[first - 1 : node.end_lineno]
            start = node.end_lineno
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports.append(node)
            elif is_fragment(node):
                comment = trailing_comment(keep)
                while keep and not keep[-1]:
                    keep.pop()
                self.continue_class(path, number, node, heading, comment, text)
            else:
                keep += text
                made = names_of(node)
                self.is_face |= "__all__" in made or "__getattr__" in made
                self.names += [n for n in made if n not in self.names and n[0] != "_"]
        text = "\n".join(keep + lines[start:]).strip("\n")
        if text:
            if heading and heading != self.headings[None]:
                gap = "\n\n" if text.startswith(("def ", "class ", "@", "async ")) else "\n"
                text = f"{banner(heading)}\n{gap}{text}"
                self.headings[None] = heading
            for node in ast.parse(text).body:
                if isinstance(node, ast.ClassDef):
                    self.classes[node.name] = len(self.chunks)
            self.chunks.append(text)

    # A class in several cells, and the file.

    def continue_class(self, path, number, node, heading, comment, text):
        """Write a fragment's members at the end of the class they belong to."""
        if node.name not in self.classes:
            raise BookError(
                f"{path.name}, cell {number}: `@extend class {node.name}` continues a class "
                f"that no earlier cell writes to {self.name}"
            )
        body = members(node, text)
        index = self.classes[node.name]
        lines = self.chunks[index].splitlines()
        (cls,) = (
            n for n in ast.parse(self.chunks[index]).body if getattr(n, "name", 0) == node.name
        )
        last, self.headings[node.name] = self.headings.get(node.name), None if comment else heading
        if not comment and last != heading:
            comment = [banner(heading, width=96)]
        added = "\n\n".join(filter(None, ["\n".join(comment), dedent(body)]))
        lines[cls.end_lineno : cls.end_lineno] = ["", *indent(added, "    ").rstrip().splitlines()]
        self.chunks[index] = "\n".join(lines)

    def text(self):
        """The whole file."""
        chapters = ", ".join(f"chapters/{p.name}" for p in self.chapters)
        verb = "edit the chapter, then run `minigluon export`."
        head = f'"""{self.summary}"""\n\n# Written from {chapters}: {verb}\n'
        names = list(self.names)
        if self.name.split(".")[-1] == "__init__" or not self.chunks:
            shown = [n for n in self.imports if isinstance(n, ast.ImportFrom)]
            names += [a.asname or a.name for node in shown for a in node.names]
        parts = [head]
        if self.imports:
            parts.append(written_imports(self.imports) + "\n")
        names = [] if self.is_face else sorted({n for n in names if "." not in n})
        if names:
            parts.append(written_names(names) + "\n")
        body = "\n\n\n".join(self.chunks)
        gap = "\n\n" if names else "\n"  # as ruff wants it after imports
        return "\n".join(parts) + (f"{gap}{body}\n" if body else "")


def is_fragment(node):
    """Whether `node` is a class continued under ``@extend``."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(d, ast.Name) and d.id == "extend" for d in node.decorator_list
    )


def trailing_comment(lines):
    """Take the comment lines at the end of `lines` out of it: they belong to what follows."""
    start = len(lines)
    while start and lines[start - 1].startswith("#"):
        start -= 1
    comment, lines[start:] = lines[start:], []
    return comment


def members(node, text):
    """The text of a class body without decorators, class line and docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    first = min([body[0].lineno] + [d.lineno for d in getattr(body[0], "decorator_list", [])])
    last_before = node.body[0].end_lineno if body is not node.body else node.lineno
    skip = len(text) - (node.end_lineno - last_before)
    lines = text[skip:]
    assert first - last_before >= 1
    return "\n".join(lines).strip("\n")


def names_of(node):
    """The names that a top-level definition or assignment makes; a loop's variable is none of them."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [
        name.id
        for target in targets
        if isinstance(target, ast.Name | ast.Tuple)
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]


def banner(heading, width=100):
    """A section comment."""
    return f"# --- {heading} ".ljust(width, "-")


def written_imports(nodes):
    """Import statements, merged and in the order that ruff keeps: standard, others, ours."""
    plain, named = set(), {}
    for node in nodes:
        if isinstance(node, ast.Import):
            plain |= {(a.name, a.asname) for a in node.names}
        else:
            named.setdefault(node.module, set()).update((a.name, a.asname) for a in node.names)
    groups = [[], [], []]
    for name, alias in sorted(plain):
        groups[origin(name)].append(f"import {name}" + (f" as {alias}" if alias else ""))
    for module in sorted(named):
        names = [f"{n} as {a}" if a else n for n, a in sorted(named[module], key=import_order)]
        line = f"from {module} import {', '.join(names)}"
        if len(line) > 100:
            line = f"from {module} import (\n" + "".join(f"    {n},\n" for n in names) + ")"
        groups[origin(module)].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)


def import_order(pair):
    """Constants first, then classes, then the rest, as ruff's isort has it."""
    name = pair[0]
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name.lower(), name


def origin(module):
    """0 for the standard library, 1 for other packages, 2 for this one."""
    top = module.split(".")[0]
    return 2 if top == "minigluon" else 0 if top in sys.stdlib_module_names else 1


def written_names(names):
    """``__all__``, on one line where it fits."""
    line = "__all__ = [" + ", ".join(f'"{n}"' for n in names) + "]"
    if len(line) <= 100:
        return line
    return "__all__ = [\n" + "".join(f'    "{n}",\n' for n in names) + "]"


# --- The whole book -------------------------------------------------------------------------------


def tangle(chapters):
    """The modules that the chapters write: ``{"ops/elementwise.py": text}``."""
    modules = {}
    for path in sorted(Path(chapters).glob("*.ipynb")):
        title, promise = opening(path)
        for number, name, heading, code in exported_cells(path):
            module = modules.setdefault(name, Module(name))
            if path not in module.chapters:
                module.chapters.append(path)
            module.summary = module.summary or promise or title
            module.add(path, number, heading, code)
    return {name.replace(".", "/") + ".py": module.text() for name, module in modules.items()}


def opening(path):
    """Title and one-line promise of a chapter: ``# title`` and ``> promise`` of its first cell."""
    cells = read_notebook(path)["cells"]
    text = "".join(cells[0]["source"]) if cells else ""
    title = re.search(r"^# (.+)$", text, re.M)
    promise = re.search(r"^> (.+)$", text, re.M)
    if not title or not promise:
        raise BookError(f"{path.name}: the first cell needs a `# title` and a `> promise`")
    return title[1].strip(), promise[1].strip()


def export(root, check=False):
    """Write the package from the chapters; return what changed (with `check`: what would).

    A Python file in the package that no chapter writes counts as well: code is born in a chapter.
    """
    package = Path(root) / "minigluon"
    written = tangle(Path(root) / "chapters")
    changed = []
    for name, text in written.items():
        path = package / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, text)
    strays = {p.relative_to(package).as_posix() for p in package.rglob("*.py")} - set(written)
    for name in sorted(strays):
        changed.append(name)
        if not check:
            (package / name).unlink()
    return changed


def write_whole(path, text):
    """Put `text` in place in one step: whatever happens, the file is the old one or the new one."""
    new = Path(f"{path}.{os.getpid()}.new")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


# --- Running the chapters -------------------------------------------------------------------------

CELL_METADATA = {"tags", "nbgrader", "mystnb"}
NOTEBOOK_METADATA = {"kernelspec"}


def run_chapters(paths, report=print):
    """Execute chapters from top to bottom and store their outputs, tidied."""
    for path in map(Path, paths):
        notebook = executed(read_for_jupyter(path), path.parent)
        for number, cell in enumerate(notebook.cells, 1):
            if failed(cell):
                raise BookError(f"{path.name}, cell {number} failed:\n{said(cell)}")
        write_notebook(path, tidy(notebook))
        report(f"ran {path.name}")


def jupyter():
    """Jupyter's modules for files and for running them; BookError where they are not installed."""
    try:
        import nbclient
        import nbformat
    except ImportError as error:
        raise BookError(f"{error.name} is missing: pip install 'minigluon[write]'") from None
    return nbformat, nbclient


def read_for_jupyter(path):
    """The notebook at `path` as Jupyter's own type."""
    return jupyter()[0].read(path, as_version=4)


def write_notebook(path, notebook):
    """Write a notebook of Jupyter's own type."""
    write_whole(path, jupyter()[0].writes(notebook) + "\n")


def executed(notebook, folder, allow_errors=False):
    """The notebook with its outputs, run in a folder;
    it ends at the first cell that fails, or goes on.
    """
    where = {"metadata": {"path": str(folder)}}
    _, nbclient = jupyter()
    client = nbclient.NotebookClient(
        notebook, record_timing=False, resources=where, timeout=600, allow_errors=allow_errors
    )
    try:
        return client.execute()
    except nbclient.exceptions.CellExecutionError:
        return notebook  # with the error among the outputs


def failed(cell):
    """Whether there is an error among a cell's outputs."""
    return any(out.get("output_type") == "error" for out in cell.get("outputs", []))


def said(cell):
    """The traceback among a cell's outputs."""
    return "\n".join(
        "\n".join(out["traceback"]) for out in cell.outputs if out["output_type"] == "error"
    )


def tidy(notebook):
    """Keep only the metadata that the book uses; no execution counts, no editor's traces."""
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in NOTEBOOK_METADATA}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in CELL_METADATA}
        if cell.cell_type == "code":
            cell.execution_count = None
            for out in cell.outputs:
                out.pop("transient", None)
                if "execution_count" in out:
                    out.execution_count = None
    return notebook


# --- A chapter for students -----------------------------------------------------------------------


def bodies(tree, inside=""):
    """Yield ``(name, definition)`` of each function, and of each method of a class, in a syntax tree."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from bodies(node, f"{inside}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not inside and node.name.startswith("__"):
                continue  # `__getattr__` of a module: Python asks it, even while it reports an error
            known_by = node.decorator_list[:1] if node.name == "_" else []
            yield inside + (ast.unparse(known_by[0]) if known_by else node.name), node


def wanted(name, names):
    """Whether `names`, all if there are none, stand for a name."""
    return not names or any(f"{name}.".startswith(f"{each}.") for each in names)


def opened(code, names, keep):
    """`code` with holes, and their names; with `keep` the bodies stay, between nbgrader's marks."""
    lines, made = code.split("\n"), []
    for name, node in reversed(list(bodies(ast.parse(code)))):
        body = node.body[ast.get_docstring(node) is not None :]
        if not body or not wanted(name, names):
            continue
        first = min(n.lineno for n in [body[0], *getattr(body[0], "decorator_list", [])]) - 1
        while lines[first - 1].strip().startswith("#"):  # comments on a body belong to it
            first -= 1
        lines[first : node.end_lineno] = hole(lines[first : node.end_lineno], name, keep)
        made.append(name)
    return "\n".join(lines), made[::-1]


def hole(lines, name, keep):
    """What stands in the place of the lines of a body."""
    margin = " " * (len(lines[0]) - len(lines[0].lstrip()))
    if keep:
        begin, end = (f"{margin}### {word} SOLUTION" for word in ("BEGIN", "END"))
        return [begin, *lines, end]
    return [f'{margin}raise NotImplementedError("{name}: your code here")']


def stand_in(shell, read=directives, names=names_of):
    """From now on what an exported cell of this notebook makes stands in the package,
    where the package's own stood.

    `shell` is `get_ipython()`. `read` and `names` are bound here: in this chapter they are holes
    themselves.
    """
    module = None

    def after(result):
        nonlocal module
        found, code = read(result.info.raw_cell or "")
        module = found.get("default_exp", module)
        home = f"minigluon.{found.get('export') or module}".removesuffix(".__init__")
        made_some = "export" in found and result.error_before_exec is None
        if made_some and home in sys.modules:  # nobody imports the command's own module
            made = {n for node in ast.parse(code).body for n in names(node) if n[:2] != "__"}
            put({n: shell.user_ns[n] for n in made & {*shell.user_ns}}, sys.modules[home])

    shell.events.register("post_run_cell", after)


def put(made, home):
    """Put functions, classes and objects, but no plain data, in the place of those of their names
    in a module, and where packages show these.
    """
    package = [m for n, m in sys.modules.items() if n.partition(".")[0] == "minigluon"]
    shown = [home, *(m for m in package if {"__path__", "__getattr__"} & {*vars(m)})]
    for name, new in made.items():
        old, plain = getattr(home, name, None), type(new).__module__ == "builtins"
        if old is not None and new is not old and (callable(new) or not plain):
            # What a face of an operator wraps; other objects may answer to any name.
            kernel = getattr(old, "kernel", vars) if isfunction(old) else vars
            for module in shown:
                for each, held in [*vars(module).items()]:
                    if held is old:
                        setattr(module, each, new)
                    elif getattr(held, "__wrapped__", None) is kernel:
                        delattr(module, each)  # it is made anew when somebody asks for it


def by_own(code, owner):
    """`code` without imports of what the notebook made itself: ``owner[name]`` is a name's module."""
    lines = code.split("\n")
    for node in reversed(ast.parse(code).body):
        own = [
            a
            for a in getattr(node, "names", ())
            if owner.get(a.name) == getattr(node, "module", "")
        ]
        if own:
            rest = [a for a in node.names if a not in own]
            kept = [ast.unparse(ast.ImportFrom(node.module, rest, 0))] if rest else []
            further = [f"{a.asname} = {a.name}" for a in own if a.asname]
            lines[node.lineno - 1 : node.end_lineno] = kept + further
    return "\n".join(lines)


def first(modules):
    """The text of a cell that loads modules of the package, and all operators."""
    why = "# The package comes first, so that what stands below takes the place of its parts\n"
    modules = {m.removesuffix(".__init__") for m in modules} - {"minigluon.__main__"}
    names = sorted({"minigluon", *modules})
    load = "".join(f"import {name}\n" for name in names) + "from minigluon.book import stand_in\n"
    return f"{why}{load}\n_ = dir(minigluon.nd)\nstand_in(get_ipython())"


def student(path, names=(), solutions=False):
    """``(notebook, names of its holes)``: a chapter for students, with nbgrader's metadata.

    `names`: functions, classes, methods or rules; none: all that are exported. With `solutions`:
    the teacher's notebook, as nbgrader wants it in `source/`.
    """
    path, notebook, made, found = Path(path), read_for_jupyter(path), [], []
    homes, owner = {n: f"minigluon.{m}" for n, m, _, _ in exported_cells(path)}, {}
    top = jupyter()[0].v4.new_code_cell(first({*homes.values()}), id="first")
    marked(top, f"{path.stem}-first", locked=True, solution=False)
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        code, kind = by_own(cell.source, owner), {"solution": False}
        for node in parse(path, number, code).body:
            owner |= dict.fromkeys(names_of(node), homes.get(number))
        if "export" in directives(code)[0]:
            found += [name for name, _ in bodies(parse(path, number, code))]
            code, holes = opened(code, names, solutions)
            made, kind = made + holes, {"solution": bool(holes)}
        elif code.startswith("# One answer"):
            code, kind = "\n".join(hole(code.split("\n"), "answer", solutions)), {"solution": True}
        cell.source = code
        marked(cell, f"{path.stem}-{number}", locked=not kind["solution"], **kind)
    for name in names:
        if not any(wanted(each, [name]) for each in made):
            raise BookError(f"{path.name} exports no {name!r}: there are {', '.join(found)}")
    at = next((i for i, c in enumerate(notebook.cells) if c.source.startswith("#|")), 1)
    notebook.cells.insert(at, top)
    return notebook, made


def marked(cell, name, **kind):
    """Give a cell nbgrader's metadata."""
    fixed = {"schema_version": 3, "grade_id": name, "grade": False, "task": False}
    cell.metadata["nbgrader"] = {**cell.metadata.get("nbgrader", {}), **fixed, **kind}


def write_student(path, out, names=(), solutions=False):
    """Write a chapter for students to `out`; return the names of its holes,
    and how many points its checks give.
    """
    path, out = Path(path), Path(out)
    if out.resolve() == path.resolve():
        raise BookError(f"{out} is the chapter itself: write to another place")
    notebook, made = student(path, names, solutions)
    tried, _ = student(path, names)
    points = 0
    for cell, run in zip(notebook.cells, executed(tried, path.parent, allow_errors=True).cells):
        about = cell.metadata.get("nbgrader", {"solution": True})
        asserts = re.findall(r"^ *(?:assert |[\w.]*\bassert_\w+\()", cell.source, re.M)
        if asserts and not about["solution"] and failed(run):
            about |= {"grade": True, "points": len(asserts)}
            points += len(asserts)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_notebook(out, notebook)
    return made, points
