"""Before a run: does the model see the picture or video, and does a batch change its answers?"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmtools.engine.base import Engine, Failed
from vlmtools.errors import ResponderError
from vlmtools.responders.hf import HF
from vlmtools.types import Decoding, Json, Reply, Request, Responder, Sample

MOVED = 1e-4
"""Change of a first token's probability that counts as an answer to something else."""
_NAMES = {"image": "picture", "video": "video"}
SHORT = 32
"""New tokens of a probe: enough to see a difference."""


Look = tuple[Sequence[Sample], Decoding, int]
"""Items, decoding, number of probes."""


@dataclass(frozen=True)
class Probing:
    """Work for an engine: a model is probed where it will be asked.

    Args:
        responder: The model.
    """

    responder: HF
    loads_a_model = True

    @property
    def name(self) -> str:
        """The model's name."""
        return self.responder.name

    def identity(self) -> Mapping[str, Json]:
        """The model's own."""
        return self.responder.identity()

    def travelling(self, call: Look) -> Look:
        """As it is: media of benchmarks have absolute paths."""
        return call

    def do(self, calls: Sequence[Look]) -> Iterator[tuple[int, dict[str, Json] | Failed]]:
        """Probe.

        Args:
            calls: What to look at.
        """
        for index, (samples, decoding, n_probes) in enumerate(calls):
            yield index, probe(self.responder, samples, decoding, n_probes)

    def close(self) -> None:
        """Close the model."""
        self.responder.close()


def probed(
    engine: Engine | None, responder: Responder, samples: Sequence[Sample], decoding: Decoding, n_probes: int
) -> dict[str, Json]:
    """What `probe` finds, where the engine asks.

    Args:
        engine: None is in this process.
        responder: Who is asked.
        samples: The items.
        decoding: Of the run.
        n_probes: How many items.

    Raises:
        ResponderError: The model failed on the very first items.
    """
    if engine is None or not isinstance(responder, HF):
        return probe(responder, samples, decoding, n_probes)
    few = _with("image", samples, n_probes) or _with("video", samples, n_probes) or samples[:1]
    for _, found in engine.map([[(few, decoding, n_probes)]], Probing(responder)):
        if isinstance(found, Failed):
            raise ResponderError(f"{responder.name} cannot be probed: {found.why}")
        return found
    return {}


def probe(
    responder: Responder, samples: Sequence[Sample], decoding: Decoding, n_probes: int
) -> dict[str, Json]:
    """Ask a few items again, with a grey picture, with another item's picture or video, and one by one.

    Videos are not blanked: a grey clip would have to be written first. Items that show several media are left out.

    Args:
        responder: Who is asked; servers and recorded answers are not probed, and the result is empty.
        samples: The items; one per picture, or, where none shows a picture alone, one per video.
        decoding: Of the run; probes are greedy and short.
        n_probes: How many items.

    Returns:
        Counts, `lines` to print and `warnings`; where items have media that cannot be probed, a line that says so.
    """
    if not isinstance(responder, HF):
        return {}
    kind = next((one for one in ("image", "video") if _with(one, samples, 1)), "")
    chosen = _with(kind, samples, n_probes)
    if not chosen:
        return dict(_NOTHING) if any(sample.media for sample in samples) else {}
    asked = [Request(one, replace(decoding, temperature=0.0, max_new_tokens=min(SHORT, decoding.max_new_tokens)),
                     first_token=True) for one in chosen]  # fmt: skip
    together = _answers(responder, asked)
    grey = [_shown(one, image=_grey(one.sample)) for one in asked] if kind == "image" else []
    blank = _answers(responder, grey)
    swapped = [
        _shown(one, **dict(other.sample.media))
        for one, other in zip(asked, asked[1:] + asked[:1], strict=True)
    ]
    wrong = _answers(responder, swapped) if len(asked) > 1 else []
    alone = [_answers(responder, [one])[0] for one in asked]
    found: dict[str, Json] = {
        "n": len(chosen),
        "kind": kind,
        "changed_by_blank_picture": _differing(together, blank) if grey else None,
        "changed_by_swapped_picture": _differing(together, wrong) if wrong else None,
        "text_changed_by_batch": sum(a.text != b.text for a, b in zip(together, alone, strict=True)),
        "first_token_moved_by_batch": max(map(_moved, together, alone), default=0.0),
        "pictures": [_size(one) if kind == "image" else None for one in chosen],
        "tokens_read": [reply.n_prompt_tokens for reply in alone],
        "tokens_read_without_picture": [
            reply.n_prompt_tokens
            for reply in _answers(responder, [replace(one, show_media=False) for one in asked])
        ],
    }
    return found | {"lines": _lines(found), "warnings": _warnings(found)}


