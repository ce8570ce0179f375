"""What plans assume as long as nothing is stored that could be measured."""

from collections.abc import Sequence

from vlmtools.responders.recorded import Recorded
from vlmtools.store import Store
from vlmtools.types import Responder, Sample

CHARS_PER_TOKEN = 4.0
"""Of English text, for estimates only."""
TOKENS_PER_IMAGE = 576
"""Of LLaVA-1.5, for estimates only: other models use some 64 to 3,000."""
CLAIMS_PER_ANSWER = 5.0
"""Sentences per answer, used until answers are stored."""
TOKENS_PER_ANSWER = 120.0
"""New tokens per answer, used until answers are stored."""
TOKENS_PER_VERDICT = 5.0
"""A yes or no."""
TOKENS_PER_S = 40.0
"""Written by one model at a time, for estimates only; servers on a GPU write some thousands for many at once."""
BYTES_PER_ANSWER = 180.0
"""Of a stored answer beside its text."""
BYTES_PER_VOTE = 170.0
"""Of a stored vote beside the claims it repeats."""
BYTES_OF_INDEX = 110.0
"""Of the index, per record; the index can be thrown away."""


def answer_length(store: Store | None, sources: Sequence[Responder]) -> tuple[float, float]:
    """New tokens and characters of an answer: measured on what is there, else assumed.

    Args:
        store: The run folder, if there is one.
        sources: Recorded ones among them are measured too.
    """
    n_texts = n_chars = n_counted = n_tokens = 0
    for source in sources:
        if isinstance(source, Recorded):
            for answers in source.answers.values():
                n_texts, n_chars = n_texts + 1, n_chars + len(answers.text)
    for record in store.read("answers") if store is not None else ():
        n_texts, n_chars = n_texts + 1, n_chars + len(record["text"])
        if record.get("n_new_tokens") is not None:
            n_counted, n_tokens = n_counted + 1, n_tokens + record["n_new_tokens"]
    if not n_texts:
        return TOKENS_PER_ANSWER, TOKENS_PER_ANSWER * CHARS_PER_TOKEN
    chars = n_chars / n_texts
    return (n_tokens / n_counted if n_counted else chars / CHARS_PER_TOKEN), chars


def prompt_tokens(sample: Sample) -> float:
    """Tokens of a question with its text and media, by the usual length of a token.

    Args:
        sample: The question.
    """
    return len(sample.prompt + (sample.text or "")) / CHARS_PER_TOKEN + TOKENS_PER_IMAGE * len(sample.media)
