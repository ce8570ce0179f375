"""What is built holds everything and nothing else; a wheel, an sdist and a checkout show the same plugins.

Everything is built from a copy of the checkout with some probe files in the content folders, without a network.
"""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from places import ROOT

PROBES = ("adapters/probe_a.py", "benchmarks/probe_b.py", "benchmarks/speed/probe_c.py")
IGNORED = shutil.ignore_patterns(
    ".venv", ".git", "__pycache__", ".*_cache", ".hypothesis", "build", "dist", "runs", "*.egg-info"
)


def _run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    shutil.copytree(ROOT, copy, ignore=IGNORED)
    for probe in PROBES:
        (copy / probe).parent.mkdir(parents=True, exist_ok=True)
        (copy / probe).write_text('"""A probe."""\n', encoding="utf-8")
    stale = copy / "benchmarks" / "__pycache__" / "probe_b.cpython-311.pyc"
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"stale")
    return copy


def _build(checkout: Path, out: Path, *options: str) -> Path:
    _run(sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", out, ".", cwd=checkout)
    return out


@pytest.fixture(scope="module")
def from_sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    return _build(checkout, tmp_path_factory.mktemp("from_sdist"))


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that was built from the checkout itself."""
    return next(_build(checkout, tmp_path_factory.mktemp("direct"), "--wheel").glob("*.whl"))


def _listed(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def test_a_wheel_has_one_top_level_name_beside_its_metadata(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in _listed(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vlmtools"}
    assert len(tops) == 2


def test_a_wheel_holds_every_file_of_the_package_and_of_the_content_folders(
    checkout: Path, wheel: Path
) -> None:
    files = [path for path in (checkout / "vlmtools").rglob("*") if path.is_file()]
    wanted = {path.relative_to(checkout).as_posix() for path in files}
    for folder in ("adapters", "benchmarks"):
        files = [path for path in (checkout / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
        wanted |= {f"vlmtools/{path.relative_to(checkout).as_posix()}" for path in files}
    assert {name for name in _listed(wheel) if name.startswith("vlmtools/")} == wanted
    assert "vlmtools/py.typed" in wanted
    assert "vlmtools/reference/captions/careful.jsonl" in wanted
    assert {f"vlmtools/{probe}" for probe in PROBES} <= wanted


def test_a_wheel_carries_licence_notices_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        assert b"Apache License" in archive.read(f"{info}/licenses/LICENSE")
        assert b"BSD 2-Clause" in archive.read(f"{info}/licenses/NOTICE")
        assert b"vlmtools = vlmtools.cli:main" in archive.read(f"{info}/entry_points.txt")


def test_the_wheel_from_the_sdist_lists_the_same_files(from_sdist: Path, wheel: Path) -> None:
    assert _listed(next(from_sdist.glob("*.whl"))) == _listed(wheel)


def test_the_sdist_has_what_it_takes_to_test_and_nothing_private(from_sdist: Path) -> None:
    with tarfile.open(next(from_sdist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "README.md",
        "LICENSE",
        "NOTICE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "constraints.txt",
    } <= names
    assert {
        "tests/places.py",
        "tests/test_packaging.py",
        "scripts/write_docs.py",
        "adapters/README.md",
    } <= names
    assert not [name for name in names if name.startswith((".venv", "runs", "dist")) or name.endswith(".pyc")]


LOOK = """
import sys, site
{find}
import vlmtools, vlmtools.benchmarks
from vlmtools.registry import names
print(vlmtools.__file__)
print(*names("vlmtools.adapters"), *names("vlmtools.benchmarks"))
from vlmtools.benchmarks import probe_b
print(probe_b.__file__)
"""


def _look(find: str, cwd: Path) -> list[str]:
    # -I -S: neither this checkout nor any installed package is on the path, only what `find` puts there.
    return _run(sys.executable, "-I", "-S", "-c", LOOK.format(find=find), cwd=cwd).splitlines()


def test_an_installed_wheel_finds_the_content_inside_itself(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    package, names, probe = _look(f"sys.path.insert(0, {str(tmp_path)!r})", tmp_path)
    assert Path(package) == tmp_path / "vlmtools" / "__init__.py"
    assert {"probe_a", "probe_b"} <= set(names.split())
    assert Path(probe) == tmp_path / "vlmtools" / "benchmarks" / "probe_b.py"


def test_an_editable_install_finds_the_content_beside_the_package(checkout: Path, tmp_path: Path) -> None:
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", tmp_path / "site")
    _run(sys.executable, "-m", "pip", "install", *options, "--editable", ".", cwd=checkout)
    assert not (tmp_path / "site" / "vlmtools").exists(), "an editable install must not leave a copy"
    package, names, probe = _look(f"site.addsitedir({str(tmp_path / 'site')!r})", tmp_path)
    assert Path(package) == checkout / "vlmtools" / "__init__.py"
    assert {"probe_a", "probe_b"} <= set(names.split())
    assert Path(probe) == checkout / "benchmarks" / "probe_b.py"


@pytest.mark.parametrize("folder", ["adapters", "benchmarks"])
def test_a_content_folder_is_no_package_and_shares_no_file_name_with_its_door(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py")), "it would become a global package"
    inside = {path.name for path in (ROOT / "vlmtools" / folder).glob("*.py")}
    assert not inside & {path.name for path in (ROOT / folder).glob("*.py")}


def test_the_version_is_written_once_and_is_the_installed_one(wheel: Path) -> None:
    import vlmtools

    assert wheel.name.split("-")[1] == vlmtools.__version__