_NOTHING: dict[str, Json] = {
    "n": 0,
    "lines": ["Not probed: no item shows one picture or one video and nothing else."],
    "warnings": [],
}


def _with(kind: str, samples: Sequence[Sample], n: int) -> list[Sample]:
    """One item per picture, or per video, that shows nothing else."""
    first: dict[str, Sample] = {}
    for sample in samples:
        if sample.modality == (kind,):
            first.setdefault(getattr(sample, kind), sample)
            if len(first) == n:
                break
    return list(first.values())


def _answers(responder: HF, requests: Sequence[Request]) -> list[Reply]:
    replies = {request.sample.id: reply for request, reply in responder.answer(requests)}
    return [replies[request.sample.id] for request in requests]


def _shown(request: Request, **media: str) -> Request:
    bare = replace(request.sample, image=None, video=None)
    only: dict[str, Any] = dict(media)
    return replace(request, sample=replace(bare, **only))


def _grey(sample: Sample) -> str:
    """A grey picture of the same size, so that only what it shows differs."""
    from PIL import Image

    width, height = _size(sample) or (336, 336)
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (127, 127, 127)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _size(sample: Sample) -> tuple[int, int] | None:
    from vlmtools.errors import BadInput
    from vlmtools.media import load_image

    try:
        picture = load_image(str(sample.image))
    except BadInput:
        return None
    return int(picture.width), int(picture.height)


def _differing(one: Sequence[Reply], other: Sequence[Reply]) -> int:
    return sum(a.text != b.text or _moved(a, b) > MOVED for a, b in zip(one, other, strict=True))


def _moved(one: Reply, other: Reply) -> float:
    a, b = dict(one.first_token or {}), dict(other.first_token or {})
    shared = a.keys() & b.keys()  # only the likeliest tokens are known, and their tails differ
    return max((abs(a[token] - b[token]) for token in shared), default=0.0)


def _lines(found: dict[str, Json]) -> list[str]:
    n, sizes = found["n"], [size for size in found["pictures"] if size]
    pixels = f"pictures {min(sizes)[0]}×{min(sizes)[1]} to {max(sizes)[0]}×{max(sizes)[1]}, " if sizes else ""
    seen = [with_ - without for with_, without in zip(
        found["tokens_read"], found["tokens_read_without_picture"], strict=True
    ) if with_ is not None and without is not None]  # fmt: skip
    what = _NAMES[found["kind"]]
    tokens = f"{min(seen)} to {max(seen)} tokens for a {what}" if seen else "tokens unknown"
    return [
        f"{what.capitalize()} used: {_used(found)}",
        f"Batch: {n - found['text_changed_by_batch']} of {n} texts are equal alone and in a batch; the first token "
        f"moves by at most {found['first_token_moved_by_batch']:.2g}.",
        f"Budget used: {pixels}{tokens}.",
    ]


def _used(found: dict[str, Json]) -> str:
    n, blank, swapped = found["n"], found["changed_by_blank_picture"], found["changed_by_swapped_picture"]
    if blank is None:
        told = (
            f"{swapped} of {n} answers change with another item's"
            if swapped is not None
            else "not tried, one video"
        )
        return f"{told}. Videos are not blanked."
    return f"{blank} of {n} answers change with a grey picture" + (
        f", {swapped} with another item's." if swapped is not None else "."
    )


def _warnings(found: dict[str, Json]) -> list[str]:
    told = []
    what = _NAMES[found["kind"]]
    if found["changed_by_blank_picture"] == 0:
        told.append(
            "No answer changes when the picture is blanked: the model does not see it. Check the processor and the "
            "prompt; the numbers below say nothing about hallucination."
        )
    elif found["changed_by_swapped_picture"] == 0:
        told.append(f"No answer changes with another item's {what}: the model may not look at what it shows.")
    if found["text_changed_by_batch"]:
        told.append(
            f"{found['text_changed_by_batch']} of {found['n']} probe answers differ between a batch and one by one. "
            "Use --batch-size 1 for numbers that do not depend on the batch."
        )
    return told
