"""Collect the facts about this machine; `problems.py` judges them and `vlmtools doctor` prints both."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlmtools.environment.packages import (
    SUSPECTS,
    Requirement,
    Suspect,
    examine,
    installed,
    requirements,
    torch_build,
)

GIB = 1024**3
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
KEYS = ("HF_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY")


@dataclass(frozen=True, slots=True)
class Cache:
    """Where Hugging Face files are kept.

    Args:
        path: The folder.
        size_gib: What it holds, in GiB; None when it does not exist.
        complete: False when counting was stopped early and `size_gib` is a lower bound.
    """

    path: str = ""
    size_gib: float | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Survey:
    """The facts about this machine.

    Args:
        vlmtools: Its installed version; None when it runs without having been installed.
        python: Version and path of the interpreter.
        system: Operating system and machine type.
        n_cores: Processor cores this process may use.
        memory_gib: Memory in GiB, the container's limit if it has one; None when unknown.
        requirements: The dependencies of vlmtools.
        versions: Package → installed version, None when it is missing.
        torch_build: For which hardware torch was built, as its version tells.
        has_nvidia: An NVIDIA driver is installed.
        suspects: The state of `SUSPECTS`.
        cache: The Hugging Face cache.
        free_gib: Folder → free space in GiB.
        writable: The current folder can be written to.
        offline: Offline variables that are set → their values.
        keys: Name of an API key → whether it is set. Values are never read further.
    """

    vlmtools: str | None = None
    python: str = ""
    system: str = ""
    n_cores: int = 1
    memory_gib: float | None = None
    requirements: tuple[Requirement, ...] = ()
    versions: Mapping[str, str | None] = field(default_factory=dict)
    torch_build: str = ""
    has_nvidia: bool = False
    suspects: Mapping[str, Suspect] = field(default_factory=dict)
    cache: Cache = Cache()
    free_gib: Mapping[str, float] = field(default_factory=dict)
    writable: bool = True
    offline: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, bool] = field(default_factory=dict)

    @property
    def extras(self) -> dict[str, dict[str, str | None]]:
        """Optional extra → its packages with their installed versions."""
        found: dict[str, dict[str, str | None]] = {}
        for need in self.requirements:
            if need.extra:
                found.setdefault(need.extra, {})[need.name] = self.versions.get(need.name)
        return found


def survey(environ: Mapping[str, str] | None = None, patience_s: float = 60.0) -> Survey:
    """Collect the facts; imports nothing, except a suspect that is installed, and that in a process of its own.

    Args:
        environ: Environment variables; those of this process by default.
        patience_s: Seconds an installed suspect may take to be imported, above 0.
    """
    env = os.environ if environ is None else environ
    needs = requirements("vlmtools")
    versions = {need.name: installed(need.name) for need in needs}
    cache = cache_folder(env)
    return Survey(
        vlmtools=installed("vlmtools"),
        python=f"{platform.python_version()} at {sys.executable}",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        n_cores=_cores(),
        memory_gib=_memory_gib(),
        requirements=needs,
        versions=versions,
        torch_build=torch_build(installed("torch")),
        has_nvidia=shutil.which("nvidia-smi") is not None,
        suspects={name: examine(name, patience_s) for name in SUSPECTS},
        cache=measure(cache),
        free_gib={str(place): _free_gib(place) for place in (cache, Path.cwd())},
        writable=os.access(Path.cwd(), os.W_OK),
        offline={name: env[name] for name in OFFLINE if env.get(name)},
        keys={name: bool(env.get(name)) for name in KEYS},
    )


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps models: its documented variables, in its order."""
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"]).expanduser()
    base = Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(environ.get("HF_HOME") or base / "huggingface").expanduser() / "hub"


def measure(folder: Path, max_files: int = 20_000) -> Cache:
    """Size of a folder; links, with which the cache avoids copies, count once.

    Args:
        folder: Where to look; need not exist.
        max_files: Stop after so many files, at least 1.
    """
    if not folder.is_dir():
        return Cache(str(folder))
    total = count = 0
    for path, _, names in os.walk(folder):
        total += sum(_size(Path(path) / name) for name in names)
        count += len(names)
        if count > max_files:
            return Cache(str(folder), total / GIB, complete=False)
    return Cache(str(folder), total / GIB)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # removed while we look
        return 0


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(physical, int(text) if text.isdigit() else physical) / GIB


def _free_gib(place: Path) -> float:
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free / GIB
