"""What an evaluation would ask, before anything is sent: calls, tokens, time and money."""

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from vlmtools.crosscheck.collect import Draws, wanted
from vlmtools.crosscheck.plan import (
    BYTES_OF_INDEX,
    BYTES_PER_ANSWER,
    CHARS_PER_TOKEN,
    TOKENS_PER_ANSWER,
    TOKENS_PER_IMAGE,
    TOKENS_PER_S,
    Plan,
    Step,
)
from vlmtools.evaluate.merging import stored_keys, worker_folders
from vlmtools.store import Store
from vlmtools.types import Request, Responder

if TYPE_CHECKING:
    from vlmtools.evaluate.run import _Question


def make_plan(
    asked: "_Question",
    responder: Responder,
    folder: Path,
    price: tuple[float, float] | None = None,
) -> Plan:
    """Count what a run would ask; loads no model and sends nothing.

    Args:
        asked: The question.
        responder: Who is asked.
        folder: The run folder, whose stored answers are not asked for again; it need not exist.
        price: Price of a million tokens each way.
    """
    calls = list(wanted(responder, asked.samples, Draws(scored=asked.decoding)))
    there = stored_keys(folder)
    missing = [request for key, request in calls if key not in there]
    most = float(asked.decoding.max_new_tokens)
    written = _written(folder)
    per_answer = fmean(written) if written else min(TOKENS_PER_ANSWER, most)
    size = len(calls) * (BYTES_PER_ANSWER + per_answer * CHARS_PER_TOKEN + BYTES_OF_INDEX)
    read = sum(map(_prompt_tokens, missing))
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
    }
    return Plan(
        (step,), price, {**assumed, "tokens_per_image": TOKENS_PER_IMAGE, "chars_per_token": CHARS_PER_TOKEN}
    )


def _written(folder: Path) -> list[float]:
    """New tokens of the answers there are."""
    found: list[float] = []
    for place in [*([folder] if (folder / "run.json").is_file() else []), *worker_folders(folder)]:
        with Store(place, read_only=True) as store:
            counts = (record.get("n_new_tokens") for record in store.read("answers"))
            found += [float(count) for count in counts if count is not None]
    return found


def _prompt_tokens(request: Request) -> float:
    sample = request.sample
    return len(sample.prompt + (sample.text or "")) / CHARS_PER_TOKEN + TOKENS_PER_IMAGE * len(sample.media)
