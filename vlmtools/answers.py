"""Ask one model about many items, and give each finished row at once: what `vlmtools generate` writes."""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vlmtools.crosscheck.collect import CHUNK, answer_key, missing_chunks
from vlmtools.engine.answering import Answering
from vlmtools.engine.base import Engine, Failed
from vlmtools.engine.local import Local
from vlmtools.errors import BadInput
from vlmtools.responders._spools import counts
from vlmtools.responders.items import Items, matching, pictures, read_items
from vlmtools.store import call_key
from vlmtools.store.spool import Spool, texts
from vlmtools.types import Decoding, Json, Reply, Request, Responder, Sample

URLS = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """Everything one model said about one item.

    Args:
        key: What decides the answers; equal for equal questions to equal models.
        model: Who answered.
        sample: The item.
        replies: One per draw.
    """

    key: str = ""
    model: str = ""
    sample: Sample = field(default_factory=lambda: Sample(""))
    replies: tuple[Reply, ...] = ()

    @property
    def error(self) -> str | None:
        """Why there is no row; None when every draw gave an answer."""
        return next((one.error or "no text" for one in self.replies if one.text is None), None)

    def record(self) -> dict[str, Json]:
        """The row, as a file of recorded answers has it: `crosscheck` and others read it."""
        sample, first = self.sample, self.replies[0]
        record: dict[str, Json] = {"id": sample.id, "text": first.text, "model": self.model}
        if len(self.replies) > 1:
            record["samples"] = [one.text for one in self.replies[1:]]
        record["prompt"] = sample.prompt
        record |= dict(sample.media)
        if sample.reference is not None:
            record["reference"] = sample.reference
        record["modality"] = list(first.modality)
        if any(one.truncated for one in self.replies):
            record["truncated"] = True
        if first.n_new_tokens is not None:
            record |= {"n_prompt_tokens": first.n_prompt_tokens, "n_new_tokens": first.n_new_tokens}
        return record


def wanted_samples(images: Sequence[str], items: str | None = None, prompt: str = "") -> Items:
    """The items a line names: pictures, an item file, or a question without a picture.

    Args:
        images: Files, folders, patterns, URLs.
        items: An item file, instead of pictures.
        prompt: The question where an item has none.

    Raises:
        BadInput: Both are given, nothing is asked, or no picture matches.
    """
    if items is not None and images:
        raise BadInput("Give either pictures or --items, not both.")
    if items is not None:
        found = read_items(items)
    else:
        found = pictures(_paths(images), prompt) if images else Items([Sample("1", prompt)])
    return found.change(partial(_with_question, prompt))


def _with_question(prompt: str, sample: Sample) -> Sample:
    if sample.prompt:
        return sample
    if not prompt:
        raise BadInput(f"Nothing is asked about {sample.id!r}. Add --prompt 'Describe the image.'")
    return replace(sample, prompt=prompt)


def _paths(images: Sequence[str]) -> Collection[str]:
    """Every picture once, in order."""
    paths = counts()
    for name in images:
        for path in [name] if name.startswith(URLS) or Path(name).is_file() else matching(name):
            paths.add(path, 1)
    return paths


def row_keys(
    responder: Responder, samples: Iterable[Sample], decoding: Decoding, n_draws: int = 1
) -> Spool[str]:
    """Item → the key of its row, found without asking.

    Args:
        responder: Who will be asked.
        samples: The items; ids are unique.
        decoding: How answers are drawn.
        n_draws: Answers per item, at least 1.

    Raises:
        BadInput: Several greedy answers are asked for, or a medium is missing.
    """
    if n_draws > 1 and decoding.temperature == 0:
        raise BadInput(
            f"{n_draws} answers at temperature 0 would be {n_draws} times the same one. Add a temperature, such as "
            "--temperature 1, or ask for one."
        )
    identity, found = responder.identity(), texts()
    for sample in samples:
        keys = [answer_key(identity, one) for one in _requests(sample, decoding, n_draws)]
        found[sample.id] = call_key("row", {"answers": keys})
    return found


def ask(
    responder: Responder,
    samples: Iterable[Sample],
    decoding: Decoding,
    n_draws: int = 1,
    *,
    keys: Mapping[str, str],
    known: Container[str] = (),
    engine: Engine | None = None,
) -> Iterator[AnswerRow]:
    """Ask for every item that is not known; a row comes as soon as its last draw is there.

    Args:
        responder: Who is asked.
        samples: The items.
        decoding: How answers are drawn.
        n_draws: Answers per item; they differ by their draw.
        keys: From `row_keys`.
        known: Items that have their rows already.
        engine: Where the calls are made; None is in this process.
    """
    maker = engine or Local()
    pairs = ((sample.id, sample) for sample in samples)
    chunks = missing_chunks(pairs, lambda item: item in known, max(1, maker.size(CHUNK) // n_draws))
    blocks = (
        [(keys[item], one) for item, sample in chunk for one in _requests(sample, decoding, n_draws)]
        for chunk in chunks
    )
    waiting: dict[str, dict[int, Reply]] = {}
    for (key, request), found in maker.map(blocks, Answering(responder)):
        item = request.sample.id
        draws = waiting.setdefault(item, {})
        draws[request.draw] = Reply(None, error=found.why) if isinstance(found, Failed) else found
        if len(draws) == n_draws:
            replies = tuple(draws[draw] for draw in sorted(draws))
            yield AnswerRow(key, responder.name, request.sample, replies)
            del waiting[item]


def _requests(sample: Sample, decoding: Decoding, n_draws: int) -> list[Request]:
    return [Request(sample, decoding, draw) for draw in range(n_draws)]
