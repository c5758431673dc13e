"""The book and the package: the same code, in the right order, and tidy."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from minigluon.__main__ import main
from minigluon.book import (
    BookError,
    Module,
    executed,
    export,
    exported_cells,
    failed,
    opened,
    run_chapters,
    student,
    write_student,
    write_whole,
)

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
BOOK = yaml.safe_load((ROOT / "book.yml").read_text())
each = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def listed():
    """The chapters of book.yml, in its order."""
    return [BOOK["root"]] + [c["file"] for part in BOOK["parts"] for c in part["chapters"]]


def test_the_package_equals_the_chapters():
    assert export(ROOT, check=True) == []


def test_book_lists_every_chapter_once_in_order():
    assert listed() == [f"chapters/{path.stem}" for path in CHAPTERS]


def test_book_names_the_modules_each_chapter_writes():
    for path in CHAPTERS:
        written = {module for _, module, _, _ in exported_cells(path)}
        assert written == set(BOOK["meta"][f"chapters/{path.stem}"]), path.stem


def test_a_module_imports_only_modules_of_earlier_chapters():
    chapter_of, modules = {}, set()
    for n, name in enumerate(listed()):
        for module in BOOK["meta"][name]:
            chapter_of.setdefault(module.removesuffix(".__init__"), n)
            modules.add(module.removesuffix(".__init__"))
    for n, name in enumerate(listed()):
        for number, module, _, code in exported_cells(ROOT / f"{name}.ipynb"):
            if module in ("__init__", "__main__") or module.endswith(".__init__"):
                continue  # faces load what they show when it is asked for
            for used in imports(code, modules):
                assert chapter_of[used] <= n, f"{name}, cell {number} imports {used}"


def imports(code, modules):
    """The modules of ours that a cell imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minigluon"):
            base = node.module.removeprefix("minigluon").removeprefix(".")
            found = [f"{base}.{a.name}".strip(".") for a in node.names] + [base]
        elif isinstance(node, ast.Import):
            found = [
                a.name.removeprefix("minigluon.") for a in node.names if "minigluon." in a.name
            ]
        else:
            continue
        yield from (name for name in found if name in modules)


