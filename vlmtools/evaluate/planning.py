"""What an evaluation would ask, before anything is sent: calls, tokens, time and money."""

from pathlib import Path
from statistics import fmean

from vlmtools.crosscheck.assumed import (
    BYTES_OF_INDEX,
    BYTES_PER_ANSWER,
    CHARS_PER_TOKEN,
    TOKENS_PER_ANSWER,
    TOKENS_PER_IMAGE,
    TOKENS_PER_S,
    prompt_tokens,
)
from vlmtools.crosscheck.collect import Draws, wanted
from vlmtools.crosscheck.plan import Plan, Step
from vlmtools.evaluate.judge_plan import plan_judge
from vlmtools.evaluate.merging import stored_keys, stored_texts, written
from vlmtools.evaluate.run import Question
from vlmtools.types import Responder

JUDGE = "judge"
"""Holds a judge's replies inside the run folder."""


def make_plan(
    asked: Question,
    responder: Responder,
    folder: Path,
    price: tuple[float, float] | None = None,
    judge: Responder | None = None,
) -> Plan:
    """Count what a run would ask; loads no model and sends nothing.

    Args:
        asked: The question.
        responder: Who is asked.
        folder: The run folder, whose stored answers are not asked for again; it need not exist.
        price: Price of a million tokens each way.
        judge: Who judges the answers; None leaves verdicts out.
    """
    calls = list(wanted(responder, asked.samples, Draws(scored=asked.decoding)))
    there = stored_keys(folder)
    missing = [request.sample for key, request in calls if key not in there]
    most = float(asked.decoding.max_new_tokens)
    lengths = written(folder)
    per_answer = fmean(lengths) if lengths else min(TOKENS_PER_ANSWER, most)
    size = len(calls) * (BYTES_PER_ANSWER + per_answer * CHARS_PER_TOKEN + BYTES_OF_INDEX)
    read = sum(map(prompt_tokens, missing))
    step = Step(
        f"answers of {responder.name}",
        len(calls),
        len(missing),
        read,
        len(missing) * per_answer,
        len(calls),
        size,
    )
    assumed = {
        "tokens_per_answer": per_answer,
        "tokens_per_answer_at_most": most,
        "tokens_per_s": TOKENS_PER_S,
        "tokens_per_image": TOKENS_PER_IMAGE,
        "chars_per_token": CHARS_PER_TOKEN,
    }
    if judge is None:
        return Plan((step,), price, assumed)
    texts = stored_texts(folder, {key: request.sample.id for key, request in calls})
    judged = plan_judge(asked.benchmark, asked.samples, texts, judge, folder / JUDGE)
    return Plan((step, judged.step), price, {**assumed, **judged.assumptions})
