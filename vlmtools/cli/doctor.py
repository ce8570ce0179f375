"""`vlmtools doctor`: what this machine has, what is broken, and what to do about it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vlmtools.environment.devices import Devices
    from vlmtools.environment.facts import Cache, Survey
    from vlmtools.environment.problems import Problem

Line = tuple[str, str]


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also import torch and list its devices (slow).")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds to wait while trying to import torchvision and torchcodec.")
    ] = 60.0,
) -> None:
    """Say what this machine has, what is broken, why it matters and what to do.

    Ends with exit code 1 when something serious is wrong. Values of API keys are never read or shown.
    """
    from vlmtools.environment.devices import device_problems, look
    from vlmtools.environment.facts import survey
    from vlmtools.environment.problems import problems

    facts = survey(patience_s=patience)
    devices = look() if deep else None
    found = problems(facts) + (device_problems(devices) if devices else [])
    show = _print_json if json else _print_tables
    show(facts, devices, found)
    if any(problem.serious for problem in found):
        raise typer.Exit(1)


def _print_json(facts: "Survey", devices: "Devices | None", found: "list[Problem]") -> None:
    from dataclasses import asdict
    from json import dumps

    told: dict[str, Any] = asdict(facts)
    del told["requirements"]
    told["extras"] = facts.extras
    told["devices"] = asdict(devices) if devices else None
    told["problems"] = [asdict(problem) for problem in found]
    told["advice"] = advice(found)
    typer.echo(dumps(told, indent=2, ensure_ascii=False))


def _print_tables(facts: "Survey", devices: "Devices | None", found: "list[Problem]") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table("Machine", [*_machine_lines(facts), *_device_lines(devices)]))
    console.print(_table("Packages", _package_lines(facts)))
    console.print(_table("Optional extras", _extra_lines(facts)))
    for problem in found:
        colour, word = ("red", "Serious") if problem.serious else ("yellow", "Note")
        console.print(f"[bold {colour}]{word}:[/] {_plain(problem.what)}", soft_wrap=True)
        console.print(f"  Why it matters: {_plain(problem.why)}", soft_wrap=True)
        console.print(f"  What to do: {_plain(problem.do)}", soft_wrap=True)
    console.print(f"\n{_plain(advice(found))}", soft_wrap=True)


def _table(title: str, lines: Iterable[Line]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(_plain(name), _plain(value))
    return table


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _machine_lines(facts: "Survey") -> Iterator[Line]:
    memory = "unknown" if facts.memory_gib is None else f"{facts.memory_gib:.1f} GiB"
    yield "vlmtools", facts.vlmtools or "not installed"
    yield "Python", facts.python
    yield "system", facts.system
    yield "processor", f"{facts.n_cores} cores, {memory} of memory"
    yield "torch is built for", facts.torch_build
    yield "model cache", _cache_text(facts.cache)
    for place, free in facts.free_gib.items():
        yield "free disk", f"{free:.1f} GiB in {place}"
    yield (
        "offline variables",
        ", ".join(f"{name}={value}" for name, value in facts.offline.items()) or "none set",
    )
    yield "API keys set", ", ".join(name for name, there in facts.keys.items() if there) or "none"


def _cache_text(cache: "Cache") -> str:
    if cache.size_gib is None:
        return f"{cache.path} (does not exist yet)"
    return f"{cache.path} ({'' if cache.complete else 'at least '}{cache.size_gib:.1f} GiB)"


def _device_lines(devices: "Devices | None") -> Iterator[Line]:
    for device in devices.found if devices else ():
        memory = "" if device.memory_gib is None else f", {device.memory_gib:.1f} GiB"
        yield "device", f"{device.name}{memory}, {'with' if device.bf16 else 'without'} bfloat16"


def _package_lines(facts: "Survey") -> Iterator[Line]:
    for need in facts.requirements:
        if not need.extra:
            yield need.name, facts.versions.get(need.name) or "MISSING"
    for name, suspect in facts.suspects.items():
        yield name, suspect.version or "absent, which is fine"


def _extra_lines(facts: "Survey") -> Iterator[Line]:
    from vlmtools.environment.problems import EXTRAS

    for extra, packages in facts.extras.items():
        missing = [name for name, have in packages.items() if have is None]
        state = f"missing {', '.join(missing)}: pip install 'vlmtools[{extra}]'" if missing else "installed"
        yield extra, f"{EXTRAS.get(extra, '')} ({state})"


def advice(found: "list[Problem]") -> str:
    """The last line: the one thing to do next."""
    serious = [problem for problem in found if problem.serious]
    if serious:
        return f"First: {serious[0].do}"
    return "Nothing serious. Next: vlmtools demo"