@pytest.fixture
def copy(tmp_path):
    """A copy of the book and its package."""
    for folder in ("chapters", "minigluon"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def test_hand_edited_and_stray_files_are_found(copy, capsys):
    edited = copy / "minigluon" / "metric.py"
    text = edited.read_text()
    edited.write_text(text + "\nextra = 1\n")
    (copy / "minigluon" / "stray.py").write_text("")
    assert sorted(export(copy, check=True)) == ["metric.py", "stray.py"]
    assert main(["export", "--check", "--root", str(copy)]) == 1
    assert "metric.py" in capsys.readouterr().out
    export(copy)
    assert edited.read_text() == text and export(copy) == []
    assert main(["export", "--check", "--root", str(copy)]) == 0


def notebook(path, *sources):
    """Write a chapter of code cells after a first cell with title and promise."""
    cells = [{"cell_type": "markdown", "id": "top", "metadata": {}, "source": "# T\n\n> P."}]
    cells += [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "metadata": {},
            "source": s,
            "outputs": [],
            "execution_count": None,
        }
        for i, s in enumerate(sources)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


def test_a_broken_chapter_is_named(tmp_path, capsys):
    path = notebook(
        tmp_path / "chapters" / "05_broken.ipynb", "#| default_exp m", "#| export\nx = ("
    )
    with pytest.raises(BookError, match="05_broken.ipynb, cell 3, line 1"):
        export(tmp_path)
    assert main(["export", "--root", str(tmp_path)]) == 1
    assert "05_broken.ipynb, cell 3" in capsys.readouterr().err
    before = path.read_text()
    notebook(path, "1 + 1", "1 / 0")
    before = path.read_text()
    with pytest.raises(BookError, match="05_broken.ipynb, cell 3 failed"):
        run_chapters([path])
    assert path.read_text() == before


def test_a_magic_is_refused(tmp_path):
    for magic in ("%timeit f()", "!ls"):
        notebook(
            tmp_path / "chapters" / "05_magic.ipynb", "#| default_exp m", f"#| export\n{magic}"
        )
        with pytest.raises(BookError, match="05_magic.ipynb, cell 3: .* works in notebooks only"):
            export(tmp_path)


def test_a_loop_variable_is_not_public():
    module = Module("m")
    module.add(Path("c.ipynb"), 1, "", "for i in (1, 2):\n    pass\n\nx, y = 1, 2\nz: int = 3")
    assert '__all__ = ["x", "y", "z"]' in module.text()


def test_a_face_says_itself_what_it_shows():
    module = Module("m.__init__")
    module.add(Path("c.ipynb"), 1, "", "from a import b\n\n__all__ = [*b]")
    assert module.text().count("__all__") == 1


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.py"
    path.write_text("old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


FIRST = '''class A:
    """An A."""

    def one(self):
        return 1


def after():
    return 2'''
SECOND = """# Twos.
@extend
class A:
    @property
    def two(self):
        return 2

    def one_more(self):
        return super().__repr__()"""


LESSON = (
    "#| default_exp libinfo",
    """#| export
class Scale:
    \"\"\"Times a number.\"\"\"

    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        \"\"\"The number times `by`.\"\"\"
        # one product
        return x * self.by


def plus(a, b):
    return a + b""",
    "y = Scale(3)(2)",
    "assert y == 6\nassert Scale(0)(1) == 0",
    "assert plus(1, 2) == 3",
    "def check_double(solution):\n    assert solution(2) == 4",
    "# One answer, to compare with yours\ndouble = Scale(2)\ncheck_double(double)",
)


def test_a_chapter_for_students_has_holes_and_points(tmp_path, capsys):
    path = notebook(tmp_path / "chapters" / "05_lesson.ipynb", *LESSON)
    out = tmp_path / "for" / "you.ipynb"
    assert write_student(path, out, ["Scale.__call__"]) == (["Scale.__call__"], 2)
    cells = json.loads(out.read_text())["cells"][1:]
    first = "".join(cells.pop(0)["source"])
    assert "import minigluon.libinfo\n" in first and first.endswith("stand_in(get_ipython())")
    sources = ["".join(c["source"]) for c in cells]
    assert "return x * self.by" not in sources[1] and "one product" not in sources[1]
    assert 'raise NotImplementedError("Scale.__call__: your code here")' in sources[1]
    assert "self.by = by" in sources[1] and "The number times `by`." in sources[1]
    assert "return a + b" in sources[1] and "Scale(2)" not in sources[6]
    marks = [c["metadata"]["nbgrader"] for c in cells]
    assert [m["solution"] for m in marks] == [False, True, False, False, False, False, True]
    assert [m.get("points", 0) for m in marks] == [0, 0, 0, 2, 0, 0, 0]  # plus passes unfilled
    assert all(m["locked"] != m["solution"] for m in marks)
    assert len({m["grade_id"] for m in marks}) == len(marks)
    arguments = ["student", "05_lesson", "--root", str(tmp_path), "-o", str(out)]
    assert main(arguments) == 0
    assert "3 points for Scale.__init__, Scale.__call__, plus" in capsys.readouterr().out


def test_a_students_operator_takes_the_place_of_the_package_s(tmp_path):
    path = notebook(
        tmp_path / "chapters" / "05_op.ipynb",
        "#| default_exp ops.elementwise",
        "#| export\nfrom minigluon.op import operator\n\n\n@operator\ndef relu(x, /):\n    return x * 7",
        "import minigluon as mx\n\nassert mx.nd.relu(mx.nd.ones(1)).asscalar() == 7",
        "from minigluon.ops.elementwise import (\n    relu,\n    relu as bend,\n)\n\nassert "
        "bend(1) == relu(1) == 7",
    )
    out = tmp_path / "op.ipynb"
    assert write_student(path, out) == (["relu"], 2)
    taught, _ = student(path, solutions=True)
    assert not any(map(failed, executed(taught, tmp_path, allow_errors=True).cells))


def test_what_a_student_writes_stands_where_the_package_shows_it(tmp_path):
    path = notebook(
        tmp_path / "chapters" / "05_part.ipynb",
        "#| default_exp gluon.data.sampler",
        """#| export
class SequentialSampler:
    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return iter([7] * self.length)


def __getattr__(name):
    raise AttributeError(name)""",
        "from minigluon.gluon import data\n\nassert [*data.SequentialSampler(2)] == [7, 7]",
        "from minigluon.gluon.data import dataloader\n\nassert "
        "[*dataloader.SequentialSampler(2)] == [0, 1]",
        "import numpy as np\nnp.testing.assert_array_equal([*data.SequentialSampler(1)], [7])",
    )
    made, points = write_student(path, tmp_path / "part.ipynb")
    # A module's own functions are no holes: Python calls them while it reports an error.
    assert made == ["SequentialSampler.__init__", "SequentialSampler.__iter__"] and points == 2
    taught, _ = student(path, solutions=True)
    assert not any(map(failed, executed(taught, tmp_path, allow_errors=True).cells))


FAST = ["14d_transforms", "80_data"]
WRITING = [path for path in CHAPTERS if [*exported_cells(path)]]


def marked(path):
    """The chapter as a case, slow but for two."""
    marks = [] if path.stem in FAST else [pytest.mark.slow]
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", [*map(marked, WRITING)])
def test_a_chapter_s_checks_judge_what_a_student_writes(path, tmp_path):
    """Empty bodies lose points, and the chapter's own bodies keep them all."""
    made, points = write_student(path, tmp_path / path.name)
    assert not made or points >= 3, f"{points} points for {len(made)} bodies: add asserts"
    taught, _ = student(path, solutions=True)
    for number, cell in enumerate(executed(taught, path.parent, allow_errors=True).cells):
        assert not failed(cell), f"cell {number}"


def test_a_chapter_for_students_is_refused_with_a_reason(tmp_path, capsys):
    path = notebook(tmp_path / "chapters" / "05_lesson.ipynb", *LESSON)
    before = path.read_text()
    with pytest.raises(BookError, match=r"exports no 'Scale.call': there are Scale.__init__, "):
        student(path, ["Scale.call"])
    with pytest.raises(BookError, match="is the chapter itself"):
        write_student(path, path)
    assert path.read_text() == before
    assert main(["student", "no_such", "--root", str(tmp_path)]) == 1
    assert "no_such.ipynb" in capsys.readouterr().err


@each
def test_holes_take_bodies_and_nothing_else(path):
    for _, _, _, code in exported_cells(path):
        whole, names = opened(code, (), keep=True)
        kept = [
            line
            for line in whole.split("\n")
            if not re.fullmatch(" *### (BEGIN|END) SOLUTION", line)
        ]
        assert "\n".join(kept) == code
        holed, again = opened(code, (), keep=False)
        assert again == names and holed.count("your code here") == len(names)
        ast.parse(holed)


def test_classes_are_folded_whole():
    module = Module("m")
    module.add(Path("c.ipynb"), 1, "First", FIRST)
    module.add(Path("c.ipynb"), 2, "Second", SECOND)
    text = module.text()
    scope = {}
    exec(text, scope)
    assert scope["A"]().two == 2 and "object" in scope["A"]().one_more()
    assert text.count("class A") == 1 and "    # Twos." in text and "@extend" not in text
    assert text.index("def two") < text.index("def after")
    with pytest.raises(BookError, match="cell 3.*class B"):
        module.add(Path("c.ipynb"), 3, "", "@extend\nclass B:\n    x = 1")


def test_a_section_is_named_once(tmp_path):
    path = tmp_path / "c.ipynb"
    said = ("# Cups: and saucers", "## Code", "#| export m\nclass A:\n    x = 1", "## More")
    said += tuple(f"#| export m\n@extend\nclass A:\n    {name} = 1" for name in "yz")
    kinds = ("markdown", "code")
    cells = [{"cell_type": kinds[s[:2] == "#|"], "source": [s]} for s in said]
    path.write_text(json.dumps({"cells": cells}))
    module = Module("m")
    for number, _, heading, code in exported_cells(path):
        module.add(path, number, heading, code)
    banners = [line.strip(" #-") for line in module.text().splitlines() if "# ---" in line]
    assert banners == ["Cups", "More"]
    assert "\n    y = 1\n\n    z = 1\n" in module.text()


@each
def test_chapters_are_whole(path):
    cells = json.loads(path.read_text())["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert re.search(r"^# .+\n+> .+", prose)
    for part in ("## Summary", "## Exercise"):
        assert part in prose, f"{path.stem} has no {part}"


@each
def test_examples_do_not_take_the_names_of_what_is_exported(path):
    """Or the functions of a chapter call, when they run in it, what an example has put there."""
    exported = {number: code for number, _, _, code in exported_cells(path)}
    made = set()
    for number, cell in enumerate(json.loads(path.read_text())["cells"], start=1):
        if cell["cell_type"] == "code":
            names = {
                name for node in ast.parse("".join(cell["source"])).body for name in assigned(node)
            }
            if number not in exported:
                assert not names & made, f"cell {number}: {names & made}"
            made |= functions(exported.get(number, "")) - {"_"}


def assigned(node):
    """The names that a statement at top level, or within its loops and blocks, binds to values."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    targets = [t for t in targets if t is not None] if not isinstance(node, ast.AugAssign) else []
    yield from (
        n.id
        for t in targets
        for n in ast.walk(t)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )
    for inner in (
        getattr(node, "body", []) if isinstance(node, ast.For | ast.With | ast.If | ast.Try) else []
    ):
        yield from assigned(inner)


def functions(code):
    """The functions and classes that a cell defines."""
    kinds = ast.FunctionDef | ast.ClassDef
    return {node.name for node in ast.parse(code).body if isinstance(node, kinds)}


@each
def test_chapters_are_tidy(path):
    book = json.loads(path.read_text())
    assert set(book["metadata"]) <= {"kernelspec", "language_info"}
    for number, cell in enumerate(book["cells"], 1):
        where = f"{path.stem}, cell {number}"
        assert set(cell["metadata"]) <= {"tags", "nbgrader", "mystnb"}, where
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).count("\n") + 1
            assert lines <= 60, f"{where} has {lines} lines: one idea a cell, at most 60"
        for out in cell.get("outputs", []):
            assert out["output_type"] != "error", where
            assert len(json.dumps(out)) < 80_000, f"{where}: a large output"
        assert cell.get("execution_count") is None, where
    assert not re.search(r"/(tmp|work|root|home)/", path.read_text()), (
        f"{path.stem}: a machine's path"
    )


def test_readme_lists_every_chapter_once():
    linked = re.findall(r"\]\(chapters/(\w+)\.ipynb\)", (ROOT / "README.md").read_text())
    table = [name for name in linked if name != "00_tour"]
    assert table == [Path(name).name for name in listed()[1:]]


def test_readme_names_the_command_that_ci_runs():
    commands = re.findall(r"^pip install .*$", (ROOT / "README.md").read_text(), re.M)
    assert commands == [
        "pip install -e '.[learn]' && python -m minigluon",
        "pip install -e '.[test]' && pytest",
    ]


COURSES = (ROOT / "CONTRIBUTING.md").read_text().partition("## Two courses")[2]
GRADED = re.findall(r"`(\d\d\w+)((?: \w+)*)`(?: \| | gives | )(\d+)", COURSES)


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "names", "points"), GRADED, ids=lambda value: value.strip())
def test_courses_tell_the_points_that_their_exercises_give(chapter, names, points, tmp_path):
    path = ROOT / "chapters" / f"{chapter}.ipynb"
    _, given = write_student(path, tmp_path / path.name, names.split())
    assert given == int(points)


def test_courses_are_read_from_the_table():
    assert len(GRADED) == 15 and ("20_symbols", "", "4") in GRADED


@pytest.mark.parametrize(
    "module",
    ["executor", "symbol", "symbol.hybrid", "symbol.inference", "gluon.hybrid", "visualization"],
)
def test_modules_of_graphs_can_be_imported_first(module):
    code = f"import minigluon.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
