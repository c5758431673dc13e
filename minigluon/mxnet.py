"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

import difflib
import importlib
import os
import pkgutil
import runpy
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec

import numpy as np

from minigluon import lent, libinfo
from minigluon.base import LENIENT

__all__ = [
    "Alias",
    "BESIDE",
    "FILLED",
    "FINDERS",
    "LENT",
    "Lender",
    "Missing",
    "OURS",
    "PARTS",
    "THEIRS",
    "USAGE",
    "asked_by_program",
    "bequeath",
    "contents",
    "fresh_main",
    "heirs",
    "install",
    "lend",
    "load_ipython_extension",
    "main",
    "missing",
    "module_of",
    "renounce",
    "run_script",
    "stand_first",
    "uninstall",
    "unload_ipython_extension",
]


# --- The finder -----------------------------------------------------------------------------------

OURS, THEIRS = "minigluon", "mxnet"
PARTS = "", ".contrib", ".image", ".linalg"
FILLED = [f"{face}{part}" for face in ("ndarray", "symbol") for part in PARTS]


class Alias(MetaPathFinder, Loader):
    """Finds `mxnet.x` by importing `minigluon.x`: two names of one module."""

    def find_spec(self, fullname, path=None, target=None):
        """A specification for names that begin with mxnet; ImportError for one that is not there."""
        if fullname != THEIRS and not fullname.startswith(THEIRS + "."):
            return None
        ours = OURS + fullname[len(THEIRS) :]
        if module_of(ours) is None:
            raise missing(ours)
        stand_first()
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        """Our module; the import system then gives it the specification of the alias."""
        module = module_of(OURS + spec.name[len(THEIRS) :])
        self.kept = {**getattr(self, "kept", {}), spec.name: module.__spec__}
        return module

    def exec_module(self, module):
        """Nothing is left to run: only take the specification back, and fill the namespaces."""
        module.__spec__ = self.kept.pop(module.__spec__.name, module.__spec__)
        for name in FILLED if module.__name__ == OURS else ():
            importlib.import_module(f"{OURS}.{name}").space.fill()


def module_of(ours):
    """Our module of a name, or one that its package shows under it, as `contrib.nd`;
    None if there is none.
    """
    ours = (
        f"{OURS}.{lent.MOVED[ours[len(OURS) + 1 :]]}"
        if ours[len(OURS) + 1 :] in lent.MOVED
        else ours
    )
    parent, _, name = ours.rpartition(".")
    try:
        if find_spec(ours) is not None:
            return importlib.import_module(ours)
        found = getattr(importlib.import_module(parent), name, None)
    except ModuleNotFoundError:  # the parent is only shown, as `nd`
        return None
    return found if isinstance(found, type(sys)) else None


class Missing(MetaPathFinder):
    """The last finder that is asked: it says what is missing, and what is there instead."""

    def find_spec(self, fullname, path=None, target=None):
        """Raises ImportError for `from mxnet.x import y` where there is no y."""
        parent = fullname.rpartition(".")[0]
        aliased = THEIRS + parent[len(OURS) :] in sys.modules
        if fullname.startswith(OURS + ".") and aliased and asked_by_program():
            raise missing(fullname)


def asked_by_program():
    """Whether the import stands in a program: not in our package, nor a question of `find_spec`."""
    frame = sys._getframe(2)
    while frame and "importlib" in frame.f_code.co_filename:
        if frame.f_globals.get("__name__") == "importlib.util":
            return False
        frame = frame.f_back
    return frame is None or not str(frame.f_globals.get("__name__")).startswith(OURS)


def missing(ours):
    """The ImportError for a module or a name that is not there, with the closest that is."""
    parent, _, name = ours.rpartition(".")
    theirs = THEIRS + parent[len(OURS) :]
    close = difflib.get_close_matches(name, contents(parent), n=3, cutoff=0.5)
    hint = f"; closest are {', '.join(close)}" if close else ""
    message = f"{theirs} has no {name!r} in this package, minigluon{hint}"
    return ImportError(message, name=f"{theirs}.{name}")


def contents(name):
    """What a package has: its names and its modules."""
    if find_spec(name) is None:
        return []
    package = importlib.import_module(name)
    modules = [m.name for m in pkgutil.iter_modules(getattr(package, "__path__", []))]
    return [n for n in {*dir(package), *modules} if not n.startswith("_")]


# --- Names in other places ------------------------------------------------------------------------


