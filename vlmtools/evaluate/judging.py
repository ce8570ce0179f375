"""A judge's verdicts on answers: asked once, stored, and handed to the benchmark's pure score."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vlmtools.benchmarks.base import Benchmark, Said
from vlmtools.crosscheck.collect import Draws, Progress, collect, silent
from vlmtools.engine.base import Engine
from vlmtools.evaluate.scoring import Judged
from vlmtools.store import Store, call_key
from vlmtools.types import Decoding, Responder, Sample

MAX_NEW_TOKENS = 512
"""Length limit of a verdict, unless another is given."""


def asking(
    benchmark: Benchmark,
    judge: Responder,
    folder: Path,
    max_new_tokens: int = MAX_NEW_TOKENS,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> Judged:
    """A function that asks the judge what `benchmark.questions` wants to know.

    Verdicts are stored under everything that decides them, so an answer is judged once, and the folder serves every
    model and every protocol.

    Args:
        benchmark: Who asks.
        judge: Who is asked, greedily.
        folder: Where replies are kept.
        max_new_tokens: Length limit of a verdict.
        progress: Told after each verdict.
        engine: Where the judge is asked; None is in this process.
    """

    def judged(samples: Mapping[str, Sample], said: Mapping[str, Said]) -> Mapping[str, Said]:
        asked = {id: questions_about(benchmark, samples[id], one.text) for id, one in said.items()}
        draws = Draws(scored=Decoding(max_new_tokens=max_new_tokens))
        every = {question.id: question for questions in asked.values() for question in questions}
        with Store(folder) as store:
            try:
                found, _ = collect(
                    store, judge, list(every.values()), draws, progress=progress, engine=engine
                )
            finally:
                judge.close()
            texts = {id: stored.answers.text for id, stored in found.items()}
        return {
            id: replace(one, verdicts=tuple(texts.get(question.id) for question in asked[id]))
            if asked[id]
            else one
            for id, one in said.items()
        }

    return judged


def questions_about(benchmark: Benchmark, sample: Sample, text: str) -> list[Sample]:
    """What the judge is asked about an answer; the same question has the same id, so it is asked once.

    Args:
        benchmark: Who asks.
        sample: The item.
        text: The answer.
    """
    wanted = benchmark.questions(sample, text)
    return [
        replace(
            one, id=call_key("judged", {"prompt": one.prompt, "media": [list(pair) for pair in one.media]})
        )
        for one in wanted
    ]
