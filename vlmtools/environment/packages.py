"""Which packages are installed, whether they are recent enough, and whether the fragile ones can be imported."""

import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

SUSPECTS = ("torchvision", "torchcodec")
"""Packages that must be built for the very torch beside them; vlmtools needs neither."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a package's dependencies.

    Args:
        name: The package.
        minimum: The least version that will do; empty for any.
        exact: The only version that will do; empty when a range will.
        extra: The optional extra it belongs to; empty for what is always needed.
    """

    name: str = ""
    minimum: str = ""
    exact: str = ""
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A package that breaks others when it was built for another torch.

    Args:
        version: The installed version; None when it is not installed.
        wants: The torch version it was built for, when its metadata says so.
        error: Last line of what importing it said; empty when it worked.
        timed_out: True when the import did not end in time, so that nothing is known.
    """

    version: str | None = None
    wants: str = ""
    error: str = ""
    timed_out: bool = False


def installed(name: str) -> str | None:
    """Version of an installed package as its metadata has it; None when it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def requirements(package: str) -> tuple[Requirement, ...]:
    """What an installed package depends on, extras included; empty when it is not installed or says nothing."""
    try:
        return tuple(parse_requirement(line) for line in requires(package) or ())
    except PackageNotFoundError:
        return ()


def parse_requirement(line: str) -> Requirement:
    """Read a dependency as package metadata writes it, for example `peft>=0.17; extra == "peft"`."""
    spec, _, marker = line.partition(";")
    name = re.match(r"[\w.-]+", spec.strip())
    return Requirement(
        name=name.group() if name else "",
        minimum=_group(r">=\s*([\w.]+)", spec),
        exact=_group(r"==\s*([\w.+]+)", spec),
        extra=_group(r"extra\s*==\s*['\"]([\w-]+)", marker),
    )


def _group(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def older(have: str, minimum: str) -> bool:
    """Whether version `have` is older than `minimum`, by the leading numbers of both."""
    return bool(minimum) and _numbers(have) < _numbers(minimum)


def _numbers(text: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(\.\d+)*", text)
    parts = [int(part) for part in leading.group().split(".")] if leading else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def torch_build(torch: str | None) -> str:
    """For which hardware torch was built, from its version: `2.13.0+cpu`, `2.13.0+cu128`, `2.13.0+rocm6.4`."""
    if torch is None:
        return "not installed"
    _, _, local = torch.partition("+")
    if local.startswith("cu"):
        return f"CUDA {local[2:-1]}.{local[-1]}"
    named = {"": "not named in its version (on Linux usually CUDA)", "cpu": "CPU"}
    return named.get(local, local)


def examine(name: str, patience_s: float = 60.0) -> Suspect:
    """Whether an installed suspect can be imported, tried in a process of its own.

    Args:
        name: The package.
        patience_s: Seconds to wait for the import, above 0.
    """
    if importlib.util.find_spec(name) is None:
        return Suspect()
    wants = next((need.exact for need in requirements(name) if need.name == "torch"), "")
    found = Suspect(version=installed(name) or "unknown", wants=wants)
    command = [sys.executable, "-c", f"import {name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience_s, check=False)
    except subprocess.TimeoutExpired:
        return Suspect(found.version, wants, timed_out=True)
    return Suspect(found.version, wants, error=_last_line(done.stderr) if done.returncode else "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a message"