class Lender(MetaPathFinder):
    """Gives the modules of the table their answer for names that are elsewhere."""

    def find_spec(self, fullname, path=None, target=None):
        """What Python's finder finds, if the table has names for the module."""
        if not fullname.startswith(OURS + ".") or fullname[len(OURS) + 1 :] not in lent.TABLE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), self.lend(module))
        return spec

    def lend(self, module):
        """Let a module answer for the names of its row."""
        row, own = lent.TABLE[module.__name__[len(OURS) + 1 :]], vars(module).get("__getattr__")

        def look(name):
            if name in row:
                place, _, attribute = row[name].partition(":")
                found = importlib.import_module(place[1:] if place[0] == "=" else f"{OURS}.{place}")
                return getattr(found, attribute) if attribute else found
            if own is not None:
                return own(name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__, look.before = look, own
        look.listed = vars(module).get("__all__")
        if module.__name__[len(OURS) + 1 :] in lent.STARRED:
            names = [*(look.listed or vars(module)), *row]
            module.__all__ = [name for name in names if name[0] != "_"]

    def begin(self):
        """Lend to the modules that are there already."""
        for name in lent.TABLE:
            if (module := sys.modules.get(f"{OURS}.{name}")) is not None:
                self.lend(module)

    def end(self):
        """Take all answers back."""
        for name in lent.TABLE:
            look = vars(sys.modules.get(f"{OURS}.{name}") or self).get("__getattr__")
            if hasattr(look, "before"):
                module = sys.modules[f"{OURS}.{name}"]
                if module.__name__[len(OURS) + 1 :] in lent.STARRED:
                    module.__all__ = look.listed or [n for n in vars(module) if n[0] != "_"]
                if look.before is None:
                    del module.__getattr__
                else:
                    module.__getattr__ = look.before


def bequeath():
    """Put the folder on this process's path, and where the processes that it starts look."""
    renounce()
    sys.path.insert(1, heirs())
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([heirs(), *([known] if known else [])])
    os.environ["MINIGLUON_ALIAS"] = sys.prefix


def renounce():
    """Take the folder away again."""
    sys.path[:] = [place for place in sys.path if place != heirs()]
    places = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    if left := [place for place in places if place not in ("", heirs())]:
        os.environ["PYTHONPATH"] = os.pathsep.join(left)
    os.environ.pop("MINIGLUON_ALIAS", None)


def heirs():
    """The folder that has `mxnet.py`."""
    return os.path.join(os.path.abspath(sys.modules[OURS].__path__[0]), "heirs")


# --- In place, and away again ---------------------------------------------------------------------

FINDERS = Alias(), Missing(), Lender()
LENT = {"float": float, "int": int, "object": object, "str": str, "complex": complex}  # to NumPy
LENT |= {"float_": np.float64, "unicode_": np.str_, "product": np.prod, "cumproduct": np.cumprod}
LENT |= {"Inf": np.inf, "Infinity": np.inf, "PINF": np.inf, "NINF": -np.inf, "NaN": np.nan}
LENT |= {
    "asscalar": lambda a: np.asarray(a).item(),
    "sometrue": np.any,
    "alltrue": np.all,
    "bool8": np.bool_,
}
LENT |= {"row_stack": np.vstack, "in1d": np.isin, "round_": np.round}
# MXNet's import loads them
BESIDE = "multiprocessing.pool", "concurrent.futures", "urllib.request"


def lend():
    """Give NumPy the names that it has no longer; those it got."""
    gone = [name for name in LENT if name not in vars(np)]
    for name in gone:
        setattr(np, name, LENT[name])
    return gone


def stand_first():
    """Stand before all other finders: pytest's, which comes later,
    would load `test_utils` a second time as `mxnet.test_utils`.
    """
    if sys.meta_path[:2] != [FINDERS[2], FINDERS[0]]:
        others = [finder for finder in sys.meta_path if finder not in (FINDERS[2], FINDERS[0])]
        sys.meta_path[:] = [FINDERS[2], FINDERS[0], *others]


def install():
    """Let `import mxnet` bring this package; ImportError if MXNet itself is imported already."""
    there = sys.modules.get(THEIRS)
    if there is not None and there is not sys.modules[OURS]:
        raise ImportError(
            f"mxnet is imported already, from {there.__file__}: start Python anew and load "
            "minigluon.mxnet first"
        )
    if FINDERS[0] not in sys.meta_path:
        sys.meta_path.append(FINDERS[1])
        stand_first()
        FINDERS[2].begin()
        package = sys.modules[OURS]
        FINDERS[0].before, package.__version__ = package.__version__, libinfo.__version__
        FINDERS[0].lent = lend()
        LENIENT.append(True)
        bequeath()
        for name in BESIDE:
            importlib.import_module(name)


def uninstall():
    """Let `import mxnet` mean what it did before."""
    if FINDERS[0] in sys.meta_path:
        sys.modules[OURS].__version__ = FINDERS[0].before
        for name in FINDERS[0].lent:
            delattr(np, name)
        FINDERS[2].end()
        LENIENT.remove(True)
        renounce()
    for finder in FINDERS:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
    for name in [n for n in sys.modules if n == THEIRS or n.startswith(THEIRS + ".")]:
        del sys.modules[name]
    for moved in lent.MOVED:  # importing one makes it an attribute of its parent
        parent, _, name = f"{OURS}.{moved}".rpartition(".")
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(name, None)


def load_ipython_extension(ipython):
    """`%load_ext minigluon.mxnet`."""
    install()


def unload_ipython_extension(ipython):
    """`%unload_ext minigluon.mxnet`."""
    uninstall()


# --- The command ----------------------------------------------------------------------------------

USAGE = "usage: python -m minigluon.mxnet (program.py | -m module | -c code) [arguments]"


def main(argv):
    """Run a program in which `mxnet` is this package; the exit status."""
    if not argv or argv[0] in ("-h", "--help") or (argv[0] in ("-m", "-c") and len(argv) < 2):
        print(USAGE)
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    install()
    if argv[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *argv[2:]], ""
        exec(compile(argv[1], "<string>", "exec"), fresh_main().__dict__)
    elif argv[0] == "-m":
        sys.argv, sys.path[0] = argv[1:], os.getcwd()
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = argv, os.path.dirname(os.path.abspath(argv[0]))
        run_script(argv[0])
    return 0


def fresh_main():
    """A new module `__main__`, known as such: what a program defines can be pickled."""
    module = type(sys)("__main__")
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    return module


def run_script(path):
    """Run a file as `__main__`; an error in opening it is told in one line."""
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
    except OSError as error:
        sys.exit(f"minigluon.mxnet: cannot open {path!r}: {error.strerror}")
    module = fresh_main()
    module.__file__ = path
    exec(code, module.__dict__)


if __name__ == "__main__" and __package__ == "minigluon":  # a notebook is a __main__ as well
    from minigluon.mxnet import main as run  # the module under its name: one pair of finders

    sys.exit(run(sys.argv[1:]))
