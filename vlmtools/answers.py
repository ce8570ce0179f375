"""Ask one model about many items, and give each finished row at once: what `vlmtools generate` writes."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmtools.crosscheck.collect import CHUNK, answer_key, missing_chunks
from vlmtools.engine.answering import Answering
from vlmtools.engine.base import Engine, Failed
from vlmtools.engine.local import Local
from vlmtools.errors import BadInput
from vlmtools.responders.items import items_from_images, read_items
from vlmtools.store import call_key
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


def wanted_samples(images: Sequence[str], items: str | None = None, prompt: str = "") -> list[Sample]:
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
        found = [one if one.prompt else replace(one, prompt=prompt) for one in read_items(items)]
    else:
        found = _pictures(images, prompt) if images else [Sample("1", prompt)]
    silent = next((one.id for one in found if not one.prompt), None)
    if silent is not None:
        raise BadInput(f"Nothing is asked about {silent!r}. Add --prompt 'Describe the image.'")
    return found


def _pictures(images: Sequence[str], prompt: str) -> list[Sample]:
    paths: dict[str, None] = {}
    for name in images:
        if name.startswith(URLS) or Path(name).is_file():
            paths[name] = None
        else:
            paths.update((str(one.image), None) for one in items_from_images(name))
    often = Counter(Path(path).stem for path in paths)
    return [
        Sample(Path(path).stem if often[Path(path).stem] == 1 else path, prompt, image=path) for path in paths
    ]


def row_keys(
    responder: Responder, samples: Sequence[Sample], decoding: Decoding, n_draws: int = 1
) -> dict[str, str]:
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
    identity = responder.identity()
    return {
        sample.id: call_key(
            "row", {"answers": [answer_key(identity, one) for one in _requests(sample, decoding, n_draws)]}
        )
        for sample in samples
    }


def ask(
    responder: Responder,
    samples: Sequence[Sample],
    decoding: Decoding,
    n_draws: int = 1,
    *,
    keys: Mapping[str, str],
    known: Container[str] = (),
    engine: Engine | None = None,
) -> Iterator[AnswerRow]:
    """Ask for every item whose key is not known; a row comes as soon as its last draw is there.

    Args:
        responder: Who is asked.
        samples: The items.
        decoding: How answers are drawn.
        n_draws: Answers per item; they differ by their draw.
        keys: From `row_keys`.
        known: Keys of rows there are already.
        engine: Where the calls are made; None is in this process.
    """
    maker = engine or Local()
    pairs = [(keys[sample.id], sample) for sample in samples]
    chunks = missing_chunks(pairs, lambda key: key in known, max(1, maker.size(CHUNK) // n_draws))
    blocks = (
        [(key, one) for key, sample in chunk for one in _requests(sample, decoding, n_draws)]
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
