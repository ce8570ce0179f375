"""Which judge is asked what in each mode: one round of votes per judge in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from vlmtools.crosscheck.asking import Calls, Keyed
from vlmtools.crosscheck.budget import Budget, Metered
from vlmtools.crosscheck.compared import Part
from vlmtools.crosscheck.judges.base import Judge
from vlmtools.crosscheck.panels import Together, together
from vlmtools.crosscheck.sources import find_evidence
from vlmtools.crosscheck.voting import Identified, cross_calls, media_calls, reference_calls
from vlmtools.errors import BadInput
from vlmtools.responders.recorded import Recorded
from vlmtools.types import Json, Responder, Sample

if TYPE_CHECKING:
    from vlmtools.crosscheck.run import CrossCheck


def rounds(
    setting: "CrossCheck",
    judge: Judge,
    sources: Sequence[Responder],
    targets: Sequence[str],
    samples: Sequence[Sample],
    budget: Budget | None,
) -> Iterable[tuple[Judge, Calls, str]]:
    """(judge, what makes its calls, name of the stage): one round, except where every evidence model is a judge.

    Args:
        setting: Mode, evidence and weights.
        judge: Who judges; in the implicit mode each evidence model in turn takes the place of its responder.
        sources: Who is ranked.
        targets: Who makes claims.
        samples: The items.
        budget: What the judge's calls are paid from.

    Raises:
        BadInput: The mode needs references, or models that can look, and there are none.
    """
    paid = _metered(judge, budget)
    known = _Known(paid)
    if setting.mode == "ref":
        if not any(sample.reference for sample in samples):
            raise BadInput(
                "--mode ref needs trusted answers, and no item has a `reference`. Add it to the item file."
            )
        yield paid, lambda part: reference_calls(known, part.subjects, part.samples), f"votes by {judge.name}"
    elif setting.mode == "implicit":
        yield from _implicit(setting, judge, sources, targets, budget)
    else:
        wanted, same = pairs(setting, targets), together(targets, setting.panel, setting.seed)
        yield paid, partial(_cross, known, pairs=wanted, same=same), f"votes by {judge.name}"


@dataclass(frozen=True)
class _Known:
    """A judge's identity, found once and not for every part: some judges read all files of a model for it."""

    judge: Judge

    @cached_property
    def _identity(self) -> Mapping[str, Json]:
        return dict(self.judge.identity())

    def identity(self) -> Mapping[str, Json]:
        return self._identity


def _cross(
    judge: Identified, part: Part, pairs: Sequence[tuple[str, str]], same: Together | None
) -> Iterator[Keyed]:
    return cross_calls(judge, part.subjects, part.samples, pairs, same)


def _seen(judge: Identified, eye: str, part: Part, skip_self: bool, same: Together | None) -> Iterator[Keyed]:
    return media_calls(judge, eye, part.subjects, part.samples, skip_self, same)


def _implicit(
    setting: "CrossCheck",
    judge: Judge,
    sources: Sequence[Responder],
    targets: Sequence[str],
    budget: Budget | None,
) -> Iterable[tuple[Judge, Calls, str]]:
    if judge.looks_at != "media":
        raise BadInput(
            f"--mode implicit asks models about the item itself; {judge.name!r} compares texts. Use --judge vlm."
        )
    chosen = find_evidence(setting.evidence, targets) or tuple(targets)
    eyes = [source for source in sources if source.name in chosen and not isinstance(source, Recorded)]
    if not eyes:
        raise BadInput(
            "--mode implicit needs models that can look: every source is a file of recorded answers. Add a "
            "model or a server, or use --mode explicit."
        )
    for source in eyes:
        looking = _metered(replace(judge, responder=source), budget)  # type: ignore[type-var]
        same = together(targets, setting.panel, setting.seed)
        calls = partial(_seen, _Known(looking), source.name, skip_self=not setting.include_self, same=same)
        yield looking, calls, f"votes by {source.name}"


def judge_record(setting: "CrossCheck", judge: Judge, sources: Sequence[Responder]) -> Json:
    """What decides the verdicts; in the implicit mode, of every evidence model."""
    if setting.mode != "implicit" or judge.looks_at != "media":
        return dict(judge.identity())
    eyes = [source for source in sources if not isinstance(source, Recorded)]
    return {
        source.name: dict(replace(judge, responder=source).identity())  # type: ignore[type-var]
        for source in eyes
        if not setting.evidence or source.name in setting.evidence
    }


def pairs(setting: "CrossCheck", models: Sequence[str]) -> list[tuple[str, str]]:
    """(target, evidence) pairs the settings need votes for.

    Args:
        setting: Mode, evidence and weights.
        models: Every source of the run.

    Raises:
        UnknownName: An evidence model is no source of the run.
    """
    if setting.mode == "self":
        return [(model, model) for model in models]
    chosen = find_evidence(setting.evidence, models) or tuple(models)
    # Latent truth hears an author's samples like everybody's, or claims nobody shares would look the surest.
    everybody = setting.include_self or setting.weighting == "em"
    own = models if everybody else chosen if setting.weighting == "softmax" else ()
    return [(t, e) for t in models for e in dict.fromkeys((*chosen, t)) if t != e or t in own]


def _metered(judge: Judge, budget: Budget | None) -> Judge:
    asked = getattr(judge, "responder", None)
    if budget is None or asked is None:
        return judge
    return replace(judge, responder=Metered(asked, budget))  # type: ignore[type-var]
