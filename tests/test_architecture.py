"""The rules of the house that a linter does not know."""

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

from vlmtools import registry
from vlmtools.cli import VERBS

PACKAGE = ROOT / "vlmtools"
CODE = sorted(
    path for folder in ("vlmtools", "adapters", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
HEAVY = {"torch", "transformers", "sentence_transformers", "scipy", "bitsandbytes", "accelerate", "sklearn"}
LIMIT, SMELL = 500, 300
BASES = {
    "adapters": ("Connector", "Adapter"),
    "backbones": ("Backbone",),
    "benchmarks": ("Benchmark",),
    "families": ("ModelFamily",),
    "judges": ("Judge",),
    "patches": ("Patch",),
    "pruners": ("TokenPruner",),
}
PLUGINS = [(kind, name) for kind, package in registry.KINDS.items() for name in registry.names(package)]


def _short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_imports_go_one_way() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_of_base_classes_knows_every_kind() -> None:
    assert set(BASES) == set(registry.KINDS)


@pytest.mark.parametrize(("kind", "name"), PLUGINS, ids=[f"{kind}-{name}" for kind, name in PLUGINS])
def test_a_plugin_file_defines_one_plugin_and_says_what_it_is(kind: str, name: str) -> None:
    package = registry.KINDS[kind]
    base = importlib.import_module(f"{package}.base")
    bases = tuple(getattr(base, each) for each in BASES[kind] if hasattr(base, each))
    module = importlib.import_module(f"{package}.{name}")
    public = [
        thing
        for thing in vars(module).values()
        if inspect.isclass(thing)
        and thing.__module__ == module.__name__
        and not thing.__name__.startswith("_")
    ]
    found = [thing for thing in public if issubclass(thing, bases)]
    assert len(found) == 1, f"{module.__name__} defines {[thing.__name__ for thing in found] or 'no plugin'}"
    assert registry.summary(package, name), f"{module.__name__} has no docstring"


METHODS = [(kind, name) for kind, name in PLUGINS if kind in {"judges", "patches", "pruners"}]


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=[f"{kind}-{name}" for kind, name in METHODS])
def test_a_method_is_a_dataclass_that_needs_no_arguments(kind: str, name: str) -> None:
    package = registry.KINDS[kind]
    base = importlib.import_module(f"{package}.base")
    method = registry.load(package, name, getattr(base, BASES[kind][0]))
    assert dataclasses.is_dataclass(method), f"{method.__name__} is no dataclass"
    needed = [
        field.name
        for field in dataclasses.fields(method)
        if field.init and field.default is field.default_factory is dataclasses.MISSING
    ]
    assert not needed, f"{method.__name__}: fields without a default: {needed}"


@pytest.mark.parametrize("path", CODE, ids=_short)
def test_nothing_is_evaluated_or_unpickled(path: Path) -> None:
    called = {
        node.func.id
        for node in _nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec"}
    assert not _imports(path) & {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
    for node in _nodes(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = [word for word in node.keywords if word.arg == "weights_only"]
            assert safe and ast.unparse(safe[0].value) == "True", (
                f"line {node.lineno}: torch.load runs pickled code"
            )


@pytest.mark.parametrize("path", CODE, ids=_short)
def test_imports_are_absolute_and_neither_torchvision_nor_torchcodec(path: Path) -> None:
    relative = [node.lineno for node in _nodes(path) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, f"relative imports in lines {relative}"
    assert not _imports(path) & {"torchvision", "torchcodec"}


@pytest.mark.parametrize("path", CODE, ids=_short)
def test_everything_public_is_described(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(tree) or not tree.body, "the file has no docstring"
    assert not silent, f"without a docstring: {silent}"


def test_files_are_short() -> None:
    counted = {
        _short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")
    }
    long = {name: n_lines for name, n_lines in counted.items() if n_lines > LIMIT}
    smells = {name: n_lines for name, n_lines in counted.items() if SMELL < n_lines <= LIMIT}
    assert not long, f"over {LIMIT} lines: {long}; over {SMELL}, a smell: {smells}"


FORBIDDEN = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "npmjs" + ".org",
    "/wor" + "k/",
    "/roo" + "t/",
    "/hom" + "e/",
)


def test_no_tracked_file_names_a_package_host_or_somebodys_folders() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        text = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
        assert not [word for word in FORBIDDEN if word in text], name


LIGHT = """
import sys
sys.argv = ["vlmtools", *{words!r}]
{doing}
print("HEAVY", *sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)
"""
MAIN = """
from vlmtools.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
LIGHT_WAYS = {
    "import": ("import vlmtools", []),
    "dir": ("import vlmtools; dir(vlmtools); vlmtools.Sample", []),
    "help": (MAIN, ["--help"]),
    "version": (MAIN, ["--version"]),
    "list": (MAIN, ["list"]),
    "doctor": (MAIN, ["doctor", "--json"]),
    **{f"{verb} help": (MAIN, [verb, "--help"]) for verb, _, _ in VERBS},
}


@pytest.mark.parametrize("way", LIGHT_WAYS)
def test_nothing_heavy_is_imported_before_it_is_needed(way: str) -> None:
    doing, words = LIGHT_WAYS[way]
    code = LIGHT.format(doing=doing, words=words, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "HEAVY", done.stderr


def test_the_catalogue_page_is_what_the_docstrings_say() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "write_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
