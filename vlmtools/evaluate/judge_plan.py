"""What a judge would be asked about an evaluation's answers: counted where they are stored, estimated elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean

from vlmtools.benchmarks.base import Benchmark
from vlmtools.crosscheck.assumed import (
    BYTES_OF_INDEX,
    BYTES_PER_ANSWER,
    CHARS_PER_TOKEN,
    CLAIMS_PER_ANSWER,
    TOKENS_PER_ANSWER,
    prompt_tokens,
)
from vlmtools.crosscheck.collect import Draws, wanted
from vlmtools.crosscheck.plan import Step
from vlmtools.evaluate.judging import MAX_NEW_TOKENS, questions_about
from vlmtools.evaluate.merging import stored_keys, written
from vlmtools.types import Decoding, Responder, Sample

STAND_IN = " ".join(
    ["There is one thing in front of another, both in daylight, and a third lies far behind them."] * 5
)
"""Stands for an answer while none is stored: as many sentences, and of them as many tokens, as plans assume."""


@dataclass(frozen=True)
class JudgePlan:
    """What a judge would be asked.

    Args:
        step: The calls.
        assumptions: Every number that is not counted but assumed.
    """

    step: Step
    assumptions: Mapping[str, float]


def plan_judge(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    answers: Mapping[str, str],
    judge: Responder,
    folder: Path,
) -> JudgePlan:
    """Count the calls to a judge; loads no model and sends nothing.

    An answer that is stored is asked about exactly as the run would ask. For the others the count is an estimate: as if
    they were like the stored ones, or five sentences each while none is.

    Args:
        benchmark: Who asks.
        samples: The items.
        answers: Item → stored answer.
        judge: Who is asked.
        folder: Where its replies are kept; it need not exist.
    """
    here = [(sample, answers[sample.id]) for sample in samples if sample.id in answers]
    known = {one.id: one for sample, text in here for one in questions_about(benchmark, sample, text)}
    calls = list(wanted(judge, list(known.values()), Draws(scored=Decoding(max_new_tokens=MAX_NEW_TOKENS))))
    stored = stored_keys(folder)
    missing = [request.sample for key, request in calls if key not in stored]
    silent = [sample for sample in samples if sample.id not in answers]
    guessed = [
        one
        for sample, text in zip(silent, cycle(list(answers.values()) or [STAND_IN]), strict=False)
        for one in benchmark.questions(sample, text)
    ]
    lengths = written(folder)
    per_verdict = fmean(lengths) if lengths else TOKENS_PER_ANSWER
    total, asked = len(calls) + len(guessed), [*missing, *guessed]
    size = total * (BYTES_PER_ANSWER + per_verdict * CHARS_PER_TOKEN + BYTES_OF_INDEX)
    read = sum(map(prompt_tokens, asked))
    step = Step(_title(judge, len(silent)), total, len(asked), read, len(asked) * per_verdict, total, size)
    return JudgePlan(step, {**_assumed(len(silent), bool(answers)), "tokens_per_verdict": per_verdict})


def _title(judge: Responder, n_silent: int) -> str:
    missing = f" (estimated for {n_silent:,} answers not stored yet)" if n_silent else ""
    return f"verdicts of {judge.name}{missing}"


def _assumed(n_silent: int, some_stored: bool) -> dict[str, float]:
    found = {"tokens_per_verdict_at_most": float(MAX_NEW_TOKENS)}
    if n_silent and not some_stored:
        found["sentences_per_judged_answer"] = CLAIMS_PER_ANSWER
    return found
